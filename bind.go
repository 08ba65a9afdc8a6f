package taskmanager

import (
	"slices"
	"time"
)

// loseBound ends the runs of those that are bound to t, which was lost; of those that are bound to them; and so on. It is called without
// locks, before the run of t is canceled: so a run that begins with the next one of t is not taken for one that has begun with this.
// There may be many in a row, so it does not call itself.
func (m *Manager) loseBound(t *Task) {
	if m.boundCount.Load() == 0 {
		return
	}
	for lost := []*Task{t}; len(lost) > 0; lost = lost[1:] {
		for piece := range m.dependentsOf(lost[0].name) {
			for _, d := range piece {
				if d.State() == StateRunning && slices.Contains(d.config().bindTo, lost[0].name) && d.loses(lost[0].name) {
					lost = append(lost, d)
				}
			}
		}
	}
}

// loses ends the run of t, which is bound to the task of that name, and reports whether there was one to end. If its body does not
// return in time, it is stuck.
func (t *Task) loses(name string) bool { return t.losesFor(&lossError{task: t.name, on: name}) }

// losesFor is loses, for whatever the run needs and was lost.
func (t *Task) losesFor(loss *lossError) bool {
	c := t.config()
	s := newStopOp(c.manager, unboundRequest, c.stopTimeout)
	s.tasks, s.loss = []*Task{t}, loss
	return s.start(time.Now()) > 0
}

// checkBound ends the run of t, which has just begun, if a task that it is bound to was lost between the look at it and the begin.
func (t *Task) checkBound() {
	m := t.config().manager
	for _, name := range t.config().bindTo {
		d, ok := m.Lookup(name)
		if ok && d.isBindable() {
			continue
		}
		if t.loses(name) {
			m.loseBound(t)
		}
		return
	}
}

// isBindable reports whether t is not lost to those that are bound to it. Of a group it is the run that counts, and not its tasks.
func (t *Task) isBindable() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.machine.phase == completed || t.readyLocked()
}
