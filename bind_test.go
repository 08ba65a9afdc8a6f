package taskmanager_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func bindTo(names ...string) taskmanager.TaskOption { return taskmanager.WithBindTo(names...) }

// Where the parent has ended, a task that waits for its turn to stop, and loses then what it is bound to, ends with the parent: it does not
// run again. Nor does it drain any more.
func TestBindToAtTheEndOfTheParent(t *testing.T) {
	for name, opts := range map[string][]taskmanager.TaskOption{"at once": nil, "with a drain": {taskmanager.WithDrain(2 * time.Second)}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, end := context.WithCancelCause(context.Background())
				m := newManager(t, taskmanager.WithContext(parent))
				start(t, m, "db", failAfter(time.Second))
				var (
					cause error
					ended time.Time
				)
				api := start(t, m, "api", func(ctx context.Context) error {
					<-ctx.Done()
					cause, ended = context.Cause(ctx), time.Now()
					return ctx.Err()
				}, append(opts, bindTo("db"))...)
				start(t, m, "balancer", slowToStop(3*time.Second), dependsOn("api"))
				synctest.Wait()
				began := time.Now()
				end(errWhy)
				<-api.Done()
				assert.Equal(t, errWhy, cause)
				assert.Equal(t, time.Second, ended.Sub(began))
				assert.Equal(t, taskmanager.StateStopped, api.State())
				assert.EqualValues(t, 1, api.Stats().Runs)
			})
		})
	}
}

// A bound task ends its run at the moment at which the one that it is bound to is lost, however that comes about, and runs again
// at the moment at which that is ready.
func TestBindTo(t *testing.T) {
	type scene struct {
		m  *taskmanager.Manager
		db *taskmanager.Task
	}
	call := func(t *testing.T, f func(ctx context.Context) error) {
		t.Helper()
		go func() { assert.NoError(t, f(context.Background())) }()
	}
	for name, c := range map[string]struct {
		body  taskmanager.TaskFunc
		opts  []taskmanager.TaskOption
		lose  func(t *testing.T, s scene)
		lost  time.Duration // after lose
		state taskmanager.State
		again time.Duration // after that
	}{
		"fails":    {body: failAfter(5 * time.Second), lost: 5 * time.Second, state: taskmanager.StateBackoff, again: time.Second},
		"restarts": {body: slowToStop(2 * time.Second), lose: func(t *testing.T, s scene) { call(t, s.db.Restart) }, state: taskmanager.StateStopping, again: 2 * time.Second},
		"is stopped": {body: slowToStop(2 * time.Second), lose: func(t *testing.T, s scene) {
			call(t, s.db.Stop)
			time.AfterFunc(4*time.Second, func() { assert.NoError(t, s.db.Restart(context.Background())) })
		}, state: taskmanager.StateStopping, again: 4 * time.Second},
		"misses a heartbeat": {
			body: slowToStop(2 * time.Second), opts: []taskmanager.TaskOption{taskmanager.WithWatchdog(3 * time.Second)},
			lost: 3 * time.Second, state: taskmanager.StateStopping, again: 3 * time.Second,
		},
		"is ready late": {
			body: readyAfter(4 * time.Second), opts: []taskmanager.TaskOption{taskmanager.WithReadiness(time.Minute)},
			lose: func(t *testing.T, s scene) { call(t, s.db.Restart) }, state: taskmanager.StateRunning, again: 4 * time.Second,
		},
		"ends, though it returns nil": {
			body: func(ctx context.Context) error { _ = failAfter(5 * time.Second)(ctx); return nil }, opts: []taskmanager.TaskOption{taskmanager.WithRestart(taskmanager.RestartAlways)},
			lost: 5 * time.Second, state: taskmanager.StateBackoff, again: time.Second,
		},
		"is given up": {
			body: failAfter(5 * time.Second), opts: []taskmanager.TaskOption{once()}, lost: 5 * time.Second,
			lose: func(t *testing.T, s scene) {
				time.AfterFunc(6*time.Second, func() { assert.NoError(t, s.db.Restart(context.Background())) })
			},
			state: taskmanager.StateFailed, again: time.Second,
		},
		"is taken over": {
			body: failAfter(5 * time.Second), opts: []taskmanager.TaskOption{once()}, lost: 5 * time.Second,
			lose: func(t *testing.T, s scene) {
				time.AfterFunc(6*time.Second, func() { start(t, s.m, "db", untilStopped) })
			},
			state: taskmanager.StateFailed, again: time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact(taskmanager.WithReporter(newInbox(nil)))...)
				db := start(t, m, "db", c.body, c.opts...)
				var causes causeLog
				consumer := start(t, m, "consumer", causes.run, bindTo("db"))
				if c.opts != nil && settled(consumer) == taskmanager.StateWaiting {
					time.Sleep(4 * time.Second) // until it is ready
				}
				require.Equal(t, taskmanager.StateRunning, settled(consumer))
				events := m.Subscribe(t.Context())
				began := consumer.Stats().RunStartedAt
				if c.lose != nil {
					c.lose(t, scene{m, db})
				}
				if c.lost > 0 {
					time.Sleep(c.lost - 1)
					require.Equal(t, taskmanager.StateRunning, settled(consumer))
					time.Sleep(time.Nanosecond)
				}
				require.Equal(t, taskmanager.StateWaiting, settled(consumer))
				require.Equal(t, c.state, db.State())
				lost := time.Now()
				require.Len(t, causes.all(), 1)
				cause := causes.all()[0]
				require.ErrorIs(t, cause, taskmanager.ErrDependencyLost)
				require.EqualError(t, cause, `taskmanager: task "consumer" was bound to task "db", which was lost`)
				assert.Contains(t, statusOf(consumer), `waiting for "db"`)

				time.Sleep(c.again - 1)
				require.Equal(t, taskmanager.StateWaiting, settled(consumer))
				time.Sleep(time.Nanosecond)
				require.Equal(t, taskmanager.StateRunning, settled(consumer))
				stats := consumer.Stats()
				assert.EqualValues(t, 2, stats.Runs)
				assert.Zero(t, stats.Failures)
				assert.Zero(t, stats.RestartsInWindow)
				assert.NoError(t, stats.LastError)
				var ofConsumer []taskmanager.Event
				for _, e := range pending(events) {
					if e.Task == "consumer" {
						ofConsumer = append(ofConsumer, e)
					}
				}
				require.Len(t, ofConsumer, 2)
				stopped := ofConsumer[0]
				assert.Equal(t, taskmanager.EventStopped, stopped.Kind)
				assert.Equal(t, lost, stopped.Time)
				assert.Equal(t, lost.Sub(began), stopped.Uptime)
				assert.EqualValues(t, 1, stopped.Run)
				assert.Equal(t, cause, stopped.Cause)
				require.ErrorIs(t, stopped.Err, taskmanager.ErrDependencyLost)
				assert.Equal(t, slog.LevelInfo, stopped.Kind.Level())
				assert.Equal(t, taskmanager.EventStarted, ofConsumer[1].Kind)
				assert.Empty(t, received(events))
			})
		})
	}
}

func TestBindToOneThatCompletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		db := start(t, m, "db", func(context.Context) error { time.Sleep(time.Second); return nil })
		consumer := start(t, m, "consumer", untilStopped, bindTo("db"))
		time.Sleep(time.Hour)
		require.Equal(t, taskmanager.StateCompleted, settled(db))
		require.Equal(t, taskmanager.StateRunning, settled(consumer))
		assert.EqualValues(t, 1, consumer.Stats().Runs)

		// Its next life is one like any other: it is lost, or not.
		require.NoError(t, db.Restart(t.Context()))
		require.Equal(t, taskmanager.StateRunning, settled(consumer))
		assert.EqualValues(t, 1, consumer.Stats().Runs)
		require.NoError(t, db.Stop(t.Context()))
		require.Equal(t, taskmanager.StateWaiting, settled(consumer))
	})
}

// What depends on a bound task without being bound to it is not disturbed; nor is one that is bound to what depends on it.
func TestBindToAndDependOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		db := start(t, m, "db", untilStopped)
		cache := start(t, m, "cache", untilStopped)
		both := start(t, m, "both", untilStopped, dependsOn("cache"), bindTo("db"))
		twice := start(t, m, "twice", untilStopped, bindTo("db", "db"), dependsOn("db"))
		depends := start(t, m, "depends", untilStopped, dependsOn("both"))
		second := start(t, m, "second", untilStopped, bindTo("depends"))
		synctest.Wait()
		assert.Equal(t, []string{"cache", "db"}, both.Stats().DependsOn)
		assert.Equal(t, []string{"db"}, twice.Stats().DependsOn)
		require.NoError(t, cache.Stop(t.Context()))
		synctest.Wait()
		for _, task := range []*taskmanager.Task{both, twice, depends, second} {
			assert.Equal(t, taskmanager.StateRunning, task.State(), task.Name())
		}
		require.NoError(t, db.Restart(t.Context()))
		require.Equal(t, taskmanager.StateWaiting, settled(both))
		assert.Equal(t, `waiting for "cache" (stopped)`, statusOf(both))
		assert.Equal(t, taskmanager.StateRunning, settled(twice))
		assert.EqualValues(t, 2, twice.Stats().Runs)
		assert.EqualValues(t, 1, depends.Stats().Runs)
		assert.EqualValues(t, 1, second.Stats().Runs)
		require.NoError(t, cache.Restart(t.Context()))
		require.Equal(t, taskmanager.StateRunning, settled(both))
	})
}

// Each task of a chain is bound to the one before. Whoever loses the first one does not wait for the bodies, and needs no stack for each.
func TestBindToInAChain(t *testing.T) {
	n := 30_000
	if underRace {
		n = 5000
	}
	const enough = 16 << 20
	defer debug.SetMaxStack(debug.SetMaxStack(enough))
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(0, 0))
		fail := make(chan struct{})
		start(t, m, "t0", func(ctx context.Context) error {
			select {
			case <-fail:
				return errBoom
			case <-ctx.Done():
				return nil
			}
		})
		for i := 1; i < n; i++ {
			start(t, m, fmt.Sprint("t", i), untilStopped, bindTo(fmt.Sprint("t", i-1)))
		}
		synctest.Wait()
		require.Equal(t, n, m.Stats().Running)
		bytes := allocated(func() {
			fail <- struct{}{}
			synctest.Wait()
		})
		s := m.Stats()
		assert.Equal(t, n, s.Running)
		assert.EqualValues(t, 2*n, s.Runs)
		assert.EqualValues(t, 1, s.Failures)
		assert.Less(t, bytes/uint64(n), uint64(10_000), "bytes for each task of the chain")
		go func() { assert.NoError(t, m.StopAll(context.Background())) }()
		synctest.Wait()
		assert.Zero(t, m.Stats().Running)
	})
}

// Those that are bound are stopped before, and are lost to nobody.
func TestBindToAndStopAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		log := newStopLog()
		start(t, m, "a", log.body(time.Second))
		start(t, m, "b", log.body(time.Second), bindTo("a"))
		start(t, m, "c", log.body(time.Second), bindTo("b"))
		events := m.Subscribe(t.Context())
		log.begin()
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, times{"c": 0, "b": time.Second, "a": 2 * time.Second}, log.times())
		for _, name := range []string{"a", "b", "c"} {
			assert.Equal(t, taskmanager.ErrStopped, log.cause(name))
		}
		for _, e := range ofKind(taskmanager.EventStopped, pending(events)) {
			assert.NoError(t, e.Err)
		}
	})
}

// A body that ignores the end of its context is stuck after its stop timeout, as one that was late is, and goes on when it has returned.
func TestBindToOfABodyThatDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		db := start(t, m, "db", untilStopped)
		body := newDeafBody()
		runs := 0
		consumer := start(t, m, "consumer", func(ctx context.Context) error {
			if runs++; runs > 1 {
				return untilStopped(ctx)
			}
			return errors.Join(errBoom, body.hangInBody(ctx))
		}, bindTo("db"), taskmanager.WithStopTimeout(3*time.Second))
		second := start(t, m, "second", untilStopped, bindTo("consumer"))
		synctest.Wait()
		events := m.Subscribe(t.Context())
		require.NoError(t, db.Restart(t.Context()))
		require.Equal(t, taskmanager.StateStopping, settled(consumer))
		require.Equal(t, taskmanager.StateWaiting, settled(second), "it is lost to those that are bound to it at once")
		time.Sleep(3*time.Second - 1)
		require.Equal(t, taskmanager.StateStopping, settled(consumer))
		time.Sleep(time.Nanosecond)
		require.Equal(t, taskmanager.StateStuck, settled(consumer))
		stuck := ofKind(taskmanager.EventStuck, pending(events))
		require.Len(t, stuck, 1)
		assert.Contains(t, string(asStuck(t, stuck[0].Err, "consumer", 3*time.Second).Stack), "hangInBody")
		assert.Equal(t, taskmanager.HealthStuck, m.Health().Problems[0].Reason)
		asStuck(t, consumer.Restart(t.Context()), "consumer", 3*time.Second)

		body.release()
		require.Equal(t, taskmanager.StateRunning, settled(consumer))
		require.Equal(t, taskmanager.StateRunning, settled(second))
		stopped := ofKind(taskmanager.EventStopped, pending(events))
		require.Len(t, stopped, 1)
		require.ErrorIs(t, stopped[0].Cause, taskmanager.ErrDependencyLost)
		require.ErrorIs(t, stopped[0].Err, errBoom, "what the body returns beside the cause is shown")
		assert.Zero(t, consumer.Stats().Failures)
		assert.Empty(t, m.Health().Problems)
	})
}

// A critical task that is stuck because of a loss is gone, until its body returns: nobody has asked for it by hand.
func TestBindToOfACriticalBodyThatDoesNotReturn(t *testing.T) {
	for name, c := range map[string]struct {
		restartAt time.Duration // by hand; 0: never
		within    time.Duration // that has so long
		gone      time.Duration // after the loss
	}{
		"nobody asks":                 {0, 0, 3 * time.Second},
		"a restart times out later":   {2 * time.Second, 3 * time.Second, 5 * time.Second},
		"a restart times out earlier": {time.Second, time.Second, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, exact()...)
				db := start(t, m, "db", untilStopped)
				body := newDeafBody()
				consumer := start(t, m, "consumer", body.run, bindTo("db"), taskmanager.WithCritical(), taskmanager.WithStopTimeout(3*time.Second))
				synctest.Wait()
				r, cancel := goRun(t, m)
				defer cancel()
				require.NoError(t, db.Restart(t.Context()))
				if c.restartAt > 0 {
					time.AfterFunc(c.restartAt, func() {
						ctx, cancel := context.WithTimeout(context.Background(), c.within)
						defer cancel()
						asStuck(t, consumer.Restart(ctx), "consumer", c.within)
					})
				}
				time.Sleep(c.gone - 1)
				synctest.Wait()
				r.lives(t)
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
				require.ErrorIs(t, m.RestartTask(t.Context(), "db"), taskmanager.ErrManagerClosed, "Run ends")
				body.release()
				synctest.Wait()
				asStuck(t, r.err(t, time.Since(consumer.Stats().StartedAt)), "consumer", cmp.Or(c.within, 3*time.Second))
			})
		})
	}
}

// What is asked of the task while its run ends overrides the loss.
func TestBindToIsOverridden(t *testing.T) {
	other := errors.New("other")
	for name, c := range map[string]struct {
		call  func(ctx context.Context, task *taskmanager.Task) error
		err   error
		cause error
		state taskmanager.State
	}{
		"by a restart": {func(ctx context.Context, task *taskmanager.Task) error { return task.Restart(ctx) }, nil, taskmanager.ErrRestarted, taskmanager.StateRunning},
		"by a stop":    {func(ctx context.Context, task *taskmanager.Task) error { return task.Stop(ctx) }, nil, taskmanager.ErrStopped, taskmanager.StateStopped},
	} {
		for _, says := range []error{nil, other} {
			t.Run(fmt.Sprint(name, ", says ", says), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t, exact()...)
					db := start(t, m, "db", untilStopped)
					consumer := start(t, m, "consumer", func(ctx context.Context) error {
						<-ctx.Done()
						time.Sleep(2 * time.Second)
						return errors.Join(context.Cause(ctx), says)
					}, bindTo("db"))
					events := m.Subscribe(t.Context())
					synctest.Wait()
					require.NoError(t, db.Restart(t.Context()))
					time.Sleep(time.Second)
					began := time.Now()
					require.ErrorIs(t, c.call(t.Context(), consumer), c.err)
					took(t, time.Second, began)
					require.Equal(t, c.state, settled(consumer))
					var stopped []taskmanager.Event
					for _, e := range ofKind(taskmanager.EventStopped, pending(events)) {
						if e.Task == "consumer" {
							stopped = append(stopped, e)
						}
					}
					require.Len(t, stopped, 1)
					assert.Equal(t, c.cause, stopped[0].Cause)
					assert.Equal(t, says != nil, errors.Is(stopped[0].Err, other))
					assert.Equal(t, c.state == taskmanager.StateRunning, errors.Is(stopped[0].Err, taskmanager.ErrRestarted))
					if says == nil || c.state == taskmanager.StateStopped {
						assert.NotErrorIs(t, stopped[0].Err, taskmanager.ErrDependencyLost)
					}
				})
			})
		}
	}
}

// A run that has lost what it is bound to, and has left something executing, is the last one.
func TestBindToOfARunThatLeavesSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		db := start(t, m, "db", untilStopped)
		consumer := start(t, m, "consumer", func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("inner: %w", &taskmanager.StopTimeoutError{Task: "inner"})
		}, bindTo("db"))
		synctest.Wait()
		require.NoError(t, db.Restart(t.Context()))
		require.Equal(t, taskmanager.StateFailed, settled(consumer))
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, consumer.Err(), &gaveUp)
		assert.Equal(t, taskmanager.GaveUpLeftRunning, gaveUp.Reason)
	})
}

// The log's handler is asked after the look at the dependencies, and before the run begins.
func TestBindToOneThatIsLostBeforeTheRunBegins(t *testing.T) {
	restart := func(t *testing.T, db *taskmanager.Task) { assert.NoError(t, db.Restart(context.Background())) }
	for name, c := range map[string]struct {
		lose func(t *testing.T, db *taskmanager.Task)
		body taskmanager.TaskFunc
		opts []taskmanager.TaskOption
		lost bool
	}{
		"stops":    {lose: func(t *testing.T, db *taskmanager.Task) { assert.NoError(t, db.Stop(context.Background())) }, body: untilStopped, lost: true},
		"restarts": {lose: restart, body: untilStopped},
		"restarts, and is not ready": {
			lose: restart, body: func() taskmanager.TaskFunc {
				runs := 0
				return func(ctx context.Context) error {
					if runs++; runs != 2 {
						taskmanager.Ready(ctx)
					}
					return untilStopped(ctx)
				}
			}(),
			opts: []taskmanager.TaskOption{taskmanager.WithReadiness(time.Minute)}, lost: true,
		},
		"completes": {
			lose: func(t *testing.T, db *taskmanager.Task) {
				time.Sleep(time.Second)
				assert.NoError(t, db.Wait(context.Background()))
			},
			body: func(context.Context) error { time.Sleep(time.Second); return nil },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var db *taskmanager.Task
				h := askedHandler{asked: func(slog.Level) bool { return false }}
				m := newManager(t, taskmanager.WithLogger(slog.New(&h)))
				db = start(t, m, "db", c.body, c.opts...)
				synctest.Wait()
				lost := false
				h.asked = func(level slog.Level) bool {
					if level == slog.LevelDebug && !lost {
						lost = true
						c.lose(t, db)
					}
					return false
				}
				var causes causeLog
				consumer := start(t, m, "consumer", causes.run, bindTo("db"))
				second := start(t, m, "second", untilStopped, bindTo("consumer"))
				time.Sleep(time.Second)
				synctest.Wait()
				require.True(t, lost)
				if c.lost {
					require.Equal(t, taskmanager.StateWaiting, settled(consumer))
					require.Equal(t, taskmanager.StateWaiting, settled(second))
					require.Len(t, causes.all(), 1)
					require.ErrorIs(t, causes.all()[0], taskmanager.ErrDependencyLost)
					require.NoError(t, db.Restart(t.Context()))
				} else {
					assert.EqualValues(t, 1, consumer.Stats().Runs, "it runs with the next run, or with none")
				}
				require.Equal(t, taskmanager.StateRunning, settled(consumer))
				require.Equal(t, taskmanager.StateRunning, settled(second))
			})
		})
	}
}

// Of a group it is the run that counts. What is bound to a group, or is one, is as any other task.
func TestBindToAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		group := start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("inner", failAfter(10*time.Second), taskmanager.WithCritical(), taskmanager.WithMaxRestarts(1))
			return err
		}, exact()...))
		bound := start(t, m, "bound", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("inner", untilStopped)
			return err
		}), bindTo("group"))
		consumer := start(t, m, "consumer", untilStopped, bindTo("bound"))
		events := m.Subscribe(t.Context())
		time.Sleep(11 * time.Second)
		require.Equal(t, taskmanager.StateRunning, settled(group), "one of its tasks has failed, and runs again")
		for _, task := range []*taskmanager.Task{bound, consumer} {
			require.Equal(t, taskmanager.StateRunning, settled(task))
			assert.EqualValues(t, 1, task.Stats().Runs)
		}
		time.Sleep(10 * time.Second) // the second failure ends the run of the group
		require.Equal(t, taskmanager.StateBackoff, settled(group))
		for _, task := range []*taskmanager.Task{bound, consumer} {
			require.Equal(t, taskmanager.StateWaiting, settled(task))
		}
		for _, e := range ofKind(taskmanager.EventStopped, pending(events)) {
			require.ErrorIs(t, e.Cause, taskmanager.ErrDependencyLost, e.Task)
		}
		time.Sleep(time.Second)
		for _, task := range []*taskmanager.Task{group, bound, consumer} {
			require.Equal(t, taskmanager.StateRunning, settled(task))
		}
	})
}

func TestBindToIsChecked(t *testing.T) {
	_, err := taskmanager.New(bindTo("db"))
	require.EqualError(t, err, `taskmanager: WithBindTo("db"): is for StartTask alone`)
	m := newManager(t)
	var refused *taskmanager.OptionError
	_, err = m.StartTask("a", untilStopped, bindTo("good", "bad\n"))
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "WithBindTo", refused.Option)
	assert.Contains(t, refused.Reason, `"bad\n" must `)
	_, err = m.StartTask("a", untilStopped, bindTo("a"))
	require.EqualError(t, err, `taskmanager: WithBindTo("a"): makes a cycle: "a" -> "a"`)
	start(t, m, "a", untilStopped, bindTo("b"))
	start(t, m, "b", untilStopped, dependsOn("c"))
	_, err = m.StartTask("c", untilStopped, bindTo("x", "a"), dependsOn("y"))
	require.EqualError(t, err, `taskmanager: WithBindTo("x", "a"): makes a cycle: "c" -> "a" -> "b" -> "c"`)
	_, err = m.StartTask("c", untilStopped, bindTo("x"), dependsOn("a"))
	require.EqualError(t, err, `taskmanager: WithDependsOn("a", "x"): makes a cycle: "c" -> "a" -> "b" -> "c"`)
}

// An option may be given to several tasks: none changes what the others have.
func TestBindToIsCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		depends := dependsOn("db", "cache", "log")
		a := start(t, m, "a", untilStopped, depends, bindTo("x"))
		b := start(t, m, "b", untilStopped, depends, bindTo("y"))
		c := start(t, m, "c", untilStopped, bindTo("x"), bindTo())
		assert.Equal(t, []string{"db", "cache", "log", "x"}, a.Stats().DependsOn)
		assert.Equal(t, []string{"db", "cache", "log", "y"}, b.Stats().DependsOn)
		assert.Equal(t, taskmanager.StateRunning, settled(c), "the last one given wins")
	})
}

// The line says because of which task the run has ended.
func TestBindToInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
		db := start(t, m, "db", untilStopped)
		start(t, m, "consumer", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }, bindTo("db"))
		synctest.Wait()
		require.NoError(t, db.Restart(t.Context()))
		synctest.Wait()
		assert.Contains(t, fmt.Sprint(lines.about("task stopped")), `cause=taskmanager: task "consumer" was bound to task "db", which was lost`)
		assert.Empty(t, lines.about("error="))
	})
}

// One that is paused is lost. One that is paused while its run ends for a loss stays so; one whose body does not return is, too, when it has.
func TestBindToAndPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		db := start(t, m, "db", untilStopped)
		consumer := start(t, m, "consumer", slowToStop(time.Second), bindTo("db"))
		body := newDeafBody()
		deaf := start(t, m, "deaf", body.run, bindTo("db"), taskmanager.WithStopTimeout(2*time.Second))
		synctest.Wait()
		events := m.Subscribe(t.Context())
		require.NoError(t, db.Pause(t.Context()))
		require.Equal(t, taskmanager.StateStopping, settled(consumer))
		time.Sleep(time.Second)
		require.Equal(t, taskmanager.StateWaiting, settled(consumer))
		assert.Equal(t, `waiting for "db" (paused)`, statusOf(consumer))
		require.NoError(t, db.Resume())
		require.Equal(t, taskmanager.StateRunning, settled(consumer))

		require.NoError(t, db.Restart(t.Context()))
		began := time.Now()
		require.NoError(t, consumer.Pause(t.Context()))
		took(t, time.Second, began)
		require.Equal(t, taskmanager.StatePaused, settled(consumer))
		paused := ofKind(taskmanager.EventPaused, pending(events))
		require.Len(t, paused, 2)
		assert.NoError(t, paused[1].Err)
		require.ErrorIs(t, consumer.WaitReady(canceled(t)), context.Canceled, "it is waited for")
		require.NoError(t, consumer.Resume())
		require.NoError(t, consumer.WaitReady(t.Context()))
		require.Equal(t, taskmanager.StateRunning, settled(consumer))

		require.Equal(t, taskmanager.StateStuck, settled(deaf))
		asStuck(t, deaf.Pause(t.Context()), "deaf", 2*time.Second)
		body.release()
		require.Equal(t, taskmanager.StatePaused, settled(deaf))
		require.NoError(t, deaf.Resume())
		require.NoError(t, deaf.WaitReady(t.Context()))
	})
}

// Whoever is bound to one that is bound to a task that was given up will not run either.
func TestBindToInARowIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(t.Context())
		fail := make(chan struct{})
		start(t, m, "db", func(context.Context) error { <-fail; return errBoom }, taskmanager.WithMaxRestarts(0))
		start(t, m, "b", untilStopped, bindTo("db"))
		start(t, m, "c", untilStopped, taskmanager.WithDependsOn("b"))
		start(t, m, "d", untilStopped, bindTo("c"))
		start(t, m, "e", untilStopped, taskmanager.WithDependsOn("d"))
		synctest.Wait()
		close(fail)
		synctest.Wait()
		assert.Equal(t, []string{"b", "c"}, ofKind(taskmanager.EventGaveUp, pending(events))[0].Dependents, "c goes on, as long as it runs")
	})
}
