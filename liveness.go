package taskmanager

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Ready says that the run whose body was given ctx is ready (see [WithReadiness]). It does nothing
// when said twice, for a run that is over or about to end, for a task without WithReadiness, which
// is ready as soon as it runs, and of which the log warns once, and for any other context, nil
// included.
func Ready(ctx context.Context) {
	w, r := watchedOrRunOf(ctx)
	if w == nil || w.task.config().readiness == 0 {
		r.warnOfNoEffect(readyCall)
		return
	}
	w.setReady()
}

// Heartbeat says that the run whose body was given ctx makes progress (see [WithWatchdog]). It may
// be called from any goroutine of the body, and is cheap enough for an inner loop. It does nothing
// for a run that is over, for a task without WithWatchdog, of which the log warns once, and for any
// other context, nil included.
func Heartbeat(ctx context.Context) {
	w, r := watchedOrRunOf(ctx)
	if w == nil || w.task.config().watchdog == 0 {
		r.warnOfNoEffect(heartbeatCall)
		return
	}
	w.due.Store(int64(time.Since(w.started) + w.watchdogPeriod()))
}

// HeartbeatWithin is a Heartbeat that announces the next one within d, in place of the time that was
// given to [WithWatchdog]: for a step that may take longer. That one then counts as any other; of
// several goroutines, the last to call decides. A d that is not positive makes it a Heartbeat.
func HeartbeatWithin(ctx context.Context, d time.Duration) {
	w, r := watchedOrRunOf(ctx)
	if w == nil || w.task.config().watchdog == 0 {
		r.warnOfNoEffect(heartbeatCall)
		return
	}
	if d <= 0 {
		d = w.watchdogPeriod()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due.Store(int64(time.Since(w.started) + min(d, maxDelay)))
	if w.watchdog != nil {
		wait := min(d, w.watchdogPeriod())
		w.expected = time.Since(w.started) + wait
		w.watchdog.Reset(wait)
	}
}

// warnOfNoEffect has the log warn, once in a life of the task, that its body has called something in vain: readyCall or heartbeatCall. r
// is nil if it was not the body of a task.
func (r *run) warnOfNoEffect(call uint32) {
	if r == nil || r.flags.Load()&call != 0 {
		return
	}
	r.flags.Or(call)
	t := r.task
	t.mu.Lock()
	x := t.lazyLocked()
	warned := x.ineffectiveCalls&call != 0
	x.ineffectiveCalls |= call
	ctx := x.logContext()
	t.mu.Unlock()
	if warned {
		return
	}
	message := "Ready has no effect: the task has no WithReadiness"
	if call == heartbeatCall {
		message = "Heartbeat has no effect: the task has no WithWatchdog"
	}
	t.config().manager.bus.queueLine(line{
		ctx: t.logContextOf(ctx), level: slog.LevelWarn, message: message, attrs: []slog.Attr{slog.String("task", t.path())},
	})
}

// An OverdueError is the failure of a run that was canceled because its body had not called
// [Heartbeat] or [Ready] in time. It unwraps to [ErrWatchdog] or [ErrNotReady], which say when it
// is none.
type OverdueError struct {
	Err     error         // ErrWatchdog or ErrNotReady
	Timeout time.Duration // of WithWatchdog or WithReadiness
	// Stack shows where the goroutines of the task were before the run was canceled, in the form of
	// StopTimeoutError.Stack.
	Stack []byte
}

func (e *OverdueError) Error() string { return e.Err.Error() + " (" + e.Timeout.String() + ")" }

// Unwrap returns e.Err.
func (e *OverdueError) Unwrap() error { return e.Err }

// A watchedRun is the context of a run whose body has to say in time that it is ready or alive. Runs
// of other tasks do without it, to save memory.
type watchedRun struct {
	*run
	due   atomic.Int64 // when the next heartbeat after the last one is overdue, as a Duration since the run started
	ready bool         // guarded by the task's mu

	mu        sync.Mutex // of the timers
	readiness *time.Timer
	watchdog  *time.Timer
	expected  time.Duration // when watchdog is to fire, since the run started
	ended     bool          // the body has returned
	disarmed  bool          // there is no watchdog any more
}

type watchedRunKey struct{}

// Value implements context.Context.
func (w *watchedRun) Value(key any) any {
	if key == (watchedRunKey{}) {
		return w
	}
	return w.run.Value(key)
}

func watchedRunOf(ctx context.Context) *watchedRun {
	w, _ := watchedOrRunOf(ctx)
	return w
}

// watchedOrRunOf returns the run whose body was given ctx, and, if it is watched, what watches it. It asks ctx once.
func watchedOrRunOf(ctx context.Context) (*watchedRun, *run) {
	switch c := ctx.(type) {
	case nil:
		return nil, nil
	case *watchedRun:
		return c, c.run
	case *run:
		return nil, c
	}
	switch v := ctx.Value(watchedRunKey{}).(type) {
	case *watchedRun:
		return v, v.run
	case *run:
		return nil, v
	}
	return nil, nil
}

// watched returns a body that watches over body.
func watched(body TaskFunc) TaskFunc {
	return func(ctx context.Context) error {
		w := &watchedRun{run: ctx.(*run)} // it is called by run.execute
		w.startTimers()
		defer w.stopTimers()
		return body(w)
	}
}

func (w *watchedRun) startTimers() {
	t := w.task
	t.mu.Lock()
	t.lazyLocked().watched = w
	t.mu.Unlock()

	w.mu.Lock()
	defer w.mu.Unlock()
	if d := t.config().readiness; d > 0 { // from now on: the log of the start may have taken its time
		w.readiness = time.AfterFunc(d, func() { w.reportOverdue(ErrNotReady, d) })
		return // the watchdog begins when it is ready
	}
	w.startWatchdogLocked()
}

// startWatchdogLocked begins to watch for heartbeats.
func (w *watchedRun) startWatchdogLocked() {
	if d := w.watchdogPeriod(); d > 0 && !w.disarmed {
		w.expected = time.Since(w.started) + d
		w.watchdog = time.AfterFunc(d, w.checkHeartbeat)
	}
}

// watchdogPeriod is the time of the watchdog; 0 for none.
func (w *watchedRun) watchdogPeriod() time.Duration { return min(w.task.config().watchdog, maxDelay) }

// stopTimers ends the watch. The run's own end comes later.
func (w *watchedRun) stopTimers() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for _, timer := range []**time.Timer{&w.readiness, &w.watchdog} {
		if *timer != nil {
			(*timer).Stop()
			*timer = nil
		}
	}
}

func (w *watchedRun) setReady() {
	t := w.task
	n := decision{now: time.Now()}
	t.mu.Lock()
	if w.ready || t.run != w.run || t.machine.phase != running {
		t.mu.Unlock()
		return
	}
	w.ready = true
	t.tellLocked(&n, &occurrence{kind: EventReady, now: n.now, run: t.runNumberLocked()})
	t.recoverLocked(n.now, t.hasRecoveredLocked(n.now))
	t.awaitHealthLocked(n.now)
	t.mu.Unlock()
	w.mu.Lock()
	if w.readiness != nil {
		w.readiness.Stop()
	}
	if !w.ended {
		w.startWatchdogLocked()
	}
	w.mu.Unlock()
	t.config().manager.readinessChanged(t)
	go t.drainLog() // its handler may hang, or call runtime.Goexit, and the body is not to
}

// disarm ends the watch of a run whose tasks are watched over by a Manager of their own.
func (w *watchedRun) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disarmed = true
	if w.watchdog != nil {
		w.watchdog.Stop()
		w.watchdog = nil
	}
}

// checkHeartbeat is called when a heartbeat is due, as far as the timer knows.
func (w *watchedRun) checkHeartbeat() {
	w.mu.Lock()
	if w.watchdog == nil { // the body has returned
		w.mu.Unlock()
		return
	}
	period := w.watchdogPeriod()
	now := time.Since(w.started)
	due := time.Duration(w.due.Load())
	if due <= now && now-w.expected > period/lateTimer {
		// The process was frozen: the body has had no more chance to say something than this timer to fire.
		due = now + period
		w.due.Store(int64(due))
	}
	if due > now {
		// Not later, for a Heartbeat doesn't touch the timer and may be due before what was
		// announced.
		wait := min(due-now, period)
		w.expected = now + wait
		w.watchdog.Reset(wait)
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	w.reportOverdue(ErrWatchdog, w.task.config().watchdog)
}

// lateTimer is by which part of the watchdog's time a timer must be late for the process to have been frozen.
const lateTimer = 4

// reportOverdue has the run canceled.
func (w *watchedRun) reportOverdue(reason error, timeout time.Duration) {
	w.task.config().manager.overdueQueue.add(overdueRun{w, &OverdueError{Err: reason, Timeout: timeout}})
}

type overdueRun struct {
	*watchedRun
	err *OverdueError
}

// An overdueQueue cancels runs. Those that come while it is at work are dealt with together, because a
// dump of the goroutines takes long.
type overdueQueue struct {
	mu      sync.Mutex
	waiting []overdueRun
	busy    bool
}

func (o *overdueQueue) add(r overdueRun) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = append(o.waiting, r)
	if o.busy {
		return
	}
	o.busy = true
	for len(o.waiting) > 0 {
		runs := o.waiting
		o.waiting = nil
		o.mu.Unlock()
		cancelOverdue(runs)
		o.mu.Lock()
	}
	o.busy = false
}

// cancelOverdue cancels runs of one Manager, unless they have ended or were asked to.
func cancelOverdue(runs []overdueRun) {
	runs = slices.DeleteFunc(runs, func(r overdueRun) bool {
		r.task.mu.Lock()
		defer r.task.mu.Unlock()
		return !r.isOverdueLocked(r.err.Err)
	})
	if len(runs) == 0 {
		return
	}
	late := make([]*run, len(runs))
	for i, r := range runs {
		late[i] = r.run
	}
	m := late[0].task.config().manager
	stacks := m.stacks(late)
	for _, r := range runs {
		r.err.Stack = stacks[r.run]
		s := newStopOp(m, overdueRequest, r.task.config().stopTimeout)
		s.tasks, s.overdue = []*Task{r.task}, &r
		s.start(time.Now())
	}
}

// isOverdueLocked reports whether the run is to be canceled for that reason, still.
func (w *watchedRun) isOverdueLocked(reason error) bool {
	t := w.task
	return t.run == w.run && t.machine.phase == running && (reason != ErrNotReady || !w.ready) //nolint:errorlint // it is one of two
}

// joinBodyError returns the failure of the run whose body returned err after it was canceled.
func (e *OverdueError) joinBodyError(err error) error {
	if _, panicked := err.(*PanicError); !panicked && besideCause(err, e.Err) == nil { //nolint:errorlint // the run's own
		return e
	}
	return errors.Join(e, err)
}
