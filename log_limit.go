package taskmanager

import (
	"runtime/pprof"
	"sync"

	"golang.org/x/time/rate"
)

// heldLines are lines about tasks that the limit of the log has held up. Like reports they are merged, and one goroutine, which exists
// while there are any, writes them when it is their turn.
type heldLines struct {
	limiter *rate.Limiter // nil: none

	mu       sync.Mutex // nothing else is locked while it is held
	waiting  reportQueue
	writing  bool  // the goroutine exists
	flushing bool  // the limit does not hold
	sleep    sleep // the goroutine's wait for its turn
}

func newLogLimiter(limit rate.Limit, burst int) *rate.Limiter {
	if limit == rate.Inf {
		return nil
	}
	return rate.NewLimiter(limit, burst)
}

// logOwner returns the bus whose limit holds for what b logs: the nearest that has a log or a limit of its own.
func (b *eventBus) logOwner() *eventBus {
	for b.outer != nil && b.logger == nil && !b.ownLogLimit {
		b = b.outer
	}
	return b
}

// holdLine has l written later, if the limit or lines that wait already demand it. Then l is pending.
func (b *eventBus) holdLine(l *logLine) (held bool) {
	owner := b.logOwner()
	h := &owner.held
	if h.limiter == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	// As long as there are lines that wait or are being written, others wait as well: lines of one task keep their order.
	if !h.writing && (h.flushing || h.limiter.Allow()) {
		return false
	}
	r := newReport(&l.Event, b.origin)
	r.key.level = l.level
	r.line, r.bus = l, b
	before := len(h.waiting.order)
	h.waiting.add(r)
	if len(h.waiting.order) > before {
		owner.pending.Add()
	}
	for range before - len(h.waiting.order) { // the failures before and after a recovery are one by now
		owner.pending.Done()
	}
	if !h.writing {
		h.writing = true
		go owner.writeHeldLines()
	}
	return true
}

// writeHeldLines is the goroutine.
func (b *eventBus) writeHeldLines() {
	// It was started by a task's goroutine, and must not be taken for one of the task's.
	pprof.SetGoroutineLabels(b.ctx)
	finished := false
	defer func() {
		if !finished { // the handler, or a method of an error, has called runtime.Goexit
			go b.writeHeldLines()
		}
	}()
	for {
		b.held.waitForTurn()
		for range condense(b.ctx, &b.held.mu, &b.held.waiting) {
			b.pending.Done()
		}
		r := b.held.next()
		if r == nil {
			finished = true
			return
		}
		b.writeHeldLine(r)
	}
}

// waitForTurn waits as long as the limit demands, or until a flush begins.
func (h *heldLines) waitForTurn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting.order) == 0 || h.flushing {
		return
	}
	if pause := h.limiter.Reserve().Delay(); pause > 0 {
		h.sleep.waitLocked(&h.mu, pause)
	}
}

// next takes out what is to be written now; nil if nothing waits: writeHeldLines must return then.
func (h *heldLines) next() *report {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiting.order) == 0 {
		h.writing = false
		return nil
	}
	return h.waiting.take(0, 1)[0]
}

func (b *eventBus) writeHeldLine(r *report) {
	defer b.pending.Done()
	l := r.line
	l.Event = r.event
	if r.tasks != nil {
		l.hand = nil
	}
	r.bus.writeEvent(l)
}

// hurry says whether a flush is under way, during which the limit does not hold.
func (h *heldLines) hurry(flushing bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.flushing = flushing
	if flushing {
		h.sleep.endLocked()
	}
}
