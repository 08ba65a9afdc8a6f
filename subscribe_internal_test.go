package taskmanager

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// When the last subscriber is gone no more events are made for it, and it is garbage.
func TestNobodyListensAfterTheLastSubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet()
		ctx, cancel := context.WithCancel(t.Context())
		m.Subscribe(ctx)
		require.True(t, m.listens(EventStarted))
		cancel()
		synctest.Wait()
		assert.False(t, m.listens(EventStarted))
	})
}

// A publisher may have read the list of subscribers before one of them was closed.
func TestPublishToAClosedSubscriber(t *testing.T) {
	s := &subscriber{events: make(chan Event, 1)}
	s.close()
	s.publish(Event{})
	_, open := <-s.events
	assert.False(t, open)
}
