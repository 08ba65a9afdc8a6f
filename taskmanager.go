// Package taskmanager keeps the background goroutines of a service alive. It restarts them when
// they fail, stops them within a deadline, and tells what each is doing.
//
// # Usage
//
// A task is a named body, a function that runs until its context is done:
//
//	task, err := taskmanager.StartTask("poller", func(ctx context.Context) error {
//		ticker := time.NewTicker(time.Minute)
//		defer ticker.Stop()
//		for {
//			select {
//			case <-ticker.C:
//				if err := poll(ctx); err != nil {
//					return err // a failure: poller is restarted, after a delay
//				}
//			case <-ctx.Done():
//				return nil // it was asked to stop
//			}
//		}
//	})
//
// A program starts its tasks, and waits for a signal to end, or for the end of a task that it can't live without ([WithCritical]):
//
//	if err := taskmanager.RunUntilSignal(); err != nil {
//		log.Fatal(err) // a task is stuck, or a critical one is gone
//	}
//
// A second signal ends the process at once. [Run] does the same until a context is done. The process ends when main returns, and
// whatever runs with it: a main that leaves Run to another goroutine has to wait for that one, or no task will be stopped in order.
//
// The functions of this package use a default [Manager]. One made by [New] has options of its own.
//
// [Every] and [OnSchedule] make a body of what is to be called again and again, so that poller
// could do without its ticker and its loop. One call that fails is tried again by the backoff, and
// given up when the limit is used up, and not the task. [Manager.Reconcile] makes a set of tasks
// follow a configuration.
//
// # Restarts
//
// A run that ends in an error, a panic or runtime.Goexit is a failure, unless the task was asked to
// stop. After a failure the task is restarted with a growing delay: 2 s, 3 s, 4.5 s and so on up to
// 60 s, 10% more or less. The failure that would need a sixth restart within 60 s gives up the
// task; so does an error made by [backoff.Permanent]. All of this is set by options, for a task or
// for all tasks of a Manager. Beyond 100 restarts per second, counted over all of its tasks, a
// Manager makes restarts wait for their turn ([WithRestartLimit]). With [WithCooldown] a task that was
// given up begins afresh after a while.
//
// # Stopping
//
// A stop cancels the context of the body, and waits for it to return: until the deadline of the
// context that StopTask was given, at most for [WithStopTimeout]. [context.Cause] tells the body
// why: [ErrStopped], [ErrShutdown], [ErrRestarted], [ErrReplaced], [ErrPaused], or the cause of the parent context; and
// [ErrWatchdog] or [ErrNotReady] if the run was late, or [ErrDependencyLost]. With [WithDrain] the context
// lives on for a while, and [Draining] says that no new work is to be taken.
//
// Go has no way to end a goroutine from outside. A body that has not returned by the deadline is
// stuck: the stop returns a [*StopTimeoutError] with the stacks of that task's goroutines, and the
// name stays taken until the body returns, so that no second one ever executes beside it. What
// blocks in a body must take its context, have a deadline, or be closed from outside:
//
//	context.AfterFunc(ctx, func() { conn.Close() })
//
// [Manager.PauseTask] ends a run likewise, and [Manager.ResumeTask] begins the next one: meanwhile the
// task has not ended.
//
// # Readiness, dependencies, watchdogs and groups
//
// A task is ready when it runs, or with [WithReadiness] when its body has called [Ready]. One with
// [WithDependsOn] waits for others to be ready before each run, and is stopped before them; with
// [WithBindTo] its run ends, too, when one of them is lost. [Task.WaitReady] waits for a task. With
// [WithWatchdog] a run whose body has not called [Heartbeat] for a while is canceled, and has
// failed. When a task with [WithCritical] was given up or has completed, Run ends. [Group] makes a
// body of tasks that are restarted together. [Manager.Health] sums all of this up.
//
// # Concurrency
//
// All methods and functions may be called from any goroutine, bodies, reporters and log handlers
// included. Each task is one goroutine; a Manager has none of its own. One is there for as long as
// there is something to deliver to a [Reporter]. Nothing has to be closed: a Manager whose tasks
// have ended is garbage like any other value.
//
// No user code is called with a lock held, nor between a decision and its effect: who waits for a
// task hears of its end before a log handler does. Bodies and backoff policies are called by the
// goroutine of their task, reporters by one of their own, log handlers by that of the task or one
// that has nothing else to do. Where one of them hangs and the task is asked for something, another
// goroutine takes over the task. A panic in a goroutine that a body has started ends the process, as
// everywhere in Go.
//
// # Observability
//
// Each thing that happens to a task is an [Event]. It becomes a line of the log and goes to
// subscribers ([Manager.Subscribe]); failures, and that they are over, go to the [Reporter], too, where those that come too
// fast are merged into one that counts the others. [Task.History] has the latest of a task that has failed, or of which a person
// has asked something. [Manager.Stats] says how all tasks are, in plain values, with the line that a body has set by [SetStatus];
// [Manager.Totals] are its counts. Who has asked for something by hand is in its event and its line; [AskedBy] says for whom a call
// is made. [WithMiddleware] wraps each run, for a trace or a measurement, and [Logger] is the log of a body. Goroutines of a task, and those
// which they start, carry the pprof label task=<name>; those of a Manager that is not the first one of the process also
// taskmanager=<number>.
//
// # Testing
//
// Every wait runs in a bubble of [testing/synctest], with its fake clock. Bodies can be tested
// without a Manager: what they call with their context does nothing if it isn't a task's.
package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager/internal/fairlimit"
)

// A Manager supervises tasks. It is made by [New]. One that is not, be it nil, as after an error of New, or a zero value, is of no
// use: those of its methods that return an error return one that says so, and the others behave as those of a closed Manager
// without tasks.
type Manager struct {
	values         context.Context    // those of config.ctx, without its end
	labels         context.Context    // has the pprof labels of values, and nothing else
	outerRun       *run               // whose context config.ctx is, or derives from; nil if it is not that of a task
	config         config             // never changes
	id             string             // unique in the process; a pprof label
	restartLimiter *fairlimit.Limiter // nil: no fleet-wide limit
	parent         parentContext      // that of every task's context
	bus            *eventBus          // to whom events go
	dumps          dumps              // of the stacks of goroutines
	overdueQueue   overdueQueue       // runs that have missed a heartbeat
	dependentCount atomic.Int64       // how many of tasks depend on others
	boundCount     atomic.Int64       // how many of these are bound to them
	readyWaiters   atomic.Int64       // how many wait for a task to be ready

	mu             sync.Mutex
	tasks          index // supervised and remembered
	aliveCount     int   // those of tasks that have not ended
	closed         bool  // by Shutdown, the end of the parent context or that of Run; never taken back
	shutdownCalled bool
	shutdownBy     string        // as AskedBy was told, by the first to call it whose name is known
	shutdowns      int           // calls of Shutdown that are under way
	isShutDown     bool          // one has ended when no other was under way, or the run of the group has
	shutDown       chan struct{} // closed with that; made when first asked for
	runQuit        chan struct{} // made by Run; closed, and nil again, when Run is to end
	criticalExits  map[string]criticalExit
	criticalCount  uint64 // of criticalExits so far, for their order
	history        history
	stopsOfAll     []*stopProgress               // those of all tasks that wait for long
	dependents     map[string]map[*Task]struct{} // by name, those of tasks that depend on it
	leases         map[string]leaseUse           // by name
	groupStarted   atomic.Bool                   // of a group: start has returned
	reconciling    chan struct{}                 // made by a call of Reconcile that is at work, and closed at its end; nil if there is none
	changes        map[string]*readinessChange   // by name, for those who wait for it to be ready
}

// managerCount is for Manager.id.
var managerCount atomic.Uint64

// New returns a Manager. It has no goroutine and needs no closing. Task options set the default for
// its tasks. The error is an [*OptionError].
func New(opts ...Option) (*Manager, error) {
	c := newConfig()
	if err := applyOptions(&c, opts); err != nil {
		return nil, err
	}
	m := &Manager{
		config: c,
		// With the labels as they are now: each task's are made from them, without a call of c.ctx, which may be the user's.
		values:   context.WithoutCancel(pprof.WithLabels(c.ctx, pprof.Labels())),
		outerRun: runOf(c.ctx),
		id:       strconv.FormatUint(managerCount.Add(1), 10),
	}
	m.labels = context.WithValue(context.Background(), labelsKey, m.values.Value(labelsKey))
	m.parent.init(c.ctx)
	var outer *eventBus
	if c.parentManager != nil {
		outer = c.parentManager.bus
	}
	m.bus = newEventBus(outermost(c.ctx), &m.config, outer)
	if c.restartLimit != rate.Inf {
		m.restartLimiter = fairlimit.New(c.restartLimit, c.restartBurst)
	}
	m.config.task.manager = m
	if c.reporter != nil {
		m.SetReporter(c.reporter)
	}
	return m, nil
}

// StartTask starts body as a task of that name and returns without waiting for it. A name is 1 to
// 255 bytes of valid UTF-8 without control characters.
//
// It returns an error and changes nothing if an argument or option is refused ([*OptionError]), if
// a task of this name has not ended ([ErrTaskRunning]), or if the Manager is closed
// ([ErrManagerClosed]). The name of a task that has ended is free: StartTask starts a new task,
// with counts of its own. If the delays between restarts alone take longer than the window, so that
// the task can't use up its limit by failing, StartTask writes a warning to the log before it starts
// the task: the handler, which is called by the goroutine of the caller, holds up nobody else.
func (m *Manager) StartTask(name string, body TaskFunc, opts ...TaskOption) (*Task, error) {
	t, err := m.prepare(name, body, opts, "")
	if err != nil {
		return nil, err
	}
	if t.config().unreachable && m.isFree(name) {
		t.warnOfUnreachable(m.bus.log) // before anything is started: the log's handler is user code, and may not return
	}
	if err := m.launch(t, false); err != nil {
		return nil, err
	}
	m.watchParent()
	return t, nil
}

// prepare makes a task that is not known yet.
func (m *Manager) prepare(name string, body TaskFunc, opts []TaskOption, version string) (*Task, error) {
	if !m.isMade() {
		return nil, errNotMade
	}
	if reason := checkName(name); reason != "" {
		return nil, &OptionError{Option: "name", Value: name, Reason: reason}
	}
	if body == nil {
		return nil, &OptionError{Option: "body", Value: nil, Reason: "must not be nil"}
	}
	tc := &m.config.task
	if len(opts) > 0 {
		c := config{task: *tc}
		if err := applyOptions(&c, opts); err != nil {
			return nil, err
		}
		tc = &c.task
	}
	if version != "" {
		c := *tc
		c.version, tc = version, &c
	}
	return newTask(m, name, body, tc)
}

// launch starts a task that was prepared; with unknown, only if no task has the name, be it one that has ended. watchParent must follow.
func (m *Manager) launch(t *Task, unknown bool) error {
	takesOver, err := m.register(t, unknown)
	if err != nil {
		return err
	}
	go t.supervise(firstDriver, false)
	if takesOver {
		m.doomChanged(t) // who waits for it will not wait for ever
	}
	return nil
}

// warnOfUnreachable has log warn that the task can't use up its limit of restarts.
func (t *Task) warnOfUnreachable(log func(level slog.Level, message string, attrs ...slog.Attr)) {
	c := t.config()
	log(slog.LevelWarn, "task can never be given up: the delays between its restarts alone take longer than the window",
		slog.String("task", t.path()), slog.Int("max_restarts", c.maxRestarts), slog.Duration("window", c.window))
}

// isFree reports whether a task of that name would be started.
func (m *Manager) isFree(name string) bool { return !m.isClosed() && !m.IsRunning(name) }

// register is launch without the goroutine: it makes t known. takesOver says that it has the name of one that was given up.
func (m *Manager) register(t *Task, unknown bool) (takesOver bool, err error) {
	now := time.Now() // before the lock, for which others wait
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closedLocked() {
		return false, fmt.Errorf("%w: %q", ErrManagerClosed, t.name)
	}
	if err := m.checkNeedsLocked(t.name, t.config()); err != nil {
		return false, err
	}
	if old := m.tasks.find(t.name); old != nil {
		if unknown || !old.State().Ended() {
			return false, fmt.Errorf("%w: %q", ErrTaskRunning, t.name)
		}
		takesOver = old.State() == StateFailed
		m.forgetLocked(old)
	}
	m.clearCriticalExitLocked(t)
	t.driver = firstDriver
	m.addDependentLocked(t)
	m.addLeaseLocked(t)
	m.taskStartedLocked(t, now)
	m.tasks.put(t) // at last: from now on it is found without a lock
	m.trimLocked()
	return takesOver, nil
}

// taskStartedLocked notes that a life of t begins.
func (m *Manager) taskStartedLocked(t *Task, now time.Time) {
	t.startedAt = now.UnixNano()
	m.aliveCount++
}

// taskEndedLocked notes that a life of t has ended.
func (m *Manager) taskEndedLocked(t *Task) {
	m.aliveCount--
	if m.aliveCount == 0 {
		m.parent.unwatchLocked()
	}
	m.keepLocked(t)
}

func (m *Manager) closedLocked() bool { return m.closed || m.parent.isDone() }

func (m *Manager) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closedLocked()
}

// StopTask asks the task of that name to stop and waits until its body has returned: at most for
// the task's stop timeout, and not beyond the deadline of ctx. The body finds ErrStopped as the
// cause of its context.
//
// It returns [ErrTaskNotFound] or [ErrTaskNotRunning] if there is nothing to stop; a
// [*StopTimeoutError] if the deadline passed, the task is stuck then, and its name stays taken; and
// the cause of ctx if that was canceled before, or was done at the call, be it that its deadline had
// passed. In the last case the task has been asked all the same, and becomes stuck at the deadline,
// or when its stop timeout has passed if ctx was done at the call. A task that stops itself, with
// its own context, is asked and not waited for.
//
// If what the body has returned wraps a StopTimeoutError of what still executes, by package fmt or
// errors, StopTask returns it: the task has stopped, and something that it has started has not.
func (m *Manager) StopTask(ctx context.Context, name string) error {
	if err := m.checkCall(ctx); err != nil {
		return err
	}
	t, err := m.find(name)
	if err != nil {
		return err
	}
	return t.Stop(ctx)
}

// StopTasks stops the tasks of those names, all at once and each as StopTask does, and returns the
// joined errors. Those that depend on others of them are stopped first, as by [Manager.StopAll]. A
// name given twice counts once; an unknown one ([ErrTaskNotFound]) and one whose task had ended before
// ([ErrTaskNotRunning]) are errors, and the others are stopped all the same.
func (m *Manager) StopTasks(ctx context.Context, names ...string) error {
	if err := m.checkCall(ctx); err != nil {
		return err
	}
	var (
		tasks []*Task
		errs  []error
		seen  = make(map[string]bool, len(names))
	)
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		switch t, err := m.find(name); {
		case err != nil:
			errs = append(errs, err)
		case t.State().Ended():
			errs = append(errs, fmt.Errorf("%w: %q", ErrTaskNotRunning, name))
		default:
			tasks = append(tasks, t)
		}
	}
	_, err := m.stopTasks(ctx, tasks, stopRequest)
	return joinErrors(append(errs, err))
}

// IsRunning reports whether there is a task of that name that has not ended: one that waits in
// backoff is running in this sense.
func (m *Manager) IsRunning(name string) bool {
	t, ok := m.Lookup(name)
	return ok && !t.State().Ended()
}

// Lookup returns the task of that name, supervised or remembered.
func (m *Manager) Lookup(name string) (*Task, bool) {
	if m == nil {
		return nil, false
	}
	t := m.tasks.find(name)
	return t, t != nil
}

// Name returns the name that the Manager was given by [WithName]; in a [Group] without one, that of the Manager around it.
func (m *Manager) Name() string {
	if !m.isMade() {
		return ""
	}
	return m.config.name
}

// Tasks iterates over the tasks, supervised and remembered, that there are when the iteration
// begins. The order is undefined.
func (m *Manager) Tasks() iter.Seq[*Task] {
	return func(yield func(*Task) bool) {
		if !m.isMade() {
			return
		}
		for _, t := range m.allTasks() {
			if !yield(t) {
				return
			}
		}
	}
}

// allTasks returns the tasks that are supervised or remembered.
func (m *Manager) allTasks() []*Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.allTasksLocked()
}

func (m *Manager) allTasksLocked() []*Task {
	return slices.AppendSeq(make([]*Task, 0, m.tasks.n), m.tasks.all())
}

// aliveTasksLocked returns those that have not ended.
func (m *Manager) aliveTasksLocked() []*Task {
	tasks := make([]*Task, 0, m.aliveCount)
	for t := range m.tasks.all() {
		if !t.State().Ended() {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// SetReporter sets who hears of failures from now on, nil for nobody. What still waits for the
// former Reporter goes to the new one, and is lost if there is none. A call of Report that is under
// way ends as it may, and if it fails, the new one hears of that, too; Shutdown waits for it. A Reporter that is set again, alone or as
// a part of a [MultiReporter], goes on as it was: with what waits for it, from one goroutine at a time, and no sooner than its limit and
// its own wish allow. One that is added beside it gets what waits for it, or is in its hands, too. What was merged in different ways for
// several Reporters may be told twice to the one that replaces them. Two functions are the same Reporter only if they are the same value:
// a method value is a new one each time.
func (m *Manager) SetReporter(r Reporter) {
	if m.isMade() {
		m.bus.setReporter(r)
	}
}

// Subscribe returns a channel of all events from now on. It has a buffer of 256; of a subscriber
// that is slower than that the oldest events are lost, up to 32 at a time, and the Missed of the one that comes after them counts them.
// The channel is closed when ctx is done. A nil ctx is never done; one of a type of the user's own
// takes a goroutine until then.
func (m *Manager) Subscribe(ctx context.Context) <-chan Event {
	if !m.isMade() {
		return new(eventBus).subscribe(ctx) // nothing ever happens there
	}
	return m.bus.subscribe(ctx)
}

// isMade reports whether New has made m.
func (m *Manager) isMade() bool { return m != nil && m.bus != nil }

// errNotMade is what a Manager returns that New has not made.
var errNotMade = errors.New("taskmanager: Manager was not made by New")

// checkCall refuses a call that can't be served, whatever the tasks are.
func (m *Manager) checkCall(ctx context.Context) error {
	if !m.isMade() {
		return errNotMade
	}
	return checkContext(ctx)
}

func checkContext(ctx context.Context) error {
	if ctx == nil {
		return &OptionError{Option: "ctx", Value: nil, Reason: "must not be nil"}
	}
	return nil
}
