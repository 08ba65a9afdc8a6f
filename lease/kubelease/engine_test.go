package kubelease_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/kubelease"
	"github.com/go-taskmanager/taskmanager/lease/kubelease/kubetest"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// start starts a replica on the server of cfg.
func start(t *testing.T, cfg kubelease.Config, name string, runs chan<- leasetest.Run) (stop func()) {
	t.Helper()
	return leasetest.StartReplica(t, name, runs, func(opts ...lease.Option) (leasetest.Engine, error) {
		return kubelease.New(cfg, "pool", opts...)
	})
}

// observe returns an observer of n sessions, which have beaten.
func observe(t *testing.T, cfg kubelease.Config, n int) *leasetest.Observer {
	t.Helper()
	o := leasetest.NewObserver(t, store(t, cfg))
	o.AwaitSessions(n)
	return o
}

// The next body begins after the end of the old one, and not later than people notice.
func testHandOver(t *testing.T, k *kubetest.Server) {
	cfg := k.Config(namespace(k))
	runs := make(chan leasetest.Run, 10)
	stop := start(t, cfg, "a", runs)
	first := leasetest.NextRun(t, runs)
	require.Equal(t, uint64(1), first.Token)
	start(t, cfg, "b", runs)
	leasetest.HandOver(t, first, runs, observe(t, cfg, 2), stop)
}

// A holder that is cut off ends its body before another one begins, which is a TTL later.
func testCutHolder(t *testing.T, k *kubetest.Server) {
	cfg := k.Config(namespace(k))
	p := leasetest.NewProxy(t, strings.TrimPrefix(cfg.Host, "https://"))
	through := cfg
	through.Host = "https://" + p.Address()
	runs := make(chan leasetest.Run, 10)
	start(t, through, "a", runs)
	first := leasetest.NextRun(t, runs)
	start(t, cfg, "b", runs)
	leasetest.CutOff(t, first, runs, observe(t, cfg, 2), p.SetCut)
}
