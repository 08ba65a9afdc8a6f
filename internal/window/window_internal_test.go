package window

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The ring is compared with a slice of which nothing is ever forgotten.
func TestWindowCountsExactly(t *testing.T) {
	for _, limit := range []int{1, 2, 3, 4, 5, 8, 100, 1000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, uint64(limit)))
			var (
				w    Window
				all  []time.Time
				now  = time.Now()
				span = time.Minute
			)
			for range 10_000 {
				if random.IntN(3) > 0 {
					now = now.Add(time.Duration(random.Int64N(int64(3 * span / time.Duration(limit)))))
				}
				if random.IntN(2) > 0 {
					w.Add(now, limit)
					all = append(all, now)
				}
				want := 0
				for i := len(all) - 1; i >= 0 && want < limit && now.Sub(all[i]) < span; i-- {
					want++
				}
				require.Equal(t, want, w.Count(now, span))
				if random.IntN(2) > 0 {
					require.Equal(t, want, forget(&w, now, span))
				}
				require.LessOrEqual(t, len(w.at), limit)
			}
			assert.Greater(t, len(all), 4000)
		})
	}
}

func TestWindowIsEmptyAtFirst(t *testing.T) {
	var w Window
	assert.Zero(t, w.Count(time.Now(), time.Minute))
	assert.Nil(t, w.at)
}

// forget forgets what is older, and returns how many events are left.
func forget(w *Window, now time.Time, span time.Duration) int {
	w.Forget(now, span)
	return w.Len()
}

// An event counts until span is over, to the nanosecond, and does not come back when a longer span is asked for.
func TestWindowForgetsWhatIsOlder(t *testing.T) {
	now := time.Now()
	var w Window
	w.Add(now, 10)
	w.Add(now.Add(time.Second), 10)
	assert.Equal(t, 2, forget(&w, now.Add(time.Minute-1), time.Minute))
	assert.Equal(t, 1, forget(&w, now.Add(time.Minute), time.Minute))
	assert.Equal(t, 1, forget(&w, now.Add(time.Minute), time.Hour))
	assert.Equal(t, 1, forget(&w, now.Add(time.Minute+time.Second-1), time.Minute))
	assert.Zero(t, forget(&w, now.Add(time.Minute+time.Second), time.Minute))
	assert.Zero(t, forget(&w, now.Add(time.Minute+time.Second), time.Hour))
}

// Nothing is allocated before the first event, little for a few, and no more than the limit needs: lengths[i] is the ring's after
// i events.
func TestWindowGrowsByDoubling(t *testing.T) {
	now := time.Now()
	for limit, lengths := range map[int][]int{
		1:  {0, 1, 1, 1},
		3:  {0, 3, 3, 3, 3, 3},
		4:  {0, 4, 4, 4, 4, 4, 4},
		5:  {0, 4, 4, 4, 4, 5, 5, 5},
		8:  {0, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8},
		20: {0, 4, 4, 4, 4, 8, 8, 8, 8, 16, 16, 16, 16, 16, 16, 16, 16, 20, 20, 20, 20, 20, 20},
	} {
		var w Window
		for events, want := range lengths {
			require.Len(t, w.at, want, "limit %d, %d events", limit, events)
			require.Equal(t, want, cap(w.at), "limit %d, %d events", limit, events)
			require.Equal(t, min(events, limit), w.Len())
			require.Equal(t, min(events, limit), w.Count(now, time.Minute))
			w.Add(now, limit)
		}
	}
}

// The ring grows, in order, also when its oldest event is not at the beginning.
func TestWindowGrowsWithTheOldestAnywhere(t *testing.T) {
	for oldest := range 4 {
		var (
			w    Window
			now  = time.Now()
			span = time.Minute
		)
		for range oldest {
			w.Add(now, 100)
		}
		now = now.Add(span)
		require.Zero(t, forget(&w, now, span))
		for i := range 6 {
			w.Add(now.Add(time.Duration(i)*time.Second), 100)
		}
		require.Len(t, w.at, 8)
		for i := range 6 {
			require.Equal(t, 6-i, w.Count(now.Add(span+time.Duration(i)*time.Second-1), span), "oldest at %d", oldest)
		}
		require.Zero(t, w.Count(now.Add(span+5*time.Second), span))
	}
}

// What leaves the window makes room: the ring does not grow for as many events as it holds.
func TestWindowReusesItsMemory(t *testing.T) {
	var w Window
	now := time.Now()
	for range 1000 {
		w.Add(now, 100)
		w.Add(now, 100)
		now = now.Add(time.Minute)
		require.Zero(t, forget(&w, now, time.Minute))
	}
	assert.Equal(t, 4, cap(w.at))
}

// A Window that is cleared is empty, wherever its oldest event was, and counts exactly what is added then, in the memory that it has.
func TestWindowIsClearedAnywhere(t *testing.T) {
	now := time.Now()
	for before := range 8 {
		var w Window
		for range before {
			w.Add(now, 4)
		}
		memory := cap(w.at)
		w.Clear()
		assert.Equal(t, memory, cap(w.at))
		assert.Zero(t, w.Len())
		assert.Zero(t, w.Count(now, time.Minute))
		assert.Zero(t, forget(&w, now, time.Minute))
		for i := range 6 {
			w.Add(now.Add(time.Duration(i)*time.Second), 4)
			assert.Equal(t, min(i+1, 4), w.Len())
		}
		assert.Equal(t, 3, w.Count(now.Add(5*time.Second), 3*time.Second), "the latest three")
		assert.Equal(t, 2, forget(&w, now.Add(time.Minute+3*time.Second), time.Minute))
	}
}

// There is one for each task that has ever failed.
func TestWindowIsSmall(t *testing.T) {
	assert.Equal(t, unsafe.Sizeof(time.Time{})+unsafe.Sizeof([]int{})+2*unsafe.Sizeof(0), unsafe.Sizeof(Window{}))
}

// To count forgets nothing: who counts at an earlier time afterwards finds what counted then.
func TestWindowCountsWhatItKeeps(t *testing.T) {
	var w Window
	now := time.Now()
	for i := range 6 {
		w.Add(now.Add(time.Duration(i)*time.Second), 5)
	}
	for range 2 {
		assert.Zero(t, w.Count(now.Add(time.Hour), time.Minute))
		assert.Equal(t, 2, w.Count(now.Add(time.Minute+3*time.Second), time.Minute))
		assert.Equal(t, 5, w.Count(now.Add(5*time.Second), time.Minute))
		assert.Equal(t, 5, w.Len())
	}
	w.Forget(now.Add(time.Minute+3*time.Second), time.Minute)
	assert.Equal(t, 2, w.Len())
	assert.Equal(t, 2, w.Count(now.Add(5*time.Second), time.Minute))
}
