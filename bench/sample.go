package main

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

// percentile returns the smallest of values that p percent of them do not exceed; NaN if there are
// none. It sorts them.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	rank := int(math.Ceil(p / 100 * float64(len(values))))
	return values[min(max(rank, 1), len(values))-1]
}

// ratio returns the median over the rounds of value/base, where both were measured. In one round
// they ran one after the other, so what slows the machine for a while affects both.
func ratio(values, base []float64) float64 { return report.Median(ratios(values, base)) }

// ratios returns the ratio of each round that has one.
func ratios(values, base []float64) (all []float64) {
	for i := range min(len(values), len(base)) {
		if r := values[i] / base[i]; !math.IsNaN(r) && !math.IsInf(r, 0) {
			all = append(all, r)
		}
	}
	return all
}

// A histogram counts durations in buckets that are at most 1/32 of their value wide, in memory that
// does not grow. The zero value is ready to use, by one goroutine at a time.
type histogram struct {
	buckets [32 * histogramSteps]uint64
	n       uint64
	longest time.Duration
}

// histogramSteps is twice the number of buckets for each power of two.
const histogramSteps = 64

func (h *histogram) add(d time.Duration) {
	h.buckets[histogramBucket(d)]++
	h.n++
	h.longest = max(h.longest, d)
}

// addTo adds n durations of that bucket, as long as any in it.
func (h *histogram) addTo(bucket int, n uint64) {
	if n > 0 {
		h.buckets[bucket] += n
		h.n += n
		h.longest = max(h.longest, histogramTop(bucket))
	}
}

func histogramBucket(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < histogramSteps {
		return int(v)
	}
	exponent := bits.Len64(v) - bits.Len64(histogramSteps-1)
	return exponent*histogramSteps/2 + int(v>>exponent)
}

// histogramTop is the longest duration of a bucket.
func histogramTop(bucket int) time.Duration {
	if bucket < histogramSteps {
		return time.Duration(bucket)
	}
	exponent := bucket/(histogramSteps/2) - 1
	mantissa := bucket - exponent*histogramSteps/2
	return time.Duration((mantissa+1)<<exponent - 1)
}

// percentile returns a duration that p percent do not exceed, at most 1/32 too long.
func (h *histogram) percentile(p float64) time.Duration {
	rank := uint64(math.Ceil(p / 100 * float64(h.n)))
	var seen uint64
	for i, n := range &h.buckets {
		seen += n
		if n > 0 && seen >= rank {
			return min(histogramTop(i), h.longest)
		}
	}
	return 0
}
