package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestPanicErrorOfAnotherPackage(t *testing.T) {
	err := &taskmanager.PanicError{Value: errBoom}
	require.EqualError(t, err, "taskmanager: panic: boom")
	require.ErrorIs(t, err, errBoom)
	assert.Nil(t, err.Stack())
	err = &taskmanager.PanicError{Value: 42}
	require.EqualError(t, err, "taskmanager: panic: 42")
	assert.NoError(t, errors.Unwrap(err))
	assert.Nil(t, err.StackTrace())
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
		assert.Regexp(t, `^github\.com/go-taskmanager/taskmanager_test\.deepPanic\(\.\.\.\)\n\t\S+errors_test\.go:\d+\n`, string(err.Stack()))
		assert.Regexp(t, `(?s)(taskmanager_test\.deepPanic.*){3}TestPanicErrorStackBeginsWhereItPanicked`, string(err.Stack()))
		synctest.Wait() // the log is the last to hear
		gaveUp := log.lines(t, "task failed for good, gave up")
		require.Len(t, gaveUp, 1)
		stack, _ := gaveUp[0]["stack"].([]any)
		require.Len(t, stack, 4, "three calls of deepPanic, and the body")
		assert.Equal(t, stack[0], gaveUp[0]["at"])
	})
}

// none returns a T that nobody has made, which the linters do not know to be nil.
func none[T any]() (zero T) { return zero }

// Program counters are for services that make something of their own of a stack, which find them by the name of the method. They begin
// where the stack does, also if it was the runtime that panicked.
func TestPanicErrorStackTrace(t *testing.T) {
	for title, body := range map[string]taskmanager.TaskFunc{
		"by panic":       func(context.Context) error { deepPanic(2); return nil },
		"by the runtime": func(context.Context) error { none[map[string]int]()["a"]++; return nil },
		"by a signal":    func(context.Context) error { _ = none[*taskmanager.OptionError]().Reason; return nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			var err *taskmanager.PanicError
			require.ErrorAs(t, start(t, m, "a", body, taskmanager.WithMaxRestarts(0)).Wait(t.Context()), &err, title)
			method := reflect.ValueOf(err).MethodByName("StackTrace")
			pcs, ok := reflect.TypeAssert[[]uintptr](method.Call(nil)[0])
			require.True(t, ok)
			var text strings.Builder
			for frames, more := runtime.CallersFrames(pcs), true; more; {
				var f runtime.Frame
				f, more = frames.Next()
				fmt.Fprintf(&text, "%s(...)\n\t%s:%d\n", f.Function, f.File, f.Line)
			}
			assert.Equal(t, string(err.Stack()), text.String(), title)
			clear(pcs)
			assert.Equal(t, string(err.Stack()), text.String(), "it is a copy")
		})
	}
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

	shortest := &taskmanager.GiveUpError{Task: "a", Restarts: 1, Window: 1, Err: errBoom}
	require.EqualError(t, shortest, `taskmanager: gave up task "a" after 1 restart within 1ns: boom`)
	require.ErrorIs(t, shortest, taskmanager.ErrTooManyRestarts)

	require.EqualError(t, &taskmanager.GiveUpError{Task: "a"}, `taskmanager: gave up task "a"`)
	require.NotErrorIs(t, byLimit, taskmanager.ErrStopped)
}

func TestOptionError(t *testing.T) {
	err := fmt.Errorf("configuring: %w", &taskmanager.OptionError{Option: "WithHistory", Value: -1, Reason: "must be 0 or more"})
	require.EqualError(t, err, "configuring: taskmanager: WithHistory(-1): must be 0 or more")
	var refused *taskmanager.OptionError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "WithHistory", refused.Option)
	assert.NoError(t, errors.Unwrap(refused))

	// A name may be long.
	for n, more := range map[int]string{79: "", 80: "", 82: " and 2 bytes more"} {
		err := &taskmanager.OptionError{Option: "name", Value: strings.Repeat("x", n), Reason: "is odd"}
		require.EqualError(t, err, fmt.Sprintf("taskmanager: name %q%s: is odd", strings.Repeat("x", min(n, 80)), more))
	}
}

// The nil pointers of those types that are looked at without a recover: their methods panic.
func TestErrorThatIsANilPointer(t *testing.T) {
	for _, err := range []error{
		(*os.PathError)(nil), (*os.SyscallError)(nil), (*net.OpError)(nil), (*url.Error)(nil), (*exec.Error)(nil), (*strconv.NumError)(nil),
		(*taskmanager.PanicError)(nil), (*taskmanager.OverdueError)(nil), (*taskmanager.GiveUpError)(nil), (*taskmanager.StopTimeoutError)(nil),
		(*backoff.PermanentError)(nil),
	} {
		for name, end := range map[string]func(){
			"returned": func() {},
			"wrapped":  func() { err = fmt.Errorf("wrapped: %w", err) },
			"panic":    func() { panic(err) },
		} {
			t.Run(fmt.Sprintf("%T/%s", err, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := mustNew(t, taskmanager.WithLogger(slog.New(newLines(slog.LevelDebug))), taskmanager.WithReporter(newInbox(nil)))
					fails := func(context.Context) error { end(); return err }
					task := start(t, m, "a", fails, noRestart)
					<-task.Done()
					assert.Equal(t, taskmanager.StateFailed, task.State())
					assert.NotEmpty(t, task.Err().Error())
					stopped := start(t, m, "b", func(ctx context.Context) error {
						<-ctx.Done()
						return fails(ctx)
					})
					synctest.Wait()
					_ = stopped.Stop(t.Context()) // if it says that something is left, that is its error
					assert.Equal(t, taskmanager.StateStopped, stopped.State())
					require.NoError(t, m.Shutdown(t.Context()))
				})
			})
		}
	}
}

// An error that wraps itself, by way of types that are not the user's: nobody follows it for ever, nor prints it.
func TestErrorThatWrapsItself(t *testing.T) {
	path := &os.PathError{Op: "open", Path: "x"}
	path.Err = fmt.Errorf("again: %w", path)
	joined := errors.Join(errBoom, errDeaf)
	joined.(interface{ Unwrap() []error }).Unwrap()[1] = joined
	for name, err := range map[string]error{"one": path, "of several": joined, "permanent": backoff.Permanent(path)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				m := mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithReporter(newInbox(nil)))
				task := start(t, m, "a", func(context.Context) error { return err }, noRestart)
				<-task.Done()
				require.ErrorContains(t, task.Err(), fmt.Sprintf(": a %T, which wraps itself", err))
				stopped := start(t, m, "b", func(ctx context.Context) error {
					<-ctx.Done()
					return err
				})
				synctest.Wait()
				require.NoError(t, stopped.Stop(t.Context()))
				require.NoError(t, m.Shutdown(t.Context()))
				assert.Len(t, lines.about("which wraps itself"), 2)
			})
		})
	}
}

// An error of many is not taken for one that wraps itself.
func TestErrorThatWrapsMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", func(context.Context) error {
			return errors.Join(slices.Repeat([]error{fmt.Errorf("wrapped: %w", errBoom)}, 10_000)...)
		}, noRestart)
		<-task.Done()
		assert.Equal(t, 10_000, strings.Count(task.Err().Error(), "boom"))
		assert.ErrorIs(t, task.Err(), errBoom)
	})
}
