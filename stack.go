package taskmanager

import (
	"errors"
	"fmt"
	"path"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// How stacks look in the log: a list of calls, each as "main.(*worker).poll(worker.go:120)", without spaces.

// stackOf returns the stack that err carries, of a panic, or of a task that is overdue or stuck: from the innermost call to the
// outermost that isn't ours; and the first call of it that is the user's, empty if there is none. It may call the methods of err.
func stackOf(err error) (at string, stack []string) {
	defer func() { _ = recover() }() // err's own As and Unwrap methods may panic
	if isEndless(err) {
		return "", nil
	}
	var (
		panicked *PanicError
		overdue  *OverdueError
		stuck    *StopTimeoutError
	)
	switch {
	case errors.As(err, &overdue):
		return readProfile(overdue.Stack)
	case errors.As(err, &panicked):
		frames := panicked.frames()
		return firstOfUser(frames), callsOf(frames)
	case errors.As(err, &stuck):
		return readProfile(stuck.Stack)
	}
	return "", nil
}

// frames are the calls of the stack, from that of panic downwards.
func (e *PanicError) frames() []runtime.Frame {
	calls := framesOf(e.pcs)
	for len(calls) > 0 && isOfRuntime(calls[0]) {
		calls = calls[1:]
	}
	return calls
}

// isOfRuntime reports whether f, one of the first calls of a panic's stack, is of how the runtime panics.
func isOfRuntime(f runtime.Frame) bool { return strings.HasPrefix(f.Function, "runtime.") }

// framesOf returns the calls of a stack.
func framesOf(pcs []uintptr) (calls []runtime.Frame) {
	frames := runtime.CallersFrames(pcs)
	for more := len(pcs) > 0; more; {
		var f runtime.Frame
		f, more = frames.Next()
		calls = append(calls, f)
	}
	return calls
}

// readProfile is stackOf for paragraphs of a goroutine profile in its text form, each of one goroutine or several at the same place.
// A number of goroutines stands before the calls of each, unless there is but one. at is that of the body's own goroutine, if it is
// there.
func readProfile(text []byte) (at string, stack []string) {
	type paragraph struct {
		count  string
		frames []runtime.Frame
	}
	var paragraphs []paragraph
	for line := range strings.Lines(string(text)) {
		if count, _, ok := strings.Cut(line, " @ "); ok && !strings.HasPrefix(line, "#") {
			paragraphs = append(paragraphs, paragraph{count: count})
			continue
		}
		// "#	0x4995de	bufio.(*Reader).ReadString+0x1e			bufio/bufio.go:499"
		if f, ok := readFrame(line); ok && len(paragraphs) > 0 {
			last := &paragraphs[len(paragraphs)-1]
			last.frames = append(last.frames, f)
		}
	}
	for _, p := range paragraphs {
		if found := firstOfUser(p.frames); found != "" && (at == "" || slices.ContainsFunc(p.frames, isDriver)) {
			at = found
		}
		switch {
		case p.count != "1":
			stack = append(stack, p.count+" goroutines:")
		case len(paragraphs) > 1:
			stack = append(stack, "1 goroutine:")
		}
		stack = append(stack, callsOf(p.frames)...)
	}
	return at, stack
}

// readFrame reads a line of a goroutine profile that is of a call.
func readFrame(line string) (f runtime.Frame, ok bool) {
	fields := strings.FieldsFunc(line, func(r rune) bool { return r == '\t' || r == '\n' })
	const mark, function, place = 0, 2, 3
	if len(fields) != place+1 || fields[mark] != "#" {
		return f, false
	}
	f.Function = fields[function]
	if i := strings.LastIndex(f.Function, "+0x"); i > 0 {
		f.Function = f.Function[:i]
	}
	colon := strings.LastIndex(fields[place], ":")
	if colon < 0 {
		return f, false
	}
	f.File = fields[place][:colon]
	n, err := strconv.Atoi(fields[place][colon+1:])
	f.Line = n
	return f, err == nil
}

// isDriver reports whether f is the goroutine of a task, where the body is called.
func isDriver(f runtime.Frame) bool { return f.Function == ownPackage+"(*Task).supervise" }

// callsOf are frames as the log has them, without ours at their end, by which every body is called.
func callsOf(frames []runtime.Frame) []string {
	n := len(frames)
	for n > 0 && (isOurs(frames[n-1].Function) || frames[n-1].Function == "runtime.goexit") {
		n--
	}
	if n == 0 { // of a group, say
		n = len(frames)
	}
	calls := make([]string, n)
	for i, f := range frames[:n] {
		calls[i] = callText(f)
	}
	return calls
}

// callText is a call as the log has it. The name of the function begins with the path of its package, so that of the file can do without.
func callText(f runtime.Frame) string {
	return fmt.Sprintf("%s(%s:%d)", f.Function, path.Base(f.File), f.Line)
}

// firstOfUser returns the first call that is the user's: neither ours nor one of the standard library.
func firstOfUser(frames []runtime.Frame) string {
	for _, f := range frames {
		if !isOurs(f.Function) && !isStandardFrame(f, sourceTree(), mainModule()) {
			return callText(f)
		}
	}
	return ""
}

// ownPackage is what the names of our functions begin with.
var ownPackage = reflect.TypeFor[Task]().PkgPath() + "."

func isOurs(function string) bool { return strings.HasPrefix(function, ownPackage) }

// isStandardFrame reports whether f is a function of the standard library, whose files are in src, or of which that is not known, in a
// program of the module main.
func isStandardFrame(f runtime.Frame, src, main string) bool {
	if src != "" {
		return strings.HasPrefix(f.File, src)
	}
	// What is left to go by are the paths of packages: those of the standard library have no dot in their first element.
	first, _, isPath := strings.Cut(f.Function, "/")
	if isPath && strings.Contains(first, ".") || strings.HasPrefix(f.Function, "main.") {
		return false
	}
	return main == "" || !strings.HasPrefix(f.Function, main+".") && !strings.HasPrefix(f.Function, main+"/")
}

// sourceTree is where the standard library's files were when it was compiled: "/usr/local/go/src/". It is empty after a build with
// -trimpath.
var sourceTree = sync.OnceValue(func() string {
	const file = "errors/errors.go"
	f := runtime.FuncForPC(reflect.ValueOf(errors.New).Pointer())
	name, _ := f.FileLine(f.Entry())
	return strings.TrimSuffix(name, file)
})

// mainModule is the path of the module that the program is of; empty if that is not known.
var mainModule = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	return info.Main.Path
})
