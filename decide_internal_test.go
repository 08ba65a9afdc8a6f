package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whatever is decided about a task in any phase: if its life ends by that, or if it is critical and not gone any more, this is foreseen,
// for the Manager's lock has to be held then. A decision that is not foreseen would change the Manager under the eyes of others; and one for which the lock is held in vain
// makes others wait.
func TestDecideForeseesTheEndOfALife(t *testing.T) {
	verdicts := map[string]verdict{
		"no verdict": {}, "restart": {known: true}, "give up": {known: true, final: true},
		"policy": {known: true, final: true, err: errors.New("why")},
	}
	ends := 0
	for p := range phases {
		for in := range inputs {
			if in == revived || in == askedReplace || in == becameOverdue && p != running {
				continue // of two the lock is held whatever follows; of the third the driver asks before
			}
			for name, v := range verdicts {
				if in == judgedRestart && !v.known {
					continue // it brings one
				}
				for _, limit := range []int{0, 1, Unlimited} {
					for _, driven := range []uint32{0, 1} {
						for i := range 4 {
							parentDone, critical := i&1 != 0, i&2 != 0
							opts := []Option{WithMaxRestarts(limit)}
							if critical {
								opts = append(opts, WithCritical())
							}
							m := quiet(opts...)
							m.criticalExits = map[string]criticalExit{"a": {}} // that of an earlier run
							task := undriven(t, m, p)
							task.record = &record{judged: runEnd{err: errors.New("boom")}, judgedAt: time.Now()}
							n := decision{input: in, request: stopRequest, verdict: v, driver: driven, parentDone: parentDone, now: time.Now()}
							if in == becameOverdue {
								s := newStopOp(m, overdueRequest, time.Hour)
								s.overdue = &overdueRun{&watchedRun{run: task.run}, &OverdueError{Err: ErrWatchdog}}
								n.waiter = &waiter{op: s}
							}
							if pendingIn[p] == replaceRequest {
								s := newStopOp(m, replaceRequest, time.Hour)
								s.replacement = &replacement{task: configured(&Task{name: "a"}, task.config())}
								task.waiters = &waiter{op: s}
							}
							task.lazyLocked().wake = make(chan struct{}, 1)
							task.lazy.parked = true // nobody is replaced
							foreseen := task.concernsManagerLocked(&n)
							life := task.record
							task.decideLocked(&n)
							assert.Equal(t, task.machine.phase, n.phase, "where it says that the task is")
							if v.known && p != judging {
								assert.NotEqual(t, judging, n.phase, "there is nothing to ask")
							}
							ended := m.aliveCount == 0
							if ended {
								ends++
							}
							replaced := task.record != life
							concerns := ended || replaced || critical && len(m.criticalExits) == 0
							if concerns || driven == 0 || !parentDone { // a driver of a task that is to stop may hold it in vain
								assert.Equal(t, concerns, foreseen, "phase %v, input %v, %s, limit %d, driver %d, parent done %v, critical %v",
									p, in, name, limit, driven, parentDone, critical)
							}
						}
					}
				}
			}
		}
	}
	assert.Greater(t, ends, 100)
}

// Who asks for a replacement looks at the registry, for a cycle and for the name, also where it is refused.
func TestDecideAboutAReplacementWithTheLockOfTheManager(t *testing.T) {
	for p := range phases {
		assert.True(t, undriven(t, quiet(), p).concernsManagerLocked(&decision{input: askedReplace}), "%v", p)
	}
}

// While the Manager's lock is awaited for what seemed to be the end of a life, the task may get into a phase in which it is none: what
// follows is found out again.
func TestDecideAboutATaskThatHasBecomeOverdue(t *testing.T) {
	m := quiet()
	task := undriven(t, m, running)
	n := decision{input: returnedDone, driver: firstDriver, verdict: verdict{known: true}, now: time.Now(), end: runEnd{err: errors.New("late")}}
	m.mu.Lock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		task.decide(&n)
	}()
	waitsForLock(t, ").decide(")
	task.mu.Lock()
	task.machine = machine{phase: overdue, pending: overdueRequest}
	task.mu.Unlock()
	m.mu.Unlock()
	<-done
	assert.Equal(t, inBackoff, n.phase)
}

// The context of a run has ended when anybody hears that the run is over. One whose Done has been called is ended by package context,
// before that or right after.
func TestDecideEndsTheContextWithTheRun(t *testing.T) {
	why := errors.New("why")
	for _, open := range []bool{true, false} {
		task := undriven(t, quiet(), running)
		r := task.run
		if !open {
			r.end(why)
		}
		n := decision{open: open, cause: why}
		task.mu.Lock()
		task.endRunLocked(&n)
		require.Equal(t, context.Canceled, r.Err())
		assert.Equal(t, why, r.inner)
		assert.Nil(t, n.cancel, "there is nothing left to end")
		assert.Nil(t, task.run)
		task.mu.Unlock()
	}
	task := undriven(t, quiet(), running)
	n := decision{open: true, cause: why}
	r := task.run
	require.NoError(t, r.Err())
	r.Done() // just now
	task.mu.Lock()
	task.endRunLocked(&n)
	task.mu.Unlock()
	assert.Same(t, r, n.cancel)
}

// Two things that happen at once are told one after the other, each as it is.
func TestDecideTellsTwoThingsAtOnce(t *testing.T) {
	boom := errors.New("boom")
	t.Run("one is for the caller to log", func(t *testing.T) {
		task := undriven(t, quiet(), stuck)
		reserved := &occurrence{kind: EventStuck, run: 1, uptime: time.Hour}
		task.record = &record{stuckEvent: reserved}
		n := decision{input: returnedAgain, driver: firstDriver, canLog: true, now: time.Now(), end: runEnd{err: boom, uptime: time.Minute}}
		task.decide(&n)
		require.True(t, n.line)
		assert.Equal(t, *reserved, n.told)
		require.Len(t, task.lazy.lines, 1)
		assert.Equal(t, EventStopped, task.lazy.lines[0].kind)
		assert.Equal(t, boom, task.lazy.lines[0].err)
	})
	t.Run("both are left to another one", func(t *testing.T) {
		task := undriven(t, quiet(), judging)
		task.record = &record{judged: runEnd{err: boom, run: 1, uptime: time.Minute}, judgedAt: time.Now()}
		n := decision{input: askedStop, request: stopRequest, now: time.Now()}
		task.lazyLocked().wake = make(chan struct{}, 1)
		task.lazy.parked = true // nobody is replaced
		task.decide(&n)
		require.Len(t, task.lazy.lines, 2)
		assert.Equal(t, EventFailed, task.lazy.lines[0].kind)
		assert.Equal(t, boom, task.lazy.lines[0].err)
		assert.Equal(t, time.Minute, task.lazy.lines[0].uptime)
		assert.Equal(t, occurrence{kind: EventStopped, request: stopRequest, now: n.now, cause: ErrStopped}, task.lazy.lines[1])
	})
}

// That a task was stuck is told when its body returns before it was, and logged after it has been judged, if that takes user code: the
// handler of that line may hang.
func TestDecideLeavesTheLineOfAStuckTaskThatIsJudged(t *testing.T) {
	for name, judged := range map[string]bool{"judged": true, "known": false} {
		task := undriven(t, quiet(), overdueStuck)
		task.record = &record{stuckEvent: &occurrence{kind: EventStuck}}
		n := decision{input: returnedAgain, driver: task.driver, now: time.Now(), canLog: true, end: runEnd{err: errors.New("boom")}}
		n.verdict.known = !judged
		task.decide(&n)
		assert.Equal(t, judged, task.machine.phase == judging, name)
		assert.Nil(t, task.record.stuckEvent, name)
		assert.Equal(t, !judged, n.line, name)
		assert.Len(t, task.lazy.lines, 1, "%s: the other is that of the failure", name)
	}
}

// One that was stuck, of which that is told when its body returns, names those that it takes down, and its failure those that wait.
func TestDecideNamesTheDependentsOfAStuckTask(t *testing.T) {
	m := quiet()
	for _, name := range []string{"waits", "runs"} {
		d, err := newTask(m, name, nil, &taskConfig{manager: m, dependsOn: []string{"a"}})
		require.NoError(t, err)
		m.addDependentLocked(d)
		if name == "runs" {
			d.state.Store(uint32(StateRunning))
		}
	}
	m.watchReadiness("a")
	task := undriven(t, m, overdueStuck)
	task.record = &record{stuckEvent: &occurrence{kind: EventStuck}}
	events := m.Subscribe(t.Context())
	task.decide(&decision{input: returnedAgain, driver: firstDriver, now: time.Now(), end: runEnd{err: errors.New("boom")}, verdict: verdict{known: true}})
	var got []string
	for range 2 {
		e := <-events
		got = append(got, fmt.Sprint(e.Kind, e.Dependents, e.DependentCount))
	}
	assert.Equal(t, []string{"stuck [runs waits] 2", "failed [waits] 1"}, got)
}

// A task that fails again and again does not look at all of those that depend on it, and run meanwhile.
func TestDecideLooksForNobodyThatRuns(t *testing.T) {
	m := quiet()
	for i := range 1000 {
		d, err := newTask(m, fmt.Sprint(i), nil, &taskConfig{manager: m, dependsOn: []string{"a"}})
		require.NoError(t, err)
		m.addDependentLocked(d)
		d.state.Store(uint32(StateRunning))
	}
	task := undriven(t, m, running)
	n := decision{input: returnedAgain, driver: firstDriver, now: time.Now(), end: runEnd{err: errors.New("boom")}, verdict: verdict{known: true}}
	task.decide(&n)
	require.Equal(t, inBackoff, task.machine.phase)
	assert.Zero(t, testing.AllocsPerRun(10, func() { n.findDependents(task, publishRunEnd) }))
	assert.Nil(t, n.holdsUp)
	assert.Nil(t, n.takesDown)
}
