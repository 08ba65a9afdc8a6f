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

func TestKeepWithoutEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a", lease.KeepWithoutEngine())
		hold := a.acquire("x").get()
		assert.Zero(t, hold.Until())
		server.Cut()
		time.Sleep(10 * ttl)
		require.NoError(t, hold.Context().Err())
		server.Restore()
		time.Sleep(10 * ttl)
		require.NoError(t, hold.Context().Err(), "nobody has removed the session")

		// Another one does.
		b := newReplica(t, server, "b", lease.KeepWithoutEngine())
		a.store.Cut()
		next := b.acquire("x").get()
		require.NoError(t, hold.Context().Err())
		a.store.Restore()
		begin := time.Now()
		<-hold.Context().Done()
		assert.LessOrEqual(t, time.Since(begin), beat)
		require.ErrorIs(t, context.Cause(hold.Context()), lease.ErrGone)
		hold.Release()
		next.Release()
		requireIdle(t, server, a, b)
	})
}
