package taskmanager

import (
	"cmp"
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
	// HealthFailing says that a critical task is gone or stuck: only another process can help, or
	// somebody who restarts the task. Gone is one that was given up or has completed, or that waits
	// for one that was given up. Run has ended or would end, unless the task is stuck and was asked
	// to stop by hand, or is stuck by a restart, a replacement or a pause by hand alone. It stays so after Run has ended for a
	// task, whatever becomes of that. A critical task of a Group ends the run of the group, which may
	// be restarted: it is one problem among others.
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
	// HealthGivenUp is for a task that was given up, also if it has a cooldown (see [WithCooldown]) that is not over.
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
	// HealthTaskFailing is for a task that is in backoff; and, once it has failed twice in a row, also
	// for one that runs again, until it is healthy: see [TaskStats.ConsecutiveFailures]. So one that
	// fails every 30 s is failing all the time, and a single failure is over with the next run. One that makes
	// passes is failing from when one was given up (see [EventPassGaveUp]) until one succeeds.
	HealthTaskFailing HealthReason = "failing"
	// HealthNotReady is for a task that is not ready, or waits for one that isn't. A task without
	// WithReadiness, WithDependsOn and WithCritical is asked by HealthOf alone.
	HealthNotReady HealthReason = "not ready"
	// HealthPaused is for a task that was paused by hand. It does not stand in the way of Health.Ready, as one that was stopped
	// does not.
	HealthPaused HealthReason = "paused"
)

var healthReasons = []HealthReason{
	HealthGivenUp, HealthCompleted, HealthStuck, HealthHeartbeatOverdue, HealthCrashLoop, HealthTaskFailing, HealthNotReady,
	HealthPaused,
}

// Health says how the tasks of a Manager are. It makes readable JSON.
type Health struct {
	State HealthState `json:"state"`

	// Ready reports whether the Manager is open, no critical task is gone, and all tasks with
	// WithReadiness or WithCritical that have not completed or been stopped or paused by hand are ready, or wait for a lease
	// ([WithLease]): a standby is ready to take over.
	Ready bool `json:"ready"`

	// Problems has one entry for each task with a problem, the worst first: those that make the state
	// HealthFailing, and then by reason; and one for those that are forgotten, without a name. There
	// are 100 at most; it is nil without any.
	Problems []HealthProblem `json:"problems,omitempty"`

	// ProblemsOmitted is how many further ones there are.
	ProblemsOmitted int `json:"problems_omitted,omitempty"`

	// Leases has one entry for each task with a lease that has not ended, in the order of their names; 100 at
	// most. It is nil without any.
	Leases []HealthLease `json:"leases,omitempty"`

	// LeasesOmitted is how many further ones there are.
	LeasesOmitted int `json:"leases_omitted,omitempty"`
}

// A HealthLease is the lease of one task that has not ended.
type HealthLease struct {
	Task   string `json:"task"` // of a Group's: "group/task"
	Lease  string `json:"lease"`
	Token  uint64 `json:"token,omitempty"`  // by which this process holds it; 0 if it does not
	Status string `json:"status,omitempty"` // of a task that waits for it: who has it, if that is known
}

// mostProblems bounds the memory of a Health, and the answer to a probe.
const mostProblems = 100

// A HealthProblem is what is wrong with one task. It does not quote errors, which may be nothing
// for the public: they are in [TaskStats].
type HealthProblem struct {
	Task     string       `json:"task"` // of a Group's: "group/task"
	Critical bool         `json:"critical,omitempty"`
	State    State        `json:"state"`
	Reason   HealthReason `json:"reason"`

	// Detail says for whom it waits, how many restarts it has used up, since when it fails, or when its cooldown is over.
	Detail string `json:"detail,omitempty"`
}

// Health returns how the tasks are now. Like Stats, it takes time in proportion to their number, and
// holds up none of them.
func (m *Manager) Health() Health {
	if !m.isMade() {
		return Health{}
	}
	m.mu.Lock()
	h := m.history
	s := survey{manager: m, now: time.Now(), health: Health{Ready: !m.closedLocked() && h.criticalForgotten == 0}}
	m.mu.Unlock()
	for t := range m.Tasks() {
		s.look(t, false)
	}
	for _, p := range m.forgottenExits() {
		s.add(finding{HealthProblem: p, fatal: true})
	}
	more := func(n int, reason HealthReason, state State, critical bool) {
		if n > 0 {
			p := HealthProblem{Critical: critical, State: state, Reason: reason, Detail: fmt.Sprintf("%d more tasks, which have been forgotten", n)}
			s.add(finding{HealthProblem: p, fatal: critical})
		}
	}
	more(h.criticalFailed, HealthGivenUp, StateFailed, true)
	more(h.criticalForgotten-h.criticalFailed, HealthCompleted, StateCompleted, true)
	more(h.failedForgotten-h.criticalFailed, HealthGivenUp, StateFailed, false)
	return s.result()
}

// forgottenExits returns the critical tasks that Run has ended for and that were stopped since, and forgotten.
func (m *Manager) forgottenExits() (problems []HealthProblem) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, exit := range m.criticalExits {
		reason := exit.reason()
		if reason == HealthGivenUp || reason == HealthCompleted || m.tasks.find(name) != nil {
			continue // the history counts those that it has forgotten
		}
		problems = append(problems, HealthProblem{Task: m.config.prefix + name, Critical: true, State: StateStopped, Reason: reason})
	}
	return problems
}

// HealthOf is Health of the tasks of those names alone, and takes time in proportion to their number. A task of a Group is named
// "group/task". It is stricter: Ready reports whether the Manager is open, and each of them runs and is ready, or has completed, if
// it is not critical, or waits for a lease. One that was stopped or paused is not ready, nor is a name that no task has; each that isn't is
// a problem.
func (m *Manager) HealthOf(names ...string) Health {
	if !m.isMade() {
		return Health{}
	}
	s := survey{manager: m, now: time.Now(), health: Health{Ready: !m.isClosed()}}
	for i, name := range names {
		switch t := m.lookupPath(name); {
		case slices.Contains(names[:i], name):
		case t == nil:
			s.health.Ready = false
			s.add(finding{HealthProblem: HealthProblem{Task: name, Reason: HealthNotReady, Detail: "no task has this name"}})
		default:
			s.look(t, true)
		}
	}
	return s.result()
}

// lookupPath is Lookup also for tasks of groups; nil if there is none. A name may have a slash, too.
func (m *Manager) lookupPath(path string) *Task {
	if t, ok := m.Lookup(path); ok {
		return t
	}
	for i := range path {
		if path[i] != '/' {
			continue
		}
		g, ok := m.Lookup(path[:i])
		if !ok {
			continue
		}
		group := g.Group()
		if group == nil {
			continue
		}
		if t := group.lookupPath(path[i+1:]); t != nil {
			return t
		}
	}
	return nil
}

// A finding is what is found of one task.
type finding struct {
	HealthProblem          // without a Reason if there is none, and without the Detail that task is yet to say
	task          *Task    // nil: the Detail is complete
	group         *Manager // of the latest run, if the task is a group
	standby       bool     // it waits for its lease
	lease         *LeaseStats
	ready         bool // it does not stand in the way of Health.Ready
	gone          bool // it is critical, and Run has ended or would end because of it
	fatal         bool // it is gone, or critical and stuck
}

// A survey makes a Health.
type survey struct {
	manager *Manager
	now     time.Time
	health  Health
	found   []finding // no more than twice mostProblems
}

// look adds what there is to say of t. strict is for HealthOf.
func (s *survey) look(t *Task, strict bool) {
	f := t.examine(s.now)
	if f.group != nil && !f.State.Ended() {
		inner := f.group.Health()
		for _, p := range inner.Problems {
			s.add(finding{HealthProblem: p})
		}
		s.health.ProblemsOmitted += inner.ProblemsOmitted
		for _, l := range inner.Leases {
			s.addLease(l)
		}
		s.health.LeasesOmitted += inner.LeasesOmitted
		f.ready = f.ready && (inner.Ready || !t.config().mustBeReady() && f.State != StateRunning)
	}
	asked := t.config().isAskedWhetherReady()
	if asked && t.config().isGroup && f.State == StateRunning && !f.group.groupReady() {
		f.ready = f.ready && !t.config().mustBeReady()
		f.Reason = cmp.Or(f.Reason, HealthNotReady)
	}
	standby := f.standby || f.Reason == HealthNotReady && t.awaitsStandby(make(map[*Task]bool))
	if standby {
		f.ready = !f.gone
		if f.Reason == HealthNotReady {
			f.Reason = ""
		}
	}
	if strict {
		_, ready := t.checkReady()
		f.ready = (ready || standby) && !f.gone && !t.config().manager.isClosed()
		if !f.ready {
			f.Reason = cmp.Or(f.Reason, HealthNotReady)
		}
	}
	s.health.Ready = s.health.Ready && f.ready
	if f.lease != nil && !f.State.Ended() {
		s.addLease(HealthLease{f.Task, f.lease.Name, f.lease.Token, f.task.leaseStatus()})
	}
	f.fatal = f.fatal && t.config().manager == s.manager // otherwise it is for its group
	if f.Reason != "" {
		s.add(f)
	}
}

// addLease adds the lease of a task.
func (s *survey) addLease(l HealthLease) {
	if s.health.Leases = append(s.health.Leases, l); len(s.health.Leases) == 2*mostProblems {
		s.keepFirstLeases()
	}
}

// keepFirstLeases sorts the leases, and drops what is beyond mostProblems.
func (s *survey) keepFirstLeases() {
	var dropped int
	s.health.Leases, dropped = keepFirst(s.health.Leases, func(a, b HealthLease) int { return cmp.Compare(a.Task, b.Task) })
	s.health.LeasesOmitted += dropped
}

// keepFirst sorts all, and drops what is beyond mostProblems.
func keepFirst[T any](all []T, compare func(a, b T) int) (kept []T, dropped int) {
	slices.SortFunc(all, compare)
	if dropped = len(all) - mostProblems; dropped <= 0 {
		return all, 0
	}
	clear(all[mostProblems:])
	return all[:mostProblems], dropped
}

// add adds a problem.
func (s *survey) add(f finding) {
	s.health.State = max(s.health.State, HealthDegraded)
	if f.fatal {
		s.health.State = HealthFailing
	}
	if s.found = append(s.found, f); len(s.found) == 2*mostProblems {
		s.keepWorst()
	}
}

// keepWorst sorts what was found, and drops what is beyond mostProblems.
func (s *survey) keepWorst() {
	var dropped int
	s.found, dropped = keepFirst(s.found, func(a, b finding) int {
		switch {
		case a.fatal != b.fatal && a.fatal:
			return -1
		case a.fatal != b.fatal:
			return 1
		}
		return cmp.Or(
			cmp.Compare(slices.Index(healthReasons, a.Reason), slices.Index(healthReasons, b.Reason)),
			cmp.Compare(a.Task, b.Task))
	})
	s.health.ProblemsOmitted += dropped
}

// result returns the Health. Only what is shown is put into words.
func (s *survey) result() Health {
	s.keepWorst()
	s.keepFirstLeases()
	for _, f := range s.found {
		if f.task != nil {
			f.Detail = f.task.healthDetail(f.Reason, s.now)
		}
		s.health.Problems = append(s.health.Problems, f.HealthProblem)
	}
	return s.health
}

// examine returns what is wrong with t, but for the tasks of a group.
func (t *Task) examine(now time.Time) finding {
	m, c := t.config().manager, t.config()
	var exit criticalExit
	gone := false
	if c.critical { // what Run goes by and the state are of the same moment
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.tasks.find(t.name) != t {
			return finding{ready: true} // another one has its name by now, or nobody
		}
		exit = m.criticalExits[t.name]
		gone = exit.err != nil // without one, it has completed while the Manager was being shut down
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := finding{
		HealthProblem: HealthProblem{Task: t.path(), Critical: c.critical, State: t.State()},
		task:          t, group: t.groupLocked(), gone: gone,
	}
	f.ready = !gone && (!c.mustBeReady() || t.readyLocked() || f.State == StateCompleted || t.isHaltedLocked())
	f.standby, f.lease = t.isStandbyLocked(), t.leaseStatsLocked()
	f.fatal = gone || c.critical && f.State == StateStuck
	restarts := 0
	if t.record != nil {
		restarts = t.record.restarts.Count(now, c.window)
	}
	failures, _ := t.failingLocked(now)
	switch {
	case f.State == StateFailed, t.machine.phase == cooling:
		f.Reason = HealthGivenUp
	case f.State == StatePaused:
		f.Reason = HealthPaused
	case f.State == StateStuck:
		f.Reason = HealthStuck
	case f.State.Ended():
		if gone {
			f.Reason = exit.reason()
		}
	case (t.machine.phase == overdue || t.machine.phase.restarts()) && t.record != nil && t.record.overdue != nil:
		f.Reason = HealthNotReady
		if t.record.overdue.Err == ErrWatchdog { //nolint:errorlint // it is one of two
			f.Reason = HealthHeartbeatOverdue
		}
	case f.State == StateStopping:
	case crashLoop(restarts, c.maxRestarts):
		f.Reason = HealthCrashLoop
	case failures >= 1 && (f.State == StateBackoff || t.passesLocked().wasGivenUp()), failures >= 2 && f.State == StateRunning:
		f.Reason = HealthTaskFailing
	case c.isAskedWhetherReady() && !t.readyLocked():
		f.Reason = HealthNotReady
	}
	return f
}

// reason is what was wrong with the task, which may have been stopped since.
func (x criticalExit) reason() HealthReason {
	switch x.err.(type) { //nolint:errorlint // it is one of ours, and not wrapped
	case *GiveUpError:
		return HealthGivenUp
	case *StopTimeoutError:
		return HealthStuck
	case *doomError:
		return HealthNotReady
	default:
		return HealthCompleted
	}
}

// healthDetail says more of a problem of that reason.
func (t *Task) healthDetail(reason HealthReason, now time.Time) string {
	if reason == HealthNotReady {
		return t.waitingStatus()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch p, c := t.record, t.config(); {
	case p == nil:
	case reason == HealthGivenUp && t.machine.phase == cooling:
		return "until " + p.nextRunAt().UTC().Format(time.RFC3339)
	case reason == HealthCrashLoop:
		return fmt.Sprintf("%d of %s restarts within %v", p.restarts.Count(now, c.window), limitText(c.maxRestarts), c.window)
	case reason == HealthTaskFailing:
		switch n, since := t.failingLocked(now); n {
		case 0: // by now
		case 1:
			return "1 failure, at " + since.UTC().Format(time.RFC3339)
		default:
			return fmt.Sprintf("%d failures in a row since %s", n, since.UTC().Format(time.RFC3339))
		}
	}
	return ""
}

// crashLoop is explained with HealthCrashLoop.
func crashLoop(restarts, most int) bool {
	if most == Unlimited {
		return restarts >= 3
	}
	return restarts > 0 && 2*restarts >= most
}
