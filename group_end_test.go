package taskmanager_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func silently() taskmanager.Option { return taskmanager.WithLogger(slog.New(slog.DiscardHandler)) }

// However the start of a group ends, no second body of a task is begun beside one that does not return.
func TestPromise1HoweverTheStartOfAGroupEnds(t *testing.T) {
	for end, how := range map[string]func() error{
		"an error": func() error { return errBoom },
		"a panic":  func() error { panic("start") },
		"Goexit":   func() error { runtime.Goexit(); return nil },
	} {
		for title, test := range map[string]struct {
			deaf  bool
			state taskmanager.State
		}{
			"with a deaf task":      {true, taskmanager.StateFailed},
			"with an obedient task": {false, taskmanager.StateBackoff},
		} {
			t.Run(end+" "+title, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := mustNew(t, taskmanager.WithBackoff(time.Minute, time.Minute), taskmanager.WithBackoffJitter(0))
					deaf := newDeafBody()
					var bodies, most, starts atomic.Int64
					group := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
						starts.Add(1)
						_, err := g.StartTask("a", func(ctx context.Context) error {
							most.Store(max(most.Load(), bodies.Add(1)))
							defer bodies.Add(-1)
							if test.deaf {
								return deaf.run(ctx)
							}
							return slowToStop(time.Second)(ctx)
						}, taskmanager.WithStopTimeout(2*time.Second))
						assert.NoError(t, err)
						time.Sleep(time.Second)
						return how()
					}, silently()))
					time.Sleep(10 * time.Second)
					require.Equal(t, test.state, settled(group))
					assert.EqualValues(t, 1, starts.Load())
					if test.deaf {
						asStuck(t, group.Err(), "a", 2*time.Second)
						if end == "an error" {
							require.ErrorIs(t, group.Err(), errBoom)
						}
						if end == "Goexit" {
							require.ErrorIs(t, group.Err(), taskmanager.ErrGoexit)
						}
						if end == "a panic" {
							var panicked *taskmanager.PanicError
							require.ErrorAs(t, group.Err(), &panicked)
						}
					} else {
						require.Zero(t, bodies.Load())
						time.Sleep(time.Minute)
						require.EqualValues(t, 2, starts.Load())
					}
					assert.EqualValues(t, 1, most.Load(), "bodies of one name at once")
					deaf.release()
					require.NoError(t, m.Shutdown(t.Context()))
					synctest.Wait()
					assert.Zero(t, bodies.Load())
				})
			})
		}
	}
}

// A group whose start panics after it was asked to stop has stopped, when what it has started has.
func TestGroupIsStoppedAndItsStartPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		group := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			if _, err := g.StartTask("a", deaf.run, taskmanager.WithStopTimeout(time.Second)); err != nil {
				return err
			}
			time.Sleep(time.Second)
			panic("start")
		}, silently()))
		synctest.Wait()
		began := time.Now()
		err := group.Stop(t.Context())
		took(t, 5*time.Second, began)
		asStuck(t, err, "g", 5*time.Second)
		require.Equal(t, taskmanager.StateStuck, group.State())
		deaf.release()
		require.NoError(t, group.Wait(t.Context()))
		assert.Equal(t, taskmanager.StateStopped, group.State())
	})
}

// A group is ready when its tasks are, and alive while its Manager is.
func TestGroupUnderReadinessAndAWatchdog(t *testing.T) {
	slow := func(ctx context.Context) error {
		time.Sleep(5 * time.Second)
		taskmanager.Ready(ctx)
		return untilStopped(ctx)
	}
	group := taskmanager.Group(func(g *taskmanager.Manager) error {
		if _, err := g.StartTask("plain", untilStopped); err != nil {
			return err
		}
		_, err := g.StartTask("slow", slow, taskmanager.WithReadiness(time.Minute))
		return err
	}, silently())
	for title, test := range map[string]struct {
		task  []taskmanager.TaskOption
		all   []taskmanager.Option
		ready bool // the group says when it is ready
	}{
		"plain":                    {},
		"readiness":                {task: []taskmanager.TaskOption{taskmanager.WithReadiness(time.Minute)}, ready: true},
		"watchdog":                 {task: []taskmanager.TaskOption{taskmanager.WithWatchdog(time.Second)}},
		"both":                     {task: []taskmanager.TaskOption{taskmanager.WithReadiness(time.Minute), taskmanager.WithWatchdog(time.Second)}, ready: true},
		"both, as defaults of New": {all: []taskmanager.Option{taskmanager.WithReadiness(time.Minute), taskmanager.WithWatchdog(time.Second)}, ready: true},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, test.all...)
				events := m.Subscribe(t.Context())
				began := time.Now()
				g := start(t, m, "g", group, test.task...)
				dependent := start(t, m, "dependent", func(ctx context.Context) error {
					took(t, 5*time.Second, began)
					taskmanager.Ready(ctx)
					taskmanager.HeartbeatWithin(ctx, 1000*time.Hour)
					return untilStopped(ctx)
				}, taskmanager.WithDependsOn("g"))
				time.Sleep(5*time.Second - 1)
				require.Equal(t, taskmanager.StateWaiting, settled(dependent))
				assert.False(t, m.Health().Ready)
				time.Sleep(time.Nanosecond)
				require.Equal(t, taskmanager.StateRunning, settled(dependent))
				assert.True(t, m.Health().Ready, "%v", m.Health())
				time.Sleep(24 * time.Hour)
				assert.Zero(t, g.Stats().Failures, "%v", g.Stats().LastError)
				var ready []taskmanager.Event
				for _, e := range ofKind(taskmanager.EventReady, pending(events)) {
					if e.Task == "g" {
						ready = append(ready, e)
					}
				}
				if test.ready {
					require.Len(t, ready, 1)
					assert.Equal(t, 5*time.Second, ready[0].Time.Sub(began))
				} else {
					require.Empty(t, ready)
				}
			})
		})
	}
}

// A group of which a task never gets ready, or whose start hangs, has failed by being late.
func TestGroupThatIsLate(t *testing.T) {
	for title, test := range map[string]struct {
		start func(g *taskmanager.Manager) error
		opt   taskmanager.TaskOption
		cause error
	}{
		"a task is never ready": {func(g *taskmanager.Manager) error {
			_, err := g.StartTask("a", untilStopped, taskmanager.WithReadiness(time.Hour))
			return err
		}, taskmanager.WithReadiness(time.Minute), taskmanager.ErrNotReady},
		"its start is late": {
			func(*taskmanager.Manager) error { time.Sleep(2 * time.Minute); return nil },
			taskmanager.WithWatchdog(time.Minute), taskmanager.ErrWatchdog,
		},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				g := start(t, m, "g", taskmanager.Group(test.start, silently()), test.opt, once(), taskmanager.WithStopTimeout(time.Hour))
				require.ErrorIs(t, g.Wait(t.Context()), test.cause)
			})
		})
	}
}

// A reporter of the group that hangs holds up neither its stop nor its next run.
func TestGroupWithAHangingReporterIsStoppedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := goroutines()
		m := mustNew(t)
		release := make(chan struct{})
		reporter := newInbox(func(context.Context, int, taskmanager.Event) error { <-release; return nil })
		starts := 0
		g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			starts++
			if _, err := g.StartTask("a", boom, once()); err != nil {
				return err
			}
			_, err := g.StartTask("b", untilStopped)
			return err
		}, silently(), taskmanager.WithReporter(reporter)))
		synctest.Wait()
		began := time.Now()
		require.NoError(t, g.Restart(t.Context()))
		synctest.Wait()
		require.Equal(t, 2, starts)
		require.NoError(t, g.Stop(t.Context()))
		took(t, 0, began)
		assert.Equal(t, taskmanager.StateStopped, g.State())
		close(release)
		require.NoError(t, m.Shutdown(t.Context()))
		time.Sleep(time.Minute)
		assert.Equal(t, before, goroutines())
	})
}

// What is asked while start is under way is done as soon as it has returned, and is no failure, whatever start makes of
// it that it can't start any more.
func TestGroupIsAskedToStopDuringItsStart(t *testing.T) {
	for title, ask := range map[string]func(ctx context.Context, m *taskmanager.Manager) error{
		"StopTask":    func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "g") },
		"RestartTask": func(ctx context.Context, m *taskmanager.Manager) error { return m.RestartTask(ctx, "g") },
		"Shutdown":    func(ctx context.Context, m *taskmanager.Manager) error { return m.Shutdown(ctx) },
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				events := m.Subscribe(t.Context())
				g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
					for i := range 3 {
						time.Sleep(time.Second)
						if _, err := g.StartTask(fmt.Sprint("t", i), untilStopped); err != nil {
							return fmt.Errorf("start of %d: %w", i, err)
						}
					}
					return nil
				}, silently()))
				time.Sleep(1500 * time.Millisecond)
				began := time.Now()
				require.NoError(t, ask(t.Context(), m))
				took(t, time.Second/2, began)
				assert.Zero(t, g.Stats().Failures)
				for _, e := range pending(events) {
					if e.Task == "g" && e.Kind == taskmanager.EventStopped && title != "RestartTask" {
						assert.NoError(t, e.Err, "the error that start has made of it")
					}
				}
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// Subscriptions to the Manager of a group end with the run, whatever their context is; and the Managers of 300 runs are gone.
func TestGroupSubscriptionsEndWithItsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		var channels []<-chan taskmanager.Event
		before := goroutines()
		start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			var none context.Context // never done
			c := g.Subscribe(none)
			channels = append(channels, c)
			go func() {
				for range c {
				}
			}()
			return errBoom
		}, silently()))
		time.Sleep(300 * time.Second)
		require.NoError(t, m.StopAll(t.Context()))
		assert.GreaterOrEqual(t, len(channels), 270)
		assert.Equal(t, before, goroutines(), "listeners of runs that are over")
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// The Reporter of a group is not called by a task, so it finds none in its context.
func TestGroupReporterIsInNoTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithContext(withValue(t.Context())))
		called := false
		g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			_, err := g.StartTask("a", boom, once())
			return err
		}, silently(), taskmanager.WithReporter(taskmanager.ReporterFunc(func(ctx context.Context, _ taskmanager.Event) error {
			called = true
			_, ok := taskmanager.FromContext(ctx)
			assert.False(t, ok)
			assert.NotNil(t, ctx.Value(contextKey{}), "the values of the outermost parent are there")
			return nil
		}))))
		synctest.Wait()
		assert.True(t, called)
		require.NoError(t, g.Stop(t.Context()))
	})
}
