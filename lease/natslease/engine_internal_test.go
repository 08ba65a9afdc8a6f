package natslease

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
)

// The engines of tests die and beat sooner than those of services.
const (
	ttl  = 3 * time.Second
	beat = ttl / 5
)

// A run is what a body has said about itself.
type run struct {
	replica string
	token   uint64
	ended   chan struct{} // closed when it returns
}

// newReplica runs a task of one lease until the end of the test, or until stop is called.
func newReplica(t *testing.T, url, name string, runs chan<- run) (stop func()) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	engine, err := New(connect(t, url), "p", lease.WithTTL(ttl), lease.WithReplica(name), lease.WithLogger(quiet))
	require.NoError(t, err)
	manager, err := taskmanager.New(taskmanager.WithLogger(quiet))
	require.NoError(t, err)
	_, err = manager.StartTask("job", func(ctx context.Context) error {
		token, _ := taskmanager.LeaseToken(ctx)
		ended := make(chan struct{})
		defer close(ended)
		runs <- run{name, token, ended}
		<-ctx.Done()
		return nil
	}, taskmanager.WithLease(engine.Lease("job")), taskmanager.WithStopTimeout(500*time.Millisecond))
	require.NoError(t, err)
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		require.NoError(t, manager.Shutdown(ctx))
		require.NoError(t, engine.Close(ctx))
	})
	t.Cleanup(stop)
	return stop
}

func nextRun(t *testing.T, runs <-chan run) run {
	t.Helper()
	select {
	case r := <-runs:
		return r
	case <-time.After(20 * time.Second):
		require.Fail(t, "no body begins")
		return run{}
	}
}

func (r run) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
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
	}, 20*time.Second, 5*time.Millisecond)
}

// The next body begins after the end of the old one, and not later than people notice.
func TestHandOver(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	runs := make(chan run, 10)
	stop := newReplica(t, url, "a", runs)
	first := nextRun(t, runs)
	require.Equal(t, uint64(1), first.token)
	newReplica(t, url, "b", runs)
	requireSessions(t, url, 2)
	require.Empty(t, runs)
	begun := time.Now()
	stop()
	second := nextRun(t, runs)
	took := time.Since(begun)
	require.True(t, first.over())
	assert.Equal(t, "b", second.replica)
	assert.Greater(t, second.token, first.token)
	assert.Less(t, took, 200*time.Millisecond)
	t.Log("handed over after", took)
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
	runs := make(chan run, 10)
	newReplica(t, through, "a", runs)
	first := nextRun(t, runs)
	newReplica(t, url, "b", runs)
	requireSessions(t, url, 2)
	for range 3 {
		p.setCut(true)
		time.Sleep(beat / 2) // the length of the hiccup
		p.setCut(false)
		time.Sleep(2 * beat) // the time between two
	}
	require.Empty(t, runs, "a hiccup is not noticed")
	require.False(t, first.over(), "a hiccup is not noticed")

	p.setCut(true)
	begun := time.Now()
	second := nextRun(t, runs)
	took := time.Since(begun)
	assert.True(t, first.over(), "two bodies execute")
	assert.Equal(t, "b", second.replica)
	assert.Greater(t, second.token, first.token)
	assert.Less(t, took, ttl+2*beat)
	t.Log("the next one began after", took)
}

// A server that is restarted at once is not noticed by those who hold a lease, and leases move on it as before.
func TestServerRestartUnderEngines(t *testing.T) {
	dir := t.TempDir()
	url, stopServer := startServer(t, dir, -1, true)
	port, err := strconv.Atoi(url[strings.LastIndexByte(url, ':')+1:])
	require.NoError(t, err)
	runs := make(chan run, 10)
	stop := newReplica(t, url, "a", runs)
	first := nextRun(t, runs)
	newReplica(t, url, "b", runs)
	requireSessions(t, url, 2)
	begun := time.Now()
	stopServer()
	startServer(t, dir, port, true)
	t.Log("the server was away for", time.Since(begun))
	time.Sleep(2 * ttl) // so long nothing must happen
	require.Empty(t, runs)
	require.False(t, first.over())
	begun = time.Now()
	stop()
	assert.Equal(t, "b", nextRun(t, runs).replica)
	assert.Less(t, time.Since(begun), 200*time.Millisecond, "it watches again")
}
