package taskmanager

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// One task that was given up and is in no list any more is a problem still.
func TestHealthOfATaskThatIsForgotten(t *testing.T) {
	m := quiet()
	m.history.failedForgotten = 1
	assert.Equal(t, Health{State: HealthDegraded, Ready: true, Problems: []HealthProblem{{
		State: StateFailed, Reason: HealthGivenUp, Detail: "1 more tasks, which have been forgotten",
	}}}, m.Health())
}

// A critical task that is restarted while somebody asks is not both gone and running.
func TestHealthWhileACriticalTaskIsRestarted(t *testing.T) {
	m := quiet()
	task, err := m.StartTask("a", func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}, WithCritical())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return task.State() == StateRunning }, time.Minute, time.Millisecond)
	m.mu.Lock()
	m.criticalExits = map[string]criticalExit{"a": {}} // as when it had completed
	m.mu.Unlock()
	require.Equal(t, HealthFailing, m.Health().State)

	task.mu.Lock()
	health := make(chan Health)
	go func() { health <- m.Health() }()
	waitsForLock(t, ").Health(")
	m.mu.Lock()
	m.clearCriticalExitLocked(task)
	m.mu.Unlock()
	task.mu.Unlock()
	assert.Equal(t, HealthOK, (<-health).State)
	require.NoError(t, m.Shutdown(t.Context()))
}
