package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

// Two versions of the library are compared by two builds of this program that differ in the root
// module alone. Both are built the same way: the one that runs now may have been built with the
// requirements of a workspace, which are not those of the other.

const rootModule = "github.com/go-taskmanager/taskmanager"

// tolerance is the difference from which on the new version is said to be worse.
const tolerance = 0.03

// compareVersions measures the library in the directory s.compare and that in the repository, in
// turn, and prints the ratios new/old. The old one takes two turns in each round: how far it is from
// itself is the noise.
func compareVersions(ctx context.Context, s settings, stdout, progress io.Writer) error {
	c := newVersionResults(s)
	if len(c.rows) == 0 {
		return errNothingMatches
	}
	own, err := report.Source("bench")
	if err != nil {
		return err
	}
	temporary, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	build := func(name, root string) string {
		if err != nil {
			return ""
		}
		fmt.Fprintf(progress, "building the %s version\n", name)
		var program string
		if program, err = buildAgainst(ctx, own, root, filepath.Join(temporary, name)); err != nil {
			err = fmt.Errorf("the %s version: %w", name, err)
		}
		return program
	}
	before, after := build("old", s.compare), build("new", filepath.Join(own, ".."))
	if err != nil {
		return err
	}
	turns := []struct {
		name, program string
		results       *results
	}{{"old", before, c.old}, {"new", after, c.new}, {"old again", before, c.again}}
	for round := range s.rounds {
		for _, row := range c.rows {
			for i := range turns {
				turn := turns[(i+round)%len(turns)] // another one begins in each round
				fmt.Fprintf(progress, "round %d of %d: %s/%s, %s\n", round+1, s.rounds, row.work.name, row.side.name, turn.name)
				var v values
				v, err = order{Work: row.work.name, Side: row.side.name, Quick: s.quick}.delegateTo(ctx, turn.program)
				if err != nil {
					return fmt.Errorf("%s: %w", turn.name, err)
				}
				turn.results.Add(row.work.name, row.side.name, v)
			}
		}
	}
	_, err = io.WriteString(stdout, c.markdown())
	return err
}

// buildAgainst builds the program whose source is in own with the root module in root, in the
// directory dir, which it makes. It returns the executable.
func buildAgainst(ctx context.Context, own, root, dir string) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return "", err
	}
	if !bytes.HasPrefix(mod, []byte("module "+rootModule+"\n")) {
		return "", fmt.Errorf("%s is not the module %s", root, rootModule)
	}
	if err := copySource(own, dir); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "bench.exe") // a name that every system takes
	for _, args := range [][]string{
		{"mod", "edit", "-replace=" + rootModule + "=" + root},
		// The requirements of another version may be others, so go.mod may have to change.
		{"build", "-mod=mod", "-trimpath", "-buildvcs=false", "-o", program, "."},
	} {
		command := exec.CommandContext(ctx, "go", args...)
		command.Dir = dir
		command.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		if output, err := command.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", args[0], err, output)
		}
	}
	return program, nil
}

// copySource copies what builds this program.
func copySource(from, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	for _, pattern := range []string{"*.go", "report/*.go", "go.mod", "go.sum"} {
		files, err := filepath.Glob(filepath.Join(from, filepath.FromSlash(pattern)))
		if err != nil {
			return err
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			name, err := filepath.Rel(from, file)
			if err != nil {
				return err
			}
			if err := copyFile(file, filepath.Join(to, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyFile copies a file to a directory that need not exist.
func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}

var errNothingMatches = errors.New("-only and -skip leave nothing to do")

// versionResults are the values of two versions.
type versionResults struct {
	rows            []versionRow
	old, new, again *results // again: the old one, in its second turn
}

type versionRow struct {
	work work
	side side
}

// newVersionResults returns results without values, with a row for each work that shall be done. The
// other sides are the same in both versions, and done if -only asks for them.
func newVersionResults(s settings) *versionResults {
	c := &versionResults{old: newResults(s), new: newResults(s), again: newResults(s)}
	for _, w := range works(s.quick) {
		for _, one := range s.doing(w) {
			if one.name == ourName || s.Only != nil {
				c.rows = append(c.rows, versionRow{w, one})
			}
		}
	}
	return c
}

// A change is how one measure differs between two versions.
type change struct {
	old, new float64   // medians
	rounds   []float64 // new/old, of those that have a ratio
	worse    bool      // by more than the tolerance: the medians, and the median of rounds
	always   bool      // in each round, too
}

// changed compares the values of the rounds.
func (m measure) changed(before, after []float64) change {
	c := change{old: report.Median(before), new: report.Median(after), rounds: ratios(after, before)}
	// What slows the machine for some rounds is in the medians, and not in the ratios.
	c.worse = m.worsened(c.old, c.new) && (len(c.rounds) == 0 || m.exceeds(1, report.Median(c.rounds)))
	c.always = c.worse
	for i := range min(len(before), len(after)) {
		c.always = c.always && m.worsened(before[i], after[i])
	}
	return c
}

// worsened reports whether after is worse than before by more than the tolerance. What is too small
// to be written, a few objects allocated in the background, say, is no difference.
func (m measure) worsened(before, after float64) bool {
	return m.exceeds(before, after) && m.unit.write(before) != m.unit.write(after)
}

func (m measure) exceeds(before, after float64) bool {
	if m.more {
		return before > after*(1+tolerance)
	}
	return after > before*(1+tolerance)
}

// markdown is what is printed: a table, and the names of what is worse.
func (c *versionResults) markdown() string {
	var (
		b           strings.Builder
		worse       []string
		all, always int
	)
	fmt.Fprintf(&b, "Two versions of the library on %s: %s in which they take turns, each piece of work in a process of its own. "+
		"The values are medians. A ratio is the median of the ratios within each round, with the least and the largest of them. "+
		"old/old is that of two turns of the old version: the noise.\n\n", report.Machine(), roundsText(c.new.Count()))
	b.WriteString("| work | measure | old | new | new/old | old/old | |\n|---|---|--:|--:|--:|--:|---|\n")
	for _, row := range c.rows {
		name := row.work.name
		if row.side.name != ourName {
			name += "/" + row.side.name
		}
		for _, m := range row.work.measures {
			old := c.old.Of(row.work.name, row.side.name, m.key)
			if len(old) == 0 {
				continue
			}
			one := m.changed(old, c.new.Of(row.work.name, row.side.name, m.key))
			all++
			verdict := ""
			if one.worse {
				verdict = "**worse**"
				worse = append(worse, fmt.Sprintf("- %s: %s\n", name, m.title))
			}
			if one.always {
				verdict += ", each time"
				always++
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", name, m.title, m.unit.write(one.old), m.unit.write(one.new),
				spread(one.rounds), spread(ratios(c.again.Of(row.work.name, row.side.name, m.key), old)), verdict)
		}
	}
	fmt.Fprintf(&b, "\nWorse by more than %.0f%%: %d of %d; in each round: %d.\n%s", 100*tolerance, len(worse), all, always, strings.Join(worse, ""))
	return b.String()
}

// spread writes the median of ratios, and the least and the largest.
func spread(ratios []float64) string {
	if len(ratios) == 0 {
		return report.Dash
	}
	return fmt.Sprintf("%s (%s to %s)", ratioText(report.Median(ratios)), report.Digits(slices.Min(ratios)), report.Digits(slices.Max(ratios)))
}
