package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

func TestUnitsAreWrittenForPeople(t *testing.T) {
	for _, test := range []struct {
		unit  unit
		value float64
		want  string
	}{
		{nanoseconds, 0, "0.00 ns"},
		{nanoseconds, 9.996, "10.0 ns"},
		{nanoseconds, 37.64, "37.6 ns"},
		{nanoseconds, 551, "551 ns"},
		{nanoseconds, 3082, "3.08 µs"},
		{nanoseconds, 12_345_678, "12.3 ms"},
		{nanoseconds, 2e9, "2.00 s"},
		{bytesUnit, 3082.4, "3,082 B"},
		{bytesUnit, 999, "999 B"},
		{bytesUnit, -1234, "-1,234 B"},
		{bytesUnit, -123, "-123 B"},
		{bytesUnit, 20 << 10, "20.0 KiB"},
		{bytesUnit, 3.5 * (1 << 20), "3.50 MiB"},
		{perSecond, 12, "12.0"},
		{perSecond, 84_100, "84.1 k"},
		{perSecond, 2_420_000, "2.42 M"},
		{percent, 99.96, "100.0%"},
		{count, 1.04, "1.0"},
		{nanoseconds, math.NaN(), report.Dash},
		{nanoseconds, math.Inf(1), report.Dash},
	} {
		assert.Equal(t, test.want, test.unit.write(test.value))
	}
}

func TestCounted(t *testing.T) {
	assert.Equal(t, "1 task", counted(1, "task"))
	assert.Equal(t, "1,000 tasks", counted(1000, "task"))
	assert.Equal(t, "a million tasks", counted(1_000_000, "task"))
	assert.Equal(t, "1,234,567 tasks", counted(1_234_567, "task"))
}
