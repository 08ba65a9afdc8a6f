package taskmanager

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// Whoever sees that a context is done must find an error in it: package context panics if it doesn't. The moment in
// which that could go wrong is short, so this ends more runs than tasks could.
func TestContextThatIsDoneHasAnError(t *testing.T) {
	task := &Task{ctx: context.Background()}
	const runs = 10_000
	next, errs := make(chan *run), make(chan error)
	defer close(next)
	go func() {
		for r := range next {
			done := r.Done()
			next <- r // it may be ended now
			for ended := false; !ended; {
				select {
				case <-done:
					ended = true
				default:
				}
			}
			errs <- errors.Join(r.Err(), context.Cause(r))
		}
	}()
	for i := range runs {
		r := &run{task: task}
		next <- r
		<-next
		r.end(ErrStopped, false)
		require.EqualError(t, <-errs, "context canceled\ntaskmanager: task was stopped", "run %d", i)
	}
}

// Whoever sees the error of a context finds it done, though end has yet to say so.
func TestContextThatHasAnErrorIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &run{task: &Task{ctx: context.Background()}, done: make(chan struct{}), cause: ErrStopped}
		r.ended.Store(true)
		seen := make(chan error, 1)
		go func() { seen <- r.Err() }()
		synctest.Wait()
		require.Empty(t, seen)
		close(r.done)
		require.ErrorIs(t, <-seen, context.Canceled)
	})
}

func TestAfterFuncOfARun(t *testing.T) {
	calls := make(chan struct{}, 2)
	call := func() { calls <- struct{}{} }
	r := &run{task: &Task{ctx: context.Background()}}
	stop := r.AfterFunc(call)
	r.end(ErrStopped, false)
	<-calls
	require.False(t, stop(), "it has been called")
	stop = r.AfterFunc(call)
	<-calls
	require.False(t, stop(), "the context had ended before")
	<-r.Done()
}
