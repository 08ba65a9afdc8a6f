package leasetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
)

// RunStore checks what a [lease.Store] must do, in subtests. Each of them calls newPool once, for a pool that is empty, and then what that
// returns once for each replica: a Store that is connected to this pool. Both clean up with the Cleanup of the t that newPool is given.
func RunStore(t *testing.T, newPool func(t *testing.T) (newStore func() lease.Store)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, newStore func() lease.Store)
	}{
		{"Join", testJoin},
		{"Beat", testBeat},
		{"BeatOfManySessions", testBeatMany},
		{"Expire", testExpire},
		{"Leave", testLeave},
		{"Claim", testClaim},
		{"ClaimAgain", testClaimAgain},
		{"ClaimGone", testClaimGone},
		{"ClaimRace", testClaimRace},
		{"ClaimAndReleaseRace", testClaimAndReleaseRace},
		{"ExpireAndClaimRace", testExpireAndClaimRace},
		{"ManyNames", testManyNames},
		{"OddNames", testOddNames},
		{"Release", testRelease},
		{"Watch", testWatch},
		{"EndedContext", testEndedContext},
		{"Idle", testIdle},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newPool(t)) })
	}
}

// A replica is a Store and its session. Its methods fail the test if a call does.
type replica struct {
	t     *testing.T
	store lease.Store
	id    string
}

func join(t *testing.T, store lease.Store, name string) replica {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	id, err := store.Join(ctx, name)
	require.NoError(t, err)
	require.NotEmpty(t, id)
	return replica{t: t, store: store, id: id}
}

func (r replica) beat(stuck ...string) map[string]lease.Session {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), Patience)
	defer cancel()
	all, err := r.store.Beat(ctx, r.id, stuck)
	require.NoError(r.t, err)
	sessions := map[string]lease.Session{}
	for _, s := range all {
		assert.NotContains(r.t, sessions, s.ID, "a session is listed once")
		sessions[s.ID] = s
	}
	return sessions
}

func (r replica) claim(names ...string) map[string]lease.Claim {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), Patience)
	defer cancel()
	claims, err := r.store.Claim(ctx, r.id, names)
	require.NoError(r.t, err)
	require.Len(r.t, claims, len(names))
	m := map[string]lease.Claim{}
	for _, c := range claims {
		m[c.Name] = c
	}
	for _, name := range names {
		require.Contains(r.t, m, name)
	}
	return m
}

// wins claims a lease that is free, and returns the claim.
func (r replica) wins(name string) lease.Claim {
	r.t.Helper()
	c := r.claim(name)[name]
	require.NotZero(r.t, c.Token, "%q is free", name)
	return c
}

// loses claims a lease that holder has.
func (r replica) loses(name string, holder replica) {
	r.t.Helper()
	c := r.claim(name)[name]
	require.Zero(r.t, c.Token, "%q is not free", name)
	if c.Holder != "" {
		assert.Equal(r.t, holder.id, c.Holder)
	}
}

func (r replica) release(claims ...lease.Claim) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), Patience)
	defer cancel()
	require.NoError(r.t, r.store.Release(ctx, r.id, claims))
}

func (r replica) expire(other replica, beat uint64) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), Patience)
	defer cancel()
	require.NoError(r.t, r.store.Expire(ctx, other.id, beat))
}

func (r replica) leave() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), Patience)
	defer cancel()
	require.NoError(r.t, r.store.Leave(ctx, r.id))
}

// requireGone requires that the session does not exist any more.
func (r replica) requireGone() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), Patience)
	defer cancel()
	_, err := r.store.Beat(ctx, r.id, nil)
	require.ErrorIs(r.t, err, lease.ErrGone)
}

func testJoin(t *testing.T, newStore func() lease.Store) {
	a := join(t, newStore(), "pod-7")
	b := join(t, newStore(), "pod-7")
	require.NotEqual(t, a.id, b.id, "names need not be unique, ids are")

	seen := a.beat()
	require.Len(t, seen, 2)
	assert.Equal(t, lease.Session{ID: b.id, Replica: "pod-7"}, withoutStuck(seen[b.id]))

	ids := map[string]bool{a.id: true, b.id: true}
	for range 5 {
		b.leave()
		b = join(t, b.store, "Zoë's \"pod\" / 7")
		require.False(t, ids[b.id], "an id is never used again")
		ids[b.id] = true
	}
	assert.Equal(t, "Zoë's \"pod\" / 7", a.beat()[b.id].Replica)
}

func withoutStuck(s lease.Session) lease.Session {
	s.Stuck = nil
	return s
}

func testBeat(t *testing.T, newStore func() lease.Store) {
	a, b := join(t, newStore(), "a"), join(t, newStore(), "b")
	for i := range uint64(3) {
		seen := a.beat()
		require.Len(t, seen, 2)
		assert.Equal(t, i+1, seen[a.id].Beat, "as it is after the beat")
		assert.Equal(t, i, seen[b.id].Beat)
		assert.Equal(t, i+1, b.beat()[a.id].Beat)
	}

	a.beat("billing", `o'"dd/ü`)
	assert.ElementsMatch(t, []string{"billing", `o'"dd/ü`}, b.beat()[a.id].Stuck)
	assert.Empty(t, b.beat()[b.id].Stuck)
	a.beat()
	assert.Empty(t, b.beat()[a.id].Stuck)

	b.leave()
	b.requireGone()
	require.Len(t, a.beat(), 1)
}

func testBeatMany(t *testing.T, newStore func() lease.Store) {
	const n = 60
	store := newStore()
	a := join(t, store, "first")
	want := map[string]uint64{a.id: 1}
	for i := range n {
		r := join(t, store, fmt.Sprint("pod-", i))
		if i%2 == 0 {
			r.beat()
			want[r.id] = 1
		} else {
			want[r.id] = 0
		}
	}
	got := map[string]uint64{}
	for id, s := range a.beat() {
		got[id] = s.Beat
	}
	assert.Equal(t, want, got)
}

func testExpire(t *testing.T, newStore func() lease.Store) {
	a, b := join(t, newStore(), "a"), join(t, newStore(), "b")
	a.beat()
	a.beat()
	a.wins("x")

	b.expire(a, 1)
	b.expire(a, 3)
	b.expire(a, 0)
	b.loses("x", a)
	a.beat()

	b.expire(a, 2)
	require.Contains(t, b.beat(), a.id, "the beat has grown since")

	b.expire(a, 3)
	require.NotContains(t, b.beat(), a.id)
	b.wins("x")
	b.expire(a, 3)
	b.expire(a, 4)
	a.requireGone()

	ghost := join(t, a.store, "ghost")
	b.expire(ghost, 0)
	ghost.requireGone()
}

func testLeave(t *testing.T, newStore func() lease.Store) {
	a, b := join(t, newStore(), "a"), join(t, newStore(), "b")
	a.beat()
	a.claim("x", "y", "z")
	b.loses("y", a)
	a.leave()
	require.NotContains(t, b.beat(), a.id)
	for _, name := range []string{"x", "y", "z"} {
		assert.Greater(t, b.wins(name).Token, uint64(1))
	}
	a.leave()
}

func testClaim(t *testing.T, newStore func() lease.Store) {
	a, b := join(t, newStore(), "a"), join(t, newStore(), "b")
	begin := time.Now()
	claim := a.wins("x")
	assert.Equal(t, uint64(1), claim.Token, "the first one")
	b.loses("x", a)
	if since := b.claim("x")["x"].Since; !since.IsZero() {
		assert.WithinDuration(t, begin, since, time.Hour)
	}

	// Each way to be free again.
	a.release(claim)
	second := b.wins("x")
	assert.Greater(t, second.Token, claim.Token)
	a.loses("x", b)
	b.leave()
	third := a.wins("x")
	assert.Greater(t, third.Token, second.Token)
	c := join(t, b.store, "c")
	c.expire(a, 0)
	fourth := c.wins("x")
	assert.Greater(t, fourth.Token, third.Token)

	// Some are free, some are not.
	d := join(t, a.store, "d")
	claims := d.claim("w", "x", "y")
	assert.Equal(t, uint64(1), claims["w"].Token)
	assert.Zero(t, claims["x"].Token)
	assert.Equal(t, uint64(1), claims["y"].Token)

	assert.Empty(t, d.claim())
}

func testClaimAgain(t *testing.T, newStore func() lease.Store) {
	a, b := join(t, newStore(), "a"), join(t, newStore(), "b")
	first := a.wins("x")
	second := a.wins("x")
	require.Greater(t, second.Token, first.Token, "so that a late release of the first claim frees nothing")
	a.release(first)
	b.loses("x", a)
	a.release(second)
	b.wins("x")
}

func testClaimGone(t *testing.T, newStore func() lease.Store) {
	a, b := join(t, newStore(), "a"), join(t, newStore(), "b")
	a.leave()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	_, err := a.store.Claim(ctx, a.id, []string{"x", "y"})
	require.ErrorIs(t, err, lease.ErrGone)
	b.wins("x")
	b.wins("y")
}

func testClaimRace(t *testing.T, newStore func() lease.Store) {
	const n = 64
	stores := make([]lease.Store, 4)
	for i := range stores {
		stores[i] = newStore()
	}
	replicas := make([]replica, n)
	for i := range replicas {
		replicas[i] = join(t, stores[i%len(stores)], fmt.Sprint("pod-", i))
	}
	for _, name := range []string{"x", "y", "z"} {
		ctx, cancel := context.WithTimeout(t.Context(), Patience)
		var winners atomic.Int32
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for _, r := range replicas {
			wg.Go(func() {
				<-begin
				claims, err := r.store.Claim(ctx, r.id, []string{name})
				if assert.NoError(t, err) && assert.Len(t, claims, 1) && claims[0].Token != 0 {
					winners.Add(1)
					assert.Equal(t, uint64(1), claims[0].Token)
				}
			})
		}
		close(begin)
		wg.Wait()
		cancel()
		require.Equal(t, int32(1), winners.Load())
	}
}

func testClaimAndReleaseRace(t *testing.T, newStore func() lease.Store) {
	const n, rounds = 8, 5
	ctx, cancel := context.WithTimeout(t.Context(), 2*Patience)
	defer cancel()
	var held atomic.Int32
	var last atomic.Uint64
	var wg sync.WaitGroup
	for i := range n {
		r := join(t, newStore(), fmt.Sprint("pod-", i))
		wg.Go(func() {
			for won := 0; won < rounds && ctx.Err() == nil; {
				claims, err := r.store.Claim(ctx, r.id, []string{"x"})
				if !assert.NoError(t, err) || !assert.Len(t, claims, 1) {
					return
				}
				if claims[0].Token == 0 {
					time.Sleep(time.Millisecond)
					continue
				}
				won++
				assert.Equal(t, int32(1), held.Add(1), "one has it at a time")
				before := last.Swap(claims[0].Token)
				assert.Greater(t, claims[0].Token, before)
				held.Add(-1)
				if !assert.NoError(t, r.store.Release(ctx, r.id, claims)) {
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, ctx.Err(), "all get it in time")
}

// A session is expired while it claims: it must not have what it is told that it doesn't have, and nobody may take what it has.
func testExpireAndClaimRace(t *testing.T, newStore func() lease.Store) {
	a, b := newStore(), newStore()
	observer := join(t, a, "observer")
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), Patience)
		name := fmt.Sprint("x", i)
		victim := join(t, b, "victim")
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := victim.store.Claim(ctx, victim.id, []string{name})
			if err != nil {
				assert.ErrorIs(t, err, lease.ErrGone)
			}
		})
		wg.Go(func() { assert.NoError(t, observer.store.Expire(ctx, victim.id, 0)) })
		wg.Wait()
		cancel()
		observer.wins(name)
	}
}

func testManyNames(t *testing.T, newStore func() lease.Store) {
	a, b := join(t, newStore(), "a"), join(t, newStore(), "b")
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprint("tenant-", i)
	}
	claims := a.claim(names...)
	all := make([]lease.Claim, 0, len(names))
	for _, c := range claims {
		require.Equal(t, uint64(1), c.Token)
		all = append(all, c)
	}
	for _, c := range b.claim(names...) {
		require.Zero(t, c.Token)
	}
	a.release(all...)
	for _, c := range b.claim(names...) {
		require.Greater(t, c.Token, uint64(1))
	}
}

func testOddNames(t *testing.T, newStore func() lease.Store) {
	a, b := join(t, newStore(), "a"), join(t, newStore(), "b")
	names := []string{
		"x", "X", " x", "x ", "x y", "-x", ".x", "x.", "x..y", "x/y", "/x", "x/", "x//y", `x\y`, "x'y", `x"y`, "x`y", "x;y", "x%y", "x%2Fy",
		"x*y", "x>y", "x?y", "x#0", "x$1", "x&y", "x=y", "x,y", "x{y}", "x[y]", "x(y)", "x|y", "x<y", "x@y", "x:y", "x_y", "x+y", "NULL",
		"tenant ünïcödé", "租户", "🐘", "e\u0301", "\u00e9", "null", "true", "{}",
		strings.Repeat("n", 255), strings.Repeat("n", 254) + "o", strings.Repeat("ü", 127) + "u",
	}
	claims := a.claim(names...)
	var all []lease.Claim
	for _, name := range names {
		require.Equal(t, uint64(1), claims[name].Token, "%q is no other name", name)
		all = append(all, claims[name])
	}
	for _, name := range names {
		b.loses(name, a)
	}
	a.release(all...)
	for _, c := range b.claim(names...) {
		require.NotZero(t, c.Token)
	}
}

func testRelease(t *testing.T, newStore func() lease.Store) {
	a, b := join(t, newStore(), "a"), join(t, newStore(), "b")
	x, y := a.wins("x"), a.wins("y")

	b.release(x)
	b.loses("x", a) // who does not have it can't free it

	a.release(x)
	x2 := b.wins("x")
	b.loses("y", a)
	a.release(x) // again: nothing
	a.loses("x", b)
	b.release(x) // of an older claim: nothing
	a.loses("x", b)
	b.release(x2)

	a.release(lease.Claim{Name: "never claimed", Token: 1}, y)
	b.wins("y")
	a.release()

	b.leave()
	x = a.wins("x")
	a.leave()
	a.release(x) // of a session that is gone: nothing
}

func testWatch(t *testing.T, newStore func() lease.Store) {
	a, b := join(t, newStore(), "a"), join(t, newStore(), "b")
	watcher := newStore()
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan struct{}, 1000)
	returned := make(chan error, 1)
	go func() {
		returned <- watcher.Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}()
	requireChange := func(what string) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(Patience):
			require.Fail(t, "changed was not called", what)
		case err := <-returned:
			if what == "begin" {
				require.ErrorIs(t, err, errors.ErrUnsupported)
				t.Skip("it never can watch")
			}
			require.NoError(t, err, what)
			require.Fail(t, "Watch has returned", what)
		}
	}
	// settle waits until nothing comes any more: a change may be told more than once.
	settle := func() {
		for {
			select {
			case <-changed:
			case <-time.After(200 * time.Millisecond):
				return
			}
		}
	}

	requireChange("begin")
	settle()
	a.release(a.wins("x"))
	requireChange("release")
	settle()
	a.wins("x")
	settle()
	a.leave()
	requireChange("leave")
	settle()
	a = join(t, a.store, "a")
	a.wins("x")
	settle()
	b.expire(a, 0)
	requireChange("expire")

	cancel()
	select {
	case err := <-returned:
		t.Log("Watch has returned:", err)
	case <-time.After(Patience):
		require.Fail(t, "Watch does not return")
	}
}

func testEndedContext(t *testing.T, newStore func() lease.Store) {
	a, b := join(t, newStore(), "a"), join(t, newStore(), "b")
	claim := a.wins("x")
	ended, cancel := context.WithCancel(t.Context())
	cancel()

	begin := time.Now()
	_, err := a.store.Join(ended, "c")
	require.Error(t, err, "Join")
	_, err = a.store.Beat(ended, a.id, nil)
	require.Error(t, err, "Beat")
	_, err = a.store.Claim(ended, a.id, []string{"y"})
	require.Error(t, err, "Claim")
	require.Error(t, a.store.Release(ended, a.id, []lease.Claim{claim}), "Release")
	require.Error(t, a.store.Expire(ended, b.id, 7), "Expire")
	require.Error(t, a.store.Leave(ended, b.id), "Leave")
	require.Error(t, a.store.Watch(ended, func() {}), "Watch")
	assert.Less(t, time.Since(begin), Patience)

	// What was asked for may have happened or not; the rest is as it was.
	a.beat()
	assert.Greater(t, a.wins("x").Token, claim.Token)
	a.wins("y")
}

func testIdle(t *testing.T, newStore func() lease.Store) {
	store := newStore()
	store.Idle()
	a := join(t, store, "a")
	a.wins("x")
	store.Idle()
	require.Len(t, a.beat(), 1)
	a.wins("x")
	store.Idle()
	store.Idle()
}
