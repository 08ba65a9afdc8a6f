package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// A Lease implements [taskmanager.Lease]. It is made by [Engine.Lease] and [Engine.OneOf], and is equal to another one of the same engine,
// name and n. The zero value is of no use, as its Check says.
type Lease struct {
	engine *Engine
	name   string
	many   bool // made by OneOf
	n      int  // of OneOf
	placed bool // of a Spread
}

var _ taskmanager.Lease = Lease{}

// Name implements [taskmanager.Lease].
func (l Lease) Name() string { return l.name }

// Check implements [taskmanager.Lease]. A body must be able to work for two beats at least after a beat was confirmed, before its context
// ends in time: TTL*(1-rho)/(1+rho) - grace must be at least that. With [KeepWithoutEngine] that is no matter.
func (l Lease) Check(grace time.Duration) error {
	if err := l.valid(); err != nil {
		return err
	}
	e := l.engine
	if cancel := e.span() - grace; cancel < 2*e.beat && !e.keep {
		return fmt.Errorf("lease: a beat is trusted for %v (TTL %v, drift %v): without the %v that the body may take to return, %v remain, "+
			"which is less than two beats of %v", e.span(), e.ttl, e.drift, grace, cancel, e.beat)
	}
	return nil
}

func (l Lease) valid() error {
	e := l.engine
	if e == nil {
		return errors.New("lease: the Lease was not made by an Engine")
	}
	if e.store == nil {
		return errors.New("lease: the Engine was not made by New")
	}
	e.mu.Lock()
	spreads := e.spread != nil
	e.mu.Unlock()
	if spreads && !l.placed {
		return fmt.Errorf("lease: name %q: the engine is for its Spread alone: make another one, with another pool", clip(l.name))
	}
	name := l.name
	if l.many {
		if l.n < 1 || l.n > mostOf {
			return fmt.Errorf("lease: %d of %q: must be 1 to %d", l.n, clip(l.name), mostOf)
		}
		if name != "" {
			name = slot(name, l.n-1) // the longest one
		}
	}
	if err := CheckName(name); err != nil {
		return fmt.Errorf("lease: name %q: %w", clip(l.name), err)
	}
	return nil
}

// mostOf is how many replicas can hold a lease of OneOf: each of its names may have to be tried.
const mostOf = 1000

// clip shortens a name that was refused.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

func slot(name string, i int) string { return fmt.Sprintf("%s#%d", name, i) }

// names returns the names in the store, of which one is to be claimed.
func (l Lease) names() []string {
	if !l.many {
		return []string{l.name}
	}
	names := make([]string, l.n)
	for i := range names {
		names[i] = slot(l.name, i)
	}
	return names
}

// A group is those who wait for one Lease. The engine's mu guards it.
type group struct {
	lease   Lease
	names   []string // in the store; never changes
	next    int      // which of names is claimed next
	waiters map[*waiter]struct{}
	holder  string    // the session that has it, as the last claim said; empty if that is not known
	since   time.Time // of the holder's claim, for people
}

// A waiter is one call of Acquire. The engine's mu guards it, but for done and news.
type waiter struct {
	task *taskmanager.Task // nil if it is none
	body bool              // it is called by the body of task, for what is not the lease of task
	done chan struct{}     // closed once hold or err is set
	hold *hold
	err  error

	status string
	news   chan struct{} // has one if status has changed
}

func (w *waiter) tellLocked(status string) {
	if w.status == status {
		return
	}
	w.status = status
	kick(w.news)
}

// kick has whoever receives from c look. One that waits there is enough.
func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Acquire implements [taskmanager.Lease]. It returns an error before ctx ends only for a name that Check refuses, and [ErrClosed].
func (l Lease) Acquire(ctx context.Context, waiting func(status string)) (taskmanager.Hold, error) {
	if err := l.valid(); err != nil {
		return nil, err
	}
	task, _ := taskmanager.FromContext(ctx)
	_, body := taskmanager.LeaseToken(ctx)
	told := ""
	tell := func(status string) {
		if status != told && waiting != nil {
			told = status
			waiting(status)
		}
	}
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		hold, err := l.acquire(ctx, &waiter{task: task, body: body, done: make(chan struct{}), news: make(chan struct{}, 1)}, tell)
		if hold != nil {
			return hold, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// acquire waits for w to be served. It returns nil and nil if the hold was lost before anybody has seen it.
func (l Lease) acquire(ctx context.Context, w *waiter, tell func(status string)) (*hold, error) {
	e := l.engine
	if err := e.want(l, w); err != nil {
		return nil, err
	}
	served := false
	defer func() { // also if tell panics or calls runtime.Goexit
		if !served {
			e.unwant(l, w)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-w.news:
			e.mu.Lock()
			status := w.status
			e.mu.Unlock()
			tell(status)
		case <-w.done:
			if w.err != nil {
				return nil, w.err
			}
			served = ctx.Err() == nil && w.hold.Context().Err() == nil
			if served {
				return w.hold, nil
			}
			return nil, context.Cause(ctx)
		}
	}
}

// want adds a waiter, and serves it if the lease is held by now.
func (e *Engine) want(l Lease, w *waiter) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	g := e.groups[l]
	if g == nil {
		g = &group{lease: l, names: l.names(), waiters: map[*waiter]struct{}{}}
		g.next = rand.IntN(len(g.names)) // so that replicas begin with different ones
		e.groups[l] = g
	}
	g.waiters[w] = struct{}{}
	e.ensureLocked(time.Now())
	s := e.current
	s.grantLocked(g, time.Now())
	if len(g.waiters) > 0 {
		w.tellLocked(s.statusLocked(g))
		s.sweep = true
		kick(s.claim)
	}
	return nil
}

// unwant takes back want.
func (e *Engine) unwant(l Lease, w *waiter) {
	e.mu.Lock()
	h := w.hold
	if g := e.groups[l]; g != nil && h == nil {
		delete(g.waiters, w)
		if len(g.waiters) == 0 {
			delete(e.groups, l)
			if s := e.current; s != nil {
				s.trimLocked(g.names)
			}
			e.retireLocked()
		}
	}
	e.mu.Unlock()
	if h != nil {
		h.Release()
	}
}

// statusLocked returns what those who wait are told.
func (s *session) statusLocked(g *group) string {
	status := fmt.Sprintf("waits for lease %q", g.lease.name)
	err := s.beatErr
	if err == nil {
		err = s.claimErr
	}
	if err != nil {
		return fmt.Sprintf("%s: the engine has failed: %s", status, oneLine(err))
	}
	holder, ok := s.others[g.holder]
	if !ok || g.lease.many {
		return status
	}
	status += fmt.Sprintf(", held by %q", holder.Replica)
	if slices.Contains(holder.Stuck, g.lease.name) {
		status += " (stuck)"
	}
	if !g.since.IsZero() {
		status += " since " + g.since.Local().Format("15:04")
	}
	return status
}

// oneLine returns the text of err, which may be that of a server, as a part of a status.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// tellLocked tells those who wait what has changed.
func (s *session) tellLocked() {
	if s.engine.spread != nil {
		kick(s.engine.spread.changed)
	}
	if s.engine.current != s {
		return
	}
	for _, g := range s.engine.groups {
		status := s.statusLocked(g)
		for w := range g.waiters {
			w.tellLocked(status)
		}
	}
}

// A hold implements [taskmanager.Hold].
type hold struct {
	session  *session
	entry    *entry
	token    uint64
	task     *taskmanager.Task // nil if it is none
	body     bool              // of the waiter
	released bool              // guarded by the engine's mu
}

func (h *hold) Token() uint64 { return h.token }

func (h *hold) Until() time.Time {
	if h.session.engine.keep {
		return time.Time{}
	}
	return h.session.trusted()
}

func (h *hold) Context() context.Context { return h.session.held }

func (h *hold) Release() {
	s := h.session
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if h.released {
		return
	}
	h.released = true
	s.holds--
	h.entry.holds--
	s.forgetLocked(h)
	if s.isOver {
		if s.holds == 0 {
			close(s.released)
		}
		return
	}
	s.trimLocked([]string{h.entry.name})
	e.retireLocked()
}

// forgetLocked takes a hold from its task.
func (s *session) forgetLocked(h *hold) {
	rest := slices.DeleteFunc(s.tasks[h.task], func(x *hold) bool { return x == h })
	if len(rest) > 0 {
		s.tasks[h.task] = rest
	} else {
		delete(s.tasks, h.task)
	}
}

// Held returns the claim by which the run holds its lease whose body was given ctx, or a context that ctx derives from: the name in the
// [Store], which is that of one of the leases of [Engine.OneOf]; its token, which is that of [taskmanager.LeaseToken]; and the session, as
// the Holder. It returns false for the context of a run that is over, or has no lease of this engine.
//
// It is for an engine that lets users make their writes depend on the lease. If the store says that this session has the lease, it has had
// it since the claim, without a break, provided that Held returns the same claim after the store was asked. The store may have a larger
// token: that of a claim of the same session which was not answered, and executed late.
func (e *Engine) Held(ctx context.Context) (Claim, bool) {
	if _, ok := taskmanager.LeaseToken(ctx); !ok {
		return Claim{}, false
	}
	task, _ := taskmanager.FromContext(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.sessions {
		for _, h := range s.tasks[task] {
			if !h.body {
				return Claim{Name: h.entry.name, Token: h.token, Holder: s.id, Since: h.entry.claim.Since}, true
			}
		}
	}
	return Claim{}, false
}
