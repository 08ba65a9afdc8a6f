package taskmanager_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// A refusal is a bad value of an option, and the error that must come of it.
type refusal[O taskmanager.Option] struct {
	option O
	want   taskmanager.OptionError
	text   string
}

func refusedTaskOptions() []refusal[taskmanager.TaskOption] {
	const (
		positive = "must be positive"
		initial  = "needs 0 < initial <= max, or 0 for both"
		factor   = "must be 1 or more, and finite"
		jitter   = "must be between 0 and 1"
		restarts = "must be 0 or more, or Unlimited"
	)
	refused := func(o taskmanager.TaskOption, name string, value any, reason, text string) refusal[taskmanager.TaskOption] {
		return refusal[taskmanager.TaskOption]{o, taskmanager.OptionError{Option: name, Value: value, Reason: reason}, "taskmanager: " + text + ": " + reason}
	}
	return []refusal[taskmanager.TaskOption]{
		refused(taskmanager.WithRestart(3), "WithRestart", 3, "is no RestartPolicy", "WithRestart(3)"),
		refused(taskmanager.WithRestart(-1), "WithRestart", -1, "is no RestartPolicy", "WithRestart(-1)"),
		refused(taskmanager.WithMaxRestarts(-2), "WithMaxRestarts", -2, restarts, "WithMaxRestarts(-2)"),
		refused(taskmanager.WithMaxRestarts(math.MinInt64), "WithMaxRestarts", math.MinInt64, restarts, "WithMaxRestarts(-9223372036854775808)"),
		refused(taskmanager.WithRestartWindow(0), "WithRestartWindow", time.Duration(0), positive, "WithRestartWindow(0s)"),
		refused(taskmanager.WithRestartWindow(-time.Second), "WithRestartWindow", -time.Second, positive, "WithRestartWindow(-1s)"),
		refused(taskmanager.WithBackoff(0, time.Second), "WithBackoff", "0s, 1s", initial, "WithBackoff(0s, 1s)"),
		refused(taskmanager.WithBackoff(time.Second, 0), "WithBackoff", "1s, 0s", initial, "WithBackoff(1s, 0s)"),
		refused(taskmanager.WithBackoff(2*time.Second, time.Second), "WithBackoff", "2s, 1s", initial, "WithBackoff(2s, 1s)"),
		refused(taskmanager.WithBackoff(-1, time.Second), "WithBackoff", "-1ns, 1s", initial, "WithBackoff(-1ns, 1s)"),
		refused(taskmanager.WithBackoff(-2, -1), "WithBackoff", "-2ns, -1ns", initial, "WithBackoff(-2ns, -1ns)"),
		refused(taskmanager.WithBackoffFactor(0), "WithBackoffFactor", 0.0, factor, "WithBackoffFactor(0)"),
		refused(taskmanager.WithBackoffFactor(0.999), "WithBackoffFactor", 0.999, factor, "WithBackoffFactor(0.999)"),
		refused(taskmanager.WithBackoffFactor(math.Inf(1)), "WithBackoffFactor", math.Inf(1), factor, "WithBackoffFactor(+Inf)"),
		refused(taskmanager.WithBackoffFactor(math.Inf(-1)), "WithBackoffFactor", math.Inf(-1), factor, "WithBackoffFactor(-Inf)"),
		refused(taskmanager.WithBackoffJitter(-0.1), "WithBackoffJitter", -0.1, jitter, "WithBackoffJitter(-0.1)"),
		refused(taskmanager.WithBackoffJitter(1.1), "WithBackoffJitter", 1.1, jitter, "WithBackoffJitter(1.1)"),
		refused(taskmanager.WithBackOffPolicy(nil), "WithBackOffPolicy", "nil", "must not be nil", "WithBackOffPolicy(nil)"),
		refused(taskmanager.WithHealthyAfter(0), "WithHealthyAfter", time.Duration(0), positive, "WithHealthyAfter(0s)"),
		refused(taskmanager.WithHealthyAfter(-1), "WithHealthyAfter", time.Duration(-1), positive, "WithHealthyAfter(-1ns)"),
		refused(taskmanager.WithStopTimeout(0), "WithStopTimeout", time.Duration(0), positive, "WithStopTimeout(0s)"),
		refused(taskmanager.WithStopTimeout(-time.Minute), "WithStopTimeout", -time.Minute, positive, "WithStopTimeout(-1m0s)"),
	}
}

func refusedManagerOptions() []refusal[taskmanager.Option] {
	const limit = "needs a positive limit and a positive burst, or rate.Inf"
	long := strings.Repeat("é", 128)
	refused := func(o taskmanager.Option, name string, value any, reason, text string) refusal[taskmanager.Option] {
		return refusal[taskmanager.Option]{o, taskmanager.OptionError{Option: name, Value: value, Reason: reason}, "taskmanager: " + text + ": " + reason}
	}
	all := []refusal[taskmanager.Option]{
		refused(taskmanager.WithLogger(nil), "WithLogger", "nil", "must not be nil", "WithLogger(nil)"),
		refused(taskmanager.WithContext(noContext), "WithContext", "nil", "must not be nil", "WithContext(nil)"),
		refused(taskmanager.WithHistory(-1), "WithHistory", -1, "must be 0 or more", "WithHistory(-1)"),
		refused(taskmanager.WithShutdownTimeout(0), "WithShutdownTimeout", time.Duration(0), "must be positive", "WithShutdownTimeout(0s)"),
		refused(taskmanager.WithShutdownTimeout(-1), "WithShutdownTimeout", time.Duration(-1), "must be positive", "WithShutdownTimeout(-1ns)"),
		refused(taskmanager.WithName("a\nb"), "WithName", "a\nb", "must not contain control characters", `WithName("a\nb")`),
		refused(taskmanager.WithName("a\xff"), "WithName", "a\xff", "must be valid UTF-8", `WithName("a\xff")`),
		refused(taskmanager.WithName(long), "WithName", long, "must have 1 to 255 bytes, and has 256", `WithName("`+long[:80]+`" and 176 bytes more)`),
	}
	for name, with := range map[string]func(rate.Limit, int) taskmanager.Option{
		"WithRestartLimit": taskmanager.WithRestartLimit,
		"WithReportLimit":  taskmanager.WithReportLimit,
		"WithLogLimit":     taskmanager.WithLogLimit,
	} {
		all = append(
			all,
			refused(with(0, 1), name, "0, 1", limit, name+"(0, 1)"),
			refused(with(-1, 1), name, "-1, 1", limit, name+"(-1, 1)"),
			refused(with(1, 0), name, "1, 0", limit, name+"(1, 0)"),
			refused(with(1, -1), name, "1, -1", limit, name+"(1, -1)"),
			refused(with(rate.Limit(math.NaN()), 1), name, "NaN, 1", limit, name+"(NaN, 1)"),
			refused(with(rate.Limit(math.Inf(1)), 1), name, "+Inf, 1", limit, name+"(+Inf, 1)"),
		)
	}
	return all
}

func TestOptionsRefusedByNew(t *testing.T) {
	check := func(t *testing.T, option taskmanager.Option, want taskmanager.OptionError, text string) {
		t.Helper()
		// Neither the options before it nor those after it make a difference.
		m, err := taskmanager.New(taskmanager.WithName("m"), option, taskmanager.WithHistory(1))
		assert.Nil(t, m)
		var refused *taskmanager.OptionError
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, want, *refused)
		require.EqualError(t, err, text)
	}
	for _, test := range refusedManagerOptions() {
		t.Run(test.text, func(t *testing.T) { check(t, test.option, test.want, test.text) })
	}
	for _, test := range refusedTaskOptions() {
		t.Run(test.text, func(t *testing.T) { check(t, test.option, test.want, test.text) })
	}
}

// A NaN is not equal to itself, so its error is compared by its text.
func TestOptionsRefuseNaN(t *testing.T) {
	for _, option := range []taskmanager.TaskOption{taskmanager.WithBackoffFactor(math.NaN()), taskmanager.WithBackoffJitter(math.NaN())} {
		_, err := taskmanager.New(option)
		var refused *taskmanager.OptionError
		require.ErrorAs(t, err, &refused)
		require.EqualError(t, err, "taskmanager: "+refused.Option+"(NaN): "+refused.Reason)
	}
}

func TestOptionsRefusedByStartTask(t *testing.T) {
	for _, test := range refusedTaskOptions() {
		t.Run(test.text, func(t *testing.T) {
			m := newManager(t)
			task, err := m.StartTask("a", untilStopped, taskmanager.WithMaxRestarts(1), test.option, taskmanager.WithMaxRestarts(2))
			assert.Nil(t, task)
			var refused *taskmanager.OptionError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, test.want, *refused)
			require.EqualError(t, err, test.text)
			assert.Empty(t, m.Stats().Tasks)
		})
	}
}

func TestOptionsNil(t *testing.T) {
	want := taskmanager.OptionError{Option: "opts[1]", Reason: "must not be nil"}
	const text = "taskmanager: opts[1] <nil>: must not be nil"

	m, err := taskmanager.New(taskmanager.WithName("m"), nil)
	assert.Nil(t, m)
	var refused *taskmanager.OptionError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, want, *refused)
	require.EqualError(t, err, text)

	m = newManager(t)
	task, err := m.StartTask("a", untilStopped, taskmanager.WithMaxRestarts(1), nil)
	assert.Nil(t, task)
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, want, *refused)
	require.EqualError(t, err, text)
	assert.False(t, m.IsRunning("a"))
}

// The function is the user's. It is called at the start, so that the caller hears of it.
func TestOptionsRefuseAPolicyThatCannotBeMade(t *testing.T) {
	makers := map[string]func() backoff.BackOff{
		"returned nil":   func() backoff.BackOff { return nil },
		"panicked: oops": func() backoff.BackOff { panic("oops") },
	}
	for reason, maker := range makers {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				_, err := m.StartTask("a", untilStopped, taskmanager.WithBackOffPolicy(maker))
				var refused *taskmanager.OptionError
				require.ErrorAs(t, err, &refused)
				assert.Equal(t, taskmanager.OptionError{Option: "WithBackOffPolicy", Value: "func", Reason: reason}, *refused)
				require.EqualError(t, err, "taskmanager: WithBackOffPolicy(func): "+reason)
				assert.False(t, m.IsRunning("a"))

				// One that can be made the first time, and not when the ended task is restarted by hand.
				made := 0
				task := start(t, m, "a", boom, taskmanager.WithBackOffPolicy(func() backoff.BackOff {
					made++
					if made == 1 {
						return &backoff.StopBackOff{}
					}
					return maker()
				}))
				<-task.Done()
				before, ended := task.Stats(), task.Err()
				err = task.Restart(context.Background())
				require.ErrorAs(t, err, &refused)
				require.EqualError(t, err, "taskmanager: WithBackOffPolicy(func): "+reason+`: "a"`)
				synctest.Wait()
				assert.Equal(t, before, task.Stats())
				assert.Equal(t, ended, task.Err())
			})
		})
	}
}

func TestOptionsThatOnlyLookBad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, o := range []taskmanager.Option{
			taskmanager.WithMaxRestarts(math.MaxInt),
			taskmanager.WithRestartWindow(1), taskmanager.WithRestartWindow(math.MaxInt64),
			taskmanager.WithBackoff(1, 1), taskmanager.WithBackoff(math.MaxInt64, math.MaxInt64),
			taskmanager.WithBackoffFactor(1), taskmanager.WithBackoffFactor(math.MaxFloat64),
			taskmanager.WithBackoffJitter(0), taskmanager.WithBackoffJitter(1),
			taskmanager.WithHealthyAfter(1), taskmanager.WithHealthyAfter(math.MaxInt64),
			taskmanager.WithStopTimeout(1), taskmanager.WithStopTimeout(math.MaxInt64),
			taskmanager.WithRestartLimit(rate.Inf, 0), taskmanager.WithRestartLimit(rate.Inf, -1), taskmanager.WithRestartLimit(math.SmallestNonzeroFloat64, 1),
			taskmanager.WithReportLimit(rate.Inf, 0), taskmanager.WithReportLimit(1e300, math.MaxInt),
			taskmanager.WithHistory(0), taskmanager.WithHistory(math.MaxInt),
			taskmanager.WithName(""), taskmanager.WithName(strings.Repeat("x", 255)),
			taskmanager.WithReporter(nil),
		} {
			m := newManager(t, o)
			task := start(t, m, "a", failAt(0))
			synctest.Wait()
			require.NoError(t, task.Stop(context.Background()))
		}
	})
}

// What makes sense for a Manager alone must not compile in StartTask.
func TestOptionsOfAManagerAreNoTaskOptions(t *testing.T) {
	for name, o := range map[string]taskmanager.Option{
		"WithRestartLimit": taskmanager.WithRestartLimit(1, 1),
		"WithReporter":     taskmanager.WithReporter(nil),
		"WithReportLimit":  taskmanager.WithReportLimit(1, 1),
		"WithLogLimit":     taskmanager.WithLogLimit(1, 1),
		"WithLogger":       taskmanager.WithLogger(slog.Default()),
		"WithContext":      taskmanager.WithContext(context.Background()),
		"WithHistory":      taskmanager.WithHistory(1),
		"WithName":         taskmanager.WithName("m"),

		"WithShutdownTimeout": taskmanager.WithShutdownTimeout(time.Second),
	} {
		_, is := o.(taskmanager.TaskOption)
		assert.False(t, is, name)
	}
}

func TestOptionsOfAManagerAreTheDefaultsOfItsTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithMaxRestarts(1), taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0),
			taskmanager.WithRestartWindow(time.Hour), taskmanager.WithStopTimeout(time.Minute))
		restarts := func(task *taskmanager.Task) (int, time.Duration) {
			var gaveUp *taskmanager.GiveUpError
			require.ErrorAs(t, task.Wait(context.Background()), &gaveUp)
			return gaveUp.Restarts, gaveUp.Window
		}
		before := start(t, m, "before", boom)
		other := start(t, m, "other", boom, taskmanager.WithMaxRestarts(3), taskmanager.WithRestartWindow(time.Minute))
		after := start(t, m, "after", boom)

		n, window := restarts(before)
		assert.Equal(t, 1, n)
		assert.Equal(t, time.Hour, window)
		n, window = restarts(other)
		assert.Equal(t, 3, n, "a task's own option wins")
		assert.Equal(t, time.Minute, window)
		assert.Equal(t, 3*time.Second, other.Stats().EndedAt.Sub(other.Stats().StartedAt), "what it doesn't set is the Manager's")
		n, window = restarts(after)
		assert.Equal(t, 1, n, "and has no effect on others")
		assert.Equal(t, time.Hour, window)

		release := make(chan struct{})
		start(t, m, "stuck", ignoring(release))
		synctest.Wait()
		begin := time.Now()
		var stuck *taskmanager.StopTimeoutError
		require.ErrorAs(t, m.StopTask(context.Background(), "stuck"), &stuck)
		assert.Equal(t, time.Minute, time.Since(begin))
		close(release)
		synctest.Wait()
	})
}

func TestOptionsGivenTwiceTheLastOneWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithMaxRestarts(1), taskmanager.WithMaxRestarts(2), taskmanager.WithBackoff(0, 0))
		task := start(t, m, "a", boom)
		<-task.Done()
		assert.EqualValues(t, 3, task.Stats().Runs)
	})
	policy := (&script{delays: seconds(7, 7)}).option()
	exact := taskmanager.WithBackoffJitter(0)
	for title, test := range map[string]struct {
		opts []taskmanager.TaskOption
		want time.Duration
	}{
		"policy, then backoff": {[]taskmanager.TaskOption{exact, policy, taskmanager.WithBackoff(time.Second, time.Second)}, time.Second},
		"backoff, then policy": {[]taskmanager.TaskOption{exact, taskmanager.WithBackoff(time.Second, time.Second), policy}, 7 * time.Second},
		"policy, then factor":  {[]taskmanager.TaskOption{exact, policy, taskmanager.WithBackoffFactor(2)}, 2 * time.Second},
		"policy, then jitter":  {[]taskmanager.TaskOption{policy, exact}, 2 * time.Second},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				assert.Equal(t, []time.Duration{test.want}, delaysOf(t, 1, test.opts...))
			})
		})
	}
}

// The defaults of backoff, jitter and the fleet-wide limit are tested with the limits.
func TestOptionsDefaults(t *testing.T) {
	t.Run("five restarts within a minute", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			var gaveUp *taskmanager.GiveUpError
			require.ErrorAs(t, start(t, m, "a", boom).Wait(context.Background()), &gaveUp)
			assert.Equal(t, taskmanager.GiveUpError{
				Task: "a", Reason: taskmanager.GaveUpLimit, Restarts: 5, Window: time.Minute, Err: errBoom,
			}, *gaveUp)
		})
	})
	t.Run("five seconds to stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			release := make(chan struct{})
			task := start(t, m, "a", ignoring(release))
			synctest.Wait()
			begin := time.Now()
			err := task.Stop(context.Background())
			var stuck *taskmanager.StopTimeoutError
			require.ErrorAs(t, err, &stuck)
			assert.Equal(t, 5*time.Second, stuck.Timeout)
			assert.Equal(t, 5*time.Second, time.Since(begin))
			close(release)
			<-task.Done()
		})
	})
	t.Run("128 ended tasks are remembered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			for i := range 129 {
				<-start(t, m, strconv.Itoa(i), func(context.Context) error { return nil }).Done()
			}
			assert.Len(t, m.Stats().Tasks, 128)
			_, ok := m.Lookup("0")
			assert.False(t, ok, "the one that ended first is forgotten")
			_, ok = m.Lookup("1")
			assert.True(t, ok)
		})
	})
	t.Run("ten reports at once, then one a second", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var reported []time.Duration
			begin := time.Now()
			m := newManager(t, taskmanager.WithReporter(taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error {
				reported = append(reported, time.Since(begin).Round(time.Millisecond))
				return nil
			})))
			for i := range 12 {
				start(t, m, strconv.Itoa(i), func(context.Context) error { return errors.New(strconv.Itoa(i)) }, taskmanager.WithMaxRestarts(0))
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			assert.Equal(t, append(make([]time.Duration, 10), time.Second, 2*time.Second), reported)
		})
	})
	t.Run("the default logger, looked up at each line", func(t *testing.T) {
		defer slog.SetDefault(slog.Default())
		synctest.Test(t, func(t *testing.T) {
			m, err := taskmanager.New()
			require.NoError(t, err)
			for range 2 {
				var log logBook
				slog.SetDefault(slog.New(slog.NewJSONHandler(&log, nil)))
				task := start(t, m, "a", boom, taskmanager.WithMaxRestarts(0))
				<-task.Done()
				synctest.Wait() // the log is the last to hear
				lines := log.lines(t, "task failed for good, gave up")
				require.Len(t, lines, 1)
				assert.NotContains(t, lines[0], "manager", "it has no name")
			}
			assert.Empty(t, m.Stats().Name)
		})
	})
	t.Run("no parent context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			start(t, m, "a", func(ctx context.Context) error {
				_, ok := ctx.Deadline()
				assert.False(t, ok)
				return untilStopped(ctx)
			})
			synctest.Wait()
		})
	})
}

func TestOptionsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newManager(t, log.option(), taskmanager.WithName("fleet 1"))
		events := m.Subscribe(context.Background())
		<-start(t, m, "a", boom, taskmanager.WithMaxRestarts(0)).Done()
		assert.Equal(t, "fleet 1", m.Stats().Name)
		for _, e := range received(events) {
			assert.Equal(t, "fleet 1", e.Manager)
		}
		synctest.Wait() // the log is the last to hear
		lines := log.lines(t, "task failed for good, gave up")
		require.Len(t, lines, 1)
		assert.Equal(t, "fleet 1", lines[0]["manager"])
	})
}

func TestOptionsLikeANilContextAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", untilStopped)
		synctest.Wait()
		before := m.Stats()
		var none context.Context
		for name, call := range map[string]func() error{
			"StopTask":    func() error { return m.StopTask(none, "a") },
			"RestartTask": func() error { return m.RestartTask(none, "a") },
			"StopAll":     func() error { return m.StopAll(none) },
			"Shutdown":    func() error { return m.Shutdown(none) },
			"Run":         func() error { return m.Run(none) },
			"Wait":        func() error { return task.Wait(none) },
			"Stop":        func() error { return task.Stop(none) },
			"Restart":     func() error { return task.Restart(none) },
		} {
			err := call()
			var refused *taskmanager.OptionError
			require.ErrorAs(t, err, &refused, name)
			assert.Equal(t, taskmanager.OptionError{Option: "ctx", Reason: "must not be nil"}, *refused)
			require.EqualError(t, err, "taskmanager: ctx <nil>: must not be nil")
		}
		// As documented, since these return no error.
		_, ok := taskmanager.FromContext(none)
		assert.False(t, ok)
		taskmanager.SetStatus(none, "nobody's")
		events := m.Subscribe(none)

		synctest.Wait()
		assert.Equal(t, before, m.Stats(), "nothing is disturbed")
		require.NoError(t, task.Stop(context.Background()))
		assert.Len(t, received(events), 1, "and a nil context is never done")
	})
}

func TestOptionsThatAreBadDisturbNothing_Promise8(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newManager(t, log.option())
		events := m.Subscribe(context.Background())
		healthy := start(t, m, "healthy", untilStopped)
		waiting := start(t, m, "waiting", failAt(0), taskmanager.WithBackoff(time.Hour, time.Hour), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		ended := start(t, m, "ended", func(context.Context) error { return nil })
		synctest.Wait()
		received(events)
		before := m.Stats()
		logged := log.size()

		var none context.Context
		never := func(context.Context) error {
			assert.Fail(t, "a body that was refused is called")
			return nil
		}
		var errs []error
		try := func(err error) { errs = append(errs, err) }
		refuse := func(name string, body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) {
			task, err := m.StartTask(name, body, opts...)
			assert.Nil(t, task)
			try(err)
		}
		for _, name := range []string{"", strings.Repeat("x", 256), "a\xff", "a\nb", "\x00"} {
			refuse(name, never)
		}
		// The name of an ended task is free; a start that is refused doesn't make it forget that task.
		for _, name := range []string{"new", "ended", "healthy", "waiting"} {
			refuse(name, nil)
			refuse(name, never, nil)
			for _, test := range refusedTaskOptions() {
				refuse(name, never, test.option)
			}
		}
		for _, name := range []string{"healthy", "waiting", "ended"} {
			try(m.StopTask(none, name))
			try(m.RestartTask(none, name))
		}
		try(m.StopAll(none))
		try(m.Shutdown(none))
		try(m.Run(none))
		for _, err := range errs {
			var refused *taskmanager.OptionError
			require.ErrorAs(t, err, &refused)
			assert.NotEmpty(t, refused.Option)
			assert.NotEmpty(t, refused.Reason)
			assert.Less(t, len(err.Error()), 300, "what it was given may be long")
		}

		synctest.Wait()
		assert.Equal(t, before, m.Stats())
		assert.Empty(t, received(events))
		assert.Equal(t, logged, log.size(), "nothing has been logged")
		assert.Equal(t, taskmanager.StateRunning, healthy.State())
		assert.Equal(t, taskmanager.StateBackoff, waiting.State())
		found, _ := m.Lookup("ended")
		assert.Same(t, ended, found)
		time.Sleep(70 * time.Minute)
		synctest.Wait()
		assert.EqualValues(t, 2, waiting.Stats().Runs, "its delay was what it had been")
	})
}

func TestOptionsRestartPolicyInWords(t *testing.T) {
	for p, want := range map[taskmanager.RestartPolicy]string{
		taskmanager.RestartOnFailure: "on-failure", taskmanager.RestartNever: "never", taskmanager.RestartAlways: "always",
		-1: "unknown", 3: "unknown",
	} {
		assert.Equal(t, want, p.String())
		text, err := p.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
}
