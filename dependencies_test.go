package taskmanager_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// statusOf is what the task's statistics say of the task now, when nothing more happens at this moment.
func statusOf(task *taskmanager.Task) string {
	synctest.Wait()
	return task.Stats().Status
}

func TestDependentWaitsUntilAllAreReady(t *testing.T) {
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

func TestDependentOfWhatIsReadyRunsAtOnce(t *testing.T) {
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
func TestDependencyCompletes(t *testing.T) {
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
func TestDependencyHasCompletedLongAgo(t *testing.T) {
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
		synctest.Wait() // the stop has returned, and what is beyond the limit may be about to be forgotten
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
func TestDependencyFails(t *testing.T) {
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

func TestDependencyIsLostWhileTheDependentRuns(t *testing.T) {
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
func TestDependencyThatIsReadyDoesNotShortenTheBackoff(t *testing.T) {
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

func TestDependentIsRestartedByHand(t *testing.T) {
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

func TestDependentIsStoppedWhileItWaits(t *testing.T) {
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

func TestDependentsOfOne(t *testing.T) {
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
func TestDependenciesInAChainAndADiamond(t *testing.T) {
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

func TestDependencyCycleIsRefused(t *testing.T) {
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
func TestDependencyCycleIsNotFoundAmongManyWays(t *testing.T) {
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
		start(t, m, "d", untilStopped, dependsOn("c"))
		start(t, m, "c", untilStopped, dependsOn(layer(0)...)) // all ways are looked at, and none leads to "c"
		for _, name := range layer(layers) {
			start(t, m, name, untilStopped)
		}
		synctest.Wait()
		assert.Equal(t, 2*layers+4, m.Stats().Running)
	})
}

// What an ended task depended on is in nobody's way, until it is to be restarted by hand: that is refused if it would make a
// cycle then.
func TestDependencyCycleByWayOfAnEndedTask(t *testing.T) {
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
func TestDependencyCycleByWayOfSeveralTasks(t *testing.T) {
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

func TestDependenciesOfANameThatIsStartedAnew(t *testing.T) {
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

func TestDependenciesAreChecked(t *testing.T) {
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

// Between a failure and the verdict of a policy either may come first, a stop or the end by giving up, and the log warns of
// dependents only if it was the stop.
func TestDependentsAreNamedWhenATaskFails(t *testing.T) {
	warned := []string{`WARN task was stopped, though others depend on it | task=db dependents=a`}
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
				assert.ElementsMatch(t, test.lines, lines.about("others depend"))
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

// A dependency that becomes ready in the very moment in which the dependent finds that it is not, and begins to wait.
func TestDependencyIsReadyWhenTheDependentBeginsToWait(t *testing.T) {
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

// A dependency that is named twice is one.
func TestDependencyNamedTwiceIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newManager(t, log.option())
		task := start(t, m, "a", untilStopped, taskmanager.WithDependsOn("db", "db", "cache", "db"))
		synctest.Wait()
		assert.Equal(t, `waiting for "db" (not started), "cache" (not started)`, task.Stats().Status)
		db := start(t, m, "db", untilStopped)
		start(t, m, "cache", untilStopped)
		require.Equal(t, taskmanager.StateRunning, settled(task))
		require.NoError(t, db.Stop(t.Context()))
		synctest.Wait()
		lines := log.lines(t, "task was stopped, though others depend on it")
		require.Len(t, lines, 1)
		assert.Equal(t, "a", lines[0]["dependents"])
	})
}

// Those who depend on a task that was stopped alone go on, and the log says so; of others it says nothing.
func TestDependentsAreNamedInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelWarn)
		m := observed(t, taskmanager.WithLogger(slog.New(lines)))
		start(t, m, "a", untilStopped)
		start(t, m, "b", untilStopped, taskmanager.WithDependsOn("a"))
		start(t, m, "c", untilStopped, taskmanager.WithDependsOn("a"))
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "a"))
		synctest.Wait()
		assert.Equal(t, []string{`WARN task was stopped, though others depend on it | task=a dependents=b, c`}, lines.got())
		require.NoError(t, m.StopTask(t.Context(), "b"))
		require.NoError(t, m.StopAll(t.Context()))
		synctest.Wait()
		assert.Len(t, lines.got(), 1)
	})
}

// So it is with one whose restart has timed out: it has stopped, and alone.
func TestDependentsOfATaskWhoseRestartTimesOutAreNamedInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelWarn)
		m := observed(t, taskmanager.WithLogger(slog.New(lines)))
		db := start(t, m, "db", slowToStop(10*time.Second))
		start(t, m, "a", untilStopped, dependsOn("db"))
		synctest.Wait()
		asStuck(t, db.Restart(t.Context()), "db", 5*time.Second)
		<-db.Done()
		synctest.Wait()
		assert.Equal(t, []string{`WARN task was stopped, though others depend on it | task=db dependents=a`}, lines.about("though others depend"))
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// A log handler that calls runtime.Goexit with the line of the stop does not take that line away.
func TestDependentsAreNamedInALogThatExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(goexitHandler{lines, "task stopped"})))
		start(t, m, "a", untilStopped)
		start(t, m, "b", untilStopped, dependsOn("a"))
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "a"))
		synctest.Wait()
		assert.Equal(t, []string{"task stopped", "task was stopped, though others depend on it"}, messages(lines)[2:])
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A line does not name more than ten.
func TestDependentsOfWhichThereAreManyAreCounted(t *testing.T) {
	for n, rest := range map[int]string{9: "", 10: "", 11: "1 more", 22: "12 more"} {
		synctest.Test(t, func(t *testing.T) {
			lines := newLines(slog.LevelWarn)
			m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
			start(t, m, "a", untilStopped)
			for i := range n {
				start(t, m, fmt.Sprint("b", i), untilStopped, dependsOn("a"))
			}
			synctest.Wait()
			require.NoError(t, m.StopTask(t.Context(), "a"))
			synctest.Wait()
			got := lines.about("depend")
			require.Len(t, got, 1)
			_, text, _ := strings.Cut(got[0], " dependents=")
			before, after, _ := strings.Cut(text, " and ")
			assert.Equal(t, min(n, 10), strings.Count(before, "b"))
			assert.Equal(t, rest, after)
		})
	}
}

// An event says what waits for its task, and the log says so, too: a failure names those that wait, by way of others as well; a
// giving-up and a stuck task those, besides, whose next run will.
func TestDependentsInEvents(t *testing.T) {
	type dependents struct {
		names []string
		count int
	}
	neverReady := func(ctx context.Context) error { <-ctx.Done(); return nil }
	for name, test := range map[string]struct {
		begin func(t *testing.T, m *taskmanager.Manager)
		kind  taskmanager.EventKind
		want  dependents
		log   string // the attribute
	}{
		"not ready in time, as some wait": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "db", neverReady, taskmanager.WithReadiness(time.Second))
			start(t, m, "b", untilStopped, dependsOn("db"))
			start(t, m, "a", untilStopped, dependsOn("b"))
			start(t, m, "other", untilStopped)
			start(t, m, "else", untilStopped, dependsOn("other"))
		}, taskmanager.EventFailed, dependents{[]string{"a", "b"}, 2}, "a, b"},
		"a failure that nobody waits for": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "db", failAt(time.Second))
			start(t, m, "a", untilStopped, dependsOn("db"))
		}, taskmanager.EventFailed, dependents{}, ""},
		"a failure, as some wait and others run": {func(t *testing.T, m *taskmanager.Manager) {
			run := 0
			start(t, m, "db", func(ctx context.Context) error {
				if run++; run == 1 {
					taskmanager.Ready(ctx)
				}
				return failAfter(time.Second / 2)(ctx)
			}, taskmanager.WithReadiness(time.Minute), taskmanager.WithBackoff(time.Second/2, time.Second/2))
			start(t, m, "a", untilStopped, dependsOn("db"))
			start(t, m, "b", failAt(0, 600*time.Millisecond), dependsOn("db"), taskmanager.WithBackoff(time.Millisecond, time.Millisecond))
		}, taskmanager.EventFailed, dependents{[]string{"b"}, 1}, "b"},
		"a run that returns nil is no failure": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "db", func(context.Context) error { time.Sleep(time.Second); return nil },
				taskmanager.WithRestart(taskmanager.RestartAlways), taskmanager.WithReadiness(time.Minute))
			start(t, m, "a", untilStopped, dependsOn("db"))
		}, taskmanager.EventCompleted, dependents{}, ""},
		"given up": {
			func(t *testing.T, m *taskmanager.Manager) {
				start(t, m, "db", failAt(time.Second), once())
				start(t, m, "runs", untilStopped, dependsOn("db"))
				start(t, m, "not through one that runs", untilStopped, dependsOn("runs"))
				start(t, m, "in backoff", failAt(999*time.Millisecond), dependsOn("db"))
				start(t, m, "through one that doesn't", failAt(999*time.Millisecond), dependsOn("in backoff"))
				start(t, m, "twice", untilStopped, dependsOn("db", "in backoff"))
				start(t, m, "gone", boom, once(), dependsOn("db"))
			}, taskmanager.EventGaveUp,
			dependents{[]string{"in backoff", "runs", "through one that doesn't", "twice"}, 4},
			"in backoff, runs, through one that doesn't, twice",
		},
		"given up by a policy": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "db", failAt(time.Second), (&script{delays: []time.Duration{backoff.Stop}}).option())
			start(t, m, "a", untilStopped, dependsOn("db"))
		}, taskmanager.EventGaveUp, dependents{[]string{"a"}, 1}, "a"},
		"many": {
			func(t *testing.T, m *taskmanager.Manager) {
				start(t, m, "db", failAt(time.Second), once())
				for i := range 1000 {
					start(t, m, fmt.Sprintf("t%03d", 999-i), untilStopped, dependsOn("db"))
				}
			}, taskmanager.EventGaveUp,
			dependents{[]string{"t000", "t001", "t002", "t003", "t004", "t005", "t006", "t007", "t008", "t009"}, 1000},
			"t000, t001, t002, t003, t004, t005, t006, t007, t008, t009 and 990 more",
		},
		"stuck": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "db", slowToStop(time.Minute))
			start(t, m, "a", untilStopped, dependsOn("db"))
			start(t, m, "stops, too", slowToStop(time.Minute), dependsOn("db"))
			synctest.Wait()
			go func() { _ = m.StopTask(context.Background(), "stops, too") }()
			asStuck(t, m.StopTask(t.Context(), "db"), "db", 5*time.Second)
		}, taskmanager.EventStuck, dependents{[]string{"a"}, 1}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				reports := newInbox(nil)
				m := newManager(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithReporter(reports))
				events := m.Subscribe(t.Context())
				test.begin(t, m)
				time.Sleep(2 * time.Second)
				found := slices.DeleteFunc(ofKind(test.kind, pending(events)), func(e taskmanager.Event) bool { return e.Task != "db" })
				require.NotEmpty(t, found)
				e := found[len(found)-1]
				assert.Equal(t, test.want, dependents{e.Dependents, e.DependentCount})
				for _, r := range ofKind(test.kind, reports.events()) {
					if r.Task == "db" && r.Run == e.Run {
						assert.Equal(t, test.want, dependents{r.Dependents, r.DependentCount}, "the report")
					}
				}
				of := slices.DeleteFunc(lines.about("task=db"), func(l string) bool { return !strings.HasPrefix(l, e.Kind.Level().String()) })
				line, _, _ := strings.Cut(of[len(of)-1], " stack=")
				_, named, _ := strings.Cut(line, " dependents=")
				assert.Equal(t, test.log, named)
				time.Sleep(time.Minute)
			})
		})
	}
}

// Within a group they are named by their paths.
func TestDependentsInEventsOfAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(t.Context())
		start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			start(t, g, "db", failAt(time.Second), once())
			start(t, g, "a", untilStopped, dependsOn("db"))
			return nil
		}))
		time.Sleep(2 * time.Second)
		gaveUp := ofKind(taskmanager.EventGaveUp, pending(events))
		require.Len(t, gaveUp, 1)
		assert.Equal(t, []string{"g/a"}, gaveUp[0].Dependents)
	})
}

// One that waits for a task that nobody has started, whose name may be wrong, says so after ten seconds: once for each name.
func TestDependencyThatIsNotStartedIsNamedInTheLog(t *testing.T) {
	const text = "WARN task waits for a task that has not been started | "
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelWarn)
		m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
		before := goroutines()
		a := start(t, m, "a", untilStopped, dependsOn("late", "dbb", "databse"))
		start(t, m, "late", readyAfter(time.Hour), taskmanager.WithReadiness(2*time.Hour))
		start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			start(t, g, "b", untilStopped, dependsOn("a")) // which is not in its group
			return nil
		}))
		assert.Equal(t, before+4, goroutines(), "one for each task")
		time.Sleep(10*time.Second - 1)
		synctest.Wait()
		require.Empty(t, lines.got())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		want := []string{text + "task=a waits_for=dbb", text + "task=a waits_for=databse", text + "task=g/b waits_for=a"}
		assert.ElementsMatch(t, want, lines.got())
		assert.Equal(t, before+4, goroutines())
		time.Sleep(time.Hour) // late is ready, and a begins to wait for another one
		require.NoError(t, a.Restart(t.Context()))
		time.Sleep(time.Hour)
		assert.Len(t, lines.got(), 3, "once")
	})
	// Nothing of that if they have been started by then, be it that they fail, or if the task does not wait any more.
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelWarn)
		m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
		for _, name := range []string{"on time", "failed", "not ready"} {
			start(t, m, "waits for "+name, untilStopped, dependsOn(name))
		}
		stopped := start(t, m, "is stopped", untilStopped, dependsOn("nobody"))
		time.Sleep(10*time.Second - 1)
		start(t, m, "on time", untilStopped)
		start(t, m, "failed", boom, taskmanager.WithReadiness(time.Minute), once())
		start(t, m, "not ready", untilStopped, taskmanager.WithReadiness(time.Hour))
		require.NoError(t, stopped.Stop(t.Context()))
		time.Sleep(time.Minute)
		assert.Empty(t, lines.about("has not been started"))
	})
}

// A task that has waited for one that nobody has started leaves no timer, by which its memory would be kept for a while.
func TestDependenciesLeaveNoTimers_Promise2(t *testing.T) {
	oneThread(t)
	m := newManager(t, taskmanager.WithHistory(0))
	round := func() {
		for range 10_000 {
			task := start(t, m, "a", untilStopped, dependsOn("nobody"))
			runtime.Gosched() // until it waits
			require.NoError(t, task.Stop(t.Context()))
		}
	}
	round()
	assert.Less(t, heapOf(round), int64(1<<20), "bytes after 10,000 waits")
}

// Counterexamples that the model has found, each in its shortest form.

func TestDependentThatWasStoppedWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		task := start(t, m, "a", untilStopped, taskmanager.WithDependsOn("b"))
		synctest.Wait()
		require.Equal(t, `waiting for "b" (not started)`, task.Stats().Status)
		require.NoError(t, m.StopAll(t.Context()))
		assert.Empty(t, task.Stats().Status)
	})
}

// Its old run is over, and the new one waits.
func TestDependentThatWaitsAfterARestartByHandDoesNotExecute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		start(t, m, "b", untilStopped)
		task := start(t, m, "a", untilStopped, taskmanager.WithDependsOn("b"))
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "b"))
		require.NoError(t, m.RestartTask(t.Context(), "a"))
		time.Sleep(time.Second)
		require.Equal(t, taskmanager.StateWaiting, task.State())
		assert.Zero(t, task.Stats().RunStartedAt)
		assert.Zero(t, task.Stats().Uptime)
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// A task without a delay waits for what it depends on before it is restarted, as any other does.
func TestDependencyThatIsLostBeforeARestartAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(0, 0))
		start(t, m, "db", untilStopped)
		fail := make(chan struct{})
		task := start(t, m, "a", func(context.Context) error {
			<-fail
			return errBoom
		}, taskmanager.WithDependsOn("db"), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "db"))
		close(fail)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateWaiting, task.State())
		assert.EqualValues(t, 1, task.Stats().Runs)
	})
}

// The error of a task that was given up is the user's: whatever its method does, who waits for the task does not call it, and begins
// when the task was restarted.
func TestDependencyWhoseErrorDoesNotReturn(t *testing.T) {
	for title, act := range map[string]func(release chan struct{}){
		"hangs":  func(release chan struct{}) { <-release },
		"Goexit": func(chan struct{}) { runtime.Goexit() },
		"panics": func(chan struct{}) { panic("Error") },
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, silently())
				release := make(chan struct{})
				fails := true
				start(t, m, "db", func(ctx context.Context) error {
					if fails {
						return backoff.Permanent(textError{func() { act(release) }})
					}
					return untilStopped(ctx)
				})
				synctest.Wait()
				a := start(t, m, "a", untilStopped, taskmanager.WithDependsOn("db"), taskmanager.WithCritical())
				synctest.Wait()
				require.Equal(t, taskmanager.StateWaiting, a.State())
				fails = false
				require.NoError(t, m.RestartTask(t.Context(), "db"))
				synctest.Wait()
				assert.Equal(t, taskmanager.StateRunning, a.State())
				close(release)
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// A textError does something when it is asked for its text.
type textError struct{ act func() }

func (e textError) Error() string {
	e.act()
	return "text"
}
