package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A verdict is what became of a mutant.
type verdict int

const (
	survived verdict = iota
	failed           // the tests noticed it
	hung             // so did their timeout
	unbuilt
)

// A choice of tests, and how long they may take. The expressions are as in go test.
type choice struct {
	run, skip string
	last      string // those that run against what the others have not noticed
	timeout   time.Duration
}

// A lab is a copy of the module in which mutants are tried. Those within functions are all built at
// once, into one test binary in which an environment variable says which of them is alive.
type lab struct {
	choice
	dir     string
	mutants []mutant
	unbuilt map[int]bool // by their places in mutants

	alone sync.Mutex // held while a mutant that is outside of functions is tried, in the one copy
}

const (
	together = "mutants.test" // the binary with all mutants that are within functions
	single   = "mutant.test"  // that with one of the others
	variable = "MUTANT"       // the place of the one that is alive, in mutants, counted from 1
)

// newLab copies the module in dir, and builds its tests.
func newLab(ctx context.Context, dir string, tests choice, mutants []mutant) (*lab, error) {
	copied, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return nil, err
	}
	l := &lab{choice: tests, dir: copied, mutants: mutants, unbuilt: make(map[int]bool)}
	err = os.CopyFS(copied, os.DirFS(dir))
	if err == nil {
		err = l.buildAll(ctx)
	}
	if err == nil {
		err = l.baseline(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) close() error { return os.RemoveAll(l.dir) }

// buildAll builds the mutants that are within functions, and finds those that do not build.
func (l *lab) buildAll(ctx context.Context) error {
	for {
		places, err := l.writeAll()
		if err != nil {
			return err
		}
		output, err := l.build(ctx, together)
		if err == nil {
			return nil
		}
		found := false
		for _, e := range compilerError.FindAllStringSubmatch(output, -1) {
			line, _ := strconv.Atoi(e[2])
			for _, p := range places {
				if p.file == e[1] && p.first <= line && line <= p.last {
					l.unbuilt[p.mutant] = true
					found = true
				}
			}
		}
		if !found {
			return fmt.Errorf("the tests do not build: %w\n%s", err, output)
		}
	}
}

// compilerError finds the file and the line.
var compilerError = regexp.MustCompile(`(?m)^\./([^:\n]+):(\d+):`)

// A place is where a mutant has been written.
type place struct {
	mutant      int
	file        string
	first, last int // lines
}

// writeAll writes every mutant that is within a function, and is not known not to build, into the
// copy of its file: as a branch at the beginning of the function.
func (l *lab) writeAll() ([]place, error) {
	files := make(map[string][]int)
	for i, m := range l.mutants {
		files[m.file] = append(files[m.file], i)
	}
	var places []place
	for file, mutants := range files {
		var (
			out    bytes.Buffer
			source = l.mutants[mutants[0]].source
			copied = 0
		)
		for _, i := range mutants { // in the order of their places in the file
			m := l.mutants[i]
			if m.function == nil || l.unbuilt[i] {
				continue
			}
			if m.function.bodyFrom > copied {
				out.Write(source[copied:m.function.bodyFrom])
				copied = m.function.bodyFrom
			}
			p := place{mutant: i, file: file, first: bytes.Count(out.Bytes(), []byte("\n")) + 1}
			call := "return func() %s {%s}()\n"
			if m.function.results == "" {
				call = "func() %s {%s}(); return\n"
			}
			fmt.Fprintf(&out, "\nif mutantAlive == %d {\n"+call+"}\n", i+1, m.function.results, m.body())
			p.last = bytes.Count(out.Bytes(), []byte("\n"))
			places = append(places, p)
		}
		out.Write(source[copied:])
		if err := os.WriteFile(filepath.Join(l.dir, file), out.Bytes(), 0o600); err != nil {
			return nil, err
		}
		name := packageClause.FindSubmatch(source)[1]
		alive := fmt.Appendf(nil, "package %s\n\nimport (\n\"os\"\n\"strconv\"\n)\n\nvar mutantAlive, _ = strconv.Atoi(os.Getenv(%q))\n", name, variable)
		if err := os.WriteFile(filepath.Join(l.dir, "mutant_alive.go"), alive, 0o600); err != nil {
			return nil, err
		}
	}
	return places, nil
}

// packageClause finds the name. Every file has one: it has been parsed.
var packageClause = regexp.MustCompile(`(?m)^package (\w+)`)

// build builds the tests of the root package.
func (l *lab) build(ctx context.Context, binary string) (output string, err error) {
	// All errors, and not only the first ten.
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-gcflags=-e", "-o", binary, ".")
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// baseline sees that the tests pass without a mutant, and how long they take.
func (l *lab) baseline(ctx context.Context) error {
	const slower = 10 * time.Second // that a mutant may be, if the tests take no time
	timeout := l.timeout
	l.timeout = time.Hour
	began := time.Now()
	if output, err := l.test(ctx, together, 0); err != nil {
		return fmt.Errorf("the tests fail without a mutant: %w\n%s", err, output)
	}
	if timeout == 0 {
		timeout = 5*time.Since(began) + slower
	}
	l.timeout = timeout
	return nil
}

// try runs the tests against mutants[i].
func (l *lab) try(ctx context.Context, i int) (verdict, error) {
	if l.unbuilt[i] {
		return unbuilt, nil
	}
	binary := together
	if l.mutants[i].function == nil {
		l.alone.Lock()
		defer l.alone.Unlock()
		if output, err := l.buildAlone(ctx, l.mutants[i]); err != nil {
			if compilerError.MatchString(output) {
				return unbuilt, nil
			}
			return 0, fmt.Errorf("%w\n%s", err, output)
		}
		binary = single
	}
	output, failure := l.test(ctx, binary, i+1)
	var status *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case failure == nil:
		return survived, nil
	case !errors.As(failure, &status):
		return 0, failure // it could not be run
	case status.ExitCode() < 0 || strings.Contains(output, "panic: test timed out after"):
		return hung, nil
	}
	return failed, nil
}

// buildAlone builds a mutant that is outside of functions.
func (l *lab) buildAlone(ctx context.Context, m mutant) (string, error) {
	path := filepath.Join(l.dir, m.file)
	all, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(path, m.mutated(), 0o600); err != nil {
		return "", err
	}
	output, failure := l.build(ctx, single)
	return output, errors.Join(failure, os.WriteFile(path, all, 0o600))
}

// test runs the tests, with the mutant of that number; 0 for none.
func (l *lab) test(ctx context.Context, binary string, alive int) (output string, err error) {
	if l.last == "" {
		return l.testOnly(ctx, binary, alive, l.run, l.skip)
	}
	output, err = l.testOnly(ctx, binary, alive, l.run, strings.Trim(l.skip+"|"+l.last, "|"))
	if err != nil {
		return output, err
	}
	return l.testOnly(ctx, binary, alive, l.last, l.skip)
}

func (l *lab) testOnly(ctx context.Context, binary string, alive int, run, skip string) (output string, err error) {
	const overdue = 10 * time.Second // when they do not end by their own timeout
	ctx, cancel := context.WithTimeout(ctx, l.timeout+overdue)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(l.dir, binary), "-test.failfast", "-test.timeout="+l.timeout.String(),
		"-test.run="+run, "-test.skip="+skip)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), "GOWORK=off", fmt.Sprintf("%s=%d", variable, alive))
	cmd.WaitDelay = overdue
	text, err := cmd.CombinedOutput()
	return string(text), err
}
