package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What README.md says from the first release on.
var latest = block("<!-- ci:install -->\n", "go get example.org/w@latest")

func TestRehearsal(t *testing.T) {
	t.Parallel()
	dir := newRepository(t)
	replaceIn(t, dir, "CHANGELOG.md", "### Added\n\n- All of it.\n", "## [0.1.0] - 2026-01-01\n") // as in the commit of a release
	write(t, dir, "README.md", latest)
	var out bytes.Buffer
	require.NoError(t, small.rehearse(t.Context(), dir, &out))
	for _, want := range []string{
		"$ go get example.org/w@v0.1.0\na program that uses example.org/w builds\n",
		"$ go get example.org/w/sub/adapter@v0.1.0\na program that uses example.org/w/sub/adapter builds\n",
		"$ go get example.org/w@v0.2.0 example.org/w/sub/adapter@v0.1.0\na program that uses example.org/w/sub/adapter builds\n",
		"$ go mod init example.org/user\n$ go get example.org/w@latest\na program that uses example.org/w builds\n",
		"$ go get example.org/w/sub/adapter\na program that uses example.org/w/sub/adapter builds\n",
	} {
		assert.Contains(t, out.String(), want)
	}
	status, err := git(t.Context(), dir, "status", "--porcelain")
	require.NoError(t, err)
	assert.Equal(t, " M CHANGELOG.md\n M README.md\n", status, "it changes nothing here")
	tags, err := git(t.Context(), dir, "tag")
	require.NoError(t, err)
	assert.Empty(t, tags)
}

// The root breaks the adapter that is tagged. The one that is not tagged yet has been changed along with it, and builds.
func TestRehearsalFindsAnOldAdapterThatIsBroken(t *testing.T) {
	t.Parallel()
	dir := newTagged(t)
	replaceIn(t, dir, "w.go", "func F()", "func F(int)")
	replaceIn(t, dir, "sub/adapter/adapter.go", "w.F()", "w.F(1)")

	var out bytes.Buffer
	err := small.rehearse(t.Context(), dir, &out)
	require.ErrorContains(t, err, "a user of the newest root with the oldest example.org/w/sub/adapter that it supports: ")
	assert.Contains(t, out.String(), "breaks: F: changed from func() to func(int)\n")
	assert.Contains(t, out.String(), "$ go get example.org/w@v0.3.0 example.org/w/sub/adapter@v0.1.0\n")
}

func TestRehearsalSupportsAdaptersFromTheOldestOn(t *testing.T) {
	m := module{"example.org/w/sub/adapter", "sub/adapter"}
	r := rehearsal{project: small, next: "v0.5.0"}
	assert.Equal(t, "v0.5.0", r.oldestOf(m, nil))
	all := []tagged{{module{"example.org/w", "."}, "v0.1.0"}, {m, "v0.4.0"}, {m, "v0.3.0"}, {m, "v0.2.0-rc.1"}}
	assert.Equal(t, "v0.3.0", r.oldestOf(m, all))
	r.oldest = "v0.4.0"
	assert.Equal(t, "v0.4.0", r.oldestOf(m, all))
	r.oldest = "v0.5.0" // raised to the one that breaks the older ones
	assert.Equal(t, "v0.5.0", r.oldestOf(m, all))
}

func TestRehearsalIsOfWhatIsPublished(t *testing.T) {
	t.Parallel()
	dir := newRepository(t)
	replaceIn(t, dir, "sub/adapter/adapter.go", `import "example.org/w"`, "import (\n\t\"example.org/w\"\n\t\"example.org/w/tools/t/pkg\"\n)")
	replaceIn(t, dir, "sub/adapter/adapter.go", "w.F()", "w.F(); pkg.P()")
	replaceIn(t, dir, "sub/adapter/go.mod", "replace ", "require example.org/w/tools/t v0.0.0\n\nreplace example.org/w/tools/t => ../../tools/t\n\nreplace ")
	write(t, dir, "tools/t/pkg/pkg.go", "package pkg\n\nfunc P() {}\n")
	write(t, dir, "tools/t/go.mod", "module example.org/w/tools/t\n\ngo 1.25.0\n")
	write(t, dir, "tools/t/t.go", "package main\n\nfunc main() {}\n")
	replaceIn(t, dir, "docs/a.md", "go get", "go mod edit -replace=example.org/w/tools/t=../w/tools/t\ngo get")
	err := small.rehearse(t.Context(), dir, &bytes.Buffer{})
	require.ErrorContains(t, err, "a user of example.org/w/sub/adapter alone, without replace: ", "beside the tree it builds")
}

func TestDocumentedCommands(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"x\n<!-- m -->\n```sh\na\nb\n```\n```sh\nc\n```\n": "a\nb",
		"<!-- m -->\n\n```sh\na\n```\n":                    "a",
		"<!-- m -->\nx\n```sh\na\n```\n":                   "", // the block of something else
		"<!-- m -->\n```\na\n```\n":                        "",
		"<!-- m -->\n```sh\na\n":                           "",
		"x <!-- m -->\n```sh\na\n```\n":                    "",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "README.md"), []byte(text), 0o600))
		got, err := documented(dir, "<!-- m -->")
		assert.Equal(t, want, got)
		assert.Equal(t, want == "", err != nil, text)
	}
}

// Before the first release, what is documented must work without one.
func TestRehearsalInstallsNothingThatIsNotReleased(t *testing.T) {
	t.Parallel()
	dir := newRepository(t)
	write(t, dir, "README.md", latest)
	err := small.rehearse(t.Context(), dir, &bytes.Buffer{})
	require.ErrorContains(t, err, "who installs example.org/w as documented: ")
}
