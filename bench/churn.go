package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// churn starts n tasks which end at once, from that many goroutines.
func churn(n, goroutines int) work {
	const most = 1000 // of tasks that may be there at a time
	w := work{
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
	}
	if goroutines > 1 {
		w.name += fmt.Sprintf("/%d", goroutines)
		w.title += fmt.Sprintf(", from %d goroutines", goroutines)
		w.about = strings.Replace(w.about, "one goroutine", fmt.Sprintf("%d goroutines at once", goroutines), 1)
		w.needs |= finds // only those can be called from several
	}
	w.run = withOne(func(g group) (values, error) {
		var (
			names   = taskNames(n)
			ended   atomic.Int64
			all     sync.WaitGroup
			refused = make(chan error, goroutines)
		)
		body := func(context.Context) error { //nolint:unparam // a body has a result
			ended.Add(1)
			return nil
		}
		g.begin()
		idle, before := runtime.NumGoroutine(), held()
		allocs, begun := allocated(), time.Now()
		start := func(names []string) {
			for _, name := range names {
				for runtime.NumGoroutine()-idle >= most {
					runtime.Gosched()
				}
				if err := g.start(name, body); err != nil {
					refused <- err
					return
				}
			}
		}
		for i := range goroutines - 1 {
			all.Go(func() { start(names[i*n/goroutines : (i+1)*n/goroutines]) })
		}
		start(names[(goroutines-1)*n/goroutines:])
		all.Wait()
		if len(refused) > 0 {
			return nil, <-refused
		}
		if err := settle(idle); err != nil {
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
	})
	return w
}
