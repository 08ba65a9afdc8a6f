package kubelease

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func newConnections() *connections {
	return &connections{open: func() *http.Transport { return &http.Transport{} }}
}

// A line that closes ends what dials: the request that wanted it has ended long ago.
func TestDialEndsWithItsLine(t *testing.T) {
	// The lookup of a name begins, and doesn't end by itself.
	before := net.DefaultResolver
	defer func() { net.DefaultResolver = before }()
	begun := make(chan struct{}, 1)
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case begun <- struct{}{}:
		default:
		}
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}}
	l := newConnections().use()
	dialed := make(chan error, 1)
	go func() {
		_, err := l.dial(t.Context(), "tcp", "kubernetes.invalid:443")
		dialed <- err
	}()
	<-begun
	l.done(true)
	select {
	case err := <-dialed:
		require.Error(t, err)
	case <-time.After(5 * time.Second):
		require.Fail(t, "it dials on")
	}
}

// A connection that is made when its line has closed, or closes, is closed too: nobody else would.
func TestDialOfAClosedLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	for range 200 {
		c := newConnections()
		l := c.use()
		l.done(true)
		conn, err := l.dial(t.Context(), "unix", path)
		require.Error(t, err)
		require.Nil(t, conn)
		assert.Empty(t, l.sockets)
	}
}
