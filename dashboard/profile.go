package dashboard

import "strings"

// readableStack is a part of a goroutine profile in its text form, as [taskmanager.StopTimeoutError] has it, in the form of a panic's stack:
// a line for each function, and an indented one for its place in the source. What is in no such form is left as it is.
func readableStack(profile string) string {
	var b strings.Builder
	for line := range strings.Lines(profile) {
		count, _, begins := strings.Cut(line, " @ ")
		// "#	0x4995de	bufio.(*Reader).ReadString+0x1e			bufio/bufio.go:499"
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == '\t' || r == '\n' })
		switch {
		case begins && !strings.HasPrefix(line, "#"):
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(count + " goroutine")
			if count != "1" {
				b.WriteByte('s')
			}
			b.WriteString(":\n")
		case strings.HasPrefix(line, "# labels: "), strings.TrimSpace(line) == "":
		case len(fields) == 4 && fields[0] == "#":
			function := fields[2]
			if i := strings.LastIndex(function, "+0x"); i > 0 {
				function = function[:i]
			}
			b.WriteString(function + "\n\t" + fields[3] + "\n")
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}
