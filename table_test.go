package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestStatsTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "poller", func(ctx context.Context) error {
			taskmanager.SetStatus(ctx, "at offset %d", 4711)
			return untilStopped(ctx)
		})
		time.Sleep(time.Second)
		start(t, m, "mailer", func(context.Context) error {
			return errors.New("550\nno\tsuch user\x1b[31m " + strings.Repeat("x", 200))
		}, once())
		time.Sleep(time.Second)
		start(t, m, "session", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("reader", untilStopped)
			return err
		}))
		time.Sleep(time.Second)
		start(t, m, "awkward", func(context.Context) error { return mute{} }, once())
		time.Sleep(70 * time.Second)
		synctest.Wait()
		assert.Equal(t, strings.Join([]string{
			"TASK            STATE    RUNS  FAILURES  PANICS  UPTIME  STATUS",
			"poller          running  1     0         0       1m13s   at offset 4711",
			"mailer          failed   1     1         0       -       550 no such user [31m " + strings.Repeat("x", 98) + "…",
			"session         running  1     0         0       1m11s   ",
			"session/reader  running  1     0         0       1m11s   ",
			"awkward         failed   1     1         0       -       taskmanager_test.mute, whose Error method panicked",
			"4 tasks: 2 running, 2 failed; runs: 4, failures: 2",
		}, "\n"), m.Stats().String())
		text, err := json.Marshal(m.Stats())
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(string(text), `{"tasks":{`), "JSON is as ever")
	})
}

// Of very many tasks the table shows the first, and counts the others.
func TestStatsTableIsBounded(t *testing.T) {
	s := taskmanager.ManagerStats{Tasks: map[string]taskmanager.TaskStats{}, FailedForgotten: 7}
	assert.Equal(t, "TASK  STATE  RUNS  FAILURES  PANICS  UPTIME  STATUS\n7 tasks: 7 failed; runs: 0, failures: 0", fmt.Sprint(s))
	for i := range 1200 {
		s.Tasks[strconv.Itoa(i)] = taskmanager.TaskStats{Name: strconv.Itoa(i)}
	}
	lines := strings.Split(fmt.Sprint(s), "\n")
	assert.Len(t, lines, 1+1000+1+1)
	assert.Equal(t, "and 200 more", lines[1001])
	assert.Equal(t, "1 task; runs: 0, failures: 0", lastLine(taskmanager.ManagerStats{Tasks: map[string]taskmanager.TaskStats{"a": {}}}))
}

func lastLine(s taskmanager.ManagerStats) string {
	lines := strings.Split(s.String(), "\n")
	return lines[len(lines)-1]
}

func ExampleManagerStats_String() {
	m, _ := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
	task, _ := m.StartTask("import", func(context.Context) error { return backoff.Permanent(errors.New("no such file")) })
	_ = task.Wait(context.Background())

	fmt.Println(m.Stats())
	// Output:
	// TASK    STATE   RUNS  FAILURES  PANICS  UPTIME  STATUS
	// import  failed  1     1         0       -       no such file
	// 1 task: 1 failed; runs: 1, failures: 1
}
