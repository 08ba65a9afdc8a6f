package lease_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "pod-7"), newReplica(t, server, "pod-8")
		m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		begun := time.Now()
		done := make(chan struct{})
		task, err := m.StartTask("x", func(context.Context) error {
			<-done
			return nil
		}, taskmanager.WithLease(a.Lease("x")), taskmanager.WithStopTimeout(time.Second))
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, taskmanager.StateRunning, task.State())
		waiter := b.acquire("x")
		assert.Equal(t, `waits for lease "x", held by "pod-7" `+since(begun), waiter.waits())
		require.Error(t, task.Stop(t.Context()))
		require.Equal(t, taskmanager.StateStuck, task.State())
		time.Sleep(2 * beat)
		assert.Equal(t, `waits for lease "x", held by "pod-7" (stuck) `+since(begun), waiter.waits())
		time.Sleep(4 * ttl)
		waiter.waits()
		close(done)
		assert.Equal(t, uint64(2), waiter.get().Token())
		waiter.hold.Release()
		requireIdle(t, server, a, b)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}
