package taskmanager_test

import (
	"context"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

func TestRestartLimitSpreadsTenThousandRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tasks := 10_000
		if underRace {
			tasks = 2000
		}
		const (
			healthy = 100
			burst   = 1000
			// A power of two, so that the limiter's float arithmetic is exact: a turn each 7,812,500 ns.
			perSecond = 128
			turn      = time.Second / perSecond
		)
		m := newManager(t, taskmanager.WithRestartLimit(perSecond, burst), taskmanager.WithBackoff(0, 0))
		begin := time.Now()
		fail := make(chan struct{})
		var (
			second   = make([]time.Duration, tasks) // when the second run began
			failures atomic.Int64
			ticks    [healthy]atomic.Int64
		)
		for i := range tasks {
			ran := false
			start(t, m, strconv.Itoa(i), func(ctx context.Context) error {
				if ran {
					second[i] = time.Since(begin)
					return untilStopped(ctx)
				}
				ran = true
				<-fail
				failures.Add(1)
				return errBoom
			})
		}
		for i := range healthy {
			start(t, m, "healthy "+strconv.Itoa(i), everySecond(&ticks[i]))
		}
		synctest.Wait()
		close(fail)
		synctest.Wait()
		assert.EqualValues(t, tasks, failures.Load(), "the limit delays restarts, not failures")
		assert.Equal(t, tasks-burst, m.Stats().Backoff)

		time.Sleep(time.Duration(tasks-burst)*turn - 1)
		synctest.Wait()
		assert.Equal(t, 1, m.Stats().Backoff)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		stats := m.Stats()
		assert.Zero(t, stats.Backoff)
		assert.Equal(t, tasks+healthy, stats.Running, "none is starved")

		slices.Sort(second)
		for i, at := range second {
			require.Equal(t, turn*time.Duration(max(0, i-burst+1)), at, "restart %d", i)
		}
		for i := range healthy {
			require.EqualValues(t, time.Duration(tasks-burst)*turn/time.Second, ticks[i].Load())
			require.EqualValues(t, 1, stats.Tasks["healthy "+strconv.Itoa(i)].Runs)
		}
	})
}

// queue starts tasks of the names given, that fail a nanosecond after one another and so ask for their turns in this order. It returns
// when all of them have asked. From then on, second tells when the second runs have begun, to the millisecond and since the first failure.
func queue(t *testing.T, m *taskmanager.Manager, names ...string) (begin time.Time, second func() map[string]time.Duration) {
	t.Helper()
	var (
		mu    sync.Mutex
		begun = make(map[string]time.Duration)
	)
	begin = time.Now()
	for i, name := range names {
		ran := false
		start(t, m, name, func(ctx context.Context) error {
			if ran {
				mu.Lock()
				begun[name] = time.Since(begin).Round(time.Millisecond)
				mu.Unlock()
				return untilStopped(ctx)
			}
			ran = true
			return failAfter(time.Duration(i))(ctx)
		})
	}
	time.Sleep(time.Duration(len(names)))
	synctest.Wait()
	return begin, func() map[string]time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(begun)
	}
}

// oneASecond allows a restart at once, and then one in each second.
func oneASecond() []taskmanager.Option {
	return []taskmanager.Option{taskmanager.WithRestartLimit(1, 1), taskmanager.WithBackoff(0, 0)}
}

func TestRestartLimitGrantsTurnsInTheOrderOfAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, oneASecond()...)
		var names []string
		for i := range 100 {
			// Neither the order of names nor that of starting by accident.
			names = append(names, strconv.Itoa(int(bits.Reverse8(uint8(i)))))
		}
		begin, second := queue(t, m, names...)
		time.Sleep(time.Until(begin.Add(99*time.Second + 1)))
		synctest.Wait()
		want := make(map[string]time.Duration)
		for i, name := range names {
			want[name] = time.Duration(i) * time.Second
		}
		assert.Equal(t, want, second())
	})
}

func TestRestartLimitStopOfOneThatWaitsIsImmediateAndGivesItsTurnBack(t *testing.T) {
	for title, test := range map[string]struct {
		stop string
		want map[string]time.Duration
	}{
		"the first in line": {"b", map[string]time.Duration{"a": 0, "c": time.Second, "d": 2 * time.Second}},
		"one behind it":     {"c", map[string]time.Duration{"a": 0, "b": time.Second, "d": 2 * time.Second}},
		"the last":          {"d", map[string]time.Duration{"a": 0, "b": time.Second, "c": 2 * time.Second}},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, oneASecond()...)
				begin, second := queue(t, m, "a", "b", "c", "d")
				time.Sleep(time.Second / 4)
				before := time.Now()
				require.NoError(t, m.StopTask(context.Background(), test.stop))
				assert.Zero(t, time.Since(before))
				task, _ := m.Lookup(test.stop)
				assert.Equal(t, taskmanager.StateStopped, task.State())
				assert.EqualValues(t, 1, task.Stats().Runs)
				time.Sleep(time.Until(begin.Add(time.Minute)))
				assert.Equal(t, test.want, second())
			})
		})
	}
}

// With nobody behind it, the turn must be there for the next failure, however much later.
func TestRestartLimitStopOfTheOnlyOneThatWaitsGivesItsTurnBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, oneASecond()...)
		begin, second := queue(t, m, "a", "b")
		time.Sleep(time.Second / 2)
		require.NoError(t, m.StopTask(context.Background(), "b"))
		late := start(t, m, "late", failAt(0))
		time.Sleep(time.Until(begin.Add(time.Second - 2)))
		synctest.Wait()
		assert.Equal(t, taskmanager.StateBackoff, late.State())
		time.Sleep(4 * time.Nanosecond)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, late.State())
		assert.Len(t, second(), 1)
	})
}

func TestRestartLimitStopAllOfThoseThatWaitIsImmediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, append(oneASecond(), taskmanager.WithRestartLimit(1e-300, 1), taskmanager.WithHistory(1000))...)
		var names []string
		for i := range 1000 {
			names = append(names, strconv.Itoa(i))
		}
		_, second := queue(t, m, names...)
		time.Sleep(1000 * time.Hour)
		assert.Len(t, second(), 1, "at this rate there is no second restart in a lifetime")
		before := time.Now()
		require.NoError(t, m.StopAll(context.Background()))
		assert.Zero(t, time.Since(before))
		assert.Equal(t, 1000, m.Stats().Stopped)
	})
}

// A restart by hand waits for nobody, and takes no turn from those that wait.
func TestRestartLimitDoesNotHoldARestartByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, oneASecond()...)
		begin, second := queue(t, m, "a", "b", "c", "d")
		time.Sleep(time.Second / 4)
		require.NoError(t, m.RestartTask(context.Background(), "b"))
		require.NoError(t, m.RestartTask(context.Background(), "d"))
		require.NoError(t, m.RestartTask(context.Background(), "a"))
		synctest.Wait()
		time.Sleep(time.Until(begin.Add(time.Minute)))
		assert.Equal(t, map[string]time.Duration{
			"a": time.Second / 4, "b": time.Second / 4, "c": time.Second, "d": time.Second / 4,
		}, second())
	})
}

// The delay of the task comes first: it does not hold a place in the line meanwhile.
func TestRestartLimitComesAfterTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithRestartLimit(1, 1), taskmanager.WithBackoffJitter(0))
		slow := start(t, m, "slow", failAt(0), taskmanager.WithBackoff(10*time.Second, 10*time.Second))
		quick := start(t, m, "quick", failAt(1, 2*time.Second, 4*time.Second), taskmanager.WithBackoff(0, 0))
		time.Sleep(10*time.Second - 1)
		synctest.Wait()
		assert.EqualValues(t, 4, quick.Stats().Runs, "none of its restarts waited")
		assert.EqualValues(t, 1, slow.Stats().Runs)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.EqualValues(t, 2, slow.Stats().Runs)
	})
}

// The first thousand are the burst, and then there are a hundred in each second.
func TestRestartLimitOfTheDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(0, 0))
		for i := range 1300 {
			start(t, m, strconv.Itoa(i), failAt(0))
		}
		synctest.Wait()
		assert.Equal(t, 1000, m.Stats().Running)
		for i := range 3 {
			time.Sleep(time.Second / 2)
			synctest.Wait()
			assert.InDelta(t, 1000+50*(2*i+1), m.Stats().Running, 1, "by float arithmetic")
			time.Sleep(time.Second / 2)
			synctest.Wait()
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		assert.Equal(t, 1300, m.Stats().Running)
	})
}

// A driver that was replaced while it was with the log's handler takes no turn: it has no use for it.
func TestRestartLimitGivesNoTurnToAReplacedDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, fail := make(chan struct{}), make(chan struct{})
		m := newManager(t, taskmanager.WithRestartLimit(1.0/3600, 1), slowLog("task failed, will restart", func() { <-release }))
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			switch runs++; runs {
			case 1:
				return errBoom
			case 2:
				<-fail
				return errBoom
			}
			return untilStopped(ctx)
		}, taskmanager.WithBackoff(0, 0))
		synctest.Wait()
		require.NoError(t, m.RestartTask(t.Context(), "a"))
		close(release)
		synctest.Wait()
		close(fail)
		synctest.Wait()
		assert.EqualValues(t, 3, task.Stats().Runs, "the turn was left")
	})
}

// A run without a delay that has waited for its turn begins then, and not when the one before has ended.
func TestRestartLimitAndWhenARunBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithRestartLimit(rate.Every(time.Minute), 1), taskmanager.WithBackoff(0, 0))
		began := time.Now()
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs++; runs < 3 {
				return errBoom
			}
			return untilStopped(ctx)
		})
		time.Sleep(time.Hour)
		s := task.Stats()
		assert.EqualValues(t, 3, s.Runs)
		assert.Equal(t, time.Minute, s.RunStartedAt.Sub(began))
		assert.Equal(t, 59*time.Minute, s.Uptime)
	})
}
