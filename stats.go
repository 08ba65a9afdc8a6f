package taskmanager

import (
	"encoding/json"
	"slices"
	"time"
)

// A State is where a task is in its life. The zero value is StateWaiting.
type State uint32

// The states of a task. The last three are its end.
const (
	StateWaiting   State = iota // started; its first run has not begun, or the next one waits for a dependency
	StateRunning                // the body executes
	StateBackoff                // waits for its next run
	StateStopping               // was asked to stop or to restart, or its run was canceled; the body has not returned
	StateStuck                  // as StateStopping, and the deadline has passed
	StateCompleted              // has ended: the body returned nil
	StateFailed                 // has ended: was given up
	StateStopped                // has ended: was stopped
)

var stateNames = [...]string{"waiting", "running", "backoff", "stopping", "stuck", "completed", "failed", "stopped"}

// String returns the state in lower case: "running".
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// MarshalText implements [encoding.TextMarshaler].
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Ended reports whether the state is one of the last three: nothing executes, and the name is free.
func (s State) Ended() bool { return s >= StateCompleted }

func (s State) stopping() bool { return s == StateStopping || s == StateStuck }

// TaskStats is a snapshot of one task. All of it is of the same moment. Counts begin at StartTask,
// and anew when a restart by hand revives an ended task.
type TaskStats struct {
	Name   string
	State  State
	Status string // what the body of the latest run has said with SetStatus, or for whom the task waits

	Ready     bool     // it runs, and has called Ready if it has to (see WithReadiness)
	Critical  bool     // see WithCritical
	DependsOn []string // see WithDependsOn

	Runs             uint64 // started
	Restarts         uint64 // runs after the first, those by hand included
	Failures         uint64
	Panics           uint64 // failures that were panics
	RestartsInWindow int    // that count against the limit; with Unlimited, counted up to 1,000

	StartedAt    time.Time     // of the task
	RunStartedAt time.Time     // of the run that executes now; zero if none does
	Uptime       time.Duration // of the run that executes now; zero if none does
	NextRunAt    time.Time     // in StateBackoff; the fleet-wide limit may delay it further
	NextPassAt   time.Time     // while the run waits for a pass of Every or OnSchedule; a century off at most
	EndedAt      time.Time     // zero until the task has ended

	LastError   error // the latest failure; nil if there was none
	LastErrorAt time.Time

	Group *ManagerStats // of the latest run of a Group; nil for any other task
}

// Stats returns a snapshot of the task.
func (t *Task) Stats() TaskStats {
	var s TaskStats
	t.snapshot(&s, time.Now())
	return s
}

// snapshot fills s, which is zero, and returns the counts over all lives of the task.
func (t *Task) snapshot(s *TaskStats, now time.Time) counts {
	total, group := t.snapshotAlone(s, now)
	if group != nil {
		inner := group.Stats()
		s.Group = &inner
	}
	return total
}

// snapshotAlone is snapshot without s.Group. It returns the Manager of the group, if the task is one.
func (t *Task) snapshotAlone(s *TaskStats, now time.Time) (total counts, group *Manager) {
	waitsFor := t.waitsFor()
	t.mu.Lock()
	defer t.mu.Unlock()
	s.Name, s.State = t.name, t.State()
	s.Ready, s.Critical, s.DependsOn = t.readyLocked(), t.config.critical, slices.Clone(t.config.dependsOn)
	s.StartedAt = time.Unix(0, t.startedAt)
	s.Runs = t.runs
	if t.extras != nil {
		s.Status, group = t.extras.status, t.extras.group
	}
	if s.State.Ended() {
		s.EndedAt = time.Unix(0, t.endedAt)
	}
	if s.State == StateWaiting {
		s.Status = waitsFor
	}
	if t.run != nil {
		s.RunStartedAt = t.run.started.Round(0)
		s.Uptime = max(0, now.Sub(t.run.started))
		if t.extras != nil && t.extras.nextPassAt != 0 {
			s.NextPassAt = time.Unix(0, t.extras.nextPassAt)
		}
	}
	if s.State == StateBackoff {
		s.NextRunAt = time.Unix(0, t.past.nextRunAt)
	}
	if p := t.past; p != nil {
		s.Runs -= p.before.runs
		s.Failures = p.failures - p.before.failures
		s.Panics = p.panics - p.before.panics
		s.RestartsInWindow = p.restarts.Count(now, t.config.window)
		s.LastError, s.LastErrorAt = p.lastErr, p.lastErrAt
	}
	if s.Runs > 0 {
		s.Restarts = s.Runs - 1
	}
	return t.totalLocked(), group
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
		Name             string    `json:"name"`
		State            State     `json:"state"`
		Status           string    `json:"status,omitempty"`
		Ready            bool      `json:"ready"`
		Critical         bool      `json:"critical,omitempty"`
		DependsOn        []string  `json:"depends_on,omitempty"`
		Runs             uint64    `json:"runs"`
		Restarts         uint64    `json:"restarts"`
		Failures         uint64    `json:"failures"`
		Panics           uint64    `json:"panics"`
		RestartsInWindow int       `json:"restarts_in_window"`
		StartedAt        time.Time `json:"started_at,omitzero"`
		RunStartedAt     time.Time `json:"run_started_at,omitzero"`
		UptimeSeconds    float64   `json:"uptime_seconds,omitempty"`
		NextRunAt        time.Time `json:"next_run_at,omitzero"`
		NextPassAt       time.Time `json:"next_pass_at,omitzero"`
		EndedAt          time.Time `json:"ended_at,omitzero"`
		LastError        *string   `json:"last_error,omitempty"`
		LastErrorAt      time.Time `json:"last_error_at,omitzero"`

		Group *ManagerStats `json:"group,omitempty"`
	}{
		s.Name, s.State, s.Status, s.Ready, s.Critical, s.DependsOn, s.Runs, s.Restarts, s.Failures, s.Panics, s.RestartsInWindow,
		s.StartedAt, s.RunStartedAt, s.Uptime.Seconds(), s.NextRunAt, s.NextPassAt, s.EndedAt, lastError, s.LastErrorAt, s.Group,
	})
}

// ManagerStats is a snapshot of a Manager: one of each task that is supervised or remembered, each
// consistent in itself, and totals.
type ManagerStats struct {
	Name  string               `json:"name,omitempty"`
	Tasks map[string]TaskStats `json:"tasks"`

	// How many of Tasks are in which state.
	Waiting   int `json:"waiting"`
	Running   int `json:"running"`
	Backoff   int `json:"backoff"`
	Stopping  int `json:"stopping"`
	Stuck     int `json:"stuck"`
	Completed int `json:"completed"`
	Failed    int `json:"failed"`
	Stopped   int `json:"stopped"`

	// Since New, of all tasks, forgotten ones and earlier lives of revived ones included: these
	// never decrease.
	Runs     uint64 `json:"runs"`
	Failures uint64 `json:"failures"`
	Panics   uint64 `json:"panics"`

	// Events for the reporters, each counted once for each Reporter.
	ReportsDelivered uint64 `json:"reports_delivered"`
	ReportsWaiting   uint64 `json:"reports_waiting"`
	ReportsLost      uint64 `json:"reports_lost"` // the Reporter failed too often, or there was no time left in Shutdown
}

// Stats returns a snapshot. It takes time in proportion to the number of tasks, and holds up none
// of them.
func (m *Manager) Stats() ManagerStats {
	m.mu.Lock()
	tasks := m.knownLocked()
	retired := m.retired
	m.mu.Unlock()

	s := ManagerStats{
		Name: m.config.name, Tasks: make(map[string]TaskStats, len(tasks)),
		Runs: retired.runs, Failures: retired.failures, Panics: retired.panics,
	}
	var (
		states [len(stateNames)]int
		now    = time.Now()
	)
	for _, t := range tasks {
		var ts TaskStats
		total := t.snapshot(&ts, now)
		s.Tasks[ts.Name] = ts
		states[ts.State]++
		s.Runs += total.runs
		s.Failures += total.failures
		s.Panics += total.panics
	}
	s.Waiting, s.Running = states[StateWaiting], states[StateRunning]
	s.Backoff, s.Stopping, s.Stuck = states[StateBackoff], states[StateStopping], states[StateStuck]
	s.Completed, s.Failed, s.Stopped = states[StateCompleted], states[StateFailed], states[StateStopped]
	s.ReportsDelivered, s.ReportsWaiting, s.ReportsLost = m.bus.counts()
	return s
}

// totalLocked returns the counts over all lives of the task.
func (t *Task) totalLocked() counts {
	c := counts{runs: t.runs}
	if t.past != nil {
		c.failures, c.panics = t.past.failures, t.past.panics
	}
	return c
}
