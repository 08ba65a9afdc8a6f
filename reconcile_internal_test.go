package taskmanager

import (
	"testing"

	"github.com/stretchr/testify/assert"
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
