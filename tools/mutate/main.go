// Mutate says what the tests of a package do not notice. It changes the package in a small way, a condition negated, a boundary
// moved, a statement removed, a constant changed, and runs its tests: if they pass, the mutant has survived, and is printed.
//
//	go run ./tools/mutate -files backoff.go,stop.go -max 60
//
// Some mutants mean the same as the original. Somebody has to look; what was found is written down in a file, for -known: those
// that it names may survive. If any other does, the exit status is 1.
//
// Everything happens in a copy of the module, in a temporary directory. A mutant that makes the tests hang is killed by their
// timeout; nothing bounds the memory that it takes but the shell's ulimit.
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

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("mutate", flag.ContinueOnError)
	dir := flags.String("dir", ".", "the module, whose root package is mutated")
	files := flags.String("files", "", "its files to mutate, separated by commas (default all but tests)")
	var tests choice
	flags.StringVar(&tests.run, "run", "", "run only the tests that match, as in go test")
	flags.StringVar(&tests.skip, "skip", "", "skip the tests that match, as in go test")
	flags.StringVar(&tests.last, "last", "", "run the tests that match only against what the others do not notice, whatever -run says: the slow ones")
	most := flags.Int("max", 0, "at most so many mutants, at random; 0 for all")
	seed := flags.Uint64("seed", 1, "of the random choice")
	flags.DurationVar(&tests.timeout, "timeout", 0, "of the tests of one mutant (default 5 times what they take, and 10 s more)")
	parallel := flags.Int("parallel", 1, "how many mutants to try at a time: those that hang need no processor")
	known := flags.String("known", "", "a file of mutants that may survive")
	err := flags.Parse(args)
	if err != nil {
		return err
	}
	harmless, err := readKnown(*known)
	if err != nil {
		return err
	}
	names, err := sources(*dir, *files)
	if err != nil {
		return err
	}
	var mutants []mutant
	for _, name := range names {
		var found []mutant
		if found, err = mutantsIn(*dir, name); err != nil {
			return err
		}
		mutants = append(mutants, found...)
	}
	if *most > 0 && len(mutants) > *most {
		random := rand.New(rand.NewPCG(*seed, 0))
		random.Shuffle(len(mutants), func(i, j int) { mutants[i], mutants[j] = mutants[j], mutants[i] })
		mutants = mutants[:*most]
	}
	slices.SortFunc(mutants, func(a, b mutant) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.from, b.from)) })
	lab, err := newLab(ctx, *dir, tests, mutants)
	if err != nil {
		return err
	}
	return errors.Join(try(ctx, lab, max(1, *parallel), harmless, out), lab.close())
}

func mutantsIn(dir, name string) ([]mutant, error) {
	source, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return mutantsOf(name, source)
}

// sources returns the files to mutate.
func sources(dir, files string) ([]string, error) {
	if files != "" {
		return strings.Split(files, ","), nil
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for i, path := range paths {
		paths[i] = filepath.Base(path)
	}
	return slices.DeleteFunc(paths, func(name string) bool { return strings.HasSuffix(name, "_test.go") }), nil
}

// errSurvivors is why the exit status is not 0 if the tests have missed something.
var errSurvivors = errors.New("some mutants survived that are not known")

// try runs the tests against each mutant, several at a time, and prints the survivors and a summary: of those that were tried, if
// it is interrupted.
func try(ctx context.Context, l *lab, parallel int, harmless map[string]bool, out io.Writer) error {
	began := time.Now()
	var (
		next    = make(chan int)
		workers sync.WaitGroup

		mu           sync.Mutex
		counts       = make(map[verdict]int)
		tried, known int
		errs         []error
	)
	for range parallel {
		workers.Go(func() {
			for i := range next {
				m := l.mutants[i]
				v, err := l.try(ctx, i)
				mu.Lock()
				switch {
				case err != nil:
					errs = append(errs, err)
				case v == survived && harmless[m.key()]:
					known++
				case v == survived:
					fmt.Fprintf(out, "%s:%d: %s\n%s\n", m.file, m.line, m.what, m.diff())
				}
				if err == nil {
					tried++
					counts[v]++
				}
				mu.Unlock()
			}
		})
	}
	for i := range l.mutants {
		next <- i
	}
	close(next)
	workers.Wait()
	fmt.Fprintf(out, "%d mutants in %v: %d failed the tests, %d hung, %d did not build, %d survived, %d of them known\n", tried,
		time.Since(began).Round(time.Second), counts[failed], counts[hung], counts[unbuilt], counts[survived], known)
	if len(errs) > 0 {
		return errs[0]
	}
	if counts[survived] > known {
		return errSurvivors
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
