package taskmanager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

// received returns the events that wait in the channel, which may be closed.
func received(events <-chan taskmanager.Event) (got []taskmanager.Event) {
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return got
			}
			got = append(got, e)
		default:
			return got
		}
	}
}

// ofKind returns those of events that are of that kind.
func ofKind(kind taskmanager.EventKind, events []taskmanager.Event) (got []taskmanager.Event) {
	for _, e := range events {
		if e.Kind == kind {
			got = append(got, e)
		}
	}
	return got
}

// A logBook keeps what is logged, one JSON object a line.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// option makes a Manager log into b, every level.
func (b *logBook) option() taskmanager.Option {
	return taskmanager.WithLogger(slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug})))
}

// size returns how many bytes have been logged.
func (b *logBook) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Len()
}

// lines returns the lines with that message.
func (b *logBook) lines(t *testing.T, message string) (got []map[string]any) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range bytes.Lines(b.text.Bytes()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal(line, &fields))
		if fields["msg"] == message {
			got = append(got, fields)
		}
	}
	return got
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

func newDeafBody() *deafBody { return &deafBody{make(chan struct{})} }

func (b *deafBody) run(context.Context) error {
	<-b.released
	return nil
}

func (b *deafBody) release() { close(b.released) }

// A lateContext ends at a time, with err, and its Done comes too late to tell.
type lateContext struct {
	context.Context
	end time.Time
	err error
}

func (c lateContext) Err() error {
	if time.Now().Before(c.end) {
		return nil
	}
	return c.err
}

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

// endOfTheParent runs a test in a bubble for each kind of parent context: one of package context, and one of the user's own, of
// whose end a Manager hears later than whoever has ended it.
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

// pending returns the events that a subscriber of a bubble has not read yet.
func pending(events <-chan taskmanager.Event) []taskmanager.Event {
	synctest.Wait()
	return received(events)
}

// kinds returns the kinds of those events that are about the task.
func kinds(events []taskmanager.Event, task string) (ks []taskmanager.EventKind) {
	for _, e := range events {
		if e.Task == task {
			ks = append(ks, e.Kind)
		}
	}
	return ks
}

// messages returns those of the lines so far.
func messages(lines *linesHandler) (got []string) {
	for _, r := range lines.taken() {
		got = append(got, r.Message)
	}
	return got
}

// A slowHandler is a log handler that waits before it hands on a line with a certain message.
type slowHandler struct {
	slog.Handler
	message string
	wait    func()
}

func (h slowHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h slowHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == h.message {
		h.wait()
	}
	return h.Handler.Handle(ctx, r)
}

// slowLog makes a Manager call wait in the middle of each log line with that message.
func slowLog(message string, wait func()) taskmanager.Option {
	return taskmanager.WithLogger(slog.New(slowHandler{slog.DiscardHandler, message, wait}))
}
