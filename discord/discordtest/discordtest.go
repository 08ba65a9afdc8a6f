// Package discordtest is a Discord for tests: the part of its HTTP API that sends messages, with its
// limits, its errors and its rate limits, and the channels that show them.
//
// A [Server] is an [http.Handler], for a server on loopback:
//
//	fake := discordtest.New()
//	fake.AddWebhook("1", "token", "2")
//	server := httptest.NewServer(fake)
//	defer server.Close()
//	w, err := discord.NewWebhook(server.URL + "/api/webhooks/1/token")
//
// [Server.Transport] calls it without a socket, so that a client can be tested in a bubble of
// [testing/synctest], whose clock it then follows. [Server.Fail] makes it fail as Discord, and what is
// before it, fail in practice.
//
// It knows two requests, below /api and below /api/v10 or any other version:
//
//	POST webhooks/{id}/{token}[?wait=true][&thread_id=]
//	POST channels/{id}/messages    Authorization: Bot TOKEN
//
// Limits, forms and codes are those of Discord's documentation and, where that is silent, of
// answers that people have quoted in public; what could be found in neither is marked as not
// checked where it is decided. Where in doubt it refuses what Discord may take.
package discordtest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// A Server is the fake. It is made by [New]; its methods may be called from any goroutine.
type Server struct {
	mu       sync.Mutex
	channels map[string]bool            // by id, with whether it is a forum
	webhooks map[string]webhook         // by id
	bots     map[string]map[string]bool // by token: the channels that it may write to
	users    map[string]string          // names by id
	roles    map[string]string          // names by id
	harmful  string                     // what no message may have in it; empty for nothing
	faults   []Fault                    // for the next requests, in order
	limit    rule                       // of each webhook and each channel
	global   rule                       // of everything
	buckets  map[string]*bucket         // by route, "" for the global one
	requests []Request
	messages []Message
	lastID   uint64
	changed  chan struct{} // closed and replaced with each request answered
}

type webhook struct{ token, channel string }

// A Request is one that has been answered, or left without an answer.
type Request struct {
	Time   time.Time // of its arrival
	Method string
	Path   string      // without the token of a webhook
	Header http.Header // without Authorization
	Status int         // of the answer; 0 if there was none
}

// New returns a Server without channels, webhooks and bots. It allows 5 requests in 2 seconds to
// each webhook and channel and 50 in a second in all.
func New() *Server {
	return &Server{
		channels: make(map[string]bool),
		webhooks: make(map[string]webhook),
		bots:     make(map[string]map[string]bool),
		users:    make(map[string]string),
		roles:    make(map[string]string),
		// The documentation gives the global one. That of a webhook is what its users report.
		limit:   rule{requests: 5, per: 2 * time.Second},
		global:  rule{requests: 50, per: time.Second},
		buckets: make(map[string]*bucket),
		lastID:  1_000_000_000_000_000_000,
		changed: make(chan struct{}),
	}
}

// AddChannel adds a channel, or a thread, which is one.
func (s *Server) AddChannel(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channels[id] = false
}

// AddForum adds a forum: a channel that has messages in threads alone. A thread that begins in it has the id
// of its first message, and is a channel like others. For one that exists already, use AddChannel.
func (s *Server) AddForum(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channels[id] = true
}

// RemoveChannel deletes a channel or a thread.
func (s *Server) RemoveChannel(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.channels, id)
}

// Refuse makes the filter for harmful links refuse each message that has that text anywhere in it, from now on, and
// whatever it was given before no longer; "" is for nothing.
func (s *Server) Refuse(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.harmful = text
}

// AddWebhook adds a webhook for a channel, and the channel if there is none. Its URL is
// /api/webhooks/ID/TOKEN.
func (s *Server) AddWebhook(id, token, channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(channel)
	s.webhooks[id] = webhook{token, channel}
}

// addLocked adds a channel, if there is none.
func (s *Server) addLocked(id string) {
	if _, ok := s.channels[id]; !ok {
		s.channels[id] = false
	}
}

// AddBot adds a bot that may write to channels, which are added if they are missing. To add it
// again replaces its channels.
func (s *Server) AddBot(token string, channels ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bots[token] = make(map[string]bool)
	for _, id := range channels {
		s.addLocked(id)
		s.bots[token][id] = true
	}
}

// AddUser adds a user, for whose id mentions show the name.
func (s *Server) AddUser(id, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[id] = name
}

// AddRole adds a role, for whose id mentions show the name.
func (s *Server) AddRole(id, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[id] = name
}

// RemoveWebhook deletes a webhook, as a user of the channel may.
func (s *Server) RemoveWebhook(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.webhooks, id)
}

// Requests returns the requests until now, in the order in which they ended.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests...)
}

// Messages returns the messages of all channels, the oldest first.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

// Wait returns when there are n messages, or the cause of ctx when that is done.
func (s *Server) Wait(ctx context.Context, n int) error {
	return s.wait(ctx, func() bool { return len(s.messages) >= n })
}

// WaitRequests returns when n requests have ended, or the cause of ctx when that is done.
func (s *Server) WaitRequests(ctx context.Context, n int) error {
	return s.wait(ctx, func() bool { return len(s.requests) >= n })
}

func (s *Server) wait(ctx context.Context, enoughLocked func() bool) error {
	for {
		s.mu.Lock()
		enough, changed := enoughLocked(), s.changed
		s.mu.Unlock()
		if enough {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const most = 25 << 20 // the documented size of a request
	arrived := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	a := s.answer(r, body, err)
	status := a.status
	switch {
	case a.switched:
		status = http.StatusSwitchingProtocols
	case a.silent:
		status = 0
	}
	// Before the client hears of it, which may ask Requests at once.
	s.mu.Lock()
	header := r.Header.Clone()
	header.Del("Authorization")
	s.requests = append(s.requests, Request{arrived, r.Method, pathOf(r), header, status})
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	a.write(w, r)
}

// pathOf is the path of a request without a token.
func pathOf(r *http.Request) string {
	parts := strings.Split(r.URL.Path, "/")
	for i := range parts {
		if i >= 2 && parts[i-2] == "webhooks" {
			parts[i] = "TOKEN"
		}
	}
	return strings.Join(parts, "/")
}

// answer decides on the answer to one request, in the order: the edge, who it is, how often, what.
// That Discord counts a request that it refuses for its form is not checked.
func (s *Server) answer(r *http.Request, body []byte, readErr error) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	lost := false
	if len(s.faults) > 0 {
		f := s.faults[0]
		s.faults = s.faults[1:]
		if !f.after {
			return f.answer()
		}
		lost = true
	}
	if host := r.URL.Hostname(); host == formerHost || strings.HasSuffix(host, "."+formerHost) {
		// The status is not checked.
		return answer{status: http.StatusMovedPermanently, header: http.Header{"Location": {"https://discord.com" + r.URL.Path}}}
	}
	to, refused := s.routeLocked(r)
	if refused != nil {
		return *refused
	}
	limits, a := s.takeLocked(to.route)
	if a == nil {
		a = s.postLocked(r, to, body, readErr)
	}
	maps.Copy(a.header, limits)
	if lost {
		return Reset().answer()
	}
	return *a
}

// formerHost is where Discord was until it moved; it redirects. Only [Server.Transport] is called with a host.
const formerHost = "discordapp.com"

// A target is where a message goes.
type target struct {
	route   string // of the rate limit
	channel string
	author  string
	webhook string // its id, if that is how it came
	bot     string // its token, if not
	thread  bool   // the request names the channel as a thread
	wait    bool   // for the message itself as the answer
}

func (s *Server) hasLocked(channel string) bool {
	_, ok := s.channels[channel]
	return ok
}

// routeLocked finds out where a request goes and whether it may.
func (s *Server) routeLocked(r *http.Request) (target, *answer) {
	path, ok := strings.CutPrefix(r.URL.Path, "/api/")
	parts := strings.Split(path, "/")
	if v, found := strings.CutPrefix(parts[0], "v"); found && isID(v) {
		parts = parts[1:]
	}
	var post func([]string, *http.Request) (target, *answer)
	switch {
	case !ok:
	case len(parts) == 3 && parts[0] == "webhooks":
		post = s.routeWebhookLocked
	case len(parts) == 3 && parts[0] == "channels" && parts[2] == "messages":
		post = s.routeChannelLocked
	}
	switch {
	case post == nil:
		return target{}, refuse(http.StatusNotFound, 0, "404: Not Found")
	case r.Method != http.MethodPost:
		// Discord has more methods there; nothing that is tested here calls them.
		return target{}, refuse(http.StatusMethodNotAllowed, 0, "405: Method Not Allowed")
	}
	return post(parts, r)
}

func (s *Server) routeWebhookLocked(parts []string, r *http.Request) (target, *answer) {
	id, token := parts[1], parts[2]
	if !isID(id) {
		return target{}, notSnowflake("webhook_id", id)
	}
	hook, ok := s.webhooks[id]
	switch {
	case !ok:
		return target{}, refuse(http.StatusNotFound, 10015, "Unknown Webhook")
	case hook.token != token:
		return target{}, refuse(http.StatusUnauthorized, 50027, "Invalid Webhook Token")
	}
	t := target{route: "webhooks/" + id, channel: hook.channel, author: "webhook " + id, webhook: id}
	query := r.URL.Query()
	switch wait := query.Get("wait"); wait {
	case "True", "true", "1":
		t.wait = true
	case "False", "false", "0", "":
	default:
		// The form of this error is not checked.
		f := newForm()
		f.add("BASE_TYPE_CHOICES", "Value must be one of ('true', 'false').", "wait")
		return target{}, f.answer()
	}
	if query.Has("thread_id") {
		t.channel, t.thread = query.Get("thread_id"), true
		switch {
		case !isID(t.channel):
			return target{}, notSnowflake("thread_id", t.channel)
		case !s.hasLocked(t.channel): // Discord also asks whether it is one of the webhook's channel
			return target{}, refuse(http.StatusNotFound, 10003, "Unknown Channel")
		}
	}
	return t, nil
}

func (s *Server) routeChannelLocked(parts []string, r *http.Request) (target, *answer) {
	id := parts[1]
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bot ")
	may, known := s.bots[token]
	switch {
	case !ok || !known:
		return target{}, refuse(http.StatusUnauthorized, 0, "401: Unauthorized")
	case !isID(id):
		return target{}, notSnowflake("channel_id", id)
	case !s.hasLocked(id):
		return target{}, refuse(http.StatusNotFound, 10003, "Unknown Channel")
	case !may[id]:
		return target{}, refuse(http.StatusForbidden, 50001, "Missing Access")
	}
	return target{route: "channels/" + id, channel: id, author: "bot", bot: token, wait: true}, nil
}

// postLocked posts the message, if its form is right, and returns the answer.
func (s *Server) postLocked(r *http.Request, to target, body []byte, readErr error) *answer {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(readErr, &tooLarge):
		return refuse(http.StatusRequestEntityTooLarge, 40005, "Request entity too large")
	case readErr != nil:
		return refuse(http.StatusBadRequest, 0, "400: Bad Request")
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(media), "application/json") {
		// Discord takes multipart/form-data, too, for files. Nobody here sends any.
		f := newForm()
		f.add("CONTENT_TYPE_INVALID", `Expected "Content-Type" header to be one of {'application/json'}.`)
		return f.answer()
	}
	p, refused := parse(body)
	if refused != nil {
		return refused
	}
	if refused := p.check(to.webhook != ""); refused != nil {
		return refused
	}
	if refused := s.placeLocked(to, p); refused != nil {
		return refused
	}
	if s.harmful != "" && p.contains(s.harmful) {
		return refuse(http.StatusBadRequest, 240000, "Message blocked by harmful links filter")
	}
	m, sent := s.sentLocked(to, p)
	if !sent {
		m = s.messageLocked(to, p)
		s.messages = append(s.messages, m)
	}
	if !to.wait {
		return &answer{status: http.StatusNoContent, header: make(http.Header)}
	}
	return jsonAnswer(http.StatusOK, m.object())
}

// placeLocked returns the answer that the message can't be where it is to go, or nil.
func (s *Server) placeLocked(to target, p *payload) *answer {
	forum := s.channels[to.channel]
	switch {
	case to.webhook == "" && forum:
		return refuse(http.StatusBadRequest, 50008, "Cannot send messages in a non-text channel")
	case to.webhook == "":
	case forum && p.ThreadName == "":
		return refuse(http.StatusBadRequest, 220001, "Webhooks posted to forum channels must have a thread_name or thread_id")
	case !forum && p.ThreadName != "" && to.thread:
		return refuse(http.StatusBadRequest, 220002, "Webhooks posted to forum channels cannot have both a thread_name and thread_id")
	case !forum && p.ThreadName != "":
		return refuse(http.StatusBadRequest, 220003, "Webhooks can only create threads in forum channels")
	}
	return nil
}

// An answer is what goes back to the client.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	silent  bool // no answer: until the client goes away
	stalled bool // half of the body, then nothing more
	reset   bool // no answer: the connection is reset

	switched bool // no answer but 101
}

// jsonAnswer is an answer with v as its body.
func jsonAnswer(status int, v any) *answer {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // only for what this package has made itself
	}
	return &answer{status: status, header: http.Header{"Content-Type": {"application/json"}}, body: body}
}

// refuse is the answer with one of Discord's JSON error codes.
func refuse(status, code int, message string) *answer {
	return jsonAnswer(status, map[string]any{"message": message, "code": code})
}

// write sends the answer.
func (a *answer) write(w http.ResponseWriter, r *http.Request) {
	switch {
	case a.reset:
		reset(w)
		return
	case a.switched:
		switching(w)
		return
	case a.silent:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), a.header)
	body := a.body
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if a.stalled {
		body = body[:len(body)/2]
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // to a client that may have gone
	if a.stalled {
		stalling(w, r)
	}
}

// isID reports whether s has the form of a snowflake.
func isID(s string) bool {
	n, err := strconv.ParseUint(s, 10, 64)
	return err == nil && strconv.FormatUint(n, 10) == s
}

func notSnowflake(field, value string) *answer {
	f := newForm()
	f.notSnowflake(value, field)
	return f.answer()
}

// length counts as Discord does: code points, without the white space around them.
func length(s string) int { return utf8.RuneCountInString(strings.TrimSpace(s)) }
