package lease_test

import (
	"math"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

func TestOptions(t *testing.T) {
	store := leasetest.NewServer().Store(t)
	for _, c := range []struct {
		opts []lease.Option
		want string // "": none
	}{
		{nil, ""},
		{[]lease.Option{nil}, "taskmanager: opts[0] <nil>: must not be nil"},
		{[]lease.Option{lease.WithTTL(0)}, "taskmanager: WithTTL(0s): must be more than 0"},
		{
			[]lease.Option{lease.WithTTL(1)},
			"taskmanager: WithTTL(1ns): is too short: a beat is trusted for 0s, which is less than two beats of 1ns",
		},
		{[]lease.Option{lease.WithBeat(-time.Second)}, "taskmanager: WithBeat(-1s): must be more than 0"},
		{[]lease.Option{lease.WithBeat(0)}, "taskmanager: WithBeat(0s): must be more than 0"},
		{[]lease.Option{lease.WithDrift(1)}, "taskmanager: WithDrift(1): must be at least 0 and less than 1"},
		{[]lease.Option{lease.WithDrift(-0.1)}, "taskmanager: WithDrift(-0.1): must be at least 0 and less than 1"},
		{[]lease.Option{lease.WithDrift(math.NaN())}, "taskmanager: WithDrift(NaN): must be at least 0 and less than 1"},
		{[]lease.Option{lease.WithOverrun(nil)}, "taskmanager: WithOverrun(func): must not be nil"},
		{[]lease.Option{lease.WithLogger(nil)}, "taskmanager: WithLogger(logger): must not be nil"},
		{[]lease.Option{lease.WithReplica("")}, "taskmanager: WithReplica(): must not be empty"},
		{[]lease.Option{lease.WithReplica("a\nb")}, "must not contain control characters"},
		{
			[]lease.Option{lease.WithTTL(5 * time.Second), lease.WithBeat(2500 * time.Millisecond)},
			"taskmanager: WithTTL(5s): is too short: a beat is trusted for 4.523809523s, which is less than two beats of 2.5s",
		},
		{[]lease.Option{lease.WithTTL(5 * time.Second), lease.WithBeat(2500 * time.Millisecond), lease.WithDrift(0)}, ""},
		{
			[]lease.Option{lease.WithDrift(0.5)},
			"taskmanager: WithDrift(0.5): is too large: a beat is trusted for 5s, which is less than two beats of 3s",
		},
		{
			[]lease.Option{lease.WithBeat(8 * time.Second)},
			"taskmanager: WithBeat(8s): is too long: a beat is trusted for 13.571428571s, which is less than two beats of 8s",
		},
	} {
		_, err := lease.New(store, c.opts...)
		if c.want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, c.want)
		var refused *taskmanager.OptionError
		require.ErrorAs(t, err, &refused)
	}
	_, err := lease.New((*leasetest.Store)(nil))
	require.ErrorContains(t, err, "must not be nil")
	_, err = lease.New(nil)
	require.EqualError(t, err, "taskmanager: store <nil>: must not be nil")
}

// A beat is sent each WithBeat and trusted for WithTTL*(1-rho)/(1+rho); who does not beat is removed after WithTTL.
func TestOptionsOfTime(t *testing.T) {
	for _, c := range []struct {
		opts      []lease.Option
		ttl, beat time.Duration
		span      time.Duration
	}{
		{nil, ttl, beat, span},
		{[]lease.Option{lease.WithTTL(time.Minute)}, time.Minute, 12 * time.Second, time.Minute * 95 / 105},
		{[]lease.Option{lease.WithBeat(time.Second)}, ttl, time.Second, span},
		{[]lease.Option{lease.WithDrift(0)}, ttl, beat, ttl},
		{[]lease.Option{lease.WithDrift(0.25), lease.WithTTL(10 * time.Second)}, 10 * time.Second, 2 * time.Second, 6 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			a, b := newReplica(t, server, "a", c.opts...), newReplica(t, server, "b", c.opts...)
			hold := a.acquire("x").get()
			assert.Equal(t, c.span, time.Until(hold.Until()))
			before := server.Calls(leasetest.Beat)
			time.Sleep(10 * c.beat)
			synctest.Wait()
			assert.Equal(t, 10, server.Calls(leasetest.Beat)-before)
			assert.Equal(t, c.span, time.Until(hold.Until()))

			waiter := b.acquire("x")
			waiter.waits()
			a.store.Cut()
			cut := time.Now()
			<-hold.Context().Done()
			assert.Equal(t, c.span, time.Since(cut))
			next := waiter.get()
			assert.Equal(t, c.ttl, time.Since(cut))
			hold.Release()
			next.Release()
			a.store.Restore()
			time.Sleep(2 * c.ttl)
			requireIdle(t, server, a, b)
		})
	}
}

func TestReplicaIsNamedAfterItsHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		e, err := lease.New(server.Store(t))
		require.NoError(t, err)
		hold := acquire(t, e.Lease("x")).get()
		host, err := os.Hostname()
		require.NoError(t, err)
		assert.Equal(t, host, server.Sessions()[0].Replica)
		hold.Release()
		require.NoError(t, e.Close(t.Context()))
	})
}
