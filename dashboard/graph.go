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
