package taskmanager

import (
	"encoding/json"
	"slices"
	"time"
)

// TaskStats is a snapshot of one task. All of it is of the same moment. Counts begin at StartTask,
// and anew when a restart by hand revives an ended task.
type TaskStats struct {
	Name   string
	State  State
	Status string // what the body of the latest run has said with SetStatus, or for whom the task waits, be it for its lease

	Ready     bool     // it runs, and has called Ready if it has to (see WithReadiness)
	Critical  bool     // see WithCritical
	DependsOn []string // see WithDependsOn

	Runs             uint64 // started
	Restarts         uint64 // runs after the first, those by hand included
	Failures         uint64
	Panics           uint64 // failures that were panics
	RestartsInWindow int    // that count against the limit; with Unlimited, counted up to 1,000

	// What RestartsInWindow is to be compared with: "3 of 5 in 60 s".
	MaxRestarts   int           // see WithMaxRestarts; it may be Unlimited
	RestartWindow time.Duration // see WithRestartWindow
	RestartPolicy RestartPolicy // see WithRestart

	// Failures in a row, and when the first of them happened; zero if there are none. What ends them is a run that has lasted for
	// WithHealthyAfter, and is ready, as soon as it has, if nothing was asked of it before; a run that returns nil; and a pass of Every or
	// OnSchedule that succeeds in a run that is ready, which alone does where there are passes. To be stopped or restarted by hand does
	// not, unless the task had ended.
	ConsecutiveFailures int
	FailingSince        time.Time

	StartedAt    time.Time     // of the task
	RunStartedAt time.Time     // of the run that executes now; zero if none does
	Uptime       time.Duration // of the run that executes now; zero if none does

	// NextRunAt is known in StateBackoff, once a policy of one's own has said, and in StatePaused until a cooldown is over. The fleet-wide
	// limit may delay the run further.
	NextRunAt time.Time
	EndedAt   time.Time // zero until the task has ended

	LastError   error // the latest failure; nil if there was none
	LastErrorAt time.Time

	Lease  *LeaseStats   // of WithLease; nil for a task without
	Passes *PassStats    // of Every or OnSchedule; nil for a task that makes no passes
	Group  *ManagerStats // of the latest run of a Group; nil for any other task
}

// Stats returns a snapshot of the task, with one of each task within if it is a [Group]; [Task.StatsWithoutGroup] does without these.
func (t *Task) Stats() TaskStats {
	var s TaskStats
	t.snapshot(&s, time.Now())
	return s
}

// StatsWithoutGroup returns what Stats does, but for the tasks within a [Group]: Group is nil. So it takes no longer for a group than for
// any other task, but for a look at those within that Ready may need.
func (t *Task) StatsWithoutGroup() TaskStats {
	var s TaskStats
	_, group := t.snapshotWithoutGroup(&s, time.Now())
	s.Ready = s.Ready && t.isReadyWithin(group)
	return s
}

// snapshot fills s, which is zero, and returns the counts over all lives of the task.
func (t *Task) snapshot(s *TaskStats, now time.Time) counts {
	total, group := t.snapshotWithoutGroup(s, now)
	if group != nil {
		inner := group.Stats()
		s.Group = &inner
	}
	s.Ready = s.Ready && t.isReadyWithin(group)
	return total
}

// isReadyWithin reports whether the tasks of the group are ready, if the task is one.
func (t *Task) isReadyWithin(group *Manager) bool { return !t.config().isGroup || group.groupReady() }

// snapshotWithoutGroup is snapshot without s.Group and what Ready says of that. It returns the Manager of the group, if the task is one.
func (t *Task) snapshotWithoutGroup(s *TaskStats, now time.Time) (total counts, group *Manager) {
	waitingStatus := t.waitingStatus()
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.config()
	s.Name, s.State = t.name, t.State()
	s.Ready, s.Critical, s.DependsOn = t.readyLocked(), c.critical, slices.Clone(c.dependsOn)
	s.MaxRestarts, s.RestartWindow, s.RestartPolicy = c.maxRestarts, c.window, c.restart
	s.StartedAt = time.Unix(0, t.startedAt)
	s.Runs = t.runs
	if t.lazy != nil {
		s.Status, group = t.lazy.status, t.lazy.group
		s.Passes = t.lazy.passes.snapshot(t.run)
	}
	if s.State.Ended() {
		s.EndedAt = time.Unix(0, t.endedAt)
	}
	if s.State == StateWaiting {
		s.Status = waitingStatus
	}
	s.Lease = t.leaseStatsLocked()
	if t.run != nil {
		s.RunStartedAt = t.run.started.Round(0)
		s.Uptime = max(0, now.Sub(t.run.started))
	}
	if t.machine.phase == inBackoff || t.machine.phase == cooling {
		s.NextRunAt = t.record.nextRunAt()
	}
	if p := t.record; p != nil {
		s.Runs -= p.earlierLives.runs
		s.Failures = p.failures - p.earlierLives.failures
		s.Panics = p.panics - p.earlierLives.panics
		s.RestartsInWindow = p.restarts.Count(now, c.window)
		s.ConsecutiveFailures, s.FailingSince = t.failingLocked(now)
		if s.LastError = p.lastErr; p.lastErrAt != 0 {
			s.LastErrorAt = time.Unix(0, p.lastErrAt)
		}
	}
	if s.Runs > 0 {
		s.Restarts = s.Runs - 1
	}
	return t.totalsLocked(), group
}

// MarshalJSON writes names in snake case, errors and states as text, times as RFC 3339 and
// durations in seconds. What doesn't apply is left out.
func (s TaskStats) MarshalJSON() ([]byte, error) {
	var lastError *string
	if s.LastError != nil {
		text := errorText(s.LastError)
		lastError = &text
	}
	return json.Marshal(struct {
		Name             string   `json:"name"`
		State            State    `json:"state"`
		Status           string   `json:"status,omitempty"`
		Ready            bool     `json:"ready"`
		Critical         bool     `json:"critical,omitempty"`
		DependsOn        []string `json:"depends_on,omitempty"`
		Runs             uint64   `json:"runs"`
		Restarts         uint64   `json:"restarts"`
		Failures         uint64   `json:"failures"`
		Panics           uint64   `json:"panics"`
		RestartsInWindow int      `json:"restarts_in_window"`

		MaxRestarts          int           `json:"max_restarts"`
		RestartWindowSeconds float64       `json:"restart_window_seconds"`
		RestartPolicy        RestartPolicy `json:"restart_policy"`

		ConsecutiveFailures int       `json:"consecutive_failures,omitempty"`
		FailingSince        time.Time `json:"failing_since,omitzero"`
		StartedAt           time.Time `json:"started_at,omitzero"`
		RunStartedAt        time.Time `json:"run_started_at,omitzero"`
		UptimeSeconds       float64   `json:"uptime_seconds,omitempty"`
		NextRunAt           time.Time `json:"next_run_at,omitzero"`
		EndedAt             time.Time `json:"ended_at,omitzero"`
		LastError           *string   `json:"last_error,omitempty"`
		LastErrorAt         time.Time `json:"last_error_at,omitzero"`

		Passes *PassStats    `json:"passes,omitempty"`
		Lease  *LeaseStats   `json:"lease,omitempty"`
		Group  *ManagerStats `json:"group,omitempty"`
	}{
		s.Name, s.State, s.Status, s.Ready, s.Critical, s.DependsOn, s.Runs, s.Restarts, s.Failures, s.Panics, s.RestartsInWindow,
		s.MaxRestarts, s.RestartWindow.Seconds(), s.RestartPolicy,
		s.ConsecutiveFailures, s.FailingSince, s.StartedAt, s.RunStartedAt, s.Uptime.Seconds(), s.NextRunAt, s.EndedAt,
		lastError, s.LastErrorAt, s.Passes, s.Lease, s.Group,
	})
}

// ManagerStats is a snapshot of a Manager: one of each task that is supervised or remembered, each
// consistent in itself, and totals.
type ManagerStats struct {
	Name  string               `json:"name,omitempty"`
	Tasks map[string]TaskStats `json:"tasks"`
	Totals
}

// Totals are counts of the tasks of a Manager, without those within groups; see [Manager.Totals].
type Totals struct {
	// How many tasks, supervised or remembered, are in which state.
	Waiting   int `json:"waiting"`
	Running   int `json:"running"`
	Backoff   int `json:"backoff"`
	Stopping  int `json:"stopping"`
	Stuck     int `json:"stuck"`
	Paused    int `json:"paused"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
	Stopped   int `json:"stopped"`

	// Tasks that were given up and are forgotten nevertheless, because there were 10,000 others. They
	// are in none of the counts above.
	FailedForgotten int `json:"failed_forgotten,omitempty"`

	// Since New, of all tasks, forgotten ones and earlier lives of revived ones included: these
	// never decrease.
	Runs     uint64 `json:"runs"`
	Failures uint64 `json:"failures"`
	Panics   uint64 `json:"panics"`

	// Events for the reporters, each counted once for each Reporter.
	ReportsDelivered uint64 `json:"reports_delivered"`
	ReportsWaiting   uint64 `json:"reports_waiting"` // or are in a Reporter's hands, also of one that was replaced
	ReportsLost      uint64 `json:"reports_lost"`    // the Reporter refused them, or there was no time left in Shutdown
}

// Stats returns a snapshot. It takes time in proportion to the number of tasks, and holds up none
// of them.
func (m *Manager) Stats() ManagerStats {
	if !m.isMade() {
		return ManagerStats{Tasks: map[string]TaskStats{}}
	}
	var sum tally
	m.mu.Lock()
	tasks := m.allTasksLocked()
	for i := range m.tasks.parts {
		sum.counts.add(m.tasks.parts[i].forgotten)
	}
	sum.failedForgotten = m.history.failedForgotten
	m.mu.Unlock()

	s := ManagerStats{Name: m.config.name, Tasks: make(map[string]TaskStats, len(tasks))}
	now := time.Now()
	for _, t := range tasks {
		var ts TaskStats
		total := t.snapshot(&ts, now)
		s.Tasks[ts.Name] = ts
		sum.add(ts.State, total)
	}
	s.Totals = sum.totals(m)
	return s
}

// Totals returns the counts of Stats. It takes a twentieth of the time, no memory, and holds up starts and ends of tasks for a
// small part of it.
func (m *Manager) Totals() Totals {
	if !m.isMade() {
		return Totals{}
	}
	var sum tally
	for i := range m.tasks.parts {
		sum.addPart(m, &m.tasks.parts[i])
	}
	m.mu.Lock()
	sum.failedForgotten = m.history.failedForgotten
	m.mu.Unlock()
	return sum.totals(m)
}

// A tally is what Totals are made of.
type tally struct {
	counts

	states          [len(stateNames)]int
	failedForgotten int
}

// addPart adds the tasks of one part of the index, and those that were forgotten: a task whose counts go from here to there is
// counted once.
func (y *tally) addPart(m *Manager, p *indexPart) {
	m.mu.Lock()
	defer m.mu.Unlock()
	y.counts.add(p.forgotten)
	// Several at a time, whose memory is read at once: to lock one waits for its own.
	var (
		some [16]*Task
		n    int
	)
	for t := range p.all {
		_ = t.State()
		some[n] = t
		if n++; n == len(some) {
			y.addTasks(some[:n])
			n = 0
		}
	}
	y.addTasks(some[:n])
}

func (y *tally) addTasks(tasks []*Task) {
	for _, t := range tasks {
		t.mu.Lock()
		state, total := t.State(), t.totalsLocked()
		t.mu.Unlock()
		y.add(state, total)
	}
}

// add adds one task.
func (y *tally) add(s State, total counts) {
	y.states[s]++
	y.counts.add(total)
}

func (y *tally) totals(m *Manager) Totals {
	s := Totals{
		Waiting: y.states[StateWaiting], Running: y.states[StateRunning], Backoff: y.states[StateBackoff],
		Stopping: y.states[StateStopping], Stuck: y.states[StateStuck], Paused: y.states[StatePaused], Completed: y.states[StateCompleted],
		Failed: y.states[StateFailed], Stopped: y.states[StateStopped],
		FailedForgotten: y.failedForgotten, Runs: y.runs, Failures: y.failures, Panics: y.panics,
	}
	s.ReportsDelivered, s.ReportsWaiting, s.ReportsLost = m.bus.counts()
	return s
}

// totalsLocked returns the counts over all lives of the task.
func (t *Task) totalsLocked() counts {
	c := counts{runs: t.runs}
	if t.record != nil {
		c.failures, c.panics = t.record.failures, t.record.panics
	}
	return c
}
