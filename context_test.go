package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// contextOf starts a task that runs until it is stopped, and returns it with the context of its run.
func contextOf(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) (*taskmanager.Task, context.Context) {
	t.Helper()
	given := make(chan context.Context, 1)
	task := start(t, m, "a", func(ctx context.Context) error {
		given <- ctx
		return untilStopped(ctx)
	}, opts...)
	return task, <-given
}

func isDone(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

func TestContextOfARunThatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithTimeout(context.WithValue(context.Background(), contextKey{}, "value"), time.Hour)
		defer cancel()
		m := newManager(t, taskmanager.WithContext(parent))
		task, ctx := contextOf(t, m)

		require.NoError(t, ctx.Err())
		require.NoError(t, context.Cause(ctx))
		assert.False(t, isDone(ctx))
		done := ctx.Done()
		assert.Equal(t, done, ctx.Done(), "the same channel each time")
		deadline, ok := ctx.Deadline()
		assert.False(t, ok, "the task would end in its turn, perhaps later than its parent")
		assert.Zero(t, deadline)
		assert.Equal(t, "value", ctx.Value(contextKey{}))
		assert.Nil(t, ctx.Value("nothing"))
		assert.Equal(t, "taskmanager.Task(a)", fmt.Sprint(ctx))

		found, ok := taskmanager.FromContext(ctx)
		assert.True(t, ok)
		assert.Same(t, task, found)
	})
}

func withCancel(t *testing.T, parent context.Context) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(parent)
	t.Cleanup(cancel)
	return ctx
}

func TestContextCauses(t *testing.T) {
	over := errors.New("over")
	tests := map[string]struct {
		end   func(m *taskmanager.Manager, endParent context.CancelCauseFunc) error
		cause error
	}{
		"StopTask": {
			func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
				return m.StopTask(context.Background(), "a")
			}, taskmanager.ErrStopped,
		},
		"Task.Stop": {
			func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
				task, _ := m.Lookup("a")
				return task.Stop(context.Background())
			}, taskmanager.ErrStopped,
		},
		"StopAll": {
			func(m *taskmanager.Manager, _ context.CancelCauseFunc) error { return m.StopAll(context.Background()) }, taskmanager.ErrStopped,
		},
		"Shutdown": {
			func(m *taskmanager.Manager, _ context.CancelCauseFunc) error { return m.Shutdown(context.Background()) }, taskmanager.ErrShutdown,
		},
		"Run": {
			func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				return m.Run(ctx)
			}, taskmanager.ErrShutdown,
		},
		"RestartTask": {
			func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
				return m.RestartTask(context.Background(), "a")
			}, taskmanager.ErrRestarted,
		},
		"the parent context": {
			func(_ *taskmanager.Manager, endParent context.CancelCauseFunc) error {
				endParent(over)
				return nil
			}, over,
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, endParent := context.WithCancelCause(context.Background())
				defer endParent(nil)
				m := newManager(t, taskmanager.WithContext(parent))
				type seen struct{ cause, err, childCause error }
				got := make(chan seen, 2)
				start(t, m, "a", func(ctx context.Context) error {
					child := withCancel(t, ctx)
					<-child.Done()
					got <- seen{context.Cause(ctx), ctx.Err(), context.Cause(child)}
					return nil
				})
				synctest.Wait()
				require.NoError(t, test.end(m, endParent))
				assert.Equal(t, seen{test.cause, context.Canceled, test.cause}, <-got)
			})
		})
	}
}

func TestContextEndsWithTheDeadlineOfTheParent(t *testing.T) {
	for title, cause := range map[string]error{"without a cause": nil, "with a cause": errBoom} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithTimeoutCause(context.Background(), time.Minute, cause)
				defer cancel()
				m := newManager(t, taskmanager.WithContext(parent))
				task, ctx := contextOf(t, m)
				child := withCancel(t, ctx)
				begin := time.Now()
				<-ctx.Done()
				assert.Equal(t, time.Minute, time.Since(begin))
				assert.Equal(t, context.Canceled, ctx.Err(), "the deadline is the parent's; the task was asked to stop")
				want := cause
				if cause == nil {
					want = context.DeadlineExceeded
				}
				assert.Equal(t, want, context.Cause(ctx))
				<-child.Done()
				assert.Equal(t, context.Canceled, child.Err())
				assert.Equal(t, want, context.Cause(child))
				<-task.Done()
				assert.Equal(t, taskmanager.StateStopped, task.State())
				assert.Equal(t, context.Canceled, ctx.Err(), "what it has once said holds")
				assert.Equal(t, want, context.Cause(ctx))
			})
		})
	}
}

// A view is what can be seen of a context.
type view struct {
	done, hasDeadline bool
	deadline          time.Time
	err, cause        error
	value             any
}

func viewOf(ctx context.Context) view {
	v := view{cause: context.Cause(ctx)} // first, for an error must be there when its cause is
	v.err, v.done, v.value = ctx.Err(), isDone(ctx), ctx.Value(contextKey{})
	v.deadline, v.hasDeadline = ctx.Deadline()
	return v
}

// A keyFinder finds the key by which package context asks for a context of its own.
type keyFinder struct {
	context.Context
	key any
}

func (f *keyFinder) Err() error { return context.Canceled }

func (f *keyFinder) Value(key any) any {
	f.key = key
	return nil
}

// standardError is the error of that context of package context from which ctx has its cause. Up to Go 1.25, Cause asks it
// before ctx.
func standardError(ctx context.Context) error {
	var f keyFinder
	_ = context.Cause(&f)
	if standard, ok := ctx.Value(f.key).(context.Context); ok {
		return standard.Err()
	}
	return nil
}

// withTimeout returns a child that would end d from now.
func withTimeout(t *testing.T, parent context.Context, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(parent, d, errBoom)
	t.Cleanup(cancel)
	return ctx
}

// descendants returns a context, and children of all kinds, by their kind.
func descendants(t *testing.T, ctx context.Context) map[string]context.Context {
	t.Helper()
	canceled, cancel := context.WithCancelCause(ctx)
	cancel(errBoom)
	return map[string]context.Context{
		"itself":                              ctx,
		"WithValue":                           withValue(ctx),
		"WithCancel":                          withCancel(t, ctx),
		"WithCancel, canceled":                canceled,
		"WithCancel of WithValue":             withCancel(t, withValue(ctx)),
		"WithValue of WithCancel":             withValue(withCancel(t, ctx)),
		"WithTimeout, in time":                withTimeout(t, ctx, time.Second),
		"WithTimeout, before the parent's":    withTimeout(t, ctx, 30*time.Minute),
		"WithTimeout, after the parent's":     withTimeout(t, ctx, 2*time.Hour),
		"WithTimeout of WithValue":            withTimeout(t, withValue(ctx), 2*time.Hour),
		"WithoutCancel":                       context.WithoutCancel(ctx),
		"WithCancel of WithoutCancel":         withCancel(t, context.WithoutCancel(ctx)),
		"WithoutCancel of WithCancel":         context.WithoutCancel(withCancel(t, ctx)),
		"of a foreign type":                   foreignContext{ctx},
		"WithCancel of one of a foreign type": withCancel(t, foreignContext{ctx}),
	}
}

// A subject is a context in a comparison, and what ends it.
type subject struct {
	ctx context.Context
	end func()
}

// story returns what can be seen of a context and its children before its end and after it. The children are made before
// the end if early, and after the end besides.
func story(t *testing.T, s subject, early bool) []map[string]view {
	t.Helper()
	var (
		views []map[string]view
		all   []map[string]context.Context
		calls atomic.Int64 // of functions given to AfterFunc
	)
	look := func() {
		synctest.Wait()
		for _, contexts := range all {
			of := make(map[string]view)
			for kind, ctx := range contexts {
				of[kind] = viewOf(ctx)
			}
			views = append(views, of)
		}
		views = append(views, map[string]view{"calls": {value: calls.Load()}})
	}
	descend := func() {
		all = append(all, descendants(t, s.ctx))
		context.AfterFunc(s.ctx, func() { calls.Add(1) })
		context.AfterFunc(withValue(s.ctx), func() { calls.Add(10) })
		stop := context.AfterFunc(s.ctx, func() { calls.Add(100) })
		synctest.Wait()
		if stop() {
			calls.Add(1000)
		}
	}
	if early {
		descend()
		look()
		time.Sleep(time.Minute)
		look()
	}
	s.end()
	look()
	descend()
	look()
	return views
}

// A run's context is to be told from one of package context by its String at most.
func TestContextLooksLikeOneOfPackageContext(t *testing.T) {
	type endFunc func(m *taskmanager.Manager, returns chan<- error, endParent context.CancelCauseFunc) error
	// The body doesn't ask its context, so it has to be made to return when a stop has been asked for.
	asking := func(ask func(*taskmanager.Manager, context.Context) error) endFunc {
		return func(m *taskmanager.Manager, returns chan<- error, _ context.CancelCauseFunc) error {
			result := make(chan error, 1)
			go func() { result <- ask(m, context.Background()) }()
			synctest.Wait()
			returns <- nil
			return <-result
		}
	}
	ends := map[string]struct {
		cause error
		end   endFunc
	}{
		"stopped": {taskmanager.ErrStopped, asking((*taskmanager.Manager).StopAll)},
		"restarted": {taskmanager.ErrRestarted, asking(func(m *taskmanager.Manager, ctx context.Context) error {
			return m.RestartTask(ctx, "a")
		})},
		"shut down": {taskmanager.ErrShutdown, asking((*taskmanager.Manager).Shutdown)},
		"completed": {nil, func(_ *taskmanager.Manager, returns chan<- error, _ context.CancelCauseFunc) error {
			returns <- nil
			return nil
		}},
		"failed": {errBoom, func(_ *taskmanager.Manager, returns chan<- error, _ context.CancelCauseFunc) error {
			returns <- errBoom
			return nil
		}},
		"the parent canceled": {errWhy, func(_ *taskmanager.Manager, _ chan<- error, endParent context.CancelCauseFunc) error {
			endParent(errWhy)
			return nil
		}},
		"the parent's deadline": {context.DeadlineExceeded, func(*taskmanager.Manager, chan<- error, context.CancelCauseFunc) error {
			time.Sleep(time.Hour)
			return nil
		}},
	}
	for title, test := range ends {
		for _, early := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, asked early %v", title, early), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					// Each has a bubble's hour to itself; the times are made comparable.
					tell := func(subjectOf func(parent context.Context, endParent context.CancelCauseFunc) subject) []map[string]view {
						parent, endParent := context.WithCancelCause(context.WithValue(context.Background(), contextKey{}, "the parent's"))
						defer endParent(nil)
						parent, cancel := context.WithTimeout(parent, time.Hour)
						defer cancel()
						begin := time.Now()
						views := story(t, subjectOf(parent, endParent), early)
						for _, of := range views {
							for kind, v := range of {
								if v.hasDeadline {
									v.deadline = time.Time{}.Add(v.deadline.Sub(begin))
									of[kind] = v
								}
							}
						}
						return views
					}
					standard := tell(func(parent context.Context, _ context.CancelCauseFunc) subject {
						ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
						return subject{ctx, func() {
							if test.cause == context.DeadlineExceeded { //nolint:errorlint // it comes from the table
								time.Sleep(time.Hour)
							}
							cancel(test.cause)
						}}
					})
					ours := tell(func(parent context.Context, endParent context.CancelCauseFunc) subject {
						m := newManager(t, taskmanager.WithContext(parent), taskmanager.WithMaxRestarts(0))
						given, returns := make(chan context.Context, 1), make(chan error, 1)
						restarted := false
						start(t, m, "a", func(ctx context.Context) error {
							if restarted {
								return untilStopped(ctx)
							}
							restarted = true
							given <- ctx
							select {
							case err := <-returns:
								return err
							case <-parent.Done():
								return nil
							}
						})
						return subject{<-given, func() { require.NoError(t, test.end(m, returns, endParent)) }}
					})
					require.NotEmpty(t, ours)
					assert.Equal(t, standard, ours)
				})
			})
		}
	}
}

// While a task waits for its turn to stop, its parent has ended and its context has not: nothing of that end shows.
func TestContextWhileTheRunWaitsForItsTurn(t *testing.T) {
	const turn, late = time.Hour, 10 * time.Minute
	for title, parentOf := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"the parent is canceled": func(parent context.Context) (context.Context, context.CancelFunc) {
			parent, cancel := context.WithCancelCause(parent)
			timer := time.AfterFunc(time.Minute, func() { cancel(errWhy) })
			return parent, func() { timer.Stop() }
		},
		"its deadline passes": func(parent context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(parent, time.Minute, errWhy)
		},
	} {
		for _, early := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, asked early %v", title, early), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					begin := time.Now()
					parent, cancel := parentOf(t.Context())
					defer cancel()
					m := newManager(t, taskmanager.WithContext(parent), taskmanager.WithStopTimeout(2*turn))
					given, release := make(chan context.Context, 1), make(chan struct{})
					task := start(t, m, "a", func(ctx context.Context) error {
						given <- ctx
						<-release
						return nil
					})
					start(t, m, "dependent", slowToStop(turn), taskmanager.WithDependsOn("a"))
					ctx := <-given
					all := func() map[string]context.Context {
						return map[string]context.Context{
							"itself": ctx, "WithValue": withValue(ctx), "foreign": foreignContext{ctx}, "WithCancel": withCancel(t, ctx),
							"WithCancel of WithValue": withCancel(t, withValue(ctx)), "WithTimeout": withTimeout(t, ctx, 24*time.Hour),
						}
					}
					made := map[string]context.Context{}
					if early {
						made = all()
					}
					if early {
						child := withTimeout(t, ctx, time.Minute+late)
						defer func() { assert.Equal(t, context.DeadlineExceeded, child.Err()) }()
						context.AfterFunc(child, func() {
							assert.Equal(t, time.Minute+late, time.Since(begin), "a child has its own deadline and not its grandparent's")
							assert.Equal(t, errBoom, context.Cause(child))
						})
					}
					time.Sleep(time.Minute + late + time.Second)
					synctest.Wait()
					require.Error(t, parent.Err())
					look := func(contexts map[string]context.Context, want, cause error) {
						t.Helper()
						for kind, ctx := range contexts {
							v := viewOf(ctx)
							assert.Equal(t, cause, v.cause, kind)
							assert.Equal(t, want, v.err, kind)
							assert.Equal(t, want != nil, v.done, kind)
							assert.Equal(t, want, standardError(ctx), kind)
						}
					}
					look(made, nil, nil)
					if early {
						look(all(), nil, nil)
					} else {
						require.NoError(t, standardError(ctx))
						require.NoError(t, context.Cause(ctx))
						require.NoError(t, ctx.Err())
					}
					time.Sleep(turn - late)
					look(made, context.Canceled, errWhy)
					look(all(), context.Canceled, errWhy)
					close(release)
					<-task.Done()
				})
			})
		}
	}
}

// What a run has started with its context must not live on into the next one.
func TestContextEndsWithItsRun(t *testing.T) {
	for _, end := range ends() {
		t.Run(end.title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				var (
					ctx  context.Context
					left atomic.Bool
				)
				task := start(t, m, "a", func(c context.Context) error {
					if ctx != nil {
						assert.True(t, left.Load(), "what the first run has started is still there")
						assert.NoError(t, c.Err(), "each run has a context of its own")
						return untilStopped(c)
					}
					ctx = c
					go func() {
						<-c.Done()
						left.Store(true)
					}()
					time.Sleep(time.Second)
					return end.body()
				})
				time.Sleep(time.Second)
				synctest.Wait()
				assert.True(t, left.Load())
				assert.Equal(t, context.Canceled, ctx.Err())
				if end.text == "" {
					assert.Equal(t, context.Canceled, context.Cause(ctx))
				} else {
					require.EqualError(t, context.Cause(ctx), end.text, "the cause is how it ended")
					assert.Equal(t, task.Stats().LastError, context.Cause(ctx))
				}
				time.Sleep(time.Minute)
				synctest.Wait()
			})
		})
	}
}

// One that nobody had looked at before it ended is made to look as if somebody had.
func TestContextFirstAskedAfterItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task, ctx := contextOf(t, m)
		idle := make(chan context.Context, 1)
		<-start(t, m, "idle", func(ctx context.Context) error {
			idle <- ctx
			return errBoom
		}, taskmanager.WithMaxRestarts(0)).Done()
		untouched := <-idle
		assert.True(t, isDone(untouched))
		assert.Equal(t, errBoom, context.Cause(untouched))

		require.NoError(t, task.Stop(context.Background()))
		assert.True(t, isDone(ctx))
		child := withCancel(t, ctx)
		assert.True(t, isDone(child))
		assert.Equal(t, taskmanager.ErrStopped, context.Cause(child))
		assert.Equal(t, taskmanager.ErrStopped, context.Cause(context.WithValue(ctx, contextKey{}, 1)))
		require.NoError(t, context.Cause(context.WithoutCancel(ctx)))
		found, ok := taskmanager.FromContext(ctx)
		assert.True(t, ok)
		assert.Same(t, task, found)
		assert.Nil(t, ctx.Value(contextKey{}))
	})
}

// A run's context is a type of our own; that must not cost a goroutine for each child, be it a child of the context itself
// or of one that lies between.
func TestContextChildrenEndWithItWithoutAGoroutine(t *testing.T) {
	between := map[string]func(context.Context) context.Context{
		"itself":             func(ctx context.Context) context.Context { return ctx },
		"WithValue":          withValue,
		"WithValue twice":    func(ctx context.Context) context.Context { return withValue(withValue(ctx)) },
		"a foreign context":  func(ctx context.Context) context.Context { return foreignContext{ctx} },
		"of both, and again": func(ctx context.Context) context.Context { return foreignContext{withValue(foreignContext{ctx})} },
	}
	for title, between := range between {
		for watched, opts := range map[string][]taskmanager.TaskOption{"": nil, ", watched": {taskmanager.WithWatchdog(time.Hour)}} {
			t.Run(title+watched, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t)
					task, ctx := contextOf(t, m, opts...)
					before := goroutines()
					ctx = between(ctx)
					var children []context.Context
					for range 100 {
						timeout, cancel := context.WithTimeout(ctx, time.Hour)
						t.Cleanup(cancel)
						withCause, cancelCause := context.WithCancelCause(ctx)
						t.Cleanup(func() { cancelCause(nil) })
						children = append(children, withCancel(t, ctx), timeout, withCause, withCancel(t, timeout))
						t.Cleanup(func() { context.AfterFunc(ctx, func() {})() })
					}
					assert.Equal(t, before, goroutines())
					assert.Empty(t, labelsOf(t, "propagateCancel"), "where package context waits for a context that it can't attach to")
					for _, child := range children {
						require.NoError(t, child.Err())
					}
					time.Sleep(time.Minute)
					require.NoError(t, task.Stop(context.Background()))
					for _, child := range children {
						assert.True(t, isDone(child))
						assert.Equal(t, context.Canceled, child.Err())
						assert.Equal(t, taskmanager.ErrStopped, context.Cause(child))
					}
				})
			})
		}
	}
}

func TestContextChildrenEndOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task, ctx := contextOf(t, m)
		timeout, cancelTimeout := context.WithTimeout(ctx, time.Second)
		defer cancelTimeout()
		canceled, cancel := context.WithCancelCause(ctx)
		cancel(errBoom)
		assert.Equal(t, errBoom, context.Cause(canceled))
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Equal(t, context.DeadlineExceeded, timeout.Err())
		require.NoError(t, ctx.Err())
		assert.Equal(t, taskmanager.StateRunning, task.State())
		require.NoError(t, task.Stop(context.Background()))
		assert.Equal(t, errBoom, context.Cause(canceled))
		assert.Equal(t, context.DeadlineExceeded, context.Cause(timeout))
	})
}

// What is found in a context is found through one between, such as context.WithValue makes.
func TestContextChildrenOfAContextBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task, ctx := contextOf(t, m)
		child := withCancel(t, context.WithValue(ctx, contextKey{}, "value"))
		assert.Equal(t, "value", child.Value(contextKey{}))
		found, ok := taskmanager.FromContext(child)
		assert.True(t, ok)
		assert.Same(t, task, found)
		require.NoError(t, task.Stop(context.Background()))
		assert.True(t, isDone(child), "it has ended when the stop returns, and not some time later")
		assert.Equal(t, taskmanager.ErrStopped, context.Cause(child))
	})
}

func TestContextAfterFunc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task, ctx := contextOf(t, m)
		var called, stopped atomic.Int64
		context.AfterFunc(ctx, func() {
			assert.Equal(t, taskmanager.ErrStopped, context.Cause(ctx))
			called.Add(1)
		})
		stop := context.AfterFunc(ctx, func() { stopped.Add(1) })
		tooLate := context.AfterFunc(ctx, func() { called.Add(1) })
		synctest.Wait()
		assert.Zero(t, called.Load())
		assert.True(t, stop())
		assert.False(t, stop(), "it has been stopped before")

		require.NoError(t, task.Stop(context.Background()))
		synctest.Wait()
		assert.EqualValues(t, 2, called.Load())
		assert.Zero(t, stopped.Load())
		assert.False(t, stop())
		assert.False(t, tooLate())

		// On a context that has ended already.
		stop = context.AfterFunc(ctx, func() { called.Add(1) })
		synctest.Wait()
		assert.EqualValues(t, 3, called.Load())
		assert.False(t, stop())
	})
}

// labelsOf returns the label lines of the goroutines that are in a function whose name contains within.
func labelsOf(t *testing.T, within string) (labels []string) {
	t.Helper()
	var dump strings.Builder
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&dump, 1))
	for paragraph := range strings.SplitSeq(dump.String(), "\n\n") {
		if !strings.Contains(paragraph, within) {
			continue
		}
		_, line, _ := strings.Cut(paragraph, "# labels: ")
		line, _, _ = strings.Cut(line, "\n")
		labels = append(labels, line)
	}
	return labels
}

//go:noinline
func parkedInDo(ctx context.Context) { <-ctx.Done() }

//go:noinline
func parkedAfterDo(ctx context.Context) { <-ctx.Done() }

//go:noinline
func parkedChild(ctx context.Context) { <-ctx.Done() }

func TestContextKeepsTheTaskLabel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		labelled := func(name string, body taskmanager.TaskFunc) {
			start(t, m, name, func(ctx context.Context) error {
				label, ok := pprof.Label(ctx, "task")
				assert.True(t, ok)
				assert.Equal(t, name, label)
				return body(ctx)
			})
		}
		labelled("in", func(ctx context.Context) error {
			pprof.Do(ctx, pprof.Labels("step", "1"), func(ctx context.Context) {
				label, _ := pprof.Label(ctx, "task")
				assert.Equal(t, "in", label)
				found, ok := taskmanager.FromContext(ctx)
				assert.True(t, ok)
				assert.Equal(t, "in", found.Name())
				parkedInDo(ctx)
			})
			return nil
		})
		labelled("after", func(ctx context.Context) error {
			pprof.Do(ctx, pprof.Labels("step", "1"), func(context.Context) {})
			parkedAfterDo(ctx)
			return nil
		})
		labelled("child", func(ctx context.Context) error {
			go parkedChild(ctx)
			return untilStopped(ctx)
		})
		synctest.Wait()
		in := labelsOf(t, "parkedInDo")
		require.Len(t, in, 1)
		assert.Contains(t, in[0], `"task":"in"`)
		assert.Contains(t, in[0], `"step":"1"`)
		after := labelsOf(t, "parkedAfterDo")
		require.Len(t, after, 1)
		assert.Contains(t, after[0], `"task":"after"`)
		assert.NotContains(t, after[0], "step")
		child := labelsOf(t, "parkedChild")
		require.Len(t, child, 1)
		assert.Contains(t, child[0], `"task":"child"`)
	})
}

// A run has the task's labels, whatever the one before has set on the goroutine that they share, or on that which it exited.
func TestContextLabelsOfLaterRuns(t *testing.T) {
	labels := map[string]func(context.Context) context.Context{
		"none": func(context.Context) context.Context { return context.Background() },
		"others": func(context.Context) context.Context {
			return pprof.WithLabels(context.Background(), pprof.Labels("task", "b"))
		},
		"further ones": func(ctx context.Context) context.Context { return pprof.WithLabels(ctx, pprof.Labels("step", "1")) },
	}
	for title, labelled := range labels {
		for _, end := range ends() {
			if end.final {
				continue
			}
			t.Run(title+", "+end.title, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t, taskmanager.WithBackoff(0, 0))
					ran := false
					start(t, m, "a", func(ctx context.Context) error {
						if ran {
							parkedAfterDo(ctx)
							return nil
						}
						ran = true
						pprof.SetGoroutineLabels(labelled(ctx))
						return end.body()
					}, taskmanager.WithRestart(taskmanager.RestartAlways))
					synctest.Wait()
					labels := labelsOf(t, "parkedAfterDo")
					require.Len(t, labels, 1)
					assert.Contains(t, labels[0], `"task":"a"`)
					assert.NotContains(t, labels[0], "step")
				})
			})
		}
	}
}

// So its stack is found, too, when it is stuck.
func TestContextLabelsShowTheStackOfALaterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(0, 0))
		ran, release := false, make(chan struct{})
		task := start(t, m, "a", func(ctx context.Context) error {
			if ran {
				return ignoring(release)(ctx)
			}
			ran = true
			pprof.SetGoroutineLabels(context.Background())
			return errBoom
		})
		synctest.Wait()
		stuck := asStuck(t, task.Stop(t.Context()), "a", 5*time.Second)
		assert.Contains(t, string(stuck.Stack), "ignoring")
		close(release)
		<-task.Done()
	})
}

// A body can be tested without a Manager: what it calls with its context does nothing then.
func TestContextOfNoTask(t *testing.T) {
	ctx := context.WithValue(context.Background(), contextKey{}, "value")
	task, ok := taskmanager.FromContext(ctx)
	assert.Nil(t, task)
	assert.False(t, ok)
	taskmanager.SetStatus(ctx, "polling %d", 1)
}

func TestContextSetsTheStatusOfItsRunAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(0, 0))
		var first context.Context
		task := start(t, m, "a", func(ctx context.Context) error {
			if first == nil {
				first = ctx
				taskmanager.SetStatus(ctx, "run %d", 1)
				time.Sleep(time.Second)
				return errBoom
			}
			return untilStopped(ctx)
		})
		synctest.Wait()
		assert.Equal(t, "run 1", task.Stats().Status)
		time.Sleep(time.Second)
		synctest.Wait()
		assert.Empty(t, task.Stats().Status)
		taskmanager.SetStatus(first, "too late")
		assert.Empty(t, task.Stats().Status)
	})
}

func TestContextOfNestedManagers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var inner *taskmanager.Manager
		outer := start(t, m, "outer", func(ctx context.Context) error {
			inner = newManager(t, taskmanager.WithContext(ctx))
			task := start(t, inner, "inner", untilStopped)
			return task.Wait(context.Background())
		})
		synctest.Wait()
		task, _ := inner.Lookup("inner")
		require.NoError(t, outer.Stop(context.Background()))
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.Equal(t, taskmanager.StateStopped, outer.State())
		_, err := inner.StartTask("another", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
	})
}
