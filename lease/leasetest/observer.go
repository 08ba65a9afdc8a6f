package leasetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
)

// observerName is the name of an observer's session, which is not one of those that it sees.
const observerName = "observer of the test"

// An Observer sees the beats of a pool's sessions, by a session of its own. Tests wait for them, as a busy machine makes any sleep too
// short. Its methods are called by the goroutine of the test.
type Observer struct {
	t     *testing.T
	store lease.Store
	id    string            // of its session; empty: it has to join
	stay  map[string]uint64 // by session, the beats that AwaitSessions has seen
}

// NewObserver returns an observer of the pool of store, which no replica uses. It leaves at the end of the test.
func NewObserver(t *testing.T, store lease.Store) *Observer {
	o := &Observer{t: t, store: store}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = store.Leave(ctx, o.id) // if the server is there still; it leaves no lease behind
		store.Idle()
	})
	return o
}

// AwaitSessions blocks until n other sessions have beaten. They must stay until the last call of AwaitBeats.
func (o *Observer) AwaitSessions(n int) {
	o.t.Helper()
	eventually(o.t, "the sessions have not beaten", func() bool {
		o.stay = o.beats()
		for id, beat := range o.stay {
			if beat == 0 {
				delete(o.stay, id)
			}
		}
		return len(o.stay) == n
	})
}

// AwaitBeats blocks until each session of AwaitSessions has beaten n times more. The first one may have been sent before this call.
func (o *Observer) AwaitBeats(n uint64) {
	o.t.Helper()
	var first map[string]uint64
	eventually(o.t, "a session does not beat", func() bool {
		now := o.beats()
		if now == nil {
			return false
		}
		for id := range o.stay {
			require.Contains(o.t, now, id, "a session was removed")
		}
		if first == nil {
			first = now
		}
		for id := range o.stay {
			if now[id] < first[id]+n {
				return false
			}
		}
		return true
	})
}

// beats returns those of all other sessions; nil if the server does not answer.
func (o *Observer) beats() map[string]uint64 {
	ctx, cancel := context.WithTimeout(context.Background(), ReplicaTTL)
	defer cancel()
	if o.id == "" {
		o.id, _ = o.store.Join(ctx, observerName)
	}
	all, err := o.store.Beat(ctx, o.id, nil)
	if err != nil {
		o.id = "" // it may have been removed, as it beats only while somebody waits
		return nil
	}
	beats := map[string]uint64{}
	for _, s := range all {
		if s.Replica != observerName {
			beats[s.ID] = s.Beat
		}
	}
	return beats
}

// eventually calls f, again and again, until it returns true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for until := time.Now().Add(Patience); !f(); time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(until), what)
	}
}
