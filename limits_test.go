package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// constant makes every delay d, exactly.
func constant(d time.Duration) []taskmanager.Option {
	return []taskmanager.Option{taskmanager.WithBackoff(d, d), taskmanager.WithBackoffJitter(0)}
}

func TestLimitAllowsExactlyNRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, constant(time.Second)...)
		events := m.Subscribe(context.Background())
		var failures []error
		task := start(t, m, "a", func(context.Context) error {
			err := fmt.Errorf("failure %d", len(failures)+1)
			failures = append(failures, err)
			return err
		}, taskmanager.WithMaxRestarts(3))

		time.Sleep(3*time.Second - 1)
		synctest.Wait()
		stats := task.Stats()
		assert.Equal(t, taskmanager.StateBackoff, stats.State, "the third restart is allowed")
		assert.EqualValues(t, 3, stats.Runs)
		assert.Equal(t, 3, stats.RestartsInWindow)
		require.NoError(t, task.Err())

		time.Sleep(time.Nanosecond)
		synctest.Wait()
		stats = task.Stats()
		assert.Equal(t, taskmanager.StateFailed, stats.State)
		assert.EqualValues(t, 4, stats.Runs)
		assert.EqualValues(t, 3, stats.Restarts)
		assert.EqualValues(t, 4, stats.Failures)
		require.Len(t, failures, 4)
		assert.Equal(t, failures[3], stats.LastError)

		err := task.Wait(context.Background())
		require.ErrorIs(t, err, taskmanager.ErrTooManyRestarts)
		require.ErrorIs(t, err, failures[3])
		require.NotErrorIs(t, err, failures[2])
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, err, &gaveUp)
		assert.Equal(t, taskmanager.GiveUpError{Task: "a", Restarts: 3, Window: time.Minute, Err: failures[3]}, *gaveUp)
		require.EqualError(t, err, `taskmanager: gave up task "a" after 3 restarts within 1m0s: failure 4`)

		// The last failure is told once, as the end of the task.
		got := received(events)
		failed := ofKind(taskmanager.EventFailed, got)
		require.Len(t, failed, 3)
		for i, e := range failed {
			assert.EqualValues(t, i+1, e.Run)
			assert.Equal(t, failures[i], e.Err)
			assert.Equal(t, i+1, e.Restarts)
			assert.Equal(t, 3, e.MaxRestarts)
			assert.Equal(t, time.Minute, e.Window)
		}
		end := ofKind(taskmanager.EventGaveUp, got)
		require.Len(t, end, 1)
		assert.EqualValues(t, 4, end[0].Run)
		assert.Equal(t, err, end[0].Err)
		assert.Equal(t, 3, end[0].Restarts)
	})
}

func TestLimitWindow(t *testing.T) {
	const s = time.Second
	tests := map[string]struct {
		n      int
		window time.Duration
		fails  []time.Duration // the last of them gives up, or not
		gaveUp bool
	}{
		// A window that began anew each minute would allow it.
		"n at the end of one minute and one at the start of the next": {
			n: 2, window: time.Minute, fails: []time.Duration{58 * s, 59 * s, 61 * s}, gaveUp: true,
		},
		"the first is a window ago, exactly": {n: 1, window: time.Minute, fails: []time.Duration{5 * s, 65 * s}},
		"the first is a nanosecond less ago": {n: 1, window: time.Minute, fails: []time.Duration{5 * s, 65*s - 1}, gaveUp: true},
		"what left the window makes room": {
			n: 2, window: 10 * s, fails: []time.Duration{0, 9 * s, 10 * s, 19 * s, 20 * s, 29 * s, 30 * s},
		},
		"room for one is not room for two": {
			n: 2, window: 10 * s, fails: []time.Duration{0, 9 * s, 10 * s, 18 * s}, gaveUp: true,
		},
		"a window of a nanosecond": {n: 1, window: 1, fails: []time.Duration{0, 1, 2, 3}},
		"the longest window":       {n: 2, window: math.MaxInt64, fails: []time.Duration{0, 1000 * time.Hour, 200_000 * time.Hour}, gaveUp: true},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				task := start(t, m, "a", failAt(test.fails...), taskmanager.WithBackoff(0, 0),
					taskmanager.WithMaxRestarts(test.n), taskmanager.WithRestartWindow(test.window))
				last := test.fails[len(test.fails)-1]
				if last > 0 {
					time.Sleep(last - 1)
					synctest.Wait()
					require.Equal(t, taskmanager.StateRunning, task.State())
					require.EqualValues(t, len(test.fails)-1, task.Stats().Failures)
					time.Sleep(time.Nanosecond)
				}
				synctest.Wait()
				assert.EqualValues(t, len(test.fails), task.Stats().Failures)
				if test.gaveUp {
					require.ErrorIs(t, task.Err(), taskmanager.ErrTooManyRestarts)
					assert.Equal(t, taskmanager.StateFailed, task.State())
				} else {
					require.NoError(t, task.Err())
					assert.Equal(t, taskmanager.StateRunning, task.State())
				}
			})
		})
	}
}

// RestartsInWindow is of now, not of the last failure.
func TestLimitShowsRestartsLeaveTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", failAt(0, 10*time.Second, 20*time.Second), taskmanager.WithBackoff(0, 0))
		for _, step := range []struct {
			at   time.Duration
			want int
		}{
			{0, 1},
			{10*time.Second - 1, 1},
			{10 * time.Second, 2},
			{20 * time.Second, 3},
			{time.Minute - 1, 3},
			{time.Minute, 2},
			{70*time.Second - 1, 2},
			{70 * time.Second, 1},
			{80 * time.Second, 0},
		} {
			time.Sleep(time.Until(task.Stats().StartedAt.Add(step.at)))
			synctest.Wait()
			assert.Equal(t, step.want, task.Stats().RestartsInWindow, "after %v", step.at)
		}
	})
}

func TestLimitIsNeverReachedByFailuresSlowEnough(t *testing.T) {
	run := func(t *testing.T, every time.Duration) (*taskmanager.Task, time.Time) {
		m := newManager(t)
		return start(t, m, "a", failAfter(every), taskmanager.WithBackoff(0, 0)), time.Now()
	}
	t.Run("five a minute, for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			task, begin := run(t, 12*time.Second)
			time.Sleep(time.Until(begin.Add(1000 * 12 * time.Second)))
			synctest.Wait()
			assert.Equal(t, taskmanager.StateRunning, task.State())
			assert.EqualValues(t, 1000, task.Stats().Failures)
			require.NoError(t, task.Err())
		})
	})
	t.Run("a hair faster", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			task, begin := run(t, 12*time.Second-1)
			require.ErrorIs(t, task.Wait(context.Background()), taskmanager.ErrTooManyRestarts)
			assert.EqualValues(t, 6, task.Stats().Failures)
			assert.Equal(t, 72*time.Second-6, time.Since(begin))
		})
	})
}

func TestLimitOfZeroGivesUpAtTheFirstFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(context.Background())
		task := start(t, m, "a", boom, taskmanager.WithMaxRestarts(0))
		err := task.Wait(context.Background())
		require.ErrorIs(t, err, taskmanager.ErrTooManyRestarts)
		require.ErrorIs(t, err, errBoom)
		require.EqualError(t, err, `taskmanager: gave up task "a" after 0 restarts within 1m0s: boom`)
		assert.EqualValues(t, 1, task.Stats().Runs)
		got := received(events)
		require.Len(t, got, 2)
		assert.Equal(t, taskmanager.EventGaveUp, got[1].Kind)
		assert.Zero(t, got[1].Restarts)
	})
}

func TestLimitUnlimitedNeverGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, append(constant(time.Millisecond), taskmanager.WithRestartLimit(rate.Inf, 0))...)
		task := start(t, m, "a", boom, taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		time.Sleep(10*time.Second - 1)
		synctest.Wait()
		stats := task.Stats()
		assert.Equal(t, taskmanager.StateBackoff, stats.State)
		assert.EqualValues(t, 10_000, stats.Failures)
		assert.Equal(t, 1000, stats.RestartsInWindow, "as many as are counted")
		require.NoError(t, task.Err())
	})
}

func TestLimitThatCannotBeReachedIsWarnedOf(t *testing.T) {
	const message = "task can never be given up: the delays between its restarts alone take longer than the window"
	type options = []taskmanager.TaskOption
	const s = time.Second
	tests := map[string]struct {
		opts   options
		warned bool
	}{
		"the defaults": {},
		"delays that take the window, exactly": {
			opts: options{taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(10*s, 10*s), taskmanager.WithBackoffJitter(0)}, warned: true,
		},
		"delays that take a bit less": {
			opts: options{taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(10*s-1, 10*s-1), taskmanager.WithBackoffJitter(0)},
		},
		"delays that grow beyond the window": {
			// 1+2+4+8+16+32 = 63 s.
			opts: options{taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(s, time.Hour), taskmanager.WithBackoffFactor(2), taskmanager.WithBackoffJitter(0)}, warned: true,
		},
		"delays that grow within the window": {
			// 1+2+4+8+16+28 = 59 s.
			opts: options{taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(s, 28*s), taskmanager.WithBackoffFactor(2), taskmanager.WithBackoffJitter(0)},
		},
		"delays that jitter may shorten": {
			opts: options{taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(10*s, 10*s), taskmanager.WithBackoffJitter(0.1)},
		},
		"delays that healthy runs reset often enough": {
			// Runs of 1 s and delays of 1 s: 6 restarts take 12 s.
			opts: options{
				taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(s, time.Hour), taskmanager.WithBackoffFactor(100),
				taskmanager.WithBackoffJitter(0), taskmanager.WithHealthyAfter(s),
			},
		},
		"no delays":       {opts: options{taskmanager.WithBackoff(0, 0), taskmanager.WithMaxRestarts(1_000_000)}},
		"one long delay":  {opts: options{taskmanager.WithMaxRestarts(1), taskmanager.WithBackoff(math.MaxInt64, math.MaxInt64)}, warned: true},
		"many short ones": {opts: options{taskmanager.WithMaxRestarts(math.MaxInt), taskmanager.WithBackoff(1, 1)}, warned: true},
		"no limit":        {opts: options{taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithBackoff(time.Hour, time.Hour)}},
		"no restarts":     {opts: options{taskmanager.WithMaxRestarts(0), taskmanager.WithBackoff(time.Hour, time.Hour)}},
		"never restarted": {opts: options{taskmanager.WithRestart(taskmanager.RestartNever), taskmanager.WithBackoff(time.Hour, time.Hour)}},
		"a policy of the user's": {
			opts: options{
				taskmanager.WithBackoff(time.Hour, time.Hour),
				taskmanager.WithBackOffPolicy(func() backoff.BackOff { return backoff.NewConstantBackOff(time.Hour) }),
			},
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBook
				m := newManager(t, log.option())
				start(t, m, "a", untilStopped, test.opts...)
				synctest.Wait()
				assert.Len(t, log.lines(t, message), map[bool]int{true: 1}[test.warned])

				// The same as the default of a Manager.
				var asDefault []taskmanager.Option
				for _, o := range test.opts {
					asDefault = append(asDefault, o)
				}
				var log2 logBook
				m2 := newManager(t, append(asDefault, log2.option())...)
				assert.Empty(t, log2.lines(t, message))
				start(t, m2, "a", untilStopped)
				start(t, m2, "b", untilStopped)
				synctest.Wait()
				assert.Len(t, log2.lines(t, message), map[bool]int{true: 2}[test.warned])
			})
		})
	}
	t.Run("says which task and what limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var log logBook
			m := newManager(t, log.option())
			start(t, m, "a", untilStopped, taskmanager.WithMaxRestarts(7), taskmanager.WithBackoff(time.Minute, time.Minute))
			synctest.Wait()
			lines := log.lines(t, message)
			require.Len(t, lines, 1)
			assert.Equal(t, map[string]any{
				"time": "2000-01-01T00:00:00Z", "level": "WARN", "msg": message,
				"task": "a", "max_restarts": 7.0, "window": float64(time.Minute),
			}, normalized(lines[0]))
		})
	})
}

// normalized puts the time of a log line into UTC, wherever the test runs.
func normalized(line map[string]any) map[string]any {
	if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(line["time"])); err == nil {
		line["time"] = at.UTC().Format(time.RFC3339Nano)
	}
	return line
}

// The warning is true: such a task outlives any number of failures.
func TestLimitThatCannotBeReachedIsNotReached(t *testing.T) {
	for title, d := range map[string]time.Duration{"reached": 10*time.Second - 1, "not reached": 10 * time.Second} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, constant(d)...)
				task := start(t, m, "a", boom, taskmanager.WithMaxRestarts(6))
				time.Sleep(1000 * 10 * time.Second)
				synctest.Wait()
				if title == "reached" {
					require.ErrorIs(t, task.Err(), taskmanager.ErrTooManyRestarts)
					assert.EqualValues(t, 7, task.Stats().Failures)
				} else {
					assert.Equal(t, taskmanager.StateBackoff, task.State())
					assert.EqualValues(t, 1001, task.Stats().Failures)
				}
			})
		})
	}
}

func TestLimitRestartByHandOfAGivenUpTaskCountsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, append(constant(time.Second), taskmanager.WithMaxRestarts(2))...)
		task := start(t, m, "a", boom)
		for range 3 {
			require.ErrorIs(t, task.Wait(context.Background()), taskmanager.ErrTooManyRestarts)
			assert.EqualValues(t, 3, task.Stats().Runs)
			ended := task.Done()

			begin := time.Now()
			require.NoError(t, m.RestartTask(context.Background(), "a"))
			synctest.Wait()
			assert.Zero(t, time.Since(begin), "no delay")
			stats := task.Stats()
			assert.Equal(t, taskmanager.StateBackoff, stats.State)
			assert.EqualValues(t, 1, stats.Runs)
			assert.Zero(t, stats.Restarts)
			assert.EqualValues(t, 1, stats.Failures)
			assert.Equal(t, 1, stats.RestartsInWindow)
			assert.Equal(t, begin.Round(0), stats.StartedAt)
			assert.Zero(t, stats.EndedAt)
			require.NoError(t, task.Err())
			assert.NotEqual(t, ended, task.Done(), "another end, another channel")
		}
		assert.EqualValues(t, 10, m.Stats().Runs, "the totals never decrease")
	})
}

// delaysOf runs a task that fails at once, n times, and returns the delays before its restarts: as told by the events,
// which must be those that pass.
func delaysOf(t *testing.T, n int, opts ...taskmanager.TaskOption) (told []time.Duration) {
	t.Helper()
	m := newManager(t, taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithRestartLimit(rate.Inf, 0))
	events := m.Subscribe(context.Background())
	var (
		begun []time.Time
		over  = make(chan struct{})
	)
	start(t, m, "a", func(ctx context.Context) error {
		begun = append(begun, time.Now())
		if len(begun) > n {
			close(over)
			return untilStopped(ctx)
		}
		return errBoom
	}, opts...)
	<-over
	for _, e := range ofKind(taskmanager.EventFailed, received(events)) {
		told = append(told, e.Delay)
	}
	var passed []time.Duration
	for i := range n {
		passed = append(passed, begun[i+1].Sub(begun[i]))
	}
	require.Equal(t, told, passed)
	require.NoError(t, m.StopTask(context.Background(), "a"))
	return told
}

func seconds(s ...float64) (d []time.Duration) {
	for _, s := range s {
		d = append(d, time.Duration(s*float64(time.Second)))
	}
	return d
}

func TestBackoffSequence(t *testing.T) {
	type options = []taskmanager.TaskOption
	exact := taskmanager.WithBackoffJitter(0)
	tests := map[string]struct {
		opts options
		want []time.Duration
	}{
		"the defaults": {
			options{exact}, seconds(2, 3, 4.5, 6.75, 10.125, 15.1875, 22.78125, 34.171875, 51.2578125, 60, 60, 60),
		},
		"doubled":                 {options{exact, taskmanager.WithBackoff(time.Second, 10*time.Second), taskmanager.WithBackoffFactor(2)}, seconds(1, 2, 4, 8, 10, 10)},
		"constant by factor":      {options{exact, taskmanager.WithBackoffFactor(1)}, seconds(2, 2, 2, 2)},
		"constant by cap":         {options{exact, taskmanager.WithBackoff(3*time.Second, 3*time.Second)}, seconds(3, 3, 3, 3)},
		"to the cap at once":      {options{exact, taskmanager.WithBackoffFactor(1e300)}, seconds(2, 60, 60)},
		"an hour after a ns":      {options{exact, taskmanager.WithBackoff(1, time.Hour), taskmanager.WithBackoffFactor(math.MaxFloat64)}, []time.Duration{1, time.Hour, time.Hour}},
		"the smallest that grows": {options{exact, taskmanager.WithBackoff(2, 10), taskmanager.WithBackoffFactor(1.5)}, []time.Duration{2, 3, 4, 6, 9, 10, 10}},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				assert.Equal(t, test.want, delaysOf(t, len(test.want), test.opts...))
			})
		})
	}
}

func TestBackoffJitterStaysWithinItsBoundsAndTheCap(t *testing.T) {
	tests := []struct {
		jitter float64
		exact  []time.Duration // without jitter
		low    []time.Duration
		high   []time.Duration // no more than 8 s
	}{
		{0.1, seconds(1, 2, 4, 8, 8), seconds(0.9, 1.8, 3.6, 7.2, 7.2), seconds(1.1, 2.2, 4.4, 8, 8)},
		{0.5, seconds(1, 2, 4, 8, 8), seconds(0.5, 1, 2, 4, 4), seconds(1.5, 3, 6, 8, 8)},
		{1, seconds(1, 2, 4, 8, 8), []time.Duration{1, 1, 1, 1, 1}, seconds(2, 4, 8, 8, 8)},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.jitter), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const samples = 100
				for i := range test.exact {
					var all []time.Duration
					for range samples {
						d := delaysOf(t, i+1, taskmanager.WithBackoff(time.Second, 8*time.Second),
							taskmanager.WithBackoffFactor(2), taskmanager.WithBackoffJitter(test.jitter))
						all = append(all, d[i])
					}
					assert.GreaterOrEqual(t, slices.Min(all), test.low[i])
					assert.LessOrEqual(t, slices.Max(all), test.high[i])
					// It goes both ways, and makes use of the room that it has: that a hundred samples
					// miss the outer quarter of either side happens once in 10^12 times.
					assert.Less(t, slices.Min(all), test.exact[i]-(test.exact[i]-test.low[i])/2)
					if test.high[i] > test.exact[i] {
						assert.Greater(t, slices.Max(all), test.exact[i]+(test.high[i]-test.exact[i])/2)
					}
				}
			})
		})
	}
}

func TestBackoffOfTheDefaultsIsJittered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []time.Duration
		for range 100 {
			all = append(all, delaysOf(t, 1)...)
		}
		assert.GreaterOrEqual(t, slices.Min(all), 1800*time.Millisecond)
		assert.Less(t, slices.Min(all), 1900*time.Millisecond)
		assert.LessOrEqual(t, slices.Max(all), 2200*time.Millisecond)
		assert.Greater(t, slices.Max(all), 2100*time.Millisecond)
	})
}

func TestBackoffIsResetByAHealthyRun(t *testing.T) {
	type options = []taskmanager.TaskOption
	tests := map[string]struct {
		opts  options
		after time.Duration // the length of a run that is healthy
	}{
		"the window by default":     {nil, time.Minute},
		"another window":            {options{taskmanager.WithRestartWindow(time.Hour)}, time.Hour},
		"WithHealthyAfter":          {options{taskmanager.WithHealthyAfter(10 * time.Second)}, 10 * time.Second},
		"more than the window":      {options{taskmanager.WithHealthyAfter(5 * time.Minute)}, 5 * time.Minute},
		"WithHealthyAfter a window": {options{taskmanager.WithHealthyAfter(time.Second), taskmanager.WithRestartWindow(time.Hour)}, time.Second},
	}
	for title, test := range tests {
		for _, less := range []time.Duration{0, 1} {
			t.Run(fmt.Sprintf("%s/less %d", title, less), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t, taskmanager.WithBackoffJitter(0), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
					events := m.Subscribe(context.Background())
					runs := 0
					start(t, m, "a", func(ctx context.Context) error {
						runs++
						switch runs {
						case 4:
							time.Sleep(test.after - less)
						case 6:
							return untilStopped(ctx)
						}
						return errBoom
					}, test.opts...)
					time.Sleep(24 * time.Hour)
					var delays []time.Duration
					for _, e := range ofKind(taskmanager.EventFailed, received(events)) {
						delays = append(delays, e.Delay)
					}
					if less == 0 {
						assert.Equal(t, seconds(2, 3, 4.5, 2, 3), delays)
					} else {
						assert.Equal(t, seconds(2, 3, 4.5, 6.75, 10.125), delays)
					}
				})
			})
		}
	}
}

// backoff.ExponentialBackOff gives up after 15 minutes by itself, with a delay of -1 that makes a hot loop.
func TestBackoffOfTwentyMinutesIsNoHotLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoffJitter(0), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		task := start(t, m, "a", boom)
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		// Nine delays grow and add up to 149.8 s; after them a minute passes before each run: 17 fit.
		assert.EqualValues(t, 1+9+17, task.Stats().Runs)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		assert.EqualValues(t, 1+9+17+24*60, task.Stats().Runs)
		assert.Equal(t, taskmanager.StateBackoff, task.State())
	})
}

func TestBackoffOfTheLongestDuration(t *testing.T) {
	for _, jitter := range []float64{0, 1} {
		t.Run(fmt.Sprint(jitter), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				events := m.Subscribe(context.Background())
				task := start(t, m, "a", failAt(0, 0, 0), taskmanager.WithBackoff(math.MaxInt64, math.MaxInt64),
					taskmanager.WithBackoffFactor(1e300), taskmanager.WithBackoffJitter(jitter))
				for i := range 3 {
					time.Sleep(time.Hour)
					synctest.Wait()
					stats := task.Stats()
					require.Equal(t, taskmanager.StateBackoff, stats.State)
					assert.EqualValues(t, i+1, stats.Runs)
					got := ofKind(taskmanager.EventFailed, received(events))
					require.Len(t, got, 1)
					assert.Positive(t, got[0].Delay)
					assert.True(t, stats.NextRunAt.After(time.Now()), "the next run is at %v", stats.NextRunAt)
					_, err := stats.MarshalJSON()
					require.NoError(t, err)
					require.NoError(t, task.Restart(context.Background()))
				}
				assert.EqualValues(t, 4, task.Stats().Runs)
			})
		})
	}
}

// Without a delay, a task that crashes at once must not keep the processor to itself.
func TestBackoffOfZeroLetsOthersHaveTheirTurn(t *testing.T) {
	limits := map[string]taskmanager.Option{
		"without a fleet limit": taskmanager.WithRestartLimit(rate.Inf, 0),
		"with a fleet limit":    taskmanager.WithRestartLimit(1e12, math.MaxInt),
	}
	for title, limit := range limits {
		t.Run(title, func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			m := newManager(t, limit, taskmanager.WithBackoff(0, 0), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
			var runs atomic.Int64
			task := start(t, m, "a", func(context.Context) error {
				runs.Add(1)
				return errBoom
			})
			for runs.Load() == 0 {
				runtime.Gosched()
			}
			const turns = 100
			before := runs.Load()
			for range turns {
				runtime.Gosched()
			}
			// One run for each turn. Without the yield, a turn comes when the scheduler preempts, after thousands of runs.
			assert.LessOrEqual(t, runs.Load()-before, int64(10*turns))
			require.NoError(t, task.Stop(context.Background()))
		})
	}
}

// A script is a policy of the user's: delays one after the other.
type script struct {
	delays []time.Duration
	resets []int // how many delays were left at each Reset
	next   func() time.Duration
	reset  func()
}

func (s *script) NextBackOff() time.Duration {
	if s.next != nil {
		return s.next()
	}
	d := s.delays[0]
	s.delays = s.delays[1:]
	return d
}

func (s *script) Reset() {
	if s.reset != nil {
		s.reset()
	}
	s.resets = append(s.resets, len(s.delays))
}

func (s *script) option() taskmanager.TaskOption {
	return taskmanager.WithBackOffPolicy(func() backoff.BackOff { return s })
}

func TestBackoffByAPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := []time.Duration{5 * time.Second, 0, 1, 90 * time.Minute, 3}
		assert.Equal(t, want, delaysOf(t, len(want), (&script{delays: slices.Clone(want)}).option()))
	})
}

func TestBackoffPolicyIsResetAfterAHealthyRunAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		s := &script{delays: make([]time.Duration, 4)}
		task := start(t, m, "a", failAt(0, time.Minute-1, 2*time.Minute-1), s.option())
		time.Sleep(time.Hour)
		assert.EqualValues(t, 3, task.Stats().Failures)
		assert.Equal(t, []int{4, 2}, s.resets, "before the first delay, for it may have a clock of its own, and before the third")
	})
}

func TestBackoffPolicyIsMadeOnceForEachLifeOfATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		m := newManager(t, taskmanager.WithMaxRestarts(2), taskmanager.WithBackOffPolicy(func() backoff.BackOff {
			made++
			return &script{delays: make([]time.Duration, 2)}
		}))
		a := start(t, m, "a", boom)
		<-a.Done()
		assert.Equal(t, 1, made)
		<-start(t, m, "b", boom).Done()
		assert.Equal(t, 2, made)
		require.NoError(t, a.Restart(context.Background()))
		<-a.Done()
		assert.Equal(t, 3, made)
		assert.EqualValues(t, 3, a.Stats().Failures)
	})
}

func TestBackoffPolicyThatGivesUpOrIsBroken(t *testing.T) {
	tests := map[string]struct {
		policy *script
		text   string // beside the failure
	}{
		"Stop":                   {&script{delays: []time.Duration{backoff.Stop}}, "boom"},
		"a negative delay":       {&script{delays: []time.Duration{-2 * time.Second}}, "boom\ntaskmanager: backoff policy returned a negative delay: -2s"},
		"the least delay":        {&script{delays: []time.Duration{math.MinInt64}}, "boom\ntaskmanager: backoff policy returned a negative delay: -2562047h47m16.854775808s"},
		"a panic":                {&script{next: func() time.Duration { panic("oops") }}, "boom\ntaskmanager: backoff policy panicked: oops"},
		"a panic in Reset":       {&script{delays: []time.Duration{0, 0}, reset: func() { panic(errors.New("oops")) }}, "boom\ntaskmanager: backoff policy panicked: oops"},
		"a panic by brokenError": {&script{next: func() time.Duration { panic(brokenError{}) }}, "boom\ntaskmanager: backoff policy panicked: taskmanager_test.brokenError, whose Error method panicked"},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				events := m.Subscribe(context.Background())
				begin := time.Now()
				task := start(t, m, "a", failAfter(time.Minute), test.policy.option()) // healthy, so that Reset is called
				err := task.Wait(context.Background())
				assert.Equal(t, time.Minute, time.Since(begin))
				require.EqualError(t, err, `taskmanager: gave up task "a": `+test.text)
				require.ErrorIs(t, err, errBoom)
				require.NotErrorIs(t, err, taskmanager.ErrTooManyRestarts)
				stats := task.Stats()
				assert.Equal(t, errBoom, stats.LastError)
				assert.EqualValues(t, 1, stats.Failures)
				assert.EqualValues(t, 1, stats.Runs)
				got := received(events)
				require.Len(t, got, 2)
				assert.Equal(t, taskmanager.EventGaveUp, got[1].Kind)
			})
		})
	}
}

// The runs that return nil under RestartAlways are delayed by the policy as well; there is no failure to show then.
func TestBackoffPolicyThatIsBrokenAfterNil(t *testing.T) {
	for title, test := range map[string]struct {
		policy *script
		text   string
	}{
		"Stop":    {&script{delays: []time.Duration{backoff.Stop}}, `taskmanager: gave up task "a"`},
		"a panic": {&script{next: func() time.Duration { panic("oops") }}, `taskmanager: gave up task "a": taskmanager: backoff policy panicked: oops`},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithRestart(taskmanager.RestartAlways))
				task := start(t, m, "a", func(context.Context) error { return nil }, test.policy.option())
				require.EqualError(t, task.Wait(context.Background()), test.text)
				assert.Zero(t, task.Stats().Failures)
			})
		})
	}
}

// everySecond returns a healthy body that counts the seconds.
func everySecond(ticks *atomic.Int64) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				ticks.Add(1)
			case <-ctx.Done():
				return nil
			}
		}
	}
}

func TestFleetLimitSpreadsTenThousandRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := 10_000
		if underRace {
			tasks = 2000
		}
		const (
			healthy = 100
			burst   = 1000
			// A power of two, so that the limiter's float arithmetic is exact: a turn each 7,812,500 ns.
			perSecond = 128
			turn      = time.Second / perSecond
		)
		m := newManager(t, taskmanager.WithRestartLimit(perSecond, burst), taskmanager.WithBackoff(0, 0))
		begin := time.Now()
		fail := make(chan struct{})
		var (
			second   = make([]time.Duration, tasks) // when the second run began
			failures atomic.Int64
			ticks    [healthy]atomic.Int64
		)
		for i := range tasks {
			ran := false
			start(t, m, strconv.Itoa(i), func(ctx context.Context) error {
				if ran {
					second[i] = time.Since(begin)
					return untilStopped(ctx)
				}
				ran = true
				<-fail
				failures.Add(1)
				return errBoom
			})
		}
		for i := range healthy {
			start(t, m, "healthy "+strconv.Itoa(i), everySecond(&ticks[i]))
		}
		synctest.Wait()
		close(fail)
		synctest.Wait()
		assert.EqualValues(t, tasks, failures.Load(), "the limit delays restarts, not failures")
		assert.Equal(t, tasks-burst, m.Stats().Backoff)

		time.Sleep(time.Duration(tasks-burst)*turn - 1)
		synctest.Wait()
		assert.Equal(t, 1, m.Stats().Backoff)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		stats := m.Stats()
		assert.Zero(t, stats.Backoff)
		assert.Equal(t, tasks+healthy, stats.Running, "none is starved")

		slices.Sort(second)
		for i, at := range second {
			require.Equal(t, turn*time.Duration(max(0, i-burst+1)), at, "restart %d", i)
		}
		for i := range healthy {
			require.EqualValues(t, time.Duration(tasks-burst)*turn/time.Second, ticks[i].Load())
			require.EqualValues(t, 1, stats.Tasks["healthy "+strconv.Itoa(i)].Runs)
		}
	})
}

// queue starts tasks of the names given, that fail a nanosecond after one another and so ask for their turns in this order. It returns
// when all of them have asked. From then on, second tells when the second runs have begun, to the millisecond and since the first failure.
func queue(t *testing.T, m *taskmanager.Manager, names ...string) (begin time.Time, second func() map[string]time.Duration) {
	t.Helper()
	var (
		mu    sync.Mutex
		begun = make(map[string]time.Duration)
	)
	begin = time.Now()
	for i, name := range names {
		ran := false
		start(t, m, name, func(ctx context.Context) error {
			if ran {
				mu.Lock()
				begun[name] = time.Since(begin).Round(time.Millisecond)
				mu.Unlock()
				return untilStopped(ctx)
			}
			ran = true
			return failAfter(time.Duration(i))(ctx)
		})
	}
	time.Sleep(time.Duration(len(names)))
	synctest.Wait()
	return begin, func() map[string]time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(begun)
	}
}

// oneASecond allows a restart at once, and then one in each second.
func oneASecond() []taskmanager.Option {
	return []taskmanager.Option{taskmanager.WithRestartLimit(1, 1), taskmanager.WithBackoff(0, 0)}
}

func TestFleetLimitGrantsTurnsInTheOrderOfAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, oneASecond()...)
		var names []string
		for i := range 100 {
			// Neither the order of names nor that of starting by accident.
			names = append(names, strconv.Itoa(int(bits.Reverse8(uint8(i)))))
		}
		begin, second := queue(t, m, names...)
		time.Sleep(time.Until(begin.Add(99*time.Second + 1)))
		synctest.Wait()
		want := make(map[string]time.Duration)
		for i, name := range names {
			want[name] = time.Duration(i) * time.Second
		}
		assert.Equal(t, want, second())
	})
}

func TestFleetLimitStopOfOneThatWaitsIsImmediateAndGivesItsTurnBack(t *testing.T) {
	for title, test := range map[string]struct {
		stop string
		want map[string]time.Duration
	}{
		"the first in line": {"b", map[string]time.Duration{"a": 0, "c": time.Second, "d": 2 * time.Second}},
		"one behind it":     {"c", map[string]time.Duration{"a": 0, "b": time.Second, "d": 2 * time.Second}},
		"the last":          {"d", map[string]time.Duration{"a": 0, "b": time.Second, "c": 2 * time.Second}},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, oneASecond()...)
				begin, second := queue(t, m, "a", "b", "c", "d")
				time.Sleep(time.Second / 4)
				before := time.Now()
				require.NoError(t, m.StopTask(context.Background(), test.stop))
				assert.Zero(t, time.Since(before))
				task, _ := m.Lookup(test.stop)
				assert.Equal(t, taskmanager.StateStopped, task.State())
				assert.EqualValues(t, 1, task.Stats().Runs)
				time.Sleep(time.Until(begin.Add(time.Minute)))
				assert.Equal(t, test.want, second())
			})
		})
	}
}

// With nobody behind it, the turn must be there for the next failure, however much later.
func TestFleetLimitStopOfTheOnlyOneThatWaitsGivesItsTurnBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, oneASecond()...)
		begin, second := queue(t, m, "a", "b")
		time.Sleep(time.Second / 2)
		require.NoError(t, m.StopTask(context.Background(), "b"))
		late := start(t, m, "late", failAt(0))
		time.Sleep(time.Until(begin.Add(time.Second - 2)))
		synctest.Wait()
		assert.Equal(t, taskmanager.StateBackoff, late.State())
		time.Sleep(4 * time.Nanosecond)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, late.State())
		assert.Len(t, second(), 1)
	})
}

func TestFleetLimitStopAllOfThoseThatWaitIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, append(oneASecond(), taskmanager.WithRestartLimit(1e-300, 1), taskmanager.WithHistory(1000))...)
		var names []string
		for i := range 1000 {
			names = append(names, strconv.Itoa(i))
		}
		_, second := queue(t, m, names...)
		time.Sleep(1000 * time.Hour)
		assert.Len(t, second(), 1, "at this rate there is no second restart in a lifetime")
		before := time.Now()
		require.NoError(t, m.StopAll(context.Background()))
		assert.Zero(t, time.Since(before))
		assert.Equal(t, 1000, m.Stats().Stopped)
	})
}

// A restart by hand waits for nobody, and takes no turn from those that wait.
func TestFleetLimitRestartByHandDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, oneASecond()...)
		begin, second := queue(t, m, "a", "b", "c", "d")
		time.Sleep(time.Second / 4)
		require.NoError(t, m.RestartTask(context.Background(), "b"))
		require.NoError(t, m.RestartTask(context.Background(), "d"))
		require.NoError(t, m.RestartTask(context.Background(), "a"))
		synctest.Wait()
		time.Sleep(time.Until(begin.Add(time.Minute)))
		assert.Equal(t, map[string]time.Duration{
			"a": time.Second / 4, "b": time.Second / 4, "c": time.Second, "d": time.Second / 4,
		}, second())
	})
}

// The delay of the task comes first: it does not hold a place in the line meanwhile.
func TestFleetLimitComesAfterTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithRestartLimit(1, 1), taskmanager.WithBackoffJitter(0))
		slow := start(t, m, "slow", failAt(0), taskmanager.WithBackoff(10*time.Second, 10*time.Second))
		quick := start(t, m, "quick", failAt(1, 2*time.Second, 4*time.Second), taskmanager.WithBackoff(0, 0))
		time.Sleep(10*time.Second - 1)
		synctest.Wait()
		assert.EqualValues(t, 4, quick.Stats().Runs, "none of its restarts waited")
		assert.EqualValues(t, 1, slow.Stats().Runs)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.EqualValues(t, 2, slow.Stats().Runs)
	})
}

// The first thousand are the burst, and then there are a hundred in each second.
func TestFleetLimitOfTheDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(0, 0))
		for i := range 1300 {
			start(t, m, strconv.Itoa(i), failAt(0))
		}
		synctest.Wait()
		assert.Equal(t, 1000, m.Stats().Running)
		for i := range 3 {
			time.Sleep(time.Second / 2)
			synctest.Wait()
			assert.InDelta(t, 1000+50*(2*i+1), m.Stats().Running, 1, "by float arithmetic")
			time.Sleep(time.Second / 2)
			synctest.Wait()
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 1300, m.Stats().Running)
	})
}

func TestPromise3AFailingTaskCostsItsSiblingsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const healthy = 100
		m := newManager(t, taskmanager.WithBackoffJitter(0), taskmanager.WithMaxRestarts(taskmanager.Unlimited),
			taskmanager.WithRestartLimit(1, 1))
		begin := time.Now()

		// They fail all the time, use up the fleet-wide limit, are given up, hang in backoff.
		for i := range 50 {
			start(t, m, "crashing "+strconv.Itoa(i), boom, taskmanager.WithBackoff(0, 0))
			start(t, m, "panicking "+strconv.Itoa(i), func(context.Context) error { panic("boom") }, taskmanager.WithBackoff(0, 0))
			start(t, m, "given up "+strconv.Itoa(i), boom, taskmanager.WithMaxRestarts(0))
			start(t, m, "in backoff "+strconv.Itoa(i), boom, taskmanager.WithBackoff(time.Hour, time.Hour))
		}
		var ticks [healthy]atomic.Int64
		for i := range healthy {
			start(t, m, "healthy "+strconv.Itoa(i), everySecond(&ticks[i]))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		stats := m.Stats()
		for i := range healthy {
			assert.EqualValues(t, 60, ticks[i].Load())
			assert.EqualValues(t, 1, stats.Tasks["healthy "+strconv.Itoa(i)].Runs)
		}

		// Starts and stops wait for nobody.
		before := time.Now()
		late := start(t, m, "late", untilStopped)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, late.State())
		require.NoError(t, late.Stop(context.Background()))
		assert.Zero(t, time.Since(before))
		assert.Equal(t, time.Minute, time.Since(begin))
	})
	// One task's backoff has grown to its cap; its sibling's first delay is the first of its own.
	t.Run("backoff is per task", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, taskmanager.WithBackoffJitter(0), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
			start(t, m, "crashing", boom)
			time.Sleep(time.Hour)
			events := m.Subscribe(context.Background())
			sibling := start(t, m, "sibling", failAt(0, 2*time.Second))
			time.Sleep(5*time.Second - 1)
			synctest.Wait()
			assert.EqualValues(t, 2, sibling.Stats().Runs)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			assert.EqualValues(t, 3, sibling.Stats().Runs)
			var delays []time.Duration
			for _, e := range ofKind(taskmanager.EventFailed, received(events)) {
				if e.Task == "sibling" {
					delays = append(delays, e.Delay)
				}
			}
			assert.Equal(t, seconds(2, 3), delays)
		})
	})
	t.Run("the limit is per task", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, taskmanager.WithBackoff(0, 0), taskmanager.WithMaxRestarts(1))
			crashing := start(t, m, "crashing", boom)
			require.ErrorIs(t, crashing.Wait(context.Background()), taskmanager.ErrTooManyRestarts)
			sibling := start(t, m, "sibling", failAt(0))
			synctest.Wait()
			assert.Equal(t, taskmanager.StateRunning, sibling.State())
		})
	})
}
