package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

// results are the values of all rounds.
type results struct {
	command string
	date    time.Time
	works   []work
	report.Rounds
}

func newResults(s settings) *results {
	return &results{command: s.command, date: time.Now(), Rounds: report.Rounds{}}
}

// toFloor is the ratio of a side to the floor.
func (r *results) toFloor(work, side, key string) float64 {
	return ratio(r.Of(work, side, key), r.Of(work, floorName, key))
}

// markdown is the part of RESULTS.md that these results make.
func (r *results) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Made by `%s` on %s, %s: %s.\n", r.command, r.date.Format("2 January 2006"), report.Machine(), roundsText(r.Count()))
	b.WriteString("\nEvery side does each piece of work in a process of its own; the sides take turns within a round. A value is the median of the rounds. " +
		"The number after it is the ratio to the floor, the median of the ratios within each round. A dash: that side cannot do it.\n\n")
	r.writeSides(&b)
	if shown := r.targets(); len(shown) > 0 {
		b.WriteString("\n### Targets\n\n| | wanted | measured | |\n|---|---|---|---|\n")
		for _, t := range shown {
			b.WriteString(t)
		}
	}
	for _, w := range r.works {
		r.writeTable(&b, w)
	}
	r.writeAhead(&b)
	r.writeRounds(&b)
	return b.String()
}

func roundsText(n int) string {
	if n == 1 {
		return "one round"
	}
	return fmt.Sprintf("%d rounds", n)
}

func (r *results) writeSides(b *strings.Builder) {
	v := report.Versions()
	b.WriteString("The floor is the least that a careful person writes by hand: a map under an RWMutex, a context and a goroutine for each task, " +
		"and a loop around a recover that yields before each restart.\n")
	var peers []string
	for _, s := range sides {
		if version := v[s.module]; s.module != "" && s.name != ourName && version != "" {
			peers = append(peers, s.name+" "+version)
		}
	}
	if len(peers) > 0 {
		fmt.Fprintf(b, "The peers: %s.\n", strings.Join(peers, ", "))
	}
	for _, m := range missing {
		b.WriteString("Not here: " + m + "\n")
	}
}

// writeTable writes the values of one work, a row for each side.
func (r *results) writeTable(b *strings.Builder, w work) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n|", w.title, w.about)
	for _, m := range w.measures {
		fmt.Fprintf(b, " | %s", m.title)
	}
	b.WriteString(" |\n|---" + strings.Repeat("|--:", len(w.measures)) + "|\n")
	for _, s := range sides {
		if w.needs&(idles|features) != 0 && s.can&w.needs != w.needs {
			continue // nearly all of them: a row of dashes says nothing
		}
		name := s.name
		if name == ourName {
			name = "**" + name + "**"
		}
		fmt.Fprintf(b, "| %s", name)
		for _, m := range w.measures {
			fmt.Fprintf(b, " | %s", r.cell(w, s, m))
		}
		b.WriteString(" |\n")
	}
}

func (r *results) cell(w work, s side, m measure) string {
	all := r.Of(w.name, s.name, m.key)
	if len(all) == 0 {
		return report.Dash
	}
	cell := m.unit.write(report.Median(all))
	// So large if the floor takes next to nothing; and it may be NaN, which is not less than anything.
	const absurd = 1e5
	if toFloor := r.toFloor(w.name, s.name, m.key); !m.alone && s.name != floorName && toFloor < absurd {
		cell += fmt.Sprintf(" (%s)", ratioText(toFloor))
	}
	return cell
}

func ratioText(x float64) string { return report.Digits(x) + "×" }

// noticeable is the difference from which on one side is said to be ahead of another.
const noticeable = 0.05

// writeAhead lists where a side is ahead of the library, and what it leaves out.
func (r *results) writeAhead(b *strings.Builder) {
	fmt.Fprintf(b, "\n### Where others are ahead\n\nOf taskmanager, by %.0f%% or more, in percent of its own value; and what they leave out.\n\n", 100*noticeable)
	some := false
	for _, s := range sides {
		if s.name == ourName {
			continue
		}
		var places strings.Builder
		for _, w := range r.works {
			var by []string
			for _, m := range w.measures {
				if part, ok := r.ahead(w, s, m); ok {
					by = append(by, fmt.Sprintf("%s %.0f%%", m.title, 100*part))
				}
			}
			if len(by) > 0 {
				fmt.Fprintf(&places, "  - %s: %s\n", w.title, strings.Join(by, ", "))
			}
		}
		if places.Len() > 0 {
			some = true
			fmt.Fprintf(b, "- **%s**: %s\n%s", s.name, s.lacks, places.String())
		}
	}
	if !some {
		b.WriteString("Nowhere.\n")
	}
}

// ahead returns by which part a side is better than the library.
func (r *results) ahead(w work, s side, m measure) (by float64, ok bool) {
	if m.alone {
		return 0, false
	}
	by = ratio(r.Of(w.name, s.name, m.key), r.Of(w.name, ourName, m.key)) - 1
	if !m.more {
		by = -by
	}
	return by, by >= noticeable
}

// writeRounds writes every value, so that nobody has to trust a median.
func (r *results) writeRounds(b *strings.Builder) {
	b.WriteString("\n<details><summary>The values of each round</summary>\n\n| work | side | measure | values |\n|---|---|---|---|\n")
	for _, w := range r.works {
		for _, s := range sides {
			for _, m := range w.measures {
				var written []string
				for _, x := range r.Of(w.name, s.name, m.key) {
					written = append(written, m.unit.write(x))
				}
				if len(written) > 0 {
					fmt.Fprintf(b, "| %s | %s | %s | %s |\n", w.name, s.name, m.title, strings.Join(written, ", "))
				}
			}
		}
	}
	b.WriteString("\n</details>\n")
}

// has reports whether there are values of that work.
func (r *results) has(name string) bool {
	return slices.ContainsFunc(r.works, func(w work) bool { return w.name == name })
}
