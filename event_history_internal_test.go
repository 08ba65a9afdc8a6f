package taskmanager

import (
	"errors"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
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

// What is made of an event that was kept is what it was.
func TestEventHistoryMakesEventsAnew(t *testing.T) {
	err, own := errors.New("boom"), errors.New("own")
	for _, cause := range append(pastCauses[:], own) {
		o := occurrence{
			kind: EventStopped, now: time.Unix(5, 6), run: 7, err: err, cause: cause, delay: 8, uptime: 9, restarts: 10,
		}
		e := newPastEvent(&o)
		assert.Equal(t, o, e.occurrence())
	}
}
