package lease

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// ErrClosed is what Acquire returns after [Engine.Close].
var ErrClosed = errors.New("lease: the engine is closed")

// An Engine hands out leases of one pool, which one of all replicas holds at a time. A process has one Engine for a pool. Make it with
// [New].
//
// While a lease is wanted or held, the Engine has a session in the [Store], whose beat it raises; for what it may hold, and for how long,
// is decided on its monotonic clock alone. While none is, it has no session, no goroutine and no timer; only what it has to clean up in a
// store that does not answer it goes on to try for a TTL.
//
// Its methods may be called by several goroutines at once.
type Engine struct {
	store *guard
	config
	base time.Time // what times on the monotonic clock are relative to; never changes

	mu       sync.Mutex            // guards what follows, the groups, and the sessions with their entries
	closed   bool                  // by Close; never changes back
	spread   *Spread               // nil: none; set once
	groups   map[Lease]*group      // of those who wait; a group without any is removed
	current  *session              // of what is wanted or held; nil if nothing is
	sessions map[*session]struct{} // current, and those that are over and not removed from the store yet
	failing  time.Time             // since when no call of Join or Beat has been confirmed; zero if the last one was
	warned   bool                  // that it is so for a TTL
	quiet    chan struct{}         // closed while there is no session; replaced when there is one
	idling   chan struct{}         // closed when store.Idle has returned; nil if it doesn't execute
}

// New makes an Engine on a store, which it has for itself. It doesn't call the store: an engine that can't be reached makes Acquire wait.
// An option that is refused is an error that names it: a [*taskmanager.OptionError].
func New(store Store, opts ...Option) (*Engine, error) {
	if v := reflect.ValueOf(store); store == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, &taskmanager.OptionError{Option: "store", Reason: "must not be nil"}
	}
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	quiet := make(chan struct{})
	close(quiet)
	return &Engine{
		store: newGuard(store, c.beat), config: c, base: time.Now(),
		groups: map[Lease]*group{}, sessions: map[*session]struct{}{}, quiet: quiet,
	}, nil
}

// Lease returns the lease of that name, which one replica holds at a time. A name that can't be is told by its Check: it must not be
// empty, not be longer than 255 bytes, and be UTF-8 without control characters.
func (e *Engine) Lease(name string) Lease { return Lease{engine: e, name: name} }

// OneOf returns a lease that n replicas can hold at a time, each one of the leases "name#0" to "name#n-1". All replicas must have the
// same n, which is 1 to 1000. A token, as [taskmanager.LeaseToken] returns it, is that of one of these leases, and larger than the earlier ones
// of that alone: compare tokens of one name, which [Engine.Held] tells.
func (e *Engine) OneOf(name string, n int) Lease {
	return Lease{engine: e, name: name, many: true, n: n}
}

// Close ends the engine: from now on, Acquire returns [ErrClosed], also to those who wait. Close blocks until all holds have been released,
// the session has left, and no goroutine is left. If ctx ends before, it returns an error that wraps its cause and names what is held;
// what remains goes on until the holds have been released. It may be called again.
//
// Call it once the tasks have stopped, with a ctx that has a deadline: a body that is stuck holds it up for as long as it executes, and a
// store that does not answer for up to a TTL. The process should exit then, so that its session is judged dead after a TTL: as long as it
// stays, it keeps what is held.
func (e *Engine) Close(ctx context.Context) error {
	if e.store == nil {
		return nil // it was not made by New, and hands out nothing
	}
	e.mu.Lock()
	e.closed = true
	for _, g := range e.groups {
		for w := range g.waiters {
			w.err = ErrClosed
			close(w.done)
		}
	}
	clear(e.groups)
	if e.spread != nil {
		kick(e.spread.changed)
	}
	e.retireLocked()
	quiet := e.quiet
	e.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	held := map[string]struct{}{}
	for s := range e.sessions {
		for name, x := range s.entries {
			if x.holds > 0 {
				held[fmt.Sprintf("%q", name)] = struct{}{}
			}
		}
	}
	if len(held) == 0 {
		return fmt.Errorf("lease: the session has not left yet: %w", context.Cause(ctx))
	}
	return fmt.Errorf("lease: still held: %s: %w", strings.Join(slices.Sorted(maps.Keys(held)), ", "), context.Cause(ctx))
}

// takesPartLocked reports whether a session is needed, whatever is held.
func (e *Engine) takesPartLocked() bool {
	return len(e.groups) > 0 || e.spread != nil && e.spread.running
}

// ensureLocked has a session, which joins then, if one is needed and there is none.
func (e *Engine) ensureLocked(begin time.Time) {
	if e.current != nil || !e.takesPartLocked() {
		return
	}
	if len(e.sessions) == 0 {
		e.quiet = make(chan struct{})
	}
	s := newSession(e, begin)
	e.current = s
	e.sessions[s] = struct{}{}
	go s.run(e.idling)
}

// retireLocked ends the session if it is not needed and nothing is held.
func (e *Engine) retireLocked() {
	if s := e.current; s != nil && !e.takesPartLocked() && s.holds == 0 {
		e.current = nil
		e.failing, e.warned = time.Time{}, false
		s.endLocked(nil)
	}
}

// noteLocked notes what has become of a call of Join or Beat, and logs if the engine has not been reached for a TTL, and once it is again.
func (e *Engine) noteLocked(err error) {
	now := time.Now()
	switch {
	case err == nil:
		if e.warned {
			e.logger.Info("engine of leases is reached again", "replica", e.replica)
		}
		e.failing, e.warned = time.Time{}, false
	case e.failing.IsZero():
		e.failing = now
	case !e.warned && now.Sub(e.failing) >= e.ttl:
		e.warned = true
		e.logger.Warn("engine of leases has not been reached", "replica", e.replica, "for", now.Sub(e.failing), "error", oneLine(err))
	}
}

// forget is called at the end of the goroutine of a session.
func (e *Engine) forget(s *session) {
	e.mu.Lock()
	if len(e.sessions) > 1 {
		delete(e.sessions, s)
		e.mu.Unlock()
		return
	}
	idling := make(chan struct{})
	e.idling = idling // a session that begins now waits, so that its connections are not closed
	e.mu.Unlock()
	e.lines.flush(e.beat)
	e.store.Idle()
	e.mu.Lock()
	defer e.mu.Unlock()
	close(idling)
	e.idling = nil
	delete(e.sessions, s)
	if len(e.sessions) == 0 {
		close(e.quiet)
	}
}

// sleep blocks for d, or until done is closed. It reports whether d has passed.
func sleep(d time.Duration, done <-chan struct{}) bool {
	if d <= 0 {
		select {
		case <-done:
			return false
		default:
			return true
		}
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}
