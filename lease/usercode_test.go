package lease_test

import (
	"context"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// A foreignStore is a Store of somebody else's. What it has instead of the methods of the fake is set before it is used.
type foreignStore struct {
	*leasetest.Store

	isWell  atomic.Bool         // it is as the fake
	instead func(method string) // is called first
	join    func(id string) string
	beat    func(id string, all []lease.Session) []lease.Session
	claim   func(claims []lease.Claim) []lease.Claim
}

func (s *foreignStore) in(method string) {
	if !s.isWell.Load() && s.instead != nil {
		s.instead(method)
	}
}

func (s *foreignStore) Join(ctx context.Context, replica string) (string, error) {
	s.in("Join")
	id, err := s.Store.Join(ctx, replica)
	if !s.isWell.Load() && s.join != nil {
		id = s.join(id)
	}
	return id, err
}

func (s *foreignStore) Beat(ctx context.Context, id string, stuck []string) ([]lease.Session, error) {
	s.in("Beat")
	all, err := s.Store.Beat(ctx, id, stuck)
	if !s.isWell.Load() && s.beat != nil {
		all = s.beat(id, all)
	}
	return all, err
}

func (s *foreignStore) Expire(ctx context.Context, id string, beat uint64) error {
	s.in("Expire")
	return s.Store.Expire(ctx, id, beat)
}

func (s *foreignStore) Leave(ctx context.Context, id string) error {
	s.in("Leave")
	return s.Store.Leave(ctx, id)
}

func (s *foreignStore) Claim(ctx context.Context, id string, names []string) ([]lease.Claim, error) {
	s.in("Claim")
	claims, err := s.Store.Claim(ctx, id, names)
	if !s.isWell.Load() && s.claim != nil {
		claims = s.claim(claims)
	}
	return claims, err
}

func (s *foreignStore) Release(ctx context.Context, id string, claims []lease.Claim) error {
	s.in("Release")
	return s.Store.Release(ctx, id, claims)
}

func (s *foreignStore) Watch(ctx context.Context, changed func()) error {
	s.in("Watch")
	return s.Store.Watch(ctx, changed)
}

func (s *foreignStore) Idle() {
	s.in("Idle")
	s.Store.Idle()
}

// methods are those of a Store.
var methods = []string{"Join", "Beat", "Expire", "Leave", "Claim", "Release", "Watch", "Idle"}

// engineOn returns the replica of a foreign Store.
func engineOn(t *testing.T, store *foreignStore) replica {
	e, err := lease.New(store, lease.WithReplica("foreign"), lease.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return replica{Engine: e, t: t, store: store.Store}
}

// A badError is an error and a Stringer whose methods do what they must not.
type badError struct{ do func() }

func (v badError) Error() string  { v.do(); return "bad" }
func (v badError) String() string { v.do(); return "bad" }
func (v badError) Is(error) bool  { v.do(); return false }
func (v badError) Unwrap() error  { v.do(); return nil }

// misdeeds are what user code does instead of what it should. What hangs goes on at the end.
func misdeeds(end <-chan struct{}) map[string]func() {
	return map[string]func(){
		"panics":                         func() { panic("bad") },
		"panics with what panics":        func() { panic(badError{func() { panic("again") }}) },
		"panics with what exits":         func() { panic(badError{runtime.Goexit}) },
		"exits":                          runtime.Goexit,
		"hangs":                          func() { <-end },
		"returns long after its context": func() { time.Sleep(4 * beat) },
	}
}

func eachMisdeed(t *testing.T, test func(t *testing.T, misdeed func())) {
	for _, name := range slices.Sorted(maps.Keys(misdeeds(nil))) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				end := make(chan struct{})
				test(t, misdeeds(end)[name])
				close(end)
				time.Sleep(time.Minute) // what misdeeds take, one after the other
			})
		})
	}
}

// Whatever a Store does in one of its methods: it harms nothing else, and all goes on once it is well again.
func TestStoreIsUserCode(t *testing.T) {
	for _, bad := range methods {
		t.Run(bad, func(t *testing.T) {
			eachMisdeed(t, func(t *testing.T, misdeed func()) {
				server := leasetest.NewServer()
				store := &foreignStore{Store: server.Store(t), instead: func(method string) {
					if method == bad {
						misdeed()
					}
				}}
				a := engineOn(t, store)
				dead, err := server.Store(t).Join(t.Context(), "dead")
				require.NoError(t, err)
				other, x := a.acquire("other"), a.acquire("x")
				time.Sleep(2 * ttl)
				switch bad {
				case "Join", "Beat", "Claim":
					assert.Contains(t, x.waits(), `waits for lease "x": the engine has failed: lease: the store `)
				default:
					x.get().Release()
				}
				time.Sleep(2 * ttl)
				store.isWell.Store(true)
				time.Sleep(2*ttl + 4*beat)
				x.get().Release()
				other.get().Release()
				synctest.Wait()
				for _, s := range server.Sessions() {
					assert.NotEqual(t, dead, s.ID)
				}
				b := newReplica(t, server, "b")
				next := b.acquire("x")
				next.get().Release()
				assert.LessOrEqual(t, next.took, ttl+2*beat)
				a.close()
				b.close()
				requireIdle(t, server, a, b)
			})
		})
	}
}

// A Store is never well: nothing is held without it, and Close gives up what has to be cleaned up after a TTL.
func TestStoreThatIsNeverWell(t *testing.T) {
	for _, bad := range methods {
		t.Run(bad, func(t *testing.T) {
			eachMisdeed(t, func(t *testing.T, misdeed func()) {
				server := leasetest.NewServer()
				a := engineOn(t, &foreignStore{Store: server.Store(t), instead: func(method string) {
					if method == bad {
						misdeed()
					}
				}})
				x := a.acquire("x")
				time.Sleep(time.Hour)
				synctest.Wait()
				if bad == "Join" || bad == "Beat" || bad == "Claim" {
					x.waits()
					x.cancel(nil)
					<-x.done
				} else {
					x.get().Release()
				}
				a.close()
			})
		})
	}
}

// The errors of a Store are user code, too. They are asked for their text once, and not under a lock.
func TestErrorsOfAStoreAreUserCode(t *testing.T) {
	eachMisdeed(t, func(t *testing.T, misdeed func()) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		a.store.Faults(func(leasetest.Op) leasetest.Fault { return leasetest.Fault{Err: badError{misdeed}} })
		x := a.acquire("x")
		time.Sleep(2 * ttl)
		assert.Contains(t, x.waits(), `waits for lease "x": the engine has failed: lease: the store `)
		a.store.Faults(nil)
		time.Sleep(2 * ttl)
		x.get().Release()
		time.Sleep(2 * ttl)
		a.close()
	})
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		a.store.Next(leasetest.Join, leasetest.Fault{Err: badError{func() {
			_, err := a.Lease("y").Acquire(ended, func(string) {})
			assert.ErrorIs(t, err, context.Canceled)
		}}})
		x := a.acquire("x")
		synctest.Wait()
		assert.Equal(t, `waits for lease "x": the engine has failed: bad`, x.waits())
		x.get().Release()
		time.Sleep(2 * ttl)
		a.close()
	})
}

// An answer that can't be is none: nobody holds a lease by it, and it is not forgotten that it may be held.
func TestStoreAnswersRubbish(t *testing.T) {
	for name, c := range map[string]struct {
		store *foreignStore
		want  string
	}{
		"no id":      {&foreignStore{join: func(string) string { return "" }}, "the store has answered Join without an id"},
		"another id": {&foreignStore{join: func(string) string { return "x" }}, `waits for lease "x"`},
		"no sessions": {
			&foreignStore{beat: func(string, []lease.Session) []lease.Session { return nil }},
			"the store has answered Beat without this session",
		},
		"others' sessions alone": {
			&foreignStore{beat: func(id string, all []lease.Session) []lease.Session {
				return slices.DeleteFunc(all, func(s lease.Session) bool { return s.ID == id })
			}},
			"the store has answered Beat without this session",
		},
		"no claims": {
			&foreignStore{claim: func([]lease.Claim) []lease.Claim { return nil }},
			"the store has answered Claim with other names than it was asked for",
		},
		"claims of other names": {
			&foreignStore{claim: func(claims []lease.Claim) []lease.Claim {
				for i := range claims {
					claims[i].Name += "!"
				}
				return claims
			}},
			"the store has answered Claim with other names than it was asked for",
		},
		"a claim more": {
			&foreignStore{claim: func(claims []lease.Claim) []lease.Claim { return append(claims, lease.Claim{Name: "more", Token: 1}) }},
			"the store has answered Claim with other names than it was asked for",
		},
		"a claim twice": {
			&foreignStore{claim: func(claims []lease.Claim) []lease.Claim { return append(claims, claims...) }},
			"the store has answered Claim with other names than it was asked for",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := leasetest.NewServer()
				store := &foreignStore{Store: server.Store(t), join: c.store.join, beat: c.store.beat, claim: c.store.claim}
				a := engineOn(t, store)
				x := a.acquire("x")
				time.Sleep(2 * ttl)
				assert.Contains(t, x.waits(), c.want)
				store.isWell.Store(true)
				time.Sleep(2 * ttl)
				x.get().Release()
				time.Sleep(2 * ttl)
				holder, _ := server.Holder("x")
				assert.Empty(t, holder)
				b := newReplica(t, server, "b")
				b.acquire("x").get().Release()
				a.close()
				b.close()
			})
		})
	}
}

// An answer of Claim that is none leaves no lease held: it is released, although nobody waits for it any longer.
func TestClaimThatIsAnsweredWithRubbish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		store := &foreignStore{Store: server.Store(t), claim: func([]lease.Claim) []lease.Claim { return nil }}
		store.isWell.Store(true)
		a := engineOn(t, store)
		other := a.acquire("other").get()
		store.isWell.Store(false)
		x := a.acquire("x")
		x.waits()
		holder, _ := server.Holder("x")
		require.NotEmpty(t, holder)
		x.cancel(nil)
		<-x.done
		store.isWell.Store(true)
		time.Sleep(2 * beat)
		holder, _ = server.Holder("x")
		assert.Empty(t, holder)
		other.Release()
		a.close()
	})
}

// A Store whose calls never return has a hundred of them at most.
func TestStoreThatHangsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		var calls atomic.Int64
		a := engineOn(t, &foreignStore{Store: leasetest.NewServer().Store(t), instead: func(string) {
			calls.Add(1)
			<-end
		}})
		x := a.acquire("x")
		time.Sleep(24 * time.Hour)
		assert.EqualValues(t, 100, calls.Load())
		assert.Equal(t, `waits for lease "x": the engine has failed: lease: 100 calls of the store have not returned`, x.waits())
		close(end)
		x.get().Release()
		a.close()
	})
}

// A badHandler is a handler of a logger that does what it must not, after it has noted what it is given.
type badHandler struct {
	slog.Handler
	misdeed func()

	mu       sync.Mutex
	messages []string
}

func (h *badHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *badHandler) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	h.messages = append(h.messages, r.Message)
	h.mu.Unlock()
	h.misdeed()
	return nil
}

func (h *badHandler) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.messages)
}

// What the handler of the logger does holds up nothing: a session that was lost is followed by another one, WithOverrun is called in time,
// and what comes later is logged if the handler has returned, be it by a panic.
func TestLogHandlerIsUserCode(t *testing.T) {
	eachMisdeed(t, func(t *testing.T, misdeed func()) {
		server := leasetest.NewServer()
		h := &badHandler{Handler: slog.DiscardHandler, misdeed: misdeed}
		overruns := make(chan string, 10)
		a := newReplica(t, server, "a", lease.WithLogger(slog.New(h)), lease.WithOverrun(func(name string) { overruns <- name }))
		x := a.acquire("x").get()
		until := x.Until()
		server.Cut()
		time.Sleep(time.Until(until))
		synctest.Wait()
		assert.Equal(t, "x", <-overruns)
		assert.Zero(t, time.Until(until))
		assert.Equal(t, "session of leases was lost", h.all()[0])
		server.Restore()
		x.Release()
		a.acquire("x").get().Release()
		begin := time.Now()
		a.close()
		assert.LessOrEqual(t, time.Since(begin), 2*beat)
	})
}

func TestLogHandlerThatPanicsOrExitsIsGivenAll(t *testing.T) {
	for _, misdeed := range []func(){func() { panic("bad") }, runtime.Goexit, func() {}} {
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			h := &badHandler{Handler: slog.DiscardHandler, misdeed: misdeed}
			a := newReplica(t, server, "a", lease.WithLogger(slog.New(h)))
			x, y := a.acquire("x").get(), a.acquire("y").get()
			server.Cut()
			time.Sleep(ttl)
			synctest.Wait()
			assert.Equal(t, []string{"session of leases was lost", "lease lost, body still runs", "lease lost, body still runs"}, h.all())
			server.Restore()
			x.Release()
			y.Release()
			a.close()
		})
	}
}

// Close returns when all is logged, so that nothing is lost as the process exits, unless that takes a beat.
func TestCloseAwaitsTheLog(t *testing.T) {
	for _, takes := range []time.Duration{time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			var handled atomic.Bool
			h := &badHandler{Handler: slog.DiscardHandler, misdeed: func() {
				time.Sleep(takes)
				handled.Store(true)
			}}
			a := newReplica(t, server, "a", lease.WithLogger(slog.New(h)))
			x := a.acquire("x").get()
			require.NoError(t, server.Store(t).Leave(t.Context(), server.Sessions()[0].ID))
			<-x.Context().Done()
			x.Release()
			begin := time.Now()
			a.close()
			assert.Equal(t, min(takes, beat), time.Since(begin))
			assert.Equal(t, takes < beat, handled.Load())
			time.Sleep(takes)
		})
	}
}

// The handler of the logger calls back.
func TestLogHandlerCallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		var a replica
		h := &badHandler{Handler: slog.DiscardHandler, misdeed: func() {
			hold, err := a.Lease("y").Acquire(context.Background(), func(string) {})
			assert.NoError(t, err)
			hold.Release()
			assert.NoError(t, a.Close(context.Background()))
		}}
		a = newReplica(t, server, "a", lease.WithLogger(slog.New(h)))
		x := a.acquire("x").get()
		require.NoError(t, server.Store(t).Leave(t.Context(), server.Sessions()[0].ID))
		<-x.Context().Done()
		x.Release()
		time.Sleep(ttl)
		assert.Len(t, h.all(), 1)
		require.NoError(t, a.Close(t.Context()))
	})
}

// What the func of WithOverrun does holds up nothing either: it is called for each lease, the session leaves, and another one follows.
func TestOverrunIsUserCode(t *testing.T) {
	eachMisdeed(t, func(t *testing.T, misdeed func()) {
		server := leasetest.NewServer()
		overruns := make(chan string, 10)
		a := newReplica(t, server, "a", lease.WithOverrun(func(name string) {
			overruns <- name
			misdeed()
		}))
		x, y := a.acquire("x").get(), a.acquire("y").get()
		require.NoError(t, server.Store(t).Leave(t.Context(), server.Sessions()[0].ID))
		<-x.Context().Done()
		next := a.acquire("x").get()
		time.Sleep(time.Until(x.Until()))
		synctest.Wait()
		require.Len(t, overruns, 2)
		assert.ElementsMatch(t, []string{"x", "y"}, []string{<-overruns, <-overruns})
		for _, hold := range []interface{ Release() }{x, y, next} {
			hold.Release()
		}
		a.close()
	})
}

// A panic of the func of WithOverrun is logged, with its stack.
func TestOverrunThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		h := &badHandler{Handler: slog.DiscardHandler, misdeed: func() {}}
		a := newReplica(t, server, "a", lease.WithLogger(slog.New(h)), lease.WithOverrun(func(string) { panic("bad") }))
		x := a.acquire("x").get()
		server.Cut()
		time.Sleep(ttl)
		synctest.Wait()
		assert.Equal(t, "the func of WithOverrun has panicked", h.all()[2])
		x.Release()
		server.Restore()
		a.close()
	})
}

// The func of WithOverrun calls back.
func TestOverrunCallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		var a replica
		closed := make(chan error, 1)
		a = newReplica(t, server, "a", lease.WithOverrun(func(string) { closed <- a.Close(context.Background()) }))
		x := a.acquire("x").get()
		require.NoError(t, server.Store(t).Leave(t.Context(), server.Sessions()[0].ID))
		time.Sleep(ttl)
		synctest.Wait()
		require.Empty(t, closed)
		x.Release()
		require.NoError(t, <-closed)
	})
}

// Who waits tells by user code, be there any, and leaves nothing behind.
func TestWaitingCan(t *testing.T) {
	for _, c := range []struct {
		name    string
		waiting func(string)
	}{
		{"panic", func(string) { panic("boom") }},
		{"call Goexit", func(string) { runtime.Goexit() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := leasetest.NewServer()
				a := newReplica(t, server, "a")
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { _ = recover() }()
					_, _ = a.Lease("x").Acquire(t.Context(), c.waiting)
				}()
				<-done
				a.close()
				requireIdle(t, server, a)
			})
		})
	}
	t.Run("be nil", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			a := newReplica(t, server, "a")
			hold, err := a.Lease("x").Acquire(t.Context(), nil)
			require.NoError(t, err)
			hold.Release()
			a.close()
		})
	})
}

// An Engine that New has not made hands out nothing, and needs no end.
func TestZeroEngine(t *testing.T) {
	var e lease.Engine
	require.ErrorContains(t, e.Lease("x").Check(0), "the Engine was not made by New")
	_, err := e.OneOf("x", 2).Acquire(t.Context(), nil)
	require.ErrorContains(t, err, "the Engine was not made by New")
	require.NoError(t, e.Close(t.Context()))
}
