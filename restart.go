package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// RestartTask restarts the task of that name by hand, which counts against no limit and waits for
// no delay. A running one is stopped as by StopTask, with ErrRestarted as the cause, and runs again
// at once; RestartTask returns when the new run has begun, or waits for its dependencies, or at the
// deadline if the body has returned, and the new run has yet to begin. One in backoff runs now; a
// restart that was counted when it failed stays counted. One that has ended starts afresh, with new
// counts. One that waits for its dependencies goes on doing so.
//
// It returns [ErrTaskNotFound] if the name is unknown, and otherwise [ErrManagerClosed] if the
// Manager is closed; an [*OptionError] if the task has ended, and its dependencies make a cycle by
// now or its policy can't be made; and the errors of StopTask:
//
//   - If the stop times out, the restart has failed: the task stops for good when its body returns at
//     last. So fails a restart of somebody else that waits for it. The error of that, and the cause
//     of the stop, wrap ErrRestarted.
//   - If somebody else stops the task meanwhile, the stop wins and the error wraps its cause:
//     [ErrStopped], for example.
//   - If the error of the run that was stopped wraps a [*StopTimeoutError], something that it has
//     started still executes: the task is given up, and the error is its [*GiveUpError].
//   - A stuck task is not restarted: the error is a StopTimeoutError, at once, with the time for which
//     it had been waited.
func (m *Manager) RestartTask(ctx context.Context, name string) error {
	if err := m.checkCall(ctx); err != nil {
		return err
	}
	for {
		t, err := m.find(name)
		if err != nil {
			return err
		}
		err = m.restart(ctx, t)
		if err != errReplaced { //nolint:errorlint // it is restart's own, never wrapped
			return err
		}
		// t had ended, and was forgotten or its name started anew before t was restarted: it is the turn of
		// whoever has the name now.
	}
}

func (m *Manager) find(name string) (*Task, error) {
	if t, ok := m.Lookup(name); ok {
		return t, nil
	}
	return nil, fmt.Errorf("%w: %q", ErrTaskNotFound, name)
}

// restart restarts t, whatever it is at. It returns errReplaced if t has ended and its name is another task's, or nobody's.
func (m *Manager) restart(ctx context.Context, t *Task) error {
	if m.isClosed() {
		return fmt.Errorf("%w: %q", ErrManagerClosed, t.name)
	}
	for {
		if t.State().Ended() {
			again, err := m.revive(t, newHand(pathOfFirst(tasksOf(ctx))))
			if again {
				m.doomChanged(t) // who waits for it will not wait for ever, if it was given up
			}
			if again || err != nil {
				return err
			}
			// Somebody else has revived it: it is restarted like any other.
		}
		stop, accepted, detached, err := m.requestRestart(ctx, t)
		followed := noRequest
		if stop != nil {
			followed = request(stop.followed.Load())
		}
		switch {
		case err != nil && followed.stops(): // what the body has left executing
			return errors.Join(t.superseded(followed), err)
		case err != nil:
			return err
		case !accepted:
			if err := t.unrestartable(); err != nil {
				return err
			}
			continue // it has ended, or begun another run, meanwhile
		case detached:
			return nil
		}
		switch followed {
		case restartRequest:
			return nil
		case noRequest:
			if err := t.Err(); err != nil {
				return err // what the run had started executes still: the next one would meet it
			}
		default:
			return t.superseded(followed)
		}
	}
}

// superseded is the error of a restart of t that has waited while t has followed a request to stop.
func (t *Task) superseded(followed request) error {
	how := "was superseded by a stop"
	if followed == failedRestartRequest {
		how = "has failed with another one"
	}
	return fmt.Errorf("taskmanager: the restart of task %q %s: %w", t.name, how, t.causeOf(followed))
}

// requestRestart asks t to restart, and waits until it has; not if detached.
func (m *Manager) requestRestart(ctx context.Context, t *Task) (stop *stopOp, accepted, detached bool, err error) {
	began, hasDeadline := time.Now(), ctx.Err() == nil
	from := tasksOf(ctx)
	callers, unblock := blocked.enter(from, []*Task{t})
	defer unblock()
	stops, n, detached := m.requestAll(ctx, []*Task{t}, callers, restartRequest, newHand(pathOfFirst(from)), hasDeadline)
	if detached {
		return nil, n > 0, true, nil
	}
	defer m.beginProgress(restartRequest, began, stops, nil).end()
	return stops[0], n > 0, false, stops[0].wait(ctx, hasDeadline)
}

// unrestartable returns why a task that is being stopped can't be restarted; nil for any other.
func (t *Task) unrestartable() error {
	t.mu.Lock()
	now, r := t.machine, t.run
	var waited time.Duration
	if t.record != nil {
		waited = t.record.stuckAfter
	}
	t.mu.Unlock()
	switch now.phase {
	case stuck, overdueStuck, restartingStuck:
		return &StopTimeoutError{Task: t.name, Timeout: waited, Stack: t.config().manager.stacks([]*run{r})[r]}
	case stopping:
		return fmt.Errorf("taskmanager: task %q is being stopped: %w", t.name, t.causeOf(now.pending))
	}
	return nil
}

// errRestartTimedOut is the cause of the stop of a task whose body has not returned in time for its restart.
var errRestartTimedOut = fmt.Errorf("%w, and its body did not return in time", ErrRestarted)

// errReplaced is not shown to anybody.
var errReplaced = errors.New("taskmanager: task was replaced")

// revive starts a task afresh that has ended, for who has asked by hand. It returns false if it has not.
func (m *Manager) revive(t *Task, hand *byHand) (bool, error) {
	n := decision{input: revived, hand: hand}
	if t.config().policy != nil {
		var err error
		if n.delays, err = t.config().newDelays(); err != nil {
			return false, fmt.Errorf("%w: %q", err, t.name)
		}
	}
	n.now = time.Now()
	again, err := m.reviveAs(t, &n)
	if again {
		m.watchParent() // it may be the only one that is alive
	}
	return again, err
}

func (m *Manager) reviveAs(t *Task, n *decision) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return false, fmt.Errorf("%w: %q", ErrManagerClosed, t.name)
	case m.tasks.find(t.name) != t:
		return false, errReplaced
	}
	if len(t.config().dependsOn) > 0 {
		if err := m.checkCycleLocked(t.name, t.config().dependsOn); err != nil {
			return false, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ended := t.machine.phase.ended()
	t.decideLocked(n)
	return ended, nil
}
