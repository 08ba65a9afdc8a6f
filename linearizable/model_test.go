package linearizable

import (
	"errors"
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/go-taskmanager/taskmanager"
)

// An input is a call of one goroutine. A StopTask that succeeds has two moments, for it lies between them that others find the task
// stopping: it asks, and later finds that the task is gone. So it is two operations, with the same number, at the same time.
type input struct {
	call   string // start, stop, gone, restart, running, lookup
	number uint   // of a stop, below 64
}

// An output is what a call has returned.
type output struct {
	err     error             // of start, stop, restart
	running bool              // what IsRunning said
	task    *taskmanager.Task // of start and lookup; nil: none
}

// A world is the state of one name.
type world struct {
	task  *taskmanager.Task // the latest; nil: none yet
	alive bool
	dying bool   // it is alive, and was asked to stop
	asked uint64 // stops, by number, that wait for it to die
	freed uint64 // those that have seen it
}

// die ends the task.
func (w world) die() world {
	return world{task: w.task, freed: w.freed | w.asked}
}

// step returns w after a call that takes effect in it, and whether it can have returned out.
func (w world) step(in input, out output) (world, bool) {
	stop := uint64(1) << in.number
	switch in.call {
	case "start":
		if out.err != nil {
			return w, w.alive && errors.Is(out.err, taskmanager.ErrTaskRunning)
		}
		return world{task: out.task, alive: true, freed: w.freed}, !w.alive && out.task != w.task
	case "stop":
		switch {
		case out.err == nil:
			ok := w.alive
			w.dying, w.asked = true, w.asked|stop
			return w, ok
		case w.task == nil:
			return w, errors.Is(out.err, taskmanager.ErrTaskNotFound)
		}
		return w, !w.alive && errors.Is(out.err, taskmanager.ErrTaskNotRunning)
	case "gone":
		ok := w.freed&stop != 0
		w.freed &^= stop
		return w, ok
	case "restart":
		switch {
		case w.task == nil:
			return w, errors.Is(out.err, taskmanager.ErrTaskNotFound)
		case w.dying:
			return w, errors.Is(out.err, taskmanager.ErrStopped)
		}
		w.alive = true
		return w, out.err == nil
	case "running":
		return w, out.running == w.alive
	case "lookup":
		return w, out.task == w.task
	}
	return w, false
}

// model is what porcupine checks histories against. A task that is dying may die before any step.
func model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{world{}} },
		Step: func(state, in, out any) (next []any) {
			w := state.(world)
			worlds := []world{w}
			if w.dying {
				worlds = append(worlds, w.die())
			}
			for _, w := range worlds {
				if after, ok := w.step(in.(input), out.(output)); ok {
					next = append(next, after)
				}
			}
			return next
		},
		DescribeOperation: func(in, out any) string { return describe(in.(input), out.(output)) },
	}
	return m.ToModel()
}

func describe(in input, out output) string {
	switch in.call {
	case "running":
		return fmt.Sprintf("running: %v", out.running)
	case "lookup":
		return fmt.Sprintf("lookup: %p", out.task)
	case "start":
		return fmt.Sprintf("start: %p, %v", out.task, out.err)
	}
	return fmt.Sprintf("%s %d: %v", in.call, in.number, out.err)
}
