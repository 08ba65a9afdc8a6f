// Package picture draws messages of the fake Discord as its clients show them, and what becomes of
// leases, for the documentation. Its tests make the pictures in docs; go test ./internal/picture
// -update renews them.
package picture

import (
	"encoding/xml"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

// A Theme is a set of colors, as SVG writes them.
type Theme struct {
	background, text, bright, muted string
	box, code, codeBorder           string // of an embed, and of a code block in it
	mention                         string
	highlight, highlightBar         string // of a message that notifies somebody
	laneColors
}

// The themes of the clients.
var (
	Light = Theme{
		background: "#ffffff", text: "#313338", bright: "#060607", muted: "#5c5e66",
		box: "#f2f3f5", code: "#f9f9fa", codeBorder: "#e0e1e4",
		mention:   "#4048b8",
		highlight: "#fef8ea", highlightBar: "#f0b132",
		laneColors: laneColors{runs: "#1a7f37", runsText: "#ffffff", returns: "#f0b132", returnsText: "#060607", lost: "#cf222e"},
	}
	Dark = Theme{
		background: "#313338", text: "#dbdee1", bright: "#f2f3f5", muted: "#a3a9b2",
		box: "#2b2d31", code: "#1e1f22", codeBorder: "#1a1b1e",
		mention:   "#d4d7fc",
		highlight: "#444037", highlightBar: "#f0b132",
		laneColors: laneColors{runs: "#238636", runsText: "#ffffff", returns: "#f0b132", returnsText: "#060607", lost: "#ff8182"},
	}
)

// Sizes in pixels. How wide a font is differs from one machine to the next: what must not overflow
// is broken into lines by the width of a wide font.
const (
	width      = 640
	margin     = 16
	left       = 72 // of what stands right of an author's picture
	boxWidth   = 520
	padding    = 16 // within an embed
	lineHeight = 20
	codeHeight = 17
	fontSize   = 14
	codeSize   = 12
	codeChar   = 7.3 // the width of a character of code
	textChar   = 8   // of any other, about
)

// SVG draws messages, the first at the top. Text in them is escaped; nothing in them is markup of
// the picture.
func SVG(messages []discordtest.Message, title string, theme Theme) string {
	d := drawing{Theme: theme, y: margin}
	for i := range messages {
		d.message(&messages[i])
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">`+"\n", width, d.y, width, d.y)
	fmt.Fprintf(&b, "<title>%s</title>\n", escape(title))
	fmt.Fprintf(&b, `<style>text{font-size:%dpx;font-family:"gg sans","Noto Sans","Helvetica Neue",Helvetica,Arial,sans-serif}`+
		`.code{font-size:%dpx;font-family:Consolas,"Andale Mono",Menlo,"DejaVu Sans Mono",monospace}`+
		`.bold{font-weight:bold}.small{font-size:12px}.tag{font-size:10px;font-weight:bold}</style>`+"\n",
		fontSize, codeSize)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="8" fill="%s"/>`+"\n", width, d.y, theme.background)
	b.WriteString(d.b.String())
	b.WriteString("</svg>\n")
	return b.String()
}

// A drawing grows downwards.
type drawing struct {
	Theme
	b strings.Builder
	y int // where the next thing begins
}

func (d *drawing) message(m *discordtest.Message) {
	// What lies behind is drawn first, and its height is known last.
	inner := drawing{Theme: d.Theme, y: d.y}
	inner.header(m)
	for _, line := range lines(m.Spans(m.Content), boxWidth/textChar) {
		inner.line(left, boxWidth, line)
	}
	if m.Content != "" {
		inner.y += 4
	}
	for i := range m.Embeds {
		inner.embed(m, &m.Embeds[i])
	}
	if len(m.Notified) > 0 {
		d.rect(0, d.y-8, width, inner.y-d.y+8, 0, d.highlight)
		d.rect(0, d.y-8, 2, inner.y-d.y+8, 0, d.highlightBar)
	}
	d.b.WriteString(inner.b.String())
	d.y = inner.y + margin
}

// header draws the author and the time.
func (d *drawing) header(m *discordtest.Message) {
	const blurple = "#5865f2"
	fmt.Fprintf(&d.b, `<circle cx="%d" cy="%d" r="20" fill="%s"/>`+"\n", margin+20, d.y+20, blurple)
	first, _ := utf8.DecodeRuneInString(m.Author)
	fmt.Fprintf(&d.b, `<text x="%d" y="%d" text-anchor="middle" class="bold" fill="#ffffff">%s</text>`+"\n", margin+20, d.y+25, escape(string(first)))
	fmt.Fprintf(&d.b, `<text x="%d" y="%d"><tspan class="bold" fill="%s">%s</tspan>`, left, d.y+14, d.bright, escape(m.Author))
	fmt.Fprintf(&d.b, `<tspan class="tag" fill="%s" dx="6">APP</tspan>`, d.mention)
	fmt.Fprintf(&d.b, `<tspan class="small" fill="%s" dx="8">%s</tspan></text>`+"\n", d.muted, m.Time.UTC().Format("2006-01-02 15:04"))
	d.y += 24
}

func (d *drawing) embed(m *discordtest.Message, e *discordtest.Embed) {
	const bar, inside = 4, left + padding
	inner := drawing{Theme: d.Theme, y: d.y + padding/2}
	columns := boxWidth - 2*padding
	for _, line := range lines(m.Spans(e.Title), columns/textChar) {
		for i := range line {
			line[i].Style |= discordtest.Bold
		}
		inner.line(inside, columns, line)
	}
	for _, line := range lines(m.Spans(e.Description), columns/textChar) {
		inner.line(inside, columns, line)
	}
	for _, row := range e.Rows() {
		inner.fields(m, inside, columns/3, row)
	}
	if last := e.LastLine(); last != "" {
		fmt.Fprintf(&inner.b, `<text x="%d" y="%d" class="small" fill="%s">%s</text>`+"\n", inside, inner.y+18, d.muted, escape(last))
		inner.y += lineHeight
	}
	height := inner.y + padding/2 - d.y
	d.rect(left, d.y, boxWidth, height, 4, d.box)
	d.rect(left, d.y, bar, height, 2, fmt.Sprintf("#%06x", e.Color))
	d.b.WriteString(inner.b.String())
	d.y += height + 8
}

// fields draws the fields of one row.
func (d *drawing) fields(m *discordtest.Message, x, column int, row []discordtest.Field) {
	top, bottom := d.y+4, d.y
	for i, f := range row {
		d.y = top
		room := column - padding/2
		if len(row) == 1 {
			room = 3 * column
		}
		chars := room / textChar
		for _, line := range lines(m.Spans(f.Name), chars) {
			for j := range line {
				line[j].Style |= discordtest.Bold
			}
			d.line(x+i*column, room, line)
		}
		for _, line := range lines(m.Spans(f.Value), chars) {
			d.line(x+i*column, room, line)
		}
		bottom = max(bottom, d.y)
	}
	d.y = bottom
}

// line draws one line, or a code block of that width.
func (d *drawing) line(x, w int, spans []discordtest.Span) {
	if len(spans) == 1 && spans[0].Kind == discordtest.Block {
		d.block(x, w, spans[0].Text)
		return
	}
	fmt.Fprintf(&d.b, `<text x="%d" y="%d" fill="%s">`, x, d.y+15, d.text)
	for _, s := range spans {
		var attributes []string
		switch s.Kind {
		case discordtest.Code:
			attributes = append(attributes, `class="code"`)
		case discordtest.Mention:
			attributes = append(attributes, fmt.Sprintf(`class="bold" fill=%q`, d.mention))
		case discordtest.Plain, discordtest.Block, discordtest.Time, discordtest.Link:
			if s.Style&discordtest.Bold != 0 {
				attributes = append(attributes, fmt.Sprintf(`class="bold" fill=%q`, d.bright))
			}
		}
		fmt.Fprintf(&d.b, "<tspan %s>%s</tspan>", strings.Join(attributes, " "), escape(s.Text))
	}
	d.b.WriteString("</text>\n")
	d.y += lineHeight
}

// block draws a code block.
func (d *drawing) block(x, w int, text string) {
	const inside = 8
	chars := int(float64(w-2*inside) / codeChar)
	var all []string
	for line := range strings.SplitSeq(text, "\n") {
		// Spaces that don't break: SVG takes others away at the beginning of a line.
		unindented := strings.TrimLeft(line, " \t")
		indent := strings.ReplaceAll(line[:len(line)-len(unindented)], "\t", "    ")
		all = append(all, wrap(strings.ReplaceAll(indent, " ", "\u00a0")+unindented, chars)...)
	}
	height := len(all)*codeHeight + 2*inside
	fmt.Fprintf(&d.b, `<rect x="%d" y="%d" width="%d" height="%d" rx="4" fill="%s" stroke="%s"/>`+"\n",
		x, d.y+4, w, height, d.code, d.codeBorder)
	for i, line := range all {
		fmt.Fprintf(&d.b, `<text x="%d" y="%d" class="code" fill="%s">%s</text>`+"\n", x+inside, d.y+4+inside+12+i*codeHeight, d.text, escape(line))
	}
	d.y += height + 8
}

func (d *drawing) rect(x, y, w, h, radius int, fill string) {
	fmt.Fprintf(&d.b, `<rect x="%d" y="%d" width="%d" height="%d" rx="%d" fill="%s"/>`+"\n", x, y, w, h, radius, fill)
}

// lines breaks spans into lines of at most that many characters. A code block is a line.
func lines(spans []discordtest.Span, chars int) (all [][]discordtest.Span) {
	var line []discordtest.Span
	used := 0
	end := func() {
		if len(line) > 0 {
			all = append(all, line)
		}
		line, used = nil, 0
	}
	for _, s := range spans {
		if s.Kind == discordtest.Block {
			end()
			all = append(all, []discordtest.Span{s})
			continue
		}
		for i, part := range strings.Split(s.Text, "\n") {
			if i > 0 {
				end()
			}
			for _, piece := range wrap(part, chars) {
				if n := utf8.RuneCountInString(piece); used+n > chars {
					end()
				}
				if piece != "" {
					s.Text = piece
					line = append(line, s)
					used += utf8.RuneCountInString(piece)
				}
			}
		}
	}
	end()
	return all
}

// wrap breaks a line into such of at most that many characters, after a space or a slash if there
// is one.
func wrap(line string, most int) (all []string) {
	runes := []rune(line)
	for len(runes) > most {
		end := most
		for i := most; i > most/2; i-- {
			if runes[i-1] == ' ' || runes[i-1] == '/' {
				end = i
				break
			}
		}
		all = append(all, string(runes[:end]))
		runes = runes[end:]
	}
	return append(all, string(runes))
}

// escape makes s text of the picture.
func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}
