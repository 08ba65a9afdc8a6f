package pglease

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
	"github.com/go-taskmanager/taskmanager/lease/pglease/pgtest"
)

// password must not be in any error.
const password = "hunter2"

// oneTry is enough for one try, at least, of what is tried again until the context ends.
const oneTry = 2 * time.Second

func withUser(t *testing.T, address, user string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.User = url.UserPassword(user, password)
	return u.String()
}

func TestNewRefuses(t *testing.T) {
	const good = "postgres://tm:" + password + "@127.0.0.1/x"
	for _, c := range []struct{ name, connString, listen, pool, want string }{
		{"nothing", "", good, "pool", "the connection string is empty"},
		{"spaces", "  ", good, "pool", "the connection string is empty"},
		{"no URL", "hello " + password, good, "pool", "the connection string can't be read"},
		{"of another kind", "mysql://tm:" + password + "@127.0.0.1/x", good, "pool", "the connection string can't be read"},
		{"unescaped", "postgres://tm:" + password + " /@127.0.0.1/x", good, "pool", "the connection string can't be read"},
		{"a port that is none", "postgres://tm@127.0.0.1:" + password + "/x", good, "pool", "the connection string can't be read"},
		{"sslmode", good + "?sslmode=" + password, good, "pool", "the connection string can't be read"},
		{"listen", good, "postgres://tm:%zz" + password + "@127.0.0.1", "pool", "for Listen: pglease: the connection string can't be read"},
		{"no pool", good, good, "", `pool "": must not be empty`},
		{"long pool", good, good, strings.Repeat("p", 256), "must not have more than 255 bytes"},
		{"control", good, good, "a\nb", "must not contain control characters"},
		{"UTF-8", good, good, "a\xff", "must be valid UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(Config{ConnString: c.connString, Listen: c.listen}, c.pool)
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), password)
		})
	}
	_, err := New(Config{ConnString: good}, "pool", lease.WithTTL(0))
	var option *taskmanager.OptionError
	require.ErrorAs(t, err, &option)
	_, err = New(Config{ConnString: good + "?pool_max_conns=7"}, strings.Repeat("p", 255))
	require.NoError(t, err)
	require.ErrorContains(t, Migrate(t.Context(), ""), "the connection string is empty")
}

func TestServerThatIsGone(t *testing.T) {
	s, err := newStore(Config{ConnString: "postgres://tm:" + password + "@127.0.0.1:1/x?sslmode=disable"}, "pool")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), oneTry)
	defer cancel()
	_, err = s.Join(ctx, "a")
	require.ErrorContains(t, err, "pglease: join: failed to connect to")
	require.ErrorContains(t, err, "connection refused", "not that the time is over")
	assert.NotContains(t, err.Error(), password)
	assert.NotContains(t, err.Error(), "\n")
}

func testErrors(t *testing.T, s *pgtest.Server) {
	joined := func(url string) error {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), oneTry)
		defer cancel()
		_, err := connect(t, url, url).Join(ctx, "a")
		require.Error(t, err)
		assert.NotContains(t, err.Error(), password)
		assert.NotContains(t, err.Error(), "\n")
		return err
	}
	empty, _ := s.Database(t)
	require.ErrorContains(t, joined(withUser(t, empty, "tm")), "pglease: join: the tables are not there: run pglease.Migrate")

	later, _ := database(t, s)
	s.Exec(t, later, "UPDATE tm_schema SET version = 7")
	require.ErrorContains(t, joined(later), "the tables are of version 7, and this program is for version 1")
	s.Exec(t, later, "DELETE FROM tm_schema")
	require.ErrorContains(t, joined(later), "the tables are of version 0")

	taken, _ := s.Database(t)
	s.Exec(t, taken, "CREATE TABLE tm_schema (version text); CREATE TABLE tm_session (tenant text)")
	require.ErrorContains(t, joined(taken), "another program's")

	readOnly, _ := database(t, s)
	s.Exec(t, readOnly, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`)
	require.ErrorContains(t, joined(readOnly), "the server takes no writes, as a standby")

	s.Exec(t, later, "CREATE ROLE stranger LOGIN")
	require.ErrorContains(t, joined(withUser(t, later, "stranger")), "the role lacks a right: it needs SELECT on tm_schema")
	require.ErrorContains(t, joined(strings.Replace(later, "/test", "/no", 1)), "there is no such database")
	require.ErrorContains(t, joined(withUser(t, later, "nobody-known")), "the server does not accept the role")

	// What a waiting task shows.
	e, err := New(Config{ConnString: withUser(t, empty, "tm")}, "pool", lease.WithTTL(leasetest.ReplicaTTL))
	require.NoError(t, err)
	status := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	done := async(func() error {
		_, err := e.Lease("job").Acquire(ctx, func(s string) { status <- s })
		return err
	})
	require.Equal(t, `waits for lease "job"`, <-status)
	require.Contains(t, <-status, "run pglease.Migrate")
	cancel()
	require.ErrorIs(t, requireDone(t, done), context.Canceled)
	require.NoError(t, e.Close(context.Background()))
}
