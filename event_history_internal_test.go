package taskmanager

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What 16 events take is little, and nothing of it is garbage once the ring has grown.
func TestEventHistoryIsSmall(t *testing.T) {
	task := undriven(t, quiet(), running)
	task.record = &record{}
	o := &occurrence{kind: EventFailed, now: time.Now(), run: 1, err: errors.New("boom")}
	for range 100 {
		task.keepLocked(o)
	}
	ring := task.record.history
	assert.Len(t, ring.at, 16)
	assert.LessOrEqual(t, unsafe.Sizeof(*ring)+uintptr(cap(ring.at))*unsafe.Sizeof(pastEvent{}), uintptr(1100))
	assert.Zero(t, testing.AllocsPerRun(100, func() { task.keepLocked(o) }))
}

// The ring is compared with a slice. Its limit changes now and then, wherever its oldest event is, and what it has dropped is not kept alive.
func TestEventHistoryIsARing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var (
		ring  eventRing
		want  []pastEvent
		limit = 5
	)
	for i := range 10_000 {
		if random.IntN(10) == 0 {
			limit = 1 + random.IntN(20)
		}
		e := pastEvent{run: uint64(i) + 1}
		*ring.next(limit) = e
		want = append(want, e)
		want = want[max(0, len(want)-limit):]
		require.Equal(t, want, ring.all())
		held := slices.DeleteFunc(slices.Clone(ring.at), func(e pastEvent) bool { return e == pastEvent{} })
		require.Len(t, held, len(want))
		require.LessOrEqual(t, len(ring.at), 20)
	}
}

// What is made of an event that was kept is what it was.
func TestEventHistoryMakesEventsAnew(t *testing.T) {
	err, own := errors.New("boom"), errors.New("own")
	for _, cause := range append(pastCauses[:], own) {
		for _, hand := range []*byHand{nil, {by: "alice"}} {
			o := occurrence{
				kind: EventStopped, now: time.Unix(5, 6), run: 7, err: err, cause: cause, delay: 8, uptime: 9, restarts: 10, hand: hand,
			}
			var e pastEvent
			e.set(&o)
			assert.Equal(t, o, e.occurrence())
		}
	}
	var e pastEvent
	e.set(&occurrence{kind: EventStopped, now: time.Unix(5, 6), cause: ErrStopped, hand: newHand(context.Background())})
	assert.Equal(t, pastEvent{at: time.Unix(5, 6).UnixNano(), kind: uint8(EventStopped), cause: 1}, e, "without anybody nothing is kept beside it")
}
