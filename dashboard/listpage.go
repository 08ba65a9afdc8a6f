package dashboard

import (
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/go-taskmanager/taskmanager"
)

// listPage is what the list shows.
type listPage struct {
	layout

	Query   listQuery
	Totals  []totalLink
	Counts  taskmanager.Totals
	Columns []header
	Rows    []*listRow
	Buttons []button
	Return  string // the query of this list
	Total   int
	First   int
	Last    int
	Pages   int
	Pager   []pagerLink
	All     bool // whether all that are listed, on all pages, may be selected at once
	States  []stateBox
	PerPage []perOption
}

type totalLink struct {
	State string
	Count int
	Link  string
}

type header struct {
	Name, Title, Link, Sort string // Sort: "ascending", "descending" or empty
}

type listRow struct {
	*row

	Cells      []listCell
	selectable bool // it has a checkbox
	flat       bool // it stands in a list and not in a tree, so its groups are named
}

type listCell struct {
	cell

	Column string
}

// HTML is the row in a table. A page has so many cells that a template for each would take most of its time, and that what HTML does
// not ask for, quotes and the ends of cells, is a fifth of its bytes.
func (r *listRow) HTML() template.HTML {
	var b strings.Builder
	escaped := template.HTMLEscapeString
	b.WriteString("<tr data-id=" + r.id)
	if class := r.trouble.class(); class != "" {
		b.WriteString(" class=" + class)
	}
	b.WriteString(">")
	query := escaped(taskQuery(r.path))
	if r.selectable {
		b.WriteString(`<td class=select><input type=checkbox name=select value="` + query + `" aria-label="Select ` +
			escaped(pathText(r.path)) + `">`)
	}
	for i := range r.Cells {
		c := &r.Cells[i]
		if c.Column != "name" {
			c.write(&b)
			continue
		}
		b.WriteString(`<th scope=row class="name`)
		if depth := min(r.depth, 6); depth > 0 && !r.flat {
			b.WriteString(" depth-" + strconv.Itoa(depth))
		}
		b.WriteString(`">`)
		if above := r.path[:len(r.path)-1]; r.flat && len(above) > 0 {
			b.WriteString("<small>" + escaped(pathText(above)) + " / </small>")
		}
		b.WriteString(`<a href="task?` + query + `"><bdi>` + escaped(c.Text) + "</bdi></a>")
	}
	return template.HTML(b.String()) //nolint:gosec // what is not ours is escaped
}

// isPlain reports whether the cell has a number, and nothing else.
func (c *listCell) isPlain() bool { return c.Column == "failures" || c.Column == "runs" }

// write writes a cell as the template "cell" does.
func (c *listCell) write(b *strings.Builder) {
	escaped := template.HTMLEscapeString
	b.WriteString(`<td class="` + c.Column)
	if c.Class != "" {
		b.WriteString(" " + c.Class)
	}
	b.WriteString(`">`)
	switch {
	case c.isPlain():
		b.WriteString(c.Text)
	case c.Text != "":
		b.WriteString("<bdi")
		if c.Title != "" {
			b.WriteString(` title="` + escaped(c.Title) + `"`)
		}
		b.WriteString(">" + escaped(c.Text) + "</bdi>")
	}
	if c.Note != "" {
		b.WriteString(" <small>" + escaped(c.Note) + "</small>")
	}
	if c.HasTime() {
		b.WriteString(" <time datetime=" + machineTime(c.Time) + " data-kind=" + c.Kind)
		if c.IsPoint() {
			b.WriteString(` title="` + exactText(c.Time) + `"`)
		}
		b.WriteString(">" + c.Relative() + "</time>")
	}
}

// For the template.
func (r *listRow) ID() string      { return r.id }
func (r *listRow) Path() []string  { return r.path }
func (r *listRow) Trouble() string { return r.trouble.class() }
func (r *listRow) State() string   { return r.stats.State.String() }
func (r *listRow) IsIdle() bool    { return r.stats.RunStartedAt.IsZero() }
func (q listQuery) Text() string   { return q.text }
func (q listQuery) Sort() string   { return q.sort.name }
func (q listQuery) Desc() bool     { return q.desc }
func (q listQuery) Page() int      { return q.page }
func (q listQuery) Per() int       { return q.per }
func (q listQuery) IsFlat() bool   { return q.isFiltered() }
func (q listQuery) IsSorted() bool { return q.sort.name != "trouble" || q.desc }

type pagerLink struct{ Title, Link string }

type stateBox struct {
	Name    string
	Checked bool
}

type perOption struct {
	N        int
	Selected bool
}

// listOf finds the tasks of one page.
func (d *dashboard) listOf(r *http.Request) (q listQuery, places []place, total int, p *problem) {
	if q, p = parseListQuery(r.URL.Query()); p != nil {
		return q, nil, 0, p
	}
	places, total = find(d.manager(), q, &d.errors, q.page*q.per)
	if pages := pagesOf(total, q.per); q.page > pages {
		if r.URL.Query().Has("did") { // an action leads back to a page whose tasks it may have taken away
			q.page = pages
			return q, places[(q.page-1)*q.per:], total, nil
		}
		return q, nil, 0, &problem{http.StatusNotFound, fmt.Sprintf("There is no page %d: the last one is %d.", q.page, pages)}
	}
	return q, places[min((q.page-1)*q.per, len(places)):], total, nil
}

func pagesOf(total, per int) int { return max(1, (total+per-1)/per) }

func (d *dashboard) serveList(w http.ResponseWriter, r *http.Request) *problem {
	q, places, total, p := d.listOf(r)
	if p != nil {
		return p
	}
	rows := d.rowsOf(places)
	page := listPage{
		layout: d.layout(r, "list", "Tasks"), Query: q, Counts: d.manager().Totals(), Total: total, Pages: pagesOf(total, q.per),
		Return: q.values().Encode(), All: total <= mostSelected && total > len(places),
		Buttons: d.offered(r, nil, func(ActionName) bool { return true }),
	}
	page.JSONLink, page.TextLink = q.link("tasks.json"), q.link("tasks.txt")
	page.First, page.Last = min(total, (q.page-1)*q.per+1), (q.page-1)*q.per+len(rows)
	for _, r := range rows {
		listed := newListRow(r)
		listed.selectable, listed.flat = len(page.Buttons) > 0, q.isFiltered()
		page.Rows = append(page.Rows, listed)
	}
	for _, c := range shownColumns() {
		page.Columns = append(page.Columns, headerOf(c, q))
	}
	for _, s := range states {
		page.Totals = append(page.Totals, totalLink{s.String(), countOf(&page.Counts, s), "./?state=" + s.String()})
		page.States = append(page.States, stateBox{s.String(), slices.Contains(q.states, s)})
	}
	for _, n := range []int{50, usualPerPage, 250, mostPerPage} {
		page.PerPage = append(page.PerPage, perOption{n, n == q.per})
	}
	if !slices.ContainsFunc(page.PerPage, func(o perOption) bool { return o.Selected }) {
		page.PerPage = append(page.PerPage, perOption{q.per, true})
	}
	page.Pager = q.pager(page.Pages)
	writeHTML(w, http.StatusOK, "list.html", page)
	return nil
}

func newListRow(r *row) *listRow {
	l := &listRow{row: r}
	for i, c := range r.cells() {
		l.Cells = append(l.Cells, listCell{c, shownColumns()[i].name})
	}
	return l
}

func headerOf(c *column, q listQuery) header {
	h := header{Name: c.name, Title: c.title}
	to := q
	to.sort, to.desc, to.page = c, c.most, 1
	if q.sort == c {
		h.Sort, to.desc = "ascending", !q.desc
		if q.desc {
			h.Sort = "descending"
		}
	}
	h.Link = to.link("./")
	return h
}

// pager are the links to other pages.
func (q listQuery) pager(pages int) (links []pagerLink) {
	add := func(title string, page int) {
		to := q
		to.page = page
		links = append(links, pagerLink{title, to.link("./")})
	}
	if q.page > 1 {
		add("First", 1)
		add("Previous", q.page-1)
	}
	if q.page < pages {
		add("Next", q.page+1)
		add("Last", pages)
	}
	return links
}

// countOf is how many tasks are in a state.
func countOf(t *taskmanager.Totals, s taskmanager.State) int {
	switch s {
	case taskmanager.StateWaiting:
		return t.Waiting
	case taskmanager.StateRunning:
		return t.Running
	case taskmanager.StateBackoff:
		return t.Backoff
	case taskmanager.StateStopping:
		return t.Stopping
	case taskmanager.StateStuck:
		return t.Stuck
	case taskmanager.StatePaused:
		return t.Paused
	case taskmanager.StateCompleted:
		return t.Completed
	case taskmanager.StateFailed:
		return t.Failed
	case taskmanager.StateStopped:
		return t.Stopped
	}
	return 0
}
