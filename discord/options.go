package discord

import (
	"fmt"
	"net/http"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord/internal/notify"
)

// An Option configures a [Webhook] or a [Reporter]; see [NewWebhook] and [NewReporter]. Of one that is given
// twice, the last counts.
type Option interface {
	apply(*config) error
}

// config is the configuration of a Webhook, or of a Reporter.
type config struct {
	notify.Config
	client *http.Client // nil if none was given
}

// apply applies options.
func (c *config) apply(opts []Option) error {
	for i, o := range opts {
		if o == nil {
			return &taskmanager.OptionError{Option: fmt.Sprintf("opts[%d]", i), Value: nil, Reason: "must not be nil"}
		}
		if err := o.apply(c); err != nil {
			return err
		}
	}
	return nil
}

// option implements Option.
type option func(*config) error

func (o option) apply(c *config) error { return o(c) }

// set makes an option that is checked together with the others.
func set(f func(*config)) Option {
	return option(func(c *config) error {
		f(c)
		return nil
	})
}

// WithUsername sets the name that a webhook's messages show as their author: up to 80 characters, by the
// rules that Discord has for it. It must not contain "discord" or "clyde", nor be "everyone" or "here". The
// default, and "", is the webhook's own.
func WithUsername(name string) Option {
	return set(func(c *config) { c.Username = name })
}

// WithAvatarURL sets the picture that a webhook's messages show beside their author, by an http or https
// URL. The default, and "", is the webhook's own.
func WithAvatarURL(url string) Option {
	return set(func(c *config) { c.AvatarURL = url })
}

// WithThreadName is for the webhook of a forum or of a media channel, which takes messages in threads alone.
// The first message of a [Webhook] begins a thread with that name, of up to 100 characters, and the others
// go there; if the thread is deleted, the next one begins another. A [Reporter] has each message begin a
// thread, unless its SendFunc takes care of that. The default, and "", is none: a webhook's URL can name an
// existing thread by a thread_id, instead. In any other channel Discord refuses such messages.
func WithThreadName(name string) Option {
	return set(func(c *config) { c.ThreadName = name })
}

// WithMentionRole sets a role, by its id, that is mentioned in messages which say that a task was
// given up. The default, and "", is none. Nobody else is ever mentioned, but by WithMentionUser.
func WithMentionRole(id string) Option {
	return set(func(c *config) { c.MentionRole = id })
}

// WithMentionUser does for a user what WithMentionRole does for a role. Both can be given.
func WithMentionUser(id string) Option {
	return set(func(c *config) { c.MentionUser = id })
}

// WithEvents sets what kinds of events are sent. Others are not, and Report returns nil for them:
// to the Manager they are delivered. The default is all that it is given, which from a Manager is
// EventFailed, EventGaveUp, EventStuck and EventRecovered.
func WithEvents(kinds ...taskmanager.EventKind) Option {
	return set(func(c *config) { c.Events = append([]taskmanager.EventKind{}, kinds...) })
}

// WithHost sets the name of the host that is shown with each event; "" is for none. The default is
// that of [os.Hostname].
func WithHost(name string) Option {
	return set(func(c *config) { c.Host = name })
}

// WithHTTPClient sets the client that requests are made with, for its transport and its timeout. It
// must not be nil. Its CheckRedirect is not called: redirects are not followed, because the URL is
// a secret. The default is [http.DefaultClient].
func WithHTTPClient(client *http.Client) Option {
	return option(func(c *config) error {
		if client == nil {
			return &taskmanager.OptionError{Option: "WithHTTPClient", Value: nil, Reason: "must not be nil"}
		}
		c.client = client
		return nil
	})
}

// WithSecrets sets a function that returns what must show in no message and in no error: tokens, say, or
// passwords that may be in the errors of tasks. It shows as [redacted]. The function is called for each
// message and for each error, from any goroutine, so that what it returns may change; it must not block. The
// default is none. The token of a [Webhook] is a secret in any case.
func WithSecrets(secrets func() []string) Option {
	return option(func(c *config) error {
		if secrets == nil {
			return &taskmanager.OptionError{Option: "WithSecrets", Value: nil, Reason: "must not be nil"}
		}
		c.Secrets = secrets
		return nil
	})
}

// WithNonce gives each message of a [Reporter] a nonce, by which Discord recognizes for a few minutes what it
// has taken already: if the answer to a message gets lost, the next attempt does not show it twice. It is for
// those who send as a bot; a webhook can't do that. The default is none.
func WithNonce() Option {
	return set(func(c *config) { c.Nonce = true })
}
