package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
	h := health.Live(nil)
	taskmanager.SetDefault(m)
	defer taskmanager.SetDefault(nil)
	end(t, m, "a", taskmanager.WithCritical())
	assert.Equal(t, 503, request(h, http.MethodGet).Code)
}
