package dashboard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Where the page of a task has what TaskStats has: a new field needs a place, too.
func TestTaskPageHasAllStatistics(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		s.start("needed", park)
		s.start("all", taskmanager.Every(time.Hour, func(ctx context.Context) error {
			taskmanager.SetStatus(ctx, "the status")
			if run, _ := taskmanager.RunFromContext(ctx); run < 3 {
				panic("the error")
			}
			return nil
		}), taskmanager.WithDependsOn("needed"), taskmanager.WithCritical(), taskmanager.WithBackoff(time.Second, time.Second),
			taskmanager.WithLease(held("feed")))
		s.start("standby", park, taskmanager.WithLease(heldElsewhere("other")))
		s.start("group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("inner", park)
			return err
		}))
		s.start("failing", fail, taskmanager.WithBackoff(4*time.Second, 4*time.Second)) // at 0, 4 and 8 s, or little later
		s.start("ended", func(context.Context) error { return nil })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		places := map[string]struct{ task, text string }{
			"Name": {"all", "<h1><bdi>all</bdi></h1>"}, "State": {"all", `class="state-running badge">running`}, "Status": {"all", "the status"},
			"Ready": {"all", "<dt>Ready</dt><dd>yes"}, "Critical": {"all", "<dt>Critical</dt><dd>yes"}, "DependsOn": {"all", "<dt>Depends on</dt><dd>needed"},
			"Runs": {"all", "<dt>Runs</dt><dd>3"}, "Restarts": {"all", "<dt>Restarts</dt><dd>2"}, "Failures": {"all", "<dt>Failures</dt><dd>2"},
			"Panics": {"all", "<dt>Panics</dt><dd>2"}, "RestartsInWindow": {"failing", "<dt>Restarts within the window</dt><dd>3 "},
			"MaxRestarts": {"failing", `<span class="note">of 5 in 1m</span>`}, "RestartWindow": {"failing", "in 1m"},
			"RestartPolicy": {"all", "<dt>Is restarted</dt><dd>on-failure"}, "ConsecutiveFailures": {"failing", "<dt>Failures in a row</dt><dd>3"},
			"FailingSince": {"failing", "<dt>Failing since</dt><dd><time"}, "StartedAt": {"all", "<dt>Started</dt><dd><time"},
			"RunStartedAt": {"all", "<dt>Run began</dt><dd><time"}, "Uptime": {"all", "<dt>Uptime of the run</dt>"},
			"NextRunAt": {"failing", "<dt>Next run</dt><dd><time"}, "EndedAt": {"ended", "<dt>Ended</dt><dd><time"},
			"LastError": {"all", "panic: the error"}, "LastErrorAt": {"all", "<dt>Last failure</dt><dd><time"},
			"Lease": {"all", "<dt>Lease</dt><dd>feed, held with token 7"}, "Passes": {"all", "<h2 id=\"passes-h\">Passes"}, "Group": {"group", "Tasks of this group"},
		}
		pages := make(map[string]string)
		for _, task := range []string{"all", "failing", "group", "ended"} {
			pages[task] = s.get("task?stack=0&task=" + task).Body.String()
		}
		fields := reflect.TypeFor[taskmanager.TaskStats]()
		for i := range fields.NumField() {
			name := fields.Field(i).Name
			place, ok := places[name]
			require.True(t, ok, "%s has no place on the page", name)
			assert.Contains(t, strings.ReplaceAll(pages[place.task], "\n", ""), place.text, name)
		}
		passes := reflect.TypeFor[taskmanager.PassStats]()
		for name, label := range map[string]string{
			"Begun": "Begun</dt><dd>3", "Failed": "Failed</dt><dd>2", "GivenUp": "Given up</dt><dd>0", "Skipped": "Ticks skipped</dt><dd>0",
			"LastStart": "Last one began</dt><dd><time", "LastDuration": "Last one took</dt><dd>0s", "LastSuccess": "Last success</dt><dd><time", "Next": "Next one</dt><dd><time",
		} {
			_, ok := passes.FieldByName(name)
			assert.True(t, ok)
			assert.Contains(t, pages["all"], label)
		}
		assert.Equal(t, 8, passes.NumField(), "each has a place above")
		assert.Contains(t, pages["all"], "<details><summary>Stack</summary>")
		assert.Contains(t, pages["all"], "TestTaskPageHasAllStatistics", "the stack of the panic")
		assert.Contains(t, pages["all"], "<svg")
		standby := s.get("task?stack=0&task=standby").Body.String()
		assert.Contains(t, standby, "<dt>Lease</dt><dd>other, not held here")
		assert.Contains(t, standby, "held by &#34;pod-7&#34;")
		assert.Contains(t, s.get("task?stack=0&task=needed").Body.String(), "<dt>Needed by</dt><dd>all")
	})
}

// What an attacker writes into errors, statuses and panics is text.
func TestTaskPageOfHostileTexts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		hostile := `</pre><script>alert(1)</script><img src=x onerror=alert(2)>"'` + "`" + `javascript:alert(3)` + "\x00\r\n\u202E" + strings.Repeat("x", 1<<16)
		s.start("hostile", func(ctx context.Context) error {
			taskmanager.SetStatus(ctx, "%s", hostile)
			panic(errors.New(hostile))
		}, taskmanager.WithMaxRestarts(1))
		time.Sleep(time.Minute)
		for _, address := range []string{"", "?q=script", "task?task=hostile", "task.json?task=hostile", "tasks.json", "graph"} {
			w := s.get(address)
			require.Equal(t, http.StatusOK, w.Code)
			for _, bad := range []string{"<script>alert", "<img", `onerror=alert(2)>"`} {
				if !strings.HasSuffix(strings.SplitN(address, "?", 2)[0], ".json") {
					assert.NotContains(t, w.Body.String(), bad, address)
				}
			}
		}
		for _, address := range []string{"tasks.txt", "task.txt?task=hostile"} {
			w := s.get(address)
			assert.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
			first, _, _ := strings.Cut(w.Body.String(), "\n\n")
			assert.NotContains(t, first, "\x00")
			assert.NotContains(t, first, "\r")
		}
		assert.Less(t, s.get("").Body.Len(), 10_000, "a list has a part of it")
	})
}

// A text of any size makes no page of that size.
func TestTaskPageOfLargeTexts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		large := "the beginning " + strings.Repeat("<", 10<<20) + " and the end"
		s.start("large", func(ctx context.Context) error {
			taskmanager.SetStatus(ctx, "%s", large)
			if run, _ := taskmanager.RunFromContext(ctx); run > 10 {
				return park(ctx)
			}
			return errors.New(large)
		}, taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		time.Sleep(time.Hour)
		for _, address := range []string{"", "tasks.json", "tasks.txt", "task?task=large", "task.json?task=large", "task.txt?task=large"} {
			body := s.get(address).Body.String()
			assert.Less(t, len(body), 15*6*mostErrorText, "%s: 15 texts, whose bytes have six each where they are escaped", address)
			assert.Contains(t, body, "the beginning", address)
			assert.Contains(t, body, "and the end", address)
		}
	})
}

// Of many tasks that another one needs, or that need it, the page names some.
func TestTaskPageOfManyNeighbors(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		var names []string
		for i := range 1020 {
			names = append(names, fmt.Sprintf("middle-%04d", i))
			s.start(names[i], park, taskmanager.WithDependsOn("bottom"))
		}
		s.start("bottom", park)
		s.start("top", park, taskmanager.WithDependsOn(names...))
		synctest.Wait()
		for _, name := range []string{"bottom", "top"} {
			w := s.get("task?task=" + name)
			assert.Contains(t, w.Body.String(), "middle-0019 and 1,000 more<", name)
			assert.Less(t, w.Body.Len(), 64<<10, name)
		}
	})
}

// Errors whose methods misbehave cost a page some time, and nothing else.
func TestTaskPageOfOddErrors(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newSite(t, WithActions(allowed))
		hangs := func(context.Context) error { return &oddError{func() { <-release }} }
		s.start("hangs", hangs, taskmanager.WithMaxRestarts(2))
		s.start("well", park)
		synctest.Wait()
		for _, address := range []string{"", "tasks.json", "tasks.txt", "?q=x", "task?stack=0&task=hangs", "task.json?stack=0&task=hangs", "live?once=1&rows=" + s.dashboard().rowID([]string{"hangs"})} {
			began := time.Now()
			w := s.get(address)
			assert.Equal(t, http.StatusOK, w.Code, address)
			assert.LessOrEqual(t, time.Since(began), 2*time.Second, address)
		}
		close(release)
	})
}
