package notify

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// length is how much of Discord's limits s takes up, in UTF-16 units. Its API counts code points,
// as one of its engineers has written in a public answer about its documentation, which itself says
// "characters". Its clients count UTF-16 units. These are never fewer, so a text that is short
// enough by this count is so by both.
func length(s string) (n int) {
	for _, r := range s {
		n += units(r)
	}
	return n
}

func units(r rune) int {
	if n := utf16.RuneLen(r); n > 0 {
		return n
	}
	return 1
}

// cut shortens s to a length of at most most, which is at least 1. What is left ends in an ellipsis
// then.
func cut(s string, most int) string {
	if head := beginning(s, most); head == s {
		return s
	}
	return beginning(s, most-1) + "…"
}

// cutMiddle shortens s to a length of at most most, which is at least 5. What is left are its
// beginning and its end: an error has its cause there.
func cutMiddle(s string, most int) string {
	const gap = " … "
	if beginning(s, most) == s {
		return s
	}
	head := beginning(s, (most-length(gap))/2)
	return head + gap + ending(s, most-length(gap)-length(head))
}

// beginning returns as much of s, from its beginning, as has a length of at most most.
func beginning(s string, most int) string {
	if len(s) <= most {
		return s // no text is longer than its bytes
	}
	n := 0
	for i, r := range s {
		if n += units(r); n > most {
			return s[:i]
		}
	}
	return s
}

// ending returns as much of s, up to its end, as has a length of at most most.
func ending(s string, most int) string {
	i := len(s)
	for n := 0; i > 0; {
		r, size := utf8.DecodeLastRuneInString(s[:i])
		if n += units(r); n > most {
			break
		}
		i -= size
	}
	return s[i:]
}

// clean makes s valid UTF-8 that shows as it is. Control characters and invisible ones, among them
// those that change the direction of what follows, become U+FFFD. Line breaks and tabs of any kind
// stay only if s may have several lines, and are spaces otherwise.
func clean(s string, lines bool) string {
	// All that is shown of s is far shorter, and is its beginning and its end.
	const most = 32 << 10
	if len(s) > most {
		s = s[:most/2] + s[len(s)-most/2:]
	}
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		switch r {
		case '\n', '\r', '\v', '\f', '\u0085', '\u2028', '\u2029':
			if lines {
				return '\n'
			}
			return ' '
		case '\t':
			if lines {
				return r
			}
			return ' '
		case '\u200C', '\u200D': // joiners: parts of emoji, and of words in some scripts
			return r
		}
		if unicode.In(r, unicode.Cc, unicode.Cf) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// A backtick that isn't ours could end a code block or begin one. This one looks alike. To put
// something invisible between them would not do: Discord may strip that.
var noBackticks = strings.NewReplacer("`", "ˋ")

// block returns s as a code block, in which nothing is markdown or a mention. It takes up at most
// most, shortened by shorten, or is empty if there is nothing to see in s.
func block(s string, most int, shorten func(string, int) string) string {
	// The language of a block would be on its first line, so that is empty.
	const begin, end = "```\n", "\n```"
	s = strings.Trim(clean(s, true), "\n")
	if strings.TrimSpace(s) == "" {
		return ""
	}
	return begin + shorten(noBackticks.Replace(s), most-len(begin)-len(end)) + end
}

// code returns s as code within a line, in which nothing is markdown or a mention either.
func code(s string, most int) string {
	return "`" + cut(noBackticks.Replace(clean(s, false)), most-len("``")) + "`"
}

// plain returns s as text for a title. A title has no code, and its markdown and mentions are
// ignored by some of Discord's clients and not by others, so a backslash would show. What could have
// a meaning is parted by a space without width; a mark that has one by itself is replaced by one that
// looks alike.
func plain(s string, most int) string {
	const gap = '\u200B'
	var (
		b    strings.Builder
		text = []rune(noBackticks.Replace(clean(s, false)))
	)
	at := func(i int) rune {
		if i < 0 || i >= len(text) {
			return ' '
		}
		return text[i]
	}
	for i, r := range text {
		switch last := at(i - 1); {
		case last == '@' || last == '<', // a mention, an emoji, a timestamp
			last == ']' && r == '(',             // a link that hides where it goes
			last == ':' && r == '/',             // one that doesn't
			last == r && (r == '~' || r == '|'): // struck out; hidden until clicked
			b.WriteRune(gap)
		}
		switch {
		case r == '*':
			r = '∗'
		case r == '_' && (!isWord(at(i-1)) || !isWord(at(i+1))): // within a word it means nothing
			r = 'ˍ'
		}
		b.WriteRune(r)
	}
	return cut(b.String(), most)
}

func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// errorText is err.Error(), also if that panics.
func errorText(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("%T, whose Error method panicked", err)
		}
	}()
	return err.Error()
}
