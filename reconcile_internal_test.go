package taskmanager

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A task keeps its version, but for one that is being stopped or replaced; or has been stopped since it was looked for.
func TestReconcileHasVersionInEachPhase(t *testing.T) {
	leaves := map[phase]bool{stopping: true, stopped: true, replacing: true, replacingStuck: true}
	for p := range phases {
		task := undriven(t, quiet(), p)
		assert.Equal(t, !leaves[p], task.hasVersion(""), p.String())
		assert.False(t, task.hasVersion("other"), p.String())
	}
}

// Between the look at a task that was given up and the end of it, it may have been revived, or another one may have got its name.
func TestReconcileForgetsNothingElse(t *testing.T) {
	m := quiet()
	old, err := m.StartTask("a", func(context.Context) error { return context.Canceled }, WithRestart(RestartNever))
	require.NoError(t, err)
	<-old.Done()
	task, err := m.StartTask("a", func(ctx context.Context) error { <-ctx.Done(); return nil })
	require.NoError(t, err)
	require.Equal(t, StateFailed, old.State())
	require.ErrorIs(t, old.Forget(), ErrTaskNotFound)
	require.ErrorIs(t, task.Forget(), ErrTaskRunning)
	found, _ := m.Lookup("a")
	assert.Same(t, task, found)
	require.NoError(t, m.Shutdown(t.Context()))
}
