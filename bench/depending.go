package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/bench/report"
)

// chain starts n tasks, each of which depends on the one before, the first one first.
func chain(n int) work {
	return work{
		name:  fmt.Sprintf("chain/%d", n),
		title: fmt.Sprintf("A chain of %s, each depending on the one before", counted(n, "task")),
		about: "Started from the first to the last. Start: until every body runs. One more: the call that starts a task which depends on the last. " +
			"Stop all: the last one first, until all have returned.",
		needs: features,
		measures: []measure{
			{key: "start", title: "start, all", unit: nanoseconds},
			{key: "more", title: "one more", unit: nanoseconds},
			{key: "stop", title: "stop, all", unit: nanoseconds},
		},
		run: func(func() group) (values, error) {
			var (
				m        = newManager()
				c        = newCrowd(n)
				names    = taskNames(n)
				reversed atomic.Int64 // bodies that were stopped after all that depend on them
				begun    = time.Now()
			)
			for i, name := range names {
				var opts []taskmanager.TaskOption
				if i > 0 {
					opts = append(opts, taskmanager.WithDependsOn(names[i-1]))
				}
				if _, err := m.StartTask(name, func(ctx context.Context) error {
					c.enter()
					<-ctx.Done()
					if c.left.Add(1) == int64(n-i) {
						reversed.Add(1)
					}
					return nil
				}, opts...); err != nil {
					return nil, err
				}
			}
			<-c.all
			started := time.Since(begun)

			another, begun := newCrowd(1), time.Now()
			if _, err := m.StartTask("another", another.body, taskmanager.WithDependsOn(names[n-1])); err != nil {
				return nil, err
			}
			more := time.Since(begun)
			<-another.all

			begun = time.Now()
			err := m.StopAll(context.Background())
			stopped := time.Since(begun)
			if err != nil {
				return nil, err
			}
			if got := reversed.Load(); got != int64(n) {
				return nil, fmt.Errorf("%d of %d tasks were stopped in their turn", got, n)
			}
			return values{"start": float64(started), "more": float64(more), "stop": float64(stopped)},
				errors.Join(c.check(), another.check())
		},
	}
}

// waking makes a task ready for which n others wait, and starts one that does not, again and again.
func waking(n int) work {
	return work{
		name:  fmt.Sprintf("waking/%d", n),
		title: fmt.Sprintf("%s that wait for one to become ready", counted(n, "task")),
		about: "Run: from its call of Ready until the bodies of all of them run, for each. Meanwhile other tasks are started, one after the other: how long the call takes.",
		needs: features,
		measures: []measure{
			{key: "each", title: "run", unit: nanoseconds},
			{key: "start50", title: "another start, median", unit: nanoseconds},
			{key: "longest", title: "another start, the longest", unit: nanoseconds},
		},
		run: func(func() group) (values, error) {
			var (
				m      = newManager()
				c      = newCrowd(n)
				become = make(chan struct{})
				begun  time.Time
				starts []float64
			)
			if _, err := m.StartTask("base", func(ctx context.Context) error {
				<-become
				taskmanager.Ready(ctx)
				<-ctx.Done()
				return nil
			}, taskmanager.WithReadiness(patience)); err != nil {
				return nil, err
			}
			for _, name := range taskNames(n) {
				if _, err := m.StartTask(name, c.body, taskmanager.WithDependsOn("base")); err != nil {
					return nil, err
				}
			}
			if entered := c.entered.Load(); entered != 0 {
				return nil, fmt.Errorf("%d tasks have not waited", entered)
			}
			others := newCrowd(1 << 30) // more than there will be
			start := func() error {
				called := time.Now()
				_, err := m.StartTask(fmt.Sprint("other-", len(starts)), others.body)
				starts = append(starts, float64(time.Since(called)))
				return err
			}
			begun = time.Now()
			close(become)
			for waiting := true; waiting; {
				if err := start(); err != nil {
					return nil, err
				}
				select {
				case <-c.all:
					waiting = false
				default:
				}
			}
			took := time.Since(begun)
			if err := m.StopAll(context.Background()); err != nil {
				return nil, err
			}
			return values{
				"each": float64(took) / float64(n), "start50": percentile(starts, 50), "longest": percentile(starts, 100),
			}, c.check()
		},
	}
}

// needed starts short tasks beside n that have completed and on which others depend.
func needed(n, short int) work {
	return work{
		name:  fmt.Sprintf("needed/%d", n),
		title: "Short tasks beside " + counted(n, "completed one") + " on which others depend",
		about: fmt.Sprintf("Started and waited for, one after the other, %s: for each, with nothing else there, and with them.", report.Thousands(short)),
		needs: features,
		measures: []measure{
			{key: "alone", title: "with nothing else", unit: nanoseconds},
			{key: "beside", title: "with them", unit: nanoseconds},
		},
		run: func(func() group) (values, error) {
			m, c := newManager(), newCrowd(n)
			alone, err := endings(m, "alone-", short)
			if err != nil {
				return nil, err
			}
			for _, name := range taskNames(n) {
				if _, err = m.StartTask("worker of "+name, c.body, taskmanager.WithDependsOn(name)); err != nil {
					return nil, err
				}
				if _, err = m.StartTask(name, func(context.Context) error { return nil }); err != nil {
					return nil, err
				}
			}
			<-c.all
			beside, err := endings(m, "beside-", short)
			if err != nil {
				return nil, err
			}
			if left := c.left.Load(); left != 0 {
				return nil, fmt.Errorf("%d of those that depend on them have ended", left)
			}
			if err := m.StopAll(context.Background()); err != nil {
				return nil, err
			}
			return values{"alone": alone, "beside": beside}, c.check()
		},
	}
}

// critical lets n critical tasks complete, one after the other, in a Manager whose Run nobody calls.
func critical(n int) work {
	return work{
		name:  fmt.Sprintf("critical/%d", n),
		title: fmt.Sprintf("%s that complete without Run", counted(n, "critical task")),
		about: "Started and waited for, one after the other, each under a name of its own, with a history of none: for each of the first tenth, and of the last. " +
			"Kept: how much more heap and stacks are in use then, after two collections.",
		needs: features,
		measures: []measure{
			{key: "first", title: "of the first", unit: nanoseconds},
			{key: "last", title: "of the last", unit: nanoseconds},
			{key: "kept", title: "kept of all", unit: bytesUnit, alone: true},
		},
		run: func(func() group) (values, error) {
			m := newManager(taskmanager.WithHistory(0), taskmanager.WithCritical())
			before := held()
			first, err := endings(m, "first-", n/10)
			if err != nil {
				return nil, err
			}
			if _, err = endings(m, "middle-", n-2*(n/10)); err != nil {
				return nil, err
			}
			last, err := endings(m, "last-", n/10)
			if err != nil {
				return nil, err
			}
			kept := held() - before
			if s := m.Stats(); s.Runs != uint64(n) || s.Failures != 0 {
				return nil, fmt.Errorf("%d runs and %d failures of %d tasks that complete", s.Runs, s.Failures, n)
			}
			return values{"first": first, "last": last, "kept": max(0, kept)}, nil
		},
	}
}

// endings starts n tasks that complete at once and waits for each. It returns how long one takes.
func endings(m *taskmanager.Manager, prefix string, n int) (nanoseconds float64, err error) {
	begun := time.Now()
	for i := range n {
		t, err := m.StartTask(fmt.Sprint(prefix, i), func(context.Context) error { return nil })
		if err != nil {
			return 0, err
		}
		if err := t.Wait(context.Background()); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(begun)) / float64(n), nil
}
