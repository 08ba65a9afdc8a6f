package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// The forms for machines, and for curl. Their fields are documented in docs/dashboard.md.

func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil { // a time in a year that JSON has no form for
		status, text = http.StatusInternalServerError, []byte(`{"error":"This can't be written as JSON."}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the client has gone, perhaps
}

// A textError is an error of which nothing is called any more.
type textError string

func (e textError) Error() string { return string(e) }

// A jsonTask is a task of the list as JSON.
type jsonTask struct {
	Path    []string              `json:"path"`
	Trouble string                `json:"trouble,omitempty"`
	Stats   taskmanager.TaskStats `json:"stats"`
}

func newJSONTask(r *row) jsonTask {
	t := jsonTask{r.path, r.trouble.reason(), r.stats}
	t.Stats.Status = abridge(t.Stats.Status, mostErrorText)
	if t.Stats.LastError != nil {
		t.Stats.LastError = textError(r.lastError)
	}
	return t
}

func (d *dashboard) serveListJSON(w http.ResponseWriter, r *http.Request) *problem {
	q, places, total, p := d.listOf(r)
	if p != nil {
		return p
	}
	tasks := make([]jsonTask, 0, len(places))
	for _, r := range d.rowsOf(places) {
		tasks = append(tasks, newJSONTask(r))
	}
	writeJSON(w, http.StatusOK, struct {
		At      time.Time          `json:"at"`
		Totals  taskmanager.Totals `json:"totals"`
		Found   int                `json:"found"`
		Page    int                `json:"page"`
		Pages   int                `json:"pages"`
		PerPage int                `json:"per_page"`
		Tasks   []jsonTask         `json:"tasks"`
	}{time.Now().UTC(), d.manager().Totals(), total, q.page, pagesOf(total, q.per), q.per, tasks})
	return nil
}

// A jsonEvent is an event of a task's history as JSON.
type jsonEvent struct {
	Time          time.Time `json:"time"`
	Kind          string    `json:"kind"`
	Run           uint64    `json:"run"`
	By            string    `json:"by,omitempty"`
	Cause         string    `json:"cause,omitempty"`
	Error         string    `json:"error,omitempty"`
	Stack         string    `json:"stack,omitempty"`
	DelaySeconds  float64   `json:"delay_seconds,omitempty"`
	UptimeSeconds float64   `json:"uptime_seconds,omitempty"`
	Restarts      int       `json:"restarts,omitempty"`
	Failures      int       `json:"failures,omitempty"`
}

func (d *dashboard) serveTaskJSON(w http.ResponseWriter, r *http.Request) *problem {
	v, p := d.viewOf(r)
	if p != nil {
		return p
	}
	history := make([]jsonEvent, 0, len(v.history))
	for i, e := range v.history {
		history = append(history, jsonEvent{
			e.Time, e.Kind.String(), e.Run, e.By, causeText(e.Cause), v.texts[i].text, v.texts[i].stack, e.Delay.Seconds(), e.Uptime.Seconds(),
			e.Restarts, e.Failures,
		})
	}
	v.lastError = v.last.text
	var stackAt time.Time
	if len(v.stack) > 0 {
		stackAt = v.stackAt.UTC()
	}
	writeJSON(w, http.StatusOK, struct {
		jsonTask

		Dependents     []string            `json:"dependents,omitempty"`
		History        []jsonEvent         `json:"history"`
		LastErrorStack string              `json:"last_error_stack,omitempty"`
		Stack          string              `json:"stack,omitempty"`
		StackAt        time.Time           `json:"stack_at,omitzero"`
		Group          *taskmanager.Totals `json:"group,omitempty"`
	}{newJSONTask(&v.row), v.dependents, history, v.last.stack, v.stack, stackAt, v.totals})
	return nil
}

// serveListText answers with a table.
func (d *dashboard) serveListText(w http.ResponseWriter, r *http.Request) *problem {
	q, places, total, p := d.listOf(r)
	if p != nil {
		return p
	}
	now := time.Now()
	var b, rows strings.Builder
	table := tabwriter.NewWriter(&rows, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TASK\tSTATE\tRUNS\tFAILURES\tRESTARTS\tNEXT\tUPTIME\tSTATUS")
	for _, r := range d.rowsOf(places) {
		s := &r.stats
		state := s.State.String()
		if reason := r.reason(); reason != "" {
			state += ", " + reason
		}
		next, uptime, restarts := "-", "-", restartsCell(r)
		if at, _ := nextOf(s); !at.IsZero() {
			next = relative(kindIn, at, now)
		}
		if !s.RunStartedAt.IsZero() {
			uptime = durationText(s.Uptime)
		}
		status := s.Status
		if r.lastError != "" && (status == "" || r.trouble.class() != "") {
			status = strings.TrimSuffix("last error "+relative(kindAgo, s.LastErrorAt, now)+": "+r.lastError+"; "+status, "; ")
		}
		fmt.Fprintf(table, "%s%s\t%s\t%d\t%d\t%s %s\t%s\t%s\t%s\n", strings.Repeat("  ", r.depth), shorten(textPath(r, q), longText), state, s.Runs, s.Failures,
			restarts.Text, restarts.Note, next, uptime, shorten(status, longText))
	}
	_ = table.Flush()
	for line := range strings.Lines(rows.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n") // of one without a status the columns are filled up
	}
	totals := d.manager().Totals()
	if total > 0 {
		fmt.Fprintf(&b, "\n%d to %d of %d", (q.page-1)*q.per+1, (q.page-1)*q.per+len(places), total)
		if pages := pagesOf(total, q.per); pages > 1 {
			fmt.Fprintf(&b, ", page %d of %d", q.page, pages)
		}
	} else {
		fmt.Fprint(&b, "\nNo task is like that")
	}
	for _, s := range states {
		if n := countOf(&totals, s); n > 0 {
			fmt.Fprintf(&b, ", %d %s", n, s)
		}
	}
	fmt.Fprintf(&b, ", %s, %s, %s\n", counted(totals.Runs, "run"), counted(totals.Failures, "failure"), counted(totals.Panics, "panic"))
	writeText(w, b.String())
	return nil
}

// textPath is the name of a task in a tree, and its path in a list.
func textPath(r *row, q listQuery) string {
	if q.isFiltered() {
		return pathText(r.path)
	}
	return r.path[len(r.path)-1]
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(text)) // the client has gone, perhaps
}

// serveTaskText answers with all of the page of a task.
func (d *dashboard) serveTaskText(w http.ResponseWriter, r *http.Request) *problem {
	v, p := d.viewOf(r)
	if p != nil {
		return p
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", pathText(v.path), v.stats.State)
	if reason := v.reason(); reason != "" {
		fmt.Fprintf(&b, ", %s", reason)
	}
	b.WriteString("\n\n")
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(f figure) {
		value := strings.TrimSpace(f.Value.Text + " " + f.Value.Note)
		if !f.Value.Time.IsZero() {
			value = exactText(f.Value.Time) + ", " + relative(f.Value.Kind, f.Value.Time, v.at)
		}
		fmt.Fprintf(table, "%s\t%s\n", f.Name, value)
	}
	if v.stats.Status != "" {
		line(figure{"Status", cell{Text: shorten(v.stats.Status, 10*longText)}})
	}
	if v.last.text != "" {
		line(figure{"Last error", cell{Text: shorten(v.last.text, 10*longText)}})
	}
	for _, f := range v.figures() {
		line(f)
	}
	for _, f := range v.passFigures() {
		f.Name = "Passes: " + strings.ToLower(f.Name)
		line(f)
	}
	_ = table.Flush()
	if len(v.history) > 0 {
		b.WriteString("\nHistory, the latest first\n\n")
		for _, e := range v.events() {
			fmt.Fprintf(&b, "%s  %s, run %d", exactText(e.At.Time), e.Kind, e.Run)
			if e.By != "" {
				fmt.Fprintf(&b, ", by %s", e.By)
			}
			if e.Facts != "" {
				fmt.Fprintf(&b, ", %s", e.Facts)
			}
			if e.Text != "" {
				fmt.Fprintf(&b, ": %s", shorten(e.Text, 10*longText))
			}
			b.WriteByte('\n')
		}
	}
	if v.last.stack != "" {
		fmt.Fprintf(&b, "\nStack of the last error\n\n%s\n", v.last.stack)
	}
	if len(v.stack) > 0 {
		fmt.Fprintf(&b, "\nWhere its goroutines are, at %s\n\n%s\n", exactText(v.stackAt), v.stack)
	} else if v.stackNote != "" {
		fmt.Fprintf(&b, "\n%s\n", v.stackNote)
	}
	writeText(w, b.String())
	return nil
}
