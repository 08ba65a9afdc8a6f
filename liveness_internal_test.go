package taskmanager

import (
	"context"
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

// watchedTask returns the only task of a Manager, which runs and says nothing, and the watch over its run.
func watchedTask(t *testing.T, opts ...TaskOption) (*Task, *watchedRun) {
	t.Helper()
	task, err := quiet().StartTask("a", func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}, opts...)
	require.NoError(t, err)
	synctest.Wait()
	return task, task.lazy.watched
}

// A timer that is late by more than a quarter of the watchdog's time says that the process was frozen: the body gets a further period.
// There are no late timers in a bubble, so this one is made to believe it.
func TestWatchdogWithALateTimer(t *testing.T) {
	const period = 8 * time.Second
	for name, test := range map[string]struct {
		late    time.Duration
		overdue bool
	}{
		"just in time": {period / 4, true}, "too late": {period/4 + 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				task, w := watchedTask(t, WithWatchdog(period))
				time.Sleep(time.Second)
				w.due.Store(int64(time.Second)) // at this moment
				w.expected = time.Second - test.late
				w.checkHeartbeat()
				synctest.Wait()
				assert.Equal(t, test.overdue, task.Stats().Failures > 0)
				if !test.overdue {
					time.Sleep(period - 1)
					synctest.Wait()
					assert.Zero(t, task.Stats().Failures)
					time.Sleep(time.Nanosecond)
					synctest.Wait()
					assert.Positive(t, task.Stats().Failures)
				}
				require.NoError(t, task.config().manager.Shutdown(t.Context()))
			})
		})
	}
}

// Nothing of a watch is left when the body has returned, whatever is said to it then.
func TestWatchdogAfterTheBodysReturn(t *testing.T) {
	for name, opt := range map[string]TaskOption{"ready from the beginning": WithStopTimeout(time.Minute), "not ready": WithReadiness(time.Hour)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				task, w := watchedTask(t, WithWatchdog(time.Hour), opt)
				w.stopTimers() // as when it returns
				none := func() {
					w.mu.Lock() // nobody has kept it
					defer w.mu.Unlock()
					assert.Nil(t, w.readiness)
					assert.Nil(t, w.watchdog)
				}
				none()
				Ready(w)
				HeartbeatWithin(w, time.Second)
				none()
				w.checkHeartbeat() // from a timer that was about to fire
				none()
				time.Sleep(2 * time.Hour)
				assert.Equal(t, StateRunning, task.State())
				require.NoError(t, task.config().manager.Shutdown(t.Context()))
			})
		})
	}
}

// The watchdog of a group ends when its tasks have been started: what start has said, or says still, does not bring it back.
func TestWatchdogThatWasDisarmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		task, w := watchedTask(t, WithWatchdog(time.Minute))
		w.disarm()
		HeartbeatWithin(w, time.Second)
		time.Sleep(time.Hour)
		assert.Equal(t, StateRunning, task.State())
		assert.Zero(t, task.Stats().Failures)
		require.NoError(t, task.config().manager.Shutdown(t.Context()))
	})
}

// Runs that become overdue while others are being canceled wait for whoever is at it.
func TestWatchdogCancelsTogether(t *testing.T) {
	m := quiet()
	task := configured(&Task{name: "a"}, &taskConfig{manager: m})
	over := overdueRun{&watchedRun{run: &run{task: task}}, &OverdueError{Err: ErrWatchdog}} // which has ended meanwhile
	o := &m.overdueQueue
	atWork := func(waiting int) func() bool {
		return func() bool {
			o.mu.Lock()
			defer o.mu.Unlock()
			return o.busy && len(o.waiting) == waiting
		}
	}
	task.mu.Lock() // it has to wait before it can look
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.add(over)
	}()
	require.Eventually(t, atWork(0), time.Minute, time.Millisecond)
	o.add(over)
	require.True(t, atWork(1)())
	task.mu.Unlock()
	<-done
	assert.False(t, o.busy)
	assert.Empty(t, o.waiting)
}
