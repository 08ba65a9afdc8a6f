package pglease

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// open returns a connection for what a test looks at or locks by itself.
func open(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { closeConn(conn) })
	return conn
}

// begin begins a transaction on a connection of its own.
func begin(t *testing.T, url string) pgx.Tx {
	t.Helper()
	tx, err := open(t, url).Begin(t.Context())
	require.NoError(t, err)
	return tx
}

// async calls f in its own goroutine, and returns a channel for its error.
func async(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

// requireBlocked waits until n statements in the database wait for a lock.
func requireBlocked(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var found int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
			AND wait_event_type = 'Lock'`).Scan(&found)
		return err == nil && found == n
	}, leasetest.Patience, 5*time.Millisecond)
}

func requireDone(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(leasetest.Patience):
		require.Fail(t, "it does not return")
		return nil
	}
}

func join(t *testing.T, s *store, name string) string {
	t.Helper()
	id, err := s.Join(t.Context(), name)
	require.NoError(t, err)
	return id
}

// wins claims lease "job", which is free, and returns the claim.
func wins(t *testing.T, s *store, id string) lease.Claim {
	t.Helper()
	claims, err := s.Claim(t.Context(), id, []string{"job"})
	require.NoError(t, err)
	require.Len(t, claims, 1)
	require.NotZero(t, claims[0].Token)
	return claims[0]
}

// start starts a replica on the database of cfg.
func start(t *testing.T, cfg Config, name string, runs chan<- leasetest.Run) (stop func()) {
	t.Helper()
	return leasetest.StartReplica(t, name, runs, func(opts ...lease.Option) (leasetest.Engine, error) {
		return New(cfg, "pool", opts...)
	})
}

// requireSessions waits until n sessions have beaten.
func requireSessions(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var found int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM tm_session WHERE beat > 0`).Scan(&found)
		return err == nil && found == n
	}, leasetest.Patience, 5*time.Millisecond)
}

// A proxy passes connections on to a server, until it is cut: then it neither passes anything on nor closes anything.
type proxy struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
	wg    sync.WaitGroup
}

// newProxy returns a proxy for the server of an address, and the address by way of the proxy.
func newProxy(t *testing.T, address string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: l, to: u.Host}
	u.Host = l.Addr().String()
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p, u.String()
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, in)
		if !p.cut {
			if out, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", p.to); err == nil {
				p.conns = append(p.conns, out)
				p.wg.Go(func() { p.pass(in, out) })
				p.wg.Go(func() { p.pass(out, in) })
			} else {
				_ = in.Close()
			}
		}
		p.mu.Unlock()
	}
}

func (p *proxy) pass(from, to net.Conn) {
	_, _ = io.Copy(writer{p, to}, from)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut {
		_ = to.Close()
	}
}

// A writer drops what comes after a cut.
type writer struct {
	*proxy
	to net.Conn
}

func (w writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	cut := w.cut
	w.mu.Unlock()
	if cut {
		return len(b), nil
	}
	return w.to.Write(b)
}

func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if !cut {
		p.closeLocked() // what was cut for some time does not go on in its middle
	}
}

func (p *proxy) closeLocked() {
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *proxy) close() {
	_ = p.listener.Close()
	p.setCut(false)
	p.wg.Wait()
}
