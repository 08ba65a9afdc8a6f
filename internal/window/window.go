// Package window counts what has happened within a sliding span of time: exactly, and in a memory
// that is bounded.
package window

import (
	"sort"
	"time"
)

// A Window holds the times of the latest events. The zero value is empty, and ready to use. A
// Window may not be used by several goroutines at once.
type Window struct {
	origin time.Time       // of the times below, so that each takes 8 bytes and is monotonic
	at     []time.Duration // a ring: oldest at first
	first  int
	n      int
}

// smallest is how many times the first piece of memory holds. Most windows need no other.
const smallest = 4

// Add adds an event at now, which is not before the one that was added last. The Window keeps the
// latest limit of them, at least 1; limit is the same in each call.
func (w *Window) Add(now time.Time, limit int) {
	if w.origin.IsZero() {
		w.origin = now
	}
	if w.n == limit {
		w.dropOldest()
	}
	if w.n == len(w.at) {
		grown := make([]time.Duration, min(max(smallest, 2*len(w.at)), limit))
		for i := range w.n {
			grown[i] = w.at[(w.first+i)%len(w.at)]
		}
		w.at, w.first = grown, 0
	}
	w.at[(w.first+w.n)%len(w.at)] = now.Sub(w.origin)
	w.n++
}

// Count returns how many of the events that are kept were less than span before now.
func (w *Window) Count(now time.Time, span time.Duration) int {
	if w.n == 0 {
		return 0
	}
	since := now.Sub(w.origin)
	return w.n - sort.Search(w.n, func(i int) bool { return since-w.at[(w.first+i)%len(w.at)] < span })
}

// Forget forgets the events that were span or more before now.
func (w *Window) Forget(now time.Time, span time.Duration) {
	for w.n > 0 && now.Sub(w.origin)-w.at[w.first] >= span {
		w.dropOldest()
	}
}

// Len returns how many events are kept: those that the latest Forget has left, and those that have
// been added since, up to the limit.
func (w *Window) Len() int { return w.n }

// Clear forgets all events, and keeps the memory.
func (w *Window) Clear() { w.n = 0 }

func (w *Window) dropOldest() {
	w.first = (w.first + 1) % len(w.at)
	w.n--
}
