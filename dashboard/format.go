package dashboard

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// cut is the beginning of text, at most so many bytes of it.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}

// abridge is text, cut in the middle to at most so many bytes of it: the end of an error is where its cause stands.
func abridge(text string, most int) string {
	if len(text) <= most {
		return text
	}
	begin, end := most/2, len(text)-most/2
	for begin > 0 && !utf8.RuneStart(text[begin]) {
		begin--
	}
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end++
	}
	return text[:begin] + " … " + text[end:]
}

// shorten is text in one line, cut in the middle to at most so many runes: the end of an error is where its cause stands.
func shorten(text string, most int) string {
	const tooLong = 1 << 14 // bytes; of more, what is in the middle is not even looked at
	if len(text) > tooLong {
		text = text[:tooLong/2] + text[len(text)-tooLong/2:]
	}
	words := strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == utf8.RuneError })
	runes := []rune(strings.Join(words, " "))
	if len(runes) <= most {
		return string(runes)
	}
	end := most / 2
	return string(runes[:most-end-1]) + "…" + string(runes[len(runes)-end:])
}

// counted is "1 run", "2 runs".
func counted[N int | uint64](n N, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

// durationText is d for people, by its two largest units: "850ms", "4.2s", "3m5s", "4h12m", "2d3h".
func durationText(d time.Duration) string {
	const day = 24 * time.Hour
	if d < 0 {
		return "-" + durationText(-max(d, -math.MaxInt64)) // there is no -math.MinInt64
	}
	// It is rounded first, for 59.96 seconds are a minute then.
	switch rounded := d.Round(100 * time.Millisecond); {
	case d.Round(time.Millisecond) < time.Second:
		return d.Round(time.Millisecond).String()
	case rounded < time.Minute:
		return rounded.String()
	}
	switch rounded := d.Round(time.Second); {
	case rounded < time.Hour:
		return twoUnits(rounded, time.Minute, "m", time.Second, "s")
	case d.Round(time.Minute) < 2*day:
		return twoUnits(d.Round(time.Minute), time.Hour, "h", time.Minute, "m")
	}
	return twoUnits(d.Round(time.Hour), day, "d", time.Hour, "h")
}

func twoUnits(d, large time.Duration, l string, small time.Duration, s string) string {
	text := strconv.FormatInt(int64(d/large), 10) + l
	if rest := d % large / small; rest > 0 {
		text += strconv.FormatInt(int64(rest), 10) + s
	}
	return text
}

// relative is at as seen from now, as cells of that kind show it.
func relative(kind string, at, now time.Time) string {
	switch kind {
	case kindIn:
		if d := at.Sub(now); d > 0 {
			return "in " + durationText(d)
		}
		return "now"
	case kindFor:
		return durationText(max(0, now.Sub(at)))
	}
	return durationText(max(0, now.Sub(at))) + " ago"
}
