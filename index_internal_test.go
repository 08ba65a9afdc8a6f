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
