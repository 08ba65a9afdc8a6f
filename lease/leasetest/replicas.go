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

// The engines of [StartReplica] die and beat sooner than those of services. A busy machine may be late by two seconds before it makes more
// than a hiccup of one.
const (
	ReplicaTTL  = 5 * time.Second
	ReplicaBeat = ReplicaTTL / 5
)

// LongTTL is for replicas that are to bear a restart of their server, which takes seconds on a busy machine. It is the default of engines.
// LongBeat goes with it: a server that is away for two of them misses a beat of each session, the time that its call may take included.
const (
	LongTTL  = 15 * time.Second
	LongBeat = time.Second
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
	Began   time.Time
	Ended   <-chan struct{} // closed when the body returns
	ended   *time.Time      // when it was; set before Ended is closed
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
		closed := make(chan struct{})
		var ended time.Time
		defer func() {
			ended = time.Now()
			close(closed)
		}()
		runs <- Run{Replica: name, Token: token, Began: time.Now(), Ended: closed, ended: &ended}
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
// people notice. The observer sees the sessions of both.
func HandOver(t *testing.T, first Run, runs <-chan Run, o *Observer, stop func()) {
	t.Helper()
	o.AwaitBeats(1) // the other one watches by then
	require.Empty(t, runs)
	stop()
	second := NextRun(t, runs)
	require.True(t, first.Over())
	took := second.Began.Sub(*first.ended)
	assert.Equal(t, "b", second.Replica)
	assert.Greater(t, second.Token, first.Token)
	assert.Positive(t, took, "two bodies execute")
	assert.Less(t, took, 200*time.Millisecond)
	t.Log("handed over after", took)
}

// CutOff cuts off the replica that executes first, by setCut: three hiccups must not be noticed; then, for good, its body must end before
// that of the other one, "b", begins, which is a TTL later. The observer sees the sessions of both.
func CutOff(t *testing.T, first Run, runs <-chan Run, o *Observer, setCut func(cut bool)) {
	t.Helper()
	for range 3 {
		setCut(true)
		time.Sleep(ReplicaBeat / 2) // the length of the hiccup
		setCut(false)
		o.AwaitBeats(2)
	}
	require.Empty(t, runs, "a hiccup is not noticed")
	require.False(t, first.Over(), "a hiccup is not noticed")

	setCut(true)
	begun := time.Now()
	second := NextRun(t, runs)
	took := second.Began.Sub(begun)
	require.True(t, first.Over(), "two bodies execute")
	assert.True(t, second.Began.After(*first.ended), "two bodies have executed")
	assert.Equal(t, "b", second.Replica)
	assert.Greater(t, second.Token, first.Token)
	assert.Less(t, took, ReplicaTTL+2*ReplicaBeat)
	t.Log("the next one began after", took)
}
