package taskmanager

import (
	"context"
	"errors"
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

// asked returns a task of m in that phase, and a stop that waits for it.
func asked(t *testing.T, m *Manager, p phase, q request) (*Task, *stopOp) {
	t.Helper()
	task := undriven(t, m, p)
	s := newStopOp(m, q, time.Second)
	s.tasks = []*Task{task}
	s.remaining.Store(1)
	task.waiters = &waiter{op: s}
	return task, s
}

// A dump that is begun before the deadline is about those that are waited for and execute.
func TestStopDumpsEarlyWhoIsLate(t *testing.T) {
	for p, want := range map[phase]string{restarting: "late", waiting: ""} {
		m := quiet()
		task, s := asked(t, m, p, restartRequest)
		other, _ := asked(t, m, running, restartRequest)
		other.waiters = nil
		s.tasks = append(s.tasks, other)
		got := ""
		served := &dump{done: make(chan struct{})} // is asked in place of one that looks at all goroutines
		m.dumps.next = served
		close(served.done)
		s.dumpEarly(time.Hour)
		require.True(t, s.timer.Stop(), "the deadline")
		for _, r := range served.runs {
			require.Same(t, task, r.task)
			got += "late"
		}
		assert.Equal(t, want, got)
	}
}

// A timer that fires when all have just done as asked holds nobody up.
func TestStopTimerThatIsLate(t *testing.T) {
	task, s := asked(t, quiet(), stopping, stopRequest)
	task.mu.Lock()
	task.resolveLocked(stopRequest)
	task.mu.Unlock()
	for name, fire := range map[string]func(){"dump": func() { s.dumpEarly(time.Hour) }, "deadline": s.expire} {
		fire()
		require.True(t, s.mu.TryLock(), name)
		s.mu.Unlock()
	}
	assert.Nil(t, s.timer)
	assert.NoError(t, s.err)
}

// A task that stops while the timer fires has stopped: one of the two ends the wait, and not both.
func TestStopAtItsDeadline(t *testing.T) {
	task, s := asked(t, quiet(), stopping, stopRequest)
	task.mu.Lock()
	expired := make(chan struct{})
	go func() {
		s.expire()
		close(expired)
	}()
	waitsForLock(t, ").expire(")
	task.resolveLocked(stopRequest)
	task.mu.Unlock()
	<-expired
	<-s.done
	assert.NoError(t, s.err)
}

// A task whose run is over at the deadline, and the next one about to begin, has been restarted.
func TestStopDeadlineBetweenTwoRuns(t *testing.T) {
	_, s := asked(t, quiet(), waiting, restartRequest)
	s.expire()
	assert.NoError(t, s.err)
	assert.Equal(t, restartRequest, request(s.followed.Load()))
}

// Tasks of the same timeout share a stop, and its timer. The earliest deadline comes first.
func TestStopIsSharedByThoseOfTheSameTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet()
		var tasks []*Task
		for _, seconds := range []int{3, 1, 2, 1, 3} {
			task := undriven(t, m, running)
			task.cfg.Store(&taskConfig{manager: m, stopTimeout: time.Duration(seconds) * time.Second})
			tasks = append(tasks, task)
		}
		stops, accepted, detached := m.requestAll(t.Context(), tasks, nil, stopRequest, nil, true)
		assert.Equal(t, 5, accepted)
		assert.False(t, detached)
		require.Len(t, stops, 3)
		for i, n := range []int{2, 1, 2} {
			assert.Equal(t, time.Duration(i+1)*time.Second, stops[i].timeout)
			assert.Len(t, stops[i].tasks, n)
			stops[i].timer.Stop()
		}
	})
}

// A stop of many tasks takes its time, and they go on meanwhile: each has ended when it was asked, and not when the stop began.
func TestStopTellsWhenEachTaskWasStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet()
		events := m.Subscribe(t.Context())
		task, err := m.StartTask("a", func(context.Context) error { return errors.New("boom") }, WithBackoff(time.Hour, time.Hour))
		require.NoError(t, err)
		began := time.Now()
		time.Sleep(time.Minute)
		s := newStopOp(m, stopRequest, time.Hour)
		s.tasks = []*Task{task}
		s.start(began)
		for range 2 { // started and failed
			assert.Equal(t, began, (<-events).Time)
		}
		assert.Equal(t, began.Add(time.Minute), (<-events).Time)
		assert.Equal(t, time.Minute, task.Stats().EndedAt.Sub(began))
	})
}
