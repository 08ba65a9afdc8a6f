package taskmanager_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Every kind of event, with every field of it.
func TestSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t, taskmanager.WithName("bot"), taskmanager.WithStopTimeout(2*time.Second))
		events := m.Subscribe(t.Context())
		began := time.Now()
		at := began.Add
		next := func() taskmanager.Event {
			synctest.Wait()
			select {
			case e := <-events:
				return e
			default:
				t.Fatal("no event")
				return taskmanager.Event{}
			}
		}

		task := start(t, m, "a", failAfter(3*time.Second), taskmanager.WithMaxRestarts(1), taskmanager.WithRestartWindow(time.Hour),
			taskmanager.WithBackoff(5*time.Second, time.Minute))
		e := taskmanager.Event{Manager: "bot", Task: "a", MaxRestarts: 1, Window: time.Hour}
		want := e
		want.Time, want.Kind, want.Run = at(0), taskmanager.EventStarted, 1
		assert.Equal(t, want, next())
		time.Sleep(3 * time.Second)
		want = e
		want.Time, want.Kind, want.Run = at(3*time.Second), taskmanager.EventFailed, 1
		want.Err, want.Delay, want.Restarts, want.Uptime = errBoom, 5*time.Second, 1, 3*time.Second
		assert.Equal(t, want, next())
		time.Sleep(5 * time.Second)
		assert.Equal(t, taskmanager.EventStarted, next().Kind)
		time.Sleep(3 * time.Second)
		want = e
		want.Time, want.Kind, want.Run = at(11*time.Second), taskmanager.EventGaveUp, 2
		want.Restarts, want.Uptime = 1, 3*time.Second
		got := next()
		want.Err = task.Err()
		require.Error(t, want.Err)
		assert.Equal(t, want, got)

		// A restart by hand starts afresh, and counts its runs from 1.
		require.NoError(t, task.Restart(t.Context()))
		assert.EqualValues(t, 1, next().Run)
		time.Sleep(time.Second)
		require.NoError(t, task.Restart(t.Context()))
		want = e
		want.Time, want.Kind, want.Run, want.Uptime = at(12*time.Second), taskmanager.EventStopped, 1, time.Second
		got = next()
		require.ErrorIs(t, got.Err, taskmanager.ErrRestarted)
		want.Err, want.Cause = got.Err, taskmanager.ErrRestarted
		assert.Equal(t, want, got)
		assert.EqualValues(t, 2, next().Run)
		time.Sleep(time.Second)
		require.NoError(t, task.Stop(t.Context()))
		want = e
		want.Time, want.Kind, want.Run, want.Uptime = at(13*time.Second), taskmanager.EventStopped, 2, time.Second
		want.Cause = taskmanager.ErrStopped
		assert.Equal(t, want, next())

		start(t, m, "b", func(context.Context) error { time.Sleep(time.Second); return nil })
		assert.Equal(t, taskmanager.EventStarted, next().Kind)
		time.Sleep(time.Second)
		assert.Equal(t, taskmanager.Event{
			Time: at(14 * time.Second), Manager: "bot", Task: "b", Kind: taskmanager.EventCompleted, Run: 1,
			MaxRestarts: 5, Window: time.Minute, Uptime: time.Second,
		}, next())

		release := make(chan struct{})
		start(t, m, "c", ignoring(release))
		assert.Equal(t, taskmanager.EventStarted, next().Kind)
		err := m.StopTask(t.Context(), "c")
		require.Error(t, err)
		assert.Equal(t, taskmanager.Event{
			Time: at(16 * time.Second), Manager: "bot", Task: "c", Kind: taskmanager.EventStuck, Run: 1,
			Err: err, MaxRestarts: 5, Window: time.Minute, Uptime: 2 * time.Second,
		}, next())
		close(release)
		assert.Equal(t, taskmanager.EventStopped, next().Kind)
		assert.Empty(t, received(events))
	})
}

// A subscriber that doesn't read loses the oldest; what it missed is told by those that it gets.
func TestSubscribeSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const buffer = 256
		m := observed(t, taskmanager.WithHistory(0))
		slow, fast := m.Subscribe(t.Context()), m.Subscribe(t.Context())
		run := func(n int) {
			for i := range n {
				start(t, m, fmt.Sprint(i), func(context.Context) error { return nil })
				synctest.Wait()
				assert.Len(t, received(fast), 2)
			}
		}
		run(buffer / 2)
		assert.Len(t, slow, buffer)
		run(50)
		got := received(slow)
		require.Equal(t, buffer+100-4*32, len(got)) //nolint:testifylint // Len would print them
		assert.Equal(t, "64", got[0].Task, "the first 128 events are lost, 32 at a time")
		assert.Equal(t, 128, got[0].Missed, "after the gap")
		for _, e := range got[1:] {
			assert.Zero(t, e.Missed)
		}
		run(1)
		for _, e := range received(slow) {
			assert.Zero(t, e.Missed)
		}
	})
}

func TestSubscribeUntilTheContextIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		ctx, cancel := context.WithCancel(t.Context())
		leaving := m.Subscribe(ctx)
		staying := m.Subscribe(context.Background())
		done, stop := context.WithCancel(t.Context())
		stop()
		late := m.Subscribe(done)
		synctest.Wait()
		_, open := <-late
		assert.False(t, open)

		start(t, m, "a", untilStopped)
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "a"))
		e, open := <-leaving
		assert.True(t, open, "what was buffered can be read")
		assert.Equal(t, taskmanager.EventStarted, e.Kind)
		_, open = <-leaving
		assert.False(t, open)
		assert.Len(t, received(staying), 2)
	})
}

func TestSubscribeWithANilContextLastsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		var none context.Context
		events := m.Subscribe(none)
		start(t, m, "a", boom, once())
		synctest.Wait()
		assert.Len(t, received(events), 2)
	})
}

// Subscribers come and go while events are published: to be run with the race detector.
func TestSubscribeWhileEventsArePublished(t *testing.T) {
	m := observed(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 100 {
				task, err := m.StartTask(fmt.Sprint(i), func(context.Context) error { return nil })
				if assert.NoError(t, err) {
					<-task.Done()
				}
			}
		})
		wg.Go(func() {
			for range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				events := m.Subscribe(ctx)
				cancel()
				for e := range events {
					assert.NotEmpty(t, e.Task)
				}
			}
		})
	}
	wg.Wait()
}

// Of a subscriber that is far too slow, an event is lost that stood for others that were lost: they still count.
func TestSubscribeMissedEventsAddUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		events := m.Subscribe(t.Context())
		const tasks = 1000
		for i := range tasks {
			start(t, m, fmt.Sprint(i), func(context.Context) error { return nil })
			synctest.Wait()
		}
		seen := 0
		for _, e := range received(events) {
			seen += 1 + e.Missed
		}
		assert.Equal(t, 2*tasks, seen, "started and completed")
	})
}
