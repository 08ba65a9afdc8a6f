package taskmanager

import (
	"context"
	"math/bits"
	"time"
)

// Draining returns a channel that is closed as soon as the task whose body was given ctx is asked to stop or to restart: a body
// that selects on it takes no new work then, finishes what it has in hand, and returns. With [WithDrain] the context of the run
// lives on for that; without, it ends at the same moment, and the channel is that of its Done. So it is where the run ends by
// itself, or because it was late ([WithWatchdog], [WithReadiness]).
//
// It is the same channel for all contexts that derive from that of the run, be they done or not. For any other context it is the
// channel of its Done, and for a nil ctx it is nil.
func Draining(ctx context.Context) <-chan struct{} {
	r := runOf(ctx)
	switch {
	case r != nil:
		return r.draining()
	case ctx != nil:
		return ctx.Done()
	}
	return nil
}

// StopContext returns a context for what a body does because it was asked to stop, as in srv.Shutdown(stopCtx), and the function
// that releases it. It has the values of ctx, of which a stop or a restart is no end: it ends, with [context.DeadlineExceeded] as
// its cause, at the deadline of the stop, after which the task is stuck; and at the latest when the body returns. Of two stops
// it is the earlier deadline, and of a run that was canceled because it was late that of its stop timeout. If it is made when the
// stop has been asked for, the deadline is also its Deadline. It takes no goroutine, nor does a child of it.
//
// For a context that is not that of a task's run, and does not derive from one, it is [context.WithCancel]; a nil ctx counts as
// [context.Background].
func StopContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx == nil {
		ctx = context.Background()
	}
	r := runOf(ctx)
	if r == nil {
		return context.WithCancel(ctx)
	}
	end, deadline := r.untilStuck()
	parent := stopContext{end, ctx}
	if deadline.IsZero() {
		return context.WithCancel(parent)
	}
	return context.WithDeadline(parent, deadline)
}

// A stopContext is a context of package context with the values of another one.
type stopContext struct {
	context.Context // derives from Background, and has no values of its own but that by which package context finds it
	values          context.Context
}

// Value implements context.Context. For keys that are not of package context it calls the method of the context whose values it has, on
// the goroutine of whoever asks.
func (c stopContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// isOurs says to isStandard that no method of the user's is called but Value.
func (stopContext) isOurs() {}

// A drain is what the body of a run has asked for about the end of it, and the time that it has. Guarded by the task's mu.
type drain struct {
	asked    context.Context // of Draining; nil until it is called
	endAsked context.CancelCauseFunc
	stop     context.Context // from which those of StopContext derive; nil until it is called
	endStop  context.CancelCauseFunc

	until time.Time // when the context of the run ends, while the task drains
	timer *time.Timer
}

// drain returns what there is about the end of the run; nil for nothing.
func (x *lazyFields) drain() *drain {
	if x == nil || x.rare == nil {
		return nil
	}
	return x.rare.drain
}

func (t *Task) drainLocked() *drain {
	x := t.lazyLocked().rareLocked()
	if x.drain == nil {
		x.drain = &drain{}
	}
	return x.drain
}

// draining returns the channel of Draining.
func (r *run) draining() <-chan struct{} {
	if r.task.config().drain > 0 {
		return r.drainingContext().Done()
	}
	return r.Done()
}

// drainingContext returns the context that ends when something is asked of the run.
func (r *run) drainingContext() context.Context {
	t := r.task
	t.mu.Lock()
	d := t.lazy.drain()
	if t.run == r && d != nil && d.asked != nil {
		defer t.mu.Unlock()
		return d.asked
	}
	t.mu.Unlock()
	ctx, end := context.WithCancelCause(r) // without the task's mu, for it calls methods of r
	kept, cause := r.keepDrainingContext(ctx, end)
	if cause != nil {
		end(cause)
	}
	return kept
}

// keepDrainingContext notes that ctx, which end ends, is what drainingContext returns. If somebody else has been faster, it returns
// theirs. cause is that with which ctx is to end at once; nil if it is not.
func (r *run) keepDrainingContext(ctx context.Context, end context.CancelCauseFunc) (kept context.Context, cause error) {
	t := r.task
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.run != r:
		return ctx, context.Canceled // it has ended with r, or is about to
	case t.machine.draining:
		return ctx, t.causeOf(t.machine.pending)
	}
	d := t.drainLocked()
	if d.asked != nil {
		return d.asked, context.Canceled
	}
	d.asked, d.endAsked = ctx, end
	return ctx, nil
}

// untilDraining returns ctx, or one that has its values and ends with it, and before that if something is asked of the run that ctx is of.
func untilDraining(ctx context.Context) (until context.Context, release func()) {
	r := runOf(ctx)
	if r == nil || r.task.config().drain == 0 {
		return ctx, func() {}
	}
	until, end := context.WithCancelCause(context.Background())
	endWith := func(ctx context.Context) (stop func()) { return whenDone(ctx, func() { end(causeOf(ctx)) }) }
	stops := []func(){endWith(r.drainingContext())}
	if ctx.Done() != r.Done() { // it may end before the run
		stops = append(stops, endWith(ctx))
	}
	return stopContext{until, ctx}, func() {
		for _, stop := range stops {
			stop()
		}
		end(nil)
	}
}

// untilStuck returns the context that ends when the task is stuck or the run has ended, and when the first of these is if that
// is known; otherwise zero.
func (r *run) untilStuck() (ctx context.Context, deadline time.Time) {
	r.flags.Or(stopContextMade)
	t := r.task
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.run != r || t.machine.phase.state() == StateStuck {
		ctx, end := context.WithCancelCause(context.Background())
		if t.run == r {
			end(context.DeadlineExceeded)
		}
		end(nil) // the first cause counts
		return ctx, time.Time{}
	}
	for w := t.waiters; w != nil; w = w.next {
		if deadline.IsZero() || w.op.deadline.Before(deadline) {
			deadline = w.op.deadline
		}
	}
	d := t.drainLocked()
	if d.stop == nil {
		d.stop, d.endStop = context.WithCancelCause(context.Background())
	}
	return d.stop, deadline
}

// drainTime returns how long a run drains of which something is asked; 0 if its context is to end at once. A request
// whose deadline is earlier than the stop timeout leaves a smaller part of it.
func (t *Task) drainTime(n *decision) time.Duration {
	c := t.config()
	if n.waiter == nil || n.overdue() != nil || n.loss() != nil { // which may be taken for the end of the parent
		return 0
	}
	left := n.waiter.op.deadline.Sub(n.now)
	if left >= c.stopTimeout {
		return c.drain
	}
	hi, lo := bits.Mul64(uint64(max(0, left)), uint64(c.drain)) //nolint:gosec // neither is negative
	part, _ := bits.Div64(hi, lo, uint64(c.stopTimeout))        //nolint:gosec // likewise
	return time.Duration(part)                                  //nolint:gosec // it is less than left
}

// drainForLocked is called when something is asked of a run that drains, or begins to: it does so for its drainTime, or for what is left
// of that if it is less.
func (t *Task) drainForLocked(n *decision) {
	d := t.drainTime(n)
	x, until := t.drainLocked(), n.now.Add(d)
	switch {
	case x.timer == nil:
		x.until, x.timer = until, time.AfterFunc(d, t.run.endDrain)
	case until.Before(x.until):
		x.until = until
		x.timer.Reset(d)
	}
}

// endDrain is called when the time for work in hand is over.
func (r *run) endDrain() { r.endDrainFor(nil) }

// endDrainFor ends the context of r at once, if r drains: for that loss, or, if it is nil, for what r was asked to return for. What was
// asked goes on, with its deadline.
func (r *run) endDrainFor(loss error) {
	t := r.task
	n := decision{input: drainPassed, now: time.Now()}
	t.mu.Lock()
	if t.run == r {
		t.applyLocked(&n, drainPassed)
	}
	t.mu.Unlock()
	if loss != nil {
		n.cause = loss
	}
	n.endContexts()
}

// drainsUntil returns when the context of the run ends, if it drains. That may get earlier, and not later.
func (r *run) drainsUntil() (deadline time.Time, ok bool) {
	t := r.task
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.lazy.drain(); t.run == r && d != nil && d.timer != nil {
		return d.until, true
	}
	return
}

// leaveDrain is called when the body has returned. It ends what StopContext has returned, and returns why the run was asked to
// end, if its context has not ended for that; otherwise nil.
func (r *run) leaveDrain() (cause error) {
	if r.task.config().drain == 0 && r.flags.Load()&stopContextMade == 0 {
		return nil
	}
	t := r.task
	parentDone := t.config().manager.parent.isDone()
	t.mu.Lock()
	if t.machine.draining {
		why := t.machine.pending
		if parentDone && !why.stops() {
			why = parentDoneRequest // which is about to be asked for, and wins
		}
		cause = t.causeOf(why)
	}
	var endStop context.CancelCauseFunc
	if d := t.lazy.drain(); d != nil {
		endStop = d.endStop
	}
	t.mu.Unlock()
	if endStop != nil {
		endStop(nil)
	}
	return cause
}

// dropDrainLocked is called when the run is over.
func (t *Task) dropDrainLocked(n *decision) {
	d := t.lazy.drain()
	if d == nil {
		return
	}
	if d.timer != nil {
		d.timer.Stop()
	}
	t.endStopContextLocked(n, false) // somebody has called StopContext just now
	t.lazy.rare.drain = nil
}

// endStopContextLocked has the context of StopContext end, if there is one: because the body is late, or has returned.
//
//go:noinline
func (t *Task) endStopContextLocked(n *decision, late bool) {
	if d := t.lazy.drain(); d != nil {
		n.drain, n.endStop, n.stopLate = d, d.endStop != nil, late
	}
}

// endContexts ends the contexts of a run that are to end by what was decided. It is called without locks.
func (n *decision) endContexts() {
	if n.endAsked {
		n.drain.endAsked(n.cause)
	}
	if n.cancel != nil {
		n.cancel.end(n.cause)
	}
	if n.endStop {
		var cause error
		if n.stopLate {
			cause = context.DeadlineExceeded
		}
		n.drain.endStop(cause)
	}
}
