package pglease

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// A link is one connection, which is made when it is needed and used by one call at a time. It is no pgxpool: that asks the server before
// it gives out a connection which was idle for a second, closes connections by their age, connects without regard to the deadline of a
// call, and keeps a goroutine.
type link struct {
	config *pgx.ConnConfig
	turn   chan struct{} // has one while nobody uses conn
	conn   *pgx.Conn     // nil or closed: to be made. It belongs to who has the turn.
}

func newLink(c *pgx.ConnConfig) *link {
	l := &link{config: c, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// Pauses between tries.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 500 * time.Millisecond
)

// do calls f with the connection. What may pass is tried again until ctx ends, for a server that restarts would hold up a claim or a release
// for two beats otherwise: that of the call which finds the connection broken, and that of the one which finds no server. All statements bear
// that: after an error, each may have happened. The error says what op was not done for.
func (l *link) do(ctx context.Context, op string, f func(conn *pgx.Conn) error) error {
	select {
	case <-l.turn:
	case <-ctx.Done():
		return explain(op, context.Cause(ctx))
	}
	defer func() { l.turn <- struct{}{} }()
	var last error
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := l.try(ctx, f)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil && last != nil {
			return explain(op, last) // which says more than that the time is over
		}
		if ctx.Err() != nil || !passing(err) {
			return explain(op, err)
		}
		last = err
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return explain(op, last)
		}
	}
}

func (l *link) try(ctx context.Context, f func(conn *pgx.Conn) error) error {
	if l.conn == nil || l.conn.IsClosed() {
		conn, err := pgx.ConnectConfig(ctx, l.config)
		if err != nil {
			return err
		}
		l.conn = conn
	}
	err := f(l.conn)
	if err != nil && unusable(err) {
		closeConn(l.conn)
	}
	return err
}

// close closes the connection once nobody uses it.
func (l *link) close() {
	<-l.turn
	if l.conn != nil {
		closeConn(l.conn)
		l.conn = nil
	}
	l.turn <- struct{}{}
}

// closeConn says good-bye to the server, which a server that does not answer must not prolong.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}
