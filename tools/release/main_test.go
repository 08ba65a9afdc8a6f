package main

import (
	"bytes"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const repository = "../.."

// A repository with a root, an adapter of it, and a module that is not published.
var files = map[string]string{
	"go.work": `go 1.25.0

use (
	.
	./sub/adapter
	./tools/t
)
`,
	"go.mod": `module example.org/w

go 1.25.0
`,
	"w.go": `// Package w is the root.
package w

const agent = "w (x, 0)"

// F is used by the adapter.
func F() {}

// G is not.
func G() string { return agent }
`,
	"examples/e/e.go": `package main

func Exported() {}

func main() {}
`,
	"sub/adapter/go.mod": `module example.org/w/sub/adapter

go 1.25.0

require example.org/w v0.0.0

replace example.org/w => ../..
`,
	"sub/adapter/adapter.go": `// Package adapter adapts.
package adapter

import "example.org/w"

// A uses F.
func A() { w.F() }
`,
	"tools/t/go.mod": `module example.org/w/tools/t

go 1.25.0

require (
	example.org/w v0.0.0
	example.org/w/sub/adapter v0.0.0
)

replace (
	example.org/w => ../..
	example.org/w/sub/adapter => ../../sub/adapter
)
`,
	"tools/t/t.go": `package main

import "example.org/w/sub/adapter"

func main() { adapter.A() }
`,
	"CHANGELOG.md": `# Changelog

## [Unreleased]

### Added

- All of it.
`,
	"README.md": block("<!-- ci:install -->\n", `go mod edit -replace=example.org/w=../w
go get example.org/w`),
	"docs/a.md": block("Text.\n\n<!-- ci:install-adapter -->\n\n", `go mod init example.org/service
go mod edit -replace=example.org/w=../w -replace=example.org/w/sub/adapter=../w/sub/adapter
go get example.org/w/sub/adapter`),
}

// block is a page with commands.
func block(before, commands string) string { return before + "```sh\n" + commands + "\n```\n" }

var small = project{
	unpublished: []string{"examples", "tools"},
	oldest:      "v0.1.0",
	named:       map[string]*regexp.Regexp{"w.go": regexp.MustCompile(`(agent = "w \(x, )[^)]*(\)")`)},
	users: fstest.MapFS{
		"main.go": {Data: []byte(`package main

import "example.org/w"

func main() { w.G() }
`)},
		"sub/adapter/main.go": {Data: []byte(`package main

import (
	"example.org/w"
	"example.org/w/sub/adapter"
)

func main() {
	w.G()
	adapter.A()
}
`)},
	},
}

var day = time.Date(2026, time.March, 4, 0, 0, 0, 0, time.UTC)

// newRepository makes a repository of files.
func newRepository(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "w")
	for name, text := range files {
		write(t, dir, name, text)
	}
	pinned, err := os.ReadFile(filepath.Join(repository, ".ci", "run"))
	require.NoError(t, err)
	write(t, dir, ".ci/run", string(pinned))
	gitIn(t, dir, "init", "--quiet", "--initial-branch=main")
	commitAll(t, dir)
	return dir
}

func gitIn(t *testing.T, dir string, args ...string) {
	t.Helper()
	_, err := git(t.Context(), dir, args...)
	require.NoError(t, err)
}

// newTagged makes a repository that has been released as v0.1.0, and gives it something new.
func newTagged(t *testing.T) (dir string) {
	t.Helper()
	dir = newRepository(t)
	replaceIn(t, dir, "sub/adapter/go.mod", "v0.0.0", "v0.1.0")
	replaceIn(t, dir, "CHANGELOG.md", "[Unreleased]\n", "[Unreleased]\n\n## [0.1.0] - 2026-01-01\n")
	commitAll(t, dir)
	gitIn(t, dir, "tag", "v0.1.0")
	gitIn(t, dir, "tag", "sub/adapter/v0.1.0")
	replaceIn(t, dir, "CHANGELOG.md", "[Unreleased]\n", "[Unreleased]\n\n### Changed\n\n- Something.\n")
	return dir
}

func commitAll(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, (&rehearsal{clone: dir}).commit(t.Context(), "Test"))
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	name = filepath.Join(dir, filepath.FromSlash(name))
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(text)
}

func replaceIn(t *testing.T, dir, name, from, to string) {
	t.Helper()
	text := read(t, dir, name)
	require.Contains(t, text, from)
	write(t, dir, name, strings.Replace(text, from, to, 1))
}

func TestReleaseWritesTheVersion(t *testing.T) {
	t.Parallel()
	dir := newRepository(t)
	var out bytes.Buffer
	require.NoError(t, small.release(t.Context(), dir, "v0.1.0", day, &out))

	assert.Equal(t, "module example.org/w/sub/adapter\n\ngo 1.25.0\n\nrequire example.org/w v0.1.0\n\nreplace example.org/w => ../..\n",
		read(t, dir, "sub/adapter/go.mod"))
	tool := read(t, dir, "tools/t/go.mod")
	assert.Contains(t, tool, "require example.org/w v0.1.0 // indirect")
	assert.Contains(t, tool, "require example.org/w/sub/adapter v0.1.0")
	assert.Contains(t, read(t, dir, "w.go"), `const agent = "w (x, 0.1.0)"`)
	assert.Equal(t, "# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - 2026-03-04\n\n### Added\n\n- All of it.\n", read(t, dir, "CHANGELOG.md"))
	assert.Contains(t, out.String(), `
git commit --all --message 'Release v0.1.0'
bash .ci/run
git tag --annotate --message v0.1.0 v0.1.0
git tag --annotate --message sub/adapter/v0.1.0 sub/adapter/v0.1.0
git push --atomic origin HEAD v0.1.0 sub/adapter/v0.1.0
`)
	tags, err := git(t.Context(), dir, "tag")
	require.NoError(t, err)
	assert.Empty(t, tags, "it tags nothing by itself")
}

func TestReleaseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, version, want string
		prepare             func(dir string)
	}{
		{name: "no version", version: "0.1.0", want: `"0.1.0" is not a semantic version`},
		{name: "a major version of another path", version: "v2.0.0", want: "v2"},
		{name: "what is not committed", version: "v0.1.0", want: "?? new", prepare: func(dir string) { write(t, dir, "new", "") }},
		{name: "what is tagged", version: "v0.1.0", want: "v0.1.0 is not newer than v0.1.0", prepare: func(dir string) {
			gitIn(t, dir, "tag", "sub/adapter/v0.1.0")
		}},
		{name: "nothing new", version: "v0.1.0", want: "no entry under Unreleased", prepare: func(dir string) {
			replaceIn(t, dir, "CHANGELOG.md", "[Unreleased]", "[Unreleased]\n\n## [0.1.0] - 2026-01-01")
			commitAll(t, dir)
		}},
		{name: "a version that is named elsewhere", version: "v0.1.0", want: "w.go has 0 places", prepare: func(dir string) {
			replaceIn(t, dir, "w.go", "w (x", "v (x")
			commitAll(t, dir)
		}},
		{name: "what does not build without the workspace", version: "v0.1.0", want: "sub/adapter: go vet", prepare: func(dir string) {
			write(t, dir, "sub/adapter/adapter_test.go", "package adapter\n\nimport \"example.org/w\"\n\nvar _ = w.H\n")
			commitAll(t, dir)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := newRepository(t)
			if c.prepare != nil {
				c.prepare(dir)
			}
			require.ErrorContains(t, small.release(t.Context(), dir, c.version, day, &bytes.Buffer{}), c.want)
		})
	}
}

func TestVersions(t *testing.T) {
	for version, valid := range map[string]bool{
		"v0.1.0": true, "v1.2.3-rc.1": true, "": false, "0.1.0": false, "v0.1": false, "v0.1.0+meta": false, "v01.2.3": false,
		"v2.0.0": false, // of the path example.org/w/v2
	} {
		assert.Equal(t, valid, judgeVersion(version, []module{{"example.org/w", "."}}) == nil, version)
	}
	root, adapter := module{"example.org/w", "."}, module{"example.org/w/sub/adapter", "sub/adapter"}
	all := []tagged{{root, "v0.2.0"}, {adapter, "v0.10.0"}, {root, "v0.11.0-rc.1"}}
	require.NoError(t, judgeNewer("v0.1.0", nil))
	require.NoError(t, judgeNewer("v0.11.0", all))
	require.Error(t, judgeNewer("v0.11.0-rc.1", all))
	require.Error(t, judgeNewer("v0.10.1", all))
	assert.Equal(t, "v0.10.0", newest(all, isRelease))
	for version, next := range map[string]string{"": "v0.1.0", "v0.1.7": "v0.2.0", "v1.9.0-rc.1": "v1.10.0"} {
		got, err := nextMinor(version)
		require.NoError(t, err)
		assert.Equal(t, next, got)
	}
}

func TestVersionsAreThoseOfTheTags(t *testing.T) {
	t.Parallel()
	dir := newRepository(t)
	for _, tag := range []string{"v0.1.0", "sub/adapter/v0.2.0", "v0.3", "latest", "sub/v0.4.0", "tools/t/v0.5.0"} {
		gitIn(t, dir, "tag", tag)
	}
	modules, err := workspace(dir)
	require.NoError(t, err)
	published := small.published(modules)
	all, err := versions(t.Context(), dir, published)
	require.NoError(t, err)
	assert.ElementsMatch(t, []tagged{{published[0], "v0.1.0"}, {published[1], "v0.2.0"}}, all)
}

func TestChangelog(t *testing.T) {
	text := "# Changelog\n\n## [Unreleased]\n\n### Changed\n\n- A.\n\n" +
		"## [0.2.0] - 2026-01-02\n\n### Added\n\n- B.\n\n## [0.1.0] - 2026-01-01\n\n- C.\n"
	got, err := notes(text, "v0.1.0")
	require.NoError(t, err)
	assert.Equal(t, "\n### Changed\n\n- A.\n\n## [0.2.0] - 2026-01-02\n\n### Added\n\n- B.\n", got)
	_, err = notes(text, "v0.3.0")
	require.Error(t, err)
	_, err = notes("# Changelog\n", "")
	require.Error(t, err)

	for text, want := range map[string]bool{text: true, "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- [A].\n": false} {
		ever, everErr := everReleased(text)
		require.NoError(t, everErr)
		assert.Equal(t, want, ever)
	}
	has, err := waiting(text)
	require.NoError(t, err)
	assert.True(t, has)
	has, err = waiting(released(text, "v0.3.0", day))
	require.NoError(t, err)
	assert.False(t, has, "only the headings below have entries")
}

// What the program says of this repository must be true of it.
func TestProject(t *testing.T) {
	p, err := taskmanager()
	require.NoError(t, err)
	modules, err := workspace(repository)
	require.NoError(t, err)
	for _, directory := range p.unpublished {
		assert.DirExists(t, filepath.Join(repository, filepath.FromSlash(directory)))
	}
	published := p.published(modules)
	assert.Contains(t, published, module{"github.com/go-taskmanager/taskmanager/discord/discordbot", "discord/discordbot"})
	assert.NotContains(t, published, module{"github.com/go-taskmanager/taskmanager/dashboard/browsertest", "dashboard/browsertest"})
	assert.Less(t, len(published), len(modules))
	for _, m := range published {
		_, err = fs.Stat(p.users, path.Join(m.dir, "main.go"))
		require.NoError(t, err)
	}
	for name, place := range p.named {
		assert.Regexp(t, place, read(t, repository, name))
	}
	_, err = pinnedApidiff(repository)
	require.NoError(t, err)
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"v0.1.0", "v0.2.0"}, {"-rehearse", "v0.1.0"}} {
		require.ErrorContains(t, run(t.Context(), args, &bytes.Buffer{}), "usage: ")
	}
}
