package taskmanager

import (
	"context"
	"errors"
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
	return t.pause(ctx)
}

// ResumeTask has the task of that name, which is paused, run again at once, or as soon as those are ready that it depends on; also one
// that has a cooldown (see [WithCooldown]). It does not wait for that.
//
// It returns [ErrTaskNotFound] if the name is unknown, and otherwise [ErrManagerClosed] if the Manager is closed; and
// [ErrTaskNotPaused], with the task's state, for any other task, be it one whose body has yet to return so that it is paused.
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
	return t.pause(ctx)
}

func (t *Task) pause(ctx context.Context) error {
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
func (t *Task) Resume() error {
	m := t.config().manager
	if m.isClosed() {
		return fmt.Errorf("%w: %q", ErrManagerClosed, t.name)
	}
	n := decision{input: resumed, now: time.Now(), hand: newHand("")}
	t.decide(&n)
	switch {
	case n.joined:
		m.readinessChanged(t) // of its group
		return nil
	case n.phase == pausing, n.phase == pausingStuck:
		return fmt.Errorf("%w: %q is still being paused (%s)", ErrTaskNotPaused, t.name, n.phase.state())
	}
	return fmt.Errorf("%w: %q is %s", ErrTaskNotPaused, t.name, n.phase.state())
}

// requestOne asks t to restart or to pause, and waits until it has, unless a body asks that is to return by that. It returns false if t
// has to be asked again, after a look whether it has ended.
func (m *Manager) requestOne(ctx context.Context, t *Task, q request) (done bool, err error) {
	began, hasDeadline := time.Now(), ctx.Err() == nil
	from := tasksOf(ctx)
	callers, unblock := blocked.enter(from, []*Task{t})
	defer unblock()
	stops, accepted, detached := m.requestAll(ctx, []*Task{t}, callers, q, newHand(pathOfFirst(from)), hasDeadline)
	switch {
	case accepted == 0:
		err = t.refusal()
		return err != nil, err
	case detached:
		return true, nil
	}
	defer m.beginProgress(q, began, stops, nil).end()
	err = stops[0].wait(ctx, hasDeadline)
	followed := request(stops[0].followed.Load())
	switch {
	case err != nil && followed.stops(): // what the body has left executing
		return true, errors.Join(t.superseded(q, followed), err)
	case err != nil, followed == q:
		return true, err
	case followed == noRequest:
		err = t.Err() // what the run had started executes still: the next one would meet it
		return err != nil, err
	}
	return true, t.superseded(q, followed)
}

// superseded is the error of a restart, a replacement or a pause of t that has waited while t has followed another request.
func (t *Task) superseded(q, followed request) error {
	what := map[request]string{restartRequest: "restart", replaceRequest: "replacement", pauseRequest: "pause"}[q]
	how := "was superseded by a stop"
	switch followed {
	case pauseRequest:
		how = "was superseded by a pause"
	case failedRestartRequest, failedReplaceRequest:
		how = "has failed with another one"
	}
	return fmt.Errorf("taskmanager: the %s of task %q %s: %w", what, t.name, how, t.causeOf(followed))
}

// refusal returns why a task can't be restarted, replaced or paused, that is being stopped, or paused; nil for any other.
func (t *Task) refusal() error {
	t.mu.Lock()
	now, r := t.machine, t.run
	var waited time.Duration
	if t.record != nil {
		waited = t.record.stuckAfter
	}
	t.mu.Unlock()
	switch {
	case now.phase.state() == StateStuck:
		return &StopTimeoutError{Task: t.name, Timeout: waited, Stack: t.config().manager.stacks([]*run{r})[r], run: r}
	case now.phase == stopping:
		return fmt.Errorf("taskmanager: task %q is being stopped: %w", t.name, t.causeOf(now.pending))
	case now.phase == pausing:
		return fmt.Errorf("taskmanager: task %q is being paused: %w", t.name, ErrPaused)
	}
	return nil
}
