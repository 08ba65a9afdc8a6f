package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

type middleware = func(next taskmanager.TaskFunc) taskmanager.TaskFunc

// A steps is what bodies and middleware have done.
type steps struct {
	mu  sync.Mutex
	all []string
}

func (s *steps) add(step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, step)
}

func (s *steps) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.all, " ")
}

// around is middleware that notes when it is chained, entered and left.
func (s *steps) around(name string) middleware {
	return func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
		s.add("+" + name)
		return func(ctx context.Context) error {
			s.add(name + "(")
			defer s.add(")" + name)
			return next(ctx)
		}
	}
}

// traced is middleware that adds to the context in which run of which task it is.
func traced(next taskmanager.TaskFunc) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		task, _ := taskmanager.FromContext(ctx)
		run, _ := taskmanager.RunFromContext(ctx)
		return next(context.WithValue(ctx, contextKey{}, fmt.Sprintf("%s#%d", task.Name(), run)))
	}
}

// The Manager's come before the task's, the first is outermost, and they are chained once, whatever runs there are.
func TestMiddlewareOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s steps
		m := newManager(t, taskmanager.WithMiddleware(s.around("a"), s.around("b")), taskmanager.WithMiddleware(s.around("c")),
			taskmanager.WithBackoff(time.Second, time.Second))
		assert.Empty(t, s.String())
		own := []middleware{s.around("d")}
		option := taskmanager.WithMiddleware(own...)
		own[0] = nil // the option has its own copy
		task := start(t, m, "one", func(context.Context) error { s.add("body"); return errBoom }, option, taskmanager.WithMiddleware(s.around("e")),
			taskmanager.WithMaxRestarts(1))
		assert.True(t, strings.HasPrefix(s.String(), "+e +d +c +b +a"), s.String())
		require.Error(t, task.Wait(t.Context()))
		once := "a( b( c( d( e( body )e )d )c )b )a"
		assert.Equal(t, "+e +d +c +b +a "+once+" "+once, s.String())
		require.NoError(t, task.Restart(t.Context()))
		synctest.Wait()
		assert.Equal(t, "+e +d +c +b +a "+once+" "+once+" "+once, s.String(), "nor for another life")

		s = steps{}
		start(t, m, "two", func(context.Context) error { s.add("body"); return nil })
		synctest.Wait()
		assert.Equal(t, "+c +b +a a( b( c( body )c )b )a", s.String(), "what is the other task's is not this one's")
	})
}

// What can't be chained is refused, and named; nothing has changed then.
func TestMiddlewareThatIsRefused_Promise8(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := taskmanager.New(taskmanager.WithMiddleware(traced, nil))
		require.EqualError(t, err, "taskmanager: WithMiddleware(github.com/go-taskmanager/taskmanager_test.traced, nil): must not be nil")
		for name, test := range map[string]struct {
			mw   middleware
			text string
		}{
			"nil":         {nil, "taskmanager: WithMiddleware(nil): must not be nil"},
			"returns nil": {returnsNil, "taskmanager: WithMiddleware(github.com/go-taskmanager/taskmanager_test.returnsNil): returned nil"},
			"panics":      {panicsAtOnce, "taskmanager: WithMiddleware(github.com/go-taskmanager/taskmanager_test.panicsAtOnce): panicked: boom"},
			"panics with what panics": {
				func(taskmanager.TaskFunc) taskmanager.TaskFunc { panic(brokenError{}) },
				"panicked: taskmanager_test.brokenError, whose Error method panicked",
			},
		} {
			m := newManager(t)
			_, err := m.StartTask("a", untilStopped, taskmanager.WithMiddleware(traced, test.mw, traced))
			var refused *taskmanager.OptionError
			require.ErrorAs(t, err, &refused, name)
			assert.Equal(t, "WithMiddleware", refused.Option)
			if name != "nil" {
				assert.ErrorContains(t, err, test.text, name)
			}
			_, err = m.StartTask("a", untilStopped, taskmanager.WithMiddleware(test.mw))
			require.ErrorContains(t, err, test.text, name)
			assert.Equal(t, taskmanager.Totals{}, m.Totals())
			_, err = taskmanager.New(taskmanager.WithMiddleware(test.mw))
			assert.Equal(t, name == "nil", err != nil, "New chains nothing")

			task := start(t, m, "a", untilStopped)
			_, err = m.StartTask("a", untilStopped, taskmanager.WithMiddleware(test.mw))
			require.ErrorContains(t, err, test.text, name)
			assert.Equal(t, taskmanager.StateRunning, settled(task))
		}
	})
}

func returnsNil(taskmanager.TaskFunc) taskmanager.TaskFunc { return nil }

func panicsAtOnce(taskmanager.TaskFunc) taskmanager.TaskFunc { panic("boom") }

// However a run ends, with middleware around it that only looks, it has ended as without.
func TestMiddlewareIsTransparent(t *testing.T) {
	for _, e := range ends() {
		synctest.Test(t, func(t *testing.T) {
			m := observed(t, taskmanager.WithBackoff(time.Hour, time.Hour))
			var deferred steps
			body := func(context.Context) error { return e.body() }
			plain := start(t, m, "plain", body)
			around := start(t, m, "around", body, taskmanager.WithMiddleware(deferred.around("m"), traced, deferred.around("n")))
			synctest.Wait()
			a, b := plain.Stats(), around.Stats()
			assert.Equal(t, "+n +m m( n( )n )m", deferred.String())
			assert.Equal(t, a.State, b.State, e.title)
			assert.Equal(t, a.Failures, b.Failures, e.title)
			assert.Equal(t, a.Panics, b.Panics, e.title)
			if e.is != nil {
				assert.ErrorIs(t, b.LastError, e.is, e.title)
			}
			var panicked *taskmanager.PanicError
			if errors.As(b.LastError, &panicked) {
				assert.NotContains(t, strings.SplitN(string(panicked.Stack()), "\n", 2)[0], "middleware", "it begins where it panicked")
			}
			require.NoError(t, m.Shutdown(t.Context()))
		})
	}
}

// What middleware does by itself is judged as if the body had done it.
func TestMiddlewareIsPartOfTheBody(t *testing.T) {
	m := func(f func(next taskmanager.TaskFunc, ctx context.Context) error) middleware {
		return func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
			return func(ctx context.Context) error { return f(next, ctx) }
		}
	}
	for name, test := range map[string]struct {
		mw     middleware
		body   taskmanager.TaskFunc
		state  taskmanager.State
		fails  error
		bodies int
	}{
		"never calls next": {
			mw:   m(func(taskmanager.TaskFunc, context.Context) error { return nil }),
			body: boom, state: taskmanager.StateCompleted,
		},
		"calls it twice": {
			mw:   m(func(next taskmanager.TaskFunc, ctx context.Context) error { return errors.Join(next(ctx), next(ctx)) }),
			body: func(context.Context) error { return nil }, state: taskmanager.StateCompleted, bodies: 2,
		},
		"calls it until it succeeds, each in its own context": {
			mw: m(func(next taskmanager.TaskFunc, ctx context.Context) error {
				for range 3 {
					if next(withValue(ctx)) == nil {
						return nil
					}
				}
				return errWhy
			}),
			body: boom, state: taskmanager.StateBackoff, fails: errWhy, bodies: 3,
		},
		"calls it concurrently": {
			mw: m(func(next taskmanager.TaskFunc, ctx context.Context) error {
				errs := make(chan error)
				for range 2 {
					go func() { errs <- next(withValue(ctx)) }()
				}
				return errors.Join(<-errs, <-errs)
			}),
			body: boom, state: taskmanager.StateBackoff, fails: errBoom, bodies: 2,
		},
		"hides an error": {
			mw:   m(func(next taskmanager.TaskFunc, ctx context.Context) error { _ = next(ctx); return nil }),
			body: boom, state: taskmanager.StateCompleted, bodies: 1,
		},
		"makes an error of a panic": {
			mw: m(func(next taskmanager.TaskFunc, ctx context.Context) (err error) {
				defer func() {
					if recover() != nil {
						err = errWhy
					}
				}()
				return next(ctx)
			}),
			body: func(context.Context) error { panic("boom") }, state: taskmanager.StateBackoff, fails: errWhy, bodies: 1,
		},
		"panics before": {
			mw:   m(func(taskmanager.TaskFunc, context.Context) error { panic(errWhy) }),
			body: boom, state: taskmanager.StateBackoff, fails: errWhy,
		},
		"panics after": {
			mw:   m(func(next taskmanager.TaskFunc, ctx context.Context) error { _ = next(ctx); panic(errWhy) }),
			body: boom, state: taskmanager.StateBackoff, fails: errWhy, bodies: 1,
		},
		"exits": {
			mw:   m(func(taskmanager.TaskFunc, context.Context) error { runtime.Goexit(); return nil }),
			body: boom, state: taskmanager.StateBackoff, fails: taskmanager.ErrGoexit,
		},
		"has no context for it": {
			mw: m(func(next taskmanager.TaskFunc, _ context.Context) error { return next(nil) }),
			body: func(ctx context.Context) error {
				if ctx == nil {
					return errWhy
				}
				return nil
			},
			state: taskmanager.StateBackoff, fails: errWhy, bodies: 1,
		},
		"has another context for it": {
			mw: m(func(next taskmanager.TaskFunc, _ context.Context) error { return next(context.Background()) }),
			body: func(ctx context.Context) error {
				taskmanager.SetStatus(ctx, "not seen")
				_, ok := taskmanager.FromContext(ctx)
				return errors.Join(errWhy, map[bool]error{true: errBoom}[ok])
			},
			state: taskmanager.StateBackoff, fails: errWhy, bodies: 1,
		},
		"ends the context early": {
			mw: m(func(next taskmanager.TaskFunc, ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				return next(ctx)
			}),
			body: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, state: taskmanager.StateBackoff,
			fails: context.DeadlineExceeded, bodies: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				manager := observed(t, taskmanager.WithBackoff(time.Hour, time.Hour))
				var bodies steps
				task := start(t, manager, "a", func(ctx context.Context) error { bodies.add("x"); return test.body(ctx) },
					taskmanager.WithMiddleware(traced, test.mw))
				time.Sleep(time.Minute)
				assert.Equal(t, test.state, settled(task))
				assert.Equal(t, strings.TrimSpace(strings.Repeat("x ", test.bodies)), bodies.String())
				require.ErrorIs(t, task.Stats().LastError, test.fails)
				assert.Empty(t, task.Stats().Status)
				require.NoError(t, manager.Shutdown(t.Context()))
			})
		})
	}
}

// A body that returns while its middleware goes on has not ended, whatever its middleware waits for.
func TestMiddlewareThatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		release := make(chan struct{})
		task := start(t, m, "a", untilStopped, taskmanager.WithMiddleware(func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
			return func(ctx context.Context) error {
				defer waitsInMiddleware(release)
				return next(ctx)
			}
		}))
		synctest.Wait()
		stuck := asStuck(t, task.Stop(t.Context()), "a", 5*time.Second)
		assert.Contains(t, string(stuck.Stack), "waitsInMiddleware")
		_, err := m.StartTask("a", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
		close(release)
		require.NoError(t, task.Wait(t.Context()))
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

//go:noinline
func waitsInMiddleware(release <-chan struct{}) { <-release }

// A context to which middleware has added something is as good as the run's own: for package context, whose children take no goroutine,
// and for what this package finds by it.
func TestMiddlewareAddsToTheContext(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			contexts := make(chan context.Context, 1)
			task := start(t, m, "a", func(ctx context.Context) error { contexts <- ctx; return untilStopped(ctx) },
				taskmanager.WithReadiness(time.Minute), taskmanager.WithWatchdog(time.Minute), taskmanager.WithMiddleware(traced, traced,
					func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
						return func(ctx context.Context) error {
							if foreign {
								ctx = foreignContext{ctx}
							}
							return next(ctx)
						}
					}))
			ctx := <-contexts
			before := goroutines()
			var children []context.Context
			for range 1000 {
				children = append(children, withCancel(t, ctx))
			}
			assert.Equal(t, before, goroutines())

			assert.Equal(t, "a#1", ctx.Value(contextKey{}))
			assert.Same(t, task, mustTask(t, ctx))
			run, ok := taskmanager.RunFromContext(ctx)
			assert.True(t, ok)
			assert.EqualValues(t, 1, run)
			taskmanager.SetStatus(ctx, "fine")
			assert.Equal(t, "fine", task.Stats().Status)
			assert.False(t, task.Stats().Ready)
			taskmanager.Ready(ctx)
			assert.True(t, task.Stats().Ready)
			for range 3 {
				time.Sleep(50 * time.Second)
				taskmanager.Heartbeat(ctx)
			}
			assert.EqualValues(t, 0, task.Stats().Failures)
			draining := taskmanager.Draining(ctx)
			assert.False(t, hasClosed(draining))
			require.NoError(t, task.Stop(t.Context()))
			assert.True(t, hasClosed(draining))
			assert.Equal(t, taskmanager.ErrStopped, context.Cause(ctx))
			for _, child := range children {
				require.Equal(t, taskmanager.ErrStopped, context.Cause(child))
			}
		})
	}
}

// A late run is canceled and fails, with middleware around it or not: the time of the middleware counts.
func TestMiddlewareIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		slow := func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
			return func(ctx context.Context) error {
				time.Sleep(2 * time.Second)
				return next(ctx)
			}
		}
		watched := start(t, m, "watched", untilStopped, once(), taskmanager.WithMiddleware(slow, traced), taskmanager.WithWatchdog(time.Second))
		late := start(t, m, "late", untilStopped, once(), taskmanager.WithMiddleware(slow, traced), taskmanager.WithReadiness(time.Second))
		require.ErrorIs(t, watched.Wait(t.Context()), taskmanager.ErrWatchdog)
		require.ErrorIs(t, late.Wait(t.Context()), taskmanager.ErrNotReady)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// The same function fits the body of a task and a pass.
func TestMiddlewareFitsAPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		var s steps
		pass := func(ctx context.Context) error {
			s.add(fmt.Sprint(ctx.Value(contextKey{})))
			return nil
		}
		task := start(t, m, "a", taskmanager.Every(time.Second, s.around("pass")(traced(pass))), taskmanager.WithMiddleware(s.around("run")))
		time.Sleep(1500 * time.Millisecond)
		assert.False(t, nextPass(task).IsZero())
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, "+pass +run run( pass( a#1 )pass pass( a#1 )pass )run", s.String())
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// Around a group, its run is what is wrapped; its tasks have the middleware of its own Manager, and find what was added around them.
func TestMiddlewareAroundAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithMiddleware(traced))
		var s steps
		found := make(chan any, 1)
		group := start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("a", func(ctx context.Context) error {
				found <- ctx.Value(contextKey{})
				time.Sleep(10 * time.Second)
				taskmanager.Ready(ctx)
				return untilStopped(ctx)
			}, taskmanager.WithReadiness(time.Minute))
			return err
		}, taskmanager.WithMiddleware(s.around("inner"))), taskmanager.WithMiddleware(s.around("outer")), taskmanager.WithReadiness(time.Minute))
		assert.Equal(t, "group#1", <-found)
		before := goroutines()
		a, ok := group.Group().Lookup("a")
		require.True(t, ok)
		assert.Equal(t, []string{"group", "a"}, a.Path())
		assert.False(t, group.Stats().Ready)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.True(t, group.Stats().Ready)
		assert.Equal(t, before, goroutines(), "to watch over the context of the run takes none")
		require.NoError(t, group.Restart(t.Context()))
		assert.Equal(t, "group#2", <-found)
		time.Sleep(10 * time.Second) // until it listens
		require.NoError(t, group.Stop(t.Context()))
		assert.Equal(t, "+outer outer( +inner inner( )inner )outer outer( +inner inner( )inner )outer", s.String())
	})
}
