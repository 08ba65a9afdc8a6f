package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Of what was given up in an outage each is remembered, however many others end after it, up to 10,000 of them; of those beyond
// there is a count.
func TestHistoryRemembersWhatWasGivenUp_Promise10(t *testing.T) {
	const most, beyond = 10_000, 50
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithHistory(1))
		first := start(t, m, "first", boom, once(), taskmanager.WithCritical())
		synctest.Wait()
		for i := range most - 1 {
			start(t, m, fmt.Sprint(i), boom, once())
		}
		synctest.Wait()
		for i := range 3 {
			start(t, m, fmt.Sprint("completes ", i), func(context.Context) error { return nil })
			synctest.Wait()
		}
		stats := m.Stats()
		assert.Equal(t, most, stats.Failed)
		assert.Equal(t, 1, stats.Completed)
		h := m.Health()
		assert.Equal(t, taskmanager.HealthFailing, h.State)
		require.Equal(t, most, len(h.Problems)+h.ProblemsOmitted)

		for i := range beyond {
			start(t, m, fmt.Sprint("beyond ", i), boom, once())
			synctest.Wait()
		}
		assert.Equal(t, most, m.Stats().Failed)
		_, ok := m.Lookup("first")
		assert.False(t, ok, "it was the first")
		require.ErrorIs(t, first.Restart(t.Context()), taskmanager.ErrTaskNotFound)
		for i := range beyond {
			_, ok = m.Lookup(fmt.Sprint("beyond ", i))
			assert.True(t, ok, "the latest are remembered")
		}
		h = m.Health()
		assert.Equal(t, taskmanager.HealthFailing, h.State, "a critical one was among those that have been forgotten")
		require.Equal(t, most+2, len(h.Problems)+h.ProblemsOmitted)
		assert.Equal(t, []taskmanager.HealthProblem{
			{Critical: true, State: taskmanager.StateFailed, Reason: taskmanager.HealthGivenUp, Detail: "1 more tasks, which have been forgotten"},
			{State: taskmanager.StateFailed, Reason: taskmanager.HealthGivenUp, Detail: fmt.Sprintf("%d more tasks, which have been forgotten", beyond-1)},
		}, h.Problems[:2])
		require.EqualError(t, m.Run(t.Context()), "taskmanager: gave up 1 more critical tasks, which have been forgotten", "it ends at once")
	})
}

// endMany has n tasks of other names end: half of them complete, and half are stopped.
func endMany(t *testing.T, m *taskmanager.Manager, n int) {
	t.Helper()
	for i := range n {
		name := fmt.Sprint("other ", i)
		if i%2 == 0 {
			require.NoError(t, start(t, m, name, func(context.Context) error { return nil }).Wait(t.Context()))
		} else {
			task := start(t, m, name, untilStopped)
			synctest.Wait()
			require.NoError(t, task.Stop(t.Context()))
		}
	}
}

// What Health, Run, readiness and a dependent need to know does not depend on how many other tasks have ended since.
func TestHistoryKeepsWhatStillMatters_Promise10(t *testing.T) {
	revoked := backoff.Permanent(errors.New("revoked"))
	for _, history := range []int{0, 1, 128} {
		t.Run(fmt.Sprint("history of ", history), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, taskmanager.WithHistory(history))
				var revived int
				gateway := start(t, m, "gateway", func(ctx context.Context) error {
					if revived++; revived == 1 {
						return revoked
					}
					return untilStopped(ctx)
				}, taskmanager.WithCritical())
				require.Error(t, gateway.Wait(t.Context()))
				require.NoError(t, start(t, m, "migrate", func(context.Context) error { return nil }, taskmanager.WithCritical()).Wait(t.Context()))
				require.Error(t, start(t, m, "worker", func(context.Context) error { return revoked }).Wait(t.Context()))
				first := start(t, m, "first", untilStopped, taskmanager.WithDependsOn("init"))
				require.NoError(t, start(t, m, "init", func(context.Context) error { return nil }).Wait(t.Context()))
				require.Equal(t, taskmanager.StateRunning, settled(first))
				before, stats := m.Health(), m.Stats()
				require.Equal(t, taskmanager.HealthFailing, before.State)

				endMany(t, m, 10_000)

				assert.Equal(t, before, m.Health())
				second := start(t, m, "second", untilStopped, taskmanager.WithDependsOn("init"))
				require.Equal(t, taskmanager.StateRunning, settled(second), "its dependency has completed")
				require.NoError(t, first.Restart(t.Context()))
				require.Equal(t, taskmanager.StateRunning, settled(first))
				for _, name := range []string{"gateway", "migrate", "worker", "init"} {
					_, ok := m.Lookup(name)
					assert.True(t, ok, name)
				}
				after := m.Stats()
				assert.Equal(t, stats.Runs+10_000+2, after.Runs, "counts of what is forgotten")
				assert.Equal(t, stats.Failures, after.Failures)

				require.NoError(t, m.RestartTask(t.Context(), "gateway"))
				require.Equal(t, taskmanager.StateRunning, settled(gateway))
				for _, p := range m.Health().Problems {
					assert.NotEqual(t, "gateway", p.Task)
				}

				// Run ends because of "migrate", and says nothing of "gateway", which is well.
				began := time.Now()
				require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrCriticalCompleted)
				took(t, 0, began)
			})
		})
	}
}

// A dependency that has completed is remembered while others need it, and takes no place of those that nobody needs.
func TestHistoryOfDependencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const history = 10
		m := newManager(t, taskmanager.WithHistory(history))
		for i := range 50 {
			name := fmt.Sprint("init ", i)
			start(t, m, fmt.Sprint("worker ", i), untilStopped, taskmanager.WithDependsOn(name))
			require.NoError(t, start(t, m, name, func(context.Context) error { return nil }).Wait(t.Context()))
		}
		synctest.Wait()
		for i := range history {
			require.NoError(t, start(t, m, fmt.Sprint("other ", i), func(context.Context) error { return nil }).Wait(t.Context()))
		}
		for i := range history {
			_, ok := m.Lookup(fmt.Sprint("other ", i))
			assert.True(t, ok, "other %d, one of the latest that have ended", i)
		}
		assert.Equal(t, 2*50+history, len(m.Stats().Tasks)) //nolint:testifylint // a map of that size is not to be printed

		// What nobody needs any more is bounded again.
		require.NoError(t, m.StopAll(t.Context()))
		for i := range 50 {
			start(t, m, fmt.Sprint("worker ", i), untilStopped) // without a dependency
		}
		assert.Equal(t, 50+history, len(m.Stats().Tasks)) //nolint:testifylint // a map of that size is not to be printed
	})
}

// A name that is taken over does not need any more what its former task has needed: this is forgotten then, and not first when
// another task ends.
func TestHistoryWhenANameIsTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithHistory(1))
		completes := func(context.Context) error { return nil }
		require.NoError(t, start(t, m, "init", completes).Wait(t.Context()))
		require.Error(t, start(t, m, "worker", boom, noRestart, taskmanager.WithDependsOn("init")).Wait(t.Context()))
		require.NoError(t, start(t, m, "other", completes).Wait(t.Context()))
		synctest.Wait()
		_, ok := m.Lookup("init")
		require.True(t, ok, "the worker would need it")
		start(t, m, "worker", untilStopped)
		_, ok = m.Lookup("init")
		assert.False(t, ok)
		_, ok = m.Lookup("other")
		assert.True(t, ok)
	})
}

// All of those are known that were given up in one outage.
func TestHistoryOfAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		const n = 5000
		for i := range n {
			start(t, m, fmt.Sprint("t", i), boom, once())
		}
		synctest.Wait()
		endMany(t, m, 300)
		given := 0
		for task := range m.Tasks() {
			if task.State() == taskmanager.StateFailed {
				given++
			}
		}
		assert.Equal(t, n, given)
		assert.Equal(t, n, len(m.Health().Problems)+m.Health().ProblemsOmitted)

		// Those whose names are taken over are not kept beside.
		for i := range n {
			require.NoError(t, start(t, m, fmt.Sprint("t", i), func(context.Context) error { return nil }).Wait(t.Context()))
		}
		assert.Empty(t, m.Health().Problems)
	})
}

// Ten thousand that were given up are known, and beyond those how many there are.
func TestHistoryOfTooManyThatWereGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		const most, beyond = 10_000, 7
		require.Error(t, start(t, m, "gateway", boom, once(), taskmanager.WithCritical()).Wait(t.Context()))
		for i := range most + beyond - 1 {
			require.Error(t, start(t, m, fmt.Sprint("t", i), boom, once()).Wait(t.Context()))
		}
		h := m.Health()
		assert.Equal(t, taskmanager.HealthFailing, h.State, "a critical task is among those that are forgotten")
		require.Equal(t, most+2, len(h.Problems)+h.ProblemsOmitted)
		assert.Equal(t, []taskmanager.HealthProblem{
			{Critical: true, State: taskmanager.StateFailed, Reason: taskmanager.HealthGivenUp, Detail: "1 more tasks, which have been forgotten"},
			{State: taskmanager.StateFailed, Reason: taskmanager.HealthGivenUp, Detail: "6 more tasks, which have been forgotten"},
		}, h.Problems[:2])
		assert.Equal(t, most, len(m.Stats().Tasks)) //nolint:testifylint // a map of that size is not to be printed
		assert.EqualValues(t, most+beyond, m.Stats().Failures)
	})
}

// A million tasks come and go: what is left of them is bounded by the history, and of those that were given up by their names.
func TestHistoryOfAMillionTasksLeavesTheHeapFlat(t *testing.T) {
	const warmUp, names = 20_000, 1000
	tasks := 1_000_000
	if underRace {
		tasks = 100_000
	}
	m := mustNew(t, taskmanager.WithRestart(taskmanager.RestartNever))
	var (
		ended atomic.Int64
		slots = make(chan struct{}, 64) // how many there are at once
	)
	body := func(ctx context.Context) error {
		defer func() {
			ended.Add(1)
			<-slots
		}()
		if _, ok := taskmanager.FromContext(ctx); !ok {
			panic("no task")
		}
		if ended.Load()%4 == 0 {
			return errWhy
		}
		return nil
	}
	nameOf := make([]string, names)
	for i := range nameOf {
		nameOf[i] = fmt.Sprintf("task %d", i)
	}
	churn := func(n int) {
		for i := range n {
			slots <- struct{}{}
			for {
				_, err := m.StartTask(nameOf[i%names], body)
				if err == nil {
					break
				}
				if !errors.Is(err, taskmanager.ErrTaskRunning) {
					t.Fatal(err)
				}
				runtime.Gosched() // the last one of this name has not ended
			}
		}
		for range cap(slots) { // when no body holds one, all have returned
			slots <- struct{}{}
		}
		for range cap(slots) {
			<-slots
		}
		require.NoError(t, m.StopAll(t.Context()))
	}
	heap := func() int64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	churn(warmUp)
	before := heap()
	churn(tasks)
	grown := heap() - before
	assert.Less(t, grown, int64(tasks/4), "less than a byte for every fourth task")
	assert.EqualValues(t, warmUp+tasks, ended.Load())
	stats := m.Stats()
	assert.EqualValues(t, warmUp+tasks, stats.Runs)
	assert.Equal(t, 128, stats.Completed+stats.Stopped)
	assert.Positive(t, stats.Failed, "what was given up stays until its name is taken over")
	assert.Less(t, stats.Failed, names)
	assert.Len(t, stats.Tasks, 128+stats.Failed)
}

func TestHistoryIsBounded(t *testing.T) {
	ended := func(m *taskmanager.Manager) (names []string) {
		for task := range m.Tasks() {
			names = append(names, task.Name())
		}
		slices.Sort(names)
		return names
	}
	finish := func(t *testing.T, m *taskmanager.Manager, names ...string) (tasks []*taskmanager.Task) {
		t.Helper()
		for _, name := range names {
			task := start(t, m, name, untilStopped)
			synctest.Wait()
			require.NoError(t, task.Stop(t.Context()))
			tasks = append(tasks, task)
		}
		return tasks
	}
	t.Run("none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t, taskmanager.WithHistory(0))
			task := finish(t, m, "a")[0]
			assert.Empty(t, ended(m))
			_, ok := m.Lookup("a")
			assert.False(t, ok)
			assert.False(t, m.IsRunning("a"))
			assert.Empty(t, m.Stats().Tasks)
			assert.EqualValues(t, 1, m.Stats().Runs)
			require.ErrorIs(t, m.StopTask(t.Context(), "a"), taskmanager.ErrTaskNotFound)
			require.ErrorIs(t, m.RestartTask(t.Context(), "a"), taskmanager.ErrTaskNotFound)
			require.ErrorIs(t, task.Restart(t.Context()), taskmanager.ErrTaskNotFound)
			require.ErrorIs(t, task.Stop(t.Context()), taskmanager.ErrTaskNotRunning)
			// The handle is history, and can be asked.
			assert.Equal(t, taskmanager.StateStopped, task.State())
			assert.EqualValues(t, 1, task.Stats().Runs)
			require.NoError(t, task.Wait(t.Context()))
			finish(t, m, "a")
			assert.EqualValues(t, 2, m.Stats().Runs)
		})
	})
	t.Run("the oldest are forgotten", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t, taskmanager.WithHistory(3))
			alive := start(t, m, "alive", untilStopped)
			tasks := finish(t, m, "a", "b", "c", "d", "e")
			assert.Equal(t, []string{"alive", "c", "d", "e"}, ended(m))
			// One that is revived is not among them any more, and is the newest when it has ended again.
			require.NoError(t, m.RestartTask(t.Context(), "c"))
			synctest.Wait()
			finish(t, m, "f")
			assert.Equal(t, []string{"alive", "c", "d", "e", "f"}, ended(m))
			require.NoError(t, m.StopTask(t.Context(), "c"))
			assert.Equal(t, []string{"alive", "c", "e", "f"}, ended(m))
			finish(t, m, "g", "h")
			assert.Equal(t, []string{"alive", "c", "g", "h"}, ended(m))
			// A name that is started anew takes the place of its former task, in the middle of the others.
			finish(t, m, "g")
			assert.Equal(t, []string{"alive", "c", "g", "h"}, ended(m))
			finish(t, m, "i")
			assert.Equal(t, []string{"alive", "g", "h", "i"}, ended(m))
			finish(t, m, "j")
			assert.Equal(t, []string{"alive", "g", "i", "j"}, ended(m), "h had ended before the second g")
			finish(t, m, "j", "g", "i")
			assert.Equal(t, []string{"alive", "g", "i", "j"}, ended(m))
			require.ErrorIs(t, tasks[0].Restart(t.Context()), taskmanager.ErrTaskNotFound)
			assert.EqualValues(t, 16, m.Stats().Runs)
			require.NoError(t, alive.Stop(t.Context()))
		})
	})
	t.Run("128 by default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			for i := range 200 {
				finish(t, m, fmt.Sprint(i))
			}
			assert.Len(t, ended(m), 128)
			for i := range 200 {
				_, ok := m.Lookup(fmt.Sprint(i))
				assert.Equal(t, i >= 200-128, ok, i)
			}
		})
	})
}
