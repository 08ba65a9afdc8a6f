package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/bench/report"
)

// The deadline of a stop that can't be kept.
const stuckDeadline = 100 * time.Millisecond

// A deaf is the body of tasks that do not stop until they are released.
type deaf struct {
	crowd
	released chan struct{}
}

func newDeaf(n int) *deaf {
	return &deaf{crowd: crowd{n: int64(n), all: make(chan struct{})}, released: make(chan struct{})}
}

func (d *deaf) body(context.Context) error {
	d.enter()
	<-d.released
	d.left.Add(1)
	return nil
}

// stuckOne stops a task that does not stop, beside n parked ones, several times over.
func stuckOne(n, times int) work {
	return work{
		name:  fmt.Sprintf("stuck/%d", n),
		title: "One stuck task beside " + counted(n, "parked one"),
		about: fmt.Sprintf("How long after its deadline of %v the stop of a task returns whose body does not, with the stacks of that task's goroutines. The median of %s.",
			stuckDeadline, counted(times, "task")),
		needs:    features,
		measures: []measure{{key: "late", title: "after the deadline", unit: nanoseconds}},
		run: withOne(func(g group) (values, error) {
			var (
				m      = g.(ours).manager
				parked = newCrowd(n)
				stuck  = newDeaf(times)
				tasks  []*taskmanager.Task
				late   []float64
			)
			defer close(stuck.released) // before all are stopped
			if err := parked.fill(g, taskNames(n)); err != nil {
				return nil, err
			}
			for i := range times {
				t, err := m.StartTask(fmt.Sprint("stuck-", i), stuck.body)
				if err != nil {
					return nil, err
				}
				tasks = append(tasks, t)
			}
			<-stuck.all
			for _, t := range tasks {
				deadline := time.Now().Add(stuckDeadline)
				ctx, cancel := context.WithDeadline(context.Background(), deadline)
				stopErr := t.Stop(ctx)
				late = append(late, float64(time.Since(deadline)))
				cancel()
				if err := checkStuck(stopErr, t.Name()); err != nil {
					return nil, err
				}
			}
			if left := parked.left.Load(); left != 0 {
				return nil, fmt.Errorf("%d other tasks have ended", left)
			}
			return values{"late": max(0, report.Median(late))}, nil
		}),
	}
}

// checkStuck returns an error unless err says that this task is stuck, and shows where it is and not
// where a parked one is.
func checkStuck(err error, name string) error {
	timeouts := stopTimeouts(err)
	if len(timeouts) != 1 || timeouts[0].Task != name {
		return fmt.Errorf("the stop of %q, which is stuck, returned: %v", name, err) //nolint:errorlint // it may be nil
	}
	stack := string(timeouts[0].Stack)
	if !strings.Contains(stack, "(*deaf).body") || strings.Contains(stack, "(*crowd).body") {
		return fmt.Errorf("%q is stuck, and these are said to be its stacks:\n%s", name, stack)
	}
	return nil
}

// stopTimeouts are all those in err.
func stopTimeouts(err error) (all []*taskmanager.StopTimeoutError) {
	if one, ok := err.(*taskmanager.StopTimeoutError); ok { //nolint:errorlint // what it wraps is looked at below
		return append(all, one)
	}
	switch wrapping := err.(type) { //nolint:errorlint // likewise
	case interface{ Unwrap() []error }:
		for _, one := range wrapping.Unwrap() {
			all = append(all, stopTimeouts(one)...)
		}
	case interface{ Unwrap() error }:
		all = stopTimeouts(wrapping.Unwrap())
	}
	return all
}

// stuckPairs stops n stuck tasks, each of which depends on a healthy task of its own.
func stuckPairs(n int) work {
	return work{
		name:  fmt.Sprintf("stuck-pairs/%d", n),
		title: fmt.Sprintf("%s, each with a dependency of its own", counted(n, "stuck task")),
		about: fmt.Sprintf("How long StopAll takes with a stop timeout of %v; each dependency has to wait until its dependent has stopped or is stuck. "+
			"Called stuck: dependencies, which all end as soon as they are asked to.", stuckDeadline),
		needs: features,
		measures: []measure{
			{key: "took", title: "stop all", unit: nanoseconds},
			{key: "wrong", title: "dependencies called stuck", unit: count, alone: true},
		},
		run: func(func() group) (values, error) {
			var (
				goroutines = runtime.NumGoroutine()
				m          = newManager(taskmanager.WithStopTimeout(stuckDeadline))
				healthy    = newCrowd(n)
				stuck      = newDeaf(n)
				names      = taskNames(n)
			)
			for _, name := range names {
				if _, err := m.StartTask(name, healthy.body); err != nil {
					return nil, err
				}
				if _, err := m.StartTask("stuck "+name, stuck.body, taskmanager.WithDependsOn(name)); err != nil {
					return nil, err
				}
			}
			<-stuck.all
			begun := time.Now()
			err := m.StopAll(context.Background())
			took := time.Since(begun)
			found, wrong := make(map[string]bool), 0
			for _, timeout := range stopTimeouts(err) {
				found[timeout.Task] = true
			}
			for _, name := range names {
				if !found["stuck "+name] {
					return nil, fmt.Errorf("%q is stuck, and StopAll does not say so", "stuck "+name)
				}
				if found[name] {
					wrong++
				}
			}
			close(stuck.released)
			if err := settle(goroutines); err != nil {
				return nil, err
			}
			return values{"took": float64(took), "wrong": float64(wrong)}, errors.Join(healthy.check(), stuck.check())
		},
	}
}
