package leasetest

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A Proxy passes connections on to a server. While it is cut, it is as a network that loses all packets: nothing is closed, nothing comes,
// and what was sent arrives once the cut is over, if it is kept as long. Its methods may be called by several goroutines at once.
type Proxy struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	whole chan struct{} // closed unless it is cut; guarded by mu
	conns []net.Conn    // guarded by mu
}

// NewProxy returns a proxy for the server of an address, host and port, until the end of the test.
func NewProxy(t *testing.T, to string) *Proxy {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{listener: listener, to: to, whole: make(chan struct{})}
	close(p.whole)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(t, in) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.SetCut(false)
		p.mu.Lock()
		for _, conn := range p.conns {
			_ = conn.Close()
		}
		p.conns = nil
		p.mu.Unlock()
		all.Wait()
	})
	return p
}

// Address returns the address of the server by way of the proxy, host and port.
func (p *Proxy) Address() string { return p.listener.Addr().String() }

// SetCut begins or ends a cut.
func (p *Proxy) SetCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.whole:
		if cut {
			p.whole = make(chan struct{})
		}
	default:
		if !cut {
			close(p.whole)
		}
	}
}

func (p *Proxy) serve(t *testing.T, in net.Conn) {
	defer func() { _ = in.Close() }()
	out, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.to)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	p.mu.Lock()
	p.conns = append(p.conns, in, out)
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pass(in, out) })
	both.Go(func() { p.pass(out, in) })
	both.Wait()
}

func (p *Proxy) pass(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		whole := p.whole
		p.mu.Unlock()
		<-whole // also for the end of a connection
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
