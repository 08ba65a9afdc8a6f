package taskmanager_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
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

func TestMaxRestartsAreExactlyN(t *testing.T) {
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
		assert.Equal(t, taskmanager.GiveUpError{Task: "a", Reason: taskmanager.GaveUpLimit, Restarts: 3, Window: time.Minute, Err: failures[3]}, *gaveUp)
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

func TestMaxRestartsWithinTheWindow(t *testing.T) {
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
func TestMaxRestartsLeaveTheWindow(t *testing.T) {
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

// The event of a task that is given up for another reason than the limit counts what is within the window then, too.
func TestMaxRestartsInTheEventOfAnotherEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, append(constant(time.Second), taskmanager.WithRestartWindow(10*time.Second))...)
		events := m.Subscribe(t.Context())
		runs := 0
		task := start(t, m, "a", func(context.Context) error {
			if runs++; runs == 1 {
				return errBoom
			}
			time.Sleep(time.Minute)
			return &taskmanager.StopTimeoutError{Task: "below"}
		})
		asStuck(t, task.Wait(t.Context()), "below", 0)
		gaveUp := ofKind(taskmanager.EventGaveUp, pending(events))
		require.Len(t, gaveUp, 1)
		assert.Zero(t, gaveUp[0].Restarts)
	})
}

// So does that of a failure of which it is not judged whether it is within the limit, for somebody restarts the task meanwhile.
func TestMaxRestartsInTheEventOfAFailureThatIsNotJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithRestartWindow(10*time.Second))
		events := m.Subscribe(t.Context())
		asked := 0
		policy := &script{next: func() time.Duration {
			if asked++; asked == 3 {
				time.Sleep(time.Hour)
			}
			return time.Second
		}}
		task := start(t, m, "a", failAt(0, 9*time.Second, 11*time.Second), policy.option())
		time.Sleep(12 * time.Second)
		require.NoError(t, task.Restart(t.Context()))
		var restarts []int
		for _, e := range ofKind(taskmanager.EventFailed, pending(events)) {
			restarts = append(restarts, e.Restarts)
		}
		assert.Equal(t, []int{1, 2, 1}, restarts, "by then one has left the window")
		time.Sleep(time.Hour)
	})
}

func TestMaxRestartsAreNeverReachedByFailuresSlowEnough(t *testing.T) {
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

func TestMaxRestartsOfZeroGiveUpAtTheFirstFailure(t *testing.T) {
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

func TestMaxRestartsUnlimitedNeverGiveUp(t *testing.T) {
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

func TestMaxRestartsThatCannotBeReachedAreWarnedOf(t *testing.T) {
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
			// Delays of 1 s, and runs of 1 s between them: 6 restarts take 11 s.
			opts: options{
				taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(s, time.Hour), taskmanager.WithBackoffFactor(100),
				taskmanager.WithBackoffJitter(0), taskmanager.WithHealthyAfter(s),
			},
		},
		"delays that healthy runs reset just not often enough": {
			// Delays of 1 s, and runs of 10.8 s between them: 6 restarts take 60 s.
			opts: options{
				taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(s, time.Hour), taskmanager.WithBackoffFactor(100),
				taskmanager.WithBackoffJitter(0), taskmanager.WithHealthyAfter(10_800 * time.Millisecond),
			}, warned: true,
		},
		"delays that healthy runs reset often enough, as jitter may shorten them": {
			opts: options{
				taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(s, time.Hour), taskmanager.WithBackoffFactor(100),
				taskmanager.WithBackoffJitter(0.5), taskmanager.WithHealthyAfter(11 * s),
			},
		},
		"delays that one healthy run resets": {
			// 1+2+4, a run of 20 s, and 1+2+4 again: 34 s. Without one they take 63 s, with one after each delay 106 s.
			opts: options{
				taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(s, time.Hour), taskmanager.WithBackoffFactor(2),
				taskmanager.WithBackoffJitter(0), taskmanager.WithHealthyAfter(20 * s),
			},
		},
		"delays that grow, and jitter may shorten": {
			// 63 s, or 0.9 times that.
			opts: options{taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(s, time.Hour), taskmanager.WithBackoffFactor(2), taskmanager.WithBackoffJitter(0.1)},
		},
		"one that takes all of the window but for a nanosecond": {
			opts: options{taskmanager.WithMaxRestarts(1), taskmanager.WithBackoff(60*s-1, 60*s-1), taskmanager.WithBackoffJitter(0)},
		},
		"no delays":       {opts: options{taskmanager.WithBackoff(0, 0), taskmanager.WithMaxRestarts(1_000_000)}},
		"one long delay":  {opts: options{taskmanager.WithMaxRestarts(1), taskmanager.WithBackoff(math.MaxInt64, math.MaxInt64)}, warned: true},
		"many short ones": {opts: options{taskmanager.WithMaxRestarts(math.MaxInt), taskmanager.WithBackoff(1, 1)}, warned: true},
		"delays too short to grow": {
			opts: options{taskmanager.WithMaxRestarts(100), taskmanager.WithBackoff(1, time.Minute), taskmanager.WithBackoffJitter(0)},
		},
		"more than are looked at": {
			opts: options{taskmanager.WithMaxRestarts(10_001), taskmanager.WithBackoff(10*time.Millisecond, 10*time.Millisecond), taskmanager.WithHealthyAfter(1)},
		},
		"as many as are looked at": {
			opts: options{
				taskmanager.WithMaxRestarts(10_000), taskmanager.WithBackoff(10*time.Millisecond, 10*time.Millisecond),
				taskmanager.WithBackoffJitter(0), taskmanager.WithHealthyAfter(1),
			}, warned: true,
		},
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
	t.Run("is not said of what is not started", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var log logBook
			m := newManager(t, log.option())
			slow := taskmanager.WithBackoff(time.Hour, time.Hour)
			start(t, m, "a", untilStopped)
			_, err := m.StartTask("a", untilStopped, slow)
			require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
			require.NoError(t, m.Shutdown(t.Context()))
			_, err = m.StartTask("b", untilStopped, slow)
			require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
			assert.Empty(t, log.lines(t, message))
		})
	})
	t.Run("is said of each of many, and first", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			lines := newLines(slog.LevelDebug)
			m := newManager(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithBackoff(time.Hour, time.Hour))
			for i := range 1000 {
				start(t, m, fmt.Sprint(i), untilStopped)
			}
			synctest.Wait()
			assert.Len(t, lines.about(message), 1000)
			of := lines.about("task=7 ")
			require.Len(t, of, 2)
			assert.Contains(t, of[0], message)
			assert.Contains(t, of[1], "task started")
		})
	})
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
func TestMaxRestartsThatCannotBeReachedAreNotReached(t *testing.T) {
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

func TestMaxRestartsCountAnewAfterARestartByHand(t *testing.T) {
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
