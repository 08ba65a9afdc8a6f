package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Run must not return before the tasks have ended when the parent context has ended between New and Run.
func TestNestedRunThatIsStarting_Promise1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		alive, most, runs := 0, 0, 0
		outer := start(t, m, "outer", func(ctx context.Context) error {
			runs++
			inner, err := taskmanager.New(taskmanager.WithContext(ctx), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
			assert.NoError(t, err)
			_, err = inner.StartTask("inner", func(ctx context.Context) error {
				alive++
				most = max(most, alive)
				defer func() { alive-- }()
				return slowToStop(time.Second)(ctx)
			})
			assert.NoError(t, err)
			time.Sleep(time.Second) // in which it is restarted: whatever else a body does before Run
			return inner.Run(ctx)
		})
		time.Sleep(time.Second / 2)
		require.NoError(t, outer.Restart(t.Context()))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Equal(t, 2, runs)
		assert.Equal(t, 1, most, "two generations alive")
		require.NoError(t, outer.Stop(t.Context()))
	})
}

// A restart by hand of a task whose body returns that something in it is stuck must not begin another run.
func TestNestedRestartOfATaskInWhichAnotherIsStuck_Promise1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		defer deaf.release()
		runs := 0
		outer := nest(t, m, func(ctx context.Context) error {
			runs++
			return deaf.run(ctx)
		}) // the stop timeout of the inner one is 1 s, that of the outer one 5 s
		synctest.Wait()
		err := outer.Restart(t.Context())
		asStuck(t, err, "inner", time.Second)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, 1, runs, "a second body beside the one that is stuck")
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// A stop of a task whose body returns that something in it is stuck must say so: it returned nil.
func TestNestedStopOfATaskInWhichAnotherIsStuckSaysSo(t *testing.T) {
	for name, stop := range map[string]func(context.Context, *taskmanager.Manager) error{
		"StopTask": func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "outer") },
		"StopAll":  func(ctx context.Context, m *taskmanager.Manager) error { return m.StopAll(ctx) },
		"Shutdown": func(ctx context.Context, m *taskmanager.Manager) error { return m.Shutdown(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				deaf := newDeafBody()
				defer deaf.release()
				nest(t, m, deaf.run)
				synctest.Wait()
				asStuck(t, stop(t.Context(), m), "inner", time.Second)
			})
		})
	}
}

// What a task says of something below it that still runs, a stop passes on: for each task, and whoever waits.
func TestNestedStopAllSaysWhatIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		below := func(name string, takes time.Duration) taskmanager.TaskFunc {
			return func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(takes)
				return errors.Join(ctx.Err(), &taskmanager.StopTimeoutError{Task: name})
			}
		}
		start(t, m, "a", below("x", 0), taskmanager.WithStopTimeout(time.Second))
		start(t, m, "b", below("y", time.Second), taskmanager.WithStopTimeout(2*time.Second))
		start(t, m, "c", slowToStop(3*time.Second))
		synctest.Wait()
		began := time.Now()
		err := m.StopAll(t.Context())
		took(t, 3*time.Second, began)
		assert.ErrorContains(t, err, `task "x"`)
		assert.ErrorContains(t, err, `task "y"`)
		assert.NotContains(t, err.Error(), `"c"`)
		assert.NoError(t, m.StopAll(t.Context()), "they have stopped")
	})
}

// nest runs body as the task "inner" of a Manager within the task "outer" of m.
func nest(t *testing.T, m *taskmanager.Manager, body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) *taskmanager.Task {
	t.Helper()
	return start(t, m, "outer", func(ctx context.Context) error {
		inner, err := taskmanager.New(taskmanager.WithContext(ctx), taskmanager.WithStopTimeout(time.Second),
			taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			return err
		}
		if _, err := inner.StartTask("inner", body); err != nil {
			return err
		}
		return inner.Run(ctx)
	}, opts...)
}

// To stop the outer task stops the inner one, which is told the same cause.
func TestNestedStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		var body causeLog
		outer := nest(t, m, func(ctx context.Context) error {
			err := body.run(ctx)
			time.Sleep(time.Second / 2)
			return err
		})
		synctest.Wait()
		began := time.Now()
		require.NoError(t, outer.Stop(t.Context()))
		took(t, time.Second/2, began)
		assert.Equal(t, []error{taskmanager.ErrStopped}, body.all())
		assert.Equal(t, taskmanager.StateStopped, outer.State())
	})
}

// While something in it is stuck the outer task must not begin again.
func TestNestedStuckTaskIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoff(0, 0))
		deaf := newDeafBody()
		runs := 0
		outer := start(t, m, "outer", func(ctx context.Context) error {
			runs++
			inner, err := taskmanager.New(taskmanager.WithContext(ctx), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
			assert.NoError(t, err)
			_, err = inner.StartTask("inner", deaf.hangInBody)
			assert.NoError(t, err)
			time.Sleep(time.Second)
			return fmt.Errorf("the inner ones: %w", errors.Join(errWhy, inner.StopAll(ctx)))
		})
		began := time.Now()
		err := outer.Wait(t.Context())
		took(t, 6*time.Second, began)
		assert.Equal(t, taskmanager.StateFailed, outer.State())
		require.NotErrorIs(t, err, taskmanager.ErrTooManyRestarts)
		require.ErrorIs(t, err, errWhy)
		stuck := asStuck(t, err, "inner", 5*time.Second)
		assert.Contains(t, string(stuck.Stack), "hangInBody")
		time.Sleep(time.Hour)
		assert.Equal(t, 1, runs)
		deaf.release()
	})
}

// An inner task that stops, restarts or shuts down what it runs in does not wait for itself.
func TestNestedTaskStopsTheOuterOne(t *testing.T) {
	for name, stop := range map[string]func(ctx context.Context, m *taskmanager.Manager) error{
		"StopTask": func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "outer") },
		"StopAll":  func(ctx context.Context, m *taskmanager.Manager) error { return m.StopAll(ctx) },
		"Shutdown": func(ctx context.Context, m *taskmanager.Manager) error { return m.Shutdown(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				began := time.Now()
				sibling := start(t, m, "sibling", slowToStop(time.Second/2))
				synctest.Wait() // stopped before its first run, it would take no time
				outer := nest(t, m, func(ctx context.Context) error {
					assert.NoError(t, stop(ctx, m))
					assert.Equal(t, name != "StopTask", sibling.State().Ended(), "the others are waited for")
					return untilStopped(ctx)
				})
				require.NoError(t, outer.Wait(t.Context()))
				if name == "StopTask" {
					took(t, 0, began)
				} else {
					took(t, time.Second/2, began)
				}
				assert.Equal(t, taskmanager.StateStopped, outer.State())
				require.NoError(t, m.StopAll(t.Context()))
			})
		})
	}
	t.Run("RestartTask", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			runs := 0
			outer := nest(t, m, func(ctx context.Context) error {
				runs++
				if runs == 1 {
					assert.NoError(t, m.RestartTask(ctx, "outer"))
					<-ctx.Done()
					assert.ErrorIs(t, context.Cause(ctx), taskmanager.ErrRestarted)
				}
				return untilStopped(ctx)
			})
			require.Equal(t, taskmanager.StateRunning, settled(outer))
			assert.Equal(t, 2, runs)
			assert.EqualValues(t, 2, outer.Stats().Runs)
			require.NoError(t, outer.Stop(t.Context()))
		})
	})
}

// The goroutines of an inner task are its own, by its label, and not those of the outer one.
func TestNestedStuckStacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		outer := nest(t, m, deaf.hangInSibling, taskmanager.WithStopTimeout(time.Second/2))
		synctest.Wait()
		stuck := asStuck(t, outer.Stop(t.Context()), "outer", time.Second/2)
		assert.Contains(t, string(stuck.Stack), "(*Manager).Run")
		assert.NotContains(t, string(stuck.Stack), "hangInSibling")
		// The inner one is stuck at its own deadline, and that does not count as a failure of a task that was stopped.
		time.Sleep(time.Second)
		require.Equal(t, taskmanager.StateStopped, settled(outer))
		assert.Zero(t, outer.Stats().Failures)
		deaf.release()
	})
}
