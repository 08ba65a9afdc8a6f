package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// What a body says beside the cause of its stop is kept, however it is joined with that, or looks like it; and what is
// nothing but the cause is not taken for more.
func TestStopKeepsTheBodysOwnError(t *testing.T) {
	own := errors.New("300 rows lost")
	inner := func() error { // of a context that has nothing to do with the task's
		ctx, cancel := context.WithTimeout(context.Background(), 0)
		defer cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	stops := map[string]struct {
		ask   func(m *taskmanager.Manager, endParent context.CancelCauseFunc) error
		cause error
	}{
		"StopTask": {func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
			return m.StopTask(context.Background(), "a")
		}, taskmanager.ErrStopped},
		"RestartTask": {func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
			return m.RestartTask(context.Background(), "a")
		}, taskmanager.ErrRestarted},
		"Shutdown": {func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
			return m.Shutdown(context.Background())
		}, taskmanager.ErrShutdown},
		"the end of the parent context": {func(_ *taskmanager.Manager, endParent context.CancelCauseFunc) error {
			endParent(errBoom)
			return nil
		}, errBoom},
	}
	for title, test := range map[string]struct {
		err  func(ctx context.Context) error
		own  error  // what the event's error is
		text string // what the line has, "" for no error; %v is the cause
	}{
		"nothing":                    {func(context.Context) error { return nil }, nil, ""},
		"Err":                        {func(ctx context.Context) error { return ctx.Err() }, nil, ""},
		"the cause":                  {context.Cause, nil, ""},
		"the cause, wrapped":         {func(ctx context.Context) error { return fmt.Errorf("poll: %w", context.Cause(ctx)) }, nil, ""},
		"both":                       {func(ctx context.Context) error { return errors.Join(ctx.Err(), context.Cause(ctx)) }, nil, ""},
		"an own one":                 {func(context.Context) error { return own }, own, "300 rows lost"},
		"joined with Err":            {func(ctx context.Context) error { return errors.Join(ctx.Err(), own) }, own, "context canceled\n300 rows lost"},
		"joined with the cause":      {func(ctx context.Context) error { return errors.Join(own, context.Cause(ctx)) }, own, "300 rows lost\n%v"},
		"wrapped together with Err":  {func(ctx context.Context) error { return fmt.Errorf("%w: %w", ctx.Err(), own) }, own, "context canceled: 300 rows lost"},
		"permanent":                  {func(context.Context) error { return backoff.Permanent(own) }, own, "300 rows lost"},
		"the deadline of an inner":   {func(context.Context) error { return inner() }, context.DeadlineExceeded, "context deadline exceeded"},
		"that deadline, wrapped":     {func(context.Context) error { return fmt.Errorf("flush: %w", inner()) }, context.DeadlineExceeded, "flush: context deadline exceeded"},
		"another one's cause":        {func(context.Context) error { return taskmanager.ErrWatchdog }, taskmanager.ErrWatchdog, "taskmanager: no heartbeat in time"},
		"one that claims to be both": {func(context.Context) error { return claimingError{own} }, own, "claims"},
	} {
		for how, stop := range stops {
			t.Run(title+", after "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log logBook
					parent, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					m := newManager(t, log.option(), taskmanager.WithContext(parent))
					events := m.Subscribe(t.Context())
					first := true
					task := start(t, m, "a", func(ctx context.Context) error {
						<-ctx.Done()
						if !first {
							return nil
						}
						first = false
						return test.err(ctx)
					})
					synctest.Wait()
					require.NoError(t, stop.ask(m, cancel))
					got := ofKind(taskmanager.EventStopped, pending(events))
					require.Len(t, got, 1)
					assert.Equal(t, stop.cause, got[0].Cause)
					err := got[0].Err
					if how == "RestartTask" {
						require.ErrorIs(t, err, taskmanager.ErrRestarted)
					} else if test.own == nil {
						require.NoError(t, err)
					}
					if test.own != nil {
						require.ErrorIs(t, err, test.own)
					}
					lines := log.lines(t, "task stopped")
					require.Len(t, lines, 1)
					assert.Equal(t, stop.cause.Error(), lines[0]["cause"])
					if test.text == "" {
						assert.NotContains(t, lines[0], "error")
					} else {
						want := test.text
						if title == "joined with the cause" {
							want = fmt.Sprintf(want, stop.cause)
						}
						assert.Equal(t, want, lines[0]["error"])
					}
					assert.Zero(t, task.Stats().Failures)
					require.NoError(t, task.Err())
				})
			})
		}
	}
}

// A claimingError says of itself that it is whatever it is asked for.
type claimingError struct{ error }

func (claimingError) Error() string   { return "claims" }
func (claimingError) Is(error) bool   { return true }
func (e claimingError) Unwrap() error { return e.error }

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
