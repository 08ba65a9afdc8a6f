package taskmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"time"
)

// A PassOption configures the passes of [Every] and [OnSchedule]. A value that makes no sense fails the run for good, as a bad
// interval does, for StartTask can't see it.
type PassOption interface {
	applyToPasses(*passConfig) *OptionError
}

type passConfig struct {
	ofSchedule bool
	interval   time.Duration // of Every
	jitter     time.Duration
	firstPass  time.Duration
	timeout    time.Duration // 0: none
}

type passOption func(*passConfig) *OptionError

func (o passOption) applyToPasses(c *passConfig) *OptionError { return o(c) }

// newPassOption makes the option of that name from a function that sets it and returns why d is refused, or "".
func newPassOption(name string, d time.Duration, set func(*passConfig) string) PassOption {
	return passOption(func(c *passConfig) *OptionError {
		if reason := set(c); reason != "" {
			return &OptionError{Option: name, Value: d, Reason: reason}
		}
		return nil
	})
}

// WithPassJitter has each pass begin up to d after its tick, at random, so that tasks which were started in one instant don't
// begin their passes in one instant. It moves no tick. The first pass of Every is at a tick, too. A pass that is tried again, or
// was triggered by hand, is not delayed. With Every, d must not be longer than the interval; with OnSchedule, the times that come while
// a pass is delayed are skipped. 0, the default, is for no jitter.
func WithPassJitter(d time.Duration) PassOption {
	return newPassOption("WithPassJitter", d, func(c *passConfig) string {
		c.jitter = min(d, maxDelay)
		if d < 0 {
			return "must not be negative"
		}
		return reasonUnless(c.ofSchedule || d <= c.interval, "must not be longer than the interval")
	})
}

// WithFirstPass has Every begin with a pass after that delay, at which its first tick is then. The default, and 0, is at once. A
// pass that has failed is tried again without it, and one that is triggered before the first tick does not take its place. OnSchedule,
// whose schedule says when the first pass is, refuses it.
func WithFirstPass(delay time.Duration) PassOption {
	return newPassOption("WithFirstPass", delay, func(c *passConfig) string {
		c.firstPass = min(delay, maxDelay)
		if c.ofSchedule {
			return "is for Every alone"
		}
		return reasonUnless(delay >= 0, "must not be negative")
	})
}

// WithPassTimeout ends the context of a pass d after its beginning, with [ErrPassTimeout] as the cause. A pass that returns an
// error after that has failed, and its error wraps ErrPassTimeout; one that returns nil has succeeded. One that does not return is
// what a watchdog is for ([WithWatchdog]). The default is no timeout.
func WithPassTimeout(d time.Duration) PassOption {
	return newPassOption("WithPassTimeout", d, func(c *passConfig) string {
		c.timeout = d
		return reasonUnless(d > 0, "must be positive")
	})
}

// PassStats is a snapshot of the passes of a task: of the outermost [Every] or [OnSchedule] of its body. Counts begin with those of
// [TaskStats].
type PassStats struct {
	Begun   uint64 // calls of the function that was given to Every or OnSchedule: those that try again included
	Failed  uint64 // of these
	GivenUp uint64 // that failed and were not tried again, see EventPassGaveUp
	Skipped uint64 // ticks that came while a pass was under way, delayed, or tried again; of those that came at once, 1,000 at most

	LastStart    time.Time     // of the latest pass; zero before the first
	LastDuration time.Duration // of the latest pass that has ended
	LastSuccess  time.Time     // when the latest one ended that has succeeded; zero if none has
	Next         time.Time     // when the next pass begins, while the run waits for it: otherwise zero; a century off at most
}

// MarshalJSON writes names in snake case, times as RFC 3339 and the duration in seconds. Times that don't apply are left out.
func (s PassStats) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Begun               uint64    `json:"begun"`
		Failed              uint64    `json:"failed"`
		GivenUp             uint64    `json:"given_up"`
		Skipped             uint64    `json:"skipped"`
		LastStart           time.Time `json:"last_start,omitzero"`
		LastDurationSeconds float64   `json:"last_duration_seconds"`
		LastSuccess         time.Time `json:"last_success,omitzero"`
		Next                time.Time `json:"next,omitzero"`
	}{s.Begun, s.Failed, s.GivenUp, s.Skipped, s.LastStart, s.LastDuration.Seconds(), s.LastSuccess, s.Next})
}

// TriggerTask begins a pass of the task of that name now: by hand, of one whose body is made by [Every] or [OnSchedule]. It waits for
// nothing, and moves no tick: one that comes meanwhile is skipped, as in any pass; one that has come, and waits for its jitter, is not.
// If a pass is under way, another one follows when it has ended: one, however often it is called meanwhile. In StateBackoff the pass that
// has failed is tried again now, and a task that waits for its dependencies begins with a pass when it runs. A pause keeps what was asked
// for; the end of the task, and a replacement, do not.
//
// It returns [ErrTaskNotFound] for a name that is unknown, [ErrNoPasses] for a task that makes no passes, or whose body calls what
// Every or OnSchedule has made and has not done so yet; and [ErrTaskNotRunning], with the state, for one that has ended, is paused or
// cools down, or is being stopped, paused or restarted. By [Task.TriggerContext] one can say who asks.
func (m *Manager) TriggerTask(name string) error {
	if !m.isMade() {
		return errNotMade
	}
	t, err := m.find(name)
	if err != nil {
		return err
	}
	return t.Trigger()
}

// Trigger is [Manager.TriggerTask] for this very task.
func (t *Task) Trigger() error { return t.trigger(newHand(context.Background())) }

// TriggerContext is Trigger for who asks with ctx, as with all calls by hand (see [AskedBy]): it waits for nothing, so it makes no
// difference whether ctx is done.
func (t *Task) TriggerContext(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	return t.trigger(newHand(ctx))
}

func (t *Task) trigger(hand *byHand) error {
	t.mu.Lock()
	makesNone := t.passesLocked() == nil
	t.mu.Unlock()
	n := decision{input: triggered, now: time.Now(), hand: hand}
	if !makesNone {
		t.decide(&n)
	}
	if n.more && n.phase.executes() {
		go t.drainLog() // its handler may hang, and nobody is to wait for it; of any other task the driver does so
	}
	switch s := t.State(); {
	case n.joined:
		return nil
	case s.Ended():
		return fmt.Errorf("%w: %q", ErrTaskNotRunning, t.name)
	case makesNone:
		return fmt.Errorf("%w: %q", ErrNoPasses, t.name)
	default:
		return fmt.Errorf("%w: %q is %s", ErrTaskNotRunning, t.name, n.phase.state())
	}
}

// passes are what a task keeps of its passes from run to run: so a run can go on with what the one before has failed in. Guarded by
// the task's mu.
type passes struct {
	stats  PassStats
	loop   *passLoop     // of the run that makes them; nil as long as none does
	ticks  ticks         // of the pass that has failed, for the next run
	next   beginning     // of the next one
	after  time.Time     // when the pass after one that has failed is; zero if that is not known
	jitter time.Duration // of that pass
	nextAt int64         // of stats, in Unix nanoseconds; 0 if none is waited for
	timer  *time.Timer

	ofRun     bool // the latest run has made some, by which it is judged whether it is healthy
	succeeded bool // so did one of these
	failed    bool // so did its latest one, in which the run has ended
	givenUp   bool // the latest one was, and none has succeeded since
	triggered bool // one is to begin as soon as it can
	skipping  bool // ticks were skipped by the latest one, of which the log was told
}

// A beginning is how a run begins that makes passes.
type beginning uint8

const (
	beginAfresh  beginning = iota // with ticks anew
	beginRetry                    // with the pass that has failed; the ticks go on
	beginWaiting                  // with the wait for the next tick; likewise
)

// passesLocked returns the passes of the task; nil if it makes none.
func (t *Task) passesLocked() *passes {
	if t.lazy == nil {
		return nil
	}
	return t.lazy.passes
}

// passFailedLocked reports whether the latest run has failed in a pass.
func (t *Task) passFailedLocked() bool {
	p := t.passesLocked()
	return p != nil && p.failed
}

// triggerPassLocked has a pass begin as soon as it can. A driver that waits writes the line of that.
func (t *Task) triggerPassLocked() {
	t.lazy.wakeParked()
	if p := t.passesLocked(); p != nil {
		p.triggered = true
		if p.timer != nil {
			p.timer.Reset(0)
		}
	}
}

// beginLimitAnew begins the limit of restarts and the backoff anew.
func (p *record) beginLimitAnew() {
	p.restarts.Clear()
	p.healthy = true
}

func (p *passes) beginRun() {
	if p != nil {
		p.loop, p.timer, p.nextAt, p.ofRun, p.succeeded, p.failed = nil, nil, 0, false, false, false
	}
}

func (p *passes) ofThisRun() bool { return p != nil && p.ofRun }

// noneSucceeded reports whether the latest run makes passes of which none has succeeded: that it returns nil is no sign of health.
func (p *passes) noneSucceeded() bool { return p.ofThisRun() && !p.succeeded }

func (p *passes) wasGivenUp() bool { return p != nil && p.givenUp }

// giveUp notes that the pass is given up that has failed.
func (p *passes) giveUp() {
	p.next, p.givenUp = beginWaiting, true
	p.stats.GivenUp++
}

// beginAfresh has the next run begin with ticks anew.
func (p *passes) beginAfresh() {
	if p != nil {
		p.next, p.ticks = beginAfresh, nil
	}
}

// pause has the next run begin with ticks anew, unless a pass is to be tried again.
func (p *passes) pause() {
	if p != nil && p.next == beginWaiting {
		p.beginAfresh()
	}
}

// untilNext is how long it is from now until the pass after the one that has failed.
func (p *passes) untilNext(now time.Time) time.Duration {
	if p == nil || p.after.IsZero() {
		return 0
	}
	return min(max(0, p.after.Sub(now)), maxDelay)
}

// snapshot returns the statistics; r is the run that executes.
func (p *passes) snapshot(r *run) *PassStats {
	if p == nil {
		return nil
	}
	s := p.stats
	if r != nil && p.nextAt != 0 {
		s.Next = time.Unix(0, p.nextAt)
	}
	return &s
}

// ticks say when passes begin.
type ticks interface {
	// next returns how long it is until the next tick, and when that is, or the zero time if there is none. It may call user code.
	next() (wait time.Duration, at time.Time, err error)
	// sinceTick returns how long ago the tick has come that is next. It is negative if that has not come, or is not known yet.
	sinceTick() time.Duration
	// passEnded notes that a pass has ended, which was that of the tick that next has returned, if onTick. A tick that has come
	// meanwhile is skipped.
	passEnded(onTick bool)
	// takeSkipped returns how many ticks have been skipped since it was called last.
	takeSkipped() uint64
	// goOn has them go on where others were, if those are of the same kind. It reports whether it has.
	goOn(others ticks) bool
}

// makePasses returns the body that calls body at ticks. check returns why the arguments are bad, or nil.
//
//go:noinline
func makePasses(c passConfig, opts []PassOption, refused *OptionError, body TaskFunc, newTicks func(*passConfig) ticks) TaskFunc {
	if refused == nil && body == nil {
		refused = &OptionError{Option: "body", Value: nil, Reason: "must not be nil"}
	}
	for i, o := range opts {
		switch {
		case refused != nil:
		case o == nil:
			refused = &OptionError{Option: fmt.Sprintf("opts[%d]", i), Value: nil, Reason: "must not be nil"}
		default:
			refused = o.applyToPasses(&c)
		}
	}
	return func(ctx context.Context) error {
		if refused != nil {
			return permanent(refused)
		}
		l := &passLoop{config: &c, body: body, ticks: newTicks(&c)}
		l.begin(ctx)
		defer l.end()
		return l.repeat(ctx)
	}
}

// makesPasses reports whether body was made by makePasses, of which no two closures differ in their code.
func makesPasses(body TaskFunc) bool { return reflect.ValueOf(body).Pointer() == passesCode }

var passesCode = reflect.ValueOf(makePasses(passConfig{}, nil, nil, nil, nil)).Pointer()

// A passLoop is one call of a body that makes passes.
type passLoop struct {
	config *passConfig
	body   TaskFunc
	ticks  ticks
	run    *run // whose passes they are; nil if they are no task's, or passes of a pass

	begun   bool          // there has been a pass
	retry   bool          // the next pass is that which has failed in the run before
	settled bool          // ticks that the latest pass has skipped have been noted
	jitter  time.Duration // of the next tick

	draining <-chan struct{} // of a task with WithDrain: closed before the context ends
}

// lock returns the passes of the task, whose mu it locks; nil if these are not those of a task, or its run is over.
func (l *passLoop) lock() *passes {
	if l.run == nil {
		return nil
	}
	t := l.run.task
	t.mu.Lock()
	if t.run == l.run {
		return t.passesLocked()
	}
	t.mu.Unlock()
	return nil
}

func (l *passLoop) unlock() { l.run.task.mu.Unlock() }

// begin makes the passes those of the task whose body was given ctx, unless they are part of such a pass.
func (l *passLoop) begin(ctx context.Context) {
	l.drawJitter()
	l.settled = true
	r := runOf(ctx)
	if r == nil {
		return
	}
	t := r.task
	if t.config().drain > 0 {
		l.draining = Draining(ctx)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.run != r {
		return
	}
	x := t.lazyLocked()
	if x.passes == nil {
		x.passes = new(passes)
	}
	p := x.passes
	if p.loop != nil {
		return
	}
	l.run = r
	goesOn := !p.ofRun && p.next != beginAfresh && p.ticks != nil && l.ticks.goOn(p.ticks)
	if goesOn {
		l.retry, l.jitter = p.next == beginRetry, min(p.jitter, l.config.jitter)
	}
	p.loop, p.ofRun, p.failed = l, true, false
	if !l.retry { // which is due until it has been made, whatever cuts it off
		p.beginAfresh()
	}
}

// end is called when no further pass begins.
func (l *passLoop) end() {
	if p := l.lock(); p != nil {
		p.loop = nil
		l.unlock()
	}
}

// isOver reports whether no further pass is to begin.
func (l *passLoop) isOver(ctx context.Context) bool {
	select {
	case <-l.draining:
		return true
	default:
		return ctx.Err() != nil
	}
}

// repeat makes passes, until ctx is done, there are no more ticks, or one has failed.
func (l *passLoop) repeat(ctx context.Context) error {
	for !l.isOver(ctx) {
		onTick, besides := false, false
		switch {
		case l.retry:
		case l.isTriggered():
			ago := l.ticks.sinceTick()
			onTick = ago >= l.jitter
			besides = ago >= 0 && !onTick
		default:
			wait, at, err := l.ticks.next()
			l.settle()
			if err != nil || at.IsZero() {
				return err
			}
			if wait += l.jitter; wait > 0 {
				l.wait(ctx, wait, at.Add(l.jitter))
				continue
			}
			onTick = true
		}
		if err := l.pass(ctx, onTick, besides); err != nil {
			return err
		}
	}
	return nil
}

// isTriggered reports whether a pass is to begin at once.
func (l *passLoop) isTriggered() bool {
	p := l.lock()
	if p == nil {
		return false
	}
	defer l.unlock()
	return p.triggered
}

// settle notes which ticks the latest pass has skipped, and has the log warn of that, if the one before has not.
func (l *passLoop) settle() {
	if l.settled {
		return
	}
	l.settled = true
	n := l.ticks.takeSkipped()
	p := l.lock()
	if p == nil {
		return
	}
	warn := n > 0 && !p.skipping
	p.stats.Skipped += n
	p.skipping = n > 0
	t := l.run.task
	number, took := t.runNumberLocked(), p.stats.LastDuration
	l.unlock()
	if warn {
		t.config().manager.bus.logAtLevelLater(slog.LevelWarn, "passes are skipped: the one before was under way, or was tried again, when they were due",
			slog.String("task", t.path()), slog.Uint64("run", number), slog.Uint64("skipped", n), slog.Duration("took", roundDuration(took)))
	}
}

// wait waits for d, or until a pass is to begin at once, or ctx is done. Meanwhile the statistics show that a pass is due.
func (l *passLoop) wait(ctx context.Context, d time.Duration, due time.Time) {
	// Beyond a century it may not be expressible, neither in Unix nanoseconds nor in JSON.
	if latest := time.Now().Add(maxDelay); due.After(latest) {
		due = latest
	}
	if l.config.ofSchedule { // timers don't follow the wall clock
		d = min(d, time.Minute)
	}
	if w := watchedRunOf(ctx); w != nil {
		w.waitForPass(d, l.begun) // to wait is no hang
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	if p := l.lock(); p != nil {
		p.nextAt, p.timer = due.UnixNano(), timer
		if p.triggered { // since it was looked at
			timer.Reset(0)
		}
		l.unlock()
		defer l.waited()
	}
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-l.draining:
	}
}

// waited is called when wait is over.
func (l *passLoop) waited() {
	if p := l.lock(); p != nil {
		p.nextAt, p.timer = 0, nil
		l.unlock()
	}
}

// pass makes a pass: that of the tick that has come, or another one; besides is one while the pass of a tick that has come waits for
// its jitter: that follows, and only then is it known what has been skipped.
func (l *passLoop) pass(ctx context.Context, onTick, besides bool) (err error) {
	began := time.Now()
	if w := watchedRunOf(ctx); w != nil {
		w.beginPass(l.begun)
	}
	if p := l.lock(); p != nil {
		p.stats.Begun++
		p.stats.LastStart, p.triggered = began.Round(0), false
		l.unlock()
	}
	l.begun, l.retry = true, false
	if onTick {
		l.drawJitter()
	}
	returned := false
	defer func() {
		failed := l.passEnded(began, returned && err == nil)
		if !besides {
			l.ticks.passEnded(onTick)
			l.settled = false
		}
		if failed {
			l.lookAhead()
		}
	}()
	if l.config.timeout > 0 {
		err = l.bounded(ctx)
	} else {
		err = l.body(ctx)
	}
	returned = true
	return err
}

// bounded calls the body with a context that ends after the time for a pass.
func (l *passLoop) bounded(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.config.timeout, ErrPassTimeout)
	defer cancel()
	err := l.body(ctx)
	switch {
	case err == nil || context.Cause(ctx) != ErrPassTimeout: //nolint:errorlint // the cause itself
		return err
	case err == ErrPassTimeout || err == context.DeadlineExceeded: //nolint:errorlint // it says no more
		return ErrPassTimeout
	}
	return errors.Join(ErrPassTimeout, err)
}

// passEnded counts how a pass has ended, and reports whether it has failed. One that ends while the task is asked to stop has not.
func (l *passLoop) passEnded(began time.Time, succeeded bool) (failed bool) {
	if l.run == nil {
		return false
	}
	t, now := l.run.task, time.Now()
	parentDone := t.config().manager.parent.isDone()
	p := l.lock()
	if p == nil {
		return false
	}
	pending := t.machine.pending
	if parentDone && !pending.stops() { // a request of which a body may have heard before the Manager has
		pending = parentDoneRequest
	}
	recovers := false
	p.stats.LastDuration = now.Sub(began)
	switch {
	case succeeded && pending != overdueRequest:
		p.stats.LastSuccess, p.givenUp, p.succeeded = now.Round(0), false, true
		p.beginAfresh()
		if recovers = t.hasFailedLocked() && t.hasSaidReadyLocked(); recovers {
			t.recoverLocked(now, !parentDone)
			t.record.beginLimitAnew()
		}
	case pending <= overdueRequest:
		p.stats.Failed++
		p.failed, p.after, p.next = true, time.Time{}, beginRetry
	}
	failed = p.failed
	l.unlock()
	if recovers {
		go t.drainLog() // its handler may hang, or call runtime.Goexit, and the body is not to
	}
	return failed
}

// lookAhead finds out when the pass after that which has failed is: so that it can be told, should this one be given up. A Schedule
// is asked by another goroutine, for which this one waits: should it call runtime.Goexit, that must not take the place of the failure.
func (l *passLoop) lookAhead() {
	var after time.Time
	ask := func() {
		if _, at, err := l.ticks.next(); err == nil && !at.IsZero() {
			after = at.Add(l.jitter)
		}
	}
	if l.config.ofSchedule {
		done := make(chan struct{})
		go func() {
			defer close(done)
			ask()
		}()
		<-done
	} else {
		ask()
	}
	l.settle()
	if p := l.lock(); p != nil {
		p.after, p.ticks, p.jitter = after, l.ticks, l.jitter // which this loop does not use any more
		l.unlock()
	}
}

// drawJitter finds out how long after its tick the next pass begins.
func (l *passLoop) drawJitter() {
	if l.config.jitter > 0 {
		l.jitter = rand.N(l.config.jitter) //nolint:gosec // no secret
	}
}

// waitForPass says that the body waits for a pass, for d. begun says that it has made one.
func (w *watchedRun) waitForPass(d time.Duration, begun bool) {
	d = min(d, maxDelay)
	if period := w.watchdogPeriod(); period > 0 {
		HeartbeatWithin(w, d+period)
	}
	if !begun {
		w.postponeReadiness(d)
	}
}

// beginPass says that a pass begins. begun says that it is not the first one.
func (w *watchedRun) beginPass(begun bool) {
	if w.watchdogPeriod() > 0 {
		HeartbeatWithin(w, 0)
	}
	if !begun {
		w.postponeReadiness(0)
	}
}

// postponeReadiness gives a run that is not ready its time to be, from d on.
func (w *watchedRun) postponeReadiness(d time.Duration) {
	t := w.task
	timeout := t.config().readiness
	if timeout == 0 {
		return
	}
	t.mu.Lock()
	ready := w.ready
	t.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !ready && w.readiness != nil {
		w.readiness.Reset(d + min(timeout, maxDelay))
	}
}
