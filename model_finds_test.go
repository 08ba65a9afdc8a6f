package taskmanager_test

import (
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
