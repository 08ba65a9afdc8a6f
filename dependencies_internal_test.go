package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Names that nobody depends on any more are not kept, and nobody has to look for dependents where there are none. A task that
// has ended depends on others for as long as it is remembered, for it may be restarted.
func TestDependenciesAreForgotten(t *testing.T) {
	m := quiet(WithHistory(2))
	body := func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}
	known := func() (n int64, dependents map[string]map[*Task]struct{}) {
		m.mu.Lock() // a stop returns before what is beyond the limit is forgotten, with the lock held
		defer m.mu.Unlock()
		dependents = make(map[string]map[*Task]struct{})
		for name, tasks := range m.dependents {
			dependents[name] = maps.Clone(tasks)
		}
		return m.dependentCount.Load(), dependents
	}
	for range 2 {
		a, err := m.StartTask("a", body, WithDependsOn("x", "x", "y"))
		require.NoError(t, err)
		b, err := m.StartTask("b", body, WithDependsOn("y"))
		require.NoError(t, err)
		assert.EqualValues(t, 2, m.dependentCount.Load())
		require.NoError(t, a.Stop(t.Context()))
		require.NoError(t, a.Restart(t.Context()))
		require.NoError(t, a.Stop(t.Context()))
		n, dependents := known()
		assert.EqualValues(t, 2, n)
		assert.Equal(t, map[string]map[*Task]struct{}{"x": {a: {}}, "y": {a: {}, b: {}}}, dependents)
		require.NoError(t, b.Stop(t.Context()))

		_, err = m.StartTask("a", body) // another one of that name, which depends on nobody
		require.NoError(t, err)
		n, dependents = known()
		assert.EqualValues(t, 1, n)
		assert.Equal(t, map[string]map[*Task]struct{}{"y": {b: {}}}, dependents)

		for _, name := range []string{"c", "d"} { // b is forgotten
			_, err = m.StartTask(name, body)
			require.NoError(t, err)
			require.NoError(t, m.StopTask(t.Context(), name))
		}
		n, dependents = known()
		assert.Zero(t, n)
		assert.Empty(t, dependents)
		require.NoError(t, m.StopAll(t.Context()))
	}
}

// Nobody is told of a readiness for which nobody waits any more.
func TestDependencyThatNobodyWaitsForIsNotWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet()
		waits, err := m.StartTask("a", func(context.Context) error { return nil }, WithDependsOn("db"))
		require.NoError(t, err)
		synctest.Wait()
		require.Contains(t, m.changes, "db")
		require.NoError(t, waits.Stop(t.Context()))
		synctest.Wait()
		assert.Empty(t, m.changes)
	})
}

// A driver that has been replaced while it was about to wait does not.
func TestDriverThatWasReplacedDoesNotWaitForADependency(t *testing.T) {
	m := quiet()
	config := &taskConfig{manager: m, dependsOn: []string{"db"}}
	task := configured(&Task{name: "a", driver: firstDriver + 1}, config)
	d := driver{task: task, id: firstDriver}
	assert.False(t, d.awaitDependencies())
	assert.True(t, task.mu.TryLock())
	assert.Nil(t, task.lazy, "it has not said that it waits")
	assert.Empty(t, m.changes)
}

// dependOnDB makes n tasks known that depend on "db" and on another one, and wait.
func dependOnDB(m *Manager, n int) []*Task {
	config := &taskConfig{manager: m, dependsOn: []string{"another", "db"}}
	tasks := make([]*Task, n)
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range tasks {
		tasks[i] = configured(&Task{name: fmt.Sprint(i), lazy: &lazyFields{wake: make(chan struct{}, 1), parked: true}}, config)
		tasks[i].machine.phase = waiting
		tasks[i].state.Store(uint32(StateWaiting))
		m.addDependentLocked(tasks[i])
	}
	return tasks
}

func hasHappened(c *readinessChange) bool {
	select {
	case <-c.happened:
		return true
	default:
		return false
	}
}

// Who was replaced while it looked, or waits no longer, does not note for whom it would wait in vain; and who finds what it has found
// before wakes nobody.
func TestDependentThatDoesNotWaitIsNotDoomed(t *testing.T) {
	for name, test := range map[string]struct {
		phase  phase
		driver uint32
		again  bool // it has found the same before
		noted  bool
	}{
		"it waits":              {phase: waiting, driver: firstDriver, noted: true},
		"it looks again":        {phase: waiting, driver: firstDriver, again: true},
		"it was replaced":       {phase: waiting, driver: firstDriver + 1},
		"it is in backoff":      {phase: inBackoff, driver: firstDriver},
		"it has run since":      {phase: running, driver: firstDriver},
		"another one executes":  {phase: running, driver: firstDriver + 1},
		"it was stopped before": {phase: stopped, driver: firstDriver},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := quiet(WithMaxRestarts(0))
				db, err := m.StartTask("db", func(context.Context) error { return errors.New("boom") })
				require.NoError(t, err)
				<-db.Done()
				synctest.Wait() // its goroutine is done with the Manager, too
				task := undriven(t, m, test.phase)
				config := m.config.task
				config.dependsOn = []string{"db"}
				task.cfg.Store(&config)
				task.driver = test.driver
				m.dependentCount.Store(1)
				d := driver{task: task, id: firstDriver}
				if test.again {
					d.checkDoomed()
				}
				change := m.watchReadiness("a")
				d.checkDoomed()
				assert.Equal(t, test.noted, hasHappened(change))
				if test.noted || test.again {
					require.EqualError(t, task.doomedLocked(), `taskmanager: task "a" waits for task "db", which was given up: `+
						`taskmanager: gave up task "db" after 0 restarts within 1m0s: boom`)
				} else {
					require.NoError(t, task.doomedLocked())
				}
			})
		})
	}
}

// What two ways of a search lead to is looked at once: there are 2^40 ways here.
func TestDependencyThatFailedIsNotSoughtAmongManyWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet()
		const layers = 40
		body := func(context.Context) error { return nil }
		for i := range layers {
			for _, name := range []string{"a", "b"} {
				_, err := m.StartTask(fmt.Sprint(name, i), body, WithDependsOn(fmt.Sprint("a", i+1), fmt.Sprint("b", i+1)))
				require.NoError(t, err)
			}
		}
		synctest.Wait()
		top, ok := m.Lookup("a0")
		require.True(t, ok)
		m.mu.Lock()
		assert.False(t, m.waitsForFailedLocked(top, make(map[*Task]bool)))
		m.mu.Unlock()
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// What a task that waits in vain has found is the same as before if it says the same.
func TestDoomIsTheSame(t *testing.T) {
	boom := errors.New("boom")
	one := &doomError{"a", "db", true, boom}
	for name, test := range map[string]struct {
		a, b error
		same bool
	}{
		"none":              {nil, nil, true},
		"it begins":         {nil, one, false},
		"it ends":           {one, nil, false},
		"the same":          {one, &doomError{"a", "db", true, boom}, true},
		"another task":      {one, &doomError{"a", "queue", true, boom}, false},
		"it waits likewise": {one, &doomError{"a", "db", false, boom}, false},
		"another error":     {one, &doomError{"a", "db", true, errors.New("boom")}, false},
	} {
		assert.Equal(t, test.same, sameDoom(test.a, test.b), name)
	}
}

// However many depend on a task, the Manager's lock is held for a few of them at a time. They may come and go meanwhile: one
// that is there all the time is found, once.
func TestDependentsAreFoundAFewAtATime(t *testing.T) {
	const n = 50_000
	m := quiet()
	tasks := dependOnDB(m, n)
	found := make(map[*Task]int)
	gone := make(map[*Task]bool)
	for piece := range m.dependentsOf("db") {
		require.LessOrEqual(t, len(piece), dependentsAtOnce)
		require.True(t, m.mu.TryLock(), "others can have the lock")
		for _, d := range piece {
			require.False(t, gone[d], "it had gone before")
			found[d]++
		}
		if next := 100 * len(gone); next < n/2 {
			d := tasks[next]
			m.removeDependentLocked(d)
			gone[d] = true
		}
		m.mu.Unlock()
		dependOnDB(m, 10) // the map grows
	}
	for _, d := range tasks {
		if !gone[d] {
			require.Equal(t, 1, found[d])
		}
	}

	for range m.dependentsOf("db") {
		break
	}
	require.True(t, m.mu.TryLock())
	m.mu.Unlock()
	for piece := range m.dependentsOf("nobody's") {
		assert.Empty(t, piece)
	}
}

// Who waits for a task that was given up is woken, without a list of all of them.
func TestDependentsAreWokenAFewAtATime(t *testing.T) {
	m := quiet()
	tasks := dependOnDB(m, 50_000)
	db := configured(&Task{name: "db"}, &m.config.task)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m.doomChanged(db)
	runtime.ReadMemStats(&after)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(100_000), "bytes; a list has 400,000")
	for _, d := range tasks {
		require.Len(t, d.lazy.wake, 1)
	}
}

// A task that becomes ready, fails, restarts or completes does not look at those that depend on it: they look at it. There is one
// here that can't be looked at.
func TestDependentsAreNotLookedAtByAReadyTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet(WithBackoff(time.Second, time.Second))
		m.dependents = map[string]map[*Task]struct{}{"db": {nil: {}}}
		m.dependentCount.Store(1)
		runs := 0
		db, err := m.StartTask("db", func(ctx context.Context) error {
			c := m.watchReadiness("db")
			Ready(ctx)
			<-c.happened
			if runs++; runs < 3 {
				return errors.New("fails")
			}
			return nil
		}, WithReadiness(time.Minute))
		require.NoError(t, err)
		require.NoError(t, db.Wait(t.Context()))
		assert.Equal(t, 3, runs)
		assert.Equal(t, StateCompleted, db.State())
	})
}

// A critical task that looks for whom it waits while one of them has not looked yet that it waits in vain no longer: it is not gone, and Run
// goes on.
func TestDependencyThatIsRestartedJustNow(t *testing.T) {
	m := quiet()
	var fails atomic.Bool
	fails.Store(true)
	untilStopped := func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}
	root, err := m.StartTask("root", func(ctx context.Context) error {
		if fails.Load() {
			return backoff.Permanent(errors.New("boom"))
		}
		return untilStopped(ctx)
	})
	require.NoError(t, err)
	require.Error(t, root.Wait(t.Context()))
	first, err := m.StartTask("first", untilStopped, WithDependsOn("root"))
	require.NoError(t, err)
	second, err := m.StartTask("second", untilStopped, WithDependsOn("first"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		second.mu.Lock()
		defer second.mu.Unlock()
		return second.lazy != nil && second.lazy.doomed != nil && second.lazy.parked
	}, time.Minute, time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()

	fails.Store(false)
	first.mu.Lock() // it does not get to look
	require.NoError(t, m.RestartTask(t.Context(), "root"))
	critical, err := m.StartTask("critical", untilStopped, WithCritical(), WithDependsOn("second"))
	require.NoError(t, err)
	waitsForLock(t, ").waitsForFailedLocked(") // it looks at who does not
	first.mu.Unlock()
	require.Eventually(t, func() bool { return critical.State() == StateRunning }, time.Minute, time.Millisecond)
	assert.Empty(t, ended)
	cancel()
	require.NoError(t, <-ended)
}

// Of those that wait for each other the last one finds at times that the first goes on, and the one between has yet to look: it looks again
// when that has, also if that was doomed before and is again.
func TestDependencyThatFailsAgainBeforeItIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet(WithMaxRestarts(0))
		fail := make(chan struct{}, 2)
		fail <- struct{}{}
		first, err := m.StartTask("first", func(ctx context.Context) error {
			select {
			case <-fail:
				return errors.New("boom")
			case <-ctx.Done():
				return nil
			}
		}, WithReadiness(time.Hour))
		require.NoError(t, err)
		<-first.Done()

		// The goroutine of the one between is late: what it does is done here.
		c := m.config.task
		c.dependsOn = []string{"first"}
		between, err := newTask(m, "between", func(context.Context) error { return nil }, &c)
		require.NoError(t, err)
		_, err = m.register(between, false)
		require.NoError(t, err)
		d := driver{task: between, id: firstDriver}
		d.checkDoomed()
		require.Error(t, between.lazy.doomed)

		require.NoError(t, m.RestartTask(t.Context(), "first"))
		last, err := m.StartTask("last", func(context.Context) error { return nil }, WithDependsOn("between"), WithCritical())
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- m.Run(t.Context()) }()
		synctest.Wait()
		require.Equal(t, StateWaiting, last.State())
		require.NoError(t, last.doomedLocked())
		fail <- struct{}{}
		<-first.Done()
		d.checkDoomed()
		synctest.Wait()
		require.Error(t, last.doomedLocked())
		require.ErrorIs(t, <-ended, ErrTooManyRestarts)
	})
}

// Who begins though it was said to wait in vain, because it was looked at before it could say otherwise, has those look again that wait
// for it; the others do so when it is ready.
func TestDependentThatBeginsIsNotDoomed(t *testing.T) {
	for _, doomed := range []bool{true, false} {
		m := quiet()
		m.dependentCount.Store(1)
		task := undriven(t, m, waiting)
		task.cfg.Store(&taskConfig{manager: m, readiness: time.Hour})
		task.lazy = &lazyFields{}
		if doomed {
			task.lazy.doomed = errors.New("it waits in vain")
		}
		change := m.watchReadiness("a")
		d := driver{task: task, id: firstDriver}
		require.True(t, d.begin())
		assert.Equal(t, doomed, hasHappened(change))
		assert.NoError(t, task.doomedLocked())
	}
}

// A wait that has ended just as its timer fires is not warned of, and one that is warned of is so once.
func TestDependenciesWarnOfAWaitThatHasEnded(t *testing.T) {
	for p, want := range map[phase]int{waiting: 1, running: 0, stopped: 0} {
		synctest.Test(t, func(t *testing.T) {
			lines := 0
			m := quiet(WithLogger(slog.New(countingHandler{&lines})))
			task := undriven(t, m, p)
			task.cfg.Store(&taskConfig{manager: m, dependsOn: []string{"nobody"}})
			for range 2 {
				task.warnOfUnstarted()
				synctest.Wait()
			}
			assert.Equal(t, want, lines)
		})
	}
}

// A countingHandler counts the lines of a log.
type countingHandler struct{ n *int }

func (countingHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h countingHandler) Handle(context.Context, slog.Record) error {
	*h.n++
	return nil
}

func (h countingHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h countingHandler) WithGroup(string) slog.Handler { return h }
