package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager"
)

// A server serves a site on loopback.
type server struct {
	*http.Server
	url string
}

// serve serves h until the test ends.
func serve(t *testing.T, h http.Handler, set ...func(*http.Server)) *server {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{&http.Server{Handler: h, ReadHeaderTimeout: time.Minute}, "http://" + listener.Addr().String() + "/debug/tasks/"}
	for _, f := range set {
		f(s.Server)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-ended
	})
	return s
}

// A viewer reads the messages of a stream.
type viewer struct {
	t    *testing.T
	body io.ReadCloser
	in   *bufio.Reader
}

// rowsOf is the query of a stream about some tasks.
func (s *site) rowsOf(names ...string) string {
	ids := make([]string, len(names))
	for i, name := range names {
		ids[i] = s.dashboard().rowID([]string{name})
	}
	return "live?rows=" + strings.Join(ids, "")
}

func watch(ctx context.Context, t *testing.T, address string) *viewer {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	require.NoError(t, err)
	answer, err := new(http.Transport).RoundTrip(r) //nolint:bodyclose // at the end of the test
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, "text/event-stream", answer.Header.Get("Content-Type"))
	v := &viewer{t, answer.Body, bufio.NewReader(answer.Body)}
	t.Cleanup(func() { _ = v.body.Close() })
	return v
}

// A told is a message, as a page reads it.
type told struct {
	Instance string
	At       time.Time
	Totals   *taskmanager.Totals
	Rows     []liveRow
	End      string
}

// next returns the next message; io.EOF at the end of the stream.
func (v *viewer) next() (told, error) {
	line, err := v.in.ReadString('\n')
	if err != nil {
		return told{}, err
	}
	text, ok := strings.CutPrefix(line, "data: ")
	require.True(v.t, ok, line)
	var m told
	require.NoError(v.t, json.Unmarshal([]byte(text), &m))
	_, err = v.in.ReadString('\n')
	return m, err
}

func (v *viewer) mustNext() told {
	v.t.Helper()
	m, err := v.next()
	require.NoError(v.t, err)
	return m
}

func TestLive(t *testing.T) {
	s := newSite(t)
	task := s.start("a", func(ctx context.Context) error {
		taskmanager.SetStatus(ctx, "<b>")
		return park(ctx)
	})
	s.start("b", park)
	s.waitFor(func() bool { return task.Stats().Status != "" })
	v := watch(t.Context(), t, serve(t, s.handler).url+s.rowsOf("a", "not there"))
	first := v.mustNext()
	assert.Equal(t, s.dashboard().instance, first.Instance)
	assert.Equal(t, 2, first.Totals.Running)
	require.Len(t, first.Rows, 1)
	assert.Equal(t, s.dashboard().rowID([]string{"a"}), first.Rows[0].ID)
	assert.Equal(t, "running", first.Rows[0].State)
	assert.Equal(t, "<b>", first.Rows[0].Cells[2].Text, "the script takes it for text")

	second := v.mustNext()
	assert.Empty(t, second.Rows, "nothing has changed")
	assert.Equal(t, frameEvery, second.At.Sub(first.At).Round(frameEvery/2))

	require.NoError(t, task.Pause(t.Context()))
	m := v.mustNext()
	for len(m.Rows) == 0 { // one may have been made just before
		m = v.mustNext()
	}
	assert.Equal(t, "paused", m.Rows[0].State)
	assert.Equal(t, 1, m.Totals.Paused)
}

// One message where there can't be a stream: for a client that asks for one, behind a handler that buffers, and beyond the limit.
func TestLiveWithoutStream(t *testing.T) {
	s := newSite(t)
	s.start("a", park)
	for name, h := range map[string]http.Handler{
		"once": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.URL.RawQuery += "&once=1"
			s.handler.ServeHTTP(w, r)
		}),
		"under a TimeoutHandler":  http.TimeoutHandler(s.handler, time.Minute, ""),
		"in a writer that hides":  hides(s.handler, false),
		"in one that can't flush": hides(s.handler, true),
	} {
		answer, err := http.Get(serve(t, h).url + s.rowsOf("a")) //nolint:noctx // it is answered at once
		require.NoError(t, err)
		assert.Equal(t, "application/json", answer.Header.Get("Content-Type"), name)
		var m told
		assert.NoError(t, json.NewDecoder(answer.Body).Decode(&m), name)
		_ = answer.Body.Close()
		if assert.Len(t, m.Rows, 1, name) {
			assert.Equal(t, "running", m.Rows[0].State)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	srv := serve(t, s.handler)
	viewers := make([]*viewer, mostStreams)
	for i := range viewers {
		viewers[i] = watch(ctx, t, srv.url+s.rowsOf("a"))
	}
	answer, err := http.Get(srv.url + s.rowsOf("a")) //nolint:noctx // likewise
	require.NoError(t, err)
	_ = answer.Body.Close()
	assert.Equal(t, "application/json", answer.Header.Get("Content-Type"))
	viewers[7].mustNext()
	cancel()
	s.waitFor(func() bool { return s.dashboard().feed.current() == nil })
	watch(t.Context(), t, srv.url+s.rowsOf("a")).mustNext()
}

// hides serves h with a ResponseWriter that has no more than the methods it must have; or deadlines, but no Flush.
func hides(h http.Handler, deadlines bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if deadlines {
			h.ServeHTTP(noFlush{struct{ http.ResponseWriter }{w}, http.NewResponseController(w)}, r)
			return
		}
		h.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	})
}

type noFlush struct {
	http.ResponseWriter

	control *http.ResponseController
}

func (w noFlush) SetReadDeadline(at time.Time) error  { return w.control.SetReadDeadline(at) }
func (w noFlush) SetWriteDeadline(at time.Time) error { return w.control.SetWriteDeadline(at) }

// The timeouts of a server don't cut a stream.
func TestLiveOutlastsTimeouts(t *testing.T) {
	s := newSite(t)
	s.start("a", park)
	srv := serve(t, s.handler, func(srv *http.Server) { srv.ReadTimeout, srv.WriteTimeout = frameEvery/2, frameEvery/2 })
	v := watch(t.Context(), t, srv.url+s.rowsOf("a"))
	for range 4 {
		v.mustNext()
	}
}

// Server.Shutdown ends the streams, which it would wait for; and so it does where the server was not known before.
func TestLiveEndsWithTheServer(t *testing.T) {
	s := newSite(t)
	s.start("a", park)
	ignored := goleak.IgnoreCurrent()
	for range 2 { // two servers, one after the other
		srv := serve(t, s.handler)
		viewers := make([]*viewer, 5)
		for i := range viewers {
			viewers[i] = watch(t.Context(), t, srv.url+s.rowsOf("a"))
		}
		for _, v := range viewers {
			v.mustNext()
		}
		began := time.Now()
		require.NoError(t, srv.Shutdown(t.Context()))
		took := time.Since(began)
		t.Logf("5 open streams: Shutdown took %v", took)
		assert.LessOrEqual(t, took, 100*time.Millisecond)
		for _, v := range viewers {
			m, err := v.next()
			for err == nil && m.End == "" {
				m, err = v.next()
			}
			assert.NoError(t, err)
			assert.Equal(t, serverStopped, m.End)
			_, err = v.next()
			assert.ErrorIs(t, err, io.EOF)
			assert.NoError(t, v.body.Close())
		}
	}
	goleak.VerifyNone(t, ignored)
}

func TestLiveEndsWithTheManager(t *testing.T) {
	s := newSite(t)
	s.start("a", park)
	srv := serve(t, s.handler)
	viewers := []*viewer{watch(t.Context(), t, srv.url+s.rowsOf("a")), watch(t.Context(), t, srv.url+s.rowsOf("a"))}
	viewers[0].mustNext()
	require.NoError(t, s.manager.Shutdown(t.Context()))
	for _, v := range viewers {
		m := v.mustNext()
		for m.End == "" {
			m = v.mustNext()
		}
		assert.Equal(t, managerEnded, m.End)
		assert.Equal(t, 1, m.Totals.Stopped, "how it was left")
		_, err := v.next()
		assert.ErrorIs(t, err, io.EOF)
	}
	// Who comes later is told so.
	answer, err := http.Get(srv.url + s.rowsOf("a") + "&once=1") //nolint:noctx // it is answered at once
	require.NoError(t, err)
	defer answer.Body.Close()
	var m told
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&m))
	assert.Equal(t, managerEnded, m.End)
	late := watch(t.Context(), t, srv.url+s.rowsOf("a"))
	assert.Equal(t, managerEnded, late.mustNext().End)
}

// A stream follows SetDefault, as each request does.
func TestLiveOfAnotherDefault(t *testing.T) {
	defer taskmanager.SetDefault(nil)
	inBubble(t, func(t *testing.T) {
		first, second := newSite(t), newSite(t)
		taskmanager.SetDefault(first.manager)
		h, err := New(nil)
		require.NoError(t, err)
		first.start("a", park)
		second.start("a", park)
		second.start("b", park)
		synctest.Wait()
		d := h.(*dashboard)
		tasks := map[string][]string{d.rowID([]string{"b"}): {"b"}}
		f, ok := d.feed.join(tasks)
		require.True(t, ok)
		defer d.feed.leave(tasks)
		<-f.later
		f = d.feed.current()
		assert.True(t, f.rows[d.rowID([]string{"b"})].row.Gone)

		taskmanager.SetDefault(second.manager)
		require.NoError(t, first.manager.Shutdown(t.Context()))
		<-f.later
		f = d.feed.current()
		assert.False(t, f.ended, "the other one has not")
		assert.Equal(t, "running", f.rows[d.rowID([]string{"b"})].row.State)
	})
}

// The address of the stream about the largest page passes through nginx, whose limit for the first line of a request is 8 kB.
func TestLiveAddressIsNotLong(t *testing.T) {
	s := newSite(t)
	names := make([]string, mostPerPage)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	assert.Less(t, len("GET /a/prefix/of/some/length/debug/tasks/"+s.rowsOf(names...)+"&once=1 HTTP/1.1\r\n"), 8<<10)
	script, err := files.ReadFile("assets/script.js")
	require.NoError(t, err)
	assert.Contains(t, string(script), "[...rows.keys()].join('')", "as here")
}

// Nobody works for a page that nobody sees.
func TestLiveLeavesNothing(t *testing.T) {
	s := newSite(t)
	s.start("a", park)
	srv := serve(t, s.handler)
	before := goleak.IgnoreCurrent()
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		v := watch(ctx, t, srv.url+s.rowsOf("a"))
		v.mustNext()
		assert.NotNil(t, s.dashboard().feed.current())
		cancel()
		assert.NoError(t, v.body.Close())
		s.waitFor(func() bool { return s.dashboard().feed.current() == nil })
		assert.Empty(t, s.dashboard().feed.wanted)
	}
	goleak.VerifyNone(t, before)
}

// 100 tasks that fail without delay, and ten streams about them: each has two messages a second at most, and healthy work goes on.
func TestLiveBesideACrashLoop(t *testing.T) {
	if testing.Short() {
		t.Skip("it works for some seconds")
	}
	s := newSiteOf(t, []taskmanager.Option{
		taskmanager.WithBackoff(0, 0), taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithRestartLimit(1e9, 1e9),
	})
	var done atomic.Int64
	s.start("healthy", func(ctx context.Context) error {
		for ctx.Err() == nil {
			for range 1000 { // some work
				done.Add(1)
			}
			runtime.Gosched()
		}
		return nil
	})
	names := make([]string, 100)
	for i := range names {
		names[i] = fmt.Sprint("failing ", i)
		s.start(names[i], fail)
	}
	srv := serve(t, s.handler)
	const lasts = 3 * time.Second
	work := func() float64 { // within a second of the processors: what others do beside this process does not count
		before, began := done.Load(), processTime()
		time.Sleep(lasts)
		return float64(done.Load()-before) / (processTime() - began).Seconds()
	}
	workBeside := func() float64 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var (
			all      sync.WaitGroup
			messages [10]atomic.Int64
		)
		for i := range messages {
			v := watch(ctx, t, srv.url+s.rowsOf(names...))
			all.Go(func() {
				for {
					if _, err := v.next(); err != nil {
						return
					}
					messages[i].Add(1)
				}
			})
		}
		beside := work()
		for i := range messages {
			assert.LessOrEqual(t, messages[i].Load(), int64(2*(lasts/time.Second)+1))
			assert.GreaterOrEqual(t, messages[i].Load(), int64(1))
		}
		cancel()
		all.Wait()
		return beside
	}
	// What a machine does within a second varies by more than the 1% that is promised: TestLiveCost measures that. The more others
	// work beside this process, the more of its time are the streams: it is given another chance.
	share := 0.0
	for n := 0; n < 5 && share < 0.5; n++ {
		share = workBeside() / work()
		t.Logf("healthy work beside ten streams: %.1f%% of that without", 100*share)
	}
	assert.Greater(t, share, 0.5)
}

// Ten streams about 100 tasks take less than 1% of the time of one processor.
func TestLiveCost(t *testing.T) {
	s := newSite(t)
	paths := make(map[string][]string)
	for i := range 100 {
		path := []string{fmt.Sprint("task ", i)}
		s.start(path[0], fail)
		paths[s.dashboard().rowID(path)] = path
	}
	const viewers, frames = 10, 100
	m, before := s.manager, &frame{later: make(chan struct{})}
	best := time.Hour
	for range 5 {
		began := time.Now()
		for range frames {
			next := s.dashboard().frame(m, paths, before)
			for range viewers {
				_ = next.message("", paths, make(map[string]*frameRow)).json() // all rows have changed
			}
			before = next
		}
		best = min(best, time.Since(began)/frames)
	}
	t.Logf("a frame for %d viewers: %v, each %v", viewers, best, frameEvery)
	assert.Less(t, best, frameEvery/100*raceFactor)
}

// A client that does not read holds up nobody, and is given up.
func TestLiveWithAClientThatDoesNotRead(t *testing.T) {
	s := newSite(t)
	s.start("a", park)
	srv := serve(t, s.handler)
	deaf, err := net.Dial("tcp", strings.TrimPrefix(strings.TrimSuffix(srv.url, "/debug/tasks/"), "http://")) //nolint:noctx // it is loopback
	require.NoError(t, err)
	defer func() { _ = deaf.Close() }()
	_, err = io.WriteString(deaf, "GET /debug/tasks/"+s.rowsOf("a")+" HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	v := watch(t.Context(), t, srv.url+s.rowsOf("a"))
	v.mustNext()
	v.mustNext()
	began := time.Now()
	require.NoError(t, srv.Shutdown(t.Context()))
	assert.Less(t, time.Since(began), time.Second)
}

// The ids of rows find the tasks of groups, too, and are another handler's own.
func TestRowIDs(t *testing.T) {
	s := newSite(t)
	s.start("group", taskmanager.Group(func(m *taskmanager.Manager) error {
		_, err := m.StartTask("a", park)
		return err
	}))
	s.start("group/a", park)
	s.waitFor(func() bool { _, ok := lookup(s.manager, []string{"group", "a"}); return ok })
	d := s.dashboard()
	for _, path := range [][]string{{"group"}, {"group", "a"}, {"group/a"}} {
		found, p := d.findRows(d.rowID(path))
		require.Nil(t, p)
		assert.Equal(t, map[string][]string{d.rowID(path): path}, found)
	}
	assert.NotEqual(t, d.rowID([]string{"group", "a"}), d.rowID([]string{"group/a"}))
	assert.NotEqual(t, d.rowID([]string{"a"}), newSite(t).dashboard().rowID([]string{"a"}))

	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/live?once=1&rows="+d.rowID([]string{"group", "a"})+d.rowID([]string{"group/a"}), nil))
	assert.Len(t, decode[told](t, w).Rows, 2)
}

// A row whose task is not there any more says so.
func TestLiveOfATaskThatIsGone(t *testing.T) {
	s := newSiteOf(t, []taskmanager.Option{taskmanager.WithHistory(0)})
	task := s.start("a", park)
	v := watch(t.Context(), t, serve(t, s.handler).url+s.rowsOf("a"))
	v.mustNext()
	require.NoError(t, task.Stop(t.Context()))
	m := v.mustNext()
	for len(m.Rows) == 0 || !m.Rows[0].Gone {
		m = v.mustNext()
	}
	assert.Empty(t, m.Rows[0].Cells)
}
