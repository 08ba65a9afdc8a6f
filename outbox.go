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

// A report is an event that waits for a Reporter.
type report struct {
	event    Event
	origin   string // of the bus at which the event has come in
	attempts int    // that have failed
}

// A reportKey is what those reports have in common that are merged. A path alone does not tell the
// task "g/a" from the task "a" of the group "g".
type reportKey struct {
	origin string
	task   string
	kind   EventKind
}

func (r *report) key() reportKey { return reportKey{r.origin, r.event.Task, r.event.Kind} }

// eventCount is how many events the report stands for.
func (r *report) eventCount() uint64 { return 1 + uint64(r.event.Repeats) }

// countEvents is how many events the reports stand for.
func countEvents(reports []*report) (n uint64) {
	for _, r := range reports {
		n += r.eventCount()
	}
	return n
}

// An outbox delivers events to one Reporter, from a goroutine that exists only while there is
// something to deliver.
//
// None of its methods but loop calls user code or blocks.
type outbox struct {
	bus      *eventBus
	reporter Reporter
	limiter  *rate.Limiter

	mu         sync.Mutex // held for moments; of other mutexes, only those of the lineQueue and of pending are locked meanwhile
	waiting    map[reportKey]*report
	order      []*report          // of waiting, the oldest first
	inFlight   []*report          // were taken out of waiting; are being reported
	looping    bool               // the goroutine exists
	retired    bool               // is not in the list of the bus: nothing comes in, and nothing goes out
	awaited    bool               // retired, and the call of Report that was under way then still is: it is pending
	closed     bool               // by the Reporter: whatever comes in is lost
	failures   int                // of calls of Report, since the last success or the beginning of a flush
	askedUntil time.Time          // when the Reporter wants the next call, as its last error said
	flushUntil time.Time          // the end of the flush that is under way; zero if none is
	wake       chan struct{}      // closed, and nil again, to end the pause that the goroutine makes, if it does
	drained    chan struct{}      // made by idle; closed, and nil again, when nothing waits
	calls      uint64             // of Report, that have begun
	cancel     context.CancelFunc // of the call of Report; non-nil while one is under way
	overdue    *time.Timer        // logs that it takes too long; set with cancel
}

// newOutbox returns an outbox that is retired, until it is enlisted.
func newOutbox(b *eventBus, r Reporter) *outbox {
	return &outbox{bus: b, reporter: r, limiter: rate.NewLimiter(b.reportLimit, b.reportBurst), retired: true}
}

// enlist notes that the outbox is in the list of the bus from now on. It returns true if it was not
// in service: it may take over what waits for others, then.
func (o *outbox) enlist(flushUntil time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.retired && !o.closed {
		return false
	}
	if o.awaited {
		o.awaited = false
		o.bus.pending.Done() // it is waited for as those in the list are
	}
	o.retired, o.closed = false, false
	o.failures, o.askedUntil, o.flushUntil = 0, time.Time{}, flushUntil
	o.waiting = make(map[reportKey]*report)
	return true
}

// takeOver adds copies of what waits for former Reporters.
func (o *outbox) takeOver(reports []*report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range reports {
		o.mergeLocked(&report{event: r.event, origin: r.origin})
	}
	o.ensureLoopLocked()
}

// A reportUnion is what waits for the Reporters that SetReporter finds, each report once. What waits
// for several waited for all of them, until it was delivered to some: of two reports with the same
// key the larger is all.
type reportUnion struct {
	byKey map[reportKey]*report
	order []*report // of byKey
}

func (u *reportUnion) add(reports []*report) {
	for _, r := range reports {
		switch old := u.byKey[r.key()]; {
		case old == nil:
			u.byKey[r.key()] = r
			u.order = append(u.order, r)
		case r.eventCount() > old.eventCount():
			*old = *r
		}
	}
}

// oldestFirst returns the reports.
func (u *reportUnion) oldestFirst() []*report {
	slices.SortStableFunc(u.order, func(a, b *report) int { return a.event.firstTime().Compare(b.event.firstTime()) })
	return u.order
}

// put adds a report to those that wait, and sees that somebody delivers them; it is lost if nobody
// will.
func (o *outbox) put(r *report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.retired || o.closed {
		o.bus.lost.Add(r.eventCount())
		return
	}
	o.mergeLocked(r)
	o.ensureLoopLocked()
}

// ensureLoopLocked starts the goroutine that delivers, if there is none.
func (o *outbox) ensureLoopLocked() {
	if !o.looping && len(o.order) > 0 {
		o.looping = true
		go o.loop()
	}
}

// mergeLocked merges r with the report of the same key, if one waits; the later event of the two is
// kept.
func (o *outbox) mergeLocked(r *report) {
	if _, ok := o.waiting[r.key()]; !ok && len(o.waiting) >= reportsWaiting {
		r.origin, r.event.Task, r.event.Run = "", "", 0
	}
	old := o.waiting[r.key()]
	if old == nil {
		o.waiting[r.key()] = r
		o.order = append(o.order, r)
		return
	}
	repeats := old.event.Repeats + 1 + r.event.Repeats
	since := old.event.firstTime()
	if s := r.event.firstTime(); s.Before(since) {
		since = s
	}
	if !r.event.Time.Before(old.event.Time) {
		old.event = r.event
	}
	old.event.Repeats, old.event.Since = repeats, since
	old.attempts = max(old.attempts, r.attempts)
}

// requeueLocked puts back what was in flight, before what has come in since.
func (o *outbox) requeueLocked(reports []*report) {
	if len(reports) == 0 {
		return
	}
	newer := o.order
	o.order = nil
	clear(o.waiting)
	for _, r := range slices.Concat(reports, newer) {
		o.mergeLocked(r)
	}
}

// loop is the goroutine.
func (o *outbox) loop() {
	// It was started by a task's goroutine, and must not be taken for one of the task's.
	pprof.SetGoroutineLabels(o.bus.ctx)
	var (
		result   callResult
		finished bool
	)
	defer func() {
		if !finished { // the Reporter, or a method of its error, has called runtime.Goexit
			o.finishBatch(&result)
			go o.loop()
		}
	}()
	for {
		ctx, events, ok := o.nextBatch()
		if !ok {
			finished = true
			return
		}
		result.call(ctx, o.reporter, events)
		o.finishBatch(&result)
	}
}

// nextBatch waits until the next call of the Reporter may be made, and takes out what it is for. It
// returns false if there is nothing; loop must return then.
func (o *outbox) nextBatch() (context.Context, []Event, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pauseLocked()
	if len(o.order) == 0 || o.retired {
		o.looping = false
		o.drainedLocked()
		return nil, nil, false
	}
	n := 1
	if _, ok := o.reporter.(BatchReporter); ok {
		n = len(o.order)
	}
	o.inFlight = slices.Clone(o.order[:n])
	o.order = slices.Delete(o.order, 0, n)
	events := make([]Event, n)
	for i, r := range o.inFlight {
		delete(o.waiting, r.key())
		events[i] = r.event
	}
	ctx, cancel := context.WithTimeout(o.bus.ctx, reportTimeout)
	o.calls++
	call, began := o.calls, time.Now()
	o.cancel = cancel
	o.overdue = time.AfterFunc(reportTimeout+reportLateness, func() { o.logOverdue(call, began) })
	return ctx, events, true
}

// pauseLocked waits as long as the limit and the failures so far demand. It unlocks mu meanwhile.
func (o *outbox) pauseLocked() {
	if len(o.order) == 0 || o.retired {
		return
	}
	now := time.Now()
	var pause time.Duration
	if o.failures > 0 {
		pause = retryDelay(o.failures)
	}
	if o.flushUntil.IsZero() {
		pause = max(pause, o.limiter.Reserve().Delay())
	} else {
		// More than one attempt fits into the time that is left, and no end of them.
		pause = min(pause, max(o.flushUntil.Sub(now)/2, leastPause))
	}
	until := now.Add(max(pause, o.askedUntil.Sub(now)))
	for !o.retired {
		pause := time.Until(until)
		if pause <= 0 {
			return
		}
		wake := make(chan struct{})
		o.wake = wake
		o.mu.Unlock()
		select {
		case <-time.After(pause):
		case <-wake:
		}
		o.mu.Lock()
		if o.wake == nil { // hurry, if not the end: it leaves what the Reporter has asked for
			until = o.askedUntil
		}
	}
}

// wakeLocked ends a pause of the goroutine.
func (o *outbox) wakeLocked() {
	if o.wake != nil {
		close(o.wake)
		o.wake = nil
	}
}

// drainedLocked tells those who wait for it that nothing is to be waited for.
func (o *outbox) drainedLocked() {
	if o.drained != nil {
		close(o.drained)
		o.drained = nil
	}
}

// retryDelay doubles from one second to a minute.
func retryDelay(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 6), time.Minute)
}

// logOverdue has it logged that a call of Report does not return. It is a timer that does that, and
// not who reports next, for that may be a stop that has a deadline.
func (o *outbox) logOverdue(call uint64, began time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cancel != nil && o.calls == call {
		o.bus.logLater("reporter does not return, its reports wait", slog.Duration("since", time.Since(began)))
	}
}

// finishBatch takes note of how the call of the Reporter for what is in flight has ended.
func (o *outbox) finishBatch(c *callResult) {
	if o.settleBatch(c) {
		o.bus.forget(o)
	}
}

// settleBatch is finishBatch within the outbox. It returns whether that is retired.
func (o *outbox) settleBatch(c *callResult) (retired bool) {
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
	if !c.failed && (!o.retired || len(rest) == 0) {
		o.failures, o.askedUntil = 0, time.Time{}
		o.requeueLocked(rest)
		return o.retired
	}
	text := c.text
	if !c.failed {
		text = "taskmanager: reporter was replaced before it had taken all"
	}
	now := time.Now()
	o.failures++
	if c.asked { // what it has asked for before is over
		o.askedUntil = now.Add(c.retryAfter)
	}
	noTime := c.asked && !o.flushUntil.IsZero() && !o.askedUntil.Before(o.flushUntil)
	if c.closed || noTime {
		rest = slices.Concat(rest, o.order)
		o.order = nil
		clear(o.waiting)
	}
	o.closed = c.closed
	var retry, dropped failedReports
	for _, r := range rest {
		if !c.asked {
			r.attempts++
		}
		if c.closed || noTime || o.retired || r.attempts >= reportAttempts {
			dropped.add(r)
		} else {
			retry.add(r)
			o.mergeLocked(r)
		}
	}
	o.bus.lost.Add(dropped.events)
	switch {
	case c.closed:
		o.bus.logLater("reporter is closed, all reports are lost until it is replaced",
			slog.Uint64("events", dropped.events), slog.String("error", text))
	case dropped.reports == 0:
	case noTime:
		o.bus.logNoTime(dropped.events, slog.String("error", text))
	default:
		o.bus.logLater("reporter failed, report is lost", dropped.attrs(text)...)
	}
	if retry.reports > 0 {
		o.bus.logLater("reporter failed, will retry", retry.attrs(text)...)
	}
	return o.retired
}

// failedReports are what there is to log of some reports that have failed together. They are copies:
// what will be retried may be merged with others before the line is written.
type failedReports struct {
	first    Event
	attempts int // of the first
	reports  int
	events   uint64
}

func (f *failedReports) add(r *report) {
	if f.reports == 0 {
		f.first, f.attempts = r.event, r.attempts
	}
	f.reports++
	f.events += r.eventCount()
}

func (f *failedReports) attrs(text string) []slog.Attr {
	attrs := make([]slog.Attr, 0, 6)
	attrs = append(attrs, slog.String("task", f.first.Task), slog.String("kind", f.first.Kind.String()))
	if f.reports > 1 {
		attrs = append(attrs, slog.Int("other_reports", f.reports-1))
	}
	return append(attrs, slog.Uint64("events", f.events), slog.Int("attempt", f.attempts), slog.String("error", text))
}

// hurry notes that a flush is under way, until then: the limit doesn't hold, and the pauses after
// failures begin anew. What the Reporter has asked for it gets, if the time is enough for that;
// otherwise it is tried once at once, for there is nothing to lose.
func (o *outbox) hurry(until time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flushUntil = until
	o.failures = 0
	if !o.askedUntil.Before(until) {
		o.askedUntil = time.Time{}
	}
	o.wakeLocked()
}

// unhurry notes that no flush is under way any more.
func (o *outbox) unhurry() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flushUntil = time.Time{}
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

// retire takes the outbox out of service. It returns what waited, which goes to others, and whether a
// call of Report is under way: that goes on, and is pending.
func (o *outbox) retire() (waiting []*report, calling bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	waiting = o.retireLocked()
	if o.cancel == nil {
		return waiting, false
	}
	if !o.awaited {
		o.awaited = true
		o.bus.pending.Add()
	}
	return waiting, true
}

// copies returns copies of what waits; and, if the outbox is in service, of what is in flight, which may have to wait again.
func (o *outbox) copies() []*report {
	o.mu.Lock()
	defer o.mu.Unlock()
	reports := o.order
	if !o.retired {
		reports = slices.Concat(o.inFlight, o.order)
	}
	merged := outbox{waiting: make(map[reportKey]*report)}
	for _, r := range reports {
		c := *r
		merged.mergeLocked(&c)
	}
	return merged.order
}

// retireLocked returns what waited.
func (o *outbox) retireLocked() []*report {
	waiting := o.order
	o.retired = true
	o.order, o.waiting = nil, nil
	o.wakeLocked()
	o.drainedLocked()
	return waiting
}

// abandon retires the outbox, unless it has nothing to do, and counts as lost what waits and what is
// in flight.
func (o *outbox) abandon() (lost uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.order) == 0 && o.cancel == nil {
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
	return countEvents(o.order) + countEvents(o.inFlight)
}
