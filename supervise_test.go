package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// A narrowError says that a task below is stuck, and panics when it is asked whether it is permanent.
type narrowError struct{}

func (narrowError) Error() string { return "narrow" }

func (narrowError) As(target any) bool {
	if _, ok := target.(**backoff.PermanentError); ok {
		panic("unexpected target")
	}
	stuck, ok := target.(**taskmanager.StopTimeoutError)
	if ok {
		*stuck = &taskmanager.StopTimeoutError{Task: "below"}
	}
	return ok
}

func TestSuperviseAsksForWhatIsLeftFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(time.Second, time.Second))
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", func(context.Context) error { return narrowError{} })
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, task.Wait(t.Context()), &gaveUp)
		assert.Equal(t, narrowError{}, gaveUp.Err)
		assert.EqualValues(t, 1, task.Stats().Runs)
		assert.EqualValues(t, 1, task.Stats().Failures)
		assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventGaveUp}, kinds(received(events), "a"))
	})
}

// It is asked before a restart by hand, too, and that fails if something is left.
func TestSuperviseAsksForWhatIsLeftBeforeARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(t.Context())
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs++; runs == 1 {
				return errBoom
			}
			<-ctx.Done()
			return narrowError{}
		}, taskmanager.WithBackoff(0, 0))
		time.Sleep(time.Hour)
		require.Error(t, task.Restart(t.Context()))
		s := task.Stats()
		assert.Equal(t, taskmanager.StateFailed, s.State)
		assert.EqualValues(t, 2, s.Runs)
		assert.EqualValues(t, 2, s.Failures)
		assert.Equal(t, narrowError{}, s.LastError)
		assert.Equal(t, time.Now().UnixNano(), s.LastErrorAt.UnixNano())
		gaveUp := ofKind(taskmanager.EventGaveUp, pending(events))
		require.Len(t, gaveUp, 1)
		assert.EqualValues(t, 2, gaveUp[0].Run)
		assert.Equal(t, time.Hour, gaveUp[0].Uptime)
	})
}

// What one run has said answers for that one alone.
func TestSuperviseAsksForWhatIsLeftBeforeEachRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			if runs++; runs == 1 {
				return askedError{func() {}} // nothing is left
			}
			return narrowError{}
		})
		synctest.Wait()
		require.NoError(t, task.Restart(t.Context()))
		synctest.Wait()
		require.Error(t, task.Restart(t.Context()))
		assert.Equal(t, taskmanager.StateFailed, task.State())
		assert.EqualValues(t, 2, task.Stats().Runs)
	})
}

func TestSuperviseHoweverARunEnds(t *testing.T) {
	policies := map[string]taskmanager.RestartPolicy{
		"RestartOnFailure": taskmanager.RestartOnFailure,
		"RestartNever":     taskmanager.RestartNever,
		"RestartAlways":    taskmanager.RestartAlways,
	}
	for _, end := range ends() {
		for title, policy := range policies {
			t.Run(end.title+"/"+title, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testEnd(t, end, policy) })
			})
		}
	}
}

func testEnd(t *testing.T, end end, policy taskmanager.RestartPolicy) {
	const uptime = 3 * time.Second
	m := newManager(t, taskmanager.WithBackoffJitter(0))
	events := m.Subscribe(context.Background())
	begin := time.Now()
	task := start(t, m, "a", func(ctx context.Context) error {
		if time.Since(begin) > uptime {
			return untilStopped(ctx) // the second run
		}
		time.Sleep(uptime)
		return end.body()
	}, taskmanager.WithRestart(policy))
	time.Sleep(uptime)
	synctest.Wait()

	// What the policy makes of it.
	failed := end.text != ""
	var (
		want = taskmanager.StateBackoff
		kind = taskmanager.EventFailed
	)
	switch {
	case !failed && policy == taskmanager.RestartAlways:
		kind = taskmanager.EventCompleted
	case !failed:
		want, kind = taskmanager.StateCompleted, taskmanager.EventCompleted
	case end.final || policy == taskmanager.RestartNever:
		want, kind = taskmanager.StateFailed, taskmanager.EventGaveUp
	}

	stats := task.Stats()
	assert.Equal(t, want, stats.State)
	assert.EqualValues(t, 1, stats.Runs)
	assert.Zero(t, stats.Restarts)
	assert.Zero(t, stats.Uptime)
	assert.Zero(t, stats.RunStartedAt)
	if failed {
		assert.EqualValues(t, 1, stats.Failures)
		require.EqualError(t, stats.LastError, end.text)
		assert.Equal(t, begin.Add(uptime), stats.LastErrorAt)
	} else {
		assert.Zero(t, stats.Failures)
		require.NoError(t, stats.LastError)
		assert.Zero(t, stats.LastErrorAt)
	}
	if end.is != nil {
		require.ErrorIs(t, stats.LastError, end.is)
	}
	var panicked *taskmanager.PanicError
	assert.Equal(t, end.panics, errors.As(stats.LastError, &panicked))
	if end.panics {
		assert.EqualValues(t, 1, stats.Panics)
		assert.Contains(t, string(panicked.Stack()), "taskmanager_test.ends.func")
	} else {
		assert.Zero(t, stats.Panics)
	}

	got := received(events)
	require.Len(t, got, 2)
	assert.Equal(t, taskmanager.EventStarted, got[0].Kind)
	told := got[1]
	assert.Equal(t, kind, told.Kind)
	assert.Equal(t, begin.Add(uptime), told.Time)
	assert.EqualValues(t, 1, told.Run)
	assert.Equal(t, uptime, told.Uptime)

	if want != taskmanager.StateBackoff {
		assert.Zero(t, told.Delay)
		assert.Equal(t, begin.Add(uptime).Round(0), stats.EndedAt)
		assert.False(t, m.IsRunning("a"))
		err := task.Wait(context.Background())
		if !failed {
			require.NoError(t, err)
			return
		}
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, err, &gaveUp)
		reason := taskmanager.GaveUpPermanent
		switch {
		case errors.As(stats.LastError, new(*taskmanager.StopTimeoutError)):
			reason = taskmanager.GaveUpLeftRunning
		case policy == taskmanager.RestartNever:
			reason = taskmanager.GaveUpNever
		}
		assert.Equal(t, taskmanager.GiveUpError{Task: "a", Reason: reason, Err: stats.LastError}, *gaveUp)
		require.EqualError(t, err, `taskmanager: gave up task "a": `+end.text)
		require.NotErrorIs(t, err, taskmanager.ErrTooManyRestarts, "the limit is not the reason")
		assert.Equal(t, err, told.Err)
		assert.Equal(t, err, task.Err())
		time.Sleep(24 * time.Hour)
		assert.EqualValues(t, 1, task.Stats().Runs)
		return
	}
	assert.Equal(t, stats.LastError, told.Err)
	assert.Equal(t, 2*time.Second, told.Delay)
	assert.Equal(t, 1, told.Restarts)
	assert.Equal(t, 1, stats.RestartsInWindow)
	assert.Equal(t, begin.Add(uptime+2*time.Second).Round(0), stats.NextRunAt)
	assert.True(t, m.IsRunning("a"))
	require.NoError(t, task.Err())
	time.Sleep(2*time.Second - 1)
	synctest.Wait()
	assert.Equal(t, taskmanager.StateBackoff, task.State())
	time.Sleep(time.Nanosecond)
	synctest.Wait()
	assert.Equal(t, taskmanager.StateRunning, task.State())
	assert.EqualValues(t, 2, task.Stats().Runs)
	assert.EqualValues(t, 1, task.Stats().Restarts)
}

// The error is the user's, and so are its methods.
func TestSuperviseABodyWhoseErrorsMethodsPanic(t *testing.T) {
	const text = "taskmanager_test.brokenError, whose Error method panicked"
	bodies := map[string]struct {
		body taskmanager.TaskFunc
		text string
	}{
		"returned":            {func(context.Context) error { return brokenError{} }, text},
		"panicked with":       {func(context.Context) error { panic(brokenError{}) }, "taskmanager: panic: " + text},
		"returned and joined": {func(context.Context) error { return errors.Join(brokenError{}, nil) }, "*errors.joinError, whose Error method panicked"},
	}
	for title, test := range bodies {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBook
				m := newManager(t, log.option(), taskmanager.WithMaxRestarts(1))
				task := start(t, m, "a", test.body)
				<-task.Done()
				assert.EqualValues(t, 2, task.Stats().Failures)
				require.EqualError(t, task.Err(), `taskmanager: gave up task "a" after 1 restart within 1m0s: `+test.text)
				synctest.Wait() // the log is the last to hear
				failed := log.lines(t, "task failed, will restart")
				require.Len(t, failed, 1)
				assert.Equal(t, test.text, failed[0]["error"])
				text, err := task.Stats().MarshalJSON()
				require.NoError(t, err)
				assert.Contains(t, string(text), test.text)
			})
		})
	}
}

func TestSuperviseByTheTasksOwnContext_Promise6(t *testing.T) {
	for _, inner := range []error{context.Canceled, context.DeadlineExceeded, taskmanager.ErrStopped, taskmanager.ErrShutdown, taskmanager.ErrRestarted} {
		t.Run(inner.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithBackoffJitter(0))
				body := func(ctx context.Context) error {
					own, cancel := context.WithCancelCause(ctx)
					defer cancel(nil)
					if inner == context.DeadlineExceeded { //nolint:errorlint // it comes from the list above
						var stop context.CancelFunc
						own, stop = context.WithTimeout(ctx, time.Second)
						defer stop()
					} else {
						time.AfterFunc(time.Second, func() { cancel(inner) })
					}
					<-own.Done()
					return context.Cause(own)
				}

				// The context that ended was the body's own: a failure.
				task := start(t, m, "a", body)
				time.Sleep(time.Second)
				synctest.Wait()
				assert.Equal(t, taskmanager.StateBackoff, task.State())
				assert.EqualValues(t, 1, task.Stats().Failures)
				require.ErrorIs(t, task.Stats().LastError, inner)

				// The same error, once it was asked to stop: it has stopped.
				time.Sleep(2*time.Second + time.Second/2)
				require.Equal(t, taskmanager.StateRunning, task.State())
				require.NoError(t, m.StopTask(context.Background(), "a"))
				assert.Equal(t, taskmanager.StateStopped, task.State())
				assert.EqualValues(t, 1, task.Stats().Failures)
				require.NoError(t, task.Err())
			})
		})
	}
	t.Run("an error of its own after a stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", func(ctx context.Context) error {
				<-ctx.Done()
				return errBoom
			})
			synctest.Wait()
			require.NoError(t, task.Stop(context.Background()))
			assert.Equal(t, taskmanager.StateStopped, task.State())
			assert.Zero(t, task.Stats().Failures)
		})
	})
	t.Run("the end of the parent context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			parent, cancel := context.WithTimeoutCause(context.Background(), time.Minute, errBoom)
			defer cancel()
			m := newManager(t, taskmanager.WithContext(parent))
			task := start(t, m, "a", func(ctx context.Context) error {
				<-ctx.Done()
				return errors.New("anything")
			})
			<-task.Done()
			assert.Equal(t, taskmanager.StateStopped, task.State())
			assert.Zero(t, task.Stats().Failures)
		})
	})
	// The body may be the first to hear of it: it need not wait for its own context.
	t.Run("the end of the parent context, seen by the body before the Manager", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			parent, cancel := context.WithCancel(context.Background())
			m := newManager(t, taskmanager.WithContext(parent))
			task := start(t, m, "a", func(context.Context) error {
				cancel()
				return parent.Err()
			})
			<-task.Done()
			assert.Equal(t, taskmanager.StateStopped, task.State())
			assert.Zero(t, task.Stats().Failures)
		})
	})
}

// Under RestartAlways a run that returns nil is no failure, but its restart is delayed and counted like that of one.
func TestSuperviseABodyThatReturnsNilUnderRestartAlways(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoffJitter(0))
		events := m.Subscribe(context.Background())
		task := start(t, m, "a", func(context.Context) error { return nil },
			taskmanager.WithRestart(taskmanager.RestartAlways), taskmanager.WithMaxRestarts(2))
		<-task.Done()
		stats := task.Stats()
		assert.Equal(t, taskmanager.StateFailed, stats.State)
		assert.EqualValues(t, 3, stats.Runs)
		assert.Zero(t, stats.Failures)
		require.NoError(t, stats.LastError)
		assert.Equal(t, (2+3)*time.Second, stats.EndedAt.Sub(stats.StartedAt))

		err := task.Err()
		require.ErrorIs(t, err, taskmanager.ErrTooManyRestarts)
		require.EqualError(t, err, `taskmanager: gave up task "a" after 2 restarts within 1m0s`)
		assert.NoError(t, errors.Unwrap(err))
		got := received(events)
		completed := ofKind(taskmanager.EventCompleted, got)
		require.Len(t, completed, 2)
		assert.Equal(t, 2*time.Second, completed[0].Delay)
		assert.Equal(t, 3*time.Second, completed[1].Delay)
		assert.Len(t, ofKind(taskmanager.EventGaveUp, got), 1)
		assert.Empty(t, ofKind(taskmanager.EventFailed, got))
	})
}

// The task has another goroutine after a Goexit; nothing else about it may differ.
func TestSuperviseABodyThatExitsAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithBackoff(0, 0))
		deferred := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			defer func() { deferred++ }()
			if deferred == 100 {
				return untilStopped(ctx)
			}
			runtime.Goexit()
			return nil
		})
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, task.State())
		assert.EqualValues(t, 101, task.Stats().Runs)
		assert.EqualValues(t, 100, task.Stats().Failures)
		assert.Zero(t, task.Stats().Panics)
		require.NoError(t, task.Stop(context.Background()))
		assert.Equal(t, 101, deferred)
	})
}

// Go has no way to recover it, and the documentation of TaskFunc says so. The process that must end is one of its own.
func TestSuperviseDoesNotCatchAPanicInAGoroutineOfTheBody(t *testing.T) {
	const inner = "TASKMANAGER_TEST_PANIC_IN_A_GOROUTINE"
	if os.Getenv(inner) != "" {
		m := newManager(t)
		start(t, m, "a", func(ctx context.Context) error {
			go func() { panic("of nobody") }()
			return untilStopped(ctx)
		})
		select {}
	}
	output, err := again(t, inner).CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 2, exit.ExitCode())
	assert.Contains(t, string(output), "panic: of nobody")
}

// The way to a body fits into the stack that a goroutine begins with, and so does what the return of a body needs: to grow it there would
// take longer than all the rest, with locks held. In a process that has had a collection a goroutine may begin with more.
func TestSuperviseInTheFirstStack(t *testing.T) {
	if underRace {
		t.Skip("the race detector needs more of the stack: run the test without -race")
	}
	const inner = "TASKMANAGER_TEST_FIRST_STACK"
	if os.Getenv(inner) == "" {
		output, err := again(t, inner).CombinedOutput()
		assert.NoError(t, err, "%s", output)
		return
	}
	const tasks = 10_000
	debug.SetGCPercent(-1)
	stacks := func() uint64 {
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.StackInuse
	}
	m := newManager(t, taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
	before := stacks()
	var begun sync.WaitGroup
	begun.Add(tasks)
	for i := range tasks {
		start(t, m, strconv.Itoa(i), func(ctx context.Context) error {
			begun.Done()
			return untilStopped(ctx)
		})
	}
	begun.Wait()
	assert.Less(t, (stacks()-before)/tasks, uint64(2500), "bytes, of which a goroutine begins with 2,048")
}

func TestSuperviseAFailingTaskAtNoCostOfItsSiblings_Promise3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const healthy = 100
		m := newManager(t, taskmanager.WithBackoffJitter(0), taskmanager.WithMaxRestarts(taskmanager.Unlimited),
			taskmanager.WithRestartLimit(1, 1))
		begin := time.Now()

		// They fail all the time, use up the fleet-wide limit, are given up, hang in backoff.
		for i := range 50 {
			start(t, m, "crashing "+strconv.Itoa(i), boom, taskmanager.WithBackoff(0, 0))
			start(t, m, "panicking "+strconv.Itoa(i), func(context.Context) error { panic("boom") }, taskmanager.WithBackoff(0, 0))
			start(t, m, "given up "+strconv.Itoa(i), boom, taskmanager.WithMaxRestarts(0))
			start(t, m, "in backoff "+strconv.Itoa(i), boom, taskmanager.WithBackoff(time.Hour, time.Hour))
		}
		var ticks [healthy]atomic.Int64
		for i := range healthy {
			start(t, m, "healthy "+strconv.Itoa(i), everySecond(&ticks[i]))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		stats := m.Stats()
		for i := range healthy {
			assert.EqualValues(t, 60, ticks[i].Load())
			assert.EqualValues(t, 1, stats.Tasks["healthy "+strconv.Itoa(i)].Runs)
		}

		// Starts and stops wait for nobody.
		before := time.Now()
		late := start(t, m, "late", untilStopped)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, late.State())
		require.NoError(t, late.Stop(context.Background()))
		assert.Zero(t, time.Since(before))
		assert.Equal(t, time.Minute, time.Since(begin))
	})
	// One task's backoff has grown to its cap; its sibling's first delay is the first of its own.
	t.Run("backoff is per task", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, taskmanager.WithBackoffJitter(0), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
			start(t, m, "crashing", boom)
			time.Sleep(time.Hour)
			events := m.Subscribe(context.Background())
			sibling := start(t, m, "sibling", failAt(0, 2*time.Second))
			time.Sleep(5*time.Second - 1)
			synctest.Wait()
			assert.EqualValues(t, 2, sibling.Stats().Runs)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			assert.EqualValues(t, 3, sibling.Stats().Runs)
			var delays []time.Duration
			for _, e := range ofKind(taskmanager.EventFailed, received(events)) {
				if e.Task == "sibling" {
					delays = append(delays, e.Delay)
				}
			}
			assert.Equal(t, seconds(2, 3), delays)
		})
	})
	t.Run("the limit is per task", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, taskmanager.WithBackoff(0, 0), taskmanager.WithMaxRestarts(1))
			crashing := start(t, m, "crashing", boom)
			require.ErrorIs(t, crashing.Wait(context.Background()), taskmanager.ErrTooManyRestarts)
			sibling := start(t, m, "sibling", failAt(0))
			synctest.Wait()
			assert.Equal(t, taskmanager.StateRunning, sibling.State())
		})
	})
}

func TestSuperviseWithOneGoroutinePerTask_Promise2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tasks = 300
		parent, cancel := context.WithCancel(context.Background())
		defer cancel()
		before := goroutines()
		m := mustNew(t, taskmanager.WithContext(parent), taskmanager.WithBackoff(time.Minute, time.Minute),
			taskmanager.WithReportLimit(rate.Inf, 0), taskmanager.WithRestartLimit(1, 1), taskmanager.WithReporter(taskmanager.ReporterFunc(
				func(context.Context, taskmanager.Event) error { return nil })))
		events := m.Subscribe(t.Context())
		assert.Equal(t, before, goroutines(), "a new Manager has none")
		for i := range tasks {
			body := untilStopped
			if i%3 == 0 {
				body = func(context.Context) error { return errWhy }
			}
			start(t, m, fmt.Sprint(i), body)
		}
		assert.Equal(t, before+tasks, goroutines())
		assert.Equal(t, tasks/3, m.Stats().Backoff)
		time.Sleep(time.Minute + time.Second) // now they wait for the fleet-wide limit
		assert.Equal(t, before+tasks, goroutines())
		for i := range tasks {
			if i%3 != 0 {
				require.NoError(t, m.RestartTask(t.Context(), fmt.Sprint(i)))
			}
		}
		assert.Equal(t, before+tasks, goroutines())
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, before, goroutines(), "a Manager at rest has none")
		_ = events
	})
}

// The goroutine of a body that ends it by runtime.Goexit is replaced, not doubled.
func TestSuperviseWithOneGoroutineAfterGoexit_Promise2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		before := goroutines()
		start(t, m, "a", func(context.Context) error { runtime.Goexit(); return nil })
		for range 20 {
			assert.Equal(t, before+1, goroutines())
			time.Sleep(time.Second)
		}
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, before, goroutines())
	})
}

// A run that follows at once begins when the one before has ended, and a log that takes its time is none of its uptime.
func TestSuperviseBeginsARunWhenNothingHoldsItUp(t *testing.T) {
	for name, c := range map[string]struct {
		handler time.Duration
		opts    []taskmanager.Option
	}{
		"at once":                     {0, nil},
		"after the log":               {time.Second, nil},
		"at once, within a limit":     {0, []taskmanager.Option{taskmanager.WithRestartLimit(1, 1)}},
		"after the log, and a limit":  {time.Second, []taskmanager.Option{taskmanager.WithRestartLimit(1, 1)}},
		"at once, without any limits": {0, []taskmanager.Option{taskmanager.WithRestartLimit(rate.Inf, 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, append([]taskmanager.Option{slowLog("task failed, will restart", func() { time.Sleep(c.handler) })}, c.opts...)...)
				began, runs := time.Now(), 0
				task := start(t, m, "a", func(ctx context.Context) error {
					if runs++; runs == 1 {
						time.Sleep(time.Minute)
						return errBoom
					}
					return untilStopped(ctx)
				}, taskmanager.WithBackoff(0, 0))
				time.Sleep(2 * time.Minute)
				assert.Equal(t, time.Minute+c.handler, task.Stats().RunStartedAt.Sub(began))
				assert.Equal(t, time.Minute-c.handler, task.Stats().Uptime)
			})
		})
	}
}

// A driver that comes back from the log's handler, and finds that it was replaced, writes what others have left to it meanwhile.
func TestSuperviseReplacedWritesTheLinesThatWait(t *testing.T) {
	for name, initial := range map[string]time.Duration{"would restart at once": 0, "would restart later": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				lines := newLines(slog.LevelInfo)
				hangs := slowHandler{lines, "task failed, will restart", func() { <-release }}
				m := mustNew(t, taskmanager.WithLogger(slog.New(hangs)))
				start(t, m, "a", boom, taskmanager.WithBackoff(initial, initial))
				synctest.Wait()
				require.NoError(t, m.StopTask(t.Context(), "a"))
				close(release)
				synctest.Wait()
				assert.Equal(t, []string{"task started", "task failed, will restart", "task stopped"}, messages(lines))
				began := time.Now()
				require.NoError(t, m.Shutdown(t.Context()))
				took(t, 0, began)
			})
		})
	}
}

// A task that is stopped and restarted while it waits has another driver, before the one that waited hears of the stop: that one leaves,
// and does not speak for the other.
func TestSuperviseOneThatWaitsIsReplaced(t *testing.T) {
	for name, test := range map[string]struct {
		state taskmanager.State
		opt   taskmanager.TaskOption
	}{
		"delay":      {taskmanager.StateBackoff, taskmanager.WithBackoff(time.Hour, time.Hour)},
		"dependency": {taskmanager.StateWaiting, taskmanager.WithDependsOn("db")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				before := goroutines()
				task := start(t, m, "a", boom, test.opt)
				for range 100 {
					synctest.Wait()
					require.Equal(t, test.state, task.State())
					require.NoError(t, task.Stop(t.Context()))
					require.NoError(t, task.Restart(t.Context()))
				}
				synctest.Wait()
				assert.Equal(t, before+1, goroutines())
				for range 100 { // and likewise with time to wait again
					require.NoError(t, task.Stop(t.Context()))
					require.NoError(t, task.Restart(t.Context()))
				}
				synctest.Wait()
				assert.Equal(t, before+1, goroutines())
				require.NoError(t, task.Stop(t.Context()))
			})
		})
	}
}

// A log handler that hangs when it is asked whether it wants the line of a start keeps the driver that has waited for the delay; a
// restart by hand is done by another one.
func TestSuperviseRestartWhileTheLogIsAskedAfterADelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var hang atomic.Bool
		handler := askedHandler{asked: func(slog.Level) bool {
			if hang.CompareAndSwap(true, false) {
				<-release
			}
			return false
		}}
		made := 0
		m := mustNew(t, taskmanager.WithLogger(slog.New(handler)), taskmanager.WithBackOffPolicy(func() backoff.BackOff {
			made++
			return backoff.NewConstantBackOff(time.Second)
		}))
		var runs atomic.Int32 // is looked at between two runs that only the clock has in order
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs.Add(1) <= 2 {
				return errBoom
			}
			return untilStopped(ctx)
		})
		synctest.Wait()
		require.Equal(t, taskmanager.StateBackoff, task.State())
		hang.Store(true)
		time.Sleep(2 * time.Second)
		require.False(t, hang.Load(), "it hangs")
		require.EqualValues(t, 1, runs.Load())
		began := time.Now()
		require.NoError(t, task.Restart(t.Context()))
		took(t, 0, began)
		synctest.Wait()
		assert.EqualValues(t, 2, runs.Load())
		time.Sleep(time.Second)
		synctest.Wait()
		assert.EqualValues(t, 3, runs.Load())
		assert.Equal(t, 1, made, "nobody was with the policy, and it goes on")
		close(release)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// Likewise one that has waited for what the task depends on.
func TestSuperviseRestartWhileTheLogIsAskedAfterAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var asked atomic.Int32
		handler := askedHandler{asked: func(slog.Level) bool {
			if asked.Add(1) == 2 { // the first one is for "db"
				<-release
			}
			return false
		}}
		m := mustNew(t, taskmanager.WithLogger(slog.New(handler)))
		task := start(t, m, "a", untilStopped, dependsOn("db"))
		synctest.Wait()
		db := start(t, m, "db", untilStopped)
		synctest.Wait()
		require.Equal(t, taskmanager.StateRunning, db.State())
		require.Equal(t, taskmanager.StateWaiting, task.State(), "the handler hangs")
		require.EqualValues(t, 2, asked.Load())
		began := time.Now()
		require.NoError(t, task.Restart(t.Context()))
		took(t, 0, began)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, task.State())
		close(release)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A log handler that ends the goroutine when it is asked about the start of a run is not asked about that one again, and is about the
// next.
func TestSuperviseAsksTheLogAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exits := true
		started := 0
		handler := askedHandler{func(r slog.Record) {
			if r.Message == "task started" {
				started++
			}
		}, func(level slog.Level) bool {
			if level == slog.LevelDebug && exits {
				exits = false
				runtime.Goexit()
			}
			return true
		}}
		m := mustNew(t, taskmanager.WithLogger(slog.New(handler)), taskmanager.WithBackoff(time.Second, time.Second))
		task := start(t, m, "a", func(ctx context.Context) error {
			time.Sleep(time.Second)
			return errBoom
		}, taskmanager.WithMaxRestarts(2))
		require.Error(t, task.Wait(t.Context()))
		require.EqualValues(t, 3, task.Stats().Runs)
		assert.Equal(t, 2, started)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A log handler that does not want the lines of starts is asked once for each, also while somebody else hears of them.
func TestSuperviseAsksTheLogOnceForAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		handler := askedHandler{asked: func(l slog.Level) bool {
			if l == slog.LevelDebug {
				asked.Add(1)
			}
			return false
		}}
		m := mustNew(t, taskmanager.WithLogger(slog.New(handler)))
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", failAt(0, 0))
		time.Sleep(time.Hour)
		require.EqualValues(t, 3, task.Stats().Runs)
		assert.EqualValues(t, 3, asked.Load())
		assert.Len(t, ofKind(taskmanager.EventStarted, pending(events)), 3)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// Nor is it asked about one that does not begin, because the task is stopped while it waits.
func TestSuperviseDoesNotAskTheLogForAStartThatIsNone(t *testing.T) {
	for name, test := range map[string]struct {
		runs int
		opt  taskmanager.TaskOption
	}{
		"delay": {1, taskmanager.WithBackoff(time.Hour, time.Hour)},
		"turn":  {2, taskmanager.WithBackoff(0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				handler := askedHandler{asked: func(l slog.Level) bool {
					if l == slog.LevelDebug {
						asked.Add(1)
					}
					return false
				}}
				m := mustNew(t, taskmanager.WithLogger(slog.New(handler)), taskmanager.WithRestartLimit(rate.Every(time.Hour), 1),
					taskmanager.WithMaxRestarts(taskmanager.Unlimited))
				task := start(t, m, "a", boom, test.opt)
				synctest.Wait()
				require.Equal(t, taskmanager.StateBackoff, task.State())
				require.EqualValues(t, test.runs, task.Stats().Runs)
				require.NoError(t, task.Stop(t.Context()))
				synctest.Wait()
				assert.EqualValues(t, test.runs, asked.Load())
			})
		})
	}
}

// The methods of an error are called once for each thing that they are to say.
func TestSuperviseAsksAnErrorOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		asked := 0
		failed := false
		task := start(t, m, "a", func(ctx context.Context) error {
			if !failed {
				failed = true
				return askedError{func() { asked++ }}
			}
			return untilStopped(ctx)
		})
		time.Sleep(time.Minute)
		require.EqualValues(t, 2, task.Stats().Runs)
		assert.Equal(t, 3, asked, "whether it leaves something behind, whether it is permanent, and how long to wait")
	})
}

// A driver that comes back from the methods of an error, and has been replaced meanwhile, leaves the policy to the one that has replaced
// it.
func TestSuperviseReplacedDoesNotAskThePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		release := make(chan struct{})
		var asked, inPolicy, most atomic.Int32
		policy := &script{next: func() time.Duration {
			most.Store(max(most.Load(), inPolicy.Add(1)))
			defer inPolicy.Add(-1)
			time.Sleep(time.Minute)
			return time.Second
		}}
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			switch runs++; runs {
			case 1:
				return askedError{func() {
					if asked.Add(1) == 1 {
						<-release
					}
				}}
			case 2:
				return errBoom
			}
			return untilStopped(ctx)
		}, policy.option())
		synctest.Wait()
		require.NoError(t, task.Restart(t.Context()))
		synctest.Wait()
		require.EqualValues(t, 1, inPolicy.Load(), "the second driver asks")
		close(release)
		time.Sleep(time.Hour)
		assert.EqualValues(t, 1, most.Load())
		assert.EqualValues(t, 3, task.Stats().Runs)
	})
}

// A slowNarrowError is a narrowError that takes a minute for its answer.
type slowNarrowError struct{ narrowError }

func (e slowNarrowError) As(target any) bool {
	time.Sleep(time.Minute)
	return e.narrowError.As(target)
}

// Whoever restarts a task again, while it is asked whether the run before has left something behind, has that asked again.
func TestSuperviseAsksForWhatIsLeftBeforeASecondRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			return slowNarrowError{}
		})
		synctest.Wait()
		first := make(chan error, 1)
		go func() { first <- task.Restart(t.Context()) }()
		time.Sleep(time.Second)
		require.NoError(t, task.Restart(t.Context()), "it waits for its next run, and nothing is in the way yet")
		require.NoError(t, <-first, "likewise")
		time.Sleep(time.Hour)
		assert.Equal(t, taskmanager.StateFailed, task.State())
		assert.EqualValues(t, 1, task.Stats().Runs)
	})
}

// A failure is counted once, also if somebody restarts the task while it is judged, and it turns out then that something was left.
func TestSuperviseCountsAFailureThatIsAskedTwiceOnce(t *testing.T) {
	for name, panics := range map[string]bool{"returned": false, "panicked": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				task := start(t, m, "a", func(context.Context) error {
					if panics {
						panic(slowNarrowError{})
					}
					return slowNarrowError{}
				})
				synctest.Wait()
				failed := time.Now()
				time.Sleep(time.Second)
				require.NoError(t, task.Restart(t.Context()))
				require.Error(t, task.Wait(t.Context()))
				s := task.Stats()
				assert.EqualValues(t, 1, s.Runs)
				assert.EqualValues(t, 1, s.Failures)
				assert.Equal(t, panics, s.Panics == 1)
				assert.Equal(t, failed.UnixNano(), s.LastErrorAt.UnixNano())
				time.Sleep(time.Minute)
			})
		})
	}
}

// A method that ends the goroutine instead of saying whether something was left is not called again: the next run begins.
func TestSuperviseAsksForWhatIsLeftAndIsNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		asked, runs := 0, 0
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			if runs++; runs > 1 {
				return nil
			}
			return askedError{func() {
				asked++
				runtime.Goexit()
			}}
		})
		synctest.Wait()
		require.NoError(t, task.Restart(t.Context()))
		synctest.Wait()
		assert.EqualValues(t, 2, task.Stats().Runs)
		assert.Equal(t, 1, asked)
	})
}

// Where no restart can follow, a policy is not asked when.
func TestSuperviseDoesNotAskThePolicyInVain(t *testing.T) {
	never := taskmanager.WithRestart(taskmanager.RestartNever)
	for name, test := range map[string]struct {
		err  error
		opts []taskmanager.TaskOption
	}{
		"never restarted":      {errBoom, []taskmanager.TaskOption{never}},
		"permanent":            {backoff.Permanent(errBoom), nil},
		"permanent, and never": {backoff.Permanent(errBoom), []taskmanager.TaskOption{never}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				asked := 0
				policy := &script{next: func() time.Duration { asked++; return time.Second }}
				task := start(t, m, "a", func(context.Context) error { return test.err }, append(test.opts, policy.option())...)
				require.ErrorIs(t, task.Wait(t.Context()), errBoom)
				assert.Zero(t, asked)
			})
		})
	}
}

// Those that wait for a task hear of it when its policy gives it up.
func TestSuperviseTellsThatThePolicyHasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		policy := &script{next: func() time.Duration {
			time.Sleep(time.Hour)
			return backoff.Stop
		}}
		start(t, m, "db", boom, policy.option())
		start(t, m, "api", untilStopped, taskmanager.WithDependsOn("db"), taskmanager.WithReadiness(time.Minute), critical)
		began := time.Now()
		require.ErrorIs(t, m.Run(t.Context()), errBoom)
		took(t, time.Hour, began)
	})
}

// A driver that is replaced while it asks a policy keeps that policy. The one that replaces it has another one made, once, and begins
// with its Reset.
func TestSuperviseReplacedKeepsThePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		release := make(chan struct{})
		made := 0
		var latter script
		policy := taskmanager.WithBackOffPolicy(func() backoff.BackOff {
			switch made++; made {
			case 1:
				return &script{next: func() time.Duration { <-release; return time.Second }}
			case 2:
				latter.delays = []time.Duration{time.Second, time.Second, time.Second}
				return &latter
			}
			return &script{delays: []time.Duration{time.Hour}}
		})
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs++; runs > 4 {
				return untilStopped(ctx)
			}
			return errBoom
		}, policy)
		synctest.Wait()
		began := time.Now()
		require.NoError(t, task.Restart(t.Context()))
		time.Sleep(time.Minute)
		close(release)
		synctest.Wait()
		assert.Equal(t, 2, made)
		assert.Equal(t, []int{3}, latter.resets, "before the first of its delays")
		assert.Empty(t, latter.delays)
		assert.Equal(t, 3*time.Second, task.Stats().RunStartedAt.Sub(began))
	})
}

// An error whose method ends the goroutine is not asked again: it is judged as any other that says nothing.
func TestSuperviseJudgesAnErrorThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		asked, runs := 0, 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs++; runs > 1 {
				return untilStopped(ctx)
			}
			return askedError{func() {
				if asked++; asked < 10 { // and if it is asked so often it answers, for the test to end
					runtime.Goexit()
				}
			}}
		})
		time.Sleep(time.Minute)
		assert.EqualValues(t, 2, task.Stats().Runs)
		assert.Equal(t, 1, asked)
	})
}

// Where no restart can follow, whatever is answered, nobody is asked: the task is given up at once.
func TestSuperviseAsksNobodyWhetherThereIsARestartWhereThereIsNone(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	for name, c := range map[string]struct {
		err  error
		opts []taskmanager.TaskOption
	}{
		"never restarted":   {&askedError{func() { <-release }}, []taskmanager.TaskOption{once()}},
		"the limit is of 0": {errBoom, []taskmanager.TaskOption{noRestart}},
		"the limit is of 1": {errBoom, []taskmanager.TaskOption{taskmanager.WithMaxRestarts(1)}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			policy := &script{next: func() time.Duration {
				asked++
				return time.Second
			}}
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				task := start(t, m, "a", func(context.Context) error { return c.err }, append(c.opts, policy.option())...)
				time.Sleep(time.Hour)
				require.Equal(t, taskmanager.StateFailed, task.State())
				assert.EqualValues(t, asked+1, task.Stats().Runs)
				var gaveUp *taskmanager.GiveUpError
				require.ErrorAs(t, task.Err(), &gaveUp)
				assert.Equal(t, c.err, gaveUp.Err)
				assert.Equal(t, name != "never restarted", gaveUp.Is(taskmanager.ErrTooManyRestarts))
			})
		})
	}
}

// A log handler that hangs with an earlier line does not hold up how a run has ended.
func TestSuperviseJudgesBeforeTheLinesThatWait(t *testing.T) {
	for range 50 { // who is first with the line is chance
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			m := mustNew(t, slowLog("task ready", func() { <-release }))
			task := start(t, m, "a", func(ctx context.Context) error {
				taskmanager.Ready(ctx)
				return askedError{func() {}}
			}, taskmanager.WithReadiness(time.Minute), noRestart)
			synctest.Wait()
			require.Equal(t, taskmanager.StateFailed, task.State())
			close(release)
			require.NoError(t, m.Shutdown(t.Context()))
		})
	}
}

// The first run, and each that has waited for a dependency, begins within the jitter; 500 of them don't begin at once.
func TestStartJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		const n, jitter = 500, 10 * time.Second
		var (
			mu     sync.Mutex
			begins []time.Time
		)
		body := func(ctx context.Context) error {
			mu.Lock()
			begins = append(begins, time.Now())
			mu.Unlock()
			return untilStopped(ctx)
		}
		check := func(from time.Time) {
			t.Helper()
			synctest.Wait()
			require.Len(t, begins, n)
			firstHalf, distinct := 0, make(map[time.Time]bool)
			for _, at := range begins {
				d := at.Sub(from)
				require.GreaterOrEqual(t, d, time.Duration(0))
				require.LessOrEqual(t, d, jitter)
				distinct[at] = true
				if d < jitter/2 {
					firstHalf++
				}
			}
			assert.InDelta(t, n/2, firstHalf, 100)
			assert.Greater(t, len(distinct), n*9/10)
			begins = nil
		}
		began := time.Now()
		for i := range n {
			start(t, m, fmt.Sprint(i), body, taskmanager.WithStartJitter(jitter), taskmanager.WithBindTo("db"))
		}
		db := start(t, m, "db", untilStopped)
		synctest.Wait()
		assert.Equal(t, n, m.Stats().Waiting)
		time.Sleep(jitter)
		check(began)
		for range 3 {
			require.NoError(t, db.Stop(t.Context()))
			synctest.Wait()
			require.Equal(t, n, m.Stats().Waiting)
			time.Sleep(time.Minute)
			began = time.Now()
			require.NoError(t, db.Restart(t.Context()))
			time.Sleep(jitter)
			check(began)
		}
	})
}

// While a run waits for its jitter, a dependency may be lost again; and whatever else is asked of the task ends the wait.
func TestStartJitterEnds(t *testing.T) {
	const jitter = 1000 * time.Hour // of which less than a minute is not drawn
	jittered := taskmanager.WithStartJitter(jitter)
	for name, f := range map[string]func(t *testing.T, m *taskmanager.Manager, task *taskmanager.Task){
		"by a restart by hand": func(t *testing.T, _ *taskmanager.Manager, task *taskmanager.Task) {
			require.NoError(t, task.Restart(t.Context()))
			require.Equal(t, taskmanager.StateRunning, settled(task))
			assert.EqualValues(t, 1, task.Stats().Runs)
		},
		"by a stop": func(t *testing.T, _ *taskmanager.Manager, task *taskmanager.Task) {
			require.NoError(t, task.Stop(t.Context()))
			require.Equal(t, taskmanager.StateStopped, settled(task))
			require.NoError(t, task.Restart(t.Context()))
			require.Equal(t, taskmanager.StateRunning, settled(task), "a restart by hand begins at once")
		},
		"by a shutdown": func(t *testing.T, m *taskmanager.Manager, task *taskmanager.Task) {
			require.NoError(t, m.Shutdown(t.Context()))
			require.Equal(t, taskmanager.StateStopped, settled(task))
		},
		"by itself": func(t *testing.T, _ *taskmanager.Manager, task *taskmanager.Task) {
			time.Sleep(jitter)
			require.Equal(t, taskmanager.StateRunning, settled(task))
			require.NoError(t, task.Restart(t.Context()))
			require.Equal(t, taskmanager.StateRunning, settled(task), "a restart by hand begins at once")
			assert.EqualValues(t, 2, task.Stats().Runs)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				task := start(t, m, "a", untilStopped, jittered)
				time.Sleep(time.Second)
				require.Equal(t, taskmanager.StateWaiting, settled(task))
				assert.Empty(t, statusOf(task))
				before := goroutines()
				began := time.Now()
				f(t, m, task)
				if name != "by itself" {
					took(t, 0, began)
				}
				assert.LessOrEqual(t, goroutines(), before)
			})
		})
	}
	t.Run("and the dependency is lost meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			first, second := start(t, m, "first", untilStopped), start(t, m, "second", untilStopped)
			task := start(t, m, "a", untilStopped, jittered, dependsOn("first", "second"))
			time.Sleep(time.Second)
			require.NoError(t, second.Stop(t.Context()))
			time.Sleep(jitter)
			require.Equal(t, taskmanager.StateWaiting, settled(task))
			assert.Equal(t, `waiting for "second" (stopped)`, statusOf(task))
			require.NoError(t, second.Restart(t.Context()))
			time.Sleep(time.Second)
			require.Equal(t, taskmanager.StateWaiting, settled(task), "it has waited, and begins later again")
			_ = first

			// One that is given up, and back, does not shorten the wait.
			start(t, m, "third", boom, once())
			require.NoError(t, first.Stop(t.Context()))
			require.NoError(t, first.Restart(t.Context()))
			time.Sleep(time.Second)
			require.Equal(t, taskmanager.StateWaiting, settled(task))
			time.Sleep(jitter)
			require.Equal(t, taskmanager.StateRunning, settled(task))
		})
	})
	t.Run("and a failure has its own", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, exact(jittered)...)
			task := start(t, m, "a", failAfter(time.Second))
			require.NoError(t, task.Restart(t.Context()))
			time.Sleep(7 * time.Second)
			synctest.Wait()
			assert.EqualValues(t, 4, task.Stats().Runs, "each runs for a second, and waits for one")
		})
	})
}

func TestStartJitterIsChecked(t *testing.T) {
	m := newManager(t)
	_, err := m.StartTask("a", untilStopped, taskmanager.WithStartJitter(-1))
	require.EqualError(t, err, "taskmanager: WithStartJitter(-1ns): must not be negative")
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithStartJitter(math.MaxInt64))
		a := start(t, m, "a", untilStopped, taskmanager.WithStartJitter(0))
		b := start(t, m, "b", untilStopped)
		assert.Equal(t, taskmanager.StateRunning, settled(a))
		assert.Equal(t, taskmanager.StateWaiting, settled(b))
	})
}

// A pause ends the jitter; so does the end of it.
func TestStartJitterAndPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", untilStopped, taskmanager.WithStartJitter(1000*time.Hour))
		time.Sleep(time.Second)
		require.NoError(t, task.Pause(t.Context()))
		require.Equal(t, taskmanager.StatePaused, settled(task))
		require.NoError(t, task.Resume())
		require.Equal(t, taskmanager.StateRunning, settled(task))
	})
}
