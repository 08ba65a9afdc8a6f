package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
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

// Statistics as a browser and jq get them: one task in each of several states.
func TestStatsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t, taskmanager.WithName("bot"))
		runs := 0
		start(t, m, "runs", func(ctx context.Context) error {
			if runs++; runs == 1 {
				panic("first")
			}
			taskmanager.SetStatus(ctx, "at %d", 7)
			return untilStopped(ctx)
		})
		start(t, m, "waits", boom, taskmanager.WithBackoff(time.Minute, time.Minute))
		start(t, m, "failed", func(context.Context) error { return brokenError{} }, once())
		start(t, m, "done", func(context.Context) error { return nil })
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		got, err := json.MarshalIndent(m.Stats(), "", " ")
		require.NoError(t, err)
		//nolint:testifylint // the order of the fields and the form of numbers, too
		assert.Equal(t, `{
 "name": "bot",
 "tasks": {
  "done": {
   "name": "done",
   "state": "completed",
   "ready": false,
   "runs": 1,
   "restarts": 0,
   "failures": 0,
   "panics": 0,
   "restarts_in_window": 0,
   "max_restarts": 5,
   "restart_window_seconds": 60,
   "restart_policy": "on-failure",
   "started_at": "2000-01-01T00:00:00Z",
   "ended_at": "2000-01-01T00:00:00Z"
  },
  "failed": {
   "name": "failed",
   "state": "failed",
   "ready": false,
   "runs": 1,
   "restarts": 0,
   "failures": 1,
   "panics": 0,
   "restarts_in_window": 0,
   "max_restarts": 5,
   "restart_window_seconds": 60,
   "restart_policy": "never",
   "consecutive_failures": 1,
   "failing_since": "2000-01-01T00:00:00Z",
   "started_at": "2000-01-01T00:00:00Z",
   "ended_at": "2000-01-01T00:00:00Z",
   "last_error": "taskmanager_test.brokenError, whose Error method panicked",
   "last_error_at": "2000-01-01T00:00:00Z"
  },
  "runs": {
   "name": "runs",
   "state": "running",
   "status": "at 7",
   "ready": true,
   "runs": 2,
   "restarts": 1,
   "failures": 1,
   "panics": 1,
   "restarts_in_window": 1,
   "max_restarts": 5,
   "restart_window_seconds": 60,
   "restart_policy": "on-failure",
   "consecutive_failures": 1,
   "failing_since": "2000-01-01T00:00:00Z",
   "started_at": "2000-01-01T00:00:00Z",
   "run_started_at": "2000-01-01T00:00:02Z",
   "uptime_seconds": 1.5,
   "last_error": "taskmanager: panic: first",
   "last_error_at": "2000-01-01T00:00:00Z"
  },
  "waits": {
   "name": "waits",
   "state": "backoff",
   "ready": false,
   "runs": 1,
   "restarts": 0,
   "failures": 1,
   "panics": 0,
   "restarts_in_window": 1,
   "max_restarts": 5,
   "restart_window_seconds": 60,
   "restart_policy": "on-failure",
   "consecutive_failures": 1,
   "failing_since": "2000-01-01T00:00:00Z",
   "started_at": "2000-01-01T00:00:00Z",
   "next_run_at": "2000-01-01T00:01:00Z",
   "last_error": "boom",
   "last_error_at": "2000-01-01T00:00:00Z"
  }
 },
 "waiting": 0,
 "running": 1,
 "backoff": 1,
 "stopping": 0,
 "stuck": 0,
 "paused": 0,
 "completed": 1,
 "failed": 1,
 "stopped": 0,
 "runs": 5,
 "failures": 3,
 "panics": 1,
 "reports_delivered": 0,
 "reports_waiting": 0,
 "reports_lost": 0
}`, string(got))
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

func TestStatsOfAnEmptyManager(t *testing.T) {
	m := observed(t)
	s := m.Stats()
	assert.NotNil(t, s.Tasks, "null in JSON is no object")
	assert.Equal(t, taskmanager.ManagerStats{Tasks: map[string]taskmanager.TaskStats{}}, s)
	assert.Equal(t, taskmanager.Totals{}, m.Totals())
}

// Totals that are taken while tasks are started, end, and are forgotten never go back, and count no task twice.
func TestStatsTotalsNeverDecreaseMeanwhile(t *testing.T) {
	const starters, each = 4, 500
	m := newManager(t, taskmanager.WithHistory(10))
	var starts sync.WaitGroup
	done := make(chan struct{})
	for i := range starters {
		starts.Go(func() {
			for j := range each {
				task, err := m.StartTask(fmt.Sprint(i, "-", j), boom, once())
				if !assert.NoError(t, err) {
					return
				}
				if j%2 == 0 {
					_ = task.Wait(t.Context()) // it stays, until its name is taken over
					_, _ = m.StartTask(task.Name(), func(context.Context) error { return nil })
				}
			}
		})
	}
	go func() { defer close(done); starts.Wait() }()
	var before taskmanager.Totals
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		default:
		}
		s := m.Totals()
		require.GreaterOrEqual(t, s.Runs, before.Runs)
		require.GreaterOrEqual(t, s.Failures, before.Failures)
		require.LessOrEqual(t, s.Runs, uint64(starters*(each+each/2)))
		before = s
	}
	require.NoError(t, m.Shutdown(t.Context()))
	s := m.Totals()
	assert.LessOrEqual(t, s.Runs, uint64(starters*(each+each/2)))
	assert.Equal(t, m.Stats().Totals, s)
	assert.Equal(t, s.Completed+s.Failed+s.Stopped, len(m.Stats().Tasks)) //nolint:testifylint // a map of that size is not to be printed
}

// The totals take no memory, and do not look into groups.
func TestStatsTotals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		start(t, m, "a", untilStopped)
		start(t, m, "b", boom, taskmanager.WithBackoff(time.Minute, time.Minute))
		start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("within", untilStopped)
			return err
		}))
		synctest.Wait()
		assert.Equal(t, taskmanager.Totals{Running: 2, Backoff: 1, Runs: 3, Failures: 1}, m.Totals())
		assert.Zero(t, testing.AllocsPerRun(100, func() { m.Totals() }))
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// What a task's restarts are to be compared with.
func TestStatsShowTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t, taskmanager.WithMaxRestarts(7))
		s := start(t, m, "a", untilStopped, taskmanager.WithRestartWindow(90*time.Second)).Stats()
		assert.Equal(t, "0 of 7 in 1m30s, on-failure", fmt.Sprintf("%d of %d in %v, %v", s.RestartsInWindow, s.MaxRestarts, s.RestartWindow, s.RestartPolicy))
		s = start(t, m, "b", untilStopped, taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithRestart(taskmanager.RestartAlways)).Stats()
		assert.Equal(t, taskmanager.Unlimited, s.MaxRestarts)
		assert.Equal(t, taskmanager.RestartAlways, s.RestartPolicy)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// Without its group a snapshot says the same of everything else, whatever state the group is in; and it makes none of the tasks within.
func TestStatsWithoutGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		const tasks = 1000
		ready := make(chan struct{})
		group := start(t, m, "group", taskmanager.Group(func(g *taskmanager.Manager) error {
			for i := range tasks {
				start(t, g, fmt.Sprint(i), untilStopped)
			}
			start(t, g, "slow", func(ctx context.Context) error {
				<-ready
				taskmanager.Ready(ctx)
				return untilStopped(ctx)
			}, taskmanager.WithReadiness(time.Hour))
			return nil
		}))
		single := start(t, m, "single", boom)
		compare := func(task *taskmanager.Task, tasks int, isReady bool) {
			t.Helper()
			synctest.Wait()
			want, got := task.Stats(), task.StatsWithoutGroup()
			assert.Nil(t, got.Group)
			assert.Equal(t, isReady, got.Ready)
			if tasks > 0 {
				require.NotNil(t, want.Group)
				require.Equal(t, tasks, len(want.Group.Tasks)) //nolint:testifylint // a map of that size is not to be printed
			}
			want.Group = nil
			assert.Equal(t, want, got)
		}
		compare(group, tasks+1, false)
		compare(single, 0, false)
		close(ready)
		compare(group, tasks+1, true)
		assert.LessOrEqual(t, testing.AllocsPerRun(10, func() { group.StatsWithoutGroup() }), 5.0)
		require.NoError(t, group.Stop(t.Context()))
		compare(group, 0, false)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A value that was taken once doesn't change.
func TestStatsAreValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		task := start(t, m, "a", boom)
		synctest.Wait()
		s := task.Stats()
		before := s
		time.Sleep(time.Hour)
		assert.Equal(t, before, s)
		assert.NotEqual(t, before, task.Stats())
		assert.Equal(t, task.Stats(), m.Stats().Tasks["a"])
	})
}

// The last error of a task is kept when it recovers, and when it has ended.
func TestStatsKeepTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		first, second := errors.New("first"), errors.New("second")
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			switch runs++; runs {
			case 1:
				return first
			case 2:
				return second
			}
			return untilStopped(ctx)
		})
		synctest.Wait()
		assert.Equal(t, first, task.Stats().LastError)
		time.Sleep(time.Hour)
		assert.Equal(t, second, task.Stats().LastError)
		require.NoError(t, task.Stop(t.Context()))
		s := task.Stats()
		assert.Equal(t, second, s.LastError)
		assert.Equal(t, 2*time.Second, s.LastErrorAt.Sub(s.StartedAt))
	})
}

// Seen from outside, at every moment of a task that fails all the time: what has been entered is counted before, and what is
// counted has been left, but for the run that executes. What is user code lets others run: on one core, it is then that they look.
func TestStatsRunsAreEndedPlusRunning(t *testing.T) {
	m := mustNew(t, taskmanager.WithBackoff(0, 0), taskmanager.WithMaxRestarts(taskmanager.Unlimited),
		taskmanager.WithRestartLimit(rate.Inf, 0), yieldingLog())
	const tasks, looks, most, least = 4, 5000, 5_000_000, 100
	var entered, left [tasks]atomic.Uint64
	for i := range tasks {
		start(t, m, fmt.Sprint(i), func(ctx context.Context) error {
			n := entered[i].Add(1)
			defer left[i].Add(1)
			runtime.Gosched()
			if n%3 == 0 {
				panic(errWhy)
			}
			return errWhy
		})
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			executing, between := 0, 0
			for look := 0; look < looks || look < most && min(executing, between) < least; look++ {
				i := look % tasks
				name := fmt.Sprint(i)
				enteredBefore, leftBefore := entered[i].Load(), left[i].Load()
				var runs uint64
				if look%2 == 0 {
					runs = m.Stats().Tasks[name].Runs
				} else {
					task, _ := m.Lookup(name)
					runs = task.Stats().Runs
				}
				enteredAfter, leftAfter := entered[i].Load(), left[i].Load()
				if !assert.GreaterOrEqual(t, runs, enteredBefore) || !assert.LessOrEqual(t, runs, leftAfter+1) {
					return
				}
				switch { // what it was all the while
				case enteredBefore == leftAfter+1:
					executing++
				case enteredAfter == leftBefore:
					between++
				}
				runtime.Gosched()
			}
			assert.GreaterOrEqual(t, min(executing, between), least, "looks while a body executed: %d, while none did: %d", executing, between)
		})
	}
	wg.Wait()
	require.NoError(t, m.StopAll(t.Context()))
	var runs uint64
	for i := range tasks {
		stats := m.Stats().Tasks[fmt.Sprint(i)]
		assert.Equal(t, entered[i].Load(), stats.Runs)
		assert.Equal(t, left[i].Load(), stats.Runs)
		assert.LessOrEqual(t, stats.Failures, stats.Runs)
		assert.GreaterOrEqual(t, stats.Failures, stats.Runs-1)
		runs += stats.Runs
	}
	assert.Equal(t, runs, m.Stats().Runs)
}

// Whatever a snapshot says, it says of one moment.
func TestStatsAreNeverTorn(t *testing.T) {
	t.Run("of a fast task", func(t *testing.T) {
		m := mustNew(t, taskmanager.WithMaxRestarts(3), taskmanager.WithRestartLimit(rate.Inf, 0), taskmanager.WithRestartWindow(time.Hour),
			taskmanager.WithBackoff(time.Microsecond, time.Microsecond))
		lookAtFailures(t, m, errWhy)
	})
	// On one core, this is how somebody looks while a failure is being judged.
	t.Run("while user code lets others run", func(t *testing.T) {
		m := mustNew(t, taskmanager.WithMaxRestarts(3), taskmanager.WithRestartLimit(rate.Inf, 0), taskmanager.WithRestartWindow(time.Hour),
			taskmanager.WithBackOffPolicy(func() backoff.BackOff { return yieldingPolicy{} }), yieldingLog())
		lookAtFailures(t, m, yieldingError{errWhy})
	})
}

// lookAtFailures takes snapshots of a task of m that fails with err again and again, is given up after three restarts and is revived, until
// each of its states has been seen often enough.
func lookAtFailures(t *testing.T, m *taskmanager.Manager, err error) {
	t.Helper()
	const looks, most, least = 30_000, 10_000_000, 500
	task := start(t, m, "a", func(ctx context.Context) error {
		taskmanager.SetStatus(ctx, "busy")
		runtime.Gosched()
		return err
	})
	var (
		wg   sync.WaitGroup
		stop atomic.Bool
	)
	wg.Go(func() {
		for !stop.Load() { // it is given up again and again
			<-task.Done()
			runtime.Gosched() // it may be seen so
			assert.NoError(t, task.Restart(t.Context()))
		}
		<-task.Done()
	})
	seen := make(map[taskmanager.State]int)
	seenLeast := func() int {
		return min(seen[taskmanager.StateRunning], seen[taskmanager.StateBackoff], seen[taskmanager.StateFailed])
	}
	for look := 0; look < looks || look < most && seenLeast() < least; look++ {
		s := task.Stats()
		seen[s.State]++
		executes := uint64(0)
		if s.State == taskmanager.StateRunning {
			executes = 1
		}
		ok := assert.Equal(t, s.Failures+executes, s.Runs, "%v", s.State)
		ok = assert.Equal(t, executes == 0, s.RunStartedAt.IsZero(), "%v", s.State) && ok
		judged := s.State == taskmanager.StateBackoff && s.NextRunAt.IsZero() // the policy is yet to say when, and whether at all
		ok = assert.True(t, s.State == taskmanager.StateBackoff || s.NextRunAt.IsZero(), "%v", s.State) && ok
		ok = assert.Equal(t, s.State != taskmanager.StateFailed, s.EndedAt.IsZero(), "%v", s.State) && ok
		if s.State == taskmanager.StateFailed {
			ok = assert.False(t, s.EndedAt.Before(s.LastErrorAt), "the end is that of another life") && ok
		}
		if s.State == taskmanager.StateBackoff && !judged {
			ok = assert.False(t, s.NextRunAt.Before(s.LastErrorAt), "the next run is that of another failure") && ok
		}
		ok = assert.False(t, executes == 1 && s.RunStartedAt.Before(s.LastErrorAt), "the run is an earlier one") && ok
		ok = assert.Equal(t, s.Failures == 0, s.LastError == nil, "%v", s.State) && ok
		ok = assert.Equal(t, s.Failures == 0, s.LastErrorAt.IsZero(), "%v", s.State) && ok
		switch {
		case s.State == taskmanager.StateFailed:
			ok = assert.EqualValues(t, 4, s.Failures) && assert.Equal(t, 3, s.RestartsInWindow) && ok
		case judged:
			ok = assert.EqualValues(t, s.Failures-1, s.RestartsInWindow, "this one leads to no restart yet") && ok
		default:
			ok = assert.EqualValues(t, s.Failures, s.RestartsInWindow, "%v", s.State) && ok
		}
		ok = assert.Equal(t, max(s.Runs, 1)-1, s.Restarts) && ok
		if !ok {
			break
		}
		runtime.Gosched()
	}
	stop.Store(true)
	wg.Wait()
	assert.GreaterOrEqual(t, seenLeast(), least, "%v", seen)
}

// yieldingLog makes a Manager log, and let others run in the middle of it.
func yieldingLog() taskmanager.Option {
	return taskmanager.WithLogger(slog.New(yieldingHandler{slog.DiscardHandler}))
}

type yieldingHandler struct{ slog.Handler }

func (yieldingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (yieldingHandler) Handle(context.Context, slog.Record) error {
	runtime.Gosched()
	return nil
}

// A yieldingPolicy lets others run before it says how short the delay is.
type yieldingPolicy struct{}

func (yieldingPolicy) NextBackOff() time.Duration {
	runtime.Gosched()
	return time.Microsecond
}

func (yieldingPolicy) Reset() {}

// A yieldingError lets others run while it is looked into.
type yieldingError struct{ error }

func (e yieldingError) Unwrap() error {
	runtime.Gosched()
	return e.error
}

// Whatever is forgotten, replaced or revived: the totals are those that the bodies have counted, after every step.
func TestStatsTotalsNeverDecrease(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t, taskmanager.WithHistory(2), taskmanager.WithBackoff(time.Second, time.Second),
				taskmanager.WithMaxRestarts(1))
			random := rand.New(rand.NewPCG(seed, 0))
			var runs, failures, panics uint64 // the bodies take turns: no two bodies run at a time in the bubble's steps
			var mu sync.Mutex
			body := func(ctx context.Context) error {
				mu.Lock()
				runs++
				kind := random.IntN(4)
				if kind >= 2 {
					failures++
				}
				if kind == 3 {
					panics++
				}
				mu.Unlock()
				switch kind {
				case 0:
					return untilStopped(ctx)
				case 1:
					return nil
				case 2:
					return errWhy
				default:
					panic(errWhy)
				}
			}
			for range 200 {
				mu.Lock()
				name, step := fmt.Sprint(random.IntN(5)), random.IntN(4)
				mu.Unlock()
				switch step {
				case 0:
					_, _ = m.StartTask(name, body)
				case 1:
					_ = m.StopTask(t.Context(), name)
				case 2:
					_ = m.RestartTask(t.Context(), name)
				case 3:
					time.Sleep(time.Second)
				}
				synctest.Wait()
				s := m.Stats()
				require.Equal(t, s.Totals, m.Totals())
				mu.Lock()
				require.Equal(t, runs, s.Runs)
				require.Equal(t, failures, s.Failures)
				require.Equal(t, panics, s.Panics)
				mu.Unlock()
			}
			require.NoError(t, m.StopAll(t.Context()))
		})
	}
}

// Whether somebody looks at a task while its failure is judged makes no difference to the verdict.
func TestStatsDoNotChangeAVerdict(t *testing.T) {
	for title, look := range map[string]func(m *taskmanager.Manager){
		"nobody looks": func(*taskmanager.Manager) {},
		"Stats":        func(m *taskmanager.Manager) { m.Stats() },
		"Health":       func(m *taskmanager.Manager) { m.Health() },
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
				runs := 0
				task := start(t, m, "a", func(ctx context.Context) error {
					switch runs++; runs {
					case 1:
						return errBoom
					case 2:
						return askedError{func() { time.Sleep(time.Minute) }}
					}
					return untilStopped(ctx)
				}, taskmanager.WithMaxRestarts(1), taskmanager.WithRestartWindow(time.Minute))
				time.Sleep(100 * time.Second) // the second failure was at 1 s, and the restart before it will be over the edge
				look(m)
				time.Sleep(time.Hour)
				assert.Equal(t, taskmanager.StateFailed, task.State())
				assert.EqualValues(t, 2, task.Stats().Runs)
			})
		})
	}
}

// Failures in a row are counted until the task is healthy, and it is told since when they go on. Restarts come after 1 s, and
// healthy is what has run for 10 s.
func TestStatsConsecutiveFailures(t *testing.T) {
	const s = time.Second
	type row struct {
		at       time.Duration
		failures int
		since    time.Duration // when the first was
	}
	ready := func(after time.Duration, body taskmanager.TaskFunc) taskmanager.TaskFunc {
		return func(ctx context.Context) error {
			time.Sleep(after)
			taskmanager.Ready(ctx)
			return body(ctx)
		}
	}
	pass := func(results ...error) taskmanager.TaskFunc { // nil is a success
		return func(context.Context) error {
			err := results[0]
			results = results[1:]
			return err
		}
	}
	always := taskmanager.WithRestart(taskmanager.RestartAlways)
	for name, test := range map[string]struct {
		body func() taskmanager.TaskFunc // made in the bubble
		opts []taskmanager.TaskOption
		want []row
	}{
		"a run that is healthy ends them while it lasts": {
			func() taskmanager.TaskFunc { return failAt(2*s, 4*s) }, nil,
			[]row{{2*s - 1, 0, 0}, {2 * s, 1, 2 * s}, {3 * s, 1, 2 * s}, {4 * s, 2, 2 * s}, {15*s - 1, 2, 2 * s}, {15 * s, 0, 0}},
		},
		"and when it fails": {
			func() taskmanager.TaskFunc { return failAt(2*s, 13*s, 23*s) }, nil,
			[]row{{2 * s, 1, 2 * s}, {13 * s, 1, 13 * s}, {23 * s, 2, 13 * s}},
		},
		"one that is not ready is not healthy": {
			func() taskmanager.TaskFunc { return ready(15*s, failAfter(time.Hour)) },
			[]taskmanager.TaskOption{taskmanager.WithReadiness(12 * s)},
			[]row{{12 * s, 0, 0}, {15 * s, 1, 15 * s}, {31 * s, 2, 15 * s}},
		},
		"one that is ready late is": {
			func() taskmanager.TaskFunc {
				fail := failAt(0, 0)
				return func(ctx context.Context) error { return ready(15*s, fail)(ctx) }
			},
			[]taskmanager.TaskOption{taskmanager.WithReadiness(time.Minute)},
			[]row{{15 * s, 1, 15 * s}, {31 * s, 1, 31 * s}, {47*s - 1, 1, 31 * s}, {47 * s, 0, 0}},
		},
		"a run that returns nil": {
			func() taskmanager.TaskFunc { return pass(errBoom, errBoom, nil, errBoom, errBoom, errBoom) },
			[]taskmanager.TaskOption{always},
			[]row{{0, 1, 0}, {1 * s, 2, 0}, {2 * s, 0, 0}, {3 * s, 1, 3 * s}, {4 * s, 2, 3 * s}},
		},
		"the last one that returns nil": {
			func() taskmanager.TaskFunc { return pass(errBoom, errBoom, nil) }, nil, []row{{1 * s, 2, 0}, {2 * s, 0, 0}, {time.Minute, 0, 0}},
		},
		"given up": {
			func() taskmanager.TaskFunc { return boom },
			[]taskmanager.TaskOption{taskmanager.WithMaxRestarts(2)},
			[]row{{2 * s, 3, 0}, {time.Minute, 3, 0}},
		},
		"a pass that succeeds": {
			func() taskmanager.TaskFunc {
				return taskmanager.Every(5*s, pass(errBoom, errBoom, nil, errBoom, nil, nil))
			}, nil,
			[]row{{0, 1, 0}, {1 * s, 2, 0}, {2 * s, 0, 0}, {5 * s, 1, 5 * s}, {6 * s, 0, 0}},
		},
		"a pass that fails, however long it took": {
			func() taskmanager.TaskFunc {
				return taskmanager.Every(time.Minute, func(context.Context) error { time.Sleep(20 * s); return errBoom })
			}, nil,
			[]row{{20 * s, 1, 20 * s}, {41 * s, 2, 20 * s}, {62 * s, 3, 20 * s}},
		},
		"a run without passes, after one that made some": {
			func() taskmanager.TaskFunc {
				runs := 0
				return func(ctx context.Context) error {
					if runs++; runs <= 2 {
						return taskmanager.Every(time.Hour, boom)(ctx)
					}
					return untilStopped(ctx)
				}
			}, nil,
			[]row{{1 * s, 2, 0}, {12*s - 1, 2, 0}, {12 * s, 0, 0}},
		},
		"to wait for a pass is not to be healthy": {
			func() taskmanager.TaskFunc {
				return taskmanager.OnSchedule(eachMinute{}, pass(errBoom, errBoom, nil, nil))
			}, nil,
			[]row{{60 * s, 1, 60 * s}, {61 * s, 2, 60 * s}, {62 * s, 0, 0}, {119 * s, 0, 0}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact(taskmanager.WithHealthyAfter(10*s))...)
				began := time.Now()
				task := start(t, m, "a", test.body(), test.opts...)
				var got []row
				for _, want := range test.want {
					time.Sleep(time.Until(began.Add(want.at)))
					synctest.Wait()
					stats := task.Stats()
					r := row{at: want.at, failures: stats.ConsecutiveFailures}
					if !stats.FailingSince.IsZero() {
						r.since = stats.FailingSince.Sub(began)
					}
					assert.Equal(t, r.failures == 0, stats.FailingSince.IsZero())
					got = append(got, r)
				}
				assert.Equal(t, test.want, got)
			})
		})
	}
}

// A schedule of whole minutes.
type eachMinute struct{}

func (eachMinute) Next(t time.Time) time.Time { return t.Truncate(time.Minute).Add(time.Minute) }

// A stop by hand and a restart of what has not ended leave the count as it is; a new life begins a new one.
func TestStatsConsecutiveFailuresByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		task := start(t, m, "a", failAt(0, time.Second, time.Hour))
		time.Sleep(5 * time.Second)
		require.Equal(t, 2, task.Stats().ConsecutiveFailures)
		require.NoError(t, task.Restart(t.Context()))
		assert.Equal(t, 2, task.Stats().ConsecutiveFailures, "nobody knows yet whether that has helped")
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, 2, task.Stats().ConsecutiveFailures)
		require.NoError(t, task.Restart(t.Context()))
		assert.Zero(t, task.Stats().ConsecutiveFailures)
		assert.Zero(t, task.Stats().FailingSince)
	})
}
