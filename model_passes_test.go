package taskmanager_test

import (
	"context"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// Some tasks of the scripts make passes: their body is that of Every. What a body is told to do falls to the pass that is under way.
//
// Left out are what passes_test.go and schedule_test.go have: schedules, jitter, a later first pass, and a timeout.

// passesView is what can be seen of the passes of a task, with times since the world began. The zero value is that of a task that makes none.
type passesView struct {
	Made                                       bool
	Begun, Failed, GivenUp, Skipped            uint64
	LastStart, LastDuration, LastSuccess, Next time.Duration
}

func (w *world) passesView(s *taskmanager.PassStats) passesView {
	if s == nil {
		return passesView{}
	}
	return passesView{
		Made: true, Begun: s.Begun, Failed: s.Failed, GivenUp: s.GivenUp, Skipped: s.Skipped,
		LastStart: w.since(s.LastStart), LastDuration: s.LastDuration, LastSuccess: w.since(s.LastSuccess), Next: w.since(s.Next),
	}
}

// options are those of the task in the world.
func (w *world) options(name string, o modelOptions) []taskmanager.TaskOption {
	opts := append(o.options(), w.leaseOf(name)...)
	if o.every > 0 {
		return append(opts, taskmanager.WithMiddleware(w.noted(name)))
	}
	return opts
}

// noted returns a middleware that notes the runs of the task: of one that makes passes, a body would note the passes.
func (w *world) noted(name string) func(taskmanager.TaskFunc) taskmanager.TaskFunc {
	return func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
		return func(ctx context.Context) error {
			w.mu.Lock()
			w.contexts[name] = append(w.contexts[name], ctx)
			w.executing[name]++
			w.mu.Unlock()
			defer func() {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.executing[name]--
			}()
			return next(ctx)
		}
	}
}

// What there is to see of passes.
const (
	sawAgain     = "a pass that has failed is tried again"
	sawWaiting   = "a run waits for the tick after a pass that was given up"
	sawSkipped   = "ticks were skipped"
	sawTriggered = "a pass is under way that was triggered"
	sawNextPass  = "a pass waits for the one under way"
	sawCutOff    = "a pass is due that was cut off when it was tried again"
)

// passSights are as rareSights.
var passSights = map[string]int{sawAgain: 500, sawWaiting: 500, sawSkipped: 500, sawTriggered: 500, sawNextPass: 500, sawCutOff: 500}

func (t *modelTask) seePasses(seen map[string]int) {
	p := t.passes
	if p == nil {
		return
	}
	for what, is := range map[string]bool{
		sawAgain:     p.underWay && p.retried,
		sawWaiting:   p.waits() && p.givenUp,
		sawSkipped:   p.seen.Skipped > 0,
		sawTriggered: p.underWay && p.byHand && !p.onTick,
		sawNextPass:  p.underWay && p.triggered,
		sawCutOff:    !t.executing && p.next == beginsAgain && !p.failed,
	} {
		if is {
			seen[what]++
		}
	}
}

// How the next run of a task begins that makes passes.
type modelBeginning int

const (
	beginsAnew    modelBeginning = iota // with a pass, and with ticks from then on
	beginsAgain                         // with the pass that has failed; the ticks go on
	beginsWaiting                       // with the wait for the next tick; likewise
)

// modelPasses are those of one life of a task.
type modelPasses struct {
	seen      passesView
	next      modelBeginning
	kept      time.Duration // the next tick, for a run that does not begin anew
	triggered bool
	givenUp   bool // the latest one was, and none has succeeded since

	// Of the latest run.
	entered  bool // it has got to its passes
	begun    bool // and has made one
	again    bool // it is about to make that which has failed
	underWay bool // one is
	onTick   bool // it is that of a tick
	byHand   bool // it was triggered
	retried  bool // it is that which has failed
	failed   bool // the latest one has
	tick     time.Duration
	missed   uint64 // ticks that are not counted yet
}

func newModelPasses(o modelOptions) *modelPasses {
	if o.every == 0 {
		return nil
	}
	return &modelPasses{seen: passesView{Made: true, LastStart: never, LastSuccess: never}}
}

// beginRun forgets the run before.
func (p *modelPasses) beginRun() {
	if p != nil {
		*p = modelPasses{seen: p.seen, next: p.next, kept: p.kept, triggered: p.triggered, givenUp: p.givenUp}
	}
}

func (p *modelPasses) endRun() {
	if p != nil {
		p.entered = false
	}
}

func (p *modelPasses) beginAnew() {
	if p != nil {
		p.next = beginsAnew
	}
}

// pause forgets the wait for a tick.
func (p *modelPasses) pause() {
	if p != nil && p.next == beginsWaiting {
		p.beginAnew()
	}
}

// judges reports whether the run is healthy as soon as a pass has succeeded, and not when it has lasted for long enough.
func (p *modelPasses) judges() bool { return p != nil && p.entered }

// waits reports whether a run waits for its next pass.
func (p *modelPasses) waits() bool { return p != nil && p.entered && !p.underWay }

func (p *modelPasses) view() passesView {
	v := p.seen
	if v.Next = never; p.waits() {
		v.Next = p.tick
	}
	return v
}

// obeys reports whether the body does what it is told.
func (t *modelTask) obeys() bool {
	return t.executing && !t.entering && !t.o.isGroup() && (t.passes == nil || t.passes.underWay)
}

// makesNoMore reports whether the run ends as soon as no pass is under way.
func (m *model) makesNoMore(t *modelTask) bool {
	return t.executing && t.passes != nil && !t.passes.underWay && (*m.cause(t) != 0 || t.drainedBy != never)
}

// enterPasses has a run get to its passes.
func (m *model) enterPasses(t *modelTask) {
	p := t.passes
	if p == nil || p.entered {
		return
	}
	p.entered, p.again, p.tick = true, p.next == beginsAgain, p.kept
	if p.next == beginsAnew {
		p.tick = m.now
	}
	if !p.again { // which is due until it has been made
		p.next = beginsAnew
	}
	m.nextPass(t)
}

// nextPass makes the next pass, if it is time for it, and the run is to make more.
func (m *model) nextPass(t *modelTask) {
	p := t.passes
	switch {
	case m.makesNoMore(t):
	case p.again, p.triggered:
		m.beginPass(t, !p.again && p.tick <= m.now)
	default:
		p.count()
		if p.tick <= m.now {
			m.beginPass(t, true)
			return
		}
		t.beat(p.tick + t.o.watchdog) // to wait is no hang
		if t.readyBy != never && !p.begun {
			t.readyBy = p.tick + t.o.readiness
		}
	}
}

// count counts the ticks that were skipped.
func (p *modelPasses) count() {
	p.seen.Skipped += p.missed
	p.missed = 0
}

func (m *model) beginPass(t *modelTask, onTick bool) {
	p := t.passes
	p.seen.Begun++
	p.seen.LastStart = m.now
	t.beat(m.now + t.o.watchdog)
	if t.readyBy != never && !p.begun {
		t.readyBy = m.now + t.o.readiness
	}
	p.retried, p.byHand, p.again, p.triggered = p.again, p.triggered, false, false
	p.begun, p.underWay, p.onTick = true, true, onTick
}

// ends is what follows when the body ends with that error: its pass does, and with an error its run.
func (m *model) ends(t *modelTask, err errorSet) {
	p := t.passes
	if p == nil {
		m.returns(t, err)
		return
	}
	p.underWay = false
	p.seen.LastDuration = m.now - p.seen.LastStart
	if p.onTick {
		p.tick += t.o.every
	}
	for ; p.tick <= m.now; p.tick += t.o.every {
		p.missed++
	}
	switch asked := m.request(t); {
	case err == 0 && asked != askedToFail:
		m.passSucceeds(t)
	case asked <= askedToFail: // or else it was cut off
		p.failed, p.next, p.kept = true, beginsAgain, p.tick
		p.seen.Failed++
		p.count()
	}
	if err != 0 {
		m.returns(t, err)
	} else {
		m.nextPass(t)
	}
}

// passSucceeds has the limit and the backoff begin anew, if the run is ready. That the task has recovered is not told where something is
// asked of it.
func (m *model) passSucceeds(t *modelTask) {
	p := t.passes
	p.seen.LastSuccess, p.givenUp = m.now, false
	p.beginAnew()
	if !t.hasFailed() || !t.ready {
		return
	}
	if t.state == taskmanager.StateRunning && m.request(t) == askedNothing { // the end of the parent asks those, too, whose turn has yet to come
		m.recovers(t)
	}
	t.beginLimitAnew()
}

func (t *modelTask) beginLimitAnew() { t.restarts, t.healthy = nil, true }

// givesUpPass gives up the pass that has failed with e.Err, and not the task.
func (m *model) givesUpPass(t *modelTask, e eventView) {
	p := t.passes
	t.fails(m.now, e.Err)
	t.beginLimitAnew()
	p.next, p.givenUp = beginsWaiting, true
	p.seen.GivenUp++
	e.Kind, e.Err, e.Delay = taskmanager.EventPassGaveUp, e.Err|isGiveUp|isTooMany, p.tick-m.now
	m.retries(t, 0, e)
}

func (m *model) trigger(name string) errorSet {
	t := m.tasks[name]
	switch {
	case t == nil:
		return isNotFound
	case t.state.Ended():
		return isNotRunning
	case t.passes == nil:
		return isNoPasses
	}
	switch t.state {
	case taskmanager.StateWaiting, taskmanager.StateRunning, taskmanager.StateBackoff:
		m.emit(t, eventView{Kind: taskmanager.EventTriggered, By: m.asker})
	}
	switch t.state {
	case taskmanager.StateWaiting, taskmanager.StateRunning:
		t.passes.triggered = true
		if t.passes.waits() {
			m.nextPass(t)
		}
	case taskmanager.StateBackoff:
		t.passes.triggered, t.held = true, false
		m.await(t)
	default:
		return isNotRunning
	}
	return 0
}
