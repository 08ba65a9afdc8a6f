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
		again, err := m.revive(t.Context(), task)
		require.NoError(t, err)
		assert.False(t, again, "it has not ended")
		require.NoError(t, m.StopAll(t.Context()))
		again, err = m.revive(t.Context(), task)
		require.NoError(t, err)
		assert.True(t, again)
		synctest.Wait()
		assert.Equal(t, StateRunning, task.State())
		require.NoError(t, m.StopAll(t.Context()))
	})
}
