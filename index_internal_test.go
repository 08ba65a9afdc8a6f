package taskmanager

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func indexed(name string, hash uint32) *Task { return &Task{name: name, hash: hash} }

// An index does what a map does, whatever the hashes are: few of them, here, so that all collide.
func TestIndexIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x index
		want := make(map[string]*Task)
		names := rapid.IntRange(0, 40)
		hashes := rapid.SliceOfN(rapid.Uint32Range(0, 3), 41, 41).Draw(t, "hashes")
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				n := names.Draw(t, "name")
				task := indexed(strconv.Itoa(n), hashes[n]<<31|hashes[n]>>1)
				x.put(task)
				want[task.name] = task
			},
			"remove": func(t *rapid.T) {
				if len(want) > 0 {
					name := rapid.SampledFrom(slices.Sorted(maps.Keys(want))).Draw(t, "name")
					x.remove(want[name])
					delete(want, name)
				}
			},
			"": func(t *rapid.T) {
				got := make(map[string]*Task)
				for task := range x.all() {
					assert.NotContains(t, got, task.name, "twice")
					got[task.name] = task
				}
				require.Equal(t, want, got)
				require.Equal(t, len(want), x.n)
				for i := range 41 {
					name := strconv.Itoa(i)
					found := x.findHashed(name, hashes[i]<<31|hashes[i]>>1)
					require.Same(t, want[name], found, name)
				}
				for i := range x.parts {
					checkPart(t, &x.parts[i])
				}
			},
		})
	})
}

// A table is replaced when more than three quarters of it are used, by one that is less than half full; and when less than an eighth of it
// has tasks. A slot from which a task was removed is used again, and counts as used only as long as others may have passed it by.
func TestIndexGrowsAndShrinks(t *testing.T) {
	var x index
	p := &x.parts[0]
	size := func() int { return len(*p.slots.Load()) }
	tasks := make([]*Task, 60)
	var grown []int // at which number of tasks, and to how many slots
	for i, last := 0, 0; i < len(tasks); i++ {
		tasks[i] = indexed(strconv.Itoa(i), uint32(i))
		x.put(tasks[i])
		if size() != last {
			last = size()
			grown = append(grown, p.n, last)
		}
	}
	assert.Equal(t, []int{1, 4, 4, 8, 7, 16, 13, 32, 25, 64, 49, 128}, grown)
	var shrunk []int
	for i, last := len(tasks)-1, size(); i >= 0; i-- {
		x.remove(tasks[i])
		require.Equal(t, p.n, p.used, "what is followed by nothing is not marked")
		if size() != last {
			last = size()
			shrunk = append(shrunk, p.n, last)
		}
	}
	assert.Equal(t, []int{15, 32, 3, 8, 0, 4}, shrunk)
	smallest := p.slots.Load()
	x.put(tasks[0])
	x.remove(tasks[0])
	assert.Same(t, smallest, p.slots.Load(), "the smallest table stays")

	for _, task := range tasks[:5] {
		x.put(task)
	}
	x.remove(tasks[1])
	require.Equal(t, []int{4, 5, 8}, []int{p.n, p.used, size()}, "it is marked, for there is one after it")
	x.put(indexed("another", 1))
	require.Equal(t, []int{5, 5, 8}, []int{p.n, p.used, size()}, "its slot is used again")
	x.remove(tasks[3])
	x.remove(tasks[4])
	require.Equal(t, []int{3, 3, 8}, []int{p.n, p.used, size()}, "neither is marked any more")

	for _, task := range tasks[3:6] {
		x.put(task)
	}
	x.remove(tasks[2])
	x.remove(tasks[3])
	require.Equal(t, []int{4, 6, 8}, []int{p.n, p.used, size()})
	x.put(tasks[6])
	require.Equal(t, []int{5, 5, 16}, []int{p.n, p.used, size()}, "one that is half full is not small enough")
}

// A table has a slot that is empty, or a search would have no end; it isn't much larger than its
// tasks need, and counts right.
func checkPart(t require.TestingT, p *indexPart) {
	slots := p.slots.Load()
	if slots == nil {
		require.Zero(t, p.n)
		return
	}
	tasks, used := 0, 0
	for i := range *slots {
		switch (*slots)[i].task.Load() {
		case nil:
			continue
		case removed:
		default:
			tasks++
		}
		used++
	}
	require.Equal(t, []int{tasks, used}, []int{p.n, p.used})
	require.Less(t, used, len(*slots))
	require.True(t, len(*slots) == smallestPart || len(*slots) <= 8*tasks, "%d slots for %d tasks", len(*slots), tasks)
}

func TestIndexFindsNothingWithoutAName(t *testing.T) {
	var x index
	assert.Nil(t, x.find(""))
	task := indexed("a", hashOf(""))
	x.put(task)
	x.put(indexed("b", hashOf("")))
	x.remove(task)
	assert.Nil(t, x.find(""), "what was removed leaves a mark, which has no name")
}

// What is there all the time is found all the time, while the table around it is filled, cleared of marks and replaced. All is in one
// part, so that to replace its table takes a good share of the time. On one core a search meets a change where either is preempted, so
// nobody yields.
func TestIndexIsSearchedWhileItChanges(t *testing.T) {
	const (
		rounds, most, searchers = 5, 10_000, 2
		least                   = 30 // changes in the middle of which a goroutine has searched
	)
	var (
		x       index
		stay    []*Task
		none    []string // names that nobody has, one for each of stay
		come    []*Task
		changes atomic.Uint64 // odd in the middle of one
		met     atomic.Int64  // goroutines that have searched in the middle of enough changes
		over    atomic.Bool
		wg      sync.WaitGroup
	)
	inOnePart := func(name string) *Task { return indexed(name, hashOf(name)>>partBits) }
	for i := range 400 {
		stay = append(stay, inOnePart("stay"+strconv.Itoa(i)))
		none = append(none, "none"+strconv.Itoa(i))
		x.put(stay[i])
	}
	for i := range 4000 {
		come = append(come, inOnePart("come"+strconv.Itoa(i)))
	}
	for range searchers {
		wg.Go(func() {
			for seen, latest := 0, uint64(0); !over.Load(); {
				change := changes.Load()
				for i, task := range stay {
					if x.findHashed(task.name, task.hash) != task {
						over.Store(true)
						t.Errorf("%s is lost", task.name)
						return
					}
					if x.findHashed(none[i], task.hash) != nil {
						over.Store(true)
						t.Errorf("%s is found", none[i])
						return
					}
				}
				if change%2 == 1 && change > latest {
					latest = change
					seen++
					if seen == least {
						met.Add(1)
					}
				}
			}
		})
	}
	for round := 0; !over.Load() && (round < rounds || round < most && met.Load() < searchers); round++ {
		for _, task := range come {
			changes.Add(1)
			x.put(task)
			changes.Add(1)
		}
		for _, task := range come {
			changes.Add(1)
			x.remove(task)
			changes.Add(1)
		}
	}
	over.Store(true)
	wg.Wait()
	assert.EqualValues(t, searchers, met.Load(), "goroutines that have searched in the middle of enough changes")
}
