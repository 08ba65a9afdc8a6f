package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// mutually starts n tasks, whose bodies call stop at the same time, once, with their number and context, and then return when
// they are asked to. It returns them, and what stop has returned when all have.
func mutually(t *testing.T, m *taskmanager.Manager, n int, stop func(ctx context.Context, i int) error) (tasks []*taskmanager.Task, errs []error) {
	t.Helper()
	var all sync.WaitGroup
	gate := make(chan struct{})
	errs = make([]error, n)
	for i := range n {
		all.Add(1)
		tasks = append(tasks, start(t, m, fmt.Sprint("t", i), func(ctx context.Context) error {
			if self, _ := taskmanager.FromContext(ctx); self.Stats().Runs == 1 {
				<-gate
				errs[i] = stop(ctx, i)
				all.Done()
			}
			return untilStopped(ctx)
		}))
	}
	synctest.Wait()
	close(gate)
	all.Wait()
	return tasks, errs
}

// notStuck asserts that err is what a stop may return in whose body's way another one comes: nil, the cause of the end of the
// body's own context, or that the other has ended already.
func notStuck(t *testing.T, err error) {
	t.Helper()
	for _, allowed := range []error{nil, taskmanager.ErrStopped, taskmanager.ErrShutdown, taskmanager.ErrRestarted, taskmanager.ErrTaskNotRunning} {
		if errors.Is(err, allowed) {
			return
		}
	}
	assert.NoError(t, err)
}

// Bodies that stop each other are asked, and none waits for another one that waits for it.
func TestMutualStop(t *testing.T) {
	next := func(i, n int) string { return fmt.Sprint("t", (i+1)%n) }
	for title, stop := range map[string]func(ctx context.Context, m *taskmanager.Manager, i, n int) error{
		"StopAll":  func(ctx context.Context, m *taskmanager.Manager, _, _ int) error { return m.StopAll(ctx) },
		"Shutdown": func(ctx context.Context, m *taskmanager.Manager, _, _ int) error { return m.Shutdown(ctx) },
		"StopTask": func(ctx context.Context, m *taskmanager.Manager, i, n int) error { return m.StopTask(ctx, next(i, n)) },
		"a derived context": func(ctx context.Context, m *taskmanager.Manager, i, n int) error {
			ctx, cancel := context.WithTimeout(withValue(foreignContext{ctx}), time.Hour)
			defer cancel()
			return m.StopTask(ctx, next(i, n))
		},
		"StopAll and StopTask": func(ctx context.Context, m *taskmanager.Manager, i, n int) error {
			if i == 0 {
				return m.StopAll(ctx)
			}
			return m.StopTask(ctx, "t0")
		},
		"the stop of one by the others, who are stopped by it": func(ctx context.Context, m *taskmanager.Manager, i, n int) error {
			if i > 0 {
				return m.StopTask(ctx, "t0")
			}
			return m.Shutdown(ctx)
		},
	} {
		for _, n := range []int{2, 3, 10} {
			t.Run(fmt.Sprint(title, " by ", n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := mustNew(t)
					events := m.Subscribe(t.Context())
					began := time.Now()
					tasks, errs := mutually(t, m, n, func(ctx context.Context, i int) error { return stop(ctx, m, i, n) })
					for i, task := range tasks {
						require.NoError(t, task.Wait(t.Context()))
						assert.Equal(t, taskmanager.StateStopped, task.State())
						notStuck(t, errs[i])
					}
					took(t, 0, began)
					assert.Empty(t, ofKind(taskmanager.EventStuck, pending(events)))
				})
			})
		}
	}
}

// Three bodies stop each other in a ring, one after the other: the last one finds out that the first waits for it by way of the
// second.
func TestMutualStopInARing(t *testing.T) {
	for _, backwards := range []bool{false, true} { // the second to call stops the first, or the other way round
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			events := m.Subscribe(t.Context())
			began := time.Now()
			var tasks []*taskmanager.Task
			for i := range 3 {
				next := fmt.Sprint("t", (i+1)%3)
				if backwards {
					next = fmt.Sprint("t", (i+2)%3)
				}
				tasks = append(tasks, start(t, m, fmt.Sprint("t", i), func(ctx context.Context) error {
					time.Sleep(time.Duration(i+1) * time.Second)
					err := m.StopTask(context.WithoutCancel(ctx), next)
					notStuck(t, err)
					return err
				}))
			}
			for _, task := range tasks {
				require.NoError(t, task.Wait(t.Context()))
				assert.Equal(t, taskmanager.StateStopped, task.State())
			}
			took(t, 3*time.Second, began)
			assert.Empty(t, ofKind(taskmanager.EventStuck, pending(events)))
		})
	}
}

// Bodies that restart each other: each is restarted, for none waits for another one that waits for it.
func TestMutualRestart(t *testing.T) {
	for _, n := range []int{2, 3, 10} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				events := m.Subscribe(t.Context())
				began := time.Now()
				tasks, errs := mutually(t, m, n, func(ctx context.Context, i int) error {
					return m.RestartTask(ctx, fmt.Sprint("t", (i+1)%n))
				})
				for i, task := range tasks {
					assert.Equal(t, taskmanager.StateRunning, settled(task))
					assert.EqualValues(t, 2, task.Stats().Runs)
					notStuck(t, errs[i])
				}
				took(t, 0, began)
				assert.Empty(t, ofKind(taskmanager.EventStuck, pending(events)))
			})
		})
	}
}

// A task of a group that stops the group, whose neighbor's body stops that task's group likewise.
func TestMutualStopAcrossAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		events := m.Subscribe(t.Context())
		gate := make(chan struct{})
		stopAll := func(ctx context.Context) error {
			<-gate
			assert.NoError(t, m.StopAll(ctx))
			return untilStopped(ctx)
		}
		var tasks []*taskmanager.Task
		for _, name := range []string{"g", "h"} {
			tasks = append(tasks, start(t, m, name, taskmanager.Group(func(g *taskmanager.Manager) error {
				_, err := g.StartTask("a", stopAll)
				return err
			}, taskmanager.WithLogger(slog.New(slog.DiscardHandler)))))
		}
		tasks = append(tasks, start(t, m, "b", stopAll))
		synctest.Wait()
		began := time.Now()
		close(gate)
		for _, task := range tasks {
			require.NoError(t, task.Wait(t.Context()))
		}
		took(t, 0, began)
		assert.Empty(t, ofKind(taskmanager.EventStuck, pending(events)))
	})
}

// A body that waits for its neighbor, who does not wait for it, does wait; and is not waited for by whom it waits for.
func TestMutualStopIsNotAssumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "slow", slowToStop(3*time.Second))
		synctest.Wait()
		began := time.Now()
		caller := start(t, m, "caller", func(ctx context.Context) error {
			err := m.StopTask(ctx, "slow")
			took(t, 3*time.Second, began)
			return err
		})
		require.NoError(t, caller.Wait(t.Context()))
		took(t, 3*time.Second, began)
		assert.Equal(t, taskmanager.StateCompleted, caller.State())

		// Nor is it when the one has done with its stop before.
		one := start(t, m, "one", func(ctx context.Context) error {
			assert.ErrorIs(t, m.StopTask(ctx, "nobody"), taskmanager.ErrTaskNotFound)
			return slowToStop(time.Second)(ctx)
		})
		synctest.Wait()
		began = time.Now()
		other := start(t, m, "other", func(ctx context.Context) error { return m.StopTask(ctx, "one") })
		require.NoError(t, other.Wait(t.Context()))
		took(t, time.Second, began)
		assert.Equal(t, taskmanager.StateStopped, one.State())
	})
}

// With a context that is not the body's, nobody can know who calls: the stop times out, and its error says that the body waits.
func TestMutualStopWithAForeignContext(t *testing.T) {
	for title, stop := range map[string]func(m *taskmanager.Manager, i int) error{
		"StopAll": func(m *taskmanager.Manager, _ int) error { return m.StopAll(context.Background()) },
		"StopTask": func(m *taskmanager.Manager, i int) error {
			return m.StopTask(context.Background(), fmt.Sprint("t", 1-i))
		},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				began := time.Now()
				tasks, errs := mutually(t, m, 2, func(_ context.Context, i int) error { return stop(m, i) })
				took(t, 5*time.Second, began)
				for _, task := range tasks {
					require.NoError(t, task.Wait(t.Context()))
				}
				// When the second one looks, the other may have returned because of the first.
				err := errors.Join(errs...)
				var stuck *taskmanager.StopTimeoutError
				require.ErrorAs(t, err, &stuck)
				assert.ErrorContains(t, err, "its body waits for a stop of others, without the body's context")
				took(t, 5*time.Second, began)
			})
		})
	}
}

// A restart that does not return, because a method of its context panics, is not waited for any more: who stops the caller waits for it.
func TestMutualStopAfterARestartThatPanicked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		first := start(t, m, "first", func(ctx context.Context) error {
			time.Sleep(time.Second) // so that the second one executes
			assert.Panics(t, func() { _ = m.RestartTask(panickyContext{ctx}, "second") })
			return slowToStop(time.Second)(ctx)
		})
		second := start(t, m, "second", func(ctx context.Context) error {
			if self, _ := taskmanager.FromContext(ctx); self.Stats().Runs == 2 {
				time.Sleep(time.Second)
				began := time.Now()
				assert.NoError(t, m.StopTask(ctx, "first"))
				took(t, time.Second, began)
			}
			return slowToStop(time.Second)(ctx) // the restart waits
		})
		require.NoError(t, first.Wait(t.Context()))
		assert.EqualValues(t, 2, second.Stats().Runs)
	})
}
