package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	neturl "net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The tests use real sockets, so they can't use a synctest bubble. They wait for what is printed, and not for time to pass.
const patience = 10 * time.Second

// A screen collects what is printed, and lets a test wait for it.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // replaced at each change
}

func newScreen() *screen { return &screen{changed: make(chan struct{})} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// lineWith waits for a line that contains all of parts, and returns it.
func (s *screen) lineWith(t *testing.T, parts ...string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		text, changed := s.text.String(), s.changed
		s.mu.Unlock()
		for line := range strings.Lines(text) {
			if containsAll(line, parts) {
				return line
			}
		}
		select {
		case <-changed:
		case <-timeout:
			require.Failf(t, "no such line", "%q in:\n%s", parts, text)
			return ""
		}
	}
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// start starts the service. The function that it returns ends it, as Ctrl-C does, and returns what it returned.
func start(t *testing.T, s settings, in io.Reader) (*screen, func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, ended := newScreen(), make(chan error, 1)
	go func() { ended <- run(ctx, s, in, out) }()
	end := sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("the service has not ended")
		}
	})
	t.Cleanup(func() { _ = end() })
	return out, end
}

func quick(urls ...string) settings {
	return settings{urls: urls, every: time.Millisecond, initialDelay: time.Millisecond, listen: "127.0.0.1:0"}
}

func TestDemo(t *testing.T) {
	in, enter := io.Pipe()
	defer func() { _ = enter.Close() }()
	out, end := start(t, quick(), in)

	out.lineWith(t, "INFO", "endpoint answers", "task=healthy run=1", "200 OK")
	out.lineWith(t, "WARN", "task failed, will restart", "task=recovering run=3", "503 Service Unavailable", `restarts="3 of 4"`)
	out.lineWith(t, "INFO", "endpoint answers", "task=recovering run=4")
	out.lineWith(t, "WARN", "task failed, will restart", "task=panicking run=1", "index out of range")
	out.lineWith(t, "| ", ".(*watcher).poll(")
	out.lineWith(t, "INFO", "endpoint answers", "task=mirrors/ams run=1", "200 OK")
	out.lineWith(t, "ERROR", "pass failed for good, task goes on", "task=down run=5", `restarts="4 of 4" window=1m0s`)

	require.NotContains(t, out.String(), "TASK", "nobody has asked for the table yet")
	_, err := enter.Write([]byte("\n"))
	require.NoError(t, err)
	out.lineWith(t, "TASK", "STATE", "FAILURES")
	out.lineWith(t, "healthy", "running", "200 OK", "polls:")
	out.lineWith(t, "recovering", "running", "4     3", "200 OK")
	out.lineWith(t, "down", "GET http://127.0.0.1:")

	require.NoError(t, end())
	out.lineWith(t, "task stopped", "task=healthy run=1")
	out.lineWith(t, "task stopped", "task=demo-server run=1")
	assert.Contains(t, out.String(), "All tasks have ended")
	assert.Equal(t, 2, strings.Count(out.String(), "FAILURES"), "one table on demand, one at the end")
}

func listeningAt(address string) settings {
	s := quick()
	s.listen = address
	return s
}

// pageOf waits for the address of the page, and returns a client for it that follows no redirects.
func pageOf(t *testing.T, out *screen) (string, *http.Client) {
	t.Helper()
	address := strings.TrimSpace(strings.TrimPrefix(out.lineWith(t, "Tasks at http://127.0.0.1:"), "Tasks at "))
	client := &http.Client{
		Transport:     &http.Transport{},
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(client.CloseIdleConnections)
	return address, client
}

// do sends a request, with a form if there is one, and returns what is answered.
func do(t *testing.T, client *http.Client, address string, form neturl.Values, host string) (status int, body string) {
	t.Helper()
	method, content := http.MethodGet, ""
	if form != nil {
		method, content = http.MethodPost, form.Encode()
	}
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(content))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Host = host
	response, err := client.Do(r)
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode, string(text)
}

func TestPage(t *testing.T) {
	out, end := start(t, quick(), strings.NewReader(""))
	out.lineWith(t, "endpoint answers", "task=healthy run=1")
	out.lineWith(t, "endpoint answers", "task=mirrors/fra run=1")
	out.lineWith(t, "task failed", "task=down run=1")
	address, client := pageOf(t, out)

	status, page := do(t, client, address, nil, "")
	assert.Equal(t, http.StatusOK, status)
	for _, name := range []string{"dashboard", "demo-server", "healthy", "mirrors", "fra", "down"} {
		assert.Contains(t, page, ">"+name+"<")
	}

	// A site whose name leads to loopback is no page of this machine.
	status, _ = do(t, client, address, nil, "evil.example")
	assert.Equal(t, http.StatusMisdirectedRequest, status)
	restart := func(task ...string) neturl.Values { return neturl.Values{"action": {"restart"}, "task": task} }
	status, _ = do(t, client, address+"act", restart("healthy"), "evil.example")
	assert.Equal(t, http.StatusMisdirectedRequest, status)

	status, page = do(t, client, address+"act", restart("healthy"), "")
	assert.Equal(t, http.StatusSeeOther, status, page)
	out.lineWith(t, "task restarted by hand", "task=healthy run=1", "by=127.0.0.1")
	out.lineWith(t, "endpoint answers", "task=healthy run=2")

	// The task that serves the page ends with what it has in hand, and serves it anew at the same address.
	status, page = do(t, client, address+"act.json", restart("dashboard"), "")
	assert.Equal(t, http.StatusOK, status, page)
	assert.Contains(t, page, `"status":200`, "it has not waited for itself")
	out.lineWith(t, "task stopped", "task=dashboard run=1", "task was restarted by hand")
	require.Eventually(t, func() bool { return strings.Count(out.String(), "Tasks at "+address) == 2 }, patience, time.Millisecond)
	status, _ = do(t, client, address, nil, "")
	assert.Equal(t, http.StatusOK, status)
	require.NoError(t, end())
	for line := range strings.Lines(out.String()) {
		assert.False(t, containsAll(line, []string{"WARN  task stopped", "task=dashboard"}), "nothing was left to close: %s", line)
	}
}

// Ctrl-C does not wait for those who look at the page.
func TestEndsWithOpenStreams(t *testing.T) {
	out, end := start(t, quick(), strings.NewReader(""))
	address, client := pageOf(t, out)
	var streams []*bufio.Reader
	for range 5 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"live", http.NoBody)
		require.NoError(t, err)
		response, err := client.Do(r)
		require.NoError(t, err)
		t.Cleanup(func() { _ = response.Body.Close() })
		streams = append(streams, bufio.NewReader(response.Body))
	}
	for _, stream := range streams {
		message, err := stream.ReadString('\n')
		require.NoError(t, err)
		assert.Contains(t, message, `data: {"instance":`)
	}
	require.NoError(t, end())
	for _, stream := range streams {
		rest, err := io.ReadAll(stream)
		assert.NoError(t, err)
		assert.Contains(t, string(rest), `"end":"server"`)
	}
	out.lineWith(t, "INFO  task stopped", "task=dashboard") // a stream that had to be cut would make it a warning
}

func TestEndsByItself(t *testing.T) {
	s := quick()
	s.lasts = time.Millisecond
	out := newScreen()
	require.NoError(t, run(t.Context(), s, strings.NewReader(""), out))
	assert.Contains(t, out.String(), "All tasks have ended")
}

func TestGivenURLs(t *testing.T) {
	var broken http.HandlerFunc = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
	good, bad := httptest.NewServer(demo()), httptest.NewServer(broken)
	defer good.Close()
	defer bad.Close()

	s := quick(good.URL+"/healthy", bad.URL+"/")
	s.verbose = true
	out, end := start(t, s, strings.NewReader(""))
	out.lineWith(t, "endpoint answers", "task="+good.URL+"/healthy")
	out.lineWith(t, "DEBUG", "task started", "task="+bad.URL+"/", "run=5")
	out.lineWith(t, "pass failed for good", "task="+bad.URL+"/", "404 Not Found")
	assert.NotContains(t, out.String(), "demo-server")
	require.NoError(t, end())
}

func TestNothingLeftToWatch(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }))
	defer server.Close()
	err := run(t.Context(), quick(server.URL), strings.NewReader(""), newScreen())
	assert.EqualError(t, err, "no endpoint is left to watch")
}

func TestRefused(t *testing.T) {
	for name, s := range map[string]settings{
		"no scheme":      quick("example.org"),
		"another scheme": quick("ftp://example.org/"),
		"no URL":         quick("http://a b/"),
		"twice":          quick("http://127.0.0.1:1/", "http://127.0.0.1:1/"),
		"long":           quick("http://127.0.0.1:1/" + strings.Repeat("a", 300)),
		"never":          {every: 0},
		"past":           {every: time.Second, lasts: -1},
		"all addresses":  listeningAt(":0"),
		"no loopback":    listeningAt("192.0.2.1:80"),
		"no port":        listeningAt("127.0.0.1"),
		"no address":     listeningAt(""),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			assert.Error(t, run(ctx, s, strings.NewReader(""), newScreen()))
		})
	}
}

// A body is an ordinary function: it can be called without a Manager. SetStatus does nothing then.
func TestWatchWithoutManager(t *testing.T) {
	server := httptest.NewServer(demo())
	defer server.Close()
	w := newWatcher(time.Millisecond, slog.New(slog.DiscardHandler))
	defer w.client.CloseIdleConnections()

	assert.PanicsWithError(t, "runtime error: index out of range [1] with length 1", func() {
		_ = w.watch(server.URL + "/panicking")(t.Context())
	})
	require.ErrorContains(t, w.watch(server.URL+"/recovering")(t.Context()), "503")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.NoError(t, w.watch(server.URL+"/healthy")(ctx), "no poll is begun that nobody wants any more")
}

func TestWatchStopsWhileItPolls(t *testing.T) {
	polled := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		polled <- struct{}{}
		<-r.Context().Done() // hangs until the client goes away
	}))
	defer server.Close()
	m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	w := newWatcher(time.Second, slog.New(slog.DiscardHandler))
	defer w.client.CloseIdleConnections()

	task, err := m.StartTask("hung", w.watch(server.URL))
	require.NoError(t, err)
	<-polled
	require.NoError(t, m.Shutdown(t.Context()))
	assert.Equal(t, taskmanager.StateStopped, task.State())
	assert.Zero(t, task.Stats().Failures)
}
