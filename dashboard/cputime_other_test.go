//go:build !unix

package dashboard

import "time"

var processStart = time.Now()

// processTime returns how long the process has been there.
func processTime() time.Duration { return time.Since(processStart) }
