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
	check := func(tx Querier, c lease.Claim) error {
		return fenceBy("pool", c, func(args ...any) row { return tx.QueryRow(t.Context(), fence, args...) })
	}

	tx := begin(t, url)
	require.NoError(t, check(tx, c))
	other := begin(t, url)
	require.NoError(t, check(other, c), "transactions of one holder don't wait for each other")
	require.NoError(t, other.Commit(t.Context()))
	done := async(func() error { return store.Expire(t.Context(), a, 0) })
	requireBlocked(t, open(t, url), 1)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, requireDone(t, done))

	late := begin(t, url)
	require.ErrorIs(t, check(late, c), ErrFenced)
	next := wins(t, store, b)
	require.ErrorIs(t, check(late, c), ErrFenced, "somebody else has it")
	require.NoError(t, check(late, next))
	later := next
	later.Token++
	require.ErrorIs(t, check(late, later), ErrFenced, "a claim that was never made")
	stolen := next
	stolen.Holder = a
	require.ErrorIs(t, check(late, stolen), ErrFenced, "the token alone is not enough")
	require.NoError(t, late.Rollback(t.Context()))
	require.NoError(t, store.Release(t.Context(), b, []lease.Claim{next}))
	require.ErrorIs(t, check(begin(t, url), next), ErrFenced, "it is free")
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

	require.ErrorIs(t, e.Fence(t.Context(), begin(t, url)), ErrFenced, "no run")
	inRun := func(l lease.Lease, body func(ctx context.Context)) {
		t.Helper()
		done := make(chan struct{})
		_, failed := m.StartTask(l.Name(), func(ctx context.Context) error {
			defer close(done)
			body(ctx)
			return nil
		}, taskmanager.WithLease(l))
		require.NoError(t, failed)
		<-done
	}
	conn := open(t, url)
	fenced := func(e *Engine, ctx context.Context) error {
		tx, failed := conn.Begin(ctx)
		if !assert.NoError(t, failed) {
			return failed
		}
		defer func() { assert.NoError(t, tx.Rollback(context.WithoutCancel(ctx))) }()
		return e.Fence(ctx, tx)
	}
	other, err := New(Config{ConnString: url}, "other", lease.WithLogger(quiet))
	require.NoError(t, err)
	inRun(e.OneOf("slot", 2), func(ctx context.Context) {
		held, _ := e.Held(ctx)
		assert.Regexp(t, "^slot#[01]$", held.Name)
		assert.NoError(t, fenced(e, ctx))
	})
	var over context.Context
	inRun(e.Lease("job"), func(ctx context.Context) {
		over = ctx
		assert.NoError(t, fenced(e, ctx))
		assert.ErrorIs(t, fenced(other, ctx), ErrFenced, "another engine's lease")
		sqlTx, err := db.BeginTx(ctx, nil)
		if !assert.NoError(t, err) {
			return
		}
		assert.NoError(t, e.FenceSQL(ctx, sqlTx))
		assert.ErrorIs(t, other.FenceSQL(ctx, sqlTx), ErrFenced)
		assert.NoError(t, sqlTx.Commit())

		// A claim of the same session is executed late: it still holds the lease.
		held, ok := e.Held(ctx)
		assert.True(t, ok)
		claims, err := connect(t, url, url).Claim(ctx, held.Holder, []string{"job"})
		assert.NoError(t, err)
		assert.Greater(t, claims[0].Token, held.Token)
		assert.NoError(t, fenced(e, ctx))
		// The session is removed.
		assert.NoError(t, connect(t, url, url).Leave(ctx, held.Holder))
		assert.ErrorIs(t, fenced(e, ctx), ErrFenced)
	})
	require.ErrorIs(t, fenced(e, context.WithoutCancel(over)), ErrFenced, "the run is over")
}

// What is released while the fence is asked may have been another's meanwhile.
func testFenceOfRunThatEnds(t *testing.T, s *pgtest.Server) {
	url, _ := database(t, s)
	quiet := slog.New(slog.DiscardHandler)
	e, err := New(Config{ConnString: url}, "pool", lease.WithLogger(quiet))
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close(context.Background())) }()
	m, err := taskmanager.New(taskmanager.WithLogger(quiet))
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Shutdown(context.Background())) }()
	began := make(chan context.Context, 1)
	_, err = m.StartTask("job", func(ctx context.Context) error {
		began <- ctx
		<-ctx.Done()
		return nil
	}, taskmanager.WithLease(e.Lease("job")))
	require.NoError(t, err)
	ctx := context.WithoutCancel(<-began)
	tx := begin(t, url)
	err = e.fence(ctx, func(args ...any) row {
		found := tx.QueryRow(ctx, fence, args...)
		return scanned(func(dest ...any) error {
			defer func() { assert.NoError(t, m.StopTask(context.Background(), "job")) }()
			return found.Scan(dest...)
		})
	})
	require.ErrorIs(t, err, ErrFenced)
	require.ErrorContains(t, err, "the run is over")
	require.NoError(t, tx.Rollback(t.Context()))
}

type scanned func(dest ...any) error

func (f scanned) Scan(dest ...any) error { return f(dest...) }
