package natslease

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// A replicaConfig is what a replica in a process of its own is given.
type replicaConfig struct {
	URL  string
	File string // to write to
}

// openReplica has a replica write to a file.
func openReplica(config string, opts ...lease.Option) (leasetest.Engine, leasetest.Writer, error) {
	var c replicaConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return nil, nil, err
	}
	nc, err := nats.Connect(c.URL, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		return nil, nil, err
	}
	e, err := New(Config{Conn: nc}, "p", opts...)
	return e, leasetest.FileWriter(c.File), err
}

// placeOf returns a place on the server of that URL.
func placeOf(t *testing.T, url string) leasetest.Place {
	t.Helper()
	p := leasetest.NewProxy(t, strings.TrimPrefix(url, "nats://"))
	file := filepath.Join(t.TempDir(), "written")
	config := func(url string) string {
		text, err := json.Marshal(replicaConfig{URL: url, File: file})
		require.NoError(t, err)
		return string(text)
	}
	return leasetest.Place{
		Config: config(url), Proxied: config("nats://" + p.Address()), Proxy: p, Store: newTestStore(t, connect(t, url), "p"),
		Writes: func() []leasetest.Write { return leasetest.FileWrites(t, file) },
	}
}

// Replicas are processes, which write to a file. Whatever happens to one of them, or to the network, no write comes after one with a
// larger token; but for that of a process that was frozen in the middle.
func TestFaults(t *testing.T) {
	newPlace := func(t *testing.T) leasetest.Place {
		url, _ := startServer(t, t.TempDir(), -1, true)
		return placeOf(t, url)
	}
	leasetest.RunFaults(t, newPlace, leasetest.Subtest{Name: "CutHolderInProcess", Test: testCutHolder})
}

// The server ends and starts again: who executes goes on.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	url, stopServer := startServer(t, dir, -1, true)
	server := t // it is there until the replicas have left
	t.Run("Replicas", func(t *testing.T) {
		leasetest.RestartServer(t, placeOf(t, url), stopServer, func() { startServer(server, dir, port(t, url), true) })
	})
}
