// Package goroutines finds where the goroutines of a task are, by the pprof labels that they bear.
package goroutines

import (
	"bytes"
	"runtime/pprof"
	"strconv"
	"strings"
)

// The keys of the labels. Two managers may have tasks of the same name. The first one of a process,
// most often the only one, does without the second label, which takes memory for each task.
const (
	TaskLabel    = "task"
	ManagerLabel = "taskmanager"

	firstManager = "1"
)

// Labels returns the labels of the goroutines of a task. The manager's id tells it from the others
// of the process, which are counted from "1".
func Labels(manager, task string) pprof.LabelSet {
	if manager == firstManager {
		return pprof.Labels(TaskLabel, task)
	}
	return pprof.Labels(TaskLabel, task, ManagerLabel, manager)
}

// Stacks returns, by the names of some tasks of a manager, where the goroutines with their labels
// are: paragraphs of a goroutine profile in its text form. A task without goroutines is not in it.
// All goroutines of the process are looked at, once for all tasks, and not at all for none.
func Stacks(manager string, tasks ...string) map[string][]byte {
	if len(tasks) == 0 {
		return nil
	}
	f := newFilter(manager, tasks)
	_ = pprof.Lookup("goroutine").WriteTo(f, 1) // f returns no errors
	return f.stacks()
}

// A filter picks the goroutines of some tasks out of a goroutine profile in its text form:
// paragraphs of a header line, a line "# labels: {"task":"a", "taskmanager":"1"}" where there are
// labels, and a line for each call.
type filter struct {
	manager string
	wanted  map[string]struct{} // the names of the tasks
	found   map[string][]byte   // by these names

	line      []byte // begun, not ended
	paragraph []byte
	owner     string // of the paragraph, once its labels were read
	owned     bool   // by a wanted task
}

func newFilter(manager string, tasks []string) *filter {
	f := &filter{manager: manager, wanted: make(map[string]struct{}, len(tasks)), found: make(map[string][]byte)}
	for _, task := range tasks {
		f.wanted[task] = struct{}{}
	}
	return f
}

func (f *filter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		f.line = append(f.line, line...)
		if !ended {
			return n, nil
		}
		f.endLine()
		p = rest
	}
}

func (f *filter) endLine() {
	if len(f.line) == 0 {
		f.flush()
		return
	}
	if bytes.HasPrefix(f.line, []byte("goroutine profile: ")) { // of the whole, in its first paragraph
		f.line = f.line[:0]
		return
	}
	if labels, ok := bytes.CutPrefix(f.line, []byte("# labels: ")); ok {
		f.owner, f.owned = f.ownerOf(string(labels))
	}
	f.paragraph = append(append(f.paragraph, f.line...), '\n')
	f.line = f.line[:0]
}

// stacks returns what has been found when all of the profile is written. Its last paragraph may
// end without an empty line.
func (f *filter) stacks() map[string][]byte {
	f.flush()
	return f.found
}

// flush ends a paragraph.
func (f *filter) flush() {
	if f.owned {
		f.found[f.owner] = append(f.found[f.owner], f.paragraph...)
	}
	f.owned, f.paragraph, f.line = false, f.paragraph[:0], f.line[:0]
}

// ownerOf finds the wanted task whose labels these are.
func (f *filter) ownerOf(labels string) (task string, wanted bool) {
	manager, ok := labelIn(labels, ManagerLabel)
	if !ok {
		manager = firstManager
	}
	task, ok = labelIn(labels, TaskLabel)
	if !ok || manager != f.manager {
		return "", false
	}
	_, wanted = f.wanted[task]
	return task, wanted
}

// labelIn returns the value of key in labels: {"key":"value", "another":"value"}. They are read one
// by one, because each of them may contain what looks like another.
func labelIn(labels, key string) (string, bool) {
	rest := strings.TrimPrefix(labels, "{")
	for {
		k, afterKey, ok := cutQuoted(rest)
		if !ok {
			return "", false
		}
		value, afterValue, ok := cutQuoted(strings.TrimPrefix(afterKey, ":"))
		if !ok || k == key {
			return value, ok
		}
		rest = strings.TrimPrefix(afterValue, ", ")
	}
}

// cutQuoted returns the text whose quoted form s begins with, and what follows that.
func cutQuoted(s string) (text, rest string, ok bool) {
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil {
		return "", "", false
	}
	text, err = strconv.Unquote(quoted)
	return text, s[len(quoted):], err == nil
}
