package taskmanager

import (
	"context"
	"fmt"
	"iter"
	"maps"
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
	Stopped   []string // those that have stopped by the return of the call, in alphabetical order
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
// the others are dealt with. At last it stops what is not wanted, those that depend on others first,
// and starts and replaces, all at the same time. A task that was given up and is not wanted is forgotten.
//
// It returns when the tasks that are to be stopped or replaced have returned, or at their deadlines. The
// error joins that of each spec that was refused, an [*OptionError] wrapped with the name; those of
// StopTask and ReplaceTask; and the cause of ctx if that is done: what has begun by then goes on, and
// the next call does what is left. One that is not wanted, was stopped before and is stuck is named
// without another wait. Changes are those that have been made, in either case.
//
// A task that has completed is known for as long as it is remembered: when more than [WithHistory] others
// have ended since, the next call starts it again. Raise WithHistory if there are many.
//
// It returns an OptionError, and has done nothing, if ctx or specs is nil or prefix is not what a name
// can begin with, an empty one included; and otherwise [ErrManagerClosed] if the Manager is closed. One
// call of a Manager is at work at a time, after it has read its specs; the others wait for it, or for the
// end of ctx. Options are called before, while it is the turn of another call, or of none. A task of
// them may call it: if it is to be stopped or replaced by that, it is asked, and not waited for.
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
	r := reconciliation{manager: m, prefix: prefix}
	for s := range specs {
		r.wishes = append(r.wishes, wish{Spec: s})
	}
	r.check()
	for {
		if err := m.beginReconcile(ctx); err != nil {
			return Changes{}, joinErrors(append(r.errs, err))
		}
		if r.compare() {
			break
		}
		m.endReconcile()
		r.prepare()
	}
	defer m.endReconcile()
	r.refuseCycles()
	if ctx.Err() != nil {
		r.errs = append(r.errs, fmt.Errorf("taskmanager: nothing has been started, replaced or stopped: %w", context.Cause(ctx)))
		return r.changes, joinErrors(r.errs)
	}
	r.apply(ctx)
	r.conclude(ctx)
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
	wishes       []wish
	names        map[string]int // how often there is a spec of that name
	replacements []*replacement
	changes      Changes
	errs         []error
}

// A wish is a spec, and what has come of it.
type wish struct {
	Spec
	needed  bool  // the task is, as far as was known when it was compared
	task    *Task // prepared outside of the turn
	err     error // why it is refused
	dropped bool  // likewise, which is said of another one
}

// check refuses those that can't be served, whatever tasks there are.
func (r *reconciliation) check() {
	r.names = make(map[string]int, len(r.wishes))
	for i := range r.wishes {
		r.names[r.wishes[i].Name]++
	}
	said := make(map[string]bool)
	for i := range r.wishes {
		w := &r.wishes[i]
		switch {
		case r.names[w.Name] > 1:
			w.dropped, said[w.Name] = said[w.Name], true
			w.err = &OptionError{Option: "specs", Value: w.Name, Reason: "has the name more than once"}
		case !strings.HasPrefix(w.Name, r.prefix):
			w.err = &OptionError{Option: "name", Value: w.Name, Reason: fmt.Sprintf("does not begin with the prefix %q", r.prefix)}
		case w.Body == nil:
			w.err = &OptionError{Option: "body", Value: nil, Reason: "must not be nil"}
		}
	}
}

// compare finds out what is to be done, and changes nothing. It reports whether all is prepared that is needed.
func (r *reconciliation) compare() (prepared bool) {
	r.changes, r.replacements, r.errs, prepared = Changes{}, nil, nil, true
	for i := range r.wishes {
		w := &r.wishes[i]
		if w.dropped {
			continue
		}
		if w.err != nil {
			r.errs = append(r.errs, fmt.Errorf("%w: %q", w.err, w.Name))
			continue
		}
		t, ok := r.manager.Lookup(w.Name)
		starts := !ok || t.State() == StateStopped
		if !starts && t.hasVersion(w.Version) {
			r.changes.Unchanged++
			continue
		}
		w.needed = true
		prepared = prepared && w.task != nil
		r.replacements = append(r.replacements, &replacement{task: w.task, starts: starts})
	}
	return prepared
}

// prepare makes the tasks that are needed. It calls the user's options, which may hang, or call Reconcile: so it is not the turn of this
// call meanwhile.
func (r *reconciliation) prepare() {
	for i := range r.wishes {
		if w := &r.wishes[i]; w.needed && w.task == nil && w.err == nil {
			w.task, w.err = r.manager.prepare(w.Name, w.Body, w.Options, w.Version)
		}
	}
}

// hasVersion reports whether the task has that version, and keeps it: it is neither being stopped nor replaced. One that is stuck
// by a stop is left alone.
func (t *Task) hasVersion(version string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.machine.phase
	return t.config().version == version && p != stopping && p != stopped && pendingIn[p] != replaceRequest
}

// refuseCycles drops the replacements that are part of a cycle by what all are to depend on.
func (r *reconciliation) refuseCycles() {
	configs := make(map[string]*taskConfig, len(r.replacements))
	depends := false
	for _, p := range r.replacements {
		c := p.task.config()
		configs[p.task.name] = c
		depends = depends || len(c.dependsOn) > 0
	}
	if !depends {
		return
	}
	dependsOn := func(name string) []string {
		if c := configs[name]; c != nil {
			return c.dependsOn
		}
		if t, ok := r.manager.Lookup(name); ok && !t.State().Ended() && !r.isUnwanted(t) {
			return t.config().dependsOn
		}
		return nil
	}
	cyclic := findCycles(maps.Keys(configs), dependsOn)
	within := func(name string) []string {
		if cyclic[name] {
			return dependsOn(name)
		}
		return nil
	}
	r.replacements = slices.DeleteFunc(r.replacements, func(p *replacement) bool {
		name := p.task.name
		if cyclic[name] {
			r.errs = append(r.errs, fmt.Errorf("%w: %q", cycleError(name, configs[name], within), name))
		}
		return cyclic[name]
	})
}

func (r *reconciliation) isUnwanted(t *Task) bool {
	return strings.HasPrefix(t.name, r.prefix) && r.names[t.name] == 0
}

// apply stops what is not wanted, and starts and replaces at the same time: a body that does not return holds up nobody else.
func (r *reconciliation) apply(ctx context.Context) {
	m := r.manager
	var unwanted, stuckTasks []*Task
	for _, t := range m.allTasks() {
		switch {
		case !r.isUnwanted(t):
		case t.State() == StateFailed:
			_ = t.Forget() // unless it was revived meanwhile
		case t.isStuckForGood():
			stuckTasks = append(stuckTasks, t)
		case !t.State().Ended():
			unwanted = append(unwanted, t)
		}
	}
	ctx, cancel := r.detach(ctx, unwanted)
	defer cancel()
	install := func() {
		if len(r.replacements) > 0 {
			m.install(ctx, r.replacements)
		}
	}
	if len(unwanted) == 0 {
		install()
	} else {
		_, err := m.stopTasksWhile(ctx, unwanted, stopRequest, install)
		r.errs = append(r.errs, err)
	}
	for _, t := range unwanted {
		if t.State() == StateStopped {
			r.changes.Stopped = append(r.changes.Stopped, t.name)
		}
	}
	slices.Sort(r.changes.Stopped)
	if len(r.changes.Stopped) > 0 && ctx.Err() == nil {
		r.installCyclic(ctx)
	}
	for _, t := range stuckTasks {
		r.errs = append(r.errs, t.refusal(replaceRequest))
	}
}

// installCyclic tries those again that made a cycle by way of a task that has stopped since.
func (r *reconciliation) installCyclic(ctx context.Context) {
	var cyclic []*replacement
	for _, p := range r.replacements {
		if p.isCyclic() {
			cyclic = append(cyclic, p)
		}
	}
	if len(cyclic) > 0 {
		r.manager.install(ctx, cyclic)
	}
}

// detach returns the context to wait with: if one of the tasks that are stopped or replaced has called, its own ends by that.
func (r *reconciliation) detach(ctx context.Context, unwanted []*Task) (context.Context, context.CancelFunc) {
	ends := func(t *Task) bool {
		return slices.Contains(unwanted, t) || slices.ContainsFunc(r.replacements, func(p *replacement) bool {
			return t.config().manager == r.manager && t.name == p.task.name
		})
	}
	if !slices.ContainsFunc(tasksOf(ctx), ends) {
		return ctx, func() {}
	}
	return untilDeadline(ctx)
}

// isStuckForGood reports whether the task is stuck, and will have stopped when its body returns.
func (t *Task) isStuckForGood() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.machine.phase == stuck
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
		what := "the replacement of a task goes on"
		if unfinished > 1 {
			what = fmt.Sprintf("the replacements of %d tasks go on", unfinished)
		}
		r.errs = append(r.errs, fmt.Errorf("taskmanager: %s: %w", what, context.Cause(ctx)))
	}
}
