package pglease

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
	"github.com/go-taskmanager/taskmanager/lease/pglease/pgtest"
)

// A claim that has waited for another one to commit sees what that has done, not its own snapshot.
func testClaimWaitsForClaim(t *testing.T, s *pgtest.Server) {
	url, _ := database(t, s)
	store := connect(t, url, url)
	a, b := join(t, store, "a"), join(t, store, "b")
	require.NoError(t, store.Release(t.Context(), a, []lease.Claim{wins(t, store, a)}))

	for _, c := range []struct{ name, commit string }{{"a row that was there", "job"}, {"a new one", "fresh"}} {
		tx := begin(t, url)
		n, ok := number(a)
		require.True(t, ok)
		_, err := tx.Exec(t.Context(), claim, "pool", n, []string{c.commit})
		require.NoError(t, err)
		var claims []lease.Claim
		done := async(func() (err error) {
			claims, err = store.Claim(t.Context(), b, []string{c.commit})
			return err
		})
		requireBlocked(t, open(t, url), 1)
		require.NoError(t, tx.Commit(t.Context()))
		require.NoError(t, requireDone(t, done))
		require.Equal(t, []lease.Claim{{Name: c.commit}}, claims, c.name)
	}
	var holder string
	require.NoError(t, open(t, url).QueryRow(t.Context(), "SELECT string_agg(DISTINCT session::text, ',') FROM tm_lease").Scan(&holder))
	assert.Equal(t, a, holder)
}

// Who waits for a lease asks at each beat, and is not held up by transactions of the holder, nor holds them up.
func testClaimDoesNotWaitForFence(t *testing.T, s *pgtest.Server) {
	url, _ := database(t, s)
	store := connect(t, url, url)
	a, b := join(t, store, "a"), join(t, store, "b")
	c := wins(t, store, a)
	tx := begin(t, url)
	require.NoError(t, fenceBy("pool", c, func(args ...any) row { return tx.QueryRow(t.Context(), fence, args...) }))

	ctx, cancel := context.WithTimeout(t.Context(), leasetest.Patience)
	defer cancel()
	claims, err := store.Claim(ctx, b, []string{"job", "other"})
	require.NoError(t, err)
	require.Len(t, claims, 2)
	for _, c := range claims {
		if c.Name == "job" {
			assert.Zero(t, c.Token)
			assert.Equal(t, a, c.Holder)
			assert.WithinDuration(t, time.Now(), c.Since, time.Hour)
		} else {
			assert.Equal(t, uint64(1), c.Token)
		}
	}
	require.NoError(t, tx.Rollback(t.Context()))
}

func testExpireWaitsForBeat(t *testing.T, s *pgtest.Server) {
	url, _ := database(t, s)
	store := connect(t, url, url)
	a := join(t, store, "a")
	wins(t, store, a)
	tx := begin(t, url)
	_, err := tx.Exec(t.Context(), "UPDATE tm_session SET beat = beat + 1")
	require.NoError(t, err)
	done := async(func() error { return store.Expire(t.Context(), a, 0) })
	requireBlocked(t, open(t, url), 1)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, requireDone(t, done))
	all, err := store.Beat(t.Context(), a, nil)
	require.NoError(t, err, "its beat has grown")
	require.Equal(t, []lease.Session{{ID: a, Replica: "a", Beat: 2, Stuck: []string{}}}, all)
}

// A connection to a server that takes no writes, as to the former primary after a failover, is not used again.
func testReadOnly(t *testing.T, s *pgtest.Server) {
	url, _ := database(t, s)
	set := func(value string) {
		name := open(t, url).Config().Database
		s.Exec(t, s.URL(), "ALTER DATABASE "+name+" SET default_transaction_read_only = "+value)
	}
	set("on") // for connections that are made from now on
	store := connect(t, url, url)
	ctx, cancel := context.WithTimeout(t.Context(), oneTry)
	defer cancel()
	_, err := store.Join(ctx, "a")
	require.ErrorContains(t, err, "the server takes no writes")
	set("off")
	ctx, cancel = context.WithTimeout(t.Context(), leasetest.Patience)
	defer cancel()
	_, err = store.Join(ctx, "a")
	require.NoError(t, err)
}

func testListenBehindPooler(t *testing.T, s *pgtest.Server) {
	_, pooler := database(t, s)
	store := connect(t, pooler, pooler)
	ctx, cancel := context.WithTimeout(t.Context(), leasetest.Patience)
	defer cancel()
	begun := time.Now()
	err := store.Watch(ctx, func() { assert.Fail(t, "it hears nothing") })
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "Config.Listen")
	assert.Less(t, time.Since(begun), 2*probeWait)
}

func testIdle(t *testing.T, s *pgtest.Server) {
	url, _ := database(t, s)
	conn := open(t, url)
	connections := func() (n int) {
		require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`).Scan(&n))
		return n
	}
	none := func() bool { return connections() == 0 }
	require.Eventually(t, none, leasetest.Patience, 5*time.Millisecond, "the connection of Migrate is still there")
	store := connect(t, url, url)
	assert.Zero(t, connections(), "it connects when it is needed")
	a := join(t, store, "a")
	wins(t, store, a)
	ctx, cancel := context.WithCancel(t.Context())
	watching := make(chan struct{}, 1)
	done := async(func() error { return store.Watch(ctx, func() { watching <- struct{}{} }) })
	<-watching
	assert.Equal(t, 3, connections())
	cancel()
	require.ErrorIs(t, requireDone(t, done), context.Canceled)
	store.Idle()
	require.Eventually(t, none, leasetest.Patience, 5*time.Millisecond)
}
