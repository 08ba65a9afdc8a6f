package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

const (
	tableLines = 1 + 3*replicas // of a table, at most
	keptLines  = 6              // of the latest lines, below the table

	// What a terminal understands.
	clearScreen    = "\x1b[2J"
	home           = "\x1b[H"
	clearLine      = "\x1b[K"
	saveCursor     = "\x1b7"
	restoreCursor  = "\x1b8"
	cutLines       = "\x1b[?7l"
	wrapLines      = "\x1b[?7h"
	promptPosition = "\x1b[%d;1H"
	promptLine     = 2 + tableLines + 2 + keptLines + 2
)

// table shows the replicas, each with its tasks. Those of tenants share a line.
func table(rows [replicas]row) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REPLICA\tPROCESS\tTASK\tSTATE\tTOKEN\tSINCE\tSTATUS")
	for i, x := range rows {
		lines := taskLines(x)
		if len(lines) == 0 {
			lines = []string{"\t\t\t\t"}
		}
		first := fmt.Sprintf("%d\t%s", i+1, x.state)
		for _, line := range lines {
			fmt.Fprintf(w, "%s\t%s\n", first, line)
			first = "\t"
		}
	}
	_ = w.Flush() // to a Builder
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func taskLines(x row) []string {
	var lines, tenants []string
	for _, name := range slices.Sorted(maps.Keys(x.tasks)) {
		r := x.tasks[name]
		if tenant, ok := strings.CutPrefix(name, tenantPrefix); ok {
			tenants = append(tenants, tenant)
			continue
		}
		state, token := r.State, ""
		if state == runs {
			token = fmt.Sprint(r.Token)
			if x.state == frozen {
				state = frozen
			}
		}
		lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", name, state, token, r.At.Format("15:04:05"), r.Status))
	}
	if len(tenants) > 0 {
		state := runs
		if x.state == frozen {
			state = frozen
		}
		lines = append(lines, fmt.Sprintf("tenants\t%s\t\t\t%s", state, strings.Join(tenants, " ")))
	}
	return lines
}

// begin shows the first line.
func (b *board) begin(intro string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.redraw {
		fmt.Fprintln(b.out, intro)
		return
	}
	b.intro = intro
	fmt.Fprint(b.out, cutLines)
	b.promptLocked()
}

// end leaves the terminal as it was.
func (b *board) end() {
	if !b.redraw {
		return
	}
	b.draw()
	fmt.Fprint(b.out, wrapLines, "\n")
}

// entered prompts again, as the last line has been entered.
func (b *board) entered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.redraw {
		b.promptLocked()
	}
}

func (b *board) promptLocked() {
	fmt.Fprint(b.out, clearScreen)
	b.drawLocked()
	fmt.Fprintf(b.out, promptPosition+"> ", promptLine)
}

// draw draws what has changed since. It leaves the cursor where somebody types.
func (b *board) draw() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.redraw && b.outdated {
		fmt.Fprint(b.out, saveCursor)
		b.drawLocked()
		fmt.Fprint(b.out, restoreCursor)
	}
}

func (b *board) drawLocked() {
	b.outdated = false
	lines := []string{b.intro, ""}
	lines = append(lines, strings.Split(strings.TrimSuffix(table(b.rows), "\n"), "\n")...)
	for len(lines) < 2+tableLines {
		lines = append(lines, "")
	}
	taken, refused := 0, 0
	for _, n := range b.taken {
		taken += n
	}
	for _, n := range b.refused {
		refused += n
	}
	lines = append(lines, fmt.Sprintf("The resource has taken %d writes, and refused %d.", taken, refused), "")
	lines = append(lines, b.latest...)
	for len(lines) < promptLine-1 {
		lines = append(lines, "")
	}
	fmt.Fprint(b.out, home, strings.Join(lines, clearLine+"\r\n"), clearLine)
}
