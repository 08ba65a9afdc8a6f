package taskmanager_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-taskmanager/taskmanager"
)

// Some tasks of the scripts are groups: their start starts one or two tasks, which obey as the others do. In the model each run of
// a group has a model of its own, for the Manager of that run, with the clock of the one around it. Names are paths there.
//
// Left out are: groups within groups, of which group_test.go has some; a start that fails or is asked to end, because nobody can
// tell whether what it has started has begun to run by then; calls of the inner Manager that are not about one
// task; and the cause of the group's own context, which Group does not show to anybody but to the tasks in it.

// localName is the last part of the path.
func localName(path string) string { return path[strings.LastIndex(path, "/")+1:] }

func localNames(paths []string) (names []string) {
	for _, path := range paths {
		names = append(names, localName(path))
	}
	return names
}

// bodyNames are those of all tasks that there may be. Those in a group come after it, so that what it can't do falls to them.
var bodyNames = func() (names []string) {
	for _, name := range modelNames {
		names = append(names, name, name+"/x", name+"/y")
	}
	return names
}()

// modelUnits are what the durations of the tasks differ by. No sum of a few of some is one of others.
var modelUnits = map[string]time.Duration{
	"a": 1, "b": 1000, "c": 1_000_000,
	"a/x": 41_351, "a/y": 419_831, "b/x": 67_619, "b/y": 577_757, "c/x": 90_583, "c/y": 733_751,
}

// A modelMember is a task of a group.
type modelMember struct {
	name string
	o    modelOptions
}

func (m modelMember) String() string { return fmt.Sprintf("%s: %v", m.name, m.o) }

func (o *modelOptions) isGroup() bool { return len(o.members) > 0 }

func (o *modelOptions) becomeGroup(members []modelMember) {
	o.members, o.every, o.deaf, o.farewell = members, 0, false, ""
}

// becomePlain undoes becomeGroup.
func (o *modelOptions) becomePlain() {
	if o.isGroup() {
		o.members, o.farewell = nil, "return"
	}
}

func drawMembers(rt *rapid.T, group string) (members []modelMember) {
	for _, name := range []string{group + "/x", group + "/y"}[:rapid.IntRange(1, 2).Draw(rt, "members")] {
		members = append(members, modelMember{name, drawMember(rt, name)})
	}
	if len(members) == 2 {
		switch rapid.IntRange(0, 3).Draw(rt, "who depends on the other one") {
		case 2:
			members[1].o.dependsOn = []string{members[0].name}
		case 3:
			members[0].o.dependsOn = []string{members[1].name}
		}
	}
	return members
}

func drawMember(rt *rapid.T, name string) modelOptions {
	o := drawOptions(rt, modelUnits[name])
	o.critical = rapid.Bool().Draw(rt, "vital")
	o.stopTimeout = rapid.SampledFrom([]time.Duration{2 * time.Second, time.Second, 4 * time.Second}).Draw(rt, "stop timeout") + 53*modelUnits[name]
	return o
}

// group returns the body of a group.
func (w *world) group(name string, o modelOptions) taskmanager.TaskFunc {
	return taskmanager.Group(func(m *taskmanager.Manager) error {
		w.mu.Lock()
		w.groups[name] = m
		w.mu.Unlock()
		for _, member := range o.members {
			if _, err := m.StartTask(localName(member.name), w.body(member.name, member.o), w.options(member.name, member.o)...); err != nil {
				return err
			}
		}
		return nil
	}, taskmanager.WithBackoffJitter(0), taskmanager.WithBackoffFactor(2))
}

// managerOf returns the Manager of the task: for one in a group, that of the group's latest run.
func (w *world) managerOf(name string) *taskmanager.Manager {
	group, _, within := strings.Cut(name, "/")
	if !within {
		return w.manager
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.groups[group]
}

// What there is to see of groups.
const (
	sawRestarted   = "a group that was restarted as a whole"
	sawStuck       = "a group that is stuck with its task"
	sawFailed      = "a group that has failed because of its critical task"
	sawNotReady    = "a group that waits for its task to be ready"
	sawOverdue     = "a group that was not ready in time"
	sawEnding      = "a group that waits for its tasks to stop, because a critical one is gone"
	sawLeftBehind  = "a group that has failed because of its stuck task"
	sawCompleted   = "a group that has completed with its critical task"
	sawPaused      = "a group that is paused"
	sawHandStopped = "a group whose critical task was stopped by hand"
)

// groupSights are as rareSights.
var groupSights = map[string]int{
	sawRestarted: 500, sawStuck: 500, sawFailed: 500, sawNotReady: 500, sawOverdue: 500, sawEnding: 500,
	sawPaused: 500, sawLeftBehind: 2000, sawCompleted: 2000, sawHandStopped: 2000,
}

// compareGroup is about what is seen of the group t besides what is seen of every task. s is its TaskStats.Group.
func (w *world) compareGroup(seen map[string]int, t *modelTask, s *taskmanager.ManagerStats) {
	require.Equal(w.t, t.group != nil, s != nil, "%s has statistics of a group", t.name)
	if s == nil {
		return
	}
	w.compareTasks(seen, t.group.model, w.managerOf(t.name+"/"), *s)
	running := t.state == taskmanager.StateRunning
	for what, is := range map[string]bool{
		sawRestarted:  running && t.counts.runs > 1 && len(t.restarts) > 0,
		sawStuck:      t.state == taskmanager.StateStuck && t.group.has(taskmanager.StateStuck),
		sawFailed:     t.state == taskmanager.StateFailed && t.lastErr&isGiveUp != 0,
		sawLeftBehind: t.state == taskmanager.StateFailed && t.group.has(taskmanager.StateStuck),
		sawCompleted:  t.state == taskmanager.StateCompleted,
		sawPaused:     t.state == taskmanager.StatePaused && !t.cooling,
		sawNotReady:   running && !t.group.closed && !t.group.isReady(),
		sawEnding:     running && t.group.closed,
		sawOverdue:    t.late&isNotReady != 0,
		sawHandStopped: running && !t.group.closed && slices.ContainsFunc(t.o.members, func(member modelMember) bool {
			within := t.group.tasks[member.name]
			return within.o.critical && within.state == taskmanager.StateStopped
		}),
	} {
		if is {
			seen[what]++
		}
	}
}

// A modelGroup is the model of one run of a group.
type modelGroup struct {
	*model              // of its Manager
	shutdown *modelCall // that ends the run; nil until it is to end
	judged   bool       // the shutdown has returned
	err      errorSet   // that of Run
	stuck    []string   // the tasks of its StopTimeoutErrors
}

// of returns the model in which the task of that path is, if there is such a one.
func (m *model) of(name string) *model {
	group, _, within := strings.Cut(name, "/")
	if t := m.tasks[group]; within && t != nil && t.group != nil {
		return t.group.model
	}
	return m
}

// isUntold reports whether the step is to be skipped: there is no such group, or what an earlier run has left behind would get in
// the way of the next one, in the eyes of this test: it knows bodies by their path.
func (m *model) isUntold(s step) bool {
	switch s.verb {
	case "start", "replace":
		if s.task.isGroup() && m.logMood == "hangs early" {
			return true // see hasGroups
		}
	case "stop", "restart", "pause", "resume", "trigger":
	case "restart failed":
		return slices.ContainsFunc(m.names, func(name string) bool {
			t := m.tasks[name]
			return t != nil && t.state == taskmanager.StateFailed && (t.group.isAlive() || m.isInCycle(name)) // who runs again first is chance
		})
	default:
		return false
	}
	if strings.Contains(s.name, "/") {
		return m.of(s.name) == m || s.verb == "replace" && m.of(s.name).tasks[s.name] == nil // the group does not know of it
	}
	t := m.tasks[s.name]
	return s.verb != "stop" && t != nil && t.state.Ended() && t.group.isAlive()
}

// isRaceToEnd reports whether the task would be critical, and complete, while another one of the group waits for just that: that
// one might begin before it hears that the group ends, or not.
func (m *model) isRaceToEnd(s step) bool {
	t := m.tasks[s.name]
	return m.inRun && s.verb == "return" && t.o.critical && slices.ContainsFunc(m.names, func(name string) bool {
		other := m.tasks[name]
		return other != nil && other.state == taskmanager.StateWaiting && slices.Contains(other.o.dependsOn, t.name)
	})
}

// contexts is where the causes of the contexts are: those of a group, whose name may have been that of another task, for itself.
func (t *modelTask) contexts() string {
	if t.o.isGroup() {
		return t.name + "/"
	}
	return t.name
}

// beginGroup begins a run of the task, if it is a group.
func (m *model) beginGroup(t *modelTask) {
	if !t.o.isGroup() {
		return
	}
	g := &modelGroup{model: newModel(len(t.o.members))}
	g.modelClock, g.causes, g.events, g.names, g.inRun = m.modelClock, m.causes, m.events, nil, true
	for _, member := range t.o.members {
		g.names = append(g.names, member.name)
		g.start(member.name, member.o)
	}
	t.group = g
}

// settleGroups does everything that happens in groups at this moment. It reports whether that has changed anything but them.
func (m *model) settleGroups() (again bool) {
	for _, name := range m.names {
		if t := m.tasks[name]; t != nil && t.group != nil {
			t.group.settle()
			again = t.executing && m.goOn(t) || again
		}
	}
	return again
}

// goOn has the run of a group go on, as far as it can. It reports whether that was anywhere.
func (m *model) goOn(t *modelTask) bool {
	g, cause := t.group, *m.cause(t)
	switch {
	case cause != 0 && !g.parentEnded:
		g.parentCause = cause
		g.endParent()
		if g.shutdown == nil {
			g.shutdown = g.stopAll(askedToShutDown)
		}
	case g.closed && g.shutdown == nil: // a critical task is gone
		g.shutdown = g.stopAll(askedToShutDown)
	case t.state == taskmanager.StateRunning && !t.ready && g.isReady():
		m.becomesReady(t)
	case g.shutdown == nil || g.shutdown.outcome == nil:
		return false
	case !g.judged:
		g.judge()
	case cause != 0 && g.isAlive(): // to have stopped is to have returned
		return false
	case g.isAlive():
		m.returns(t, g.err|isLeft)
	default:
		m.returns(t, g.err)
	}
	return true
}

// judge notes what Run returns.
func (g *modelGroup) judge() {
	g.judged = true
	g.err, g.stuck = g.shutdown.outcome.err, slices.Clone(g.shutdown.outcome.stuck)
	for name, why := range g.gone {
		g.err |= why &^ isCompleted                  // that completes the group
		if why&isTimeout != 0 && why&isGiveUp == 0 { // its watchdog has found it stuck
			g.stuck = append(g.stuck, localName(name))
		}
	}
}

// stuckNames are those of the tasks that the group's run has said to be stuck.
func (g *modelGroup) stuckNames() []string {
	if g == nil {
		return nil
	}
	return g.stuck
}

// isAlive reports whether a task of the group has not ended.
func (g *modelGroup) isAlive() bool {
	return g != nil && slices.ContainsFunc(g.names, func(name string) bool { return !g.tasks[name].state.Ended() })
}

func (g *modelGroup) has(s taskmanager.State) bool {
	return slices.ContainsFunc(g.names, func(name string) bool { return g.tasks[name].state == s })
}

// isReady reports whether the tasks of the group are ready, and it goes on.
func (g *modelGroup) isReady() bool {
	return !g.closed && !slices.ContainsFunc(g.names, func(name string) bool {
		t := g.tasks[name]
		return (t.o.critical || t.o.readiness > 0) && !t.isHalted() && g.isMissing(name)
	})
}

// isReady reports whether the task is ready, for those who depend on it.
func (t *modelTask) isReady() bool {
	return t.state == taskmanager.StateRunning && t.ready && (t.group == nil || t.group.isReady())
}

// add adds what Health should say of the tasks in t, if it is a group.
func (v *healthView) add(t *modelTask) {
	if t.group == nil || t.state.Ended() {
		return
	}
	within := t.group.healthView()
	v.Problems = append(v.Problems, within.Problems...)
	if len(within.Problems) > 0 {
		v.State = max(v.State, taskmanager.HealthDegraded)
	}
	mustBeReady := t.o.critical || t.o.readiness > 0
	v.Ready = v.Ready && (within.Ready || !mustBeReady && t.state != taskmanager.StateRunning)
}

// isOnly reports whether the error says nothing but that the context has ended which ended for cause.
func (s errorSet) isOnly(cause errorSet) bool {
	s &^= isGiveUp | isTooMany // they say nothing by themselves
	return s != 0 && s&^(isCanceled|cause) == 0
}

// sorted returns the names in order, each once: tasks of several groups may have the same.
func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
