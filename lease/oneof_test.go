package lease_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

func TestOneOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		const n, m = 3, 5
		replicas := make([]replica, m)
		waiters := make([]*acquisition, m)
		for i := range replicas {
			replicas[i] = newReplica(t, server, fmt.Sprint("pod-", i))
			waiters[i] = acquire(t, replicas[i].OneOf("x", n))
		}
		held := func() (all []int) {
			synctest.Wait()
			for i, w := range waiters {
				select {
				case <-w.done:
					all = append(all, i)
				default:
					assert.Equal(t, `waits for lease "x"`, w.waits())
				}
			}
			return all
		}
		require.Len(t, held(), n, "at once")
		ids := map[string]bool{}
		for i := range n {
			id, token := server.Holder(fmt.Sprintf("x#%d", i))
			assert.Equal(t, uint64(1), token)
			assert.NotEmpty(t, id)
			ids[id] = true
		}
		require.Len(t, ids, n, "a replica has one")

		calls := server.Calls(leasetest.Claim)
		time.Sleep(10 * ttl)
		require.Len(t, held(), n)
		assert.LessOrEqual(t, server.Calls(leasetest.Claim)-calls, (m-n)*(2*int(10*ttl/beat)+n)+m, "each tries all once, and two a beat")

		// It is shared within a replica.
		first := held()[0]
		shared := acquire(t, replicas[first].OneOf("x", n)).get()
		assert.Equal(t, waiters[first].hold.Token(), shared.Token())
		waiters[first].hold.Release()
		require.Len(t, held(), n)
		shared.Release()
		require.Len(t, held(), n+1, "handed over at once")
		releaseAll(waiters)
		requireIdle(t, server, replicas...)
	})
}

// The leases of an n of m are leases: who acquires one by its name shares it with who has it as one of n, and so do those of another n.
// None is claimed twice in one call.
func TestOneOfSharesItsNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		held := []*acquisition{b.acquire("x#0"), b.acquire("x#1"), b.acquire("x#2")}
		for _, h := range held {
			h.get()
		}
		waiters := []*acquisition{acquire(t, a.OneOf("x", 2)), acquire(t, a.OneOf("x", 3)), a.acquire("x#0"), a.acquire("x#1"), a.acquire("x#2")}
		for range 10 * beat / time.Second {
			time.Sleep(time.Second)
			for _, w := range waiters {
				require.NotContains(t, w.waits(), "has failed")
			}
		}
		releaseAll(held)
		begin := time.Now()
		for _, w := range waiters {
			w.get()
		}
		assert.LessOrEqual(t, time.Since(begin), beat)
		releaseAll(waiters)
		requireIdle(t, server, a, b)
	})
}

// n of m, by tasks: a replica that dies is followed by another one that waits, which gets the one that it had; the others go on.
func TestOneOfMovesAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, m = 3, 5
		server := leasetest.NewServer()
		var replicas []replica
		var tasks []*taskmanager.Task
		for i := range m {
			r := newReplica(t, server, fmt.Sprint("pod-", i))
			t.Cleanup(r.close)
			task, err := newManager(t).StartTask("job", func(ctx context.Context) error { <-ctx.Done(); return nil },
				taskmanager.WithLease(r.OneOf("x", n)))
			require.NoError(t, err)
			replicas, tasks = append(replicas, r), append(tasks, task)
		}
		running := func() (all []int) {
			synctest.Wait()
			slots := map[string]bool{}
			for i := range n {
				if id, _ := server.Holder(fmt.Sprintf("x#%d", i)); id != "" {
					assert.False(t, slots[id], "a replica has one")
					slots[id] = true
				}
			}
			for i, task := range tasks {
				if task.State() == taskmanager.StateRunning {
					all = append(all, i)
				} else {
					assert.Contains(t, task.Stats().Status, `waits for lease "x"`)
				}
			}
			assert.LessOrEqual(t, len(all), n)
			return all
		}
		before := running()
		require.Len(t, before, n)
		time.Sleep(ttl)
		require.Equal(t, before, running())

		victim := before[1]
		replicas[victim].store.Cut()
		died := time.Now()
		for len(running()) == n { // it does not know yet
			time.Sleep(beat / 10)
		}
		assert.NotContains(t, running(), victim)
		for len(running()) < n {
			time.Sleep(beat / 10)
		}
		assert.LessOrEqual(t, time.Since(died), ttl+2*beat)
		after := running()
		assert.Contains(t, after, before[0])
		assert.Contains(t, after, before[2])
		for _, i := range []int{before[0], before[2]} {
			assert.EqualValues(t, 1, tasks[i].Stats().Runs)
		}
		replicas[victim].store.Restore()
		time.Sleep(2 * ttl)
		require.Equal(t, after, running())
	})
}

// There are fewer replicas than could hold it: each one holds one, and no more.
func TestOneOfMoreThanReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		const n = 10
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		waiters := []*acquisition{acquire(t, a.OneOf("x", n)), acquire(t, b.OneOf("x", n))}
		for _, w := range waiters {
			w.get()
			assert.LessOrEqual(t, w.took, beat)
		}
		time.Sleep(10 * ttl)
		held := map[string]int{}
		for i := range n {
			if id, _ := server.Holder(fmt.Sprintf("x#%d", i)); id != "" {
				held[id]++
			}
		}
		require.Len(t, held, 2)
		for _, count := range held {
			assert.Equal(t, 1, count)
		}
		releaseAll(waiters)
		requireIdle(t, server, a, b)
	})
}

// n replicas that begin at once each get one soon, though they try the same ones.
func TestOneOfBeginsAtOnce(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			const n = 5
			var replicas []replica
			var waiters []*acquisition
			for i := range n {
				replicas = append(replicas, newReplica(t, server, fmt.Sprint("pod-", i)))
				replicas[i].store.Faults(func(leasetest.Op) leasetest.Fault {
					return leasetest.Fault{Before: time.Millisecond, After: time.Millisecond}
				})
				waiters = append(waiters, acquire(t, replicas[i].OneOf("x", n)))
			}
			for _, w := range waiters {
				w.get()
				assert.LessOrEqual(t, w.took, 200*time.Millisecond)
			}
			releaseAll(waiters)
			for _, r := range replicas {
				r.close()
			}
		})
	}
}

// All of them are tried at the next beat if the engine has not answered one call.
func TestOneOfAfterACallWithoutAnswer(t *testing.T) {
	lost, failed, late := leasetest.Fault{Lost: true}, leasetest.Fault{Err: errors.New("no")}, leasetest.Fault{Before: 2 * beat}
	for _, f := range []leasetest.Fault{lost, lost, lost, failed, failed, failed, late, late, late} { // which is tried first is random
		synctest.Test(t, func(t *testing.T) {
			server := leasetest.NewServer()
			a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
			const n = 40
			var held []*acquisition
			for i := range n {
				held = append(held, b.acquire(fmt.Sprintf("x#%d", i)))
				held[i].get()
			}
			a.store.Next(leasetest.Claim, f)
			w := acquire(t, a.OneOf("x", n))
			held[n/2].hold.Release()
			w.get()
			assert.LessOrEqual(t, w.took, 2*beat)
			releaseAll(append(held, w))
			time.Sleep(ttl)
			requireIdle(t, server, a, b)
		})
	}
}

// When one of many becomes free, all are tried: at once, or at the next beat if they have been tried since the last one. What becomes free
// elsewhere, however often, costs two calls each time.
func TestOneOfManyBecomesFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a, b := newReplica(t, server, "a"), newReplica(t, server, "b")
		const n = 40
		var held []*acquisition
		for i := range n {
			held = append(held, b.acquire(fmt.Sprintf("x#%d", i)))
			held[i].get()
		}
		for i := range 5 {
			w := acquire(t, a.OneOf("x", n))
			time.Sleep(ttl + time.Second)
			w.waits()
			calls := server.Calls(leasetest.Claim)
			const often = 50
			for range often {
				b.acquire("other").get().Release()
				time.Sleep(beat / often / 2)
			}
			synctest.Wait()
			assert.LessOrEqual(t, server.Calls(leasetest.Claim)-calls, often+2*often+2*n, "those of b, and those of a")

			begin := time.Now()
			held[i].hold.Release()
			w.get()
			assert.LessOrEqual(t, time.Since(begin), beat)
			w.hold.Release()
			held[i] = b.acquire(fmt.Sprintf("x#%d", i))
			held[i].get()
		}
		releaseAll(held)
		requireIdle(t, server, a, b)
	})
}

// Which one is tried first is random, so that replicas that begin at once don't all try the same.
func TestOneOfBeginsAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		a := newReplica(t, server, "a")
		const n = 4
		tried := map[int]bool{}
		for range 100 { // that all are the same is as likely as 1 in 4^99
			hold := acquire(t, a.OneOf("x", n)).get()
			for i := range n {
				if id, _ := server.Holder(fmt.Sprintf("x#%d", i)); id != "" {
					tried[i] = true
				}
			}
			hold.Release()
			synctest.Wait()
		}
		assert.Greater(t, len(tried), 1)
		a.close()
	})
}
