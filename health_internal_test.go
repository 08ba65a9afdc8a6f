package taskmanager

import (
	"context"
	"errors"
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

	// Critical ones have ended Run, be it that they have completed.
	m.history.failedForgotten, m.history.criticalForgotten, m.history.criticalFailed = 6, 5, 2
	assert.Equal(t, Health{State: HealthFailing, Problems: []HealthProblem{
		{Critical: true, State: StateFailed, Reason: HealthGivenUp, Detail: "2 more tasks, which have been forgotten"},
		{Critical: true, State: StateCompleted, Reason: HealthCompleted, Detail: "3 more tasks, which have been forgotten"},
		{State: StateFailed, Reason: HealthGivenUp, Detail: "4 more tasks, which have been forgotten"},
	}}, m.Health())
}

// A critical task that is given up, and revived, while somebody asks is never one without the other: given up, and not failing.
func TestHealthWhileACriticalTaskIsRestarted(t *testing.T) {
	m := quiet(WithRestart(RestartNever))
	task, err := m.StartTask("a", func(context.Context) error { return errors.New("boom") }, WithCritical())
	require.NoError(t, err)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = task.Restart(context.Background())
			}
		}
	}()
	for range 20_000 {
		h := m.Health()
		if gaveUp := len(h.Problems) > 0 && h.Problems[0].Reason == HealthGivenUp; gaveUp != (h.State == HealthFailing) {
			require.Fail(t, "one without the other", "%+v", h)
		}
	}
	close(stop)
	<-stopped
	require.NoError(t, m.Shutdown(t.Context()))
}

// A critical task that has been replaced since the tasks were listed is not asked: what Run goes by is of the other one.
func TestHealthOfACriticalTaskThatWasReplaced(t *testing.T) {
	m := quiet(WithRestart(RestartNever))
	old, err := m.StartTask("a", func(context.Context) error { return errors.New("boom") }, WithCritical())
	require.NoError(t, err)
	<-old.Done()
	_, err = m.StartTask("a", func(context.Context) error { return nil }, WithCritical())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return m.Health().State == HealthFailing }, time.Minute, time.Millisecond)
	assert.Equal(t, finding{ready: true}, old.examine(time.Now()))
}
