package goroutines

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const profile = `goroutine profile: total 7
1 @ 0x1 0x2
# labels: {"task":"a", "taskmanager":"2"}
#	0x1	main.ofA+0x1	/a.go:1

3 @ 0x1 0x2
# labels: {"more":"b", "task":"a", "taskmanager":"2"}
#	0x1	main.childrenOfA+0x1	/a.go:2

1 @ 0x3
# labels: {"task":"a", "taskmanager":"3"}
#	0x1	main.ofAnotherManager+0x1	/a.go:3

1 @ 0x3
# labels: {"task":"a"}
#	0x1	main.ofTheFirstManager+0x1	/a.go:3

1 @ 0x3
# labels: {"task":"b", "taskmanager":"2"}
#	0x1	main.ofAnotherTask+0x1	/a.go:3

1 @ 0x3
#	0x1	main.ofNoTask+0x1	/a.go:3

1 @ 0x4
# labels: {"a\"task":"a", "taskmanager":"2", "zz":"\"task\":\"a\""}
#	0x1	main.oddLabels+0x1	/a.go:4

1 @ 0x4
# labels: {"task":"\"a\" \\ \x00", "taskmanager":"2"}
#	0x1	main.oddName+0x1	/a.go:4

1 @ 0x4
# labels: {"task":
#	0x1	main.cutOff+0x1	/a.go:4

1 @ 0x4
# labels: {"task":"a", "taskmanager":"2"}
#	0x1	main.last+0x1	/a.go:5`

// However the profile comes in pieces, the paragraphs of the wanted tasks come out, each whole and once.
func TestFilter(t *testing.T) {
	a, odd, ofAnotherManager := Task{"2", "a"}, Task{"2", "\"a\" \\ \x00"}, Task{"3", "a"}
	for size := 1; size <= len(profile); size++ {
		f := newFilter([]Task{a, odd, ofAnotherManager, {"2", "nobody"}, {"3", "b"}, {"4", "a"}})
		for rest := []byte(profile + "\n"); len(rest) > 0; {
			piece := rest[:min(size, len(rest))]
			n, err := f.Write(piece)
			require.NoError(t, err)
			require.Equal(t, len(piece), n)
			rest = rest[len(piece):]
		}
		found := f.stacks()
		paragraphs := strings.Split(profile, "\n\n")
		_, first, _ := strings.Cut(paragraphs[0], "\n")
		require.Len(t, found, 3)
		want := first + "\n" + paragraphs[1] + "\n" + paragraphs[len(paragraphs)-1] + "\n"
		require.Equal(t, want, string(found[a]), "in pieces of %d", size)
		require.Equal(t, paragraphs[7]+"\n", string(found[odd]))
		require.Equal(t, paragraphs[2]+"\n", string(found[ofAnotherManager]))
	}
}

// The first manager of a process does without the label that tells its tasks from those of others.
func TestFilterOfTheFirstManager(t *testing.T) {
	a := Task{"1", "a"}
	f := newFilter([]Task{a})
	_, err := io.WriteString(f, profile)
	require.NoError(t, err)
	found := f.stacks()
	require.Len(t, found, 1)
	assert.Contains(t, string(found[a]), "ofTheFirstManager")
	assert.Equal(t, 1, strings.Count(string(found[a]), "# labels:"))
}

// The empty name is that of no task, and must not be found where there are no labels.
func TestFilterOfTheEmptyName(t *testing.T) {
	for _, manager := range []string{"1", "2"} {
		f := newFilter([]Task{{manager, ""}})
		_, err := io.WriteString(f, profile+"\n")
		require.NoError(t, err)
		require.Empty(t, f.stacks())
	}
}

func TestLabelIn(t *testing.T) {
	for labels, want := range map[string]string{
		`{"task":"a"}`:                          "a",
		`{"a":"b", "task":"c", "x":"y"}`:        "c",
		`{"task":"\"task\":\"b\""}`:             `"task":"b"`,
		`{"a\"task":"b", "task":"c"}`:           "c",
		`{"a\", \"task":"b", "zz":"\"task\":"}`: "",
		`{"subtask":"b"}`:                       "",
		`{}`:                                    "",
		`{"task"}`:                              "",
		`{"task":}`:                             "",
		`{"task":"cut off`:                      "",
		`{"task":"\q"}`:                         "",
		``:                                      "",
		`"`:                                     "",
	} {
		got, ok := labelIn(labels, "task")
		assert.Equal(t, want, got, labels)
		assert.Equal(t, want != "", ok, labels)
	}
}
