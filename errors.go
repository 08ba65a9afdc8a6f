package taskmanager

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Errors of the operations on tasks. They come wrapped, with the task's name; tell them apart with
// [errors.Is].
var (
	// ErrTaskRunning is returned by StartTask if the name is taken by a task that has not ended. A
	// stuck task has not ended.
	ErrTaskRunning = errors.New("taskmanager: task is already running")

	// ErrTaskNotFound is returned for a name that was never started, or whose task has ended and
	// been forgotten (see [WithHistory]).
	ErrTaskNotFound = errors.New("taskmanager: task not found")

	// ErrTaskNotRunning is returned when a task is to be stopped that has ended already.
	ErrTaskNotRunning = errors.New("taskmanager: task is not running")

	// ErrManagerClosed is returned for what can't be served after Shutdown, or after the end of the
	// context that was given to [WithContext].
	ErrManagerClosed = errors.New("taskmanager: manager is closed")

	// ErrTooManyRestarts is what a [*GiveUpError] is if the task used up its restarts.
	ErrTooManyRestarts = errors.New("taskmanager: too many restarts")

	// ErrReporterClosed is returned by a [Reporter] that will never deliver anything again.
	ErrReporterClosed = errors.New("taskmanager: reporter is closed")

	// ErrGoexit is the failure of a run whose body called [runtime.Goexit].
	ErrGoexit = errors.New("taskmanager: body called runtime.Goexit")
)

// Causes that a body finds with [context.Cause] in a context that ended before it returned. If
// the context given to [WithContext] ended, they find its cause instead.
var (
	// ErrStopped is the cause after StopTask, StopAll or Task.Stop.
	ErrStopped = errors.New("taskmanager: task was stopped")

	// ErrShutdown is the cause after Shutdown, or when Run ends.
	ErrShutdown = errors.New("taskmanager: manager is shutting down")

	// ErrRestarted is the cause after RestartTask or Task.Restart.
	ErrRestarted = errors.New("taskmanager: task was restarted by hand")

	// ErrWatchdog is the cause after a missed heartbeat (see [WithWatchdog]). The run has failed
	// then, with an [*OverdueError].
	ErrWatchdog = errors.New("taskmanager: no heartbeat in time")

	// ErrNotReady is the cause if the body has not called Ready in time (see [WithReadiness]). The
	// run has failed then, with an [*OverdueError].
	ErrNotReady = errors.New("taskmanager: not ready in time")
)

// An OptionError says which option or argument was refused, and why. Nothing has been changed by
// the call that returns it.
type OptionError struct {
	Option string // the option's or the argument's name: "WithBackoff", "name"
	Value  any    // what it was given; the text of both for an option with two arguments
	Reason string
}

func (e *OptionError) Error() string {
	value := fmt.Sprint(e.Value)
	if s, ok := e.Value.(string); ok && (!e.isOption() || e.Option == "WithName") {
		// A name that was refused may be long, or unfit to print.
		const most = 80
		value = strconv.Quote(s[:min(len(s), most)])
		if len(s) > most {
			value += fmt.Sprintf(" and %d bytes more", len(s)-most)
		}
	}
	if e.isOption() {
		return fmt.Sprintf("taskmanager: %s(%s): %s", e.Option, value, e.Reason)
	}
	return fmt.Sprintf("taskmanager: %s %s: %s", e.Option, value, e.Reason)
}

func (e *OptionError) isOption() bool { return strings.HasPrefix(e.Option, "With") }

// A PanicError is the failure of a run whose body panicked.
type PanicError struct {
	Value any // what was given to panic

	pcs  []uintptr  // taken when it happened, made into text when somebody asks
	room [8]uintptr // for pcs, if the stack is not deep
}

// newPanicError is called by the deferred function that recovered value.
func newPanicError(value any) *PanicError {
	var pcs [64]uintptr
	const skip = 3 // runtime.Callers, newPanicError, the deferred function
	n := runtime.Callers(skip, pcs[:])
	e := &PanicError{Value: value}
	e.pcs = append(e.room[:0], pcs[:n]...)
	return e
}

func (e *PanicError) Error() string {
	return "taskmanager: panic: " + valueText(e.Value)
}

// Unwrap returns the panic's value if that is an error, and otherwise nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Stack returns the stack of the goroutine that panicked, from the call of panic downwards, at most
// 64 calls of it: a line for each function and an indented one for its place in the source, as
// [runtime/debug.Stack] writes them. It is nil in a PanicError that this package did not make.
func (e *PanicError) Stack() []byte {
	if len(e.pcs) == 0 {
		return nil
	}
	var b bytes.Buffer
	frames := runtime.CallersFrames(e.pcs)
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if b.Len() == 0 && strings.HasPrefix(f.Function, "runtime.") {
			continue // how the runtime panics
		}
		fmt.Fprintf(&b, "%s(...)\n\t%s:%d\n", f.Function, f.File, f.Line)
	}
	return b.Bytes()
}

// A GiveUpError is why a task has failed for good. It is ErrTooManyRestarts if the limit of
// restarts is the reason, and unwraps to the last failure.
type GiveUpError struct {
	Task     string
	Restarts int           // within Window, before this failure; 0 if the limit is not the reason
	Window   time.Duration // 0 if the limit is not the reason
	Err      error         // the last failure; nil under RestartAlways if the last run returned nil
}

func (e *GiveUpError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "taskmanager: gave up task %q", e.Task)
	if e.Window > 0 {
		restarts := "restarts"
		if e.Restarts == 1 {
			restarts = "restart"
		}
		fmt.Fprintf(&b, " after %d %s within %v", e.Restarts, restarts, e.Window)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(errorText(e.Err))
	}
	return b.String()
}

// Is reports whether target is ErrTooManyRestarts and the limit of restarts is why the task was
// given up.
func (e *GiveUpError) Is(target error) bool {
	return target == ErrTooManyRestarts && e.Window > 0
}

// Unwrap returns the last failure.
func (e *GiveUpError) Unwrap() error { return e.Err }

// A StopTimeoutError says that a task was asked to stop and its body had not returned by the
// deadline. Go cannot end a goroutine from outside: the body still runs, and its name stays taken.
type StopTimeoutError struct {
	Task    string
	Timeout time.Duration // how long the stop had waited
	// Stack shows where the goroutines of the task are, those that its body started included, and
	// no others: a line "1 @ …" for each group of goroutines at the same place, the labels, and the
	// calls. It is empty if the body returned before it could be taken.
	Stack []byte
}

func (e *StopTimeoutError) Error() string {
	return fmt.Sprintf("taskmanager: task %q did not stop within %v", e.Task, e.Timeout)
}

// errorText is err.Error(), also if that panics.
func errorText(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("%T, whose Error method panicked", err)
		}
	}()
	return err.Error()
}

// valueText formats a panic's value. The methods of an error are guarded by errorText, those of
// anything else by package fmt.
func valueText(v any) string {
	if err, ok := v.(error); ok {
		return errorText(err)
	}
	return fmt.Sprint(v)
}

// isFinal reports whether err forbids a restart: the body said so with backoff.Permanent, or
// something that it had started is still running and would meet its own second instance.
func isFinal(err error) (final bool) {
	defer func() { _ = recover() }() // err's own As and Unwrap methods may panic
	// Most errors wrap nothing: for them this is all, and allocates nothing.
	if p, ok := err.(*PanicError); ok { //nolint:errorlint // only the outermost
		err = p.Unwrap()
	}
	switch err.(type) { //nolint:errorlint // what wraps others is looked at below
	case nil:
		return false
	case *backoff.PermanentError, *StopTimeoutError:
		return true
	case interface{ Unwrap() error }, interface{ Unwrap() []error }, interface{ As(any) bool }:
	default:
		return false
	}
	var (
		permanent *backoff.PermanentError
		stuck     *StopTimeoutError
	)
	return errors.As(err, &permanent) || errors.As(err, &stuck)
}

// leavesRunning reports whether err says that something below the run is still running.
func leavesRunning(err error) bool {
	defer func() { _ = recover() }() // as in isFinal
	var stuck *StopTimeoutError
	return errors.As(err, &stuck)
}

// isOwn reports whether err says more than that the run's context has ended.
func isOwn(err, cause error) (own bool) {
	defer func() {
		if recover() != nil {
			own = true
		}
	}()
	return err != nil && !isContextError(err) && !errors.Is(err, cause)
}

// stackOf returns the stack that err carries: of a panic, or of a task that is overdue or stuck.
func stackOf(err error) (stack []byte) {
	defer func() { _ = recover() }() // err's own As and Unwrap methods may panic
	var (
		panicked *PanicError
		overdue  *OverdueError
		stuck    *StopTimeoutError
	)
	switch {
	case errors.As(err, &overdue):
		return overdue.Stack
	case errors.As(err, &panicked):
		return panicked.Stack()
	case errors.As(err, &stuck):
		return stuck.Stack
	}
	return nil
}
