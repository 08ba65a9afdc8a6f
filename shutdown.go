package taskmanager

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
)

// StopAll stops all tasks, each as StopTask does, and returns the joined errors. Each task that was
// started before the call is stopped; the Manager stays usable. A body of one of them may call it
// with its own context, or one that derives from that: it is not waited for then, nor is what it
// depends on, and the end of ctx does not end the wait for the others.
//
// All are stopped at once, except that a task on which others depend (see [WithDependsOn]) is
// stopped when those have stopped or are stuck; also if ctx is done by then. A deadline of ctx is
// shared by such a chain: a task has at most one nth of the time that is left when its turn comes,
// n being the number of tasks in the longest chain that it begins. So the last one gets its part,
// and what one doesn't need is for those after it. Without a deadline each has its stop timeout,
// one after the other.
//
// Every five seconds of a stop, be it this or of one task, the log says whom it waits for, and for how
// long it will.
func (m *Manager) StopAll(ctx context.Context) error {
	if err := m.checkCall(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	tasks := m.aliveTasksLocked()
	m.mu.Unlock()
	_, err := m.stopTasks(ctx, tasks, stopAllRequest)
	return err
}

// Shutdown closes the Manager, stops all tasks as StopAll does, with ErrShutdown as the cause, waits
// until the log has been told of what has happened, and delivers the reports that wait. Without a
// deadline in ctx the stop timeouts bound the first and 5 seconds the others. With one the others
// have until then, and a second at least after the tasks have stopped or are stuck, for that is
// what is to be reported; they have none once ctx is canceled, unless it is that of a body of this
// Manager, or derives from it. A Reporter that fails meanwhile is tried again, after a second or
// less, unless it asks for another time. What can't be delivered is counted and logged, for which the log has a tenth of a second
// more. A log handler or a Reporter that calls Shutdown waits for itself until that time is over.
// Where the deadline has passed at the call, the tasks are asked and not waited for, as StopTask
// does, and what has happened by then has that second.
//
// From the call on, StartTask, Run, and RestartTask of a name that is known return
// [ErrManagerClosed]. To call Shutdown again is no error.
func (m *Manager) Shutdown(ctx context.Context) error {
	if err := m.checkCall(ctx); err != nil {
		return err
	}
	m.beginShutdown()
	defer m.endShutdown()
	err := m.shutdownTasks(ctx)
	if slices.ContainsFunc(tasksOf(ctx), func(t *Task) bool { return t.config().manager == m }) {
		var cancel context.CancelFunc
		ctx, cancel = untilDeadline(ctx) // the caller's own stop has ended it
		defer cancel()
	}
	m.bus.flush(ctx)
	return err
}

// Done returns a channel that is closed when Shutdown has ended, be it that of Run: nothing more will happen here, but that a
// body returns which is stuck. Of several calls it is the last one of those that are under way at the same time; in a [Group], the
// end of its run. The end of the parent context alone does not close it. That of a Manager that New has not made is closed.
func (m *Manager) Done() <-chan struct{} {
	if !m.isMade() {
		return closedChannel()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shutDown == nil {
		m.shutDown = make(chan struct{})
		if m.isShutDown {
			close(m.shutDown)
		}
	}
	return m.shutDown
}

func (m *Manager) beginShutdown() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shutdowns++
}

func (m *Manager) endShutdown() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shutdowns--; m.shutdowns > 0 || m.isShutDown {
		return
	}
	m.isShutDown = true
	if m.shutDown != nil {
		close(m.shutDown)
	}
}

// untilDeadline returns ctx without its cancellation, and with its deadline.
func untilDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	detached := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(detached, deadline)
	}
	return detached, func() {}
}

// shutdownTasks is the first part of Shutdown.
func (m *Manager) shutdownTasks(ctx context.Context) error {
	_, err := m.stopTasks(ctx, m.close(true, askedBy(ctx)), shutdownRequest)
	return err
}

// close refuses new tasks, and returns those that have not ended. by is who shuts the Manager down, if that is known.
func (m *Manager) close(byShutdown bool, by string) []*Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.shutdownCalled, m.shutdownBy = true, m.shutdownCalled || byShutdown, cmp.Or(m.shutdownBy, by)
	m.quitRunLocked()
	return m.aliveTasksLocked()
}

// onParentDone is called on a goroutine of its own when the parent context has ended while tasks are
// alive.
func (m *Manager) onParentDone() {
	tasks := m.close(false, "")
	if m.parent.hasExpired() {
		// One line of the Manager, and not one for each task, which tells its stop as any other.
		m.bus.logAtLevelLater(slog.LevelWarn, "deadline of the parent context has passed, all tasks are stopped", slog.Int("tasks", len(tasks)))
	}
	_, _ = m.stopTasks(context.Background(), tasks, parentDoneRequest) // what is stuck is logged
}

// Run blocks until ctx is done, until a critical task is gone (see [WithCritical]), or until
// somebody else shuts the Manager down; then it shuts the Manager down itself. If it is for a critical
// task, the log says first which one that is, and why it is gone.
//
// It returns what Shutdown returns, which has the deadline that [WithShutdownTimeout] sets and
// otherwise none, joined with the [*GiveUpError] of each critical task that was given up, and the
// [*StopTimeoutError] of one that is stuck after a missed heartbeat, because it was not ready in
// time or because one that it is bound to was lost, before or meanwhile; and with an error that wraps [ErrCriticalCompleted] and names the task,
// for each that had completed before the shutdown began. ctx being done is no error, nor is the end of
// the parent context, whose tasks Run waits for. After Shutdown or the end of a Run it returns
// [ErrManagerClosed] at once; so it does if the parent context and all tasks have ended.
//
// Where main does not wait for the goroutine of a "go m.Run(ctx)", the process ends as soon as main returns: in the middle of the
// stops, with reports that nobody has been given, and with status 0 whatever has failed. Let main call Run, or wait for its result.
// A context of [os/signal.NotifyContext] swallows a second signal until its stop function is called: call that as soon as the
// context is done, or use [Manager.RunUntilSignal].
func (m *Manager) Run(ctx context.Context) error {
	if err := m.checkCall(ctx); err != nil {
		return err
	}
	return m.run(ctx, m.Shutdown, false)
}

// run is Run, or with another way to shut down that of a group.
func (m *Manager) run(ctx context.Context, shutdown func(context.Context) error, ofGroup bool) error {
	own := context.Background() // what ctx has for the shutdown, and none of its methods, which may be the user's
	if r := runOf(ctx); r != nil {
		own = context.WithoutCancel(r)
	}
	m.mu.Lock()
	if m.shutdownCalled || m.closedLocked() && m.aliveCount == 0 {
		m.mu.Unlock()
		return ErrManagerClosed
	}
	if m.runQuit == nil {
		m.runQuit = make(chan struct{})
	}
	quit := m.runQuit
	if len(m.criticalExits) > 0 || m.history.criticalForgotten > 0 {
		m.quitRunForCriticalLocked()
	}
	m.mu.Unlock()
	done, asked := ctx.Done(), false
	select {
	case <-done:
		asked = true
	case <-quit:
		select {
		case <-done: // a critical task may have completed because of that, and been faster
			asked = true
		default:
		}
	case <-m.parent.done:
	}
	m.mu.Lock()
	own = AskedBy(own, m.shutdownBy) // Run may be faster than who has shut the Manager down
	m.mu.Unlock()
	own, cancel := m.boundShutdown(own)
	defer cancel()
	err := shutdown(own)
	m.mu.Lock()
	defer m.mu.Unlock()
	return joinErrors(append(m.criticalErrorsLocked(ofGroup || asked), err))
}

// boundShutdown returns ctx with the deadline that a shutdown has which begins now.
func (m *Manager) boundShutdown(ctx context.Context) (context.Context, context.CancelFunc) {
	if d := m.config.shutdownTimeout; d > 0 {
		return context.WithTimeout(ctx, d)
	}
	return ctx, func() {}
}
