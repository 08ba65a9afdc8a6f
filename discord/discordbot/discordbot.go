// Package discordbot reports the failures of tasks to a channel of Discord, through the session of
// a bot that a service has already:
//
//	session, err := discordgo.New("Bot " + os.Getenv("DISCORD_BOT_TOKEN"))
//	if err != nil {
//		return err
//	}
//	r, err := discordbot.New(session, os.Getenv("DISCORD_CHANNEL_ID"))
//	if err != nil {
//		return err
//	}
//	m.SetReporter(r)
//
// The session need not be open: messages are sent by HTTP. The bot needs the permissions to view
// the channel, to send messages and to embed links. Messages look as those of a webhook do, which
// package discord posts without a dependency.
//
// # Delivery
//
// A message waits for Discord's rate limit, and is tried again when the limit has been exceeded
// after all, when the server fails, and when the network does: four times for one call of Report,
// and no longer than its context allows. It carries a nonce, by which Discord recognizes it: if
// the response to a message that was taken gets lost, the next attempt does not show it twice.
//
// The statuses 401, 403 and 404 are final: the token is none, or the channel none for this bot. The
// Reporter sends nothing from then on; its errors are [taskmanager.ErrReporterClosed], and a
// Manager calls it no more until SetReporter has set another.
//
// # The session
//
// Of the session, the Reporter uses the token and the HTTP client. It does without the rate limiter
// and the retries of discordgo, for these sleep and don't ask a context: no request of the Reporter
// waits for one of the service, nor the other way round. Both learn of the limits that they share
// from Discord's responses.
//
// # Secrets
//
// No error, no message and no way to print a Reporter shows the token of its session. A session
// whose Debug is set logs it with each request.
package discordbot

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/bwmarrin/discordgo"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord/internal/notify"
)

// A Session sends requests to Discord's API. A [*discordgo.Session] is one.
type Session interface {
	// RequestWithLockedBucket makes one request, to the configuration of which it applies the
	// options, and releases the bucket. It is called from any goroutine.
	RequestWithLockedBucket(method, url, contentType string, body []byte, bucket *discordgo.Bucket,
		sequence int, options ...discordgo.RequestOption) (response []byte, err error)
}

// A Reporter is a [taskmanager.Reporter] that sends messages as a bot. It is made by [New]. It owns
// no goroutine and needs no closing, and its methods may be called from any goroutine.
type Reporter struct {
	// A pointer, so that package fmt, which sees unexported fields and calls no methods of them,
	// prints an address where a Reporter is part of something else.
	*sender
}

// New returns a Reporter that sends to the channel, or the thread, with that id. The id is a
// number: Discord shows it to users in developer mode.
//
// The error is a [*taskmanager.OptionError]. Whether there is such a channel, and whether the bot
// may write to it, is known with the first report.
func New(session Session, channelID string, opts ...Option) (*Reporter, error) {
	c := notify.NewConfig()
	switch s := session.(type) {
	case nil:
		return nil, &taskmanager.OptionError{Option: "session", Value: nil, Reason: "must not be nil"}
	case *discordgo.Session:
		if s == nil {
			return nil, &taskmanager.OptionError{Option: "session", Value: nil, Reason: "must not be nil"}
		}
		if s.Client == nil {
			return nil, &taskmanager.OptionError{Option: "session", Value: "without an HTTP client", Reason: "must be made by discordgo.New"}
		}
		c.Secret = strings.TrimPrefix(s.Token, "Bot ")
	}
	if reason := notify.CheckID(channelID); reason != "" {
		return nil, &taskmanager.OptionError{Option: "channelID", Value: channelID, Reason: reason}
	}
	for i, o := range opts {
		if o == nil {
			return nil, &taskmanager.OptionError{Option: fmt.Sprintf("opts[%d]", i), Value: nil, Reason: "must not be nil"}
		}
		o.apply(&c)
	}
	s := &sender{session: session, channel: channelID, salt: newSalt()}
	n, err := notify.New(c, s.send)
	if err != nil {
		return nil, err
	}
	s.notifier = n
	return &Reporter{s}, nil
}

// Report sends e as one message; see ReportBatch.
func (r *Reporter) Report(ctx context.Context, e taskmanager.Event) error {
	return r.notifier.Report(ctx, e)
}

// ReportBatch sends events from the first one on, as many as fit in one message, and returns how
// many these are. Those which [WithEvents] leaves out count as delivered.
//
// It blocks until Discord has taken the message, or until that has failed: at the latest when ctx
// is done, and at once if the next attempt would come after its deadline. Without a deadline, it
// waits no more than a minute for an attempt.
func (r *Reporter) ReportBatch(ctx context.Context, events []taskmanager.Event) (n int, err error) {
	return r.notifier.ReportBatch(ctx, events)
}

// String returns "discordbot.Reporter(CHANNEL)", with the id of the channel.
func (r Reporter) String() string {
	if r.sender == nil {
		return "discordbot.Reporter()"
	}
	return "discordbot.Reporter(" + r.channel + ")"
}

// Format writes String for any verb: %#v, too, must not show the session.
func (r Reporter) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// MarshalText returns String, for packages json, slog and others.
func (r Reporter) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
