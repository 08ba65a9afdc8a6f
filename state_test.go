package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

func TestStateText(t *testing.T) {
	for state, want := range map[taskmanager.State]struct {
		text  string
		ended bool
	}{
		taskmanager.StateWaiting:   {"waiting", false},
		taskmanager.StateRunning:   {"running", false},
		taskmanager.StateBackoff:   {"backoff", false},
		taskmanager.StateStopping:  {"stopping", false},
		taskmanager.StateStuck:     {"stuck", false},
		taskmanager.StateCompleted: {"completed", true},
		taskmanager.StateFailed:    {"failed", true},
		taskmanager.StateStopped:   {"stopped", true},
	} {
		assert.Equal(t, want.text, state.String())
		assert.Equal(t, want.ended, state.Ended(), want.text)
		text, err := state.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, want.text, string(text))
	}
	assert.Equal(t, "unknown", taskmanager.State(8).String())
	assert.Zero(t, taskmanager.StateWaiting)
}

// A task's states as anybody sees them, from its start to its end, with what the totals say of each.
func TestStateThroughATasksLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoffJitter(0))
		fail := make(chan error)
		task := start(t, m, "a", func(ctx context.Context) error {
			select {
			case err := <-fail:
				return err
			case <-ctx.Done():
				time.Sleep(10 * time.Second)
				return nil
			}
		})
		is := func(state taskmanager.State, running bool) {
			t.Helper()
			require.Equal(t, state, settled(task))
			assert.Equal(t, running, m.IsRunning("a"))
			s := m.Stats()
			got := map[taskmanager.State]int{
				taskmanager.StateWaiting: s.Waiting, taskmanager.StateRunning: s.Running, taskmanager.StateBackoff: s.Backoff,
				taskmanager.StateStopping: s.Stopping, taskmanager.StateStuck: s.Stuck,
				taskmanager.StateCompleted: s.Completed, taskmanager.StateFailed: s.Failed, taskmanager.StateStopped: s.Stopped,
			}
			for other, n := range got {
				if other == state {
					assert.Equal(t, 1, n, other)
				} else {
					assert.Zero(t, n, other)
				}
			}
			assert.Equal(t, task.Stats(), s.Tasks["a"])
		}
		is(taskmanager.StateRunning, true)
		fail <- errWhy
		is(taskmanager.StateBackoff, true)
		assert.Equal(t, time.Now().Add(2*time.Second).UnixNano(), task.Stats().NextRunAt.UnixNano())
		time.Sleep(2 * time.Second)
		is(taskmanager.StateRunning, true)
		fail <- nil
		is(taskmanager.StateCompleted, false)

		require.NoError(t, task.Restart(t.Context()))
		is(taskmanager.StateRunning, true)
		require.Error(t, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			go func() { is(taskmanager.StateStopping, true) }()
			return task.Stop(ctx)
		}())
		is(taskmanager.StateStuck, true)
		time.Sleep(9 * time.Second)
		is(taskmanager.StateStopped, false)
	})
}

// Seen from outside, at every moment of a task that fails all the time: what has been entered is counted before, and what is
// counted has been left, but for the run that executes. What is user code lets others run: on one core, it is then that they look.
func TestRunsAreEndedPlusRunning(t *testing.T) {
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
func TestSnapshotsAreNeverTorn(t *testing.T) {
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

// A million tasks come and go: what is left of them is bounded by the history, and of those that were given up by their names.
func TestHeapIsFlatAfterAMillionTasks(t *testing.T) {
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
