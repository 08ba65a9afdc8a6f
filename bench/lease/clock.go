package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock returns the monotonic clock of the machine, which is one for all of its processes: what it has counted since some time.
func clock() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err) // every system that this builds for has it
	}
	return time.Duration(now.Nano())
}
