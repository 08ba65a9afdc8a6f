package dashboard

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// taskNode is a task that runs and needs others.
func taskNode(label string, needs ...string) graphNode {
	return graphNode{label: label, state: "running", href: "task?task=" + label, needs: needs}
}

// Boxes are apart from each other, lines lead from each task to all that it needs and to nothing else, and not through boxes.
func TestGraphGeometry(t *testing.T) {
	for name, nodes := range map[string][]graphNode{
		"nothing":  nil,
		"alone":    {taskNode("a")},
		"chain":    {taskNode("a"), taskNode("b", "a"), taskNode("c", "b")},
		"diamond":  {taskNode("a", "b", "c"), taskNode("b", "d"), taskNode("c", "d"), taskNode("d")},
		"shortcut": {taskNode("a", "b", "d"), taskNode("b", "c"), taskNode("c", "d"), taskNode("d")},
		"absent":   {taskNode("a", "x", "y"), taskNode("b", "y")},
		"groups": {
			taskNode("a", "g"),
			{label: "g", state: "running", needs: []string{"c"}, more: 3, inner: []graphNode{
				taskNode("a", "b"), taskNode("b"), {label: "g", state: "running", inner: []graphNode{taskNode("a", "c", "b")}, needs: []string{"b"}},
			}},
			taskNode("c"),
			{label: "h", state: "running", more: 1},
			taskNode("d", "c"),
		},
		"200 tasks": services(200, 250),
	} {
		t.Run(name, func(t *testing.T) { checkChart(t, newChart(nodes, graphWidth)) })
	}
	rapid.Check(t, func(t *rapid.T) { checkChart(t, newChart(anyNodes(t, 3), graphWidth)) })
}

// services returns tasks as a service has them: a few that are needed by many, and others that need one or two.
func services(tasks, needs int) []graphNode {
	random := rand.New(rand.NewPCG(1, 2))
	nodes := make([]graphNode, tasks)
	for i := range nodes {
		nodes[i] = taskNode(fmt.Sprintf("%s %d", []string{"db", "consumer", "poller", "billing-worker"}[random.IntN(4)], i))
	}
	for range needs {
		from, to := random.IntN(tasks), random.IntN(tasks)
		if random.IntN(2) == 0 {
			to = random.IntN(10)
		}
		if from > to {
			nodes[from].needs = append(nodes[from].needs, nodes[to].label)
		}
	}
	return nodes
}

// anyNodes draws tasks, some of them groups as deep as that, that need each other without a circle.
func anyNodes(t *rapid.T, deep int) []graphNode {
	labels := rapid.SliceOfNDistinct(rapid.StringOfN(rapid.RuneFrom([]rune("ab-日👩é")), 1, 40, -1), 0, 14, rapid.ID).Draw(t, "labels")
	nodes := make([]graphNode, len(labels))
	for i, label := range labels {
		nodes[i] = taskNode(label)
		for range rapid.IntRange(0, 3).Draw(t, "needs") {
			if j := rapid.IntRange(-1, i).Draw(t, "need"); j < 0 {
				nodes[i].needs = append(nodes[i].needs, rapid.SampledFrom([]string{"absent", "missing"}).Draw(t, "absent"))
			} else {
				nodes[i].needs = append(nodes[i].needs, labels[j]) // itself and twice the same, too
			}
		}
		if deep > 0 && rapid.IntRange(0, 4).Draw(t, "group") == 0 {
			nodes[i].inner = anyNodes(t, deep-1)
			nodes[i].more = rapid.IntRange(0, 2).Draw(t, "more")
		}
	}
	return rapid.Permutation(nodes).Draw(t, "order")
}

// checkChart checks the geometry of a chart, and of those in its groups.
func checkChart(t require.TestingT, c *chart) {
	const least = 8 // between a line and a box that it does not belong to
	for i := range c.boxes {
		a := &c.boxes[i]
		require.GreaterOrEqual(t, min(a.x, a.y), 0)
		require.LessOrEqual(t, a.x+a.w, c.w)
		require.LessOrEqual(t, a.y+a.h, c.h)
		require.GreaterOrEqual(t, a.w, boxBeside+labelWidth(a.label), "%q fits", a.label)
		for j := range i {
			b := &c.boxes[j]
			apart := a.x+a.w+boxGap <= b.x || b.x+b.w+boxGap <= a.x || a.y+a.h+boxGap <= b.y || b.y+b.h+boxGap <= a.y
			require.True(t, apart, "%q and %q", a.label, b.label)
		}
		if inner := a.inner; inner != nil {
			require.LessOrEqual(t, inner.w+2*groupPadding, a.w)
			require.LessOrEqual(t, boxHeight+inner.h, a.h)
			checkChart(t, inner)
		}
	}
	for _, l := range c.lines {
		require.LessOrEqual(t, l.x0, l.bend)
		require.Less(t, l.bend, l.x1)
		for i := range c.boxes {
			b := &c.boxes[i]
			if b.x > l.x1 || b.x+b.w < l.x0 || b.y > max(l.y0, l.y1)+least || b.y+b.h < min(l.y0, l.y1)-least {
				continue
			}
			own := b.x == l.x1 && b.middle() == l.y1 || b.x+b.w == l.x0 && b.middle() == l.y0
			l.eachPoint(func(x, y float64) {
				left, right, top, bottom := float64(b.x), float64(b.x+b.w), float64(b.y), float64(b.y+b.h)
				if !own {
					top, bottom = top-least, bottom+least
				}
				if x > left && x < right && y > top && y < bottom {
					require.Fail(t, "a line passes a box", "%+v, %q at %v, %v", l, b.label, x, y)
				}
			})
		}
	}
	// From the middle of its left side, lines lead from a box to all that it needs, and to nothing else.
	leadTo := func(x, y int) []graphLine {
		return slices.DeleteFunc(slices.Clone(c.lines), func(l graphLine) bool { return l.x1 != x || l.y1 != y })
	}
	for i := range c.boxes {
		b := &c.boxes[i]
		var ends []int
		open := leadTo(b.x, b.middle())
		for len(open) > 0 {
			l := open[0]
			open = open[1:]
			if j := slices.IndexFunc(c.boxes, func(b graphBox) bool { return b.x+b.w == l.x0 && b.middle() == l.y0 }); j >= 0 {
				ends = append(ends, j)
				require.Less(t, c.boxes[j].x+c.boxes[j].w+headLength, b.x, "%q is on the left of %q", c.boxes[j].label, b.label)
				require.True(t, c.boxes[j].needed)
			} else {
				on := leadTo(l.x0, l.y0)
				require.Len(t, on, 1, "of lines to one box")
				open = append(open, on...)
			}
		}
		require.Equal(t, b.cut, len(b.needs)-len(ends))
		if b.cut == 0 {
			require.ElementsMatch(t, b.needs, ends, "%q needs %q", b.label, b.node.needs)
		}
	}
}

// eachPoint calls f with points of the line, from the left to the right.
func (l graphLine) eachPoint(f func(x, y float64)) {
	const points = 24
	middle := float64((l.bend + l.x1) / 2)
	for i := range points + 1 {
		f(float64(l.x0)+float64(l.bend-l.x0)*float64(i)/points, float64(l.y0))
	}
	for i := range points + 1 {
		at := float64(i) / points
		back := 1 - at
		f(back*back*back*float64(l.bend)+3*back*at*middle+at*at*at*float64(l.x1), back*back*(1+2*at)*float64(l.y0)+at*at*(1+2*back)*float64(l.y1))
	}
}

// Whatever the needs are, it ends: of a circle one line is left out, and the others are drawn.
func TestGraphOfCircles(t *testing.T) {
	c := newChart([]graphNode{taskNode("a", "b"), taskNode("b", "c"), taskNode("c", "a")}, graphWidth)
	checkChart(t, c)
	assert.Len(t, c.lines, 2)
	rapid.Check(t, func(t *rapid.T) {
		const n = 8
		var nodes []graphNode
		for i := range n {
			nodes = append(nodes, taskNode(strconv.Itoa(i)))
		}
		for _, need := range rapid.SliceOf(rapid.IntRange(0, n*n-1)).Draw(t, "needs") {
			nodes[need/n].needs = append(nodes[need/n].needs, strconv.Itoa(need%n))
		}
		checkChart(t, newChart(nodes, graphWidth))
	})
}

// layered makes a part of nodes that are all connected, with the columns in the order in which they are given.
func layered(t *testing.T, nodes []graphNode) *layering {
	t.Helper()
	c := newChart(nodes, graphWidth)
	parts := c.parts(c.sort())
	require.Len(t, parts, 1)
	return newLayering(c, parts[0])
}

// What can be drawn without crossings is.
func TestGraphCrossings(t *testing.T) {
	name := func(prefix string, i int) string { return prefix + strconv.Itoa(i) }
	twisted := []graphNode{taskNode("root")} // two rows of tasks in opposite orders
	tree := []graphNode{taskNode("0")}
	var full, grid []graphNode
	for i := range 8 {
		twisted = append(twisted, taskNode(name("a", i), "root"), taskNode(name("b", i), name("a", 7-i)))
	}
	for i := 63; i > 0; i-- {
		tree = append(tree, taskNode(strconv.Itoa(i), strconv.Itoa((i-1)/2)))
	}
	for i := range 3 {
		full = append(full, taskNode(name("a", i)), taskNode(name("b", i), "a0", "a1", "a2"))
		for j := range 3 {
			n := taskNode(fmt.Sprint(i, j))
			if i > 0 {
				n.needs = append(n.needs, fmt.Sprint(i-1, j))
			}
			if j > 0 {
				n.needs = append(n.needs, fmt.Sprint(i, j-1))
			}
			grid = append(grid, n)
		}
	}
	for name, c := range map[string]struct {
		nodes []graphNode
		want  int
	}{
		"two by two":     {[]graphNode{taskNode("a"), taskNode("b"), taskNode("c", "a", "b"), taskNode("d", "a", "b")}, 1},
		"three by three": {full, 9},
		"ladder": {[]graphNode{
			taskNode("r"), taskNode("a", "r"), taskNode("b", "r"), taskNode("c", "b"), taskNode("d", "a"), taskNode("e", "c"), taskNode("f", "d"), taskNode("g", "e", "f"),
		}, 0},
		"twisted": {twisted, 0},
		"tree":    {tree, 0},
		"grid":    {grid, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := layered(t, c.nodes)
			l.arrange()
			assert.Equal(t, c.want, l.crossings())
		})
	}
	l := layered(t, []graphNode{taskNode("r"), taskNode("a", "r"), taskNode("b", "r"), taskNode("c", "b"), taskNode("d", "a")})
	assert.Equal(t, 1, l.crossings(), "as they come")
}

// The count is that of all pairs.
func TestGraphCountsCrossings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChart(anyNodes(t, 0), graphWidth)
		for _, members := range c.parts(c.sort()) {
			l := newLayering(c, members)
			before := pairsThatCross(l)
			require.Equal(t, before, l.crossings())
			l.arrange()
			require.Equal(t, pairsThatCross(l), l.crossings())
			require.LessOrEqual(t, l.crossings(), before)
		}
	})
}

func pairsThatCross(l *layering) int {
	n := 0
	for a := range l.vertices {
		for b := range a {
			v, w := &l.vertices[a], &l.vertices[b]
			for _, i := range v.left {
				for _, j := range w.left {
					if v.column == w.column && (v.at-w.at)*(l.vertices[i].at-l.vertices[j].at) < 0 {
						n++
					}
				}
			}
		}
	}
	return n
}

// Lines that need not bend don't, and what branches is in the middle of its branches.
func TestGraphIsStraight(t *testing.T) {
	chain := []graphNode{taskNode("0")}
	for i := 1; i < 9; i++ {
		chain = append(chain, taskNode(strconv.Itoa(i), strconv.Itoa(i-1)))
	}
	c := newChart(append(chain, taskNode("end", "8", "0")), graphWidth)
	bent := 0
	for _, l := range c.lines {
		if l.y0 != l.y1 {
			bent++
		}
	}
	assert.Equal(t, 4, bent, "at both ends of the long line, which passes all others")

	// Lines that pass between the boxes of several columns are straight there, but where one of them meets the other.
	nodes := []graphNode{taskNode("db"), taskNode("queue", "db")}
	for i := range 60 {
		nodes = append(nodes, taskNode(strconv.Itoa(i), []string{"db", "queue"}[:1+i%3/2]...))
	}
	c = newChart(nodes, graphWidth)
	bent = 0
	for _, l := range c.lines {
		from := slices.ContainsFunc(c.boxes, func(b graphBox) bool { return b.x+b.w == l.x0 })
		to := slices.ContainsFunc(c.boxes, func(b graphBox) bool { return b.x == l.x1 && b.middle() == l.y1 })
		if !from && !to && l.y0 != l.y1 {
			bent++
		}
	}
	assert.LessOrEqual(t, bent, 1)

	c = newChart([]graphNode{taskNode("a"), taskNode("b", "a"), taskNode("c", "a"), taskNode("d", "b", "c")}, graphWidth)
	y := func(i int) int { return c.boxes[i].middle() }
	assert.Equal(t, y(0), y(3))
	assert.Equal(t, y(0)-y(1), y(2)-y(0))
}

// A column is no higher than a screen or two: what 100 tasks need has them in several columns.
func TestGraphIsNotHigh(t *testing.T) {
	nodes := []graphNode{taskNode("db")}
	for i := range 100 {
		nodes = append(nodes, taskNode(strconv.Itoa(i), "db"))
	}
	c := newChart(nodes, graphWidth)
	assert.Less(t, c.h, 1600)
	assert.Less(t, c.w, 2000)
	assert.Zero(t, c.cut)

	c = newChart(services(200, 0), graphWidth)
	assert.LessOrEqual(t, c.w, graphWidth)
	assert.Less(t, c.h, 200/5*(boxHeight+boxGap))
	assert.Empty(t, c.lines)
}

// Large graphs take little time. Where lines would pass too many columns, they are cut short.
func TestGraphOfManyTasks(t *testing.T) {
	const tasks = 2000
	random := rand.New(rand.NewPCG(3, 4))
	for name, c := range map[string]struct {
		need func(i int) int
		cut  bool
	}{
		"any":          {func(i int) int { return random.IntN(i) }, false},
		"a few":        {func(i int) int { return random.IntN(min(i, 40)) }, false},
		"a long chain": {func(i int) int { return i - 1 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := []graphNode{taskNode("0")}
			for i := 1; i < tasks; i++ {
				nodes = append(nodes, taskNode(strconv.Itoa(i), strconv.Itoa(c.need(i)), strconv.Itoa(random.IntN(i))))
			}
			begun := time.Now()
			picture := string(drawGraph(nodes, "Tasks"))
			assert.Less(t, time.Since(begun), 10*time.Second) // 0.1 s, where nothing else runs
			assert.Equal(t, c.cut, strings.Contains(picture, `class="cut"`))
			assert.Equal(t, c.cut, strings.Contains(picture, "are cut short"))
		})
	}
}

func BenchmarkGraph(b *testing.B) {
	for _, tasks := range []int{20, 200, 2000} {
		b.Run(strconv.Itoa(tasks), func(b *testing.B) {
			nodes := services(tasks, 2*tasks)
			for b.Loop() {
				drawGraph(nodes, "Tasks")
			}
		})
	}
}

// The same nodes give the same picture.
func TestGraphIsTheSameEachTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := anyNodes(t, 2)
		picture := drawGraph(nodes, "Tasks")
		require.Equal(t, picture, drawGraph(nodes, "Tasks"))
	})
}

// An element is one of a picture, as a browser would see it.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Text     string     `xml:",chardata"`
	Children []element  `xml:",any"`
}

func (e *element) attr(name string) string {
	for _, a := range e.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// all returns those elements within e that have the name.
func (e *element) all(name string) []element {
	var found []element
	for i := range e.Children {
		if c := &e.Children[i]; c.XMLName.Local == name {
			found = append(found, *c)
		}
		found = append(found, e.Children[i].all(name)...)
	}
	return found
}

// of returns those elements within e that have the class.
func (e *element) of(class string) []element {
	var found []element
	for i := range e.Children {
		if c := &e.Children[i]; slices.Contains(strings.Fields(c.attr("class")), class) {
			found = append(found, *c)
		}
		found = append(found, e.Children[i].of(class)...)
	}
	return found
}

// parsePicture returns the picture, of which nothing must be missing or too much, nor anything that the policy of the pages forbids.
func parsePicture(t require.TestingT, picture string) *element {
	d := xml.NewDecoder(strings.NewReader(picture))
	var e element
	require.NoError(t, d.Decode(&e))
	_, err := d.Token()
	require.ErrorIs(t, err, io.EOF, "there is one element")
	for _, name := range []string{"script", "style", "foreignObject", "image", "use"} {
		require.Empty(t, e.all(name))
	}
	var check func(e *element)
	check = func(e *element) {
		for _, a := range e.Attrs {
			require.NotEqual(t, "style", a.Name.Local)
			require.False(t, strings.HasPrefix(a.Name.Local, "on"), a.Name.Local)
		}
		for i := range e.Children {
			check(&e.Children[i])
		}
	}
	check(&e)
	return &e
}

var hostileLabels = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onload='alert(1)`, `</title></svg><b>`, `&amp;&lt;`, `]]>`, `<!--`, `%s%d`,
	"..", "a/b", "a//b", "100%", " ", "\u200b", "\u202eoverride", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 a b", "é́́́́́́́́́",
	strings.Repeat("👩", 63), strings.Repeat("👩\u200d", 36), strings.Repeat("\ufdfd", 85), strings.Repeat("\u0301", 127), "\xff\xfe", "\ufffe", "",
}

// Names are text, wherever they are.
func TestGraphOfHostileNames(t *testing.T) {
	valid := func(s string) string { // what XML can't say is replaced
		return strings.ReplaceAll(string([]rune(s)), "\ufffe", "\ufffd")
	}
	for _, name := range hostileLabels {
		t.Run(fmt.Sprintf("%+q", name), func(t *testing.T) {
			nodes := []graphNode{
				{label: name, state: name, href: "task?task=" + name, title: name, needs: []string{"absent " + name}, trouble: true, self: true},
				{label: "g" + name, state: "running", inner: []graphNode{taskNode(name)}},
			}
			picture := string(drawGraph(nodes, name))
			require.True(t, utf8.ValidString(picture))
			svg := parsePicture(t, picture)
			assert.True(t, strings.HasPrefix(svg.attr("aria-label"), valid(name)+". An arrow"))
			links := svg.all("a")
			require.Len(t, links, 2)
			assert.Equal(t, valid("task?task="+name), links[0].attr("href"))
			titles := links[0].all("title")
			require.Len(t, titles, 1)
			assert.Equal(t, strings.TrimSuffix(valid(name+": "+name+"; depends on absent "+name+"\n"+name), "\n"), titles[0].Text)
			checkChart(t, newChart(nodes, graphWidth))
		})
	}
}

func TestGraphLabels(t *testing.T) {
	for label, want := range map[string]string{
		"consumer":                  "consumer",
		"exactly-22-columns-wid":    "exactly-22-columns-wid",
		"exactly-23-columns-wide":   "exactly-23-…lumns-wide",
		"日本語の名前はとても長いです":            "日本語の名…も長いです",
		"abc\u202edef":              "abcdef",
		"\u200b\u200b":              `"\u200b\u200b"`,
		"":                          `""`,
		"e\u0301\u0301\u0301\u0301": "e\u0301\u0301",
	} {
		assert.Equal(t, want, cutLabel(label))
	}
	rapid.Check(t, func(t *rapid.T) {
		label := rapid.String().Draw(t, "label")
		cut := cutLabel(label)
		require.NotEmpty(t, cut)
		require.True(t, utf8.ValidString(cut))
		require.LessOrEqual(t, labelWidth(cut), int(math.Ceil(7.4*labelMost)))
		require.Equal(t, cut, cutLabel(cut), "once is enough")
	})
}

// Whoever uses a keyboard or a screen reader finds each task as a link that says its name, its state and what it needs.
func TestGraphIsAccessible(t *testing.T) {
	svg := parsePicture(t, string(drawGraph([]graphNode{
		{label: "api", state: "waiting", href: "task?task=api", needs: []string{"db", "cache"}, title: "since 12:00", self: true},
		{label: "db", state: "failed", href: "task?task=db", trouble: true},
		{label: "workers", state: "running", href: "task?task=workers", inner: []graphNode{taskNode("w1")}, more: 7},
		{label: "many", state: "running", needs: strings.Split("a b c d e f g h i j k l", " ")},
	}, "All tasks")))
	assert.Equal(t, "group", svg.attr("role"))
	assert.Equal(t, "All tasks. An arrow leads from a task to one that it depends on.", svg.attr("aria-label"))
	assert.Equal(t, fmt.Sprintf("-2 -2 %s %s", svg.attr("width"), svg.attr("height")), svg.attr("viewBox"))

	titles := make(map[string]string)
	for _, a := range svg.all("a") {
		assert.NotEmpty(t, a.all("text"), "it is seen, too")
		titles[a.attr("href")] = a.all("title")[0].Text
	}
	assert.Equal(t, map[string]string{
		"task?task=api": "api: waiting; depends on db, cache\nsince 12:00", "task?task=db": "db: failed",
		"task?task=workers": "workers: running", "task?task=w1": "w1: running",
	}, titles)
	self := svg.of("self")
	require.Len(t, self, 1)
	assert.Equal(t, "page", self[0].attr("aria-current"))
	assert.Len(t, svg.of("trouble"), 1)
	group := svg.of("group")
	require.Len(t, group, 1)
	assert.Equal(t, []string{"group", "group workers"}, []string{group[0].attr("role"), group[0].attr("aria-label")})
	assert.Equal(t, "and 7 more", group[0].of("more")[0].Text)
	assert.Len(t, group[0].all("a"), 2)
	absent := svg.of("state-absent")
	require.Len(t, absent, 13)
	assert.Equal(t, "cache: not started", absent[0].all("title")[0].Text)
	var many element
	for _, g := range svg.of("node") {
		if text := g.all("text"); text[0].Text == "many" {
			many = g
		}
	}
	assert.Equal(t, "many: running; depends on a, b, c, d, e, f, g, h, i, j and 2 more", many.all("title")[0].Text)
	for _, lines := range svg.of("line") {
		assert.NotEmpty(t, lines.attr("d"))
	}

	svg = parsePicture(t, string(drawGraph([]graphNode{taskNode("a")}, "All tasks")))
	assert.Equal(t, "All tasks", svg.attr("aria-label"), "without lines, nothing is said of them")
	assert.Empty(t, svg.of("line"))
}
