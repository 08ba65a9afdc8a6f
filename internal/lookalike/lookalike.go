// Package context has contexts of the names, but not of the kind, of those of the standard library's package: what a fork of that may look
// like, or a package of the user's that is called so. It is for tests.
package context

import (
	std "context"
	"time"
)

// A cancelCtx is a context of which a function says with which error it has ended.
type cancelCtx struct {
	std.Context
	done <-chan struct{}
	err  func() error
}

// WithErr returns a context that is done when the channel is closed, and asks err then.
func WithErr(done <-chan struct{}, err func() error) std.Context {
	return &cancelCtx{std.Background(), done, err}
}

func (c *cancelCtx) Done() <-chan struct{} { return c.done }

func (c *cancelCtx) Err() error { return c.err() }

// A valueCtx has its parent in a field of another name.
type valueCtx struct{ parent std.Context }

// WithParent returns a context that asks parent for everything.
func WithParent(parent std.Context) std.Context { return &valueCtx{parent} }

func (c *valueCtx) Deadline() (time.Time, bool) { return c.parent.Deadline() }

func (c *valueCtx) Done() <-chan struct{} { return c.parent.Done() }

func (c *valueCtx) Err() error { return c.parent.Err() }

func (c *valueCtx) Value(key any) any { return c.parent.Value(key) }
