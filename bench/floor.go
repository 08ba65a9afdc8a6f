package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
)

// A floor is the least that a careful person writes by hand: a map, a context and a goroutine for
// each task, and a loop around a recover that lets others run before each restart.
type floor struct {
	all sync.WaitGroup

	mu       sync.RWMutex
	tasks    map[string]context.CancelFunc
	statuses map[string]string // nil until there is one
}

func newFloor() group { return &floor{tasks: make(map[string]context.CancelFunc)} }

func (f *floor) start(name string, body body) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.tasks[name]; ok {
		return fmt.Errorf("%q is running", name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.tasks[name] = cancel
	f.all.Go(func() {
		for once(ctx, body) != nil && ctx.Err() == nil {
			runtime.Gosched()
		}
		cancel()
		f.mu.Lock()
		delete(f.tasks, name)
		delete(f.statuses, name)
		f.mu.Unlock()
	})
	return nil
}

func once(ctx context.Context, body body) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return body(ctx)
}

func (f *floor) begin() {}

func (f *floor) stopAll() error {
	f.mu.RLock()
	for _, cancel := range f.tasks {
		cancel()
	}
	f.mu.RUnlock()
	f.all.Wait()
	return nil
}

func (f *floor) startOne(name string, body body) (stop func() error, err error) {
	stop = func() error {
		f.mu.RLock()
		cancel, ok := f.tasks[name]
		f.mu.RUnlock()
		if !ok {
			return fmt.Errorf("%q is not running", name)
		}
		cancel()
		return nil
	}
	return stop, f.start(name, body)
}

func (f *floor) isRunning(name string) bool {
	f.mu.RLock()
	_, ok := f.tasks[name]
	f.mu.RUnlock()
	return ok
}
