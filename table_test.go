package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// What somebody sees who prints the statistics of a service in trouble.
func TestTable(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithName("billing"), taskmanager.WithBackoffJitter(0), taskmanager.WithStopTimeout(s),
			taskmanager.WithReporter(newInbox(nil)))
		start(t, m, "worker", func(ctx context.Context) error {
			taskmanager.SetStatus(ctx, "at offset %d", 4711)
			return untilStopped(ctx)
		})
		start(t, m, "recovered", failAt(s))
		start(t, m, "again", func(ctx context.Context) error {
			taskmanager.SetStatus(ctx, "connecting")
			select {
			case <-time.After(40 * s):
				return errBoom
			case <-ctx.Done():
				return nil
			}
		})
		start(t, m, "late", readyAfter(time.Hour), taskmanager.WithReadiness(2*time.Hour))
		start(t, m, "given up", func(ctx context.Context) error {
			taskmanager.SetStatus(ctx, "connecting")
			return errors.New("dial tcp 10.0.0.7:5672:\n\tconnection refused")
		}, once())
		start(t, m, "panics", func(context.Context) error { panic("oops") }, taskmanager.WithBackoff(time.Hour, time.Hour))
		start(t, m, "migrate", completesAfter(0))
		start(t, m, "consumer", untilStopped, dependsOn("late"))
		release := make(chan struct{})
		start(t, m, "stuck", ignoring(release))
		start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			start(t, g, "feed", untilStopped)
			start(t, g, "broken", boom, once())
			return nil
		}, silently()))
		start(t, m, "old", untilStopped)
		synctest.Wait()
		require.Error(t, m.StopTask(t.Context(), "stuck"))
		require.NoError(t, m.StopTask(t.Context(), "old"))
		time.Sleep(90*s + 123456*time.Microsecond)
		want := strings.Join([]string{
			"TASK       STATE      RUNS  FAILURES  PANICS  UPTIME  STATUS",
			"g/broken   failed     1     1         0       -       boom",
			"given up   failed     1     1         0       -       dial tcp 10.0.0.7:5672: connection refused; connecting",
			"stuck      stuck      1     0         0       1m31s",
			"panics     backoff    1     1         1       -       taskmanager: panic: oops",
			`consumer   waiting    0     0         0       -       waiting for "late" (not ready)`,
			"again      running    3     2         0       6.12s   2 failures in a row: boom; connecting",
			"late       running    1     0         0       1m31s   not ready",
			"g          running    1     0         0       1m31s",
			"g/feed     running    1     0         0       1m31s",
			"recovered  running    2     1         0       1m28s   last error: boom",
			"worker     running    1     0         0       1m31s   at offset 4711",
			"migrate    completed  1     0         0       -",
			"old        stopped    1     0         0       -",
			"billing: 11 tasks (1 failed, 1 stuck, 1 backoff, 1 waiting, 5 running, 1 completed, 1 stopped), 13 runs, 5 failures, 1 panic; " +
				"reports: 8 delivered, 0 waiting, 0 lost",
		}, "\n")
		stats := m.Stats()
		assert.Equal(t, want, stats.String())
		assert.Equal(t, want, fmt.Sprint(stats))
		assert.Equal(t, want, fmt.Sprintf("%v", &stats))

		text, err := json.Marshal(stats)
		require.NoError(t, err)
		assert.Contains(t, string(text), `"tasks":{`, "as before")
		var line strings.Builder
		slog.New(slog.NewJSONHandler(&line, nil)).Info("stats", "stats", stats)
		assert.Contains(t, line.String(), `"tasks":{`, "likewise")
		close(release)
		synctest.Wait()
	})
}

func TestTableWithoutTasks(t *testing.T) {
	assert.Equal(t, "0 tasks, 0 runs, 0 failures, 0 panics", taskmanager.ManagerStats{}.String())
	assert.Equal(t, "0 tasks, 7 runs, 7 failures, 0 panics", taskmanager.ManagerStats{Totals: taskmanager.Totals{Runs: 7, Failures: 7}}.String())
	assert.Equal(t, "0 tasks, 2 more failed and forgotten, 1 run, 1 failure, 1 panic",
		taskmanager.ManagerStats{Totals: taskmanager.Totals{FailedForgotten: 2, Runs: 1, Failures: 1, Panics: 1}}.String())
}

// ofStatus returns the line of a task with that status.
func ofStatus(s taskmanager.TaskStats) string {
	table := taskmanager.ManagerStats{Tasks: map[string]taskmanager.TaskStats{"a": s}}.String()
	line := strings.Split(table, "\n")[1]
	return strings.TrimSpace(strings.TrimPrefix(line, "a     completed  0     0         0       -"))
}

// Whatever a body says of itself is one line, of a length that fits; and so is what its error says, if it says anything.
func TestTableIsOfLines(t *testing.T) {
	const zeros = "00000000000000000000000000000000000000000000000000" // 50 runes
	for title, test := range map[string]struct{ text, want string }{
		"line breaks":      {"a\nb\r\n\tc\u2028d\x00e\x1b[31mf", "a b c d e [31mf"},
		"bidi, zero width": {"a\u202eb\u200bc", "a b c"},
		"other scripts":    {"é 世界 🚀", "é 世界 🚀"},
		"no text":          {"a\xff\xfeb", "a\ufffd\ufffdb"},
		"100 runes":        {zeros + zeros, zeros + zeros},
		"101 runes":        {"a" + zeros + zeros, "a" + zeros[:48] + "…" + zeros},
		"the end is kept":  {strings.Repeat("é", 1000) + zeros, strings.Repeat("é", 49) + "…" + zeros},
		"ten million":      {strings.Repeat("a", 10_000_000) + zeros, strings.Repeat("a", 49) + "…" + zeros},
		"blanks":           {" \n ", ""},
	} {
		t.Run(title, func(t *testing.T) {
			assert.Equal(t, test.want, ofStatus(taskmanager.TaskStats{State: taskmanager.StateCompleted, Status: test.text}))
		})
	}
	assert.Equal(t, "last error: taskmanager_test.brokenError, whose Error method panicked",
		ofStatus(taskmanager.TaskStats{State: taskmanager.StateCompleted, LastError: brokenError{}}))
	assert.Contains(t, ofStatus(taskmanager.TaskStats{State: taskmanager.StateBackoff, LastError: brokenError{}}),
		"-       taskmanager_test.brokenError, whose Error method panicked")
}

// A long name makes its own line longer, and no other.
func TestTableWithALongName(t *testing.T) {
	long := strings.Repeat("long", 20)
	table := taskmanager.ManagerStats{Tasks: map[string]taskmanager.TaskStats{
		"a": {State: taskmanager.StateStopped}, long: {State: taskmanager.StateStopped},
	}}.String()
	assert.Equal(t, []string{
		"TASK" + strings.Repeat(" ", 38) + "STATE    RUNS  FAILURES  PANICS  UPTIME  STATUS",
		"a" + strings.Repeat(" ", 41) + "stopped  0     0         0       -",
		long + "  stopped  0     0         0       -",
	}, strings.Split(table, "\n")[:3])
}

// Uptimes are as precise as people want them.
func TestTableRoundsUptimes(t *testing.T) {
	for uptime, want := range map[time.Duration]string{
		0: "0s", 1234567 * time.Nanosecond: "1.23ms", 1234567 * time.Microsecond: "1.23s", 59949 * time.Millisecond: "59.9s",
		3*time.Hour + 1234*time.Millisecond: "3h0m1s",
	} {
		table := taskmanager.ManagerStats{Tasks: map[string]taskmanager.TaskStats{
			"a": {State: taskmanager.StateRunning, Ready: true, Uptime: uptime, RunStartedAt: time.Now()},
		}}.String()
		fields := strings.Fields(strings.Split(table, "\n")[1])
		assert.Equal(t, want, fields[5])
	}
}

// A table has an end, and what does badly is in it; the errors of the others are not asked.
func TestTableHasAnEnd(t *testing.T) {
	asked := 0
	tasks := map[string]taskmanager.TaskStats{"zzz": {State: taskmanager.StateFailed, LastError: countedError{&asked}}}
	for i := range 5000 {
		tasks[fmt.Sprintf("%04d", i)] = taskmanager.TaskStats{State: taskmanager.StateRunning, Ready: true, LastError: countedError{&asked}}
	}
	lines := strings.Split(taskmanager.ManagerStats{Tasks: tasks}.String(), "\n")
	require.Len(t, lines, 1003)
	assert.Regexp(t, "^zzz +failed ", lines[1])
	assert.Regexp(t, "^0000 +running ", lines[2])
	assert.Regexp(t, "^0998 +running ", lines[1000])
	assert.Equal(t, "and 4001 more", lines[1001])
	assert.Equal(t, "5001 tasks, 0 runs, 0 failures, 0 panics", lines[1002])
	assert.Equal(t, 1000, asked)
}

// A countedError counts how often it is asked for its text.
type countedError struct{ asked *int }

func (e countedError) Error() string {
	*e.asked++
	return "counted"
}
