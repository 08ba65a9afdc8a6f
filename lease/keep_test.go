package lease_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
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

// The engine is down for all: all goes on, and nobody takes over, however long that lasts. When it is back, those who wait don't judge by
// what they have seen before, although they may be the first ones to reach it.
func TestKeepWhileTheEngineIsDown(t *testing.T) {
	const phases = 8
	for phase := range phases {
		for _, down := range []time.Duration{2 * beat, ttl - beat, ttl, ttl + beat/2, 2 * ttl, time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				p := newWorkplace(t)
				a := p.startOn(newReplica(t, p.server, "a", lease.KeepWithoutEngine()), p.body("a", 0))
				time.Sleep(beat * time.Duration(phase) / phases)
				b := p.startOn(newReplica(t, p.server, "b", lease.KeepWithoutEngine()), p.body("b", 0))
				time.Sleep(ttl + beat/16)
				p.server.Cut()
				time.Sleep(down + beat)
				require.Len(t, p.all(), 1)
				assert.Equal(t, taskmanager.StateRunning, a.task.State())
				assert.Contains(t, b.task.Stats().Status, `waits for lease "x": the engine has failed`)
				b.store.Restore()
				time.Sleep(beat)
				a.store.Restore()
				time.Sleep(10 * ttl)
				require.Len(t, p.all(), 1, "its beats go on, after %v", down)
				assert.EqualValues(t, 1, a.task.Stats().Lease.Token)
				require.NoError(t, a.task.Stop(t.Context()))
				assert.Equal(t, "b", p.next(2).replica)
				p.requireNoOverlap()
			})
		}
	}
}

// The price: the engine is down for the holder alone. The other one begins after a TTL, and both work until the first one hears of it,
// which takes a beat from when it reaches the engine again; then its body has to end, and is told why.
func TestKeepOverlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkplace(t)
		const takes = 2 * time.Second
		a := p.startOn(newReplica(t, p.server, "a", lease.KeepWithoutEngine()), p.body("a", takes))
		p.startOn(newReplica(t, p.server, "b", lease.KeepWithoutEngine()), p.body("b", takes))
		time.Sleep(ttl)
		cut := time.Now()
		a.store.Cut()
		second := p.next(2)
		assert.Equal(t, "b", second.replica)
		assert.GreaterOrEqual(t, second.began.Sub(cut), ttl-beat)
		assert.LessOrEqual(t, second.began.Sub(cut), ttl+2*beat)
		time.Sleep(2 * ttl)
		assert.Zero(t, p.all()[0].ended)
		a.store.Restore()
		restored := time.Now()
		time.Sleep(ttl)
		first := p.all()[0]
		require.ErrorIs(t, first.cause, taskmanager.ErrLeaseLost)
		assert.LessOrEqual(t, first.ended.Sub(restored), beat+takes)
		assert.Equal(t, taskmanager.StateWaiting, a.task.State())
		assert.Contains(t, a.task.Stats().Status, `held by "b"`)
		require.Len(t, p.all(), 2)
	})
}

// The func of WithOverrun is called two beats after the engine has said that the session is gone, and not before.
func TestKeepOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		overruns := make(chan string, 10)
		a := newReplica(t, server, "a", lease.KeepWithoutEngine(), lease.WithOverrun(func(name string) { overruns <- name }))
		x, y := a.acquire("x").get(), a.acquire("y").get()
		a.store.Cut()
		time.Sleep(10 * ttl)
		assert.Empty(t, overruns)
		a.store.Restore()
		require.NoError(t, server.Store(t).Leave(t.Context(), server.Sessions()[0].ID))
		<-x.Context().Done()
		time.Sleep(2*beat - 1)
		y.Release()
		synctest.Wait()
		assert.Empty(t, overruns)
		time.Sleep(time.Nanosecond)
		assert.Equal(t, "x", <-overruns)
		x.Release()
		synctest.Wait()
		assert.Empty(t, overruns)
		requireIdle(t, server, a)
	})
}
