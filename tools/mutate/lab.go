package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// A lab is a copy of the module in which mutants are tried.
type lab struct {
	dir     string
	tests   string
	skip    string
	timeout time.Duration
}

// newLab copies the module in dir.
func newLab(dir, tests, skip string, timeout time.Duration) (*lab, error) {
	copied, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: copied, tests: tests, skip: skip, timeout: timeout}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) close() error { return os.RemoveAll(l.dir) }

// baseline sees that the tests pass without a mutant, and how long they take.
func (l *lab) baseline(ctx context.Context) error {
	const builds = 10 * time.Second // for what a mutant may take longer
	began := time.Now()
	if output, err := l.test(ctx, time.Hour); err != nil {
		return fmt.Errorf("the tests fail without a mutant: %w\n%s", err, output)
	}
	if l.timeout == 0 {
		l.timeout = 5*time.Since(began) + builds
	}
	return nil
}

// try puts the mutant in its place, runs the tests, and takes it back.
func (l *lab) try(ctx context.Context, m mutant) (verdict, error) {
	path := filepath.Join(l.dir, m.file)
	if err := os.WriteFile(path, m.mutated(), 0o600); err != nil {
		return 0, err
	}
	output, failure := l.test(ctx, l.timeout)
	if err := os.WriteFile(path, m.source, 0o600); err != nil {
		return 0, err
	}
	var status *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case failure == nil:
		return survived, nil
	case !errors.As(failure, &status):
		return 0, failure // go could not be run
	case strings.Contains(output, "[build failed]"):
		return unbuilt, nil
	case strings.Contains(output, "panic: test timed out after"):
		return hung, nil
	}
	return failed, nil
}

// test runs the tests of the root package.
func (l *lab) test(ctx context.Context, timeout time.Duration) (output string, err error) {
	const killed = 10 * time.Second // after an interrupt
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-failfast", "-vet=off", "-timeout="+timeout.String(),
		"-run="+l.tests, "-skip="+l.skip, ".")
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that go ends the tests, too
	cmd.WaitDelay = killed
	text, err := cmd.CombinedOutput()
	return string(text), err
}
