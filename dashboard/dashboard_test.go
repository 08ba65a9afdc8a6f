package dashboard

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// hostileNames are names that a path, a query or a page might trip over.
var hostileNames = []string{
	"..", ".", "a/b", "a//b", "/", "100%", "%2F", "<script>alert(1)</script>", "?x=1&y#z", "a;b", "a+b", `\`, `"'`, "a b", " ",
	strings.Repeat("\U0001F600", 63) + "abc", "\u202Eabc", "&amp;", "task=a", "{{.}}",
}

func TestNew(t *testing.T) {
	for name, o := range map[string]Option{
		"WithTrustedOrigins(no scheme)": WithTrustedOrigins("ops.example.org"),
		"WithTrustedOrigins(a path)":    WithTrustedOrigins("https://ops.example.org", "https://ops.example.org/x"),
		"WithHosts(empty)":              WithHosts(""),
		"WithHosts(a port)":             WithHosts("localhost:80"),
		"WithHosts(a URL)":              WithHosts("http://localhost"),
	} {
		h, err := New(nil, o)
		assert.Nil(t, h, name)
		var refused *taskmanager.OptionError
		if assert.ErrorAs(t, err, &refused, name) {
			assert.True(t, strings.HasPrefix(name, refused.Option+"("), name)
		}
	}
	h, err := New(nil, nil, WithActions(nil), WithUser(nil), WithTrustedOrigins(), WithHosts("localhost", "127.0.0.1", "::1", "[::1]"))
	assert.NoError(t, err)
	assert.NotNil(t, h)
}

// The handler does not know where it is served, and its pages need not: all of their links are relative.
func TestPrefixes(t *testing.T) {
	s := newSite(t)
	s.start("a", park)
	serve := func(h http.Handler, address string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, address, nil))
		return w
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/tasks/", s.handler)
	mux.Handle("/stripped/", http.StripPrefix("/stripped", s.handler))
	mux.Handle("/bare/", http.StripPrefix("/bare/", s.handler))
	mux.Handle("GET /exact", s.handler)
	mux.Handle("/exact/", s.handler)
	root := http.NewServeMux()
	root.Handle("/", s.handler)
	for _, at := range []struct {
		h      http.Handler
		prefix string
	}{{mux, "/debug/tasks/"}, {mux, "/stripped/"}, {mux, "/bare/"}, {mux, "/exact/"}, {root, "/"}, {s.handler, "/any/where/"}} {
		for _, address := range []string{"", "?q=a", "task?task=a&stack=0", "graph", "tasks.json", "task.txt?task=a&stack=0", "style.css", "favicon.svg", "live?once=1"} {
			w := serve(at.h, at.prefix+address)
			assert.Equal(t, http.StatusOK, w.Code, "%s%s: %s", at.prefix, address, w.Body)
			assert.NotContains(t, w.Body.String(), `href="/`)
			assert.NotContains(t, w.Body.String(), `src="/`)
			assert.NotContains(t, w.Body.String(), `action="/`)
		}
	}

	// Without the slash at the end the links would lead elsewhere.
	for address, to := range map[string]string{"/exact": "/exact/", "/exact?q=a": "/exact/?q=a", "/debug/tasks": "/debug/tasks/"} {
		w := serve(mux, address)
		require.Equal(t, http.StatusTemporaryRedirect, w.Code, address)
		assert.Equal(t, to, resolve(t, address, w.Header().Get("Location")))
	}
	strips := http.StripPrefix("/x/tasks", s.handler) // behind a router that hands on the prefix itself
	for address, to := range map[string]string{"/x/tasks": "/x/tasks/", "/x/tasks?q=a": "/x/tasks/?q=a"} {
		w := serve(strips, address)
		require.Equal(t, http.StatusTemporaryRedirect, w.Code, address)
		assert.Equal(t, to, resolve(t, address, w.Header().Get("Location")))
	}
}

// resolve returns where a relative address leads from another.
func resolve(t *testing.T, from, to string) string {
	t.Helper()
	base, err := url.Parse(from)
	require.NoError(t, err)
	u, err := base.Parse(to)
	require.NoError(t, err)
	return u.RequestURI()
}

// What every answer says to the browser, whatever it is.
func TestHeaders(t *testing.T) {
	s := newSite(t, WithActions(allowed), WithHosts("example.com"))
	s.start("a", park)
	requests := []*http.Request{postOf("act", actOn(ActionRestart, "a")), postOf("act", nil), httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/", nil)}
	for _, address := range []string{"", "task?task=a", "task?task=b", "graph", "nope", "tasks.json", "task.txt?task=a&stack=0", "style.css", "live?once=1", "act", "?page=x"} {
		requests = append(requests, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+address, nil))
	}
	foreign := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	foreign.Host = "evil.example"
	requests = append(requests, foreign)
	for _, r := range requests {
		h := s.do(r).Header()
		what := r.Method + " " + r.URL.String()
		assert.Equal(t, "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "+
			"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'", h.Get("Content-Security-Policy"), what)
		assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), what)
		assert.Equal(t, "same-origin", h.Get("Referrer-Policy"), what)
		assert.Equal(t, "no-store", h.Get("Cache-Control"), what)
	}
	page := s.do(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)).Body.String()
	for _, inline := range []string{"style=", "<style", "onclick", "onload", "javascript:", "<script>"} {
		assert.NotContains(t, page, inline)
	}
}

// A browser keeps the files that a page refers to, and asks for others after an update.
func TestAssets(t *testing.T) {
	s := newSite(t)
	page, total := s.get("").Body.String(), 0
	for _, name := range []string{"style.css", "script.js", "favicon.svg"} {
		_, rest, ok := strings.Cut(page, `"`+name+"?v=")
		require.True(t, ok, name)
		version, _, _ := strings.Cut(rest, `"`)
		w := s.get(name + "?v=" + version)
		assert.Equal(t, http.StatusOK, w.Code)
		assert.Contains(t, w.Header().Get("Cache-Control"), "immutable")
		assert.Equal(t, "no-store", s.get(name+"?v=other").Header().Get("Cache-Control"))
		total += w.Body.Len()
	}
	t.Logf("script and style: %d bytes", total)
	assert.LessOrEqual(t, total, 40_000)
}

func TestBadInput(t *testing.T) {
	s := newSite(t, WithActions(allowed))
	s.start("a", park)
	for address, status := range map[string]int{
		"nope":                            http.StatusNotFound,
		"task?task=b":                     http.StatusNotFound,
		"task?task=a&task=b":              http.StatusNotFound,
		"task":                            http.StatusBadRequest,
		"task.json":                       http.StatusBadRequest,
		"task.txt?task=":                  http.StatusNotFound,
		"?page=0":                         http.StatusBadRequest,
		"?page=-1":                        http.StatusBadRequest,
		"?page=x":                         http.StatusBadRequest,
		"?page=99999999999999999999":      http.StatusBadRequest,
		"?page=9999999":                   http.StatusBadRequest,
		"?page=1000000&per=1000":          http.StatusNotFound,
		"?page=2":                         http.StatusNotFound,
		"?per=9":                          http.StatusBadRequest,
		"?per=1001":                       http.StatusBadRequest,
		"?sort=nope":                      http.StatusBadRequest,
		"?desc=yes":                       http.StatusBadRequest,
		"?state=nope":                     http.StatusBadRequest,
		"?q=%ff":                          http.StatusBadRequest,
		"?q=" + strings.Repeat("x", 1001): http.StatusBadRequest,
		"tasks.json?sort=nope":            http.StatusBadRequest,
		"tasks.txt?sort=nope":             http.StatusBadRequest,
		"live?rows=x":                     http.StatusBadRequest,
		"live?rows=AAAAAAAA&once=1":       http.StatusOK, // there is no such task any more
		"act":                             http.StatusMethodNotAllowed,
	} {
		w := s.get(address)
		assert.Equal(t, status, w.Code, "%s: %s", address, w.Body)
		if status != http.StatusOK {
			assert.Less(t, w.Body.Len(), 4000, address)
		}
	}
	long := make([]string, mostPerPage+1)
	for i := range long {
		long[i] = fmt.Sprintf("%08d", i)
	}
	assert.Equal(t, http.StatusBadRequest, s.get("live?rows="+strings.Join(long, "")).Code)

	// In the form that was asked for.
	assert.JSONEq(t, `{"error": "There is no task \"b\"; or it has ended, and was forgotten."}`, s.get("task.json?task=b").Body.String())
	assert.Equal(t, "There is no task \"b\"; or it has ended, and was forgotten.\n", s.get("task.txt?task=b").Body.String())
	assert.Contains(t, s.get("task?task=%3Cscript%3E").Body.String(), "&lt;script&gt;")

	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "ET", "PROPFIND"} {
		w := s.do(httptest.NewRequestWithContext(t.Context(), method, "/", nil))
		assert.Equal(t, http.StatusMethodNotAllowed, w.Code, method)
		assert.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
	}
	w := s.get("act")
	assert.Equal(t, "POST", w.Header().Get("Allow"))
	assert.Equal(t, http.StatusOK, s.do(httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/", nil)).Code)
}

func TestWithHosts(t *testing.T) {
	s := newSite(t, WithActions(allowed), WithHosts("LocalHost", "127.0.0.1", "[::1]"))
	task := s.start("a", park)
	for host, status := range map[string]int{
		"localhost": http.StatusOK, "localhost:8080": http.StatusOK, "LOCALHOST": http.StatusOK, "127.0.0.1:80": http.StatusOK,
		"[::1]:80": http.StatusOK, "[::1]": http.StatusOK,
		"evil.example": http.StatusMisdirectedRequest, "localhost.evil.example": http.StatusMisdirectedRequest,
		"": http.StatusMisdirectedRequest, "127.0.0.2": http.StatusMisdirectedRequest, "<script>": http.StatusMisdirectedRequest,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Host = host
		w := s.do(r)
		assert.Equal(t, status, w.Code, host)
		assert.NotEmpty(t, w.Header().Get("Content-Security-Policy"), host)
		if status != http.StatusOK {
			assert.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"), host)
		}
	}
	// A site whose name leads to this server: its pages are of the same origin as this one.
	r := postOf("act", actOn(ActionStop, "a"))
	r.Host = "evil.example"
	r.Header.Set("Origin", "http://evil.example")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	assert.Equal(t, http.StatusMisdirectedRequest, s.do(r).Code)
	assert.False(t, task.State().Ended())
}

// A name may have any character: pages lead to its task, and actions reach it.
func TestHostileNames(t *testing.T) {
	s := newSite(t, WithActions(allowed))
	for _, name := range hostileNames {
		s.start(name, taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask(name, park)
			return err
		}))
	}
	for _, name := range hostileNames {
		for _, path := range [][]string{{name, name}, {name}} { // a group begins anew with other tasks
			query := taskQuery(path) + "&stack=0"
			var before *taskmanager.Task
			s.waitFor(func() bool {
				task, ok := lookup(s.manager, path)
				before = task
				return ok && task.State() == taskmanager.StateRunning
			})
			page := s.get("task?" + query)
			require.Equal(t, http.StatusOK, page.Code, "%q", path)
			assert.NotContains(t, page.Body.String(), "<script>alert")
			assert.Equal(t, path, decode[struct{ Path []string }](t, s.get("task.json?"+query)).Path)
			assert.Equal(t, http.StatusOK, s.get("task.txt?"+query).Code)

			w := s.post(url.Values{"action": {"restart"}, "task": path, "from": {"task"}})
			require.Equal(t, http.StatusSeeOther, w.Code, "%q: %s", path, w.Body)
			assert.Equal(t, uint64(2), before.Stats().Runs)
			to := resolve(t, "/debug/tasks/act", w.Header().Get("Location"))
			assert.Equal(t, http.StatusOK, s.do(httptest.NewRequestWithContext(t.Context(), http.MethodGet, to+"&stack=0", nil)).Code)
		}
	}
	list := decode[struct{ Tasks []struct{ Path []string } }](t, s.get("tasks.json"))
	assert.Len(t, list.Tasks, 2*len(hostileNames))
	w := s.get("")
	assert.NotContains(t, w.Body.String(), "<script>alert")
	assert.NotContains(t, s.get("graph").Body.String(), "<script>alert")
	assert.True(t, slices.ContainsFunc(list.Tasks, func(task struct{ Path []string }) bool { return slices.Equal(task.Path, []string{"a/b", "a/b"}) }))
}

// waitFor waits for real, in tests that are not in a bubble.
func (s *site) waitFor(is func() bool) {
	s.t.Helper()
	require.Eventually(s.t, is, 10*time.Second, time.Millisecond)
}

func TestDefaultManager(t *testing.T) {
	m, err := taskmanager.New(taskmanager.WithName("the default"))
	require.NoError(t, err)
	h, err := New(nil)
	require.NoError(t, err)
	taskmanager.SetDefault(m)
	defer taskmanager.SetDefault(nil)
	_, err = taskmanager.StartTask("of the default", park)
	require.NoError(t, err)
	defer func() { _ = m.Shutdown(t.Context()) }()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	assert.Contains(t, w.Body.String(), "of the default")
}

// A Manager that New has not made, or that is shut down, has a page all the same.
func TestManagersOfNoUse(t *testing.T) {
	h, err := New(new(taskmanager.Manager))
	require.NoError(t, err)
	for _, address := range []string{"/", "/graph", "/tasks.json", "/tasks.txt", "/live"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, address, nil))
		assert.Equal(t, http.StatusOK, w.Code, address)
	}
	s := newSite(t, WithActions(allowed))
	s.start("a", park)
	require.NoError(t, s.manager.Shutdown(t.Context()))
	assert.Contains(t, s.get("").Body.String(), ">a</")
	assert.Equal(t, http.StatusConflict, s.post(actOn(ActionStart, "a")).Code)
}
