package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
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

func TestStartRunsTheBodyWithoutWaitingForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		entered := false
		task := start(t, m, "a", func(ctx context.Context) error {
			entered = true
			return untilStopped(ctx)
		})
		assert.Equal(t, "a", task.Name())
		assert.True(t, m.IsRunning("a"))
		synctest.Wait()
		assert.True(t, entered)
		assert.Equal(t, taskmanager.StateRunning, task.State())
		assert.EqualValues(t, 1, task.Stats().Runs)
		found, ok := m.Lookup("a")
		assert.True(t, ok)
		assert.Same(t, task, found)
	})
}

func TestStartTheSameNameTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		first := start(t, m, "a", untilStopped)
		second, err := m.StartTask("a", func(context.Context) error {
			assert.Fail(t, "the second body was called")
			return nil
		})
		require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
		require.EqualError(t, err, `taskmanager: task is already running: "a"`)
		assert.Nil(t, second)
		synctest.Wait()
		found, _ := m.Lookup("a")
		assert.Same(t, first, found)
		assert.Equal(t, taskmanager.StateRunning, first.State())
		assert.EqualValues(t, 1, m.Stats().Runs)
	})
}

func TestStartOneNameFromAThousandGoroutines(t *testing.T) {
	m := newManager(t)
	var (
		begin           = make(chan struct{})
		all             sync.WaitGroup
		started, bodies atomic.Int64
	)
	for range 1000 {
		all.Go(func() {
			<-begin
			_, err := m.StartTask("a", func(ctx context.Context) error {
				bodies.Add(1)
				return untilStopped(ctx)
			})
			if err == nil {
				started.Add(1)
				return
			}
			assert.ErrorIs(t, err, taskmanager.ErrTaskRunning)
		})
	}
	close(begin)
	all.Wait()
	assert.EqualValues(t, 1, started.Load())
	require.NoError(t, m.StopTask(context.Background(), "a"))
	assert.LessOrEqual(t, bodies.Load(), int64(1), "0 if the stop came before the body was entered")
	assert.Len(t, m.Stats().Tasks, 1)
}

func TestStartRefusesBadArguments(t *testing.T) {
	long := strings.Repeat("x", 256)
	tests := map[string]struct {
		name string
		body taskmanager.TaskFunc
		want taskmanager.OptionError
		text string
	}{
		"nil body": {
			name: "a", want: taskmanager.OptionError{Option: "body", Reason: "must not be nil"},
			text: `taskmanager: body <nil>: must not be nil`,
		},
		"empty name": {
			body: untilStopped, want: taskmanager.OptionError{Option: "name", Value: "", Reason: "must have 1 to 255 bytes, and has 0"},
			text: `taskmanager: name "": must have 1 to 255 bytes, and has 0`,
		},
		"name of 256 bytes": {
			name: long, body: untilStopped,
			want: taskmanager.OptionError{Option: "name", Value: long, Reason: "must have 1 to 255 bytes, and has 256"},
			text: `taskmanager: name "` + long[:80] + `" and 176 bytes more: must have 1 to 255 bytes, and has 256`,
		},
		"name of invalid UTF-8": {
			name: "a\xff", body: untilStopped,
			want: taskmanager.OptionError{Option: "name", Value: "a\xff", Reason: "must be valid UTF-8"},
			text: `taskmanager: name "a\xff": must be valid UTF-8`,
		},
		"name with a newline": {
			name: "a\nb", body: untilStopped,
			want: taskmanager.OptionError{Option: "name", Value: "a\nb", Reason: "must not contain control characters"},
			text: `taskmanager: name "a\nb": must not contain control characters`,
		},
		"name with a control character of C1": {
			name: "a\u0085", body: untilStopped,
			want: taskmanager.OptionError{Option: "name", Value: "a\u0085", Reason: "must not contain control characters"},
			text: `taskmanager: name "a\u0085": must not contain control characters`,
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			m := newManager(t)
			task, err := m.StartTask(test.name, test.body)
			assert.Nil(t, task)
			var refused *taskmanager.OptionError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, test.want, *refused)
			assert.EqualError(t, err, test.text)
			assert.Empty(t, m.Stats().Tasks)
			assert.False(t, m.IsRunning(test.name))
		})
	}
}

// What is quoted in the text of a goroutine profile must not keep the task's stacks from being found by its name.
func TestStartAcceptsWhatOnlyLooksBad(t *testing.T) {
	for _, name := range []string{" ", `"task":"b"`, `back\slash`, "%s%d", "a/b", "\u2028", strings.Repeat("x", 255)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				release := make(chan struct{})
				task := start(t, m, name, ignoring(release))
				synctest.Wait()
				assert.True(t, m.IsRunning(name))
				var stuck *taskmanager.StopTimeoutError
				require.ErrorAs(t, m.StopTask(context.Background(), name), &stuck)
				assert.Equal(t, name, stuck.Task)
				assert.Contains(t, string(stuck.Stack), "ignoring")
				close(release)
				<-task.Done()
			})
		})
	}
}

func TestStartANameOf255BytesOfEmojiShowsEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		name := strings.Repeat("🐙", 63) + "☕"
		require.Len(t, name, 255)
		var log logBook
		m := newManager(t, log.option())
		events := m.Subscribe(context.Background())
		release := make(chan struct{})
		task := start(t, m, name, ignoring(release), taskmanager.WithMaxRestarts(0))
		synctest.Wait()

		assert.Equal(t, name, task.Name())
		assert.True(t, m.IsRunning(name))
		assert.Equal(t, name, m.Stats().Tasks[name].Name)
		text, err := json.Marshal(m.Stats())
		require.NoError(t, err)
		var decoded struct {
			Tasks map[string]struct{ Name string }
		}
		require.NoError(t, json.Unmarshal(text, &decoded))
		assert.Equal(t, name, decoded.Tasks[name].Name)

		_, err = m.StartTask(name, untilStopped)
		require.EqualError(t, err, `taskmanager: task is already running: "`+name+`"`)

		// The stacks of a stuck task are found by its name, as a pprof label.
		err = m.StopTask(context.Background(), name)
		var stuck *taskmanager.StopTimeoutError
		require.ErrorAs(t, err, &stuck)
		assert.Equal(t, name, stuck.Task)
		require.EqualError(t, err, `taskmanager: task "`+name+`" did not stop within 5s`)
		assert.Contains(t, string(stuck.Stack), "ignoring")
		close(release)
		<-task.Done()

		task = start(t, m, name, boom, taskmanager.WithMaxRestarts(0))
		require.EqualError(t, task.Wait(context.Background()), `taskmanager: gave up task "`+name+`" after 0 restarts within 1m0s: boom`)
		for _, e := range received(events) {
			assert.Equal(t, name, e.Task)
		}
		synctest.Wait() // the log is the last to hear
		gaveUp := log.lines(t, "task failed for good, gave up")
		require.Len(t, gaveUp, 1)
		assert.Equal(t, name, gaveUp[0]["task"])
	})
}

func TestStartWhileTheTaskHasNotEnded(t *testing.T) {
	refused := func(t *testing.T, m *taskmanager.Manager, task *taskmanager.Task, want taskmanager.State) {
		t.Helper()
		require.Equal(t, want, task.State())
		before := task.Stats()
		_, err := m.StartTask("a", func(context.Context) error {
			assert.Fail(t, "the second body was called")
			return nil
		})
		require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
		assert.True(t, m.IsRunning("a"))
		synctest.Wait()
		assert.Equal(t, before, task.Stats())
	}
	t.Run("running", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", untilStopped)
			synctest.Wait()
			refused(t, m, task, taskmanager.StateRunning)
		})
	})
	t.Run("backoff", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", boom)
			synctest.Wait()
			refused(t, m, task, taskmanager.StateBackoff)
		})
	})
	t.Run("stopping, then stuck, then ended", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			release := make(chan struct{})
			task := start(t, m, "a", ignoring(release))
			synctest.Wait()
			stopped := make(chan error, 1)
			go func() { stopped <- m.StopTask(context.Background(), "a") }()
			synctest.Wait()
			refused(t, m, task, taskmanager.StateStopping)

			var stuck *taskmanager.StopTimeoutError
			require.ErrorAs(t, <-stopped, &stuck)
			refused(t, m, task, taskmanager.StateStuck)

			close(release)
			<-task.Done()
			start(t, m, "a", untilStopped)
		})
	})
}

func TestStartAnEndedNameIsAFreshTask(t *testing.T) {
	ends := map[taskmanager.State]taskmanager.TaskFunc{
		taskmanager.StateCompleted: func(context.Context) error { return nil },
		taskmanager.StateFailed:    func(context.Context) error { panic("boom") },
		taskmanager.StateStopped:   untilStopped,
	}
	for state, body := range ends {
		t.Run(state.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithMaxRestarts(2))
				old := start(t, m, "a", func(ctx context.Context) error {
					taskmanager.SetStatus(ctx, "old")
					return body(ctx)
				})
				time.Sleep(time.Hour)
				if state == taskmanager.StateStopped {
					require.NoError(t, m.StopTask(context.Background(), "a"))
				}
				require.Equal(t, state, old.State())
				ended := old.Stats()

				task := start(t, m, "a", untilStopped)
				assert.NotSame(t, old, task)
				synctest.Wait()
				now := time.Now()
				assert.Equal(t, taskmanager.TaskStats{
					Name: "a", State: taskmanager.StateRunning, Ready: true, Runs: 1, StartedAt: now.Round(0), RunStartedAt: now.Round(0),
					MaxRestarts: 2, RestartWindow: time.Minute,
				}, task.Stats())
				require.NoError(t, task.Err())
				found, _ := m.Lookup("a")
				assert.Same(t, task, found)

				// The old one is history: it can be asked, and not moved.
				assert.Equal(t, ended, old.Stats())
				require.ErrorIs(t, old.Restart(context.Background()), taskmanager.ErrTaskNotFound)
				require.ErrorIs(t, old.Stop(context.Background()), taskmanager.ErrTaskNotRunning)
				assert.Equal(t, taskmanager.StateRunning, task.State())
			})
		})
	}
}

// The limit of the former task of that name has no bearing on the new one.
func TestStartAGivenUpNameHasAllItsRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithMaxRestarts(2), taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
		for range 3 {
			task := start(t, m, "a", boom)
			var gaveUp *taskmanager.GiveUpError
			require.ErrorAs(t, task.Wait(context.Background()), &gaveUp)
			assert.Equal(t, 2, gaveUp.Restarts)
			assert.EqualValues(t, 3, task.Stats().Runs)
		}
		stats := m.Stats()
		assert.Len(t, stats.Tasks, 1)
		assert.EqualValues(t, 9, stats.Runs, "the totals count all of them")
	})
}

func TestStartAfterShutdown(t *testing.T) {
	m := newManager(t)
	require.NoError(t, m.Shutdown(context.Background()))
	_, err := m.StartTask("a", untilStopped)
	require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
	require.EqualError(t, err, `taskmanager: manager is closed: "a"`)
	assert.Empty(t, m.Stats().Tasks)
}

func TestStartAfterTheEndOfTheParentContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	m := newManager(t, taskmanager.WithContext(ctx))
	cancel(errors.New("over"))
	_, err := m.StartTask("a", untilStopped)
	require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
	assert.Empty(t, m.Stats().Tasks)
}

// At rest nothing holds the Manager: neither a parent context that lives on, nor the timer of a stop or of a pause, nor a reporter.
func TestManagerAtRestIsGarbage_Promise2(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, use := range map[string]func(m *taskmanager.Manager){
		"never used": func(*taskmanager.Manager) {},
		"stopped": func(m *taskmanager.Manager) {
			start(t, m, "a", untilStopped)
			require.NoError(t, m.StopTask(t.Context(), "a"))
		},
		"restarted": func(m *taskmanager.Manager) {
			task := start(t, m, "a", untilStopped)
			require.NoError(t, task.Restart(t.Context()))
			require.NoError(t, task.Stop(t.Context()))
			require.NoError(t, task.Restart(t.Context()))
			require.NoError(t, task.Stop(t.Context()))
		},
		"stopped in backoff": func(m *taskmanager.Manager) {
			task := start(t, m, "a", func(context.Context) error { return errWhy })
			for task.State() != taskmanager.StateBackoff {
				runtime.Gosched()
			}
			require.NoError(t, task.Stop(t.Context()))
		},
		"ended by themselves": func(m *taskmanager.Manager) {
			for i, body := range []taskmanager.TaskFunc{
				func(context.Context) error { return nil },
				func(context.Context) error { panic(errWhy) },
				func(context.Context) error { runtime.Goexit(); return nil },
				func(ctx context.Context) error { return m.StopAll(ctx) },
			} {
				task := start(t, m, fmt.Sprint(i), body, taskmanager.WithRestart(taskmanager.RestartNever))
				_ = task.Wait(t.Context())
			}
			for m.Stats().ReportsWaiting > 0 {
				runtime.Gosched()
			}
		},
		"stuck for a while": func(m *taskmanager.Manager) {
			deaf := newDeafBody()
			task := start(t, m, "a", deaf.run, taskmanager.WithStopTimeout(1))
			for task.State() != taskmanager.StateRunning {
				runtime.Gosched()
			}
			require.Error(t, task.Stop(t.Context()))
			deaf.release()
			require.NoError(t, task.Wait(t.Context()))
		},
		"watched": func(m *taskmanager.Manager) {
			task := start(t, m, "a", func(context.Context) error { return nil },
				taskmanager.WithReadiness(time.Hour), taskmanager.WithWatchdog(time.Hour))
			require.NoError(t, task.Wait(t.Context()))
		},
		"stopped by callers who left": func(m *taskmanager.Manager) {
			task := start(t, m, "a", untilStopped)
			gone, leave := context.WithCancel(t.Context())
			leave()
			_ = task.Stop(gone)
			require.NoError(t, task.Wait(t.Context()))
		},
		"shut down": func(m *taskmanager.Manager) {
			start(t, m, "a", untilStopped)
			require.NoError(t, m.Shutdown(t.Context()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			collected := make(chan struct{})
			manager := func() weak.Pointer[taskmanager.Manager] {
				m := mustNew(t, taskmanager.WithContext(parent), taskmanager.WithStopTimeout(time.Hour),
					taskmanager.WithBackoff(time.Hour, time.Hour),
					taskmanager.WithReportLimit(rate.Inf, 0), taskmanager.WithReporter(taskmanager.ReporterFunc(
						func(context.Context, taskmanager.Event) error { return nil })))
				use(m)
				runtime.AddCleanup(m, func(c chan struct{}) { close(c) }, collected)
				return weak.Make(m)
			}()
			// The last goroutines of the tasks may still be on their way out.
			for range 1000 {
				if runtime.GC(); manager.Value() == nil {
					break
				}
				runtime.Gosched()
			}
			require.Nil(t, manager.Value())
			<-collected
		})
	}
}

func TestManagerTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		for range m.Tasks() {
			t.Error("there is no task")
		}
		want := make(map[string]bool)
		for i := range 10 {
			start(t, m, fmt.Sprint(i), untilStopped)
			want[fmt.Sprint(i)] = true
		}
		require.NoError(t, m.StopTask(t.Context(), "3"))
		got := make(map[string]bool)
		for task := range m.Tasks() {
			got[task.Name()] = true
			// No lock is held: the loop may change what it walks over, and still sees what there was.
			require.NoError(t, func() error {
				_, err := m.StartTask("new "+task.Name(), untilStopped)
				return err
			}())
		}
		assert.Equal(t, want, got)
		n := 0
		for range m.Tasks() {
			n++
			if n == 4 {
				break
			}
		}
		assert.Equal(t, 4, n)
		require.NoError(t, m.StopAll(t.Context()))
	})
}

func TestManagerTimeCanBeFaked_Promise9(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		require.Equal(t, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), begin.UTC())
		elapsed := func(want time.Duration, what string) {
			t.Helper()
			assert.Equal(t, want, time.Since(begin), what)
		}
		m := newManager(t, taskmanager.WithBackoff(time.Hour, 24*time.Hour), taskmanager.WithBackoffFactor(24), taskmanager.WithBackoffJitter(0),
			taskmanager.WithRestartWindow(7*24*time.Hour), taskmanager.WithRestartLimit(1.0/4096, 1), taskmanager.WithStopTimeout(time.Hour))

		// The backoff, and the length of a healthy run.
		task := start(t, m, "a", func(ctx context.Context) error {
			if time.Since(begin) == 25*time.Hour {
				return failAfter(7 * 24 * time.Hour)(ctx)
			}
			return errBoom
		}, taskmanager.WithMaxRestarts(2))
		require.ErrorIs(t, task.Wait(context.Background()), taskmanager.ErrTooManyRestarts)
		// 1 h, 24 h, a week that is healthy, 1 h, 24 h; then there are two restarts within the week.
		elapsed((1+24+7*24+1+24)*time.Hour, "backoff, window, health")

		// The fleet-wide limit.
		begin = time.Now()
		for _, name := range []string{"b", "c", "d"} {
			ran := false
			start(t, m, name, func(ctx context.Context) error {
				if ran {
					return untilStopped(ctx)
				}
				ran = true
				return errBoom
			}, taskmanager.WithBackoff(0, 0))
		}
		for m.Stats().Running < 3 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		elapsed(3*4096*time.Second, "the fleet-wide limit: the last restart of a was at the same time")

		// The stop timeout, and the deadline of a context.
		begin = time.Now()
		release := make(chan struct{})
		stuck := start(t, m, "stuck", ignoring(release))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		assert.Equal(t, context.DeadlineExceeded, stuck.Wait(ctx))
		elapsed(time.Minute, "Wait")
		var timeout *taskmanager.StopTimeoutError
		require.ErrorAs(t, stuck.Stop(context.Background()), &timeout)
		elapsed(time.Hour+time.Minute, "the stop timeout")
		close(release)
		<-stuck.Done()

		// The deadline of Run.
		begin = time.Now()
		ctx, cancel = context.WithTimeout(context.Background(), 1000*time.Hour)
		defer cancel()
		require.NoError(t, m.Run(ctx))
		elapsed(1000*time.Hour, "Run")

		// The report that takes too long, and its next attempt.
		begin = time.Now()
		var calls []time.Duration
		m = newManager(t, taskmanager.WithReporter(taskmanager.ReporterFunc(func(ctx context.Context, _ taskmanager.Event) error {
			calls = append(calls, time.Since(begin))
			if len(calls) == 1 {
				<-ctx.Done()
			}
			return ctx.Err()
		})), taskmanager.WithReportLimit(rate.Inf, 0))
		start(t, m, "a", boom, taskmanager.WithMaxRestarts(0))
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, seconds(0, 10+1), calls)
	})
}

// A Manager that New has not made says so, and panics nowhere: nil, as after an error of New that nobody has looked at, or a zero value.
func TestManagerThatNewHasNotMade_Promise8(t *testing.T) {
	var zero taskmanager.Manager
	for name, m := range map[string]*taskmanager.Manager{"zero": &zero, "nil": nil} {
		t.Run(name, func(t *testing.T) {
			arguments := map[reflect.Type]reflect.Value{
				reflect.TypeFor[context.Context]():            reflect.ValueOf(t.Context()),
				reflect.TypeFor[string]():                     reflect.ValueOf("a"),
				reflect.TypeFor[taskmanager.TaskFunc]():       reflect.ValueOf(taskmanager.TaskFunc(untilStopped)),
				reflect.TypeFor[taskmanager.Reporter]():       reflect.ValueOf(newInbox(nil)),
				reflect.TypeFor[[]taskmanager.TaskOption]():   reflect.ValueOf([]taskmanager.TaskOption(nil)),
				reflect.TypeFor[[]os.Signal]():                reflect.ValueOf([]os.Signal(nil)),
				reflect.TypeFor[[]string]():                   reflect.ValueOf([]string{"a"}),
				reflect.TypeFor[iter.Seq[taskmanager.Spec]](): reflect.ValueOf(iter.Seq[taskmanager.Spec](func(func(taskmanager.Spec) bool) {})),
			}
			v, asked, refused := reflect.ValueOf(m), 0, 0
			for i := range v.NumMethod() {
				name, method := v.Type().Method(i).Name, v.Method(i)
				var in []reflect.Value
				for i := range method.Type().NumIn() {
					p := method.Type().In(i)
					require.Contains(t, arguments, p, "%s takes a %v: add one", name, p)
					in = append(in, arguments[p])
				}
				call := method.Call
				if method.Type().IsVariadic() {
					call = method.CallSlice
				}
				out := call(in)
				asked++
				if len(out) == 0 {
					continue
				}
				if err, ok := reflect.TypeAssert[error](out[len(out)-1]); ok {
					refused++
					assert.EqualError(t, err, "taskmanager: Manager was not made by New", name)
				}
			}
			assert.GreaterOrEqual(t, asked, 13)
			assert.GreaterOrEqual(t, refused, 6)

			assert.Empty(t, slices.Collect(m.Tasks()))
			assert.False(t, m.IsRunning("a"))
			_, found := m.Lookup("a")
			assert.False(t, found)
			assert.Equal(t, taskmanager.ManagerStats{Tasks: map[string]taskmanager.TaskStats{}}, m.Stats())
			assert.Equal(t, taskmanager.Totals{}, m.Totals())
			assert.Equal(t, taskmanager.Health{}, m.Health(), "it is not ready, for it takes no tasks")
			ctx, cancel := context.WithCancel(t.Context())
			events := m.Subscribe(ctx)
			cancel()
			_, open := <-events
			assert.False(t, open)
		})
	}
}
