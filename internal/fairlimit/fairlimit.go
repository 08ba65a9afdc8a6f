// Package fairlimit is a rate limiter that serves those who wait in the order in which they asked.
package fairlimit

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A Limiter grants turns, in the order in which they are asked for and no faster than its rate
// allows. It is made by [New], and safe for concurrent use. At rest it owns no goroutine and no
// timer: the caller of [Limiter.Wait] that is first in the queue waits for all of them.
type Limiter struct {
	limiter *rate.Limiter

	mu    sync.Mutex
	queue list.List // of chan struct{}: who waits; each is closed when it becomes the first
}

// New returns a Limiter that grants limit turns per second, and burst, at least 1, at once when
// that many have been left.
func New(limit rate.Limit, burst int) *Limiter {
	return &Limiter{limiter: rate.NewLimiter(limit, burst)}
}

// Allow reports whether it is the caller's turn at once: nobody waits, and a turn is left.
func (l *Limiter) Allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.allowLocked()
}

func (l *Limiter) allowLocked() bool { return l.queue.Len() == 0 && l.limiter.Allow() }

// Wait returns true when it is the caller's turn: at once if Allow would say so. If it receives from
// wake before that, it gives its place in the queue up and returns false.
func (l *Limiter) Wait(wake <-chan struct{}) bool {
	l.mu.Lock()
	if l.allowLocked() {
		l.mu.Unlock()
		return true
	}
	first := make(chan struct{})
	place := l.queue.PushBack(first)
	if l.queue.Front() == place {
		close(first)
	}
	l.mu.Unlock()
	defer l.leaveQueue(place)

	select {
	case <-first:
	case <-wake:
		return false
	}
	return l.waitFirst(wake)
}

// waitFirst is the rest of Wait for the first in the queue. No other holds a reservation. So
// nothing is reserved after it, and to cancel it gives all of it back.
func (l *Limiter) waitFirst(wake <-chan struct{}) bool {
	r := l.limiter.Reserve()
	delay := r.Delay()
	if delay == 0 {
		return true // whatever is in wake: a turn whose time has come can't be given back
	}
	select {
	case <-time.After(delay): // needs no Stop: nothing is left of a timer from which nobody receives
		return true
	case <-wake:
		r.Cancel()
		return false
	}
}

// leaveQueue takes a place out of the queue and, if it was the first, lets the next one advance.
func (l *Limiter) leaveQueue(place *list.Element) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wasFirst := l.queue.Front() == place
	l.queue.Remove(place)
	if next := l.queue.Front(); wasFirst && next != nil {
		close(next.Value.(chan struct{}))
	}
}
