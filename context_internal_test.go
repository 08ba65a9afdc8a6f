package taskmanager

import (
	"context"
	"errors"
	"testing"

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
