package taskmanager

import (
	"context"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Of a million tasks without options none has a configuration or a watch of its own.
func TestTaskWithoutOptionsSharesThoseOfItsManager(t *testing.T) {
	m := quiet()
	body := func(context.Context) error { return nil }
	task, err := m.StartTask("a", body)
	require.NoError(t, err)
	assert.Same(t, &m.config.task, task.config())
	assert.Equal(t, reflect.ValueOf(body).Pointer(), reflect.ValueOf(task.body).Pointer(), "it is called by nobody else")
	require.NoError(t, m.Shutdown(t.Context()))
}
