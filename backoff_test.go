package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"slices"
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

// A run is healthy however it ends: also if it is restarted by hand, and if that happens while it is judged. The next delay is
// after a failure of another one.
func TestBackoffIsResetByAHealthyRunThatIsRestarted(t *testing.T) {
	const healthy = time.Minute
	for name, c := range map[string]struct {
		lasts  time.Duration
		end    func(ctx context.Context) error
		delays []time.Duration
	}{
		"healthy": {healthy, untilStopped, seconds(2, 3, 2)},
		"not yet": {healthy - 1, untilStopped, seconds(2, 3, 4.5)},
		"while it is judged": {healthy, func(context.Context) error {
			time.Sleep(healthy)
			return askedError{func() { time.Sleep(time.Hour) }}
		}, seconds(2, 3, 0, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithBackoffJitter(0))
				events := m.Subscribe(t.Context())
				runs := 0
				task := start(t, m, "a", func(ctx context.Context) error {
					switch runs++; runs {
					case 3:
						return c.end(ctx)
					case 5:
						return untilStopped(ctx)
					}
					return errBoom
				}, taskmanager.WithHealthyAfter(healthy))
				time.Sleep(5*time.Second + c.lasts)
				synctest.Wait()
				require.NoError(t, task.Restart(t.Context()))
				time.Sleep(time.Hour)
				var delays []time.Duration
				for _, e := range ofKind(taskmanager.EventFailed, pending(events)) {
					delays = append(delays, e.Delay)
				}
				assert.Equal(t, c.delays, delays)
				time.Sleep(2 * time.Hour) // the driver that was replaced asks the error for three things
			})
		})
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

func TestBackoffPolicyIsResetAfterAHealthyRunThatIsRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		s := &script{delays: make([]time.Duration, 3)}
		task := start(t, m, "a", failAt(0, time.Hour, 2*time.Minute, 3*time.Minute-1), s.option())
		time.Sleep(time.Minute)
		require.NoError(t, task.Restart(t.Context()))
		time.Sleep(time.Hour)
		assert.EqualValues(t, 3, task.Stats().Failures)
		assert.Equal(t, []int{3, 2}, s.resets, "before the first delay, and before the second, but not before the third")
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

// A policy that has a clock of its own, and gives up after 15 minutes, counts them from the first failure, and again from
// the first one after a healthy run.
func TestBackoffPolicyWithAClock(t *testing.T) {
	policy := taskmanager.WithBackOffPolicy(func() backoff.BackOff { return backoff.NewExponentialBackOff() })
	const elapsed = backoff.DefaultMaxElapsedTime
	limit := taskmanager.WithMaxRestarts(taskmanager.Unlimited)

	t.Run("after a wait for a dependency", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", failAt(2*elapsed), policy, limit, taskmanager.WithDependsOn("db"))
			time.Sleep(2 * elapsed)
			start(t, m, "db", untilStopped)
			time.Sleep(time.Minute)
			require.Equal(t, taskmanager.StateRunning, settled(task))
			assert.EqualValues(t, 1, task.Stats().Failures)
		})
	})
	t.Run("after a long healthy run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", failAt(2*elapsed, 2*elapsed+time.Minute, 5*elapsed), policy, limit)
			time.Sleep(6 * elapsed)
			require.Equal(t, taskmanager.StateRunning, settled(task))
			assert.EqualValues(t, 3, task.Stats().Failures)
		})
	})
	t.Run("in a life begun by hand", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			var fail atomic.Bool
			task := start(t, m, "a", func(ctx context.Context) error {
				if fail.CompareAndSwap(true, false) {
					return failAfter(2 * elapsed)(ctx)
				}
				return untilStopped(ctx)
			}, policy, limit)
			require.NoError(t, task.Stop(t.Context()))
			fail.Store(true)
			time.Sleep(2 * elapsed)
			require.NoError(t, task.Restart(t.Context()))
			time.Sleep(2*elapsed + time.Minute)
			require.Equal(t, taskmanager.StateRunning, settled(task))
			assert.EqualValues(t, 1, task.Stats().Failures)
		})
	})
	t.Run("but not while it fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			began := time.Now()
			task := start(t, m, "a", boom, policy, limit, taskmanager.WithHealthyAfter(time.Hour))
			require.ErrorIs(t, task.Wait(t.Context()), errBoom)
			assert.Equal(t, taskmanager.StateFailed, task.State())
			assert.Greater(t, time.Since(began), elapsed-2*backoff.DefaultMaxInterval)
			assert.LessOrEqual(t, time.Since(began), elapsed)
		})
	})
}

// A failure whose error asks for time is restarted no earlier than that, an hour at most; the backoff goes on as it would.
func TestBackoffRetryAfter(t *testing.T) {
	own := taskmanager.WithBackoff(2*time.Second, time.Minute)
	policy := taskmanager.WithBackOffPolicy(func() backoff.BackOff { return policyFunc(func() time.Duration { return 2 * time.Second }) })
	none := taskmanager.WithBackoff(0, 0)
	for name, c := range map[string]struct {
		err   error
		delay map[string]time.Duration // by option
	}{
		"shorter":   {busyError(time.Second), map[string]time.Duration{"own": 2 * time.Second, "policy": 2 * time.Second, "none": time.Second}},
		"longer":    {busyError(7 * time.Second), map[string]time.Duration{"own": 7 * time.Second, "policy": 7 * time.Second, "none": 7 * time.Second}},
		"too long":  {busyError(2 * time.Hour), map[string]time.Duration{"own": time.Hour, "policy": time.Hour, "none": time.Hour}},
		"zero":      {busyError(0), map[string]time.Duration{"own": 2 * time.Second, "policy": 2 * time.Second, "none": 0}},
		"negative":  {busyError(-time.Hour), map[string]time.Duration{"own": 2 * time.Second, "policy": 2 * time.Second, "none": 0}},
		"wrapped":   {fmt.Errorf("a: %w", busyError(7*time.Second)), map[string]time.Duration{"own": 7 * time.Second, "policy": 7 * time.Second, "none": 7 * time.Second}},
		"by a type": {hidingError{busyError(7 * time.Second)}, map[string]time.Duration{"own": 7 * time.Second, "policy": 7 * time.Second, "none": 7 * time.Second}},
		"joined":    {errors.Join(errBoom, busyError(7*time.Second)), map[string]time.Duration{"own": 7 * time.Second, "policy": 7 * time.Second, "none": 7 * time.Second}},
		"panicked":  {&panics{busyError(7 * time.Second)}, map[string]time.Duration{"own": 7 * time.Second, "policy": 7 * time.Second, "none": 7 * time.Second}},
	} {
		for option, opt := range map[string]taskmanager.TaskOption{"own": own, "policy": policy, "none": none} {
			t.Run(name+", "+option, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lines := newLines(slog.LevelWarn)
					m := newManager(t, taskmanager.WithBackoffJitter(0), taskmanager.WithLogger(slog.New(lines)))
					events := m.Subscribe(t.Context())
					runs := 0
					task := start(t, m, "a", func(ctx context.Context) error {
						if runs++; runs > 1 {
							return untilStopped(ctx)
						}
						var p *panics
						if errors.As(c.err, &p) {
							panic(p.error)
						}
						return c.err
					}, opt)
					delay := c.delay[option]
					synctest.Wait()
					failed := ofKind(taskmanager.EventFailed, pending(events))
					require.Len(t, failed, 1)
					assert.Equal(t, delay, failed[0].Delay)
					assert.Contains(t, fmt.Sprint(lines.got()), fmt.Sprintf("restart_in=%v", delay))
					if delay > 0 {
						require.Equal(t, taskmanager.StateBackoff, task.State())
						assert.Equal(t, time.Now().Add(delay).Round(0), task.Stats().NextRunAt)
						time.Sleep(delay - 1)
						require.Equal(t, taskmanager.StateBackoff, settled(task))
						time.Sleep(time.Nanosecond)
					}
					require.Equal(t, taskmanager.StateRunning, settled(task))
				})
			})
		}
	}
}

// A panics is what a body panics with.
type panics struct{ error }

// A hidingError is what the error in it is, and does not wrap it.
type hidingError struct{ err error }

func (hidingError) Error() string { return "hiding" }

func (e hidingError) As(target any) bool { return errors.As(e.err, target) }

// What ends the task, or begins the next run, does not wait for that time.
func TestBackoffRetryAfterIsOverridden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoffJitter(0))
		busy := func(context.Context) error { return busyError(time.Minute) }
		task := start(t, m, "a", busy, taskmanager.WithMaxRestarts(1))
		require.Equal(t, taskmanager.StateBackoff, settled(task))
		require.NoError(t, task.Restart(t.Context()))
		require.Equal(t, taskmanager.StateFailed, settled(task), "the limit is used up")
		for _, opt := range []taskmanager.TaskOption{once(), taskmanager.WithMaxRestarts(0)} {
			assert.Equal(t, taskmanager.StateFailed, settled(start(t, m, "b", busy, opt)))
		}
		for _, err := range []error{backoff.Permanent(busyError(time.Minute)), errors.Join(busyError(time.Minute), backoff.Permanent(errBoom))} {
			assert.Equal(t, taskmanager.StateFailed, settled(start(t, m, "c", func(context.Context) error { return err })))
		}
		stop := taskmanager.WithBackOffPolicy(func() backoff.BackOff { return policyFunc(func() time.Duration { return backoff.Stop }) })
		assert.Equal(t, taskmanager.StateFailed, settled(start(t, m, "d", busy, stop)))

		// The next delay is that of the backoff.
		runs := 0
		start(t, m, "e", func(context.Context) error {
			if runs++; runs == 1 {
				return busyError(time.Minute)
			}
			return errBoom
		})
		synctest.Wait()
		events := m.Subscribe(t.Context())
		time.Sleep(time.Minute)
		synctest.Wait()
		failed := ofKind(taskmanager.EventFailed, pending(events))
		require.Len(t, failed, 1)
		assert.Equal(t, 3*time.Second, failed[0].Delay)
	})
}

// An awkwardRetryError does something before it says when to try again.
type awkwardRetryError struct{ before func() }

func (awkwardRetryError) Error() string { return "awkward" }

func (e awkwardRetryError) RetryAfter() time.Duration { e.before(); return 7 * time.Second }

// One that panics or ends the goroutine says nothing, and the backoff is asked all the same; one that is slow is waited for, which the
// delay includes; one that hangs is overridden by whoever asks for the next run.
func TestBackoffRetryAfterOfAnErrorThatIsAwkward(t *testing.T) {
	for way, c := range map[string]struct {
		do    func(release <-chan struct{})
		delay time.Duration // 0: none before somebody asks
	}{
		"panics": {func(<-chan struct{}) { panic("not now") }, 2 * time.Second},
		"exits":  {func(<-chan struct{}) { runtime.Goexit() }, 2 * time.Second},
		"slow":   {func(<-chan struct{}) { time.Sleep(3 * time.Second) }, 7 * time.Second},
		"hangs":  {func(release <-chan struct{}) { <-release }, 0},
	} {
		for _, own := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, own backoff: %v", way, own), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t, taskmanager.WithBackoffJitter(0))
					opt := taskmanager.WithBackoff(2*time.Second, time.Minute)
					if !own {
						opt = taskmanager.WithBackOffPolicy(func() backoff.BackOff { return policyFunc(func() time.Duration { return 2 * time.Second }) })
					}
					release := make(chan struct{})
					defer close(release)
					runs := 0
					task := start(t, m, "a", func(ctx context.Context) error {
						if runs++; runs > 1 {
							return untilStopped(ctx)
						}
						return awkwardRetryError{func() { c.do(release) }}
					}, opt)
					if c.delay == 0 {
						time.Sleep(time.Hour)
						require.Equal(t, taskmanager.StateBackoff, settled(task))
						require.NoError(t, task.Restart(t.Context()))
					} else {
						time.Sleep(c.delay - 1)
						require.Equal(t, taskmanager.StateBackoff, settled(task))
						time.Sleep(time.Nanosecond)
					}
					require.Equal(t, taskmanager.StateRunning, settled(task))
					assert.EqualValues(t, 1, task.Stats().Failures)
				})
			})
		}
	}
}
