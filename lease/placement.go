package lease

// A placement says which session is to have which name: rendezvous hashing, so that all who see the same sessions agree without a word,
// and a session that joins takes names from all others, one that leaves gives its own to all others, and no other name moves.
//
// It keeps the best score of each name: who joins costs one score for each name, who leaves one score for each of its names and session.
// It is not for several goroutines.
type placement struct {
	sessions map[string]uint64 // their hashes, by id
	names    map[string]*place
}

// A place is where a name is.
type place struct {
	hash    uint64 // of the name
	score   uint64 // that of session
	session string // empty: there is none
}

func newPlacement() *placement {
	return &placement{sessions: make(map[string]uint64), names: make(map[string]*place)}
}

// session returns the id of the session that is to have the name; empty if there is no session, or no such name.
func (p *placement) session(name string) string {
	if at := p.names[name]; at != nil {
		return at.session
	}
	return ""
}

// setNames has the placement be one of these names, which are different.
func (p *placement) setNames(names []string) {
	former := p.names
	p.names = make(map[string]*place, len(names))
	for _, name := range names {
		at := former[name]
		if at == nil {
			at = &place{hash: hash(name)}
			p.place(at)
		}
		p.names[name] = at
	}
}

// setSessions has the placement be one for the sessions of these ids.
func (p *placement) setSessions(ids []string) {
	former := p.sessions
	p.sessions = make(map[string]uint64, len(ids))
	var joined []string
	for _, id := range ids {
		h, known := former[id]
		if !known {
			h = mix(hash(id))
			joined = append(joined, id)
		}
		p.sessions[id] = h
	}
	for _, at := range p.names {
		if _, stays := p.sessions[at.session]; !stays {
			p.place(at)
			continue
		}
		for _, id := range joined {
			p.offer(at, id)
		}
	}
}

// place finds the session for a name.
func (p *placement) place(at *place) {
	at.session, at.score = "", 0
	for id := range p.sessions {
		p.offer(at, id)
	}
}

// offer gives the name to the session if that has the higher score.
func (p *placement) offer(at *place, id string) {
	score := mix(at.hash ^ p.sessions[id])
	if at.session == "" || score > at.score || score == at.score && id < at.session {
		at.session, at.score = id, score
	}
}

// hash is FNV-1a, of 64 bits. It must be the same in all replicas, of whatever version.
func hash(s string) uint64 {
	const (
		offset = 14695981039346656037
		prime  = 1099511628211
	)
	h := uint64(offset)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime
	}
	return h
}

// mix is the finalizer of splitmix64: by FNV alone, similar names would not be spread evenly.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
