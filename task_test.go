package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// A life that was begun by hand, when no other task was alive, ends with the parent context as the first one does.
func TestTaskBegunByHandEndsWithTheParentContext(t *testing.T) {
	for title, foreign := range map[string]bool{"of package context": false, "of a foreign type": true} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				parent := ctx
				if foreign {
					parent = foreignContext{ctx}
				}
				m := newManager(t, taskmanager.WithContext(parent))
				var body causeLog
				task := start(t, m, "a", body.run)
				synctest.Wait()
				require.NoError(t, task.Stop(t.Context()))
				require.NoError(t, task.Restart(t.Context()))
				require.Equal(t, taskmanager.StateRunning, settled(task))
				cancel(errBoom)
				require.Equal(t, taskmanager.StateStopped, settled(task))
				assert.Equal(t, []error{taskmanager.ErrStopped, errBoom}, body.all())
			})
		})
	}
}

// What a life has ended with is told to all who have waited for it, whoever begins the next one first.
func TestTaskKeepsTheEndOfALifeForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		revoked := errors.New("revoked")
		var runs atomic.Int64
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs.Add(1) == 1 {
				time.Sleep(time.Second)
				return backoff.Permanent(revoked)
			}
			return untilStopped(ctx)
		})
		const n = 100
		ends := make(chan error, n)
		for range n {
			go func() {
				err := task.Wait(context.Background())
				_ = task.Restart(context.Background()) // the first one begins another life, and the others its runs
				ends <- err
			}()
		}
		synctest.Wait()
		first := task.Done()
		time.Sleep(time.Second)
		for range n {
			require.ErrorIs(t, <-ends, revoked)
		}
		<-first
		assert.NotEqual(t, first, task.Done(), "the channel is that of the life")
		require.NoError(t, task.Err())
		require.NoError(t, task.Stop(t.Context()))
		require.NoError(t, task.Wait(t.Context()))
	})
}

// lifeOf asserts that the events of a task are in order, each with the number of the run that it is about: a run is started, is
// ready or stuck if at all, and ends, before the next one is started. It returns how many runs there were.
func lifeOf(t *testing.T, events []taskmanager.Event) (runs int) {
	t.Helper()
	var (
		running bool
		run     uint64
	)
	for i, e := range events {
		require.Zero(t, e.Missed)
		switch e.Kind {
		case taskmanager.EventStarted:
			require.False(t, running, "event %d: run %d is started before the end of run %d", i, e.Run, run)
			running, run = true, e.Run
			runs++
		case taskmanager.EventReady, taskmanager.EventStuck:
			require.True(t, running, "event %d: run %d is %v after its end", i, e.Run, e.Kind)
			require.Equal(t, run, e.Run, "event %d: %v", i, e.Kind)
		case taskmanager.EventRecovered:
			require.Equal(t, run, e.Run, "event %d: %v", i, e.Kind)
		default:
			require.True(t, running, "event %d: run %d ends twice", i, e.Run)
			require.Equal(t, run, e.Run, "event %d: %v", i, e.Kind)
			running = false
		}
	}
	return runs
}

// A body that returns while it is found out where it is stuck, so that the next run begins: what there is to say of the
// first run comes before that, and bears its number.
func TestTaskReturnsWhileItIsFoundStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(0, 0))
		for i := range 2000 { // whose stacks take a while
			start(t, m, fmt.Sprint("other ", i), untilStopped)
		}
		synctest.Wait()
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", func(ctx context.Context) error {
			self, _ := taskmanager.FromContext(ctx)
			if self.Stats().Runs == 2 {
				taskmanager.HeartbeatWithin(ctx, time.Hour)
				return untilStopped(ctx)
			}
			<-ctx.Done()
			time.Sleep(time.Second)
			for self.State() != taskmanager.StateStuck {
				runtime.Gosched()
			}
			return nil
		}, taskmanager.WithWatchdog(time.Second), taskmanager.WithStopTimeout(time.Second))
		time.Sleep(10 * time.Second)
		require.Equal(t, taskmanager.StateRunning, settled(task))
		got := received(events)
		require.Equal(t, 2, lifeOf(t, got))
		assert.Len(t, ofKind(taskmanager.EventStuck, got), 1)
	})
}

// A run that says that it is ready from another goroutine, at the moment of its end.
func TestTaskIsReadyWhenItsRunEnds(t *testing.T) {
	m := newManager(t, taskmanager.WithBackoff(0, 0), taskmanager.WithRestartLimit(rate.Inf, 1))
	events := m.Subscribe(t.Context())
	ready := 0
	for range 50 {
		const runs = 80 // whose events a subscriber can keep
		var children sync.WaitGroup
		task := start(t, m, "a", func(ctx context.Context) error {
			self, _ := taskmanager.FromContext(ctx)
			children.Go(func() { taskmanager.Ready(ctx) })
			runtime.Gosched()
			if self.Stats().Runs == runs {
				return nil
			}
			return errBoom
		}, taskmanager.WithReadiness(time.Hour), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		require.NoError(t, task.Wait(t.Context()))
		children.Wait()
		got := received(events)
		require.Equal(t, runs, lifeOf(t, got))
		ready += len(ofKind(taskmanager.EventReady, got))
	}
	assert.Positive(t, ready)
}

// Tasks of one name, one after the other: the end of each is told before the start of the next.
func TestTaskLifeAfterLife(t *testing.T) {
	m := newManager(t)
	events := m.Subscribe(t.Context())
	for range 50 {
		const lives = 100 // whose events a subscriber can keep
		for started := 0; started < lives; {
			_, err := m.StartTask("a", func(context.Context) error { return nil })
			if err != nil {
				require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
				runtime.Gosched()
				continue
			}
			started++
		}
		last, _ := m.Lookup("a")
		require.NoError(t, last.Wait(t.Context()))
		require.Equal(t, lives, lifeOf(t, received(events)))
	}
}

func TestTaskWaitDoneAndErr(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithRestart(taskmanager.RestartNever))
		release := make(chan error)
		task := start(t, m, "a", func(context.Context) error { return <-release })
		synctest.Wait()
		select {
		case <-task.Done():
			t.Error("it has not ended")
		default:
		}
		require.NoError(t, task.Err())
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errWhy)
		defer cancel()
		began := time.Now()
		assert.Equal(t, errWhy, task.Wait(ctx))
		took(t, time.Second, began)

		// The same error for all who wait, and for those who ask later; even with a context that is done.
		own := errors.New("its own")
		done := task.Done()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				err := task.Wait(t.Context())
				assert.ErrorIs(t, err, own)
				assert.Equal(t, taskmanager.StateFailed, task.State())
			})
		}
		release <- own
		wg.Wait()
		<-done
		assert.Equal(t, done, task.Done())
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, task.Err(), &gaveUp)
		assert.Equal(t, "a", gaveUp.Task)
		for range 50 {
			assert.Same(t, gaveUp, task.Wait(ctx))
		}

		completed := start(t, m, "b", func(context.Context) error { return nil })
		require.NoError(t, completed.Wait(t.Context()))
		require.NoError(t, completed.Err())
		assert.Equal(t, taskmanager.StateCompleted, completed.State())

		// A body that waits for its own task waits for its context.
		self := start(t, m, "c", func(ctx context.Context) error {
			task, _ := taskmanager.FromContext(ctx)
			return task.Wait(ctx)
		})
		synctest.Wait()
		require.NoError(t, self.Stop(t.Context()))
		require.NoError(t, self.Err())
	})
}

func TestTaskWaitReady(t *testing.T) {
	waitReady := func(t *testing.T, task *taskmanager.Task) <-chan error {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- task.WaitReady(context.Background()) }()
		synctest.Wait()
		return done
	}
	returns := func(t *testing.T, done <-chan error) error {
		t.Helper()
		synctest.Wait()
		select {
		case err := <-done:
			return err
		default:
			require.FailNow(t, "it has not returned")
			return nil
		}
	}
	for name, c := range map[string]struct {
		body taskmanager.TaskFunc
		opts []taskmanager.TaskOption
		when time.Duration // it returns
		as   func(t *testing.T, err error)
	}{
		"runs": {body: untilStopped},
		"says so": {
			body: readyAfter(3 * time.Second), opts: []taskmanager.TaskOption{taskmanager.WithReadiness(time.Minute)}, when: 3 * time.Second,
		},
		"says so in its second run": {
			body: func() taskmanager.TaskFunc {
				runs := 0
				return func(ctx context.Context) error {
					if runs++; runs == 1 {
						return failAfter(2 * time.Second)(ctx)
					}
					return readyAfter(3 * time.Second)(ctx)
				}
			}(), opts: []taskmanager.TaskOption{taskmanager.WithReadiness(time.Minute)}, when: 6 * time.Second,
		},
		"completes": {
			body: func(context.Context) error { time.Sleep(2 * time.Second); return nil },
			opts: []taskmanager.TaskOption{taskmanager.WithReadiness(time.Minute)}, when: 2 * time.Second,
		},
		"is given up": {
			body: failAfter(2 * time.Second), opts: []taskmanager.TaskOption{taskmanager.WithReadiness(time.Minute), once()}, when: 2 * time.Second,
			as: func(t *testing.T, err error) { assertGivenUp(t, err, "a"); assert.ErrorIs(t, err, errBoom) },
		},
		"is not ready in time": {
			body: untilStopped, opts: []taskmanager.TaskOption{taskmanager.WithReadiness(2 * time.Second), once()}, when: 2 * time.Second,
			as: func(t *testing.T, err error) { assert.ErrorIs(t, err, taskmanager.ErrNotReady) },
		},
		"is a group that is": {
			body: taskmanager.Group(func(m *taskmanager.Manager) error {
				_, err := m.StartTask("inner", readyAfter(3*time.Second), taskmanager.WithReadiness(time.Minute))
				return err
			}), when: 3 * time.Second,
		},
		"depends on one that is": {body: untilStopped, opts: []taskmanager.TaskOption{dependsOn("b")}, when: 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact()...)
				task := start(t, m, "a", c.body, c.opts...)
				if name == "depends on one that is" {
					time.AfterFunc(4*time.Second, func() { start(t, m, "b", untilStopped) })
				}
				before := goroutines()
				done := waitReady(t, task)
				if c.when > 0 {
					time.Sleep(c.when - 1)
					synctest.Wait()
					require.Empty(t, done)
					time.Sleep(time.Nanosecond)
				}
				err := returns(t, done)
				if c.as != nil {
					c.as(t, err)
				} else {
					require.NoError(t, err)
				}
				if name != "is a group that is" && name != "depends on one that is" {
					assert.LessOrEqual(t, goroutines(), before)
				}
				began := time.Now()
				assert.Equal(t, err, task.WaitReady(t.Context()), "it is so still")
				took(t, 0, began)
			})
		})
	}

	t.Run("is stopped, and runs again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", readyAfter(time.Minute), taskmanager.WithReadiness(time.Hour))
			for _, stop := range []func(ctx context.Context) error{task.Stop, m.StopAll} {
				done := waitReady(t, task)
				require.NoError(t, stop(t.Context()))
				err := returns(t, done)
				require.ErrorIs(t, err, taskmanager.ErrTaskNotRunning)
				require.EqualError(t, err, `taskmanager: task is not running: "a" was stopped`)
				require.Equal(t, err, task.WaitReady(canceled(t)), "whatever its context says")
				require.NoError(t, task.Restart(t.Context()))
			}
			done := waitReady(t, task)
			time.Sleep(time.Minute)
			require.NoError(t, returns(t, done))
		})
	})
	t.Run("is stopped while it waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", untilStopped, dependsOn("b"))
			done := waitReady(t, task)
			require.NoError(t, task.Stop(t.Context()))
			require.ErrorIs(t, returns(t, done), taskmanager.ErrTaskNotRunning)
		})
	})
	t.Run("the context ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", untilStopped, taskmanager.WithReadiness(time.Hour))
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(time.Second, func() { cancel(errWhy) })
			began := time.Now()
			require.Equal(t, errWhy, task.WaitReady(ctx))
			took(t, time.Second, began)
			require.Equal(t, errWhy, task.WaitReady(ctx))
			var refused *taskmanager.OptionError
			require.ErrorAs(t, task.WaitReady(noContext), &refused)
			assert.Equal(t, "ctx", refused.Option)
		})
	})
	t.Run("many wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", readyAfter(time.Second), taskmanager.WithReadiness(time.Minute))
			var done []<-chan error
			for range 100 {
				done = append(done, waitReady(t, task))
			}
			time.Sleep(time.Second)
			for _, d := range done {
				require.NoError(t, returns(t, d))
			}
		})
	})
}

// Whatever has become of it, a task that has ended can be forgotten; one that has not, can't.
func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		failed := start(t, m, "failed", boom, once(), critical)
		completed := start(t, m, "completed", func(context.Context) error { return nil })
		stopped := start(t, m, "stopped", untilStopped)
		require.NoError(t, stopped.Stop(t.Context()))
		lives := start(t, m, "lives", untilStopped)
		synctest.Wait()
		require.Equal(t, taskmanager.HealthFailing, m.Health().State)
		for _, task := range []*taskmanager.Task{failed, completed, stopped} {
			require.NoError(t, task.Forget())
			_, known := m.Lookup(task.Name())
			assert.False(t, known)
			require.ErrorIs(t, task.Forget(), taskmanager.ErrTaskNotFound)
			require.ErrorIs(t, task.Restart(t.Context()), taskmanager.ErrTaskNotFound)
		}
		require.ErrorIs(t, lives.Forget(), taskmanager.ErrTaskRunning)
		assert.Equal(t, taskmanager.HealthOK, m.Health().State)
		s := m.Stats()
		assert.Equal(t, 1, s.Running+s.Failed+s.Completed+s.Stopped)
		assert.Equal(t, uint64(1), s.Failures)
	})
}
