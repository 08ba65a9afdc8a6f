package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// contextOf starts a task that runs until it is stopped, and returns it with the context of its run.
func contextOf(t *testing.T, m *taskmanager.Manager) (*taskmanager.Task, context.Context) {
	t.Helper()
	given := make(chan context.Context, 1)
	task := start(t, m, "a", func(ctx context.Context) error {
		given <- ctx
		return untilStopped(ctx)
	})
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

type contextKey struct{}

func TestContextOfARunThatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deadline := time.Now().Add(time.Hour)
		parent, cancel := context.WithDeadline(context.WithValue(context.Background(), contextKey{}, "value"), deadline)
		defer cancel()
		m := newManager(t, taskmanager.WithContext(parent))
		task, ctx := contextOf(t, m)

		require.NoError(t, ctx.Err())
		require.NoError(t, context.Cause(ctx))
		assert.False(t, isDone(ctx))
		done := ctx.Done()
		assert.Equal(t, done, ctx.Done(), "the same channel each time")
		got, ok := ctx.Deadline()
		assert.True(t, ok)
		assert.Equal(t, deadline, got)
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
				assert.Equal(t, context.DeadlineExceeded, ctx.Err())
				want := cause
				if cause == nil {
					want = context.DeadlineExceeded
				}
				assert.Equal(t, want, context.Cause(ctx))
				<-child.Done()
				assert.Equal(t, context.DeadlineExceeded, child.Err())
				assert.Equal(t, want, context.Cause(child))
				<-task.Done()
				assert.Equal(t, taskmanager.StateStopped, task.State())
				assert.Equal(t, context.DeadlineExceeded, ctx.Err(), "what it has once said holds")
				assert.Equal(t, want, context.Cause(ctx))
			})
		})
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

// A run's context is a type of our own; that must not cost a goroutine for each child.
func TestContextChildrenEndWithItWithoutAGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task, ctx := contextOf(t, m)
		var children []context.Context
		for range 100 {
			timeout, cancel := context.WithTimeout(ctx, time.Hour)
			t.Cleanup(cancel)
			withCause, cancelCause := context.WithCancelCause(ctx)
			t.Cleanup(func() { cancelCause(nil) })
			children = append(children, withCancel(t, ctx), timeout, withCause, withCancel(t, timeout))
		}
		synctest.Wait()
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

// A context that hides the run's own, as context.WithValue makes, costs a goroutine for a cancellable child, which
// must end with the run: the bubble would not end otherwise.
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
		<-child.Done()
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

// Package context calls this method; a caller of its own is served the same way.
func TestContextAfterFuncOfTheRunItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task, ctx := contextOf(t, m)
		run, ok := ctx.(interface{ AfterFunc(func()) func() bool })
		require.True(t, ok)
		called := make(chan string, 3)
		run.AfterFunc(func() { called <- "at the end" })
		stop := run.AfterFunc(func() { called <- "stopped" })
		assert.True(t, stop())
		assert.False(t, stop())
		require.NoError(t, task.Stop(context.Background()))
		assert.Equal(t, "at the end", <-called)
		stop = run.AfterFunc(func() { called <- "after the end" })
		assert.Equal(t, "after the end", <-called)
		assert.False(t, stop())
		synctest.Wait()
		assert.Empty(t, called)
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

// The goroutine after a Goexit, and a run after one that set labels and did not take them back, have the task's own.
func TestContextLabelsOfLaterRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(0, 0))
		ran := false
		start(t, m, "a", func(ctx context.Context) error {
			if ran {
				parkedAfterDo(ctx)
				return nil
			}
			ran = true
			pprof.SetGoroutineLabels(context.Background())
			runtime.Goexit()
			return nil
		})
		synctest.Wait()
		labels := labelsOf(t, "parkedAfterDo")
		require.Len(t, labels, 1)
		assert.Contains(t, labels[0], `"task":"a"`)
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

func TestPromise9TimeCanBeFaked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		require.Equal(t, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), begin.UTC())
		elapsed := func(want time.Duration, what string) {
			t.Helper()
			assert.Equal(t, want, time.Since(begin), what)
		}
		m := newManager(t, taskmanager.WithBackoff(time.Hour, 24*time.Hour), taskmanager.WithBackoffFactor(24), taskmanager.WithBackoffJitter(0),
			taskmanager.WithRestartWindow(7*24*time.Hour), taskmanager.WithRestartLimit(1.0/4096, 1), taskmanager.WithStopTimeout(time.Hour))

		// The backoff, and the length of a healthy run.
		task := start(t, m, "a", func(ctx context.Context) error {
			if time.Since(begin) == 25*time.Hour {
				return failAfter(7 * 24 * time.Hour)(ctx)
			}
			return errBoom
		}, taskmanager.WithMaxRestarts(2))
		require.ErrorIs(t, task.Wait(context.Background()), taskmanager.ErrTooManyRestarts)
		// 1 h, 24 h, a week that is healthy, 1 h, 24 h; then there are two restarts within the week.
		elapsed((1+24+7*24+1+24)*time.Hour, "backoff, window, health")

		// The fleet-wide limit.
		begin = time.Now()
		for _, name := range []string{"b", "c", "d"} {
			ran := false
			start(t, m, name, func(ctx context.Context) error {
				if ran {
					return untilStopped(ctx)
				}
				ran = true
				return errBoom
			}, taskmanager.WithBackoff(0, 0))
		}
		for m.Stats().Running < 3 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		elapsed(3*4096*time.Second, "the fleet-wide limit: the last restart of a was at the same time")

		// The stop timeout, and the deadline of a context.
		begin = time.Now()
		release := make(chan struct{})
		stuck := start(t, m, "stuck", ignoring(release))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		assert.Equal(t, context.DeadlineExceeded, stuck.Wait(ctx))
		elapsed(time.Minute, "Wait")
		var timeout *taskmanager.StopTimeoutError
		require.ErrorAs(t, stuck.Stop(context.Background()), &timeout)
		elapsed(time.Hour+time.Minute, "the stop timeout")
		close(release)
		<-stuck.Done()

		// The deadline of Run.
		begin = time.Now()
		ctx, cancel = context.WithTimeout(context.Background(), 1000*time.Hour)
		defer cancel()
		require.NoError(t, m.Run(ctx))
		elapsed(1000*time.Hour, "Run")

		// The report that takes too long, and its next attempt.
		begin = time.Now()
		var calls []time.Duration
		m = newManager(t, taskmanager.WithReporter(taskmanager.ReporterFunc(func(ctx context.Context, _ taskmanager.Event) error {
			calls = append(calls, time.Since(begin))
			if len(calls) == 1 {
				<-ctx.Done()
			}
			return ctx.Err()
		})), taskmanager.WithReportLimit(rate.Inf, 0))
		start(t, m, "a", boom, taskmanager.WithMaxRestarts(0))
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, seconds(0, 10+1), calls)
	})
}

// A body may hear of the end of the parent context before the Manager does, and return: it has stopped, then, for that reason.
func TestABodyHearsOfTheEndOfTheParentFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithContext(lateContext{t.Context(), time.Now().Add(time.Minute), context.DeadlineExceeded}))
		var of context.Context
		task := start(t, m, "a", func(ctx context.Context) error {
			of = ctx
			time.Sleep(2 * time.Minute)
			return errBoom
		})
		require.NoError(t, task.Wait(t.Context()))
		assert.Equal(t, taskmanager.StateStopped, task.State())
		require.ErrorIs(t, of.Err(), context.DeadlineExceeded)
		assert.ErrorIs(t, context.Cause(of), context.DeadlineExceeded)
	})
}
