// Package health serves how the tasks of a Manager are over HTTP, for probes and for people.
//
//	mux.Handle("/healthz", health.Live(m))
//	mux.Handle("/readyz", health.Ready(m, health.Only("http", "consumer")))
//
// Both answer GET and HEAD with the JSON of [taskmanager.Health]: a hundred problems at most, the
// worst first, and how many more there are. They quote no errors.
//
// In Kubernetes, Live is for the livenessProbe, which restarts the container: it says that no task
// of this process can help any more, and nothing of tasks that fail and are restarted. Ready is for
// the readinessProbe, which takes the pod out of service while it fails. Give it the tasks without
// which no request can be served: without [Only], each one that has to be ready is asked, and one
// partition of 200 that is not takes the pod out.
package health

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/go-taskmanager/taskmanager"
)

// Live answers 200 OK, and 503 Service Unavailable if the Manager is failing: a critical task is
// gone or stuck, and the process should be replaced. While it is shut down it is alive. A nil m is
// for the default Manager.
func Live(m *taskmanager.Manager) http.Handler {
	return handler(func() (taskmanager.Health, bool) {
		h := managerOr(m).Health()
		return h, h.State != taskmanager.HealthFailing
	})
}

// Ready answers 200 OK if the Manager is open, no critical task is gone, and all tasks that have to
// be ready are (see [taskmanager.Health]), and 503 Service Unavailable otherwise: from the moment on
// at which the Manager is shut down, too. Only has it ask fewer. A nil m is for the default Manager.
func Ready(m *taskmanager.Manager, opts ...Option) http.Handler {
	var c config
	for _, o := range opts {
		if o != nil {
			o.apply(&c)
		}
	}
	return handler(func() (taskmanager.Health, bool) {
		var h taskmanager.Health
		if c.limited {
			h = managerOr(m).HealthOf(c.only...)
		} else {
			h = managerOr(m).Health()
		}
		return h, h.Ready
	})
}

// An Option is for Ready.
type Option interface{ apply(*config) }

type config struct {
	limited bool
	only    []string
}

type option func(*config)

func (o option) apply(c *config) { o(c) }

// Only has Ready ask the tasks of those names alone, those of a Group by "group/task", as
// [taskmanager.Manager.HealthOf] does: each of them has to run and be ready, or to have completed. A
// name that no task has is not ready, and the answer says so. The answer is about them alone. Given
// twice, it is for the names of both; without names, Ready asks nobody but whether the Manager is open.
func Only(tasks ...string) Option {
	tasks = slices.Clone(tasks)
	return option(func(c *config) { c.limited, c.only = true, append(c.only, tasks...) })
}

func managerOr(m *taskmanager.Manager) *taskmanager.Manager {
	if m == nil {
		return taskmanager.Default()
	}
	return m
}

// handler serves what look returns, and whether that is well.
func handler(look func() (h taskmanager.Health, well bool)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		h, well := look()
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !well {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(h) // the client has gone, perhaps
	})
}
