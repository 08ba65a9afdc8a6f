package lease_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
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

// Without an answer, leaving is given up after a TTL: the others remove the session.
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

// Close may be called again, by several at once, and while others acquire: they get ErrClosed, or a hold that Close waits for.
func TestCloseWhileOthersAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		foreign := b.acquire("x3").get()
		for _, r := range []replica{a, b} {
			r.store.Faults(func(leasetest.Op) leasetest.Fault { return leasetest.Fault{Before: time.Millisecond} })
		}
		const n = 200
		waiters := make([]*acquisition, n)
		var wg sync.WaitGroup
		for i := range waiters {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Microsecond)
				waiters[i] = a.acquire(fmt.Sprint("x", i%10))
			})
		}
		closed := make(chan error, 3)
		time.Sleep(10 * time.Millisecond)
		for range cap(closed) {
			go func() { closed <- a.Close(t.Context()) }()
		}
		wg.Wait()
		time.Sleep(time.Second)
		assert.Empty(t, closed, "what is held is held")
		held := 0
		for i, w := range waiters {
			<-w.done
			if w.err == nil {
				held++
				require.NoError(t, w.hold.Context().Err())
				assert.NotEqual(t, 3, i%10, "x3 is held elsewhere")
			} else {
				require.ErrorIs(t, w.err, lease.ErrClosed)
			}
		}
		assert.Positive(t, held)
		assert.Less(t, held, n)
		for _, w := range waiters {
			if w.err == nil {
				w.hold.Release()
			}
		}
		for range cap(closed) {
			require.NoError(t, <-closed)
		}
		foreign.Release()
		b.close()
		requireIdle(t, server, a, b)
	})
}

// A service that closes the engine before its tasks: Close names what they hold, once for each lease, and the tasks go on.
func TestCloseBeforeTheTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkplace(t)
		a := p.start("a", p.body("a", 0))
		_, err := a.manager.StartTask("second", p.body("a", 0), taskmanager.WithLease(a.Lease("x")))
		require.NoError(t, err)
		_, err = a.manager.StartTask("third", p.body("a", 0), taskmanager.WithLease(a.OneOf("y", 1)))
		require.NoError(t, err)
		p.next(3)
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		cancel(why)
		err = a.Close(ctx)
		require.ErrorIs(t, err, why)
		require.EqualError(t, err, `lease: still held: "x", "y#0": why`)
		time.Sleep(10 * ttl)
		for _, w := range p.all() {
			assert.Zero(t, w.ended)
		}
		require.NoError(t, a.manager.Shutdown(t.Context()))
		require.NoError(t, a.Close(t.Context()))
	})
}

// A task that wants a lease of an engine that is closed is given up, and says why.
func TestTaskOfAClosedEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkplace(t)
		a := newReplica(t, p.server, "a")
		a.close()
		w := p.startOn(a, p.body("a", 0))
		<-w.task.Done()
		assert.Equal(t, taskmanager.StateFailed, w.task.State())
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, w.task.Err(), &gaveUp)
		assert.Equal(t, taskmanager.GaveUpLease, gaveUp.Reason)
		require.ErrorIs(t, w.task.Err(), lease.ErrClosed)
		assert.Empty(t, p.all())
	})
}

// A lease that is wanted while the store closes its connections waits for that: else they might be closed under the new session.
func TestAcquireWhileTheStoreIdles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := engineOn(t, &foreignStore{Store: server.Store(t), instead: func(method string) {
			if method == "Idle" {
				time.Sleep(time.Second)
			}
		}})
		a.acquire("x").get().Release()
		synctest.Wait()
		again := a.acquire("x")
		time.Sleep(time.Second - 1)
		again.waits()
		assert.Empty(t, server.Sessions())
		hold := again.get()
		assert.Equal(t, time.Second, again.took)
		closing, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorContains(t, a.Close(closing), `lease: still held: "x"`)
		hold.Release()
		begin := time.Now()
		a.close()
		assert.Equal(t, time.Second, time.Since(begin), "until the store is idle")
		requireIdle(t, server, a)
	})
}
