package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// A test is one of them.
type test struct{ pkg, name string }

// parts returns the tests that run against mutants[i], in that order: those that reach its function and take little time, the others
// that reach it, and the last ones. For a mutant of which that is not known, all of them run.
func (l *lab) parts(i int) []tests {
	pkg := l.mutants[i].pkg()
	var parts []tests
	if reaching, known := l.reaching[l.mutants[i].function]; known {
		for _, names := range split(reaching, func(name string) time.Duration { return l.each[test{pkg, name}] }) {
			parts = append(parts, tests{pkg, "^(" + strings.Join(names, "|") + ")$", ""})
		}
	} else {
		parts = append(parts, l.chosen(pkg))
	}
	if l.last != "" {
		parts = append(parts, tests{pkg, l.last, l.skip})
	}
	return parts
}

// chosen are the tests of a package that are chosen, but for the last ones.
func (l *lab) chosen(pkg string) tests { return tests{pkg, l.run, either(l.skip, l.last)} }

// either matches what any of the expressions does; nothing if there is none.
func either(expressions ...string) string {
	return strings.Join(slices.DeleteFunc(expressions, func(e string) bool { return e == "" }), "|")
}

// quick is how long the tests take together that run first.
const quick = time.Second

// split divides tests into those that take the least time, in all no more than quick, and the others. There is no empty part.
func split(names []string, took func(name string) time.Duration) (parts [][]string) {
	names = slices.Clone(names)
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(took(a), took(b)) })
	n := 0
	for total := time.Duration(0); n < len(names); n++ {
		if total += took(names[n]); total > quick {
			break
		}
	}
	return slices.DeleteFunc([][]string{names[:n], names[n:]}, func(names []string) bool { return len(names) == 0 })
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
	// How long a test may take with a mutant that runs beside others, by the measurement. It decides nothing, and only saves the time.
	screening = 3
)

// findReaching notes which of a package's tests reach which functions that have mutants, and how long each test takes.
func (l *lab) findReaching(ctx context.Context, pkg string, parallel int) error {
	names, err := l.list(ctx, pkg)
	if err != nil {
		return err
	}
	reached := make([]map[int]bool, len(names)) // nil for one that reaches all, for all that is known
	took := make([]time.Duration, len(names))
	next := make(chan int)
	errs := make(chan error, len(names))
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for i := range next {
				var err error
				reached[i], took[i], err = l.reachedBy(ctx, test{pkg, names[i]})
				errs <- err
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
	workers.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	for f, number := range l.numbers[pkg] {
		reaching := []string{}
		for i, name := range names {
			if reached[i] == nil || reached[i][number] {
				reaching = append(reaching, name)
			}
		}
		l.reaching[f] = reaching
	}
	for i, name := range names {
		l.each[test{pkg, name}] = took[i]
	}
	return nil
}

// list returns the chosen tests of a package, but for the last ones: with its examples, and its fuzz tests for what they begin with.
func (l *lab) list(ctx context.Context, pkg string) (names []string, err error) {
	t := l.chosen(pkg)
	run, err := regexp.Compile(t.run)
	if err != nil {
		return nil, err
	}
	skip, err := regexp.Compile(t.skip)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(l.dir, filepath.FromSlash(pkg))
	cmd := exec.CommandContext(ctx, filepath.Join(dir, together), "-test.list=.")
	cmd.Dir = dir
	text, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	for name := range strings.FieldsSeq(string(text)) {
		if !strings.HasPrefix(name, "Benchmark") && run.MatchString(name) && (t.skip == "" || !skip.MatchString(name)) {
			names = append(names, name)
		}
	}
	return names, nil
}

// reachedBy runs one test without a mutant, and returns the numbers of the functions that it reaches; nil if it fails for being looked
// at.
func (l *lab) reachedBy(ctx context.Context, t test) (map[int]bool, time.Duration, error) {
	notes, err := os.CreateTemp(l.dir, "reached")
	if err != nil {
		return nil, 0, err
	}
	defer os.Remove(notes.Name()) //nolint:errcheck // it is in a directory that will be removed
	err = notes.Close()
	if err != nil {
		return nil, 0, err
	}
	one := tests{t.pkg, "^" + regexp.QuoteMeta(t.name) + "$", ""}
	began := time.Now()
	r, err := l.test(ctx, together, reaching, one, time.Hour, nil, noted+"="+notes.Name())
	took := time.Since(began)
	if err != nil {
		return nil, 0, err
	}
	if r.verdict != survived {
		return nil, took, l.pass(ctx, one)
	}
	text, err := os.ReadFile(notes.Name())
	if err != nil {
		return nil, 0, err
	}
	numbers := make(map[int]bool)
	for line := range strings.FieldsSeq(string(text)) {
		number, err := strconv.Atoi(line)
		if err != nil {
			return nil, 0, err
		}
		numbers[number] = true
	}
	return numbers, took, nil
}

// pass returns an error if tests fail without a mutant.
func (l *lab) pass(ctx context.Context, t tests) error {
	r, err := l.test(ctx, together, 0, t, time.Hour, nil)
	if err != nil || r.verdict == survived {
		return err
	}
	var names []string
	for _, name := range failed.FindAllStringSubmatch(r.output, -1) {
		names = append(names, name[1])
	}
	return fmt.Errorf("the tests of %s fail without a mutant: %s\n%s", t.pkg, strings.Join(names, ", "), r.output)
}

// measure runs tests without a mutant.
func (l *lab) measure(ctx context.Context, t tests) error {
	began := time.Now()
	if err := l.pass(ctx, t); err != nil {
		return err
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
		for _, t := range l.parts(i) {
			r, err := l.test(ctx, binary, i+1, t, screening*l.measured[t].took+l.grace, l.screen(t.pkg))
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
		all := l.parts(s.mutant)
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
		r, err := l.test(ctx, binary, alive, t, limit, nil)
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

// screen returns how long each test of a package may take with a mutant that runs beside others; 0 if nobody knows.
func (l *lab) screen(pkg string) func(name string) time.Duration {
	return func(name string) time.Duration {
		if took, ok := l.each[test{pkg, name}]; ok {
			return screening*took + l.grace
		}
		return 0
	}
}

// test runs tests with the mutant of that number; 0 for none. They may take as long as limit in all, and each as long as single
// says, if it is not nil and does not say 0.
func (l *lab) test(
	ctx context.Context, binary string, alive int, t tests, limit time.Duration, single func(name string) time.Duration, env ...string,
) (result, error) {
	const overdue = 10 * time.Second // when they do not end by their own timeout
	bounded, cancel := context.WithTimeout(ctx, limit+overdue)
	defer cancel()
	dir := filepath.Join(l.dir, filepath.FromSlash(t.pkg))
	cmd := exec.CommandContext(bounded, filepath.Join(dir, binary), "-test.v", "-test.failfast", "-test.timeout="+limit.String(),
		"-test.run="+t.run, "-test.skip="+t.skip)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", fmt.Sprintf("%s=%d", variable, alive))
	cmd.Env = append(cmd.Env, env...)
	cmd.WaitDelay = overdue
	w := &watch{single: single, late: cancel}
	cmd.Stdout, cmd.Stderr = w, w
	failure := cmd.Run()
	output, late := w.end()
	r := result{verdict: killed, output: output}
	var status *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return r, ctx.Err()
	case failure == nil:
		r.verdict = survived
	case bounded.Err() != nil:
		r.verdict, r.hangs = suspected, late
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

// A watch takes what a test binary prints, and ends it when a test takes too long.
type watch struct {
	single func(name string) time.Duration
	late   func() // ends the binary

	mu      sync.Mutex // guards what follows
	text    bytes.Buffer
	seen    int    // of text, in whole lines
	running string // the test that is
	timer   *time.Timer
	hangs   string // the test that took too long
}

// Write implements io.Writer.
func (w *watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text.Write(p)
	for {
		line, _, whole := bytes.Cut(w.text.Bytes()[w.seen:], []byte("\n"))
		if !whole {
			return len(p), nil
		}
		w.seen += len(line) + 1
		if begun := begun.FindSubmatch(line); begun != nil {
			w.beginLocked(string(begun[1]))
		}
	}
}

// begun finds the name of a test that begins: not of a subtest, which has a slash.
var begun = regexp.MustCompile(`^=== RUN   ([^/\s]+)$`)

func (w *watch) beginLocked(name string) {
	if w.single == nil {
		return
	}
	w.running = name
	if w.timer != nil {
		w.timer.Stop()
	}
	limit := w.single(name)
	if limit == 0 {
		return
	}
	w.timer = time.AfterFunc(limit, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.running == name {
			w.hangs = name
			w.late()
		}
	})
}

// end returns what was printed, and the test that took too long, if one did.
func (w *watch) end() (text, hangs string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = ""
	if w.timer != nil {
		w.timer.Stop()
	}
	return w.text.String(), w.hangs
}
