package lease_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// A fleet is replicas with one Spread, and what they run.
type fleet struct {
	t      *testing.T
	server *leasetest.Server
	names  []string
	linger time.Duration // what a body takes to return
	fail   func(replica, name string) error

	mu    sync.Mutex
	runs  map[string]string // the replica that executes the body of a name
	moved int               // bodies begun
}

func newFleet(t *testing.T, names int) *fleet {
	f := &fleet{t: t, server: leasetest.NewServer(), runs: make(map[string]string)}
	for i := range names {
		f.names = append(f.names, fmt.Sprintf("tenant-%d", i))
	}
	return f
}

// A member is a replica of a fleet.
type member struct {
	replica
	spread  *lease.Spread
	manager *taskmanager.Manager
	task    *taskmanager.Task
}

// start starts a replica.
func (f *fleet) start(name string, opts ...taskmanager.TaskOption) *member {
	f.t.Helper()
	m := &member{replica: newReplica(f.t, f.server, name)}
	var err error
	m.spread, err = lease.NewSpread(m.Engine, func(tenant string) taskmanager.TaskFunc {
		return func(ctx context.Context) error { return f.body(ctx, name, tenant) }
	}, opts...)
	require.NoError(f.t, err)
	require.NoError(f.t, m.spread.SetNames(f.names))
	m.manager, err = taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(f.t, err)
	m.task, err = m.manager.StartTask("tenants", m.spread.Group(), taskmanager.WithStopTimeout(time.Minute))
	require.NoError(f.t, err)
	return m
}

func (f *fleet) body(ctx context.Context, replica, name string) error {
	f.mu.Lock()
	assert.Empty(f.t, f.runs[name], "%s has been begun by %s", name, replica)
	f.runs[name] = replica
	f.moved++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.runs, name)
	}()
	if f.fail != nil {
		if err := f.fail(replica, name); err != nil {
			return err
		}
	}
	<-ctx.Done()
	time.Sleep(f.linger)
	return nil
}

// where returns who executes what, by now.
func (f *fleet) where() map[string]string {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.runs)
}

// shares returns how many names each replica has.
func shares(where map[string]string) map[string]int {
	n := make(map[string]int)
	for _, replica := range where {
		n[replica]++
	}
	return n
}

// begun returns how many bodies have begun since it was called last.
func (f *fleet) begun() int {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.moved
	f.moved = 0
	return n
}

// settle waits until each name has a replica, and returns how long that took.
func (f *fleet) settle() time.Duration {
	f.t.Helper()
	begun := time.Now()
	for len(f.where()) < len(f.names) {
		require.Less(f.t, time.Since(begun), time.Minute, "%d of %d names are run", len(f.where()), len(f.names))
		time.Sleep(beat / 30)
	}
	return time.Since(begun)
}

// end stops a replica as a service does that ends.
func (m *member) end() {
	m.t.Helper()
	require.NoError(m.t, m.manager.Shutdown(context.Background()))
	m.close()
}

// die has a replica be gone for the others, as if it had been killed: its bodies don't count from now on.
func (f *fleet) die(m *member) {
	m.store.Cut()
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.runs, func(_, replica string) bool { return replica == m.name })
}

// Each name is run by one replica; who joins and leaves moves its own names, and no other.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 60)
		a, b := f.start("a"), f.start("b")
		assert.LessOrEqual(t, f.settle(), beat/2)
		first := f.where()
		assert.Equal(t, 60, f.begun(), "none has moved")
		assert.Len(t, shares(first), 2)

		c := f.start("c")
		time.Sleep(beat)
		assert.LessOrEqual(t, f.settle(), beat)
		second := f.where()
		n := shares(second)["c"]
		assert.Positive(t, n)
		assert.Equal(t, n, f.begun())
		for name, replica := range second {
			assert.Contains(t, []string{first[name], "c"}, replica)
		}

		c.end()
		assert.LessOrEqual(t, f.settle(), beat)
		assert.Equal(t, first, f.where(), "as before")
		assert.Equal(t, n, f.begun())

		stats := b.task.Stats()
		require.NotNil(t, stats.Group)
		assert.Equal(t, shares(first)["b"]+1, stats.Group.Running, "and the task that starts them")
		a.end()
		b.end()
		requireIdle(t, f.server, a.replica, b.replica, c.replica)
	})
}
