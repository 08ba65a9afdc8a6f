package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const source = `package p

func f(a, b int, c bool) (n int) {
	if a < b && !c {
		n = 41
		g()
	}
	if c {
		defer g()
	}
	for a == b {
		break
	}
	m := true
	_ = m
	switch {
	case c:
		n++
	}
	return a + n
}
`

func TestMutants(t *testing.T) {
	mutants, err := mutantsOf("p.go", []byte(source))
	require.NoError(t, err)
	var got []string
	for _, m := range mutants {
		got = append(got, fmt.Sprintf("%d %s: %q", m.line, m.what, m.diff()))
	}
	assert.Equal(t, []string{
		`4 condition negated: "-\tif a < b && !c {\n+\tif !(a < b && !c) {\n"`,
		`4 operator changed: "-\tif a < b && !c {\n+\tif a <= b && !c {\n"`,
		`4 operator changed: "-\tif a < b && !c {\n+\tif a < b || !c {\n"`,
		`4 negation removed: "-\tif a < b && !c {\n+\tif a < b && c {\n"`,
		`5 statement removed: "-\t\tn = 41\n+\t\t\n"`,
		`5 constant changed: "-\t\tn = 41\n+\t\tn = 42\n"`,
		`6 statement removed: "-\t\tg()\n+\t\t\n"`,
		`8 condition negated: "-\tif c {\n+\tif !(c) {\n"`,
		`9 statement removed: "-\t\tdefer g()\n+\t\t\n"`,
		`11 operator changed: "-\tfor a == b {\n+\tfor a != b {\n"`,
		`12 statement removed: "-\t\tbreak\n+\t\t\n"`,
		`14 constant changed: "-\tm := true\n+\tm := false\n"`,
		`15 statement removed: "-\t_ = m\n+\t\n"`,
		`18 statement removed: "-\t\tn++\n+\t\t\n"`,
		`20 operator changed: "-\treturn a + n\n+\treturn a - n\n"`,
	}, got)
}

func TestMutantsOfWhatIsNoGo(t *testing.T) {
	_, err := mutantsOf("p.go", []byte("pack"))
	require.Error(t, err)
}

// write makes a module of these files.
func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	files["go.mod"] = "module p\n\ngo 1.25\n"
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// Of each kind of mutants one: noticed, not noticed, without an end, without a build, outside of functions.
func TestRun(t *testing.T) {
	files := map[string]string{
		"p.go": `package p

const limit = 3

func Bigger(a, b int) int {
	if a > b {
		return a
	}
	return b
}

func Count(n int) (sum int) {
	for i := 1; i <= n; {
		i++
		sum++
	}
	return
}

func Join(a string) string { return a + "x" }

func Full(n int) bool { return limit == n }

func Fill(to *int) {
	*to = 7
}
`,
		"p_test.go": `package p

import "testing"

func TestAll(t *testing.T) {
	var n int
	Fill(&n)
	if Bigger(1, 2) != 2 || Bigger(2, 1) != 2 || Count(3) != 3 || Join("a") != "ax" || !Full(3) || n != 7 {
		t.Fatal("wrong")
	}
}

func TestNothing(t *testing.T) {}
`,
	}
	dir := write(t, files)
	var out bytes.Buffer
	require.ErrorIs(t, run(t.Context(), []string{"-dir", dir, "-files", "p.go", "-timeout", "2s", "-parallel", "2"}, &out), errSurvivors)
	assert.Contains(t, out.String(), "p.go:6: operator changed\n-\tif a > b {\n+\tif a >= b {\n")
	assert.Regexp(t, `\n\n11 mutants in \d+s: 8 failed the tests, 1 hung, 1 did not build, 1 survived, 0 of them known\n$`, out.String())

	known := filepath.Join(t.TempDir(), "known.txt")
	require.NoError(t, os.WriteFile(known, []byte("# the same\n\np.go\n# of two that are equal\n- if a > b {\n+if a >= b {\n"), 0o600))
	out.Reset()
	require.NoError(t, run(t.Context(), []string{"-dir", dir, "-timeout", "2s", "-known", known}, &out), "all of its files")
	assert.Regexp(t, `^11 mutants in \d+s: .* 1 survived, 1 of them known\n$`, out.String())

	out.Reset()
	require.ErrorIs(t, run(t.Context(), []string{"-dir", dir, "-run", "Test", "-skip", "All", "-max", "2", "-seed", "7"}, &out), errSurvivors)
	assert.Regexp(t, `\n2 mutants in \d+s: 0 failed the tests, 0 hung, \d did not build, \d survived, 0 of them known\n$`, out.String())

	out.Reset()
	require.ErrorIs(t, run(t.Context(), []string{"-dir", dir, "-timeout", "2s", "-last", "All"}, &out), errSurvivors)
	assert.Regexp(t, `\n11 mutants in \d+s: 8 failed the tests, 1 hung, 1 did not build, 1 survived, 0 of them known\n$`, out.String(),
		"those that come last count, too")

	for name, text := range files {
		now, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, text, string(now), "%s is as it was", name)
	}
}

func TestRunRefuses(t *testing.T) {
	failing := write(t, map[string]string{"p.go": "package p\n", "p_test.go": "package p\n\nimport \"testing\"\n\nfunc TestFail(t *testing.T) { t.Fail() }\n"})
	unfit := write(t, map[string]string{"p.go": "package p\n\nfunc f() { if true { g() } }\n"})
	for name, args := range map[string][]string{
		"unknown flag":                {"-unknown"},
		"no such file":                {"-dir", failing, "-files", "q.go"},
		"no file of known ones":       {"-known", "none"},
		"tests that fail in any case": {"-dir", failing},
		"what does not build":         {"-dir", unfit},
	} {
		require.Error(t, run(t.Context(), args, io.Discard), name)
	}
}

func TestTryIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := &lab{choice: choice{timeout: time.Second}, dir: t.TempDir(), mutants: []mutant{{file: "p.go", function: &function{}}}}
	var out bytes.Buffer
	require.ErrorIs(t, try(ctx, l, 1, nil, &out), context.Canceled)
	assert.Equal(t, "0 mutants in 0s: 0 failed the tests, 0 hung, 0 did not build, 0 survived, 0 of them known\n", out.String())
}
