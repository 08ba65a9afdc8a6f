package main

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What does not follow within three TTL is an error.
func TestDemoFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(new(bytes.Buffer), false)
		begun := time.Now()
		err := demo(t.Context(), &fleet{board: b}, b) // without a replica
		require.ErrorContains(t, err, "not every task runs on as many replicas as it should")
		assert.Equal(t, 3*ttl, time.Since(begun))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		require.NoError(t, demo(ctx, &fleet{board: b}, b), "somebody has ended it")
	})
}
