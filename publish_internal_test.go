package taskmanager

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"runtime/pprof"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager/internal/goroutines"
)

// wants is about subscribers for all events, and about reporters for those of which they hear, here and in the buses around. It
// doesn't ask the log.
func TestBusWants(t *testing.T) {
	asked := false
	c := newConfig()
	c.logger = slog.New(enabledHandler{slog.DiscardHandler, func() { asked = true }})
	outer := newEventBus(t.Context(), &c, nil)
	inner := newEventBus(t.Context(), &c, outer)
	kindsFor := func(b *eventBus) (kinds []EventKind) {
		for k := EventStarted; k.valid(); k++ {
			if b.wants(k) {
				kinds = append(kinds, k)
			}
		}
		return kinds
	}
	assert.Empty(t, kindsFor(inner))
	r := ReporterFunc(func(context.Context, Event) error { return nil })
	reported := []EventKind{EventFailed, EventGaveUp, EventStuck, EventPassGaveUp, EventRecovered}
	outer.setReporter(r)
	assert.Equal(t, reported, kindsFor(inner))
	outer.setReporter(nil)
	inner.setReporter(r)
	assert.Equal(t, reported, kindsFor(inner))
	assert.Empty(t, kindsFor(outer))
	outer.subscribe(t.Context())
	assert.Len(t, kindsFor(inner), len(eventKinds))
	assert.Len(t, kindsFor(outer), len(eventKinds))
	assert.False(t, asked)
	assert.True(t, inner.logs(t.Context(), slog.LevelDebug))
	assert.True(t, asked)
}

type enabledHandler struct {
	slog.Handler
	asked func()
}

func (h enabledHandler) Enabled(context.Context, slog.Level) bool { h.asked(); return true }

// While the log's handler hangs, lines about reporters wait up to a limit. Those beyond it are counted.
func TestBusKeepsABoundedNumberOfLines(t *testing.T) {
	for _, tooMany := range []int{0, 1, 49} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			var dropped, lines, inside int64
			c := newConfig()
			c.logger = slog.New(handlerFunc(func(r slog.Record) {
				inside++
				assert.EqualValues(t, 1, inside, "one at a time")
				<-release
				inside--
				lines++
				r.Attrs(func(a slog.Attr) bool {
					if a.Key == "lines_dropped" {
						dropped += a.Value.Int64()
					}
					return true
				})
			}))
			b := newEventBus(t.Context(), &c, nil)
			b.logLater("first")
			synctest.Wait() // it is in the handler
			for range 100 + tooMany {
				b.logLater("another")
			}
			synctest.Wait()
			assert.Equal(t, 101, b.pending.N())
			close(release)
			b.pending.Wait(t.Context())
			assert.EqualValues(t, 101, lines)
			assert.EqualValues(t, tooMany, dropped)
			b.logLater("last")
			b.pending.Wait(t.Context())
			assert.EqualValues(t, 102, lines)
			assert.EqualValues(t, tooMany, dropped)
		})
	}
}

// What a task's goroutine leaves to be logged is logged by one that bears none of the task's labels.
func TestBusLogsOnAGoroutineOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfig()
		var stacks []byte
		a := goroutines.Task{Manager: "1", Name: "a"}
		c.logger = slog.New(handlerFunc(func(slog.Record) { stacks = goroutines.Stacks(a)[a] }))
		b := newEventBus(t.Context(), &c, nil)
		pprof.Do(t.Context(), goroutines.Labels("1", "a"), func(context.Context) { b.logLater("a line") })
		b.pending.Wait(t.Context())
		assert.NotContains(t, string(stacks), "writeLines")
	})
}

type handlerFunc func(r slog.Record)

func (h handlerFunc) Enabled(context.Context, slog.Level) bool      { return true }
func (h handlerFunc) Handle(_ context.Context, r slog.Record) error { h(r); return nil }
func (h handlerFunc) WithAttrs([]slog.Attr) slog.Handler            { return h }
func (h handlerFunc) WithGroup(string) slog.Handler                 { return h }

// What is pending may put something into an outbox, and a flush waits for that as well; an outbox may have something to log.
func TestBusFlushWaitsForWhatIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfig()
		logged := 0
		c.logger = slog.New(handlerFunc(func(slog.Record) { time.Sleep(time.Second); logged++ }))
		b := newEventBus(t.Context(), &c, nil)
		b.setReporter(ReporterFunc(func(context.Context, Event) error { time.Sleep(time.Second); return ErrReporterClosed }))
		b.pending.Add()
		time.AfterFunc(time.Second, func() {
			b.deliver(&Event{Kind: EventFailed, Task: "a", Err: errors.New("boom")})
			b.pending.Done()
		})
		began := time.Now()
		b.flush(t.Context())
		assert.Equal(t, 3*time.Second, time.Since(began))
		assert.Equal(t, 1, logged)
	})
}

// What is pending may put something into an outbox that has been found idle, before the others are looked at.
func TestBusPublishedIsAboutWhatIsPendingFirst(t *testing.T) {
	c := newConfig()
	b := newEventBus(t.Context(), &c, nil)
	release := make(chan struct{})
	reporter := func() Reporter { return ReporterFunc(func(context.Context, Event) error { <-release; return nil }) }
	b.setReporter(MultiReporter(reporter(), reporter()))
	outboxes := b.outboxList()
	require.Len(t, outboxes, 2)
	b.pending.Add()
	outboxes[1].mu.Lock()
	published := make(chan bool, 1)
	go func() { published <- b.published() }()
	require.Eventually(t, func() bool { return len(published) > 0 || isWaitingForLock(".idle(") }, time.Minute, time.Millisecond)
	outboxes[0].put(&report{event: Event{Kind: EventFailed, Task: "a"}})
	b.pending.Done()
	outboxes[1].mu.Unlock()
	assert.False(t, <-published)
	close(release)
	b.flush(t.Context())
	assert.True(t, b.published())
}

// Of flushes at the same time, one that is canceled takes nothing from the others: the limit of the reports holds again when all are
// over, also for a Reporter that is set then.
func TestBusFlushAmongOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfig()
		c.reportLimit, c.reportBurst = rate.Every(time.Hour), 1
		b := newEventBus(t.Context(), &c, nil)
		reported := ""
		setReporter := func() {
			b.setReporter(ReporterFunc(func(_ context.Context, e Event) error { reported += e.Task; return nil }))
		}
		fail := func(tasks ...string) {
			for _, task := range tasks {
				b.deliver(&Event{Kind: EventFailed, Task: task})
			}
			synctest.Wait()
		}
		setReporter()
		b.pending.Add() // all flushes wait for that
		canceled, cancel := context.WithCancel(t.Context())
		var flushes sync.WaitGroup
		for _, ctx := range []context.Context{canceled, t.Context()} {
			flushes.Go(func() { b.flush(ctx) })
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		fail("a", "b", "c")
		assert.Equal(t, "abc", reported)
		b.pending.Done()
		flushes.Wait()
		fail("d", "e")
		assert.Equal(t, "abcd", reported)
		setReporter()
		fail("f", "g")
		assert.Equal(t, "abcde", reported, "the limit is that of each Reporter")
		b.setReporter(nil)
	})
}

// A flush that is over leaves no timer behind, however far off its deadline is.
func TestBusFlushEndsItsContext(t *testing.T) {
	for name, timeout := range map[string]time.Duration{"in an hour": time.Hour, "over": 0} {
		parent, cancel := context.WithTimeout(t.Context(), timeout)
		ctx, end := flushContext(parent)
		require.NoError(t, ctx.Err(), name)
		end()
		assert.Equal(t, context.Canceled, ctx.Err(), name)
		cancel()
	}
}

// An outbox that was replaced stays with the bus while its call is under way, and no longer.
func TestBusForgetsReporters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConfig()
		b := newEventBus(t.Context(), &c, nil)
		outbox := func() weak.Pointer[outbox] {
			b.setReporter(ReporterFunc(func(context.Context, Event) error { time.Sleep(time.Second); return nil }))
			b.deliver(&Event{Kind: EventFailed, Task: "a"})
			synctest.Wait()
			o := weak.Make(b.outboxList()[0])
			b.setReporter(nil)
			return o
		}()
		runtime.GC()
		require.NotNil(t, outbox.Value(), "it is being called")
		time.Sleep(time.Minute) // the runtime keeps a timer until its time, also one that was stopped
		for range 10 {
			runtime.GC()
		}
		assert.Nil(t, outbox.Value())
		runtime.KeepAlive(b)
	})
}

// One that is not being called when it is replaced is forgotten at once.
func TestBusForgetsAReporterThatIsNotCalled(t *testing.T) {
	c := newConfig()
	b := newEventBus(t.Context(), &c, nil)
	b.setReporter(ReporterFunc(func(context.Context, Event) error { return nil }))
	b.setReporter(nil)
	assert.Empty(t, b.former)
}

// A line that others follow holds them up until it has been written; if there is no room for it, not at all.
func TestBusWritesTheFirstLineFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var messages []string
		c := newConfig()
		c.logger = slog.New(handlerFunc(func(r slog.Record) {
			if r.Message != "task stopped" {
				<-release
			}
			messages = append(messages, r.Message)
		}))
		outer := newEventBus(t.Context(), &c, nil)
		inner := newEventBus(t.Context(), &c, outer)
		outer.logFirst(slog.LevelInfo, "first")
		written := make(chan struct{})
		go func() {
			defer close(written)
			inner.logEvent(&logLine{ctx: t.Context(), Event: Event{Kind: EventStopped}})
		}()
		synctest.Wait()
		close(release)
		<-written
		assert.Equal(t, []string{"first", "task stopped"}, messages)

		release = make(chan struct{})
		for range linesWaiting + 1 {
			outer.logLater("another")
			synctest.Wait() // the first of them is with the handler
		}
		outer.logFirst(slog.LevelInfo, "dropped")
		<-*outer.announce.Load()
		close(release)
		outer.pending.Wait(t.Context())
	})
}
