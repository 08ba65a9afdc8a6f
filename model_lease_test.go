package taskmanager_test

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// In some of the scripts each task that is in no group has a lease, for which nobody else asks. With that everything is as without; and
// what is lost ends the run as the loss of a dependency does, and also the drain of one that was asked to return.
const (
	unleased    = ""
	leasesKept  = "kept"
	leasesLost  = "lost" // now and then
	seenUnheld  = "a run has ended because of the loss of its lease"
	seenBackoff = "a lease is lost between two runs"
	seenUndrain = "a run drains no longer because of the loss of its lease"
)

// A modelLease is a lease that is free whenever it is asked for.
type modelLease struct {
	name  string
	token uint64
	end   context.CancelFunc // of the hold; nil: nobody holds it
}

func (l *modelLease) Name() string { return l.name }

func (l *modelLease) Check(time.Duration) error { return nil }

func (l *modelLease) Acquire(context.Context, func(string)) (taskmanager.Hold, error) {
	ctx, end := context.WithCancel(context.Background())
	l.token++
	l.end = end
	return modelHold{l, l.token, ctx}, nil
}

// A modelHold is that of a modelLease.
type modelHold struct {
	lease *modelLease
	token uint64
	ctx   context.Context
}

func (h modelHold) Token() uint64 { return h.token }

func (modelHold) Until() time.Time { return time.Time{} }

func (h modelHold) Context() context.Context { return h.ctx }

func (h modelHold) Release() {
	if h.lease.token == h.token {
		h.lease.end = nil
	}
}

// leaseOf returns the option of a task of that name.
func (w *world) leaseOf(name string) []taskmanager.TaskOption {
	if w.leased == unleased || w.managerOf(name) != w.manager {
		return nil
	}
	l := w.leases[name]
	if l == nil {
		l = &modelLease{name: name}
		w.leases[name] = l
	}
	return []taskmanager.TaskOption{taskmanager.WithLease(l)}
}

// loseLease has the task lose its lease, if it holds one.
func (w *world) loseLease(name string, seen map[string]int) {
	l := w.leases[name]
	if w.leased != leasesLost || l == nil || l.end == nil {
		return
	}
	t := w.model.tasks[name]
	require.NotNil(w.t, t, "who has ended has no lease, even if the log hangs")
	switch {
	case t.drainedBy != never:
		seen[seenUndrain]++
	case t.state == taskmanager.StateRunning:
		seen[seenUnheld]++
	case t.state == taskmanager.StateBackoff:
		seen[seenBackoff]++
	}
	l.end()
	w.model.loseLease(t)
}

// loseLease ends the run of t, if it has one.
func (m *model) loseLease(t *modelTask) {
	if t.drainedBy != never {
		t.drainedBy = never
		m.endContext(t, isLost)
	}
	if t.state != taskmanager.StateRunning {
		return
	}
	s := &modelStop{task: t, request: askedByLoss, timeout: t.o.stopTimeout}
	t.lostSince, t.readyBy, t.beatBy = m.now, never, never
	m.stops = append(m.stops, s)
	m.begin(s)
}
