package browsertest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is how long a test waits for what must happen, on whatever machine.
const patience = 20 * time.Second

// A tab of the browser. What happens in it that no page of the dashboard may do fails the test at its end: a request outside the
// prefix, one that fails, a message in the console, an exception, a violation of the policy, a dialog.
type tab struct {
	t      *testing.T
	ctx    context.Context
	prefix string // of the URLs that it may ask for

	mu       sync.Mutex
	requests []request
	bad      []string
	expected []*regexp.Regexp // what is bad elsewhere
}

type request struct{ method, url string }

// openTab opens a tab, which is closed when the test ends.
func openTab(t *testing.T, prefix string, opts ...chromedp.ContextOption) *tab {
	t.Helper()
	b := &tab{t: t, prefix: prefix}
	ctx, closeTab := chromedp.NewContext(browserContext(t), append(opts, chromedp.WithListener(b.hear))...)
	b.ctx = ctx
	t.Cleanup(func() {
		b.check()
		closeTab()
	})
	require.NoError(t, chromedp.Do(ctx))
	_, err := chromedp.Call(ctx, audits.Enable, cdp.Empty{})
	require.NoError(t, err)
	return b
}

// forget returns what has happened that must not, and forgets it.
func (b *tab) forget() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	bad := b.bad
	b.bad = nil
	return bad
}

// of has a subtest use a tab of the test around it.
func (b *tab) of(t *testing.T) {
	around := b.t
	b.t = t
	t.Cleanup(func() { b.t = around })
}

// hear is called with each event of the tab, in order, before the reply to any later command.
func (b *tab) hear(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.mu.Lock()
		b.requests = append(b.requests, request{e.Request.Method, e.Request.URL})
		b.mu.Unlock()
		if !strings.HasPrefix(e.Request.URL, b.prefix) {
			b.note("request outside the prefix: %s %s", e.Request.Method, e.Request.URL)
		}
	case *network.EventResponseReceived:
		if e.Response.Status >= http.StatusBadRequest {
			b.note("status %d of %s", e.Response.Status, e.Response.URL)
		}
	case *network.EventLoadingFailed:
		if !e.Canceled { // by a navigation
			b.note("request failed: %s %s", e.ErrorText, e.BlockedReason)
		}
	case *runtime.EventConsoleAPICalled:
		var text []string
		for _, a := range e.Args {
			text = append(text, string(a.Value), a.Description)
		}
		b.note("console.%s: %s", e.Type, strings.Join(text, " "))
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if x := e.ExceptionDetails.Exception; x != nil {
			text += " " + x.Description
		}
		b.note("exception: %s", text)
	case *log.EventEntryAdded:
		b.note("%s from %s: %s %s", e.Entry.Level, e.Entry.Source, e.Entry.Text, e.Entry.URL)
	case *audits.EventIssueAdded:
		details, _ := json.Marshal(e.Issue.Details)
		b.note("issue: %s %s", e.Issue.Code, details)
	case *page.EventJavascriptDialogOpening:
		b.note("dialog: %s", e.Message)
		go func() { // not here: no command is answered while hear executes
			_, _ = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}()
	}
}

func (b *tab) note(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bad = append(b.bad, fmt.Sprintf(format, args...))
}

// expect allows what matches, which must then be there at the end.
func (b *tab) expect(expressions ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range expressions {
		b.expected = append(b.expected, regexp.MustCompile(x))
	}
}

// check fails the test if anything bad has happened that was not expected, or nothing that was.
func (b *tab) check() {
	b.t.Helper()
	_, _ = run(b, chromedp.Evaluate[int]("1")) // all events before the reply have been heard
	b.mu.Lock()
	defer b.mu.Unlock()
	bad := b.bad
	for _, x := range b.expected {
		before := len(bad)
		bad = slices.DeleteFunc(slices.Clone(bad), x.MatchString)
		assert.Less(b.t, len(bad), before, "nothing matches %s: %q", x, b.bad)
	}
	assert.Empty(b.t, bad, "what must not happen in a page")
}

// run runs an action within the test's patience.
func run[T any](b *tab, a chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, a)
}

// do runs actions, and ends the test if one fails.
func (b *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	_, err := run(b, chromedp.Steps(steps...))
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", what, err, b.facts())
	}
}

// open loads a URL, which is relative to the prefix.
func (b *tab) open(url string) {
	b.t.Helper()
	b.do("open "+url, chromedp.Navigate(b.prefix+url))
}

// evaluate returns the value of an expression in the page.
func evaluate[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := run(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", expression, err, b.facts())
	}
	return v
}

// until waits until an expression is true in the page, which may be another one by then, and returns how long that has taken.
func (b *tab) until(expression string) time.Duration {
	b.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for again := time.NewTicker(30 * time.Millisecond); ; {
		is, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		var thrown *chromedp.ExceptionError
		if is || errors.As(err, &thrown) && ctx.Err() == nil && !isLoading(thrown) {
			again.Stop()
			require.NoError(b.t, err, expression)
			return time.Since(began)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			b.t.Fatalf("not within %v: %s (%v)\n%s", patience, expression, err, b.facts())
		}
	}
}

// isLoading reports whether an expression may have failed because its page was not there yet.
func isLoading(e *chromedp.ExceptionError) bool { return strings.Contains(e.Error(), "of null") }

// count returns how many elements match.
func (b *tab) count(selector string) int {
	b.t.Helper()
	return evaluate[int](b, "document.querySelectorAll("+quote(selector)+").length")
}

// text returns the text of the only element that matches, as it is seen.
func (b *tab) text(selector string) string {
	b.t.Helper()
	b.until("document.querySelectorAll(" + quote(selector) + ").length === 1")
	return evaluate[string](b, "document.querySelector("+quote(selector)+").innerText.trim()")
}

// texts returns those of all that match.
func (b *tab) texts(selector string) []string {
	b.t.Helper()
	return evaluate[[]string](b, "Array.from(document.querySelectorAll("+quote(selector)+"), e => e.innerText.trim())")
}

// quote writes s as a literal of JavaScript.
func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // no string has one
	}
	return string(text)
}

// click clicks on the only element that matches, with the mouse.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.until("document.querySelectorAll(" + quote(selector) + ").length === 1")
	b.do("click on "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// follow does what leads to another page, and waits until that is loaded.
func (b *tab) follow(what string, step chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if _, err := run(b, chromedp.WaitEvent(page.LoadEventFired, nil, step)); err != nil {
		b.t.Fatalf("%s leads nowhere: %v\n%s", what, err, b.facts())
	}
}

// clickThrough clicks on the only element that matches, and waits until the page that this leads to is loaded.
func (b *tab) clickThrough(selector string) {
	b.t.Helper()
	b.until("document.querySelectorAll(" + quote(selector) + ").length === 1")
	b.follow("click on "+selector, chromedp.Click(chromedp.CSS(selector)))
}

// press presses keys.
func (b *tab) press(keys string) {
	b.t.Helper()
	b.do("press "+quote(keys), chromedp.KeyEvent(keys))
}

// tabTo presses Tab until an element that matches has the focus, which must be seen there.
func (b *tab) tabTo(selector string) {
	b.t.Helper()
	var passed []string
	for range 300 {
		b.press(kb.Tab)
		if evaluate[bool](b, "document.activeElement.matches("+quote(selector)+")") {
			b.focusIsSeen()
			return
		}
		passed = append(passed, evaluate[string](b, "document.activeElement.outerHTML.slice(0, 80)"))
	}
	b.t.Fatalf("Tab does not lead to %s, but past\n%s", selector, strings.Join(passed, "\n"))
}

// focusIsSeen asserts that the element with the focus is in view, and has an outline or a shadow.
func (b *tab) focusIsSeen() {
	b.t.Helper()
	assert.True(b.t, evaluate[bool](b, `(() => {
		const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
		const outlined = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0;
		return (outlined || s.boxShadow !== 'none') && r.bottom > 0 && r.top < innerHeight && r.width > 0;
	})()`), "the focus is not seen on %s", evaluate[string](b, "document.activeElement.outerHTML.slice(0, 200)"))
}

// withoutScript has the pages that are loaded from now on execute no script of their own.
func (b *tab) withoutScript() {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	require.NoError(b.t, err)
}

// looks sets the width of the page, and the theme that the system prefers: light or dark. Nothing moves, so that no colour is judged
// halfway to another one.
func (b *tab) looks(width int64, theme string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
	require.NoError(b.t, err)
	b.do("resize", chromedp.EmulateViewport(width, 800))
}

// asked returns the requests of the tab that match, by method and URL: "GET http://127.0.0.1:1/live".
func (b *tab) asked(expression string) (found []string) {
	x := regexp.MustCompile(expression)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.requests {
		if line := r.method + " " + r.url; x.MatchString(line) {
			found = append(found, line)
		}
	}
	return found
}

// facts says what is seen of the tab, for the message of a failure.
func (b *tab) facts() string {
	ctx, cancel := context.WithTimeout(b.ctx, 2*time.Second)
	defer cancel()
	seen, err := chromedp.Run(ctx, chromedp.Evaluate[string](
		`document.URL + '\n' + document.readyState + ', ' + document.visibilityState + ', ' + document.title + '\n' +
			document.body?.innerText.slice(0, 1500) + '\n' + document.body?.outerHTML.slice(0, 3000)`))
	b.mu.Lock()
	defer b.mu.Unlock()
	last := b.requests[max(0, len(b.requests)-10):]
	return fmt.Sprintf("%s\n%v\nlast requests: %q\nbad: %q", seen, err, last, b.bad)
}

// setValue gives a field a value.
func setValue(selector, value string) chromedp.Action[chromedp.Void] {
	return chromedp.SetValue(chromedp.CSS(selector), value)
}
