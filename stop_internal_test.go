package taskmanager

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// parked returns a Manager with one task, which runs until it is stopped, and d longer.
func parked(t *testing.T, d time.Duration) (*Manager, *Task) {
	t.Helper()
	m := quiet()
	task, err := m.StartTask("a", func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(d)
		return nil
	})
	require.NoError(t, err)
	synctest.Wait()
	return m, task
}

// What it has taken to ask others is part of the time that a task has.
func TestTheTimeoutOfAStopBeginsWithTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, task := parked(t, time.Minute)
		s := newStop(m, stopRequest, 3*time.Second)
		s.tasks = []*Task{task}
		began := time.Now()
		s.begin(began.Add(-time.Second))
		<-s.over
		assert.Equal(t, 2*time.Second, time.Since(began))
		require.Error(t, s.err)
		<-task.Done()
	})
}

// A heartbeat is overdue in a run that has ended just before it is asked to fail: the next one is not disturbed.
func TestOverdueNewsOfAnOldRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, task := parked(t, 0)
		s := newStop(m, overdueRequest, time.Second)
		s.tasks = []*Task{task}
		s.overdue = &overdueRun{&watchedRun{run: &run{task: task}}, &OverdueError{Err: ErrWatchdog}}
		assert.Zero(t, s.begin(time.Now()))
		<-s.over
		require.NoError(t, s.err)
		assert.Equal(t, StateRunning, task.State())
		require.NoError(t, m.StopAll(t.Context()))
	})
}
