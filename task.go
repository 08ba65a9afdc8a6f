package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/go-taskmanager/taskmanager/internal/window"
)

// A TaskFunc is the body of a task. It should run until ctx is done and then return soon. How its
// end is judged:
//
//   - Once the task was asked to stop, it has stopped, whatever the body returns.
//   - Otherwise nil completes the task, and an error, a panic or a call of [runtime.Goexit] is a
//     failure. That includes context.Canceled and context.DeadlineExceeded: they came from some
//     other context.
//   - An error made by [backoff.Permanent], or that wraps a [*StopTimeoutError], is a failure
//     without a restart.
//
// ctx ends when the body returns, so goroutines that the body started should end with it. A panic
// in such a goroutine ends the process, as everywhere in Go: only the body's own goroutine can be
// recovered.
type TaskFunc func(ctx context.Context) error

// A Task is a named body under supervision, through all of its runs. Its methods may be called from
// any goroutine, and by its own body.
//
// A Task stays valid after it has ended. Once its name has been forgotten (see [WithHistory]) or
// has been started anew, the old Task is history: it can be asked, and not restarted.
type Task struct {
	name   string
	body   TaskFunc
	config *taskConfig     // shared by the tasks that were started without options
	ctx    context.Context // what each run's context derives from: the Manager's, with the pprof labels

	// state is written by setLocked alone. It may be read without mu. It leaves and enters the
	// ended states with the Manager's mu held as well.
	state atomic.Uint32
	hash  uint32 // of name, for the Manager's index

	mu        sync.Mutex // may be locked with the Manager's mu held, not the other way round
	asked     request    // what the task has been asked for and hasn't done yet
	announced bool       // its end has been; set after every ended state, taken back by a revival
	run       *run       // from the start of a run to its end
	runs      uint64     // started, in all lives of this Task
	startedAt int64      // this life, in Unix nanoseconds
	endedAt   int64      // likewise, in an ended state
	waiters   *waiter    // the stops and restarts that wait for the task
	extras    *extras    // nil until one of them is used
	past      *past      // nil while there is nothing to say in it

	newer, older *Task // those that ended after and before; guarded by the Manager's mu

	first run // of its runs: most tasks have no other
}

// extras are what a task that just runs does without. Guarded by the task's mu.
type extras struct {
	status     string        // of the latest run
	watched    *watchedRun   // the latest run, if it is watched
	done       chan struct{} // made when first asked for; closed when the end is announced
	nextPassAt int64         // in Unix nanoseconds, in a run that waits for its next pass; 0 if it doesn't
	group      *Manager      // of the latest run, if it is a Group
}

func (t *Task) extrasLocked() *extras {
	if t.extras == nil {
		t.extras = &extras{}
	}
	return t.extras
}

// past is what earlier runs leave behind. A task that never fails needs none. Guarded by the task's
// mu, except delays, which belongs to the task's goroutine.
type past struct {
	failures  uint64 // in all lives of this Task
	panics    uint64
	before    counts // of the lives before this one
	lastErr   error  // the last failure of this life
	lastErrAt time.Time
	nextRunAt int64 // in Unix nanoseconds
	gaveUp    error // why this life has failed
	below     error // what the body has left running when it was stopped
	restarts  window.Window
	delays    backoff.BackOff // nil: no delay
	wake      chan struct{}   // sent to by a request, to end a pause or a wait for dependencies; nil until the first
	overdue   *OverdueError   // why the run was canceled, until it is judged
	stuckTold chan struct{}   // closed when it has been published that the task is stuck
	unwound   *outcome        // of the run, if it ended the goroutine that executed it; until the next one knows
}

// pastLocked returns t.past, and makes it before its first use.
func (t *Task) pastLocked() *past {
	if t.past == nil {
		// The error is for policies of the user's: newTask has made the past of a task that has
		// one.
		delays, _ := t.config.newDelays()
		t.past = &past{delays: delays}
	}
	return t.past
}

// counts are those of a task's statistics that only grow.
type counts struct{ runs, failures, panics uint64 }

// A request is what somebody wants of a task. A larger one overrides a smaller one.
type request uint8

const (
	noRequest      request = iota
	overdueRequest         // the run was canceled because its body was late to say something: a failure
	restartRequest
	stopRequest    // of the task alone
	stopAllRequest // as stopRequest; of all tasks
	shutdownRequest
	parentEnded
)

// cause is what a body finds in its context.
func (t *Task) cause(q request) error {
	switch q {
	case restartRequest:
		return ErrRestarted
	case shutdownRequest:
		return ErrShutdown
	case parentEnded:
		return context.Cause(t.config.manager.config.ctx)
	default:
		return ErrStopped
	}
}

func newTask(m *Manager, name string, body TaskFunc, config *taskConfig) (*Task, error) {
	t := &Task{
		name:   name,
		hash:   hashOf(name),
		body:   body,
		config: config,
		ctx:    pprof.WithLabels(m.config.ctx, m.labels(name)),
	}
	if config.readiness > 0 || config.watchdog > 0 {
		t.body = watched(body)
	}
	if config.policy != nil {
		// Made now, so that a bad one is refused instead of found out at the first failure.
		delays, err := config.newDelays()
		if err != nil {
			return nil, err
		}
		t.past = &past{delays: delays}
	}
	return t, nil
}

// Name returns the name under which the task was started.
func (t *Task) Name() string { return t.name }

// State returns the task's state at this moment.
func (t *Task) State() State { return State(t.state.Load()) }

// Done returns a channel that is closed when the task has ended: completed, failed or stopped.
// After a restart by hand of an ended task, Done returns another channel, for its next end.
func (t *Task) Done() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.doneLocked()
}

func (t *Task) doneLocked() <-chan struct{} {
	x := t.extrasLocked()
	if x.done == nil {
		x.done = make(chan struct{})
		if t.announced {
			close(x.done)
		}
	}
	return x.done
}

// Err returns why the task has failed, which is a [*GiveUpError]. It is nil as long as the task has
// not ended, and after it has completed or was stopped.
func (t *Task) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.past == nil {
		return nil
	}
	return t.past.gaveUp
}

// Wait blocks until the task has ended and returns Err, or until ctx is done and returns its cause.
// A body that waits for its own task waits for ctx.
func (t *Task) Wait(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	done := t.Done()
	select {
	case <-done: // whatever ctx says
		return t.Err()
	default:
	}
	select {
	case <-done:
		return t.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stop is [Manager.StopTask] for this very task. After its name was started anew it returns
// ErrTaskNotRunning.
func (t *Task) Stop(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	asked, err := t.config.manager.stop(ctx, []*Task{t}, stopRequest)
	if asked == 0 {
		return fmt.Errorf("%w: %q", ErrTaskNotRunning, t.name)
	}
	return err
}

// Restart is [Manager.RestartTask] for this very task. After it was forgotten or its name was
// started anew it returns ErrTaskNotFound.
func (t *Task) Restart(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	return t.config.manager.restart(ctx, t)
}

// FromContext returns the task whose body was given ctx, or a context that ctx derives from.
// Without one it returns false; so it does for a nil ctx.
func FromContext(ctx context.Context) (*Task, bool) {
	if r := runOf(ctx); r != nil {
		return r.task, true
	}
	return nil, false
}

// SetStatus sets the status of the task whose body was given ctx: a line for people, as in
// [fmt.Sprintf], which shows in [TaskStats]. The next run starts with an empty one. It does nothing
// for a run that is over, and for any other context, nil included.
func SetStatus(ctx context.Context, format string, args ...any) {
	r := runOf(ctx)
	if r == nil {
		return
	}
	status := fmt.Sprintf(format, args...)
	t := r.task
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.run == r {
		t.extrasLocked().status = status
	}
}

func runOf(ctx context.Context) *run {
	if ctx == nil {
		return nil
	}
	r, _ := ctx.Value(runKey{}).(*run)
	return r
}

// tasksOf returns the task whose body was given ctx, or a context that ctx derives from; and, if
// that runs in a nested Manager, those around it.
func tasksOf(ctx context.Context) (tasks []*Task) {
	for r := runOf(ctx); r != nil; r = runOf(r.task.config.manager.config.ctx) {
		tasks = append(tasks, r.task)
	}
	return tasks
}

// setLocked is the only function that changes a task's state.
func (t *Task) setLocked(s State) { t.state.Store(uint32(s)) }

// supervise is the goroutine of the task, from StartTask to the end of the task.
func (t *Task) supervise() {
	pprof.SetGoroutineLabels(t.ctx)
	var (
		r         *run
		o         outcome
		executing bool
		ended     bool
	)
	defer func() {
		switch {
		case ended:
		case executing:
			// The body called runtime.Goexit and this goroutine is unwinding: another one takes
			// over.
			unwound := o
			t.mu.Lock()
			t.pastLocked().unwound = &unwound
			t.mu.Unlock()
			go t.supervise()
		case !t.State().Ended():
			// A log handler or a backoff policy did. It would do so again.
			go t.fail(fmt.Errorf("%w, or its log handler or backoff policy did", ErrGoexit))
		}
	}()
	t.mu.Lock()
	if p := t.past; p != nil && p.unwound != nil {
		r, o, p.unwound = t.run, *p.unwound, nil
	}
	t.mu.Unlock()
	if r == nil {
		t.await()
		r = t.begin()
	}
	for r != nil {
		if !o.known {
			executing = true
			r.execute(&o)
		}
		executing = false
		again := t.settle(r, &o)
		r, o = nil, outcome{}
		if again {
			t.await()
			r = t.begin()
		}
	}
	ended = true
}

// fail ends the task wherever it is, but for its body: nobody has the context of a run that it meets.
func (t *Task) fail(err error) {
	t.end(StateFailed, &ending{now: time.Now(), failure: err, err: &GiveUpError{Task: t.name, Err: err}})
}

// begin starts the next run. It returns nil if the task has been asked to stop, and has ended it
// then.
func (t *Task) begin() *run {
	r := &t.first
	if t.runs > 0 { // only this goroutine changes it
		r = new(run)
	}
	r.task, r.started = t, time.Now()
	t.mu.Lock()
	if t.requestLocked() > restartRequest {
		asked := t.asked
		t.mu.Unlock()
		t.end(StateStopped, &ending{now: r.started, cause: t.cause(asked)})
		return nil
	}
	t.asked = noRequest
	t.run = r
	t.runs++
	if t.extras != nil {
		t.extras.status, t.extras.watched, t.extras.nextPassAt, t.extras.group = "", nil, 0, nil
	}
	t.setLocked(StateRunning)
	waiters := t.takeWaitersLocked(restartRequest)
	t.mu.Unlock()
	if t.config.readiness == 0 {
		t.config.manager.wakeDependents(t)
	}
	if t.config.manager.listens(EventStarted) {
		t.emit(EventStarted, &ending{now: r.started})
	}
	waiters.resolve()
	return r
}

// requestLocked returns what the task has been asked for. The end of the parent context is a
// request that a body may have heard of before the Manager has.
func (t *Task) requestLocked() request {
	if t.asked <= restartRequest && t.config.manager.config.ctx.Err() != nil {
		t.asked = parentEnded
	}
	return t.asked
}

// An ending is what there is to say of the end of a run.
type ending struct {
	now      time.Time
	uptime   time.Duration
	err      error
	cause    error         // of a stop
	delay    time.Duration // until the next run
	restarts int           // within the window
	failure  error         // of a run after which the task was given up; not counted yet
	panicked bool          // as failure is
}

// settle judges a run that is over, and pauses the task until the next one. It returns false if
// there is none; the task has ended then.
func (t *Task) settle(r *run, o *outcome) bool {
	end := ending{now: time.Now(), err: o.err}
	end.uptime = end.now.Sub(r.started)

	t.mu.Lock()
	asked := t.requestLocked()
	if asked <= restartRequest && (o.err != nil || t.config.restart == RestartAlways) {
		t.pastLocked()
	}
	var overdue *OverdueError
	if t.past != nil {
		overdue, t.past.overdue = t.past.overdue, nil
	}
	stuckTold := t.stuckToldLocked()
	t.mu.Unlock()

	if overdue != nil {
		o.err = overdue.with(o.err)
		end.err = o.err
	}
	// What still runs below must not meet its own second instance: the run has failed, then, though
	// it was to be restarted by hand.
	failed := asked <= overdueRequest || asked == restartRequest && leavesRunning(o.err)
	if !failed {
		cause := t.cause(asked)
		end.cause = cause
		r.end(cause, asked == parentEnded)
		if !isOwn(o.err, cause) && !leavesRunning(o.err) {
			end.err = nil
		}
		if asked != restartRequest {
			t.end(StateStopped, &end)
			return false
		}
		if t.config.manager.listens(EventStopped) {
			end.err = errors.Join(cause, end.err)
			t.emit(EventStopped, &end)
		}
		return true
	}
	if o.err == nil {
		r.end(context.Canceled, false)
	} else {
		r.end(o.err, false)
	}
	if o.err == nil && t.config.restart != RestartAlways {
		t.end(StateCompleted, &end)
		return false
	}
	if !t.judge(o, &end) {
		t.end(StateFailed, &end)
		return false
	}
	kind := EventFailed
	if o.err == nil {
		kind = EventCompleted
	}
	if stuckTold != nil {
		<-stuckTold // nobody should read that it failed before that it was stuck
		t.config.manager.mu.Lock()
		t.config.manager.foundLocked(t)
		t.config.manager.mu.Unlock()
	}
	if t.config.manager.listens(kind) {
		t.emit(kind, &end)
	}
	t.pause(end.delay)
	return true
}

// stuckToldLocked returns the channel to wait for before there is more to say of a task that is
// stuck; nil for any other task.
func (t *Task) stuckToldLocked() <-chan struct{} {
	if t.State() != StateStuck {
		return nil
	}
	return t.past.stuckTold
}

// judge counts a run that ended without having been asked to, and decides: true for a restart after
// end.delay, or false to give up, and end.err says why.
func (t *Task) judge(o *outcome, end *ending) bool {
	// All that may call the user's code comes before the lock.
	p, c := t.past, t.config
	final := c.restart == RestartNever || o.err != nil && isFinal(o.err)
	last := o.err
	if !final && p.delays != nil {
		var err error
		end.delay, err = nextDelay(p.delays, end.uptime >= c.healthy())
		if err != nil {
			final = true
			if err != errPolicyStop { //nolint:errorlint // it is nextDelay's own, never wrapped
				last = errors.Join(o.err, err)
			}
		}
	}

	// The failure is counted when the task leaves StateRunning, not earlier: no snapshot shows one
	// without the other.
	var overdue *waiter
	defer func() { overdue.resolve() }()
	t.mu.Lock()
	defer t.mu.Unlock()
	end.failure, end.panicked = o.err, o.panicked
	end.restarts = p.restarts.Count(end.now, c.window)
	switch {
	case final:
		end.delay, end.err = 0, &GiveUpError{Task: t.name, Err: last}
		return false
	case c.maxRestarts != Unlimited && end.restarts >= c.maxRestarts:
		end.delay, end.err = 0, &GiveUpError{Task: t.name, Restarts: end.restarts, Window: c.window, Err: last}
		return false
	}
	p.failed(end)
	t.run = nil
	p.restarts.Add(end.now, c.windowCapacity())
	end.restarts = p.restarts.Len()
	if t.asked == overdueRequest {
		t.asked = noRequest
		overdue = t.takeWaitersLocked(noRequest)
	}
	if t.asked == noRequest {
		p.nextRunAt = end.now.UnixNano() + int64(min(end.delay, aCentury))
		t.setLocked(StateBackoff)
	}
	return true
}

// failed counts the failure that end tells of, if it does. It is called with the task's mu held.
func (p *past) failed(end *ending) {
	if end.failure == nil {
		return
	}
	p.failures++
	if end.panicked {
		p.panics++
	}
	p.lastErr, p.lastErrAt = end.failure, end.now
}

// aCentury is beyond any delay that somebody waits for, and keeps its end within what Unix
// nanoseconds can express.
const aCentury = 100 * 365 * 24 * time.Hour

// pause waits until the delay is over and it is this task's turn to restart, or somebody asks the
// task for something.
func (t *Task) pause(delay time.Duration) {
	limiter := t.config.manager.restartLimiter
	if delay == 0 && limiter == nil {
		// Let others run first: without this, tasks that crash at once starve everything else.
		runtime.Gosched()
		return
	}
	t.mu.Lock()
	wake := t.wakeChannelLocked()
	asked := t.asked
	t.mu.Unlock()
	if asked != noRequest {
		return
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-wake:
			return
		}
	} else {
		runtime.Gosched()
	}
	if limiter != nil {
		limiter.Wait(wake)
	}
}

// wakeChannelLocked returns past.wake, empty.
func (t *Task) wakeChannelLocked() <-chan struct{} {
	p := t.pastLocked()
	if p.wake == nil {
		p.wake = make(chan struct{}, 1)
	}
	select {
	case <-p.wake: // left over from a request that came when the last pause had ended
	default:
	}
	return p.wake
}

// end ends the task.
func (t *Task) end(s State, end *ending) {
	kind := EventStopped
	switch s {
	case StateCompleted:
		kind = EventCompleted
	case StateFailed:
		kind = EventGaveUp
	}

	m := t.config.manager
	below := s == StateStopped && leavesRunning(end.err)
	m.mu.Lock()
	t.mu.Lock()
	stuckTold := t.stuckToldLocked()
	asked := t.asked
	t.setLocked(s)
	t.endedAt = end.now.UnixNano()
	t.run = nil
	switch {
	case s == StateFailed:
		p := t.pastLocked()
		p.failed(end)
		p.gaveUp = end.err
	case below:
		t.pastLocked().below = end.err
	}
	t.mu.Unlock()
	m.endedLocked(t)
	switch {
	case !t.config.critical:
	case s == StateStopped:
		m.foundLocked(t) // it may have been stuck
	default:
		m.lostLocked(t, end.err)
	}
	m.mu.Unlock()

	if s == StateCompleted {
		m.wakeDependents(t) // to have completed is to be ready, for good
	}
	defer t.announce() // even if a log handler calls runtime.Goexit
	if stuckTold != nil {
		<-stuckTold // nobody should read that it stopped before that it is stuck
	}
	if m.listens(kind) {
		t.emit(kind, end)
	}
	if s == StateStopped && asked == stopRequest {
		m.warnOfDependents(t)
	}
}

// announce tells those who wait that the task has ended.
func (t *Task) announce() {
	t.mu.Lock()
	t.announced = true
	if t.extras != nil && t.extras.done != nil {
		close(t.extras.done)
	}
	followed := noRequest
	if t.State() == StateStopped {
		followed = t.asked
	}
	waiters := t.takeWaitersLocked(followed)
	if t.past != nil {
		waiters.tell(t.past.below) // with the lock, so that a stop whose deadline is now has heard of it
	}
	t.mu.Unlock()
	waiters.resolve()
	t.config.manager.bus.pending.Done()
}

// emit publishes an event. It is not inlined, for what it puts on the stack would make that of
// every parked task larger.
//
//go:noinline
func (t *Task) emit(kind EventKind, end *ending) {
	e := t.event(kind, end)
	t.config.manager.publish(&e)
}

// event makes the event of that kind.
func (t *Task) event(kind EventKind, end *ending) Event {
	e := Event{
		Time: end.now, Manager: t.config.manager.config.name, Task: t.path(), Kind: kind,
		Err: end.err, Cause: end.cause, Delay: end.delay, Uptime: end.uptime,
		Restarts: end.restarts, MaxRestarts: t.config.maxRestarts, Window: t.config.window,
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.Run = t.runs
	if t.past != nil {
		e.Run -= t.past.before.runs
	}
	return e
}
