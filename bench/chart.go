package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

// A panel of the chart compares the sides in one measure. In all of them less is better.
type panel struct {
	title string   // with a %s for how many tasks there are, if works are of several sizes
	works []string // the first that there are values of is shown
	key   string
	unit  unit
}

var (
	parked = []string{"parked/1000000", "parked/100000", "parked/1000"}
	storms = []string{"storm/10000", "storm/500"}
	panels = []panel{
		{"Memory of one of %s", parked, "memory", bytesUnit},
		{"Starting one of %s", parked, "start", nanoseconds},
		{"Stopping one of %s", parked, "stop", nanoseconds},
		{"A restart after an error", []string{"restarts/1"}, "each", nanoseconds},
		{"From a panic to running again, median", []string{"down/panic"}, "p50", nanoseconds},
		{"Starting another task amid a crash storm, p99", storms, "start99", nanoseconds},
		{"Stopping another task amid a crash storm, p99", storms, "stop99", nanoseconds},
	}
)

// The chart's measures, in pixels.
const (
	chartWidth   = 860
	panelColumns = 2
	panelGap     = 36
	margin       = 24
	barHeight    = 16
	rowHeight    = 22
	nameWidth    = 108
	valueWidth   = 70
	headHeight   = 74
	titleHeight  = 26
)

// Both colour schemes have a ground of their own, so that the text is readable on any page.
const chartStyle = `
  .ground { fill: #ffffff; stroke: #d0d7de }
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
  .head { font-size: 18px; font-weight: 600 }
  .title { font-weight: 600 }
  .quiet { fill: #59636e }
  .ours { font-weight: 600 }
  .bar { fill: #afb8c1 }
  .bar.floor { fill: #6e7781 }
  .bar.waits { fill: #dde2e7 }
  .bar.ours { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #3d444d }
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .bar { fill: #565e68 }
    .bar.floor { fill: #8b949e }
    .bar.waits { fill: #262c33 }
    .bar.ours { fill: #4493f8 }
  }
`

// writeChart writes chart.svg to dir.
func writeChart(dir string, r *results) error {
	return os.WriteFile(filepath.Join(dir, "chart.svg"), []byte(chart(r)), 0o644)
}

// chart draws a panel for each measure, and in it a bar for each side that can do the work.
func chart(r *results) string {
	const width = (chartWidth - 2*margin - (panelColumns-1)*panelGap) / panelColumns
	var (
		drawn   []string
		heights [panelColumns]int // of the columns so far
	)
	for _, p := range panels {
		title, bars := r.panel(p)
		if len(bars) == 0 {
			continue
		}
		column := 0
		for i := range heights {
			if heights[i] < heights[column] {
				column = i
			}
		}
		drawn = append(drawn, drawPanel(title, bars, margin+column*(width+panelGap), headHeight+heights[column], width))
		heights[column] += titleHeight + len(bars)*rowHeight + panelGap/2
	}
	height := headHeight + slices.Max(heights[:])

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%d" role="img" aria-label="What supervising costs: taskmanager beside the floor and its peers">`+"\n",
		chartWidth, height, height)
	b.WriteString("<style>" + chartStyle + "</style>\n")
	fmt.Fprintf(&b, `<rect class="ground" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`+"\n", chartWidth-1, height-1)
	drawText(&b, "head", margin, 34, "", "What supervising costs: shorter is better")
	drawText(&b, "quiet", margin, 54, "", "The floor is written by hand: a map, a context, a goroutine and a recover loop. Pale: starts and waits, and restarts nothing.")
	b.WriteString(strings.Join(drawn, ""))
	b.WriteString("</svg>\n")
	return b.String()
}

type bar struct {
	side  side
	value float64
	label string
}

// panel returns the title of a panel and its bars, in the order of the sides.
func (r *results) panel(p panel) (title string, bars []bar) {
	i := slices.IndexFunc(p.works, r.has)
	if i < 0 {
		return "", nil
	}
	for _, s := range sides {
		if v := report.Median(r.Of(p.works[i], s.name, p.key)); !math.IsNaN(v) {
			bars = append(bars, bar{s, v, p.unit.write(v)})
		}
	}
	title = p.title
	if strings.Contains(title, "%s") {
		_, size, _ := strings.Cut(p.works[i], "/")
		n, _ := strconv.Atoi(size) // a test sees that it is a number
		title = fmt.Sprintf(title, counted(n, "task"))
	}
	return title, bars
}

func drawPanel(title string, bars []bar, x, y, width int) string {
	var b strings.Builder
	longest := 0.0
	for _, one := range bars {
		longest = max(longest, one.value)
	}
	drawText(&b, "title", x, y+14, "", title)
	for i, one := range bars {
		class := ""
		switch {
		case one.side.name == ourName:
			class = "ours"
		case one.side.name == floorName:
			class = "floor"
		case one.side.can&restarts == 0:
			class = "waits"
		}
		top := y + titleHeight + i*rowHeight
		length := 1.0
		if longest > 0 {
			length = max(1, one.value/longest*float64(width-nameWidth-valueWidth))
		}
		drawText(&b, class, x+nameWidth-8, top+13, "end", one.side.name)
		fmt.Fprintf(&b, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n",
			strings.TrimSpace("bar "+class), x+nameWidth, top, length, barHeight)
		drawText(&b, class, x+nameWidth+int(length)+6, top+13, "", one.label)
	}
	return b.String()
}

func drawText(b *strings.Builder, class string, x, y int, anchor, text string) {
	fmt.Fprintf(b, `<text x="%d" y="%d"`, x, y)
	if class != "" {
		fmt.Fprintf(b, ` class="%s"`, class)
	}
	if anchor != "" {
		fmt.Fprintf(b, ` text-anchor="%s"`, anchor)
	}
	b.WriteString(">")
	_ = xml.EscapeText(b, []byte(text)) // a Builder returns no errors
	b.WriteString("</text>\n")
}
