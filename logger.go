package taskmanager

import (
	"context"
	"log/slog"
	"time"
)

// Logger returns the logger of the Manager (see [WithLogger]), with the attributes by which its own lines tell a run: manager, task
// (the path) and run. ctx is that of a body, or one that derives from it. For any other context, nil included, it is
// [slog.Default]. To make it takes some allocations, so a body does so once. [WithLogLimit] does not hold for its lines.
func Logger(ctx context.Context) *slog.Logger {
	r := runOf(ctx)
	if r == nil {
		return slog.Default()
	}
	b := r.task.config().manager.bus
	l := b.slog()
	if b.manager != "" {
		l = l.With(slog.String("manager", b.manager))
	}
	return l.With(slog.String("task", r.task.path()), slog.Uint64("run", r.number()))
}

// RunFromContext returns the number of the run whose body was given ctx, or a context that ctx derives from: that of its events, from
// 1. Without one it returns false; so it does for a nil ctx.
func RunFromContext(ctx context.Context) (run uint64, ok bool) {
	if r := runOf(ctx); r != nil {
		return r.number(), true
	}
	return 0, false
}

// A logContext is a Task as the context of lines about it: the values of the parent given to [WithContext], and nothing by which
// whoever gets it could be taken for the body of a task, and so be one that a stop must not wait for.
type logContext Task

// Deadline implements context.Context: there is none.
func (*logContext) Deadline() (deadline time.Time, ok bool) { return }

// Done implements context.Context: it is never done.
func (*logContext) Done() <-chan struct{} { return nil }

// Err implements context.Context.
func (*logContext) Err() error { return nil }

// Value implements context.Context.
func (c *logContext) Value(key any) any {
	if isTaskKey(key) {
		return nil
	}
	return (*Task)(c).config().manager.values.Value(key)
}

// A logValues is a logContext with what middleware has added: its methods are those of Background, but for the values of another context.
// The run that a line is about may have ended, or be about to, and the line must not be lost by that.
type logValues struct {
	*logContext // for its methods other than Value, which need none

	of context.Context // that the body was given
}

// Value implements context.Context. It calls methods of contexts that may be the user's.
func (c logValues) Value(key any) any {
	if isTaskKey(key) || key == cancelKey {
		return nil
	}
	return c.of.Value(key)
}

// cancelKey is the key under which package context finds what a child is to end with.
var cancelKey = func() any {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // Cause looks no further than at Err before that
	f := keyFinder{Context: ended}
	_ = context.Cause(&f)
	return f.key
}()

// isTaskKey reports whether what a context has under key is that of a task, or of who asks for something.
func isTaskKey(key any) bool {
	return key == runKey{} || key == watchedRunKey{} || key == askedByKey{} || key == labelsKey
}

// logContextOf returns the context of a line about a run: ctx, or what there is if no middleware has added anything.
func (t *Task) logContextOf(ctx *logValues) context.Context {
	if ctx == nil {
		return (*logContext)(t)
	}
	return ctx
}
