package browsertest_test

import (
	"os"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Row "axe violations: each page × light, dark × 390, 1200 px: 0", and that of requests, errors and violations, which every tab checks.
// Nor is a page wider than the screen.
func TestPagesAxeFindsNothing(t *testing.T) {
	t.Parallel()
	axe, err := os.ReadFile("testdata/axe/axe.min.js")
	require.NoError(t, err)
	s := newSite(t, newHandler(t, newService(t)))
	for _, page := range []struct {
		name, url string
		then      string   // the element to click on, which leads to the page
		bad       []string // what the browser says of it, for its status
	}{
		{name: "list"},
		{name: "list sorted and filtered", url: "?q=e&state=running&state=backoff&sort=failures&desc=1&per=10"},
		{name: "list without any", url: "?q=there+is+none"},
		{name: "task that runs", url: "task?task=http"},
		{name: "task in backoff", url: "task?task=consumer"},
		{name: "task that was given up", url: "task?task=importer"},
		{name: "task that is stuck", url: "task?task=legacy"},
		{name: "task that makes passes", url: "task?task=prices"},
		{name: "group", url: "task?task=partitions"},
		{name: "graph", url: "graph"},
		{name: "question", url: "task?task=http", then: "#actions button[value=stop]"},
		{name: "nothing selected", url: "", then: "#act button[value=restart]", bad: []string{"400"}},
		{name: "unknown task", url: "task?task=nobody", bad: []string{"404"}},
	} {
		t.Run(page.name, func(t *testing.T) {
			t.Parallel()
			b := openTab(t, s.url)
			for _, text := range page.bad {
				b.expect("^status "+text, "^error from network: Failed to load resource: the server responded with a status of "+text)
			}
			b.open(page.url)
			if page.then != "" {
				b.clickThrough(page.then)
			}
			b.do("axe", chromedp.Evaluate[chromedp.Void](string(axe)))
			for theme, rules := range map[string]string{
				"light": "{}",
				"dark":  "{runOnly: ['color-contrast', 'link-in-text-block']}", // the colours are all that differs, and the other rules take long
			} {
				for _, width := range []int64{390, 1200} {
					b.looks(width, theme)
					assert.LessOrEqual(t, evaluate[int64](b, "document.documentElement.scrollWidth"), width, "%s %d: scrolls sideways", theme, width)
					for _, v := range evaluate[[]violation](b, "axe.run("+rules+").then(r => r.violations)") {
						for _, n := range v.Nodes {
							t.Errorf("%s %d: %s: %s\n%s\n%s", theme, width, v.ID, v.Help, n.HTML, n.FailureSummary)
						}
					}
				}
			}
		})
	}
}

// At 1200 px the list needs no scrolling sideways, no number or time in it is cut, and none lies on an error.
func TestPagesListFits(t *testing.T) {
	t.Parallel()
	b := openTab(t, newSite(t, newHandler(t, newService(t))).url)
	b.looks(1200, "light")
	b.open("")
	assert.Empty(t, evaluate[[]string](b, `
		Array.from(document.querySelectorAll('.scroll, #tasks thead th, td.failures, td.restarts, td.runs, td.next, td.uptime'))
			.filter(e => e.scrollWidth > e.clientWidth).map(e => e.className + ': ' + e.innerText)`), "too narrow")
	assert.Empty(t, evaluate[[]string](b, `
		Array.from(document.querySelectorAll('td.error time')).filter(time => {
			time.textContent = '10m51s ago';
			const td = time.closest('td'), end = td.getBoundingClientRect().right - parseFloat(getComputedStyle(td).paddingRight);
			return time.getBoundingClientRect().left < end;
		}).map(time => time.innerText)`), "times on errors")
}

// A violation is what axe has found.
type violation struct {
	ID, Help string
	Nodes    []struct{ HTML, FailureSummary string }
}
