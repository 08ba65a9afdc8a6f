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
	err   error // nil if it has completed
}

// recordCriticalExitLocked notes that t, which is critical, is gone.
func (m *Manager) recordCriticalExitLocked(t *Task, err error) {
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

// criticalErrorsLocked returns why critical tasks are gone, in the order in which that has happened.
func (m *Manager) criticalErrorsLocked() []error {
	var errs []error
	for _, exit := range slices.SortedFunc(maps.Values(m.criticalExits), func(a, b criticalExit) int {
		return cmp.Compare(a.order, b.order)
	}) {
		errs = append(errs, exit.err)
	}
	if n := m.history.criticalFailed; n > 0 {
		errs = append(errs, fmt.Errorf("taskmanager: gave up %d more critical tasks, which have been forgotten", n))
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
