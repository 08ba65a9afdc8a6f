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
// deadline if the body has returned, and the new run has yet to begin. One in backoff, or paused, runs now; a
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
//     [ErrStopped], for example. So does a pause.
//   - If the error of the run that was stopped wraps a [*StopTimeoutError], something that it has
//     started still executes: the task is given up, and the error is its [*GiveUpError].
//   - A stuck task is not restarted: the error is a StopTimeoutError, at once, with the time for which
//     it had been waited. Nor is one that is being stopped, or paused: the error wraps the cause of that.
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
		if done, err := m.requestOne(ctx, t, restartRequest); done {
			return err
		}
		// It has ended, or begun another run, meanwhile.
	}
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
		if err := m.checkCycleLocked(t.name, t.config()); err != nil {
			return false, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ended := t.machine.phase.ended()
	t.decideLocked(n)
	return ended, nil
}
