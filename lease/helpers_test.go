package lease_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// The defaults.
const (
	ttl  = 15 * time.Second
	beat = 3 * time.Second
)

// span is for how long a beat is trusted.
const span = ttl * 95 / 105

// A replica is an engine of its own and what it has of the server.
type replica struct {
	*lease.Engine
	t     *testing.T
	name  string
	store *leasetest.Store
}

func newReplica(t *testing.T, server *leasetest.Server, name string, opts ...lease.Option) replica {
	store := server.Store(t)
	quiet := slog.New(slog.DiscardHandler)
	e, err := lease.New(store, append([]lease.Option{lease.WithReplica(name), lease.WithLogger(quiet)}, opts...)...)
	require.NoError(t, err)
	return replica{Engine: e, t: t, name: name, store: store}
}

// close ends the engine, whose holds have been released.
func (r replica) close() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*ttl)
	defer cancel()
	require.NoError(r.t, r.Close(ctx))
}

// An acquisition is a call of Acquire, made in its own goroutine.
type acquisition struct {
	t      *testing.T
	cancel context.CancelCauseFunc
	done   chan struct{}
	begun  time.Time

	// Once done is closed:

	hold taskmanager.Hold
	err  error
	took time.Duration

	mu       sync.Mutex
	statuses []string
}

func (r replica) acquire(name string) *acquisition { return acquire(r.t, r.Lease(name)) }

func acquire(t *testing.T, l lease.Lease) *acquisition {
	ctx, cancel := context.WithCancelCause(context.Background())
	a := &acquisition{t: t, cancel: cancel, done: make(chan struct{}), begun: time.Now()}
	go func() {
		defer close(a.done)
		a.hold, a.err = l.Acquire(ctx, func(status string) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.statuses = append(a.statuses, status)
		})
		a.took = time.Since(a.begun)
	}()
	return a
}

// get waits for the hold.
func (a *acquisition) get() taskmanager.Hold {
	a.t.Helper()
	<-a.done
	require.NoError(a.t, a.err)
	return a.hold
}

// waits requires that Acquire has not returned, and returns the last status.
func (a *acquisition) waits() string {
	a.t.Helper()
	synctest.Wait()
	select {
	case <-a.done:
		require.Fail(a.t, "Acquire has returned", "%v, %v", a.hold, a.err)
	default:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	require.NotEmpty(a.t, a.statuses)
	return a.statuses[len(a.statuses)-1]
}

// releaseAll releases what all have, or get when others release.
func releaseAll(waiters []*acquisition) {
	var wg sync.WaitGroup
	for _, a := range waiters {
		wg.Go(func() { a.get().Release() })
	}
	wg.Wait()
}

func (a *acquisition) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.statuses)
}

// since is what a status says of a claim that was made just now.
func since(t time.Time) string { return fmt.Sprintf("since %s", t.Local().Format("15:04")) }

// requireIdle requires that no session is left, and nothing open.
func requireIdle(t *testing.T, server *leasetest.Server, replicas ...replica) {
	t.Helper()
	synctest.Wait()
	require.Empty(t, server.Sessions())
	for _, r := range replicas {
		require.False(t, r.store.Open())
	}
}
