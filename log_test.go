package taskmanager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
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
			"INFO task stopped | manager=bot task=b run=1 cause=taskmanager: task was restarted by hand uptime=1s",
			"DEBUG task started | manager=bot task=b run=2",
			"INFO task stopped | manager=bot task=b run=2 cause=taskmanager: task was stopped uptime=1s",
			"DEBUG task started | manager=bot task=c run=1",
			"INFO task completed | manager=bot task=c run=1 uptime=0s restart_in=2s restarts=1 of unlimited window=1m0s",
			"INFO task stopped | manager=bot task=c run=1 cause=taskmanager: task was stopped",
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
			[]string{"task started", "task failed, will restart", "task started", "task ready"},
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
