package taskmanager

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A critical task whose body returns at the very moment that it is found to be stuck: no test can make that happen from
// outside, so what the one goroutine does after the other is done here.
func TestCriticalTaskThatIsNotStuckAnyMore(t *testing.T) {
	err := &StopTimeoutError{Task: "a"}
	newCritical := func(t *testing.T) (*Manager, *Task) {
		m := quiet(WithCritical())
		entered := make(chan struct{})
		task, err := m.StartTask("a", func(ctx context.Context) error {
			close(entered)
			<-ctx.Done()
			return nil
		})
		require.NoError(t, err)
		<-entered
		return m, task
	}
	// publishStuck is what the watchdog does when it knows where the body is.
	publishStuck := func(m *Manager, task *Task, o *occurrence) {
		s := newStopOp(m, overdueRequest, 0)
		s.overdue = &overdueRun{}
		s.publishStuck(task, o, err)
	}
	// found is what the watchdog does at the deadline.
	found := func(task *Task) *occurrence {
		o := &occurrence{kind: EventStuck}
		task.mu.Lock()
		defer task.mu.Unlock()
		task.recordLocked().stuckEvent = o
		return o
	}
	run := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
	run("it is", func(t *testing.T) {
		m, task := newCritical(t)
		publishStuck(m, task, found(task))
		assert.Equal(t, map[string]criticalExit{"a": {1, err}}, m.criticalExits)
		require.NoError(t, task.Stop(t.Context()))
		assert.Empty(t, m.criticalExits)
	})
	run("it has ended", func(t *testing.T) {
		m, task := newCritical(t)
		o := found(task)
		task.mu.Lock()
		task.unstickLocked(&decision{}) // as when its body returns
		task.mu.Unlock()
		publishStuck(m, task, o)
		assert.Empty(t, m.criticalExits)
		require.NoError(t, task.Stop(t.Context()))
	})
	run("it runs again before Run could shut down", func(t *testing.T) {
		m, task := newCritical(t)
		quit := make(chan struct{})
		m.mu.Lock()
		m.runQuit = quit // as Run does
		m.mu.Unlock()
		publishStuck(m, task, found(task))
		<-quit
		m.mu.Lock()
		m.clearCriticalExitLocked(task)
		m.mu.Unlock()
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Equal(t, map[string]criticalExit{"a": {1, err}}, m.criticalExits)
	})
}
