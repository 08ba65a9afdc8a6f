package taskmanager

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A world is a task as step sees it, and what is true of its body, its log and those who wait for it: all that the promises
// are about. It is kept by what the effects say, and by nothing that the table says of phases, so that the two can be compared.
// Worlds that are equal have equal futures.
type world struct {
	machine

	executing bool    // the body does
	canceled  bool    // the context of its run has ended
	inDrain   bool    // it has not, though the body was asked to return: it may finish what it has in hand
	open      bool    // the start of a run has been published, and its end has not
	counted   bool    // the end of a run has been counted, and not published
	cooling   bool    // it was given up, and its cooldown is not over
	delayed   bool    // a failure has been published, and its delay is not over
	toldStuck bool    // that the task is stuck has been published, and the body has not returned
	unsure    bool    // it has yet to be asked whether what the run before has started executes still
	leaves    bool    // it does
	asked     request // what has been asked for and has not been done: the first stop, or else the most; a pause until it is resumed; at the end, why it has stopped
	ending    effect  // which of them has published the end of the life; 0 before that
	failed    bool    // a failure has been published, and not that the task has recovered

	waiting [mostWaiters]request // those who have asked and have not been answered, in order; the watchdog's is an overdueRequest
}

// mostWaiters bounds how many requests are under way at the same time, that of the watchdog included.
const mostWaiters = 9

// A move is what can happen next in a world, as step hears of it.
type move struct {
	in      input
	request request // of asked…; of deadlinePassed, that of the waiter
	unsure  bool    // of returnedAgain: whether what the run has started executes still takes user code to know
	drains  bool    // of asked…: a run has time for its work in hand
	alone   bool    // of askedStop: nobody waits, for it is the driver that has noticed the end of the parent context
}

func (mv move) String() string {
	switch {
	case mv.drains:
		return mv.in.String() + " (" + mv.request.String() + ", with a drain)"
	case mv.in == askedStop:
		return mv.in.String() + " (" + mv.request.String() + ")"
	case mv.in == deadlinePassed:
		return mv.in.String() + " (of " + mv.request.String() + ")"
	case mv.unsure:
		return mv.in.String() + " (unsure)"
	}
	return mv.in.String()
}

func (q request) String() string {
	return [...]string{"none", "overdue", "unbound", "restart", "replace", "pause", "failed restart", "failed replacement", "stop", "stop all", "shutdown", "end of the parent"}[q]
}

// byDriver reports whether in is brought by the driver, which brings nothing else at that time.
func (in input) byDriver() bool { return in <= judgedCooldown }

// byHand reports whether in is asked for from outside while the task lives.
func (in input) byHand() bool { return in >= askedRestart && in <= resumed }

// moves are all that can happen next, and all that may have happened before and is heard of now. What is dropped before it
// gets to step is left out: news of a driver that was replaced, and the deadline of who does not wait any more. room is how many
// may wait.
func (w *world) moves(room int) (moves []move) {
	switch {
	case w.executing:
		if !w.failed || w.asked != noRequest { // otherwise it is heard before that it is healthy
			moves = append(moves, move{in: returnedDone})
		}
		moves = append(moves, move{in: returnedAgain}, move{in: returnedAgain, unsure: true}, move{in: returnedLeaves})
	case w.ending != 0 || w.paused():
		for in := beginNow; in.byDriver(); in++ { // from one that was about to bring it when the life ended, or the task was paused
			moves = append(moves, move{in: in})
		}
	case w.counted:
		moves = append(moves, move{in: judgedRestart}, move{in: judgedNextPass}, move{in: judgedGiveUp}, move{in: judgedCooldown})
	default:
		moves = append(moves, move{in: beginNow}, move{in: holdNow})
		if w.unsure {
			moves = append(moves, move{in: judgedGiveUp})
		}
	}
	if w.failed {
		moves = append(moves, move{in: becameHealthy})
	}
	moves = append(moves, move{in: becameOverdue}, move{in: becameOverdue, drains: true},
		move{in: dependencyLost}, move{in: dependencyLost, drains: true}, move{in: drainPassed}, move{in: revived}, move{in: resumed}, move{in: triggered}, move{in: askedStop, request: parentDoneRequest, alone: true})
	if w.waiters() < room {
		for _, drains := range []bool{false, true} {
			moves = append(moves, move{in: askedRestart, request: restartRequest, drains: drains},
				move{in: askedReplace, request: replaceRequest, drains: drains}, move{in: askedPause, request: pauseRequest, drains: drains})
			for q := stopRequest; q <= shutdownRequest; q++ {
				moves = append(moves, move{in: askedStop, request: q, drains: drains})
			}
		}
	}
	for i, q := range w.waiting {
		switch {
		case q == noRequest, i > 0 && q == w.waiting[i-1]:
		case q.cancelsRun():
			moves = append(moves, move{in: overduePassed, request: q})
		default:
			moves = append(moves, move{in: deadlinePassed, request: q})
		}
	}
	return moves
}

// tooLate reports whether mv must change nothing.
func (w *world) tooLate(mv move) bool {
	switch mv.in {
	case becameOverdue, dependencyLost, becameHealthy:
		return !w.executing || w.asked != noRequest
	case revived:
		return w.ending == 0
	case drainPassed:
		return !w.inDrain
	case deadlinePassed, overduePassed:
		return !w.executing // the task has done what can be done, and who waits has been told so
	default:
		return mv.in.byDriver() && (w.ending != 0 || w.paused())
	}
}

// mustRefuse reports whether who asks has to be told that the task can't do it.
func (w *world) mustRefuse(mv move) bool {
	switch mv.in {
	case askedRestart:
		return w.ending != 0 || w.asked.stops() || w.toldStuck || w.executing && w.asked == pauseRequest
	case askedReplace:
		return w.ending == 0 && (w.asked.stops() || w.toldStuck || w.executing && w.asked == pauseRequest)
	case askedPause:
		return w.ending != 0 || w.asked.stops()
	case triggered:
		return w.ending != 0 || w.asked != noRequest || w.cooling
	case resumed:
		return !w.paused() && !w.cooling
	case askedStop:
		return w.ending != 0
	default:
		return false
	}
}

// paused reports whether no run begins until somebody says so.
func (w *world) paused() bool { return w.asked == pauseRequest && !w.executing }

// cancelsRun reports whether q is what the run itself has brought about, as the watchdog does, and nobody has asked for.
func (q request) cancelsRun() bool { return q == overdueRequest || q == unboundRequest }

// waiters are those who have asked.
func (w *world) waiters() (n int) {
	for _, q := range w.waiting {
		if q != noRequest && !q.cancelsRun() {
			n++
		}
	}
	return n
}

func (w *world) addWaiter(q request) { w.replaceWaiter(noRequest, q) }

func (w *world) removeWaiter(q request) { w.replaceWaiter(q, noRequest) }

func (w *world) replaceWaiter(old, q request) {
	w.waiting[slices.Index(w.waiting[:], old)] = q
	slices.Sort(w.waiting[:])
}

// A breach says what is wrong, and which promise that breaks.
type breach string

// after returns the world after mv. A breach is handed to broken.
func (w world) after(table *transitions, mv move, broken func(breach)) world {
	before := w
	next, do, ok := table.step(w.machine, mv.in, mv.request, unjudged, mv.drains)
	switch {
	case w.tooLate(mv):
		if ok {
			broken("news that came too late has changed something")
		}
	case !ok:
		broken("news that came in time is not heard")
	case do&refuse != 0 || w.mustRefuse(mv):
		switch {
		case !w.mustRefuse(mv):
			broken("a request is refused that can be followed")
		case do != refuse || next != w.machine || table[w.phase][mv.in].to != w.phase:
			broken("a request that can't be followed must be refused, and change nothing")
		}
		ok = false
	}
	if !ok || w.tooLate(mv) {
		if mv.in == deadlinePassed || mv.in == overduePassed {
			w.removeWaiter(mv.request) // who is told that the restart is as good as done, for no body executes
		}
		return w
	}

	w.machine = next
	w.hear(mv)
	w.carryOut(do, &before, mv, broken)
	w.check(do, &before, mv, broken)
	return w
}

// hear takes note of what has happened, before anything is done about it.
func (w *world) hear(mv move) {
	switch mv.in {
	case returnedDone, returnedAgain, returnedLeaves:
		w.executing, w.canceled, w.inDrain = false, false, false
		w.unsure, w.leaves = mv.unsure, mv.in == returnedLeaves
		if !w.asked.stops() && (w.asked != pauseRequest || w.leaves) {
			w.asked = noRequest
		}
	case beginNow:
		w.delayed, w.cooling, w.unsure = false, false, false // it has been asked, and nothing executes
	case holdNow:
		w.delayed, w.cooling = false, false
	case judgedRestart, judgedNextPass:
		w.delayed, w.unsure = true, false // to judge it was to ask
	case judgedGiveUp:
		w.leaves = !w.counted
	case judgedCooldown:
		w.cooling, w.unsure = true, false
	case becameOverdue:
		w.asked = overdueRequest
		w.addWaiter(overdueRequest)
	case dependencyLost:
		w.asked = unboundRequest
		w.addWaiter(unboundRequest)
	case askedRestart, askedReplace, askedPause, askedStop:
		if w.ending != 0 { // it is revived
			*w = world{machine: w.machine, ending: w.ending}
		}
		w.delayed, w.cooling = false, false
		w.inDrain = w.inDrain || mv.drains && w.executing && w.asked == noRequest
		if mv.in == askedRestart && w.paused() {
			w.asked = noRequest
		}
		if (w.executing || mv.in != askedRestart && mv.in != askedReplace) && !w.asked.stops() { // the first stop counts
			w.asked = max(w.asked, mv.request)
		}
		if !mv.alone {
			w.addWaiter(mv.request)
		}
	case drainPassed:
		w.inDrain = false
	case deadlinePassed: // while the body executes: a restart or a replacement has failed, and must not happen later; a pause will
		w.inDrain = false
		if w.asked == replaceRequest {
			w.asked = failedReplaceRequest
		}
		if w.asked != pauseRequest {
			w.asked = max(w.asked, failedRestartRequest)
		}
		w.removeWaiter(mv.request)
	case overduePassed:
		w.removeWaiter(mv.request)
	case resumed:
		w.asked, w.cooling = noRequest, false
	case triggered:
		w.delayed = false
	case revived:
		*w = world{machine: w.machine, ending: w.ending, failed: w.ending == publishGaveUp}
	}
}

// carryOut does what the effects say, as Task.applyLocked does, in that order.
func (w *world) carryOut(do effect, before *world, mv move, broken func(breach)) {
	returned := before.executing && !w.executing
	for i := range effects {
		switch do & (1 << i) {
		case countFailure:
			switch {
			case !returned && !w.leaves:
				broken("promise 7: the end of a run is counted that has not ended now, and has not been found to leave something")
			case before.asked.stops():
				broken("promise 6: it was asked to stop, and has failed")
			case before.asked >= unboundRequest && !w.leaves:
				broken("promise 6: it has lost what it is bound to, or was asked to restart, or to pause, or was replaced, and has failed")
			case before.asked == noRequest && mv.in == returnedDone:
				broken("promise 6: it has returned nil, and has failed")
			}
			w.counted = true
		case noLongerStuck:
			if !returned || !w.toldStuck {
				broken("promise 5: it is said to be no longer stuck, and was not stuck or has not returned")
			}
			w.toldStuck = false
		case publishRunEnd:
			if !w.counted || !w.open {
				broken("promise 7: the end of a run is published that was not counted, or has been published")
			}
			if mv.in == judgedNextPass {
				broken("promise 7: a pass is given up, and told as a failure that is followed by another try")
			}
			w.counted, w.open, w.failed = false, false, true
		case publishPassGaveUp:
			if mv.in != judgedNextPass || !w.counted || !w.open {
				broken("promise 7: a pass is said to be given up, and is not, or has been said to be")
			}
			w.counted, w.open, w.failed = false, false, true
		case publishStarted:
			switch {
			case before.executing:
				broken("promise 1: a run begins while a body executes")
			case w.leaves:
				broken("promise 1: a run begins while something of the one before executes")
			case w.counted || w.open:
				broken("promise 7: a run begins before it is published how the one before has ended")
			}
			w.executing, w.open = true, true
		case publishRestart:
			if !returned || before.asked != restartRequest && before.asked != replaceRequest && before.asked != unboundRequest || !w.open {
				broken("promise 6: a run is said to have ended for a restart, a replacement or a loss, and has not")
			}
			w.open = false
		case publishStopped:
			if !w.asked.stops() || w.executing {
				broken("promise 6: it is said to have stopped, and was not asked to, or executes")
			}
			w.ending, w.open, w.failed = publishStopped, false, false
		case publishPaused:
			if !w.paused() || before.paused() || w.counted {
				broken("it is said to be paused, and was not asked to, or executes, or was paused, or how its run has ended is not published")
			}
			w.open = false
		case publishResumed:
			if !before.paused() && !before.cooling || mv.in != resumed && mv.in != askedRestart {
				broken("it is said to have been resumed, and was not paused, or nobody has")
			}
		case publishGaveUp:
			if !w.counted {
				broken("promise 7: it is given up, and no failure is counted that has not been published")
			}
			w.counted, w.open, w.failed = false, false, true
			if !w.cooling {
				w.ending = publishGaveUp
			}
		case publishDone:
			switch {
			case before.asked != noRequest || mv.in != returnedDone:
				broken("promise 6: it is said to have completed, and has not returned nil, or was asked for something")
			case w.failed:
				broken("promise 7: it is said to have completed after a failure, and not to have recovered")
			}
			w.ending, w.open = publishDone, false
		case publishStuck:
			if !w.executing || w.toldStuck || mv.in != deadlinePassed && mv.in != overduePassed {
				broken("promise 5: it is said to be stuck, and has returned, or has been said to be, or no deadline has passed")
			}
			w.toldStuck = true
		case publishRecovered:
			if !w.failed || mv.in != becameHealthy || !w.executing || w.asked != noRequest {
				broken("promise 7: it is said to have recovered, and has not failed, or is not healthy")
			}
			w.failed = false
		case publishTriggered:
			if mv.in != triggered {
				broken("a pass is said to be triggered, and nobody has")
			}
		case endLife:
			if w.ending == 0 || before.ending != 0 {
				broken("promise 7: a life ends, and that is not published, or it had ended")
			}
		case beginLife:
			if before.ending == 0 {
				broken("promise 1: a life begins, and the one before has not ended")
			}
			w.ending = 0
		case adopt:
			switch {
			case w.executing || w.ending != 0:
				broken("promise 1: another body takes the place of one that executes, or of a task that has ended")
			case !slices.Contains(w.waiting[:], replaceRequest):
				broken("a body is adopted that nobody has asked for")
			}
			w.answer(replaceRequest)
		case resolveRestarts:
			w.resolve(overdueRequest, restartRequest, mv, mv.in == askedRestart && before.state() == StateWaiting, broken)
		case resolveAll:
			w.resolve(overdueRequest, parentDoneRequest, mv, false, broken)
		case triggerPass:
			if mv.in != triggered {
				broken("a pass begins that nobody has asked for")
			}
		case cancelRun:
			if !w.executing || w.canceled {
				broken("the context of a run is ended that is over, or has ended")
			}
			w.canceled = true
		case beginDrain:
			if !w.inDrain || before.inDrain {
				broken("a run begins to drain that has no time for that, or drains already")
			}
		case wakeDriver:
			if before.executing || !mv.in.byHand() && (mv.in != triggered || !before.delayed) || before.paused() && w.paused() || do&beginLife != 0 {
				broken("promise 1: a driver is woken, or replaced, that is with the body, has brought the news itself, or has nothing to do")
			}
		}
	}
}

// answer removes those who have asked for q.
func (w *world) answer(q request) {
	for i := range w.waiting {
		if w.waiting[i] == q {
			w.waiting[i] = noRequest
		}
	}
	slices.Sort(w.waiting[:])
}

// resolve answers those who wait. waited says that the task was in StateWaiting before: a restart changes nothing then.
func (w *world) resolve(least, most request, mv move, waited bool, broken func(breach)) {
	for i, q := range w.waiting {
		if q < least || q > most {
			continue
		}
		w.waiting[i] = noRequest
		switch {
		case q.cancelsRun():
			if w.executing && mv.in != beginNow {
				broken("the watchdog's request, or that of a loss, is resolved while the run executes that it is about")
			}
		case q == restartRequest && most == restartRequest:
			if mv.in != beginNow && mv.in != holdNow && !waited {
				broken("who waits for a restart is told that it is done, and no run has begun, or waits for its dependencies")
			}
		case q == restartRequest || q == replaceRequest:
			if w.ending != publishStopped && w.ending != publishGaveUp && !w.paused() {
				broken("who waits for a restart or a replacement is told that it will not be, and the task has not ended so, nor is it paused")
			}
		case q == pauseRequest:
			if w.ending != publishStopped && w.ending != publishGaveUp && !w.paused() {
				broken("who waits for a pause is answered, and the task is not paused, and has not ended")
			}
		case w.ending != publishStopped:
			broken("who waits for a stop is told that it is done, and the task has not stopped")
		}
	}
	slices.Sort(w.waiting[:])
}

// check compares what is true now with the phase.
func (w *world) check(do effect, before *world, mv move, broken func(breach)) {
	if w.executing != w.phase.executes() {
		broken("promise 1: the phase is wrong about whether the body executes")
	}
	if got, want := w.phase.state(), w.state(); got != want {
		broken(breach(fmt.Sprintf("the public State is %s, and should be %s", got, want)))
	}
	switch {
	case w.counted != (w.phase == judging):
		broken("promise 7: a failure is counted if, and only if, the run is to be judged")
	case w.open != (w.executing || w.counted):
		broken("promise 7: the start and the end of a run are published when it begins and when it is known how it has ended")
	case w.phase.ended() != (w.ending != 0):
		broken("promise 7: how a life has ended is published when it ends, and not before")
	case (w.ending != 0) != (before.ending != 0) && do&(endLife|beginLife) == 0:
		broken("promise 10: a life begins or ends, and the registry does not hear of it")
	case w.executing && w.canceled != (w.asked != noRequest && !w.inDrain):
		broken("the context of a run ends when something is asked of it and it has no time for its work in hand, and not before")
	case w.inDrain && !before.inDrain && do&beginDrain == 0:
		broken("a body does not hear that it is to finish its work in hand")
	case w.draining != w.inDrain:
		broken("it is wrong about whether the run drains")
	case (mv.in == deadlinePassed || mv.in == overduePassed) && !w.toldStuck:
		broken("promise 5: a deadline has passed while the body executes, and the task is not stuck")
	case !w.executing && w.toldStuck:
		broken("promise 5: a body that has returned is stuck")
	case w.paused() && !before.paused() && do&publishPaused == 0:
		broken("that the task is paused is not published")
	case (before.paused() || before.cooling && mv.in.byHand()) && !w.paused() && w.ending == 0 && do&(publishResumed|adopt) == 0:
		broken("that the task is resumed is not published")
	case mv.in == triggered && do&publishTriggered == 0:
		broken("that a pass is triggered is not published")
	case mv.in == triggered && (do&triggerPass == 0 || before.delayed && do&wakeDriver == 0):
		broken("no pass begins, though one is asked for")
	case mv.in.byHand() && !before.executing && (!before.paused() || !w.paused()) && do&(wakeDriver|beginLife) == 0:
		broken("the driver does not hear that something is asked of the task")
	}
	lost := before.state() == StateRunning && w.state() != StateRunning && w.ending != publishDone
	if (do&loseBound != 0) != lost {
		broken("those that are bound to it hear that it is lost when it has run, and doesn't any more, and has not completed")
	}
	if want := w.asked; w.pending != want {
		broken(breach(fmt.Sprintf("promise 6: what is asked of the task is %q, and should be %q", w.pending, want)))
	}
	answered := mv.in == holdNow || mv.in == askedRestart && before.state() == StateWaiting
	for _, q := range w.waiting {
		switch {
		case q == noRequest:
		case q == restartRequest && answered:
			broken("who waits for a restart is left, and the run waits for its dependencies")
		case w.ending != 0:
			broken(breach(fmt.Sprintf("who has asked (%s) is left without an answer when the task has ended", q)))
		case w.phase == waiting && q > restartRequest, w.phase == judging, w.phase == inBackoff, w.cooling, w.paused(), w.executing && w.asked == noRequest:
			broken(breach(fmt.Sprintf("who has asked (%s) is left without an answer when nothing is asked any more", q)))
		}
	}
	if mv.in == becameHealthy && w.failed {
		broken("promise 7: it is healthy, and is not said to have recovered")
	}
	const one = publishAny &^ publishRunEnd
	if bits.OnesCount32(uint32(do&one)) > 1 || do&resolveRestarts != 0 && do&resolveAll != 0 {
		broken("of these effects only one is carried out")
	}
}

// state is the public State that w should have.
func (w *world) state() State {
	switch {
	case w.ending == publishDone:
		return StateCompleted
	case w.ending == publishGaveUp:
		return StateFailed
	case w.ending == publishStopped:
		return StateStopped
	case w.executing && w.toldStuck:
		return StateStuck
	case w.executing && w.asked != noRequest:
		return StateStopping
	case w.executing:
		return StateRunning
	case w.cooling || w.paused():
		return StatePaused
	case w.counted || w.delayed:
		return StateBackoff
	default:
		return StateWaiting
	}
}

// A walk is through every sequence of moves, from the start of a task on. Where two sequences lead to the same world it goes
// on once: what can follow, and what is checked there, depends on nothing else. So there is an end to it, and what holds in all
// worlds that it has found holds after any number of moves.
type walk struct {
	table *transitions
	room  int // for those who wait, besides the watchdog

	known map[world]int // the place in order
	order []world
	from  []step   // by which each was reached first
	leads [][]step // from each

	depth int // of the last new world
	steps int
	used  [phases][inputs]bool
}

type step struct {
	world int
	move  move
}

// run walks until there is no new world, or to a depth of most moves. It returns the first breach, with the row that breaks the promise and
// how the task has come there; "" if there is none.
func (k *walk) run(most int) string {
	k.known = map[world]int{{}: 0}
	k.order, k.from, k.leads = []world{{}}, []step{{}}, [][]step{nil}
	level := 1 // the number of worlds that are no deeper
	for i := 0; i < len(k.order); i++ {
		if i == level {
			k.depth++
			level = len(k.order)
		}
		if k.depth == most {
			break
		}
		w := k.order[i]
		for _, mv := range w.moves(k.room) {
			var breaches []breach
			next := w.after(k.table, mv, func(b breach) { breaches = append(breaches, b) })
			k.steps++
			if len(breaches) > 0 {
				return fmt.Sprintf("%s, %s: %s\n\tafter: %s", w.phase, mv.in, breaches[0], k.path(i))
			}
			if !w.tooLate(mv) {
				k.used[w.phase][mv.in] = true
			}
			j, ok := k.known[next]
			if !ok {
				j = len(k.order)
				k.known[next] = j
				k.order, k.from, k.leads = append(k.order, next), append(k.from, step{i, mv}), append(k.leads, nil)
			}
			k.leads[i] = append(k.leads[i], step{j, mv})
		}
	}
	return ""
}

// path is how the world with that place was reached.
func (k *walk) path(i int) string {
	if i == 0 {
		return "the start"
	}
	var rows []string
	for ; i > 0; i = k.from[i].world {
		rows = append(rows, fmt.Sprintf("%s, %s", k.order[k.from[i].world].phase, k.from[i].move))
	}
	slices.Reverse(rows)
	return strings.Join(rows, "; ")
}

// unused returns the rows of the table that no move has used.
func (k *walk) unused() (rows []string) {
	for p, row := range k.table {
		for in, t := range row {
			if t.possible && !k.used[p][in] {
				rows = append(rows, fmt.Sprintf("%s, %s", phase(p), input(in)))
			}
		}
	}
	return rows
}

// deadEnds returns the worlds from which the task does not get to an end, and is not paused, by what its driver brings: when the body returns, and
// nobody asks for anything more.
func (k *walk) deadEnds() (paths []string) {
	into := make([][]int, len(k.order))
	ends := make([]bool, len(k.order))
	var queue []int
	for i, w := range k.order {
		for _, s := range k.leads[i] {
			if s.move.in.byDriver() {
				into[s.world] = append(into[s.world], i)
			}
		}
		if w.phase.ended() || w.phase == paused {
			ends[i] = true
			queue = append(queue, i)
		}
	}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, i := range into[queue[0]] {
			if !ends[i] {
				ends[i] = true
				queue = append(queue, i)
			}
		}
	}
	for i := range k.order {
		if !ends[i] {
			paths = append(paths, k.path(i))
		}
	}
	return paths
}

func TestStepKeepsThePromises(t *testing.T) {
	k := walk{table: &table, room: mostWaiters - 1}
	const most = 64
	require.Empty(t, k.run(most))
	t.Logf("%d worlds, %d steps; the last new world after %d", len(k.order), k.steps, k.depth)
	require.Less(t, k.depth, most, "there are new worlds still: the walk does not stand for all sequences")
	assert.Empty(t, k.unused(), "rows that nothing uses")
	assert.Empty(t, k.deadEnds(), "where no end can be reached")

	short := walk{table: &table, room: 2}
	require.Empty(t, short.run(1))
	assert.Contains(t, short.unused(), "stopping, returnedDone", "a walk of one step has not got there")
	assert.Contains(t, short.deadEnds(), "waiting, beginNow", "and has got no further than that")
}

// Where it is known what follows a run, the two rows are one step: it leads where they lead one after the other, and has the effects of
// both. So what the walk finds of the two holds for the one.
func TestStepWithAnOutlookIsTwoSteps(t *testing.T) {
	judged := 0
	for p := range phases {
		for pending := range parentDoneRequest + 1 {
			for in := range inputs {
				for i := range 2 * (parentDoneRequest + 1) {
					q, drains := i/2, i%2 == 1
					m := machine{p, pending, drains}
					next, do, ok := table.step(m, in, q, unjudged, drains)
					for o, by := range map[outlook]input{willRestart: judgedRestart, willGiveUpPass: judgedNextPass, willGiveUp: judgedGiveUp, willCool: judgedCooldown} {
						wantNext, wantDo := next, do
						if ok && next.phase == judging && do&refuse == 0 {
							judged++
							after, more, heard := table.step(next, by, noRequest, unjudged, false)
							require.True(t, heard)
							wantNext, wantDo = after, do|more
						}
						gotNext, gotDo, gotOK := table.step(m, in, q, o, drains)
						require.Equal(t, ok, gotOK, "%v, %v", m, in)
						require.Equal(t, wantNext, gotNext, "%v, %v", m, in)
						require.Equal(t, wantDo, gotDo, "%v, %v", m, in)
					}
				}
			}
		}
	}
	assert.Positive(t, judged)
}

// A change is one that breaks a row of the table.
type change struct {
	phase phase
	in    input
	what  string
	row   transition

	resolves bool // it is about who is answered
}

func (c change) String() string { return fmt.Sprintf("%s, %s: %s", c.phase, c.in, c.what) }

// changes are all that touch one row, or add one.
func (table *transitions) changes() (cs []change) {
	for p := range phases {
		for in := range inputs {
			row := table[p][in]
			add := func(what string, changed transition) {
				const resolve = resolveRestarts | resolveAll
				resolves := changed.to == row.to && (changed.do^row.do)&resolve != 0 && changed.do&resolve != resolve
				cs = append(cs, change{p, in, what, changed, resolves})
			}
			if !row.possible {
				add("added", then(p))
				continue
			}
			add("dropped", transition{})
			for to := range phases {
				if to != row.to {
					add("to "+to.String(), transition{true, to, row.do})
				}
			}
			for i := range effects {
				e := effect(1) << i
				if row.do&e != 0 {
					add("without "+e.String(), transition{true, row.to, row.do &^ e})
				} else {
					add("with "+e.String(), transition{true, row.to, row.do | e})
				}
			}
		}
	}
	return cs
}

// harmless says why a change breaks nothing; "" if it does.
func (c change) harmless() string {
	if !c.resolves {
		return ""
	}
	switch c.phase {
	case running:
		if c.in == returnedDone || c.in == returnedAgain || c.in == returnedLeaves || c.in == becameHealthy {
			return "nobody waits for a task of which nothing is asked. (The end of a life answers all the same, in each row.)"
		}
	case judging, inBackoff, cooling:
		if c.in.byDriver() || c.phase == cooling && c.in == resumed {
			return "likewise: who asks something of it there takes it elsewhere"
		}
	case paused:
		if c.in == resumed {
			return "all have been answered when it was paused"
		}
	case completed, failed, stopped:
		if c.in == revived {
			return "all have been answered at the end of the life before"
		}
	case overdue:
		if c.in == overduePassed {
			return "the watchdog alone has waited, and does no longer"
		}
	case overdueStuck, unbindingStuck:
		if c.in.byDriver() {
			return "likewise"
		}
	case unbinding:
		if c.in.byDriver() && c.in != returnedLeaves || c.in == overduePassed {
			return "likewise, of the one that ends the run for a loss"
		}
	}
	if c.in == triggered && (c.phase == running || c.phase == judging || c.phase == inBackoff) {
		return "nobody waits for a task of which nothing is asked"
	}
	if c.phase == replacingStuck && c.in == askedPause && c.what == "with resolveRestarts" {
		return "who waits for a restart there is the third beside those of the replacement and the pause, and there is room for two"
	}
	if c.in == askedReplace && (c.phase == running && c.what == "with resolveRestarts" || c.phase >= judging) {
		return "nobody waits but who has just asked, and has been told by the adoption"
	}
	if (c.in == askedStop || c.in == askedPause) && (c.phase == running || c.phase == overdueStuck || c.phase == unbindingStuck) && c.what == "with resolveRestarts" {
		return "nobody waits but who has just asked for a stop, or a pause"
	}
	return ""
}

func TestStepBrokenAnywhereIsFound(t *testing.T) {
	found, harmless := 0, 0
	for _, c := range table.changes() {
		changed := table
		changed[c.phase][c.in] = c.row
		k := walk{table: &changed, room: 2}
		message := k.run(64)
		if message == "" {
			message = strings.Join(k.unused(), "\n")
		}
		if why := c.harmless(); why != "" {
			harmless++
			assert.Empty(t, message, "%s: is said to be harmless: %s", c, why)
			continue
		}
		found++
		assert.True(t, strings.HasPrefix(message, fmt.Sprintf("%s, %s", c.phase, c.in)), "%s: is not found, or another row is named: %s", c, message)
	}
	t.Logf("%d changes are found, %d are harmless", found, harmless)
}
