package report

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMedian(t *testing.T) {
	values := []float64{9, 1, 5}
	assert.InDelta(t, 5, Median(values), 0)
	assert.Equal(t, []float64{9, 1, 5}, values)
	assert.InDelta(t, 3, Median([]float64{5, 1}), 0)
	assert.InDelta(t, 4, Median([]float64{4}), 0)
	assert.InDelta(t, 2.5, Median([]float64{4, 1, 3, 2}), 0)
	assert.True(t, math.IsNaN(Median(nil)))
}
