package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A restart, a replacement and a pause are requests of one task, in whose way another request may come, or the end of the task. Here is
// how one of them is waited for, and what its error says if the task has not followed it.

// requestOne asks t for q, which is to restart or to pause, and waits until it has, unless a body asks that is to return by that. It
// returns false if t has to be asked again, after a look whether it has ended.
func (m *Manager) requestOne(ctx context.Context, t *Task, q request) (done bool, err error) {
	began, hasDeadline := time.Now(), ctx.Err() == nil
	from := tasksOf(ctx)
	callers, unblock := blocked.enter(from, []*Task{t})
	defer unblock()
	stops, accepted, detached := m.requestAll(ctx, []*Task{t}, callers, q, newHand(ctx), hasDeadline)
	switch {
	case accepted == 0:
		err = t.refusal(q)
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

// refusal returns why the task can't be restarted, replaced or paused, as q asks: it is stuck, or is being stopped or paused. It is nil
// if it could be, or has ended; since it has refused q others may have done something with it.
func (t *Task) refusal(q request) error {
	t.mu.Lock()
	now, r := t.machine, t.run
	var waited time.Duration
	if t.record != nil {
		waited = t.record.stuckAfter
	}
	t.mu.Unlock()
	switch {
	case table[now.phase][q.asking()].do&refuse == 0:
		return nil
	case now.phase.state() == StateStuck:
		return &StopTimeoutError{Task: t.name, Timeout: waited, Stack: t.config().manager.stacks([]*run{r})[r], run: r}
	case now.phase == stopping:
		return fmt.Errorf("taskmanager: task %q is being stopped: %w", t.name, t.causeOf(now.pending))
	case now.phase == pausing:
		return fmt.Errorf("taskmanager: task %q is being paused: %w", t.name, ErrPaused)
	}
	return nil
}
