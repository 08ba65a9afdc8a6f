package taskmanager

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// A leaseState is where a task with a lease is with that. Guarded by the task's mu.
type leaseState struct {
	held       *heldLease   // nil: none
	acquiring  *acquisition // under way; nil: none
	goexit     bool         // Acquire has called runtime.Goexit: that is no answer, and it is not called again
	hasWarned  bool         // that a completed task runs again elsewhere
	lastStatus string       // of an acquisition, while it is under way
}

// An acquisition is a call of Acquire.
type acquisition struct {
	task   *Task
	cancel context.CancelFunc
}

// A heldLease is a Hold, from Acquire to Release, be there a run or not.
type heldLease struct {
	task   *Task
	config *leaseConfig
	hold   Hold
	token  uint64
	until  atomic.Pointer[time.Time] // as the engine has said last; nil: there is no such time
	lost   atomic.Bool
	timer  *time.Timer // made with mu of the task held; nil without such a time
	stop   func()      // ends the watch of its Context; nil before that has begun
}

// heldLocked returns the lease that the task holds; nil if there is none.
func (t *Task) heldLocked() *heldLease {
	if l := t.leaseLocked(); l != nil {
		return l.held
	}
	return nil
}

func (t *Task) leaseLocked() *leaseState {
	if t.lazy == nil || t.lazy.rare == nil {
		return nil
	}
	return t.lazy.rare.lease
}

// isStandbyLocked reports whether the task waits for its lease, and for no other task.
func (t *Task) isStandbyLocked() bool {
	c, l := t.config(), t.leaseLocked()
	return c.lease != nil && t.machine.phase == waiting && (len(c.dependsOn) == 0 || l != nil && l.acquiring != nil)
}

// awaitsStandby reports whether t waits for standbys, be it by way of others, and for no other task. It is called without locks. seen
// are those that are being looked at.
func (t *Task) awaitsStandby(seen map[*Task]bool) bool {
	if t.State() != StateWaiting || seen[t] {
		return false
	}
	seen[t] = true
	m, awaits := t.config().manager, false
	for _, name := range t.config().dependsOn {
		d, ok := m.Lookup(name)
		if !ok {
			return false
		}
		if _, ready := d.checkReady(); ready {
			continue
		}
		d.mu.Lock()
		standby := d.isStandbyLocked()
		d.mu.Unlock()
		if !standby && !d.awaitsStandby(seen) {
			return false
		}
		awaits = true
	}
	return awaits
}

// awaitLease returns true if the task has its lease. Otherwise it waits for that, in StateWaiting, and returns false: what else holds up
// the next run may have changed meanwhile.
func (d *driver) awaitLease() bool {
	t := d.task
	t.mu.Lock()
	h := t.heldLocked()
	t.mu.Unlock()
	if h != nil && !h.isOver() {
		return true
	}
	d.releaseLease()
	n := decision{input: holdNow, driver: d.id, now: time.Now()}
	t.decide(&n)
	t.drainLog() // of a restart by hand, which is done by that
	if n.phase == waiting {
		d.acquire()
	}
	return false
}

// acquire waits for the lease. Acquire is user code: who wants something of the task meanwhile replaces the driver, and does not wait.
func (d *driver) acquire() {
	t := d.task
	c := t.config().lease
	ctx, cancel := context.WithCancel(acquireContext{(*taskContext)(t)})
	defer cancel()
	a := &acquisition{task: t, cancel: cancel}
	t.mu.Lock()
	if t.driver != d.id || t.machine.phase != waiting || t.linesWaitLocked() { // since
		t.mu.Unlock()
		return
	}
	rare := t.lazyLocked().rareLocked()
	if rare.lease == nil {
		rare.lease = &leaseState{}
	}
	l := rare.lease
	if l.goexit {
		l.goexit = false
		t.mu.Unlock()
		d.refuseLease(ErrGoexit, false)
		return
	}
	l.acquiring, l.lastStatus = a, ""
	t.mu.Unlock()
	t.config().manager.readinessChanged(t) // of its group, which does not wait for a standby

	h := &heldLease{task: t, config: c}
	var err error
	var panicked bool
	func() {
		returned := false
		defer func() {
			if returned {
				return
			}
			if v := recover(); v != nil {
				err, panicked = newPanicError(v), true
				return
			}
			d.leaveAcquisition(a, nil, true)
			if h.hold != nil {
				d.release(h)
			}
		}()
		err = h.acquire(ctx, a.tell)
		returned = true
	}()
	acquired := h
	if err != nil {
		acquired = nil
	}
	current := d.leaveAcquisition(a, acquired, false)
	if current && acquired != nil {
		return
	}
	if h.hold != nil { // it comes too late, or its methods have panicked
		d.release(h)
	}
	if current {
		d.refuseLease(err, panicked)
	}
}

// leaveAcquisition notes that a is over, by runtime.Goexit or not. It returns whether the task still waits for it: whatever ends that
// wait has canceled it. If it does, and h is not nil, h is the lease of the task from then on: a stop that comes later releases it.
func (d *driver) leaveAcquisition(a *acquisition, h *heldLease, goexit bool) bool {
	t := d.task
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.leaseLocked()
	if l == nil || l.acquiring != a {
		return false // it was canceled
	}
	l.acquiring, l.goexit = nil, goexit
	if h != nil {
		l.held = h
		if h.until.Load() != nil {
			h.timer = time.AfterFunc(max(0, h.left()), h.check)
		}
	}
	return true
}

// cancelAcquisitionLocked ends the wait for the lease. No code of the user's is called here: the context's parent is never done.
func (t *Task) cancelAcquisitionLocked() {
	if l := t.leaseLocked(); l != nil && l.acquiring != nil {
		l.acquiring.cancel()
		l.acquiring = nil
	}
}

// acquire calls the methods of the lease, and of the Hold that it returns.
func (h *heldLease) acquire(ctx context.Context, waiting func(status string)) error {
	hold, err := h.config.lease.Acquire(ctx, waiting)
	if err != nil {
		return err
	}
	h.hold = hold
	h.token = hold.Token()
	h.askUntil()
	h.stop = whenDone(hold.Context(), func() { h.lose(false) }) // before it is that of the task, it will be found lost
	return nil
}

// tell notes the status of an acquisition that is under way.
func (a *acquisition) tell(status string) {
	a.task.mu.Lock()
	defer a.task.mu.Unlock()
	if l := a.task.leaseLocked(); l != nil && l.acquiring == a {
		l.lastStatus = status
	}
}

// leaseStatus is what the engine says of the lease that t waits for; empty if it does not. It is called without locks.
func (t *Task) leaseStatus() string {
	c := t.config().lease
	if c == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.leaseLocked()
	switch {
	case !t.isStandbyLocked() || l == nil || l.acquiring == nil:
		return ""
	case l.lastStatus != "":
		return l.lastStatus
	}
	return "waits for lease " + quoted([]string{c.name})
}

// leaseStatsLocked returns the lease of the task; nil if it needs none.
func (t *Task) leaseStatsLocked() *LeaseStats {
	c := t.config().lease
	if c == nil {
		return nil
	}
	s := &LeaseStats{Name: c.name}
	if h := t.heldLocked(); h != nil {
		s.Token = h.token
	}
	return s
}

// askUntil asks the Hold for its time.
func (h *heldLease) askUntil() {
	if until := h.hold.Until(); !until.IsZero() {
		h.until.Store(&until)
	} else {
		h.until.Store(nil)
	}
}

// left returns how long a body may still run with the lease; a century if the lease has no time.
func (h *heldLease) left() time.Duration {
	until := h.until.Load()
	if until == nil {
		return maxDelay
	}
	return time.Until(*until) - h.task.config().stopTimeout
}

// isOver reports whether no run may begin, or go on, with the lease.
func (h *heldLease) isOver() bool { return h.lost.Load() || h.left() <= 0 }

// check is called when the time of the lease that was known last is over, but for the stop timeout. Without an answer, it is.
func (h *heldLease) check() {
	askForeign(h.askUntil)
	left := h.left()
	if left <= 0 {
		h.lose(true)
		return
	}
	h.task.mu.Lock()
	defer h.task.mu.Unlock()
	if h.task.heldLocked() == h && h.timer != nil {
		h.timer.Reset(left)
	}
}

// lose notes that the lease is lost, and ends the run that is under way.
func (h *heldLease) lose(expired bool) {
	if h.lost.Swap(true) {
		return
	}
	t := h.task
	t.mu.Lock()
	held := t.heldLocked() == h
	switch t.machine.phase {
	case inBackoff, cooling:
		if held {
			t.lazy.wakeParked() // to release it
		}
	}
	t.mu.Unlock()
	if held {
		h.endRun(expired)
	}
}

// endRun ends the run of the task, whose lease is lost, if there is one. If its body does not return in time, it is stuck. One that was
// asked to return already does not drain any longer.
func (h *heldLease) endRun(expired bool) {
	t := h.task
	loss := &lossError{task: t.name, on: h.config.name, lease: true, expired: expired}
	if t.losesFor(loss) {
		t.config().manager.loseBound(t)
		return
	}
	t.mu.Lock()
	r := t.run
	if t.heldLocked() != h { // the run with it is over
		r = nil
	}
	t.mu.Unlock()
	if r != nil {
		r.endDrainFor(loss)
	}
}

// checkLease ends the run of t, which has just begun, if its lease was lost between the look at it and the begin. A replacement may have
// another stop timeout, by which the lease is over at another time.
func (t *Task) checkLease() {
	t.mu.Lock()
	h := t.heldLocked()
	if h != nil && h.timer != nil {
		h.timer.Reset(max(0, h.left()))
	}
	t.mu.Unlock()
	if h == nil || !h.isOver() {
		return
	}
	h.lost.Store(true)
	h.endRun(h.left() <= 0)
}

// checkLease ends the context of r if the time of its lease is over. It is called by Err, and asks the clock: after a freeze, a timer may
// come too late.
func (r *run) checkLease() {
	r.task.mu.Lock()
	h := r.task.heldLocked()
	underWay := r.task.run == r
	r.task.mu.Unlock()
	if h != nil && underWay && !h.lost.Load() && h.left() <= 0 {
		h.check()
	}
}

// releaseLease releases the lease, if the task has one and no body executes.
func (d *driver) releaseLease() {
	t := d.task
	t.mu.Lock()
	h := t.heldLocked()
	if h == nil || t.driver != d.id || t.machine.phase.executes() {
		t.mu.Unlock()
		return
	}
	l := t.leaseLocked()
	l.held = nil
	warn := t.machine.phase == completed && !l.hasWarned
	l.hasWarned = l.hasWarned || warn
	if h.timer != nil {
		h.timer.Stop()
	}
	t.mu.Unlock()
	d.release(h)
	if warn {
		t.config().manager.bus.logAtLevelLater(slog.LevelInfo, "task has completed, and runs again on the next replica that gets its lease",
			slog.String("task", t.path()), slog.String("lease", h.config.name))
	}
}

// releaseUnfit releases the lease of a task between two runs if it is lost, or the task was given up.
func (d *driver) releaseUnfit() {
	t := d.task
	t.mu.Lock()
	h, cools := t.heldLocked(), t.machine.phase == cooling
	t.mu.Unlock()
	if h != nil && (cools || h.isOver()) {
		d.releaseLease()
	}
}

// releaseUnneeded releases a lease that is not needed in this phase. It costs nothing if there is none.
func (d *driver) releaseUnneeded(p phase) {
	if d.task.config().lease == nil {
		return
	}
	switch p {
	case judging, waiting:
	case inBackoff, cooling:
		d.releaseUnfit()
	default:
		d.releaseLease()
	}
}

// release calls Release. If that calls runtime.Goexit, another driver goes on.
func (*driver) release(h *heldLease) {
	if h.stop != nil {
		h.stop()
	}
	defer func() { _ = recover() }()
	h.hold.Release()
}

// refuseLease gives the task up, whose lease can't be acquired.
func (d *driver) refuseLease(err error, panicked bool) {
	t := d.task
	d.conclude(&decision{
		input: judgedGiveUp, driver: d.id, now: time.Now(),
		end: runEnd{err: &acquireError{t.config().lease.name, err}, panicked: panicked},
	})
}

func isAcquireError(err error) bool {
	_, ok := err.(*acquireError) //nolint:errorlint // the error itself
	return ok
}

// An acquireContext is a Task as the context with which a lease is asked: the values of the parent given to [WithContext], without its
// end, and the task itself.
type acquireContext struct{ *taskContext }

type acquireKey struct{}

// Value implements context.Context.
func (c acquireContext) Value(key any) any {
	switch key {
	case acquireKey{}:
		return (*Task)(c.taskContext)
	case runKey{}, watchedRunKey{}, askedByKey{}: // those of a task around the Manager are not asked
		return nil
	}
	return c.taskContext.Value(key)
}

// isOurs says to isStandard that no method of the user's is called but Value.
func (acquireContext) isOurs() {}
