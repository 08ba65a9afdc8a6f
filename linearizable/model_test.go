package linearizable

import (
	"errors"
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/go-taskmanager/taskmanager"
)

// An input is a call of one goroutine. A StopTask that succeeds has two moments, for it lies between them that others find the task
// stopping: it asks, and later finds that the task is gone. A RestartTask has two as well: it asks, and later finds that a run has
// begun since, or that a stop or a pause came before that run. Likewise a PauseTask and a ReplaceTask. So each of them is two
// operations, with the same number, at the same time. A Reconcile is what it says that it has done.
type input struct {
	call   string // start, stop, gone, restart, again, restarted, stopped, paused, pause, rests, resume, replace, replaced, running, lookup; and of Reconcile, as in performed
	number uint   // of a stop, a restart, a pause or a replacement, below 64
	config int    // of a replacement; of a Reconcile, which has that as the version, 0 for one that wants nothing
}

// An output is what a call has returned.
type output struct {
	err       error             // of all but running and lookup
	running   bool              // what IsRunning said
	task      *taskmanager.Task // of start, replace and lookup; nil: none
	state     taskmanager.State // of lookup, as the others
	runs      uint64            // of the task's life
	config    int
	performed string // by Reconcile: replace, unwanted, equal, absent
}

// A phase is where the task of the name is in its life. Its body neither fails nor ends by itself.
type phase uint8

const (
	ended      phase = iota // or there was none yet
	waiting                 // a run is to begin
	running                 // the body executes
	restarting              // as stopping, and a run is to begin
	replacing               // likewise, of another body
	pausing                 // as stopping, and the task is to be paused
	paused                  // until somebody resumes it
	stopping                // the body was told to return
)

// A world is the state of one name.
type world struct {
	task   *taskmanager.Task // the latest; nil: none yet; unknown: that of a Reconcile, which does not say so
	phase  phase
	runs   uint64 // that have begun in the life of the task
	config int    // of the task
	next   int    // of the one that is to replace it

	// Calls, by number.
	stops     uint64 // wait for the end of the task
	gone      uint64 // have waited for it
	restarts  uint64 // wait for a run
	again     uint64 // have waited for it
	pauses    uint64 // wait for the pause
	rests     uint64 // have waited for it
	replaces  uint64 // wait for the end of the body
	replaced  uint64 // have waited for it
	unnamed   uint64 // of Reconcile: have asked for a stop, and wait for the begin of another life
	absent    uint64 // likewise: have waited for it, or found that the task had ended
	overtaken uint64 // a stop came before
	preempted uint64 // a pause did
}

var unknown = new(taskmanager.Task)

// moved returns w after what happens by itself: a run that is to begin begins, a body that was told to return returns. It returns
// false where nothing does.
func (w world) moved() (world, bool) {
	switch w.phase {
	case restarting:
		w.phase = waiting
	case replacing:
		w.replaces, w.replaced = 0, w.replaced|w.replaces
		w.phase, w.config, w.runs = waiting, w.next, 0
	case pausing:
		w = w.pausedNow()
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

// pausedNow returns w when the task has just been paused.
func (w world) pausedNow() world {
	w.phase = paused
	w.pauses, w.rests = 0, w.rests|w.pauses
	w.preempted |= w.restarts | w.replaces
	w.restarts, w.replaces = 0, 0
	return w
}

// asked returns w when a stop has been asked for.
func (w world) asked(call uint64) world {
	w.phase, w.stops = stopping, w.stops|call
	w.overtaken |= w.restarts | w.replaces | w.pauses
	w.restarts, w.replaces, w.pauses = 0, 0, 0
	return w
}

// begun returns w when a life of the task has just begun.
func (w world) begun() world {
	w.phase, w.runs = waiting, 0
	w.unnamed, w.absent = 0, w.absent|w.unnamed
	return w
}

// refuses reports whether the error of a call that waits may say what it does, of one that has found the task at something else.
func refuses(err error) bool {
	return err == nil || errors.Is(err, taskmanager.ErrStopped) || errors.Is(err, taskmanager.ErrPaused)
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
		w.task, w.config = out.task, 0
		return w.begun(), ok
	case "stop":
		switch {
		case out.err == nil:
			return w.asked(call), w.phase != ended
		case w.task == nil:
			return w, errors.Is(out.err, taskmanager.ErrTaskNotFound)
		}
		return w, w.phase == ended && errors.Is(out.err, taskmanager.ErrTaskNotRunning)
	case "unwanted": // it was alive when Reconcile looked, and may have been stopped since
		if w.phase == ended {
			w.gone |= call
			return w, w.task != nil
		}
		return w.asked(call), true
	case "gone":
		return w, w.gone&call != 0
	case "restart":
		if w.task == nil {
			return w, errors.Is(out.err, taskmanager.ErrTaskNotFound)
		}
		switch w.phase {
		case ended:
			w = w.begun()
			w.again |= call
		case waiting: // a run begins as soon as it can
			w.restarts, w.again = 0, w.again|w.restarts|call
		case running, restarting:
			w.phase, w.restarts = restarting, w.restarts|call
		case replacing:
			w.restarts |= call
		case paused:
			w.phase, w.restarts = waiting, w.restarts|call
		case pausing:
			w.preempted |= call
		case stopping:
			w.overtaken |= call
		}
		return w, refuses(out.err)
	case "again":
		return w, w.again&call != 0
	case "pause":
		switch {
		case w.task == nil:
			return w, errors.Is(out.err, taskmanager.ErrTaskNotFound)
		case w.phase == ended:
			return w, errors.Is(out.err, taskmanager.ErrTaskNotRunning)
		case w.phase == stopping:
			w.overtaken |= call
		case w.phase == waiting, w.phase == paused:
			w.pauses |= call
			w = w.pausedNow()
		default:
			w.phase, w.pauses = pausing, w.pauses|call
		}
		return w, refuses(out.err)
	case "rests":
		return w, w.rests&call != 0
	case "resume":
		switch {
		case w.task == nil:
			return w, errors.Is(out.err, taskmanager.ErrTaskNotFound)
		case w.phase != paused:
			return w, errors.Is(out.err, taskmanager.ErrTaskNotPaused)
		}
		w.phase = waiting
		return w, out.err == nil
	case "replace", "reconcile":
		return w.replace(in, out, call)
	case "replaced":
		return w, w.replaced&call != 0
	case "stopped":
		return w, w.overtaken&call != 0
	case "paused":
		return w, w.preempted&call != 0
	case "equal":
		return w, w.phase != ended && w.config == in.config
	case "absent": // or Reconcile asks for a stop, and others start the task again before it returns, so that it does not name it
		if w.phase == ended {
			w.absent |= call
			return w, true
		}
		w = w.asked(0)
		w.unnamed |= call
		return w, true
	case "restarted":
		return w, w.absent&call != 0
	case "running":
		return w, out.running == (w.phase != ended)
	case "lookup":
		if w.task == unknown && out.task != nil {
			w.task = out.task
		}
		if out.task == nil || w.task == nil {
			return w, out.task == w.task
		}
		return w, out.task == w.task && out.runs == w.runs && out.config == w.config &&
			out.state.Ended() == (w.phase == ended) && (out.state == taskmanager.StatePaused) == (w.phase == paused) &&
			(out.state == taskmanager.StateRunning) == (w.phase == running)
	}
	return w, false
}

// replace is the step of a ReplaceTask, or of a Reconcile that does the same.
func (w world) replace(in input, out output, call uint64) (world, bool) {
	ok := refuses(out.err)
	if out.err == nil && in.call == "replace" {
		switch w.task {
		case nil, unknown:
			w.task = out.task
		default:
			ok = out.task == w.task
		}
	}
	if w.task == nil {
		w.task = unknown
	}
	switch w.phase {
	case ended, waiting:
		w = w.begun()
		w.config, w.replaced = in.config, w.replaced|call
	case paused:
		w.runs, w.config, w.replaced = 0, in.config, w.replaced|call
	case running, restarting, replacing:
		w.phase, w.next, w.replaces = replacing, in.config, w.replaces|call
	case pausing:
		w.preempted |= call
	case stopping:
		w.overtaken |= call
	}
	return w, ok
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
		return fmt.Sprintf("lookup: %p, %v, %d runs, config %d", out.task, out.state, out.runs, out.config)
	case "start":
		return fmt.Sprintf("start: %p, %v", out.task, out.err)
	}
	return fmt.Sprintf("%s %d, config %d: %v", in.call, in.number, in.config, out.err)
}
