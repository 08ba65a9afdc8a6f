package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

var errBoom = errors.New("boom")

// A fleet is replicas with one Spread, and what they run.
type fleet struct {
	t         *testing.T
	server    *leasetest.Server
	names     []string
	linger    time.Duration        // what a body takes to return
	lingers   func() time.Duration // in place of that, if it is not nil
	fail      func(replica, name string) error
	unwatched bool // the stores have no watch

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
	if f.unwatched {
		m.Engine, err = lease.New(watchless{m.store}, lease.WithReplica(name), lease.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(f.t, err)
	}
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
	linger := f.linger
	if f.lingers != nil {
		linger = f.lingers()
	}
	time.Sleep(linger)
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

// What the 20 replicas of a service with 10,000 tenants may cost.
func TestSpreadOfManyNames(t *testing.T) {
	const replicas, names = 20, 10_000
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, names)
		var members []*member
		for i := range replicas {
			members = append(members, f.start(fmt.Sprint("replica-", i)))
			time.Sleep(beat / 200) // as pods of one deployment do, at best
		}
		took := f.settle()
		t.Log("all have been started after", took)
		assert.LessOrEqual(t, took, beat)
		assert.LessOrEqual(t, f.begun(), names*11/10)
		f.requireEven(replicas)

		calls := f.server.Calls(leasetest.Beat) + f.server.Calls(leasetest.Claim)
		time.Sleep(20 * beat)
		calls = f.server.Calls(leasetest.Beat) + f.server.Calls(leasetest.Claim) - calls
		assert.LessOrEqual(t, calls, 21*replicas, "one statement a beat, whatever the number of names")
		assert.Zero(t, f.begun())

		before := f.where()
		joined := f.start("joined")
		time.Sleep(beat)
		t.Log("one has joined after", beat+f.settle())
		moved := f.begun()
		assert.LessOrEqual(t, float64(moved), 1.1*names/(replicas+1))
		for name, replica := range f.where() {
			if replica != before[name] {
				require.Equal(t, "joined", replica)
			}
		}
		f.requireEven(replicas + 1)

		before = f.where()
		leaver := members[0]
		leaver.end()
		took = f.settle()
		t.Log("one has left after", took)
		assert.LessOrEqual(t, took, beat/2)
		f.requireMovedFrom(leaver.name, before)

		before = f.where()
		dead := members[1]
		f.die(dead)
		took = f.settle()
		t.Log("one has died, and its names are run after", took)
		assert.LessOrEqual(t, took, ttl+2*beat)
		f.requireMovedFrom(dead.name, before)
		f.requireEven(replicas - 1)

		dead.store.Restore()
		for _, m := range append(members[1:], joined) {
			m.end()
		}
		requireIdle(t, f.server)
	})
}

// requireEven requires that no share is larger than 1.2 times the mean.
func (f *fleet) requireEven(replicas int) {
	f.t.Helper()
	s := shares(f.where())
	require.Len(f.t, s, replicas)
	for replica, n := range s {
		assert.LessOrEqual(f.t, float64(n), 1.2*float64(len(f.names))/float64(replicas), replica)
	}
}

// requireMovedFrom requires that the names of that replica have moved, which others had not, and no other name has.
func (f *fleet) requireMovedFrom(replica string, before map[string]string) {
	f.t.Helper()
	assert.Equal(f.t, shares(before)[replica], f.begun())
	for name, now := range f.where() {
		if before[name] != replica {
			require.Equal(f.t, before[name], now)
		}
	}
}

// A name begins at its new place when the body has returned at the old one, be that stuck meanwhile.
func TestSpreadWaitsForTheBody(t *testing.T) {
	for _, linger := range []time.Duration{time.Second, 30 * time.Second} { // the stop timeout is 5 s
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 20)
			f.linger = linger
			a := f.start("a")
			f.settle()
			assert.Equal(t, map[string]int{"a": 20}, shares(f.where()))
			b := f.start("b")
			for len(taskNames(a, taskmanager.StateStopping)) == 0 {
				require.NotContains(t, shares(f.where()), "b")
				time.Sleep(time.Millisecond)
			}
			time.Sleep(linger - 2*time.Millisecond)
			assert.Equal(t, map[string]int{"a": 20}, shares(f.where()))
			time.Sleep(beat)
			assert.Positive(t, shares(f.where())["b"])
			assert.Len(t, f.where(), 20)
			for _, m := range []*member{a, b} {
				for m.manager.Shutdown(t.Context()) != nil {
					time.Sleep(time.Second)
				}
				m.close()
			}
		})
	}
}

// A name that comes back before its body has returned is started again when it has.
func TestSpreadNameComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 20)
		f.linger = 4 * time.Second
		a := f.start("a")
		f.settle()
		b := f.start("b")
		time.Sleep(beat + time.Second)
		require.Less(t, len(taskNames(a, taskmanager.StateRunning)), 20, "some leave")
		b.end()
		time.Sleep(2 * beat)
		assert.Equal(t, map[string]int{"a": 20}, shares(f.where()))
		a.end()
	})
}

// taskNames returns the tasks of a member in that state.
func taskNames(m *member, state taskmanager.State) (names []string) {
	group := m.task.Group()
	if group == nil {
		return nil
	}
	for task := range group.Tasks() {
		if task.State() == state && task.Name() != "spread" {
			names = append(names, task.Name())
		}
	}
	slices.Sort(names)
	return names
}

// A replica that is cut off loses its names, and gets others when it is back. No task has failed.
func TestSpreadOfALostSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 20)
		a, b := f.start("a"), f.start("b")
		f.settle()
		had := shares(f.where())
		b.store.Cut()
		begun := time.Now()
		time.Sleep(span)
		require.Equal(t, map[string]int{"a": had["a"]}, shares(f.where()), "b has ended its bodies")
		assert.Empty(t, taskNames(b, taskmanager.StateRunning))
		assert.Contains(t, statusOf(b), "the engine has failed")
		f.settle()
		assert.LessOrEqual(t, time.Since(begun), ttl+2*beat)
		assert.Equal(t, map[string]int{"a": 20}, shares(f.where()))
		b.store.Restore()
		time.Sleep(3 * beat)
		f.settle()
		assert.Len(t, shares(f.where()), 2)
		for _, m := range []*member{a, b} {
			s := m.task.Stats().Group
			assert.Zero(t, s.Failures)
			assert.Zero(t, s.Failed)
		}
		assert.Equal(t, fmt.Sprintf("has %d of the %[1]d names that are placed here; names: 20, replicas: 2", shares(f.where())["b"]), statusOf(b))
		a.end()
		b.end()
		requireIdle(t, f.server, a.replica, b.replica)
	})
}

// statusOf returns what the task says that starts the others.
func statusOf(m *member) string {
	task, ok := m.task.Group().Lookup("spread")
	require.True(m.t, ok)
	return task.Stats().Status
}

// What is given up or completes rests where it is, until the name moves.
func TestSpreadRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 20)
		f.fail = func(replica, name string) error {
			switch {
			case replica == "a":
				return nil
			case name == "tenant-0":
				return errBoom
			}
			return nil
		}
		b := f.start("b", taskmanager.WithRestart(taskmanager.RestartNever))
		time.Sleep(time.Minute)
		require.Len(t, f.where(), 19)
		assert.Equal(t, []string{"tenant-0"}, taskNames(b, taskmanager.StateFailed))
		assert.Equal(t, "has 20 of the 20 names that are placed here; names: 20, replicas: 1", statusOf(b))
		id, token := f.server.Holder("tenant-0")
		assert.Empty(t, id, "released")
		assert.Equal(t, uint64(1), token, "not claimed again")

		var others []*member // until it moves
		for i := 0; len(taskNames(b, taskmanager.StateFailed)) > 0; i++ {
			others = append(others, f.start("a"))
			time.Sleep(2 * beat)
			require.Less(t, i, 20)
		}
		f.settle()
		assert.Equal(t, "a", f.where()["tenant-0"])
		assert.Equal(t, taskmanager.HealthOK, b.manager.Health().State, "it is no failure of this replica any more")
		for _, m := range append(others, b) {
			m.end()
		}
	})
}

// A task that is restarted by hand, or goes on after a cooldown, has its lease again.
func TestSpreadGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3)
		failures := 0
		f.fail = func(_, name string) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if name == "tenant-0" && failures < 2 {
				failures++
				return errBoom
			}
			return nil
		}
		a := f.start("a", taskmanager.WithRestart(taskmanager.RestartNever), taskmanager.WithCooldown(time.Minute))
		time.Sleep(time.Minute)
		assert.Len(t, f.where(), 2)
		require.NoError(t, a.task.Group().RestartTask(t.Context(), "tenant-0"))
		assert.Len(t, f.where(), 2)
		time.Sleep(time.Minute + beat)
		assert.Len(t, f.where(), 3)
		_, token := f.server.Holder("tenant-0")
		assert.Equal(t, uint64(3), token)
		a.end()
	})
}

func TestSpreadSetNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 10)
		a, b := f.start("a"), f.start("b")
		f.settle()
		was := f.where()
		f.names = append(slices.Clone(f.names[3:]), "new-1", "new-2")
		for _, m := range []*member{a, b} {
			require.NoError(t, m.spread.SetNames(f.names))
		}
		time.Sleep(beat)
		is := f.where()
		assert.ElementsMatch(t, f.names, slices.Collect(maps.Keys(is)))
		for _, name := range f.names[:7] {
			assert.Equal(t, was[name], is[name])
		}
		for _, c := range []struct {
			names []string
			want  string
		}{
			{[]string{"x", ""}, "must not be empty"},
			{[]string{"a\n"}, "must not contain control characters"},
			{[]string{"x", "y", "x"}, `"x": must not be given twice`},
			{[]string{"spread"}, `"spread": is the task that starts the others`},
		} {
			err := a.spread.SetNames(c.names)
			var refused *taskmanager.OptionError
			require.ErrorAs(t, err, &refused)
			assert.ErrorContains(t, err, c.want)
		}
		f.names[0] = "changed by the caller"
		time.Sleep(beat)
		assert.Equal(t, is, f.where())
		require.NoError(t, a.spread.SetNames(nil))
		require.NoError(t, b.spread.SetNames(nil))
		time.Sleep(beat)
		assert.Empty(t, f.where())
		assert.Len(t, f.server.Sessions(), 2)
		a.end()
		b.end()
	})
}

// An answer that is lost leaves no lease with a replica on which it is not placed.
func TestSpreadOfLostAnswers(t *testing.T) {
	for _, op := range []leasetest.Op{leasetest.Claim, leasetest.Release, leasetest.Beat} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 50)
			a := f.start("a")
			f.settle()
			a.store.Next(op, leasetest.Fault{Lost: true})
			b := f.start("b")
			b.store.Next(op, leasetest.Fault{Lost: true})
			time.Sleep(3 * beat)
			assert.LessOrEqual(t, f.settle(), ttl)
			time.Sleep(ttl + beat)
			for name, replica := range f.where() {
				id, _ := f.server.Holder(name)
				assert.NotEmpty(t, id, "%s of %s", name, replica)
			}
			a.end()
			b.end()
			requireIdle(t, f.server, a.replica, b.replica)
		})
	}
}

// The body of a name is made by user code. What goes wrong there is a failure of that name alone.
func TestSpreadBodyCan(t *testing.T) {
	for _, c := range []struct {
		name   string
		body   func() taskmanager.TaskFunc
		gaveUp string
	}{
		{"panic", func() taskmanager.TaskFunc { panic("boom") }, `lease: the func of NewSpread has panicked for "odd": boom`},
		{"be nil", func() taskmanager.TaskFunc { return nil }, `lease: the func of NewSpread has returned nil for "odd"`},
		{"call Goexit", func() taskmanager.TaskFunc { runtime.Goexit(); return nil }, `lease: the func of NewSpread has called runtime.Goexit for "odd"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, group, end := startSpread(t, func(name string) taskmanager.TaskFunc {
					if name == "odd" {
						return c.body()
					}
					return func(ctx context.Context) error { <-ctx.Done(); return nil }
				})
				defer end()
				time.Sleep(time.Minute)
				odd, ok := group().Lookup("odd")
				require.True(t, ok)
				require.ErrorContains(t, odd.Err(), c.gaveUp)
				assert.True(t, group().IsRunning("even"))
				assert.Equal(t, 1, m.Stats().Running)
			})
		})
	}
	t.Run("hang", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			hang := make(chan struct{})
			defer close(hang)
			m, _, end := startSpread(t, func(string) taskmanager.TaskFunc { <-hang; return nil })
			time.Sleep(time.Minute)
			begun := time.Now()
			require.NoError(t, m.Shutdown(t.Context()))
			assert.Zero(t, time.Since(begun))
			end()
		})
	})
	t.Run("call back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			r := newReplica(t, server, "a")
			var s *lease.Spread
			s, err := lease.NewSpread(r.Engine, func(string) taskmanager.TaskFunc {
				assert.NoError(t, s.SetNames([]string{"x", "y"}))
				return func(ctx context.Context) error { <-ctx.Done(); return nil }
			})
			require.NoError(t, err)
			require.NoError(t, s.SetNames([]string{"x"}))
			m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
			require.NoError(t, err)
			task, err := m.StartTask("tenants", s.Group())
			require.NoError(t, err)
			time.Sleep(beat)
			assert.Equal(t, 3, task.Stats().Group.Running)
			require.NoError(t, m.Shutdown(t.Context()))
			r.close()
		})
	})
}

// startSpread starts a Spread of "even" and "odd".
func startSpread(t *testing.T, body func(name string) taskmanager.TaskFunc, opts ...taskmanager.TaskOption) (m *taskmanager.Manager,
	group func() *taskmanager.Manager, end func(),
) {
	server := leasetest.NewServer()
	r := newReplica(t, server, "a")
	s, err := lease.NewSpread(r.Engine, body, opts...)
	require.NoError(t, err)
	require.NoError(t, s.SetNames([]string{"even", "odd"}))
	m, err = taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	task, err := m.StartTask("tenants", s.Group())
	require.NoError(t, err)
	return m, task.Group, func() {
		require.NoError(t, m.Shutdown(context.Background()))
		r.close()
		requireIdle(t, server, r)
	}
}

// Options that can't be are why each task is given up, which says so.
func TestSpreadOfRefusedOptions(t *testing.T) {
	for name, c := range map[string]struct {
		opts []taskmanager.TaskOption
		want string
	}{
		"a stop timeout that is too long for the TTL": {[]taskmanager.TaskOption{taskmanager.WithStopTimeout(time.Hour)}, "lease: a beat is trusted for"},
		"a negative one": {[]taskmanager.TaskOption{taskmanager.WithStopTimeout(-1)}, "WithStopTimeout"},
		"nil":            {[]taskmanager.TaskOption{nil}, "opts[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, group, end := startSpread(t, func(string) taskmanager.TaskFunc {
					return func(ctx context.Context) error { <-ctx.Done(); return nil }
				}, c.opts...)
				defer end()
				time.Sleep(beat)
				task, ok := group().Lookup("even")
				require.True(t, ok)
				require.ErrorContains(t, task.Err(), c.want)
			})
		})
	}
}

// Whoever stops, pauses or restarts the task that starts the others has the replica leave, until that goes on.
func TestSpreadTaskByHand(t *testing.T) {
	for name, c := range map[string]struct {
		leave, join func(ctx context.Context, m *taskmanager.Manager) error
	}{
		"stop": {
			func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "spread") },
			func(ctx context.Context, m *taskmanager.Manager) error { return m.RestartTask(ctx, "spread") },
		},
		"pause": {
			func(ctx context.Context, m *taskmanager.Manager) error { return m.PauseTask(ctx, "spread") },
			func(_ context.Context, m *taskmanager.Manager) error { return m.ResumeTask("spread") },
		},
		"restart": {
			nil,
			func(ctx context.Context, m *taskmanager.Manager) error { return m.RestartTask(ctx, "spread") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 20)
				f.linger = time.Second
				a, b := f.start("a"), f.start("b")
				f.settle()
				if c.leave != nil {
					require.NoError(t, c.leave(t.Context(), b.task.Group()))
					time.Sleep(2*beat + f.linger)
					assert.Equal(t, map[string]int{"a": 20}, shares(f.where()))
					assert.Len(t, f.server.Sessions(), 1)
				}
				require.NoError(t, c.join(t.Context(), b.task.Group()))
				time.Sleep(2*beat + f.linger)
				f.settle()
				assert.Len(t, shares(f.where()), 2)
				assert.Zero(t, b.task.Stats().Failures, "of the group")
				a.end()
				b.end()
				requireIdle(t, f.server, a.replica, b.replica)
			})
		})
	}
}

// The engine of a Spread is for it alone, and for one run at a time.
func TestSpreadRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := func(string) taskmanager.TaskFunc { return nil }
		var refused *taskmanager.OptionError
		_, err := lease.NewSpread(nil, body)
		require.ErrorAs(t, err, &refused)
		_, err = lease.NewSpread(new(lease.Engine), body)
		require.ErrorAs(t, err, &refused)
		f := newFleet(t, 3)
		a := f.start("a")
		_, err = lease.NewSpread(a.Engine, nil)
		require.ErrorAs(t, err, &refused)
		_, err = lease.NewSpread(a.Engine, body)
		require.ErrorContains(t, err, "the engine is in use")
		require.ErrorContains(t, a.Lease("x").Check(0), `name "x": the engine is for its Spread alone`)
		_, err = a.OneOf("x", 2).Acquire(t.Context(), func(string) {})
		require.ErrorContains(t, err, "the engine is for its Spread alone")
		f.settle()

		again, err := a.manager.StartTask("again", a.spread.Group(), taskmanager.WithRestart(taskmanager.RestartNever))
		require.NoError(t, err)
		<-again.Done()
		require.ErrorContains(t, again.Err(), "the Spread runs already")
		assert.Len(t, f.where(), 3)

		used := newReplica(t, f.server, "used")
		hold := used.acquire("x").get()
		_, err = lease.NewSpread(used.Engine, body)
		require.ErrorContains(t, err, "the engine is in use")
		hold.Release()
		used.close()
		a.end()
	})
}

// Who closes the engine first has the group fail, and waits for its tasks.
func TestSpreadOfAClosedEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3)
		f.linger = time.Second
		a := f.start("a", taskmanager.WithStopTimeout(2*time.Second))
		f.settle()
		begun := time.Now()
		a.close()
		assert.Equal(t, time.Second, time.Since(begun))
		assert.Empty(t, f.where())
		synctest.Wait()
		require.ErrorIs(t, a.task.Stats().LastError, lease.ErrClosed)
		require.NoError(t, a.manager.Shutdown(t.Context()))
		requireIdle(t, f.server, a.replica)
	})
}

// Whatever the network does, no name is run twice at a time, and all are run when it is well again.
func TestSpreadRandom(t *testing.T) {
	begun := 0
	for seed := range uint64(seeds / 10) {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, 20)
			d := &dice{Rand: rand.New(rand.NewPCG(seed, 1000))}
			f.lingers = func() time.Duration { return d.upTo(randomGrace) }
			var members []*member
			for i := range randomReplicas {
				m := f.start(fmt.Sprint("pod-", i))
				m.store.Faults((&dice{Rand: rand.New(rand.NewPCG(seed, uint64(i)))}).fault)
				members = append(members, m)
			}
			for range 6 {
				time.Sleep(d.upTo(40 * time.Second))
				one := members[int(d.upTo(randomReplicas))]
				if d.oneOf(3) {
					f.server.Cut()
				} else {
					one.store.Cut()
				}
				time.Sleep(d.upTo(40 * time.Second))
				f.server.Restore()
			}
			for _, m := range members {
				m.store.Faults(nil)
			}
			time.Sleep(ttl + 3*beat)
			f.settle()
			require.Len(t, f.where(), len(f.names), "seed %d", seed)
			for _, m := range members {
				m.end()
			}
			begun += f.begun()
			time.Sleep(2 * ttl) // for what is executed late
		})
		require.False(t, t.Failed(), "seed %d", seed)
	}
	t.Logf("%d bodies", begun)
}

// A session that has never beaten is given nothing: whoever joined may have gone away without its answer.
func TestSpreadWithAGhost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 20)
		_, err := f.server.Store(t).Join(t.Context(), "ghost")
		require.NoError(t, err)
		a := f.start("a")
		assert.LessOrEqual(t, f.settle(), beat)
		a.end()
	})
}

// More names than one call may have are claimed at once all the same.
func TestSpreadOnOneReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2400)
		a := f.start("a")
		a.store.Next(leasetest.Claim, leasetest.Fault{Lost: true})
		assert.LessOrEqual(t, f.settle(), beat+beat/2)
		assert.Equal(t, 1+5, f.server.Calls(leasetest.Claim))
		a.end()
	})
}

// A replica whose run is over, and whose bodies take their time, is given nothing any more.
func TestSpreadIsLeftBeforeTheSessionIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 20)
		a, b := f.start("a"), f.start("b")
		f.settle()
		var first atomic.Bool
		f.lingers = func() time.Duration {
			if first.CompareAndSwap(false, true) {
				return 30 * time.Second
			}
			return time.Second
		}
		stopped := make(chan struct{})
		go func() {
			_ = a.task.Stop(t.Context()) // one did not return in time
			close(stopped)
		}()
		time.Sleep(2*beat + time.Second)
		assert.Equal(t, map[string]int{"a": 1, "b": 19}, shares(f.where()))
		<-stopped
		time.Sleep(beat)
		assert.Equal(t, map[string]int{"b": 20}, shares(f.where()))

		require.NoError(t, a.task.Restart(t.Context()))
		time.Sleep(2 * beat)
		f.settle()
		assert.Len(t, shares(f.where()), 2)
		a.end()
		b.end()
	})
}

// A replica whose run is over claims nothing any more, while its bodies take their time.
func TestSpreadThatIsOverClaimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 20)
		f.linger = 10 * time.Second
		a, b := f.start("a"), f.start("b")
		f.settle()
		had := f.where()
		go func() { _ = a.task.Stop(t.Context()) }()
		time.Sleep(3 * beat) // b waits for what a still executes
		require.Equal(t, had, f.where())
		go func() { _ = b.task.Stop(t.Context()) }()
		time.Sleep(beat)
		require.Len(t, f.where(), shares(had)["b"], "a has returned")
		for name, replica := range had {
			id, _ := f.server.Holder(name)
			assert.Equal(t, replica == "b", id != "", name)
		}
		time.Sleep(time.Minute)
		a.end()
		b.end()
	})
}

// Without a watch, moves take a beat longer.
func TestSpreadWithoutWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 20)
		f.unwatched = true
		a, b := f.start("a"), f.start("b")
		f.settle()
		f.die(b)
		assert.LessOrEqual(t, f.settle(), ttl+2*beat)
		b.store.Restore()
		b.end()
		a.end()
	})
}

// A name whose task has yet to acquire its lease is kept for it; and not, once that was stopped.
func TestSpreadKeepsWhatIsToBeAcquired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3)
		a := f.start("a", taskmanager.WithDependsOn("unknown"))
		time.Sleep(3 * beat)
		assert.Empty(t, f.where())
		id, token := f.server.Holder("tenant-0")
		assert.NotEmpty(t, id)
		assert.Equal(t, uint64(1), token)
		require.NoError(t, a.task.Group().StopTask(t.Context(), "tenant-0"))
		time.Sleep(2 * beat)
		id, _ = f.server.Holder("tenant-0")
		assert.Empty(t, id)
		id, _ = f.server.Holder("tenant-1")
		assert.NotEmpty(t, id)
		a.end()
	})
}
