package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestCriticalTaskIsGivenUp(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(s, s), taskmanager.WithBackoffJitter(0))
		log := newStopLog()
		start(t, m, "db", log.body(s))
		synctest.Wait()
		start(t, m, "consumer", log.body(2*s), dependsOn("db"))
		start(t, m, "vital", failAfter(s), critical, taskmanager.WithMaxRestarts(2))
		start(t, m, "useless", boom, noRestart)
		assert.True(t, m.Stats().Tasks["vital"].Critical)
		assert.False(t, m.Stats().Tasks["db"].Critical)
		log.begin()
		r, cancel := goRun(t, m)
		defer cancel()
		time.Sleep(5*s - 1)
		r.lives(t)
		err := r.err(t, 8*s) // it fails after 1, 3 and 5 s, and the others take 3 s to stop, in order
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, err, &gaveUp)
		assert.Equal(t, "vital", gaveUp.Task)
		assert.Same(t, gaveUp, err, "there is one error, and it is returned as it is")
		assert.Equal(t, 2, gaveUp.Restarts)
		require.ErrorIs(t, err, errBoom)
		require.ErrorIs(t, err, taskmanager.ErrTooManyRestarts)
		assert.Contains(t, err.Error(), `"vital"`)
		assert.Equal(t, times{"consumer": 5 * s, "db": 7 * s}, log.times())
		require.ErrorIs(t, log.cause("db"), taskmanager.ErrShutdown)
		require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
	})
}

func TestCriticalTasksThatAreGivenUpAreAllNamed(t *testing.T) {
	const s = time.Second
	errOther := errors.New("other")
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, critical, noRestart)
		fails := func(d time.Duration, err error) taskmanager.TaskFunc {
			return func(context.Context) error {
				time.Sleep(d)
				return err
			}
		}
		start(t, m, "a", fails(s, errBoom))
		start(t, m, "b", fails(s, errOther))
		// It fails during the shutdown, before its turn to be stopped has come.
		start(t, m, "late", fails(2*s, errWhy))
		synctest.Wait()
		start(t, m, "user", slowToStop(3*s), dependsOn("late"))
		start(t, m, "asked", func(ctx context.Context) error {
			<-ctx.Done()
			return errors.New("it was asked, which is no failure")
		})
		r, cancel := goRun(t, m)
		defer cancel()
		err := r.err(t, 4*s)
		require.ErrorIs(t, err, errWhy)
		// Of two that fail at the same moment, one may be asked to stop on behalf of the other: then that has not failed.
		failed := 0
		for name, cause := range map[string]error{"a": errBoom, "b": errOther} {
			gaveUp := m.Stats().Tasks[name].State == taskmanager.StateFailed
			assert.Equal(t, gaveUp, errors.Is(err, cause), name)
			assert.Equal(t, gaveUp, strings.Contains(err.Error(), fmt.Sprintf("gave up task %q", name)))
			if gaveUp {
				failed++
			}
		}
		assert.NotZero(t, failed)
		assert.NotContains(t, err.Error(), "asked")
	})
}

// Whatever becomes of tasks before Run: it returns at once if one that is critical is gone, and otherwise waits.
func TestCriticalTaskIsGoneBeforeRun(t *testing.T) {
	gone := func(t *testing.T, m *taskmanager.Manager) *taskmanager.Task {
		t.Helper()
		task := start(t, m, "vital", failAt(0), critical, noRestart)
		require.Equal(t, taskmanager.StateFailed, settled(task))
		return task
	}
	t.Run("for good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, taskmanager.WithHistory(0))
			start(t, m, "other", slowToStop(time.Second))
			gone(t, m)
			r, cancel := goRun(t, m)
			defer cancel()
			assertGivenUp(t, r.err(t, time.Second), "vital")
			assert.False(t, m.IsRunning("other"))
		})
	})
	for name, revive := range map[string]func(m *taskmanager.Manager, task *taskmanager.Task) error{
		"RestartTask": func(m *taskmanager.Manager, _ *taskmanager.Task) error {
			return m.RestartTask(context.Background(), "vital")
		},
		"StartTask": func(m *taskmanager.Manager, _ *taskmanager.Task) error {
			_, err := m.StartTask("vital", untilStopped)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				require.NoError(t, revive(m, gone(t, m)))
				r, cancel := goRun(t, m)
				time.Sleep(time.Minute)
				r.lives(t)
				cancel()
				require.NoError(t, r.err(t, time.Minute))
			})
		})
	}
	t.Run("StartTask when it has been forgotten", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, taskmanager.WithHistory(0))
			gone(t, m)
			start(t, m, "vital", untilStopped)
			r, cancel := goRun(t, m)
			r.lives(t)
			cancel()
			require.NoError(t, r.err(t, 0))
		})
	})
	t.Run("and again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := gone(t, m)
			require.NoError(t, task.Restart(t.Context()))
			require.NoError(t, task.Stop(t.Context()))
			start(t, m, "vital", failAt(time.Second), critical, noRestart)
			second := start(t, m, "second", boom, critical, noRestart)
			require.Equal(t, taskmanager.StateFailed, settled(second))
			require.NoError(t, m.RestartTask(t.Context(), "second"))
			require.Equal(t, taskmanager.StateFailed, settled(second))
			time.Sleep(2 * time.Second)
			r, cancel := goRun(t, m)
			defer cancel()
			err := r.err(t, 0)
			several, ok := err.(interface{ Unwrap() []error })
			require.True(t, ok)
			require.Len(t, several.Unwrap(), 2, "each once: %v", err)
			assertGivenUp(t, several.Unwrap()[0], "second")
			assertGivenUp(t, several.Unwrap()[1], "vital")
		})
	})
}

// completesAfter returns a body that is done when it has run for d, whatever is asked of it.
func completesAfter(d time.Duration) taskmanager.TaskFunc {
	return func(context.Context) error {
		time.Sleep(d)
		return nil
	}
}

// A critical task that has completed is gone, and Run says so: a main that exits with 0 would not be started again.
func TestCriticalTaskCompletes(t *testing.T) {
	const s = time.Second
	t.Run("during Run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			start(t, m, "job", completesAfter(s), critical)
			other := start(t, m, "other", slowToStop(s))
			r, cancel := goRun(t, m)
			defer cancel()
			err := r.err(t, 2*s)
			require.EqualError(t, err, `taskmanager: critical task "job" has completed`)
			require.ErrorIs(t, err, taskmanager.ErrCriticalCompleted)
			assert.Equal(t, taskmanager.StateStopped, other.State())
		})
	})
	t.Run("before Run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			start(t, m, "first", completesAfter(s), critical)
			start(t, m, "second", completesAfter(2*s), critical)
			time.Sleep(time.Minute)
			r, cancel := goRun(t, m)
			defer cancel()
			require.EqualError(t, r.err(t, 0), "taskmanager: critical task \"first\" has completed\ntaskmanager: critical task \"second\" has completed")
		})
	})
	// A consumer that is done when its producer has stopped completes before its turn to be stopped. Nobody misses it.
	for name, end := range map[string]func(m *taskmanager.Manager, cancel func()){
		"during a shutdown":             func(_ *taskmanager.Manager, cancel func()) { cancel() },
		"during a shutdown by Shutdown": func(m *taskmanager.Manager, _ func()) { _ = m.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				stopped := make(chan struct{})
				consumer := start(t, m, "consumer", func(context.Context) error {
					<-stopped
					return nil
				}, critical)
				synctest.Wait()
				start(t, m, "producer", func(ctx context.Context) error {
					<-ctx.Done()
					close(stopped)
					time.Sleep(s)
					return nil
				}, dependsOn("consumer"))
				r, cancel := goRun(t, m)
				defer cancel()
				r.lives(t)
				end(m, cancel)
				require.NoError(t, r.err(t, s))
				assert.Equal(t, taskmanager.StateCompleted, consumer.State())
			})
		})
	}
}

// Critical tasks beyond those that are remembered are told by their number.
func TestCriticalTasksThatHaveCompletedAndAreForgotten(t *testing.T) {
	m := mustNew(t, critical)
	const remembered, more = 10_000, 3
	for i := range remembered + more {
		require.NoError(t, start(t, m, fmt.Sprint(i), completesAfter(0)).Wait(t.Context()))
	}
	for i := range remembered {
		require.NoError(t, m.RestartTask(t.Context(), fmt.Sprint(more+i)))
	}
	err := m.Run(t.Context())
	require.ErrorIs(t, err, taskmanager.ErrCriticalCompleted)
	require.ErrorContains(t, err, "taskmanager: critical task has completed: 3 more of them, which have been forgotten")
}

// What somebody has asked for is no reason to end, and neither is a failure that is followed by a restart.
func TestCriticalTaskIsStoppedOrRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "vital", failAt(time.Second), critical)
		start(t, m, "always", func(context.Context) error { return nil }, critical,
			taskmanager.WithRestart(taskmanager.RestartAlways), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		r, cancel := goRun(t, m)
		time.Sleep(time.Minute)
		r.lives(t)
		require.NoError(t, task.Restart(t.Context()))
		r.lives(t)
		require.NoError(t, task.Stop(t.Context()))
		r.lives(t)
		require.NoError(t, task.Restart(t.Context()))
		require.NoError(t, m.StopAll(t.Context()))
		r.lives(t)
		start(t, m, "useless", boom, noRestart)
		r.lives(t)
		cancel()
		require.NoError(t, r.err(t, time.Minute))
	})
}

// The giving up decides: no task starts after it, though Shutdown may not have been called yet. A log handler holds up the end
// of Run for as long as a reporter may.
func TestCriticalTaskClosesTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *taskmanager.Manager
		refused := make(chan error, 1)
		m = newManager(t, slowLog("task failed for good, gave up", func() {
			_, err := m.StartTask("another", untilStopped)
			refused <- err
			time.Sleep(time.Minute)
		}))
		r, cancel := goRun(t, m)
		defer cancel()
		synctest.Wait()
		began := time.Now()
		task := start(t, m, "vital", boom, critical, noRestart)
		require.ErrorIs(t, task.Wait(t.Context()), errBoom)
		require.ErrorIs(t, <-refused, taskmanager.ErrManagerClosed)
		took(t, 0, began) // who waits for the task does not wait for the log
		assertGivenUp(t, r.err(t, 5*time.Second), "vital")
		time.Sleep(time.Minute)
	})
}

// Whoever ends the process when Run has returned finds the reason in the log, and with the reporter.
func TestCriticalTaskIsPublishedBeforeRunReturns_Promise7(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reports := newInbox(nil)
		logged := false
		m := newManager(t, taskmanager.WithReporter(reports), slowLog("task failed for good, gave up", func() {
			time.Sleep(time.Second)
			logged = true
		}))
		r, cancel := goRun(t, m)
		defer cancel()
		synctest.Wait()
		start(t, m, "vital", boom, critical, noRestart)
		assertGivenUp(t, r.err(t, time.Second), "vital")
		assert.True(t, logged)
		assert.Equal(t, []string{"0s vital gave up run=1 repeats=0"}, reports.got())
	})
}

// A critical task gives up while its Manager is being shut down: Run says so, whoever began.
func TestCriticalTaskGivesUpDuringShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "vital", failAt(time.Second), critical, noRestart)
		synctest.Wait()
		start(t, m, "user", slowToStop(2*time.Second), dependsOn("vital"))
		r, cancel := goRun(t, m)
		r.lives(t)
		cancel()
		assertGivenUp(t, r.err(t, 2*time.Second), "vital")
	})
}

// A task that is stuck because somebody has stopped it has not failed.
func TestCriticalTaskIsStuckAfterAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		body := newDeafBody()
		task := start(t, m, "vital", body.run, critical)
		r, cancel := goRun(t, m)
		defer cancel()
		r.lives(t)
		asStuck(t, task.Stop(t.Context()), "vital", 5*time.Second)
		time.Sleep(time.Minute)
		r.lives(t)
		cancel()
		asStuck(t, r.err(t, 70*time.Second), "vital", 5*time.Second)
		body.release()
	})
}

// stuckAfter3Seconds starts a critical task whose first run ignores its watchdog: it is stuck after 3 s.
func stuckAfter3Seconds(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) (*taskmanager.Task, *deafBody) {
	t.Helper()
	body := newDeafBody()
	var first atomic.Bool
	task := start(t, m, "vital", func(ctx context.Context) error {
		if first.CompareAndSwap(false, true) {
			return body.run(ctx)
		}
		for ctx.Err() == nil {
			taskmanager.Heartbeat(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second / 2):
			}
		}
		return nil
	}, append(opts, critical, taskmanager.WithWatchdog(time.Second), taskmanager.WithStopTimeout(2*time.Second))...)
	return task, body
}

func TestCriticalTaskIsStuckAfterAMissedHeartbeat(t *testing.T) {
	const s = time.Second
	t.Run("for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			other := start(t, m, "other", untilStopped)
			_, body := stuckAfter3Seconds(t, m)
			r, cancel := goRun(t, m)
			defer cancel()
			time.Sleep(3*s - 1)
			r.lives(t)
			err := r.err(t, 5*s) // the shutdown waits for it once more
			asStuck(t, err, "vital", 2*s)
			assert.Equal(t, taskmanager.StateStopped, other.State())
			body.release()
		})
	})
	t.Run("until the shutdown", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task, body := stuckAfter3Seconds(t, m)
			time.AfterFunc(4*s, body.release)
			r, cancel := goRun(t, m)
			defer cancel()
			asStuck(t, r.err(t, 4*s), "vital", 2*s)
			assert.Equal(t, taskmanager.StateStopped, task.State())
		})
	})
	t.Run("before Run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			_, body := stuckAfter3Seconds(t, m)
			time.Sleep(10 * s)
			r, cancel := goRun(t, m)
			defer cancel()
			asStuck(t, r.err(t, 2*s), "vital", 2*s)
			body.release()
		})
	})
	t.Run("before Run, and restarted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task, body := stuckAfter3Seconds(t, m)
			time.Sleep(10 * s)
			body.release()
			require.Equal(t, taskmanager.StateBackoff, settled(task))
			r, cancel := goRun(t, m)
			time.Sleep(time.Minute)
			r.lives(t)
			cancel()
			require.NoError(t, r.err(t, time.Minute))
		})
	})
	t.Run("before Run, and given up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task, body := stuckAfter3Seconds(t, m, noRestart)
			time.Sleep(10 * s)
			body.release()
			require.Equal(t, taskmanager.StateFailed, settled(task))
			r, cancel := goRun(t, m)
			defer cancel()
			err := r.err(t, 0)
			assertGivenUp(t, err, "vital")
			require.ErrorIs(t, err, taskmanager.ErrWatchdog)
			var stuck *taskmanager.StopTimeoutError
			require.NotErrorAs(t, err, &stuck, "it no longer is")
		})
	})
	t.Run("before Run, and stopped by hand", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task, body := stuckAfter3Seconds(t, m)
			time.Sleep(10 * s)
			asStuck(t, task.Stop(t.Context()), "vital", 2*s)
			body.release()
			require.Equal(t, taskmanager.StateStopped, settled(task))
			r, cancel := goRun(t, m)
			r.lives(t)
			cancel()
			require.NoError(t, r.err(t, 0))
		})
	})
	t.Run("not critical", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			body := newDeafBody()
			start(t, m, "a", body.run, taskmanager.WithWatchdog(s), taskmanager.WithStopTimeout(s))
			r, cancel := goRun(t, m)
			time.Sleep(10 * s)
			r.lives(t)
			body.release()
			cancel()
			require.NoError(t, r.err(t, 10*s))
		})
	})
}

// Who has asked for the end of a critical task, or for its pause, knows that it is gone, though its watchdog would have found it stuck,
// or does: whichever deadline is first.
func TestCriticalTaskIsStoppedBeforeItsWatchdogFindsItStuck(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, 4500 * time.Millisecond, time.Minute} { // the watchdog's is 4.5 s from then
		for name, ask := range map[string]func(*taskmanager.Task, context.Context) error{
			"stop": (*taskmanager.Task).Stop, "pause": (*taskmanager.Task).Pause,
		} {
			t.Run(fmt.Sprint(name, " within ", timeout), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t)
					deaf := newDeafBody()
					task := start(t, m, "vital", deaf.run, critical, taskmanager.WithWatchdog(time.Second), taskmanager.WithStopTimeout(5*time.Second))
					r, cancel := goRun(t, m)
					time.Sleep(1500 * time.Millisecond)
					ctx, cancelAsk := context.WithTimeout(t.Context(), timeout)
					defer cancelAsk()
					asStuck(t, ask(task, ctx), "vital", min(timeout, 5*time.Second))
					assert.Equal(t, taskmanager.StateStuck, task.State())
					assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
					time.Sleep(time.Minute)
					r.lives(t)
					deaf.release()
					synctest.Wait()
					assert.NotEqual(t, taskmanager.HealthFailing, m.Health().State)
					r.lives(t)
					cancel()
					require.NoError(t, <-r.result)
				})
			})
		}
	}
}

// A critical task is gone while it waits for one that was given up, whichever of its dependencies that is, and not a moment longer.
func TestCriticalTaskThatWaitsForOneThatWasGivenUp(t *testing.T) {
	ready := func(t *testing.T, m *taskmanager.Manager) { // a new task of that name, which is not ready yet
		start(t, m, "db", readyAfter(time.Hour), taskmanager.WithReadiness(2*time.Hour))
	}
	for name, test := range map[string]struct {
		dependsOn []string
		comes     func(t *testing.T, m *taskmanager.Manager)
	}{
		"its name is taken over": {[]string{"db"}, ready},
		"it is the second":       {[]string{"nobody", "db"}, ready},
		"by way of another": {[]string{"nobody", "between"}, func(t *testing.T, m *taskmanager.Manager) {
			ready(t, m)
		}},
		"the one between is stopped": {[]string{"nobody", "between"}, func(t *testing.T, m *taskmanager.Manager) {
			require.NoError(t, m.StopTask(t.Context(), "between"))
		}},
		"it is restarted": {[]string{"nobody", "db"}, func(t *testing.T, m *taskmanager.Manager) {
			require.NoError(t, m.RestartTask(t.Context(), "db"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				state := func() taskmanager.HealthState {
					synctest.Wait()
					return m.Health().State
				}
				start(t, m, "vital", untilStopped, critical, dependsOn(test.dependsOn...))
				if slices.Contains(test.dependsOn, "between") { // otherwise "vital" is the only dependent
					start(t, m, "between", untilStopped, dependsOn("db"))
				}
				assert.Equal(t, taskmanager.HealthDegraded, state(), "it waits")
				start(t, m, "db", failAt(time.Second), noRestart, taskmanager.WithReadiness(time.Hour)) // it is never ready
				time.Sleep(time.Second)
				assert.Equal(t, taskmanager.HealthFailing, state())
				test.comes(t, m)
				assert.Equal(t, taskmanager.HealthDegraded, state())
			})
		})
	}
}

// The error says who was given up, and by way of whom the critical task waits for it.
func TestCriticalTaskThatWaitsInVainNamesTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "vital", untilStopped, critical, dependsOn("between"))
		start(t, m, "between", untilStopped, dependsOn("db"))
		start(t, m, "db", boom, noRestart, taskmanager.WithReadiness(time.Minute)) // it is never ready
		err := m.Run(t.Context())
		require.EqualError(t, err, `taskmanager: task "vital" waits for task "between": `+
			`taskmanager: task "between" waits for task "db", which was given up: `+
			`taskmanager: gave up task "db" after 0 restarts within 1m0s: boom`)
		require.ErrorIs(t, err, errBoom)
	})
}

// A critical task that waits in vain for several says for which of them it does so now.
func TestCriticalTaskWaitsInVainForAnotherOne(t *testing.T) {
	for name, goesOn := range map[string]func(t *testing.T, m *taskmanager.Manager){
		"the first is restarted": func(t *testing.T, m *taskmanager.Manager) {
			require.NoError(t, m.RestartTask(t.Context(), "db"))
		},
		"the name of the first is taken over": func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "db", untilStopped)
		},
		"the first waits itself": func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "db", untilStopped, dependsOn("queue"))
		},
	} {
		both := dependsOn("db", "queue")
		vital := func(t *testing.T, m *taskmanager.Manager) { start(t, m, "vital", untilStopped, critical, both) }
		byWayOfAnother := func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "between", untilStopped, both)
			start(t, m, "vital", untilStopped, critical, dependsOn("between"))
		}
		for way, begin := range map[string]func(t *testing.T, m *taskmanager.Manager){"itself": vital, "by way of another": byWayOfAnother} {
			t.Run(name+"/"+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := mustNew(t)
					runs := 0
					start(t, m, "db", func(ctx context.Context) error {
						if runs++; runs == 1 {
							return backoff.Permanent(errDeaf)
						}
						return untilStopped(ctx)
					})
					start(t, m, "queue", boom, noRestart)
					synctest.Wait()
					begin(t, m) // when both have been given up: while they execute they are ready
					synctest.Wait()
					goesOn(t, m)
					synctest.Wait()
					err := m.Run(t.Context())
					require.ErrorIs(t, err, errBoom, "of the queue")
					assert.NotErrorIs(t, err, errDeaf, "of the database, which goes on")
				})
			})
		}
	}
}

// A restart by hand of a critical task that has missed its heartbeat has its own deadline, though the watchdog's has passed: Run
// ends when the restart has failed, and not before.
func TestCriticalTaskThatIsStuckLeavesARestartItsDeadline(t *testing.T) {
	for name, test := range map[string]struct {
		returns time.Duration // when the body of the first run does
		gone    bool
	}{
		"it succeeds":       {7 * time.Second, false},
		"it fails":          {time.Minute, true},
		"at the last of it": {8*time.Second - 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, taskmanager.WithStopTimeout(5*time.Second))
				events := m.Subscribe(t.Context())
				began := time.Now()
				task := start(t, m, "a", func(ctx context.Context) error {
					if mustTask(t, ctx).Stats().Runs > 1 {
						taskmanager.HeartbeatWithin(ctx, time.Hour)
						return untilStopped(ctx)
					}
					time.Sleep(test.returns)
					return nil
				}, taskmanager.WithWatchdog(time.Second), taskmanager.WithCritical())
				var ended time.Duration
				ran := make(chan error, 1)
				go func() {
					err := m.Run(context.Background())
					ended = time.Since(began)
					ran <- err
				}()
				time.Sleep(3 * time.Second) // canceled at 1 s, stuck at 6 s, and the restart has until 8 s
				err := task.Restart(t.Context())
				assert.Len(t, ofKind(taskmanager.EventStuck, pending(events)), 1)
				if !test.gone {
					require.NoError(t, err)
					took(t, test.returns, began)
					time.Sleep(time.Minute)
					require.Empty(t, ran, "Run has ended")
					assert.Equal(t, taskmanager.HealthOK, m.Health().State)
					require.NoError(t, m.Shutdown(t.Context()))
					require.NoError(t, <-ran)
					return
				}
				asStuck(t, err, "a", 5*time.Second)
				took(t, 8*time.Second, began)
				synctest.Wait()
				assert.False(t, m.IsRunning("other"))
				_, err = m.StartTask("other", untilStopped)
				require.ErrorIs(t, err, taskmanager.ErrManagerClosed, "Run is shutting down")
				assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
				asStuck(t, <-ran, "a", 5*time.Second)
				assert.Equal(t, 13*time.Second, ended, "the shutdown gives it another stop timeout")
				<-task.Done()
			})
		})
	}
}

// Critical tasks of many names that complete, where nobody calls Run, are bounded as those are that were given up.
func TestCriticalTasksLeaveNothingWithoutRun(t *testing.T) {
	m := mustNew(t, taskmanager.WithCritical(), taskmanager.WithHistory(0))
	end := func(n int) {
		for i := range n {
			require.NoError(t, start(t, m, fmt.Sprint("job ", n, i), func(context.Context) error { return nil }).Wait(t.Context()))
		}
	}
	end(10_000) // which are remembered
	grown := heapOf(func() { end(10_001) })
	assert.Less(t, grown, int64(1<<20), "bytes for 10,001 further ones")
	assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
}

// Who waits for several tasks hears of it when one of them does not wait for a task that was given up any more, though it is not the
// first of those that are not ready.
func TestCriticalTaskIsNotGoneAnyMore(t *testing.T) {
	for range 300 { // a may begin before it has found out that it will, or after
		synctest.Test(t, isNotGoneAnyMore)
	}
}

func isNotGoneAnyMore(t *testing.T) {
	m := newManager(t)
	broken := true
	start(t, m, "x", func(ctx context.Context) error {
		if broken {
			return errBoom
		}
		return untilStopped(ctx)
	}, once())
	synctest.Wait() // it has been given up, and does not run for a moment when a looks
	start(t, m, "a", untilStopped, taskmanager.WithDependsOn("x"))
	start(t, m, "never", untilStopped, taskmanager.WithReadiness(time.Hour))
	start(t, m, "c", untilStopped, taskmanager.WithDependsOn("never", "a"), taskmanager.WithCritical())
	synctest.Wait()
	require.Equal(t, taskmanager.HealthFailing, m.Health().State)
	broken = false
	require.NoError(t, m.RestartTask(t.Context(), "x"))
	synctest.Wait()
	require.True(t, m.IsRunning("a"))
	assert.NotEqual(t, taskmanager.HealthFailing, m.Health().State)
}

// If the deadline of the restart is the first to pass, it is that by which the task is gone, which was late before; and not if it was
// not, for then it is stuck by a restart by hand alone.
func TestCriticalTaskThatIsStuckByARestartIsGoneIfItWasLate(t *testing.T) {
	for name, late := range map[string]bool{"late": true, "in time": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, taskmanager.WithStopTimeout(5*time.Second))
				body := newDeafBody()
				opts := []taskmanager.TaskOption{taskmanager.WithCritical()}
				if late {
					opts = append(opts, taskmanager.WithWatchdog(time.Second))
				}
				task := start(t, m, "a", body.run, opts...)
				r, cancel := goRun(t, m)
				time.Sleep(2 * time.Second)
				ctx, cancelRestart := context.WithTimeout(t.Context(), time.Second)
				defer cancelRestart()
				asStuck(t, task.Restart(ctx), "a", time.Second)
				assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
				if late {
					asStuck(t, r.err(t, 8*time.Second), "a", time.Second) // as the restart has found it at 3 s, and the stop of all 5 s after that
				} else {
					time.Sleep(time.Hour)
					r.lives(t)
					cancel()
				}
				body.release()
				<-task.Done()
				cancel()
				time.Sleep(time.Hour)
			})
		})
	}
}

// Why the process ends stands in the log, once, and before the lines of those that are stopped because of it.
func TestCriticalTaskThatIsGoneIsLogged(t *testing.T) {
	const s = time.Second
	line := func(rest string) string { return "ERROR critical task is gone, shutting down | " + rest }
	for name, test := range map[string]struct {
		begin func(t *testing.T, m *taskmanager.Manager)
		want  string // of the line; "" if there is none
	}{
		"given up": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "vital", failAfter(s), critical, noRestart)
		}, line("manager=bot task=vital reason=given up error=boom")},
		"given up after a run that returned nil": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "vital", completesAfter(s), critical, noRestart, taskmanager.WithRestart(taskmanager.RestartAlways))
		}, line("manager=bot task=vital reason=given up")},
		"completed": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "vital", completesAfter(s), critical)
		}, line("manager=bot task=vital reason=completed")},
		"stuck": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "vital", completesAfter(3500*time.Millisecond), critical, taskmanager.WithWatchdog(s), taskmanager.WithStopTimeout(s))
		}, line(`manager=bot task=vital reason=stuck error=taskmanager: task "vital" did not stop within 1s`)},
		"waits for one that was given up": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "vital", untilStopped, critical, dependsOn("between"))
			start(t, m, "between", untilStopped, dependsOn("db"))
			start(t, m, "db", failAfter(s), noRestart, taskmanager.WithReadiness(time.Minute)) // it is never ready
		}, line(`manager=bot task=vital reason=waits for "db", which was given up error=boom`)},
		"several, before Run": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "vital", failAfter(s), critical, noRestart)
			start(t, m, "another", completesAfter(2*s), critical)
			start(t, m, "third", completesAfter(3*s), critical)
			time.Sleep(time.Minute)
		}, line("manager=bot task=vital reason=given up error=boom others=2")},
		"not critical": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "any", failAfter(s), noRestart)
			time.AfterFunc(2*s, func() { _ = m.Shutdown(context.Background()) })
		}, ""},
		"during a shutdown": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "vital", failAfter(2*s), critical, noRestart)
			synctest.Wait()
			start(t, m, "user", slowToStop(3*s), dependsOn("vital"))
			time.AfterFunc(s, func() { _ = m.Shutdown(context.Background()) })
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				m := newManager(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithName("bot"), taskmanager.WithWatchdog(time.Hour))
				for i := range 5 {
					start(t, m, fmt.Sprint("other ", i), untilStopped)
				}
				synctest.Wait()
				test.begin(t, m)
				first, cancel := goRun(t, m)
				defer cancel()
				second, cancel2 := goRun(t, m)
				defer cancel2()
				_, _ = <-first.result, <-second.result
				got, all := lines.about("critical task is gone"), lines.got()
				if test.want == "" {
					assert.Empty(t, got)
					return
				}
				assert.Equal(t, []string{test.want}, got)
				assert.Less(t, slices.Index(all, test.want),
					slices.IndexFunc(all, func(line string) bool { return strings.Contains(line, "cause=taskmanager: manager is shutting down") }))
			})
		})
	}
}

// In a group it is the group that ends. That is no error if its task has completed.
func TestCriticalTaskOfAGroupThatIsGoneIsLogged(t *testing.T) {
	for want, body := range map[string]taskmanager.TaskFunc{
		"ERROR critical task is gone, group ends | task=g/vital reason=given up error=boom": failAfter(time.Second),
		"INFO critical task is gone, group ends | task=g/vital reason=completed":            completesAfter(time.Second),
	} {
		synctest.Test(t, func(t *testing.T) {
			lines := newLines(slog.LevelInfo)
			m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
			group := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
				start(t, g, "vital", body, critical, noRestart)
				start(t, g, "other", untilStopped)
				return nil
			}), once())
			<-group.Done()
			synctest.Wait()
			assert.Equal(t, []string{want}, lines.about("critical task is gone"))
			assert.Less(t, slices.Index(lines.got(), want),
				slices.IndexFunc(lines.got(), func(line string) bool { return strings.Contains(line, "task stopped | task=g/other") }))
		})
	}
}

// A log handler that is slow with that line, or ends its goroutine with it, and an error whose method hangs, hold up lines of the log
// and nothing else.
func TestCriticalTaskThatIsGoneStopsTheOthersWhateverTheLogDoes(t *testing.T) {
	const message = "critical task is gone, shutting down"
	for name, test := range map[string]struct {
		err  error
		wait func()
		took time.Duration // of Run
	}{
		"slow":       {errBoom, func() { time.Sleep(time.Second) }, time.Second},
		"hangs":      {errBoom, func() { time.Sleep(time.Hour) }, 5 * time.Second},
		"panics":     {errBoom, func() { panic("log") }, 0},
		"exits":      {errBoom, runtime.Goexit, 0},
		"slow error": {sleepyError{time.Second}, func() {}, 2 * time.Second}, // in this line, and in that of its task
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, slowLog(message, test.wait))
				other := start(t, m, "other", untilStopped)
				r, cancel := goRun(t, m)
				defer cancel()
				r.lives(t)
				start(t, m, "vital", func(context.Context) error { return test.err }, critical, once())
				assert.Equal(t, taskmanager.StateStopped, settled(other))
				assertGivenUp(t, r.err(t, test.took), "vital")
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// A sleepyError needs a while to say what it is.
type sleepyError struct{ d time.Duration }

func (e sleepyError) Error() string {
	time.Sleep(e.d)
	return "sleepy"
}

// A critical task that ends because of the signal that ends Run is no reason for an error, whichever of the two is faster; nor is one
// that completes while the others are being stopped, for Run and for Health.
func TestCriticalTaskThatCompletesWithTheSignal(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			signal, stop := context.WithCancel(t.Context())
			m := newManager(t)
			start(t, m, "api", func(context.Context) error { <-signal.Done(); return nil }, taskmanager.WithCritical())
			time.AfterFunc(time.Second, stop)
			require.NoError(t, m.Run(signal))
		})
	}
	for range 20 { // both are there when Run looks
		m := mustNew(t, quiet())
		require.NoError(t, start(t, m, "api", func(context.Context) error { return nil }, taskmanager.WithCritical()).Wait(t.Context()))
		signal, stop := context.WithCancel(t.Context())
		stop()
		require.NoError(t, m.Run(signal))
	}
	synctest.Test(t, func(t *testing.T) {
		signal, stop := context.WithCancel(t.Context())
		m := newManager(t)
		start(t, m, "db", func(context.Context) error { <-signal.Done(); time.Sleep(time.Millisecond); return nil }, taskmanager.WithCritical())
		start(t, m, "api", func(ctx context.Context) error { <-ctx.Done(); time.Sleep(3 * time.Second); return nil }, taskmanager.WithDependsOn("db"))
		time.AfterFunc(time.Second, stop)
		time.AfterFunc(2*time.Second, func() { assert.NotEqual(t, taskmanager.HealthFailing, m.Health().State) })
		require.NoError(t, m.Run(signal))
		assert.Equal(t, taskmanager.HealthOK, m.Health().State)
	})
}

// A critical task that Run has ended for counts for Health, also when it was stopped by that end, and then forgotten.
func TestCriticalTaskThatIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithHistory(0))
		start(t, m, "waits", untilStopped, taskmanager.WithDependsOn("database"), taskmanager.WithCritical())
		start(t, m, "database", boom, once(), taskmanager.WithReadiness(time.Minute))
		require.ErrorContains(t, m.Run(t.Context()), `"waits" waits for`)
		_, known := m.Lookup("waits")
		require.False(t, known)
		assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
		assert.Contains(t, m.Health().Problems, taskmanager.HealthProblem{
			Task: "waits", Critical: true, State: taskmanager.StateStopped, Reason: taskmanager.HealthNotReady,
		})
	})
}
