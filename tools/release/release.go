package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
)

// release makes the repository in dir ready for a version, and prints what is to be done next.
func (p project) release(ctx context.Context, dir, version string, now time.Time, out io.Writer) error {
	published, err := p.prepare(ctx, dir, version, now, out)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is ready. Read git diff; then\n\n", version)
	fmt.Fprintf(out, "git commit --all --message 'Release %s'\n", version)
	fmt.Fprintln(out, "bash .ci/run")
	var tags []string
	for _, m := range published {
		tag := m.tag(version)
		tags = append(tags, tag)
		fmt.Fprintf(out, "git tag --annotate --message %s %s\n", tag, tag)
	}
	fmt.Fprintf(out, "git push --atomic origin HEAD %s\n", strings.Join(tags, " "))
	return nil
}

// prepare judges a version, writes it to where it belongs, and returns the modules that have it.
func (p project) prepare(ctx context.Context, dir, version string, now time.Time, out io.Writer) (published []module, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	modules, err := workspace(dir)
	if err != nil {
		return nil, err
	}
	if err := p.judge(ctx, dir, version, modules, out); err != nil {
		return nil, err
	}
	if err := p.write(ctx, dir, version, modules, now); err != nil {
		return nil, fmt.Errorf("%w\n(git restore . undoes what has been written)", err)
	}
	return p.published(modules), nil
}

// judge refuses a version that can't be released. It changes nothing.
func (p project) judge(ctx context.Context, dir, version string, modules []module, out io.Writer) error {
	published := p.published(modules)
	if err := judgeVersion(version, published); err != nil {
		return err
	}
	status, err := git(ctx, dir, "status", "--porcelain")
	if err != nil {
		return err
	}
	if status != "" {
		return fmt.Errorf("the tree is not clean:\n%s", status)
	}
	all, err := versions(ctx, dir, published)
	if err != nil {
		return err
	}
	err = judgeNewer(version, all)
	if err != nil {
		return err
	}
	changelog, err := os.ReadFile(filepath.Join(dir, changelogName))
	if err != nil {
		return err
	}
	if has, err := waiting(string(changelog)); err != nil || !has {
		return errors.Join(err, errors.New(changelogName+" has no entry under Unreleased"))
	}
	if err := judgeBorders(dir, published, modules); err != nil {
		return err
	}
	return p.judgeAPI(ctx, dir, version, all, published, string(changelog), out)
}

// judgeAPI compares the API of the published modules with the latest release, and prints what has changed.
func (p project) judgeAPI(
	ctx context.Context, dir, version string, all []tagged, published []module, changelog string, out io.Writer,
) (err error) {
	previous := newest(all, isRelease)
	if previous == "" {
		fmt.Fprintln(out, "API: no release is tagged, there is nothing to compare with")
		return nil
	}
	text, err := notes(changelog, previous)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "release")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	before := filepath.Join(tmp, "before")
	if _, err = git(ctx, dir, "clone", "--quiet", "--shared", "--branch", previous, dir, before); err != nil {
		return err
	}
	comparison, err := newComparison(ctx, tmp, before, dir, p.unpublished)
	if err != nil {
		return err
	}
	var refused []error
	for _, m := range published {
		if _, err := os.Stat(m.at(before, "go.mod")); err != nil {
			fmt.Fprintf(out, "API of %s: new since %s\n", m.path, previous)
			continue
		}
		c, err := comparison.of(ctx, m)
		if err != nil {
			return err
		}
		if c.empty() {
			fmt.Fprintf(out, "API of %s: as in %s\n", m.path, previous)
		} else {
			fmt.Fprintf(out, "API of %s: since %s%v\n", m.path, previous, c)
		}
		if err := judge(previous, version, c, text); err != nil {
			refused = append(refused, fmt.Errorf("%s: %w", m.path, err))
		}
	}
	return errors.Join(refused...)
}

// write writes the version to where it belongs, and checks that the published modules compile.
func (p project) write(ctx context.Context, dir, version string, modules []module, now time.Time) error {
	published := p.published(modules)
	for _, m := range modules {
		if err := requireVersion(m.at(dir, "go.mod"), version, published); err != nil {
			return err
		}
	}
	for name, place := range p.named {
		err := rewrite(filepath.Join(dir, filepath.FromSlash(name)), func(text string) (string, error) {
			if n := len(place.FindAllStringIndex(text, -1)); n != 1 {
				return "", fmt.Errorf("%s has %d places that match %s, and not one", name, n, place)
			}
			return place.ReplaceAllString(text, "${1}"+strings.TrimPrefix(version, "v")+"${2}"), nil
		})
		if err != nil {
			return err
		}
	}
	err := rewrite(filepath.Join(dir, changelogName), func(text string) (string, error) {
		return released(text, version, now), nil
	})
	if err != nil {
		return err
	}
	// By the replace lines, which name directories: what they require need not be tagged yet.
	for _, m := range modules {
		if _, err := command(ctx, m.at(dir), isolated, "go", "mod", "tidy"); err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
	}
	for _, m := range published {
		// With -trimpath what is compiled in the clone of a rehearsal is found again by the next one.
		if _, err := command(ctx, m.at(dir), isolated, "go", "vet", "-trimpath", "./..."); err != nil {
			return fmt.Errorf("%s: %w", m.path, err)
		}
	}
	return nil
}

// requireVersion sets the version of those of the published modules that a go.mod requires. Its replace lines stay: the go command goes by
// those of the main module alone, so they count in this repository, and for no user.
func requireVersion(name, version string, published []module) error {
	return rewrite(name, func(text string) (string, error) {
		file, err := modfile.Parse(name, []byte(text), nil)
		if err != nil {
			return "", err
		}
		for _, m := range published {
			if !slices.ContainsFunc(file.Require, func(r *modfile.Require) bool { return r.Mod.Path == m.path }) {
				continue
			}
			err = file.AddRequire(m.path, version)
			if err != nil {
				return "", err
			}
		}
		formatted, err := file.Format()
		return string(formatted), err
	})
}

// rewrite changes the text of a file.
func rewrite(name string, change func(text string) (string, error)) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	changed, err := change(string(text))
	if err != nil || changed == string(text) {
		return err
	}
	return os.WriteFile(name, []byte(changed), 0o644)
}
