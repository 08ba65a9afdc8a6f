package main

import (
	"fmt"
	"math"
)

// A target is what the library wants to cost at most.
type target struct {
	text    string
	work    string
	key     string
	ratio   bool // to the floor
	unit    unit
	limit   float64
	atLeast bool   // the limit is the least, not the most
	why     string // it is missed, if that is known
}

var targets = []target{
	{text: "memory of one of 100,000 parked tasks", work: "parked/100000", key: "memory", ratio: true, limit: 1.08},
	{text: "memory of one of a million parked tasks", work: "parked/1000000", key: "memory", ratio: true, limit: 1.08},
	{
		text: "starting one of a million", work: "parked/1000000", key: "start", ratio: true, limit: 1,
		why: "the label for profiles takes three allocations; the ratio lies below the target in some rounds, see their values",
	},
	{text: "stopping one of a million", work: "parked/1000000", key: "stop", ratio: true, limit: 1},
	{
		text: "a restart without delay", work: "restarts/1", key: "each", unit: nanoseconds, limit: 500,
		why: "the clock is read twice, and the new context is collected; 315 ns on a day on which the floor took 71 ns",
	},
	{text: "objects allocated for it, the new run's context included", work: "restarts/1", key: "allocs", unit: count, limit: 1.1},
	{text: "of 1,000 tasks that fail at once, the turns of the least, in percent of the mean", work: "restarts/1000", key: "least", unit: percent, limit: 1, atLeast: true},
	{
		text: "from a panic to running again, median", work: "down/panic", key: "p50", unit: nanoseconds, limit: 1000,
		why: "the runtime takes some 45 ns for each call on the stack that the error keeps; 1.11 µs on a day on which the floor took 431 ns",
	},
	{text: "healthy work kept in a storm", work: "storm/10000", key: "kept", unit: percent, limit: 99, atLeast: true},
	{text: "an unrelated start in a storm, p99", work: "storm/10000", key: "start99", unit: nanoseconds, limit: 200e3},
	{text: "an unrelated stop in a storm, p99", work: "storm/10000", key: "stop99", unit: nanoseconds, limit: 200e3},
	{text: "is it running, of 1,000, from each core at once", work: "asking/1000", key: "together", unit: nanoseconds, limit: 60},
	{
		text: "is it running, of 100,000, from each core at once", work: "asking/100000", key: "together", unit: nanoseconds, limit: 60,
		why: "what is looked up is no longer in the processor's caches",
	},
	{text: "objects allocated for it", work: "asking/100000", key: "allocs", unit: count, limit: 0.01},
	{
		text: "statistics of 1,000 tasks, for each", work: "asking/1000", key: "stats", unit: nanoseconds, limit: 200,
		why: "half of it is the collection of what earlier snapshots leave, 350 B for each task, in a process that has little else; " +
			"145 ns on a day on which the machine did the floor's work in two thirds of the time",
	},
	{
		text: "statistics of 100,000 tasks, for each", work: "asking/100000", key: "stats", unit: nanoseconds, limit: 200,
		why: "what is read of each task, and the map that is filled, are no longer in the processor's caches",
	},
	{
		text: "short tasks per second", work: "churn", key: "rate", unit: perSecond, limit: 1e6, atLeast: true,
		why: "the one that starts them and those that end contend for the lock of the registry; three of the five objects are the label for profiles",
	},
	{text: "heap kept after a million of them", work: "churn", key: "kept", unit: bytesUnit, limit: 8 << 20},
}

// targets returns a row of a table for each target that these results say something about.
func (r *results) targets() (rows []string) {
	for _, t := range targets {
		if !r.has(t.work) {
			continue
		}
		measured := median(r.of(t.work, ourName, t.key))
		write := t.unit.write
		if t.ratio {
			measured = r.toFloor(t.work, ourName, t.key)
			write = func(x float64) string { return digits(x) + " × the floor" }
		}
		if math.IsNaN(measured) {
			continue
		}
		bound, verdict := "at most", "met"
		missed := measured > t.limit
		if t.atLeast {
			bound, missed = "at least", measured < t.limit
		}
		if missed {
			verdict = "**missed**"
			if t.why != "" {
				verdict += ": " + t.why
			}
		}
		rows = append(rows, fmt.Sprintf("| %s | %s %s | %s | %s |\n", t.text, bound, write(t.limit), write(measured), verdict))
	}
	return rows
}
