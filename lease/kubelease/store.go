package kubelease

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/go-taskmanager/taskmanager/lease"
)

// New makes an engine whose sessions and leases are objects of the namespace of cfg, and of no other pool. All replicas that share
// leases give the same pool: 1 to 63 characters a-z, 0-9 and -, with none of - at the ends. Several pools may share a namespace.
//
// It asks the API server nothing: one that doesn't answer, refuses the token or has no such namespace is what a task waits for, as its
// status says. New returns an error if cfg or pool can't be right, or an option is wrong.
func New(cfg Config, pool string, opts ...lease.Option) (*lease.Engine, error) {
	s, err := newStore(cfg, pool)
	if err != nil {
		return nil, err
	}
	return lease.New(s, opts...)
}

// A store implements lease.Store. It has no state but its connection: all is in the objects.
type store struct {
	client *client
	pool   string
}

func newStore(cfg Config, pool string) (*store, error) {
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	if !validLabel(pool) {
		return nil, fmt.Errorf("kubelease: the pool can't be %q: %s", pool, labelRule)
	}
	return &store{client: c, pool: pool}, nil
}

// Join implements lease.Store.
func (s *store) Join(ctx context.Context, replica string) (string, error) {
	id := sessionPrefix(s.pool) + strings.ToLower(rand.Text())
	_, err := s.create(ctx, newSession(s.pool, id, replica))
	if err != nil {
		return "", err
	}
	return id, nil
}

// Beat implements lease.Store. It looks before it beats, as the look tells the version of the session's object.
func (s *store) Beat(ctx context.Context, id string, stuck []string) ([]lease.Session, error) {
	objects, err := s.list(ctx, map[string]string{labelKind: kindSession})
	if err != nil {
		return nil, err
	}
	sessions := make([]lease.Session, len(objects))
	own := -1
	for i := range objects {
		sessions[i] = objects[i].session()
		if sessions[i].ID == id {
			own = i
		}
	}
	if own < 0 {
		return nil, s.gone(id)
	}
	o := &objects[own]
	for range attempts {
		o.setBeat(stuck)
		beaten, err := s.update(ctx, o)
		switch {
		case err == nil:
			sessions[own] = beaten.session()
			return sessions, nil
		case !conflict(err):
			return nil, err
		}
		// Removed, or another beat that was believed to be lost.
		if o, err = s.get(ctx, id); err != nil {
			return nil, err
		} else if o == nil {
			return nil, s.gone(id)
		}
	}
	return nil, fmt.Errorf("kubelease: session %s is written to by somebody else all the time", id)
}

// Expire implements lease.Store.
func (s *store) Expire(ctx context.Context, id string, beat uint64) error {
	if !isSession(s.pool, id) {
		return nil
	}
	o, err := s.get(ctx, id)
	if err != nil || o == nil || o.beat() != beat {
		return err
	}
	return s.remove(ctx, id, &preconditions{UID: o.Metadata.UID, ResourceVersion: o.Metadata.ResourceVersion})
}

// Leave implements lease.Store.
func (s *store) Leave(ctx context.Context, id string) error { return s.remove(ctx, id, nil) }

// remove removes a session, unless it has changed, and frees its leases.
func (s *store) remove(ctx context.Context, id string, unchanged *preconditions) error {
	if !isSession(s.pool, id) {
		return nil // above all not the empty name, which would be all objects
	}
	err := s.client.do(ctx, request{verb: "delete", name: id, body: deleteOptions{Preconditions: unchanged}}, nil)
	if notFound(err) || conflict(err) {
		return nil
	}
	if err != nil {
		return err
	}
	// They are free by now. This is for those who watch, and they look at the next beat if it fails.
	held, err := s.list(ctx, map[string]string{labelKind: kindLease, labelSession: sessionLabel(id)})
	if err != nil {
		return nil //nolint:nilerr // the session is removed, which is all that was asked for
	}
	_ = each(len(held), func(i int) error {
		if o := &held[i]; o.Spec.HolderIdentity == id {
			o.freed()
			_, _ = s.update(ctx, o)
		}
		return nil
	})
	return nil
}

// atOnce is how many requests about leases are under way at once.
const atOnce = 16

// each calls f for 0 to n-1, up to atOnce at a time, and returns once all calls have: the error of the first that fails.
func each(n int, f func(i int) error) error {
	var calls errgroup.Group
	calls.SetLimit(atOnce)
	for i := range n {
		calls.Go(func() error { return f(i) })
	}
	return calls.Wait()
}

// attempts is how often a write is tried of an object that changes between the read and the write.
const attempts = 5

// manyNames is from how many names on a claim reads all objects of the pool at once.
const manyNames = 8

// Claim implements lease.Store. It reads first, so that it writes only to those leases that are free.
func (s *store) Claim(ctx context.Context, id string, names []string) ([]lease.Claim, error) {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	see := s.seeEach
	if len(names) > manyNames {
		see = s.seeAll
	}
	leases, lives, err := see(ctx, id, names)
	if err != nil {
		return nil, err
	}
	claims := make([]lease.Claim, len(names))
	err = each(len(names), func(i int) error {
		var failed error
		claims[i], failed = s.claim(ctx, id, names[i], leases[i], lives)
		return failed
	})
	if err != nil {
		return nil, err
	}
	return claims, nil
}

// A lives tells whether a session exists, as of a read that saw the lease that it holds or of a later one. A session that doesn't exist
// then will never: it had been made before it could hold a lease, and its name is not used again.
type lives func(ctx context.Context, session string) (bool, error)

// exists is a lives that asks the API server.
func (s *store) exists(ctx context.Context, session string) (bool, error) {
	if !isSession(s.pool, session) {
		return false, nil
	}
	o, err := s.get(ctx, session)
	return o != nil, err
}

// seeEach reads the objects of the names, nil for one that doesn't exist, and makes sure of the session.
func (s *store) seeEach(ctx context.Context, id string, names []string) ([]*object, lives, error) {
	leases := make([]*object, len(names))
	err := each(len(names)+1, func(i int) error {
		if i == len(names) {
			ok, err := s.exists(ctx, id)
			if err == nil && !ok {
				err = s.gone(id)
			}
			return err
		}
		var err error
		leases[i], err = s.get(ctx, leaseObject(s.pool, names[i]))
		return err
	})
	return leases, s.exists, err
}

// seeAll is seeEach by a single read of the pool.
func (s *store) seeAll(ctx context.Context, id string, names []string) ([]*object, lives, error) {
	objects, err := s.list(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	byName := make(map[string]*object, len(objects))
	for i := range objects {
		byName[objects[i].Metadata.Name] = &objects[i]
	}
	if byName[id] == nil {
		return nil, nil, s.gone(id)
	}
	leases := make([]*object, len(names))
	for i, name := range names {
		leases[i] = byName[leaseObject(s.pool, name)]
	}
	return leases, func(_ context.Context, session string) (bool, error) { return byName[session] != nil, nil }, nil
}

// claim claims one lease, whose object was o when all was seen that lives knows; nil if there was none.
func (s *store) claim(ctx context.Context, id, name string, o *object, lives lives) (lease.Claim, error) {
	for range attempts {
		write := s.update
		if o == nil {
			write = func(ctx context.Context, o *object) (*object, error) { return s.create(ctx, *o) }
			made := newLease(s.pool, name)
			o = &made
		} else if err := o.checkLease(s.client.namespace, s.pool, name); err != nil {
			return lease.Claim{}, err
		}
		if holder := o.Spec.HolderIdentity; holder != "" && holder != id {
			held, err := lives(ctx, holder)
			if err != nil {
				return lease.Claim{}, err
			}
			if held {
				return lease.Claim{Name: name, Holder: holder, Since: o.since()}, nil
			}
		}
		if err := o.claimed(id); err != nil {
			return lease.Claim{}, err
		}
		written, err := write(ctx, o)
		if err == nil {
			return lease.Claim{Name: name, Token: uint64(written.Spec.LeaseTransitions), Holder: id, Since: written.since()}, nil
		}
		if !conflict(err) {
			return lease.Claim{}, err
		}
		// Somebody else was faster. What was seen before says nothing about who has it now.
		if o, err = s.get(ctx, leaseObject(s.pool, name)); err != nil {
			return lease.Claim{}, err
		}
		lives = s.exists
	}
	return lease.Claim{Name: name}, nil
}

// Release implements lease.Store.
func (s *store) Release(ctx context.Context, id string, claims []lease.Claim) error {
	return each(len(claims), func(i int) error { return s.release(ctx, id, claims[i]) })
}

func (s *store) release(ctx context.Context, id string, claim lease.Claim) error {
	var last error
	for range attempts {
		o, err := s.get(ctx, leaseObject(s.pool, claim.Name))
		if err != nil || o == nil {
			return err
		}
		if err := o.checkLease(s.client.namespace, s.pool, claim.Name); err != nil {
			return err
		}
		if o.Spec.HolderIdentity != id || uint64(o.Spec.LeaseTransitions) != claim.Token {
			return nil
		}
		o.freed()
		if _, last = s.update(ctx, o); !conflict(last) {
			return last
		}
	}
	return last
}

// Idle implements lease.Store.
func (s *store) Idle() { s.client.connections.idle() }

// gone is the error about a session that does not exist.
func (s *store) gone(id string) error {
	return fmt.Errorf("kubelease: session %s in namespace %q: %w", id, s.client.namespace, lease.ErrGone)
}

// get returns an object, or nil if it does not exist. Without a resourceVersion in the request, the API server answers with what it had
// confirmed when the request came.
func (s *store) get(ctx context.Context, name string) (*object, error) {
	r := request{verb: "get", name: name}
	var o object
	err := s.client.do(ctx, r, &o)
	switch {
	case notFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &o, s.checkAnswer(r, &o, name)
}

// list returns the objects of the pool that have the labels, with the same promise as get.
func (s *store) list(ctx context.Context, labels map[string]string) ([]object, error) {
	r := request{verb: "list", query: url.Values{"labelSelector": {s.selector(labels)}}}
	l, err := s.listAnswer(ctx, r)
	if err == nil && l.Metadata.Continue != "" {
		err = s.client.failed(r, errors.New("the answer is not the whole list"))
	}
	return l.Items, err
}

func (s *store) listAnswer(ctx context.Context, r request) (list, error) {
	var l list
	err := s.client.do(ctx, r, &l)
	if err == nil && (l.Kind != "LeaseList" || l.Metadata.ResourceVersion == "") {
		err = s.client.failed(r, errNoAPIServer) // else no session would seem to live
	}
	for i := range l.Items {
		l.Items[i].APIVersion, l.Items[i].Kind = "coordination.k8s.io/v1", "Lease" // which a list leaves out
	}
	return l, err
}

var errNoAPIServer = errors.New("the answer is not from a Kubernetes API server")

func (s *store) selector(labels map[string]string) string {
	terms := []string{labelPool + "=" + s.pool}
	for label, value := range labels {
		terms = append(terms, label+"="+value)
	}
	slices.Sort(terms)
	return strings.Join(terms, ",")
}

func (s *store) create(ctx context.Context, o object) (*object, error) {
	return s.write(ctx, request{verb: "create", body: o}, o.Metadata.Name)
}

// update replaces an object by o, if it is still of the resourceVersion in o. If there is none, that is a conflict because of the uid in
// o: without it, the API server would make the object, and so bring back a session that was removed.
func (s *store) update(ctx context.Context, o *object) (*object, error) {
	return s.write(ctx, request{verb: "update", name: o.Metadata.Name, body: o}, o.Metadata.Name)
}

func (s *store) write(ctx context.Context, r request, name string) (*object, error) {
	var o object
	if err := s.client.do(ctx, r, &o); err != nil {
		return nil, err
	}
	return &o, s.checkAnswer(r, &o, name)
}

// checkAnswer makes sure that an answer of success is about the object: a proxy may answer anything.
func (s *store) checkAnswer(r request, o *object, name string) error {
	if o.Kind != "Lease" || o.Metadata.Name != name || o.Metadata.UID == "" || o.Metadata.ResourceVersion == "" {
		return s.client.failed(r, errNoAPIServer)
	}
	return nil
}

type deleteOptions struct {
	Preconditions *preconditions `json:"preconditions,omitempty"`
}

type preconditions struct {
	UID             string `json:"uid"`
	ResourceVersion string `json:"resourceVersion"`
}
