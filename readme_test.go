package taskmanager_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The README's Go code is copied from the examples, which are compiled and checked. This test sees that it stays so.
func TestReadmeShowsExamples(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	files, err := filepath.Glob("lifecycles/*_test.go")
	require.NoError(t, err)
	var examples []byte
	for _, file := range append(files, "example_test.go", "discord/example_test.go", "discord/discordbot/example_test.go", "health/example_test.go") {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		examples = append(examples, text...)
	}
	// The examples' code is indented once or more, the README's is not.
	unindented := func(s string) string {
		lines := strings.Split(strings.TrimSpace(s), "\n")
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
		}
		return strings.Join(lines, "\n")
	}
	all := unindented(string(examples))
	blocks := strings.Split(string(readme), "```go\n")[1:]
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		code, _, closed := strings.Cut(block, "\n```")
		require.True(t, closed)
		assert.Contains(t, all, unindented(code), "not in the examples")
	}
}
