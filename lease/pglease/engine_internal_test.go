package pglease

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
	"github.com/go-taskmanager/taskmanager/lease/pglease/pgtest"
)

// The next body begins after the end of the old one, and not later than people notice.
func testHandOver(t *testing.T, s *pgtest.Server) {
	direct, pooler := database(t, s)
	runs := make(chan leasetest.Run, 10)
	stop := start(t, Config{ConnString: direct}, "a", runs)
	first := leasetest.NextRun(t, runs)
	require.Equal(t, uint64(1), first.Token)
	start(t, Config{ConnString: pooler, Listen: direct}, "b", runs)
	leasetest.HandOver(t, first, runs, observe(t, direct, 2), stop)
}

// A holder that is cut off ends its body before another one begins, which is a TTL later.
func testCutHolder(t *testing.T, s *pgtest.Server) {
	direct, _ := database(t, s)
	p, address := through(t, direct)
	runs := make(chan leasetest.Run, 10)
	start(t, Config{ConnString: address}, "a", runs)
	first := leasetest.NextRun(t, runs)
	start(t, Config{ConnString: direct}, "b", runs)
	leasetest.CutOff(t, first, runs, observe(t, direct, 2), p.SetCut)
}

// A server that crashes and recovers at once is not noticed by those who hold a lease.
func testRestart(t *testing.T, s *pgtest.Server) {
	direct, pooler := database(t, s)
	runs := make(chan leasetest.Run, 10)
	long := []lease.Option{lease.WithTTL(leasetest.LongTTL), lease.WithBeat(leasetest.LongBeat)}
	start(t, Config{ConnString: direct}, "a", runs, long...)
	first := leasetest.NextRun(t, runs)
	start(t, Config{ConnString: pooler, Listen: direct}, "b", runs, long...)
	o := observe(t, direct, 2)
	begun := time.Now()
	s.Crash()
	time.Sleep(2 * leasetest.LongBeat) // how long it is away at the least
	s.Restart()
	t.Log("the server was away for", time.Since(begun))
	o.AwaitBeats(1)
	require.Empty(t, runs)
	require.False(t, first.Over(), "the body has ended")
}

// What was claimed is not forgotten in a crash, whatever the database does by default.
func testClaimSurvivesCrash(t *testing.T, s *pgtest.Server) {
	url, _ := database(t, s)
	s.Exec(t, url, `ALTER SYSTEM SET wal_writer_delay = '10s'`)
	s.Exec(t, url, `SELECT pg_reload_conf()`)
	s.Exec(t, url, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$`)
	store := connect(t, url, url)
	a := join(t, store, "a")
	wins(t, store, a)
	s.Crash()
	s.Restart()
	b := join(t, store, "b")
	claims, err := store.Claim(t.Context(), b, []string{"job"})
	require.NoError(t, err)
	require.Len(t, claims, 1)
	require.Zero(t, claims[0].Token)
	require.Equal(t, a, claims[0].Holder)
}
