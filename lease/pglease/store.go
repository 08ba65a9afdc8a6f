package pglease

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
)

// A store implements lease.Store.
type store struct {
	pool   string
	beats  *link // for Join, Beat and Leave, which must not wait for a lock on a lease that somebody else has
	claims *link // for the rest
	listen *pgx.ConnConfig
}

func newStore(cfg Config, pool string) (*store, error) {
	c, err := parse(cfg.ConnString)
	if err != nil {
		return nil, err
	}
	l := c
	if cfg.Listen != "" {
		if l, err = parse(cfg.Listen); err != nil {
			return nil, fmt.Errorf("for Listen: %w", err)
		}
	}
	if err := lease.CheckName(pool); err != nil { // it is the payload of a NOTIFY, too, which takes more
		return nil, &taskmanager.OptionError{Option: "pool", Value: pool, Reason: err.Error()}
	}
	return &store{pool: pool, beats: newLink(c), claims: newLink(c), listen: l}, nil
}

// Join implements lease.Store. A session that is added after its caller has given up is never beaten, and removed by the others.
func (s *store) Join(ctx context.Context, replica string) (string, error) {
	var id string
	err := s.beats.do(ctx, "join", func(conn *pgx.Conn) error {
		const join = `INSERT INTO tm_session (pool, name) SELECT $1, $2 FROM tm_schema WHERE version = $3 RETURNING id::text`
		err := conn.QueryRow(ctx, join, s.pool, replica, version).Scan(&id)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		var found int
		if err := conn.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM tm_schema`).Scan(&found); err != nil {
			return err
		}
		return permanent{checkVersion(found)}
	})
	return id, err
}

// Beat implements lease.Store.
func (s *store) Beat(ctx context.Context, id string, stuck []string) ([]lease.Session, error) {
	n, ok := number(id)
	if !ok {
		return nil, explain("beat", s.gone(id))
	}
	if stuck == nil {
		stuck = []string{}
	}
	var all []lease.Session
	err := s.beats.do(ctx, "beat", func(conn *pgx.Conn) error {
		const beat = `WITH b AS (UPDATE tm_session SET beat = beat + 1, stuck = $3 WHERE id = $1 AND pool = $2 RETURNING id, beat)
			SELECT s.id::text, s.name, coalesce(b.beat, s.beat), s.stuck, b.id IS NOT NULL
			FROM tm_session s LEFT JOIN b ON b.id = s.id WHERE s.pool = $2`
		rows, err := conn.Query(ctx, beat, n, s.pool, stuck)
		if err != nil {
			return err
		}
		alive := false
		var x lease.Session
		var beats int64
		var beaten bool
		all = nil
		_, err = pgx.ForEachRow(rows, []any{&x.ID, &x.Replica, &beats, &x.Stuck, &beaten}, func() error {
			session := x
			session.Beat = uint64(beats)
			x.Stuck = nil
			if beaten {
				alive = true
				session.Stuck = slices.Clone(stuck)
			}
			all = append(all, session)
			return nil
		})
		if err == nil && !alive {
			return permanent{s.gone(id)}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// notify has a statement that returns rows from x tell those who watch.
const notify = ` SELECT pg_notify('` + channel + `', $1) FROM (SELECT FROM x LIMIT 1) AS one`

// Expire implements lease.Store. Its condition on the beat is evaluated on the newest version of the row, also after a wait for a beat
// that commits slowly.
func (s *store) Expire(ctx context.Context, id string, beat uint64) error {
	n, ok := number(id)
	if !ok || beat > math.MaxInt64 {
		return nil
	}
	return s.exec(ctx, s.claims, "expire",
		`WITH x AS (DELETE FROM tm_session WHERE pool = $1 AND id = $2 AND beat = $3 RETURNING 1)`+notify, s.pool, n, int64(beat))
}

// Leave implements lease.Store.
func (s *store) Leave(ctx context.Context, id string) error {
	n, ok := number(id)
	if !ok {
		return nil
	}
	return s.exec(ctx, s.beats, "leave", `WITH x AS (DELETE FROM tm_session WHERE pool = $1 AND id = $2 RETURNING 1)`+notify, s.pool, n)
}

// claim looks first, as ON CONFLICT locks a row even if its condition does not hold: one that waits would wait for each transaction of
// the holder that has a fence, and write to the row. What decides is the condition of ON CONFLICT, which is evaluated on the newest
// version of the lease's own row. A condition on another table, such as that the holder does not exist, would be evaluated on the
// snapshot, and steal. The foreign key sees to it that the session exists.
//
// A claim that the server forgets in a crash would be another's, unheard of here. So it is written to disk even if the database is set up
// not to wait for that.
const claim = `WITH seen AS MATERIALIZED (
		SELECT w.key, l.session, l.since FROM unnest($3::text[]) AS w (key) LEFT JOIN tm_lease l ON l.pool = $1 AND l.key = w.key
	), durable AS MATERIALIZED (
		SELECT CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END
	), mine AS (
		INSERT INTO tm_lease AS l (pool, key, session, token, since)
		SELECT $1, s.key, $2::bigint, 1, now() FROM seen s WHERE s.session IS NULL OR s.session = $2 ORDER BY s.key COLLATE "C"
		ON CONFLICT (pool, key) DO UPDATE SET session = excluded.session, token = l.token + 1, since = excluded.since
		WHERE l.session IS NULL OR l.session = excluded.session
		RETURNING l.key, l.token, l.since
	)
	SELECT s.key, coalesce(m.token, 0), coalesce(s.session::text, ''), coalesce(m.since, s.since),
		EXISTS (SELECT FROM tm_session WHERE id = $2 AND pool = $1)
	FROM durable CROSS JOIN seen s LEFT JOIN mine m ON m.key = s.key`

// Claim implements lease.Store.
func (s *store) Claim(ctx context.Context, id string, names []string) ([]lease.Claim, error) {
	n, ok := number(id)
	if !ok {
		return nil, explain("claim", s.gone(id))
	}
	if len(names) == 0 {
		return nil, nil
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	claims := make([]lease.Claim, 0, len(names))
	err := s.claims.do(ctx, "claim", func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, claim, s.pool, n, names)
		if err != nil {
			return err
		}
		alive := false
		var c lease.Claim
		var token int64
		var since *time.Time
		claims = claims[:0]
		_, err = pgx.ForEachRow(rows, []any{&c.Name, &token, &c.Holder, &since, &alive}, func() error {
			won := lease.Claim{Name: c.Name, Token: uint64(token), Holder: c.Holder}
			if token != 0 {
				won.Holder = id
			}
			if since != nil && won.Holder != "" {
				won.Since = *since
			}
			claims = append(claims, won)
			return nil
		})
		var answer *pgconn.PgError
		if err == nil && !alive || errors.As(err, &answer) && answer.Code == "23503" {
			return permanent{s.gone(id)}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return claims, nil
}

// Release implements lease.Store.
func (s *store) Release(ctx context.Context, id string, claims []lease.Claim) error {
	n, ok := number(id)
	if !ok || len(claims) == 0 {
		return nil
	}
	names := make([]string, len(claims))
	tokens := make([]int64, len(claims))
	for i, c := range claims {
		names[i] = c.Name
		tokens[i] = int64(c.Token)
	}
	const release = `WITH x AS (UPDATE tm_lease l SET session = NULL FROM unnest($3::text[], $4::bigint[]) AS c (key, token)
		WHERE l.pool = $1 AND l.key = c.key AND l.session = $2 AND l.token = c.token RETURNING 1)` + notify
	return s.exec(ctx, s.claims, "release", release, s.pool, n, names, tokens)
}

// Idle implements lease.Store.
func (s *store) Idle() {
	s.beats.close()
	s.claims.close()
}

func (s *store) exec(ctx context.Context, l *link, op, sql string, args ...any) error {
	return l.do(ctx, op, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	})
}

// number returns the id as it is in the database; false if it can't be there.
func number(id string) (n int64, ok bool) {
	n, err := strconv.ParseInt(id, 10, 64)
	return n, err == nil
}

func (s *store) gone(id string) error {
	return fmt.Errorf("session %s of pool %q: %w", id, s.pool, lease.ErrGone)
}

// permanent is an error that another try would have too.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }
