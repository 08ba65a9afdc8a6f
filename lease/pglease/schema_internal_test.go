package pglease

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease/pglease/pgtest"
)

func testMigrate(t *testing.T, s *pgtest.Server) {
	direct, pooler := s.Database(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { assert.NoError(t, Migrate(t.Context(), []string{direct, pooler}[i%2])) })
	}
	wg.Wait()
	join(t, connect(t, direct, direct), "a")
	require.NoError(t, Migrate(t.Context(), direct))
	var rows int
	require.NoError(t, open(t, direct).QueryRow(t.Context(), "SELECT count(*) FROM tm_session").Scan(&rows))
	assert.Equal(t, 1, rows, "nothing has changed")

	// Who can't make tables needs not.
	s.Exec(t, direct, "CREATE ROLE reader LOGIN; GRANT SELECT ON tm_schema TO reader")
	require.NoError(t, Migrate(t.Context(), withUser(t, direct, "reader")))
}

func testMigrateRefuses(t *testing.T, s *pgtest.Server) {
	later, _ := database(t, s)
	s.Exec(t, later, "UPDATE tm_schema SET version = 7")
	require.EqualError(t, Migrate(t.Context(), later), "pglease: migrate: the tables are of version 7, and this program is for version 1: "+
		"use the same version of pglease in all replicas")

	taken, _ := s.Database(t)
	s.Exec(t, taken, "CREATE TABLE tm_lease (tenant text)")
	require.ErrorContains(t, Migrate(t.Context(), taken), "it is another program's")
	var made bool
	require.NoError(t, open(t, taken).QueryRow(t.Context(), "SELECT to_regclass('tm_session') IS NOT NULL").Scan(&made))
	assert.False(t, made)
}
