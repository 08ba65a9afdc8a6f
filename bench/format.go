package main

import (
	"fmt"
	"math"
	"strconv"
)

// A dash stands for what a side cannot do.
const dash = "–"

// write writes a value for people, in three digits or so.
func (u unit) write(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return dash
	}
	switch u {
	case nanoseconds:
		switch {
		case v < 1e3:
			return digits(v) + " ns"
		case v < 1e6:
			return digits(v/1e3) + " µs"
		case v < 1e9:
			return digits(v/1e6) + " ms"
		}
		return digits(v/1e9) + " s"
	case bytesUnit:
		switch {
		case v < 1<<14:
			return thousands(int(math.Round(v))) + " B"
		case v < 1<<20:
			return digits(v/(1<<10)) + " KiB"
		}
		return digits(v/(1<<20)) + " MiB"
	case perSecond:
		switch {
		case v < 1e3:
			return digits(v)
		case v < 1e6:
			return digits(v/1e3) + " k"
		}
		return digits(v/1e6) + " M"
	case percent:
		return fmt.Sprintf("%.1f%%", v)
	default:
		return fmt.Sprintf("%.1f", v)
	}
}

// digits writes v with three digits, more if it has more before the point.
func digits(v float64) string {
	decimals := 0
	switch {
	case v < 9.995:
		decimals = 2
	case v < 99.95:
		decimals = 1
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// thousands writes n with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted is a number with the thing counted: "1 task", "a million tasks".
func counted(n int, thing string) string {
	switch n {
	case 1:
		return "1 " + thing
	case 1_000_000:
		return "a million " + thing + "s"
	}
	return thousands(n) + " " + thing + "s"
}
