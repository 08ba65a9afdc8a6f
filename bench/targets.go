package main

import (
	"fmt"
	"math"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

// A target is what the library wants to cost at most. Why one is missed is not said here: it would
// be a guess about a machine that nobody knows.
type target struct {
	text    string
	work    string
	key     string
	ratio   bool // to the floor
	unit    unit
	limit   float64
	atLeast bool // the limit is the least, not the most
}

var targets = []target{
	{text: "memory of one of 100,000 parked tasks", work: "parked/100000", key: "memory", ratio: true, limit: 1.06},
	{text: "memory of one of a million parked tasks", work: "parked/1000000", key: "memory", ratio: true, limit: 1.06},
	{text: "memory of a task in `Every`", work: "idle-every/100000", key: "memory", unit: bytesUnit, limit: 3700},
	{text: "memory of a parked task with a status", work: "idle-status/100000", key: "memory", unit: bytesUnit, limit: 3700},
	{text: "memory of a task in backoff", work: "idle-backoff/100000", key: "memory", unit: bytesUnit, limit: 4500},
	{text: "starting one task", work: "parked/1", key: "start", ratio: true, limit: 1.1},
	{text: "starting one of 1,000", work: "parked/1000", key: "start", ratio: true, limit: 1.1},
	{text: "starting one of 10,000", work: "parked/10000", key: "start", ratio: true, limit: 1.1},
	{text: "starting one of a million", work: "parked/1000000", key: "start", ratio: true, limit: 1},
	{text: "stopping one of 1,000", work: "parked/1000", key: "stop", ratio: true, limit: 1},
	{text: "stopping one of 10,000", work: "parked/10000", key: "stop", ratio: true, limit: 1},
	{text: "stopping one of 100,000", work: "parked/100000", key: "stop", ratio: true, limit: 1},
	{text: "stopping one of a million", work: "parked/1000000", key: "stop", ratio: true, limit: 1},
	{text: "restarts of one task per second, without delay", work: "restarts/1", key: "rate", unit: perSecond, limit: 5e6, atLeast: true},
	{text: "objects allocated for a restart, the new run's context included", work: "restarts/1", key: "allocs", unit: count, limit: 1.05},
	{text: "from a panic to running again, median", work: "down/panic", key: "p50", unit: nanoseconds, limit: 600},
	{text: "from a panic to running again, p99", work: "down/panic", key: "p99", unit: nanoseconds, limit: 2000},
	{text: "healthy work kept in a storm beside 10,000", work: "storm/10000", key: "kept", ratio: true, limit: 1 - asTheFloor, atLeast: true},
	{text: "an unrelated start in it, p99", work: "storm/10000", key: "start99", ratio: true, limit: 1 + asTheFloor},
	{text: "an unrelated stop in it, p99", work: "storm/10000", key: "stop99", ratio: true, limit: 1 + asTheFloor},
	{text: "healthy work kept in a storm beside 1,000", work: "storm/1000", key: "kept", ratio: true, limit: 1 - asTheFloor, atLeast: true},
	{text: "an unrelated start in it, p99", work: "storm/1000", key: "start99", ratio: true, limit: 1 + asTheFloor},
	{text: "an unrelated stop in it, p99", work: "storm/1000", key: "stop99", ratio: true, limit: 1 + asTheFloor},
	{text: "is it running, of 1,000, from each core at once", work: "asking/1000", key: "together", unit: nanoseconds, limit: 60},
	{text: "is it running, of 100,000, from each core at once", work: "asking/100000", key: "together", unit: nanoseconds, limit: 60},
	{text: "objects allocated for it", work: "asking/100000", key: "allocs", unit: count, limit: 0.01},
	{text: "totals of 100,000 tasks", work: "asking/100000", key: "totals", unit: nanoseconds, limit: 5e6},
	{text: "short tasks per second, from 64 goroutines", work: "churn/64", key: "rate", ratio: true, limit: 0.8, atLeast: true},
	{text: "heap kept after a million short tasks", work: "churn", key: "kept", unit: bytesUnit, limit: 8 << 20},
	{text: "a stop of one stuck among 100,000, after its deadline", work: "stuck/100000", key: "late", unit: nanoseconds, limit: 100e6},
	{text: "a stop of 1,000 stuck tasks, each with a dependency of its own", work: "stuck-pairs/1000", key: "took", unit: nanoseconds, limit: 300e6},
	{text: "starting a chain of 30,000 tasks", work: "chain/30000", key: "start", unit: nanoseconds, limit: 100e6},
}

// asTheFloor is the difference up to which a value counts as that of the floor.
const asTheFloor = noticeable

// targets returns a row of a table for each target that these results say something about.
func (r *results) targets() (rows []string) {
	for _, t := range targets {
		if !r.has(t.work) {
			continue
		}
		measured := report.Median(r.Of(t.work, ourName, t.key))
		write := t.unit.write
		if t.ratio {
			measured = r.toFloor(t.work, ourName, t.key)
			write = func(x float64) string { return report.Digits(x) + " × the floor" }
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
		}
		rows = append(rows, fmt.Sprintf("| %s | %s %s | %s | %s |\n", t.text, bound, write(t.limit), write(measured), verdict))
	}
	return rows
}
