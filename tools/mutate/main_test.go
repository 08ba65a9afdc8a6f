package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// Those that are outside of functions, or in one that recovers, are built by themselves.
func TestMutantsThatAreBuiltByThemselves(t *testing.T) {
	mutants, err := mutantsOf("p.go", []byte(`package p

const limit = 3

func rescue(v *any) {
	if limit > 2 {
		*v = recover()
	}
}

func rescued() (v any) {
	defer func() { v = recover() }()
	panic(limit + 1)
}
`))
	require.NoError(t, err)
	byItself := make(map[int]bool)
	for _, m := range mutants {
		byItself[m.line] = m.function == nil
	}
	assert.Equal(t, map[int]bool{3: true, 6: true, 7: true, 12: false, 13: false}, byItself)
}

// What is written has a mutant of each kind: noticed, not noticed, without an end, not valid, outside of functions.
func everyKind(t *testing.T) (dir string, files map[string]string) {
	t.Helper()
	files = map[string]string{
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
	return write(t, files), files
}

const summary = `(?:^|\n)%d mutants in \d+s: %d killed, %d hung \(confirmed alone, of \d+ that seemed to\), 0 did not build, %d survived, %d known to be equivalent\n$`

func TestRun(t *testing.T) {
	t.Parallel()
	dir, files := everyKind(t)
	var out bytes.Buffer
	require.ErrorIs(t, run(t.Context(), []string{"-dir", dir, "-grace", "1s", "-files", "p.go", "-parallel", "2"}, &out), errSurvivors)
	assert.Contains(t, out.String(), "p.go:6: operator changed: survived\n-\tif a > b {\n+\tif a >= b {\n")
	assert.Regexp(t, fmt.Sprintf(summary, 10, 8, 1, 1, 0), out.String())
	assert.Regexp(t, "^1 changes are not valid Go, and are not tried\n", out.String())

	known := filepath.Join(t.TempDir(), "known.txt")
	require.NoError(t, os.WriteFile(known, []byte("# the same\n\np.go\n# of two that are equal\n- if a > b {\n+if a >= b {\n"), 0o600))
	out.Reset()
	require.NoError(t, run(t.Context(), []string{"-dir", dir, "-grace", "1s", "-known", known}, &out), "all of its files")
	assert.Regexp(t, fmt.Sprintf(summary, 10, 8, 1, 0, 1), out.String())

	out.Reset()
	require.ErrorIs(t, run(t.Context(), []string{"-dir", dir, "-grace", "1s", "-run", "Test", "-skip", "All", "-max", "2", "-seed", "7"}, &out), errSurvivors)
	assert.Regexp(t, fmt.Sprintf(summary, 2, 0, 0, 2, 0), out.String())

	out.Reset()
	require.ErrorIs(t, run(t.Context(), []string{"-dir", dir, "-grace", "1s", "-last", "All"}, &out), errSurvivors)
	assert.Regexp(t, fmt.Sprintf(summary, 10, 8, 1, 1, 0), out.String(), "those that come last count, too")

	for name, text := range files {
		now, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		assert.Equal(t, text, string(now), "%s is as it was", name)
	}
}

// What a package's own tests do not notice has survived, though those of another would.
func TestRunTriesEachPackageAgainstItsOwnTests(t *testing.T) {
	t.Parallel()
	const code = "package %s\n\nfunc Less(a, b int) bool { return a < b }\n"
	const test = "package %s\n\nimport \"testing\"\n\nfunc TestLess(t *testing.T) {\n\tif Less(1, 1) {\n\t\tt.Fatal()\n\t}\n}\n"
	dir := write(t, map[string]string{
		"p.go":                               "package p\n\nimport \"p/internal/untested\"\n\nfunc Less(a, b int) bool { return untested.Less(a, b) && a < b }\n",
		"p_test.go":                          fmt.Sprintf(test, "p"),
		"internal/tested/tested.go":          fmt.Sprintf(code, "tested"),
		"internal/tested/tested_test.go":     fmt.Sprintf(test, "tested"),
		"internal/untested/untested.go":      fmt.Sprintf(code, "untested"),
		"internal/untested/untested_test.go": "package untested\n\nimport \"testing\"\n\nfunc TestNothing(t *testing.T) {}\n",
	})
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-dir", dir, "-grace", "1s", "-files", "internal/tested"}, &out))
	assert.Regexp(t, fmt.Sprintf(summary, 1, 1, 0, 0, 0), out.String())

	out.Reset()
	require.ErrorIs(t, run(t.Context(), []string{"-dir", dir, "-grace", "1s", "-files", "internal/tested/tested.go,./internal/untested,internal/tested"}, &out), errSurvivors)
	assert.Contains(t, out.String(), "internal/untested/untested.go:3: operator changed: survived\n")
	assert.Regexp(t, fmt.Sprintf(summary, 2, 1, 0, 1, 0), out.String())

	known := filepath.Join(t.TempDir(), "known.txt")
	require.NoError(t, os.WriteFile(known, []byte("internal/untested/untested.go\n"+
		"-func Less(a, b int) bool { return a < b }\n+func Less(a, b int) bool { return a <= b }\n"), 0o600))
	require.NoError(t, run(t.Context(), []string{"-dir", dir, "-grace", "1s", "-files", "internal/untested", "-known", known}, io.Discard))
}

// prepared is a lab with one mutant of function F, whose body is replaced, and with these tests.
func prepared(t *testing.T, body, test string) *lab {
	t.Helper()
	const code = "package p\n\nimport \"time\"\n\nvar _ = time.Now\n\nfunc F() {}\n"
	dir := write(t, map[string]string{"p.go": code, "p_test.go": "package p\n\n" + test})
	l, err := newLab(dir, choice{multiple: 10, grace: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.close()) })
	at := strings.Index(code, "{}") + 1
	require.NoError(t, l.prepare(t.Context(), []mutant{{
		file: "p.go", source: []byte(code), from: at, to: at, with: body, what: "body changed", line: 7, function: &function{bodyFrom: at, bodyTo: at},
	}}, 1))
	return l
}

const callsF = "import \"testing\"\n\nfunc TestF(t *testing.T) { F() }\n"

func TestMutantThatDoesNotBuildIsAnError(t *testing.T) {
	t.Parallel()
	l := prepared(t, "undefined()", callsF)
	var out bytes.Buffer
	require.ErrorIs(t, try(t.Context(), l, 1, nil, &out), errNotTried)
	assert.Contains(t, out.String(), "p.go:7: body changed: does not build\n")
	assert.Contains(t, out.String(), ": 0 killed, 0 hung (confirmed alone, of 0 that seemed to), 1 did not build, 0 survived, ")

	l.mutants[0].function = nil // and likewise by itself
	clear(l.unbuilt)
	require.ErrorIs(t, try(t.Context(), l, 1, nil, io.Discard), errNotTried)
}

// The tests take 2 s with it, which is more than they are given while others run, and less than alone.
func TestMutantThatIsMerelySlowSurvives(t *testing.T) {
	t.Parallel()
	l := prepared(t, "time.Sleep(2 * time.Second)", callsF)
	first := l.parts(0)[0]
	l.measured[first] = measurement{took: time.Millisecond, at: time.Now()}
	v, suspect, err := l.try(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, suspected, v)
	require.Equal(t, suspicion{0, tests{".", "^TestF$", ""}}, suspect, "it is known which one it is")

	for _, some := range append(l.parts(0), suspect.tests) {
		l.measured[some] = measurement{took: time.Second, at: time.Now()}
	}
	v, err = l.judge(t.Context(), suspect)
	require.NoError(t, err)
	assert.Equal(t, survived, v)
}

// What is suspected is killed, if a test fails once there is time for it.
func TestMutantThatIsSuspectedMayBeKilled(t *testing.T) {
	t.Parallel()
	l := prepared(t, "panic(0)", callsF)
	v, err := l.judge(t.Context(), suspicion{0, tests{".", "^TestF$", ""}})
	require.NoError(t, err)
	assert.Equal(t, killed, v)

	l = prepared(t, "panic(0)", callsF+"func TestG(t *testing.T) {}\n")
	v, err = l.judge(t.Context(), suspicion{0, tests{".", "^TestG$", ""}})
	require.NoError(t, err)
	assert.Equal(t, killed, v, "the others are run as well")
}

// On a machine that has become slower since the tests were measured, the mutant gets more time: as often as is needed.
func TestMutantGetsMoreTimeOnASlowerMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := prepared(t, "", `import ("os"; "testing"; "time")

func TestF(t *testing.T) {
	_, err := os.Stat("`+filepath.ToSlash(dir)+`/slow")
	switch mutant := os.Getenv("MUTANT") != "0"; {
	case err != nil:
	case mutant:
		time.Sleep(2 * time.Second)
	default:
		time.Sleep(time.Second)
	}
}
`)
	first := tests{".", "^TestF$", ""}
	l.measured[first] = measurement{took: time.Millisecond, at: time.Now()} // it was fast
	require.NoError(t, os.WriteFile(filepath.Join(dir, "slow"), nil, 0o600))
	v, err := l.judge(t.Context(), suspicion{0, first})
	require.NoError(t, err)
	assert.Equal(t, survived, v)
	assert.GreaterOrEqual(t, l.limit(first), 10*time.Second)
}

// A measurement does not hold for long.
func TestMutantIsJudgedByAMeasurementOfTheSameMinute(t *testing.T) {
	t.Parallel()
	l := prepared(t, "", callsF)
	first := l.parts(0)[0]
	old := time.Now().Add(-2 * fresh)
	l.measured[first] = measurement{took: time.Hour, at: old}
	v, err := l.judge(t.Context(), suspicion{0, first})
	require.NoError(t, err)
	assert.Equal(t, survived, v)
	assert.Less(t, l.measured[first].took, time.Minute)
	assert.True(t, l.measured[first].at.After(old))
}

// Only the tests that reach a mutant's function are run against it, and first those that take little time.
func TestMutantIsTriedAgainstTheTestsThatReachIt(t *testing.T) {
	t.Parallel()
	others := t.TempDir()
	code := []byte("package p\n\nfunc F() int { return 7 }\n\nfunc G() int { return 8 }\n\nfunc H() int { return 9 }\n")
	note := func(name string) string {
		return "os.WriteFile(`" + others + "/" + name + "`+os.Getenv(\"MUTANT\"), nil, 0o600)"
	}
	dir := write(t, map[string]string{
		"p.go": string(code),
		"p_test.go": `package p

import (
	"os"
	"testing"
	"time"
)

func TestSlow(*testing.T) { time.Sleep(1200 * time.Millisecond); F(); ` + note("slow") + ` }

func TestF(t *testing.T) { if F() != 7 { t.Fatal() } }

func TestG(t *testing.T) { G(); ` + note("g") + ` }

func FuzzF(f *testing.F) { f.Fuzz(func(*testing.T, int) { F() }); F() }

func ExampleF() {
	F()
	// Output:
}

func BenchmarkF(b *testing.B) { F() }

func TestSkipped(*testing.T) { F() }

func TestLast(*testing.T) { F() }
`,
	})
	l, err := newLab(dir, choice{multiple: 10, grace: time.Second, skip: "Skipped", last: "Last"})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.close()) })
	mutants, err := mutantsOf("p.go", code)
	require.NoError(t, err)
	require.Len(t, mutants, 3)
	require.NoError(t, l.prepare(t.Context(), mutants, 2))
	last := tests{".", "Last", "Skipped"}
	f := l.parts(0)
	require.Len(t, f, 3)
	assert.ElementsMatch(t, []string{"TestF", "FuzzF", "ExampleF"}, strings.Split(strings.Trim(f[0].run, "^()$"), "|"))
	assert.Equal(t, []tests{{".", "^(TestSlow)$", ""}, last}, f[1:])
	assert.Equal(t, []tests{{".", "^(TestG)$", ""}, last}, l.parts(1))
	assert.Equal(t, []tests{last}, l.parts(2), "no test reaches it")

	for i, want := range []verdict{killed, survived, survived} {
		v, _, err := l.try(t.Context(), i)
		require.NoError(t, err)
		assert.Equal(t, want, v)
	}
	assert.FileExists(t, filepath.Join(others, "g2"))
	assert.NoFileExists(t, filepath.Join(others, "g1"))
	assert.NoFileExists(t, filepath.Join(others, "slow1"), "what is quick has noticed it before")
}

// A test that fails when it is looked at what it reaches, and not otherwise, is run against all mutants.
func TestMutantIsTriedAgainstTestsThatCannotBeLookedAt(t *testing.T) {
	t.Parallel()
	l := prepared(t, "", "import (\"os\"; \"testing\")\n\nfunc TestG(t *testing.T) { if os.Getenv(\"MUTANT\") == \"-1\" { t.Fatal() } }\n\nfunc TestH(*testing.T) {}\n")
	assert.Equal(t, []tests{{".", "^(TestG)$", ""}}, l.parts(0))
}

// What is to be run is the user's choice.
func TestMutantIsTriedAgainstTheChosenTests(t *testing.T) {
	t.Parallel()
	l := prepared(t, "", callsF+"\nfunc TestToo(t *testing.T) { F() }\n")
	l.run = "Too"
	require.NoError(t, l.findReaching(t.Context(), ".", 1))
	assert.Equal(t, []tests{{".", "^(TestToo)$", ""}}, l.parts(0))
}

// One test that does not end is found long before all of them should have ended.
func TestMutantThatHangsIsSuspectedByTheTimeOfTheTest(t *testing.T) {
	t.Parallel()
	l := prepared(t, "time.Sleep(time.Hour)", "import (\"testing\"; \"time\")\n\nfunc TestSlow(t *testing.T) {}\n\nfunc TestF(t *testing.T) { t.Run(\"F\", func(*testing.T) { F() }) }\n\nvar _ = time.Now\n")
	for _, part := range l.parts(0) {
		l.measured[part] = measurement{took: time.Hour, at: time.Now()}
	}
	began := time.Now()
	v, suspect, err := l.try(t.Context(), 0)
	require.NoError(t, err)
	assert.Equal(t, suspected, v)
	assert.Equal(t, suspicion{0, tests{".", "^TestF$", ""}}, suspect)
	assert.Less(t, time.Since(began), time.Minute)
}

func TestMutantThatHangsInWhatIsNoTest(t *testing.T) {
	t.Parallel()
	l := prepared(t, "select {}", "import (\"os\"; \"testing\"; \"time\")\n\nfunc TestNothing(t *testing.T) {}\n\n"+
		"func TestMain(m *testing.M) { go time.Sleep(time.Hour); F(); os.Exit(m.Run()) }\n")
	// It is ended from outside, 10 s after its time: at once, or as good as.
	r, err := l.test(t.Context(), together, 1, l.parts(0)[0], -9*time.Second, nil)
	require.NoError(t, err)
	assert.Equal(t, suspected, r.verdict)
	assert.Empty(t, r.hangs)
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	failing := write(t, map[string]string{
		"p.go":          "package p\n\nvar N = 1\n",
		"p_test.go":     "package p\n\nimport \"testing\"\n\nfunc TestFail(t *testing.T) { t.Fail() }\n",
		"q_none.go":     "//go:build none\n\npackage p\n\nvar M = 1\n",
		"empty.go":      "package p\n",
		"bad/p.go":      "pack",
		"untested/p.go": "package p\n\nvar N = 1\n",
	})
	unfit := write(t, map[string]string{"p.go": "package p\n\nfunc f() { if true { g() } }\n"})
	untestable := write(t, map[string]string{"p.go": "package p\n\nvar N = 1\n", "p_test.go": "package p\n\nvar M = O\n"})
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"unknown flag":                {[]string{"-unknown"}, "not defined"},
		"a small multiple":            {[]string{"-multiple", "1.5"}, "-multiple 1.5"},
		"no such file":                {[]string{"-dir", failing, "-files", "q.go"}, "q.go"},
		"no such package":             {[]string{"-dir", failing, "-files", "internal/window"}, "internal/window"},
		"a file of another module":    {[]string{"-dir", failing, "-files", "../p.go"}, `"../p.go" is not within`},
		"a file that is not built":    {[]string{"-dir", failing, "-files", "q_none.go"}, "q_none.go is not part"},
		"nothing to mutate":           {[]string{"-dir", failing, "-files", "empty.go"}, "nothing to mutate in empty.go"},
		"what is no Go":               {[]string{"-dir", failing, "-files", "bad"}, "expected 'package'"},
		"no file of known ones":       {[]string{"-known", "none"}, "none"},
		"tests that fail in any case": {[]string{"-dir", failing, "-files", "p.go"}, "fail without a mutant: TestFail\n"},
		"what does not build":         {[]string{"-dir", unfit}, "undefined: g"},
		"a package without tests":     {[]string{"-dir", failing, "-files", "untested"}, "the package in untested has no tests"},
		"tests that do not build":     {[]string{"-dir", untestable}, "the tests of . do not build"},
	} {
		require.ErrorContains(t, run(t.Context(), c.args, io.Discard), c.says, name)
	}
}

// More than a few invalid ones are an error: much of the code would not be tried.
func TestRunRefusesManyInvalidMutants(t *testing.T) {
	t.Parallel()
	joins := func(n int) string {
		return "var S = string('a')" + strings.Repeat(` + T`, n) + "\n\nvar T = string('b')\n"
	}
	numbers := "var N = 0" + strings.Repeat(" + 1", 30) + "\n" // 61 mutants
	dir := write(t, map[string]string{"few/p.go": "package p\n\n" + joins(5) + numbers, "many/p.go": "package p\n\n" + joins(15) + numbers})
	_, invalid, err := generate(t.Context(), dir, []string{"few/p.go"})
	require.NoError(t, err)
	require.Equal(t, 5, invalid)
	_, _, err = generate(t.Context(), dir, []string{"many/p.go"})
	require.ErrorContains(t, err, "15 of 76 changes are not valid Go")
}

func TestTryIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := &lab{dir: t.TempDir(), mutants: []mutant{{file: "p.go", function: &function{}}}}
	var out bytes.Buffer
	require.ErrorIs(t, try(ctx, l, 1, nil, &out), context.Canceled)
	assert.Contains(t, out.String(), "0 mutants in 0s: 0 killed, 0 hung ")
}
