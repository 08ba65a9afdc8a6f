// Mutate says what the tests of a package do not notice. It changes the package in a small way, a condition negated, a boundary
// moved, a statement removed, a constant changed, and runs its tests: if they pass, the mutant has survived, and is printed.
//
//	go run ./tools/mutate -files limits.go,stop.go -max 60
//
// Everything happens in a copy of the module, in a temporary directory. A mutant that makes the tests hang is killed by their
// timeout. The exit status is 0 also if there are survivors: some mutants mean the same as the original, and somebody has to look.
package main

import (
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
	tests := flags.String("run", "", "run only the tests that match, as in go test")
	skip := flags.String("skip", "", "skip the tests that match, as in go test: the slow ones")
	most := flags.Int("max", 0, "at most so many mutants, at random; 0 for all")
	seed := flags.Uint64("seed", 1, "of the random choice")
	timeout := flags.Duration("timeout", 0, "of the tests of one mutant (default 5 times what they take, and 10 s more)")
	err := flags.Parse(args)
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
	lab, err := newLab(*dir, *tests, *skip, *timeout)
	if err != nil {
		return err
	}
	err = lab.baseline(ctx)
	if err == nil {
		err = try(ctx, lab, mutants, out)
	}
	return errors.Join(err, lab.close())
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

// try runs the tests against each mutant, and prints the survivors and a summary: of those that were tried, if it is interrupted.
func try(ctx context.Context, l *lab, mutants []mutant, out io.Writer) error {
	began := time.Now()
	counts := make(map[verdict]int)
	tried := 0
	var err error
	for _, m := range mutants {
		var v verdict
		if v, err = l.try(ctx, m); err != nil {
			break
		}
		tried++
		counts[v]++
		if v == survived {
			fmt.Fprintf(out, "%s:%d: %s\n%s\n", m.file, m.line, m.what, m.diff())
		}
	}
	fmt.Fprintf(out, "%d mutants in %v: %d failed the tests, %d hung, %d did not build, %d survived\n", tried,
		time.Since(began).Round(time.Second), counts[failed], counts[hung], counts[unbuilt], counts[survived])
	return err
}
