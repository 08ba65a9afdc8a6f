package discordbot

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/bwmarrin/discordgo"

	"github.com/go-taskmanager/taskmanager/discord/internal/notify"
)

// A sender sends messages to one channel.
type sender struct {
	session  Session
	channel  string
	salt     string // of nonces
	notifier *notify.Notifier
}

// A message is what a bot sends: that of a webhook, and how to recognize it.
type message struct {
	*notify.Message
	Nonce        string `json:"nonce"`
	EnforceNonce bool   `json:"enforce_nonce"`
}

// send sends m once.
func (s *sender) send(ctx context.Context, m *notify.Message) (*notify.Response, error) {
	nonce, err := s.nonce(m)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(message{m, nonce, true})
	if err != nil {
		return nil, err
	}
	// Buckets are locked for as long as a request takes, and to lock one that is exhausted sleeps
	// until it isn't. A limiter of its own makes this one neither locked nor exhausted.
	to := discordgo.EndpointChannelMessages(s.channel)
	bucket := discordgo.NewRatelimiter().LockBucket(to)
	var o observer
	_, err = s.session.RequestWithLockedBucket(http.MethodPost, to, "application/json", body, bucket, 0, o.option(ctx))
	if o.response != nil {
		return o.response, nil // it says all that err does, and more
	}
	return responseOf(err)
}

func newSalt() string { return rand.Text() }

// nonce is the same for each attempt to send m, also if the Manager makes it, and different for
// any other message. Discord takes up to 25 characters.
func (s *sender) nonce(m *notify.Message) (string, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append([]byte(s.salt), text...))
	return hex.EncodeToString(sum[:12]), nil
}

// An observer sees the response to one request. What discordgo makes of it, an error, tells less:
// nothing of the headers of a success, and of a status 429 in HTML only that it is no JSON.
type observer struct {
	transport http.RoundTripper
	response  *notify.Response // nil until there is one
}

// option has the request observed, and made once, in ctx.
func (o *observer) option(ctx context.Context) discordgo.RequestOption {
	return func(c *discordgo.RequestConfig) {
		c.ShouldRetryOnRateLimit = false
		c.MaxRestRetries = 0
		c.Request = c.Request.WithContext(ctx)
		client := new(http.Client)
		if c.Client != nil {
			*client = *c.Client // it shares connections with the original
		}
		o.transport = client.Transport
		if o.transport == nil {
			o.transport = http.DefaultTransport
		}
		client.Transport = o
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		c.Client = client
	}
}

// RoundTrip implements http.RoundTripper.
func (o *observer) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	// The status says what counts, also if the rest of the body never comes.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, notify.MaxBody))
	o.response = &notify.Response{Status: resp.StatusCode, Header: resp.Header, Body: body}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// responseOf returns the response that err tells of. A Session that is not discordgo's may return
// its errors without having made the request as the option wants it.
func responseOf(err error) (*notify.Response, error) {
	var (
		limited *discordgo.RateLimitError
		refused *discordgo.RESTError
	)
	switch {
	case err == nil:
		return &notify.Response{Status: http.StatusOK}, nil
	case errors.As(err, &limited) && limited.RateLimit != nil && limited.TooManyRequests != nil:
		after := strconv.FormatFloat(limited.RetryAfter.Seconds(), 'f', 3, 64)
		return &notify.Response{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {after}}}, nil
	case errors.As(err, &refused) && refused.Response != nil:
		body := refused.ResponseBody[:min(len(refused.ResponseBody), notify.MaxBody)]
		return &notify.Response{Status: refused.Response.StatusCode, Header: refused.Response.Header, Body: body}, nil
	}
	// An error of discordgo shows a request with its headers, if it is printed by %+v.
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return nil, err
}
