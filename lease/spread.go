package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// A Spread has many tasks run, each on one of the replicas: as evenly as chance has it, and moved as little as can be when replicas join
// and leave. Each task has a lease, so that no two replicas run it at the same time; a name that moves is started at its new place when the
// body has returned at its old one. Make it with [NewSpread].
//
// All replicas compute the same placement, from the sessions that the engine shows, and tell each other nothing. A replica claims what is
// placed on it and free, and only then starts a task. So a waiting task for each name on each replica is not needed; and an engine is
// asked as often for 10,000 names as for one.
//
// Its methods may be called by several goroutines at once.
type Spread struct {
	engine *Engine
	body   func(name string) taskmanager.TaskFunc
	opts   []taskmanager.TaskOption

	// Has one if the names, the sessions, what is claimed or a task has changed.
	changed chan struct{}

	// The engine's mu guards what follows.

	names   []string // all, of all replicas; replaced, never changed
	running bool     // a run of the group executes
	wants   wants
}

// wants are the names that are placed here, and have no task that holds them: they are to be claimed, and kept until one does. The engine's
// mu guards them.
type wants struct {
	names map[string]struct{}
	round []string // those that are still to be claimed in this round
}

// placing is the name of the task in the group that starts the others.
const placing = "spread"

// claimMost is how many names are claimed by one call at most, so that each call ends within a beat.
const claimMost = 500

// NewSpread makes a Spread on an engine, which is for it alone from then on: whoever has a session in the pool is given names, so all
// replicas of the pool must run the same one. Other leases need an engine with another pool.
//
// body makes the body of the task of a name, each time that the name comes to this replica. It should not block: the others wait for it.
// A panic is a failure of that task, and so is nil. opts are for each task. WithLease is not for them: each task
// has the lease of its name.
//
// It returns an OptionError if New has not made e, or body is nil, and an error if the engine has a Spread, or other leases are wanted or held.
func NewSpread(e *Engine, body func(name string) taskmanager.TaskFunc, opts ...taskmanager.TaskOption) (*Spread, error) {
	switch {
	case e == nil || e.store == nil:
		return nil, &taskmanager.OptionError{Option: "e", Reason: "must be made by New"}
	case body == nil:
		return nil, &taskmanager.OptionError{Option: "body", Reason: "must not be nil"}
	}
	s := &Spread{engine: e, body: body, opts: slices.Clone(opts), changed: make(chan struct{}, 1)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.spread != nil || len(e.groups) > 0 || len(e.sessions) > 0 {
		return nil, errors.New("lease: the engine is in use: a Spread needs one of its own, and a pool of its own")
	}
	e.spread = s
	return s, nil
}

// SetNames sets the names of all tasks, of whichever replica; there are none before. Where replicas have different names for a while, one
// that is placed on a replica that doesn't know it is run by none. What is not in names any more is stopped. It doesn't wait for that.
//
// It returns an OptionError, and has changed nothing, if a name can't be that of a lease (see [CheckName]), is given twice, or is
// "spread", which is the task that starts the others.
func (s *Spread) SetNames(names []string) error {
	names = slices.Clone(names)
	seen := make(map[string]struct{}, len(names))
	for _, name := range names {
		reason := ""
		if err := CheckName(name); err != nil {
			reason = err.Error()
		} else if _, twice := seen[name]; twice {
			reason = "must not be given twice"
		} else if name == placing {
			reason = "is the task that starts the others"
		}
		if reason != "" {
			return &taskmanager.OptionError{Option: "names", Value: clip(name), Reason: reason}
		}
		seen[name] = struct{}{}
	}
	s.engine.mu.Lock()
	s.names = names
	s.engine.mu.Unlock()
	kick(s.changed)
	return nil
}

// Group returns the body of a task whose tasks are those that are placed on this replica: a [taskmanager.Group], of opts. The replica takes
// part as long as it runs.
//
// The task "spread" of the group starts and stops the others. To stop or pause it by hand is to have the replica take part no longer, until it
// is restarted or resumed. A task that completes or is given up rests, and is not run elsewhere, until its name moves; one with WithCooldown
// goes on by itself. The line "task has completed, and runs again on the next replica that gets its lease" in the log means that replica to
// which the name moves. When the session was lost, all tasks are stopped, and started again with a new one. A move stops a task as StopTask
// does, by "spread". Options of tasks that are refused are why each of them is given up. If [Engine.Close]
// is called, or another run of the Spread executes, the group fails.
func (s *Spread) Group(opts ...taskmanager.Option) taskmanager.TaskFunc {
	return taskmanager.Group(func(m *taskmanager.Manager) error {
		_, err := m.StartTask(placing, func(ctx context.Context) error { return s.run(ctx, m) },
			taskmanager.WithCritical(), taskmanager.WithRestart(taskmanager.RestartNever))
		return err
	}, opts...)
}

// run has the tasks of this replica run in m, until ctx ends.
func (s *Spread) run(ctx context.Context, m *taskmanager.Manager) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	p := placer{
		spread: s, manager: m, placement: newPlacement(),
		tasks: make(map[string]*taskmanager.Task), leaving: make(map[string]*taskmanager.Task),
	}
	for t := range m.Tasks() {
		if t.Name() != placing {
			p.stop(t.Name(), t) // of the run before, if somebody restarts or resumes this task alone
		}
	}
	for {
		if err := p.update(ctx); err != nil {
			return err
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			p.abandon()
			return nil
		}
	}
}

// begin has a session, whose replica takes part.
func (s *Spread) begin() error {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return ErrClosed
	case s.running:
		return errors.New("lease: the Spread runs already")
	}
	s.running = true
	e.ensureLocked(time.Now())
	return nil
}

// end has the replica take part no longer. What is held goes on until it is released.
func (s *Spread) end() {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	s.running = false
	s.wantLocked(nil)
	e.retireLocked()
}

// membersLocked returns the session of this replica, and all that take part, as it has seen them; without one that has seen them, it returns
// an error if that is so because the engine does not answer.
func (e *Engine) membersLocked() (self string, members []string, err error) {
	s := e.current
	switch {
	case s == nil:
		return "", nil, nil
	case !s.settled:
		return "", nil, s.beatErr
	}
	return s.id, s.members, cmp.Or(s.beatErr, s.claimErr)
}

// placedLease returns the lease of a name of the Spread.
func (e *Engine) placedLease(name string) Lease { return Lease{engine: e, name: name, placed: true} }

// wantLocked sets which names are to be claimed and kept.
func (s *Spread) wantLocked(names map[string]struct{}) {
	var dropped []string
	for name := range s.wants.names {
		if _, ok := names[name]; !ok {
			dropped = append(dropped, name)
		}
	}
	s.wants = wants{names: names, round: s.wants.round}
	if session := s.engine.current; session != nil {
		session.trimLocked(dropped)
	}
}

// A placer starts and stops the tasks of a run.
type placer struct {
	spread    *Spread
	manager   *taskmanager.Manager
	placement *placement
	sessions  []string // that placement has
	names     []string // likewise
	self      string   // the session of this replica; empty: it has none that takes part
	here      []string // the names that are placed here

	tasks   map[string]*taskmanager.Task // that are placed here, and have been started; those that have ended rest
	leaving map[string]*taskmanager.Task // that are being stopped
}

// update does what there is to do.
func (p *placer) update(ctx context.Context) error {
	s, e := p.spread, p.spread.engine
	e.mu.Lock()
	closed, names := e.closed, s.names
	self, sessions, unanswered := e.membersLocked()
	e.mu.Unlock()
	if closed {
		return ErrClosed
	}
	p.place(self, sessions, names)
	for name, t := range p.tasks {
		if !p.has(name) {
			p.stop(name, t)
		}
	}
	for _, name := range p.want() {
		if ctx.Err() != nil {
			break
		}
		if err := p.start(ctx, name); err != nil && ctx.Err() == nil { // else it says so because the group is to stop
			return err
		}
	}
	switch {
	case unanswered != nil:
		taskmanager.SetStatus(ctx, "the engine has failed: %s", oneLine(unanswered))
	case self == "":
		taskmanager.SetStatus(ctx, "joins the other replicas")
	default:
		taskmanager.SetStatus(ctx, "has %d of the %d names that are placed here; names: %d, replicas: %d", len(p.tasks), len(p.here), len(names), len(sessions))
	}
	return nil
}

// place computes the placement.
func (p *placer) place(self string, sessions, names []string) {
	same := self == p.self && slices.Equal(sessions, p.sessions)
	if !slices.Equal(sessions, p.sessions) {
		p.placement.setSessions(sessions)
	}
	if !slices.Equal(names, p.names) {
		p.placement.setNames(names)
		same = false
	}
	if same {
		return
	}
	p.self, p.sessions, p.names = self, sessions, names
	p.here = nil
	for _, name := range names {
		if p.has(name) {
			p.here = append(p.here, name)
		}
	}
	if e := p.spread.engine; len(sessions) > 0 {
		e.logger.Info("leases are spread anew", "replica", e.replica, "replicas", len(sessions), "names", len(names), "here", len(p.here))
	}
}

// has reports whether a name is placed here.
func (p *placer) has(name string) bool { return p.self != "" && p.placement.session(name) == p.self }

// want has those names claimed that are placed here and have no task, and returns those that have been.
func (p *placer) want() (claimed []string) {
	for name, t := range p.leaving {
		select {
		case <-t.Done():
			delete(p.leaving, name)
		default:
		}
	}
	e, s := p.spread.engine, p.spread
	e.mu.Lock()
	defer e.mu.Unlock()
	session := e.current
	wanted := make(map[string]struct{})
	grown := false
	for _, name := range p.here {
		t := p.tasks[name]
		_, known := s.wants.names[name]
		switch {
		case p.leaving[name] != nil: // it came back meanwhile
		case t != nil && known && !t.State().Ended():
			wanted[name] = struct{}{} // the task has yet to acquire it
		case t == nil:
			wanted[name] = struct{}{}
			grown = grown || !known
			if session != nil && session.id == p.self && session.claimedLocked([]string{name}) != nil {
				claimed = append(claimed, name)
			}
		}
	}
	s.wantLocked(wanted)
	if grown && session != nil {
		kick(session.claim)
	}
	return claimed
}

// start starts the task of a name. One that can't be started as it is to be is given up at once, and rests: the others go on.
func (p *placer) start(ctx context.Context, name string) error {
	s := p.spread
	body, err := s.make(ctx, name)
	if err != nil {
		body = func(ctx context.Context) error { // it has another chance at each run
			again, failed := s.make(ctx, name)
			if failed != nil {
				return failed
			}
			return again(ctx)
		}
	}
	t, refused := p.manager.StartTask(name, body, append(slices.Clone(s.opts), taskmanager.WithLease(s.engine.placedLease(name)))...)
	if refused != nil {
		t, err = p.manager.StartTask(name, func(context.Context) error { return refused }, taskmanager.WithRestart(taskmanager.RestartNever))
		if err != nil {
			return fmt.Errorf("lease: %q of the Spread: %w", name, err)
		}
	}
	p.tasks[name] = t
	return nil
}

// make makes the body of a name, by user code that may panic, or call runtime.Goexit, or not return before ctx ends.
func (s *Spread) make(ctx context.Context, name string) (taskmanager.TaskFunc, error) {
	answers := apart("the func of NewSpread", fmt.Sprintf(" for %q", name), func() (taskmanager.TaskFunc, error) {
		body := s.body(name)
		if body == nil {
			return nil, fmt.Errorf("lease: the func of NewSpread has returned nil for %q", name)
		}
		return body, nil
	})
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// abandon stops all tasks, if this one was stopped or paused by hand, alone: nobody would move them any more.
func (p *placer) abandon() {
	_, err := p.manager.StartTask(placing, func(context.Context) error { return nil }) // which is never free here
	if errors.Is(err, taskmanager.ErrManagerClosed) {
		return // the group ends, and its tasks with it
	}
	for name, t := range p.tasks {
		p.stop(name, t)
	}
}

// stop stops the task of a name that is placed elsewhere. The lease is released when the body has returned.
func (p *placer) stop(name string, t *taskmanager.Task) {
	delete(p.tasks, name)
	if t.Forget() == nil {
		return // it rested
	}
	p.leaving[name] = t
	changed := p.spread.changed
	go func() {
		_ = t.Stop(taskmanager.AskedBy(context.Background(), placing)) // which the Manager logs
		<-t.Done()
		kick(changed)
	}()
}
