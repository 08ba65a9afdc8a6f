package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// brokenError is an error all of whose methods panic.
type brokenError struct{}

func (brokenError) Error() string          { panic("Error") }
func (brokenError) Unwrap() error          { panic("Unwrap") }
func (brokenError) Is(error) bool          { panic("Is") }
func (brokenError) As(any) bool            { panic("As") }
func (brokenError) Format(fmt.State, rune) { panic("Format") }

// An end is a way in which a run can end by itself.
type end struct {
	title string
	body  func() error

	// What must come of it, besides a run that returns nil.
	is     error  // what errors.Is finds in the failure; nil for a run that returns nil
	text   string // of the failure
	panics bool   // it counts as a panic
	final  bool   // it forbids a restart
}

func ends() []end {
	stuck := &taskmanager.StopTimeoutError{Task: "inner", Timeout: time.Second}
	return []end{
		{title: "nil", body: func() error { return nil }},
		{title: "error", body: func() error { return errBoom }, is: errBoom, text: "boom"},
		{title: "wrapped error", body: func() error { return fmt.Errorf("polling: %w", errBoom) }, is: errBoom, text: "polling: boom"},
		{
			title: "panic with a string", body: func() error { panic("boom") },
			text: "taskmanager: panic: boom", panics: true,
		},
		{
			title: "panic with an error", body: func() error { panic(errBoom) },
			is: errBoom, text: "taskmanager: panic: boom", panics: true,
		},
		{
			title: "panic with nil", body: func() error { panic(nil) },
			text: "taskmanager: panic: " + new(runtime.PanicNilError).Error(), panics: true,
		},
		{
			title: "panic of the runtime",
			body: func() error {
				none, i := strings.Fields(""), 0
				return errors.New(none[i])
			},
			text: "taskmanager: panic: runtime error: index out of range [0] with length 0", panics: true,
		},
		{
			title: "panic in a deferred call",
			body: func() error {
				defer func() { panic("deferred") }()
				return nil
			},
			text: "taskmanager: panic: deferred", panics: true,
		},
		{
			title: "panic in a deferred call after a panic",
			body: func() error {
				defer func() { panic("second") }()
				panic("first")
			},
			text: "taskmanager: panic: second", panics: true,
		},
		{
			title: "recovered by the body",
			body: func() (err error) {
				defer func() { err = fmt.Errorf("recovered: %v", recover()) }()
				panic("boom")
			},
			text: "recovered: boom",
		},
		{
			title: "Goexit",
			body: func() error {
				runtime.Goexit()
				return nil
			},
			is: taskmanager.ErrGoexit, text: "taskmanager: body called runtime.Goexit",
		},
		{
			title: "Goexit in a deferred call",
			body: func() error {
				defer runtime.Goexit()
				return nil
			},
			is: taskmanager.ErrGoexit, text: "taskmanager: body called runtime.Goexit",
		},
		{
			title: "Goexit in a deferred call after a panic",
			body: func() error {
				defer runtime.Goexit()
				panic("boom")
			},
			is: taskmanager.ErrGoexit, text: "taskmanager: body called runtime.Goexit",
		},
		{
			title: "panic in a deferred call after Goexit",
			body: func() error {
				defer func() { panic("boom") }()
				runtime.Goexit()
				return nil
			},
			text: "taskmanager: panic: boom", panics: true,
		},
		{
			title: "inner context.Canceled", body: func() error { return fmt.Errorf("get: %w", context.Canceled) },
			is: context.Canceled, text: "get: context canceled",
		},
		{
			title: "inner context.DeadlineExceeded", body: func() error { return context.DeadlineExceeded },
			is: context.DeadlineExceeded, text: "context deadline exceeded",
		},
		{title: "ErrStopped without a stop", body: func() error { return taskmanager.ErrStopped }, is: taskmanager.ErrStopped, text: "taskmanager: task was stopped"},
		{title: "Permanent", body: func() error { return backoff.Permanent(errBoom) }, is: errBoom, text: "boom", final: true},
		{
			title: "wrapped Permanent", body: func() error { return fmt.Errorf("polling: %w", backoff.Permanent(errBoom)) },
			is: errBoom, text: "polling: boom", final: true,
		},
		{
			title: "joined Permanent", body: func() error { return errors.Join(errBoom, backoff.Permanent(errors.New("over"))) },
			is: errBoom, text: "boom\nover", final: true,
		},
		{
			title: "panic with Permanent", body: func() error { panic(backoff.Permanent(errBoom)) },
			is: errBoom, text: "taskmanager: panic: boom", panics: true, final: true,
		},
		{
			// Something below still runs: a second run would meet it.
			title: "a stuck task of a nested Manager", body: func() error { return fmt.Errorf("stopping: %w", stuck) },
			is: stuck, text: `stopping: taskmanager: task "inner" did not stop within 1s`, final: true,
		},
	}
}

func TestEndOfARun(t *testing.T) {
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
		assert.Equal(t, taskmanager.GiveUpError{Task: "a", Err: stats.LastError}, *gaveUp)
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
func TestEndWithAnErrorWhoseMethodsPanic(t *testing.T) {
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

func TestEndAfterAStopWithAnErrorWhoseMethodsPanic(t *testing.T) {
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

func TestEndAfterAStopIsNoFailure(t *testing.T) {
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

func TestPromise6TheTasksOwnContextJudgesHowARunEnded(t *testing.T) {
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
func TestEndWithNilUnderRestartAlways(t *testing.T) {
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
func TestEndByGoexitAgainAndAgain(t *testing.T) {
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
func TestEndByAPanicInAGoroutineOfTheBodyEndsTheProcess(t *testing.T) {
	const inner = "TASKMANAGER_TEST_PANIC_IN_A_GOROUTINE"
	if os.Getenv(inner) != "" {
		m := newManager(t)
		start(t, m, "a", func(ctx context.Context) error {
			go func() { panic("of nobody") }()
			return untilStopped(ctx)
		})
		select {}
	}
	executable, err := os.Executable()
	require.NoError(t, err)
	child := exec.CommandContext(t.Context(), executable, "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), inner+"=1")
	output, err := child.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 2, exit.ExitCode())
	assert.Contains(t, string(output), "panic: of nobody")
}

func TestPanicErrorOfAnotherPackage(t *testing.T) {
	err := &taskmanager.PanicError{Value: errBoom}
	require.EqualError(t, err, "taskmanager: panic: boom")
	require.ErrorIs(t, err, errBoom)
	assert.Nil(t, err.Stack())
	err = &taskmanager.PanicError{Value: 42}
	require.EqualError(t, err, "taskmanager: panic: 42")
	assert.NoError(t, errors.Unwrap(err))
}

//go:noinline
func deepPanic(depth int) {
	if depth == 0 {
		panic("deep")
	}
	deepPanic(depth - 1)
}

func TestPanicErrorStackBeginsWhereItPanicked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newManager(t, log.option())
		task := start(t, m, "a", func(context.Context) error {
			deepPanic(2)
			return nil
		}, taskmanager.WithMaxRestarts(0))
		<-task.Done()
		var err *taskmanager.PanicError
		require.ErrorAs(t, task.Err(), &err)
		assert.Equal(t, "deep", err.Value)
		assert.Regexp(t, `^github\.com/go-taskmanager/taskmanager_test\.deepPanic\(\.\.\.\)\n\t\S+ending_test\.go:\d+\n`, string(err.Stack()))
		assert.Regexp(t, `(?s)(taskmanager_test\.deepPanic.*){3}TestPanicErrorStackBeginsWhereItPanicked`, string(err.Stack()))
		synctest.Wait() // the log is the last to hear
		gaveUp := log.lines(t, "task failed for good, gave up")
		require.Len(t, gaveUp, 1)
		assert.Contains(t, gaveUp[0]["stack"], "taskmanager_test.deepPanic(...)")
	})
}

func TestPanicErrorStackIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", func(context.Context) error {
			deepPanic(10_000)
			return nil
		}, taskmanager.WithMaxRestarts(0))
		<-task.Done()
		var err *taskmanager.PanicError
		require.ErrorAs(t, task.Err(), &err)
		calls := len(regexp.MustCompile(`(?m)^\S+\(\.\.\.\)$`).FindAll(err.Stack(), -1))
		assert.LessOrEqual(t, calls, 64)
		assert.Greater(t, calls, 60)
	})
}

func TestGiveUpError(t *testing.T) {
	byLimit := &taskmanager.GiveUpError{Task: "a", Restarts: 5, Window: time.Minute, Err: errBoom}
	require.EqualError(t, byLimit, `taskmanager: gave up task "a" after 5 restarts within 1m0s: boom`)
	require.ErrorIs(t, byLimit, taskmanager.ErrTooManyRestarts)
	require.ErrorIs(t, byLimit, errBoom)
	assert.Equal(t, errBoom, errors.Unwrap(byLimit))

	byPolicy := fmt.Errorf("watching: %w", &taskmanager.GiveUpError{Task: "a", Err: errBoom})
	require.EqualError(t, byPolicy, `watching: taskmanager: gave up task "a": boom`)
	require.NotErrorIs(t, byPolicy, taskmanager.ErrTooManyRestarts)
	require.ErrorIs(t, byPolicy, errBoom)
	var err *taskmanager.GiveUpError
	require.ErrorAs(t, byPolicy, &err)
	assert.Equal(t, "a", err.Task)

	require.EqualError(t, &taskmanager.GiveUpError{Task: "a"}, `taskmanager: gave up task "a"`)
	require.NotErrorIs(t, byLimit, taskmanager.ErrStopped)
}

// goexitHandler is a log handler that ends the goroutine which logs that message, as one does that calls FailNow of a test.
type goexitHandler struct {
	slog.Handler
	message string
}

func (h goexitHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h goexitHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Message == h.message {
		runtime.Goexit()
	}
	return err
}

// goexitPolicy ends the goroutine that asks it for a delay.
type goexitPolicy struct{ backoff.ZeroBackOff }

func (goexitPolicy) NextBackOff() time.Duration { runtime.Goexit(); return 0 }

// A log handler that calls Goexit ends that call and nothing else: the task fails as often as its body does, at the times at
// which it would, and every line is written. A policy that does is no use for further delays: the task is given up.
func TestGoexitInALogHandlerOrAPolicy(t *testing.T) {
	policy := taskmanager.WithBackOffPolicy(func() backoff.BackOff { return &goexitPolicy{} })
	for title, test := range map[string]struct {
		message string
		opts    []taskmanager.TaskOption
		runs    int
		cause   error
	}{
		"when a run starts":             {message: "task started", runs: 6, cause: taskmanager.ErrTooManyRestarts},
		"when it fails":                 {message: "task failed, will restart", runs: 6, cause: taskmanager.ErrTooManyRestarts},
		"when it is given up":           {message: "task failed for good, gave up", runs: 6, cause: taskmanager.ErrTooManyRestarts},
		"by the backoff policy":         {opts: []taskmanager.TaskOption{policy}, runs: 1, cause: taskmanager.ErrGoexit},
		"by the policy, then a handler": {message: "task failed for good, gave up", opts: []taskmanager.TaskOption{policy}, runs: 1, cause: taskmanager.ErrGoexit},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				m := newManager(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0),
					taskmanager.WithLogger(slog.New(goexitHandler{lines, test.message})))
				began := time.Now()
				task := start(t, m, "a", boom, test.opts...)
				var gaveUp *taskmanager.GiveUpError
				require.ErrorAs(t, task.Wait(t.Context()), &gaveUp)
				took(t, time.Duration(test.runs-1)*time.Second, began)
				require.ErrorIs(t, gaveUp, test.cause)
				require.ErrorIs(t, gaveUp, errBoom)
				assert.Equal(t, taskmanager.StateFailed, task.State())
				assert.EqualValues(t, test.runs, task.Stats().Runs)
				assert.EqualValues(t, test.runs, task.Stats().Failures)
				synctest.Wait()
				want := slices.Repeat([]string{"task started", "task failed, will restart"}, test.runs)
				want[len(want)-1] = "task failed for good, gave up"
				assert.Equal(t, want, messages(lines))
				start(t, m, "a", untilStopped) // the name is free
			})
		})
	}
}

// shyHandler ends the goroutine which asks whether it wants to know that a run has begun.
type shyHandler struct{ slog.Handler }

func (h shyHandler) Enabled(_ context.Context, l slog.Level) bool {
	if l == slog.LevelDebug {
		runtime.Goexit()
	}
	return true
}

func TestGoexitOfALogHandlerThatIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelDebug)
		m := newManager(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0),
			taskmanager.WithLogger(slog.New(shyHandler{lines})))
		before := goroutines()
		began := time.Now()
		require.ErrorIs(t, start(t, m, "a", boom, taskmanager.WithMaxRestarts(2)).Wait(t.Context()), errBoom)
		took(t, 2*time.Second, began)
		assert.Equal(t, before, goroutines())
		assert.Equal(t, []string{"task failed, will restart", "task failed, will restart", "task failed for good, gave up"}, messages(lines))
	})
}
