package taskmanager_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

const stillWaiting = "INFO still waiting for tasks to stop | "

// progressOf returns the lines about stops that wait, without what is the same in all.
func progressOf(lines *linesHandler) (got []string) {
	synctest.Wait()
	for _, line := range lines.got() {
		if rest, ok := strings.CutPrefix(line, stillWaiting); ok {
			got = append(got, rest)
		}
	}
	return got
}

// Every five seconds of a stop the log says whom it waits for, and until when. Nothing is said of a stop that is over by then, and
// nothing after its end.
func TestStopProgress(t *testing.T) {
	const s = time.Second
	stopTask := func(m *taskmanager.Manager) error { return m.StopTask(context.Background(), "a") }
	within := func(d time.Duration) func(m *taskmanager.Manager) error {
		return func(m *taskmanager.Manager) error {
			ctx, cancel := context.WithTimeout(context.Background(), d)
			defer cancel()
			return m.StopTask(ctx, "a")
		}
	}
	run := func(m *taskmanager.Manager) error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return m.Run(ctx)
	}
	for name, test := range map[string]struct {
		takes   time.Duration // to stop
		timeout time.Duration
		stop    func(m *taskmanager.Manager) error
		want    []string
	}{
		"StopTask":              {17 * s, 18 * s, stopTask, []string{"waited=5s left=13s tasks=a", "waited=10s left=8s tasks=a", "waited=15s left=3s tasks=a"}},
		"that stops":            {7 * s, 18 * s, stopTask, []string{"waited=5s left=13s tasks=a"}},
		"that stops at once":    {0, 18 * s, stopTask, nil},
		"up to its deadline":    {time.Minute, 10 * s, stopTask, []string{"waited=5s left=5s tasks=a"}},
		"of five seconds":       {time.Minute, 5 * s, stopTask, nil},
		"its context's":         {time.Minute, 18 * s, within(7500 * time.Millisecond), []string{"waited=5s left=2.5s tasks=a"}},
		"its context's, passed": {time.Minute, 18 * s, within(0), nil},
		"given up before": {time.Minute, 18 * s, func(m *taskmanager.Manager) error {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(7*s, cancel)
			return m.StopTask(ctx, "a")
		}, []string{"waited=5s left=13s tasks=a"}},
		"StopAll":  {7 * s, 18 * s, func(m *taskmanager.Manager) error { return m.StopAll(context.Background()) }, []string{"waited=5s left=13s tasks=a"}},
		"Shutdown": {7 * s, 18 * s, func(m *taskmanager.Manager) error { return m.Shutdown(context.Background()) }, []string{"waited=5s left=13s tasks=a"}},
		"Run":      {7 * s, 18 * s, run, []string{"waited=5s left=13s tasks=a"}},
		"ReplaceTask": {7 * s, 18 * s, func(m *taskmanager.Manager) error {
			_, err := m.ReplaceTask(context.Background(), "a", untilStopped)
			return err
		}, []string{"waited=5s left=13s tasks=a"}},
		"RestartTask": {7 * s, 18 * s, func(m *taskmanager.Manager) error { return m.RestartTask(context.Background(), "a") }, []string{"waited=5s left=13s tasks=a"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				m := mustNew(t, taskmanager.WithLogger(slog.New(lines)))
				start(t, m, "a", slowToStop(test.takes), taskmanager.WithStopTimeout(test.timeout))
				synctest.Wait()
				_ = test.stop(m)
				assert.Equal(t, test.want, progressOf(lines))
				time.Sleep(time.Hour)
				assert.Equal(t, test.want, progressOf(lines), "after the stop")
				_ = m.Shutdown(t.Context())
				time.Sleep(time.Minute)
			})
		})
	}
}

// The line has the name of the Manager, and is written while the stop waits.
func TestStopProgressIsWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithName("bot"), taskmanager.WithStopTimeout(time.Minute))
		start(t, m, "a", slowToStop(7*time.Second))
		synctest.Wait()
		go func() { _ = m.Shutdown(context.Background()) }()
		time.Sleep(5 * time.Second)
		assert.Equal(t, []string{"manager=bot waited=5s left=55s tasks=a"}, progressOf(lines))
		time.Sleep(time.Minute)
	})
}

// Of many tasks a few are named. Those that have stopped or are stuck are not waited for, nor is the one whose body asks.
func TestStopProgressNamesWhomItWaitsFor(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithStopTimeout(30*s))
		for i := range 7 {
			start(t, m, fmt.Sprint("slow ", i), slowToStop(time.Duration(8+i)*s+s/2))
		}
		start(t, m, "a", slowToStop(4*s))
		start(t, m, "deaf", slowToStop(time.Minute), taskmanager.WithStopTimeout(12*s))
		synctest.Wait()
		start(t, m, "asks", func(ctx context.Context) error {
			_ = m.StopAll(ctx)
			return nil
		})
		time.Sleep(time.Hour)
		assert.Equal(t, []string{
			"waited=5s left=25s tasks=deaf, slow 0, slow 1, slow 2, slow 3 and 3 more",
			"waited=10s left=20s tasks=deaf, slow 2, slow 3, slow 4, slow 5 and 1 more",
		}, progressOf(lines), "at 15 s slow 6 has stopped, and the deaf one is stuck")
	})
}

// Of a chain of dependencies those are named that have been asked.
func TestStopProgressOfAChain(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithStopTimeout(8*s))
		chain(t, m, func(string) taskmanager.TaskFunc { return slowToStop(7 * s) })
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, []string{
			"waited=5s left=3s tasks=c, e not_asked_yet=2",
			"waited=10s left=5s tasks=b not_asked_yet=1",
			"waited=15s left=7s tasks=a",
			"waited=20s left=2s tasks=a",
		}, progressOf(lines))
		time.Sleep(time.Hour)
		assert.Len(t, progressOf(lines), 4)
	})
}

// A body that stops all is not waited for, nor is what it depends on.
func TestStopProgressOfAChainThatIsStoppedFromWithin(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithStopTimeout(time.Minute))
		chain(t, m, func(name string) taskmanager.TaskFunc {
			if name != "b" {
				return slowToStop(7 * s)
			}
			return func(ctx context.Context) error {
				time.Sleep(s)
				return m.StopAll(ctx)
			}
		})
		time.Sleep(time.Hour)
		assert.Equal(t, []string{"waited=5s left=55s tasks=c, e"}, progressOf(lines))
	})
}

// However many stops of all tasks there are at once, one of them says whom it waits for: a Shutdown if there is one.
func TestStopProgressIsToldOnce(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		parent, cancelParent := context.WithCancel(t.Context())
		m := mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithContext(parent),
			taskmanager.WithStopTimeout(time.Minute), taskmanager.WithShutdownTimeout(12*s))
		start(t, m, "a", slowToStop(18*s))
		first, cancel := goRun(t, m)
		defer cancel()
		second, cancel2 := goRun(t, m)
		defer cancel2()
		first.lives(t)
		cancelParent()
		go func() { _ = m.StopAll(context.Background()) }()
		_, _ = <-first.result, <-second.result
		assert.Equal(t, []string{"waited=5s left=7s tasks=a", "waited=10s left=2s tasks=a"}, progressOf(lines))
		time.Sleep(time.Hour)
		assert.Equal(t, []string{"waited=15s left=45s tasks=a"}, progressOf(lines)[2:], "the others go on")
	})
}

// Who waits for a group is told of the tasks in it; the group itself says nothing, unless it ends of its own accord.
func TestStopProgressOfAGroup(t *testing.T) {
	const s = time.Second
	begin := func(t *testing.T) (m *taskmanager.Manager, lines *linesHandler) {
		t.Helper()
		lines = newLines(slog.LevelInfo)
		m = mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithStopTimeout(time.Minute))
		long := taskmanager.WithStopTimeout(time.Minute)
		start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			start(t, g, "slow", slowToStop(9*s), long)
			start(t, g, "quick", slowToStop(s), long)
			start(t, g, "inner", taskmanager.Group(func(g *taskmanager.Manager) error {
				start(t, g, "slower", slowToStop(13*s), long)
				return nil
			}), long)
			start(t, g, "vital", failAfter(time.Hour), critical, noRestart)
			return nil
		}), taskmanager.WithBackoff(time.Hour, time.Hour))
		start(t, m, "other", slowToStop(17*s))
		synctest.Wait()
		return m, lines
	}
	t.Run("Shutdown", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, lines := begin(t)
			require.NoError(t, m.Shutdown(t.Context()))
			assert.Equal(t, []string{
				"waited=5s left=55s tasks=g/inner/slower, g/slow, other",
				"waited=10s left=50s tasks=g/inner/slower, other",
				"waited=15s left=45s tasks=other",
			}, progressOf(lines))
		})
	})
	t.Run("RestartTask", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, lines := begin(t)
			require.NoError(t, m.RestartTask(t.Context(), "g"))
			assert.Equal(t, []string{
				"waited=5s left=55s tasks=g/inner/slower, g/slow",
				"waited=10s left=50s tasks=g/inner/slower",
			}, progressOf(lines))
			require.NoError(t, m.Shutdown(t.Context()))
		})
	})
	t.Run("it ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m, lines := begin(t)
			time.Sleep(time.Hour + time.Minute)
			assert.Equal(t, []string{
				"waited=5s left=55s tasks=g/inner/slower, g/slow",
				"waited=10s left=50s tasks=g/inner/slower",
			}, progressOf(lines))
			require.NoError(t, m.Shutdown(t.Context()))
		})
	})
	t.Run("that starts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			lines := newLines(slog.LevelInfo)
			m := mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithStopTimeout(time.Minute))
			start(t, m, "g", taskmanager.Group(func(*taskmanager.Manager) error {
				time.Sleep(7 * s)
				return nil
			}))
			synctest.Wait()
			require.NoError(t, m.Shutdown(t.Context()))
			assert.Equal(t, []string{"waited=5s left=55s tasks=g"}, progressOf(lines))
		})
	})
}

// A log handler that hangs with such a line holds up no stop, and leaves nothing behind but itself.
func TestStopProgressHoldsUpNobody_Promise4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := goroutines()
		m := mustNew(t, slowLog("still waiting for tasks to stop", func() { time.Sleep(time.Hour) }), taskmanager.WithStopTimeout(time.Minute))
		start(t, m, "a", slowToStop(17*time.Second))
		synctest.Wait()
		began := time.Now()
		require.NoError(t, m.StopTask(t.Context(), "a"))
		took(t, 17*time.Second, began)
		assert.Equal(t, before+1, goroutines(), "that of the line")
		time.Sleep(4 * time.Hour)
		assert.Equal(t, before, goroutines())
	})
}
