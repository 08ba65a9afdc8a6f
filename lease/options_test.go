package lease_test

import (
	"math"
	"testing"
	"time"

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
			"taskmanager: WithTTL(15s): is too short: a beat is trusted for 5s, which is less than two beats of 3s",
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
	_, err := lease.New(nil)
	require.EqualError(t, err, "taskmanager: store <nil>: must not be nil")
}
