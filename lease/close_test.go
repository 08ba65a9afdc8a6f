package lease_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		hold := a.acquire("x").get()
		waiter := a.acquire("y")
		y := waiter.get()
		y.Release()
		blocker := b.acquire("z").get()
		waiter = a.acquire("z")
		waiter.waits()

		ctx, cancel := context.WithTimeout(t.Context(), 2*ttl)
		defer cancel()
		err := a.Close(ctx)
		require.EqualError(t, err, `lease: still held: "x": context deadline exceeded`)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		<-waiter.done
		require.ErrorIs(t, waiter.err, lease.ErrClosed)
		_, err = a.Lease("x").Acquire(t.Context(), func(string) {})
		require.ErrorIs(t, err, lease.ErrClosed)
		require.NoError(t, hold.Context().Err(), "the beats go on")
		assert.Greater(t, time.Until(hold.Until()), span-beat-1)

		go func() {
			time.Sleep(time.Second)
			hold.Release()
		}()
		begin := time.Now()
		require.NoError(t, a.Close(t.Context()))
		assert.Equal(t, time.Second, time.Since(begin))
		assert.Len(t, server.Sessions(), 1)
		assert.False(t, a.store.Open())
		blocker.Release()
		b.close()
		require.NoError(t, newReplica(t, server, "c").Close(t.Context()), "never used")
	})
}

func TestCloseWithoutEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		hold := a.acquire("x").get()
		server.Cut()
		hold.Release()
		ctx, cancel := context.WithTimeout(t.Context(), beat)
		defer cancel()
		require.EqualError(t, a.Close(ctx), "lease: the session has not left yet: context deadline exceeded")
		begin := time.Now()
		require.NoError(t, a.Close(t.Context()))
		assert.LessOrEqual(t, time.Since(begin), ttl)
	})
}
