package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager/lease/kubelease"
)

// With these variables in its environment, the binary of the tests is the program. Each process of it connects to the one address,
// and is connected until it has ended.
const (
	mainVariable  = "TASKMANAGER_EXAMPLE_MAIN"
	aliveVariable = "TASKMANAGER_EXAMPLE_ALIVE"
)

func TestMain(m *testing.M) {
	_, isReplica := assigned()
	isMain := os.Getenv(mainVariable) != ""
	if address := os.Getenv(aliveVariable); address != "" && (isReplica || isMain) {
		conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", address)
		if err != nil {
			panic(err)
		}
		defer func() { _ = conn.Close() }()
	}
	if isReplica || isMain {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// patience is how long may take what is to happen by itself.
const patience = 30 * time.Second

// A printed collects what is printed, and lets a test wait for it.
type printed struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // replaced at each change
}

func newPrinted() *printed { return &printed{changed: make(chan struct{})} }

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
	return p.text.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

// shows waits until a line contains all of parts, and returns it.
func (p *printed) shows(t *testing.T, parts ...string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		p.mu.Lock()
		text, changed := p.text.String(), p.changed
		p.mu.Unlock()
		for line := range strings.Lines(text) {
			if containsAll(line, parts) {
				return line
			}
		}
		select {
		case <-changed:
		case <-timeout:
			require.Failf(t, "not shown", "%q in:\n%s", parts, text)
			return ""
		}
	}
}

func containsAll(s string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}

// In a cluster, the pools are labels of objects.
func TestPoolsAreNamesForEachEngine(t *testing.T) {
	for _, name := range []string{pool, poolOfTenants} {
		_, err := kubelease.New(kubelease.Config{Host: "https://localhost", Namespace: "default"}, name)
		require.NoError(t, err)
	}
}
