package taskmanager

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// A criticalExit says that a critical task is gone: it has completed or was given up, it is stuck after it was late, or it waits
// for one that was given up. Run and Health go by the same.
type criticalExit struct {
	order uint64
	err   error // nil if it has completed when the Manager was being shut down: that is no reason for anything
}

// recordCriticalExitLocked notes that t, which is critical, is gone: because of err, or completed if that is nil.
func (m *Manager) recordCriticalExitLocked(t *Task, err error) {
	if err == nil && !m.closed {
		err = &criticalCompletedError{t.name}
	}
	if m.criticalExits == nil {
		m.criticalExits = make(map[string]criticalExit)
	}
	m.criticalCount++
	m.criticalExits[t.name] = criticalExit{m.criticalCount, err}
	m.quitRunLocked()
}

// clearCriticalExitLocked takes recordCriticalExitLocked back, for t or an earlier task of its name, unless it is too late:
// Run may have ended because of it.
func (m *Manager) clearCriticalExitLocked(t *Task) {
	if !m.closed {
		delete(m.criticalExits, t.name)
	}
}

// criticalErrorsLocked returns why critical tasks are gone, in the order in which that has happened. Those that have completed are
// left out for a group, which completes with them.
func (m *Manager) criticalErrorsLocked(ofGroup bool) []error {
	var errs []error
	for _, exit := range slices.SortedFunc(maps.Values(m.criticalExits), func(a, b criticalExit) int {
		return cmp.Compare(a.order, b.order)
	}) {
		if _, completed := exit.err.(*criticalCompletedError); !completed || !ofGroup { //nolint:errorlint // it is never wrapped there
			errs = append(errs, exit.err)
		}
	}
	h := &m.history
	if h.criticalFailed > 0 {
		errs = append(errs, fmt.Errorf("taskmanager: gave up %d more critical tasks, which have been forgotten", h.criticalFailed))
	}
	if n := h.criticalForgotten - h.criticalFailed; n > 0 && !ofGroup {
		errs = append(errs, fmt.Errorf("%w: %d more of them, which have been forgotten", ErrCriticalCompleted, n))
	}
	return errs
}

// quitRunLocked has Run, if it waits, shut the Manager down. Nothing is started from now on, though
// the goroutine of Run may need a while to get there.
func (m *Manager) quitRunLocked() {
	if m.runQuit != nil {
		close(m.runQuit)
		m.runQuit = nil
		m.closed = true
	}
}
