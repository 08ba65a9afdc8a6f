package lease

import (
	"context"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// An Engine hands out leases.
type Engine struct{ store Store }

// An Option configures an Engine.
type Option func(*Engine) error

// New makes an engine.
func New(store Store, opts ...Option) (*Engine, error) { return &Engine{store: store}, nil }

// Lease returns the lease of that name.
func (e *Engine) Lease(name string) Lease { return Lease{engine: e, name: name} }

// Close releases.
func (e *Engine) Close(ctx context.Context) error { return nil }

// A Lease implements taskmanager.Lease.
type Lease struct {
	engine *Engine
	name   string
}

func (l Lease) Name() string                    { return l.name }
func (l Lease) Check(grace time.Duration) error { return nil }
func (l Lease) Acquire(ctx context.Context, waiting func(status string)) (taskmanager.Hold, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}
