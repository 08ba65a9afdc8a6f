package taskmanager

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOptionsOfATaskThatMustBeReady(t *testing.T) {
	assert.False(t, (&taskConfig{}).mustBeReady())
	assert.True(t, (&taskConfig{readiness: 1}).mustBeReady(), "however short its time is")
	assert.True(t, (&taskConfig{critical: true}).mustBeReady())
}
