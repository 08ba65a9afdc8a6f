package lease_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// In the random run, replicas acquire a lease again and again, while the network does what it can: cuts of one or all of them, calls that
// are late, answers that are late or lost, calls that happen long after they were given up.
const (
	randomReplicas = 4
	randomTime     = 4 * time.Minute
	randomGrace    = 5 * time.Second
)

// A body is what executes under a hold of the random run.
type body struct {
	ignoresUntil bool          // it sees the end of the context alone
	takes        time.Duration // at most, to end
	n            int           // that many replicas may hold the lease; 0: one
}

// of returns the lease of the body as a replica has it.
func (b body) of(r replica) lease.Lease {
	if b.n == 0 {
		return r.Lease("x")
	}
	return r.OneOf("x", b.n)
}

// A resource is what only one body may work on at a time, or most.
type resource struct {
	most     int // 0: one
	mu       sync.Mutex
	working  int
	token    uint64 // of the last body
	begun    int
	mistakes []string
}

func (r *resource) begin(token uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.working >= max(1, r.most) {
		r.mistakes = append(r.mistakes, fmt.Sprintf("the body of token %d begins, while that of %d executes", token, r.token))
	}
	if r.most == 0 && token <= r.token {
		r.mistakes = append(r.mistakes, fmt.Sprintf("token %d comes after %d", token, r.token))
	}
	r.working++
	r.begun++
	r.token = token
}

func (r *resource) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.working--
}

// A dice is a source of random numbers that several goroutines may use.
type dice struct {
	mu sync.Mutex
	*rand.Rand
}

func (d *dice) upTo(most time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return time.Duration(d.Int64N(int64(most)))
}

func (d *dice) oneOf(n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.IntN(n) == 0
}

func (d *dice) fault(leasetest.Op) (f leasetest.Fault) {
	if d.oneOf(8) {
		f.Before = d.upTo(2 * beat) // half of these happen when the call has ended
	}
	if d.oneOf(30) {
		f.Before = d.upTo(ttl)
	}
	if d.oneOf(8) {
		f.After = d.upTo(2 * beat)
	}
	f.Lost = d.oneOf(15)
	return f
}

// work executes the body until a random time, or until the hold ends.
func (b body) work(hold taskmanager.Hold, r *resource, d *dice) {
	r.begin(hold.Token())
	defer r.end()
	enough := time.NewTimer(d.upTo(time.Minute))
	defer enough.Stop()
	for {
		until := time.Until(hold.Until().Add(-randomGrace))
		if b.ignoresUntil {
			until = time.Hour
		}
		if until <= 0 {
			break
		}
		deadline := time.NewTimer(until)
		select {
		case <-deadline.C:
			continue
		case <-hold.Context().Done():
		case <-enough.C:
		}
		deadline.Stop()
		break
	}
	time.Sleep(d.upTo(b.takes + 1))
}

// randomRun returns what has gone wrong, and how often a body has begun.
func randomRun(t *testing.T, seed uint64, b body) (mistakes []string, begun int) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		r := resource{most: b.n}
		random := func(stream uint64) *dice { return &dice{Rand: rand.New(rand.NewPCG(seed, stream))} }
		end := time.Now().Add(randomTime)
		replicas := make([]replica, randomReplicas)
		var wg sync.WaitGroup
		for i := range replicas {
			replicas[i] = newReplica(t, server, fmt.Sprint("pod-", i))
			replicas[i].store.Faults(random(uint64(i)).fault)
			d := random(uint64(100 + i))
			wg.Go(func() {
				for time.Now().Before(end) {
					ctx, cancel := context.WithTimeout(t.Context(), d.upTo(2*time.Minute))
					hold, err := b.of(replicas[i]).Acquire(ctx, func(string) {})
					if err == nil {
						b.work(hold, &r, d)
						hold.Release()
					}
					cancel()
					if d.oneOf(3) {
						time.Sleep(d.upTo(20 * time.Second))
					}
				}
			})
		}
		wg.Go(func() {
			d := random(1000)
			for time.Now().Before(end) {
				time.Sleep(d.upTo(40 * time.Second))
				one := replicas[int(d.upTo(randomReplicas))]
				if d.oneOf(3) {
					server.Cut()
				} else {
					one.store.Cut()
				}
				time.Sleep(d.upTo(40 * time.Second))
				server.Restore()
			}
		})
		wg.Wait()

		// Once all is well again, nothing is left that holds the lease, but for a TTL.
		for _, p := range replicas {
			p.store.Faults(nil)
		}
		hold := acquire(t, b.of(replicas[0]))
		took := hold.get()
		assert.LessOrEqual(t, time.Since(hold.begun), ttl+2*beat, "seed %d: a ghost", seed)
		r.begin(took.Token())
		r.end()
		took.Release()
		for _, p := range replicas {
			p.close()
		}
		time.Sleep(2 * ttl) // for what is executed late
		mistakes, begun = r.mistakes, r.begun
	})
	return mistakes, begun
}

func TestRandom(t *testing.T) {
	all := 0
	for seed := range uint64(seeds) {
		mistakes, begun := randomRun(t, seed, body{takes: randomGrace})
		require.Empty(t, mistakes, "seed %d", seed)
		if t.Failed() {
			return
		}
		all += begun
	}
	require.Greater(t, all, 5*seeds, "bodies have executed")
	t.Logf("%d bodies", all)
}

// Of an n of m, n bodies execute at a time, and no more.
func TestRandomOneOf(t *testing.T) {
	for seed := range uint64(seeds / 5) {
		mistakes, begun := randomRun(t, seed, body{takes: randomGrace, n: 2})
		require.Empty(t, mistakes, "seed %d", seed)
		require.Positive(t, begun)
		if t.Failed() {
			return
		}
	}
}

// The random run finds bodies that don't do their part: so it would find an engine that doesn't.
func TestRandomFinds(t *testing.T) {
	for _, c := range []struct {
		name string
		body body
	}{
		{"a body that ignores Until", body{ignoresUntil: true, takes: randomGrace}},
		{"a body that is slower than its grace", body{takes: 3 * randomGrace}},
		{"a body of n that ignores Until", body{ignoresUntil: true, takes: randomGrace, n: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(100) {
				if mistakes, _ := randomRun(t, seed, c.body); len(mistakes) > 0 {
					t.Logf("seed %d: %s", seed, mistakes[0])
					return
				}
			}
			require.Fail(t, "it was not found")
		})
	}
}
