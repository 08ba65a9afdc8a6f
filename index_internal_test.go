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

// What is there all the time is found all the time, while tables around it grow and shrink.
func TestIndexIsSearchedWhileItChanges(t *testing.T) {
	var (
		x        index
		stay     []*Task
		over     atomic.Bool
		searches sync.WaitGroup
	)
	for i := range 40 {
		stay = append(stay, indexed("stay"+strconv.Itoa(i), hashOf("stay"+strconv.Itoa(i))))
		x.put(stay[i])
	}
	for range 2 {
		searches.Go(func() {
			for !over.Load() {
				for _, task := range stay {
					if x.find(task.name) != task {
						over.Store(true)
						t.Errorf("%s is lost", task.name)
						return
					}
					if x.find("none"+task.name) != nil {
						over.Store(true)
						t.Errorf("none%s is found", task.name)
						return
					}
				}
			}
		})
	}
	for round := range 30 {
		var come []*Task
		for i := range 100 * (round%5 + 1) {
			name := "come" + strconv.Itoa(i)
			come = append(come, indexed(name, hashOf(name)))
			x.put(come[i])
		}
		for _, task := range come {
			x.remove(task)
		}
	}
	over.Store(true)
	searches.Wait()
}
