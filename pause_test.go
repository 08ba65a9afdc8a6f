package taskmanager_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A paused task executes nothing, has no goroutine, keeps its name and its counts, and goes on when it is resumed.
func TestPauseAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		events := m.Subscribe(t.Context())
		idle := goroutines()
		var body causeLog
		task := start(t, m, "a", body.run)
		synctest.Wait()
		done := task.Done()
		for i := range 3 {
			began := time.Now()
			require.NoError(t, m.PauseTask(t.Context(), "a"))
			took(t, 0, began)
			assert.Equal(t, taskmanager.StatePaused, task.State())
			assert.Equal(t, idle, goroutines(), "a paused task has none")
			time.Sleep(time.Hour)
			s := task.Stats()
			assert.EqualValues(t, i+1, s.Runs)
			assert.False(t, s.Ready)
			assert.Zero(t, s.Failures)
			assert.Zero(t, s.Uptime)
			assert.Zero(t, s.NextRunAt)
			assert.Zero(t, s.EndedAt)
			assert.True(t, m.IsRunning("a"), "it has not ended")
			_, err := m.StartTask("a", body.run)
			require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
			require.NoError(t, task.Err())
			require.NoError(t, m.PauseTask(t.Context(), "a"), "it is")
			require.NoError(t, m.ResumeTask("a"))
			assert.Equal(t, taskmanager.StateRunning, settled(task))
			assert.Equal(t, time.Now().UnixNano(), task.Stats().RunStartedAt.UnixNano())
		}
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, done, task.Done(), "it did not end in between")
		assert.Equal(t, []error{taskmanager.ErrPaused, taskmanager.ErrPaused, taskmanager.ErrPaused, taskmanager.ErrStopped}, body.all())
		const started, paused, resumed = taskmanager.EventStarted, taskmanager.EventPaused, taskmanager.EventResumed
		got := pending(events)
		assert.Equal(t, []taskmanager.EventKind{
			started, paused, resumed, started, paused, resumed, started, paused, resumed, started, taskmanager.EventStopped,
		}, kinds(got, "a"))
		assert.Equal(t, taskmanager.ErrPaused, got[1].Cause)
		assert.EqualValues(t, 1, got[1].Run)
		require.NoError(t, got[1].Err)
		assert.EqualValues(t, 1, got[2].Run)
		assert.NoError(t, got[2].Cause)
	})
}

// What the body returns is no failure: it was asked to. What it says besides is kept, and is a warning in the log.
func TestPauseWhateverTheBodyReturns(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(ctx context.Context) error
		says error
	}{
		"nil":              {func(context.Context) error { return nil }, nil},
		"the cause":        {context.Cause, nil},
		"context.Canceled": {func(ctx context.Context) error { return fmt.Errorf("read: %w", ctx.Err()) }, nil},
		"an error":         {func(context.Context) error { return errWhy }, errWhy},
		"for good":         {func(context.Context) error { return backoff.Permanent(errWhy) }, errWhy},
		"a panic":          {func(context.Context) error { panic(errWhy) }, errWhy},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
				events := m.Subscribe(t.Context())
				task := start(t, m, "a", func(ctx context.Context) error {
					<-ctx.Done()
					time.Sleep(time.Second)
					return test.end(ctx)
				}, once())
				synctest.Wait()
				require.NoError(t, task.Pause(t.Context()))
				assert.Zero(t, task.Stats().Failures)
				e := pending(events)[1]
				assert.Equal(t, taskmanager.EventPaused, e.Kind)
				assert.Equal(t, time.Second, e.Uptime)
				synctest.Wait()
				line := lines.about("task paused")
				require.Len(t, line, 1)
				if test.says == nil {
					require.NoError(t, e.Err)
					assert.Equal(t, "INFO task paused | task=a run=1 cause=taskmanager: task was paused by hand caller=TestPauseWhateverTheBodyReturns.func6.1(pause_test.go) uptime=1s", line[0])
				} else {
					require.ErrorIs(t, e.Err, test.says)
					assert.Contains(t, line[0], "WARN task paused")
				}
				require.NoError(t, task.Resume())
				assert.Equal(t, taskmanager.StateRunning, settled(task))
			})
		})
	}
}

// From wherever the task is: it is paused, at once where no body executes, and who has waited for a restart hears of it.
func TestPauseInEachState(t *testing.T) {
	paused := func(t *testing.T, task *taskmanager.Task) {
		t.Helper()
		began := time.Now()
		require.NoError(t, task.Pause(t.Context()))
		took(t, 0, began)
		runs := task.Stats().Runs
		time.Sleep(time.Hour)
		assert.Equal(t, taskmanager.StatePaused, task.State())
		assert.Equal(t, runs, task.Stats().Runs)
		require.NoError(t, task.Resume())
		assert.NotEqual(t, taskmanager.StatePaused, settled(task))
	}
	t.Run("waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", untilStopped, dependsOn("b"))
			assert.Equal(t, taskmanager.StateWaiting, settled(task))
			paused(t, task)
			assert.Equal(t, taskmanager.StateWaiting, settled(task), "until what it depends on is ready")
			start(t, m, "b", untilStopped)
			assert.Equal(t, taskmanager.StateRunning, settled(task))
		})
	})
	t.Run("in backoff", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, exact()...)
			task := start(t, m, "a", failAt(0))
			assert.Equal(t, taskmanager.StateBackoff, settled(task))
			idle := goroutines()
			paused(t, task)
			assert.Equal(t, taskmanager.StateRunning, settled(task), "it does not wait for its delay any more")
			assert.Equal(t, idle, goroutines())
			assert.EqualValues(t, 1, task.Stats().Failures)
			assert.ErrorIs(t, task.Stats().LastError, errBoom)
		})
	})
	t.Run("waiting for a turn of the limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, taskmanager.WithRestartLimit(0.001, 1), taskmanager.WithBackoff(0, 0))
			task := start(t, m, "a", failAt(0, 0))
			assert.Equal(t, taskmanager.StateBackoff, settled(task))
			paused(t, task)
			assert.Equal(t, taskmanager.StateRunning, settled(task))
		})
	})
	t.Run("judged by a policy that hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			events := m.Subscribe(t.Context())
			release := make(chan struct{})
			defer close(release)
			task := start(t, m, "a", failAt(0), taskmanager.WithBackOffPolicy(func() backoff.BackOff {
				return policyFunc(func() time.Duration { <-release; return backoff.Stop })
			}))
			assert.Equal(t, taskmanager.StateBackoff, settled(task))
			paused(t, task)
			assert.Equal(t, taskmanager.StateRunning, settled(task))
			assert.Equal(t, []taskmanager.EventKind{
				taskmanager.EventStarted, taskmanager.EventFailed, taskmanager.EventPaused, taskmanager.EventResumed, taskmanager.EventStarted,
			}, kinds(pending(events), "a"))
		})
	})
	t.Run("restarting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", slowToStop(2*time.Second))
			synctest.Wait()
			restarted := make(chan error, 1)
			go func() { restarted <- task.Restart(t.Context()) }()
			time.Sleep(time.Second)
			began := time.Now()
			require.NoError(t, task.Pause(t.Context()))
			took(t, time.Second, began)
			err := <-restarted
			require.ErrorIs(t, err, taskmanager.ErrPaused)
			require.EqualError(t, err, `taskmanager: the restart of task "a" was superseded by a pause: taskmanager: task was paused by hand`)
			assert.EqualValues(t, 1, task.Stats().Runs)
		})
	})
	t.Run("overdue", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			events := m.Subscribe(t.Context())
			task := start(t, m, "a", slowToStop(4*time.Second), taskmanager.WithWatchdog(time.Second))
			time.Sleep(2 * time.Second)
			assert.Equal(t, taskmanager.StateStopping, settled(task))
			require.NoError(t, task.Pause(t.Context()))
			assert.Zero(t, task.Stats().Failures)
			e := ofKind(taskmanager.EventPaused, pending(events))
			require.Len(t, e, 1)
			require.ErrorIs(t, e[0].Err, taskmanager.ErrWatchdog)
			assert.Equal(t, taskmanager.StatePaused, task.State())
		})
	})
	t.Run("stuck after a missed heartbeat", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", slowToStop(9*time.Second), taskmanager.WithWatchdog(time.Second), taskmanager.WithCritical())
			time.Sleep(7 * time.Second)
			assert.Equal(t, taskmanager.StateStuck, settled(task))
			assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
			require.NoError(t, task.Pause(t.Context()))
			assert.Equal(t, taskmanager.StatePaused, task.State())
			assert.Equal(t, taskmanager.HealthDegraded, m.Health().State)
		})
	})
	t.Run("stopping", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", slowToStop(2*time.Second))
			synctest.Wait()
			go func() { _ = task.Stop(context.Background()) }()
			time.Sleep(time.Second)
			began := time.Now()
			err := task.Pause(t.Context())
			took(t, 0, began)
			require.ErrorIs(t, err, taskmanager.ErrStopped)
			require.ErrorContains(t, err, "is being stopped")
			time.Sleep(2 * time.Second)
			assert.Equal(t, taskmanager.StateStopped, task.State())
		})
	})
	t.Run("stuck", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			b := newDeafBody()
			task := start(t, m, "a", b.hangInBody)
			synctest.Wait()
			require.Error(t, task.Stop(t.Context()))
			began := time.Now()
			err := task.Pause(t.Context())
			took(t, 0, began)
			asStuck(t, err, "a", 5*time.Second)
			b.release()
			assert.Equal(t, taskmanager.StateStopped, settled(task))
		})
	})
	t.Run("ended", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			for name, body := range map[string]taskmanager.TaskFunc{"completed": func(context.Context) error { return nil }, "failed": boom} {
				task := start(t, m, name, body, once())
				synctest.Wait()
				require.ErrorIs(t, m.PauseTask(t.Context(), name), taskmanager.ErrTaskNotRunning)
				require.ErrorIs(t, task.Resume(), taskmanager.ErrTaskNotPaused)
				assert.Equal(t, name, task.State().String())
			}
		})
	})
}

// A body that does not return in time is stuck, and paused when it returns at last. Nobody else's pause is refused meanwhile.
func TestPauseThatTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		events := m.Subscribe(t.Context())
		b := newDeafBody()
		task := start(t, m, "a", b.hangInBody)
		synctest.Wait()
		began := time.Now()
		err := task.Pause(t.Context())
		took(t, 5*time.Second, began)
		stuck := asStuck(t, err, "a", 5*time.Second)
		assert.Contains(t, string(stuck.Stack), "hangInBody")
		assert.Equal(t, taskmanager.StateStuck, task.State())
		asStuck(t, task.Restart(t.Context()), "a", 5*time.Second)
		require.EqualError(t, task.Resume(), `taskmanager: task is not paused: "a" is still being paused (stuck)`)
		again := make(chan error, 1)
		go func() { again <- task.Pause(context.Background()) }()
		time.Sleep(time.Second)
		b.release()
		require.NoError(t, <-again)
		assert.Equal(t, taskmanager.StatePaused, task.State())
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, []taskmanager.EventKind{
			taskmanager.EventStarted, taskmanager.EventStuck, taskmanager.EventPaused, taskmanager.EventStopped,
		}, kinds(pending(events), "a"))
	})
}

// Of two pauses both are done; a stop wins over a pause, whichever was first.
func TestPauseAndAnotherCallAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		task := start(t, m, "a", slowToStop(2*time.Second))
		synctest.Wait()
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- task.Pause(context.Background()) }()
		}
		time.Sleep(time.Second)
		require.ErrorIs(t, task.Restart(t.Context()), taskmanager.ErrPaused)
		require.EqualError(t, task.Resume(), `taskmanager: task is not paused: "a" is still being paused (stopping)`)
		require.NoError(t, <-errs)
		require.NoError(t, <-errs)
		require.NoError(t, task.Resume())
		require.EqualError(t, task.Resume(), `taskmanager: task is not paused: "a" is waiting`)
		synctest.Wait()

		go func() { errs <- task.Pause(context.Background()) }()
		time.Sleep(time.Second)
		require.NoError(t, task.Stop(t.Context()))
		err := <-errs
		require.ErrorIs(t, err, taskmanager.ErrStopped)
		require.EqualError(t, err, `taskmanager: the pause of task "a" was superseded by a stop: taskmanager: task was stopped by hand`)
		assert.Equal(t, taskmanager.StateStopped, task.State())
	})
}

// A restart by hand is a wish that it runs.
func TestPauseEndsWithARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
		task := start(t, m, "a", untilStopped)
		synctest.Wait()
		require.NoError(t, task.Pause(t.Context()))
		began := time.Now()
		require.NoError(t, task.Restart(t.Context()))
		took(t, 0, began)
		assert.Equal(t, taskmanager.StateRunning, task.State(), "the run has begun")
		synctest.Wait()
		assert.Equal(t, []string{
			"INFO task paused | task=a run=1 cause=taskmanager: task was paused by hand caller=TestPauseEndsWithARestart.func1(pause_test.go)",
			"INFO task resumed | task=a run=1 caller=TestPauseEndsWithARestart.func1(pause_test.go)",
		}, lines.got())
	})
}

// Whatever stops all tasks stops those that are paused.
func TestPauseEndsWithAStop(t *testing.T) {
	for name, stop := range map[string]func(m *taskmanager.Manager, endParent context.CancelCauseFunc) error{
		"StopTask": func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
			return m.StopTask(context.Background(), "a")
		},
		"StopAll":    func(m *taskmanager.Manager, _ context.CancelCauseFunc) error { return m.StopAll(context.Background()) },
		"Shutdown":   func(m *taskmanager.Manager, _ context.CancelCauseFunc) error { return m.Shutdown(context.Background()) },
		"the parent": func(_ *taskmanager.Manager, end context.CancelCauseFunc) error { end(errWhy); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				parent, endParent := context.WithCancelCause(context.Background())
				m := mustNew(t, taskmanager.WithContext(parent), taskmanager.WithLogger(slog.New(lines)))
				events := m.Subscribe(t.Context())
				task := start(t, m, "a", untilStopped)
				synctest.Wait()
				require.NoError(t, task.Pause(t.Context()))
				began := time.Now()
				require.NoError(t, stop(m, endParent))
				assert.Equal(t, taskmanager.StateStopped, settled(task))
				took(t, 0, began)
				require.NoError(t, task.Wait(t.Context()))
				assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventPaused, taskmanager.EventStopped}, kinds(pending(events), "a"))
				assert.Len(t, lines.about("task stopped"), 1)
				require.ErrorIs(t, task.Pause(t.Context()), taskmanager.ErrTaskNotRunning)
				if name == "StopTask" || name == "StopAll" {
					require.ErrorIs(t, task.Resume(), taskmanager.ErrTaskNotPaused)
					require.NoError(t, task.Restart(t.Context()))
					assert.Equal(t, taskmanager.StateRunning, settled(task))
					require.NoError(t, task.Stop(t.Context()))
				} else {
					require.ErrorIs(t, task.Resume(), taskmanager.ErrManagerClosed)
				}
				endParent(nil)
			})
		})
	}
}

// Who depends on a paused task runs on, and waits for it before the next run; the log warns of that.
func TestPauseOfADependency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelWarn)
		m := newManager(t, append(exact(), taskmanager.WithLogger(slog.New(lines)))...)
		task := start(t, m, "db", untilStopped)
		synctest.Wait()
		dependent := start(t, m, "api", failAt(time.Minute), dependsOn("db"))
		synctest.Wait()
		require.NoError(t, task.Pause(t.Context()))
		synctest.Wait()
		assert.Equal(t, []string{"WARN task was paused, though others depend on it | task=db dependents=api"}, lines.got())
		assert.Equal(t, taskmanager.StateRunning, dependent.State())
		time.Sleep(time.Hour)
		assert.Equal(t, taskmanager.StateWaiting, settled(dependent))
		assert.Equal(t, `waiting for "db" (paused)`, dependent.Stats().Status)
		require.NoError(t, task.Resume())
		assert.Equal(t, taskmanager.StateRunning, settled(dependent))
	})
}

// A task that waits for one that was given up is paused: it is not gone any more, nor are those that wait for it. Resumed, it is.
func TestPauseOfADoomedTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "a", boom, once())
		synctest.Wait()
		b := start(t, m, "b", untilStopped, dependsOn("a"), taskmanager.WithCritical())
		start(t, m, "c", untilStopped, dependsOn("b"), taskmanager.WithCritical())
		synctest.Wait()
		assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
		require.NoError(t, b.Pause(t.Context()))
		synctest.Wait()
		assert.Equal(t, taskmanager.HealthDegraded, m.Health().State)
		require.NoError(t, b.Resume())
		synctest.Wait()
		assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
		r, cancel := goRun(t, m)
		defer cancel()
		require.Error(t, r.err(t, 0))
	})
}

// Health says that a task is paused, last of all, and is as ready as without it. Who asks for the task itself hears that it is not.
func TestPauseInHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		task := start(t, m, "a", failAt(0, 0), taskmanager.WithCritical(), taskmanager.WithReadiness(time.Minute), taskmanager.WithMaxRestarts(2))
		time.Sleep(3 * time.Second)
		require.NoError(t, task.Pause(t.Context()))
		problem := taskmanager.HealthProblem{Task: "a", Critical: true, State: taskmanager.StatePaused, Reason: taskmanager.HealthPaused}
		assert.Equal(t, taskmanager.Health{
			State: taskmanager.HealthDegraded, Ready: true, Problems: []taskmanager.HealthProblem{problem},
		}, m.Health())
		assert.Equal(t, taskmanager.Health{
			State: taskmanager.HealthDegraded, Problems: []taskmanager.HealthProblem{problem},
		}, m.HealthOf("a"))
		start(t, m, "b", untilStopped, dependsOn("a"))
		synctest.Wait()
		h := m.Health()
		require.Len(t, h.Problems, 2)
		assert.Equal(t, "b", h.Problems[0].Task, "the other reasons are worse")
		s := m.Stats()
		assert.Equal(t, 1, s.Paused)
		assert.Contains(t, s.String(), "(1 paused, 1 waiting)")
	})
}

// A group is paused as any task is: its run ends. And a task of a group does not stand in the way of its readiness while it is paused.
func TestPauseOfAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var causes causeLog
		begun := 0
		task := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			begun++
			_, err := g.StartTask("a", causes.run)
			return err
		}, silently()))
		synctest.Wait()
		require.NoError(t, task.Pause(t.Context()))
		assert.Equal(t, []error{taskmanager.ErrPaused}, causes.all())
		time.Sleep(time.Hour)
		assert.Equal(t, 1, begun)
		require.NoError(t, task.Resume())
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		assert.Equal(t, 2, begun)
	})
}

func TestPauseOfATaskOfAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var inner *taskmanager.Manager
		start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			inner = g
			_, err := g.StartTask("a", untilStopped, taskmanager.WithReadiness(time.Hour))
			return err
		}, silently()))
		begun := dependent(t, m)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NoError(t, inner.PauseTask(t.Context(), "a"))
		time.Sleep(time.Minute)
		assert.Equal(t, time.Minute, begun(), "nothing stands in the way of the group")
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A body that pauses its own task does not wait for itself; it is stuck if it does not return.
func TestPauseFromTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
		task := start(t, m, "a", func(ctx context.Context) error {
			if err := m.PauseTask(ctx, "a"); err != nil {
				return err
			}
			assert.Equal(t, taskmanager.ErrPaused, context.Cause(ctx))
			time.Sleep(6 * time.Second)
			return nil
		})
		assert.Equal(t, taskmanager.StateStopping, settled(task))
		time.Sleep(5 * time.Second)
		assert.Equal(t, taskmanager.StateStuck, settled(task))
		time.Sleep(time.Second)
		assert.Equal(t, taskmanager.StatePaused, settled(task))
		line := lines.about("task stuck")
		require.Len(t, line, 1)
		assert.Contains(t, line[0], "by=a caller=")
	})
}

// Who leaves has asked all the same, and leaves nothing behind.
func TestPauseIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", slowToStop(2*time.Second))
		synctest.Wait()
		idle := goroutines()
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errWhy) })
		require.ErrorIs(t, task.Pause(ctx), errWhy)
		time.Sleep(time.Second)
		assert.Equal(t, taskmanager.StatePaused, settled(task))
		assert.Equal(t, idle-1, goroutines())
		require.NoError(t, task.Pause(ctx), "there is nothing to wait for")
	})
}

// What has been started below and still executes is met by no later run.
func TestPauseOfWhatLeavesSomethingRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("below: %w", &taskmanager.StopTimeoutError{Task: "b"})
		})
		synctest.Wait()
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, task.Pause(t.Context()), &gaveUp)
		assert.Equal(t, taskmanager.GaveUpLeftRunning, gaveUp.Reason)
		assert.Equal(t, taskmanager.StateFailed, task.State())
	})
}

func TestPauseOfAnUnknownTask(t *testing.T) {
	m := newManager(t)
	require.ErrorIs(t, m.PauseTask(t.Context(), "a"), taskmanager.ErrTaskNotFound)
	require.ErrorIs(t, m.ResumeTask("a"), taskmanager.ErrTaskNotFound)
	start(t, m, "a", untilStopped)
	var refused *taskmanager.OptionError
	require.ErrorAs(t, m.PauseTask(noContext, "a"), &refused)
	require.EqualError(t, (*taskmanager.Manager)(nil).ResumeTask("a"), "taskmanager: Manager was not made by New")
	require.Error(t, new(taskmanager.Manager).PauseTask(t.Context(), "a"))
}
