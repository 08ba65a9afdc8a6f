//go:build !unix

package main

import (
	"errors"
	"os"
	"syscall"
)

var apart *syscall.SysProcAttr

var errNoFreeze = errors.New("a process can't be frozen on this system: it has no SIGSTOP")

func freeze(*os.Process) error { return errNoFreeze }

func resume(*os.Process) error { return errNoFreeze }
