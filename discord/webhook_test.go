package discord_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord"
	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

// A Manager hands over all that waits in one call.
var _ taskmanager.BatchReporter = (*discord.Webhook)(nil)

// failed is an event of a restart.
func failed() taskmanager.Event {
	return taskmanager.Event{
		Time: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Task: "consumer", Kind: taskmanager.EventFailed,
		Run: 3, Err: errRefused, Delay: 2 * time.Second, Restarts: 2, MaxRestarts: 5, Window: time.Minute, Uptime: time.Hour,
	}
}

func TestWebhookOverLoopback(t *testing.T) {
	d, _ := newFake()
	server := httptest.NewServer(d)
	defer server.Close()
	w, err := discord.NewWebhook(server.URL+"/api/webhooks/"+hookID+"/"+hookToken,
		discord.WithHTTPClient(server.Client()), discord.WithUsername("Watch"),
		discord.WithAvatarURL("https://example.com/a.png"), discord.WithHost("web-1"))
	require.NoError(t, err)
	require.NoError(t, w.Report(t.Context(), failed()))

	require.Len(t, d.Messages(), 1)
	m := d.Messages()[0]
	assert.Equal(t, "Watch", m.Author)
	assert.Equal(t, "https://example.com/a.png", m.AvatarURL)
	require.Len(t, m.Embeds, 1)
	assert.Equal(t, "🔄 consumer failed, will restart", m.Embeds[0].Title)
	assert.Contains(t, m.Text(), "connection refused")
	assert.Contains(t, m.Text(), "web-1")
	request := d.Requests()[0]
	assert.Regexp(t, `^DiscordBot \(https://\S+, \d+\)$`, request.Header.Get("User-Agent"))
	assert.Equal(t, "application/json", request.Header.Get("Content-Type"))
}

func TestReportBatch(t *testing.T) {
	d, client := newFake()
	w := newWebhook(t, client)
	events := make([]taskmanager.Event, 13)
	for i := range events {
		events[i] = failed()
	}
	n, err := w.ReportBatch(t.Context(), events)
	require.NoError(t, err)
	assert.Equal(t, 10, n)
	n, err = w.ReportBatch(t.Context(), events[n:])
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	require.Len(t, d.Messages(), 2)
	assert.Len(t, d.Messages()[1].Embeds, 3)
}

// A Webhook may be shared, by several Managers for example.
func TestConcurrentReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, client := newFake()
		w := newWebhook(t, client)
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() { assert.NoError(t, w.Report(context.Background(), failed())) })
		}
		group.Wait()
		assert.Equal(t, map[string]int{restarting: 8}, reported(t, d.Messages()))
	})
}

func TestWithEvents(t *testing.T) {
	d, client := newFake()
	w := newWebhook(t, client, discord.WithEvents(taskmanager.EventGaveUp, taskmanager.EventStuck))
	require.NoError(t, w.Report(t.Context(), failed()))
	assert.Empty(t, d.Requests())
	e := failed()
	e.Kind = taskmanager.EventStuck
	require.NoError(t, w.Report(t.Context(), e))
	assert.Len(t, d.Messages(), 1)
}

// Discord's fake resolves mentions as Discord does: whom the text names is notified if
// allowed_mentions lets it.
func TestMentionOnGivingUp(t *testing.T) {
	d, client := newFake()
	w := newWebhook(t, client, discord.WithMentionRole(roleID), discord.WithMentionUser(userID))
	hostile := failed()
	hostile.Task, hostile.Err = "<@"+userID+"> @everyone", errors.New("@everyone <@&"+roleID+">")
	require.NoError(t, w.Report(t.Context(), hostile))
	final := hostile
	final.Kind = taskmanager.EventGaveUp
	require.NoError(t, w.Report(t.Context(), final))

	assert.Empty(t, d.Messages()[0].Notified)
	assert.Equal(t, []string{"<@&" + roleID + ">", "<@" + userID + ">"}, d.Messages()[1].Notified)
}

func TestURLs(t *testing.T) {
	for given, want := range map[string]string{
		hookURL: "https://discord.com/api/v10/webhooks/" + hookID + "/" + hookToken + "?wait=true",
		"https://discord.com/api/v9/webhooks/1/a":                       "https://discord.com/api/v9/webhooks/1/a?wait=true",
		"https://discordapp.com/api/webhooks/1/a":                       "https://discord.com/api/v10/webhooks/1/a?wait=true",
		"https://PTB.DiscordApp.com/api/webhooks/1/a?thread_id=22":      "https://ptb.discord.com/api/v10/webhooks/1/a?thread_id=22&wait=true",
		"https://ptb.discord.com/api/webhooks/1/a":                      "https://ptb.discord.com/api/v10/webhooks/1/a?wait=true",
		"https://canary.discord.com:443/api/webhooks/1/a":               "https://canary.discord.com:443/api/v10/webhooks/1/a?wait=true",
		"HTTPS://DISCORD.COM/api/webhooks/1/a":                          "https://DISCORD.COM/api/v10/webhooks/1/a?wait=true",
		"https://discord.com/api/webhooks/1/a?thread_id=22":             "https://discord.com/api/v10/webhooks/1/a?thread_id=22&wait=true",
		"https://discord.com/api/webhooks/1/a?wait=false&thread_id=22":  "https://discord.com/api/v10/webhooks/1/a?thread_id=22&wait=true",
		"http://127.0.0.1:8080/api/webhooks/1/a":                        "http://127.0.0.1:8080/api/v10/webhooks/1/a?wait=true",
		"http://localhost/api/webhooks/1/a":                             "http://localhost/api/v10/webhooks/1/a?wait=true",
		"https://[::1]:8443/api/webhooks/1/a":                           "https://[::1]:8443/api/v10/webhooks/1/a?wait=true",
		"http://[::ffff:127.0.0.1]/api/v10/webhooks/1/a":                "http://[::ffff:127.0.0.1]/api/v10/webhooks/1/a?wait=true",
		"https://discord.com/api/webhooks/18446744073709551615/A-z_0-9": "https://discord.com/api/v10/webhooks/18446744073709551615/A-z_0-9?wait=true",
	} {
		var got string
		client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			got = r.URL.String()
			return respond(r, http.StatusOK, nil), nil
		})}
		w, err := discord.NewWebhook(given, discord.WithHTTPClient(client))
		if assert.NoError(t, err, given) {
			assert.NoError(t, w.Report(t.Context(), failed()))
			assert.Equal(t, want, got)
		}
	}
}

// Whatever it was that was given: it may be a secret, and is not shown.
func TestRefusedURLs(t *testing.T) {
	const secret = "Geheim"
	for given, reason := range map[string]string{
		"":                                     "must begin with https:// and a host",
		secret:                                 "must begin with https:// and a host",
		"discord.com/api/webhooks/1/" + secret: "must begin with https:// and a host",
		"ftp://discord.com/api/webhooks/1/" + secret:                        "must begin with https:// and a host",
		"https:///api/webhooks/1/" + secret:                                 "must begin with https:// and a host",
		"://" + secret:                                                      "is no URL",
		"https://discord.com/api/webhooks/1/" + secret + "\x7f":             "is no URL",
		"https://discord.com:x/api/webhooks/1/" + secret:                    "is no URL",
		"http://discord.com/api/webhooks/1/" + secret:                       "must begin with https://, unless",
		"http://192.168.0.1/api/webhooks/1/" + secret:                       "must begin with https://, unless",
		"http://localhost.example.com/api/webhooks/1/" + secret:             "must begin with https://, unless",
		"https://example.com/api/webhooks/1/" + secret:                      "its host must be discord.com",
		"https://discord.com.example.com/api/webhooks/1/" + secret:          "its host must be discord.com",
		"https://evildiscord.com/api/webhooks/1/" + secret:                  "its host must be discord.com",
		"https://evildiscordapp.com/api/webhooks/1/" + secret:               "its host must be discord.com",
		"https://api.discordapp.com/api/webhooks/1/" + secret:               "its host must be discord.com",
		"https://discordapp.com:8443/api/webhooks/1/" + secret:              "its host must be discord.com",
		"https://api.discord.com/api/webhooks/1/" + secret:                  "its host must be discord.com",
		"https://discord.com:8443/api/webhooks/1/" + secret:                 "must not have a port",
		"https://discord.com@example.com/api/webhooks/1/" + secret:          "must not have a user",
		"https://a:b@discord.com/api/webhooks/1/" + secret:                  "must not have a user",
		"https://discord.com/api/webhooks/1/a#" + secret:                    "must not have a fragment",
		"https://discord.com/" + secret:                                     "its path must be",
		"https://discord.com/api/webhooks/1":                                "its path must be",
		"https://discord.com/api/webhooks/1/":                               "its path must be",
		"https://discord.com/api/webhooks/abc/" + secret:                    "its path must be",
		"https://discord.com/api/webhooks/1/" + secret + "/slack":           "its path must be",
		"https://discord.com/api/webhooks/1/" + secret + "/":                "its path must be",
		"https://discord.com/api/webhooks/1/../2/" + secret:                 "its path must be",
		"https://discord.com/api/webhooks/1/" + secret + "%2Fgithub":        "its path must be",
		"https://discord.com/api/vX/webhooks/1/" + secret:                   "its path must be",
		"https://discord.com/webhooks/1/" + secret:                          "its path must be",
		"https://discord.com/api/webhooks/0/" + secret:                      "the webhook's id must be",
		"https://discord.com/api/webhooks/99999999999999999999/" + secret:   "the webhook's id must be",
		"https://discord.com/api/webhooks/1/a?thread_id=" + secret:          "its query must have nothing but",
		"https://discord.com/api/webhooks/1/a?thread_id=1&thread_id=2":      "its query must have nothing but",
		"https://discord.com/api/webhooks/1/a?thread_id=":                   "its query must have nothing but",
		"https://discord.com/api/webhooks/1/a?x=" + secret:                  "its query must have nothing but",
		"https://discord.com/api/webhooks/1/a?a;b=" + secret:                "its query must have nothing but",
		"https://discord.com/api/webhooks/1/" + secret + "?with_components": "its query must have nothing but",
	} {
		_, err := discord.NewWebhook(given)
		var refused *taskmanager.OptionError
		if assert.ErrorAs(t, err, &refused, given) {
			assert.Equal(t, "url", refused.Option)
			assert.Contains(t, refused.Reason, reason, given)
			assert.NotContains(t, strings.ToLower(fmt.Sprintf("%v %+v %#v", err, err, refused)), strings.ToLower(secret), given)
		}
	}
}

func TestRefusedOptions(t *testing.T) {
	for _, c := range []struct {
		option discord.Option
		text   string
	}{
		{nil, "opts[0] <nil>: must not be nil"},
		{discord.WithHTTPClient(nil), "WithHTTPClient(<nil>): must not be nil"},
		{discord.WithUsername("discord"), `WithUsername("discord"): must not contain discord`},
		{discord.WithAvatarURL("x"), `WithAvatarURL("x"): must be an http or https URL of at most 2048 bytes`},
		{discord.WithMentionRole("@here"), `WithMentionRole("@here"): must be an id: a number of up to 20 digits`},
		{discord.WithMentionUser("me"), `WithMentionUser("me"): must be an id: a number of up to 20 digits`},
		{discord.WithEvents(), "WithEvents(): needs at least one kind"},
		{discord.WithEvents(-1), "WithEvents(-1): is no EventKind"},
		{discord.WithNonce(), "WithNonce(): is for a bot"},
		{discord.WithSecrets(nil), "WithSecrets(<nil>): must not be nil"},
		{discord.WithThreadName(" a"), `WithThreadName(" a"): must have 1 to 100 characters, without space around them`},
		{discord.WithHost("a\nb"), `WithHost("a\nb"): must be valid UTF-8 without control characters`},
	} {
		_, err := discord.NewWebhook(hookURL, c.option)
		assert.EqualError(t, err, "taskmanager: "+c.text)
	}
}

// With a redirect, the URL would be handed on to whoever it names.
func TestRedirectIsNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 307, 308} {
		requests := 0
		client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			requests++
			return respond(r, status, http.Header{"Location": {"https://example.com/"}}), nil
		})}
		w := newWebhook(t, client)
		assert.ErrorContains(t, w.Report(t.Context(), failed()), http.StatusText(status))
		assert.Equal(t, 1, requests)
		assert.Nil(t, client.CheckRedirect, "the client is the user's")
	}
}

// An endlessBody is that of a message whose end never comes.
type endlessBody struct {
	read   int
	closed bool
}

func (b *endlessBody) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	if b.read == 0 {
		copy(p, `{"id": "1",`)
	}
	b.read += len(p)
	return len(p), nil
}

func (b *endlessBody) Close() error {
	b.closed = true
	return nil
}

func TestResponseIsReadToABound(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusForbidden} {
		var bodies []*endlessBody
		client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, body := respond(r, status, nil), &endlessBody{}
			resp.Body = body
			bodies = append(bodies, body)
			return resp, nil
		})}
		err := newWebhook(t, client).Report(t.Context(), failed())
		assert.Equal(t, status != http.StatusOK, err != nil)
		require.NotEmpty(t, bodies)
		for _, body := range bodies {
			assert.LessOrEqual(t, body.read, 64<<10)
			assert.True(t, body.closed)
		}
	}
}

// holder has a Webhook where fmt can see it and must not call its methods.
type holder struct {
	pointer *discord.Webhook
	value   discord.Webhook
}

func TestTokenIsNeverPrinted(t *testing.T) {
	w, err := discord.NewWebhook(hookURL)
	require.NoError(t, err)
	var out bytes.Buffer
	for _, v := range []any{w, *w, []any{w, *w}, holder{w, *w}, &holder{w, *w}, map[string]any{"w": w}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("printed", "reporter", v)
		}
		require.NoError(t, json.NewEncoder(&out).Encode(v))
	}
	// As the value of an option that was refused.
	_, err = taskmanager.New(taskmanager.WithReporter(w), taskmanager.WithHistory(-1))
	fmt.Fprintf(&out, "%v %+v %#v", err, err, err)
	assert.NotContains(t, out.String(), hookToken)
	assert.NotContains(t, out.String(), fmt.Sprintf("%x", hookToken))

	want := "discord.Webhook(" + hookID + ")"
	assert.Equal(t, want, w.String())
	assert.Equal(t, want, fmt.Sprintf("%v", w))
	assert.Equal(t, want, fmt.Sprintf("%#v", *w))
	assert.Contains(t, out.String(), `"reporter":"`+want+`"`)
	assert.Equal(t, "discord.Webhook()", fmt.Sprint(discord.Webhook{}))
}

// The errors of package http have the URL in them; so may have those of a transport.
func TestTokenIsInNoError(t *testing.T) {
	errs := map[string]error{
		"a transport's":      errors.New("proxy: POST " + hookURL + ": denied"),
		"one of package url": &url.Error{Op: "Post", URL: hookURL, Err: errRefused},
		"wrapped":            fmt.Errorf("proxy: %w", &url.Error{Op: "Post", URL: hookURL, Err: &url.Error{Op: "Post", URL: hookURL, Err: errRefused}}),
	}
	for name, e := range errs {
		client := &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, e })}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // shorter than the first backoff
		err := newWebhook(t, client).Report(ctx, failed())
		cancel()
		require.Error(t, err, name)
		for unwrapped := err; unwrapped != nil; unwrapped = errors.Unwrap(unwrapped) {
			assert.NotContains(t, fmt.Sprintf("%v %+v %#v", unwrapped, unwrapped, unwrapped), hookToken, name)
		}
		// What has the URL in its own text can't be kept; what only comes with it is.
		assert.Equal(t, errors.Is(e, errRefused), errors.Is(err, errRefused), name)
	}
	// Nor if the response repeats it.
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		resp := respond(r, http.StatusBadRequest, nil)
		resp.Body = io.NopCloser(strings.NewReader(`{"message": "no such path: ` + r.URL.Path + `"}`))
		return resp, nil
	})}
	err := newWebhook(t, client).Report(t.Context(), failed())
	assert.ErrorContains(t, err, "no such path")
	assert.NotContains(t, err.Error(), hookToken)
}

// A task may fail with an error that has the URL in it, for it uses the same webhook.
func TestTokenIsInNoReport(t *testing.T) {
	d, client := newFake()
	e := failed()
	e.Task, e.Manager = hookToken, hookToken
	e.Err = &url.Error{Op: "Post", URL: hookURL, Err: errRefused}
	require.NoError(t, newWebhook(t, client, discord.WithHost(hookToken)).Report(t.Context(), e))
	text := d.Messages()[0].Text()
	assert.NotContains(t, text, hookToken)
	assert.Contains(t, text, "[redacted]")
}

// A transport may panic, with a text that has the URL in it.
func TestTokenIsInNoPanic(t *testing.T) {
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) { panic("cannot send to " + r.URL.String()) })}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // shorter than the first backoff
	defer cancel()
	err := newWebhook(t, client).Report(ctx, failed())
	require.ErrorContains(t, err, "discord: panic: cannot send to https://discord.com/api/v10/webhooks/"+hookID+"/[redacted]")
	assert.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), hookToken)
}

func TestWithSecrets(t *testing.T) {
	d, client := newFake()
	secrets := []string{"hunter2"}
	w := newWebhook(t, client, discord.WithSecrets(func() []string { return secrets }))
	e := failed()
	e.Err = errors.New("dial postgres://app:hunter2@db/" + hookToken)
	require.NoError(t, w.Report(t.Context(), e))
	assert.Contains(t, d.Messages()[0].Text(), "dial postgres://app:[redacted]@db/[redacted]")
}

// After 101 the body is the connection: it is not read, for no context ends that.
func TestSwitchingProtocols(t *testing.T) {
	d, client := newFake()
	server := httptest.NewServer(d)
	defer server.Close()
	overLoopback, err := discord.NewWebhook(server.URL+"/api/webhooks/"+hookID+"/"+hookToken, discord.WithHTTPClient(server.Client()))
	require.NoError(t, err)
	for _, w := range []*discord.Webhook{newWebhook(t, client), overLoopback} {
		d.Fail(1, discordtest.SwitchingProtocols())
		assert.EqualError(t, w.Report(t.Context(), failed()), "discord: 101 Switching Protocols")
		require.NoError(t, w.Report(t.Context(), failed()))
	}
}

// In a forum, the first message begins a thread, and the others go there. If it is deleted, another one begins.
func TestThreadName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const forum = "300"
		d, client := newFake()
		d.AddForum(forum)
		d.AddWebhook(hookID, hookToken, forum)
		assert.ErrorContains(t, newWebhook(t, client).Report(t.Context(), failed()), "(code 220001)")

		w := newWebhook(t, client, discord.WithThreadName("failures: prod"))
		for range 2 {
			require.NoError(t, w.Report(t.Context(), failed()))
		}
		messages := d.Messages()
		require.Len(t, messages, 2)
		assert.Equal(t, messages[0].ID, messages[0].Channel)
		assert.Equal(t, messages[0].ID, messages[1].Channel)

		d.RemoveChannel(messages[0].Channel)
		require.ErrorContains(t, w.Report(t.Context(), failed()), "Unknown Channel (code 10003)")
		time.Sleep(time.Minute)
		for range 2 {
			require.NoError(t, w.Report(t.Context(), failed()))
		}
		messages = d.Messages()[2:]
		require.Len(t, messages, 2)
		assert.Equal(t, messages[0].ID, messages[0].Channel)
		assert.Equal(t, messages[0].ID, messages[1].Channel)

		existing, err := discord.NewWebhook(hookURL+"?thread_id="+messages[0].ID, discord.WithHTTPClient(client))
		require.NoError(t, err)
		require.NoError(t, existing.Report(t.Context(), failed()))
		assert.Equal(t, messages[0].ID, d.Messages()[4].Channel)
	})
}

// Where there are no threads to begin, the message waits for somebody to see to that; it isn't lost.
func TestThreadNameElsewhere(t *testing.T) {
	d, client := newFake()
	err := newWebhook(t, client, discord.WithThreadName("a")).Report(t.Context(), failed())
	require.ErrorContains(t, err, "Webhooks can only create threads in forum channels (code 220003)")
	assert.NotErrorAs(t, err, new(*backoff.PermanentError))
	_, err = discord.NewWebhook(hookURL+"?thread_id=22", discord.WithThreadName("a"))
	assert.EqualError(t, err, "taskmanager: WithThreadName(a): must not go with a URL that has a thread_id")
	assert.Len(t, d.Requests(), 1)
}

// What was Discord's host is not asked: it would redirect.
func TestFormerHost(t *testing.T) {
	d, client := newFake()
	w, err := discord.NewWebhook(strings.Replace(hookURL, "discord.com", "discordapp.com", 1), discord.WithHTTPClient(client))
	require.NoError(t, err)
	require.NoError(t, w.Report(t.Context(), failed()))
	assert.Len(t, d.Messages(), 1)
}

// A message may show each name that Discord takes, in what it answers if not in what it documents.
func TestUsernames(t *testing.T) {
	for _, name := range []string{"svc: prod", "ops@eu #1", "everyone else", "there", "a ``` b"} {
		d, client := newFake()
		require.NoError(t, newWebhook(t, client, discord.WithUsername(name)).Report(t.Context(), failed()))
		assert.Equal(t, name, d.Messages()[0].Author)
	}
}
