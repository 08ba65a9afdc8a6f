package browsertest_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// hostileNames are names that are allowed, and that what shows them must take care of.
var hostileNames = []string{
	"..", "a/b", "a//b", "100%", "<script>alert(1)</script>", strings.Repeat("🦊", 63) + "abc", // 255 bytes
	`"><img src=x onerror=alert(2)>`, "javascript:alert(3)", `?x=1&y;a+b\#z`, "{{.}}${alert(4)}' onfocus='alert(5)",
}

// hostileTexts are what an attacker may have had a service say.
var hostileTexts = []string{
	"<img src=x onerror=alert(1)>", "<script>alert(2)</script>", `"><svg onload=alert(3)>`, "javascript:alert(4)",
	"</pre></textarea></title><script>alert(5)</script>",
	"data: {\n\ndata: x", "\x00\x1b[31m\u202e\ufeff", "{{constructor.constructor('alert(6)')()}}",
}

// Row "names .., a/b, a//b, 100%, <script>, 255 bytes: page and action work; nothing executes".
func TestHostileNames(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	tasks := make(map[string]*taskmanager.Task)
	for _, name := range hostileNames {
		tasks[name] = start(t, m, name, idle, taskmanager.WithDependsOn(otherThan(name)...))
	}
	inner := start(t, m, "group", taskmanager.Group(func(g *taskmanager.Manager) error {
		for _, name := range hostileNames {
			if _, err := g.StartTask(name, idle); err != nil {
				return err
			}
		}
		return nil
	}))
	waitFor(t, "the group", func() bool { g := inner.Group(); return g != nil && g.Totals().Running == len(hostileNames) })
	s := newSite(t, newHandler(t, m))
	b := openTab(t, s.url)

	b.open("?q=")
	b.until("document.querySelector('#live').dataset.state === 'live'")
	assert.ElementsMatch(t, append(append(hostileNames, hostileNames...), "group"),
		evaluate[[]string](b, "Array.from(document.querySelectorAll('#tasks tbody .name a'), a => a.textContent)"))
	b.open("graph")
	assert.Contains(t, evaluate[string](b, "document.querySelector('main svg').textContent"), "<script>alert(1)</script>")

	for _, name := range hostileNames[:7] {
		b.open("?" + url.Values{"q": {name}}.Encode())
		found := evaluate[string](b, `Array.from(document.querySelectorAll('#tasks tbody .name a'))
			.find(a => a.textContent === `+quote(name)+` && !a.href.includes('group')).getAttribute('href')`)
		b.open(found)
		assert.Equal(t, name, evaluate[string](b, "document.querySelector('h1').textContent"))
		runs := tasks[name].Stats().Runs
		b.clickThrough("#actions button[value=restart]")
		assert.Equal(t, name, evaluate[string](b, "document.querySelector('h1').textContent"), "back on the page of the task")
		waitFor(t, "another run of "+name, func() bool { return tasks[name].Stats().Runs == runs+1 })
	}
	t.Run("in a group, selected", func(t *testing.T) {
		b := openTab(t, s.url)
		b.open("?q=group")
		for _, box := range []string{"..", "100%", "<script>alert(1)</script>"} {
			b.click(`[name=select][value="` + url.Values{"task": {"group", box}}.Encode() + `"]`)
		}
		b.clickThrough("#act button[value=stop]")
		assert.Contains(t, b.text("main"), "<script>alert(1)</script>")
		b.clickThrough("main form button[value=stop]")
		waitFor(t, "three stops", func() bool { return inner.Group().Totals().Stopped == 3 })
	})
}

// otherThan returns the names of some tasks that a task of that name depends on.
func otherThan(name string) (names []string) {
	for _, other := range hostileNames[:5] {
		if other == name {
			return names
		}
		names = append(names, other)
	}
	return names
}

// Errors, statuses and panics with markup are shown as they are, in every place, at once and live; nothing executes.
func TestHostileErrorsAndStatuses(t *testing.T) {
	t.Parallel()
	m := newManager(t, taskmanager.WithBackoff(time.Hour, time.Hour))
	var failed []*taskmanager.Task
	for i, text := range hostileTexts {
		failed = append(failed,
			start(t, m, fmt.Sprint("fails ", i), fails(text)),
			start(t, m, fmt.Sprint("panics ", i), func(context.Context) error { panic(text) }))
	}
	statuses := make(chan string)
	start(t, m, "says", func(ctx context.Context) error {
		for {
			select {
			case text := <-statuses:
				taskmanager.SetStatus(ctx, "%s", text)
			case <-ctx.Done():
				return errors.New(hostileTexts[0])
			}
		}
	})
	for _, task := range failed {
		waitForState(t, task, taskmanager.StateBackoff)
	}
	s := newSite(t, newHandler(t, m))
	b := openTab(t, s.url)
	b.open("")
	b.until("document.querySelector('#live').dataset.state === 'live'")
	shown := evaluate[string](b, "document.querySelector('#tasks').textContent")
	for _, text := range hostileTexts[:5] {
		assert.Contains(t, shown, text)
		statuses <- text
		b.until("document.querySelector('#tasks').textContent.includes(" + quote(text) + ")")
		b.until("Array.from(document.querySelectorAll('#tasks td.status bdi'), e => e.textContent).includes(" + quote(text) + ")")
	}
	for _, task := range failed[:4] {
		b.open("task?" + url.Values{"task": {task.Name()}}.Encode())
		b.until("document.querySelector('#live').dataset.state === 'live'")
		require.NoError(t, task.Restart(t.Context()))
		waitFor(t, "two failures", func() bool { return task.Stats().Failures == 2 })
		b.until("document.querySelectorAll('#events tbody tr').length >= 2")
	}
	b.open("task?task=says")
	b.until("document.querySelector('#live').dataset.state === 'live'")
	require.NoError(t, m.StopTask(t.Context(), "says"))
	b.until("document.querySelector('#state').textContent.includes('stopped')")
}
