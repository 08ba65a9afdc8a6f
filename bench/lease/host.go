package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// A hosted is a testing.TB for the packages that start servers for tests, in a program that is no test. What it does not define, they don't
// use.
type hosted struct {
	testing.TB // nil

	ctx context.Context

	mu       sync.Mutex
	cleanups []func()
	problems []string
}

// host calls f with a testing.TB, and ends what was started with that. A server that can't be had, or started, is an error.
func host(ctx context.Context, f func(t testing.TB) error) error {
	ctx, cancel := context.WithCancel(ctx)
	h := &hosted{ctx: ctx}
	err := h.call(func() error { return f(h) })
	cancel()
	for len(h.cleanups) > 0 {
		last := h.cleanups[len(h.cleanups)-1]
		h.cleanups = h.cleanups[:len(h.cleanups)-1]
		err = errors.Join(err, h.call(func() error {
			last()
			return nil
		}))
	}
	if len(h.problems) > 0 {
		err = errors.Join(err, errors.New(strings.Join(h.problems, "\n")))
	}
	return err
}

// call calls f on a goroutine that FailNow may end.
func (h *hosted) call(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = f()
	}()
	<-done
	return err
}

func (h *hosted) Helper()                  {}
func (h *hosted) Name() string             { return "lease" }
func (h *hosted) Context() context.Context { return h.ctx }
func (h *hosted) Cleanup(f func())         { h.cleanups = append(h.cleanups, f) }

func (h *hosted) TempDir() string {
	dir, err := os.MkdirTemp("", "lease")
	if err != nil {
		h.Errorf("%v", err)
		h.FailNow()
	}
	h.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (h *hosted) Errorf(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.problems = append(h.problems, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (h *hosted) FailNow() { runtime.Goexit() }

func (h *hosted) Skip(args ...any) {
	h.Errorf("%s", fmt.Sprint(args...))
	h.FailNow()
}
