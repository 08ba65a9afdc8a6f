package taskmanager

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"
)

const (
	tableLines  = 1000 // of tasks
	tableStatus = 120  // runes of a status or an error
)

// String returns a table for terminals: a line for each task, in the order in which they were started, with its state, counts, uptime,
// and its status, or without one its last error. Those of a group follow it, by their paths. A last line sums up. It shows at most
// 1,000 tasks, and says how many more there are.
//
// It calls the Error methods of errors, which are not the library's: use it where these may take their time.
func (s ManagerStats) String() string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprint(table, "TASK\tSTATE\tRUNS\tFAILURES\tPANICS\tUPTIME\tSTATUS\n") // a strings.Builder takes everything
	rows := s.appendRows(nil, "")
	for _, r := range rows[:min(len(rows), tableLines)] {
		_, _ = fmt.Fprintln(table, r.String())
	}
	_ = table.Flush()
	if more := len(rows) - tableLines; more > 0 {
		fmt.Fprintf(&b, "and %d more\n", more)
	}
	b.WriteString(s.summary())
	return b.String()
}

// A tableRow is the line of one task.
type tableRow struct {
	path string
	task TaskStats
}

// appendRows appends the rows of the tasks, each of a group's after it.
func (s *ManagerStats) appendRows(rows []tableRow, prefix string) []tableRow {
	tasks := make([]TaskStats, 0, len(s.Tasks))
	for _, t := range s.Tasks {
		tasks = append(tasks, t)
	}
	slices.SortFunc(tasks, func(a, b TaskStats) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.Name, b.Name))
	})
	for _, t := range tasks {
		rows = append(rows, tableRow{prefix + t.Name, t})
		if t.Group != nil {
			rows = t.Group.appendRows(rows, prefix+t.Name+"/")
		}
	}
	return rows
}

func (r *tableRow) String() string {
	t := &r.task
	uptime, status := "-", t.Status
	if !t.RunStartedAt.IsZero() {
		uptime = roundDuration(t.Uptime).String()
	}
	if status == "" && t.LastError != nil {
		status = errorText(t.LastError)
	}
	return fmt.Sprintf("%s\t%v\t%d\t%d\t%d\t%s\t%s", r.path, t.State, t.Runs, t.Failures, t.Panics, uptime, oneLine(status))
}

// oneLine returns the beginning of a text, in one line and without what a terminal would obey.
func oneLine(text string) string {
	runes := 0
	for i := range text {
		if runes++; runes > tableStatus {
			text = text[:i] + "…"
			break
		}
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, text)
}

// summary is the last line: "5 tasks: 3 running, 1 in backoff, 1 failed; runs: 20, failures: 12".
func (s *ManagerStats) summary() string {
	var counts []string
	for _, c := range []struct {
		n    int
		what string
	}{
		{s.Waiting, "waiting"},
		{s.Running, "running"},
		{s.Backoff, "in backoff"},
		{s.Stopping, "stopping"},
		{s.Stuck, "stuck"},
		{s.Completed, "completed"},
		{s.Failed + s.FailedForgotten, "failed"},
		{s.Stopped, "stopped"},
	} {
		if c.n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	total := len(s.Tasks) + s.FailedForgotten
	text := fmt.Sprintf("%d tasks", total)
	if total == 1 {
		text = "1 task"
	}
	if len(counts) > 0 {
		text += ": " + strings.Join(counts, ", ")
	}
	return fmt.Sprintf("%s; runs: %d, failures: %d", text, s.Runs, s.Failures)
}
