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
//   - If the error of the run that was stopped wraps a [*StopTimeoutError] of what still executes, the
//     task is given up, and the error is its [*GiveUpError].
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
		if err != errNameTaken { //nolint:errorlint // it is restart's own, never wrapped
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

// restart restarts t, whatever it is at. It returns errNameTaken if t has ended and its name is another task's, or nobody's.
func (m *Manager) restart(ctx context.Context, t *Task) error {
	if m.isClosed() {
		return fmt.Errorf("%w: %q", ErrManagerClosed, t.name)
	}
	for {
		if t.State().Ended() {
			again, err := m.revive(t, newHand(ctx))
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

// RestartFailed has every task run again that was given up: it revives it as RestartTask does, or ends
// its cooldown (see [WithCooldown]). It returns how many it has revived, and the joined errors of those that
// could not be revived: what they depend on makes a cycle by now, their policy can't be made, or the
// Manager is closed. It does not wait for them; ctx says who asks, as in all calls by hand. Tasks of
// groups are left to their groups.
func (m *Manager) RestartFailed(ctx context.Context) (int, error) {
	if err := m.checkCall(ctx); err != nil {
		return 0, err
	}
	var (
		hand = newHand(ctx)
		n    int
		errs []error
	)
	for _, t := range m.allTasks() {
		var (
			again bool
			err   error
		)
		switch t.State() {
		case StatePaused:
			again, err = t.endCooldown(hand)
		case StateFailed:
			again, err = m.revive(t, hand)
		}
		if again {
			n++
			m.doomChanged(t)
		}
		if err != errNameTaken { //nolint:errorlint // it is ours, never wrapped
			errs = append(errs, err)
		}
	}
	return n, joinErrors(errs)
}

// endCooldown resumes a task that cools down, and returns false for any other.
func (t *Task) endCooldown(hand *byHand) (bool, error) {
	n := decision{input: resumed, now: time.Now(), hand: hand}
	closed := t.config().manager.isClosed()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.machine.phase != cooling:
		return false, nil
	case closed:
		return false, fmt.Errorf("%w: %q", ErrManagerClosed, t.name)
	}
	t.decideLocked(&n)
	return n.joined, nil
}

// errRestartTimedOut is the cause of the stop of a task whose body has not returned in time for its restart.
var errRestartTimedOut = fmt.Errorf("%w, and its body did not return in time", ErrRestarted)

// errNameTaken is not shown to anybody.
var errNameTaken = errors.New("taskmanager: name was taken over")

// revive starts a task afresh that has ended, for who has asked by hand. It returns false if it has not.
func (m *Manager) revive(t *Task, hand *byHand) (bool, error) {
	n := decision{input: revived, hand: hand}
	c := t.config()
	if c.policy != nil {
		delays, err := c.newDelays()
		if err != nil {
			return false, fmt.Errorf("%w: %q", err, t.name)
		}
		n.delays = &delays
	}
	n.now = time.Now()
	again, err := m.reviveAs(t, c, &n)
	if again {
		m.watchParent() // it may be the only one that is alive
	}
	return again, err
}

func (m *Manager) reviveAs(t *Task, c *taskConfig, n *decision) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closedLocked():
		return false, fmt.Errorf("%w: %q", ErrManagerClosed, t.name)
	case m.tasks.find(t.name) != t:
		return false, errNameTaken
	case t.config() != c:
		return false, nil // it was replaced meanwhile
	}
	if err := m.checkNeedsLocked(t.name, c); err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ended := t.machine.phase.ended()
	t.decideLocked(n)
	return ended, nil
}
