package taskmanager

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// One task that was given up and is in no list any more is a problem still.
func TestHealthOfATaskThatIsForgotten(t *testing.T) {
	m := quiet()
	m.history.failedForgotten = 1
	assert.Equal(t, Health{State: HealthDegraded, Ready: true, Problems: []HealthProblem{{
		State: StateFailed, Reason: HealthGivenUp, Detail: "1 more tasks, which have been forgotten",
	}}}, m.Health())
}
