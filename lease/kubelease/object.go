package kubelease

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/go-taskmanager/taskmanager/lease"
)

const (
	labelPool    = "go-taskmanager.github.io/pool"
	labelKind    = "go-taskmanager.github.io/kind"    // kindSession or kindLease
	labelSession = "go-taskmanager.github.io/session" // of a lease: its holder, to find the leases of a session; empty: none

	annotationName  = "go-taskmanager.github.io/name"  // of a lease, in full
	annotationBeat  = "go-taskmanager.github.io/beat"  // of a session
	annotationStuck = "go-taskmanager.github.io/stuck" // of a session: names of leases, as a JSON array; none if there are none

	kindSession = "session"
	kindLease   = "lease"
)

// An object is a Lease of coordination.k8s.io/v1, as far as it is used here.
type object struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   metadata `json:"metadata"`
	Spec       spec     `json:"spec"`
}

type metadata struct {
	Name            string            `json:"name"`
	UID             string            `json:"uid,omitempty"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
}

type spec struct {
	HolderIdentity   string `json:"holderIdentity,omitempty"`
	LeaseTransitions int32  `json:"leaseTransitions,omitempty"`
	AcquireTime      string `json:"acquireTime,omitempty"`
	RenewTime        string `json:"renewTime,omitempty"`
}

// A list is what a list request returns.
type list struct {
	Kind     string   `json:"kind"`
	Items    []object `json:"items"`
	Metadata struct {
		ResourceVersion string `json:"resourceVersion"`
		Continue        string `json:"continue"`
	} `json:"metadata"`
}

// now is the time in an object, for people.
func now() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000000Z07:00") }

// newSession returns the object of a session that has no beat yet.
func newSession(pool, id, replica string) object {
	o := newObject(id, map[string]string{labelPool: pool, labelKind: kindSession}, map[string]string{annotationBeat: "0"})
	o.Spec = spec{HolderIdentity: replica, AcquireTime: now()}
	return o
}

// newLease returns the object of a lease that nobody has had yet.
func newLease(pool, name string) object {
	labels := map[string]string{labelPool: pool, labelKind: kindLease, labelSession: ""}
	return newObject(leaseObject(pool, name), labels, map[string]string{annotationName: name})
}

func newObject(name string, labels, annotations map[string]string) object {
	return object{
		APIVersion: "coordination.k8s.io/v1", Kind: "Lease",
		Metadata: metadata{Name: name, Labels: labels, Annotations: annotations},
	}
}

// leaseObject returns the name of the object of a lease: what of the lease's name fits into it, for people, and a hash of pool and name
// that tells it apart from all others.
func leaseObject(pool, name string) string {
	readable := []byte(strings.ToLower(name[:min(len(name), 40)]))
	for i, b := range readable {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') {
			readable[i] = '-'
		}
	}
	hash := sha256.Sum256([]byte(pool + "\x00" + name))
	return pool + "-l-" + string(readable) + "-" + hex.EncodeToString(hash[:10])
}

// sessionPrefix is what the names of all sessions of a pool begin with.
func sessionPrefix(pool string) string { return pool + "-s-" }

// isSession tells whether s can be the name of a session of the pool.
func isSession(pool, s string) bool {
	random, ok := strings.CutPrefix(s, sessionPrefix(pool))
	return ok && validLabel(random)
}

// beat returns the beat of a session. One that a person has edited into something else is 0: its replica mends that at the next beat,
// and if there is none the session is removed like any other.
func (o *object) beat() uint64 {
	beat, _ := strconv.ParseUint(o.Metadata.Annotations[annotationBeat], 10, 64)
	return beat
}

// session returns what the object of a session says.
func (o *object) session() lease.Session {
	s := lease.Session{ID: o.Metadata.Name, Replica: o.Spec.HolderIdentity, Beat: o.beat()}
	_ = json.Unmarshal([]byte(o.Metadata.Annotations[annotationStuck]), &s.Stuck) // for people: none if it was edited
	return s
}

// setBeat makes the object that of a session which has beaten once more.
func (o *object) setBeat(stuck []string) {
	annotations := o.annotations()
	annotations[annotationBeat] = strconv.FormatUint(o.beat()+1, 10)
	delete(annotations, annotationStuck)
	if len(stuck) > 0 {
		text, _ := json.Marshal(stuck)
		annotations[annotationStuck] = string(text)
	}
	o.Spec.RenewTime = now()
}

// claimed makes the object that of a lease which a session has.
func (o *object) claimed(session string) error {
	if o.Spec.LeaseTransitions == math.MaxInt32 {
		return fmt.Errorf("kubelease: lease %q has changed hands %d times, which is all that its object can count",
			o.Metadata.Annotations[annotationName], math.MaxInt32)
	}
	o.Spec.HolderIdentity, o.Spec.AcquireTime, o.Spec.RenewTime = session, now(), ""
	o.Spec.LeaseTransitions++
	o.labels()[labelSession] = sessionLabel(session)
	return nil
}

// freed makes the object that of a free lease.
func (o *object) freed() {
	o.Spec.HolderIdentity, o.Spec.AcquireTime = "", ""
	o.labels()[labelSession] = ""
}

// sessionLabel is the part of a session's name that is not the same in all of the pool: a label has less room than a name.
func sessionLabel(session string) string { return session[strings.LastIndexByte(session, '-')+1:] }

func (o *object) labels() map[string]string {
	if o.Metadata.Labels == nil {
		o.Metadata.Labels = map[string]string{}
	}
	return o.Metadata.Labels
}

func (o *object) annotations() map[string]string {
	if o.Metadata.Annotations == nil {
		o.Metadata.Annotations = map[string]string{}
	}
	return o.Metadata.Annotations
}

// since returns when a lease was claimed; zero if the object doesn't say.
func (o *object) since() time.Time {
	at, _ := time.Parse(time.RFC3339, o.Spec.AcquireTime)
	return at
}

// checkLease returns why the object is not that of the lease of that name; nil if it is.
func (o *object) checkLease(namespace, pool, name string) error {
	labels := o.Metadata.Labels
	switch {
	case labels[labelPool] != pool || labels[labelKind] != kindLease:
		return fmt.Errorf("kubelease: the object %q in namespace %q is not a lease of pool %q by its labels: another program has made it, "+
			"so lease %q can't be claimed", o.Metadata.Name, namespace, pool, name)
	case o.Metadata.Annotations[annotationName] != name:
		return fmt.Errorf("kubelease: the object %q in namespace %q is of lease %q by its annotation %s, so lease %q can't be claimed",
			o.Metadata.Name, namespace, o.Metadata.Annotations[annotationName], annotationName, name)
	case o.Spec.HolderIdentity != "" && !isSession(pool, o.Spec.HolderIdentity):
		return fmt.Errorf("kubelease: the object %q in namespace %q, of lease %q, is held by %q, which is no session of pool %q: "+
			"another program writes to it", o.Metadata.Name, namespace, name, o.Spec.HolderIdentity, pool)
	}
	return nil
}
