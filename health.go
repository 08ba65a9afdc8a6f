package taskmanager

import (
	"cmp"
	"fmt"
	"maps"
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
	// HealthFailing says that a critical task is gone or stuck: only another process can help, or
	// somebody who restarts the task. Gone is one that was given up or has completed, or that waits
	// for one that was given up. Run has ended or would end, unless the task is stuck and was asked
	// to stop by hand, or is stuck by a restart by hand alone.
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
	// HealthCompleted is for a critical task that has completed.
	HealthCompleted HealthReason = "completed"
	// HealthStuck is for a task whose body does not return.
	HealthStuck HealthReason = "stuck"
	// HealthHeartbeatOverdue is for a run that has missed its heartbeat and was canceled, also if the
	// task was asked to restart since.
	HealthHeartbeatOverdue HealthReason = "heartbeat overdue"
	// HealthCrashLoop is for a task that has used up half of the restarts that it is allowed within
	// the window, or three if it has no limit.
	HealthCrashLoop HealthReason = "crash loop"
	// HealthNotReady is for a task that is not ready, or waits for one that isn't. A task without
	// WithReadiness, WithDependsOn and WithCritical is not asked.
	HealthNotReady HealthReason = "not ready"
)

var healthReasons = []HealthReason{HealthGivenUp, HealthCompleted, HealthStuck, HealthHeartbeatOverdue, HealthCrashLoop, HealthNotReady}

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
	exits := maps.Clone(m.criticalExits)
	forgotten, critical := m.history.failedForgotten, m.history.criticalForgotten
	m.mu.Unlock()
	now := time.Now()
	for t := range m.Tasks() {
		p, ready, group := t.problem(now)
		if group != nil && !p.State.Ended() {
			inner := group.Health()
			h.Problems = append(h.Problems, inner.Problems...)
			if len(inner.Problems) > 0 {
				h.State = max(h.State, HealthDegraded)
			}
			ready = ready && (inner.Ready || !t.config.mustBeReady() && p.State != StateRunning)
		}
		if t.isGroup && p.State == StateRunning && t.config.isAskedWhetherReady() && !group.groupReady() {
			ready = ready && !t.config.mustBeReady()
			p.Reason = cmp.Or(p.Reason, HealthNotReady)
		}
		h.Ready = h.Ready && ready
		_, gone := exits[t.name]
		// What Run has ended for is kept for Run, though the task has stopped since; and it may have been restarted since.
		gone = gone && p.State != StateStopped && m.isGone(t.name)
		if p.Reason == "" && gone {
			p.Reason = HealthCompleted
		}
		if p.Reason == "" {
			continue
		}
		h.Problems = append(h.Problems, p)
		h.State = max(h.State, HealthDegraded)
		if gone || p.Critical && p.Reason == HealthStuck {
			h.State = HealthFailing
		}
	}
	if forgotten > 0 {
		h.Problems = append(h.Problems, HealthProblem{
			State: StateFailed, Reason: HealthGivenUp, Detail: fmt.Sprintf("%d more tasks, which have been forgotten", forgotten),
		})
		h.State = max(h.State, HealthDegraded)
	}
	if critical > 0 {
		h.State = HealthFailing
	}
	slices.SortFunc(h.Problems, func(a, b HealthProblem) int {
		return cmp.Or(
			cmp.Compare(slices.Index(healthReasons, a.Reason), slices.Index(healthReasons, b.Reason)),
			cmp.Compare(a.Task, b.Task))
	})
	return h
}

// problem returns what is wrong with t, without a Reason if nothing is; whether t does not stand in the
// way of Health.Ready; and the Manager of the latest run, if t is a group.
func (t *Task) problem(now time.Time) (p HealthProblem, ready bool, group *Manager) {
	waitingStatus := t.waitingStatus()
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.config
	p = HealthProblem{Task: t.path(), Critical: c.critical, State: t.State()}
	restarts := 0
	if t.record != nil {
		restarts = t.record.restarts.Count(now, c.window)
	}
	ready = !c.mustBeReady() || t.readyLocked() || p.State == StateCompleted || p.State == StateStopped
	switch {
	case p.State == StateFailed:
		p.Reason = HealthGivenUp
	case p.State == StateStuck:
		p.Reason = HealthStuck
	case (t.machine.phase == overdue || t.machine.phase == restarting) && t.record != nil && t.record.overdue != nil:
		p.Reason = HealthNotReady
		if t.record.overdue.Err == ErrWatchdog { //nolint:errorlint // it is one of two
			p.Reason = HealthHeartbeatOverdue
		}
	case p.State == StateStopping, p.State.Ended():
	case crashLoop(restarts, c.maxRestarts):
		p.Reason = HealthCrashLoop
		p.Detail = fmt.Sprintf("%d of %s restarts within %v", restarts, limitText(c.maxRestarts), c.window)
	case c.isAskedWhetherReady() && !t.readyLocked():
		p.Reason = HealthNotReady
		if p.State == StateWaiting {
			p.Detail = waitingStatus
		}
	}
	return p, ready, t.groupLocked()
}

// isGone reports whether the critical task of that name is gone by now.
func (m *Manager) isGone(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, gone := m.criticalExits[name]
	return gone
}

// crashLoop is explained with HealthCrashLoop.
func crashLoop(restarts, most int) bool {
	if most == Unlimited {
		return restarts >= 3
	}
	return restarts > 0 && 2*restarts >= most
}
