package lease_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// A beat is trusted from when it was sent, not from when it was answered.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		const late = 2 * time.Second
		a.store.Next(leasetest.Beat, leasetest.Fault{After: late})
		waiter := a.acquire("x")
		hold := waiter.get()
		assert.Equal(t, late, waiter.took)
		assert.Equal(t, span-late, time.Until(hold.Until()))
		hold.Release()
		requireIdle(t, server, a)
	})
}

// A body has two beats at least before it would have to end, whenever its claim was answered.
func TestHoldIsFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		first := a.acquire("y").get()
		a.store.Faults(func(op leasetest.Op) leasetest.Fault {
			return leasetest.Fault{Lost: op == leasetest.Beat}
		})
		time.Sleep(2*beat + beat/2) // two beats were lost
		waiter, oneOf := a.acquire("x"), acquire(t, a.OneOf("m", 2))
		waiter.waits()
		oneOf.waits()
		_, token := server.Holder("x")
		assert.Equal(t, uint64(1), token, "it was claimed")
		for range 3 {
			time.Sleep(beat / 16)
			b.acquire("z").get().Release() // there may be something to claim
			waiter.waits()
			oneOf.waits()
		}
		a.store.Faults(nil)
		hold := waiter.get()
		assert.Equal(t, span, time.Until(hold.Until()))
		assert.Equal(t, uint64(1), hold.Token(), "it was claimed once")
		oneOf.get()
		_, m0 := server.Holder("m#0")
		_, m1 := server.Holder("m#1")
		assert.Equal(t, uint64(1), m0+m1, "one of them")
		second := a.acquire("y").get() // shared with the hold of the begin
		assert.Equal(t, first.Token(), second.Token())
		for _, h := range []taskmanager.Hold{hold, oneOf.hold, first, second} {
			h.Release()
		}
		requireIdle(t, server, a, b)
	})
}

// A release that doesn't happen is tried again.
func TestReleaseThatDoesNotHappen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		other := a.acquire("other").get() // so that the session stays
		hold := a.acquire("x").get()
		next := b.acquire("x")
		next.waits()
		const times = 3
		for range times {
			a.store.Next(leasetest.Release, leasetest.Fault{Before: time.Hour})
		}
		released := time.Now()
		hold.Release()
		next.get().Release()
		assert.Equal(t, times*beat, time.Since(released))
		other.Release()
		requireIdle(t, server, a, b)
		time.Sleep(time.Hour)
	})
}

// Nothing is claimed by a session that has not shown that it is alive.
func TestNothingIsClaimedBeforeABeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		a.store.Next(leasetest.Beat, leasetest.Fault{Lost: true})
		waiter := a.acquire("x")
		time.Sleep(beat - 1)
		waiter.waits()
		assert.Zero(t, server.Calls(leasetest.Claim))
		waiter.get().Release()
		assert.Equal(t, beat, waiter.took)
		a.close()
	})
}

// A session that does not leave the first times leaves later.
func TestLeaveThatDoesNotHappen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		const times = 3
		for range times {
			a.store.Next(leasetest.Leave, leasetest.Fault{Before: time.Hour})
		}
		a.acquire("x").get().Release()
		begin := time.Now()
		a.close()
		assert.Equal(t, times*beat, time.Since(begin))
		requireIdle(t, server, a)
		time.Sleep(time.Hour)
	})
}

// An answer is lost, though what was asked for has happened: nothing holds a name for long that nobody wants.
func TestLostAnswers(t *testing.T) {
	for _, op := range []leasetest.Op{leasetest.Join, leasetest.Beat, leasetest.Claim, leasetest.Release, leasetest.Leave} {
		for _, late := range []time.Duration{0, beat + time.Second, ttl - time.Second} {
			t.Run(fmt.Sprintf("%s late by %v", op, late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := leasetest.NewServer()
					a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
					other := a.acquire("other").get() // so that the session stays
					if op == leasetest.Leave || op == leasetest.Join {
						other.Release()
						synctest.Wait()
					}
					a.store.Next(op, leasetest.Fault{Lost: true, Before: late})
					waiter := a.acquire("x")
					hold := waiter.get()
					assert.LessOrEqual(t, waiter.took, 2*beat)
					time.Sleep(beat)
					hold.Release()
					released := time.Now()
					next := b.acquire("x").get()
					assert.LessOrEqual(t, time.Since(released), ttl+2*beat)
					assert.Greater(t, next.Token(), hold.Token())
					next.Release()
					other.Release()
					time.Sleep(ttl)
					a.close()
					b.close()
					time.Sleep(ttl) // what is late may be a session of nobody, which the next one removes
					c := newReplica(t, server, "c")
					y := c.acquire("y").get()
					time.Sleep(ttl + beat)
					assert.Len(t, server.Sessions(), 1)
					y.Release()
					c.close()
				})
			})
		}
	}
}

// A claim was given up with its answer, and is executed later: what has the lease then gives it back.
func TestLateClaimOfNobody(t *testing.T) {
	for _, late := range []time.Duration{0, beat + time.Second, ttl - time.Second, 10 * ttl} {
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
			other := a.acquire("other").get() // so that the session stays
			a.store.Next(leasetest.Claim, leasetest.Fault{Lost: true, Before: late})
			waiter := a.acquire("x")
			waiter.waits()
			waiter.cancel(nil)
			<-waiter.done
			time.Sleep(late)
			next := b.acquire("x")
			hold := next.get()
			if late < ttl {
				assert.LessOrEqual(t, next.took, 2*beat)
			} else {
				assert.LessOrEqual(t, next.took, ttl+2*beat)
			}
			hold.Release()
			time.Sleep(ttl + 2*beat)
			holder, _ := server.Holder("x")
			assert.Empty(t, holder)
			calls := server.Calls(leasetest.Claim)
			time.Sleep(10 * ttl)
			assert.LessOrEqual(t, server.Calls(leasetest.Claim)-calls, 10, "it is looked at once a TTL")
			other.Release()
			requireIdle(t, server, a, b)
		})
	}
}

// A claim that was not answered is executed while the lease is held by another claim of the same session: the store has a token then that
// the hold does not know. Its release frees the lease all the same.
func TestLateClaimUnderAHold(t *testing.T) {
	for name, wait := range map[string]func(a replica){
		"of the one who holds it": func(replica) {},
		"of one who has given up before": func(a replica) {
			waiter := a.acquire("x")
			time.Sleep(beat + time.Second)
			waiter.cancel(nil)
			<-waiter.done
			if waiter.err == nil {
				waiter.hold.Release()
			}
			time.Sleep(beat)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := leasetest.NewServer()
				a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
				other := a.acquire("other").get()
				a.store.Next(leasetest.Claim, leasetest.Fault{Before: 4 * beat})
				wait(a)
				hold := a.acquire("x").get()
				time.Sleep(4 * ttl)
				_, token := server.Holder("x")
				require.Greater(t, token, hold.Token())
				next := b.acquire("x")
				next.waits()
				hold.Release()
				released := time.Now()
				next.get().Release()
				assert.LessOrEqual(t, time.Since(released), 2*beat)
				other.Release()
				requireIdle(t, server, a, b)
			})
		})
	}
}

// The answer of a removal is lost, or it does not happen at all: the one who waits has the lease in time all the same, at the latest when
// the second attempt is confirmed.
func TestLostAnswerOfExpire(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault leasetest.Fault
		most  time.Duration
	}{
		{"the answer", leasetest.Fault{Lost: true}, ttl + 2*beat},
		{"an error, though it happens", leasetest.Fault{Err: errors.New("no")}, ttl + beat},
		{"the call, until it is too late", leasetest.Fault{Before: 2 * ttl}, ttl + 3*beat},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := leasetest.NewServer()
				a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
				hold := a.acquire("x").get()
				waiter := b.acquire("x")
				time.Sleep(ttl + beat/2)
				a.store.Cut()
				cut := time.Now()
				b.store.Next(leasetest.Expire, c.fault)
				next := waiter.get()
				assert.LessOrEqual(t, time.Since(cut), c.most)
				hold.Release()
				next.Release()
				a.store.Restore()
				time.Sleep(3 * ttl)
				requireIdle(t, server, a, b)
			})
		})
	}
}
