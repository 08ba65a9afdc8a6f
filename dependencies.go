package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// await returns when all tasks that t depends on are ready, or when t was asked to stop. Until then
// t is in StateWaiting.
func (t *Task) await() {
	names := t.config.dependsOn
	if len(names) == 0 {
		return
	}
	t.mu.Lock()
	wake := t.wakeChannelLocked()
	t.mu.Unlock()
	for announced := false; ; {
		if t.config.manager.missing(names) == "" || !t.wait() {
			return
		}
		if announced {
			<-wake
		}
		announced = true // what became ready before that has woken nobody: look again
	}
}

// wait notes that t waits for its dependencies. It returns false if t must not, because it was
// asked to stop.
func (t *Task) wait() bool {
	var restarts *waiter
	defer func() { restarts.resolve() }()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.requestLocked() > restartRequest {
		return false
	}
	if t.asked == restartRequest {
		t.asked = noRequest
		restarts = t.takeWaitersLocked(restartRequest) // the old run is over; the new one begins in time
	}
	t.setLocked(StateWaiting)
	t.run = nil // of a restart by hand
	return true
}

// waitsFor says for whom t waits, in words; it is empty if t doesn't wait. It is called without
// locks.
func (t *Task) waitsFor() string {
	if len(t.config.dependsOn) == 0 || t.State() != StateWaiting {
		return ""
	}
	missing := t.config.manager.missing(t.config.dependsOn)
	if missing == "" {
		return "" // it is about to run
	}
	return "waiting for " + missing
}

// missing lists those of names that are no task which is ready: `"a" (not started), "b" (backoff)`.
func (m *Manager) missing(names []string) string {
	var missing []string
	for _, name := range names {
		why := "not started"
		if t, ok := m.Lookup(name); ok {
			var ready bool
			if why, ready = t.readiness(); ready {
				continue
			}
		}
		missing = append(missing, fmt.Sprintf("%q (%s)", name, why))
	}
	return strings.Join(missing, ", ")
}

// readiness reports whether those that depend on t may run, or else why not.
func (t *Task) readiness() (why string, ready bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.State()
	switch {
	case s == StateCompleted, t.readyLocked():
		return "", true
	case s == StateRunning:
		return "not ready", false
	}
	return s.String(), false
}

// readyLocked reports whether t runs and has said that it is ready, if it has to say so.
func (t *Task) readyLocked() bool {
	return t.State() == StateRunning &&
		(t.config.readiness == 0 || t.extras != nil && t.extras.watched != nil && t.extras.watched.ready)
}

// wakeDependents has those who wait for t look whether it is ready.
func (m *Manager) wakeDependents(t *Task) {
	if m.depended.Load() == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for d := range m.dependents[t.name] {
		d.mu.Lock()
		if d.State() == StateWaiting { // any other pause is not to be ended
			d.wakeLocked()
		}
		d.mu.Unlock()
	}
}

// warnOfDependents warns that t was stopped alone, if others depend on it.
func (m *Manager) warnOfDependents(t *Task) {
	if m.depended.Load() == 0 {
		return
	}
	m.mu.Lock()
	var names []string
	for d := range m.dependents[t.name] {
		names = append(names, strconv.Quote(d.name))
	}
	m.mu.Unlock()
	if len(names) > 0 {
		slices.Sort(names)
		m.bus.log(slog.LevelWarn, "task was stopped, though others depend on it",
			slog.String("task", t.path()), slog.String("dependents", strings.Join(names, ", ")))
	}
}

// dependLocked notes what t, which is about to be alive, depends on.
func (m *Manager) dependLocked(t *Task) {
	if len(t.config.dependsOn) == 0 {
		return
	}
	m.depended.Add(1)
	if m.dependents == nil {
		m.dependents = make(map[string]map[*Task]struct{})
	}
	for _, name := range t.config.dependsOn {
		if m.dependents[name] == nil {
			m.dependents[name] = make(map[*Task]struct{})
		}
		m.dependents[name][t] = struct{}{}
	}
}

// undependLocked takes back dependLocked.
func (m *Manager) undependLocked(t *Task) {
	if len(t.config.dependsOn) == 0 {
		return
	}
	m.depended.Add(-1)
	for _, name := range t.config.dependsOn {
		delete(m.dependents[name], t)
		if len(m.dependents[name]) == 0 {
			delete(m.dependents, name)
		}
	}
}

// neededLocked reports whether others run because t has completed: if it were forgotten, they would
// wait for it at their next restart.
func (m *Manager) neededLocked(t *Task) bool {
	return t.State() == StateCompleted && len(m.dependents[t.name]) > 0
}

// checkCycleLocked refuses a task of that name that would depend on itself, be it by way of others.
func (m *Manager) checkCycleLocked(name string, dependsOn []string) error {
	seen := make(map[string]bool)
	var path []string // from a dependency of name to name, when it has been found
	var search func(dependsOn []string) bool
	search = func(dependsOn []string) bool {
		for _, d := range dependsOn {
			if d == name {
				path = []string{d}
				return true
			}
			if t := m.tasks.find(d); t != nil && !seen[d] {
				seen[d] = true
				if search(t.config.dependsOn) {
					path = append(path, d)
					return true
				}
			}
		}
		return false
	}
	if !search(dependsOn) {
		return nil
	}
	var cycle strings.Builder
	fmt.Fprintf(&cycle, "%q", name)
	for _, p := range slices.Backward(path) {
		fmt.Fprintf(&cycle, " -> %q", p)
	}
	return &OptionError{Option: "WithDependsOn", Value: quoted(dependsOn), Reason: "makes a cycle: " + cycle.String()}
}

func quoted(names []string) string {
	q := make([]string, len(names))
	for i, name := range names {
		q[i] = strconv.Quote(name)
	}
	return strings.Join(q, ", ")
}

// A turn is the stop of one task among others: it comes when those that depend on the task have
// stopped, or are stuck.
type turn struct {
	task      *Task
	after     []*turn       // its dependents
	before    []*turn       // what it depends on
	length    int           // of the longest chain of dependencies that begins with it, itself included
	unawaited bool          // the caller is this task, or is in the way of it: nobody waits for it
	done      chan struct{} // closed when the task has stopped or is stuck; err is set then
	err       error
}

// inTurns divides tasks into those that neither depend on another one of them nor have dependents
// among them, and the others.
func inTurns(tasks []*Task) (free []*Task, turns []*turn) {
	byName := make(map[string]*turn)
	turnOf := func(t *Task) *turn {
		if byName[t.name] == nil {
			byName[t.name] = &turn{task: t, done: make(chan struct{})}
		}
		return byName[t.name]
	}
	alive := make(map[string]*Task, len(tasks))
	for _, t := range tasks {
		alive[t.name] = t
	}
	for _, t := range tasks {
		for _, name := range t.config.dependsOn {
			if d := alive[name]; d != nil {
				dependent, dependency := turnOf(t), turnOf(d)
				dependent.before = append(dependent.before, dependency)
				dependency.after = append(dependency.after, dependent)
			}
		}
	}
	for _, t := range tasks {
		if byName[t.name] == nil {
			free = append(free, t)
		}
	}
	return free, slices.Collect(maps.Values(byName))
}

// measure sets length.
func (t *turn) measure() int {
	if t.length == 0 {
		for _, d := range t.before {
			t.length = max(t.length, d.measure())
		}
		t.length++
	}
	return t.length
}

// disown says that nobody waits for t, nor for what comes after it.
func (t *turn) disown() {
	if !t.unawaited {
		t.unawaited = true
		for _, d := range t.before {
			d.disown()
		}
	}
}

// take waits for the turn, asks the task for q, and waits for that. A deadline that is not zero is
// for all of the chain: each takes at most its share of what is left.
func (t *turn) take(q request, deadline time.Time) {
	defer close(t.done)
	for _, d := range t.after {
		<-d.done
	}
	timeout := t.task.config.stopTimeout
	if !deadline.IsZero() {
		timeout = min(timeout, max(0, time.Until(deadline))/time.Duration(t.length))
	}
	s := newStop(t.task.config.manager, q, timeout)
	s.tasks = []*Task{t.task}
	s.begin(time.Now())
	<-s.over
	t.err = s.err
}

// takeTurns stops tasks of which some depend on others, each when its turn has come. bounded is
// that of Manager.ask.
func takeTurns(ctx context.Context, turns []*turn, q request, bounded bool) {
	var deadline time.Time
	if bounded {
		deadline, _ = ctx.Deadline()
	}
	callers := tasksOf(ctx)
	for _, t := range turns {
		t.measure()
		if slices.Contains(callers, t.task) {
			t.disown()
		}
	}
	for _, t := range turns {
		go t.take(q, deadline)
	}
}

// waitForTurns returns when all of turns are over, but for those that nobody waits for, or when ctx
// is done; over says which. bounded is that of stop.wait.
func waitForTurns(ctx context.Context, turns []*turn, bounded bool) (errs []error, over bool) {
	over = true
	for _, t := range turns {
		if !t.unawaited {
			if t.wait(ctx, bounded) {
				errs = append(errs, t.err)
			} else {
				over = false // look at the others nevertheless: they may be over
			}
		}
	}
	return errs, over
}

// wait returns true when t is over, or false when ctx is done before.
func (t *turn) wait(ctx context.Context, bounded bool) bool {
	select {
	case <-t.done:
		return true
	default:
	}
	select {
	case <-t.done:
		return true
	case <-ctx.Done():
		if !bounded || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return false
		}
	}
	<-t.done // its deadline is now, too
	return true
}
