package taskmanager

import (
	"context"
	"errors"
	"log/slog"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager/internal/inflight"
)

const (
	flushTimeout   = 5 * time.Second        // of a flush whose context has no deadline
	flushLeast     = time.Second            // of one whose context has a deadline, which the stops may have used up
	lastLineTime   = 100 * time.Millisecond // for the log, after a flush, to be told what is lost
	linesWaiting   = 100                    // of a bus, for a log handler that hangs
	endedRuns      = 1000                   // of groups, whose reports wait
	endedRunsOfOne = 4                      // of one group: its Reporters are others in each run
	formerOutboxes = 16                     // that are kept for their limits alone
)

// An eventBus takes what happens in a Manager to those who want to know: the subscribers and the
// reporters, the log, and the bus of the Manager around a group.
type eventBus struct {
	logger      *slog.Logger // nil: that of outer, and at last slog.Default()
	manager     string       // the name of the Manager
	reportLimit rate.Limit
	reportBurst int
	ownLogLimit bool            // WithLogLimit was given
	outer       *eventBus       // of a group's Manager: the bus around it; otherwise nil
	origin      string          // where among the groups it is; tells tasks of equal path apart
	ctx         context.Context // for reporters: never done, and with the pprof labels of no task

	pending inflight.Count // what is yet to be logged or told, for flush

	// Lists that never change, so that they are read without a lock; nil if empty. Changed with mu.
	subscribers atomic.Pointer[[]*subscriber]
	outboxes    atomic.Pointer[[]*outbox]

	// How many events reporters have been given, and how many are lost to one.
	delivered, lost atomic.Uint64

	// mu is held by those who change the lists; and, for reading, by those who report, so that all of
	// the outboxes hear of an event. The mutexes of outboxes may be locked while it is held.
	//
	// The mutex of the bus of an ended run may be locked while that of the outermost bus is held.
	mu         sync.RWMutex
	former     []*outbox   // are out of the list: their call of Report is under way, or the Reporter may not be called yet if it is set again
	runs       []*eventBus // of the outermost bus: those of runs of groups that have Reporters, or that have ended with something to publish
	runEnded   bool        // of a bus in runs; changed with the mutex of the outermost bus held
	flushes    int         // under way
	flushUntil time.Time   // the latest of their deadlines; zero if there is none
	closed     bool        // closeSubscribers has been called

	lines    lineQueue
	held     heldLines
	announce atomic.Pointer[chan struct{}] // closed when the latest line of logFirst has been written; nil: there was none
}

// newEventBus returns the bus of a Manager with that configuration. ctx is the context whose values
// and pprof labels its reporters get, unless there is a bus around it: then they get those of that.
func newEventBus(ctx context.Context, c *config, outer *eventBus) *eventBus {
	b := &eventBus{
		logger: c.logger, manager: c.name, reportLimit: c.reportLimit, reportBurst: c.reportBurst, outer: outer,
		ownLogLimit: c.ownLogLimit, held: heldLines{limiter: newLogLimiter(c.logLimit, c.logBurst)},
	}
	if outer != nil {
		b.origin, b.ctx = outer.origin+c.prefix+"\x00", outer.ctx // no name has a control character
		return b
	}
	// With the labels as they are now, so that a goroutine can take them from b.ctx without a call of
	// ctx, which may be the user's.
	b.ctx = context.WithoutCancel(pprof.WithLabels(ctx, pprof.Labels()))
	return b
}

// wants reports whether anybody but the log wants events of this kind. It takes no lock and calls no
// user code: it keeps the making of events that nobody sees out of a restart's way.
func (b *eventBus) wants(k EventKind) bool {
	reported := k.isReported()
	for ; b != nil; b = b.outer {
		if b.subscribers.Load() != nil || reported && b.outboxes.Load() != nil {
			return true
		}
	}
	return false
}

// deliver hands e to the subscribers and the reporters, here and in the buses around. It never
// blocks, calls no user code and logs nothing, so it may be called with mutexes held.
func (b *eventBus) deliver(e *Event) {
	origin := b.origin
	for ; b != nil; b = b.outer {
		for _, s := range b.subscriberList() {
			s.publish(*e)
		}
		if e.Kind.isReported() && b.outboxes.Load() != nil {
			b.report(e, origin)
		}
	}
}

// report puts e into every outbox. SetReporter comes before that or after it: otherwise one of
// several reporters, and the one that replaces it, might not hear of e.
func (b *eventBus) report(e *Event, origin string) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, o := range b.outboxList() {
		o.put(newReport(e, origin))
	}
}

// outboxList returns a list that never changes: it may be read without a lock.
func (b *eventBus) outboxList() []*outbox {
	if p := b.outboxes.Load(); p != nil {
		return *p
	}
	return nil
}

// logs asks the log's handler, which is the user's, whether it wants lines of this level about what has that context. A panic is
// a no; it may also hang, or call runtime.Goexit.
func (b *eventBus) logs(ctx context.Context, level slog.Level) bool {
	defer func() { _ = recover() }() // what can't be logged must not end the task
	return b.slog().Enabled(ctx, level)
}

// logEvent hands l to the log, which wants to know. What is said of logs holds for it, and for the methods of the event's
// errors, which are the user's as well.
func (b *eventBus) logEvent(l *logLine) {
	if !b.holdLine(l) {
		b.writeEvent(l)
	}
}

// writeEvent is logEvent without the limit.
func (b *eventBus) writeEvent(l *logLine) {
	defer func() { _ = recover() }() // as in logs
	for outer := b; outer != nil; outer = outer.outer {
		if written := outer.announce.Load(); written != nil {
			<-*written
		}
	}
	b.logIn(l.ctx, l.level, l.message(), l.attrs()...)
}

// log is logIn for a line that is about no run.
func (b *eventBus) log(level slog.Level, message string, attrs ...slog.Attr) {
	b.logIn(context.Background(), level, message, attrs...)
}

// logIn calls the log's handler. What is said of logs holds for it. Each line of the library's comes here, and has the name of the Manager.
func (b *eventBus) logIn(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) {
	defer func() { _ = recover() }() // as in logs
	for i := range attrs {
		attrs[i].Value = attrs[i].Value.Resolve()
	}
	if b.manager != "" {
		attrs = append([]slog.Attr{slog.String("manager", b.manager)}, attrs...)
	}
	b.slog().LogAttrs(ctx, level, message, attrs...) //nolint:sloglint // each caller's is a constant
}

func (b *eventBus) slog() *slog.Logger {
	for ; b != nil; b = b.outer {
		if b.logger != nil {
			return b.logger
		}
	}
	return slog.Default()
}

// A lineQueue holds what the bus itself has to say in the log: about its reporters. The log's handler
// may hang, or call runtime.Goexit, so no goroutine that has anything else to do calls it: one of its
// own does, which exists while there are lines.
type lineQueue struct {
	mu      sync.Mutex // nothing else is locked while it is held
	waiting []line     // the oldest first
	dropped int        // lines that found the queue full, and have yet to be mentioned
	writing bool       // the goroutine exists
}

type line struct {
	ctx     context.Context // of the run that it is about; otherwise none that says anything
	level   slog.Level
	message string
	attrs   []slog.Attr
	written chan struct{} // closed when it has been written, or dropped; nil: nobody waits for that
}

// logLater has an error logged, after the lines that wait, and returns at once. It is pending until then.
func (b *eventBus) logLater(message string, attrs ...slog.Attr) {
	b.logAtLevelLater(slog.LevelError, message, attrs...)
}

// logAtLevelLater is logLater for a line of that level.
func (b *eventBus) logAtLevelLater(level slog.Level, message string, attrs ...slog.Attr) {
	b.queueLine(line{ctx: context.Background(), level: level, message: message, attrs: attrs})
}

// logFirst is logLater for what the lines of tasks follow that are not with the log's handler yet, here and in the groups within:
// who has one waits for this as it would for the handler. It may be called with mutexes held.
func (b *eventBus) logFirst(level slog.Level, message string, attrs ...slog.Attr) {
	written := make(chan struct{})
	b.announce.Store(&written)
	b.queueLine(line{context.Background(), level, message, attrs, written})
}

func (b *eventBus) queueLine(l line) {
	q := &b.lines
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= linesWaiting {
		q.dropped++
		l.wrote()
		return
	}
	b.pending.Add()
	q.waiting = append(q.waiting, l)
	if !q.writing {
		q.writing = true
		go b.writeLines()
	}
}

// next returns the line that is to be logged now. It returns false if there is none; writeLines must
// return then.
func (q *lineQueue) next() (line, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.writing, q.waiting = false, nil
		return line{}, false
	}
	l := q.waiting[0]
	q.waiting = q.waiting[1:]
	if q.dropped > 0 {
		l.attrs = append(l.attrs, slog.Int("lines_dropped", q.dropped))
		q.dropped = 0
	}
	return l, true
}

// writeLines is the goroutine of the lineQueue.
func (b *eventBus) writeLines() {
	// It may have been started by a task's goroutine, and must not be taken for one of the task's.
	pprof.SetGoroutineLabels(b.ctx)
	finished := false
	defer func() {
		if !finished { // the handler has called runtime.Goexit
			go b.writeLines()
		}
	}()
	for {
		l, ok := b.lines.next()
		if !ok {
			finished = true
			return
		}
		b.write(l)
	}
}

func (b *eventBus) write(l line) {
	defer b.pending.Done()
	defer l.wrote()
	b.logIn(l.ctx, l.level, l.message, l.attrs...)
}

// wrote says that the line has been written, or never will be.
func (l *line) wrote() {
	if l.written != nil {
		close(l.written)
	}
}

// setReporter sets who hears of failures from now on, nil for nobody.
//
// A Reporter that is set again keeps its outbox, with what waits in it: otherwise it would be called
// from two goroutines, and beyond its limit. What waits for one that is replaced, or is in its hands and is not
// delivered, goes to those that are new. It is lost if nobody is left; one that stays has been given it, too.
func (b *eventBus) setReporter(r Reporter) {
	outermost := b.outermost()
	if outermost != b {
		outermost.mu.Lock()
		defer outermost.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if outermost != b {
		outermost.addRunLocked(b, r)
	}
	listed := b.outboxList()
	known := slices.Concat(listed, b.former)
	var outboxes []*outbox
	for _, single := range flatten(r) {
		if findOutbox(outboxes, single) != nil {
			continue // given twice
		}
		o := findOutbox(known, single)
		if o == nil {
			o = newOutbox(b, single)
		}
		outboxes = append(outboxes, o)
	}
	type hand struct {
		of    *outbox
		holds []*report
		heirs []*outbox // that it had
	}
	var heirs []*outbox
	var hands []hand
	for _, o := range outboxes {
		isNew, inHand, formerHeirs := o.enlist(b.flushUntil)
		if isNew {
			heirs = append(heirs, o)
			hands = append(hands, hand{o, inHand, formerHeirs})
		}
	}
	union := reportUnion{byKey: make(map[reportKey]*report)}
	b.former = nil
	for _, o := range known {
		if slices.Contains(outboxes, o) {
			if !slices.Contains(heirs, o) {
				union.add(o.copies())
			}
			continue
		}
		waiting := o.retire(heirs)
		union.add(waiting)
		if len(outboxes) == 0 {
			b.lost.Add(countEvents(waiting))
		}
		b.former = append(b.former, o)
	}
	b.pruneFormerLocked()
	reports := union.oldestFirst()
	for _, o := range heirs {
		o.takeOver(reports)
	}
	for _, h := range hands {
		for _, o := range outboxes {
			if o != h.of && (slices.Contains(heirs, o) || slices.Contains(h.heirs, o)) {
				o.takeOver(h.holds)
			}
		}
	}
	if len(outboxes) == 0 {
		b.outboxes.Store(nil)
		return
	}
	b.outboxes.Store(&outboxes)
}

// findOutbox returns the first outbox of that Reporter; nil if there is none.
func findOutbox(outboxes []*outbox, r Reporter) *outbox {
	for _, o := range outboxes {
		if sameReporter(o.reporter, r) {
			return o
		}
	}
	return nil
}

// pruneFormerLocked drops the retired outboxes that nobody needs any more.
func (b *eventBus) pruneFormerLocked() {
	idle := 0
	for i, o := range slices.Backward(b.former) {
		called, limited := o.isNeeded()
		if !called && limited {
			idle++
		}
		if !called && (!limited || idle > formerOutboxes) {
			b.former = slices.Delete(b.former, i, i+1)
		}
	}
}

// counts returns how many events reporters have been given, how many wait for one, and how many are
// lost to one.
//
// It holds all of the outboxes, so that none counts an event as delivered or lost that has been found waiting.
func (b *eventBus) counts() (delivered, waiting, lost uint64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	outboxes := slices.Concat(b.outboxList(), b.former)
	for _, o := range outboxes {
		o.mu.Lock()
	}
	for _, o := range outboxes {
		waiting += o.unreportedLocked()
	}
	delivered, lost = b.delivered.Load(), b.lost.Load()
	for _, o := range outboxes {
		o.mu.Unlock()
	}
	return delivered, waiting, lost
}

// flush waits until what has happened is published: until nothing is pending and nothing waits for a
// reporter, also of what runs of groups have left. The limit of the reports does not hold meanwhile. What its time is not enough for is
// lost, counted and logged.
//
// Its time is that of ctx: until its deadline, and a second at least, for the stops may have used it
// up, and what they have found is to be reported; none at all once ctx is canceled; and 5 seconds if
// it has no deadline.
func (b *eventBus) flush(ctx context.Context) {
	ctx, cancel := flushContext(ctx)
	defer cancel()
	deadline, _ := ctx.Deadline()
	b.beginFlush(deadline)
	defer b.endFlush()
	for !b.published() {
		if ctx.Err() != nil {
			b.giveUp()
			return
		}
		for _, bus := range b.withRuns() {
			bus.pending.Wait(ctx)
			for _, o := range bus.outboxList() {
				select {
				case <-o.idle():
				case <-ctx.Done():
				}
			}
		}
		// Something may have come since, or another Reporter.
	}
}

// withRuns returns b and the buses of the runs of groups that it looks after.
func (b *eventBus) withRuns() []*eventBus {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return append([]*eventBus{b}, b.runs...)
}

// flushContext returns the context that bounds a flush, which has a deadline.
func flushContext(ctx context.Context) (context.Context, context.CancelFunc) {
	now := time.Now()
	deadline, ok := ctx.Deadline()
	switch least := now.Add(flushLeast); {
	case !ok:
		deadline = now.Add(flushTimeout)
	case deadline.Before(least):
		deadline = least
	}
	bounded, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	cancelIfCanceled := func() {
		canceled := true
		defer func() {
			_ = recover() // ctx may be foreign
			if canceled {
				cancel()
			}
		}()
		canceled = !errors.Is(ctx.Err(), context.DeadlineExceeded)
	}
	if ctx.Err() != nil {
		cancelIfCanceled()
		return bounded, cancel
	}
	stop := whenDone(ctx, cancelIfCanceled)
	return bounded, func() { stop(); cancel() }
}

func (b *eventBus) beginFlush(deadline time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flushes++
	if deadline.After(b.flushUntil) {
		b.flushUntil = deadline
	}
	b.hurryLocked()
}

func (b *eventBus) endFlush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.flushes--; b.flushes == 0 {
		b.flushUntil = time.Time{}
		b.hurryLocked()
	}
}

// hurryLocked tells those who deliver until when a flush is under way, or that none is any more.
func (b *eventBus) hurryLocked() {
	b.held.hurry(!b.flushUntil.IsZero())
	for _, o := range b.outboxList() {
		o.hurry(b.flushUntil)
	}
	for _, e := range b.runs {
		e.hurryWith(b.flushUntil)
	}
}

// hurryWith is for the bus of a run that has ended: the flush is that of the outermost bus.
func (b *eventBus) hurryWith(until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.flushes == 0 {
		b.flushUntil = until
		b.hurryLocked()
	}
}

// published reports whether nothing is pending and nothing waits for a reporter.
func (b *eventBus) published() bool {
	// What is pending may still put something into an outbox; an outbox, before it becomes idle, may
	// have something to log: so what is pending is looked at before and after.
	if b.pending.N() > 0 {
		return false
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, o := range b.outboxList() {
		select {
		case <-o.idle():
		default:
			return false
		}
	}
	for _, e := range b.runs {
		if !e.published() {
			return false
		}
	}
	return b.pending.N() == 0
}

// giveUp ends the outboxes that are not idle, and has it logged what is lost.
func (b *eventBus) giveUp() {
	if !b.abandon() {
		return
	}
	// The process may be about to end: the log's handler gets a moment.
	ctx, cancel := context.WithTimeout(context.Background(), lastLineTime)
	defer cancel()
	for _, bus := range b.withRuns() {
		bus.pending.Wait(ctx)
	}
}

// abandon is giveUp without the wait. It returns whether anything is lost. SetReporter comes before
// that or after it, so that what waits is counted once.
func (b *eventBus) abandon() (lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range slices.Concat(b.outboxList(), b.former) {
		if n := o.abandon(); n > 0 {
			lost = true
			b.logNoTime(n)
		}
		o.release()
	}
	for _, e := range b.runs {
		lost = e.abandon() || lost
	}
	return lost
}

// addRunLocked has b, which is the outermost bus, look after that of a run of a group, which is locked, too; and hands over to it those
// Reporters of earlier runs of the group that it is to have, with what waits for them: as if they were set again.
func (b *eventBus) addRunLocked(run *eventBus, r Reporter) {
	if !slices.Contains(b.runs, run) {
		b.runs = append(b.runs, run)
		if run.flushUntil.IsZero() && !b.flushUntil.IsZero() {
			run.flushUntil = b.flushUntil
			run.hurryLocked()
		}
	}
	for _, e := range b.runs {
		if e.runEnded && e != run && e.origin == run.origin {
			e.bequeath(run, flatten(r))
		}
	}
}

// endRun notes that the run whose bus that is has ended. The bus is kept as long as something waits, or its Reporters must not yet be
// called again, and until the next run of the group takes them over.
func (b *eventBus) endRun(ended *eventBus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	ended.runEnded = true
	if !slices.Contains(b.runs, ended) {
		b.runs = append(b.runs, ended)
	}
	b.runs = slices.DeleteFunc(b.runs, func(e *eventBus) bool { return e.runEnded && e.published() && !e.isLimited() })
	if !slices.Contains(b.runs, ended) {
		return
	}
	if !b.flushUntil.IsZero() {
		ended.hurryWith(b.flushUntil)
	}
	all, ofOne := 0, 0
	for i, e := range slices.Backward(b.runs) {
		if !e.runEnded {
			continue
		}
		all++
		if e.origin == ended.origin {
			ofOne++
		}
		if e.origin == ended.origin && ofOne > endedRunsOfOne || all > endedRuns {
			e.abandon()
			b.runs = slices.Delete(b.runs, i, i+1)
		}
	}
}

// isLimited reports whether one of the Reporters must not be called as often, or as soon, as one that is new.
func (b *eventBus) isLimited() bool {
	return slices.ContainsFunc(b.outboxList(), func(o *outbox) bool {
		_, limited := o.isNeeded()
		return limited
	})
}

// bequeath hands the outboxes of these Reporters over to another bus, which is locked.
func (b *eventBus) bequeath(to *eventBus, reporters []Reporter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var kept []*outbox
	for _, o := range b.outboxList() {
		if slices.ContainsFunc(reporters, func(r Reporter) bool { return sameReporter(o.reporter, r) }) && findOutbox(to.former, o.reporter) == nil && findOutbox(to.outboxList(), o.reporter) == nil {
			o.moveTo(to)
			to.former = append(to.former, o)
		} else {
			kept = append(kept, o)
		}
	}
	if len(kept) == 0 {
		b.outboxes.Store(nil)
		return
	}
	b.outboxes.Store(&kept)
}

// outermost returns the bus around all groups.
func (b *eventBus) outermost() *eventBus {
	for b.outer != nil {
		b = b.outer
	}
	return b
}

func (b *eventBus) logNoTime(events uint64, attrs ...slog.Attr) {
	b.logLater("no time left to report events", append([]slog.Attr{slog.Uint64("events", events)}, attrs...)...)
}
