package taskmanager

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// A Spec says of a task that it is wanted; see [Manager.Reconcile].
type Spec struct {
	Name    string
	Body    TaskFunc
	Options []TaskOption
	// Version tells whether the task is still as wanted: Body and Options can't be compared. A hash of the
	// configuration that they are made from will do. That of a task that was started, or replaced, by hand
	// is empty.
	Version string
}

// Changes are what a call of [Manager.Reconcile] has done.
type Changes struct {
	Started   []string // names that nobody had, or whose tasks had been stopped; in the order of the specs
	Replaced  []string // likewise, of tasks with another Version
	Stopped   []string // in alphabetical order
	Unchanged int      // tasks that are as wanted
}

// Reconcile makes the tasks whose names begin with prefix those of specs. It starts what is missing,
// replaces what has another [Spec.Version], as [Manager.ReplaceTask] does, and stops what is in none of
// specs, be it that it was started by hand. What has the same Version is left alone: also if it is
// paused, has completed, was given up or is stuck. One that was stopped is started again, with its
// [Task]. One that is being replaced, by hand or since a call that was canceled, is replaced by the
// spec instead; one that is still being stopped can't be, and is an error: call again when it has
// stopped. Tasks of other names are never touched.
//
// First it reads all of specs, on the goroutine of the caller: until then nothing has been changed, so
// a source that panics changes nothing, and one that fails can say so by canceling ctx. What a source
// leaves out when it just ends early is not wanted. Then it refuses those that can't be served: without
// a body, with a name that is no name, does not begin with prefix or is given twice, with an option that
// is refused, or with dependencies that make a cycle. Tasks of these names are left as they are, and
// the others are dealt with. At last it stops what is not wanted, all at once, those that depend on
// others first; and when that is over it starts and replaces, all at once.
//
// It returns when the tasks that are to be stopped or replaced have returned, or at their deadlines. The
// error joins that of each spec that was refused, an [*OptionError] wrapped with the name; those of
// StopTask and ReplaceTask; and the cause of ctx if that is done: what has not begun by then is left,
// and the next call does it. Changes are those that have been made, in either case.
//
// It returns an OptionError, and has done nothing, if ctx or specs is nil or prefix is not what a name
// can begin with, an empty one included; and otherwise [ErrManagerClosed] if the Manager is closed. One
// call of a Manager is at work at a time, after it has read its specs; the others wait for it, or for the
// end of ctx. A task of them may call it: if it is to be stopped or replaced by that, it is asked, and
// not waited for.
func (m *Manager) Reconcile(ctx context.Context, prefix string, specs iter.Seq[Spec]) (Changes, error) {
	if err := m.checkCall(ctx); err != nil {
		return Changes{}, err
	}
	if reason := checkName(prefix); reason != "" {
		return Changes{}, &OptionError{Option: "prefix", Value: prefix, Reason: reason}
	}
	if specs == nil {
		return Changes{}, &OptionError{Option: "specs", Value: nil, Reason: "must not be nil"}
	}
	wanted := slices.Collect(specs)
	if err := m.beginReconcile(ctx); err != nil {
		return Changes{}, err
	}
	defer m.endReconcile()
	r := reconciliation{manager: m, prefix: prefix, names: make(map[string]int, len(wanted))}
	r.compare(wanted)
	if ctx = r.stopUnwanted(ctx); r.hasTime(ctx) {
		m.install(ctx, r.replacements)
		r.conclude(ctx)
	}
	return r.changes, joinErrors(r.errs)
}

// beginReconcile waits for the turn of a call of Reconcile.
func (m *Manager) beginReconcile(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.mu.Lock()
		if m.closedLocked() {
			m.mu.Unlock()
			return ErrManagerClosed
		}
		other := m.reconciling
		if other == nil {
			m.reconciling = make(chan struct{})
			m.mu.Unlock()
			return nil
		}
		m.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
		}
	}
}

func (m *Manager) endReconcile() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.reconciling)
	m.reconciling = nil
}

// A reconciliation is one call of Reconcile.
type reconciliation struct {
	manager      *Manager
	prefix       string
	names        map[string]int // how often there is a spec of that name
	replacements []*replacement
	changes      Changes
	errs         []error
}

// compare finds out what is to be done. It calls the user's options, and changes nothing.
func (r *reconciliation) compare(wanted []Spec) {
	for i := range wanted {
		r.names[wanted[i].Name]++
	}
	for i := range wanted {
		if err := r.compareOne(&wanted[i]); err != nil {
			r.errs = append(r.errs, fmt.Errorf("%w: %q", err, wanted[i].Name))
		}
	}
}

func (r *reconciliation) compareOne(s *Spec) error {
	switch n := r.names[s.Name]; {
	case n < 0:
		return nil // it has been said of the first of them
	case n > 1:
		r.names[s.Name] = -n
		return &OptionError{Option: "specs", Value: s.Name, Reason: "has the name more than once"}
	case !strings.HasPrefix(s.Name, r.prefix):
		return &OptionError{Option: "name", Value: s.Name, Reason: fmt.Sprintf("does not begin with the prefix %q", r.prefix)}
	case s.Body == nil:
		return &OptionError{Option: "body", Value: nil, Reason: "must not be nil"}
	}
	t, ok := r.manager.Lookup(s.Name)
	starts := !ok || t.State() == StateStopped
	if !starts && t.hasVersion(s.Version) {
		r.changes.Unchanged++
		return nil
	}
	task, err := r.manager.prepare(s.Name, s.Body, s.Options, s.Version)
	if err != nil {
		return err
	}
	r.replacements = append(r.replacements, &replacement{task: task, starts: starts})
	return nil
}

// hasVersion reports whether the task has that version, and keeps it: it is neither being stopped nor replaced. One that is stuck is
// left alone.
func (t *Task) hasVersion(version string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.machine.phase
	return t.config().version == version && p != stopping && p != stopped && p != replacing && p != replacingStuck
}

// stopUnwanted stops the tasks that are in no spec, and returns the context for what comes then: if one of them has called, its own ends by
// that.
func (r *reconciliation) stopUnwanted(ctx context.Context) context.Context {
	var unwanted []*Task
	for _, t := range r.manager.allTasks() {
		if strings.HasPrefix(t.name, r.prefix) && r.names[t.name] == 0 && !t.State().Ended() {
			unwanted = append(unwanted, t)
		}
	}
	if len(unwanted) == 0 {
		return ctx
	}
	_, err := r.manager.stopTasks(ctx, unwanted, stopRequest)
	r.errs = append(r.errs, err)
	for _, t := range unwanted {
		if t.State() != StateStuck {
			r.changes.Stopped = append(r.changes.Stopped, t.name)
		}
	}
	slices.Sort(r.changes.Stopped)
	if slices.ContainsFunc(tasksOf(ctx), func(t *Task) bool { return slices.Contains(unwanted, t) }) {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// hasTime reports whether there is time left for what is to be started and replaced.
func (r *reconciliation) hasTime(ctx context.Context) bool {
	n := len(r.replacements)
	if n > 0 && ctx.Err() != nil {
		r.errs = append(r.errs, fmt.Errorf("taskmanager: %d tasks have not been started or replaced: %w", n, context.Cause(ctx)))
		return false
	}
	return n > 0
}

// conclude notes what has come of the replacements.
func (r *reconciliation) conclude(ctx context.Context) {
	unfinished := 0
	for _, p := range r.replacements {
		name := p.task.name
		switch {
		case p.unfinished:
			unfinished++
		case p.isCyclic():
			r.errs = append(r.errs, fmt.Errorf("%w: %q", p.err, name))
		case p.err != nil:
			r.errs = append(r.errs, p.err)
		case p.starts:
			r.changes.Started = append(r.changes.Started, name)
		default:
			r.changes.Replaced = append(r.changes.Replaced, name)
		}
	}
	if unfinished > 0 {
		r.errs = append(r.errs, fmt.Errorf("taskmanager: the replacements of %d tasks go on: %w", unfinished, context.Cause(ctx)))
	}
}
