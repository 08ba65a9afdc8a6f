package taskmanager_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestReadyInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", readyAfter(time.Second), taskmanager.WithReadiness(time.Second+1))
		assert.False(t, task.Stats().Ready)
		time.Sleep(time.Second - 1)
		synctest.Wait()
		assert.False(t, task.Stats().Ready)
		assert.Equal(t, taskmanager.StateRunning, task.State())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.True(t, task.Stats().Ready)
		time.Sleep(time.Hour)
		assert.True(t, task.Stats().Ready)
		assert.Zero(t, task.Stats().Failures)
		got := pending(events)
		assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventReady}, kinds(got, "a"))
		assert.EqualValues(t, 1, got[1].Run)
		require.NoError(t, task.Stop(t.Context()))
		assert.False(t, task.Stats().Ready)
	})
}

// It is a failure like any other: it is restarted after a delay, counted, and given up in the end.
func TestReadyNotInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact(taskmanager.WithMaxRestarts(2))...)
		events := m.Subscribe(t.Context())
		var causes causeLog
		began := time.Now()
		task := start(t, m, "a", causes.run, taskmanager.WithReadiness(5*time.Second))
		err := task.Wait(t.Context())
		took(t, 3*5*time.Second+2*time.Second, began)
		require.ErrorIs(t, err, taskmanager.ErrNotReady)
		require.ErrorIs(t, err, taskmanager.ErrTooManyRestarts)
		assert.EqualError(t, err, `taskmanager: gave up task "a" after 2 restarts within 1m0s: taskmanager: not ready in time (5s)`)
		assert.Equal(t, []error{taskmanager.ErrNotReady, taskmanager.ErrNotReady, taskmanager.ErrNotReady}, causes.all())
		s := task.Stats()
		assert.EqualValues(t, 3, s.Runs)
		assert.EqualValues(t, 3, s.Failures)
		assert.Equal(t, []taskmanager.EventKind{
			taskmanager.EventStarted, taskmanager.EventFailed, taskmanager.EventStarted, taskmanager.EventFailed,
			taskmanager.EventStarted, taskmanager.EventGaveUp,
		}, kinds(pending(events), "a"))
	})
}

// At the very moment of its timeout a body may be ready or late; it is never both.
func TestReadyAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		task := start(t, m, "a", readyAfter(time.Second), taskmanager.WithReadiness(time.Second))
		time.Sleep(time.Second)
		synctest.Wait()
		s := task.Stats()
		assert.Equal(t, s.Ready, s.Failures == 0, "%+v", s)
	})
}

// A restart takes readiness back, and what an old run says of itself is ignored.
func TestReadyBelongsToARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		var first context.Context
		run := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if run++; run == 1 {
				first = ctx
				taskmanager.Ready(ctx)
				return failAfter(time.Second)(ctx)
			}
			taskmanager.Ready(first)
			taskmanager.Heartbeat(first)
			assert.False(t, mustTask(t, ctx).Stats().Ready)
			return readyAfter(2 * time.Second)(ctx)
		}, taskmanager.WithReadiness(3*time.Second))
		synctest.Wait()
		assert.True(t, task.Stats().Ready)
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateBackoff, task.State())
		assert.False(t, task.Stats().Ready)
		taskmanager.Ready(first)
		assert.False(t, task.Stats().Ready, "nobody is ready while nothing runs")
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, task.State())
		assert.False(t, task.Stats().Ready)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.True(t, task.Stats().Ready)
	})
}

// Said twice, too late, or while the task is being stopped, it changes nothing.
func TestReadyAgainAndTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		events := m.Subscribe(t.Context())
		twice := start(t, m, "twice", func(ctx context.Context) error {
			taskmanager.Ready(ctx)
			taskmanager.Ready(ctx)
			return untilStopped(ctx)
		}, taskmanager.WithReadiness(time.Second))
		late := start(t, m, "late", func(ctx context.Context) error {
			<-ctx.Done()
			taskmanager.Ready(ctx)
			assert.False(t, mustTask(t, ctx).Stats().Ready)
			time.Sleep(time.Second)
			return nil
		}, taskmanager.WithReadiness(time.Second), taskmanager.WithRestart(taskmanager.RestartNever))
		stopped := start(t, m, "stopped", func(ctx context.Context) error {
			<-ctx.Done()
			taskmanager.Ready(ctx)
			return nil
		}, taskmanager.WithReadiness(time.Second))
		synctest.Wait()
		require.NoError(t, stopped.Stop(t.Context()))
		time.Sleep(time.Minute)
		assert.True(t, twice.Stats().Ready)
		assert.ErrorIs(t, late.Err(), taskmanager.ErrNotReady)
		got := pending(events)
		assert.Len(t, ofKind(taskmanager.EventReady, got), 1)
		assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStopped}, kinds(got, "stopped"))
	})
}

// A task without the option is ready as long as it runs, and Ready does nothing for it.
func TestReadyWithoutTheOption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", func(ctx context.Context) error {
			taskmanager.Ready(ctx)
			return failAfter(time.Second)(ctx)
		})
		watched := start(t, m, "watched", readyAfter(0), taskmanager.WithWatchdog(time.Hour))
		synctest.Wait()
		assert.True(t, task.Stats().Ready)
		assert.True(t, watched.Stats().Ready)
		time.Sleep(time.Second)
		synctest.Wait()
		assert.False(t, task.Stats().Ready)
		assert.Empty(t, ofKind(taskmanager.EventReady, pending(events)))
	})
}

func TestReadyAndHeartbeatOutsideOfATask(t *testing.T) {
	var none context.Context
	for name, ctx := range map[string]context.Context{"nil": none, "background": context.Background()} {
		t.Run(name, func(*testing.T) {
			taskmanager.Ready(ctx)
			taskmanager.Heartbeat(ctx)
			taskmanager.HeartbeatWithin(ctx, time.Second)
		})
	}
}

// Another Manager's task is not that of the Manager around it: what it says of itself, it says of itself alone.
// What a task of a Manager in a body says is not said by that body.
func TestReadyAndHeartbeatInANestedManager(t *testing.T) {
	for name, test := range map[string]struct {
		opt  taskmanager.TaskOption
		want error
	}{
		"Ready":     {taskmanager.WithReadiness(time.Second), taskmanager.ErrNotReady},
		"Heartbeat": {taskmanager.WithWatchdog(time.Second), taskmanager.ErrWatchdog},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact()...)
				outer := start(t, m, "outer", func(ctx context.Context) error {
					inner := mustNew(t, taskmanager.WithContext(ctx))
					start(t, inner, "inner", func(ctx context.Context) error {
						for ctx.Err() == nil {
							taskmanager.Ready(ctx)
							taskmanager.Heartbeat(ctx)
							time.Sleep(300 * time.Millisecond)
						}
						return nil
					})
					return inner.Run(ctx)
				}, test.opt, taskmanager.WithMaxRestarts(0))
				began := time.Now()
				time.Sleep(time.Second - 1)
				assert.Equal(t, name == "Heartbeat", outer.Stats().Ready)
				err := outer.Wait(t.Context())
				took(t, 1200*time.Millisecond, began) // the inner one notices the stop at its next look
				assert.ErrorIs(t, err, test.want)
			})
		})
	}
}

func TestWatchdogHeartbeatsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", func(ctx context.Context) error {
			for ctx.Err() == nil {
				taskmanager.Heartbeat(ctx)
				time.Sleep(time.Second - 1)
			}
			return nil
		}, taskmanager.WithWatchdog(time.Second))
		time.Sleep(time.Hour)
		assert.Zero(t, task.Stats().Failures)
		assert.Equal(t, taskmanager.StateRunning, task.State())
	})
}

// Exactly d after the last heartbeat, or after the start if there was none.
func TestWatchdogMissed(t *testing.T) {
	for name, test := range map[string]struct {
		beats []time.Duration // since the start
		want  time.Duration
	}{
		"none":         {nil, time.Second},
		"one":          {[]time.Duration{300 * time.Millisecond}, 1300 * time.Millisecond},
		"two":          {[]time.Duration{0, 999 * time.Millisecond}, 1999 * time.Millisecond},
		"many":         {[]time.Duration{1, 2, 3, time.Second, 1500 * time.Millisecond}, 2500 * time.Millisecond},
		"one too late": {[]time.Duration{time.Second + 1}, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact(taskmanager.WithMaxRestarts(0))...)
				began := time.Now()
				task := start(t, m, "a", func(ctx context.Context) error {
					for _, at := range test.beats {
						select {
						case <-time.After(time.Until(began.Add(at))):
						case <-ctx.Done():
						}
						taskmanager.Heartbeat(ctx)
					}
					<-ctx.Done()
					assert.Equal(t, taskmanager.ErrWatchdog, context.Cause(ctx))
					assert.Equal(t, context.Canceled, ctx.Err())
					return nil
				}, taskmanager.WithWatchdog(time.Second))
				err := task.Wait(t.Context())
				took(t, test.want, began)
				var overdue *taskmanager.OverdueError
				require.ErrorAs(t, err, &overdue)
				assert.Equal(t, taskmanager.ErrWatchdog, overdue.Err)
				assert.Equal(t, time.Second, overdue.Timeout)
				assert.EqualValues(t, 1, task.Stats().Failures)
				assert.Zero(t, task.Stats().Panics)
			})
		})
	}
}

func hangsHere(ctx context.Context) { <-ctx.Done() }

// The failure shows where the goroutines of the task were before the run was canceled, and nobody else's; so does the log.
func TestWatchdogShowsStacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelWarn)
		m := newManager(t, exact(taskmanager.WithLogger(slog.New(lines)))...)
		start(t, m, "other", func(ctx context.Context) error { <-ctx.Done(); return nil })
		task := start(t, m, "a", func(ctx context.Context) error {
			go hangsHere(ctx)
			<-ctx.Done()
			return nil
		}, taskmanager.WithWatchdog(time.Second))
		time.Sleep(time.Second + 1)
		var overdue *taskmanager.OverdueError
		require.ErrorAs(t, task.Stats().LastError, &overdue)
		stack := string(overdue.Stack)
		assert.Contains(t, stack, "hangsHere")
		assert.Contains(t, stack, "TestWatchdogShowsStacks.func1.2")
		assert.NotContains(t, stack, "TestWatchdogShowsStacks.func1.1")
		require.Len(t, lines.got(), 1)
		assert.Equal(t, "WARN task failed, will restart | task=a run=1 error=taskmanager: no heartbeat in time (1s)"+
			" at=TestWatchdogShowsStacks.func1.2(liveness_test.go) uptime=1s"+
			" restart_in=1s restarts=1 of 5 window=1m0s stack=", lines.got()[0][:strings.Index(lines.got()[0], "stack=")+6])
	})
}

// Any goroutine of the body, with any context that derives from the run's.
func TestWatchdogHeartbeatsFromChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", func(ctx context.Context) error {
			var wg sync.WaitGroup
			for i := range 3 {
				wg.Go(func() {
					child, cancel := context.WithCancel(context.WithValue(ctx, parentKey{}, i))
					defer cancel()
					time.Sleep(time.Duration(i) * 100 * time.Millisecond)
					for child.Err() == nil {
						taskmanager.Heartbeat(child)
						time.Sleep(300 * time.Millisecond)
					}
				})
			}
			wg.Wait()
			return nil
		}, taskmanager.WithWatchdog(100*time.Millisecond+1))
		time.Sleep(time.Minute)
		assert.Zero(t, task.Stats().Failures)
	})
}

func TestHeartbeatWithin(t *testing.T) {
	for name, test := range map[string]struct {
		body func(ctx context.Context)
		want time.Duration
	}{
		"longer":                  {func(ctx context.Context) { taskmanager.HeartbeatWithin(ctx, time.Minute) }, time.Minute},
		"shorter":                 {func(ctx context.Context) { taskmanager.HeartbeatWithin(ctx, time.Millisecond) }, time.Millisecond},
		"zero":                    {func(ctx context.Context) { taskmanager.HeartbeatWithin(ctx, 0) }, time.Second},
		"negative":                {func(ctx context.Context) { taskmanager.HeartbeatWithin(ctx, -time.Hour) }, time.Second},
		"the last to call counts": {func(ctx context.Context) { taskmanager.HeartbeatWithin(ctx, time.Minute); taskmanager.Heartbeat(ctx) }, time.Second},
		"the next is as any other": {func(ctx context.Context) {
			taskmanager.HeartbeatWithin(ctx, time.Minute)
			time.Sleep(time.Minute - 1)
			taskmanager.Heartbeat(ctx)
		}, time.Minute - 1 + time.Second},
		"later": {func(ctx context.Context) {
			time.Sleep(500 * time.Millisecond)
			taskmanager.HeartbeatWithin(ctx, 10*time.Second)
		}, 10500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithMaxRestarts(0))
				began := time.Now()
				task := start(t, m, "a", func(ctx context.Context) error {
					test.body(ctx)
					return untilStopped(ctx)
				}, taskmanager.WithWatchdog(time.Second))
				require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrWatchdog)
				took(t, test.want, began)
			})
		})
	}
}

// A body that ignores its cancellation is stuck after the stop timeout: loud, and without a second body. When it returns at
// last, its run has failed, and the next one comes as after any failure.
func TestWatchdogAndABodyThatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelWarn)
		m := newManager(t, exact(taskmanager.WithStopTimeout(3*time.Second), taskmanager.WithLogger(slog.New(lines)))...)
		events := m.Subscribe(t.Context())
		deaf := newDeafBody()
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs++; runs == 1 {
				return deaf.run(ctx)
			}
			taskmanager.HeartbeatWithin(ctx, time.Hour)
			return untilStopped(ctx)
		}, taskmanager.WithWatchdog(time.Second))

		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateStopping, task.State())
		assert.Zero(t, task.Stats().Failures, "its run has not ended")
		time.Sleep(3*time.Second - 1)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateStopping, task.State())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateStuck, task.State())
		_, err := m.StartTask("a", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
		asStuck(t, m.RestartTask(t.Context(), "a"), "a", 3*time.Second)
		assert.Equal(t, 1, runs)

		time.Sleep(time.Hour)
		assert.Equal(t, taskmanager.StateStuck, task.State())
		deaf.release()
		synctest.Wait()
		assert.Equal(t, taskmanager.StateBackoff, task.State())
		s := task.Stats()
		assert.EqualValues(t, 1, s.Failures)
		assert.ErrorIs(t, s.LastError, taskmanager.ErrWatchdog)
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, task.State())
		assert.Equal(t, 2, runs)
		got := pending(events)
		assert.Equal(t, []taskmanager.EventKind{
			taskmanager.EventStarted, taskmanager.EventStuck, taskmanager.EventFailed, taskmanager.EventStarted,
		}, kinds(got, "a"))
		stuck := asStuck(t, got[1].Err, "a", 3*time.Second)
		assert.Contains(t, string(stuck.Stack), "deafBody")
		assert.Equal(t, time.Hour+4*time.Second, got[2].Uptime)
	})
}

// What the body returns after it was canceled is kept beside the reason, if it says more.
func TestWatchdogAndWhatTheBodyReturns(t *testing.T) {
	for name, test := range map[string]struct {
		end    func(ctx context.Context) error
		text   string
		panics uint64
		final  bool
	}{
		"nil":           {func(context.Context) error { return nil }, "taskmanager: no heartbeat in time (1s)", 0, false},
		"ctx.Err":       {func(ctx context.Context) error { return ctx.Err() }, "taskmanager: no heartbeat in time (1s)", 0, false},
		"context.Cause": {context.Cause, "taskmanager: no heartbeat in time (1s)", 0, false},
		"another error": {boom, "taskmanager: no heartbeat in time (1s)\nboom", 0, false},
		"a panic":       {func(context.Context) error { panic("late") }, "taskmanager: no heartbeat in time (1s)\ntaskmanager: panic: late", 1, false},
		"stuck below it": {func(context.Context) error {
			return errors.Join(context.Canceled, &taskmanager.StopTimeoutError{Task: "x"})
		}, "", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact()...)
				task := start(t, m, "a", func(ctx context.Context) error {
					<-ctx.Done()
					return test.end(ctx)
				}, taskmanager.WithWatchdog(time.Second))
				time.Sleep(time.Second)
				synctest.Wait()
				s := task.Stats()
				assert.EqualValues(t, 1, s.Failures)
				assert.Equal(t, test.panics, s.Panics)
				assert.ErrorIs(t, s.LastError, taskmanager.ErrWatchdog)
				if test.final {
					var stuck *taskmanager.StopTimeoutError
					assert.ErrorAs(t, task.Err(), &stuck)
					assert.Equal(t, taskmanager.StateFailed, s.State)
					return
				}
				assert.EqualError(t, s.LastError, test.text)
				assert.Equal(t, taskmanager.StateBackoff, s.State)
			})
		})
	}
}

// A stop or a restart by hand that comes while the run is being canceled has its way.
func TestWatchdogAndARequestMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		events := m.Subscribe(t.Context())
		body := func(ctx context.Context) error {
			if mustTask(t, ctx).Stats().Runs > 1 {
				return untilStopped(ctx)
			}
			<-ctx.Done()
			assert.Equal(t, taskmanager.ErrWatchdog, context.Cause(ctx))
			time.Sleep(time.Second)
			return ctx.Err()
		}
		stopped := start(t, m, "stopped", body, taskmanager.WithWatchdog(time.Second))
		restarted := start(t, m, "restarted", body, taskmanager.WithWatchdog(time.Second))
		time.Sleep(1500 * time.Millisecond)
		began := time.Now()
		done := make(chan error)
		go func() { done <- stopped.Stop(t.Context()) }()
		require.NoError(t, restarted.Restart(t.Context()))
		require.NoError(t, <-done)
		took(t, 500*time.Millisecond, began)
		assert.Equal(t, taskmanager.StateStopped, stopped.State())
		assert.NoError(t, stopped.Err())
		assert.Equal(t, taskmanager.StateRunning, restarted.State())
		got := pending(events)
		ended := ofKind(taskmanager.EventStopped, got)
		require.Len(t, ended, 2, "%v", got)
		for _, e := range ended {
			assert.ErrorIs(t, e.Err, taskmanager.ErrWatchdog, "%s: what was wrong with the run is not lost", e.Task)
		}
		require.NoError(t, restarted.Stop(t.Context()))
	})
}

// The deadline of the watchdog's own stop is not that of a restart by hand.
func TestWatchdogLeavesARestartItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithStopTimeout(5*time.Second))
		task := start(t, m, "a", func(ctx context.Context) error {
			if mustTask(t, ctx).Stats().Runs > 1 {
				taskmanager.HeartbeatWithin(ctx, time.Hour)
				return untilStopped(ctx)
			}
			<-ctx.Done()
			time.Sleep(6 * time.Second)
			return nil
		}, taskmanager.WithWatchdog(9*time.Second))
		time.Sleep(12 * time.Second) // canceled at 9, stuck at 14, returns at 15; the restart may take until 17
		began := time.Now()
		require.NoError(t, task.Restart(t.Context()))
		took(t, 3*time.Second, began)
		assert.Equal(t, taskmanager.StateRunning, task.State())
		assert.EqualValues(t, 2, task.Stats().Runs)
	})
}

// A task that was asked to stop is not watched any longer: it has the stop timeout, as any other.
func TestWatchdogWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithStopTimeout(time.Minute))
		task := start(t, m, "a", slowToStop(30*time.Second),
			taskmanager.WithWatchdog(time.Second), taskmanager.WithReadiness(time.Second))
		synctest.Wait()
		began := time.Now()
		require.NoError(t, task.Stop(t.Context()))
		took(t, 30*time.Second, began)
		assert.Zero(t, task.Stats().Failures)
		assert.NoError(t, task.Err())
	})
}

// No timer outlives its run.
func TestWatchdogEndsWithTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(time.Hour, time.Hour))
		for i, body := range []taskmanager.TaskFunc{
			boom, func(context.Context) error { return nil }, func(context.Context) error { panic(1) },
		} {
			start(t, m, fmt.Sprint(i), body, taskmanager.WithWatchdog(time.Second), taskmanager.WithReadiness(time.Second))
		}
		synctest.Wait()
		events := m.Subscribe(t.Context())
		time.Sleep(30 * time.Minute)
		assert.Empty(t, pending(events))
		assert.Zero(t, m.Stats().Stuck)
	})
}

// Many that are late together are found together.
func TestWatchdogOfManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tasks = 200
		m := newManager(t, exact(taskmanager.WithMaxRestarts(0))...)
		began := time.Now()
		for i := range tasks {
			start(t, m, fmt.Sprint(i), untilStopped, taskmanager.WithWatchdog(time.Second))
		}
		for task := range m.Tasks() {
			var overdue *taskmanager.OverdueError
			require.ErrorAs(t, task.Wait(t.Context()), &overdue)
			assert.Contains(t, string(overdue.Stack), fmt.Sprintf(`"task":%q`, task.Name()))
		}
		took(t, time.Second, began)
	})
}

// The longest durations that there are must not come round as negative ones.
func TestWatchdogOfTheLongestDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const longest = time.Duration(math.MaxInt64)
		m := newManager(t)
		task := start(t, m, "a", func(ctx context.Context) error {
			time.Sleep(time.Hour)
			taskmanager.Heartbeat(ctx)
			time.Sleep(time.Hour)
			taskmanager.HeartbeatWithin(ctx, longest)
			return untilStopped(ctx)
		}, taskmanager.WithWatchdog(longest), taskmanager.WithReadiness(longest))
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, task.State())
	})
}

// The wait for the next pass is no hang; a pass that takes too long is one.
func TestWatchdogBetweenPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithRestart(taskmanager.RestartNever))
		passes := 0
		began := time.Now()
		task := start(t, m, "a", taskmanager.Every(time.Hour, func(ctx context.Context) error {
			passes++
			if passes == 5 {
				return untilStopped(ctx)
			}
			time.Sleep(time.Second - 1)
			return nil
		}), taskmanager.WithWatchdog(time.Second))
		require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrWatchdog)
		took(t, 4*time.Hour+time.Second, began)
		assert.Equal(t, 5, passes)
	})
}

func BenchmarkHeartbeat(b *testing.B) {
	for _, watched := range []bool{true, false} {
		for _, depth := range []int{0, 3} {
			b.Run(fmt.Sprintf("watched=%v/depth=%d", watched, depth), func(b *testing.B) {
				m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
				require.NoError(b, err)
				var opts []taskmanager.TaskOption
				if watched {
					opts = append(opts, taskmanager.WithWatchdog(time.Minute))
				}
				done := make(chan struct{})
				_, err = m.StartTask("a", func(ctx context.Context) error {
					defer close(done)
					for i := range depth {
						ctx = context.WithValue(ctx, parentKey{}, i)
					}
					b.ReportAllocs()
					for b.Loop() {
						taskmanager.Heartbeat(ctx)
					}
					return nil
				}, opts...)
				require.NoError(b, err)
				<-done
			})
		}
	}
}

// The shortest announcement that there is.
func TestHeartbeatWithinANanosecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		began := time.Now()
		task := start(t, m, "a", func(ctx context.Context) error {
			taskmanager.HeartbeatWithin(ctx, 1)
			return untilStopped(ctx)
		}, taskmanager.WithWatchdog(time.Second), once())
		require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrWatchdog)
		took(t, 1, began)
	})
}

// A run that its watchdog canceled has returned in time. At the deadline that it had for that, a later run is about to stop, in
// time as well.
func TestWatchdogHasNoSayInTheStopOfALaterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoff(0, 0))
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", func(ctx context.Context) error {
			if task, _ := taskmanager.FromContext(ctx); task.Stats().Runs == 1 {
				return untilStopped(ctx)
			}
			taskmanager.HeartbeatWithin(ctx, time.Hour)
			return slowToStop(2 * time.Second)(ctx)
		}, taskmanager.WithWatchdog(time.Second))
		time.Sleep(5 * time.Second)
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, []taskmanager.EventKind{
			taskmanager.EventStarted, taskmanager.EventFailed, taskmanager.EventStarted, taskmanager.EventStopped,
		}, kinds(pending(events), "a"))
	})
}

// Nobody hears that the run of a stuck task has failed before they hear that it is stuck, though its body returns as soon as it is.
func TestWatchdogPublishesStuckBeforeFailed(t *testing.T) {
	m := newManager(t)
	events := m.Subscribe(t.Context())
	start(t, m, "a", func(ctx context.Context) error {
		task, _ := taskmanager.FromContext(ctx)
		for task.State() != taskmanager.StateStuck {
			runtime.Gosched()
		}
		return nil
	}, taskmanager.WithWatchdog(time.Millisecond), taskmanager.WithStopTimeout(time.Millisecond), taskmanager.WithBackoff(time.Hour, time.Hour))
	for _, want := range []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStuck, taskmanager.EventFailed} {
		require.Equal(t, want, (<-events).Kind)
	}
}

// The parent context has ended, and a task waits for those that depend on it before it is asked to stop. To be late is no failure
// then: the body hears of the parent's end, and what the watchdog has found is kept as the run's own error.
func TestWatchdogWhileTheStopWaitsForItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancelCause(t.Context())
		m := mustNew(t, taskmanager.WithContext(parent))
		events := m.Subscribe(t.Context())
		var body causeLog
		db := start(t, m, "db", body.run, taskmanager.WithWatchdog(3*time.Second))
		dependent := start(t, m, "dependent", slowToStop(4*time.Second), taskmanager.WithDependsOn("db"))
		synctest.Wait()
		began := time.Now()
		cancel(errWhy)
		require.NoError(t, db.Wait(t.Context()))
		took(t, 3*time.Second, began)
		assert.Equal(t, []error{errWhy}, body.all())
		assert.Zero(t, db.Stats().Failures)
		got := ofKind(taskmanager.EventStopped, pending(events))
		require.Len(t, got, 1)
		assert.Equal(t, errWhy, got[0].Cause)
		require.ErrorIs(t, got[0].Err, taskmanager.ErrWatchdog)
		<-dependent.Done()
	})
}

// The step that might have taken longer has not, and the body hangs in the next one.
func TestHeartbeatAfterALongOneCountsAsAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		began := time.Now()
		task := start(t, m, "a", func(ctx context.Context) error {
			taskmanager.HeartbeatWithin(ctx, time.Hour)
			time.Sleep(time.Minute)
			taskmanager.Heartbeat(ctx)
			<-ctx.Done()
			return nil
		}, taskmanager.WithWatchdog(9*time.Second), once())
		require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrWatchdog)
		took(t, time.Minute+9*time.Second, began)
	})
}

// A HeartbeatWithin that asks for less than what is left does not make the timer late.
func TestHeartbeatWithinIsNotTakenForALateTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		began := time.Now()
		task := start(t, m, "a", func(ctx context.Context) error {
			time.Sleep(8 * time.Second)
			taskmanager.HeartbeatWithin(ctx, 5*time.Second)
			<-ctx.Done()
			return nil
		}, taskmanager.WithWatchdog(10*time.Second), once())
		require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrWatchdog)
		took(t, 13*time.Second, began)
	})
}

// The least time is kept, too.
func TestWatchdogOfTheShortestDuration(t *testing.T) {
	for want, opt := range map[error]taskmanager.TaskOption{
		taskmanager.ErrWatchdog: taskmanager.WithWatchdog(1), taskmanager.ErrNotReady: taskmanager.WithReadiness(1),
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			began := time.Now()
			task := start(t, m, "a", untilStopped, opt, once())
			require.ErrorIs(t, task.Wait(t.Context()), want)
			took(t, 1, began)
		})
	}
}

// A run that its watchdog has ended keeps what the body has returned beside that.
func TestWatchdogKeepsTheBodysOwnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		own := errors.New("300 rows lost")
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			return errors.Join(context.Cause(ctx), own)
		}, taskmanager.WithWatchdog(time.Second), once())
		err := task.Wait(t.Context())
		require.ErrorIs(t, err, own)
		require.ErrorIs(t, err, taskmanager.ErrWatchdog)
	})
}

// A slow start is the readiness timeout's to watch: the watchdog begins when the body is ready.
func TestWatchdogBeginsAtReadiness(t *testing.T) {
	for title, test := range map[string]struct {
		body func(ctx context.Context)
		at   time.Duration // when the run is canceled; 0 for never
	}{
		"a slow start": {func(ctx context.Context) {
			time.Sleep(10 * time.Second)
			taskmanager.Ready(ctx)
			for ctx.Err() == nil {
				taskmanager.Heartbeat(ctx)
				time.Sleep(time.Second / 2)
			}
		}, 0},
		"silence after it": {func(ctx context.Context) {
			time.Sleep(10 * time.Second)
			taskmanager.Ready(ctx)
			<-ctx.Done()
		}, 11 * time.Second},
		"a heartbeat before it": {func(ctx context.Context) {
			time.Sleep(5 * time.Second)
			taskmanager.Heartbeat(ctx)
			time.Sleep(5 * time.Second)
			taskmanager.Ready(ctx)
			<-ctx.Done()
		}, 11 * time.Second},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				began := time.Now()
				task := start(t, m, "a", func(ctx context.Context) error { test.body(ctx); return ctx.Err() },
					taskmanager.WithReadiness(time.Minute), taskmanager.WithWatchdog(time.Second), once())
				if test.at == 0 {
					time.Sleep(time.Hour)
					require.Equal(t, taskmanager.StateRunning, settled(task))
					require.NoError(t, task.Stop(t.Context()))
					return
				}
				require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrWatchdog)
				took(t, test.at, began)
			})
		})
	}
}

// A process that was frozen for longer than the watchdog's time has done no wrong when it goes on: its bodies have had no more
// chance to say something than the watchdog to listen. Only a process of one's own can be frozen, and a bubble has no late
// timers.
func TestWatchdogOfAFrozenProcess(t *testing.T) {
	const (
		inner  = "TASKMANAGER_TEST_FROZEN"
		period = time.Second
		tasks  = 50
	)
	if os.Getenv(inner) != "" {
		m := newManager(t, taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		for i := range tasks {
			start(t, m, fmt.Sprint("t", i), func(ctx context.Context) error {
				for ctx.Err() == nil {
					taskmanager.Heartbeat(ctx)
					time.Sleep(period / 10)
				}
				return nil
			}, taskmanager.WithWatchdog(period))
		}
		fmt.Println("up")
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is closed
		fmt.Println("failures:", m.Stats().Failures)
		return
	}
	if testing.Short() {
		t.Skip("takes seconds")
	}
	child := again(t, inner)
	stdin, err := child.StdinPipe()
	require.NoError(t, err)
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	said := bufio.NewScanner(stdout)
	for said.Scan() && said.Text() != "up" {
	}
	for range 3 {
		require.NoError(t, child.Process.Signal(syscall.SIGSTOP))
		time.Sleep(2 * period) // frozen
		require.NoError(t, child.Process.Signal(syscall.SIGCONT))
		time.Sleep(period / 4) // in which every timer that is due fires
	}
	require.NoError(t, stdin.Close())
	var rest []string
	for said.Scan() {
		rest = append(rest, said.Text())
	}
	require.NoError(t, child.Wait())
	assert.Contains(t, strings.Join(rest, "\n"), "failures: 0")
}

// A log that needs longer for the line of the start than the body has, takes nothing from it.
func TestReadyTimeBeginsWithTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, slowLog("task started", func() { time.Sleep(time.Minute) }))
		task := start(t, m, "a", func(ctx context.Context) error {
			time.Sleep(time.Second)
			taskmanager.Ready(ctx)
			return untilStopped(ctx)
		}, taskmanager.WithReadiness(2*time.Second))
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		assert.True(t, task.Stats().Ready)
		assert.Zero(t, task.Stats().Failures)
	})
}

// A body that was late and panics with the error of its context has panicked, whatever it says.
func TestWatchdogOfABodyThatPanicsWithTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			panic(context.Cause(ctx))
		}, taskmanager.WithWatchdog(time.Minute), once())
		err := task.Wait(t.Context())
		require.ErrorIs(t, err, taskmanager.ErrWatchdog)
		var panicked *taskmanager.PanicError
		require.ErrorAs(t, err, &panicked)
		assert.NotEmpty(t, panicked.Stack())
		assert.EqualValues(t, 1, task.Stats().Panics)
	})
}

// What a body calls in vain is in the log: once for a task, however often it is called and in however many runs.
func TestLivenessCallsThatHaveNoEffect(t *testing.T) {
	const (
		ready     = "WARN Ready has no effect: the task has no WithReadiness | task=a"
		heartbeat = "WARN Heartbeat has no effect: the task has no WithWatchdog | task=a"
	)
	readiness, watchdog := taskmanager.WithReadiness(time.Hour), taskmanager.WithWatchdog(time.Hour)
	within := func(ctx context.Context) { taskmanager.HeartbeatWithin(ctx, time.Minute) }
	for name, test := range map[string]struct {
		call func(ctx context.Context)
		opts []taskmanager.TaskOption
		want []string
	}{
		"Ready":                        {taskmanager.Ready, nil, []string{ready}},
		"Ready, with a watchdog":       {taskmanager.Ready, []taskmanager.TaskOption{watchdog}, []string{ready}},
		"Ready, as it is meant":        {taskmanager.Ready, []taskmanager.TaskOption{readiness}, nil},
		"Heartbeat":                    {taskmanager.Heartbeat, nil, []string{heartbeat}},
		"Heartbeat, with readiness":    {taskmanager.Heartbeat, []taskmanager.TaskOption{readiness}, []string{heartbeat}},
		"Heartbeat, as it is meant":    {taskmanager.Heartbeat, []taskmanager.TaskOption{watchdog}, nil},
		"HeartbeatWithin":              {within, nil, []string{heartbeat}},
		"HeartbeatWithin, with ready":  {within, []taskmanager.TaskOption{readiness}, []string{heartbeat}},
		"HeartbeatWithin, as it meant": {within, []taskmanager.TaskOption{watchdog}, nil},
		"all": {func(ctx context.Context) {
			taskmanager.Ready(ctx)
			taskmanager.Heartbeat(withValue(ctx))
			within(ctx)
		}, nil, []string{ready, heartbeat}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				m := newManager(t, exact(taskmanager.WithLogger(slog.New(lines)))...)
				start(t, m, "a", func(ctx context.Context) error {
					for range 1000 {
						test.call(ctx)
					}
					return failAfter(time.Second)(ctx)
				}, test.opts...)
				time.Sleep(5 * time.Second)
				assert.ElementsMatch(t, test.want, lines.about("no effect"))
			})
		})
	}
	t.Run("of a task in a group, and of nobody", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			lines := newLines(slog.LevelInfo)
			m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
			taskmanager.Ready(t.Context())
			taskmanager.Heartbeat(t.Context())
			start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
				start(t, g, "a", func(ctx context.Context) error { taskmanager.Heartbeat(ctx); return untilStopped(ctx) })
				return nil
			}), watchdog)
			start(t, m, "each minute", taskmanager.Every(time.Minute, func(context.Context) error { return nil }), readiness)
			time.Sleep(time.Hour - 1)
			assert.Equal(t, []string{"WARN Heartbeat has no effect: the task has no WithWatchdog | task=g/a"}, lines.about("no effect"))
		})
	})
}

// The log's handler may hang with such a line: the body goes on, and so does everybody else.
func TestLivenessCallsThatHaveNoEffectWaitForNobody_Promise4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		m := mustNew(t, slowLog("Ready has no effect: the task has no WithReadiness", func() { <-hang }))
		other := start(t, m, "other", untilStopped)
		task := start(t, m, "a", func(ctx context.Context) error { taskmanager.Ready(ctx); return nil })
		require.NoError(t, task.Wait(t.Context()))
		require.NoError(t, other.Stop(t.Context()))
		close(hang)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}
