package taskmanager

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// An EventKind says what has happened to a task. The zero value is EventStarted.
type EventKind int

// The kinds of events, with the level at which each is logged.
const (
	EventStarted   EventKind = iota // debug: a run begins
	EventReady                      // debug: a run has announced that it is ready
	EventFailed                     // warn: a run failed, and will be restarted, unless the task is stopped before
	EventGaveUp                     // error: a run failed, and there will be no other
	EventCompleted                  // info: a run returned nil
	EventStopped                    // info: a run has ended as it was asked to, and the task with it, unless Err is ErrRestarted
	EventStuck                      // error: the task was asked to stop, and its body has not returned by the deadline
)

var eventKinds = [...]struct {
	name    string
	message string // of the log line
	level   slog.Level
}{
	EventStarted:   {"started", "task started", slog.LevelDebug},
	EventReady:     {"ready", "task ready", slog.LevelDebug},
	EventFailed:    {"failed", "task failed, will restart", slog.LevelWarn},
	EventGaveUp:    {"gave up", "task failed for good, gave up", slog.LevelError},
	EventCompleted: {"completed", "task completed", slog.LevelInfo},
	EventStopped:   {"stopped", "task stopped", slog.LevelInfo},
	EventStuck:     {"stuck", "task stuck, its body does not return", slog.LevelError},
}

func (k EventKind) valid() bool { return k >= 0 && int(k) < len(eventKinds) }

// String returns the kind in lower case: "gave up".
func (k EventKind) String() string {
	if k.valid() {
		return eventKinds[k].name
	}
	return "unknown"
}

// Level returns the level at which events of this kind are logged. Those from [slog.LevelWarn] on
// go to reporters.
func (k EventKind) Level() slog.Level {
	if k.valid() {
		return eventKinds[k].level
	}
	return slog.LevelInfo
}

// An Event is something that happened to a task. Fields that don't apply to its kind are zero, except
// that MaxRestarts and Window are always those of the task.
type Event struct {
	Time        time.Time
	Manager     string // see WithName
	Task        string // empty in a report that stands for several tasks, of which the fields that are true of one task are zero
	Kind        EventKind
	Run         uint64        // the run that it is about, from 1; 0 if the task was stopped before its first
	Err         error         // failed, gave up (a *GiveUpError, whose Reason says why; of several tasks, the Err of the latest), stuck, or stopped: with an error of its own, or by ErrRestarted
	Cause       error         // stopped: why: ErrStopped, ErrShutdown, ErrRestarted (wrapped, if the restart has timed out), or the cause of the parent context
	Delay       time.Duration // until the next run, before the fleet-wide limit
	Restarts    int           // within Window, the coming one included; with Unlimited, counted up to 1,000
	MaxRestarts int           // that are allowed within Window; or Unlimited
	Window      time.Duration
	Uptime      time.Duration // how long that run lasted
	Repeats     int           // reports: further events of this kind that this one, the latest of them, stands for
	Since       time.Time     // reports: when the first of the events happened that this one stands for; zero without Repeats
	TaskCount   int           // reports: for how many tasks this one stands, counted up to 65,536; 0 for one
	Tasks       []string      // reports: up to ten of their names; nil for one
	Missed      int           // subscribers: events lost before this one

	// Failed: the tasks that wait for this one to be ready (see WithDependsOn), be it by way of others. Gave up, stuck: also those
	// whose next run will, because they run or are in backoff now. They are named by their paths, the first ten in
	// alphabetical order, in a slice that is shared by all who get the event.
	Dependents     []string
	DependentCount int // of all of them
}

// firstTime is when the first of the events happened that e stands for.
func (e *Event) firstTime() time.Time {
	if e.Repeats == 0 {
		return e.Time
	}
	return e.Since
}

// attrs are what a log line says of e.
func (e *Event) attrs() []slog.Attr {
	attrs := make([]slog.Attr, 0, 12)
	if e.Manager != "" {
		attrs = append(attrs, slog.String("manager", e.Manager))
	}
	attrs = append(attrs, slog.String("task", e.Task), slog.Uint64("run", e.Run))
	gaveUp, own := e.gaveUp()
	if gaveUp != nil {
		attrs = append(attrs, slog.String("reason", string(gaveUp.Reason)))
	} else {
		own = bodyError(e.Err, e.Cause)
	}
	if e.Cause != nil {
		attrs = append(attrs, slog.String("cause", errorText(e.Cause)))
	}
	if own != nil {
		attrs = append(attrs, slog.String("error", errorText(own)))
	}
	at, stack := stackOf(e.Err)
	if at != "" {
		attrs = append(attrs, slog.String("at", at))
	}
	if e.Kind > EventReady && (e.Kind != EventStopped || e.Uptime > 0) {
		attrs = append(attrs, slog.Duration("uptime", e.Uptime))
	}
	restarts := e.Kind == EventFailed || e.Kind == EventCompleted && e.Restarts > 0
	if restarts {
		attrs = append(attrs, slog.Duration("restart_in", e.Delay))
	}
	if restarts || gaveUp != nil && gaveUp.Reason == GaveUpLimit {
		attrs = append(attrs,
			slog.String("restarts", fmt.Sprintf("%d of %s", e.Restarts, limitText(e.MaxRestarts))),
			slog.Duration("window", e.Window))
	}
	if e.DependentCount > 0 {
		attrs = append(attrs, slog.String("dependents", e.dependentsText()))
	}
	if len(stack) > 0 {
		// As []string both handlers of package slog print it so that it can be read: the one for text in a row, where a text of
		// several lines would be quoted, with \n and \t; that for JSON as an array.
		attrs = append(attrs, slog.Any("stack", stack))
	}
	return attrs
}

// gaveUp returns the Err of an EventGaveUp, and the last failure; otherwise nil.
func (e *Event) gaveUp() (*GiveUpError, error) {
	if gaveUp, ok := e.Err.(*GiveUpError); ok && e.Kind == EventGaveUp { //nolint:errorlint // the event's own
		return gaveUp, gaveUp.Err
	}
	return nil, nil
}

// bodyError is what err, of an event with that cause, has of the body: without what the other attributes of a line say already.
func bodyError(err, cause error) error {
	if cause != ErrRestarted { //nolint:errorlint // the cause itself
		return err
	}
	// After a restart by hand err is the cause, joined with what the body has returned.
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if parts := joined.Unwrap(); len(parts) > 0 && parts[0] == ErrRestarted { //nolint:errorlint // likewise
			return errors.Join(parts[1:]...)
		}
	}
	return err
}

// dependentsText names the dependents: "a, b and 3 more".
func (e *Event) dependentsText() string {
	return (&dependents{e.Dependents, e.DependentCount}).String()
}

// limitText is a limit of restarts in words.
func limitText(limit int) string {
	if limit == Unlimited {
		return "unlimited"
	}
	return strconv.Itoa(limit)
}
