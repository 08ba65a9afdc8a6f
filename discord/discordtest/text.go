package discordtest

import (
	"strings"
	"time"
)

// Text returns what a channel shows: its messages, the oldest first, with an empty line between
// two.
func (s *Server) Text(channel string) string {
	var texts []string
	for _, m := range s.Messages() {
		if m.Channel == channel {
			texts = append(texts, m.Text())
		}
	}
	return strings.Join(texts, "\n")
}

// Text returns the message as a channel shows it, in lines without markup. A bar stands before the
// lines of an embed, and another one before those of a code block. A link is followed by where it
// goes.
func (m *Message) Text() string {
	var b strings.Builder
	b.WriteString(m.Author + " BOT " + m.Time.UTC().Format("2006-01-02 15:04:05") + "\n")
	m.write(&b, "", m.Content)
	for i := range m.Embeds {
		m.writeEmbed(&b, &m.Embeds[i])
	}
	return b.String()
}

func (m *Message) writeEmbed(b *strings.Builder, e *Embed) {
	const bar = "▌ "
	if e.Author != nil {
		b.WriteString(bar + e.Author.Name + "\n")
	}
	m.write(b, bar, e.Title)
	m.write(b, bar, e.Description)
	for _, row := range e.Rows() {
		var cells []string
		for _, f := range row {
			cells = append(cells, m.plain(f.Name)+": "+m.plain(f.Value))
		}
		b.WriteString(bar + strings.Join(cells, " · ") + "\n")
	}
	if line := e.LastLine(); line != "" {
		b.WriteString(bar + line + "\n")
	}
}

// Rows returns the fields by the lines in which they are shown: inline ones three to a line.
func (e *Embed) Rows() (rows [][]Field) {
	const most = 3
	for i, f := range e.Fields {
		last := len(rows) - 1
		if i > 0 && f.Inline && e.Fields[i-1].Inline && len(rows[last]) < most {
			rows[last] = append(rows[last], f)
			continue
		}
		rows = append(rows, []Field{f})
	}
	return rows
}

// LastLine is the footer and the timestamp.
func (e *Embed) LastLine() string {
	var parts []string
	if e.Footer != nil {
		parts = append(parts, e.Footer.Text)
	}
	if t, err := time.Parse(time.RFC3339, e.Timestamp); err == nil {
		parts = append(parts, t.UTC().Format("2006-01-02 15:04:05"))
	}
	return strings.Join(parts, " · ")
}

// write writes text, with bar before each of its lines.
func (m *Message) write(b *strings.Builder, bar, text string) {
	if text == "" {
		return
	}
	var plain strings.Builder
	for _, s := range m.Spans(text) {
		if s.Kind != Block {
			plain.WriteString(s.shown())
			continue
		}
		if plain.Len() > 0 && !strings.HasSuffix(plain.String(), "\n") {
			plain.WriteByte('\n')
		}
		for line := range strings.SplitSeq(s.Text, "\n") {
			plain.WriteString("│ " + line + "\n")
		}
	}
	for line := range strings.SplitSeq(strings.TrimRight(plain.String(), "\n"), "\n") {
		b.WriteString(strings.TrimRight(bar+line, " ") + "\n")
	}
}

// plain is text without markup, in one line.
func (m *Message) plain(text string) string {
	var b strings.Builder
	for _, s := range m.Spans(text) {
		b.WriteString(s.shown())
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// shown is the text of a span, and of a link where it goes.
func (s *Span) shown() string {
	if s.Kind == Link && s.Text != s.URL {
		return s.Text + " <" + s.URL + ">"
	}
	return s.Text
}
