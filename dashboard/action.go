package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// An Action is what somebody wants to do to a task; see [WithActions].
type Action struct {
	Name ActionName
	// Path is that of the task: its name, after those of the groups around it (see [taskmanager.Task.Path]). It is nil where the
	// question is whether the list is to have the button.
	Path []string
}

// An ActionName says what is to be done to a task.
type ActionName string

// What can be done to a task.
const (
	ActionRestart ActionName = "restart" // a run ends and another one begins, or one begins before its time; see [taskmanager.Manager.RestartTask]
	ActionStop    ActionName = "stop"    // see [taskmanager.Manager.StopTasks]
	ActionPause   ActionName = "pause"   // see [taskmanager.Manager.PauseTask]
	ActionResume  ActionName = "resume"  // see [taskmanager.Manager.ResumeTask]
	ActionTrigger ActionName = "trigger" // a pass begins now; see [taskmanager.Manager.TriggerTask]
	ActionStart   ActionName = "start"   // one that has ended starts afresh; see [taskmanager.Manager.RestartTask]
)

// actions are all of them, with their buttons.
var actions = []struct {
	name  ActionName
	title string
	asks  bool // before it is done to a single task, too
}{
	{ActionRestart, "Restart", false},
	{ActionStop, "Stop", true},
	{ActionPause, "Pause", false},
	{ActionResume, "Resume", false},
	{ActionTrigger, "Trigger", false},
	{ActionStart, "Start again", false},
}

func (a ActionName) title() string {
	for _, one := range actions {
		if one.name == a {
			return one.title
		}
	}
	return ""
}

const (
	mostSelected = 1000
	mostBody     = 4 << 20 // bytes of a form: those of 1,000 paths
	formWithin   = 10 * time.Second
	actionWithin = time.Second // what takes longer goes on without the one who waits
	offerWithin  = time.Second // what the hook has not allowed by then has no button
	logPanicAs   = "dashboard: a function that was given to an option panicked"
)

// errUnderWay is why a call returns early: what was asked for goes on.
var errUnderWay = errors.New("dashboard: still under way")

// An order is what a form asks for.
type order struct {
	action ActionName
	paths  [][]string
	asks   bool      // it is to be confirmed first
	from   listQuery // of the list that the form was on
	ofTask bool      // it was on the page of a task
}

// serveAct does what a form asks for.
func (d *dashboard) serveAct(w http.ResponseWriter, r *http.Request, form format) *problem {
	if d.allow == nil {
		return &problem{http.StatusForbidden, "Nothing can be done to tasks here: this page is for looking only."}
	}
	if err := d.origin.Check(r); err != nil {
		return &problem{http.StatusForbidden, "The request comes from a page of another origin, from which nothing is done here."}
	}
	o, p := d.readOrder(w, r)
	if p != nil {
		return p
	}
	if o.asks {
		if form == formatJSON { // a program would take the page for what it has asked for
			return badRequest("ask and all are for the page, which then asks back: name the tasks by task or select.")
		}
		d.writeConfirm(w, r, o)
		return nil
	}
	outcomes, p := d.carryOut(r, o)
	if p != nil {
		return p
	}
	d.writeOutcomes(w, r, o, outcomes, form)
	return nil
}

// readOrder reads a form.
func (d *dashboard) readOrder(w http.ResponseWriter, r *http.Request) (o *order, p *problem) {
	r.Body = http.MaxBytesReader(w, r.Body, mostBody)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(formWithin)) // where it can't be set, the server's own limits are all there is
	if err := r.ParseForm(); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, &problem{http.StatusRequestTimeout, fmt.Sprintf("The form did not come within %s.", durationText(formWithin))}
		}
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			return nil, &problem{http.StatusRequestEntityTooLarge, fmt.Sprintf("The form is larger than %d bytes.", mostBody)}
		}
		return nil, badRequest("The form can't be read.")
	}
	_ = control.SetReadDeadline(time.Time{}) // where something has read the form before, the context would end by it
	v := r.PostForm                          // not what is in the address, which a link may have
	o = &order{action: ActionName(v.Get("action")), asks: v.Get("ask") == "1", ofTask: v.Get("from") == "task"}
	if o.action.title() == "" {
		return nil, badRequest("There is no action %s.", quoted(v.Get("action")))
	}
	list, err := url.ParseQuery(v.Get("list"))
	if err != nil {
		return nil, badRequest("list is the query of a list, and not %s.", quoted(v.Get("list")))
	}
	if o.from, p = parseListQuery(list); p != nil {
		return nil, p
	}
	if path := v["task"]; len(path) > 0 {
		o.paths = [][]string{path}
	}
	if n := len(v["select"]); n > mostSelected {
		return nil, tooMany(n)
	}
	for _, value := range v["select"] {
		path, p := parseSelected(value)
		if p != nil {
			return nil, p
		}
		if !slices.ContainsFunc(o.paths, func(other []string) bool { return slices.Equal(path, other) }) {
			o.paths = append(o.paths, path)
		}
	}
	if v.Get("all") == "1" {
		o.paths, o.asks = nil, true // whatever they are by now, somebody has to see them before
		places, total := find(d.manager(), o.from, &d.errors, mostSelected)
		if total > mostSelected {
			return nil, tooMany(total)
		}
		for _, place := range places {
			o.paths = append(o.paths, place.task.Path())
		}
	}
	if len(o.paths) == 0 {
		return nil, badRequest("No task is selected.")
	}
	return o, nil
}

func tooMany(n int) *problem {
	return badRequest("%d tasks are selected, and %d may be.", n, mostSelected)
}

// carryOut does what o asks for, as far as it is allowed.
func (d *dashboard) carryOut(r *http.Request, o *order) ([]outcome, *problem) {
	outcomes := make([]outcome, len(o.paths))
	tasks := make([]*taskmanager.Task, len(o.paths)) // those to which it is done
	m, allowed := d.manager(), 0
	for i, path := range o.paths {
		outcomes[i].Path = path
		if err := d.allows(r.Context(), r, Action{o.action, path}); err != nil {
			outcomes[i].Status, outcomes[i].Text = http.StatusForbidden, "not allowed: "+err.Error()
			continue
		}
		t, ok := lookup(m, path)
		if !ok {
			outcomes[i].Status, outcomes[i].Text = http.StatusNotFound, "there is no such task"
			continue
		}
		tasks[i] = t
		allowed++
	}
	if allowed == 0 {
		return outcomes, nil
	}
	who, err := d.userOf(r)
	if err != nil {
		return nil, &problem{http.StatusForbidden, "It can't be found out who asks."}
	}
	// What was asked for is done, also if the client goes away. A call that takes longer returns, and what it has asked for goes on.
	ctx, cancel := context.WithCancelCause(taskmanager.AskedBy(context.WithoutCancel(r.Context()), who))
	defer cancel(nil)
	timer := time.AfterFunc(actionWithin, func() { cancel(errUnderWay) })
	defer timer.Stop()
	if o.action == ActionStop {
		d.stopAll(ctx, m, tasks, outcomes)
		return outcomes, nil
	}
	var all sync.WaitGroup
	for i, t := range tasks {
		if t != nil {
			all.Go(func() { outcomes[i].Status, outcomes[i].Text = d.judge(act(ctx, o.action, t)) })
		}
	}
	all.Wait()
	return outcomes, nil
}

// act does what is asked for to one task.
func act(ctx context.Context, action ActionName, t *taskmanager.Task) error {
	switch action {
	case ActionRestart:
		if s := t.State(); s.Ended() {
			return fmt.Errorf("it is %s: start it again", s)
		}
		return t.Restart(ctx)
	case ActionStart:
		if s := t.State(); !s.Ended() {
			return fmt.Errorf("it has not ended: it is %s", s)
		}
		return t.Restart(ctx)
	case ActionPause:
		return t.Pause(ctx)
	case ActionResume:
		return t.ResumeContext(ctx)
	case ActionTrigger:
		return t.TriggerContext(ctx)
	}
	return fmt.Errorf("there is no action %q", action)
}

// stopAll stops tasks, those of each Manager in the order of their dependencies.
func (d *dashboard) stopAll(ctx context.Context, m *taskmanager.Manager, tasks []*taskmanager.Task, outcomes []outcome) {
	names := make(map[*taskmanager.Manager][]string)
	for i, t := range tasks {
		if t == nil {
			continue
		}
		if s := t.State(); s.Ended() {
			outcomes[i].Status, outcomes[i].Text = http.StatusConflict, fmt.Sprintf("it has ended: it is %s", s)
			tasks[i] = nil
			continue
		}
		owner := ownerOf(m, outcomes[i].Path)
		if owner == nil { // the group has gone meanwhile
			outcomes[i].Status, outcomes[i].Text = http.StatusNotFound, "there is no such task"
			tasks[i] = nil
			continue
		}
		names[owner] = append(names[owner], t.Name())
	}
	var all sync.WaitGroup
	for owner, of := range names {
		all.Go(func() { _ = owner.StopTasks(ctx, of...) }) // what has become of each is seen below
	}
	all.Wait()
	for i, t := range tasks {
		if t == nil {
			continue
		}
		switch s := t.State(); {
		case s == taskmanager.StateStuck:
			outcomes[i].Status, outcomes[i].Text = http.StatusConflict, "it is stuck: its body has not returned in time"
		case s.Ended():
			outcomes[i].Status, outcomes[i].Text = http.StatusOK, "done"
		default:
			outcomes[i].Status, outcomes[i].Text = http.StatusAccepted, "asked for, and under way"
		}
	}
}

// judge says what has become of an action whose call has returned err, which may wrap what a body has returned.
func (d *dashboard) judge(err error) (status int, text string) {
	if err == nil {
		return http.StatusOK, "done"
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitForErrors)
	defer cancel()
	what, failed := apart(ctx, func() (*problem, error) { return judgeError(err), nil })
	switch {
	case failed != nil:
		return http.StatusConflict, "it could not be done, and its error can't be read"
	case what.text == "":
		return what.status, strings.TrimPrefix(d.errors.readOne(err).text, "taskmanager: ")
	}
	return what.status, what.text
}

// judgeError is judge by what err is, without its text. It calls the methods of err.
func judgeError(err error) *problem {
	var late *taskmanager.StopTimeoutError
	switch {
	case errors.Is(err, errUnderWay):
		return &problem{http.StatusAccepted, "asked for, and under way"}
	case errors.As(err, &late):
		return &problem{http.StatusConflict, "it is stuck: its body has not returned in time"}
	case errors.Is(err, taskmanager.ErrTaskNotFound):
		return &problem{http.StatusNotFound, "there is no such task"}
	case errors.Is(err, taskmanager.ErrManagerClosed):
		return &problem{http.StatusConflict, "its Manager is closed"}
	}
	return &problem{status: http.StatusConflict}
}

// allows asks the hook, which there is, whether a request may do something, until the end of ctx.
func (d *dashboard) allows(ctx context.Context, r *http.Request, a Action) error {
	a.Path = slices.Clone(a.Path)
	text, err := apart(ctx, func() (string, error) {
		err := d.allow(r, a)
		if err == nil {
			return "", nil
		}
		return err.Error(), err
	})
	switch {
	case err == nil:
		return nil
	case text == "":
		return err
	}
	return errors.New(shorten(text, longText))
}

// userOf returns who has sent a request.
func (d *dashboard) userOf(r *http.Request) (string, error) {
	who := ""
	if d.user != nil {
		var err error
		if who, err = apart(r.Context(), func() (string, error) { return d.user(r), nil }); err != nil {
			return "", err
		}
	}
	if who == "" {
		who = r.RemoteAddr
		if host, _, err := net.SplitHostPort(who); err == nil {
			who = host
		}
	}
	return who, nil
}

var (
	errExited   = errors.New("the check panicked, or called runtime.Goexit")
	errNoAnswer = errors.New("the check has not answered")
)

// apart calls f, which is user code, on a goroutine of its own, and waits for it no longer than for the end of ctx.
func apart[T any](ctx context.Context, f func() (T, error)) (value T, err error) {
	type result struct {
		value T
		err   error
	}
	results := make(chan result, 1)
	go func() {
		answer := result{err: errExited} // unless it returns
		defer func() {
			v := recover()
			results <- answer
			if v != nil {
				slog.Error(logPanicAs, "panic", v, "stack", string(debug.Stack()))
			}
		}()
		returned, failed := f()
		answer = result{returned, failed}
	}()
	select {
	case got := <-results:
		return got.value, got.err
	case <-ctx.Done():
		return value, errNoAnswer
	}
}

// offered returns the actions that a page is to have buttons for.
func (d *dashboard) offered(r *http.Request, path []string, fits func(ActionName) bool) (buttons []button) {
	if d.allow == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.Context(), offerWithin)
	defer cancel()
	for _, a := range actions {
		if fits(a.name) && d.allows(ctx, r, Action{a.name, path}) == nil {
			buttons = append(buttons, button{Name: a.name, Title: a.title, Asks: a.asks})
		}
	}
	return buttons
}

// A button does an action.
type button struct {
	Name  ActionName
	Title string
	Asks  bool
}

// fits reports whether an action makes sense for a task as it is.
func fits(s *taskmanager.TaskStats) func(ActionName) bool {
	return func(a ActionName) bool {
		switch a {
		case ActionStart:
			return s.State.Ended()
		case ActionResume:
			return s.State == taskmanager.StatePaused
		case ActionTrigger:
			return s.Passes != nil && (s.State == taskmanager.StateRunning || s.State == taskmanager.StateBackoff || s.State == taskmanager.StateWaiting)
		case ActionPause:
			return !s.State.Ended() && (s.State != taskmanager.StatePaused || !s.NextRunAt.IsZero())
		}
		return !s.State.Ended()
	}
}

// location is where the page is from which an order came, with what was done.
func (o *order) location(done int) string {
	if o.ofTask && len(o.paths) == 1 {
		return "task?" + taskQuery(o.paths[0]) + "&did=" + string(o.action)
	}
	v := o.from.values()
	v.Set("did", string(o.action))
	v.Set("n", strconv.Itoa(done))
	return "./?" + v.Encode()
}

// didText says what was done, as the address of a page says that it was.
func didText(v url.Values) string {
	action := ActionName(v.Get("did"))
	if action.title() == "" {
		return ""
	}
	n, err := strconv.Atoi(v.Get("n"))
	switch {
	case err != nil || n < 1:
		return fmt.Sprintf("%s: asked for.", action.title())
	case n == 1:
		return fmt.Sprintf("%s: asked for, of one task.", action.title())
	}
	return fmt.Sprintf("%s: asked for, of %d tasks.", action.title(), min(n, mostSelected))
}
