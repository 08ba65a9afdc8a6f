package dashboard

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// A column of the list.
type column struct {
	name    string // in the address, and the class of its cells
	title   string // in the header; "trouble" has none, being the order by default
	ofStats bool   // its key is not known by the name and the state alone
	most    bool   // the largest value is what one looks for first
	own     bool   // a group stands where its own key says, and not where the first of its tasks would stand
	key     func(*taskmanager.TaskStats) sortKey
	cell    func(*row) cell
}

// A sortKey is what tasks are sorted by: by number, then by text.
type sortKey struct {
	number int64
	text   string
	none   bool // there is nothing to sort by
}

func byTime(t time.Time) sortKey { return sortKey{number: t.UnixNano(), none: t.IsZero()} }

// columns are those of the list, from left to right, after the order by default.
var columns = []*column{
	{
		name: "trouble", ofStats: true,
		key: func(s *taskmanager.TaskStats) sortKey { return sortKey{number: int64(troubleOf(s))} },
	},
	{
		name: "name", title: "Task", own: true,
		key:  func(s *taskmanager.TaskStats) sortKey { return sortKey{text: s.Name} },
		cell: func(r *row) cell { return cell{Text: r.path[len(r.path)-1]} },
	},
	{
		name: "state", title: "State",
		key: func(s *taskmanager.TaskStats) sortKey { return sortKey{number: int64(slices.Index(states, s.State))} },
		cell: func(r *row) cell {
			return cell{Text: r.stats.State.String(), Class: "state-" + r.stats.State.String(), Note: r.reason()}
		},
	},
	{
		name: "status", title: "Status", ofStats: true,
		key:  func(s *taskmanager.TaskStats) sortKey { return sortKey{text: s.Status, none: s.Status == ""} },
		cell: func(r *row) cell { return longCell(r.stats.Status) },
	},
	{
		name: "error", title: "Last error", ofStats: true, most: true,
		key: func(s *taskmanager.TaskStats) sortKey { return byTime(s.LastErrorAt) },
		cell: func(r *row) cell {
			c := longCell(strings.TrimPrefix(r.lastError, "taskmanager: "))
			c.Time, c.Kind = r.stats.LastErrorAt, kindAgo
			return c
		},
	},
	{
		name: "failures", title: "Failures", ofStats: true, most: true,
		key:  func(s *taskmanager.TaskStats) sortKey { return sortKey{number: int64(s.Failures)} }, //nolint:gosec // as many as there will ever be
		cell: func(r *row) cell { return countCell(r.stats.Failures) },
	},
	{
		name: "restarts", title: "Restarts", ofStats: true, most: true,
		key:  func(s *taskmanager.TaskStats) sortKey { return sortKey{number: int64(s.RestartsInWindow)} },
		cell: restartsCell,
	},
	{
		name: "runs", title: "Runs", ofStats: true, most: true,
		key:  func(s *taskmanager.TaskStats) sortKey { return sortKey{number: int64(s.Runs)} }, //nolint:gosec // likewise
		cell: func(r *row) cell { return countCell(r.stats.Runs) },
	},
	{
		name: "next", title: "Next", ofStats: true,
		key: func(s *taskmanager.TaskStats) sortKey {
			at, _ := nextOf(s)
			return byTime(at)
		},
		cell: func(r *row) cell {
			at, what := nextOf(&r.stats)
			return cell{Time: at, Kind: kindIn, Note: what}
		},
	},
	{
		name: "uptime", title: "Uptime", ofStats: true, most: true,
		key: func(s *taskmanager.TaskStats) sortKey {
			return sortKey{number: int64(s.Uptime), none: s.RunStartedAt.IsZero()}
		},
		cell: func(r *row) cell { return cell{Time: r.stats.RunStartedAt, Kind: kindFor} },
	},
}

// shown are the columns that the list has.
func shownColumns() []*column { return columns[1:] }

func columnNamed(name string) *column {
	i := slices.IndexFunc(columns, func(c *column) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return columns[i]
}

func columnNames() (names []string) {
	for _, c := range columns {
		names = append(names, c.name)
	}
	return names
}

// nextOf is when the next run or pass of a task begins, and which of the two; zero if that is not known.
func nextOf(s *taskmanager.TaskStats) (at time.Time, what string) {
	switch {
	case !s.NextRunAt.IsZero():
		return s.NextRunAt, "run"
	case s.Passes != nil && !s.Passes.Next.IsZero():
		return s.Passes.Next, "pass"
	}
	return time.Time{}, ""
}

// A cell is what stands in one column of one row.
type cell struct {
	Text  string    `json:"text,omitempty"`
	Note  string    `json:"note,omitempty"`  // after it, less prominent
	Title string    `json:"title,omitempty"` // all of what Text is cut from
	Class string    `json:"class,omitempty"`
	Time  time.Time `json:"time,omitzero"`
	Kind  string    `json:"kind,omitempty"` // how Time is shown
}

// How a time is shown: relative to now, and exactly where one points at it.
const (
	kindAgo = "ago" // in the past
	kindIn  = "in"  // in the future
	kindFor = "for" // how long that is ago
)

const longText = 120 // runes of a status or an error in the list

func longCell(text string) cell {
	c := cell{Text: shorten(text, longText)}
	if c.Text != text {
		c.Title = shorten(text, 4*longText)
	}
	return c
}

func countCell(n uint64) cell {
	if n == 0 {
		return cell{Text: "0", Class: "zero"}
	}
	return cell{Text: strconv.FormatUint(n, 10)}
}

// restartsCell is "3 of 5 in 60 s".
func restartsCell(r *row) cell {
	s := &r.stats
	c := cell{Text: strconv.Itoa(s.RestartsInWindow)}
	if s.RestartsInWindow == 0 {
		c.Class = "zero"
	}
	if s.MaxRestarts == taskmanager.Unlimited {
		c.Note = "in " + durationText(s.RestartWindow)
	} else {
		c.Note = fmt.Sprintf("of %d in %s", s.MaxRestarts, durationText(s.RestartWindow))
	}
	return c
}

// A row is a task in the list.
type row struct {
	id        string
	path      []string
	depth     int
	stats     taskmanager.TaskStats
	lastError string
	trouble   trouble
}

// reason is what is wrong with the task, unless its state says that.
func (r *row) reason() string {
	reason := r.trouble.reason()
	if reason == r.stats.State.String() {
		return ""
	}
	return reason
}

// cells are those of the columns.
func (r *row) cells() []cell {
	cells := make([]cell, 0, len(columns)-1)
	for _, c := range shownColumns() {
		cells = append(cells, c.cell(r))
	}
	return cells
}

// rowsOf looks at some tasks.
func (d *dashboard) rowsOf(places []place) []*row {
	rows, errs := make([]*row, len(places)), make([]error, len(places))
	for i, p := range places {
		r := &row{path: p.task.Path(), depth: p.depth, stats: p.task.StatsWithoutGroup()}
		r.id, r.trouble = d.rowID(r.path), troubleOf(&r.stats)
		rows[i], errs[i] = r, r.stats.LastError
	}
	for i, t := range d.errors.read(errs) {
		rows[i].lastError = t.text
	}
	return rows
}
