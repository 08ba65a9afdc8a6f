package pglease

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
	"github.com/go-taskmanager/taskmanager/lease/pglease/pgtest"
)

// TestPostgres is what a real server does. One is started for all.
func TestPostgres(t *testing.T) {
	s := pgtest.Start(t)
	for _, c := range []struct {
		name string
		test func(t *testing.T, s *pgtest.Server)
	}{
		{"Store", testStore},
		{"StoreBehindPooler", testStoreBehindPooler},
		{"ClaimWaitsForClaim", testClaimWaitsForClaim},
		{"ClaimDoesNotWaitForFence", testClaimDoesNotWaitForFence},
		{"ExpireWaitsForBeat", testExpireWaitsForBeat},
		{"ReadOnly", testReadOnly},
		{"ListenBehindPooler", testListenBehindPooler},
		{"Idle", testIdle},
		{"Migrate", testMigrate},
		{"MigrateRefuses", testMigrateRefuses},
		{"Errors", testErrors},
		{"Waits", testWaits},
		{"WaitsForServer", testWaitsForServer},
		{"Fence", testFence},
		{"FenceOfRun", testFenceOfRun},
		{"FenceOfRunThatEnds", testFenceOfRunThatEnds},
		{"HandOver", testHandOver},
		{"Faults", testFaults},
		{"Restart", testRestart},
		{"RestartUnderProcesses", testRestartUnderProcesses},
		{"ClaimSurvivesCrash", testClaimSurvivesCrash},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, s) })
	}
}

// database returns the addresses of a new database with the tables.
func database(t *testing.T, s *pgtest.Server) (direct, pooler string) {
	t.Helper()
	direct, pooler = s.Database(t)
	require.NoError(t, Migrate(t.Context(), direct))
	return direct, pooler
}

// connect returns a store that is idle when the test ends.
func connect(t *testing.T, url, listen string) *store {
	t.Helper()
	s, err := newStore(Config{ConnString: url, Listen: listen}, "pool")
	require.NoError(t, err)
	t.Cleanup(s.Idle)
	return s
}

func testStore(t *testing.T, s *pgtest.Server) {
	leasetest.RunStore(t, func(t *testing.T) func() lease.Store {
		url, _ := database(t, s)
		return func() lease.Store { return connect(t, url, url) }
	})
}

func testStoreBehindPooler(t *testing.T, s *pgtest.Server) {
	leasetest.RunStore(t, func(t *testing.T) func() lease.Store {
		direct, pooler := database(t, s)
		return func() lease.Store { return connect(t, pooler, direct) }
	})
}
