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
// and no longer than its context allows. If the response to a message that was taken gets lost, the
// message shows twice. The statuses 401, 403 and 404 are final: the webhook is gone, or is none of
// ours. The Webhook sends nothing from then on; its errors are [taskmanager.ErrReporterClosed], and
// a Manager calls it no more until SetReporter has set another.
//
// # Secrets
//
// Whoever knows the URL of a webhook can post to its channel. No error, no log line and no message
// shows its token, nor does printing a Webhook in any way.
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
}

// NewWebhook returns a Webhook that posts to the given URL, as Discord shows it in the settings of
// a channel: https://discord.com/api/webhooks/, the webhook's id, a slash and its token. The query
// may have a thread_id. The URL of a server on this machine is taken as well, also with http: a
// proxy, or a fake one for tests.
//
// The error is a [*taskmanager.OptionError], and does not show the URL.
func NewWebhook(url string, opts ...Option) (*Webhook, error) {
	id, token, target, reason := parseURL(url)
	if reason != "" {
		return nil, &taskmanager.OptionError{Option: "url", Value: "(not shown: it is a secret)", Reason: reason}
	}
	c := config{Config: notify.NewConfig(), client: http.DefaultClient}
	c.Secret = token
	for i, o := range opts {
		if o == nil {
			return nil, &taskmanager.OptionError{Option: fmt.Sprintf("opts[%d]", i), Value: nil, Reason: "must not be nil"}
		}
		if err := o.apply(&c); err != nil {
			return nil, err
		}
	}
	// A redirect could hand the token to somebody else. The copy shares connections with the
	// original.
	client := *c.client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	e := &endpoint{id: id, url: func() string { return target }, client: &client}
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
// waits no more than a minute for an attempt.
func (w *Webhook) ReportBatch(ctx context.Context, events []taskmanager.Event) (n int, err error) {
	return w.notifier.ReportBatch(ctx, events)
}

// userAgent has the form that Discord asks for.
const userAgent = "DiscordBot (https://github.com/go-taskmanager/taskmanager, 0)"

// send posts m once. Its errors don't show the URL, as those of package http do.
func (e *endpoint) send(ctx context.Context, m *notify.Message) (*notify.Response, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url(), bytes.NewReader(body))
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
	// The status says what counts, also if the rest of the body never comes.
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, notify.MaxBody))
	return &notify.Response{Status: resp.StatusCode, Header: resp.Header, Body: answer}, nil
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
