package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// An idleness is a way to do nothing that takes more than to be parked.
type idleness string

const (
	inEvery    idleness = "every"
	withStatus idleness = "status"
	inBackoff  idleness = "backoff"
)

// distant is a time that does not come while something is measured.
const distant = time.Hour

// idle looks at the memory of n tasks that are idle in that way.
func idle(how idleness, n int) work {
	w := work{
		name:  fmt.Sprintf("idle-%s/%d", how, n),
		needs: idles,
		about: "Memory: live heap, stacks and the runtime's records of both for each task, by runtime/metrics, after two collections. ",
		measures: []measure{
			{key: "memory", title: "memory", unit: bytesUnit},
		},
	}
	switch how {
	case inEvery:
		w.title = counted(n, "task") + " between two passes of Every"
		w.about += "Each has made its first pass. By hand: a loop around a ticker."
	case withStatus:
		w.title = counted(n, "parked task") + " that have set a status"
		w.about += "Its text is formatted. By hand: it is kept in a second map."
	case inBackoff:
		w.title = counted(n, "task") + " in backoff"
		w.about += "Each has failed once. By hand: a timer."
	}
	w.run = func(newGroup func() group) (values, error) {
		names, goroutines, before := taskNames(n), runtime.NumGoroutine(), held()
		g, c := newGroup(), newCrowd(n)
		i := g.(idler)
		for _, name := range names {
			if err := i.startIdle(how, name, c); err != nil {
				return nil, err
			}
		}
		g.begin()
		<-c.all
		if err := i.settleIdle(how, n); err != nil {
			return nil, err
		}
		v := values{"memory": max(0, held()-before) / float64(n)} // of few tasks it may be less than what the start left behind
		if err := g.stopAll(); err != nil {
			return nil, err
		}
		if entered := c.entered.Load(); entered != c.n {
			return nil, fmt.Errorf("%d tasks have run instead of %d", entered, n)
		}
		runtime.KeepAlive(names)
		return v, settle(goroutines)
	}
	return w
}

func (o ours) startIdle(how idleness, name string, c *crowd) error {
	var err error
	switch how {
	case inEvery:
		_, err = o.manager.StartTask(name, taskmanager.Every(distant, func(context.Context) error {
			c.enter()
			return nil
		}))
	case withStatus:
		_, err = o.manager.StartTask(name, func(ctx context.Context) error {
			taskmanager.SetStatus(ctx, "at offset %d of %s", c.entered.Load(), name)
			return c.body(ctx)
		})
	case inBackoff:
		_, err = o.manager.StartTask(name, func(context.Context) error {
			c.enter()
			return errCrash
		}, taskmanager.WithBackoff(distant, distant))
	}
	return err
}

// settleIdle waits for those whose body has been entered and has yet to reach its rest.
func (o ours) settleIdle(how idleness, n int) error {
	resting := func(s taskmanager.TaskStats) bool {
		switch how {
		case inEvery:
			return s.State == taskmanager.StateRunning && s.Passes != nil && !s.Passes.Next.IsZero()
		case withStatus:
			return s.State == taskmanager.StateRunning && s.Status != ""
		default:
			return s.State == taskmanager.StateBackoff
		}
	}
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		rest := 0
		for _, s := range o.manager.Stats().Tasks {
			if resting(s) {
				rest++
			}
		}
		if rest == n {
			return nil
		}
		if time.Since(begun) > patience {
			return fmt.Errorf("%d tasks are idle instead of %d", rest, n)
		}
	}
}

func (f *floor) startIdle(how idleness, name string, c *crowd) error {
	return f.start(name, func(ctx context.Context) error {
		switch how {
		case inEvery:
			c.enter()
			ticker := time.NewTicker(distant)
			defer ticker.Stop()
			for {
				select {
				case <-ticker.C:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		case withStatus:
			f.setStatus(name, fmt.Sprintf("at offset %d of %s", c.entered.Load(), name))
			return c.body(ctx)
		default:
			c.enter()
			timer := time.NewTimer(distant)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	})
}

func (f *floor) setStatus(name, status string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.statuses == nil {
		f.statuses = make(map[string]string)
	}
	f.statuses[name] = status
}

// settleIdle has nothing to wait for: a goroutine that has entered is a few steps from its rest, and
// two collections lie between.
func (f *floor) settleIdle(idleness, int) error { return nil }
