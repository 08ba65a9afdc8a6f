package taskmanager

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// awaitDependencies returns true when all tasks that this one depends on are ready. If one is not, it waits until that may
// have changed, or until somebody asks the task for something, and returns false. Meanwhile the task is in StateWaiting.
func (d *driver) awaitDependencies() bool {
	t := d.task
	for {
		name := t.config().manager.firstUnready(t.config().dependsOn)
		if name == "" {
			return true
		}
		if !d.awaitReadiness(name) {
			return false
		}
	}
}

// awaitReadiness returns true if the task of that name is ready by now; otherwise, it waits as awaitDependencies does.
func (d *driver) awaitReadiness(name string) bool {
	m := d.task.config().manager
	c := m.watchReadiness(name)
	defer m.unwatchReadiness(name, c)
	if m.firstUnready([]string{name}) == "" {
		return true // since it was found unready
	}
	d.hold(c)
	return false
}

// hold waits for c.
func (d *driver) hold(c *readinessChange) {
	t := d.task
	n := decision{input: holdNow, driver: d.id, now: time.Now()}
	t.decide(&n)
	t.drainLog() // of a restart by hand, which is done by that
	if n.phase != waiting {
		return
	}
	if t.config().lease != nil {
		d.releaseLease() // others can run it meanwhile
	}
	t.mu.Lock()
	if t.driver != d.id || t.machine.phase != waiting || t.linesWaitLocked() { // since
		t.mu.Unlock()
		return
	}
	wake := t.parkLocked() // before the look, so that no change after it is missed
	t.mu.Unlock()
	defer d.unpark()
	d.checkDoomed()
	if timer := t.watchUnstarted(); timer != nil {
		defer timer.Stop()
	}
	d.held = true
	select {
	case <-c.happened:
	case <-wake:
	}
}

// unstartedAfter is how long a task waits for one that has not been started before the log says so. It may have a wrong name.
const unstartedAfter = 10 * time.Second

// watchUnstarted returns the timer of a warning that t, which begins to wait, waits for a task that has not been started; nil if all
// have been.
func (t *Task) watchUnstarted() *time.Timer {
	if len(t.unstarted()) == 0 {
		return nil
	}
	return time.AfterFunc(unstartedAfter, t.warnOfUnstarted)
}

// unstarted returns those of the names that t depends on which no task has.
func (t *Task) unstarted() (names []string) {
	for _, name := range t.config().dependsOn {
		if _, ok := t.config().manager.Lookup(name); !ok {
			names = append(names, name)
		}
	}
	return names
}

// warnOfUnstarted warns of each task that t waits for, and that has not been started: of each once in a life of t.
func (t *Task) warnOfUnstarted() {
	names := t.unstarted()
	t.mu.Lock()
	if t.machine.phase != waiting {
		names = nil // by now
	}
	x := t.lazyLocked().rareLocked()
	names = slices.DeleteFunc(names, func(name string) bool { return x.warnedOf[name] })
	for _, name := range names {
		if x.warnedOf == nil {
			x.warnedOf = make(map[string]bool)
		}
		x.warnedOf[name] = true
	}
	t.mu.Unlock()
	for _, name := range names {
		t.config().manager.bus.logAtLevelLater(slog.LevelWarn, "task waits for a task that has not been started",
			slog.String("task", t.path()), slog.String("waits_for", name))
	}
}

// checkDoomed notes whether the task waits for one that was given up: it will wait until somebody restarts that.
func (d *driver) checkDoomed() {
	t := d.task
	m := t.config().manager
	m.mu.Lock() // nobody is revived, or takes over a name, while it looks
	err := m.doomOf(t)
	if err != nil && t.config().critical && !m.waitsForFailedLocked(t, make(map[*Task]bool)) {
		err = nil // the one that it waits for has yet to look, and will say so
	}
	t.mu.Lock()
	current := t.driver == d.id && t.machine.phase == waiting
	changed := current && !sameDoom(err, t.doomedLocked())
	if changed {
		t.lazyLocked().doomed = err
		switch {
		case !t.config().critical:
		case err != nil:
			m.recordCriticalExitLocked(t, err)
		default:
			m.clearCriticalExitLocked(t)
		}
	}
	t.mu.Unlock()
	m.mu.Unlock()
	if changed {
		m.doomChanged(t) // who waits for this one is doomed, too, or not any more, or by another one
	}
}

// doomOf returns an error that names the tasks because of which t will wait until somebody restarts one; nil if there is
// none. Of one that waits itself it says what that has found when it looked last.
func (m *Manager) doomOf(t *Task) error {
	for _, name := range t.config().dependsOn {
		d, ok := m.Lookup(name)
		if !ok {
			continue
		}
		d.mu.Lock()
		is, err := d.machine.phase, d.errLocked()
		if is == waiting {
			err = d.doomedLocked()
		}
		d.mu.Unlock()
		if is == failed || is == waiting && err != nil {
			return &doomError{t.name, name, is == failed, err}
		}
	}
	return nil
}

// waitsForFailedLocked reports whether t waits for a task that has failed, or for one that does, by what they are at this moment. seen
// are those that have been looked at.
func (m *Manager) waitsForFailedLocked(t *Task, seen map[*Task]bool) bool {
	for _, name := range t.config().dependsOn {
		d := m.tasks.find(name)
		if d == nil || seen[d] {
			continue
		}
		seen[d] = true
		d.mu.Lock()
		is := d.machine.phase
		d.mu.Unlock()
		if is == failed || is == waiting && m.waitsForFailedLocked(d, seen) {
			return true
		}
	}
	return false
}

// A doomError says for whom a task waits in vain. It is made where user code must not be called, and calls that of err when it is asked.
type doomError struct {
	task, on string
	gaveUp   bool  // on was given up; otherwise it waits likewise
	err      error // of on
}

func (e *doomError) Error() string {
	text := fmt.Sprintf("taskmanager: task %q waits for task %q", e.task, e.on)
	if e.gaveUp {
		text += ", which was given up"
	}
	return text + ": " + errorText(e.err)
}

func (e *doomError) Unwrap() error { return e.err }

// sameDoom reports whether a and b, which are of one task, or nil, say the same.
func sameDoom(a, b error) bool {
	x, _ := a.(*doomError) //nolint:errorlint // it is never wrapped there
	y, _ := b.(*doomError) //nolint:errorlint // likewise
	if x == nil || y == nil {
		return x == y
	}
	return x.on == y.on && x.gaveUp == y.gaveUp && isSame(x.err, y.err)
}

// doomedLocked returns for whom the task waits in vain, as it has found when it looked last.
func (t *Task) doomedLocked() error {
	if t.lazy == nil {
		return nil
	}
	return t.lazy.doomed
}

// A readinessChange is what those wait for who wait for a task to be ready.
type readinessChange struct {
	happened chan struct{} // closed when they should look again
	waiters  int           // guarded by the Manager's mu
}

// watchReadiness returns what happens when the task of that name may have become ready.
func (m *Manager) watchReadiness(name string) *readinessChange {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.changes[name]
	if c == nil {
		c = &readinessChange{happened: make(chan struct{})}
		if m.changes == nil {
			m.changes = make(map[string]*readinessChange)
		}
		m.changes[name] = c
	}
	c.waiters++
	m.readyWaiters.Add(1) // before whoever waits looks
	return c
}

// unwatchReadiness takes watchReadiness back.
func (m *Manager) unwatchReadiness(name string, c *readinessChange) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c.waiters--
	m.readyWaiters.Add(-1)
	if c.waiters == 0 && m.changes[name] == c {
		delete(m.changes, name)
	}
}

// awaitReadinessOf waits until t may have become ready, or has ended. It returns true if there is nothing more to wait for, with what
// WaitReady returns.
func (m *Manager) awaitReadinessOf(ctx context.Context, t *Task) (done bool, err error) {
	c := m.watchReadiness(t.name)
	defer m.unwatchReadiness(t.name, c)
	if done, err = t.readiness(); done {
		return true, err // since it was found unready
	}
	select {
	case <-c.happened:
		return false, nil
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
}

// readiness returns true if t is ready, or has ended, with what WaitReady returns then.
func (t *Task) readiness() (done bool, err error) {
	if _, ready := t.checkReady(); ready {
		return true, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.machine.phase {
	case completed:
		return true, nil
	case failed:
		return true, t.errLocked()
	case stopped:
		return true, fmt.Errorf("%w: %q was stopped", ErrTaskNotRunning, t.name)
	}
	return false, nil
}

// readinessChanged has those who wait for t look whether it is ready. It is called without locks.
func (m *Manager) readinessChanged(t *Task) {
	if m.config.groupTask != nil {
		m.groupReadinessChanged()
	}
	if m.readyWaiters.Load() == 0 {
		return
	}
	m.mu.Lock()
	c := m.changes[t.name]
	delete(m.changes, t.name)
	m.mu.Unlock()
	if c != nil {
		close(c.happened)
	}
}

// doomChanged has those look again who wait for t, which was given up, or waits for one that was, or does so no longer. Who waits
// for several tasks hears of the readiness of the first alone, and is woken besides. It is called without locks.
func (m *Manager) doomChanged(t *Task) {
	m.readinessChanged(t)
	if m.dependentCount.Load() == 0 {
		return
	}
	for dependents := range m.dependentsOf(t.name) {
		for _, d := range dependents {
			if len(d.config().dependsOn) == 1 || d.State() != StateWaiting {
				continue
			}
			d.mu.Lock()
			if d.machine.phase == waiting {
				d.lazy.wakeParked() // one that is not parked looks anyway
			}
			d.mu.Unlock()
		}
	}
}

// dependentsAtOnce is how many dependents are looked up with the Manager's mu held. With 50,000 it would be held for 20 ms.
const dependentsAtOnce = 256

// dependentsOf iterates over the tasks that depend on the one of that name, in pieces. It takes the Manager's mu for each, and
// yields without it: others get the lock meanwhile. One that begins to depend on it during the iteration may be left out. A
// piece is only valid until the next one.
func (m *Manager) dependentsOf(name string) iter.Seq[[]*Task] {
	return func(yield func([]*Task) bool) {
		var piece []*Task
		m.mu.Lock()
		for d := range m.dependents[name] { // which may change between two pieces, as any map may in the body of its loop
			if piece = append(piece, d); len(piece) < dependentsAtOnce {
				continue
			}
			m.mu.Unlock()
			if !yield(piece) {
				return
			}
			piece = piece[:0]
			m.mu.Lock()
		}
		m.mu.Unlock()
		yield(piece)
	}
}

// waitingStatus says for whom t waits, in words; it is empty if t doesn't wait. It is called without
// locks.
func (t *Task) waitingStatus() string {
	if t.State() != StateWaiting {
		return ""
	}
	if unready := t.config().manager.describeUnready(t.config().dependsOn); unready != "" {
		return "waiting for " + unready
	}
	return t.leaseStatus() // or it is about to run
}

// firstUnready returns the first of names that is no task which is ready; "" if all are ready.
func (m *Manager) firstUnready(names []string) string {
	for _, name := range names {
		t, ok := m.Lookup(name)
		if !ok {
			return name
		}
		if _, ready := t.checkReady(); !ready {
			return name
		}
	}
	return ""
}

// describeUnready lists those of names that are no task which is ready: `"a" (not started), "b" (backoff)`; ten at most.
func (m *Manager) describeUnready(names []string) string {
	var unready nameList
	for _, name := range names {
		why := "not started"
		if t, ok := m.Lookup(name); ok {
			var ready bool
			if why, ready = t.checkReady(); ready {
				continue
			}
		}
		if unready.count++; unready.count <= mostNamed {
			unready.names = append(unready.names, fmt.Sprintf("%q (%s)", name, why))
		}
	}
	return unready.String()
}

// checkReady reports whether those that depend on t may run, or else why not. It is called without locks.
func (t *Task) checkReady() (why string, ready bool) {
	t.mu.Lock()
	s := t.State()
	ready = s == StateCompleted || t.readyLocked()
	group := t.groupLocked()
	t.mu.Unlock()
	switch {
	case ready && s == StateRunning && t.config().isGroup:
		ready = group.groupReady()
	case s == StateCompleted:
		return "", true
	}
	switch {
	case ready:
		return "", true
	case s == StateRunning:
		return "not ready", false
	}
	return s.String(), false
}

// readyLocked reports whether t runs and has said that it is ready, if it has to say so. A group has to be asked besides.
func (t *Task) readyLocked() bool {
	return t.machine.phase == running && t.hasSaidReadyLocked()
}

// hasSaidReadyLocked reports whether the run that is under way has said that it is ready, if it has to.
func (t *Task) hasSaidReadyLocked() bool {
	return t.config().readiness == 0 || t.lazy != nil && t.lazy.watched != nil && t.lazy.watched.ready
}

// findDependents finds out what events of t will say of those who depend on it, for the effects that n is about to have. It is
// called without locks.
func (n *decision) findDependents(t *Task, do effect) {
	m := t.config().manager
	if do&publishRunEnd != 0 && t.isAwaited() { // one that fails again and again does not look at all of those that run meanwhile
		n.holdsUp = m.dependentsIn(t, StateWaiting)
	}
	if do&(publishGaveUp|noLongerStuck) != 0 {
		n.takesDown = m.takenDownBy(t)
	}
}

// isAwaited reports whether somebody waits for t to be ready.
func (t *Task) isAwaited() bool {
	m := t.config().manager
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changes[t.name] != nil
}

// takenDownBy returns those whose next run can't begin as long as t is not ready; nil if there are none. It is called without locks.
func (m *Manager) takenDownBy(t *Task) *nameList {
	return m.dependentsIn(t, StateWaiting, StateBackoff, StateRunning)
}

// dependentsIn returns the tasks in those states that depend on t, or on one of them that doesn't run, or will not because it is bound.
func (m *Manager) dependentsIn(t *Task, states ...State) *nameList {
	if m.dependentCount.Load() == 0 {
		return nil
	}
	var (
		found nameList
		seen  map[*Task]struct{}
		names = []string{t.name} // of those whose dependents are to be found
	)
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		for piece := range m.dependentsOf(name) {
			for _, d := range piece {
				s := d.State()
				if _, known := seen[d]; known || !slices.Contains(states, s) {
					continue
				}
				if seen == nil {
					seen = make(map[*Task]struct{})
				}
				seen[d] = struct{}{}
				found.add(d.path(), mostNamed)
				if s != StateRunning || slices.Contains(d.config().bindTo, name) {
					names = append(names, d.name)
				}
			}
		}
	}
	if found.count == 0 {
		return nil
	}
	return &found
}

// warnOfDependents warns of what has happened to t alone, if others depend on it.
func (m *Manager) warnOfDependents(t *Task, message string) {
	if d := m.takenDownBy(t); d != nil {
		m.bus.log(slog.LevelWarn, message,
			slog.String("task", t.path()), slog.String("dependents", d.String()))
	}
}

// addDependentLocked notes what t, which is about to be known, depends on.
func (m *Manager) addDependentLocked(t *Task) {
	if len(t.config().dependsOn) == 0 {
		return
	}
	m.dependentCount.Add(1)
	if len(t.config().bindTo) > 0 {
		m.boundCount.Add(1)
	}
	if m.dependents == nil {
		m.dependents = make(map[string]map[*Task]struct{})
	}
	for _, name := range t.config().dependsOn {
		if dependents := m.dependents[name]; dependents != nil {
			dependents[t] = struct{}{}
			continue
		}
		m.dependents[name] = map[*Task]struct{}{t: {}}
		if d := m.tasks.find(name); d != nil && d.State().Ended() && m.listLocked(d) == nil {
			m.history.ended.remove(d) // others need it now
		}
	}
}

// removeDependentLocked takes addDependentLocked back.
func (m *Manager) removeDependentLocked(t *Task) {
	if len(t.config().dependsOn) == 0 {
		return
	}
	m.dependentCount.Add(-1)
	if len(t.config().bindTo) > 0 {
		m.boundCount.Add(-1)
	}
	for _, name := range t.config().dependsOn {
		dependents := m.dependents[name]
		d := m.tasks.find(name)
		unlisted := d != nil && d.State().Ended() && m.listLocked(d) == nil
		delete(dependents, t)
		if len(dependents) > 0 {
			continue
		}
		delete(m.dependents, name)
		if unlisted {
			m.listLocked(d).insert(d) // nobody needs it any more
		}
	}
}

// checkNeedsLocked refuses a task of that name and with that configuration that could never run, or whose lease is not that of others.
func (m *Manager) checkNeedsLocked(name string, c *taskConfig) error {
	if err := m.checkCycleLocked(name, c); err != nil {
		return err
	}
	return m.checkLeaseLocked(c)
}

// checkCycleLocked refuses a task of that name and with that configuration that would depend on itself, be it by way of others.
//
// A path to name ends with a task that depends on it. Most often there is none, and then there is nothing to search: a long
// chain that is started from its beginning is not searched again for each of its tasks.
func (m *Manager) checkCycleLocked(name string, c *taskConfig) error {
	if len(c.dependsOn) == 0 || !slices.Contains(c.dependsOn, name) && !m.hasLiveDependentLocked(name) {
		return nil
	}
	return cycleError(name, c, func(name string) []string {
		if t := m.tasks.find(name); t != nil && !t.State().Ended() {
			return t.config().dependsOn
		}
		return nil
	})
}

// cycleError refuses a task of that name that would depend on itself, be it by way of others, of which dependsOn says on whom they do.
func cycleError(name string, c *taskConfig, dependsOn func(name string) []string) error {
	seen := make(map[string]bool)
	var path []string // from a dependency of name to name, when it has been found
	var search func(names []string) bool
	search = func(names []string) bool {
		for _, d := range names {
			if d == name {
				path = []string{d}
				return true
			}
			if !seen[d] {
				seen[d] = true
				if search(dependsOn(d)) {
					path = append(path, d)
					return true
				}
			}
		}
		return false
	}
	if !search(c.dependsOn) {
		return nil
	}
	var cycle strings.Builder
	fmt.Fprintf(&cycle, "%q", name)
	for _, p := range slices.Backward(path) {
		fmt.Fprintf(&cycle, " -> %q", p)
	}
	option, names := "WithDependsOn", c.dependsOn
	if slices.Contains(c.bindTo, path[len(path)-1]) {
		option, names = "WithBindTo", c.bindTo
	}
	return &OptionError{Option: option, Value: quoted(names), Reason: "makes a cycle: " + cycle.String()}
}

// findCycles returns those of names, and of those that they depend on, be it by way of others, that depend on themselves. These are
// Tarjan's strongly connected components.
func findCycles(names iter.Seq[string], dependsOn func(name string) []string) (cyclic map[string]bool) {
	const done = -1
	var (
		numbers = make(map[string]int) // from 1 on, as they are found; done when it is known
		stack   []string
		visit   func(name string) (least int) // returns the least number that can be reached
	)
	cyclic = make(map[string]bool)
	visit = func(name string) (least int) {
		number, bottom := len(numbers)+1, len(stack)
		numbers[name] = number
		stack = append(stack, name)
		least = number
		for _, d := range dependsOn(name) {
			switch n := numbers[d]; {
			case d == name:
				cyclic[name] = true
			case n == 0:
				least = min(least, visit(d))
			case n != done:
				least = min(least, n)
			}
		}
		if least == number {
			component := stack[bottom:]
			for _, s := range component {
				numbers[s] = done
				cyclic[s] = cyclic[s] || len(component) > 1
			}
			stack = stack[:bottom]
		}
		return least
	}
	for name := range names {
		if numbers[name] == 0 {
			visit(name)
		}
	}
	return cyclic
}

// hasLiveDependentLocked reports whether a task that has not ended depends on the one of that name.
func (m *Manager) hasLiveDependentLocked(name string) bool {
	for d := range m.dependents[name] {
		if !d.State().Ended() {
			return true
		}
	}
	return false
}

func quoted(names []string) string {
	q := make([]string, len(names))
	for i, name := range names {
		q[i] = strconv.Quote(name)
	}
	return strings.Join(q, ", ")
}
