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
// It is that of a webhook, for which package discord documents it, but for one thing: a message carries a nonce,
// by which Discord recognizes it for a few minutes. If the response to a message that was taken gets lost, the
// next attempt does not show it twice.
//
// If Discord says that the token is invalid, that the channel is unknown, or that the bot may not write to it,
// Report makes no request for a minute, and for twice as long each time that Discord says so again, up to
// an hour.
//
// # The session
//
// Of the session, the Reporter uses the token and the HTTP client, as they are at each request. It does without the rate limiter
// and the retries of discordgo, for these sleep and don't ask a context: no request of the Reporter
// waits for one of the service, nor the other way round. Both learn of the limits that they share
// from Discord's responses.
//
// # Secrets
//
// No error, no message and no way to print a Reporter shows the token of its session, whatever its form:
// it is found in the header of each request. A session whose Debug is set logs it with each request.
package discordbot

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/bwmarrin/discordgo"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord"
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
	}
	if !isID(channelID) {
		return nil, &taskmanager.OptionError{Option: "channelID", Value: channelID, Reason: "must be an id: a number of up to 20 digits"}
	}
	s := &sender{session: session, channel: channelID}
	all := []discord.Option{discord.WithNonce(), discord.WithSecrets(s.tokens.all)}
	for i, o := range opts {
		if o == nil {
			return nil, &taskmanager.OptionError{Option: fmt.Sprintf("opts[%d]", i), Value: nil, Reason: "must not be nil"}
		}
		all = append(all, o.option())
	}
	r, err := discord.NewReporter(s.send, all...)
	if err != nil {
		return nil, err
	}
	s.reporter = r
	return &Reporter{s}, nil
}

// isID reports whether s is the id of something in Discord: a positive number of 64 bits, in decimal.
func isID(s string) bool {
	n, err := strconv.ParseUint(s, 10, 64)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == s
}

// Report sends e as one message; see ReportBatch.
func (r *Reporter) Report(ctx context.Context, e taskmanager.Event) error {
	return r.reporter.Report(ctx, e)
}

// ReportBatch sends events from the first one on, as many as fit in one message, and returns how
// many these are. Those which [WithEvents] leaves out count as delivered.
//
// It blocks until Discord has taken the message, or until that has failed: at the latest when ctx
// is done, and at once if the next attempt would come after its deadline. Without a deadline, it
// waits no more than a minute for an attempt. An error is about the events that were not delivered; one
// of backoff.Permanent says that the first of them is refused.
func (r *Reporter) ReportBatch(ctx context.Context, events []taskmanager.Event) (n int, err error) {
	return r.reporter.ReportBatch(ctx, events)
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
