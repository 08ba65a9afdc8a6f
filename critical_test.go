package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

var (
	critical  = taskmanager.WithCritical()
	noRestart = taskmanager.WithMaxRestarts(0) // the first failure gives up
)

// A running is a call of Run.
type running struct {
	result chan error
	began  time.Time
	took   time.Duration
}

// goRun calls Run, with a context that cancel ends.
func goRun(t *testing.T, m *taskmanager.Manager) (r *running, cancel context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r = &running{result: make(chan error, 1), began: time.Now()}
	go func() {
		err := m.Run(ctx)
		r.took = time.Since(r.began)
		r.result <- err
	}()
	return r, cancel
}

// lives asserts that Run has not returned when nothing more happens at this moment.
func (r *running) lives(t *testing.T) {
	t.Helper()
	synctest.Wait()
	require.Empty(t, r.result, "Run has returned")
}

// err waits for Run to return, and asserts that this took d.
func (r *running) err(t *testing.T, d time.Duration) error {
	t.Helper()
	err := <-r.result
	assert.Equal(t, d, r.took, "time that Run took")
	return err
}

// assertGivenUp asserts that err is a GiveUpError about that task.
func assertGivenUp(t *testing.T, err error, task string) {
	t.Helper()
	var gaveUp *taskmanager.GiveUpError
	require.ErrorAs(t, err, &gaveUp)
	assert.Equal(t, task, gaveUp.Task)
}

func TestRunEndsWhenACriticalTaskIsGivenUp(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(s, s), taskmanager.WithBackoffJitter(0))
		log := newStopLog()
		start(t, m, "db", log.body(s))
		synctest.Wait()
		start(t, m, "consumer", log.body(2*s), dependsOn("db"))
		start(t, m, "vital", failAfter(s), critical, taskmanager.WithMaxRestarts(2))
		start(t, m, "useless", boom, noRestart)
		assert.True(t, m.Stats().Tasks["vital"].Critical)
		assert.False(t, m.Stats().Tasks["db"].Critical)
		log.begin()
		r, cancel := goRun(t, m)
		defer cancel()
		time.Sleep(5*s - 1)
		r.lives(t)
		err := r.err(t, 8*s) // it fails after 1, 3 and 5 s, and the others take 3 s to stop, in order
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, err, &gaveUp)
		assert.Equal(t, "vital", gaveUp.Task)
		assert.Same(t, gaveUp, err, "there is one error, and it is returned as it is")
		assert.Equal(t, 2, gaveUp.Restarts)
		require.ErrorIs(t, err, errBoom)
		require.ErrorIs(t, err, taskmanager.ErrTooManyRestarts)
		assert.Contains(t, err.Error(), `"vital"`)
		assert.Equal(t, times{"consumer": 5 * s, "db": 7 * s}, log.times())
		require.ErrorIs(t, log.cause("db"), taskmanager.ErrShutdown)
		require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
	})
}

func TestRunNamesEveryCriticalTaskThatIsGivenUp(t *testing.T) {
	const s = time.Second
	errOther := errors.New("other")
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, critical, noRestart)
		fails := func(d time.Duration, err error) taskmanager.TaskFunc {
			return func(context.Context) error {
				time.Sleep(d)
				return err
			}
		}
		start(t, m, "a", fails(s, errBoom))
		start(t, m, "b", fails(s, errOther))
		// It fails during the shutdown, before its turn to be stopped has come.
		start(t, m, "late", fails(2*s, errWhy))
		synctest.Wait()
		start(t, m, "user", slowToStop(3*s), dependsOn("late"))
		start(t, m, "asked", func(ctx context.Context) error {
			<-ctx.Done()
			return errors.New("it was asked, which is no failure")
		})
		r, cancel := goRun(t, m)
		defer cancel()
		err := r.err(t, 4*s)
		require.ErrorIs(t, err, errWhy)
		// Of two that fail at the same moment, one may be asked to stop on behalf of the other: then that has not failed.
		failed := 0
		for name, cause := range map[string]error{"a": errBoom, "b": errOther} {
			gaveUp := m.Stats().Tasks[name].State == taskmanager.StateFailed
			assert.Equal(t, gaveUp, errors.Is(err, cause), name)
			assert.Equal(t, gaveUp, strings.Contains(err.Error(), fmt.Sprintf("gave up task %q", name)))
			if gaveUp {
				failed++
			}
		}
		assert.NotZero(t, failed)
		assert.NotContains(t, err.Error(), "asked")
	})
}

// Whatever becomes of tasks before Run: it returns at once if one that is critical is gone, and otherwise waits.
func TestACriticalTaskIsGoneBeforeRun(t *testing.T) {
	gone := func(t *testing.T, m *taskmanager.Manager) *taskmanager.Task {
		t.Helper()
		task := start(t, m, "vital", failAt(0), critical, noRestart)
		require.Equal(t, taskmanager.StateFailed, settled(task))
		return task
	}
	t.Run("for good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, taskmanager.WithHistory(0))
			start(t, m, "other", slowToStop(time.Second))
			gone(t, m)
			r, cancel := goRun(t, m)
			defer cancel()
			assertGivenUp(t, r.err(t, time.Second), "vital")
			assert.False(t, m.IsRunning("other"))
		})
	})
	for name, revive := range map[string]func(m *taskmanager.Manager, task *taskmanager.Task) error{
		"RestartTask": func(m *taskmanager.Manager, _ *taskmanager.Task) error {
			return m.RestartTask(context.Background(), "vital")
		},
		"StartTask": func(m *taskmanager.Manager, _ *taskmanager.Task) error {
			_, err := m.StartTask("vital", untilStopped)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				require.NoError(t, revive(m, gone(t, m)))
				r, cancel := goRun(t, m)
				time.Sleep(time.Minute)
				r.lives(t)
				cancel()
				require.NoError(t, r.err(t, time.Minute))
			})
		})
	}
	t.Run("StartTask when it has been forgotten", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, taskmanager.WithHistory(0))
			gone(t, m)
			start(t, m, "vital", untilStopped)
			r, cancel := goRun(t, m)
			r.lives(t)
			cancel()
			require.NoError(t, r.err(t, 0))
		})
	})
	t.Run("and again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := gone(t, m)
			require.NoError(t, task.Restart(t.Context()))
			require.NoError(t, task.Stop(t.Context()))
			start(t, m, "vital", failAt(time.Second), critical, noRestart)
			start(t, m, "second", failAt(0), critical, noRestart)
			require.NoError(t, m.RestartTask(t.Context(), "second"))
			time.Sleep(2 * time.Second)
			r, cancel := goRun(t, m)
			defer cancel()
			err := r.err(t, 0)
			several, ok := err.(interface{ Unwrap() []error })
			require.True(t, ok)
			require.Len(t, several.Unwrap(), 2, "each once: %v", err)
			assertGivenUp(t, several.Unwrap()[0], "second")
			assertGivenUp(t, several.Unwrap()[1], "vital")
		})
	})
}

func TestACriticalTaskCompletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "job", func(context.Context) error {
			time.Sleep(time.Second)
			return nil
		}, critical)
		other := start(t, m, "other", slowToStop(time.Second))
		r, cancel := goRun(t, m)
		defer cancel()
		require.NoError(t, r.err(t, 2*time.Second))
		assert.Equal(t, taskmanager.StateStopped, other.State())
	})
}

// What somebody has asked for is no reason to end, and neither is a failure that is followed by a restart.
func TestACriticalTaskIsStoppedOrRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "vital", failAt(time.Second), critical)
		start(t, m, "always", func(context.Context) error { return nil }, critical,
			taskmanager.WithRestart(taskmanager.RestartAlways), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		r, cancel := goRun(t, m)
		time.Sleep(time.Minute)
		r.lives(t)
		require.NoError(t, task.Restart(t.Context()))
		r.lives(t)
		require.NoError(t, task.Stop(t.Context()))
		r.lives(t)
		require.NoError(t, task.Restart(t.Context()))
		require.NoError(t, m.StopAll(t.Context()))
		r.lives(t)
		start(t, m, "useless", boom, noRestart)
		r.lives(t)
		cancel()
		require.NoError(t, r.err(t, time.Minute))
	})
}

// The giving up decides: no task starts after it, though Shutdown may not have been called yet. A log handler holds up the end
// of Run for as long as a reporter may.
func TestACriticalTaskClosesTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *taskmanager.Manager
		refused := make(chan error, 1)
		m = newManager(t, slowLog("task failed for good, gave up", func() {
			_, err := m.StartTask("another", untilStopped)
			refused <- err
			time.Sleep(time.Minute)
		}))
		r, cancel := goRun(t, m)
		defer cancel()
		synctest.Wait()
		began := time.Now()
		task := start(t, m, "vital", boom, critical, noRestart)
		require.ErrorIs(t, task.Wait(t.Context()), errBoom)
		require.ErrorIs(t, <-refused, taskmanager.ErrManagerClosed)
		took(t, 0, began) // who waits for the task does not wait for the log
		assertGivenUp(t, r.err(t, 5*time.Second), "vital")
		time.Sleep(time.Minute)
	})
}

// Whoever ends the process when Run has returned finds the reason in the log, and with the reporter.
func TestPromise7RunReturnsWhenItsReasonIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reports := newInbox(nil)
		logged := false
		m := newManager(t, taskmanager.WithReporter(reports), slowLog("task failed for good, gave up", func() {
			time.Sleep(time.Second)
			logged = true
		}))
		r, cancel := goRun(t, m)
		defer cancel()
		synctest.Wait()
		start(t, m, "vital", boom, critical, noRestart)
		assertGivenUp(t, r.err(t, time.Second), "vital")
		assert.True(t, logged)
		assert.Equal(t, []string{"0s vital gave up run=1 repeats=0"}, reports.got())
	})
}

func TestTwoRunsEndTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "vital", failAfter(time.Second), critical, noRestart)
		first, cancel := goRun(t, m)
		defer cancel()
		second, cancel2 := goRun(t, m)
		defer cancel2()
		assertGivenUp(t, first.err(t, time.Second), "vital")
		assertGivenUp(t, second.err(t, time.Second), "vital")
	})
}

func TestRunEndsForAnotherReason(t *testing.T) {
	for name, end := range map[string]func(m *taskmanager.Manager, cancelParent func()) error{
		"Shutdown": func(m *taskmanager.Manager, _ func()) error { return m.Shutdown(context.Background()) },
		"parent":   func(_ *taskmanager.Manager, cancelParent func()) error { cancelParent(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancelParent := context.WithCancel(t.Context())
				m := newManager(t, taskmanager.WithContext(parent))
				start(t, m, "vital", slowToStop(time.Second), critical)
				r, cancel := goRun(t, m)
				defer cancel()
				r.lives(t)
				require.NoError(t, end(m, cancelParent))
				require.NoError(t, r.err(t, time.Second))
			})
		})
		t.Run(name+" without tasks", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancelParent := context.WithCancel(t.Context())
				m := newManager(t, taskmanager.WithContext(parent))
				r, cancel := goRun(t, m)
				defer cancel()
				r.lives(t)
				require.NoError(t, end(m, cancelParent))
				require.NoError(t, r.err(t, 0))
			})
		})
	}
}

// A critical task gives up while its Manager is being shut down: Run says so, whoever began.
func TestACriticalTaskGivesUpDuringShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "vital", failAt(time.Second), critical, noRestart)
		synctest.Wait()
		start(t, m, "user", slowToStop(2*time.Second), dependsOn("vital"))
		r, cancel := goRun(t, m)
		r.lives(t)
		cancel()
		assertGivenUp(t, r.err(t, 2*time.Second), "vital")
	})
}

// A task that is stuck because somebody has stopped it has not failed.
func TestACriticalTaskIsStuckAfterAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		body := newDeafBody()
		task := start(t, m, "vital", body.run, critical)
		r, cancel := goRun(t, m)
		defer cancel()
		r.lives(t)
		asStuck(t, task.Stop(t.Context()), "vital", 5*time.Second)
		time.Sleep(time.Minute)
		r.lives(t)
		cancel()
		asStuck(t, r.err(t, 70*time.Second), "vital", 5*time.Second)
		body.release()
	})
}

// stuckAfter3Seconds starts a critical task whose first run ignores its watchdog: it is stuck after 3 s.
func stuckAfter3Seconds(t *testing.T, m *taskmanager.Manager, opts ...taskmanager.TaskOption) (*taskmanager.Task, *deafBody) {
	t.Helper()
	body := newDeafBody()
	var first atomic.Bool
	task := start(t, m, "vital", func(ctx context.Context) error {
		if first.CompareAndSwap(false, true) {
			return body.run(ctx)
		}
		for ctx.Err() == nil {
			taskmanager.Heartbeat(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second / 2):
			}
		}
		return nil
	}, append(opts, critical, taskmanager.WithWatchdog(time.Second), taskmanager.WithStopTimeout(2*time.Second))...)
	return task, body
}

func TestRunEndsWhenACriticalTaskIsStuckAfterAMissedHeartbeat(t *testing.T) {
	const s = time.Second
	t.Run("for ever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			other := start(t, m, "other", untilStopped)
			_, body := stuckAfter3Seconds(t, m)
			r, cancel := goRun(t, m)
			defer cancel()
			time.Sleep(3*s - 1)
			r.lives(t)
			err := r.err(t, 5*s) // the shutdown waits for it once more
			asStuck(t, err, "vital", 2*s)
			assert.Equal(t, taskmanager.StateStopped, other.State())
			body.release()
		})
	})
	t.Run("until the shutdown", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task, body := stuckAfter3Seconds(t, m)
			time.AfterFunc(4*s, body.release)
			r, cancel := goRun(t, m)
			defer cancel()
			asStuck(t, r.err(t, 4*s), "vital", 2*s)
			assert.Equal(t, taskmanager.StateStopped, task.State())
		})
	})
	t.Run("before Run", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			_, body := stuckAfter3Seconds(t, m)
			time.Sleep(10 * s)
			r, cancel := goRun(t, m)
			defer cancel()
			asStuck(t, r.err(t, 2*s), "vital", 2*s)
			body.release()
		})
	})
	t.Run("before Run, and restarted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task, body := stuckAfter3Seconds(t, m)
			time.Sleep(10 * s)
			body.release()
			require.Equal(t, taskmanager.StateBackoff, settled(task))
			r, cancel := goRun(t, m)
			time.Sleep(time.Minute)
			r.lives(t)
			cancel()
			require.NoError(t, r.err(t, time.Minute))
		})
	})
	t.Run("before Run, and given up", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task, body := stuckAfter3Seconds(t, m, noRestart)
			time.Sleep(10 * s)
			body.release()
			require.Equal(t, taskmanager.StateFailed, settled(task))
			r, cancel := goRun(t, m)
			defer cancel()
			err := r.err(t, 0)
			assertGivenUp(t, err, "vital")
			require.ErrorIs(t, err, taskmanager.ErrWatchdog)
			var stuck *taskmanager.StopTimeoutError
			require.NotErrorAs(t, err, &stuck, "it no longer is")
		})
	})
	t.Run("before Run, and stopped by hand", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task, body := stuckAfter3Seconds(t, m)
			time.Sleep(10 * s)
			asStuck(t, task.Stop(t.Context()), "vital", 2*s)
			body.release()
			require.Equal(t, taskmanager.StateStopped, settled(task))
			r, cancel := goRun(t, m)
			r.lives(t)
			cancel()
			require.NoError(t, r.err(t, 0))
		})
	})
	t.Run("not critical", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			body := newDeafBody()
			start(t, m, "a", body.run, taskmanager.WithWatchdog(s), taskmanager.WithStopTimeout(s))
			r, cancel := goRun(t, m)
			time.Sleep(10 * s)
			r.lives(t)
			body.release()
			cancel()
			require.NoError(t, r.err(t, 10*s))
		})
	})
}

func TestRunOfTheDefaultManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		taskmanager.SetDefault(m)
		defer taskmanager.SetDefault(nil)
		_, err := taskmanager.StartTask("vital", failAfter(time.Second), critical, noRestart)
		require.NoError(t, err)
		began := time.Now()
		assertGivenUp(t, taskmanager.Run(t.Context()), "vital")
		took(t, time.Second, began)
	})
}

// A group is a task whose body is a nested Manager's Run: one of its tasks is critical, so all fail with it.
type group struct {
	alive, most, generations atomic.Int64
	vital                    func(generation int64) taskmanager.TaskFunc
	sibling                  taskmanager.TaskFunc
}

func (g *group) run(ctx context.Context) error {
	generation := g.generations.Add(1)
	m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)), noRestart)
	if err != nil {
		return err
	}
	counted := func(body taskmanager.TaskFunc) taskmanager.TaskFunc {
		return func(ctx context.Context) error {
			g.most.Store(max(g.most.Load(), g.alive.Add(1)))
			defer g.alive.Add(-1)
			return body(ctx)
		}
	}
	if _, err := m.StartTask("sibling", counted(g.sibling)); err != nil {
		return err
	}
	if _, err := m.StartTask("vital", counted(g.vital(generation)), critical); err != nil {
		return err
	}
	return m.Run(ctx)
}

func TestPromise1AGroupRestartsAsAWhole(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(0, 0))
		g := &group{sibling: slowToStop(2 * s), vital: func(generation int64) taskmanager.TaskFunc {
			if generation <= 3 {
				return failAfter(s)
			}
			return untilStopped
		}}
		began := time.Now()
		task := start(t, m, "group", g.run)
		time.Sleep(time.Minute)
		require.Equal(t, taskmanager.StateRunning, settled(task))
		stats := task.Stats()
		assert.EqualValues(t, 4, stats.Runs)
		assert.Equal(t, began.Add(9*s).UnixNano(), stats.RunStartedAt.UnixNano(), "three times a second to fail, and two to stop")
		assertGivenUp(t, stats.LastError, "vital")
		require.ErrorIs(t, stats.LastError, errBoom)
		require.NoError(t, task.Restart(t.Context()))
		assert.EqualValues(t, 2, g.most.Load(), "two generations at once")
		require.NoError(t, task.Stop(t.Context()))
		assert.Zero(t, g.alive.Load())
	})
}

// What is stuck in a group must not meet its own second instance: the group has failed, whatever was asked for.
func TestPromise1AGroupWithAStuckTaskIsNotRestarted(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		vital   taskmanager.TaskFunc
		restart func(m *taskmanager.Manager) []error
		fails   time.Duration
	}{
		"by its failure": {failAfter(s), nil, 6 * s},
		"by hand": {untilStopped, func(m *taskmanager.Manager) []error {
			return []error{m.RestartTask(context.Background(), "group")}
		}, 5 * s},
		"by two hands": {untilStopped, func(m *taskmanager.Manager) []error {
			first := make(chan error)
			go func() { first <- m.RestartTask(context.Background(), "group") }()
			second := m.RestartTask(context.Background(), "group")
			return []error{<-first, second}
		}, 5 * s},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithStopTimeout(10*s))
				events := m.Subscribe(t.Context())
				deaf := newDeafBody()
				g := &group{sibling: deaf.run, vital: func(int64) taskmanager.TaskFunc { return c.vital }}
				task := start(t, m, "group", g.run)
				began := time.Now()
				synctest.Wait()
				if c.restart != nil {
					for _, err := range c.restart(m) {
						asStuck(t, err, "sibling", 5*s)
					}
				}
				require.Error(t, task.Wait(t.Context()))
				took(t, c.fails, began)
				require.Equal(t, taskmanager.StateFailed, settled(task))
				asStuck(t, task.Err(), "sibling", 5*s)
				assertGivenUp(t, task.Err(), "group")
				assert.EqualValues(t, 1, task.Stats().Failures)
				time.Sleep(time.Hour)
				assert.EqualValues(t, 1, g.generations.Load())
				assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventGaveUp}, kinds(pending(events), "group"))

				// When it has ended it starts afresh, for who asks then.
				deaf.release()
				synctest.Wait()
				require.NoError(t, task.Restart(t.Context()))
				require.NoError(t, task.Err())
			})
		})
	}
}

// The same for a body that panics with such an error, and not for one that returns any other.
func TestRestartByHandOfABodyThatLeavesSomethingRunning(t *testing.T) {
	below := &taskmanager.StopTimeoutError{Task: "below", Timeout: time.Second}
	for name, c := range map[string]struct {
		end  func() error
		runs uint64
	}{
		"returned": {func() error { return below }, 1},
		"wrapped":  {func() error { return fmt.Errorf("closing: %w", errors.Join(errBoom, below)) }, 1},
		"panic":    {func() error { panic(below) }, 1},
		"other":    {func() error { return errBoom }, 2},
		"bad":      {func() error { return badError{} }, 2},
		"final":    {func() error { return backoff.Permanent(errBoom) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				task := start(t, m, "a", func(ctx context.Context) error {
					if taskRuns(ctx) > 1 {
						return untilStopped(ctx)
					}
					<-ctx.Done()
					return c.end()
				})
				synctest.Wait()
				err := task.Restart(t.Context())
				if c.runs == 1 {
					require.ErrorIs(t, err, below)
					assert.Equal(t, taskmanager.StateFailed, task.State())
				} else {
					require.NoError(t, err)
				}
				assert.Equal(t, c.runs, task.Stats().Runs)
			})
		})
	}
}

// A stop by hand has nothing to start that could meet what is left: the task has stopped, and the stop says what is left.
func TestStopByHandOfABodyThatLeavesSomethingRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			return &taskmanager.StopTimeoutError{Task: "below", Timeout: time.Second}
		}, critical)
		synctest.Wait()
		asStuck(t, task.Stop(t.Context()), "below", time.Second)
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.NoError(t, task.Err())
		assert.Zero(t, task.Stats().Failures)
	})
}

// taskRuns returns how many runs the task of that context has had.
func taskRuns(ctx context.Context) uint64 {
	task, _ := taskmanager.FromContext(ctx)
	return task.Stats().Runs
}

// A badError can't be unwrapped.
type badError struct{}

func (badError) Error() string { return "bad" }

func (badError) Unwrap() error { panic("bad") }

// Who has asked for the end of a critical task knows that it is gone, though its watchdog would have found it stuck.
func TestACriticalTaskIsStoppedBeforeItsWatchdogFindsItStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		deaf := newDeafBody()
		task := start(t, m, "vital", deaf.run, critical, taskmanager.WithWatchdog(time.Second))
		r, cancel := goRun(t, m)
		time.Sleep(1500 * time.Millisecond)
		ctx, cancelStop := context.WithTimeout(t.Context(), time.Second)
		defer cancelStop()
		asStuck(t, task.Stop(ctx), "vital", time.Second)
		time.Sleep(time.Minute)
		r.lives(t)
		deaf.release()
		require.NoError(t, task.Wait(t.Context()))
		cancel()
		require.NoError(t, <-r.result)
	})
}

func TestRunAfterAShutdownThatLeftATaskStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		start(t, m, "a", deaf.run)
		synctest.Wait()
		asStuck(t, m.Shutdown(t.Context()), "a", 5*time.Second)
		began := time.Now()
		require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
		took(t, 0, began)
		deaf.release()
	})
}

// A critical task is gone while it waits for one that was given up, whichever of its dependencies that is, and not a moment longer.
func TestACriticalTaskThatWaitsForOneThatWasGivenUp(t *testing.T) {
	ready := func(t *testing.T, m *taskmanager.Manager) { // a new task of that name, which is not ready yet
		start(t, m, "db", readyAfter(time.Hour), taskmanager.WithReadiness(2*time.Hour))
	}
	for name, test := range map[string]struct {
		dependsOn []string
		comes     func(t *testing.T, m *taskmanager.Manager)
	}{
		"its name is taken over": {[]string{"db"}, ready},
		"it is the second":       {[]string{"nobody", "db"}, ready},
		"by way of another": {[]string{"nobody", "between"}, func(t *testing.T, m *taskmanager.Manager) {
			ready(t, m)
		}},
		"the one between is stopped": {[]string{"nobody", "between"}, func(t *testing.T, m *taskmanager.Manager) {
			require.NoError(t, m.StopTask(t.Context(), "between"))
		}},
		"it is restarted": {[]string{"nobody", "db"}, func(t *testing.T, m *taskmanager.Manager) {
			require.NoError(t, m.RestartTask(t.Context(), "db"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				state := func() taskmanager.HealthState {
					synctest.Wait()
					return m.Health().State
				}
				start(t, m, "vital", untilStopped, critical, dependsOn(test.dependsOn...))
				start(t, m, "between", untilStopped, dependsOn("db"))
				assert.Equal(t, taskmanager.HealthDegraded, state(), "it waits")
				start(t, m, "db", failAt(time.Second), noRestart, taskmanager.WithReadiness(time.Hour)) // it is never ready
				time.Sleep(time.Second)
				assert.Equal(t, taskmanager.HealthFailing, state())
				test.comes(t, m)
				assert.Equal(t, taskmanager.HealthDegraded, state())
			})
		})
	}
}

// What Run has ended for stays its reason, and is no problem of a task that has stopped since.
func TestHealthOfACriticalTaskThatHasStoppedAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		task := start(t, m, "vital", deaf.run, critical, taskmanager.WithWatchdog(time.Second))
		r, cancel := goRun(t, m)
		defer cancel()
		time.Sleep(time.Minute)
		asStuck(t, r.err(t, 11*time.Second), "vital", 5*time.Second)
		assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
		deaf.release()
		require.NoError(t, task.Wait(t.Context()))
		assert.Equal(t, taskmanager.Health{}, m.Health())
	})
}

// A restart by hand of a critical task that has missed its heartbeat has its own deadline, though the watchdog's has passed: Run
// ends when the restart has failed, and not before.
func TestRunLeavesARestartOfAStuckCriticalTaskItsDeadline(t *testing.T) {
	for name, test := range map[string]struct {
		returns time.Duration // when the body of the first run does
		gone    bool
	}{
		"it succeeds":       {7 * time.Second, false},
		"it fails":          {time.Minute, true},
		"at the last of it": {8*time.Second - 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, taskmanager.WithStopTimeout(5*time.Second))
				events := m.Subscribe(t.Context())
				began := time.Now()
				task := start(t, m, "a", func(ctx context.Context) error {
					if mustTask(t, ctx).Stats().Runs > 1 {
						taskmanager.HeartbeatWithin(ctx, time.Hour)
						return untilStopped(ctx)
					}
					time.Sleep(test.returns)
					return nil
				}, taskmanager.WithWatchdog(time.Second), taskmanager.WithCritical())
				var ended time.Duration
				ran := make(chan error, 1)
				go func() {
					err := m.Run(context.Background())
					ended = time.Since(began)
					ran <- err
				}()
				time.Sleep(3 * time.Second) // canceled at 1 s, stuck at 6 s, and the restart has until 8 s
				err := task.Restart(t.Context())
				assert.Len(t, ofKind(taskmanager.EventStuck, pending(events)), 1)
				if !test.gone {
					require.NoError(t, err)
					took(t, test.returns, began)
					time.Sleep(time.Minute)
					require.Empty(t, ran, "Run has ended")
					assert.Equal(t, taskmanager.HealthOK, m.Health().State)
					require.NoError(t, m.Shutdown(t.Context()))
					require.NoError(t, <-ran)
					return
				}
				asStuck(t, err, "a", 5*time.Second)
				took(t, 8*time.Second, began)
				synctest.Wait()
				assert.False(t, m.IsRunning("other"))
				_, err = m.StartTask("other", untilStopped)
				require.ErrorIs(t, err, taskmanager.ErrManagerClosed, "Run is shutting down")
				assert.Equal(t, taskmanager.HealthFailing, m.Health().State)
				asStuck(t, <-ran, "a", 5*time.Second)
				assert.Equal(t, 13*time.Second, ended, "the shutdown gives it another stop timeout")
				<-task.Done()
			})
		})
	}
}
