package discordbot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bwmarrin/discordgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord"
	"github.com/go-taskmanager/taskmanager/discord/discordbot"
	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

var _ taskmanager.BatchReporter = (*discordbot.Reporter)(nil)

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		took(t, 0, func() { require.NoError(t, r.Report(t.Context(), failed("connection refused"))) })

		require.Len(t, d.Messages(), 1)
		m := d.Messages()[0]
		assert.Equal(t, channel, m.Channel)
		assert.Empty(t, m.Content)
		assert.Empty(t, m.Notified)
		require.Len(t, m.Embeds, 1)
		assert.Contains(t, m.Text(), "poller")
		assert.Contains(t, m.Text(), "connection refused")
		assert.Contains(t, m.Text(), "in 3 seconds")
		assert.Contains(t, m.Text(), "web-1")

		request := d.Requests()[0]
		assert.Equal(t, "/api/v9/channels/20/messages", request.Path)
		assert.Contains(t, request.Header.Get("User-Agent"), "DiscordBot (")
	})
}

// What a bot sends looks as what a webhook posts.
func TestSameAsWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t, discordbot.WithMentionRole("3"), discordbot.WithMentionUser("4"))
		d.AddWebhook("10", "webhook-token", channel)
		w, err := discord.NewWebhook("https://discord.com/api/webhooks/10/webhook-token", discord.WithHost("web-1"),
			discord.WithMentionRole("3"), discord.WithMentionUser("4"), discord.WithHTTPClient(&http.Client{Transport: d.Transport()}))
		require.NoError(t, err)

		events := []taskmanager.Event{failed("a"), gaveUp("b"), {Time: time.Now(), Kind: taskmanager.EventStuck, Repeats: 7}}
		for _, to := range []taskmanager.BatchReporter{r, w} {
			n, err := to.ReportBatch(t.Context(), events)
			require.NoError(t, err)
			assert.Equal(t, 3, n)
		}
		messages := d.Messages()
		require.Len(t, messages, 2)
		assert.Len(t, messages[0].Embeds, 3)
		assert.Equal(t, messages[1].Embeds, messages[0].Embeds)
		assert.Equal(t, messages[1].Content, messages[0].Content)
		assert.Equal(t, []string{"<@&3>", "<@4>"}, messages[0].Notified)
		assert.Equal(t, messages[1].Notified, messages[0].Notified)
	})
}

func TestEvents(t *testing.T) {
	r, d := newReporter(t, discordbot.WithEvents(taskmanager.EventGaveUp))
	n, err := r.ReportBatch(t.Context(), []taskmanager.Event{failed("a"), gaveUp("b"), failed("c")})
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	require.Len(t, d.Messages(), 1)
	assert.Len(t, d.Messages()[0].Embeds, 1)
}

// At most ten embeds go into a message; the rest is for the next.
func TestBatch(t *testing.T) {
	r, d := newReporter(t)
	events := make([]taskmanager.Event, 12)
	for i := range events {
		events[i] = failed("a")
	}
	n, err := r.ReportBatch(t.Context(), events)
	require.NoError(t, err)
	assert.Equal(t, 10, n)
	n, err = r.ReportBatch(t.Context(), events[n:])
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	assert.Len(t, d.Messages(), 2)
	assert.Equal(t, 12, told(t, d))
}

// Whatever an error says, nobody is notified, and no text is a link to somewhere else.
func TestHostileText(t *testing.T) {
	d := discordtest.New()
	d.AddBot(token, channel)
	d.SetRateLimit(1000, time.Second)
	r, err := discordbot.New(newSession(t, d), channel, discordbot.WithHost("[a](https://b.c)"), discordbot.WithMentionRole("3"))
	require.NoError(t, err)
	for _, text := range []string{
		"@everyone @here <@1> <@!1> <@&2> <#3>", "[click](https://b.c/d) https://b.c <https://b.c>", "``` @everyone ``` [a](https://b.c)",
		"`` ` ```\n# a\n> b", strings.Repeat("🛑", 10<<10), "a\u202eb\u200b@everyone\x00\x1b[31m", "\xff\xfe @here", "\\[a](https://b.c) \\",
	} {
		e := gaveUp(text)
		e.Task, e.Manager = text, text
		require.NoError(t, r.Report(t.Context(), e), "%q", text)
	}
	messages := d.Messages()
	require.Len(t, messages, 8)
	for _, m := range messages {
		assert.Equal(t, []string{"<@&3>"}, m.Notified)
		for _, e := range m.Embeds {
			parts := []string{e.Title, e.Description}
			for _, f := range e.Fields {
				parts = append(parts, f.Name, f.Value)
			}
			for _, part := range parts {
				for _, s := range m.Spans(part) {
					if s.Kind == discordtest.Link {
						assert.Equal(t, s.URL, s.Text, "%q", part)
					}
					assert.NotEqual(t, discordtest.Mention, s.Kind, "%q", part)
				}
			}
		}
	}
}

func TestRefusedAtConstruction(t *testing.T) {
	d := discordtest.New()
	session := newSession(t, d)
	var none *discordgo.Session
	for name, c := range map[string]struct {
		session discordbot.Session
		channel string
		opts    []discordbot.Option
		option  string
	}{
		"nil session":       {nil, channel, nil, "session"},
		"typed nil session": {none, channel, nil, "session"},
		"zero session":      {new(discordgo.Session), channel, nil, "session"},
		"no channel":        {session, "", nil, "channelID"},
		"channel's name":    {session, "general", nil, "channelID"},
		"negative channel":  {session, "-20", nil, "channelID"},
		"path":              {session, "20/../21", nil, "channelID"},
		"large channel":     {session, "99999999999999999999", nil, "channelID"},
		"nil option":        {session, channel, []discordbot.Option{nil}, "opts[0]"},
		"role's name":       {session, channel, []discordbot.Option{discordbot.WithMentionRole("ops")}, "WithMentionRole"},
		"user's name":       {session, channel, []discordbot.Option{discordbot.WithMentionUser("ann")}, "WithMentionUser"},
		"no events":         {session, channel, []discordbot.Option{discordbot.WithEvents()}, "WithEvents"},
		"unknown event":     {session, channel, []discordbot.Option{discordbot.WithEvents(99)}, "WithEvents"},
		"host":              {session, channel, []discordbot.Option{discordbot.WithHost("\xff")}, "WithHost"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := discordbot.New(c.session, c.channel, c.opts...)
			assert.Nil(t, r)
			var refused *taskmanager.OptionError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, c.option, refused.Option)
			assert.NotContains(t, fmt.Sprintf("%v %+v", err, refused), token)
		})
	}
	assert.Empty(t, d.Requests())
}

// The token is in the session, which the Reporter holds.
func TestTokenNeverShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		var shown strings.Builder
		holder := struct{ R *discordbot.Reporter }{r}
		for _, v := range []any{r, *r, holder, &holder, []any{r}, map[string]any{"r": r}, discordbot.Reporter{}} {
			fmt.Fprintf(&shown, "%v %+v %#v %s %q %d\n", v, v, v, v, v, v)
			inJSON, err := json.Marshal(v)
			require.NoError(t, err)
			shown.Write(inJSON)
			for _, h := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
				slog.New(h).Info("reporter", slog.Any("r", v))
			}
		}
		assert.Equal(t, "discordbot.Reporter(20) discordbot.Reporter(20)", fmt.Sprintf("%v %#v", r, *r))
		assert.Equal(t, "discordbot.Reporter()", fmt.Sprint(discordbot.Reporter{}))
		text, err := json.Marshal(r)
		require.NoError(t, err)
		assert.Equal(t, `"discordbot.Reporter(20)"`, string(text))

		for _, f := range []discordtest.Fault{
			discordtest.Status(401), discordtest.Status(400), discordtest.Status(500), discordtest.Hang(), discordtest.Reset(),
			discordtest.HTML429(0), discordtest.RateLimited(time.Hour, true),
		} {
			failing, fake := newReporter(t)
			fake.Fail(100, f)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			err := failing.Report(ctx, failed("a"))
			cancel()
			require.Error(t, err)
			for ; err != nil; err = errors.Unwrap(err) {
				fmt.Fprintf(&shown, "%v %+v %#v\n", err, err, err)
			}
		}
		require.NoError(t, r.Report(t.Context(), failed("401 for Authorization: Bot "+token)))
		shown.WriteString(d.Text(channel))
		assert.NotContains(t, shown.String(), token)
		assert.Contains(t, d.Text(channel), "401 for Authorization")
	})
}
