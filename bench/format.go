package main

import (
	"fmt"
	"math"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

// write writes a value for people, in three digits or so.
func (u unit) write(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return report.Dash
	}
	switch u {
	case nanoseconds:
		switch {
		case v < 1e3:
			return report.Digits(v) + " ns"
		case v < 1e6:
			return report.Digits(v/1e3) + " µs"
		case v < 1e9:
			return report.Digits(v/1e6) + " ms"
		}
		return report.Digits(v/1e9) + " s"
	case bytesUnit:
		switch {
		case v < 1<<14:
			return report.Thousands(int(math.Round(v))) + " B"
		case v < 1<<20:
			return report.Digits(v/(1<<10)) + " KiB"
		}
		return report.Digits(v/(1<<20)) + " MiB"
	case perSecond:
		switch {
		case v < 1e3:
			return report.Digits(v)
		case v < 1e6:
			return report.Digits(v/1e3) + " k"
		}
		return report.Digits(v/1e6) + " M"
	case percent:
		return fmt.Sprintf("%.1f%%", v)
	default:
		return fmt.Sprintf("%.1f", v)
	}
}

// counted is a number with the thing counted: "1 task", "a million tasks".
func counted(n int, thing string) string {
	switch n {
	case 1:
		return "1 " + thing
	case 1_000_000:
		return "a million " + thing + "s"
	}
	return report.Thousands(n) + " " + thing + "s"
}
