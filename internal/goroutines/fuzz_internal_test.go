package goroutines

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Labels of any kind, as package pprof writes them: the filter finds the task in them, however the profile comes in pieces.
func FuzzStackFilter(f *testing.F) {
	f.Add("a", "another", "b", 1)
	f.Add("a", "subtask", "b", 2)
	f.Add(`"`, "taskm", `"task":"b"`, 7)
	f.Add("{\n}\\", "task\nmanager", "\xff\x00", 100)
	f.Add(`a", "taskmanager":"9`, `x":"y", "task`, "", 3)
	f.Fuzz(func(t *testing.T, name, key, value string, size int) {
		labels := func(name, manager string) string {
			all := map[string]string{key: value}
			all[TaskLabel], all[ManagerLabel] = name, manager
			var written []string
			for _, k := range slices.Sorted(maps.Keys(all)) {
				written = append(written, fmt.Sprintf("%q:%q", k, all[k]))
			}
			return "{" + strings.Join(written, ", ") + "}"
		}
		paragraph := func(labels string) string { return "1 @ 0x1\n# labels: " + labels + "\n#\t0x1\tmain.f+0x1\t/a.go:1\n" }
		wanted := paragraph(labels(name, "2"))
		profile := "goroutine profile: total 3\n" + paragraph(labels(name, "3")) + "\n" + wanted + "\n" + paragraph(labels(name+"x", "2"))

		s := newFilter([]Task{{"2", name}})
		for rest := []byte(profile); len(rest) > 0; {
			piece := rest[:min(max(1, size), len(rest))]
			n, err := s.Write(piece)
			require.NoError(t, err)
			require.Equal(t, len(piece), n)
			rest = rest[len(piece):]
		}
		assert.Equal(t, map[Task][]byte{{"2", name}: []byte(wanted)}, s.stacks())
	})
}
