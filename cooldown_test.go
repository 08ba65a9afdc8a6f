package taskmanager_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A task that has used up its restarts pauses, and begins afresh: its limit, its backoff and its row of failures. It is the same life.
func TestCooldownAfterTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := observed(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithBackoffFactor(2))
		reports := newInbox(nil)
		m.SetReporter(reports)
		events := m.Subscribe(t.Context())
		began := time.Now()
		task := start(t, m, "a", boom, taskmanager.WithMaxRestarts(2), taskmanager.WithBackoff(time.Second, time.Minute), taskmanager.WithCooldown(time.Hour))
		done := task.Done()
		for i := range uint64(3) {
			assert.Equal(t, taskmanager.StateBackoff, settled(task))
			assert.Equal(t, 1, task.Stats().ConsecutiveFailures)
			time.Sleep(time.Second)
			synctest.Wait()
			assert.Equal(t, 2, task.Stats().ConsecutiveFailures)
			time.Sleep(2 * time.Second)
			assert.Equal(t, taskmanager.StatePaused, settled(task), "after 1s and 2s")
			s := task.Stats()
			assert.Equal(t, time.Now().Add(time.Hour).UnixNano(), s.NextRunAt.UnixNano())
			assert.Equal(t, 3*(i+1), s.Runs)
			assert.Equal(t, 3*(i+1), s.Failures)
			assert.Equal(t, 2, s.RestartsInWindow)
			assert.Equal(t, 3, s.ConsecutiveFailures)
			assert.Equal(t, began.UnixNano(), s.StartedAt.UnixNano())
			require.NoError(t, task.Err(), "it is not over")
			got := received(events)
			e := got[len(got)-1]
			assert.Equal(t, taskmanager.EventGaveUp, e.Kind)
			require.ErrorIs(t, e.Err, taskmanager.ErrTooManyRestarts)
			assert.Equal(t, time.Hour, e.Delay)
			assert.Len(t, lines.about("task gave up, pauses"), int(i)+1) //nolint:gosec // it is no large number
			time.Sleep(time.Hour)
		}
		synctest.Wait()
		assert.Equal(t, done, task.Done())
		assert.Equal(t, "ERROR task gave up, pauses | task=a run=3 reason=limit error=boom uptime=0s restart_in=1h0m0s restarts=2 of 2 window=1m0s",
			lines.about("pauses")[0])
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Len(t, ofKind(taskmanager.EventGaveUp, reports.events()), 3)
		require.NoError(t, task.Wait(t.Context()))
	})
}

// Whatever else ends a task whose next run might go well; and nothing else.
func TestCooldownAfter(t *testing.T) {
	policies := 0
	for name, test := range map[string]struct {
		body   taskmanager.TaskFunc
		opts   []taskmanager.TaskOption
		reason taskmanager.GiveUpReason
		cools  bool
	}{
		"the first failure": {boom, []taskmanager.TaskOption{once()}, taskmanager.GaveUpNever, true},
		"the first failure, of which it takes user code to know": {
			func(context.Context) error { return askedError{func() {}} }, []taskmanager.TaskOption{once()}, taskmanager.GaveUpNever, true,
		},
		"no restart allowed": {boom, []taskmanager.TaskOption{taskmanager.WithMaxRestarts(0)}, taskmanager.GaveUpLimit, true},
		"a limit, without a failure": {
			func(context.Context) error { return nil },
			[]taskmanager.TaskOption{taskmanager.WithMaxRestarts(0), taskmanager.WithRestart(taskmanager.RestartAlways)},
			taskmanager.GaveUpLimit, true,
		},
		"a policy": {boom, []taskmanager.TaskOption{taskmanager.WithBackOffPolicy(func() backoff.BackOff {
			policies++
			return &backoff.StopBackOff{}
		})}, taskmanager.GaveUpPolicy, true},
		"a policy that panics": {boom, []taskmanager.TaskOption{taskmanager.WithBackOffPolicy(func() backoff.BackOff {
			return policyFunc(func() time.Duration { panic("policy") })
		})}, taskmanager.GaveUpPolicy, true},
		"a policy that exits": {boom, []taskmanager.TaskOption{taskmanager.WithBackOffPolicy(func() backoff.BackOff {
			return policyFunc(func() time.Duration { runtime.Goexit(); return 0 })
		})}, taskmanager.GaveUpPolicy, true},
		"a permanent error":                 {func(context.Context) error { return backoff.Permanent(errBoom) }, nil, taskmanager.GaveUpPermanent, false},
		"a permanent error, first failure":  {func(context.Context) error { return backoff.Permanent(errBoom) }, []taskmanager.TaskOption{once()}, taskmanager.GaveUpNever, false},
		"a permanent error, by its methods": {func(context.Context) error { return wrapping{backoff.Permanent(errBoom)} }, []taskmanager.TaskOption{once()}, taskmanager.GaveUpNever, false},
		"something left running": {
			func(context.Context) error { return fmt.Errorf("below: %w", &taskmanager.StopTimeoutError{}) },
			[]taskmanager.TaskOption{once()},
			taskmanager.GaveUpLeftRunning, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				events := m.Subscribe(t.Context())
				task := start(t, m, "a", test.body, append(test.opts, taskmanager.WithCooldown(time.Minute))...)
				for i := range uint64(3) {
					state := settled(task)
					e := ofKind(taskmanager.EventGaveUp, pending(events))
					if !test.cools {
						if i == 0 {
							require.Len(t, e, 1)
							assert.Zero(t, e[0].Delay)
							var gaveUp *taskmanager.GiveUpError
							require.ErrorAs(t, e[0].Err, &gaveUp)
							assert.Equal(t, test.reason, gaveUp.Reason)
						}
						assert.Equal(t, taskmanager.StateFailed, state)
						continue
					}
					assert.Equal(t, taskmanager.StatePaused, state)
					require.Len(t, e, 1)
					assert.Equal(t, time.Minute, e[0].Delay)
					var gaveUp *taskmanager.GiveUpError
					require.ErrorAs(t, e[0].Err, &gaveUp)
					assert.Equal(t, test.reason, gaveUp.Reason)
					assert.Equal(t, i+1, task.Stats().Runs)
					require.NoError(t, task.Err())
					time.Sleep(time.Minute)
				}
				synctest.Wait()
			})
		})
	}
	assert.Equal(t, 4, policies, "one at the start, and one after each cooldown")
}

// Whoever asks something of a task that cools down does not wait for the rest of it.
func TestCooldownEndsByHand(t *testing.T) {
	for name, ends := range map[string]struct {
		call  func(task *taskmanager.Task) error
		state taskmanager.State
		kinds []taskmanager.EventKind
	}{
		"resumed": {(*taskmanager.Task).Resume, taskmanager.StateRunning, []taskmanager.EventKind{taskmanager.EventResumed, taskmanager.EventStarted}},
		"restarted": {
			func(task *taskmanager.Task) error { return task.Restart(context.Background()) }, taskmanager.StateRunning,
			[]taskmanager.EventKind{taskmanager.EventResumed, taskmanager.EventStarted},
		},
		"paused": {
			func(task *taskmanager.Task) error { return task.Pause(context.Background()) }, taskmanager.StatePaused,
			[]taskmanager.EventKind{taskmanager.EventPaused},
		},
		"stopped": {
			func(task *taskmanager.Task) error { return task.Stop(context.Background()) }, taskmanager.StateStopped,
			[]taskmanager.EventKind{taskmanager.EventStopped},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				task := start(t, m, "a", failAt(0), once(), taskmanager.WithCooldown(time.Minute))
				assert.Equal(t, taskmanager.StatePaused, settled(task))
				idle := goroutines()
				events := m.Subscribe(t.Context())
				began := time.Now()
				require.NoError(t, ends.call(task))
				took(t, 0, began)
				assert.Equal(t, ends.state, settled(task))
				assert.Equal(t, ends.kinds, kinds(pending(events), "a"))
				time.Sleep(time.Hour)
				assert.Equal(t, ends.state, settled(task))
				assert.Zero(t, task.Stats().NextRunAt)
				if ends.state != taskmanager.StateRunning {
					assert.Equal(t, idle-1, goroutines())
				} else {
					assert.Zero(t, task.Stats().ConsecutiveFailures)
				}
				if ends.state == taskmanager.StatePaused {
					assert.Equal(t, taskmanager.HealthPaused, m.Health().Problems[0].Reason, "not given up any more")
					require.NoError(t, task.Resume())
					assert.Equal(t, taskmanager.StateRunning, settled(task))
				}
			})
		})
	}
}

// A critical task that cools down is not gone: Run goes on, and Health is not failing. But it is not ready, nor is who waits for it.
func TestCooldownOfACriticalTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		task := start(t, m, "a", failAt(0), once(), taskmanager.WithCooldown(time.Minute), taskmanager.WithCritical())
		begin := time.Now()
		assert.Equal(t, taskmanager.StatePaused, settled(task))
		dependent := start(t, m, "b", untilStopped, dependsOn("a"), taskmanager.WithCritical())
		synctest.Wait()
		r, cancel := goRun(t, m)
		r.lives(t)
		h := m.Health()
		assert.Equal(t, taskmanager.HealthDegraded, h.State)
		assert.False(t, h.Ready)
		require.Len(t, h.Problems, 2)
		assert.Equal(t, taskmanager.HealthProblem{
			Task: "a", Critical: true, State: taskmanager.StatePaused, Reason: taskmanager.HealthGivenUp,
			Detail: "until " + begin.Add(time.Minute).UTC().Format(time.RFC3339),
		}, h.Problems[0])
		assert.Equal(t, `waiting for "a" (paused)`, dependent.Stats().Status)
		time.Sleep(time.Minute)
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		assert.Equal(t, taskmanager.StateRunning, settled(dependent))
		assert.Equal(t, taskmanager.Health{Ready: true}, m.Health())
		cancel()
		require.NoError(t, r.err(t, time.Minute))
	})
}

// A cooldown that is over is followed by a turn of the fleet-wide limit, as any delay is.
func TestCooldownIsFollowedByATurnOfTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithRestartLimit(0.1, 1))
		a := start(t, m, "a", failAt(0), once(), taskmanager.WithCooldown(time.Second))
		b := start(t, m, "b", failAt(0), once(), taskmanager.WithCooldown(time.Second+1))
		time.Sleep(time.Second + 1)
		assert.Equal(t, taskmanager.StateRunning, settled(a))
		assert.Equal(t, taskmanager.StatePaused, settled(b))
		time.Sleep(10 * time.Second)
		assert.Equal(t, taskmanager.StateRunning, settled(b))
	})
}

// What cools down is not merged with what was given up for good, in reports and in the log.
func TestCooldownIsReportedApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelError)
		m := mustNew(t, taskmanager.WithReportLimit(0.01, 1), taskmanager.WithLogLimit(0.01, 1), taskmanager.WithLogger(slog.New(lines)))
		reports := newInbox(nil)
		m.SetReporter(reports)
		start(t, m, "first", boom, once())
		synctest.Wait()
		for i := range 40 {
			start(t, m, fmt.Sprint("cools ", i), boom, once(), taskmanager.WithCooldown(time.Hour))
			start(t, m, fmt.Sprint("fails ", i), boom, once())
		}
		time.Sleep(150 * time.Second)
		require.NoError(t, m.Shutdown(t.Context()))
		got := make(map[time.Duration]int)
		for _, e := range reports.events()[1:] {
			assert.Equal(t, 40, e.TaskCount)
			got[e.Delay] += e.TaskCount
		}
		assert.Equal(t, map[time.Duration]int{0: 40, time.Hour: 40}, got)
		pauses := lines.about("task gave up, pauses | tasks=40")
		require.Len(t, pauses, 1)
		assert.Contains(t, pauses[0], "restart_in=1h0m0s")
		assert.Len(t, lines.about("task failed for good, gave up | tasks=40"), 1)
	})
}

func TestCooldownIsRefused(t *testing.T) {
	for _, d := range []time.Duration{0, -1, -time.Hour} {
		_, err := taskmanager.New(taskmanager.WithCooldown(d))
		require.EqualError(t, err, fmt.Sprintf("taskmanager: WithCooldown(%v): must be positive", d))
	}
}

// A cooldown is no shorter than the time that the failure asks for.
func TestCooldownAfterAFailureThatAsksForTime(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{time.Minute: time.Minute, time.Second: 10 * time.Second} {
		for name, o := range map[string]taskmanager.TaskOption{
			"limit": taskmanager.WithMaxRestarts(0), "never": taskmanager.WithRestart(taskmanager.RestartNever),
		} {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				events := m.Subscribe(t.Context())
				task := start(t, m, "a", func(context.Context) error { return busyError(asked) }, o, taskmanager.WithCooldown(10*time.Second))
				time.Sleep(want - 1)
				synctest.Wait()
				assert.EqualValues(t, 1, task.Stats().Runs, name)
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				assert.EqualValues(t, 2, task.Stats().Runs, name)
				assert.Equal(t, want, ofKind(taskmanager.EventGaveUp, pending(events))[0].Delay, name)
			})
		}
	}
}
