package taskmanager

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What it has taken to ask others is part of the time that a task has.
func TestStopTimeoutBeginsWithTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, task := parked(t, time.Minute)
		s := newStopOp(m, stopRequest, 3*time.Second)
		s.tasks = []*Task{task}
		began := time.Now()
		s.start(began.Add(-time.Second))
		<-s.done
		assert.Equal(t, 2*time.Second, time.Since(began))
		require.Error(t, s.err)
		<-task.Done()
	})
}
