package browsertest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// untilLive waits until the sign of the connection says so: live, polling, lost, gone, ended or off.
func (b *tab) untilLive(state string) {
	b.t.Helper()
	b.until("document.querySelector('#live').dataset.state === " + quote(state))
}

// What changes is shown within 3 s, without another page, and each row stays where it is.
func TestLiveRows(t *testing.T) {
	t.Parallel()
	m := newManager(t, taskmanager.WithBackoff(time.Hour, time.Hour))
	statuses, failures := make(chan string), make(chan error)
	for _, name := range []string{"a", "b", "c"} {
		start(t, m, name, func(ctx context.Context) error {
			for {
				select {
				case text := <-statuses:
					taskmanager.SetStatus(ctx, "%s", text)
				case err := <-failures:
					return err
				case <-ctx.Done():
					return nil
				}
			}
		})
	}
	s := newSite(t, newHandler(t, m))
	b := openTab(t, s.url)
	b.open("")
	b.untilLive("live")
	order := b.texts("#tasks tbody .name")
	assert.Equal(t, "3", b.text("[data-total=running]"))
	evaluate[bool](b, "window.same = true")

	took := patience
	for _, status := range []string{"17 messages", "18 messages", "19 messages"} { // where much else is done, one of them may take longer
		statuses <- status
		took = min(took, b.until("Array.from(document.querySelectorAll('td.status'), e => e.innerText).includes("+quote(status)+")"))
	}
	assert.LessOrEqual(t, took, 3*time.Second)
	assert.Zero(t, b.count("tr.changed"), "only another state is pointed out")
	failures <- errors.New("the disk is full")
	b.until("document.querySelector('td.error').closest('tbody').innerText.includes('the disk is full')")
	b.until("document.querySelector('[data-total=backoff]').innerText === '1'")
	assert.Equal(t, "2", b.text("[data-total=running]"))
	assert.Equal(t, 1, b.count("tr.changed"))
	assert.Equal(t, order, b.texts("#tasks tbody .name"), "rows don't jump")
	assert.True(t, evaluate[bool](b, "window.same"), "the page has not been loaded again")
	assert.Len(t, b.asked("/live"), 1, "one stream")
	b.open("") // which sorts them
	assert.NotEmpty(t, b.texts("#tasks tbody tr:first-child td.error")[0])
}

// The page of a task follows it, and what somebody has opened stays open.
func TestLiveTask(t *testing.T) {
	t.Parallel()
	m := newManager(t, taskmanager.WithBackoff(time.Hour, time.Hour))
	task := start(t, m, "worker", func(context.Context) error { panic("oh") })
	waitForState(t, task, taskmanager.StateBackoff)
	s := newSite(t, newHandler(t, m))
	b := openTab(t, s.url)
	b.open("task?task=worker")
	b.untilLive("live")
	evaluate[bool](b, "window.same = true")
	before := b.count("#events tbody tr")
	b.click("#events summary")
	evaluate[bool](b, "document.activeElement.blur() || true") // where the focus is, nothing is replaced
	require.NoError(t, task.Restart(t.Context()))
	b.until(fmt.Sprintf("document.querySelectorAll('#events tbody tr').length > %d", before))
	assert.Equal(t, 1, b.count("#events details[open]"), "the one that was opened")
	assert.True(t, evaluate[bool](b, "window.same"))
	require.NoError(t, task.Stop(t.Context()))
	b.until("document.querySelector('#state').innerText.includes('stopped')")
	b.until("document.querySelector('#actions').innerText.includes('Start again')")
}

// listen serves a handler at an address, as a process does that comes and goes.
func listen(t *testing.T, address string, h http.Handler) (actual string, end func()) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(prefix, h)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	ended := make(chan struct{})
	go func() {
		_ = server.Serve(listener)
		close(ended)
	}()
	end = func() {
		_ = server.Close()
		<-ended
	}
	t.Cleanup(end)
	return listener.Addr().String(), end
}

// What a browser says of a server that has gone.
var refused = []string{"^request failed: net::ERR_", "^error from network: Failed to load resource: net::ERR_"}

func TestLiveConnection(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	start(t, m, "worker", idle)
	t.Run("lost, and found again", func(t *testing.T) {
		t.Parallel()
		h := newHandler(t, m)
		address, end := listen(t, "127.0.0.1:0", h)
		b := openTab(t, "http://"+address+prefix)
		b.expect(refused...)
		b.open("")
		b.untilLive("live")
		end()
		b.untilLive("lost")
		assert.Regexp(t, "No answer since [0-9:]+", b.text("#live"))
		listen(t, address, h)
		b.untilLive("live")
	})
	t.Run("gone", func(t *testing.T) {
		t.Parallel()
		address, end := listen(t, "127.0.0.1:0", newHandler(t, m))
		b := openTab(t, "http://"+address+prefix)
		b.expect(refused...)
		b.open("")
		b.untilLive("live")
		end()
		b.untilLive("lost")
		listen(t, address, newHandler(t, m))
		b.untilLive("gone")
		b.clickThrough("#live a")
		b.untilLive("live")
	})
	t.Run("ended", func(t *testing.T) {
		t.Parallel()
		ending := newManager(t)
		start(t, ending, "worker", idle)
		s := newSite(t, newHandler(t, ending))
		b := openTab(t, s.url)
		b.open("")
		b.untilLive("live")
		shutDown(t, ending)
		b.untilLive("ended")
		assert.Equal(t, "1", b.text("[data-total=stopped]"), "how it ended is shown")
		waitFor(t, "the end of the stream", func() bool { return s.open.Load() == 0 })
	})
	t.Run("polling", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, http.TimeoutHandler(newHandler(t, m), patience, "too late"))
		b := openTab(t, s.url)
		b.open("")
		b.untilLive("polling")
		require.NoError(t, m.StopTask(t.Context(), "worker"))
		b.until("document.querySelector('[data-total=stopped]').innerText === '1'")
		assert.GreaterOrEqual(t, len(b.asked("/live")), 2)
	})
}

// shared has a tab opened in the first window, where it hides the others.
var shared = chromedp.WithNewWindow(false)

// show makes a tab the visible one of its window.
func (b *tab) show() {
	b.t.Helper()
	id := chromedp.FromContext(b.ctx).Target.TargetID
	_, err := chromedp.CallBrowser(b.ctx, target.ActivateTarget, target.ActivateTargetParams{TargetID: id})
	require.NoError(b.t, err)
	b.until("document.visibilityState === 'visible'")
}

func TestLiveStreamsOnlyWhileVisible(t *testing.T) {
	m := newManager(t)
	task := start(t, m, "worker", idle)
	s := newSite(t, newHandler(t, m))
	b := openTab(t, s.url, shared)
	b.open("")
	b.untilLive("live")
	waitFor(t, "the stream", func() bool { return s.open.Load() == 1 })
	openTab(t, "about:", shared).show()
	b.until("document.visibilityState === 'hidden'")
	waitFor(t, "no stream", func() bool { return s.open.Load() == 0 })
	require.NoError(t, task.Stop(t.Context()))
	b.show()
	b.until("document.querySelector('[data-total=stopped]').innerText === '1'")
	b.untilLive("live")
	waitFor(t, "one stream", func() bool { return s.open.Load() == 1 })
}

// Row "10 tabs, one visible: all load". A browser has six connections to a server with HTTP/1.1: if hidden tabs held streams, the
// seventh would wait for ever.
func TestLiveTabs(t *testing.T) {
	m := newManager(t)
	start(t, m, "worker", idle)
	s := newSite(t, newHandler(t, m))
	var tabs []*tab
	for range 10 {
		b := openTab(t, s.url, shared)
		b.show()
		b.open("")
		b.untilLive("live")
		tabs = append(tabs, b)
	}
	waitFor(t, "one stream", func() bool { return s.open.Load() == 1 })
	for _, b := range tabs[:3] {
		b.show()
		b.do("reload", chromedp.Reload())
		b.untilLive("live")
	}
	waitFor(t, "one stream", func() bool { return s.open.Load() == 1 })
}

// The browser's zone or UTC, as one likes, from then on.
func TestTimesZone(t *testing.T) {
	t.Parallel()
	s := newSite(t, newHandler(t, newService(t)))
	b := openTab(t, s.url)
	_, err := chromedp.Call(b.ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Kathmandu"})
	require.NoError(t, err)
	b.open("")
	ago := "td.error time"
	assert.Regexp(t, `^([0-9.]+[smh] ?)+ ago$`, b.texts(ago)[0])
	assert.Regexp(t, `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \+05:45$`, evaluate[string](b, "document.querySelector('td.error time').title"))
	for value, want := range map[string]string{
		"local": `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \+05:45$`,
		"utc":   `^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC$`,
	} {
		b.do("choose", setValue("#times", value))
		evaluate[bool](b, "document.querySelector('#times').dispatchEvent(new Event('change'))")
		assert.Regexp(t, want, b.texts(ago)[0])
		shown := b.texts(ago)[0]
		b.do("reload", chromedp.Reload())
		assert.Equal(t, shown, b.texts(ago)[0], "it is kept")
	}
}
