package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// sequence returns what has happened to the task, without starts: "1m2s recovered run=2 failures=1 since 1s".
func sequence(began time.Time, events []taskmanager.Event, task string) (got []string) {
	for _, e := range events {
		if e.Task != task || e.Kind == taskmanager.EventStarted {
			continue
		}
		line := fmt.Sprintf("%v %v run=%d", e.Time.Sub(began), e.Kind, e.Run)
		if e.Kind == taskmanager.EventRecovered {
			line += fmt.Sprintf(" failures=%d since %v, after %v", e.Failures, e.FailedSince.Sub(began), e.Uptime)
		}
		got = append(got, line)
	}
	return got
}

// runsOf returns a body whose runs are those, one after the other; the last is repeated.
func runsOf(bodies ...taskmanager.TaskFunc) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		body := bodies[0]
		if len(bodies) > 1 {
			bodies = bodies[1:]
		}
		return body(ctx)
	}
}

// recovers runs a task in a bubble, in which act does something, and compares what has happened.
func recovers(t *testing.T, body taskmanager.TaskFunc, opts []taskmanager.TaskOption, act func(m *taskmanager.Manager, task *taskmanager.Task), want ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events, began := m.Subscribe(t.Context()), time.Now()
		task := start(t, m, "a", body, append([]taskmanager.TaskOption{
			taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0), taskmanager.WithMaxRestarts(3), taskmanager.WithStopTimeout(time.Hour),
		}, opts...)...)
		act(m, task)
		got := sequence(began, pending(events), "a")
		for i := range got {
			if got[i] != want[min(i, len(want)-1)] {
				assert.Equal(t, want, got)
				break
			}
		}
		assert.Len(t, got, len(want))
	})
}

func wait(d time.Duration) func(*taskmanager.Manager, *taskmanager.Task) {
	return func(*taskmanager.Manager, *taskmanager.Task) { time.Sleep(d) }
}

// A failure, a recovery, a failure: each at its time, with the number of its run.
func TestRecoveryAfterFailures(t *testing.T) {
	recovers(t, runsOf(failAfter(time.Second), failAfter(10*time.Second), failAfter(2*time.Minute), untilStopped), nil, wait(5*time.Minute),
		"1s failed run=1",
		"12s failed run=2",
		"1m13s recovered run=3 failures=2 since 1s, after 1m0s",
		"2m13s failed run=3",
		"3m14s recovered run=4 failures=1 since 2m13s, after 1m0s",
	)
}

func TestRecoveryIsToldOnce(t *testing.T) {
	recovers(t, runsOf(boom, untilStopped), nil, wait(time.Hour), "0s failed run=1", "1m1s recovered run=2 failures=1 since 0s, after 1m0s")
	recovers(t, untilStopped, nil, wait(time.Hour), []string{}...)
}

// A run is healthy as soon as it has lasted for the time, to the nanosecond; one that ends a nanosecond before that is not.
func TestRecoveryAtTheEdge(t *testing.T) {
	after := taskmanager.WithHealthyAfter(10 * time.Second)
	recovers(t, runsOf(boom, failAfter(10*time.Second), untilStopped), []taskmanager.TaskOption{after}, wait(12*time.Second),
		"0s failed run=1", "11s recovered run=2 failures=1 since 0s, after 10s", "11s failed run=2")
	recovers(t, runsOf(boom, failAfter(10*time.Second-1), untilStopped), []taskmanager.TaskOption{after}, wait(12*time.Second),
		"0s failed run=1", "10.999999999s failed run=2")
}

// What ends the row that the statistics count is the same, at the same time.
func TestRecoveryEndsTheRowOfFailures(t *testing.T) {
	recovers(t, runsOf(boom, untilStopped), nil, func(_ *taskmanager.Manager, task *taskmanager.Task) {
		time.Sleep(time.Minute + time.Second - 1)
		synctest.Wait()
		assert.Equal(t, 1, task.Stats().ConsecutiveFailures)
		time.Sleep(time.Nanosecond)
		assert.Zero(t, task.Stats().ConsecutiveFailures)
	}, "0s failed run=1", "1m1s recovered run=2 failures=1 since 0s, after 1m0s")
}

func TestRecoveryOfARunThatReturnsNil(t *testing.T) {
	done := func(context.Context) error { return nil }
	recovers(t, runsOf(boom, done), nil, wait(time.Minute),
		"0s failed run=1", "1s recovered run=2 failures=1 since 0s, after 0s", "1s completed run=2")
	recovers(t, runsOf(boom, done, boom, untilStopped), []taskmanager.TaskOption{taskmanager.WithRestart(taskmanager.RestartAlways)}, wait(4*time.Second),
		"0s failed run=1", "1s recovered run=2 failures=1 since 0s, after 0s", "1s completed run=2", "2s failed run=3")
}

// A task that was given up recovers when somebody, or its cooldown, has revived it; and of all its failures.
func TestRecoveryAfterGivingUp(t *testing.T) {
	revive := func(m *taskmanager.Manager, task *taskmanager.Task) {
		time.Sleep(time.Minute)
		require.NoError(t, task.Restart(context.Background()))
		time.Sleep(2 * time.Minute)
	}
	recovers(t, runsOf(boom, boom, boom, untilStopped), []taskmanager.TaskOption{taskmanager.WithMaxRestarts(1)}, revive,
		"0s failed run=1", "1s gave up run=2", "1m0s failed run=1", "2m1s recovered run=2 failures=3 since 0s, after 1m0s")
	recovers(t, runsOf(boom, boom, boom, untilStopped), []taskmanager.TaskOption{taskmanager.WithMaxRestarts(1), taskmanager.WithCooldown(time.Minute)}, wait(3*time.Minute),
		"0s failed run=1", "1s gave up run=2", "1m1s failed run=3", "2m2s recovered run=4 failures=3 since 0s, after 1m0s")
	recovers(t, runsOf(boom, boom, boom, boom, untilStopped), []taskmanager.TaskOption{taskmanager.WithMaxRestarts(1), taskmanager.WithCooldown(time.Minute)}, wait(4*time.Minute),
		"0s failed run=1", "1s gave up run=2", "1m1s failed run=3", "1m2s gave up run=4", "3m2s recovered run=5 failures=4 since 0s, after 1m0s")

	// It may have been given up without a failure.
	done := func(context.Context) error { return nil }
	recovers(t, runsOf(done, untilStopped), []taskmanager.TaskOption{taskmanager.WithMaxRestarts(0), taskmanager.WithRestart(taskmanager.RestartAlways)}, revive,
		"0s gave up run=1", "2m0s recovered run=1 failures=0 since 0s, after 1m0s")
}

// To be stopped for good ends what there is to recover from.
func TestRecoveryNotOfATaskThatIsStopped(t *testing.T) {
	recovers(t, runsOf(boom, untilStopped), nil, func(_ *taskmanager.Manager, task *taskmanager.Task) {
		time.Sleep(30 * time.Second)
		require.NoError(t, task.Stop(context.Background()))
		time.Sleep(time.Hour)
		require.NoError(t, task.Restart(context.Background()))
		time.Sleep(time.Hour)
	}, "0s failed run=1", "30s stopped run=2")

	synctest.Test(t, func(t *testing.T) { // nor of another one that has its name
		m := newManager(t)
		events := m.Subscribe(t.Context())
		start(t, m, "a", boom, noRestart)
		synctest.Wait()
		start(t, m, "a", untilStopped)
		time.Sleep(time.Hour)
		assert.Empty(t, ofKind(taskmanager.EventRecovered, pending(events)))
	})
}

// To be restarted or paused by hand does not: it is the next run that is healthy, or is not.
func TestRecoveryAfterARestartByHand(t *testing.T) {
	recovers(t, runsOf(boom, untilStopped), nil, func(_ *taskmanager.Manager, task *taskmanager.Task) {
		time.Sleep(30 * time.Second)
		require.NoError(t, task.Restart(context.Background()))
		time.Sleep(40 * time.Second)
		require.NoError(t, task.Pause(context.Background()))
		assert.Equal(t, 1, task.Stats().ConsecutiveFailures)
		time.Sleep(time.Hour)
		require.NoError(t, task.Resume())
		time.Sleep(time.Hour)
	}, "0s failed run=1", "30s stopped run=2", "1m10s paused run=3", "1h1m10s resumed run=3", "1h2m10s recovered run=4 failures=1 since 0s, after 1m0s")
}

// A run of which something is asked before it is healthy is not judged by the time that it takes to return.
func TestRecoveryNotOfARunThatIsToReturn(t *testing.T) {
	for _, act := range []func(task *taskmanager.Task) error{
		func(task *taskmanager.Task) error { return task.Restart(context.Background()) },
		func(task *taskmanager.Task) error { return task.Stop(context.Background()) },
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			events := m.Subscribe(t.Context())
			task := start(t, m, "a", runsOf(boom, slowToStop(10*time.Minute), untilStopped), taskmanager.WithStopTimeout(time.Hour))
			time.Sleep(time.Minute)
			require.NoError(t, act(task))
			assert.Empty(t, ofKind(taskmanager.EventRecovered, pending(events)))
		})
	}
	// Nor is one that was late.
	recovers(t, runsOf(boom, slowToStop(10*time.Minute), untilStopped), []taskmanager.TaskOption{taskmanager.WithWatchdog(50 * time.Second)}, wait(11*time.Minute),
		"0s failed run=1", "10m51s failed run=2")
}

// A run is healthy when it has lasted long enough and is ready, whichever comes last.
func TestRecoveryWithReadiness(t *testing.T) {
	ready := taskmanager.WithReadiness(time.Hour)
	recovers(t, runsOf(boom, readyAfter(30*time.Second)), []taskmanager.TaskOption{ready}, wait(time.Hour),
		"0s failed run=1", "31s ready run=2", "1m1s recovered run=2 failures=1 since 0s, after 1m0s")
	recovers(t, runsOf(boom, readyAfter(30*time.Minute)), []taskmanager.TaskOption{ready}, wait(time.Hour),
		"0s failed run=1", "30m1s ready run=2", "30m1s recovered run=2 failures=1 since 0s, after 30m0s")
	recovers(t, runsOf(boom, untilStopped), []taskmanager.TaskOption{ready}, wait(time.Hour), "0s failed run=1")
}

func TestRecoveryNeverWithinALongTime(t *testing.T) {
	recovers(t, runsOf(boom, untilStopped), []taskmanager.TaskOption{taskmanager.WithHealthyAfter(math.MaxInt64)}, wait(1000*time.Hour), "0s failed run=1")
}

// Where there are passes, one that succeeds shows that the task is healthy, and to wait for one shows nothing.
func TestRecoveryByAPass(t *testing.T) {
	pass := func(fails ...bool) taskmanager.TaskFunc {
		return func(context.Context) error {
			failed := len(fails) > 0 && fails[0]
			fails = fails[min(1, len(fails)):]
			if failed {
				return errBoom
			}
			return nil
		}
	}
	recovers(t, taskmanager.Every(time.Hour, pass(true, false, false)), nil, wait(3*time.Hour),
		"0s failed run=1", "1s recovered run=2 failures=1 since 0s, after 0s")
	daily := nextFunc(func(t time.Time) time.Time { return t.Truncate(24 * time.Hour).Add(24 * time.Hour) })
	recovers(t, taskmanager.OnSchedule(daily, pass(true)), nil, wait(49*time.Hour),
		"24h0m0s failed run=1", "24h0m1s recovered run=2 failures=1 since 24h0m0s, after 0s")
}

// A pass that was given up is a failure like any other.
func TestRecoveryAfterAPassThatWasGivenUp(t *testing.T) {
	passes := 0
	recovers(t, taskmanager.Every(time.Hour, func(context.Context) error {
		if passes++; passes <= 3 {
			return errBoom
		}
		return nil
	}), []taskmanager.TaskOption{taskmanager.WithMaxRestarts(1)}, wait(3*time.Hour),
		"0s failed run=1", "1s pass gave up run=2", "1h0m0s failed run=3", "1h0m1s recovered run=4 failures=3 since 0s, after 0s")
}

// Recovered is one of a group, to those who listen around it; and so is the group itself.
func TestRecoveryInAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(nil)
		m := newManager(t, taskmanager.WithReporter(b))
		start(t, m, "g", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("a", runsOf(boom, untilStopped), taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
			return err
		}))
		time.Sleep(2 * time.Minute)
		assert.Equal(t, []string{"0s g/a failed run=1 repeats=0", "1m1s g/a recovered run=2 repeats=0"}, b.got())
	})
}

func TestRecoveryOfACriticalTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", runsOf(boom, untilStopped), critical, noRestart)
		synctest.Wait()
		require.NoError(t, task.Restart(t.Context()))
		time.Sleep(2 * time.Minute)
		assert.Len(t, ofKind(taskmanager.EventRecovered, pending(events)), 1)
		assert.Equal(t, taskmanager.HealthOK, m.Health().State)
	})
}

func TestRecoveryInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var book logBook
		m := newManager(t, book.option())
		began := time.Now()
		start(t, m, "a", runsOf(boom, boom, untilStopped), taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
		time.Sleep(2 * time.Minute)
		lines := book.lines(t, "task recovered")
		require.Len(t, lines, 1)
		delete(lines[0], "time")
		assert.Equal(t, map[string]any{
			"level": "INFO", "msg": "task recovered", "task": "a", "run": 3.0, "uptime": float64(time.Minute), "failures": 2.0,
			"failed_since": began.Format(time.RFC3339Nano),
		}, lines[0])
	})
}

// Who is called with the line may hang or exit: the task goes on, and the line comes before what follows.
func TestRecoveryWithALogThatHangs(t *testing.T) {
	for name, wait := range map[string]func(release chan struct{}){
		"hangs": func(release chan struct{}) { <-release }, "exits": func(chan struct{}) { runtime.Goexit() }, "panics": func(chan struct{}) { panic("log") },
	} {
		t.Run(name, func(t *testing.T) {
			for _, body := range []taskmanager.TaskFunc{untilStopped, taskmanager.Every(time.Hour, func(context.Context) error { return nil })} {
				synctest.Test(t, func(t *testing.T) {
					release := make(chan struct{})
					m := mustNew(t, slowLog("task recovered", func() { wait(release) }))
					events := m.Subscribe(t.Context())
					task := start(t, m, "a", runsOf(boom, body))
					time.Sleep(2 * time.Minute)
					assert.Len(t, ofKind(taskmanager.EventRecovered, pending(events)), 1)
					began := time.Now()
					require.NoError(t, task.Restart(t.Context()))
					require.NoError(t, task.Stop(t.Context()))
					took(t, 0, began)
					close(release)
					require.NoError(t, m.Shutdown(t.Context()))
				})
			}
		})
	}
}

// A timer exists while a task that has failed runs and may become healthy. It is gone when the task is healthy, has ended, or is paused;
// otherwise its goroutine, or its effect, would show.
func TestRecoveryLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		before := goroutines()
		task := start(t, m, "a", failAt(0))
		time.Sleep(30 * time.Second)
		require.NoError(t, task.Pause(t.Context()))
		assert.Equal(t, before, goroutines())
		require.NoError(t, task.Resume())
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, before, goroutines())
		began := time.Now()
		time.Sleep(time.Hour)
		took(t, time.Hour, began)
	})
}

// A crash loop whose runs are never healthy is told nothing, however long it goes on.
func TestRecoveryNotOfACrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		b := newInbox(nil)
		m.SetReporter(b)
		task := start(t, m, "a", failAfter(7*time.Second), taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithHealthyAfter(8*time.Second))
		time.Sleep(24 * time.Hour)
		for _, e := range b.events() {
			require.NotEqual(t, taskmanager.EventRecovered, e.Kind)
		}
		assert.Greater(t, task.Stats().ConsecutiveFailures, 1000)
	})
}

// A body whose error is of a stop that leaves something running has not recovered, whatever it returns.
func TestRecoveryNotOfWhatIsLeftRunning(t *testing.T) {
	left := &taskmanager.StopTimeoutError{Task: "below"}
	recovers(t, runsOf(boom, func(context.Context) error { return errors.Join(nil, left) }), nil, wait(time.Hour), "0s failed run=1", "1s gave up run=2")
}

// While the reporter is away what happens is merged, and told in order: a failure, a recovery, a failure.
func TestRecoveryWhileTheReporterIsAway(t *testing.T) {
	for name, test := range map[string]struct {
		away time.Duration
		want []string
	}{
		"until it fails again": {10*time.Minute + 5*time.Second, []string{"a failed run=1 repeats=0", "a recovered run=2 repeats=0", "a failed run=2 repeats=0"}},
		"until it recovers":    {12 * time.Minute, []string{"a failed run=2 repeats=1", "a recovered run=3 repeats=1"}},
		"for a day":            {24*time.Hour + 5*time.Second, []string{"a failed run=287 repeats=286", "a recovered run=288 repeats=286", "a failed run=288 repeats=0"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var got []string
				m := newManager(t, taskmanager.WithReporter(taskmanager.ReporterFunc(func(_ context.Context, e taskmanager.Event) error {
					if time.Since(began) < test.away {
						return errDeaf
					}
					got = append(got, fmt.Sprintf("%s %v run=%d repeats=%d", e.Task, e.Kind, e.Run, e.Repeats))
					return nil
				})), noReportLimit())
				start(t, m, "a", failAfter(5*time.Minute-time.Second), taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
				time.Sleep(test.away + 31*time.Second)
				synctest.Wait()
				assert.Equal(t, test.want, got)
			})
		})
	}
}

// Who fails and recovers faster than the Reporter takes reports is told of in turn, and what is told is not old.
func TestRecoveryOfTasksThatFailAgainAndAgain(t *testing.T) {
	for _, tasks := range []int{1, 2, 6, 12, 100} {
		if underRace && tasks > 12 {
			continue
		}
		for name, other := range map[string]bool{"the same errors": false, "other errors": true} {
			t.Run(fmt.Sprint(tasks, " ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var (
						mu     sync.Mutex
						row    int // of calls, for events of the same kind
						latest taskmanager.EventKind
						events = make(map[taskmanager.EventKind]uint64)
						lag    time.Duration
					)
					m := newManager(t, noReportLimit(), taskmanager.WithRestartLimit(rate.Inf, 0), taskmanager.WithReporter(taskmanager.ReporterFunc(func(_ context.Context, e taskmanager.Event) error {
						time.Sleep(5 * time.Second)
						mu.Lock()
						defer mu.Unlock()
						if row++; e.Kind != latest {
							row, latest = 1, e.Kind
						}
						assert.LessOrEqual(t, row, max(1, min(3*tasks, 40))) // one after the other, for a single task
						events[e.Kind] += 1 + uint64(e.Repeats)
						lag = max(lag, time.Since(e.Time))
						return nil
					})))
					for i := range tasks {
						name := fmt.Sprint("task ", i)
						start(t, m, name, func(ctx context.Context) error {
							select {
							case <-time.After(1500 * time.Millisecond):
							case <-ctx.Done():
							}
							if other {
								return errors.New(name)
							}
							return errBoom
						}, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0),
							taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithHealthyAfter(time.Second))
					}
					time.Sleep(20 * time.Minute)
					require.NoError(t, m.StopAll(t.Context()))
					time.Sleep(20 * time.Minute)
					assert.Zero(t, m.Stats().ReportsWaiting)
					mu.Lock()
					defer mu.Unlock()
					assert.Less(t, lag, map[bool]time.Duration{false: 45 * time.Second, true: 4 * time.Minute}[other])
					assert.Equal(t, uint64(tasks*480), events[taskmanager.EventFailed])
					assert.Equal(t, uint64(tasks*479), events[taskmanager.EventRecovered], "the last run was not healthy yet")
				})
			})
		}
	}
}

// Where thousands have failed and recover, few messages say so; and so does the log.
func TestRecoveryOfManyTasks(t *testing.T) {
	const tasks = 5000
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		b := newInbox(nil)
		m := newManager(t, taskmanager.WithReporter(b), taskmanager.WithLogger(slog.New(lines)), taskmanager.WithLogLimit(10, 10), taskmanager.WithRestartLimit(rate.Inf, 0))
		for i := range tasks {
			start(t, m, fmt.Sprint("task ", i), runsOf(boom, untilStopped))
		}
		time.Sleep(10 * time.Minute)
		counts := make(map[taskmanager.EventKind]int)
		for _, e := range b.events() {
			counts[e.Kind] += max(1, e.TaskCount)
			assert.Equal(t, e.TaskCount > 1, e.FailedSince.IsZero() && e.Failures == 0 && e.Kind == taskmanager.EventRecovered || e.Kind == taskmanager.EventFailed && e.TaskCount > 1)
		}
		assert.Equal(t, map[taskmanager.EventKind]int{taskmanager.EventFailed: tasks, taskmanager.EventRecovered: tasks}, counts)
		assert.Less(t, len(b.events()), 60)
		assert.Less(t, len(lines.about("task recovered")), 200)
	})
}

// That a run returns nil is no sign of health, if it makes passes of which none has succeeded.
func TestRecoveryNotOfPassesThatCameToAnEnd(t *testing.T) {
	once := nextFunc(func(t time.Time) time.Time {
		if t.Year() > 2000 {
			return time.Time{}
		}
		return time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	})
	recovers(t, taskmanager.OnSchedule(once, func(context.Context) error { return errBoom }), []taskmanager.TaskOption{taskmanager.WithMaxRestarts(0)},
		wait(9000*time.Hour), "8784h0m0s pass gave up run=1", "8784h0m0s completed run=2")
}
