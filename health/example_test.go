package health_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/health"
)

// A service whose gateway is not ready yet: alive, and not to be given work.
func Example() {
	m, _ := taskmanager.New()
	mux := http.NewServeMux()
	mux.Handle("/healthz", health.Live(m))
	mux.Handle("/readyz", health.Ready(m))

	connecting := make(chan struct{})
	_, _ = m.StartTask("gateway", func(ctx context.Context) error {
		close(connecting)
		<-ctx.Done()
		return nil
	}, taskmanager.WithReadiness(time.Minute))
	<-connecting

	for _, path := range []string{"/healthz", "/readyz"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, http.NoBody))
		fmt.Print(w.Code, " ", w.Body)
	}
	_ = m.Shutdown(context.Background())
	// Output:
	// 200 {"state":"degraded","ready":false,"problems":[{"task":"gateway","state":"running","reason":"not ready"}]}
	// 503 {"state":"degraded","ready":false,"problems":[{"task":"gateway","state":"running","reason":"not ready"}]}
}

// Readiness is asked of what requests need, and not of each consumer.
func ExampleOnly() {
	m, _ := taskmanager.New()
	ready := health.Ready(m, health.Only("http"))

	entered := make(chan struct{})
	_, _ = m.StartTask("http", func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		return nil
	})
	_, _ = m.StartTask("partition 7", func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}, taskmanager.WithReadiness(time.Minute)) // and it is not ready
	<-entered

	w := httptest.NewRecorder()
	ready.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/readyz", http.NoBody))
	fmt.Print(w.Code, " ", w.Body)
	_ = m.Shutdown(context.Background())
	// Output:
	// 200 {"state":"ok","ready":true}
}
