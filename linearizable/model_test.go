package linearizable

import (
	"errors"
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/go-taskmanager/taskmanager"
)

// An input is a call of one goroutine. A StopTask that succeeds has two moments, for it lies between them that others find the task
// stopping: it asks, and later finds that the task is gone. A RestartTask has two as well: it asks, and later finds that a run has
// begun since, or that a stop came before that run. So each of them is two operations, with the same number, at the same time.
type input struct {
	call   string // start, stop, gone, restart, again, overtaken, running, lookup
	number uint   // of a stop or a restart, below 64
}

// An output is what a call has returned.
type output struct {
	err     error             // of start, stop, restart
	running bool              // what IsRunning said
	task    *taskmanager.Task // of start and lookup; nil: none
	state   taskmanager.State // of lookup, as runs
	runs    uint64            // of the task's life
}

// A phase is where the task of the name is in its life. Its body neither fails nor ends by itself.
type phase uint8

const (
	ended      phase = iota // or there was none yet
	waiting                 // a run is to begin
	running                 // the body executes
	restarting              // as stopping, and a run is to begin
	stopping                // the body was told to return
)

// A world is the state of one name.
type world struct {
	task  *taskmanager.Task // the latest; nil: none yet
	phase phase
	runs  uint64 // that have begun in the life of the task

	// Calls, by number.
	stops     uint64 // wait for the end of the task
	gone      uint64 // have waited for it
	restarts  uint64 // wait for a run
	again     uint64 // have waited for it
	overtaken uint64 // a stop came before
}

// moved returns w after what happens by itself: a run that is to begin begins, a body that was told to return returns. It returns
// false where nothing does.
func (w world) moved() (world, bool) {
	switch w.phase {
	case restarting:
		w.phase = waiting
	case waiting:
		w.phase = running
		w.runs++
		w.restarts, w.again = 0, w.again|w.restarts
	case stopping:
		w.phase = ended
		w.stops, w.gone = 0, w.gone|w.stops
	default:
		return w, false
	}
	return w, true
}

// step returns w after a call that takes effect in it, and whether it can have returned out.
func (w world) step(in input, out output) (world, bool) {
	call := uint64(1) << in.number
	switch in.call {
	case "start":
		if out.err != nil {
			return w, w.phase != ended && errors.Is(out.err, taskmanager.ErrTaskRunning)
		}
		ok := w.phase == ended && out.task != w.task
		w.task, w.phase, w.runs = out.task, waiting, 0
		return w, ok
	case "stop":
		switch {
		case out.err == nil:
			ok := w.phase != ended
			w.phase, w.stops = stopping, w.stops|call
			w.restarts, w.overtaken = 0, w.overtaken|w.restarts
			return w, ok
		case w.task == nil:
			return w, errors.Is(out.err, taskmanager.ErrTaskNotFound)
		}
		return w, w.phase == ended && errors.Is(out.err, taskmanager.ErrTaskNotRunning)
	case "gone":
		return w, w.gone&call != 0
	case "restart":
		if w.task == nil {
			return w, errors.Is(out.err, taskmanager.ErrTaskNotFound)
		}
		switch w.phase {
		case ended:
			w.phase, w.runs, w.again = waiting, 0, w.again|call
		case waiting: // a run begins as soon as it can
			w.restarts, w.again = 0, w.again|w.restarts|call
		case running, restarting:
			w.phase, w.restarts = restarting, w.restarts|call
		case stopping:
			w.overtaken |= call
		}
		return w, out.err == nil || errors.Is(out.err, taskmanager.ErrStopped)
	case "again":
		return w, w.again&call != 0
	case "overtaken":
		return w, w.overtaken&call != 0
	case "running":
		return w, out.running == (w.phase != ended)
	case "lookup":
		if out.task == nil || w.task == nil {
			return w, out.task == w.task
		}
		return w, out.task == w.task && out.runs == w.runs &&
			out.state.Ended() == (w.phase == ended) && (out.state == taskmanager.StateRunning) == (w.phase == running)
	}
	return w, false
}

// model is what porcupine checks histories against. What happens by itself may happen before any step.
func model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{world{}} },
		Step: func(state, in, out any) (next []any) {
			worlds := []world{state.(world)}
			for moved, ok := worlds[0].moved(); ok; moved, ok = moved.moved() {
				worlds = append(worlds, moved)
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
		return fmt.Sprintf("lookup: %p, %v, %d runs", out.task, out.state, out.runs)
	case "start":
		return fmt.Sprintf("start: %p, %v", out.task, out.err)
	}
	return fmt.Sprintf("%s %d: %v", in.call, in.number, out.err)
}
