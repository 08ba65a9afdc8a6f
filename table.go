package taskmanager

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	tableLines     = 1000 // tasks in a table
	tableNameWidth = 40   // of the column of names; a longer one makes its own line longer
	tableTextWidth = 100  // of the last column, in runes
)

var tableHeader = tableRow{"TASK", "STATE", "RUNS", "FAILURES", "PANICS", "UPTIME", "STATUS"}

// tableStates are in the order of a table, the worst first.
var tableStates = []State{
	StateFailed, StateStuck, StateBackoff, StatePaused, StateStopping, StateWaiting, StateRunning, StateCompleted, StateStopped,
}

// String returns a table for people, whose form may change: a header, a line for each task, and one with the totals. What does
// badly comes first: failed tasks, then those that are stuck, in backoff, paused, stopping, waiting, running but not ready or after
// several failures in a row, running, completed, stopped; and of each kind they are in the order of their names. A task of a
// [Group] has a line of its own, as "group/task". Of more than 1,000 lines it has the first, and says how many there are besides.
//
// STATUS is the last error, unless the task does well by now and its status says how, and then what the body has said by
// [SetStatus], or for whom the task waits. It is cut in the middle, and has no line breaks or control characters. String calls the
// Error methods of these errors.
func (s ManagerStats) String() string {
	tasks := s.appendTasks(nil, "")
	slices.SortFunc(tasks, func(a, b tableTask) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.path, b.path))
	})
	var (
		b     strings.Builder
		rows  = []tableRow{tableHeader}
		shown = tasks[:min(len(tasks), tableLines)]
	)
	for i := range shown {
		rows = append(rows, shown[i].row())
	}
	if len(shown) > 0 {
		writeTable(&b, rows)
	}
	if more := len(tasks) - len(shown); more > 0 {
		fmt.Fprintf(&b, "and %d more\n", more)
	}
	b.WriteString(s.totals())
	return b.String()
}

// totals is the last line.
func (s *ManagerStats) totals() string {
	var b strings.Builder
	if s.Name != "" {
		fmt.Fprintf(&b, "%s: ", oneLine(s.Name, tableTextWidth))
	}
	b.WriteString(number(uint64(len(s.Tasks)), "task"))
	counts := [len(stateNames)]int{
		StateWaiting: s.Waiting, StateRunning: s.Running, StateBackoff: s.Backoff, StateStopping: s.Stopping, StateStuck: s.Stuck,
		StatePaused:    s.Paused,
		StateCompleted: s.Completed, StateFailed: s.Failed, StateStopped: s.Stopped,
	}
	var states []string
	for _, state := range tableStates {
		if n := counts[state]; n > 0 {
			states = append(states, fmt.Sprint(n, " ", state))
		}
	}
	if len(states) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(states, ", "))
	}
	if s.FailedForgotten > 0 {
		fmt.Fprintf(&b, ", %d more failed and forgotten", s.FailedForgotten)
	}
	fmt.Fprintf(&b, ", %s, %s, %s", number(s.Runs, "run"), number(s.Failures, "failure"), number(s.Panics, "panic"))
	if s.ReportsDelivered+s.ReportsWaiting+s.ReportsLost > 0 {
		fmt.Fprintf(&b, "; reports: %d delivered, %d waiting, %d lost", s.ReportsDelivered, s.ReportsWaiting, s.ReportsLost)
	}
	return b.String()
}

// number is "1 run", "2 runs".
func number(n uint64, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

// A tableTask is a task in the table.
type tableTask struct {
	path  string
	stats TaskStats
}

// appendTasks appends the tasks to those of a table, whose names begin with prefix.
func (s *ManagerStats) appendTasks(tasks []tableTask, prefix string) []tableTask {
	for name, t := range s.Tasks {
		path := prefix + name
		tasks = append(tasks, tableTask{path, t})
		if t.Group != nil {
			tasks = t.Group.appendTasks(tasks, path+"/")
		}
	}
	return tasks
}

// rank is less for a task that is worse.
func (t *tableTask) rank() int {
	rank := 2 * slices.Index(tableStates, t.stats.State)
	if t.isUnready() || t.stats.State == StateRunning && t.failsAgain() {
		rank--
	}
	return rank
}

// isUnready reports whether the task runs and is not ready.
func (t *tableTask) isUnready() bool { return t.stats.State == StateRunning && !t.stats.Ready }

// failsAgain reports whether the task has failed, and then again before it was healthy.
func (t *tableTask) failsAgain() bool { return t.stats.ConsecutiveFailures > 1 }

func (t *tableTask) row() tableRow {
	s := &t.stats
	uptime := "-"
	if !s.RunStartedAt.IsZero() {
		uptime = roundDuration(s.Uptime).String()
	}
	return tableRow{
		oneLine(t.path, len(t.path)), s.State.String(), fmt.Sprint(s.Runs), fmt.Sprint(s.Failures), fmt.Sprint(s.Panics), uptime,
		oneLine(t.status(), tableTextWidth),
	}
}

// status is the last column, in full.
func (t *tableTask) status() string {
	s := &t.stats
	var parts []string
	if t.isUnready() {
		parts = append(parts, "not ready")
	}
	if s.LastError != nil {
		switch {
		case t.failsAgain():
			parts = append(parts, fmt.Sprintf("%d failures in a row: %s", s.ConsecutiveFailures, errorText(s.LastError)))
		case s.State == StateFailed || s.State == StateStuck || s.State == StateBackoff || !s.NextRunAt.IsZero():
			parts = append(parts, errorText(s.LastError))
		case s.Status == "":
			parts = append(parts, "last error: "+errorText(s.LastError))
		}
	}
	if s.Status != "" {
		parts = append(parts, s.Status)
	}
	return strings.Join(parts, "; ")
}

// A tableRow has the columns of a line.
type tableRow [7]string

// writeTable writes rows with their columns aligned. What stands in the last one is as wide as it is.
func writeTable(b *strings.Builder, rows []tableRow) {
	var widths [len(tableHeader)]int
	for _, row := range rows {
		for i, text := range row {
			width := utf8.RuneCountInString(text)
			if i == 0 {
				width = min(width, tableNameWidth)
			}
			widths[i] = max(widths[i], width)
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, text := range row {
			fmt.Fprintf(&line, "%-*s  ", widths[i], text)
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
}

// oneLine is text without line breaks, control characters and what else can't be seen, cut in the middle to at most so many runes: the
// end of an error is where its cause stands.
func oneLine(text string, most int) string {
	const tooLong = 1 << 14 // bytes; of more, what is in the middle is not even looked at
	if len(text) > tooLong {
		text = text[:tooLong/2] + text[len(text)-tooLong/2:]
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
	runes := []rune(strings.Join(words, " "))
	if len(runes) <= most {
		return string(runes)
	}
	end := most / 2
	return string(runes[:most-end-1]) + "…" + string(runes[len(runes)-end:])
}
