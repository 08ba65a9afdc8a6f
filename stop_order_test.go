package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestStopOrderIsThatOfTheDependencies(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		stop  func(ctx context.Context, m *taskmanager.Manager, endParent func()) error
		cause error
	}{
		"StopAll":  {func(ctx context.Context, m *taskmanager.Manager, _ func()) error { return m.StopAll(ctx) }, taskmanager.ErrStopped},
		"Shutdown": {func(ctx context.Context, m *taskmanager.Manager, _ func()) error { return m.Shutdown(ctx) }, taskmanager.ErrShutdown},
		"parent": {func(ctx context.Context, m *taskmanager.Manager, endParent func()) error {
			endParent()
			for task := range m.Tasks() {
				if err := task.Wait(ctx); err != nil {
					return err
				}
			}
			return nil
		}, errWhy},
		"Run and parent": {func(ctx context.Context, m *taskmanager.Manager, endParent func()) error {
			time.AfterFunc(0, endParent)
			return m.Run(ctx)
		}, errWhy},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancelCause(t.Context())
				lines := newLines(slog.LevelWarn)
				m := newManager(t, taskmanager.WithContext(parent), taskmanager.WithLogger(slog.New(lines)))
				log := newStopLog()
				chain(t, m, func(string) taskmanager.TaskFunc { return log.body(2 * s) })
				began := log.begin()
				require.NoError(t, c.stop(t.Context(), m, func() { cancel(errWhy) }))
				took(t, 6*s, began)
				assert.Equal(t, times{"c": 0, "e": 0, "b": 2 * s, "a": 4 * s}, log.times())
				for _, name := range []string{"a", "b", "c", "e"} {
					require.ErrorIs(t, log.cause(name), c.cause, name)
				}
				synctest.Wait() // the log is the last to hear
				assert.Empty(t, lines.got(), "nobody was stopped alone")
			})
		})
	}
}

// Two that depend on one are stopped together, and what is needed by both when the slower of them has stopped.
func TestStopOrderOfADiamond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		log := newStopLog()
		start(t, m, "a", log.body(0))
		start(t, m, "b", log.body(time.Second), dependsOn("a"))
		start(t, m, "c", log.body(3*time.Second), dependsOn("a"))
		start(t, m, "d", log.body(time.Second), dependsOn("b", "c"))
		start(t, m, "waits", log.body(0), dependsOn("d", "nobody"))
		began := log.begin()
		require.NoError(t, m.StopAll(t.Context()))
		took(t, 4*time.Second, began)
		assert.Equal(t, times{"d": 0, "b": time.Second, "c": time.Second, "a": 4 * time.Second}, log.times())
	})
}

// Tasks whose dependencies have ended are in nobody's way.
func TestStopOrderWhenTheLinkBetweenHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		log := newStopLog()
		chain(t, m, func(string) taskmanager.TaskFunc { return log.body(time.Second) })
		require.NoError(t, m.StopTask(t.Context(), "b"))
		log.begin()
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, times{"a": 0, "b": 0, "c": 0, "e": 0}, log.times())
	})
}

// What has ended needs no part of the deadline.
func TestStopOrderTakesNoTimeForWhatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		body := newDeafBody()
		start(t, m, "done", func(context.Context) error { return nil })
		synctest.Wait()
		start(t, m, "deaf", body.run, dependsOn("done"))
		start(t, m, "user", untilStopped, dependsOn("deaf"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		asStuck(t, m.StopAll(ctx), "deaf", 4*time.Second)
		body.release()
	})
}

// deafChain is chain with bodies that don't return before the test ends, and a Manager that the test need not shut down.
func deafChain(t *testing.T, opts ...taskmanager.Option) (*taskmanager.Manager, *stopLog) {
	t.Helper()
	release := make(chan struct{})
	m := newManager(t, opts...)
	t.Cleanup(func() { close(release) }) // before the Manager's
	log := newStopLog()
	chain(t, m, func(string) taskmanager.TaskFunc { return log.deaf(release) })
	return m, log
}

func TestStopOrderSharesTheDeadline(t *testing.T) {
	const s = time.Second
	timeouts := func(t *testing.T, err error) times {
		t.Helper()
		got := make(times)
		var collect func(err error)
		collect = func(err error) {
			if several, ok := err.(interface{ Unwrap() []error }); ok {
				for _, err := range several.Unwrap() {
					collect(err)
				}
				return
			}
			var stuck *taskmanager.StopTimeoutError
			require.ErrorAs(t, err, &stuck)
			assert.Contains(t, string(stuck.Stack), "deaf")
			got[stuck.Task] = stuck.Timeout
		}
		collect(err)
		return got
	}
	t.Run("of the context", func(t *testing.T) {
		for name, stop := range map[string]func(*taskmanager.Manager, context.Context) error{
			"StopAll": (*taskmanager.Manager).StopAll, "Shutdown": (*taskmanager.Manager).Shutdown,
		} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m, log := deafChain(t, taskmanager.WithStopTimeout(time.Hour))
					began := log.begin()
					ctx, cancel := context.WithTimeout(t.Context(), 9*s)
					defer cancel()
					err := stop(m, ctx)
					took(t, 9*s, began)
					assert.Equal(t, times{"c": 3 * s, "b": 3 * s, "a": 3 * s, "e": 9 * s}, timeouts(t, err))
					assert.Equal(t, times{"c": 0, "e": 0, "b": 3 * s, "a": 6 * s}, log.times())
				})
			})
		}
	})
	t.Run("each at most its stop timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, log := deafChain(t, taskmanager.WithStopTimeout(2*s))
			began := log.begin()
			ctx, cancel := context.WithTimeout(t.Context(), 9*s)
			defer cancel()
			assert.Equal(t, times{"c": 2 * s, "b": 2 * s, "a": 2 * s, "e": 2 * s}, timeouts(t, m.StopAll(ctx)))
			took(t, 6*s, began)
		})
	})
	t.Run("none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, log := deafChain(t)
			began := log.begin()
			assert.Equal(t, times{"c": 5 * s, "b": 5 * s, "a": 5 * s, "e": 5 * s}, timeouts(t, m.StopAll(t.Context())))
			took(t, 15*s, began)
			assert.Equal(t, times{"c": 0, "e": 0, "b": 5 * s, "a": 10 * s}, log.times())
		})
	})
	t.Run("what the first leaves is for the others", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			m := newManager(t, taskmanager.WithStopTimeout(time.Hour))
			t.Cleanup(func() { close(release) })
			log := newStopLog()
			chain(t, m, func(name string) taskmanager.TaskFunc {
				if name == "c" {
					return log.body(s)
				}
				return log.deaf(release)
			})
			log.begin()
			ctx, cancel := context.WithTimeout(t.Context(), 9*s)
			defer cancel()
			assert.Equal(t, times{"b": 4 * s, "a": 4 * s, "e": 9 * s}, timeouts(t, m.StopAll(ctx)))
			assert.Equal(t, times{"c": 0, "e": 0, "b": s, "a": 5 * s}, log.times())
		})
	})
	t.Run("by the longest chain of a diamond", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			m := newManager(t, taskmanager.WithStopTimeout(time.Hour))
			t.Cleanup(func() { close(release) })
			log := newStopLog()
			start(t, m, "a", log.deaf(release))
			start(t, m, "b", log.deaf(release), dependsOn("a"))
			start(t, m, "c", log.deaf(release), dependsOn("a"))
			synctest.Wait()
			start(t, m, "d", log.deaf(release), dependsOn("b", "c", "a"))
			start(t, m, "short", log.deaf(release), dependsOn("a"))
			log.begin()
			ctx, cancel := context.WithTimeout(t.Context(), 9*s)
			defer cancel()
			assert.Equal(t, times{"d": 3 * s, "b": 3 * s, "c": 3 * s, "a": 3 * s, "short": 9 * s / 2}, timeouts(t, m.StopAll(ctx)))
			assert.Equal(t, times{"d": 0, "short": 0, "b": 3 * s, "c": 3 * s, "a": 6 * s}, log.times())
		})
	})
	t.Run("by the longest chain", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, log := deafChain(t, taskmanager.WithStopTimeout(time.Hour))
			start(t, m, "d", boom, dependsOn("a")) // ends by itself, but is no further ahead than b
			synctest.Wait()
			began := log.begin()
			ctx, cancel := context.WithTimeout(t.Context(), 9*s)
			defer cancel()
			assert.Equal(t, times{"c": 3 * s, "b": 3 * s, "a": 3 * s, "e": 9 * s}, timeouts(t, m.StopAll(ctx)))
			took(t, 9*s, began)
		})
	})
}

// One that is stuck does not keep what it depends on from stopping in its turn.
func TestStopOrderWhenADependentIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelWarn)
		m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
		log := newStopLog()
		body := newDeafBody()
		start(t, m, "a", log.body(time.Second))
		start(t, m, "b", body.run, dependsOn("a"), taskmanager.WithStopTimeout(2*time.Second))
		began := log.begin()
		err := m.StopAll(t.Context())
		took(t, 3*time.Second, began)
		assert.Same(t, asStuck(t, err, "b", 2*time.Second), err, "there is one error, and it is returned as it is")
		assert.Equal(t, times{"a": 2 * time.Second}, log.times())
		_, err = m.StartTask("b", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrTaskRunning)

		// Again: it gets its time again, and what it depends on has none to wait for.
		start(t, m, "a", log.body(0))
		log.begin()
		asStuck(t, m.StopAll(t.Context()), "b", 2*time.Second)
		assert.Equal(t, times{"a": 2 * time.Second}, log.times())
		body.release()
		synctest.Wait()
		assert.False(t, m.IsRunning("b"))
		assert.Empty(t, lines.about("depend"), "a was not stopped alone")
	})
}

// Who asked has gone; what was asked for goes on, in order.
func TestStopOrderWhenTheContextEndsInTheMiddle(t *testing.T) {
	const s = time.Second
	t.Run("canceled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			log := newStopLog()
			chain(t, m, func(string) taskmanager.TaskFunc { return log.body(2 * s) })
			began := log.begin()
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(3*s, func() { cancel(errWhy) })
			err := m.StopAll(ctx)
			took(t, 3*s, began)
			assert.Same(t, errWhy, err)
			time.Sleep(time.Minute)
			assert.Equal(t, times{"c": 0, "e": 0, "b": 2 * s, "a": 4 * s}, log.times())
			assert.Equal(t, 4, m.Stats().Stopped)
		})
	})
	for i := range 20 { // the order in which it looks at them is undefined
		t.Run(fmt.Sprint("canceled, and its deadline still counts ", i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, log := deafChain(t, taskmanager.WithStopTimeout(time.Hour))
				began := log.begin()
				ctx, cancel := context.WithTimeout(t.Context(), 9*s)
				time.AfterFunc(4*s, cancel)
				err := m.StopAll(ctx)
				took(t, 4*s, began)
				require.ErrorIs(t, err, context.Canceled)
				assert.Equal(t, 1, strings.Count(err.Error(), context.Canceled.Error()), "it is said once")
				asStuck(t, err, "c", 3*s) // that is known by then
				time.Sleep(5*s - 1)
				synctest.Wait()
				assert.Equal(t, 2, m.Stats().Stuck)
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				assert.Equal(t, 4, m.Stats().Stuck)
				assert.Equal(t, times{"c": 0, "e": 0, "b": 3 * s, "a": 6 * s}, log.times())
			})
		})
	}
	t.Run("canceled already", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			log := newStopLog()
			chain(t, m, func(string) taskmanager.TaskFunc { return log.body(2 * s) })
			began := log.begin()
			err := m.StopAll(canceled(t))
			took(t, 0, began)
			assert.Equal(t, context.Canceled, err)
			time.Sleep(time.Minute)
			assert.Equal(t, times{"c": 0, "e": 0, "b": 2 * s, "a": 4 * s}, log.times())
		})
	})
	t.Run("past its deadline already", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, log := deafChain(t)
			ctx, cancel := context.WithDeadline(t.Context(), time.Now())
			defer cancel()
			began := log.begin()
			assert.Equal(t, context.DeadlineExceeded, m.StopAll(ctx))
			took(t, 0, began)
			time.Sleep(time.Minute)
			assert.Equal(t, times{"c": 0, "e": 0, "b": 5 * s, "a": 10 * s}, log.times())
		})
	})
	t.Run("without tasks on their own", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			log := newStopLog()
			start(t, m, "a", log.body(s))
			start(t, m, "b", log.body(s), dependsOn("a"))
			log.begin()
			assert.Equal(t, context.Canceled, m.StopAll(canceled(t)))
			time.Sleep(time.Minute)
			assert.Equal(t, times{"b": 0, "a": s}, log.times())
		})
	})
}

// A sluggishContext passes its deadline at the moment that its Err is asked for the second time, as it may when a
// million tasks have to be asked in between.
type sluggishContext struct {
	context.Context
	asked atomic.Int64
}

func (c *sluggishContext) Err() error {
	if c.asked.Add(1) == 2 {
		<-c.Done()
	}
	return c.Context.Err()
}

func TestStopOrderWhenTheDeadlinePassesWhileTasksAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, log := deafChain(t)
		began := log.begin()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, m.StopAll(&sluggishContext{Context: ctx}))
		took(t, time.Second, began)
	})
}

// The task that asks is not waited for, and neither is what can't stop before it has.
func TestStopOrderFromInsideAChain(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		caller string
		took   time.Duration
		asked  times
		other  bool // the caller is the body of a nested Manager
	}{
		"first":               {"c", 2 * s, times{"c": 0, "e": 0, "b": 3 * s, "a": 5 * s}, false},
		"in the middle":       {"b", 2 * s, times{"c": 0, "e": 0, "b": 2 * s, "a": 3 * s}, false},
		"last":                {"a", 4 * s, times{"c": 0, "e": 0, "b": 2 * s, "a": 4 * s}, false},
		"on its own":          {"e", 6 * s, times{"c": 0, "e": 0, "b": 2 * s, "a": 4 * s}, false},
		"from a nested first": {"b", 2 * s, times{"c": 0, "e": 0, "b": 2 * s, "a": 3 * s}, true},
	} {
		for how, stop := range map[string]func(*taskmanager.Manager, context.Context) error{
			"StopAll": (*taskmanager.Manager).StopAll, "Shutdown": (*taskmanager.Manager).Shutdown,
		} {
			t.Run(how+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t)
					log := newStopLog()
					begin := make(chan struct{})
					call := func(ctx context.Context) {
						<-begin
						began := time.Now()
						assert.NoError(t, stop(m, ctx))
						took(t, c.took, began)
					}
					chain(t, m, func(name string) taskmanager.TaskFunc {
						if name != c.caller {
							return log.body(2 * s)
						}
						return func(ctx context.Context) error {
							go log.note(ctx)
							if !c.other {
								call(ctx)
							} else {
								inner := mustNew(t, taskmanager.WithContext(ctx))
								task := start(t, inner, "inner", func(ctx context.Context) error {
									call(ctx)
									return nil
								})
								assert.NoError(t, task.Wait(context.Background()))
							}
							time.Sleep(s)
							return nil
						}
					})
					log.begin()
					close(begin)
					time.Sleep(time.Minute)
					assert.Equal(t, c.asked, log.times())
					assert.Equal(t, 4, m.Stats().Stopped)
				})
			})
		}
	}
}

// A chain in a nested Manager is stopped in order by the end of the task around it.
func TestStopOrderInANestedManager(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithStopTimeout(time.Minute))
		log := newStopLog()
		inner := mustNew(t)
		chain(t, inner, func(string) taskmanager.TaskFunc { return log.body(2 * s) })
		group := start(t, m, "group", inner.Run)
		began := log.begin()
		require.NoError(t, group.Stop(t.Context()))
		took(t, 6*s, began)
		assert.Equal(t, times{"c": 0, "e": 0, "b": 2 * s, "a": 4 * s}, log.times())
	})
}

// StopTask stops what it was asked to, at once, and tells the log who depends on it.
func TestStopOrderOfOneThatOthersDependOn(t *testing.T) {
	const warning = "WARN task was stopped, though others depend on it | task=db dependents="
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelWarn)
		m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
		start(t, m, "db", slowToStop(time.Second))
		b := start(t, m, `"b"`, untilStopped, dependsOn("db"))
		a := start(t, m, "a", untilStopped, dependsOn("db"))
		start(t, m, "else", untilStopped)
		for _, name := range []string{"c", "f", "e", "d"} {
			start(t, m, name, func(context.Context) error { time.Sleep(2 * time.Second); return nil }, dependsOn("db"))
		}
		synctest.Wait()
		began := time.Now()
		require.NoError(t, m.StopTask(t.Context(), "db"))
		took(t, time.Second, began)
		all := warning + `"b", a, c, d, e, f`
		synctest.Wait()
		assert.Equal(t, []string{all}, lines.got(), "by their names")
		time.Sleep(time.Second) // those others have completed
		assert.Equal(t, taskmanager.StateRunning, settled(a))
		assert.Equal(t, taskmanager.StateRunning, settled(b))

		// Nobody who has ended, and nobody when nobody is left, or somebody else is stopped or restarted.
		require.NoError(t, b.Stop(t.Context()))
		require.NoError(t, m.StopTask(t.Context(), "else"))
		db := start(t, m, "db", untilStopped)
		require.NoError(t, db.Restart(t.Context()))
		require.NoError(t, db.Stop(t.Context()))
		synctest.Wait()
		assert.Equal(t, []string{all, warning + "a"}, lines.got())
		require.NoError(t, a.Stop(t.Context()))
		require.NoError(t, db.Restart(t.Context()))
		require.NoError(t, db.Stop(t.Context()))
		synctest.Wait()
		assert.Len(t, lines.got(), 2)
	})
}

// Whenever a task is stopped with all others, nothing that depends on it executes: neither by StopAll the chain that was
// there before, nor by Shutdown anything else, while tasks are started, restarted and fail on all sides.
func TestStopOrderHoldsWhileTasksAreStarted(t *testing.T) {
	const layers, rounds = 4, 60
	for round := range rounds {
		w := newWitness(t, taskmanager.WithHistory(100))
		var chained, dependents [layers]atomic.Int64 // inside their bodies: of the chain, and those who depend on that layer
		inLayer := func(layer int) taskmanager.TaskFunc {
			return func(ctx context.Context) error {
				w.entered.Add(1)
				chained[layer].Add(1)
				<-ctx.Done()
				if layer+1 < layers {
					assert.Zero(t, chained[layer+1].Load(), "layer %d is stopped before the next", layer)
				}
				if errors.Is(context.Cause(ctx), taskmanager.ErrShutdown) {
					assert.Zero(t, dependents[layer].Load(), "layer %d is stopped before its dependents", layer)
				}
				chained[layer].Add(-1)
				w.left.Add(1)
				return nil
			}
		}
		name := func(layer int) string { return fmt.Sprint("layer ", layer) }
		startChain := func() {
			for _, layer := range rand.Perm(layers) {
				var opts []taskmanager.TaskOption
				if layer > 0 {
					opts = append(opts, dependsOn(name(layer-1)))
				}
				start(t, w.manager, name(layer), inLayer(layer), opts...)
			}
		}
		startChain()
		var (
			wg      sync.WaitGroup
			started atomic.Int64
		)
		for g := range 3 {
			wg.Go(func() {
				for i := range 5000 {
					layer := rand.IntN(layers)
					deps := []string{name(layer)}
					for range rand.IntN(3) {
						deps = append(deps, fmt.Sprintf("%d.%d", rand.IntN(3), max(0, i+rand.IntN(5)-3)))
					}
					_, err := w.manager.StartTask(fmt.Sprintf("%d.%d", g, i), func(ctx context.Context) error {
						dependents[layer].Add(1)
						defer dependents[layer].Add(-1)
						return w.body(ctx)
					}, dependsOn(deps...))
					var cycle *taskmanager.OptionError
					switch {
					case errors.Is(err, taskmanager.ErrManagerClosed):
						return
					case err != nil && !errors.As(err, &cycle):
						t.Error(err)
					}
					started.Add(1)
					runtime.Gosched()
				}
			})
		}
		enough := func(n int64) {
			for n += started.Load(); started.Load() < n || chained[layers-1].Load() == 0; {
				runtime.Gosched()
			}
		}
		enough(20)
		if round%2 == 0 {
			require.NoError(t, w.manager.StopAll(t.Context()))
			for layer := range layers {
				assert.Zero(t, chained[layer].Load())
			}
			startChain()
			enough(20)
		}
		wg.Go(func() { assert.NoError(t, w.manager.Shutdown(t.Context())) }) // twice at once
		require.NoError(t, w.manager.Shutdown(t.Context()))
		wg.Wait()
		w.settleUp()
	}
}

// A task that was stuck at its deadline was stuck, though it has returned while the stop still waited for others.
func TestStopOrderTellsOfATaskThatReturnsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "late", slowToStop(1500*time.Millisecond), taskmanager.WithStopTimeout(time.Second))
		start(t, m, "top", untilStopped, dependsOn("base"))
		start(t, m, "base", slowToStop(2*time.Second))
		synctest.Wait()
		began := time.Now()
		asStuck(t, m.StopAll(t.Context()), "late", time.Second)
		took(t, 2*time.Second, began)
		assert.NoError(t, m.StopAll(t.Context()))
	})
}

// The deadline of a stop in turns is that of its context: what it says then is who is stuck, not that the time is over.
func TestStopOrderByTheDeadlineOfItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		body := newDeafBody()
		start(t, m, "a", untilStopped)
		start(t, m, "b", body.run, taskmanager.WithDependsOn("a"))
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		asStuck(t, m.StopAll(ctx), "b", 2*time.Second) // its share
		took(t, 2*time.Second, began)
		body.release()
	})
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		first, second := newDeafBody(), newDeafBody()
		start(t, m, "a", first.run)
		start(t, m, "b", second.run, taskmanager.WithDependsOn("a"))
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		err := m.StopAll(ctx)
		assert.NotErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, []string{"a", "b"}, stuckIn(err))
		took(t, 4*time.Second, began)
		first.release()
		second.release()
	})
}

// Whoever cancels a stop in turns does not wait for any of them.
func TestStopOrderIsCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		body := newDeafBody()
		start(t, m, "a", untilStopped)
		start(t, m, "b", body.run, taskmanager.WithDependsOn("a"))
		synctest.Wait()
		began := time.Now()
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errWhy) })
		require.ErrorIs(t, m.StopAll(ctx), errWhy)
		took(t, time.Second, began)
		body.release()
	})
}

// The caller is one of those that stop in turns: it asks for its own stop, and waits for nobody who has to wait for it.
func TestStopOrderFromInsideATask(t *testing.T) {
	for _, caller := range []string{"a", "b"} {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			began := time.Now()
			body := func(name string) taskmanager.TaskFunc {
				return func(ctx context.Context) error {
					if name == caller {
						time.Sleep(time.Second)
						assert.NoError(t, m.StopAll(ctx))
						took(t, time.Second, began)
					}
					return untilStopped(ctx)
				}
			}
			a := start(t, m, "a", body("a"))
			b := start(t, m, "b", body("b"), taskmanager.WithDependsOn("a"))
			time.Sleep(time.Minute)
			assert.Equal(t, taskmanager.StateStopped, a.State())
			assert.Equal(t, taskmanager.StateStopped, b.State())
			assert.Equal(t, began.Add(time.Second), a.Stats().EndedAt.In(began.Location()))
		})
	}
}
