//go:build unix

package leasetest

import (
	"syscall"

	"github.com/stretchr/testify/require"
)

// freeze stops the process as it is, by SIGSTOP.
func (p *process) freeze() {
	p.fleet.t.Helper()
	require.NoError(p.fleet.t, p.cmd.Process.Signal(syscall.SIGSTOP))
}

// thaw has a frozen process go on, by SIGCONT.
func (p *process) thaw() {
	p.fleet.t.Helper()
	require.NoError(p.fleet.t, p.cmd.Process.Signal(syscall.SIGCONT))
}
