package kubelease

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// connections has the connection that requests share; over TLS that is one, with HTTP/2.
//
// It replaces the connection after a request that got no answer. net/http would go on using it: a connection that is cut without a
// word, as by a node that is gone, would fail all beats until TCP sends again, which takes longer each time. A beat on a new connection
// arrives as soon as the network does.
type connections struct {
	open func() *http.Transport

	mu      sync.Mutex // guards the following
	current *line      // nil: the next request makes one
}

// A line is a transport with all connections that it has made.
type line struct {
	owner     *connections
	transport *http.Transport
	ended     context.Context // ends what dials when the line closes
	end       context.CancelFunc

	// Guarded by owner.mu:
	sockets map[*socket]struct{}
	users   int  // requests whose answers have not been read
	retired bool // no request will use it any more: it closes with its last user
}

// A socket is a connection that its line can close, which http.Transport offers for idle ones only, of which it learns late.
type socket struct {
	net.Conn
	line *line
}

func (s *socket) Close() error {
	s.line.owner.mu.Lock()
	delete(s.line.sockets, s)
	s.line.owner.mu.Unlock()
	return s.Conn.Close()
}

// use returns the line for a request. The request ends with a call of done.
func (c *connections) use() *line {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		l := &line{owner: c, transport: c.open(), sockets: map[*socket]struct{}{}}
		l.ended, l.end = context.WithCancel(context.Background())
		l.transport.DialContext = l.dial
		c.current = l
	}
	c.current.users++
	return c.current
}

// done ends the use of the line by a request. No other request begins to use the line if it is broken.
func (l *line) done(broken bool) {
	c := l.owner
	c.mu.Lock()
	l.users--
	if broken {
		c.retireLocked(l)
	}
	closing := l.closingLocked()
	c.mu.Unlock()
	l.close(closing)
}

// idle closes the connection as soon as no request uses it.
func (c *connections) idle() {
	c.mu.Lock()
	l := c.current
	if l == nil {
		c.mu.Unlock()
		return
	}
	c.retireLocked(l)
	closing := l.closingLocked()
	c.mu.Unlock()
	l.close(closing)
}

func (c *connections) retireLocked(l *line) {
	l.retired = true
	if c.current == l {
		c.current = nil
	}
}

// closingLocked returns the sockets to close; nil if the line stays.
func (l *line) closingLocked() []*socket {
	if !l.retired || l.users > 0 {
		return nil
	}
	closing := make([]*socket, 0, len(l.sockets))
	for s := range l.sockets {
		closing = append(closing, s)
	}
	return closing
}

func (l *line) close(closing []*socket) {
	if closing == nil {
		return
	}
	l.end()
	l.transport.CloseIdleConnections()
	for _, s := range closing {
		_ = s.Close()
	}
}

func (l *line) dial(ctx context.Context, network, address string) (net.Conn, error) {
	// The transport dials on when the request that wanted it has ended.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(l.ended, cancel)()
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: conn, line: l}
	l.owner.mu.Lock()
	l.sockets[s] = struct{}{}
	l.owner.mu.Unlock()
	if l.ended.Err() != nil { // after close has looked for sockets
		_ = s.Close()
		return nil, context.Cause(l.ended)
	}
	return s, nil
}
