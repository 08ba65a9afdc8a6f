package taskmanager

import (
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/go-taskmanager/taskmanager/internal/window"
)

// A decision is what has become known of a task; and, once decide has been called, what was decided and what is left to do.
type decision struct {
	input   input
	request request // of askedStop
	phase   phase   // of the task now
	driver  uint32  // who asks for it, if it is the driver: one that was replaced is not heard. Otherwise 0

	parentDone bool // the parent context has ended
	canLog     bool // who asks will log the event, unless somebody is with the log's handler
	quiet      bool // the log does not want to know that a run begins
	release    bool // Task.logging was due to who asks, and is not any more
	unsure     bool // of returned…: see record.unsure
	open       bool // of returned…: the context of the run is still to be ended

	joined   bool // it has been followed, or will be; waiter waits, or has been resolved already
	undoomed bool // it had been waiting for one that was given up
	atOnce   bool // nothing holds up the next run
	more     bool // lines wait for the log
	isLost   bool // to those that are bound to it
	line     bool // told is to be logged by who asks; Task.logging is due to that

	endAsked, endStop bool // the contexts of drain are to be ended; that of StopContext, if stopLate, because the body is late
	stopLate          bool

	outlook outlook // what follows by verdict

	now     time.Time
	waiter  *waiter          // of a request: who waits until it has been done
	hand    *byHand          // of a request by hand, and of the deadline of one: who has asked; of beginNow: see rareFields.restartedBy
	timeout time.Duration    // of deadlinePassed
	delays  *backoff.BackOff // of revived: those of a policy of the user's; otherwise nil
	end     runEnd           // of returned…; of judgedGiveUp, if the task waits: of the run before
	verdict verdict          // of returned… and judgedRestart: on the run that has ended
	drain   *drain           // with endAsked and endStop

	canceledBy error // of returned…: why the context of the run had ended before the body; nil if it had not

	begun  *run
	cancel *run  // whose context is to be ended
	cause  error // of that
	told   occurrence
	stuck  *occurrence // to be told when it is known where the body is

	takesDown, holdsUp *nameList // for the events; see findDependents
}

// A verdict is what user code, or its absence, says of a run that has ended.
type verdict struct {
	known bool
	final bool          // no restart
	stops bool          // by the policy
	left  bool          // because something that the run has started still executes
	limit bool          // nor would one be within the limit of restarts
	delay time.Duration // of a policy of the user's
	err   error         // of such a policy

	atLeast time.Duration // that the error demands by RetryAfter; 0 if it does not
}

// An occurrence is what there is to say of an event, beyond what is the same for all of a task's.
type occurrence struct {
	kind     EventKind // or of a line that is no event
	request  request   // of a stop: what it follows
	was      State     // of a line that is no event: of the task before
	now      time.Time
	run      uint64
	err      error
	cause    error
	delay    time.Duration // of a recovery: since the first failure
	uptime   time.Duration
	restarts int       // of a recovery: failures
	waiting  *nameList // those that it takes down or holds up; nil if there are none
	hand     *byHand   // who has asked for it

	ctx *logValues // of the run, for the log: see rareFields.logContext
}

// overdue is what becameOverdue is about, whatever has become of it; nil if that was not asked.
func (n *decision) overdue() *overdueRun {
	if n.waiter == nil {
		return nil
	}
	return n.waiter.op.overdue
}

// loss is likewise what dependencyLost is about.
func (n *decision) loss() *lossError {
	if n.waiter == nil {
		return nil
	}
	return n.waiter.op.loss
}

// level is that of the line of an event. It may call the methods of the body's error.
func (o *occurrence) level() slog.Level {
	if (o.kind == EventStopped || o.kind == EventPaused) && isOwnError(bodyError(o.err, o.cause), o.cause) {
		return slog.LevelWarn
	}
	if o.kind == EventTriggered && o.hand.who() != "" {
		return slog.LevelInfo
	}
	return o.kind.Level()
}

// decide has step decide about n, and carries out what it says. What is ours and can't block is done with the lock held: so
// events of a task never overtake each other, and whoever has waited for an end finds its event. What is left is the
// caller's: the log, whose handler is user code.
//
//go:noinline
func (t *Task) decide(n *decision) {
	m := t.config().manager
	n.parentDone = m.parent.isDone()
	t.mu.Lock()
	if n.parentDone && n.input == askedPause && !t.machine.pending.stops() {
		n.input, n.request = askedStop, parentDoneRequest // which is about to be asked for, and wins
	}
	concerns := t.concernsManagerLocked(n)
	if m.dependentCount.Load() > 0 {
		if _, do, _ := table.step(t.machine, n.input, n.request, n.outlook, false); do&(publishRunEnd|publishGaveUp|noLongerStuck) != 0 {
			t.mu.Unlock()
			n.findDependents(t, do)
			t.mu.Lock()
			concerns = t.concernsManagerLocked(n) // it may be in another phase by now
		}
	}
	if concerns {
		t.mu.Unlock()
		m.mu.Lock()
		t.mu.Lock()
		t.foreseeLocked(n) // it may be in another phase by now
		t.decideLocked(n)
		t.mu.Unlock()
		m.trimLocked()
		m.mu.Unlock()
	} else {
		t.decideLocked(n)
		t.mu.Unlock()
	}
	if n.isLost && n.loss() == nil { // who brings a loss goes on with those that are bound to the task
		m.loseBound(t)
	}
	n.endContexts()
}

// concernsManagerLocked reports whether the Manager's mu must be held to decide about n: a life may begin or end. It foresees what
// follows.
func (t *Task) concernsManagerLocked(n *decision) bool {
	t.foreseeLocked(n)
	row := &table[t.machine.phase][n.input]
	switch {
	case n.driver != 0 && n.parentDone, n.input == askedReplace: // the latter looks at the registry, whatever follows
		return true
	case !row.possible, row.do&refuse != 0:
		return false
	case row.do&(endLife|beginLife|adopt) != 0,
		t.config().critical && row.do&(noLongerStuck|publishStarted|publishPaused) != 0:
		return true
	}
	return row.to == judging && n.outlook == willGiveUp
}

// foreseeLocked finds out what follows the run that has ended, if no user code has to be asked any more.
func (t *Task) foreseeLocked(n *decision) {
	v, c := &n.verdict, t.config()
	asked := n.input == judgedRestart
	if !v.known || !asked && table[t.machine.phase][n.input].to != judging {
		return
	}
	usedUp := t.limitIsUsedUpLocked(n.now)
	final := v.final || c.restart == RestartNever
	v.limit = !final && usedUp
	switch permanent := v.final && !v.stops; {
	case !final && !v.limit:
		n.outlook = willRestart
	case !permanent && c.restart != RestartNever && v.err == nil && t.passFailedLocked():
		n.outlook = willGiveUpPass
	case c.cooldown > 0 && !permanent:
		n.outlook = willCool
	default:
		n.outlook = willGiveUp
	}
	if asked {
		n.input = judgedBy[n.outlook]
	}
}

// limitIsUsedUpLocked reports whether a restart after the end of a run at that time would be beyond the limit. It forgets those that do
// not count any more.
func (t *Task) limitIsUsedUpLocked(now time.Time) bool {
	c, restarts := t.config(), 0
	if p := t.record; p != nil {
		p.restarts.Forget(now, c.window)
		restarts = p.restarts.Len()
	}
	return c.maxRestarts != Unlimited && restarts >= c.maxRestarts
}

func (t *Task) decideLocked(n *decision) {
	n.phase = t.machine.phase
	if (n.input == askedReplace || n.input == becameOverdue) && t.isVoidLocked(n) {
		return
	}
	if n.driver != 0 {
		if n.release {
			t.logging = false
		}
		if n.driver != t.driver {
			return
		}
	}
	if t.machine.phase == running && t.hasFailedLocked() && !n.tooShort(t.config().healthy()) {
		t.recoverLocked(n.now, t.hasRecoveredLocked(n.now)) // whatever else is heard of it
	}
	if n.driver != 0 {
		// The end of the parent context is a request that a body may have heard of before the Manager has.
		if n.parentDone && !t.machine.pending.stops() {
			n.request = parentDoneRequest
			t.applyLocked(n, askedStop)
		}
	}
	lost := n.input == dependencyLost && t.machine.phase == running
	if n.parentDone && (n.input == askedStop || n.input == becameOverdue || lost) {
		n.input, n.request = askedStop, parentDoneRequest // to be late is no failure then, and nobody goes on after a loss
	}
	if n.end.err == nil && (n.input == returnedDone || n.input == returnedAgain) {
		t.recoverLocked(n.now, !t.passesLocked().noneSucceeded())
	}
	t.applyLocked(n, n.input)
	n.more = t.linesWaitLocked()
}

// tooShort reports whether n is about the return of a run that has not lasted for d, which is known without another look at the clock.
func (n *decision) tooShort(d time.Duration) bool { return n.end.uptime > 0 && n.end.uptime < d }

// isVoidLocked reports whether nothing is to be decided: a replacement is refused, or the run has ended, or become ready, while the stacks
// of one that was late were taken.
//
//go:noinline
func (t *Task) isVoidLocked(n *decision) bool {
	if n.input == becameOverdue {
		return !n.overdue().isOverdueLocked(n.overdue().err.Err)
	}
	r := n.waiter.op.replacement
	r.refused = t.checkReplacementLocked(r)
	return r.refused != nil
}

// planRestartLocked notes when the next run will be, and that it counts, unless the one before has given up a pass.
func (t *Task) planRestartLocked(n *decision, givesUpPass bool) {
	p, c := t.record, t.config()
	p.unsure = nil   // by now it is known, or nobody will ever know
	if givesUpPass { // the next run waits for its tick, and not for a delay of ours
		p.delay = 0
	} else {
		p.delay = n.verdict.delay
		if c.policy == nil {
			p.delay = t.ownDelayLocked()
		}
		p.restarts.Add(p.judgedAt, c.windowCapacity())
	}
	p.delay = max(p.delay, n.verdict.atLeast)
	if passes := t.passesLocked(); passes != nil {
		if givesUpPass {
			passes.giveUp()
		}
		if passes.triggered {
			p.delay = 0
		}
	}
	n.atOnce = p.delay == 0 && len(c.dependsOn) == 0 && c.lease == nil && (t.lazy == nil || len(t.lazy.lines) == 0) // too many lines hold it up
}

// coolLocked notes when the task, which is given up, begins afresh.
func (t *Task) coolLocked(n *decision) {
	p := t.record
	p.unsure = nil // by now it is known
	t.unawaitHealthLocked()
	p.delay = max(t.config().cooldown, n.verdict.atLeast)
}

// beginAfreshLocked forgets what counts against a task that has cooled down.
func (t *Task) beginAfreshLocked() {
	p := t.record
	p.restarts, p.delays, p.backedOff, p.healthy, p.inARow = window.Window{}, nil, false, false, 0
}

// pauseLocked notes that the task is paused: what it waits for does not matter until it is resumed.
func (t *Task) pauseLocked() {
	t.unawaitHealthLocked()
	t.passesLocked().pause()
	if t.lazy != nil {
		t.lazy.doomed = nil
		t.lazy.takeRestartedBy()
	}
	if t.config().critical {
		t.config().manager.clearCriticalExitLocked(t)
	}
}

// giveUpLocked returns why the task is given up, and notes it, unless it will begin afresh; or why a pass is.
func (t *Task) giveUpLocked(n *decision, was phase) *GiveUpError {
	p, v := t.record, &n.verdict
	gaveUp := &GiveUpError{Task: t.name, Err: n.end.err, Reason: t.giveUpReason(n, was)}
	if v.known {
		gaveUp.Err = p.judged.err
	}
	switch {
	case v.err != nil:
		gaveUp.Err = joinErrors([]error{p.judged.err, v.err})
	case v.limit:
		gaveUp.Restarts, gaveUp.Window = p.restarts.Len(), t.config().window
	}
	switch t.machine.phase {
	case failed:
		p.gaveUp = gaveUp
		t.carryFailuresLocked(n)
	case cooling:
		t.carryFailuresLocked(n)
	}
	return gaveUp
}

// giveUpReason is why the task is given up, which was in that phase.
func (t *Task) giveUpReason(n *decision, was phase) GiveUpReason {
	switch v := &n.verdict; {
	case was == waiting && isAcquireError(n.end.err):
		return GaveUpLease
	case n.input == returnedLeaves, was == waiting, v.left:
		return GaveUpLeftRunning
	case t.config().restart == RestartNever:
		return GaveUpNever
	case v.limit:
		return GaveUpLimit
	case v.stops:
		return GaveUpPolicy
	}
	return GaveUpPermanent
}

// ownDelayLocked returns the next delay of the backoff that is ours, and takes no user code.
func (t *Task) ownDelayLocked() time.Duration {
	p := t.record
	if p.delays == nil {
		if t.config().longest == 0 {
			return 0
		}
		p.delays, _ = t.config().newDelays() // without a policy of the user's there is no error
	}
	d, _ := nextDelay(p.delays, p.healthy)
	p.healthy = false
	return d
}

// applyLocked is the only function that changes machine. in is what n is about, or a part of it.
func (t *Task) applyLocked(n *decision, in input) {
	was := t.machine.phase
	next, do, ok := table.step(t.machine, in, n.request, n.outlook, t.config().drain > 0 && t.drainTime(n) > 0)
	if !ok || do&refuse != 0 { // who asks finds that it has not joined those that wait
		return
	}
	n.joined = true
	if n.waiter != nil {
		n.waiter.next, t.waiters = t.waiters, n.waiter
	}
	t.machine, n.phase = next, next.phase
	if n.hand != nil && (in == askedRestart && do&publishResumed == 0 || in == askedReplace || in == revived) {
		t.leaveHandLineLocked(n, was)
	}
	if in == askedRestart || next.phase == cooling {
		t.passesLocked().beginAfresh()
	}
	if was.executes() && !next.phase.executes() {
		t.endRunLocked(n)
	}
	switch {
	case do&publishStarted != 0:
		t.beginRunLocked(n)
	case do&beginLife != 0:
		t.beginLifeLocked(n)
	}
	if s := next.phase.state(); s != was.state() {
		t.state.Store(uint32(s))
	}
	if do&countFailure != 0 {
		t.countLocked(n)
	}
	if do&noLongerStuck != 0 {
		t.unstickLocked(n)
	}
	switch {
	case next.phase == inBackoff:
		t.planRestartLocked(n, do&publishPassGaveUp != 0)
	case next.phase == cooling:
		t.coolLocked(n)
	case was == cooling && !next.phase.ended():
		t.beginAfreshLocked()
	}
	if do&publishPaused != 0 {
		t.pauseLocked()
	}
	if do&publishAny != 0 {
		t.publishLocked(n, do, was)
	}
	switch {
	case next.draining && n.waiter != nil:
		t.drainForLocked(n)
	case in == deadlinePassed || in == overduePassed:
		t.endStopContextLocked(n, true)
	}
	n.isLost = n.isLost || do&loseBound != 0
	if do&(endLife|adopt|resolveAll|resolveRestarts|triggerPass|cancelRun|beginDrain|wakeDriver) != 0 {
		t.applyRestLocked(n, do)
	}
	if n.hand != nil && n.phase == waiting && !was.executes() {
		t.noteRestartLocked(n)
	}
}

// applyRestLocked carries out what a run that fails and is followed by another one does not need.
func (t *Task) applyRestLocked(n *decision, do effect) {
	if do&endLife != 0 {
		t.endLifeLocked(n)
	}
	if do&adopt != 0 {
		t.adoptLocked(n, do)
	}
	switch {
	case do&resolveRestarts != 0: // nobody else waits, for a stop ends a task that waits
		t.resolveLocked(restartRequest)
	case do&resolveAll != 0:
		t.resolveLocked(t.machine.pending) // why it has stopped, or none
	}
	if do&triggerPass != 0 {
		t.triggerPassLocked()
	}
	if do&(beginDrain|cancelRun) != 0 {
		t.endRunContextsLocked(n, do)
	}
	if do&wakeDriver != 0 && n.driver == 0 {
		t.wakeDriverLocked()
	}
}

// endRunContextsLocked has the context of the run end, or that of Draining, and notes what for.
//
//go:noinline
func (t *Task) endRunContextsLocked(n *decision, do effect) {
	if l := n.loss(); l != nil && do&cancelRun != 0 {
		t.recordLocked().loss = l // of which causeOf makes the cause
	}
	n.cause = t.causeOf(t.machine.pending)
	if d := t.lazy.drain(); do&beginDrain != 0 && d != nil && d.endAsked != nil {
		n.drain, n.endAsked = d, true
	}
	if do&cancelRun == 0 {
		return
	}
	n.cancel = t.run
	if o := n.overdue(); o != nil {
		t.recordLocked().overdue = o.err
		if t.machine.phase == overdue {
			n.cause = o.err.Err
		}
	}
}

// beginRunLocked begins the next run.
func (t *Task) beginRunLocked(n *decision) {
	r := &t.firstRun
	if t.runs > 0 {
		r = new(run)
	}
	r.task, r.started = t, n.now
	t.run, n.begun = r, r
	t.runs++
	r.lowNumber = uint32(t.runNumberLocked()) //nolint:gosec // its lower half
	if x := t.lazy; x != nil {
		n.undoomed = x.doomed != nil
		x.status, x.watched, x.group, x.doomed, x.hurry = "", nil, nil, nil, false
		x.passes.beginRun()
		x.dropLogContext()
		n.hand = x.takeRestartedBy()
	}
	if t.config().critical {
		t.config().manager.clearCriticalExitLocked(t)
	}
	if p := t.record; p != nil {
		p.unsure, p.loss = nil, nil
		if p.recovery == nil || !p.recovery.armed {
			t.awaitHealthLocked(n.now)
		}
	}
}

// endRunLocked notes that the run is over.
func (t *Task) endRunLocked(n *decision) {
	n.end.run = t.runNumberLocked()
	if n.open && t.run.endLocked(n.cause) {
		n.cancel = t.run // somebody has called Done just now
	}
	t.dropDrainLocked(n)
	t.run = nil
	p := t.record
	if p != nil {
		p.healthy = p.healthy || n.end.uptime >= t.config().healthy()
		if p.overdue != nil {
			n.end.err = p.overdue.joinBodyError(n.end.err)
			p.overdue, n.canceledBy = nil, nil // the error says both
		}
	}
	if n.unsure {
		end := n.end
		t.recordLocked().unsure = &end
	}
}

// countLocked counts how a run has ended, at the moment at which it is over: no snapshot shows one without the other.
func (t *Task) countLocked(n *decision) {
	p := t.recordLocked()
	if p.judged.run == n.end.run && n.end.run != 0 {
		return // somebody has restarted the task while it was judged, and it has turned out since that the run has left something
	}
	p.judged, p.judgedAt, p.delay = n.end, n.now, 0
	if n.end.err == nil {
		return
	}
	p.failures++
	if p.inARow == 0 {
		p.failingSince = n.now.UnixNano()
	}
	if p.inARow < math.MaxInt32 {
		p.inARow++
	}
	if n.end.panicked {
		p.panics++
	}
	p.lastErr, p.lastErrAt = n.end.err, n.now.UnixNano()
}

// unstickLocked tells that the task was stuck, if that is still to be told, and that it is not any more.
func (t *Task) unstickLocked(n *decision) {
	p := t.record
	if o := p.stuckEvent; o != nil {
		p.stuckEvent, o.waiting = nil, n.takesDown
		if t.machine.phase == judging {
			t.tellLocked(&decision{}, o) // its line comes after the judgement, for which others wait
		} else {
			t.tellLocked(n, o)
		}
	}
	if t.config().critical {
		t.config().manager.clearCriticalExitLocked(t)
	}
}

// publishLocked publishes what has happened.
func (t *Task) publishLocked(n *decision, do effect, was phase) {
	if do&publishRunEnd != 0 {
		t.publishRunEndLocked(n)
	}
	switch do &= publishAny &^ publishRunEnd; do {
	case 0:
		return
	case publishRecovered:
		t.publishRecoveredLocked(n)
		return
	case publishStuck:
		t.reserveStuckLocked(n)
		return
	}
	if do == publishStarted && n.quiet && n.hand == nil && !t.config().manager.bus.wants(EventStarted) {
		if p := t.record; p != nil && p.history != nil {
			t.keepStartLocked(n)
		}
		return
	}
	o := n.occurrence()
	o.now, o.run = n.now, t.runNumberLocked()
	if was.executes() {
		o.uptime = n.end.uptime
	}
	switch do {
	case publishStarted:
		o.kind, o.hand = EventStarted, n.hand
	case publishDone:
		o.kind = EventCompleted
	case publishGaveUp, publishPassGaveUp:
		t.describeGivingUpLocked(n, o, do, was)
	default:
		t.describeStopLocked(n, o, do, was)
	}
	t.tellLocked(n, o)
}

// describeStopLocked completes o, the event of a run that has ended as asked, or of a resumption or a trigger.
//
//go:noinline
func (t *Task) describeStopLocked(n *decision, o *occurrence, do effect, was phase) {
	o.kind = EventStopped
	switch do {
	case publishRestart:
		o.cause, o.hand = t.causeOf(pendingIn[was]), t.handLocked(pendingIn[was])
		o.err = n.errWithCause(o.cause)
		return
	case publishStopped:
		o.cause, o.request = t.causeOf(t.machine.pending), t.machine.pending
	case publishPaused:
		o.kind, o.cause, o.request = EventPaused, ErrPaused, pauseRequest
	case publishResumed:
		o.kind, o.hand = EventResumed, n.hand
		return
	case publishTriggered:
		o.kind, o.hand = EventTriggered, n.hand
		return
	}
	o.hand = t.handLocked(t.machine.pending)
	if !was.executes() {
		return
	}
	o.err = n.errBeside(o.cause)
	if o.err != nil && do == publishStopped && goesOn(n.canceledBy) {
		o.err = &endedError{o.err}
	}
}

// describeGivingUpLocked completes o, the event of a task, which was in that phase, or of a pass that is given up, and notes that it is.
//
//go:noinline
func (t *Task) describeGivingUpLocked(n *decision, o *occurrence, do effect, was phase) {
	p, gaveUp := t.record, t.giveUpLocked(n, was)
	o.run, o.err, o.uptime = p.judged.run, gaveUp, p.judged.uptime
	if do == publishPassGaveUp {
		gaveUp.Pass = true
		o.kind, o.now, o.restarts = EventPassGaveUp, p.judgedAt, p.restarts.Len()
		o.delay = max(t.passesLocked().untilNext(p.judgedAt), n.verdict.atLeast)
		p.beginLimitAnew()
		return
	}
	o.kind, o.restarts, o.waiting = EventGaveUp, p.restarts.Count(n.now, t.config().window), n.takesDown
	if t.machine.phase == cooling {
		o.delay = p.delay
	}
}

// errBeside is what the error of the run says beside the cause for which it was to end, and that for which its context had ended.
//
//go:noinline
func (n *decision) errBeside(cause error) error {
	return besideCause(besideCause(n.end.err, n.canceledBy), cause)
}

// errWithCause is what there is to say of a run that has ended for a cause after which the task goes on.
//
//go:noinline
func (n *decision) errWithCause(cause error) error {
	return errors.Join(cause, n.errBeside(cause))
}

// publishRunEndLocked publishes how the run has ended that was judged.
func (t *Task) publishRunEndLocked(n *decision) {
	p, o := t.record, n.occurrence()
	o.kind, o.now, o.run, o.err, o.uptime = EventFailed, p.judgedAt, p.judged.run, p.judged.err, p.judged.uptime
	p.restarts.Forget(p.judgedAt, t.config().window) // it may not have been judged
	o.delay, o.restarts, o.waiting = p.delay, p.restarts.Len(), n.holdsUp
	if o.err == nil {
		o.kind, o.waiting = EventCompleted, nil
	}
	t.tellLocked(n, o)
}

// occurrence returns where to write what has happened: in told, unless that is taken.
//
//go:noinline
func (n *decision) occurrence() *occurrence {
	if n.line {
		return new(occurrence)
	}
	n.told = occurrence{}
	return &n.told
}

// reserveStuckLocked notes that it is to be told that the task is stuck, as soon as it is known where its body is; and at
// the latest when that has returned.
func (t *Task) reserveStuckLocked(n *decision) {
	n.stuck = &occurrence{
		kind: EventStuck, now: n.now, run: t.runNumberLocked(), uptime: n.now.Sub(t.run.started),
		err: &StopTimeoutError{Task: t.name, Timeout: n.timeout, run: t.run}, hand: n.hand,
	}
	p := t.recordLocked()
	p.stuckEvent, p.stuckAfter = n.stuck, n.timeout
}

// tellLocked hands an event to the subscribers and the reporters, and notes it for the log.
func (t *Task) tellLocked(n *decision, o *occurrence) {
	t.keepLocked(o)
	b := t.config().manager.bus
	if b.wants(o.kind) {
		t.deliverLocked(o)
	}
	o.ctx = t.lazy.logContext()
	switch {
	case o.kind == EventStarted && n.quiet:
	case n.canLog && !n.line && !t.logging && !t.linesWaitLocked():
		t.logging, n.line = true, true
		if o != &n.told {
			n.told = *o
		}
		b.pending.Add()
	default:
		t.leaveLineLocked(o)
	}
}

// deliverLocked is not inlined, for what it puts on the stack would make that of every parked task larger.
//
//go:noinline
func (t *Task) deliverLocked(o *occurrence) {
	e := t.event(o)
	t.config().manager.bus.deliver(&e)
}

// leaveLineLocked leaves a line to whoever is with the log's handler, or comes there next.
//
//go:noinline
func (t *Task) leaveLineLocked(o *occurrence) {
	x := t.lazyLocked()
	if o.kind == EventTriggered && len(x.lines) >= maxLines {
		return // nothing else bounds how often a pass is triggered while the handler hangs
	}
	x.lines = append(x.lines, *o)
	t.config().manager.bus.pending.Add()
}

// leaveHandLineLocked leaves the line that says who restarts the task, which was in that phase, by hand. It is no event.
//
//go:noinline
func (t *Task) leaveHandLineLocked(n *decision, was phase) {
	o := &occurrence{kind: lineRestarted, now: n.now, run: t.runNumberLocked(), hand: n.hand, was: was.state(), ctx: t.lazy.logContext()}
	switch {
	case n.input == askedReplace:
		o.kind = lineReplaced
	case was.ended():
		o.kind = lineRevived
	}
	t.leaveLineLocked(o)
}

// handLocked is who has asked first, among those who wait, for what the task has followed.
func (t *Task) handLocked(followed request) (hand *byHand) {
	for w := t.waiters; w != nil; w = w.next {
		if w.op.request == followed && w.op.hand != nil {
			hand = w.op.hand
		}
	}
	return hand
}

// noteRestartLocked notes for the event of the next run who has restarted or replaced the task, of which no body executes, if that is
// known. The first counts.
//
//go:noinline
func (t *Task) noteRestartLocked(n *decision) {
	switch {
	case n.hand.by == "":
	case n.input == askedRestart, n.input == askedReplace, n.input == revived:
		if x := t.lazyLocked().rareLocked(); x.restartedBy == nil {
			x.restartedBy = n.hand
		}
	}
}

// takeRestartedBy returns rareFields.restartedBy, and drops it.
func (x *lazyFields) takeRestartedBy() (hand *byHand) {
	if x.rare != nil {
		hand, x.rare.restartedBy = x.rare.restartedBy, nil
	}
	return hand
}

// endLifeLocked ends a life of the task.
func (t *Task) endLifeLocked(n *decision) {
	t.endedAt = n.now.UnixNano()
	t.unawaitHealthLocked()
	if p := t.record; p != nil && t.machine.phase != failed {
		p.recovery = nil
	}
	if n.input == returnedLeaves && t.machine.phase == stopped {
		t.recordLocked().leftRunning = n.end.err
	}
	if x := t.lazy; x != nil {
		x.dropLogContext()
		if x.end != nil {
			x.end.err = t.errLocked()
			close(x.end.done)
		}
	}
	m := t.config().manager
	m.taskEndedLocked(t)
	switch {
	case !t.config().critical:
	case t.machine.phase == stopped:
		m.clearCriticalExitLocked(t)
	default:
		m.recordCriticalExitLocked(t, t.errLocked())
	}
}

// beginLifeLocked begins a life of a task that had ended.
func (t *Task) beginLifeLocked(n *decision) {
	var delays backoff.BackOff
	if n.delays != nil {
		delays = *n.delays
	}
	t.renewLocked(delays)
	m := t.config().manager
	m.removeEndedLocked(t)
	m.clearCriticalExitLocked(t)
	m.taskStartedLocked(t, n.now)
	t.driver++
	go t.supervise(t.driver, false)
}

// renewLocked leaves of an earlier life what is for all of them: the counts, and the lines that wait.
func (t *Task) renewLocked(delays backoff.BackOff) {
	p := &record{delays: delays, earlierLives: t.totalsLocked()}
	p.failures, p.panics = p.earlierLives.failures, p.earlierLives.panics
	if old := t.record; old != nil {
		p.recovery, p.history = old.recovery, old.history
	}
	t.record = p
	if x := t.lazy; x != nil {
		t.lazy = nil
		if len(x.lines) > 0 {
			t.lazy = &lazyFields{lines: x.lines}
		}
		if x.rare != nil && x.rare.lease != nil {
			t.lazyLocked().rareLocked().lease = x.rare.lease
		}
		if x.passes != nil {
			t.lazyLocked().passes = new(passes)
		}
	}
}

// event makes the event of an occurrence.
func (t *Task) event(o *occurrence) Event {
	c := t.config()
	e := Event{
		Time: o.now, Manager: c.manager.config.name, Task: t.path(), Kind: o.kind, Run: o.run, Err: o.err, Cause: o.cause, By: o.hand.who(),
		Delay: o.delay, Restarts: o.restarts, MaxRestarts: c.maxRestarts, Window: c.window, Uptime: o.uptime,
	}
	if o.kind == EventRecovered {
		e.Failures, e.FailedSince = o.restarts, o.now.Add(-o.delay).Round(0)
		e.Restarts, e.Delay = 0, 0
	}
	if o.waiting != nil {
		e.Dependents, e.DependentCount = o.waiting.names, o.waiting.count
	}
	return e
}

// runNumberLocked is that of the latest run in this life.
func (t *Task) runNumberLocked() uint64 {
	if t.record != nil {
		return t.runs - t.record.earlierLives.runs
	}
	return t.runs
}
