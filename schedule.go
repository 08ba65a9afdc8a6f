package taskmanager

import (
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Every returns a body that calls the given one again and again: at once, and then at each whole
// interval after that. One call is a pass.
//
// Passes never overlap. A tick that comes before the pass has ended is skipped, so a pass that
// takes longer than the interval is followed by the next tick after it. How long passes take moves
// no tick, nor does a change of the wall clock. When ctx is done the body begins no further pass and
// returns nil, or the error of the pass that ends then. [TaskStats].Passes counts passes and ticks that were skipped, of which
// the log warns the first time in a row, and says when the next one is due. [Manager.TriggerTask] begins one by hand. A watchdog
// ([WithWatchdog]) does not bite while it waits, nor does [WithReadiness]: their time begins with each pass.
//
// An error, a panic or a call of [runtime.Goexit] in a pass ends the run with it. That is a failure as any other, but it is the
// pass that is tried again: the next run begins with it, after the backoff, and the ticks go on as they were; what comes meanwhile is
// skipped. It is tried as often as the task's limit of restarts allows (see [WithMaxRestarts]). Then, or when its policy says Stop, the
// pass is given up, which is an [EventPassGaveUp], and the task lives on, also one with [WithCooldown]: the next run begins at once, or
// when the time is over that the error asks for (see [TaskFunc]), in its turn of the fleet-wide limit, and waits for the next tick. A
// pass that fails so slowly that the limit is never used up is tried again until it succeeds. A pass that succeeds in a run that
// is ready (see [WithReadiness]), and one that is given up, have the limit and the backoff begin anew. The task itself is given up
// by a pass whose error is permanent ([backoff.Permanent]), or says that something still executes (*StopTimeoutError); by a policy
// that gives no delay other than by Stop; and at the first failure with [RestartNever]. To be restarted by hand, to go on after a
// pause or a cooldown, and to run again after the loss of a task that this one is bound to, is to begin with a pass, and with new
// ticks, unless a pass is to be tried again.
//
// A body that Every or OnSchedule has made may be a part of another body. What happens from run to run is then about the
// outermost of those that a run calls; passes within a pass are part of it.
//
// An interval that is not positive, a nil body, or an option that makes no sense, fails the run with an [*OptionError] made
// permanent by [backoff.Permanent]: the task is given up at once.
func Every(interval time.Duration, body TaskFunc, opts ...PassOption) TaskFunc {
	var refused *OptionError
	if interval <= 0 {
		refused = &OptionError{Option: "interval", Value: interval, Reason: "must be positive"}
	}
	return makePasses(passConfig{interval: interval}, opts, refused, body, newEveryTicks)
}

// everyTicks are those of Every. They are counted from 0.
type everyTicks struct {
	interval time.Duration
	origin   time.Time // of the first
	coming   int64     // that is next
	skipped  uint64
}

func newEveryTicks(c *passConfig) ticks {
	return &everyTicks{interval: min(c.interval, maxDelay), origin: time.Now().Add(c.firstPass)}
}

func (e *everyTicks) next() (wait time.Duration, at time.Time, err error) {
	now := time.Now()
	wait = time.Duration(e.coming)*e.interval - now.Sub(e.origin)
	return wait, now.Add(wait), nil
}

func (e *everyTicks) sinceTick() time.Duration {
	return time.Since(e.origin) - time.Duration(e.coming)*e.interval
}

func (e *everyTicks) passEnded(onTick bool) {
	if onTick {
		e.coming++
	}
	if passed := time.Since(e.origin); passed >= 0 {
		if next := int64(passed/e.interval) + 1; next > e.coming {
			e.skipped += uint64(next - e.coming) //nolint:gosec // it is positive
			e.coming = next
		}
	}
}

func (e *everyTicks) takeSkipped() (n uint64) {
	n, e.skipped = e.skipped, 0
	return n
}

func (e *everyTicks) goOn(others ticks) bool {
	o, ok := others.(*everyTicks)
	if ok = ok && o.interval == e.interval; ok {
		*e = *o
	}
	return ok
}

// A Schedule says when the passes of [OnSchedule] begin. The schedules of
// github.com/robfig/cron/v3 are Schedules.
type Schedule interface {
	// Next returns the first time of the schedule that is after t, or the zero time if there is
	// none. t is in the local time zone and has no monotonic reading. Next is called by the
	// goroutine of the body, or by one that it waits for: from several at once, if several tasks share the Schedule. One that
	// panics gives up the task; one that calls runtime.Goexit is a failure as any other.
	Next(t time.Time) time.Time
}

// OnSchedule returns a body that calls the given one at the times of s, by the wall clock. One call
// is a pass, its times are the ticks, and what is said of passes at [Every] holds, except that a run begins with the wait
// for the first time of s that is to come, also after a restart by hand: only a pass that has failed is tried again at once, by
// the backoff. When s has no further time, the body returns nil: the task has completed.
//
// The time after that of the latest pass is asked for first, so that a schedule of fixed intervals
// keeps them; if it has come before the pass has ended, it is skipped, and the first time after
// that moment is next. When the wall clock is set, or the machine was suspended, that is noticed
// within a minute. A pass whose time has come then begins, once for all the times that were passed
// over. If the clock was set back, the schedule is asked anew, but the time of the latest pass does
// not come again by itself. What a schedule of hours and minutes does when summer time begins and ends is its own business.
//
// A nil schedule or body, a bad option, a Next that panics, and one that returns a time that is not after the
// given one, fail the run with an [*OptionError] made permanent by [backoff.Permanent]: the task is
// given up at once.
func OnSchedule(s Schedule, body TaskFunc, opts ...PassOption) TaskFunc {
	return onSchedule(s, body, time.Now, opts...)
}

// onSchedule is OnSchedule by a given wall clock.
func onSchedule(s Schedule, body TaskFunc, clock func() time.Time, opts ...PassOption) TaskFunc {
	var refused *OptionError
	if s == nil {
		refused = &OptionError{Option: "schedule", Value: nil, Reason: "must not be nil"}
	}
	return makePasses(passConfig{ofSchedule: true}, opts, refused, body, func(*passConfig) ticks {
		return &scheduleTicks{schedule: s, clock: clock}
	})
}

// scheduleTicks are those of OnSchedule.
type scheduleTicks struct {
	schedule Schedule
	clock    func() time.Time
	last     time.Time // that has come, be it that it was skipped
	coming   time.Time // zero: to be asked for
	seen     time.Time // what the clock has shown when it was looked at last
	skipped  uint64
}

func (s *scheduleTicks) next() (wait time.Duration, at time.Time, err error) {
	for {
		now := s.clock().Round(0) // without the monotonic reading, by which times would be compared
		if !s.coming.IsZero() && !now.Before(s.seen) {
			s.seen = now
			return s.coming.Sub(now), s.coming, nil
		}
		coming, err := s.ask(now)
		if err != nil || coming.IsZero() {
			return 0, time.Time{}, err
		}
		s.coming, s.seen = coming, now
		// Once more, for the schedule may have taken its time.
	}
}

// ask returns the time after the last one. A zero time means that there is none.
func (s *scheduleTicks) ask(now time.Time) (time.Time, error) {
	from := now
	if !s.last.IsZero() && s.last.Before(now) {
		from = s.last
	}
	next, err := callNext(s.schedule, from)
	if err != nil || next.IsZero() || next.After(now) && !next.Equal(s.last) {
		return next, err
	}
	// It has come during the pass; or it is last again, by a clock that was set back.
	if s.last.After(now) {
		return callNext(s.schedule, s.last)
	}
	for range mostCounted {
		s.skipped++
		s.last = next
		if next, err = callNext(s.schedule, next); err != nil {
			return time.Time{}, err
		}
		if next.IsZero() || next.After(now) {
			break
		}
	}
	return callNext(s.schedule, now)
}

// mostCounted bounds how many times of a schedule are asked for to count those that were skipped.
const mostCounted = 1000

func (s *scheduleTicks) sinceTick() time.Duration {
	if s.coming.IsZero() {
		return -1
	}
	return s.clock().Round(0).Sub(s.coming)
}

func (s *scheduleTicks) passEnded(onTick bool) {
	if onTick {
		s.last, s.coming = s.coming, time.Time{}
		return
	}
	if now := s.clock().Round(0); !s.coming.IsZero() && !s.coming.After(now) {
		s.last, s.coming = s.coming, time.Time{}
		s.skipped++
	}
}

func (s *scheduleTicks) takeSkipped() (n uint64) {
	n, s.skipped = s.skipped, 0
	return n
}

func (s *scheduleTicks) goOn(others ticks) bool {
	o, ok := others.(*scheduleTicks)
	if ok {
		s.last, s.coming, s.seen, s.skipped = o.last, o.coming, o.seen, o.skipped
	}
	return ok
}

// callNext calls the user's Next.
func callNext(s Schedule, t time.Time) (next time.Time, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = badSchedule(s, "Next panicked: "+valueText(v))
		}
	}()
	next = s.Next(t).Local() // without a monotonic reading
	if !next.IsZero() && !next.After(t) {
		return time.Time{}, badSchedule(s, fmt.Sprintf("Next(%s) returned %s, which is not after it",
			t.Format(time.RFC3339Nano), next.Format(time.RFC3339Nano)))
	}
	return next, nil
}

func badSchedule(s Schedule, reason string) error {
	return permanent(&OptionError{Option: "schedule", Value: fmt.Sprintf("%T", s), Reason: reason})
}

// permanent is the error of a run whose body was made with a bad argument. No restart cures that.
func permanent(err *OptionError) error { return backoff.Permanent(err) }
