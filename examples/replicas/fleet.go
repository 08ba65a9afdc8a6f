package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
)

// A fleet is the processes of the replicas.
type fleet struct {
	board    *board
	engine   choice
	resource string

	mu        sync.Mutex             // guards processes
	processes [replicas + 1]*process // by number; nil: it has ended
}

// A process is one of a replica.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{} // closed when it has ended, and all that it has said is on the board

	// The mu of the fleet guards what follows.

	state  string // running, frozen or stopping
	killed bool
}

// The states of a process, besides dead.
const (
	running  = "running"
	frozen   = "frozen"
	stopping = "stopping"
	dead     = "dead"
)

// do does to a replica what a command says. It doesn't wait for what follows.
func (f *fleet) do(c command) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.processes[c.replica]
	state := dead
	if p != nil {
		state = p.state
	}
	possible := map[string][]string{ // in which states
		"start": {dead}, "stop": {running}, "kill": {running, frozen, stopping}, "freeze": {running}, "resume": {frozen},
	}
	if !slices.Contains(possible[c.verb], state) {
		return fmt.Errorf("replica %d is %s: it can't %s", c.replica, state, c.verb)
	}
	return f.doLocked(c, p)
}

func (f *fleet) doLocked(c command, p *process) error {
	switch c.verb {
	case "start":
		return f.startLocked(c.replica)
	case "stop":
		p.state = stopping
		f.board.process(c.replica, stopping, "is asked to stop")
		return p.stdin.Close()
	case "kill":
		p.killed = true
		return p.cmd.Process.Kill()
	case "freeze":
		if err := freeze(p.cmd.Process); err != nil {
			return err
		}
		p.state = frozen
		f.board.process(c.replica, frozen, "was frozen")
	case "resume":
		p.state = running
		f.board.process(c.replica, running, "goes on") // before it does, and before what comes of that
		return resume(p.cmd.Process)
	}
	return nil
}

func (f *fleet) startLocked(n int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.Background(), self)
	cmd.Env = append(os.Environ(), assignment{n, f.engine, f.resource}.environment())
	cmd.SysProcAttr = apart
	stdin, err := cmd.StdinPipe() // closed when this process ends, however it does: then the replica ends
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, stdin: stdin, state: running, ended: make(chan struct{})}
	f.processes[n] = p
	f.board.process(n, running, fmt.Sprintf("has started, process %d", cmd.Process.Pid))
	var reading sync.WaitGroup
	reading.Go(func() { f.board.read(n, stdout) })
	reading.Go(func() {
		for s := bufio.NewScanner(stderr); s.Scan(); {
			f.board.say("replica %d says: %s", n, s.Text())
		}
	})
	go func() {
		defer close(p.ended)
		reading.Wait() // before Wait closes the pipes
		fate := "has stopped"
		if err := cmd.Wait(); err != nil {
			fate = fmt.Sprintf("has failed: %v", err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if p.killed {
			fate = "was killed"
		}
		f.processes[n] = nil
		f.board.process(n, dead, fate)
	}()
	return nil
}

// quit stops all replicas, and returns when they have ended.
func (f *fleet) quit() {
	f.mu.Lock()
	all := f.processes
	for n, p := range all {
		if p == nil {
			continue
		}
		if p.state == frozen {
			_ = f.doLocked(command{"resume", n}, p)
		}
		if p.state == running {
			_ = f.doLocked(command{"stop", n}, p)
		}
	}
	f.mu.Unlock()
	patience, cancel := context.WithTimeout(context.Background(), 4*stopTimeout)
	defer cancel()
	for n, p := range all {
		if p == nil {
			continue
		}
		select {
		case <-p.ended:
		case <-patience.Done():
			_ = f.do(command{"kill", n}) // unless it has ended just now
			<-p.ended
		}
	}
}
