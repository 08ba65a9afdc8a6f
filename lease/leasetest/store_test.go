package leasetest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// TestMain fails the tests if one of them leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	leasetest.RunStore(t, func(t *testing.T) func() lease.Store {
		server := leasetest.NewServer()
		return func() lease.Store { return server.Store(t) }
	})
}
