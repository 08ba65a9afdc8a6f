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

// A Task is one of a manager, which its id tells from the others of the process.
type Task struct{ Manager, Name string }

// Stacks returns where the goroutines with the labels of some tasks are: paragraphs of a goroutine
// profile in its text form. A task without goroutines is not in it. All goroutines of the process
// are looked at, once for all tasks, and not at all for none.
func Stacks(tasks ...Task) map[Task][]byte {
	if len(tasks) == 0 {
		return nil
	}
	f := newFilter(tasks)
	_ = pprof.Lookup("goroutine").WriteTo(f, 1) // f returns no errors
	return f.stacks()
}

// A filter picks the goroutines of some tasks out of a goroutine profile in its text form:
// paragraphs of a header line, a line "# labels: {"task":"a", "taskmanager":"1"}" where there are
// labels, and a line for each call.
type filter struct {
	wanted   map[Task]struct{}
	managers map[string]struct{} // of these: most goroutines may be those of another one
	found    map[Task][]byte

	line      []byte // begun, not ended
	paragraph []byte
	owner     Task // of the paragraph, once its labels were read
	owned     bool // by a wanted task
}

func newFilter(tasks []Task) *filter {
	f := &filter{wanted: make(map[Task]struct{}, len(tasks)), managers: make(map[string]struct{}), found: make(map[Task][]byte)}
	for _, t := range tasks {
		f.wanted[t] = struct{}{}
		f.managers[t.Manager] = struct{}{}
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
func (f *filter) stacks() map[Task][]byte {
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
func (f *filter) ownerOf(labels string) (t Task, wanted bool) {
	manager, ok := labelIn(labels, ManagerLabel)
	if !ok {
		manager = firstManager
	}
	if _, ok = f.managers[manager]; !ok {
		return t, false
	}
	name, ok := labelIn(labels, TaskLabel)
	if !ok {
		return t, false
	}
	t = Task{manager, name}
	_, wanted = f.wanted[t]
	return t, wanted
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
