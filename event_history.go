package taskmanager

import (
	"math"
	"time"
)

// mostEventHistory bounds WithEventHistory.
const mostEventHistory = 1000

// History returns the latest events of the task, the oldest first, from its first failure on, or from the first time that somebody has
// asked for something of it whom [AskedBy] names: a task that has never failed, nor was stuck, nor was in such hands, has none. From then
// on each of its events is there, in all lives of the Task, be it logged or not, until as many later ones have happened as
// [WithEventHistory] says; but for passes that were triggered for nobody whom AskedBy names, which a program may do many times a second.
// They are those that subscribers get, without Dependents and DependentCount; MaxRestarts and Window are as they are now. The slice is the
// caller's.
func (t *Task) History() []Event {
	t.mu.Lock()
	var kept []pastEvent
	if p := t.record; p != nil && p.history != nil && t.config().eventHistory > 0 {
		kept = p.history.all()
	}
	t.mu.Unlock()
	if len(kept) == 0 {
		return nil
	}
	events := make([]Event, len(kept))
	for i := range kept {
		o := kept[i].occurrence()
		events[i] = t.event(&o)
	}
	return events
}

// A pastEvent is what is kept of an event: no more than it takes to make it anew.
type pastEvent struct {
	at       int64 // in Unix nanoseconds
	err      error // with beside: a *detailedError
	delay    time.Duration
	uptime   time.Duration
	run      uint64
	restarts int32
	kind     uint8
	cause    uint8 // in pastCauses
}

// pastCauses are those that most events have, if any; beside is the place of others, which are kept with the error, as is who has asked.
var pastCauses = [...]error{nil, ErrStopped, ErrShutdown, ErrRestarted, errRestartTimedOut, ErrPaused, ErrReplaced}

const beside = uint8(len(pastCauses))

// A detailedError is the error of an event with what few events have besides. It is not shown to anybody.
type detailedError struct {
	cause, error error
	by           string
}

func (*detailedError) Error() string { return "taskmanager: an event with details" }

// set keeps o in e.
func (e *pastEvent) set(o *occurrence) {
	e.at, e.err, e.delay, e.uptime, e.run = o.now.UnixNano(), o.err, o.delay, o.uptime, o.run
	e.restarts, e.kind, e.cause = int32(min(o.restarts, math.MaxInt32)), uint8(o.kind), 0
	for e.cause < beside && pastCauses[e.cause] != o.cause { //nolint:errorlint // the cause itself
		e.cause++
	}
	if by := o.hand.who(); by != "" || e.cause == beside {
		e.cause, e.err = beside, &detailedError{o.cause, o.err, by}
	}
}

func (e *pastEvent) occurrence() occurrence {
	o := occurrence{
		kind: EventKind(e.kind), now: time.Unix(0, e.at), run: e.run, err: e.err, delay: e.delay, uptime: e.uptime, restarts: int(e.restarts),
	}
	if e.cause == beside {
		details := e.err.(*detailedError) //nolint:errorlint // the event's own
		o.cause, o.err = details.cause, details.error
		if details.by != "" {
			o.hand = &byHand{by: details.by}
		}
	} else {
		o.cause = pastCauses[e.cause]
	}
	return o
}

// An eventRing keeps the latest events. It grows by doubling, up to its limit. The zero value is empty.
type eventRing struct {
	at    []pastEvent // the oldest at first
	first int
	n     int
}

// next returns the place of one more event. It drops those beyond limit, which may be another one than before.
func (r *eventRing) next(limit int) *pastEvent {
	if r.n == limit && limit == len(r.at) { // that of the oldest
		e := &r.at[r.first]
		if r.first++; r.first == limit {
			r.first = 0
		}
		return e
	}
	return r.nextOfOthers(limit)
}

// nextOfOthers is next where the ring is not full, or its limit has changed.
func (r *eventRing) nextOfOthers(limit int) *pastEvent {
	for ; r.n >= limit; r.n-- {
		r.at[r.first] = pastEvent{}
		r.first = (r.first + 1) % len(r.at)
	}
	if r.n == len(r.at) {
		kept := r.all()
		r.at, r.first = make([]pastEvent, min(max(4, 2*len(r.at)), limit)), 0
		copy(r.at, kept)
	}
	r.n++
	return &r.at[(r.first+r.n-1)%len(r.at)]
}

// all returns a copy of the events, the oldest first.
func (r *eventRing) all() []pastEvent {
	all := make([]pastEvent, r.n)
	for i := range all {
		all[i] = r.at[(r.first+i)%len(r.at)]
	}
	return all
}

// keepLocked keeps an event for History.
//
//go:noinline
func (t *Task) keepLocked(o *occurrence) {
	p, limit := t.record, t.config().eventHistory
	if o.kind == EventTriggered && !o.hand.isNamed() {
		return
	}
	if p == nil || p.history == nil {
		if limit == 0 || !o.kind.isReported() && !o.hand.isNamed() {
			return
		}
		p = t.recordLocked()
		p.history = &eventRing{}
	}
	if limit == 0 {
		p.history = nil // from a body that was replaced: should there be another limit, that would have a gap
		return
	}
	p.history.next(limit).set(o)
}

// keepStartLocked keeps that a run has begun, of which nobody else is to hear.
//
//go:noinline
func (t *Task) keepStartLocked(n *decision) {
	if limit := t.config().eventHistory; limit > 0 {
		*t.record.history.next(limit) = pastEvent{kind: uint8(EventStarted), at: n.now.UnixNano(), run: t.runNumberLocked()}
	}
}
