package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Exactly one more run, at once, that counts against no limit.
func TestRestartWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithRestartLimit(0.001, 1))
		events := m.Subscribe(t.Context())
		var body causeLog
		first := true
		task := start(t, m, "a", func(ctx context.Context) error {
			if first {
				taskmanager.SetStatus(ctx, "the %s run", "first")
				first = false
			}
			return body.run(ctx)
		}, taskmanager.WithMaxRestarts(0))
		synctest.Wait()
		assert.Equal(t, "the first run", task.Stats().Status)
		done := task.Done()
		for i := range 10 {
			time.Sleep(time.Second)
			began := time.Now()
			require.NoError(t, m.RestartTask(t.Context(), "a"))
			took(t, 0, began)
			stats := task.Stats()
			assert.EqualValues(t, i+2, stats.Runs, "the new run has begun when RestartTask returns")
			assert.EqualValues(t, i+1, stats.Restarts)
			assert.Equal(t, taskmanager.StateRunning, stats.State)
			assert.Equal(t, began.UnixNano(), stats.RunStartedAt.UnixNano())
			assert.Zero(t, stats.RestartsInWindow)
			assert.Zero(t, stats.Failures)
			assert.Empty(t, stats.Status)
			require.NoError(t, stats.LastError)
		}
		time.Sleep(time.Hour)
		assert.EqualValues(t, 11, task.Stats().Runs)
		require.NoError(t, task.Stop(t.Context()))

		causes := body.all()
		require.Len(t, causes, 11)
		for _, cause := range causes[:10] {
			assert.Equal(t, taskmanager.ErrRestarted, cause)
		}
		assert.Equal(t, taskmanager.ErrStopped, causes[10])
		assert.Equal(t, done, task.Done(), "it did not end in between")
		got := pending(events)
		require.Len(t, got, 22)
		for i, e := range got {
			assert.EqualValues(t, i/2+1, e.Run)
			if i%2 == 0 {
				assert.Equal(t, taskmanager.EventStarted, e.Kind)
				continue
			}
			assert.Equal(t, taskmanager.EventStopped, e.Kind)
			if i < 21 {
				require.ErrorIs(t, e.Err, taskmanager.ErrRestarted)
			} else {
				require.NoError(t, e.Err)
			}
		}
	})
}

// What the old run returns is no failure: it was asked to end.
func TestRestartWhateverTheBodyReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		ends := []func() error{
			func() error { return nil },
			func() error { return errWhy },
			func() error { panic(errWhy) },
			func() error { return backoff.Permanent(errWhy) },
		}
		run := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			end := ends[run%len(ends)]
			run++
			<-ctx.Done()
			return end()
		}, taskmanager.WithRestart(taskmanager.RestartNever))
		synctest.Wait()
		for range ends {
			began := time.Now()
			require.NoError(t, task.Restart(t.Context()))
			took(t, 0, began)
		}
		stats := task.Stats()
		assert.EqualValues(t, len(ends)+1, stats.Runs)
		assert.Zero(t, stats.Failures)
		assert.Zero(t, stats.Panics)
		require.NoError(t, task.Stop(t.Context()))
	})
}

// It waits for the old run to return, and the name has one body all the time.
func TestRestartWaitsForTheOldRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		var running atomic.Int64
		task := start(t, m, "a", func(ctx context.Context) error {
			assert.Equal(t, int64(1), running.Add(1))
			defer running.Add(-1)
			return slowToStop(3 * time.Second)(ctx)
		})
		synctest.Wait()
		began := time.Now()
		time.AfterFunc(time.Second, func() {
			assert.Equal(t, taskmanager.StateStopping, task.State())
			assert.True(t, m.IsRunning("a"))
		})
		require.NoError(t, task.Restart(t.Context()))
		took(t, 3*time.Second, began)
		assert.Equal(t, taskmanager.StateRunning, task.State())
		require.NoError(t, task.Stop(t.Context()))
	})
}

func TestRestartInBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoffJitter(0), taskmanager.WithRestartLimit(0.001, 1))
		var fail atomic.Bool
		fail.Store(true)
		task := start(t, m, "a", func(ctx context.Context) error {
			if fail.Load() {
				return errWhy
			}
			return untilStopped(ctx)
		})
		for i := range 3 {
			require.Equal(t, taskmanager.StateBackoff, settled(task))
			time.Sleep(time.Second)
			began := time.Now()
			require.NoError(t, m.RestartTask(t.Context(), "a"))
			took(t, 0, began)
			require.Equal(t, taskmanager.StateBackoff, settled(task), "it has failed once more")
			stats := task.Stats()
			assert.EqualValues(t, i+2, stats.Runs)
			assert.EqualValues(t, i+2, stats.Failures)
			// Each failure has counted its restart; that it came early adds nothing.
			assert.Equal(t, i+2, stats.RestartsInWindow)
		}
		fail.Store(false)
		require.NoError(t, task.Restart(t.Context()))
		require.Equal(t, taskmanager.StateRunning, settled(task))
		assert.Zero(t, task.Stats().NextRunAt)
		time.Sleep(time.Hour)
		assert.EqualValues(t, 5, task.Stats().Runs, "the timers of the pauses are gone")
		require.NoError(t, task.Stop(t.Context()))
	})
}

func TestRestartOfAnEndedTask(t *testing.T) {
	for name, c := range map[string]struct {
		first func(ctx context.Context) error
		state taskmanager.State
	}{
		"completed": {func(context.Context) error { return nil }, taskmanager.StateCompleted},
		"failed":    {func(context.Context) error { panic(errWhy) }, taskmanager.StateFailed},
		"stopped":   {untilStopped, taskmanager.StateStopped},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, taskmanager.WithRestart(taskmanager.RestartNever))
				runs := 0
				task := start(t, m, "a", func(ctx context.Context) error {
					runs++
					if runs == 1 {
						taskmanager.SetStatus(ctx, "the first")
						return c.first(ctx)
					}
					return untilStopped(ctx)
				})
				synctest.Wait()
				if c.state == taskmanager.StateStopped {
					require.NoError(t, task.Stop(t.Context()))
				}
				<-task.Done()
				require.Equal(t, c.state, task.State())
				former, before := task.Done(), m.Stats()
				assert.Equal(t, "the first", task.Stats().Status)
				time.Sleep(time.Hour)

				began := time.Now()
				require.NoError(t, m.RestartTask(t.Context(), "a"))
				took(t, 0, began)
				require.Equal(t, taskmanager.StateRunning, settled(task))
				assert.True(t, m.IsRunning("a"))
				again, ok := m.Lookup("a")
				require.True(t, ok)
				assert.Same(t, task, again, "the handle stays valid")
				stats := task.Stats()
				assert.EqualValues(t, 1, stats.Runs)
				assert.Zero(t, stats.Restarts)
				assert.Zero(t, stats.Failures)
				assert.Zero(t, stats.Panics)
				assert.Zero(t, stats.EndedAt)
				assert.Empty(t, stats.Status)
				require.NoError(t, stats.LastError)
				assert.Zero(t, stats.LastErrorAt)
				assert.Equal(t, began.UnixNano(), stats.StartedAt.UnixNano())
				require.NoError(t, task.Err())
				assert.NotEqual(t, former, task.Done())
				select {
				case <-task.Done():
					t.Error("Done is of the former end")
				default:
				}
				// The totals are of all lives.
				assert.Equal(t, before.Runs+1, m.Stats().Runs)
				assert.Equal(t, before.Failures, m.Stats().Failures)
				assert.Equal(t, before.Panics, m.Stats().Panics)

				require.NoError(t, m.StopTask(t.Context(), "a"))
				<-task.Done()
				require.NoError(t, task.Err())
			})
		})
	}
}

// A task that was given up has all of its restarts again, and its first delay.
func TestRestartOfAGivenUpTaskCountsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoffJitter(0), taskmanager.WithMaxRestarts(2))
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", func(context.Context) error { return errWhy })
		for life := range 3 {
			began := time.Now()
			err := task.Wait(t.Context())
			took(t, 2*time.Second+3*time.Second, began)
			require.ErrorIs(t, err, taskmanager.ErrTooManyRestarts)
			require.ErrorIs(t, err, errWhy)
			stats := task.Stats()
			assert.EqualValues(t, 3, stats.Runs)
			assert.EqualValues(t, 3, stats.Failures)
			assert.Equal(t, 2, stats.RestartsInWindow)
			got := pending(events)
			require.Equal(t, []taskmanager.EventKind{
				taskmanager.EventStarted, taskmanager.EventFailed, taskmanager.EventStarted, taskmanager.EventFailed,
				taskmanager.EventStarted, taskmanager.EventGaveUp,
			}, kinds(got, "a"))
			assert.EqualValues(t, 1, got[0].Run)
			assert.EqualValues(t, 3, got[5].Run)
			assert.EqualValues(t, 3*(life+1), m.Stats().Runs)
			assert.EqualValues(t, 3*(life+1), m.Stats().Failures)
			if life < 2 {
				require.NoError(t, task.Restart(t.Context()))
			}
		}
	})
}

// A stuck task gets an error at once, with its stack, and never a second body.
func TestRestartOfAStuckTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		body := newDeafBody()
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			runs++
			return body.hangInBody(ctx)
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		asStuck(t, task.Stop(ctx), "a", time.Second)
		require.Equal(t, taskmanager.StateStuck, task.State())

		began := time.Now()
		stuck := asStuck(t, m.RestartTask(t.Context(), "a"), "a", time.Second) // for that long it has been waited for
		took(t, 0, began)
		assert.Contains(t, string(stuck.Stack), "hangInBody")

		time.Sleep(time.Minute)
		body.release()
		require.Equal(t, taskmanager.StateStopped, settled(task))
		time.Sleep(time.Minute)
		assert.Equal(t, 1, runs)
		assert.EqualValues(t, 1, task.Stats().Runs)
	})
}

// A restart whose stop has timed out does not come as a surprise later.
func TestRestartThatTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		events := m.Subscribe(t.Context())
		body := newDeafBody()
		task := start(t, m, "a", body.hangInBody)
		synctest.Wait()
		began := time.Now()
		stuck := asStuck(t, m.RestartTask(t.Context(), "a"), "a", 5*time.Second)
		took(t, 5*time.Second, began)
		assert.Contains(t, string(stuck.Stack), "hangInBody")
		assert.Equal(t, taskmanager.StateStuck, task.State())
		time.Sleep(time.Minute)
		body.release()
		require.Equal(t, taskmanager.StateStopped, settled(task))
		time.Sleep(time.Minute)
		assert.EqualValues(t, 1, task.Stats().Runs)
		got := pending(events)
		assert.Equal(t, []taskmanager.EventKind{
			taskmanager.EventStarted, taskmanager.EventStuck, taskmanager.EventStopped,
		}, kinds(got, "a"))
		stopped := ofKind(taskmanager.EventStopped, got)[0]
		require.NoError(t, stopped.Err, "it will not run again")
		require.ErrorIs(t, stopped.Cause, taskmanager.ErrRestarted, "nobody has stopped it")
		assert.NotEqual(t, taskmanager.ErrRestarted, stopped.Cause, "the restart has failed")
	})
}

// Of two restarts the one that has less time fails both.
func TestRestartThatTimesOutForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		start(t, m, "a", slowToStop(3*time.Second))
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- m.RestartTask(short, "a") }()
		go func() { second <- m.RestartTask(t.Context(), "a") }()
		began := time.Now()
		asStuck(t, <-first, "a", time.Second)
		err := <-second
		took(t, 3*time.Second, began)
		require.ErrorIs(t, err, taskmanager.ErrRestarted)
		require.NotErrorIs(t, err, taskmanager.ErrStopped, "nobody has stopped it")
		require.EqualError(t, err, `taskmanager: the restart of task "a" has failed with another one: `+
			"taskmanager: task was restarted by hand, and its body did not return in time")
	})
}

// A stop wins over a restart that has not been done yet, and the restart says why it came to nothing.
func TestRestartOvertakenByAStop(t *testing.T) {
	for name, c := range map[string]struct {
		stop  func(m *taskmanager.Manager, ctx context.Context) error
		cause error
	}{
		"StopTask": {func(m *taskmanager.Manager, ctx context.Context) error { return m.StopTask(ctx, "a") }, taskmanager.ErrStopped},
		"StopAll":  {(*taskmanager.Manager).StopAll, taskmanager.ErrStopped},
		"Shutdown": {(*taskmanager.Manager).Shutdown, taskmanager.ErrShutdown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				task := start(t, m, "a", slowToStop(time.Second))
				synctest.Wait()
				began := time.Now()
				time.AfterFunc(time.Second/2, func() {
					assert.NoError(t, c.stop(m, t.Context()))
					took(t, time.Second, began)
				})
				err := m.RestartTask(t.Context(), "a")
				took(t, time.Second, began)
				require.ErrorIs(t, err, c.cause)
				require.Equal(t, taskmanager.StateStopped, settled(task))
				assert.EqualValues(t, 1, task.Stats().Runs)
			})
		})
		// The other way round: it is being stopped when the restart comes.
		t.Run(name+" first", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				task := start(t, m, "a", slowToStop(time.Second))
				synctest.Wait()
				var stopped error
				go func() { stopped = c.stop(m, t.Context()) }()
				require.Equal(t, taskmanager.StateStopping, settled(task))
				began := time.Now()
				err := m.RestartTask(t.Context(), "a")
				took(t, 0, began)
				if c.cause == taskmanager.ErrShutdown { //nolint:errorlint // the very value of the table
					require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
				} else {
					require.ErrorIs(t, err, c.cause)
				}
				time.Sleep(time.Second)
				require.Equal(t, taskmanager.StateStopped, settled(task))
				require.NoError(t, stopped)
				assert.EqualValues(t, 1, task.Stats().Runs)
			})
		})
	}
}

// In no order at all: one of them wins, and the state says which.
func TestRestartConcurrentWithAStop(t *testing.T) {
	m := mustNew(t)
	var running atomic.Int64
	for i := range 500 {
		name := fmt.Sprint(i)
		task := start(t, m, name, func(ctx context.Context) error {
			assert.Equal(t, int64(1), running.Add(1), "two bodies")
			defer running.Add(-1)
			return untilStopped(ctx)
		})
		var (
			wg             sync.WaitGroup
			stop, restart  error
			restartIsFirst = i%2 == 0
		)
		calls := []func(){
			func() { stop = task.Stop(t.Context()) },
			func() { restart = task.Restart(t.Context()) },
		}
		if restartIsFirst {
			calls[0], calls[1] = calls[1], calls[0]
		}
		for _, call := range calls {
			wg.Go(call)
		}
		wg.Wait()
		require.NoError(t, stop, "it ran at every moment before its stop")
		switch state := task.State(); {
		case restart != nil:
			require.ErrorIs(t, restart, taskmanager.ErrStopped)
			require.Equal(t, taskmanager.StateStopped, state)
		case state == taskmanager.StateStopped:
			// Restarted, then stopped.
		default:
			// Stopped, then started afresh.
			require.False(t, state.Ended(), state)
			require.NoError(t, task.Stop(t.Context()))
		}
		require.Zero(t, running.Load())
	}
}

// Restarts that are asked for while the old run still ends are one restart.
func TestRestartTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		task := start(t, m, "a", slowToStop(time.Second))
		synctest.Wait()
		began := time.Now()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				assert.NoError(t, task.Restart(t.Context()))
				took(t, time.Second, began)
			})
		}
		wg.Wait()
		assert.EqualValues(t, 2, task.Stats().Runs)
		require.NoError(t, task.Stop(t.Context()))
	})
}

// Many restarts of an ended task at once: it is revived, with one body at any moment.
func TestRestartOfAnEndedTaskByMany(t *testing.T) {
	m := mustNew(t)
	var running atomic.Int64
	task := start(t, m, "a", func(ctx context.Context) error {
		assert.Equal(t, int64(1), running.Add(1), "two bodies")
		defer running.Add(-1)
		return untilStopped(ctx)
	})
	for range 50 {
		require.NoError(t, task.Stop(t.Context()))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { assert.NoError(t, m.RestartTask(t.Context(), "a")) })
		}
		wg.Wait()
		require.False(t, task.State().Ended())
		require.LessOrEqual(t, task.Stats().Runs, uint64(8))
	}
	require.NoError(t, m.StopAll(t.Context()))
}

func TestRestartFromInsideTheTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		began := time.Now()
		runs := 0
		var cause error
		task := start(t, m, "a", func(ctx context.Context) error {
			runs++
			if runs > 1 {
				return untilStopped(ctx)
			}
			self, _ := taskmanager.FromContext(ctx)
			assert.NoError(t, self.Restart(ctx))
			cause = context.Cause(ctx)
			return errWhy
		})
		synctest.Wait()
		took(t, 0, began)
		require.ErrorIs(t, cause, taskmanager.ErrRestarted)
		assert.Equal(t, taskmanager.StateRunning, task.State())
		assert.EqualValues(t, 2, task.Stats().Runs)
		assert.Zero(t, task.Stats().Failures)
		time.Sleep(time.Hour)
		assert.Equal(t, taskmanager.StateRunning, task.State(), "its deadline is gone")
		require.NoError(t, task.Stop(t.Context()))
	})
}

// Asked for before the first run, that run is the one that was asked for.
func TestRestartWhileWaiting(t *testing.T) {
	oneThread(t)
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			task := start(t, m, "a", untilStopped)
			waiting := task.State() == taskmanager.StateWaiting
			require.NoError(t, task.Restart(t.Context()))
			require.Equal(t, taskmanager.StateRunning, settled(task))
			if waiting {
				assert.LessOrEqual(t, task.Stats().Runs, uint64(2))
			} else {
				assert.EqualValues(t, 2, task.Stats().Runs)
			}
			require.NoError(t, task.Stop(t.Context()))
		})
	}
}

// The caller has left; the restart is done all the same.
func TestRestartWhoseContextIsCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		task := start(t, m, "a", slowToStop(2*time.Second))
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errWhy)
		began := time.Now()
		assert.Equal(t, errWhy, task.Restart(ctx))
		took(t, 0, began)
		require.Equal(t, taskmanager.StateStopping, settled(task))
		time.Sleep(2 * time.Second)
		require.Equal(t, taskmanager.StateRunning, settled(task))
		assert.EqualValues(t, 2, task.Stats().Runs)
		require.NoError(t, task.Stop(t.Context()))
	})
}

// It has completed, and that is still being logged, when the restart is asked for: it is started afresh at once, and the log
// is told in that order.
func TestRestartWhileItCompletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(slowHandler{lines, "task completed", func() { time.Sleep(time.Second) }})))
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			runs++
			if runs == 1 {
				return nil
			}
			return untilStopped(ctx)
		})
		require.Equal(t, taskmanager.StateCompleted, settled(task))
		began := time.Now()
		require.NoError(t, task.Restart(t.Context()))
		took(t, 0, began)
		require.Equal(t, taskmanager.StateRunning, settled(task))
		assert.EqualValues(t, 1, task.Stats().Runs, "in this life")
		require.NoError(t, task.Stop(t.Context()))
		took(t, 0, began)
		assert.Equal(t, []string{"task started"}, messages(lines))
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"task started", "task completed", "task revived by hand", "task started", "task stopped"}, messages(lines))
	})
}

func TestRestartIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithHistory(1))
		require.ErrorIs(t, m.RestartTask(t.Context(), "never"), taskmanager.ErrTaskNotFound)

		forgotten := start(t, m, "forgotten", untilStopped)
		replaced := start(t, m, "replaced", untilStopped)
		synctest.Wait()
		require.NoError(t, forgotten.Stop(t.Context()))
		require.NoError(t, replaced.Stop(t.Context()))
		require.ErrorIs(t, m.RestartTask(t.Context(), "forgotten"), taskmanager.ErrTaskNotFound)
		require.ErrorIs(t, forgotten.Restart(t.Context()), taskmanager.ErrTaskNotFound)
		anew := start(t, m, "replaced", untilStopped)
		synctest.Wait()
		require.ErrorIs(t, replaced.Restart(t.Context()), taskmanager.ErrTaskNotFound)
		assert.Equal(t, taskmanager.StateStopped, replaced.State())
		assert.EqualValues(t, 1, anew.Stats().Runs, "its namesake is not disturbed")

		require.NoError(t, m.Shutdown(t.Context()))
		require.ErrorIs(t, m.RestartTask(t.Context(), "replaced"), taskmanager.ErrManagerClosed)
		require.ErrorIs(t, anew.Restart(t.Context()), taskmanager.ErrManagerClosed)
	})
}

// Whoever stops or restarts a task while its policy is asked for a delay cuts that short: the failure is told with no delay, and not
// with that of the failure before.
func TestRestartWhileThePolicyIsAsked(t *testing.T) {
	for name, do := range map[string]func(ctx context.Context, task *taskmanager.Task) error{
		"restart": func(ctx context.Context, task *taskmanager.Task) error { return task.Restart(ctx) },
		"stop":    func(ctx context.Context, task *taskmanager.Task) error { return task.Stop(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				asked := 0
				policy := &script{next: func() time.Duration {
					if asked++; asked == 2 {
						time.Sleep(time.Hour)
					}
					return time.Minute
				}}
				events := m.Subscribe(t.Context())
				task := start(t, m, "a", boom, policy.option())
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				require.Equal(t, 2, asked)
				require.NoError(t, do(t.Context(), task))
				synctest.Wait()
				var delays []time.Duration
				for _, e := range pending(events) {
					if e.Kind == taskmanager.EventFailed && len(delays) < 2 {
						delays = append(delays, e.Delay)
					}
				}
				assert.Equal(t, []time.Duration{time.Minute, 0}, delays)
				require.NoError(t, m.Shutdown(t.Context()))
				time.Sleep(time.Hour)
			})
		})
	}
}

// A backoff policy is made anew for each life. One that can't be made is an error, and the task stays as it was.
func TestRestartMakesANewBackOffPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		made := 0
		task := start(t, m, "a", untilStopped, taskmanager.WithBackOffPolicy(func() backoff.BackOff {
			made++
			switch made {
			case 2:
				panic(errors.New("out of order"))
			case 3:
				return nil
			}
			return &backoff.ZeroBackOff{}
		}))
		synctest.Wait()
		require.NoError(t, task.Stop(t.Context()))
		for _, reason := range []string{"out of order", "nil"} {
			var refused *taskmanager.OptionError
			require.ErrorAs(t, task.Restart(t.Context()), &refused)
			assert.Equal(t, "WithBackOffPolicy", refused.Option)
			assert.Contains(t, refused.Reason, reason)
			assert.Equal(t, taskmanager.StateStopped, task.State())
			assert.EqualValues(t, 1, task.Stats().Runs)
		}
		require.NoError(t, task.Restart(t.Context()))
		require.Equal(t, taskmanager.StateRunning, settled(task))
		assert.Equal(t, 4, made)
		require.NoError(t, task.Stop(t.Context()))
	})
}

// The task has ended, and its name is started anew before it is revived: the restart is of the new one. Between the two there
// is time for a policy of the user's to be made.
func TestRestartOfANameThatIsStartedAnewMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		var anew *taskmanager.Task
		made := 0
		former := start(t, m, "a", untilStopped, taskmanager.WithBackOffPolicy(func() backoff.BackOff {
			if made++; made == 2 {
				anew = start(t, m, "a", untilStopped)
				synctest.Wait() // it runs: a restart of one that doesn't yet has nothing to do
			}
			return &backoff.ZeroBackOff{}
		}))
		synctest.Wait()
		require.NoError(t, former.Stop(t.Context()))
		require.NoError(t, m.RestartTask(t.Context(), "a"))
		require.Equal(t, taskmanager.StateRunning, settled(anew))
		assert.EqualValues(t, 2, anew.Stats().Runs)
		assert.EqualValues(t, 1, former.Stats().Runs)
		assert.Equal(t, taskmanager.StateStopped, former.State())
		require.ErrorIs(t, former.Restart(t.Context()), taskmanager.ErrTaskNotFound)
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// The old run returns as soon as the parent context has ended, and the Manager has yet to hear of that: there is no new run.
func TestRestartIsOvertakenByTheEndOfTheParent(t *testing.T) {
	endOfTheParent(t, func(t *testing.T, p *parentThatEnds) {
		m := mustNew(t, taskmanager.WithContext(p.ctx))
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			p.end()
			return ctx.Err()
		})
		synctest.Wait()
		began := time.Now()
		require.ErrorIs(t, task.Restart(t.Context()), p.cause)
		took(t, time.Second, began)
		assert.Equal(t, taskmanager.StateStopped, task.State())
		time.Sleep(time.Minute)
		assert.Equal(t, taskmanager.StateStopped, settled(task))
		assert.EqualValues(t, 1, task.Stats().Runs)
	})
}

// A Manager whose tasks have all ended does not watch for the end of the parent context. It does again for one that is revived.
func TestRestartOfAnEndedTaskUntilTheParentEnds(t *testing.T) {
	endOfTheParent(t, func(t *testing.T, p *parentThatEnds) {
		m := mustNew(t, taskmanager.WithContext(p.ctx))
		task := start(t, m, "a", untilStopped)
		synctest.Wait()
		require.NoError(t, task.Stop(t.Context()))
		before := goroutines()
		require.NoError(t, task.Restart(t.Context()))
		require.Equal(t, taskmanager.StateRunning, settled(task))
		p.end()
		require.NoError(t, task.Wait(t.Context()))
		assert.Equal(t, taskmanager.StateStopped, settled(task))
		assert.Equal(t, before, goroutines())
	})
}

// The same for a body that panics with such an error, and not for one that returns any other.
func TestRestartOfABodyThatLeavesSomethingRunning(t *testing.T) {
	below := &taskmanager.StopTimeoutError{Task: "below", Timeout: time.Second}
	for name, c := range map[string]struct {
		end  func() error
		runs uint64
	}{
		"returned": {func() error { return below }, 1},
		"wrapped":  {func() error { return fmt.Errorf("closing: %w", errors.Join(errBoom, below)) }, 1},
		"panic":    {func() error { panic(below) }, 1},
		"other":    {func() error { return errBoom }, 2},
		"bad":      {func() error { return badError{} }, 2},
		"final":    {func() error { return backoff.Permanent(errBoom) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				task := start(t, m, "a", func(ctx context.Context) error {
					if taskRuns(ctx) > 1 {
						return untilStopped(ctx)
					}
					<-ctx.Done()
					return c.end()
				})
				synctest.Wait()
				err := task.Restart(t.Context())
				if c.runs == 1 {
					require.ErrorIs(t, err, below)
					assert.Equal(t, taskmanager.StateFailed, task.State())
					assert.EqualValues(t, 1, task.Stats().Failures)
					require.ErrorIs(t, task.Stats().LastError, below)
				} else {
					require.NoError(t, err)
				}
				assert.Equal(t, c.runs, task.Stats().Runs)
			})
		})
	}
}

// taskRuns returns how many runs the task of that context has had.
func taskRuns(ctx context.Context) uint64 {
	task, _ := taskmanager.FromContext(ctx)
	return task.Stats().Runs
}

// A badError can't be unwrapped.
type badError struct{}

func (badError) Error() string { return "bad" }

func (badError) Unwrap() error { panic("bad") }

// A task that has ended can be revived in another bubble than that of its former life: it keeps nothing of that.
func TestRestartInAnotherBubble(t *testing.T) {
	m := mustNew(t, taskmanager.WithBackoff(0, 0))
	var task *taskmanager.Task
	for i := range 3 {
		synctest.Test(t, func(t *testing.T) {
			if task == nil {
				task = start(t, m, "a", failAfter(0), taskmanager.WithMaxRestarts(2))
			} else {
				require.NoError(t, task.Restart(t.Context()))
			}
			require.Error(t, task.Wait(t.Context()))
			<-task.Done()
			require.EqualValues(t, 3*(i+1), m.Stats().Runs)
			require.NoError(t, m.StopAll(t.Context()))
		})
	}
}

// A body that is being stopped, and restarts itself, is told so.
func TestRestartFromInsideATaskThatIsBeingStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var err error
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			err = m.RestartTask(ctx, "a")
			return nil
		})
		synctest.Wait()
		require.NoError(t, task.Stop(t.Context()))
		require.ErrorIs(t, err, taskmanager.ErrStopped)
	})
}

// An askedContext does something when it is asked whether it has ended, and has not.
type askedContext struct {
	context.Context
	asked func()
}

func (c askedContext) Err() error {
	c.asked()
	return nil
}

// A task that is given up while it is about to be asked is restarted, as if it had been before.
func TestRestartOfATaskThatIsGivenUpMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		fail := make(chan struct{})
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs++; runs > 1 {
				return untilStopped(ctx)
			}
			<-fail
			return errBoom
		}, once())
		synctest.Wait()
		require.NoError(t, m.RestartTask(askedContext{context.Background(), sync.OnceFunc(func() {
			close(fail)
			<-task.Done()
		})}, "a"))
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		require.NoError(t, task.Err())
	})
}

// A body that was asked to restart, and whose task has stopped since, may return what it was told together with an error of its own: the
// event has that, and is none of a task that goes on. So it is within a group that is restarted.
func TestRestartThatBecomesAStopIsToldAsOne(t *testing.T) {
	own := &taskmanager.OptionError{Option: "own"}
	body := func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(2 * time.Second)
		return fmt.Errorf("closing: %w", errors.Join(context.Cause(ctx), own))
	}
	for name, c := range map[string]struct {
		stop func(m *taskmanager.Manager, task *taskmanager.Task)
		opts []taskmanager.Option
	}{
		"stop":     {stop: func(_ *taskmanager.Manager, task *taskmanager.Task) { _ = task.Stop(context.Background()) }},
		"shutdown": {stop: func(m *taskmanager.Manager, _ *taskmanager.Task) { _ = m.Shutdown(context.Background()) }},
		"timeout":  {stop: func(*taskmanager.Manager, *taskmanager.Task) {}, opts: []taskmanager.Option{taskmanager.WithStopTimeout(time.Second)}},
		"group":    {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				m := newManager(t, append(c.opts, taskmanager.WithLogger(slog.New(lines)))...)
				events := m.Subscribe(t.Context())
				var task *taskmanager.Task
				path := "a"
				if c.stop == nil {
					path = "g/a"
					group := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) (err error) {
						inner, err := g.StartTask("a", body)
						if task == nil {
							task = inner
						}
						return err
					}))
					synctest.Wait()
					require.NoError(t, group.Restart(t.Context()))
				} else {
					task = start(t, m, "a", body)
					synctest.Wait()
					go func() { _ = task.Restart(context.Background()) }()
					synctest.Wait()
					c.stop(m, task)
				}
				<-task.Done()
				synctest.Wait()
				var stopped []taskmanager.Event
				for _, e := range ofKind(taskmanager.EventStopped, pending(events)) {
					if e.Task == path {
						stopped = append(stopped, e)
					}
				}
				require.Len(t, stopped, 1)
				require.NotErrorIs(t, stopped[0].Err, taskmanager.ErrRestarted)
				require.ErrorIs(t, stopped[0].Err, own)
				var as *taskmanager.OptionError
				require.ErrorAs(t, stopped[0].Err, &as)
				require.EqualError(t, stopped[0].Err, "closing: taskmanager: task was restarted by hand\n"+own.Error())
				assert.Len(t, lines.about("task stopped | task="+path+" "), 1)
				assert.Len(t, lines.about("closing: "), 1)
			})
		})
	}
}

// A restart that a stop has superseded says so also if the body says that it has left something executing.
func TestRestartThatIsSupersededSaysWhatIsLeft(t *testing.T) {
	for name, c := range map[string]struct {
		ask  func(ctx context.Context, task *taskmanager.Task) error
		why  error
		none error
	}{
		"by a stop": {func(ctx context.Context, task *taskmanager.Task) error { return task.Stop(ctx) }, taskmanager.ErrStopped, taskmanager.ErrRestarted},
		"by another": {func(ctx context.Context, task *taskmanager.Task) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return task.Restart(ctx)
		}, taskmanager.ErrRestarted, taskmanager.ErrStopped},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				below := &taskmanager.StopTimeoutError{Task: "below"}
				task := start(t, m, "a", func(ctx context.Context) error {
					<-ctx.Done()
					time.Sleep(2 * time.Second)
					return below
				})
				synctest.Wait()
				restarted := make(chan error, 1)
				go func() { restarted <- task.Restart(context.Background()) }()
				synctest.Wait()
				require.Error(t, c.ask(t.Context(), task))
				err := <-restarted
				require.ErrorIs(t, err, below)
				require.ErrorIs(t, err, c.why)
				require.NotErrorIs(t, err, c.none)
			})
		})
	}
}

// A body that is to return for a restart, or for a replacement, may shut everything down: the line about the restart does not wait for
// the body, which would wait for it.
func TestRestartOfABodyThatShutsDown(t *testing.T) {
	for name, call := range map[string]func(m *taskmanager.Manager) error{
		"restart": func(m *taskmanager.Manager) error { return m.RestartTask(context.Background(), "a") },
		"replace": func(m *taskmanager.Manager) error {
			_, err := m.ReplaceTask(context.Background(), "a", untilStopped)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
				task := start(t, m, "a", func(ctx context.Context) error {
					<-ctx.Done()
					return m.Shutdown(ctx)
				})
				synctest.Wait()
				began := time.Now()
				require.ErrorIs(t, call(m), taskmanager.ErrShutdown)
				require.NoError(t, task.Wait(t.Context()))
				assert.Zero(t, time.Since(began))
				assert.Len(t, lines.about("by hand"), 1)
				assert.Empty(t, lines.about("stuck"))
			})
		})
	}
}
