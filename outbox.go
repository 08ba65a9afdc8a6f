package taskmanager

import (
	"context"
	"log/slog"
	"runtime/pprof"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	reportTimeout     = 10 * time.Second       // for one call of Report
	reportLateness    = time.Second            // beyond reportTimeout, before it is logged that a call does not return
	leastPause        = 100 * time.Millisecond // that a Reporter can ask for
	longestRetry      = 30 * time.Second       // the pause after many failures
	flushPause        = time.Second            // the longest after a failure, while flushing
	attemptsInARow    = 3                      // of one report, before others are tried in turn with it
	failuresOfBatches = 5                      // in a row, before events are tried one by one
)

// An outbox delivers events to one Reporter, from a goroutine that exists only while there is
// something to deliver.
//
// None of its methods but loop calls user code or blocks.
type outbox struct {
	ctx      context.Context // of the bus
	reporter Reporter
	limiter  *rate.Limiter

	mu         sync.Mutex // held for moments; of other mutexes, only those of the lineQueue and of pending are locked meanwhile
	bus        *eventBus  // changes with both buses locked, when the next run of a group takes the outbox over
	waiting    reportQueue
	inFlight   []*report          // were taken out of waiting; are being reported
	alone      int                // so many calls are to be made for one report each, for together they were refused
	isProbe    bool               // what is in flight is not the first: it shows whether that is why the Reporter fails
	hasProbed  bool               // the latest call was for such a one: the first has its turn again
	looping    bool               // the goroutine exists
	retired    bool               // is not in the list of the bus: nothing comes in, and nothing goes out
	heirs      []*outbox          // retired: who gets what was in flight and was not delivered
	awaited    bool               // retired, and the call of Report that was under way then still is: it is pending
	closed     bool               // by the Reporter: whatever comes in is lost
	failures   int                // of calls of Report, since the last success or the beginning of a flush
	askedUntil time.Time          // when the Reporter wants the next call, as its last error said; zero if it did not say
	flushUntil time.Time          // the end of the flush that is under way; zero if none is
	sleep      sleep              // the pause of the goroutine
	drained    chan struct{}      // made by idle; closed, and nil again, when nothing waits
	calls      uint64             // of Report, that have begun
	cancel     context.CancelFunc // of the call of Report; non-nil while one is under way
	overdue    *time.Timer        // logs that it takes too long; set with cancel
}

// newOutbox returns an outbox that is retired, until it is enlisted.
func newOutbox(b *eventBus, r Reporter) *outbox {
	return &outbox{
		ctx: b.ctx, bus: b, reporter: r, limiter: rate.NewLimiter(b.reportLimit, b.reportBurst), retired: true,
	}
}

// enlist notes that the outbox is in the list of the bus from now on. It returns true if it was not
// in service: it may take over what waits for others, then. What it has in hand nevertheless goes to others that are new, and to
// those that would have had it if it had failed.
func (o *outbox) enlist(flushUntil time.Time) (isNew bool, inHand []*report, heirs []*outbox) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.retired && !o.closed {
		return false, nil, nil
	}
	inHand, heirs = cloneAll(o.inFlight), o.heirs
	if o.awaited {
		o.awaited = false
		o.bus.pending.Done() // it is waited for as those in the list are
	}
	if o.closed {
		o.failures, o.askedUntil = 0, time.Time{}
	}
	o.retired, o.closed, o.heirs = false, false, nil
	o.flushUntil = flushUntil
	return true, inHand, heirs
}

// takeOver adds copies of what waits for former Reporters.
func (o *outbox) takeOver(reports []*report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range reports {
		c := r.clone()
		c.attempts = 0
		o.waiting.add(c)
	}
	o.ensureLoopLocked()
}

// put adds a report to those that wait, and sees that somebody delivers them; it is lost if nobody
// will.
func (o *outbox) put(r *report) {
	for _, heir := range o.putHere(r) {
		heir.put(r.clone())
	}
}

// putHere is put without the heirs, which it returns if the report goes to them.
func (o *outbox) putHere(r *report) (heirs []*outbox) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.retired && len(o.heirs) > 0:
		return o.heirs
	case o.retired || o.closed:
		o.bus.lost.Add(r.eventCount())
	default:
		o.waiting.addCopy(r) // most often it is merged, and need not be kept
		o.ensureLoopLocked()
	}
	return nil
}

// ensureLoopLocked starts the goroutine that delivers, if there is none.
func (o *outbox) ensureLoopLocked() {
	if !o.looping && len(o.waiting.order) > 0 {
		o.looping = true
		go o.loop()
	}
}

// loop is the goroutine.
func (o *outbox) loop() {
	// It was started by a task's goroutine, and must not be taken for one of the task's.
	pprof.SetGoroutineLabels(o.ctx)
	var (
		result            callResult
		calling, finished bool
	)
	defer func() {
		if finished {
			return
		}
		if calling {
			o.finishBatch(&result)
		}
		go o.loop() // the Reporter, or a method of an error, has called runtime.Goexit
	}()
	for {
		o.pause()
		condense(o.ctx, &o.mu, &o.waiting)
		ctx, events, ok := o.nextBatch()
		if !ok {
			finished = true
			return
		}
		calling = true
		result.call(ctx, o.reporter, events)
		calling = false // finishBatch calls nobody
		o.finishBatch(&result)
	}
}

// nextBatch takes out what the next call of the Reporter is for. It returns false if there is nothing; loop must return then.
func (o *outbox) nextBatch() (context.Context, []Event, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.waiting.order)
	if n == 0 || o.retired {
		o.looping = false
		o.drainedLocked()
		return nil, nil, false
	}
	first := 0
	if _, ok := o.reporter.(BatchReporter); !ok || o.alone > 0 || o.failures >= failuresOfBatches {
		first, n = o.chooseLocked(), 1
	} else {
		n = o.waiting.batch()
	}
	o.isProbe = first > 0
	o.inFlight = o.waiting.take(first, n)
	events := make([]Event, n)
	for i, r := range o.inFlight {
		events[i] = r.event
		events[i].Tasks = slices.Clone(r.event.Tasks)
	}
	ctx, cancel := context.WithTimeout(o.ctx, reportTimeout)
	o.calls++
	call, began := o.calls, time.Now()
	o.cancel = cancel
	o.overdue = time.AfterFunc(reportTimeout+reportLateness, func() { o.logOverdue(call, began) })
	return ctx, events, true
}

// chooseLocked returns the place of the one to try next: that of the first, or if that has failed several times, in turn of another
// one. It may be this report that the Reporter can't take.
func (o *outbox) chooseLocked() int {
	first := o.waiting.order[0]
	if o.failures == 0 || o.hasProbed || first.attempts < attemptsInARow {
		return 0
	}
	return o.waiting.anotherThan(first)
}

// pause waits as long as the limit, the failures so far and the Reporter's own wish demand.
func (o *outbox) pause() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting.order) == 0 || o.retired {
		return
	}
	now := time.Now()
	var pause time.Duration
	switch {
	case !o.askedUntil.IsZero():
		pause = o.askedUntil.Sub(now)
	case o.failures > 0:
		pause = retryDelay(o.failures)
	}
	if o.flushUntil.IsZero() {
		pause = max(pause, o.limiter.Reserve().Delay())
	} else if o.askedUntil.IsZero() {
		// More than one attempt fits into the time that is left, and no end of them.
		pause = min(pause, flushPause, max(o.flushUntil.Sub(now)/2, leastPause))
	}
	until := now.Add(pause)
	for !o.retired {
		pause := time.Until(until)
		if pause <= 0 {
			return
		}
		if o.sleep.waitLocked(&o.mu, pause) { // by hurry, if not at the end: it leaves what the Reporter has asked for
			until = o.askedUntil
		}
	}
}

// A sleep is a wait of one goroutine, which others can end. It is guarded by a mutex of whoever has it.
type sleep struct {
	wake chan struct{} // closed, and nil again, to end the wait; nil if there is none
}

// waitLocked waits for d, with mu unlocked meanwhile. It returns true, and maybe earlier, if endLocked has been called.
func (s *sleep) waitLocked(mu *sync.Mutex, d time.Duration) (ended bool) {
	wake := make(chan struct{})
	s.wake = wake
	mu.Unlock()
	select {
	case <-time.After(d):
	case <-wake:
	}
	mu.Lock()
	ended = s.wake == nil
	s.wake = nil
	return ended
}

// endLocked ends the wait, if there is one.
func (s *sleep) endLocked() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}

// drainedLocked tells those who wait for it that nothing is to be waited for.
func (o *outbox) drainedLocked() {
	if o.drained != nil {
		close(o.drained)
		o.drained = nil
	}
}

// retryDelay doubles from one second to half a minute.
func retryDelay(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 5), longestRetry)
}

// logOverdue has it logged that a call of Report does not return. It is a timer that does that, and
// not who reports next, for that may be a stop that has a deadline.
func (o *outbox) logOverdue(call uint64, began time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cancel != nil && o.calls == call {
		o.bus.logLater("reporter does not return, its reports wait", slog.Duration("since", roundDuration(time.Since(began))))
	}
}

// finishBatch takes note of how the call of the Reporter for what is in flight has ended. The bus is locked meanwhile, so that whoever
// counts finds what goes to an heir either here or there.
func (o *outbox) finishBatch(c *callResult) {
	b := o.lockBus()
	defer b.mu.Unlock()
	undelivered, heirs := o.settleBatch(c)
	for _, heir := range heirs {
		for _, r := range undelivered {
			heir.put(r.clone())
		}
	}
	b.pruneFormerLocked()
}

// lockBus locks the bus of the outbox, and returns it.
func (o *outbox) lockBus() *eventBus {
	current := func() *eventBus {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.bus
	}
	for {
		b := current()
		b.mu.Lock()
		if b == current() {
			return b
		}
		b.mu.Unlock() // the outbox has moved meanwhile
	}
}

// settleBatch is finishBatch within the outbox. It returns what goes to whom, if the outbox is retired.
func (o *outbox) settleBatch(c *callResult) (undelivered []*report, heirs []*outbox) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cancel()
	o.overdue.Stop()
	o.cancel, o.overdue = nil, nil
	if o.awaited {
		o.awaited = false
		defer o.bus.pending.Done() // after what there is to log has become pending
	}
	inFlight := o.inFlight // none, if a flush has given it up and said so
	o.inFlight = nil
	n := min(c.delivered, len(inFlight))
	o.bus.delivered.Add(countEvents(inFlight[:n]))
	rest := inFlight[n:]
	if c.refused || !c.failed {
		o.alone = max(0, o.alone-1)
	}
	if o.isProbe && len(rest) == 0 && len(o.waiting.order) > 0 {
		o.waiting.order[0].doubted = true
	}
	o.hasProbed = o.isProbe

	o.failures, o.askedUntil = o.failuresAfter(c)
	o.closed = c.closed && !o.retired
	noTime := c.asked && !o.flushUntil.IsZero() && !o.askedUntil.Before(o.flushUntil)
	switch {
	case c.failed && c.refused && len(rest) == 1:
		o.loseLocked("reporter refused a report, it is lost", c.text, rest)
	case o.retired:
		if len(o.heirs) > 0 {
			return cloneAll(rest), o.heirs
		}
		text := c.text
		if !c.failed {
			text = "taskmanager: reporter was replaced before it had taken all"
		}
		o.loseLocked("reporter failed, report is lost", text, rest)
	case c.closed:
		rest = slices.Concat(rest, o.waiting.takeAll())
		o.bus.lost.Add(countEvents(rest))
		o.bus.logLater("reporter is closed, all reports are lost until it is replaced",
			slog.Uint64("events", countEvents(rest)), slog.String("error", c.text))
	case noTime:
		rest = slices.Concat(rest, o.waiting.takeAll())
		o.bus.lost.Add(countEvents(rest))
		o.bus.logNoTime(countEvents(rest), slog.String("error", c.text))
	default:
		o.retryLocked(c, rest)
	}
	return nil, nil
}

// failuresAfter returns the failures, and until when the Reporter wants to be left alone, after that call.
func (o *outbox) failuresAfter(c *callResult) (failures int, askedUntil time.Time) {
	switch {
	case !c.failed, c.refused: // it works
		return 0, time.Time{}
	case c.asked:
		return o.failures, time.Now().Add(max(c.retryAfter, leastPause))
	}
	return o.failures + 1, time.Time{}
}

// retryLocked has those reports wait again that the Reporter has not taken.
func (o *outbox) retryLocked(c *callResult, rest []*report) {
	if len(rest) == 0 {
		return
	}
	message := "reporter failed, will retry"
	switch {
	case c.refused:
		message = "reporter refused several reports, will try one by one"
		o.alone = len(rest)
	case c.failed && !c.asked:
		for _, r := range rest {
			r.attempts++
		}
	}
	if c.failed {
		o.bus.logLater(message, attrsOfReports(rest, c.text)...)
	}
	first := rest[0]
	o.waiting.addFirst(rest)
	if len(rest) == 1 && c.failed && !c.asked && first.doubted {
		o.waiting.putBehind(first)
	}
}

// loseLocked counts and logs what the Reporter will not be given again.
func (o *outbox) loseLocked(message, text string, lost []*report) {
	if len(lost) > 0 {
		o.bus.lost.Add(countEvents(lost))
		o.bus.logLater(message, attrsOfReports(lost, text)...)
	}
}

// attrsOfReports are what a line says of reports that have failed together.
func attrsOfReports(reports []*report, text string) []slog.Attr {
	first := reports[0]
	attrs := make([]slog.Attr, 0, 6)
	if first.tasks == nil {
		attrs = append(attrs, slog.String("task", first.event.Task))
	} else {
		attrs = append(attrs, slog.Int("tasks", first.taskCount()))
	}
	attrs = append(attrs, slog.String("kind", first.event.Kind.String()))
	if len(reports) > 1 {
		attrs = append(attrs, slog.Int("other_reports", len(reports)-1))
	}
	return append(attrs,
		slog.Uint64("events", countEvents(reports)), slog.Int("attempt", first.attempts), slog.String("error", text))
}

// hurry notes that a flush is under way, until then: the limit doesn't hold, and the pauses after
// failures begin anew. What the Reporter has asked for it gets, if the time is enough for that;
// otherwise it is tried once at once, for there is nothing to lose. The zero time says that no flush is under way any more.
func (o *outbox) hurry(until time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flushUntil = until
	if until.IsZero() {
		return
	}
	o.failures = 0
	if !o.askedUntil.Before(until) {
		o.askedUntil = time.Time{}
	}
	o.sleep.endLocked()
}

// moveTo notes that the outbox belongs to b. Both buses are locked.
func (o *outbox) moveTo(b *eventBus) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bus = b
}

// closedChannel is what idle returns if there is nothing to wait for.
func closedChannel() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// idle returns a channel that is closed when nothing waits and nothing is in flight, or when the
// outbox is retired.
func (o *outbox) idle() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.looping || o.retired {
		return closedChannel()
	}
	if o.drained == nil {
		o.drained = make(chan struct{})
	}
	return o.drained
}

// retire takes the outbox out of service. It returns what waited, which goes to others. If a call of Report is under way,
// that goes on, and is pending, and the heirs get what it does not deliver.
func (o *outbox) retire(heirs []*outbox) (waiting []*report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.retired {
		o.heirs = heirs
	}
	waiting = o.retireLocked()
	if o.cancel != nil && !o.awaited {
		o.awaited = true
		o.bus.pending.Add()
	}
	return waiting
}

// isNeeded returns whether a retired outbox is to be kept: because its Reporter is called, or must not be called as often as its limit
// allows to another one, or as soon.
func (o *outbox) isNeeded() (called, limited bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	return o.cancel != nil, o.failures > 0 || o.askedUntil.After(now) || o.limiter.TokensAt(now) < float64(o.limiter.Burst())
}

// copies returns copies of what waits; and, if the outbox is in service, of what is in flight, which may have to wait again.
func (o *outbox) copies() []*report {
	o.mu.Lock()
	defer o.mu.Unlock()
	reports := o.waiting.order
	if !o.retired {
		reports = slices.Concat(o.inFlight, reports)
	}
	var merged reportQueue
	for _, r := range reports {
		merged.add(r.clone())
	}
	return merged.order
}

// retireLocked returns what waited.
func (o *outbox) retireLocked() []*report {
	o.retired, o.alone = true, 0
	o.sleep.endLocked()
	o.drainedLocked()
	return cloneAll(o.waiting.takeAll()) // an error of theirs may be being read
}

// abandon retires the outbox, unless it has nothing to do, and counts as lost what waits and what is
// in flight.
func (o *outbox) abandon() (lost uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting.order) == 0 && o.cancel == nil {
		return 0
	}
	lost = countEvents(o.inFlight) + countEvents(o.retireLocked())
	o.inFlight = nil
	if o.cancel != nil {
		o.cancel()
	}
	o.bus.lost.Add(lost)
	return lost
}

// release notes that nobody waits any more for the call that was under way when the outbox was retired.
func (o *outbox) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.awaited {
		o.awaited = false
		o.bus.pending.Done()
	}
}

// unreportedLocked is how many events wait or are in flight.
func (o *outbox) unreportedLocked() uint64 {
	return countEvents(o.waiting.order) + countEvents(o.inFlight)
}
