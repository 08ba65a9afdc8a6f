package taskmanager

// A history is about the tasks that have ended: what of them is remembered, and how many of what matters are not. It is
// guarded by the Manager's mu.
//
// Those that matter to nobody are remembered up to the limit that WithHistory sets. Of those that were given up, and of
// critical ones that have completed, Health and Run have to know: they stay until they are restarted or their name is taken
// over. One that has completed, and on which others depend, stays for as long as there are such.
type history struct {
	ended endedList // nobody needs these
	kept  endedList // Health and Run do

	failedForgotten   int // tasks that were given up, beyond maxKept
	criticalForgotten int // critical ones, likewise, and those that had completed
	criticalFailed    int // those of criticalForgotten that were given up
}

// maxKept bounds the memory of what was given up.
const maxKept = 10_000

// An endedList is a list of tasks, linked by their prevEnded and nextEnded.
type endedList struct {
	oldest, newest *Task
	n              int
}

func (l *endedList) push(t *Task) {
	t.prevEnded = l.newest
	if l.newest != nil {
		l.newest.nextEnded = t
	} else {
		l.oldest = t
	}
	l.newest = t
	l.n++
}

// insert is push for a task that has ended a while ago. The way to its place is short: what depended on it has ended later, and
// has just been forgotten.
func (l *endedList) insert(t *Task) {
	next := l.oldest
	for next != nil && next.endedAt < t.endedAt {
		next = next.nextEnded
	}
	if next == nil {
		l.push(t)
		return
	}
	t.prevEnded, t.nextEnded = next.prevEnded, next
	if next.prevEnded != nil {
		next.prevEnded.nextEnded = t
	} else {
		l.oldest = t
	}
	next.prevEnded = t
	l.n++
}

func (l *endedList) remove(t *Task) {
	next, prev := t.nextEnded, t.prevEnded
	if next != nil {
		next.prevEnded = prev
	} else {
		l.newest = prev
	}
	if prev != nil {
		prev.nextEnded = next
	} else {
		l.oldest = next
	}
	t.nextEnded, t.prevEnded = nil, nil
	l.n--
}

// listLocked returns the list in which t, which has ended, is; nil if it is in none because others depend on it.
func (m *Manager) listLocked(t *Task) *endedList {
	s := t.State()
	switch {
	case s == StateFailed, s == StateCompleted && t.config().critical:
		return &m.history.kept
	case s == StateCompleted && len(m.dependents[t.name]) > 0:
		return nil
	}
	return &m.history.ended
}

// keepLocked takes t, which has ended, into the history. trimLocked must follow.
func (m *Manager) keepLocked(t *Task) {
	if l := m.listLocked(t); l != nil {
		l.push(t)
	}
}

// trimLocked forgets what there are too many of. It is called without the mu of any task.
func (m *Manager) trimLocked() {
	h := &m.history
	for h.kept.n > maxKept {
		t := h.kept.oldest
		gaveUp := t.State() == StateFailed
		if gaveUp {
			h.failedForgotten++
		}
		if t.config().critical {
			h.criticalForgotten++
			if gaveUp {
				h.criticalFailed++
			}
		}
		m.dropLocked(t)
	}
	for h.ended.n > m.config.history { // after those: what they had needed may be among these now
		m.dropLocked(h.ended.oldest)
	}
}

func (m *Manager) dropLocked(t *Task) {
	m.forgetLocked(t)
	m.tasks.remove(t)
	m.clearCriticalExitLocked(t)
}

// removeEndedLocked takes t, whose state is still that of its end, out of the history.
func (m *Manager) removeEndedLocked(t *Task) {
	if l := m.listLocked(t); l != nil {
		l.remove(t)
	}
}

// forgetLocked takes t, which has ended, out of the history for good, and keeps its counts for the totals.
func (m *Manager) forgetLocked(t *Task) {
	m.removeEndedLocked(t)
	m.removeDependentLocked(t)
	m.removeLeaseLocked(t)
	t.mu.Lock()
	total := t.totalsLocked()
	t.mu.Unlock()
	m.tasks.partOf(t.hash).forgotten.add(total)
}
