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

	"github.com/cenkalti/backoff/v4"

	"github.com/go-taskmanager/taskmanager"
)

// A Config is what the options of a reporter set. The zero value sends all events, mentions nobody
// and says nothing of the host.
type Config struct {
	Username    string                  // shown as the author; "": the webhook's own
	AvatarURL   string                  // "": the webhook's own
	ThreadName  string                  // of the thread that messages begin; "": none
	MentionRole string                  // the id of a role to mention when a task is given up; "": none
	MentionUser string                  // the same for a user
	Events      []taskmanager.EventKind // that are sent; nil: all
	Host        string                  // shown with each event; "": not shown
	Nonce       bool                    // messages have one
	Secrets     func() []string         // returns what must not show in a message or an error; nil: there is nothing
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
	config Config
	send   Send

	mu      sync.Mutex // guards what follows; held for moments
	limit   limit
	absence absence
	unsure  *Message            // the last one that has failed and may have been taken; nil if there is none
	told    []taskmanager.Event // by that message, when it was sent again; of those that have not come back since
}

// New returns a Notifier that sends by send. The error is a [*taskmanager.OptionError] that names
// the option in which the value was given: WithMentionRole for MentionRole, and so on.
func New(c Config, send Send) (*Notifier, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.Events = slices.Clone(c.Events)
	return &Notifier{config: c, send: send}, nil
}

// Report delivers e; see ReportBatch.
func (n *Notifier) Report(ctx context.Context, e taskmanager.Event) error {
	_, err := n.ReportBatch(ctx, []taskmanager.Event{e})
	return err
}

// ReportBatch delivers events from the first one on, as many as fit in one message, and returns how
// many. Those of a kind that is not wanted count as delivered.
//
// It blocks until the message is delivered, until that has failed, or until ctx is done. If it would
// have to wait beyond the deadline of ctx, it returns at once. An error is about the events that were
// not delivered; one of [backoff.Permanent] says that the first of them is refused.
func (n *Notifier) ReportBatch(ctx context.Context, events []taskmanager.Event) (int, error) {
	if err := n.tellAgain(ctx, events); err != nil {
		return 0, n.hide(err)
	}
	rest := n.untold(events)
	taken := leadingTold(rest)
	var err error
	if taken == 0 {
		taken, err = n.tell(ctx, rest)
	}
	n.forget(events[:taken])
	return taken, n.hide(err)
}

// tell is ReportBatch for events of which none has been told.
func (n *Notifier) tell(ctx context.Context, events []taskmanager.Event) (int, error) {
	m, taken := n.pack(events)
	if m == nil {
		return taken, nil
	}
	err := n.deliver(ctx, m)
	switch {
	case err == nil:
		return taken, nil
	case !errors.As(err, new(*refusal)):
		return 0, err
	case len(m.events) == 1:
		bareErr := n.tellWithoutTexts(ctx, m, err)
		if bareErr != nil {
			return 0, bareErr
		}
		return taken, nil
	}
	// One of them is refused: the others are not to suffer from it.
	for i, e := range events[:taken] {
		if !n.wants(e.Kind) {
			continue
		}
		m := n.newMessage([]taskmanager.Event{e})
		err := n.deliver(ctx, m)
		if errors.As(err, new(*refusal)) {
			err = n.tellWithoutTexts(ctx, m, err)
		}
		if err != nil {
			return i, err
		}
	}
	return taken, nil
}

// tellWithoutTexts delivers m, which is about one event and was refused, without the texts that were
// most likely the reason. If they weren't, the event can't be told; unless it is not Discord that refuses
// it: what is on the way may let it through another time.
func (n *Notifier) tellWithoutTexts(ctx context.Context, m *Message, err error) error {
	if m.hasTexts() {
		err = n.deliver(ctx, m.withoutTexts())
	}
	var r *refusal
	if errors.As(err, &r) && r.certain {
		return backoff.Permanent(err)
	}
	return err
}

// redactor returns what takes the secrets that are known by now out of a text.
func (n *Notifier) redactor() func(string) string {
	var pairs []string
	if n.config.Secrets != nil {
		for _, secret := range n.config.Secrets() {
			if secret != "" {
				pairs = append(pairs, secret, "[redacted]")
			}
		}
	}
	return strings.NewReplacer(pairs...).Replace
}

// hide returns err, or if that shows a secret, an error that says the same without it, and asks for the same.
func (n *Notifier) hide(err error) error {
	if err == nil {
		return nil
	}
	text := errorText(err)
	redacted := n.redactor()(text)
	if redacted == text {
		return err
	}
	hidden := errors.New(redacted)
	switch e := err.(type) { //nolint:errorlint // the outermost is ours
	case *pauseError:
		return &pauseError{hidden, e.after}
	case *backoff.PermanentError:
		return backoff.Permanent(hidden)
	}
	return hidden
}

// A pauseError says when the next attempt may be made.
type pauseError struct {
	err   error
	after time.Duration
}

func (e *pauseError) Error() string { return e.err.Error() }

func (e *pauseError) Unwrap() error { return e.err }

// RetryAfter returns how long to wait, for a Manager.
func (e *pauseError) RetryAfter() time.Duration { return e.after }
