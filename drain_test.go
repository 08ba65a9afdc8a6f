package taskmanager_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A drainLog is what a body with work in hand has seen of the end of its run, in time since it began.
type drainLog struct {
	began                    time.Time
	draining, ended, return_ time.Duration
	cause                    error
}

// drained returns a body that has work in hand for d after it has heard that it is drained, and gives it up when its context
// ends; it needs another linger for that.
func drained(l *drainLog, d, linger time.Duration) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		*l = drainLog{began: time.Now()}
		defer func() { l.return_ = time.Since(l.began) }()
		<-taskmanager.Draining(ctx)
		l.draining = time.Since(l.began)
		work := time.NewTimer(d)
		defer work.Stop()
		select {
		case <-work.C:
			l.cause = context.Cause(ctx)
		case <-ctx.Done():
			l.ended, l.cause = time.Since(l.began), context.Cause(ctx)
			time.Sleep(linger)
		}
		return nil
	}
}

// What asks the task "a" to return, the cause that its body finds then, and the state that follows.
var drainRequests = map[string]struct {
	ask   func(m *taskmanager.Manager) error
	cause error
	then  taskmanager.State
}{
	"StopTask": {
		func(m *taskmanager.Manager) error { return m.StopTask(context.Background(), "a") },
		taskmanager.ErrStopped, taskmanager.StateStopped,
	},
	"StopAll": {
		func(m *taskmanager.Manager) error { return m.StopAll(context.Background()) },
		taskmanager.ErrStopped, taskmanager.StateStopped,
	},
	"Shutdown": {
		func(m *taskmanager.Manager) error { return m.Shutdown(context.Background()) },
		taskmanager.ErrShutdown, taskmanager.StateStopped,
	},
	"PauseTask": {
		func(m *taskmanager.Manager) error { return m.PauseTask(context.Background(), "a") },
		taskmanager.ErrPaused, taskmanager.StatePaused,
	},
	"RestartTask": {
		func(m *taskmanager.Manager) error { return m.RestartTask(context.Background(), "a") },
		taskmanager.ErrRestarted, taskmanager.StateRunning,
	},
	"ReplaceTask": {
		func(m *taskmanager.Manager) error {
			_, err := m.ReplaceTask(context.Background(), "a", untilStopped)
			return err
		},
		taskmanager.ErrReplaced, taskmanager.StateRunning,
	},
	"Reconcile": {
		func(m *taskmanager.Manager) error {
			_, err := m.Reconcile(context.Background(), "a", versions())
			return err
		},
		taskmanager.ErrStopped, taskmanager.StateStopped,
	},
}

// Work in hand is finished with a live context, and the stop returns when it is; if it takes longer than it may, the context ends.
func TestDrainLetsWorkInHandBeFinished(t *testing.T) {
	const drain = 3 * time.Second
	for title, test := range drainRequests {
		for _, work := range []time.Duration{2 * time.Second, time.Hour} {
			t.Run(fmt.Sprint(title, ", ", work), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t)
					var first, l drainLog
					task := start(t, m, "a", func(ctx context.Context) error {
						err := drained(&l, work, 0)(ctx)
						if first.began.IsZero() {
							first = l
						}
						return err
					}, taskmanager.WithDrain(drain))
					time.Sleep(time.Minute)
					began := time.Now()
					require.NoError(t, test.ask(m))
					took(t, min(work, drain), began)
					synctest.Wait()
					want := drainLog{began: first.began, draining: time.Minute, return_: time.Minute + work}
					if work > drain {
						want.ended, want.return_, want.cause = time.Minute+drain, time.Minute+drain, test.cause
					}
					assert.Equal(t, want, first)
					assert.Equal(t, test.then, task.State())
				})
			})
		}
	}
}

// The state is that of any stop, and the watchdog does not disturb it.
func TestDrainShowsAsStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var l drainLog
		task := start(t, m, "a", drained(&l, 4*time.Second, 0), taskmanager.WithDrain(4500*time.Millisecond),
			taskmanager.WithWatchdog(time.Second), taskmanager.WithStopTimeout(5*time.Second))
		synctest.Wait()
		errs := make(chan error, 1)
		go func() { errs <- task.Stop(context.Background()) }()
		synctest.Wait()
		assert.Equal(t, taskmanager.StateStopping, task.State())
		require.NoError(t, <-errs)
		assert.Equal(t, drainLog{began: l.began, return_: 4 * time.Second}, l, "nothing has ended its context")
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.Zero(t, task.Stats().Failures)
	})
}

// A drain that takes longer than it may ends with the context; and one deadline, that of the stop, says when the task is stuck.
func TestDrainEndsInTimeAndThenItIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var l drainLog
		task := start(t, m, "a", drained(&l, time.Hour, 10*time.Second), taskmanager.WithDrain(3*time.Second), taskmanager.WithStopTimeout(5*time.Second))
		synctest.Wait()
		began := time.Now()
		err := task.Stop(context.Background())
		var timeout *taskmanager.StopTimeoutError
		require.ErrorAs(t, err, &timeout)
		assert.Equal(t, 5*time.Second, timeout.Timeout)
		assert.Equal(t, 5*time.Second, time.Since(began))
		assert.Equal(t, taskmanager.StateStuck, task.State())
		<-task.Done()
		assert.Equal(t, 3*time.Second, l.ended)
		require.ErrorIs(t, l.cause, taskmanager.ErrStopped)
		assert.Equal(t, 13*time.Second, l.return_)
		assert.Equal(t, taskmanager.StateStopped, task.State())
	})
}

// Where the deadline of a stop is earlier than the stop timeout, the drain is shorter in proportion.
func TestDrainIsShorterWithAnEarlierDeadline(t *testing.T) {
	tests := map[string]struct {
		within, ended time.Duration
	}{
		"later than the stop timeout": {time.Hour, 15 * time.Second},
		"as the stop timeout":         {20 * time.Second, 15 * time.Second},
		"half of it":                  {10 * time.Second, 7500 * time.Millisecond},
		"next to nothing":             {time.Nanosecond, 0},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				var l drainLog
				task := start(t, m, "a", drained(&l, time.Hour, 0), taskmanager.WithDrain(15*time.Second), taskmanager.WithStopTimeout(20*time.Second))
				synctest.Wait()
				ctx, cancel := context.WithTimeout(context.Background(), test.within)
				defer cancel()
				_ = task.Stop(ctx)
				<-task.Done()
				assert.Equal(t, test.ended, l.ended)
				assert.ErrorIs(t, l.cause, taskmanager.ErrStopped)
			})
		})
	}
}

// Of two stops the one that leaves less time counts, whichever comes first, and the cause is that of the first.
func TestDrainIsCutShortByASecondStop(t *testing.T) {
	tests := map[string]struct {
		first, second time.Duration // 0: no deadline
		ended         time.Duration
		stuck         time.Duration
	}{
		"a second one with an earlier deadline":                          {0, 2 * time.Second, 2500 * time.Millisecond, 3500 * time.Millisecond},
		"a second one with a later deadline":                             {4 * time.Second, 0, 2 * time.Second, 4 * time.Second},
		"a second one with a deadline that is past the end of the drain": {0, 9 * time.Second, 5 * time.Second, 10 * time.Second},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				var l drainLog
				task := start(t, m, "a", drained(&l, time.Hour, time.Minute), taskmanager.WithDrain(5*time.Second), taskmanager.WithStopTimeout(10*time.Second))
				synctest.Wait()
				stopped := make(chan time.Duration, 2)
				stop := func(within time.Duration, f func(context.Context) error) {
					ctx, cancel := context.Background(), context.CancelFunc(func() {})
					if within > 0 {
						ctx, cancel = context.WithTimeout(ctx, within)
					}
					defer cancel()
					assert.Error(t, f(ctx))
					stopped <- time.Since(l.began)
				}
				go stop(test.first, task.Stop)
				time.Sleep(1500 * time.Millisecond)
				go stop(test.second, m.StopAll)
				assert.Equal(t, test.stuck, <-stopped)
				<-task.Done()
				assert.ErrorIs(t, l.cause, taskmanager.ErrStopped)
				assert.Equal(t, test.ended, l.ended)
			})
		})
	}
}

// A stop whose context is done already asks, and has the stop timeout for a deadline.
func TestDrainOfAStopThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var l drainLog
		task := start(t, m, "a", drained(&l, time.Hour, 0), taskmanager.WithDrain(3*time.Second))
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		require.ErrorIs(t, task.Stop(ctx), context.Canceled)
		<-task.Done()
		assert.Equal(t, drainLog{began: l.began, ended: 3 * time.Second, return_: 3 * time.Second, cause: taskmanager.ErrStopped}, l)
	})
}

// The end of the parent context is a stop like any other, and its cause is that of the context when the drain is over.
func TestDrainAtTheEndOfTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancelCause(context.Background())
		m := newManager(t, taskmanager.WithContext(parent))
		var l drainLog
		task := start(t, m, "a", drained(&l, time.Hour, 0), taskmanager.WithDrain(3*time.Second))
		synctest.Wait()
		end(errWhy)
		<-task.Done()
		assert.Equal(t, drainLog{began: l.began, ended: 3 * time.Second, return_: 3 * time.Second, cause: errWhy}, l)
	})
}

// One that misses a heartbeat while it waits for its turn to stop does not drain any more; nor is that a failure.
func TestDrainOfALateTaskAtTheEndOfTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancelCause(context.Background())
		m := newManager(t, taskmanager.WithContext(parent))
		var l drainLog
		task := start(t, m, "a", drained(&l, time.Hour, 0), taskmanager.WithDrain(4*time.Second), taskmanager.WithWatchdog(3*time.Second))
		start(t, m, "dependent", slowToStop(4*time.Second), dependsOn(task.Name()))
		synctest.Wait()
		time.Sleep(time.Second)
		end(errWhy)
		<-task.Done()
		assert.Equal(t, drainLog{began: l.began, draining: 3 * time.Second, ended: 3 * time.Second, return_: 3 * time.Second, cause: errWhy}, l)
		assert.Equal(t, taskmanager.StateStopped, task.State())
	})
}

// One that drains for a restart, and returns before its turn to stop, has ended by the end of the parent all the same.
func TestDrainOfARestartAtTheEndOfTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancelCause(context.Background())
		m := newManager(t, taskmanager.WithContext(parent))
		var of context.Context
		task := start(t, m, "a", func(ctx context.Context) error {
			of = ctx
			<-taskmanager.Draining(ctx)
			time.Sleep(time.Second)
			return ctx.Err()
		}, taskmanager.WithDrain(3*time.Second))
		start(t, m, "dependent", slowToStop(2*time.Second), dependsOn(task.Name()))
		synctest.Wait()
		restarted := make(chan error, 1)
		go func() { restarted <- task.Restart(context.Background()) }()
		synctest.Wait()
		end(errWhy)
		require.ErrorIs(t, <-restarted, errWhy)
		assert.Equal(t, errWhy, context.Cause(of))
		assert.Equal(t, taskmanager.StateStopped, task.State())
	})
}

// A body knows until when its context lives on, and so does what it calls with that.
func TestDrainHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task, ctx := contextOf(t, m, taskmanager.WithDrain(4*time.Second), taskmanager.WithWatchdog(time.Hour))
		_, ok := ctx.Deadline()
		require.False(t, ok, "before anything is asked")
		began := time.Now()
		within := func(d time.Duration) {
			patience, cancel := context.WithTimeout(context.Background(), d)
			go func() {
				defer cancel()
				assert.NoError(t, task.Stop(patience))
			}()
			synctest.Wait()
		}
		left := func(ctx context.Context) time.Duration {
			deadline, has := ctx.Deadline()
			require.True(t, has)
			return deadline.Sub(began)
		}
		within(4 * time.Second)
		assert.Equal(t, 3200*time.Millisecond, left(ctx))
		child, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		assert.Equal(t, 3200*time.Millisecond, left(child))
		within(2500 * time.Millisecond)
		assert.Equal(t, 2*time.Second, left(ctx), "a second stop leaves less time")
		<-ctx.Done()
		assert.Equal(t, 2*time.Second, time.Since(began))
		<-child.Done()
		require.ErrorIs(t, context.Cause(child), taskmanager.ErrStopped)
		<-task.Done()
		_, ok = ctx.Deadline()
		assert.False(t, ok)
	})
}

// What a body returns while it drains is judged as after any stop.
func TestDrainWhereTheBodyReturns(t *testing.T) {
	bodies := map[string]struct {
		end  func() error
		want string
	}{
		"nil":     {func() error { return nil }, ""},
		"its own": {func() error { return errBoom }, "boom"},
		"a panic": {func() error { panic("why") }, "panic: why"},
	}
	for title, test := range bodies {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				events := m.Subscribe(t.Context())
				var ctx context.Context
				task := start(t, m, "a", func(c context.Context) error {
					ctx = c
					<-taskmanager.Draining(c)
					return test.end()
				}, taskmanager.WithDrain(4*time.Second))
				synctest.Wait()
				require.NoError(t, task.Stop(context.Background()))
				require.ErrorIs(t, context.Cause(ctx), taskmanager.ErrStopped, "what ends with the body ends for the stop")
				assert.Zero(t, task.Stats().Failures)
				all := received(events)
				last := all[len(all)-1]
				assert.Equal(t, taskmanager.EventStopped, last.Kind)
				require.ErrorIs(t, last.Cause, taskmanager.ErrStopped)
				if test.want == "" {
					assert.NoError(t, last.Err)
				} else {
					assert.ErrorContains(t, last.Err, test.want)
				}
				time.Sleep(time.Minute) // no timer does anything any more
				assert.Equal(t, taskmanager.StateStopped, task.State())
			})
		})
	}
}

// A restart that drains gives way to a stop, whose cause the body finds when the drain is over.
func TestDrainOfARestartThatBecomesAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var l drainLog
		task := start(t, m, "a", drained(&l, time.Hour, 0), taskmanager.WithDrain(4*time.Second))
		synctest.Wait()
		restarted := make(chan error, 1)
		go func() { restarted <- task.Restart(context.Background()) }()
		time.Sleep(time.Second)
		require.NoError(t, m.StopTask(context.Background(), "a"))
		require.ErrorIs(t, <-restarted, taskmanager.ErrStopped)
		assert.Equal(t, drainLog{began: l.began, ended: 4 * time.Second, return_: 4 * time.Second, cause: taskmanager.ErrStopped}, l)
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.EqualValues(t, 1, task.Stats().Runs)
	})
}

// The time of a drain is that of one run: the next one has its own.
func TestDrainOfARunDoesNotEndTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var contexts []context.Context
		task := start(t, m, "a", func(ctx context.Context) error {
			contexts = append(contexts, ctx)
			<-taskmanager.Draining(ctx)
			return nil
		}, taskmanager.WithDrain(4*time.Second))
		synctest.Wait()
		require.NoError(t, task.Restart(context.Background()))
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Len(t, contexts, 2)
		assert.NoError(t, contexts[1].Err())
		assert.False(t, hasClosed(taskmanager.Draining(contexts[1])))
		assert.True(t, hasClosed(taskmanager.Draining(contexts[0])), "of an old run")
		require.NoError(t, m.StopTask(context.Background(), "a"))
		assert.True(t, hasClosed(taskmanager.Draining(contexts[1])))
	})
}

// To be late is no reason to be given more time.
func TestDrainIsNotForARunThatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var l drainLog
		task := start(t, m, "a", drained(&l, time.Hour, 0), taskmanager.WithDrain(4*time.Second), taskmanager.WithWatchdog(10*time.Second), once())
		<-task.Done()
		assert.Equal(t, 10*time.Second, l.draining)
		assert.ErrorIs(t, l.cause, taskmanager.ErrWatchdog)
		assert.Equal(t, 10*time.Second, l.return_)
	})
}

// Those that depend on a task have drained before it is asked to.
func TestDrainInTheOrderOfDependencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var db, server drainLog
		opts := func(more ...taskmanager.TaskOption) []taskmanager.TaskOption {
			return append(more, taskmanager.WithDrain(15*time.Second), taskmanager.WithStopTimeout(20*time.Second))
		}
		start(t, m, "db", drained(&db, 2*time.Second, 0), opts()...)
		start(t, m, "server", drained(&server, time.Hour, 0), opts(taskmanager.WithDependsOn("db"))...)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), 16*time.Second)
		defer cancel()
		require.NoError(t, m.Shutdown(ctx))
		assert.Equal(t, drainLog{began: server.began, ended: 6 * time.Second, return_: 6 * time.Second, cause: taskmanager.ErrShutdown}, server,
			"half of the time is its own, and three quarters of that are for the drain")
		assert.Equal(t, drainLog{began: db.began, draining: 6 * time.Second, return_: 8 * time.Second}, db)
	})
}

// A group asks its tasks to stop as soon as it is asked to, and each drains by its own options. They stop for the same cause.
func TestDrainOfAGroup(t *testing.T) {
	for title, drain := range map[string]time.Duration{"with a drain": 4 * time.Second, "without one": 0} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				events := m.Subscribe(t.Context())
				var worker, other drainLog
				task := start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
					start(t, m, "worker", drained(&worker, time.Hour, 0), taskmanager.WithDrain(2*time.Second))
					start(t, m, "other", drained(&other, time.Hour, 0))
					return nil
				}), taskmanager.WithDrain(drain))
				time.Sleep(time.Second)
				require.NoError(t, task.Restart(context.Background()))
				time.Sleep(time.Second)
				synctest.Wait()
				require.NoError(t, m.StopTask(context.Background(), "group"))
				assert.Equal(t, drainLog{began: worker.began, draining: time.Second, ended: 3 * time.Second, return_: 3 * time.Second, cause: taskmanager.ErrStopped}, worker)
				assert.Equal(t, drainLog{began: other.began, draining: time.Second, ended: time.Second, return_: time.Second, cause: taskmanager.ErrStopped}, other)
				causes := make(map[string][]error)
				for _, e := range received(events) {
					if e.Kind == taskmanager.EventStopped {
						causes[e.Task] = append(causes[e.Task], e.Cause)
					}
				}
				assert.Equal(t, map[string][]error{
					"group":        {taskmanager.ErrRestarted, taskmanager.ErrStopped},
					"group/worker": {taskmanager.ErrRestarted, taskmanager.ErrStopped},
					"group/other":  {taskmanager.ErrRestarted, taskmanager.ErrStopped},
				}, causes)
			})
		})
	}
}

// A body that calls that of a group in each of its turns leaves nothing of the former ones.
func TestDrainOfGroupsOneAfterTheOther(t *testing.T) {
	type big struct{ _ [1 << 20]byte }
	for name, around := range map[string]func(t *testing.T, ctx context.Context) context.Context{
		"in the context as it is":       func(_ *testing.T, ctx context.Context) context.Context { return ctx },
		"in a context with another end": withCancel,
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			var pointers []weak.Pointer[big]
			group := taskmanager.Group(func(m *taskmanager.Manager) error {
				_, err := m.StartTask("a", succeed, critical)
				return err
			}, silently())
			task := start(t, m, "a", func(ctx context.Context) error {
				ctx = around(t, ctx)
				for range 3 {
					value := new(big)
					pointers = append(pointers, weak.Make(value))
					if err := group(context.WithValue(ctx, contextKey{}, value)); err != nil {
						return err
					}
				}
				return untilStopped(ctx)
			}, taskmanager.WithDrain(time.Second))
			synctest.Wait()
			require.Equal(t, taskmanager.StateRunning, task.State())
			runtime.GC()
			alive := 0
			for _, p := range pointers {
				if p.Value() != nil {
					alive++
				}
			}
			assert.Equal(t, 1, alive, "%s: that of Task.Group", name)
		})
	}
}

// What middleware adds to the context of a group that drains is there for its tasks, and where it ends that, the tasks end.
func TestDrainOfAGroupInAContextOfItsOwn(t *testing.T) {
	for name, around := range map[string]func(ctx context.Context) context.Context{
		"of package context": func(ctx context.Context) context.Context { return ctx },
		"of another type":    func(ctx context.Context) context.Context { return foreignContext{ctx} },
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, taskmanager.WithContext(context.WithValue(context.Background(), contextKey{}, "the parent's")))
			var l drainLog
			var value any
			task := start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
				_, err := m.StartTask("a", func(ctx context.Context) error {
					value = ctx.Value(contextKey{})
					return drained(&l, time.Hour, 0)(ctx)
				})
				return err
			}, silently()), taskmanager.WithDrain(time.Second), once(), taskmanager.WithMiddleware(func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
				return func(ctx context.Context) error {
					ctx, cancel := context.WithTimeoutCause(withValue(ctx), time.Minute, errWhy)
					defer cancel()
					return next(around(ctx))
				}
			}))
			<-task.Done()
			assert.Equal(t, drainLog{began: l.began, draining: time.Minute, ended: time.Minute, return_: time.Minute, cause: errWhy}, l, name)
			assert.Equal(t, "a child's", value, name)
		})
	}
}

func TestDrainIsRefused(t *testing.T) {
	tests := map[string]struct {
		opts []taskmanager.TaskOption
		want string
	}{
		"negative": {
			[]taskmanager.TaskOption{taskmanager.WithDrain(-time.Second)}, "taskmanager: WithDrain(-1s): must not be negative",
		},
		"as long as the default stop timeout": {
			[]taskmanager.TaskOption{taskmanager.WithDrain(5 * time.Second)}, "taskmanager: WithDrain(5s): must be less than the stop timeout, which is 5s",
		},
		"longer than the stop timeout that is given after it": {
			[]taskmanager.TaskOption{taskmanager.WithDrain(2 * time.Second), taskmanager.WithStopTimeout(time.Second)},
			"taskmanager: WithDrain(2s): must be less than the stop timeout, which is 1s",
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			m := newManager(t)
			_, err := m.StartTask("a", boom, test.opts...)
			var option *taskmanager.OptionError
			require.ErrorAs(t, err, &option)
			assert.EqualError(t, err, test.want)
			assert.Equal(t, "WithDrain", option.Option)
			var opts []taskmanager.Option
			for _, o := range test.opts {
				opts = append(opts, o)
			}
			_, err = taskmanager.New(opts...)
			assert.EqualError(t, err, test.want)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithDrain(3*time.Second))
		_, err := m.StartTask("a", boom, taskmanager.WithStopTimeout(time.Second))
		require.EqualError(t, err, "taskmanager: WithDrain(3s): must be less than the stop timeout, which is 1s", "that of the Manager")
		start(t, m, "a", untilStopped, taskmanager.WithStopTimeout(time.Second), taskmanager.WithDrain(0))
		start(t, m, "b", untilStopped, taskmanager.WithDrain(20*time.Second), taskmanager.WithStopTimeout(21*time.Second))
	})
}

// Draining is the same for all contexts of a run, whenever it is called.
func TestDrainingOfAnyContextOfARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task, ctx := contextOf(t, m, taskmanager.WithDrain(4*time.Second))
		derived, cancel := context.WithCancel(withValue(ctx))
		cancel()
		stopCtx, release := taskmanager.StopContext(ctx)
		defer release()
		all := map[string]<-chan struct{}{
			"the run's": taskmanager.Draining(ctx), "of a child that is done": taskmanager.Draining(derived),
			"of its own": taskmanager.Draining(stopCtx),
		}
		assert.Equal(t, all["the run's"], taskmanager.Draining(ctx), "the same channel each time")
		for of, c := range all {
			assert.False(t, hasClosed(c), of)
		}
		go func() { assert.NoError(t, task.Stop(context.Background())) }()
		synctest.Wait()
		all["while it drains"] = taskmanager.Draining(ctx)
		for of, c := range all {
			assert.True(t, hasClosed(c), of)
		}
		assert.NoError(t, ctx.Err())
		<-task.Done()
		assert.True(t, hasClosed(taskmanager.Draining(ctx)), "after the end of the run")
	})
}

// Who calls Draining for the first time while the run drains hears at once that it does.
func TestDrainingThatIsCalledLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task, ctx := contextOf(t, m, taskmanager.WithDrain(4*time.Second))
		go func() { assert.NoError(t, task.Stop(context.Background())) }()
		synctest.Wait()
		require.NoError(t, ctx.Err())
		assert.True(t, hasClosed(taskmanager.Draining(ctx)))
		<-task.Done()

		task, ctx = contextOf(t, m, taskmanager.WithDrain(4*time.Second))
		require.NoError(t, task.Stop(context.Background()))
		assert.True(t, hasClosed(taskmanager.Draining(ctx)), "after the end")
	})
}

// Without a drain it ends with the context, and so it is that.
func TestDrainingWithoutADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task, ctx := contextOf(t, m)
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		assert.Equal(t, ctx.Done(), taskmanager.Draining(ctx))
		assert.Equal(t, ctx.Done(), taskmanager.Draining(child))
		require.NoError(t, task.Stop(context.Background()))
		assert.True(t, hasClosed(taskmanager.Draining(ctx)))
	})
}

func TestDrainingOfOtherContexts(t *testing.T) {
	assert.Nil(t, taskmanager.Draining(noContext))
	assert.Nil(t, taskmanager.Draining(context.Background()))
	ctx, cancel := context.WithCancel(context.Background())
	assert.Equal(t, ctx.Done(), taskmanager.Draining(ctx))
	cancel()
	assert.True(t, hasClosed(taskmanager.Draining(ctx)))
}

// A context for the clean-up lives on until the deadline of the stop, and then says so.
func TestStopContextLivesUntilTheDeadline(t *testing.T) {
	tests := map[string]struct {
		opts   []taskmanager.TaskOption
		within time.Duration // of the stop; 0: the stop timeout
		ends   time.Duration
	}{
		"the stop timeout":    {nil, 0, 5 * time.Second},
		"an earlier deadline": {nil, 2 * time.Second, 2 * time.Second},
		"with a drain":        {[]taskmanager.TaskOption{taskmanager.WithDrain(3 * time.Second)}, 0, 5 * time.Second},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				var ends []time.Duration
				release := make(chan struct{})
				task := start(t, m, "a", func(ctx context.Context) error {
					before, cancelBefore := taskmanager.StopContext(withValue(ctx))
					defer cancelBefore()
					_, ok := before.Deadline()
					assert.False(t, ok, "nothing has been asked")
					<-taskmanager.Draining(ctx)
					began := time.Now()
					during, cancelDuring := taskmanager.StopContext(withValue(ctx))
					defer cancelDuring()
					deadline, ok := during.Deadline()
					assert.True(t, ok)
					assert.Equal(t, test.ends, deadline.Sub(began))
					for _, c := range []context.Context{before, during} {
						assert.NoError(t, c.Err())
						assert.Equal(t, "a child's", c.Value(contextKey{}))
						self, _ := taskmanager.FromContext(c)
						assert.Equal(t, "a", self.Name())
					}
					for _, c := range []context.Context{before, during} {
						<-c.Done()
						assert.ErrorIs(t, context.Cause(c), context.DeadlineExceeded)
						ends = append(ends, time.Since(began))
					}
					after, cancelAfter := taskmanager.StopContext(ctx)
					defer cancelAfter()
					synctest.Wait()
					assert.ErrorIs(t, context.Cause(after), context.DeadlineExceeded, "the task is stuck")
					<-release
					return nil
				}, test.opts...)
				synctest.Wait()
				ctx, cancel := context.Background(), context.CancelFunc(func() {})
				if test.within > 0 {
					ctx, cancel = context.WithTimeout(ctx, test.within)
				}
				defer cancel()
				asStuck(t, task.Stop(ctx), "a", test.ends)
				close(release)
				<-task.Done()
				assert.Equal(t, []time.Duration{test.ends, test.ends}, ends)
			})
		})
	}
}

// It ends with the body, before anybody hears that the task has stopped; and what is made after that has ended.
func TestStopContextEndsWithTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var kept, child, ctx context.Context
		task := start(t, m, "a", func(c context.Context) error {
			ctx = c
			kept, _ = taskmanager.StopContext(c)
			child = withCancel(t, kept)
			<-c.Done()
			return nil
		})
		synctest.Wait()
		require.NoError(t, task.Stop(context.Background()))
		require.ErrorIs(t, context.Cause(kept), context.Canceled)
		require.ErrorIs(t, context.Cause(child), context.Canceled)
		late, cancel := taskmanager.StopContext(ctx)
		defer cancel()
		require.ErrorIs(t, context.Cause(late), context.Canceled)
		assert.Equal(t, "taskmanager.Task(a)", fmt.Sprint(ctx))
	})
}

// Its own cancel ends one and nothing else.
func TestStopContextIsCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		_, ctx := contextOf(t, m)
		one, cancelOne := taskmanager.StopContext(ctx)
		other, cancelOther := taskmanager.StopContext(ctx)
		defer cancelOther()
		child, cancel := context.WithCancel(one)
		defer cancel()
		cancelOne()
		require.ErrorIs(t, one.Err(), context.Canceled)
		require.ErrorIs(t, child.Err(), context.Canceled)
		require.NoError(t, other.Err())
		require.NoError(t, ctx.Err())
	})
}

// Of two stops the earlier deadline counts, whichever has been asked for first.
func TestStopContextOfTwoStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		ends := make(chan time.Duration, 2)
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			began := time.Now()
			first, cancel := taskmanager.StopContext(ctx)
			defer cancel()
			time.Sleep(time.Second)
			synctest.Wait()
			second, cancel := taskmanager.StopContext(ctx)
			defer cancel()
			deadline, _ := second.Deadline()
			ends <- deadline.Sub(began)
			<-first.Done()
			ends <- time.Since(began)
			return nil
		})
		synctest.Wait()
		go func() {
			assert.NoError(t, task.Stop(context.Background()), "the body has returned before that deadline")
		}()
		time.Sleep(500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		assert.Error(t, m.StopAll(ctx))
		assert.Equal(t, 2500*time.Millisecond, <-ends)
		assert.Equal(t, 2500*time.Millisecond, <-ends)
		<-task.Done()
	})
}

// A run that was canceled because it was late has its stop timeout for the clean-up.
func TestStopContextOfARunThatIsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var ended []time.Duration
		task := start(t, m, "a", func(ctx context.Context) error {
			before, cancel := taskmanager.StopContext(ctx)
			defer cancel()
			<-ctx.Done()
			began := time.Now()
			after, cancel := taskmanager.StopContext(ctx)
			defer cancel()
			for _, c := range []context.Context{before, after} {
				<-c.Done()
				ended = append(ended, time.Since(began))
				assert.ErrorIs(t, context.Cause(c), context.DeadlineExceeded)
			}
			return nil
		}, taskmanager.WithWatchdog(time.Minute), once())
		<-task.Done()
		assert.Equal(t, []time.Duration{5 * time.Second, 5 * time.Second}, ended)
	})
}

// One that is made when the task is stuck, for whatever that is, has ended.
func TestStopContextOfAStuckTask(t *testing.T) {
	for name, ask := range map[string]func(task *taskmanager.Task) error{
		"stop":    func(task *taskmanager.Task) error { return task.Stop(context.Background()) },
		"pause":   func(task *taskmanager.Task) error { return task.Pause(context.Background()) },
		"restart": func(task *taskmanager.Task) error { return task.Restart(context.Background()) },
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			body, given := newDeafBody(), make(chan context.Context, 1)
			task := start(t, m, "a", func(ctx context.Context) error { given <- ctx; return body.run(ctx) })
			synctest.Wait()
			asStuck(t, ask(task), "a", 5*time.Second)
			ctx, cancel := taskmanager.StopContext(<-given)
			defer cancel()
			assert.ErrorIs(t, context.Cause(ctx), context.DeadlineExceeded, name)
			body.release()
			synctest.Wait()
		})
	}
}

func TestStopContextOfOtherContexts(t *testing.T) {
	ctx, cancel := taskmanager.StopContext(noContext)
	require.NoError(t, ctx.Err())
	cancel()
	require.ErrorIs(t, ctx.Err(), context.Canceled)

	parent, end := context.WithCancelCause(context.WithValue(context.Background(), contextKey{}, "value"))
	ctx, cancel = taskmanager.StopContext(parent)
	defer cancel()
	assert.Equal(t, "value", ctx.Value(contextKey{}))
	end(errWhy)
	require.ErrorIs(t, context.Cause(ctx), errWhy)
}

// Neither it nor its children take a goroutine, and what was made for a run is gone with it.
func TestStopContextTakesNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		_, ctx := contextOf(t, m, taskmanager.WithDrain(time.Second))
		synctest.Wait()
		before := goroutines()
		for range 100 {
			stop, cancel := taskmanager.StopContext(ctx)
			t.Cleanup(cancel)
			child, cancel := context.WithTimeout(stop, time.Hour)
			t.Cleanup(cancel)
			context.AfterFunc(child, func() {})
			taskmanager.Draining(ctx)
		}
		synctest.Wait()
		assert.Equal(t, before, goroutines())
	})
}

// A body that has not been entered, because the log's handler hangs with the line of the start, has no work in hand: the stop does
// not wait for the end of the drain.
func TestDrainBeforeTheBodyIsEntered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		m := newManager(t, slowLog("task started", func() { <-goOn }))
		defer close(goOn)
		var l drainLog
		task := start(t, m, "a", drained(&l, 0, 0), taskmanager.WithDrain(4*time.Second))
		time.Sleep(time.Second)
		began := time.Now()
		require.NoError(t, task.Stop(context.Background()))
		took(t, 0, began)
	})
}

// A context of the user's own type is asked on the goroutine of the caller, with no lock held: what it does is done to that.
func TestDrainOfAContextOfTheUsersOwnType(t *testing.T) {
	calls := map[string]func(ctx context.Context){
		"Draining":    func(ctx context.Context) { taskmanager.Draining(ctx) },
		"StopContext": func(ctx context.Context) { _, cancel := taskmanager.StopContext(ctx); cancel() },
		"a value of StopContext's": func(ctx context.Context) {
			stop, cancel := taskmanager.StopContext(ctx)
			defer cancel()
			stop.Value("any")
		},
		"a child of StopContext's": func(ctx context.Context) {
			stop, cancel := taskmanager.StopContext(ctx)
			defer cancel()
			_, cancel = context.WithTimeout(stop, time.Second)
			cancel()
		},
	}
	acts := map[string]func(ctx context.Context){
		"it hangs":  func(ctx context.Context) { time.Sleep(time.Second) },
		"it panics": func(context.Context) { panic("why") },
		"it exits":  func(context.Context) { runtime.Goexit() },
		"it calls back": func(ctx context.Context) {
			self, _ := taskmanager.FromContext(ctx)
			_ = self.Stats()
			taskmanager.Draining(ctx)
			_, cancel := taskmanager.StopContext(ctx)
			cancel()
			_ = self.Stop(ctx)
		},
	}
	for call, f := range calls {
		for act, g := range acts {
			t.Run(call+", "+act, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t)
					task := start(t, m, "a", func(ctx context.Context) error {
						f(actingContext{ctx, sync.OnceFunc(func() { g(ctx) })})
						return nil
					}, taskmanager.WithDrain(time.Second), once())
					<-task.Done()
					assert.NotEqual(t, taskmanager.StateStuck, task.State())
				})
			})
		}
	}
}

// An actingContext does something when it is asked for a value first.
type actingContext struct {
	context.Context
	act func()
}

func (c actingContext) Value(key any) any {
	c.act()
	return c.Context.Value(key)
}
