package natslease

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/go-taskmanager/taskmanager/lease"
)

const (
	// markerAge is how long the marker of a removed session stays, on the server's clock, for those who watch to see it. They need less
	// than a second; who has missed it asks for the session when its beat stands still.
	markerAge = time.Minute

	// attempts is how often a write is tried again after another one of the same key was faster.
	attempts = 4
)

// A store implements [lease.Store]. A session is a key of the bucket with its beat, a lease a key with the session that has it, and all
// writes compare the revision of the key with that which was read. A lease is free if the key of its session doesn't exist: so the removal
// of a session frees its leases at once, however many they are. The id of a session is random, of 128 bits, and never comes back, so
// what is gone when a claim looks is still gone when it writes.
type store struct {
	nc       *nats.Conn
	bucket   string
	stream   string // of the bucket
	prefix   string // of the subjects of all keys of the pool
	own      bool   // nobody else may have made the bucket
	replicas int

	mu     sync.Mutex // guards the two below
	opened bool       // the bucket is there, and was found fit for leases
	view   *view      // nil: nobody has beaten or watched since Idle
}

// A leaseValue is what the bucket has for a lease.
type leaseValue struct {
	Session string    `json:"session"` // "": free
	Token   uint64    `json:"token"`
	Since   time.Time `json:"since"` // on the clock of who has claimed it, for people
}

func parseLease(data []byte) (leaseValue, error) {
	var out leaseValue
	err := json.Unmarshal(data, &out)
	return out, err
}

func (s *store) Join(ctx context.Context, replica string) (string, error) {
	if err := s.openBucket(ctx); err != nil {
		return "", err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	id := hex.EncodeToString(random[:])
	revision, err := s.swap(ctx, "s."+id, 0, sessionValue{Replica: replica})
	if err == nil && revision == 0 {
		err = fmt.Errorf("natslease: bucket %q: the session exists already", s.bucket)
	}
	return id, err
}

// isID reports whether Join may have returned the id.
func isID(id string) bool {
	data, err := hex.DecodeString(id)
	return err == nil && len(data) == 16 && id == strings.ToLower(id)
}

// read returns a session as the leader of the stream has it.
func (s *store) read(ctx context.Context, id string) (session, error) {
	if err := s.openBucket(ctx); err != nil || !isID(id) {
		return session{}, err
	}
	in, err := s.get(ctx, "s."+id)
	if err != nil || in.revision == 0 {
		return session{}, err
	}
	return parseSession(in), nil
}

func (s *store) goneError(id string) error {
	return fmt.Errorf("natslease: session %q is not in bucket %q: %w", id, s.bucket, lease.ErrGone)
}

// Beat sends one request, the write of the beat, which comes back by the view: what the view has then is at least as new as the beat.
func (s *store) Beat(ctx context.Context, id string, stuck []string) ([]lease.Session, error) {
	now := s.know(id)
	var revision uint64
	for attempt := 0; revision == 0; attempt++ {
		var err error
		if now.revision == 0 {
			if now, err = s.read(ctx, id); err != nil {
				return nil, err
			}
		}
		if now.gone || now.revision == 0 {
			return nil, s.goneError(id)
		}
		if attempt == attempts {
			return nil, fmt.Errorf("natslease: bucket %q: somebody else writes session %q", s.bucket, id)
		}
		next := sessionValue{Replica: now.Replica, Beat: now.Beat + 1, Stuck: s.fit(stuck)}
		if revision, err = s.swap(ctx, "s."+id, now.revision, next); err != nil {
			return nil, err
		}
		now.revision = 0 // a beat whose answer was lost may have been stored
	}
	there, err := s.after(ctx, id, revision)
	if err != nil {
		return nil, err
	}
	out := make([]lease.Session, 0, len(there))
	for _, id := range slices.Sorted(maps.Keys(there)) {
		out = append(out, there[id].public(id))
	}
	return out, nil
}

// fit returns so many names that the server takes the message.
func (s *store) fit(names []string) []string {
	room := int(s.nc.MaxPayload()) / 2
	for i, name := range names {
		if room -= 6*len(name) + 3; room < 0 { // a byte may need 6 in JSON
			return names[:i]
		}
	}
	return names
}

// after returns the sessions that are there after that revision, of the beat of session id.
func (s *store) after(ctx context.Context, id string, revision uint64) (map[string]session, error) {
	patience := time.Second
	if until, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(until)/3)
	}
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if v, err := s.follow(soon); err == nil {
		if v.reached(soon, revision) {
			there, old := v.all()
			if id == slices.Min(slices.Collect(maps.Keys(there))) {
				s.sweep(old)
			}
			return there, nil
		}
		s.drop(v, false) // its consumer is gone, or the server that had it
	}
	_, there, err := s.list(ctx)
	maps.DeleteFunc(there, func(_ string, s session) bool { return s.gone })
	return there, err
}

// list reads each session from the leader of the stream, those that are gone too as long as their markers are there. What was stored until
// that revision is in it.
func (s *store) list(ctx context.Context) (uint64, map[string]session, error) {
	revision, ids, err := s.exist(ctx)
	if err != nil {
		return 0, nil, err
	}
	read := make([]session, len(ids))
	err = each(len(ids), func(i int) (err error) {
		read[i], err = s.read(ctx, ids[i])
		return err
	})
	out := make(map[string]session, len(ids))
	for i, id := range ids {
		if read[i].revision > 0 {
			out[id] = read[i]
		}
	}
	return revision, out, err
}

// exist returns the ids of all sessions that have a key, and a revision: that of no session that was stored until then is missing.
func (s *store) exist(ctx context.Context) (revision uint64, ids []string, err error) {
	var info streamInfo
	if err := s.ask(ctx, "STREAM.INFO", map[string]string{"subjects_filter": s.prefix + "s.*"}, &info); err != nil {
		return 0, nil, err
	}
	for subject := range info.State.Subjects {
		ids = append(ids, strings.TrimPrefix(subject, s.prefix+"s."))
	}
	return info.State.LastSeq, ids, nil
}

// sweep removes old markers, or the bucket would grow with each session that there ever was. One replica does it, by messages without
// answers: if one is lost, whoever next begins to follow finds the marker.
func (s *store) sweep(old []string) {
	for _, id := range old {
		body, _ := json.Marshal(map[string]string{"filter": s.prefix + "s." + id})
		_ = s.nc.Publish(api+"STREAM.PURGE."+s.stream, body)
	}
}

func (s *store) Expire(ctx context.Context, id string, beat uint64) error {
	now := s.know(id)
	if now.revision == 0 || now.Beat != beat {
		var err error
		if now, err = s.read(ctx, id); err != nil {
			return err
		}
		s.learn(id, now)
	}
	if now.gone || now.revision == 0 || now.Beat != beat {
		return nil
	}
	// The revision is that of this beat. If another beat was stored meanwhile, or is stored at this moment, the server refuses one of the
	// two writes. Removing the message by its number would not be such a comparison: in a cluster, a beat that was compared before the
	// removal may be stored after it.
	revision, err := s.swap(ctx, "s."+id, now.revision, nil)
	if err != nil {
		return err
	}
	if revision > 0 {
		s.learn(id, session{revision: revision, gone: true, at: now.at})
		return nil
	}
	now, err = s.read(ctx, id) // what was known was old
	if err == nil {
		s.learn(id, now)
	}
	return err
}

func (s *store) Leave(ctx context.Context, id string) error {
	now, err := s.read(ctx, id)
	if err != nil || now.gone || now.revision == 0 {
		return err
	}
	// Whatever its beat: no revision. A beat that is still under way compares its own with that of the marker.
	_, err = s.put(ctx, "s."+id, nats.Header{}, nil)
	return err
}

// An attempt is what a claim knows of one lease.
type attempt struct {
	name     string
	value    leaseValue
	revision uint64
}

// Claim reads all leases and who has them, and then writes those that are free: two round trips for each 64 of them.
func (s *store) Claim(ctx context.Context, id string, names []string) ([]lease.Claim, error) {
	var out []lease.Claim
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	for round := 1; len(names) > 0 || round == 1; round++ {
		tries := make([]attempt, len(names))
		err := each(1+len(names), func(i int) error {
			if i == 0 { // what is claimed for a session that ends after this is free again
				if now, err := s.read(ctx, id); err != nil || now.gone || now.revision == 0 {
					return cmpErr(err, s.goneError(id))
				}
				return nil
			}
			var err error
			tries[i-1], err = s.readLease(ctx, names[i-1])
			return err
		})
		if err != nil {
			return nil, err
		}
		gone, err := s.gone(ctx, id, tries)
		if err != nil {
			return nil, err
		}
		results := make([]lease.Claim, len(tries))
		again := make([]bool, len(tries))
		err = each(len(tries), func(i int) error {
			t := tries[i]
			if held := t.value.Session; held != "" && held != id && !gone[held] {
				results[i] = lease.Claim{Name: t.name, Holder: held, Since: t.value.Since}
				return nil
			}
			// Also a lease that the session has already gets a new token: a release of the claim before may still be under way.
			next := leaseValue{Session: id, Token: t.value.Token + 1, Since: time.Now().Round(0)}
			revision, failed := s.swap(ctx, "l."+escapeKey(t.name), t.revision, next)
			again[i] = revision == 0 // somebody else was faster, but for an error
			results[i] = lease.Claim{Name: t.name, Token: next.Token, Holder: id, Since: next.Since}
			return failed
		})
		if err != nil {
			return nil, err
		}
		names = names[:0]
		for i, result := range results {
			switch {
			case !again[i]:
				out = append(out, result)
			case round < attempts:
				names = append(names, tries[i].name)
			default:
				out = append(out, lease.Claim{Name: tries[i].name})
			}
		}
	}
	return out, nil
}

func cmpErr(first, otherwise error) error {
	if first != nil {
		return first
	}
	return otherwise
}

// readLease returns a lease as the leader of the stream has it.
func (s *store) readLease(ctx context.Context, name string) (attempt, error) {
	key := "l." + escapeKey(name)
	in, err := s.get(ctx, key)
	out := attempt{name: name, revision: in.revision}
	if err != nil || in.revision == 0 || in.removed {
		return out, err
	}
	if out.value, err = parseLease(in.value); err != nil || out.value.Token == 0 {
		return out, fmt.Errorf("natslease: bucket %q: the value of key %q is no lease: another program uses it", s.bucket, key)
	}
	return out, nil
}

// gone returns which sessions, of those that have the leases, are gone.
func (s *store) gone(ctx context.Context, id string, tries []attempt) (map[string]bool, error) {
	newest := make(map[string]uint64) // by session, the latest of its claims
	for _, t := range tries {
		if held := t.value.Session; held != "" && held != id {
			newest[held] = max(newest[held], t.revision)
		}
	}
	ids := slices.Collect(maps.Keys(newest))
	found := make([]session, len(ids))
	err := each(len(ids), func(i int) (err error) {
		found[i], err = s.read(ctx, ids[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	gone, missing := make(map[string]bool), []string(nil)
	for i, id := range ids {
		if found[i].gone {
			gone[id] = true
		} else if found[i].revision == 0 {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return gone, nil
	}
	// That nothing was found is no proof: a server that was cut off, and still believes to lead the stream, may not have heard of the
	// session yet. One that knows of a claim of the session does know of the session, which is older.
	revision, exist, err := s.exist(ctx)
	for _, id := range missing {
		gone[id] = revision >= newest[id] && !slices.Contains(exist, id)
	}
	return gone, err
}

func (s *store) Release(ctx context.Context, id string, claims []lease.Claim) error {
	if err := s.openBucket(ctx); err != nil {
		return err
	}
	return each(len(claims), func(i int) error {
		for range attempts {
			now, err := s.readLease(ctx, claims[i].Name)
			if err != nil || now.value.Session != id || now.value.Token != claims[i].Token {
				return err
			}
			revision, err := s.swap(ctx, "l."+escapeKey(now.name), now.revision, leaseValue{Token: now.value.Token})
			if err != nil || revision > 0 {
				return err
			}
		}
		return fmt.Errorf("natslease: bucket %q: somebody else writes lease %q", s.bucket, claims[i].Name)
	})
}

func (s *store) Watch(ctx context.Context, changed func()) error {
	for {
		v, err := s.follow(ctx)
		if err != nil {
			return err
		}
		for !v.over() {
			v.mu.Lock()
			freed := v.freed
			v.mu.Unlock()
			changed()
			select {
			case <-freed:
			case <-v.ended:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		v.mu.Lock()
		idle := v.idle
		v.mu.Unlock()
		if idle {
			return errIdle
		}
	}
}

func (s *store) Idle() {
	s.mu.Lock()
	v := s.view
	s.opened = false
	s.mu.Unlock()
	if v != nil {
		s.drop(v, true)
	}
}
