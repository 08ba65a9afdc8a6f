package taskmanager

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A HealthState sums up how the tasks of a Manager are. The zero value is HealthOK.
type HealthState int

const (
	// HealthOK says that there is no problem.
	HealthOK HealthState = iota
	// HealthDegraded says that some tasks have problems.
	HealthDegraded
	// HealthFailing says that a critical task is gone or stuck: only another process can help.
	HealthFailing
)

// String returns the state in lower case: "degraded".
func (s HealthState) String() string {
	switch s {
	case HealthOK:
		return "ok"
	case HealthDegraded:
		return "degraded"
	case HealthFailing:
		return "failing"
	}
	return "unknown"
}

// MarshalText implements [encoding.TextMarshaler].
func (s HealthState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A HealthReason is what is wrong with a task.
type HealthReason string

// The reasons, the worst first.
const (
	// HealthGivenUp is for a task that was given up.
	HealthGivenUp HealthReason = "given up"
	// HealthStuck is for a task whose body does not return.
	HealthStuck HealthReason = "stuck"
	// HealthHeartbeatOverdue is for a run that has missed its heartbeat and was canceled.
	HealthHeartbeatOverdue HealthReason = "heartbeat overdue"
	// HealthCrashLoop is for a task that has used up half of the restarts that it is allowed within
	// the window, or three if it has no limit.
	HealthCrashLoop HealthReason = "crash loop"
	// HealthNotReady is for a task that is not ready, or waits for one that isn't. A task without
	// WithReadiness, WithDependsOn and WithCritical is not asked.
	HealthNotReady HealthReason = "not ready"
)

var healthReasons = []HealthReason{HealthGivenUp, HealthStuck, HealthHeartbeatOverdue, HealthCrashLoop, HealthNotReady}

// Health says how the tasks of a Manager are. It makes readable JSON.
type Health struct {
	State HealthState `json:"state"`

	// Ready reports whether the Manager is open, and all tasks with WithReadiness or WithCritical
	// that have not completed or been stopped are ready.
	Ready bool `json:"ready"`

	// Problems has one entry for each task with a problem, the worst first. It is nil without any.
	Problems []HealthProblem `json:"problems,omitempty"`
}

// A HealthProblem is what is wrong with one task. It does not quote errors, which may be nothing
// for the public: they are in [TaskStats].
type HealthProblem struct {
	Task     string       `json:"task"` // of a Group's: "group/task"
	Critical bool         `json:"critical,omitempty"`
	State    State        `json:"state"`
	Reason   HealthReason `json:"reason"`
	Detail   string       `json:"detail,omitempty"` // for whom it waits, or how many restarts it has used up
}

// Health returns how the tasks are now. Like Stats, it takes time in proportion to their number, and
// holds up none of them.
func (m *Manager) Health() Health {
	m.mu.Lock()
	h := Health{Ready: !m.closedLocked()}
	m.mu.Unlock()
	now := time.Now()
	for t := range m.Tasks() {
		p, ready := t.problem(now)
		h.Ready = h.Ready && ready
		if group := t.group(); group != nil && !p.State.Ended() {
			for _, inner := range group.Health().Problems {
				h.Problems = append(h.Problems, inner)
				h.State = max(h.State, HealthDegraded)
			}
		}
		if p.Reason == "" {
			continue
		}
		h.Problems = append(h.Problems, p)
		if p.Critical && (p.Reason == HealthGivenUp || p.Reason == HealthStuck) {
			h.State = HealthFailing
		}
		h.State = max(h.State, HealthDegraded)
	}
	slices.SortFunc(h.Problems, func(a, b HealthProblem) int {
		return cmp.Or(
			cmp.Compare(slices.Index(healthReasons, a.Reason), slices.Index(healthReasons, b.Reason)),
			cmp.Compare(a.Task, b.Task))
	})
	return h
}

// problem returns what is wrong with t, without a Reason if nothing is; and whether t does not
// stand in the way of Health.Ready.
func (t *Task) problem(now time.Time) (p HealthProblem, ready bool) {
	waitsFor := t.waitsFor()
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.config
	p = HealthProblem{Task: t.path(), Critical: c.critical, State: t.State()}
	restarts := 0
	if t.past != nil {
		restarts = t.past.restarts.Count(now, c.window)
	}
	asked := c.readiness > 0 || c.critical // whether it is ready
	ready = !asked || t.readyLocked() || p.State == StateCompleted || p.State == StateStopped
	switch {
	case p.State == StateFailed:
		p.Reason = HealthGivenUp
	case p.State == StateStuck:
		p.Reason = HealthStuck
	case p.State == StateStopping:
		if t.asked == overdueRequest && t.past.overdue != nil {
			p.Reason = HealthNotReady
			if errors.Is(t.past.overdue, ErrWatchdog) {
				p.Reason = HealthHeartbeatOverdue
			}
		}
	case p.State.Ended():
	case crashLoop(restarts, c.maxRestarts):
		p.Reason = HealthCrashLoop
		p.Detail = fmt.Sprintf("%d of %s restarts within %v", restarts, limitText(c.maxRestarts), c.window)
	case (asked || len(c.dependsOn) > 0) && !t.readyLocked():
		p.Reason = HealthNotReady
		if p.State == StateWaiting {
			p.Detail = waitsFor
		}
	}
	return p, ready
}

// crashLoop is explained with HealthCrashLoop.
func crashLoop(restarts, most int) bool {
	if most == Unlimited {
		return restarts >= 3
	}
	return restarts > 0 && 2*restarts >= most
}
