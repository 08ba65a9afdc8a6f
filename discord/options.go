package discord

import (
	"net/http"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord/internal/notify"
)

// An Option configures a [Webhook]; see [NewWebhook]. Of one that is given twice, the last counts.
type Option interface {
	apply(*config) error
}

// config is the configuration of a Webhook.
type config struct {
	notify.Config
	client *http.Client
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

// WithUsername sets the name that messages show as their author: up to 80 characters, by the rules
// that Discord has for nicknames. The default, and "", is the webhook's own.
func WithUsername(name string) Option {
	return set(func(c *config) { c.Username = name })
}

// WithAvatarURL sets the picture that messages show beside their author, by an http or https URL.
// The default, and "", is the webhook's own.
func WithAvatarURL(url string) Option {
	return set(func(c *config) { c.AvatarURL = url })
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
// EventFailed, EventGaveUp and EventStuck.
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
