package natslease

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

func TestStore(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	leasetest.RunStore(t, func(t *testing.T) func() lease.Store {
		return func() lease.Store { return newTestStore(t, connect(t, url), t.Name()) }
	})
}

// A log is what a store asks the server.
type requestLog struct {
	mu   sync.Mutex
	seen []string // guarded by mu
}

// spy notes the subjects of all requests.
func spy(t *testing.T, url string) *requestLog {
	t.Helper()
	nc, l := connect(t, url), &requestLog{}
	for _, subject := range []string{"$JS.API.>", "$KV.>"} {
		_, err := nc.Subscribe(subject, func(msg *nats.Msg) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.seen = append(l.seen, msg.Subject)
		})
		require.NoError(t, err)
	}
	require.NoError(t, nc.Flush())
	return l
}

// take returns what was seen since it was last called.
func (l *requestLog) take(t *testing.T, nc *nats.Conn) []string {
	t.Helper()
	require.NoError(t, nc.Flush())
	time.Sleep(50 * time.Millisecond) // what is still on the way to the spy only makes the count smaller
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := l.seen
	l.seen = nil
	return seen
}

func TestBeatIsOneRequestWhateverTheNumberOfLeasesAndSessions(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	s, other := newTestStore(t, connect(t, url), "p"), newTestStore(t, connect(t, url), "p")
	id := join(t, s)
	for range 20 {
		join(t, other)
	}
	_, err := s.Claim(t.Context(), id, names(200))
	require.NoError(t, err)
	l := spy(t, url)
	for range 3 {
		sessions, err := s.Beat(t.Context(), id, nil)
		require.NoError(t, err)
		assert.Len(t, sessions, 21)
		assert.Equal(t, []string{s.prefix + "s." + id}, l.take(t, s.nc))
	}
}

// All reads go to the leader of the stream, even if the bucket allows any server that has a copy to answer.
func TestReadsAreStrong(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	nc := connect(t, url)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "given"})
	require.NoError(t, err)
	own := newTestStore(t, nc, "p")
	given, err := newStore(Config{Conn: nc, Bucket: "given"}, "p")
	require.NoError(t, err)
	t.Cleanup(given.Idle)
	l := spy(t, url)
	for _, s := range []*store{own, given} {
		id, other := join(t, s), join(t, s)
		claimed(t, s, id)
		assert.Zero(t, claimed(t, s, other).Token)
		s.Idle()
		_, err = s.Beat(t.Context(), id, nil)
		require.NoError(t, err)
		require.NoError(t, s.Expire(t.Context(), id, 2))
		assert.NotZero(t, claimed(t, s, other).Token)
	}
	seen := l.take(t, nc)
	assert.Contains(t, seen, "$JS.API.STREAM.MSG.GET."+own.stream)
	for _, subject := range seen {
		assert.NotContains(t, subject, "DIRECT")
	}
	stream, err := js.Stream(t.Context(), own.stream)
	require.NoError(t, err)
	assert.False(t, stream.CachedInfo().Config.AllowDirect)
}

func TestClaimOfManyNamesDoesNotWaitForEach(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	s := newTestStore(t, connect(t, url), "p")
	id := join(t, s)
	l := spy(t, url)
	claims, err := s.Claim(t.Context(), id, names(1000))
	require.NoError(t, err)
	require.Len(t, claims, 1000)
	assert.LessOrEqual(t, len(l.take(t, s.nc)), 2001, "a read and a write for each, and a look at the session")
	require.NoError(t, s.Release(t.Context(), id, claims))
}

// Markers of removed sessions are removed in the end, or the bucket would grow with each restart of a replica.
func TestMarkersAreRemoved(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	nc := connect(t, url)
	s := newTestStore(t, nc, "p")
	stays := join(t, s)
	for range 50 {
		id := join(t, s)
		claimed(t, s, id)
		require.NoError(t, s.Leave(t.Context(), id))
	}
	keys := func() int {
		_, ids, err := s.exist(t.Context())
		require.NoError(t, err)
		return len(ids)
	}
	require.Equal(t, 51, keys())
	s.view.mu.Lock()
	for id, session := range s.view.sessions {
		if session.gone {
			session.at = session.at.Add(-2 * markerAge)
			s.view.sessions[id] = session
		}
	}
	s.view.mu.Unlock()
	_, err := s.Beat(t.Context(), stays, nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return keys() == 1 }, 10*time.Second, time.Millisecond)
	assert.Len(t, s.view.sessions, 1)

	other := newTestStore(t, nc, "p")
	assert.NotZero(t, claimed(t, other, join(t, other)).Token, "the session that had it has left no trace")
}

// A server that was cut off, and has not heard of a session yet, doesn't have it either: that is no proof that the session is gone.
func TestClaimDoesNotTrustAnOldServer(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	s := newTestStore(t, connect(t, url), "p")
	missing := strings.Repeat("0", 32)
	join(t, s)
	revision, _, err := s.exist(t.Context())
	require.NoError(t, err)
	for _, c := range []struct {
		claimed uint64
		gone    bool
	}{{revision, true}, {revision + 1, false}} {
		gone, err := s.gone(t.Context(), "", []attempt{{name: "x", value: leaseValue{Session: missing}, revision: c.claimed}})
		require.NoError(t, err)
		assert.Equal(t, c.gone, gone[missing])
	}
}

func TestBeatAfterALostAnswer(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	nc := connect(t, url)
	s, other := newTestStore(t, nc, "p"), newTestStore(t, nc, "p")
	id := join(t, s)
	_, err := other.Beat(t.Context(), id, nil) // as a beat of s whose answer is lost
	require.NoError(t, err)
	s.learn(id, session{revision: 1 << 40, sessionValue: sessionValue{Beat: 77}}) // and what s has of it is wrong
	sessions, err := s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	require.Len(t, sessions, 1)
}

// A beat of a session that was expired, of which the replica has not heard yet, doesn't bring it back.
func TestBeatAfterExpire(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	nc := connect(t, url)
	s, other := newTestStore(t, nc, "p"), newTestStore(t, nc, "p")
	id := join(t, s)
	before := s.know(id)
	require.NoError(t, other.Expire(t.Context(), id, 1))
	before.revision += 1000 // so that the news of the removal come later
	s.learn(id, before)
	_, err := s.Beat(t.Context(), id, nil)
	require.ErrorIs(t, err, lease.ErrGone)
}

// A beat and an expire of the same beat at once: one of them is refused.
func TestExpireAndBeatRace(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	a, b := newTestStore(t, connect(t, url), "p"), newTestStore(t, connect(t, url), "p")
	watcher := join(t, b)
	expired := 0
	for range 100 {
		id := join(t, a)
		var wg sync.WaitGroup
		var beat error
		wg.Go(func() { _, beat = a.Beat(t.Context(), id, nil) })
		wg.Go(func() { assert.NoError(t, b.Expire(t.Context(), id, 1)) })
		wg.Wait()
		sessions, err := b.Beat(t.Context(), watcher, nil)
		require.NoError(t, err)
		there := false
		for _, session := range sessions {
			there = there || session.ID == id
		}
		if errors.Is(beat, lease.ErrGone) {
			expired++
			require.False(t, there)
		} else {
			require.NoError(t, beat)
			require.True(t, there)
		}
		require.NoError(t, a.Leave(t.Context(), id))
	}
	t.Logf("%d of 100 were expired", expired)
}

// What is stored survives a restart of the server; a beat goes through as soon as it is back.
func TestServerRestart(t *testing.T) {
	dir := t.TempDir()
	url, stop := startServer(t, dir, -1, true)
	nc := connect(t, url)
	s := newTestStore(t, nc, "p")
	id := join(t, s)
	claim := claimed(t, s, id)
	ctx, cancel := context.WithCancel(t.Context())
	changed, watched := make(chan struct{}, 1000), make(chan error, 1)
	go func() { watched <- s.Watch(ctx, func() { changed <- struct{}{} }) }()
	<-changed

	stop()
	require.Eventually(t, func() bool { return !nc.IsConnected() }, leasetest.Patience, time.Millisecond)
	short, cancelShort := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancelShort()
	_, err := s.Beat(short, id, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "no connection to the server (RECONNECTING)")

	_, port, _ := strings.Cut(strings.TrimPrefix(url, "nats://"), ":")
	var number int
	require.NoError(t, json.Unmarshal([]byte(port), &number))
	startServer(t, dir, number, true)
	var sessions []lease.Session
	require.Eventually(t, func() bool {
		second, cancelSecond := context.WithTimeout(t.Context(), time.Second)
		defer cancelSecond()
		sessions, err = s.Beat(second, id, nil)
		return err == nil
	}, 20*time.Second, time.Millisecond)
	require.Len(t, sessions, 1)
	other := newTestStore(t, nc, "p")
	otherID := join(t, other)
	assert.Zero(t, claimed(t, other, otherID).Token)
	sessions, err = s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	assert.Len(t, sessions, 2)
	for len(changed) > 0 {
		<-changed
	}
	require.NoError(t, s.Release(t.Context(), id, []lease.Claim{claim}))
	select {
	case <-changed:
	case err := <-watched:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "it does not watch any longer")
	}
	assert.Equal(t, claim.Token+1, claimed(t, other, otherID).Token)
	cancel()
	require.ErrorIs(t, <-watched, context.Canceled)
}

// A bucket that was removed has forgotten all: the replicas join again.
func TestBucketIsRemoved(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	nc := connect(t, url)
	s := newTestStore(t, nc, "p")
	id := join(t, s)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	require.NoError(t, js.DeleteKeyValue(t.Context(), s.bucket))
	_, err = s.Beat(t.Context(), id, nil)
	require.ErrorContains(t, err, "nobody answers")
	_, err = s.Beat(t.Context(), id, nil)
	require.ErrorIs(t, err, lease.ErrGone)
	assert.Equal(t, uint64(1), claimed(t, s, join(t, s)).Token)
}

func TestIdleLeavesNothing(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	nc := connect(t, url)
	s := newTestStore(t, nc, "p")
	before := nc.NumSubscriptions()
	join(t, s)
	watched := make(chan error, 1)
	began := make(chan struct{}, 1)
	go func() {
		watched <- s.Watch(t.Context(), func() {
			select {
			case began <- struct{}{}:
			default:
			}
		})
	}()
	<-began // who watches later opens what it needs again
	require.Greater(t, nc.NumSubscriptions(), before)
	s.Idle()
	require.ErrorIs(t, <-watched, errIdle)
	// The client itself has one for all answers.
	require.LessOrEqual(t, nc.NumSubscriptions(), before+1)
}

func TestStuckNamesFitTheMessage(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	s := newTestStore(t, connect(t, url), "p")
	id := join(t, s)
	stuck := make([]string, 10_000)
	for i := range stuck {
		stuck[i] = strings.Repeat("\x01", 255)
	}
	sessions, err := s.Beat(t.Context(), id, stuck)
	require.NoError(t, err)
	assert.Greater(t, len(sessions[0].Stuck), 300)
}

// Who has missed a message can't know what it said: it begins anew.
func TestViewThatHasMissedSomethingIsGivenUp(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	nc := connect(t, url)
	s, other := newTestStore(t, nc, "p"), newTestStore(t, nc, "p")
	id := join(t, s)
	v := s.view
	v.mu.Lock()
	v.last-- // as if the next message were not the next
	v.mu.Unlock()
	otherID := join(t, other)
	<-v.ended
	sessions, err := s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	assert.Len(t, sessions, 2)
	require.NoError(t, other.Leave(t.Context(), otherID))
}

// A session that is gone without a trace, and still in the view, is there no more once somebody has tried to expire it.
func TestExpireOfASessionThatIsGone(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	s := newTestStore(t, connect(t, url), "p")
	id := join(t, s)
	s.learn(strings.Repeat("0", 32), session{revision: 5, sessionValue: sessionValue{Beat: 3}})
	sessions, err := s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	require.Len(t, sessions, 2)
	require.NoError(t, s.Expire(t.Context(), strings.Repeat("0", 32), 3))
	sessions, err = s.Beat(t.Context(), id, nil)
	require.NoError(t, err)
	require.Len(t, sessions, 1)
}

// Where no consumer may be made, a beat reads each session, and Watch says why it can't.
func TestBeatWithoutAView(t *testing.T) {
	url, _ := startServer(t, t.TempDir(), -1, true)
	nc := connect(t, url)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "KV_given", Subjects: []string{"$KV.given.>"}, MaxMsgsPerSubject: 1, MaxConsumers: 1,
	})
	require.NoError(t, err)
	_, err = stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "theirs"})
	require.NoError(t, err)
	opened, err := newStore(Config{Conn: nc, Bucket: "given"}, "p")
	require.NoError(t, err)
	s := opened
	id := join(t, s)
	left := join(t, s)
	require.NoError(t, s.Leave(t.Context(), left))
	sessions, err := s.Beat(t.Context(), id, []string{"x"})
	require.NoError(t, err)
	assert.Equal(t, []lease.Session{{ID: id, Replica: "pod-7", Beat: 2, Stuck: []string{"x"}}}, sessions)
	require.ErrorContains(t, s.Watch(t.Context(), func() {}), "maximum consumers limit reached")
}
