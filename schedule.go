package taskmanager

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Every returns a body that calls the given one again and again: at once, and then at each whole
// interval after that. One call is a pass. An error, a panic or a call of [runtime.Goexit] in a
// pass is that of the run, so the task is restarted as after any failure: its next run begins with
// a pass, after the backoff, and the intervals count from there.
//
// Passes never overlap. A tick that comes before the pass has ended is skipped, so a pass that
// takes longer than the interval is followed by the next tick after it. How long passes take moves
// no tick, nor does a change of the wall clock. When ctx is done the body begins no further pass and
// returns nil, or the error of the pass that ends then; until the next pass, [TaskStats.NextPassAt]
// says when it is due. A watchdog ([WithWatchdog]) does not bite while it waits: each pass begins
// with a heartbeat.
//
// An interval that is not positive, or a nil body, fails the run with an [*OptionError] made
// permanent by [backoff.Permanent]: the task is given up at once.
func Every(interval time.Duration, body TaskFunc) TaskFunc {
	return func(ctx context.Context) error {
		if interval <= 0 {
			return permanentOptionError("interval", interval, "must be positive")
		}
		if body == nil {
			return permanentOptionError("body", nil, "must not be nil")
		}
		beginPasses(ctx)
		start := time.Now()
		for ctx.Err() == nil {
			if err := body(ctx); err != nil {
				return err
			}
			passSucceeded(ctx)
			now := time.Now()
			wait := interval - now.Sub(start)%interval
			waitForPass(ctx, wait, now.Add(wait))
		}
		return nil
	}
}

// A Schedule says when the passes of [OnSchedule] begin. The schedules of
// github.com/robfig/cron/v3 are Schedules.
type Schedule interface {
	// Next returns the first time of the schedule that is after t, or the zero time if there is
	// none. t is in the local time zone and has no monotonic reading. Next is called by the
	// goroutine of the body: from several at once, if several tasks share the Schedule.
	Next(t time.Time) time.Time
}

// OnSchedule returns a body that calls the given one at the times of s, by the wall clock. One call
// is a pass, and what is said of passes at [Every] holds, except that a run begins with the wait
// for the first time of s that is to come, also after a restart: a failed pass is not repeated
// before that. When s has no further time, the body returns nil: the task has completed.
//
// The time after that of the latest pass is asked for first, so that a schedule of fixed intervals
// keeps them; if it has come before the pass has ended, it is skipped, and the first time after
// that moment is next. When the wall clock is set, or the machine was suspended, that is noticed
// within a minute. A pass whose time has come then begins, once for all the times that were passed
// over. If the clock was set back, the schedule is asked anew, but the time of the latest pass does
// not come again by itself.
//
// A nil schedule or body, a Next that panics, and one that returns a time that is not after the
// given one, fail the run with an [*OptionError] made permanent by [backoff.Permanent]: the task is
// given up at once.
func OnSchedule(s Schedule, body TaskFunc) TaskFunc { return onSchedule(s, body, time.Now) }

// onSchedule is OnSchedule by a given wall clock.
func onSchedule(s Schedule, body TaskFunc, clock func() time.Time) TaskFunc {
	return func(ctx context.Context) error {
		if s == nil {
			return permanentOptionError("schedule", nil, "must not be nil")
		}
		if body == nil {
			return permanentOptionError("body", nil, "must not be nil")
		}
		beginPasses(ctx)
		const recheck = time.Minute // timers don't follow the wall clock
		var (
			last time.Time // of the latest pass
			next time.Time // zero: to be asked for
			seen time.Time // what the clock has shown when it was looked at last
		)
		for ctx.Err() == nil {
			now := clock().Round(0) // without the monotonic reading, by which times would be compared
			if next.IsZero() || now.Before(seen) {
				var err error
				if next, err = nextPass(s, last, now); err != nil || next.IsZero() {
					return err
				}
				seen = now
				continue // the schedule may have taken its time
			}
			seen = now
			if wait := next.Sub(now); wait > 0 {
				waitForPass(ctx, min(wait, recheck), next)
				continue
			}
			if err := body(ctx); err != nil {
				return err
			}
			passSucceeded(ctx)
			last, next = next, time.Time{}
		}
		return nil
	}
}

// nextPass returns the time of the pass after that of last, which is zero if there was none. A
// zero time means that there is no further pass.
func nextPass(s Schedule, last, now time.Time) (time.Time, error) {
	from := now
	if !last.IsZero() && last.Before(now) {
		from = last
	}
	next, err := callNext(s, from)
	if err != nil || next.IsZero() || next.After(now) && !next.Equal(last) {
		return next, err
	}
	// It has come during the pass; or it is last again, by a clock that was set back.
	if last.After(now) {
		return callNext(s, last)
	}
	return callNext(s, now)
}

// callNext calls the user's Next.
func callNext(s Schedule, t time.Time) (next time.Time, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = permanentOptionError("schedule", fmt.Sprintf("%T", s), "Next panicked: "+valueText(v))
		}
	}()
	next = s.Next(t).Local() // without a monotonic reading
	if !next.IsZero() && !next.After(t) {
		return time.Time{}, permanentOptionError("schedule", fmt.Sprintf("%T", s),
			fmt.Sprintf("Next(%s) returned %s, which is not after it", t.Format(time.RFC3339Nano), next.Format(time.RFC3339Nano)))
	}
	return next, nil
}

// permanentOptionError is the error of a run whose body was made with a bad argument. No restart cures that.
func permanentOptionError(argument string, value any, reason string) error {
	return backoff.Permanent(&OptionError{Option: argument, Value: value, Reason: reason})
}

// waitForPass waits for d, or until ctx is done. Meanwhile the statistics show that a pass is due.
func waitForPass(ctx context.Context, d time.Duration, due time.Time) {
	// Beyond a century it may not be expressible, neither in Unix nanoseconds nor in JSON.
	if latest := time.Now().Add(maxDelay); due.After(latest) {
		due = latest
	}
	setNextPass(ctx, due.UnixNano())
	defer setNextPass(ctx, 0)
	if w := watchedRunOf(ctx); w != nil && w.watchdogPeriod() > 0 {
		HeartbeatWithin(ctx, min(d, maxDelay)+w.watchdogPeriod()) // to wait is no hang
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// beginPasses notes that the run whose body was given ctx makes passes: to wait for one is not yet to be healthy.
func beginPasses(ctx context.Context) {
	updateRun(ctx, func(t *Task) { t.lazyLocked().inPasses = true })
}

// passSucceeded notes that a pass of the run whose body was given ctx has: a row of failures is over.
func passSucceeded(ctx context.Context) {
	if r := runOf(ctx); r != nil {
		r.passSucceeded()
	}
}

// setNextPass sets when the next pass is due in the run whose body was given ctx, in Unix nanoseconds; 0 for none.
func setNextPass(ctx context.Context, due int64) {
	updateRun(ctx, func(t *Task) { t.lazyLocked().nextPassAt = due })
}

// updateRun calls update, with the mu locked, for the task whose body was given ctx. It does nothing for a run that is over, and for
// any other context.
func updateRun(ctx context.Context, update func(t *Task)) {
	r := runOf(ctx)
	if r == nil {
		return
	}
	t := r.task
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.run == r {
		update(t)
	}
}
