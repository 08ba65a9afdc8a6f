package dashboard

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func actionNames() (names []ActionName) {
	for _, a := range actions {
		names = append(names, a.name)
	}
	return names
}

// inBubble runs a test with a fake clock.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// each starts a task for each action, in a state in which it makes sense, and returns them.
func (s *site) each() map[ActionName]*taskmanager.Task {
	tasks := make(map[ActionName]*taskmanager.Task)
	for _, a := range actionNames() {
		body := park
		if a == ActionTrigger {
			body = taskmanager.Every(time.Hour, func(context.Context) error { return nil })
		}
		tasks[a] = s.start(string(a), body)
	}
	synctest.Wait()
	require.NoError(s.t, tasks[ActionStart].Stop(context.Background()))
	require.NoError(s.t, tasks[ActionResume].Pause(context.Background()))
	return tasks
}

// A sight is what there is to see of a task that an action changes.
type sight struct {
	state  taskmanager.State
	runs   uint64
	passes uint64
}

func see(t *taskmanager.Task) sight {
	s := t.Stats()
	seen := sight{state: s.State, runs: s.Runs}
	if s.Passes != nil {
		seen.passes = s.Passes.Begun
	}
	return seen
}

func TestActions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, WithActions(allowed), WithUser(func(*http.Request) string { return "alice" }))
		tasks := s.each()
		for _, a := range actionNames() {
			w := s.post(url.Values{"action": {string(a)}, "task": {string(a)}, "from": {"task"}})
			assert.Equal(t, http.StatusSeeOther, w.Code, "%s: %s", a, w.Body)
			assert.Equal(t, "task?task="+string(a)+"&did="+string(a), w.Header().Get("Location"))
		}
		synctest.Wait()
		assert.Equal(t, sight{taskmanager.StateRunning, 2, 0}, see(tasks[ActionRestart]))
		assert.Equal(t, sight{taskmanager.StateStopped, 1, 0}, see(tasks[ActionStop]))
		assert.Equal(t, sight{taskmanager.StatePaused, 1, 0}, see(tasks[ActionPause]))
		assert.Equal(t, sight{taskmanager.StateRunning, 2, 0}, see(tasks[ActionResume]))
		assert.Equal(t, sight{taskmanager.StateRunning, 1, 2}, see(tasks[ActionTrigger]))
		assert.Equal(t, sight{taskmanager.StateRunning, 1, 0}, see(tasks[ActionStart]))
		assert.Contains(t, s.get("task?task=stop&did=stop&stack=0").Body.String(), "Stop: asked for.")

		for a, task := range tasks { // who it was
			history := task.History()
			if assert.NotEmpty(t, history, a) {
				assert.True(t, slices.ContainsFunc(history, func(e taskmanager.Event) bool { return e.By == "alice" }), a)
			}
			assert.Contains(t, s.get("task?stack=0&task="+string(a)).Body.String(), "by alice")
		}
	})
}

// What makes no sense as a task is says so, and changes nothing.
func TestActionsThatMakeNoSense(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, WithActions(allowed))
		running, ended := s.start("running", park), s.start("ended", park)
		synctest.Wait()
		require.NoError(t, ended.Stop(t.Context()))
		beforeRunning, beforeEnded := see(running), see(ended)
		for _, one := range []struct {
			action ActionName
			task   string
			text   string
		}{
			{ActionRestart, "ended", "it is stopped: start it again"},
			{ActionStop, "ended", "it has ended: it is stopped"},
			{ActionPause, "ended", "task is not running"},
			{ActionResume, "ended", "task is not paused"},
			{ActionTrigger, "ended", "task is not running"},
			{ActionStart, "running", "it has not ended: it is running"},
			{ActionResume, "running", "task is not paused"},
			{ActionTrigger, "running", "task makes no passes"},
		} {
			w := s.post(actOn(one.action, one.task))
			assert.Equal(t, http.StatusConflict, w.Code, "%s of %s", one.action, one.task)
			assert.Contains(t, w.Body.String(), one.text, "%s of %s", one.action, one.task)
		}
		assert.Equal(t, http.StatusNotFound, s.post(actOn(ActionStop, "unknown")).Code)
		assert.Equal(t, beforeRunning, see(running))
		assert.Equal(t, beforeEnded, see(ended))
	})
}

// unchanged does what ask does, for each action, and checks that nothing has changed.
func unchanged(t *testing.T, status int, ask func(s *site, a ActionName) *httptest.ResponseRecorder, opts ...Option) {
	t.Helper()
	inBubble(t, func(t *testing.T) {
		s := newSite(t, opts...)
		tasks := s.each()
		for a, task := range tasks {
			before := see(task)
			w := ask(s, a)
			synctest.Wait()
			assert.Equal(t, status, w.Code, "%s: %s", a, w.Body)
			assert.Equal(t, before, see(task), a)
		}
	})
}

func TestActionsAreAbsentByDefault(t *testing.T) {
	act := func(s *site, a ActionName) *httptest.ResponseRecorder { return s.post(actOn(a, string(a))) }
	unchanged(t, http.StatusForbidden, act)
	unchanged(t, http.StatusForbidden, act, WithActions(nil))
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		s.start("a", park)
		for _, page := range []string{"", "task?task=a"} {
			body := s.get(page).Body.String()
			assert.NotContains(t, body, `action="act"`)
			assert.NotContains(t, body, `name="select"`)
			assert.NotContains(t, body, `name=select`)
		}
	})
}

// The hook is asked for each task before anything is done to it. Whatever it does but return nil is a refusal.
func TestActionsThatTheHookRefuses(t *testing.T) {
	act := func(s *site, a ActionName) *httptest.ResponseRecorder { return s.post(actOn(a, string(a))) }
	for name, hook := range map[string]func() error{
		"an error":            func() error { return errors.New("operators only") },
		"a panic":             func() error { panic("secret") },
		"a nil panic":         func() error { panic(nil) },
		"Goexit":              func() error { runtime.Goexit(); return nil },
		"an error that odd":   func() error { return &oddError{func() { panic("secret") }} },
		"an error that exits": func() error { return &oddError{runtime.Goexit} },
	} {
		t.Run(name, func(t *testing.T) {
			unchanged(t, http.StatusForbidden, func(s *site, a ActionName) *httptest.ResponseRecorder {
				w := act(s, a)
				assert.NotContains(t, w.Body.String(), "secret")
				if name == "an error" {
					assert.Contains(t, w.Body.String(), "not allowed: operators only")
				}
				for _, page := range []string{"", "task?stack=0&task=" + string(a)} {
					assert.NotContains(t, s.get(page).Body.String(), `value="`+string(a)+`">`, "no button")
				}
				return w
			}, WithActions(func(*http.Request, Action) error { return hook() }))
		})
	}
}

// As long as the hook has not answered nothing is done, and nobody else waits.
func TestActionsWhoseHookHangs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newSite(t, WithActions(func(r *http.Request, _ Action) error {
			if r.URL.Query().Get("slow") == "" {
				return nil
			}
			<-release
			return nil
		}))
		task := s.start("a", park)
		synctest.Wait()
		ctx, leaves := context.WithCancel(t.Context())
		answered := make(chan int, 1)
		go func() { answered <- s.do(postOf("act?slow=1", actOn(ActionStop, "a")).WithContext(ctx)).Code }()
		time.Sleep(time.Hour)
		assert.Equal(t, taskmanager.StateRunning, task.State())
		assert.Equal(t, http.StatusSeeOther, s.post(actOn(ActionRestart, "a")).Code, "somebody else's")
		leaves()
		assert.Equal(t, http.StatusForbidden, <-answered)
		close(release) // it would have been allowed
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, task.State())
	})
}

// The hook may call the Manager, and gets its own copy of the path.
func TestActionsWhoseHookCallsBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var s *site
		s = newSite(t, WithActions(func(_ *http.Request, a Action) error {
			if len(a.Path) == 0 {
				return nil
			}
			task, ok := s.manager.Lookup(a.Path[0])
			if !ok {
				return errors.New("unknown")
			}
			a.Path[0] = "b"
			return task.Restart(context.Background())
		}))
		a, b := s.start("a", park), s.start("b", park)
		synctest.Wait()
		assert.Equal(t, http.StatusSeeOther, s.post(actOn(ActionStop, "a")).Code)
		assert.Equal(t, sight{taskmanager.StateStopped, 2, 0}, see(a))
		assert.Equal(t, taskmanager.StateRunning, b.State())
	})
}

// Permission is a matter of each request, action and task: of several, those that are allowed are done.
func TestActionsForEachTask(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var asked []string
		s := newSite(t, WithActions(func(r *http.Request, a Action) error {
			if user, _, _ := r.BasicAuth(); user != "alice" || len(a.Path) > 0 && a.Path[0] == "db" {
				return errors.New("not for you")
			}
			if len(a.Path) > 0 {
				asked = append(asked, string(a.Name)+" "+a.Path[0])
			}
			return nil
		}))
		db, web := s.start("db", park), s.start("web", park)
		synctest.Wait()
		form := url.Values{"action": {"restart"}, "select": {"task=db", "task=web", "task=web", "task=unknown"}}
		r := postOf("act.json", form)
		assert.Equal(t, http.StatusForbidden, s.do(r).Code)
		assert.Equal(t, []uint64{1, 1}, []uint64{db.Stats().Runs, web.Stats().Runs})

		r = postOf("act.json", form)
		r.SetBasicAuth("alice", "x")
		w := s.do(r)
		assert.Equal(t, http.StatusConflict, w.Code)
		assert.Equal(t, []uint64{1, 2}, []uint64{db.Stats().Runs, web.Stats().Runs})
		assert.Equal(t, []string{"restart web", "restart unknown"}, asked)
		got := decode[struct {
			Action  string
			Results []outcome
		}](t, w)
		assert.Equal(t, []outcome{
			{[]string{"db"}, http.StatusForbidden, "not allowed: not for you"},
			{[]string{"web"}, http.StatusOK, "done"},
			{[]string{"unknown"}, http.StatusNotFound, "there is no such task"},
		}, got.Results)

		page := postOf("act", form)
		page.SetBasicAuth("alice", "x")
		body := s.do(page).Body.String()
		assert.Contains(t, body, "Restart: 2 of 3 could not be done")
		assert.Contains(t, body, "<bdi>db</bdi>: <bdi>not allowed: not for you</bdi>")
	})
}

// Whose page it is that sends a form.
func TestActionsOfOtherOrigins(t *testing.T) {
	for name, one := range map[string]struct {
		headers map[string]string
		status  int
		opts    []Option
	}{
		"curl":                    {nil, http.StatusSeeOther, nil},
		"same origin":             {map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://example.com"}, http.StatusSeeOther, nil},
		"the user":                {map[string]string{"Sec-Fetch-Site": "none"}, http.StatusSeeOther, nil},
		"http, not loopback":      {map[string]string{"Origin": "http://example.com"}, http.StatusSeeOther, nil},
		"behind https":            {map[string]string{"Origin": "https://example.com"}, http.StatusSeeOther, nil},
		"cross-site":              {map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}, http.StatusForbidden, nil},
		"same-site":               {map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://other.example.com"}, http.StatusForbidden, nil},
		"foreign Origin":          {map[string]string{"Origin": "http://evil.example"}, http.StatusForbidden, nil},
		"no Origin of a sandbox":  {map[string]string{"Origin": "null"}, http.StatusForbidden, nil},
		"another Host":            {map[string]string{"Origin": "http://ops.example.org"}, http.StatusForbidden, nil},
		"another Host, trusted":   {map[string]string{"Origin": "http://ops.example.org"}, http.StatusSeeOther, []Option{WithTrustedOrigins("http://ops.example.org")}},
		"cross-site, but trusted": {map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://o.example"}, http.StatusSeeOther, []Option{WithTrustedOrigins("https://o.example")}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newSite(t, append([]Option{WithActions(allowed)}, one.opts...)...)
				task := s.start("a", park)
				synctest.Wait()
				for _, address := range []string{"act", "act.json"} {
					before := task.Stats().Runs
					r := postOf(address, actOn(ActionRestart, "a"))
					for name, value := range one.headers {
						r.Header.Set(name, value)
					}
					status := one.status
					if status == http.StatusSeeOther && address == "act.json" {
						status = http.StatusOK
					}
					w := s.do(r)
					assert.Equal(t, status, w.Code, w.Body)
					if status == http.StatusForbidden {
						assert.Equal(t, before, task.Stats().Runs)
					} else {
						assert.Equal(t, before+1, task.Stats().Runs)
					}
				}
			})
		})
	}
}

// Nothing is done by GET, nor by what stands in the address.
func TestActionsByAddress(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions} {
		unchanged(t, http.StatusMethodNotAllowed, func(s *site, a ActionName) *httptest.ResponseRecorder {
			return s.do(httptest.NewRequestWithContext(t.Context(), method, "/act?"+actOn(a, string(a)).Encode(), nil))
		}, WithActions(allowed))
	}
	unchanged(t, http.StatusBadRequest, func(s *site, a ActionName) *httptest.ResponseRecorder {
		return s.do(postOf("act?"+actOn(a, string(a)).Encode(), nil))
	}, WithActions(allowed))
}

func TestActionsOfBadForms(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, WithActions(allowed))
		task := s.start("a", park)
		synctest.Wait()
		many := url.Values{"action": {"restart"}}
		for i := range mostSelected + 1 {
			many.Add("select", taskQuery([]string{fmt.Sprint(i)}))
		}
		for name, one := range map[string]struct {
			form   url.Values
			status int
		}{
			"no action":        {url.Values{"task": {"a"}}, http.StatusBadRequest},
			"unknown action":   {actOn("explode", "a"), http.StatusBadRequest},
			"upper case":       {actOn("RESTART", "a"), http.StatusBadRequest},
			"no task":          {url.Values{"action": {"restart"}}, http.StatusBadRequest},
			"a bad selection":  {url.Values{"action": {"restart"}, "select": {"a"}}, http.StatusBadRequest},
			"another bad one":  {url.Values{"action": {"restart"}, "select": {"task=a&x=y"}}, http.StatusBadRequest},
			"a bad escape":     {url.Values{"action": {"restart"}, "select": {"task=%zz"}}, http.StatusBadRequest},
			"a bad list":       {url.Values{"action": {"restart"}, "task": {"a"}, "list": {"page=x"}}, http.StatusBadRequest},
			"a bad list query": {url.Values{"action": {"restart"}, "task": {"a"}, "list": {"%zz"}}, http.StatusBadRequest},
			"too many":         {many, http.StatusBadRequest},
			"one too often":    {url.Values{"action": {"restart"}, "select": slices.Repeat([]string{"task=a"}, mostSelected+1)}, http.StatusBadRequest},
		} {
			w := s.post(one.form)
			assert.Equal(t, one.status, w.Code, "%s: %s", name, w.Body)
		}
		for _, kind := range []string{"application/json", "multipart/form-data", "text/plain", ""} {
			r := postOf("act", actOn(ActionRestart, "a"))
			r.Header.Set("Content-Type", kind)
			assert.Equal(t, http.StatusBadRequest, s.do(r).Code, kind)
		}
		large := postOf("act", nil)
		read := new(countingReader)
		large.Body, large.ContentLength = io.NopCloser(read), -1
		assert.Equal(t, http.StatusRequestEntityTooLarge, s.do(large).Code)
		assert.LessOrEqual(t, read.n, mostBody+1<<16, "the rest of 10 MB was not read")
		assert.Equal(t, uint64(1), task.Stats().Runs)
	})
}

// A countingReader has 10 MB, and counts those that are read.
type countingReader struct{ n int }

func (r *countingReader) Read(p []byte) (int, error) {
	const size = 10 << 20
	if r.n >= size {
		return 0, io.EOF
	}
	n := copy(p, strings.Repeat("a", min(len(p), size-r.n)))
	r.n += n
	return n, nil
}

// The most tasks that may be selected, with the longest names, fit into a form.
func TestActionsOnManyTasks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, WithActions(allowed))
		form := url.Values{"action": {"restart"}}
		var tasks []*taskmanager.Task
		for i := range mostSelected {
			name := strings.Repeat("\U0001F600", 62) + fmt.Sprintf("%04d", i)
			tasks = append(tasks, s.start(name, park))
			form.Add("select", taskQuery([]string{name}))
		}
		synctest.Wait()
		w := s.post(form)
		require.Equal(t, http.StatusSeeOther, w.Code)
		assert.Equal(t, "./?did=restart&n=1000", w.Header().Get("Location"))
		assert.Contains(t, s.get("?did=restart&n=1000").Body.String(), "Restart: asked for, of 1000 tasks.")
		synctest.Wait()
		for _, task := range tasks {
			require.Equal(t, uint64(2), task.Stats().Runs)
		}
	})
}

// Before something is done to several tasks, or one is stopped, the page asks.
func TestActionsAreConfirmed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, WithActions(allowed))
		var tasks []*taskmanager.Task
		for i := range 30 {
			tasks = append(tasks, s.start(fmt.Sprintf("<%02d>", i), park))
		}
		synctest.Wait()
		w := s.post(url.Values{"action": {"stop"}, "ask": {"1"}, "select": {"task=<01>", "task=<02>", "task=gone"}, "list": {"q=0&per=10"}})
		require.Equal(t, http.StatusOK, w.Code)
		body := w.Body.String()
		assert.Contains(t, body, "Stop these 2 tasks?")
		assert.Contains(t, body, `name="select" value="task=%3C01%3E"`)
		assert.Contains(t, body, `href="./?per=10&amp;q=0"`)
		assert.Contains(t, body, "There is no task <bdi>gone</bdi> any more.")
		assert.NotContains(t, body, "<01>")
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, tasks[1].State(), "nothing has been done yet")

		// A program is not answered with a page that looks like success.
		for _, form := range []url.Values{{"ask": {"1"}, "task": {"<01>"}}, {"all": {"1"}}} {
			form.Set("action", "stop")
			answer := s.do(postOf("act.json", form))
			assert.Equal(t, http.StatusBadRequest, answer.Code)
			assert.Contains(t, decode[map[string]string](t, answer)["error"], "name the tasks")
		}
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, tasks[1].State())

		// All that a list shows, on whatever page.
		w = s.post(url.Values{"action": {"stop"}, "all": {"1"}, "list": {"q=<1&per=10&page=1"}})
		require.Equal(t, http.StatusOK, w.Code, "it is to be confirmed in any case")
		assert.Contains(t, w.Body.String(), "Stop these 10 tasks?")
		assert.Equal(t, taskmanager.StateRunning, tasks[11].State())
	})
	inBubble(t, func(t *testing.T) {
		s := newSite(t, WithActions(allowed))
		for i := range mostSelected + 1 {
			s.start(fmt.Sprint(i), park)
		}
		assert.Equal(t, http.StatusBadRequest, s.post(url.Values{"action": {"stop"}, "all": {"1"}}).Code)
	})
}

// Who stops all tasks of the last page of those that run is led to the page that is the last one then.
func TestActionsThatLeaveNoSuchPage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, WithActions(allowed))
		form := url.Values{"action": {"stop"}, "list": {"state=running&sort=name&per=10&page=3"}}
		for i := range 25 {
			name := fmt.Sprintf("%02d", i)
			s.start(name, park)
			if i >= 10 {
				form.Add("select", taskQuery([]string{name}))
			}
		}
		synctest.Wait()
		w := s.post(form)
		require.Equal(t, http.StatusSeeOther, w.Code)
		w = s.get(w.Header().Get("Location"))
		require.Equal(t, http.StatusOK, w.Code)
		assert.Contains(t, w.Body.String(), "1 to 10 of 10")
		assert.Contains(t, w.Body.String(), "Stop: asked for, of 15 tasks.")
		assert.Equal(t, http.StatusNotFound, s.get("?state=running&per=10&page=2").Code)

		w = s.get(s.post(url.Values{"action": {"stop"}, "task": {"00"}, "list": {"q=00&state=running&page=3"}}).Header().Get("Location"))
		require.Equal(t, http.StatusOK, w.Code)
		assert.Contains(t, w.Body.String(), "0 to 0 of 0")
	})
}

// A form that does not end is not waited for, for Shutdown of the server would wait with it.
func TestActionsWhoseFormDoesNotEnd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, WithActions(func(r *http.Request, _ Action) error {
			time.Sleep(2 * formWithin)
			return r.Context().Err()
		}))
		s.start("a", park)
		client, conn := net.Pipe()
		listener := &oneConn{conn: conn, closed: make(chan struct{})}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // it is closed below
			if strings.HasPrefix(r.URL.Path, "/read/") {
				assert.NoError(t, r.ParseForm())
			}
			s.handler.ServeHTTP(w, r)
		})}
		go func() { _ = server.Serve(listener) }()
		in := bufio.NewReader(client)
		send := func(text string) (status int, took time.Duration) {
			began := time.Now()
			go func() { _, _ = io.WriteString(client, text) }()
			answer, err := http.ReadResponse(in, nil)
			require.NoError(t, err)
			defer answer.Body.Close()
			_, _ = io.Copy(io.Discard, answer.Body)
			return answer.StatusCode, time.Since(began)
		}
		const head = "act HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n"
		for _, path := range []string{"/", "/read/"} {
			status, took := send("POST " + path + head + "15\r\naction=restart&task=a\r\n0\r\n\r\n")
			assert.Equal(t, http.StatusSeeOther, status, "one that has come is not hurried: %s", path)
			assert.Equal(t, 2*formWithin, took)
		}
		status, took := send("POST /" + head + "5\r\nactio\r\n")
		assert.Equal(t, http.StatusRequestTimeout, status)
		assert.Equal(t, formWithin, took)
		began := time.Now()
		require.NoError(t, server.Shutdown(t.Context()))
		assert.Less(t, time.Since(began), time.Second)
		_ = client.Close()
	})
}

// A oneConn is a listener that has one connection.
type oneConn struct {
	conn   net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *oneConn) Accept() (conn net.Conn, err error) {
	if conn, l.conn = l.conn, nil; conn != nil {
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// An action that takes its time goes on without who has asked for it: the page answers within a second.
func TestActionsThatTakeTheirTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSiteOf(t, []taskmanager.Option{taskmanager.WithStopTimeout(5 * time.Second)}, WithActions(allowed))
		slow := func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(3 * time.Second)
			return nil
		}
		release := make(chan struct{})
		defer close(release)
		restarted, stopped, paused := s.start("restarted", slow), s.start("stopped", slow), s.start("paused", slow)
		deaf := s.start("deaf", func(context.Context) error { <-release; return nil })
		synctest.Wait()
		began := time.Now()
		for _, form := range []url.Values{actOn(ActionRestart, "restarted"), actOn(ActionStop, "stopped"), actOn(ActionPause, "paused")} {
			answer := s.do(postOf("act.json", form))
			assert.Equal(t, http.StatusOK, answer.Code)
			assert.Contains(t, answer.Body.String(), "asked for, and under way")
		}
		assert.Equal(t, 3*time.Second, time.Since(began))
		assert.Equal(t, http.StatusSeeOther, s.post(actOn(ActionStop, "deaf")).Code)
		assert.Equal(t, taskmanager.StateStopping, deaf.State())
		time.Sleep(5 * time.Second)
		synctest.Wait()
		assert.Equal(t, sight{taskmanager.StateRunning, 2, 0}, see(restarted))
		assert.Equal(t, taskmanager.StateStopped, stopped.State())
		assert.Equal(t, taskmanager.StatePaused, paused.State())
		assert.Equal(t, taskmanager.StateStuck, deaf.State(), "by its own stop timeout, not by the patience of the page")

		w := s.post(actOn(ActionRestart, "deaf"))
		assert.Equal(t, http.StatusConflict, w.Code)
		assert.Contains(t, w.Body.String(), "it is stuck")
		w = s.do(postOf("act.json", actOn(ActionStop, "deaf")))
		assert.Contains(t, w.Body.String(), "it is stuck")
	})
}

// A client that goes away does not undo what it has asked for.
func TestActionsOfAClientThatGoesAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, WithActions(allowed))
		task := s.start("a", func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(2 * time.Second)
			return nil
		})
		synctest.Wait()
		ctx, leaves := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, leaves)
		assert.Equal(t, http.StatusSeeOther, s.do(postOf("act", actOn(ActionRestart, "a")).WithContext(ctx)).Code)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, sight{taskmanager.StateRunning, 2, 0}, see(task))
	})
}

// Those that depend on others are stopped first, as StopTasks does.
func TestActionsStopInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var (
			mu    sync.Mutex
			ended []string
		)
		s := newSite(t, WithActions(allowed))
		body := func(name string) taskmanager.TaskFunc {
			return func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(100 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				ended = append(ended, name)
				return nil
			}
		}
		s.start("db", body("db"))
		s.start("web", body("web"), taskmanager.WithDependsOn("db"))
		s.start("group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("inner", park)
			return err
		}))
		synctest.Wait()
		w := s.do(postOf("act.json", url.Values{"action": {"stop"}, "select": {"task=db", "task=web", "task=group&task=inner"}}))
		assert.Equal(t, http.StatusOK, w.Code, w.Body)
		assert.NotContains(t, w.Body.String(), "under way")
		assert.Equal(t, []string{"web", "db"}, ended)
		inner, _ := lookup(s.manager, []string{"group", "inner"})
		assert.Equal(t, taskmanager.StateStopped, inner.State())
	})
}

// A group that goes away between the question of the hook and the stop takes its tasks with it.
func TestActionsStopInAGroupThatHasGone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t, WithActions(allowed))
		inner := s.start("inner", park)
		synctest.Wait()
		outcomes := []outcome{{Path: []string{"gone", "inner"}}}
		s.dashboard().stopAll(t.Context(), s.manager, []*taskmanager.Task{inner}, outcomes)
		assert.Equal(t, http.StatusNotFound, outcomes[0].Status)
		assert.Equal(t, taskmanager.StateRunning, inner.State(), "another one of the same name is left alone")
	})
}

// A task may serve the page on which it is restarted: nobody waits for himself.
func TestActionOnTheTaskThatServesThePage(t *testing.T) {
	s := newSite(t, WithActions(allowed))
	addresses := make(chan string, 2)
	task := s.start("http", func(ctx context.Context) error {
		return serveUntil(ctx, s.handler, addresses)
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, <-addresses+"/act", strings.NewReader("action=stop&task=http"))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(r)
	require.NoError(t, err)
	assert.Equal(t, http.StatusSeeOther, answer.StatusCode)
	_ = answer.Body.Close()
	require.NoError(t, task.Wait(t.Context()))
	assert.Equal(t, taskmanager.StateStopped, task.State())
}

func serveUntil(ctx context.Context, h http.Handler, addresses chan<- string) error {
	srv := httptest.NewUnstartedServer(h)
	srv.Start()
	addresses <- srv.URL
	<-ctx.Done()
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), 4*time.Second)
	defer cancel()
	return srv.Config.Shutdown(deadline)
}

// Who asks, and what becomes of a function that can't tell.
func TestWithUser(t *testing.T) {
	for name, one := range map[string]struct {
		user   func(*http.Request) string
		by     string
		status int
	}{
		"nil":      {nil, "192.0.2.1", http.StatusSeeOther},
		"empty":    {func(*http.Request) string { return "" }, "192.0.2.1", http.StatusSeeOther},
		"a header": {func(r *http.Request) string { return r.Header.Get("X-User") }, "bob", http.StatusSeeOther},
		"panics":   {func(*http.Request) string { panic("secret") }, "", http.StatusForbidden},
		"exits":    {func(*http.Request) string { runtime.Goexit(); return "" }, "", http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newSite(t, WithActions(allowed), WithUser(one.user))
				task := s.start("a", park)
				synctest.Wait()
				r := postOf("act", actOn(ActionPause, "a"))
				r.Header.Set("X-User", "bob")
				w := s.do(r)
				assert.Equal(t, one.status, w.Code)
				assert.NotContains(t, w.Body.String(), "secret")
				if one.status == http.StatusForbidden {
					assert.Equal(t, taskmanager.StateRunning, task.State())
					return
				}
				history := task.History()
				require.Len(t, history, 1)
				assert.Equal(t, one.by, history[0].By)
			})
		})
	}
}

// A page waits for a second for the hook, and does without the buttons that it has not allowed by then.
func TestPagesWhoseHookHangs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newSite(t, WithActions(func(*http.Request, Action) error { <-release; return nil }))
		s.start("a", park)
		synctest.Wait()
		for _, page := range []string{"", "task?stack=0&task=a"} {
			began := time.Now()
			w := s.get(page)
			assert.Equal(t, http.StatusOK, w.Code)
			assert.Equal(t, offerWithin, time.Since(began))
			assert.NotContains(t, w.Body.String(), `action="act"`)
		}
		close(release)
	})
}

// An identityError does something when it is asked what it is.
type identityError struct{ does func() }

func (e *identityError) Error() string { return "odd" }

func (e *identityError) Is(error) bool {
	e.does()
	return false
}

// What a body has returned may be in the error of an action: it holds up nobody.
func TestActionsWhoseErrorsAreOdd(t *testing.T) {
	for name, does := range map[string]func(release chan struct{}){
		"hangs": func(release chan struct{}) { <-release }, "panics": func(chan struct{}) { panic("secret") }, "exits": func(chan struct{}) { runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newSite(t)
				release := make(chan struct{})
				began := time.Now()
				status, text := s.dashboard().judge(fmt.Errorf("gave up: %w", &identityError{func() { does(release) }}))
				assert.Equal(t, http.StatusConflict, status)
				assert.Equal(t, "it could not be done, and its error can't be read", text)
				assert.LessOrEqual(t, time.Since(began), waitForErrors)
				close(release)
			})
		})
	}
	s := newSite(t)
	status, text := s.dashboard().judge(fmt.Errorf("gave up: %w", &identityError{func() {}}))
	assert.Equal(t, http.StatusConflict, status)
	assert.Equal(t, "gave up: odd", text)
}
