package taskmanager

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// restartsWith returns how many allocations a restart takes of a task with that drain.
func restartsWith(t *testing.T, drain time.Duration) float64 {
	t.Helper()
	const restarts = 1000
	m := quiet()
	m.restartLimiter = nil
	parked := make(chan struct{})
	task, err := m.StartTask("a", func(ctx context.Context) error {
		if number := ctx.(*run).task.runs; number%restarts == 0 {
			parked <- struct{}{}
			<-ctx.Done()
		}
		return nil
	}, WithRestart(RestartAlways), WithMaxRestarts(Unlimited), WithBackoff(0, 0), WithDrain(drain))
	require.NoError(t, err)
	<-parked
	allocs := testing.AllocsPerRun(3, func() {
		require.NoError(t, task.Restart(context.Background()))
		<-parked
	})
	require.NoError(t, task.Stop(context.Background()))
	return allocs / restarts
}

// A task that has never been asked to stop, or whose body asks for nothing, has nothing for it, and pays nothing.
func TestDrainCostsNothingUntilItIsAskedFor(t *testing.T) {
	m := quiet()
	given := make(chan context.Context)
	with, err := m.StartTask("with", func(ctx context.Context) error {
		given <- ctx
		<-ctx.Done()
		return nil
	}, WithDrain(time.Millisecond))
	require.NoError(t, err)
	ctx := <-given
	with.mu.Lock()
	assert.Nil(t, with.lazy)
	with.mu.Unlock()

	Draining(ctx)
	assert.Zero(t, testing.AllocsPerRun(100, func() { Draining(ctx) }), "once a run")
	without := &run{task: taskOf(context.Background())}
	without.Done()
	assert.Zero(t, testing.AllocsPerRun(100, func() { Draining(without) }))
	require.NoError(t, m.StopAll(context.Background()))
	with.mu.Lock()
	assert.Nil(t, with.lazy.drain(), "and it is gone with the run")
	with.mu.Unlock()
}

func TestDrainCostsARestartNothing(t *testing.T) {
	assert.InDelta(t, restartsWith(t, 0), restartsWith(t, time.Millisecond), 0.1)
}

// The part of a drain is exact, and does not overflow.
func TestDrainTime(t *testing.T) {
	tests := []struct{ drain, stopTimeout, left, want time.Duration }{
		{0, 20, 20, 0},
		{15, 20, 20, 15},
		{15, 20, 40, 15},
		{15, 20, 10, 7},
		{15, 20, 1, 0},
		{15, 20, 0, 0},
		{15, 20, -5, 0},
		{1, math.MaxInt64, math.MaxInt64 - 1, 0},
		{math.MaxInt64 - 1, math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 - 2},
		{math.MaxInt64 / 2, math.MaxInt64, math.MaxInt64 / 2, math.MaxInt64 / 4},
	}
	now := time.Now()
	for _, test := range tests {
		task := configured(&Task{}, &taskConfig{drain: test.drain, stopTimeout: test.stopTimeout})
		n := &decision{now: now, waiter: &waiter{op: &stopOp{deadline: now.Add(test.left)}}}
		assert.Equal(t, test.want, task.drainTime(n), "%+v", test)
	}
}

// A timer is stopped when its run is over; and one that fires just then says nothing of the next one, which drains by now.
func TestDrainThatPassesTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet()
		task, err := m.StartTask("a", func(ctx context.Context) error {
			<-Draining(ctx)
			time.Sleep(time.Second)
			return nil
		}, WithDrain(2*time.Second))
		require.NoError(t, err)
		synctest.Wait()
		old := task.run
		go func() { _ = task.Restart(context.Background()) }()
		synctest.Wait()
		task.mu.Lock()
		timer := task.lazy.drain().timer
		task.mu.Unlock()
		time.Sleep(1500 * time.Millisecond)
		assert.False(t, timer.Stop(), "it has been stopped")
		_, ok := old.drainsUntil()
		assert.False(t, ok)
		go func() { _ = task.Stop(context.Background()) }()
		synctest.Wait()
		next := task.run
		old.endDrain()
		assert.NoError(t, next.Err())
		<-task.Done()
	})
}

// A deadline that passes while a run drains, because the timers were late, ends its context.
func TestDrainWhoseTimerIsLaterThanTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := quiet()
		ended := make(chan error, 1)
		task, err := m.StartTask("a", func(ctx context.Context) error {
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return nil
		}, WithDrain(4*time.Second))
		require.NoError(t, err)
		synctest.Wait()
		go func() { _ = task.Stop(context.Background()) }()
		synctest.Wait()
		task.mu.Lock()
		task.lazy.drain().timer.Reset(time.Hour)
		task.mu.Unlock()
		began := time.Now()
		require.ErrorIs(t, <-ended, ErrStopped)
		assert.Equal(t, 5*time.Second, time.Since(began))
		<-task.Done()
	})
}

// What StopContext returns just when the body has returned ends all the same.
func TestStopContextThatIsMadeJustWhenTheBodyReturns(t *testing.T) {
	m := quiet()
	task := undriven(t, m, stopping)
	require.NoError(t, task.run.leaveDrain())
	ctx, cancel := StopContext(task.run)
	defer cancel()
	require.NoError(t, ctx.Err())
	task.decide(&decision{input: returnedDone, driver: firstDriver, now: time.Now()})
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}

// It ends while the run is still under way for everybody else: who hears of its end finds it ended.
func TestStopContextEndsBeforeTheRun(t *testing.T) {
	task := undriven(t, quiet(), stopping)
	ctx, cancel := StopContext(task.run)
	defer cancel()
	require.NoError(t, task.run.leaveDrain())
	require.ErrorIs(t, context.Cause(ctx), context.Canceled)
	assert.True(t, task.run.isUnderWay())
}

// What the body has asked for late ends for the same cause as what it has asked for in time.
func TestDrainingThatIsCalledLateHasTheCause(t *testing.T) {
	task := undriven(t, quiet(), stopping)
	task.machine.draining = true
	assert.Equal(t, ErrStopped, context.Cause(task.run.drainingContext()))
	task.run = nil
	assert.Equal(t, context.Canceled, context.Cause(task.firstRun.drainingContext()))
}

// Who asks at the same time gets the same channel.
func TestDrainingThatIsCalledByManyAtOnce(t *testing.T) {
	const rounds, callers = 1000, 4
	m := quiet()
	for range rounds {
		task := undriven(t, m, running)
		c := *task.config()
		c.drain = time.Second
		task.cfg.Store(&c)
		begin, channels := make(chan struct{}), make(chan (<-chan struct{}), callers)
		for range callers {
			go func() {
				<-begin
				channels <- Draining(task.run)
			}()
		}
		close(begin)
		first := <-channels
		for range callers - 1 {
			require.Equal(t, first, <-channels)
		}
	}
}

// What the body of a group has given to its Manager ends with that body.
func TestDrainOfAGroupThatHasReturned(t *testing.T) {
	task := undriven(t, quiet(), running)
	c := *task.config()
	c.drain = time.Second
	task.cfg.Store(&c)
	ctx, release := untilDraining(task.run)
	require.NoError(t, ctx.Err())
	release()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}
