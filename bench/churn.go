package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// churn starts n tasks, one after the other, which end at once.
func churn(n int) work {
	const most = 1000 // goroutines that may be there at a time
	return work{
		name:  "churn",
		title: fmt.Sprintf("%s that end at once", counted(n, "short task")),
		about: fmt.Sprintf("Started by one goroutine, each under a name of its own, with at most %s at a time: from the first start until all goroutines are gone. "+
			"Kept: how much more heap and stacks are in use then, after two collections.", counted(most, "goroutine")),
		needs: adds,
		measures: []measure{
			{key: "each", title: "for each", unit: nanoseconds},
			{key: "rate", title: "tasks per second", unit: perSecond, more: true},
			{key: "allocs", title: "objects allocated for each", unit: count},
			{key: "kept", title: "kept of all", unit: bytesUnit, alone: true},
		},
		run: withOne(func(g group) (values, error) {
			var (
				names = taskNames(n)
				ended atomic.Int64
			)
			body := func(context.Context) error {
				ended.Add(1)
				return nil
			}
			g.begin()
			goroutines, before := runtime.NumGoroutine(), held()
			allocs, begun := allocated(), time.Now()
			for _, name := range names {
				for runtime.NumGoroutine()-goroutines >= most {
					runtime.Gosched()
				}
				if err := g.start(name, body); err != nil {
					return nil, err
				}
			}
			if err := settle(goroutines); err != nil {
				return nil, err
			}
			took, allocs := time.Since(begun), allocated()-allocs
			if ran := ended.Load(); ran != int64(n) {
				return nil, fmt.Errorf("%d tasks ran instead of %d", ran, n)
			}
			kept := held() - before
			runtime.KeepAlive(names)
			runtime.KeepAlive(g)
			return values{
				"each": float64(took) / float64(n), "rate": float64(n) / took.Seconds(),
				"allocs": allocs / float64(n), "kept": max(0, kept),
			}, nil
		}),
	}
}
