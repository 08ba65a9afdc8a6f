package discordbot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/bwmarrin/discordgo"

	"github.com/go-taskmanager/taskmanager/discord"
)

// A sender sends messages to one channel.
type sender struct {
	session  Session
	channel  string
	reporter *discord.Reporter
	tokens   tokens
}

// send sends m once.
func (s *sender) send(ctx context.Context, m *discord.Message) (*discord.Response, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	// Buckets are locked for as long as a request takes, and to lock one that is exhausted sleeps
	// until it isn't. A limiter of its own makes this one neither locked nor exhausted.
	to := discordgo.EndpointChannelMessages(s.channel)
	bucket := discordgo.NewRatelimiter().LockBucket(to)
	o := observer{message: m, tokens: &s.tokens}
	answer, err := s.session.RequestWithLockedBucket(http.MethodPost, to, "application/json", body, bucket, 0, o.option(ctx))
	if o.response != nil {
		return o.response, nil // it says all that err does, and more
	}
	return responseOf(answer, err)
}

// tokens are those that requests were made with. Whatever the Session is, and whenever its token was set, it is
// in its request, and only there.
type tokens struct {
	mu   sync.Mutex // guards last
	last []string   // the latest last
}

// add notes the token in the header of a request, and returns whether it was not known.
func (t *tokens) add(authorization string) bool {
	parts := strings.Fields(authorization) // "Bot" or "Bearer", and the token; or the token alone
	if len(parts) == 0 {
		return false
	}
	token := parts[len(parts)-1]
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Contains(t.last, token) {
		return false
	}
	const most = 8 // what was in use so long ago is of no use any more
	if t.last = append(t.last, token); len(t.last) > most {
		t.last = t.last[1:]
	}
	return true
}

// all returns the tokens.
func (t *tokens) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.last)
}

// An observer sees one request and the response to it. What discordgo makes of that, an error, tells less:
// nothing of the headers of a success, and of a status 429 in HTML only that it is no JSON.
type observer struct {
	message   *discord.Message
	tokens    *tokens
	transport http.RoundTripper
	response  *discord.Response // nil until there is one
}

// option has the request observed, and made once, in ctx.
func (o *observer) option(ctx context.Context) discordgo.RequestOption {
	return func(c *discordgo.RequestConfig) {
		c.ShouldRetryOnRateLimit = false
		c.MaxRestRetries = 0
		c.Request = c.Request.WithContext(ctx)
		if o.tokens.add(c.Request.Header.Get("Authorization")) {
			o.render(c.Request)
		}
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

// render makes the body of r anew, without the token that is known only now.
func (o *observer) render(r *http.Request) {
	body, _ := json.Marshal(o.message) // as before, when it did not fail
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
}

// RoundTrip implements http.RoundTripper.
func (o *observer) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.transport.RoundTrip(r)
	if err != nil || resp == nil || resp.Body == nil {
		return resp, err // package http says what is wrong with it
	}
	defer resp.Body.Close()
	o.response = discord.ReadResponse(resp)
	resp.Body = io.NopCloser(bytes.NewReader(o.response.Body))
	return resp, nil
}

// responseOf returns the response that a Session has returned as answer, or by err. One that is not
// discordgo's may not have made the request as the option wants it.
func responseOf(answer []byte, err error) (*discord.Response, error) {
	var (
		limited *discordgo.RateLimitError
		refused *discordgo.RESTError
	)
	switch {
	case err == nil:
		return &discord.Response{Status: http.StatusOK, Body: answer}, nil
	case errors.As(err, &limited) && limited.RateLimit != nil && limited.TooManyRequests != nil:
		after := strconv.FormatFloat(limited.RetryAfter.Seconds(), 'f', 3, 64)
		return &discord.Response{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {after}}}, nil
	case errors.As(err, &refused) && refused.Response != nil:
		return &discord.Response{Status: refused.Response.StatusCode, Header: refused.Response.Header, Body: refused.ResponseBody}, nil
	}
	// An error of discordgo shows a request with its headers, if it is printed by %+v.
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return nil, err
}
