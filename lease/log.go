package lease

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A logHandler gives what is logged to the user's handler, one record after the other, on a goroutine of its own: for that may panic, call
// runtime.Goexit, hang, or call back.
type logHandler struct {
	slog.Handler // the user's

	mu      sync.Mutex // guards what follows
	records []slog.Record
	idle    chan struct{} // closed when all records have been handled; nil if they have
}

// mostRecords is how many may wait for a handler that hangs; further ones are dropped.
const mostRecords = 1000

// Enabled implements [slog.Handler].
func (*logHandler) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements [slog.Handler].
func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.records) == mostRecords {
		return nil
	}
	h.records = append(h.records, r)
	if h.idle == nil {
		h.idle = make(chan struct{})
		go h.work()
	}
	return nil
}

func (h *logHandler) work() {
	for h.next() {
	}
}

// next has the next record handled. It reports whether there was one. If the handler calls runtime.Goexit, another goroutine goes on.
func (h *logHandler) next() (more bool) {
	h.mu.Lock()
	if len(h.records) == 0 {
		close(h.idle)
		h.idle, h.records = nil, nil
		h.mu.Unlock()
		return false
	}
	r := h.records[0]
	h.records = h.records[1:]
	h.mu.Unlock()
	exited := true
	defer func() {
		if recover() == nil && exited {
			go h.work()
		}
	}()
	more = true
	if h.Handler.Enabled(context.Background(), r.Level) {
		_ = h.Handler.Handle(context.Background(), r)
	}
	exited = false
	return true
}

// flush waits until all has been handled, but not for longer than patience.
func (h *logHandler) flush(patience time.Duration) {
	h.mu.Lock()
	idle := h.idle
	h.mu.Unlock()
	if idle != nil {
		sleep(patience, idle)
	}
}
