package main

import "syscall"

// apart has a replica be in a process group of its own: so Ctrl-C reaches this process alone, which stops the replica. If this process
// dies while the replica is frozen, the system lets that go on, to find that its stdin is closed.
var apart = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGCONT}
