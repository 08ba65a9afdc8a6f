package taskmanager_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Counterexamples that the model has found, each in its shortest form.

func TestAStoppedTaskWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		task := start(t, m, "a", untilStopped, taskmanager.WithDependsOn("b"))
		synctest.Wait()
		require.Equal(t, `waiting for "b" (not started)`, task.Stats().Status)
		require.NoError(t, m.StopAll(t.Context()))
		assert.Empty(t, task.Stats().Status)
	})
}

// Its old run is over, and the new one waits.
func TestNothingExecutesInATaskThatWaitsAfterARestartByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		start(t, m, "b", untilStopped)
		task := start(t, m, "a", untilStopped, taskmanager.WithDependsOn("b"))
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "b"))
		require.NoError(t, m.RestartTask(t.Context(), "a"))
		time.Sleep(time.Second)
		require.Equal(t, taskmanager.StateWaiting, task.State())
		assert.Zero(t, task.Stats().RunStartedAt)
		assert.Zero(t, task.Stats().Uptime)
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// The step that might have taken longer has not, and the body hangs in the next one.
func TestAHeartbeatAfterALongOneCountsAsAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		began := time.Now()
		task := start(t, m, "a", func(ctx context.Context) error {
			taskmanager.HeartbeatWithin(ctx, time.Hour)
			time.Sleep(time.Minute)
			taskmanager.Heartbeat(ctx)
			<-ctx.Done()
			return nil
		}, taskmanager.WithWatchdog(9*time.Second), once())
		require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrWatchdog)
		took(t, time.Minute+9*time.Second, began)
	})
}
