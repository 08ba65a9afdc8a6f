package taskmanager_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestHealthWithoutAProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, exact()...)
		assert.Equal(t, taskmanager.Health{Ready: true}, m.Health(), "no tasks")
		start(t, m, "runs", untilStopped, taskmanager.WithCritical())
		start(t, m, "ready", readyAfter(0), taskmanager.WithReadiness(time.Second))
		start(t, m, "done", func(context.Context) error { return nil }, taskmanager.WithReadiness(time.Second))
		start(t, m, "stopped", untilStopped, taskmanager.WithCritical())
		// A failure now and then is what supervision is for, once it is over.
		start(t, m, "failed once", failAt(0))
		start(t, m, "again", func(context.Context) error { return nil },
			taskmanager.WithRestart(taskmanager.RestartAlways), taskmanager.WithBackoff(time.Hour, time.Hour))
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "stopped"))
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, taskmanager.Health{Ready: true}, m.Health())
		time.Sleep(time.Minute)
		assert.Equal(t, taskmanager.Health{Ready: true}, m.Health())
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Equal(t, taskmanager.Health{Ready: false}, m.Health(), "what is closed takes no more work")
	})
}

// Health says the same as Run: a critical task that has completed is gone, until it is restarted or another one has its name.
func TestHealthOfACriticalTaskThatHasCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact(taskmanager.WithHistory(0))...)
		again := false
		body := func(ctx context.Context) error {
			if again {
				return untilStopped(ctx)
			}
			return nil
		}
		gone := taskmanager.Health{State: taskmanager.HealthFailing, Problems: []taskmanager.HealthProblem{
			{Task: "a", Critical: true, State: taskmanager.StateCompleted, Reason: taskmanager.HealthCompleted},
		}}
		task := start(t, m, "a", body, taskmanager.WithCritical())
		synctest.Wait()
		assert.Equal(t, gone, m.Health())
		for i := range 3 {
			start(t, m, fmt.Sprint(i), body)
			synctest.Wait()
		}
		assert.Equal(t, gone, m.Health(), "it is remembered, though nobody else is")
		again = true
		require.NoError(t, task.Restart(t.Context()))
		synctest.Wait()
		assert.Equal(t, taskmanager.Health{Ready: true}, m.Health())
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, taskmanager.Health{Ready: true}, m.Health(), "to be stopped is no problem")

		again = false
		start(t, m, "a", body, taskmanager.WithCritical())
		synctest.Wait()
		assert.Equal(t, gone, m.Health())
		again = true
		start(t, m, "a", body)
		synctest.Wait()
		assert.Equal(t, taskmanager.Health{Ready: true}, m.Health())

		again = false
		start(t, m, "a2", body, taskmanager.WithCritical())
		synctest.Wait()
		require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrCriticalCompleted)
		assert.Equal(t, taskmanager.HealthFailing, m.Health().State, "it has ended Run")
	})
}

func TestHealthReasons(t *testing.T) {
	const critical, plain = true, false
	type problem = taskmanager.HealthProblem
	for name, test := range map[string]struct {
		begin func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption)
		// What is found, of a critical task and of one that isn't.
		want  problem
		state map[bool]taskmanager.HealthState
		ready map[bool]bool
	}{
		"given up": {
			func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) {
				start(t, m, "a", boom, append(opts, once())...)
			},
			problem{State: taskmanager.StateFailed, Reason: taskmanager.HealthGivenUp},
			map[bool]taskmanager.HealthState{critical: taskmanager.HealthFailing, plain: taskmanager.HealthDegraded},
			map[bool]bool{critical: false, plain: true},
		},
		"stuck": {
			func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) {
				deaf := newDeafBody()
				t.Cleanup(deaf.release)
				task := start(t, m, "a", deaf.run, opts...)
				synctest.Wait()
				asStuck(t, task.Stop(t.Context()), "a", 5*time.Second)
			},
			problem{State: taskmanager.StateStuck, Reason: taskmanager.HealthStuck},
			map[bool]taskmanager.HealthState{critical: taskmanager.HealthFailing, plain: taskmanager.HealthDegraded},
			map[bool]bool{critical: false, plain: true},
		},
		"heartbeat overdue": {
			func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) {
				start(t, m, "a", slowToStop(2*time.Second), append(opts, taskmanager.WithWatchdog(time.Second))...)
				time.Sleep(2 * time.Second)
			},
			problem{State: taskmanager.StateStopping, Reason: taskmanager.HealthHeartbeatOverdue},
			map[bool]taskmanager.HealthState{critical: taskmanager.HealthDegraded, plain: taskmanager.HealthDegraded},
			map[bool]bool{critical: false, plain: true},
		},
		"crash loop": {
			func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) {
				start(t, m, "a", boom, append(opts, taskmanager.WithMaxRestarts(6))...)
				time.Sleep(2 * time.Second)
			},
			problem{State: taskmanager.StateBackoff, Reason: taskmanager.HealthCrashLoop, Detail: "3 of 6 restarts within 1m0s"},
			map[bool]taskmanager.HealthState{critical: taskmanager.HealthDegraded, plain: taskmanager.HealthDegraded},
			map[bool]bool{critical: false, plain: true},
		},
		"failing": {
			func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) {
				start(t, m, "a", failAt(5*time.Second), opts...)
				time.Sleep(5 * time.Second)
			},
			problem{State: taskmanager.StateBackoff, Reason: taskmanager.HealthTaskFailing, Detail: "1 failure, at 2000-01-01T00:00:05Z"},
			map[bool]taskmanager.HealthState{critical: taskmanager.HealthDegraded, plain: taskmanager.HealthDegraded},
			map[bool]bool{critical: false, plain: true},
		},
		"failing, and it runs again": {
			func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) {
				start(t, m, "a", failAt(5*time.Second, 36*time.Second, 67*time.Second), opts...)
				time.Sleep(97 * time.Second)
			},
			problem{State: taskmanager.StateRunning, Reason: taskmanager.HealthTaskFailing, Detail: "3 failures in a row since 2000-01-01T00:00:05Z"},
			map[bool]taskmanager.HealthState{critical: taskmanager.HealthDegraded, plain: taskmanager.HealthDegraded},
			map[bool]bool{critical: true, plain: true},
		},
		"failing, and it waits for another by now": {
			func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) {
				start(t, m, "b", untilStopped)
				start(t, m, "a", failAt(0, 50*time.Second), append(opts, taskmanager.WithDependsOn("b"))...)
				time.Sleep(time.Second)
				require.NoError(t, m.StopTask(t.Context(), "b"))
				time.Sleep(time.Minute)
			},
			problem{State: taskmanager.StateWaiting, Reason: taskmanager.HealthNotReady, Detail: `waiting for "b" (stopped)`},
			map[bool]taskmanager.HealthState{critical: taskmanager.HealthDegraded, plain: taskmanager.HealthDegraded},
			map[bool]bool{critical: false, plain: true},
		},
		"crash loop without a limit": {
			func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) {
				start(t, m, "a", boom, append(opts, taskmanager.WithMaxRestarts(taskmanager.Unlimited))...)
				time.Sleep(2 * time.Second)
			},
			problem{State: taskmanager.StateBackoff, Reason: taskmanager.HealthCrashLoop, Detail: "3 of unlimited restarts within 1m0s"},
			map[bool]taskmanager.HealthState{critical: taskmanager.HealthDegraded, plain: taskmanager.HealthDegraded},
			map[bool]bool{critical: false, plain: true},
		},
		"not ready yet": {
			func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) {
				start(t, m, "a", readyAfter(time.Hour), append(opts, taskmanager.WithReadiness(2*time.Hour))...)
			},
			problem{State: taskmanager.StateRunning, Reason: taskmanager.HealthNotReady},
			map[bool]taskmanager.HealthState{critical: taskmanager.HealthDegraded, plain: taskmanager.HealthDegraded},
			map[bool]bool{critical: false, plain: false},
		},
		"not ready in time, and slow to return": {
			func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) {
				start(t, m, "a", slowToStop(2*time.Second), append(opts, taskmanager.WithReadiness(time.Second))...)
				time.Sleep(2 * time.Second)
			},
			problem{State: taskmanager.StateStopping, Reason: taskmanager.HealthNotReady},
			map[bool]taskmanager.HealthState{critical: taskmanager.HealthDegraded, plain: taskmanager.HealthDegraded},
			map[bool]bool{critical: false, plain: false},
		},
		"waits for another": {
			func(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) {
				start(t, m, "a", untilStopped, append(opts, taskmanager.WithDependsOn("b"))...)
			},
			problem{State: taskmanager.StateWaiting, Reason: taskmanager.HealthNotReady, Detail: `waiting for "b" (not started)`},
			map[bool]taskmanager.HealthState{critical: taskmanager.HealthDegraded, plain: taskmanager.HealthDegraded},
			map[bool]bool{critical: false, plain: true},
		},
	} {
		for _, is := range []bool{critical, plain} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := mustNew(t, exact()...)
					t.Cleanup(func() { _ = m.Shutdown(context.Background()) })
					var opts []taskmanager.TaskOption
					if is == critical {
						opts = append(opts, taskmanager.WithCritical())
					}
					test.begin(t, m, opts...)
					synctest.Wait()
					want := test.want
					want.Task, want.Critical = "a", is
					assert.Equal(t, taskmanager.Health{State: test.state[is], Ready: test.ready[is], Problems: []problem{want}}, m.Health())
				})
			})
		}
	}
}

// Fewer restarts than make a crash loop are none, and those that have left the window don't count.
// A group that nobody has to wait for, and that is about to begin anew, is no reason not to be ready.
// That a heartbeat is overdue is said until the body has returned, or is stuck, also if somebody restarts the task meanwhile; not if
// somebody stops it.
func TestHealthOfALateRunThatIsAskedForSomething(t *testing.T) {
	for name, c := range map[string]struct {
		ask  func(ctx context.Context, task *taskmanager.Task) error
		want []taskmanager.HealthReason
	}{
		"restart": {func(ctx context.Context, task *taskmanager.Task) error { return task.Restart(ctx) }, []taskmanager.HealthReason{taskmanager.HealthHeartbeatOverdue}},
		"stop":    {func(ctx context.Context, task *taskmanager.Task) error { return task.Stop(ctx) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				task := start(t, m, "a", slowToStop(3*time.Second), taskmanager.WithWatchdog(time.Minute))
				other := start(t, m, "other", slowToStop(3*time.Second))
				reasons := func() (got []taskmanager.HealthReason) {
					for _, p := range m.Health().Problems {
						got = append(got, p.Reason)
					}
					return got
				}
				time.Sleep(time.Minute + time.Second)
				require.Equal(t, []taskmanager.HealthReason{taskmanager.HealthHeartbeatOverdue}, reasons())
				go func() { _ = c.ask(context.Background(), task) }()
				go func() { _ = c.ask(context.Background(), other) }() // which was not late
				synctest.Wait()
				assert.Equal(t, c.want, reasons())
				time.Sleep(3 * time.Second)
				assert.Empty(t, reasons())
			})
		})
	}
}

func TestHealthOfAGroupThatWillBeRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			opt   taskmanager.TaskOption
			ready bool
		}{
			"any": {taskmanager.WithStopTimeout(time.Minute), true}, "critical": {taskmanager.WithCritical(), false},
		} {
			m := newManager(t)
			g := start(t, m, name, taskmanager.Group(func(*taskmanager.Manager) error { return errBoom }, silently()), test.opt)
			synctest.Wait()
			require.Equal(t, taskmanager.StateBackoff, g.State())
			assert.Equal(t, test.ready, m.Health().Ready, name)
		}
	})
}

func TestHealthCrashLoopBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		start(t, m, "a", failAt(0, 10*time.Second, 20*time.Second), taskmanager.WithMaxRestarts(5))
		reasons := func() (got []taskmanager.HealthReason) {
			synctest.Wait()
			for _, p := range m.Health().Problems {
				got = append(got, p.Reason)
			}
			return got
		}
		time.Sleep(19 * time.Second)
		assert.Equal(t, []taskmanager.HealthReason{taskmanager.HealthTaskFailing}, reasons(), "2 of 5")
		time.Sleep(time.Second)
		assert.Equal(t, []taskmanager.HealthReason{taskmanager.HealthCrashLoop}, reasons(), "3 of 5")
		time.Sleep(39 * time.Second)
		assert.Equal(t, []taskmanager.HealthReason{taskmanager.HealthCrashLoop}, reasons(), "it runs again, but for how long")
		time.Sleep(time.Second)
		assert.Equal(t, []taskmanager.HealthReason{taskmanager.HealthTaskFailing}, reasons(), "likewise")
		time.Sleep(21*time.Second - 1)
		assert.Equal(t, []taskmanager.HealthReason{taskmanager.HealthTaskFailing}, reasons())
		time.Sleep(time.Nanosecond)
		assert.Empty(t, reasons(), "it has for a minute")
	})
}

// The worst first, and by name.
func TestHealthJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact(taskmanager.WithName("bot"))...)
		start(t, m, "waits", untilStopped, taskmanager.WithDependsOn("late"))
		start(t, m, "b", boom, once())
		start(t, m, "a", boom, once(), taskmanager.WithCritical())
		start(t, m, "loops", boom)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		got, err := json.MarshalIndent(m.Health(), "", " ")
		require.NoError(t, err)
		//nolint:testifylint // the order of the fields, too
		assert.Equal(t, `{
 "state": "failing",
 "ready": false,
 "problems": [
  {
   "task": "a",
   "critical": true,
   "state": "failed",
   "reason": "given up"
  },
  {
   "task": "b",
   "state": "failed",
   "reason": "given up"
  },
  {
   "task": "loops",
   "state": "backoff",
   "reason": "crash loop",
   "detail": "3 of 5 restarts within 1m0s"
  },
  {
   "task": "waits",
   "state": "waiting",
   "reason": "not ready",
   "detail": "waiting for \"late\" (not started)"
  }
 ]
}`, string(got))
	})
}

func TestHealthStateText(t *testing.T) {
	for s, want := range map[taskmanager.HealthState]string{
		taskmanager.HealthOK: "ok", taskmanager.HealthDegraded: "degraded", taskmanager.HealthFailing: "failing", 7: "unknown", -1: "unknown",
	} {
		assert.Equal(t, want, s.String())
		text, err := s.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
}

// What Run has ended for stays its reason, also if the task has stopped since.
func TestHealthOfACriticalTaskThatHasStoppedAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		task := start(t, m, "vital", deaf.run, critical, taskmanager.WithWatchdog(time.Second))
		r, cancel := goRun(t, m)
		defer cancel()
		time.Sleep(time.Minute)
		asStuck(t, r.err(t, 11*time.Second), "vital", 5*time.Second)
		assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
		deaf.release()
		require.NoError(t, task.Wait(t.Context()))
		assert.Equal(t, taskmanager.Health{State: taskmanager.HealthFailing, Problems: []taskmanager.HealthProblem{
			{Task: "vital", Critical: true, State: taskmanager.StateStopped, Reason: taskmanager.HealthStuck},
		}}, m.Health())
	})
}

// Health and Run say the same of a critical task: gone is one that has completed, and one that waits for what was given up. One of a
// group ends the run of that, and is nothing to Run as long as the group goes on; what is not critical never is.
func TestHealthAndRunSayTheSame(t *testing.T) {
	done := func(context.Context) error { return nil }
	group := func(t *testing.T, start func(g *taskmanager.Manager)) taskmanager.TaskFunc {
		t.Helper()
		return taskmanager.Group(func(g *taskmanager.Manager) error { start(g); return nil }, silently())
	}
	for title, test := range map[string]struct {
		start func(t *testing.T, m *taskmanager.Manager)
		gone  bool
		names []string // in what Run returns
	}{
		"completed":  {func(t *testing.T, m *taskmanager.Manager) { start(t, m, "c", done, taskmanager.WithCritical()) }, true, []string{`"c" has completed`}},
		"given up":   {func(t *testing.T, m *taskmanager.Manager) { start(t, m, "c", boom, once(), taskmanager.WithCritical()) }, true, []string{`"c"`}},
		"in backoff": {func(t *testing.T, m *taskmanager.Manager) { start(t, m, "c", boom, taskmanager.WithCritical()) }, false, nil},
		"waits for one that was given up": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", untilStopped, taskmanager.WithCritical(), taskmanager.WithDependsOn("db"))
			start(t, m, "db", boom, once(), taskmanager.WithReadiness(time.Minute)) // never ready
		}, true, []string{`"c"`, `"db"`}},
		"waits for one that waits for one that was given up": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "db", boom, once(), taskmanager.WithReadiness(time.Minute)) // never ready
			start(t, m, "mid", untilStopped, taskmanager.WithDependsOn("db"))
			start(t, m, "c", untilStopped, taskmanager.WithCritical(), taskmanager.WithDependsOn("mid"))
		}, true, []string{`"c"`, `"mid"`, `"db"`}},
		"waits for one that is not started": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", untilStopped, taskmanager.WithCritical(), taskmanager.WithDependsOn("db"))
		}, false, nil},
		"waits for one that is restarted": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", untilStopped, taskmanager.WithCritical(), taskmanager.WithDependsOn("db"))
			runs := 0
			start(t, m, "db", func(ctx context.Context) error {
				if runs++; runs == 1 {
					return backoff.Permanent(errBoom)
				}
				return untilStopped(ctx)
			})
			synctest.Wait()
			require.NoError(t, m.RestartTask(t.Context(), "db"))
		}, false, nil},
		"given up, and not critical": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", untilStopped, taskmanager.WithCritical())
			start(t, m, "db", boom, once())
			start(t, m, "waits", untilStopped, taskmanager.WithDependsOn("db"))
		}, false, nil},
		"stopped by hand": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", untilStopped, taskmanager.WithCritical())
			synctest.Wait()
			require.NoError(t, m.StopTask(t.Context(), "c"))
		}, false, nil},
		"completed, and revived": {func(t *testing.T, m *taskmanager.Manager) {
			runs := 0
			task := start(t, m, "c", func(ctx context.Context) error {
				if runs++; runs == 1 {
					return nil
				}
				return untilStopped(ctx)
			}, taskmanager.WithCritical())
			synctest.Wait()
			require.NoError(t, task.Restart(t.Context()))
		}, false, nil},
		"completed, and replaced by one that is not critical": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", done, taskmanager.WithCritical())
			synctest.Wait()
			start(t, m, "c", done)
		}, false, nil},
		"stuck after a missed heartbeat": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", slowToStop(time.Hour), taskmanager.WithCritical(), taskmanager.WithWatchdog(time.Second))
			time.Sleep(time.Minute)
		}, true, []string{`"c"`}},
		"late, and not stuck yet": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", slowToStop(4*time.Second), taskmanager.WithCritical(), taskmanager.WithWatchdog(time.Second))
			time.Sleep(2 * time.Second)
		}, false, nil},
		"a critical group whose critical task is given up, and that is restarted": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "g", group(t, func(g *taskmanager.Manager) { start(t, g, "c", boom, once(), taskmanager.WithCritical()) }),
				taskmanager.WithCritical())
		}, false, nil},
		"a critical group whose critical task is given up, and that is given up, too": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "g", group(t, func(g *taskmanager.Manager) { start(t, g, "c", boom, once(), taskmanager.WithCritical()) }),
				taskmanager.WithCritical(), once())
		}, true, []string{`"g"`, `"c"`}},
		"a group whose critical task is given up, and that is given up, too": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "g", group(t, func(g *taskmanager.Manager) { start(t, g, "c", boom, once(), taskmanager.WithCritical()) }), once())
		}, false, nil},
		"a critical group whose task is given up, which is not critical": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "g", group(t, func(g *taskmanager.Manager) { start(t, g, "db", boom, once()) }), taskmanager.WithCritical())
		}, false, nil},
		"a critical group whose critical task is stuck by hand": {func(t *testing.T, m *taskmanager.Manager) {
			var inner *taskmanager.Task
			start(t, m, "g", group(t, func(g *taskmanager.Manager) {
				inner = start(t, g, "c", slowToStop(8*time.Second), taskmanager.WithCritical())
			}), taskmanager.WithCritical())
			synctest.Wait()
			asStuck(t, inner.Stop(t.Context()), "c", 5*time.Second)
		}, false, nil},
		"a critical group whose critical task is stuck, so that it is given up": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "g", group(t, func(g *taskmanager.Manager) {
				start(t, g, "c", slowToStop(time.Hour), taskmanager.WithCritical(), taskmanager.WithWatchdog(time.Second))
			}), taskmanager.WithCritical())
			time.Sleep(time.Minute)
		}, true, []string{`"g"`, `"c"`}},
		"waits for a group that was given up": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", untilStopped, taskmanager.WithCritical(), taskmanager.WithDependsOn("g"))
			start(t, m, "g", group(t, func(g *taskmanager.Manager) {
				start(t, g, "db", boom, once(), taskmanager.WithCritical(), taskmanager.WithReadiness(time.Minute))
			}), once())
		}, true, []string{`"c"`, `"g"`}},
		"a critical task of a group that waits in vain": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "g", group(t, func(g *taskmanager.Manager) {
				start(t, g, "db", boom, once(), taskmanager.WithReadiness(time.Minute))
				start(t, g, "c", untilStopped, taskmanager.WithCritical(), taskmanager.WithDependsOn("db"))
			}), taskmanager.WithCritical(), once())
		}, true, []string{`"g"`, `"c"`, `"db"`}},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				test.start(t, m)
				synctest.Wait()
				assert.Equal(t, test.gone, m.Health().State == taskmanager.HealthFailing, "Health: %v", m.Health())
				assert.False(t, test.gone && m.Health().Ready, "Health: %v", m.Health())
				if test.gone {
					require.NotEmpty(t, m.Health().Problems)
					assert.True(t, m.Health().Problems[0].Critical, "the worst first: %v", m.Health())
				}
				ran := make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() { ran <- m.Run(ctx) }()
				synctest.Wait()
				if !test.gone {
					require.Empty(t, ran, "Run has ended")
					cancel()
				}
				err := <-ran
				if test.names == nil {
					require.NoError(t, err)
				}
				for _, name := range test.names {
					require.ErrorContains(t, err, name)
				}
				assert.Equal(t, test.gone, m.Health().State == taskmanager.HealthFailing, "after the end of Run: %v", m.Health())
				time.Sleep(2 * time.Hour) // what was stuck returns
				assert.Equal(t, test.gone, m.Health().State == taskmanager.HealthFailing, "in the end: %v", m.Health())
			})
		})
	}
}

// However many problems there are, a hundred are shown, the worst, and the others counted; those of groups, too.
func TestHealthShowsTheWorst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		for i := range 1000 {
			start(t, m, fmt.Sprintf("unready %04d", i), untilStopped, taskmanager.WithReadiness(24*time.Hour))
		}
		start(t, m, "z waits in vain", untilStopped, taskmanager.WithDependsOn("db"), critical)
		start(t, m, "db", boom, once(), taskmanager.WithReadiness(time.Minute)) // never ready
		for i := range 50 {
			start(t, m, fmt.Sprintf("failing %02d", i), boom)
		}
		start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			for i := range 150 {
				start(t, g, fmt.Sprintf("%03d", i), untilStopped, taskmanager.WithReadiness(24*time.Hour))
			}
			return nil
		}))
		synctest.Wait()
		h := m.Health()
		assert.Equal(t, taskmanager.HealthFailing, h.State)
		require.Len(t, h.Problems, 100)
		assert.Equal(t, 1000+1+1+50+150-100, h.ProblemsOmitted, "further ones")
		assert.Equal(t, []string{"z waits in vain", "db", "failing 00"}, []string{h.Problems[0].Task, h.Problems[1].Task, h.Problems[2].Task})
		assert.Equal(t, `waiting for "db" (failed)`, h.Problems[0].Detail)
		assert.Equal(t, "g/000", h.Problems[52].Task)
		text, err := json.Marshal(h)
		require.NoError(t, err)
		assert.Less(t, len(text), 15_000)
		assert.True(t, strings.HasSuffix(string(text), `"problems_omitted":1102}`))
	})
}

// What is shown of one that waits for many is short, too.
func TestHealthOfOneThatWaitsForMany(t *testing.T) {
	for n, want := range map[int]string{10: "", 11: " and 1 more", 1000: " and 990 more"} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			var names []string
			for i := range n {
				names = append(names, fmt.Sprint("d", i))
			}
			start(t, m, "a", untilStopped, taskmanager.WithDependsOn(names...))
			synctest.Wait()
			h := m.Health()
			require.Len(t, h.Problems, 1)
			assert.Equal(t, 10, strings.Count(h.Problems[0].Detail, "(not started)"))
			_, more, _ := strings.Cut(h.Problems[0].Detail, `"d9" (not started)`)
			assert.Equal(t, want, more)
		})
	}
}

// A task that fails every 30 s is failing whenever somebody looks, after its second failure; and thousands that are in backoff are not well.
func TestHealthOfWhatFailsAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "every 30 s", failAfter(30*time.Second))
		time.Sleep(65 * time.Second)
		for range 24 * 360 {
			if h := m.Health(); len(h.Problems) != 1 || h.State != taskmanager.HealthDegraded {
				require.Fail(t, "it is well", "%v: %+v", time.Now(), h)
			}
			time.Sleep(10 * time.Second)
		}
		assert.Regexp(t, `^\d{3} failures in a row since 2000-01-01T00:00:30Z$`, m.Health().Problems[0].Detail)
	})
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		for i := range 5000 {
			start(t, m, fmt.Sprint(i), boom)
		}
		synctest.Wait()
		h := m.Health()
		assert.Equal(t, taskmanager.HealthDegraded, h.State)
		assert.Equal(t, 5000, len(h.Problems)+h.ProblemsOmitted)
	})
}

// HealthOf asks those that are named, and nobody else; each of them has to run and be ready, or to have completed.
func TestHealthOf(t *testing.T) {
	type problem = taskmanager.HealthProblem
	done := func(context.Context) error { return nil }
	ok, notReady := taskmanager.HealthOK, taskmanager.HealthNotReady
	for name, test := range map[string]struct {
		begin func(t *testing.T, m *taskmanager.Manager)
		names []string
		want  taskmanager.Health
	}{
		"nobody": {func(*testing.T, *taskmanager.Manager) {}, nil, taskmanager.Health{Ready: true}},
		"those that run, whatever the others do": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", untilStopped)
			start(t, m, "b", readyAfter(0), taskmanager.WithReadiness(time.Minute))
			start(t, m, "migration", done)
			start(t, m, "unready", untilStopped, taskmanager.WithReadiness(time.Hour))
			start(t, m, "gone", boom, once(), critical)
		}, []string{"a", "b", "migration", "a"}, taskmanager.Health{State: ok, Ready: true}},
		"one that is not ready": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", untilStopped)
			start(t, m, "unready", untilStopped, taskmanager.WithReadiness(time.Hour))
		}, []string{"a", "unready", "unready"}, taskmanager.Health{
			State: taskmanager.HealthDegraded, Problems: []problem{{Task: "unready", State: taskmanager.StateRunning, Reason: notReady}},
		}},
		"no task": {func(*testing.T, *taskmanager.Manager) {}, []string{"htpp", "g/a", "/", ""}, taskmanager.Health{
			State: taskmanager.HealthDegraded, Problems: []problem{
				{Reason: notReady, Detail: "no task has this name"},
				{Task: "/", Reason: notReady, Detail: "no task has this name"},
				{Task: "g/a", Reason: notReady, Detail: "no task has this name"},
				{Task: "htpp", Reason: notReady, Detail: "no task has this name"},
			},
		}},
		"one that was stopped": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", untilStopped)
			synctest.Wait()
			require.NoError(t, m.StopTask(t.Context(), "a"))
		}, []string{"a"}, taskmanager.Health{
			State: taskmanager.HealthDegraded, Problems: []problem{{Task: "a", State: taskmanager.StateStopped, Reason: notReady}},
		}},
		"a plain one that waits": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", untilStopped, dependsOn("db"))
		}, []string{"a"}, taskmanager.Health{
			State:    taskmanager.HealthDegraded,
			Problems: []problem{{Task: "a", State: taskmanager.StateWaiting, Reason: notReady, Detail: `waiting for "db" (not started)`}},
		}},
		"a critical one that has completed": {func(t *testing.T, m *taskmanager.Manager) { start(t, m, "a", done, critical) }, []string{"a"}, taskmanager.Health{
			State: taskmanager.HealthFailing, Problems: []problem{{Task: "a", Critical: true, State: taskmanager.StateCompleted, Reason: taskmanager.HealthCompleted}},
		}},
		"one that was failing, and is ready": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", failAt(0, time.Second))
			time.Sleep(10 * time.Second)
		}, []string{"a"}, taskmanager.Health{
			State: taskmanager.HealthDegraded, Ready: true,
			Problems: []problem{{Task: "a", State: taskmanager.StateRunning, Reason: taskmanager.HealthTaskFailing, Detail: "2 failures in a row since 2000-01-01T00:00:00Z"}},
		}},
		"tasks of groups": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
				start(t, g, "a", untilStopped)
				start(t, g, "unready", untilStopped, taskmanager.WithReadiness(time.Hour))
				start(t, g, "inner", taskmanager.Group(func(g *taskmanager.Manager) error { start(t, g, "a", untilStopped); return nil }))
				return nil
			}))
			start(t, m, "g/b", untilStopped)
		}, []string{"g/a", "g/inner/a", "g/inner", "g/b"}, taskmanager.Health{State: ok, Ready: true}},
		"a group that is not ready": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
				start(t, g, "unready", untilStopped, taskmanager.WithReadiness(time.Hour))
				return nil
			}))
		}, []string{"g"}, taskmanager.Health{State: taskmanager.HealthDegraded, Problems: []problem{
			{Task: "g", State: taskmanager.StateRunning, Reason: notReady}, {Task: "g/unready", State: taskmanager.StateRunning, Reason: notReady},
		}}},
		"tasks of a group that is to be restarted": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
				start(t, g, "migration", done)
				synctest.Wait()
				start(t, g, "c", boom, once(), critical)
				return nil
			}))
			time.Sleep(time.Millisecond)
		}, []string{"g/migration", "g/c"}, taskmanager.Health{State: taskmanager.HealthDegraded, Problems: []problem{
			{Task: "g/c", Critical: true, State: taskmanager.StateFailed, Reason: taskmanager.HealthGivenUp},
			{Task: "g/migration", State: taskmanager.StateCompleted, Reason: notReady},
		}}},
		"nobody, of a closed Manager": {func(t *testing.T, m *taskmanager.Manager) { require.NoError(t, m.Shutdown(t.Context())) }, nil, taskmanager.Health{}},
		"a closed Manager": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", slowToStop(time.Second))
			start(t, m, "migration", done)
			synctest.Wait()
			go func() { _ = m.Shutdown(context.Background()) }()
		}, []string{"migration"}, taskmanager.Health{
			State: taskmanager.HealthDegraded, Problems: []problem{{Task: "migration", State: taskmanager.StateCompleted, Reason: notReady}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				test.begin(t, m)
				synctest.Wait()
				assert.Equal(t, test.want, m.HealthOf(test.names...))
			})
		})
	}
}

// A group with a critical task that has completed while it was started ends at once, and has not been ready.
func TestHealthOfAGroupThatEndsAsItIsStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(t.Context())
		start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			<-start(t, g, "c", func(context.Context) error { return nil }, critical).Done()
			return nil
		}, silently()), taskmanager.WithReadiness(time.Minute))
		assert.Empty(t, ofKind(taskmanager.EventReady, pending(events)))
	})
}
