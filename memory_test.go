package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

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
func TestPromise10NothingIsForgottenThatStillMatters(t *testing.T) {
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
				require.NoError(t, m.Run(t.Context()))
				took(t, 0, began)
			})
		})
	}
}

// A dependency that has completed is remembered while others need it, and takes no place of those that nobody needs.
func TestMemoryOfDependencies(t *testing.T) {
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

// All of those are known that were given up in one outage.
func TestMemoryOfAnOutage(t *testing.T) {
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
		assert.Len(t, m.Health().Problems, n)

		// Those whose names are taken over are not kept beside.
		for i := range n {
			require.NoError(t, start(t, m, fmt.Sprint("t", i), func(context.Context) error { return nil }).Wait(t.Context()))
		}
		assert.Empty(t, m.Health().Problems)
	})
}

// Ten thousand that were given up are known, and beyond those how many there are.
func TestMemoryOfTooManyThatWereGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		const most, beyond = 10_000, 7
		require.Error(t, start(t, m, "gateway", boom, once(), taskmanager.WithCritical()).Wait(t.Context()))
		for i := range most + beyond - 1 {
			require.Error(t, start(t, m, fmt.Sprint("t", i), boom, once()).Wait(t.Context()))
		}
		h := m.Health()
		assert.Equal(t, taskmanager.HealthFailing, h.State, "a critical task is among those that are forgotten")
		require.Len(t, h.Problems, most+1)
		assert.Contains(t, h.Problems, taskmanager.HealthProblem{
			State: taskmanager.StateFailed, Reason: taskmanager.HealthGivenUp, Detail: "7 more tasks, which have been forgotten",
		})
		assert.Equal(t, most, len(m.Stats().Tasks)) //nolint:testifylint // a map of that size is not to be printed
		assert.EqualValues(t, most+beyond, m.Stats().Failures)
	})
}

// Health and Run say the same of a critical task: gone is one that has completed, and one that waits for what was given up.
func TestHealthAndRunSayTheSame(t *testing.T) {
	done := func(context.Context) error { return nil }
	for title, test := range map[string]struct {
		start func(t *testing.T, m *taskmanager.Manager)
		gone  bool
		names []string // in what Run returns
	}{
		"completed":  {func(t *testing.T, m *taskmanager.Manager) { start(t, m, "c", done, taskmanager.WithCritical()) }, true, nil},
		"given up":   {func(t *testing.T, m *taskmanager.Manager) { start(t, m, "c", boom, once(), taskmanager.WithCritical()) }, true, []string{`"c"`}},
		"in backoff": {func(t *testing.T, m *taskmanager.Manager) { start(t, m, "c", boom, taskmanager.WithCritical()) }, false, nil},
		"waits for one that was given up": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", untilStopped, taskmanager.WithCritical(), taskmanager.WithDependsOn("db"))
			start(t, m, "db", boom, once(), taskmanager.WithReadiness(time.Minute)) // never ready
		}, true, []string{`"c"`, `"db"`}},
		"waits for one that waits for one that was given up": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "db", boom, once(), taskmanager.WithReadiness(time.Minute)) // never ready
			start(t, m, "mid", untilStopped, taskmanager.WithDependsOn("db"))
			start(t, m, "c", untilStopped, taskmanager.WithCritical(), taskmanager.WithDependsOn("mid"))
		}, true, []string{`"c"`, `"mid"`, `"db"`}},
		"waits for one that is not started": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", untilStopped, taskmanager.WithCritical(), taskmanager.WithDependsOn("db"))
		}, false, nil},
		"waits for one that is restarted": {func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "c", untilStopped, taskmanager.WithCritical(), taskmanager.WithDependsOn("db"))
			runs := 0
			start(t, m, "db", func(ctx context.Context) error {
				if runs++; runs == 1 {
					return backoff.Permanent(errBoom)
				}
				return untilStopped(ctx)
			})
			synctest.Wait()
			require.NoError(t, m.RestartTask(t.Context(), "db"))
		}, false, nil},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				test.start(t, m)
				synctest.Wait()
				assert.Equal(t, test.gone, m.Health().State == taskmanager.HealthFailing, "Health: %v", m.Health())
				ran := make(chan error, 1)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() { ran <- m.Run(ctx) }()
				synctest.Wait()
				if !test.gone {
					require.Empty(t, ran, "Run has ended")
					cancel()
				}
				err := <-ran
				if test.names == nil {
					require.NoError(t, err)
				}
				for _, name := range test.names {
					require.ErrorContains(t, err, name)
				}
			})
		})
	}
}

// heapOf returns how the heap has grown when f has been called.
func heapOf(f func()) int64 {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	before := heap()
	f()
	return heap() - before
}

// What waits leaves nothing behind when it gives up waiting.
func TestPromise2WaitersOfAStuckTaskLeaveNothing(t *testing.T) {
	for title, test := range map[string]struct {
		calls int
		call  func(ctx context.Context, m *taskmanager.Manager) error
	}{
		"StopTask":             {3000, func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "stuck") }},
		"RestartTask":          {3000, func(ctx context.Context, m *taskmanager.Manager) error { return m.RestartTask(ctx, "stuck") }},
		"StopAll of a hundred": {100, func(ctx context.Context, m *taskmanager.Manager) error { return m.StopAll(ctx) }},
		"Wait": {3000, func(ctx context.Context, m *taskmanager.Manager) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			task, _ := m.Lookup("stuck")
			return task.Wait(ctx)
		}},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, taskmanager.WithStopTimeout(time.Millisecond))
				body := newDeafBody()
				stuck := start(t, m, "stuck", body.run)
				synctest.Wait()
				body2 := newDeafBody()
				if test.calls == 100 {
					for i := range 99 {
						start(t, m, fmt.Sprint("t", i), body2.run)
					}
					synctest.Wait()
				}
				require.Error(t, m.StopAll(t.Context()))
				call := func() { assert.Error(t, test.call(t.Context(), m)) }
				for range 10 {
					call()
				}
				grown := heapOf(func() {
					for range test.calls {
						call()
					}
				})
				assert.Less(t, grown/int64(test.calls), int64(100), "bytes for each call")
				body.release()
				body2.release()
				require.NoError(t, stuck.Wait(t.Context()))
			})
		})
	}
}

// Critical tasks of many names that complete, where nobody calls Run, are bounded as those are that were given up.
func TestMemoryOfCriticalTasksWithoutRun(t *testing.T) {
	m := mustNew(t, taskmanager.WithCritical(), taskmanager.WithHistory(0))
	end := func(n int) {
		for i := range n {
			require.NoError(t, start(t, m, fmt.Sprint("job ", n, i), func(context.Context) error { return nil }).Wait(t.Context()))
		}
	}
	end(10_000) // which are remembered
	grown := heapOf(func() { end(10_001) })
	assert.Less(t, grown, int64(1<<20), "bytes for 10,001 further ones")
	assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
}
