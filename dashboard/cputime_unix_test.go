//go:build unix

package dashboard

import (
	"syscall"
	"time"
)

// processTime returns how long the processors have worked for this process: what others do beside it does not count.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
