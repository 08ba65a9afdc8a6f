// Package notify is what reporters to Discord have in common: it renders events as one message, and
// decides when to send it, when to try again and when to give up. How a message is sent is up to
// the reporter.
package notify

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// A Config is what the options of a reporter set. The zero value sends all events, mentions nobody
// and says nothing of the host.
type Config struct {
	Username    string                  // shown as the author; "": the webhook's own
	AvatarURL   string                  // "": the webhook's own
	MentionRole string                  // the id of a role to mention when a task is given up; "": none
	MentionUser string                  // the same for a user
	Events      []taskmanager.EventKind // that are sent; nil: all
	Host        string                  // shown with each event; "": not shown
	Secret      string                  // must not show in a message or an error; "": there is none
}

// NewConfig returns the default: the zero value, with the name of the host.
func NewConfig() Config {
	host, err := os.Hostname()
	if err != nil {
		host = "" // there is none to show
	}
	return Config{Host: host}
}

// A Notifier renders events and delivers them. It implements [taskmanager.BatchReporter]. Its
// methods may be called from any goroutine.
type Notifier struct {
	config Config                // its Secret is empty: it must not show if this is printed
	redact func(s string) string // takes the secret out of a text
	send   Send

	mu        sync.Mutex
	notBefore time.Time // when the rate limit allows the next request
	closed    error     // why there must be no further request; nil while there may be
}

// New returns a Notifier that sends by send. The error is a [*taskmanager.OptionError] that names
// the option in which the value was given: WithMentionRole for MentionRole, and so on.
func New(c Config, send Send) (*Notifier, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	n := &Notifier{config: c, redact: func(s string) string { return s }, send: send}
	if c.Secret != "" {
		n.redact = strings.NewReplacer(c.Secret, "[redacted]").Replace
	}
	n.config.Secret = ""
	n.config.Events = slices.Clone(c.Events)
	return n, nil
}

// Report delivers e; see ReportBatch.
func (n *Notifier) Report(ctx context.Context, e taskmanager.Event) error {
	_, err := n.ReportBatch(ctx, []taskmanager.Event{e})
	return err
}

// ReportBatch delivers events from the first one on, as many as fit in one message, and returns how
// many. Those of a kind that is not wanted count as delivered.
//
// It blocks until the message is delivered, until that has failed for good, or until ctx is done.
// If it would have to wait beyond the deadline of ctx, it returns at once. An error that is
// [taskmanager.ErrReporterClosed] is final: nothing is sent from then on.
func (n *Notifier) ReportBatch(ctx context.Context, events []taskmanager.Event) (int, error) {
	m, taken := n.Render(events)
	if m == nil {
		return taken, nil
	}
	if err := n.deliver(ctx, m); err != nil {
		return 0, n.hide(err)
	}
	return taken, nil
}

// hide returns err, or if that shows the secret, an error that says the same without it.
func (n *Notifier) hide(err error) error {
	text := errorText(err)
	if redacted := n.redact(text); redacted != text {
		return &redactedError{text: redacted, closed: errors.Is(err, taskmanager.ErrReporterClosed)}
	}
	return err
}

// A redactedError does not unwrap to the error that it stands for, which shows the secret.
type redactedError struct {
	text   string
	closed bool
}

func (e *redactedError) Error() string { return e.text }

func (e *redactedError) Is(target error) bool {
	return e.closed && target == taskmanager.ErrReporterClosed
}
