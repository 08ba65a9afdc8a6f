package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// A Reporter hears of failures, and of their end: of events of the kinds EventFailed, EventGaveUp, EventPassGaveUp and EventStuck, and of
// EventRecovered.
//
// Report is called from one goroutine at a time, which is not that of a task: it may take its time,
// and may call the Manager. So it is, too, if the Reporter is set again, alone or in a [MultiReporter], and by the runs of a
// [Group], one after the other. One that several Managers have is called by each of them, which is its own to see to.
//
// Meanwhile events wait. Those of the same task and kind are merged into the latest, and its Repeats counts the others. The same
// happens if they come faster than [WithReportLimit] allows. Where events of one kind wait for more than five tasks,
// those that have the same error are merged: such an event has a TaskCount, and some of their names in Tasks. If more than 16 remain of a
// kind, all but the oldest are merged whatever their errors are. At most 10,000 pairs of task and kind wait; beyond that,
// events are merged by kind alone. What happened first is told first; a failure after a recovery is not merged with one before it, until the
// task has recovered again. Of a task that fails and recovers faster than it is told, failures and recoveries come in turn, up to four
// reports of that task alone and four of several tasks at a time.
//
// ctx has a deadline, 10 seconds after the call, and is canceled when Shutdown has no more time. It
// has the values of the context given to [WithContext], and is not that of a task: in a [Group], it
// is that of the Manager around all groups.
//
// If Report returns an error or panics, the event waits again, until it has been taken: for a second at first, and longer after each
// further failure, up to half a minute. After three failures of one event others are tried in turn with it, for it may be this one that
// can't be taken; if that is so, it waits behind the others. Each failure is logged. Only Shutdown gives up, at
// the end of its time, which is logged and counted in [ManagerStats]. Three kinds of errors say more:
//
//   - One with a method RetryAfter() time.Duration that returns a positive time says when to try again, within an hour, and no sooner than
//     a tenth of a second: a service has said that it is called too often, say. Shutdown gives it that time if it has it, and otherwise
//     gives up the events that wait.
//   - One made by [backoff.Permanent] says that this event will never be taken: it is lost, counted and logged. If it is about several, in a
//     [BatchReporter], each of them is tried alone.
//   - One that is [ErrReporterClosed] says that the Reporter will never deliver anything again: it is logged once, the Reporter
//     is not called any more, and its events are lost until [Manager.SetReporter] replaces it, or sets it again.
//
// The methods of the error are part of the call: the next one is not made before they have returned. To find out what is the same,
// Error of the events' errors is called, by a goroutine of its own, for which no report waits longer than a tenth of a second.
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
	// next call. An error is about all those that were not delivered. After five failures in a row events come one by one, until it is
	// known which of them can't be taken: that one comes alone from then on. It must not keep events.
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

// A callResult is what is known of how a call of a Reporter has ended.
type callResult struct {
	delivered  int    // of the events that it was given, the first so many
	failed     bool   // it has returned an error, has panicked or has called runtime.Goexit
	text       string // of the error
	closed     bool   // the error says that the Reporter is closed
	refused    bool   // the error says that what was not delivered is never to be tried again
	asked      bool   // the error says how long the Reporter wants to be left alone:
	retryAfter time.Duration
}

// call calls the Reporter, and asks its error what has to be known of it. All of that is the user's
// code, which may not return, and may call runtime.Goexit: c says at any time what is known by then.
func (c *callResult) call(ctx context.Context, r Reporter, events []Event) {
	*c = callResult{failed: true, text: ErrGoexit.Error()}
	var err error
	c.delivered, err = deliverTo(ctx, r, events)
	if err == nil {
		c.failed, c.text = false, ""
		return
	}
	c.closed = isClosed(err)
	c.refused = !c.closed && isPermanent(err)
	c.retryAfter, c.asked = retryAfter(err)
	c.text = errorText(err)
}

// isPermanent reports whether err was made by backoff.Permanent, or wraps such an error.
func isPermanent(err error) bool {
	defer func() { _ = recover() }() // err's own As and Unwrap methods may panic
	var permanent *backoff.PermanentError
	return errors.As(err, &permanent)
}

// isClosed reports whether err says that the Reporter is closed.
func isClosed(err error) bool {
	defer func() { _ = recover() }() // err's own Is and Unwrap methods may panic
	return errors.Is(err, ErrReporterClosed)
}

// sameReporter reports whether a and b are one and the same. Functions can't be compared, nor can
// structs with a slice, say: for them it is the identity of the value that counts, which for a
// function is its closure.
func sameReporter(a, b Reporter) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	return identical(va, vb) || va.Comparable() && vb.Comparable() && a == b
}

// identical is ==, which for values of package reflect tells whether they are at the same place.
func identical[T comparable](a, b T) bool { return a == b }
