// Package report is what the benchmarks of the library and those of its leases have in common: the values of their rounds, what their flags
// select, and how they write numbers and say what they ran on.
package report

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// Values are those of one side in one round, by the key of their measure.
type Values map[string]float64

// Rounds are the values by work and side; one of each round.
type Rounds map[string]map[string][]Values

// Add adds the values of a round.
func (r Rounds) Add(work, side string, v Values) {
	if r[work] == nil {
		r[work] = make(map[string][]Values)
	}
	r[work][side] = append(r[work][side], v)
}

// Of returns the values of one measure, of each round.
func (r Rounds) Of(work, side, key string) (all []float64) {
	for _, v := range r[work][side] {
		if x, ok := v[key]; ok {
			all = append(all, x)
		}
	}
	return all
}

// Count is how often each work was done.
func (r Rounds) Count() (n int) {
	for _, bySide := range r {
		for _, all := range bySide {
			n = max(n, len(all))
		}
	}
	return n
}

// A Selection is what the flags -only and -skip leave of the works. The zero value leaves all.
type Selection struct{ Only, Skip *regexp.Regexp }

// Select reads the values of the flags. An empty one selects all, or skips nothing.
func Select(only, skip string) (s Selection, err error) {
	if only != "" {
		if s.Only, err = regexp.Compile(only); err != nil {
			return s, fmt.Errorf("-only: %w", err)
		}
	}
	if skip != "" {
		if s.Skip, err = regexp.Compile(skip); err != nil {
			return s, fmt.Errorf("-skip: %w", err)
		}
	}
	return s, nil
}

// Has reports whether a side shall do a work, whose name is work/side.
func (s Selection) Has(name string) bool {
	return (s.Only == nil || s.Only.MatchString(name)) && (s.Skip == nil || !s.Skip.MatchString(name))
}

// IsAll reports whether nothing is left out.
func (s Selection) IsAll() bool { return s.Only == nil && s.Skip == nil }

// Command returns the command that does the same again, with the flags that were set.
func Command(program string, flags *flag.FlagSet) string {
	command := "go run ./" + program
	flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "o": // another machine has other directories
		case "quick":
			command += " -quick"
		default:
			command += fmt.Sprintf(" -%s %v", f.Name, f.Value)
		}
	})
	return command
}

// Source is where the source of that program is, as seen from the root of the repository or from that directory itself.
func Source(program string) (string, error) {
	for _, dir := range []string{program, "."} {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.Contains(mod, []byte("/taskmanager/"+program+"\n")) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("neither here nor in ./%s is this program's source: say with -o where to write", program)
}

// Median returns the middle of values, the mean of the two middle ones if their number is even, and NaN if there are none. It leaves them
// as they are.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Dash stands for what is not measured.
const Dash = "–"

// Digits writes v with three digits, more if it has more before the point.
func Digits(v float64) string {
	decimals := 0
	switch {
	case v < 9.995:
		decimals = 2
	case v < 99.95:
		decimals = 1
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// Thousands writes n with commas.
func Thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Machine describes what this runs on, in one line.
func Machine() string {
	cpu := field("/proc/cpuinfo", "model name")
	if cpu == "" {
		cpu = "unknown CPU"
	}
	s := fmt.Sprintf("%s, %d cores", cpu, runtime.NumCPU())
	if n := runtime.GOMAXPROCS(0); n != runtime.NumCPU() {
		s += fmt.Sprintf(" (%d used)", n)
	}
	if kilobytes, err := strconv.ParseFloat(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 64); err == nil {
		s += fmt.Sprintf(", %.0f GiB of memory", kilobytes/(1<<20))
	}
	return fmt.Sprintf("%s, %s/%s, %s", s, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// field returns the value of the first line "name : value" of a file, or "".
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Versions are those of the modules that this program was built with, by path.
func Versions() map[string]string {
	found := make(map[string]string)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return found
	}
	for _, m := range info.Deps {
		found[m.Path] = m.Version
	}
	return found
}
