package taskmanager_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each example can be copied out of the repository, as the beginning of a service: it builds in a module of its own, with its tests.
func TestExamplesCanBeCopied(t *testing.T) {
	root, err := filepath.Abs(".")
	require.NoError(t, err)
	dirs, err := filepath.Glob("examples/*")
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	for _, dir := range append(dirs, "lifecycles") {
		t.Run(dir, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), filepath.Base(dir))
			require.NoError(t, os.CopyFS(copied, os.DirFS(dir)))
			name := "example.org/" + filepath.Base(dir)
			commands := []string{"go mod edit -module=" + name}
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
				commands = []string{"go mod init " + name}
			}
			for _, module := range []string{"", "/discord/discordbot"} {
				commands = append(commands, "go mod edit -replace=github.com/go-taskmanager/taskmanager"+module+"="+root+module)
			}
			goCommands(t, copied, strings.Join(append(commands, "go mod tidy", "go vet ./..."), "\n"))
		})
	}
}
