package taskmanager_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A body may hear of the end of the parent context before the Manager does, and return: it has stopped, then, for that reason.
func TestParentEndIsHeardOfByABodyFirst(t *testing.T) {
	endOfTheParent(t, func(t *testing.T, p *parentThatEnds) {
		m := mustNew(t, taskmanager.WithContext(p.ctx))
		events := m.Subscribe(t.Context())
		var of context.Context
		task := start(t, m, "a", func(ctx context.Context) error {
			of = ctx
			time.Sleep(time.Minute)
			p.end()
			return errBoom
		})
		began := time.Now()
		require.NoError(t, task.Wait(t.Context()))
		took(t, time.Minute, began)
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.Equal(t, context.Canceled, of.Err())
		assert.Equal(t, p.cause, context.Cause(of))
		got := ofKind(taskmanager.EventStopped, pending(events))
		require.Len(t, got, 1)
		assert.Equal(t, p.cause, got[0].Cause)
		assert.Equal(t, errBoom, got[0].Err, "what the body returned is kept")
		assert.Zero(t, task.Stats().Failures)
		time.Sleep(time.Minute) // so that a context that takes its time ends before the bubble does
	})
}

// The end of the parent context stops all tasks, with its own cause, and closes the Manager.
func TestParentEnds(t *testing.T) {
	for name, c := range map[string]struct {
		parent func(ctx context.Context) (context.Context, context.CancelFunc)
		cause  error
	}{
		"canceled": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Minute, cancel)
			return ctx, cancel
		}, context.Canceled},
		"canceled with a cause": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(time.Minute, func() { cancel(errWhy) })
			return ctx, func() { cancel(nil) }
		}, errWhy},
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Minute)
		}, context.DeadlineExceeded},
		"deadline with a cause": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, time.Minute, errWhy)
		}, errWhy},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := c.parent(context.Background())
				defer cancel()
				began := time.Now()
				m := mustNew(t, taskmanager.WithContext(parent), taskmanager.WithBackoff(time.Hour, time.Hour))
				events := m.Subscribe(t.Context())
				var body causeLog
				task := start(t, m, "a", func(ctx context.Context) error {
					// It has no deadline: the task is asked to stop at that of the parent, in its turn.
					_, ok := ctx.Deadline()
					assert.False(t, ok)
					err := body.run(ctx)
					assert.Equal(t, context.Canceled, err)
					return err
				})
				backingOff := start(t, m, "backoff", func(context.Context) error { return errWhy })
				deaf := newDeafBody()
				stuck := start(t, m, "deaf", deaf.run)
				require.Equal(t, taskmanager.StateBackoff, settled(backingOff))

				require.NoError(t, task.Wait(t.Context()))
				require.NoError(t, backingOff.Wait(t.Context()))
				took(t, time.Minute, began)
				assert.Equal(t, []error{c.cause}, body.all())
				assert.Equal(t, taskmanager.StateStopped, task.State())
				assert.Equal(t, taskmanager.StateStopped, backingOff.State())
				got := pending(events)
				assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStopped}, kinds(got, "a"))
				for _, e := range got {
					if e.Kind == taskmanager.EventStopped {
						require.NoError(t, e.Err)
					}
				}
				// Closed, as after Shutdown.
				_, err := m.StartTask("b", untilStopped)
				require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
				require.ErrorIs(t, task.Restart(t.Context()), taskmanager.ErrManagerClosed)
				require.ErrorIs(t, m.RestartTask(t.Context(), "deaf"), taskmanager.ErrManagerClosed)
				ran := make(chan error)
				if name == "canceled" { // Run waits for the one that does not return
					go func() { ran <- m.Run(t.Context()) }()
				} else { // nobody does, and it is found all the same
					close(ran)
				}
				time.Sleep(5*time.Second - 1)
				require.Equal(t, taskmanager.StateStopping, settled(stuck))
				time.Sleep(time.Nanosecond)
				require.Equal(t, taskmanager.StateStuck, settled(stuck))
				asStuck(t, pending(events)[0].Err, "deaf", 5*time.Second)
				if err, ok := <-ran; ok {
					asStuck(t, err, "deaf", 5*time.Second)
				}
				deaf.release()
				<-stuck.Done()
				require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// Run hears of the parent's end as well, and must not make it a shutdown like any other.
func TestParentCauseWithRun(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			parent, cancel := context.WithCancelCause(context.Background())
			m := mustNew(t, taskmanager.WithContext(parent))
			var body causeLog
			start(t, m, "a", body.run)
			start(t, m, "b", body.run)
			done := make(chan struct{})
			go func() {
				defer close(done)
				assert.NoError(t, m.Run(t.Context()))
			}()
			synctest.Wait()
			cancel(errWhy)
			<-done
			assert.Equal(t, []error{errWhy, errWhy}, body.all())
		})
	}
}

// A parent that has ended before there is a task closes the Manager all the same.
func TestParentHadEndedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(context.Background())
		early := mustNew(t, taskmanager.WithContext(parent))
		task := start(t, early, "a", untilStopped)
		synctest.Wait()
		require.NoError(t, task.Stop(t.Context()))
		cancel()
		synctest.Wait()
		late := mustNew(t, taskmanager.WithContext(parent))
		for _, m := range []*taskmanager.Manager{early, late} {
			_, err := m.StartTask("a", untilStopped)
			require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
			require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
			require.NoError(t, m.StopAll(t.Context()))
			require.NoError(t, m.Shutdown(t.Context()))
		}
		require.ErrorIs(t, task.Restart(t.Context()), taskmanager.ErrManagerClosed)
		assert.Equal(t, taskmanager.StateStopped, task.State())
	})
}

// A body may hear of the parent's end before the Manager does: what it returns then is no failure.
func TestParentEndIsHeardOfByTheBodyItself(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			parent, cancel := context.WithCancelCause(context.Background())
			m := mustNew(t, taskmanager.WithContext(parent))
			task := start(t, m, "a", func(context.Context) error {
				<-parent.Done()
				return parent.Err()
			})
			synctest.Wait()
			cancel(errWhy)
			require.NoError(t, task.Wait(t.Context()))
			assert.Equal(t, taskmanager.StateStopped, task.State())
			assert.Zero(t, task.Stats().Failures)
		})
	}
}

func TestParentValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithContext(context.WithValue(context.Background(), parentKey{}, "value")))
		task := start(t, m, "a", func(ctx context.Context) error {
			assert.Equal(t, "value", ctx.Value(parentKey{}))
			<-ctx.Done()
			assert.Equal(t, "value", ctx.Value(parentKey{}))
			return nil
		})
		synctest.Wait()
		require.NoError(t, task.Stop(t.Context()))
	})
}

// A body that ends the parent context and returns before the Manager has heard of that has been stopped by it: so says its own context,
// which ends with it.
func TestParentIsTheCauseOfARunThatEndsWithIt(t *testing.T) {
	oneThread(t)
	for name, done := range map[string]bool{"has been waited for": true, "has not": false} {
		t.Run(name, func(t *testing.T) {
			parent, end := context.WithCancelCause(t.Context())
			m := mustNew(t, taskmanager.WithContext(parent))
			var own context.Context
			task := start(t, m, "a", func(ctx context.Context) error {
				own = ctx
				if done {
					ctx.Done()
				}
				end(errWhy)
				return errBoom
			})
			<-task.Done()
			require.NoError(t, m.Shutdown(t.Context()))
			assert.Equal(t, errWhy, context.Cause(own))
		})
	}
}
