package leasetest

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
)

// The engines of [StartReplica] die and beat sooner than those of services.
const (
	ReplicaTTL  = 3 * time.Second
	ReplicaBeat = ReplicaTTL / 5
)

// Patience is how long may take what is to happen by itself.
const Patience = 30 * time.Second

// An Engine is a [lease.Engine], or what embeds one.
type Engine interface {
	// Lease is as that of lease.Engine.
	Lease(name string) lease.Lease
	// Close is as that of lease.Engine.
	Close(ctx context.Context) error
}

// A Run is one run of the body of a task.
type Run struct {
	Replica string
	Token   uint64
	Ended   <-chan struct{} // closed when the body returns
}

// Over reports whether the body has returned.
func (r Run) Over() bool {
	select {
	case <-r.Ended:
		return true
	default:
		return false
	}
}

// StartReplica starts a replica of that name, on the engine that newEngine makes with those options, with a task of lease "job", until the
// end of the test, or until stop is called, which may be called again. The runs of its task are sent to runs.
func StartReplica(t *testing.T, name string, runs chan<- Run, newEngine func(opts ...lease.Option) (Engine, error)) (stop func()) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	e, err := newEngine(lease.WithTTL(ReplicaTTL), lease.WithReplica(name), lease.WithLogger(quiet))
	require.NoError(t, err)
	m, err := taskmanager.New(taskmanager.WithLogger(quiet))
	require.NoError(t, err)
	_, err = m.StartTask("job", func(ctx context.Context) error {
		token, _ := taskmanager.LeaseToken(ctx)
		ended := make(chan struct{})
		defer close(ended)
		runs <- Run{name, token, ended}
		<-ctx.Done()
		return nil
	}, taskmanager.WithLease(e.Lease("job")), taskmanager.WithStopTimeout(500*time.Millisecond))
	require.NoError(t, err)
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		defer cancel()
		require.NoError(t, m.Shutdown(ctx))
		require.NoError(t, e.Close(ctx))
	})
	t.Cleanup(stop)
	return stop
}

// NextRun returns the next run.
func NextRun(t *testing.T, runs <-chan Run) Run {
	t.Helper()
	select {
	case r := <-runs:
		return r
	case <-time.After(Patience):
		require.Fail(t, "no body begins")
		return Run{}
	}
}

// HandOver stops the replica that executes first. The body of the other one, "b", must begin after the end of that, and not later than
// people notice.
func HandOver(t *testing.T, first Run, runs <-chan Run, stop func()) {
	t.Helper()
	require.Empty(t, runs)
	begun := time.Now()
	stop()
	second := NextRun(t, runs)
	took := time.Since(begun)
	require.True(t, first.Over())
	assert.Equal(t, "b", second.Replica)
	assert.Greater(t, second.Token, first.Token)
	assert.Less(t, took, 200*time.Millisecond)
	t.Log("handed over after", took)
}

// CutOff cuts off the replica that executes first, by setCut: three hiccups must not be noticed; then, for good, its body must end before
// that of the other one, "b", begins, which is a TTL later.
func CutOff(t *testing.T, first Run, runs <-chan Run, setCut func(cut bool)) {
	t.Helper()
	for range 3 {
		setCut(true)
		time.Sleep(ReplicaBeat / 2) // the length of the hiccup
		setCut(false)
		time.Sleep(2 * ReplicaBeat) // the time between two
	}
	require.Empty(t, runs, "a hiccup is not noticed")
	require.False(t, first.Over(), "a hiccup is not noticed")

	setCut(true)
	begun := time.Now()
	second := NextRun(t, runs)
	took := time.Since(begun)
	assert.True(t, first.Over(), "two bodies execute")
	assert.Equal(t, "b", second.Replica)
	assert.Greater(t, second.Token, first.Token)
	assert.Less(t, took, ReplicaTTL+2*ReplicaBeat)
	t.Log("the next one began after", took)
}
