package taskmanager

import (
	"log/slog"
	"runtime"
)

// A byHand is who has asked for a stop or a restart by a call of the API.
type byHand struct {
	by  string     // the path of the task whose body has called, by the context that was given; empty if it was none
	pcs [8]uintptr // of the call
	n   int        // of pcs
}

// newHand notes who has called.
//
//go:noinline
func newHand(by string) *byHand {
	h := &byHand{by: by}
	const skip = 2 // runtime.Callers, newHand
	h.n = runtime.Callers(skip, h.pcs[:])
	return h
}

// appendTo adds who it was to the attributes of a line.
func (h *byHand) appendTo(attrs []slog.Attr) []slog.Attr {
	if h == nil {
		return attrs
	}
	if h.by != "" {
		attrs = append(attrs, slog.String("by", h.by))
	}
	if caller := firstOfUser(framesOf(h.pcs[:h.n])); caller != "" {
		attrs = append(attrs, slog.String("caller", caller))
	}
	return attrs
}
