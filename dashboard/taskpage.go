package dashboard

import (
	"cmp"
	"fmt"
	"html/template"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// mostGoroutines is of how many goroutines the page of a task shows without being asked where those of the task are: it takes some 60
// milliseconds.
const mostGoroutines = 10_000

// A taskView is all that there is to say of a task.
type taskView struct {
	row

	task       *taskmanager.Task
	at         time.Time
	history    []taskmanager.Event
	texts      []errorText // of the errors of history
	last       errorText   // of LastError
	dependents []string    // the names of the tasks beside it that depend on it
	below      []*row      // the tasks of a group, the worst first
	totals     *taskmanager.Totals
	boxes      []graphNode // it, and what it depends on, and what depends on it

	stack     string
	stackAt   time.Time
	stackNote string // why there is none
}

// viewOf looks at the task that a request names.
func (d *dashboard) viewOf(r *http.Request) (*taskView, *problem) {
	path := r.URL.Query()["task"]
	if len(path) == 0 {
		return nil, badRequest("The address has no task: it is named as in ?task=NAME.")
	}
	m := d.manager()
	t, ok := lookup(m, path)
	if !ok {
		return nil, &problem{http.StatusNotFound, "There is no task " + quoted(pathText(path)) + "; or it has ended, and was forgotten."}
	}
	v := &taskView{task: t, at: time.Now()}
	v.row = *d.rowsOf([]place{{task: t}})[0]
	v.history = t.History()
	errs := make([]error, 0, len(v.history)+1)
	for _, e := range v.history {
		errs = append(errs, e.Err)
	}
	v.texts = d.errors.read(append(errs, v.stats.LastError))
	v.texts, v.last = v.texts[:len(errs)], v.texts[len(errs)]
	if beside := ownerOf(m, path); beside != nil {
		v.findNeighbors(beside)
	}
	if group := t.Group(); group != nil {
		q, _ := parseListQuery(nil)
		places, _ := find(group, q, &d.errors, usualPerPage)
		v.below = d.rowsOf(places)
		totals := group.Totals()
		v.totals = &totals
	}
	d.findStack(r, v)
	return v, nil
}

// findNeighbors finds the tasks that depend on this one, and those that it depends on, be it by way of others.
func (v *taskView) findNeighbors(m *taskmanager.Manager) {
	all := make(map[string]taskmanager.TaskStats) // those that depend on others, and what they depend on
	needs := make(map[string][]string)
	neededBy := make(map[string][]string)
	for t := range m.Tasks() {
		s := t.StatsWithoutGroup()
		if len(s.DependsOn) == 0 {
			continue
		}
		all[s.Name], needs[s.Name] = s, s.DependsOn
		for _, name := range s.DependsOn {
			neededBy[name] = append(neededBy[name], s.Name)
		}
	}
	v.dependents = neededBy[v.stats.Name]
	slices.Sort(v.dependents)

	const most = 60 // boxes
	drawn := map[string]bool{v.stats.Name: true}
	follow := func(edges map[string][]string) {
		for queue := []string{v.stats.Name}; len(queue) > 0; queue = queue[1:] {
			for _, name := range edges[queue[0]] {
				if !drawn[name] && len(drawn) < most {
					drawn[name] = true
					queue = append(queue, name)
				}
			}
		}
	}
	follow(needs)
	follow(neededBy)
	if len(drawn) == 1 {
		return
	}
	above := v.path[:len(v.path)-1]
	for name := range drawn {
		s, ok := all[name]
		if !ok {
			t, known := m.Lookup(name)
			if !known {
				continue // it is drawn as one that has not been started
			}
			s = t.StatsWithoutGroup()
		}
		n := nodeOf(append(slices.Clone(above), name), &s)
		n.self = name == v.stats.Name
		n.needs = slices.DeleteFunc(n.needs, func(needed string) bool { return !drawn[needed] })
		v.boxes = append(v.boxes, n)
	}
	slices.SortFunc(v.boxes, func(a, b graphNode) int { return cmp.Compare(a.label, b.label) })
}

// nodeOf is a task as graphs show it.
func nodeOf(path []string, s *taskmanager.TaskStats) graphNode {
	return graphNode{
		label: s.Name, state: s.State.String(), href: "task?" + taskQuery(path), trouble: troubleOf(s).class() != "",
		needs: slices.Clone(s.DependsOn), title: troubleOf(s).reason(),
	}
}

// findStack finds where the goroutines of the task are, if that was asked for or takes little time.
func (d *dashboard) findStack(r *http.Request, v *taskView) {
	n := runtime.NumGoroutine()
	switch asked := r.URL.Query().Get("stack"); {
	case v.stats.RunStartedAt.IsZero():
		v.stackNote = "No run executes."
	case asked == "0":
	case asked != "1" && n > mostGoroutines:
		v.stackNote = fmt.Sprintf("To find out takes a dump of all %s goroutines of this process.", numberText(n))
	default:
		stack, at, err := d.stacks.of(r.Context(), v.task)
		if v.stack, v.stackAt = readableStack(string(stack)), at; err == nil && len(stack) == 0 {
			v.stackNote = "No run executes."
		}
	}
}

// A figure is a value of the statistics, with its name.
type figure struct {
	Name  string
	Value cell
}

// figures are those of TaskStats that the page has no other place for, and those of them that it has.
func (v *taskView) figures() (figures []figure) {
	s := &v.stats
	add := func(name string, c cell) { figures = append(figures, figure{name, c}) }
	text := func(name, text string) { add(name, cell{Text: text}) }
	at := func(name string, t time.Time, kind string) {
		if !t.IsZero() {
			add(name, cell{Time: t, Kind: kind})
		}
	}
	text("Ready", yesNo(s.Ready))
	text("Critical", yesNo(s.Critical))
	if len(s.DependsOn) > 0 {
		text("Depends on", someOf(s.DependsOn))
	}
	if len(v.dependents) > 0 {
		text("Needed by", someOf(v.dependents))
	}
	if l := s.Lease; l != nil && l.Token > 0 {
		text("Lease", l.Name+", held with token "+numberText(l.Token))
	} else if l != nil {
		text("Lease", l.Name+", not held here")
	}
	text("Runs", numberText(s.Runs))
	text("Restarts", numberText(s.Restarts))
	text("Failures", numberText(s.Failures))
	text("Panics", numberText(s.Panics))
	add("Restarts within the window", restartsCell(&v.row))
	text("Is restarted", s.RestartPolicy.String())
	text("Failures in a row", numberText(s.ConsecutiveFailures))
	at("Failing since", s.FailingSince, kindAgo)
	at("Started", s.StartedAt, kindAgo)
	at("Run began", s.RunStartedAt, kindAgo)
	if !s.RunStartedAt.IsZero() {
		text("Uptime of the run", durationText(s.Uptime))
	}
	at("Next run", s.NextRunAt, kindIn)
	at("Ended", s.EndedAt, kindAgo)
	at("Last failure", s.LastErrorAt, kindAgo)
	return figures
}

func (v *taskView) passFigures() (figures []figure) {
	p := v.stats.Passes
	if p == nil {
		return nil
	}
	add := func(name string, c cell) { figures = append(figures, figure{name, c}) }
	add("Begun", cell{Text: numberText(p.Begun)})
	add("Failed", cell{Text: numberText(p.Failed)})
	add("Given up", cell{Text: numberText(p.GivenUp)})
	add("Ticks skipped", cell{Text: numberText(p.Skipped)})
	if !p.LastStart.IsZero() {
		add("Last one began", cell{Time: p.LastStart, Kind: kindAgo})
	}
	add("Last one took", cell{Text: durationText(p.LastDuration)})
	if !p.LastSuccess.IsZero() {
		add("Last success", cell{Time: p.LastSuccess, Kind: kindAgo})
	}
	if !p.Next.IsZero() {
		add("Next one", cell{Time: p.Next, Kind: kindIn})
	}
	return figures
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// someOf are the first of some names.
func someOf(names []string) string {
	const most = 20
	if more := len(names) - most; more > 0 {
		return strings.Join(names[:most], ", ") + " and " + numberText(more) + " more"
	}
	return strings.Join(names, ", ")
}

// An eventView is an event of the history.
type eventView struct {
	At    cell
	Kind  string
	Run   uint64
	By    string
	Facts string
	Text  string // of its error
	Stack string
	Class string
}

// events are the history, the latest first.
func (v *taskView) events() (events []eventView) {
	for i := range slices.Backward(v.history) {
		e := &v.history[i]
		events = append(events, eventView{
			At: cell{Time: e.Time, Kind: kindAgo}, Kind: e.Kind.String(), Run: e.Run, By: e.By, Facts: factsOf(e),
			Text: v.texts[i].text, Stack: v.texts[i].stack, Class: classOf(e),
		})
	}
	return events
}

func classOf(e *taskmanager.Event) string {
	switch e.Kind {
	case taskmanager.EventGaveUp, taskmanager.EventStuck, taskmanager.EventPassGaveUp:
		return "bad"
	case taskmanager.EventFailed:
		return "warn"
	}
	return ""
}

// factsOf is what there is to say of an event beside its error.
func factsOf(e *taskmanager.Event) string {
	var facts []string
	if cause := causeText(e.Cause); cause != "" {
		facts = append(facts, cause)
	}
	if e.Uptime > 0 {
		facts = append(facts, "after "+durationText(e.Uptime))
	}
	switch e.Kind {
	case taskmanager.EventFailed:
		facts = append(facts, "restart in "+durationText(e.Delay))
	case taskmanager.EventGaveUp:
		if e.Delay > 0 {
			facts = append(facts, "begins afresh in "+durationText(e.Delay))
		}
	case taskmanager.EventPassGaveUp:
		if e.Delay > 0 {
			facts = append(facts, "next pass in "+durationText(e.Delay))
		}
	case taskmanager.EventRecovered:
		facts = append(facts, counted(e.Failures, "failure")+" before")
	}
	if e.Restarts > 0 && e.Kind != taskmanager.EventRecovered && e.MaxRestarts != taskmanager.Unlimited {
		facts = append(facts, fmt.Sprintf("restarts: %d of %d in %s", e.Restarts, e.MaxRestarts, durationText(e.Window)))
	}
	return strings.Join(facts, ", ")
}

// causeText names a cause that is this library's own: others are the user's errors, and stand in the error of the event.
func causeText(cause error) string {
	if lost := lossOf(cause); lost != nil {
		cause = lost
	}
	for _, known := range []struct {
		cause error
		text  string
	}{
		{taskmanager.ErrStopped, "stopped by hand"},
		{taskmanager.ErrShutdown, "shutdown"},
		{taskmanager.ErrRestarted, "restarted by hand"},
		{taskmanager.ErrReplaced, "replaced"},
		{taskmanager.ErrPaused, "paused by hand"},
		{taskmanager.ErrDependencyLost, "dependency lost"},
		{taskmanager.ErrLeaseLost, "lease lost"},
	} {
		if cause == known.cause { //nolint:errorlint // the methods of another one are not called here
			return known.text
		}
	}
	if cause == nil {
		return ""
	}
	return "the end of the parent context"
}

// lossOf returns [taskmanager.ErrDependencyLost] or [taskmanager.ErrLeaseLost] if cause wraps one of them, and nil otherwise. Only types of
// this library are asked.
func lossOf(cause error) error {
	ours := reflect.TypeFor[taskmanager.Event]().PkgPath()
	if t := reflect.TypeOf(cause); t == nil || t.Kind() != reflect.Pointer || t.Elem().PkgPath() != ours {
		return nil
	}
	if wraps, ok := cause.(interface{ Unwrap() error }); ok {
		lost := wraps.Unwrap()
		if lost == taskmanager.ErrDependencyLost || lost == taskmanager.ErrLeaseLost { //nolint:errorlint // what it wraps is not asked in turn
			return lost
		}
	}
	return nil
}

// taskPage is what the page of a task shows.
type taskPage struct {
	layout

	Path     []string
	Row      *listRow
	Buttons  []button
	Figures  []figure
	Passes   []figure
	Events   []eventView
	Timeline template.HTML
	Graph    template.HTML
	Last     errorText
	Below    []*listRow
	Totals   *taskmanager.Totals
	Columns  []*column
	Stack    string
	StackAt  cell
	Note     string
	More     int // tasks of the group that are not among Below
}

// For the template.
func (t errorText) Text() string  { return t.text }
func (t errorText) Stack() string { return t.stack }
func (c *column) Title() string   { return c.title }
func (c *column) Name() string    { return c.name }

func (d *dashboard) serveTask(w http.ResponseWriter, r *http.Request) *problem {
	v, p := d.viewOf(r)
	if p != nil {
		return p
	}
	page := taskPage{
		layout: d.layout(r, "task", pathText(v.path)), Path: v.path, Row: newListRow(&v.row), Figures: v.figures(), Passes: v.passFigures(),
		Events: v.events(), Last: v.last, Stack: v.stack, StackAt: cell{Time: v.stackAt, Kind: kindAgo}, Note: v.stackNote,
		Buttons: d.offered(r, v.path, fits(&v.stats)), Totals: v.totals, Columns: shownColumns(),
	}
	page.JSONLink, page.TextLink = "task.json?"+taskQuery(v.path), "task.txt?"+taskQuery(v.path)
	if len(v.history) > 0 {
		page.Timeline = drawTimeline(v.history, v.stats, v.at)
	}
	if len(v.boxes) > 0 {
		page.Graph = drawGraph(v.boxes, "What "+v.stats.Name+" depends on, and what depends on it")
	}
	for _, r := range v.below {
		page.Below = append(page.Below, newListRow(r))
	}
	if v.totals != nil {
		page.More = tasksOf(v.totals) - len(v.below)
	}
	writeHTML(w, http.StatusOK, "task.html", page)
	return nil
}

// tasksOf is how many tasks there are.
func tasksOf(t *taskmanager.Totals) (n int) {
	for _, s := range states {
		n += countOf(t, s)
	}
	return n
}
