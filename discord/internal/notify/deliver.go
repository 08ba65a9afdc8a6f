package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// Send sends m once, and neither retries nor follows a redirect. It returns an error if there is no
// response to judge.
type Send func(ctx context.Context, m *Message) (*Response, error)

const (
	attempts       = 4               // for one message, at most
	attemptTimeout = 5 * time.Second // half of what a Manager allows for one report, so that a second attempt has a chance
	firstBackoff   = 500 * time.Millisecond
	longestWait    = time.Minute // for the next attempt, where ctx has no deadline
)

var errNotYet = errors.New("discord: the rate limit allows no request yet")

// deliver sends m until it has been taken, until that is hopeless, or until ctx is done. A message
// whose response got lost is sent again, and shows twice: Discord has no way for webhooks to say
// that two are the same.
func (n *Notifier) deliver(ctx context.Context, m *Message) error {
	last := errNotYet // why another attempt is needed
	for i := range attempts {
		if err := n.admit(ctx, last); err != nil {
			return err
		}
		r, err := n.attempt(ctx, m)
		if err == nil {
			err = n.judge(r)
		}
		var retry *retryError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &retry):
			return err
		case ctx.Err() == nil && i < attempts-1:
		case retry.limited:
			return n.busy(retry.err)
		default:
			return retry.err
		}
		last = retry.err
		if !retry.limited {
			if err := sleep(ctx, firstBackoff<<i, last); err != nil {
				return err
			}
		}
	}
	return last
}

// A retryError says that the same message may be taken later.
type retryError struct {
	err     error
	limited bool // by the rate limit, which notBefore tells of
}

func (e *retryError) Error() string { return e.err.Error() }

func (e *retryError) Unwrap() error { return e.err }

// admit waits until the rate limit allows a request.
func (n *Notifier) admit(ctx context.Context, last error) error {
	n.mu.Lock()
	closed, delay := n.closed, time.Until(n.notBefore)
	n.mu.Unlock()
	if closed != nil {
		return closed
	}
	if err := sleep(ctx, delay, last); err != nil {
		if delay > 0 {
			return n.busy(err)
		}
		return err
	}
	return nil
}

// A busyError tells the Manager when the rate limit allows the next request. The attempt doesn't
// count then.
type busyError struct {
	err   error
	after time.Duration
}

func (e *busyError) Error() string { return e.err.Error() }

func (e *busyError) Unwrap() error { return e.err }

func (e *busyError) RetryAfter() time.Duration { return e.after }

func (n *Notifier) busy(err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &busyError{err, time.Until(n.notBefore)}
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

// attempt sends m once.
func (n *Notifier) attempt(ctx context.Context, m *Message) (*Response, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	r, err := n.send(ctx, m)
	if err != nil {
		return nil, &retryError{err: fmt.Errorf("discord: %w", err)}
	}
	return r, nil
}

// judge returns nil if r says that the message has been taken, and a retryError if it may be taken
// later. It takes note of what r says of the rate limit.
func (n *Notifier) judge(r *Response) error {
	if d, ok := r.exhausted(); ok {
		n.hold(d)
	}
	if r.Status >= 200 && r.Status < 300 {
		return nil
	}
	err := newStatusError(r)
	switch {
	case r.Status == 429:
		n.hold(r.retryAfter())
		return &retryError{err: err, limited: true}
	case r.Status >= 500:
		return &retryError{err: err}
	case errors.Is(err, taskmanager.ErrReporterClosed):
		n.mu.Lock()
		n.closed = n.hide(err)
		n.mu.Unlock()
	}
	return err
}

// hold forbids requests for d.
func (n *Notifier) hold(d time.Duration) {
	until := time.Now().Add(d)
	n.mu.Lock()
	defer n.mu.Unlock()
	if until.After(n.notBefore) {
		n.notBefore = until
	}
}
