package lease

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// A session is the membership of this replica in the pool, from Join to Leave. It is over once nothing is wanted or held, or once it was
// lost: the store says that it is gone, or its beats were not confirmed for too long. From then on, it only waits until its holds have
// been released, and leaves. The engine has a new one meanwhile, if something is wanted.
type session struct {
	engine   *Engine
	begin    time.Time       // when it joins at the earliest; never changes
	ctx      context.Context // of its calls; ends when their answers are of no use
	cancel   context.CancelFunc
	held     context.Context // of its holds; ends when the session was lost
	lose     context.CancelCauseFunc
	over     chan struct{} // closed when the session is over
	released chan struct{} // closed when it is over and no hold is left
	claim    chan struct{} // has one if there may be something to claim
	release  chan struct{} // has one if there is something to release
	look     chan struct{} // has one if seen has changed
	hurry    chan struct{} // has one if the next beat may show other sessions than the last one

	// trust is until when the session is trusted, relative to the engine's base; 0 before the first confirmed beat. It is written
	// with the engine's mu held.
	trust atomic.Int64

	// The engine's mu guards what follows.

	id      string                        // empty before it has joined
	isOver  bool                          // over is closed
	timer   *time.Timer                   // for when trust is over; nil before the first confirmed beat, and with KeepWithoutEngine
	sent    time.Time                     // when the last confirmed beat was sent; zero before the first one
	holds   int                           // of all entries
	tasks   map[*taskmanager.Task][]*hold // what each task holds, and has not released
	entries map[string]*entry
	others  map[string]Session   // all sessions of the pool, as the last confirmed beat has shown them
	members []string             // the ids of those that take part in a Spread, sorted
	settled bool                 // two beats were confirmed: the second has shown who joined when this session did
	seen    map[string]*sighting // of other sessions

	beatErr  error     // of the last Join or Beat; nil if it was confirmed
	claimErr error     // of the last Claim
	sweep    bool      // something may be free that was not: each of the leases of a group is tried
	swept    time.Time // when that was done last
	probed   time.Time // when uncertain claims were looked at last
}

func newSession(e *Engine, begin time.Time) *session {
	s := &session{
		engine: e, begin: begin,
		over: make(chan struct{}), released: make(chan struct{}),
		claim: make(chan struct{}, 1), release: make(chan struct{}, 1), look: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		tasks: map[*taskmanager.Task][]*hold{}, entries: map[string]*entry{}, seen: map[string]*sighting{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.held, s.lose = context.WithCancelCause(context.Background())
	return s
}

// run is the life of the session. idling, if not nil, is closed when the store may be used.
func (s *session) run(idling <-chan struct{}) {
	pprof.SetGoroutineLabels(context.Background()) // it is of no task, though one has wanted a lease first
	defer s.engine.forget(s)
	defer s.lose(nil)
	defer s.cancel()
	if idling != nil {
		<-idling
	}
	if !s.join() {
		return
	}
	var wg sync.WaitGroup
	for _, work := range []func(){s.beats, s.claims, s.releases, s.observe, s.watch} {
		wg.Go(work)
	}
	<-s.over
	if err := context.Cause(s.held); err != nil {
		s.engine.logger.Warn("session of leases was lost", "replica", s.engine.replica, "error", err)
	}
	s.awaitHolds()
	s.leave()
	s.cancel()
	wg.Wait()
}

// endLocked ends the session: it was lost if cause is not nil.
func (s *session) endLocked(cause error) {
	if s.isOver {
		return
	}
	s.isOver = true
	if cause != nil {
		s.lose(cause) // before over: run asks for it then
		s.cancel()
	}
	close(s.over)
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.holds == 0 {
		close(s.released)
	}
}

// lost ends the session with a cause, and begins a new one for what is wanted, though not more than one a beat.
func (s *session) lost(cause error) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.isOver {
		return
	}
	s.endLocked(cause)
	e.current = nil
	s.tellLocked()
	begin := time.Now()
	if earliest := s.begin.Add(e.beat); earliest.After(begin) {
		begin = earliest
	}
	if e.ensureLocked(begin); e.current != nil {
		e.current.beatErr = s.beatErr
	}
}

// call calls the store, which may take a beat.
func (s *session) call(parent context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(parent, s.engine.beat)
	defer cancel()
	return f(ctx)
}

// join joins until it is confirmed, and reports whether it was. It returns false if the session is over.
func (s *session) join() bool {
	e := s.engine
	if !sleep(time.Until(s.begin), s.over) {
		return false
	}
	for {
		begin := time.Now()
		var id string
		// The call goes on if the session is over meanwhile: else nobody would know the id to leave with.
		err := s.call(context.Background(), func(ctx context.Context) (err error) {
			id, err = e.store.Join(ctx, e.replica)
			return err
		})
		e.mu.Lock()
		s.id, s.beatErr = id, err
		e.noteLocked(err)
		s.tellLocked()
		e.mu.Unlock()
		if err == nil {
			return true
		}
		if !sleep(time.Until(begin.Add(e.beat)), s.over) {
			return false
		}
	}
}

// beats raises the beat of the session, again and again.
func (s *session) beats() {
	e := s.engine
	for sleep(0, s.over) {
		stuck := s.stuck()
		sent := time.Now()
		var all []Session
		err := s.call(s.ctx, func(ctx context.Context) (err error) {
			all, err = e.store.Beat(ctx, s.id, stuck)
			return err
		})
		switch {
		case errors.Is(err, ErrGone):
			s.lost(err)
			return
		case err != nil:
			e.mu.Lock()
			s.beatErr = err
			e.noteLocked(err)
			s.tellLocked()
			e.mu.Unlock()
		default:
			s.confirmed(sent, all)
		}
		kick(s.claim)
		if !s.awaitBeat(sent, err == nil) {
			return
		}
	}
}

// triesPerBeat is how often a beat that fails at once is tried until the next one would have been due.
const triesPerBeat = 6

// awaitBeat blocks until the next beat is due, after one that was sent then. It returns false if the session is over. After one that was not
// confirmed that is soon: a server that starts again refuses calls at once, for some seconds, and to wait for a beat at each refusal would
// cost the leases. Where leases are spread, it is a tenth of a beat at the least, so that moves are quick: the second beat comes then, and one
// that may show other sessions.
func (s *session) awaitBeat(sent time.Time, confirmed bool) bool {
	e := s.engine
	if !confirmed {
		return sleep(time.Until(sent.Add(e.beat/triesPerBeat)), s.over)
	}
	e.mu.Lock()
	spreads, joining := e.spread != nil, !s.sent.IsZero() && !s.settled
	e.mu.Unlock()
	soon := sent.Add(e.beat / 10)
	if !spreads {
		return sleep(time.Until(sent.Add(e.beat)), s.over)
	}
	if joining {
		return sleep(time.Until(soon), s.over)
	}
	timer := time.NewTimer(time.Until(sent.Add(e.beat)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return sleep(0, s.over)
	case <-s.hurry:
		return sleep(time.Until(soon), s.over)
	case <-s.over:
		return false
	}
}

// confirmed notes a beat that was sent then, and what it has shown.
func (s *session) confirmed(sent time.Time, all []Session) {
	e := s.engine
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.isOver {
		return
	}
	s.beatErr = nil
	e.noteLocked(nil)
	s.settled = !s.sent.IsZero()
	if s.isBlindLocked(sent) {
		clear(s.seen) // they may have been alive
	}
	s.sent = sent
	until := sent.Add(e.span())
	s.trust.Store(int64(until.Sub(e.base)))
	if !e.keep {
		if s.timer == nil {
			s.timer = time.AfterFunc(until.Sub(now), s.distrust)
		} else {
			s.timer.Reset(until.Sub(now))
		}
	}
	s.others = make(map[string]Session, len(all))
	var members []string
	for _, x := range all {
		s.others[x.ID] = x
		if x.Beat > 0 && !slices.Contains(x.Stuck, placing) {
			members = append(members, x.ID)
		}
	}
	slices.Sort(members)
	s.members = members
	s.sightLocked(now)
	for _, g := range e.groups {
		s.grantLocked(g, now)
	}
	s.tellLocked()
}

// isBlindLocked reports whether this replica has not seen the others for so long, at that time, that they can't be judged.
func (s *session) isBlindLocked(at time.Time) bool { return at.Sub(s.sent) > 2*s.engine.beat }

// trusted returns until when the session is trusted.
func (s *session) trusted() time.Time { return s.engine.base.Add(time.Duration(s.trust.Load())) }

// distrust is called when the trust may be over.
func (s *session) distrust() {
	s.engine.mu.Lock()
	err := s.beatErr
	trusted := time.Now().Before(s.trusted())
	s.engine.mu.Unlock()
	if trusted {
		return
	}
	if err == nil {
		err = context.DeadlineExceeded
	}
	s.lost(fmt.Errorf("lease: no beat was confirmed in %v: %w", s.engine.span(), err))
}

// stuck returns the names of those leases that are held by a task that is stuck; and that of the task that starts the others, if the run of
// a Spread is over while bodies execute: nothing is to be placed here any more.
func (s *session) stuck() []string {
	e := s.engine
	e.mu.Lock()
	leaves := e.spread != nil && !e.spread.running
	holds := make([]*hold, 0, len(s.tasks))
	for _, all := range s.tasks {
		holds = append(holds, all...)
	}
	e.mu.Unlock()
	var names []string
	if leaves {
		names = append(names, placing)
	}
	for _, h := range holds {
		if h.task.State() == taskmanager.StateStuck {
			names = append(names, h.entry.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// awaitHolds blocks until all holds have been released. It says so if that is too late.
func (s *session) awaitHolds() {
	e := s.engine
	until := s.trusted()
	if e.keep {
		until = time.Now().Add(2 * e.beat)
	}
	if !sleep(time.Until(until), s.released) {
		return
	}
	e.mu.Lock()
	var names []string
	for name, x := range s.entries {
		if x.holds > 0 {
			names = append(names, name)
		}
	}
	e.mu.Unlock()
	slices.Sort(names)
	for _, name := range names {
		e.logger.Error("lease lost, body still runs", "lease", name)
		if e.overrun != nil {
			go e.callOverrun(name)
		}
	}
	<-s.released
}

// callOverrun calls the func of WithOverrun. It has a goroutine of its own: that is user code.
func (e *Engine) callOverrun(name string) {
	defer func() {
		if v := recover(); v != nil {
			e.logger.Error("the func of WithOverrun has panicked", "lease", name, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	e.overrun(name)
}

// leave removes the session from the store. If that is not confirmed within a TTL, it is left to the others, who have seen by then that
// its beat does not change.
func (s *session) leave() {
	e := s.engine
	for first := time.Now(); ; {
		begin := time.Now()
		err := s.call(context.Background(), func(ctx context.Context) error { return e.store.Leave(ctx, s.id) })
		if err == nil {
			return
		}
		if time.Since(first) >= e.ttl {
			e.logger.Warn("session of leases could not leave", "replica", e.replica, "error", err)
			return
		}
		time.Sleep(time.Until(begin.Add(e.beat)))
	}
}

// watch has the leases claimed when one may have become free.
func (s *session) watch() {
	e := s.engine
	for {
		begin := time.Now()
		err := e.store.Watch(s.ctx, func() {
			e.mu.Lock()
			s.sweep = true
			e.mu.Unlock()
			kick(s.claim)
			kick(s.hurry)
		})
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		if !sleep(time.Until(begin.Add(e.beat)), s.over) {
			return
		}
	}
}

// A sighting is what is known of another session.
type sighting struct {
	beat uint64
	due  time.Time // when it is to be removed, if its beat is still that
	done bool      // that was asked for, and confirmed
}

// sightLocked notes what the last confirmed beat has shown, now.
func (s *session) sightLocked(now time.Time) {
	for id := range s.seen {
		if _, ok := s.others[id]; !ok {
			delete(s.seen, id)
		}
	}
	for id, x := range s.others {
		if id == s.id {
			continue
		}
		if known := s.seen[id]; known == nil || known.beat != x.Beat {
			s.seen[id] = &sighting{beat: x.Beat, due: now.Add(s.engine.ttl)}
		}
	}
	kick(s.look)
}

// observe removes the sessions whose beat has not changed for a TTL.
func (s *session) observe() {
	e := s.engine
	for {
		id, x := s.nextDue()
		if x.due.IsZero() {
			select {
			case <-s.look:
				continue
			case <-s.over:
				return
			}
		}
		if d := time.Until(x.due); d > 0 {
			timer := time.NewTimer(d)
			select {
			case <-timer.C:
			case <-s.look:
			case <-s.over:
				timer.Stop()
				return
			}
			timer.Stop()
			continue
		}
		err := s.call(s.ctx, func(ctx context.Context) error { return e.store.Expire(ctx, id, x.beat) })
		e.mu.Lock()
		name := s.others[id].Replica
		if known := s.seen[id]; known != nil && known.beat == x.beat {
			known.due = time.Now().Add(e.beat) // again, if it is still there
			known.done = known.done || err == nil
		}
		s.sweep = true
		over := s.isOver
		e.mu.Unlock()
		if over {
			return
		}
		if err == nil && !x.done {
			e.logger.Info("session of leases was removed, if its beat stands still", "replica", name, "session", id, "beat", x.beat)
		}
		kick(s.claim)
	}
}

// nextDue returns the sighting that is due first; a zero one if there is none, or it can't be judged: where the engine was down for all,
// others don't reach it sooner than this replica does. A session of this engine whose holds have not been
// released is not for it to remove: it leaves when they have been.
func (s *session) nextDue() (id string, first sighting) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.isBlindLocked(time.Now()) {
		return "", first // the next beat that is confirmed has it look again
	}
	mine := map[string]bool{}
	for x := range e.sessions {
		if x.holds > 0 {
			mine[x.id] = true
		}
	}
	for i, x := range s.seen {
		if !mine[i] && (first.due.IsZero() || x.due.Before(first.due)) {
			id, first = i, *x
		}
	}
	return id, first
}
