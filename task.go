package taskmanager

import (
	"context"
	"fmt"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/go-taskmanager/taskmanager/internal/goroutines"
	"github.com/go-taskmanager/taskmanager/internal/window"
)

// A TaskFunc is the body of a task. It should run until ctx is done and then return soon. How its
// end is judged:
//
//   - Once the task was asked to stop, it has stopped, whatever the body returns.
//   - Otherwise nil completes the task, and an error, a panic or a call of [runtime.Goexit] is a
//     failure. That includes context.Canceled and context.DeadlineExceeded: they came from some
//     other context.
//   - An error made by [backoff.Permanent], or that wraps a [*StopTimeoutError] of what still
//     executes, is a failure without a restart.
//   - One with a method RetryAfter() time.Duration, be it by what it wraps, that returns a positive time is
//     a failure whose restart is delayed for that long at least, an hour at most; so is the end of a
//     cooldown ([WithCooldown]), and the pass after one that is given up ([Every]). Of several it is the
//     one that errors.As finds. What is done by hand does not wait for it.
//
// ctx ends when the body returns, so goroutines that the body started should end with it. A panic
// in such a goroutine ends the process, as everywhere in Go: only the body's own goroutine can be
// recovered.
type TaskFunc func(ctx context.Context) error

// A Task is a named body under supervision, through all of its runs. Its methods may be called from
// any goroutine, and by its own body.
//
// A Task stays valid after it has ended, and when another body takes over its name by
// [Manager.ReplaceTask] or [Manager.Reconcile]. Once its name has been forgotten (see [WithHistory]) or
// has been started anew, the old Task is history: it can be asked, and not restarted.
type Task struct {
	name   string
	body   TaskFunc
	cfg    atomic.Pointer[taskConfig] // shared by the tasks that were started without options
	labels any                        // those of pprof, as they are found in a context

	// state is that of machine, for those who read it without mu. It leaves and enters the ended
	// states with the Manager's mu held as well.
	state atomic.Uint32
	hash  uint32 // of name, for the Manager's index

	mu      sync.Mutex // may be locked with the Manager's mu held, not the other way round
	machine machine    // changed by applyLocked alone
	logging bool       // somebody is with the log's handler for this task; who finds that leaves the line in lazy.lines

	// driver is the number of the goroutine that drives the task. One that comes back from user
	// code and finds another number there has been replaced, and leaves.
	driver uint32

	run       *run    // from the start of a run to its end
	runs      uint64  // started, in all lives of this Task
	startedAt int64   // this life, in Unix nanoseconds
	endedAt   int64   // likewise, in an ended state
	waiters   *waiter // those who have asked for something that has not been done yet
	lazy      *lazyFields
	record    *record

	nextEnded, prevEnded *Task // in the Manager's list of those that have ended; guarded by the Manager's mu

	firstRun run // most tasks have no other
}

// lazyFields are what a task that just runs does without; nil until one of them is used. Guarded by
// the task's mu.
type lazyFields struct {
	status  string       // of the latest run
	watched *watchedRun  // the latest run, if it is watched
	passes  *passes      // of this life, if the body makes some
	group   *Manager     // of the latest run, if it is a Group
	doomed  error        // why the task will wait until somebody restarts another one; nil if it won't
	end     *lifeEnd     // of this life; made when first asked for
	lines   []occurrence // to be logged by whoever is with the log's handler, or comes there next
	wake    chan struct{}
	parked  bool // the driver waits for wake, and maybe for other things
	clogged bool // it waits, or will when its delay is over, because too many lines do
	hurry   bool // somebody has asked for the next run: WithStartJitter does not hold it up

	ineffectiveCalls uint32 // of which the log has warned, as in run.flags
	rare             *rareFields
}

// rareFields are lazyFields that hardly any task needs. Guarded by the task's mu.
type rareFields struct {
	drain      *drain // of the run
	leftBehind error  // what a group's run has left executing, and could not return
	// logContext is that of lines about the latest run, to whose context middleware has added something; otherwise nil, and so when the
	// next run begins, and when the task has ended.
	logContext *logValues
	warnedOf   map[string]bool // of which the log has warned: those that the task has waited for and that had not been started, by name
	// restartedBy is who has restarted or replaced the task while no body executed, if that is known: for the event of the next run.
	restartedBy *byHand
	lease       *leaseState // nil before the task has waited for its lease
}

// A lifeEnd is the end of one life of a task, for those who wait for it.
type lifeEnd struct {
	done chan struct{} // closed at the end
	err  error         // set before that
}

// A record is what earlier runs leave behind. A task that never fails needs none. Guarded by the
// task's mu.
type record struct {
	failures     uint64 // in all lives of this Task
	panics       uint64
	earlierLives counts
	lastErr      error         // the last failure of this life
	lastErrAt    int64         // in Unix nanoseconds
	delay        time.Duration // before the next run, from the end of the one that is judged
	gaveUp       error         // why this life has failed
	restarts     window.Window

	// delays is used by the driver alone, and by no second one while the first is in it: inPolicy.
	delays    backoff.BackOff // nil: no delay, or to be made anew
	inPolicy  bool
	backedOff bool // delays has been asked in this life: before its first use it is reset, for it may have a clock of its own
	healthy   bool // a run has been, since delays was asked last: it is to be reset

	askingUnsure bool   // user code is being called about unsure
	inARow       uint32 // failures, in this life, since a run was healthy
	failingSince int64  // when the first of them happened, in Unix nanoseconds
	recovery     *recovery
	history      *eventRing // in all lives; nil before the first failure

	overdue     *OverdueError // why the run was canceled, until it has returned
	loss        *lossError    // likewise, of one that is bound to a task that was lost, or whose lease was
	stuckEvent  *occurrence   // that the task is stuck, until that has been published
	stuckAfter  time.Duration // how long its latest run had been waited for when it was stuck
	judged      runEnd        // the run that is judged, and until the next one begins
	judgedAt    time.Time     // when that was over
	unsure      *runEnd       // of the run before: whether its error says that something still executes takes user code to know; nil if it is known
	leftRunning error         // what the body has left executing when it was stopped
}

// nextRunAt is when the next run begins, while the task waits for its delay.
func (p *record) nextRunAt() time.Time {
	return time.Unix(0, p.judgedAt.UnixNano()+int64(min(p.delay, maxDelay)))
}

// A runEnd is how a run has ended.
type runEnd struct {
	err      error
	uptime   time.Duration
	run      uint64
	panicked bool
	asked    bool // its methods may have called runtime.Goexit: they are not called again
}

// counts are those of a task's statistics that only grow.
type counts struct{ runs, failures, panics uint64 }

func (c *counts) add(other counts) {
	c.runs += other.runs
	c.failures += other.failures
	c.panics += other.panics
}

func newTask(m *Manager, name string, body TaskFunc, config *taskConfig) (*Task, error) {
	t := &Task{
		name:   name,
		hash:   hashOf(name),
		body:   body,
		labels: pprof.WithLabels(m.labels, goroutines.Labels(m.id, name)).Value(labelsKey),
	}
	if isGroup(body) {
		ofGroup := *config
		ofGroup.isGroup, config = true, &ofGroup
	}
	t.cfg.Store(config)
	err := config.checkLease()
	if err != nil {
		return nil, err
	}
	if t.body, err = chain(config.middleware, body); err != nil {
		return nil, err
	}
	if config.readiness > 0 || config.watchdog > 0 {
		t.body = watched(t.body)
	}
	if makesPasses(body) {
		t.lazy = &lazyFields{passes: new(passes)} // so that it is known before its first run
	}
	if config.policy != nil {
		// Made now, so that a bad one is refused instead of found out at the first failure.
		delays, err := config.newDelays()
		if err != nil {
			return nil, err
		}
		t.record = &record{delays: delays}
	}
	return t, nil
}

func (t *Task) lazyLocked() *lazyFields {
	if t.lazy == nil {
		t.lazy = &lazyFields{}
	}
	return t.lazy
}

func (x *lazyFields) rareLocked() *rareFields {
	if x.rare == nil {
		x.rare = &rareFields{}
	}
	return x.rare
}

func (t *Task) recordLocked() *record {
	if t.record == nil {
		t.record = &record{}
	}
	return t.record
}

// config is what the task was started with.
func (t *Task) config() *taskConfig { return t.cfg.Load() }

// Name returns the name under which the task was started.
func (t *Task) Name() string { return t.name }

// State returns the task's state at this moment.
func (t *Task) State() State { return State(t.state.Load()) }

// Done returns a channel that is closed when the task has ended: completed, failed or stopped.
// After a restart by hand of an ended task, Done returns another channel, for its next end; and so it
// does after the task was replaced, by which the life of the former body has ended.
func (t *Task) Done() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.endLocked().done
}

// endLocked returns the end of this life.
func (t *Task) endLocked() *lifeEnd {
	x := t.lazyLocked()
	if x.end == nil {
		x.end = &lifeEnd{done: make(chan struct{})}
		if t.machine.phase.ended() {
			x.end.err = t.errLocked()
			close(x.end.done)
		}
	}
	return x.end
}

// Err returns why the task has failed, which is a [*GiveUpError]. It is nil as long as the task has
// not ended, and after it has completed or was stopped. After a restart by hand of a task that has
// ended it is that of the new life.
func (t *Task) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.errLocked()
}

func (t *Task) errLocked() error {
	if t.record == nil {
		return nil
	}
	return t.record.gaveUp
}

// Wait blocks until the task has ended and returns Err as it was then, whatever has happened to the
// task since; or until ctx is done and returns its cause. A body that waits for its own task waits
// for ctx.
func (t *Task) Wait(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	end := t.endLocked()
	t.mu.Unlock()
	select {
	case <-end.done: // whatever ctx says
		return end.err
	default:
	}
	select {
	case <-end.done:
		return end.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// WaitReady blocks until the task is ready, so that those that depend on it may run (see [WithReadiness]), or has completed, and returns
// nil; or until it has ended otherwise, and returns its [*GiveUpError], or an error that wraps [ErrTaskNotRunning] if it was stopped;
// or until ctx is done and returns its cause. A task that fails meanwhile, and is restarted, is waited for. A body that waits for its
// own task before it has called Ready waits for ctx.
func (t *Task) WaitReady(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	m := t.config().manager
	for {
		if done, err := t.readiness(); done {
			return err
		}
		if done, err := m.awaitReadinessOf(ctx, t); done {
			return err
		}
	}
}

// Stop is [Manager.StopTask] for this very task. After its name was started anew it returns
// ErrTaskNotRunning.
func (t *Task) Stop(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	accepted, err := t.config().manager.stopTasks(ctx, []*Task{t}, stopRequest)
	if accepted == 0 {
		return fmt.Errorf("%w: %q", ErrTaskNotRunning, t.name)
	}
	return err
}

// Restart is [Manager.RestartTask] for this very task. After it was forgotten or its name was
// started anew it returns ErrTaskNotFound, or ErrManagerClosed if the Manager is closed.
func (t *Task) Restart(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	err := t.config().manager.restart(ctx, t)
	if err == errNameTaken { //nolint:errorlint // it is restart's own, never wrapped
		return fmt.Errorf("%w: %q", ErrTaskNotFound, t.name)
	}
	return err
}

// Forget has the Manager forget the task, which has ended, as it forgets those that are too many for [WithHistory]: one that was given up
// is no problem of [Manager.Health] any more. It returns ErrTaskRunning if the task has not ended, and ErrTaskNotFound if it is forgotten
// or its name was started anew.
func (t *Task) Forget() error {
	m := t.config().manager
	m.mu.Lock()
	known, ended := m.tasks.find(t.name) == t, t.State().Ended()
	if known && ended {
		m.dropLocked(t)
	}
	m.mu.Unlock()
	switch {
	case !known:
		return fmt.Errorf("%w: %q", ErrTaskNotFound, t.name)
	case !ended:
		return fmt.Errorf("%w: %q", ErrTaskRunning, t.name)
	}
	m.doomChanged(t)
	return nil
}

// Path returns the name of the task, after those of the groups around it, the outermost first. Log lines and events have them
// joined by slashes, which a name may have as well.
func (t *Task) Path() []string {
	var path []string
	for ; t != nil; t = t.config().manager.config.groupTask {
		path = append(path, t.name)
	}
	slices.Reverse(path)
	return path
}

// isHaltedLocked reports whether somebody wants the task not to run: it was stopped, or paused by hand.
func (t *Task) isHaltedLocked() bool { return t.machine.phase == stopped || t.machine.phase == paused }

// path is the name of the task, with those of the groups around it.
func (t *Task) path() string {
	if prefix := t.config().manager.config.prefix; prefix != "" {
		return prefix + t.name
	}
	return t.name
}

// causeOf is why the task stops after a request: what the body finds in its context, but for a restart or a replacement that has
// failed. For an unboundRequest, of which it says by whose loss, it is called with the task's mu held.
func (t *Task) causeOf(q request) error {
	switch q {
	case unboundRequest:
		if t.record != nil && t.record.loss != nil {
			return t.record.loss
		}
		return ErrDependencyLost
	case restartRequest:
		return ErrRestarted
	case replaceRequest:
		return ErrReplaced
	case pauseRequest:
		return ErrPaused
	case failedRestartRequest:
		return errRestartTimedOut
	case failedReplaceRequest:
		return errReplaceTimedOut
	case shutdownRequest:
		return ErrShutdown
	case parentDoneRequest:
		return t.config().manager.parentCause()
	default:
		return ErrStopped
	}
}
