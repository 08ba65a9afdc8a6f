package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A lab is a copy of the module in which mutants are tried. Those of one package that are within functions are all built at
// once, into one test binary in which an environment variable says which of them is alive.
type lab struct {
	choice
	dir     string
	mutants []mutant
	unbuilt map[int]bool // by their places in mutants

	// Written while no mutant is being tried.
	numbers  map[string]map[*function]int // of the functions in each package that have mutants
	reaching map[*function][]string       // the tests, but for the last ones
	each     map[test]time.Duration       // how long each of those takes, alone
	measured map[tests]measurement

	alone sync.Mutex // held while a mutant that is built by itself is tried, in the one copy
}

const (
	together = "mutants.test" // the binary with all mutants of a package that are within functions
	single   = "mutant.test"  // that with one of the others
	variable = "MUTANT"       // the place of the one that is alive, in mutants, counted from 1
	reaching = -1             // instead of a place: none is, and the numbers of the functions that are called are noted
	noted    = "MUTANT_NOTES" // the file for that
)

// newLab copies the module in dir.
func newLab(dir string, c choice) (*lab, error) {
	copied, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return nil, err
	}
	l := &lab{
		choice: c, dir: copied, unbuilt: make(map[int]bool),
		numbers: make(map[string]map[*function]int), reaching: make(map[*function][]string),
		each: make(map[test]time.Duration), measured: make(map[tests]measurement),
	}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) close() error { return os.RemoveAll(l.dir) }

// prepare builds the tests of each package with its mutants, and runs them without a mutant: each by itself, several at a time, and
// together where it is not known which of them reach a mutant.
func (l *lab) prepare(ctx context.Context, mutants []mutant, parallel int) error {
	l.mutants = mutants
	for _, pkg := range packagesOf(mutants) {
		if err := l.buildAll(ctx, pkg); err != nil {
			return err
		}
		if err := l.findReaching(ctx, pkg, parallel); err != nil {
			return err
		}
	}
	for i, m := range mutants {
		for _, t := range l.parts(i) {
			if _, ok := l.measured[t]; ok {
				continue
			}
			if reaching, known := l.reaching[m.function]; known && t.run != l.last {
				l.measured[t] = measurement{took: l.sum(m.pkg(), reaching)} // at a time that is long past: enough to begin with
				continue
			}
			if err := l.measure(ctx, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// sum is how long tests take, one after the other.
func (l *lab) sum(pkg string, names []string) (took time.Duration) {
	for _, name := range names {
		took += l.each[test{pkg, name}]
	}
	return took
}

// packagesOf returns the directories of the mutants' packages, within the module.
func packagesOf(mutants []mutant) []string {
	var packages []string
	for _, m := range mutants {
		packages = append(packages, m.pkg())
	}
	slices.Sort(packages)
	return slices.Compact(packages)
}

// buildAll builds the mutants of a package that are within functions, and finds those that do not build.
func (l *lab) buildAll(ctx context.Context, pkg string) error {
	for {
		places, err := l.writeAll(pkg)
		if err != nil {
			return err
		}
		output, err := l.build(ctx, pkg, together)
		switch {
		case err == nil && strings.Contains(output, "[no test files]"):
			return fmt.Errorf("the package in %s has no tests", pkg)
		case err == nil:
			return nil
		}
		found := false
		for _, e := range compilerError.FindAllStringSubmatch(output, -1) {
			line, _ := strconv.Atoi(e[2])
			if i, ok := placeOf(places, path.Join(pkg, e[1]), line); ok {
				l.unbuilt[i] = true
				found = true
			}
		}
		if !found {
			return fmt.Errorf("the tests of %s do not build: %w\n%s", pkg, err, output)
		}
	}
}

// compilerError finds the file and the line.
var compilerError = regexp.MustCompile(`(?m)^\./([^:\n]+):(\d+):`)

// writeAll writes the mutants of a package that are within functions, and are not known not to build, into the copies of
// their files.
func (l *lab) writeAll(pkg string) ([]place, error) {
	var places []place
	write := func(file string, text []byte) error {
		return os.WriteFile(filepath.Join(l.dir, filepath.FromSlash(file)), text, 0o600)
	}
	files, name := filesOf(l.mutants, pkg)
	for file, mutants := range files {
		text, written := branch(l.mutants, mutants, l.unbuilt)
		if err := write(file, text); err != nil {
			return nil, err
		}
		places = append(places, written...)
	}
	l.numbers[pkg] = make(map[*function]int)
	for _, p := range places {
		if f := l.mutants[p.mutant].function; l.numbers[pkg][f] == 0 {
			l.numbers[pkg][f] = p.mutant + 1
		}
	}
	return places, write(path.Join(pkg, "mutant_alive.go"), fmt.Appendf(nil, alive, name, variable, len(l.mutants)+1, noted))
}

// alive is the file in which the tests with the mutants of a package find out which of them is alive, and note what they reach. That
// allocates nothing but the first time, for there are tests that look.
const alive = `package %s

import (
	"os"
	"strconv"
	"sync/atomic"
)

var mutantAlive, _ = strconv.Atoi(os.Getenv(%q))

var mutantsReached [%d]atomic.Bool

func mutantReached(function int) {
	if mutantsReached[function].Swap(true) {
		return
	}
	f, err := os.OpenFile(os.Getenv(%q), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strconv.Itoa(function) + "\n"); err != nil {
		panic(err)
	}
}
`

// filesOf returns which of the mutants are in each file of a package, and the package's name.
func filesOf(mutants []mutant, pkg string) (files map[string][]int, name string) {
	files = make(map[string][]int)
	for i, m := range mutants {
		if m.pkg() == pkg {
			files[m.file] = append(files[m.file], i)
			name = string(packageClause.FindSubmatch(m.source)[1])
		}
	}
	return files, name
}

// packageClause finds the name. Every file has one: it has been parsed.
var packageClause = regexp.MustCompile(`(?m)^package (\w+)`)

// A place is where a mutant has been written.
type place struct {
	mutant      int
	file        string
	first, last int // lines
}

// placeOf returns the mutant that has been written into a line.
func placeOf(places []place, file string, line int) (mutant int, ok bool) {
	for _, p := range places {
		if p.file == file && p.first <= line && line <= p.last {
			return p.mutant, true
		}
	}
	return 0, false
}

// branch returns the text of the file that some of all mutants are in, in the order of their places in it, with those that are
// within functions and not left out: each as a branch at the beginning of its function, which has the number of its first mutant.
func branch(all []mutant, some []int, without map[int]bool) (text []byte, written []place) {
	var (
		out    bytes.Buffer
		source = all[some[0]].source
		copied = 0
	)
	for _, i := range some {
		m := all[i]
		if m.function == nil || without[i] {
			continue
		}
		if m.function.bodyFrom > copied {
			out.Write(source[copied:m.function.bodyFrom])
			copied = m.function.bodyFrom
			fmt.Fprintf(&out, "\nif mutantAlive == %d {\nmutantReached(%d)\n}\n", reaching, i+1)
		}
		p := place{mutant: i, file: m.file, first: bytes.Count(out.Bytes(), []byte("\n")) + 1}
		call := "return func() %s {%s}()\n"
		if m.function.results == "" {
			call = "func() %s {%s}(); return\n"
		}
		fmt.Fprintf(&out, "\nif mutantAlive == %d {\n"+call+"}\n", i+1, m.function.results, m.body())
		p.last = bytes.Count(out.Bytes(), []byte("\n"))
		written = append(written, p)
	}
	out.Write(source[copied:])
	return out.Bytes(), written
}

// build builds the tests of a package.
func (l *lab) build(ctx context.Context, pkg, binary string) (output string, err error) {
	// All errors, and not only the first ten.
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-gcflags=-e", "-o", binary, ".")
	cmd.Dir = filepath.Join(l.dir, filepath.FromSlash(pkg))
	cmd.Env = append(os.Environ(), "GOWORK=off")
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// errUnbuilt is what a mutant has become that does not build.
var errUnbuilt = errors.New("does not build")

// withBinary calls use with the name of the binary that has mutants[i]. It returns errUnbuilt if there can be none.
func (l *lab) withBinary(ctx context.Context, i int, use func(binary string) (verdict, error)) (verdict, error) {
	if l.unbuilt[i] {
		return 0, errUnbuilt
	}
	m := l.mutants[i]
	if m.function != nil {
		return use(together)
	}
	l.alone.Lock()
	defer l.alone.Unlock()
	if output, err := l.buildAlone(ctx, m); err != nil {
		if compilerError.MatchString(output) {
			return 0, errUnbuilt
		}
		return 0, fmt.Errorf("%w\n%s", err, output)
	}
	return use(single)
}

// buildAlone builds a mutant by itself.
func (l *lab) buildAlone(ctx context.Context, m mutant) (string, error) {
	file := filepath.Join(l.dir, filepath.FromSlash(m.file))
	all, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(file, m.mutated(), 0o600); err != nil {
		return "", err
	}
	output, failure := l.build(ctx, m.pkg(), single)
	return output, errors.Join(failure, os.WriteFile(file, all, 0o600))
}
