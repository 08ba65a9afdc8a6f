package inflight_test

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager/internal/inflight"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCountWaitsForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c inflight.Count
		began := time.Now()
		c.Wait(t.Context())
		c.Add()
		c.Done()
		c.Wait(t.Context())
		assert.Zero(t, time.Since(began))
	})
}

func TestCountN(t *testing.T) {
	var c inflight.Count
	assert.Zero(t, c.N())
	c.Add()
	c.Add()
	assert.Equal(t, 2, c.N())
	c.Done()
	assert.Equal(t, 1, c.N())
}

// All who wait return at the moment at which the last one is done, those that came meanwhile included.
func TestCountWaitsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			c     inflight.Count
			began = time.Now()
		)
		c.Add()
		c.Add()
		time.AfterFunc(time.Second, c.Done)
		time.AfterFunc(2*time.Second, c.Add)
		time.AfterFunc(3*time.Second, c.Done)
		time.AfterFunc(4*time.Second, c.Done)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				c.Wait(t.Context())
				assert.Equal(t, 4*time.Second, time.Since(began))
			})
		}
		wg.Wait()
		// Again, on the same Count.
		c.Add()
		time.AfterFunc(time.Second, c.Done)
		c.Wait(t.Context())
		assert.Equal(t, 5*time.Second, time.Since(began))
	})
}

func TestCountWaitIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c inflight.Count
		c.Add()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		c.Wait(ctx)
		assert.Equal(t, time.Second, time.Since(began))
		assert.Equal(t, 1, c.N())
		c.Done()
		c.Wait(ctx) // nothing is under way: that counts, whatever ctx says
		assert.Equal(t, time.Second, time.Since(began))
	})
}

// No wake-up is lost between the look at the count and the wait, on one core and on several. A lost one is a test that hangs.
func TestCountLosesNoWakeUp(t *testing.T) {
	for _, cores := range []int{1, 4} {
		t.Run(strconv.Itoa(cores), func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
			for range 2000 {
				var (
					c    inflight.Count
					done atomic.Int64
					wg   sync.WaitGroup
				)
				const n = 3
				for range n {
					c.Add()
				}
				for range n {
					wg.Go(func() {
						runtime.Gosched() // so that on one core, too, Wait and Done take turns
						done.Add(1)
						c.Done()
					})
				}
				for range 2 {
					wg.Go(func() {
						runtime.Gosched()
						c.Wait(t.Context())
						if done.Load() != n {
							t.Error("Wait returned before all were done")
						}
					})
				}
				wg.Wait()
				require.Zero(t, c.N())
			}
		})
	}
}
