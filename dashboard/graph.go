package dashboard

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
	"unicode"
)

// A graphNode is a task in a drawing of the dependencies.
type graphNode struct {
	label   string
	state   string // as State.String says
	href    string // of its page; empty for none
	title   string // what there is to say besides, in its tooltip
	trouble bool
	self    bool        // the task whose page it is
	needs   []string    // labels of nodes beside it, in the same slice
	inner   []graphNode // of a Group
	more    int         // how many further inner tasks are not drawn
}

func (n *graphNode) isGroup() bool { return len(n.inner) > 0 || n.more > 0 }

// absent is the state of a task that another one needs and that is not there.
const absent = "absent"

// Sizes in pixels. Those of boxes are even, so that each has a middle.
const (
	graphWidth     = 1120 // of the whole, unless one part of it needs more
	boxHeight      = 42
	boxLeast       = 92 // the width of a box with a short label
	boxBeside      = 38 // of that width, what the label does not get
	labelMost      = 22 // columns of a label, beyond which it is cut
	boxGap         = 14 // between boxes above one another
	lineGap        = 10 // between lines, and between a line and a box
	columnGap      = 52 // at least, between columns of boxes
	columnGapMost  = 150
	partGap        = 28 // between parts that no line joins
	groupPadding   = 16
	groupMore      = 22 // of the line that says how many are not drawn
	headLength     = 8  // of an arrow's head
	headHalf       = 4
	cutLength      = 18 // of a line that is cut short
	columnLeast    = 640
	legendHeight   = 28
	mostBends      = 20_000  // beyond which long lines are cut short
	orderingEffort = 200_000 // vertices and lines looked at while their order is sought
	mostExchanged  = 8_000   // vertices and lines beyond which single ones are not exchanged
)

// drawGraph draws tasks, and arrows from each to those that it needs, as SVG. What is needed stands on the left. Tasks without
// arrows stand below, groups are boxes around theirs. The same nodes give the same picture.
//
// The lines to one task are drawn as one tree, for they mean the same: that keeps 200 tasks that need the same database legible.
func drawGraph(nodes []graphNode, title string) template.HTML {
	c := newChart(nodes, graphWidth)
	name := title
	legend := ""
	if c.hasLines() {
		legend = "An arrow leads from a task to one that it depends on."
		if c.cut > 0 {
			legend += fmt.Sprintf(" %d long ones are cut short, and dashed: the tooltip of the task has their ends.", c.cut)
		}
		name += ". " + legend
	}
	const margin = 2 // for what is drawn around a box
	w, h := c.w+2*margin, c.h+2*margin
	if legend != "" {
		h += legendHeight
		w = max(w, int(6.2*float64(len(legend))))
	}
	var d graphDrawing
	fmt.Fprintf(&d.Builder, `<svg xmlns="http://www.w3.org/2000/svg" class="graph" width="%d" height="%d" viewBox="%d %d %d %d" role="group" aria-label="`,
		w, h, -margin, -margin, w, h)
	d.text(name)
	d.WriteString(`">` + "\n")
	d.chart(c, 0, 0)
	if legend != "" {
		fmt.Fprintf(&d.Builder, `<text class="legend" aria-hidden="true" x="0" y="%d">`, c.h+legendHeight-8)
		d.text(legend)
		d.WriteString("</text>\n")
	}
	d.WriteString("</svg>")
	return template.HTML(d.String()) // every text in it is escaped by graphDrawing.text
}

// A graphDrawing is SVG in the making.
type graphDrawing struct{ strings.Builder }

// text writes s as text, or as the value of an attribute.
func (d *graphDrawing) text(s string) {
	_ = xml.EscapeText(d, []byte(s)) // a Builder takes everything
}

// chart draws c with its upper left corner at x, y.
func (d *graphDrawing) chart(c *chart, x, y int) {
	d.lines(c, x, y)
	for i := range c.boxes {
		d.box(&c.boxes[i], x, y)
	}
}

// lines draws the lines of c, which a screen reader is told of with each task. Each is one path of all curves of a kind, so that where two of
// them have a piece in common it is not drawn twice.
func (d *graphDrawing) lines(c *chart, x, y int) {
	if !c.hasLines() {
		return
	}
	d.WriteString(`<g aria-hidden="true"><path class="line" d="`)
	for _, l := range c.lines {
		fmt.Fprintf(&d.Builder, "M%d %dH%d", x+l.x0, y+l.y0, x+l.bend)
		if l.y0 == l.y1 {
			fmt.Fprintf(&d.Builder, "H%d", x+l.x1)
		} else {
			middle := (l.bend + l.x1) / 2
			fmt.Fprintf(&d.Builder, "C%d %d %d %d %d %d", x+middle, y+l.y0, x+middle, y+l.y1, x+l.x1, y+l.y1)
		}
	}
	d.WriteString(`"/><path class="head" d="`)
	for i := range c.boxes {
		if b := &c.boxes[i]; b.needed {
			fmt.Fprintf(&d.Builder, "M%d %dl%d %dv%dz", x+b.x+b.w, y+b.middle(), headLength, -headHalf, 2*headHalf)
		}
	}
	d.WriteString(`"/>`)
	if c.cut > 0 {
		d.WriteString(`<path class="cut" d="`)
		for i := range c.boxes {
			if b := &c.boxes[i]; b.cut > 0 {
				fmt.Fprintf(&d.Builder, "M%d %dh%d", x+b.x, y+b.middle(), -cutLength)
			}
		}
		d.WriteString(`"/>`)
	}
	d.WriteString("</g>\n")
}

// box draws a task, and what is in it. The name of a link is its title.
func (d *graphDrawing) box(b *graphBox, x, y int) {
	x, y = x+b.x, y+b.y
	n := b.node
	classes := "node state-" + n.state
	if n.trouble {
		classes += " trouble"
	}
	if n.self {
		classes += " self"
	}
	end := "</g>\n"
	if b.inner != nil {
		d.WriteString(`<g role="group" aria-label="`)
		d.text("group " + n.label)
		d.WriteString(`" class="group `)
		d.text(classes)
		fmt.Fprintf(&d.Builder, `"><rect class="frame" x="%d" y="%d" width="%d" height="%d" rx="8"/>`+"\n", x, y, b.w, b.h)
	}
	if n.href != "" {
		end = "</a>\n"
		d.WriteString(`<a href="`)
		d.text(n.href)
		d.WriteString(`" `)
		if n.self {
			d.WriteString(`aria-current="page" `)
		}
	} else {
		d.WriteString("<g ")
	}
	d.WriteString(`class="`)
	if b.inner != nil {
		d.WriteString("heading ")
	}
	d.text(classes)
	d.WriteString(`"><title>`)
	d.text(b.tooltip())
	fmt.Fprintf(&d.Builder, `</title><rect class="box" x="%d" y="%d" width="%d" height="%d" rx="6"/><circle class="dot" cx="%d" cy="%d" r="4"/>`,
		x, y, b.w, boxHeight, x+13, y+16)
	fmt.Fprintf(&d.Builder, `<text x="%d" y="%d"`, x+24, y+20)
	if !isSimple(b.label) {
		// How wide its runes are, only the font knows.
		fmt.Fprintf(&d.Builder, ` textLength="%d" lengthAdjust="spacingAndGlyphs"`, labelWidth(b.label))
	}
	d.WriteString(">")
	d.text(b.label)
	fmt.Fprintf(&d.Builder, `</text><text class="state" x="%d" y="%d">`, x+24, y+34)
	d.text(b.stateText())
	d.WriteString("</text>" + end)
	if b.inner == nil {
		return
	}
	d.chart(b.inner, x+groupPadding, y+boxHeight+groupPadding/2)
	if n.more > 0 {
		fmt.Fprintf(&d.Builder, `<text class="more" x="%d" y="%d">and %d more</text>`, x+groupPadding, y+b.h-groupPadding/2-2, n.more)
	}
	d.WriteString("</g>\n")
}

// A chart is a graph that has been laid out: some tasks beside one another, and the lines between them.
type chart struct {
	w, h  int
	boxes []graphBox
	lines []graphLine
	cut   int // lines that are cut short, those in groups included
}

func (c *chart) hasLines() bool {
	return len(c.lines) > 0 || c.cut > 0 || slices.ContainsFunc(c.boxes, func(b graphBox) bool { return b.inner != nil && b.inner.hasLines() })
}

// A graphBox is a task in a chart. Its place is relative to that of the chart.
type graphBox struct {
	node       *graphNode
	label      string // as it is drawn
	x, y, w, h int
	needs      []int  // boxes of the chart
	inner      *chart // of a group
	needed     bool   // a line leads to it
	cut        int    // lines from it that are cut short
}

func (b *graphBox) middle() int { return b.y + b.h/2 }

func (b *graphBox) stateText() string {
	if b.node.state == absent {
		return "not started"
	}
	return b.node.state
}

// tooltip says what the box shows, whole, and what its lines do.
func (b *graphBox) tooltip() string {
	const most = 10
	text := b.node.label + ": " + b.stateText()
	if needs := b.node.needs; len(needs) > 0 {
		text += "; depends on " + strings.Join(needs[:min(most, len(needs))], ", ")
		if len(needs) > most {
			text += fmt.Sprintf(" and %d more", len(needs)-most)
		}
	}
	if b.node.title != "" {
		text += "\n" + b.node.title
	}
	return text
}

// A graphLine leads from a box, or from where another line has ended, to the right: straight from x0 to bend, and from there in a curve.
type graphLine struct{ x0, bend, y0, x1, y1 int }

// newChart lays out nodes, if possible within width.
func newChart(nodes []graphNode, width int) *chart {
	c := &chart{boxes: make([]graphBox, len(nodes), len(nodes)+4)}
	for i := range nodes {
		c.boxes[i] = newGraphBox(&nodes[i])
		if inner := c.boxes[i].inner; inner != nil {
			c.cut += inner.cut
		}
	}
	c.resolve()
	order := c.sort()
	var parts []part
	var alone []int
	for _, members := range c.parts(order) {
		if b := &c.boxes[members[0]]; len(members) == 1 && b.inner == nil {
			alone = append(alone, members[0])
			continue
		}
		parts = append(parts, newLayering(c, members).layOut())
	}
	slices.Sort(alone) // as they were given
	c.pack(parts, alone, width)
	return c
}

func newGraphBox(n *graphNode) graphBox {
	b := graphBox{node: n, label: cutLabel(n.label), h: boxHeight}
	b.w = even(max(boxLeast, boxBeside+labelWidth(b.label)))
	if !n.isGroup() {
		return b
	}
	area := 0
	for i := range n.inner {
		inner := &n.inner[i]
		area += (max(boxLeast, boxBeside+labelWidth(cutLabel(inner.label))) + boxGap) * (boxHeight + boxGap)
	}
	b.inner = newChart(n.inner, int(math.Sqrt(1.8*float64(area)))) // wider than high, as a screen is
	b.w = even(max(b.w, b.inner.w+2*groupPadding))
	b.h = boxHeight
	if b.inner.h > 0 {
		b.h = even(b.h + groupPadding/2 + b.inner.h + groupPadding)
	}
	if n.more > 0 {
		b.h += groupMore
	}
	return b
}

func even(n int) int { return n + n&1 }

// resolve finds the boxes that each one needs, and adds one for each that is not there.
func (c *chart) resolve() {
	byLabel := make(map[string]int, len(c.boxes))
	for i := range c.boxes {
		if label := c.boxes[i].node.label; !has(byLabel, label) {
			byLabel[label] = i
		}
	}
	for i := 0; i < len(c.boxes); i++ {
		seen := make(map[int]bool, len(c.boxes[i].node.needs))
		for _, need := range c.boxes[i].node.needs {
			j, ok := byLabel[need]
			if !ok {
				j = len(c.boxes)
				byLabel[need] = j
				c.boxes = append(c.boxes, newGraphBox(&graphNode{label: need, state: absent}))
			}
			if !seen[j] {
				seen[j] = true
				c.boxes[i].needs = append(c.boxes[i].needs, j)
			}
		}
	}
}

func has(m map[string]int, key string) bool {
	_, ok := m[key]
	return ok
}

// sort returns the boxes so that each comes after those that it needs, and forgets lines that would close a circle.
func (c *chart) sort() []int {
	const (
		unseen = iota
		entered
		left
	)
	order, state, next := make([]int, 0, len(c.boxes)), make([]uint8, len(c.boxes)), make([]int, len(c.boxes))
	var path []int
	for i := range c.boxes {
		if state[i] != unseen {
			continue
		}
		path, state[i] = append(path, i), entered
		for len(path) > 0 {
			b := path[len(path)-1]
			if next[b] == len(c.boxes[b].needs) {
				path, state[b] = path[:len(path)-1], left
				order = append(order, b)
				continue
			}
			need := c.boxes[b].needs[next[b]]
			switch state[need] {
			case entered:
				c.boxes[b].needs = slices.Delete(c.boxes[b].needs, next[b], next[b]+1)
				continue
			case unseen:
				path, state[need] = append(path, need), entered
			}
			next[b]++
		}
	}
	return order
}

// parts returns the boxes of each part that hangs together, as they stand in order.
func (c *chart) parts(order []int) [][]int {
	parent := make([]int, len(c.boxes))
	for i := range parent {
		parent[i] = i
	}
	root := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	for i := range c.boxes {
		for _, need := range c.boxes[i].needs {
			if a, b := root(i), root(need); a < b {
				parent[b] = a
			} else {
				parent[a] = b
			}
		}
	}
	var parts [][]int
	at := make(map[int]int)
	for _, b := range order {
		r := root(b)
		i, ok := at[r]
		if !ok {
			i = len(parts)
			at[r] = i
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], b)
	}
	return parts
}

// A part is what hangs together, laid out at 0, 0.
type part struct {
	w, h  int
	boxes []int
	lines []graphLine
}

// pack gives the parts their places: in rows, the highest ones first; and below them those boxes that stand alone.
func (c *chart) pack(parts []part, alone []int, width int) {
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(b.h, a.h) })
	x, y, row := 0, 0, 0
	for _, p := range parts {
		if x > 0 && x+p.w > width {
			x, y, row = 0, y+row+partGap, 0
		}
		for _, i := range p.boxes {
			c.boxes[i].x += x
			c.boxes[i].y += y
		}
		for _, l := range p.lines {
			c.lines = append(c.lines, graphLine{l.x0 + x, l.bend + x, l.y0 + y, l.x1 + x, l.y1 + y})
		}
		c.w, row = max(c.w, x+p.w), max(row, p.h)
		x += p.w + 2*partGap
	}
	c.h = y + row
	if len(alone) == 0 {
		return
	}
	if len(parts) > 0 {
		c.h += partGap
	}
	w := 0
	for _, i := range alone {
		w = max(w, c.boxes[i].w)
	}
	columns := max(1, (max(width, c.w)+boxGap)/(w+boxGap))
	rows := (len(alone) + columns - 1) / columns
	for at, i := range alone {
		b := &c.boxes[i] // in columns from top to bottom, as lists are read
		b.x, b.y, b.w = at/rows*(w+boxGap), c.h+at%rows*(boxHeight+boxGap), w
		c.w = max(c.w, b.x+w)
	}
	c.h += rows*(boxHeight+boxGap) - boxGap
}

// A layering is a part while it is laid out, by the method of Sugiyama: boxes in columns, one to the right of all that it needs; in each
// column between the two ends of a line a vertex where that passes; an order of the vertices of each column that has few crossings; and
// then a y for each.
type layering struct {
	chart    *chart
	members  []int // boxes, each after those that it needs
	vertices []vertex
	columns  [][]int32 // vertices from top to bottom
}

// A vertex is a box, or a place where lines to one box pass a column.
type vertex struct {
	box         int // or -1
	column, at  int32
	y           int     // of its middle
	left, right []int32 // vertices of the columns beside, in no order
}

func (l *layering) height(v int32) int {
	if box := l.vertices[v].box; box >= 0 {
		return l.chart.boxes[box].h
	}
	return 0
}

// apart is how far the middles of two vertices are apart that stand above each other.
func (l *layering) apart(a, b int32) int {
	gap := lineGap
	if l.vertices[a].box >= 0 && l.vertices[b].box >= 0 {
		gap = boxGap
	}
	return (l.height(a)+l.height(b))/2 + gap
}

func newLayering(c *chart, members []int) *layering {
	l := &layering{chart: c, members: members}
	l.connect(l.assign())
	return l
}

// assign gives each box its column. A column that would become too high goes on in the next one.
func (l *layering) assign() map[int]int {
	boxes, area := l.chart.boxes, 0.0
	for _, i := range l.members {
		area += float64((boxes[i].w + columnGap) * (boxes[i].h + boxGap))
	}
	most := max(columnLeast, int(math.Sqrt(area/1.3)))
	column, nearest := make(map[int]int, len(l.members)), make(map[int]int, len(l.members))
	var filled []int
	place := func(i, col int) {
		for len(filled) <= col {
			filled = append(filled, 0)
		}
		filled[col] += boxes[i].h + boxGap
		column[i] = col
	}
	fits := func(i, col int) bool {
		return col >= len(filled) || filled[col] == 0 || filled[col]+boxes[i].h <= most
	}
	for _, i := range l.members {
		col := 0
		for _, need := range boxes[i].needs {
			col = max(col, column[need]+1)
		}
		for !fits(i, col) {
			col++
		}
		place(i, col)
	}
	// What needs nothing itself stands next to the first that needs it.
	for _, i := range l.members {
		for _, need := range boxes[i].needs {
			if near, ok := nearest[need]; !ok || column[i] < near {
				nearest[need] = column[i]
			}
		}
	}
	for _, i := range l.members {
		if near, ok := nearest[i]; ok && len(boxes[i].needs) == 0 && near-1 > column[i] && fits(i, near-1) {
			filled[column[i]] -= boxes[i].h + boxGap
			place(i, near-1)
		}
	}
	// None is left empty.
	number, used := make([]int, len(filled)), 0
	for col, height := range filled {
		number[col] = used
		if height > 0 {
			used++
		}
	}
	for _, i := range l.members {
		column[i] = number[column[i]]
	}
	l.columns = make([][]int32, used)
	return column
}

// connect makes the vertices. All lines to one box share those where they pass.
func (l *layering) connect(column map[int]int) {
	boxes := l.chart.boxes
	longest := l.longest(column)
	reach := make(map[int]int, len(l.members)) // the last column in which lines to a box pass
	for _, i := range l.members {
		for _, need := range boxes[i].needs {
			if column[i]-column[need] <= longest {
				reach[need] = max(reach[need], column[i]-1)
			}
		}
	}
	trunks := make(map[int]int32, len(l.members)) // the vertex of a box; those where its lines pass follow
	add := func(box, col int) int32 {
		v := int32(len(l.vertices))
		l.vertices = append(l.vertices, vertex{box: box, column: int32(col), at: int32(len(l.columns[col]))})
		l.columns[col] = append(l.columns[col], v)
		return v
	}
	join := func(left, right int32) {
		l.vertices[left].right = append(l.vertices[left].right, right)
		l.vertices[right].left = append(l.vertices[right].left, left)
	}
	for _, i := range l.members {
		v := add(i, column[i])
		trunks[i] = v
		for _, need := range boxes[i].needs {
			if column[i]-column[need] > longest {
				boxes[i].cut++
				l.chart.cut++
				continue
			}
			boxes[need].needed = true
			join(trunks[need]+int32(column[i]-column[need]-1), v)
		}
		for col := column[i] + 1; col <= reach[i]; col++ {
			bend := add(-1, col)
			join(bend-1, bend)
		}
	}
}

// longest returns how many columns a line may span without being cut short.
func (l *layering) longest(column map[int]int) int {
	boxes := l.chart.boxes
	for longest := len(l.columns); ; longest /= 2 {
		bends, reach := 0, make(map[int]int)
		for _, i := range l.members {
			for _, need := range boxes[i].needs {
				if span := column[i] - column[need]; span <= longest && span-1 > reach[need] {
					bends += span - 1 - reach[need]
					reach[need] = span - 1
				}
			}
		}
		if bends <= mostBends {
			return longest
		}
	}
}

// layOut gives the boxes their places.
func (l *layering) layOut() part {
	l.arrange()
	l.balance()
	return l.place()
}

// arrange seeks an order of each column with few crossings: it moves each vertex to the mean of its neighbors on one side, column by
// column, to and fro, and then exchanges what is better exchanged.
func (l *layering) arrange() {
	size := len(l.vertices)
	for i := range l.vertices {
		size += len(l.vertices[i].left)
	}
	sweeps := min(max(orderingEffort/size, 4), 24)
	best, fewest := l.copyOrder(), l.crossings()
	for i, stale := 0, 0; i < sweeps && stale < 6 && (fewest > 0 || i == 0); i++ {
		l.sweep(i%2 == 1, i%4 >= 2)
		if size <= mostExchanged {
			l.exchange()
		}
		if n := l.crossings(); n < fewest || n == fewest && i == 0 { // the first one has also centered
			best, fewest, stale = l.copyOrder(), n, 0
		} else {
			stale++
		}
	}
	l.columns = best
	for _, column := range l.columns {
		l.number(column)
	}
}

func (l *layering) copyOrder() [][]int32 {
	order := make([][]int32, len(l.columns))
	for i, column := range l.columns {
		order[i] = slices.Clone(column)
	}
	return order
}

// number notes the places of the vertices of a column.
func (l *layering) number(column []int32) {
	for at, v := range column {
		l.vertices[v].at = int32(at)
	}
}

// sweep orders the columns by the means of the neighbors on the left, or from the right to the left by those on the right. Of equal means the one
// that was above stays there, or, reversed, goes below.
func (l *layering) sweep(fromRight, reversed bool) {
	var moving []meant
	for i := range l.columns {
		if fromRight {
			i = len(l.columns) - 1 - i
		}
		moving = moving[:0]
		for _, v := range l.columns[i] {
			beside := l.vertices[v].left
			if fromRight {
				beside = l.vertices[v].right
			}
			if len(beside) > 0 {
				sum := 0
				for _, u := range beside {
					sum += int(l.vertices[u].at)
				}
				moving = append(moving, meant{v, float64(sum) / float64(len(beside))})
			}
		}
		if reversed {
			slices.Reverse(moving)
		}
		slices.SortStableFunc(moving, func(a, b meant) int { return cmp.Compare(a.mean, b.mean) })
		for from, to := 0, 0; from < len(moving); from = to {
			for to = from + 1; to < len(moving) && moving[to].mean == moving[from].mean; to++ {
			}
			l.center(moving[from:to], fromRight)
		}
		// Those without neighbors there stay where they are.
		next := 0
		for at, v := range l.columns[i] {
			if beside := &l.vertices[v]; fromRight && len(beside.right) > 0 || !fromRight && len(beside.left) > 0 {
				l.columns[i][at] = moving[next].v
				next++
			}
		}
		l.number(l.columns[i])
	}
}

// A meant is a vertex that is moved to the mean of its neighbors.
type meant struct {
	v    int32
	mean float64
}

// center moves those that have neighbors also on the other side into the middle of all with the same mean: so that what these lead to stays
// level with what they come from.
func (l *layering) center(equal []meant, fromRight bool) {
	if len(equal) < 3 {
		return
	}
	var ends, onward []meant
	for _, m := range equal {
		if beside := &l.vertices[m.v]; fromRight && len(beside.left) > 0 || !fromRight && len(beside.right) > 0 {
			onward = append(onward, m)
		} else {
			ends = append(ends, m)
		}
	}
	half := len(ends) / 2
	copy(equal[copy(equal[copy(equal, ends[:half]):], onward)+half:], ends[half:])
}

// exchange exchanges vertices that stand above each other, where that saves crossings.
func (l *layering) exchange() {
	const rounds = 3
	var a, b []int32
	for range rounds {
		saved := false
		for _, column := range l.columns {
			for at := range len(column) - 1 {
				upper, lower := &l.vertices[column[at]], &l.vertices[column[at+1]]
				now, then := 0, 0
				for _, beside := range [2][2][]int32{{upper.left, lower.left}, {upper.right, lower.right}} {
					a, b = l.places(a, beside[0]), l.places(b, beside[1])
					now += inversions(a, b)
					then += inversions(b, a)
				}
				if then < now {
					column[at], column[at+1] = column[at+1], column[at]
					upper.at, lower.at = lower.at, upper.at
					saved = true
				}
			}
		}
		if !saved {
			return
		}
	}
}

// places returns where vertices stand in their column, in order, in buf.
func (l *layering) places(buf, vertices []int32) []int32 {
	buf = buf[:0]
	for _, v := range vertices {
		buf = append(buf, l.vertices[v].at)
	}
	slices.Sort(buf)
	return buf
}

// inversions counts the pairs of a number of a and a smaller one of b; both are in order.
func inversions(a, b []int32) int {
	n, smaller := 0, 0
	for _, x := range a {
		for smaller < len(b) && b[smaller] < x {
			smaller++
		}
		n += smaller
	}
	return n
}

// crossings counts the pairs of lines between two columns that cross.
func (l *layering) crossings() int {
	total := 0
	var places, sums []int32
	for i := 1; i < len(l.columns); i++ {
		// sums is a Fenwick tree of how many lines begin at each place on the left.
		sums = append(sums[:0], make([]int32, len(l.columns[i-1])+1)...)
		lines := int32(0)
		for _, v := range l.columns[i] {
			places = l.places(places, l.vertices[v].left)
			for _, at := range places {
				above := int32(0)
				for k := at + 1; k > 0; k &= k - 1 {
					above += sums[k]
				}
				total += int(lines - above)
			}
			for _, at := range places {
				for k := at + 1; int(k) < len(sums); k += k & -k {
					sums[k]++
				}
			}
			lines += int32(len(places))
		}
	}
	return total
}

// balance gives each vertex its y: near to its neighbors, and so that long lines are straight where they can be.
func (l *layering) balance() {
	for _, column := range l.columns { // at first, each column is as short as it can be, and in the middle
		y := 0
		for at, v := range column {
			if at > 0 {
				y += l.apart(column[at-1], v)
			}
			l.vertices[v].y = y
		}
		for _, v := range column {
			l.vertices[v].y -= y / 2
		}
	}
	const rounds = 6
	for range rounds {
		for i := range l.columns {
			l.settle(l.columns[i], true, false)
		}
		for _, column := range slices.Backward(l.columns) {
			l.settle(column, false, true)
		}
	}
	for range rounds {
		for i := range l.columns {
			l.settle(l.columns[i], true, true)
		}
		l.straighten()
	}
	l.level()
	l.straighten()
}

// settle moves the vertices of a column to the means of their neighbors on the left, on the right, or both: those that come too near to each
// other as one block, to the mean of all that they want. The sum of the squares of what is left between where vertices want to be and where
// they are is the least possible.
func (l *layering) settle(column []int32, left, right bool) {
	type block struct{ n, weight, sum int } // of wishes, less the distance from the first vertex of the column
	mean := func(b block) int { return floorDiv(b.sum, b.weight) }
	var blocks []block
	offset := 0
	for at, v := range column {
		if at > 0 {
			offset += l.apart(column[at-1], v)
		}
		weight, sum := 0, 0
		wish := func(beside []int32) {
			for _, u := range beside {
				w := 2
				if l.vertices[u].box < 0 && l.vertices[v].box < 0 {
					w = 64
				}
				weight, sum = weight+w, sum+w*l.vertices[u].y
			}
		}
		if left {
			wish(l.vertices[v].left)
		}
		if right {
			wish(l.vertices[v].right)
		}
		if weight == 0 {
			weight, sum = 1, l.vertices[v].y
		}
		b := block{1, weight, sum - weight*offset}
		for len(blocks) > 0 && mean(blocks[len(blocks)-1]) >= mean(b) {
			last := blocks[len(blocks)-1]
			b = block{b.n + last.n, b.weight + last.weight, b.sum + last.sum}
			blocks = blocks[:len(blocks)-1]
		}
		blocks = append(blocks, b)
	}
	at, offset := 0, 0
	for _, b := range blocks {
		for range b.n {
			if at > 0 {
				offset += l.apart(column[at-1], column[at])
			}
			l.vertices[column[at]].y = mean(b) + offset
			at++
		}
	}
}

func floorDiv(a, b int) int {
	q := a / b
	if a%b != 0 && a < 0 {
		q--
	}
	return q
}

// straighten gives the vertices of a line that does not branch the same y, where there is room for that.
func (l *layering) straighten() {
	var run []int32
	for v := range l.vertices {
		if len(l.vertices[v].left) == 1 && l.next(l.vertices[v].left[0]) == int32(v) {
			continue // is reached from there
		}
		run = run[:0]
		sum, from, to := 0, math.MinInt, math.MaxInt
		level := func() {
			for _, u := range run {
				l.vertices[u].y = min(max(floorDiv(sum, len(run)), from), to)
			}
		}
		for u := int32(v); u >= 0; u = l.next(u) {
			above, below := l.room(u)
			if max(from, above) > min(to, below) {
				level()
				run, sum, from, to = run[:0], 0, math.MinInt, math.MaxInt
			}
			run, sum, from, to = append(run, u), sum+l.vertices[u].y, max(from, above), min(to, below)
		}
		level()
	}
}

// level moves columns as a whole, where that makes more lines straight: a line that rises by two pixels looks like a mistake.
func (l *layering) level() {
	const most = 20
	shift := 0
	for _, column := range l.columns {
		var steps []int // of the lines that could be straight
		for _, v := range column {
			l.vertices[v].y += shift
			if left := l.vertices[v].left; len(left) == 1 && l.next(left[0]) == v {
				if step := l.vertices[left[0]].y - l.vertices[v].y; -most <= step && step <= most {
					steps = append(steps, step)
				}
			}
		}
		step := mostFrequent(steps)
		for _, v := range column {
			l.vertices[v].y += step
		}
		shift += step
	}
}

// mostFrequent returns the most frequent of numbers, of several the smallest one that is not 0, or 0 if there are none.
func mostFrequent(numbers []int) int {
	slices.Sort(numbers)
	best, most := 0, 0
	for from, to := 0, 0; from < len(numbers); from = to {
		for to = from; to < len(numbers) && numbers[to] == numbers[from]; to++ {
		}
		n, size := to-from, max(numbers[from], -numbers[from])
		if n > most || n == most && (best == 0 || size > 0 && size < max(best, -best)) {
			best, most = numbers[from], n
		}
	}
	return best
}

// next returns the vertex with which the line goes straight on from v, or -1.
func (l *layering) next(v int32) int32 {
	from := &l.vertices[v]
	for _, u := range from.right {
		if to := &l.vertices[u]; len(to.left) == 1 && (len(from.right) == 1 || from.box < 0 && to.box < 0) {
			return u
		}
	}
	return -1
}

// room returns between which y v may be, between those above and below it.
func (l *layering) room(v int32) (from, to int) {
	from, to = math.MinInt, math.MaxInt
	column, at := l.columns[l.vertices[v].column], l.vertices[v].at
	if at > 0 {
		from = l.vertices[column[at-1]].y + l.apart(column[at-1], v)
	}
	if int(at) < len(column)-1 {
		to = l.vertices[column[at+1]].y - l.apart(v, column[at+1])
	}
	return from, to
}

// place moves the part to 0, 0, and makes its boxes and lines.
func (l *layering) place() part {
	boxes := l.chart.boxes
	top := math.MaxInt
	for v := range l.vertices {
		top = min(top, l.vertices[v].y-l.height(int32(v))/2)
	}
	p := part{boxes: l.members}
	for v := range l.vertices {
		l.vertices[v].y -= top
		p.h = max(p.h, l.vertices[v].y+l.height(int32(v))/2)
	}
	left, right := make([]int, len(l.columns)), make([]int, len(l.columns))
	for i, column := range l.columns {
		if i > 0 {
			left[i] = right[i-1] + l.gap(column)
		}
		// Boxes of a column are of one width, but for groups.
		w, common := 0, 0
		for _, v := range column {
			if box := l.vertices[v].box; box >= 0 {
				w = max(w, boxes[box].w)
				if boxes[box].inner == nil {
					common = max(common, boxes[box].w)
				}
			}
		}
		right[i] = left[i] + w
		for _, v := range column {
			if box := l.vertices[v].box; box >= 0 {
				b := &boxes[box]
				if b.x, b.y = left[i], l.vertices[v].y-b.h/2; b.inner == nil {
					b.w = common
				}
			}
		}
		p.w = right[i]
	}
	for v := range l.vertices {
		to := &l.vertices[v]
		for _, u := range to.left {
			from := &l.vertices[u]
			line := graphLine{x0: left[from.column], bend: right[from.column], y0: from.y, x1: left[to.column], y1: to.y}
			if from.box >= 0 {
				line.x0 = boxes[from.box].x + boxes[from.box].w
				line.bend += headLength
			}
			p.lines = append(p.lines, line)
		}
	}
	return p
}

// gap is how wide the space is on the left of a column: wide enough for its steepest line.
func (l *layering) gap(column []int32) int {
	steepest := 0
	for _, v := range column {
		for _, u := range l.vertices[v].left {
			steepest = max(steepest, l.vertices[v].y-l.vertices[u].y, l.vertices[u].y-l.vertices[v].y)
		}
	}
	return even(min(columnGap+steepest/8, columnGapMost))
}

// labelWidth is how wide a label is in pixels, at most, in the monospaced fonts of the browsers.
func labelWidth(label string) int {
	n := 0
	for _, r := range label {
		n += columnsOf(r)
	}
	return (74*n + 9) / 10
}

// cutLabel returns a label as it is drawn: one that is too wide without its middle, and without what can't be seen and changes how
// the rest is drawn.
func cutLabel(label string) string {
	const marksInARow = 2 // more of them reach into other lines
	var runes []rune
	width, marks := 0, 0
	for _, r := range label {
		n := columnsOf(r)
		if n > 0 {
			marks = 0
		} else if marks++; marks > marksInARow || !unicode.IsPrint(r) && r != joiner {
			continue
		}
		runes, width = append(runes, r), width+n
	}
	if width == 0 {
		return cutLabel(fmt.Sprintf("%+q", label))
	}
	if width <= labelMost {
		return string(runes)
	}
	head, tail := 0, len(runes)
	for n := columnsOf(runes[0]); n <= labelMost/2; n += columnsOf(runes[head]) {
		head++
	}
	for n := columnsOf(runes[tail-1]); n < labelMost/2; n += columnsOf(runes[tail-1]) {
		tail--
	}
	for tail < len(runes) && columnsOf(runes[tail]) == 0 { // belongs to what is cut
		tail++
	}
	for head > 0 && runes[head-1] == joiner {
		head--
	}
	return string(runes[:head]) + "…" + string(runes[tail:])
}

const joiner = '\u200d' // within an emoji that is made of several

// columnsOf is how many columns of a monospaced font a rune takes.
func columnsOf(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case unicode.Is(wideRunes, r):
		return 2
	}
	return 1
}

// isSimple reports whether a label has none but runes that every monospaced font has.
func isSimple(label string) bool {
	for _, r := range label {
		if r >= 0x250 && r != '…' {
			return false
		}
	}
	return true
}

// wideRunes are East Asian ones, and pictures.
var wideRunes = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x1100, 0x115f, 1},
		{0x231a, 0x231b, 1},
		{0x23e9, 0x23fa, 1},
		{0x2600, 0x27bf, 1},
		{0x2b1b, 0x2b55, 1},
		{0x2e80, 0x303e, 1},
		{0x3041, 0xa4cf, 1},
		{0xac00, 0xd7a3, 1},
		{0xf900, 0xfaff, 1},
		{0xfe30, 0xfe6f, 1},
		{0xff00, 0xff60, 1},
		{0xffe0, 0xffe6, 1},
	},
	R32: []unicode.Range32{{0x1f000, 0x1faff, 1}, {0x20000, 0x3fffd, 1}},
}
