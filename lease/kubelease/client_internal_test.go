package kubelease

import (
	"context"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
)

// call does what needs the verb first.
func call(t *testing.T, s *store, id, verb string) error {
	var err error
	switch verb {
	case "get":
		_, err = s.Claim(t.Context(), id, []string{"job"})
	case "list":
		_, err = s.Beat(t.Context(), id, nil)
	case "watch":
		err = s.Watch(t.Context(), func() { assert.Fail(t, "it watches") })
	case "create":
		_, err = s.Join(t.Context(), "pod-2")
	case "update":
		_, err = s.Beat(t.Context(), id, nil)
	case "delete":
		err = s.Leave(t.Context(), id)
	}
	return err
}

func TestErrorNamesTheRuleThatIsMissing(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	id := join(t, s, "pod-1")
	all := a.verbs
	for verb := range strings.FieldsSeq(all) {
		a.mu.Lock()
		a.verbs = strings.ReplaceAll(all, verb, "")
		a.mu.Unlock()
		err := call(t, s, id, verb)
		require.ErrorContains(t, err, `not allowed: there is no RBAC rule for verb "`+verb+`" on resource "leases" of API group `+
			`"coordination.k8s.io" in namespace "jobs"; kubelease.RBAC has a Role with it (403: `)
		assert.Contains(t, RBAC, `"`+verb+`"`)
	}
}

func TestErrors(t *testing.T) {
	answer := func(code int, text string) func(http.ResponseWriter, *http.Request, string, string) bool {
		return func(w http.ResponseWriter, _ *http.Request, _, _ string) bool {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(text))
			return true
		}
	}
	noServer := "is not a Kubernetes API server that has coordination.k8s.io/v1 (404: Not Found)"
	for _, c := range []struct {
		name   string
		verb   string
		answer func(http.ResponseWriter, *http.Request, string, string) bool
		config func(cfg *Config)
		want   string
	}{
		{"token", "list", nil, func(cfg *Config) { cfg.Token = "other-secret-token" }, "does not accept the token (401: Unauthorized)"},
		{"no token", "list", nil, func(cfg *Config) { cfg.Token = "" }, "wants a token, and there is none (401: Unauthorized)"},
		{"namespace", "create", nil, func(cfg *Config) { cfg.Namespace = "x" }, `there is no namespace "x" (404: namespaces "x" not found)`},
		{"terminating", "create", answer(403, `{"kind":"Status","code":403,"reason":"Forbidden","message":"unable to create new content",`+
			`"details":{"causes":[{"reason":"NamespaceTerminating"}]}}`), nil, `the namespace "jobs" is being deleted (403: unable to create`},
		{
			"quota", "create", answer(403, `{"kind":"Status","code":403,"reason":"Forbidden","message":"exceeded quota"}`), nil,
			`kubelease: create leases in namespace "jobs": exceeded quota (403)`,
		},
		// What isn't from an API server says nothing about what exists.
		{"proxy", "get", answer(404, "404 page not found"), nil, noServer},
		{"proxy with JSON", "delete", answer(404, `{"code":404,"reason":"NotFound","details":{"kind":"leases"}}`), nil, noServer},
		{"HTML", "get", answer(200, "<html>"), nil, "the answer is not from a Kubernetes API server: invalid character"},
		{"another list", "list", answer(200, "{}"), nil, "the answer is not from a Kubernetes API server"},
		{
			"half a list", "list", answer(200, `{"kind":"LeaseList","metadata":{"resourceVersion":"1","continue":"x"}}`), nil,
			"the answer is not the whole list",
		},
		{
			"another object", "get", answer(200, `{"kind":"Lease","metadata":{"name":"x","uid":"u","resourceVersion":"1"}}`), nil,
			"the answer is not from a Kubernetes API server",
		},
		{"redirection", "list", func(w http.ResponseWriter, _ *http.Request, _, _ string) bool {
			w.Header().Set("Location", "https://192.0.2.1/")
			w.WriteHeader(http.StatusFound)
			return true
		}, nil, "Found (302)"},
		{"authority", "list", nil, func(cfg *Config) { cfg.TLS = nil }, "certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAPIServer(t)
			id := join(t, a.store(), "pod-1")
			a.onRequest(c.answer)
			cfg := a.config()
			if c.config != nil {
				c.config(&cfg)
			}
			s, err := newStore(cfg, "pool")
			require.NoError(t, err)
			defer s.Idle()
			err = call(t, s, id, c.verb)
			require.ErrorContains(t, err, c.want)
			require.NotErrorIs(t, err, lease.ErrGone)
			assert.NotContains(t, err.Error(), "secret")
			_, ok := a.object(id)
			assert.True(t, ok, "the session exists")
		})
	}
}

func TestErrorWithoutAServer(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	a.server.Close()
	_, err := s.Join(t.Context(), "pod-1")
	require.ErrorContains(t, err, "kubelease: create leases in namespace \"jobs\" at "+a.server.URL+": dial tcp")
	assert.NotContains(t, err.Error(), "secret")
}

func TestNoRequestOutlivesItsContext(t *testing.T) {
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, and never answers
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	a := newAPIServer(t)
	cfg := a.config()
	cfg.Host = "https://" + silent.Addr().String()
	s, err := newStore(cfg, "pool")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Join(ctx, "pod-1")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	// goleak: nothing of the connection is left.
	s.Idle()
}

func TestOverloadedServerIsAskedAgain(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	id := join(t, s, "pod-1")
	a.sent()
	tooMany, after := 1, "1"
	a.onRequest(func(w http.ResponseWriter, _ *http.Request, _, _ string) bool {
		if tooMany == 0 {
			return false
		}
		tooMany--
		w.Header().Set("Retry-After", after)
		writeStatus(w, status{Code: 429, Reason: "TooManyRequests", Message: "too many requests"}, "")
		return true
	})
	sessions, err := s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	assert.EqualValues(t, 2, sessions[0].Beat)
	assert.Equal(t, []string{"list", "list", "update " + id}, a.sent())
	tooMany, after = 1, "3600"
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = s.Beat(ctx, id, nil)
	require.ErrorContains(t, err, "too many requests (429)")
}

func TestOneConnectionUntilIdle(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	assert.Zero(t, a.opened(), "before the first request")
	id := join(t, s, "pod-1")
	ctx, cancel := context.WithCancel(t.Context())
	begun, ended := make(chan struct{}, 1), make(chan error)
	go func() { ended <- s.Watch(ctx, func() { begun <- struct{}{} }) }()
	<-begun
	for range 10 {
		_, err := s.Claim(t.Context(), id, []string{"a", "b", "c"})
		require.NoError(t, err)
	}
	assert.Equal(t, 1, a.opened())
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	assert.False(t, a.allClosed())
	s.Idle()
	assert.Eventually(t, a.allClosed, 5*time.Second, time.Millisecond)
	_, err := s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	assert.Equal(t, 2, a.opened())
}

func TestNewConnectionAfterARequestWithoutAnswer(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	id := join(t, s, "pod-1")
	a.onRequest(func(_ http.ResponseWriter, r *http.Request, _, _ string) bool {
		<-r.Context().Done()
		return true
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Beat(ctx, id, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Eventually(t, a.allClosed, 5*time.Second, time.Millisecond)
	a.onRequest(nil)
	_, err = s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	assert.Equal(t, 2, a.opened())
	// Who gives up knows nothing against the connection.
	given, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	a.onRequest(func(_ http.ResponseWriter, r *http.Request, _, _ string) bool {
		giveUp()
		<-r.Context().Done()
		return true
	})
	_, err = s.Beat(given, id, nil)
	require.ErrorIs(t, err, context.Canceled)
	a.onRequest(nil)
	_, err = s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	assert.Equal(t, 2, a.opened())
}

func TestTokenFileIsReadAgain(t *testing.T) {
	a := newAPIServer(t)
	cfg := a.config()
	cfg.Token, cfg.TokenFile = "", filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(cfg.TokenFile, []byte(a.token+"\n"), 0o600))
	s, err := newStore(cfg, "pool")
	require.NoError(t, err)
	defer s.Idle()
	id := join(t, s, "pod-1")
	a.mu.Lock()
	a.token = "second"
	a.mu.Unlock()
	err = call(t, s, id, "list")
	require.ErrorContains(t, err, "does not accept the token in "+cfg.TokenFile+" (401")
	assert.NotContains(t, err.Error(), "secret")
	require.NoError(t, os.WriteFile(cfg.TokenFile, []byte("second"), 0o600))
	require.NoError(t, call(t, s, id, "list"))
	// Gone for a moment, as while it is replaced: the one before goes on.
	require.NoError(t, os.Remove(cfg.TokenFile))
	require.NoError(t, call(t, s, id, "list"))
}

func TestConfigThatCannotBeRight(t *testing.T) {
	for want, c := range map[string]Config{
		"Config.Host must be a URL":                {Host: "10.0.0.1:443", Namespace: "jobs"},
		"must be a URL such as":                    {Host: "https://user:secret@h:x/", Namespace: "jobs"},
		"must have no user and no password":        {Host: "https://user:secret@h", Namespace: "jobs"},
		"must have no query":                       {Host: "https://h?x=secret", Namespace: "jobs"},
		"both a Token and a TokenFile":             {Host: "https://h", Namespace: "jobs", Token: "secret", TokenFile: "f"},
		"http://h would send the token":            {Host: "http://h", Namespace: "jobs", Token: "secret"},
		`Config.Namespace "" is not the name of`:   {Host: "https://h"},
		`Config.Namespace "../x" is not the name `: {Host: "https://h", Namespace: "../x"},
	} {
		_, err := New(c, "pool")
		require.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "secret")
	}
	for _, pool := range []string{"", "-a", "a-", "A", "a.b", "a_b", strings.Repeat("a", 64)} {
		_, err := New(Config{Host: "https://h", Namespace: "jobs"}, pool)
		require.ErrorContains(t, err, "kubelease: the pool can't be ")
	}
	for _, pool := range []string{"a", "a-1", strings.Repeat("a", 63)} {
		_, err := New(Config{Host: "https://h", Namespace: "jobs"}, pool)
		require.NoError(t, err)
	}
}

func TestInCluster(t *testing.T) {
	a := newAPIServer(t)
	dir := t.TempDir()
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	_, err := InCluster()
	require.ErrorContains(t, err, "not in a pod: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set")
	host, port, err := net.SplitHostPort(a.server.Listener.Addr().String())
	require.NoError(t, err)
	t.Setenv("KUBERNETES_SERVICE_HOST", host)
	t.Setenv("KUBERNETES_SERVICE_PORT", port)
	for _, f := range []struct{ name, text, want string }{
		{"namespace", testNamespace + "\n", "kubelease: namespace of the pod: open"},
		{"ca.crt", string(certificate(a.server)), "kubelease: certificate authority of the cluster: open"},
		{"token", a.token + "\n", "kubelease: token: open"},
	} {
		_, err = inCluster(dir)
		require.ErrorContains(t, err, f.want)
		require.NoError(t, os.WriteFile(filepath.Join(dir, f.name), []byte(f.text), 0o600))
	}
	cfg, err := inCluster(dir)
	require.NoError(t, err)
	s, err := newStore(cfg, "pool")
	require.NoError(t, err)
	defer s.Idle()
	join(t, s, "pod-1")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("none"), 0o600))
	_, err = inCluster(dir)
	require.ErrorContains(t, err, "ca.crt has no certificate")
}

// certificate returns the server's certificate as a file has it.
func certificate(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}
