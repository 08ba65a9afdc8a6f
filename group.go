package taskmanager

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/cenkalti/backoff/v4"
)

// Group returns a body that supervises tasks of its own: start starts them, in a Manager that is new
// for each run. opts are those of [New], but for WithContext: the parent context is that of the run,
// so the tasks stop with it, and the cause is the same.
//
// The run lasts as [Manager.Run] does: until it is asked to stop, or until a critical task of the
// group is gone. Then the others are stopped, and the run ends when all have ended; its error is
// that of Run, except that a critical task that has completed is no failure of the group: with
// nothing else to tell it returns nil, which completes the group, or under [RestartAlways] restarts
// it. With WithCritical and WithRestart(RestartNever) as opts, the failure of one task restarts all
// (one for all). Where only one task is critical and never restarted by itself, the others are, and
// with it all are (rest for one).
//
// The tasks are asked to stop as soon as the group is, also if that has [WithDrain]: how long each of them drains is for its own.
//
// No task of a run is alive when the next run begins, unless somebody restarts a group by hand that
// has failed because of that: one that is stuck when all others have ended fails the group without a restart.
// If it was the group that was asked to stop, it is stuck, too, and goes on as asked when the task has returned.
//
// If start returns an error, what it has started is stopped and the run has failed. Options that
// are refused fail it without a restart. The tasks' events go to the subscribers and the reporters
// of the Manager around the group as well, with the path as the name: "group/task". Their lines go
// to its log, or with WithLogger to that logger alone. Without WithName they have its name, too.
// Their statistics are [TaskStats.Group] of the group's, and Health names their problems.
//
// With WithReadiness the group is ready when those of its tasks are that have WithReadiness or WithCritical, or have
// completed or been stopped, or wait for a lease ([WithLease]); and so for those that depend on it, also without WithReadiness. It is not
// while its run ends.
// WithWatchdog watches over start alone: after that it is for the tasks of the group. Reports that wait when a run has ended
// are still delivered: by the next run, if it has the same Reporter; where each run has another one, those of the latest four runs are.
// Shutdown of the outermost Manager waits for them; subscriptions to the group's Manager end with the run.
//
//go:noinline
func Group(start func(m *Manager) error, opts ...Option) TaskFunc {
	return func(ctx context.Context) error {
		if start == nil {
			return permanent(&OptionError{Option: "start", Value: nil, Reason: "must not be nil"})
		}
		ctx, release := untilDraining(ctx) // what its tasks have in hand is their own affair
		defer release()
		m, err := New(append(slices.Clone(opts), withGroupContext(ctx))...)
		if err != nil {
			return backoff.Permanent(err)
		}
		setGroup(ctx, m)
		defer m.endGroup()
		return m.runGroup(ctx, start)
	}
}

// runGroup is one run of a group.
func (m *Manager) runGroup(ctx context.Context, start func(m *Manager) error) (err error) {
	ran := false // start has returned without an error, and Run has waited for the tasks
	defer func() {
		if !ran {
			// What start has started is stopped, however it has ended; also if somebody else is about to stop it.
			bounded, cancel := m.boundShutdown(context.WithoutCancel(ctx))
			defer cancel()
			left := m.shutdownTasks(bounded)
			err = errors.Join(err, left)
			leaveBehind(ctx, left) // err is nobody's if start has not returned
		}
		if ctx.Err() != nil { // to have stopped is to have returned: wait for those that are stuck, too
			for t := range m.Tasks() {
				<-t.Done()
			}
		}
	}()
	err = start(m)
	if ctx.Err() != nil && includes(err, ErrManagerClosed) {
		err = nil // it says so because the group is to stop
	}
	if err != nil {
		return err
	}
	m.groupStarted.Store(true)
	if w := watchedRunOf(ctx); w != nil {
		w.disarm()
	}
	m.groupReadinessChanged()
	err = m.run(ctx, m.shutdownTasks, true)
	ran = err != ErrManagerClosed //nolint:errorlint // which Run returns at once; in what others return it calls user code to find it
	if !ran && ctx.Err() != nil {
		return nil
	}
	return err
}

// endGroup leaves what is still to be logged or reported to the outermost Manager.
func (m *Manager) endGroup() {
	m.beginShutdown()
	defer m.endShutdown()
	m.bus.closeSubscribers()
	if outermost := m.bus.outermost(); outermost != m.bus {
		outermost.endRun(m.bus)
	} else if !m.bus.published() { // its body was called by itself: nobody else will flush
		go m.bus.flush(context.Background())
	}
}

// leaveBehind notes that the run whose body was given ctx has left tasks executing, in case that it can't return it.
func leaveBehind(ctx context.Context, err error) {
	if r := runOf(ctx); r != nil && err != nil {
		r.task.mu.Lock()
		defer r.task.mu.Unlock()
		r.task.lazyLocked().rareLocked().leftBehind = err
	}
}

// isGroup reports whether body was made by Group, of which no two closures differ in their code.
func isGroup(body TaskFunc) bool { return reflect.ValueOf(body).Pointer() == groupCode }

var groupCode = reflect.ValueOf(Group(nil)).Pointer()

// groupReady reports whether the tasks of a group are ready, and the group goes on: what its own end has stopped says nothing.
func (m *Manager) groupReady() bool {
	if m == nil || !m.groupStarted.Load() {
		return false
	}
	for t := range m.Tasks() {
		if !t.config().mustBeReady() {
			continue
		}
		t.mu.Lock()
		excused := t.isHaltedLocked() || t.isStandbyLocked()
		t.mu.Unlock()
		if excused || t.awaitsStandby(make(map[*Task]bool)) {
			continue
		}
		if _, ready := t.checkReady(); !ready {
			return false
		}
	}
	m.mu.Lock() // at last, for what a critical task has closed meanwhile has been looked at in vain
	defer m.mu.Unlock()
	return !m.closedLocked() && len(m.criticalExits) == 0 // whether Run has begun or not
}

// groupReadinessChanged has the group, and those who depend on it, look whether its tasks are ready.
func (m *Manager) groupReadinessChanged() {
	t := m.config.groupTask
	if t == nil {
		return
	}
	if t.config().readiness > 0 {
		t.mu.Lock()
		var w *watchedRun
		if t.config().isGroup && t.groupLocked() == m && !t.readyLocked() {
			w = t.lazy.watched
		}
		t.mu.Unlock()
		if w != nil && m.groupReady() {
			w.setReady()
			return
		}
	}
	m.config.parentManager.readinessChanged(t)
}

// withGroupContext is the option of a group's Manager.
func withGroupContext(ctx context.Context) Option {
	return managerOption("WithContext", "ctx", func(c *config) string {
		if c.ctx != context.Background() {
			return "is not for Group, whose parent context is that of its run"
		}
		c.ctx = ctx
		if t, ok := FromContext(ctx); ok {
			c.parentManager, c.groupTask = t.config().manager, t
			c.prefix = t.path() + "/"
			if c.name == "" {
				c.name = c.parentManager.config.name
			}
		}
		return ""
	})
}

// setGroup notes that the tasks of the run whose body was given ctx are those of m.
func setGroup(ctx context.Context, m *Manager) {
	if r := runOf(ctx); r != nil {
		r.task.mu.Lock()
		defer r.task.mu.Unlock()
		r.task.lazyLocked().group = m
	}
}

// Group returns the Manager of the latest run of a [Group], through which its tasks can be found, asked and restarted. It is nil
// before the first run, and for any other task. The next run of the group has another one; [Manager.Done] of this one says when
// its run has ended.
func (t *Task) Group() *Manager {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.groupLocked()
}

// groupLocked returns the Manager of the latest run, if the task is a group.
func (t *Task) groupLocked() *Manager {
	if t.lazy == nil {
		return nil
	}
	return t.lazy.group
}
