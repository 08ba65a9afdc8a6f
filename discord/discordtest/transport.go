package discordtest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
)

// Transport returns a RoundTripper that calls the Server on the goroutine of its caller, whatever
// the host of the URL: there is no socket and no goroutine, and no time passes but what the Server
// waits.
func (s *Server) Transport() http.RoundTripper { return transport{s} }

type transport struct{ server *Server }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	served := r.Clone(ctx)
	if served.Body == nil {
		served.Body = http.NoBody
	}
	defer func() { _ = served.Body.Close() }() // whoever sends a request leaves its body to the transport
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m := &memory{header: make(http.Header)}
	t.serve(m, served)
	switch {
	case m.reset:
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	case m.status == 0: // the client has gone away
		return nil, context.Cause(ctx)
	}
	var body io.Reader = &m.body
	if m.stalled {
		body = io.MultiReader(&m.body, stall{ctx})
	}
	closer := io.NopCloser(body)
	if m.switched {
		closer = &connection{closed: make(chan struct{})}
	}
	return &http.Response{
		Status:     strconv.Itoa(m.status) + " " + http.StatusText(m.status),
		StatusCode: m.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        m.header,
		Body:          closer,
		ContentLength: -1,
		Request:       r,
	}, nil
}

// serve calls the handler as package http does: its panic with ErrAbortHandler ends the answer.
func (t transport) serve(m *memory, r *http.Request) {
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // panicked with, not wrapped
			panic(v)
		}
	}()
	t.server.ServeHTTP(m, r)
}

// A memory is a ResponseWriter that keeps the answer.
type memory struct {
	header  http.Header
	status  int
	body    bytes.Buffer
	reset   bool // the connection is to fail
	stalled bool // the body is to end in nothing

	switched bool // the body is to be a connection
}

func (m *memory) Header() http.Header { return m.header }

func (m *memory) WriteHeader(status int) { m.status = status }

func (m *memory) Write(p []byte) (int, error) { return m.body.Write(p) }

// A stall is the part of a body that never comes.
type stall struct{ ctx context.Context }

func (s stall) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, context.Cause(s.ctx)
}

// A connection is what is left of one after the answer 101. No context ends it.
type connection struct {
	once   sync.Once
	closed chan struct{}
}

func (c *connection) Read([]byte) (int, error) {
	<-c.closed
	return 0, net.ErrClosed
}

func (c *connection) Write(p []byte) (int, error) { return len(p), nil }

func (c *connection) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}
