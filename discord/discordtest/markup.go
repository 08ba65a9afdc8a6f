package discordtest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Span is a piece of a text as a channel shows it.
type Span struct {
	Kind  SpanKind
	Style Style
	Text  string // what is to be read
	URL   string // of a link
}

// A SpanKind says what a span is. The zero value is Plain.
type SpanKind int

// The kinds of spans.
const (
	Plain   SpanKind = iota
	Code             // within a line
	Block            // lines of their own; Text has no newline at its end
	Mention          // of somebody who is notified
	Time             // a timestamp
	Link             // to be clicked
)

// A Style is a set of ways in which a span is set.
type Style int

// The styles, to be combined.
const (
	Bold Style = 1 << iota
	Italic
	Underline
	Strike
	Spoiler
	Heading
	Subtext
	Quote
	Item // of a list
)

// Spans takes text apart as the clients do, as far as their markup is documented. A mention is one
// only if it notifies somebody; others are left as they are written.
func (m *Message) Spans(text string) []Span {
	p := parser{message: m}
	for text != "" {
		// Code blocks span lines, nothing else does that matters here.
		before, block, after := cutBlock(text)
		for line := range strings.Lines(before) {
			p.line(line)
		}
		if block != nil {
			p.add(*block)
		}
		text = after
	}
	return p.spans
}

type parser struct {
	message *Message
	spans   []Span
}

// add appends a span, to the one before if it looks the same.
func (p *parser) add(s Span) {
	if n := len(p.spans); n > 0 && s.Kind == Plain && p.spans[n-1].Kind == Plain && p.spans[n-1].Style == s.Style {
		p.spans[n-1].Text += s.Text
		return
	}
	if s.Text != "" {
		p.spans = append(p.spans, s)
	}
}

var aLanguage = regexp.MustCompile(`^[A-Za-z0-9_+.#-]*\n`)

// cutBlock finds the first code block.
func cutBlock(s string) (before string, block *Span, after string) {
	const fence = "```"
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
			continue
		}
		if !strings.HasPrefix(s[i:], fence) {
			continue
		}
		inside, rest, closed := strings.Cut(s[i+len(fence):], fence)
		if !closed || strings.TrimSpace(inside) == "" {
			i += len(fence) - 1
			continue
		}
		inside = strings.TrimRight(inside[len(aLanguage.FindString(inside)):], "\n")
		return s[:i], &Span{Kind: Block, Text: inside}, strings.TrimPrefix(rest, "\n")
	}
	return s, nil, ""
}

var lineStyles = []struct {
	prefix string
	style  Style
}{
	{"# ", Heading}, {"## ", Heading}, {"### ", Heading}, {"-# ", Subtext}, {"> ", Quote}, {">>> ", Quote}, {"- ", Item}, {"* ", Item},
}

// line takes a line apart, with its newline.
func (p *parser) line(s string) {
	for _, l := range lineStyles {
		if rest, ok := strings.CutPrefix(s, l.prefix); ok {
			p.inline(rest, l.style)
			return
		}
	}
	p.inline(s, 0)
}

var (
	aMasked    = regexp.MustCompile(`^\[([^\[\]\n]+)\]\((<?https?://[^\s)]+)\)`)
	aBare      = regexp.MustCompile(`^https?://[^\s<]+`)
	aTimestamp = regexp.MustCompile(`^<t:(-?[0-9]{1,13})(?::([tTdDfFsSR]))?>`)
)

var delimiters = []struct {
	text  string
	style Style
}{
	{"**", Bold}, {"__", Underline}, {"~~", Strike}, {"||", Spoiler}, {"*", Italic}, {"_", Italic},
}

// inline takes a part of a line apart.
func (p *parser) inline(s string, style Style) {
	for i := 0; i < len(s); {
		i += p.next(s, i, style)
	}
}

// next takes one span, or one character, and returns how many bytes it had.
func (p *parser) next(s string, i int, style Style) int {
	rest := s[i:]
	if rest[0] == '\\' && len(rest) > 1 && rest[1] < utf8.RuneSelf && (unicode.IsPunct(rune(rest[1])) || unicode.IsSymbol(rune(rest[1]))) {
		p.add(Span{Style: style, Text: rest[1:2]})
		return 2
	}
	if rest[0] == '`' {
		ticks := len(rest) - len(strings.TrimLeft(rest, "`"))
		inside, _, closed := strings.Cut(rest[ticks:], rest[:ticks])
		if closed && inside != "" {
			p.add(Span{Kind: Code, Style: style, Text: inside})
			return ticks + len(inside) + ticks
		}
		p.add(Span{Style: style, Text: rest[:ticks]})
		return ticks
	}
	for _, mention := range p.message.Notified {
		if strings.HasPrefix(rest, mention) {
			p.add(Span{Kind: Mention, Style: style, Text: p.message.name(mention)})
			return len(mention)
		}
	}
	if found := aTimestamp.FindStringSubmatch(rest); found != nil {
		seconds, _ := strconv.ParseInt(found[1], 10, 64) // of 13 digits
		p.add(Span{Kind: Time, Style: style, Text: timeText(time.Unix(seconds, 0), found[2], p.message.Time)})
		return len(found[0])
	}
	if found := aMasked.FindStringSubmatch(rest); found != nil {
		p.add(Span{Kind: Link, Style: style, Text: found[1], URL: found[2]})
		return len(found[0])
	}
	if url := aBare.FindString(rest); url != "" {
		p.add(Span{Kind: Link, Style: style, Text: url, URL: url})
		return len(url)
	}
	for _, d := range delimiters {
		if inside, ok := delimited(s, i, d.text); ok {
			p.inline(inside, style|d.style)
			return len(d.text) + len(inside) + len(d.text)
		}
	}
	_, size := utf8.DecodeRuneInString(rest)
	p.add(Span{Style: style, Text: rest[:size]})
	return size
}

// delimited returns what stands between two of the delimiter, the first of them at i.
func delimited(s string, i int, delimiter string) (inside string, ok bool) {
	rest, ok := strings.CutPrefix(s[i:], delimiter)
	if !ok || rest == "" || delimiter == "_" && i > 0 && isWord(s[i-1]) || delimiter == "*" && unicode.IsSpace(rune(rest[0])) {
		return "", false
	}
	for j := 0; j < len(rest); j++ {
		switch {
		case rest[j] == '\\':
			j++
		case j > 0 && strings.HasPrefix(rest[j:], delimiter):
			after := rest[j+len(delimiter):]
			if delimiter == "_" && after != "" && isWord(after[0]) {
				continue
			}
			return rest[:j], true
		}
	}
	return "", false
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= utf8.RuneSelf
}

// name is what a mention is shown as.
func (m *Message) name(mention string) string {
	found := aMention.FindStringSubmatch(mention)
	role, user := found[1], found[2]
	name := strings.TrimPrefix(mention, "@")
	switch {
	case role != "":
		name = m.roles[role]
		if name == "" {
			name = "deleted-role"
		}
	case user != "":
		name = m.users[user]
		if name == "" {
			name = "unknown-user"
		}
	}
	return "@" + name
}

// timeText is t in one of the styles of timestamps, in UTC and in English: a client shows it in its
// user's zone and language.
func timeText(t time.Time, style string, now time.Time) string {
	t = t.UTC()
	switch style {
	case "t":
		return t.Format("15:04")
	case "T":
		return t.Format("15:04:05")
	case "d":
		return t.Format("02/01/2006")
	case "D":
		return t.Format("January 2, 2006")
	case "F":
		return t.Format("Monday, January 2, 2006 at 15:04")
	case "s":
		return t.Format("02/01/2006, 15:04")
	case "S":
		return t.Format("02/01/2006, 15:04:05")
	case "R":
		return relative(t.Sub(now))
	}
	return t.Format("January 2, 2006 at 15:04") // f is the default
}

// relative says how far away something is, in the largest unit that fits.
func relative(d time.Duration) string {
	past := d < 0
	seconds := int64(d.Abs().Round(time.Second) / time.Second)
	text := "now"
	for _, u := range []struct {
		name    string
		seconds int64
	}{
		{"year", 365 * 86400}, {"month", 30 * 86400}, {"day", 86400}, {"hour", 3600}, {"minute", 60}, {"second", 1},
	} {
		if n := seconds / u.seconds; n > 0 {
			text = fmt.Sprintf("%d %s", n, u.name)
			if n > 1 {
				text += "s"
			}
			break
		}
	}
	switch {
	case text == "now":
		return text
	case past:
		return text + " ago"
	}
	return "in " + text
}
