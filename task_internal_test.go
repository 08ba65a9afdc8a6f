package taskmanager

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Of a million tasks without options none has a configuration or a watch of its own.
func TestTaskWithoutOptionsSharesThoseOfItsManager(t *testing.T) {
	m := quiet()
	body := func(context.Context) error { return nil }
	task, err := m.StartTask("a", body)
	require.NoError(t, err)
	assert.Same(t, &m.config.task, task.config)
	assert.Equal(t, reflect.ValueOf(body).Pointer(), reflect.ValueOf(task.body).Pointer(), "it is called by nobody else")
	require.NoError(t, m.Shutdown(t.Context()))
}

// A task that can be found has its warning among the lines that wait: whoever stops it, or shuts the Manager down, comes after that.
func TestTaskIsFoundWithItsWarning(t *testing.T) {
	for initial, lines := range map[time.Duration]int{time.Hour: 1, time.Second: 0} {
		m := quiet(WithBackoff(initial, initial))
		task, err := newTask(m, "a", func(context.Context) error { return nil }, &m.config.task)
		require.NoError(t, err)
		_, err = m.register(task)
		require.NoError(t, err)
		assert.Len(t, task.lazyLocked().lines, lines)
		assert.EqualValues(t, lines, m.bus.pending.N())
	}
}
