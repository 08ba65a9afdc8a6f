package dashboard

import (
	"cmp"
	"html/template"
	"net/http"
	"slices"
	"strings"

	"github.com/go-taskmanager/taskmanager"
)

// mostBoxes is how many tasks a graph shows.
const mostBoxes = 500

// A graphBuilder makes the nodes of a graph. Of more than mostBoxes tasks it leaves out those that have no edges and are well, the rest of
// them by their names.
type graphBuilder struct {
	left    int // how many more nodes there may be
	omitted int
}

// nodes returns those of the tasks of m, and of its groups.
func (b *graphBuilder) nodes(m *taskmanager.Manager, above []string) []graphNode {
	type candidate struct { // there may be very many, so that it is small
		task *taskmanager.Task
		rank int
	}
	var (
		all    []candidate
		needed = make(map[string]bool)
		stats  taskmanager.TaskStats // one for all: it is large
	)
	for t := range m.Tasks() {
		stats = t.StatsWithoutGroup()
		for _, name := range stats.DependsOn {
			needed[name] = true
		}
		c := candidate{task: t, rank: 2}
		switch {
		case len(stats.DependsOn) > 0 || t.Group() != nil:
			c.rank = 0
		case troubleOf(&stats).class() != "":
			c.rank = 1
		}
		all = append(all, c)
	}
	for i := range all {
		if needed[all[i].task.Name()] {
			all[i].rank = 0
		}
	}
	shown := sortFirst(all, b.left, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.task.Name(), b.task.Name()))
	})
	b.left -= len(shown)
	b.omitted += len(all) - len(shown)
	nodes := make([]graphNode, 0, len(shown))
	for i := range shown {
		stats = shown[i].task.StatsWithoutGroup()
		path := append(slices.Clone(above), stats.Name)
		n := nodeOf(path, &stats)
		if group := shown[i].task.Group(); group != nil {
			before := b.omitted
			n.inner = b.nodes(group, path)
			n.more = b.omitted - before
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// graphPage is what the page of all dependencies shows.
type graphPage struct {
	layout

	Graph   template.HTML
	Omitted int
	Any     bool
}

func (d *dashboard) serveGraph(w http.ResponseWriter, r *http.Request) *problem {
	b := graphBuilder{left: mostBoxes}
	nodes := b.nodes(d.manager(), nil)
	page := graphPage{layout: d.layout(r, "graph", "Graph"), Omitted: b.omitted, Any: len(nodes) > 0}
	page.JSONLink = "graph.json"
	if page.Any {
		page.Graph = drawGraph(nodes, "All tasks, and what they depend on")
	}
	writeHTML(w, http.StatusOK, "graph.html", page)
	return nil
}

// A jsonNode is a task of the graph as JSON.
type jsonNode struct {
	Path      []string `json:"path"`
	State     string   `json:"state"`
	Trouble   string   `json:"trouble,omitempty"`
	DependsOn []string `json:"depends_on,omitempty"` // names of tasks beside it
	Group     bool     `json:"group,omitempty"`
}

// serveGraphJSON answers with all tasks, whatever their number.
func (d *dashboard) serveGraphJSON(w http.ResponseWriter, _ *http.Request) *problem {
	nodes := appendJSONNodes([]jsonNode{}, d.manager(), nil)
	slices.SortFunc(nodes, func(a, b jsonNode) int { return slices.Compare(a.Path, b.Path) })
	writeJSON(w, http.StatusOK, struct {
		Tasks []jsonNode `json:"tasks"`
	}{nodes})
	return nil
}

func appendJSONNodes(nodes []jsonNode, m *taskmanager.Manager, above []string) []jsonNode {
	for t := range m.Tasks() {
		s := t.StatsWithoutGroup()
		path, group := append(slices.Clone(above), s.Name), t.Group()
		nodes = append(nodes, jsonNode{path, s.State.String(), troubleOf(&s).reason(), s.DependsOn, group != nil})
		if group != nil {
			nodes = appendJSONNodes(nodes, group, path)
		}
	}
	return nodes
}
