package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	neturl "net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/go-taskmanager/taskmanager"
)

// An endpoint is what one task watches.
type endpoint struct {
	name, url string
	mirrors   []endpoint // in place of a URL: a task for each, in a group
	opts      []taskmanager.TaskOption
}

// parseEndpoints makes each URL an endpoint, with the URL as its name.
func parseEndpoints(urls []string) ([]endpoint, error) {
	var endpoints []endpoint
	for _, s := range urls {
		u, err := neturl.Parse(s)
		if err != nil {
			return nil, err
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("%q is no URL of the form http://host/path", s)
		}
		endpoints = append(endpoints, endpoint{name: s, url: s})
	}
	return endpoints, nil
}

// A watcher polls endpoints.
type watcher struct {
	client *http.Client
	every  time.Duration
	log    *slog.Logger
}

func newWatcher(every time.Duration, log *slog.Logger) *watcher {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	return &watcher{
		client: &http.Client{Transport: transport, Timeout: 5 * time.Second},
		every:  every,
		log:    log,
	}
}

// watchAll returns the body of the task that watches an endpoint, or its mirrors.
func (w *watcher) watchAll(e endpoint) taskmanager.TaskFunc {
	if len(e.mirrors) == 0 {
		return w.watch(e.url)
	}
	return taskmanager.Group(func(m *taskmanager.Manager) error {
		for _, mirror := range e.mirrors {
			if _, err := m.StartTask(mirror.name, w.watch(mirror.url), mirror.opts...); err != nil {
				return err
			}
		}
		return nil
	})
}

// watch returns the body of the task that watches url. It has no loop around its errors and recovers from nothing: that
// is the Manager's business.
func (w *watcher) watch(url string) taskmanager.TaskFunc {
	var (
		polls    int
		answered uint64 // the latest run in which it has answered
	)
	return taskmanager.Every(w.every, func(ctx context.Context) error {
		answer, err := w.poll(ctx, url)
		if err != nil {
			return err // also when ctx is done: a task that was asked to stop has stopped, whatever it returns
		}
		polls++
		taskmanager.SetStatus(ctx, "%s; polls: %d", answer, polls)
		if t, ok := taskmanager.FromContext(ctx); ok && t.Stats().Runs != answered {
			answered = t.Stats().Runs
			w.log.Info("endpoint answers", "task", strings.Join(t.Path(), "/"), "run", answered, "answer", answer)
		}
		return nil
	})
}

// poll asks url once and returns what is to be said of the answer.
func (w *watcher) poll(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	start := time.Now()
	resp, err := w.client.Do(req)
	if err != nil {
		if e := (*neturl.Error)(nil); errors.As(err, &e) {
			err = e.Err // without the method and the URL, which all errors from here begin with
		}
		return "", fmt.Errorf("GET %s: %w", url, err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("GET %s: %w", url, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		err := fmt.Errorf("GET %s: %s", url, resp.Status)
		if resp.StatusCode == http.StatusGone {
			err = backoff.Permanent(err) // it is not asked again
		}
		return "", err
	}
	answer := fmt.Sprintf("%s, %d bytes in %v", resp.Status, n, time.Since(start).Round(10*time.Microsecond))
	if queue := resp.Header.Get("X-Queue"); queue != "" {
		// This has a bug, on purpose. It expects "length=12". The demo's /panicking sends a mere "length" now and then.
		answer += ", queue of " + strings.Split(queue, "=")[1]
	}
	return answer, nil
}

// startDemo starts the demo server, as a task of m, and returns its endpoints.
func startDemo(ctx context.Context, m *taskmanager.Manager) ([]endpoint, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	// Nobody listens where somebody has just ceased to.
	closed, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	if err = closed.Close(); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	const server = "demo-server"
	// The listener can't be used a second time, so another run would make no sense.
	_, err = m.StartTask(server, serve(listener, demo()), taskmanager.WithRestart(taskmanager.RestartNever))
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	base := "http://" + listener.Addr().String()
	served := []taskmanager.TaskOption{taskmanager.WithDependsOn(server)} // stops before the server does
	mirrors := []endpoint{{name: "fra", url: base + "/healthy"}, {name: "ams", url: base + "/healthy"}}
	return []endpoint{
		{name: "healthy", url: base + "/healthy", opts: served},
		{name: "recovering", url: base + "/recovering", opts: served},
		{name: "panicking", url: base + "/panicking", opts: served},
		{name: "mirrors", mirrors: mirrors, opts: served},
		{name: "down", url: "http://" + closed.Addr().String() + "/"},
	}, nil
}

// demo returns the handler of the demo server.
func demo() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthy", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "I am well.")
	})
	var recovering, panicking atomic.Int64
	mux.HandleFunc("/recovering", func(w http.ResponseWriter, _ *http.Request) {
		if recovering.Add(1) <= 3 {
			http.Error(w, "Not yet.", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "I am well again.")
	})
	mux.HandleFunc("/panicking", func(w http.ResponseWriter, _ *http.Request) {
		queue := "length=12"
		if panicking.Add(1)%20 == 3 { // rarely enough to be restarted for ever
			queue = "length"
		}
		w.Header().Set("X-Queue", queue)
		fmt.Fprintln(w, "I am well, and say so in a way that you did not expect.")
	})
	return mux
}

// serve returns the body of a task that serves handler on listener.
func serve(listener net.Listener, handler http.Handler) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
		context.AfterFunc(ctx, func() { _ = server.Close() })
		taskmanager.SetStatus(ctx, "http://%s", listener.Addr())
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}
