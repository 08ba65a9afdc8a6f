package natslease

import (
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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

// requireSessions waits until n sessions have beaten.
func requireSessions(t *testing.T, url string, n int) {
	t.Helper()
	s := newTestStore(t, connect(t, url), "p")
	require.Eventually(t, func() bool {
		_, all, err := s.list(t.Context())
		found := 0
		for _, session := range all {
			if !session.gone && session.Beat > 0 {
				found++
			}
		}
		return err == nil && found == n
	}, leasetest.Patience, 5*time.Millisecond)
}

// The next body begins after the end of the old one, and not later than people notice.
func TestHandOver(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	runs := make(chan leasetest.Run, 10)
	stop := start(t, url, "a", runs)
	first := leasetest.NextRun(t, runs)
	require.Equal(t, uint64(1), first.Token)
	start(t, url, "b", runs)
	requireSessions(t, url, 2)
	leasetest.HandOver(t, first, runs, stop)
}

// A proxy passes bytes on, both ways, unless it is cut: then they are kept.
type proxy struct {
	listener net.Listener
	mu       sync.Mutex
	whole    chan struct{} // closed unless it is cut; guarded by mu
	conns    []net.Conn    // guarded by mu
}

func newProxy(t *testing.T, url string) (p *proxy, through string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p = &proxy{listener: listener, whole: make(chan struct{})}
	close(p.whole)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, failed := listener.Accept()
			if failed != nil {
				return
			}
			out, failed := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "nats://"))
			if failed != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			all.Go(func() { p.pass(in, out) })
			all.Go(func() { p.pass(out, in) })
		}
	})
	t.Cleanup(func() {
		p.setCut(false)
		_ = listener.Close()
		p.mu.Lock()
		for _, conn := range p.conns {
			_ = conn.Close()
		}
		p.mu.Unlock()
		all.Wait()
	})
	return p, "nats://" + listener.Addr().String()
}

func (p *proxy) pass(to io.WriteCloser, from io.ReadCloser) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		whole := p.whole
		p.mu.Unlock()
		<-whole
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.whole:
		if cut {
			p.whole = make(chan struct{})
		}
	default:
		if !cut {
			close(p.whole)
		}
	}
}

// A hiccup is not noticed. A holder that is cut off for longer ends its body before another one begins, which is a TTL later.
func TestHolderIsCutOff(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	p, through := newProxy(t, url)
	runs := make(chan leasetest.Run, 10)
	start(t, through, "a", runs)
	first := leasetest.NextRun(t, runs)
	start(t, url, "b", runs)
	requireSessions(t, url, 2)
	leasetest.CutOff(t, first, runs, p.setCut)
}

// A server that is restarted at once is not noticed by those who hold a lease, and leases move on it as before.
func TestServerRestartUnderEngines(t *testing.T) {
	dir := t.TempDir()
	url, stopServer := startServer(t, dir, -1, true)
	port, err := strconv.Atoi(url[strings.LastIndexByte(url, ':')+1:])
	require.NoError(t, err)
	runs := make(chan leasetest.Run, 10)
	stop := start(t, url, "a", runs)
	first := leasetest.NextRun(t, runs)
	start(t, url, "b", runs)
	requireSessions(t, url, 2)
	begun := time.Now()
	stopServer()
	startServer(t, dir, port, true)
	t.Log("the server was away for", time.Since(begun))
	time.Sleep(2 * leasetest.ReplicaTTL) // so long nothing must happen
	require.Empty(t, runs)
	require.False(t, first.Over())
	begun = time.Now()
	stop()
	assert.Equal(t, "b", leasetest.NextRun(t, runs).Replica)
	assert.Less(t, time.Since(begun), 200*time.Millisecond, "it watches again")
}
