package taskmanager

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// No task is stuck: no dump.
func TestDumpOfNobody(t *testing.T) {
	assert.Nil(t, (&Manager{}).stacks(nil))
}
