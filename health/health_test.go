package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newManager(t *testing.T) *taskmanager.Manager {
	t.Helper()
	m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)), taskmanager.WithRestart(taskmanager.RestartNever))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Shutdown(context.Background())) })
	return m
}

func request(h http.Handler, method string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), method, "/", http.NoBody))
	return w
}

func end(t *testing.T, m *taskmanager.Manager, name string, opts ...taskmanager.TaskOption) {
	t.Helper()
	task, err := m.StartTask(name, func(context.Context) error { return errors.New("secret") }, opts...)
	require.NoError(t, err)
	require.Error(t, task.Wait(t.Context()))
}

func TestStatus(t *testing.T) {
	m := newManager(t)
	statuses := func() [2]int {
		return [2]int{request(health.Live(m), http.MethodGet).Code, request(health.Ready(m), http.MethodGet).Code}
	}
	assert.Equal(t, [2]int{200, 200}, statuses(), "ok")
	end(t, m, "a")
	assert.Equal(t, [2]int{200, 200}, statuses(), "degraded, and nobody who has to be ready isn't")
	ready := make(chan struct{})
	said := make(chan struct{})
	_, err := m.StartTask("b", func(ctx context.Context) error {
		<-ready
		taskmanager.Ready(ctx)
		close(said)
		<-ctx.Done()
		return nil
	}, taskmanager.WithReadiness(1<<62))
	require.NoError(t, err)
	assert.Equal(t, [2]int{200, 503}, statuses(), "not ready")
	close(ready)
	<-said
	assert.Equal(t, [2]int{200, 200}, statuses(), "ready")
	end(t, m, "c", taskmanager.WithCritical())
	assert.Equal(t, [2]int{503, 503}, statuses(), "failing")
}

func TestBody(t *testing.T) {
	m := newManager(t)
	end(t, m, "a")
	w := request(health.Ready(m), http.MethodGet)
	assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	want, err := json.Marshal(m.Health())
	require.NoError(t, err)
	assert.JSONEq(t, string(want), w.Body.String())
	assert.NotContains(t, w.Body.String(), "secret", "errors are not for everybody")
}

func TestMethods(t *testing.T) {
	m := newManager(t)
	assert.Equal(t, 200, request(health.Live(m), http.MethodHead).Code)
	w := request(health.Live(m), http.MethodPost)
	assert.Equal(t, 405, w.Code)
	assert.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
}

func TestDefaultManager(t *testing.T) {
	m := newManager(t)
	live, ready, only := health.Live(nil), health.Ready(nil), health.Ready(nil, health.Only("a"))
	taskmanager.SetDefault(m)
	defer taskmanager.SetDefault(nil)
	end(t, m, "a", taskmanager.WithCritical())
	for _, h := range []http.Handler{live, ready, only} {
		w := request(h, http.MethodGet)
		assert.Equal(t, 503, w.Code)
		assert.Contains(t, w.Body.String(), "given up")
	}
}

func park(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func TestOnly(t *testing.T) {
	m := newManager(t)
	for name, opts := range map[string][]taskmanager.TaskOption{"http": nil, "partition": {taskmanager.WithReadiness(1 << 62)}} {
		entered := make(chan struct{})
		_, err := m.StartTask(name, func(ctx context.Context) error { close(entered); return park(ctx) }, opts...)
		require.NoError(t, err)
		<-entered
	}
	inner := make(chan struct{})
	group, err := m.StartTask("g", taskmanager.Group(func(g *taskmanager.Manager) error {
		_, err := g.StartTask("consumer", func(ctx context.Context) error { close(inner); return park(ctx) })
		return err
	}))
	require.NoError(t, err)
	<-inner
	for _, test := range []struct {
		opts []health.Option
		code int
		body string
	}{
		{nil, 503, `{"state":"degraded","ready":false,"problems":[{"task":"partition","state":"running","reason":"not ready"}]}`},
		{[]health.Option{health.Only("http")}, 200, `{"state":"ok","ready":true}`},
		{[]health.Option{nil, health.Only("http"), health.Only("g/consumer")}, 200, `{"state":"ok","ready":true}`},
		{[]health.Option{health.Only()}, 200, `{"state":"ok","ready":true}`},
		{
			[]health.Option{health.Only("http"), health.Only("partition")},
			503,
			`{"state":"degraded","ready":false,"problems":[{"task":"partition","state":"running","reason":"not ready"}]}`,
		},
		{
			[]health.Option{health.Only("htpp")},
			503,
			`{"state":"degraded","ready":false,"problems":[{"task":"htpp","state":"waiting","reason":"not ready","detail":"no task has this name"}]}`,
		},
	} {
		w := request(health.Ready(m, test.opts...), http.MethodGet)
		assert.Equal(t, test.code, w.Code)
		assert.JSONEq(t, test.body, w.Body.String())
	}
	require.NoError(t, group.Stop(t.Context()))
	assert.Equal(t, 503, request(health.Ready(m, health.Only("g/consumer")), http.MethodGet).Code)
	require.NoError(t, m.Shutdown(t.Context()))
	assert.Equal(t, 503, request(health.Ready(m, health.Only()), http.MethodGet).Code)
	assert.Equal(t, 200, request(health.Live(m), http.MethodGet).Code)
}

// The names are those at the call.
func TestOnlyCopiesItsNames(t *testing.T) {
	m := newManager(t)
	names := []string{"nobody"}
	h := health.Ready(m, health.Only(names...))
	end(t, m, "a")
	names[0] = "a"
	assert.Contains(t, request(h, http.MethodGet).Body.String(), "nobody")
}

// However many tasks are not ready, an answer is short.
func TestAnswersAreBounded(t *testing.T) {
	m := newManager(t)
	const n = 5000
	var entered sync.WaitGroup
	entered.Add(n)
	for i := range n {
		_, err := m.StartTask("consumer of partition "+strconv.Itoa(i), func(ctx context.Context) error {
			entered.Done()
			return park(ctx)
		}, taskmanager.WithReadiness(1<<62))
		require.NoError(t, err)
	}
	entered.Wait()
	for _, h := range []http.Handler{health.Live(m), health.Ready(m)} {
		body := request(h, http.MethodGet).Body
		assert.Less(t, body.Len(), 10_000)
		var counts struct {
			Omitted int `json:"problems_omitted"`
		}
		require.NoError(t, json.Unmarshal(body.Bytes(), &counts))
		assert.Equal(t, n-100, counts.Omitted)
	}
}
