package taskmanager

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"math"
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
	m.quitRunForCriticalLocked()
}

// quitRunForCriticalLocked is quitRunLocked where critical tasks are gone. If that is why the Manager is closed, it is logged before
// the tasks are asked to stop.
func (m *Manager) quitRunForCriticalLocked() {
	if m.runQuit == nil {
		return
	}
	if !m.closed {
		level, message, attrs := m.describeCriticalLocked()
		m.bus.logFirst(level, message, attrs...)
	}
	m.quitRunLocked()
}

// describeCriticalLocked returns what the log is to say of the critical task that was gone first.
func (m *Manager) describeCriticalLocked() (level slog.Level, message string, attrs []slog.Attr) {
	level, message = slog.LevelError, "critical task is gone, shutting down"
	gone := len(m.criticalExits)
	if gone > 0 {
		var task string
		first := criticalExit{order: math.MaxUint64}
		for name, exit := range m.criticalExits {
			if exit.order < first.order {
				task, first = name, exit
			}
		}
		reason, err := first.describe()
		attrs = []slog.Attr{slog.String("task", m.config.prefix+task), slog.String("reason", reason)}
		if err != nil {
			attrs = append(attrs, slog.Any("error", errorValue{err}))
		}
		if reason == string(HealthCompleted) && m.config.groupTask != nil {
			level = slog.LevelInfo // that completes the group
		}
		gone--
	}
	if gone += m.history.criticalForgotten; gone > 0 {
		attrs = append(attrs, slog.Int("others", gone))
	}
	if m.config.groupTask != nil {
		message = "critical task is gone, group ends"
	}
	return level, message, attrs
}

// describe says in words why the task is gone, and because of which error; nil if that says it all.
func (x criticalExit) describe() (text string, err error) {
	switch err := x.err.(type) { //nolint:errorlint // made here, and never wrapped
	case *GiveUpError:
		return string(x.reason()), err.Err
	case *doomError:
		for inner, ok := err.err.(*doomError); ok; inner, ok = err.err.(*doomError) { //nolint:errorlint // likewise
			err = inner
		}
		text, cause := fmt.Sprintf("waits for %q, which was given up", err.on), err.err
		if gaveUp, ok := cause.(*GiveUpError); ok { //nolint:errorlint // likewise
			cause = gaveUp.Err
		}
		return text, cause
	case *StopTimeoutError:
		return string(x.reason()), err
	}
	return string(x.reason()), nil
}

// An errorValue is the text of an error in a line of the log. It calls user code when the line is written.
type errorValue struct{ err error }

// LogValue implements slog.LogValuer.
func (v errorValue) LogValue() slog.Value { return slog.StringValue(errorText(v.err)) }

// clearCriticalExitLocked takes recordCriticalExitLocked back, for t or an earlier task of its name, unless it is too late:
// Run may have ended because of it.
func (m *Manager) clearCriticalExitLocked(t *Task) {
	if !m.closed {
		delete(m.criticalExits, t.name)
	}
}

// criticalErrorsLocked returns why critical tasks are gone, in the order in which that has happened. Those that have completed are
// left out if they are no reason: for a group, which completes with them, and where the context of Run has ended.
func (m *Manager) criticalErrorsLocked(withoutCompleted bool) []error {
	var errs []error
	for _, exit := range slices.SortedFunc(maps.Values(m.criticalExits), func(a, b criticalExit) int {
		return cmp.Compare(a.order, b.order)
	}) {
		if _, completed := exit.err.(*criticalCompletedError); !completed || !withoutCompleted { //nolint:errorlint // it is never wrapped there
			errs = append(errs, exit.err)
		}
	}
	h := &m.history
	if h.criticalFailed > 0 {
		errs = append(errs, fmt.Errorf("taskmanager: gave up %d more critical tasks, which have been forgotten", h.criticalFailed))
	}
	if n := h.criticalForgotten - h.criticalFailed; n > 0 && !withoutCompleted {
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
