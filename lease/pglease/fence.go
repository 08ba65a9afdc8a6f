package pglease

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/go-taskmanager/taskmanager/lease"
)

// ErrFenced says that a run does not hold the lease any more by which it has begun.
var ErrFenced = errors.New("pglease: the lease is not held any more")

// A Querier is a transaction of pgx: a [pgx.Tx], or a [pgx.Conn] in which BEGIN was executed. For one of database/sql, see
// [Engine.FenceSQL].
type Querier interface {
	// QueryRow sends a query that has one row at most.
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// fence locks the row of a lease, in the mode that lets others read it and fence by it too. The session tells the holder. The token may be
// larger than that of the run: a claim of this session that was not answered may be executed late.
const fence = `SELECT true FROM tm_lease WHERE pool = $1 AND key = $2 AND session = $3 AND token >= $4 FOR SHARE`

// Fence makes what tx writes atomic with holding the lease: it returns an error that wraps [ErrFenced] unless the run whose body was given
// ctx, or a context that ctx derives from, still holds its lease, and from then on until tx ends nobody else can get it. If it returns an
// error, roll tx back. So no write of a holder comes after one of the next, even if this process was frozen for longer than its session
// lasted, or a body ignores that its context has ended.
//
// Tx is a transaction in the database of the engine, with a search_path that finds its tables. It should be short: who is to take over
// the lease, or to release it, waits for its end. A context of no run, or of one that has no lease of this engine, is refused with
// ErrFenced.
func (e *Engine) Fence(ctx context.Context, tx Querier) error {
	return e.fence(ctx, func(args ...any) row { return tx.QueryRow(ctx, fence, args...) })
}

// FenceSQL is [Engine.Fence] for a transaction of database/sql, with a driver that has $1 for an argument, as those of pgx and lib/pq.
func (e *Engine) FenceSQL(ctx context.Context, tx *sql.Tx) error {
	return e.fence(ctx, func(args ...any) row { return tx.QueryRowContext(ctx, fence, args...) })
}

type row interface{ Scan(dest ...any) error }

func (e *Engine) fence(ctx context.Context, query func(args ...any) row) error {
	held, ok := e.Held(ctx)
	if !ok {
		return fmt.Errorf("pglease: fence: the context is not that of a run with a lease of this engine, or the run is over: %w", ErrFenced)
	}
	if err := fenceBy(e.pool, held, query); err != nil {
		return err
	}
	// Until here nothing was released, so nobody else can have had the lease meanwhile. From here on, the row is locked.
	if still, _ := e.Held(ctx); still != held {
		return fmt.Errorf("pglease: fence of lease %q: the run is over: %w", held.Name, ErrFenced)
	}
	return nil
}

// fenceBy locks the row of the lease for one who holds it by that claim.
func fenceBy(pool string, held lease.Claim, query func(args ...any) row) error {
	session, ok := number(held.Holder)
	if !ok {
		return fmt.Errorf("pglease: fence of lease %q: %q is no session: %w", held.Name, held.Holder, ErrFenced)
	}
	var locked bool
	err := query(pool, held.Name, session, int64(held.Token)).Scan(&locked)
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("pglease: fence of lease %q with token %d: %w", held.Name, held.Token, ErrFenced)
	case err != nil:
		return explain(fmt.Sprintf("fence of lease %q", held.Name), err)
	}
	return nil
}
