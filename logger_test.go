package taskmanager_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// A body's own lines have the attributes of the Manager's, in the same order.
func TestLoggerOfARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := newManager(t, taskmanager.WithName("bot"), taskmanager.WithLogger(slog.New(lines)), taskmanager.WithBackoff(time.Second, time.Second))
		body := func(ctx context.Context) error {
			taskmanager.Logger(withValue(ctx)).Info("hello", "from", "body")
			return errBoom
		}
		task := start(t, m, "a", body, taskmanager.WithMaxRestarts(1))
		start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("b", body, once())
			return err
		}))
		require.Error(t, task.Wait(t.Context()))
		require.NoError(t, task.Restart(t.Context()))
		time.Sleep(10 * time.Second)
		own := slices.DeleteFunc(lines.got(), func(line string) bool { return line[:10] != "INFO hello" })
		slices.Sort(own)
		assert.Equal(t, []string{
			"INFO hello | manager=bot task=a run=1 from=body",
			"INFO hello | manager=bot task=a run=1 from=body",
			"INFO hello | manager=bot task=a run=2 from=body",
			"INFO hello | manager=bot task=a run=2 from=body",
			"INFO hello | manager=bot task=group/b run=1 from=body",
		}, own, "a revival begins to count anew")
	})
}

// In a group it is that of the group's Manager, if it has one of its own.
func TestLoggerOfAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer, inner := newLines(slog.LevelInfo), newLines(slog.LevelInfo)
		m := newManager(t, taskmanager.WithLogger(slog.New(outer)))
		hello := func(ctx context.Context) error { taskmanager.Logger(ctx).Info("hello"); return untilStopped(ctx) }
		start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("a", hello)
			return err
		}, taskmanager.WithLogger(slog.New(inner)), taskmanager.WithName("inner")))
		synctest.Wait()
		assert.Equal(t, []string{"INFO hello | manager=inner task=group/a run=1"}, inner.got())
		assert.Empty(t, outer.got())
	})
}

// Without a task there is the default, as it is then; so it is for a Manager without a logger.
func TestLoggerIsTheDefault(t *testing.T) {
	lines := newLines(slog.LevelInfo)
	former := slog.Default()
	slog.SetDefault(slog.New(lines))
	defer slog.SetDefault(former)
	assert.Same(t, slog.Default(), taskmanager.Logger(noContext))
	assert.Same(t, slog.Default(), taskmanager.Logger(t.Context()))
	m, err := taskmanager.New()
	require.NoError(t, err)
	task := start(t, m, "a", func(ctx context.Context) error { taskmanager.Logger(ctx).Info("hello"); return nil })
	require.NoError(t, task.Wait(t.Context()))
	assert.Equal(t, []string{"INFO hello | task=a run=1"}, lines.about("hello"))
	require.NoError(t, m.Shutdown(t.Context()))
}

// A handler to which the attributes are added is called on the goroutine of the body, with no lock held: what it does, the body does.
func TestLoggerOfAHandlerInTheWay(t *testing.T) {
	for name, test := range map[string]struct {
		act   func(m *taskmanager.Manager)
		state taskmanager.State
		err   error
	}{
		"is late": {func(*taskmanager.Manager) { time.Sleep(time.Second) }, taskmanager.StateCompleted, nil},
		"panics":  {func(*taskmanager.Manager) { panic(errWhy) }, taskmanager.StateFailed, errWhy},
		"exits":   {func(*taskmanager.Manager) { runtime.Goexit() }, taskmanager.StateFailed, taskmanager.ErrGoexit},
		"calls back": {
			func(m *taskmanager.Manager) { m.Stats(); _ = m.StopTask(context.Background(), "other") }, taskmanager.StateCompleted, nil,
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			var m *taskmanager.Manager
			m = newManager(t, taskmanager.WithLogger(slog.New(attrHandler{slog.DiscardHandler, func() { test.act(m) }})))
			start(t, m, "other", untilStopped)
			task := start(t, m, "a", func(ctx context.Context) error { taskmanager.Logger(ctx).Info("hello"); return nil }, once())
			require.ErrorIs(t, task.Wait(t.Context()), test.err, name)
			assert.Equal(t, test.state, task.State(), name)
		})
	}
}

// An attrHandler does something when attributes are added to it.
type attrHandler struct {
	slog.Handler
	act func()
}

func (h attrHandler) WithAttrs([]slog.Attr) slog.Handler {
	h.act()
	return h.Handler
}

// The number of a run can be had for as long as somebody has its context.
func TestRunFromContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		contexts := make(chan context.Context, 10)
		task := start(t, m, "a", func(ctx context.Context) error { contexts <- withValue(ctx); return untilStopped(ctx) },
			taskmanager.WithWatchdog(time.Hour))
		var all []context.Context
		for range 3 {
			all = append(all, <-contexts)
			require.NoError(t, task.Restart(t.Context()))
		}
		all = append(all, <-contexts)
		require.NoError(t, task.Stop(t.Context()))
		require.NoError(t, task.Restart(t.Context())) // another life
		all = append(all, <-contexts)
		var numbers []uint64
		for _, ctx := range all {
			run, ok := taskmanager.RunFromContext(ctx)
			assert.True(t, ok)
			numbers = append(numbers, run)
		}
		assert.Equal(t, []uint64{1, 2, 3, 4, 1}, numbers)
		for _, ctx := range []context.Context{nil, t.Context()} {
			run, ok := taskmanager.RunFromContext(ctx)
			assert.False(t, ok)
			assert.Zero(t, run)
		}
	})
}

// A lineContexts is a log handler that notes what it finds in the context of each line.
type lineContexts struct {
	slog.Handler
	note func(ctx context.Context, r slog.Record)
}

func (h lineContexts) Enabled(context.Context, slog.Level) bool { return true }

func (h lineContexts) Handle(ctx context.Context, r slog.Record) error {
	h.note(ctx, r)
	return nil
}

// A spans is what log lines say of the spans that traced has begun.
type spans struct {
	mu    sync.Mutex
	lines []string
}

func (s *spans) option() taskmanager.Option {
	return taskmanager.WithLogger(slog.New(lineContexts{slog.DiscardHandler, func(ctx context.Context, r slog.Record) {
		var task string
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "task" || a.Key == "names" {
				task = a.Value.String()
			}
			return true
		})
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lines = append(s.lines, fmt.Sprintf("%s: %s: %v %v", task, r.Message, ctx.Value(parentKey{}), ctx.Value(contextKey{})))
	}}))
}

// got returns the lines so far, and forgets them.
func (s *spans) got() (lines []string) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, s.lines = s.lines, nil
	return lines
}

// The Manager's lines about a run come with the context that its body was given, so that a bridge finds its span; and the line that it
// begins with that of the run.
func TestLogLinesHaveTheContextOfTheirRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s spans
		m := observed(t, s.option(), taskmanager.WithContext(context.WithValue(t.Context(), parentKey{}, "p")), taskmanager.WithMiddleware(traced),
			taskmanager.WithBackoff(time.Second, time.Second))
		task := start(t, m, "fails", boom, taskmanager.WithMaxRestarts(1))
		require.Error(t, task.Wait(t.Context()))
		assert.Equal(t, []string{
			"fails: task started: p <nil>", "fails: task failed, will restart: p fails#1",
			"fails: task started: p <nil>", "fails: task failed for good, gave up: p fails#2",
		}, s.got())
		require.NoError(t, task.Restart(t.Context()))
		synctest.Wait()
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, []string{
			"fails: task revived by hand: p <nil>", "fails: task started: p <nil>", "fails: task failed, will restart: p fails#1",
			"fails: task stopped: p fails#1",
		}, s.got(), "a stop during a delay is about the run before")

		task = start(t, m, "completes", func(context.Context) error { return nil })
		require.NoError(t, task.Wait(t.Context()))
		assert.Equal(t, []string{"completes: task started: p <nil>", "completes: task completed: p completes#1"}, s.got())

		task = start(t, m, "is ready", readyAfter(time.Second), taskmanager.WithReadiness(time.Minute))
		time.Sleep(time.Minute)
		require.NoError(t, task.Restart(t.Context()))
		time.Sleep(time.Minute)
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, []string{
			"is ready: task started: p <nil>", "is ready: task ready: p is ready#1", "is ready: task restarted by hand: p is ready#1",
			"is ready: task stopped: p is ready#1", "is ready: task started: p <nil>", "is ready: task ready: p is ready#2",
			"is ready: task stopped: p is ready#2",
		}, s.got())

		body := newDeafBody()
		task = start(t, m, "is stuck", func(ctx context.Context) error { taskmanager.Heartbeat(ctx); return body.run(ctx) })
		synctest.Wait()
		asStuck(t, task.Stop(t.Context()), "is stuck", 5*time.Second)
		synctest.Wait()
		body.release()
		require.NoError(t, task.Wait(t.Context()))
		assert.Equal(t, []string{
			"is stuck: task started: p <nil>", "is stuck: Heartbeat has no effect: the task has no WithWatchdog: p is stuck#1",
			"is stuck: task stuck, its body does not return: p is stuck#1", "is stuck: task stopped: p is stuck#1",
		}, s.got())

		task = start(t, m, "waits", untilStopped, dependsOn("nobody"))
		synctest.Wait()
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, []string{"waits: task stopped: p <nil>"}, s.got())

		// What middleware has added is not that of the body if other middleware takes it away again.
		start(t, m, "without", func(context.Context) error { return nil }, taskmanager.WithMiddleware(
			func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
				return func(ctx context.Context) error {
					return next(context.WithValue(ctx, contextKey{}, nil))
				}
			}))
		assert.Equal(t, []string{"without: task started: p <nil>", "without: task completed: p <nil>"}, s.got())
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// Where middleware calls next more than once, lines come with the context of the latest call, be it that of the run again; and one that
// calls it when the run is over has no say in what follows.
func TestLogLinesHaveTheContextOfTheLatestCall(t *testing.T) {
	again := func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
		return func(ctx context.Context) error {
			_ = next(context.WithValue(ctx, contextKey{}, "first"))
			return next(ctx)
		}
	}
	late := make(chan func(), 2)
	kept := func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
		return func(ctx context.Context) error {
			late <- func() { _ = next(context.WithValue(ctx, contextKey{}, "late")) }
			return next(ctx)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var s spans
		m := observed(t, s.option())
		task := start(t, m, "again", func(context.Context) error { return nil }, taskmanager.WithMiddleware(again))
		require.NoError(t, task.Wait(t.Context()))
		assert.Equal(t, []string{"again: task started: <nil> <nil>", "again: task completed: <nil> <nil>"}, s.got())

		task = start(t, m, "late", untilStopped, taskmanager.WithMiddleware(traced, kept))
		synctest.Wait()
		require.NoError(t, task.Restart(t.Context()))
		synctest.Wait()
		s.got()
		(<-late)() // that of the first run
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, []string{"late: task stopped: <nil> late#2"}, s.got())
		(<-late)()
		require.NoError(t, task.Restart(t.Context()))
		assert.Equal(t, []string{"late: task revived by hand: <nil> <nil>", "late: task started: <nil> <nil>"}, s.got())
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// Lines of a group's tasks have what its run has added, too; those of one that has none of its own as well.
func TestLogLinesHaveTheContextOfTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s spans
		m := observed(t, s.option())
		start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("a", func(context.Context) error { return nil })
			return err
		}), taskmanager.WithMiddleware(traced))
		assert.Equal(t, []string{
			"group: task started: <nil> <nil>", "group/a: task started: <nil> group#1", "group/a: task completed: <nil> group#1",
		}, s.got())
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A line that stands for several has the context of the latest.
func TestLogLinesThatAreMergedHaveTheContextOfTheLatest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s spans
		m := observed(t, s.option(), taskmanager.WithLogLimit(rate.Every(time.Minute), 1), taskmanager.WithMiddleware(traced),
			taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffFactor(1), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		task := start(t, m, "a", func(ctx context.Context) error {
			time.Sleep(time.Second)
			return errBoom
		})
		time.Sleep(59 * time.Second)
		assert.Equal(t, []string{"a: task started: <nil> <nil>"}, s.got())
		time.Sleep(2 * time.Second)
		assert.Equal(t, []string{"a: task failed, will restart: <nil> a#30"}, s.got())
		require.NoError(t, task.Stop(t.Context()))
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// Whoever gets the context of a line is not taken for the task by that: a handler that stops the task has it stopped when that returns.
// And it has not ended, whatever has become of the run.
func TestLogLinesHaveAContextOfNoTask(t *testing.T) {
	for title, opts := range map[string][]taskmanager.TaskOption{
		"plain": nil, "traced": {taskmanager.WithMiddleware(traced)},
		"watched": {taskmanager.WithMiddleware(traced), taskmanager.WithWatchdog(time.Hour)},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m *taskmanager.Manager
				var stopped []error
				var seen atomic.Int64
				opt := taskmanager.WithLogger(slog.New(lineContexts{slog.DiscardHandler, func(ctx context.Context, r slog.Record) {
					seen.Add(1)
					_, ok := taskmanager.FromContext(ctx)
					assert.False(t, ok, r.Message)
					_, ok = pprof.Label(ctx, "task")
					assert.False(t, ok, r.Message)
					taskmanager.SetStatus(ctx, "not said")
					taskmanager.Heartbeat(ctx)
					require.NoError(t, ctx.Err(), r.Message)
					require.NoError(t, context.Cause(ctx), r.Message)
					assert.Nil(t, ctx.Done())
					child := withCancel(t, ctx)
					require.NoError(t, child.Err(), r.Message)
					assert.NoError(t, context.Cause(child), r.Message)
					_, hasDeadline := ctx.Deadline()
					assert.False(t, hasDeadline)
					if r.Message == "task restarted by hand" {
						stopped = append(stopped, m.StopTask(ctx, "a"), m.StopTask(ctx, "inner"))
						a, _ := m.Lookup("a")
						assert.Equal(t, taskmanager.StateStopped, a.State(), "it has been waited for")
						inner, _ := m.Lookup("inner")
						assert.Equal(t, taskmanager.StateStopped, inner.State(), "it has been waited for")
					}
				}}))
				m = observed(t, opt)
				start(t, m, "inner", taskmanager.Group(func(m *taskmanager.Manager) error {
					_, err := m.StartTask("b", slowToStop(time.Second), opts...)
					return err
				}), opts...)
				task := start(t, m, "a", slowToStop(time.Second), opts...)
				synctest.Wait()
				_ = task.Restart(t.Context())
				time.Sleep(time.Minute)
				synctest.Wait()
				assert.Equal(t, []error{nil, nil}, stopped)
				assert.GreaterOrEqual(t, seen.Load(), int64(5))
				assert.Empty(t, task.Stats().Status)
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// A context that middleware has made is not kept when nobody needs it any more: not by a task that has ended, nor by one whose next run
// has begun.
func TestLogLinesKeepNoContext(t *testing.T) {
	type big struct{ _ [1 << 20]byte }
	var (
		mu       sync.Mutex
		pointers []weak.Pointer[big]
	)
	opts := []taskmanager.TaskOption{taskmanager.WithMiddleware(func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
		return func(ctx context.Context) error {
			value := new(big)
			mu.Lock()
			pointers = append(pointers, weak.Make(value))
			mu.Unlock()
			return next(context.WithValue(ctx, contextKey{}, value))
		}
	})}
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := observed(t, log.option(), taskmanager.WithBackoff(time.Second, time.Second))
		alive := func() (n int) {
			synctest.Wait()
			runtime.GC()
			mu.Lock()
			defer mu.Unlock()
			for _, p := range pointers {
				if p.Value() != nil {
					n++
				}
			}
			return n
		}
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs++; runs < 3 {
				return errBoom
			}
			return untilStopped(ctx)
		}, opts...)
		synctest.Wait()
		require.Equal(t, taskmanager.StateBackoff, task.State())
		assert.Equal(t, 1, alive(), "a stop would be told with it")
		time.Sleep(time.Minute)
		assert.Equal(t, 1, alive(), "that of the run")
		require.NoError(t, task.Stop(t.Context()))
		assert.Zero(t, alive(), "stopped")
		gaveUp := start(t, m, "gives up", boom, append(opts, once())...)
		require.Error(t, gaveUp.Wait(t.Context()))
		assert.Zero(t, alive(), "given up")
		completed := start(t, m, "completes", func(context.Context) error { return nil }, opts...)
		require.NoError(t, completed.Wait(t.Context()))
		assert.Zero(t, alive(), "completed")
		runtime.KeepAlive(task)
		runtime.KeepAlive(gaveUp)
		runtime.KeepAlive(completed)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}
