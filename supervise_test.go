package taskmanager_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A narrowError says that a task below is stuck, and panics when it is asked whether it is permanent.
type narrowError struct{}

func (narrowError) Error() string { return "narrow" }

func (narrowError) As(target any) bool {
	if _, ok := target.(**backoff.PermanentError); ok {
		panic("unexpected target")
	}
	stuck, ok := target.(**taskmanager.StopTimeoutError)
	if ok {
		*stuck = &taskmanager.StopTimeoutError{Task: "below"}
	}
	return ok
}

func TestSuperviseAsksForWhatIsLeftFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(time.Second, time.Second))
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", func(context.Context) error { return narrowError{} })
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, task.Wait(t.Context()), &gaveUp)
		assert.Equal(t, narrowError{}, gaveUp.Err)
		assert.EqualValues(t, 1, task.Stats().Runs)
		assert.EqualValues(t, 1, task.Stats().Failures)
		assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventGaveUp}, kinds(received(events), "a"))
	})
}
