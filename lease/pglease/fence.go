package pglease

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/go-taskmanager/taskmanager"
)

// ErrFenced says that a run does not hold the lease any more by which it has begun.
var ErrFenced = errors.New("pglease: the lease is not held any more")

// A Querier is a transaction of pgx: a [pgx.Tx], or a [pgx.Conn] in which BEGIN was executed. For one of database/sql, see
// [Engine.FenceSQL].
type Querier interface {
	// QueryRow sends a query that has one row at most.
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// fence locks the row of a lease, in the mode that lets others read it and fence by it too. The token tells the holder, as each claim has
// another one.
const fence = `SELECT true FROM tm_lease WHERE pool = $1 AND key = $2 AND token = $3 AND session IS NOT NULL FOR SHARE`

// Fence makes what tx writes atomic with holding the lease: it returns an error that wraps [ErrFenced] unless the run whose context is ctx
// still holds the lease, and from then on until tx ends nobody else can get it. If it returns an error, roll tx back. So no write of a
// holder comes after one of the next, even if this process was frozen for longer than its session lasted, or a body ignores that its
// context has ended.
//
// Tx is a transaction in the database of the engine, with a search_path that finds its tables. It should be short: who is to take over
// the lease, or to release it, waits for its end. Lease is the name of the run's lease, in the store: [taskmanager.LeaseToken] says by
// which token ctx holds it. A context that has none is refused with ErrFenced.
func (e *Engine) Fence(ctx context.Context, tx Querier, lease string) error {
	return e.fence(ctx, lease, func(args ...any) row { return tx.QueryRow(ctx, fence, args...) })
}

// FenceSQL is [Engine.Fence] for a transaction of database/sql, with a driver that has $1 for an argument, as those of pgx and lib/pq.
func (e *Engine) FenceSQL(ctx context.Context, tx *sql.Tx, lease string) error {
	return e.fence(ctx, lease, func(args ...any) row { return tx.QueryRowContext(ctx, fence, args...) })
}

type row interface{ Scan(dest ...any) error }

func (e *Engine) fence(ctx context.Context, lease string, query func(args ...any) row) error {
	token, ok := taskmanager.LeaseToken(ctx)
	if !ok {
		return fmt.Errorf("pglease: fence of lease %q: the context is not that of a run with a lease: %w", lease, ErrFenced)
	}
	return e.fenceBy(lease, token, query)
}

func (e *Engine) fenceBy(lease string, token uint64, query func(args ...any) row) error {
	var held bool
	err := query(e.pool, lease, int64(token)).Scan(&held)
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("pglease: fence of lease %q with token %d: %w", lease, token, ErrFenced)
	case err != nil:
		return explain(fmt.Sprintf("fence of lease %q", lease), err)
	}
	return nil
}
