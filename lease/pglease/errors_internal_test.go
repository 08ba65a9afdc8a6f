package pglease

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
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

func withParameter(t *testing.T, address, key, value string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
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
		{"an @ in the password", "postgres://tm:x@" + password + "@127.0.0.1/x", good, "pool", "has an @ that is not the one before the host"},
		{"an @ at its end", "postgres://tm:" + password + "@@127.0.0.1/x", good, "pool", "has an @ that is not the one before the host"},
		{"an @ and a comma", "postgresql://tm:x@y,z@" + password + "/x", good, "pool", "has an @ that is not the one before the host"},
		{"an @ and a parameter", "postgres://tm:x@y?" + password + "=z@127.0.0.1/x", good, "pool", "has an @ that is not the one before the host"},
		{"a / in the password", "postgres://tm:12/" + password + "@127.0.0.1/x", good, "pool", "for which write %40; in a password, also %2F for a /"},
		{"a / at its begin", "postgres://tm:/" + password + "@127.0.0.1/x", good, "pool", "has an @ that is not the one before the host"},
		{"a ? and a /", "postgres://tm:1?x=/" + password + "@127.0.0.1/x", good, "pool", "has an @ that is not the one before the host"},
		{"a host that is none", "postgres://tm:x@" + password + "#y/x", good, "pool", "leads to a host that can't be one"},
		{"an escaped one", "postgres://tm:x@" + password + "%40y/x", good, "pool", "leads to a host that can't be one"},
		{"one of several", "postgres://tm@127.0.0.1," + password + "*/x", good, "pool", "leads to a host that can't be one"},
		{"a host of keywords", "host='" + password + " x' user=tm", good, "pool", "leads to a host that can't be one"},
		{"a space before a URL", " " + good + "?sslmode=disable", good, "pool", "has a keyword that can't be one"},
		{"quotes around a URL", "'" + good + "?sslmode=disable'", good, "pool", "has a keyword that can't be one"},
		{"a capital letter", "P" + good[1:] + "?sslmode=disable", good, "pool", "has a keyword that can't be one"},
		{"of Java", "jdbc:postgresql://127.0.0.1/x?user=tm&password=" + password, good, "pool", "has a keyword that can't be one"},
		{"a space in the password", "host=127.0.0.1 password=x " + password + " dbname=x", good, "pool", "the connection string can't be read"},
		{"a quote in the password", "host=127.0.0.1 password='x'" + password + "' dbname=x", good, "pool", "the connection string can't be read"},
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

// What is right is not refused, however odd it looks.
func TestNewTakes(t *testing.T) {
	for _, connString := range []string{
		"postgres://tm:a%40b%2Fc@127.0.0.1/x", "postgres://tm:a?b#c:d,e;f@127.0.0.1/x", "postgres://a%40example.org:x@127.0.0.1/x",
		"postgres://127.0.0.1/x?user=a%40example.org&password=b%40c", "postgresql://tm@[::1]:5432/x", "postgres://tm@[fe80::1%25eth0]/x",
		"postgres://tm@db-1.example.org.,db_2:5433/x?target_session_attrs=read-write", "postgres://tm@%2Frun%2Fpostgresql/x", "postgres:///x",
		"postgres://tm:x@/x?host=/cloudsql/project:region:instance", "postgres://tm@127.0.0.1/x?options=-c%20geqo%3Doff&search_path=a,b",
		"host=/run/postgresql user=tm password='a@b /c' dbname=x", "host=db user=tm password=x://a@b@c/d", "host=db tm.tenant=7",
		"host=db port=5432 sslmode=verify-full sslrootcert=system",
	} {
		_, err := New(Config{ConnString: connString}, "pool")
		assert.NoError(t, err, connString)
	}
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

	direct, pooler := database(t, s)
	for _, url := range []string{direct, pooler} {
		u, err := pgx.ParseConfig(url)
		require.NoError(t, err)
		keywords := fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable password=x ", u.Host, u.Port, u.User, u.Database)
		require.ErrorContains(t, joined(keywords+password+"=y"), "pglease: join: the server refuses a parameter of the connection string")
	}
	require.ErrorContains(t, joined(withParameter(t, direct, "geqo", password)), "the server refuses a parameter of the connection string")
	require.ErrorContains(t, joined(withParameter(t, direct, "role", password)), "the server refuses a parameter of the connection string")
}

// What can't be right is what the status of a waiting task says; once it is right, the task begins.
func testWaits(t *testing.T, s *pgtest.Server) {
	waits := func(url, want string, mend func()) {
		t.Helper()
		leasetest.Waits(t, func(opts ...lease.Option) (leasetest.Engine, error) {
			return New(Config{ConnString: url}, "pool", opts...)
		}, want, password, mend)
	}
	const status = `waits for lease "job": the engine has failed: pglease: join: `

	empty, _ := s.Database(t)
	waits(withUser(t, empty, "tm"), status+"the tables are not there: run pglease.Migrate, or set search_path", func() {
		require.NoError(t, Migrate(t.Context(), empty))
	})

	later, _ := database(t, s)
	s.Exec(t, later, "UPDATE tm_schema SET version = 7")
	waits(withUser(t, later, "tm"), status+"the tables are of version 7, and this program is for version 1", func() {
		s.Exec(t, later, "UPDATE tm_schema SET version = 1")
	})

	taken, _ := s.Database(t)
	s.Exec(t, taken, "CREATE TABLE tm_schema (version text); CREATE TABLE tm_session (tenant text); INSERT INTO tm_session VALUES ('x')")
	waits(withUser(t, taken, "tm"), status+"a table tm_session, tm_lease or tm_schema is not as this version of pglease makes it", nil)
	var tenants string
	require.NoError(t, open(t, taken).QueryRow(t.Context(), "SELECT string_agg(tenant, ',') FROM tm_session").Scan(&tenants))
	assert.Equal(t, "x", tenants, "nothing of the other program is disturbed")

	readOnly, _ := database(t, s)
	name := open(t, readOnly).Config().Database
	s.Exec(t, s.URL(), "ALTER DATABASE "+name+" SET default_transaction_read_only = on")
	waits(withUser(t, readOnly, "tm"), status+"the server takes no writes, as a standby", func() {
		s.Exec(t, s.URL(), "ALTER DATABASE "+name+" SET default_transaction_read_only = off")
	})

	guarded, _ := database(t, s)
	s.Exec(t, guarded, "CREATE ROLE guest LOGIN")
	waits(withUser(t, guarded, "guest"), status+"the role lacks a right: it needs SELECT on tm_schema", func() {
		s.Exec(t, guarded, "GRANT SELECT ON tm_schema TO guest; GRANT SELECT, INSERT, UPDATE, DELETE ON tm_session, tm_lease TO guest")
	})
}

// The same of a server that is gone at the start, and then comes back as a standby, which is promoted.
func testWaitsForServer(t *testing.T, s *pgtest.Server) {
	url, _ := database(t, s)
	newEngine := func(opts ...lease.Option) (leasetest.Engine, error) {
		return New(Config{ConnString: withUser(t, url, "tm")}, "pool", opts...)
	}
	s.Crash()
	leasetest.Waits(t, newEngine, "connection refused", password, s.Restart)
	s.Crash()
	s.RestartAsStandby()
	leasetest.Waits(t, newEngine, "the server takes no writes, as a standby: give the primary's address", password, s.Promote)
}
