package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

func TestCheck(t *testing.T) {
	e := newReplica(t, leasetest.NewServer(), "a")
	require.NoError(t, e.Lease("x").Check(5*time.Second))
	require.NoError(t, e.Lease(strings.Repeat("n", 255)).Check(0))
	require.NoError(t, e.OneOf("x", 3).Check(span-2*beat))
	require.EqualError(t, e.Lease("x").Check(10*time.Second), "lease: a beat is trusted for 13.571428571s (TTL 15s, drift 0.05): without the "+
		"10s that the body may take to return, 3.571428571s remain, which is less than two beats of 3s")
	require.Error(t, e.Lease("x").Check(span-2*beat+1))
	keep := newReplica(t, leasetest.NewServer(), "a", lease.KeepWithoutEngine())
	require.NoError(t, keep.Lease("x").Check(time.Hour))

	for _, c := range []struct {
		lease lease.Lease
		want  string
	}{
		{e.Lease(""), `lease: name "": must not be empty`},
		{e.OneOf("", 3), `lease: name "": must not be empty`},
		{e.Lease(strings.Repeat("n", 256)), "must not have more than 255 bytes"},
		{e.OneOf(strings.Repeat("n", 253), 11), "must not have more than 255 bytes"},
		{e.Lease("a\xffb"), "must be valid UTF-8"},
		{e.Lease("a\x00b"), `lease: name "a\x00b": must not contain control characters`},
		{e.OneOf("x", 0), `lease: 0 of "x": must be 1 to 1000`},
		{lease.Lease{}, "lease: the Lease was not made by an Engine"},
	} {
		require.ErrorContains(t, c.lease.Check(0), c.want)
		_, err := c.lease.Acquire(t.Context(), func(string) {})
		require.ErrorContains(t, err, c.want)
	}
}

func TestLeasesAreComparable(t *testing.T) {
	a, b := newReplica(t, leasetest.NewServer(), "a"), newReplica(t, leasetest.NewServer(), "b")
	one, many := a.Lease("x"), a.OneOf("x", 2)
	assert.Equal(t, one, a.Lease("x"))
	assert.NotEqual(t, a.Lease("x"), a.Lease("y"))
	assert.NotEqual(t, a.Lease("x"), b.Lease("x"))
	assert.Equal(t, many, a.OneOf("x", 2))
	assert.NotEqual(t, a.OneOf("x", 2), a.OneOf("x", 3))
	assert.NotEqual(t, a.OneOf("x", 0), a.Lease("x"))
	assert.Equal(t, "x", a.OneOf("x", 2).Name())
}

// All who acquire a lease in one replica share it.
func TestSharing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		first, second := a.acquire("x"), a.acquire("x")
		one, two := first.get(), second.get()
		third := a.acquire("x")
		three := third.get()
		assert.Zero(t, third.took)
		assert.Equal(t, 1, server.Calls(leasetest.Claim))
		for _, h := range []taskmanager.Hold{one, two, three} {
			assert.Equal(t, uint64(1), h.Token())
		}
		waiter := b.acquire("x")
		one.Release()
		one.Release() // counts once
		three.Release()
		waiter.waits()
		two.Release()
		assert.Equal(t, uint64(2), waiter.get().Token())
		waiter.hold.Release()
		requireIdle(t, server, a, b)
	})
}

// A lease whose release is not confirmed yet is acquired again.
func TestAcquireWhileReleasing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		other := a.acquire("other").get()
		hold := a.acquire("x").get()
		a.store.Next(leasetest.Release, leasetest.Fault{Before: beat / 2})
		hold.Release()
		again := a.acquire("x")
		assert.Equal(t, uint64(2), again.get().Token())
		assert.Equal(t, beat/2, again.took)
		again.hold.Release()
		other.Release()
		requireIdle(t, server, a)
	})
	synctest.Test(t, func(t *testing.T) { // without a Watch that says so
		store := leasetest.NewServer().Store(t)
		e, err := lease.New(watchless{store}, lease.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		other, hold := acquire(t, e.Lease("other")).get(), acquire(t, e.Lease("x")).get()
		store.Next(leasetest.Release, leasetest.Fault{Before: beat / 2})
		hold.Release()
		again := acquire(t, e.Lease("x"))
		assert.Equal(t, uint64(2), again.get().Token())
		assert.Equal(t, beat/2, again.took)
		again.hold.Release()
		other.Release()
		require.NoError(t, e.Close(t.Context()))
	})
}

// Many releases take few calls, and beats go on while one hangs.
func TestManyLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		other := a.acquire("other").get()
		var holds []taskmanager.Hold
		var waiters []*acquisition
		for i := range 1000 {
			waiters = append(waiters, a.acquire(fmt.Sprint("x", i)))
		}
		for _, w := range waiters {
			holds = append(holds, w.get())
		}
		time.Sleep(10 * ttl)
		claims, beats := server.Calls(leasetest.Claim), server.Calls(leasetest.Beat)
		time.Sleep(10 * ttl)
		assert.Equal(t, claims, server.Calls(leasetest.Claim))
		assert.InDelta(t, 10*ttl/beat, server.Calls(leasetest.Beat)-beats, 1, "whatever is held")

		a.store.Next(leasetest.Release, leasetest.Fault{Lost: true})
		for _, h := range holds {
			h.Release()
		}
		time.Sleep(beat + time.Millisecond)
		assert.Greater(t, time.Until(other.Until()), span-beat)
		assert.LessOrEqual(t, server.Calls(leasetest.Release), 3)
		for i := range holds {
			holder, _ := server.Holder(fmt.Sprint("x", i))
			require.Empty(t, holder)
		}
		other.Release()
		requireIdle(t, server, a)
	})
}

// watchless is a Store that can't watch.
type watchless struct{ *leasetest.Store }

func (watchless) Watch(context.Context, func()) error {
	return fmt.Errorf("no: %w", errors.ErrUnsupported)
}

func TestWithoutWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		e, err := lease.New(watchless{server.Store(t)}, lease.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		hold := a.acquire("x").get()
		time.Sleep(time.Second)
		waiter := acquire(t, e.Lease("x"))
		waiter.waits()
		time.Sleep(2 * time.Second)
		hold.Release()
		waiter.get().Release()
		assert.Equal(t, beat, waiter.took, "at the next beat")
		requireIdle(t, server, a)
	})
}

// What is released does not end the session of those who wait, nor does one who gives up waiting.
func TestWaitWhileOthersRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		y := b.acquire("y").get()
		x := a.acquire("x").get()
		waiter, another := a.acquire("y"), a.acquire("y")
		waiter.waits()
		x.Release()
		another.cancel(nil)
		<-another.done
		time.Sleep(ttl)
		waiter.waits()
		require.Len(t, server.Sessions(), 2)
		y.Release()
		released := time.Now()
		waiter.get().Release()
		assert.Zero(t, time.Since(released))
		requireIdle(t, server, a, b)
	})
}
