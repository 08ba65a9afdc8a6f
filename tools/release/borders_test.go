package main

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBorders(t *testing.T) {
	t.Parallel()
	const importing = "package p\n\nimport _ %q\n"
	for _, c := range []struct {
		file, imports string
		refused       bool
	}{
		{"sub/adapter/a.go", "example.org/w/internal/i", true},
		{"sub/adapter/a_test.go", "example.org/w/discord/internal/i", true},
		{"sub/adapter/a_plan9.go", "example.org/w/internal", true},
		{"sub/adapter/deep/a.go", "example.org/w/internal/i", true},
		{"sub/adapter/a.go", "example.org/w/sub/adapter/internal/i", false}, // its own
		{"sub/adapter/a.go", "example.org/w/internally", false},
		{"sub/adapter/a.go", "internal/abi", false},                    // not of the workspace: the compiler's affair
		{"sub/adapter/testdata/a.go", "example.org/w/internal", false}, // nothing that is compiled
		{"a.go", "example.org/w/internal/i", false},
		{"a.go", "example.org/w/sub/adapter/internal/i", true},
		{"tools/t/a.go", "example.org/w/internal/i", false}, // not published
	} {
		dir := newRepository(t)
		write(t, dir, c.file, fmt.Sprintf(importing, c.imports))
		modules, err := workspace(dir)
		require.NoError(t, err)
		err = judgeBorders(dir, small.published(modules), modules)
		if c.refused {
			require.EqualError(t, err, c.file+" imports "+c.imports+", which is internal to another module")
		} else {
			require.NoError(t, err, "%+v", c)
		}
	}
}

// What modules share across their border is stable API, or not shared.
func TestBordersOfThisRepository(t *testing.T) {
	p, err := taskmanager()
	require.NoError(t, err)
	modules, err := workspace(repository)
	require.NoError(t, err)
	require.NoError(t, judgeBorders(repository, p.published(modules), modules))
}

func TestBordersAreJudgedBeforeARelease(t *testing.T) {
	t.Parallel()
	dir := newRepository(t)
	write(t, dir, "internal/i/i.go", "package i\n")
	write(t, dir, "sub/adapter/a_test.go", "package adapter\n\nimport _ \"example.org/w/internal/i\"\n")
	commitAll(t, dir)
	require.ErrorContains(t, small.release(t.Context(), dir, "v0.1.0", day, &bytes.Buffer{}), "internal to another module")
}
