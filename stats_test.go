package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Statistics as a browser and jq get them: one task in each of several states.
func TestStatsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t, taskmanager.WithName("bot"))
		runs := 0
		start(t, m, "runs", func(ctx context.Context) error {
			if runs++; runs == 1 {
				panic("first")
			}
			taskmanager.SetStatus(ctx, "at %d", 7)
			return untilStopped(ctx)
		})
		start(t, m, "waits", boom, taskmanager.WithBackoff(time.Minute, time.Minute))
		start(t, m, "failed", func(context.Context) error { return brokenError{} }, once())
		start(t, m, "done", func(context.Context) error { return nil })
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		got, err := json.MarshalIndent(m.Stats(), "", " ")
		require.NoError(t, err)
		//nolint:testifylint // the order of the fields and the form of numbers, too
		assert.Equal(t, `{
 "name": "bot",
 "tasks": {
  "done": {
   "name": "done",
   "state": "completed",
   "ready": false,
   "runs": 1,
   "restarts": 0,
   "failures": 0,
   "panics": 0,
   "restarts_in_window": 0,
   "started_at": "2000-01-01T00:00:00Z",
   "ended_at": "2000-01-01T00:00:00Z"
  },
  "failed": {
   "name": "failed",
   "state": "failed",
   "ready": false,
   "runs": 1,
   "restarts": 0,
   "failures": 1,
   "panics": 0,
   "restarts_in_window": 0,
   "started_at": "2000-01-01T00:00:00Z",
   "ended_at": "2000-01-01T00:00:00Z",
   "last_error": "taskmanager_test.brokenError, whose Error method panicked",
   "last_error_at": "2000-01-01T00:00:00Z"
  },
  "runs": {
   "name": "runs",
   "state": "running",
   "status": "at 7",
   "ready": true,
   "runs": 2,
   "restarts": 1,
   "failures": 1,
   "panics": 1,
   "restarts_in_window": 1,
   "started_at": "2000-01-01T00:00:00Z",
   "run_started_at": "2000-01-01T00:00:02Z",
   "uptime_seconds": 1.5,
   "last_error": "taskmanager: panic: first",
   "last_error_at": "2000-01-01T00:00:00Z"
  },
  "waits": {
   "name": "waits",
   "state": "backoff",
   "ready": false,
   "runs": 1,
   "restarts": 0,
   "failures": 1,
   "panics": 0,
   "restarts_in_window": 1,
   "started_at": "2000-01-01T00:00:00Z",
   "next_run_at": "2000-01-01T00:01:00Z",
   "last_error": "boom",
   "last_error_at": "2000-01-01T00:00:00Z"
  }
 },
 "waiting": 0,
 "running": 1,
 "backoff": 1,
 "stopping": 0,
 "stuck": 0,
 "completed": 1,
 "failed": 1,
 "stopped": 0,
 "runs": 5,
 "failures": 3,
 "panics": 1,
 "reports_delivered": 0,
 "reports_waiting": 0,
 "reports_lost": 0
}`, string(got))
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

func TestStatsOfAnEmptyManager(t *testing.T) {
	m := observed(t)
	s := m.Stats()
	assert.NotNil(t, s.Tasks, "null in JSON is no object")
	assert.Equal(t, taskmanager.ManagerStats{Tasks: map[string]taskmanager.TaskStats{}}, s)
}

// A value that was taken once doesn't change.
func TestStatsAreValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		task := start(t, m, "a", boom)
		synctest.Wait()
		s := task.Stats()
		before := s
		time.Sleep(time.Hour)
		assert.Equal(t, before, s)
		assert.NotEqual(t, before, task.Stats())
		assert.Equal(t, task.Stats(), m.Stats().Tasks["a"])
	})
}

func TestState(t *testing.T) {
	names := []string{}
	for s := taskmanager.StateWaiting; s <= taskmanager.StateStopped; s++ {
		names = append(names, s.String())
		text, err := s.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, s.String(), string(text))
		assert.Equal(t, s >= taskmanager.StateCompleted, s.Ended())
	}
	assert.Equal(t, []string{"waiting", "running", "backoff", "stopping", "stuck", "completed", "failed", "stopped"}, names)
	assert.Equal(t, "unknown", (taskmanager.StateStopped + 1).String())
}

// The last error of a task is kept when it recovers, and when it has ended.
func TestStatsKeepTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		first, second := errors.New("first"), errors.New("second")
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			switch runs++; runs {
			case 1:
				return first
			case 2:
				return second
			}
			return untilStopped(ctx)
		})
		synctest.Wait()
		assert.Equal(t, first, task.Stats().LastError)
		time.Sleep(time.Hour)
		assert.Equal(t, second, task.Stats().LastError)
		require.NoError(t, task.Stop(t.Context()))
		s := task.Stats()
		assert.Equal(t, second, s.LastError)
		assert.Equal(t, 2*time.Second, s.LastErrorAt.Sub(s.StartedAt))
	})
}
