package main

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

// A crowd is the body of n tasks, which do nothing until they are stopped.
type crowd struct {
	n       int64
	entered atomic.Int64
	left    atomic.Int64
	all     chan struct{} // closed when all have entered
}

func newCrowd(n int) *crowd { return &crowd{n: int64(n), all: make(chan struct{})} }

func (c *crowd) enter() {
	if c.entered.Add(1) == c.n {
		close(c.all)
	}
}

func (c *crowd) body(ctx context.Context) error {
	c.enter()
	<-ctx.Done()
	c.left.Add(1)
	return ctx.Err()
}

// check returns an error unless each task has run once and returned.
func (c *crowd) check() error {
	if entered, left := c.entered.Load(), c.left.Load(); entered != c.n || left != c.n {
		return fmt.Errorf("%d of %d bodies were entered, and %d left", entered, c.n, left)
	}
	return nil
}

// fill starts the tasks and returns when all of them run.
func (c *crowd) fill(g group, names []string) error {
	for _, name := range names {
		if err := g.start(name, c.body); err != nil {
			return err
		}
	}
	g.begin()
	<-c.all
	return nil
}

// parking starts n tasks, looks at the memory that they take, and stops them, several times over.
func parking(n, times int) work {
	const weighed = 100_000 // tasks from which on the fixed costs are small
	w := work{
		name:  fmt.Sprintf("parked/%d", n),
		title: fmt.Sprintf("Starting, parking and stopping %s", counted(n, "task")),
		about: "Start: from the first call until every body runs, for each task. " +
			"Stop all: until every body has returned and the call has, for each task.",
		measures: []measure{
			{key: "start", title: "start", unit: nanoseconds},
			{key: "stop", title: "stop all", unit: nanoseconds},
		},
	}
	if times > 1 {
		w.about += fmt.Sprintf(" The median of %d times.", times)
	}
	if n >= weighed {
		w.about += " Memory: live heap, stacks and the runtime's records of both for each task, by runtime/metrics, after two collections. " +
			"Resident: what the operating system counts, with the garbage of starting them."
		w.measures = append(w.measures,
			measure{key: "memory", title: "memory", unit: bytesUnit},
			measure{key: "resident", title: "resident", unit: bytesUnit, alone: true})
	}
	w.run = func(newGroup func() group) (values, error) {
		var (
			v             = values{}
			names         = taskNames(n)
			each          = float64(n)
			starts, stops []float64
		)
		for range times {
			var before, residentBefore float64
			if n >= weighed {
				before, residentBefore = held(), resident()
			}
			g, c := newGroup(), newCrowd(n)
			begun := time.Now()
			if err := c.fill(g, names); err != nil {
				return nil, err
			}
			starts = append(starts, float64(time.Since(begun))/each)
			if n >= weighed {
				v["resident"] = (resident() - residentBefore) / each
				v["memory"] = (held() - before) / each
			}
			begun = time.Now()
			if err := g.stopAll(); err != nil {
				return nil, err
			}
			stops = append(stops, float64(time.Since(begun))/each)
			if err := c.check(); err != nil {
				return nil, err
			}
		}
		v["start"], v["stop"] = report.Median(starts), report.Median(stops)
		runtime.KeepAlive(names)
		return v, nil
	}
	return w
}
