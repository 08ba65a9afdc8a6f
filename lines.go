package taskmanager

import (
	"context"
	"log/slog"
)

// The lines of a task's log are written in the order of its events, by one goroutine at a time, and nobody waits for it:
// whoever has a line while another one is with the log's handler, which is user code, leaves the line to that.

// linesWaitLocked reports whether there are lines that nobody is about to write.
func (t *Task) linesWaitLocked() bool { return t.lazy != nil && len(t.lazy.lines) > 0 && !t.logging }

// mayRunFirstLocked reports whether the next run can begin before the lines that wait are written: there is none, or only that of a
// restart by hand, for which somebody waits.
func (t *Task) mayRunFirstLocked() bool {
	return !t.linesWaitLocked() || len(t.lazy.lines) == 1 && (t.lazy.lines[0].kind < 0 || t.lazy.lines[0].kind == EventResumed)
}

// drainLog writes the lines that wait, unless somebody does.
func (t *Task) drainLog() {
	holds := false // Task.logging is due to this call
	defer func() {
		if holds { // the handler has called runtime.Goexit
			t.mu.Lock()
			t.logging = false
			t.unclogLocked()
			t.mu.Unlock()
			go t.drainLog()
		}
	}()
	for {
		t.mu.Lock()
		if holds {
			holds, t.logging = false, false
			t.unclogLocked()
		}
		if !t.linesWaitLocked() {
			t.mu.Unlock()
			return
		}
		o := t.lazy.lines[0]
		t.lazy.lines[0] = occurrence{} // what it refers to is not kept for as long as the task
		t.lazy.lines = t.lazy.lines[1:]
		holds, t.logging = true, true
		t.mu.Unlock()
		t.logLine(&o)
	}
}

// unclogLocked wakes a driver that waits because too many lines did.
func (t *Task) unclogLocked() {
	if x := t.lazy; x != nil && x.clogged && len(x.lines) < maxLines {
		x.wakeParked()
	}
}

// logLine hands an event to the log's handler, if that wants it.
//
//go:noinline
func (t *Task) logLine(o *occurrence) (written bool) {
	b := t.config().manager.bus
	defer b.pending.Done()
	switch { // also if the handler calls runtime.Goexit
	case o.kind == EventStopped && o.request.alone():
		defer t.config().manager.warnOfDependents(t, "task was stopped, though others depend on it")
	case o.kind == EventPaused:
		defer t.config().manager.warnOfDependents(t, "task was paused, though others depend on it")
	}
	ctx, level := t.logContextOf(o.ctx), o.level()
	if written = b.logs(ctx, level); written {
		t.writeLine(ctx, o, level)
	}
	return written
}

// writeLine is not inlined, for an event is large.
//
//go:noinline
func (t *Task) writeLine(ctx context.Context, o *occurrence, level slog.Level) {
	m := t.config().manager
	l := &logLine{Event: t.event(o), ctx: ctx, level: level, whence: m.whence(o.request), hand: o.hand, was: o.was}
	if o.kind == EventStarted || goesOn(o.cause) {
		l.hand = nil // the place of the call is in the line of the restart or the replacement
	}
	m.bus.logEvent(l)
}

// logStart has it logged that the run has begun. The body is entered after that, so that its own lines come later; and at
// once if somebody asks for the end of the run, who must not wait for the log's handler.
func (d *driver) logStart() {
	t, logged := d.task, make(chan struct{})
	go func() {
		defer close(logged)
		t.drainLog()
	}()
	select {
	case <-logged:
	case <-d.run.draining(): // who is asked to return does not wait for the log
	}
}

// endLine says that the driver is not with the log's handler any more.
func (d *driver) endLine() {
	if !d.holdsLog {
		return
	}
	d.holdsLog = false
	t := d.task
	t.mu.Lock()
	t.logging = false
	more := t.linesWaitLocked()
	t.mu.Unlock()
	if more {
		t.drainLog()
	}
}
