package taskmanager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
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

	// ErrTaskNotRunning is returned when a task is to be stopped that has ended already, and by WaitReady of one that was stopped.
	ErrTaskNotRunning = errors.New("taskmanager: task is not running")

	// ErrTaskNotPaused is returned when a task is to be resumed that is not paused, or not yet.
	ErrTaskNotPaused = errors.New("taskmanager: task is not paused")

	// ErrManagerClosed is returned by StartTask, ReplaceTask, Reconcile, Task.Restart, Run, and
	// RestartTask of a name that is known, after Shutdown, when Run ends, or after the end of the context that was given to
	// [WithContext]. After the last, Run returns it if no task is left that it could wait for.
	ErrManagerClosed = errors.New("taskmanager: manager is closed")

	// ErrNoPasses is returned by TriggerTask for a task that has not begun to make passes, by [Every] or [OnSchedule].
	ErrNoPasses = errors.New("taskmanager: task makes no passes")

	// ErrTooManyRestarts is what a [*GiveUpError] is if the task used up its restarts.
	ErrTooManyRestarts = errors.New("taskmanager: too many restarts")

	// ErrCriticalCompleted is why Run has ended if a critical task has completed (see [WithCritical]): its body returned nil,
	// and nobody had asked it to.
	ErrCriticalCompleted = errors.New("taskmanager: critical task has completed")

	// ErrReporterClosed is returned by a [Reporter] that will never deliver anything again.
	ErrReporterClosed = errors.New("taskmanager: reporter is closed")

	// ErrGoexit is the failure of a run whose body called [runtime.Goexit], and why a task was given
	// up whose backoff policy, or lease, did.
	ErrGoexit = errors.New("taskmanager: body called runtime.Goexit")
)

// errPolicyGoexit is ErrGoexit, of a policy.
var errPolicyGoexit error = policyGoexitError{}

type policyGoexitError struct{}

func (policyGoexitError) Error() string        { return "taskmanager: backoff policy called runtime.Goexit" }
func (policyGoexitError) Is(target error) bool { return target == ErrGoexit }

// Causes that a body finds with [context.Cause] in a context that ended before it returned. If
// the context given to [WithContext] ended, they find its cause instead.
var (
	// ErrStopped is the cause after StopTask, StopAll or Task.Stop.
	ErrStopped = errors.New("taskmanager: task was stopped by hand")

	// ErrShutdown is the cause after Shutdown, or when Run ends.
	ErrShutdown = errors.New("taskmanager: manager is shutting down")

	// ErrRestarted is the cause after RestartTask or Task.Restart.
	ErrRestarted = errors.New("taskmanager: task was restarted by hand")

	// ErrPaused is the cause after PauseTask or Task.Pause.
	ErrPaused = errors.New("taskmanager: task was paused by hand")

	// ErrReplaced is the cause after ReplaceTask, and after Reconcile for a task whose Version has changed.
	ErrReplaced = errors.New("taskmanager: task was replaced")

	// ErrWatchdog is the cause after a missed heartbeat (see [WithWatchdog]). The run fails then,
	// with an [*OverdueError], unless the task is asked to stop, to restart or to pause before the body has
	// returned: then the run has stopped, and [Event.Err] wraps the OverdueError.
	ErrWatchdog = errors.New("taskmanager: no heartbeat in time")

	// ErrDependencyLost is what the cause wraps after the loss of a task to which this one is bound (see [WithBindTo]); its
	// text names that. The run has not failed, and another one follows.
	ErrDependencyLost = errors.New("taskmanager: dependency lost")

	// ErrLeaseLost is what the cause wraps after the loss of the lease of the task (see [WithLease]); its text says how it was lost. The
	// run has not failed, and the task waits for the lease again.
	ErrLeaseLost = errors.New("taskmanager: lease lost")

	// ErrNotReady is the cause if the body has not called Ready in time (see [WithReadiness]). The
	// run fails then, with an [*OverdueError], with the same exception.
	ErrNotReady = errors.New("taskmanager: not ready in time")

	// ErrPassTimeout is the cause in the context of a pass that takes too long (see [WithPassTimeout]). The error that such
	// a pass returns wraps it; a panic is a [*PanicError] alone.
	ErrPassTimeout = errors.New("taskmanager: pass has timed out")
)

// An OptionError says which option or argument was refused, and why. Nothing has been changed by
// the call that returns it.
type OptionError struct {
	Option string // the option's or the argument's name: "WithBackoff", "name"
	// Value is what it was given: nil for an argument that is nil. Of some options it is a text
	// instead: "nil" for nil, "func" for a function, the names, both of two values.
	Value  any
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
	for _, f := range e.frames() {
		fmt.Fprintf(&b, "%s(...)\n\t%s:%d\n", f.Function, f.File, f.Line)
	}
	return b.Bytes()
}

// StackTrace returns the same stack as program counters, for [runtime.CallersFrames]. Sentry, and others that look for a method of
// this name, find it. It is nil in a PanicError that this package did not make.
func (e *PanicError) StackTrace() []uintptr {
	pcs := e.pcs
	for len(pcs) > 0 && isOfRuntime(framesOf(pcs[:1])[0]) {
		pcs = pcs[1:]
	}
	return slices.Clone(pcs)
}

// A GiveUpReason says why a task was given up. It is the attribute "reason" of the log's line.
type GiveUpReason string

// The reasons to give up a task. Where several hold, it is the first of them.
const (
	// GaveUpLeftRunning is that of a run whose error wraps a [*StopTimeoutError] of a task whose body still executes: another run
	// would meet it.
	GaveUpLeftRunning GiveUpReason = "left running"
	// GaveUpNever is that of a failure under [RestartNever].
	GaveUpNever GiveUpReason = "never"
	// GaveUpPermanent is that of an error made by [backoff.Permanent].
	GaveUpPermanent GiveUpReason = "permanent"
	// GaveUpLimit is that of a failure which needs one restart more than [WithMaxRestarts] allows.
	GaveUpLimit GiveUpReason = "limit"
	// GaveUpPolicy is that of a policy which said backoff.Stop, panicked, called runtime.Goexit, or could not be made (see
	// [WithBackOffPolicy]).
	GaveUpPolicy GiveUpReason = "policy"
	// GaveUpLease is that of a lease whose Acquire has returned an error (see [WithLease]).
	GaveUpLease GiveUpReason = "lease"
)

// A GiveUpError is why a task has failed for good, or a pass of it has. It is ErrTooManyRestarts if the limit of
// restarts is the reason, and unwraps to the last failure.
type GiveUpError struct {
	Task     string
	Pass     bool // a pass was given up, and not the task: see EventPassGaveUp
	Reason   GiveUpReason
	Restarts int           // within Window, before this failure; 0 if the limit is not the reason
	Window   time.Duration // 0 if the limit is not the reason
	Err      error         // the last failure; nil under RestartAlways if the last run returned nil
}

func (e *GiveUpError) Error() string {
	var b strings.Builder
	what := "task"
	if e.Pass {
		what = "a pass of task"
	}
	fmt.Fprintf(&b, "taskmanager: gave up %s %q", what, e.Task)
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
//
// A body whose error wraps one says that it leaves something executing, as one does that has shut down a Manager of its own in vain,
// unless what was late has returned by the time the body does.
type StopTimeoutError struct {
	Task    string
	Timeout time.Duration // how long the stop had waited
	// Stack shows where the goroutines of the task are, those that its body started included, and
	// no others: a line "1 @ …" for each group of goroutines at the same place, the labels, and the
	// calls. It is empty if the body returned before it could be taken.
	Stack []byte

	run *run // that had not ended; nil if this package has not made the error
}

// leavesRunning reports whether the body has not returned yet, as far as can be known.
func (e *StopTimeoutError) leavesRunning() bool {
	if e == nil || e.run == nil {
		return true
	}
	t := e.run.task
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.run == e.run
}

func (e *StopTimeoutError) Error() string {
	text := fmt.Sprintf("taskmanager: task %q did not stop within %v", e.Task, roundDuration(e.Timeout))
	if bytes.Contains(e.Stack, []byte("/taskmanager.(*Manager).stopTasks+")) {
		text += ": its body waits for a stop of others, without the body's context"
	}
	return text
}

// A lossError is ErrDependencyLost, and says by whose loss; or ErrLeaseLost, and says by the loss of which lease.
type lossError struct {
	task, on string
	lease    bool
	expired  bool // its time is over, and not: the engine says that it is gone
}

func (e *lossError) Error() string {
	switch {
	case !e.lease:
		return fmt.Sprintf("taskmanager: task %q was bound to task %q, which was lost", e.task, e.on)
	case e.expired:
		return fmt.Sprintf("taskmanager: task %q has lost lease %q: it was not confirmed in time", e.task, e.on)
	}
	return fmt.Sprintf("taskmanager: task %q has lost lease %q: the engine has ended it", e.task, e.on)
}

func (e *lossError) Unwrap() error {
	if e.lease {
		return ErrLeaseLost
	}
	return ErrDependencyLost
}

// An acquireError is why the lease of that name can't be acquired.
type acquireError struct {
	lease string
	err   error
}

func (e *acquireError) Error() string {
	if e.err == ErrGoexit { //nolint:errorlint // the error itself
		return fmt.Sprintf("taskmanager: lease %q: Acquire called runtime.Goexit", e.lease)
	}
	return fmt.Sprintf("taskmanager: lease %q: %v", e.lease, e.err)
}

func (e *acquireError) Unwrap() error { return e.err }

// goesOn reports whether a task goes on whose run has ended for that cause.
func goesOn(cause error) bool {
	_, lost := cause.(*lossError)                                //nolint:errorlint // the cause itself
	return lost || cause == ErrRestarted || cause == ErrReplaced //nolint:errorlint // likewise
}

// A criticalCompletedError is ErrCriticalCompleted, of the task of that name.
type criticalCompletedError struct{ task string }

func (e *criticalCompletedError) Error() string {
	return fmt.Sprintf("taskmanager: critical task %q has completed", e.task)
}

func (e *criticalCompletedError) Unwrap() error { return ErrCriticalCompleted }

// errorText is err.Error(), also if that panics.
func errorText(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("%T, whose Error method panicked", err)
		}
	}()
	if isEndless(err) {
		return fmt.Sprintf("a %T, which wraps itself", err) // its Error method may use up the stack
	}
	return err.Error()
}

// valueText formats a panic's value. The methods of an error are guarded by errorText, those of
// anything else by package fmt. A value that contains itself, for which fmt would use up the stack, or whose text would be
// endless for other reasons, is told by its type.
func valueText(v any) string {
	if err, ok := v.(error); ok {
		return errorText(err)
	}
	const deepest, largest = 20, 10_000
	left := largest
	if _, ok := v.(fmt.Stringer); !ok && !isPrintable(reflect.ValueOf(v), deepest, &left) {
		return fmt.Sprintf("a %T, which is too deep or too large to print", v)
	}
	return fmt.Sprint(v)
}

// isPrintable reports whether package fmt would have to follow no more than depth references in a row to print v, and to
// look at no more than *left values, of which it takes away those that it has looked at.
func isPrintable(v reflect.Value, depth int, left *int) bool {
	*left--
	if depth < 0 || *left < 0 {
		return false
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		return v.IsNil() || isPrintable(v.Elem(), depth-1, left)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() <= reflect.Complex128 {
			return true // numbers: as large as they are
		}
		for i := range v.Len() {
			if !isPrintable(v.Index(i), depth-1, left) {
				return false
			}
		}
	case reflect.Map:
		for i := v.MapRange(); i.Next(); {
			if !isPrintable(i.Key(), depth-1, left) || !isPrintable(i.Value(), depth-1, left) {
				return false
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if !isPrintable(v.Field(i), depth-1, left) {
				return false
			}
		}
	}
	return true
}

// An answer is what can be known of an error without calling its methods, which may be the user's and do anything. Of two
// answers about parts of an error the larger one holds for the whole.
type answer int

const (
	no      answer = iota
	unknown        // its methods would have to be asked
	yes
)

// mostErrors is how many errors are looked at that one wraps, directly or not: more than any StopAll joins. One that has more wraps
// itself.
const mostErrors = 100_000

// inner returns what err wraps: one error, or several, or nothing. It returns false if that takes user code to know, or if err is
// a nil pointer, whose methods may panic. Types of the standard library and ours are asked.
func inner(err error) (known bool, several []error, one error) {
	switch e := err.(type) { //nolint:errorlint // one step of a walk
	case *PanicError:
		if e != nil {
			return true, nil, e.Unwrap()
		}
	case *OverdueError:
		if e != nil {
			return true, nil, e.Err
		}
	case *GiveUpError:
		if e != nil {
			return true, nil, e.Err
		}
	case *endedError:
		return true, nil, e.err
	case *criticalCompletedError:
		return true, nil, ErrCriticalCompleted
	case *lossError:
		return true, nil, e.Unwrap()
	case *acquireError:
		return true, nil, e.err
	case *backoff.PermanentError:
		if e != nil {
			return true, nil, e.Err
		}
	case interface{ Unwrap() error }:
		if isStandardType(err) {
			return true, nil, e.Unwrap()
		}
	case interface{ Unwrap() []error }:
		if isStandardType(err) {
			return true, e.Unwrap(), nil
		}
	case interface{ Is(error) bool }, interface{ As(any) bool }:
		return isStandardType(err), nil, nil
	default:
		return true, nil, nil
	}
	return false, nil, nil
}

// isStandardType reports whether err is of one of those packages of the standard library whose errors wrap others, and not a nil
// pointer.
func isStandardType(err error) bool {
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		if reflect.ValueOf(err).IsNil() {
			return false
		}
		t = t.Elem()
	}
	switch t.PkgPath() {
	case "errors", "fmt", "context", "io/fs", "net", "net/url", "os", "os/exec", "strconv", "syscall":
		return true
	}
	return false
}

// classify says of the error of a run whether it forbids a restart: the body said so with backoff.Permanent, or something that
// it had started still executes and would meet its own second instance; and whether it is the latter, leaves. Of one that asks for time
// the former is unknown if it is not yes: then its methods are asked.
func classify(err error) (permanent, leaves answer) {
	left := mostErrors
	return classifyFirst(&left, err)
}

// plainType is that of most errors at the end of a chain: they have no methods to look for.
var plainType = reflect.TypeOf(errors.New(""))

// classifyFirst is classify for the first so many errors.
func classifyFirst(left *int, err error) (permanent, leaves answer) {
	for err != nil {
		if *left--; *left < 0 || reflect.TypeOf(err) == plainType {
			return permanent, leaves
		}
		switch err := err.(type) { //nolint:errorlint // one step of a walk
		case *StopTimeoutError:
			if err.leavesRunning() {
				return yes, yes
			}
		case *backoff.PermanentError:
			permanent = yes
		case retryAfterer:
			permanent = max(permanent, unknown) // its method has to be asked, as those are that say so
		}
		known, several, one := inner(err)
		if !known {
			permanent, leaves = max(permanent, unknown), max(leaves, unknown)
		}
		for _, w := range several {
			p, l := classifyFirst(left, w)
			permanent, leaves = max(permanent, p), max(leaves, l)
		}
		err = one
	}
	return permanent, leaves
}

// includes reports whether err is target, or wraps it, as far as can be known.
func includes(err, target error) bool {
	left := mostErrors
	return includesFirst(&left, err, target)
}

// includesFirst is includes for the first so many errors.
func includesFirst(left *int, err, target error) bool {
	for err != nil {
		if *left--; *left < 0 {
			return false
		}
		if isSame(err, target) {
			return true
		}
		_, several, one := inner(err)
		if slices.ContainsFunc(several, func(w error) bool { return includesFirst(left, w, target) }) {
			return true
		}
		err = one
	}
	return false
}

// isEndless reports whether err wraps itself, as far as can be known: who follows it does not come to an end.
func isEndless(err error) bool {
	left := mostErrors
	classifyFirst(&left, err)
	return left < 0
}

// isPermanentByMethods reports whether err forbids a restart, if that is otherwise unknown; and whether it does so because
// something still executes, leaves. It calls user code.
func isPermanentByMethods(err error) (permanent, leaves bool) {
	defer func() { _ = recover() }()
	if leavesRunningByMethods(err) { // first, and by itself: the next run would meet what still executes, whatever else err says
		return true, true
	}
	var made *backoff.PermanentError
	return errors.As(err, &made), false
}

// A retryAfterer is an error that says when to try again.
type retryAfterer interface{ RetryAfter() time.Duration }

// retryAfter returns how long not to try again, an hour at most, if err says so. It calls user code.
func retryAfter(err error) (d time.Duration, ok bool) {
	defer func() { _ = recover() }()
	var asks retryAfterer
	if errors.As(err, &asks) {
		d = min(asks.RetryAfter(), time.Hour)
	}
	return d, d > 0
}

// leavesRunningByMethods reports whether err says that something still executes, if that is otherwise unknown. It calls user
// code.
func leavesRunningByMethods(err error) bool {
	defer func() { _ = recover() }()
	return wrapsLeftRunning(err)
}

// wrapsLeftRunning is as errors.As, but that it goes on after a StopTimeoutError of a body that has returned since.
func wrapsLeftRunning(err error) bool {
	for err != nil {
		var stuck *StopTimeoutError
		is, ok := err.(*StopTimeoutError) //nolint:errorlint // one step of a walk
		if !ok {
			if as, can := err.(interface{ As(target any) bool }); can && as.As(&stuck) {
				is, ok = stuck, true
			}
		}
		if ok && is.leavesRunning() {
			return true
		}
		switch w := err.(type) { //nolint:errorlint // likewise
		case interface{ Unwrap() error }:
			err = w.Unwrap()
		case interface{ Unwrap() []error }:
			return slices.ContainsFunc(w.Unwrap(), wrapsLeftRunning)
		default:
			return false
		}
	}
	return false
}

// besideCause returns err if it says more than that the context has ended which ended for cause, and otherwise nil. It calls
// no user code: an error of which it can't be known says more.
func besideCause(err, cause error) error {
	left := mostErrors
	if err == nil || isOnly(&left, err, cause, inner) {
		return nil
	}
	return err
}

// isOwnError reports whether err says more than that the context has ended which ended for cause. Unlike besideCause it asks the
// methods of an error of which that can't be known.
func isOwnError(err, cause error) (own bool) {
	if err == nil {
		return false
	}
	defer func() {
		if recover() != nil {
			own = true
		}
	}()
	left := mostErrors
	return !isOnly(&left, err, cause, innerByMethods)
}

// innerByMethods is inner, and calls user code to know. An error that has no method for that wraps nothing.
func innerByMethods(err error) (known bool, several []error, one error) {
	if known, several, one = inner(err); known {
		return true, several, one
	}
	switch e := err.(type) { //nolint:errorlint // one step of a walk
	case interface{ Unwrap() error }:
		return true, nil, e.Unwrap()
	case interface{ Unwrap() []error }:
		return true, e.Unwrap(), nil
	}
	return true, nil, nil
}

// An endedError is what a body has returned whose context has ended with a cause after which a task goes on, and whose task has stopped
// for good all the same. It is everything that err is, but not ErrRestarted, ErrReplaced, ErrDependencyLost and ErrLeaseLost, by which an event
// says that the task goes on.
type endedError struct{ err error }

func (e *endedError) Error() string { return e.err.Error() }

// Is is as if err was wrapped.
func (e *endedError) Is(target error) bool {
	return target != ErrRestarted && target != ErrReplaced && target != ErrDependencyLost && target != ErrLeaseLost && errors.Is(e.err, target)
}

// As is as if err was wrapped.
func (e *endedError) As(target any) bool { return errors.As(e.err, target) }

// isOnly reports whether err is context.Canceled or cause, or wraps nothing else, by the first so many errors. inside is inner, or
// innerByMethods.
func isOnly(left *int, err, cause error, inside func(error) (bool, []error, error)) bool {
	if *left--; *left < 0 {
		return false
	}
	if isSame(err, context.Canceled) || isSame(err, cause) {
		return true
	}
	if _, ok := err.(*backoff.PermanentError); ok { //nolint:errorlint // one step of a walk
		return false
	}
	known, several, one := inside(err)
	if !known {
		return false
	}
	if one == nil && len(several) == 0 {
		is, ok := err.(interface{ Is(error) bool }) // as package net has it: "operation was canceled"
		return ok && isStandardType(err) && (is.Is(context.Canceled) || is.Is(cause))
	}
	for _, w := range several {
		if w == nil || !isOnly(left, w, cause, inside) {
			return false
		}
	}
	return one == nil || isOnly(left, one, cause, inside)
}

// isSame is a == b. Values of a type that can't be compared are not the same.
func isSame(a, b error) bool {
	t := reflect.TypeOf(a)
	if t != reflect.TypeOf(b) {
		return false
	}
	if t.Kind() == reflect.Pointer { // as most are: for others more has to be asked, with the Manager's mu held
		return a == b //nolint:errorlint // one step of a walk
	}
	return t.Comparable() && reflect.ValueOf(a).Comparable() && a == b //nolint:errorlint // likewise
}
