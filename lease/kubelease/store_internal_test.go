package kubelease

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// join returns a session that has beaten once.
func join(t *testing.T, s *store, replica string) string {
	id, err := s.Join(t.Context(), replica)
	require.NoError(t, err)
	_, err = s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	return id
}

// claimed claims one lease, and returns what has become of that.
func claimed(t *testing.T, s *store, id, name string) lease.Claim {
	claims, err := s.Claim(t.Context(), id, []string{name})
	require.NoError(t, err)
	require.Len(t, claims, 1)
	assert.Equal(t, name, claims[0].Name)
	return claims[0]
}

func TestBeatIsTwoRequestsWhateverTheNumberOfLeases(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	id := join(t, s, "pod-1")
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprint("tenant#", i))
	}
	_, err := s.Claim(t.Context(), id, names)
	require.NoError(t, err)
	a.sent()
	sessions, err := s.Beat(t.Context(), id, []string{"tenant#3"})
	require.NoError(t, err)
	assert.Equal(t, []lease.Session{{ID: id, Replica: "pod-1", Beat: 2, Stuck: []string{"tenant#3"}}}, sessions)
	assert.Equal(t, []string{"list", "update " + id}, a.sent())
	sessions, err = s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	assert.Equal(t, []lease.Session{{ID: id, Replica: "pod-1", Beat: 3}}, sessions)
}

func TestBeatAfterALostAnswer(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	id := join(t, s, "pod-1")
	// Between the look and the beat, the beat that was given up arrives.
	late, _ := a.object(id)
	a.onRequest(func(_ http.ResponseWriter, _ *http.Request, verb, _ string) bool {
		if verb == "update" && late.Metadata.Name != "" {
			late.setBeat(nil)
			a.put(late)
			late = object{}
		}
		return false
	})
	sessions, err := s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	assert.EqualValues(t, 3, sessions[0].Beat)
}

func TestBeatDoesNotBringBackASession(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	id := join(t, s, "pod-1")
	a.onRequest(func(_ http.ResponseWriter, _ *http.Request, verb, _ string) bool {
		if verb == "update" {
			a.delete(id) // after the look
		}
		return false
	})
	_, err := s.Beat(t.Context(), id, nil)
	require.ErrorIs(t, err, lease.ErrGone)
	_, ok := a.object(id)
	assert.False(t, ok, "the session exists")
}

func TestExpireSparesASessionThatBeatsMeanwhile(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	id := join(t, s, "pod-1")
	a.onRequest(func(_ http.ResponseWriter, _ *http.Request, verb, _ string) bool {
		if verb == "delete" {
			o, _ := a.object(id)
			o.setBeat(nil)
			a.put(o)
		}
		return false
	})
	require.NoError(t, s.Expire(t.Context(), id, 1))
	_, ok := a.object(id)
	assert.True(t, ok, "the session exists")
}

func TestClaimOfManyReadsOnceAndWritesToFreeOnesAlone(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	one, two := join(t, s, "pod-1"), join(t, s, "pod-2")
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("slot#%02d", i))
	}
	_, err := s.Claim(t.Context(), one, names[:30])
	require.NoError(t, err)
	a.sent()
	claims, err := s.Claim(t.Context(), two, names)
	require.NoError(t, err)
	require.Len(t, claims, len(names))
	for i, c := range claims {
		if i < 30 {
			assert.Equal(t, one, c.Holder, c.Name)
			assert.Zero(t, c.Token, c.Name)
			assert.WithinDuration(t, time.Now(), c.Since, time.Minute)
		} else {
			assert.Equal(t, two, c.Holder, c.Name)
			assert.EqualValues(t, 1, c.Token, c.Name)
		}
	}
	sent := a.sent()
	assert.Equal(t, "list", sent[0])
	assert.Len(t, sent, 1+10)
}

func TestClaimRaceHasOneWinner(t *testing.T) {
	for _, names := range [][]string{{"job"}, {"a", "b", "c", "d", "e", "f", "g", "h", "i", "job"}} {
		a := newAPIServer(t)
		s := a.store()
		var mu sync.Mutex
		winners := map[string][]string{} // by name
		for round := range 5 {
			var wg sync.WaitGroup
			for i := range 8 {
				id := join(t, s, fmt.Sprint("pod-", i))
				wg.Go(func() {
					claims, err := s.Claim(t.Context(), id, names)
					if !assert.NoError(t, err) {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					for _, c := range claims {
						if c.Token > 0 {
							assert.EqualValues(t, round+1, c.Token)
							winners[c.Name] = append(winners[c.Name], id)
						}
					}
				})
			}
			wg.Wait()
			for name, ids := range winners {
				assert.Len(t, ids, 1, name)
				require.NoError(t, s.Leave(t.Context(), ids[0]))
			}
			assert.Len(t, winners, len(names))
			clear(winners)
		}
	}
}

// What was seen of a lease before a write that failed says nothing about who holds it after that.
func TestClaimAfterALostRaceAsksWhetherTheWinnerLives(t *testing.T) {
	names := []string{"job"}
	for i := range manyNames {
		names = append(names, fmt.Sprint("other#", i))
	}
	a := newAPIServer(t)
	s := a.store()
	id := join(t, s, "pod-1")
	require.NotZero(t, claimed(t, s, id, "job").Token)
	require.NoError(t, s.Leave(t.Context(), id))
	slow, fast := join(t, s, "slow"), ""
	object := leaseObject("pool", "job")
	a.onRequest(func(_ http.ResponseWriter, r *http.Request, verb, name string) bool {
		if verb == "update" && name == object && fast == "" {
			fast = sessionPrefix("pool") + "fast"
			a.put(newSession("pool", fast, "fast"))
			o, _ := a.object(object)
			assert.NoError(t, o.claimed(fast))
			a.put(o)
		}
		return false
	})
	claims, err := s.Claim(t.Context(), slow, names)
	require.NoError(t, err)
	i := slices.IndexFunc(claims, func(c lease.Claim) bool { return c.Name == "job" })
	assert.Zero(t, claims[i].Token)
	assert.Equal(t, fast, claims[i].Holder)
}

func TestClaimOfAnotherProgramsObject(t *testing.T) {
	foreign := newLease("pool", "job")
	foreign.Metadata.Labels = map[string]string{"app": "other"}
	elsewhere := newLease("pool", "job")
	elsewhere.Metadata.Annotations[annotationName] = "jobs"
	elector := newLease("pool", "job")
	elector.Spec.HolderIdentity = "host_4711"
	for want, o := range map[string]object{
		`the object "` + foreign.Metadata.Name + `" in namespace "jobs" is not a lease of pool "pool" by its labels`: foreign,
		`is of lease "jobs" by its annotation go-taskmanager.github.io/name, so lease "job" can't be claimed`:        elsewhere,
		`is held by "host_4711", which is no session of pool "pool"`:                                                 elector,
	} {
		for _, names := range [][]string{{"job"}, {"a", "b", "c", "d", "e", "f", "g", "h", "i", "job"}} {
			a := newAPIServer(t)
			s := a.store()
			id := join(t, s, "pod-1")
			a.put(o)
			before, _ := a.object(o.Metadata.Name)
			_, err := s.Claim(t.Context(), id, names)
			require.ErrorContains(t, err, want)
			after, _ := a.object(o.Metadata.Name)
			assert.Equal(t, before, after)
		}
	}
}

func TestReleaseByAnOldTokenDoesNothing(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	id := join(t, s, "pod-1")
	first := claimed(t, s, id, "job")
	second := claimed(t, s, id, "job") // as after a lost answer
	assert.Greater(t, second.Token, first.Token)
	require.NoError(t, s.Release(t.Context(), id, []lease.Claim{first}))
	o, _ := a.object(leaseObject("pool", "job"))
	assert.Equal(t, id, o.Spec.HolderIdentity)
	require.NoError(t, s.Release(t.Context(), id, []lease.Claim{second}))
	o, ok := a.object(leaseObject("pool", "job"))
	assert.True(t, ok, "objects of leases stay")
	assert.Empty(t, o.Spec.HolderIdentity)
	assert.EqualValues(t, second.Token, o.Spec.LeaseTransitions)
}

func TestNoCallDeletesAllObjects(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	join(t, s, "pod-1")
	a.sent()
	require.NoError(t, s.Leave(t.Context(), ""))
	require.NoError(t, s.Expire(t.Context(), "", 0))
	_, err := s.Claim(t.Context(), "", []string{"job"})
	require.ErrorIs(t, err, lease.ErrGone)
	assert.NotContains(t, strings.Join(a.sent(), " "), "delete")
}

func TestWatchHearsOfFreeLeasesAlone(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	one, two := join(t, s, "pod-1"), join(t, s, "pod-2")
	claim := claimed(t, s, one, "job")
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan struct{}, 100)
	ended := make(chan error)
	go func() { ended <- s.Watch(ctx, func() { changed <- struct{}{} }) }()
	next := func(what string) {
		t.Helper()
		select {
		case <-changed:
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(10 * time.Second):
			require.Fail(t, "no call", what)
		}
	}
	next("begin")
	// None of these is worth a look.
	claimed(t, s, one, "other")
	_, err := s.Beat(t.Context(), one, nil)
	require.NoError(t, err)
	claimed(t, s, two, "third")
	// Each of these is, once.
	require.NoError(t, s.Release(t.Context(), one, []lease.Claim{claim}))
	next("release")
	require.NoError(t, s.Leave(t.Context(), one))
	next("leave")
	require.NoError(t, s.Expire(t.Context(), two, 1))
	next("expire")
	assert.Empty(t, changed)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
}

func TestWatchEndsWithTheAPIServersError(t *testing.T) {
	a := newAPIServer(t)
	s := a.store()
	a.onRequest(func(w http.ResponseWriter, _ *http.Request, verb, _ string) bool {
		if verb != "watch" {
			return false
		}
		writeEvent(w, "ERROR", status{Kind: "Status", Code: http.StatusGone, Reason: "Expired", Message: "too old resource version"})
		return true
	})
	err := s.Watch(t.Context(), func() {})
	require.EqualError(t, err, `kubelease: watch leases in namespace "jobs": too old resource version (410)`)
	a.onRequest(func(_ http.ResponseWriter, _ *http.Request, verb, _ string) bool { return verb == "watch" })
	require.ErrorContains(t, s.Watch(t.Context(), func() {}), "the API server has ended the watch")
}

func TestLeaseObjectNames(t *testing.T) {
	valid := func(name string) {
		o := leaseObject("pool", name)
		for label := range strings.SplitSeq(o, ".") {
			assert.LessOrEqual(t, len(o), 253)
			assert.NotContains(t, o, "_")
			assert.True(t, strings.Trim(label, "-") == label && !strings.ContainsFunc(label, func(r rune) bool {
				return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
			}), "%q of %q", o, name)
		}
	}
	for _, name := range []string{"job", "x#0", "Größe", "-", "", "a/b", "A", strings.Repeat("ü", 300)} {
		valid(name)
	}
	assert.Regexp(t, `^pool-l-digest-eu-1-[0-9a-f]{20}$`, leaseObject("pool", "digest/eu#1"))
	assert.NotEqual(t, leaseObject("pool", "A"), leaseObject("pool", "a"))
	assert.NotEqual(t, leaseObject("a", "job"), leaseObject("b", "job"))
}

func TestStore(t *testing.T) {
	leasetest.RunStore(t, func(t *testing.T) func() lease.Store {
		a := newAPIServer(t)
		return func() lease.Store { return a.store() }
	})
}
