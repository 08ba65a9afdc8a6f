package browsertest_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Row "page without script: works". What the tests evaluate is executed all the same.
func TestNoScriptPages(t *testing.T) {
	t.Parallel()
	m := newService(t)
	s := newSite(t, newHandler(t, m))
	b := openTab(t, s.url)
	b.withoutScript()
	b.open("")
	assert.Contains(t, b.text("#tasks"), "12 of 20 connections")
	assert.Equal(t, "off", evaluate[string](b, "document.querySelector('#live').dataset.state"))
	assert.Empty(t, b.asked("live"))

	b.do("filter", setValue("input[name=q]", "consumer"))
	b.clickThrough("#filter button")
	assert.Equal(t, []string{"consumer"}, b.texts("#tasks tbody .name a"))
	b.open("")
	b.click("#filter input[name=state][value=stuck]")
	b.clickThrough("#filter button")
	assert.Equal(t, []string{"legacy"}, b.texts("#tasks tbody .name a"))
	b.open("")
	b.clickThrough("thead th.name a")
	names := b.texts("#tasks tbody .name a")
	assert.Equal(t, "consumer", names[0])
	b.open("?per=10")
	first := b.texts("#tasks tbody .name a")
	b.clickThrough(".pager a[href*='page=2']:first-of-type")
	assert.NotContains(t, first, b.texts("#tasks tbody .name a")[0])

	b.open("task?task=importer")
	assert.Contains(t, b.text("main"), "index out of range")
	assert.Positive(t, b.count("#timeline svg"))
	b.open("graph")
	assert.Positive(t, b.count("main svg a"))
}

// Every action there is, from the button to what it has done.
func TestNoScriptActions(t *testing.T) {
	t.Parallel()
	m := newService(t)
	b := openTab(t, newSite(t, newHandler(t, m)).url)
	b.withoutScript()
	for _, test := range []struct {
		task, action string
		asks         bool
		done         func(taskmanager.TaskStats) bool
	}{
		{"database", "restart", false, func(s taskmanager.TaskStats) bool { return s.Runs == 2 }},
		{"consumer", "restart", false, func(s taskmanager.TaskStats) bool { return s.Runs == 2 }},
		{"http", "stop", true, func(s taskmanager.TaskStats) bool { return s.State == taskmanager.StateStopped }},
		{"database", "pause", false, func(s taskmanager.TaskStats) bool { return s.State == taskmanager.StatePaused }},
		{"database", "resume", false, func(s taskmanager.TaskStats) bool { return s.State == taskmanager.StateRunning }},
		{"prices", "trigger", false, func(s taskmanager.TaskStats) bool { return s.Passes.Begun == 2 }},
		{"importer", "start", false, func(s taskmanager.TaskStats) bool {
			return s.State == taskmanager.StateFailed && s.LastErrorAt.After(s.StartedAt)
		}},
		{"old", "start", false, func(s taskmanager.TaskStats) bool { return s.State == taskmanager.StateRunning }},
	} {
		t.Run(test.action+" "+test.task, func(t *testing.T) {
			b.of(t)
			task, ok := m.Lookup(test.task)
			require.True(t, ok)
			before := task.Stats()
			b.open("task?" + url.Values{"task": {test.task}}.Encode())
			b.clickThrough("#actions button[value=" + test.action + "]")
			if test.asks {
				assert.Equal(t, before.State, task.State(), "not before it is confirmed")
				b.clickThrough("main form button[value=" + test.action + "]")
			}
			waitFor(t, test.action, func() bool { return test.done(task.Stats()) })
			assert.Equal(t, test.task, b.text("h1"), "back on the page of the task")
		})
	}
	t.Run("several", func(t *testing.T) {
		b.of(t)
		b.open("?q=mailer&state=paused")
		b.click("[name=select]")
		b.clickThrough("#act button[value=resume]")
		b.clickThrough("main form button[value=resume]")
		assert.Contains(t, evaluate[string](b, "location.search"), "q=mailer", "the list as it was")
		task, _ := m.Lookup("mailer")
		waitForState(t, task, taskmanager.StateRunning)
	})
}
