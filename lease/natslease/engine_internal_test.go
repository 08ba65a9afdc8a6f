package natslease

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// start starts a replica on the server of that URL.
func start(t *testing.T, url, name string, runs chan<- leasetest.Run) (stop func()) {
	t.Helper()
	return leasetest.StartReplica(t, name, runs, func(opts ...lease.Option) (leasetest.Engine, error) {
		return New(Config{Conn: connect(t, url)}, "p", opts...)
	})
}

// observe returns an observer of n sessions, which have beaten.
func observe(t *testing.T, url string, n int) *leasetest.Observer {
	t.Helper()
	o := leasetest.NewObserver(t, newTestStore(t, connect(t, url), "p"))
	o.AwaitSessions(n)
	return o
}

// The next body begins after the end of the old one, and not later than people notice.
func TestHandOver(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	runs := make(chan leasetest.Run, 10)
	stop := start(t, url, "a", runs)
	first := leasetest.NextRun(t, runs)
	require.Equal(t, uint64(1), first.Token)
	start(t, url, "b", runs)
	leasetest.HandOver(t, first, runs, observe(t, url, 2), stop)
}

// port returns that of a URL.
func port(t *testing.T, url string) int {
	t.Helper()
	number, err := strconv.Atoi(url[strings.LastIndexByte(url, ':')+1:])
	require.NoError(t, err)
	return number
}

// A hiccup is not noticed. A holder that is cut off for longer ends its body before another one begins, which is a TTL later.
func testCutHolder(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	p := leasetest.NewProxy(t, strings.TrimPrefix(url, "nats://"))
	runs := make(chan leasetest.Run, 10)
	start(t, "nats://"+p.Address(), "a", runs)
	first := leasetest.NextRun(t, runs)
	start(t, url, "b", runs)
	leasetest.CutOff(t, first, runs, observe(t, url, 2), p.SetCut)
}
