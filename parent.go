package taskmanager

import (
	"context"
	"sync/atomic"
)

// A parentContext is the context given to WithContext. It may be of a type of the user's, whose methods may do anything: of
// such a one Done is called once, when the Manager is made, and nothing else before that channel is closed.
type parentContext struct {
	ctx      context.Context
	done     <-chan struct{}
	standard bool                  // all of its methods are package context's or ours
	cause    atomic.Pointer[error] // of one that is not standard, after its end
	expired  atomic.Bool           // likewise: it was its deadline

	unwatch func() // ends the watch for the end; non-nil while there is one. Guarded by the Manager's mu
}

func (p *parentContext) init(ctx context.Context) {
	p.ctx, p.done = ctx, ctx.Done()
	p.standard = isStandard(ctx)
}

func (p *parentContext) isDone() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// parentCause is why the parent context has ended.
func (m *Manager) parentCause() error {
	p := &m.parent
	if cause := p.cause.Load(); cause != nil {
		return *cause
	}
	if p.standard {
		return context.Cause(p.ctx)
	}
	return context.Canceled // it is yet to be asked
}

// whence says in words, for the log, where the cause of a stop comes from that was asked for so; empty if the cause says that itself.
func (m *Manager) whence(q request) string {
	switch {
	case q != parentDoneRequest && q != shutdownRequest:
		return ""
	case m.config.groupTask != nil:
		return "its group ends"
	case q == shutdownRequest:
		return ""
	case m.parent.hasExpired():
		return "deadline of the parent context"
	}
	return "parent context"
}

// hasExpired reports whether the parent context has ended by its own deadline, as far as that is known.
func (p *parentContext) hasExpired() bool {
	if p.standard {
		return p.ctx.Err() == context.DeadlineExceeded
	}
	return p.expired.Load()
}

// watchParent sees to it that the Manager hears of the end of the parent context while tasks are alive. It is called
// without locks.
func (m *Manager) watchParent() {
	p := &m.parent
	if p.done == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.aliveCount == 0 || p.unwatch != nil {
		return
	}
	if p.standard {
		p.unwatch = whenDone(p.ctx, m.onParentDone)
		return
	}
	p.unwatch = whenClosed(p.done, m.onForeignParentDone)
}

// unwatchLocked ends the watch.
func (p *parentContext) unwatchLocked() {
	if p.unwatch != nil {
		p.unwatch()
		p.unwatch = nil
	}
}

// onForeignParentDone is onParentDone of a parent context that is not standard.
func (m *Manager) onForeignParentDone() {
	p := &m.parent
	askForeign(func() { // that must not hold up the stop for long
		cause := context.Cause(p.ctx)
		p.cause.Store(&cause)
		p.expired.Store(p.ctx.Err() == context.DeadlineExceeded)
	})
	m.onParentDone()
}
