package lease_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

func TestOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		overruns := make(chan string, 10)
		a := newReplica(t, server, "a", lease.WithOverrun(func(name string) { overruns <- name }))
		var holds []interface{ Release() }
		for range 2 {
			for _, name := range []string{"x", "y"} {
				holds = append(holds, a.acquire(name).get())
			}
		}
		z := a.acquire("z").get()
		until := z.Until()
		server.Cut()
		time.Sleep(time.Until(until) - time.Nanosecond)
		z.Release() // in time
		synctest.Wait()
		assert.Empty(t, overruns)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Len(t, overruns, 2)
		assert.ElementsMatch(t, []string{"x", "y"}, []string{<-overruns, <-overruns})
		time.Sleep(2 * ttl)
		assert.Empty(t, overruns, "once")
		for _, h := range holds {
			h.Release()
		}
		server.Restore()
		time.Sleep(ttl)
		requireIdle(t, server, a)

		// The engine says that the session is gone: its time is over later.
		hold := a.acquire("x").get()
		require.NoError(t, server.Store(t).Leave(t.Context(), server.Sessions()[0].ID))
		<-hold.Context().Done()
		assert.Empty(t, overruns)
		until = hold.Until()
		assert.Equal(t, "x", <-overruns)
		assert.Zero(t, time.Until(until))
		hold.Release()
		requireIdle(t, server, a)
	})
}
