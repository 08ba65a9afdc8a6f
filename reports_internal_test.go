package taskmanager

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A queue holds so many pairs of task and kind, and one report of each kind besides.
func TestReportQueueIsBounded(t *testing.T) {
	var q reportQueue
	for i := range reportsWaiting + 100 {
		q.add(newReport(&Event{Task: fmt.Sprint(i), Kind: EventFailed}, ""))
		q.add(newReport(&Event{Task: "the same", Kind: EventGaveUp}, ""))
	}
	assert.Len(t, q.order, reportsWaiting+1)
	assert.Equal(t, 101, q.order[reportsWaiting].event.TaskCount)
	assert.EqualValues(t, 2*(reportsWaiting+100), countEvents(q.order))
}

// What is merged with a report that waits is not kept, so that a task which fails over and over leaves no garbage.
func TestReportQueueKeepsNoCopyOfWhatItMerges(t *testing.T) {
	var q reportQueue
	e := Event{Task: "a", Kind: EventFailed, Time: time.Now()}
	q.addCopy(newReport(&e, ""))
	assert.Zero(t, testing.AllocsPerRun(100, func() { q.addCopy(newReport(&e, "")) }))
	assert.Len(t, q.order, 1)
}
