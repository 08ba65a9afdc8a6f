package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// storm lets some tasks crash without delay beside healthy ones, and starts and stops another one
// all the while.
func storm(crashing, healthy int, duration time.Duration) work {
	const pause = 2 * time.Millisecond
	return work{
		name: fmt.Sprintf("storm/%d", healthy),
		title: fmt.Sprintf("%s that fail at once beside %s", counted(crashing, "task"),
			counted(healthy, "healthy one")),
		about: fmt.Sprintf("Each healthy task ticks every %v. Work kept: their ticks within %v of the storm that are at most %v late, in percent of those of %[2]v without it; "+
			"and how late they are, all of them. Meanwhile another task is started and stopped every %v: from the call until its body runs, and until its body has returned and the call has. "+
			"The fewer tasks there are, the smaller is the heap, and the more often is garbage collected that the restarts leave: that delays what is started meanwhile.",
			pulseTick, duration, timely, pause),
		needs: adds | restarts | stops,
		measures: []measure{
			{key: "kept", title: "work kept", unit: percent, more: true},
			{key: "late99", title: "late, p99", unit: nanoseconds},
			{key: "start50", title: "start, median", unit: nanoseconds},
			{key: "start99", title: "start, p99", unit: nanoseconds},
			{key: "stop50", title: "stop, median", unit: nanoseconds},
			{key: "stop99", title: "stop, p99", unit: nanoseconds},
			{key: "rate", title: "restarts per second", unit: perSecond, alone: true},
		},
		run: withOne(func(g group) (values, error) {
			var (
				healthyPulse pulse
				crashes      atomic.Int64
				crowd        = newCrowd(healthy)
			)
			for _, name := range taskNames(healthy) {
				if err := g.start(name, func(ctx context.Context) error {
					crowd.enter()
					return healthyPulse.body(ctx)
				}); err != nil {
					return nil, err
				}
			}
			g.begin()
			<-crowd.all
			other := newVisitor(g.(stopper))
			var starts, stops []float64

			// How healthy tasks ticked, and how often others crashed each second, for as long as another
			// task comes and goes.
			watch := func() (ticked *beat, crashed float64, err error) {
				begun, before, c := time.Now(), healthyPulse.read(), crashes.Load()
				for next := begun; time.Since(begun) < duration; time.Sleep(time.Until(next)) {
					next = next.Add(pause)
					started, stopped, err := other.visit()
					if err != nil {
						return nil, 0, err
					}
					starts, stops = append(starts, float64(started)), append(stops, float64(stopped))
				}
				return healthyPulse.since(before), float64(crashes.Load()-c) / time.Since(begun).Seconds(), nil
			}

			time.Sleep(2 * pulseTick) // until all of them tick
			calm, _, err := watch()
			if err != nil {
				return nil, err
			}
			if calm.ticks == 0 {
				return nil, errors.New("the healthy tasks do not tick")
			}
			for i := range crashing {
				err = g.start(fmt.Sprint("crash-", i), func(context.Context) error {
					crashes.Add(1)
					return errCrash
				})
				if err != nil {
					return nil, err
				}
			}
			starts, stops = nil, nil
			stormy, rate, err := watch()
			if err != nil {
				return nil, err
			}
			if rate == 0 {
				return nil, errors.New("there was no storm")
			}
			return values{
				"kept": 100 * float64(stormy.timely) / float64(max(1, calm.timely)), "late99": float64(stormy.late.percentile(99)), "rate": rate,
				"start50": percentile(starts, 50), "start99": percentile(starts, 99),
				"stop50": percentile(stops, 50), "stop99": percentile(stops, 99),
			}, nil
		}),
	}
}

// A visitor is a task that comes and goes.
type visitor struct {
	group         stopper
	visits        int
	entered, left chan struct{} // with room for one, so that the body never waits for the visitor
}

func newVisitor(g stopper) *visitor {
	return &visitor{group: g, entered: make(chan struct{}, 1), left: make(chan struct{}, 1)}
}

// visit starts the task and stops it, and returns how long each took.
func (v *visitor) visit() (started, stopped time.Duration, err error) {
	v.visits++
	name := fmt.Sprint("visitor-", v.visits)
	begun := time.Now()
	stop, err := v.group.startOne(name, func(ctx context.Context) error {
		v.entered <- struct{}{}
		<-ctx.Done()
		v.left <- struct{}{}
		return ctx.Err()
	})
	if err != nil {
		return 0, 0, err
	}
	<-v.entered
	started = time.Since(begun)

	begun = time.Now()
	if err := stop(); err != nil {
		return 0, 0, err
	}
	<-v.left
	return started, time.Since(begun), nil
}
