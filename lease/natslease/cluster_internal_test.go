package natslease

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// startCluster runs three servers that keep a copy each.
func startCluster(t *testing.T) []*server.Server {
	t.Helper()
	var servers []*server.Server
	// A server waits for as many servers, itself included, as it is given routes. One leads to the first server, which tells each of the
	// others; nobody answers at the rest.
	nobody := &url.URL{Scheme: "nats", Host: "127.0.0.1:1"}
	routes := []*url.URL{nobody, nobody, nobody}
	for i := range 3 {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: -1, StoreDir: t.TempDir(), JetStream: true, NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: -1}, Routes: slices.Clone(routes),
		})
		require.NoError(t, err)
		s.Start()
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		servers = append(servers, s)
		require.True(t, s.ReadyForConnections(time.Minute))
		routes[0] = &url.URL{Scheme: "nats", Host: servers[0].ClusterAddr().String()}
	}
	require.Eventually(t, func() bool {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == 3 {
				return true
			}
		}
		return false
	}, 60*time.Second, 10*time.Millisecond, "the servers have no leader")
	return servers
}

// The suite on three servers, each store at another one of them: writes that are compared and reads that are strong, wherever the leader
// of the stream is.
func TestStoreOnACluster(t *testing.T) {
	servers := startCluster(t)
	leasetest.RunStore(t, func(t *testing.T) func() lease.Store {
		n := 0
		return func() lease.Store {
			n++
			s, err := newStore(Config{Conn: connect(t, servers[n%3].ClientURL()), Replicas: 3}, t.Name())
			require.NoError(t, err)
			t.Cleanup(s.Idle)
			return s
		}
	})
}

// The server that leads the stream ends: the sessions go on at the others, and nobody else gets the lease.
func TestLeaderOfTheStreamEnds(t *testing.T) {
	servers := startCluster(t)
	opened, err := newStore(Config{Conn: connect(t, servers[0].ClientURL()), Replicas: 3}, "p")
	require.NoError(t, err)
	s := opened
	t.Cleanup(s.Idle)
	id, other := join(t, s), join(t, s)
	claim := claimed(t, s, id)
	leader := slices.IndexFunc(servers, func(one *server.Server) bool { return one.JetStreamIsStreamLeader("$G", s.stream) })
	require.GreaterOrEqual(t, leader, 0)
	servers[leader].Shutdown() // that one alone: the next to lead is found before this returns
	servers[leader].WaitForShutdown()
	begun := time.Now()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err = s.Beat(ctx, id, nil)
		return err == nil
	}, 60*time.Second, 10*time.Millisecond)
	t.Log("beats again after", time.Since(begun))
	assert.Zero(t, claimed(t, s, other).Token, "it has forgotten nothing")
	require.NoError(t, s.Release(t.Context(), id, []lease.Claim{claim}))
	assert.Equal(t, claim.Token+1, claimed(t, s, other).Token)
}
