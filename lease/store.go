package lease

import (
	"context"
	"errors"
	"time"
)

// A Store is what an engine is to this package: sessions and leases of one pool, with an atomic compare-and-set and reads that see all
// that was confirmed before. It keeps no time: who is dead is judged by those who look, on their own clocks.
//
// Its methods may be called by several goroutines at once. Each returns when ctx ends, at the latest. After an error, what was asked for
// may have happened, or may happen later. A panic of it is as an error, and so is an answer that can't be; a call that does not return is
// left behind, a beat after its context has ended.
type Store interface {
	// Join adds a session, whose beat is 0, for the replica of that name, which is for people and need not be unique. The id of a
	// session is never used again.
	Join(ctx context.Context, replica string) (id string, err error)

	// Beat adds 1 to the beat of the session, notes with it the names of its leases that are held by a stuck task, and returns all
	// sessions of the pool, as they are after that. It returns an error that wraps ErrGone if the session does not exist.
	Beat(ctx context.Context, id string, stuck []string) ([]Session, error)

	// Expire removes a session, if its beat is still that, and frees its leases with it. Otherwise it does nothing.
	Expire(ctx context.Context, id string, beat uint64) error

	// Leave removes a session, whatever its beat, and frees its leases with it. Without such a session it does nothing.
	Leave(ctx context.Context, id string) error

	// Claim claims for the session those of the leases that are free, or that it has already, and returns each of names once, in any
	// order. No name is there twice. It returns an error that wraps ErrGone if the session does not exist; nothing is claimed then.
	Claim(ctx context.Context, id string, names []string) ([]Claim, error)

	// Release frees those of the leases that the session still has by these claims.
	Release(ctx context.Context, id string, claims []Claim) error

	// Watch calls changed once when it has begun to watch, and then whenever a lease may have become free, until ctx ends or it can't
	// watch any longer. It returns an error that wraps errors.ErrUnsupported if it never can: who waits looks at each beat then.
	Watch(ctx context.Context, changed func()) error

	// Idle closes connections and ends goroutines, as nobody wants a lease. The next call opens what it needs.
	Idle()
}

// ErrGone says that a session does not exist any more, or never did.
var ErrGone = errors.New("lease: the session is gone")

// A Session is a replica that takes part, as long as its beat goes on.
type Session struct {
	ID      string
	Replica string   // its name, for people
	Beat    uint64   // 0: it has not shown yet that it is alive
	Stuck   []string // leases of tasks that should have stopped, and execute
}

// A Claim is what has become of an attempt to claim a lease.
type Claim struct {
	Name   string
	Token  uint64    // larger at each claim, and 1 at the first; 0 if somebody else has the lease
	Holder string    // the session that has it; empty if that is not known
	Since  time.Time // of the holder's claim, on whatever clock, for people; zero if that is not known
}
