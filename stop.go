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

// A stopOp is one request of some tasks, with one deadline: to stop, or to restart or to fail, which
// begin with a stop. It owns a timer until the last of them has done as asked. Nobody needs to wait
// for it: at the deadline it judges by itself who is stuck.
type stopOp struct {
	manager *Manager
	request request
	hand    *byHand // who has asked, if somebody has done so by hand; of a Shutdown, if AskedBy says who
	timeout time.Duration
	tasks   []*Task
	overdue *overdueRun // of an overdueRequest: what it is about
	loss    *lossError  // of an unboundRequest: by which loss

	replacement *replacement // of a replaceRequest, which has one task, too

	deadline  time.Time     // set by start, before any task is asked
	remaining atomic.Int64  // tasks that have not done as asked yet
	followed  atomic.Uint32 // of a restart, a replacement or a pause, which has one task: the request that this has followed
	judged    chan struct{} // closed when remaining gets to 0, or at the deadline, when it is decided who is stuck
	done      chan struct{} // closed when err is set: with judged, or when it is known where the stuck bodies are
	err       error         // a *StopTimeoutError for each task that is stuck, and leftRunning; or nil

	early       chan struct{}   // made when a dump is begun before the deadline; closed when stacks is set
	stacks      map[*run][]byte // of those that had not ended as asked then
	mu          sync.Mutex      // may be locked with a task's mu held, not the other way round
	timer       *time.Timer     // set by start, unless remaining gets to 0 before
	expired     bool            // it is for expire to close done
	leftRunning []error         // of tasks that have stopped, and said that something below them has not
}

// A waiter is the place of a stopOp among those that wait for a task.
type waiter struct {
	op   *stopOp
	next *waiter
}

func newStopOp(m *Manager, q request, timeout time.Duration) *stopOp {
	return &stopOp{manager: m, request: q, timeout: timeout, judged: make(chan struct{}), done: make(chan struct{})}
}

// start asks every task, and arms the timer for those that have not done as asked at once. since is
// when the timeout began. It returns how many of the tasks could be asked.
func (s *stopOp) start(since time.Time) (accepted int) {
	s.deadline = since.Add(s.timeout)
	s.remaining.Store(int64(len(s.tasks)))
	waiters := make([]waiter, len(s.tasks))
	for i, t := range s.tasks {
		waiters[i].op = s
		n := decision{
			input: s.request.asking(), request: s.request, now: time.Now(), waiter: &waiters[i], hand: s.hand,
		}
		t.decide(&n)
		if n.input == askedStop && n.more && n.phase.executes() {
			go t.drainLog() // that of a restart which has become a stop is not to wait for the body, which may wait for the log itself
		}
		if n.joined {
			accepted++
			if n.phase.ended() || n.phase == paused || n.input == askedReplace && !n.phase.executes() {
				t.config().manager.doomChanged(t) // it does not wait any more for those that it has waited for
			}
		} else {
			s.resolve()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.remaining.Load() > 0 {
		left := s.timeout - time.Since(since)
		if lead := min(s.manager.dumps.lead(), left/2); lead > 0 { // by half of the time most have done as asked
			s.timer = time.AfterFunc(left-lead, func() { s.dumpEarly(lead) })
		} else {
			s.timer = time.AfterFunc(left, s.expire)
		}
	}
	return accepted
}

// dumpEarly is called when the deadline is as far off as a dump of the goroutines takes.
func (s *stopOp) dumpEarly(lead time.Duration) {
	s.mu.Lock()
	if s.remaining.Load() == 0 {
		s.mu.Unlock()
		return
	}
	s.timer = time.AfterFunc(lead, s.expire)
	s.early = make(chan struct{})
	s.mu.Unlock()
	defer close(s.early)
	var late []*run
	for _, t := range s.tasks {
		t.mu.Lock()
		if t.hasWaiterLocked(s) && t.run != nil {
			late = append(late, t.run)
		}
		t.mu.Unlock()
	}
	s.stacks = s.manager.stacks(late)
}

// lateStacks returns where the goroutines of those runs are that have not ended as asked. It is called at the deadline, when early
// does not change any more: if dumpEarly was called, it is that which has set the timer.
func (s *stopOp) lateStacks(late []*run) map[*run][]byte {
	if s.early == nil {
		return s.manager.stacks(late)
	}
	<-s.early
	return s.stacks
}

// resolveLocked tells those who wait for the task which request it has followed. At their deadline they find the task no longer
// late.
func (t *Task) resolveLocked(followed request) {
	var leftRunning error
	if t.record != nil && t.machine.phase == stopped {
		leftRunning = t.record.leftRunning
	}
	for w := t.waiters; w != nil; w = w.next {
		w.op.followed.Store(uint32(followed))
		w.op.addLeftRunning(leftRunning)
		w.op.resolve()
	}
	t.waiters = nil
}

// hasWaiterLocked reports whether s waits for the task.
func (t *Task) hasWaiterLocked(s *stopOp) bool {
	for w := t.waiters; w != nil; w = w.next {
		if w.op == s {
			return true
		}
	}
	return false
}

// removeWaiterLocked removes the waiter of s, and reports whether there was one.
func (t *Task) removeWaiterLocked(s *stopOp) bool {
	for at := &t.waiters; *at != nil; at = &(*at).next {
		if (*at).op == s {
			*at = (*at).next
			return true
		}
	}
	return false
}

func (s *stopOp) addLeftRunning(err error) {
	if err != nil {
		s.mu.Lock()
		s.leftRunning = append(s.leftRunning, err)
		s.mu.Unlock()
	}
}

// resolve takes note that one more task has done as it was asked.
func (s *stopOp) resolve() {
	if s.remaining.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	if !s.expired {
		s.err = joinErrors(s.leftRunning)
		close(s.judged)
		close(s.done)
	}
}

// expire is called at the deadline, on a goroutine of its own. Whose body has not returned by now is stuck, also if it
// returns while the dump of the goroutines is made that shows where it is.
func (s *stopOp) expire() {
	s.mu.Lock()
	if s.remaining.Load() == 0 {
		s.mu.Unlock()
		return
	}
	s.expired = true
	s.mu.Unlock()
	var (
		now   = time.Now()
		late  []*run
		found = make(map[*run]*occurrence) // those of late that this is the first to find
		gone  []*run                       // those of late whose restart or replacement was the last hope, after a missed heartbeat or a loss
	)
	s.manager.bus.pending.Add() // before anybody hears of it, and shuts down
	for _, t := range s.tasks {
		n := decision{input: deadlinePassed, now: now, timeout: s.timeout, hand: s.hand}
		t.mu.Lock()
		if t.removeWaiterLocked(s) {
			was := t.machine.phase
			if s.request <= unboundRequest {
				n.input = overduePassed
			}
			t.applyLocked(&n, n.input)
			if t.machine.phase.executes() {
				late = append(late, t.run)
				if n.stuck != nil {
					found[t.run] = n.stuck
				}
				wasCanceled := was.state() == StateStuck || t.record != nil && (t.record.overdue != nil || t.record.loss != nil)
				if was.restarts() && wasCanceled && t.machine.phase == stuck {
					gone = append(gone, t.run)
				}
			} else {
				s.followed.Store(uint32(restartRequest)) // of a run that begins as soon as it can
			}
		}
		t.mu.Unlock()
		n.endContexts()
	}
	close(s.judged)
	stacks := s.lateStacks(late)
	errs := make([]error, 0, len(late))
	for _, r := range late {
		err := &StopTimeoutError{Task: r.task.name, Timeout: s.timeout, Stack: stacks[r], run: r}
		errs = append(errs, err)
		if o := found[r]; o != nil {
			s.publishStuck(r.task, o, err)
		}
		if slices.Contains(gone, r) {
			s.recordStuck(r, err)
		}
	}
	s.err = joinErrors(append(errs, s.leftRunning...)) // no task has a waiter any more that would add to them
	close(s.done)
	s.manager.bus.pending.Done()
}

// publishStuck tells that a task is stuck, unless its body has returned meanwhile, and this has been told already.
func (s *stopOp) publishStuck(t *Task, o *occurrence, err error) {
	m := s.manager
	takesDown := m.takenDownBy(t)
	m.mu.Lock()
	t.mu.Lock()
	told := t.record == nil || t.record.stuckEvent != o
	if !told {
		t.record.stuckEvent = nil
		o.err, o.waiting = err, takesDown
		t.tellLocked(&decision{}, o)
		// One that is to be restarted by hand, or replaced, has until the deadline of that; one that is to be stopped, or paused, has been
		// seen to by whoever asked for that.
		if t.machine.pending <= unboundRequest && t.config().critical {
			m.recordCriticalExitLocked(t, err)
		}
	}
	t.mu.Unlock()
	m.mu.Unlock()
	if !told {
		go t.drainLog() // its handler may take its time, and there may be others that are stuck
	}
}

// recordStuck notes that a critical task is gone whose restart has failed, unless its body has returned meanwhile.
func (s *stopOp) recordStuck(r *run, err error) {
	m, t := s.manager, r.task
	m.mu.Lock()
	defer m.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.config().critical && t.run == r {
		m.recordCriticalExitLocked(t, err)
	}
}

// joinErrors is errors.Join, and leaves a single error as it is. It may change errs.
func joinErrors(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// wait returns when every task has done as asked or has been judged to be stuck, or when ctx is
// done. With hasDeadline, the stop's own deadline is not after that of ctx, so ctx is only asked
// whether it was canceled.
func (s *stopOp) wait(ctx context.Context, hasDeadline bool) error {
	if err, done := s.result(); done {
		return err
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		if !hasDeadline || !hasReachedDeadline(ctx) {
			return context.Cause(ctx)
		}
		<-s.done // its deadline is now, too
	}
	return s.err
}

// hasReachedDeadline reports whether ctx, which is done, is so because of its deadline. One of the user's own may say that, and have
// another deadline, or none.
func hasReachedDeadline(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && errors.Is(ctx.Err(), context.DeadlineExceeded) && !time.Now().Before(deadline)
}

// result returns the error of the stop, if it is over.
func (s *stopOp) result() (err error, done bool) {
	select {
	case <-s.done:
		return s.err, true
	default:
		return nil, false
	}
}

// requestAll asks tasks for q, all at once, for hand if somebody does so by hand. It returns the stops to wait for, the earliest
// deadline first; those of callers are asked as well, but not waited for: detached says that there are some. accepted counts the
// tasks that could be asked. hasDeadline says that the deadline of ctx holds: ctx was not done at the beginning.
func (m *Manager) requestAll(ctx context.Context, tasks, callers []*Task, q request, hand *byHand, hasDeadline bool) (stops []*stopOp, accepted int, detached bool) {
	start := time.Now()
	maxTimeout := longestTimeout(ctx, hasDeadline, start)
	// One stop for all tasks of the same timeout, for each has a timer, and one for each caller.
	var callersStops []*stopOp
	byTimeout := make(map[time.Duration]*stopOp)
	for _, t := range tasks {
		timeout := min(t.config().stopTimeout, maxTimeout)
		if slices.Contains(callers, t) {
			s := newStopOp(m, q, timeout)
			s.hand, s.tasks = hand, []*Task{t}
			callersStops = append(callersStops, s)
			continue
		}
		s := byTimeout[timeout]
		if s == nil {
			s = newStopOp(m, q, timeout)
			s.hand = hand
			byTimeout[timeout] = s
			stops = append(stops, s)
		}
		s.tasks = append(s.tasks, t)
	}
	slices.SortFunc(stops, func(a, b *stopOp) int { return cmp.Compare(a.timeout, b.timeout) })
	for _, s := range stops {
		accepted += s.start(start)
	}
	for _, s := range callersStops {
		accepted += s.start(start)
	}
	return stops, accepted, len(callersStops) > 0
}

// longestTimeout is what the deadline of ctx leaves of a timeout that begins now, if hasDeadline says that it holds.
func longestTimeout(ctx context.Context, hasDeadline bool, now time.Time) time.Duration {
	if deadline, ok := ctx.Deadline(); ok && hasDeadline {
		return max(0, deadline.Sub(now))
	}
	return math.MaxInt64
}

// stopTasks asks tasks for q and waits for them, for each until its own deadline. Those that depend on
// others of them come first.
func (m *Manager) stopTasks(ctx context.Context, tasks []*Task, q request) (accepted int, err error) {
	return m.stopTasksWhile(ctx, tasks, q, func() {})
}

// stopTasksWhile is stopTasks, and calls meanwhile before it begins to wait.
func (m *Manager) stopTasksWhile(ctx context.Context, tasks []*Task, q request, meanwhile func()) (accepted int, err error) {
	began, hasDeadline := time.Now(), ctx.Err() == nil
	from := tasksOf(ctx)
	callers, unblock := blocked.enter(from, tasks)
	defer unblock()
	var hand *byHand
	if q == stopRequest || q == stopAllRequest || askedBy(ctx) != "" {
		hand = newHand(ctx)
	}
	var nodes []*stopNode
	if len(tasks) > 1 && m.dependentCount.Load() > 0 {
		tasks, nodes = m.buildStopGraph(tasks)
	}
	stops, accepted, detached := m.requestAll(ctx, tasks, callers, q, hand, hasDeadline)
	startStopGraph(ctx, nodes, callers, q, hand, hasDeadline)
	defer m.beginProgress(q, began, stops, nodes).end()
	if detached || slices.ContainsFunc(nodes, func(n *stopNode) bool { return n.detached }) {
		ctx = context.WithoutCancel(ctx) // it is ending by its owner's wish
	}
	meanwhile()
	errs, done := waitStopGraph(ctx, nodes, hasDeadline)
	for _, s := range stops {
		_ = s.wait(ctx, hasDeadline)
		err, over := s.result()
		errs = append(errs, err)
		done = done && over // otherwise ctx is
	}
	if !done {
		errs = append(errs, context.Cause(ctx))
	}
	return accepted, joinErrors(errs)
}

// A blockedStop is a stop that bodies wait for.
type blockedStop struct {
	callers   []*Task
	unawaited []*Task // of tasks, among others
	tasks     []*Task
}

// waitsFor reports whether the stop waits for one of tasks.
func (s *blockedStop) waitsFor(tasks []*Task) bool {
	return slices.ContainsFunc(tasks, func(t *Task) bool { return !slices.Contains(s.unawaited, t) && slices.Contains(s.tasks, t) })
}

// blockedStops are those of the process, by which bodies that stop each other are found.
type blockedStops struct {
	mu    sync.Mutex
	stops []*blockedStop
}

var blocked blockedStops

// enter notes that callers, which are the tasks that a call of a stop comes from, wait for tasks to stop. It returns for
// whom this call must not wait: the callers, and those of tasks whose bodies wait for the callers, be it by way of others.
// The call's end calls leave.
func (b *blockedStops) enter(callers, tasks []*Task) (unawaited []*Task, leave func()) {
	if len(callers) == 0 {
		return nil, func() {}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	unawaited = slices.Clone(callers)
	for again := true; again; {
		again = false
		for _, s := range b.stops {
			if !s.waitsFor(unawaited) {
				continue
			}
			for _, t := range s.callers {
				if !slices.Contains(unawaited, t) {
					unawaited, again = append(unawaited, t), true
				}
			}
		}
	}
	own := &blockedStop{callers, unawaited, tasks}
	b.stops = append(b.stops, own)
	return unawaited, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.stops = slices.DeleteFunc(b.stops, func(s *blockedStop) bool { return s == own })
	}
}
