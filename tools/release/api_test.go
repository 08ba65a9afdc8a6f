package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAPIJudgement(t *testing.T) {
	broken, added := changes{breaks: []string{"F: removed"}}, changes{compatible: []string{"F: added"}}
	const how, silent = "\n### Changed\n\n- F is gone: use G.\n", "\n### Added\n\n- G.\n\n### Changed\n\n### Fixed\n\n- H.\n"
	for _, c := range []struct {
		previous, next string
		changes
		notes string
		want  string // of the error; "" for none
	}{
		{"v0.1.0", "v0.1.1", changes{}, silent, ""},
		{"v0.1.0", "v0.1.1", added, how, "can't be a patch"},
		{"v0.1.0", "v0.1.1", broken, how, "can't be a patch"},
		{"v0.1.0", "v0.1.1-rc.1", broken, how, "can't be a patch"},
		{"v0.1.0", "v0.2.0", added, silent, ""},
		{"v0.1.0", "v0.2.0", broken, silent, "must say how to adapt"},
		{"v0.1.0", "v0.2.0", broken, how, ""},
		{"v0.1.0", "v0.2.0-rc.1", broken, silent, "must say how to adapt"},
		{"v0.9.0", "v1.0.0", broken, silent, ""},
		{"v1.0.0", "v1.1.0", added, silent, ""},
		{"v1.0.0", "v1.1.0", broken, how, "must be a new major version"},
	} {
		err := judge(c.previous, c.next, c.changes, c.notes)
		if c.want == "" {
			require.NoError(t, err, "%+v", c)
		} else {
			require.ErrorContains(t, err, c.want, "%+v", c)
		}
	}
}

func TestAPIReport(t *testing.T) {
	m := module{"example.org/w", "."}
	got, err := parse("Incompatible changes:\n- ./examples/e.X: removed\n- ./q.F: removed\n- package example.org/w/examples/e: removed\n"+
		"- ./q/in/e.X: removed\n- ./q/inner.F: removed\n- A: removed\nCompatible changes:\n- package example.org/w/r: added\n", m, []string{"examples", "q/in"})
	require.NoError(t, err)
	assert.Equal(t, changes{[]string{"./q.F: removed", "./q/inner.F: removed", "A: removed"}, []string{"package example.org/w/r: added"}}, got)
	for _, strange := range []string{"- F: removed\n", "Worse changes:\n- F: removed\n", "Incompatible changes:\nF: removed\n"} {
		_, err := parse(strange, m, nil)
		require.Error(t, err, strange)
	}
}

// apidiff itself, on two versions of a repository. It ends well whatever it finds.
func TestAPIBreakIsRefused(t *testing.T) {
	t.Parallel()
	dir := newTagged(t)
	replaceIn(t, dir, "w.go", "func G() string", "func G(int) string")
	replaceIn(t, dir, "examples/e/e.go", "Exported", "Renamed")
	commitAll(t, dir)

	var out bytes.Buffer
	err := small.release(t.Context(), dir, "v0.1.1", day, &out)
	require.ErrorContains(t, err, "example.org/w: the API has changed since v0.1.0: v0.1.1 can't be a patch")
	assert.NotContains(t, err.Error(), "adapter")
	assert.Equal(t, "API of example.org/w: since v0.1.0\n  breaks: G: changed from func() string to func(int) string\n"+
		"API of example.org/w/sub/adapter: as in v0.1.0\n", out.String())
	status, err := git(t.Context(), dir, "status", "--porcelain")
	require.NoError(t, err)
	assert.Empty(t, status, "what is refused changes nothing")
}
