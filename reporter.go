package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// An EventKind says what has happened to a task. The zero value is EventStarted.
type EventKind int

// The kinds of events, with the level at which each is logged.
const (
	EventStarted   EventKind = iota // debug: a run begins
	EventReady                      // debug: a run has announced that it is ready
	EventFailed                     // warn: a run failed, and will be restarted
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

// An Event is something that happened to a task. Fields that don't apply to its kind are zero.
type Event struct {
	Time        time.Time
	Manager     string // see WithName
	Task        string // empty in a report that stands for events of several tasks
	Kind        EventKind
	Run         uint64        // the run that it is about, from 1; 0 if the task was stopped before its first
	Err         error         // failed, gave up, stuck, or stopped: with an error of its own, or by ErrRestarted
	Delay       time.Duration // until the next run, before the fleet-wide limit
	Restarts    int           // within Window, the coming one included
	MaxRestarts int           // that are allowed within Window; or Unlimited
	Window      time.Duration
	Uptime      time.Duration // how long that run lasted
	Repeats     int           // reports: further events of this task and kind that this one, the latest of them, stands for
	Since       time.Time     // reports: when the first of the events happened that this one stands for; zero without Repeats
	Missed      int           // subscribers: events lost before this one
}

// A Reporter hears of failures: of events of the kinds EventFailed, EventGaveUp and EventStuck.
//
// Report is called from one goroutine at a time, which is not that of a task: it may take its time,
// and may call the Manager. Meanwhile events wait. Those of the same task and kind are merged into
// the latest, and its Repeats counts the others. The same happens if they come faster than
// [WithReportLimit] allows. At most 1,024 pairs of task and kind wait; beyond that, events are
// merged by kind alone, with an empty Task.
//
// ctx has a deadline, 10 seconds after the call, and is canceled when Shutdown has no more time. It
// is not that of the task. If Report returns an error or panics, the event waits again, for a
// second at first, and longer after each further failure. After the third attempt it is given up,
// which is logged and counted in [ManagerStats]. An error with a method RetryAfter() time.Duration
// says when to try again, within an hour, and its attempt doesn't count: a service has said that it
// is called too often, say. An error that is [ErrReporterClosed] says that the Reporter will never
// deliver anything again: it is logged once, the Reporter is not called any more, and its events
// are lost until [Manager.SetReporter] replaces it.
type Reporter interface {
	// Report delivers e, or returns why it could not.
	Report(ctx context.Context, e Event) error
}

// A BatchReporter is a Reporter that takes several events at once: as parts of one message, say. A
// Manager calls its ReportBatch, and never its Report, with all events that wait: a single one, most
// often. What is said of Report holds for ReportBatch; [WithReportLimit] bounds the calls.
type BatchReporter interface {
	Reporter

	// ReportBatch delivers events from the first one on, as many as it can at once, and returns how
	// many. Without an error it delivers one at least; the others wait again, and come back with the
	// next call. An error is about all those that were not delivered. It must not keep events.
	ReportBatch(ctx context.Context, events []Event) (n int, err error)
}

// A ReporterFunc is a function as a Reporter.
type ReporterFunc func(ctx context.Context, e Event) error

// Report calls f.
func (f ReporterFunc) Report(ctx context.Context, e Event) error { return f(ctx, e) }

// MultiReporter returns a Reporter that hands each event to all of rs; nil ones are left out.
//
// A Manager to which it is given treats each of rs as if it were the only one: with a goroutine,
// limit and attempts of its own. Called by anybody else, Report calls them one after the other and
// joins their errors.
func MultiReporter(rs ...Reporter) Reporter {
	var multi multiReporter
	for _, r := range rs {
		multi = append(multi, flatten(r)...)
	}
	return multi
}

type multiReporter []Reporter

func (m multiReporter) Report(ctx context.Context, e Event) error {
	errs := make([]error, len(m))
	for i, r := range m {
		errs[i] = callReporter(ctx, r, e)
	}
	return errors.Join(errs...)
}

// flatten returns the single reporters in r.
func flatten(r Reporter) []Reporter {
	if r == nil {
		return nil
	}
	if multi, ok := r.(multiReporter); ok {
		return multi
	}
	return []Reporter{r}
}

// callReporter calls the user's code and makes a panic an error.
func callReporter(ctx context.Context, r Reporter, e Event) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(v)
		}
	}()
	return r.Report(ctx, e)
}

// deliverTo calls the user's code with the first of events, or with all if it takes batches. It
// returns how many were delivered.
func deliverTo(ctx context.Context, r Reporter, events []Event) (n int, err error) {
	batch, ok := r.(BatchReporter)
	if !ok {
		if callErr := callReporter(ctx, r, events[0]); callErr != nil {
			return 0, callErr
		}
		return 1, nil
	}
	defer func() {
		if v := recover(); v != nil {
			n, err = 0, newPanicError(v)
		}
	}()
	n, err = batch.ReportBatch(ctx, events)
	if n < 0 || n > len(events) || n == 0 && err == nil {
		return 0, errors.Join(err, fmt.Errorf("taskmanager: ReportBatch returned that %d of %d events were delivered", n, len(events)))
	}
	return n, err
}

// Subscribe returns a channel of all events from now on. It has a buffer of 256; of a subscriber
// that is slower than that the oldest events are lost, and the Missed of the next one counts them.
// The channel is closed when ctx is done. A nil ctx is never done.
func (m *Manager) Subscribe(ctx context.Context) <-chan Event {
	const buffer = 256
	s := &subscriber{events: make(chan Event, buffer)}
	l := &m.listeners
	l.mu.Lock()
	l.setSubscribersLocked(append(l.subscribersCopy(), s))
	l.mu.Unlock()
	if ctx != nil {
		context.AfterFunc(ctx, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			var others []*subscriber
			for _, other := range l.subscribersCopy() {
				if other != s {
					others = append(others, other)
				}
			}
			l.setSubscribersLocked(others)
			s.close()
		})
	}
	return s.events
}

// A subscriber is one call of Subscribe.
type subscriber struct {
	mu     sync.Mutex // makes publishers take turns; nothing blocks while it is held
	events chan Event
	missed int
	closed bool
}

func (s *subscriber) publish(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for {
		e.Missed = s.missed
		select {
		case s.events <- e:
			s.missed = 0
			return
		default:
		}
		select {
		case oldest := <-s.events:
			s.missed += 1 + oldest.Missed
		default: // the subscriber was faster
		}
	}
}

func (s *subscriber) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	close(s.events)
}
