package notify

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
)

func TestLengthCountsUTF16Units(t *testing.T) {
	for s, want := range map[string]int{
		"": 0, "abc": 3, "é": 1, "世界": 2, "🧨": 2, "👩‍🚒": 5, "\U0010FFFF": 2,
	} {
		assert.Equal(t, want, length(s), s)
		assert.GreaterOrEqual(t, length(s), utf8.RuneCountInString(s), s)
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		s    string
		most int
		want string
	}{
		{"", 1, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"世界和平", 4, "世界和平"},
		{"世界和平", 3, "世界…"},
		{"🧨🧨", 4, "🧨🧨"},
		{"🧨🧨", 3, "🧨…"},
		{"🧨🧨🧨", 4, "🧨…"}, // two units don't fit in the last one
		{"🧨🧨", 2, "…"},
		{"ab", 1, "…"},
	} {
		got := cut(c.s, c.most)
		assert.Equal(t, c.want, got)
		assert.LessOrEqual(t, length(got), c.most)
	}
}

func TestCutMiddle(t *testing.T) {
	for _, c := range []struct {
		s    string
		most int
		want string
	}{
		{"", 5, ""},
		{"abcde", 5, "abcde"},
		{"abcdef", 5, "a … f"},
		{"abcdefgh", 6, "a … gh"},
		{"parse AAAAAAAAAAAA: refused", 20, "parse AA … : refused"},
		{"世界和平万岁", 5, "世 … 岁"},
		{"🧨🧨🧨🧨", 8, "🧨🧨🧨🧨"},
		{"🧨🧨🧨🧨🧨", 8, "🧨 … 🧨"},
		{"🧨🧨🧨🧨🧨", 5, " … 🧨"}, // nothing has one unit
	} {
		got := cutMiddle(c.s, c.most)
		assert.Equal(t, c.want, got)
		assert.LessOrEqual(t, length(got), c.most)
	}
}

func TestClean(t *testing.T) {
	for _, c := range []struct{ name, s, line, lines string }{
		{"text", "naïve 世界 🧨", "naïve 世界 🧨", "naïve 世界 🧨"},
		{"line breaks", "a\nb\r\nc\rd\u2028e\u0085f\vg", "a b c d e f g", "a\nb\nc\nd\ne\nf\ng"},
		{"tab", "a\tb", "a b", "a\tb"},
		{"escape sequence", "\x1b[31mred", "\uFFFD[31mred", "\uFFFD[31mred"},
		{"NUL and DEL", "a\x00b\x7fc", "a\uFFFDb\uFFFDc", "a\uFFFDb\uFFFDc"},
		{"bidi override", "abc\u202Etxt.exe", "abc\uFFFDtxt.exe", "abc\uFFFDtxt.exe"},
		{"bidi isolate", "\u2066a\u2069", "\uFFFDa\uFFFD", "\uFFFDa\uFFFD"},
		{"nothing visible", "@\u200Beveryone\uFEFF", "@\uFFFDeveryone\uFFFD", "@\uFFFDeveryone\uFFFD"},
		{"joined emoji", "👩\u200D🚒", "👩\u200D🚒", "👩\u200D🚒"},
		{"invalid UTF-8", "a\xff\xfeb\xe4\xb8", "a\uFFFDb\uFFFD", "a\uFFFDb\uFFFD"},
		{"a surrogate's bytes", "\xed\xa0\x80", "\uFFFD", "\uFFFD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.line, clean(c.s, false))
			assert.Equal(t, c.lines, clean(c.s, true))
		})
	}
}

// A text of any size is looked at no further than it can be shown.
func TestCleanIsBounded(t *testing.T) {
	assert.LessOrEqual(t, len(clean(strings.Repeat("世", 1<<20), true)), 32<<10+2*len("\uFFFD"))
	assert.Equal(t, "the cause", strings.TrimSpace(clean(strings.Repeat("\n", 1<<20)+"the cause", true)), "its end is part of it")
}

func TestBlockCannotBeLeft(t *testing.T) {
	for _, s := range []string{
		"```\n@everyone", "``````", "a```", "`\u200B`\u200B`", "`\x00``", "`\uFFFF`\U000E0001`",
		strings.Repeat("`", 5000), "```ansi\n\x1b[2;31mred", "\n```\n",
	} {
		for _, shorten := range []func(string, int) string{cut, cutMiddle} {
			got := block(s, 100, shorten)
			assert.LessOrEqual(t, length(got), 100)
			assert.True(t, strings.HasPrefix(got, "```\n") && strings.HasSuffix(got, "\n```"), got)
			assert.Equal(t, 6, strings.Count(got, "`"), got)
		}
	}
}

func TestCode(t *testing.T) {
	assert.Equal(t, "`web-1`", code("web-1", 20))
	assert.Equal(t, "`aˋbˋˋ`", code("a`b``", 20))
	assert.Equal(t, "`a b`", code("a\nb", 20))
	assert.Equal(t, "`aaa…`", code("aaaaaaa", 6))
}

func TestPlainIsInert(t *testing.T) {
	for s, want := range map[string]string{
		"orders_eu_2.v2":             "orders_eu_2.v2",
		"[1] #3 (x) ~ | a/b":         "[1] #3 (x) ~ | a/b",
		"@everyone":                  "@\u200Beveryone",
		"a@":                         "a@",
		"<@&1> <@1> <#1> <:a:1>":     "<\u200B@\u200B&1> <\u200B@\u200B1> <\u200B#1> <\u200B:a:1>",
		"[safe](https://evil.test/)": "[safe]\u200B(https:\u200B//evil.test/)",
		"`x` ```":                    "ˋxˋ ˋˋˋ",
		"*i* **b** ***":              "∗i∗ ∗∗b∗∗ ∗∗∗",
		"_i_ __u__ a__b _":           "ˍiˍ ˍˍuˍˍ aˍˍb ˍ",
		"~~s~~ ||h|| ~~~ |||":        "~\u200B~s~\u200B~ |\u200B|h|\u200B| ~\u200B~\u200B~ |\u200B|\u200B|",
	} {
		assert.Equal(t, want, plain(s, 256))
	}
}
