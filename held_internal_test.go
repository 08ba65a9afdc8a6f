package taskmanager

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// A lease is the task's when its acquisition is over, without a moment between: who came then would find neither, and would not release it.
func TestLeaseIsHeldWhenItsAcquisitionIsOver(t *testing.T) {
	task := undriven(t, quiet(), waiting)
	d := &driver{task: task, id: task.driver}
	a := &acquisition{task: task, cancel: func() {}}
	task.lazyLocked().rareLocked().lease = &leaseState{acquiring: a}
	h := &heldLease{task: task}
	assert.True(t, d.leaveAcquisition(a, h, false))
	assert.Same(t, h, task.heldLocked())
	assert.Nil(t, task.leaseLocked().acquiring)
	assert.False(t, d.leaveAcquisition(a, &heldLease{task: task}, false), "it was canceled")
	assert.Same(t, h, task.heldLocked())
}
