package taskmanager

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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

// A task that has failed, recovered and failed is told to have done so, in that order, whatever waits, is merged and is put back; and
// however often it does so meanwhile, few reports wait. (The last that is told of a task is the last that has happened.)
func TestReportQueueKeepsRecoveriesInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var (
			q      reportQueue
			now    = time.Now()
			failed = make(map[string]bool)
			told   = make(map[uint64]bool) // by hash: whether a failure was told last
			sent   uint64
			events uint64
			mu     sync.Mutex
		)
		names := []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"}[:1+random.IntN(12)]
		texts := 1 + random.IntN(3)
		report := func(r *report) {
			sent += r.eventCount()
			if r.tasks == nil {
				told[hashTexts(r.origin, r.event.Task)] = r.event.Kind != EventRecovered
			}
			for task := range r.tasks {
				told[task] = r.event.Kind != EventRecovered
			}
		}
		for range random.IntN(200) {
			now = now.Add(time.Second)
			switch n := len(q.order); random.IntN(8) {
			case 0:
				condense(t.Context(), &mu, &q)
			case 1: // a batch that is not taken
				if n > 0 {
					q.addFirst(q.take(0, 1+random.IntN(n)))
				}
			case 2: // while it is in the hands of the Reporter, something happens
				if n > 0 && random.IntN(3) == 0 {
					taken := q.take(0, 1+random.IntN(n))
					failed["a"] = !failed["a"]
					q.add(newReport(&Event{Task: "a", Kind: kindOf(failed["a"]), Time: now}, ""))
					events++
					if random.IntN(2) == 0 {
						q.addFirst(taken)
						break
					}
					for _, r := range taken {
						report(r)
					}
				}
			default:
				name := names[random.IntN(len(names))]
				failed[name] = !failed[name] || random.IntN(2) == 0
				e := Event{Task: name, Kind: kindOf(failed[name]), Time: now}
				if failed[name] {
					e.Err = fmt.Errorf("%d", random.IntN(texts))
				}
				q.add(newReport(&e, ""))
				events++
			}
			if len(names) == 1 {
				require.LessOrEqual(t, len(q.order), 4)
			}
		}
		condense(t.Context(), &mu, &q)
		for _, r := range q.takeAll() {
			report(r)
		}
		require.Equal(t, events, sent)
		for name, last := range failed {
			require.Equal(t, last, told[hashTexts("", name)], "what is told last of %s", name)
		}
	}
}

func kindOf(failed bool) EventKind {
	if failed {
		return EventFailed
	}
	return EventRecovered
}

// Three in a row are told as three; after that, what is equal is merged, and recoveries come after what they are from.
func TestReportQueueSettlesFailures(t *testing.T) {
	var q reportQueue
	now := time.Now()
	add := func(kinds ...EventKind) (got []string) {
		for _, k := range kinds {
			now = now.Add(time.Second)
			q.add(newReport(&Event{Task: "a", Kind: k, Time: now}, ""))
		}
		for _, r := range q.order {
			got = append(got, fmt.Sprint(r.event.Kind, " ", r.eventCount()))
		}
		return got
	}
	assert.Equal(t, []string{"failed 2", "recovered 1", "failed 1"}, add(EventFailed, EventFailed, EventRecovered, EventFailed))
	assert.Equal(t, []string{"failed 3", "recovered 2"}, add(EventRecovered))
	assert.Equal(t, []string{"failed 3", "recovered 2", "gave up 1"}, add(EventGaveUp))
	assert.Equal(t, []string{"failed 3", "gave up 1", "recovered 3", "stuck 1"}, add(EventRecovered, EventStuck))
	first := q.take(0, 3)
	assert.Equal(t, []string{"stuck 1", "recovered 1"}, add(EventRecovered))
	q.addFirst(first)
	assert.Equal(t, []string{"failed 3", "gave up 1", "stuck 1", "recovered 4"}, add())
}

// A recovery that is told next is not moved behind the failures that follow it: who fails and recovers faster than it is told would
// never be told to have recovered.
func TestReportQueueKeepsTheNextRecovery(t *testing.T) {
	var (
		q   reportQueue
		now = time.Now()
	)
	for n, want := range []string{"failed 1", "recovered 1", "failed 2", "recovered 2", "failed 2", "recovered 2", "failed 2"} {
		for _, k := range []EventKind{EventFailed, EventRecovered} {
			now = now.Add(time.Second)
			q.add(newReport(&Event{Task: "a", Kind: k, Time: now}, ""))
		}
		assert.LessOrEqual(t, len(q.order), 4)
		told := q.take(0, 1)[0]
		assert.Equal(t, want, fmt.Sprint(told.event.Kind, " ", told.eventCount()), n)
	}
}

// What waits several times of a task counts as one.
func TestReportQueueCountsTasksOnce(t *testing.T) {
	var (
		q   reportQueue
		now = time.Now()
		mu  sync.Mutex
	)
	for task := range fewReports {
		for _, k := range []EventKind{EventFailed, EventRecovered, EventFailed} {
			now = now.Add(time.Second)
			q.add(newReport(&Event{Task: fmt.Sprint(task), Kind: k, Time: now}, ""))
		}
	}
	assert.Zero(t, condense(t.Context(), &mu, &q))
	q.add(newReport(&Event{Task: "another", Kind: EventFailed, Time: now}, ""))
	assert.NotZero(t, condense(t.Context(), &mu, &q))
}
