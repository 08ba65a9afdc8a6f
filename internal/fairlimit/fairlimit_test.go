package fairlimit_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager/internal/fairlimit"
)

// A scene is a Limiter with those that wait for it, in a bubble.
type scene struct {
	*fairlimit.Limiter
	began time.Time

	mu     sync.Mutex // guards what follows, and the result of each waiter
	served []string   // in the order in which they got their turns
}

func newScene(l *fairlimit.Limiter) *scene { return &scene{Limiter: l, began: time.Now()} }

// A waiter is a call of Wait.
type waiter struct {
	scene *scene
	name  string
	wake  chan struct{}
	result
}

// A result is zero until the call has returned.
type result struct {
	ended, granted bool
	at             time.Duration // since the scene began
}

// wait returns when the waiter has its turn or its place in the queue.
func (s *scene) wait(name string) *waiter {
	w := &waiter{scene: s, name: name, wake: make(chan struct{}, 1)}
	go func() {
		granted := s.Wait(w.wake)
		s.mu.Lock()
		defer s.mu.Unlock()
		w.result = result{true, granted, time.Since(s.began)}
		if granted {
			s.served = append(s.served, name)
		}
	}()
	synctest.Wait()
	return w
}

func (w *waiter) got() result {
	w.scene.mu.Lock()
	defer w.scene.mu.Unlock()
	return w.result
}

func (s *scene) order() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.served)
}

// giveUp returns when the waiter has given its place up, which takes no time.
func (w *waiter) giveUp(t *testing.T) {
	t.Helper()
	w.wake <- struct{}{}
	synctest.Wait()
	require.Equal(t, result{true, false, time.Since(w.scene.began)}, w.got(), w.name)
}

// finish waits for those that still wait.
func (s *scene) finish() {
	time.Sleep(time.Hour)
	synctest.Wait()
}

func (w *waiter) assertGranted(t *testing.T, at time.Duration) {
	t.Helper()
	assert.Equal(t, result{true, true, at}, w.got(), w.name)
}

func TestWaitKeepsTheRate(t *testing.T) {
	for _, c := range []struct {
		limit rate.Limit
		burst int
		turn  time.Duration
	}{
		{1, 1, time.Second},
		{1, 3, time.Second},
		{4, 1, time.Second / 4},
		{0.5, 2, 2 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newScene(fairlimit.New(c.limit, c.burst))
			for round := range 2 { // after a long rest the burst is back, and no more than that
				began := time.Now()
				for i := range 10 {
					require.True(t, l.Wait(nil))
					require.Equal(t, c.turn*time.Duration(max(0, i-c.burst+1)), time.Since(began), "round %d, turn %d", round, i)
				}
				time.Sleep(time.Hour)
			}
		})
	}
}

func TestWaitServesInTheOrderOfAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(fairlimit.New(1, 1))
		var waiters []*waiter
		for i := range 5 {
			waiters = append(waiters, s.wait(strconv.Itoa(i)))
		}
		waiters[0].assertGranted(t, 0)
		time.Sleep(2500 * time.Millisecond)
		late := s.wait("late")
		s.finish()
		for i, w := range waiters {
			w.assertGranted(t, time.Duration(i)*time.Second)
		}
		late.assertGranted(t, 5*time.Second)
		assert.Equal(t, []string{"0", "1", "2", "3", "4", "late"}, s.order())
	})
}

// Its reservation is given back: the next one waits no longer for it.
func TestWaitGivenUpByTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(fairlimit.New(1, 1))
		s.wait("before")
		first, second, third := s.wait("first"), s.wait("second"), s.wait("third")
		time.Sleep(250 * time.Millisecond)
		first.giveUp(t)
		s.finish()
		second.assertGranted(t, time.Second)
		third.assertGranted(t, 2*time.Second)
	})
}

// Nobody else is disturbed, and nobody becomes the first before his time.
func TestWaitGivenUpByOthersThanTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(fairlimit.New(1, 1))
		s.wait("before")
		first, second, third := s.wait("first"), s.wait("second"), s.wait("third")
		fourth, last := s.wait("fourth"), s.wait("last")
		time.Sleep(250 * time.Millisecond)
		for _, w := range []*waiter{second, fourth, last} {
			w.giveUp(t)
		}
		s.finish()
		first.assertGranted(t, time.Second)
		third.assertGranted(t, 2*time.Second)
		assert.Equal(t, []string{"before", "first", "third"}, s.order())
	})
}

// There is nobody to whom its turn could go: it is there for who comes next.
func TestWaitGivenUpByTheOnlyOne(t *testing.T) {
	for _, pause := range []time.Duration{0, 250 * time.Millisecond, 750 * time.Millisecond, time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			s := newScene(fairlimit.New(1, 1))
			s.wait("before")
			only := s.wait("only")
			time.Sleep(250 * time.Millisecond)
			only.giveUp(t)
			time.Sleep(pause)
			next, afterNext := s.wait("next"), s.wait("after next")
			s.finish()
			at := max(time.Second, 250*time.Millisecond+pause)
			next.assertGranted(t, at)
			afterNext.assertGranted(t, at+time.Second)
		})
	}
}

func TestWaitGivenUpByAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(fairlimit.New(1, 2))
		s.wait("before")
		s.wait("before, too")
		wake := make(chan struct{})
		for range 1000 {
			go func() { assert.False(t, s.Wait(wake)) }()
		}
		synctest.Wait()
		close(wake)
		synctest.Wait()
		assert.Zero(t, time.Since(s.began))
		next := s.wait("next")
		s.finish()
		next.assertGranted(t, time.Second)
	})
}

// Who finds a turn has it, and leaves in wake what is in there.
func TestWaitTakesATurnThatIsLeft(t *testing.T) {
	l := fairlimit.New(1, 100)
	wake := make(chan struct{}, 1)
	wake <- struct{}{}
	for range 100 {
		require.True(t, l.Wait(wake))
	}
	assert.Len(t, wake, 1)
}

// There is no place in the queue to be made as long as nobody has to wait.
func TestWaitForATurnThatIsLeftAllocatesNothing(t *testing.T) {
	l := fairlimit.New(1, 1000)
	assert.Zero(t, testing.AllocsPerRun(100, func() { l.Wait(nil) }))
}

// Whoever comes and gives up, and whenever: the turns are those of a bucket of tokens and a queue. A tick is a quarter of the time
// that a token takes.
func TestWaitAsAQueueAndABucket(t *testing.T) {
	const (
		tick   = 250 * time.Millisecond
		aToken = 4
	)
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			var (
				random = rand.New(rand.NewPCG(seed, 0))
				burst  = 1 + int(seed%4)
				s      = newScene(fairlimit.New(1, burst))
				tokens = burst * aToken
				queue  []*waiter
				want   []string
			)
			grant := func(w *waiter) {
				tokens -= aToken
				want = append(want, w.name)
				w.assertGranted(t, time.Since(s.began))
			}
			for now := range 300 {
				for range random.IntN(3) * random.IntN(2) {
					w := s.wait(strconv.Itoa(now))
					if len(queue) == 0 && tokens >= aToken {
						grant(w)
					} else {
						queue = append(queue, w)
					}
				}
				for len(queue) > 0 && random.IntN(4) == 0 {
					i := random.IntN(len(queue)) * random.IntN(2) // each second time it is the first
					queue[i].giveUp(t)
					queue = slices.Delete(queue, i, i+1)
				}
				for _, w := range queue {
					require.Zero(t, w.got(), w.name)
				}
				time.Sleep(tick)
				synctest.Wait()
				for tokens = min(tokens+1, burst*aToken); len(queue) > 0 && tokens >= aToken; queue = queue[1:] {
					grant(queue[0])
				}
				require.Equal(t, want, s.order())
			}
			assert.Greater(t, len(want), 50)
			s.finish()
		})
	}
}

func TestAllow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := fairlimit.New(1, 2)
		assert.True(t, l.Allow())
		assert.True(t, l.Allow())
		assert.False(t, l.Allow(), "none is left")

		turns := make(chan bool, 1)
		go func() { turns <- l.Wait(nil) }()
		time.Sleep(time.Second - 1)
		synctest.Wait()
		assert.False(t, l.Allow(), "somebody waits")
		time.Sleep(time.Nanosecond)
		assert.True(t, <-turns)
		assert.False(t, l.Allow(), "that was for the other one")
		time.Sleep(time.Second)
		assert.True(t, l.Allow())
	})
}
