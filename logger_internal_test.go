package taskmanager

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Keys that other packages keep to themselves are found, whichever version of them it is.
func TestLogContextFindsForeignKeys(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	assert.Equal(t, ctx, ctx.Value(cancelKey))
	assert.NotNil(t, labelsKey)
	assert.Nil(t, logValues{of: ctx}.Value(cancelKey))
}
