package taskmanager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// What an operator reads at night.
func TestLogLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelDebug)
		m := observed(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithName("bot"))
		task := start(t, m, "a", failAfter(3*time.Second), taskmanager.WithMaxRestarts(1))
		require.Error(t, task.Wait(t.Context()))
		synctest.Wait() // the order of the lines of different tasks is not defined
		start(t, m, "b", untilStopped)
		synctest.Wait()
		time.Sleep(time.Second)
		require.NoError(t, m.RestartTask(t.Context(), "b"))
		time.Sleep(time.Second)
		require.NoError(t, m.StopTask(t.Context(), "b"))
		synctest.Wait()
		start(t, m, "c", func(context.Context) error { return nil },
			taskmanager.WithRestart(taskmanager.RestartAlways), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "c"))
		synctest.Wait()
		start(t, m, "d", func(context.Context) error { return nil })
		synctest.Wait()
		assert.Equal(t, []string{
			"DEBUG task started | manager=bot task=a run=1",
			"WARN task failed, will restart | manager=bot task=a run=1 error=boom uptime=3s restart_in=2s restarts=1 of 1 window=1m0s",
			"DEBUG task started | manager=bot task=a run=2",
			"ERROR task failed for good, gave up | manager=bot task=a run=2 reason=limit error=boom uptime=3s restarts=1 of 1 window=1m0s",
			"DEBUG task started | manager=bot task=b run=1",
			"INFO task restarted by hand | manager=bot task=b run=1 was=running caller=TestLogLines.func1(log_test.go)",
			"INFO task stopped | manager=bot task=b run=1 cause=taskmanager: task was restarted by hand uptime=1s",
			"DEBUG task started | manager=bot task=b run=2",
			"INFO task stopped | manager=bot task=b run=2 cause=taskmanager: task was stopped by hand caller=TestLogLines.func1(log_test.go) uptime=1s",
			"DEBUG task started | manager=bot task=c run=1",
			"INFO task completed | manager=bot task=c run=1 uptime=0s restart_in=2s restarts=1 of unlimited window=1m0s",
			"INFO task stopped | manager=bot task=c run=1 cause=taskmanager: task was stopped by hand caller=TestLogLines.func1(log_test.go)",
			"DEBUG task started | manager=bot task=d run=1",
			"INFO task completed | manager=bot task=d run=1 uptime=0s",
		}, lines.got())
	})
}

// panicsInside panics in a function of the standard library.
func panicsInside(context.Context) error { panic(strings.Repeat("deep", -1)) }

// hangs has three goroutines until release is closed.
func hangs(release <-chan struct{}) taskmanager.TaskFunc {
	return func(context.Context) error {
		for range 2 {
			go func() { <-release }()
		}
		<-release
		return nil
	}
}

// A stack can be read in a line, and is a list for those who read JSON. Where in the user's code it was is said by itself.
func TestLogLinesShowStacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text, inJSON bytes.Buffer
		handler := bothHandlers{slog.NewJSONHandler(&inJSON, nil), slog.NewTextHandler(&text, nil)}
		m := observed(t, taskmanager.WithLogger(slog.New(handler)))
		start(t, m, "panics", panicsInside, once())
		synctest.Wait()
		assert.Regexp(t, ` at=github.com/go-taskmanager/taskmanager_test\.panicsInside\(log_test\.go:\d+\) uptime=0s`+
			` stack="\[strings\.Repeat\(strings\.go:\d+\) github.com/go-taskmanager/taskmanager_test\.panicsInside\(log_test\.go:\d+\)]"\n$`,
			text.String())
		var line struct {
			At    string
			Stack []string
		}
		require.NoError(t, json.Unmarshal(inJSON.Bytes(), &line))
		require.Len(t, line.Stack, 2)
		assert.Regexp(t, `^strings\.Repeat\(strings\.go:\d+\)$`, line.Stack[0])
		assert.Equal(t, line.Stack[1], line.At)

		text.Reset()
		start(t, m, "panics by itself", func(context.Context) error { panic("boom") }, once())
		synctest.Wait()
		assert.Regexp(t, ` stack=\[\S+TestLogLinesShowStacks\.func1\.1\(log_test\.go:\d+\)]\n$`, text.String())

		release := make(chan struct{})
		start(t, m, "stuck", hangs(release))
		synctest.Wait()
		text.Reset()
		require.Error(t, m.StopTask(t.Context(), "stuck"))
		synctest.Wait()
		const call = `github.com/go-taskmanager/taskmanager_test\.TestLogLinesShowStacks\.func1\.hangs\.\d\S*\(log_test\.go:\d+\)`
		assert.Regexp(t, ` at=`+call+` uptime=5s stack="\[(1 goroutine: `+call+` 2 goroutines: |2 goroutines: `+call+` 1 goroutine: )`+call+`]"\n$`,
			text.String())
		assert.NotContains(t, regexp.MustCompile(` at=\S+`).FindString(text.String()), "hangs.1.1", "the body's own goroutine")
		close(release)
	})
}

// brokenHandler panics.
type brokenHandler struct {
	slog.Handler
	enabled bool
}

func (h brokenHandler) Enabled(context.Context, slog.Level) bool {
	if !h.enabled {
		panic("Enabled")
	}
	return true
}

func (brokenHandler) Handle(context.Context, slog.Record) error { panic("Handle") }

func TestLogHandlerThatPanics(t *testing.T) {
	for _, enabled := range []bool{false, true} {
		t.Run(fmt.Sprint(enabled), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := observed(t, taskmanager.WithLogger(slog.New(brokenHandler{slog.DiscardHandler, enabled})))
				events := m.Subscribe(t.Context())
				task := start(t, m, "a", boom, taskmanager.WithMaxRestarts(3))
				require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrTooManyRestarts)
				assert.Len(t, received(events), 8, "four starts, four ends")
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// A logger that is set as the default after New is used.
func TestLogDefaultIsLookedUpAtEachLine(t *testing.T) {
	former := slog.Default()
	defer slog.SetDefault(former)
	synctest.Test(t, func(t *testing.T) {
		m, err := taskmanager.New()
		require.NoError(t, err)
		var text bytes.Buffer
		slog.SetDefault(slog.New(slog.NewTextHandler(&text, nil)))
		start(t, m, "a", func(context.Context) error { return nil })
		synctest.Wait()
		assert.Contains(t, text.String(), `msg="task completed" task=a run=1`)
	})
}

// Lines that were left to a call of the log's handler which then ends its goroutine are written all the same: by another goroutine, and
// at once.
func TestLogLinesAreLeftToACallThatExits(t *testing.T) {
	for title, test := range map[string]struct {
		message string
		restart bool // while the handler is late
		want    []string
	}{
		"by the one that says that it is ready": {"task ready", false, []string{"task started", "task ready", "task failed, will restart"}},
		"by a driver that was replaced": {
			"task failed, will restart", true,
			[]string{"task started", "task failed, will restart", "task restarted by hand", "task started", "task ready", "task recovered"},
		},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				var late atomic.Bool
				var written []string
				handler := handlerFunc(func(r slog.Record) {
					written = append(written, r.Message)
					if r.Message == test.message && !late.Swap(true) {
						<-release
						runtime.Goexit()
					}
				})
				m := mustNew(t, taskmanager.WithLogger(slog.New(handler)), taskmanager.WithBackoff(time.Hour, time.Hour),
					taskmanager.WithMaxRestarts(taskmanager.Unlimited))
				runs := 0
				task := start(t, m, "a", func(ctx context.Context) error {
					if runs++; runs == 1 && test.restart {
						return errBoom
					}
					taskmanager.Ready(ctx)
					time.Sleep(time.Second)
					if test.restart {
						return untilStopped(ctx)
					}
					return errBoom
				}, taskmanager.WithReadiness(time.Minute))
				synctest.Wait()
				if test.restart {
					require.NoError(t, task.Restart(t.Context()))
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Len(t, written, 2, "it is late")
				close(release)
				synctest.Wait()
				assert.Equal(t, test.want, written)
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// A task whose lines the log's handler does not take, and which fails without a delay, waits when 16 of them do; and goes on when they
// are taken. None is lost.
func TestLogThatIsTooSlowHoldsUpATask(t *testing.T) {
	const failures = 100
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var late atomic.Bool
		written := make(map[string]int)
		handler := handlerFunc(func(r slog.Record) {
			written[r.Message]++
			if r.Message == "task ready" && !late.Swap(true) {
				<-release
			}
		})
		m := mustNew(t, taskmanager.WithLogger(slog.New(handler)), taskmanager.WithBackoff(0, 0))
		runs := 0
		start(t, m, "a", func(ctx context.Context) error {
			if runs++; runs == 1 {
				taskmanager.Ready(ctx)
				time.Sleep(time.Second) // the line is with the handler
			}
			if runs <= failures {
				return errBoom
			}
			return untilStopped(ctx)
		}, taskmanager.WithReadiness(time.Minute), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		time.Sleep(30 * time.Second)
		synctest.Wait()
		assert.Equal(t, 9, runs, "each with two lines, but the first")
		close(release)
		synctest.Wait()
		assert.Equal(t, failures+1, runs)
		assert.Equal(t, map[string]int{"task started": failures + 1, "task ready": 1, "task failed, will restart": failures}, written)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A task that has waited because 16 lines did begins its next run in its turn of the fleet limit, as any other.
func TestLogThatIsTooSlowSparesNoTaskItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var late atomic.Bool
		handler := handlerFunc(func(r slog.Record) {
			if r.Message == "task failed, will restart" && !late.Swap(true) {
				<-release
			}
		})
		m := mustNew(t, taskmanager.WithLogger(slog.New(handler)), taskmanager.WithBackoff(0, 0),
			taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithRestartLimit(rate.Every(time.Minute), 1))
		task := start(t, m, "a", boom)
		synctest.Wait()
		require.NoError(t, task.Restart(t.Context())) // the driver is with the handler: it is replaced
		time.Sleep(time.Hour)
		assert.EqualValues(t, 9, task.Stats().Runs, "each with two lines, but the first")
		close(release)
		synctest.Wait()
		assert.EqualValues(t, 10, task.Stats().Runs, "one turn was left")
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.EqualValues(t, 11, task.Stats().Runs)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A task that waits because too many lines do goes on when they are gone, though the handler has not returned from any of them.
func TestLogThatExitsDoesNotHoldUpATaskForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var late, exits atomic.Bool
		handler := handlerFunc(func(r slog.Record) {
			if r.Message == "task failed, will restart" && !late.Swap(true) {
				<-release
			}
			if exits.Load() {
				runtime.Goexit()
			}
		})
		m := mustNew(t, taskmanager.WithLogger(slog.New(handler)), taskmanager.WithBackoff(time.Second, time.Second),
			taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		task := start(t, m, "a", boom)
		synctest.Wait()
		require.NoError(t, task.Restart(t.Context())) // the driver is with the handler: it is replaced
		time.Sleep(time.Minute)
		before := task.Stats().Runs
		exits.Store(true)
		close(release)
		synctest.Wait()
		exits.Store(false)
		time.Sleep(time.Minute)
		assert.Greater(t, task.Stats().Runs, before+10)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A task that waits for its turn of the fleet limit keeps its place, whatever is written of it meanwhile.
func TestLogDoesNotChangeTheOrderOfRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var late atomic.Bool
		handler := handlerFunc(func(r slog.Record) {
			r.Attrs(func(attr slog.Attr) bool {
				if attr.Key == "task" && attr.Value.String() == "a" && r.Message == "task failed, will restart" && !late.Swap(true) {
					<-release
				}
				return true
			})
		})
		m := mustNew(t, taskmanager.WithLogger(slog.New(handler)), taskmanager.WithBackoff(time.Second, time.Second),
			taskmanager.WithBackoffJitter(0), taskmanager.WithRestartLimit(rate.Every(100*time.Second), 1))
		var (
			mu    sync.Mutex
			order []string
		)
		fails := func(name string, times int) taskmanager.TaskFunc {
			runs := 0
			return func(ctx context.Context) error {
				if runs++; runs <= times {
					return errBoom
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
				return untilStopped(ctx)
			}
		}
		start(t, m, "first", fails("first", 1)) // takes the one turn that there is
		time.Sleep(2 * time.Second)
		a := start(t, m, "a", fails("a", 2))
		synctest.Wait()
		require.NoError(t, a.Restart(t.Context())) // its driver is with the handler, and is replaced
		time.Sleep(5 * time.Second)
		start(t, m, "b", fails("b", 1))
		time.Sleep(5 * time.Second)
		close(release)
		time.Sleep(time.Hour)
		mu.Lock()
		assert.Equal(t, []string{"first", "a", "b"}, order)
		mu.Unlock()
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// whyError is a failure that says of itself, by its methods alone, what it is.
type whyError struct{ as func(target any) bool }

func (whyError) Error() string { return "why" }

func (e whyError) As(target any) bool { return e.as(target) }

// Why a task was given up is a word in the line, and the same word in its error.
func TestLogSaysWhyATaskWasGivenUp(t *testing.T) {
	returns := func(err error) taskmanager.TaskFunc { return func(context.Context) error { return err } }
	policy := func(next func() time.Duration) taskmanager.TaskOption {
		return taskmanager.WithBackOffPolicy(func() backoff.BackOff { return policyFunc(next) })
	}
	stop := policy(func() time.Duration { return backoff.Stop })
	permanentByMethods := whyError{func(target any) bool {
		permanent, ok := target.(**backoff.PermanentError)
		if ok {
			*permanent = &backoff.PermanentError{Err: errBoom}
		}
		return ok
	}}
	stuckByMethods := whyError{func(target any) bool {
		stuck, ok := target.(**taskmanager.StopTimeoutError)
		if ok {
			*stuck = &taskmanager.StopTimeoutError{Task: "below"}
		}
		return ok
	}}
	left := fmt.Errorf("%w", &taskmanager.StopTimeoutError{Task: "below"})
	for name, test := range map[string]struct {
		body   taskmanager.TaskFunc
		opts   []taskmanager.TaskOption
		reason taskmanager.GiveUpReason
		limit  string // what the line says of it
	}{
		"the limit":                       {boom, []taskmanager.TaskOption{taskmanager.WithMaxRestarts(2)}, "limit", "2 of 2"},
		"no restart at all":               {boom, []taskmanager.TaskOption{taskmanager.WithMaxRestarts(0)}, "limit", "0 of 0"},
		"the limit, of nil returns":       {returns(nil), []taskmanager.TaskOption{taskmanager.WithRestart(taskmanager.RestartAlways)}, "limit", "5 of 5"},
		"the limit, before the policy":    {boom, []taskmanager.TaskOption{stop, taskmanager.WithMaxRestarts(0)}, "limit", "0 of 0"},
		"the policy":                      {boom, []taskmanager.TaskOption{stop}, "policy", ""},
		"a policy that panics":            {boom, []taskmanager.TaskOption{policy(func() time.Duration { panic("no") })}, "policy", ""},
		"a policy that exits":             {boom, []taskmanager.TaskOption{policy(func() time.Duration { runtime.Goexit(); return 0 })}, "policy", ""},
		"permanent":                       {returns(backoff.Permanent(errBoom)), nil, "permanent", ""},
		"permanent, before the limit":     {returns(backoff.Permanent(errBoom)), []taskmanager.TaskOption{taskmanager.WithMaxRestarts(0)}, "permanent", ""},
		"permanent, before the policy":    {returns(backoff.Permanent(errBoom)), []taskmanager.TaskOption{stop}, "permanent", ""},
		"permanent, by its methods":       {returns(permanentByMethods), nil, "permanent", ""},
		"permanent by its own Every":      {taskmanager.Every(0, boom), nil, "permanent", ""},
		"never":                           {boom, []taskmanager.TaskOption{once()}, "never", ""},
		"never, before permanent":         {returns(backoff.Permanent(errBoom)), []taskmanager.TaskOption{once()}, "never", ""},
		"left running":                    {returns(left), nil, "left running", ""},
		"left running, before all others": {returns(left), []taskmanager.TaskOption{once(), stop, taskmanager.WithMaxRestarts(0)}, "left running", ""},
		"left running, by its methods":    {returns(stuckByMethods), nil, "left running", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelError)
				m := mustNew(t, taskmanager.WithLogger(slog.New(lines)))
				err := start(t, m, "a", test.body, test.opts...).Wait(t.Context())
				var gaveUp *taskmanager.GiveUpError
				require.ErrorAs(t, err, &gaveUp)
				assert.Equal(t, test.reason, gaveUp.Reason)
				assert.Equal(t, test.limit != "", errors.Is(err, taskmanager.ErrTooManyRestarts))
				synctest.Wait()
				require.Len(t, lines.taken(), 1)
				said := make(map[string]string)
				lines.taken()[0].Attrs(func(a slog.Attr) bool {
					said[a.Key] = a.Value.String()
					return true
				})
				assert.Equal(t, string(test.reason), said["reason"])
				assert.Equal(t, test.limit, said["restarts"], "another reason has nothing to do with the limit")
				assert.Equal(t, test.limit != "", said["window"] != "")
			})
		})
	}
}

// A run that was restarted by hand, and whose error says by its methods that it has left something executing, is given up for that.
func TestLogSaysWhyARestartedTaskWasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelError)
		m := mustNew(t, taskmanager.WithLogger(slog.New(lines)))
		task := start(t, m, "a", func(ctx context.Context) error {
			<-ctx.Done()
			return whyError{func(target any) bool {
				_, ok := target.(**taskmanager.StopTimeoutError)
				return ok
			}}
		}, once())
		synctest.Wait()
		require.Error(t, task.Restart(t.Context()))
		synctest.Wait()
		assert.Equal(t, []string{"ERROR task failed for good, gave up | task=a run=1 reason=left running error=why uptime=0s"}, lines.got())
	})
}

// Whoever reads that a task was stopped sees whether it was by hand, with everything else, or because something around it has ended.
func TestLogSaysWhereAStopComesFrom(t *testing.T) {
	const (
		byHand   = "INFO task stopped | task=a run=1 cause=taskmanager: task was stopped by hand caller=TestLogSaysWhereAStopComesFrom.func"
		deadline = "INFO task stopped | task=a run=1 cause=deadline of the parent context: "
		passed   = "WARN deadline of the parent context has passed, all tasks are stopped | tasks=2"
	)
	for name, test := range map[string]struct {
		parent func(ctx context.Context) (context.Context, context.CancelFunc)
		stop   func(m *taskmanager.Manager, task *taskmanager.Task) error
		want   []string
	}{
		"StopTask":  {nil, func(m *taskmanager.Manager, _ *taskmanager.Task) error { return m.StopTask(context.Background(), "a") }, []string{byHand + "1(log_test.go) uptime=1s"}},
		"Task.Stop": {nil, func(_ *taskmanager.Manager, task *taskmanager.Task) error { return task.Stop(context.Background()) }, []string{byHand + "2(log_test.go) uptime=1s"}},
		"StopAll":   {nil, func(m *taskmanager.Manager, _ *taskmanager.Task) error { return m.StopAll(context.Background()) }, []string{byHand + "3(log_test.go) uptime=1s"}},
		"Shutdown": {
			nil, func(m *taskmanager.Manager, _ *taskmanager.Task) error { return m.Shutdown(context.Background()) },
			[]string{"INFO task stopped | task=a run=1 cause=taskmanager: manager is shutting down uptime=1s"},
		},
		"the parent is canceled": {
			func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancelCause(ctx)
				time.AfterFunc(time.Second, func() { cancel(errWhy) })
				return ctx, func() { cancel(nil) }
			}, nil,
			[]string{"INFO task stopped | task=a run=1 cause=parent context: " + errWhy.Error() + " uptime=1s"},
		},
		"the parent's deadline": {
			func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Second)
			},
			nil,
			[]string{deadline + "context deadline exceeded uptime=1s", passed},
		},
		"the parent's deadline, which has a cause": {
			func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeoutCause(ctx, time.Second, errWhy)
			},
			nil,
			[]string{deadline + errWhy.Error() + " uptime=1s", passed},
		},
		"the deadline of a parent of the user's own": {
			func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				return struct{ context.Context }{ctx}, cancel
			},
			nil,
			[]string{deadline + "context deadline exceeded uptime=1s", passed},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				ctx, cancel := context.Background(), func() {}
				if test.parent != nil {
					ctx, cancel = test.parent(ctx)
				}
				defer cancel()
				m := mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithContext(ctx))
				task := start(t, m, "a", slowToStop(0))
				start(t, m, "b", slowToStop(0))
				time.Sleep(time.Second)
				synctest.Wait()
				if test.stop != nil {
					require.NoError(t, test.stop(m, task))
				}
				synctest.Wait()
				got := slices.DeleteFunc(lines.got(), func(line string) bool { return strings.Contains(line, "task=b") })
				slices.Sort(got) // the line of the Manager, and those of its tasks, are written by different goroutines
				assert.Equal(t, test.want, got)
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// The tasks of a group stop because that does: its own stop says why, and no line of theirs speaks of a Manager that shuts down.
func TestLogSaysThatAGroupEnds(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(m *taskmanager.Manager) error
		want string
	}{
		"is stopped by hand": {
			func(m *taskmanager.Manager) error { return m.StopTask(context.Background(), "g") },
			"its group ends: taskmanager: task was stopped by hand",
		},
		"its critical task is gone": {
			func(m *taskmanager.Manager) error { time.Sleep(time.Hour); return nil },
			"its group ends: taskmanager: manager is shutting down",
		},
		"the parent's deadline": {
			func(m *taskmanager.Manager) error { time.Sleep(time.Minute); return nil },
			"its group ends: context deadline exceeded",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				ctx, cancel := context.WithCancel(context.Background())
				if name == "the parent's deadline" {
					ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
				}
				defer cancel()
				m := mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithContext(ctx))
				start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
					start(t, g, "a", untilStopped)
					start(t, g, "critical", failAfter(time.Hour), taskmanager.WithCritical(), once())
					return nil
				}), once())
				synctest.Wait()
				require.NoError(t, test.end(m))
				synctest.Wait()
				stops := lines.about("task=g/a")
				require.Len(t, stops, 1)
				assert.Contains(t, stops[0], "INFO task stopped | task=g/a run=1 cause="+test.want)
				want := 0
				if name == "the parent's deadline" {
					want = 1
				}
				assert.Len(t, lines.about("has passed"), want, "one of the outermost Manager")
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// Who restarts or stops a task by hand is in the log: the task whose context was given, and the place of the call.
func TestLogSaysWhoDoesItByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := observed(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithBackoff(time.Hour, time.Hour),
			taskmanager.WithBackoffJitter(0), taskmanager.WithRestartWindow(100*time.Hour))
		events := m.Subscribe(t.Context())
		ask := make(chan func(ctx context.Context) error)
		start(t, m, "boss", taskmanager.Group(func(g *taskmanager.Manager) error {
			start(t, g, "assistant", func(ctx context.Context) error {
				for f := range ask {
					assert.NoError(t, f(ctx))
				}
				return untilStopped(ctx)
			})
			return nil
		}))
		runs := start(t, m, "runs", untilStopped)
		fails := start(t, m, "fails", boom)
		gone := start(t, m, "gone", boom, once())
		waits := start(t, m, "waits", untilStopped, dependsOn("nobody"))
		synctest.Wait()
		for _, task := range []*taskmanager.Task{runs, fails, gone, waits} {
			ask <- task.Restart
			synctest.Wait()
		}
		ask <- func(ctx context.Context) error { return m.StopTask(context.WithValue(ctx, parentKey{}, 1), "runs") }
		synctest.Wait()
		ask <- func(context.Context) error { return m.RestartTask(context.Background(), "runs") }
		synctest.Wait()
		ask <- func(ctx context.Context) error { return m.StopAll(ctx) }
		close(ask)
		synctest.Wait()
		const by = "by=boss/assistant caller=TestLogSaysWhoDoesItByHand.func1.1.1(log_test.go)"
		for task, want := range map[string][]string{
			"runs": {
				"INFO task restarted by hand | task=runs run=1 was=running " + by,
				"INFO task stopped | task=runs run=1 cause=taskmanager: task was restarted by hand by=boss/assistant",
				"INFO task stopped | task=runs run=2 cause=taskmanager: task was stopped by hand by=boss/assistant caller=TestLogSaysWhoDoesItByHand.func1.2(log_test.go)",
				"INFO task revived by hand | task=runs run=2 was=stopped caller=TestLogSaysWhoDoesItByHand.func1.3(log_test.go)",
				"INFO task stopped | task=runs run=1 cause=taskmanager: task was stopped by hand by=boss/assistant caller=TestLogSaysWhoDoesItByHand.func1.4(log_test.go)",
			},
			"fails": {
				"WARN task failed, will restart | task=fails run=1 error=boom uptime=0s restart_in=1h0m0s restarts=1 of 5 window=100h0m0s",
				"INFO task restarted by hand | task=fails run=1 was=backoff " + by,
				"WARN task failed, will restart | task=fails run=2 error=boom uptime=0s restart_in=1h0m0s restarts=2 of 5 window=100h0m0s",
				"INFO task stopped | task=fails run=2 cause=taskmanager: task was stopped by hand by=boss/assistant caller=TestLogSaysWhoDoesItByHand.func1.4(log_test.go)",
			},
			"gone": {
				"ERROR task failed for good, gave up | task=gone run=1 reason=never error=boom uptime=0s",
				"INFO task revived by hand | task=gone run=1 was=failed " + by,
				"ERROR task failed for good, gave up | task=gone run=1 reason=never error=boom uptime=0s",
			},
			"waits": {
				"INFO task restarted by hand | task=waits run=0 was=waiting " + by,
				"INFO task stopped | task=waits run=0 cause=taskmanager: task was stopped by hand by=boss/assistant caller=TestLogSaysWhoDoesItByHand.func1.4(log_test.go)",
			},
		} {
			assert.Equal(t, want, lines.about(" task="+task+" "))
		}
		for _, e := range pending(events) {
			assert.True(t, e.Kind >= taskmanager.EventStarted && e.Kind <= taskmanager.EventStuck, "what is no event is for the log alone")
		}
	})
}

// What is refused changes nothing, and is in no line.
func TestLogSaysNothingOfARestartThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(lines)))
		task := start(t, m, "a", slowToStop(time.Second))
		synctest.Wait()
		go func() { _ = task.Stop(context.Background()) }()
		synctest.Wait()
		require.Error(t, task.Restart(t.Context()))
		time.Sleep(2 * time.Second)
		require.NoError(t, m.Shutdown(t.Context()))
		require.Error(t, task.Restart(t.Context()))
		synctest.Wait()
		assert.Empty(t, lines.about("by hand |"))
	})
}

// One that is stuck says who has asked for its stop, and with several the first.
func TestLogSaysWhoAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(lines)))
		first := func(task *taskmanager.Task) { _ = task.Stop(context.Background()) }
		second := func(task *taskmanager.Task) { _ = task.Stop(context.Background()) }
		slow := start(t, m, "slow", slowToStop(time.Second))
		deaf := start(t, m, "deaf", slowToStop(time.Minute))
		synctest.Wait()
		for _, task := range []*taskmanager.Task{slow, deaf} {
			go first(task)
			time.Sleep(time.Millisecond)
			go second(task)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Hour)
		assert.Contains(t, lines.about("task=slow")[0], " caller=TestLogSaysWhoAskedFirst.func1.1(log_test.go) ")
		got := lines.about("task=deaf")
		assert.Contains(t, got[0], "ERROR task stuck, its body does not return | task=deaf run=1 caller=TestLogSaysWhoAskedFirst.func1.1(log_test.go) error=")
		assert.NotContains(t, got[1], "caller=", "it was long ago")
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A stop that has overridden a restart says who has asked for the stop; and one of many tells that also of a task that had to wait for
// its turn.
func TestLogSaysWhoAskedForWhatWasDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(lines)))
		restart := func(task *taskmanager.Task) { _ = task.Restart(context.Background()) }
		task := start(t, m, "a", slowToStop(time.Second))
		start(t, m, "b", untilStopped, dependsOn("a"))
		synctest.Wait()
		go restart(task)
		synctest.Wait()
		require.NoError(t, m.StopAll(t.Context()))
		synctest.Wait()
		assert.Equal(t, []string{
			"INFO task restarted by hand | task=a run=1 was=running caller=TestLogSaysWhoAskedForWhatWasDone.func1.1(log_test.go)",
			"INFO task stopped | task=a run=1 cause=taskmanager: task was stopped by hand caller=TestLogSaysWhoAskedForWhatWasDone.func1(log_test.go) uptime=1s",
		}, lines.about("task=a"))
	})
}

// A log handler that hangs with the line of a restart by hand does not hold up whoever waits for that; the body, as with any line before it.
func TestLogOfARestartByHandHoldsUpNobodyWhoWaits(t *testing.T) {
	for name, opts := range map[string][]taskmanager.TaskOption{
		"in backoff":               nil,
		"ended":                    {once()},
		"waits for what is gone":   {dependsOn("other")},
		"waits for another, ended": {once(), dependsOn("other")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				var written []string
				handler := handlerFunc(func(r slog.Record) {
					if strings.HasSuffix(r.Message, "by hand") {
						<-release
						written = append(written, r.Message)
					}
				})
				m := mustNew(t, taskmanager.WithLogger(slog.New(handler)), taskmanager.WithBackoff(time.Hour, time.Hour))
				other := start(t, m, "other", untilStopped)
				runs := 0
				task := start(t, m, "a", func(context.Context) error { runs++; return errBoom }, opts...)
				synctest.Wait()
				require.Equal(t, 1, runs)
				if strings.HasPrefix(name, "waits") {
					require.NoError(t, other.Stop(t.Context()))
				}
				began := time.Now()
				require.NoError(t, task.Restart(t.Context()))
				took(t, 0, began)
				synctest.Wait()
				assert.Equal(t, 1, runs)
				close(release)
				synctest.Wait()
				assert.Len(t, written, 1, "also of one that goes on to wait")
				if !strings.HasPrefix(name, "waits") {
					assert.Equal(t, 2, runs)
				}
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// wrapping is an error of the user's own that wraps another.
type wrapping struct{ err error }

func (w wrapping) Error() string { return "wrapping: " + w.err.Error() }

func (w wrapping) Unwrap() error { return w.err }

// Something that a body says beside the cause of its stop is a warning, in the log alone. That it was canceled, in whatever form, is not.
func TestLogWarnsOfAnErrorBesideTheCause(t *testing.T) {
	canceledDial := func(ctx context.Context) error {
		var d net.Dialer
		_, err := d.DialContext(ctx, "tcp", "127.0.0.1:1")
		return err
	}
	for name, test := range map[string]struct {
		err   func(ctx context.Context) error
		warns bool
	}{
		"nothing":                       {func(context.Context) error { return nil }, false},
		"Err, wrapped by a user's type": {func(ctx context.Context) error { return wrapping{ctx.Err()} }, false},
		"the cause, wrapped by several": {func(ctx context.Context) error { return wrapping{fmt.Errorf("get: %w", wrapping{context.Cause(ctx)})} }, false},
		"a dial that was canceled":      {canceledDial, false},
		"an own one":                    {boom, true},
		"an own one, wrapped likewise":  {func(context.Context) error { return wrapping{errBoom} }, true},
		"one whose methods panic":       {func(context.Context) error { return brokenError{} }, true},
		"one beside Err":                {func(ctx context.Context) error { return errors.Join(wrapping{ctx.Err()}, errBoom) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, restart := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					lines := newLines(slog.LevelInfo)
					box := newInbox(nil)
					m := mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithReporter(box))
					first := true
					task := start(t, m, "a", func(ctx context.Context) error {
						<-ctx.Done()
						if !first {
							return nil
						}
						first = false
						return test.err(ctx)
					})
					synctest.Wait()
					if restart {
						require.NoError(t, task.Restart(t.Context()))
					} else {
						require.NoError(t, task.Stop(t.Context()))
					}
					synctest.Wait()
					level := slog.LevelInfo
					if test.warns {
						level = slog.LevelWarn
					}
					for _, r := range lines.taken() {
						if r.Message == "task stopped" {
							assert.Equal(t, level, r.Level)
						}
					}
					require.NoError(t, m.Shutdown(t.Context()))
					assert.Empty(t, box.got(), "it was stopped, and that is nothing to report")
					assert.Equal(t, slog.LevelInfo, taskmanager.EventStopped.Level())
				})
			}
		})
	}
}

// A handler that wants no more than warnings gets those of stops.
func TestLogThatWantsWarningsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelWarn)
		m := mustNew(t, taskmanager.WithLogger(slog.New(lines)))
		start(t, m, "a", func(ctx context.Context) error { <-ctx.Done(); return errBoom })
		start(t, m, "b", untilStopped)
		synctest.Wait()
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Equal(t, []string{"WARN task stopped | task=a run=1 cause=taskmanager: manager is shutting down error=boom"}, lines.got())
	})
}

// Every line of the library's has the name of its Manager.
func TestLogLinesHaveTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelDebug)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		m := mustNew(t, taskmanager.WithName("bot"), taskmanager.WithLogger(slog.New(lines)), taskmanager.WithContext(ctx),
			taskmanager.WithReporter(taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error { return errDeaf })))
		start(t, m, "unreachable", untilStopped, taskmanager.WithBackoff(time.Minute, time.Minute))
		start(t, m, "fails", boom)
		start(t, m, "completes", func(context.Context) error { return nil })
		start(t, m, "ready", readyAfter(0), taskmanager.WithReadiness(time.Second))
		start(t, m, "dependent", untilStopped, dependsOn("ready"))
		start(t, m, "deaf", slowToStop(time.Minute))
		start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			start(t, g, "a", untilStopped)
			start(t, g, "unreachable", untilStopped, taskmanager.WithBackoff(time.Minute, time.Minute))
			return nil
		}))
		synctest.Wait()
		require.NoError(t, m.RestartTask(t.Context(), "completes"))
		require.NoError(t, m.RestartTask(t.Context(), "dependent"))
		require.NoError(t, m.StopTask(t.Context(), "ready"))
		require.Error(t, m.StopTask(t.Context(), "deaf"))
		time.Sleep(time.Hour)
		require.NoError(t, m.Shutdown(t.Context()))
		synctest.Wait()
		said := make(map[string]bool)
		for _, r := range lines.taken() {
			said[r.Message] = true
			r.Attrs(func(a slog.Attr) bool {
				assert.Equal(t, "manager=bot", a.String(), "of %q, first of all", r.Message)
				return false
			})
		}
		for _, message := range []string{
			"task started", "task ready", "task failed, will restart", "task failed for good, gave up", "task completed", "task stopped",
			"task stuck, its body does not return", "task restarted by hand", "task revived by hand",
			"task was stopped, though others depend on it", "deadline of the parent context has passed, all tasks are stopped",
			"task can never be given up: the delays between its restarts alone take longer than the window",
		} {
			assert.True(t, said[message], message)
		}
		assert.NotEmpty(t, lines.about("reporter failed"))
	})
	// There is no other way to the log than the one that adds it.
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var callers []string
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		calls := regexp.MustCompile(`\b(slog|slog\(\))\.(LogAttrs|Log|Debug|Info|Warn|Error)(Context)?\(`).FindAll(text, -1)
		if len(calls) > 0 && !strings.HasSuffix(name, "_test.go") {
			callers = append(callers, fmt.Sprintf("%s: %d", name, len(calls)))
		}
	}
	assert.Equal(t, []string{"publish.go: 1"}, callers)
}

// Durations in lines are for people, and still durations; those of events are exact.
func TestLogRoundsDurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const uptime, delay = 300474892 * time.Nanosecond, 72*time.Second + 345*time.Millisecond
		lines := newLines(slog.LevelInfo)
		m := mustNew(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithBackoff(delay, delay), taskmanager.WithBackoffJitter(0),
			taskmanager.WithRestartWindow(time.Hour+time.Nanosecond))
		events := m.Subscribe(t.Context())
		start(t, m, "a", failAfter(uptime))
		time.Sleep(time.Second)
		failed := ofKind(taskmanager.EventFailed, pending(events))
		require.Len(t, failed, 1)
		assert.Equal(t, uptime, failed[0].Uptime)
		assert.Equal(t, delay, failed[0].Delay)
		require.Len(t, lines.taken(), 1)
		got := make(map[string]time.Duration)
		lines.taken()[0].Attrs(func(a slog.Attr) bool {
			if a.Value.Kind() == slog.KindDuration {
				got[a.Key] = a.Value.Duration()
			}
			return true
		})
		assert.Equal(t, map[string]time.Duration{
			"uptime": 300 * time.Millisecond, "restart_in": 72 * time.Second, "window": time.Hour + time.Nanosecond, // that one is an option
		}, got)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}
