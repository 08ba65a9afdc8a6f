package taskmanager_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestStateText(t *testing.T) {
	for state, want := range map[taskmanager.State]struct {
		text  string
		ended bool
	}{
		taskmanager.StateWaiting:   {"waiting", false},
		taskmanager.StateRunning:   {"running", false},
		taskmanager.StateBackoff:   {"backoff", false},
		taskmanager.StateStopping:  {"stopping", false},
		taskmanager.StateStuck:     {"stuck", false},
		taskmanager.StatePaused:    {"paused", false},
		taskmanager.StateCompleted: {"completed", true},
		taskmanager.StateFailed:    {"failed", true},
		taskmanager.StateStopped:   {"stopped", true},
	} {
		assert.Equal(t, want.text, state.String())
		assert.Equal(t, want.ended, state.Ended(), want.text)
		text, err := state.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, want.text, string(text))
	}
	assert.Equal(t, "unknown", taskmanager.State(9).String())
	assert.Zero(t, taskmanager.StateWaiting)
}

// A task's states as anybody sees them, from its start to its end, with what the totals say of each.
func TestStateThroughATasksLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoffJitter(0))
		fail := make(chan error)
		task := start(t, m, "a", func(ctx context.Context) error {
			select {
			case err := <-fail:
				return err
			case <-ctx.Done():
				time.Sleep(10 * time.Second)
				return nil
			}
		})
		is := func(state taskmanager.State, running bool) {
			t.Helper()
			require.Equal(t, state, settled(task))
			assert.Equal(t, running, m.IsRunning("a"))
			s := m.Stats()
			got := map[taskmanager.State]int{
				taskmanager.StateWaiting: s.Waiting, taskmanager.StateRunning: s.Running, taskmanager.StateBackoff: s.Backoff,
				taskmanager.StateStopping: s.Stopping, taskmanager.StateStuck: s.Stuck, taskmanager.StatePaused: s.Paused,
				taskmanager.StateCompleted: s.Completed, taskmanager.StateFailed: s.Failed, taskmanager.StateStopped: s.Stopped,
			}
			for other, n := range got {
				if other == state {
					assert.Equal(t, 1, n, other)
				} else {
					assert.Zero(t, n, other)
				}
			}
			assert.Equal(t, task.Stats(), s.Tasks["a"])
		}
		is(taskmanager.StateRunning, true)
		fail <- errWhy
		is(taskmanager.StateBackoff, true)
		assert.Equal(t, time.Now().Add(2*time.Second).UnixNano(), task.Stats().NextRunAt.UnixNano())
		time.Sleep(2 * time.Second)
		is(taskmanager.StateRunning, true)
		fail <- nil
		is(taskmanager.StateCompleted, false)

		require.NoError(t, task.Restart(t.Context()))
		is(taskmanager.StateRunning, true)
		require.Error(t, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			go func() { is(taskmanager.StateStopping, true) }()
			return task.Stop(ctx)
		}())
		is(taskmanager.StateStuck, true)
		time.Sleep(9 * time.Second)
		is(taskmanager.StateStopped, false)
	})
}
