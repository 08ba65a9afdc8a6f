package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// errDeaf is what the reporters of these tests fail with.
var errDeaf = errors.New("deaf")

// observed is mustNew with exact delays.
func observed(t *testing.T, opts ...taskmanager.Option) *taskmanager.Manager {
	t.Helper()
	return mustNew(t, append([]taskmanager.Option{taskmanager.WithBackoffJitter(0)}, opts...)...)
}

// everyTime makes a body that fails at once fail with this period: n times in all, the last of which gives it up.
func everyTime(period time.Duration, n int) []taskmanager.TaskOption {
	return []taskmanager.TaskOption{
		taskmanager.WithBackoff(period, period),
		taskmanager.WithBackoffFactor(1),
		taskmanager.WithMaxRestarts(n - 1),
		taskmanager.WithRestartWindow(1000 * time.Hour),
	}
}

// once is for a task whose first failure is its last.
func once() taskmanager.TaskOption { return taskmanager.WithRestart(taskmanager.RestartNever) }

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

func newInbox(answer func(ctx context.Context, n int, e taskmanager.Event) error) *inbox {
	return &inbox{began: time.Now(), answer: answer}
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

func newLines(from slog.Level) *linesHandler {
	return &linesHandler{from: from, mu: new(sync.Mutex), records: new([]slog.Record)}
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

// got returns the lines so far, like "WARN task failed | task=a run=1", with stacks cut to their first line.
func (h *linesHandler) got() []string {
	var lines []string
	for _, r := range h.taken() {
		var b strings.Builder
		fmt.Fprintf(&b, "%v %s |", r.Level, r.Message)
		r.Attrs(func(a slog.Attr) bool {
			value, _, _ := strings.Cut(a.Value.String(), "\n")
			fmt.Fprintf(&b, " %s=%s", a.Key, value)
			return true
		})
		lines = append(lines, b.String())
	}
	return lines
}

// about returns the lines of got that contain text.
func (h *linesHandler) about(text string) []string {
	return slices.DeleteFunc(h.got(), func(line string) bool { return !strings.Contains(line, text) })
}
