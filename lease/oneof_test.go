package lease_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

func TestOneOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		const n, m = 3, 5
		replicas := make([]replica, m)
		waiters := make([]*acquisition, m)
		for i := range replicas {
			replicas[i] = newReplica(t, server, fmt.Sprint("pod-", i))
			waiters[i] = acquire(t, replicas[i].OneOf("x", n))
		}
		held := func() (all []int) {
			synctest.Wait()
			for i, w := range waiters {
				select {
				case <-w.done:
					all = append(all, i)
				default:
					assert.Equal(t, `waits for lease "x"`, w.waits())
				}
			}
			return all
		}
		require.Len(t, held(), n, "at once")
		ids := map[string]bool{}
		for i := range n {
			id, token := server.Holder(fmt.Sprintf("x#%d", i))
			assert.Equal(t, uint64(1), token)
			assert.NotEmpty(t, id)
			ids[id] = true
		}
		require.Len(t, ids, n, "a replica has one")

		calls := server.Calls(leasetest.Claim)
		time.Sleep(10 * ttl)
		require.Len(t, held(), n)
		assert.LessOrEqual(t, server.Calls(leasetest.Claim)-calls, (m-n)*2*int(10*ttl/beat)+m, "two calls a beat for each who waits")

		// It is shared within a replica.
		first := held()[0]
		shared := acquire(t, replicas[first].OneOf("x", n)).get()
		assert.Equal(t, waiters[first].hold.Token(), shared.Token())
		waiters[first].hold.Release()
		require.Len(t, held(), n)
		shared.Release()
		require.Len(t, held(), n+1, "handed over at once")
		releaseAll(waiters)
		requireIdle(t, server, replicas...)
	})
}

// The leases of an n of m are leases: who acquires one by its name shares it with who has it as one of n, and so do those of another n.
// None is claimed twice in one call.
func TestOneOfSharesItsNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		held := []*acquisition{b.acquire("x#0"), b.acquire("x#1"), b.acquire("x#2")}
		for _, h := range held {
			h.get()
		}
		waiters := []*acquisition{acquire(t, a.OneOf("x", 2)), acquire(t, a.OneOf("x", 3)), a.acquire("x#0"), a.acquire("x#1"), a.acquire("x#2")}
		for range 10 * beat / time.Second {
			time.Sleep(time.Second)
			for _, w := range waiters {
				require.NotContains(t, w.waits(), "does not answer")
			}
		}
		releaseAll(held)
		begin := time.Now()
		for _, w := range waiters {
			w.get()
		}
		assert.LessOrEqual(t, time.Since(begin), beat)
		releaseAll(waiters)
		requireIdle(t, server, a, b)
	})
}
