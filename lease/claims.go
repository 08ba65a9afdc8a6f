package lease

import (
	"context"
	"errors"
	"slices"
	"time"
)

// An entry is what a session knows of a lease that it has, or may have. The engine's mu guards it, but for the name.
//
// After a claim that was not answered, the session may have the lease, or may get it yet: a statement can be executed late. Then the entry
// is uncertain, and stays so as long as it is held: the lease may have a larger token in the store than the hold knows. Who is still
// waiting claims it again. If nobody is, it is claimed and released: at each beat, for a TTL, and then once a TTL, as long as the session
// lives. So it is not held for nobody, however late a statement is executed.
type entry struct {
	name      string
	claim     Claim     // Token is 0 if it is not known to be the session's
	holds     int       // not released yet
	releasing bool      // is to be released
	uncertain bool      // a claim was not answered
	until     time.Time // until when an uncertain one that is not wanted is probed at each beat; zero while it is wanted
	probed    time.Time // when that was done last
}

func (s *session) entryLocked(name string) *entry {
	x := s.entries[name]
	if x == nil {
		x = &entry{name: name}
		s.entries[name] = x
	}
	return x
}

// claimedLocked returns the entry of that one of names that the session has; nil if it has none.
func (s *session) claimedLocked(names []string) *entry {
	for _, name := range names {
		if x := s.entries[name]; x != nil && x.claim.Token != 0 && !x.releasing {
			return x
		}
	}
	return nil
}

// grantLocked gives those who wait the lease, if the session has it. The last confirmed beat must be younger than two beats: else the
// context of a body might have to end before it begins.
func (s *session) grantLocked(g *group, now time.Time) {
	e := s.engine
	if s.isOver || s.sent.IsZero() || now.Sub(s.sent) >= 2*e.beat {
		return
	}
	x := s.claimedLocked(g.names)
	if x == nil {
		return
	}
	x.until = time.Time{}
	for w := range g.waiters {
		w.hold = &hold{session: s, entry: x, token: x.claim.Token, task: w.task, body: w.body}
		if w.task != nil {
			s.tasks[w.task] = append(s.tasks[w.task], w.hold)
		}
		x.holds++
		s.holds++
		close(w.done)
	}
	clear(g.waiters)
	delete(e.groups, g.lease)
	if e.spread != nil {
		delete(e.spread.wants.names, x.name)
	}
}

// trimLocked has those of the leases released that the session has and nobody wants.
func (s *session) trimLocked(names []string) {
	for _, name := range names {
		x := s.entries[name]
		if x == nil || x.holds > 0 || x.releasing || s.wantedLocked(x) {
			continue
		}
		switch {
		case x.claim.Token != 0:
			x.releasing = true
			kick(s.release)
		case !x.uncertain:
			delete(s.entries, name)
		case x.until.IsZero():
			x.until = time.Now().Add(s.engine.ttl)
		}
	}
}

// wantedLocked reports whether somebody waits who would be given the lease, or a Spread is to be.
func (s *session) wantedLocked(x *entry) bool {
	e := s.engine
	if e.spread != nil {
		_, placed := e.spread.wants.names[x.name]
		return placed || e.groups[e.placedLease(x.name)] != nil
	}
	if e.groups[e.Lease(x.name)] != nil {
		return true
	}
	for l, g := range e.groups {
		if l.many && s.claimedLocked(g.names) == x {
			return true
		}
	}
	return false
}

// claims claims what is waited for, again and again.
func (s *session) claims() {
	sweep := time.NewTimer(0)
	sweep.Stop() // it is set when there is something to try later
	defer sweep.Stop()
	for {
		select {
		case <-s.claim:
		case <-sweep.C:
		case <-s.over:
			return
		}
		n, next := s.calls()
		if next > 0 {
			sweep.Reset(next)
		}
		for i := range n {
			if !s.claimOnce(i == 0) {
				break
			}
		}
		if s.engine.spread != nil && !sleep(s.engine.beat/100, s.over) { // so that the many releases of a move are one reason to look
			return
		}
	}
}

// calls returns how many calls of Claim may follow each other now. All leases of one that n can hold are tried if something may be free
// that was not, once a beat; else two of them. If they are to be tried, but not yet, next is when.
func (s *session) calls() (n int, next time.Duration) {
	e := s.engine
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.spread != nil {
		return 1 + len(e.spread.wants.names)/claimMost, 0
	}
	n = 2
	for _, g := range e.groups {
		n = max(n, len(g.names))
	}
	if n == 2 || !s.sweep || s.sent.IsZero() { // nothing is claimed before the first beat
		return 2, 0
	}
	if next = s.swept.Add(e.beat).Sub(now); next > 0 {
		return 2, next
	}
	s.sweep = false
	s.swept = now
	return n, 0
}

// claimOnce claims what is waited for. It reports whether something remains to be tried: one of several leases was not free.
func (s *session) claimOnce(first bool) bool {
	e := s.engine
	names := s.toClaim(first)
	if len(names) == 0 {
		return false
	}
	var claims []Claim
	err := s.call(s.ctx, func(ctx context.Context) (err error) {
		claims, err = e.store.Claim(ctx, s.id, names)
		return err
	})
	if errors.Is(err, ErrGone) {
		s.lost(err)
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.isOver {
		return false
	}
	s.claimErr = err
	if err != nil {
		s.sweep = true // it has not come to all
		for _, name := range names {
			x := s.entryLocked(name)
			x.uncertain = true
			x.until = time.Time{}
		}
		s.trimLocked(names)
		s.tellLocked()
		return false
	}
	answers := make(map[string]Claim, len(claims))
	for _, c := range claims {
		answers[c.Name] = c
		if c.Token != 0 {
			s.entryLocked(c.Name).claim = c
		}
	}
	now := time.Now()
	again := false
	for _, g := range e.groups {
		if c, ok := answers[g.names[g.next]]; ok && c.Token == 0 {
			g.holder, g.since = c.Holder, c.Since
			g.next = (g.next + 1) % len(g.names)
			again = again || g.lease.many
		}
		s.grantLocked(g, now)
	}
	s.trimLocked(names)
	s.tellLocked()
	return again || e.spread != nil && len(e.spread.wants.round) > 0
}

// toClaim returns what is to be claimed: of each group one; the first time, what can be held by one alone, and what is uncertain, too.
func (s *session) toClaim(first bool) []string {
	e := s.engine
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.isOver || s.sent.IsZero() {
		return nil
	}
	var names []string
	later := map[string]bool{} // what a group will come to
	for _, g := range e.groups {
		if g.lease.many {
			for _, name := range g.names {
				later[name] = true
			}
		} else if !first {
			continue
		}
		name := g.names[g.next]
		if x := s.entries[name]; x != nil && x.releasing || s.claimedLocked(g.names) != nil {
			continue // it is claimed when the release is confirmed; or given when the next beat is
		}
		names = append(names, name)
	}
	if e.spread != nil {
		names = append(names, s.placedLocked(first)...)
	}
	slices.Sort(names)
	names = slices.Compact(names) // two groups may have come to the same
	if !first || now.Sub(s.probed) < e.beat {
		return names
	}
	s.probed = now
	for name, x := range s.entries {
		switch {
		case x.until.IsZero() || x.claim.Token != 0 || s.wantedLocked(x):
		case later[name]:
			x.until = now.Add(e.ttl)
		case now.After(x.until) && now.Sub(x.probed) < e.ttl:
		default:
			x.probed = now
			names = append(names, name)
		}
	}
	return names
}

// placedLocked returns the next of those names that a Spread wants, and that this session doesn't have. The first call begins with all.
func (s *session) placedLocked(first bool) (names []string) {
	w := &s.engine.spread.wants
	if first {
		w.round = w.round[:0]
		for name := range w.names {
			if x := s.entries[name]; x == nil || x.claim.Token == 0 {
				w.round = append(w.round, name)
			}
		}
	}
	n := min(len(w.round), claimMost)
	names = slices.Clone(w.round[:n])
	w.round = w.round[n:]
	return names
}

// releases releases what is not wanted any longer, until that is confirmed.
func (s *session) releases() {
	e := s.engine
	for {
		select {
		case <-s.release:
		case <-s.over:
			return
		}
		begin := time.Now()
		var claims []Claim
		e.mu.Lock()
		for _, x := range s.entries {
			if x.releasing && !s.isOver {
				claims = append(claims, x.claim)
			}
		}
		e.mu.Unlock()
		if len(claims) == 0 {
			continue
		}
		err := s.call(s.ctx, func(ctx context.Context) error { return e.store.Release(ctx, s.id, claims) })
		if err != nil {
			kick(s.release)
			if !sleep(time.Until(begin.Add(e.beat)), s.over) {
				return
			}
			continue
		}
		e.mu.Lock()
		for _, c := range claims {
			x := s.entries[c.Name]
			x.claim = Claim{}
			x.releasing = false
			s.trimLocked([]string{c.Name})
		}
		e.mu.Unlock()
		kick(s.claim)
	}
}
