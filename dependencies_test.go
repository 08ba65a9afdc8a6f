package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"strings"
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

// A stopLog notes when, and why, bodies were asked to stop.
type stopLog struct {
	began time.Time

	mu     sync.Mutex
	asked  map[string]time.Duration // since began
	causes map[string]error
}

func newStopLog() *stopLog {
	return &stopLog{began: time.Now(), asked: make(map[string]time.Duration), causes: make(map[string]error)}
}

// body needs d to return after it was asked to.
func (l *stopLog) body(d time.Duration) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		l.note(ctx)
		time.Sleep(d)
		return nil
	}
}

// deaf is a body that notes that it is asked to stop, and does not before release is closed.
func (l *stopLog) deaf(release <-chan struct{}) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		l.note(ctx)
		<-release
		return nil
	}
}

func (l *stopLog) note(ctx context.Context) {
	<-ctx.Done()
	task, _ := taskmanager.FromContext(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[task.Name()] = time.Since(l.began)
	l.causes[task.Name()] = context.Cause(ctx)
}

// begin makes now the time from which on the others are counted.
func (l *stopLog) begin() time.Time {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = time.Now()
	return l.began
}

func (l *stopLog) times() map[string]time.Duration {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.asked)
}

func (l *stopLog) cause(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.causes[name]
}

// statusOf is what the task's statistics say of the task now, when nothing more happens at this moment.
func statusOf(task *taskmanager.Task) string {
	synctest.Wait()
	return task.Stats().Status
}

// dependsOn is short for what these tests need everywhere.
func dependsOn(names ...string) taskmanager.TaskOption { return taskmanager.WithDependsOn(names...) }

func TestADependentWaitsUntilAllAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(t.Context())
		began := time.Now()
		consumer := start(t, m, "consumer", untilStopped, dependsOn("db", "queue"))
		require.Equal(t, taskmanager.StateWaiting, settled(consumer))
		assert.Equal(t, `waiting for "db" (not started), "queue" (not started)`, statusOf(consumer))
		stats := consumer.Stats()
		assert.True(t, m.IsRunning("consumer"))
		assert.False(t, stats.Ready)
		assert.Zero(t, stats.Runs)
		assert.Zero(t, stats.RunStartedAt)
		assert.Equal(t, []string{"db", "queue"}, stats.DependsOn)
		assert.Equal(t, 1, m.Stats().Waiting)

		time.Sleep(time.Second)
		start(t, m, "db", readyAfter(3*time.Second), taskmanager.WithReadiness(time.Minute))
		assert.Equal(t, `waiting for "db" (not ready), "queue" (not started)`, statusOf(consumer))
		time.Sleep(time.Second)
		start(t, m, "queue", untilStopped)
		assert.Equal(t, `waiting for "db" (not ready)`, statusOf(consumer))
		time.Sleep(2*time.Second - 1)
		require.Equal(t, taskmanager.StateWaiting, settled(consumer))
		time.Sleep(time.Nanosecond)
		require.Equal(t, taskmanager.StateRunning, settled(consumer))
		stats = consumer.Stats()
		assert.Empty(t, stats.Status)
		assert.True(t, stats.Ready)
		assert.EqualValues(t, 1, stats.Runs)
		assert.Equal(t, began.Add(4*time.Second).UnixNano(), stats.RunStartedAt.UnixNano())
		assert.Equal(t, began.UnixNano(), stats.StartedAt.UnixNano())
		assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted}, kinds(pending(events), "consumer"), "to wait is no event")
	})
}

func TestADependentOfWhatIsReadyRunsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "db", untilStopped)
		start(t, m, "migration", func(context.Context) error { return nil })
		synctest.Wait()
		consumer := start(t, m, "consumer", untilStopped, dependsOn("db", "migration"))
		require.Equal(t, taskmanager.StateRunning, settled(consumer))
		assert.Empty(t, statusOf(consumer))
	})
}

// A dependency that completes was there for what it has done, and is ready for good.
func TestADependencyCompletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		consumer := start(t, m, "consumer", untilStopped, dependsOn("migration"))
		start(t, m, "migration", func(context.Context) error {
			time.Sleep(2 * time.Second)
			return nil
		}, taskmanager.WithReadiness(time.Minute))
		time.Sleep(2*time.Second - 1)
		require.Equal(t, taskmanager.StateWaiting, settled(consumer))
		time.Sleep(time.Nanosecond)
		require.Equal(t, taskmanager.StateRunning, settled(consumer))
		require.NoError(t, consumer.Restart(t.Context()))
		require.Equal(t, taskmanager.StateRunning, settled(consumer), "it is still ready")

		start(t, m, "migration", readyAfter(time.Second), taskmanager.WithReadiness(time.Minute))
		require.NoError(t, consumer.Restart(t.Context()))
		require.Equal(t, taskmanager.StateWaiting, settled(consumer), "another one of that name is not")
		time.Sleep(time.Second)
		require.Equal(t, taskmanager.StateRunning, settled(consumer))
	})
}

// What has completed is remembered for those who depend on it, and then forgotten like any other.
func TestADependencyHasCompletedLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithHistory(2))
		known := func() (names []string) {
			for _, name := range []string{"migration", "0", "1", "2", "3", "first"} {
				if _, ok := m.Lookup(name); ok {
					names = append(names, name)
				}
			}
			return names
		}
		done := func(context.Context) error { return nil }
		first := start(t, m, "first", untilStopped, dependsOn("migration"))
		start(t, m, "migration", done)
		require.Equal(t, taskmanager.StateRunning, settled(first))
		for i := range 4 {
			start(t, m, fmt.Sprint(i), done)
			synctest.Wait()
		}
		assert.Equal(t, []string{"migration", "2", "3", "first"}, known(), "it takes the place of no other")
		require.NoError(t, first.Restart(t.Context()))
		require.Equal(t, taskmanager.StateRunning, settled(first))

		// One that others depend on, and that has not completed, is no use to them.
		stopped := start(t, m, "stopped", untilStopped)
		require.Equal(t, taskmanager.StateRunning, settled(stopped))
		second := start(t, m, "second", untilStopped, dependsOn("stopped", "0", "1"))
		require.NoError(t, stopped.Stop(t.Context()))
		assert.Equal(t, `waiting for "stopped" (stopped), "0" (not started), "1" (not started)`, statusOf(second))
		for i := range 4 {
			start(t, m, fmt.Sprint(i), done)
			synctest.Wait()
		}
		assert.Equal(t, `waiting for "stopped" (not started)`, statusOf(second))
		assert.Equal(t, []string{"migration", "0", "1", "2", "3", "first"}, known(), "three that are needed, and two others")
		assert.EqualValues(t, 12, m.Stats().Runs)

		// Those who depend on them have ended, and are remembered: they can be restarted.
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, []string{"migration", "0", "1", "first"}, known())
		require.NoError(t, first.Restart(t.Context()))
		require.Equal(t, taskmanager.StateRunning, settled(first))
		require.NoError(t, first.Stop(t.Context()))

		// They are forgotten, and nobody needs any of the others.
		for i := range 2 {
			start(t, m, fmt.Sprint(i+2), done)
			synctest.Wait()
		}
		assert.Equal(t, []string{"2", "3"}, known())
		assert.Len(t, m.Stats().Tasks, 2)
		assert.EqualValues(t, 15, m.Stats().Runs)
		third := start(t, m, "third", untilStopped, dependsOn("migration"))
		assert.Equal(t, `waiting for "migration" (not started)`, statusOf(third))
	})
}

// The status says how the dependency is now, not how it was when the wait began.
func TestADependencyFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoffJitter(0))
		consumer := start(t, m, "consumer", untilStopped, dependsOn("db"))
		release := make(chan struct{})
		db := start(t, m, "db", func(ctx context.Context) error {
			select {
			case <-time.After(time.Second):
				return errBoom
			case <-ctx.Done():
				<-release
				return nil
			}
		}, taskmanager.WithMaxRestarts(1), taskmanager.WithReadiness(time.Minute))
		status := func(want string) {
			t.Helper()
			require.Equal(t, taskmanager.StateWaiting, settled(consumer))
			assert.Equal(t, `waiting for "db" (`+want+`)`, statusOf(consumer))
			assert.Equal(t, statusOf(consumer), m.Stats().Tasks["consumer"].Status)
			for _, p := range m.Health().Problems {
				if p.Task == "consumer" {
					assert.Equal(t, statusOf(consumer), p.Detail)
				}
			}
		}
		status("not ready")
		time.Sleep(time.Second)
		status("backoff")
		time.Sleep(2 * time.Second)
		status("not ready")
		time.Sleep(time.Second)
		require.Equal(t, taskmanager.StateFailed, settled(db))
		status("failed")
		time.Sleep(time.Hour)
		status("failed")

		require.NoError(t, m.RestartTask(t.Context(), "db"))
		status("not ready")
		require.ErrorIs(t, m.StopTask(canceled(t), "db"), context.Canceled)
		status("stopping")
		time.Sleep(5 * time.Second)
		status("stuck")
		close(release)
		status("stopped")
		start(t, m, "db", untilStopped)
		require.Equal(t, taskmanager.StateRunning, settled(consumer))
		assert.Empty(t, statusOf(consumer))
	})
}

// canceled returns a context that is.
func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestADependencyIsLostWhileTheDependentRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoffJitter(0))
		fail := make(chan struct{})
		db := start(t, m, "db", failAt(10*time.Second))
		consumer := start(t, m, "consumer", func(ctx context.Context) error {
			select {
			case <-fail:
				return errBoom
			case <-ctx.Done():
				return nil
			}
		}, dependsOn("db"), taskmanager.WithBackoff(time.Second, time.Second))
		time.Sleep(10 * time.Second)
		require.Equal(t, taskmanager.StateBackoff, settled(db))
		require.Equal(t, taskmanager.StateRunning, settled(consumer), "what runs goes on")

		fail <- struct{}{}
		require.Equal(t, taskmanager.StateBackoff, settled(consumer))
		assert.Empty(t, statusOf(consumer))
		time.Sleep(time.Second)
		require.Equal(t, taskmanager.StateWaiting, settled(consumer), "the backoff is over before that of db")
		assert.Equal(t, `waiting for "db" (backoff)`, statusOf(consumer))
		assert.Zero(t, consumer.Stats().NextRunAt)
		time.Sleep(time.Second)
		require.Equal(t, taskmanager.StateRunning, settled(consumer))
		stats := consumer.Stats()
		assert.EqualValues(t, 2, stats.Runs)
		assert.EqualValues(t, 1, stats.Failures)
		assert.Equal(t, 1, stats.RestartsInWindow)
	})
}

// While its own delay lasts, a dependent is not woken by a dependency that becomes ready.
func TestAReadyDependencyDoesNotShortenTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoffJitter(0))
		start(t, m, "db", untilStopped)
		synctest.Wait()
		consumer := start(t, m, "consumer", failAt(0), dependsOn("db"), taskmanager.WithBackoff(10*time.Second, 10*time.Second))
		require.Equal(t, taskmanager.StateBackoff, settled(consumer))
		time.Sleep(time.Second)
		require.NoError(t, m.RestartTask(t.Context(), "db"))
		require.Equal(t, taskmanager.StateBackoff, settled(consumer))
		time.Sleep(9*time.Second - 1)
		require.Equal(t, taskmanager.StateBackoff, settled(consumer))
		time.Sleep(time.Nanosecond)
		require.Equal(t, taskmanager.StateRunning, settled(consumer))
	})
}

func TestRestartByHandOfADependent(t *testing.T) {
	// lost has a running dependent, and a dependency that has been stopped meanwhile.
	lost := func(t *testing.T, body taskmanager.TaskFunc) (*taskmanager.Manager, *taskmanager.Task) {
		t.Helper()
		m := newManager(t, taskmanager.WithBackoffJitter(0))
		start(t, m, "db", untilStopped)
		synctest.Wait()
		task := start(t, m, "consumer", body, dependsOn("db"))
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "db"))
		return m, task
	}
	// waits asserts that the task waits for db, and that it runs for the nth time when db does.
	waits := func(t *testing.T, m *taskmanager.Manager, task *taskmanager.Task, nth uint64) {
		t.Helper()
		require.Equal(t, taskmanager.StateWaiting, settled(task))
		assert.Equal(t, `waiting for "db" (stopped)`, statusOf(task))
		time.Sleep(time.Hour)
		require.Equal(t, taskmanager.StateWaiting, settled(task))
		start(t, m, "db", untilStopped)
		require.Equal(t, taskmanager.StateRunning, settled(task))
		assert.Equal(t, nth, task.Stats().Runs)
	}

	t.Run("running", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, task := lost(t, slowToStop(time.Second))
			began := time.Now()
			require.NoError(t, task.Restart(t.Context()))
			took(t, time.Second, began) // it does not wait for db
			assert.Equal(t, taskmanager.StateWaiting, task.State())
			waits(t, m, task, 2)
			assert.Zero(t, task.Stats().Failures)
			assert.Zero(t, task.Stats().RestartsInWindow)
		})
	})
	t.Run("in backoff", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, task := lost(t, failAt(time.Second))
			time.Sleep(time.Second)
			require.Equal(t, taskmanager.StateBackoff, settled(task))
			began := time.Now()
			require.NoError(t, m.RestartTask(t.Context(), "consumer"))
			took(t, 0, began)
			assert.Equal(t, taskmanager.StateWaiting, task.State())
			waits(t, m, task, 2)
		})
	})
	t.Run("waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, task := lost(t, untilStopped)
			require.NoError(t, task.Restart(t.Context()))
			synctest.Wait()
			began := time.Now()
			require.NoError(t, task.Restart(t.Context()))
			took(t, 0, began)
			waits(t, m, task, 2)
		})
	})
	t.Run("ended", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, task := lost(t, untilStopped)
			require.NoError(t, task.Stop(t.Context()))
			require.NoError(t, task.Restart(t.Context()))
			waits(t, m, task, 1)
		})
	})
	t.Run("stuck", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			body := newDeafBody()
			_, task := lost(t, body.run)
			asStuck(t, task.Restart(t.Context()), "consumer", 5*time.Second)
			require.Equal(t, taskmanager.StateStuck, task.State())
			body.release()
			require.Equal(t, taskmanager.StateStopped, settled(task))
		})
	})
}

func TestStopOfAWaitingTask(t *testing.T) {
	for name, stop := range map[string]struct {
		call func(ctx context.Context, m *taskmanager.Manager) error
	}{
		"StopTask": {func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "consumer") }},
		"StopAll":  {func(ctx context.Context, m *taskmanager.Manager) error { return m.StopAll(ctx) }},
		"Shutdown": {func(ctx context.Context, m *taskmanager.Manager) error { return m.Shutdown(ctx) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				events := m.Subscribe(t.Context())
				task := start(t, m, "consumer", untilStopped, dependsOn("db"))
				synctest.Wait()
				began := time.Now()
				require.NoError(t, stop.call(t.Context(), m))
				took(t, 0, began)
				assert.Equal(t, taskmanager.StateStopped, task.State())
				assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStopped}, kinds(pending(events), "consumer"))
				stats := task.Stats()
				assert.Zero(t, stats.Runs)
				assert.Empty(t, stats.Status, "it waits for nobody")
				require.NoError(t, task.Err())
				assert.Nil(t, m.Health().Problems)
			})
		})
	}
	t.Run("parent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			parent, cancel := context.WithCancel(t.Context())
			m := newManager(t, taskmanager.WithContext(parent))
			task := start(t, m, "consumer", untilStopped, dependsOn("db"))
			synctest.Wait()
			cancel()
			require.Equal(t, taskmanager.StateStopped, settled(task))
			require.ErrorIs(t, task.Restart(t.Context()), taskmanager.ErrManagerClosed)
		})
	})
	t.Run("between its runs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			start(t, m, "db", untilStopped)
			synctest.Wait()
			task := start(t, m, "consumer", boom, dependsOn("db"))
			synctest.Wait()
			require.NoError(t, m.StopTask(t.Context(), "db"))
			time.Sleep(3 * time.Second)
			require.Equal(t, taskmanager.StateWaiting, settled(task))
			require.NoError(t, task.Stop(t.Context()))
			assert.EqualValues(t, 1, task.Stats().Runs)
			require.ErrorIs(t, task.Stats().LastError, errBoom)
		})
	})
}

func TestTwoDependentsOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		a := start(t, m, "a", untilStopped, dependsOn("db"))
		b := start(t, m, "b", untilStopped, dependsOn("db"))
		synctest.Wait()
		require.NoError(t, a.Stop(t.Context()))
		c := start(t, m, "c", untilStopped, dependsOn("db"))
		start(t, m, "db", readyAfter(time.Second), taskmanager.WithReadiness(time.Minute))
		require.Equal(t, taskmanager.StateWaiting, settled(b))
		time.Sleep(time.Second)
		assert.Equal(t, taskmanager.StateStopped, settled(a))
		assert.Equal(t, taskmanager.StateRunning, b.State())
		assert.Equal(t, taskmanager.StateRunning, c.State())
	})
}

// Each waits for what it depends on itself: here for a second, beginning when that is ready.
func TestAChainAndADiamondBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		began := time.Now()
		ready := taskmanager.WithReadiness(time.Minute)
		d := start(t, m, "d", readyAfter(time.Second), ready, dependsOn("c", "b"))
		start(t, m, "c", readyAfter(3*time.Second), ready, dependsOn("a"))
		start(t, m, "b", readyAfter(time.Second), ready, dependsOn("a"))
		e := start(t, m, "e", untilStopped, dependsOn("d"))
		start(t, m, "a", readyAfter(time.Second), ready)
		time.Sleep(time.Minute)
		synctest.Wait()
		at := func(task *taskmanager.Task) time.Duration { return task.Stats().RunStartedAt.Sub(began) }
		assert.Equal(t, 4*time.Second, at(d))
		assert.Equal(t, 5*time.Second, at(e))
	})
}

func TestACycleIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		started map[string][]string // in no order: none of these closes a cycle
		refused string
		deps    []string
		value   string
		cycle   string
	}{
		"itself":        {nil, "a", []string{"a"}, `"a"`, `"a" -> "a"`},
		"direct":        {map[string][]string{"a": {"b"}}, "b", []string{"a"}, `"a"`, `"b" -> "a" -> "b"`},
		"indirect":      {map[string][]string{"a": {"b"}, "b": {"c"}}, "c", []string{"a"}, `"a"`, `"c" -> "a" -> "b" -> "c"`},
		"second branch": {map[string][]string{"a": {"x", "c"}, "x": {"y"}}, "c", []string{"x", "a"}, `"x", "a"`, `"c" -> "a" -> "c"`},
		"diamond":       {map[string][]string{"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": {"e"}}, "e", []string{"a"}, `"a"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				for name, deps := range c.started {
					start(t, m, name, untilStopped, dependsOn(deps...))
				}
				before := m.Stats()
				_, err := m.StartTask(c.refused, untilStopped, dependsOn(c.deps...))
				var refused *taskmanager.OptionError
				require.ErrorAs(t, err, &refused)
				assert.Equal(t, "WithDependsOn", refused.Option)
				assert.Equal(t, c.value, refused.Value)
				if c.cycle == "" { // by one of two ways
					assert.Contains(t, []string{
						`makes a cycle: "e" -> "a" -> "b" -> "d" -> "e"`, `makes a cycle: "e" -> "a" -> "c" -> "d" -> "e"`,
					}, refused.Reason)
				} else {
					assert.Equal(t, "makes a cycle: "+c.cycle, refused.Reason)
				}
				assert.Equal(t, "taskmanager: WithDependsOn("+c.value+"): "+refused.Reason, err.Error())
				assert.Len(t, m.Stats().Tasks, len(before.Tasks), "nothing has been started")
				_, known := m.Lookup(c.refused)
				assert.False(t, known)
				start(t, m, c.refused, untilStopped) // the name is free
			})
		})
	}
}

// The search for a cycle looks at each task once, not at each of the 2^40 ways through these.
func TestNoCycleAmongManyWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		const layers = 40
		layer := func(i int) []string { return []string{fmt.Sprint("a", i), fmt.Sprint("b", i)} }
		for i := range layers {
			for _, name := range layer(i) {
				start(t, m, name, untilStopped, dependsOn(layer(i+1)...))
			}
		}
		_, err := m.StartTask(layer(layers)[0], untilStopped, dependsOn("a0"))
		require.ErrorContains(t, err, `makes a cycle: "a40" -> "a0" -> `)
		start(t, m, "c", untilStopped, dependsOn(layer(0)...))
		for _, name := range layer(layers) {
			start(t, m, name, untilStopped)
		}
		synctest.Wait()
		assert.Equal(t, 2*layers+3, m.Stats().Running)
	})
}

// What an ended task depended on is in nobody's way, until it is to be restarted by hand: that is refused if it would make a
// cycle then.
func TestACycleByWayOfAnEndedTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		a := start(t, m, "a", untilStopped, dependsOn("b"))
		require.NoError(t, a.Stop(t.Context()))
		b := start(t, m, "b", untilStopped, dependsOn("a"))
		require.Equal(t, `waiting for "a" (stopped)`, statusOf(b))
		for _, restart := range []func() error{
			func() error { return a.Restart(t.Context()) },
			func() error { return m.RestartTask(t.Context(), "a") },
		} {
			require.ErrorContains(t, restart(), `makes a cycle: "a" -> "b" -> "a"`)
			assert.Equal(t, taskmanager.StateStopped, settled(a))
		}

		// When the other one has ended as well, whichever is restarted first is right.
		require.NoError(t, b.Stop(t.Context()))
		require.NoError(t, a.Restart(t.Context()))
		assert.Equal(t, `waiting for "b" (stopped)`, statusOf(a))
		require.ErrorContains(t, b.Restart(t.Context()), `makes a cycle: "b" -> "a" -> "b"`)
		require.NoError(t, a.Stop(t.Context()))

		anew := start(t, m, "a", untilStopped) // with other dependencies: none
		require.NoError(t, b.Restart(t.Context()))
		require.Equal(t, taskmanager.StateRunning, settled(b))
		require.ErrorIs(t, a.Restart(t.Context()), taskmanager.ErrTaskNotFound)
		require.NoError(t, anew.Stop(t.Context()))
		require.NoError(t, anew.Restart(t.Context()))
	})
}

// The path to an ended task may lead by way of others, and one that has ended on the way is no part of it.
func TestACycleByWayOfSeveralTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		a := start(t, m, "a", untilStopped, dependsOn("b"))
		require.NoError(t, a.Stop(t.Context()))
		start(t, m, "c", untilStopped, dependsOn("a"))
		b := start(t, m, "b", untilStopped, dependsOn("c"))
		require.ErrorContains(t, a.Restart(t.Context()), `makes a cycle: "a" -> "b" -> "c" -> "a"`)
		require.NoError(t, b.Stop(t.Context()))
		require.NoError(t, a.Restart(t.Context()))
		require.ErrorContains(t, b.Restart(t.Context()), `makes a cycle: "b" -> "c" -> "a" -> "b"`)
	})
}

func TestTheSameNameWithOtherDependencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		first := start(t, m, "a", untilStopped, dependsOn("x"))
		_, err := m.StartTask("a", untilStopped, dependsOn("y"))
		require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
		require.NoError(t, first.Stop(t.Context()))
		a := start(t, m, "a", untilStopped, dependsOn("y"))
		start(t, m, "x", untilStopped)
		require.Equal(t, taskmanager.StateWaiting, settled(a))
		assert.Equal(t, `waiting for "y" (not started)`, statusOf(a))
		start(t, m, "y", untilStopped)
		require.Equal(t, taskmanager.StateRunning, settled(a))
		assert.Equal(t, []string{"x"}, first.Stats().DependsOn)

		// What the first one depended on no longer matters: x is stopped at once, and may depend on a.
		require.NoError(t, m.StopTask(t.Context(), "x"))
		start(t, m, "x", untilStopped, dependsOn("a"))
	})
}

func TestWithDependsOnIsChecked(t *testing.T) {
	_, err := taskmanager.New(taskmanager.WithDependsOn("db"))
	require.EqualError(t, err, `taskmanager: WithDependsOn("db"): is for StartTask alone`)
	var refused *taskmanager.OptionError
	require.ErrorAs(t, err, &refused)

	m := newManager(t)
	for _, bad := range []string{"", "a\nb", "\xff", strings.Repeat("x", 256)} {
		_, err := m.StartTask("a", untilStopped, dependsOn("good", bad))
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, "WithDependsOn", refused.Option)
		assert.Contains(t, refused.Reason, fmt.Sprintf("%q must ", bad))
		_, known := m.Lookup("a")
		assert.False(t, known)
	}
}

func TestDependenciesAreCopied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		names := []string{"db"}
		option := dependsOn(names...)
		names[0] = "changed"
		a := start(t, m, "a", untilStopped, option)
		b := start(t, m, "b", untilStopped, option, dependsOn("other"))
		c := start(t, m, "c", untilStopped, option, dependsOn())
		assert.Equal(t, `waiting for "db" (not started)`, statusOf(a))
		a.Stats().DependsOn[0] = "changed"
		m.Stats().Tasks["a"].DependsOn[0] = "changed"
		assert.Equal(t, []string{"db"}, a.Stats().DependsOn)
		assert.Equal(t, []string{"other"}, b.Stats().DependsOn, "the last one given wins")
		assert.Empty(t, c.Stats().DependsOn)
		assert.Equal(t, taskmanager.StateRunning, settled(c))
	})
}

// chain starts c, which depends on b, which depends on a, and e, which has nothing to do with them.
func chain(t *testing.T, m *taskmanager.Manager, body func(name string) taskmanager.TaskFunc) {
	t.Helper()
	start(t, m, "a", body("a"))
	start(t, m, "b", body("b"), dependsOn("a"))
	start(t, m, "c", body("c"), dependsOn("b"))
	start(t, m, "e", body("e"))
	synctest.Wait()
}

type times = map[string]time.Duration

func TestTasksStopBeforeWhatTheyDependOn(t *testing.T) {
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
func TestADiamondStops(t *testing.T) {
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
func TestStopWhenTheLinkBetweenHasEnded(t *testing.T) {
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
func TestADependencyThatHasEndedTakesNoTime(t *testing.T) {
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

func TestAChainSharesTheDeadline(t *testing.T) {
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
func TestADependentIsStuck(t *testing.T) {
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
func TestTheContextEndsInTheMiddleOfAChain(t *testing.T) {
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

func TestTheDeadlinePassesWhileTasksAreAsked(t *testing.T) {
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
func TestStopAllFromInsideAChain(t *testing.T) {
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
func TestAChainInANestedManager(t *testing.T) {
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
func TestWhatOthersDependOnIsStoppedAlone(t *testing.T) {
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
		all := warning + `"\"b\"", "a", "c", "d", "e", "f"`
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
		assert.Equal(t, []string{all, warning + `"a"`}, lines.got())
		require.NoError(t, a.Stop(t.Context()))
		require.NoError(t, db.Restart(t.Context()))
		require.NoError(t, db.Stop(t.Context()))
		synctest.Wait()
		assert.Len(t, lines.got(), 2)
	})
}

// Between a failure and the verdict of a policy either may come first, a stop or the end by giving up, and the log warns of
// dependents only if it was the stop.
func TestWarningOfDependentsOfATaskThatFails(t *testing.T) {
	warned := []string{`WARN task was stopped, though others depend on it | task=db dependents="a"`}
	for name, test := range map[string]struct {
		stop  bool // while the policy is asked
		state taskmanager.State
		lines []string
	}{
		"it is stopped":  {true, taskmanager.StateStopped, warned},
		"it is given up": {false, taskmanager.StateFailed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelWarn)
				m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
				events := m.Subscribe(t.Context())
				stopped := canceled(t)
				start(t, m, "a", untilStopped, dependsOn("db"))
				db := start(t, m, "db", boom, taskmanager.WithBackOffPolicy(func() backoff.BackOff {
					return policyFunc(func() time.Duration {
						if test.stop {
							assert.NoError(t, m.StopTask(stopped, "db"), "no body executes: it has stopped at once")
							assert.ErrorIs(t, m.StopTask(stopped, "db"), taskmanager.ErrTaskNotRunning)
						}
						return backoff.Stop
					})
				}))
				require.Equal(t, test.state, settled(db))
				require.ErrorIs(t, m.StopTask(stopped, "db"), taskmanager.ErrTaskNotRunning)
				synctest.Wait()
				assert.ElementsMatch(t, test.lines, lines.about("depend"))
				end := []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventGaveUp}
				if test.stop {
					end = []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventFailed, taskmanager.EventStopped}
				}
				assert.Equal(t, end, kinds(pending(events), "db"), "the failure is not lost")
				assert.EqualValues(t, 1, db.Stats().Failures)
			})
		})
	}
}

// A policyFunc is a backoff policy that asks for each delay.
type policyFunc func() time.Duration

func (f policyFunc) NextBackOff() time.Duration { return f() }

func (policyFunc) Reset() {}

// What waits is one goroutine, and a stop in order leaves none behind.
func TestDependenciesLeaveNoGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := goroutines()
		m := newManager(t)
		release := make(chan struct{})
		log := newStopLog()
		chain(t, m, func(string) taskmanager.TaskFunc { return log.deaf(release) })
		start(t, m, "waits", untilStopped, dependsOn("nobody"))
		assert.Equal(t, before+5, goroutines(), "one for each task")
		require.Error(t, m.StopAll(t.Context()))
		assert.Equal(t, before+4, goroutines(), "the bodies that don't return")
		close(release)
		assert.Equal(t, before, goroutines())
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, before, goroutines())
	})
}

// Whenever a task is stopped with all others, nothing that depends on it executes: neither by StopAll the chain that was
// there before, nor by Shutdown anything else, while tasks are started, restarted and fail on all sides.
func TestTheOrderHoldsWhileTasksAreStarted(t *testing.T) {
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

// A dependency that becomes ready in the very moment in which the dependent finds that it is not, and begins to wait.
func TestADependencyIsReadyWhenTheDependentBeginsToWait(t *testing.T) {
	m := newManager(t, taskmanager.WithBackoff(0, 0), taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithRestartLimit(rate.Inf, 0))
	var (
		entered = make(chan struct{}, 2)
		fail    = make(chan struct{})
	)
	body := func(ctx context.Context) error {
		entered <- struct{}{}
		select {
		case <-fail:
			return errBoom
		case <-ctx.Done():
			return nil
		}
	}
	start(t, m, "base", body)
	start(t, m, "top", body, dependsOn("base"))
	for round := range 3000 {
		for range 2 {
			select {
			case <-entered:
			case <-time.After(10 * time.Second):
				require.FailNow(t, "a task is not restarted", "round %d: %v", round, m.Health().Problems)
			}
		}
		fail <- struct{}{}
		fail <- struct{}{}
	}
}

// A task that was stuck at its deadline was stuck, though it has returned while the stop still waited for others.
func TestStopInOrderTellsOfATaskThatReturnsLate(t *testing.T) {
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
