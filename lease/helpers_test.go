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

// get waits for the hold. In a bubble, in which time passes as long as beats go on, it would wait for ever.
func (a *acquisition) get() taskmanager.Hold {
	a.t.Helper()
	select {
	case <-a.done:
	case <-time.After(time.Hour):
		require.Fail(a.t, "Acquire does not return")
	}
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

// newManager returns a Manager that logs nothing, until the end of the test.
func newManager(t *testing.T, opts ...taskmanager.Option) *taskmanager.Manager {
	m, err := taskmanager.New(append([]taskmanager.Option{taskmanager.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Shutdown(context.Background()) })
	return m
}

// A work is one run of the body of lease "x".
type work struct {
	replica string
	token   uint64
	began   time.Time
	ended   time.Time // zero while it executes
	cause   error     // why its context has ended
}

// A workplace is what replicas work at: one at a time, if all is well.
type workplace struct {
	t      *testing.T
	server *leasetest.Server

	mu    sync.Mutex
	works []work // in the order in which they have begun
}

func newWorkplace(t *testing.T) *workplace { return &workplace{t: t, server: leasetest.NewServer()} }

// body returns a body that works until its context ends, and takes so long then.
func (p *workplace) body(replica string, takes time.Duration) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		token, _ := taskmanager.LeaseToken(ctx)
		p.mu.Lock()
		i := len(p.works)
		p.works = append(p.works, work{replica: replica, token: token, began: time.Now()})
		p.mu.Unlock()
		<-ctx.Done()
		time.Sleep(takes)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.works[i].ended = time.Now()
		p.works[i].cause = context.Cause(ctx)
		return nil
	}
}

// all returns all runs so far.
func (p *workplace) all() []work {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.works)
}

// next waits until there are n runs, and returns the last one.
func (p *workplace) next(n int) work {
	p.t.Helper()
	for deadline := time.Now().Add(10 * ttl); len(p.all()) < n; time.Sleep(beat / 100) {
		require.True(p.t, time.Now().Before(deadline), "no body begins")
	}
	require.Len(p.t, p.all(), n)
	return p.all()[n-1]
}

// requireNoOverlap requires that each run has ended before the next one has begun, and that tokens have grown.
func (p *workplace) requireNoOverlap() {
	p.t.Helper()
	all := p.all()
	for i := 1; i < len(all); i++ {
		require.False(p.t, all[i-1].ended.IsZero(), "%v, %v", all[i-1], all[i])
		require.False(p.t, all[i].began.Before(all[i-1].ended), "%v overlap: %v, %v", all[i-1].ended.Sub(all[i].began), all[i-1], all[i])
		require.Greater(p.t, all[i].token, all[i-1].token)
	}
}

// A worker is a replica with a task of lease "x".
type worker struct {
	replica
	manager *taskmanager.Manager
	task    *taskmanager.Task
}

// start starts a replica whose task has that body, until the end of the test.
func (p *workplace) start(name string, body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) *worker {
	return p.startOn(newReplica(p.t, p.server, name), body, opts...)
}

func (p *workplace) startOn(r replica, body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) *worker {
	p.t.Helper()
	w := &worker{replica: r}
	p.t.Cleanup(w.close)
	w.manager = newManager(p.t)
	var err error
	w.task, err = w.manager.StartTask("job", body, append([]taskmanager.TaskOption{taskmanager.WithLease(r.Lease("x"))}, opts...)...)
	require.NoError(p.t, err)
	synctest.Wait()
	return w
}

// end ends the service, as a graceful stop of its process does.
func (w *worker) end() {
	w.t.Helper()
	require.NoError(w.t, w.manager.Shutdown(w.t.Context()))
	w.close()
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
