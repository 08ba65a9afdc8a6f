package taskmanager

import (
	"context"
	"reflect"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"
)

// A context may be of a type of the user's: a foreign one, whose methods may hang, panic or call runtime.Goexit.

// isStandard reports whether all methods of ctx are known to return at once: it is a context of package context or ours, and
// so are those that it asks.
func isStandard(ctx context.Context) bool {
	if _, ours := ctx.(interface{ isOurs() }); ours {
		return true
	}
	t := reflect.TypeOf(ctx)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.PkgPath() + "." + t.Name() {
	case "context.backgroundCtx", "context.todoCtx", "context.cancelCtx", "context.timerCtx":
		return true
	case "context.valueCtx", "os/signal.signalCtx":
		wrapped, ok := reflect.TypeAssert[context.Context](reflect.ValueOf(ctx).Elem().FieldByName("Context"))
		return ok && isStandard(wrapped)
	}
	return false
}

// whenDone is context.AfterFunc, which calls methods of a foreign context also later and elsewhere: of such a one, Done is called now,
// and nothing else. f must not panic. It is not called after stop, which returns at once and may be called again.
func whenDone(ctx context.Context, f func()) (stop func()) {
	if isStandard(ctx) {
		stop := context.AfterFunc(ctx, f)
		return func() { stop() }
	}
	done := ctx.Done()
	if done == nil {
		return func() {}
	}
	return whenClosed(done, f)
}

// whenClosed is whenDone for the channel that the Done of a foreign context has returned.
func whenClosed(done <-chan struct{}, f func()) (stop func()) {
	quit := make(chan struct{})
	go func() {
		pprof.SetGoroutineLabels(context.Background()) // it is not of the task whose body may have called
		select {
		case <-done:
			select {
			case <-quit: // before that
			default:
				f()
			}
		case <-quit:
		}
	}()
	return sync.OnceFunc(func() { close(quit) })
}

// askForeign calls f, which asks a foreign context, or a Hold, on a goroutine of its own. It waits for that, but for no longer than a second.
func askForeign(f func()) {
	const patience = time.Second
	known := make(chan struct{})
	go func() {
		defer close(known)
		defer func() { _ = recover() }()
		f()
	}()
	select {
	case <-known:
	case <-time.After(patience):
	}
}

// causeOf returns why ctx has ended; of a foreign one, context.Canceled if that does not say so in time.
func causeOf(ctx context.Context) error {
	if isStandard(ctx) {
		return context.Cause(ctx)
	}
	var cause atomic.Pointer[error]
	askForeign(func() {
		err := context.Cause(ctx)
		cause.Store(&err)
	})
	if err := cause.Load(); err != nil {
		return *err
	}
	return context.Canceled
}
