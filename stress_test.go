package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// A witness watches the bodies of one Manager from outside.
type witness struct {
	t       *testing.T
	manager *taskmanager.Manager
	entered atomic.Uint64
	left    atomic.Uint64
	doubles atomic.Uint64 // runs that met another one of their name
	inside  sync.Map      // name -> *atomic.Int64
	nested  bool          // the Manager's parent context is that of a task
}

// body ends in every way that there is, by chance, in most cases soon.
func (w *witness) body(ctx context.Context) error {
	task, ok := taskmanager.FromContext(ctx)
	if !ok {
		w.t.Error("a body without a task")
		return nil
	}
	counter, _ := w.inside.LoadOrStore(task.Name(), new(atomic.Int64))
	inside := counter.(*atomic.Int64)
	w.entered.Add(1)
	if inside.Add(1) != 1 {
		w.doubles.Add(1)
	}
	defer func() {
		inside.Add(-1)
		w.left.Add(1)
	}()
	for range rand.IntN(4) {
		runtime.Gosched()
	}
	switch rand.IntN(12) {
	case 0:
		return nil
	case 1:
		return errWhy
	case 2:
		return backoff.Permanent(errWhy)
	case 3:
		panic(errWhy)
	case 4:
		runtime.Goexit()
		return nil
	case 5:
		return context.Canceled
	case 6:
		return task.Stop(ctx)
	case 7:
		if err := task.Restart(ctx); errors.Is(err, taskmanager.ErrStopped) {
			return err
		}
		return nil // not the news that it is stuck itself, which would say that something below it is
	case 8: // needs a while to stop, longer than some wait
		<-ctx.Done()
		for range 100 {
			runtime.Gosched()
		}
		return ctx.Err()
	case 9:
		taskmanager.SetStatus(ctx, "waiting")
		<-ctx.Done()
		panic("after the stop")
	default:
		return untilStopped(ctx)
	}
}

// harass does n operations by chance on tasks of those names.
func (w *witness) harass(n int, names []string) {
	m := w.manager
	background := context.Background()
	gone, leave := context.WithCancel(background)
	leave()
	var task *taskmanager.Task
	for range n {
		name := names[rand.IntN(len(names))]
		ctx, cancel := background, context.CancelFunc(func() {})
		switch rand.IntN(4) {
		case 0:
			ctx = gone
		case 1:
			ctx, cancel = context.WithTimeout(background, time.Duration(rand.IntN(200))*time.Microsecond)
		}
		var err error
		operation := rand.IntN(12)
		switch operation {
		case 0, 1, 2:
			var started *taskmanager.Task
			var opts []taskmanager.TaskOption
			if rand.IntN(3) == 0 {
				opts = append(opts, taskmanager.WithBackOffPolicy(func() backoff.BackOff { return policyFunc(delayByChance) }))
			}
			if started, err = m.StartTask(name, w.body, opts...); err == nil {
				task = started
			}
		case 3, 4:
			err = m.StopTask(ctx, name)
		case 5, 6:
			err = m.RestartTask(ctx, name)
		case 7:
			if task != nil {
				err = task.Stop(ctx)
			}
		case 8:
			if task != nil {
				err = task.Restart(ctx)
			}
		case 9:
			if rand.IntN(8) == 0 {
				err = m.StopAll(ctx)
			}
		case 10:
			s := m.Stats()
			assert.Len(w.t, s.Tasks, s.Waiting+s.Running+s.Backoff+s.Stopping+s.Stuck+s.Completed+s.Failed+s.Stopped)
		case 11:
			m.IsRunning(name)
			for other := range m.Tasks() {
				_ = other.Stats()
				_ = other.Err()
			}
		}
		cancel()
		var stuck *taskmanager.StopTimeoutError
		switch {
		case err == nil,
			errors.Is(err, taskmanager.ErrTaskRunning), errors.Is(err, taskmanager.ErrTaskNotRunning),
			errors.Is(err, taskmanager.ErrTaskNotFound), errors.Is(err, taskmanager.ErrStopped),
			errors.Is(err, taskmanager.ErrManagerClosed), errors.Is(err, taskmanager.ErrShutdown):
		case errors.As(err, &stuck) && (operation == 5 || operation == 6 || operation == 8):
			// A task that is stuck by somebody else's deadline is not restarted by anybody.
		case errors.Is(err, taskmanager.ErrRestarted) && (operation == 5 || operation == 6 || operation == 8):
			// Somebody else's restart has timed out, and the task has stopped for that.
		case errors.Is(err, taskmanager.ErrRestarted) && w.nested:
			// The task around the Manager was restarted, which is why its own tasks were stopped.
		case errors.As(err, &stuck), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
			if ctx == background {
				w.t.Errorf("no deadline was near: %v", err)
			}
		default:
			w.t.Errorf("an error that nobody expects: %v", err)
		}
	}
}

// settleUp checks the accounts when all tasks have ended.
func (w *witness) settleUp() {
	w.t.Helper()
	assert.Zero(w.t, w.doubles.Load(), "two bodies of one name")
	assert.Equal(w.t, w.entered.Load(), w.left.Load(), "a body is an orphan")
	assert.Equal(w.t, w.entered.Load(), w.manager.Stats().Runs)
	for task := range w.manager.Tasks() {
		assert.True(w.t, task.State().Ended(), "%s is %v", task.Name(), task.State())
	}
}

// delayByChance is a policy, which may also give up or call Goexit.
func delayByChance() time.Duration {
	switch rand.IntN(8) {
	case 0:
		return backoff.Stop
	case 1:
		runtime.Goexit()
	}
	runtime.Gosched()
	return time.Duration(rand.IntN(20)) * time.Microsecond
}

func newWitness(t *testing.T, opts ...taskmanager.Option) *witness {
	t.Helper()
	return &witness{t: t, manager: mustNew(t, append([]taskmanager.Option{
		taskmanager.WithBackoff(20*time.Microsecond, 100*time.Microsecond), taskmanager.WithRestartLimit(rate.Inf, 0),
		taskmanager.WithMaxRestarts(20), taskmanager.WithHistory(4), taskmanager.WithStopTimeout(time.Minute),
	}, opts...)...)}
}

// Every operation, from many goroutines, on few names, while the bodies end in every way.
func TestStressOneBodyPerName_Promise1(t *testing.T) {
	const goroutines, each, rounds = 8, 1500, 100
	w := newWitness(t)
	names := []string{"a", "b", "c", "d", "e", "f"}
	// How much happens in a round depends on the machine, and on its number of cores.
	enough := func() bool { return w.entered.Load() > goroutines*each/20 && w.manager.Stats().Panics > 0 }
	for round := 0; round < rounds && !enough(); round++ {
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() { w.harass(each, names) })
		}
		wg.Wait()
		require.NoError(t, w.manager.StopAll(t.Context()))
		w.settleUp()
	}
	require.True(t, enough(), "too little has happened")
	require.NoError(t, w.manager.Shutdown(t.Context()))
}

// The same under the fleet-wide limit and without delay: other ways through a pause.
func TestStressOneBodyPerNameUnderTheRestartLimit_Promise1(t *testing.T) {
	const goroutines, each = 4, 1000
	w := newWitness(t, taskmanager.WithBackoff(0, 0), taskmanager.WithRestartLimit(20_000, 1))
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() { w.harass(each, []string{"a", "b", "c"}) })
	}
	wg.Wait()
	require.NoError(t, w.manager.StopAll(t.Context()))
	w.settleUp()
	require.NoError(t, w.manager.Shutdown(t.Context()))
}

// A task in a task: still one body of each name in each Manager at any time, and with the outer one all is over.
func TestStressOneBodyPerNameWhenNested_Promise1(t *testing.T) {
	w := newWitness(t)
	var inside atomic.Int64
	outer := start(t, w.manager, "outer", func(ctx context.Context) error {
		assert.EqualValues(t, 1, inside.Add(1))
		defer inside.Add(-1)
		w.entered.Add(1)
		defer w.left.Add(1)
		inner := newWitness(t, taskmanager.WithContext(ctx))
		inner.nested = true
		for range 3 {
			if _, err := inner.manager.StartTask(fmt.Sprint(rand.IntN(3)), inner.body); err != nil &&
				!errors.Is(err, taskmanager.ErrTaskRunning) && !errors.Is(err, taskmanager.ErrManagerClosed) {
				t.Error(err)
			}
		}
		inner.harass(20, []string{"0", "1", "2"})
		if rand.IntN(2) == 0 {
			<-ctx.Done()
		}
		err := inner.manager.Shutdown(context.WithoutCancel(ctx))
		inner.settleUp()
		return errors.Join(err, errWhy)
	}, taskmanager.WithMaxRestarts(taskmanager.Unlimited))
	for range 50 {
		require.NoError(t, outer.Restart(t.Context()))
	}
	require.NoError(t, outer.Stop(t.Context()))
	w.settleUp()
}

// starters start tasks of names that are their own until they are told to end, or refused for good.
type starters struct {
	mu      sync.Mutex
	started []*taskmanager.Task // StartTask has returned
	end     atomic.Bool
	wg      sync.WaitGroup
}

func (s *starters) all() []*taskmanager.Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*taskmanager.Task(nil), s.started...)
}

func startStarters(w *witness, refused error) *starters {
	s := &starters{}
	for g := range 4 {
		s.wg.Go(func() {
			for i := 0; !s.end.Load(); i++ {
				task, err := w.manager.StartTask(fmt.Sprintf("%d.%d", g, i), w.body)
				if err != nil {
					if !errors.Is(err, refused) {
						w.t.Error(err)
					}
					return
				}
				s.mu.Lock()
				s.started = append(s.started, task)
				n := len(s.started)
				s.mu.Unlock()
				if n >= 20_000 {
					return
				}
			}
		})
	}
	return s
}

// Each start is before the StopAll, and what it started has been stopped, or after it.
func TestStressStopAllWhileTasksAreStarted(t *testing.T) {
	w := newWitness(t, taskmanager.WithHistory(100))
	s := startStarters(w, nil)
	for range 20 {
		for len(s.all()) == 0 {
			runtime.Gosched()
		}
		before := s.all()
		restarts := make(map[*taskmanager.Task]bool)
		require.NoError(t, w.manager.StopAll(t.Context()))
		for _, task := range before {
			// Nobody restarts an ended task here but the task itself, from within: that is asked before it ends.
			if !task.State().Ended() {
				restarts[task] = true
			}
		}
		require.Empty(t, restarts, "started before StopAll, and not stopped by it")
	}
	s.end.Store(true)
	s.wg.Wait()
	require.NoError(t, w.manager.StopAll(t.Context()))
	w.settleUp()
	for _, task := range s.all() {
		require.True(t, task.State().Ended())
	}
}

// Each start is before the Shutdown, and what it started has been stopped, or is refused. No body is an orphan.
func TestStressShutdownWhileTasksAreStarted(t *testing.T) {
	for range 30 {
		w := newWitness(t, taskmanager.WithHistory(100))
		s := startStarters(w, taskmanager.ErrManagerClosed)
		for len(s.all()) < 20 {
			runtime.Gosched()
		}
		var wg sync.WaitGroup
		for range 2 { // twice at once
			wg.Go(func() {
				assert.NoError(t, w.manager.Shutdown(t.Context()))
				assert.Equal(t, w.entered.Load(), w.left.Load(), "a body is an orphan")
			})
		}
		wg.Wait()
		s.wg.Wait()
		for _, task := range s.all() {
			require.True(t, task.State().Ended())
		}
		w.settleUp()
	}
}

// The same by the end of the parent context, which nobody waits for: Run does.
func TestStressEndOfTheParentWhileTasksAreStarted(t *testing.T) {
	for range 30 {
		parent, cancel := context.WithCancelCause(t.Context())
		w := newWitness(t, taskmanager.WithHistory(100), taskmanager.WithContext(parent))
		done := make(chan error)
		running := start(t, w.manager, "first", parkedIn(w))
		go func() { done <- w.manager.Run(context.Background()) }()
		s := startStarters(w, taskmanager.ErrManagerClosed)
		for len(s.all()) < 20 {
			runtime.Gosched()
		}
		cancel(errWhy)
		if err := <-done; err != nil {
			require.ErrorIs(t, err, taskmanager.ErrManagerClosed) // it was not begun when the end came
			require.NoError(t, w.manager.Shutdown(t.Context()))
		}
		s.wg.Wait()
		assert.Equal(t, taskmanager.StateStopped, running.State())
		for _, task := range s.all() {
			require.True(t, task.State().Ended())
		}
		w.settleUp()
	}
}

func parkedIn(w *witness) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		w.entered.Add(1)
		defer w.left.Add(1)
		return untilStopped(ctx)
	}
}
