package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// listeners are those to whom events go. Who only asks whether there are any reads without a lock.
type listeners struct {
	subscribers atomic.Pointer[[]*subscriber]
	outboxes    atomic.Pointer[[]*outbox]

	// How many events reporters have been given, and how many are lost to one.
	delivered, lost atomic.Uint64

	mu sync.RWMutex // for those who change the lists; and those who report, so that all of the outboxes hear of an event
}

func (l *listeners) subscribersCopy() []*subscriber {
	if p := l.subscribers.Load(); p != nil {
		return slices.Clone(*p)
	}
	return nil
}

func (l *listeners) setSubscribersLocked(s []*subscriber) {
	if len(s) == 0 {
		l.subscribers.Store(nil)
		return
	}
	l.subscribers.Store(&s)
}

func (m *Manager) outboxes() []*outbox {
	if p := m.listeners.outboxes.Load(); p != nil {
		return *p
	}
	return nil
}

func (m *Manager) logger() *slog.Logger {
	switch {
	case m.config.logger != nil:
		return m.config.logger
	case m.config.outer != nil:
		return m.config.outer.logger()
	}
	return slog.Default()
}

// listens reports whether anybody wants events of this kind. It keeps the making of events that
// nobody sees out of a restart's way.
func (m *Manager) listens(k EventKind) bool {
	return m.listeners.subscribers.Load() != nil ||
		k.Level() >= slog.LevelWarn && len(m.outboxes()) > 0 ||
		m.config.outer != nil && m.config.outer.listens(k) ||
		m.logs(k.Level())
}

// publish hands e to the subscribers, the reporters and the log: to the latter at last, because its
// handler is the user's and may not return. It is called without locks.
func (m *Manager) publish(e *Event) {
	m.notify(e)
	m.logEvent(e)
}

// logEvent hands e to the log.
func (m *Manager) logEvent(e *Event) {
	if m.logs(e.Kind.Level()) {
		m.log(e.Kind.Level(), eventKinds[e.Kind].message, e.attrs()...)
	}
}

// notify hands e to the subscribers and the reporters, and blocks on none of them.
func (m *Manager) notify(e *Event) {
	if p := m.listeners.subscribers.Load(); p != nil {
		for _, s := range *p {
			s.publish(*e)
		}
	}
	if e.Kind.Level() >= slog.LevelWarn {
		m.report(*e)
	}
	if m.config.outer != nil {
		m.config.outer.notify(e)
	}
}

// report puts e into every outbox. SetReporter comes before that or after it: otherwise one of
// several reporters, and the one that replaces it, might not hear of e.
func (m *Manager) report(e Event) {
	l := &m.listeners
	l.mu.RLock()
	var overdue []time.Duration
	for _, o := range m.outboxes() {
		if d := o.put(&report{event: e}); d > 0 {
			overdue = append(overdue, d)
		}
	}
	l.mu.RUnlock()
	for _, d := range overdue {
		m.log(slog.LevelError, "reporter does not return, its reports wait", slog.Duration("since", d))
	}
}

// logs asks the log's handler, which is the user's.
func (m *Manager) logs(level slog.Level) bool {
	defer func() { _ = recover() }() // what can't be logged must not end the task
	return m.logger().Enabled(context.Background(), level)
}

// log calls the log's handler, which is the user's.
func (m *Manager) log(level slog.Level, message string, attrs ...slog.Attr) {
	defer func() { _ = recover() }()                                    // as in logs
	m.logger().LogAttrs(context.Background(), level, message, attrs...) //nolint:sloglint // each caller's is a constant
}

// attrs are what a log line says of e.
func (e *Event) attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 10)
	if e.Manager != "" {
		attrs = append(attrs, slog.String("manager", e.Manager))
	}
	attrs = append(attrs, slog.String("task", e.Task), slog.Uint64("run", e.Run))
	err := e.Err
	if gaveUp, ok := err.(*GiveUpError); ok { //nolint:errorlint // the event's own
		err = gaveUp.Err // the rest of it is in the message and the other attributes
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", errorText(err)))
	}
	if e.Kind > EventReady && (e.Kind != EventStopped || e.Uptime > 0) {
		attrs = append(attrs, slog.Duration("uptime", e.Uptime))
	}
	restarts := e.Kind == EventFailed || e.Kind == EventCompleted && e.Restarts > 0
	if restarts {
		attrs = append(attrs, slog.Duration("restart_in", e.Delay))
	}
	if restarts || e.Kind == EventGaveUp {
		attrs = append(attrs,
			slog.String("restarts", fmt.Sprintf("%d of %s", e.Restarts, limitText(e.MaxRestarts))),
			slog.Duration("window", e.Window))
	}
	if stack := stackOf(e.Err); len(stack) > 0 {
		attrs = append(attrs, slog.String("stack", strings.TrimSpace(string(stack))))
	}
	return attrs
}

// limitText is a limit of restarts in words.
func limitText(most int) string {
	if most == Unlimited {
		return "unlimited"
	}
	return strconv.Itoa(most)
}

// A tally counts what is under way, for those who wait until nothing is. The zero value is ready to
// use.
type tally struct {
	n       atomic.Int64
	awaited atomic.Bool

	mu   sync.Mutex
	zero chan struct{} // made by wait; closed, and nil again, when n gets to 0
}

func (c *tally) add() { c.n.Add(1) }

func (c *tally) done() {
	if c.n.Add(-1) > 0 || !c.awaited.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.zero != nil {
		close(c.zero)
		c.zero = nil
	}
}

// wait returns when nothing is under way, or when ctx is done.
func (c *tally) wait(ctx context.Context) {
	c.awaited.Store(true) // before n is looked at: who counts it down to 0 after that sees it
	for {
		c.mu.Lock()
		if c.zero == nil {
			c.zero = make(chan struct{})
		}
		zero := c.zero
		c.mu.Unlock()
		if c.n.Load() == 0 {
			return
		}
		select {
		case <-zero:
		case <-ctx.Done():
			return
		}
	}
}

// A report is an event that waits for a Reporter.
type report struct {
	event    Event
	attempts int // that have failed
}

type reportKey struct {
	task string
	kind EventKind
}

func (r *report) key() reportKey { return reportKey{r.event.Task, r.event.Kind} }

// since is when the first of the events happened that e stands for.
func (e *Event) since() time.Time {
	if e.Repeats == 0 {
		return e.Time
	}
	return e.Since
}

// stands is how many events the report stands for.
func (r *report) stands() uint64 { return 1 + uint64(r.event.Repeats) }

// stand is how many events the reports stand for.
func stand(reports []*report) (n uint64) {
	for _, r := range reports {
		n += r.stands()
	}
	return n
}

const (
	reportTimeout  = 10 * time.Second // for one call of Report
	reportAttempts = 3
	reportsWaiting = 1024 // pairs of task and kind
	flushTimeout   = 5 * time.Second
)

// An outbox delivers events to one Reporter, from a goroutine that exists only while there is
// something to deliver.
type outbox struct {
	manager  *Manager
	reporter Reporter
	limiter  *rate.Limiter

	mu       sync.Mutex
	waiting  map[reportKey]*report
	order    []*report          // of waiting, the oldest first
	inHand   []*report          // were taken out of waiting; are being reported
	since    time.Time          // when the call of Report began that is under way; zero if none is
	overdue  bool               // it has been logged that this call takes too long
	delivers bool               // the goroutine exists
	flushing bool               // don't wait between reports
	retired  bool               // nothing comes in any more, and nothing goes out
	awaited  bool               // retired, and the call of Report that was under way then still is: it counts as unpublished
	closed   bool               // by the Reporter: whatever comes in is lost
	failures int                // of calls of Report, since the last success
	notYet   time.Duration      // for how long the Reporter does not want the next call, as its last error said
	wake     chan struct{}      // sent to, to end a pause of the goroutine; made by it
	empty    chan struct{}      // made by flush; closed when nothing waits
	cancel   context.CancelFunc // of the call of Report; non-nil while one is under way
}

func newOutbox(m *Manager, r Reporter) *outbox {
	return &outbox{
		manager: m, reporter: r,
		limiter: rate.NewLimiter(m.config.reportLimit, m.config.reportBurst),
		waiting: make(map[reportKey]*report),
	}
}

// put adds a report to those that wait, and sees that somebody delivers them; it is lost if nobody
// will. It returns for how long the Reporter has not returned, if that is too long and has yet to be
// logged.
func (o *outbox) put(r *report) (overdue time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.retired || o.closed {
		o.manager.listeners.lost.Add(r.stands())
		return 0
	}
	o.addLocked(r)
	o.deliverLocked()
	if d := time.Since(o.since); !o.since.IsZero() && d > reportTimeout && !o.overdue {
		o.overdue = true
		return d
	}
	return 0
}

// deliverLocked starts the goroutine that delivers, if there is none.
func (o *outbox) deliverLocked() {
	if !o.delivers && len(o.order) > 0 {
		o.delivers = true
		go o.deliver()
	}
}

// addLocked merges r with the report of the same key, if one waits; the later event of the two is
// kept.
func (o *outbox) addLocked(r *report) {
	if _, ok := o.waiting[r.key()]; !ok && len(o.waiting) >= reportsWaiting {
		r.event.Task, r.event.Run = "", 0
	}
	old := o.waiting[r.key()]
	if old == nil {
		o.waiting[r.key()] = r
		o.order = append(o.order, r)
		return
	}
	repeats := old.event.Repeats + 1 + r.event.Repeats
	since := old.event.since()
	if s := r.event.since(); s.Before(since) {
		since = s
	}
	if !r.event.Time.Before(old.event.Time) {
		old.event = r.event
	}
	old.event.Repeats, old.event.Since = repeats, since
	old.attempts = max(old.attempts, r.attempts)
}

// returnLocked puts back what was in hand, before what has come in since.
func (o *outbox) returnLocked(reports []*report) {
	if len(reports) == 0 {
		return
	}
	newer := o.order
	o.order = nil
	clear(o.waiting)
	for _, r := range slices.Concat(reports, newer) {
		o.addLocked(r)
	}
}

// deliver is the goroutine.
func (o *outbox) deliver() {
	// It was started by a task's goroutine, and must not be taken for one of the task's.
	pprof.SetGoroutineLabels(o.manager.config.ctx)
	done := false
	defer func() {
		if !done { // the Reporter called runtime.Goexit
			o.reported(0, ErrGoexit)
			go o.deliver()
		}
	}()
	for {
		ctx, events, ok := o.next()
		if !ok {
			break
		}
		o.reported(deliverTo(ctx, o.reporter, events))
	}
	done = true
}

// next waits until the next call of the Reporter may be made, and takes in hand what it is for. It
// returns false if there is nothing; deliver must return then.
func (o *outbox) next() (context.Context, []Event, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wake == nil {
		o.wake = make(chan struct{}, 1)
	}
	if len(o.order) > 0 && !o.flushing && !o.retired {
		delay := o.limiter.Reserve().Delay()
		if o.failures > 0 {
			delay = max(delay, retryDelay(o.failures), o.notYet)
		}
		if delay > 0 {
			wake := o.wake
			o.mu.Unlock()
			timer := time.NewTimer(delay)
			select {
			case <-timer.C:
			case <-wake:
				timer.Stop()
			}
			o.mu.Lock()
		}
	}
	if len(o.order) == 0 || o.retired {
		o.delivers = false
		if o.empty != nil {
			close(o.empty)
			o.empty = nil
		}
		return nil, nil, false
	}
	n := 1
	if _, ok := o.reporter.(BatchReporter); ok {
		n = len(o.order)
	}
	o.inHand = slices.Clone(o.order[:n])
	o.order = slices.Delete(o.order, 0, n)
	events := make([]Event, n)
	for i, r := range o.inHand {
		delete(o.waiting, r.key())
		events[i] = r.event
	}
	o.since, o.overdue = time.Now(), false
	ctx, cancel := context.WithTimeout(context.WithoutCancel(o.manager.config.ctx), reportTimeout)
	o.cancel = cancel
	return ctx, events, true
}

// retryDelay doubles from one second to a minute.
func retryDelay(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 6), time.Minute)
}

// reported takes note of how the call of the Reporter for what is in hand has ended: the first n of
// it are delivered.
func (o *outbox) reported(n int, err error) {
	l := &o.manager.listeners
	// err's methods are the user's: they are called before the lock.
	after, asked := retryAfter(err)
	closed := isClosed(err)
	o.mu.Lock()
	o.cancel()
	if o.awaited {
		o.awaited = false
		defer o.manager.unpublished.done()
	}
	hand := o.inHand // none, if Shutdown has given it up and said so
	o.inHand, o.since, o.cancel = nil, time.Time{}, nil
	n = min(n, len(hand))
	l.delivered.Add(stand(hand[:n]))
	rest := hand[n:]
	if err == nil && o.retired && len(rest) > 0 {
		err = errReplaced
	}
	if err == nil {
		o.failures = 0
		o.returnLocked(rest)
		o.mu.Unlock()
		return
	}
	o.failures++
	o.notYet = after
	if closed {
		o.closed = true
		rest = append(rest, o.order...)
		o.order = nil
		clear(o.waiting)
	}
	var again, lost failedReports
	for _, r := range rest {
		if !asked {
			r.attempts++
		}
		if o.closed || o.retired || r.attempts >= reportAttempts {
			lost.add(r)
		} else {
			again.add(r)
			o.addLocked(r)
		}
	}
	l.lost.Add(lost.events)
	o.mu.Unlock()

	switch {
	case closed:
		o.manager.log(slog.LevelError, "reporter is closed, all reports are lost until it is replaced",
			slog.Uint64("events", lost.events), slog.String("error", errorText(err)))
		return
	case lost.reports > 0:
		o.manager.log(slog.LevelError, "reporter failed, report is lost", lost.attrs(err)...)
	}
	if again.reports > 0 {
		o.manager.log(slog.LevelError, "reporter failed, will retry", again.attrs(err)...)
	}
}

// errReplaced is what becomes of the rest of a batch.
var errReplaced = errors.New("taskmanager: reporter was replaced before it had taken all")

// retryAfter returns how long the Reporter wants to be left alone, if its error says so.
func retryAfter(err error) (d time.Duration, ok bool) {
	defer func() {
		if recover() != nil { // err's own methods may panic
			d, ok = 0, false
		}
	}()
	var asks interface{ RetryAfter() time.Duration }
	if !errors.As(err, &asks) {
		return 0, false
	}
	return min(asks.RetryAfter(), time.Hour), true
}

// isClosed reports whether err says that the Reporter is closed.
func isClosed(err error) bool {
	defer func() { _ = recover() }() // err's own Is and Unwrap methods may panic
	return errors.Is(err, ErrReporterClosed)
}

// failedReports are what there is to log of some reports that have failed together. They are copies:
// what will be retried may be merged with others as soon as mu is unlocked.
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
	f.events += r.stands()
}

func (f *failedReports) attrs(err error) []slog.Attr {
	attrs := make([]slog.Attr, 0, 6)
	attrs = append(attrs, slog.String("task", f.first.Task), slog.String("kind", f.first.Kind.String()))
	if f.reports > 1 {
		attrs = append(attrs, slog.Int("other_reports", f.reports-1))
	}
	return append(attrs, slog.Uint64("events", f.events), slog.Int("attempt", f.attempts), slog.String("error", errorText(err)))
}

// hurry makes the goroutine deliver what waits without further delay. It returns a channel that is
// closed when nothing waits any more.
func (o *outbox) hurry() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flushing = true
	if o.empty == nil {
		o.empty = make(chan struct{})
	}
	empty := o.empty
	if !o.delivers || o.retired {
		close(o.empty)
		o.empty = nil
	}
	o.wakeLocked()
	return empty
}

// replaced retires an outbox whose Reporter is replaced, and returns what waits. The call of Report
// that is under way, if any, goes on, and Shutdown waits for it.
func (o *outbox) replaced() []*report {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cancel != nil {
		o.awaited = true
		o.manager.unpublished.add()
	}
	return o.retireLocked()
}

// retireLocked ends the outbox and returns what waits.
func (o *outbox) retireLocked() []*report {
	o.retired = true
	waiting := o.order
	o.order, o.waiting = nil, nil
	o.wakeLocked()
	return waiting
}

// abandon retires the outbox and counts as lost what waits and what is in hand.
func (o *outbox) abandon() (lost uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	lost = stand(o.retireLocked())
	if o.inHand != nil {
		lost += stand(o.inHand)
		o.inHand = nil
		o.cancel()
	}
	o.manager.listeners.lost.Add(lost)
	return lost
}

// adopt takes over what waited for a former Reporter.
func (o *outbox) adopt(reports []*report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range reports {
		o.addLocked(&report{event: r.event})
	}
	o.deliverLocked()
}

// wakeLocked ends a pause of the goroutine.
func (o *outbox) wakeLocked() {
	if o.wake != nil {
		select {
		case o.wake <- struct{}{}:
		default: // it has been woken already
		}
	}
}

// unreported is how many events wait or are in hand.
func (o *outbox) unreported() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return stand(o.order) + stand(o.inHand)
}

// SetReporter sets who hears of failures from now on, nil for nobody. What still waits for the
// former Reporter goes to the new one, and is lost if there is none. A call of Report that is under
// way ends as it may; Shutdown waits for it.
func (m *Manager) SetReporter(r Reporter) {
	l := &m.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	// What waited for several waited for all of them, until it was delivered to some.
	former := make(map[reportKey]*report)
	var order []reportKey
	for _, o := range m.outboxes() {
		for _, r := range o.replaced() {
			k := r.key()
			switch old := former[k]; {
			case old == nil:
				order = append(order, k)
				former[k] = r
			case r.stands() > old.stands():
				former[k] = r
			}
		}
	}
	waiting := make([]*report, len(order))
	for i, k := range order {
		waiting[i] = former[k]
	}
	singles := flatten(r)
	if len(singles) == 0 {
		l.lost.Add(stand(waiting))
		l.outboxes.Store(nil)
		return
	}
	outboxes := make([]*outbox, len(singles))
	for i, single := range singles {
		outboxes[i] = newOutbox(m, single)
		outboxes[i].adopt(waiting)
	}
	l.outboxes.Store(&outboxes)
}

// flush waits until what has happened is published, and delivers what waits for the reporters, until
// ctx is done, and for 5 seconds if it has no deadline.
func (m *Manager) flush(ctx context.Context) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, flushTimeout)
		defer cancel()
	}
	m.unpublished.wait(ctx)
	outboxes := m.outboxes()
	empty := make([]<-chan struct{}, len(outboxes))
	for i, o := range outboxes {
		empty[i] = o.hurry()
	}
	for i, o := range outboxes {
		select {
		case <-empty[i]:
			continue
		case <-ctx.Done():
		}
		select {
		case <-empty[i]: // both
			continue
		default:
		}
		if lost := o.abandon(); lost > 0 {
			m.log(slog.LevelError, "no time left to report events", slog.Uint64("events", lost))
		}
	}
}
