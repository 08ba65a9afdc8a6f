package natslease

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// TestMain fails the tests if one of them leaves a goroutine behind.
func TestMain(m *testing.M) {
	leasetest.RunReplica(openReplica)
	goleak.VerifyTestMain(m)
}

// startServer runs a server in this process until the end of the test, or until stop is called. A port of -1 is any that is free.
func startServer(t *testing.T, dir string, port int, jetStream bool) (url string, stop func()) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, StoreDir: dir, JetStream: jetStream, NoSigs: true, NoLog: true,
	})
	require.NoError(t, err)
	s.Start()
	require.True(t, s.ReadyForConnections(20*time.Second), "the server is not ready")
	var stopped atomic.Bool
	stop = func() {
		if !stopped.Swap(true) {
			s.Shutdown()
			s.WaitForShutdown()
		}
	}
	t.Cleanup(stop)
	return s.ClientURL(), stop
}

func connect(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

func newTestStore(t *testing.T, nc *nats.Conn, pool string) *store {
	t.Helper()
	s, err := newStore(Config{Conn: nc}, pool)
	require.NoError(t, err)
	t.Cleanup(s.Idle)
	return s
}

// join returns a session that has beaten once.
func join(t *testing.T, s *store) string {
	t.Helper()
	id, err := s.Join(t.Context(), "pod-7")
	require.NoError(t, err)
	_, err = s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	return id
}

// claimed claims the lease "x", and returns what has become of that.
func claimed(t *testing.T, s *store, id string) lease.Claim {
	t.Helper()
	claims, err := s.Claim(t.Context(), id, []string{"x"})
	require.NoError(t, err)
	require.Len(t, claims, 1)
	assert.Equal(t, "x", claims[0].Name)
	return claims[0]
}

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint("tenant-", i)
	}
	return all
}
