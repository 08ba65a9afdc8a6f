package taskmanager

import (
	"context"
	"errors"
	"slices"

	"github.com/cenkalti/backoff/v4"
)

// Group returns a body that supervises tasks of its own: start starts them, in a Manager that is new
// for each run. opts are those of [New], but for WithContext: the parent context is that of the run,
// so the tasks stop with it, and the cause is the same.
//
// The run lasts as [Manager.Run] does: until it is asked to stop, or until a critical task of the
// group is gone. Then the others are stopped, and the run ends when all have ended; its error is
// that of Run. With WithCritical and WithRestart(RestartNever) as opts, the failure of one task
// restarts all (one for all). Where only one task is critical and never restarted by itself, the
// others are, and with it all are (rest for one).
//
// No task of a run is alive when the next run begins. One that is stuck fails the group without a
// restart; if it was the group that was asked to stop, it is stuck, too.
//
// If start returns an error, what it has started is stopped and the run has failed. Options that
// are refused fail it without a restart. The tasks' events go to the log, the subscribers and the
// reporters of the Manager around the group as well, with the path as the name: "group/task". Their
// statistics are [TaskStats.Group] of the group's, and Health names their problems.
func Group(start func(m *Manager) error, opts ...Option) TaskFunc {
	return func(ctx context.Context) (err error) {
		if start == nil {
			return refused("start", nil, "must not be nil")
		}
		m, err := New(append(slices.Clone(opts), inGroup(ctx))...)
		if err != nil {
			return backoff.Permanent(err)
		}
		showGroup(ctx, m)
		started := false
		defer func() {
			if !started { // start has failed, or panicked
				err = errors.Join(err, m.Shutdown(context.WithoutCancel(ctx)))
			}
			if ctx.Err() != nil { // to have stopped is to have returned: wait for those that are stuck, too
				for t := range m.Tasks() {
					<-t.Done()
				}
			}
		}()
		err = start(m)
		if err != nil {
			return err
		}
		started = true
		return m.Run(ctx)
	}
}

// inGroup is the option of a group's Manager.
func inGroup(ctx context.Context) Option {
	return managerOption("WithContext", "ctx", func(c *config) string {
		if c.ctx != context.Background() {
			return "is not for Group, whose parent context is that of its run"
		}
		c.ctx = ctx
		if t, ok := FromContext(ctx); ok {
			c.outer = t.config.manager
			c.prefix = t.path() + "/"
			if c.name == "" {
				c.name = c.outer.config.name
			}
		}
		return ""
	})
}

// showGroup notes that the tasks of the run whose body was given ctx are those of m.
func showGroup(ctx context.Context, m *Manager) {
	if r := runOf(ctx); r != nil {
		r.task.mu.Lock()
		defer r.task.mu.Unlock()
		r.task.extrasLocked().group = m
	}
}

// group returns the Manager of the latest run, if the task is a group.
func (t *Task) group() *Manager {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.extras == nil {
		return nil
	}
	return t.extras.group
}

// path is the name of the task, with those of the groups around it.
func (t *Task) path() string {
	if prefix := t.config.manager.config.prefix; prefix != "" {
		return prefix + t.name
	}
	return t.name
}
