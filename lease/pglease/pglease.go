package pglease

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/go-taskmanager/taskmanager/lease"
)

// An Engine is a [lease.Engine] whose pool is in a database. Its methods may be called by several goroutines at once.
type Engine struct {
	*lease.Engine
	pool string
}

// A Config says how to reach the database.
type Config struct {
	// ConnString is a URL, or keywords and values, as pgx and libpq have them. Settings of a pool in it (pool_max_conns and such) are of
	// no effect.
	ConnString string

	// Listen is the ConnString for LISTEN, which does not work through a pooler in transaction mode: one that leads to the same database
	// directly. The default, "", is ConnString.
	Listen string
}

// New makes an engine on a database. All replicas that share leases give the same pool: 1 to 255 bytes of UTF-8 without control characters.
// Several pools may share a database.
//
// New doesn't connect: a database that does not answer, refuses the password or lacks the tables is what a task waits for, as its status
// says. It returns an error if cfg or pool can't be right, or an option is wrong. No error shows a connection string.
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
