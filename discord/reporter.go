package discord

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord/internal/notify"
)

// A Message is some events of tasks, in the form in which Discord takes them. It is made by a
// [Reporter], for its [SendFunc].
type Message struct{ message *notify.Message }

// MarshalJSON returns the body of the request that sends the message: that of Discord's Create Message
// and, if its options are for a webhook, of Execute Webhook. Nothing that [WithSecrets] names by now is
// in it.
func (m *Message) MarshalJSON() ([]byte, error) { return json.Marshal(m.message.Body()) }

// A Response is the answer to a request that sends a message.
type Response struct {
	Status int         // of HTTP
	Header http.Header // may be nil
	Body   []byte      // what was read of it
}

// ReadResponse reads as much of the body of r as a [Reporter] looks at, which is 64 KiB. It leaves it to its caller
// to close the body. An error while it reads is none of its own: the body ends there.
func ReadResponse(r *http.Response) *Response {
	answer := &Response{Status: r.StatusCode, Header: r.Header}
	// After 101, Switching Protocols, the body is the connection, and reading it ends with no context.
	if r.StatusCode != http.StatusSwitchingProtocols {
		answer.Body, _ = io.ReadAll(io.LimitReader(r.Body, maxBody))
	}
	return answer
}

// maxBody is how much of a response is looked at.
const maxBody = 64 << 10

// A SendFunc makes one request that sends m, and returns the response to it, whatever its status is; or
// an error if there is none. It neither tries again nor follows redirects, and returns when ctx is done.
// It asks Discord for the message that it has made of m: with wait=true, if it executes a webhook.
// It is called from the goroutines that call the [Reporter], perhaps from several at once.
type SendFunc func(ctx context.Context, m *Message) (*Response, error)

// A Reporter is a [taskmanager.Reporter] that tells events of tasks in a channel of Discord. It is for those
// who send messages in a way of their own, such as another library for bots; it is made by [NewReporter]. It
// owns no goroutine and needs no closing, and its methods may be called from any goroutine.
type Reporter struct{ notifier *notify.Notifier }

// NewReporter returns a Reporter that sends messages by send, which must not be nil. It takes all
// options but [WithHTTPClient].
//
// What is said of delivery in the documentation of this package holds for it, too. The error is a
// [*taskmanager.OptionError].
func NewReporter(send SendFunc, opts ...Option) (*Reporter, error) {
	if send == nil {
		return nil, &taskmanager.OptionError{Option: "send", Value: nil, Reason: "must not be nil"}
	}
	c := config{Config: notify.NewConfig()}
	if err := c.apply(opts); err != nil {
		return nil, err
	}
	if c.client != nil {
		return nil, &taskmanager.OptionError{Option: "WithHTTPClient", Value: c.client, Reason: "is for a Webhook"}
	}
	n, err := notify.New(c.Config, func(ctx context.Context, m *notify.Message) (*notify.Response, error) {
		r, err := send(ctx, &Message{m})
		return (*notify.Response)(r), err
	})
	if err != nil {
		return nil, err
	}
	return &Reporter{n}, nil
}

// Report sends e as one message; see ReportBatch.
func (r *Reporter) Report(ctx context.Context, e taskmanager.Event) error {
	return r.notifier.Report(ctx, e)
}

// ReportBatch sends events from the first one on, as many as fit in one message, and returns how many
// these are; see [Webhook.ReportBatch].
func (r *Reporter) ReportBatch(ctx context.Context, events []taskmanager.Event) (n int, err error) {
	return r.notifier.ReportBatch(ctx, events)
}
