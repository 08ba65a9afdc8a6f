package taskmanager

import (
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Names that nobody depends on any more are not kept, and nobody has to look for dependents where there are none.
func TestDependenciesAreForgotten(t *testing.T) {
	m, err := New(WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	body := func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}
	for range 2 {
		a, err := m.StartTask("a", body, WithDependsOn("x", "x", "y"))
		require.NoError(t, err)
		b, err := m.StartTask("b", body, WithDependsOn("y"))
		require.NoError(t, err)
		assert.EqualValues(t, 2, m.depended.Load())
		require.NoError(t, a.Stop(t.Context()))
		require.NoError(t, a.Restart(t.Context()))
		assert.EqualValues(t, 2, m.depended.Load())
		require.NoError(t, a.Stop(t.Context()))
		assert.EqualValues(t, 1, m.depended.Load())
		assert.Equal(t, map[string]map[*Task]struct{}{"y": {b: {}}}, m.dependents)
		require.NoError(t, b.Stop(t.Context()))
		assert.Zero(t, m.depended.Load())
		assert.Empty(t, m.dependents)
	}
}
