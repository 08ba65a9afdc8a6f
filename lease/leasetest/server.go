package leasetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-taskmanager/taskmanager/lease"
)

// A Server is one pool in memory: its sessions and leases. It reads the clock only for what people see, starts no goroutine, and may be
// used in a bubble of testing/synctest, if it was made there. Its methods may be called by several goroutines at once.
type Server struct {
	mu       sync.Mutex
	joined   int                   // sessions so far
	sessions map[string]*session   // by id
	leases   map[string]*leaseData // by name
	watches  map[*watch]struct{}
	stores   []*Store
	calls    map[Op]int
}

type session struct {
	lease.Session
	number int
}

type leaseData struct {
	holder string // the id of a session, empty if it is free
	token  uint64
	since  time.Time
}

type watch struct {
	store  *Store
	notice chan struct{} // one is enough, as it says only that something has changed
	broken chan struct{} // closed by a cut
}

// NewServer returns a server whose pool is empty.
func NewServer() *Server {
	return &Server{
		sessions: map[string]*session{},
		leases:   map[string]*leaseData{},
		watches:  map[*watch]struct{}{},
		calls:    map[Op]int{},
	}
}

// Store connects one more replica. At the end of the test its calls that still wait return.
func (s *Server) Store(t testing.TB) *Store {
	store := &Store{server: s, changed: make(chan struct{}), next: map[Op][]Fault{}}
	s.mu.Lock()
	s.stores = append(s.stores, store)
	s.mu.Unlock()
	t.Cleanup(store.Restore)
	return store
}

// Cut cuts all replicas off, as [Store.Cut] does.
func (s *Server) Cut() {
	for _, store := range s.all() {
		store.Cut()
	}
}

// Restore ends all cuts.
func (s *Server) Restore() {
	for _, store := range s.all() {
		store.Restore()
	}
}

func (s *Server) all() []*Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.stores)
}

// Sessions returns the sessions of the pool, in the order in which they have joined.
func (s *Server) Sessions() []lease.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessionsLocked()
}

func (s *Server) sessionsLocked() []lease.Session {
	all := make([]*session, 0, len(s.sessions))
	for _, x := range s.sessions {
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b *session) int { return cmp.Compare(a.number, b.number) })
	sessions := make([]lease.Session, len(all))
	for i, x := range all {
		sessions[i] = x.Session
		sessions[i].Stuck = slices.Clone(x.Stuck)
	}
	return sessions
}

// Holder returns the session that has the lease, empty if nobody has, and the token of the last claim, 0 if there was none.
func (s *Server) Holder(name string) (id string, token uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leases[name]; l != nil {
		return l.holder, l.token
	}
	return "", 0
}

// Calls returns how many calls of op have happened, whether they were answered or not.
func (s *Server) Calls(op Op) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// happen makes a call happen now.
func happen[T any](s *Server, op Op, do func() (T, error)) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
	return do()
}

// removeLocked removes a session, and frees its leases.
func (s *Server) removeLocked(id string) {
	delete(s.sessions, id)
	for _, l := range s.leases {
		if l.holder == id {
			l.holder = ""
		}
	}
	s.noticeLocked()
}

// noticeLocked tells those who watch that a lease may have become free.
func (s *Server) noticeLocked() {
	for w := range s.watches {
		select {
		case w.notice <- struct{}{}:
		default:
		}
	}
}

func gone(id string) error { return fmt.Errorf("session %s: %w", id, lease.ErrGone) }

// A Store is what one replica has of a [Server]: a [lease.Store], with faults. Its methods may be called by several goroutines at once.
type Store struct {
	server *Server

	mu      sync.Mutex
	cut     bool
	changed chan struct{}  // closed when a cut ends, and replaced
	next    map[Op][]Fault // of the next calls
	fault   func(Op) Fault // of the other calls; nil: none
	open    bool           // there was a call after the last one of Idle
}

// An Op is a method of a [lease.Store].
type Op string

// The methods that can have faults.
const (
	Join    Op = "Join"
	Beat    Op = "Beat"
	Expire  Op = "Expire"
	Leave   Op = "Leave"
	Claim   Op = "Claim"
	Release Op = "Release"
)

// A Fault is what happens to a call. The zero value is none.
type Fault struct {
	Before time.Duration // what passes until it happens, even if its context has ended by then: it is executed late
	After  time.Duration // what passes from then on until its answer comes
	Lost   bool          // its answer never comes: it happens, and returns when its context ends
	Err    error         // its answer, though it happens
}

// Cut cuts the replica off: from now on no call of it happens and no answer comes, until [Store.Restore]. What it watches breaks off.
func (s *Store) Cut() {
	s.mu.Lock()
	s.cut = true
	s.mu.Unlock()
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	for w := range s.server.watches {
		if w.store == s {
			close(w.broken)
			delete(s.server.watches, w)
		}
	}
}

// Restore ends the cut. Calls that have waited for it, and whose context has not ended, go on.
func (s *Store) Restore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = false
	close(s.changed)
	s.changed = make(chan struct{})
}

// Next sets what happens to the next call of op for which that isn't set yet.
func (s *Store) Next(op Op, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next[op] = append(s.next[op], f)
}

// Faults sets a func that is called for each call, and says what happens to it; nil for nothing.
func (s *Store) Faults(f func(Op) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Open reports whether there was a call since the last one of Idle, or since ever.
func (s *Store) Open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// begin returns what happens to a call that begins now.
func (s *Store) begin(op Op) Fault {
	s.mu.Lock()
	s.open = true
	fault := s.fault
	if next := s.next[op]; len(next) > 0 {
		s.next[op] = next[1:]
		fault = func(Op) Fault { return next[0] }
	}
	s.mu.Unlock()
	if fault == nil {
		return Fault{}
	}
	return fault(op)
}

// reach blocks while the replica is cut off. It returns why ctx has ended if that is first.
func (s *Store) reach(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		s.mu.Lock()
		cut, changed := s.cut, s.changed
		s.mu.Unlock()
		if !cut {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (s *Store) isCut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut
}

// call makes a call happen, with its faults.
func call[T any](ctx context.Context, s *Store, op Op, do func() (T, error)) (T, error) {
	fault := s.begin(op)
	answer, err := callWith(ctx, s, op, fault, do)
	if err != nil {
		var none T
		return none, err
	}
	return answer, nil
}

func callWith[T any](ctx context.Context, s *Store, op Op, fault Fault, do func() (T, error)) (answer T, err error) {
	if err := s.reach(ctx); err != nil {
		return answer, err
	}
	var result error // of a call that has been answered
	if fault.Before > 0 {
		late := make(chan func() (T, error), 1)
		time.AfterFunc(fault.Before, func() {
			if s.isCut() {
				return // what was under way is lost
			}
			happened, failed := happen(s.server, op, do)
			late <- func() (T, error) { return happened, failed }
		})
		select {
		case f := <-late:
			answer, result = f()
		case <-ctx.Done():
			return answer, context.Cause(ctx)
		}
	} else {
		answer, result = happen(s.server, op, do)
	}
	if fault.Lost {
		<-ctx.Done()
		return answer, context.Cause(ctx)
	}
	if fault.After > 0 {
		timer := time.NewTimer(fault.After)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return answer, context.Cause(ctx)
		}
	}
	if err := s.reach(ctx); err != nil {
		return answer, err
	}
	if fault.Err != nil {
		return answer, fault.Err
	}
	return answer, result
}

// Join implements [lease.Store].
func (s *Store) Join(ctx context.Context, replica string) (string, error) {
	v := s.server
	return call(ctx, s, Join, func() (string, error) {
		v.joined++
		id := fmt.Sprint("s", v.joined)
		v.sessions[id] = &session{Session: lease.Session{ID: id, Replica: replica}, number: v.joined}
		return id, nil
	})
}

// Beat implements [lease.Store].
func (s *Store) Beat(ctx context.Context, id string, stuck []string) ([]lease.Session, error) {
	v := s.server
	stuck = slices.Clone(stuck)
	return call(ctx, s, Beat, func() ([]lease.Session, error) {
		x := v.sessions[id]
		if x == nil {
			return nil, gone(id)
		}
		x.Beat++
		x.Stuck = stuck
		return v.sessionsLocked(), nil
	})
}

// Expire implements [lease.Store].
func (s *Store) Expire(ctx context.Context, id string, beat uint64) error {
	v := s.server
	_, err := call(ctx, s, Expire, func() (struct{}, error) {
		if x := v.sessions[id]; x != nil && x.Beat == beat {
			v.removeLocked(id)
		}
		return struct{}{}, nil
	})
	return err
}

// Leave implements [lease.Store].
func (s *Store) Leave(ctx context.Context, id string) error {
	v := s.server
	_, err := call(ctx, s, Leave, func() (struct{}, error) {
		if v.sessions[id] != nil {
			v.removeLocked(id)
		}
		return struct{}{}, nil
	})
	return err
}

// Claim implements [lease.Store].
func (s *Store) Claim(ctx context.Context, id string, names []string) ([]lease.Claim, error) {
	v := s.server
	names = slices.Clone(names)
	return call(ctx, s, Claim, func() ([]lease.Claim, error) {
		if v.sessions[id] == nil {
			return nil, gone(id)
		}
		if len(slices.Compact(slices.Sorted(slices.Values(names)))) < len(names) {
			return nil, errors.New("leasetest: a lease is claimed twice in one call")
		}
		claims := make([]lease.Claim, 0, len(names))
		for _, name := range names {
			l := v.leases[name]
			if l == nil {
				l = &leaseData{}
				v.leases[name] = l
			}
			claim := lease.Claim{Name: name}
			if l.holder == "" || l.holder == id {
				l.holder = id
				l.token++
				l.since = time.Now()
				claim.Token = l.token
			}
			claim.Holder, claim.Since = l.holder, l.since
			claims = append(claims, claim)
		}
		return claims, nil
	})
}

// Release implements [lease.Store].
func (s *Store) Release(ctx context.Context, id string, claims []lease.Claim) error {
	v := s.server
	claims = slices.Clone(claims)
	_, err := call(ctx, s, Release, func() (struct{}, error) {
		for _, c := range claims {
			if l := v.leases[c.Name]; l != nil && l.holder == id && l.token == c.Token {
				l.holder = ""
				v.noticeLocked()
			}
		}
		return struct{}{}, nil
	})
	return err
}

var errBroken = errors.New("leasetest: the connection was cut")

// Watch implements [lease.Store].
func (s *Store) Watch(ctx context.Context, changed func()) error {
	s.mu.Lock()
	s.open = true
	s.mu.Unlock()
	if err := s.reach(ctx); err != nil {
		return err
	}
	w := &watch{store: s, notice: make(chan struct{}, 1), broken: make(chan struct{})}
	v := s.server
	v.mu.Lock()
	v.watches[w] = struct{}{}
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		delete(v.watches, w)
		v.mu.Unlock()
	}()
	if s.isCut() {
		return errBroken
	}
	changed()
	for {
		select {
		case <-w.notice:
			changed()
		case <-w.broken:
			return errBroken
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Idle implements [lease.Store].
func (s *Store) Idle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = false
}
