package taskmanager

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A stop is one request of some tasks, with one deadline: to stop, or to restart or to fail, which
// begin with a stop. It owns a timer until the last of them has done as asked. Nobody needs to wait
// for it: at the deadline it judges by itself who is stuck.
type stop struct {
	manager *Manager
	request request
	timeout time.Duration
	tasks   []*Task

	left    atomic.Int64  // tasks that have not done as asked yet
	over    chan struct{} // closed when left gets to 0, or after the deadline; err is set then
	err     error         // a *StopTimeoutError for each task that is stuck, and below; or nil
	outcome atomic.Uint32 // of a restart, which has one task: the request that this has followed
	overdue *overdueRun   // of an overdueRequest: what it is about

	mu      sync.Mutex  // may be locked with a task's mu held, not the other way round
	timer   *time.Timer // set by begin, unless left gets to 0 before
	expired bool        // it is for expire to close over
	below   []error     // of tasks that have stopped, and said that something below them has not
}

// A waiter is the place of a stop in the list of those that wait for a task.
type waiter struct {
	stop *stop
	next *waiter
}

// resolve tells every stop in the list that the task has done as it was asked.
func (w *waiter) resolve() {
	for ; w != nil; w = w.next {
		w.stop.resolve()
	}
}

// tell hands on what the task says of something that still runs below it.
func (w *waiter) tell(err error) {
	if err == nil {
		return
	}
	for ; w != nil; w = w.next {
		w.stop.mu.Lock()
		w.stop.below = append(w.stop.below, err)
		w.stop.mu.Unlock()
	}
}

// takeWaitersLocked empties the list of those that wait for the task, and leaves them the request
// that it has followed: noRequest if it has completed or failed. At their deadline they find the
// task no longer late, though they may not have been resolved yet.
func (t *Task) takeWaitersLocked(followed request) *waiter {
	waiters := t.waiters
	t.waiters = nil
	for w := waiters; w != nil; w = w.next {
		w.stop.outcome.Store(uint32(followed))
	}
	return waiters
}

func newStop(m *Manager, q request, timeout time.Duration) *stop {
	return &stop{manager: m, request: q, timeout: timeout, over: make(chan struct{})}
}

// begin asks every task, and arms the timer for those that have not done as asked at once. since is
// when the timeout began. It returns how many of them had not ended before.
func (s *stop) begin(since time.Time) (asked int) {
	s.left.Store(int64(len(s.tasks)))
	waiters := make([]waiter, len(s.tasks))
	for i, t := range s.tasks {
		waiters[i].stop = s
		if t.ask(s.request, &waiters[i]) {
			asked++
		} else {
			s.resolve()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left.Load() > 0 {
		s.timer = time.AfterFunc(s.timeout-time.Since(since), s.expire)
	}
	return asked
}

func (s *stop) resolve() {
	if s.left.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	if !s.expired {
		s.err = joined(s.below)
		close(s.over)
	}
}

// ask asks the task for q and lets w wait for it. It returns false if the task has ended.
func (t *Task) ask(q request, w *waiter) bool {
	t.mu.Lock()
	state := t.State()
	if state.Ended() {
		t.mu.Unlock()
		return false
	}
	overdue := w.stop.overdue
	if overdue != nil {
		if !overdue.isOverdueLocked(overdue.err.Err) {
			t.mu.Unlock()
			return false
		}
		t.pastLocked().overdue = overdue.err
	}
	w.next, t.waiters = t.waiters, w
	if t.requestLocked() <= restartRequest && q > t.asked {
		t.asked = q
	}
	asked, r := t.asked, t.run
	if asked != overdueRequest {
		overdue = nil
	}
	if state == StateRunning || asked != restartRequest && !state.stopping() {
		t.setLocked(StateStopping)
	}
	t.wakeLocked()
	t.mu.Unlock()
	switch {
	case overdue != nil:
		r.end(overdue.err.Err, false)
	case r != nil:
		r.end(t.cause(asked), asked == parentEnded)
	}
	return true
}

// wakeLocked ends a pause of the task, or has it look after its dependencies.
func (t *Task) wakeLocked() {
	if t.past != nil && t.past.wake != nil {
		select {
		case t.past.wake <- struct{}{}:
		default: // it has been woken already
		}
	}
}

// expire is called at the deadline, on a goroutine of its own. Who has not returned by now is late,
// also if it returns while the dump is made.
func (s *stop) expire() {
	s.mu.Lock()
	if s.left.Load() == 0 { // in the nick of time
		s.mu.Unlock()
		return
	}
	s.expired = true
	s.mu.Unlock()
	var (
		now   = time.Now()
		late  []*Task
		stuck = make(map[*Task]ending) // those of late that this stop is the first to find
		told  = make(chan struct{})
	)
	for _, t := range s.tasks {
		t.mu.Lock()
		if t.awaitedByLocked(s) {
			late = append(late, t)
			if t.State() == StateStopping {
				t.setLocked(StateStuck)
				t.pastLocked().stuckTold = told
				e := ending{now: now}
				if t.run != nil {
					e.uptime = now.Sub(t.run.started)
				}
				stuck[t] = e
			}
			if t.asked == restartRequest && s.request == restartRequest {
				t.asked = stopRequest // the restart has failed; it must not come as a surprise later
			}
		}
		t.mu.Unlock()
	}
	var (
		stacks = s.manager.stacks(late)
		errs   = make([]error, len(late))
		events []*Event
	)
	for i, t := range late {
		errs[i] = &StopTimeoutError{Task: t.name, Timeout: s.timeout, Stack: stacks[t]}
		if e, ok := stuck[t]; ok {
			e.err = errs[i]
			event := t.event(EventStuck, &e)
			events = append(events, &event)
			s.manager.bus.deliver(&event) // before Shutdown goes on, which delivers what waits
		}
	}
	s.mu.Lock()
	s.err = joined(append(errs, s.below...))
	s.mu.Unlock()
	s.manager.bus.pending.Add() // before anybody hears of it, and shuts down
	defer s.manager.bus.pending.Done()
	defer close(told)
	if s.overdue != nil && len(stuck) > 0 {
		s.manager.lostToWatchdog(s.tasks[0], s.err)
	}
	close(s.over)
	// The log's handler is the user's: it must not make the stop return after its deadline, and may
	// call runtime.Goexit.
	for _, e := range events {
		s.manager.bus.logEvent(e)
	}
}

// joined is errors.Join, and leaves a single error as it is. It may change errs.
func joined(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

func (t *Task) awaitedByLocked(s *stop) bool {
	for w := t.waiters; w != nil; w = w.next {
		if w.stop == s {
			return true
		}
	}
	return false
}

// wait returns when every task has done as asked or has been judged to be stuck, or when ctx is
// done. With bounded, the stop's own deadline is not after that of ctx, so ctx is only asked
// whether it was canceled.
func (s *stop) wait(ctx context.Context, bounded bool) error {
	if err, over := s.verdict(); over {
		return err
	}
	select {
	case <-s.over:
	case <-ctx.Done():
		if !bounded || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return context.Cause(ctx)
		}
		<-s.over // its deadline is now, too
	}
	return s.err
}

// ask asks tasks for q, all at once. It returns the stops to wait for, the earliest deadline first;
// the task that calls it, as ctx tells, is asked as well, but not waited for. asked counts the
// tasks that had not ended before. bounded says that the deadline of ctx holds: ctx was not done at
// the beginning.
func (m *Manager) ask(ctx context.Context, tasks []*Task, q request, bounded bool) (stops []*stop, asked int, own bool) {
	start := time.Now()
	atMost := time.Duration(math.MaxInt64)
	if deadline, ok := ctx.Deadline(); ok && bounded {
		atMost = max(0, deadline.Sub(start))
	}
	// One stop for all tasks of the same timeout, for each has a timer, and one for each caller.
	var (
		callers  = tasksOf(ctx)
		unwaited []*stop
	)
	byTimeout := make(map[time.Duration]*stop)
	for _, t := range tasks {
		timeout := min(t.config.stopTimeout, atMost)
		if slices.Contains(callers, t) {
			s := newStop(m, q, timeout)
			s.tasks = []*Task{t}
			unwaited = append(unwaited, s)
			continue
		}
		s := byTimeout[timeout]
		if s == nil {
			s = newStop(m, q, timeout)
			byTimeout[timeout] = s
			stops = append(stops, s)
		}
		s.tasks = append(s.tasks, t)
	}
	slices.SortFunc(stops, func(a, b *stop) int { return cmp.Compare(a.timeout, b.timeout) })
	for _, s := range stops {
		asked += s.begin(start)
	}
	for _, s := range unwaited {
		asked += s.begin(start)
	}
	return stops, asked, len(unwaited) > 0
}

// stop asks tasks for q and waits for them, for each until its own deadline. Those that depend on
// others of them come first.
func (m *Manager) stop(ctx context.Context, tasks []*Task, q request) (asked int, err error) {
	bounded := ctx.Err() == nil
	var turns []*turn
	if len(tasks) > 1 && m.depended.Load() > 0 {
		tasks, turns = inTurns(tasks)
	}
	stops, asked, own := m.ask(ctx, tasks, q, bounded)
	takeTurns(ctx, turns, q, bounded)
	if own || slices.ContainsFunc(turns, func(t *turn) bool { return t.unawaited }) {
		ctx = context.WithoutCancel(ctx) // it is ending by its owner's wish
	}
	errs, over := waitForTurns(ctx, turns, bounded)
	for _, s := range stops {
		if s.wait(ctx, bounded) == nil {
			continue
		}
		err, judged := s.verdict()
		if !judged {
			over = false // ctx is done: the same goes for the others
			break
		}
		errs = append(errs, err)
	}
	if !over {
		errs = append(errs, context.Cause(ctx))
	}
	return asked, joined(errs)
}

// verdict returns the error of the stop, if it is over.
func (s *stop) verdict() (err error, over bool) {
	select {
	case <-s.over:
		return s.err, true
	default:
		return nil, false
	}
}
