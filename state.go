package taskmanager

import "strings"

// What becomes of a task is decided here and nowhere else: by step, which is pure. It reads no clock, takes no lock,
// calls nobody and starts nothing. It is given where a task is (machine) and what has happened (input), looks up the row
// of the two in the table, and returns where the task is then, and what is to be done about it (effect).
// Task.applyLocked carries that out. docs/ARCHITECTURE.md has the table as a drawing; a test keeps the two equal.

// A State is where a task is in its life. The zero value is StateWaiting.
type State uint32

// The states of a task. The last three are its end.
const (
	StateWaiting   State = iota // its next run is about to begin, or waits for a dependency, or for its lease
	StateRunning                // the body executes, or will once the log has been told of the start
	StateBackoff                // a run has failed; the next one is to be decided on, or waits for its delay
	StateStopping               // was asked to stop, to restart or to pause, or its run was canceled; the body has not returned
	StateStuck                  // as StateStopping, and the deadline has passed
	StatePaused                 // was paused by hand, or has a cooldown; no run begins until it is resumed, or the cooldown is over
	StateCompleted              // has ended: the body returned nil
	StateFailed                 // has ended: was given up
	StateStopped                // has ended: was stopped
)

var stateNames = [...]string{"waiting", "running", "backoff", "stopping", "stuck", "paused", "completed", "failed", "stopped"}

// String returns the state in lower case: "running".
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// MarshalText implements [encoding.TextMarshaler].
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Ended reports whether the state is one of the last three: nothing executes, and the name is free.
func (s State) Ended() bool { return s >= StateCompleted }

// A request is what somebody wants of a task. A larger one overrides a smaller one, but for that to stop which came first.
type request uint8

const (
	noRequest      request = iota
	overdueRequest         // the run was canceled because its body was late to say something: a failure
	unboundRequest         // the run was canceled because a task that it is bound to, or its lease, was lost
	restartRequest
	replaceRequest
	pauseRequest
	failedRestartRequest // the restart that was asked for has timed out: the task stops instead
	failedReplaceRequest // likewise, the replacement
	stopRequest          // of the task alone
	stopAllRequest       // as stopRequest; of all tasks
	shutdownRequest
	parentDoneRequest
)

// stops reports whether the task is to stop for good.
func (q request) stops() bool { return q >= failedRestartRequest }

// alone reports whether the task is to stop without what depends on it.
func (q request) alone() bool { return q >= failedRestartRequest && q <= stopRequest }

// A phase is a State, and what step has to know besides.
type phase uint8

const (
	waiting         phase = iota
	running               // the body executes, and nobody has asked for anything
	overdue               // the body executes; its run was canceled because it was late, and will have failed
	unbinding             // the body executes; its run was canceled because a task that it is bound to, or its lease, was lost
	restarting            // the body executes, and was asked to return, so that the next run can begin
	replacing             // the body executes, and was asked to return, so that another one can take its place
	pausing               // the body executes, and was asked to return, and no run is to follow until somebody says so
	stopping              // the body executes, and was asked to return for good
	overdueStuck          // as overdue, and the deadline has passed
	unbindingStuck        // as unbinding, and the deadline has passed
	restartingStuck       // as restarting, and the deadline has passed that it had because it was canceled before it was asked
	replacingStuck        // as replacing, likewise
	pausingStuck          // as pausing, and the deadline has passed
	stuck                 // as stopping, and the deadline has passed
	judging               // the body has returned, and user code is asked whether there will be another run
	inBackoff             // waits for the delay before the next run
	cooling               // was given up, and waits for its cooldown before it begins afresh
	paused                // waits until somebody resumes it, without a goroutine
	completed
	failed
	stopped
	phases // how many there are
)

var phaseStates = [phases]State{
	waiting: StateWaiting, running: StateRunning,
	overdue: StateStopping, unbinding: StateStopping, restarting: StateStopping, replacing: StateStopping,
	pausing: StateStopping, stopping: StateStopping,
	overdueStuck: StateStuck, unbindingStuck: StateStuck, restartingStuck: StateStuck, replacingStuck: StateStuck,
	pausingStuck: StateStuck, stuck: StateStuck,
	judging: StateBackoff, inBackoff: StateBackoff, cooling: StatePaused, paused: StatePaused,
	completed: StateCompleted, failed: StateFailed, stopped: StateStopped,
}

func (p phase) state() State { return phaseStates[p] }

var phaseNames = [phases]string{
	waiting: "waiting", running: "running",
	overdue: "overdue", unbinding: "unbinding", restarting: "restarting", replacing: "replacing",
	pausing: "pausing", stopping: "stopping",
	overdueStuck: "overdueStuck", unbindingStuck: "unbindingStuck", restartingStuck: "restartingStuck", replacingStuck: "replacingStuck",
	pausingStuck: "pausingStuck", stuck: "stuck",
	judging: "judging", inBackoff: "inBackoff", cooling: "cooling", paused: "paused",
	completed: "completed", failed: "failed", stopped: "stopped",
}

func (p phase) String() string { return phaseNames[p] }

func (p phase) ended() bool { return p >= completed }

// executes reports whether the body executes.
func (p phase) executes() bool { return p >= running && p <= stuck }

// restarts reports whether the body executes, and was asked to return so that the next run can begin, be it of another body.
func (p phase) restarts() bool {
	return pendingIn[p] == restartRequest || pendingIn[p] == replaceRequest
}

// An input is something that has happened to a task.
type input uint8

const (
	beginNow       input = iota // nothing is in the way of the next run: it begins
	holdNow                     // a dependency is not ready, or others have the lease: the next run waits for it
	returnedDone                // the body has returned nil, which completes a task that nobody has asked for anything
	returnedAgain               // the body has ended in any other way: a failure, or nil where that is no end
	returnedLeaves              // as returnedAgain, and said that something that it has started still executes
	judgedRestart               // the run that was judged will be followed by another one
	judgedNextPass              // likewise, but its pass will not be tried again: the next one is that of the next tick
	judgedGiveUp                // no further run is allowed
	judgedCooldown              // likewise, until the cooldown of the task is over
	becameOverdue               // the body has missed a heartbeat, or its time to be ready
	dependencyLost              // a task that this one is bound to has left running, and has not completed; or the lease was lost
	becameHealthy               // a failure of the task was told, and this run is healthy
	askedRestart                // a restart by hand
	askedReplace                // another body and configuration are to take the place of those that the task has
	askedPause                  // a pause by hand
	askedStop                   // any request from stopRequest on
	resumed                     // by hand
	deadlinePassed              // that of a request which the task has not followed yet
	overduePassed               // that of a run that was canceled, late or unbound: what was asked of it since has a deadline of its own
	drainPassed                 // the time for work in hand, or the lease is lost: the context of the run ends
	revived                     // a restart by hand of a task that has ended
	triggered                   // a pass is asked for by hand, of a task that makes passes
	inputs                      // how many there are
)

var inputNames = [inputs]string{
	beginNow: "beginNow", holdNow: "holdNow",
	returnedDone: "returnedDone", returnedAgain: "returnedAgain", returnedLeaves: "returnedLeaves",
	judgedRestart: "judgedRestart", judgedNextPass: "judgedNextPass", judgedGiveUp: "judgedGiveUp", judgedCooldown: "judgedCooldown",
	becameOverdue: "becameOverdue", dependencyLost: "dependencyLost", becameHealthy: "becameHealthy",
	askedRestart: "askedRestart", askedReplace: "askedReplace", askedPause: "askedPause", askedStop: "askedStop", resumed: "resumed",
	deadlinePassed: "deadlinePassed", overduePassed: "overduePassed", drainPassed: "drainPassed",
	revived: "revived", triggered: "triggered",
}

func (in input) String() string { return inputNames[in] }

// asksToReturn reports whether in is a request on which a run may drain. To be late is none: who does not answer has no work in
// hand that is worth a wait.
func (in input) asksToReturn() bool { return in >= askedRestart && in <= askedStop }

// asking returns the input by which q is made known to a task.
func (q request) asking() input {
	switch q {
	case overdueRequest:
		return becameOverdue
	case unboundRequest:
		return dependencyLost
	case restartRequest:
		return askedRestart
	case replaceRequest:
		return askedReplace
	case pauseRequest:
		return askedPause
	default:
		return askedStop
	}
}

// An effect is what is to be done about an input. Several are a sum. They are carried out in this order.
type effect uint32

const (
	refuse            effect = 1 << iota // tell whoever asked that the task can't do it
	countFailure                         // note how the run has ended; a failure is counted
	noLongerStuck                        // the body has returned after all
	publishRunEnd                        // EventFailed, or EventCompleted of a run that will be repeated: of the run that was judged
	publishStarted                       // EventStarted
	publishRestart                       // EventStopped, of a run that will be followed by another one, be it of another body
	publishStopped                       // EventStopped, of the task
	publishPaused                        // EventPaused
	publishResumed                       // EventResumed
	publishGaveUp                        // EventGaveUp
	publishPassGaveUp                    // EventPassGaveUp, of the run that was judged
	publishDone                          // EventCompleted, of the task
	publishStuck                         // EventStuck, as soon as it is known where the body is
	publishRecovered                     // EventRecovered
	publishTriggered                     // EventTriggered
	endLife                              // the task has ended: those who wait for that hear of it, and its name is free
	beginLife                            // the task begins anew
	adopt                                // it does so with the body and the configuration that were asked for last; who waits for that hears of it
	resolveRestarts                      // who waits for a restart hears that it has been done
	resolveAll                           // who waits for anything hears what has become of the task
	loseBound                            // those that are bound to the task hear that it is lost
	triggerPass                          // a pass begins as soon as it can
	cancelRun                            // end the context of the run
	beginDrain                           // say that the run is to end, and let its context live on for a while
	wakeDriver                           // the goroutine of the task has something to do
	effects           = iota             // how many there are
)

// publishAny are all that publish an event.
const publishAny = publishRunEnd | publishStarted | publishRestart | publishStopped | publishPaused | publishResumed |
	publishGaveUp | publishPassGaveUp | publishDone | publishStuck | publishRecovered | publishTriggered

var effectNames = [effects]string{
	"refuse", "countFailure", "noLongerStuck",
	"publishRunEnd", "publishStarted", "publishRestart", "publishStopped", "publishPaused", "publishResumed", "publishGaveUp",
	"publishPassGaveUp", "publishDone", "publishStuck", "publishRecovered", "publishTriggered",
	"endLife", "beginLife", "adopt", "resolveRestarts", "resolveAll", "loseBound", "triggerPass", "cancelRun", "beginDrain", "wakeDriver",
}

func (e effect) String() string {
	var names []string
	for i, name := range effectNames {
		if e&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// A transition is a row of the table: where the task is then, and what is to be done.
type transition struct {
	possible bool
	to       phase
	do       effect
}

func then(to phase, do ...effect) transition {
	t := transition{possible: true, to: to}
	for _, e := range do {
		t.do |= e
	}
	return t
}

type transitions [phases][inputs]transition

// table has every transition that there is. What it does not have is news that came too late, and changes nothing.
var table = transitions{
	waiting: {
		beginNow:     then(running, publishStarted, resolveRestarts),
		holdNow:      then(waiting, resolveRestarts),
		judgedGiveUp: then(failed, countFailure, publishGaveUp, endLife, resolveAll), // what the run before has started executes still, or the lease is refused
		askedRestart: then(waiting, resolveRestarts, wakeDriver),                     // a run begins as soon as it can
		askedReplace: then(waiting, adopt, wakeDriver),
		askedPause:   then(paused, publishPaused, resolveAll, wakeDriver),
		askedStop:    then(stopped, publishStopped, endLife, resolveAll, wakeDriver),
		resumed:      then(waiting, refuse),
		triggered:    then(waiting, publishTriggered, triggerPass),
	},
	running: {
		returnedDone:   then(completed, publishDone, endLife, resolveAll),
		returnedAgain:  then(judging, countFailure, loseBound),
		returnedLeaves: then(failed, countFailure, publishGaveUp, endLife, resolveAll, loseBound), // another run would meet what still executes
		becameOverdue:  then(overdue, loseBound, cancelRun),
		becameHealthy:  then(running, publishRecovered),
		dependencyLost: then(unbinding, loseBound, cancelRun),
		askedRestart:   then(restarting, loseBound, cancelRun),
		askedReplace:   then(replacing, loseBound, cancelRun),
		askedPause:     then(pausing, loseBound, cancelRun),
		askedStop:      then(stopping, loseBound, cancelRun),
		resumed:        then(running, refuse),
		triggered:      then(running, publishTriggered, triggerPass),
	},
	overdue: {
		returnedDone:   then(judging, countFailure, resolveAll),
		returnedAgain:  then(judging, countFailure, resolveAll),
		returnedLeaves: then(failed, countFailure, publishGaveUp, endLife, resolveAll),
		askedRestart:   then(restarting),
		askedReplace:   then(replacing),
		askedPause:     then(pausing),
		askedStop:      then(stopping),
		resumed:        then(overdue, refuse),
		overduePassed:  then(overdueStuck, publishStuck),
		triggered:      then(overdue, refuse),
	},
	unbinding: {
		returnedDone:   then(waiting, publishRestart),
		returnedAgain:  then(waiting, publishRestart),
		returnedLeaves: then(failed, countFailure, publishGaveUp, endLife, resolveAll),
		askedRestart:   then(restarting),
		askedReplace:   then(replacing),
		askedPause:     then(pausing),
		askedStop:      then(stopping),
		resumed:        then(unbinding, refuse),
		overduePassed:  then(unbindingStuck, publishStuck),
		triggered:      then(unbinding, refuse),
	},
	restarting: {
		returnedDone:   then(waiting, publishRestart),
		returnedAgain:  then(waiting, publishRestart),
		returnedLeaves: then(failed, countFailure, publishGaveUp, endLife, resolveAll),
		askedRestart:   then(restarting),
		askedReplace:   then(replacing),
		askedPause:     then(pausing),
		askedStop:      then(stopping),
		resumed:        then(restarting, refuse),
		deadlinePassed: then(stuck, publishStuck), // the restart has failed, and must not happen later
		overduePassed:  then(restartingStuck, publishStuck),
		drainPassed:    then(restarting, cancelRun),
		triggered:      then(restarting, refuse),
	},
	replacing: {
		returnedDone:   then(waiting, publishRestart, adopt),
		returnedAgain:  then(waiting, publishRestart, adopt),
		returnedLeaves: then(failed, countFailure, publishGaveUp, endLife, resolveAll), // the other body would meet what still executes
		askedRestart:   then(replacing),
		askedReplace:   then(replacing), // what was asked for last is adopted
		askedPause:     then(pausing),
		askedStop:      then(stopping),
		resumed:        then(replacing, refuse),
		deadlinePassed: then(stuck, publishStuck), // the replacement has failed, and must not happen later
		overduePassed:  then(replacingStuck, publishStuck),
		drainPassed:    then(replacing, cancelRun),
		triggered:      then(replacing, refuse),
	},
	pausing: {
		returnedDone:   then(paused, publishPaused, resolveAll),
		returnedAgain:  then(paused, publishPaused, resolveAll),
		returnedLeaves: then(failed, countFailure, publishGaveUp, endLife, resolveAll),
		askedRestart:   then(pausing, refuse),
		askedReplace:   then(pausing, refuse),
		askedPause:     then(pausing),
		askedStop:      then(stopping),
		resumed:        then(pausing, refuse),
		deadlinePassed: then(pausingStuck, publishStuck),
		overduePassed:  then(pausingStuck, publishStuck),
		drainPassed:    then(pausing, cancelRun),
		triggered:      then(pausing, refuse),
	},
	stopping: {
		returnedDone:   then(stopped, publishStopped, endLife, resolveAll),
		returnedAgain:  then(stopped, publishStopped, endLife, resolveAll),
		returnedLeaves: then(stopped, publishStopped, endLife, resolveAll),
		askedRestart:   then(stopping, refuse),
		askedReplace:   then(stopping, refuse),
		askedPause:     then(stopping, refuse),
		askedStop:      then(stopping),
		resumed:        then(stopping, refuse),
		deadlinePassed: then(stuck, publishStuck),
		overduePassed:  then(stuck, publishStuck),
		drainPassed:    then(stopping, cancelRun),
		triggered:      then(stopping, refuse),
	},
	overdueStuck: {
		returnedDone:   then(judging, countFailure, noLongerStuck, resolveAll),
		returnedAgain:  then(judging, countFailure, noLongerStuck, resolveAll),
		returnedLeaves: then(failed, countFailure, publishGaveUp, noLongerStuck, endLife, resolveAll),
		askedRestart:   then(overdueStuck, refuse),
		askedReplace:   then(overdueStuck, refuse),
		askedPause:     then(pausingStuck),
		askedStop:      then(stuck),
		resumed:        then(overdueStuck, refuse),
		triggered:      then(overdueStuck, refuse),
	},
	unbindingStuck: {
		returnedDone:   then(waiting, publishRestart, noLongerStuck),
		returnedAgain:  then(waiting, publishRestart, noLongerStuck),
		returnedLeaves: then(failed, countFailure, publishGaveUp, noLongerStuck, endLife, resolveAll),
		askedRestart:   then(unbindingStuck, refuse),
		askedReplace:   then(unbindingStuck, refuse),
		askedPause:     then(pausingStuck),
		askedStop:      then(stuck),
		resumed:        then(unbindingStuck, refuse),
		triggered:      then(unbindingStuck, refuse),
	},
	restartingStuck: {
		returnedDone:   then(waiting, publishRestart, noLongerStuck),
		returnedAgain:  then(waiting, publishRestart, noLongerStuck),
		returnedLeaves: then(failed, countFailure, publishGaveUp, noLongerStuck, endLife, resolveAll),
		askedRestart:   then(restartingStuck, refuse),
		askedReplace:   then(restartingStuck, refuse),
		askedPause:     then(pausingStuck),
		askedStop:      then(stuck),
		resumed:        then(restartingStuck, refuse),
		deadlinePassed: then(stuck), // the restart has failed, and must not happen later
		triggered:      then(restartingStuck, refuse),
	},
	replacingStuck: {
		returnedDone:   then(waiting, publishRestart, noLongerStuck, adopt),
		returnedAgain:  then(waiting, publishRestart, noLongerStuck, adopt),
		returnedLeaves: then(failed, countFailure, publishGaveUp, noLongerStuck, endLife, resolveAll),
		askedRestart:   then(replacingStuck, refuse),
		askedReplace:   then(replacingStuck, refuse),
		askedPause:     then(pausingStuck),
		askedStop:      then(stuck),
		resumed:        then(replacingStuck, refuse),
		deadlinePassed: then(stuck),
		triggered:      then(replacingStuck, refuse),
	},
	pausingStuck: {
		returnedDone:   then(paused, publishPaused, noLongerStuck, resolveAll),
		returnedAgain:  then(paused, publishPaused, noLongerStuck, resolveAll),
		returnedLeaves: then(failed, countFailure, publishGaveUp, noLongerStuck, endLife, resolveAll),
		askedRestart:   then(pausingStuck, refuse),
		askedReplace:   then(pausingStuck, refuse),
		askedPause:     then(pausingStuck),
		askedStop:      then(stuck),
		resumed:        then(pausingStuck, refuse),
		deadlinePassed: then(pausingStuck),
		overduePassed:  then(pausingStuck),
		triggered:      then(pausingStuck, refuse),
	},
	stuck: {
		returnedDone:   then(stopped, publishStopped, noLongerStuck, endLife, resolveAll),
		returnedAgain:  then(stopped, publishStopped, noLongerStuck, endLife, resolveAll),
		returnedLeaves: then(stopped, publishStopped, noLongerStuck, endLife, resolveAll),
		askedRestart:   then(stuck, refuse),
		askedReplace:   then(stuck, refuse),
		askedPause:     then(stuck, refuse),
		askedStop:      then(stuck),
		resumed:        then(stuck, refuse),
		deadlinePassed: then(stuck),
		overduePassed:  then(stuck),
		triggered:      then(stuck, refuse),
	},
	judging: {
		judgedRestart:  then(inBackoff, publishRunEnd),
		judgedNextPass: then(inBackoff, publishPassGaveUp),
		judgedGiveUp:   then(failed, publishGaveUp, endLife, resolveAll),
		judgedCooldown: then(cooling, publishGaveUp),
		askedRestart:   then(waiting, publishRunEnd, wakeDriver),
		askedReplace:   then(waiting, publishRunEnd, adopt, wakeDriver),
		askedPause:     then(paused, publishRunEnd, publishPaused, resolveAll, wakeDriver),
		askedStop:      then(stopped, publishRunEnd, publishStopped, endLife, resolveAll, wakeDriver),
		resumed:        then(judging, refuse),
		triggered:      then(judging, publishTriggered, triggerPass),
	},
	inBackoff: {
		beginNow:     then(running, publishStarted),
		holdNow:      then(waiting),
		askedRestart: then(waiting, wakeDriver),
		askedReplace: then(waiting, adopt, wakeDriver),
		askedPause:   then(paused, publishPaused, resolveAll, wakeDriver),
		askedStop:    then(stopped, publishStopped, endLife, resolveAll, wakeDriver),
		resumed:      then(inBackoff, refuse),
		triggered:    then(waiting, publishTriggered, triggerPass, wakeDriver),
	},
	cooling: {
		beginNow:     then(running, publishStarted),
		holdNow:      then(waiting),
		askedRestart: then(waiting, publishResumed, wakeDriver),
		askedReplace: then(waiting, adopt, wakeDriver),
		askedPause:   then(paused, publishPaused, resolveAll, wakeDriver),
		askedStop:    then(stopped, publishStopped, endLife, resolveAll, wakeDriver),
		resumed:      then(waiting, publishResumed, wakeDriver),
		triggered:    then(cooling, refuse),
	},
	paused: {
		askedRestart: then(waiting, publishResumed, wakeDriver),
		askedReplace: then(paused, adopt),
		askedPause:   then(paused, resolveAll),
		askedStop:    then(stopped, publishStopped, endLife, resolveAll, wakeDriver),
		resumed:      then(waiting, publishResumed, wakeDriver),
		triggered:    then(paused, refuse),
	},
	completed: ended(completed),
	failed:    ended(failed),
	stopped:   ended(stopped),
}

// ended are the rows of a phase that has ended.
func ended(p phase) [inputs]transition {
	return [inputs]transition{
		askedRestart: then(p, refuse), askedPause: then(p, refuse), askedStop: then(p, refuse), resumed: then(p, refuse),
		askedReplace: then(waiting, beginLife, adopt), revived: then(waiting, beginLife), triggered: then(p, refuse),
	}
}

// A machine is where a task is.
type machine struct {
	phase   phase
	pending request // what the task has been asked for and has not done yet; in an ended phase, why it has ended; of a paused task, the pause

	// draining says that the body executes and was asked to return, and that the context of its run has not ended, so that
	// work in hand can be finished.
	draining bool
}

// pendingIn is what is pending in a phase; stopRequest stands for whichever stop it is.
var pendingIn = [phases]request{
	overdue: overdueRequest, overdueStuck: overdueRequest,
	unbinding: unboundRequest, unbindingStuck: unboundRequest,
	restarting: restartRequest, restartingStuck: restartRequest,
	replacing: replaceRequest, replacingStuck: replaceRequest,
	pausing: pauseRequest, pausingStuck: pauseRequest, paused: pauseRequest,
	stopping: stopRequest, stuck: stopRequest, stopped: stopRequest,
}

// An outlook is what is known of what follows a run, at the moment at which it ends.
type outlook uint8

const (
	unjudged outlook = iota // user code is still to be asked
	willRestart
	willGiveUpPass
	willGiveUp
	willCool
)

// judgedBy is the input that brings what an outlook says.
var judgedBy = [...]input{willRestart: judgedRestart, willGiveUpPass: judgedNextPass, willGiveUp: judgedGiveUp, willCool: judgedCooldown}

// step decides what becomes of a task in m about which in has become known. q is the request of an askedStop; of any
// other input it is not looked at. If in leads to judging, and o says what follows, the two rows are one step: the task is
// never seen between them. drains says that a run of which something is asked has time for its work in hand: beginDrain
// takes the place of cancelRun, which comes with drainPassed, or with the deadline if that is earlier. It returns false if
// in has come too late: nothing has changed then.
func (table *transitions) step(m machine, in input, q request, o outlook, drains bool) (machine, effect, bool) {
	row := &table[m.phase][in]
	if !row.possible || in == drainPassed && !m.draining {
		return m, 0, false
	}
	to, do := row.to, row.do
	if do&refuse != 0 {
		return m, do, true
	}
	if to == judging && o != unjudged {
		row = &table[judging][judgedBy[o]]
		to, do = row.to, do|row.do
	}
	draining := false
	if m.draining || drains { // hardly ever
		draining = m.draining && to.executes()
		switch {
		case in == drainPassed:
			draining = false
		case draining && (in == deadlinePassed || in == overduePassed):
			draining, do = false, do|cancelRun
		case drains && in.asksToReturn() && do&cancelRun != 0:
			draining, do = true, do&^cancelRun|beginDrain
		}
	}
	pending := pendingIn[to]
	if pending == stopRequest {
		switch {
		case m.pending.stops():
			pending = m.pending // the first counts
		case in == askedStop:
			pending = q
		case m.pending == replaceRequest:
			pending = failedReplaceRequest
		default:
			pending = failedRestartRequest
		}
	}
	return machine{to, pending, draining}, do, true
}
