package taskmanager

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// When the last subscriber is gone no more events are made for it, and it is garbage.
func TestSubscribeNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet()
		require.False(t, m.bus.wants(EventStarted))
		ctx, cancel := context.WithCancel(t.Context())
		m.Subscribe(ctx)
		require.True(t, m.bus.wants(EventStarted))
		cancel()
		synctest.Wait()
		assert.False(t, m.bus.wants(EventStarted))
	})
}

// A subscriber whose context outlives the Manager doesn't keep the Manager. Its channel is closed all the same.
func TestSubscribeKeepsNoManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		m, bus, events := func() (weak.Pointer[Manager], weak.Pointer[eventBus], <-chan Event) {
			m := quiet()
			return weak.Make(m), weak.Make(m.bus), m.Subscribe(ctx)
		}()
		for range 10 {
			runtime.GC()
		}
		assert.Nil(t, m.Value())
		assert.Nil(t, bus.Value())
		cancel()
		synctest.Wait()
		_, open := <-events
		assert.False(t, open)
	})
}

// A publisher may have read the list of subscribers before one of them was closed.
func TestSubscribePublishToAClosedOne(t *testing.T) {
	s := &subscriber{events: make(chan Event, 1)}
	s.close()
	s.publish(Event{})
	_, open := <-s.events
	assert.False(t, open)
}

// After the life of a group's Manager nobody waits for its events, whatever the context of the subscription, and whether that begins
// before or after. What was in the channel can be read.
func TestSubscribeToABusThatIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := quiet().bus
		ctx, cancel := context.WithCancel(t.Context())
		var none context.Context
		before := []<-chan Event{b.subscribe(none), b.subscribe(ctx)}
		b.deliver(&Event{Task: "a"})
		b.closeSubscribers()
		for _, events := range append(before, b.subscribe(none), b.subscribe(ctx)) {
			var got []string
			for e := range events {
				got = append(got, e.Task)
			}
			if len(before) > 0 {
				assert.Equal(t, []string{"a"}, got)
				before = before[1:]
			} else {
				assert.Empty(t, got)
			}
		}
		assert.False(t, b.wants(EventStarted))
		cancel() // closes none a second time
		synctest.Wait()
		b.closeSubscribers()
	})
}

// A subscription that has been ended leaves nothing that waits for its context, which may last.
func TestSubscribeLeavesNothingAtItsContext(t *testing.T) {
	for name, end := range map[string]func(b *eventBus){
		"ended after":  func(*eventBus) {},
		"ended before": func(b *eventBus) { b.closeSubscribers() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // which fails if it leaves a goroutine
				b := quiet().bus
				end(b)
				b.subscribe(lastingContext{t.Context(), make(chan struct{})})
				b.closeSubscribers()
			})
		})
	}
}

// A lastingContext is a foreign one that does not end.
type lastingContext struct {
	context.Context
	done chan struct{}
}

func (c lastingContext) Done() <-chan struct{} { return c.done }

// Whoever subscribes with a context whose methods panic has no channel, and leaves nothing behind.
func TestSubscribeWithAContextThatPanics(t *testing.T) {
	m := quiet()
	assert.Panics(t, func() { m.Subscribe(struct{ context.Context }{}) }, "its methods are those of nil")
	assert.Nil(t, m.bus.subscriberList())
}

// One that has ended before leaves nothing behind either, whoever is first: that which ends the subscription, or that which begins it.
func TestSubscribeWithAContextThatHasEnded(t *testing.T) {
	for range 1000 {
		m := quiet()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		events := m.Subscribe(ctx)
		<-events
		require.Eventually(t, func() bool { return m.bus.subscriberList() == nil }, time.Minute, time.Microsecond)
	}
}
