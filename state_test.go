package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
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
// counted has been left, but for the run that executes.
func TestRunsAreEndedPlusRunning(t *testing.T) {
	m := mustNew(t, taskmanager.WithBackoff(0, 0), taskmanager.WithMaxRestarts(taskmanager.Unlimited),
		taskmanager.WithRestartLimit(rate.Inf, 0))
	const tasks, looks = 4, 5000
	var entered, left [tasks]atomic.Uint64
	for i := range tasks {
		start(t, m, fmt.Sprint(i), func(ctx context.Context) error {
			entered[i].Add(1)
			defer left[i].Add(1)
			if n := entered[i].Load(); n%3 == 0 {
				panic(errWhy)
			}
			return errWhy
		})
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for look := range looks {
				i := look % tasks
				name := fmt.Sprint(i)
				enteredBefore := entered[i].Load()
				var runs uint64
				if look%2 == 0 {
					runs = m.Stats().Tasks[name].Runs
				} else {
					task, _ := m.Lookup(name)
					runs = task.Stats().Runs
				}
				leftAfter := left[i].Load()
				assert.GreaterOrEqual(t, runs, enteredBefore)
				assert.LessOrEqual(t, runs, leftAfter+1)
			}
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
	m := mustNew(t, taskmanager.WithBackoff(time.Microsecond, time.Microsecond), taskmanager.WithMaxRestarts(3),
		taskmanager.WithRestartLimit(rate.Inf, 0), taskmanager.WithRestartWindow(time.Hour))
	task := start(t, m, "a", func(ctx context.Context) error {
		taskmanager.SetStatus(ctx, "busy")
		runtime.Gosched()
		return errWhy
	})
	var (
		wg   sync.WaitGroup
		stop atomic.Bool
	)
	wg.Go(func() {
		for !stop.Load() { // it is given up again and again
			<-task.Done()
			assert.NoError(t, task.Restart(t.Context()))
		}
		<-task.Done()
	})
	seen := make(map[taskmanager.State]int)
	for range 30_000 {
		s := task.Stats()
		seen[s.State]++
		executes := uint64(0)
		if s.State == taskmanager.StateRunning {
			executes = 1
		}
		ok := assert.Equal(t, s.Failures+executes, s.Runs, "%v", s.State)
		ok = assert.Equal(t, executes == 0, s.RunStartedAt.IsZero(), "%v", s.State) && ok
		ok = assert.Equal(t, s.State != taskmanager.StateBackoff, s.NextRunAt.IsZero(), "%v", s.State) && ok
		ok = assert.Equal(t, s.State != taskmanager.StateFailed, s.EndedAt.IsZero(), "%v", s.State) && ok
		ok = assert.Equal(t, s.Failures == 0, s.LastError == nil, "%v", s.State) && ok
		ok = assert.Equal(t, s.Failures == 0, s.LastErrorAt.IsZero(), "%v", s.State) && ok
		if s.State == taskmanager.StateFailed {
			ok = assert.EqualValues(t, 4, s.Failures) && assert.Equal(t, 3, s.RestartsInWindow) && ok
		} else {
			ok = assert.EqualValues(t, s.Failures, s.RestartsInWindow, "%v", s.State) && ok
		}
		ok = assert.Equal(t, max(s.Runs, 1)-1, s.Restarts) && ok
		if !ok {
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	require.NotZero(t, seen[taskmanager.StateRunning], "%v", seen)
	require.NotZero(t, seen[taskmanager.StateBackoff], "%v", seen)
}

// A million tasks come and go: what is left of them is bounded by the history.
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
	assert.Len(t, stats.Tasks, 128)
	assert.Equal(t, 128, stats.Completed+stats.Failed+stats.Stopped)
}

// A history is what some goroutines did to one name, and what they were told.
type history []*operation

type operation struct {
	kind      string // start, stop, running
	result    error  // of start and stop
	running   bool   // what IsRunning said
	call, ret int64  // when, by a clock that all share
}

func (o *operation) String() string {
	return fmt.Sprintf("%s[%d,%d]=%v/%v", o.kind, o.call, o.ret, o.result, o.running)
}

// linearizable reports whether there is an order of the operations, in which each takes effect at one moment between its call and
// its return, that explains all results by these rules: start succeeds if and only if no task of the name is alive; stop fails if
// and only if none is; what was stopped dies at some moment after it was asked and before each stop of it returns.
func (h history) linearizable() bool {
	type world struct {
		done  uint64 // operations that have returned
		asked uint64 // stops that have taken effect, and wait for the task to die
		alive bool
		dying bool // somebody has asked it to stop
		ever  bool // there was a task
	}
	tried := make(map[world]bool)
	var explore func(w world) bool
	explore = func(w world) bool {
		if w.done == 1<<len(h)-1 {
			return true
		}
		if tried[w] {
			return false
		}
		tried[w] = true
		if w.alive && w.dying { // it dies now; who waits for that may return
			next := w
			next.alive, next.dying = false, false
			next.done |= next.asked
			next.asked = 0
			if explore(next) {
				return true
			}
		}
		earliest := int64(math.MaxInt64)
		for i, o := range h {
			if w.done&(1<<i) == 0 {
				earliest = min(earliest, o.ret)
			}
		}
		for i, o := range h {
			bit := uint64(1) << i
			if (w.done|w.asked)&bit != 0 || o.call > earliest {
				continue
			}
			next := w
			next.done |= bit
			switch {
			case o.kind == "running":
				if o.running != w.alive {
					continue
				}
			case o.kind == "start" && o.result == nil:
				if w.alive {
					continue
				}
				next.alive, next.ever = true, true
			case o.kind == "start":
				if !w.alive || !errors.Is(o.result, taskmanager.ErrTaskRunning) {
					continue
				}
			case o.result == nil: // a stop
				if !w.alive {
					continue
				}
				next.done, next.asked, next.dying = w.done, w.asked|bit, true
			case w.ever:
				if w.alive || !errors.Is(o.result, taskmanager.ErrTaskNotRunning) {
					continue
				}
			default:
				if !errors.Is(o.result, taskmanager.ErrTaskNotFound) {
					continue
				}
			}
			if explore(next) {
				return true
			}
		}
		return false
	}
	return explore(world{})
}

// The checker itself must tell good histories from bad ones.
func TestLinearizableChecker(t *testing.T) {
	for name, c := range map[string]struct {
		history history
		want    bool
	}{
		"in order": {history{
			{kind: "stop", result: taskmanager.ErrTaskNotFound, call: 1, ret: 2},
			{kind: "start", call: 3, ret: 4},
			{kind: "running", running: true, call: 5, ret: 6},
			{kind: "stop", call: 7, ret: 8},
			{kind: "running", call: 9, ret: 10},
			{kind: "stop", result: taskmanager.ErrTaskNotRunning, call: 11, ret: 12},
		}, true},
		"two starts of a live task":     {history{{kind: "start", call: 1, ret: 4}, {kind: "start", call: 2, ret: 3}}, false},
		"refused before there was any":  {history{{kind: "start", result: taskmanager.ErrTaskRunning, call: 1, ret: 2}, {kind: "start", call: 3, ret: 4}}, false},
		"alive after its stop returned": {history{{kind: "start", call: 1, ret: 2}, {kind: "stop", call: 3, ret: 4}, {kind: "running", running: true, call: 5, ret: 6}}, false},
		"two stops of one task":         {history{{kind: "start", call: 1, ret: 2}, {kind: "stop", call: 3, ret: 6}, {kind: "stop", call: 4, ret: 5}}, true},
		"one stop after the other":      {history{{kind: "start", call: 1, ret: 2}, {kind: "stop", call: 3, ret: 4}, {kind: "stop", call: 5, ret: 6}}, false},
		"gone, and then still taken": {history{
			{kind: "start", call: 1, ret: 2},
			{kind: "stop", call: 3, ret: 10},
			{kind: "running", call: 4, ret: 5},
			{kind: "start", result: taskmanager.ErrTaskRunning, call: 6, ret: 7},
		}, false},
		"forgotten although remembered": {history{
			{kind: "start", call: 1, ret: 2},
			{kind: "stop", call: 3, ret: 4},
			{kind: "stop", result: taskmanager.ErrTaskNotFound, call: 5, ret: 6},
		}, false},
	} {
		assert.Equal(t, c.want, c.history.linearizable(), name)
	}
}

func TestStartStopAndIsRunningAreLinearizable(t *testing.T) {
	const histories, goroutines, each = 400, 4, 5
	for n := range histories {
		m := mustNew(t)
		var (
			clock atomic.Int64
			wg    sync.WaitGroup
			h     = make(history, goroutines*each)
			ready = make(chan struct{})
		)
		for g := range goroutines {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(uint64(n), uint64(g)))
				<-ready
				for i := range each {
					o := &operation{kind: [...]string{"start", "stop", "running"}[random.IntN(3)]}
					h[g*each+i] = o
					o.call = clock.Add(1)
					switch o.kind {
					case "start":
						_, o.result = m.StartTask("a", func(ctx context.Context) error {
							<-ctx.Done()
							for range n % 4 {
								runtime.Gosched() // be stopping for a while
							}
							return nil
						})
					case "stop":
						o.result = m.StopTask(context.Background(), "a")
					case "running":
						o.running = m.IsRunning("a")
					}
					o.ret = clock.Add(1)
				}
			})
		}
		close(ready)
		wg.Wait()
		require.True(t, h.linearizable(), "history %d: %v", n, h)
		require.NoError(t, m.StopAll(t.Context()))
	}
}
