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

// A task that was given up by the end of the run for which it was to be replaced, and was revived since, is to be asked again.
func TestReplaceTaskThatWasRevivedMeanwhile(t *testing.T) {
	m := quiet()
	task := undriven(t, m, running)
	s := newStopOp(m, replaceRequest, time.Second)
	s.remaining.Store(1)
	s.resolve()
	r := &replacement{target: task, op: s}
	r.await(t.Context(), true)
	require.NoError(t, r.err)
	assert.True(t, r.again)
}
