package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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

func TestRunShutsDownWhenItsContextIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		var body causeLog
		task := start(t, m, "a", body.run)
		start(t, m, "slow", slowToStop(time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		time.AfterFunc(time.Minute, cancel)
		require.NoError(t, m.Run(ctx), "that ctx is done is no error")
		took(t, time.Minute+time.Second, began)
		assert.Equal(t, []error{taskmanager.ErrShutdown}, body.all())
		assert.Equal(t, taskmanager.StateStopped, task.State())
		_, err := m.StartTask("b", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
		require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
	})
}

func TestRunReturnsWhoIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		body := newDeafBody()
		start(t, m, "deaf", body.hangInBody)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		stuck := asStuck(t, m.Run(ctx), "deaf", 5*time.Second)
		took(t, 5*time.Second, began)
		assert.Contains(t, string(stuck.Stack), "hangInBody")
		body.release()
	})
}

// Shut down by somebody else, or stopped by the end of the parent context, every Run returns after the tasks have ended.
func TestRunEndsWithTheManager(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, m *taskmanager.Manager, cancel context.CancelCauseFunc){
		"Shutdown": func(t *testing.T, m *taskmanager.Manager, _ context.CancelCauseFunc) {
			assert.NoError(t, m.Shutdown(t.Context()))
		},
		"parent": func(_ *testing.T, _ *taskmanager.Manager, cancel context.CancelCauseFunc) { cancel(errWhy) },
	} {
		t.Run(name+", without tasks", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancelCause(context.Background())
				m := mustNew(t, taskmanager.WithContext(parent))
				began := time.Now()
				time.AfterFunc(time.Minute, func() { end(t, m, cancel) })
				require.NoError(t, m.Run(t.Context()))
				took(t, time.Minute, began)
			})
		})
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancelCause(context.Background())
				m := mustNew(t, taskmanager.WithContext(parent))
				start(t, m, "slow", slowToStop(time.Second))
				synctest.Wait()
				began := time.Now()
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						assert.NoError(t, m.Run(t.Context()))
						took(t, time.Minute+time.Second, began)
						assert.False(t, m.IsRunning("slow"))
					})
				}
				time.Sleep(time.Minute)
				end(t, m, cancel)
				wg.Wait()
				require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
			})
		})
	}
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoffJitter(0))
		var body causeLog
		task := start(t, m, "a", body.run)
		failing := start(t, m, "failing", func(context.Context) error { return errWhy })
		synctest.Wait()
		began := time.Now()
		require.NoError(t, m.Shutdown(t.Context()))
		took(t, 0, began)
		assert.Equal(t, []error{taskmanager.ErrShutdown}, body.all())
		assert.Equal(t, taskmanager.StateStopped, task.State())
		assert.Equal(t, taskmanager.StateStopped, failing.State())

		// Every call returns at once, with ErrManagerClosed where it can't be served.
		_, err := m.StartTask("b", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
		_, err = m.StartTask("a", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
		require.ErrorIs(t, m.RestartTask(t.Context(), "a"), taskmanager.ErrManagerClosed)
		require.ErrorIs(t, task.Restart(t.Context()), taskmanager.ErrManagerClosed)
		require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
		require.ErrorIs(t, m.StopTask(t.Context(), "a"), taskmanager.ErrTaskNotRunning)
		require.ErrorIs(t, m.StopTask(t.Context(), "b"), taskmanager.ErrTaskNotFound)
		require.ErrorIs(t, task.Stop(t.Context()), taskmanager.ErrTaskNotRunning)
		require.NoError(t, m.StopAll(t.Context()))
		require.NoError(t, m.Shutdown(t.Context()), "again is no error")
		require.NoError(t, task.Wait(t.Context()))
		assert.False(t, m.IsRunning("a"))
		assert.Len(t, slices.Collect(m.Tasks()), 2)
		assert.Equal(t, 2, m.Stats().Stopped)
		again, ok := m.Lookup("a")
		assert.True(t, ok)
		assert.Same(t, task, again)
		m.SetReporter(taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error { return nil }))
		ctx, cancel := context.WithCancel(t.Context())
		events := m.Subscribe(ctx)
		cancel()
		<-events
		took(t, 0, began)
	})
}

// A task that shuts its Manager down is not waited for; the others are, and the reports go out, although its context ends.
func TestShutdownFromInsideATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported atomic.Int64
		m := mustNew(t, taskmanager.WithReportLimit(0.001, 1), taskmanager.WithReporter(taskmanager.ReporterFunc(
			func(context.Context, taskmanager.Event) error {
				time.Sleep(time.Second)
				reported.Add(1)
				return nil
			})))
		for i := range 3 {
			start(t, m, fmt.Sprint(i), func(context.Context) error { return errWhy })
		}
		slow := start(t, m, "slow", slowToStop(time.Second))
		time.Sleep(time.Second)
		synctest.Wait()
		require.EqualValues(t, 1, reported.Load())
		began := time.Now()
		caller := start(t, m, "caller", func(ctx context.Context) error {
			assert.NoError(t, m.Shutdown(ctx))
			assert.ErrorIs(t, context.Cause(ctx), taskmanager.ErrShutdown)
			assert.Equal(t, taskmanager.StateStopped, slow.State())
			assert.EqualValues(t, 3, reported.Load())
			return nil
		})
		require.NoError(t, caller.Wait(t.Context()))
		took(t, 3*time.Second, began)
		assert.Equal(t, taskmanager.StateStopped, caller.State())
	})
}

// The end of the parent context stops all tasks, with its own cause, and closes the Manager.
func TestTheEndOfTheParentContext(t *testing.T) {
	for name, c := range map[string]struct {
		parent func(ctx context.Context) (context.Context, context.CancelFunc)
		cause  error
	}{
		"canceled": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Minute, cancel)
			return ctx, cancel
		}, context.Canceled},
		"canceled with a cause": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(time.Minute, func() { cancel(errWhy) })
			return ctx, func() { cancel(nil) }
		}, errWhy},
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Minute)
		}, context.DeadlineExceeded},
		"deadline with a cause": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, time.Minute, errWhy)
		}, errWhy},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := c.parent(context.Background())
				defer cancel()
				began := time.Now()
				m := mustNew(t, taskmanager.WithContext(parent), taskmanager.WithBackoff(time.Hour, time.Hour))
				events := m.Subscribe(t.Context())
				var body causeLog
				task := start(t, m, "a", func(ctx context.Context) error {
					// It has no deadline: the task is asked to stop at that of the parent, in its turn.
					_, ok := ctx.Deadline()
					assert.False(t, ok)
					err := body.run(ctx)
					assert.Equal(t, context.Canceled, err)
					return err
				})
				backingOff := start(t, m, "backoff", func(context.Context) error { return errWhy })
				deaf := newDeafBody()
				stuck := start(t, m, "deaf", deaf.run)
				require.Equal(t, taskmanager.StateBackoff, settled(backingOff))

				require.NoError(t, task.Wait(t.Context()))
				require.NoError(t, backingOff.Wait(t.Context()))
				took(t, time.Minute, began)
				assert.Equal(t, []error{c.cause}, body.all())
				assert.Equal(t, taskmanager.StateStopped, task.State())
				assert.Equal(t, taskmanager.StateStopped, backingOff.State())
				got := pending(events)
				assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStopped}, kinds(got, "a"))
				for _, e := range got {
					if e.Kind == taskmanager.EventStopped {
						require.NoError(t, e.Err)
					}
				}
				// Closed, as after Shutdown.
				_, err := m.StartTask("b", untilStopped)
				require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
				require.ErrorIs(t, task.Restart(t.Context()), taskmanager.ErrManagerClosed)
				require.ErrorIs(t, m.RestartTask(t.Context(), "deaf"), taskmanager.ErrManagerClosed)
				ran := make(chan error)
				if name == "canceled" { // Run waits for the one that does not return
					go func() { ran <- m.Run(t.Context()) }()
				} else { // nobody does, and it is found all the same
					close(ran)
				}
				time.Sleep(5*time.Second - 1)
				require.Equal(t, taskmanager.StateStopping, settled(stuck))
				time.Sleep(time.Nanosecond)
				require.Equal(t, taskmanager.StateStuck, settled(stuck))
				asStuck(t, pending(events)[0].Err, "deaf", 5*time.Second)
				if err, ok := <-ran; ok {
					asStuck(t, err, "deaf", 5*time.Second)
				}
				deaf.release()
				<-stuck.Done()
				require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// Run hears of the parent's end as well, and must not make it a shutdown like any other.
func TestTheCauseOfTheParentContextWithRun(t *testing.T) {
	for range 100 {
		synctest.Test(t, func(t *testing.T) {
			parent, cancel := context.WithCancelCause(context.Background())
			m := mustNew(t, taskmanager.WithContext(parent))
			var body causeLog
			start(t, m, "a", body.run)
			start(t, m, "b", body.run)
			done := make(chan struct{})
			go func() {
				defer close(done)
				assert.NoError(t, m.Run(t.Context()))
			}()
			synctest.Wait()
			cancel(errWhy)
			<-done
			assert.Equal(t, []error{errWhy, errWhy}, body.all())
		})
	}
}

// A parent that has ended before there is a task closes the Manager all the same.
func TestTheParentContextHadEndedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(context.Background())
		early := mustNew(t, taskmanager.WithContext(parent))
		task := start(t, early, "a", untilStopped)
		synctest.Wait()
		require.NoError(t, task.Stop(t.Context()))
		cancel()
		synctest.Wait()
		late := mustNew(t, taskmanager.WithContext(parent))
		for _, m := range []*taskmanager.Manager{early, late} {
			_, err := m.StartTask("a", untilStopped)
			require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
			require.ErrorIs(t, m.Run(t.Context()), taskmanager.ErrManagerClosed)
			require.NoError(t, m.StopAll(t.Context()))
			require.NoError(t, m.Shutdown(t.Context()))
		}
		require.ErrorIs(t, task.Restart(t.Context()), taskmanager.ErrManagerClosed)
		assert.Equal(t, taskmanager.StateStopped, task.State())
	})
}

// A body may hear of the parent's end before the Manager does: what it returns then is no failure.
func TestABodyThatHearsOfTheParentsEndItself(t *testing.T) {
	for range 50 {
		synctest.Test(t, func(t *testing.T) {
			parent, cancel := context.WithCancelCause(context.Background())
			m := mustNew(t, taskmanager.WithContext(parent))
			task := start(t, m, "a", func(context.Context) error {
				<-parent.Done()
				return parent.Err()
			})
			synctest.Wait()
			cancel(errWhy)
			require.NoError(t, task.Wait(t.Context()))
			assert.Equal(t, taskmanager.StateStopped, task.State())
			assert.Zero(t, task.Stats().Failures)
		})
	}
}

type parentKey struct{}

func TestTheParentContextsValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithContext(context.WithValue(context.Background(), parentKey{}, "value")))
		task := start(t, m, "a", func(ctx context.Context) error {
			assert.Equal(t, "value", ctx.Value(parentKey{}))
			<-ctx.Done()
			assert.Equal(t, "value", ctx.Value(parentKey{}))
			return nil
		})
		synctest.Wait()
		require.NoError(t, task.Stop(t.Context()))
	})
}

func TestPromise2OneGoroutinePerTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tasks = 300
		parent, cancel := context.WithCancel(context.Background())
		defer cancel()
		before := goroutines()
		m := mustNew(t, taskmanager.WithContext(parent), taskmanager.WithBackoff(time.Minute, time.Minute),
			taskmanager.WithReportLimit(rate.Inf, 0), taskmanager.WithRestartLimit(1, 1), taskmanager.WithReporter(taskmanager.ReporterFunc(
				func(context.Context, taskmanager.Event) error { return nil })))
		events := m.Subscribe(t.Context())
		assert.Equal(t, before, goroutines(), "a new Manager has none")
		for i := range tasks {
			body := untilStopped
			if i%3 == 0 {
				body = func(context.Context) error { return errWhy }
			}
			start(t, m, fmt.Sprint(i), body)
		}
		assert.Equal(t, before+tasks, goroutines())
		assert.Equal(t, tasks/3, m.Stats().Backoff)
		time.Sleep(time.Minute + time.Second) // now they wait for the fleet-wide limit
		assert.Equal(t, before+tasks, goroutines())
		for i := range tasks {
			if i%3 != 0 {
				require.NoError(t, m.RestartTask(t.Context(), fmt.Sprint(i)))
			}
		}
		assert.Equal(t, before+tasks, goroutines())
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, before, goroutines(), "a Manager at rest has none")
		_ = events
	})
}

// The goroutine of a body that ends it by runtime.Goexit is replaced, not doubled.
func TestPromise2OneGoroutineAfterGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		before := goroutines()
		start(t, m, "a", func(context.Context) error { runtime.Goexit(); return nil })
		for range 20 {
			assert.Equal(t, before+1, goroutines())
			time.Sleep(time.Second)
		}
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, before, goroutines())
	})
}

// At rest nothing holds the Manager: neither a parent context that lives on, nor the timer of a stop or of a pause, nor a reporter.
func TestPromise2AManagerAtRestIsGarbage(t *testing.T) {
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

func TestHistory(t *testing.T) {
	ended := func(m *taskmanager.Manager) (names []string) {
		for task := range m.Tasks() {
			names = append(names, task.Name())
		}
		slices.Sort(names)
		return names
	}
	finish := func(t *testing.T, m *taskmanager.Manager, names ...string) (tasks []*taskmanager.Task) {
		t.Helper()
		for _, name := range names {
			task := start(t, m, name, untilStopped)
			synctest.Wait()
			require.NoError(t, task.Stop(t.Context()))
			tasks = append(tasks, task)
		}
		return tasks
	}
	t.Run("none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t, taskmanager.WithHistory(0))
			task := finish(t, m, "a")[0]
			assert.Empty(t, ended(m))
			_, ok := m.Lookup("a")
			assert.False(t, ok)
			assert.False(t, m.IsRunning("a"))
			assert.Empty(t, m.Stats().Tasks)
			assert.EqualValues(t, 1, m.Stats().Runs)
			require.ErrorIs(t, m.StopTask(t.Context(), "a"), taskmanager.ErrTaskNotFound)
			require.ErrorIs(t, m.RestartTask(t.Context(), "a"), taskmanager.ErrTaskNotFound)
			require.ErrorIs(t, task.Restart(t.Context()), taskmanager.ErrTaskNotFound)
			require.ErrorIs(t, task.Stop(t.Context()), taskmanager.ErrTaskNotRunning)
			// The handle is history, and can be asked.
			assert.Equal(t, taskmanager.StateStopped, task.State())
			assert.EqualValues(t, 1, task.Stats().Runs)
			require.NoError(t, task.Wait(t.Context()))
			finish(t, m, "a")
			assert.EqualValues(t, 2, m.Stats().Runs)
		})
	})
	t.Run("the oldest are forgotten", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t, taskmanager.WithHistory(3))
			alive := start(t, m, "alive", untilStopped)
			tasks := finish(t, m, "a", "b", "c", "d", "e")
			assert.Equal(t, []string{"alive", "c", "d", "e"}, ended(m))
			// One that is revived is not among them any more, and is the newest when it has ended again.
			require.NoError(t, m.RestartTask(t.Context(), "c"))
			synctest.Wait()
			finish(t, m, "f")
			assert.Equal(t, []string{"alive", "c", "d", "e", "f"}, ended(m))
			require.NoError(t, m.StopTask(t.Context(), "c"))
			assert.Equal(t, []string{"alive", "c", "e", "f"}, ended(m))
			finish(t, m, "g", "h")
			assert.Equal(t, []string{"alive", "c", "g", "h"}, ended(m))
			// A name that is started anew takes the place of its former task, in the middle of the others.
			finish(t, m, "g")
			assert.Equal(t, []string{"alive", "c", "g", "h"}, ended(m))
			finish(t, m, "i")
			assert.Equal(t, []string{"alive", "g", "h", "i"}, ended(m))
			finish(t, m, "j")
			assert.Equal(t, []string{"alive", "g", "i", "j"}, ended(m), "h had ended before the second g")
			finish(t, m, "j", "g", "i")
			assert.Equal(t, []string{"alive", "g", "i", "j"}, ended(m))
			require.ErrorIs(t, tasks[0].Restart(t.Context()), taskmanager.ErrTaskNotFound)
			assert.EqualValues(t, 16, m.Stats().Runs)
			require.NoError(t, alive.Stop(t.Context()))
		})
	})
	t.Run("128 by default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			for i := range 200 {
				finish(t, m, fmt.Sprint(i))
			}
			assert.Len(t, ended(m), 128)
			for i := range 200 {
				_, ok := m.Lookup(fmt.Sprint(i))
				assert.Equal(t, i >= 200-128, ok, i)
			}
		})
	})
}

// Whatever is forgotten, replaced or revived: the totals are those that the bodies have counted, after every step.
func TestTotalsNeverDecrease(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t, taskmanager.WithHistory(2), taskmanager.WithBackoff(time.Second, time.Second),
				taskmanager.WithMaxRestarts(1))
			random := rand.New(rand.NewPCG(seed, 0))
			var runs, failures, panics uint64 // the bodies take turns: no two bodies run at a time in the bubble's steps
			var mu sync.Mutex
			body := func(ctx context.Context) error {
				mu.Lock()
				runs++
				kind := random.IntN(4)
				if kind >= 2 {
					failures++
				}
				if kind == 3 {
					panics++
				}
				mu.Unlock()
				switch kind {
				case 0:
					return untilStopped(ctx)
				case 1:
					return nil
				case 2:
					return errWhy
				default:
					panic(errWhy)
				}
			}
			for range 200 {
				mu.Lock()
				name, step := fmt.Sprint(random.IntN(5)), random.IntN(4)
				mu.Unlock()
				switch step {
				case 0:
					_, _ = m.StartTask(name, body)
				case 1:
					_ = m.StopTask(t.Context(), name)
				case 2:
					_ = m.RestartTask(t.Context(), name)
				case 3:
					time.Sleep(time.Second)
				}
				synctest.Wait()
				s := m.Stats()
				mu.Lock()
				require.Equal(t, runs, s.Runs)
				require.Equal(t, failures, s.Failures)
				require.Equal(t, panics, s.Panics)
				mu.Unlock()
			}
			require.NoError(t, m.StopAll(t.Context()))
		})
	}
}

func TestTasks(t *testing.T) {
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

func TestWaitDoneAndErr(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithRestart(taskmanager.RestartNever))
		release := make(chan error)
		task := start(t, m, "a", func(context.Context) error { return <-release })
		synctest.Wait()
		select {
		case <-task.Done():
			t.Error("it has not ended")
		default:
		}
		require.NoError(t, task.Err())
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errWhy)
		defer cancel()
		began := time.Now()
		assert.Equal(t, errWhy, task.Wait(ctx))
		took(t, time.Second, began)

		// The same error for all who wait, and for those who ask later; even with a context that is done.
		own := errors.New("its own")
		done := task.Done()
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				err := task.Wait(t.Context())
				assert.ErrorIs(t, err, own)
				assert.Equal(t, taskmanager.StateFailed, task.State())
			})
		}
		release <- own
		wg.Wait()
		<-done
		assert.Equal(t, done, task.Done())
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, task.Err(), &gaveUp)
		assert.Equal(t, "a", gaveUp.Task)
		for range 50 {
			assert.Same(t, gaveUp, task.Wait(ctx))
		}

		completed := start(t, m, "b", func(context.Context) error { return nil })
		require.NoError(t, completed.Wait(t.Context()))
		require.NoError(t, completed.Err())
		assert.Equal(t, taskmanager.StateCompleted, completed.State())

		// A body that waits for its own task waits for its context.
		self := start(t, m, "c", func(ctx context.Context) error {
			task, _ := taskmanager.FromContext(ctx)
			return task.Wait(ctx)
		})
		synctest.Wait()
		require.NoError(t, self.Stop(t.Context()))
		require.NoError(t, self.Err())
	})
}

func TestDefaultManager(t *testing.T) {
	t.Cleanup(func() { taskmanager.SetDefault(nil) })
	// Made when it is first used, once.
	taskmanager.SetDefault(nil)
	var (
		wg    sync.WaitGroup
		first [8]*taskmanager.Manager
	)
	for i := range first {
		wg.Go(func() { first[i] = taskmanager.Default() })
	}
	wg.Wait()
	for _, m := range first {
		require.NotNil(t, m)
		assert.Same(t, first[0], m)
	}
	taskmanager.SetDefault(nil)
	assert.NotSame(t, first[0], taskmanager.Default())

	synctest.Test(t, func(t *testing.T) {
		former, m := mustNew(t), mustNew(t, taskmanager.WithName("the default"))
		taskmanager.SetDefault(former)
		goesOn := start(t, former, "goes on", untilStopped)
		taskmanager.SetDefault(m)
		assert.Same(t, m, taskmanager.Default())
		assert.Equal(t, taskmanager.StateRunning, settled(goesOn))

		ctx := t.Context()
		task, err := taskmanager.StartTask("a", untilStopped, taskmanager.WithStopTimeout(time.Second))
		require.NoError(t, err)
		synctest.Wait()
		assert.True(t, taskmanager.IsRunning("a"))
		assert.True(t, m.IsRunning("a"))
		found, ok := taskmanager.Lookup("a")
		assert.True(t, ok)
		assert.Same(t, task, found)
		require.NoError(t, taskmanager.RestartTask(ctx, "a"))
		assert.EqualValues(t, 2, taskmanager.Stats().Tasks["a"].Runs)
		assert.Equal(t, "the default", taskmanager.Stats().Name)
		require.NoError(t, taskmanager.StopTask(ctx, "a"))
		require.ErrorIs(t, taskmanager.StopTask(ctx, "b"), taskmanager.ErrTaskNotFound)
		assert.False(t, taskmanager.IsRunning("a"))
		require.NoError(t, taskmanager.RestartTask(ctx, "a"))
		require.NoError(t, taskmanager.StopAll(ctx))
		assert.Equal(t, taskmanager.StateStopped, task.State())

		var reported atomic.Int64
		taskmanager.SetReporter(taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error {
			reported.Add(1)
			return nil
		}))
		_, err = taskmanager.StartTask("fails", func(context.Context) error { return errWhy })
		require.NoError(t, err)
		synctest.Wait()
		assert.EqualValues(t, 1, reported.Load())

		runCtx, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second/2, cancel)
		began := time.Now()
		require.NoError(t, taskmanager.Run(runCtx))
		took(t, time.Second/2, began)
		_, err = taskmanager.StartTask("late", untilStopped)
		require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
		assert.Equal(t, taskmanager.StateRunning, goesOn.State())
		require.NoError(t, goesOn.Stop(ctx))
		taskmanager.SetDefault(nil)
	})
}

// nest runs body as the task "inner" of a Manager within the task "outer" of m.
func nest(t *testing.T, m *taskmanager.Manager, body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) *taskmanager.Task {
	t.Helper()
	return start(t, m, "outer", func(ctx context.Context) error {
		inner, err := taskmanager.New(taskmanager.WithContext(ctx), taskmanager.WithStopTimeout(time.Second),
			taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			return err
		}
		if _, err := inner.StartTask("inner", body); err != nil {
			return err
		}
		return inner.Run(ctx)
	}, opts...)
}

// To stop the outer task stops the inner one, which is told the same cause.
func TestNestedStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		var body causeLog
		outer := nest(t, m, func(ctx context.Context) error {
			err := body.run(ctx)
			time.Sleep(time.Second / 2)
			return err
		})
		synctest.Wait()
		began := time.Now()
		require.NoError(t, outer.Stop(t.Context()))
		took(t, time.Second/2, began)
		assert.Equal(t, []error{taskmanager.ErrStopped}, body.all())
		assert.Equal(t, taskmanager.StateStopped, outer.State())
	})
}

// While something in it is stuck the outer task must not begin again.
func TestNestedStuckTaskIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoff(0, 0))
		deaf := newDeafBody()
		runs := 0
		outer := start(t, m, "outer", func(ctx context.Context) error {
			runs++
			inner, err := taskmanager.New(taskmanager.WithContext(ctx), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
			assert.NoError(t, err)
			_, err = inner.StartTask("inner", deaf.hangInBody)
			assert.NoError(t, err)
			time.Sleep(time.Second)
			return fmt.Errorf("the inner ones: %w", errors.Join(errWhy, inner.StopAll(ctx)))
		})
		began := time.Now()
		err := outer.Wait(t.Context())
		took(t, 6*time.Second, began)
		assert.Equal(t, taskmanager.StateFailed, outer.State())
		require.NotErrorIs(t, err, taskmanager.ErrTooManyRestarts)
		require.ErrorIs(t, err, errWhy)
		stuck := asStuck(t, err, "inner", 5*time.Second)
		assert.Contains(t, string(stuck.Stack), "hangInBody")
		time.Sleep(time.Hour)
		assert.Equal(t, 1, runs)
		deaf.release()
	})
}

// An inner task that stops, restarts or shuts down what it runs in does not wait for itself.
func TestNestedTaskStopsTheOuterOne(t *testing.T) {
	for name, stop := range map[string]func(ctx context.Context, m *taskmanager.Manager) error{
		"StopTask": func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "outer") },
		"StopAll":  func(ctx context.Context, m *taskmanager.Manager) error { return m.StopAll(ctx) },
		"Shutdown": func(ctx context.Context, m *taskmanager.Manager) error { return m.Shutdown(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				began := time.Now()
				sibling := start(t, m, "sibling", slowToStop(time.Second/2))
				synctest.Wait() // stopped before its first run, it would take no time
				outer := nest(t, m, func(ctx context.Context) error {
					assert.NoError(t, stop(ctx, m))
					assert.Equal(t, name != "StopTask", sibling.State().Ended(), "the others are waited for")
					return untilStopped(ctx)
				})
				require.NoError(t, outer.Wait(t.Context()))
				if name == "StopTask" {
					took(t, 0, began)
				} else {
					took(t, time.Second/2, began)
				}
				assert.Equal(t, taskmanager.StateStopped, outer.State())
				require.NoError(t, m.StopAll(t.Context()))
			})
		})
	}
	t.Run("RestartTask", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := mustNew(t)
			runs := 0
			outer := nest(t, m, func(ctx context.Context) error {
				runs++
				if runs == 1 {
					assert.NoError(t, m.RestartTask(ctx, "outer"))
					<-ctx.Done()
					assert.ErrorIs(t, context.Cause(ctx), taskmanager.ErrRestarted)
				}
				return untilStopped(ctx)
			})
			require.Equal(t, taskmanager.StateRunning, settled(outer))
			assert.Equal(t, 2, runs)
			assert.EqualValues(t, 2, outer.Stats().Runs)
			require.NoError(t, outer.Stop(t.Context()))
		})
	})
}

// The goroutines of an inner task are its own, by its label, and not those of the outer one.
func TestNestedStuckStacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		outer := nest(t, m, deaf.hangInSibling, taskmanager.WithStopTimeout(time.Second/2))
		synctest.Wait()
		stuck := asStuck(t, outer.Stop(t.Context()), "outer", time.Second/2)
		assert.Contains(t, string(stuck.Stack), "(*Manager).Run")
		assert.NotContains(t, string(stuck.Stack), "hangInSibling")
		// The inner one is stuck at its own deadline, and that does not count as a failure of a task that was stopped.
		time.Sleep(time.Second)
		require.Equal(t, taskmanager.StateStopped, settled(outer))
		assert.Zero(t, outer.Stats().Failures)
		deaf.release()
	})
}
