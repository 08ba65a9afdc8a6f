package taskmanager

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// wallClockSet returns the time at which the clock that t was taken from shows d more (or less), because somebody has set it: its
// monotonic reading stays. Nothing in package time can make such a Time, hence the knowledge of its fields: the wall clock's
// seconds begin at bit 30 of the first.
func wallClockSet(t time.Time, d time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall += uint64(d/time.Second) << 30 //nolint:gosec // a negative d wraps around, as it must
	return t
}

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

// undriven returns a task of m that is in that phase, and has no goroutine.
func undriven(t *testing.T, m *Manager, p phase) *Task {
	t.Helper()
	task, err := newTask(m, "a", nil, &m.config.task)
	require.NoError(t, err)
	task.driver = firstDriver
	task.firstRun.task = task
	task.machine = machine{phase: p, pending: pendingIn[p]}
	task.state.Store(uint32(p.state()))
	if p.executes() {
		task.run, task.runs = &task.firstRun, 1
	}
	m.aliveCount = 1
	return task
}

// waitsForLock returns when a goroutine waits for a lock in the function of that name, as it stands in stacks.
func waitsForLock(t *testing.T, function string) {
	t.Helper()
	require.Eventually(t, func() bool { return isWaitingForLock(function) }, time.Minute, time.Millisecond)
}

// isWaitingForLock reports whether a goroutine does now.
func isWaitingForLock(function string) bool {
	stacks := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(g, function) && strings.Contains(g, "SemacquireMutex") {
			return true
		}
	}
	return false
}

// configured returns t with that configuration.
func configured(t *Task, c *taskConfig) *Task {
	t.cfg.Store(c)
	return t
}

// StopLeaseTimer stops the timer by which the run ends whose body was given ctx when its lease does.
func StopLeaseTimer(ctx context.Context) {
	t := runOf(ctx).task
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heldLocked().timer.Stop()
}
