package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ReplaceTask has the task of that name go on with another body, and other options. A run is stopped
// as by StopTask, with ErrReplaced as the cause, and the new body runs when the old one has returned.
// The name is never free between, and the [Task] stays what it was to those who have it, with a life
// of its own for the new body: its counts and delays begin anew, and who waits for the end of the old
// one hears that it has ended without an error. One that waits for its dependencies or for a delay is
// replaced at once, as is one that has ended, which is revived by that; one that is paused stays so. A
// name that is unknown is started.
//
// ReplaceTask returns when the old body has returned. If somebody replaces the task meanwhile, both
// wait for that, and what was asked for last counts. A task that replaces itself, with its own
// context, is asked and not waited for.
//
// It returns the errors of StartTask, but for [ErrTaskRunning], and has changed nothing then; and
// those of RestartTask:
//
//   - If the stop times out, the replacement has failed: the error is a [*StopTimeoutError], and the
//     task stops for good when its body returns at last. So fails a restart, or a replacement of
//     somebody else, that waits for it.
//   - If somebody else stops or pauses the task meanwhile, that wins and the error wraps its cause.
//   - If the error of the run that was stopped wraps a StopTimeoutError of what still executes, the task is
//     given up, and the error is its [*GiveUpError].
//   - One that is stuck, or is being stopped or paused, is not replaced: the error is a
//     StopTimeoutError, or wraps the cause of the stop, at once.
//   - If ctx is canceled while ReplaceTask waits, it returns the cause of ctx, and the replacement goes on.
//
// Where a task was started since that makes a cycle of the new dependencies, this is found when the
// old body has returned: then the error is an [*OptionError], and the old body runs again.
func (m *Manager) ReplaceTask(ctx context.Context, name string, body TaskFunc, opts ...TaskOption) (*Task, error) {
	if err := m.checkCall(ctx); err != nil {
		return nil, err
	}
	t, err := m.prepare(name, body, opts, "")
	if err != nil {
		return nil, err
	}
	r := &replacement{task: t}
	m.install(ctx, []*replacement{r})
	switch {
	case r.unfinished:
		return nil, context.Cause(ctx)
	case r.err != nil:
		return nil, r.err
	}
	return r.target, nil
}

// errReplaceTimedOut is the cause of the stop of a task whose body has not returned in time for its replacement.
var errReplaceTimedOut = fmt.Errorf("%w, and its body did not return in time", ErrReplaced)

// A replacement is a body and a configuration that are to take the place of those of a task.
type replacement struct {
	task    *Task // has them; it gets the name if nobody has that, and is known to nobody otherwise
	starts  bool  // of Reconcile: nothing is lost by it
	refused error // why they can't be adopted; set with the Manager's mu held, and before the op hears of it

	// The others are install's.
	target     *Task // whose body it is by now
	op         *stopOp
	detached   bool  // nobody waits for op
	unfinished bool  // ctx was done before op
	again      bool  // op has become pointless: target has ended by itself
	err        error // why it has failed
}

// install gives each of rs its name: all at once, and each when the body has returned that has the name.
func (m *Manager) install(ctx context.Context, rs []*replacement) {
	began, hasDeadline := time.Now(), ctx.Err() == nil
	from := tasksOf(ctx)
	hand := newHand(ctx)
	defer m.watchParent()
	for left := rs; len(left) > 0; {
		m.installOnce(ctx, left, from, hand, began, hasDeadline)
		var next []*replacement
		changed := false // something that those may depend on which make a cycle
		for _, r := range left {
			cyclic := r.isCyclic()
			changed = changed || !cyclic
			if cyclic || r.again {
				next = append(next, r)
			}
		}
		if !changed {
			break
		}
		left = next
	}
	for _, r := range rs {
		if r.err == nil && r.task.config().unreachable {
			r.task.warnOfUnreachable(m.bus.logAtLevelLater)
		}
	}
}

// isCyclic reports whether the new dependencies make a cycle.
func (r *replacement) isCyclic() bool {
	_, cyclic := r.err.(*OptionError) //nolint:errorlint // it is never wrapped
	return cyclic
}

// installOnce is one attempt of install.
func (m *Manager) installOnce(ctx context.Context, rs []*replacement, from []*Task, hand *byHand, began time.Time, hasDeadline bool) {
	targets := make([]*Task, 0, len(rs))
	for _, r := range rs {
		if t, ok := m.Lookup(r.task.name); ok {
			targets = append(targets, t)
		}
	}
	callers, leave := blocked.enter(from, targets)
	defer leave()
	maxTimeout := longestTimeout(ctx, hasDeadline, time.Now())
	var stops []*stopOp
	for _, r := range rs {
		r.ask(m, hand, maxTimeout)
		switch {
		case r.op == nil:
		case slices.Contains(callers, r.target):
			r.detached = true
		default:
			stops = append(stops, r.op)
		}
	}
	defer m.beginProgress(replaceRequest, began, stops, nil).end()
	for _, r := range rs {
		r.await(ctx, hasDeadline)
	}
}

// ask has the task of that name replaced, or starts it.
func (r *replacement) ask(m *Manager, hand *byHand, maxTimeout time.Duration) {
	r.op, r.refused, r.err, r.again = nil, nil, nil, false
	for {
		t, ok := m.Lookup(r.task.name)
		if !ok {
			r.target = r.task
			if r.err = m.launch(r.task, true); errors.Is(r.err, ErrTaskRunning) {
				continue // since
			}
			return
		}
		s := newStopOp(m, replaceRequest, min(t.config().stopTimeout, maxTimeout))
		s.hand, s.tasks, s.replacement = hand, []*Task{t}, r
		if s.start(time.Now()) > 0 {
			r.target, r.op = t, s
			return
		}
		switch {
		case r.refused == errNameTaken: //nolint:errorlint // it is ours, never wrapped
		case r.refused != nil:
			r.err = r.refused
			return
		default:
			if r.err = t.refusal(replaceRequest); r.err != nil {
				return
			}
			// It has ended, or begun another run, meanwhile.
		}
	}
}

// await waits for what was asked for.
func (r *replacement) await(ctx context.Context, hasDeadline bool) {
	if r.op == nil || r.detached {
		return
	}
	err := r.op.wait(ctx, hasDeadline)
	_, done := r.op.result()
	switch followed := request(r.op.followed.Load()); {
	case followed == replaceRequest:
		r.err = r.refused
	case !done:
		r.unfinished = true
	case followed > replaceRequest:
		r.err = joinErrors([]error{r.target.superseded(replaceRequest, followed), err})
	case err != nil:
		r.err = err
	default:
		r.err = r.target.Err() // what the run had started executes still: the other body would meet it
		r.again = r.err == nil
	}
}

// checkReplacementLocked returns why t can't be replaced by r. It is called with the Manager's mu held, too.
func (t *Task) checkReplacementLocked(r *replacement) error {
	m := t.config().manager
	switch {
	case m.closedLocked():
		return fmt.Errorf("%w: %q", ErrManagerClosed, t.name)
	case m.tasks.find(t.name) != t:
		return errNameTaken
	case !t.config().lease.sameAs(r.task.config().lease):
		return &OptionError{Option: "WithLease", Value: r.task.config().lease.leaseName(), Reason: "must be that of the task which is replaced"}
	}
	return m.checkNeedsLocked(t.name, r.task.config())
}

// adoptLocked gives the task, of which no body executes, the body and the configuration that were asked for last, and tells those who
// wait for that. It is called with the Manager's mu held, too.
func (t *Task) adoptLocked(n *decision, do effect) {
	var latest *replacement
	for w := t.waiters; latest == nil; w = w.next { // the latest is the first
		latest = w.op.replacement
	}
	refused := t.config().manager.checkNeedsLocked(t.name, latest.task.config()) // since it was asked for
	if refused == nil {
		t.takeOverLocked(latest.task, n, do&beginLife != 0)
	}
	for at := &t.waiters; *at != nil; {
		w := *at
		if w.op.replacement == nil {
			at = &w.next
			continue
		}
		*at = w.next
		w.op.replacement.refused = refused
		w.op.followed.Store(uint32(replaceRequest))
		w.op.resolve()
	}
}

// takeOverLocked begins a life of the task with what other has, which is known to nobody. revived says that beginLifeLocked has done its
// part.
func (t *Task) takeOverLocked(other *Task, n *decision, revived bool) {
	m := t.config().manager
	m.removeDependentLocked(t)
	t.body = other.body
	t.cfg.Store(other.config())
	m.addDependentLocked(t)
	if !revived {
		if x := t.lazy; x != nil && x.end != nil {
			close(x.end.done)
		}
		former, x := t.record, t.lazy
		if former != nil && former.inARow > 0 {
			t.carryFailuresLocked(n)
		}
		t.unawaitHealthLocked()
		t.renewLocked(nil)
		if x != nil && x.wake != nil { // its driver may wait
			now := t.lazyLocked()
			now.wake, now.parked = x.wake, x.parked
		}
		if former != nil && former.unsure != nil { // it has yet to be asked whether what the run before has started executes still
			t.record.unsure, t.record.judged, t.record.judgedAt = former.unsure, former.judged, former.judgedAt
		}
		m.clearCriticalExitLocked(t)
		t.startedAt = n.now.UnixNano()
	}
	if p := other.record; p != nil {
		t.record.delays = p.delays
	}
	t.lazyLocked().passes = other.passesLocked() // there is a lazy: the line that says who replaces the task
}
