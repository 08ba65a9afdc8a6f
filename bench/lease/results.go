package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

// results are the values of all rounds.
type results struct {
	command string
	date    time.Time
	load    string // of the machine, before it began
	servers []string
	works   []work
	report.Rounds
}

func newResults(s settings) *results {
	return &results{command: s.command, date: time.Now(), load: load(), Rounds: report.Rounds{}}
}

// markdown is RESULTS.md.
func (r *results) markdown() string {
	var b strings.Builder
	b.WriteString("# Leases\n\nWritten by the program in this directory; do not edit.\n\n")
	rounds := "one round"
	if n := r.Count(); n != 1 {
		rounds = fmt.Sprintf("%d rounds", n)
	}
	fmt.Fprintf(&b, "Made by `%s` on %s, %s, with a load of %s before: %s.\n",
		r.command, r.date.Format("2 January 2006"), report.Machine(), r.load, rounds)
	v := report.Versions()
	fmt.Fprintf(&b, "\nServers and replicas are on this machine: %s. Peers: client-go %s (leaderelection, Lease objects), river %s.\n",
		strings.Join(r.servers, ", "), v["k8s.io/client-go"], v["github.com/riverqueue/river"])
	b.WriteString("\nA value is the median of the rounds, of which some works have three at most; in parentheses, the least and the " +
		"largest. Times of several processes are compared by the monotonic clock of the machine. A dash: that is not measured.\n\n" + sidesText)
	r.writeTargets(&b)
	for _, w := range r.works {
		r.writeTable(&b, w)
	}
	b.WriteString(limitsText)
	r.writeRounds(&b)
	return b.String()
}

const sidesText = `Who does it:

- **taskmanager**: a task with a lease, on each engine. The beat is a fifth of the TTL, the stop timeout a third; with a TTL of 15 s
  both are the defaults.
- **client-go**: its elector, with 15 s, 10 s and 2 s for LeaseDuration, RenewDeadline and RetryPeriod, which are what the components
  of Kubernetes have, and less in proportion for another TTL. The work is OnStartedLeading. By default it releases nothing. With
  ReleaseOnCancel it does when its context is canceled, whatever the work does then. *Canceled after the work* is what its
  documentation asks for: the service ends the work by a context of its own, and cancels the elector's when the work has returned.
- **river**: a client with its defaults, which can't be changed: an election every 5 s, and a TTL of 15 s. Its elector is internal, so
  this is what a service sees of it. *Election*: what its log says at level Debug, when it is elected and when it begins to resign.
  *Periodic job*: the constructor of one, which is the code of a service that the leader executes. It is called when the leader's own
  services start, some of them one after the other, each after a random pause of up to 1 s; that is river's default. A client that
  stops resigns at once, and another one leads some milliseconds later, whatever the constructor does: two work at once if it takes
  longer than these pauses.
`

const limitsText = `
### What this does not show

- All processes and servers share one machine: no network, no latency but the scheduler's, and no clocks that differ. Between
  machines, a hand-over takes some round trips more.
- The servers don't wait for the disk. If they do, each write takes as much longer as the disk needs, and a hand-over has two of them
  one after the other: a release, and a claim.
- client-go and river are made for something else. An elector of client-go is for a process that has one leader for all it does, and
  that ends when it loses; river's leader does the maintenance of a queue, where two at once are no harm. These are what a service
  finds that uses them for a task of its own.
- What decides how soon client-go notices is its RetryPeriod: with a shorter one it is faster, and asks more.
- A kill is the end of a process. The others notice a machine that is gone, or a network that is cut, as late; what the old holder
  does meanwhile is a matter of the engines' tests.
`

// writeTargets says whether the library has reached what it is to reach.
func (r *results) writeTargets(b *strings.Builder) {
	var lines strings.Builder
	for _, w := range r.works {
		for _, t := range w.targets {
			for _, s := range w.sides {
				all := r.Of(w.name, s.name, t.key)
				if !s.ours || len(all) == 0 {
					continue
				}
				u := w.unitOf(t.key)
				worst, verdict := slices.Max(all), "met"
				if worst > t.most {
					verdict = "**missed**"
				}
				fmt.Fprintf(&lines, "| %s | %s | %s | %s | %s | %s |\n",
					w.name, s.server, t.title, u.write(t.most), u.write(worst), verdict)
			}
		}
	}
	if lines.Len() > 0 {
		b.WriteString("\n### Targets\n\nOf taskmanager, by the worst of the rounds.\n\n" +
			"| | | | at most | measured | |\n|---|---|---|--:|--:|---|\n" + lines.String())
	}
}

// unitOf returns the unit of a measure of the work.
func (w work) unitOf(key string) unit {
	for _, m := range w.measures {
		if m.key == key {
			return m.unit
		}
	}
	panic("there is no measure " + key)
}

// writeTable writes the values of one work, a row for each side.
func (r *results) writeTable(b *strings.Builder, w work) {
	fmt.Fprintf(b, "\n### %s\n\n%s\n\n|", w.title, w.about)
	if w.rows {
		r.writeRows(b, w)
		return
	}
	for _, m := range w.measures {
		fmt.Fprintf(b, " | %s", m.title)
	}
	b.WriteString(" |\n|---" + strings.Repeat("|--:", len(w.measures)) + "|\n")
	for _, s := range w.sides {
		if len(r.Rounds[w.name][s.name]) == 0 {
			continue
		}
		fmt.Fprintf(b, "| %s", titles[s.name])
		for _, m := range w.measures {
			fmt.Fprintf(b, " | %s", m.cell(r.Of(w.name, s.name, m.key)))
		}
		b.WriteString(" |\n")
	}
}

// writeRows writes the values of one work, a column for each side.
func (r *results) writeRows(b *strings.Builder, w work) {
	for _, s := range w.sides {
		fmt.Fprintf(b, " | %s", titles[s.name])
	}
	b.WriteString(" |\n|---" + strings.Repeat("|--:", len(w.sides)) + "|\n")
	for _, m := range w.measures {
		fmt.Fprintf(b, "| %s", m.title)
		for _, s := range w.sides {
			fmt.Fprintf(b, " | %s", m.cell(r.Of(w.name, s.name, m.key)))
		}
		b.WriteString(" |\n")
	}
}

// cell writes the values of a measure.
func (m measure) cell(all []float64) string {
	if len(all) == 0 {
		return report.Dash
	}
	middle, least, largest := m.unit.write(report.Median(all)), m.unit.write(slices.Min(all)), m.unit.write(slices.Max(all))
	if least == largest {
		return middle
	}
	return fmt.Sprintf("%s (%s – %s)", middle, least, largest)
}

// writeRounds writes every value, so that nobody has to trust a median.
func (r *results) writeRounds(b *strings.Builder) {
	b.WriteString("\n<details><summary>The values of each round</summary>\n\n| work | side | measure | values |\n|---|---|---|---|\n")
	for _, w := range r.works {
		for _, s := range w.sides {
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

// write writes a value for people, in three digits or so.
func (u unit) write(v float64) string {
	switch u {
	case nanoseconds:
		switch {
		case v == 0:
			return "0"
		case v < 1e6:
			return report.Digits(v/1e3) + " µs"
		case v < 1e9:
			return report.Digits(v/1e6) + " ms"
		}
		return report.Digits(v/1e9) + " s"
	case count:
		return report.Thousands(int(math.Round(v)))
	case times:
		return report.Digits(v) + "×"
	case perSecond:
		if v >= 1000 {
			return report.Thousands(int(math.Round(v)))
		}
	}
	return report.Digits(v)
}

// load is how many threads have run or waited to, within the last five minutes.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return report.Dash
	}
	return fields[1]
}
