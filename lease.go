package taskmanager

import (
	"context"
	"time"
)

// A Lease is the right to run a task, which one of several processes has at a time: its holder. Engines make them, such as those of
// module lease. A Lease must be comparable, and equal to another one if both are of the same name and engine.
//
// Its methods may be called by several goroutines at once.
type Lease interface {
	// Name returns the name of the lease, which is the same in all processes.
	Name() string

	// Check returns why the lease is not for a task whose body may take grace to return once its context has ended; nil if it is.
	// It asks nobody.
	Check(grace time.Duration) error

	// Acquire blocks until this process holds the lease, or until ctx ends, and returns its cause then. Meanwhile it calls waiting,
	// which does not block, with a status for people when that has changed: `waits for lease "x", held by "pod-7" since 12:03`.
	// What may pass, such as a server that doesn't answer, is no reason to return an error: an error is a failure of the task.
	//
	// [FromContext] finds the task in ctx. Several tasks of a process may acquire the same lease: each gets a Hold, and the process
	// holds the lease until all have been released.
	Acquire(ctx context.Context, waiting func(status string)) (Hold, error)
}

// A Hold is a [Lease] that a task holds. Its methods may be called by several goroutines at once, and don't block.
type Hold interface {
	// Token returns a number that is larger each time the lease changes hands, and at least 1.
	Token() uint64

	// Until returns the time until which nobody else holds the lease, on the monotonic clock. It grows with each sign of life that
	// the engine confirms. The zero time is for a lease that ends with its Context alone.
	Until() time.Time

	// Context returns a context that ends when it is known that the lease was lost; its cause says why.
	Context() context.Context

	// Release is called once, when no body executes that has begun with this Hold. The engine sees to it that the lease is free.
	Release()
}
