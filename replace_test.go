package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// The old body is asked to stop, the new one runs as soon as it has returned, and the handle is that of both.
func TestReplaceTaskWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(log)))
		events := m.Subscribe(t.Context())
		var former, latter causeLog
		entered := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if entered++; entered == 1 {
				return errBoom
			}
			taskmanager.SetStatus(ctx, "former")
			return former.run(ctx)
		}, taskmanager.WithBackoff(0, 0), critical)
		time.Sleep(time.Minute)
		require.EqualValues(t, 2, task.Stats().Runs)
		end := task.Done()
		ended := make(chan error, 1)
		go func() { ended <- task.Wait(t.Context()) }()
		synctest.Wait()

		began := time.Now()
		got, err := m.ReplaceTask(t.Context(), "a", latter.run, taskmanager.WithMaxRestarts(7))
		require.NoError(t, err)
		took(t, 0, began)
		assert.Same(t, task, got)
		require.NoError(t, <-ended, "the end of the life of the old body is no failure")
		<-end
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		stats := task.Stats()
		assert.EqualValues(t, 1, stats.Runs)
		assert.Zero(t, stats.Failures)
		require.NoError(t, stats.LastError)
		assert.Empty(t, stats.Status)
		assert.False(t, stats.Critical)
		assert.Equal(t, began.UnixNano(), stats.StartedAt.UnixNano())
		assert.EqualValues(t, 3, m.Stats().Runs, "the Manager's counts go on")
		assert.EqualValues(t, 1, m.Stats().Failures)
		select {
		case <-task.Done():
			assert.Fail(t, "the life of the new body has not ended")
		default:
		}
		found, _ := m.Lookup("a")
		assert.Same(t, task, found)

		require.NoError(t, task.Restart(t.Context()))
		assert.EqualValues(t, 2, task.Stats().Runs)
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, []error{taskmanager.ErrReplaced}, former.all())
		assert.Equal(t, []error{taskmanager.ErrRestarted, taskmanager.ErrStopped}, latter.all())
		var told []string
		for _, e := range pending(events) {
			told = append(told, fmt.Sprint(e.Kind, " ", e.Run, " ", e.MaxRestarts, " ", e.Cause))
		}
		assert.Equal(t, []string{
			"started 1 5 <nil>", "failed 1 5 <nil>", "started 2 5 <nil>", "recovered 2 5 <nil>", "stopped 2 5 taskmanager: task was replaced",
			"started 1 7 <nil>", "stopped 1 7 taskmanager: task was restarted by hand",
			"started 2 7 <nil>", "stopped 2 7 taskmanager: task was stopped by hand",
		}, told)
		assert.Contains(t, messages(log), "task replaced by hand")
	})
}

// What the old body returns beside the cause is told, and is no failure.
func TestReplaceTaskWhateverTheBodyReturns(t *testing.T) {
	for _, end := range ends() {
		if end.title == "a stuck task of a nested Manager" {
			continue
		}
		t.Run(end.title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, once())
				events := m.Subscribe(t.Context())
				task := start(t, m, "a", func(ctx context.Context) error {
					<-ctx.Done()
					return end.body()
				})
				synctest.Wait()
				_, err := m.ReplaceTask(t.Context(), "a", untilStopped)
				require.NoError(t, err)
				assert.Equal(t, taskmanager.StateRunning, settled(task))
				assert.Zero(t, task.Stats().Failures)
				stopped := ofKind(taskmanager.EventStopped, pending(events))
				require.Len(t, stopped, 1)
				require.ErrorIs(t, stopped[0].Err, taskmanager.ErrReplaced)
				assert.Equal(t, taskmanager.ErrReplaced, stopped[0].Cause)
				if end.is != nil && end.is != context.Canceled { //nolint:errorlint // the value itself, which says no more than the cause
					require.ErrorIs(t, stopped[0].Err, end.is)
				}
			})
		})
	}
}

// In each state of a task.
func TestReplaceTaskIn(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		come  func(t *testing.T, m *taskmanager.Manager) // "a" gets there; nil: it is unknown
		state taskmanager.State
		takes time.Duration
		fresh bool // it is another Task than before
	}{
		"unknown": {fresh: true},
		"waiting": {state: taskmanager.StateWaiting, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", boom, dependsOn("nobody"), critical)
		}},
		"waiting for one that was given up": {state: taskmanager.StateWaiting, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "gone", boom, once())
			start(t, m, "a", boom, dependsOn("gone"), critical)
		}},
		"before its first run": {state: taskmanager.StateWaiting, come: func(t *testing.T, m *taskmanager.Manager) {
			oneThread(t)
			start(t, m, "a", boom)
		}},
		"running, slow to stop": {state: taskmanager.StateRunning, takes: 3 * s, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", slowToStop(3*s))
			synctest.Wait()
		}},
		"backoff": {state: taskmanager.StateBackoff, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", boom, taskmanager.WithBackoff(time.Hour, time.Hour))
			synctest.Wait()
		}},
		"judged": {state: taskmanager.StateBackoff, come: func(t *testing.T, m *taskmanager.Manager) {
			hang := func() time.Duration {
				time.Sleep(time.Hour)
				return 0
			}
			start(t, m, "a", boom, taskmanager.WithBackOffPolicy(func() backoff.BackOff { return policyFunc(hang) }))
			synctest.Wait()
		}},
		"overdue": {state: taskmanager.StateStopping, takes: 2 * s, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", slowToStop(3*s), taskmanager.WithWatchdog(s))
			time.Sleep(2 * s)
		}},
		"overdue, and stuck before the replacement is": {state: taskmanager.StateStopping, takes: 4 * s, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", slowToStop(7*s), taskmanager.WithWatchdog(s), critical)
			time.Sleep(4 * s)
		}},
		"restarting": {state: taskmanager.StateStopping, takes: 2 * s, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", slowToStop(3*s))
			synctest.Wait()
			go func() { assert.NoError(t, m.RestartTask(t.Context(), "a")) }()
			time.Sleep(s)
		}},
		"cooling": {state: taskmanager.StatePaused, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", boom, once(), taskmanager.WithCooldown(time.Hour))
			synctest.Wait()
		}},
		"completed": {state: taskmanager.StateCompleted, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", func(context.Context) error { return nil })
			start(t, m, "another", untilStopped, dependsOn("a"))
			synctest.Wait()
		}},
		"failed": {state: taskmanager.StateFailed, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", boom, once(), critical)
			synctest.Wait()
		}},
		"stopped": {state: taskmanager.StateStopped, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", untilStopped)
			require.NoError(t, m.StopTask(t.Context(), "a"))
		}},
		"stopped, and forgotten": {fresh: true, come: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", untilStopped)
			require.NoError(t, m.StopTask(t.Context(), "a"))
			for i := range 200 {
				name := fmt.Sprint(i)
				start(t, m, name, untilStopped)
				require.NoError(t, m.StopTask(t.Context(), name))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				if test.come != nil {
					test.come(t, m)
				}
				before, known := m.Lookup("a")
				require.Equal(t, !test.fresh, known)
				if known {
					require.Equal(t, test.state, before.State())
				}
				needs := start(t, m, "needs", untilStopped, dependsOn("a"))
				if name != "before its first run" {
					synctest.Wait()
				}

				began := time.Now()
				task, err := m.ReplaceTask(t.Context(), "a", untilStopped, critical)
				require.NoError(t, err)
				took(t, test.takes, began)
				if known {
					assert.Same(t, before, task)
				}
				assert.Equal(t, taskmanager.StateRunning, settled(task))
				stats := task.Stats()
				assert.EqualValues(t, 1, stats.Runs)
				assert.Zero(t, stats.Failures)
				assert.Equal(t, taskmanager.StateRunning, settled(needs))
				assert.Equal(t, taskmanager.Health{Ready: true}, m.HealthOf("a"))
				r, cancel := goRun(t, m)
				r.lives(t)
				cancel()
				require.NoError(t, r.err(t, 0))
				time.Sleep(2 * time.Hour) // what was in user code comes back
			})
		})
	}
}

// The name is taken at each moment, and no two bodies execute at once.
func TestReplaceTaskNeverFreesTheName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", slowToStop(3*time.Second))
		synctest.Wait()
		returned := make(chan struct{})
		go func() {
			defer close(returned)
			_, err := m.ReplaceTask(t.Context(), "a", untilStopped)
			assert.NoError(t, err)
		}()
		for range 3 {
			synctest.Wait()
			assert.Equal(t, taskmanager.StateStopping, task.State())
			assert.True(t, m.IsRunning("a"))
			_, err := m.StartTask("a", untilStopped)
			require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
			time.Sleep(time.Second)
		}
		<-returned
		_, err := m.StartTask("a", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
	})
}

// Of several replacements the last that was asked for counts, and all of them have succeeded.
func TestReplaceTaskTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", slowToStop(3*time.Second))
		synctest.Wait()
		returned := make(chan error)
		for i := range 3 {
			go func() {
				_, err := m.ReplaceTask(t.Context(), "a", func(ctx context.Context) error {
					taskmanager.SetStatus(ctx, "%d", i)
					return untilStopped(ctx)
				})
				returned <- err
			}()
			time.Sleep(time.Second / 2)
		}
		began := time.Now()
		for range 3 {
			require.NoError(t, <-returned)
		}
		took(t, 3*time.Second/2, began)
		synctest.Wait()
		assert.Equal(t, "2", task.Stats().Status)
		assert.EqualValues(t, 1, task.Stats().Runs)
	})
}

// A restart that meets a replacement has the new body's run.
func TestReplaceTaskAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 { // either may come first
			m := mustNew(t)
			task := start(t, m, "a", slowToStop(time.Second))
			synctest.Wait()
			began := time.Now()
			restarted := make(chan struct{})
			go func() {
				defer close(restarted)
				assert.NoError(t, task.Restart(t.Context()))
				assert.Equal(t, taskmanager.StateRunning, task.State())
			}()
			_, err := m.ReplaceTask(t.Context(), "a", untilStopped)
			require.NoError(t, err)
			<-restarted
			took(t, time.Second, began)
			assert.EqualValues(t, 1, task.Stats().Runs)
			require.NoError(t, m.StopAll(t.Context()))
			took(t, time.Second, began)
		}
	})
}

// A stop wins over a replacement, whichever came first.
func TestReplaceTaskAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		var latter causeLog
		task := start(t, m, "a", slowToStop(3*time.Second))
		synctest.Wait()
		replaced := make(chan error, 2)
		go func() {
			_, err := m.ReplaceTask(t.Context(), "a", latter.run)
			replaced <- err
		}()
		time.Sleep(time.Second)
		go func() { assert.NoError(t, task.Stop(t.Context())) }()
		synctest.Wait()
		_, err := m.ReplaceTask(t.Context(), "a", latter.run)
		require.EqualError(t, err, `taskmanager: task "a" is being stopped: taskmanager: task was stopped by hand`)
		err = <-replaced
		require.EqualError(t, err, `taskmanager: the replacement of task "a" was superseded by a stop: taskmanager: task was stopped by hand`)
		require.ErrorIs(t, err, taskmanager.ErrStopped)
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.Empty(t, latter.all())

		require.NoError(t, task.Restart(t.Context()), "with the body that it had")
		synctest.Wait()
		began := time.Now()
		require.NoError(t, task.Stop(t.Context()))
		took(t, 3*time.Second, began)
	})
}

// One that is paused stays so, with the other body. A pause wins over a replacement, and one that is being paused is not replaced.
func TestReplaceTaskAndPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		m := newManager(t)
		task := start(t, m, "a", slowToStop(2*s))
		synctest.Wait()
		replaced := make(chan error)
		go func() {
			_, err := m.ReplaceTask(t.Context(), "a", untilStopped)
			replaced <- err
		}()
		time.Sleep(s)
		go func() { assert.NoError(t, task.Pause(t.Context())) }()
		synctest.Wait()
		_, err := m.ReplaceTask(t.Context(), "a", untilStopped)
		require.EqualError(t, err, `taskmanager: task "a" is being paused: taskmanager: task was paused by hand`)
		err = <-replaced
		require.EqualError(t, err, `taskmanager: the replacement of task "a" was superseded by a pause: taskmanager: task was paused by hand`)
		require.ErrorIs(t, err, taskmanager.ErrPaused)
		assert.Equal(t, taskmanager.StatePaused, settled(task))

		end, began := task.Done(), time.Now()
		_, err = m.ReplaceTask(t.Context(), "a", untilStopped)
		require.NoError(t, err)
		<-end
		took(t, 0, began)
		assert.Equal(t, taskmanager.StatePaused, settled(task))
		assert.Zero(t, task.Stats().Runs)
		require.NoError(t, task.Resume())
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		require.NoError(t, task.Stop(t.Context()))
		took(t, 0, began)
	})
}

// A body that does not return fails the replacement, and whoever waits for it; the task stops when it returns at last.
func TestReplaceTaskOfADeafBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		events := m.Subscribe(t.Context())
		deaf := newDeafBody()
		task := start(t, m, "a", deaf.hangInBody, critical)
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		other := make(chan error)
		go func() {
			time.Sleep(time.Second)
			_, err := m.ReplaceTask(t.Context(), "a", untilStopped)
			other <- err
		}()
		_, err := m.ReplaceTask(ctx, "a", untilStopped)
		took(t, 2*time.Second, began)
		stuck := asStuck(t, err, "a", 2*time.Second)
		assert.Contains(t, string(stuck.Stack), "hangInBody")
		assert.Equal(t, taskmanager.StateStuck, task.State())
		_, err = m.ReplaceTask(t.Context(), "a", untilStopped)
		asStuck(t, err, "a", 2*time.Second)
		assert.Equal(t, taskmanager.HealthFailing, m.Health().State)

		deaf.release()
		require.EqualError(t, <-other, `taskmanager: the replacement of task "a" has failed with another one: `+
			"taskmanager: task was replaced, and its body did not return in time")
		assert.Equal(t, taskmanager.StateStopped, settled(task))
		stopped := ofKind(taskmanager.EventStopped, pending(events))
		require.Len(t, stopped, 1)
		require.ErrorIs(t, stopped[0].Cause, taskmanager.ErrReplaced)
		require.NotErrorIs(t, stopped[0].Err, taskmanager.ErrReplaced, "it does not go on")
		assert.Equal(t, taskmanager.HealthOK, m.Health().State)
		_, err = m.ReplaceTask(t.Context(), "a", untilStopped)
		require.NoError(t, err)
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// One that is late, and that is to be replaced, has until the deadline of that.
func TestReplaceTaskThatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		task := start(t, m, "a", deaf.hangInBody, critical, taskmanager.WithWatchdog(time.Second))
		r, cancel := goRun(t, m)
		defer cancel()
		time.Sleep(3 * time.Second)
		replaced := make(chan error)
		go func() {
			_, err := m.ReplaceTask(t.Context(), "a", untilStopped)
			replaced <- err
		}()
		synctest.Wait()
		health := m.Health()
		require.Len(t, health.Problems, 1)
		assert.Equal(t, taskmanager.HealthHeartbeatOverdue, health.Problems[0].Reason)
		time.Sleep(4 * time.Second)
		assert.Equal(t, taskmanager.StateStuck, settled(task))
		r.lives(t)
		_, err := m.ReplaceTask(t.Context(), "a", untilStopped)
		asStuck(t, err, "a", 5*time.Second)
		asStuck(t, <-replaced, "a", 5*time.Second)
		asStuck(t, r.err(t, 13*time.Second), "a", 5*time.Second) // 8 s, and the 5 s in which it does not stop
		deaf.release()
		assert.Equal(t, taskmanager.StateStopped, settled(task))
	})
}

// A context that is canceled ends the wait, not the replacement; one that was done is as for StopTask.
func TestReplaceTaskWithACanceledContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", slowToStop(3*time.Second))
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errWhy) })
		began := time.Now()
		_, err := m.ReplaceTask(ctx, "a", slowToStop(3*time.Second))
		require.Equal(t, errWhy, err)
		took(t, time.Second, began)
		assert.Equal(t, taskmanager.StateStopping, task.State())
		time.Sleep(2 * time.Second)
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		assert.EqualValues(t, 1, task.Stats().Runs)

		_, err = m.ReplaceTask(ctx, "a", untilStopped)
		require.Equal(t, errWhy, err)
		took(t, 3*time.Second, began)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		began = time.Now()
		require.NoError(t, task.Stop(t.Context()))
		took(t, 0, began)
	})
}

// A task that replaces itself is asked, and not waited for.
func TestReplaceTaskFromItsOwnBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var latter causeLog
		replaced := make(chan error, 1)
		task := start(t, m, "a", func(ctx context.Context) error {
			got, err := m.ReplaceTask(ctx, "a", latter.run)
			replaced <- err
			<-ctx.Done()
			assert.Equal(t, taskmanager.ErrReplaced, context.Cause(ctx))
			assert.Same(t, mustTask(t, ctx), got)
			return nil
		})
		require.NoError(t, <-replaced)
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		assert.EqualValues(t, 1, task.Stats().Runs)
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, []error{taskmanager.ErrStopped}, latter.all())
	})
}

// Two that replace each other wait for neither.
func TestReplaceTaskEachOther(t *testing.T) {
	for name, waits := range map[string]func(ctx context.Context) context.Context{
		"until they are replaced": func(ctx context.Context) context.Context { return ctx },
		"whatever is asked":       context.WithoutCancel,
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			other := func(name string) taskmanager.TaskFunc {
				return func(ctx context.Context) error {
					time.Sleep(time.Second)
					_, err := m.ReplaceTask(waits(ctx), name, untilStopped)
					if err != nil {
						assert.ErrorIs(t, err, taskmanager.ErrReplaced)
					}
					<-ctx.Done()
					return nil
				}
			}
			a, b := start(t, m, "a", other("b")), start(t, m, "b", other("a"))
			began := time.Now()
			time.Sleep(time.Second)
			assert.Equal(t, taskmanager.StateRunning, settled(a), name)
			assert.Equal(t, taskmanager.StateRunning, settled(b), name)
			took(t, time.Second, began)
		})
	}
}

// What is refused disturbs nobody.
func TestReplaceTaskRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var former causeLog
		task := start(t, m, "a", former.run)
		start(t, m, "b", untilStopped, dependsOn("a"))
		synctest.Wait()
		ctx := t.Context()
		replace := func(ctx context.Context, name string, body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) error {
			got, err := m.ReplaceTask(ctx, name, body, opts...)
			assert.Nil(t, got)
			return err
		}
		for want, err := range map[string]error{
			"taskmanager: ctx <nil>: must not be nil":                                        replace(nil, "a", untilStopped),
			`taskmanager: name "": must have 1 to 255 bytes, and has 0`:                      replace(ctx, "", untilStopped),
			"taskmanager: body <nil>: must not be nil":                                       replace(ctx, "a", nil),
			"taskmanager: opts[0] <nil>: must not be nil":                                    replace(ctx, "a", untilStopped, nil),
			"taskmanager: WithMaxRestarts(-2): must be 0 or more, or Unlimited":              replace(ctx, "a", untilStopped, taskmanager.WithMaxRestarts(-2)),
			`taskmanager: WithDependsOn("a"): makes a cycle: "a" -> "a"`:                     replace(ctx, "a", untilStopped, dependsOn("a")),
			`taskmanager: WithDependsOn("nobody", "b"): makes a cycle: "a" -> "b" -> "a"`:    replace(ctx, "a", untilStopped, dependsOn("nobody", "b")),
			"taskmanager: WithBackOffPolicy(func): returned nil":                             replace(ctx, "a", untilStopped, taskmanager.WithBackOffPolicy(func() backoff.BackOff { return nil })),
			"taskmanager: WithBackOffPolicy(func): panicked: boom":                           replace(ctx, "a", untilStopped, taskmanager.WithBackOffPolicy(func() backoff.BackOff { panic("boom") })),
			`taskmanager: WithDependsOn("\x00"): "\x00" must not contain control characters`: replace(ctx, "a", untilStopped, dependsOn("\x00")),
			"taskmanager: WithDependsOn(\"new\"): makes a cycle: \"new\" -> \"new\"":         replace(ctx, "new", untilStopped, dependsOn("new")),
		} {
			var refused *taskmanager.OptionError
			if assert.ErrorAs(t, err, &refused, want) {
				assert.EqualError(t, err, want)
			}
		}
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		assert.Empty(t, former.all())
		assert.EqualValues(t, 1, task.Stats().Runs)
		_, ok := m.Lookup("new")
		assert.False(t, ok)

		require.NoError(t, m.Shutdown(ctx))
		require.ErrorIs(t, replace(ctx, "a", untilStopped), taskmanager.ErrManagerClosed)
		require.ErrorIs(t, replace(ctx, "new", untilStopped), taskmanager.ErrManagerClosed)
		_, err := (*taskmanager.Manager)(nil).ReplaceTask(ctx, "a", untilStopped)
		require.EqualError(t, err, "taskmanager: Manager was not made by New")
	})
}

// After the end of the parent context nothing is replaced.
func TestReplaceTaskAfterTheEndOfTheParent(t *testing.T) {
	endOfTheParent(t, func(t *testing.T, p *parentThatEnds) {
		m := mustNew(t, taskmanager.WithContext(p.ctx))
		task := start(t, m, "a", slowToStop(time.Second))
		synctest.Wait()
		p.end()
		_, err := m.ReplaceTask(t.Context(), "a", untilStopped)
		require.Error(t, err)
		require.NoError(t, task.Wait(t.Context()))
		assert.Equal(t, taskmanager.StateStopped, task.State())
	})
}

// The dependencies are those of the new options from then on, for whoever stops, waits or remembers.
func TestReplaceTaskChangesDependencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		m := newManager(t, taskmanager.WithHistory(0))
		log := newStopLog()
		start(t, m, "a", log.body(s))
		start(t, m, "b", log.body(s))
		c := start(t, m, "c", log.body(s), dependsOn("a"))
		synctest.Wait()

		start(t, m, "job", func(context.Context) error { return nil })
		_, ok := m.Lookup("job")
		for ; ok; _, ok = m.Lookup("job") {
			synctest.Wait()
		}
		_, err := m.ReplaceTask(t.Context(), "a", log.body(s), dependsOn("c"))
		require.EqualError(t, err, `taskmanager: WithDependsOn("c"): makes a cycle: "a" -> "c" -> "a"`)
		_, err = m.ReplaceTask(t.Context(), "c", log.body(s), dependsOn("b", "job"))
		require.NoError(t, err)
		assert.Equal(t, taskmanager.StateWaiting, settled(c))
		assert.Equal(t, []string{"b", "job"}, c.Stats().DependsOn)
		start(t, m, "job", func(context.Context) error { return nil })
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, c.State())
		_, ok = m.Lookup("job")
		assert.True(t, ok, "it has completed, and is remembered for c")

		_, err = m.ReplaceTask(t.Context(), "a", log.body(s), dependsOn("c"))
		require.NoError(t, err, "c does not depend on a any more")
		synctest.Wait()
		log.begin()
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, times{"a": 0, "c": s, "b": 2 * s}, log.times())
		_, ok = m.Lookup("job")
		assert.False(t, ok, "nobody needs it any more")
	})
}

// A task that is started meanwhile may make a cycle of the new dependencies. Then the old body goes on.
func TestReplaceTaskWithACycleSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var former causeLog
		task := start(t, m, "a", func(ctx context.Context) error {
			defer time.Sleep(time.Second)
			return former.run(ctx)
		})
		end := task.Done()
		synctest.Wait()
		replaced := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := m.ReplaceTask(t.Context(), "a", untilStopped, dependsOn("b"))
				replaced <- err
			}()
		}
		synctest.Wait()
		start(t, m, "b", untilStopped, dependsOn("a"))
		for range 2 {
			err := <-replaced
			require.EqualError(t, err, `taskmanager: WithDependsOn("b"): makes a cycle: "a" -> "b" -> "a"`)
		}
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		assert.EqualValues(t, 2, task.Stats().Runs)
		assert.Equal(t, end, task.Done(), "the life goes on")
		assert.Empty(t, task.Stats().DependsOn)
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, []error{taskmanager.ErrReplaced, taskmanager.ErrStopped}, former.all())
	})
}

// Readiness, watchdog, policy and what a group is are those of the new body.
func TestReplaceTaskChangesOptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		m := newManager(t, exact()...)
		task := start(t, m, "a", untilStopped)
		needs := start(t, m, "needs", failAfter(s), dependsOn("a"))
		replace := func(body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) {
			t.Helper()
			_, err := m.ReplaceTask(t.Context(), "a", body, opts...)
			require.NoError(t, err)
			synctest.Wait()
		}
		replace(readyAfter(5*s), taskmanager.WithReadiness(10*s))
		time.Sleep(4 * s)
		assert.Equal(t, taskmanager.StateRunning, task.State())
		assert.False(t, task.Stats().Ready)
		assert.Equal(t, taskmanager.StateWaiting, needs.State())
		time.Sleep(s)
		synctest.Wait()
		assert.True(t, task.Stats().Ready)
		assert.Equal(t, taskmanager.StateRunning, needs.State())

		replace(untilStopped, taskmanager.WithWatchdog(s))
		time.Sleep(s + s/2)
		require.ErrorIs(t, task.Stats().LastError, taskmanager.ErrWatchdog)

		policy := &script{delays: []time.Duration{3 * s, time.Hour}}
		replace(boom, policy.option())
		assert.Equal(t, 3*s, time.Until(task.Stats().NextRunAt))

		replace(taskmanager.Group(func(g *taskmanager.Manager) error {
			_, err := g.StartTask("b", readyAfter(s), taskmanager.WithReadiness(time.Minute))
			return err
		}))
		assert.False(t, task.Stats().Ready)
		time.Sleep(s)
		synctest.Wait()
		assert.True(t, task.Stats().Ready)
		assert.Len(t, task.Stats().Group.Tasks, 1)

		replace(boom)
		assert.Nil(t, task.Stats().Group)
		assert.EqualValues(t, 1, task.Stats().Failures)
		assert.Equal(t, s, time.Until(task.Stats().NextRunAt))
	})
}

// The end of the parent stops what ReplaceTask has started, though nobody has watched for it before.
func TestReplaceTaskAndThenTheParentEnds(t *testing.T) {
	for name, before := range map[string]func(m *taskmanager.Manager) error{
		"of an unknown name": func(*taskmanager.Manager) error { return nil },
		"of one that has ended": func(m *taskmanager.Manager) error {
			task, err := m.StartTask("a", succeed)
			if err != nil {
				return err
			}
			return task.Wait(context.Background())
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			parent, end := context.WithCancelCause(context.Background())
			m := newManager(t, taskmanager.WithContext(parent))
			require.NoError(t, before(m), name)
			synctest.Wait()
			task, err := m.ReplaceTask(t.Context(), "a", untilStopped)
			require.NoError(t, err)
			end(errWhy)
			require.NoError(t, task.Wait(t.Context()))
			assert.Equal(t, taskmanager.StateStopped, task.State(), name)
		})
	}
}

// One that has never failed has nothing to recover from when it has been replaced.
func TestReplaceTaskOfOneThatHasNotFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", func(ctx context.Context) error {
			if run, _ := taskmanager.RunFromContext(ctx); run == 1 {
				return nil
			}
			return untilStopped(ctx)
		}, taskmanager.WithRestart(taskmanager.RestartAlways))
		time.Sleep(time.Minute)
		require.EqualValues(t, 2, task.Stats().Runs)
		_, err := m.ReplaceTask(t.Context(), "a", untilStopped)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		assert.NotContains(t, kinds(pending(events), "a"), taskmanager.EventRecovered)
	})
}

// A policy is made once for each life, by the call that begins it.
func TestReplaceTaskMakesThePolicyOnce(t *testing.T) {
	for name, body := range map[string]taskmanager.TaskFunc{"running": untilStopped, "in backoff": boom, "completed": succeed} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, exact()...)
			start(t, m, "a", body)
			synctest.Wait()
			made := 0
			task, err := m.ReplaceTask(t.Context(), "a", boom, taskmanager.WithBackOffPolicy(func() backoff.BackOff {
				made++
				return backoff.NewConstantBackOff(time.Second)
			}))
			require.NoError(t, err)
			time.Sleep(2500 * time.Millisecond)
			assert.EqualValues(t, 3, task.Stats().Runs, name)
			assert.Equal(t, 1, made, name)
		})
	}
}

// Nothing of the old body is in the way of the new one: not the time after which a run of it was healthy, nor its passes.
func TestReplaceTaskForgetsTheOldBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", failAt(0), taskmanager.WithHealthyAfter(time.Hour))
		time.Sleep(time.Minute)
		_, err := m.ReplaceTask(t.Context(), "a", untilStopped, taskmanager.WithHealthyAfter(time.Second))
		require.NoError(t, err)
		time.Sleep(time.Second)
		synctest.Wait()
		all := kinds(pending(events), "a")
		assert.Equal(t, taskmanager.EventRecovered, all[len(all)-1])

		_, err = m.ReplaceTask(t.Context(), "a", taskmanager.Every(time.Hour, succeed))
		require.NoError(t, err)
		synctest.Wait()
		assert.EqualValues(t, 1, task.Stats().Passes.Begun)
		_, err = m.ReplaceTask(t.Context(), "a", untilStopped)
		require.NoError(t, err)
		synctest.Wait()
		assert.Nil(t, task.Stats().Passes)
		require.Error(t, m.TriggerTask("a"))
	})
}

// What the old body has left executing is never met by the new one.
func TestReplaceTaskThatLeavesSomething(t *testing.T) {
	left := &taskmanager.StopTimeoutError{Task: "inner", Timeout: time.Second}
	for name, err := range map[string]error{
		"known":   left,
		"unknown": askedError{},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				events := m.Subscribe(t.Context())
				if name == "unknown" {
					err = leavingError{left}
				}
				task := start(t, m, "a", func(ctx context.Context) error {
					<-ctx.Done()
					return err
				})
				synctest.Wait()
				entered := false
				_, got := m.ReplaceTask(t.Context(), "a", func(context.Context) error {
					entered = true
					return nil
				})
				assert.Equal(t, taskmanager.StateFailed, settled(task))
				assert.False(t, entered)
				var gaveUp *taskmanager.GiveUpError
				if name == "known" {
					require.ErrorAs(t, got, &gaveUp)
				} else {
					require.NoError(t, got, "it is known when the other body has the task")
					require.ErrorAs(t, task.Err(), &gaveUp)
				}
				assert.Equal(t, taskmanager.GaveUpLeftRunning, gaveUp.Reason)
				told := ofKind(taskmanager.EventGaveUp, pending(events))
				require.Len(t, told, 1)
				assert.EqualValues(t, 1, told[0].Run, "the run that it is about")
				assert.EqualValues(t, 1, m.Stats().Failures)
			})
		})
	}
}

// A leavingError wraps an error, as only its method knows.
type leavingError struct{ err error }

func (leavingError) Error() string { return "left" }

func (e leavingError) As(target any) bool { return errors.As(e.err, target) }

// A policy of the new options that does not come back disturbs nobody.
func TestReplaceTaskWhilePolicy(t *testing.T) {
	for name, trap := range map[string]func(m *taskmanager.Manager){
		"hangs": func(*taskmanager.Manager) { time.Sleep(time.Hour) },
		"exits": func(*taskmanager.Manager) { runtime.Goexit() },
		"calls back": func(m *taskmanager.Manager) {
			_, err := m.ReplaceTask(context.Background(), "a", untilStopped)
			if err != nil {
				panic(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				task := start(t, m, "a", untilStopped)
				var over bool
				go func() {
					defer func() { over = true }()
					_, _ = m.ReplaceTask(t.Context(), "a", untilStopped, taskmanager.WithBackOffPolicy(func() backoff.BackOff {
						trap(m)
						return &backoff.ZeroBackOff{}
					}))
				}()
				synctest.Wait()
				assert.Equal(t, name != "hangs", over)
				assert.Equal(t, taskmanager.StateRunning, task.State())
				began := time.Now()
				require.NoError(t, m.StopAll(t.Context()))
				took(t, 0, began)
				time.Sleep(time.Hour)
			})
		})
	}
}

// That the new limit can't be used up is said in the log.
func TestReplaceTaskWarnsOfALimitThatIsUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLines(slog.LevelWarn)
		m := newManager(t, taskmanager.WithLogger(slog.New(log)))
		start(t, m, "a", untilStopped)
		synctest.Wait()
		_, err := m.ReplaceTask(t.Context(), "a", untilStopped, taskmanager.WithBackoff(time.Minute, time.Minute))
		require.NoError(t, err)
		synctest.Wait()
		assert.Len(t, log.about("can never be given up"), 1)
	})
}

// Nothing is left of many replacements.
func TestReplaceTaskLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", untilStopped)
		synctest.Wait()
		before := goroutines()
		replace := func() {
			for range 10_000 {
				_, err := m.ReplaceTask(t.Context(), "a", untilStopped, dependsOn())
				require.NoError(t, err)
			}
		}
		replace()
		assert.Less(t, heapOf(replace), int64(1<<20), "bytes after 10,000 replacements")
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		assert.Equal(t, before, goroutines())
	})
}

func TestStopTasks(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		log := newStopLog()
		chain(t, m, func(string) taskmanager.TaskFunc { return log.body(s) })
		start(t, m, "over", func(context.Context) error { return nil })
		synctest.Wait()
		log.begin()
		began := time.Now()
		err := m.StopTasks(t.Context(), "e", "a", "unknown", "b", "over", "a")
		took(t, 2*s, began)
		require.ErrorIs(t, err, taskmanager.ErrTaskNotFound)
		require.ErrorIs(t, err, taskmanager.ErrTaskNotRunning)
		require.EqualError(t, err, "taskmanager: task not found: \"unknown\"\ntaskmanager: task is not running: \"over\"")
		assert.Equal(t, times{"b": 0, "e": 0, "a": s}, log.times())
		assert.Equal(t, taskmanager.ErrStopped, log.cause("a"))
		assert.True(t, m.IsRunning("c"))

		require.NoError(t, m.StopTasks(t.Context()))
		require.Error(t, m.StopTasks(noContext, "c"))
		assert.True(t, m.IsRunning("c"))
		deaf := newDeafBody()
		start(t, m, "deaf", deaf.run)
		synctest.Wait()
		began = time.Now()
		asStuck(t, m.StopTasks(t.Context(), "deaf", "c"), "deaf", 5*s)
		took(t, 5*s, began)
		assert.False(t, m.IsRunning("c"))
		deaf.release()
		synctest.Wait()
		require.EqualError(t, (*taskmanager.Manager)(nil).StopTasks(t.Context(), "a"), "taskmanager: Manager was not made by New")
	})
}

// A body may stop others and itself.
func TestStopTasksFromABodyOfOneOfThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "b", slowToStop(time.Second))
		synctest.Wait()
		a := start(t, m, "a", func(ctx context.Context) error {
			return m.StopTasks(ctx, "a", "b")
		})
		began := time.Now()
		require.NoError(t, a.Wait(t.Context()))
		took(t, time.Second, began)
		assert.Equal(t, taskmanager.StateStopped, a.State())
		assert.False(t, m.IsRunning("b"))
	})
}

func TestRestartFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		n, err := m.RestartFailed(t.Context())
		require.NoError(t, err)
		assert.Zero(t, n)

		broken := true
		fails := func(ctx context.Context) error {
			if broken {
				return errBoom
			}
			return untilStopped(ctx)
		}
		for i := range 100 {
			start(t, m, fmt.Sprint(i), fails, once())
		}
		start(t, m, "completed", func(context.Context) error { return nil })
		require.NoError(t, start(t, m, "stopped", untilStopped).Stop(t.Context()))
		needs := start(t, m, "needs", untilStopped, dependsOn("7", "8"), critical)
		bad := start(t, m, "bad", boom, once(), taskmanager.WithBackOffPolicy(func() backoff.BackOff {
			if broken {
				return &backoff.ZeroBackOff{}
			}
			return nil
		}))
		running := start(t, m, "running", untilStopped)
		start(t, m, "cooling", fails, once(), taskmanager.WithCooldown(time.Hour))
		require.NoError(t, start(t, m, "paused", untilStopped).Pause(t.Context()))
		synctest.Wait()
		assert.Equal(t, 101, m.Stats().Failed)

		broken = false
		n, err = m.RestartFailed(t.Context())
		require.EqualError(t, err, `taskmanager: WithBackOffPolicy(func): returned nil: "bad"`)
		assert.Equal(t, 101, n)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateFailed, bad.State())
		assert.Equal(t, taskmanager.StateRunning, needs.State())
		assert.EqualValues(t, 1, running.Stats().Runs)
		stats := m.Stats()
		assert.Equal(t, []int{103, 1, 1, 1, 1}, []int{stats.Running, stats.Paused, stats.Failed, stats.Completed, stats.Stopped})

		_, err = m.RestartFailed(noContext)
		require.Error(t, err)
		require.NoError(t, m.Shutdown(t.Context()))
		_, err = (*taskmanager.Manager)(nil).RestartFailed(t.Context())
		require.EqualError(t, err, "taskmanager: Manager was not made by New")
	})
}

// A group that waits for a task to be ready is ready as soon as that is replaced by one for which it need not wait.
func TestReplaceTaskForWhichAGroupWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		inner := make(chan *taskmanager.Manager, 1)
		group := start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("a", untilStopped, taskmanager.WithReadiness(time.Minute))
			inner <- m
			return err
		}), taskmanager.WithReadiness(time.Minute))
		synctest.Wait()
		require.False(t, group.Stats().Ready)
		_, err := (<-inner).ReplaceTask(t.Context(), "a", untilStopped, dependsOn("nobody"))
		require.NoError(t, err)
		synctest.Wait()
		assert.True(t, group.Stats().Ready)
	})
}

// In a Manager that is closed, nothing that was given up runs again.
func TestRestartFailedInAManagerThatIsClosed(t *testing.T) {
	refused := func(t *testing.T, m *taskmanager.Manager, reasons ...string) {
		t.Helper()
		n, err := m.RestartFailed(t.Context())
		assert.Zero(t, n)
		require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
		assert.ElementsMatch(t, reasons, strings.Split(err.Error(), "\n"))
	}
	t.Run("Shutdown", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			start(t, m, "cooling", failAfter(time.Second), once(), taskmanager.WithCooldown(time.Hour))
			start(t, m, "dependent", slowToStop(time.Second), dependsOn("cooling"))
			start(t, m, "failed", boom, once())
			time.Sleep(2 * time.Second)
			go func() { assert.NoError(t, m.Shutdown(context.Background())) }()
			synctest.Wait()
			require.Equal(t, 1, m.Stats().Paused, "its turn to stop has not come")
			refused(t, m, `taskmanager: manager is closed: "cooling"`, `taskmanager: manager is closed: "failed"`)
			time.Sleep(time.Second)
			synctest.Wait()
			assert.Equal(t, 2, m.Stats().Stopped)
		})
	})
	t.Run("end of the parent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			parent, end := context.WithCancel(context.Background())
			m := newManager(t, taskmanager.WithContext(parent))
			task := start(t, m, "failed", boom, once())
			synctest.Wait()
			end()
			refused(t, m, `taskmanager: manager is closed: "failed"`)
			assert.Equal(t, taskmanager.StateFailed, task.State())
		})
	})
}

// A critical task that was gone is not, once it is replaced, whatever the other body waits for.
func TestReplaceTaskThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "gone", boom, once())
		synctest.Wait() // or the other one might begin while it runs
		task := start(t, m, "a", untilStopped, dependsOn("gone"), critical)
		synctest.Wait()
		require.Equal(t, taskmanager.HealthFailing, m.Health().State)
		_, err := m.ReplaceTask(t.Context(), "a", untilStopped, dependsOn("nobody"))
		require.NoError(t, err)
		assert.Equal(t, taskmanager.StateWaiting, settled(task))
		assert.Equal(t, taskmanager.HealthDegraded, m.Health().State)
		r, cancel := goRun(t, m)
		r.lives(t)
		cancel()
		require.NoError(t, r.err(t, 0))
	})
}
