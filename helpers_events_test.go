package taskmanager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

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

// errDeaf is what the reporters of these tests fail with.
var errDeaf = errors.New("deaf")

// everyTime makes a body that fails at once fail with this period: n times in all, the last of which gives it up.
func everyTime(period time.Duration, n int) []taskmanager.TaskOption {
	return []taskmanager.TaskOption{
		taskmanager.WithBackoff(period, period),
		taskmanager.WithBackoffFactor(1),
		taskmanager.WithMaxRestarts(n - 1),
		taskmanager.WithRestartWindow(1000 * time.Hour),
	}
}

func noReportLimit() taskmanager.Option { return taskmanager.WithReportLimit(rate.Inf, 0) }

// An inbox is a Reporter that remembers what it was given.
type inbox struct {
	began time.Time
	// answer, if set, is called by Report: n counts the calls, from 1.
	answer func(ctx context.Context, n int, e taskmanager.Event) error

	mu     sync.Mutex
	calls  []taskmanager.Event
	lines  []string // "2.5s a failed run=3 repeats=1" for each call
	inside int      // calls under way
	most   int      // of these at any time
}

func (b *inbox) Report(ctx context.Context, e taskmanager.Event) error {
	b.mu.Lock()
	b.calls = append(b.calls, e)
	at := time.Since(b.began).Round(time.Millisecond) // the limiter's float arithmetic may be a nanosecond early
	b.lines = append(b.lines, fmt.Sprintf("%v %s %v run=%d repeats=%d", at, e.Task, e.Kind, e.Run, e.Repeats))
	n := len(b.calls)
	b.inside++
	b.most = max(b.most, b.inside)
	b.mu.Unlock()
	defer func() { // also if answer panics
		b.mu.Lock()
		defer b.mu.Unlock()
		b.inside--
	}()
	if b.answer == nil {
		return nil
	}
	return b.answer(ctx, n, e)
}

// got returns a line for each call so far.
func (b *inbox) got() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}

func (b *inbox) events() []taskmanager.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

// sum is how many events the calls so far stand for.
func (b *inbox) sum() (n uint64) {
	for _, e := range b.events() {
		n += 1 + uint64(e.Repeats)
	}
	return n
}

func (b *inbox) mostAtOnce() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.most
}

func newInbox(answer func(ctx context.Context, n int, e taskmanager.Event) error) *inbox {
	return &inbox{began: time.Now(), answer: answer}
}

// A reportCount is what ManagerStats says of reports.
type reportCount struct{ delivered, waiting, lost uint64 }

func reportsOf(m *taskmanager.Manager) reportCount {
	s := m.Stats()
	return reportCount{s.ReportsDelivered, s.ReportsWaiting, s.ReportsLost}
}

// A linesHandler is a slog handler that remembers what it was given.
type linesHandler struct {
	from slog.Level

	mu      *sync.Mutex // of records, which those made by WithAttrs share
	records *[]slog.Record
	attrs   []slog.Attr
}

func (h *linesHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.from }

func (h *linesHandler) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	all.AddAttrs(h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		all.AddAttrs(a)
		return true
	})
	*h.records = append(*h.records, all)
	return nil
}

func (h *linesHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h2 := *h
	h2.attrs = slices.Concat(h.attrs, attrs)
	return &h2
}

func (h *linesHandler) WithGroup(string) slog.Handler { return h }

func (h *linesHandler) taken() []slog.Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(*h.records)
}

// got returns the lines so far, like "WARN task failed | task=a run=1". Of calls, it leaves the function's name and the file, and of
// stacks the first call.
func (h *linesHandler) got() []string {
	var lines []string
	for _, r := range h.taken() {
		var b strings.Builder
		fmt.Fprintf(&b, "%v %s |", r.Level, r.Message)
		r.Attrs(func(a slog.Attr) bool {
			value := a.Value.String()
			switch a.Key {
			case "stack":
				value = shortCall(a.Value.Any().([]string)[0])
			case "at", "caller":
				value = shortCall(value)
			}
			fmt.Fprintf(&b, " %s=%s", a.Key, value)
			return true
		})
		lines = append(lines, b.String())
	}
	return lines
}

// shortCall is a call in the log, "github.com/go-taskmanager/taskmanager_test.boom(helpers_test.go:123)", as "boom(helpers_test.go)".
func shortCall(call string) string {
	_, call, _ = strings.Cut(call[strings.LastIndex(call, "/")+1:], ".")
	place, _, _ := strings.Cut(call, ":")
	return place + ")"
}

// about returns the lines of got that contain text.
func (h *linesHandler) about(text string) []string {
	return slices.DeleteFunc(h.got(), func(line string) bool { return !strings.Contains(line, text) })
}

func newLines(from slog.Level) *linesHandler {
	return &linesHandler{from: from, mu: new(sync.Mutex), records: new([]slog.Record)}
}

// A batcher is a BatchReporter that remembers what it was given.
type batcher struct {
	began time.Time
	// answer, if set, is what ReportBatch returns: call counts the calls, from 1.
	answer func(ctx context.Context, call int, events []taskmanager.Event) (int, error)

	mu    sync.Mutex
	lines []string // "1s a b+2" for each call: what it was offered, with repeats
}

func (b *batcher) Report(context.Context, taskmanager.Event) error {
	panic("one that takes batches is given batches")
}

func (b *batcher) ReportBatch(ctx context.Context, events []taskmanager.Event) (int, error) {
	var line strings.Builder
	fmt.Fprint(&line, time.Since(b.began).Round(time.Millisecond))
	for _, e := range events {
		fmt.Fprintf(&line, " %s", e.Task)
		if e.Repeats > 0 {
			fmt.Fprintf(&line, "+%d", e.Repeats)
		}
	}
	b.mu.Lock()
	b.lines = append(b.lines, line.String())
	call := len(b.lines)
	b.mu.Unlock()
	if b.answer == nil {
		return len(events), nil
	}
	return b.answer(ctx, call, events)
}

func (b *batcher) got() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.lines...)
}

func newBatcher(answer func(ctx context.Context, call int, events []taskmanager.Event) (int, error)) *batcher {
	return &batcher{began: time.Now(), answer: answer}
}

// failing starts a task of each name, which gives up at once, and waits for that: one after the other.
func failing(t *testing.T, m *taskmanager.Manager, names ...string) {
	t.Helper()
	for _, name := range names {
		require.Error(t, start(t, m, name, boom, once()).Wait(t.Context()))
	}
}

// newHeldInbox returns an inbox whose first call lasts until release is closed, whatever its context says.
func newHeldInbox(release <-chan struct{}) *inbox {
	return newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
		if n == 1 {
			<-release
		}
		return nil
	})
}

// A busyError is that of a service that has had enough for now.
type busyError time.Duration

func (busyError) Error() string { return "busy" }

func (e busyError) RetryAfter() time.Duration { return time.Duration(e) }

// mute is an error whose method panics.
type mute struct{}

func (mute) Error() string { panic("mute") }

// A handlerFunc is a log handler that wants all lines, and calls itself with each.
type handlerFunc func(slog.Record)

func (handlerFunc) Enabled(context.Context, slog.Level) bool { return true }

func (f handlerFunc) Handle(_ context.Context, r slog.Record) error {
	f(r)
	return nil
}

func (f handlerFunc) WithAttrs([]slog.Attr) slog.Handler { return f }

func (f handlerFunc) WithGroup(string) slog.Handler { return f }

// An askedHandler is a handlerFunc that wants the lines of which asked says so.
type askedHandler struct {
	handlerFunc
	asked func(slog.Level) bool
}

func (h askedHandler) Enabled(_ context.Context, level slog.Level) bool { return h.asked(level) }

func (h askedHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h askedHandler) WithGroup(string) slog.Handler { return h }
