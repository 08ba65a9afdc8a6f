package lease_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Two replicas never execute the body of one lease at the same time, whatever the order in which things happen, if the holder's clock is
// slow by the drift, the observer's fast by it, and the holder trusts a beat for less than TTL * (1-drift) / (1+drift). That is all that
// the formula gives away: one tick more, which is equality, and two bodies are found. The search is complete: every order of sending,
// losing, delaying, executing and answering beats, of looking, expiring, claiming, stopping, releasing and leaving, and every phase of
// both clocks.
func TestModelNeverExecutesTwoBodies(t *testing.T) {
	for _, c := range []struct {
		name    string
		clocks  clocks
		longest int // that is safe
	}{
		{"equal clocks", clocks{parts: 1}, 11},
		{"drift of a fifth", clocks{parts: 5, drift: 1}, 7},
		{"drift of a third", clocks{parts: 3, drift: 1}, 5},
		{"drift of a half", clocks{parts: 2, drift: 1}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			span := 0
			for (span+1)*(c.clocks.parts+c.clocks.drift) < modelTTL*(c.clocks.parts-c.clocks.drift) {
				span++
			}
			require.Equal(t, c.longest, span, "by the formula")
			model := leaseModel{clocks: c.clocks, span: span}
			overlap := model.search()
			require.Empty(t, overlap, "two bodies:\n%s", strings.Join(overlap, "\n"))
			t.Logf("trusted for %d of %d ticks: no two bodies in %d states", span, modelTTL, len(model.states))
			for _, step := range allSteps {
				assert.NotZero(t, model.taken[step], "it never happened that %s", step)
			}
			assert.NotEmpty(t, (&leaseModel{clocks: c.clocks, span: span + 1}).search(), "equality is not safe")
		})
	}
}

// The model would see two bodies, if there were any: it finds them in what differs from the contract in one point.
func TestModelFindsTwoBodies(t *testing.T) {
	fifth := clocks{parts: 5, drift: 1}
	for _, c := range []struct {
		name  string
		model leaseModel
	}{
		{"a beat is trusted for the whole TTL", leaseModel{clocks: fifth, span: modelTTL}},
		{"a session is expired without comparing its beat", leaseModel{clocks: fifth, span: 7, expireAny: true}},
		{"a beat is trusted from its answer on", leaseModel{clocks: fifth, span: 7, fromAnswer: true}},
		{"a lease is released before its body has returned", leaseModel{clocks: fifth, span: 7, releaseEarly: true}},
		{"a lease is claimed again under the token of a release that is under way", leaseModel{clocks: fifth, span: 7, sameToken: true}},
		{"the holder is frozen beyond its deadline", leaseModel{clocks: fifth, span: 7, frozen: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			overlap := c.model.search()
			require.NotEmpty(t, overlap)
			t.Logf("after %d states:\n%s", len(c.model.states), strings.Join(overlap, "\n"))
		})
	}
}

// allSteps are what must have happened in a search that has found nothing.
var allSteps = []string{
	"tick", "A sends a beat", "the beat is executed", "the beat is lost", "A waits for the beat no longer", "an old beat is executed",
	"the beat is answered", "the answer to the beat is lost", "A claims", "the answer to A's claim is lost", "A's body begins",
	"A has the lease too late", "A's body is to stop", "A's body returns", "A's release is executed", "A leaves", "B sees another beat",
	"B expires A's session", "B claims what is free", "B claims what was A's",
}

const (
	modelTTL   = 12 // ticks of the observer
	modelGrace = 2  // ticks of the holder: its body is canceled so long before it trusts its last beat no more
)

// A clocks is how two clocks differ. In parts ticks of real time the holder's ticks parts-drift times, the observer's parts+drift times.
type clocks struct{ parts, drift int }

// A leaseModel is one lease, of which replica A is the holder whose clock is slow, and B the observer whose clock is fast. What B does as
// a holder, and A as an observer, is the same with better clocks: so it ends when B has the lease.
type leaseModel struct {
	clocks clocks
	span   int // for so many ticks of its clock A trusts a beat, from when it was sent

	// What differs from the contract.
	expireAny    bool // B expires A's session also if its beat isn't the one that stood still
	fromAnswer   bool // the span is counted from the answer
	releaseEarly bool // the lease is released when the body is to stop
	sameToken    bool // a release of the claim before also frees a lease that was claimed again
	frozen       bool // A may do nothing for as long as it likes, in the midst of its body

	seen   []uint64       // a bit for each state that there might be
	states []reached      // in the order in which they were found
	taken  map[string]int // how often each step was, by its name
}

// A reached is a state, and how it was reached first.
type reached struct {
	state  uint32
	before int32 // the index of the state before; -1: none
	step   string
}

// A leaseState has what is left of each time, not the time, and is packed into stateBits: so a bit for each fits in memory.
type leaseState struct {
	phaseA, phaseB uint32 // of the clocks, in parts of a tick
	trust          uint32 // for so many ticks of A's clock it trusts what was confirmed
	body           uint32 // A's: noBody, executes or canceled
	beat           uint32 // that A waits for: noBeat, sent, or answered, which is executed and the answer under way
	age            uint32 // ticks of A's clock since it was sent, up to the span
	late           uint32 // 1: one that A doesn't wait for any longer may still be executed
	session        uint32 // 1: A's exists
	lease          uint32 // free, or held by A, maybe without a session, or by B
	claimed        uint32 // 1: the answer to a claim of A is under way
	releasing      uint32 // 1: the release of A's last claim is under way
	same           uint32 // 1: the beat that B has seen is still that of the session
	still          uint32 // ticks of B's clock since it has seen it first, up to the TTL
}

const (
	noBody, executes, canceled = 0, 1, 2
	noBeat, sent, answered     = 0, 1, 2
	free, heldByA, heldByB     = 0, 1, 2

	stateBits = 29
)

func (s leaseState) pack() uint32 {
	return s.phaseA | s.phaseB<<3 | s.trust<<6 | s.body<<10 | s.beat<<12 | s.age<<14 | s.late<<18 | s.session<<19 | s.lease<<20 |
		s.claimed<<22 | s.releasing<<23 | s.same<<24 | s.still<<25
}

func unpack(x uint32) leaseState {
	return leaseState{
		phaseA: x & 7, phaseB: x >> 3 & 7, trust: x >> 6 & 15, body: x >> 10 & 3, beat: x >> 12 & 3, age: x >> 14 & 15,
		late: x >> 18 & 1, session: x >> 19 & 1, lease: x >> 20 & 3, claimed: x >> 22 & 1, releasing: x >> 23 & 1, same: x >> 24 & 1,
		still: x >> 25 & 15,
	}
}

// search visits all states, the nearest first, and returns the steps to the first in which two bodies execute; none if there is none.
func (m *leaseModel) search() []string {
	m.seen = make([]uint64, 1<<stateBits/64)
	m.taken = map[string]int{}
	for phaseA := range uint32(m.clocks.parts) {
		for phaseB := range uint32(m.clocks.parts) {
			m.visit(leaseState{phaseA: phaseA, phaseB: phaseB, session: 1}, -1, "join")
		}
	}
	for i := 0; i < len(m.states); i++ {
		s := unpack(m.states[i].state)
		if s.lease == heldByB && s.body != noBody {
			return m.path(i)
		}
		m.steps(s, func(step string, next leaseState) {
			m.taken[step]++
			m.visit(next, int32(i), step)
		})
	}
	return nil
}

func (m *leaseModel) visit(s leaseState, before int32, step string) {
	if s.session == 0 || s.lease == heldByB { // what can't matter any more makes no difference
		s.same, s.still, s.late = 0, 0, 0
		if s.beat == sent {
			s.beat = noBeat
		}
	}
	if s.beat == noBeat {
		s.age = 0
	}
	if s.same == 0 && !m.expireAny {
		s.still = 0
	}
	x := s.pack()
	if m.seen[x/64]&(1<<(x%64)) != 0 {
		return
	}
	m.seen[x/64] |= 1 << (x % 64)
	m.states = append(m.states, reached{state: x, before: before, step: step})
}

func (m *leaseModel) path(i int) []string {
	var steps []string
	for at := int32(i); at >= 0; at = m.states[at].before {
		steps = append(steps, m.states[at].step)
	}
	slices.Reverse(steps)
	return steps
}

// steps tells what may happen next in s.
func (m *leaseModel) steps(s leaseState, may func(step string, next leaseState)) {
	m.tick(s, may)
	m.beats(s, may)
	m.holder(s, may)
	m.observer(s, may)
}

// tick lets time pass.
func (m *leaseModel) tick(s leaseState, may func(string, leaseState)) {
	parts, drift := uint32(m.clocks.parts), uint32(m.clocks.drift)
	if s.trust == 0 && s.body != noBody && !m.frozen {
		return // the body returns before, at this moment at the latest: what else happens at it may be first
	}
	a, b := s.phaseA+parts-drift, s.phaseB+parts+drift
	s.phaseA, s.phaseB = a%parts, b%parts
	s.trust -= min(s.trust, a/parts)
	if s.trust <= modelGrace && s.body == executes && !m.frozen {
		s.body = canceled
	}
	if s.beat != noBeat {
		s.age = min(s.age+a/parts, uint32(m.span))
	}
	s.still = min(s.still+b/parts, modelTTL)
	may("tick", s)
}

// beats sends, loses, delays, executes and answers beats of A.
func (m *leaseModel) beats(s leaseState, may func(string, leaseState)) {
	execute := func(s leaseState) leaseState {
		s.same = 0
		return s
	}
	switch next := s; s.beat {
	case noBeat:
		if s.session == 1 && s.lease != heldByB {
			next.beat, next.age = sent, 0
			may("A sends a beat", next)
		}
	case sent:
		next.beat = answered
		may("the beat is executed", execute(next))
		next.beat = noBeat
		may("the beat is lost", next)
		next.late = 1
		may("A waits for the beat no longer", next)
	case answered:
		next.beat = noBeat
		may("the answer to the beat is lost", next)
		span := uint32(m.span)
		if !m.fromAnswer {
			span -= s.age
		}
		next.trust = max(s.trust, span)
		may("the beat is answered", next)
	}
	if s.late == 1 {
		s.late = 0
		may("an old beat is executed", execute(s))
	}
}

// holder claims, begins, stops and returns from the body of A, releases and leaves.
func (m *leaseModel) holder(s leaseState, may func(string, leaseState)) {
	switch next := s; {
	case s.body == executes:
		next.body = canceled
		if m.releaseEarly {
			next.releasing = 1
		}
		may("A's body is to stop", next)
	case s.body == canceled:
		next.body, next.releasing = noBody, 1
		may("A's body returns", next)
	case s.claimed == 1:
		next.claimed = 0
		may("the answer to A's claim is lost", next)
		if s.trust > modelGrace {
			next.body = executes
			may("A's body begins", next)
		} else {
			next.releasing = 1
			may("A has the lease too late", next)
		}
	case s.session == 1:
		if s.lease != heldByB {
			next.lease, next.claimed = heldByA, 1
			if !m.sameToken {
				next.releasing = 0 // that of the claim before frees nothing any more
			}
			may("A claims", next)
		}
		next = s
		next.session = 0
		may("A leaves", next)
	}
	if s.releasing == 1 {
		s.releasing = 0
		if s.lease == heldByA {
			s.lease = free
		}
		may("A's release is executed", s)
	}
}

// observer looks, expires and claims.
func (m *leaseModel) observer(s leaseState, may func(string, leaseState)) {
	if s.session == 1 && s.same == 0 {
		next := s
		next.same, next.still = 1, 0
		may("B sees another beat", next)
	}
	if s.session == 1 && s.still == modelTTL && (s.same == 1 || m.expireAny) {
		next := s
		next.session = 0
		may("B expires A's session", next)
	}
	switch next := s; {
	case s.lease == free:
		next.lease = heldByB
		may("B claims what is free", next)
	case s.lease == heldByA && s.session == 0:
		next.lease = heldByB
		may("B claims what was A's", next)
	}
}
