package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// A rehearsal is a release that is made in a copy of the repository, for users who are made up.
type rehearsal struct {
	project
	tmp, clone  string
	published   []module
	next, later string // the version that is released, and one after it, of the root alone
	out         io.Writer

	environment []string // of the go commands of users
	today       []string // of those who follow the documentation: they find no version before the first release
}

// rehearse makes the next release in a copy of the repository in dir, and builds what its users build.
func (p project) rehearse(ctx context.Context, dir string, out io.Writer) (err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "rehearsal")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	modules, err := workspace(dir)
	if err != nil {
		return err
	}
	r := rehearsal{project: p, tmp: tmp, clone: filepath.Join(tmp, "clone"), published: p.published(modules), out: out}
	beside := filepath.Join(tmp, "install", path.Base(r.published[0].path))
	err = copyTree(ctx, dir, beside)
	if err != nil {
		return err
	}
	already, err := versions(ctx, dir, r.published)
	if err != nil {
		return err
	}
	if err := r.tag(ctx, dir, already); err != nil {
		return err
	}
	if err := r.prepareUsers(ctx, beside, already); err != nil {
		return err
	}
	for _, m := range r.published { // first, while their module cache is empty
		if err := r.install(ctx, beside, m); err != nil {
			return fmt.Errorf("who installs %s as documented: %w", m.path, err)
		}
	}
	for _, m := range r.published {
		if err := r.alone(ctx, m); err != nil {
			return fmt.Errorf("a user of %s alone, without replace: %w", m.path, err)
		}
	}
	for _, m := range r.published[1:] {
		if err := r.withOld(ctx, m, r.oldestOf(m, already)); err != nil {
			return fmt.Errorf("a user of the newest root with the oldest %s that it supports: %w", m.path, err)
		}
	}
	return nil
}

// tag makes the release, and tags it, in a clone of the repository with the tree as it is, whether that is committed or not.
func (r *rehearsal) tag(ctx context.Context, dir string, already []tagged) (err error) {
	if r.next, err = nextMinor(newest(already, isAny)); err != nil {
		return err
	}
	if r.later, err = nextMinor(r.next); err != nil {
		return err
	}
	if _, err = git(ctx, dir, "clone", "--quiet", "--no-checkout", dir, r.clone); err != nil {
		return err
	}
	err = copyTree(ctx, dir, r.clone)
	if err != nil {
		return err
	}
	// The commit of a release that is not tagged yet has nothing more under Unreleased.
	err = rewrite(filepath.Join(r.clone, changelogName), func(text string) (string, error) {
		if has, waitingErr := waiting(text); waitingErr != nil || has {
			return text, waitingErr
		}
		return strings.Replace(text, "\n"+unreleased, "\n"+unreleased+"\n- A rehearsal.\n", 1), nil
	})
	if err != nil {
		return err
	}
	if err := r.commit(ctx, "The tree as it is"); err != nil {
		return err
	}
	if _, err := r.prepare(ctx, r.clone, r.next, time.Now(), r.out); err != nil {
		return err
	}
	if err := r.commit(ctx, "Release "+r.next); err != nil {
		return err
	}
	tags := []string{r.published[0].tag(r.later)}
	for _, m := range r.published {
		tags = append(tags, m.tag(r.next))
	}
	for _, tag := range tags {
		if _, err := git(ctx, r.clone, "-c", "tag.gpgSign=false", "tag", tag); err != nil {
			return err
		}
	}
	return nil
}

// commit commits all that is in the clone.
func (r *rehearsal) commit(ctx context.Context, message string) error {
	if _, err := git(ctx, r.clone, "add", "--all"); err != nil {
		return err
	}
	_, err := git(ctx, r.clone, "-c", "user.name=rehearsal", "-c", "user.email=rehearsal@example.org", "-c", "commit.gpgSign=false",
		"-c", "core.hooksPath="+os.DevNull, "commit", "--quiet", "--allow-empty", "--message", message)
	return err
}

// copyTree copies all files that git knows, or would know by git add, as they are.
func copyTree(ctx context.Context, from, to string) error {
	names, err := git(ctx, from, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		text, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted, and not committed
		}
		if err != nil {
			return err
		}
		copied := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(copied), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(copied, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// prepareUsers makes the proxy, and the environment of those who use it: they have a module cache of their own, so that no version that
// does not exist is left in another one. What they need of others is in the module cache of this machine, which is a proxy, too: there it
// has been verified. No network is asked for anything, and so none is asked for versions that do not exist.
func (r *rehearsal) prepareUsers(ctx context.Context, beside string, already []tagged) error {
	proxy := filepath.Join(r.tmp, "proxy")
	root := r.published[0]
	serving := []tagged{{root, r.later}}
	for _, m := range r.published {
		serving = append(serving, tagged{m, r.next})
		if old := r.oldestOf(m, already); old != r.next {
			serving = append(serving, tagged{m, old})
		}
		if _, err := command(ctx, m.at(r.clone), isolated, "go", "mod", "download"); err != nil {
			return err
		}
	}
	for _, t := range serving {
		if err := serve(ctx, r.clone, t.module, t.version, proxy); err != nil {
			return err
		}
	}
	printed, err := command(ctx, r.clone, isolated, "go", "env", "GOMODCACHE", "GOFLAGS")
	if err != nil {
		return err
	}
	modcache, flags, _ := strings.Cut(printed, "\n")
	modcache = "file://" + filepath.ToSlash(modcache) + "/cache/download"
	served := "GOPROXY=file://" + filepath.ToSlash(proxy) + "," + modcache
	r.environment = append([]string{
		served, "GOENV=off", "GOTOOLCHAIN=local", "GOPRIVATE=", "GONOPROXY=", "GOSUMDB=off",
		"GOMODCACHE=" + filepath.Join(r.tmp, "modcache"),
		"GOFLAGS=" + strings.TrimSpace(strings.TrimSpace(flags)+" -modcacherw -trimpath"), // the latter, so that the build cache helps
	}, isolated...)
	changelog, err := os.ReadFile(filepath.Join(beside, changelogName))
	if err != nil {
		return err
	}
	ever, err := everReleased(string(changelog))
	if err != nil {
		return err
	}
	r.today = r.environment
	if !ever {
		r.today = append(slices.Clone(r.environment), "GOPROXY="+modcache)
	}
	return nil
}

// oldestOf is the oldest version of a module that is supported: the one that is rehearsed, if none is tagged.
func (r *rehearsal) oldestOf(m module, already []tagged) string {
	oldest := r.next
	for _, t := range already {
		if t.module == m && isRelease(t.version) && semver.Compare(t.version, r.oldest) >= 0 && semver.Compare(t.version, oldest) < 0 {
			oldest = t.version
		}
	}
	return oldest
}

// alone builds the program of a user of a module, who requires nothing else.
func (r *rehearsal) alone(ctx context.Context, m module) error {
	want := []tagged{{r.published[0], r.next}}
	if m != r.published[0] {
		want = append(want, tagged{m, r.next})
	}
	dir, err := r.user()
	if err != nil {
		return err
	}
	if err := r.shell(ctx, dir, r.environment, "go mod init example.org/user\ngo get "+m.path+"@"+r.next); err != nil {
		return err
	}
	return r.build(ctx, dir, r.environment, m, want)
}

// withOld builds the program of a user who has the newest root and an old version of an adapter.
func (r *rehearsal) withOld(ctx context.Context, m module, old string) error {
	root := r.published[0]
	dir, err := r.user()
	if err != nil {
		return err
	}
	if err := r.shell(ctx, dir, r.environment, "go mod init example.org/user\ngo get "+root.path+"@"+r.later+" "+m.path+"@"+old); err != nil {
		return err
	}
	return r.build(ctx, dir, r.environment, m, []tagged{{root, r.later}, {m, old}})
}

// install builds the program of a user who has followed the documentation: in an empty directory beside a copy of the repository, by
// the commands in the code block that follows the line <!-- ci:install --> or, for the adapter in …/NAME, <!-- ci:install-NAME -->.
func (r *rehearsal) install(ctx context.Context, beside string, m module) error {
	marker := "<!-- ci:install -->"
	if m != r.published[0] {
		marker = "<!-- ci:install-" + path.Base(m.dir) + " -->"
	}
	commands, err := documented(beside, marker)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(beside), "user")
	if err != nil {
		return err
	}
	if !strings.Contains(commands, "go mod init") {
		commands = "go mod init example.org/user\n" + commands
	}
	if err := r.shell(ctx, dir, r.today, commands); err != nil {
		return err
	}
	return r.build(ctx, dir, r.today, m, nil)
}

// documented returns the code block after a line that marks it, in README.md or in a page of docs.
func documented(dir, marker string) (string, error) {
	pages, err := filepath.Glob(filepath.Join(dir, "docs", "*.md"))
	if err != nil {
		return "", err
	}
	for _, page := range append([]string{filepath.Join(dir, "README.md")}, pages...) {
		text, err := os.ReadFile(page)
		if err != nil {
			return "", err
		}
		_, after, found := strings.Cut("\n"+string(text), "\n"+marker+"\n")
		if !found {
			continue
		}
		after, isBlock := strings.CutPrefix(strings.TrimLeft(after, "\n"), "```sh\n")
		commands, _, ends := strings.Cut(after, "\n```\n")
		if !isBlock || !ends {
			return "", fmt.Errorf("%s has no block of commands after %s", filepath.Base(page), marker)
		}
		return commands, nil
	}
	return "", fmt.Errorf("no page has the line %s", marker)
}

// user makes the empty directory of a user.
func (r *rehearsal) user() (string, error) { return os.MkdirTemp(r.tmp, "user") }

// shell runs the commands of a user.
func (r *rehearsal) shell(ctx context.Context, dir string, environment []string, commands string) error {
	for line := range strings.Lines(commands) {
		fmt.Fprintln(r.out, "$", strings.TrimSpace(line))
	}
	_, err := command(ctx, dir, environment, "bash", "-euo", "pipefail", "-c", commands)
	return err
}

// build builds the program of a user of a module, in dir, as it is after the commands of the user. If versions are wanted it is
// of them, and of none that is replaced.
func (r *rehearsal) build(ctx context.Context, dir string, environment []string, m module, want []tagged) error {
	program, err := fs.ReadFile(r.users, path.Join(m.dir, "main.go"))
	if err != nil {
		return fmt.Errorf("each published module needs a program of its users: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), program, 0o600); err != nil {
		return err
	}
	if _, err := command(ctx, dir, environment, "go", "build", "-o", os.DevNull, "."); err != nil {
		return err
	}
	if len(want) > 0 {
		list := []string{"list", "-m", "-f", "{{.Path}} {{.Version}}{{with .Replace}} => {{.Path}}{{end}}"}
		var wanted strings.Builder
		for _, t := range want {
			list = append(list, t.module.path)
			fmt.Fprintln(&wanted, t.module.path, t.version)
		}
		got, err := command(ctx, dir, environment, "go", list...)
		if err != nil {
			return err
		}
		if got != wanted.String() {
			return fmt.Errorf("the program was built with\n%sand not with\n%s", got, wanted.String())
		}
	}
	fmt.Fprintf(r.out, "a program that uses %s builds\n", m.path)
	return nil
}
