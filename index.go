package taskmanager

import (
	"hash/maphash"
	"iter"
	"sync/atomic"
)

// An index finds tasks by their names. To change it or to iterate over it, one holds the Manager's
// mu; to find a task takes no lock: even one that nobody holds makes several cores wait for each
// other, as each of them counts itself in and out.
//
// It is made of hash tables with linear probing, in which the slot of a name never moves. A table
// that grows is replaced by another one; who still searches the old one finds what there was when it
// was replaced. There are several tables so that the one that grows is small.
type index struct {
	parts [1 << partBits]indexPart // by the first bits of the hash
	n     int                      // tasks
}

const (
	partBits     = 5
	smallestPart = 4 // slots
)

type indexPart struct {
	slots atomic.Pointer[[]indexSlot] // as many as a power of two; nil: none
	n     int                         // tasks
	used  int                         // slots that are not empty: tasks and what is marked as removed

	forgotten counts // of all tasks that were in it, and have been forgotten
}

// An indexSlot is empty, has a task, or has removed in place of one, for those that collided with it
// are in the slots after it.
type indexSlot struct{ task atomic.Pointer[Task] }

var removed = new(Task)

var indexSeed = maphash.MakeSeed()

func hashOf(name string) uint32 { return uint32(maphash.String(indexSeed, name)) } //nolint:gosec // any half of it will do

func (x *index) partOf(hash uint32) *indexPart { return &x.parts[hash>>(32-partBits)] }

// find returns the task of that name, or nil.
func (x *index) find(name string) *Task { return x.findHashed(name, hashOf(name)) }

func (x *index) findHashed(name string, hash uint32) *Task {
	slots := x.partOf(hash).slots.Load()
	if slots == nil {
		return nil
	}
	for i := hash; ; i++ {
		t := slotAt(*slots, i).task.Load()
		if t == nil || t.hash == hash && t.name == name && t != removed {
			return t
		}
	}
}

func slotAt(slots []indexSlot, i uint32) *indexSlot { return &slots[int(i)&(len(slots)-1)] }

// put adds t, in place of the task of its name if there is one.
func (x *index) put(t *Task) {
	p := x.partOf(t.hash)
	slots := p.slots.Load()
	if slots == nil || 4*(p.used+1) > 3*len(*slots) {
		slots = p.resize()
	}
	var free *indexSlot
	for i := t.hash; ; i++ {
		s := slotAt(*slots, i)
		switch old := s.task.Load(); {
		case old == nil:
			if free == nil {
				free = s
				p.used++
			}
			free.task.Store(t)
			p.n++
			x.n++
			return
		case old == removed:
			if free == nil {
				free = s
			}
		case old.name == t.name:
			s.task.Store(t)
			return
		}
	}
}

// remove removes t, which is there.
func (x *index) remove(t *Task) {
	p := x.partOf(t.hash)
	slots := *p.slots.Load()
	i := t.hash
	for slotAt(slots, i).task.Load() != t {
		i++
	}
	slotAt(slots, i).task.Store(removed)
	p.n--
	x.n--
	if len(slots) > smallestPart && 8*p.n < len(slots) {
		p.resize()
		return
	}
	// What is followed by nothing need not be marked.
	if slotAt(slots, i+1).task.Load() == nil {
		for ; slotAt(slots, i).task.Load() == removed; i-- {
			slotAt(slots, i).task.Store(nil)
			p.used--
		}
	}
}

// resize replaces the table by one that is less than half full.
func (p *indexPart) resize() *[]indexSlot {
	size := smallestPart
	for size <= 2*p.n {
		size *= 2
	}
	slots := make([]indexSlot, size)
	for t := range p.all {
		i := t.hash
		for slotAt(slots, i).task.Load() != nil {
			i++
		}
		slotAt(slots, i).task.Store(t)
	}
	p.used = p.n
	p.slots.Store(&slots)
	return &slots
}

func (p *indexPart) all(yield func(*Task) bool) {
	slots := p.slots.Load()
	if slots == nil {
		return
	}
	for i := range *slots {
		if t := (*slots)[i].task.Load(); t != nil && t != removed && !yield(t) {
			return
		}
	}
}

// all iterates over the tasks.
func (x *index) all() iter.Seq[*Task] {
	return func(yield func(*Task) bool) {
		for i := range x.parts {
			for t := range x.parts[i].all {
				if !yield(t) {
					return
				}
			}
		}
	}
}
