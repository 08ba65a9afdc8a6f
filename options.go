package taskmanager

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/time/rate"
)

// An Option configures a [Manager]; see [New].
type Option interface {
	apply(*config) error
}

// A TaskOption configures a task; see [Manager.StartTask]. Given to [New], it sets the default for
// every task of that Manager.
type TaskOption interface {
	Option
	forTask()
}

// A RestartPolicy says after which runs a task is restarted. The zero value is RestartOnFailure.
type RestartPolicy int

const (
	// RestartOnFailure restarts after a failure; a run that returns nil completes the task.
	RestartOnFailure RestartPolicy = iota
	// RestartNever gives up at the first failure.
	RestartNever
	// RestartAlways restarts after a run that returns nil, too. Such a run is no failure, but its
	// restart is delayed and counts against the limit all the same.
	RestartAlways
)

var restartPolicyNames = [...]string{RestartOnFailure: "on-failure", RestartNever: "never", RestartAlways: "always"}

func (p RestartPolicy) valid() bool { return p >= 0 && int(p) < len(restartPolicyNames) }

// String returns "on-failure", "never" or "always".
func (p RestartPolicy) String() string {
	if p.valid() {
		return restartPolicyNames[p]
	}
	return "unknown"
}

// MarshalText implements [encoding.TextMarshaler].
func (p RestartPolicy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Unlimited is for [WithMaxRestarts]: the task is never given up because of its restarts.
const Unlimited = -1

// WithRestart says after which runs the task is restarted. The default is RestartOnFailure.
func WithRestart(p RestartPolicy) TaskOption {
	return taskOption("WithRestart", int(p), func(c *taskConfig) string {
		c.restart = p
		return reasonUnless(p.valid(), "is no RestartPolicy")
	})
}

// WithMaxRestarts sets how many restarts are allowed within the window; the failure that would need
// one more gives up the task. 0 gives up at the first failure, Unlimited never. The default is 5.
func WithMaxRestarts(n int) TaskOption {
	return taskOption("WithMaxRestarts", n, func(c *taskConfig) string {
		c.maxRestarts = n
		return reasonUnless(n >= 0 || n == Unlimited, "must be 0 or more, or Unlimited")
	})
}

// WithRestartWindow sets the time over which restarts are counted. The window slides: at each
// failure those restarts count whose failure is less than d ago. A restart exactly d ago no longer
// counts. Changes of the wall clock have no effect. The default is 60 seconds.
func WithRestartWindow(d time.Duration) TaskOption {
	return taskOption("WithRestartWindow", d, func(c *taskConfig) string {
		c.window = d
		return reasonUnless(d > 0, "must be positive")
	})
}

// WithBackoff sets the delay before the first restart, and the longest delay before any. 0, 0
// restarts at once, after letting other goroutines run. The default is 2 seconds and 60 seconds.
func WithBackoff(initial, longest time.Duration) TaskOption {
	return taskOption("WithBackoff", fmt.Sprintf("%v, %v", initial, longest), func(c *taskConfig) string {
		c.initial, c.longest, c.policy = initial, longest, nil
		return reasonUnless(initial == 0 && longest == 0 || initial > 0 && initial <= longest,
			"needs 0 < initial <= max, or 0 for both")
	})
}

// WithBackoffFactor sets what a delay is multiplied with to get the next one. 1 keeps it constant.
// The default is 1.5.
func WithBackoffFactor(f float64) TaskOption {
	return taskOption("WithBackoffFactor", f, func(c *taskConfig) string {
		c.factor, c.policy = f, nil
		return reasonUnless(f >= 1 && !math.IsInf(f, 0), "must be 1 or more, and finite")
	})
}

// WithBackoffJitter sets by which fraction of itself a delay is randomly made longer or shorter, so
// that tasks which failed together don't come back together. It never exceeds the longest delay. 0
// is for exact delays. The default is 0.1.
func WithBackoffJitter(f float64) TaskOption {
	return taskOption("WithBackoffJitter", f, func(c *taskConfig) string {
		c.jitter, c.policy = f, nil
		return reasonUnless(f >= 0 && f <= 1, "must be between 0 and 1")
	})
}

// WithBackOffPolicy replaces the exponential backoff by one's own. newPolicy is called once for
// each task, when it is started and when it is restarted after it had ended; and again if the task
// was restarted by hand while a call of the policy had not returned. A policy is used by one
// goroutine at a time; its Reset is called before the first delay, so that time that it counts itself
// begins with the first failure, and before the delay that follows a healthy run. It is not asked
// where the task is given up whatever it says. [backoff.Stop] gives up the task. So does, with an
// error that says so, a policy that panics, calls runtime.Goexit or returns any other negative delay.
//
// It replaces WithBackoff, WithBackoffFactor and WithBackoffJitter; of it and them, the last one
// given wins.
func WithBackOffPolicy(newPolicy func() backoff.BackOff) TaskOption {
	return taskOption("WithBackOffPolicy", "nil", func(c *taskConfig) string {
		c.policy = newPolicy
		return reasonUnless(newPolicy != nil, "must not be nil")
	})
}

// WithCooldown lets a task that has used up its restarts, or whose policy stops it, begin afresh after d instead of being given up for
// good; also one with [RestartNever], after each failure. What [Every] and [OnSchedule] make gives up a pass instead. Until then the
// task is in [StatePaused]. Its limit, its backoff and its row of
// failures begin anew then; other counts go on, for it is the same life, and Task.Err stays nil. It is told as giving up: by an
// EventGaveUp whose Delay is d, and [Manager.Health] has it as [HealthGivenUp]; but one with [WithCritical] is not gone. [Manager.ResumeTask]
// and [Manager.RestartTask] end the cooldown. The delay of the fleet-wide limit may follow.
//
// A task whose error is one of [backoff.Permanent], or says that something that it has started still executes, is given up for good.
// d must be positive. The default is none: a task is given up for good.
func WithCooldown(d time.Duration) TaskOption {
	return taskOption("WithCooldown", d, func(c *taskConfig) string {
		c.cooldown = d
		return reasonUnless(d > 0, "must be positive")
	})
}

// WithHealthyAfter sets how long a run must last to reset the backoff, however it ends; and for the task to have recovered, see
// [EventRecovered]. The default is the restart window.
func WithHealthyAfter(d time.Duration) TaskOption {
	return taskOption("WithHealthyAfter", d, func(c *taskConfig) string {
		c.healthyAfter = d
		return reasonUnless(d > 0, "must be positive")
	})
}

// WithEventHistory sets how many of its latest events a task keeps for [Task.History] that has failed, or been in the hands of somebody
// whom [AskedBy] names, at most 1,000. 16 take less than 1,100 bytes, beside the errors and the names. 0 keeps none. The default is 16.
func WithEventHistory(n int) TaskOption {
	return taskOption("WithEventHistory", n, func(c *taskConfig) string {
		c.eventHistory = n
		return reasonUnless(n >= 0 && n <= mostEventHistory, "must be between 0 and 1000")
	})
}

// WithStopTimeout sets how long a stop waits for the body to return if its context has no earlier
// deadline. The default is 5 seconds.
func WithStopTimeout(d time.Duration) TaskOption {
	return taskOption("WithStopTimeout", d, func(c *taskConfig) string {
		c.stopTimeout = d
		return reasonUnless(d > 0, "must be positive")
	})
}

// WithDrain has the context of a run live on for d after the task was asked to stop, or to restart, for what the body has in hand:
// [Draining] is closed at once, so that it takes nothing new, and the context ends d later, if the body has not returned by then; until
// when it has, is the Deadline of the context from then on. The
// stop has one deadline all the same, after which the task is stuck: so d must be less than the stop timeout (see [WithStopTimeout]),
// and the difference is what the body has to return once its context has ended. Where the deadline of the stop is earlier than the
// stop timeout, d is shorter in proportion; of two stops, the one that leaves less time counts. A watchdog does not cut a drain
// short, and a run that is late before anything was asked of it does not drain. The loss of a lease ends a drain ([WithLease]).
//
// The default, and 0, is not to drain: Draining and the context end together.
func WithDrain(d time.Duration) TaskOption {
	return taskOption("WithDrain", d, func(c *taskConfig) string {
		c.drain = d
		return reasonUnless(d >= 0, "must not be negative")
	})
}

// WithReadiness makes a run ready when its body calls [Ready], instead of as soon as it runs. One
// that is not ready in time is canceled with [ErrNotReady], and fails. By default a run is ready
// from its beginning. [Group] says when a group is.
func WithReadiness(timeout time.Duration) TaskOption {
	return taskOption("WithReadiness", timeout, func(c *taskConfig) string {
		c.readiness = timeout
		return reasonUnless(timeout > 0, "must be positive")
	})
}

// WithWatchdog cancels a run, with [ErrWatchdog], when its body has not called [Heartbeat] for d
// since the last time, or since the run began, or with [WithReadiness] since it was ready; that is a
// failure. If the body doesn't return within the stop timeout, the task is stuck. A timer that
// fires late by more than a quarter of d says that the process was frozen: the body then has a
// further d. The default is no watchdog.
func WithWatchdog(d time.Duration) TaskOption {
	return taskOption("WithWatchdog", d, func(c *taskConfig) string {
		c.watchdog = d
		return reasonUnless(d > 0, "must be positive")
	})
}

// WithDependsOn has each run of the task, be it the first or a restart, wait until the tasks of
// those names are ready (see [WithReadiness]) or have completed. They may be started later: of one
// that has not been when the task has waited for 10 s the log warns once. One that has completed
// before the task was started counts if it is remembered (see [WithHistory]), and is remembered from
// then on for as long as the task is.
// StopAll, Shutdown and the end of the parent context stop the task before them; [Manager.StopAll]
// says how they share a deadline.
//
// A dependency that is lost while the task runs does not stop the task; [WithBindTo] is for that. New refuses this option, and
// StartTask refuses one that makes a cycle with tasks that have not ended; so does RestartTask. A name
// given twice counts once. The default is to depend on none.
func WithDependsOn(names ...string) TaskOption {
	return namesOption("WithDependsOn", names, func(c *taskConfig, names []string) { c.dependsOn = names })
}

// WithBindTo is [WithDependsOn], and binds each run of the task to runs of those of the names: when one of them is lost, the run is
// canceled, with a cause that wraps [ErrDependencyLost], and the next one waits until all are ready again. Such an end is no failure:
// it counts against no limit and is not delayed, and its event is EventStopped. If the body does not return within the stop timeout,
// the task is stuck; it goes on when the body has returned. A run that is canceled for that does not drain ([WithDrain]).
//
// A task is lost when its run fails, is canceled because it was late or is itself bound to one that was lost, or is asked to stop, to
// pause, to restart or to be replaced; of a [Group] it is the run of the group. One that completes is not lost, nor is it by a revival.
//
// Beside WithDependsOn the task depends on the names of both. The default is to be bound to none.
func WithBindTo(names ...string) TaskOption {
	return namesOption("WithBindTo", names, func(c *taskConfig, names []string) { c.bindTo = names })
}

// namesOption makes the option of that name that is about other tasks.
func namesOption(option string, names []string, set func(c *taskConfig, names []string)) TaskOption {
	names = appendMissing(nil, names)
	return taskOption(option, quoted(names), func(c *taskConfig) string {
		if c.manager == nil {
			return "is for StartTask alone"
		}
		set(c, names)
		for _, name := range names {
			if reason := checkName(name); reason != "" {
				return fmt.Sprintf("%q %s", name, reason)
			}
		}
		return ""
	})
}

// appendMissing returns names and those of more that are not among them, each once.
func appendMissing(names, more []string) []string {
	names = slices.Clip(names) // others may have it, too
	for _, name := range more {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// WithStartJitter has the first run of the task, and each run that has waited for a task that it depends on, begin up to d later, at
// random: so that many tasks which are started at once, or wait for the same one, don't begin at once. Meanwhile the task is in
// StateWaiting; a stop or a restart by hand ends the wait. Restarts after a failure have a jitter of their own ([WithBackoffJitter]).
// The default, and 0, is none.
func WithStartJitter(d time.Duration) TaskOption {
	return taskOption("WithStartJitter", d, func(c *taskConfig) string {
		c.startJitter = d
		return reasonUnless(d >= 0, "must not be negative")
	})
}

// WithCritical makes the task one that the process must not live without: when it is given up or has
// completed, [Manager.Run] shuts everything down, and returns why: for one that has completed, which
// is one whose body has returned nil, an error that wraps [ErrCriticalCompleted], so that main can
// exit with a status other than 0. Run does so, too, when the task is stuck after a missed heartbeat,
// because it was not ready in time, or because one that it is bound to was lost ([WithBindTo]); and when
// it waits for one that was given up, be it by way of others. A critical task that is stopped or paused by hand is
// no reason to end, even if it gets stuck by that, or was late before.
// A [Group] ends likewise, and completes where its critical task has completed. [Manager.Health] says
// the same as Run, except that it is failing for any critical task that is stuck. The default is not
// critical.
func WithCritical() TaskOption {
	return taskOption("WithCritical", nil, func(c *taskConfig) string {
		c.critical = true
		return ""
	})
}

// WithRestartLimit bounds how many restarts per second the Manager does for all of its tasks
// together; up to burst of them may come at once. Restarts beyond it wait for their turn, in order.
// Restarts by hand don't. [rate.Inf] is for no limit. The default is 100 per second and a burst of
// 1000.
func WithRestartLimit(limit rate.Limit, burst int) Option {
	return managerOption("WithRestartLimit", fmt.Sprintf("%v, %d", limit, burst), func(c *config) string {
		c.restartLimit, c.restartBurst = limit, burst
		return checkLimit(limit, burst)
	})
}

// WithReporter sets the Reporter that hears of failures, as [Manager.SetReporter] does. The
// default, and nil, is none.
func WithReporter(r Reporter) Option {
	return managerOption("WithReporter", r, func(c *config) string {
		c.reporter = r
		return ""
	})
}

// WithReportLimit bounds how often per second a Reporter is called; up to burst of the calls may
// come at once. Beyond it, events of one task and kind are merged (see [Event.Repeats]). [rate.Inf]
// is for no limit. The default is 1 per second and a burst of 10.
func WithReportLimit(limit rate.Limit, burst int) Option {
	return managerOption("WithReportLimit", fmt.Sprintf("%v, %d", limit, burst), func(c *config) string {
		c.reportLimit, c.reportBurst = limit, burst
		return checkLimit(limit, burst)
	})
}

// WithLogLimit bounds how many lines per second are logged about tasks; up to burst of them may come at once. Beyond it, lines of one task
// and kind are merged, and those of many tasks that have the same error, as reports are (see [Reporter]): such a line says how many events
// it stands for, in repeats, since when, and of how many tasks. Nothing is left out: each failure is in a line, and the statistics count it.
// Shutdown writes at once what waits. [rate.Inf] is for no limit. The default is 100 per second and a burst of 1000. In a [Group] without
// WithLogger and WithLogLimit, the limit is that of the Manager around it.
func WithLogLimit(limit rate.Limit, burst int) Option {
	return managerOption("WithLogLimit", fmt.Sprintf("%v, %d", limit, burst), func(c *config) string {
		c.logLimit, c.logBurst, c.ownLogLimit = limit, burst, true
		return checkLimit(limit, burst)
	})
}

// WithLogger sets the logger. Each event is a line of it, at the level of [EventKind.Level], and so is
// who restarts a task by hand. Durations in lines are rounded, and stacks are []string, a call each:
// a handler that wants to print them one below the other finds them so. The lines
// of a task are written in the order of its events, one at a time, by its own goroutine or one that
// has nothing else to do, with the values of the context that the body was given (see [WithMiddleware]; of a start, those of
// [WithContext]; of several events in one line, those of the latest). By that context nobody is taken for the task, and it never ends.
// The handler of a slow logger delays the next run of the task that it logs
// for, and nobody else, and who waits for the task does not wait for the handler. The default is
// [slog.Default], looked up at each line; in a [Group], the logger of the Manager around it.
func WithLogger(l *slog.Logger) Option {
	return managerOption("WithLogger", "nil", func(c *config) string {
		c.logger = l
		return reasonUnless(l != nil, "must not be nil")
	})
}

// WithContext sets the parent of every task's context. Its end stops all tasks, with its cause, and
// closes the Manager. The default is [context.Background].
//
// A task's context is like that of context.WithCancelCause(context.WithoutCancel(ctx)): it has ctx's
// values, and ends when it is the task's turn to stop, which may be after the end of ctx
// ([WithDependsOn]). So it has no deadline, its Err is [context.Canceled], as after any stop, and
// [context.Cause] says that it was the deadline of ctx, if it was. Then the log has a warning, one for
// the Manager: a service that ends so was most often given the wrong context.
func WithContext(ctx context.Context) Option {
	return managerOption("WithContext", "nil", func(c *config) string {
		c.ctx = ctx
		return reasonUnless(ctx != nil, "must not be nil")
	})
}

// WithShutdownTimeout bounds the shutdown that [Manager.Run] makes, as a deadline of its context bounds [Manager.Shutdown]: the
// tasks have d to stop, none more than its stop timeout, and those of a chain of dependencies share it; the log and the reports
// have what is left, and a second at least. So Run returns within d, or little more than a second later where tasks have used
// up all of it.
//
// The default is no such bound, for it would cut a stop timeout short that was asked for by name: the stop timeouts bound the
// tasks, those of a chain one after the other, and 5 seconds bound the log and the reports. Where somebody else ends the process
// after a while, as Kubernetes does after 30 seconds, d should be some seconds less than that. To call Shutdown is to choose a
// deadline, which this option does not change.
//
// In a [Group] it bounds how long the tasks have to stop when the run of the group ends. Whether the group itself stops in time
// is judged by its own stop timeout, and by the deadline of whoever stops it, so d should be less than those.
func WithShutdownTimeout(d time.Duration) Option {
	return managerOption("WithShutdownTimeout", d, func(c *config) string {
		c.shutdownTimeout = d
		return reasonUnless(d > 0, "must be positive")
	})
}

// WithHistory sets how many completed and stopped tasks are remembered, for Lookup, Tasks, Stats and
// RestartTask. Beyond it, the one that ended first is forgotten.
//
// It does not bound what still matters. A task that was given up, and a critical one that has
// completed, stay until they are restarted or their name is started anew: 10,000 of them, and a
// count of those beyond ([ManagerStats].FailedForgotten), or [Task.Forget]. One that has completed stays, too, as long
// as tasks that are known depend on it (see [WithDependsOn]). The default is 128.
func WithHistory(n int) Option {
	return managerOption("WithHistory", n, func(c *config) string {
		c.history = n
		return reasonUnless(n >= 0, "must be 0 or more")
	})
}

// WithName sets the Manager's name in log lines, events and statistics. It follows the rules for a
// task's name, or is empty, as it is by default. In a [Group] an empty one, and so the default, is
// that of the Manager around it.
func WithName(name string) Option {
	return managerOption("WithName", name, func(c *config) string {
		c.name = name
		if name == "" {
			return ""
		}
		return checkName(name)
	})
}

// taskConfig is the configuration of one task.
type taskConfig struct {
	manager      *Manager // here, and not in each Task, to save memory
	restart      RestartPolicy
	maxRestarts  int
	window       time.Duration
	initial      time.Duration
	longest      time.Duration
	factor       float64
	jitter       float64
	policy       func() backoff.BackOff
	healthyAfter time.Duration // 0: the window
	stopTimeout  time.Duration
	drain        time.Duration // 0: none
	readiness    time.Duration // 0: ready when running
	watchdog     time.Duration // 0: none
	startJitter  time.Duration // 0: none
	dependsOn    []string      // those of bindTo included, when the options have been applied
	bindTo       []string
	lease        *leaseConfig                   // nil: none
	middleware   []func(next TaskFunc) TaskFunc // the first is outermost
	critical     bool
	isGroup      bool          // the body was made by Group
	cooldown     time.Duration // 0: none
	eventHistory int
	unreachable  bool   // the limit, by any number of failures; set when the options have been applied
	version      string // of the Spec by which Reconcile has started it
}

// config is the configuration of a Manager.
type config struct {
	task            taskConfig // the default for its tasks
	restartLimit    rate.Limit
	restartBurst    int
	reporter        Reporter
	logLimit        rate.Limit
	logBurst        int
	ownLogLimit     bool
	reportLimit     rate.Limit
	reportBurst     int
	logger          *slog.Logger // nil: slog.Default()
	ctx             context.Context
	parentManager   *Manager // of a group: the Manager around it; otherwise nil
	groupTask       *Task    // of a group: the task whose body it is; otherwise nil
	prefix          string   // of a group: the path of its tasks, up to their names
	history         int
	name            string
	shutdownTimeout time.Duration // of Run; 0: none
}

// newConfig holds every default.
func newConfig() config {
	return config{
		task: taskConfig{
			restart:     RestartOnFailure,
			maxRestarts: 5, eventHistory: 16,
			window:      60 * time.Second,
			initial:     2 * time.Second,
			longest:     60 * time.Second,
			factor:      1.5,
			jitter:      0.1,
			stopTimeout: 5 * time.Second,
		},
		restartLimit: 100,
		restartBurst: 1000,
		logLimit:     100,
		logBurst:     1000,
		reportLimit:  1,
		reportBurst:  10,
		ctx:          context.Background(),
		history:      128,
	}
}

// applyOptions applies opts in order and stops at the first that is refused.
func applyOptions[O Option](c *config, opts []O) error {
	for i, o := range opts {
		if Option(o) == nil {
			return &OptionError{Option: fmt.Sprintf("opts[%d]", i), Value: nil, Reason: "must not be nil"}
		}
		if err := o.apply(c); err != nil {
			return err
		}
	}
	c.task.dependsOn = appendMissing(c.task.dependsOn, c.task.bindTo)
	c.task.unreachable = c.task.limitUnreachable()
	if t := &c.task; t.drain >= t.stopTimeout {
		return &OptionError{Option: "WithDrain", Value: t.drain, Reason: fmt.Sprintf("must be less than the stop timeout, which is %v", t.stopTimeout)}
	}
	return nil
}

// healthy is the length of a run that resets the backoff.
func (c *taskConfig) healthy() time.Duration {
	if c.healthyAfter > 0 {
		return c.healthyAfter
	}
	return c.window
}

// mustBeReady reports whether Health, or the group around it, asks whether the task is ready.
func (c *taskConfig) mustBeReady() bool { return c.readiness > 0 || c.critical }

// isAskedWhetherReady reports whether Health names the task as long as it is not ready.
func (c *taskConfig) isAskedWhetherReady() bool { return c.mustBeReady() || len(c.dependsOn) > 0 }

// option implements Option.
type option func(*config) error

func (o option) apply(c *config) error { return o(c) }

// optionForTask implements TaskOption.
type optionForTask struct{ option }

func (optionForTask) forTask() {}

// managerOption makes the option of that name from a function that sets it and returns why the
// value is refused, or "".
func managerOption(name string, value any, set func(*config) string) Option {
	return option(func(c *config) error {
		if reason := set(c); reason != "" {
			return &OptionError{Option: name, Value: value, Reason: reason}
		}
		return nil
	})
}

// taskOption is managerOption for a task's options.
func taskOption(name string, value any, set func(*taskConfig) string) TaskOption {
	o := managerOption(name, value, func(c *config) string { return set(&c.task) })
	return optionForTask{o.apply}
}

func reasonUnless(ok bool, reason string) string {
	if ok {
		return ""
	}
	return reason
}

func checkLimit(limit rate.Limit, burst int) string {
	if limit == rate.Inf {
		return ""
	}
	return reasonUnless(limit > 0 && !math.IsInf(float64(limit), 0) && burst > 0, "needs a positive limit and a positive burst, or rate.Inf")
}

// mostName bounds a name, in bytes.
const mostName = 255

// checkName returns why name is refused, or "".
func checkName(name string) string {
	switch {
	case name == "" || len(name) > mostName:
		return fmt.Sprintf("must have 1 to %d bytes, and has %d", mostName, len(name))
	case !utf8.ValidString(name):
		return "must be valid UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "must not contain control characters"
	}
	return ""
}
