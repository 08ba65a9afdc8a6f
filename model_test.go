package taskmanager_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-taskmanager/taskmanager"
)

// Whatever is done to a Manager, and whatever its bodies do: it says and does what a model says that it should. Each example is a
// random script of steps in a bubble of its own. After each step everything that can be seen from outside is compared: states,
// counts, times, errors, events, causes of contexts, and what each call has returned and when. A failure is shrunk to a short
// script, and told as a line for each step.
func TestManagerDoesWhatTheModelSays(t *testing.T) {
	examples, seen := 0, make(map[string]int)
	check := func() {
		rapid.Check(t, func(rt *rapid.T) {
			script := scripts.Draw(rt, "script")
			history := rapid.SampledFrom([]int{128, 1, 0}).Draw(rt, "history")
			leased := rapid.SampledFrom([]string{unleased, unleased, leasesKept, leasesLost}).Draw(rt, "leased")
			rapid.SyncTest(rt, func(rt *rapid.T) {
				w := newWorld(rt, history)
				w.leased = leased
				defer w.finish()
				for _, s := range script {
					s = w.do(s, seen)
					synctest.Wait()
					w.model.settle()
					rt.Logf("%v: %v", w.since(time.Now()), s)
					w.compare(seen)
					w.catchUp()
				}
			})
			examples++
		})
	}
	check()
	if examples < 100 || flag.Lookup("rapid.seed").Value.String() != "0" {
		return // somebody looks for something, or at one seed
	}
	// What never happened has not been tested. Which examples are drawn is chance, so more of them are, until it has.
	unseen := sightsAfter(examples)
	for most := 50 * examples; ; check() {
		unseen = slices.DeleteFunc(unseen, func(what string) bool { return seen[what] > 0 })
		if len(unseen) == 0 || examples >= most {
			break
		}
	}
	assert.Empty(t, unseen, "after %d examples", examples)
}

// sightsAfter returns what must have been seen after about so many examples.
func sightsAfter(examples int) []string {
	sights := []string{"health ok", "health degraded", "health failing"}
	for state := taskmanager.StateWaiting; state <= taskmanager.StateStopped; state++ {
		sights = append(sights, state.String())
	}
	for _, reason := range []taskmanager.HealthReason{
		taskmanager.HealthGivenUp, taskmanager.HealthCompleted, taskmanager.HealthStuck, taskmanager.HealthCrashLoop,
		taskmanager.HealthTaskFailing, taskmanager.HealthNotReady, taskmanager.HealthPaused,
	} {
		sights = append(sights, "health "+string(reason))
	}
	for kind := taskmanager.EventStarted; kind <= taskmanager.EventTriggered; kind++ {
		sights = append(sights, "event "+kind.String())
	}
	for _, rare := range []map[string]int{rareSights, groupSights, passSights} {
		for what, after := range rare {
			if examples >= after {
				sights = append(sights, what)
			}
		}
	}
	return sights
}

// What is seen besides states, events and problems.
const (
	seenHeld     = "a next run waits for the log"
	seenLost     = "a run has ended because of a loss"
	seenLostLate = "a run that has lost what it is bound to is stuck"
	seenEntering = "a body waits for the log"
	seenKept     = "reports wait, though their reporter has failed three times"
	seenDrain    = "a body finishes what it has in hand"
	seenReplaced = "a task runs that was replaced when it was "
	seenKeptOff  = "a task is paused, as it was when it was replaced"
	seenUnheard  = "a task is stuck that was to be replaced"
	seenRevived  = "a task runs again, with all that were given up"
	seenNotSo    = "a replacement has failed: "
	seenAsked    = "somebody is known to have asked for a task to be "
	seenRun      = "Run returns because "
	runGone      = "a critical task is gone"
	runDone      = "its context is done"
	runShut      = "the Manager is shut down"
	runParent    = "the parent has ended"
)

// rareSights are what must have been seen after about so many examples.
var rareSights = map[string]int{
	seenEntering: 500, seenKept: 500, seenRun + runGone: 500, seenRun + runDone: 500, seenRun + runShut: 500, seenRun + runParent: 500,
	seenUnheld: 500, seenBackoff: 2000, seenUndrain: 2000,
	seenHeld: 500, seenDrain: 500, seenLost: 500, seenLostLate: 500, "health " + string(taskmanager.HealthHeartbeatOverdue): 500,
	seenReplaced + taskmanager.StateWaiting.String(): 500, seenReplaced + taskmanager.StateBackoff.String(): 500,
	seenReplaced + taskmanager.StateStopping.String(): 500, seenReplaced + taskmanager.StatePaused.String(): 500,
	seenReplaced + taskmanager.StateCompleted.String(): 500, seenReplaced + taskmanager.StateFailed.String(): 500,
	seenReplaced + taskmanager.StateStopped.String(): 500,
	seenKeptOff: 500, seenUnheard: 500, seenNotSo + isStopped.String(): 500, seenNotSo + isPaused.String(): 2000,
	seenNotSo + isRefused.String(): 5000, seenRevived: 500,
	seenAsked + taskmanager.EventStarted.String(): 500, seenAsked + taskmanager.EventStopped.String(): 500,
	seenAsked + taskmanager.EventPaused.String(): 500, seenAsked + taskmanager.EventResumed.String(): 500,
	seenAsked + taskmanager.EventStuck.String(): 500, seenAsked + taskmanager.EventTriggered.String(): 500,
}

// The names of the tasks in the scripts.
var modelNames = []string{"a", "b", "c"}

// A step is a line of a script. Its name and what else it needs depend on its verb.
type step struct {
	verb   string
	name   string
	some   []string      // stop some
	task   modelOptions  // start, replace
	within time.Duration // stop, restart, replace, run: the deadline of the context; 0: none
	who    string        // has asked, of what is done by hand; empty: nobody says
	sleep  time.Duration
}

// context is that of the call.
func (s step) context() context.Context { return taskmanager.AskedBy(context.Background(), s.who) }

func (s step) String() string {
	if s.who != "" {
		return s.text() + ", by " + s.who
	}
	return s.text()
}

func (s step) text() string {
	switch s.verb {
	case "start":
		return fmt.Sprintf("start %s: %v", s.name, s.task)
	case "replace":
		if s.within > 0 {
			return fmt.Sprintf("replace %s within %v: %v", s.name, s.within, s.task)
		}
		return fmt.Sprintf("replace %s: %v", s.name, s.task)
	case "stop", "restart", "pause", "run":
		if s.within > 0 {
			return strings.TrimSpace(s.verb+" "+s.name) + fmt.Sprintf(" within %v", s.within)
		}
	case "stop some":
		return fmt.Sprintf("stop %v", s.some)
	case "sleep":
		return fmt.Sprintf("sleep %v", s.sleep)
	}
	return strings.TrimSpace(s.verb + " " + s.name)
}

func (s step) stopsAll() bool {
	return s.verb == "stop all" || s.verb == "stop some" || s.verb == "shut down" || s.verb == "end parent" || s.verb == "run"
}

// onlyWaits reports whether the step lets time pass, or is about the log or the reporter.
func (s step) onlyWaits() bool {
	first, _, _ := strings.Cut(s.verb, " ")
	return first == "sleep" || first == "log" || first == "reports"
}

// A modelScript is what one example does.
type modelScript []step

// GoString is what rapid prints of a script: the steps are logged one by one.
func (s modelScript) GoString() string { return fmt.Sprintf("%d steps", len(s)) }

// The verbs. Those that come more than once are drawn more often.
var verbs = []string{
	"start", "start", "start", "start", "start", "start",
	"stop", "stop", "restart", "restart", "restart", "replace", "replace", "replace", "pause", "pause", "resume", "resume", "restart failed",
	"trigger", "trigger", "lose lease", "lose lease",
	"stop some", "stop all", "shut down", "end parent",
	"sleep", "sleep", "sleep", "sleep", "sleep to next", "sleep to next", "sleep to next", "sleep to just before next",
	"sleep to edge", "fail in health", "fail in health", "fail in health",
	"log exits", "log hangs", "log hangs early", "log goes on", "log goes on",
	"run", "run", "shut down during run", "end parent during run",
	"reports fail", "reports hang", "reports are deaf", "reports succeed", "reports succeed",
	// What a body does, if it executes.
	"ready", "ready", "ready", "ready", "heartbeat", "heartbeat", "long heartbeat", "stale ready", "stale heartbeat",
	"return", "return", "fail", "fail", "fail", "panic", "panic with error", "goexit", "fail for good", "fail by canceled", "fail by cause", "fail by cause", "fail by stuck",
}

// scripts is nested because a plain slice would be short.
var scripts = rapid.Custom(func(rt *rapid.T) modelScript {
	parts := rapid.SliceOf(rapid.SliceOf(rapid.SliceOfN(rapid.Custom(drawStep), 0, 6))).Draw(rt, "parts")
	script := slices.Concat(slices.Concat(parts...)...)
	if rapid.Bool().Draw(rt, "without groups") { // beside which the log does not hang early
		for i := range script {
			script[i].task.becomePlain()
		}
	}
	return script
})

// byHand are the verbs of which somebody may say who has asked.
var byHand = []string{"stop", "stop some", "stop all", "shut down", "restart", "restart failed", "replace", "pause", "resume", "trigger"}

func drawStep(rt *rapid.T) step {
	s := drawVerb(rt)
	if slices.Contains(byHand, s.verb) {
		s.who = rapid.SampledFrom([]string{"", "alice", "", "bob"}).Draw(rt, "who")
	}
	return s
}

func drawVerb(rt *rapid.T) step {
	s := step{verb: rapid.SampledFrom(verbs).Draw(rt, "verb")}
	switch s.verb {
	case "sleep":
		s.sleep = time.Duration(rapid.IntRange(1, 12).Draw(rt, "seconds")) * time.Second
		return s
	case "shut down", "end parent":
		if rapid.IntRange(0, 9).Draw(rt, "rarely") < 9 { // what comes after it is dull
			return step{verb: "sleep to next"}
		}
		return s
	case "run":
		s.within = rapid.SampledFrom([]time.Duration{0, 6*time.Second + 401*time.Millisecond}).Draw(rt, "within")
		return s
	case "stop some":
		s.some = slices.DeleteFunc(slices.Clone(modelNames), func(string) bool { return rapid.IntRange(0, 3).Draw(rt, "left alone") == 3 })
		return s
	case "restart failed", "stop all", "sleep to next", "sleep to just before next", "shut down during run", "end parent during run":
		return s
	}
	if s.onlyWaits() && s.verb != "sleep to edge" {
		return s
	}
	names := slices.Concat(modelNames, bodyNames)
	if s.verb == "start" || s.verb == "lose lease" {
		names = modelNames
	}
	s.name = rapid.SampledFrom(names).Draw(rt, "name")
	// No two tasks have the same durations, so that what they do never falls on the same nanosecond, where any order would do.
	unit := modelUnits[s.name]
	switch s.verb {
	case "stop", "restart", "replace", "pause":
		s.within = rapid.SampledFrom([]time.Duration{0, time.Second + 83*unit, 9*time.Second + 83*unit}).Draw(rt, "within")
	}
	switch s.verb {
	case "start", "replace":
		if group, _, within := strings.Cut(s.name, "/"); within {
			s.task = drawMember(rt, s.name)
			s.task.dependsOn = slices.DeleteFunc([]string{group + "/x", group + "/y"}, func(string) bool {
				return rapid.IntRange(0, 3).Draw(rt, "independent") < 3
			})
			return s
		}
		s.task = drawOptions(rt, unit)
		s.task.dependsOn = slices.DeleteFunc(slices.Clone(modelNames), func(string) bool {
			return rapid.IntRange(0, 3).Draw(rt, "independent") < 3
		})
		s.task.boundTo = slices.DeleteFunc(slices.Clone(s.task.dependsOn), func(string) bool { return rapid.Bool().Draw(rt, "unbound") })
		if rapid.IntRange(0, 2).Draw(rt, "group") == 2 {
			s.task.becomeGroup(drawMembers(rt, s.name))
		}
	}
	return s
}

func drawOptions(rt *rapid.T, unit time.Duration) modelOptions {
	return modelOptions{
		policy:      rapid.SampledFrom([]taskmanager.RestartPolicy{taskmanager.RestartOnFailure, taskmanager.RestartOnFailure, taskmanager.RestartAlways, taskmanager.RestartNever}).Draw(rt, "policy"),
		most:        rapid.SampledFrom([]int{2, 1, 0, 3, taskmanager.Unlimited}).Draw(rt, "max restarts"),
		window:      rapid.SampledFrom([]time.Duration{10 * time.Second, time.Minute}).Draw(rt, "window"),
		initial:     rapid.SampledFrom([]time.Duration{0, time.Second + unit}).Draw(rt, "initial"),
		healthy:     rapid.SampledFrom([]time.Duration{0, 4 * time.Second}).Draw(rt, "healthy"),
		readiness:   rapid.SampledFrom([]time.Duration{0, 2*time.Second + 17*unit}).Draw(rt, "readiness"),
		watchdog:    rapid.SampledFrom([]time.Duration{0, 0, 3*time.Second + 31*unit}).Draw(rt, "watchdog"),
		stopTimeout: 2*time.Second + 53*unit,
		drain:       rapid.SampledFrom([]time.Duration{0, 0, time.Second + 29*unit}).Draw(rt, "drain"),
		cooldown:    rapid.SampledFrom([]time.Duration{0, 0, 5*time.Second + 229*unit}).Draw(rt, "cooldown"),
		critical:    rapid.IntRange(0, 2).Draw(rt, "critical") == 0,
		every:       rapid.SampledFrom([]time.Duration{0, 0, 3*time.Second + 137*unit, 20*time.Second + 137*unit}).Draw(rt, "every"),
		deaf:        rapid.Bool().Draw(rt, "deaf"),
		farewell:    rapid.SampledFrom([]string{"return", "fail by canceled", "fail by cause", "fail"}).Draw(rt, "farewell"),
	}
}

// A world is a Manager, its bodies and the calls of it that are under way, and the model of all that.
type world struct {
	t         *rapid.T
	began     time.Time
	manager   *taskmanager.Manager
	groups    map[string]*taskmanager.Manager // of the latest runs
	model     *model
	events    <-chan taskmanager.Event
	heard     []taskmanager.Event // that have yet to be compared
	endParent context.CancelCauseFunc
	unlisten  context.CancelFunc
	release   chan struct{} // closed at the end, for the deaf
	commands  map[string]chan string
	leased    string                 // see leasesKept
	leases    map[string]*modelLease // by name
	log       *fickleLog
	reporter  *fickleReporter
	reported  int // events of which the model says that reporters have to hear
	revived   int // tasks by a restart of all that have failed

	mu        sync.Mutex
	contexts  map[string][]context.Context // of all runs of the name
	executing map[string]int
	calls     []*call
}

// A call is one call of the Manager, with a goroutine of its own.
type call struct {
	name    string
	model   *modelCall
	outcome *outcomeOfCall // nil as long as it has not returned
}

type outcomeOfCall struct {
	at    time.Duration // since the world began
	err   errorSet
	stuck []string // the tasks of its StopTimeoutErrors
}

func (o *outcomeOfCall) String() string {
	if o == nil {
		return "nothing yet"
	}
	return fmt.Sprintf("%v: error %v of %v", o.at, o.err, o.stuck)
}

func newWorld(t *rapid.T, history int) *world {
	parent, endParent := context.WithCancelCause(context.Background())
	log, reporter := &fickleLog{}, &fickleReporter{}
	m, err := taskmanager.New(taskmanager.WithLogger(slog.New(log)), taskmanager.WithContext(parent),
		taskmanager.WithBackoffJitter(0), taskmanager.WithBackoffFactor(2), taskmanager.WithHistory(history))
	require.NoError(t, err)
	ctx, unlisten := context.WithCancel(context.Background())
	w := &world{
		t: t, began: time.Now(), manager: m, groups: make(map[string]*taskmanager.Manager), leases: make(map[string]*modelLease), model: newModel(history), log: log, reporter: reporter, events: m.Subscribe(ctx), endParent: endParent, unlisten: unlisten,
		release: make(chan struct{}), commands: make(map[string]chan string),
		contexts: make(map[string][]context.Context), executing: make(map[string]int),
	}
	for _, name := range bodyNames {
		w.commands[name] = make(chan string)
	}
	m.SetReporter(reporter)
	return w
}

// A fickleReporter takes what it is given, fails, hangs until its context ends, or hangs whatever its context does, as it is told.
type fickleReporter struct {
	mu     sync.Mutex
	mood   string
	goOn   chan struct{} // closed when what hangs is to go on
	taken  int           // events
	failed int           // calls
}

func (r *fickleReporter) Report(ctx context.Context, e taskmanager.Event) (err error) {
	r.mu.Lock()
	mood, goOn := r.mood, r.goOn
	r.mu.Unlock()
	switch mood {
	case "fail":
		err = errFail
	case "hang":
		select {
		case <-goOn:
		case <-ctx.Done():
			err = ctx.Err()
		}
	case "are deaf":
		<-goOn
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.failed++
		return err
	}
	r.taken += 1 + e.Repeats
	return nil
}

// be changes how the reporter is from now on. What hangs goes on.
func (r *fickleReporter) be(mood string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.goOn != nil {
		close(r.goOn)
	}
	r.mood, r.goOn = mood, make(chan struct{})
}

// A fickleLog is a log handler that hangs, or ends the goroutine by which it is called, as it is told.
type fickleLog struct {
	slog.Handler

	mu     sync.Mutex
	mood   string
	goOn   chan struct{} // closed when what hangs is to go on
	events int           // since the mood changed
}

func (l *fickleLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *fickleLog) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	mood, goOn := l.mood, l.goOn
	l.mu.Unlock()
	switch {
	case mood == "exits":
		runtime.Goexit()
	case mood == "hangs" && isLast(r), mood == "hangs early" && isEarly(r):
		<-goOn
	}
	return nil
}

// isLast reports whether the task has nothing to do after that line, so that only other lines wait while the handler hangs. For that a
// critical task is gone the lines of all tasks wait, and that one for those that the Manager has to say before it.
func isLast(r slog.Record) bool {
	goesOn := r.Message == passGaveUp || strings.HasPrefix(r.Message, "passes are skipped") ||
		strings.HasPrefix(r.Message, "critical task is gone") || strings.Contains(r.Message, " has no effect: ")
	r.Attrs(func(a slog.Attr) bool {
		why := a.Value.String()
		goesOn = goesOn || a.Key == "restart_in" || a.Key == "cause" &&
			(why == taskmanager.ErrRestarted.Error() || why == taskmanager.ErrReplaced.Error() || strings.HasSuffix(why, ", which was lost") || strings.HasSuffix(why, ": the engine has ended it"))
		return true
	})
	return !goesOn && r.Message != "task started" && r.Message != "task ready" && r.Message != "task resumed" && r.Message != "task recovered" && r.Message != "pass triggered" && !strings.HasSuffix(r.Message, "by hand")
}

// be changes how the handler is from now on. What hangs goes on.
func (l *fickleLog) be(mood string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.goOn != nil {
		close(l.goOn)
	}
	l.mood, l.events, l.goOn = mood, 0, make(chan struct{})
}

// passGaveUp is the line of an EventPassGaveUp.
const passGaveUp = "pass failed for good, task goes on"

// isEarly reports whether the line is one that the task waits for: that a run begins, before its body is entered, and that there
// will be another one, before that begins.
func isEarly(r slog.Record) bool {
	goesOn := r.Message == "task started" || r.Message == passGaveUp
	r.Attrs(func(a slog.Attr) bool {
		goesOn = goesOn || a.Key == "restart_in"
		return true
	})
	return goesOn
}

// logIs changes how the log's handler is, in the world and in the model.
func (w *world) logIs(mood string) {
	w.log.be(mood)
	w.model.logIs(mood)
}

// catchUp has the handler go on before so many lines wait that tasks wait for it.
func (w *world) catchUp() {
	const few = 5
	if w.model.logHangs() && w.log.events > few {
		w.logIs("goes on")
		synctest.Wait()
		w.model.settle()
	}
}

// finish ends everything, whatever state it is in.
func (w *world) finish() {
	w.log.be("goes on")
	w.reporter.be("succeed")
	go func() { _ = w.manager.Shutdown(context.Background()) }()
	synctest.Wait()
	close(w.release)
	w.unlisten()
	w.endParent(nil)
	time.Sleep(time.Minute)
	s := w.manager.Stats()
	assert.Equal(w.t, s.ReportsDelivered, uint64(w.reporter.taken)) //nolint:gosec // it is no large number
	assert.Zero(w.t, s.ReportsWaiting)
}

// since is the time of t, as the model has it.
func (w *world) since(t time.Time) time.Duration {
	if t.IsZero() {
		return never
	}
	return t.Sub(w.began)
}

// do takes the step in the world and in the model. It returns the step that it took: what a body is to do falls to one that
// executes, if any does.
func (w *world) do(s step, seen map[string]int) step {
	if verb, ok := strings.CutSuffix(s.verb, " during run"); ok {
		if len(w.model.runs) == 0 {
			return s
		}
		s.verb = verb
	}
	if s.stopsAll() && w.model.inTurns() {
		return s // the turns of both would come at the same moment, in any order
	}
	if (s.stopsAll() || s.verb == "stop" || s.verb == "restart" || s.verb == "replace" || s.verb == "pause") && w.model.hasJustCanceled() {
		return s // either might find it stuck
	}
	if w.model.isUntold(s) || len(w.model.runs) > 0 && w.model.isDelicate(s) {
		return s
	}
	if s.verb == "end parent" && w.model.holdsInTurn() {
		return s // whatever wakes one that waits before its turn comes ends it
	}
	if len(w.model.runs) > 0 {
		s.task.boundTo = nil // see hasBound
	}
	w.model.asker = s.who
	defer func() { w.model.asker = "" }()
	switch s.verb {
	case "start":
		_, err := w.manager.StartTask(s.name, w.body(s.name, s.task), w.options(s.name, s.task)...)
		require.Equal(w.t, w.model.start(s.name, s.task), errorsIn(err), "%v returned %v", s, err)
	case "stop":
		w.call(s, w.model.of(s.name).stop(s.name, s.within), func(ctx context.Context) error { return w.managerOf(s.name).StopTask(ctx, localName(s.name)) })
	case "restart":
		w.call(s, w.model.of(s.name).restart(s.name, s.within), func(ctx context.Context) error { return w.managerOf(s.name).RestartTask(ctx, localName(s.name)) })
	case "replace":
		w.call(s, w.model.of(s.name).replace(s.name, s.task, s.within), func(ctx context.Context) error { return w.replace(ctx, s) })
	case "pause":
		w.call(s, w.model.of(s.name).pause(s.name, s.within), func(ctx context.Context) error { return w.managerOf(s.name).PauseTask(ctx, localName(s.name)) })
	case "resume":
		err := w.onTask(s, (*taskmanager.Task).ResumeContext, (*taskmanager.Manager).ResumeTask)
		require.Equal(w.t, w.model.of(s.name).resume(s.name), errorsIn(err), "%v returned %v", s, err)
	case "trigger":
		err := w.onTask(s, (*taskmanager.Task).TriggerContext, (*taskmanager.Manager).TriggerTask)
		require.Equal(w.t, w.model.of(s.name).trigger(s.name), errorsIn(err), "%v returned %v", s, err)
	case "restart failed":
		n, err := w.manager.RestartFailed(s.context())
		wantN, want := w.model.restartFailed()
		require.Equal(w.t, fmt.Sprint(wantN, want), fmt.Sprint(n, errorsIn(err)), "%v returned %v", s, err)
		w.revived += n
	case "lose lease":
		w.loseLease(s.name, seen)
	case "stop some":
		w.call(s, w.model.stopSome(s.some), func(ctx context.Context) error { return w.manager.StopTasks(ctx, s.some...) })
	case "stop all":
		w.call(s, w.model.stopAll(askedToStopAll), w.manager.StopAll)
	case "log hangs", "log hangs early":
		if unknown := s.verb == "log hangs early" && w.model.hasGroups(); !unknown && !w.model.isAwaited() && !w.model.logHangs() {
			w.logIs(strings.TrimPrefix(s.verb, "log "))
		}
	case "log exits", "log goes on":
		w.logIs(strings.TrimPrefix(s.verb, "log "))
	case "reports fail", "reports hang", "reports are deaf", "reports succeed":
		if !w.model.isAwaited() {
			w.reporter.be(strings.TrimPrefix(s.verb, "reports "))
		}
	case "shut down":
		w.beAwaited()
		w.call(s, w.model.shutDown(), w.manager.Shutdown)
	case "run":
		if w.model.hasBound() || w.leased == leasesLost {
			return s
		}
		w.beAwaited()
		w.call(s, w.model.run(s.within), w.manager.Run)
	case "end parent":
		w.endParent(errParent)
		w.model.endParent()
	case "sleep":
		w.sleep(s.sleep)
	case "sleep to next":
		w.sleep(w.model.next() - w.model.now)
	case "sleep to just before next":
		w.sleep(w.model.next() - w.model.now - 1)
	case "sleep to edge":
		w.sleep(w.model.of(s.name).edge(s.name) - w.model.now)
	case "fail in health":
		if s.name = w.model.executing(s.name); s.name == "" {
			return s
		}
		w.sleep(w.model.of(s.name).health(s.name) - w.model.now)
		synctest.Wait()
		w.model.settle()
		if w.model.executing(s.name) == s.name {
			w.command(s.name, "fail")
		}
	case "stale ready", "stale heartbeat":
		if c := w.contexts[s.name]; len(c) > 1 {
			_, _ = obey(c[len(c)-2], strings.TrimPrefix(s.verb, "stale "))
		}
	default:
		if s.name = w.model.executing(s.name); s.name == "" || w.model.of(s.name).isRaceToEnd(s) {
			return s
		}
		w.command(s.name, s.verb)
	}
	return s
}

// onTask makes a call that takes a context as a method of the task alone.
func (w *world) onTask(s step, ofTask func(*taskmanager.Task, context.Context) error, ofManager func(*taskmanager.Manager, string) error) error {
	m, name := w.managerOf(s.name), localName(s.name)
	if task, ok := m.Lookup(name); ok && s.who != "" {
		return ofTask(task, s.context())
	}
	return ofManager(m, name)
}

// replace calls ReplaceTask.
func (w *world) replace(ctx context.Context, s step) error {
	m, name := w.managerOf(s.name), localName(s.name)
	before, known := m.Lookup(name)
	task, err := m.ReplaceTask(ctx, name, w.body(s.name, s.task), w.options(s.name, s.task)...)
	switch {
	case err != nil:
		return err
	case task == nil, known && task != before:
		return errors.New("it is not the task that had the name")
	}
	return nil
}

// beAwaited ends what Shutdown would wait for.
func (w *world) beAwaited() {
	asker := w.model.asker
	w.model.asker = "" // what happens meanwhile nobody has asked for
	defer func() { w.model.asker = asker }()
	w.logIs("goes on")
	w.reporter.be("succeed")
	synctest.Wait()
	w.model.settle()
}

// command has a body do what the verb says.
func (w *world) command(name, verb string) {
	select {
	case w.commands[name] <- verb:
	default:
		require.FailNow(w.t, "nobody obeys", "%s should execute, to %s", name, verb)
	}
	w.model.of(name).obey(name, verb)
}

// sleep lets time pass. It does nothing if d is not positive, or so long that there is nothing to wait for.
func (w *world) sleep(d time.Duration) {
	if d <= 0 || d >= time.Hour {
		return
	}
	const most = 5 * time.Second // before more may have happened than the channel of events holds, and a task may have left to the log
	for left := d; left > 0; left -= most {
		part := min(left, most)
		time.Sleep(part)
		synctest.Wait()
		w.model.sleep(part)
		w.hear()
		w.catchUp()
	}
}

// hear takes the events that have happened out of the channel.
func (w *world) hear() {
	events := received(w.events)
	w.heard = append(w.heard, events...)
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.log.events += len(events)
}

func (w *world) call(s step, m *modelCall, f func(context.Context) error) {
	c := &call{name: s.String(), model: m}
	w.calls = append(w.calls, c)
	go func() {
		ctx := s.context()
		if s.within > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, s.within)
			defer cancel()
		}
		err := f(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		c.outcome = &outcomeOfCall{at: w.since(time.Now()), err: errorsIn(err), stuck: stuckIn(err)}
	}()
}

// body returns a body that does as it is told, and returns when its context ends unless it is deaf.
func (w *world) body(name string, o modelOptions) taskmanager.TaskFunc {
	if o.isGroup() {
		return w.group(name, o)
	}
	obeys := func(ctx context.Context) error {
		done := ctx.Done()
		if o.deaf {
			done = nil
		}
		for {
			select {
			case verb := <-w.commands[name]:
				if ends, err := obey(ctx, verb); ends {
					return err
				}
			case <-done:
				_, err := obey(ctx, o.farewell)
				return err
			case <-w.release:
				return nil
			}
		}
	}
	if o.every > 0 {
		return taskmanager.Every(o.every, obeys) // see options
	}
	return w.noted(name)(obeys)
}

var (
	errFail   = errors.New("fail")
	errParent = errors.New("parent")
)

// obey does what the verb says, in a body whose context is ctx. It returns whether the body ends, and with what error.
func obey(ctx context.Context, verb string) (ends bool, err error) {
	switch verb {
	case "ready":
		taskmanager.Ready(ctx)
		return false, nil
	case "heartbeat":
		taskmanager.Heartbeat(ctx)
		return false, nil
	case "long heartbeat":
		taskmanager.HeartbeatWithin(ctx, longHeartbeat)
		return false, nil
	case "fail":
		return true, errFail
	case "panic":
		panic("why")
	case "panic with error":
		panic(errFail)
	case "goexit":
		runtime.Goexit()
	case "fail for good":
		return true, fmt.Errorf("wrapped: %w", backoff.Permanent(errFail))
	case "fail by canceled":
		return true, context.Canceled
	case "fail by cause":
		return ctx.Err() != nil, context.Cause(ctx)
	case "fail by stuck":
		return true, fmt.Errorf("wrapped: %w", &taskmanager.StopTimeoutError{})
	}
	return true, nil
}

// What can be seen of a task, with times since the world began.
type taskView struct {
	State                                   taskmanager.State
	Running, Ready, Done, Waits             bool
	Runs, Restarts, Failures, Panics        uint64
	InWindow, InARow, Executing             int
	Started, RunStarted, Uptime, Next, Over time.Duration
	LastErr                                 errorSet
	LastErrAt, FailingSince                 time.Duration
	Err                                     errorSet
	ErrRestarts                             int
	Causes                                  []errorSet // of the contexts of all runs
	Draining                                int        // of how many of them Draining is closed
	Passes                                  passesView
}

type eventView struct {
	Time     time.Duration
	Task     string
	Kind     taskmanager.EventKind
	Run      uint64
	Err      errorSet
	Cause    errorSet
	By       string
	Delay    time.Duration
	Restarts int
	Uptime   time.Duration
	Missed   int

	Failures    int
	FailedSince time.Duration
}

// compare fails unless the world is as the model is. It counts in seen what there was to see.
func (w *world) compare(seen map[string]int) {
	w.forget()
	s := w.manager.Stats()
	w.compareTasks(seen, w.model, w.manager, s)
	seen[seenRevived] += w.revived
	w.revived = 0
	w.compareEvents(seen)
	w.compareReports(s, seen)
	w.compareHealth(seen)
	w.compareCalls(seen)
}

// compareTasks is about the tasks of one Manager, whose Stats are s.
func (w *world) compareTasks(seen map[string]int, model *model, m *taskmanager.Manager, s taskmanager.ManagerStats) {
	var runs, failures, panics uint64
	states := make(map[taskmanager.State]int)
	for _, name := range model.names {
		want, known := model.view(name)
		task, ok := m.Lookup(localName(name))
		require.Equal(w.t, known, ok, "Lookup %s", name)
		if !known {
			continue
		}
		t := model.tasks[name]
		require.Equal(w.t, lines(want), lines(w.view(t, m, task)), "task %s", name)
		states[want.State]++
		if t.drainedBy != never {
			seen[seenDrain]++
		}
		seen[want.State.String()]++
		if t.lostSince != never && want.State == taskmanager.StateStuck {
			seen[seenLostLate]++
		}
		switch {
		case t.asked == askedToReplaceInVain && want.State == taskmanager.StateStuck:
			seen[seenUnheard]++
		case !t.replaced:
		case want.State == taskmanager.StateRunning:
			seen[seenReplaced+t.replacedIn.String()]++
		case want.State == taskmanager.StatePaused && t.replacedIn == taskmanager.StatePaused && t.counts.runs == 0:
			seen[seenKeptOff]++
		}
		if t.entering {
			seen[seenEntering]++
		} else if t.held && t.nextRun < w.model.now {
			seen[seenHeld]++
		}
		t.seePasses(seen)
		runs, failures, panics = runs+t.total.runs, failures+t.total.failures, panics+t.total.panics
		w.compareGroup(seen, t, s.Tasks[localName(name)].Group)
	}
	require.Equal(w.t, [...]uint64{runs + model.retired.runs, failures + model.retired.failures, panics + model.retired.panics},
		[...]uint64{s.Runs, s.Failures, s.Panics}, "total runs, failures and panics")
	require.Equal(w.t, [...]int{
		states[taskmanager.StateWaiting], states[taskmanager.StateRunning], states[taskmanager.StateBackoff],
		states[taskmanager.StateStopping], states[taskmanager.StateStuck], states[taskmanager.StatePaused],
		states[taskmanager.StateCompleted], states[taskmanager.StateFailed], states[taskmanager.StateStopped],
	}, [...]int{s.Waiting, s.Running, s.Backoff, s.Stopping, s.Stuck, s.Paused, s.Completed, s.Failed, s.Stopped}, "how many are in which state")
}

// forget has the model forget what the world has forgotten, as far as that is right: of tasks that have ended at the same moment
// it may be any.
func (w *world) forget() {
	for w.model.remembersTooMuch() {
		forgotten := ""
		for _, name := range w.model.oldest() {
			if _, known := w.manager.Lookup(name); !known {
				forgotten = name
			}
		}
		require.NotEmpty(w.t, forgotten, "one of %v should have been forgotten", w.model.oldest())
		w.model.forget(forgotten)
	}
}

// compareReports is about every event that a reporter has to hear of: it waits, has been delivered, or is counted as lost, because
// the Manager was shut down.
func (w *world) compareReports(s taskmanager.ManagerStats, seen map[string]int) {
	w.reporter.mu.Lock()
	defer w.reporter.mu.Unlock()
	require.Equal(w.t, w.reported, int(s.ReportsWaiting+s.ReportsDelivered+s.ReportsLost), "reports that wait, are taken, or are lost") //nolint:gosec // it is no large number
	require.Equal(w.t, w.reporter.taken, int(s.ReportsDelivered), "reports that are taken")                                             //nolint:gosec // likewise
	if s.ReportsLost > 0 {
		require.True(w.t, w.model.closed, "only Shutdown gives up")
	}
	if s.ReportsWaiting > 0 && w.reporter.failed >= 3 {
		seen[seenKept]++
	}
}

func (w *world) compareHealth(seen map[string]int) {
	h := w.manager.Health()
	got := healthView{State: h.State, Ready: h.Ready}
	for _, p := range h.Problems {
		if p.State == taskmanager.StateStopped && p.Reason == taskmanager.HealthNotReady {
			continue // if the other one was critical, too, it may have been stopped before it has found whom it waits for in vain
		}
		got.Problems = append(got.Problems, fmt.Sprintf("%s %v: %s, critical: %v", p.Task, p.State, p.Reason, p.Critical))
		seen["health "+string(p.Reason)]++
	}
	slices.Sort(got.Problems)
	require.Equal(w.t, lines(w.model.healthView()), lines(got), "health")
	seen["health "+h.State.String()]++
}

type healthView struct {
	State    taskmanager.HealthState
	Ready    bool
	Problems []string // sorted
}

func (w *world) view(model *modelTask, m *taskmanager.Manager, t *taskmanager.Task) taskView {
	s := t.Stats()
	v := taskView{
		State: s.State, Running: m.IsRunning(s.Name), Ready: s.Ready, Waits: strings.HasPrefix(s.Status, "waiting for "),
		Runs: s.Runs, Restarts: s.Restarts, Failures: s.Failures, Panics: s.Panics, InWindow: s.RestartsInWindow,
		Started: w.since(s.StartedAt), RunStarted: w.since(s.RunStartedAt), Uptime: s.Uptime, Next: w.since(s.NextRunAt), Over: w.since(s.EndedAt),
		InARow: s.ConsecutiveFailures, FailingSince: w.since(s.FailingSince),
		LastErr: errorsIn(s.LastError), LastErrAt: w.since(s.LastErrorAt), Err: errorsIn(t.Err()), Passes: w.passesView(s.Passes),
	}
	var gaveUp *taskmanager.GiveUpError
	if errors.As(t.Err(), &gaveUp) {
		v.ErrRestarts = gaveUp.Restarts
	}
	select {
	case <-t.Done():
		v.Done = true
	default:
	}
	if model.o.isGroup() {
		return v // its body is not ours
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	v.Executing = w.executing[model.name]
	for _, ctx := range w.contexts[model.name] {
		v.Causes = append(v.Causes, errorsIn(context.Cause(ctx)))
		if hasClosed(taskmanager.Draining(ctx)) {
			v.Draining++
		}
	}
	return v
}

func (w *world) compareEvents(seen map[string]int) {
	got := make(map[string][]eventView)
	w.hear()
	for _, e := range w.heard {
		got[e.Task] = append(got[e.Task], eventView{
			Time: w.since(e.Time), Task: e.Task, Kind: e.Kind, Run: e.Run, Err: errorsIn(e.Err), Cause: errorsIn(e.Cause), By: e.By,
			Delay: e.Delay, Restarts: e.Restarts, Uptime: e.Uptime, Missed: e.Missed,
			Failures: e.Failures, FailedSince: w.since(e.FailedSince),
		})
		seen["event "+e.Kind.String()]++
		if e.By != "" {
			seen[seenAsked+e.Kind.String()]++
		}
		if errorsIn(e.Cause)&isLost != 0 {
			seen[seenLost]++
		}
		if e.Kind.Level() >= slog.LevelWarn || e.Kind == taskmanager.EventRecovered {
			w.reported++
		}
	}
	w.heard = nil
	for _, name := range bodyNames {
		for i, want := range w.model.events[name] {
			if want.By == oneOfThem && i < len(got[name]) {
				got[name][i].By = oneOfThem
			}
		}
		require.Equal(w.t, lines(w.model.events[name]...), lines(got[name]...), "events of %s", name)
		delete(w.model.events, name)
	}
}

// compareCalls drops the calls that have returned.
func (w *world) compareCalls(seen map[string]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = slices.DeleteFunc(w.calls, func(c *call) bool {
		require.Equal(w.t, c.model.outcome.String(), c.outcome.String(), "what %s returned, and when", c.name)
		if c.outcome != nil && c.model.quit != "" {
			seen[seenRun+c.model.quit]++
		}
		if c.outcome != nil && c.model.wants == askedToReplace {
			seen[seenNotSo+c.outcome.err.String()]++
		}
		return c.outcome != nil
	})
}

// lines is what assertions compare: the fields of each view, one a line.
func lines[V any](views ...V) string {
	var b strings.Builder
	for _, view := range views {
		v := reflect.ValueOf(view)
		for i := range v.NumField() {
			fmt.Fprintf(&b, "%s: %v\n", v.Type().Field(i).Name, v.Field(i))
		}
	}
	return b.String()
}

// An errorSet is what an error is, as far as errors.Is and errors.As can tell.
type errorSet uint32

const (
	isFail errorSet = 1 << iota
	isPanic
	isGoexit
	isPermanent
	isCanceled
	isTimeout
	isWatchdog
	isNotReady
	isGiveUp
	isTooMany
	isStopped
	isRestarted
	isPaused
	isShutdown
	isParent
	isTaken
	isNotFound
	isNotRunning
	isNotPaused
	isClosed
	isRefused
	isCompleted
	isLost
	isReplaced
	isNoPasses
	isOther
	isLeft // beside isTimeout: who was late still executes; no function tells
)

var errorKinds = []struct {
	set  errorSet
	name string
	in   func(error) bool
}{
	{isFail, "fail", is(errFail)},
	{isPanic, "panic", as[*taskmanager.PanicError]},
	{isGoexit, "goexit", is(taskmanager.ErrGoexit)},
	{isPermanent, "permanent", as[*backoff.PermanentError]},
	{isCanceled, "canceled", is(context.Canceled)},
	{isTimeout, "stop timeout", as[*taskmanager.StopTimeoutError]},
	{isWatchdog, "watchdog", is(taskmanager.ErrWatchdog)},
	{isNotReady, "not ready", is(taskmanager.ErrNotReady)},
	{isGiveUp, "gave up", as[*taskmanager.GiveUpError]},
	{isTooMany, "too many restarts", is(taskmanager.ErrTooManyRestarts)},
	{isStopped, "stopped", is(taskmanager.ErrStopped)},
	{isRestarted, "restarted", is(taskmanager.ErrRestarted)},
	{isPaused, "paused", is(taskmanager.ErrPaused)},
	{isShutdown, "shutdown", is(taskmanager.ErrShutdown)},
	{isParent, "parent", is(errParent)},
	{isTaken, "taken", is(taskmanager.ErrTaskRunning)},
	{isNotFound, "not found", is(taskmanager.ErrTaskNotFound)},
	{isNotRunning, "not running", is(taskmanager.ErrTaskNotRunning)},
	{isNotPaused, "not paused", is(taskmanager.ErrTaskNotPaused)},
	{isClosed, "closed", is(taskmanager.ErrManagerClosed)},
	{isRefused, "refused", as[*taskmanager.OptionError]},
	{isCompleted, "completed", is(taskmanager.ErrCriticalCompleted)},
	{isLost, "dependency lost", is(taskmanager.ErrDependencyLost)},
	{isLost, "lease lost", is(taskmanager.ErrLeaseLost)},
	{isReplaced, "replaced", is(taskmanager.ErrReplaced)},
	{isNoPasses, "no passes", is(taskmanager.ErrNoPasses)},
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func as[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func errorsIn(err error) (set errorSet) {
	if err == nil {
		return 0
	}
	for _, k := range errorKinds {
		if k.in(err) {
			set |= k.set
		}
	}
	if set == 0 {
		return isOther
	}
	return set
}

func (s errorSet) String() string {
	var names []string
	for _, k := range errorKinds {
		if s&k.set != 0 {
			names = append(names, k.name)
		}
	}
	if s == isOther {
		return "another error"
	}
	return strings.Join(names, "+")
}

// stuckIn returns the tasks of the StopTimeoutErrors that err consists of.
func stuckIn(err error) (names []string) {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case *taskmanager.StopTimeoutError:
		return []string{e.Task}
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			names = append(names, stuckIn(err)...)
		}
	}
	return sorted(names)
}
