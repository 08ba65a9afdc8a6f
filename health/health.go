// Package health serves how the tasks of a Manager are over HTTP, for probes and for people.
//
//	mux.Handle("/healthz", health.Live(m))
//	mux.Handle("/readyz", health.Ready(m))
//
// Both answer GET and HEAD with the JSON of [taskmanager.Health].
package health

import (
	"encoding/json"
	"net/http"

	"github.com/go-taskmanager/taskmanager"
)

// Live answers 200 OK, and 503 Service Unavailable if the Manager is failing: a critical task is
// gone or stuck, and the process should be replaced. A nil m is for the default Manager.
func Live(m *taskmanager.Manager) http.Handler {
	return handler(m, func(h taskmanager.Health) bool { return h.State != taskmanager.HealthFailing })
}

// Ready answers 200 OK if the Manager is open and all of its tasks that have to be ready are, and
// 503 Service Unavailable until then. A nil m is for the default Manager.
func Ready(m *taskmanager.Manager) http.Handler {
	return handler(m, func(h taskmanager.Health) bool { return h.Ready })
}

func handler(m *taskmanager.Manager, well func(taskmanager.Health) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		from := m
		if from == nil {
			from = taskmanager.Default()
		}
		h := from.Health()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !well(h) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(h) // the client has gone, perhaps
	})
}
