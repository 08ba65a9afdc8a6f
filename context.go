package taskmanager

import (
	"context"
	"fmt"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"github.com/go-taskmanager/taskmanager/internal/goroutines"
)

// A run is one execution of a task's body, and the context that the body is given. The context ends
// when somebody asks for the end of the run, and at the latest when the body has returned: nothing
// that was started with it lives on into the next run.
//
// To its users it is what context.WithCancelCause(context.WithoutCancel(parent)) returns, for the
// parent given to [WithContext]. It has the parent's values, and not its end: the task is asked to
// stop when the parent ends, but in its turn, after those that depend on it. So it has no deadline
// either, for package context would leave it to the parent's to end a child whose own is later; but while
// it drains, when that is right.
//
// Such a context, the inner one, is made when Done is called first. Who asks in the name of package
// context gets the inner one, whose channel is that of Done, so that a cancellable child is attached
// to it and needs no goroutine, whatever lies between. A run whose body never calls Done takes one
// allocation instead of four, and the memory of the first run of all is part of the Task.
type run struct {
	task    *Task
	started time.Time // never changes

	lowNumber uint32 // the lower half of number; never changes

	// flags are a sum. Those of the stage tell what the two fields after it hold. All three change with the task's mu held, the
	// stage last: whoever has loaded it may read them without mu.
	flags  atomic.Uint32
	cancel context.CancelCauseFunc // of the inner context
	// inner is the inner context, or the cause of the end of a run that has none. One field for both
	// keeps the Task small.
	inner any
}

// The flags of a run.
const (
	endedFlag     uint32 = 1 << iota // its context has ended before there was an inner one
	innerFlag                        // there is an inner context
	readyCall                        // Ready has been called without WithReadiness, be it in an earlier run, and the log has been warned of it
	heartbeatCall                    // likewise, Heartbeat without WithWatchdog

	stopContextMade // StopContext has been called
	logContextSet   // there is, or was, a rareFields.logContext
)

// The stages of a run's context. It gets from the first to either of the others, and from the second
// to the last, in which it stays: the inner context then says whether it has ended.
const (
	withoutInner      = 0         // it has not ended, and nobody has called Done
	endedWithoutInner = endedFlag // it has ended, and nobody has called Done
	withInner         = innerFlag // the inner context answers
)

func (r *run) stage() uint32 {
	if flags := r.flags.Load(); flags&innerFlag == 0 {
		return flags & endedFlag
	}
	return withInner
}

// number is that of the run, in its life. Its upper half is that of the latest run, or one less: no context is in use for as many runs
// as the lower half can count.
func (r *run) number() uint64 {
	r.task.mu.Lock()
	latest := r.task.runNumberLocked()
	r.task.mu.Unlock()
	const half = 1 << 32
	number := latest&^(half-1) | uint64(r.lowNumber)
	if number > latest && number >= half {
		number -= half
	}
	return number
}

// An outcome is how a run has ended by itself.
type outcome struct {
	returned bool // and neither panicked nor called runtime.Goexit
	panicked bool
	err      error
}

// runKey is the key under which a run's context finds the run.
type runKey struct{}

// execute calls the body and notes how it ended. It doesn't return if the body calls
// runtime.Goexit; the outcome is noted then, too.
func (r *run) execute(o *outcome) {
	defer func() {
		if o.returned {
			return
		}
		if v := recover(); v != nil {
			o.err, o.panicked = newPanicError(v), true
		} else {
			o.err = ErrGoexit
		}
	}()
	o.err = r.task.body(r)
	o.returned = true
}

// end ends the context, unless it has ended before. It calls no user code: the children that package
// context ends here are its own.
func (r *run) end(cause error) {
	r.task.mu.Lock()
	inner := r.endLocked(cause)
	r.task.mu.Unlock()
	if inner { // without the task's mu, which package context may want, by way of ours
		r.cancel(orCanceled(cause))
	}
}

// isUnderWay reports whether the body has not returned.
func (r *run) isUnderWay() bool {
	r.task.mu.Lock()
	defer r.task.mu.Unlock()
	return r.task.run == r
}

// endLocked is end for a context that has no inner one. Otherwise it does nothing, and returns true: end must follow.
func (r *run) endLocked(cause error) (inner bool) {
	if r.stage() == withoutInner {
		r.inner = orCanceled(cause)
		r.flags.Or(endedFlag)
	}
	return r.cancel != nil
}

// orCanceled is the cause of what ends without one, as package context has it.
func orCanceled(cause error) error {
	if cause == nil {
		return context.Canceled
	}
	return cause
}

// innerContext returns the inner context, and makes it before its first use.
func (r *run) innerContext() context.Context {
	if r.stage() != withInner {
		r.makeInner()
	}
	return r.inner.(context.Context)
}

func (r *run) makeInner() {
	r.task.mu.Lock()
	defer r.task.mu.Unlock()
	stage := r.stage()
	if stage == withInner {
		return
	}
	inner, cancel := context.WithCancelCause((*taskContext)(r.task))
	if stage == endedWithoutInner {
		cancel(r.inner.(error))
	}
	r.inner, r.cancel = inner, cancel
	r.flags.Or(innerFlag)
}

// Deadline implements context.Context: there is none, but while the run drains.
func (r *run) Deadline() (deadline time.Time, ok bool) {
	if r.task.config().drain == 0 {
		return
	}
	return r.drainsUntil()
}

// Done implements context.Context.
func (r *run) Done() <-chan struct{} { return r.innerContext().Done() }

// Err implements context.Context.
func (r *run) Err() error {
	if r.task.config().lease != nil {
		r.checkLease()
	}
	switch r.stage() {
	case withoutInner:
		return nil
	case endedWithoutInner:
		return context.Canceled
	default:
		return r.innerContext().Err()
	}
}

// cause is what context.Cause returns, and makes no inner context for that.
func (r *run) cause() error {
	if r.stage() != withInner {
		r.task.mu.Lock()
		stage, inner := r.stage(), r.inner
		r.task.mu.Unlock()
		switch stage {
		case withoutInner:
			return nil
		case endedWithoutInner:
			return inner.(error)
		}
	}
	return context.Cause(r.innerContext())
}

// Value implements context.Context. For keys that are not ours it calls the method of the parent
// given to [WithContext], on the goroutine of whoever asks.
func (r *run) Value(key any) any {
	switch key {
	case runKey{}, watchedRunKey{}: // it is not watched, and one of a task around the Manager is not asked
		return r
	case askedByKey{}, acquireKey{}: // nor is that for whom the Manager was made
		return nil
	}
	if r.stage() == withoutInner {
		return (*taskContext)(r.task).Value(key)
	}
	return r.innerContext().Value(key)
}

// isOurs says to isStandard that no method of the user's is called but Value.
func (*run) isOurs() {}

// String says what it is when a context is printed, as those of package context do.
func (r *run) String() string { return "taskmanager.Task(" + r.task.name + ")" }

// A taskContext is a Task as the context from which those of its runs derive: the values of the
// parent given to [WithContext], without its end, and the task's labels. One made by pprof.WithLabels
// would be 48 bytes for each task.
type taskContext Task

// Deadline implements context.Context: there is none.
func (*taskContext) Deadline() (deadline time.Time, ok bool) { return }

// Done implements context.Context: it is never done.
func (*taskContext) Done() <-chan struct{} { return nil }

// Err implements context.Context.
func (*taskContext) Err() error { return nil }

// Value implements context.Context.
func (c *taskContext) Value(key any) any {
	if key == labelsKey {
		return c.labels
	}
	return (*Task)(c).config().manager.values.Value(key)
}

// labelsKey is the key under which package pprof finds labels in a context.
var labelsKey = func() any {
	var f keyFinder
	pprof.Label(&f, goroutines.TaskLabel)
	return f.key
}()

// A keyFinder is a context that notes what it is asked for.
type keyFinder struct {
	context.Context
	key any
}

// Value implements context.Context.
func (f *keyFinder) Value(key any) any {
	f.key = key
	return nil
}

// FromContext returns the task whose body, or [Lease], was given ctx, or a context that ctx derives from.
// Without one it returns false; so it does for a nil ctx.
func FromContext(ctx context.Context) (*Task, bool) {
	if r := runOf(ctx); r != nil {
		return r.task, true
	}
	if ctx == nil {
		return nil, false
	}
	t, ok := ctx.Value(acquireKey{}).(*Task)
	return t, ok
}

// SetStatus sets the status of the task whose body was given ctx: a line for people, as in
// [fmt.Sprintf], which shows in [TaskStats]. The next run starts with an empty one. It does nothing
// for a run that is over, and for any other context, nil included.
func SetStatus(ctx context.Context, format string, args ...any) {
	r := runOf(ctx)
	if r == nil {
		return
	}
	status := fmt.Sprintf(format, args...)
	t := r.task
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.run == r {
		t.lazyLocked().status = status
	}
}

func runOf(ctx context.Context) *run {
	if ctx == nil {
		return nil
	}
	r, _ := ctx.Value(runKey{}).(*run)
	return r
}

// tasksOf returns the task whose body was given ctx, or a context that ctx derives from; and, if
// that runs in a nested Manager, those around it.
func tasksOf(ctx context.Context) (tasks []*Task) {
	for r := runOf(ctx); r != nil; r = r.task.config().manager.outerRun {
		tasks = append(tasks, r.task)
	}
	return tasks
}

// outermost returns the context of the Manager around all tasks that ctx is of: the first one that is
// not that of a task. Reporters get its values, and must not be taken for a task's.
func outermost(ctx context.Context) context.Context {
	if r := runOf(ctx); r != nil {
		return outermost(r.task.config().manager.config.ctx)
	}
	return ctx
}
