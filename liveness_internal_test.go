package taskmanager

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
