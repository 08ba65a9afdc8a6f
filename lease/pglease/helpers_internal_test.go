package pglease

import (
	"net/url"
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
func start(t *testing.T, cfg Config, name string, runs chan<- leasetest.Run, more ...lease.Option) (stop func()) {
	t.Helper()
	return leasetest.StartReplica(t, name, runs, func(opts ...lease.Option) (leasetest.Engine, error) {
		return New(cfg, "pool", append(opts, more...)...)
	})
}

// observe returns an observer of n sessions, which have beaten, and listen.
func observe(t *testing.T, url string, n int) *leasetest.Observer {
	t.Helper()
	o := leasetest.NewObserver(t, connect(t, url, url))
	o.AwaitSessions(n)
	conn := open(t, url)
	require.Eventually(t, func() bool {
		var found int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'
			AND query = 'LISTEN tm_lease'`).Scan(&found)
		return err == nil && found == n
	}, leasetest.Patience, 5*time.Millisecond)
	return o
}

// through returns a proxy for the server of a URL, and the URL by way of it.
func through(t *testing.T, address string) (*leasetest.Proxy, string) {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	p := leasetest.NewProxy(t, u.Host)
	u.Host = p.Address()
	return p, u.String()
}
