package taskmanager_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

var errBoom = errors.New("boom")

// mustNew returns a Manager that logs nothing, unless opts say otherwise.
func mustNew(t *testing.T, opts ...taskmanager.Option) *taskmanager.Manager {
	t.Helper()
	silent := taskmanager.WithLogger(slog.New(slog.DiscardHandler))
	m, err := taskmanager.New(append([]taskmanager.Option{silent}, opts...)...)
	require.NoError(t, err)
	return m
}

// newManager is mustNew for a Manager that is shut down when the test ends. A test that uses a bubble calls it there, with
// the bubble's t.
func newManager(t *testing.T, opts ...taskmanager.Option) *taskmanager.Manager {
	t.Helper()
	m := mustNew(t, opts...)
	t.Cleanup(func() { require.NoError(t, m.Shutdown(context.Background())) })
	return m
}

// start is StartTask for what must not be refused.
func start(t *testing.T, m *taskmanager.Manager, name string, body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) *taskmanager.Task {
	t.Helper()
	task, err := m.StartTask(name, body, opts...)
	require.NoError(t, err)
	return task
}

// boom is the body of a task that fails at once.
func boom(context.Context) error { return errBoom }

// ignoring is a body that doesn't return before release is closed, whatever happens to its context.
func ignoring(release <-chan struct{}) taskmanager.TaskFunc {
	return func(context.Context) error {
		<-release
		return nil
	}
}

// failAt returns a body whose runs fail at the given times after now, one after the other; the run after the last goes on until it is stopped.
func failAt(times ...time.Duration) taskmanager.TaskFunc {
	begin := time.Now()
	return func(ctx context.Context) error {
		if len(times) == 0 {
			return untilStopped(ctx)
		}
		d := time.Until(begin.Add(times[0]))
		times = times[1:]
		return failAfter(d)(ctx)
	}
}

// failAfter returns a body that fails when it has run for d. Without a timer if d is not positive: where many goroutines of
// a bubble receive from timers that are due already, the race detector of Go 1.26 crashes.
func failAfter(d time.Duration) taskmanager.TaskFunc {
	if d <= 0 {
		return boom
	}
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return errBoom
		case <-ctx.Done():
			return nil
		}
	}
}

// slowToStop returns a body that needs d to return after it was asked to.
func slowToStop(d time.Duration) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(d)
		return nil
	}
}

// A deafBody ignores its context and returns when it is released.
type deafBody struct{ released chan struct{} }

func (b *deafBody) run(context.Context) error {
	<-b.released
	return nil
}

func (b *deafBody) release() { close(b.released) }

//go:noinline
func (b *deafBody) hangInBody(ctx context.Context) error { return b.run(ctx) }

//go:noinline
func (b *deafBody) hangInChild() error { return b.run(context.Background()) }

//go:noinline
func (b *deafBody) hangInSibling(ctx context.Context) error { return b.run(ctx) }

func newDeafBody() *deafBody { return &deafBody{make(chan struct{})} }

// An unhurriedContext is a context of the user's own type. It ends when its channel is closed, and needs half a second to say
// with which error.
type unhurriedContext struct {
	context.Context
	done chan struct{}
}

func (c unhurriedContext) Done() <-chan struct{} { return c.done }

func (c unhurriedContext) Err() error {
	select {
	case <-c.done:
		time.Sleep(time.Second / 2)
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A parentThatEnds is a context for WithContext, which ends when end is called.
type parentThatEnds struct {
	ctx   context.Context
	end   func()
	cause error // why it has ended, as far as is known right after end
}

// endOfTheParent runs a test in a bubble for each kind of parent context: one of package context, and two that ask one of the
// user's own, of whose end a Manager hears later than whoever has ended it.
func endOfTheParent(t *testing.T, test func(t *testing.T, p *parentThatEnds)) {
	t.Run("of package context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			test(t, &parentThatEnds{ctx, func() { cancel(errWhy) }, errWhy})
		})
	})
	t.Run("of the user's own", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			done := make(chan struct{})
			test(t, &parentThatEnds{unhurriedContext{t.Context(), done}, func() { close(done) }, context.Canceled})
		})
	})
	t.Run("of package context, around the user's own", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			done := make(chan struct{})
			ctx := withValue(unhurriedContext{t.Context(), done})
			test(t, &parentThatEnds{ctx, func() { close(done) }, context.Canceled})
		})
	})
}

// A causeLog is a parked body that notes the cause of the end of each of its runs.
type causeLog struct {
	mu     sync.Mutex
	causes []error
}

func (c *causeLog) run(ctx context.Context) error {
	<-ctx.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.causes = append(c.causes, context.Cause(ctx))
	return ctx.Err()
}

func (c *causeLog) all() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]error(nil), c.causes...)
}

// asStuck asserts that err is a StopTimeoutError of that task and timeout, and returns it.
func asStuck(t *testing.T, err error, task string, timeout time.Duration) *taskmanager.StopTimeoutError {
	t.Helper()
	var stuck *taskmanager.StopTimeoutError
	require.ErrorAs(t, err, &stuck)
	assert.Equal(t, task, stuck.Task)
	assert.Equal(t, timeout, stuck.Timeout)
	return stuck
}

// took asserts that exactly d has passed since began. It is for bubbles.
func took(t *testing.T, d time.Duration, began time.Time) {
	t.Helper()
	assert.Equal(t, d, time.Since(began), "time taken")
}

// goroutines returns how many goroutines the bubble has. [runtime.NumGoroutine] is of no use here: it counts those of former
// tests that are about to end.
func goroutines() int {
	synctest.Wait()
	stack := func(all bool) []byte {
		for n := 1 << 12; ; n *= 2 {
			b := make([]byte, n)
			if n := runtime.Stack(b, all); n < len(b) {
				return b[:n]
			}
		}
	}
	header, _, _ := bytes.Cut(stack(false), []byte("\n")) // goroutine 7 [running, synctest bubble 3]:
	bubble := header[bytes.LastIndex(header, []byte(", synctest bubble ")):]
	return bytes.Count(stack(true), append(bubble, '\n'))
}

// settled waits in a bubble until nothing more happens at this moment, and returns the task's state.
func settled(task *taskmanager.Task) taskmanager.State {
	synctest.Wait()
	return task.State()
}

type contextKey struct{}

func withValue(parent context.Context) context.Context {
	return context.WithValue(parent, contextKey{}, "a child's")
}

// A panickyContext panics when Done is called.
type panickyContext struct{ context.Context }

func (panickyContext) Done() <-chan struct{} { panic("Done") }

// A foreignContext is one of a type that package context doesn't know.
type foreignContext struct{ context.Context }

var (
	critical  = taskmanager.WithCritical()
	noRestart = taskmanager.WithMaxRestarts(0) // the first failure gives up
)

// A running is a call of Run.
type running struct {
	result chan error
	began  time.Time
	took   time.Duration
}

// lives asserts that Run has not returned when nothing more happens at this moment.
func (r *running) lives(t *testing.T) {
	t.Helper()
	synctest.Wait()
	require.Empty(t, r.result, "Run has returned")
}

// err waits for Run to return, and asserts that this took d.
func (r *running) err(t *testing.T, d time.Duration) error {
	t.Helper()
	err := <-r.result
	assert.Equal(t, d, r.took, "time that Run took")
	return err
}

// goRun calls Run, with a context that cancel ends.
func goRun(t *testing.T, m *taskmanager.Manager) (r *running, cancel context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r = &running{result: make(chan error, 1), began: time.Now()}
	go func() {
		err := m.Run(ctx)
		r.took = time.Since(r.began)
		r.result <- err
	}()
	return r, cancel
}

// assertGivenUp asserts that err is a GiveUpError about that task.
func assertGivenUp(t *testing.T, err error, task string) {
	t.Helper()
	var gaveUp *taskmanager.GiveUpError
	require.ErrorAs(t, err, &gaveUp)
	assert.Equal(t, task, gaveUp.Task)
}

// A stopLog notes when, and why, bodies were asked to stop.
type stopLog struct {
	began time.Time

	mu     sync.Mutex
	asked  map[string]time.Duration // since began
	causes map[string]error
}

// body needs d to return after it was asked to.
func (l *stopLog) body(d time.Duration) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		l.note(ctx)
		time.Sleep(d)
		return nil
	}
}

// deaf is a body that notes that it is asked to stop, and does not before release is closed.
func (l *stopLog) deaf(release <-chan struct{}) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		l.note(ctx)
		<-release
		return nil
	}
}

func (l *stopLog) note(ctx context.Context) {
	<-ctx.Done()
	task, _ := taskmanager.FromContext(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[task.Name()] = time.Since(l.began)
	l.causes[task.Name()] = context.Cause(ctx)
}

// begin makes now the time from which on the others are counted.
func (l *stopLog) begin() time.Time {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.began = time.Now()
	return l.began
}

func (l *stopLog) times() map[string]time.Duration {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.asked)
}

func (l *stopLog) cause(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.causes[name]
}

func newStopLog() *stopLog {
	return &stopLog{began: time.Now(), asked: make(map[string]time.Duration), causes: make(map[string]error)}
}

// dependsOn is short for what these tests need everywhere.
func dependsOn(names ...string) taskmanager.TaskOption { return taskmanager.WithDependsOn(names...) }

// canceled returns a context that is.
func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// chain starts c, which depends on b, which depends on a, and e, which has nothing to do with them.
func chain(t *testing.T, m *taskmanager.Manager, body func(name string) taskmanager.TaskFunc) {
	t.Helper()
	start(t, m, "a", body("a"))
	start(t, m, "b", body("b"), dependsOn("a"))
	start(t, m, "c", body("c"), dependsOn("b"))
	start(t, m, "e", body("e"))
	synctest.Wait()
}

type times = map[string]time.Duration

// A policyFunc is a backoff policy that asks for each delay.
type policyFunc func() time.Duration

func (f policyFunc) NextBackOff() time.Duration { return f() }

func (policyFunc) Reset() {}

// brokenError is an error all of whose methods panic.
type brokenError struct{}

func (brokenError) Error() string { panic("Error") }

func (brokenError) Unwrap() error { panic("Unwrap") }

func (brokenError) Is(error) bool { panic("Is") }

func (brokenError) As(any) bool { panic("As") }

func (brokenError) Format(fmt.State, rune) { panic("Format") }

// An end is a way in which a run can end by itself.
type end struct {
	title string
	body  func() error

	// What must come of it, besides a run that returns nil.
	is     error  // what errors.Is finds in the failure; nil for a run that returns nil
	text   string // of the failure
	panics bool   // it counts as a panic
	final  bool   // it forbids a restart
}

func ends() []end {
	stuck := &taskmanager.StopTimeoutError{Task: "inner", Timeout: time.Second}
	return []end{
		{title: "nil", body: func() error { return nil }},
		{title: "error", body: func() error { return errBoom }, is: errBoom, text: "boom"},
		{title: "wrapped error", body: func() error { return fmt.Errorf("polling: %w", errBoom) }, is: errBoom, text: "polling: boom"},
		{
			title: "panic with a string", body: func() error { panic("boom") },
			text: "taskmanager: panic: boom", panics: true,
		},
		{
			title: "panic with an error", body: func() error { panic(errBoom) },
			is: errBoom, text: "taskmanager: panic: boom", panics: true,
		},
		{
			title: "panic with nil", body: func() error { panic(nil) },
			text: "taskmanager: panic: " + new(runtime.PanicNilError).Error(), panics: true,
		},
		{
			title: "panic of the runtime",
			body: func() error {
				none, i := strings.Fields(""), 0
				return errors.New(none[i])
			},
			text: "taskmanager: panic: runtime error: index out of range [0] with length 0", panics: true,
		},
		{
			title: "panic in a deferred call",
			body: func() error {
				defer func() { panic("deferred") }()
				return nil
			},
			text: "taskmanager: panic: deferred", panics: true,
		},
		{
			title: "panic in a deferred call after a panic",
			body: func() error {
				defer func() { panic("second") }()
				panic("first")
			},
			text: "taskmanager: panic: second", panics: true,
		},
		{
			title: "recovered by the body",
			body: func() (err error) {
				defer func() { err = fmt.Errorf("recovered: %v", recover()) }()
				panic("boom")
			},
			text: "recovered: boom",
		},
		{
			title: "Goexit",
			body: func() error {
				runtime.Goexit()
				return nil
			},
			is: taskmanager.ErrGoexit, text: "taskmanager: body called runtime.Goexit",
		},
		{
			title: "Goexit in a deferred call",
			body: func() error {
				defer runtime.Goexit()
				return nil
			},
			is: taskmanager.ErrGoexit, text: "taskmanager: body called runtime.Goexit",
		},
		{
			title: "Goexit in a deferred call after a panic",
			body: func() error {
				defer runtime.Goexit()
				panic("boom")
			},
			is: taskmanager.ErrGoexit, text: "taskmanager: body called runtime.Goexit",
		},
		{
			title: "panic in a deferred call after Goexit",
			body: func() error {
				defer func() { panic("boom") }()
				runtime.Goexit()
				return nil
			},
			text: "taskmanager: panic: boom", panics: true,
		},
		{
			title: "inner context.Canceled", body: func() error { return fmt.Errorf("get: %w", context.Canceled) },
			is: context.Canceled, text: "get: context canceled",
		},
		{
			title: "inner context.DeadlineExceeded", body: func() error { return context.DeadlineExceeded },
			is: context.DeadlineExceeded, text: "context deadline exceeded",
		},
		{title: "ErrStopped without a stop", body: func() error { return taskmanager.ErrStopped }, is: taskmanager.ErrStopped, text: "taskmanager: task was stopped by hand"},
		{title: "Permanent", body: func() error { return backoff.Permanent(errBoom) }, is: errBoom, text: "boom", final: true},
		{
			title: "wrapped Permanent", body: func() error { return fmt.Errorf("polling: %w", backoff.Permanent(errBoom)) },
			is: errBoom, text: "polling: boom", final: true,
		},
		{
			title: "joined Permanent", body: func() error { return errors.Join(errBoom, backoff.Permanent(errors.New("over"))) },
			is: errBoom, text: "boom\nover", final: true,
		},
		{
			title: "panic with Permanent", body: func() error { panic(backoff.Permanent(errBoom)) },
			is: errBoom, text: "taskmanager: panic: boom", panics: true, final: true,
		},
		{
			// Something below still runs: a second run would meet it.
			title: "a stuck task of a nested Manager", body: func() error { return fmt.Errorf("stopping: %w", stuck) },
			is: stuck, text: `stopping: taskmanager: task "inner" did not stop within 1s`, final: true,
		},
	}
}

// delaysOf runs a task that fails at once, n times, and returns the delays before its restarts: as told by the events,
// which must be those that pass.
func delaysOf(t *testing.T, n int, opts ...taskmanager.TaskOption) (told []time.Duration) {
	t.Helper()
	m := newManager(t, taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithRestartLimit(rate.Inf, 0))
	events := m.Subscribe(context.Background())
	var (
		begun []time.Time
		over  = make(chan struct{})
	)
	start(t, m, "a", func(ctx context.Context) error {
		begun = append(begun, time.Now())
		if len(begun) > n {
			close(over)
			return untilStopped(ctx)
		}
		return errBoom
	}, opts...)
	<-over
	for _, e := range ofKind(taskmanager.EventFailed, received(events)) {
		told = append(told, e.Delay)
	}
	var passed []time.Duration
	for i := range n {
		passed = append(passed, begun[i+1].Sub(begun[i]))
	}
	require.Equal(t, told, passed)
	require.NoError(t, m.StopTask(context.Background(), "a"))
	return told
}

func seconds(s ...float64) (d []time.Duration) {
	for _, s := range s {
		d = append(d, time.Duration(s*float64(time.Second)))
	}
	return d
}

// A script is a policy of the user's: delays one after the other.
type script struct {
	delays []time.Duration
	resets []int // how many delays were left at each Reset
	next   func() time.Duration
	reset  func()
}

func (s *script) NextBackOff() time.Duration {
	if s.next != nil {
		return s.next()
	}
	d := s.delays[0]
	s.delays = s.delays[1:]
	return d
}

func (s *script) Reset() {
	if s.reset != nil {
		s.reset()
	}
	s.resets = append(s.resets, len(s.delays))
}

func (s *script) option() taskmanager.TaskOption {
	return taskmanager.WithBackOffPolicy(func() backoff.BackOff { return s })
}

// everySecond returns a healthy body that counts the seconds.
func everySecond(ticks *atomic.Int64) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				ticks.Add(1)
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// readyAfter returns a body that is ready when it has run for d, and goes on until it is stopped.
func readyAfter(d time.Duration) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			taskmanager.Ready(ctx)
		case <-ctx.Done():
		}
		return untilStopped(ctx)
	}
}

// exact are the options of a Manager whose delays are all 1 s.
func exact(opts ...taskmanager.Option) []taskmanager.Option {
	return append([]taskmanager.Option{
		taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0),
	}, opts...)
}

func mustTask(t *testing.T, ctx context.Context) *taskmanager.Task {
	t.Helper()
	task, ok := taskmanager.FromContext(ctx)
	require.True(t, ok)
	return task
}

// again is the test in a process of its own, in which that variable is set.
func again(t *testing.T, variable string) *exec.Cmd {
	t.Helper()
	executable, err := os.Executable()
	require.NoError(t, err)
	child := exec.CommandContext(t.Context(), executable, "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), variable+"=1")
	return child
}

// heapOf returns how the heap has grown when f has been called.
func heapOf(f func()) int64 {
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	before := heap()
	f()
	return heap() - before
}

// observed is mustNew with exact delays.
func observed(t *testing.T, opts ...taskmanager.Option) *taskmanager.Manager {
	t.Helper()
	return mustNew(t, append([]taskmanager.Option{taskmanager.WithBackoffJitter(0)}, opts...)...)
}

// once is for a task whose first failure is its last.
func once() taskmanager.TaskOption { return taskmanager.WithRestart(taskmanager.RestartNever) }

var errWhy = errors.New("why it was canceled")

// oneThread makes it all but certain that a new goroutine has not begun when its maker goes on.
func oneThread(t *testing.T) {
	t.Helper()
	before := runtime.GOMAXPROCS(1)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

type parentKey struct{}

// An askedError does something whenever it is asked what it is.
type askedError struct{ asked func() }

func (askedError) Error() string { return "asked" }

func (e askedError) As(any) bool {
	e.asked()
	return false
}

// noContext is what is refused, or taken for the context of nobody.
var noContext context.Context

// heedInterrupt has processes that are started from now on begin with the default for an interrupt: they would ignore it where the tests
// do, as whatever a shell starts in the background does.
func heedInterrupt(t *testing.T) {
	t.Helper()
	caught := make(chan os.Signal, 1) // what this process catches, others begin with by default
	signal.Notify(caught, os.Interrupt)
	t.Cleanup(func() { signal.Stop(caught) })
}
