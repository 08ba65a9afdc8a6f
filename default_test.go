package taskmanager_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

func TestDefaultRun(t *testing.T) {
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

func TestDefaultManager(t *testing.T) {
	t.Cleanup(func() { taskmanager.SetDefault(nil) })
	// Made when it is first used, once.
	taskmanager.SetDefault(nil)
	var (
		wg    sync.WaitGroup
		first [8]*taskmanager.Manager
	)
	for i := range first {
		wg.Go(func() { first[i] = taskmanager.Default() })
	}
	wg.Wait()
	for _, m := range first {
		require.NotNil(t, m)
		assert.Same(t, first[0], m)
	}
	taskmanager.SetDefault(nil)
	assert.NotSame(t, first[0], taskmanager.Default())

	synctest.Test(t, func(t *testing.T) {
		former, m := mustNew(t), mustNew(t, taskmanager.WithName("the default"))
		taskmanager.SetDefault(former)
		goesOn := start(t, former, "goes on", untilStopped)
		taskmanager.SetDefault(m)
		assert.Same(t, m, taskmanager.Default())
		assert.Equal(t, taskmanager.StateRunning, settled(goesOn))

		ctx := t.Context()
		task, err := taskmanager.StartTask("a", untilStopped, taskmanager.WithStopTimeout(time.Second))
		require.NoError(t, err)
		synctest.Wait()
		assert.True(t, taskmanager.IsRunning("a"))
		assert.True(t, m.IsRunning("a"))
		found, ok := taskmanager.Lookup("a")
		assert.True(t, ok)
		assert.Same(t, task, found)
		require.NoError(t, taskmanager.RestartTask(ctx, "a"))
		assert.EqualValues(t, 2, taskmanager.Stats().Tasks["a"].Runs)
		assert.Equal(t, "the default", taskmanager.Stats().Name)
		require.NoError(t, taskmanager.StopTask(ctx, "a"))
		require.ErrorIs(t, taskmanager.StopTask(ctx, "b"), taskmanager.ErrTaskNotFound)
		assert.False(t, taskmanager.IsRunning("a"))
		require.NoError(t, taskmanager.RestartTask(ctx, "a"))
		replaced, err := taskmanager.ReplaceTask(ctx, "a", untilStopped)
		require.NoError(t, err)
		assert.Same(t, task, replaced)
		require.NoError(t, taskmanager.PauseTask(ctx, "a"))
		assert.Equal(t, taskmanager.StatePaused, task.State())
		require.NoError(t, taskmanager.ResumeTask("a"))
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		require.ErrorIs(t, taskmanager.TriggerTask("a"), taskmanager.ErrNoPasses)
		require.NoError(t, taskmanager.StopTasks(ctx, "a"))
		changed, err := taskmanager.Reconcile(ctx, "p/", versions("p/a"))
		require.NoError(t, err)
		assert.Equal(t, changes{Started: []string{"p/a"}}, changed)
		require.NoError(t, taskmanager.RestartTask(ctx, "a"))
		require.NoError(t, taskmanager.StopAll(ctx))
		assert.Equal(t, taskmanager.StateStopped, task.State())
		start(t, m, "failed", boom, once())
		synctest.Wait()
		revived, err := taskmanager.RestartFailed(ctx)
		require.NoError(t, err)
		assert.Equal(t, 1, revived)
		synctest.Wait()

		var reported atomic.Int64
		taskmanager.SetReporter(taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error {
			reported.Add(1)
			return nil
		}))
		_, err = taskmanager.StartTask("fails", func(context.Context) error { return errWhy })
		require.NoError(t, err)
		synctest.Wait()
		assert.EqualValues(t, 1, reported.Load())

		runCtx, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second/2, cancel)
		began := time.Now()
		require.NoError(t, taskmanager.Run(runCtx))
		took(t, time.Second/2, began)
		_, err = taskmanager.StartTask("late", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
		assert.Equal(t, taskmanager.StateRunning, goesOn.State())
		require.NoError(t, goesOn.Stop(ctx))
		taskmanager.SetDefault(nil)
	})
}
