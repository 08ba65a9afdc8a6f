package pglease

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease/pglease/pgtest"
)

// The next body begins after the end of the old one, and not later than people notice.
func testHandOver(t *testing.T, s *pgtest.Server) {
	direct, pooler := database(t, s)
	conn := open(t, direct)
	runs := make(chan run, 10)
	a := newReplica(t, direct, "a", runs)
	first := nextRun(t, runs)
	require.Equal(t, uint64(1), first.token)
	newReplica(t, pooler, "b", runs, WithListen(direct))
	requireSessions(t, conn, 2)
	time.Sleep(2 * beat) // it listens by then
	require.Empty(t, runs)
	begun := time.Now()
	a.stop()
	second := nextRun(t, runs)
	<-first.ended
	assert.Equal(t, "b", second.replica)
	assert.Greater(t, second.token, first.token)
	assert.Less(t, time.Since(begun), 200*time.Millisecond)
}

// A holder that is cut off ends its body before another one begins, which is a TTL later.
func testCutHolder(t *testing.T, s *pgtest.Server) {
	direct, _ := database(t, s)
	conn := open(t, direct)
	p, address := newProxy(t, direct)
	runs := make(chan run, 10)
	newReplica(t, address, "a", runs)
	first := nextRun(t, runs)
	newReplica(t, direct, "b", runs)
	requireSessions(t, conn, 2)

	for range 3 {
		p.setCut(true)
		time.Sleep(beat / 2)
		p.setCut(false)
		time.Sleep(2 * beat)
	}
	require.Empty(t, runs, "a hiccup is not noticed")
	select {
	case <-first.ended:
		require.Fail(t, "a hiccup is not noticed")
	default:
	}

	p.setCut(true)
	begun := time.Now()
	second := nextRun(t, runs)
	took := time.Since(begun)
	select {
	case <-first.ended:
	default:
		assert.Fail(t, "two bodies execute")
	}
	assert.Equal(t, "b", second.replica)
	assert.Greater(t, second.token, first.token)
	assert.Less(t, took, ttl+2*beat)
	p.setCut(false)
}

// A server that crashes and recovers at once is not noticed by those who hold a lease.
func testRestart(t *testing.T, s *pgtest.Server) {
	direct, pooler := database(t, s)
	runs := make(chan run, 10)
	newReplica(t, direct, "a", runs)
	first := nextRun(t, runs)
	newReplica(t, pooler, "b", runs, WithListen(direct))
	requireSessions(t, open(t, direct), 2)

	begun := time.Now()
	s.Crash()
	s.Restart()
	t.Log("the server was away for", time.Since(begun))
	time.Sleep(2 * ttl)
	require.Empty(t, runs)
	select {
	case <-first.ended:
		require.Fail(t, "the body has ended")
	default:
	}
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
