package taskmanager

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"runtime/pprof"
	"time"
)

// A driver is the goroutine of a task: it begins the runs, calls the body, has its end judged, and waits for the next run.
// What there is to do next is told by the phase of the task alone, so another driver can go on wherever this one has got
// stuck in user code, or was ended by a call of runtime.Goexit there.
type driver struct {
	task *Task
	id   uint32 // of Task.driver, as long as it is not replaced
	mute bool   // don't ask the log's handler whether it wants to know that a run begins: that has ended the driver before this one

	atOnce    bool // nothing has held up the next run when the last one returned
	held      bool // the next run has waited for a task that this one depends on
	over      bool // the task has ended
	executing bool
	unsure    bool // of the run before, see record.unsure
	asking    bool // the log's handler, whether it wants to know that a run begins
	holdsLog  bool // Task.logging is due to this driver
	left      bool // regularly

	since   time.Time  // when the next run begins, if that is known without a look at the clock
	startAt *time.Time // the next run does not begin before, by WithStartJitter; nil if that has not been drawn
	run     *run       // that has begun and is not over
	outcome outcome
}

// firstDriver is the number of a task's first driver.
const firstDriver = 1

// supervise is the goroutine. While it is parked in a body only its own frame is on the stack below that, so this is small; and
// that of what leads from the return of a body to its event, decision included, fits into the stack that a goroutine begins with:
// one that has to grow there does so with locks held.
func (t *Task) supervise(id uint32, mute bool) {
	d := driver{task: t, id: id, mute: mute}
	pprof.SetGoroutineLabels((*taskContext)(t))
	defer func() {
		if !d.left {
			d.unwind()
		}
	}()
	for first := true; d.next(); first = false {
		if !first {
			pprof.SetGoroutineLabels((*taskContext)(t)) // the body may have set others
		}
		d.executing = true
		d.run.execute(&d.outcome)
		d.returned()
	}
	d.left = true
}

// unwind is called when user code has called runtime.Goexit: this goroutine ends, and another one goes on.
func (d *driver) unwind() {
	t := d.task
	if d.executing { // the body has
		d.noteReturn(&decision{}) // whose line is for the other one
	}
	t.mu.Lock()
	if d.holdsLog {
		t.logging = false
	}
	replaced := t.driver != d.id
	if !replaced {
		go t.supervise(d.id, d.asking)
	}
	t.mu.Unlock()
	if replaced {
		go t.drainLog()
	}
}

// next waits for the next run and begins it. It returns false if there is nothing left to do for this driver.
func (d *driver) next() bool {
	if d.over {
		return false
	}
	if d.atOnce {
		runtime.Gosched() // without this, tasks that crash at once starve everything else
		// Who comes back from the log's handler may have been replaced, and must not take a turn of the limit: it has to look first.
		if l := d.task.config().manager.restartLimiter; (l == nil || !d.since.IsZero() && l.Allow()) && d.begin() {
			return true
		}
		d.since = time.Time{}
	}
	for {
		p := d.look()
		d.releaseUnneeded(p)
		switch p {
		case judging:
			d.judge()
		case inBackoff, cooling:
			if d.awaitTurn() && d.tryBegin() {
				return true
			}
		case waiting:
			if d.tryBegin() {
				return true
			}
		default:
			return false
		}
	}
}

// look returns in which phase the task is, for its driver; a phase that has ended for one that was replaced. Before that it
// hands to the log what others have left for it.
func (d *driver) look() phase {
	t := d.task
	for {
		t.mu.Lock()
		if t.driver != d.id {
			t.mu.Unlock()
			d.endLine()
			t.drainLog() // those that others have left to this driver
			return stopped
		}
		// How a run has ended is for those who wait: the log comes after that.
		p := t.machine.phase
		if !d.holdsLog && (p == judging || t.mayRunFirstLocked()) {
			d.unsure = t.record != nil && t.record.unsure != nil
			t.mu.Unlock()
			return p
		}
		t.mu.Unlock()
		d.releaseUnneeded(p) // before the log, whose handler may hang
		if d.holdsLog {
			d.endLine()
		} else {
			t.drainLog()
		}
	}
}

// tryBegin begins the next run, if the tasks that this one depends on are ready. If not, it waits until that may have
// changed, and returns false.
func (d *driver) tryBegin() bool {
	t := d.task
	if len(t.config().dependsOn) > 0 && !d.awaitDependencies() || t.config().startJitter > 0 && !d.awaitStart() {
		return false
	}
	if d.unsure {
		d.checkLeftRunning()
		return false // the task may have ended by that
	}
	if t.config().lease != nil && !d.awaitLease() {
		return false
	}
	return d.begin()
}

// awaitStart returns true if WithStartJitter does not hold up the next run. Otherwise it waits, and returns false: what else holds it up
// may have changed meanwhile.
func (d *driver) awaitStart() bool {
	t := d.task
	t.mu.Lock()
	first := d.id == firstDriver && t.runs == 0 // one that has replaced it has been asked for the run
	if d.held || first && d.startAt == nil {
		at := time.Now().Add(rand.N(min(t.config().startJitter, maxDelay) + 1))
		d.held, d.startAt = false, &at
	}
	var delay time.Duration
	if d.startAt != nil {
		delay = time.Until(*d.startAt)
	}
	if delay <= 0 || t.driver != d.id || t.machine.phase != waiting || t.lazy != nil && t.lazy.hurry {
		t.mu.Unlock()
		return true
	}
	wake := t.parkLocked()
	t.mu.Unlock()
	defer d.unpark()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	}
	return false
}

// begin begins the next run.
func (d *driver) begin() bool {
	t := d.task
	m := t.config().manager
	n := decision{input: beginNow, driver: d.id, release: d.holdsLog}
	d.asking = true
	n.quiet = d.mute || !m.bus.logs((*logContext)(t), EventStarted.Level()) // user code, while a stop has nothing to wait for
	d.asking = false
	n.now, d.since = d.since, time.Time{}
	if n.now.IsZero() {
		n.now = time.Now()
	}
	t.decide(&n)
	d.holdsLog, d.mute = false, false
	if n.begun == nil {
		return false
	}
	d.run = n.begun
	switch {
	case n.undoomed:
		m.doomChanged(t)
	case t.config().readiness == 0:
		m.readinessChanged(t)
	}
	if len(t.config().bindTo) > 0 {
		t.checkBound()
	}
	if t.config().lease != nil {
		t.checkLease()
	}
	if n.more {
		d.logStart()
	}
	return true
}

// returned takes note of how the run has ended, and has that judged, unless it takes user code to do so.
//
//go:noinline
func (d *driver) returned() {
	n := decision{canLog: true}
	d.noteReturn(&n)
	d.releaseUnneeded(n.phase) // before the log, too
	written := false           // which may have taken time
	if n.line {
		d.holdsLog = true
		written = d.task.logLine(&n.told)
	}
	if d.atOnce && !written {
		d.since = n.now // a run that nothing holds up begins when the one before ends
	}
	if d.over = n.phase.ended(); d.over {
		d.endLine()
		if n.more {
			d.task.drainLog() // what was left before: a restart by hand that became a stop
		}
	}
}

// noteReturn is returned without the log.
func (d *driver) noteReturn(n *decision) {
	t, c := d.task, d.task.config()
	d.describeReturn(n)
	t.decide(n)
	d.atOnce = n.atOnce
	t.announceEnd(n.phase)
	if t.config() != c { // it was replaced
		c.manager.readinessChanged(t) // of its group, which may need to wait no longer for the task that replaces this one
	}
}

// describeReturn notes in n how the body has returned, and what can be said of that without a lock. It is not inlined, for what it puts on
// the stack would be there when it is decided what follows.
//
//go:noinline
func (d *driver) describeReturn(n *decision) {
	t, r, err := d.task, d.run, d.outcome.err
	c := t.config() // of the body that has returned
	m := c.manager
	n.input, n.driver, n.now = returnedAgain, d.id, time.Now()
	if err != nil && !d.outcome.returned {
		err = t.withLeftBehind(err)
	}
	n.end.err, n.end.panicked, n.end.uptime = err, d.outcome.panicked, n.now.Sub(r.started)
	d.run, d.outcome, d.executing = nil, outcome{}, false
	n.cause = err
	if cause := r.leaveDrain(); cause != nil {
		n.cause = cause
	} else if m.parent.isDone() {
		n.cause = m.parentCause()
	}
	if n.open = r.stage() == withoutInner; !n.open {
		if n.canceledBy = r.cause(); n.canceledBy == nil {
			r.end(n.cause) // whatever was started with it ends before anybody hears of the end
		}
	}
	permanent, leaves := classify(err)
	switch {
	case leaves == yes:
		n.input = returnedLeaves
	case err == nil && c.restart != RestartAlways:
		n.input = returnedDone
	}
	n.unsure = leaves == unknown
	n.verdict.final = permanent == yes
	switch {
	case c.restart == RestartNever && c.cooldown == 0:
		n.verdict.known = true // whatever the error says
	case c.restart == RestartNever, c.policy == nil:
		n.verdict.known = permanent != unknown
	}
}

// announceEnd has those who wait for the task look again, if it has ended or is paused. It is called without locks.
func (t *Task) announceEnd(p phase) {
	switch {
	case p == failed:
		t.config().manager.doomChanged(t)
	case p.ended(), p == paused:
		t.config().manager.readinessChanged(t)
	}
}

// withLeftBehind adds to the error of a run that has not returned what it has left executing.
func (t *Task) withLeftBehind(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lazy == nil || t.lazy.rare == nil || t.lazy.rare.leftBehind == nil {
		return err
	}
	err = errors.Join(err, t.lazy.rare.leftBehind)
	t.lazy.rare.leftBehind = nil
	return err
}

// judge asks user code, while no body executes and a stop has nothing to wait for, what follows the run that has ended.
func (d *driver) judge() {
	t := d.task
	t.mu.Lock()
	if t.driver != d.id {
		t.mu.Unlock()
		return // somebody has asked the task for something, and it is not judged any more
	}
	p := t.record
	end := p.judged
	p.judged.asked = true
	c := t.config()
	usedUp := t.limitIsUsedUpLocked(p.judgedAt)
	n := decision{input: judgedRestart, driver: d.id, now: p.judgedAt, verdict: verdict{known: true}}
	t.mu.Unlock()

	asked := end.asked // the methods of the error have been
	defer func() {
		if asked { // the policy may have called runtime.Goexit
			d.conclude(&n)
		}
	}()
	if !asked {
		n.verdict.final, n.verdict.left = isPermanentByMethods(end.err)
		if !n.verdict.final {
			n.verdict.atLeast, _ = retryAfter(end.err)
		}
		asked = true
	}
	if !n.verdict.final && !usedUp && c.restart != RestartNever && c.policy != nil {
		n.verdict.final, n.verdict.stops, n.verdict.err = true, true, errPolicyGoexit // unless it answers
		n.verdict.delay, n.verdict.err = d.askPolicy(p)
		n.verdict.stops = n.verdict.err != nil
		n.verdict.final = n.verdict.stops
		if n.verdict.err == errPolicyStop { //nolint:errorlint // it is nextDelay's own, never wrapped
			n.verdict.err = nil
		}
	}
}

// conclude hands in what user code has said, which may end the task. The line of that is left to look.
func (d *driver) conclude(n *decision) {
	t := d.task
	t.decide(n)
	t.announceEnd(n.phase)
}

// askPolicy asks a policy of the user's for the next delay.
func (d *driver) askPolicy(p *record) (delay time.Duration, err error) {
	t := d.task
	t.mu.Lock()
	if t.driver != d.id {
		t.mu.Unlock()
		return 0, nil // the policy is with the one that has replaced this one, and what this one says is not heard
	}
	delays, reset := p.delays, !p.backedOff || p.healthy
	p.inPolicy, p.backedOff, p.healthy = true, true, false
	t.mu.Unlock()
	if delays == nil {
		if delays, err = t.config().newDelays(); err != nil {
			return 0, err
		}
	}
	delay, err = nextDelay(delays, reset)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.driver == d.id {
		p.delays, p.inPolicy = delays, false
	}
	return delay, err
}

// checkLeftRunning asks the methods of an error whether it says that something of the run before still executes: the next
// one would meet it, and the task is given up.
func (d *driver) checkLeftRunning() {
	t := d.task
	t.mu.Lock()
	if t.driver != d.id {
		t.mu.Unlock()
		return // it is for the one that has replaced this one
	}
	p := t.record
	unsure := p.unsure
	if p.askingUnsure { // a call of them has called runtime.Goexit: that is no answer, and they are not called again
		unsure = nil
	}
	p.askingUnsure = true
	t.mu.Unlock()
	leaves := unsure != nil && leavesRunningByMethods(unsure.err)
	t.mu.Lock()
	if t.driver != d.id {
		t.mu.Unlock()
		return // who has replaced it asks again
	}
	p.unsure, p.askingUnsure = nil, false
	t.mu.Unlock()
	if leaves {
		d.conclude(&decision{input: judgedGiveUp, driver: d.id, now: time.Now(), end: *unsure})
	}
}

// maxDelay is beyond any delay that somebody waits for, and keeps its end within what Unix nanoseconds can express: a
// century.
const maxDelay = 100 * 365 * 24 * time.Hour

// maxLines is how many lines of a task may wait for the log's handler before the task waits, too.
const maxLines = 16

// awaitTurn returns true when the delay is over and it is this task's turn to restart, and false when somebody has asked the
// task for something.
func (d *driver) awaitTurn() bool {
	t := d.task
	limiter := t.config().manager.restartLimiter
	t.mu.Lock()
	if t.driver != d.id {
		t.mu.Unlock()
		return false // the delay is for the one that has replaced this one
	}
	p := t.record
	delay := p.delay - time.Since(p.judgedAt)
	wake := t.parkLocked()
	defer d.unpark()
	clogged := len(t.lazy.lines) >= maxLines
	t.lazy.clogged = clogged
	t.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-wake:
			return false
		}
	} else {
		runtime.Gosched()
	}
	if clogged {
		<-wake
		return false
	}
	return limiter == nil || limiter.Wait(wake)
}

// parkLocked says that the driver is about to wait, and returns the channel that is sent to when it must look at the task
// again. When it has waited it says so by unpark, before it calls user code.
func (t *Task) parkLocked() <-chan struct{} {
	x := t.lazyLocked()
	if x.wake == nil {
		x.wake = make(chan struct{}, 1)
	}
	select {
	case <-x.wake: // left over
	default:
	}
	x.parked = true
	return x.wake
}

// unpark says that the driver does not wait any more. One that was replaced says nothing: another one may wait by now.
func (d *driver) unpark() {
	t := d.task
	t.mu.Lock()
	if t.driver == d.id {
		t.lazy.parked, t.lazy.clogged = false, false
	}
	t.mu.Unlock()
}

// wakeParked wakes a driver that waits, and reports whether there is one.
func (x *lazyFields) wakeParked() bool {
	if x == nil || !x.parked {
		return false
	}
	select {
	case x.wake <- struct{}{}:
	default: // it has been woken already
	}
	return true
}

// wakeDriverLocked has the driver look at the task. One that is not waiting may be in user code, of which nobody knows when
// it returns: it is replaced.
func (t *Task) wakeDriverLocked() {
	t.cancelAcquisitionLocked()
	if t.lazy.wakeParked() {
		t.lazy.hurry = true
		return
	}
	if p := t.record; p != nil {
		p.askingUnsure = false
		if p.inPolicy {
			p.delays, p.inPolicy, p.backedOff = nil, false, false // those belong to the one that is replaced
		}
	}
	t.driver++
	go t.supervise(t.driver, false)
}
