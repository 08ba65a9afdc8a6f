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
