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

// A verdict of the watchdog takes time, for stacks. What it is about may be over by then: nothing is disturbed.
func TestWatchdogVerdictThatIsOutdated(t *testing.T) {
	for name, verdict := range map[string]func(task *Task) overdueRun{
		"the run has ended": func(task *Task) overdueRun {
			return overdueRun{&watchedRun{run: &run{task: task}}, &OverdueError{Err: ErrWatchdog}}
		},
		"it has become ready": func(task *Task) overdueRun {
			return overdueRun{&watchedRun{run: task.run, ready: true}, &OverdueError{Err: ErrNotReady}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, task := parked(t, 0)
				s := newStopOp(m, overdueRequest, time.Second)
				s.tasks = []*Task{task}
				o := verdict(task)
				s.overdue = &o
				assert.Zero(t, s.start(time.Now()))
				<-s.done
				require.NoError(t, s.err)
				assert.Equal(t, StateRunning, task.State())
				require.NoError(t, m.StopAll(t.Context()))
			})
		})
	}
}
