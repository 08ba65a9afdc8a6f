package taskmanager

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever restarts a task that has ended must know that this is done: the task runs, and would be restarted once more.
func TestReviveSaysWhetherItDid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, task := parked(t, 0)
		again, err := m.revive(task, nil)
		require.NoError(t, err)
		assert.False(t, again, "it has not ended")
		require.NoError(t, m.StopAll(t.Context()))
		again, err = m.revive(task, nil)
		require.NoError(t, err)
		assert.True(t, again)
		synctest.Wait()
		assert.Equal(t, StateRunning, task.State())
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// What is closed, or replaced, between the decision to revive a task and the act: nothing is started.
func TestReviveIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, former := parked(t, 0)
		require.NoError(t, m.StopAll(t.Context()))
		latter, err := m.StartTask("a", former.body)
		require.NoError(t, err)
		again, err := m.revive(former, nil)
		assert.False(t, again)
		assert.Equal(t, errNameTaken, err)

		dependent, err := m.StartTask("b", former.body, WithDependsOn("c"))
		require.NoError(t, err)
		require.NoError(t, dependent.Stop(t.Context()))
		_, err = m.StartTask("c", former.body, WithDependsOn("b"))
		require.NoError(t, err)
		again, err = m.revive(dependent, nil)
		assert.False(t, again)
		require.ErrorContains(t, err, "cycle")
		require.NoError(t, m.Shutdown(t.Context()))
		again, err = m.revive(latter, nil)
		assert.False(t, again)
		require.ErrorIs(t, err, ErrManagerClosed)
		assert.Equal(t, StateStopped, latter.State())
		assert.Equal(t, StateStopped, former.State())
	})
}
