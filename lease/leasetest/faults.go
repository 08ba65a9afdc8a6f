package leasetest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease"
)

// A Place is where the replicas of a [Fleet] meet: a pool that is empty, and what they write to.
type Place struct {
	Config  string         // for [RunReplica]
	Proxied string         // the same, but that the engine is reached by way of Proxy, and what is written to is not
	Proxy   *Proxy         // nil if Proxied is empty
	Store   lease.Store    // of the pool, for an [Observer]
	Writes  func() []Write // what has been written so far, in that order
}

// The times of the faults. With hiccupTTL, a cut of half of it leaves a busy machine a second to find to the server again.
const (
	faultTTL  = 3 * time.Second
	hiccupTTL = 8 * time.Second
)

// RunFaults checks that, whatever happens to a holder and to the network, nobody writes with an older token than somebody before, and
// how fast the next one goes on. Each fault is a subtest, which calls newPlace once. More are those of an engine alone. TestMain must call
// [RunReplica].
func RunFaults(t *testing.T, newPlace func(t *testing.T) Place, more ...Subtest) {
	t.Run("Stop", func(t *testing.T) { StopEach(t, newPlace(t), 4) }) // alone, as nothing else takes less than a second
	atOnce(t, append(more,
		Subtest{"Kill", func(t *testing.T) { KillEach(t, newPlace(t), 3) }},
		Subtest{"Freeze", func(t *testing.T) { Freeze(t, newPlace(t), 1) }},
		Subtest{"CutHolder", func(t *testing.T) { cutHolder(t, newPlace(t)) }},
		Subtest{"CutAll", func(t *testing.T) { cutAll(t, newPlace(t)) }},
		Subtest{"Hiccups", func(t *testing.T) { hiccups(t, newPlace(t)) }},
	))
}

// A Subtest is one more of [RunFaults].
type Subtest struct {
	Name string
	Test func(t *testing.T)
}

// atOnce runs subtests at the same time, all of them: they wait more than they compute. Those of [testing.T.Parallel] would be as many as
// there are processors.
func atOnce(t *testing.T, subtests []Subtest) {
	var all sync.WaitGroup
	for _, s := range subtests {
		all.Go(func() { t.Run(s.Name, s.Test) })
	}
	all.Wait()
}

// StopEach starts n replicas, and stops whichever executes until one is left: the next body begins after the end of the one before, and
// not later than people notice.
func StopEach(t *testing.T, place Place, n int) {
	f := startAll(t, place, n, place.Config, faultTTL)
	last := f.NextRun(0)
	for range n - 1 {
		f.observe(n)
		n--
		last = f.handOver(last)
	}
	f.of(last).stop()
	f.RequireOrder(0)
}

// KillEach starts n replicas, and kills whichever executes until one is left: the next body begins within a TTL and two beats.
func KillEach(t *testing.T, place Place, n int) {
	f := startAll(t, place, n, place.Config, faultTTL)
	last := f.NextRun(0)
	for range n - 1 {
		f.observe(n)
		n--
		killed := time.Now()
		f.of(last).kill()
		next := f.NextRun(last.Token)
		f.requireInTime(killed, next)
		last = next
	}
	f.of(last).stop()
	f.RequireOrder(0)
}

// Freeze freezes a replica for three TTLs, between a look at its context and the write that follows. Another one executes by then. Late
// is how many writes come after those of the next holder: that one, or none where it is refused.
func Freeze(t *testing.T, place Place, late int) {
	f := startAll(t, place, 2, place.Config, faultTTL)
	first := f.NextRun(0)
	f.observe(2)
	holder := f.of(first)
	holder.hold()
	frozen := time.Now()
	holder.freeze()
	second := f.NextRun(first.Token)
	f.requireInTime(frozen, second)
	time.Sleep(time.Until(frozen.Add(3 * faultTTL))) // how long it is frozen
	holder.resume()
	holder.thaw()
	f.End(first.Token)
	assert.Equal(t, 1-late, f.Events("refused"))
	f.StopAll()
	f.RequireOrder(late)
}

// cutHolder cuts off the replica that executes, which can go on writing: its body ends before the next one begins.
func cutHolder(t *testing.T, place Place) {
	f := NewFleet(t, place, faultTTL)
	f.Start("a", place.Proxied)
	first := f.NextRun(0)
	f.Start("b", place.Config)
	f.observe(2)
	cut := time.Now()
	place.Proxy.SetCut(true)
	second := f.NextRun(first.Token)
	f.requireInTime(cut, second)
	f.requireEndInTime(cut, first)
	assert.True(t, second.At.After(f.End(first.Token).At), "two bodies execute")
	place.Proxy.SetCut(false)
	f.of(second).stop()
	assert.Equal(t, "a", f.NextRun(second.Token).Replica, "it is there again")
	f.StopAll()
	f.RequireOrder(0)
}

// cutAll cuts off all: nobody executes until that is over.
func cutAll(t *testing.T, place Place) {
	f := startAll(t, place, 2, place.Proxied, faultTTL)
	first := f.NextRun(0)
	f.observe(2)
	cut := time.Now()
	place.Proxy.SetCut(true)
	f.requireEndInTime(cut, first)
	time.Sleep(2 * faultTTL) // so long nobody begins
	require.Equal(t, 1, f.Events("begin"))
	place.Proxy.SetCut(false)
	f.NextRun(first.Token)
	f.StopAll()
	f.RequireOrder(0)
}

// hiccups cuts off all for half a TTL, three times: nobody notices.
func hiccups(t *testing.T, place Place) {
	f := startAll(t, place, 2, place.Proxied, hiccupTTL)
	f.NextRun(0)
	o := f.observe(2)
	for range 3 {
		place.Proxy.SetCut(true)
		time.Sleep(hiccupTTL / 2) // the length of the hiccup
		place.Proxy.SetCut(false)
		o.AwaitBeats(2)
	}
	f.requireOneToken()
	f.StopAll()
	f.RequireOrder(0)
}

// RestartServer has the server of a place end and start again under two replicas, which do not notice it, though both find it gone; and
// a hand-over is as fast as before.
func RestartServer(t *testing.T, place Place, end, start func()) {
	f := NewFleet(t, place, LongTTL)
	f.beat = LongBeat
	f.startAll(2, place.Config)
	first := f.NextRun(0)
	o := f.observe(2)
	end()
	time.Sleep(2 * LongBeat) // how long it is away at the least
	start()
	o.AwaitBeats(1)
	f.requireOneToken()
	o.AwaitBeats(1) // all watch again
	f.handOver(first)
	f.StopAll()
	f.RequireOrder(0)
}

// startAll starts n replicas, named a, b and so on.
func startAll(t *testing.T, place Place, n int, config string, ttl time.Duration) *Fleet {
	f := NewFleet(t, place, ttl)
	f.startAll(n, config)
	return f
}

func (f *Fleet) startAll(n int, config string) {
	f.t.Helper()
	for i := range n {
		f.Start(string(rune('a'+i)), config)
	}
}

// handOver stops the replica that executes, and returns the next run.
func (f *Fleet) handOver(last Event) (next Event) {
	f.t.Helper()
	f.of(last).stop()
	next = f.NextRun(last.Token)
	took := next.At.Sub(f.End(last.Token).At)
	assert.Positive(f.t, took, "two bodies execute")
	assert.Less(f.t, took, 200*time.Millisecond)
	f.t.Log("handed over after", took)
	return next
}

// observe returns an observer of the n replicas that run, once all of them take part.
func (f *Fleet) observe(n int) *Observer {
	f.t.Helper()
	if f.observer == nil {
		f.observer = NewObserver(f.t, f.place.Store)
	}
	f.observer.AwaitSessions(n)
	f.observer.AwaitBeats(1) // all watch by then
	return f.observer
}

// StopAll stops all replicas that run, as services that end, and returns when they have.
func (f *Fleet) StopAll() {
	f.t.Helper()
	for _, p := range f.all {
		select {
		case <-p.exited:
		default:
			p.stop()
		}
	}
}

// requireInTime requires that a run has begun within a TTL and two beats after a fault.
func (f *Fleet) requireInTime(fault time.Time, begin Event) {
	f.t.Helper()
	took := begin.At.Sub(fault)
	assert.Less(f.t, took, f.ttl+2*f.beat)
	f.t.Log("the next one began after", took)
}

// requireEndInTime requires that a run that was cut off has ended before a TTL.
func (f *Fleet) requireEndInTime(cut time.Time, begin Event) {
	f.t.Helper()
	assert.Less(f.t, f.End(begin.Token).At.Sub(cut), f.ttl)
}

// requireOneToken requires that one body has begun, and executes.
func (f *Fleet) requireOneToken() {
	f.t.Helper()
	require.Equal(f.t, 1, f.Events("begin"))
	require.Zero(f.t, f.Events("end"))
}

// RequireOrder requires that each run has written, and that writes with an older token than one before are as many as late says.
func (f *Fleet) RequireOrder(late int) {
	f.t.Helper()
	var newest uint64
	older := 0
	runs := map[uint64]string{}
	for _, w := range f.place.Writes() {
		if w.Token < newest {
			older++
		}
		newest = max(newest, w.Token)
		if name, ok := runs[w.Token]; ok {
			assert.Equal(f.t, name, w.Replica, "two have token %d", w.Token)
		}
		runs[w.Token] = w.Replica
	}
	assert.Equal(f.t, late, older, "writes that are late")
	assert.Len(f.t, runs, f.Events("begin"), "each run has written")
}
