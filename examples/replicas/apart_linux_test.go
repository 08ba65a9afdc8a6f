package main

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// Also where the orphans of the program go to a process of the same session, as in a container whose first process is a shell: the system
// sends no SIGHUP then.
func TestFrozenReplicaEndsWithTheProgramInAContainer(t *testing.T) {
	setChildSubreaper := func(on uintptr) {
		const option = 36 // of prctl
		_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, option, on, 0)
		require.Zero(t, errno)
	}
	setChildSubreaper(1)
	defer setChildSubreaper(0)
	killProgramWithFrozenReplica(t, start(t, &syscall.SysProcAttr{Setpgid: true}))
	for err := error(nil); err == nil; { // until none is left; no other test runs now, and has a process
		_, err = syscall.Wait4(-1, nil, 0, nil)
	}
}
