package pglease

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

func TestMain(m *testing.M) {
	leasetest.RunReplica(openReplica)
	goleak.VerifyTestMain(m)
}
