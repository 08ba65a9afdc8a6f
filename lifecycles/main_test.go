package lifecycles_test

import (
	"context"
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager"
)

// TestMain fails the tests if one of them leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newManager returns a Manager that logs nothing.
func newManager() *taskmanager.Manager {
	m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		panic(err) // there is nothing to refuse
	}
	return m
}

// untilStopped is the body of a task that does well.
func untilStopped(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
