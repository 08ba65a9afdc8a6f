package taskmanager

import (
	"context"
	"reflect"
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

// WithLease has the task run only while this process holds the lease, so that of several replicas of a service one runs it. Before a
// run, the task waits for the lease in StateWaiting, and its status says who has it; see [LeaseStats]. So long it is a standby: healthy,
// and ready as far as [Manager.Health] is concerned.
//
// The context of a run ends, with a cause that wraps [ErrLeaseLost], when the lease is known to be lost, and at the latest one stop
// timeout ([WithStopTimeout]) before somebody else may hold it. Such an end is no failure: it counts against no limit and is not
// delayed; its event is EventStopped, and the task waits for the lease again. If the body does not return within the stop timeout, the
// task is stuck, and from then on another replica may run it beside this body. Ctx.Err of the run compares the clock by itself, so that
// it is right also in a process that has just been frozen; that of a context which derives from it, as by [context.WithTimeout] or in the
// tasks of a [Group], ends by a timer alone, which may come late then. A run that is canceled for that does not drain ([WithDrain]), and
// one that drains does so no longer: its context ends at once, with that cause, and what was asked of it goes on, with its deadline.
//
// The lease is kept between runs, through backoff and restarts by hand, and is released when the body has returned and the task has
// completed, was given up, stopped or paused, or waits for another task. So a crash loop stays on one replica until that gives the task
// up; the next one has limits of its own. A task that has completed runs again on the next replica: leased bodies are for work
// without end, and the log says so once. Its body has returned before the lease is released, but a stop doesn't wait for the release:
// close the engine before the process exits.
//
// An error of [Lease.Acquire] gives the task up, with [GaveUpLease]. It is for StartTask alone; a replacement must have the same lease.
// All leases of one name in a Manager must be equal, and so of the same engine. The default is to need none.
func WithLease(l Lease) TaskOption {
	return taskOption("WithLease", leaseValue(l), func(c *taskConfig) string {
		if c.manager == nil {
			return "is for StartTask alone"
		}
		if l == nil || reflect.ValueOf(l).Kind() == reflect.Pointer && reflect.ValueOf(l).IsNil() {
			return "must not be nil"
		}
		if !reflect.ValueOf(l).Comparable() {
			return "must be comparable"
		}
		name := l.Name()
		c.lease = &leaseConfig{lease: l, name: name}
		if reason := checkName(name); reason != "" {
			return "its name " + reason
		}
		return ""
	})
}

// leaseValue is l, as an OptionError quotes it: by its type, for what it holds may be a secret.
func leaseValue(l Lease) any {
	if l == nil {
		return nil
	}
	return reflect.TypeOf(l).String()
}

// LeaseToken returns the token of the lease by which the run executes whose body was given ctx, or a context that ctx derives from. It
// is larger each time the lease changes hands: a store that refuses writes with a smaller one than it has seen is safe from a former
// holder. Tokens are compared within one lease alone; one that several may hold, as OneOf of module lease, is several: each place
// has tokens of its own.
//
// It returns false if the task has no lease, or the run is over, and for any other context, nil included. So it does in the tasks of a
// [Group] that has a lease: give them the same lease, whose token is the same, or hand them the context of the group, by [WithMiddleware].
func LeaseToken(ctx context.Context) (token uint64, ok bool) {
	r := runOf(ctx)
	if r == nil {
		return 0, false
	}
	t := r.task
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.heldLocked(); h != nil && t.run == r {
		return h.token, true
	}
	return 0, false
}

// LeaseStats are a task's lease.
type LeaseStats struct {
	Name string `json:"name"`
	// Token is that by which this process holds the lease; 0 if it does not.
	Token uint64 `json:"token,omitempty"`
}

// A leaseConfig is a lease, and its name, for which it is asked once.
type leaseConfig struct {
	lease Lease
	name  string
}

// leaseName is the name of the lease; empty if there is none.
func (c *leaseConfig) leaseName() string {
	if c == nil {
		return ""
	}
	return c.name
}

// sameAs reports whether both are the same lease, or none.
func (c *leaseConfig) sameAs(other *leaseConfig) bool {
	if c == nil || other == nil {
		return c == other
	}
	return c.lease == other.lease
}

// checkLease asks the lease of c, if there is one, whether it is for a task with these options.
func (c *taskConfig) checkLease() error {
	if c.lease == nil {
		return nil
	}
	if err := c.lease.lease.Check(c.stopTimeout); err != nil {
		return &OptionError{Option: "WithLease", Value: c.lease.name, Reason: err.Error()}
	}
	return nil
}

// A leaseUse is how many tasks of a Manager have a lease.
type leaseUse struct {
	lease Lease
	tasks int
}

// checkLeaseLocked refuses a lease of c whose name another one has, which is not equal.
func (m *Manager) checkLeaseLocked(c *taskConfig) error {
	if c.lease == nil {
		return nil
	}
	if u, ok := m.leases[c.lease.name]; ok && u.lease != c.lease.lease {
		return &OptionError{Option: "WithLease", Value: c.lease.name, Reason: "is the name of a lease in this Manager that is not equal: of another engine, say"}
	}
	return nil
}

// addLeaseLocked notes that t, which is about to be known, has a lease.
func (m *Manager) addLeaseLocked(t *Task) {
	c := t.config().lease
	if c == nil {
		return
	}
	if m.leases == nil {
		m.leases = make(map[string]leaseUse)
	}
	m.leases[c.name] = leaseUse{c.lease, m.leases[c.name].tasks + 1}
}

// removeLeaseLocked takes addLeaseLocked back.
func (m *Manager) removeLeaseLocked(t *Task) {
	c := t.config().lease
	if c == nil {
		return
	}
	if u := m.leases[c.name]; u.tasks > 1 {
		m.leases[c.name] = leaseUse{u.lease, u.tasks - 1}
	} else {
		delete(m.leases, c.name)
	}
}
