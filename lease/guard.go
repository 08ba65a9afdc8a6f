package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A guard is the Store that a session calls: that of the user, which may panic, call runtime.Goexit, not return when its context ends,
// or answer what can't be. All that is an error, after which what was asked for may have happened. Each call has a goroutine of its own.
type guard struct {
	store    Store
	patience time.Duration // after the end of its context, a call is left behind
	calls    chan struct{} // has one for each call that has not returned
}

var _ Store = (*guard)(nil)

// mostCalls is how many calls of a Store may not have returned. A session has six at a time: the others were left behind.
const mostCalls = 100

var (
	errHangs   = errors.New("lease: the store does not return though its context has ended")
	errCalls   = fmt.Errorf("lease: %d calls of the store have not returned", mostCalls)
	errNoID    = errors.New("lease: the store has answered Join without an id")
	errNotSeen = errors.New("lease: the store has answered Beat without this session")
	errClaims  = errors.New("lease: the store has answered Claim with other names than it was asked for")
)

func newGuard(store Store, patience time.Duration) *guard {
	return &guard{store: store, patience: patience, calls: make(chan struct{}, mostCalls)}
}

// An answer is what a call of user code has returned.
type answer[T any] struct {
	value T
	err   error
}

// apart calls f on a goroutine of its own, and sends what it returns. If f panics or calls runtime.Goexit, that is an error, which says so of
// who, and for what.
func apart[T any](who, what string, f func() (T, error)) <-chan answer[T] {
	answers := make(chan answer[T], 1)
	go func() {
		a := answer[T]{err: fmt.Errorf("lease: %s has called runtime.Goexit%s", who, what)}
		defer func() {
			if v := recover(); v != nil {
				a = answer[T]{err: fmt.Errorf("lease: %s has panicked%s: %v", who, what, v)}
			}
			answers <- a
		}()
		value, err := f()
		a = answer[T]{value, err}
	}()
	return answers
}

// ask calls f, which calls the store with ctx.
func ask[T any](ctx context.Context, g *guard, f func() (T, error)) (T, error) {
	select {
	case g.calls <- struct{}{}:
	default:
		return answer[T]{}.value, errCalls
	}
	answers := apart("the store", "", func() (T, error) {
		defer func() { <-g.calls }()
		value, err := f()
		return value, plain(err)
	})
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(g.patience)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-timer.C:
		return answer[T]{}.value, errHangs
	}
}

// A storeError is an error of a Store without its methods, which are the user's.
type storeError struct {
	text string
	is   error // ErrGone or errors.ErrUnsupported, if it wraps that; else nil
}

func (e *storeError) Error() string { return e.text }
func (e *storeError) Unwrap() error { return e.is }

// plain returns what is known of err once its methods have been called.
func plain(err error) error {
	if err == nil {
		return nil
	}
	e := &storeError{text: err.Error()}
	for _, is := range []error{ErrGone, errors.ErrUnsupported} {
		if errors.Is(err, is) {
			e.is = is
		}
	}
	return e
}

// Join implements [Store].
func (g *guard) Join(ctx context.Context, replica string) (string, error) {
	return ask(ctx, g, func() (string, error) {
		id, err := g.store.Join(ctx, replica)
		if err == nil && id == "" {
			return "", errNoID
		}
		return id, err
	})
}

// Beat implements [Store].
func (g *guard) Beat(ctx context.Context, id string, stuck []string) ([]Session, error) {
	return ask(ctx, g, func() ([]Session, error) {
		all, err := g.store.Beat(ctx, id, stuck)
		if err == nil && !slices.ContainsFunc(all, func(s Session) bool { return s.ID == id }) {
			return nil, errNotSeen
		}
		return all, err
	})
}

// Expire implements [Store].
func (g *guard) Expire(ctx context.Context, id string, beat uint64) error {
	return g.do(ctx, func() error { return g.store.Expire(ctx, id, beat) })
}

// Leave implements [Store].
func (g *guard) Leave(ctx context.Context, id string) error {
	return g.do(ctx, func() error { return g.store.Leave(ctx, id) })
}

// Claim implements [Store]. An answer with other names is no answer: the session may have any of these leases.
func (g *guard) Claim(ctx context.Context, id string, names []string) ([]Claim, error) {
	return ask(ctx, g, func() ([]Claim, error) {
		claims, err := g.store.Claim(ctx, id, slices.Clone(names))
		if err != nil {
			return nil, err
		}
		answered := make(map[string]struct{}, len(claims))
		for _, c := range claims {
			answered[c.Name] = struct{}{}
		}
		if len(claims) != len(names) || len(answered) != len(names) ||
			slices.ContainsFunc(names, func(name string) bool { _, ok := answered[name]; return !ok }) {
			return nil, errClaims
		}
		return claims, nil
	})
}

// Release implements [Store].
func (g *guard) Release(ctx context.Context, id string, claims []Claim) error {
	return g.do(ctx, func() error { return g.store.Release(ctx, id, claims) })
}

// Watch implements [Store].
func (g *guard) Watch(ctx context.Context, changed func()) error {
	return g.do(ctx, func() error { return g.store.Watch(ctx, changed) })
}

// Idle implements [Store].
func (g *guard) Idle() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = g.do(ended, func() error { g.store.Idle(); return nil })
}

func (g *guard) do(ctx context.Context, f func() error) error {
	_, err := ask(ctx, g, func() (struct{}, error) { return struct{}{}, f() })
	return err
}
