package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A site is a dashboard, and the Manager that it shows.
type site struct {
	t       *testing.T
	manager *taskmanager.Manager
	handler http.Handler
}

// newSite returns a site whose Manager is shut down at the end of the test.
func newSite(t *testing.T, opts ...Option) *site {
	t.Helper()
	s := newSiteOf(t, nil, opts...)
	return s
}

func newSiteOf(t *testing.T, managerOpts []taskmanager.Option, opts ...Option) *site {
	t.Helper()
	managerOpts = append([]taskmanager.Option{taskmanager.WithLogger(slog.New(slog.DiscardHandler))}, managerOpts...)
	m, err := taskmanager.New(managerOpts...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Shutdown(context.Background()) })
	h, err := New(m, opts...)
	require.NoError(t, err)
	return &site{t, m, h}
}

func (s *site) start(name string, body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) *taskmanager.Task {
	s.t.Helper()
	task, err := s.manager.StartTask(name, body, opts...)
	require.NoError(s.t, err)
	return task
}

func (s *site) dashboard() *dashboard { return s.handler.(*dashboard) }

// get asks for an address below that of the handler.
func (s *site) get(address string) *httptest.ResponseRecorder {
	return s.do(httptest.NewRequestWithContext(s.t.Context(), http.MethodGet, "/debug/tasks/"+address, nil))
}

func (s *site) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// post sends a form, as curl does: without any header by which a browser says whose page it is on.
func (s *site) post(form url.Values) *httptest.ResponseRecorder { return s.do(postOf("act", form)) }

func postOf(address string, form url.Values) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/debug/tasks/"+address, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// actOn is the form for an action on one task.
func actOn(action ActionName, path ...string) url.Values {
	return url.Values{"action": {string(action)}, "task": path}
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) (v T) {
	t.Helper()
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v), "%s", w.Body)
	return v
}

// allowed is a hook that allows everything.
func allowed(*http.Request, Action) error { return nil }

// park is a body that works until it is asked to stop.
func park(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

var errRefused = errors.New("connection refused")

// fail is a body that fails at once.
func fail(context.Context) error { return errRefused }

// held is a lease that is held at once, with token 7, and never lost.
type held string

func (l held) Name() string            { return string(l) }
func (held) Check(time.Duration) error { return nil }
func (held) Token() uint64             { return 7 }
func (held) Until() time.Time          { return time.Time{} }

func (held) Context() context.Context                                          { return context.Background() }
func (held) Release()                                                          {}
func (l held) Acquire(context.Context, func(string)) (taskmanager.Hold, error) { return l, nil }

// heldElsewhere is a lease that another replica holds.
type heldElsewhere string

func (l heldElsewhere) Name() string            { return string(l) }
func (heldElsewhere) Check(time.Duration) error { return nil }
func (l heldElsewhere) Acquire(ctx context.Context, waiting func(string)) (taskmanager.Hold, error) {
	waiting(fmt.Sprintf("waits for lease %q, held by %q", string(l), "pod-7"))
	<-ctx.Done()
	return nil, context.Cause(ctx)
}
