package taskmanager

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A run that finds, when it has begun, that what it is bound to was lost is itself lost to those that have begun meanwhile.
func TestBindToOneThatIsLostAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet()
		body := func(ctx context.Context) error { <-ctx.Done(); return nil }
		started := func(name string, opts ...TaskOption) *Task {
			task, err := m.StartTask(name, body, opts...)
			require.NoError(t, err)
			return task
		}
		db := started("db")
		consumer, second := started("consumer", WithBindTo("db")), started("second", WithBindTo("consumer"))
		synctest.Wait()
		set := func(p phase) {
			db.mu.Lock()
			db.machine.phase = p
			db.mu.Unlock()
		}
		consumer.checkBound()
		synctest.Wait()
		assert.EqualValues(t, 1, consumer.Stats().Runs)
		set(inBackoff)
		consumer.checkBound()
		synctest.Wait()
		for _, task := range []*Task{consumer, second} {
			assert.Equal(t, StateWaiting, task.State(), task.Name())
		}
		set(running)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}
