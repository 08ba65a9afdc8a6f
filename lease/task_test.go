package lease_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/health"
	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// What is lost is no failure: it uses no restart, is not reported, and the task waits for the lease again. The next token is larger.
func TestLossIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkplace(t)
		var mu sync.Mutex
		var reported []taskmanager.Event
		m := newManager(t, taskmanager.WithReporter(taskmanager.ReporterFunc(func(_ context.Context, e taskmanager.Event) error {
			mu.Lock()
			defer mu.Unlock()
			reported = append(reported, e)
			return nil
		})))
		events := m.Subscribe(t.Context())
		a := newReplica(t, p.server, "a")
		task, err := m.StartTask("job", p.body("a", time.Second), taskmanager.WithLease(a.Lease("x")), taskmanager.WithMaxRestarts(0))
		require.NoError(t, err)
		const losses = 5
		for i := range losses {
			require.Equal(t, i+1, int(p.next(i+1).token))
			require.Equal(t, taskmanager.StateRunning, task.State())
			p.server.Cut()
			time.Sleep(2 * ttl)
			require.Len(t, p.all(), i+1)
			require.ErrorIs(t, p.all()[i].cause, taskmanager.ErrLeaseLost)
			s := task.Stats()
			require.Equal(t, taskmanager.StateWaiting, s.State)
			require.Contains(t, s.Status, `waits for lease "x": the engine has failed`)
			require.Equal(t, &taskmanager.LeaseStats{Name: "x"}, s.Lease)
			p.server.Restore()
		}
		p.next(losses + 1)
		p.requireNoOverlap()
		s := task.Stats()
		assert.Zero(t, s.Failures)
		assert.Zero(t, s.RestartsInWindow)
		assert.Zero(t, s.ConsecutiveFailures)
		require.NoError(t, s.LastError)
		mu.Lock()
		assert.Empty(t, reported)
		mu.Unlock()
		stopped := 0
		for len(events) > 0 {
			e := <-events
			assert.Contains(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStopped}, e.Kind)
			if e.Kind == taskmanager.EventStopped {
				require.ErrorIs(t, e.Cause, taskmanager.ErrLeaseLost)
				stopped++
			}
		}
		assert.Equal(t, losses, stopped)
	})
}

// A crash loop stays on one replica until that gives the task up; each of the others has its turn after that, once, with limits of its own.
func TestCrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkplace(t)
		var ran []string
		var workers []*worker
		for _, name := range []string{"a", "b", "c"} {
			workers = append(workers, p.start(name, func(ctx context.Context) error {
				ran = append(ran, name)
				time.Sleep(time.Second)
				return errors.New("boom")
			}, taskmanager.WithMaxRestarts(2)))
		}
		for _, w := range workers {
			<-w.task.Done()
			assert.Equal(t, taskmanager.StateFailed, w.task.State())
		}
		require.Len(t, ran, 9)
		assert.Equal(t, []string{"a", "a", "a"}, ran[:3])
		turns := slices.Compact(slices.Clone(ran))
		assert.ElementsMatch(t, []string{"a", "b", "c"}, turns, "each one once")
		synctest.Wait()
		holder, token := p.server.Holder("x")
		assert.Empty(t, holder)
		assert.EqualValues(t, 3, token)
		requireIdle(t, p.server, workers[0].replica, workers[1].replica, workers[2].replica)
	})
}

// A critical task on a standby is healthy and ready. So a rolling update that starts the new replica before it stops the old one ends.
func TestRollingUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkplace(t)
		isReady := func(w *worker) bool {
			answer := httptest.NewRecorder()
			health.Ready(w.manager).ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
			return answer.Code == http.StatusOK
		}
		start := func(name string) *worker {
			return p.start(name, p.body(name, time.Second), taskmanager.WithCritical())
		}
		old := []*worker{start("a1"), start("b1")}
		for i, w := range old {
			require.True(t, isReady(w))
			updated := start([]string{"a2", "b2"}[i])
			for deadline := time.Now().Add(time.Minute); !isReady(updated); time.Sleep(time.Second) {
				require.True(t, time.Now().Before(deadline), "it never gets ready: the update hangs")
			}
			h := updated.manager.Health()
			assert.Equal(t, taskmanager.HealthOK, h.State)
			assert.True(t, h.Ready)
			require.Len(t, h.Leases, 1)
			assert.Contains(t, h.Leases[0].Status, `waits for lease "x", held by "`)
			w.end()
		}
		time.Sleep(ttl)
		p.requireNoOverlap()
		all := p.all()
		assert.Contains(t, []string{"a2", "b2"}, all[len(all)-1].replica)
		assert.True(t, all[len(all)-1].ended.IsZero(), "it works")
	})
}

// No goroutine and no connection is left when nothing is wanted, and the server hears nothing.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkplace(t)
		calls := func() (n int) {
			for _, op := range []leasetest.Op{
				leasetest.Join, leasetest.Beat, leasetest.Expire, leasetest.Leave, leasetest.Claim, leasetest.Release,
			} {
				n += p.server.Calls(op)
			}
			return n
		}
		goroutines := func() string {
			all := make([]byte, 1<<20)
			return string(all[:runtime.Stack(all, true)])
		}
		const ours = "taskmanager/lease." // of the package, not of its tests
		a := newReplica(t, p.server, "a")
		m := newManager(t)
		requireNothing := func() {
			t.Helper()
			requireIdle(t, p.server, a)
			assert.NotContains(t, goroutines(), ours)
			n := calls()
			time.Sleep(10 * ttl)
			assert.Equal(t, n, calls())
		}
		requireNothing()
		for range 3 {
			task, err := m.StartTask("job", p.body("a", 0), taskmanager.WithLease(a.Lease("x")))
			require.NoError(t, err)
			time.Sleep(ttl + beat/2)
			require.True(t, a.store.Open())
			require.Contains(t, goroutines(), ours)
			require.NoError(t, task.Stop(t.Context()))
			require.NoError(t, task.Forget())
			requireNothing()
		}
		// Who gives up waiting leaves nothing either.
		other := newReplica(t, p.server, "b")
		hold := other.acquire("x").get()
		waiter := a.acquire("x")
		time.Sleep(ttl)
		waiter.waits()
		waiter.cancel(nil)
		<-waiter.done
		hold.Release()
		other.close()
		requireNothing()
		a.close()
		require.NoError(t, m.Shutdown(t.Context()))
		requireNothing()
	})
}

// What can't be a task's lease is refused at the start, with an error that names it.
func TestTaskIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, leasetest.NewServer(), "b")
		m := newManager(t)
		task, err := m.StartTask("first", func(ctx context.Context) error { <-ctx.Done(); return nil }, taskmanager.WithLease(a.Lease("x")))
		require.NoError(t, err)
		for _, c := range []struct {
			lease taskmanager.Lease
			stop  time.Duration
			want  string
		}{
			{b.Lease("x"), grace, `taskmanager: WithLease(x): is the name of a lease in this Manager that is not equal: of another engine, say`},
			{a.OneOf("x", 2), grace, `taskmanager: WithLease(x): is the name of a lease in this Manager that is not equal: of another engine, say`},
			{a.Lease("y"), 8 * time.Second, `taskmanager: WithLease(y): lease: a beat is trusted for 13.571428571s (TTL 15s, drift 0.05): without ` +
				`the 8s that the body may take to return, 5.571428571s remain, which is less than two beats of 3s`},
			{a.OneOf("y", 0), grace, `taskmanager: WithLease(y): lease: 0 of "y": must be 1 to 1000`},
			{a.Lease("y\n"), grace, "must not contain control characters"},
			{lease.Lease{}, grace, "must have 1 to 255 bytes, and has 0"},
		} {
			_, err := m.StartTask("second", func(context.Context) error { return nil },
				taskmanager.WithLease(c.lease), taskmanager.WithStopTimeout(c.stop))
			require.ErrorContains(t, err, c.want)
			var refused *taskmanager.OptionError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, "WithLease", refused.Option)
		}
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, task.State(), "nothing is disturbed")
		assert.Len(t, slices.Collect(m.Tasks()), 1)
	})
}

// All tasks of a Manager with one lease share it: they run on one replica, and move together.
func TestTasksShareALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkplace(t)
		a := p.start("a", p.body("a", 0))
		second, err := a.manager.StartTask("second", p.body("a", 2*time.Second), taskmanager.WithLease(a.Lease("x")))
		require.NoError(t, err)
		p.next(2)
		assert.Equal(t, 1, p.server.Calls(leasetest.Claim))
		b := p.start("b", p.body("b", 0))
		require.NoError(t, a.task.Stop(t.Context()))
		time.Sleep(ttl)
		require.Len(t, p.all(), 2, "one of them still has it")
		require.NoError(t, second.Stop(t.Context()))
		assert.Equal(t, p.all()[1].ended, p.next(3).began)
		assert.Equal(t, taskmanager.StateRunning, b.task.State())
		assert.EqualValues(t, 2, p.all()[2].token)
	})
}

// Held says by what the run of a context holds its lease, as the store has it.
func TestHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		m := newManager(t)
		runs := map[string]context.Context{}
		start := func(name string, l lease.Lease) {
			_, failed := m.StartTask(name, func(ctx context.Context) error {
				runs[name] = ctx
				<-ctx.Done()
				return nil
			}, taskmanager.WithLease(l))
			require.NoError(t, failed)
			synctest.Wait()
		}
		start("one", a.Lease("x"))
		start("another", a.Lease("x"))
		start("many", a.OneOf("y", 1))
		for task, name := range map[string]string{"one": "x", "another": "x", "many": "y#0"} {
			c, found := a.Held(runs[task])
			require.True(t, found)
			id, token := server.Holder(name)
			assert.Equal(t, lease.Claim{Name: name, Token: token, Holder: id, Since: c.Since}, c)
			assert.False(t, c.Since.IsZero())
			_, found = b.Held(runs[task])
			assert.False(t, found, "the lease is another engine's")
		}
		_, ok := a.Held(t.Context())
		assert.False(t, ok, "there is no run")
		taken, err := a.Lease("other").Acquire(runs["many"], func(string) {})
		require.NoError(t, err)
		many, _ := m.Lookup("many")
		require.NoError(t, many.Pause(t.Context()))
		synctest.Wait()
		require.NoError(t, many.Resume())
		synctest.Wait()
		held, ok := a.Held(runs["many"])
		assert.True(t, ok)
		assert.Equal(t, "y#0", held.Name, "not what the body has taken besides")
		assert.Equal(t, uint64(2), held.Token, "it was released, and claimed again")
		taken.Release()

		require.NoError(t, m.StopTask(t.Context(), "one"))
		_, ok = a.Held(runs["one"])
		assert.False(t, ok, "the run is over")
		_, ok = a.Held(runs["another"])
		assert.True(t, ok)

		require.NoError(t, m.Shutdown(t.Context()))
		requireIdle(t, server, a, b)
	})
}

// The tasks of a leased group have no token but by the context of the group's run, or the same lease.
func TestTokenOfGroup(t *testing.T) {
	type groupKey struct{}
	withGroup := func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
		return func(ctx context.Context) error { return next(context.WithValue(ctx, groupKey{}, ctx)) }
	}
	synctest.Test(t, func(t *testing.T) {
		p := newWorkplace(t)
		r := newReplica(t, p.server, "a")
		type found struct {
			token uint64
			held  lease.Claim
		}
		var mu sync.Mutex
		seen := map[string]found{}
		look := func(ctx context.Context, name string) {
			token, ok := taskmanager.LeaseToken(ctx)
			held, isHeld := r.Held(ctx)
			assert.Equal(t, ok, isHeld)
			mu.Lock()
			defer mu.Unlock()
			seen[name] = found{token, held}
		}
		w := p.startOn(r, taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("plain", func(ctx context.Context) error {
				look(ctx, "plain")
				look(ctx.Value(groupKey{}).(context.Context), "group")
				<-ctx.Done()
				return nil
			})
			_, other := m.StartTask("leased", func(ctx context.Context) error {
				look(ctx, "leased")
				<-ctx.Done()
				return nil
			}, taskmanager.WithLease(r.Lease("x")))
			return errors.Join(err, other)
		}), taskmanager.WithMiddleware(withGroup))
		for token := uint64(1); token <= 2; token++ { // the second one after a loss
			time.Sleep(2 * ttl)
			synctest.Wait()
			mu.Lock()
			require.Len(t, seen, 3)
			assert.Equal(t, found{}, seen["plain"])
			assert.Equal(t, token, seen["group"].token)
			assert.Equal(t, seen["group"], seen["leased"])
			assert.Equal(t, "x", seen["group"].held.Name)
			assert.Equal(t, token, seen["group"].held.Token)
			clear(seen)
			mu.Unlock()
			if token == 1 {
				p.server.Cut()
				time.Sleep(2 * ttl)
				p.server.Restore()
			}
		}
		w.end()
		requireIdle(t, p.server, r)
	})
}
