package taskmanager_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// modelOptions are those of a task of the model, and how its body is.
type modelOptions struct {
	policy      taskmanager.RestartPolicy
	most        int
	window      time.Duration
	initial     time.Duration // the longest delay is four times that
	healthy     time.Duration // 0: the window
	readiness   time.Duration
	watchdog    time.Duration
	stopTimeout time.Duration
	drain       time.Duration // less than the stop timeout; that of a group changes nothing
	cooldown    time.Duration
	dependsOn   []string // those of boundTo included
	boundTo     []string
	critical    bool

	every    time.Duration // its body makes a pass at each; 0: it makes none
	deaf     bool          // the body ignores that its context ends
	farewell string        // otherwise, how it ends then

	members []modelMember // of a group, whose body is that of Group
}

func (o modelOptions) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, at most %d restarts in %v after %v", [...]string{"on failure", "never", "always"}[o.policy], o.most, o.window, o.initial)
	for _, part := range []struct {
		name string
		d    time.Duration
	}{{"healthy after", o.healthy}, {"ready within", o.readiness}, {"watchdog", o.watchdog}, {"drain", o.drain}, {"cooldown", o.cooldown}, {"a pass every", o.every}} {
		if part.d > 0 {
			fmt.Fprintf(&b, ", %s %v", part.name, part.d)
		}
	}
	if len(o.dependsOn) > 0 {
		fmt.Fprintf(&b, ", depends on %v", o.dependsOn)
	}
	if len(o.boundTo) > 0 {
		fmt.Fprintf(&b, ", bound to %v", o.boundTo)
	}
	if o.critical {
		b.WriteString(", critical")
	}
	if o.isGroup() {
		return b.String() + ", group of " + fmt.Sprint(o.members)
	}
	if o.deaf {
		return b.String() + ", deaf"
	}
	return b.String() + ", farewell: " + o.farewell
}

func (o modelOptions) options() []taskmanager.TaskOption {
	opts := []taskmanager.TaskOption{
		taskmanager.WithRestart(o.policy), taskmanager.WithMaxRestarts(o.most), taskmanager.WithRestartWindow(o.window),
		taskmanager.WithBackoff(o.initial, 4*o.initial), taskmanager.WithStopTimeout(o.stopTimeout), taskmanager.WithDependsOn(localNames(o.dependsOn)...),
		taskmanager.WithBindTo(localNames(o.boundTo)...),
	}
	if o.healthy > 0 {
		opts = append(opts, taskmanager.WithHealthyAfter(o.healthy))
	}
	if o.readiness > 0 {
		opts = append(opts, taskmanager.WithReadiness(o.readiness))
	}
	if o.watchdog > 0 {
		opts = append(opts, taskmanager.WithWatchdog(o.watchdog))
	}
	if o.cooldown > 0 {
		opts = append(opts, taskmanager.WithCooldown(o.cooldown))
	}
	if o.drain > 0 {
		opts = append(opts, taskmanager.WithDrain(o.drain))
	}
	if o.critical {
		opts = append(opts, taskmanager.WithCritical())
	}
	return opts
}

// never is no time; all others are since the model began.
const never time.Duration = -1

// longHeartbeat is what a body announces now and then.
const longHeartbeat = 7 * time.Second

// A model is what a Manager should be. It has no goroutines: what happens at one moment happens in settle, and what the passing of
// time brings in sleep.
type model struct {
	*modelClock
	names       []string // of the tasks that there may be
	tasks       map[string]*modelTask
	retired     modelCounts // of tasks whose name was started anew
	closed      bool
	shut        bool   // Shutdown was called
	shutBy      string // by whom; empty if nobody has said
	inRun       bool   // somebody is in Run, which ends when a critical task is gone
	parentEnded bool
	parentCause errorSet // of its end
	stops       []*modelStop
	runs        []*modelRun
	logMood     string
	history     int
	gone        map[string]errorSet   // critical tasks that are, and why
	causes      map[string][]errorSet // of the contexts of all runs of the name; 0: not ended
	events      map[string][]eventView
}

type modelClock struct {
	now   time.Duration
	asker string // who asks, in the step that is taken; empty if nobody says
}

type modelCounts struct{ runs, failures, panics uint64 }

// What a task was asked for. A larger one overrides a smaller one, but for that to stop which came first.
type modelRequest int

const (
	askedNothing modelRequest = iota
	askedToFail
	askedByLoss // of a task that it is bound to: its run ends, and the next one waits
	askedToRestart
	askedToReplace
	askedToPause
	askedToRestartInVain // the body has not returned in time: the task stops
	askedToReplaceInVain // likewise
	askedToStop
	askedToStopAll
	askedToShutDown
	askedByParent
)

// stops reports whether the task is to stop for good.
func (q modelRequest) stops() bool { return q > askedToPause }

// inVain is what becomes of a request whose deadline has passed, if that is anything else.
func (q modelRequest) inVain() modelRequest {
	switch q {
	case askedToRestart:
		return askedToRestartInVain
	case askedToReplace:
		return askedToReplaceInVain
	}
	return askedNothing
}

// cause is what the body finds in its context.
func (q modelRequest) cause() errorSet {
	return [...]errorSet{
		askedByLoss: isLost, askedToRestart: isRestarted, askedToReplace: isReplaced, askedToPause: isPaused,
		askedToRestartInVain: isRestarted, askedToReplaceInVain: isReplaced, askedToStop: isStopped, askedToStopAll: isStopped, askedToShutDown: isShutdown,
	}[q]
}

type modelTask struct {
	model     *model
	name      string
	o         modelOptions
	state     taskmanager.State
	asked     modelRequest
	executing bool
	cooling   bool // in StatePaused
	ready     bool
	group     *modelGroup
	passes    *modelPasses // nil if its body makes none

	replaced   bool              // this life has begun by that
	replacedIn taskmanager.State // which was that of the one before

	doomed    bool        // waits for one that was given up
	doomedBy  errorSet    // why that was
	hanging   bool        // the log's handler hangs with a line of the task
	lines     []eventView // wait for that
	held      bool        // its next run waits for that
	entering  bool        // its body does
	late      errorSet    // why the run was canceled
	lateSince time.Duration
	drainedBy time.Duration // when the context of a run ends that drains; otherwise never
	lostSince time.Duration // when the run has lost what it is bound to
	readyBy   time.Duration
	beatBy    time.Duration
	promised  time.Duration // the heartbeat that was announced before it was ready
	waiters   []*modelStop

	restartedBy string // who is known to have restarted or replaced it since its latest run

	total                     modelCounts // in all lives
	counts                    modelCounts // in this one
	restarts                  []time.Duration
	delay                     time.Duration // the next one
	healthy                   bool          // a run has been, since the last one
	started, runStarted, over time.Duration
	nextRun                   time.Duration
	lastErr, err              errorSet
	lastErrAt                 time.Duration
	inARow                    int // failures
	failingSince              time.Duration
	gaveUp                    int           // failures of earlier lives that it has not recovered from
	gaveUpSince               time.Duration // when the first of them happened; never: there is no such life
	errRestarts               int
}

// A modelCall is a call of the Manager that may wait for several tasks.
type modelCall struct {
	stops   []*modelStop
	wants   modelRequest // that a task be restarted, replaced or paused; askedNothing: any other call
	quit    string       // Run: why it ends
	refused errorSet     // of a stop of several: what could not be asked
	outcome *outcomeOfCall
}

// A modelRun is a call of Run that has not begun to shut down.
type modelRun struct {
	call  *modelCall
	until time.Duration // when its context is done
}

// A modelStop is a request of one task.
type modelStop struct {
	call     *modelCall // nil: nobody waits for it
	task     *modelTask
	request  modelRequest
	timeout  time.Duration
	byHand   bool         // somebody has asked for it
	asker    string       // if that is known
	after    []*modelStop // it begins when these are over
	begun    bool
	deadline time.Duration
	over     bool
	stuck    bool         // at its deadline
	followed modelRequest // otherwise, what the task has done
	by       modelOptions // of the replacement
	refused  errorSet     // why those were not adopted
	below    errorSet     // what its body has said of something that still runs
	named    []string     // which names it by that
}

func newModel(history int) *model {
	return &model{
		modelClock: &modelClock{}, names: modelNames, parentCause: isParent,
		history: history, gone: make(map[string]errorSet), tasks: make(map[string]*modelTask), causes: make(map[string][]errorSet), events: make(map[string][]eventView),
	}
}

func (m *model) newTask(name string, o modelOptions) *modelTask {
	return &modelTask{model: m, name: name, o: o, passes: newModelPasses(o), delay: o.initial, started: m.now, over: never, readyBy: never, beatBy: never, drainedBy: never, lastErrAt: never, lostSince: never, gaveUpSince: never}
}

// causeOf is what the body of the task finds in its context.
func (t *modelTask) causeOf(q modelRequest) errorSet {
	if q == askedByParent {
		return t.model.parentCause
	}
	return q.cause()
}

func (m *model) start(name string, o modelOptions) errorSet {
	old := m.tasks[name]
	switch {
	case m.closed:
		return isClosed
	case m.reaches(o.dependsOn, name):
		return isRefused
	case old != nil && !old.state.Ended():
		return isTaken
	case old != nil:
		m.forget(name)
	}
	m.back(name)
	m.tasks[name] = m.newTask(name, o)
	return 0
}

// forget keeps nothing of a task that has ended but its counts.
func (m *model) forget(name string) {
	total := m.tasks[name].total
	m.retired.runs += total.runs
	m.retired.failures += total.failures
	m.retired.panics += total.panics
	delete(m.tasks, name)
}

// unneeded returns the tasks that have ended and matter to nobody.
func (m *model) unneeded() (tasks []*modelTask) {
	for _, name := range m.names {
		t := m.tasks[name]
		switch {
		case t == nil || !t.state.Ended() || t.state == taskmanager.StateFailed:
		case t.state == taskmanager.StateCompleted && (t.o.critical || m.hasDependents(name)):
		default:
			tasks = append(tasks, t)
		}
	}
	return tasks
}

func (m *model) hasDependents(name string) bool {
	for _, t := range m.tasks {
		if slices.Contains(t.o.dependsOn, name) {
			return true
		}
	}
	return false
}

func (m *model) remembersTooMuch() bool { return len(m.unneeded()) > m.history }

// oldest returns the names of those tasks of which one has to be forgotten next.
func (m *model) oldest() (names []string) {
	tasks := m.unneeded()
	first := slices.MinFunc(tasks, func(a, b *modelTask) int { return cmp.Compare(a.over, b.over) })
	for _, t := range tasks {
		if t.over == first.over {
			names = append(names, t.name)
		}
	}
	return names
}

// leaves notes that a critical task is gone, and why: 0 if it has completed, which says nothing during a shutdown. With Run under
// way, nothing begins from now on.
func (m *model) leaves(t *modelTask, why errorSet) {
	if t.o.critical {
		if why == 0 && !m.closed {
			why = isCompleted
		}
		m.gone[t.name] = why
		m.closed = m.closed || m.inRun
	}
}

// back takes that back, unless it is too late.
func (m *model) back(name string) {
	if !m.closed {
		delete(m.gone, name)
	}
}

// doom notes who waits for one that was given up.
func (m *model) doom() {
	for again := true; again; {
		again = false
		for _, name := range m.names {
			t := m.tasks[name]
			if t == nil || t.state != taskmanager.StateWaiting {
				continue
			}
			doomed, why := false, errorSet(0)
			for _, d := range t.o.dependsOn {
				switch d := m.tasks[d]; {
				case d == nil || doomed:
				case d.state == taskmanager.StateFailed:
					doomed, why = true, d.err
				case d.state == taskmanager.StateWaiting && d.doomed:
					doomed, why = true, d.doomedBy
				}
			}
			if doomed == t.doomed && why == t.doomedBy {
				continue
			}
			again, t.doomed, t.doomedBy = true, doomed, why
			if doomed {
				m.leaves(t, why)
			} else {
				m.back(name)
			}
		}
	}
}

// healthView is what Health should say.
func (m *model) healthView() healthView {
	v := healthView{Ready: !m.closed}
	for _, name := range m.names {
		t := m.tasks[name]
		if t == nil {
			if why := m.gone[name]; why != 0 { // it was stopped, and forgotten
				v.State = taskmanager.HealthFailing
				if why&isGiveUp == 0 {
					v.Problems = append(v.Problems, fmt.Sprintf("%s %v: %s, critical: true", name, taskmanager.StateStopped, taskmanager.HealthStuck))
				}
			}
			continue
		}
		mustBeReady := t.o.critical || t.o.readiness > 0
		ready := t.isReady()
		gone := m.gone[name] != 0 // 0: it has completed during a shutdown
		failures, _ := t.failing()
		restarts := t.inWindow(m.now)
		reason := taskmanager.HealthReason("")
		switch {
		case t.state == taskmanager.StateFailed, t.cooling:
			reason = taskmanager.HealthGivenUp
		case t.state == taskmanager.StatePaused:
			reason = taskmanager.HealthPaused
		case t.state == taskmanager.StateStuck:
			reason = taskmanager.HealthStuck
		case t.state == taskmanager.StateStopping && t.late != 0 && t.asked <= askedToReplace:
			reason = taskmanager.HealthNotReady
			if t.late == isWatchdog {
				reason = taskmanager.HealthHeartbeatOverdue
			}
		case t.state == taskmanager.StateCompleted && gone:
			reason = taskmanager.HealthCompleted
		case t.state == taskmanager.StateStopped && gone && m.gone[name]&isGiveUp != 0:
			v.State = taskmanager.HealthFailing // it has waited for one that was given up: see compareHealth
		case t.state == taskmanager.StateStopped && gone:
			reason = taskmanager.HealthStuck
		case t.state == taskmanager.StateStopping, t.state.Ended():
		case restarts >= 3 && t.o.most == taskmanager.Unlimited,
			restarts > 0 && t.o.most != taskmanager.Unlimited && 2*restarts >= t.o.most:
			reason = taskmanager.HealthCrashLoop
		case failures > 0 && (t.state == taskmanager.StateBackoff || t.passes != nil && t.passes.givenUp), failures > 1 && t.state == taskmanager.StateRunning:
			reason = taskmanager.HealthTaskFailing
		case !ready && (mustBeReady || len(t.o.dependsOn) > 0):
			reason = taskmanager.HealthNotReady
		}
		v.Ready = v.Ready && !gone && (!mustBeReady || ready || t.state == taskmanager.StateCompleted || t.isHalted())
		v.add(t)
		if reason == "" {
			continue
		}
		v.Problems = append(v.Problems, fmt.Sprintf("%s %v: %s, critical: %v", name, t.state, reason, t.o.critical))
		v.State = max(v.State, taskmanager.HealthDegraded)
		if gone || t.o.critical && reason == taskmanager.HealthStuck {
			v.State = taskmanager.HealthFailing
		}
	}
	slices.Sort(v.Problems)
	return v
}

// isHalted reports whether somebody wants the task not to run.
func (t *modelTask) isHalted() bool {
	return t.state == taskmanager.StateStopped || t.state == taskmanager.StatePaused && !t.cooling
}

// reaches reports whether one of names is name or depends on it. What has ended depends on nobody.
func (m *model) reaches(names []string, name string) bool {
	return slices.ContainsFunc(names, func(d string) bool {
		t := m.tasks[d]
		return d == name || t != nil && !t.state.Ended() && m.reaches(t.o.dependsOn, name)
	})
}

// isInCycle reports whether a task that was given up would depend on itself if another one that was ran again.
func (m *model) isInCycle(name string) bool {
	again := make(map[string]bool) // as if these were alive
	var reaches func(from string) bool
	reaches = func(from string) bool {
		t := m.tasks[from]
		if t == nil || again[from] || t.state.Ended() && t.state != taskmanager.StateFailed {
			return false
		}
		again[from] = true
		return slices.ContainsFunc(t.o.dependsOn, func(d string) bool { return d == name || reaches(d) })
	}
	return reaches(name)
}

func (m *model) returned(err errorSet, stuck ...string) *modelCall {
	return &modelCall{outcome: &outcomeOfCall{at: m.now, err: err, stuck: stuck}}
}

func (m *model) stop(name string, within time.Duration) *modelCall {
	t := m.tasks[name]
	switch {
	case t == nil:
		return m.returned(isNotFound)
	case t.state.Ended():
		return m.returned(isNotRunning)
	}
	return m.ask(t, askedToStop, within)
}

func (m *model) restart(name string, within time.Duration) *modelCall {
	t := m.tasks[name]
	switch {
	case t == nil:
		return m.returned(isNotFound)
	case m.closed:
		return m.returned(isClosed)
	case t.state.Ended() && m.reaches(t.o.dependsOn, name):
		return m.returned(isRefused)
	case t.state.Ended(): // afresh
		old := *t
		*t = *m.newTask(name, t.o)
		t.total, t.hanging, t.lines = old.total, old.hanging, old.lines
		if old.state == taskmanager.StateFailed {
			t.gaveUp, t.gaveUpSince = old.gaveUp, old.gaveUpSince
		}
		t.restartedBy = m.asker
		m.back(name)
		return m.returned(0)
	case t.state == taskmanager.StateStuck:
		return m.returned(isTimeout, localName(name))
	case t.state == taskmanager.StateStopping && t.asked > askedToReplace:
		return m.returned(t.causeOf(t.asked))
	case t.state == taskmanager.StateWaiting:
		t.isRestartedBy(m.asker)
		t.passes.beginAnew()
		return m.returned(0)
	}
	c := m.ask(t, askedToRestart, within)
	c.wants = askedToRestart
	return c
}

func (m *model) replace(name string, o modelOptions, within time.Duration) *modelCall {
	t := m.tasks[name]
	switch {
	case m.closed:
		return m.returned(isClosed)
	case m.reaches(o.dependsOn, name):
		return m.returned(isRefused)
	case t == nil:
		return m.returned(m.start(name, o))
	case t.state == taskmanager.StateStuck:
		return m.returned(isTimeout, localName(name))
	case t.state == taskmanager.StateStopping && t.asked > askedToReplace:
		return m.returned(t.causeOf(t.asked))
	case !t.executing:
		if m.adopts(t, o); t.state != taskmanager.StatePaused {
			t.restartedBy = m.asker
		}
		return m.returned(0)
	}
	c := m.ask(t, askedToReplace, within)
	c.wants, c.stops[0].by = askedToReplace, o
	return c
}

// adopts has a task begin a life with other options.
func (m *model) adopts(t *modelTask, o modelOptions) {
	paused := t.state == taskmanager.StatePaused && !t.cooling
	t.beginAfresh()
	old := *t
	*t = *m.newTask(t.name, o)
	t.total, t.hanging, t.lines, t.waiters = old.total, old.hanging, old.lines, old.waiters
	t.replaced, t.replacedIn = true, old.state
	if !old.state.Ended() || old.state == taskmanager.StateFailed {
		t.gaveUp, t.gaveUpSince = old.gaveUp, old.gaveUpSince
	}
	if !old.state.Ended() && old.inARow > 0 { // these would have been carried over when it was given up
		if t.gaveUp += old.inARow; t.gaveUpSince == never {
			t.gaveUpSince = old.failingSince
		}
	}
	if paused {
		t.state, t.asked = taskmanager.StatePaused, askedToPause
	}
	m.back(t.name)
}

// adoptsLatest has a task, whose body has returned, adopt what was asked for last, and tells those who wait for that.
func (m *model) adoptsLatest(t *modelTask) {
	isReplacement := func(s *modelStop) bool { return s.request == askedToReplace }
	var latest *modelStop
	for _, s := range t.waiters {
		if isReplacement(s) && !s.over {
			latest = s
		}
	}
	refused := errorSet(0)
	if m.reaches(latest.by.dependsOn, t.name) { // since it was asked for
		refused = isRefused
	} else {
		m.adopts(t, latest.by)
	}
	for _, s := range t.waiters {
		if isReplacement(s) && !s.over {
			s.over, s.followed, s.refused = true, askedToReplace, refused
		}
	}
	t.waiters = slices.DeleteFunc(slices.Clone(t.waiters), isReplacement)
	t.asked = askedToRestart // for those who wait for that
}

func (m *model) pause(name string, within time.Duration) *modelCall {
	t := m.tasks[name]
	switch {
	case t == nil:
		return m.returned(isNotFound)
	case t.state.Ended():
		return m.returned(isNotRunning)
	case t.state == taskmanager.StateStuck && t.asked.stops():
		return m.returned(isTimeout, localName(name))
	case t.state == taskmanager.StateStopping && t.asked.stops():
		return m.returned(t.causeOf(t.asked))
	}
	c := m.ask(t, askedToPause, within)
	c.wants = askedToPause
	return c
}

func (m *model) resume(name string) errorSet {
	t := m.tasks[name]
	switch {
	case t == nil:
		return isNotFound
	case m.closed:
		return isClosed
	case t.state != taskmanager.StatePaused:
		return isNotPaused
	}
	m.resumes(t, m.asker)
	return 0
}

// restartFailed returns how many run again, and why others could not.
func (m *model) restartFailed() (n int, refused errorSet) {
	for _, name := range m.names {
		switch t := m.tasks[name]; {
		case t == nil:
		case m.closed && (t.cooling || t.state == taskmanager.StateFailed):
			refused |= isClosed
		case t.cooling:
			m.resumes(t, m.asker)
			n++
		case t.state == taskmanager.StateFailed:
			if err := m.restart(name, 0).outcome.err; err != 0 {
				refused |= err
			} else {
				n++
			}
		}
	}
	return n, refused
}

// resumes has a task wait for its next run that is paused, or cools down.
func (m *model) resumes(t *modelTask, asker string) {
	if t.asked == askedToPause {
		t.asked = askedNothing
	}
	t.state, t.held = taskmanager.StateWaiting, false
	t.beginAfresh()
	m.emit(t, eventView{Kind: taskmanager.EventResumed, By: asker})
}

// pauses has a task wait until it is resumed, and tells who has asked for it.
func (m *model) pauses(t *modelTask, e eventView) {
	if t.state != taskmanager.StatePaused || t.cooling {
		t.state, t.doomed, t.doomedBy = taskmanager.StatePaused, false, 0
		t.beginAfresh()
		t.passes.pause()
		m.back(t.name)
		t.restartedBy = ""
		e.Kind, e.Cause, e.By = taskmanager.EventPaused, isPaused, t.askerOf(askedToPause)
		m.emit(t, e)
	}
	t.follow(askedToPause)
}

// beginAfresh forgets what counts against a task that has cooled down.
func (t *modelTask) beginAfresh() {
	if t.cooling {
		t.cooling, t.restarts, t.delay, t.healthy, t.inARow = false, nil, t.o.initial, false, 0
	}
}

func (m *model) ask(t *modelTask, q modelRequest, within time.Duration) *modelCall {
	s := &modelStop{task: t, request: q, timeout: t.o.stopTimeout, byHand: true, asker: m.asker}
	if within > 0 {
		s.timeout = min(s.timeout, within)
	}
	s.call = &modelCall{stops: []*modelStop{s}}
	m.stops = append(m.stops, s)
	return s.call
}

// stopSome stops the tasks of those names.
func (m *model) stopSome(names []string) *modelCall {
	refused := errorSet(0)
	for _, name := range names {
		switch t := m.tasks[name]; {
		case t == nil:
			refused |= isNotFound
		case t.state.Ended():
			refused |= isNotRunning
		}
	}
	c := m.stopEach(names, askedToStop)
	c.refused = refused
	if c.outcome != nil {
		c.outcome.err = refused
	}
	return c
}

func (m *model) stopAll(q modelRequest) *modelCall { return m.stopEach(m.names, q) }

// stopEach stops those first that depend on others.
func (m *model) stopEach(names []string, q modelRequest) *modelCall {
	c := &modelCall{}
	byName := make(map[string]*modelStop)
	for _, name := range names {
		if t := m.tasks[name]; t != nil && !t.state.Ended() {
			byName[name] = &modelStop{call: c, task: t, request: q, timeout: t.o.stopTimeout, byHand: q < askedToShutDown || m.asker != "", asker: m.asker}
			c.stops = append(c.stops, byName[name])
		}
	}
	for _, s := range c.stops {
		for _, d := range s.task.o.dependsOn {
			if byName[d] != nil {
				byName[d].after = append(byName[d].after, s)
			}
		}
	}
	m.stops = append(m.stops, c.stops...)
	if len(c.stops) == 0 {
		return m.returned(0)
	}
	return c
}

// shutDown closes the Manager and stops all tasks.
func (m *model) shutDown() *modelCall {
	m.closed, m.shut, m.shutBy = true, true, cmp.Or(m.shutBy, m.asker)
	return m.stopAll(askedToShutDown)
}

// run waits for a reason to shut down.
func (m *model) run(within time.Duration) *modelCall {
	if m.shut || m.closed && !m.hasAlive() {
		return m.returned(isClosed)
	}
	r := &modelRun{call: &modelCall{}, until: never}
	if within > 0 {
		r.until = m.now + within
	}
	m.runs, m.inRun = append(m.runs, r), true
	return r.call
}

func (m *model) hasAlive() bool {
	for _, t := range m.tasks {
		if !t.state.Ended() {
			return true
		}
	}
	return false
}

// quitRuns has all calls of Run shut down if there is a reason for one of them.
func (m *model) quitRuns() {
	reason := ""
	switch isDone := func(r *modelRun) bool { return r.until == m.now }; {
	case len(m.runs) == 0:
	case m.shut:
		reason = runShut
	case m.parentEnded:
		reason = runParent
	case len(m.gone) > 0:
		reason = runGone
	case slices.ContainsFunc(m.runs, isDone):
		reason = runDone
	}
	if reason == "" {
		return
	}
	defer func(asker string) { m.asker = asker }(m.asker)
	m.asker = m.shutBy
	for _, r := range m.runs {
		c := m.shutDown()
		for _, s := range c.stops {
			s.call = r.call
		}
		r.call.quit, r.call.stops = reason, c.stops
		if len(c.stops) == 0 {
			r.call.settle(m)
		}
	}
	m.runs, m.inRun = nil, false
}

// isAwaited reports whether somebody waits, or will, until the log and the reporters have been told.
func (m *model) isAwaited() bool { return m.closed || len(m.runs) > 0 }

// isDelicate reports whether the step, with Run under way, may have two things happen at the same moment, in any order.
func (m *model) isDelicate(s step) bool {
	switch {
	case s.onlyWaits():
		return false
	case m.hasJustCanceled():
		return true // if Run is to end, it asks at the same moment
	case s.stopsAll():
		for _, t := range m.tasks { // the turns of two stops would come at the same moment
			if !t.state.Ended() && len(t.o.dependsOn) > 0 {
				return true
			}
		}
		return false
	}
	if s.verb != "return" || m.executing(s.name) == "" {
		return false
	}
	name := m.executing(s.name)
	outer, _, _ := strings.Cut(name, "/")                      // with a task in it, a group may complete
	return m.tasks[outer].o.critical && m.hasDependents(outer) // they begin, and Run asks them to stop
}

// hasGroups reports whether there are groups. What it means for them that the log holds up the start of a body is left out.
func (m *model) hasGroups() bool {
	for _, t := range m.tasks {
		if t.o.isGroup() {
			return true
		}
	}
	return slices.ContainsFunc(m.stops, func(s *modelStop) bool { return s.by.isGroup() })
}

// logIs changes how the log's handler is. It goes on with the lines at which it hangs, and is like that for those that wait.
func (m *model) logIs(mood string) {
	m.logMood = mood
	for _, t := range m.tasks {
		lines := t.lines
		t.hanging, t.lines, t.held = false, nil, false
		if t.entering {
			m.enter(t)
		}
		for _, e := range lines {
			m.log(t, e)
		}
	}
}

// logHangs reports whether the log's handler hangs, or will.
func (m *model) logHangs() bool { return strings.HasPrefix(m.logMood, "hangs") }

// log tells the log of an event, unless an earlier line of the task has not been taken. It returns whether the handler hangs now.
func (m *model) log(t *modelTask, e eventView) bool {
	if t.hanging {
		t.lines = append(t.lines, e)
		return false
	}
	willRestart := e.Kind == taskmanager.EventFailed || e.Kind == taskmanager.EventPassGaveUp || e.Kind == taskmanager.EventCompleted && t.state == taskmanager.StateBackoff ||
		e.Kind == taskmanager.EventGaveUp && t.cooling
	early := e.Kind == taskmanager.EventStarted || willRestart
	last := !early && e.Kind != taskmanager.EventReady && e.Kind != taskmanager.EventResumed && e.Kind != taskmanager.EventRecovered && e.Kind != taskmanager.EventTriggered && (e.Kind != taskmanager.EventStopped || e.Err&(isRestarted|isReplaced|isLost) == 0)
	t.hanging = m.logMood == "hangs" && last || m.logMood == "hangs early" && early
	return t.hanging
}

// inTurns reports whether some tasks wait for others before they are asked to stop.
func (m *model) inTurns() bool {
	return slices.ContainsFunc(m.stops, func(s *modelStop) bool { return !s.begun })
}

// holdsInTurn reports whether a task waits for a dependency on which others depend in their turn.
func (m *model) holdsInTurn() bool {
	return slices.ContainsFunc(m.names, func(name string) bool {
		t := m.tasks[name]
		return t != nil && t.state == taskmanager.StateWaiting && m.hasDependents(name)
	})
}

// hasJustCanceled reports whether a run was canceled at this moment because it was late, or has lost what it is bound to. What is asked of the task now has the
// same deadline as that.
func (m *model) hasJustCanceled() bool {
	for _, t := range m.tasks {
		if t.late != 0 && t.lateSince == m.now || t.lostSince == m.now || t.group != nil && t.group.hasJustCanceled() {
			return true
		}
	}
	return false
}

func (m *model) endParent() {
	if !m.parentEnded {
		m.closed, m.parentEnded = true, true
		m.stopAll(askedByParent)
	}
}

// executing returns name if that task executes, or else the next one that does, or "".
func (m *model) executing(name string) string {
	first := slices.Index(bodyNames, name)
	for _, n := range slices.Concat(bodyNames[first:], bodyNames[:first]) {
		if t := m.of(n).tasks[n]; t != nil && t.obeys() {
			return n
		}
	}
	return ""
}

// obey is what follows when the body does what the verb says.
func (m *model) obey(name, verb string) {
	t := m.tasks[name]
	switch verb {
	case "ready":
		if t.o.readiness > 0 && t.state == taskmanager.StateRunning && !t.ready {
			m.becomesReady(t)
		}
	case "heartbeat":
		t.beat(m.now + t.o.watchdog)
	case "long heartbeat":
		t.beat(m.now + longHeartbeat)
	default:
		if verb != "fail by cause" || *m.cause(t) != 0 {
			m.ends(t, m.ending(t, verb))
		}
	}
}

func (m *model) becomesReady(t *modelTask) {
	t.ready, t.readyBy = true, never
	m.emit(t, eventView{Kind: taskmanager.EventReady})
	if !t.passes.judges() && m.now >= m.health(t.name) {
		m.recovers(t)
	}
	t.beat(max(m.now+t.o.watchdog, t.promised))
}

// beat notes by when the next heartbeat is due. The watchdog begins when the task is ready.
func (t *modelTask) beat(by time.Duration) {
	switch {
	case t.o.watchdog == 0 || t.o.isGroup(): // it watches over the start of a group, which takes no time
	case t.ready:
		t.beatBy = by
	default:
		t.promised = by
	}
}

// endings are the errors of the verbs that end a body.
var endings = map[string]errorSet{
	"return": 0, "fail": isFail, "panic": isPanic, "panic with error": isPanic | isFail, "goexit": isGoexit,
	"fail for good": isFail | isPermanent, "fail by canceled": isCanceled, "fail by stuck": isTimeout | isLeft,
}

// ending is the error of the body, if it ends as the verb says.
func (m *model) ending(t *modelTask, verb string) errorSet {
	if verb == "fail by cause" {
		return *m.cause(t)
	}
	return endings[verb]
}

// returns judges a run whose body has ended with that error.
func (m *model) returns(t *modelTask, err errorSet) {
	e := eventView{Kind: taskmanager.EventStopped, Uptime: m.now - t.runStarted}
	if t.state == taskmanager.StateRunning && (err != 0 || t.o.policy == taskmanager.RestartAlways || m.request(t) > askedToFail) {
		m.isLost(t)
	}
	t.executing, t.readyBy, t.beatBy, t.drainedBy = false, never, never, never
	t.passes.endRun()
	if t.state == taskmanager.StateStuck {
		m.back(t.name)
	}
	t.healthy = t.healthy || m.now >= m.health(t.name)
	asked := m.request(t)
	if err == 0 && asked == askedNothing {
		m.recovers(t)
	}
	switch {
	case t.late != 0:
		if err.isOnly(t.late) {
			err = 0 // the run's own context
		}
		err |= t.late
		t.late = 0
	case asked > askedToFail && err.isOnly(*m.cause(t)):
		err = 0 // likewise, whatever has been asked since
	}
	if !err.isOnly(t.causeOf(asked)) {
		e.Err = err
	}
	if asked > askedToFail {
		m.endContext(t, t.causeOf(asked)) // if it drains
	}
	switch {
	case asked.stops():
		m.end(t, taskmanager.StateStopped, e)
		return
	case (asked == askedByLoss || asked == askedToRestart || asked == askedToReplace) && err&isLeft == 0:
		e.Err |= t.causeOf(asked)
		e.Cause, e.By = t.causeOf(asked), t.askerOf(asked)
		m.emit(t, e)
		if asked == askedToReplace {
			m.adoptsLatest(t)
		}
		m.await(t)
		return
	case asked == askedToPause && err&isLeft == 0:
		m.pauses(t, e)
		return
	}
	e.Err = err
	if err == 0 {
		m.endContext(t, isCanceled)
	} else {
		m.endContext(t, err)
	}
	if err == 0 && t.o.policy != taskmanager.RestartAlways {
		m.end(t, taskmanager.StateCompleted, e)
		return
	}
	m.judge(t, e)
}

// judge restarts the task or gives it up.
func (m *model) judge(t *modelTask, e eventView) {
	err := e.Err
	final := t.o.policy == taskmanager.RestartNever || err&(isPermanent|isLeft) != 0
	e.Restarts = t.inWindow(m.now)
	limit := t.o.most != taskmanager.Unlimited && e.Restarts >= t.o.most
	if !final && limit && t.passes != nil && t.passes.failed {
		m.givesUpPass(t, e)
		return
	}
	if final || limit {
		t.fails(m.now, err)
		if t.gaveUp += t.inARow; t.gaveUpSince == never {
			t.gaveUpSince = m.now
			if t.inARow > 0 {
				t.gaveUpSince = t.failingSince
			}
		}
		e.Kind, e.Err = taskmanager.EventGaveUp, err|isGiveUp
		if !final {
			e.Err |= isTooMany
		}
		if t.o.cooldown > 0 && err&(isPermanent|isLeft) == 0 {
			e.Delay = t.o.cooldown
			t.asked = askedNothing
			t.follow(askedNothing)
			t.state, t.cooling, t.nextRun = taskmanager.StatePaused, true, m.now+e.Delay
			t.passes.beginAnew()
			m.emit(t, e)
			return
		}
		if !final {
			t.errRestarts = e.Restarts
		}
		t.err = e.Err
		m.end(t, taskmanager.StateFailed, e)
		return
	}
	if t.healthy {
		t.delay, t.healthy = t.o.initial, false
	}
	e.Delay = t.delay
	if t.passes != nil && t.passes.triggered {
		e.Delay = 0
	}
	t.delay = min(2*t.delay, 4*t.o.initial)
	t.fails(m.now, err)
	t.restarts = append(t.restarts, m.now)
	e.Restarts++
	e.Kind = taskmanager.EventFailed
	if err == 0 {
		e.Kind = taskmanager.EventCompleted
	}
	m.retries(t, e.Delay, e)
}

// retries has the next run begin after a delay.
func (m *model) retries(t *modelTask, delay time.Duration, e eventView) {
	t.asked = askedNothing
	t.follow(askedNothing)
	t.state, t.nextRun = taskmanager.StateBackoff, m.now+delay
	m.emit(t, e)
	if delay == 0 {
		m.await(t)
	}
}

func (t *modelTask) fails(now time.Duration, err errorSet) {
	if err == 0 {
		return
	}
	if t.inARow++; t.inARow == 1 {
		t.failingSince = now
	}
	t.counts.failures++
	t.total.failures++
	if err&isPanic != 0 && !t.o.isGroup() { // one of a task in it is none of the group
		t.counts.panics++
		t.total.panics++
	}
	t.lastErr, t.lastErrAt = err, now
}

// recovers is what follows when the latest run of a task is healthy.
func (m *model) recovers(t *modelTask) {
	if !t.hasFailed() {
		return
	}
	since := t.failingSince
	if t.gaveUpSince != never {
		since = t.gaveUpSince
	}
	m.emit(t, eventView{Kind: taskmanager.EventRecovered, Uptime: m.now - t.runStarted, Failures: t.gaveUp + t.inARow, FailedSince: since})
	t.inARow, t.gaveUp, t.gaveUpSince = 0, 0, never
}

// hasFailed reports whether there is something to recover from.
func (t *modelTask) hasFailed() bool { return t.inARow > 0 || t.gaveUpSince != never }

// failing returns how many failures in a row there have been, and since when.
func (t *modelTask) failing() (failures int, since time.Duration) {
	if t.inARow == 0 {
		return 0, never
	}
	return t.inARow, t.failingSince
}

func (t *modelTask) inWindow(now time.Duration) int {
	t.restarts = slices.DeleteFunc(t.restarts, func(at time.Duration) bool { return now-at >= t.o.window })
	return len(t.restarts)
}

// await begins the next run if all dependencies are ready.
func (m *model) await(t *modelTask) {
	switch {
	case m.request(t).stops():
		m.end(t, taskmanager.StateStopped, eventView{Kind: taskmanager.EventStopped})
	case t.asked == askedToPause:
		m.pauses(t, eventView{})
	case t.held:
	case slices.ContainsFunc(t.o.dependsOn, m.isMissing):
		t.beginAfresh()
		t.state = taskmanager.StateWaiting
		if t.asked == askedByLoss || t.asked == askedToRestart {
			t.asked = askedNothing
			t.follow(askedToRestart)
		}
	default:
		t.asked, t.state, t.executing, t.runStarted = askedNothing, taskmanager.StateRunning, true, m.now
		t.doomed, t.doomedBy, t.lostSince = false, 0, never
		t.beginAfresh()
		m.back(t.name)
		t.ready = t.o.readiness == 0
		t.promised = never
		t.passes.beginRun()
		t.counts.runs++
		t.total.runs++
		m.causes[t.contexts()] = append(m.causes[t.contexts()], 0)
		m.emit(t, eventView{Kind: taskmanager.EventStarted, By: t.restartedBy})
		t.restartedBy = ""
		if !t.entering {
			m.enter(t)
		}
		t.follow(askedToRestart)
	}
}

// enter enters the body. The time that it has to be ready, or until the first heartbeat, begins.
func (m *model) enter(t *modelTask) {
	t.entering = false
	if t.o.readiness > 0 {
		t.readyBy = m.now + t.o.readiness
	}
	t.beat(m.now + t.o.watchdog)
	m.beginGroup(t)
	m.enterPasses(t)
}

func (m *model) isMissing(name string) bool {
	t := m.tasks[name]
	return t == nil || t.state != taskmanager.StateCompleted && !t.isReady()
}

func (m *model) end(t *modelTask, s taskmanager.State, e eventView) {
	t.state, t.over, t.held, t.cooling = s, m.now, false, false
	switch s {
	case taskmanager.StateCompleted:
		e.Kind = taskmanager.EventCompleted
	case taskmanager.StateStopped:
		e.Cause, e.By = t.causeOf(t.asked), t.askerOf(t.asked)
		m.back(t.name)
	}
	if s != taskmanager.StateStopped {
		m.leaves(t, t.err)
	}
	t.doomed, t.doomedBy = false, 0
	m.emit(t, e)
	if s == taskmanager.StateStopped {
		for _, waits := range t.waiters {
			if e.Err&isLeft != 0 {
				waits.below, waits.named = e.Err, t.group.stuckNames()
			}
		}
		t.follow(t.asked)
	} else {
		t.follow(askedNothing)
	}
}

// follow tells those who wait for the task what it has done.
func (t *modelTask) follow(q modelRequest) {
	for _, s := range t.waiters {
		if !s.over {
			s.over, s.followed = true, q
		}
	}
	t.waiters = nil
}

// askerOf is who has asked first for what the task has followed, of those who wait for that; empty if that is not known.
func (t *modelTask) askerOf(followed modelRequest) string {
	var first *modelStop
	for _, s := range t.waiters {
		switch {
		case s.request != followed || !s.byHand || s.over:
		case first == nil:
			first = s
		case s.asker != first.asker && s.waitedAsLongAs(first):
			return oneOfThem
		}
	}
	if first == nil {
		return ""
	}
	return first.asker
}

// waitedAsLongAs reports whether both have had to wait for others, and asked at the same moment: who was first is chance.
func (s *modelStop) waitedAsLongAs(other *modelStop) bool {
	return len(s.after) > 0 && len(other.after) > 0 && s.deadline-s.timeout == other.deadline-other.timeout
}

// isRestartedBy notes who has restarted a task that does not run. The first counts that is known.
func (t *modelTask) isRestartedBy(asker string) { t.restartedBy = cmp.Or(t.restartedBy, asker) }

// request is what the task was asked for; the end of the parent asks everybody.
func (m *model) request(t *modelTask) modelRequest {
	if m.parentEnded && !t.asked.stops() {
		t.asked = askedByParent
	}
	return t.asked
}

// endContext ends the context of the latest run, unless it has ended.
func (m *model) endContext(t *modelTask, cause errorSet) {
	t.entering = false // who is asked to end needs not wait for the log
	if last := m.cause(t); *last == 0 {
		*last = cause
	}
}

// cause is why the context of the latest run has ended; 0 if it has not.
func (m *model) cause(t *modelTask) *errorSet {
	causes := m.causes[t.contexts()]
	return &causes[len(causes)-1]
}

// begin asks the task.
func (m *model) begin(s *modelStop) {
	t := s.task
	s.begun, s.deadline = true, m.now+s.timeout
	if t.state.Ended() {
		s.over = true
		return
	}
	t.waiters = append(t.waiters, s)
	if s.request == askedToRestart {
		t.passes.beginAnew()
	}
	if t.state == taskmanager.StatePaused && s.request == askedToRestart && !m.request(t).stops() {
		m.resumes(t, s.asker)
	}
	if !t.executing && s.request == askedToRestart && !m.request(t).stops() {
		t.isRestartedBy(s.asker)
	}
	if !m.request(t).stops() {
		t.asked = max(t.asked, s.request)
	}
	if !t.executing {
		t.held = false // nor who is asked for something else
		m.await(t)
		return
	}
	first := t.state == taskmanager.StateRunning
	if first {
		t.state = taskmanager.StateStopping
		m.isLost(t)
	}
	if t.drains(s, first) {
		return
	}
	if t.asked == askedToFail {
		m.endContext(t, t.late)
	} else {
		m.endContext(t, t.causeOf(t.asked))
	}
}

// drains reports whether a run of which something is asked, for the first time or again, goes on with its work in hand.
func (t *modelTask) drains(s *modelStop, first bool) bool {
	by := t.model.now + time.Duration(int64(t.o.drain)*int64(s.timeout)/int64(t.o.stopTimeout)) // 1.1e9 times 4.1e9 at most
	switch {
	case t.drainedBy != never:
		t.drainedBy = min(t.drainedBy, by)
	case first && !t.o.isGroup() && s.request >= askedToRestart && by > t.model.now:
		t.drainedBy = by
		t.entering = false // who is asked to return needs not wait for the log
	}
	return t.drainedBy != never
}

// isLate cancels a run.
func (m *model) isLate(t *modelTask, why errorSet) {
	t.late, t.lateSince, t.readyBy, t.beatBy = why, m.now, never, never
	m.stops = append(m.stops, &modelStop{task: t, request: askedToFail, timeout: t.o.stopTimeout})
}

// isLost ends the runs of those that are bound to t, which does not run any more.
func (m *model) isLost(t *modelTask) {
	for _, name := range m.names {
		d := m.tasks[name]
		if d == nil || d.state != taskmanager.StateRunning || !slices.Contains(d.o.boundTo, t.name) {
			continue
		}
		s := &modelStop{task: d, request: askedByLoss, timeout: d.o.stopTimeout}
		d.lostSince, d.readyBy, d.beatBy = m.now, never, never
		m.stops = append(m.stops, s)
		m.begin(s)
	}
}

// hasBound reports whether there are tasks that are bound to others. Whether such a one hears of a loss that ends Run, or of the end of Run, first
// is chance.
func (m *model) hasBound() bool {
	for _, t := range m.tasks {
		if len(t.o.boundTo) > 0 {
			return true
		}
	}
	return slices.ContainsFunc(m.stops, func(s *modelStop) bool { return len(s.by.boundTo) > 0 })
}

// oneOfThem stands for whoever was first of several who have asked, or whose deadlines are, at the same moment.
const oneOfThem = "one of them"

// expire finds at the deadline that the task has not done as it was asked.
func (m *model) expire(s *modelStop) {
	t := s.task
	s.over, s.stuck = true, true
	wasStuck := t.state == taskmanager.StateStuck
	if t.state == taskmanager.StateStopping {
		t.state = taskmanager.StateStuck
		asker := s.asker
		for _, other := range m.stops {
			if other.task == t && other.begun && !other.over && other.deadline == s.deadline && other.asker != asker {
				asker = oneOfThem // whose deadline comes first is chance
			}
		}
		m.emit(t, eventView{Kind: taskmanager.EventStuck, Err: isTimeout, By: asker, Uptime: m.now - t.runStarted})
		if t.asked <= askedByLoss {
			m.leaves(t, isTimeout)
		}
	}
	if q := t.asked.inVain(); q != askedNothing && s.request.inVain() != askedNothing {
		t.asked = q // what is stuck is not restarted
		if wasStuck || t.late != 0 || t.lostSince != never {
			m.leaves(t, isTimeout) // that was its last hope
		}
	}
}

// settle does everything that happens at this moment.
func (m *model) settle() {
	for again := true; again; {
		again = m.settleGroups()
		m.quitRuns()
		for _, s := range m.stops {
			if !s.begun && !slices.ContainsFunc(s.after, func(a *modelStop) bool { return !a.over }) {
				m.begin(s)
				again = true
			}
		}
		for _, name := range m.names {
			t := m.tasks[name]
			if t == nil {
				continue
			}
			switch {
			case m.makesNoMore(t):
				m.enterPasses(t)
				m.returns(t, 0)
				again = true
			case t.executing && !t.o.deaf && !t.o.isGroup() && *m.cause(t) != 0:
				m.ends(t, m.ending(t, t.o.farewell))
				again = true
			case (t.state == taskmanager.StateBackoff || t.cooling) && !t.held && t.nextRun <= m.now:
				m.await(t)
				again = true
			case t.state == taskmanager.StateWaiting && !slices.ContainsFunc(t.o.dependsOn, m.isMissing):
				m.await(t)
				again = true
			}
		}
	}
	m.doom()
	if len(m.runs) > 0 && len(m.gone) > 0 {
		m.settle() // who waits in vain ends Run
		return
	}
	for _, s := range m.stops {
		s.call.settle(m)
	}
	m.stops = slices.DeleteFunc(m.stops, func(s *modelStop) bool { return s.over })
}

// settle lets the call return if there is nothing left to wait for.
func (c *modelCall) settle(m *model) {
	if c == nil || c.outcome != nil || slices.ContainsFunc(c.stops, func(s *modelStop) bool { return !s.over }) {
		return
	}
	c.outcome = &outcomeOfCall{at: m.now, err: c.refused}
	for _, s := range c.stops {
		switch {
		case s.stuck:
			c.outcome.err |= isTimeout
			c.outcome.stuck = append(c.outcome.stuck, localName(s.task.name))
		case s.refused != 0:
			c.outcome.err |= s.refused
		case s.below != 0:
			c.outcome.err |= s.below
			if c.wants != askedNothing && s.followed.stops() {
				c.outcome.err |= s.task.causeOf(s.followed)
			}
			c.outcome.stuck = append(c.outcome.stuck, s.named...)
		case c.wants != askedNothing && s.followed == askedNothing:
			c.outcome.err |= s.task.err // nothing else ends a task that is to be restarted, or paused
		case c.wants != askedNothing && s.followed != c.wants:
			c.outcome.err |= s.task.causeOf(s.followed)
		}
	}
	if c.quit != "" {
		for name, why := range m.gone {
			c.outcome.err |= why
			if why&isTimeout != 0 && why&isGiveUp == 0 { // its watchdog has found it stuck
				c.outcome.stuck = append(c.outcome.stuck, name)
			}
		}
	}
	c.outcome.stuck = sorted(c.outcome.stuck)
}

// sleep lets time pass.
func (m *model) sleep(d time.Duration) {
	target := m.now + d
	for {
		m.settle()
		next := m.next()
		if next == never || next > target {
			m.now = target
			return
		}
		m.now = next
		m.alarm()
	}
}

// alarms calls f for everything that waits for a time.
func (m *model) alarms(f func(at time.Duration, ring func())) {
	for _, name := range m.names {
		t := m.tasks[name]
		if t == nil {
			continue
		}
		if (t.state == taskmanager.StateBackoff || t.cooling) && !t.held {
			f(t.nextRun, func() { m.await(t) })
		}
		if t.state == taskmanager.StateRunning {
			if t.passes.waits() {
				f(t.passes.tick, func() { m.nextPass(t) })
			}
			if t.ready && t.hasFailed() && !t.passes.judges() {
				f(m.health(name), func() { m.recovers(t) })
			}
			f(t.readyBy, func() { m.isLate(t, isNotReady) })
			f(t.beatBy, func() { m.isLate(t, isWatchdog) })
		}
		f(t.drainedBy, func() {
			t.drainedBy = never
			m.endContext(t, t.causeOf(t.asked))
		})
		if t.group != nil {
			t.group.alarms(f)
		}
	}
	for _, s := range m.stops {
		if s.begun && !s.over {
			f(s.deadline, func() { m.expire(s) })
		}
	}
	for _, r := range m.runs {
		f(r.until, func() {})
	}
}

// next returns when the next alarm is due.
func (m *model) next() time.Duration {
	next := never
	m.alarms(func(at time.Duration, _ func()) {
		if at != never && (next == never || at < next) {
			next = at
		}
	})
	return next
}

// alarm rings those that are due now.
func (m *model) alarm() {
	var due []func()
	m.alarms(func(at time.Duration, ring func()) {
		if at == m.now {
			due = append(due, ring)
		}
	})
	for _, ring := range due {
		ring()
	}
}

// edge returns when the oldest restart of the task leaves the window.
func (m *model) edge(name string) time.Duration {
	if t := m.tasks[name]; t != nil && t.inWindow(m.now) > 0 {
		return t.restarts[0] + t.o.window
	}
	return never
}

// health returns when the latest run of the task is, or was, old enough to reset the backoff.
func (m *model) health(name string) time.Duration {
	t := m.tasks[name]
	switch {
	case t == nil:
		return never
	case t.o.healthy > 0:
		return t.runStarted + t.o.healthy
	}
	return t.runStarted + t.o.window
}

func (m *model) emit(t *modelTask, e eventView) {
	e.Time, e.Task, e.Run = m.now, t.name, t.counts.runs
	if e.Kind != taskmanager.EventRecovered {
		e.FailedSince = never
	}
	m.events[t.name] = append(m.events[t.name], e)
	if !m.log(t, e) {
		return
	}
	switch e.Kind {
	case taskmanager.EventStarted:
		t.entering = true
	case taskmanager.EventFailed, taskmanager.EventCompleted, taskmanager.EventPassGaveUp:
		t.held = t.state == taskmanager.StateBackoff
	case taskmanager.EventGaveUp:
		t.held = t.cooling
	}
}

// view returns what should be seen of the task, and whether there is one.
func (m *model) view(name string) (taskView, bool) {
	t := m.tasks[name]
	if t == nil {
		return taskView{}, false
	}
	v := taskView{
		State: t.state, Running: !t.state.Ended(), Ready: t.isReady(), Done: t.state.Ended(),
		Waits: t.state == taskmanager.StateWaiting,
		Runs:  t.counts.runs, Restarts: max(t.counts.runs, 1) - 1, Failures: t.counts.failures, Panics: t.counts.panics,
		InWindow: t.inWindow(m.now), Started: t.started, RunStarted: never, Next: never, Over: t.over,
		LastErr: t.lastErr, LastErrAt: t.lastErrAt, Err: t.err, ErrRestarts: t.errRestarts,
	}
	v.InARow, v.FailingSince = t.failing()
	if t.passes != nil {
		v.Passes = t.passes.view()
	}
	if t.executing {
		v.Executing, v.RunStarted, v.Uptime = 1, t.runStarted, m.now-t.runStarted
	}
	if v.Causes = m.causes[name]; t.o.isGroup() { // its body is not ours
		v.Executing, v.Causes = 0, nil
	}
	if t.entering {
		v.Executing, v.Causes = 0, v.Causes[:len(v.Causes)-1] // the body has not got its context
	}
	for _, cause := range v.Causes {
		if cause != 0 {
			v.Draining++
		}
	}
	if t.drainedBy != never {
		v.Draining++
	}
	if t.state == taskmanager.StateBackoff || t.cooling {
		v.Next = t.nextRun
	}
	return v, true
}
