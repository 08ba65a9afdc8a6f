package taskmanager

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// In whatever order tasks are inserted, and some removed, the list is in the order of their ends, from both sides.
func TestHistoryIsInTheOrderOfTheEnds(t *testing.T) {
	for _, order := range [][]int64{{1, 2, 3, 4}, {4, 3, 2, 1}, {2, 4, 1, 3}, {3, 1, 4, 2}, {2, 2, 1, 1}} {
		var l endedList
		tasks := make([]*Task, len(order))
		for i, at := range order {
			tasks[i] = &Task{endedAt: at}
			l.insert(tasks[i])
		}
		forwards := func() (got []int64) {
			for t := l.oldest; t != nil; t = t.nextEnded {
				got = append(got, t.endedAt)
			}
			return got
		}
		backwards := func() (got []int64) {
			for t := l.newest; t != nil; t = t.prevEnded {
				got = append(got, t.endedAt)
			}
			slices.Reverse(got)
			return got
		}
		want := slices.Sorted(slices.Values(order))
		assert.Equal(t, want, forwards())
		assert.Equal(t, want, backwards())
		for i, task := range tasks {
			l.remove(task)
			want = slices.Sorted(slices.Values(order[i+1:]))
			assert.Equal(t, want, forwards())
			assert.Equal(t, want, backwards())
			assert.Equal(t, len(order)-i-1, l.n)
		}
	}
}

// What others begin to depend on when it has ended is in no list, if it has completed. What Health and Run have to know stays, in its place.
func TestHistoryOfWhatOthersBeginToDependOn(t *testing.T) {
	m := quiet(WithMaxRestarts(0))
	done := func(context.Context) error { return nil }
	for _, name := range []string{"vital", "failed", "plain", "last", "lastVital"} {
		body, options := done, []TaskOption(nil)
		switch name {
		case "vital", "lastVital":
			options = []TaskOption{WithCritical()}
		case "failed":
			body = func(context.Context) error { return errors.New("boom") }
		}
		task, err := m.StartTask(name, body, options...)
		require.NoError(t, err)
		<-task.Done()
	}
	names := func(l *endedList) (names []string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for t := l.oldest; t != nil; t = t.nextEnded {
			names = append(names, t.name)
		}
		assert.Len(t, names, l.n)
		return names
	}
	kept := []string{"vital", "failed", "lastVital"}
	require.Equal(t, kept, names(&m.history.kept))
	require.Equal(t, []string{"plain", "last"}, names(&m.history.ended))
	dependent, err := m.StartTask("dependent", done, WithDependsOn("failed", "plain", "vital", "nobody"))
	require.NoError(t, err)
	assert.Equal(t, kept, names(&m.history.kept))
	assert.Equal(t, []string{"last"}, names(&m.history.ended))
	require.NoError(t, dependent.Stop(t.Context()))
	_, err = m.StartTask("dependent", func(ctx context.Context) error { <-ctx.Done(); return nil }) // which depends on nobody
	require.NoError(t, err)
	assert.Equal(t, kept, names(&m.history.kept))
	assert.Equal(t, []string{"plain", "last"}, names(&m.history.ended))
	require.NoError(t, m.StopAll(t.Context()))
}

// What a task has needed that is forgotten, of those that were given up, is among those that nobody needs then: they are counted after
// that.
func TestHistoryForgetsWhatWasNeededByWhatItForgets(t *testing.T) {
	m := quiet(WithHistory(0), WithMaxRestarts(0))
	hold := make(chan struct{})
	fails := func(context.Context) error { return errors.New("boom") }
	needed, err := m.StartTask("needed", func(context.Context) error { <-hold; return nil })
	require.NoError(t, err)
	first, err := m.StartTask("first", fails, WithDependsOn("needed"))
	require.NoError(t, err)
	close(hold)
	<-needed.Done()
	<-first.Done()
	for i := range maxKept {
		task, err := m.StartTask(strconv.Itoa(i), fails)
		require.NoError(t, err)
		<-task.Done()
	}
	require.NoError(t, m.Shutdown(t.Context()))
	for _, name := range []string{"first", "needed"} {
		_, ok := m.Lookup(name)
		assert.False(t, ok, name)
	}
	assert.Zero(t, m.history.ended.n)
}
