package taskmanager

import (
	"context"
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
	EventGaveUp                     // error: a run failed, and there will be no other, or none before a cooldown is over
	EventCompleted                  // info: a run returned nil

	// EventStopped is logged as info, or as [EventKind.Level] says: a run has ended as it was asked to, and the task with it, unless Err is
	// ErrRestarted, ErrReplaced, ErrDependencyLost or ErrLeaseLost.
	EventStopped

	EventStuck      // error: the task was asked to stop, and its body has not returned by the deadline
	EventPaused     // info, or as [EventKind.Level] says: the task was paused by hand
	EventResumed    // info: the task was paused, or had a cooldown, and goes on by hand
	EventPassGaveUp // error: a pass of [Every] or [OnSchedule] failed and is not tried again; the task goes on with the next one

	// EventRecovered is logged as info: a run of a task of which an EventFailed, EventGaveUp or EventPassGaveUp was published is healthy by
	// now. It has lasted for WithHealthyAfter and is ready, or has returned nil, or one of its passes has succeeded (see [Every]) and it is
	// ready. A task that is stopped before that is not told to have recovered, nor is one that is started anew under the name; one that was
	// replaced is.
	EventRecovered

	EventTriggered // debug, or info if By says who has asked for it: a pass is to begin now, by hand (see [Manager.TriggerTask])
)

var eventKinds = [...]struct {
	name    string
	message string // of the log line
	level   slog.Level
}{
	EventStarted:    {"started", "task started", slog.LevelDebug},
	EventReady:      {"ready", "task ready", slog.LevelDebug},
	EventFailed:     {"failed", "task failed, will restart", slog.LevelWarn},
	EventGaveUp:     {"gave up", "task failed for good, gave up", slog.LevelError},
	EventCompleted:  {"completed", "task completed", slog.LevelInfo},
	EventStopped:    {"stopped", "task stopped", slog.LevelInfo},
	EventStuck:      {"stuck", "task stuck, its body does not return", slog.LevelError},
	EventPaused:     {"paused", "task paused", slog.LevelInfo},
	EventResumed:    {"resumed", "task resumed", slog.LevelInfo},
	EventPassGaveUp: {"pass gave up", "pass failed for good, task goes on", slog.LevelError},
	EventRecovered:  {"recovered", "task recovered", slog.LevelInfo},
	EventTriggered:  {"triggered", "pass triggered", slog.LevelDebug},
}

func (k EventKind) valid() bool { return k >= 0 && int(k) < len(eventKinds) }

// String returns the kind in lower case: "gave up".
func (k EventKind) String() string {
	if k.valid() {
		return eventKinds[k].name
	}
	return "unknown"
}

// Level returns the level at which events of this kind are logged. Those from [slog.LevelWarn] on, and EventRecovered, go to
// reporters.
//
// The line of an EventStopped or EventPaused is a warning if the body has returned an error of its own: one that is more than
// the cause of the stop or context.Canceled, wrapped or not; that of an EventTriggered is info if [Event.By] is known. Level is that of
// the kind all the same, and the event does not go to reporters.
func (k EventKind) Level() slog.Level {
	if k.valid() {
		return eventKinds[k].level
	}
	return slog.LevelInfo
}

// isReported reports whether events of this kind go to reporters.
func (k EventKind) isReported() bool { return k.Level() >= slog.LevelWarn || k == EventRecovered }

// An Event is something that happened to a task. Fields that don't apply to its kind are zero, except
// that MaxRestarts and Window are always those of the task.
type Event struct {
	Time    time.Time
	Manager string // see WithName
	Task    string // empty in a report that stands for several tasks, of which the fields that are true of one task are zero
	Kind    EventKind
	Run     uint64 // the run that it is about, from 1; 0 if there was none yet

	// Failed, stuck: what has happened; of several tasks, to the latest. Gave up, pass gave up: likewise, a *GiveUpError, whose Reason says
	// why. Stopped, paused: an error of the body's own, or nil; if another run follows, it wraps the Cause, too: ErrRestarted, ErrReplaced,
	// ErrDependencyLost or ErrLeaseLost.
	Err error

	// Stopped, paused: why. ErrStopped, ErrPaused, ErrShutdown, ErrRestarted and ErrReplaced (wrapped, if that has timed out),
	// ErrDependencyLost and ErrLeaseLost (wrapped), or the cause of the parent context.
	Cause error

	// Stopped, paused, resumed, triggered, stuck by a request; started, if the run begins because somebody has restarted or replaced the
	// task by hand while no run executed, be it in backoff, paused, waiting or ended: who has asked for that by hand. It is the path of the
	// task whose body has called, or what AskedBy says; of several who ask for the same, the first. It is empty if nobody has, or if that is
	// not known.
	By string

	// Until the next run, before the fleet-wide limit. Gave up: the cooldown, if there is one. Pass gave up: until the next pass, 0 if none
	// is known. Of several tasks, that of the latest.
	Delay time.Duration

	Restarts    int // within Window, the coming one included; with Unlimited, counted up to 1,000
	MaxRestarts int // that are allowed within Window; or Unlimited
	Window      time.Duration
	Uptime      time.Duration // how long that run lasted; recovered: has lasted

	// Recovered: how many failures there had been since the task was healthy before, 0 if it was given up without one (see RestartAlways);
	// and when the first of them happened, or the task was given up, zero if it stands for several tasks.
	Failures    int
	FailedSince time.Time

	Repeats   int       // reports: further events of this kind that this one, the latest of them, stands for
	Since     time.Time // reports: when the first of the events happened that this one stands for; zero without Repeats
	TaskCount int       // reports: for how many tasks this one stands, counted up to 65,536; 0 for one
	Tasks     []string  // reports: up to ten of their names; nil for one
	Missed    int       // subscribers: events lost before this one

	// Failed: the tasks that wait for this one to be ready (see WithDependsOn), be it by way of others. Gave up, stuck: also those
	// whose next run will, because they run or are in backoff now. They are named by their paths, the first ten in
	// alphabetical order, in a slice that is shared by all who get the event.
	Dependents     []string
	DependentCount int // of all of them
}

// cools reports whether e is of a task that was given up until its cooldown is over.
func (e *Event) cools() bool { return e.Kind == EventGaveUp && e.Delay > 0 }

// firstTime is when the first of the events happened that e stands for.
func (e *Event) firstTime() time.Time {
	if e.Repeats == 0 {
		return e.Time
	}
	return e.Since
}

// Kinds of lines that are no events: nobody but the log hears of them.
const (
	lineRestarted EventKind = -1 - iota // somebody restarts a task that has not ended
	lineRevived                         // somebody restarts one that has
	lineReplaced                        // somebody gives a task another body
)

// A logLine is what the log is told of an event, or of something that is none.
type logLine struct {
	Event
	ctx    context.Context // of its run; of several that are merged, the latest
	level  slog.Level
	whence string  // of a stop, where its cause comes from, in words, unless that says so itself
	hand   *byHand // who has asked for it, if somebody has done so by hand and the line is to say where
	was    State   // of a line of a restart: of the task before it
}

func (l *logLine) message() string {
	switch l.Kind {
	case lineRestarted:
		return "task restarted by hand"
	case lineRevived:
		return "task revived by hand"
	case lineReplaced:
		return "task replaced by hand"
	}
	if l.cools() {
		return "task gave up, pauses"
	}
	return eventKinds[l.Kind].message
}

// attrs are what the line says. The first few are what it is about and why, for a line may be longer than a screen is wide.
func (l *logLine) attrs() []slog.Attr {
	e := &l.Event
	attrs := make([]slog.Attr, 0, 12)
	if e.TaskCount > 0 {
		attrs = append(attrs, slog.Int("tasks", e.TaskCount), slog.String("names", (&nameList{e.Tasks, e.TaskCount}).String()))
	} else {
		attrs = append(attrs, slog.String("task", e.Task), slog.Uint64("run", e.Run))
	}
	if e.Repeats > 0 {
		attrs = append(attrs, slog.Int("repeats", e.Repeats), slog.Time("since", e.Since))
	}
	if e.Kind < 0 {
		attrs = append(attrs, slog.String("was", l.was.String()))
	}
	gaveUp, own := e.gaveUp()
	if gaveUp != nil {
		attrs = append(attrs, slog.String("reason", string(gaveUp.Reason)))
	} else {
		own = bodyError(e.Err, e.Cause)
	}
	if e.Cause != nil {
		cause := errorText(e.Cause)
		if l.whence != "" {
			cause = l.whence + ": " + cause
		}
		attrs = append(attrs, slog.String("cause", cause))
	}
	if e.By != "" {
		attrs = append(attrs, slog.String("by", e.By))
	}
	if caller := l.hand.caller(); caller != "" {
		attrs = append(attrs, slog.String("caller", caller))
	}
	if own != nil {
		attrs = append(attrs, slog.String("error", errorText(own)))
	}
	at, stack := stackOf(e.Err)
	if at != "" {
		attrs = append(attrs, slog.String("at", at))
	}
	if e.Kind > EventReady && e.TaskCount == 0 && (e.Uptime > 0 || e.Kind != EventStopped && e.Kind < EventPaused) {
		attrs = append(attrs, slog.Duration("uptime", roundDuration(e.Uptime)))
	}
	if e.Kind == EventRecovered && e.TaskCount == 0 {
		attrs = append(attrs, slog.Int("failures", e.Failures), slog.Time("failed_since", e.FailedSince))
	}
	restarts := e.TaskCount == 0 && (e.Kind == EventFailed || e.Kind == EventCompleted && e.Restarts > 0)
	if restarts || e.cools() {
		attrs = append(attrs, slog.Duration("restart_in", roundDuration(e.Delay)))
	}
	if restarts || gaveUp != nil && gaveUp.Reason == GaveUpLimit {
		attrs = append(attrs,
			slog.String("restarts", fmt.Sprintf("%d of %s", e.Restarts, limitText(e.MaxRestarts))),
			slog.Duration("window", e.Window))
	}
	if e.Kind == EventPassGaveUp && e.TaskCount == 0 && e.Delay > 0 {
		attrs = append(attrs, slog.Duration("next_pass_in", roundDuration(e.Delay)))
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

// gaveUp returns the Err of an EventGaveUp or EventPassGaveUp, and the last failure; otherwise nil.
func (e *Event) gaveUp() (*GiveUpError, error) {
	if gaveUp, ok := e.Err.(*GiveUpError); ok && (e.Kind == EventGaveUp || e.Kind == EventPassGaveUp) { //nolint:errorlint // the event's own
		return gaveUp, gaveUp.Err
	}
	return nil, nil
}

// bodyError is what err, of an event with that cause, has of the body: without what the other attributes of a line say already.
func bodyError(err, cause error) error {
	if !goesOn(cause) {
		return err
	}
	// Then err is the cause, joined with what the body has returned.
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if parts := joined.Unwrap(); len(parts) > 0 && parts[0] == cause { //nolint:errorlint // the cause itself
			return errors.Join(parts[1:]...)
		}
	}
	return err
}

// dependentsText names the dependents: "a, b and 3 more".
func (e *Event) dependentsText() string {
	return (&nameList{e.Dependents, e.DependentCount}).String()
}

// roundDuration leaves of d what people read: three digits below a minute, and whole seconds from there on.
func roundDuration(d time.Duration) time.Duration {
	if d >= time.Minute {
		return d.Round(time.Second)
	}
	unit := time.Duration(1)
	for d >= 1000*unit {
		unit *= 10
	}
	return d.Round(unit)
}

// limitText is a limit of restarts in words.
func limitText(limit int) string {
	if limit == Unlimited {
		return "unlimited"
	}
	return strconv.Itoa(limit)
}
