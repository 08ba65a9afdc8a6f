package goroutines

import (
	"bytes"
	"context"
	"maps"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// writtenLabels returns labels as package pprof writes them.
func writtenLabels(labels map[string]string) string {
	var written []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		written = append(written, strconv.Quote(key)+":"+strconv.Quote(labels[key]))
	}
	return "{" + strings.Join(written, ", ") + "}"
}

// What the fuzz test below takes for labels is what package pprof writes, of any text.
func TestLabelsAsPprofWritesThem(t *testing.T) {
	labels := map[string]string{
		"task": `a", "b":"c`, "": "empty", `\`: "\x00\n\u202e\xff", "世": "`'", "zz": "",
	}
	var profile bytes.Buffer
	pprof.Do(context.Background(), pprof.Labels(flat(labels)...), func(context.Context) {
		require.NoError(t, pprof.Lookup("goroutine").WriteTo(&profile, 1))
	})
	assert.Contains(t, profile.String(), "\n# labels: "+writtenLabels(labels)+"\n")
}

func flat(labels map[string]string) (args []string) {
	for key, value := range labels {
		args = append(args, key, value)
	}
	return args
}

// Labels that package pprof has written come back exactly. Of any other text, labelIn says what slowLabels says.
func FuzzLabelIn(f *testing.F) {
	f.Add("task", "a", "taskmanager", "2", "zz", "", `{"task":"a"}`)
	f.Add("a", `b", "task":"c`, `"task":"b"`, "c", "task", "\x00\xff\\", `{"a":"b", "task":"c"}`)
	f.Add("", "", "}", "{", ", ", ":", `{"task"`)
	f.Add("task", "a", "task", "b", "taskm", "c", `{"task":"\q"}`)
	f.Add("\n", "`", "'", "世", "\u202e", "\r", "")
	f.Add("b", "1", "a", "2", "c", "3", "{`b`:'a'")
	f.Add("a", "1", "b", "2", "c", "3", `"a""1""b":"2", "b":"3"x`)
	f.Add("a", "1", "b", "2", "c", "3", `{"a":"b`)
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2, k3, v3, text string) {
		for _, s := range []*string{&k1, &v1, &k2, &v2, &k3, &v3, &text} {
			*s = (*s)[:min(len(*s), 100)] // slowLabels takes the square of the time
		}
		labels := map[string]string{k1: v1, k2: v2, k3: v3}
		written := writtenLabels(labels)
		asked := []string{k1, k2, k3, v1, v2, v3, k1 + k2, "", "task"}
		for _, key := range asked {
			want, exists := labels[key]
			got, ok := labelIn(written, key)
			assert.Equal(t, exists, ok, "%q in %s", key, written)
			assert.Equal(t, want, got, "%q in %s", key, written)
		}
		// What is cut off or damaged is still like labels, as fuzzed text hardly ever is.
		for _, text := range []string{text, written[:len(written)/2] + text, written[1:], text + written} {
			pairs := slowLabels(text)
			for _, pair := range pairs {
				asked = append(asked, pair[0], pair[1])
			}
			for _, key := range asked {
				i := slices.IndexFunc(pairs, func(pair [2]string) bool { return pair[0] == key })
				got, ok := labelIn(text, key)
				assert.Equal(t, i >= 0, ok, "%q in %q", key, text)
				if i >= 0 {
					assert.Equal(t, pairs[i][1], got, "%q in %q", key, text)
				} else {
					assert.Empty(t, got, "%q in %q", key, text)
				}
			}
		}
	})
}

// slowLabels returns the labels at the beginning of text up to what is none. Marks between them may be missing, and what is quoted may be
// so in any form of Go: it is the shortest text that can be unquoted.
func slowLabels(text string) (pairs [][2]string) {
	quoted := func() (string, bool) {
		for n := 1; n <= len(text); n++ {
			if text[n-1] != text[0] {
				continue // the last of a quoted text is as the first
			}
			if s, err := strconv.Unquote(text[:n]); err == nil {
				text = text[n:]
				return s, true
			}
		}
		return "", false
	}
	mark := func(m string) { text = strings.TrimPrefix(text, m) }
	mark("{")
	for {
		key, isKey := quoted()
		mark(":")
		value, isValue := quoted()
		mark(", ")
		if !isKey || !isValue {
			return pairs
		}
		pairs = append(pairs, [2]string{key, value})
	}
}
