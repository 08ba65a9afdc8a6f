package notify

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Send sends m once, and neither retries nor follows a redirect. It returns an error if there is no
// response to judge.
type Send func(ctx context.Context, m *Message) (*Response, error)

const (
	attempts       = 4               // for one message in one call, at most
	attemptTimeout = 5 * time.Second // half of what a Manager allows for one report, so that a second attempt has a chance
	firstBackoff   = 500 * time.Millisecond
	longestWait    = time.Minute // for the next attempt, where ctx has no deadline

	firstAbsence   = time.Minute // after a first answer that the channel is not there, or not for us
	longestAbsence = time.Hour   // after many
)

var errNotYet = errors.New("discord: the rate limit allows no request yet")

// A limit is Discord's rate limit, as its answers tell of it.
type limit struct {
	notBefore time.Time // when it allows the next request
	exceeded  int       // answers that it was exceeded, since the last other one
}

// An absence is the time in which Discord says that the channel is not there, or not for us. Whoever
// goes on asking gets its address barred; but it has been known to say so wrongly, during an incident.
type absence struct {
	err   error     // what Discord says; nil if there is no absence
	until time.Time // when to ask again
	asked int       // how often it has been
}

// A refusal says that the message is refused, most likely for what is in it.
type refusal struct {
	err     error
	certain bool // it is Discord that says so, and not something on the way
}

func (e *refusal) Error() string { return e.err.Error() }

func (e *refusal) Unwrap() error { return e.err }

// deliver sends m until it has been taken, until that is hopeless for now, or until ctx is done. It
// returns a refusal if there is no use in sending m again.
func (n *Notifier) deliver(ctx context.Context, m *Message) (err error) {
	defer func() {
		if err != nil && m.unsure && !errors.As(err, new(*refusal)) {
			n.mu.Lock()
			n.unsure = m
			n.mu.Unlock()
		}
	}()
	last := errNotYet // why another attempt is needed
	for i := range attempts {
		if err := n.admit(ctx, last); err != nil {
			return err
		}
		v, err := n.attempt(ctx, m)
		last = err
		switch {
		case v == taken:
			return nil
		case v == refused || v == barred:
			return &refusal{err, v == refused}
		case v == absent:
			return n.absent(err)
		case v == blocked:
			return err
		case ctx.Err() == nil && i < attempts-1:
		case v == limited:
			return n.limited(err)
		default:
			return err
		}
		if v == fault {
			if err := sleep(ctx, firstBackoff<<i, last); err != nil {
				return err
			}
		}
	}
	return last
}

// admit waits until the rate limit allows a request. It returns an error if none may be made in time.
func (n *Notifier) admit(ctx context.Context, last error) error {
	n.mu.Lock()
	missing, delay := n.absence, time.Until(n.limit.notBefore)
	n.mu.Unlock()
	if missing.err != nil {
		if after := time.Until(missing.until); after > 0 {
			return &pauseError{missing.err, after}
		}
	}
	if err := sleep(ctx, delay, last); err != nil {
		if delay > 0 {
			return n.limited(err)
		}
		return err
	}
	return nil
}

// limited returns err with the time at which the rate limit allows a request.
func (n *Notifier) limited(err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &pauseError{err, time.Until(n.limit.notBefore)}
}

// absent notes that Discord says once more that the channel is absent, by err, and returns that with
// the time at which to ask again.
func (n *Notifier) absent(err error) error {
	err = n.hide(err)
	n.mu.Lock()
	defer n.mu.Unlock()
	after := min(firstAbsence<<min(n.absence.asked, 10), longestAbsence)
	n.absence = absence{err, time.Now().Add(after), n.absence.asked + 1}
	return &pauseError{err, after}
}

// sleep returns when d is over. If ctx is done before that, or known to be, it returns an error
// that wraps last, at once.
func sleep(ctx context.Context, d time.Duration, last error) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("%w: %w", last, err)
	}
	if d <= 0 {
		return nil
	}
	left := longestWait + 1
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	if d >= left {
		return fmt.Errorf("%w: the next attempt would have to wait %v", last, d.Round(time.Millisecond))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", last, context.Cause(ctx))
	}
}

// attempt sends m once, and returns what has become of it, with an error unless it was taken. It takes
// note of what the answer says of the rate limit.
func (n *Notifier) attempt(ctx context.Context, m *Message) (verdict, error) {
	r, err := n.call(ctx, m)
	if err != nil {
		m.unsure = true
		return fault, fmt.Errorf("discord: %w", err)
	}
	v, err := r.judge()
	// A success that is not Discord's may hide its answer; so may the error of a server.
	if v == fault || v == blocked && r.isSuccess() {
		m.unsure = true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if d, ok := r.exhausted(); ok {
		n.holdLocked(d)
	}
	switch v {
	case limited:
		// A server that says again and again that the time has come is not believed.
		wait := r.retryAfter()
		if n.limit.exceeded > 0 {
			wait = max(wait, min(firstBackoff<<min(n.limit.exceeded-1, 10), longestWait))
		}
		n.limit.exceeded++
		n.holdLocked(wait)
	case taken, refused: // it is there
		n.limit.exceeded, n.absence = 0, absence{}
	default:
		n.limit.exceeded = 0
	}
	return v, err
}

// holdLocked forbids requests for d.
func (n *Notifier) holdLocked(d time.Duration) {
	if until := time.Now().Add(d); until.After(n.limit.notBefore) {
		n.limit.notBefore = until
	}
}

// call calls the user's code. Its panic may show a secret in its text: it becomes an error, which is
// redacted as any other.
func (n *Notifier) call(ctx context.Context, m *Message) (r *Response, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			r, err = nil, fmt.Errorf("panic: %v", v)
		}
	}()
	r, err = n.send(ctx, m)
	if r == nil && err == nil {
		err = errors.New("neither a response nor an error")
	}
	return r, err
}
