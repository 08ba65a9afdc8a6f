package natslease

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/go-taskmanager/taskmanager/lease"
)

// A session is what is known of one.
type session struct {
	sessionValue
	revision uint64    // of its beat; 0: there is none
	gone     bool      // removed, which is for ever
	at       time.Time // of this, on the server's clock
}

// A sessionValue is what the bucket has for a session.
type sessionValue struct {
	Replica string   `json:"replica"`
	Beat    uint64   `json:"beat"`
	Stuck   []string `json:"stuck,omitempty"`
}

// A view follows what the stream stores, so that a beat need not read each session. It is made of a consumer, which tells all that is
// stored from now on, and of what was stored before. It begins with the first beat and is given up when it misses something, or is idle.
//
// The consumer may be a copy of the stream that lags behind. That a beat is seen late is harmless: an observer counts the TTL from when
// it has seen the beat, so it only waits longer, and it removes the session only if its beat is still that, which is compared where it is
// written. Nobody concludes from the view that a session is gone, but from a marker of its removal.
type view struct {
	started chan struct{} // closed after start
	err     error         // of start; set before started is closed

	mu       sync.Mutex // guards all below
	sub      *nats.Subscription
	ended    chan struct{} // closed when it follows no longer
	idle     bool          // it has ended, as nobody wants a lease
	last     uint64        // the latest message, as the consumer counts them
	revision uint64        // all that was stored until then is in sessions
	news     chan struct{} // closed, and made anew, with each message
	freed    chan struct{} // closed, and made anew, when a lease may have become free
	sessions map[string]session
}

func newView() *view {
	return &view{
		started: make(chan struct{}), ended: make(chan struct{}),
		news: make(chan struct{}), freed: make(chan struct{}), sessions: make(map[string]session),
	}
}

// follow returns the view, and starts it if there is none.
func (s *store) follow(ctx context.Context) (*view, error) {
	s.mu.Lock()
	v := s.view
	first := v == nil
	if first {
		v = newView()
		s.view = v
	}
	s.mu.Unlock()
	if first {
		if v.err = s.start(ctx, v); v.err != nil {
			s.drop(v, false)
		}
		close(v.started)
	}
	select {
	case <-v.started:
		return v, v.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// start subscribes, and then reads what was there before.
func (s *store) start(ctx context.Context, v *view) error {
	if err := s.openBucket(ctx); err != nil {
		return err
	}
	inbox := s.nc.NewInbox()
	sub, err := s.nc.Subscribe(inbox, func(msg *nats.Msg) { s.hear(v, msg) })
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.sub = sub
	v.mu.Unlock()
	if v.over() {
		_ = sub.Unsubscribe()
		return errIdle
	}
	var consumer struct{}
	err = s.ask(ctx, "CONSUMER.CREATE", map[string]any{
		"stream_name": s.stream,
		"config": map[string]any{
			"deliver_subject": inbox, "deliver_policy": "new", "ack_policy": "none", "replay_policy": "instant",
			"filter_subjects": []string{s.prefix + "s.*", s.prefix + "l.*"}, "mem_storage": true, "num_replicas": 1,
		},
	}, &consumer)
	if err != nil {
		return err
	}
	revision, before, err := s.list(ctx)
	if err != nil {
		return err
	}
	for id, session := range before {
		v.note(id, session)
	}
	v.mu.Lock()
	v.revision = max(v.revision, revision)
	v.mu.Unlock()
	return nil
}

var errIdle = errors.New("natslease: nobody wants a lease")

// drop ends a view. The server removes the consumer, which nobody listens to, by itself.
func (s *store) drop(v *view, idle bool) {
	s.mu.Lock()
	if s.view == v {
		s.view = nil
	}
	s.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	select {
	case <-v.ended:
		return
	default:
	}
	v.idle = idle
	close(v.ended)
	if v.sub != nil {
		_ = v.sub.Unsubscribe()
	}
}

func (v *view) over() bool {
	select {
	case <-v.ended:
		return true
	default:
		return false
	}
}

// hear is told each message that the consumer delivers, one after another.
func (s *store) hear(v *view, msg *nats.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		return // of the consumer itself
	}
	name, ofPool := strings.CutPrefix(msg.Subject, s.prefix)
	if !ofPool {
		return
	}
	at, removed := meta.Sequence, msg.Header.Get(operation) != ""
	id, ofSession := strings.CutPrefix(name, "s.")
	var now session
	freed := removed
	if ofSession {
		now = parseSession(stored{at.Stream, removed, msg.Data, meta.Timestamp})
	} else if held, err := parseLease(msg.Data); err == nil && held.Session == "" {
		freed = true
	}
	v.mu.Lock()
	if at.Consumer != v.last+1 {
		v.mu.Unlock()
		s.drop(v, false) // it has missed something
		return
	}
	v.last = at.Consumer
	if ofSession {
		v.noteLocked(id, now)
	} else if freed {
		v.freedLocked()
	}
	// Only now, as who waits for the revision looks at the sessions at once.
	v.revision = at.Stream
	close(v.news)
	v.news = make(chan struct{})
	v.mu.Unlock()
}

// note enters what is known of a session, unless something newer is.
func (v *view) note(id string, now session) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.noteLocked(id, now)
}

func (v *view) noteLocked(id string, now session) {
	if now.revision <= v.sessions[id].revision {
		return
	}
	v.sessions[id] = now
	if now.gone {
		v.freedLocked()
	}
}

func (v *view) freedLocked() {
	close(v.freed)
	v.freed = make(chan struct{})
}

// reached blocks until the view has seen the revision, and says if it has before ctx ends.
func (v *view) reached(ctx context.Context, revision uint64) bool {
	for {
		v.mu.Lock()
		there, news := v.revision >= revision, v.news
		v.mu.Unlock()
		if there {
			return true
		}
		select {
		case <-news:
		case <-v.ended:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// all returns the sessions that are there, and those of which the marker has been there long enough: whoever follows has seen it.
func (v *view) all() (there map[string]session, old []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	there = make(map[string]session, len(v.sessions))
	var newest time.Time
	for id, s := range v.sessions {
		if !s.gone {
			there[id] = s
		}
		if s.at.After(newest) {
			newest = s.at
		}
	}
	for id, s := range v.sessions {
		if s.gone && newest.Sub(s.at) > markerAge {
			old = append(old, id)
			delete(v.sessions, id)
		}
	}
	return there, old
}

// know returns what the view has of a session, if there is a view.
func (s *store) know(id string) session {
	s.mu.Lock()
	v := s.view
	s.mu.Unlock()
	if v == nil {
		return session{}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.sessions[id]
}

// learn tells the view, if there is one, of a session as the leader of the stream has it.
func (s *store) learn(id string, now session) {
	s.mu.Lock()
	v := s.view
	s.mu.Unlock()
	switch {
	case v == nil:
	case now.revision > 0:
		v.note(id, now)
	default: // its marker was removed before the view has seen it
		v.mu.Lock()
		delete(v.sessions, id)
		v.freedLocked()
		v.mu.Unlock()
	}
}

func parseSession(in stored) session {
	out := session{revision: in.revision, gone: in.removed, at: in.at}
	if !out.gone && json.Unmarshal(in.value, &out.sessionValue) != nil {
		out.Replica = "not a session"
	}
	return out
}

func (s session) public(id string) lease.Session {
	return lease.Session{ID: id, Replica: s.Replica, Beat: s.Beat, Stuck: s.Stuck}
}
