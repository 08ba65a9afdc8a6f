package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// done has goroutines ask whether the context of one task is done.
func done(calls int) work {
	const together = 8
	return work{
		name:  "done",
		title: fmt.Sprintf("%d goroutines that look at one context", together),
		about: fmt.Sprintf("A select on its Done, %s by each goroutine: the time of one by one of them alone, and until each of %d has made one. "+
			"The floor's context is package context's.", counted(calls, "time"), together),
		needs: restarts,
		measures: []measure{
			{key: "alone", title: "one", unit: nanoseconds},
			{key: "together", title: fmt.Sprintf("each of %d", together), unit: nanoseconds},
		},
		run: withOne(func(g group) (values, error) {
			given := make(chan context.Context, 1)
			if err := g.start("task", func(ctx context.Context) error {
				given <- ctx
				<-ctx.Done()
				return ctx.Err()
			}); err != nil {
				return nil, err
			}
			g.begin()
			ctx := <-given
			alone, err := look(ctx, 1, calls)
			if err != nil {
				return nil, err
			}
			all, err := look(ctx, together, calls)
			if err != nil {
				return nil, err
			}
			return values{"alone": alone, "together": all}, nil
		}),
	}
}

// look has each of some goroutines look at ctx so often, and returns how long one turn of all takes.
func look(ctx context.Context, goroutines, calls int) (nanoseconds float64, err error) {
	var (
		all  sync.WaitGroup
		done = make(chan struct{}, goroutines)
	)
	begun := time.Now()
	for range goroutines {
		all.Go(func() {
			for range calls {
				select {
				case <-ctx.Done():
					done <- struct{}{}
					return
				default:
				}
			}
		})
	}
	all.Wait()
	if len(done) > 0 {
		return 0, fmt.Errorf("the context of a task that runs is done: %w", context.Cause(ctx))
	}
	return float64(time.Since(begun)) / float64(calls), nil
}
