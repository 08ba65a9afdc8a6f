package browsertest_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/dashboard"
)

// newManager returns a Manager that logs nothing, and is shut down when the test ends.
func newManager(t *testing.T, opts ...taskmanager.Option) *taskmanager.Manager {
	t.Helper()
	m, err := taskmanager.New(append([]taskmanager.Option{taskmanager.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { shutDown(t, m) })
	return m
}

func shutDown(t *testing.T, m *taskmanager.Manager) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, m.Shutdown(ctx))
}

// start starts a task.
func start(t *testing.T, m *taskmanager.Manager, name string, body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) *taskmanager.Task {
	t.Helper()
	task, err := m.StartTask(name, body, opts...)
	require.NoError(t, err)
	return task
}

// idle is a body that waits to be stopped.
func idle(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// says makes an idle body with a status.
func says(status string) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		taskmanager.SetStatus(ctx, "%s", status)
		return idle(ctx)
	}
}

// fails makes a body that fails at once.
func fails(text string) taskmanager.TaskFunc {
	return func(context.Context) error { return errors.New(text) }
}

// startDeaf starts a task that does not look at its context, and ends it before its Manager is shut down.
func startDeaf(t *testing.T, m *taskmanager.Manager, name string) *taskmanager.Task {
	t.Helper()
	end := make(chan struct{})
	task := start(t, m, name, func(context.Context) error {
		<-end
		return nil
	}, taskmanager.WithStopTimeout(time.Millisecond))
	t.Cleanup(func() {
		close(end)
		<-task.Done()
	})
	return task
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, time.Millisecond, what)
}

func waitForState(t *testing.T, task *taskmanager.Task, state taskmanager.State) {
	t.Helper()
	waitFor(t, task.Name()+" is "+state.String(), func() bool { return task.State() == state })
}

// newService returns a Manager with a task in each state, all of which stay as they are.
func newService(t *testing.T) *taskmanager.Manager {
	t.Helper()
	m := newManager(t, taskmanager.WithName("orders"), taskmanager.WithBackoff(time.Hour, time.Hour))
	start(t, m, "database", says("12 of 20 connections"))
	start(t, m, "http", func(ctx context.Context) error {
		taskmanager.SetStatus(ctx, "listening on :8080")
		taskmanager.Ready(ctx)
		return idle(ctx)
	}, taskmanager.WithDependsOn("database"), taskmanager.WithReadiness(time.Hour), taskmanager.WithCritical())
	consumer := start(t, m, "consumer", fails("dial tcp 10.0.3.7:5672: connect: connection refused"), taskmanager.WithDependsOn("database"))
	importer := start(t, m, "importer", func(context.Context) error {
		return errors.New(nth(3, "id", "name", "price"))
	}, taskmanager.WithMaxRestarts(0))
	waitForState(t, importer, taskmanager.StateFailed)
	invoices := start(t, m, "invoices", idle, taskmanager.WithDependsOn("importer"))
	mailer := start(t, m, "mailer", idle)
	stuck := startDeaf(t, m, "legacy")
	migrate := start(t, m, "migrate", func(context.Context) error { return nil })
	old := start(t, m, "old", idle)
	prices := start(t, m, "prices", taskmanager.Every(time.Hour, func(ctx context.Context) error {
		taskmanager.SetStatus(ctx, "142 prices")
		return nil
	}))
	partitions := start(t, m, "partitions", taskmanager.Group(func(g *taskmanager.Manager) error {
		for _, name := range []string{"0", "1", "2"} {
			if _, err := g.StartTask(name, says("lag 3")); err != nil {
				return err
			}
		}
		_, err := g.StartTask("3", fails("lag too large"))
		return err
	}, taskmanager.WithBackoff(time.Hour, time.Hour)))
	for _, task := range []*taskmanager.Task{mailer, old, stuck} {
		waitForState(t, task, taskmanager.StateRunning)
	}
	require.NoError(t, m.PauseTask(t.Context(), "mailer"))
	require.NoError(t, m.StopTask(t.Context(), "old"))
	require.Error(t, m.StopTask(t.Context(), "legacy"))
	for task, state := range map[*taskmanager.Task]taskmanager.State{
		consumer: taskmanager.StateBackoff, invoices: taskmanager.StateWaiting,
		mailer: taskmanager.StatePaused, stuck: taskmanager.StateStuck, migrate: taskmanager.StateCompleted, old: taskmanager.StateStopped,
	} {
		waitForState(t, task, state)
	}
	waitFor(t, "the first pass", func() bool { p := prices.Stats().Passes; return p != nil && !p.LastSuccess.IsZero() })
	waitFor(t, "the group", func() bool {
		g := partitions.Group()
		return g != nil && g.Totals().Backoff == 1
	})
	return m
}

func nth(n int, rows ...string) string { return rows[n] }

// everybody may do everything.
func everybody(*http.Request, dashboard.Action) error { return nil }

// newHandler returns a dashboard with which everybody may do everything, unless the options say something else.
func newHandler(t *testing.T, m *taskmanager.Manager, opts ...dashboard.Option) http.Handler {
	t.Helper()
	h, err := dashboard.New(m, append([]dashboard.Option{dashboard.WithActions(everybody)}, opts...)...)
	require.NoError(t, err)
	return h
}

// A site is a server on loopback with a dashboard, and what is seen there of its visitors.
type site struct {
	server *httptest.Server
	url    string       // of the list
	open   atomic.Int32 // streams
	posts  atomic.Int32
}

const prefix = "/debug/tasks/"

// newSite serves a handler below the prefix, until the test ends.
func newSite(t *testing.T, h http.Handler) *site {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(prefix, h)
	return serve(t, mux, prefix)
}

// serve serves a handler whose dashboard is below a prefix, until the test ends.
func serve(t *testing.T, h http.Handler, prefix string) *site {
	t.Helper()
	s := new(site)
	s.server = httptest.NewServer(s.watch(h))
	s.url = s.server.URL + prefix
	t.Cleanup(s.server.Close)
	return s
}

func (s *site) watch(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			s.posts.Add(1)
		}
		if strings.HasSuffix(r.URL.Path, "/live") {
			s.open.Add(1)
			defer s.open.Add(-1)
		}
		h.ServeHTTP(w, r)
	})
}

// port is that of the server's address.
func (s *site) port() string { return s.server.URL[strings.LastIndexByte(s.server.URL, ':')+1:] }
