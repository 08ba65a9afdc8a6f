package taskmanager

import (
	"context"
	"fmt"
	"time"
)

// PauseTask has the task of that name run no more until it is resumed by [Manager.ResumeTask] or restarted by
// [Manager.RestartTask], also from its backoff, its cooldown (see [WithCooldown]) or while it waits for its dependencies. The body of
// one that runs is asked to return as by StopTask, with ErrPaused as the cause, and PauseTask waits as that does. The task is in
// [StatePaused] then: it has not ended, keeps its name, its counts and its failures, is not ready for those that depend on it, and has
// no goroutine. StopTask, StopAll and the end of the Manager stop it. To pause one that is paused does nothing. How the run has ended
// is no failure. A restart by hand that has not been done yet gives way to the pause, and its error wraps ErrPaused.
//
// It returns the errors of StopTask: if the deadline passes, the task is stuck, and paused as soon as its body returns. And:
//
//   - If somebody stops the task meanwhile, the stop wins and the error wraps its cause: [ErrStopped], for example. That is the error
//     of a task that is being stopped, too; that of one that is stuck by a stop or a restart is a [*StopTimeoutError], at once.
//   - If the error of the run wraps a [*StopTimeoutError] of what still executes, the task is given up, and the error is its
//     [*GiveUpError].
func (m *Manager) PauseTask(ctx context.Context, name string) error {
	if err := m.checkCall(ctx); err != nil {
		return err
	}
	t, err := m.find(name)
	if err != nil {
		return err
	}
	return t.Pause(ctx)
}

// ResumeTask has the task of that name, which is paused, run again at once, or as soon as those are ready that it depends on; also one
// that has a cooldown (see [WithCooldown]). It does not wait for that.
//
// It returns [ErrTaskNotFound] if the name is unknown, and otherwise [ErrManagerClosed] if the Manager is closed; and
// [ErrTaskNotPaused], with the task's state, for any other task, be it one whose body has yet to return so that it is paused. By
// [Task.ResumeContext] one can say who asks.
func (m *Manager) ResumeTask(name string) error {
	if !m.isMade() {
		return errNotMade
	}
	t, err := m.find(name)
	if err != nil {
		return err
	}
	return t.Resume()
}

// Pause is [Manager.PauseTask] for this very task. After its name was started anew it returns ErrTaskNotRunning.
func (t *Task) Pause(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	for {
		if done, err := t.config().manager.requestOne(ctx, t, pauseRequest); done {
			return err
		}
		if t.State().Ended() {
			return fmt.Errorf("%w: %q", ErrTaskNotRunning, t.name)
		}
		// It has been revived meanwhile.
	}
}

// Resume is [Manager.ResumeTask] for this very task. After its name was started anew it returns ErrTaskNotPaused.
func (t *Task) Resume() error { return t.resume(newHand(context.Background())) }

// ResumeContext is Resume for who asks with ctx, as with all calls by hand (see [AskedBy]): it waits for nothing, so it makes no
// difference whether ctx is done.
func (t *Task) ResumeContext(ctx context.Context) error {
	if err := checkContext(ctx); err != nil {
		return err
	}
	return t.resume(newHand(ctx))
}

func (t *Task) resume(hand *byHand) error {
	m := t.config().manager
	if m.isClosed() {
		return fmt.Errorf("%w: %q", ErrManagerClosed, t.name)
	}
	n := decision{input: resumed, now: time.Now(), hand: hand}
	t.decide(&n)
	switch {
	case n.joined:
		return nil
	case n.phase == pausing, n.phase == pausingStuck:
		return fmt.Errorf("%w: %q is still being paused (%s)", ErrTaskNotPaused, t.name, n.phase.state())
	}
	return fmt.Errorf("%w: %q is %s", ErrTaskNotPaused, t.name, n.phase.state())
}
