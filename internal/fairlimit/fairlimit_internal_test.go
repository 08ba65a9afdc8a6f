package fairlimit

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
)

// Who is the first in the queue may not have taken the turn yet that is there for it: no public call can hold it up at that
// moment.
func TestWaitDoesNotOvertakeThoughATurnIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1, 1)
		first := l.queue.PushBack(make(chan struct{}))
		var granted bool
		go func() { granted = l.Wait(nil) }()
		synctest.Wait()
		assert.False(t, granted)
		assert.Equal(t, 2, l.queue.Len())
		l.leaveQueue(first)
		synctest.Wait()
		assert.True(t, granted, "nor does it have to wait for anything else")
	})
}

// The rest of Wait alone: before it, Wait may as well have received from wake.
func TestWaitOfTheFirstTakesATurnThatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wake := make(chan struct{}, 1)
		wake <- struct{}{}
		l := New(1, 100)
		for range 100 {
			assert.True(t, l.waitFirst(wake))
		}
		assert.Len(t, wake, 1)
		assert.False(t, l.waitFirst(wake))
		assert.Empty(t, wake)
	})
}

func TestLimiterAtRestHasAnEmptyQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1, 1)
		wake := make(chan struct{})
		for range 3 {
			go l.Wait(nil)
			go l.Wait(wake)
		}
		synctest.Wait()
		close(wake)
		synctest.Wait()
		for range 3 {
			l.Wait(nil)
		}
		synctest.Wait()
		assert.Zero(t, l.queue.Len())
	})
}
