package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

// valid returns those of the mutants, all of one package in dir, that are valid Go: no test need notice what no compiler takes, such
// as a string from which one is subtracted.
func valid(ctx context.Context, dir, pkg string, mutants []mutant) ([]mutant, error) {
	c, err := newChecker(ctx, dir, pkg)
	if err != nil {
		return nil, err
	}
	if _, err := c.check(nil); err != nil {
		return nil, fmt.Errorf("without a mutant: %w", err)
	}
	for _, m := range mutants {
		if c.parsed[m.file] == nil {
			return nil, fmt.Errorf("%s is not part of its package here", m.file)
		}
	}
	invalid := make(map[int]bool)
	for { // an error may hide another
		errs, err := c.checkTogether(pkg, mutants, invalid)
		if err != nil {
			return nil, err
		}
		if !errs {
			break
		}
	}
	var good []mutant
	for i, m := range mutants {
		if m.function == nil {
			at, err := c.check(map[string][]byte{m.file: m.mutated()})
			if err != nil && len(at) == 0 {
				return nil, err
			}
			invalid[i] = err != nil
		}
		if !invalid[i] {
			good = append(good, m)
		}
	}
	return good, nil
}

// A checker checks the types of a package, some of whose files are replaced.
type checker struct {
	name   string
	files  *token.FileSet
	parsed map[string]*ast.File // by their paths within the module
	config types.Config
}

func newChecker(ctx context.Context, dir, pkg string) (*checker, error) {
	list := func(format string, args ...string) ([]string, error) {
		cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-f", format}, args...)...)
		cmd.Dir = filepath.Join(dir, filepath.FromSlash(pkg))
		cmd.Env = append(os.Environ(), "GOWORK=off")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
		}
		return strings.Fields(string(out)), nil
	}
	about, err := list("{{.Name}} go{{.Module.GoVersion}} {{range .GoFiles}} {{.}}{{end}}", ".")
	if err != nil {
		return nil, err
	}
	dependencies, err := list("{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}", "-export", "-deps", ".")
	if err != nil {
		return nil, err
	}
	exports := make(map[string]string)
	for _, d := range dependencies {
		name, file, _ := strings.Cut(d, "=")
		exports[name] = file
	}
	c := &checker{name: about[0], files: token.NewFileSet(), parsed: make(map[string]*ast.File)}
	c.config = types.Config{
		GoVersion: about[1],
		Sizes:     types.SizesFor("gc", runtime.GOARCH),
		Importer: importer.ForCompiler(c.files, "gc", func(name string) (io.ReadCloser, error) {
			return os.Open(exports[name])
		}),
	}
	for _, name := range about[2:] {
		name = path.Join(pkg, name)
		source, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		if c.parsed[name], err = parser.ParseFile(c.files, name, source, parser.SkipObjectResolution); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// checkTogether checks the mutants that are within functions, and adds those in which there are errors to invalid.
func (c *checker) checkTogether(pkg string, mutants []mutant, invalid map[int]bool) (errs bool, err error) {
	var (
		places   []place
		files, _ = filesOf(mutants, pkg)
		texts    = map[string][]byte{path.Join(pkg, "mutant_alive.go"): []byte("package " + c.name + "\n\nvar mutantAlive int\n\nfunc mutantReached(int) {}\n")}
	)
	for file, some := range files {
		text, written := branch(mutants, some, invalid)
		texts[file] = text
		places = append(places, written...)
	}
	at, err := c.check(texts)
	for _, p := range at {
		if i, ok := placeOf(places, p.Filename, p.Line); ok {
			invalid[i] = true
			errs = true
		}
	}
	if err != nil && !errs {
		return false, err
	}
	return errs, nil
}

// check checks the package with the texts in place of files, or beside them. It returns where errors are, and all of them as one.
func (c *checker) check(texts map[string][]byte) (at []token.Position, err error) {
	var (
		files []*ast.File
		errs  []error
	)
	for name, file := range c.parsed {
		if _, replaced := texts[name]; !replaced {
			files = append(files, file)
		}
	}
	for name, text := range texts {
		file, err := parser.ParseFile(c.files, name, text, parser.SkipObjectResolution|parser.AllErrors)
		if list := scanner.ErrorList(nil); errors.As(err, &list) {
			for _, e := range list {
				at, errs = append(at, e.Pos), append(errs, e)
			}
		}
		files = append(files, file)
	}
	if len(errs) > 0 {
		return at, errors.Join(errs...)
	}
	config := c.config
	config.Error = func(err error) {
		if e := (types.Error{}); errors.As(err, &e) {
			at = append(at, c.files.Position(e.Pos))
		}
		errs = append(errs, err)
	}
	_, _ = config.Check(c.name, c.files, files, nil)
	return at, errors.Join(errs...)
}
