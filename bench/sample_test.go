package main

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i) // 100 down to 1
	}
	assert.InDelta(t, 50, percentile(hundred, 50), 0)
	assert.InDelta(t, 99, percentile(hundred, 99), 0)
	assert.InDelta(t, 100, percentile(hundred, 100), 0)
	assert.InDelta(t, 1, percentile(hundred, 0), 0)
	assert.InDelta(t, 7, percentile([]float64{7}, 99), 0)
	assert.InDelta(t, 2, percentile([]float64{3, 2, 1}, 50), 0)
	assert.True(t, math.IsNaN(percentile(nil, 50)))
}

// The second round ran on a machine that was ten times slower: the ratio of medians would be 1.
func TestRatioIsTakenWithinRounds(t *testing.T) {
	assert.InDelta(t, 2, ratio([]float64{2, 20, 2}, []float64{1, 10, 1}), 0)
	assert.InDelta(t, 2, ratio([]float64{2, 20}, []float64{1, 10}), 0)
	assert.InDelta(t, 3, ratio([]float64{3, 5}, []float64{1}), 0, "rounds in which only one was measured")
	assert.InDelta(t, 3, ratio([]float64{3, 5, 0}, []float64{1, 0, 0}), 0, "nothing is a multiple of nothing")
	assert.True(t, math.IsNaN(ratio(nil, []float64{1})))
}

func TestHistogramPercentiles(t *testing.T) {
	var h histogram
	assert.Zero(t, h.percentile(50))
	for i := 1; i <= 1000; i++ {
		h.add(time.Duration(i) * time.Microsecond)
	}
	h.add(time.Second)
	for p, want := range map[float64]time.Duration{1: 11 * time.Microsecond, 50: 501 * time.Microsecond, 99: 991 * time.Microsecond} {
		got := h.percentile(p)
		assert.GreaterOrEqual(t, got, want, p)
		assert.LessOrEqual(t, got, want+want/32, p)
	}
	assert.Equal(t, time.Second, h.percentile(100))
	assert.Equal(t, time.Second, h.longest)
	assert.EqualValues(t, 1001, h.n)
}

// Each bucket begins where the one before it ends, from nothing to the longest duration there is.
func TestHistogramBucketsAreSeamless(t *testing.T) {
	last := histogramBucket(math.MaxInt64)
	assert.Less(t, last, len(histogram{}.buckets))
	assert.Equal(t, time.Duration(math.MaxInt64), histogramTop(last))
	assert.Zero(t, histogramBucket(0))
	assert.Zero(t, histogramBucket(-1), "a clock that goes backwards")
	for i := range last {
		top := histogramTop(i)
		assert.Equal(t, i, histogramBucket(top), top)
		assert.Equal(t, i+1, histogramBucket(top+1), top)
	}
}
