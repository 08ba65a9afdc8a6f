package main

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

// A unit says how a value is written.
type unit int

const (
	nanoseconds unit = iota
	bytesUnit
	perSecond
	percent
	count
)

// A measure is one of the values that a piece of work yields.
type measure struct {
	key   string
	title string
	unit  unit
	more  bool // is better
	alone bool // says something about one side, and is not compared
}

// values are those of one side in one round, by the key of their measure.
type values = report.Values

// A work is something that is done by each side that can.
type work struct {
	name     string
	title    string
	about    string // how it is measured
	needs    ability
	measures []measure
	run      func(newGroup func() group) (values, error)
}

// works returns all of them. Quick ones are small: they show that everything works, in seconds, and
// their values mean little.
func works(quick bool) []work {
	if quick {
		return []work{
			parking(1, 50),
			parking(1000, 1),
			idle(inEvery, 1000),
			idle(withStatus, 1000),
			idle(inBackoff, 1000),
			restarting(1, 50*time.Millisecond),
			restarting(100, 50*time.Millisecond),
			restartingWithin(50 * time.Millisecond),
			crashing("error", 1000),
			crashing("panic", 1000),
			crashing("error", 1000).with(textLog),
			crashing("error", 1000).with(textFile),
			crashing("error", 1000).with(reported),
			crashing("error", 1000).with(limited),
			storm(10, 500, 300*time.Millisecond),
			storm(10, 500, 300*time.Millisecond).with(jsonFile),
			storm(10, 500, 300*time.Millisecond).with(hanging),
			asking(1000, 100*time.Millisecond),
			done(10_000),
			churn(20_000, 1),
			churn(20_000, 64),
			needed(500, 200),
			critical(2000),
			chain(50),
			chain(500),
			waking(2000),
			stuckOne(1000, 1),
			stuckPairs(50),
		}
	}
	return []work{
		parking(1, 2000),
		parking(1000, 50),
		parking(10_000, 9),
		parking(100_000, 1),
		parking(1_000_000, 1),
		idle(inEvery, 100_000),
		idle(withStatus, 100_000),
		idle(inBackoff, 100_000),
		restarting(1, time.Second),
		restarting(1000, time.Second),
		restartingWithin(time.Second),
		crashing("error", 50_000),
		crashing("panic", 20_000),
		crashing("error", 50_000).with(textLog),
		crashing("error", 50_000).with(textFile),
		crashing("error", 50_000).with(reported),
		crashing("error", 50_000).with(limited),
		storm(100, 1000, 2*time.Second),
		storm(100, 10_000, 2*time.Second),
		storm(100, 10_000, 2*time.Second).with(jsonFile),
		storm(100, 10_000, 2*time.Second).with(hanging),
		asking(1000, 500*time.Millisecond),
		asking(100_000, 500*time.Millisecond),
		done(1_000_000),
		churn(1_000_000, 1),
		churn(1_000_000, 64),
		needed(10_000, 1000),
		critical(30_000),
		chain(3000),
		chain(30_000),
		waking(50_000),
		stuckOne(100_000, 5),
		stuckPairs(1000),
	}
}

func workByName(quick bool, name string) (work, bool) {
	for _, w := range works(quick) {
		if w.name == name {
			return w, true
		}
	}
	return work{}, false
}

var errCrash = errors.New("crash")

func taskNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("task-%07d", i)
	}
	return names
}

// withOne is a work that is done with one group, whose tasks are stopped when it has been done.
func withOne(do func(g group) (values, error)) func(newGroup func() group) (values, error) {
	return func(newGroup func() group) (values, error) {
		g := newGroup()
		v, err := do(g)
		if err != nil {
			return nil, err // the process ends, and its tasks with it
		}
		return v, g.stopAll()
	}
}

// settle returns when at most n goroutines are left: those that are only about to return have done
// so. It asks all the time, for it is part of what is measured.
func settle(n int) error {
	for begun := time.Now(); runtime.NumGoroutine() > n; runtime.Gosched() {
		if time.Since(begun) > patience {
			return fmt.Errorf("%d goroutines are left instead of %d", runtime.NumGoroutine(), n)
		}
	}
	return nil
}
