package goroutines_test

import (
	"context"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/internal/goroutines"
)

func TestLabels(t *testing.T) {
	labels := func(manager, task string) map[string]string {
		got := make(map[string]string)
		pprof.ForLabels(pprof.WithLabels(context.Background(), goroutines.Labels(manager, task)), func(key, value string) bool {
			got[key] = value
			return true
		})
		return got
	}
	assert.Equal(t, map[string]string{"task": "a"}, labels("1", "a"), "the first one of a process")
	assert.Equal(t, map[string]string{"task": "a", "taskmanager": "2"}, labels("2", "a"))
	assert.Equal(t, map[string]string{"task": "", "taskmanager": "11"}, labels("11", ""))
}

// Each kind of goroutine waits in a function of its own, by which it is found.
func parked(release <-chan struct{})  { <-release }
func another(release <-chan struct{}) { <-release }
func child(release <-chan struct{})   { <-release }

func TestStacks(t *testing.T) {
	var (
		release = make(chan struct{})
		running sync.WaitGroup
		ended   sync.WaitGroup
	)
	run := func(manager, task string, body func(<-chan struct{})) {
		running.Add(1)
		ended.Go(func() {
			pprof.Do(context.Background(), goroutines.Labels(manager, task), func(context.Context) {
				running.Done()
				body(release)
			})
		})
	}
	// The goroutines of a function's own goroutine have its labels.
	parent := func(release <-chan struct{}) {
		ended.Go(func() {
			running.Done()
			child(release)
		})
		parked(release)
	}
	running.Add(1)
	run("2", "a", parent)
	run("2", `odd " name`, parked)
	run("2", "not wanted", another)
	run("3", "a", another)
	run("1", "a", another)
	run("1", "of the first", parked)
	running.Wait()
	defer ended.Wait()
	defer close(release)

	// A goroutine that has said that it runs may not be in its function yet: it is there, in its caller, all the same.
	a, odd, first := goroutines.Task{Manager: "2", Name: "a"}, goroutines.Task{Manager: "2", Name: `odd " name`}, goroutines.Task{Manager: "1", Name: "of the first"}
	stacks := goroutines.Stacks(a, odd, first, first, goroutines.Task{Manager: "2", Name: "nobody"}, goroutines.Task{Manager: "2", Name: "of the first"})
	require.Len(t, stacks, 3)
	assert.Equal(t, 2, goroutinesIn(stacks[a]))
	assert.Equal(t, 2, strings.Count(string(stacks[a]), `# labels: {"task":"a", "taskmanager":"2"}`+"\n"))
	assert.Contains(t, string(stacks[a]), "TestStacks")
	assert.Equal(t, 1, goroutinesIn(stacks[odd]))
	assert.Equal(t, 1, strings.Count(string(stacks[odd]), `# labels: {"task":"odd \" name", "taskmanager":"2"}`+"\n"))
	assert.Equal(t, 1, goroutinesIn(stacks[first]))
	assert.Contains(t, string(stacks[first]), `# labels: {"task":"of the first"}`+"\n")
}

// goroutinesIn counts the goroutines of a profile, which shows those that are at the same place once: "2 @ 0x1 0x2".
func goroutinesIn(stacks []byte) (n int) {
	for line := range strings.SplitSeq(string(stacks), "\n") {
		if count, _, ok := strings.Cut(line, " @ "); ok {
			n += int(count[0] - '0')
		}
	}
	return n
}

// No task is asked for: nothing is looked at.
func TestStacksOfNobody(t *testing.T) {
	assert.Nil(t, goroutines.Stacks())
	assert.Zero(t, testing.AllocsPerRun(10, func() { goroutines.Stacks() }))
}
