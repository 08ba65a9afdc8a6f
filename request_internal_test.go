package taskmanager

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Between the moment at which a task refuses a request and the one at which is looked why, others may have done anything with it. The
// error is of what it still refuses; otherwise it is asked again: a pause joins another one.
func TestRefusalIsOfThePhaseAsItIsNow(t *testing.T) {
	for p := range phases {
		for _, q := range []request{restartRequest, replaceRequest, pauseRequest} {
			m := quiet()
			task := undriven(t, m, p)
			err := task.refusal(q)
			_, do, _ := table.step(machine{phase: p}, q.asking(), q, unjudged, false)
			if do&refuse == 0 || p.state().Ended() {
				require.NoError(t, err, "%v %v", p, q)
				continue
			}
			var stuck *StopTimeoutError
			if p.state() == StateStuck {
				require.ErrorAs(t, err, &stuck, "%v %v", p, q)
				continue
			}
			require.ErrorContains(t, err, "is being", "%v %v", p, q)
		}
	}
	require.NoError(t, undriven(t, quiet(), pausing).refusal(pauseRequest))
	assert.ErrorIs(t, undriven(t, quiet(), pausing).refusal(restartRequest), ErrPaused)
}
