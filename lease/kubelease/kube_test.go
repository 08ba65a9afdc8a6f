package kubelease_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/kubelease"
	"github.com/go-taskmanager/taskmanager/lease/kubelease/kubetest"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// TestKubernetes is what a real API server does. One is started for all.
func TestKubernetes(t *testing.T) {
	k := kubetest.Start(t)
	for _, c := range []struct {
		name string
		test func(t *testing.T, k *kubetest.Server)
	}{
		{"Store", testStore},
		{"RBAC", testRBAC},
		{"Errors", testErrors},
		{"Waits", testWaits},
		{"Trap", testTrap},
		{"HandOver", testHandOver},
		{"Faults", testFaults},
		{"Restart", testRestart},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, k) })
	}
}

var namespaces atomic.Int32

// namespace makes a namespace that is empty.
func namespace(k *kubetest.Server) string {
	name := "test-" + strconv.Itoa(int(namespaces.Add(1)))
	k.Namespace(name)
	return name
}

// store returns a store that is idle when the test ends.
func store(t *testing.T, cfg kubelease.Config) lease.Store {
	s, err := kubelease.NewStore(cfg, "pool")
	require.NoError(t, err)
	t.Cleanup(s.Idle)
	return s
}

func testStore(t *testing.T, k *kubetest.Server) {
	leasetest.RunStore(t, func(t *testing.T) func() lease.Store {
		cfg := k.Config(namespace(k))
		return func() lease.Store { return store(t, cfg) }
	})
}

// A service account with the Role of RBAC can do everything, and one whose Role lacks a verb is told which.
func testRBAC(t *testing.T, k *kubetest.Server) {
	ns := namespace(k)
	account := func(role string) lease.Store {
		cfg := k.Config(ns)
		cfg.Token = k.Account(ns, role)
		return store(t, cfg)
	}
	ctx := t.Context()
	whole := account(kubelease.RBAC)
	id, err := whole.Join(ctx, "pod-1")
	require.NoError(t, err)
	_, err = whole.Beat(ctx, id, nil)
	require.NoError(t, err)
	claims, err := whole.Claim(ctx, id, []string{"job"})
	require.NoError(t, err)
	require.NoError(t, whole.Release(ctx, id, claims))
	watching, stop := context.WithCancel(ctx)
	require.ErrorIs(t, whole.Watch(watching, stop), context.Canceled)
	require.NoError(t, whole.Expire(ctx, id, 1))
	require.NoError(t, whole.Leave(ctx, id))
	id, err = whole.Join(ctx, "pod-1")
	require.NoError(t, err)

	for verb, call := range map[string]func(s lease.Store) error{
		"create": func(s lease.Store) error { _, err := s.Join(ctx, "pod-2"); return err },
		"list":   func(s lease.Store) error { _, err := s.Beat(ctx, id, nil); return err },
		"update": func(s lease.Store) error { _, err := s.Beat(ctx, id, nil); return err },
		"get":    func(s lease.Store) error { _, err := s.Claim(ctx, id, []string{"job"}); return err },
		"watch":  func(s lease.Store) error { return s.Watch(ctx, func() { assert.Fail(t, "it watches") }) },
		"delete": func(s lease.Store) error { return s.Leave(ctx, id) },
	} {
		role := strings.Replace(kubelease.RBAC, `"`+verb+`"`, `"patch"`, 1)
		role = strings.Replace(role, "name: taskmanager-lease", "name: without-"+verb, 1)
		err := call(account(role))
		require.ErrorContains(t, err, `not allowed: there is no RBAC rule for verb "`+verb+`" on resource "leases" of API group `+
			`"coordination.k8s.io" in namespace "`+ns+`"; kubelease.RBAC has a Role with it (403: `)
	}
}

func testErrors(t *testing.T, k *kubetest.Server) {
	ns := namespace(k)
	ctx := t.Context()

	cfg := k.Config(ns)
	cfg.Token = "secret-token"
	_, err := store(t, cfg).Join(ctx, "pod-1")
	require.EqualError(t, err, `kubelease: create leases in namespace "`+ns+`": `+k.URL()+` does not accept the token (401: Unauthorized)`)

	_, err = store(t, k.Config("nowhere")).Join(ctx, "pod-1")
	require.EqualError(t, err, `kubelease: create leases in namespace "nowhere": there is no namespace "nowhere" (404: namespaces "nowhere" `+
		`not found)`)

	s := store(t, k.Config(ns))
	id, err := s.Join(ctx, "pod-1")
	require.NoError(t, err)
	claims, err := s.Claim(ctx, id, []string{"job"})
	require.NoError(t, err)
	require.NoError(t, s.Release(ctx, id, claims))
	object := "/apis/coordination.k8s.io/v1/namespaces/" + ns + "/leases/" + kubelease.LeaseObject("pool", "job")
	_, whole := k.Do(http.MethodGet, object, "")
	taken := strings.Replace(string(whole), `"spec":{`, `"spec":{"holderIdentity":"host_4711",`, 1)
	code, answer := k.Do(http.MethodPut, object, taken)
	require.Equal(t, http.StatusOK, code, string(answer))
	_, err = s.Claim(ctx, id, []string{"job"})
	require.ErrorContains(t, err, `of lease "job", is held by "host_4711", which is no session of pool "pool"`)

	// Kubernetes deletes what is in a namespace before the namespace; here nobody does that.
	code, answer = k.Do(http.MethodDelete, "/api/v1/namespaces/"+ns, "")
	require.Equal(t, http.StatusOK, code, string(answer))
	_, err = s.Join(ctx, "pod-1")
	require.ErrorContains(t, err, `the namespace "`+ns+`" is being deleted (403: `)
}

// What can't be right is what the status of a waiting task says; once it is right, the task begins.
func testWaits(t *testing.T, k *kubetest.Server) {
	const status = `waits for lease "job": the engine has failed: kubelease: `
	waits := func(cfg kubelease.Config, want string, mend func()) {
		t.Helper()
		leasetest.Waits(t, func(opts ...lease.Option) (leasetest.Engine, error) { return kubelease.New(cfg, "pool", opts...) },
			want, cfg.Token, mend)
	}

	ns := namespace(k)
	cfg := k.Config(ns)
	cfg.Token = k.Account(ns, strings.Replace(kubelease.RBAC, `"create"`, `"patch"`, 1))
	inNamespace := func() string { return status + `create leases in namespace "` + cfg.Namespace + `": ` }
	waits(cfg, inNamespace()+`not allowed: there is no RBAC rule for verb "create" on resource "leases"`, func() {
		role := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + ns + "/roles/taskmanager-lease"
		code, answer := k.Do(http.MethodPut, role, kubelease.RBAC)
		require.Equal(t, http.StatusOK, code, string(answer))
	})

	cfg = k.Config(ns + "-later")
	waits(cfg, inNamespace()+`there is no namespace "`+cfg.Namespace+`"`, func() {
		k.Namespace(cfg.Namespace)
	})

	cfg = k.Config(namespace(k))
	objects := "/apis/coordination.k8s.io/v1/namespaces/" + cfg.Namespace + "/leases"
	name := kubelease.LeaseObject("pool", "job")
	k.Create(objects, "{metadata: {name: "+name+", labels: {app: theirs}}, spec: {holderIdentity: theirs}}")
	_, before := k.Do(http.MethodGet, objects+"/"+name, "")
	waits(cfg, status+`the object "`+name+`" in namespace "`+cfg.Namespace+`" is not a lease of pool "pool" by its labels`, nil)
	_, after := k.Do(http.MethodGet, objects+"/"+name, "")
	assert.JSONEq(t, string(before), string(after), "nothing of the other program is disturbed")
	var all struct{ Items []any }
	_, list := k.Do(http.MethodGet, objects, "")
	require.NoError(t, json.Unmarshal(list, &all))
	assert.Len(t, all.Items, 1, "no session is left")

	cfg.Token = "secret-token"
	waits(cfg, cfg.Host+" does not accept the token (401: Unauthorized)", nil)
	cfg.Host = "https://127.0.0.1:1"
	waits(cfg, "connection refused", nil)
}

// An update makes a Lease that doesn't exist, but not if it names the uid.
func testTrap(t *testing.T, k *kubetest.Server) {
	objects := "/apis/coordination.k8s.io/v1/namespaces/" + namespace(k) + "/leases"
	var made struct {
		Metadata struct{ UID, ResourceVersion string }
	}
	require.NoError(t, json.Unmarshal(k.Create(objects, "{metadata: {name: x}}"), &made))
	code, _ := k.Do(http.MethodDelete, objects+"/x", "")
	require.Equal(t, http.StatusOK, code)
	version := "{metadata: {name: x, resourceVersion: '" + made.Metadata.ResourceVersion + "'"
	code, answer := k.Do(http.MethodPut, objects+"/x", version+", uid: '"+made.Metadata.UID+"'}}")
	require.Equal(t, http.StatusConflict, code, string(answer))
	code, answer = k.Do(http.MethodPut, objects+"/x", version+"}}")
	require.Equal(t, http.StatusCreated, code, string(answer))
}
