package taskmanager

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A task whose name another one has got, since it was looked for, is not the one to be replaced.
func TestReplaceTaskThatHasLostItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet()
		old, err := m.StartTask("a", func(context.Context) error { return nil })
		require.NoError(t, err)
		<-old.Done()
		body := func(ctx context.Context) error { <-ctx.Done(); return nil }
		task, err := m.StartTask("a", body)
		require.NoError(t, err)
		synctest.Wait()

		other, err := m.prepare("a", body, nil, "")
		require.NoError(t, err)
		s := newStopOp(m, replaceRequest, time.Second)
		s.tasks, s.replacement = []*Task{old}, &replacement{task: other}
		assert.Zero(t, s.start(time.Now()))
		assert.Equal(t, errNameTaken, s.replacement.refused)
		synctest.Wait()
		assert.Equal(t, StateCompleted, old.State())
		assert.EqualValues(t, 1, task.Stats().Runs)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}
