package taskmanager

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever sees that a context is done, or that a child of it is, must find an error in it: package context panics if there is none. The
// moment in which that could go wrong is made long by the number of those who wait: to wake them takes a while, and the first look before
// the last are awake. On one core they do if the stop is preempted; so it comes after as much computing as it takes for that.
func TestContextThatIsDoneHasAnError(t *testing.T) {
	const tasks, most, waiters, least = 10, 2000, 2000, 3
	m := quiet()
	var met atomic.Int64 // stops in the middle of which somebody has looked
	for i := 0; i < tasks || i < most && met.Load() < least; i++ {
		var (
			parked, looked sync.WaitGroup
			during         atomic.Bool
			returned       atomic.Bool
			wrong          atomic.Int64
		)
		task, err := m.StartTask("a", func(ctx context.Context) error {
			for w := range waiters {
				parked.Add(1)
				looked.Go(func() {
					done := ctx.Done()
					if w%2 == 0 {
						child, cancel := context.WithCancel(ctx)
						defer cancel()
						done = child.Done()
					}
					parked.Done()
					<-done
					early := !returned.Load()
					if !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(context.Cause(ctx), ErrStopped) {
						wrong.Add(1)
					}
					if early {
						during.Store(true)
					}
				})
			}
			parked.Wait()
			for begin := time.Now(); time.Since(begin) < time.Duration(i%20)*time.Millisecond; {
			}
			self, _ := FromContext(ctx)
			err := self.Stop(ctx) // its own: it ends ctx, and waits for nothing
			returned.Store(true)
			return err
		})
		require.NoError(t, err)
		<-task.Done()
		looked.Wait()
		require.Equal(t, StateStopped, task.State())
		require.Zero(t, wrong.Load(), "of task %d: saw no error, or another", i)
		if during.Load() {
			met.Add(1)
		}
	}
	require.GreaterOrEqual(t, met.Load(), int64(least))
}

// taskOf returns a task that has what its runs' contexts need.
func taskOf(parent context.Context) *Task {
	return configured(&Task{}, &taskConfig{manager: &Manager{values: context.WithoutCancel(parent)}})
}

// Whoever sees the error of a context finds it done, with its cause, whether anybody had called Done before or does so at
// this moment; and of two ends the first counts.
func TestContextThatHasAnErrorIsDone(t *testing.T) {
	asking := map[string]func(r *run){
		"nobody asks":       func(*run) {},
		"Done is called":    func(r *run) { r.Done() },
		"a child is made":   func(r *run) { context.AfterFunc(r, func() {}) },
		"Cause is called":   func(r *run) { _ = context.Cause(r) },
		"a value is wanted": func(r *run) { r.Value("any") },
	}
	for title, ask := range asking {
		t.Run(title, func(t *testing.T) {
			const runs = 1000
			task := taskOf(context.Background())
			for range runs {
				r := &run{task: task}
				var all sync.WaitGroup
				all.Go(func() { ask(r) })
				all.Go(func() {
					for r.Err() == nil {
						runtime.Gosched()
					}
					assert.Equal(t, context.Canceled, r.Err())
					assert.Equal(t, ErrStopped, context.Cause(r))
					select {
					case <-r.Done():
					default:
						assert.Fail(t, "it has an error and is not done")
					}
				})
				r.end(ErrStopped)
				r.end(ErrShutdown)
				all.Wait()
				require.Equal(t, ErrStopped, context.Cause(r))
			}
		})
	}
}

// Between two calls of package context something else may happen: at each moment there are both, an error and a cause, or
// neither, whichever is asked first.
func TestContextErrAndCauseAgreeWhileItEnds(t *testing.T) {
	const runs = 10_000
	task := taskOf(context.Background())
	for i := range runs {
		r := &run{task: task}
		if i%2 == 0 {
			r.Done()
		}
		go func() {
			runtime.Gosched()
			r.end(ErrStopped)
		}()
		for {
			cause, err := context.Cause(r), r.Err()
			require.False(t, cause != nil && err == nil, "a cause without an error")
			if err == nil {
				runtime.Gosched()
				continue
			}
			require.Equal(t, ErrStopped, context.Cause(r))
			break
		}
	}
}

// Many goroutines of a body may look at its context in their inner loops.
func TestContextTakesNoLockOnceDoneWasCalled(t *testing.T) {
	r := &run{task: taskOf(context.Background())}
	done := r.Done()
	answered := make(chan struct{})
	r.task.mu.Lock()
	go func() {
		defer close(answered)
		assert.Equal(t, done, r.Done())
		assert.NoError(t, r.Err())
		assert.NoError(t, context.Cause(r))
		assert.Nil(t, r.Value("any"))
	}()
	select {
	case <-answered:
	case <-time.After(time.Minute): // if the test fails
		t.Error("it waits for the task's lock")
	}
	r.task.mu.Unlock()
	<-answered
}

// The memory of a parked task is that of its Task, to which the first run belongs, and of the context of package context
// that it makes.
func TestContextIsSmall(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(run{}), uintptr(64))
	require.LessOrEqual(t, unsafe.Sizeof(Task{}), uintptr(224))

	task := taskOf(context.Background())
	var r *run
	unasked := testing.AllocsPerRun(100, func() {
		r = &run{task: task}
		r.end(ErrStopped)
	})
	assert.InDelta(t, 1, unasked, 0, "the run")
	asked := testing.AllocsPerRun(100, func() {
		r = &run{task: task}
		r.Done()
		r.end(ErrStopped)
	})
	std := testing.AllocsPerRun(100, func() {
		ctx, cancel := context.WithCancelCause(context.Background())
		ctx.Done()
		cancel(ErrStopped)
	})
	assert.InDelta(t, 1+std, asked, 0, "the run, and what package context needs")
}

// A hostileContext is a parent whose methods must not be called.
type hostileContext struct{ t *testing.T }

func (c hostileContext) Deadline() (deadline time.Time, ok bool) {
	c.t.Error("Deadline has been called")
	return
}

func (c hostileContext) Done() <-chan struct{} {
	c.t.Error("Done has been called")
	return nil
}

func (c hostileContext) Err() error {
	c.t.Error("Err has been called")
	return nil
}

func (c hostileContext) Value(key any) any {
	c.t.Errorf("Value has been called for %v", key)
	return nil
}

// A run's context calls nothing of its parent's but Value, for a key that is not the library's or package context's: so
// the methods of a foreign parent stand in nobody's way.
func TestContextCallsNothingOfItsParent(t *testing.T) {
	for title, early := range map[string]bool{"asked before its end": true, "asked after its end": false} {
		t.Run(title, func(t *testing.T) {
			r := &run{task: taskOf(hostileContext{t})}
			ask := func() {
				r.Deadline()
				require.Nil(t, context.WithoutCancel(r).Done())
				_, _ = r.Err(), context.Cause(r)
				require.Same(t, r, runOf(r))
				require.Nil(t, watchedRunOf(r))
				ctx, cancel := context.WithTimeout(r, time.Hour)
				defer cancel()
				r.Done()
				context.AfterFunc(ctx, func() {})()
				require.Same(t, r, runOf(ctx))
			}
			if early {
				ask()
			}
			r.end(ErrStopped)
			ask()
			require.Equal(t, ErrStopped, context.Cause(r))
		})
	}
}

func TestContextEndedWithoutACause(t *testing.T) {
	for _, asked := range []bool{false, true} {
		r := &run{task: taskOf(context.Background())}
		if asked {
			r.Done()
		}
		r.end(nil)
		require.Equal(t, context.Canceled, r.Err())
		require.Equal(t, context.Canceled, context.Cause(r))
		<-r.Done()
	}
}

// Done may be called first while the run ends: after its end was found to need no inner context, and before it is noted.
func TestContextFirstAskedWhileItEnds(t *testing.T) {
	m := quiet()
	task, err := newTask(m, "a", park, &m.config.task)
	require.NoError(t, err)
	task.driver = firstDriver
	m.aliveCount = 1
	task.decide(&decision{input: beginNow, now: time.Now()})
	r := task.run
	ended := r.Done()
	task.decide(&decision{input: returnedDone, now: time.Now(), open: true, cause: errors.New("why")})
	select {
	case <-ended:
	default:
		assert.Fail(t, "Done is open")
	}
	assert.EqualError(t, context.Cause(r), "why")
}

// Half of the number of a run is enough to know it, for longer than its context can be in use.
func TestContextNumber(t *testing.T) {
	task := taskOf(context.Background())
	for latest, numbers := range map[uint64][]uint64{
		1: {1}, 1<<32 - 1: {1, 1<<32 - 1}, 1 << 32: {1, 1<<32 - 1, 1 << 32}, 3<<32 + 5: {2<<32 + 6, 3<<32 - 1, 3 << 32, 3<<32 + 5},
		5: {7}, // of an earlier life
	} {
		task.runs = latest
		for _, number := range numbers {
			assert.Equal(t, number, (&run{task: task, lowNumber: uint32(number)}).number()) //nolint:gosec // its lower half
		}
	}
}
