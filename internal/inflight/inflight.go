// Package inflight counts what is under way, for those who wait until nothing is.
package inflight

import (
	"context"
	"sync"
	"sync/atomic"
)

// A Count is the number of things that are under way. The zero value is ready to use, by any number
// of goroutines. Unlike a [sync.WaitGroup] it may be added to while somebody waits, and the wait can
// be given up.
type Count struct {
	n       atomic.Int64
	awaited atomic.Bool // set by the first Wait, so that Done takes no lock where nobody ever waits

	mu   sync.Mutex
	zero chan struct{} // made by Wait; closed, and nil again, when n gets to 0
}

// Add notes that one more thing is under way.
func (c *Count) Add() { c.n.Add(1) }

// Done notes the end of one. It is called once for each Add, and after it.
func (c *Count) Done() {
	if c.n.Add(-1) > 0 || !c.awaited.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.zero != nil {
		close(c.zero)
		c.zero = nil
	}
}

// N returns how many are under way.
func (c *Count) N() int { return int(c.n.Load()) }

// Wait returns when there is a moment at which nothing is under way, or when ctx is done.
func (c *Count) Wait(ctx context.Context) {
	c.awaited.Store(true) // before n is looked at: who counts it down to 0 after that sees it
	for {
		c.mu.Lock()
		if c.zero == nil {
			c.zero = make(chan struct{})
		}
		zero := c.zero
		c.mu.Unlock()
		if c.n.Load() == 0 {
			return
		}
		select {
		case <-zero: // there may be more since
		case <-ctx.Done():
			return
		}
	}
}
