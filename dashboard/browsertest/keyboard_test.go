package browsertest_test

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"

	"github.com/chromedp/chromedp"
	"github.com/go-taskmanager/taskmanager"
)

// Row "whole task list and an action by keyboard alone: works". There is no mouse in this file.
func TestKeyboardReachesEveryTask(t *testing.T) {
	s := newSite(t, newHandler(t, newService(t)))
	b := openTab(t, s.url)
	b.open("")
	wanted := evaluate[[]string](b, "Array.from(document.querySelectorAll('#tasks a[href^=\"task?\"]'), a => a.href)")
	assert.GreaterOrEqual(t, len(wanted), 12)
	var reached []string
	for {
		b.press(kb.Tab)
		focus := evaluate[string](b, "document.activeElement.href || document.activeElement.id || document.activeElement.tagName")
		if focus == "BODY" { // past the last one
			break
		}
		b.focusIsSeen()
		if strings.Contains(focus, "task?") {
			reached = append(reached, focus)
		}
	}
	assert.Equal(t, wanted, reached, "in the order of the page")
}

func TestKeyboardSkipsToTheContent(t *testing.T) {
	s := newSite(t, newHandler(t, newService(t)))
	b := openTab(t, s.url)
	b.open("")
	b.press(kb.Tab)
	b.focusIsSeen()
	assert.Equal(t, "Skip to the content", b.text(":focus"))
	b.press(kb.Enter)
	b.press(kb.Tab)
	assert.True(t, evaluate[bool](b, "document.querySelector('main').contains(document.activeElement)"))
}

func TestKeyboardFindsAndRestartsATask(t *testing.T) {
	m := newService(t)
	task, _ := m.Lookup("consumer")
	s := newSite(t, newHandler(t, m))
	b := openTab(t, s.url)
	b.open("")
	b.tabTo("input[name=q]")
	b.press("consum")
	b.follow("Enter in the field", chromedp.KeyEvent(kb.Enter))
	assert.Equal(t, []string{"consumer"}, b.texts("#tasks tbody .name a"))
	b.tabTo("#tasks tbody .name a")
	b.follow("Enter on the link", chromedp.KeyEvent(kb.Enter))
	assert.Equal(t, "consumer", b.text("h1"))
	b.tabTo("#actions button[value=restart]")
	b.follow("Enter on the button", chromedp.KeyEvent(kb.Enter))
	assert.Equal(t, "consumer", b.text("h1"), "back on the page of the task")
	waitFor(t, "another run", func() bool { return task.Stats().Runs == 2 })
}

func TestKeyboardStopsTheSelectedTasks(t *testing.T) {
	m := newService(t)
	s := newSite(t, newHandler(t, m))
	b := openTab(t, s.url)
	b.open("?sort=name")
	for _, name := range []string{"consumer", "prices"} {
		b.tabTo("[name=select][value='task=" + name + "']")
		b.press(" ")
	}
	assert.Equal(t, 2, b.count("[name=select]:checked"))
	evaluate[bool](b, "document.activeElement.blur() || true")
	b.tabTo("#act button[value=stop]")
	b.follow("Enter on the button", chromedp.KeyEvent(kb.Enter))
	assert.Contains(t, b.text("h1"), "2 tasks")
	b.tabTo("main form button")
	b.follow("Enter on the confirmation", chromedp.KeyEvent(kb.Enter))
	assert.Equal(t, "name", evaluate[string](b, "new URL(location).searchParams.get('sort')"), "the list as it was")
	for _, name := range []string{"consumer", "prices"} {
		task, _ := m.Lookup(name)
		waitForState(t, task, taskmanager.StateStopped)
	}
}
