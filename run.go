package taskmanager

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A run is one execution of a task's body, and the context that the body is given. The context ends
// when somebody asks for the end of the run, and at the latest when the body has returned: nothing
// that was started with it lives on into the next run.
//
// It is a context type of its own because a run of context.WithCancelCause takes twice the memory.
// What that costs: a context that hides it (one made by context.WithValue, say) starts a goroutine
// for a cancellable child, as package context does under any foreign context.
type run struct {
	task    *Task
	started time.Time // never changes

	mu         sync.Mutex
	byParent   bool        // it was the parent's end that ended it; set with cause
	ended      atomic.Bool // set after cause, so that Err is cheap until then
	done       chan struct{}
	cause      error // non-nil once the context has ended
	afterFuncs map[*afterFunc]struct{}
}

// An outcome is how a run has ended by itself.
type outcome struct {
	known    bool
	panicked bool
	err      error
}

type afterFunc struct{ f func() }

// runKey is the key under which a run's context finds the run.
type runKey struct{}

// execute calls the body and notes how it ended. It doesn't return if the body calls
// runtime.Goexit; the outcome is known then, too.
func (r *run) execute(o *outcome) {
	normal := false
	defer func() {
		o.known = true
		if normal {
			return
		}
		if v := recover(); v != nil {
			o.err, o.panicked = newPanicError(v), true
		} else {
			o.err = ErrGoexit
		}
	}()
	o.err = r.task.body(r)
	normal = true
}

// end ends the context, unless it has ended before.
func (r *run) end(cause error, byParent bool) {
	r.mu.Lock()
	if r.cause != nil {
		r.mu.Unlock()
		return
	}
	r.cause, r.byParent = cause, byParent
	r.ended.Store(true) // before done is closed: who has seen that asks Err and must not get nil
	if r.done != nil {
		close(r.done)
	}
	afterFuncs := r.afterFuncs
	r.afterFuncs = nil
	r.mu.Unlock()
	for a := range afterFuncs {
		a.f()
	}
}

// Deadline implements context.Context.
func (r *run) Deadline() (time.Time, bool) { return r.task.ctx.Deadline() }

// Done implements context.Context.
func (r *run) Done() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		r.done = make(chan struct{})
		if r.cause != nil {
			close(r.done)
		}
	}
	return r.done
}

// Err implements context.Context.
func (r *run) Err() error {
	if !r.ended.Load() {
		return nil
	}
	<-r.Done() // end has yet to close it, perhaps: an error means that it is closed
	if r.byParent {
		return r.task.ctx.Err()
	}
	return context.Canceled
}

// Value implements context.Context.
func (r *run) Value(key any) any {
	switch key {
	case runKey{}:
		return r
	case watchedRunKey{}:
		return nil // and not that of a task around the Manager
	}
	// context.Cause looks for a context of its own package, under a key that only that package
	// knows. Once this one has ended, there is such a context that ended for the same cause.
	if r.ended.Load() {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(r.cause)
		if v := ctx.Value(key); v != nil {
			return v
		}
	}
	return r.task.ctx.Value(key)
}

// String says what it is when a context is printed, as those of package context do.
func (r *run) String() string { return "taskmanager.Task(" + r.task.name + ")" }

// AfterFunc lets package context attach a cancellable child without a goroutine. f is that
// package's and doesn't block. It is called on the goroutine that ends the context; if the context
// has ended already, on one of its own, for AfterFunc's caller then holds a lock that f needs.
func (r *run) AfterFunc(f func()) (stop func() bool) {
	a := &afterFunc{f}
	r.mu.Lock()
	if r.cause != nil {
		r.mu.Unlock()
		go f()
		return func() bool { return false }
	}
	if r.afterFuncs == nil {
		r.afterFuncs = make(map[*afterFunc]struct{})
	}
	r.afterFuncs[a] = struct{}{}
	r.mu.Unlock()
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		_, waiting := r.afterFuncs[a]
		delete(r.afterFuncs, a)
		return waiting
	}
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
