package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestJSON(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		for i := range 12 {
			s.start(fmt.Sprintf("%02d", i), park)
		}
		s.start("bad", func(context.Context) error { panic(errRefused) }, taskmanager.WithMaxRestarts(1), taskmanager.WithBackoff(time.Second, time.Second),
			taskmanager.WithReadiness(time.Minute)) // and it never is ready, so needs does not run
		s.start("needs", park, taskmanager.WithDependsOn("bad"))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		type task struct {
			Path    []string
			Trouble string
			Stats   struct {
				Name      string
				State     string
				LastError string `json:"last_error"`
				Failures  int
			}
		}
		list := decode[struct {
			At      time.Time
			Totals  struct{ Running, Failed int }
			Found   int
			Page    int
			Pages   int
			PerPage int `json:"per_page"`
			Tasks   []task
		}](t, s.get("tasks.json?per=10&page=1"))
		assert.True(t, time.Now().Equal(list.At))
		assert.Equal(t, []int{14, 1, 2, 10, 12, 1}, []int{list.Found, list.Page, list.Pages, list.PerPage, list.Totals.Running, list.Totals.Failed})
		require.Len(t, list.Tasks, 10)
		want := task{Path: []string{"bad"}, Trouble: "given up"}
		want.Stats.Name, want.Stats.State, want.Stats.LastError, want.Stats.Failures = "bad", "failed", "taskmanager: panic: connection refused", 2
		assert.Equal(t, want, list.Tasks[0])

		one := decode[struct {
			task
			Dependents     []string
			LastErrorStack string `json:"last_error_stack"`
			History        []struct {
				Kind, Error, Stack string
				Run                int
				DelaySeconds       float64 `json:"delay_seconds"`
			}
		}](t, s.get("task.json?task=bad"))
		assert.Equal(t, want, one.task)
		assert.Equal(t, []string{"needs"}, one.Dependents)
		assert.Contains(t, one.LastErrorStack, "TestJSON")
		require.Len(t, one.History, 3)
		assert.Equal(t, []string{"failed", "started", "gave up"}, []string{one.History[0].Kind, one.History[1].Kind, one.History[2].Kind})
		assert.InDelta(t, 1, one.History[0].DelaySeconds, 0.11)
		assert.Contains(t, one.History[2].Error, "gave up")

		graph := decode[struct {
			Tasks []struct {
				Path      []string
				State     string
				DependsOn []string `json:"depends_on"`
			}
		}](t, s.get("graph.json"))
		require.Len(t, graph.Tasks, 14)
		assert.Equal(t, []string{"bad"}, graph.Tasks[13].DependsOn)

		var empty map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(newSite(t).get("tasks.json").Body.Bytes(), &empty))
		assert.Equal(t, "[]", string(empty["tasks"]))
	})
}

func TestText(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		s.start("web", func(ctx context.Context) error {
			taskmanager.SetStatus(ctx, "serves")
			return park(ctx)
		})
		s.start("feed", fail, taskmanager.WithMaxRestarts(0))
		time.Sleep(90 * time.Second)
		synctest.Wait()
		assert.Equal(t, strings.TrimPrefix(`
TASK  STATE             RUNS  FAILURES  RESTARTS      NEXT  UPTIME  STATUS
feed  failed, given up  1     1         0 of 0 in 1m  -     -       last error 1m30s ago: connection refused
web   running           1     0         0 of 5 in 1m  -     1m30s   serves

1 to 2 of 2, 1 failed, 1 running, 2 runs, 1 failure, 0 panics
`, "\n"), s.get("tasks.txt").Body.String())
		assert.Equal(t, strings.TrimPrefix(`
feed: failed, given up

Last error                  connection refused
Ready                       no
Critical                    no
Runs                        1
Restarts                    0
Failures                    1
Panics                      0
Restarts within the window  0 of 0 in 1m
Is restarted                on-failure
Failures in a row           1
Failing since               2000-01-01 00:00:00.000 UTC, 1m30s ago
Started                     2000-01-01 00:00:00.000 UTC, 1m30s ago
Ended                       2000-01-01 00:00:00.000 UTC, 1m30s ago
Last failure                2000-01-01 00:00:00.000 UTC, 1m30s ago

History, the latest first

2000-01-01 00:00:00.000 UTC  gave up, run 1: taskmanager: gave up task "feed" after 0 restarts within 1m0s: connection refused

No run executes.
`, "\n"), s.get("task.txt?task=feed").Body.String())
		assert.Equal(t, http.StatusOK, s.get("tasks.txt?q=nothing").Code)
	})
}
