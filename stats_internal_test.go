package taskmanager

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/internal/window"
)

// Outside a bubble: in there, times have no monotonic reading.
func TestStatsAfterAJumpOfTheWallClock(t *testing.T) {
	m, err := New(WithLogger(slog.New(slog.DiscardHandler)), WithBackoff(0, 0))
	require.NoError(t, err)
	runs, entered := 0, make(chan struct{})
	task, err := m.StartTask("a", func(ctx context.Context) error {
		runs++
		if runs <= 2 {
			return errors.New("not yet")
		}
		close(entered)
		<-ctx.Done()
		return nil
	})
	require.NoError(t, err)
	<-entered
	// What the task would see is handed to it, for a test can't set the clock.
	now := task.run.started.Add(5 * time.Second)
	for _, jump := range []time.Duration{-100 * 365 * 24 * time.Hour, -time.Hour, 0, time.Hour, 100 * 365 * 24 * time.Hour} {
		set := wallClockSet(now, jump)
		require.Equal(t, jump, set.Round(0).Sub(now.Round(0)), "the wall clock has jumped")
		require.Zero(t, set.Sub(now), "and no time has passed")

		var s TaskStats
		task.snapshot(&s, set)
		assert.Equal(t, 5*time.Second, s.Uptime)
		assert.Equal(t, 2, s.RestartsInWindow)
		assert.EqualValues(t, 3, s.Runs)
	}
	require.NoError(t, m.StopAll(t.Context()))

	// Within the window before a jump, within it after; and out of it not by the jump, but by time.
	var w window.Window
	w.Add(now, 5)
	w.Add(wallClockSet(now.Add(time.Minute-1), -time.Hour), 5)
	assert.Equal(t, 2, w.Count(wallClockSet(now.Add(time.Minute-1), time.Hour), time.Minute))
	assert.Equal(t, 1, w.Count(wallClockSet(now.Add(time.Minute), -time.Hour), time.Minute))
}

// What a task takes that has failed, beside its Task.
func TestStatsOfFailuresAreSmall(t *testing.T) {
	assert.LessOrEqual(t, unsafe.Sizeof(record{}), uintptr(320))
	assert.LessOrEqual(t, unsafe.Sizeof(lazyFields{}), uintptr(128))
}

// The count of failures in a row ends where an int may.
func TestStatsConsecutiveFailuresDoNotOverflow(t *testing.T) {
	task := undriven(t, quiet(), judging)
	task.record = &record{inARow: math.MaxInt32 - 1, failingSince: 1}
	for range 2 {
		task.countLocked(&decision{now: time.Now(), end: runEnd{err: errors.New("boom"), run: 1}})
		task.record.judged.run = 0
		assert.Equal(t, math.MaxInt32, task.Stats().ConsecutiveFailures)
	}
	assert.Equal(t, time.Unix(0, 1), task.Stats().FailingSince)
}
