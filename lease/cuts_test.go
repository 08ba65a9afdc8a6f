package lease_test

import (
	"context"
	"errors"
	"slices"
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

// The holder alone is cut off: it knows that its time is over before anybody else holds the lease.
func TestCutOfTheHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		hold := a.acquire("x").get()
		time.Sleep(beat - time.Millisecond)
		waiter := b.acquire("x")
		waiter.waits()

		a.store.Cut() // just before a beat
		begin := time.Now()
		until := hold.Until()
		<-hold.Context().Done()
		assert.Zero(t, time.Until(until))
		assert.Equal(t, span-beat+time.Millisecond, time.Since(begin))
		waiter.waits()

		again := a.acquire("x")
		time.Sleep(beat) // until its first call has ended
		assert.Equal(t, `waits for lease "x": the engine has failed: context deadline exceeded`, again.waits())
		next := waiter.get()
		assert.Equal(t, ttl, time.Since(begin))
		assert.Equal(t, uint64(2), next.Token())

		// It waits like any other, once it is back. Its old body has not returned yet.
		a.store.Restore()
		time.Sleep(beat)
		assert.Equal(t, `waits for lease "x", held by "b" `+since(begin.Add(ttl)), again.waits())
		hold.Release()
		next.Release()
		third := again.get()
		assert.Equal(t, uint64(3), third.Token())
		third.Release()
		time.Sleep(2 * beat)
		requireIdle(t, server, a, b)
	})
}

// A hiccup is not noticed: not that of the holder, and not that of all.
func TestHiccups(t *testing.T) {
	for _, all := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
			hold := a.acquire("x").get()
			waiter := b.acquire("x")
			for range 3 {
				time.Sleep(4*beat + time.Second)
				a.store.Cut()
				if all {
					server.Cut()
				}
				time.Sleep(ttl / 2)
				server.Restore()
				assert.Greater(t, time.Until(hold.Until()), time.Duration(0))
			}
			time.Sleep(2 * ttl)
			waiter.waits()
			require.NoError(t, hold.Context().Err())
			hold.Release()
			assert.Equal(t, uint64(2), waiter.get().Token())
			waiter.hold.Release()
			requireIdle(t, server, a, b)
		})
	}
}

// A server that starts again refuses beats at once. They are tried again six times within a beat, so that the lease survives whenever the
// server is there again a sixth of a beat before the end; and no longer.
func TestServerThatRefusesForAWhile(t *testing.T) {
	const soon = beat / 6
	for _, c := range []struct {
		begins, lasts time.Duration // from a confirmed beat on
		lost          bool
	}{
		{0, beat + 1, false},
		{beat - 1, span - beat - soon, false}, // the worst moment
		{beat - 1, span - beat + 1, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
			hold := a.acquire("x").get()
			other := b.acquire("x")
			time.Sleep(beat)
			synctest.Wait()
			confirmed := time.Now()
			time.Sleep(c.begins)
			sent := a.refuseBeats(0)
			time.Sleep(c.lasts)
			synctest.Wait()
			a.store.Faults(nil)
			time.Sleep(soon)
			synctest.Wait()
			if c.lost {
				require.EqualError(t, context.Cause(hold.Context()), "lease: no beat was confirmed in 13.571428571s: connection refused")
			} else {
				require.NoError(t, hold.Context().Err())
				assert.Greater(t, hold.Until().Sub(confirmed), span)
				for i, at := range sent() {
					assert.Equal(t, beat+time.Duration(i)*soon, at.Sub(confirmed))
				}
				time.Sleep(2 * ttl)
				other.waits()
			}
			hold.Release()
			other.get().Release()
			time.Sleep(2 * ttl)
			requireIdle(t, server, a, b)
		})
	}
}

// After a beat that fails, the next is sent a sixth of a beat after that was, or at once if it has taken longer.
func TestBeatsThatFailSlowly(t *testing.T) {
	for takes, every := range map[time.Duration]time.Duration{
		0: beat / 6, beat / 100: beat / 6, beat / 6: beat / 6, beat / 2: beat / 2, beat: beat,
	} {
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			a := newReplica(t, server, "a")
			hold := a.acquire("x").get()
			sent := a.refuseBeats(takes)
			<-hold.Context().Done()
			all := sent()
			for i, at := range all[1:] {
				assert.Equal(t, every, at.Sub(all[i]))
			}
			assert.GreaterOrEqual(t, len(all), int((span-beat)/every))
			a.store.Faults(nil)
			hold.Release()
			time.Sleep(2 * ttl)
			requireIdle(t, server, a)
		})
	}
}

// refuseBeats has the beats of the replica answered by an error, each after a while, until its faults are others. It returns a func that
// returns when they were sent.
func (r replica) refuseBeats(takes time.Duration) (sent func() []time.Time) {
	var mu sync.Mutex
	var all []time.Time
	r.store.Faults(func(op leasetest.Op) leasetest.Fault {
		if op != leasetest.Beat {
			return leasetest.Fault{}
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, time.Now())
		return leasetest.Fault{After: takes, Err: errors.New("connection refused")}
	})
	return func() []time.Time {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// Who was cut off for too long and released meanwhile does not wait for itself.
func TestCutOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		hold := a.acquire("x").get()
		waiter := b.acquire("x")
		waiter.waits()
		server.Cut()
		<-hold.Context().Done()
		hold.Release()
		again := a.acquire("x")
		time.Sleep(3 * ttl)
		waiter.waits()
		again.waits()
		server.Restore()
		begin := time.Now()
		select {
		case <-waiter.done:
			assert.Equal(t, uint64(2), waiter.hold.Token())
			waiter.hold.Release()
			again.get().Release()
		case <-again.done:
			assert.Equal(t, uint64(2), again.hold.Token())
			again.hold.Release()
			waiter.get().Release()
		}
		assert.LessOrEqual(t, time.Since(begin), ttl+2*beat)
		time.Sleep(2 * ttl)

		// A session that could not leave, and that nobody has seen for a TTL since, is left to the next one.
		c := newReplica(t, server, "c")
		y := c.acquire("y").get()
		time.Sleep(ttl + beat)
		require.Len(t, server.Sessions(), 1)
		y.Release()
		requireIdle(t, server, a, b, c)
	})
}

// The session is removed in the store: its holds end at once, and a new one begins.
func TestGone(t *testing.T) {
	for _, keep := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			var opts []lease.Option
			if keep {
				opts = append(opts, lease.KeepWithoutEngine())
			}
			a := newReplica(t, server, "a", opts...)
			hold := a.acquire("x").get()
			require.NoError(t, server.Store(t).Leave(t.Context(), server.Sessions()[0].ID))
			begin := time.Now()
			<-hold.Context().Done()
			assert.Equal(t, beat, time.Since(begin))
			require.ErrorIs(t, context.Cause(hold.Context()), lease.ErrGone)
			next := a.acquire("x").get()
			assert.Equal(t, beat, time.Since(begin), "not only when the old hold was released")
			assert.Equal(t, uint64(2), next.Token())
			hold.Release()
			require.NoError(t, next.Context().Err())
			next.Release()
			requireIdle(t, server, a)
		})
	}
}

// A claim can be the first to hear that the session was removed: the holds end then, not only at the next beat.
func TestGoneAtAClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		hold := a.acquire("x").get()
		time.Sleep(beat / 2)
		require.NoError(t, server.Store(t).Leave(t.Context(), server.Sessions()[0].ID))
		y := a.acquire("y")
		y.waits()
		require.ErrorIs(t, context.Cause(hold.Context()), lease.ErrGone)
		hold.Release()
		y.get().Release()
		assert.LessOrEqual(t, y.took, beat)
		a.close()
	})
}

// A removal is not asked for again before a beat has shown whether the session is gone.
func TestRemovalIsAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		b.store.Faults(func(leasetest.Op) leasetest.Fault {
			return leasetest.Fault{After: 10 * time.Millisecond} // so that the removal is due just after a beat
		})
		hold := a.acquire("x").get()
		waiter := b.acquire("x")
		waiter.waits()
		a.store.Cut()
		next := waiter.get()
		time.Sleep(2 * beat)
		assert.Equal(t, 1, server.Calls(leasetest.Expire))
		hold.Release()
		next.Release()
		a.store.Restore()
		a.close()
		b.close()
	})
}

// A replica does not judge a session of its own dead whose hold has not been released: two bodies of its own would execute.
func TestOldHoldOfTheSameReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		old := a.acquire("x").get()
		server.Cut()
		<-old.Context().Done()
		again := a.acquire("x")
		server.Restore()
		time.Sleep(10 * ttl)
		assert.Contains(t, again.waits(), `waits for lease "x", held by "a"`)
		old.Release()
		released := time.Now()
		next := again.get()
		assert.Zero(t, time.Since(released))
		assert.Greater(t, next.Token(), old.Token())
		next.Release()
		requireIdle(t, server, a)
	})
}

// Acquire has yet to see that it was served when the session is lost, or its context ends. It returns no lost hold, and keeps none.
func TestAcquireIsSlow(t *testing.T) {
	for range 20 { // what it sees first is random
		for _, ends := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				server := leasetest.NewServer()
				a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
				held := b.acquire("x").get()
				ctx, cancel := context.WithCancelCause(t.Context())
				goOn := make(chan struct{})
				type result struct {
					hold taskmanager.Hold
					err  error
				}
				results := make(chan result, 1)
				go func() {
					hold, err := a.Lease("x").Acquire(ctx, func(string) { <-goOn })
					results <- result{hold, err}
				}()
				synctest.Wait()
				held.Release()
				synctest.Wait()
				id, token := server.Holder("x")
				require.NotEmpty(t, id)
				require.EqualValues(t, 2, token)
				why := errors.New("why")
				if ends {
					cancel(why)
				} else {
					require.NoError(t, server.Store(t).Leave(t.Context(), id))
					time.Sleep(beat)
				}
				synctest.Wait()
				close(goOn)
				r := <-results
				if ends {
					require.ErrorIs(t, r.err, why)
				} else {
					require.NoError(t, r.err)
					require.NoError(t, r.hold.Context().Err())
					assert.EqualValues(t, 3, r.hold.Token())
					r.hold.Release()
				}
				requireIdle(t, server, a, b)
				cancel(nil)
			})
		}
	}
}

// Those who wait are told that the engine has failed, also when another session begins.
func TestStatusOfThoseWhoAreCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		y := b.acquire("y").get()
		x := a.acquire("x").get()
		waiter := a.acquire("y")
		time.Sleep(beat / 2)
		a.store.Cut()
		time.Sleep(2 * beat) // until the next beat has not been answered
		assert.Equal(t, `waits for lease "y": the engine has failed: context deadline exceeded`, waiter.waits())
		<-x.Context().Done()
		synctest.Wait()
		z := a.acquire("z")
		assert.Equal(t, `waits for lease "z": the engine has failed: context deadline exceeded`, z.waits())
		for range 2 * ttl / beat * 2 {
			assert.Equal(t, `waits for lease "y": the engine has failed: context deadline exceeded`, waiter.waits())
			time.Sleep(beat / 2)
		}
		time.Sleep(beat / 4) // else a call ends now, of which nobody knows whether it has happened
		a.store.Restore()
		time.Sleep(beat)
		assert.Contains(t, waiter.waits(), `waits for lease "y", held by "b"`)
		for _, status := range waiter.all() {
			assert.NotContains(t, status, `"a"`)
		}
		assert.LessOrEqual(t, len(waiter.all()), 6, "told only of changes")
		x.Release()
		y.Release()
		waiter.get().Release()
		z.get().Release()
		time.Sleep(ttl)
		requireIdle(t, server, a, b)
	})
}
