package taskmanager

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Names that nobody depends on any more are not kept, and nobody has to look for dependents where there are none. A task that
// has ended depends on others for as long as it is remembered, for it may be restarted.
func TestDependenciesAreForgotten(t *testing.T) {
	m := quiet(WithHistory(2))
	body := func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}
	for range 2 {
		a, err := m.StartTask("a", body, WithDependsOn("x", "x", "y"))
		require.NoError(t, err)
		b, err := m.StartTask("b", body, WithDependsOn("y"))
		require.NoError(t, err)
		assert.EqualValues(t, 2, m.dependentCount.Load())
		require.NoError(t, a.Stop(t.Context()))
		require.NoError(t, a.Restart(t.Context()))
		require.NoError(t, a.Stop(t.Context()))
		assert.EqualValues(t, 2, m.dependentCount.Load())
		assert.Equal(t, map[string]map[*Task]struct{}{"x": {a: {}}, "y": {a: {}, b: {}}}, m.dependents)
		require.NoError(t, b.Stop(t.Context()))

		_, err = m.StartTask("a", body) // another one of that name, which depends on nobody
		require.NoError(t, err)
		assert.EqualValues(t, 1, m.dependentCount.Load())
		assert.Equal(t, map[string]map[*Task]struct{}{"y": {b: {}}}, m.dependents)

		for _, name := range []string{"c", "d"} { // b is forgotten
			_, err = m.StartTask(name, body)
			require.NoError(t, err)
			require.NoError(t, m.StopTask(t.Context(), name))
		}
		assert.Zero(t, m.dependentCount.Load())
		assert.Empty(t, m.dependents)
		require.NoError(t, m.StopAll(t.Context()))
	}
}
