package pglease

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-taskmanager/taskmanager/lease"
)

// An Engine is a [lease.Engine] whose pool is in a database. Its methods may be called by several goroutines at once.
type Engine struct {
	*lease.Engine
	pool string
}

// A Config says how to reach the database.
type Config struct {
	// ConnString is a URL, or keywords and values, as pgx and libpq have them. In a URL, each @ but the one before the host is written
	// as %40, as [net/url.UserPassword] does it. Settings of a pool in it (pool_max_conns and such) are of no effect.
	ConnString string

	// Listen is the ConnString for LISTEN, which does not work through a pooler in transaction mode: one that leads to the same database
	// directly. The default, "", is ConnString.
	Listen string
}

// New makes an engine on a database. All replicas that share leases give the same pool: 1 to 255 bytes of UTF-8 without control characters.
// Several pools may share a database.
//
// New doesn't connect: a database that does not answer, refuses the password or lacks the tables is what a task waits for, as its status
// says. It returns an error if cfg or pool can't be right, or an option is wrong. No error shows a connection string; those of a server that
// can't be reached show the user, the database and the host.
func New(cfg Config, pool string, opts ...lease.Option) (*Engine, error) {
	s, err := newStore(cfg, pool)
	if err != nil {
		return nil, err
	}
	e, err := lease.New(s, opts...)
	if err != nil {
		return nil, err
	}
	return &Engine{Engine: e, pool: pool}, nil
}

// parse returns the configuration of connections. Its error shows no part of connString: where that is wrong, a part of the password may
// look like a host or a port.
func parse(connString string) (*pgx.ConnConfig, error) {
	const form = "a URL such as postgres://user@host/database, in which special characters of the password are escaped, or keywords and " +
		"values such as host=… user=… dbname=…"
	if strings.TrimSpace(connString) == "" {
		return nil, fmt.Errorf("pglease: the connection string is empty: it must be %s", form)
	}
	c, err := pgx.ParseConfig(connString)
	if err != nil {
		return nil, fmt.Errorf("pglease: the connection string can't be read: it must be %s", form)
	}
	if wrong := misread(connString, c); wrong != "" {
		return nil, fmt.Errorf("pglease: the connection string %s: it must be %s", wrong, form)
	}
	for key := range c.RuntimeParams {
		if strings.HasPrefix(key, "pool_") {
			delete(c.RuntimeParams, key) // of pgxpool; the server knows none
		}
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "taskmanager leases"
	}
	// Nothing has a name on the server, for behind a pooler the next statement may be another connection's.
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	c.StatementCacheCapacity = 0
	c.DescriptionCacheCapacity = 0
	return c, nil
}

// misread returns what says that c is not what connString was meant to be; "" if nothing does. Like libpq, pgx takes the first @ before a /
// for the end of the password, and what follows for hosts and a database, which errors show; and it takes what is no known keyword for a
// parameter of the server, whose answer names it.
func misread(connString string, c *pgx.ConnConfig) string {
	if scheme, rest, _ := strings.Cut(connString, "://"); scheme == "postgres" || scheme == "postgresql" {
		at := strings.IndexByte(rest, '@')
		if slash := strings.IndexByte(rest, '/'); at != strings.LastIndexByte(rest, '@') || 0 <= slash && slash < at {
			return "has an @ that is not the one before the host, for which write %40; in a password, also %2F for a /, and so on"
		}
	}
	for key := range c.RuntimeParams {
		if strings.ContainsFunc(key, func(r rune) bool { return !isWord(r) && r != '.' && r != '$' }) {
			return "has a keyword that can't be one"
		}
	}
	hosts := []string{c.Host}
	for _, f := range c.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	for _, host := range hosts {
		if !isHost(host) {
			return "leads to a host that can't be one"
		}
	}
	return ""
}

// isHost reports whether s can be a directory of sockets, an address or a name of a host.
func isHost(s string) bool {
	if network, _ := pgconn.NetworkAddress(s, 0); network == "unix" {
		return true
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !isWord(r) && r != '.' && r != '-' })
}

func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' }
