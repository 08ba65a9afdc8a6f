package notify

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-taskmanager/taskmanager"
)

// maxFrames is how many calls of a stack are shown.
const maxFrames = 8

// stackOf returns the stack that err carries, of a panic or of a task that is stuck, with a line
// for each function and an indented one for its place in the source.
func stackOf(err error) (stack string) {
	defer func() { _ = recover() }() // err's own As and Unwrap methods may panic
	var (
		panicked *taskmanager.PanicError
		overdue  *taskmanager.OverdueError
		stuck    *taskmanager.StopTimeoutError
	)
	switch {
	case errors.As(err, &panicked):
		return firstFrames(string(panicked.Stack()))
	case errors.As(err, &overdue):
		return firstFrames(readable(string(overdue.Stack)))
	case errors.As(err, &stuck):
		return firstFrames(readable(string(stuck.Stack)))
	}
	return ""
}

// readable turns a goroutine profile into what stacks look like elsewhere. Of the lines that are
// not about a call, only the number of goroutines stays.
func readable(profile string) string {
	var b strings.Builder
	for line := range strings.Lines(profile) {
		line = strings.TrimSuffix(line, "\n")
		if count, _, ok := strings.Cut(line, " @ "); ok {
			noun := "goroutines"
			if count == "1" {
				noun = "goroutine"
			}
			fmt.Fprintf(&b, "%s %s:\n", count, noun)
			continue
		}
		// "#", the address, the function with an offset, any number of empty columns, the place.
		columns := strings.FieldsFunc(line, func(r rune) bool { return r == '\t' })
		if len(columns) < 4 {
			continue
		}
		function := columns[2]
		if plus := strings.LastIndex(function, "+0x"); plus >= 0 {
			function = function[:plus]
		}
		fmt.Fprintf(&b, "%s(...)\n\t%s\n", function, columns[3])
	}
	return b.String()
}

// firstFrames returns the stack up to its call number maxFrames, and says how many there are more.
func firstFrames(stack string) string {
	var (
		b      strings.Builder
		frames int
	)
	for line := range strings.Lines(stack) {
		if strings.HasPrefix(line, "\t") {
			frames++
		} else if frames >= maxFrames {
			continue
		}
		if frames <= maxFrames {
			b.WriteString(line)
		}
	}
	if more := frames - maxFrames; more > 0 {
		fmt.Fprintf(&b, "… and %d calls more", more)
	}
	return b.String()
}
