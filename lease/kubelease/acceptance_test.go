package kubelease_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/kubelease"
	"github.com/go-taskmanager/taskmanager/lease/kubelease/kubetest"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// A replicaConfig is what a replica in a process of its own is given.
type replicaConfig struct {
	Host, Namespace, Token string
	Authority              []byte
	File                   string // to write to
}

// openReplica has a replica write to a file.
func openReplica(config string, opts ...lease.Option) (leasetest.Engine, leasetest.Writer, error) {
	var c replicaConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.Authority) {
		return nil, nil, errors.New("there is no certificate")
	}
	e, err := kubelease.New(kubelease.Config{
		Host: c.Host, Namespace: c.Namespace, Token: c.Token, TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
	}, "pool", opts...)
	return e, leasetest.FileWriter(c.File), err
}

// placeOf returns a place in a new namespace, whose replicas have the rights of [kubelease.RBAC] and no others.
func placeOf(t *testing.T, k *kubetest.Server) leasetest.Place {
	t.Helper()
	cfg := k.Config(namespace(k))
	p := leasetest.NewProxy(t, strings.TrimPrefix(cfg.Host, "https://"))
	file := filepath.Join(t.TempDir(), "written")
	token := k.Account(cfg.Namespace, kubelease.RBAC)
	config := func(host string) string {
		text, err := json.Marshal(replicaConfig{Host: host, Namespace: cfg.Namespace, Token: token, Authority: k.Authority(), File: file})
		require.NoError(t, err)
		return string(text)
	}
	return leasetest.Place{
		Config: config(cfg.Host), Proxied: config("https://" + p.Address()), Proxy: p, Store: store(t, cfg),
		Writes: func() []leasetest.Write { return leasetest.FileWrites(t, file) },
	}
}

// Replicas are processes, which write to a file. Whatever happens to one of them, or to the network, no write comes after one with a
// larger token; but for that of a process that was frozen in the middle.
func testFaults(t *testing.T, k *kubetest.Server) {
	leasetest.RunFaults(t, func(t *testing.T) leasetest.Place { return placeOf(t, k) }, leasetest.Subtest{
		Name: "CutHolderInProcess", Test: func(t *testing.T) { testCutHolder(t, k) },
	})
}

// The server is killed and starts again: who executes goes on.
func testRestart(t *testing.T, k *kubetest.Server) {
	leasetest.RestartServer(t, placeOf(t, k), k.Kill, k.Restart)
}
