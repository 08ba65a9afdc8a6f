package kubelease

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An apiServer is as much of a Kubernetes API server as this package uses: Lease objects of one namespace, over HTTP/2 and TLS.
type apiServer struct {
	t      testing.TB
	server *httptest.Server
	token  string // which each request must have
	verbs  string // of RBAC, separated by spaces

	mu        sync.Mutex // guards the following
	version   int
	objects   map[string]object
	events    []apiEvent
	more      chan struct{} // closed at the next event
	requests  []string      // verb and name of each
	total     int           // connections that were opened
	open      int           // and are
	intercept func(w http.ResponseWriter, r *http.Request, verb, name string) (answered bool)
}

type apiEvent struct {
	version  int
	old, new *object // nil: there was none, there is none
}

const testNamespace = "jobs"

func newAPIServer(t testing.TB) *apiServer {
	a := &apiServer{
		t: t, token: "secret-token", verbs: "get list watch create update delete",
		objects: map[string]object{}, more: make(chan struct{}), version: 1000,
	}
	a.server = httptest.NewUnstartedServer(a)
	a.server.EnableHTTP2 = true
	a.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		a.mu.Lock()
		defer a.mu.Unlock()
		switch s {
		case http.StateNew:
			a.open++
			a.total++
		case http.StateClosed:
			a.open--
		}
	}
	a.server.StartTLS()
	t.Cleanup(a.server.Close)
	return a
}

func (a *apiServer) config() Config {
	roots := x509.NewCertPool()
	roots.AddCert(a.server.Certificate())
	return Config{
		Host: a.server.URL, Namespace: testNamespace, Token: a.token,
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
	}
}

// store returns a store on the server, which is idle when the test ends.
func (a *apiServer) store() *store {
	s, err := newStore(a.config(), "pool")
	require.NoError(a.t, err)
	a.t.Cleanup(s.Idle)
	return s
}

// onRequest has f see each request before it is served.
func (a *apiServer) onRequest(f func(w http.ResponseWriter, r *http.Request, verb, name string) (answered bool)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.intercept = f
}

// sent returns the requests since the last call, each as verb and name.
func (a *apiServer) sent() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer func() { a.requests = nil }()
	return a.requests
}

// opened returns how many connections the server has accepted.
func (a *apiServer) opened() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.total
}

// allClosed tells whether none of them is left.
func (a *apiServer) allClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open == 0
}

// object returns a copy of an object; ok is false if there is none.
func (a *apiServer) object(name string) (o object, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o, ok = a.objects[name]
	return cloned(o), ok
}

// put has an object written by somebody else.
func (a *apiServer) put(o object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writeLocked(o)
}

// delete has an object deleted by somebody else.
func (a *apiServer) delete(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deleteLocked(name)
}

func (a *apiServer) writeLocked(o object) object {
	o = cloned(o)
	a.version++
	o.Metadata.ResourceVersion = strconv.Itoa(a.version)
	event := apiEvent{version: a.version, new: &o}
	if old, ok := a.objects[o.Metadata.Name]; ok {
		event.old = &old
		o.Metadata.UID = old.Metadata.UID
	} else {
		o.Metadata.UID = fmt.Sprintf("uid-%d", a.version)
	}
	a.objects[o.Metadata.Name] = o
	a.emitLocked(event)
	return o
}

func (a *apiServer) deleteLocked(name string) {
	if old, ok := a.objects[name]; ok {
		a.version++
		delete(a.objects, name)
		a.emitLocked(apiEvent{version: a.version, old: &old})
	}
}

func (a *apiServer) emitLocked(e apiEvent) {
	a.events = append(a.events, e)
	close(a.more)
	a.more = make(chan struct{})
}

func cloned(o object) object {
	o.Metadata.Labels, o.Metadata.Annotations = maps.Clone(o.Metadata.Labels), maps.Clone(o.Metadata.Annotations)
	return o
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	base, name := "/apis/coordination.k8s.io/v1/namespaces/"+testNamespace+"/leases", ""
	if rest, ok := strings.CutPrefix(r.URL.Path, base+"/"); ok {
		name = rest
	} else if r.URL.Path != base {
		writeStatus(w, status{Code: http.StatusNotFound, Reason: "NotFound", Message: `namespaces "x" not found`}, "namespaces")
		return
	}
	verb := map[string]string{"GET": "get", "POST": "create", "PUT": "update", "DELETE": "delete"}[r.Method]
	switch {
	case r.URL.Query().Get("watch") != "":
		verb = "watch"
	case verb == "get" && name == "":
		verb = "list"
	case verb == "delete" && name == "":
		verb = "deletecollection"
	}
	assert.Equal(a.t, 2, r.ProtoMajor, "HTTP/2")
	a.mu.Lock()
	a.requests = append(a.requests, strings.TrimSpace(verb+" "+name))
	intercept := a.intercept
	token, verbs := a.token, a.verbs
	a.mu.Unlock()
	if intercept != nil && intercept(w, r, verb, name) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+token {
		writeStatus(w, status{Code: http.StatusUnauthorized, Reason: "Unauthorized", Message: "Unauthorized"}, "")
		return
	}
	if !slices.Contains(strings.Fields(verbs), verb) {
		writeStatus(w, status{Code: http.StatusForbidden, Reason: "Forbidden", Message: fmt.Sprintf(
			`leases.coordination.k8s.io %q is forbidden: User "u" cannot %s resource "leases" in API group "coordination.k8s.io" in the `+
				`namespace %q`, name, verb, testNamespace)}, "leases")
		return
	}
	switch verb {
	case "get":
		if o, ok := a.object(name); ok {
			writeJSON(w, http.StatusOK, o)
		} else {
			writeStatus(w, noSuchObject(name), "leases")
		}
	case "list":
		a.list(w, r)
	case "watch":
		a.watch(w, r)
	case "create", "update":
		a.write(w, r, verb, name)
	case "delete":
		a.remove(w, r, name)
	}
}

func (a *apiServer) list(w http.ResponseWriter, r *http.Request) {
	assert.Empty(a.t, r.URL.Query().Get("resourceVersion"), "reads see all that is confirmed")
	a.mu.Lock()
	defer a.mu.Unlock()
	l := list{Kind: "LeaseList", Items: []object{}}
	l.Metadata.ResourceVersion = strconv.Itoa(a.version)
	for _, o := range a.objects {
		if matches(&o, r) {
			o = cloned(o)
			o.Kind, o.APIVersion = "", ""
			l.Items = append(l.Items, o)
		}
	}
	slices.SortFunc(l.Items, func(a, b object) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	if limit, err := strconv.Atoi(r.URL.Query().Get("limit")); err == nil && len(l.Items) > limit {
		l.Items, l.Metadata.Continue = l.Items[:limit], "more"
	}
	writeJSON(w, http.StatusOK, l)
}

func (a *apiServer) write(w http.ResponseWriter, r *http.Request, verb, name string) {
	var o object
	require.NoError(a.t, json.NewDecoder(r.Body).Decode(&o))
	a.mu.Lock()
	defer a.mu.Unlock()
	old, ok := a.objects[o.Metadata.Name]
	switch {
	case verb == "create" && ok:
		writeStatus(w, status{Code: http.StatusConflict, Reason: "AlreadyExists", Message: "already exists"}, "leases")
	case verb == "create":
		writeJSON(w, http.StatusCreated, a.writeLocked(o))
	case o.Metadata.Name != name:
		writeStatus(w, status{Code: http.StatusBadRequest, Reason: "BadRequest", Message: "another name"}, "leases")
	case o.Metadata.UID != "" && o.Metadata.UID != old.Metadata.UID:
		writeStatus(w, status{Code: http.StatusConflict, Reason: "Conflict", Message: "Precondition failed: UID"}, "leases")
	case !ok: // Leases are created by an update
		writeJSON(w, http.StatusCreated, a.writeLocked(o))
	case o.Metadata.ResourceVersion != old.Metadata.ResourceVersion:
		writeStatus(w, status{Code: http.StatusConflict, Reason: "Conflict", Message: "the object has been modified"}, "leases")
	default:
		writeJSON(w, http.StatusOK, a.writeLocked(o))
	}
}

func (a *apiServer) remove(w http.ResponseWriter, r *http.Request, name string) {
	var options deleteOptions
	require.NoError(a.t, json.NewDecoder(r.Body).Decode(&options))
	a.mu.Lock()
	defer a.mu.Unlock()
	old, ok := a.objects[name]
	p := options.Preconditions
	switch {
	case !ok:
		writeStatus(w, noSuchObject(name), "leases")
	case p != nil && (p.UID != old.Metadata.UID || p.ResourceVersion != old.Metadata.ResourceVersion):
		writeStatus(w, status{Code: http.StatusConflict, Reason: "Conflict", Message: "Precondition failed"}, "leases")
	default:
		a.deleteLocked(name)
		writeJSON(w, http.StatusOK, map[string]string{"kind": "Status", "status": "Success"})
	}
}

func (a *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	assert.NoError(a.t, err)
	w.WriteHeader(http.StatusOK)
	for next := 0; ; {
		w.(http.Flusher).Flush()
		a.mu.Lock()
		events, more := a.events[next:], a.more
		a.mu.Unlock()
		next += len(events)
		for _, e := range events {
			if e.version <= from {
				continue
			}
			before, after := e.old != nil && matches(e.old, r), e.new != nil && matches(e.new, r)
			switch {
			case before && after:
				writeEvent(w, "MODIFIED", *e.new)
			case after:
				writeEvent(w, "ADDED", *e.new)
			case before:
				writeEvent(w, "DELETED", *e.old)
			}
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

func writeEvent(w http.ResponseWriter, kind string, o any) {
	_ = json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": o})
}

func matches(o *object, r *http.Request) bool {
	for term := range strings.SplitSeq(r.URL.Query().Get("labelSelector"), ",") {
		label, value, _ := strings.Cut(term, "=")
		if got, ok := o.Metadata.Labels[label]; !ok || got != value {
			return false
		}
	}
	return true
}

func noSuchObject(name string) status {
	return status{Code: http.StatusNotFound, Reason: "NotFound", Message: fmt.Sprintf("leases.coordination.k8s.io %q not found", name)}
}

func writeStatus(w http.ResponseWriter, s status, kind string) {
	s.Kind, s.Details.Kind = "Status", kind
	writeJSON(w, s.Code, s)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}
