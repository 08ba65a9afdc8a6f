package taskmanager

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A wallClock can be set, which the clock of a bubble can't.
type wallClock struct{ offset atomic.Int64 }

func (c *wallClock) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// set makes it show d more, or less.
func (c *wallClock) set(d time.Duration) { c.offset.Add(int64(d)) }

type nextFunc func(time.Time) time.Time

func (f nextFunc) Next(t time.Time) time.Time { return f(t) }

// minutes is the schedule of the whole multiples of n minutes.
func minutes(n int) nextFunc {
	d := time.Duration(n) * time.Minute
	return func(t time.Time) time.Time { return t.Truncate(d).Add(d) }
}

// The wall clock is set while the body waits. Times are minutes since the beginning: what the wall clock shows when a pass
// begins, and when that is.
func TestOnScheduleFollowsTheWallClock(t *testing.T) {
	type pass struct{ shown, passed float64 }
	for name, test := range map[string]struct {
		schedule Schedule
		at       time.Duration // when the clock is set
		by       time.Duration // how far
		want     []pass        // before 59 minutes have passed
	}{
		"forward": {
			minutes(20), 10*time.Minute + time.Second, 5 * time.Minute,
			[]pass{{20, 15}, {40, 35}, {60, 55}},
		},
		"forward beyond the next time": {
			minutes(20), 10*time.Minute + time.Second, 15 * time.Minute,
			[]pass{{26, 11}, {40, 25}, {60, 45}}, // noticed within a minute
		},
		"forward beyond many": {
			minutes(20), 10*time.Minute + time.Second, 100 * time.Minute,
			[]pass{{111, 11}, {120, 20}, {140, 40}}, // once for all
		},
		"back": {
			minutes(20), 30*time.Minute + time.Second, -5 * time.Minute,
			[]pass{{20, 20}, {40, 45}},
		},
		"back by a year": {
			minutes(20), 30*time.Minute + time.Second, -365 * 24 * time.Hour,
			[]pass{{20, 20}, {40 - 365*24*60, 40}},
		},
		"back to before the latest pass": { // whose time does not come again
			minutes(20), 30*time.Minute + time.Second, -15 * time.Minute,
			[]pass{{20, 20}, {40, 55}},
		},
		"back by what a clock is wrong in a day": {
			minutes(20), 20*time.Minute + 100*time.Millisecond, -200 * time.Millisecond,
			[]pass{{20, 20}, {40, 40 + 1.0/300}},
		},
		"a distance, forward": {
			nextFunc(func(t time.Time) time.Time { return t.Add(20 * time.Minute) }), 30*time.Minute + time.Second, 5 * time.Minute,
			[]pass{{20, 20}, {40, 35}, {60, 55}},
		},
		"a distance, back": {
			nextFunc(func(t time.Time) time.Time { return t.Add(20 * time.Minute) }), 30*time.Minute + time.Second, -5 * time.Minute,
			[]pass{{20, 20}, {40, 45}},
		},
		"a distance, back to before the latest pass": { // counted anew, from when it was noticed
			nextFunc(func(t time.Time) time.Time { return t.Add(20 * time.Minute) }), 30*time.Minute + time.Second, -15 * time.Minute,
			[]pass{{20, 20}, {36, 51}},
		},
		"a distance, back before the first pass": { // likewise
			nextFunc(func(t time.Time) time.Time { return t.Add(20 * time.Minute) }), 10*time.Minute + time.Second, -5 * time.Minute,
			[]pass{{26, 31}, {46, 51}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin, clock := time.Now(), &wallClock{}
				ctx, cancel := context.WithTimeout(t.Context(), 59*time.Minute)
				defer cancel()
				var got []pass
				body := onSchedule(test.schedule, func(context.Context) error {
					got = append(got, pass{clock.now().Sub(begin).Minutes(), time.Since(begin).Minutes()})
					return nil
				}, clock.now)
				ended := make(chan error)
				go func() { ended <- body(ctx) }()
				time.Sleep(test.at)
				synctest.Wait()
				clock.set(test.by)
				require.NoError(t, <-ended)
				require.Len(t, got, len(test.want))
				for i, want := range test.want {
					assert.InDelta(t, want.shown, got[i].shown, 1e-9)
					assert.InDelta(t, want.passed, got[i].passed, 1e-9)
				}
			})
		})
	}
}

// The wall clock is set back in a pass: not the same time again, nor a wait for all of it once more.
func TestOnScheduleSetBackInAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, clock := time.Now(), &wallClock{}
		var got []time.Duration
		body := onSchedule(minutes(1), func(context.Context) error {
			got = append(got, time.Since(begin))
			switch len(got) {
			case 1:
				clock.set(-time.Millisecond) // it shows a millisecond before the time of this pass
			case 2:
				clock.set(-24 * time.Hour)
			case 4:
				return context.Canceled
			}
			return nil
		}, clock.now)
		require.Equal(t, context.Canceled, body(t.Context()))
		const late = time.Millisecond
		assert.Equal(t, []time.Duration{time.Minute, 2*time.Minute + late, 3*time.Minute + late, 4*time.Minute + late}, got)
	})
}

// A time with a monotonic reading, as time.Now gives it, would be compared by that and not by the wall clock. In a bubble there is none.
func TestOnScheduleLooksAtTheWallClockAlone(t *testing.T) {
	now := time.Now()
	var asked []time.Time
	schedule := nextFunc(func(u time.Time) time.Time {
		asked = append(asked, u)
		if len(asked) > 1 {
			return time.Time{}
		}
		return now.Add(time.Hour)
	})
	// The clock shows the time of the pass at the second look, and a second more at the third, though no time has passed.
	looks := 0
	require.NoError(t, onSchedule(schedule, func(context.Context) error { return nil }, func() time.Time {
		if looks++; looks == 1 {
			return now.Add(time.Hour - time.Millisecond)
		}
		return wallClockSet(now, time.Hour+time.Duration(looks-2)*time.Second)
	})(t.Context()))
	require.Len(t, asked, 2)
	assert.Equal(t, now.Add(time.Hour).Round(0), asked[1], "the time of the pass")
	for _, u := range asked {
		assert.Equal(t, u.Round(0), u, "without a monotonic reading")
	}
}
