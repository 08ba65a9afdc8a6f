package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// patience is how long may take what is to happen by itself, beside a TTL.
const patience = 60 * time.Second

// A group is child processes that have got the same order.
type group struct {
	processes []*process

	mu     sync.Mutex
	events []processEvent // all so far
	news   chan struct{}  // closed, and replaced, when there is another one
	wg     sync.WaitGroup
}

type processEvent struct {
	event
	from int // which process
}

type process struct {
	command *exec.Cmd
	input   io.Closer
	errors  bytes.Buffer
	ending  bool          // it was told to; guarded by the group's mu
	exited  chan struct{} // closed when it has ended
}

// exitedEvent is that of a process which has ended; the process did not say it.
const exitedEvent happening = "exited"

// startGroup starts n processes, and returns when each says that it has started.
func startGroup(ctx context.Context, o order, n int) (*group, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	g := &group{news: make(chan struct{})}
	for i := range n {
		if err := g.start(program, string(text), i); err != nil {
			g.end()
			return nil, err
		}
	}
	for i := range n {
		if _, err := g.await(ctx, o.TTL, func(e processEvent) bool { return e.from == i && e.What == started }); err != nil {
			g.end()
			return nil, err
		}
	}
	return g, nil
}

func (g *group) start(program, order string, i int) error {
	p := &process{command: exec.CommandContext(context.Background(), program), exited: make(chan struct{})}
	p.command.Env = append(os.Environ(), orderVariable+"="+order)
	p.command.Stderr = &p.errors
	input, err := p.command.StdinPipe()
	if err != nil {
		return err
	}
	output, err := p.command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.command.Start(); err != nil {
		return err
	}
	p.input = input
	g.processes = append(g.processes, p)
	g.wg.Go(func() {
		lines := bufio.NewScanner(output)
		for lines.Scan() {
			var e event
			if err := json.Unmarshal(lines.Bytes(), &e); err == nil {
				g.add(processEvent{e, i})
			}
		}
		_ = p.command.Wait() // that it has ended is enough
		close(p.exited)
		g.add(processEvent{event{exitedEvent, clock()}, i})
	})
	return nil
}

func (g *group) add(e processEvent) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, e)
	close(g.news)
	g.news = make(chan struct{})
}

// await returns the first event that matches, once it has happened. It returns an error if that takes longer than patience and two TTLs, or
// if a process ends that was not told to.
func (g *group) await(ctx context.Context, ttl time.Duration, matches func(e processEvent) bool) (processEvent, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*ttl+patience, errTooLong)
	defer cancel()
	for seen := 0; ; {
		g.mu.Lock()
		events, news := g.events[seen:], g.news
		seen = len(g.events)
		g.mu.Unlock()
		for _, e := range events {
			if matches(e) {
				return e, nil
			}
			if e.What == exitedEvent && !g.toldToEnd(e.from) {
				p := g.processes[e.from]
				return e, fmt.Errorf("process %d ended: %v\n%s", e.from, p.command.ProcessState, p.errors.Bytes())
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return processEvent{}, context.Cause(ctx)
		}
	}
}

// awaitBodies returns when n bodies have begun.
func (g *group) awaitBodies(ctx context.Context, ttl time.Duration, n int) error {
	bodies := 0
	_, err := g.await(ctx, ttl, func(e processEvent) bool {
		if e.What == began {
			bodies++
		}
		return bodies == n
	})
	return err
}

func (g *group) toldToEnd(i int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.processes[i].ending
}

// signal sends a signal that ends the process, sooner or later.
func (g *group) signal(i int, signal syscall.Signal) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.processes[i].ending = true
	return g.processes[i].command.Process.Signal(signal)
}

// end kills the processes, and returns when they are gone.
func (g *group) end() {
	for i, p := range g.processes {
		_ = g.signal(i, syscall.SIGKILL) // unless it has ended
		_ = p.input.Close()
		<-p.exited
	}
	g.wg.Wait()
}
