package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

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

func TestOptionError(t *testing.T) {
	err := fmt.Errorf("configuring: %w", &taskmanager.OptionError{Option: "WithHistory", Value: -1, Reason: "must be 0 or more"})
	require.EqualError(t, err, "configuring: taskmanager: WithHistory(-1): must be 0 or more")
	var refused *taskmanager.OptionError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "WithHistory", refused.Option)
	assert.NoError(t, errors.Unwrap(refused))
}
