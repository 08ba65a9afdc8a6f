package taskmanager_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The Go code of the README and of the pages in docs is copied from the examples, which are compiled and checked. This test sees that it stays so.
func TestReadmeShowsExamples(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	files, err := filepath.Glob("lifecycles/*_test.go")
	require.NoError(t, err)
	var examples []byte
	for _, file := range append(files, "example_test.go", "discord/example_test.go", "discord/discordbot/example_test.go", "health/example_test.go") {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		examples = append(examples, text...)
	}
	// The examples' code is indented once or more, that of the pages is not.
	unindented := func(s string) string {
		lines := strings.Split(strings.TrimSpace(s), "\n")
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
		}
		return strings.Join(lines, "\n")
	}
	all := unindented(string(examples))
	found := 0
	for _, page := range append(pages, "README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, block := range strings.Split(string(text), "```go\n")[1:] {
			code, _, closed := strings.Cut(block, "\n```")
			require.True(t, closed)
			assert.Contains(t, all, unindented(code), "%s: not in the examples", page)
			found++
		}
	}
	require.NotZero(t, found)
}
