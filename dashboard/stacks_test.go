package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Ten viewers of ten tasks ask at once, again and again: there is one dump of all goroutines a second, for all of them.
func TestStackDumps(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		tasks := make([]*taskmanager.Task, 10)
		for i := range tasks {
			tasks[i] = s.start(fmt.Sprint(i), park)
		}
		synctest.Wait()
		var (
			dumps stackDumps
			all   sync.WaitGroup
			mu    sync.Mutex
			times = make(map[time.Time]int)
		)
		const asks = 5
		began := time.Now()
		for _, task := range tasks {
			all.Go(func() {
				for range asks {
					stack, at, err := dumps.of(t.Context(), task)
					assert.NoError(t, err)
					assert.Contains(t, string(stack), "dashboard.park")
					mu.Lock()
					times[at]++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		assert.LessOrEqual(t, len(times), asks+1)
		assert.LessOrEqual(t, time.Since(began), asks*stackDumpEvery)
		for a := range times {
			for b := range times {
				if d := a.Sub(b); d > 0 {
					assert.GreaterOrEqual(t, d, stackDumpEvery)
				}
			}
		}
	})
}

// Who goes away waits no longer; the others get what they have asked for.
func TestStackDumpsOfAClientThatGoesAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSite(t)
		a, b := s.start("a", park), s.start("b", park)
		synctest.Wait()
		var dumps stackDumps
		_, _, err := dumps.of(t.Context(), a)
		require.NoError(t, err)
		ctx, leaves := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { _, _, _ = dumps.of(ctx, a) }) // the first, by which the dump is made
		synctest.Wait()
		all.Go(func() {
			_, _, err := dumps.of(ctx, b)
			assert.ErrorIs(t, err, context.Canceled)
		})
		all.Go(func() {
			stack, _, err := dumps.of(t.Context(), b)
			assert.NoError(t, err)
			assert.NotEmpty(t, stack)
		})
		synctest.Wait()
		leaves()
		all.Wait()
	})
}

// A page never asks for the form of the profile that stops the world for long.
func TestStackOnThePage(t *testing.T) {
	s := newSite(t)
	s.start("a", func(ctx context.Context) error {
		pprof.Do(ctx, pprof.Labels("kind", "inner"), func(ctx context.Context) { <-ctx.Done() })
		return nil
	})
	task := s.start("idle", park)
	require.NoError(t, task.Stop(t.Context()))
	s.waitFor(func() bool { return strings.Contains(s.get("task?task=a").Body.String(), "TestStackOnThePage") })
	body := s.get("task?task=a").Body.String()
	assert.Contains(t, body, "Look again")
	assert.NotContains(t, body, "goroutine 1 [", "that would be debug=2")
	assert.Contains(t, s.get("task.txt?task=a").Body.String(), "TestStackOnThePage")
	assert.NotContains(t, s.get("task?stack=0&task=a").Body.String(), "TestStackOnThePage")
	assert.Contains(t, s.get("task?task=idle").Body.String(), "No run executes.")
	assert.Equal(t, http.StatusOK, s.get("task?stack=1&task=idle").Code)
}
