package main

import (
	"bytes"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
)

// held is what the live heap, the stacks and the runtime's own records of both take, in bytes. It
// collects garbage twice: once more for what finalizers and pools had kept.
func held() float64 {
	runtime.GC()
	runtime.GC()
	return sum(
		"/memory/classes/heap/objects:bytes",
		"/memory/classes/heap/stacks:bytes",
		"/memory/classes/metadata/mspan/inuse:bytes",
		"/memory/classes/metadata/mcache/inuse:bytes",
	)
}

// allocated is how many objects have been allocated so far.
func allocated() float64 { return sum("/gc/heap/allocs:objects") }

// live is what the last collection has found to be in use, in bytes.
func live() float64 { return sum("/gc/heap/live:bytes") }

func sum(names ...string) (total float64) {
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	for _, s := range samples {
		total += float64(s.Value.Uint64())
	}
	return total
}

// resident is the resident set of the process in bytes, or 0 where the system does not tell.
func resident() float64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseFloat(string(fields[1]), 64)
	if err != nil {
		return 0
	}
	return pages * float64(os.Getpagesize())
}
