package taskmanager_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each example can be copied out of the repository, as the beginning of a service: it builds in a module of its own, with its tests. One
// that has a go.mod keeps what that requires, for go mod tidy would need modules that no test of the workspace has brought here.
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
			_, err := os.Stat(filepath.Join(dir, "go.mod"))
			isModule := err == nil
			commands := []string{"go mod init " + name}
			if isModule {
				commands[0] = "go mod edit -module=" + name
			}
			for _, module := range []string{"", "/discord/discordbot", "/lease", "/lease/kubelease", "/lease/natslease", "/lease/pglease"} {
				commands = append(commands, "go mod edit -replace=github.com/go-taskmanager/taskmanager"+module+"="+root+module)
			}
			if !isModule {
				commands = append(commands, "go mod tidy")
			}
			goCommands(t, copied, strings.Join(append(commands, "go vet ./..."), "\n"))
		})
	}
}
