package taskmanager_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestRunTwiceEndsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "vital", failAfter(time.Second), critical, noRestart)
		first, cancel := goRun(t, m)
		defer cancel()
		second, cancel2 := goRun(t, m)
		defer cancel2()
		assertGivenUp(t, first.err(t, time.Second), "vital")
		assertGivenUp(t, second.err(t, time.Second), "vital")
	})
}

func TestRunEndsForAnotherReason(t *testing.T) {
	for name, end := range map[string]func(m *taskmanager.Manager, cancelParent func()) error{
		"Shutdown": func(m *taskmanager.Manager, _ func()) error { return m.Shutdown(context.Background()) },
		"parent":   func(_ *taskmanager.Manager, cancelParent func()) error { cancelParent(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancelParent := context.WithCancel(t.Context())
				m := newManager(t, taskmanager.WithContext(parent))
				start(t, m, "vital", slowToStop(time.Second), critical)
				r, cancel := goRun(t, m)
				defer cancel()
				r.lives(t)
				require.NoError(t, end(m, cancelParent))
				require.NoError(t, r.err(t, time.Second))
			})
		})
		t.Run(name+" without tasks", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancelParent := context.WithCancel(t.Context())
				m := newManager(t, taskmanager.WithContext(parent))
				r, cancel := goRun(t, m)
				defer cancel()
				r.lives(t)
				require.NoError(t, end(m, cancelParent))
				require.NoError(t, r.err(t, 0))
			})
		})
	}
}

func TestRunAfterAShutdownThatLeftATaskStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		start(t, m, "a", deaf.run)
		synctest.Wait()
		asStuck(t, m.Shutdown(t.Context()), "a", 5*time.Second)
		began := time.Now()
		require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
		took(t, 0, began)
		deaf.release()
	})
}

// Shutdown has time left for the log, and returns with the line that says why it has failed written.
func TestShutdownWaitsUntilItIsLoggedThatATaskIsStuck(t *testing.T) {
	for name, test := range map[string]struct{ log, took time.Duration }{
		"slow":  {time.Second, 6 * time.Second},
		"hangs": {time.Hour, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, slowLog("task stuck, its body does not return", func() { time.Sleep(test.log) }))
				release := make(chan struct{})
				start(t, m, "a", ignoring(release))
				synctest.Wait()
				began := time.Now()
				asStuck(t, m.Shutdown(t.Context()), "a", 5*time.Second)
				took(t, test.took, began)
				close(release)
				time.Sleep(test.log)
			})
		})
	}
}

func TestRunShutsDownWhenItsContextIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		var body causeLog
		task := start(t, m, "a", body.run)
		start(t, m, "slow", slowToStop(time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		time.AfterFunc(time.Minute, cancel)
		require.NoError(t, m.Run(ctx), "that ctx is done is no error")
		took(t, time.Minute+time.Second, began)
		assert.Equal(t, []error{taskmanager.ErrShutdown}, body.all())
		assert.Equal(t, taskmanager.StateStopped, task.State())
		_, err := m.StartTask("b", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
		require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
	})
}

func TestRunReturnsWhoIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		body := newDeafBody()
		start(t, m, "deaf", body.hangInBody)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		stuck := asStuck(t, m.Run(ctx), "deaf", 5*time.Second)
		took(t, 5*time.Second, began)
		assert.Contains(t, string(stuck.Stack), "hangInBody")
		body.release()
	})
}

// Shut down by somebody else, or stopped by the end of the parent context, every Run returns after the tasks have ended.
func TestRunEndsWithTheManager(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, m *taskmanager.Manager, cancel context.CancelCauseFunc){
		"Shutdown": func(t *testing.T, m *taskmanager.Manager, _ context.CancelCauseFunc) {
			assert.NoError(t, m.Shutdown(t.Context()))
		},
		"parent": func(_ *testing.T, _ *taskmanager.Manager, cancel context.CancelCauseFunc) { cancel(errWhy) },
	} {
		t.Run(name+", without tasks", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancelCause(context.Background())
				m := mustNew(t, taskmanager.WithContext(parent))
				began := time.Now()
				time.AfterFunc(time.Minute, func() { end(t, m, cancel) })
				require.NoError(t, m.Run(t.Context()))
				took(t, time.Minute, began)
			})
		})
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancelCause(context.Background())
				m := mustNew(t, taskmanager.WithContext(parent))
				start(t, m, "slow", slowToStop(time.Second))
				synctest.Wait()
				began := time.Now()
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						assert.NoError(t, m.Run(t.Context()))
						took(t, time.Minute+time.Second, began)
						assert.False(t, m.IsRunning("slow"))
					})
				}
				time.Sleep(time.Minute)
				end(t, m, cancel)
				wg.Wait()
				require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
			})
		})
	}
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoffJitter(0))
		var body causeLog
		task := start(t, m, "a", body.run)
		failing := start(t, m, "failing", func(context.Context) error { return errWhy })
		synctest.Wait()
		began := time.Now()
		require.NoError(t, m.Shutdown(t.Context()))
		took(t, 0, began)
		assert.Equal(t, []error{taskmanager.ErrShutdown}, body.all())
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.Equal(t, taskmanager.StateStopped, failing.State())

		// Every call returns at once, with ErrManagerClosed where it can't be served.
		_, err := m.StartTask("b", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
		_, err = m.StartTask("a", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
		require.ErrorIs(t, m.RestartTask(t.Context(), "a"), taskmanager.ErrManagerClosed)
		require.ErrorIs(t, task.Restart(t.Context()), taskmanager.ErrManagerClosed)
		require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
		require.ErrorIs(t, m.StopTask(t.Context(), "a"), taskmanager.ErrTaskNotRunning)
		require.ErrorIs(t, m.StopTask(t.Context(), "b"), taskmanager.ErrTaskNotFound)
		require.ErrorIs(t, task.Stop(t.Context()), taskmanager.ErrTaskNotRunning)
		require.NoError(t, m.StopAll(t.Context()))
		require.NoError(t, m.Shutdown(t.Context()), "again is no error")
		require.NoError(t, task.Wait(t.Context()))
		assert.False(t, m.IsRunning("a"))
		assert.Len(t, slices.Collect(m.Tasks()), 2)
		assert.Equal(t, 2, m.Stats().Stopped)
		again, ok := m.Lookup("a")
		assert.True(t, ok)
		assert.Same(t, task, again)
		m.SetReporter(taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error { return nil }))
		ctx, cancel := context.WithCancel(t.Context())
		events := m.Subscribe(ctx)
		cancel()
		<-events
		took(t, 0, began)
	})
}

// A task that shuts its Manager down is not waited for; the others are, and the reports go out, although its context ends.
func TestShutdownFromInsideATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported atomic.Int64
		m := mustNew(t, taskmanager.WithReportLimit(0.001, 1), taskmanager.WithReporter(taskmanager.ReporterFunc(
			func(context.Context, taskmanager.Event) error {
				time.Sleep(time.Second)
				reported.Add(1)
				return nil
			})))
		for i := range 3 {
			start(t, m, fmt.Sprint(i), func(context.Context) error { return errWhy })
		}
		slow := start(t, m, "slow", slowToStop(time.Second))
		time.Sleep(time.Second)
		synctest.Wait()
		require.EqualValues(t, 1, reported.Load())
		began := time.Now()
		caller := start(t, m, "caller", func(ctx context.Context) error {
			assert.NoError(t, m.Shutdown(ctx))
			assert.ErrorIs(t, context.Cause(ctx), taskmanager.ErrShutdown)
			assert.Equal(t, taskmanager.StateStopped, slow.State())
			assert.EqualValues(t, 3, reported.Load())
			return nil
		})
		require.NoError(t, caller.Wait(t.Context()))
		took(t, 3*time.Second, began)
		assert.Equal(t, taskmanager.StateStopped, caller.State())
	})
}

// The deadline of its context holds for the reports, too, although that context has ended.
func TestShutdownFromInsideATaskHasItsDeadline(t *testing.T) {
	for _, timeout := range []time.Duration{2 * time.Second, 20 * time.Second} {
		t.Run(timeout.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, taskmanager.WithReporter(taskmanager.ReporterFunc(func(ctx context.Context, _ taskmanager.Event) error {
					<-ctx.Done()
					time.Sleep(time.Minute)
					return nil
				})))
				start(t, m, "bad", boom, once())
				caller := start(t, m, "caller", func(ctx context.Context) error {
					time.Sleep(time.Second)
					ctx, cancel := context.WithTimeout(ctx, timeout)
					defer cancel()
					began := time.Now()
					assert.NoError(t, m.Shutdown(ctx))
					took(t, timeout, began)
					return nil
				})
				require.NoError(t, caller.Wait(t.Context()))
				time.Sleep(time.Hour)
			})
		})
	}
}

// A deadline that has passed at the call is no time for anybody: the tasks are asked, and what has happened by then has a second.
func TestShutdownWithADeadlineThatHasPassed(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration
		opts  []taskmanager.Option
	}{
		"nothing to report": {},
		"a report that waits": {time.Second, []taskmanager.Option{taskmanager.WithReporter(taskmanager.ReporterFunc(func(ctx context.Context, _ taskmanager.Event) error {
			<-ctx.Done()
			return nil
		}))}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, c.opts...)
				start(t, m, "bad", boom, once())
				slow := start(t, m, "slow", slowToStop(3*time.Second))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				time.Sleep(2 * time.Second)
				began := time.Now()
				require.ErrorIs(t, m.Shutdown(ctx), context.DeadlineExceeded)
				took(t, c.takes, began)
				assert.Equal(t, taskmanager.StateStopping, slow.State())
				<-slow.Done()
				took(t, 3*time.Second, began)
				assert.Equal(t, taskmanager.StateStopped, slow.State())
			})
		})
	}
}

// A context whose Value hangs from some time on stands in the way of nobody's stop.
func TestRunWithAContextThatIsNotAskedAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		task := start(t, m, "a", untilStopped)
		release := make(chan struct{})
		var hangs atomic.Bool
		ran := make(chan error, 1)
		go func() {
			ran <- m.Run(valueContext{t.Context(), func() {
				if hangs.Load() {
					<-release
				}
			}})
		}()
		synctest.Wait()
		hangs.Store(true)
		start(t, m, "b", boom, once(), taskmanager.WithCritical())
		synctest.Wait()
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assertGivenUp(t, <-ran, "b")
		close(release)
	})
}

// A valueContext does something when it is asked for a value.
type valueContext struct {
	context.Context
	asked func()
}

func (c valueContext) Value(key any) any {
	c.asked()
	return c.Context.Value(key)
}

// A body may call Run with its context, or one that derives from it: at the end it is asked to stop as the others are, and not waited
// for.
func TestRunFromInsideATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		caller := start(t, m, "a", func(ctx context.Context) error {
			began := time.Now()
			assertGivenUp(t, m.Run(context.WithValue(ctx, contextKey{}, 1)), "b")
			took(t, time.Second, began)
			return nil
		})
		start(t, m, "b", failAfter(time.Second), once(), taskmanager.WithCritical())
		<-caller.Done()
		assert.Equal(t, taskmanager.StateStopped, caller.State())
	})
}

// All of a shutdown that Run makes has the one deadline, which a chain of dependencies shares, whatever Run ends for.
func TestRunIsBoundedByItsShutdownTimeout(t *testing.T) {
	const s = time.Second
	for name, end := range map[string]func(t *testing.T, m *taskmanager.Manager, cancel, cancelParent func()){
		"context": func(_ *testing.T, _ *taskmanager.Manager, cancel, _ func()) { cancel() },
		"critical task": func(t *testing.T, m *taskmanager.Manager, _, _ func()) {
			start(t, m, "vital", boom, critical, noRestart)
		},
		"parent": func(_ *testing.T, _ *taskmanager.Manager, _, cancelParent func()) { cancelParent() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancelParent := context.WithCancel(t.Context())
				m := mustNew(t, taskmanager.WithStopTimeout(20*s), taskmanager.WithShutdownTimeout(6*s), taskmanager.WithContext(parent))
				release := make(chan struct{})
				log := newStopLog()
				chain(t, m, func(string) taskmanager.TaskFunc { return log.deaf(release) })
				log.begin()
				r, cancel := goRun(t, m)
				r.lives(t)
				end(t, m, cancel, cancelParent)
				err := r.err(t, 6*s)
				for _, name := range []string{"a", "b", "c"} {
					require.ErrorContains(t, err, fmt.Sprintf("task %q did not stop within 2s", name))
				}
				assert.Equal(t, times{"c": 0, "b": 2 * s, "a": 4 * s, "e": 0}, log.times())
				close(release)
				cancel()
				time.Sleep(time.Minute)
			})
		})
	}
	t.Run("none by default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t, taskmanager.WithStopTimeout(20*s))
			release := make(chan struct{})
			log := newStopLog()
			chain(t, m, func(string) taskmanager.TaskFunc { return log.deaf(release) })
			log.begin()
			r, cancel := goRun(t, m)
			cancel()
			err := r.err(t, 60*s)
			for _, name := range []string{"a", "b", "c"} {
				require.ErrorContains(t, err, fmt.Sprintf("task %q did not stop within 20s", name))
			}
			assert.Equal(t, times{"c": 0, "b": 20 * s, "a": 40 * s, "e": 0}, log.times())
			close(release)
		})
	})
}

// What the tasks leave of it is for the log and the reports, a second at least. It is nothing to who calls Shutdown.
func TestRunHasTheRestOfItsShutdownTimeoutForReports(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		stops    time.Duration // how long the task needs
		took     time.Duration
		shutdown bool
	}{
		"a task that stops": {2 * s, 8 * s, false},
		"one that doesn't":  {time.Minute, 9 * s, false},
		"Shutdown":          {2 * s, 7 * s, true}, // 5 s for what waits, as without the option
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, taskmanager.WithStopTimeout(20*s), taskmanager.WithShutdownTimeout(8*s),
					taskmanager.WithReporter(taskmanager.ReporterFunc(func(ctx context.Context, _ taskmanager.Event) error {
						<-ctx.Done()
						time.Sleep(time.Hour)
						return nil
					})))
				start(t, m, "bad", boom, once())
				start(t, m, "slow", slowToStop(test.stops))
				synctest.Wait()
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				run := m.Run
				if test.shutdown {
					run, ctx = m.Shutdown, context.WithoutCancel(ctx)
				}
				began := time.Now()
				_ = run(ctx)
				took(t, test.took, began)
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// hasClosed reports whether the channel is closed.
func hasClosed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// Done is closed when the last of the shutdowns has ended that are under way, whoever asks when.
func TestShutdownIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		start(t, m, "a", slowToStop(2*time.Second))
		synctest.Wait()
		done := m.Done()
		require.NoError(t, m.StopAll(t.Context()))
		assert.False(t, hasClosed(done), "the Manager is as open as before")

		start(t, m, "b", slowToStop(2*time.Second))
		synctest.Wait()
		go func() { assert.NoError(t, m.Shutdown(t.Context())) }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, m.Shutdown(ctx), context.Canceled)
		assert.False(t, hasClosed(done), "the other shutdown is still under way")
		time.Sleep(2*time.Second - 1)
		synctest.Wait()
		assert.False(t, hasClosed(done))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.True(t, hasClosed(done))
		assert.Equal(t, done, m.Done())
		require.NoError(t, m.Shutdown(t.Context()), "once more")
	})
}

// Run shuts the Manager down, whatever ends it; the end of the parent context alone does not, but Run does then.
func TestRunIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		m := mustNew(t, taskmanager.WithContext(parent))
		start(t, m, "a", slowToStop(time.Second))
		synctest.Wait()
		end()
		time.Sleep(time.Minute)
		done := m.Done()
		assert.False(t, hasClosed(done))
		require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
		assert.False(t, hasClosed(done), "Run had nothing to do")
		require.NoError(t, m.Shutdown(t.Context()))
		assert.True(t, hasClosed(done))

		m = mustNew(t)
		body := newDeafBody()
		start(t, m, "a", body.run)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- m.Run(ctx) }()
		synctest.Wait()
		cancel()
		time.Sleep(5*time.Second - 1)
		assert.False(t, hasClosed(m.Done()))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.True(t, hasClosed(m.Done()), "though a task is stuck")
		asStuck(t, <-ran, "a", 5*time.Second)
		body.release()
		assert.True(t, hasClosed((*taskmanager.Manager)(nil).Done()))
		assert.True(t, hasClosed(new(taskmanager.Manager).Done()))
	})
}
