package kubelease

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A client sends requests about the Lease objects of a namespace.
type client struct {
	host        string // without a password
	namespace   string
	tokens      *tokens
	connections *connections
}

func newClient(cfg Config) (*client, error) {
	host, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return &client{
		host:      host.Scheme + "://" + host.Host + strings.TrimRight(host.EscapedPath(), "/"),
		namespace: cfg.Namespace,
		tokens:    &tokens{file: cfg.TokenFile, token: cfg.Token},
		connections: &connections{open: func() *http.Transport {
			config := cfg.TLS.Clone()
			if config == nil {
				config = &tls.Config{MinVersion: tls.VersionTLS12}
			}
			return &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				TLSClientConfig:     config,
				TLSHandshakeTimeout: 10 * time.Second,
				ForceAttemptHTTP2:   true,
				// A watch on a connection that is cut without a word ends after these two.
				HTTP2: &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
			}
		}},
	}, nil
}

// A request is one of the six things that the RBAC rule allows.
type request struct {
	verb  string // of RBAC: get, list, watch, create, update, delete
	name  string // of the object; empty for list, watch and create
	query url.Values
	body  any // JSON; nil: none
}

var methods = map[string]string{
	"get": http.MethodGet, "list": http.MethodGet, "watch": http.MethodGet,
	"create": http.MethodPost, "update": http.MethodPut, "delete": http.MethodDelete,
}

// maxAnswer is a limit on an answer that is read as a whole: 1,024 leases and 100 sessions with long annotations are below 10 MB.
const maxAnswer = 64 << 20

// do sends a request and decodes its answer into the object that into points to, if it isn't nil.
func (c *client) do(ctx context.Context, r request, into any) error {
	answer, err := c.send(ctx, r)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	_ = answer.Body.Close()
	switch {
	case err != nil:
		return c.failed(r, err)
	case len(text) > maxAnswer:
		return c.failed(r, fmt.Errorf("the answer is longer than %d MB", maxAnswer>>20))
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return c.failed(r, fmt.Errorf("the answer is not from a Kubernetes API server: %w", err))
	}
	return nil
}

// send sends a request and returns its answer, which is one of success. The caller closes its body.
func (c *client) send(ctx context.Context, r request) (*http.Response, error) {
	var body []byte
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, c.failed(r, err)
		}
		body = text
	}
	for refused := false; ; {
		answer, err := c.attempt(ctx, r, body, refused)
		if err != nil {
			return nil, err
		}
		if answer.StatusCode < 300 {
			return answer, nil
		}
		err = c.refusal(r, answer)
		if answer.StatusCode == http.StatusUnauthorized && c.tokens.file != "" && !refused {
			refused = true // once more, with the token that is in the file now
			continue
		}
		if !pause(ctx, answer) {
			return nil, err
		}
	}
}

// pause waits as long as an overloaded API server asks for that it has not begun to serve the request. It returns false if the server
// doesn't ask for that, or if ctx ends before.
func pause(ctx context.Context, answer *http.Response) bool {
	seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if answer.StatusCode != http.StatusTooManyRequests || err != nil || seconds < 1 {
		return false
	}
	timer := time.NewTimer(time.Duration(seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt sends a request once.
func (c *client) attempt(ctx context.Context, r request, body []byte, refused bool) (*http.Response, error) {
	token, err := c.tokens.get(refused)
	if err != nil {
		return nil, err
	}
	address := c.host + "/apis/coordination.k8s.io/v1/namespaces/" + c.namespace + "/leases"
	if r.name != "" {
		address += "/" + url.PathEscape(r.name)
	}
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, methods[r.verb], address, bytes.NewReader(body))
	if err != nil {
		return nil, c.failed(r, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "taskmanager-kubelease")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	// Not by an http.Client: it would follow a redirection.
	l := c.connections.use()
	answer, err := l.transport.RoundTrip(req)
	if err != nil {
		// Who cancels a request knows nothing against the connection; who ran out of time does.
		l.done(!errors.Is(ctx.Err(), context.Canceled))
		return nil, c.failed(r, err)
	}
	answer.Body = &answerBody{ReadCloser: answer.Body, ctx: ctx, line: l}
	return answer, nil
}

// A answerBody is the body of an answer. It tells the line of the answer when it has been read.
type answerBody struct {
	io.ReadCloser
	ctx    context.Context
	line   *line
	broken bool
	once   sync.Once
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(b.ctx.Err(), context.Canceled) {
		b.broken = true
	}
	return n, err
}

func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(func() { b.line.done(b.broken) })
	return err
}

// failed returns the error of a request that got no answer, or none that makes sense.
func (c *client) failed(r request, err error) error {
	return fmt.Errorf("kubelease: %s at %s: %w", c.what(r), c.host, err)
}

// what names a request for people.
func (c *client) what(r request) string {
	if r.name == "" {
		return fmt.Sprintf("%s leases in namespace %q", r.verb, c.namespace)
	}
	return fmt.Sprintf("%s lease %q in namespace %q", r.verb, r.name, c.namespace)
}

// A statusError is an answer of the API server that is not one of success.
type statusError struct {
	text string
	// Of the object Status in the answer; zero if there was none.
	status
}

type status struct {
	Kind    string `json:"kind"`
	Code    int    `json:"code"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Details struct {
		Kind   string `json:"kind"`
		Causes []struct {
			Reason string `json:"reason"`
		} `json:"causes"`
	} `json:"details"`
}

func (e *statusError) Error() string { return e.text }

// refusal reads the answer to a request, closes it, and returns what it says.
func (c *client) refusal(r request, answer *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	_ = answer.Body.Close()
	var s status
	if json.Unmarshal(text, &s) != nil || s.Kind != "Status" {
		// A proxy, say. Nothing in it counts: its 404 doesn't mean that an object does not exist.
		s = status{}
	}
	return c.statusError(r, answer.StatusCode, s)
}

func (c *client) statusError(r request, code int, s status) *statusError {
	return &statusError{status: s, text: "kubelease: " + c.what(r) + ": " + c.explain(r, code, s)}
}

func (c *client) explain(r request, code int, s status) string {
	var why string
	switch {
	case code == http.StatusUnauthorized && c.tokens.file != "":
		why = fmt.Sprintf("%s does not accept the token in %s", c.host, c.tokens.file)
	case code == http.StatusUnauthorized && c.tokens.token != "":
		why = c.host + " does not accept the token"
	case code == http.StatusUnauthorized:
		why = c.host + " wants a token, and there is none"
	case code == http.StatusForbidden && s.terminating(), code == http.StatusConflict && s.terminating():
		why = fmt.Sprintf("the namespace %q is being deleted", c.namespace)
	case code == http.StatusForbidden && s.byRBAC(r):
		why = fmt.Sprintf(`not allowed: there is no RBAC rule for verb %q on resource "leases" of API group "coordination.k8s.io" in `+
			`namespace %q; kubelease.RBAC has a Role with it`, r.verb, c.namespace)
	case code == http.StatusNotFound && s.Details.Kind == "namespaces":
		why = fmt.Sprintf("there is no namespace %q", c.namespace)
	case code == http.StatusNotFound && s.Kind == "":
		why = c.host + " is not a Kubernetes API server that has coordination.k8s.io/v1"
	}
	switch {
	case s.Message == "":
		s.Message = http.StatusText(code)
	case len(s.Message) > 500:
		s.Message = s.Message[:500] + "..."
	}
	if why == "" {
		return fmt.Sprintf("%s (%d)", s.Message, code)
	}
	return fmt.Sprintf("%s (%d: %s)", why, code, s.Message)
}

func (s status) terminating() bool {
	for _, cause := range s.Details.Causes {
		if cause.Reason == "NamespaceTerminating" {
			return true
		}
	}
	return false
}

// byRBAC tells a refusal of authorization from one of admission, such as a quota, which has the same code and reason.
func (s status) byRBAC(r request) bool {
	return s.Reason == "Forbidden" && strings.Contains(s.Message, " cannot "+r.verb+" resource ")
}

// notFound tells whether the API server has said that the object does not exist.
func notFound(err error) bool {
	var s *statusError
	return errors.As(err, &s) && s.Code == http.StatusNotFound && s.Reason == "NotFound" && s.Details.Kind == "leases"
}

// conflict tells whether the API server has said that the object is another one than the request named, or exists already.
func conflict(err error) bool {
	var s *statusError
	return errors.As(err, &s) && s.Code == http.StatusConflict && (s.Reason == "Conflict" || s.Reason == "AlreadyExists")
}
