package taskmanager

import (
	"context"
	"reflect"
	"runtime"
	"slices"
	"strings"
)

// WithMiddleware wraps the body in functions that are called around each of its runs: for a trace, a measurement, a lock. Each gets
// the TaskFunc that is next and returns another one, which calls next or doesn't. The first is outermost: of m1, m2 the task runs
// m1(m2(body)). Those given to [New] come before those of the task, and several such options add up. Tasks of a [Group] have those
// of its own options. The default is none.
//
// Each is called once, by StartTask, on the goroutine of its caller. A nil one, and one that panics or returns nil then, is refused;
// what it returns must serve all runs, one after the other.
//
// To the Manager it is a part of the body. What it returns is what the run has ended with, and its panics and calls of
// [runtime.Goexit] are the run's; those of the body pass through it, so what it has to do at the end belongs in a deferred call. One
// that never calls next ends the run by itself, and one that calls it twice has the body executed twice in one run. It must wait for
// next: where it calls it at the same time as itself or on another goroutine, the body may execute twice at a time, or beside the next
// run, and a panic there ends the process.
//
// The context that it hands on should derive from the one that it was given, for it ends the run, and [Ready], [Heartbeat] and
// [FromContext] find the task by it. Values are added at no further cost: a child context needs no goroutine, however many there
// are. The Manager's own log lines about the run come with the context that the body was given (see [WithLogger]).
//
// The same function fits a pass of [Every] or [OnSchedule]: Every(d, mw(pass)).
func WithMiddleware(mws ...func(next TaskFunc) TaskFunc) TaskOption {
	mws = slices.Clone(mws) // the caller may go on to use the slice
	o := option(func(c *config) error {
		if slices.ContainsFunc(mws, func(mw func(TaskFunc) TaskFunc) bool { return mw == nil }) {
			var names []string
			for _, mw := range mws {
				names = append(names, middlewareName(mw))
			}
			return &OptionError{Option: "WithMiddleware", Value: strings.Join(names, ", "), Reason: "must not be nil"}
		}
		c.task.middleware = slices.Concat(c.task.middleware, mws)
		return nil
	})
	return optionForTask{o}
}

// middlewareName is the name of the function in the source: "main.traced".
func middlewareName(mw func(next TaskFunc) TaskFunc) string {
	if mw == nil {
		return "nil"
	}
	return runtime.FuncForPC(reflect.ValueOf(mw).Pointer()).Name()
}

// chain wraps body in middleware, which is the user's. Without any there is nothing between the task and its body.
func chain(middleware []func(next TaskFunc) TaskFunc, body TaskFunc) (TaskFunc, error) {
	if len(middleware) == 0 {
		return body, nil
	}
	next := withNotedContext(body)
	for _, mw := range slices.Backward(middleware) {
		var err error
		if next, err = wrap(mw, next); err != nil {
			return nil, err
		}
	}
	return next, nil
}

func wrap(mw func(next TaskFunc) TaskFunc, next TaskFunc) (wrapped TaskFunc, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &OptionError{Option: "WithMiddleware", Value: middlewareName(mw), Reason: "panicked: " + valueText(v)}
		}
	}()
	wrapped = mw(next)
	if wrapped == nil {
		return nil, &OptionError{Option: "WithMiddleware", Value: middlewareName(mw), Reason: "returned nil"}
	}
	return wrapped, nil
}

// withNotedContext returns a body that notes for the log which context middleware has given to body. The task may not be the one that it
// was made for: it is found by the context.
func withNotedContext(body TaskFunc) TaskFunc {
	return func(ctx context.Context) error {
		if w, r := watchedOrRunOf(ctx); r != nil {
			var added *logValues
			if ctx != context.Context(r) && ctx != context.Context(w) {
				added = &logValues{of: ctx}
			}
			r.setLogContext(added)
		}
		return body(ctx)
	}
}

// setLogContext notes with which context lines about the run are to be logged, if it is under way; nil for none of its own.
func (r *run) setLogContext(ctx *logValues) {
	if r.flags.Load()&logContextSet == 0 {
		if ctx == nil {
			return
		}
		r.flags.Or(logContextSet)
	}
	t := r.task
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.run == r {
		t.lazyLocked().rareLocked().logContext = ctx
	}
}

// logContext returns rareFields.logContext.
func (x *lazyFields) logContext() *logValues {
	if x == nil || x.rare == nil {
		return nil
	}
	return x.rare.logContext
}

// dropLogContext sets rareFields.logContext to nil.
func (x *lazyFields) dropLogContext() {
	if x.rare != nil {
		x.rare.logContext = nil
	}
}
