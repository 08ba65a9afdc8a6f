package taskmanager

import (
	"context"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"
)

// AskedBy returns a context for calls that are made for somebody: StopTask, RestartTask and all others by hand that have a context, of
// the Manager and of the [Task]. Their log lines have who as by, and their events as [Event.By], in place of the path of the task whose
// body has called: a person's name, say, or the address of a client.
//
// It is for people alone. It says nothing of who waits for whom, so a body that stops its own task with it is not waited for, as with its
// own context; and bodies don't have it from the context of [WithContext], nor the tasks of a group from that of the group.
//
// who is cut to 255 bytes, and what is not valid UTF-8 in it, or a control character, is replaced by U+FFFD. If it is empty, or ctx is
// nil, the result is ctx.
func AskedBy(ctx context.Context, who string) context.Context {
	if ctx == nil || who == "" {
		return ctx
	}
	return context.WithValue(ctx, askedByKey{}, printable(who))
}

// askedByKey is the key under which a context has what AskedBy was given. Those of runs don't have it, for what a body asks for is by its
// task.
type askedByKey struct{}

// mostAskedBy bounds the text that AskedBy is given, in bytes: as that of a name.
const mostAskedBy = mostName

// printable returns the beginning of a text, with what can't be shown in a line replaced.
func printable(text string) string {
	text = text[:min(len(text), mostAskedBy+utf8.UTFMax)] // it gets no shorter
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r // that of a byte which is not valid is RuneError already
	}, text)
	n := min(len(text), mostAskedBy)
	for n < len(text) && !utf8.RuneStart(text[n]) {
		n--
	}
	return strings.Clone(text[:n]) // which may be a small part of it
}

// A byHand is who has asked for something by a call of the API.
type byHand struct {
	by    string     // as AskedBy was told, or else the path of the task whose body has called, by the context that was given; or empty
	named bool       // by is what AskedBy was told
	pcs   [8]uintptr // of the call
	n     int        // of pcs
}

// newHand notes who has called with that context, whose methods may be the user's.
//
//go:noinline
func newHand(ctx context.Context) *byHand {
	h := &byHand{by: askedBy(ctx)}
	if h.named = h.by != ""; !h.named {
		if t, ok := FromContext(ctx); ok {
			h.by = t.path()
		}
	}
	const skip = 2 // runtime.Callers, newHand
	h.n = runtime.Callers(skip, h.pcs[:])
	return h
}

// askedBy returns what AskedBy was told of ctx; empty if it was not.
func askedBy(ctx context.Context) string {
	who, _ := ctx.Value(askedByKey{}).(string)
	return who
}

// who is by whom it was asked for; empty if that is not known.
func (h *byHand) who() string {
	if h == nil {
		return ""
	}
	return h.by
}

// isNamed reports whether somebody has said, by AskedBy, who it is.
func (h *byHand) isNamed() bool { return h != nil && h.named }

// caller is the place of the call in the user's code, as the log has it; empty if there is none.
func (h *byHand) caller() string {
	if h == nil {
		return ""
	}
	return firstOfUser(framesOf(h.pcs[:h.n]))
}
