package taskmanager

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What waits for several Reporters is passed on in the order in which it has happened, whatever has been retried meanwhile.
func TestReportUnionIsOldestFirst(t *testing.T) {
	began := time.Now()
	at := func(d time.Duration, task string) *report {
		return newReport(&Event{Time: began.Add(d), Task: task}, "")
	}
	union := reportUnion{byKey: make(map[reportKey]*report)}
	union.add([]*report{at(2, "b"), at(1, "a")})
	union.add([]*report{at(3, "c"), at(0, "d")})
	var got string
	for _, r := range union.oldestFirst() {
		got += r.event.Task
	}
	assert.Equal(t, "dabc", got)
}

// A call of a Reporter that was replaced is pending; and no longer when the Reporter is set again, for then it is waited for like any
// other.
func TestOutboxIsPendingWhileItIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfig()
		b := newEventBus(t.Context(), &c, nil)
		r := &slowReporter{}
		b.setReporter(r)
		b.deliver(&Event{Kind: EventFailed, Task: "a"})
		synctest.Wait()
		assert.Zero(t, b.pending.N())
		b.setReporter(nil)
		assert.Equal(t, 1, b.pending.N())
		b.setReporter(r)
		assert.Zero(t, b.pending.N())
		assert.False(t, b.published(), "it is being called")
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Zero(t, b.pending.N())
		assert.True(t, b.published())
	})
}

// A call of a Reporter that was replaced is pending until it returns or is given up, whichever comes first, and not twice.
func TestOutboxIsPendingOnce(t *testing.T) {
	held := func(t *testing.T) (b *eventBus, release chan struct{}) {
		t.Helper()
		c := newConfig()
		c.logger = slog.New(slog.DiscardHandler)
		b = newEventBus(t.Context(), &c, nil)
		began, release := make(chan struct{}), make(chan struct{})
		b.setReporter(ReporterFunc(func(context.Context, Event) error { close(began); <-release; return nil }))
		b.deliver(&Event{Kind: EventFailed, Task: "a"})
		<-began
		b.setReporter(nil)
		require.Equal(t, 1, b.pending.N())
		return b, release
	}
	forgets := func(t *testing.T, b *eventBus) {
		t.Helper()
		require.Eventually(t, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return !slices.ContainsFunc(b.former, func(o *outbox) bool { called, _ := o.isNeeded(); return called })
		}, time.Minute, time.Millisecond)
	}
	t.Run("given up first", func(t *testing.T) {
		b, release := held(t)
		assert.True(t, b.abandon())
		b.pending.Wait(t.Context()) // for the line
		close(release)
		forgets(t, b)
		assert.Zero(t, b.pending.N())
	})
	t.Run("returned first", func(t *testing.T) {
		b, release := held(t)
		b.mu.Lock()
		close(release)
		waitsForLock(t, ").lockBus(")
		for _, o := range b.former {
			o.release()
		}
		b.mu.Unlock()
		forgets(t, b)
		assert.Zero(t, b.pending.N())
	})
}

// A timer that fires when its call of the Reporter has just returned says nothing about the next one.
func TestOutboxSaysOfOneCallThatItDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfig()
		c.logger = slog.New(slog.DiscardHandler)
		b := newEventBus(t.Context(), &c, nil)
		b.setReporter(ReporterFunc(func(context.Context, Event) error { time.Sleep(time.Second); return nil }))
		b.deliver(&Event{Kind: EventFailed, Task: "a"})
		time.Sleep(time.Minute)
		b.deliver(&Event{Kind: EventFailed, Task: "a"})
		synctest.Wait()
		o := b.outboxList()[0]
		require.NotNil(t, o.cancel, "it is called for the second time")
		o.logOverdue(1, time.Now())
		assert.Zero(t, b.pending.N())
		o.logOverdue(2, time.Now())
		assert.Equal(t, 1, b.pending.N())
		time.Sleep(time.Minute)
	})
}

// A slowReporter takes a minute for each event.
type slowReporter struct{ _ int }

func (*slowReporter) Report(context.Context, Event) error { time.Sleep(time.Minute); return nil }
