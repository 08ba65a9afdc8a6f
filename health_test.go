package taskmanager_test

import (
	"context"
	"encoding/json"
	"fmt"
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
		// A failure now and then is what supervision is for.
		start(t, m, "failed once", failAt(0))
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "stopped"))
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
		gone := taskmanager.Health{State: taskmanager.HealthFailing, Ready: true, Problems: []taskmanager.HealthProblem{
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
		require.NoError(t, m.Run(t.Context()))
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
		time.Sleep(19 * time.Second)
		assert.Empty(t, m.Health().Problems, "2 of 5")
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Len(t, m.Health().Problems, 1, "3 of 5")
		time.Sleep(39 * time.Second)
		assert.Len(t, m.Health().Problems, 1, "it runs again, but for how long")
		time.Sleep(time.Second)
		assert.Empty(t, m.Health().Problems)
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

// What Run has ended for stays its reason, and is no problem of a task that has stopped since.
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
		assert.Equal(t, taskmanager.Health{}, m.Health())
	})
}

// Health and Run say the same of a critical task: gone is one that has completed, and one that waits for what was given up.
func TestHealthAndRunSayTheSame(t *testing.T) {
	done := func(context.Context) error { return nil }
	for title, test := range map[string]struct {
		start func(t *testing.T, m *taskmanager.Manager)
		gone  bool
		names []string // in what Run returns
	}{
		"completed":  {func(t *testing.T, m *taskmanager.Manager) { start(t, m, "c", done, taskmanager.WithCritical()) }, true, nil},
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
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				test.start(t, m)
				synctest.Wait()
				assert.Equal(t, test.gone, m.Health().State == taskmanager.HealthFailing, "Health: %v", m.Health())
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
			})
		})
	}
}
