package dashboard

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/go-taskmanager/taskmanager"
)

// A place is a task of the list, and how deep it is within groups.
type place struct {
	task  *taskmanager.Task
	depth int
}

// find returns the tasks that q asks for, in its order: the first of them, and how many there are. Where all are asked for they are a
// tree: those of a group follow the group, which stands where the first of them would stand, unless they are sorted by name. Otherwise
// they are a list.
func find(m *taskmanager.Manager, q listQuery, texts *errorTexts, first int) (places []place, total int) {
	f := finder{query: q, text: strings.ToLower(q.text), first: first}
	nodes := f.collect(m, "", 0)
	if q.isFiltered() {
		nodes = f.found(texts)
	}
	return f.appendPlaces(nil, nodes.nodes), f.total
}

// A node is a task in the tree of a Manager and its groups.
type node struct {
	place

	key sortKey // its own, or that of the first of those below it
}

// A finder collects tasks.
type finder struct {
	query listQuery
	text  string // to look for, in lower case
	first int    // how many are to be returned

	total int
	below map[*taskmanager.Task][]node // the first of those of groups

	list   selection // of those that were found, where some only are asked for
	failed []node    // those whose last error may have the text
	errs   []error
}

// A selection has the first of many nodes, in no order.
type selection struct {
	nodes []node
	full  bool // there are as many as are wanted that are not after last
	last  node
}

// add adds a node, unless there are enough that come before it.
func (f *finder) add(s *selection, n node) {
	if s.full && f.compare(n, s.last) >= 0 {
		return
	}
	if s.nodes = append(s.nodes, n); len(s.nodes) >= 2*f.first {
		s.nodes = sortFirst(s.nodes, f.first, f.compare)
		s.full, s.last = true, s.nodes[len(s.nodes)-1]
	}
}

// collect returns the first of the tasks of m, whose paths begin with prefix, and has those of its groups in f.below; or it puts them
// into f.list.
func (f *finder) collect(m *taskmanager.Manager, prefix string, depth int) (all selection) {
	var (
		stats      taskmanager.TaskStats // one for all: it is large
		needsStats = f.text != "" || f.query.sort.ofStats
		filtered   = f.query.isFiltered()
	)
	for t := range m.Tasks() {
		if needsStats {
			stats = t.StatsWithoutGroup()
		} else {
			stats.Name, stats.State = t.Name(), t.State()
		}
		n := node{place{t, depth}, f.query.sort.key(&stats)}
		if filtered {
			f.look(n, prefix, &stats)
		}
		if group := t.Group(); group != nil {
			below := f.collect(group, prefix+t.Name()+"/", depth+1)
			n.key = f.addGroup(&n, below.nodes)
		}
		if !filtered {
			f.add(&all, n)
			f.total++
		}
	}
	return all
}

// look puts a task into the list if it was asked for, or may have been.
func (f *finder) look(n node, prefix string, stats *taskmanager.TaskStats) {
	n.depth = 0
	switch {
	case !f.query.wants(stats.State):
	case f.text == "" || f.isIn(prefix+stats.Name) || f.isIn(stats.Status):
		f.add(&f.list, n)
		f.total++
	case stats.LastError != nil:
		f.failed, f.errs = append(f.failed, n), append(f.errs, stats.LastError)
	}
}

// addGroup keeps the tasks of a group, and returns by what it is sorted.
func (f *finder) addGroup(n *node, below []node) sortKey {
	if len(below) == 0 {
		return n.key
	}
	if f.below == nil {
		f.below = make(map[*taskmanager.Task][]node)
	}
	f.below[n.task] = below
	if best := slices.MinFunc(below, f.compare); !f.query.sort.own && f.compareKeys(best.key, n.key) < 0 {
		return best.key
	}
	return n.key
}

// found returns the list, with those that were found by their errors.
func (f *finder) found(texts *errorTexts) selection {
	for i, t := range texts.read(f.errs) {
		if f.isIn(t.text) {
			f.add(&f.list, f.failed[i])
			f.total++
		}
	}
	return f.list
}

func (f *finder) isIn(text string) bool { return strings.Contains(strings.ToLower(text), f.text) }

// appendPlaces appends nodes in their order, each with those below it, until there are enough.
func (f *finder) appendPlaces(places []place, nodes []node) []place {
	for _, n := range sortFirst(nodes, f.first-len(places), f.compare) {
		if len(places) >= f.first {
			break
		}
		places = append(places, n.place)
		places = f.appendPlaces(places, f.below[n.task])
	}
	return places
}

// sortFirst brings the n first of items to its beginning, in order, and returns them; all if there are no more.
func sortFirst[T any](items []T, n int, compare func(a, b T) int) []T {
	if n <= 0 {
		return nil
	}
	for low, high := 0, len(items)-1; n < len(items) && low < high; {
		pivot := items[low+rand.IntN(high-low+1)] // whatever order they are in
		i, j := low, high
		for i <= j {
			for compare(items[i], pivot) < 0 {
				i++
			}
			for compare(items[j], pivot) > 0 {
				j--
			}
			if i <= j {
				items[i], items[j] = items[j], items[i]
				i++
				j--
			}
		}
		// Now all up to j come before all from i on, and what is between is equal to the pivot.
		switch {
		case n-1 <= j:
			high = j
		case n-1 >= i:
			low = i
		default:
			low = high
		}
	}
	items = items[:min(n, len(items))]
	slices.SortFunc(items, compare)
	return items
}

// compare is the order of siblings, and of a list.
func (f *finder) compare(a, b node) int {
	if c := f.compareKeys(a.key, b.key); c != 0 {
		return c
	}
	if c := strings.Compare(a.task.Name(), b.task.Name()); c != 0 || a.task == b.task {
		return c
	}
	return slices.Compare(a.task.Path(), b.task.Path())
}

// compareKeys compares in the direction that is asked for; what has nothing to compare is the last in both.
func (f *finder) compareKeys(a, b sortKey) int {
	if a.none != b.none {
		if a.none {
			return 1
		}
		return -1
	}
	c := cmp.Compare(a.number, b.number)
	if c == 0 {
		c = strings.Compare(a.text, b.text)
	}
	if f.query.desc {
		return -c
	}
	return c
}

// lookup returns the task of that path, through the latest runs of the groups.
func lookup(m *taskmanager.Manager, path []string) (*taskmanager.Task, bool) {
	for i, name := range path {
		t, ok := m.Lookup(name)
		if !ok || i == len(path)-1 {
			return t, ok
		}
		if m = t.Group(); m == nil {
			return nil, false
		}
	}
	return nil, false
}

// ownerOf returns the Manager of the task of that path: m, or that of the group around the task; nil if the group has gone.
func ownerOf(m *taskmanager.Manager, path []string) *taskmanager.Manager {
	above := path[:len(path)-1]
	if len(above) == 0 {
		return m
	}
	if group, ok := lookup(m, above); ok {
		return group.Group()
	}
	return nil
}
