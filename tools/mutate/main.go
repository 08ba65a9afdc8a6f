// Mutate says what the tests of a package do not notice. It changes the package in a small way, a condition negated, a boundary
// moved, a statement removed, a constant changed, and runs its tests: if they pass, the mutant has survived, and is printed.
//
//	go run ./tools/mutate -files backoff.go,stop.go -max 60
//	go run ./tools/mutate -files .,internal/picture
//
// A mutant in a package is tried against the tests of that package alone: against those that reach its function, and those that take
// little time first. Which they are is found out before, by running each test by itself.
//
// A mutant is hung, and not only slow, if it takes longer than a multiple of what the tests take without one: alone, and in the same
// minute. Those that seem to hang while several are tried at a time are tried again by themselves.
//
// Some mutants mean the same as the original. Somebody has to look; what was found is written down in a file, for -known: those
// that it names may survive. If any other does, or a mutant does not build, the exit status is 1.
//
// Everything happens in a copy of the module, in a temporary directory. Nothing bounds the memory that a mutant takes but the
// shell's ulimit.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1) //nolint:gocritic // nothing is left that stop would have to undo
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("mutate", flag.ContinueOnError)
	dir := flags.String("dir", ".", "the module")
	files := flags.String("files", ".", "what to mutate, separated by commas: files of the module, and directories of its packages, for all of their files but tests")
	var c choice
	flags.StringVar(&c.run, "run", "", "run only the tests that match, as in go test")
	flags.StringVar(&c.skip, "skip", "", "skip the tests that match, as in go test")
	flags.StringVar(&c.last, "last", "", "run the tests that match only against what the others do not notice, whatever -run says: the slow ones")
	flags.Float64Var(&c.multiple, "multiple", 10, "a mutant is hung if it takes so many times as long as the tests without one")
	flags.DurationVar(&c.grace, "grace", 3*time.Second, "but not if it takes less than this")
	most := flags.Int("max", 0, "at most so many mutants, at random; 0 for all")
	seed := flags.Uint64("seed", 1, "of the random choice")
	parallel := flags.Int("parallel", 1, "how many mutants to try at a time: those that hang need no processor")
	known := flags.String("known", "", "a file of mutants that may survive")
	if parseErr := flags.Parse(args); parseErr != nil {
		return parseErr
	}
	if c.multiple < 2 {
		return fmt.Errorf("-multiple %v: must be 2 or more, for what is merely slow", c.multiple)
	}
	harmless, err := readKnown(*known)
	if err != nil {
		return err
	}
	names, err := sources(*dir, *files)
	if err != nil {
		return err
	}
	lab, err := newLab(*dir, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.close()) }()
	mutants, invalid, err := generate(ctx, lab.dir, names)
	if err != nil {
		return err
	}
	if *most > 0 && len(mutants) > *most {
		random := rand.New(rand.NewPCG(*seed, 0))
		random.Shuffle(len(mutants), func(i, j int) { mutants[i], mutants[j] = mutants[j], mutants[i] })
		mutants = mutants[:*most]
	}
	slices.SortStableFunc(mutants, func(a, b mutant) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.from, b.from)) })
	if err := lab.prepare(ctx, mutants, max(1, *parallel)); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d changes are not valid Go, and are not tried\n", invalid)
	return try(ctx, lab, max(1, *parallel), harmless, out)
}

// generate returns the valid mutants of these files, and the number of those that are not valid.
func generate(ctx context.Context, dir string, names []string) (mutants []mutant, invalid int, err error) {
	var all []mutant
	for _, name := range names {
		source, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return nil, 0, err
		}
		found, err := mutantsOf(name, source)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, found...)
	}
	for _, pkg := range packagesOf(all) {
		of := slices.DeleteFunc(slices.Clone(all), func(m mutant) bool { return m.pkg() != pkg })
		good, err := valid(ctx, dir, pkg, of)
		if err != nil {
			return nil, 0, err
		}
		mutants = append(mutants, good...)
	}
	invalid = len(all) - len(mutants)
	switch {
	case len(mutants) == 0:
		return nil, 0, fmt.Errorf("there is nothing to mutate in %s", strings.Join(names, ", "))
	case len(all) >= fewest && float64(invalid) > mostInvalid*float64(len(all)):
		return nil, 0, fmt.Errorf("%d of %d changes are not valid Go: this program, and not what it changes, is at fault", invalid, len(all))
	}
	return mutants, invalid, nil
}

const (
	// Of all changes, those that are not valid are strings that are subtracted, and assignments removed that were the only use of a
	// variable: of the library's 2,035 changes, some 5%. More would mean that mutants are made wrongly, and that the code is not tried.
	mostInvalid = 0.15
	fewest      = 50 // by which a share can be judged
)

// sources returns the files to mutate, by their paths within the module, each once.
func sources(dir, files string) ([]string, error) {
	var names []string
	for name := range strings.SplitSeq(files, ",") {
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("-files: %q is not within the module", name)
		}
		about, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("-files: %w", err)
		}
		if !about.IsDir() {
			names = append(names, path.Clean(filepath.ToSlash(name)))
			continue
		}
		paths, err := filepath.Glob(filepath.Join(dir, name, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			if !strings.HasSuffix(p, "_test.go") {
				names = append(names, path.Join(filepath.ToSlash(name), filepath.Base(p)))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

var (
	// errSurvivors is why the exit status is not 0 if the tests have missed something.
	errSurvivors = errors.New("some mutants survived that are not known")
	// errNotTried is why it is not 0 if the tests have not been run against all mutants.
	errNotTried = errors.New("some mutants did not build")
)

// try runs the tests against each mutant, several at a time, then judges those that seemed to hang, and prints the survivors and a
// summary: of those that were tried, if it is interrupted.
func try(ctx context.Context, l *lab, parallel int, harmless map[string]bool, out io.Writer) error {
	began := time.Now()
	var (
		next    = make(chan int)
		workers sync.WaitGroup

		mu     sync.Mutex // guards what follows
		counts = make(map[verdict]int)
		known  int
		errs   []error
	)
	note := func(i int, v verdict, err error) {
		mu.Lock()
		defer mu.Unlock()
		m := l.mutants[i]
		switch {
		case err != nil:
			errs = append(errs, err)
			return
		case v == survived && harmless[m.key()]:
			known++
			return
		case v == survived, v == unbuilt:
			fmt.Fprintf(out, "%s:%d: %s: %s\n%s\n", m.file, m.line, m.what, v, m.diff())
		}
		counts[v]++
	}
	var suspects []suspicion
	for range parallel {
		workers.Go(func() {
			for i := range next {
				v, suspect, err := l.try(ctx, i)
				if v == suspected && err == nil {
					mu.Lock()
					suspects = append(suspects, suspect)
					mu.Unlock()
					continue
				}
				note(i, v, err)
			}
		})
	}
	for i := range l.mutants {
		next <- i
	}
	close(next)
	workers.Wait()
	for _, s := range suspects {
		v, err := l.judge(ctx, s)
		note(s.mutant, v, err)
	}
	tried := known
	for _, n := range counts {
		tried += n
	}
	fmt.Fprintf(out, "%d mutants in %v: %d killed, %d hung (confirmed alone, of %d that seemed to), %d did not build, %d survived, %d known to be equivalent\n",
		tried, time.Since(began).Round(time.Second), counts[killed], counts[hung], len(suspects), counts[unbuilt], counts[survived], known)
	switch {
	case len(errs) > 0:
		return errs[0]
	case counts[survived] > 0:
		return errSurvivors
	case counts[unbuilt] > 0:
		return errNotTried
	}
	return nil
}

// readKnown returns the keys of the mutants in a file that was given to -known, if one was. It has a paragraph for each: the
// name of its file, and its diff. Lines that begin with # are comments.
func readKnown(path string) (map[string]bool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]bool)
	for paragraph := range strings.SplitSeq(string(text), "\n\n") {
		lines := strings.Split(paragraph, "\n")
		keys[key(slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "#") }))] = true
	}
	return keys, nil
}
