package dashboard

import (
	"cmp"
	"math"
	"slices"
)

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
