package lease_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// grace is the default of WithStopTimeout: how long a body may take to return.
const grace = 5 * time.Second

// The next body begins within 200 ms of the end of the one before it, also where each call of the engine takes 20 ms, and without a call
// at once.
func TestGracefulHandOver(t *testing.T) {
	for name, stop := range map[string]func(w *worker){
		"task":    func(w *worker) { require.NoError(w.t, w.task.Stop(w.t.Context())) },
		"service": func(w *worker) { w.end() },
		"pause":   func(w *worker) { require.NoError(w.t, w.task.Pause(w.t.Context())) },
	} {
		for _, takes := range []time.Duration{0, time.Second, grace - 1} {
			for _, late := range []time.Duration{0, 20 * time.Millisecond} {
				t.Run(fmt.Sprintf("%s, body %v, engine %v", name, takes, late), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := newWorkplace(t)
						a := p.start("a", p.body("a", takes))
						p.next(1)
						time.Sleep(time.Second)
						b := p.start("b", p.body("b", takes))
						for _, r := range []*worker{a, b} {
							r.store.Faults(func(leasetest.Op) leasetest.Fault { return leasetest.Fault{Before: late / 2, After: late / 2} })
						}
						time.Sleep(10 * ttl)
						stop(a)
						next := p.next(2)
						p.requireNoOverlap()
						assert.Equal(t, "b", next.replica)
						took := next.began.Sub(p.all()[0].ended)
						assert.LessOrEqual(t, took, 200*time.Millisecond)
						if late == 0 {
							assert.Zero(t, took)
						}
					})
				})
			}
		}
	}
}

// Whenever a replica dies: the next one begins within a TTL and two beats.
func TestCrashOfAReplica(t *testing.T) {
	const steps = 16
	for i := range steps {
		for j := range 4 {
			synctest.Test(t, func(t *testing.T) {
				p := newWorkplace(t)
				a := p.start("a", p.body("a", 0))
				time.Sleep(beat * time.Duration(j) / 4)
				p.start("b", p.body("b", 0))
				time.Sleep(2*ttl + beat*time.Duration(i)/steps)
				died := time.Now()
				a.store.Cut()
				next := p.next(2)
				assert.Equal(t, "b", next.replica)
				assert.LessOrEqual(t, next.began.Sub(died), ttl+2*beat)
				p.requireNoOverlap()
				a.store.Restore()
			})
		}
	}
}

// The cases in which client-go's elector lets two lead at once, some of them for seconds, in each phase of the beats.
func TestHandOverWhereOthersOverlap(t *testing.T) {
	const phases = 8
	graceful := func(w *worker) { require.NoError(w.t, w.task.Stop(w.t.Context())) }
	hangs := func(w *worker) { w.store.Cut() }
	lateThenHangs := func(w *worker) {
		w.store.Next(leasetest.Beat, leasetest.Fault{After: 9 * time.Second})
		time.Sleep(9 * time.Second)
		w.store.Cut()
	}
	lateExecutedThenHangs := func(w *worker) {
		w.store.Next(leasetest.Beat, leasetest.Fault{Before: 9 * time.Second})
		time.Sleep(9 * time.Second)
		w.store.Cut()
	}
	for _, c := range []struct {
		name  string
		takes time.Duration // of the body, to return
		what  func(w *worker)
		most  time.Duration // from then on, until the next body begins
	}{
		{"graceful, the body takes its time", grace - 1, graceful, grace},
		{"graceful, the body returns at once", 0, graceful, 0},
		{"the engine hangs, the body takes its time", grace - 1, hangs, ttl + 2*beat},
		{"the engine hangs, the body returns at once", 0, hangs, ttl + 2*beat},
		{"an answer is late, the engine hangs, the body takes its time", grace - 1, lateThenHangs, 9*time.Second + ttl + 2*beat},
		{"an answer is late, the engine hangs, the body returns at once", 0, lateThenHangs, 9*time.Second + ttl + 2*beat},
		{"a beat is late, the engine hangs, the body takes its time", grace - 1, lateExecutedThenHangs, 9*time.Second + ttl + 2*beat},
		{"a beat is late, the engine hangs, the body returns at once", 0, lateExecutedThenHangs, 9*time.Second + ttl + 2*beat},
	} {
		t.Run(c.name, func(t *testing.T) {
			for phase := range phases {
				synctest.Test(t, func(t *testing.T) {
					p := newWorkplace(t)
					a := p.start("a", p.body("a", c.takes))
					time.Sleep(beat / 3)
					p.start("b", p.body("b", c.takes))
					time.Sleep(ttl + beat*time.Duration(phase)/phases)
					begin := time.Now()
					c.what(a)
					next := p.next(2)
					assert.Equal(t, "b", next.replica)
					assert.LessOrEqual(t, next.began.Sub(begin), c.most)
					p.requireNoOverlap()
					if c.most > grace {
						require.ErrorIs(t, p.all()[0].cause, taskmanager.ErrLeaseLost)
					}
					a.store.Restore()
				})
			}
		})
	}
}

// A body that ignores its stop: nobody else begins as long as its process shows that it is alive, and the others say why.
func TestBodyThatIgnoresItsStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkplace(t)
		begun := time.Now()
		end := make(chan struct{})
		a := p.start("pod-7", func(context.Context) error {
			<-end
			return nil
		})
		b := p.start("pod-8", p.body("pod-8", 0))
		require.Equal(t, `waits for lease "x", held by "pod-7" `+since(begun), b.task.Stats().Status)
		time.Sleep(2 * beat)
		require.Equal(t, `waits for lease "x", held by "pod-7" `+since(begun), b.task.Stats().Status)
		require.Error(t, a.task.Stop(t.Context()))
		require.Equal(t, taskmanager.StateStuck, a.task.State())
		time.Sleep(2 * beat)
		for range 20 {
			require.Empty(t, p.all())
			require.Equal(t, `waits for lease "x", held by "pod-7" (stuck) `+since(begun), b.task.Stats().Status)
			require.Equal(t, taskmanager.StateWaiting, b.task.State())
			time.Sleep(ttl)
		}
		closing, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorContains(t, a.Close(closing), `lease: still held: "x"`)
		close(end)
		require.Zero(t, time.Since(p.next(1).began))
		require.NoError(t, a.Close(t.Context()))
	})
}

// The same body, when its process dies: the next one begins as after any crash.
func TestCrashOfAStuckReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newWorkplace(t)
		end := make(chan struct{})
		a := p.start("a", func(context.Context) error {
			<-end
			return nil
		})
		p.start("b", p.body("b", 0))
		require.Error(t, a.task.Stop(t.Context()))
		time.Sleep(ttl)
		died := time.Now()
		a.store.Cut()
		assert.LessOrEqual(t, p.next(1).began.Sub(died), ttl+2*beat)
		close(end)
		a.store.Restore()
	})
}
