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
// A program starts its tasks, and waits for a signal to end:
//
//	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
//	defer stop()
//	err := taskmanager.Run(ctx) // stops all tasks when ctx is done
//
// The functions of this package use a default [Manager]. One made by [New] has options of its own.
//
// [Every] and [OnSchedule] make a body of what is to be called again and again, so that poller
// could do without its ticker and its loop.
//
// # Restarts
//
// A run that ends in an error, a panic or runtime.Goexit is a failure, unless the task was asked to
// stop. After a failure the task is restarted with a growing delay: 2 s, 3 s, 4.5 s and so on up to
// 60 s, 10% more or less. The failure that would need a sixth restart within 60 s gives up the
// task; so does an error made by [backoff.Permanent]. All of this is set by options, for a task or
// for all tasks of a Manager. Beyond 100 restarts per second, counted over all of its tasks, a
// Manager makes restarts wait for their turn ([WithRestartLimit]).
//
// # Stopping
//
// A stop cancels the context of the body, and waits for it to return: until the deadline of the
// context that StopTask was given, at most for [WithStopTimeout]. [context.Cause] tells the body
// why: [ErrStopped], [ErrShutdown], [ErrRestarted], or the cause of the parent context; and
// [ErrWatchdog] or [ErrNotReady] if the run has failed by being late.
//
// Go has no way to end a goroutine from outside. A body that has not returned by the deadline is
// stuck: the stop returns a [*StopTimeoutError] with the stacks of that task's goroutines, and the
// name stays taken until the body returns, so that no second one ever executes beside it. What
// blocks in a body must take its context, have a deadline, or be closed from outside:
//
//	context.AfterFunc(ctx, func() { conn.Close() })
//
// # Readiness, dependencies, watchdogs and groups
//
// A task is ready when it runs, or with [WithReadiness] when its body has called [Ready]. One with
// [WithDependsOn] waits for others to be ready before each run, and is stopped before them. With
// [WithWatchdog] a run whose body has not called [Heartbeat] for a while is canceled, and has
// failed. When a task with [WithCritical] is gone, Run ends. [Group] makes a body of tasks that are
// restarted together. [Manager.Health] sums all of this up.
//
// # Concurrency
//
// All methods and functions may be called from any goroutine, bodies, reporters and log handlers
// included. Each task is one goroutine; a Manager has none of its own. One is there for as long as
// there is something to deliver to a [Reporter]. Nothing has to be closed: a Manager whose tasks
// have ended is garbage like any other value.
//
// No user code is called with a lock held. Bodies, backoff policies and log handlers are called by
// the goroutine of their task, reporters by one of their own. A panic in a goroutine that a body
// has started ends the process, as everywhere in Go.
//
// # Observability
//
// Each thing that happens to a task is an [Event]. It becomes a line of the log and goes to
// subscribers ([Manager.Subscribe]); failures go to the [Reporter], too, where those that come too
// fast are merged into one that counts the others. [Manager.Stats] says how all tasks are, in plain
// values, with the line that a body has set by [SetStatus]. Goroutines of a task, and those which
// they start, carry the pprof label task=<name>.
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
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager/internal/fairlimit"
)

// A Manager supervises tasks. It is made by [New].
type Manager struct {
	config config // never changes
	id     string // unique in the process; a pprof label

	restartLimiter *fairlimit.Limiter // of all tasks; nil: no fleet-wide limit

	bus *eventBus // takes what happens to those who want to know

	mu       sync.Mutex
	tasks    index         // supervised and remembered
	alive    int           // those of tasks that have not ended
	closed   bool          // by Shutdown, the end of the parent context or that of Run; never taken back
	shut     bool          // by Shutdown
	over     chan struct{} // made by Run; closed, and nil again, when Run is to end
	lost     []lostTask    // critical tasks that are gone
	unwatch  func() bool   // ends the watch for the end of the parent context; non-nil while a task is alive
	newest   *Task         // of the remembered tasks, which are linked
	oldest   *Task
	remember int    // how many those are
	retired  counts // of the tasks that have been forgotten

	dependents  map[string]map[*Task]struct{} // by name, the tasks alive that depend on it
	depended    atomic.Int64                  // how many tasks alive depend on others; may be read without mu
	overdueRuns overdueRuns                   // has a mutex of its own
}

// managers counts them for Manager.id.
var managers atomic.Uint64

// New returns a Manager. It has no goroutine and needs no closing. Task options set the default for
// its tasks. The error is an [*OptionError].
func New(opts ...Option) (*Manager, error) {
	c := newConfig()
	if err := applyOptions(&c, opts); err != nil {
		return nil, err
	}
	m := &Manager{
		config: c,
		id:     strconv.FormatUint(managers.Add(1), 10),
	}
	if c.restartLimit != rate.Inf {
		m.restartLimiter = fairlimit.New(c.restartLimit, c.restartBurst)
	}
	m.config.task.manager = m
	var outer *eventBus
	if c.outer != nil {
		outer = c.outer.bus
	}
	m.bus = newEventBus(outermost(c.ctx), &c, outer)
	m.bus.setReporter(c.reporter)
	return m, nil
}

// StartTask starts body as a task of that name and returns without waiting for it. A name is 1 to
// 255 bytes of valid UTF-8 without control characters.
//
// It returns an error and changes nothing if an argument or option is refused ([*OptionError]), if
// a task of this name has not ended ([ErrTaskRunning]), or if the Manager is closed
// ([ErrManagerClosed]). The name of a task that has ended is free: StartTask starts a new task,
// with counts of its own.
func (m *Manager) StartTask(name string, body TaskFunc, opts ...TaskOption) (*Task, error) {
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
	t, err := newTask(m, name, body, tc)
	if err != nil {
		return nil, err
	}
	if err := m.register(t); err != nil {
		return nil, err
	}
	if tc.unreachable {
		m.bus.log(slog.LevelWarn, "task can never be given up: the delays between its restarts alone take longer than the window",
			slog.String("task", t.path()), slog.Int("max_restarts", tc.maxRestarts), slog.Duration("window", tc.window))
	}
	go t.supervise()
	return t, nil
}

func (m *Manager) register(t *Task) error {
	now := time.Now() // before the lock, for which others wait
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closedLocked() {
		return fmt.Errorf("%w: %q", ErrManagerClosed, t.name)
	}
	if len(t.config.dependsOn) > 0 {
		if err := m.checkCycleLocked(t.name, t.config.dependsOn); err != nil {
			return err
		}
	}
	if old := m.tasks.find(t.name); old != nil {
		if !old.State().Ended() {
			return fmt.Errorf("%w: %q", ErrTaskRunning, t.name)
		}
		m.forgetLocked(old)
	}
	m.foundLocked(t)
	m.startedLocked(t, now)
	m.tasks.put(t) // at last: from now on it is found without a lock
	return nil
}

// startedLocked notes that a life of t begins.
func (m *Manager) startedLocked(t *Task, now time.Time) {
	t.startedAt = now.UnixNano()
	m.dependLocked(t)
	m.alive++
	if m.alive == 1 && m.config.ctx.Done() != nil {
		m.unwatch = context.AfterFunc(m.config.ctx, m.parentEnded)
	}
}

// endedLocked notes that a life of t has ended: t is remembered, and the task that ended first
// forgotten, unless it is needed.
func (m *Manager) endedLocked(t *Task) {
	m.undependLocked(t)
	m.alive--
	if m.alive == 0 && m.unwatch != nil {
		m.unwatch()
		m.unwatch = nil
	}
	m.bus.pending.Add()
	m.linkLocked(t)
	for range m.remember {
		if m.remember <= m.config.history {
			return
		}
		oldest := m.oldest
		if m.neededLocked(oldest) {
			m.unlinkLocked(oldest)
			m.linkLocked(oldest)
			continue
		}
		m.forgetLocked(oldest)
		m.tasks.remove(oldest)
	}
}

// linkLocked puts t at the end of the list of those that are remembered.
func (m *Manager) linkLocked(t *Task) {
	t.older = m.newest
	if m.newest != nil {
		m.newest.newer = t
	} else {
		m.oldest = t
	}
	m.newest = t
	m.remember++
}

// unlinkLocked takes t out of the list of those that are remembered.
func (m *Manager) unlinkLocked(t *Task) {
	newer, older := t.newer, t.older
	if newer != nil {
		newer.older = older
	} else {
		m.newest = older
	}
	if older != nil {
		older.newer = newer
	} else {
		m.oldest = newer
	}
	t.newer, t.older = nil, nil
	m.remember--
}

// forgetLocked is unlinkLocked, and keeps the counts of t for the totals.
func (m *Manager) forgetLocked(t *Task) {
	m.unlinkLocked(t)
	t.mu.Lock()
	total := t.totalLocked()
	t.mu.Unlock()
	m.retired.runs += total.runs
	m.retired.failures += total.failures
	m.retired.panics += total.panics
}

func (m *Manager) closedLocked() bool { return m.closed || m.config.ctx.Err() != nil }

// StopTask asks the task of that name to stop and waits until its body has returned: at most for
// the task's stop timeout, and not beyond the deadline of ctx. The body finds ErrStopped as the
// cause of its context.
//
// It returns [ErrTaskNotFound] or [ErrTaskNotRunning] if there is nothing to stop; a
// [*StopTimeoutError] if the deadline passed, the task is stuck then, and its name stays taken; and
// the cause of ctx if that was canceled before, at the call even. In the last case the task has
// been asked all the same, and becomes stuck at its deadline. A task that stops itself, with its
// own context, is asked and not waited for.
func (m *Manager) StopTask(ctx context.Context, name string) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	t, err := m.find(name)
	if err != nil {
		return err
	}
	return t.Stop(ctx)
}

// RestartTask restarts the task of that name by hand, which counts against no limit and waits for
// no delay. A running one is stopped as by StopTask, with ErrRestarted as the cause, and runs again
// at once; RestartTask returns when the new run has begun, or waits for its dependencies. One in
// backoff runs now. One that has ended starts afresh, with new counts. One that waits for its
// dependencies goes on doing so.
//
// Errors are those of StopTask, and [ErrManagerClosed]. If the stop times out, the restart has
// failed: the task stops for good when its body returns at last. If somebody else stops the task
// meanwhile, the stop wins and the error is its cause: [ErrStopped], for example. A stuck task is
// not restarted: RestartTask returns a StopTimeoutError at once.
func (m *Manager) RestartTask(ctx context.Context, name string) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	for {
		t, err := m.find(name)
		if err != nil {
			return err
		}
		err = m.restart(ctx, t)
		if !errors.Is(err, ErrTaskNotFound) {
			return err
		}
		if now, ok := m.Lookup(name); !ok || now == t {
			return err
		}
		// t had ended, and its name was started anew before t was restarted: it is the new task's
		// turn.
	}
}

func (m *Manager) find(name string) (*Task, error) {
	if t, ok := m.Lookup(name); ok {
		return t, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrTaskNotFound, name)
}

func (m *Manager) restart(ctx context.Context, t *Task) error {
	for {
		switch again, err := m.revive(ctx, t); {
		case err != nil:
			return fmt.Errorf("%w: %q", err, t.name)
		case again:
			return nil
		}
		// t has not ended, or had not a moment ago.
		switch err := t.restartable(); {
		case err != nil:
			return err
		case t.State() == StateWaiting:
			return nil // a run begins as soon as it can
		}
		bounded := ctx.Err() == nil
		stops, asked, own := m.ask(ctx, []*Task{t}, restartRequest, bounded)
		if asked == 0 {
			continue // it has ended meanwhile
		}
		if own {
			return nil
		}
		s := stops[0]
		if err := s.wait(ctx, bounded); err != nil {
			return err
		}
		switch followed := request(s.outcome.Load()); followed {
		case restartRequest:
			return nil
		case noRequest:
			if err := t.Err(); leavesRunning(err) {
				return err // to revive it now would make two of what still runs below
			}
		default:
			return fmt.Errorf("taskmanager: the restart of task %q was overtaken: %w", t.name, t.cause(followed))
		}
		// It completed or failed before it heard of the restart.
	}
}

// revive starts a task afresh if it has ended. It returns false if it has not.
func (m *Manager) revive(ctx context.Context, t *Task) (bool, error) {
	m.mu.Lock()
	closed, known := m.closedLocked(), m.tasks.find(t.name) == t
	m.mu.Unlock()
	switch {
	case closed:
		return false, ErrManagerClosed
	case !known:
		return false, ErrTaskNotFound
	}
	// Both at once: after a revival by somebody else the channel would be that of the next end.
	t.mu.Lock()
	if !t.State().Ended() {
		t.mu.Unlock()
		return false, nil
	}
	done := t.doneLocked()
	t.mu.Unlock()
	// Its state says that it has ended; what remains is the announcement, which goes through the
	// log's handler.
	select {
	case <-done:
	default:
		select {
		case <-done:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	delays, err := t.config.newDelays()
	if err != nil {
		return false, err
	}
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case m.closedLocked():
		return false, ErrManagerClosed
	case m.tasks.find(t.name) != t:
		return false, ErrTaskNotFound
	case !t.announced:
		return false, nil // somebody else has revived it
	}
	p := &past{delays: delays, before: counts{runs: t.runs}}
	if t.past != nil {
		p.failures, p.panics = t.past.failures, t.past.panics
		p.before.failures, p.before.panics = p.failures, p.panics
	}
	m.unlinkLocked(t)
	m.foundLocked(t)
	t.past, t.extras = p, nil
	t.asked, t.announced = noRequest, false
	t.setLocked(StateWaiting)
	m.startedLocked(t, now)
	go t.supervise()
	return true, nil
}

// restartable returns why a task that has not ended can't be restarted.
func (t *Task) restartable() error {
	t.mu.Lock()
	state, asked := t.State(), t.asked
	t.mu.Unlock()
	switch {
	case state == StateStuck:
		return &StopTimeoutError{Task: t.name, Timeout: t.config.stopTimeout, Stack: t.config.manager.stacks([]*Task{t})[t]}
	case state == StateStopping && asked > restartRequest:
		return fmt.Errorf("taskmanager: task %q is being stopped: %w", t.name, t.cause(asked))
	}
	return nil
}

// StopAll stops all tasks, each as StopTask does, and returns the joined errors. Each task that was
// started before the call is stopped; the Manager stays usable.
//
// All are stopped at once, except that a task on which others depend (see [WithDependsOn]) is
// stopped when those have stopped or are stuck; also if ctx is done by then. A deadline of ctx is
// shared by such a chain: a task has at most one nth of the time that is left when its turn comes,
// n being the number of tasks in the longest chain that it begins. So the last one gets its part,
// and what one doesn't need is for those after it. Without a deadline each has its stop timeout,
// one after the other.
func (m *Manager) StopAll(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	tasks := m.aliveLocked()
	m.mu.Unlock()
	_, err := m.stop(ctx, tasks, stopAllRequest)
	return err
}

// Shutdown closes the Manager, stops all tasks as StopAll does, with ErrShutdown as the cause, waits
// until the log has been told of what has happened, and delivers the reports that wait. Without a
// deadline in ctx the stop timeouts bound the first and 5 seconds the others. With one the others
// have until then, and a second at least after the tasks have stopped or are stuck, for that is
// what is to be reported; they have none once ctx is canceled. A Reporter that fails meanwhile is
// tried again, after a second or less. What can't be delivered is counted and logged, for which the
// log has a tenth of a second more. A log handler or a Reporter that calls Shutdown waits for itself
// until that time is over.
//
// From the call on, StartTask, RestartTask and Run return [ErrManagerClosed]. To call Shutdown
// again is no error.
func (m *Manager) Shutdown(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	_, err := m.stop(ctx, m.close(true), shutdownRequest)
	if slices.ContainsFunc(tasksOf(ctx), func(t *Task) bool { return t.config.manager == m }) {
		ctx = context.WithoutCancel(ctx) // the caller's own stop has ended it
	}
	m.bus.flush(ctx)
	return err
}

// close refuses new tasks, and returns those that have not ended.
func (m *Manager) close(byShutdown bool) []*Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.shut = true, m.shut || byShutdown
	m.endRunLocked()
	return m.aliveLocked()
}

func (m *Manager) aliveLocked() []*Task {
	tasks := make([]*Task, 0, m.alive)
	for t := range m.tasks.all() {
		if !t.State().Ended() {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// parentEnded is called on a goroutine of its own when the parent context has ended while tasks are
// alive.
func (m *Manager) parentEnded() {
	_, _ = m.stop(context.Background(), m.close(false), parentEnded) // what is stuck is logged
}

// Run blocks until ctx is done, until a critical task is gone (see [WithCritical]), or until
// somebody else shuts the Manager down; then it shuts the Manager down itself.
//
// It returns what Shutdown returns without a deadline, joined with the [*GiveUpError] of each
// critical task that was given up, and the [*StopTimeoutError] of one that its watchdog found
// stuck, before or meanwhile. ctx being done is no error, nor is the end of the parent context,
// whose tasks Run waits for. A Manager that is closed already returns [ErrManagerClosed].
func (m *Manager) Run(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	if m.shut || m.closedLocked() && m.alive == 0 {
		m.mu.Unlock()
		return ErrManagerClosed
	}
	if m.over == nil {
		m.over = make(chan struct{})
	}
	over := m.over
	if len(m.lost) > 0 {
		m.endRunLocked()
	}
	m.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-over:
	case <-m.config.ctx.Done():
	}
	err := m.Shutdown(context.WithoutCancel(ctx))
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, lost := range m.lost {
		errs = append(errs, lost.err)
	}
	return joined(append(errs, err))
}

// A lostTask is a critical task that is gone.
type lostTask struct {
	name string
	err  error // nil if it has completed
}

func (m *Manager) lostLocked(t *Task, err error) {
	m.foundLocked(t)
	m.lost = append(m.lost, lostTask{t.name, err})
	m.endRunLocked()
}

// lostToWatchdog is lostLocked for a task whose body ignores that it was canceled, if it is
// critical. It does nothing for one that has ended meanwhile.
func (m *Manager) lostToWatchdog(t *Task, err error) {
	if !t.config.critical {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !t.State().Ended() {
		m.lostLocked(t, err)
	}
}

// foundLocked takes back lostLocked, for t or an earlier task of its name, unless it is too late:
// Run may have ended because of it.
func (m *Manager) foundLocked(t *Task) {
	if m.closed {
		return
	}
	m.lost = slices.DeleteFunc(m.lost, func(l lostTask) bool { return l.name == t.name })
}

// endRunLocked has Run, if it waits, shut the Manager down. Nothing is started from now on, though
// the goroutine of Run may need a while to get there.
func (m *Manager) endRunLocked() {
	if m.over != nil {
		close(m.over)
		m.over = nil
		m.closed = true
	}
}

// SetReporter sets who hears of failures from now on, nil for nobody. What still waits for the
// former Reporter goes to the new one, and is lost if there is none. A call of Report that is under
// way ends as it may; Shutdown waits for it. A Reporter that is set again, alone or as a part of a
// [MultiReporter], goes on as it was: with what waits for it, and from one goroutine at a time.
func (m *Manager) SetReporter(r Reporter) { m.bus.setReporter(r) }

// Subscribe returns a channel of all events from now on. It has a buffer of 256; of a subscriber
// that is slower than that the oldest events are lost, and the Missed of the next one counts them.
// The channel is closed when ctx is done. A nil ctx is never done.
func (m *Manager) Subscribe(ctx context.Context) <-chan Event { return m.bus.subscribe(ctx) }

// listens reports whether anybody wants events of this kind.
func (m *Manager) listens(k EventKind) bool { return m.bus.wants(k) || m.bus.logs(k.Level()) }

// publish hands e to the subscribers, the reporters and the log: to the latter at last, because its
// handler is the user's and may not return. It is called without locks.
func (m *Manager) publish(e *Event) {
	m.bus.deliver(e)
	m.bus.logEvent(e)
}

// outermost returns the context of the Manager around all tasks that ctx is of: the first one that is
// not that of a task. Reporters get its values, and must not be taken for a task's.
func outermost(ctx context.Context) context.Context {
	for r := runOf(ctx); r != nil; r = runOf(ctx) {
		ctx = r.task.config.manager.config.ctx
	}
	return ctx
}

// IsRunning reports whether there is a task of that name that has not ended: one that waits in
// backoff is running in this sense.
func (m *Manager) IsRunning(name string) bool {
	t := m.tasks.find(name)
	return t != nil && !t.State().Ended()
}

// Lookup returns the task of that name, supervised or remembered.
func (m *Manager) Lookup(name string) (*Task, bool) {
	t := m.tasks.find(name)
	return t, t != nil
}

// Tasks iterates over the tasks, supervised and remembered, that there are when the iteration
// begins. The order is undefined.
func (m *Manager) Tasks() iter.Seq[*Task] {
	return func(yield func(*Task) bool) {
		for _, t := range m.known() {
			if !yield(t) {
				return
			}
		}
	}
}

// known returns the tasks that are supervised or remembered.
func (m *Manager) known() []*Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.knownLocked()
}

func (m *Manager) knownLocked() []*Task {
	return slices.AppendSeq(make([]*Task, 0, m.tasks.n), m.tasks.all())
}

func checkContext(ctx context.Context) error {
	if ctx == nil {
		return &OptionError{Option: "ctx", Value: nil, Reason: "must not be nil"}
	}
	return nil
}

// defaultManager is made when it is first used.
var defaultManager atomic.Pointer[Manager]

// Default returns the Manager that the functions of this package use. It has the default options,
// unless SetDefault has set another.
func Default() *Manager {
	if m := defaultManager.Load(); m != nil {
		return m
	}
	m, err := New()
	if err != nil {
		panic(err) // without options there is nothing to refuse
	}
	if defaultManager.CompareAndSwap(nil, m) {
		return m
	}
	return defaultManager.Load()
}

// SetDefault makes m the default Manager. The former one goes on with its tasks. After
// SetDefault(nil), the next use makes a new one.
func SetDefault(m *Manager) { defaultManager.Store(m) }

// StartTask calls [Manager.StartTask] on the default Manager.
func StartTask(name string, body TaskFunc, opts ...TaskOption) (*Task, error) {
	return Default().StartTask(name, body, opts...)
}

// StopTask calls [Manager.StopTask] on the default Manager.
func StopTask(ctx context.Context, name string) error { return Default().StopTask(ctx, name) }

// RestartTask calls [Manager.RestartTask] on the default Manager.
func RestartTask(ctx context.Context, name string) error { return Default().RestartTask(ctx, name) }

// StopAll calls [Manager.StopAll] on the default Manager.
func StopAll(ctx context.Context) error { return Default().StopAll(ctx) }

// IsRunning calls [Manager.IsRunning] on the default Manager.
func IsRunning(name string) bool { return Default().IsRunning(name) }

// Lookup calls [Manager.Lookup] on the default Manager.
func Lookup(name string) (*Task, bool) { return Default().Lookup(name) }

// Stats calls [Manager.Stats] on the default Manager.
func Stats() ManagerStats { return Default().Stats() }

// SetReporter calls [Manager.SetReporter] on the default Manager.
func SetReporter(r Reporter) { Default().SetReporter(r) }

// Run calls [Manager.Run] on the default Manager.
func Run(ctx context.Context) error { return Default().Run(ctx) }
