package pglease

import (
	"context"
	"database/sql"
	"log/slog"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/pglease/pgtest"
)

// A session is removed while its holder writes: that waits for the commit, and a fence after it finds nothing.
func testFence(t *testing.T, s *pgtest.Server) {
	url, _ := database(t, s)
	store := connect(t, url, url)
	a, b := join(t, store, "a"), join(t, store, "b")
	c := wins(t, store, a)
	e := &Engine{pool: "pool"}
	check := func(tx Querier, token uint64) error {
		return e.fenceBy("job", token, func(args ...any) row { return tx.QueryRow(t.Context(), fence, args...) })
	}

	tx := begin(t, url)
	require.NoError(t, check(tx, c.Token))
	other := begin(t, url)
	require.NoError(t, check(other, c.Token), "transactions of one holder don't wait for each other")
	require.NoError(t, other.Commit(t.Context()))
	done := async(func() error { return store.Expire(t.Context(), a, 0) })
	requireBlocked(t, open(t, url), 1)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, requireDone(t, done))

	late := begin(t, url)
	require.ErrorIs(t, check(late, c.Token), ErrFenced)
	next := wins(t, store, b)
	require.ErrorIs(t, check(late, c.Token), ErrFenced, "somebody else has it")
	require.NoError(t, check(late, next.Token))
	require.ErrorIs(t, check(late, next.Token+1), ErrFenced)
	require.NoError(t, late.Rollback(t.Context()))
	require.NoError(t, store.Release(t.Context(), b, []lease.Claim{next}))
	require.ErrorIs(t, check(begin(t, url), next.Token), ErrFenced, "it is free")
}

// A run fences by its context, in a transaction of pgx and one of database/sql.
func testFenceOfRun(t *testing.T, s *pgtest.Server) {
	url, _ := database(t, s)
	db, err := sql.Open("pgx", url)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	quiet := slog.New(slog.DiscardHandler)
	e, err := New(Config{ConnString: url}, "pool", lease.WithLogger(quiet))
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close(context.Background())) }()
	m, err := taskmanager.New(taskmanager.WithLogger(quiet))
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Shutdown(context.Background())) }()

	require.ErrorIs(t, e.Fence(t.Context(), begin(t, url), "job"), ErrFenced, "no run")
	conn := open(t, url)
	done := make(chan struct{})
	_, err = m.StartTask("job", func(ctx context.Context) error {
		defer close(done)
		tx, failed := conn.Begin(ctx)
		if !assert.NoError(t, failed) {
			return nil
		}
		assert.NoError(t, e.Fence(ctx, tx, "job"))
		assert.ErrorIs(t, e.Fence(ctx, tx, "other"), ErrFenced)
		assert.NoError(t, tx.Commit(ctx))
		sqlTx, failed := db.BeginTx(ctx, nil)
		if !assert.NoError(t, failed) {
			return nil
		}
		assert.NoError(t, e.FenceSQL(ctx, sqlTx, "job"))
		assert.ErrorIs(t, e.FenceSQL(ctx, sqlTx, "other"), ErrFenced)
		assert.NoError(t, sqlTx.Commit())
		return nil
	}, taskmanager.WithLease(e.Lease("job")))
	require.NoError(t, err)
	<-done
}
