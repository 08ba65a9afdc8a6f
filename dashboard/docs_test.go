package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

const docsPage = "../docs/dashboard.md"

// The fields that the page documents are those that are answered: for tasks with all that there can be, none is missing and none is
// undocumented.
func TestDocsNameTheFields(t *testing.T) {
	documented := documentedFields(t)
	inBubble(t, func(t *testing.T) {
		s := newBusySite(t)
		// All that is answered somewhere, by the page of the documentation.
		answered := make(map[string]map[string]bool)
		take := func(heading string, w *httptest.ResponseRecorder) {
			var v any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v), "%s", w.Body)
			if answered[heading] == nil {
				answered[heading] = make(map[string]bool)
			}
			addFields(answered[heading], "", v)
		}
		take("tasks.json", s.get("tasks.json"))
		for task := range s.manager.Tasks() {
			take("task.json", s.get("task.json?stack=1&"+taskQuery(task.Path())))
		}
		take("graph.json", s.get("graph.json"))
		take("act.json", s.do(postOf("act.json", actOn(ActionPause, "workers", "eu-1"))))
		take("Errors", s.get("task.json?task=nobody"))
		take("Errors", s.do(postOf("act.json", nil)))

		expand := func(heading string, parts map[string]string) map[string]bool {
			all := make(map[string]bool)
			for field := range documented[heading] {
				all[field] = true
				if part, ok := parts[field]; ok {
					for inner := range documented[part] {
						all[field+"."+inner] = true
					}
				}
			}
			return all
		}
		// It takes 10,001 tasks that were given up for the field of those that are forgotten: of that, see below.
		want := expand("tasks.json", map[string]string{"totals": "Totals", "tasks[]": "A task"})
		delete(want, "totals.failed_forgotten")
		assert.Equal(t, want, answered["tasks.json"])
		want = expand("task.json", map[string]string{"group": "Totals"})
		for field := range documented["A task"] {
			want[field] = true
		}
		delete(want, "group.failed_forgotten")
		assert.Equal(t, want, answered["task.json"])
		for _, heading := range []string{"graph.json", "act.json", "Errors"} {
			assert.Equal(t, documented[heading], answered[heading], heading)
		}
		take("Totals", jsonOf(t, taskmanager.Totals{FailedForgotten: 1}))
		assert.Equal(t, documented["Totals"], answered["Totals"])
	})
}

// jsonOf returns v as it would be answered.
func jsonOf(t *testing.T, v any) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	require.NoError(t, json.NewEncoder(w).Encode(v))
	return w
}

// documentedFields returns the fields in the tables below each heading, by the heading.
func documentedFields(t *testing.T) map[string]map[string]bool {
	t.Helper()
	text, err := os.ReadFile(docsPage)
	require.NoError(t, err)
	code, heading := regexp.MustCompile("`([^`]+)`"), ""
	fields := make(map[string]map[string]bool)
	for line := range strings.Lines(string(text)) {
		if title, ok := strings.CutPrefix(line, "### "); ok {
			heading = strings.Trim(strings.TrimSpace(title), "`")
			fields[heading] = make(map[string]bool)
		} else if strings.HasPrefix(line, "#") {
			heading = ""
		}
		if heading == "" || !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, m := range code.FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
			fields[heading][m[1]] = true
		}
	}
	return fields
}

// addFields adds the fields of a value of JSON, as in "tasks[].path".
func addFields(fields map[string]bool, prefix string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if prefix != "" {
			fields[strings.TrimSuffix(prefix, ".")] = true
		}
		for name, inner := range v {
			addFields(fields, prefix+name+".", inner)
		}
	case []any:
		name := strings.TrimSuffix(prefix, ".") + "[]"
		fields[name] = true
		for _, inner := range v {
			if _, ok := inner.(map[string]any); ok {
				addFields(fields, name+".", inner)
			}
		}
	default:
		fields[strings.TrimSuffix(prefix, ".")] = true
	}
}

// What the page shows of curl is what is answered.
func TestDocsShowTheText(t *testing.T) {
	text, err := os.ReadFile(docsPage)
	require.NoError(t, err)
	inBubble(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, time.November, 27, 8, 39, 0, 0, time.UTC)))
		s := newBusySite(t)
		for mark, address := range map[string]string{"tasks.txt": "tasks.txt", "task.txt": "task.txt?task=orders&stack=0"} {
			_, shown, ok := strings.Cut(string(text), "<!-- "+mark+" -->\n```\n")
			require.True(t, ok, mark)
			shown, _, _ = strings.Cut(shown, "```")
			assert.Equal(t, shown, s.get(address).Body.String(), mark)
		}
	})
}

// newBusySite returns a site on which much has happened, for a test in a bubble.
func newBusySite(t *testing.T) *site {
	s := newSiteOf(t, []taskmanager.Option{taskmanager.WithBackoffJitter(0)}, WithActions(allowed), WithUser(func(*http.Request) string { return "alice" }))
	s.start("db", func(ctx context.Context) error {
		taskmanager.Ready(ctx)
		return park(ctx)
	}, taskmanager.WithReadiness(time.Minute))
	s.start("http", park, taskmanager.WithDependsOn("db"), taskmanager.WithCritical())
	s.start("workers", taskmanager.Group(func(m *taskmanager.Manager) error {
		for i := range 2 {
			if _, err := m.StartTask(fmt.Sprint("eu-", i), park); err != nil {
				return err
			}
		}
		return nil
	}), taskmanager.WithDependsOn("db"))
	passes := 0
	s.start("prices", taskmanager.Every(10*time.Second, func(ctx context.Context) error {
		if passes++; passes == 2 {
			return errors.New("no prices today")
		}
		taskmanager.SetStatus(ctx, "%d prices", 40*passes)
		return nil
	}))
	attempts := 0
	s.start("orders", func(ctx context.Context) error {
		time.Sleep(time.Second)
		if attempts++; attempts == 1 {
			return errors.New("dial tcp 10.0.0.7:5672: connect: connection refused")
		}
		taskmanager.SetStatus(ctx, "at offset 4711")
		return park(ctx)
	})
	s.start("mailer", func(context.Context) error {
		time.Sleep(time.Second)
		return errors.New("550 no such user")
	}, taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithLease(held("mail")))
	s.start("parser", func(context.Context) error { panic("assignment to entry in nil map") }, taskmanager.WithRestart(taskmanager.RestartNever))
	s.start("migrate", func(context.Context) error { return nil })
	time.Sleep(45 * time.Second)
	s.do(postOf("act", actOn(ActionRestart, "orders")))
	time.Sleep(77*time.Second + 250*time.Millisecond)
	synctest.Wait()
	return s
}
