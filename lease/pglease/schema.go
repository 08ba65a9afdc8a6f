package pglease

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// version is that of Schema, as tm_schema has it.
const version = 1

// Schema makes the tables, for who runs migrations by a tool of their own instead of by [Migrate]. It is to be executed once, in one
// transaction. The role of the engine needs SELECT on all of them, and INSERT, UPDATE and DELETE on tm_session and tm_lease.
const Schema = `CREATE TABLE tm_schema (
  one     boolean PRIMARY KEY DEFAULT true CHECK (one),
  version integer NOT NULL
);
INSERT INTO tm_schema (version) VALUES (1);

CREATE TABLE tm_session (
  id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  pool  text COLLATE "C" NOT NULL,
  name  text NOT NULL,
  beat  bigint NOT NULL DEFAULT 0,
  stuck text[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);
CREATE INDEX tm_session_pool ON tm_session (pool);

CREATE TABLE tm_lease (
  pool    text COLLATE "C" NOT NULL,
  key     text COLLATE "C" NOT NULL,
  session bigint REFERENCES tm_session ON DELETE SET NULL,
  token   bigint NOT NULL DEFAULT 0,
  since   timestamptz,
  PRIMARY KEY (pool, key)
) WITH (fillfactor = 70);
CREATE INDEX tm_lease_session ON tm_lease (session);
`

// migrating is the advisory lock that those who migrate take in turn. It is no lease: it ends with the transaction.
const migrating = 0x746d5f6c65617365

// Migrate makes the tables in the first schema of the search_path, if they are not there. It may be called by each replica at each start,
// all at once: one makes them, and the others wait for it. It returns an error, and changes nothing, if the tables are of a later version
// of this package or of another program. If the tables are there, it needs no right but to read tm_schema.
func Migrate(ctx context.Context, connString string) error {
	c, err := parse(connString)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return explain("migrate", err)
	}
	defer closeConn(conn)
	if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return migrate(ctx, tx) }); err != nil {
		return explain("migrate", err)
	}
	return nil
}

func migrate(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1::bigint)", int64(migrating)); err != nil {
		return err
	}
	var known, taken bool
	const look = `SELECT to_regclass('tm_schema') IS NOT NULL, to_regclass('tm_session') IS NOT NULL OR to_regclass('tm_lease') IS NOT NULL`
	if err := tx.QueryRow(ctx, look).Scan(&known, &taken); err != nil {
		return err
	}
	if !known && taken {
		return errors.New("there is a table tm_session or tm_lease, and no tm_schema: it is another program's; " +
			"use another schema, by search_path in the connection string")
	}
	if !known {
		_, err := tx.Exec(ctx, Schema, pgx.QueryExecModeSimpleProtocol)
		return err
	}
	var found int
	if err := tx.QueryRow(ctx, "SELECT version FROM tm_schema").Scan(&found); err != nil {
		return err
	}
	return checkVersion(found)
}

func checkVersion(found int) error {
	if found == version {
		return nil
	}
	return fmt.Errorf("the tables are of version %d, and this program is for version %d: use the same version of pglease in all replicas",
		found, version)
}
