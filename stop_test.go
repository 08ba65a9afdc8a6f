package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
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

func TestStopWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		events := m.Subscribe(t.Context())
		var body causeLog
		task := start(t, m, "a", body.run)
		require.Equal(t, taskmanager.StateRunning, settled(task))
		time.Sleep(3 * time.Second)

		began := time.Now()
		require.NoError(t, m.StopTask(t.Context(), "a"))
		took(t, 0, began)
		assert.Equal(t, []error{taskmanager.ErrStopped}, body.all())
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.False(t, m.IsRunning("a"))
		require.NoError(t, task.Err())
		require.NoError(t, task.Wait(t.Context()))

		got := pending(events)
		require.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStopped}, kinds(got, "a"))
		assert.Equal(t, uint64(1), got[1].Run)
		assert.Equal(t, 3*time.Second, got[1].Uptime)
		require.NoError(t, got[1].Err)

		stats := task.Stats()
		assert.Equal(t, uint64(1), stats.Runs)
		assert.Zero(t, stats.Failures)
		assert.Equal(t, began.UnixNano(), stats.EndedAt.UnixNano())

		require.ErrorIs(t, m.StopTask(t.Context(), "a"), taskmanager.ErrTaskNotRunning)
		require.ErrorIs(t, task.Stop(t.Context()), taskmanager.ErrTaskNotRunning)
		require.ErrorIs(t, m.StopTask(t.Context(), "b"), taskmanager.ErrTaskNotFound)
	})
}

// A body that was asked to stop has stopped, whatever it makes of that.
func TestStopWhateverTheBodyReturns(t *testing.T) {
	own := errors.New("could not say goodbye")
	for name, c := range map[string]struct {
		end   func(ctx context.Context) error
		event error // what the event says
	}{
		"nil":         {func(context.Context) error { return nil }, nil},
		"ctx.Err":     {func(ctx context.Context) error { return ctx.Err() }, nil},
		"cause":       {context.Cause, nil},
		"own error":   {func(context.Context) error { return own }, own},
		"own panic":   {func(context.Context) error { panic(own) }, own},
		"Goexit":      {func(context.Context) error { runtime.Goexit(); return nil }, taskmanager.ErrGoexit},
		"both errors": {func(ctx context.Context) error { return errors.Join(own, errWhy) }, own},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				events := m.Subscribe(t.Context())
				task := start(t, m, "a", func(ctx context.Context) error {
					<-ctx.Done()
					return c.end(ctx)
				})
				synctest.Wait()
				require.NoError(t, m.StopTask(t.Context(), "a"))
				assert.Equal(t, taskmanager.StateStopped, task.State())
				require.NoError(t, task.Err())
				assert.Zero(t, task.Stats().Failures)
				assert.Zero(t, task.Stats().Panics)
				got := pending(events)
				require.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStopped}, kinds(got, "a"))
				if c.event == nil {
					require.NoError(t, got[1].Err)
				} else {
					require.ErrorIs(t, got[1].Err, c.event)
				}
			})
		})
	}
}

func TestStopInBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoffJitter(0))
		task := start(t, m, "a", func(context.Context) error { return errWhy })
		time.Sleep(time.Second)
		require.Equal(t, taskmanager.StateBackoff, settled(task))
		assert.True(t, m.IsRunning("a"))

		began := time.Now()
		require.NoError(t, m.StopTask(t.Context(), "a"))
		took(t, 0, began)
		assert.Equal(t, taskmanager.StateStopped, task.State())
		time.Sleep(time.Hour)
		assert.Equal(t, uint64(1), task.Stats().Runs, "no run may follow the stop")
		assert.Equal(t, uint64(1), task.Stats().Failures)
		require.ErrorIs(t, task.Stats().LastError, errWhy)
	})
}

// A task that waits for its turn under the fleet-wide limit is stopped at once, and the others don't wait for it.
func TestStopWhileWaitingForTheFleetLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithRestartLimit(0.1, 1), taskmanager.WithBackoff(0, 0))
		failOnce := func() taskmanager.TaskFunc {
			failed := false
			return func(ctx context.Context) error {
				if !failed {
					failed = true
					return errWhy
				}
				return untilStopped(ctx)
			}
		}
		tasks := make([]*taskmanager.Task, 4)
		for i := range tasks {
			tasks[i] = start(t, m, fmt.Sprint(i), failOnce())
			synctest.Wait() // so that they fail in this order
		}
		// The first has used the burst; the second one's turn is in 10 s.
		began := time.Now()
		require.NoError(t, tasks[1].Stop(t.Context()))
		require.NoError(t, tasks[2].Stop(t.Context()))
		took(t, 0, began)
		require.Equal(t, taskmanager.StateBackoff, settled(tasks[3]))
		time.Sleep(10*time.Second - 1)
		require.Equal(t, taskmanager.StateBackoff, settled(tasks[3]))
		time.Sleep(time.Millisecond) // the limiter's float arithmetic may be a nanosecond off
		require.Equal(t, taskmanager.StateRunning, settled(tasks[3]))
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// Stopped before its first run has begun, a task has no run at all.
func TestStopWhileWaiting(t *testing.T) {
	oneThread(t)
	never := 0
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			events := m.Subscribe(t.Context())
			entered := 0
			task := start(t, m, "a", func(ctx context.Context) error {
				entered++
				return untilStopped(ctx)
			})
			require.NoError(t, task.Stop(t.Context()))
			assert.Equal(t, taskmanager.StateStopped, task.State())
			got := pending(events)
			require.NotEmpty(t, got)
			last := got[len(got)-1]
			assert.Equal(t, taskmanager.EventStopped, last.Kind)
			assert.EqualValues(t, entered, last.Run)
			assert.EqualValues(t, entered, task.Stats().Runs)
			assert.Zero(t, task.Stats().Restarts)
			if entered == 0 {
				never++
			}
		})
	}
	assert.Positive(t, never, "no stop came before the first run")
}

// The run has begun, and its body has not been entered: that finds its context ended, and the stop does not wait for the log.
func TestStopBeforeTheBodyIsEntered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var body causeLog
		m := mustNew(t, slowLog("task started", func() { time.Sleep(time.Second) }))
		task := start(t, m, "a", body.run)
		require.Equal(t, taskmanager.StateRunning, settled(task))
		began := time.Now()
		assert.Empty(t, body.all())
		require.NoError(t, task.Stop(t.Context()))
		took(t, 0, began)
		assert.Equal(t, []error{taskmanager.ErrStopped}, body.all())
		assert.Equal(t, taskmanager.StateStopped, task.State())
		time.Sleep(time.Second) // the handler returns
	})
}

func TestStopTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", slowToStop(time.Second))
		synctest.Wait()
		began := time.Now()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				assert.NoError(t, m.StopTask(t.Context(), "a"))
				took(t, time.Second, began)
			})
		}
		require.Equal(t, taskmanager.StateStopping, settled(task))
		assert.True(t, m.IsRunning("a"))
		wg.Wait()
		assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStopped}, kinds(pending(events), "a"))
	})
}

// Each of two stops has its own deadline; the task becomes stuck at the first, once.
func TestStopTwiceOfAStuckTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		events := m.Subscribe(t.Context())
		body := newDeafBody()
		task := start(t, m, "a", body.run, taskmanager.WithStopTimeout(3*time.Second))
		synctest.Wait()
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			asStuck(t, m.StopTask(ctx, "a"), "a", time.Second)
			took(t, time.Second, began)
			assert.Equal(t, taskmanager.StateStuck, task.State())
		})
		wg.Go(func() {
			asStuck(t, m.StopTask(t.Context(), "a"), "a", 3*time.Second)
			took(t, 3*time.Second, began)
		})
		wg.Wait()
		// A third one comes when it is stuck already, and waits all the same: it may return yet.
		time.AfterFunc(2*time.Second, body.release)
		require.NoError(t, m.StopTask(t.Context(), "a"))
		took(t, 5*time.Second, began)
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.Equal(t, []taskmanager.EventKind{
			taskmanager.EventStarted, taskmanager.EventStuck, taskmanager.EventStopped,
		}, kinds(pending(events), "a"))
	})
}

// A task that has stopped, and runs again at the deadline that it had with others, is not one of those that are late.
func TestStopOfATaskThatRunsAgainAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		release := make(chan struct{})
		again := start(t, m, "a", untilStopped)
		start(t, m, "b", ignoring(release))
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- m.StopAll(t.Context()) }()
		require.Equal(t, taskmanager.StateStopped, settled(again))
		require.NoError(t, again.Restart(t.Context()))
		err := <-stopped
		asStuck(t, err, "b", 5*time.Second)
		require.EqualError(t, err, `taskmanager: task "b" did not stop within 5s`)
		assert.Equal(t, taskmanager.StateRunning, settled(again))
		close(release)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

func TestStopFromInsideTheTask(t *testing.T) {
	for name, stop := range map[string]func(ctx context.Context, m *taskmanager.Manager) error{
		"StopTask": func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "a") },
		"Task.Stop": func(ctx context.Context, _ *taskmanager.Manager) error {
			task, _ := taskmanager.FromContext(ctx)
			return task.Stop(ctx)
		},
		"StopAll": func(ctx context.Context, m *taskmanager.Manager) error { return m.StopAll(ctx) },
		"with a derived context": func(ctx context.Context, m *taskmanager.Manager) error {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return m.StopTask(ctx, "a")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				began := time.Now()
				var cause error
				task := start(t, m, "a", func(ctx context.Context) error {
					assert.NoError(t, stop(ctx, m))
					cause = context.Cause(ctx)
					task, _ := taskmanager.FromContext(ctx)
					assert.Equal(t, taskmanager.StateStopping, task.State())
					return nil
				})
				require.NoError(t, task.Wait(t.Context()))
				took(t, 0, began)
				require.ErrorIs(t, cause, taskmanager.ErrStopped)
				assert.Equal(t, taskmanager.StateStopped, task.State())
			})
		})
	}
}

// It does not wait for itself, but its deadline is kept.
func TestStopFromInsideATaskThatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		events := m.Subscribe(t.Context())
		body := newDeafBody()
		task := start(t, m, "a", func(ctx context.Context) error {
			assert.NoError(t, m.StopTask(ctx, "a"))
			return body.run(ctx)
		})
		time.Sleep(5*time.Second - 1)
		require.Equal(t, taskmanager.StateStopping, settled(task))
		time.Sleep(time.Nanosecond)
		require.Equal(t, taskmanager.StateStuck, settled(task))
		got := pending(events)
		require.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStuck}, kinds(got, "a"))
		asStuck(t, got[1].Err, "a", 5*time.Second)
		body.release()
		require.NoError(t, task.Wait(t.Context()))
	})
}

// The others are waited for, with the caller's context although that ends by its own wish.
func TestStopAllFromInsideATaskWaitsForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		slow := start(t, m, "slow", slowToStop(time.Second))
		stuck := start(t, m, "stuck", deaf.run, taskmanager.WithStopTimeout(2*time.Second))
		synctest.Wait()
		began := time.Now()
		caller := start(t, m, "caller", func(ctx context.Context) error {
			err := m.StopAll(ctx)
			took(t, 2*time.Second, began)
			asStuck(t, err, "stuck", 2*time.Second)
			assert.Equal(t, taskmanager.StateStopped, slow.State())
			assert.Equal(t, taskmanager.StateStuck, stuck.State())
			return err
		})
		require.NoError(t, caller.Wait(t.Context()))
		assert.Equal(t, taskmanager.StateStopped, caller.State())
		deaf.release()
		require.NoError(t, stuck.Wait(t.Context()))
		// The Manager stays usable.
		start(t, m, "caller", untilStopped)
		require.NoError(t, m.StopAll(t.Context()))
		require.NoError(t, m.StopAll(t.Context()), "nothing to stop is no error")
	})
}

func TestStopReturnsByItsDeadlineWithTheStacksOfTheTaskAlone_Promise5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		events := m.Subscribe(t.Context())
		body, child := newDeafBody(), newDeafBody()
		task := start(t, m, "deaf", func(ctx context.Context) error {
			go func() { _ = child.hangInChild() }()
			return body.hangInBody(ctx)
		})
		sibling := newDeafBody()
		start(t, m, "sibling", sibling.hangInSibling)
		synctest.Wait()
		time.Sleep(2 * time.Second)

		began := time.Now()
		err := m.StopTask(t.Context(), "deaf")
		took(t, 5*time.Second, began)
		stuck := asStuck(t, err, "deaf", 5*time.Second)
		stack := string(stuck.Stack)
		assert.Contains(t, stack, "hangInBody")
		assert.Contains(t, stack, "hangInChild")
		assert.NotContains(t, stack, "hangInSibling")
		assert.NotContains(t, stack, "testing.tRunner", "the goroutine of the test")
		assert.Equal(t, 2, strings.Count(stack, "# labels:"), "two groups of goroutines:\n%s", stack)
		assert.Contains(t, err.Error(), `task "deaf" did not stop within 5s`)

		// It is listed as stuck, and its name stays taken.
		assert.Equal(t, taskmanager.StateStuck, task.State())
		assert.Equal(t, 1, m.Stats().Stuck)
		assert.Equal(t, taskmanager.StateStuck, m.Stats().Tasks["deaf"].State)
		assert.Equal(t, 7*time.Second, task.Stats().Uptime)
		assert.True(t, m.IsRunning("deaf"))
		_, err = m.StartTask("deaf", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
		assert.Equal(t, taskmanager.StateRunning, m.Stats().Tasks["sibling"].State)

		// When it returns at last, the name is free.
		time.Sleep(time.Minute)
		body.release()
		child.release()
		require.Equal(t, taskmanager.StateStopped, settled(task))
		require.NoError(t, task.Err())
		got := pending(events)
		require.Equal(t, []taskmanager.EventKind{
			taskmanager.EventStarted, taskmanager.EventStuck, taskmanager.EventStopped,
		}, kinds(got, "deaf"))
		for _, e := range got {
			if e.Kind == taskmanager.EventStuck {
				assert.Equal(t, stuck, e.Err)
				assert.Equal(t, began.Add(5*time.Second).UnixNano(), e.Time.UnixNano())
				assert.Equal(t, 7*time.Second, e.Uptime)
				assert.Equal(t, uint64(1), e.Run)
			}
		}
		start(t, m, "deaf", untilStopped)
		sibling.release()
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// How a stop ends, by its context, for a body that never returns and for one that takes half a second.
func TestStopContexts(t *testing.T) {
	const timeout = 5 * time.Second // the default
	withTimeout := func(d time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
		return func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, d, errWhy)
		}
	}
	canceledAfter := func(d time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
		return func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			if d == 0 {
				cancel(errWhy)
			} else {
				time.AfterFunc(d, func() { cancel(errWhy) })
			}
			return ctx, func() { cancel(nil) }
		}
	}
	for name, c := range map[string]struct {
		ctx func(context.Context) (context.Context, context.CancelFunc)
		// For the body that never returns.
		takes   time.Duration
		timeout time.Duration // of the StopTimeoutError; 0: the cause of ctx instead
		stuck   time.Duration // when the task becomes stuck
	}{
		"no deadline":                   {context.WithCancel, timeout, timeout, timeout},
		"deadline before the timeout":   {withTimeout(time.Second), time.Second, time.Second, time.Second},
		"deadline at the timeout":       {withTimeout(timeout), timeout, timeout, timeout},
		"deadline after the timeout":    {withTimeout(timeout + 1), timeout, timeout, timeout},
		"deadline passed":               {withTimeout(-time.Second), 0, 0, timeout},
		"canceled at the call":          {canceledAfter(0), 0, 0, timeout},
		"canceled before the timeout":   {canceledAfter(2 * time.Second), 2 * time.Second, 0, timeout},
		"canceled after the timeout":    {canceledAfter(timeout + 1), timeout, timeout, timeout},
		"canceled just before the edge": {canceledAfter(timeout - 1), timeout - 1, 0, timeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				body := newDeafBody()
				task := start(t, m, "deaf", body.run)
				synctest.Wait()
				began := time.Now()
				ctx, cancel := c.ctx(t.Context())
				defer cancel()
				err := m.StopTask(ctx, "deaf")
				took(t, c.takes, began)
				if c.timeout > 0 {
					assert.NotEmpty(t, asStuck(t, err, "deaf", c.timeout).Stack)
				} else {
					assert.Equal(t, errWhy, err)
				}
				// It has been asked all the same, and becomes stuck at its own deadline.
				if rest := c.stuck - time.Since(began); rest > 0 {
					require.Equal(t, taskmanager.StateStopping, settled(task))
					time.Sleep(rest - 1)
					require.Equal(t, taskmanager.StateStopping, settled(task))
					time.Sleep(time.Nanosecond)
				}
				require.Equal(t, taskmanager.StateStuck, settled(task))
				body.release()
				require.Equal(t, taskmanager.StateStopped, settled(task))
			})
		})
		t.Run(name+", body returns", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const needs = time.Second / 2
				m := mustNew(t)
				task := start(t, m, "slow", slowToStop(needs))
				synctest.Wait()
				began := time.Now()
				ctx, cancel := c.ctx(t.Context())
				defer cancel()
				err := m.StopTask(ctx, "slow")
				if c.takes > needs {
					require.NoError(t, err)
					took(t, needs, began)
				} else {
					assert.Equal(t, errWhy, err)
					took(t, c.takes, began)
				}
				time.Sleep(time.Minute)
				require.Equal(t, taskmanager.StateStopped, settled(task))
			})
		})
	}
}

// Canceled at the very moment of the deadline, it returns then, with one of the two truths.
func TestStopCanceledAtItsDeadline(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			body := newDeafBody()
			task := start(t, m, "deaf", body.run)
			synctest.Wait()
			began := time.Now()
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(5*time.Second, func() { cancel(errWhy) })
			err := task.Stop(ctx)
			took(t, 5*time.Second, began)
			if !errors.Is(err, errWhy) {
				asStuck(t, err, "deaf", 5*time.Second)
			}
			require.Equal(t, taskmanager.StateStuck, settled(task))
			body.release()
		})
	}
}

// A body that returns at the very moment of the deadline may have been found stuck or not. Whoever hears that it was, hears so
// before they hear that it stopped.
func TestStopPublishesStuckBeforeStopped(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			events := m.Subscribe(t.Context())
			task := start(t, m, "a", slowToStop(5*time.Second))
			synctest.Wait()
			began := time.Now()
			err := task.Stop(t.Context())
			took(t, 5*time.Second, began)
			require.Equal(t, taskmanager.StateStopped, settled(task))
			got := kinds(pending(events), "a")[1:]
			if len(got) == 1 {
				assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStopped}, got)
				return
			}
			assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStuck, taskmanager.EventStopped}, got)
			if err != nil {
				asStuck(t, err, "a", 5*time.Second)
			}
		})
	}
}

// The same, when it takes long to say that the task is stuck: that holds up its other lines in the log, and nothing else.
func TestStopPublishesStuckBeforeStoppedWithASlowLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		slow := slowHandler{lines, "task stuck, its body does not return", func() { time.Sleep(time.Minute) }}
		m := mustNew(t, taskmanager.WithLogger(slog.New(slow)))
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", slowToStop(6*time.Second))
		synctest.Wait()
		began := time.Now()
		asStuck(t, task.Stop(t.Context()), "a", 5*time.Second)
		took(t, 5*time.Second, began)
		require.Equal(t, taskmanager.StateStuck, settled(task))
		require.NoError(t, task.Wait(t.Context()))
		took(t, 6*time.Second, began)
		require.Equal(t, taskmanager.StateStopped, settled(task), "the body has returned")
		assert.Equal(t, []taskmanager.EventKind{
			taskmanager.EventStarted, taskmanager.EventStuck, taskmanager.EventStopped,
		}, kinds(pending(events), "a"))
		time.Sleep(time.Until(began.Add(5*time.Second + time.Minute - 1)))
		assert.Equal(t, []string{"task started"}, messages(lines))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.Equal(t, []string{"task started", "task stuck, its body does not return", "task stopped"}, messages(lines))
	})
}

// A log handler that ends the goroutine on which it hears that a task is stuck does not keep the task from ending.
func TestStopOfAStuckTaskWithALogThatExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, slowLog("task stuck, its body does not return", runtime.Goexit))
		deaf := newDeafBody()
		task := start(t, m, "a", deaf.run)
		synctest.Wait()
		asStuck(t, task.Stop(t.Context()), "a", 5*time.Second)
		deaf.release()
		require.NoError(t, task.Wait(t.Context()))
		began := time.Now()
		require.NoError(t, m.Shutdown(t.Context()))
		took(t, 0, began)
	})
}

// A log handler that hangs at the end of a task holds up nobody: the task has stopped when its body has returned, and its name
// is free. What there is to log is logged when the handler returns.
func TestStopWithALogThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		lines := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(slowHandler{lines, "task stopped", func() { <-hang }})))
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", slowToStop(time.Second))
		synctest.Wait()
		began := time.Now()
		require.NoError(t, task.Stop(t.Context()))
		took(t, time.Second, began)
		assert.Equal(t, taskmanager.StateStopped, task.State())
		require.NoError(t, task.Wait(t.Context()))
		require.ErrorIs(t, task.Stop(t.Context()), taskmanager.ErrTaskNotRunning)
		require.NoError(t, task.Restart(t.Context()))
		require.Equal(t, taskmanager.StateRunning, settled(task))
		require.NoError(t, task.Stop(t.Context()))
		anew := start(t, m, "a", untilStopped)
		require.Equal(t, taskmanager.StateRunning, settled(anew))
		require.NoError(t, m.StopAll(t.Context()))
		took(t, 2*time.Second, began)
		startedAndStopped := []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStopped}
		assert.Equal(t, slices.Repeat(startedAndStopped, 3), kinds(pending(events), "a"))
		assert.Equal(t, []string{"task started", "task started"}, messages(lines), "the second one is of another task")
		close(hang)
		synctest.Wait()
		got := messages(lines)
		slices.Sort(got)
		assert.Equal(t, slices.Concat([]string{"task revived by hand"}, slices.Repeat([]string{"task started"}, 3),
			slices.Repeat([]string{"task stopped"}, 3)), got)
	})
}

// A thousand tasks, all asked at once, each with its own deadline.
func TestStopAllOfAThousandTasksWithDifferentTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tasks, timeouts = 1000, 20
		m := mustNew(t, taskmanager.WithHistory(tasks))
		timeoutOf := func(i int) time.Duration { return time.Duration(i%timeouts+1) * time.Second }
		body := newDeafBody()
		for i := range tasks {
			f := body.run
			if i/timeouts%2 == 0 { // of each timeout, every other task returns just in time
				f = slowToStop(timeoutOf(i) - 1)
			}
			start(t, m, fmt.Sprint(i), f, taskmanager.WithStopTimeout(timeoutOf(i)))
		}
		synctest.Wait()

		began := time.Now()
		var err error
		done := make(chan struct{})
		go func() {
			err = m.StopAll(t.Context())
			took(t, timeouts*time.Second, began)
			close(done)
		}()
		for s := range timeouts {
			time.Sleep(time.Until(began.Add(time.Duration(s)*time.Second + time.Second/2)))
			stats := m.Stats()
			assert.Equal(t, s*tasks/timeouts/2, stats.Stuck, "stuck after %d.5 s", s)
			assert.Equal(t, s*tasks/timeouts/2, stats.Stopped, "stopped after %d.5 s", s)
			assert.Equal(t, tasks, stats.Stuck+stats.Stopped+stats.Stopping)
		}
		<-done
		found := make(map[string]bool)
		var walk func(error)
		walk = func(err error) {
			if joined, ok := err.(interface{ Unwrap() []error }); ok {
				for _, err := range joined.Unwrap() {
					walk(err)
				}
				return
			}
			var (
				stuck *taskmanager.StopTimeoutError
				i     int
			)
			require.ErrorAs(t, err, &stuck)
			_, scanErr := fmt.Sscan(stuck.Task, &i)
			require.NoError(t, scanErr)
			assert.Equal(t, timeoutOf(i), stuck.Timeout)
			assert.Contains(t, string(stuck.Stack), fmt.Sprintf(`"task":%q`, stuck.Task))
			found[stuck.Task] = true
		}
		walk(err)
		assert.Len(t, found, tasks/2)
		body.release()
		synctest.Wait()
		assert.Equal(t, tasks, m.Stats().Stopped)
	})
}

// Contexts and timers of a run end with it.
func TestStopEndsWhatTheRunStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		var ended atomic.Int64
		task := start(t, m, "a", func(ctx context.Context) error {
			child, cancel := context.WithTimeout(ctx, time.Hour)
			context.AfterFunc(child, func() {
				defer cancel()
				ended.Add(1)
				assert.ErrorIs(t, context.Cause(child), taskmanager.ErrStopped)
			})
			return untilStopped(child)
		})
		synctest.Wait()
		require.NoError(t, task.Stop(t.Context()))
		synctest.Wait()
		assert.Equal(t, int64(1), ended.Load())
	})
}

func TestStopWithANilContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		task := start(t, m, "a", untilStopped)
		for name, call := range map[string]func(ctx context.Context) error{
			"StopTask":     func(ctx context.Context) error { return m.StopTask(ctx, "a") },
			"RestartTask":  func(ctx context.Context) error { return m.RestartTask(ctx, "a") },
			"StopAll":      m.StopAll,
			"Shutdown":     m.Shutdown,
			"Run":          m.Run,
			"Task.Stop":    task.Stop,
			"Task.Restart": task.Restart,
			"Task.Wait":    task.Wait,
		} {
			var refused *taskmanager.OptionError
			require.ErrorAs(t, call(nil), &refused, name)
			assert.Equal(t, "ctx", refused.Option)
			assert.Equal(t, taskmanager.StateRunning, settled(task), "nothing is disturbed by %s", name)
		}
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// A pastContext has a deadline that has passed, and has not noticed yet.
type pastContext struct{ context.Context }

func (pastContext) Deadline() (time.Time, bool) { return time.Now().Add(-time.Second), true }

func TestStopWithADeadlineThatHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		start(t, m, "a", deaf.run)
		synctest.Wait()
		asStuck(t, m.StopTask(pastContext{context.Background()}, "a"), "a", 0)
		deaf.release()
	})
}

// The first request to stop is the one that counts: it is what the body finds in its context, the cause of the event, and the
// error of a restart that it has overtaken. Later ones wait for the same end.
func TestStopAskedForTwiceHasTheFirstCause(t *testing.T) {
	for name, restart := range map[string]bool{"while it runs": false, "while it is restarted": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				events := m.Subscribe(t.Context())
				start(t, m, "a", func(ctx context.Context) error {
					<-ctx.Done()
					time.Sleep(time.Second)
					return context.Cause(ctx)
				})
				synctest.Wait()
				began := time.Now()
				restarted := make(chan error, 1)
				if restart {
					go func() { restarted <- m.RestartTask(t.Context(), "a") }()
					synctest.Wait()
				}
				stopped := make(chan error, 1)
				go func() { stopped <- m.StopTask(t.Context(), "a") }()
				synctest.Wait()
				require.NoError(t, m.Shutdown(t.Context()))
				took(t, time.Second, began)
				require.NoError(t, <-stopped)
				got := ofKind(taskmanager.EventStopped, pending(events))
				require.Len(t, got, 1)
				assert.Equal(t, taskmanager.ErrStopped, got[0].Cause)
				if restart {
					require.ErrorIs(t, <-restarted, taskmanager.ErrStopped)
				}
				require.NoError(t, got[0].Err, "the body says why its context has ended, and nothing else")
			})
		})
	}
}

// A stop by hand has nothing to start that could meet what is left: the task has stopped, and the stop says what is left.
func TestStopOfABodyThatLeavesSomethingRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			return &taskmanager.StopTimeoutError{Task: "below", Timeout: time.Second}
		}, critical)
		synctest.Wait()
		asStuck(t, task.Stop(t.Context()), "below", time.Second)
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.NoError(t, task.Err())
		assert.Zero(t, task.Stats().Failures)
	})
}

func TestStopOfABodyWhoseErrorsMethodsPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(context.Background())
		start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			return brokenError{}
		})
		synctest.Wait()
		require.NoError(t, m.StopTask(context.Background(), "a"))
		stopped := ofKind(taskmanager.EventStopped, received(events))
		require.Len(t, stopped, 1)
		require.ErrorAs(t, stopped[0].Err, new(brokenError))
	})
}

func TestStopIsNoFailureWhateverTheBodyDoes(t *testing.T) {
	own := errors.New("flush failed")
	tests := map[string]struct {
		body func(ctx context.Context) error
		own  string // the error of the event; "" for none
		is   error  // what that wraps
	}{
		"nil":             {body: func(context.Context) error { return nil }},
		"ctx.Err":         {body: func(ctx context.Context) error { return ctx.Err() }},
		"wrapped ctx.Err": {body: func(ctx context.Context) error { return fmt.Errorf("get: %w", ctx.Err()) }},
		"context.Cause":   {body: context.Cause},
		"DeadlineExceeded": {
			// Not why it was stopped: whatever has timed out is its own.
			body: func(context.Context) error { return context.DeadlineExceeded },
			own:  "context deadline exceeded", is: context.DeadlineExceeded,
		},
		"an error":             {body: func(context.Context) error { return own }, own: "flush failed", is: own},
		"Permanent":            {body: func(context.Context) error { return backoff.Permanent(own) }, own: "flush failed", is: own},
		"a panic":              {body: func(context.Context) error { panic(own) }, own: "taskmanager: panic: flush failed", is: own},
		"a panic with ctx.Err": {body: func(ctx context.Context) error { panic(ctx.Err()) }},
		"Goexit": {
			body: func(context.Context) error {
				runtime.Goexit()
				return nil
			},
			own: "taskmanager: body called runtime.Goexit", is: taskmanager.ErrGoexit,
		},
	}
	for title, test := range tests {
		for _, policy := range []taskmanager.RestartPolicy{taskmanager.RestartOnFailure, taskmanager.RestartNever, taskmanager.RestartAlways} {
			t.Run(fmt.Sprintf("%s/%d", title, policy), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t)
					events := m.Subscribe(context.Background())
					task := start(t, m, "a", func(ctx context.Context) error {
						<-ctx.Done()
						time.Sleep(time.Second) // it cleans up
						return test.body(ctx)
					}, taskmanager.WithRestart(policy))
					time.Sleep(time.Minute)
					begin := time.Now()
					require.NoError(t, m.StopTask(context.Background(), "a"))
					assert.Equal(t, time.Second, time.Since(begin))

					stats := task.Stats()
					assert.Equal(t, taskmanager.StateStopped, stats.State)
					assert.Zero(t, stats.Failures)
					assert.Zero(t, stats.Panics)
					require.NoError(t, stats.LastError)
					require.NoError(t, task.Err())
					require.NoError(t, task.Wait(context.Background()))

					got := received(events)
					require.Len(t, got, 2)
					stopped := got[1]
					assert.Equal(t, taskmanager.EventStopped, stopped.Kind)
					assert.Equal(t, taskmanager.ErrStopped, stopped.Cause)
					assert.Equal(t, time.Minute+time.Second, stopped.Uptime)
					if test.own == "" {
						require.NoError(t, stopped.Err)
					} else {
						require.EqualError(t, stopped.Err, test.own)
						require.ErrorIs(t, stopped.Err, test.is)
					}
					time.Sleep(24 * time.Hour)
					assert.EqualValues(t, 1, task.Stats().Runs)
				})
			})
		}
	}
}

// What waits leaves nothing behind when it gives up waiting. Each stop of a stuck task takes a dump, which looks at all goroutines that
// the process has ever had at once: after a test with 30,000 it takes twenty times as long as in a process of its own. The heap varies
// by some 8 kB, whatever the number of calls.
func TestStopOfAStuckTaskLeavesNothing_Promise2(t *testing.T) {
	const inner = "TASKMANAGER_TEST_STUCK"
	if os.Getenv(inner) == "" {
		output, err := again(t, inner).CombinedOutput()
		assert.NoError(t, err, "%s", output)
		return
	}
	for title, test := range map[string]struct {
		calls int
		call  func(ctx context.Context, m *taskmanager.Manager) error
	}{
		"StopTask":             {300, func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "stuck") }},
		"RestartTask":          {300, func(ctx context.Context, m *taskmanager.Manager) error { return m.RestartTask(ctx, "stuck") }},
		"StopAll of a hundred": {100, func(ctx context.Context, m *taskmanager.Manager) error { return m.StopAll(ctx) }},
		"Wait": {3000, func(ctx context.Context, m *taskmanager.Manager) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			task, _ := m.Lookup("stuck")
			return task.Wait(ctx)
		}},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, taskmanager.WithStopTimeout(time.Millisecond))
				body := newDeafBody()
				stuck := start(t, m, "stuck", body.run)
				synctest.Wait()
				body2 := newDeafBody()
				if test.calls == 100 {
					for i := range 99 {
						start(t, m, fmt.Sprint("t", i), body2.run)
					}
					synctest.Wait()
				}
				require.Error(t, m.StopAll(t.Context()))
				call := func() { assert.Error(t, test.call(t.Context(), m)) }
				for range 10 {
					call()
				}
				grown := heapOf(func() {
					for range test.calls {
						call()
					}
				})
				assert.Less(t, grown/int64(test.calls), int64(100), "bytes for each call")
				body.release()
				body2.release()
				require.NoError(t, stuck.Wait(t.Context()))
			})
		})
	}
}

// What a body says beside the cause of its stop is kept, however it is joined with that, or looks like it; and what is
// nothing but the cause is not taken for more.
func TestStopKeepsTheBodysOwnError(t *testing.T) {
	own := errors.New("300 rows lost")
	inner := func() error { // of a context that has nothing to do with the task's
		ctx, cancel := context.WithTimeout(context.Background(), 0)
		defer cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	stops := map[string]struct {
		ask   func(m *taskmanager.Manager, endParent context.CancelCauseFunc) error
		cause error
	}{
		"StopTask": {func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
			return m.StopTask(context.Background(), "a")
		}, taskmanager.ErrStopped},
		"RestartTask": {func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
			return m.RestartTask(context.Background(), "a")
		}, taskmanager.ErrRestarted},
		"Shutdown": {func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
			return m.Shutdown(context.Background())
		}, taskmanager.ErrShutdown},
		"the end of the parent context": {func(_ *taskmanager.Manager, endParent context.CancelCauseFunc) error {
			endParent(errBoom)
			return nil
		}, errBoom},
	}
	for title, test := range map[string]struct {
		err  func(ctx context.Context) error
		own  error  // what the event's error is
		text string // what the line has, "" for no error; %v is the cause
	}{
		"nothing":                    {func(context.Context) error { return nil }, nil, ""},
		"Err":                        {func(ctx context.Context) error { return ctx.Err() }, nil, ""},
		"the cause":                  {context.Cause, nil, ""},
		"the cause, wrapped":         {func(ctx context.Context) error { return fmt.Errorf("poll: %w", context.Cause(ctx)) }, nil, ""},
		"both":                       {func(ctx context.Context) error { return errors.Join(ctx.Err(), context.Cause(ctx)) }, nil, ""},
		"an own one":                 {func(context.Context) error { return own }, own, "300 rows lost"},
		"joined with Err":            {func(ctx context.Context) error { return errors.Join(ctx.Err(), own) }, own, "context canceled\n300 rows lost"},
		"joined with the cause":      {func(ctx context.Context) error { return errors.Join(own, context.Cause(ctx)) }, own, "300 rows lost\n%v"},
		"wrapped together with Err":  {func(ctx context.Context) error { return fmt.Errorf("%w: %w", ctx.Err(), own) }, own, "context canceled: 300 rows lost"},
		"permanent":                  {func(context.Context) error { return backoff.Permanent(own) }, own, "300 rows lost"},
		"the deadline of an inner":   {func(context.Context) error { return inner() }, context.DeadlineExceeded, "context deadline exceeded"},
		"that deadline, wrapped":     {func(context.Context) error { return fmt.Errorf("flush: %w", inner()) }, context.DeadlineExceeded, "flush: context deadline exceeded"},
		"another one's cause":        {func(context.Context) error { return taskmanager.ErrWatchdog }, taskmanager.ErrWatchdog, "taskmanager: no heartbeat in time"},
		"one that claims to be both": {func(context.Context) error { return claimingError{own} }, own, "claims"},
	} {
		for how, stop := range stops {
			t.Run(title+", after "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log logBook
					parent, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					m := newManager(t, log.option(), taskmanager.WithContext(parent))
					events := m.Subscribe(t.Context())
					first := true
					task := start(t, m, "a", func(ctx context.Context) error {
						<-ctx.Done()
						if !first {
							return nil
						}
						first = false
						return test.err(ctx)
					})
					synctest.Wait()
					require.NoError(t, stop.ask(m, cancel))
					got := ofKind(taskmanager.EventStopped, pending(events))
					require.Len(t, got, 1)
					assert.Equal(t, stop.cause, got[0].Cause)
					err := got[0].Err
					if how == "RestartTask" {
						require.ErrorIs(t, err, taskmanager.ErrRestarted)
					} else if test.own == nil {
						require.NoError(t, err)
					}
					if test.own != nil {
						require.ErrorIs(t, err, test.own)
					}
					lines := log.lines(t, "task stopped")
					require.Len(t, lines, 1)
					cause := stop.cause.Error()
					if cause == errBoom.Error() {
						cause = "parent context: " + cause
					}
					assert.Equal(t, cause, lines[0]["cause"])
					if test.text == "" {
						assert.NotContains(t, lines[0], "error")
						assert.Equal(t, "INFO", lines[0]["level"])
					} else {
						assert.Equal(t, "WARN", lines[0]["level"])
						want := test.text
						if title == "joined with the cause" {
							want = fmt.Sprintf(want, stop.cause)
						}
						assert.Equal(t, want, lines[0]["error"])
					}
					assert.Zero(t, task.Stats().Failures)
					require.NoError(t, task.Err())
				})
			})
		}
	}
}

// Of a run that was canceled because it was late, and then stopped, the error says that it was late.
func TestStopOfALateRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(2 * time.Second)
			return context.Cause(ctx)
		}, taskmanager.WithWatchdog(time.Minute))
		time.Sleep(time.Minute + time.Second)
		require.NoError(t, task.Stop(t.Context()))
		stopped := ofKind(taskmanager.EventStopped, pending(events))
		require.Len(t, stopped, 1)
		require.ErrorIs(t, stopped[0].Err, taskmanager.ErrWatchdog)
		assert.Equal(t, taskmanager.ErrStopped, stopped[0].Cause)
	})
}

// A claimingError says of itself that it is whatever it is asked for.
type claimingError struct{ error }

func (claimingError) Error() string { return "claims" }

func (claimingError) Is(error) bool { return true }

func (e claimingError) Unwrap() error { return e.error }

// A context of the user's own may say that its deadline has passed, and have none, or a later one: it has ended, and is not waited
// beyond.
func TestStopWithAContextThatClaimsItsDeadline(t *testing.T) {
	for name, of := range map[string]func(ctx context.Context) (context.Context, context.CancelFunc){
		"without a deadline": func(ctx context.Context) (context.Context, context.CancelFunc) { return ctx, func() {} },
		"with a later one": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 30*time.Minute)
		},
	} {
		for what, stop := range map[string]func(m *taskmanager.Manager, ctx context.Context) error{
			"StopTask": func(m *taskmanager.Manager, ctx context.Context) error { return m.StopTask(ctx, "a") },
			"StopAll":  func(m *taskmanager.Manager, ctx context.Context) error { return m.StopAll(ctx) },
		} {
			t.Run(name+"/"+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t, taskmanager.WithStopTimeout(time.Hour))
					start(t, m, "a", slowToStop(40*time.Minute))
					start(t, m, "b", slowToStop(40*time.Minute), dependsOn("a"))
					synctest.Wait()
					done := make(chan struct{})
					ctx, cancel := of(unhurriedContext{t.Context(), done})
					defer cancel()
					time.AfterFunc(time.Second, func() { close(done) })
					began := time.Now()
					require.ErrorIs(t, stop(m, ctx), context.DeadlineExceeded)
					assert.Less(t, time.Since(began), 10*time.Second, "it takes its time to say that it has ended")
				})
			})
		}
	}
}
