// Package discord reports the failures of tasks to a channel of Discord, through a webhook:
//
//	w, err := discord.NewWebhook(os.Getenv("DISCORD_WEBHOOK_URL"))
//	if err != nil {
//		return err
//	}
//	m.SetReporter(w)
//
// Each event is an embed; several that wait go into one message. Amber says that the task will be
// restarted, and when; red that it has been given up. An error's text is shown as it is: nothing in
// it mentions anybody, and nothing in it is markup.
//
// # Delivery
//
// A message waits for Discord's rate limit, and is tried again when the limit has been exceeded
// after all, when the server fails, and when the network does: four times for one call of Report,
// and no longer than its context allows. Then Report returns an error, and a Manager calls it again
// later: nothing is lost by that. What has been taken is known by Discord's answer, a message with an
// id: a captive portal's page of success is no delivery. If the answer gets lost, the message goes out
// again as it was, without what has happened since, and shows twice.
//
// If a message is refused for what is in it (by AutoMod, by the filter for harmful links, by a firewall
// on the way), its events are sent one by one, and one that is still refused is sent without the text of
// its error. If Discord refuses that, too, the error is one of backoff.Permanent, and a Manager gives
// up that event alone. If something else does, the event is tried again later.
//
// Discord bars an address that makes 10,000 requests in ten minutes which it answers with 401, 403 or
// 429, and those who go on using a webhook that is gone. So if it says, by a code of its own, that the
// webhook or the channel is unknown, that the token is invalid, that access or a permission is missing,
// or that the channel takes no such messages, Report makes no request for a minute, and for twice as long
// each time that Discord says so again, up to an hour; its errors have a method RetryAfter that says, to a
// Manager, how long. None of that is final, for Discord has said "Invalid Webhook Token" during an
// incident: no error is [taskmanager.ErrReporterClosed], and what is set right is found within the hour.
// A status alone, such as 404 from a proxy, says nothing of the webhook.
//
// # Secrets
//
// Whoever knows the URL of a webhook can post to its channel. No error, no log line and no message
// shows its token, nor does printing a Webhook in any way. [WithSecrets] adds secrets of the service.
//
// # Other ways to send
//
// A [Reporter] leaves the request to a function: for a library for bots other than that of
// package discordbot, a queue, or whatever reaches Discord. Package discordtest is a Discord for tests.
package discord

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord/internal/notify"
)

// A Webhook is a [taskmanager.Reporter] that posts to a webhook of Discord. It is made by
// [NewWebhook]. It owns no goroutine and needs no closing, and its methods may be called from any
// goroutine.
type Webhook struct{ *endpoint }

// An endpoint is where a Webhook posts to.
type endpoint struct {
	id string
	// url returns where to, with the token. It is a function because package fmt, which calls no
	// methods of what is in an unexported field, prints strings there, even behind a pointer.
	url      func() string
	client   *http.Client
	notifier *notify.Notifier

	mu     sync.Mutex // guards thread
	thread string     // the id of the one that messages go to; empty for none
	begins bool       // messages begin a thread if there is none
}

// NewWebhook returns a Webhook that posts to the given URL, as Discord shows it in the settings of
// a channel: https://discord.com/api/webhooks/, the webhook's id, a slash and its token. The query
// may have a thread_id: messages go to that thread of the channel. A URL of discordapp.com, which was
// Discord's, stands for the same one of discord.com. The URL of a server on this machine is taken as
// well, also with http: a proxy, or the fake one of package discordtest.
//
// The error is a [*taskmanager.OptionError], and does not show the URL.
func NewWebhook(url string, opts ...Option) (*Webhook, error) {
	t, reason := parseURL(url)
	if reason != "" {
		return nil, &taskmanager.OptionError{Option: "url", Value: "(not shown: it is a secret)", Reason: reason}
	}
	c := config{Config: notify.NewConfig()}
	if err := c.apply(opts); err != nil {
		return nil, err
	}
	switch {
	case c.Nonce:
		return nil, &taskmanager.OptionError{Option: "WithNonce", Value: "", Reason: "is for a bot"}
	case c.ThreadName != "" && t.thread != "":
		return nil, &taskmanager.OptionError{Option: "WithThreadName", Value: c.ThreadName, Reason: "must not go with a URL that has a thread_id"}
	case c.client == nil:
		c.client = http.DefaultClient
	}
	others := c.Secrets
	c.Secrets = func() []string {
		secrets := []string{t.token}
		if others != nil {
			secrets = append(secrets, others()...)
		}
		return secrets
	}
	// A redirect could hand the token to somebody else. The copy shares connections with the
	// original.
	client := *c.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	e := &endpoint{id: t.id, url: func() string { return t.url }, client: &client, thread: t.thread, begins: c.ThreadName != ""}
	n, err := notify.New(c.Config, e.send)
	if err != nil {
		return nil, err
	}
	e.notifier = n
	return &Webhook{e}, nil
}

// Report posts e as one message; see ReportBatch.
func (w *Webhook) Report(ctx context.Context, e taskmanager.Event) error {
	return w.notifier.Report(ctx, e)
}

// ReportBatch posts events from the first one on, as many as fit in one message, and returns how
// many these are. Those which [WithEvents] leaves out count as delivered.
//
// It blocks until Discord has taken the message, or until that has failed: at the latest when ctx
// is done, and at once if the next attempt would come after its deadline. Without a deadline, it
// waits no more than a minute for an attempt. An error is about the events that were not delivered; one of
// backoff.Permanent says that the first of them is refused.
func (w *Webhook) ReportBatch(ctx context.Context, events []taskmanager.Event) (n int, err error) {
	return w.notifier.ReportBatch(ctx, events)
}

// userAgent has the form that Discord asks for.
const userAgent = "DiscordBot (https://github.com/go-taskmanager/taskmanager, 0)"

// send posts m once. Its errors don't show the URL, as those of package http do.
func (e *endpoint) send(ctx context.Context, m *notify.Message) (*notify.Response, error) {
	e.mu.Lock()
	thread := e.thread
	e.mu.Unlock()
	message := m.Body()
	if thread != "" {
		message.ThreadName = ""
	}
	body, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url()+"?"+query(thread), bytes.NewReader(body))
	if err != nil {
		return nil, withoutURL(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", userAgent)
	resp, err := e.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	r := (*notify.Response)(ReadResponse(resp))
	if e.begins {
		e.follow(thread, r)
	}
	return r, nil
}

// follow notes, of the answer to a message for a thread, or for one that it begins, where the next one goes.
func (e *endpoint) follow(thread string, r *notify.Response) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.thread != thread: // it was found out meanwhile
	case thread == "":
		e.thread = r.Channel()
	case r.NoChannel(): // it was deleted
		e.thread = ""
	}
}

func withoutURL(err error) error {
	for {
		var e *url.Error
		if !errors.As(err, &e) {
			return err
		}
		err = e.Err
	}
}

// String returns "discord.Webhook(ID)". The id is no secret.
func (w Webhook) String() string {
	if w.endpoint == nil {
		return "discord.Webhook()"
	}
	return "discord.Webhook(" + w.id + ")"
}

// Format writes String for any verb: %#v, too, must not show the token.
func (w Webhook) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, w.String()) }

// LogValue returns String, for package slog.
func (w Webhook) LogValue() slog.Value { return slog.StringValue(w.String()) }

// MarshalText returns String, for package json and others.
func (w Webhook) MarshalText() ([]byte, error) { return []byte(w.String()), nil }
