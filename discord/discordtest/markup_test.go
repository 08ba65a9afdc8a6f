package discordtest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

func TestSpans(t *testing.T) {
	type list = []discordtest.Span
	const (
		plain = discordtest.Plain
		code  = discordtest.Code
		block = discordtest.Block
		link  = discordtest.Link
	)
	m := new(discordtest.Message)
	for text, want := range map[string]list{
		"":                    nil,
		"a b":                 {{Text: "a b"}},
		"héllo 🛑":             {{Text: "héllo 🛑"}},
		"**a**b":              {{plain, discordtest.Bold, "a", ""}, {Text: "b"}},
		"*a* _b_":             {{plain, discordtest.Italic, "a", ""}, {Text: " "}, {plain, discordtest.Italic, "b", ""}},
		"__a__~~b~~||c||":     {{plain, discordtest.Underline, "a", ""}, {plain, discordtest.Strike, "b", ""}, {plain, discordtest.Spoiler, "c", ""}},
		"**a *b***":           {{plain, discordtest.Bold, "a *b", ""}, {Text: "*"}},
		"**a _b_**":           {{plain, discordtest.Bold, "a ", ""}, {plain, discordtest.Bold | discordtest.Italic, "b", ""}},
		"snake_case_name":     {{Text: "snake_case_name"}},
		"_a_b":                {{Text: "_a_b"}},
		"a_b_ c":              {{Text: "a_b_ c"}},
		"2 * 3 * 4":           {{Text: "2 * 3 * 4"}},
		`\*a\* \_b\_`:         {{Text: "*a* _b_"}},
		`\\ \a \`:             {{Text: `\ \a \`}},
		`**a\**`:              {{plain, discordtest.Italic, "*a*", ""}},
		"`a*b*`":              {{code, 0, "a*b*", ""}},
		"``a`b``":             {{code, 0, "a`b", ""}},
		"a ` b":               {{Text: "a ` b"}},
		"\\`a`":               {{Text: "`a`"}},
		"[a](https://b.c/d)":  {{link, 0, "a", "https://b.c/d"}},
		`\[a](https://b.c/d)`: {{Text: "[a]("}, {link, 0, "https://b.c/d)", "https://b.c/d)"}},
		"[a](ftp://b)":        {{Text: "[a](ftp://b)"}},
		"x https://b.c y":     {{Text: "x "}, {link, 0, "https://b.c", "https://b.c"}, {Text: " y"}},
		"# a":                 {{plain, discordtest.Heading, "a", ""}},
		"x\n> a\n-# b":        {{Text: "x\n"}, {plain, discordtest.Quote, "a\n", ""}, {plain, discordtest.Subtext, "b", ""}},
		"- a":                 {{plain, discordtest.Item, "a", ""}},
		`\# a`:                {{Text: "# a"}},
		"@everyone <@1>":      {{Text: "@everyone <@1>"}},
		"<t:0>":               {{discordtest.Time, 0, "January 1, 1970 at 00:00", ""}},
		"<t:x> \\<t:0>":       {{Text: "<t:x> <t:0>"}},
		"```\na\n```":         {{block, 0, "a", ""}},
		"a```go\nb\nc```\nd":  {{Text: "a"}, {block, 0, "b\nc", ""}, {Text: "d"}},
		"```a b```":           {{block, 0, "a b", ""}},
		"```\n**a** <@1>```":  {{block, 0, "**a** <@1>", ""}},
		"```a":                {{Text: "```a"}},
		"``````":              {{Text: "``````"}},
		"\\```a```":           {{Text: "`"}, {code, 0, "a", ""}, {Text: "`"}},
	} {
		assert.Equal(t, want, m.Spans(text), "%q", text)
	}
}

func TestTimestampStyles(t *testing.T) {
	m := &discordtest.Message{Time: time.Unix(1618953630, 0)}
	for text, want := range map[string]string{
		"<t:1618953630:t>": "21:20",
		"<t:1618953630:T>": "21:20:30",
		"<t:1618953630:d>": "20/04/2021",
		"<t:1618953630:D>": "April 20, 2021",
		"<t:1618953630:f>": "April 20, 2021 at 21:20",
		"<t:1618953630:F>": "Tuesday, April 20, 2021 at 21:20",
		"<t:1618953630:s>": "20/04/2021, 21:20",
		"<t:1618953630:S>": "20/04/2021, 21:20:30",
		"<t:1618953630:R>": "now",
		"<t:1618953631:R>": "in 1 second",
		"<t:1618953628:R>": "2 seconds ago",
		"<t:1618953750:R>": "in 2 minutes",
		"<t:1618950030:R>": "1 hour ago",
		"<t:1619212830:R>": "in 3 days",
		"<t:1621545630:R>": "in 1 month",
		"<t:0:R>":          "51 years ago",
	} {
		assert.Equal(t, []discordtest.Span{{Kind: discordtest.Time, Text: want}}, m.Spans(text), text)
	}
}

func TestText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newServer()
		d.AddRole("3", "ops")
		d.AddUser("1", "ann")
		d.AddChannel("99")
		time.Sleep(5 * time.Second)
		post(t, d, hookURL, body(t,
			"username", "watcher",
			"content", "<@&3> <@1> <@&4> <@2> @everyone",
			"allowed_mentions", object{"roles": []string{"3", "4"}, "users": []string{"1"}},
			"embeds", []object{embed(
				"author", object{"name": "api"},
				"title", "**poller** failed",
				"description", "[a](https://b.c)\nsee:```\nmain.go:1\n  main.go:2\n```",
				"fields", []object{
					{"name": "Run", "value": "3", "inline": true},
					{"name": "Next", "value": "<t:946684815:R>", "inline": true},
					{"name": "C", "value": "c", "inline": true},
					{"name": "D", "value": "d", "inline": true},
					{"name": "E", "value": "e\n f"},
				},
				"footer", object{"text": "*host*"},
				"timestamp", "2000-01-01T00:00:04.5Z",
			)},
		))
		time.Sleep(time.Second)
		post(t, d, botURL, body(t, "content", "one\n\ntwo"))
		assert.Equal(t, `watcher BOT 2000-01-01 00:00:05
@ops @ann @deleted-role <@2> @everyone
▌ api
▌ poller failed
▌ a <https://b.c>
▌ see:
▌ │ main.go:1
▌ │   main.go:2
▌ Run: 3 · Next: in 10 seconds · C: c
▌ D: d
▌ E: e f
▌ *host* · 2000-01-01 00:00:04

bot BOT 2000-01-01 00:00:06
one

two
`, d.Text(channel))
		assert.Empty(t, d.Text("99"))

		post(t, d, hookURL, body(t, "content", "<@7> @here", "allowed_mentions", object{"parse": []string{"everyone", "users"}}))
		messages := d.Messages()
		require.Len(t, messages, 3)
		assert.Contains(t, messages[2].Text(), "\n@unknown-user @here\n")
	})
}
