package dashboard_test

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/dashboard"
)

// work is a body that works until it is asked to stop.
func work(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// The pages are served below a path of their own. What people read there, a program can read as JSON.
func Example() {
	m, _ := taskmanager.New()
	_, _ = m.StartTask("feed", work)
	_, _ = m.StartTask("prices", work, taskmanager.WithDependsOn("feed"))

	tasks, err := dashboard.New(m)
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/tasks/", tasks)

	w := httptest.NewRecorder() // in earnest, an http.Server that is reached by those alone who may see it
	mux.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/debug/tasks/tasks.json?q=price", http.NoBody))
	var list struct {
		Tasks []struct{ Path []string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		fmt.Println(err)
		return
	}
	for _, task := range list.Tasks {
		fmt.Println(task.Path)
	}
	_ = m.Shutdown(context.Background())
	// Output:
	// [prices]
}

// Whoever knows the password sees the tasks, and may restart one. To do anything else is for alice. The log and the history say who it was.
func ExampleWithActions() {
	m, _ := taskmanager.New()
	importer, _ := m.StartTask("importer", work)
	_ = importer.WaitReady(context.Background())

	user := func(r *http.Request) string {
		name, _, _ := r.BasicAuth()
		return name
	}
	tasks, err := dashboard.New(m,
		dashboard.WithUser(user),
		dashboard.WithActions(func(r *http.Request, a dashboard.Action) error {
			if a.Name == dashboard.ActionRestart || user(r) == "alice" {
				return nil
			}
			return errors.New("ask alice")
		}),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	// It comes first, for pages, pictures, streams and actions alike.
	authenticated := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(password), []byte("open sesame")) == 0 {
			w.Header().Set("WWW-Authenticate", `Basic realm="tasks"`)
			http.Error(w, "Who are you?", http.StatusUnauthorized)
			return
		}
		tasks.ServeHTTP(w, r)
	})

	do := func(user, password string, action dashboard.ActionName) {
		form := url.Values{"action": {string(action)}, "task": {"importer"}}
		r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "/debug/tasks/act", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth(user, password)
		w := httptest.NewRecorder()
		authenticated.ServeHTTP(w, r)
		fmt.Println(user, action, w.Code)
	}
	do("mallory", "guess", dashboard.ActionStop)
	do("bob", "open sesame", dashboard.ActionStop)
	do("bob", "open sesame", dashboard.ActionRestart)
	do("alice", "open sesame", dashboard.ActionStop)

	for _, e := range importer.History() {
		if e.Kind == taskmanager.EventStopped {
			fmt.Println(e.By, e.Cause)
		}
	}
	_ = m.Shutdown(context.Background())
	// Output:
	// mallory stop 401
	// bob stop 403
	// bob restart 303
	// alice stop 303
	// bob taskmanager: task was restarted by hand
	// alice taskmanager: task was stopped by hand
}
