package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A verdict is what became of a mutant.
type verdict int

const (
	survived  verdict = iota
	killed            // a test failed
	suspected         // the tests did not end while others ran beside them: no verdict yet
	hung              // nor did they alone
	unbuilt
)

func (v verdict) String() string {
	return [...]string{"survived", "killed", "seems to hang", "hung", "does not build"}[v]
}

// A choice of tests. The expressions are as in go test.
type choice struct {
	run, skip string
	last      string // those that run against what the others have not noticed
	multiple  float64
	grace     time.Duration // that is given to tests which take no time: to start a process takes some, and whatever else the machine does
}

// Tests are some of those of a package.
type tests struct{ pkg, run, skip string }

// parts returns the chosen tests of a package, in the order in which they run.
func (c choice) parts(pkg string) []tests {
	if c.last == "" {
		return []tests{{pkg, c.run, c.skip}}
	}
	return []tests{{pkg, c.run, strings.Trim(c.skip+"|"+c.last, "|")}, {pkg, c.last, c.skip}}
}

// A measurement is how long tests take without a mutant, alone.
type measurement struct {
	took time.Duration
	at   time.Time
}

// A suspicion is that tests do not end with a mutant.
type suspicion struct {
	mutant int // its place
	tests  tests
}

const (
	// How long a measurement holds. What the machine does besides has changed by then.
	fresh = time.Minute
	// How long a mutant may take that runs beside others, by the measurement. It decides nothing, and only saves the time.
	screening = 3
)

// measure runs tests without a mutant.
func (l *lab) measure(ctx context.Context, t tests) error {
	began := time.Now()
	r, err := l.test(ctx, together, 0, t, time.Hour)
	if err != nil {
		return err
	}
	if r.verdict != survived {
		var names []string
		for _, name := range failed.FindAllStringSubmatch(r.output, -1) {
			names = append(names, name[1])
		}
		return fmt.Errorf("the tests of %s fail without a mutant: %s\n%s", t.pkg, strings.Join(names, ", "), r.output)
	}
	now := time.Now()
	l.measured[t] = measurement{took: now.Sub(began), at: now}
	return nil
}

// failed finds the tests of which a test binary says that they have failed.
var failed = regexp.MustCompile(`(?m)^--- FAIL: (\S+)`)

// try runs the tests against mutants[i], perhaps while others run. If they do not end, the mutant is suspected, and has to be judged.
func (l *lab) try(ctx context.Context, i int) (verdict, suspicion, error) {
	suspect := suspicion{mutant: i}
	v, err := l.withBinary(ctx, i, func(binary string) (verdict, error) {
		for _, t := range l.parts(l.mutants[i].pkg()) {
			r, err := l.test(ctx, binary, i+1, t, screening*l.measured[t].took+l.grace)
			if r.verdict == suspected {
				suspect.tests = t
				if r.hangs != "" {
					suspect.tests = tests{t.pkg, "^" + regexp.QuoteMeta(r.hangs) + "$", ""}
				}
			}
			if r.verdict != survived || err != nil {
				return r.verdict, err
			}
		}
		return survived, nil
	})
	if errors.Is(err, errUnbuilt) {
		return unbuilt, suspect, nil
	}
	return v, suspect, err
}

// judge runs tests again that have not ended with a mutant, while nothing else runs: first those alone that are suspected, which
// costs less, and if they end, all of them. The mutant is hung only if it takes longer than a multiple of
// what the same tests take without a mutant, both before and afterwards, so whatever the machine is, and does besides.
func (l *lab) judge(ctx context.Context, s suspicion) (verdict, error) {
	return l.withBinary(ctx, s.mutant, func(binary string) (verdict, error) {
		all := l.parts(s.tests.pkg)
		if !slices.Contains(all, s.tests) {
			all = append([]tests{s.tests}, all...)
		}
		for _, t := range all {
			v, err := l.testAlone(ctx, binary, s.mutant+1, t)
			if v != survived || err != nil {
				return v, err
			}
		}
		return survived, nil
	})
}

func (l *lab) testAlone(ctx context.Context, binary string, alive int, t tests) (verdict, error) {
	if m, ok := l.measured[t]; !ok || time.Since(m.at) > fresh {
		if err := l.measure(ctx, t); err != nil {
			return 0, err
		}
	}
	for limit := l.limit(t); ; limit = l.limit(t) {
		r, err := l.test(ctx, binary, alive, t, limit)
		if r.verdict != suspected || err != nil {
			return r.verdict, err
		}
		if err := l.measure(ctx, t); err != nil {
			return 0, err
		}
		if l.limit(t) <= limit {
			return hung, nil
		}
		// The machine has become slower meanwhile, and the mutant has had less than its time.
	}
}

// limit returns how long a mutant may take that runs alone.
func (l *lab) limit(t tests) time.Duration {
	return max(l.grace, time.Duration(l.multiple*float64(l.measured[t].took)))
}

// A result is what came of running tests: they have survived, been killed, or not ended.
type result struct {
	verdict verdict
	output  string
	hangs   string // the test that was running when the time was over, if it is known
}

// test runs tests with the mutant of that number; 0 for none.
func (l *lab) test(ctx context.Context, binary string, alive int, t tests, limit time.Duration) (result, error) {
	const overdue = 10 * time.Second // when they do not end by their own timeout
	bounded, cancel := context.WithTimeout(ctx, limit+overdue)
	defer cancel()
	dir := filepath.Join(l.dir, filepath.FromSlash(t.pkg))
	cmd := exec.CommandContext(bounded, filepath.Join(dir, binary), "-test.failfast", "-test.timeout="+limit.String(),
		"-test.run="+t.run, "-test.skip="+t.skip)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", fmt.Sprintf("%s=%d", variable, alive))
	cmd.WaitDelay = overdue
	text, failure := cmd.CombinedOutput()
	r := result{verdict: killed, output: string(text)}
	var status *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return r, ctx.Err()
	case failure == nil:
		r.verdict = survived
	case bounded.Err() != nil:
		r.verdict = suspected
	case !errors.As(failure, &status):
		return r, failure // it could not be run
	default:
		if timeout := timedOut.FindStringSubmatch(r.output); timeout != nil {
			r.verdict, r.hangs = suspected, timeout[1]
		}
	}
	return r, nil
}

// timedOut finds what a test binary says at its timeout, and of the tests that are running, each in a line, the first: without its subtests.
var timedOut = regexp.MustCompile(`(?m)^panic: test timed out after \S+(?:\n\trunning tests:\n\t\t([^/\s]+))?`)
