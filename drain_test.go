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

// A drainLog is what a body with work in hand has seen of the end of its run, in time since it began.
type drainLog struct {
	began                    time.Time
	draining, ended, return_ time.Duration
	cause                    error
}

// drained returns a body that has work in hand for d after it has heard that it is drained, and gives it up when its context
// ends; it needs another linger for that.
func drained(l *drainLog, d, linger time.Duration) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		*l = drainLog{began: time.Now()}
		defer func() { l.return_ = time.Since(l.began) }()
		<-taskmanager.Draining(ctx)
		l.draining = time.Since(l.began)
		work := time.NewTimer(d)
		defer work.Stop()
		select {
		case <-work.C:
			l.cause = context.Cause(ctx)
		case <-ctx.Done():
			l.ended, l.cause = time.Since(l.began), context.Cause(ctx)
			time.Sleep(linger)
		}
		return nil
	}
}

// Work in hand is finished with a live context, and the stop returns when it is.
func TestDrainLetsWorkInHandBeFinished(t *testing.T) {
	asks := map[string]struct {
		ask  func(m *taskmanager.Manager) error
		then taskmanager.State
	}{
		"StopTask":    {func(m *taskmanager.Manager) error { return m.StopTask(context.Background(), "a") }, taskmanager.StateStopped},
		"StopAll":     {func(m *taskmanager.Manager) error { return m.StopAll(context.Background()) }, taskmanager.StateStopped},
		"Shutdown":    {func(m *taskmanager.Manager) error { return m.Shutdown(context.Background()) }, taskmanager.StateStopped},
		"RestartTask": {func(m *taskmanager.Manager) error { return m.RestartTask(context.Background(), "a") }, taskmanager.StateRunning},
	}
	for title, test := range asks {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				var first, l drainLog
				task := start(t, m, "a", func(ctx context.Context) error {
					err := drained(&l, 2*time.Second, 0)(ctx)
					if first.began.IsZero() {
						first = l
					}
					return err
				}, taskmanager.WithDrain(3*time.Second))
				time.Sleep(time.Minute)
				began := time.Now()
				require.NoError(t, test.ask(m))
				assert.Equal(t, 2*time.Second, time.Since(began))
				synctest.Wait()
				assert.Equal(t, time.Minute, first.draining)
				assert.Zero(t, first.ended)
				assert.NoError(t, first.cause, "its context has not ended")
				assert.Equal(t, test.then, task.State())
			})
		})
	}
}

// The state is that of any stop, and the watchdog does not disturb it.
func TestDrainShowsAsStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var l drainLog
		task := start(t, m, "a", drained(&l, 4*time.Second, 0), taskmanager.WithDrain(4500*time.Millisecond),
			taskmanager.WithWatchdog(time.Second), taskmanager.WithStopTimeout(5*time.Second))
		synctest.Wait()
		errs := make(chan error, 1)
		go func() { errs <- task.Stop(context.Background()) }()
		synctest.Wait()
		assert.Equal(t, taskmanager.StateStopping, task.State())
		require.NoError(t, <-errs)
		assert.Equal(t, drainLog{began: l.began, return_: 4 * time.Second}, l, "nothing has ended its context")
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.Zero(t, task.Stats().Failures)
	})
}

// A drain that takes longer than it may ends with the context; and one deadline, that of the stop, says when the task is stuck.
func TestDrainEndsInTimeAndThenItIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var l drainLog
		task := start(t, m, "a", drained(&l, time.Hour, 10*time.Second), taskmanager.WithDrain(3*time.Second), taskmanager.WithStopTimeout(5*time.Second))
		synctest.Wait()
		began := time.Now()
		err := task.Stop(context.Background())
		var timeout *taskmanager.StopTimeoutError
		require.ErrorAs(t, err, &timeout)
		assert.Equal(t, 5*time.Second, timeout.Timeout)
		assert.Equal(t, 5*time.Second, time.Since(began))
		assert.Equal(t, taskmanager.StateStuck, task.State())
		<-task.Done()
		assert.Equal(t, 3*time.Second, l.ended)
		require.ErrorIs(t, l.cause, taskmanager.ErrStopped)
		assert.Equal(t, 13*time.Second, l.return_)
		assert.Equal(t, taskmanager.StateStopped, task.State())
	})
}

// Where the deadline of a stop is earlier than the stop timeout, the drain is shorter by as much.
func TestDrainIsShorterWithAnEarlierDeadline(t *testing.T) {
	tests := map[string]struct {
		within, ended time.Duration
	}{
		"later than the stop timeout": {time.Hour, 15 * time.Second},
		"as the stop timeout":         {20 * time.Second, 15 * time.Second},
		"half of it":                  {10 * time.Second, 7500 * time.Millisecond},
		"next to nothing":             {time.Nanosecond, 0},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				var l drainLog
				task := start(t, m, "a", drained(&l, time.Hour, 0), taskmanager.WithDrain(15*time.Second), taskmanager.WithStopTimeout(20*time.Second))
				synctest.Wait()
				ctx, cancel := context.WithTimeout(context.Background(), test.within)
				defer cancel()
				_ = task.Stop(ctx)
				<-task.Done()
				assert.Equal(t, test.ended, l.ended)
				assert.ErrorIs(t, l.cause, taskmanager.ErrStopped)
			})
		})
	}
}

// Of two stops the one that leaves less time counts, whichever comes first, and the cause is that of the first.
func TestDrainIsCutShortByASecondStop(t *testing.T) {
	tests := map[string]struct {
		first, second time.Duration // 0: no deadline
		ended         time.Duration
		stuck         time.Duration
	}{
		"a second one with an earlier deadline":                          {0, 2 * time.Second, 2500 * time.Millisecond, 3500 * time.Millisecond},
		"a second one with a later deadline":                             {4 * time.Second, 0, 2 * time.Second, 4 * time.Second},
		"a second one with a deadline that is past the end of the drain": {0, 9 * time.Second, 5 * time.Second, 10 * time.Second},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				var l drainLog
				task := start(t, m, "a", drained(&l, time.Hour, time.Minute), taskmanager.WithDrain(5*time.Second), taskmanager.WithStopTimeout(10*time.Second))
				synctest.Wait()
				stopped := make(chan time.Duration, 2)
				stop := func(within time.Duration, f func(context.Context) error) {
					ctx, cancel := context.Background(), context.CancelFunc(func() {})
					if within > 0 {
						ctx, cancel = context.WithTimeout(ctx, within)
					}
					defer cancel()
					assert.Error(t, f(ctx))
					stopped <- time.Since(l.began)
				}
				go stop(test.first, task.Stop)
				time.Sleep(1500 * time.Millisecond)
				go stop(test.second, m.StopAll)
				assert.Equal(t, test.stuck, <-stopped)
				<-task.Done()
				assert.ErrorIs(t, l.cause, taskmanager.ErrStopped)
				assert.Equal(t, test.ended, l.ended)
			})
		})
	}
}

// A stop whose context is done already asks, and has the stop timeout for a deadline.
func TestDrainOfAStopThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var l drainLog
		task := start(t, m, "a", drained(&l, time.Hour, 0), taskmanager.WithDrain(3*time.Second))
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, task.Stop(ctx), context.Canceled)
		<-task.Done()
		assert.Equal(t, drainLog{began: l.began, ended: 3 * time.Second, return_: 3 * time.Second, cause: taskmanager.ErrStopped}, l)
	})
}

// The end of the parent context is a stop like any other, and its cause is that of the context when the drain is over.
func TestDrainAtTheEndOfTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancelCause(context.Background())
		m := newManager(t, taskmanager.WithContext(parent))
		var l drainLog
		task := start(t, m, "a", drained(&l, time.Hour, 0), taskmanager.WithDrain(3*time.Second))
		synctest.Wait()
		end(errWhy)
		<-task.Done()
		assert.Equal(t, drainLog{began: l.began, ended: 3 * time.Second, return_: 3 * time.Second, cause: errWhy}, l)
	})
}
