package taskmanager

import (
	"math"
	"time"
)

// A failure is told, and so is that it is over: by EventRecovered, when a run of a task of which a failure was told is healthy. The
// row of failures that TaskStats counts ends by the same, at the same moment.

// A recovery is what is kept of failures beyond the life in which they happened, and what finds out that they are over. Guarded by the
// task's mu.
type recovery struct {
	failures uint32 // in the lives before this one, since the task was healthy
	since    int64  // when the first of them happened, or the task was given up without one, in Unix nanoseconds; 0 if there is none

	timer *time.Timer
	armed bool // timer is to fire
}

func (p *record) recoveryOrNew() *recovery {
	if p.recovery == nil {
		p.recovery = &recovery{}
	}
	return p.recovery
}

// hasFailedLocked reports whether a failure of the task was told, and not yet that it has recovered.
func (t *Task) hasFailedLocked() bool {
	p := t.record
	return p != nil && (p.inARow > 0 || p.recovery != nil && p.recovery.since != 0)
}

// canRecoverLocked reports whether the run that is under way is healthy if it goes on for long enough. One that makes passes is judged
// by those, and one of which something is asked, or that is late, is not judged any more.
func (t *Task) canRecoverLocked() bool {
	return t.readyLocked() && !t.passesLocked().ofThisRun()
}

// hasRecoveredLocked reports whether the run that is under way has lasted long enough to be healthy.
func (t *Task) hasRecoveredLocked(now time.Time) bool {
	return t.canRecoverLocked() && now.Sub(t.run.started) >= t.config().healthy()
}

// failingLocked returns how many failures in a row there have been, and when the first of them was.
func (t *Task) failingLocked(now time.Time) (failures int, since time.Time) {
	p := t.record
	if p == nil || p.inARow == 0 || t.hasRecoveredLocked(now) {
		return 0, time.Time{}
	}
	return int(p.inARow), time.Unix(0, p.failingSince)
}

// recoverLocked has it told that the task has recovered, if its run is healthy and there is something to recover from.
func (t *Task) recoverLocked(now time.Time, healthy bool) {
	if healthy && t.machine.phase == running && t.hasFailedLocked() {
		t.becomeHealthyLocked(now)
	}
}

// becomeHealthyLocked is a decision of its own, whatever else is decided at that moment.
//
//go:noinline
func (t *Task) becomeHealthyLocked(now time.Time) {
	t.applyLocked(&decision{input: becameHealthy, now: now}, becameHealthy)
}

// awaitHealthLocked sees that it is noticed when the run has lasted long enough. There is one timer for a row of failures, and not one
// for each of its runs: where it fires too early, because the run began later, it is set again.
func (t *Task) awaitHealthLocked(now time.Time) {
	if !t.hasFailedLocked() {
		return
	}
	r := t.record.recoveryOrNew()
	if r.armed || !t.canRecoverLocked() {
		return
	}
	r.armed = true
	left := t.config().healthy() - now.Sub(t.run.started)
	if r.timer == nil {
		r.timer = time.AfterFunc(left, t.checkHealth)
	} else {
		r.timer.Reset(left)
	}
}

// unawaitHealthLocked is the end of awaitHealthLocked.
func (t *Task) unawaitHealthLocked() {
	if p := t.record; p != nil && p.recovery != nil && p.recovery.armed {
		p.recovery.armed = false
		p.recovery.timer.Stop()
	}
}

// checkHealth is called when a run may have lasted long enough.
func (t *Task) checkHealth() {
	t.mu.Lock()
	if p := t.record; p != nil && p.recovery != nil {
		p.recovery.armed = false
	}
	now := time.Now()
	t.recoverLocked(now, t.hasRecoveredLocked(now))
	t.awaitHealthLocked(now)
	t.mu.Unlock()
	t.drainLog() // on a goroutine that has nothing else to do
}

// publishRecoveredLocked publishes that the task has recovered, and from what.
func (t *Task) publishRecoveredLocked(n *decision) {
	p := t.record
	o := &occurrence{
		kind: EventRecovered, now: n.now, run: t.runNumberLocked(), uptime: n.now.Sub(t.run.started), restarts: int(p.inARow),
	}
	since := p.failingSince
	if r := p.recovery; r != nil {
		t.unawaitHealthLocked()
		if r.since != 0 {
			since = r.since
			o.restarts += int(r.failures)
			r.since, r.failures = 0, 0
		}
	}
	o.delay = time.Duration(n.now.UnixNano() - since)
	p.inARow = 0
	t.tellLocked(&decision{}, o) // its line is left to others, for the same decision may have another one
}

// carryFailuresLocked notes, of a task that is given up or replaced, what another life will have to recover from.
func (t *Task) carryFailuresLocked(n *decision) {
	p := t.record
	r := p.recoveryOrNew()
	if r.since == 0 {
		r.since = n.now.UnixNano()
		if p.inARow > 0 {
			r.since = p.failingSince
		}
	}
	r.failures = min(r.failures, math.MaxInt32-p.inARow) + p.inARow
}
