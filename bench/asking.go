package main

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

// asking looks up n parked tasks by name, and makes snapshots of all of them.
func asking(n int, duration time.Duration) work {
	return work{
		name:  fmt.Sprintf("asking/%d", n),
		title: fmt.Sprintf("Asking about %s", counted(n, "parked task")),
		about: fmt.Sprintf("Whether a task is running, by name, one after the other, for %v: from one goroutine, and from one for each core at once (the time of one call then). "+
			"Statistics: a snapshot of all tasks, for each of them. Totals: how many are in which state, without a snapshot.", duration),
		needs: finds,
		measures: []measure{
			{key: "alone", title: "is it running", unit: nanoseconds},
			{key: "together", title: "from each core at once", unit: nanoseconds},
			{key: "allocs", title: "objects allocated for each", unit: count, alone: true},
			{key: "stats", title: "statistics", unit: nanoseconds},
			{key: "totals", title: "totals", unit: nanoseconds},
		},
		run: withOne(func(g group) (values, error) {
			var (
				c     = newCrowd(n)
				names = taskNames(n)
				v     = values{}
			)
			if err := c.fill(g, names); err != nil {
				return nil, err
			}

			f := g.(finder)
			allocs := allocated()
			alone, asked, err := ask(f, names, 1, duration)
			if err != nil {
				return nil, err
			}
			v["alone"], v["allocs"] = alone, (allocated()-allocs)/float64(asked)
			v["together"], _, err = ask(f, names, runtime.GOMAXPROCS(0), duration)
			if err != nil {
				return nil, err
			}
			if f.isRunning("somebody else") {
				return nil, errors.New("a task is said to run that was never started")
			}
			if t, ok := g.(teller); ok {
				stats, err := askAll(t.stats, n, duration)
				if err != nil {
					return nil, err
				}
				v["stats"] = stats / float64(n)
				if v["totals"], err = askAll(t.running, n, duration); err != nil {
					return nil, err
				}
			}
			return v, nil
		}),
	}
}

// askAll asks about all n tasks at once, again and again for that long. It returns how long one call took.
func askAll(count func() int, n int, duration time.Duration) (nanoseconds float64, err error) {
	var took []float64
	for begun := time.Now(); time.Since(begun) < duration; {
		call := time.Now()
		if counted := count(); counted != n {
			return 0, fmt.Errorf("statistics of %d tasks instead of %d", counted, n)
		}
		took = append(took, float64(time.Since(call)))
	}
	return report.Median(took), nil
}

// ask asks from as many goroutines for that long. It returns how long one call took and how many
// there were.
func ask(f finder, names []string, goroutines int, duration time.Duration) (nanoseconds float64, asked int, err error) {
	type answer struct {
		asked int
		took  time.Duration
		wrong int
	}
	var (
		answers = make([]answer, goroutines)
		all     sync.WaitGroup
	)
	for i := range answers {
		all.Go(func() {
			var a answer
			next := i * len(names) / goroutines
			for begun := time.Now(); a.took < duration; a.took = time.Since(begun) {
				const between = 1000 // looks at the clock
				for range between {
					if !f.isRunning(names[next]) {
						a.wrong++
					}
					if next++; next == len(names) {
						next = 0
					}
				}
				a.asked += between
			}
			answers[i] = a
		})
	}
	all.Wait()
	var took time.Duration
	for _, a := range answers {
		if a.wrong > 0 {
			return 0, 0, fmt.Errorf("%d of %d answers are that a task is not running", a.wrong, a.asked)
		}
		asked += a.asked
		took += a.took
	}
	return float64(took) / float64(asked), asked, nil
}
