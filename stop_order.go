package taskmanager

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// A stopNode is the stop of one task among others: it comes when those that depend on the task have
// stopped, or are stuck.
type stopNode struct {
	task         *Task
	dependents   []*stopNode
	dependencies []*stopNode
	chainLength  int  // of the longest chain of dependencies that begins with it, itself included
	detached     bool // the caller is this task, or is in the way of it: nobody waits for it

	stop   atomic.Pointer[stopOp] // set when the task has been asked
	judged chan struct{}          // closed when the task has stopped or is stuck
	done   chan struct{}          // closed when err is set, which may take longer
	err    error
}

// buildStopGraph divides tasks into those that neither depend on another one of them nor have dependents
// among them, and the others.
func (m *Manager) buildStopGraph(tasks []*Task) (free []*Task, nodes []*stopNode) {
	// At one moment, for those of different moments may make a cycle. So may those of tasks that have ended.
	dependsOn := make([][]string, len(tasks))
	m.mu.Lock()
	for i, t := range tasks {
		if !t.State().Ended() {
			dependsOn[i] = t.config().dependsOn
		}
	}
	m.mu.Unlock()
	byName := make(map[string]*stopNode)
	nodeOf := func(t *Task) *stopNode {
		if byName[t.name] == nil {
			byName[t.name] = &stopNode{task: t, judged: make(chan struct{}), done: make(chan struct{})}
		}
		return byName[t.name]
	}
	alive := make(map[string]*Task, len(tasks))
	for _, t := range tasks {
		alive[t.name] = t
	}
	for i, t := range tasks {
		for _, name := range dependsOn[i] {
			if d := alive[name]; d != nil {
				dependent, dependency := nodeOf(t), nodeOf(d)
				dependent.dependencies = append(dependent.dependencies, dependency)
				dependency.dependents = append(dependency.dependents, dependent)
			}
		}
	}
	for _, t := range tasks {
		if byName[t.name] == nil {
			free = append(free, t)
		}
	}
	return free, slices.Collect(maps.Values(byName))
}

// measureChain sets chainLength.
func (n *stopNode) measureChain() int {
	if n.chainLength == 0 {
		for _, d := range n.dependencies {
			n.chainLength = max(n.chainLength, d.measureChain())
		}
		n.chainLength++
	}
	return n.chainLength
}

// detach says that nobody waits for n, nor for what comes after it.
func (n *stopNode) detach() {
	if !n.detached {
		n.detached = true
		for _, d := range n.dependencies {
			d.detach()
		}
	}
}

// run waits for the turn of n, asks the task for q, and waits for that. A deadline that is not zero is
// for all of the chain: each takes at most its share of what is left.
func (n *stopNode) run(q request, hand *byHand, deadline time.Time) {
	defer close(n.done)
	for _, d := range n.dependents {
		<-d.judged
	}
	timeout := n.task.config().stopTimeout
	if !deadline.IsZero() {
		timeout = min(timeout, max(0, time.Until(deadline))/time.Duration(n.chainLength))
	}
	s := newStopOp(n.task.config().manager, q, timeout)
	s.hand, s.tasks = hand, []*Task{n.task}
	s.start(time.Now())
	n.stop.Store(s)
	<-s.judged
	close(n.judged) // before it is known where the body of a stuck one is, which may eat up the time of the others
	<-s.done
	n.err = s.err
}

// startStopGraph stops tasks of which some depend on others, each when its turn has come. hasDeadline
// is that of Manager.requestAll.
func startStopGraph(ctx context.Context, nodes []*stopNode, callers []*Task, q request, hand *byHand, hasDeadline bool) {
	var deadline time.Time
	if hasDeadline {
		deadline, _ = ctx.Deadline()
	}
	for _, n := range nodes {
		n.measureChain()
		if slices.Contains(callers, n.task) {
			n.detach()
		}
	}
	for _, n := range nodes {
		go n.run(q, hand, deadline)
	}
}

// waitStopGraph returns when all of nodes are done, but for those that nobody waits for, or when ctx
// is done; done says which. hasDeadline is that of stopOp.wait.
func waitStopGraph(ctx context.Context, nodes []*stopNode, hasDeadline bool) (errs []error, done bool) {
	done = true
	for _, n := range nodes {
		if !n.detached {
			if n.wait(ctx, hasDeadline) {
				errs = append(errs, n.err)
			} else {
				done = false // look at the others nevertheless: they may be done
			}
		}
	}
	return errs, done
}

// wait returns true when n is done, or false when ctx is done before.
func (n *stopNode) wait(ctx context.Context, hasDeadline bool) bool {
	select {
	case <-n.done:
		return true
	default:
	}
	select {
	case <-n.done:
		return true
	case <-ctx.Done():
		if !hasDeadline || !hasReachedDeadline(ctx) {
			return false
		}
	}
	<-n.done // its deadline is now, too
	return true
}
