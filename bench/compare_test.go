package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

func TestCompareBuildsBothVersionsAndTakesTurns(t *testing.T) {
	childrenEndAtOnce(t)
	var stdout, stderr bytes.Buffer
	require.NoError(t, program(t.Context(), []string{"-compare", "..", "-quick", "-rounds", "3", "-only", "parked/1/taskmanager"}, &stdout, &stderr))
	assert.Equal(t, "building the old version\nbuilding the new version\n"+
		"round 1 of 3: parked/1/taskmanager, old\nround 1 of 3: parked/1/taskmanager, new\nround 1 of 3: parked/1/taskmanager, old again\n"+
		"round 2 of 3: parked/1/taskmanager, new\nround 2 of 3: parked/1/taskmanager, old again\nround 2 of 3: parked/1/taskmanager, old\n"+
		"round 3 of 3: parked/1/taskmanager, old again\nround 3 of 3: parked/1/taskmanager, old\nround 3 of 3: parked/1/taskmanager, new\n",
		stderr.String())
	const ratio = `\d\S*× \(\d\S* to \d\S*\)`
	assert.Regexp(t, `\n\| parked/1 \| start \| \d\S* .s \| \d\S* .s \| `+ratio+` \| `+ratio+` \| `, stdout.String())
}

// The program is built against the module that it was told to be: one without a Manager is noticed.
func TestCompareBuildsAgainstThatModule(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+rootModule+"\n\ngo 1.25.0\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty.go"), []byte("package taskmanager\n"), 0o644))
	err := program(t.Context(), []string{"-compare", dir, "-quick"}, io.Discard, io.Discard)
	require.ErrorContains(t, err, "the old version: go build: ")
	assert.ErrorContains(t, err, "undefined: taskmanager.Manager")
}

func TestCompareRefusesWhatIsNotTheModule(t *testing.T) {
	err := program(t.Context(), []string{"-compare", ".", "-quick"}, io.Discard, io.Discard)
	assert.ErrorContains(t, err, "bench is not the module "+rootModule)
	err = program(t.Context(), []string{"-compare", t.TempDir(), "-quick"}, io.Discard, io.Discard)
	assert.ErrorIs(t, err, os.ErrNotExist)
	err = program(t.Context(), []string{"-compare", "..", "-quick", "-only", "nothing"}, io.Discard, io.Discard)
	assert.ErrorIs(t, err, errNothingMatches)
}

func TestCompareMeasuresOursUnlessAskedForOthers(t *testing.T) {
	for only, want := range map[string]int{"": len(works(true)), "^down/error/": 3} {
		selection, err := report.Select(only, "")
		require.NoError(t, err)
		c := newVersionResults(settings{quick: true, Selection: selection})
		assert.Len(t, c.rows, want, only)
	}
}

func TestCompareSaysWhatIsWorse(t *testing.T) {
	less, more := measure{unit: nanoseconds}, measure{unit: perSecond, more: true}
	objects := measure{unit: count}
	for name, test := range map[string]struct {
		measure       measure
		old, new      []float64
		worse, always bool
	}{
		"within the tolerance":      {less, []float64{100, 100, 100}, []float64{102, 102, 102}, false, false},
		"beyond it":                 {less, []float64{100, 100, 100}, []float64{104, 104, 104}, true, true},
		"beyond it, mostly":         {less, []float64{100, 100, 100}, []float64{104, 104, 90}, true, false},
		"better":                    {less, []float64{100, 100, 100}, []float64{50, 50, 50}, false, false},
		"more, which is better":     {more, []float64{100, 100, 100}, []float64{200, 200, 200}, false, false},
		"less, which is worse":      {more, []float64{100, 100, 100}, []float64{96, 96, 96}, true, true},
		"less, within tolerance":    {more, []float64{100, 100, 100}, []float64{98, 98, 98}, false, false},
		"none before":               {objects, []float64{0, 0, 0}, []float64{1, 1, 1}, true, true},
		"too little to be written":  {objects, []float64{1e-5, 1e-5, 1e-5}, []float64{3e-5, 3e-5, 3e-5}, false, false},
		"a machine that slows down": {less, []float64{100, 100, 1000}, []float64{100, 1000, 1000}, false, false},
	} {
		got := test.measure.changed(test.old, test.new)
		assert.Equal(t, test.worse, got.worse, name)
		assert.Equal(t, test.always, got.always, name)
	}
}

func TestCompareTable(t *testing.T) {
	w, ok := workByName(false, "restarts/1")
	require.True(t, ok)
	c := newVersionResults(settings{Selection: report.Selection{Only: regexp.MustCompile("^restarts/1/(floor|taskmanager)")}})
	for _, slower := range []float64{1, 3, 1} {
		c.old.Add(w.name, ourName, values{"each": 100 * slower, "rate": 1e7 / slower, "allocs": 0})
		c.again.Add(w.name, ourName, values{"each": 102 * slower, "rate": 1e7 / slower, "allocs": 0})
		c.new.Add(w.name, ourName, values{"each": 110 * slower * slower, "rate": 1e7 / slower, "allocs": 1})
		for _, r := range []*results{c.old, c.new, c.again} {
			r.Add(w.name, floorName, values{"each": 50})
		}
	}
	text := c.markdown()
	assert.Contains(t, text, ": 3 rounds in which they take turns")
	assert.Equal(t, "| restarts/1 | for each restart | 100 ns | 110 ns | 1.10× (1.10 to 3.30) | 1.02× (1.02 to 1.02) | **worse**, each time |",
		line(t, text, "| restarts/1 | for each restart"))
	assert.Equal(t, "| restarts/1 | objects allocated for each | 0.0 | 1.0 | – | – | **worse**, each time |", line(t, text, "| restarts/1 | objects"))
	assert.Equal(t, "| restarts/1/floor | for each restart | 50.0 ns | 50.0 ns | 1.00× (1.00 to 1.00) | 1.00× (1.00 to 1.00) |  |", line(t, text, "| restarts/1/floor"))
	assert.True(t, strings.HasSuffix(text, "\nWorse by more than 3%: 2 of 4; in each round: 2.\n- restarts/1: for each restart\n- restarts/1: objects allocated for each\n"), text)
}
