//go:build unix && !linux

package main

import "syscall"

// apart has a replica be in a process group of its own: so Ctrl-C reaches this process alone, which stops the replica. If this process
// dies while the replica is frozen, the system sends SIGHUP and SIGCONT to the group, which nobody else may let go on.
var apart = &syscall.SysProcAttr{Setpgid: true}
