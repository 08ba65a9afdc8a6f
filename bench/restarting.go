package main

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// A counter is alone in its cache line.
type counter struct {
	n atomic.Int64
	_ [56]byte
}

// restarting lets n tasks fail at once, again and again.
func restarting(n int, duration time.Duration) work {
	w := work{
		name:  fmt.Sprintf("restarts/%d", n),
		title: fmt.Sprintf("Restarting %s that fails at once", counted(n, "task")),
		about: fmt.Sprintf("Runs within %v of bodies that return an error, without a delay between them.", duration),
		needs: restarts,
		measures: []measure{
			{key: "each", title: "for each restart", unit: nanoseconds},
			{key: "rate", title: "restarts per second", unit: perSecond, more: true},
			{key: "allocs", title: "objects allocated for each", unit: count},
		},
	}
	if n > 1 {
		w.title = fmt.Sprintf("Restarting %s that fail at once", counted(n, "task"))
		w.about += " The least: how often the task was restarted that was least often, in percent of the mean."
		w.measures = append(w.measures, measure{key: "least", title: "the least", unit: percent, more: true, alone: true})
	}
	w.run = withOne(func(g group) (values, error) {
		counters := make([]counter, n)
		for i, name := range taskNames(n) {
			c := &counters[i].n
			if err := g.start(name, func(context.Context) error {
				c.Add(1)
				return errCrash
			}); err != nil {
				return nil, err
			}
		}
		g.begin()
		read := func() (runs []int64, total int64) {
			for i := range counters {
				runs = append(runs, counters[i].n.Load())
				total += runs[i]
			}
			return runs, total
		}

		time.Sleep(duration / 10) // the first runs warm up what is cached
		allocs, begun := allocated(), time.Now()
		before, first := read()
		after, last := before, first
		for last-first < int64(n) { // once, unless the machine is very busy
			time.Sleep(duration)
			after, last = read()
		}
		took, allocs := time.Since(begun), allocated()-allocs

		total := float64(last - first)
		least := int64(math.MaxInt64)
		for i := range after {
			least = min(least, after[i]-before[i])
		}
		return values{
			"each": float64(took) / total, "rate": total / took.Seconds(), "allocs": allocs / total,
			"least": 100 * float64(least) / (total / float64(n)),
		}, nil
	})
	return w
}

// crashing measures how long a task is down.
func crashing(how string, crashes int) work {
	crash := func() error { return errCrash }
	if how == "panic" {
		crash = func() error { panic(errCrash) }
	}
	return work{
		name:  "down/" + how,
		title: fmt.Sprintf("From %s to running again", map[string]string{"error": "an error", "panic": "a panic"}[how]),
		about: fmt.Sprintf("From just before the body fails until just after it runs again, %s of one task, without a delay.",
			counted(crashes, "failure")),
		needs: restarts,
		measures: []measure{
			{key: "p50", title: "median", unit: nanoseconds},
			{key: "p99", title: "p99", unit: nanoseconds},
		},
		run: withOne(func(g group) (values, error) {
			var (
				down   = make([]float64, 0, crashes)
				origin = time.Now()
				failed time.Duration
				done   = make(chan struct{})
			)
			// The runs of one task follow each other: nothing here needs a lock.
			err := g.start("task", func(ctx context.Context) error {
				if now := time.Since(origin); failed > 0 {
					down = append(down, float64(now-failed))
				}
				if len(down) == crashes {
					close(done)
					<-ctx.Done()
					return ctx.Err()
				}
				failed = time.Since(origin)
				return crash()
			})
			if err != nil {
				return nil, err
			}
			g.begin()
			<-done
			return values{"p50": percentile(down, 50), "p99": percentile(down, 99)}, nil
		}),
	}
}

// addingMiddleware adds a value to the context of each run.
func addingMiddleware(next taskmanager.TaskFunc) taskmanager.TaskFunc {
	type key struct{}
	return func(ctx context.Context) error { return next(context.WithValue(ctx, key{}, "value")) }
}

// restartingWithin is restarting of one task around whose runs there is middleware that adds a value, beside one without.
func restartingWithin(duration time.Duration) work {
	return work{
		name:  "restarts/middleware",
		title: "Restarting a task with middleware",
		about: fmt.Sprintf("Runs within %v of a body that returns an error, without a delay between them: plain, and with middleware that adds a value to the context.", duration),
		needs: features,
		measures: []measure{
			{key: "plain", title: "for each restart, plain", unit: nanoseconds},
			{key: "each", title: "for each restart, with middleware", unit: nanoseconds},
		},
		run: func(func() group) (values, error) {
			v := values{}
			for key, opts := range map[string][]taskmanager.Option{"plain": nil, "each": {taskmanager.WithMiddleware(addingMiddleware)}} {
				var (
					m    = newManager(opts...)
					runs counter
				)
				if _, err := m.StartTask("task", func(context.Context) error { runs.n.Add(1); return errCrash }); err != nil {
					return nil, err
				}
				time.Sleep(duration / 10) // the first runs warm up what is cached
				before, begun := runs.n.Load(), time.Now()
				time.Sleep(duration)
				v[key] = float64(time.Since(begun)) / float64(runs.n.Load()-before)
				if err := m.Shutdown(context.Background()); err != nil {
					return nil, err
				}
			}
			return v, nil
		},
	}
}
