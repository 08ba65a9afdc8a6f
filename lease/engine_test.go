package lease_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

func TestAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "pod-1"), newReplica(t, server, "pod-2")
		requireIdle(t, server, a, b)

		first := a.acquire("x")
		hold := first.get()
		assert.Zero(t, first.took)
		assert.Equal(t, uint64(1), hold.Token())
		assert.Equal(t, span, time.Until(hold.Until()))
		require.NoError(t, hold.Context().Err())
		claimed := time.Now()

		second := b.acquire("x")
		assert.Equal(t, `waits for lease "x", held by "pod-1" `+since(claimed), second.waits())
		assert.Equal(t, []string{`waits for lease "x"`, `waits for lease "x", held by "pod-1" ` + since(claimed)}, second.all())

		// It is held for as long as the beats go on, and Until grows.
		time.Sleep(10*ttl + time.Second)
		second.waits()
		assert.Len(t, second.all(), 2, "told only of changes")
		require.NoError(t, hold.Context().Err())
		assert.Equal(t, span-time.Second, time.Until(hold.Until()))

		// A graceful hand-over takes no time of its own.
		hold.Release()
		handed := time.Now()
		next := second.get()
		assert.Zero(t, time.Since(handed))
		assert.Equal(t, uint64(2), next.Token())
		require.NoError(t, next.Context().Err())
		synctest.Wait()
		assert.Len(t, server.Sessions(), 1, "nothing is wanted here")
		assert.False(t, a.store.Open())

		next.Release()
		requireIdle(t, server, a, b)
		a.close()
		b.close()
	})
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		hold := a.acquire("x").get()
		waiter := b.acquire("x")
		waiter.waits()
		why := errors.New("why")
		waiter.cancel(why)
		<-waiter.done
		require.ErrorIs(t, waiter.err, why)
		synctest.Wait()
		assert.Len(t, server.Sessions(), 1)

		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		_, err := b.Lease("y").Acquire(ctx, func(string) {})
		require.ErrorIs(t, err, why)
		_, token := server.Holder("y")
		assert.Zero(t, token, "nothing was claimed")
		hold.Release()
		requireIdle(t, server, a, b)
	})
}

// A replica dies: nothing of it reaches the store any more.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		hold := a.acquire("x").get()
		time.Sleep(beat / 2)
		waiter := b.acquire("x")
		time.Sleep(10 * beat) // a's last beat was half a beat ago, and b sees it now
		synctest.Wait()
		died := time.Now()
		until := hold.Until()
		a.store.Cut()
		next := waiter.get()
		assert.Equal(t, ttl, time.Since(died), "a TTL after it was seen first: by a timer, not at the next beat")
		assert.Equal(t, uint64(2), next.Token())
		assert.True(t, until.Before(time.Now()))
		require.ErrorContains(t, context.Cause(hold.Context()), "no beat was confirmed in 13.571428571s")
		assert.Equal(t, until, hold.Until())
		time.Sleep(2 * beat)
		removals := server.Calls(leasetest.Expire)
		assert.LessOrEqual(t, removals, 2, "until a beat has shown that it is gone")
		time.Sleep(10 * beat)
		assert.Equal(t, removals, server.Calls(leasetest.Expire), "it is forgotten")
		hold.Release()
		next.Release()
		a.store.Restore()
		time.Sleep(2 * beat)
		requireIdle(t, server, a, b)
	})
}
