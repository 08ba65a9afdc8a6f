package taskmanager

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What was started with the context of a run ends before anybody can hear that the run is over.
func TestSuperviseEndsTheContextBeforeItIsDecided(t *testing.T) {
	m := quiet()
	of := make(chan context.Context, 1)
	release := make(chan struct{})
	task, err := m.StartTask("a", func(ctx context.Context) error {
		ctx.Done() // package context is to end it from now on
		of <- ctx
		<-release
		return nil
	})
	require.NoError(t, err)
	ctx := <-of
	m.mu.Lock() // which is needed to end the life of a task
	close(release)
	waitsForLock(t, ").decide(")
	assert.Equal(t, context.Canceled, ctx.Err())
	assert.Equal(t, StateRunning, task.State())
	m.mu.Unlock()
	<-task.Done()
}
