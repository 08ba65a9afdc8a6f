package taskmanager_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// There is a default Manager at every moment, also while SetDefault takes it away.
func TestDefaultIsNeverNil(t *testing.T) {
	defer taskmanager.SetDefault(nil)
	var (
		setters, users sync.WaitGroup
		over           atomic.Bool
		nils           atomic.Int64
		m              = mustNew(t)
	)
	for range 4 {
		setters.Go(func() {
			for range 2_000_000 {
				taskmanager.SetDefault(m)
				taskmanager.SetDefault(nil)
			}
		})
		users.Go(func() {
			for !over.Load() {
				if taskmanager.Default() == nil {
					nils.Add(1)
				}
			}
		})
	}
	setters.Wait()
	over.Store(true)
	users.Wait()
	assert.Zero(t, nils.Load(), "Default has returned nil")
}

// A task that has ended can be revived in another bubble than that of its former life: it keeps nothing of that.
func TestTaskIsRevivedInAnotherBubble(t *testing.T) {
	m := mustNew(t, taskmanager.WithBackoff(0, 0))
	var task *taskmanager.Task
	for i := range 3 {
		synctest.Test(t, func(t *testing.T) {
			if task == nil {
				task = start(t, m, "a", failAfter(0), taskmanager.WithMaxRestarts(2))
			} else {
				require.NoError(t, task.Restart(t.Context()))
			}
			require.Error(t, task.Wait(t.Context()))
			<-task.Done()
			require.EqualValues(t, 3*(i+1), m.Stats().Runs)
			require.NoError(t, m.StopAll(t.Context()))
		})
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
		assert.Equal(t, `"a"`, lines[0]["dependents"])
	})
}
