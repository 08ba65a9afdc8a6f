package taskmanager_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A policy that has a clock of its own, and gives up after 15 minutes, counts them from the first failure, and again from
// the first one after a healthy run.
func TestBackoffPolicyWithAClock(t *testing.T) {
	policy := taskmanager.WithBackOffPolicy(func() backoff.BackOff { return backoff.NewExponentialBackOff() })
	const elapsed = backoff.DefaultMaxElapsedTime
	limit := taskmanager.WithMaxRestarts(taskmanager.Unlimited)

	t.Run("after a wait for a dependency", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", failAt(2*elapsed), policy, limit, taskmanager.WithDependsOn("db"))
			time.Sleep(2 * elapsed)
			start(t, m, "db", untilStopped)
			time.Sleep(time.Minute)
			require.Equal(t, taskmanager.StateRunning, settled(task))
			assert.EqualValues(t, 1, task.Stats().Failures)
		})
	})
	t.Run("after a long healthy run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", failAt(2*elapsed, 2*elapsed+time.Minute, 5*elapsed), policy, limit)
			time.Sleep(6 * elapsed)
			require.Equal(t, taskmanager.StateRunning, settled(task))
			assert.EqualValues(t, 3, task.Stats().Failures)
		})
	})
	t.Run("in a life begun by hand", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			var fail atomic.Bool
			task := start(t, m, "a", func(ctx context.Context) error {
				if fail.CompareAndSwap(true, false) {
					return failAfter(2 * elapsed)(ctx)
				}
				return untilStopped(ctx)
			}, policy, limit)
			require.NoError(t, task.Stop(t.Context()))
			fail.Store(true)
			time.Sleep(2 * elapsed)
			require.NoError(t, task.Restart(t.Context()))
			time.Sleep(2*elapsed + time.Minute)
			require.Equal(t, taskmanager.StateRunning, settled(task))
			assert.EqualValues(t, 1, task.Stats().Failures)
		})
	})
	t.Run("but not while it fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			began := time.Now()
			task := start(t, m, "a", boom, policy, limit, taskmanager.WithHealthyAfter(time.Hour))
			require.ErrorIs(t, task.Wait(t.Context()), errBoom)
			assert.Equal(t, taskmanager.StateFailed, task.State())
			assert.Greater(t, time.Since(began), elapsed-2*backoff.DefaultMaxInterval)
			assert.LessOrEqual(t, time.Since(began), elapsed)
		})
	})
}
