package lease

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

const manyNames, manySessions = 10_000, 20

// numbered returns n names that begin with prefix, as similar as people's are.
func numbered(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d", prefix, i))
	}
	return names
}

// owners returns where each name is.
func (p *placement) owners() map[string]string {
	owners := make(map[string]string)
	for name := range p.names {
		owners[name] = p.session(name)
	}
	return owners
}

func placed(sessions, names []string) *placement {
	p := newPlacement()
	p.setSessions(sessions)
	p.setNames(names)
	return p
}

// The largest share is at most 1.2 times the mean, whatever the ids are like.
func TestPlacementIsEven(t *testing.T) {
	for _, sessions := range [][]string{numbered("", manySessions), numbered("pool-s-8f3a", manySessions)} {
		shares := make(map[string]int)
		for _, id := range placed(sessions, numbered("tenant", manyNames)).owners() {
			shares[id]++
		}
		assert.Len(t, shares, manySessions)
		const mean = manyNames / manySessions
		for id, n := range shares {
			assert.LessOrEqual(t, n, mean*12/10, id)
			assert.GreaterOrEqual(t, n, mean*8/10, id)
		}
	}
}

// Who joins takes names from others, and no other one moves; who leaves gives its own. That is at most 1.1 times what must move.
func TestPlacementMovesTheLeast(t *testing.T) {
	sessions := numbered("s", manySessions)
	p := placed(sessions, numbered("tenant", manyNames))
	before := p.owners()
	p.setSessions(append(slices.Clone(sessions), "new"))
	moved := 0
	for name, id := range p.owners() {
		if id != before[name] {
			assert.Equal(t, "new", id)
			moved++
		}
	}
	assert.LessOrEqual(t, float64(moved), 1.1*manyNames/(manySessions+1))

	p.setSessions(sessions)
	assert.Equal(t, before, p.owners(), "as before")

	p.setSessions(sessions[1:])
	moved = 0
	for name, id := range p.owners() {
		if id != before[name] {
			assert.Equal(t, sessions[0], before[name])
			moved++
		}
	}
	assert.Positive(t, moved)
}

// Whatever has joined and left, and in whichever order: it is as if made anew.
func TestPlacementDoesNotDependOnItsPast(t *testing.T) {
	sessions, names := numbered("s", 8), numbered("tenant", 100)
	p := newPlacement()
	some := func(all []string) []string {
		all = slices.Clone(all)
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		return all[:rand.N(len(all)+1)]
	}
	for range 200 {
		s, n := some(sessions), some(names)
		if rand.N(2) == 0 {
			p.setSessions(s)
			p.setNames(n)
		} else {
			p.setNames(n)
			p.setSessions(s)
		}
		assert.Equal(t, placed(s, n).owners(), p.owners())
	}
}

// The hash is that of package hash/fnv, and the same tomorrow.
func TestHashIsStable(t *testing.T) {
	for _, s := range []string{"", "a", "tenant-1", "ä\x00"} {
		h := fnv.New64a()
		_, _ = h.Write([]byte(s))
		assert.Equal(t, h.Sum64(), hash(s))
	}
	assert.Equal(t, uint64(0xe220a8397b1dcdaf), mix(0x9e3779b97f4a7c15), "the first number of splitmix64")
	assert.Equal(t, "s-1", placed([]string{"s-0", "s-1", "s-2"}, []string{"tenant-7"}).session("tenant-7"))
}

func BenchmarkPlacementJoin(b *testing.B) {
	sessions := numbered("s", manySessions)
	p := placed(sessions, numbered("tenant", manyNames))
	more := append(slices.Clone(sessions), "new")
	for b.Loop() {
		p.setSessions(more)
		p.setSessions(sessions)
	}
}
