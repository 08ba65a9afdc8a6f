package taskmanager_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Of what was given up in an outage each is remembered, however many others end after it, up to 10,000 of them; of those beyond
// there is a count.
func TestPromise10WhatWasGivenUpIsRemembered(t *testing.T) {
	const most, beyond = 10_000, 50
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithHistory(1))
		first := start(t, m, "first", boom, once(), taskmanager.WithCritical())
		synctest.Wait()
		for i := range most - 1 {
			start(t, m, fmt.Sprint(i), boom, once())
		}
		synctest.Wait()
		for i := range 3 {
			start(t, m, fmt.Sprint("completes ", i), func(context.Context) error { return nil })
			synctest.Wait()
		}
		stats := m.Stats()
		assert.Equal(t, most, stats.Failed)
		assert.Equal(t, 1, stats.Completed)
		h := m.Health()
		assert.Equal(t, taskmanager.HealthFailing, h.State)
		require.Len(t, h.Problems, most)

		for i := range beyond {
			start(t, m, fmt.Sprint("beyond ", i), boom, once())
			synctest.Wait()
		}
		assert.Equal(t, most, m.Stats().Failed)
		_, ok := m.Lookup("first")
		assert.False(t, ok, "it was the first")
		require.ErrorIs(t, first.Restart(t.Context()), taskmanager.ErrTaskNotFound)
		for i := range beyond {
			_, ok = m.Lookup(fmt.Sprint("beyond ", i))
			assert.True(t, ok, "the latest are remembered")
		}
		h = m.Health()
		assert.Equal(t, taskmanager.HealthFailing, h.State, "a critical one was among those that have been forgotten")
		require.Len(t, h.Problems, most+1)
		assert.Contains(t, h.Problems, taskmanager.HealthProblem{
			State: taskmanager.StateFailed, Reason: taskmanager.HealthGivenUp,
			Detail: fmt.Sprintf("%d more tasks, which have been forgotten", beyond),
		})
		require.EqualError(t, m.Run(t.Context()), "taskmanager: gave up 1 more critical tasks, which have been forgotten", "it ends at once")
	})
}
