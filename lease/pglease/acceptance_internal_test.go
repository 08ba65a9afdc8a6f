package pglease

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
	"github.com/go-taskmanager/taskmanager/lease/pglease/pgtest"
)

// A replicaConfig is what a replica in a process of its own is given.
type replicaConfig struct {
	Engine Config
	Table  string // the connection string for table written
	Fenced bool   // it writes in a transaction with a fence
}

// openReplica has a replica write to table written.
func openReplica(config string, opts ...lease.Option) (leasetest.Engine, leasetest.Writer, error) {
	var c replicaConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return nil, nil, err
	}
	e, err := New(c.Engine, "pool", opts...)
	if err != nil {
		return nil, nil, err
	}
	table, err := parse(c.Table)
	if err != nil {
		return nil, nil, err
	}
	var conn *pgx.Conn // the body of one task writes
	return e, func(ctx context.Context, w leasetest.Write) error {
		if conn == nil || conn.IsClosed() {
			if conn, err = pgx.ConnectConfig(ctx, table); err != nil {
				return err
			}
		}
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if c.Fenced {
				if err := e.Fence(ctx, tx); err != nil {
					if errors.Is(err, ErrFenced) {
						return leasetest.ErrRefused
					}
					return err
				}
			}
			_, err := tx.Exec(ctx, "INSERT INTO written (replica, token) VALUES ($1, $2)", w.Replica, int64(w.Token))
			return err
		})
	}, nil
}

// placeOf returns a place in a new database, and its address.
func placeOf(t *testing.T, s *pgtest.Server, change func(c *replicaConfig, pooler string)) (place leasetest.Place, direct string) {
	t.Helper()
	direct, pooler := database(t, s)
	s.Exec(t, direct, `CREATE TABLE written (n bigserial PRIMARY KEY, replica text, token bigint, at timestamptz DEFAULT clock_timestamp())`)
	p, proxied := through(t, direct)
	c := replicaConfig{Engine: Config{ConnString: direct}, Table: direct}
	if change != nil {
		change(&c, pooler)
	}
	cut := c
	cut.Engine = Config{ConnString: proxied}
	return leasetest.Place{
		Config: text(t, c), Proxied: text(t, cut), Proxy: p, Store: connect(t, direct, direct),
		Writes: func() []leasetest.Write {
			conn, err := pgx.Connect(t.Context(), direct) // another one after a crash of the server
			require.NoError(t, err)
			defer closeConn(conn)
			rows, err := conn.Query(t.Context(), `SELECT replica, token::bigint, at FROM written ORDER BY n`)
			require.NoError(t, err)
			writes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[leasetest.Write])
			require.NoError(t, err)
			return writes
		},
	}, direct
}

func text(t *testing.T, c replicaConfig) string {
	t.Helper()
	all, err := json.Marshal(c)
	require.NoError(t, err)
	return string(all)
}

// Replicas are processes, which write to a table. Whatever happens to one of them, or to the network, no write comes after one with a
// larger token; but for that of a process that was frozen in the middle, unless a fence refuses it.
func testFaults(t *testing.T, s *pgtest.Server) {
	newPlace := func(t *testing.T) leasetest.Place {
		p, _ := placeOf(t, s, nil)
		return p
	}
	pooled := func(t *testing.T) leasetest.Place {
		p, _ := placeOf(t, s, func(c *replicaConfig, pooler string) {
			c.Engine = Config{ConnString: pooler, Listen: c.Engine.ConnString}
			c.Table = pooler
			c.Fenced = true
		})
		return p
	}
	t.Run("StopBehindPooler", func(t *testing.T) { leasetest.StopEach(t, pooled(t), 2) })
	leasetest.RunFaults(t, newPlace, []leasetest.Subtest{
		{Name: "KillBehindPooler", Test: func(t *testing.T) { leasetest.KillEach(t, pooled(t), 2) }},
		{Name: "CutHolderInProcess", Test: func(t *testing.T) { testCutHolder(t, s) }},
		{Name: "LockedTable", Test: func(t *testing.T) { testLockedTable(t, s) }},
		{Name: "FreezeFenced", Test: func(t *testing.T) {
			p, _ := placeOf(t, s, func(c *replicaConfig, _ string) { c.Fenced = true })
			leasetest.Freeze(t, p, 0)
		}},
	}...)
}

// The table of sessions is locked, as by a migration of somebody's, for two TTLs, twice: all wait, and nobody executes meanwhile.
func testLockedTable(t *testing.T, s *pgtest.Server) {
	const ttl = 3 * time.Second
	place, url := placeOf(t, s, nil)
	f := leasetest.NewFleet(t, place, ttl)
	f.Start("a", place.Config)
	f.Start("b", place.Config)
	last := f.NextRun(0)
	for range 2 {
		tx := begin(t, url)
		_, err := tx.Exec(t.Context(), "LOCK TABLE tm_session")
		require.NoError(t, err)
		locked := time.Now()
		f.End(last.Token)
		begun := f.Events("begin")
		time.Sleep(time.Until(locked.Add(2 * ttl))) // how long it is locked
		assert.Equal(t, begun, f.Events("begin"))
		require.NoError(t, tx.Rollback(t.Context()))
		last = f.NextRun(last.Token)
	}
	f.StopAll()
	f.RequireOrder(0)
}

// The server crashes, and recovers: who executes goes on.
func testRestartUnderProcesses(t *testing.T, s *pgtest.Server) {
	place, _ := placeOf(t, s, nil)
	leasetest.RestartServer(t, place, s.Crash, s.Restart)
}
