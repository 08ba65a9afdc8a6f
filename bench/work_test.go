package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Each work, small, by each side that can do it, in this process.
func TestWorksYieldTheirMeasures(t *testing.T) {
	for _, w := range works(true) {
		for _, s := range sides {
			if s.can&w.needs != w.needs {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", w.name, s.name), func(t *testing.T) {
				v, err := order{Work: w.name, Side: s.name, Quick: true}.execute()
				require.NoError(t, err)
				for _, m := range w.measures {
					if (m.key == "stats" || m.key == "totals") && s.can&tells == 0 {
						continue
					}
					require.Contains(t, v, m.key)
					assert.GreaterOrEqual(t, v[m.key], 0.0, m.key)
				}
			})
		}
	}
}

func TestWorkNamesAreUnique(t *testing.T) {
	for _, quick := range []bool{true, false} {
		seen := make(map[string]bool)
		for _, w := range works(quick) {
			assert.False(t, seen[w.name], w.name)
			seen[w.name] = true
		}
	}
}

// A cheat does less than it should, in one respect.
type cheat struct {
	*floor
	loses bool // the bodies
	finds func(name string) bool
	tells int
}

func (c *cheat) start(name string, body body) error {
	if c.loses {
		body = func(context.Context) error { return nil }
	}
	return c.floor.start(name, body)
}

func (c *cheat) isRunning(name string) bool {
	if c.finds != nil {
		return c.finds(name)
	}
	return c.floor.isRunning(name)
}

func (c *cheat) stats() int   { return c.tells }
func (c *cheat) running() int { return c.tells }

func TestWorksNoticeACheat(t *testing.T) {
	const n = 10
	for name, test := range map[string]struct {
		cheat cheat
		work  work
		want  string
	}{
		"runs nothing":      {cheat{loses: true}, churn(n, 1), "0 tasks ran instead of 10"},
		"finds nobody":      {cheat{finds: func(string) bool { return false }}, asking(n, time.Millisecond), "a task is not running"},
		"finds everybody":   {cheat{finds: func(string) bool { return true }}, asking(n, time.Millisecond), "that was never started"},
		"tells of too few":  {cheat{tells: n - 1}, asking(n, time.Millisecond), "statistics of 9 tasks instead of 10"},
		"tells of too many": {cheat{tells: n + 1}, asking(n, time.Millisecond), "statistics of 11 tasks instead of 10"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &floor{tasks: make(map[string]context.CancelFunc)}
			test.cheat.floor = f
			_, err := test.work.run(func() group { return &test.cheat })
			assert.ErrorContains(t, err, test.want)
			require.NoError(t, f.stopAll())
		})
	}
}

func TestCrowdNoticesWhoIsMissing(t *testing.T) {
	c := newCrowd(2)
	require.Error(t, c.check())
	c.entered.Store(2)
	require.ErrorContains(t, c.check(), "2 of 2 bodies were entered, and 0 left")
	c.left.Store(2)
	require.NoError(t, c.check())
	c.entered.Store(3)
	require.Error(t, c.check(), "one ran twice")
}

func TestStuckIsCheckedByNameAndStack(t *testing.T) {
	stuck := func(name, stack string) error {
		return &taskmanager.StopTimeoutError{Task: name, Stack: []byte(stack)}
	}
	const here = "main.(*deaf).body"
	require.NoError(t, checkStuck(stuck("a", here), "a"))
	for name, err := range map[string]error{
		"it has stopped":           nil,
		"another error":            errCrash,
		"another name":             stuck("b", here),
		"two":                      errors.Join(stuck("a", here), stuck("b", here)),
		"no stack":                 stuck("a", ""),
		"the stacks of others too": stuck("a", here+"\nmain.(*crowd).body"),
	} {
		assert.Error(t, checkStuck(err, "a"), name)
	}
	assert.Len(t, stopTimeouts(fmt.Errorf("of two: %w", errors.Join(stuck("a", ""), errCrash, stuck("b", "")))), 2)
}

func TestSettingsNoticeWhatIsMissing(t *testing.T) {
	fail := func(m *taskmanager.Manager) {
		task, err := m.StartTask("task", func(context.Context) error { return errCrash }, taskmanager.WithRestart(taskmanager.RestartNever))
		require.NoError(t, err)
		require.Error(t, task.Wait(t.Context()))
	}
	t.Run("a log to the full", func(t *testing.T) {
		for _, handler := range []func(io.Writer) slog.Handler{newTextHandler, newJSONHandler} {
			t.Setenv("TMPDIR", t.TempDir())
			m, check, err := loggingToFile(handler)
			require.NoError(t, err)
			fail(m)
			files, err := filepath.Glob(filepath.Join(os.TempDir(), "bench-*.log"))
			require.NoError(t, err)
			require.Len(t, files, 1)
			require.Eventually(t, func() bool { // whoever waits for the task does not wait for the log
				text, readErr := os.ReadFile(files[0])
				return readErr == nil && strings.Contains(string(text), "crash")
			}, time.Minute, time.Millisecond)
			require.NoError(t, check())
			require.NoFileExists(t, files[0])
		}
	})
	t.Run("a log that swallows lines", func(t *testing.T) {
		m, check := logging(func(io.Writer) slog.Handler { return slog.DiscardHandler }, io.Discard)
		fail(m)
		require.ErrorContains(t, check(), "the log has 0 lines about 1 failures")
	})
	t.Run("a reporter that is replaced", func(t *testing.T) {
		m, check, err := reporting()
		require.NoError(t, err)
		m.SetReporter(nil)
		fail(m)
		require.ErrorContains(t, check(), "the reporter has heard of 0 failures of 1")
	})
	t.Run("a reporter that hangs and is not called", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, check, err := reportingToNobody()
			require.NoError(t, err)
			require.ErrorContains(t, check(), "0 calls of a reporter")
		})
	})
}

func TestIdleNoticesWhoIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOurs().(ours)
		c := newCrowd(1)
		require.NoError(t, c.fill(o, []string{"parked"}))
		for _, how := range []idleness{inEvery, withStatus, inBackoff} {
			require.ErrorContains(t, o.settleIdle(how, 1), "0 tasks are idle instead of 1", how)
		}
		require.NoError(t, o.stopAll())
	})
}

func TestLookNoticesAContextThatIsDone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := look(ctx, 2, 10)
	require.NoError(t, err)
	cancel()
	_, err = look(ctx, 2, 10)
	require.ErrorIs(t, err, context.Canceled)
}
