package taskmanager

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A critical task whose body returns at the very moment that it is found to be stuck: no test can make that happen from
// outside, so what the one goroutine does after the other is done here.
func TestLateNewsOfAStuckCriticalTask(t *testing.T) {
	stuck := &StopTimeoutError{Task: "a"}
	newCritical := func() (*Manager, *Task) {
		m := quiet(WithCritical())
		task, err := m.StartTask("a", func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		})
		require.NoError(t, err)
		return m, task
	}
	t.Run("it has ended", func(t *testing.T) {
		m, task := newCritical()
		require.NoError(t, task.Stop(t.Context()))
		m.lostToWatchdog(task, stuck)
		assert.Empty(t, m.lost)
	})
	t.Run("it runs again before Run could shut down", func(t *testing.T) {
		m, task := newCritical()
		over := make(chan struct{})
		m.mu.Lock()
		m.over = over // as Run does
		m.mu.Unlock()
		m.lostToWatchdog(task, stuck)
		<-over
		m.mu.Lock()
		m.foundLocked(task)
		m.mu.Unlock()
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Equal(t, []lostTask{{"a", stuck}}, m.lost)
	})
}
