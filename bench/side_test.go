package main

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// each runs a test for every side with those abilities, in a bubble: a task that is lost or does not
// stop is seen at once.
func each(t *testing.T, can ability, test func(t *testing.T, g group)) {
	tested := 0
	for _, s := range sides {
		if s.can&can == can {
			tested++
			t.Run(s.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { test(t, s.make()) })
			})
		}
	}
	require.NotZero(t, tested)
}

func TestSidesStartAndStopEveryTask(t *testing.T) {
	each(t, 0, func(t *testing.T, g group) {
		const n = 100
		c := newCrowd(n)
		require.NoError(t, c.fill(g, taskNames(n)))
		assert.EqualValues(t, n, c.entered.Load())
		assert.Zero(t, c.left.Load())
		require.Error(t, c.check(), "they have not been stopped")
		require.NoError(t, g.stopAll())
		require.NoError(t, c.check())
	})
}

func TestSidesStartTasksWhileOthersRun(t *testing.T) {
	each(t, adds, func(t *testing.T, g group) {
		g.begin()
		const n = 100
		ended := make(chan int, n)
		for i, name := range taskNames(n) {
			require.NoError(t, g.start(name, func(context.Context) error {
				ended <- i
				return nil
			}))
			if i < n/2 {
				synctest.Wait() // for the first half, so that there are times when no task is left
			}
		}
		seen := make(map[int]bool)
		for range n {
			seen[<-ended] = true
		}
		assert.Len(t, seen, n)
		require.NoError(t, g.stopAll())
		assert.Empty(t, ended, "a task that returned nil must not be restarted")
	})
}

func TestSidesRestartAfterErrorsAndPanics(t *testing.T) {
	each(t, restarts, func(t *testing.T, g group) {
		const runs = 100
		var (
			ran   atomic.Int64
			done  = make(chan struct{})
			begun = time.Now()
		)
		require.NoError(t, g.start("task", func(ctx context.Context) error {
			switch n := ran.Add(1); {
			case n == runs:
				close(done)
				<-ctx.Done()
				return ctx.Err()
			case n%2 == 0:
				panic(errCrash)
			}
			return errCrash
		}))
		g.begin()
		<-done
		assert.Zero(t, time.Since(begun), "there is a delay before some restart")
		require.NoError(t, g.stopAll())
		assert.EqualValues(t, runs, ran.Load())
	})
}

func TestSidesStopOneTaskAlone(t *testing.T) {
	each(t, adds|stops, func(t *testing.T, g group) {
		g.begin()
		others := newCrowd(10)
		for _, name := range taskNames(10) {
			require.NoError(t, g.start(name, others.body))
		}
		<-others.all
		one := newVisitor(g.(stopper))
		for range 3 {
			_, _, err := one.visit()
			require.NoError(t, err)
		}
		assert.Zero(t, others.left.Load())
		assert.EqualValues(t, 10, others.entered.Load())
		require.NoError(t, g.stopAll())
		require.NoError(t, others.check())
	})
}

func TestSidesFindTasksByName(t *testing.T) {
	each(t, finds, func(t *testing.T, g group) {
		c := newCrowd(2)
		require.NoError(t, c.fill(g, []string{"a", "b"}))
		f := g.(finder)
		assert.True(t, f.isRunning("a"))
		assert.True(t, f.isRunning("b"))
		assert.False(t, f.isRunning("c"))
		if s, ok := g.(teller); ok {
			assert.Equal(t, 2, s.stats())
		}
		require.NoError(t, g.stopAll())
		assert.False(t, f.isRunning("a"))
	})
}

func TestSidesRefuseANameThatIsTaken(t *testing.T) {
	each(t, finds, func(t *testing.T, g group) {
		c := newCrowd(1)
		require.NoError(t, c.fill(g, []string{"a"}))
		require.Error(t, g.start("a", c.body))
		require.NoError(t, g.stopAll())
		require.NoError(t, c.check())
	})
}

// A side has an ability if, and only if, its group has the methods for it.
func TestAbilitiesAreThoseOfTheGroup(t *testing.T) {
	for _, s := range sides {
		t.Run(s.name, func(t *testing.T) {
			g := s.make()
			_, stopsOne := g.(stopper)
			_, findsOne := g.(finder)
			_, tellsAll := g.(teller)
			_, idlesSomehow := g.(idler)
			_, isOurs := g.(ours)
			assert.Equal(t, s.can&stops != 0, stopsOne, "stops")
			assert.Equal(t, s.can&finds != 0, findsOne, "finds")
			assert.Equal(t, s.can&tells != 0, tellsAll, "tells")
			assert.Equal(t, s.can&idles != 0, idlesSomehow, "idles")
			assert.Equal(t, s.can&features != 0, isOurs, "has features of its own")
			assert.Equal(t, s.name != ourName, s.lacks != "", "what it leaves out")
			found, ok := sideByName(s.name)
			assert.True(t, ok)
			assert.Equal(t, s.name, found.name)
			c := newCrowd(1) // a group may need an end
			require.NoError(t, c.fill(g, []string{"a"}))
			require.NoError(t, g.stopAll())
		})
	}
	_, ok := sideByName("nobody")
	assert.False(t, ok)
}

func TestFloorStopsNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(1)
		stop, err := newFloor().(stopper).startOne("a", c.body)
		require.NoError(t, err)
		require.NoError(t, stop())
		synctest.Wait()
		require.NoError(t, c.check())
		require.Error(t, stop())
	})
}
