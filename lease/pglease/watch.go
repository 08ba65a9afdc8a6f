package pglease

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// channel is what is listened to. The payload is a pool, or of a probe.
const channel = "tm_lease"

const (
	// probeWait is how long a notification may take that was sent: it comes at once if at all.
	probeWait = 2 * time.Second

	// quiet is after which time without a notification the server is asked whether it is there.
	quiet = 30 * time.Second
)

// Watch implements lease.Store. It returns an error that wraps errors.ErrUnsupported if what is listened to never hears what is sent
// by a claim's connection, as behind a pooler.
func (s *store) Watch(ctx context.Context, changed func()) error {
	err := s.watch(ctx, changed)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return explain("listen", err)
}

func (s *store) watch(ctx context.Context, changed func()) error {
	conn, err := pgx.ConnectConfig(ctx, s.listen)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	if err := s.probe(ctx, conn); err != nil {
		return err
	}
	changed()
	for {
		payload, err := next(ctx, conn, quiet)
		switch {
		case err == nil && payload == s.pool:
			changed()
		case err != nil && (ctx.Err() != nil || conn.IsClosed()):
			return err
		case err != nil:
			if err := ping(ctx, conn); err != nil {
				return err
			}
		}
	}
}

// probe makes sure that conn hears what is sent. It is sent by another connection: a pooler passes on what comes while a statement of
// the listener's own executes.
func (s *store) probe(ctx context.Context, conn *pgx.Conn) error {
	payload := "probe " + rand.Text()
	sending, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	if err := s.exec(sending, s.claims, "notify", `SELECT pg_notify('`+channel+`', $1)`, payload); err != nil {
		return err
	}
	for until := time.Now().Add(probeWait); ; {
		got, err := next(ctx, conn, time.Until(until))
		switch {
		case err == nil && got == payload:
			return nil
		case err != nil && (ctx.Err() != nil || conn.IsClosed()):
			return err
		case err != nil:
			return fmt.Errorf("the connection hears no notification, as behind a pooler in transaction mode, or in another database: give "+
				"a direct connection by Config.Listen: %w", errors.ErrUnsupported)
		}
	}
}

// next returns the payload of the next notification, or an error after the wait, which leaves the connection usable.
func next(ctx context.Context, conn *pgx.Conn, wait time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	n, err := conn.WaitForNotification(ctx)
	if err != nil {
		return "", err
	}
	return n.Payload, nil
}

// ping returns an error if the server does not answer.
func ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	return conn.Ping(ctx)
}
