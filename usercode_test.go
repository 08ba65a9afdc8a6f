package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A trap is user code at one place: it behaves, but for the first call after it was set.
type trap struct {
	act    func()
	set    atomic.Bool
	sprung atomic.Bool // act has been called
	left   atomic.Bool // act has returned, be it by a panic or runtime.Goexit
}

func (p *trap) spring() {
	if !p.set.CompareAndSwap(true, false) {
		return
	}
	p.sprung.Store(true)
	defer p.left.Store(true)
	p.act()
}

// A trappedHandler is a log handler with a trap in the lines of one message; in Enabled if message is "Enabled".
type trappedHandler struct {
	message string
	trap    *trap
}

func (h trappedHandler) Enabled(context.Context, slog.Level) bool {
	if h.message == "Enabled" {
		h.trap.spring()
	}
	return true
}

func (h trappedHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		h.trap.spring()
	}
	return nil
}

func (h trappedHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h trappedHandler) WithGroup(string) slog.Handler { return h }

// A trappedPolicy is a backoff policy with a trap in one of its methods.
type trappedPolicy struct {
	method string
	trap   *trap
}

func (p trappedPolicy) NextBackOff() time.Duration {
	if p.method == "NextBackOff" {
		p.trap.spring()
	}
	return time.Hour
}

func (p trappedPolicy) Reset() {
	if p.method == "Reset" {
		p.trap.spring()
	}
}

// A trappedError is an error with a trap in one of its methods.
type trappedError struct {
	method string
	trap   *trap
}

func (e trappedError) springIn(method string) {
	if method == e.method {
		e.trap.spring()
	}
}

func (e trappedError) Error() string { e.springIn("Error"); return "trapped" }

func (e trappedError) Is(error) bool { e.springIn("Is"); return false }

func (e trappedError) As(any) bool { e.springIn("As"); return false }

func (e trappedError) Unwrap() error { e.springIn("Unwrap"); return nil }

func (e trappedError) RetryAfter() time.Duration { e.springIn("RetryAfter"); return time.Minute }

// A trappedValue is a panic's value with a trap in its String method.
type trappedValue struct{ trap *trap }

func (v trappedValue) String() string { v.trap.spring(); return "trapped" }

// A place is one where user code is called while the task "a" has no body that executes, or one that obeys. come brings "a" there,
// with everything else in order; when it has returned and the bubble is at rest, the trap has sprung.
type place struct {
	name   string
	come   func(t *testing.T, u *userCode)
	state  taskmanager.State // of "a" then, if the user code does nothing that changes it
	fails  uint64            // how many failures of "a" there are then
	log    bool              // it is the log that calls: Shutdown waits for that
	policy bool              // it is a backoff policy
}

// A userCode is one scene of the tests of user code in the way.
type userCode struct {
	trap    trap
	release chan struct{} // of what hangs, where a test has one
	m       *taskmanager.Manager
	task    *taskmanager.Task
	events  <-chan taskmanager.Event
	former  *inbox       // the reporter
	latter  *inbox       // for SetReporter
	entered atomic.Int64 // bodies of "a" so far
	bodies  atomic.Int64 // that execute
	most    atomic.Int64 // at any time
}

// body counts body as one of "a".
func (u *userCode) body(body taskmanager.TaskFunc) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		u.entered.Add(1)
		n := u.bodies.Add(1)
		defer u.bodies.Add(-1)
		if n > u.most.Load() {
			u.most.Store(n)
		}
		return body(ctx)
	}
}

func (u *userCode) start(t *testing.T, body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) {
	t.Helper()
	opts = append([]taskmanager.TaskOption{taskmanager.WithMaxRestarts(taskmanager.Unlimited)}, opts...)
	u.task = start(t, u.m, "a", u.body(body), opts...)
}

func (u *userCode) manager(t *testing.T, message string) {
	t.Helper()
	u.former, u.latter = newInbox(nil), newInbox(nil)
	u.m = mustNew(t, taskmanager.WithLogger(slog.New(trappedHandler{message, &u.trap})), taskmanager.WithBackoff(time.Hour, time.Hour),
		taskmanager.WithReporter(u.former))
	u.events = u.m.Subscribe(t.Context())
	u.trap.set.Store(false)
	start(t, u.m, "other", untilStopped)
	synctest.Wait()
	u.trap.set.Store(true)
}

// failures returns how many events there were so far of which a reporter is to hear.
func failures(events <-chan taskmanager.Event) (n uint64) {
	for _, e := range pending(events) {
		if e.Kind.Level() >= slog.LevelWarn {
			n++
		}
	}
	return n
}

// checkReports checks, at the end, that one of the two reporters has heard of each failure.
func (u *userCode) checkReports(t *testing.T) {
	t.Helper()
	n := failures(u.events)
	assert.Equal(t, n, u.former.sum()+u.latter.sum(), "reports")
	assert.Equal(t, reportCount{delivered: n}, reportsOf(u.m))
}

// check ends what is alive: nothing waits for user code, but the Shutdown for the log.
func (u *userCode) check(t *testing.T, logHangs bool) {
	t.Helper()
	began := time.Now()
	require.NoError(t, u.m.StopTask(t.Context(), "other"))
	state := u.task.State()
	err := u.m.StopTask(t.Context(), "a")
	if state.Ended() {
		require.ErrorIs(t, err, taskmanager.ErrTaskNotRunning)
		assert.Equal(t, state, u.task.State())
	} else {
		require.NoError(t, err)
		assert.Equal(t, taskmanager.StateStopped, u.task.State())
	}
	err = u.task.Wait(t.Context())
	if u.task.State() == taskmanager.StateFailed {
		var gaveUp *taskmanager.GiveUpError
		assert.ErrorAs(t, err, &gaveUp)
	} else {
		assert.NoError(t, err)
	}
	require.Zero(t, u.bodies.Load(), "a body executes after the end")
	if again, err := u.m.StartTask("a", u.body(untilStopped)); assert.NoError(t, err) {
		assert.Equal(t, taskmanager.StateRunning, settled(again))
		assert.EqualValues(t, 1, u.bodies.Load())
	}
	took(t, 0, began)
	require.NoError(t, u.m.Shutdown(t.Context()))
	if logHangs {
		took(t, 5*time.Second, began)
	} else {
		took(t, 0, began)
	}
	assert.EqualValues(t, 1, u.most.Load(), "bodies at once")
	assert.Zero(t, u.bodies.Load())
}

const userCodeTimeout = 5 * time.Second // the default stop timeout

func inLog(message string, state taskmanager.State, fails uint64, come func(t *testing.T, u *userCode)) place {
	return place{name: "log handler: " + message, state: state, fails: fails, log: true, come: func(t *testing.T, u *userCode) {
		u.manager(t, message)
		come(t, u)
	}}
}

func inPolicy(method string) place {
	return place{name: "policy: " + method, policy: true, state: taskmanager.StateBackoff, fails: 1, come: func(t *testing.T, u *userCode) {
		u.manager(t, "")
		u.start(t, boom, taskmanager.WithBackOffPolicy(func() backoff.BackOff { return trappedPolicy{method, &u.trap} }))
	}}
}

func inFailure(method string, log bool) place {
	return place{name: "failure: " + method, state: taskmanager.StateBackoff, fails: 1, log: log, come: func(t *testing.T, u *userCode) {
		u.manager(t, "")
		u.start(t, func(context.Context) error { return trappedError{method, &u.trap} })
	}}
}

func inErrorOfStopped(method string) place {
	return place{name: "error of a stopped body: " + method, state: taskmanager.StateStopped, log: true, come: func(t *testing.T, u *userCode) {
		u.manager(t, "")
		u.start(t, func(ctx context.Context) error { <-ctx.Done(); return trappedError{method, &u.trap} })
		synctest.Wait()
		began := time.Now()
		assert.NoError(t, u.task.Stop(context.Background()))
		took(t, 0, began)
	}}
}

func places() []place {
	const (
		running   = taskmanager.StateRunning
		inBackoff = taskmanager.StateBackoff
		waiting   = taskmanager.StateWaiting
		completed = taskmanager.StateCompleted
		failed    = taskmanager.StateFailed
		stopped   = taskmanager.StateStopped
		paused    = taskmanager.StatePaused
	)
	started := func(t *testing.T, u *userCode) { u.start(t, untilStopped) }
	stop := func(t *testing.T, u *userCode) {
		u.start(t, untilStopped)
		synctest.Wait()
		began := time.Now()
		assert.NoError(t, u.task.Stop(context.Background()))
		took(t, 0, began)
	}
	pause := func(t *testing.T, u *userCode) {
		u.start(t, untilStopped)
		synctest.Wait()
		began := time.Now()
		assert.NoError(t, u.task.Pause(context.Background()))
		took(t, 0, began)
	}
	ps := []place{
		{name: "log handler: Enabled", state: waiting, come: func(t *testing.T, u *userCode) {
			u.manager(t, "Enabled")
			started(t, u)
		}},
		inLog("task started", running, 0, started),
		inLog("task ready", running, 0, func(t *testing.T, u *userCode) {
			u.start(t, func(ctx context.Context) error { taskmanager.Ready(ctx); return untilStopped(ctx) }, taskmanager.WithReadiness(time.Minute))
		}),
		inLog("task failed, will restart", inBackoff, 1, func(t *testing.T, u *userCode) { u.start(t, boom) }),
		inLog("task failed for good, gave up", failed, 1, func(t *testing.T, u *userCode) { u.start(t, boom, once()) }),
		inLog("task completed", completed, 0, func(t *testing.T, u *userCode) {
			u.start(t, func(context.Context) error { return nil })
		}),
		inLog("task stopped", stopped, 0, stop),
		inLog("task was stopped, though others depend on it", stopped, 0, func(t *testing.T, u *userCode) {
			start(t, u.m, "dependent", untilStopped, taskmanager.WithDependsOn("a"))
			stop(t, u)
		}),
		inLog("task paused", paused, 0, pause),
		inLog("task was paused, though others depend on it", paused, 0, func(t *testing.T, u *userCode) {
			start(t, u.m, "dependent", untilStopped, taskmanager.WithDependsOn("a"))
			pause(t, u)
		}),
		inLog("task resumed", running, 0, func(t *testing.T, u *userCode) {
			pause(t, u)
			assert.NoError(t, u.task.Resume())
		}),
		inLog("task restarted by hand", waiting, 0, func(t *testing.T, u *userCode) { // which is the next run, for which the log comes first
			started(t, u)
			synctest.Wait()
			go func() { _ = u.task.Restart(context.Background()) }()
		}),
		inLog("task revived by hand", running, 0, func(t *testing.T, u *userCode) {
			stop(t, u)
			assert.NoError(t, u.task.Restart(context.Background()))
		}),
		inLog("task replaced by hand", waiting, 0, func(t *testing.T, u *userCode) {
			started(t, u)
			synctest.Wait()
			began := time.Now()
			_, err := u.m.ReplaceTask(context.Background(), "a", u.body(untilStopped))
			assert.NoError(t, err)
			took(t, 0, began)
		}),
		inLog("task gave up, pauses", paused, 1, func(t *testing.T, u *userCode) {
			u.start(t, boom, once(), taskmanager.WithCooldown(time.Hour))
		}),
		inPolicy("NextBackOff"), inPolicy("Reset"),
		inFailure("Error", true), inFailure("As", false), inFailure("Unwrap", false), inFailure("RetryAfter", false),
		inErrorOfStopped("Error"), inErrorOfStopped("As"), inErrorOfStopped("Unwrap"),
		{name: "panic value: String", state: inBackoff, fails: 1, log: true, come: func(t *testing.T, u *userCode) {
			u.manager(t, "")
			u.start(t, func(context.Context) error { panic(trappedValue{&u.trap}) })
		}},
		{name: "panic value: Error", state: inBackoff, fails: 1, log: true, come: func(t *testing.T, u *userCode) {
			u.manager(t, "")
			u.start(t, func(context.Context) error { panic(trappedError{"Error", &u.trap}) })
		}},
	}
	return ps
}

// userCodeActs are what user code may do that stands in the way.
var userCodeActs = map[string]func(release <-chan struct{}){
	"is late": func(<-chan struct{}) { time.Sleep(2 * userCodeTimeout) },
	"hangs":   func(release <-chan struct{}) { <-release },
	"panics":  func(<-chan struct{}) { panic("user code") },
	"exits":   func(<-chan struct{}) { runtime.Goexit() },
}

// A policy that exits gives the task up: the log must hear of that, though its handler is called by the next goroutine of the task.
func TestUserCodeExitsInAPolicyAndTheLogHearsOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newManager(t, log.option())
		task := start(t, m, "a", boom, taskmanager.WithBackOffPolicy(func() backoff.BackOff { return &goexitPolicy{} }))
		require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrGoexit)
		synctest.Wait()
		assert.Len(t, log.lines(t, "task failed for good, gave up"), 1)
		began := time.Now()
		require.NoError(t, m.Shutdown(t.Context()))
		took(t, 0, began)
	})
}

// A body that exits takes no line of the next run away: the log's handler has not been in the way.
func TestUserCodeExitsInABodyAndTheLogHearsOfTheNextRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBook
		m := newManager(t, log.option(), taskmanager.WithBackoff(time.Second, time.Second))
		start(t, m, "a", func(ctx context.Context) error {
			if task, _ := taskmanager.FromContext(ctx); task.Stats().Runs < 3 {
				runtime.Goexit()
			}
			return untilStopped(ctx)
		})
		time.Sleep(time.Minute)
		var runs []any
		for _, line := range log.lines(t, "task started") {
			runs = append(runs, line["run"])
		}
		assert.Equal(t, []any{1.0, 2.0, 3.0}, runs)
	})
}

// User code that is late, hangs, panics or exits where the library calls it changes nothing but that call.
func TestUserCodeInTheWay(t *testing.T) {
	for _, p := range places() {
		for title, act := range userCodeActs {
			p := p
			if p.policy && (title == "panics" || title == "exits") {
				p.state = taskmanager.StateFailed // there is no delay
			}
			t.Run(p.name+" "+title, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					before := goroutines()
					release := make(chan struct{})
					letGo := sync.OnceFunc(func() { close(release) })
					defer letGo()
					u := &userCode{}
					u.trap.act = func() { act(release) }
					p.come(t, u)
					synctest.Wait()
					require.True(t, u.trap.sprung.Load(), "the user code has not been called")
					hangs := !u.trap.left.Load()

					state := p.state
					if !hangs && state == taskmanager.StateWaiting {
						state = taskmanager.StateRunning
					}
					assert.Equal(t, state, u.task.State())
					assert.Equal(t, p.fails, u.task.Stats().Failures, "failures")
					u.check(t, hangs && p.log)
					letGo()
					time.Sleep(2 * userCodeTimeout)
					assert.Equal(t, before, goroutines(), "goroutines")
				})
			})
		}
	}
}

// User code that calls back into the Manager is served, as anybody else is; but a Shutdown by what it waits for waits for its time.
func TestUserCodeCallsBack(t *testing.T) {
	for _, p := range places() {
		for title, call := range map[string]struct {
			do    func(u *userCode) error
			alive error             // what it returns if "a" has not ended
			ended error             // and if it has
			then  taskmanager.State // of "a", if it has done something; zero if it does nothing to tasks
		}{
			"StopTask": {
				do:    func(u *userCode) error { return u.m.StopTask(context.Background(), "a") },
				ended: taskmanager.ErrTaskNotRunning, then: taskmanager.StateStopped,
			},
			"RestartTask": {
				do:   func(u *userCode) error { return u.m.RestartTask(context.Background(), "a") },
				then: taskmanager.StateRunning,
			},
			"PauseTask": {
				do:    func(u *userCode) error { return u.m.PauseTask(context.Background(), "a") },
				ended: taskmanager.ErrTaskNotRunning, then: taskmanager.StatePaused,
			},
			"StartTask": {
				do: func(u *userCode) error {
					_, err := u.m.StartTask("a", u.body(untilStopped))
					return err
				},
				alive: taskmanager.ErrTaskRunning, then: taskmanager.StateRunning,
			},
			"Shutdown": {
				do:   func(u *userCode) error { return u.m.Shutdown(context.Background()) },
				then: taskmanager.StateStopped,
			},
			"StopAll": {
				do:   func(u *userCode) error { return u.m.StopAll(context.Background()) },
				then: taskmanager.StateStopped,
			},
			"Stats":       {do: func(u *userCode) error { u.m.Stats(); return nil }},
			"SetReporter": {do: func(u *userCode) error { u.m.SetReporter(u.latter); return nil }},
		} {
			t.Run(p.name+" calls "+title, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					before := goroutines()
					u := &userCode{}
					var returned error
					u.trap.act = func() { returned = call.do(u) }
					p.come(t, u)
					synctest.Wait()
					require.True(t, u.trap.sprung.Load(), "the user code has not been called")
					assert.Equal(t, title != "Shutdown" || !p.log, u.trap.left.Load(), "the call has returned")
					want := call.alive
					if p.state.Ended() {
						want = call.ended
					}
					now, _ := u.m.Lookup("a")
					if title != "Shutdown" {
						require.ErrorIs(t, returned, want)
					}
					switch {
					case want != nil, call.then == 0, p.state.Ended() && (title == "Shutdown" || title == "StopAll"):
						if p.state != taskmanager.StateWaiting {
							assert.Equal(t, p.state, now.State())
						}
					case title == "RestartTask" && (p.fails > 0 || p.state == taskmanager.StateCompleted):
						assert.EqualValues(t, 2, u.entered.Load(), "it has run again, and ended as before")
						assert.Equal(t, p.state, now.State())
					default:
						assert.Equal(t, call.then, now.State())
					}
					began := time.Now()
					require.NoError(t, u.m.Shutdown(t.Context()))
					if title == "Shutdown" && p.log {
						took(t, 5*time.Second, began)
					} else {
						took(t, 0, began)
					}
					synctest.Wait()
					assert.True(t, u.trap.left.Load())
					if title == "Shutdown" {
						require.NoError(t, returned)
					}
					assert.LessOrEqual(t, u.most.Load(), int64(1), "bodies at once")
					assert.Zero(t, u.bodies.Load())
					u.checkReports(t)
					assert.Equal(t, before, goroutines(), "goroutines")
				})
			})
		}
	}
}

// SetReporter may be called wherever user code is called that is not among the places above: one of the two reporters hears of each failure,
// and nothing that has ended begins again.
func TestUserCodeSetsTheReporter(t *testing.T) {
	const period, runs = time.Second, 5
	type scene struct {
		set  func() // is called by the user code, and does something once
		m    *taskmanager.Manager
		body taskmanager.TaskFunc
		opts []taskmanager.TaskOption
	}
	inReport := func(answer func(ctx context.Context, s *scene) error) func(s *scene, former *inbox) {
		return func(s *scene, former *inbox) {
			former.answer = func(ctx context.Context, n int, _ taskmanager.Event) error {
				if n == 2 {
					return answer(ctx, s)
				}
				return nil
			}
		}
	}
	for title, test := range map[string]struct {
		prepare func(s *scene, former *inbox)
		former  []string // what the former reporter hears
		again   int      // how many are heard twice
	}{
		"the body": {
			prepare: func(s *scene, _ *inbox) {
				n := 0
				s.body = func(context.Context) error {
					if n++; n == 3 {
						s.set()
					}
					return errBoom
				}
			},
			former: []string{"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0"},
		},
		"what the body has deferred, in a panic": {
			prepare: func(s *scene, _ *inbox) {
				n := 0
				s.body = func(context.Context) error {
					if n++; n == 3 {
						defer s.set()
						panic(errBoom)
					}
					return errBoom
				}
			},
			former: []string{"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0"},
		},
		"Report": {
			prepare: inReport(func(_ context.Context, s *scene) error { s.set(); return nil }),
			former:  []string{"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0"},
		},
		"Report, after a second": {
			prepare: inReport(func(_ context.Context, s *scene) error { time.Sleep(1500 * time.Millisecond); s.set(); return nil }),
			former:  []string{"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0"},
		},
		"Report, which then fails": { // the next one hears of it
			prepare: inReport(func(_ context.Context, s *scene) error { s.set(); return errDeaf }),
			former:  []string{"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0"},
			again:   1,
		},
		"Report, which then panics": {
			prepare: inReport(func(_ context.Context, s *scene) error { s.set(); panic(errDeaf) }),
			former:  []string{"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0"},
			again:   1,
		},
		"Report, which then exits": {
			prepare: inReport(func(_ context.Context, s *scene) error { s.set(); runtime.Goexit(); return nil }),
			former:  []string{"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0"},
			again:   1,
		},
		"Report, which then says that it is closed": {
			prepare: inReport(func(_ context.Context, s *scene) error { s.set(); return taskmanager.ErrReporterClosed }),
			former:  []string{"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0"},
			again:   1,
		},
		"Error of the error of Report": {
			prepare: inReport(func(_ context.Context, s *scene) error {
				p := &trap{act: s.set}
				p.set.Store(true)
				return trappedError{"Error", p}
			}),
			former: []string{"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0"},
			again:  1,
		},
		"Is of the error of Report": {
			prepare: inReport(func(_ context.Context, s *scene) error {
				p := &trap{act: s.set}
				p.set.Store(true)
				return trappedError{"Is", p}
			}),
			former: []string{"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0"},
			again:  1,
		},
		"Report, itself again, and then fails": { // it goes on as it was, and is asked again
			prepare: func(s *scene, former *inbox) {
				former.answer = func(_ context.Context, n int, _ taskmanager.Event) error {
					s.m.SetReporter(former)
					if n == 2 {
						time.Sleep(period / 4)
						return errDeaf
					}
					return nil
				}
			},
			again: 1,
			former: []string{
				"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0", "2.25s a failed run=3 repeats=1",
				"3s a failed run=4 repeats=0", "4s a gave up run=5 repeats=0",
			},
		},
		"Next of a schedule": {
			prepare: func(s *scene, _ *inbox) {
				schedule := trapped(3, func() { s.set() })
				s.body = func(ctx context.Context) error { // it fails outside a pass, so that the task is given up
					ctx, cancel := context.WithTimeout(ctx, 59*time.Second)
					defer cancel()
					return errors.Join(taskmanager.OnSchedule(schedule, succeed)(ctx), errBoom)
				}
			},
			former: []string{"59s a failed run=1 repeats=0", "1m59s a failed run=2 repeats=0"},
		},
		"the start of a group": {
			prepare: func(s *scene, _ *inbox) {
				n := 0
				s.body = taskmanager.Group(func(*taskmanager.Manager) error {
					if n++; n == 3 {
						s.set()
					}
					return errBoom
				})
			},
			former: []string{"0s a failed run=1 repeats=0", "1s a failed run=2 repeats=0"},
		},
		"the policy's constructor": {
			prepare: func(s *scene, _ *inbox) {
				s.opts = append(s.opts, taskmanager.WithBackOffPolicy(func() backoff.BackOff {
					s.set()
					return backoff.NewConstantBackOff(period)
				}))
			},
		},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := goroutines()
				former, latter := newInbox(nil), newInbox(nil)
				s := &scene{body: boom, opts: everyTime(period, runs)}
				s.set = sync.OnceFunc(func() { s.m.SetReporter(latter) })
				test.prepare(s, former)
				s.m = observed(t, noReportLimit(), taskmanager.WithReporter(former))
				events := s.m.Subscribe(t.Context())
				stopped := start(t, s.m, "stopped", untilStopped)
				require.NoError(t, stopped.Stop(t.Context()))
				task := start(t, s.m, "a", s.body, s.opts...)
				require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrTooManyRestarts)
				time.Sleep(time.Hour)

				assert.Equal(t, test.former, former.got())
				assert.EqualValues(t, runs+test.again, former.sum()+latter.sum())
				assert.EqualValues(t, runs, failures(events))
				assert.Equal(t, reportCount{delivered: runs}, reportsOf(s.m))
				assert.EqualValues(t, runs, task.Stats().Runs)
				assert.Equal(t, taskmanager.StateFailed, task.State())
				assert.Equal(t, taskmanager.StateStopped, stopped.State())
				began := time.Now()
				require.NoError(t, s.m.Shutdown(t.Context()))
				took(t, 0, began)
				assert.Equal(t, before, goroutines(), "goroutines")
			})
		})
	}
}

// A stop returns at its deadline, and the end of a stuck task is known at once, whatever the log does with the line that it is stuck.
func TestUserCodeInTheLogOfAStuckTask(t *testing.T) {
	for title, act := range userCodeActs {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := goroutines()
				release := make(chan struct{})
				u := &userCode{}
				u.trap.act = func() { act(release) }
				u.manager(t, "task stuck, its body does not return")
				events := u.m.Subscribe(t.Context())
				body := newDeafBody()
				u.start(t, body.run)
				synctest.Wait()
				began := time.Now()
				asStuck(t, u.task.Stop(t.Context()), "a", userCodeTimeout)
				took(t, userCodeTimeout, began)
				synctest.Wait()
				require.True(t, u.trap.sprung.Load(), "the user code has not been called")
				hangs := !u.trap.left.Load()
				began = time.Now()
				_, err := u.m.StartTask("a", u.body(untilStopped))
				require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
				body.release()
				require.NoError(t, u.task.Wait(t.Context()))
				took(t, 0, began)
				assert.Equal(t, taskmanager.StateStopped, u.task.State())
				assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventStuck, taskmanager.EventStopped}, kinds(pending(events), "a"))
				u.check(t, hangs)
				close(release)
				time.Sleep(2 * userCodeTimeout)
				assert.Equal(t, before, goroutines(), "goroutines")
			})
		})
	}
}

// A trappedContext is a context of a type of its own, with a trap in one of its methods.
type trappedContext struct {
	context.Context
	method string
	trap   *trap
}

func (c trappedContext) springIn(method string) {
	if method == c.method {
		c.trap.spring()
	}
}

func (c trappedContext) Err() error {
	c.springIn("Err")
	return c.Context.Err()
}

func (c trappedContext) Done() <-chan struct{} {
	c.springIn("Done")
	return c.Context.Done()
}

func (c trappedContext) Value(key any) any {
	c.springIn("Value")
	return c.Context.Value(key)
}

func (c trappedContext) Deadline() (time.Time, bool) {
	c.springIn("Deadline")
	return c.Context.Deadline()
}

// The methods of a foreign parent context are called when the Manager is made, and after that by its end alone, in whose way they
// stand for no longer than a second.
func TestUserCodeInTheParentContext(t *testing.T) {
	for _, method := range []string{"Err", "Done", "Value", "Deadline"} {
		for title, act := range userCodeActs {
			t.Run(method+" "+title, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					before := goroutines()
					release := make(chan struct{})
					u := &userCode{}
					u.trap.act = func() { act(release) }
					parent, cancel := context.WithCancelCause(context.Background())
					defer cancel(nil)
					u.m = mustNew(t, taskmanager.WithContext(trappedContext{parent, method, &u.trap}), taskmanager.WithBackoff(0, 0))
					u.trap.set.Store(true)

					began := time.Now()
					start(t, u.m, "other", untilStopped)
					u.start(t, func(ctx context.Context) error {
						taskmanager.SetStatus(ctx, "busy")
						switch u.entered.Load() {
						case 1:
							return errBoom
						case 2:
							assert.NoError(t, u.m.StopTask(ctx, "other"))
						}
						inner, cancel := context.WithTimeout(ctx, time.Hour)
						defer cancel()
						<-inner.Done()
						return context.Cause(inner)
					})
					synctest.Wait()
					require.EqualValues(t, 2, u.entered.Load())
					require.NoError(t, u.m.RestartTask(t.Context(), "a"))
					synctest.Wait()
					u.m.Stats()
					u.m.Health()
					require.NoError(t, u.m.StopAll(t.Context()))
					require.NoError(t, u.m.RestartTask(t.Context(), "a"))
					synctest.Wait()
					took(t, 0, began)
					require.False(t, u.trap.sprung.Load(), "the method has been called")

					cancel(errBoom)
					require.NoError(t, u.task.Wait(t.Context()))
					if u.trap.sprung.Load() && !u.trap.left.Load() {
						took(t, time.Second, began)
					} else {
						took(t, 0, began)
					}
					assert.Equal(t, taskmanager.StateStopped, u.task.State())
					require.NoError(t, u.m.Shutdown(t.Context()))
					close(release)
					time.Sleep(2 * userCodeTimeout)
					assert.Equal(t, before, goroutines(), "goroutines")
				})
			})
		}
	}
}

// The warning of StartTask is written by its caller, before there is a task: the handler holds up that caller alone, and one that
// ends the caller's goroutine leaves nothing behind.
func TestUserCodeInTheWarningOfStartTask(t *testing.T) {
	const message = "task can never be given up: the delays between its restarts alone take longer than the window"
	opts := []taskmanager.TaskOption{taskmanager.WithMaxRestarts(6), taskmanager.WithBackoff(time.Minute, time.Minute)}
	for name, test := range map[string]struct {
		act     func(u *userCode)
		returns time.Duration // when StartTask does; 0: never
	}{
		"returns late":        {func(*userCode) { time.Sleep(time.Minute) }, time.Minute},
		"panics":              {func(*userCode) { panic("handler") }, 1},
		"calls Goexit":        {func(*userCode) { runtime.Goexit() }, 0},
		"stops another":       {func(u *userCode) { _ = u.m.StopTask(context.Background(), "other") }, 1},
		"starts another task": {func(u *userCode) { _, _ = u.m.StartTask("third", untilStopped) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &userCode{}
				u.trap.act = func() { test.act(u) }
				u.manager(t, message)
				began := time.Now()
				var returned atomic.Int64
				go func() {
					_, err := u.m.StartTask("a", u.body(untilStopped), opts...)
					assert.NoError(t, err)
					returned.Store(int64(max(1, time.Since(began))))
				}()
				synctest.Wait()
				if test.returns != 1 {
					assert.False(t, u.m.IsRunning("a"), "nothing is there that might be left behind")
				}
				time.Sleep(time.Hour)
				assert.Equal(t, test.returns, time.Duration(returned.Load()))
				assert.Equal(t, test.returns > 0, u.m.IsRunning("a"))
				if test.returns == 0 {
					_, err := u.m.StartTask("a", u.body(untilStopped), opts...)
					require.NoError(t, err, "the name is free")
				}
				synctest.Wait()
				require.NoError(t, u.m.Shutdown(context.Background()))
				assert.EqualValues(t, 1, u.entered.Load())
			})
		})
	}
}

// A panic's value that contains itself ends the run, and not the process, for whose stack it would be too deep.
func TestUserCodePanicsWithAValueThatContainsItself(t *testing.T) {
	type node struct {
		name string
		next any
	}
	inMap := map[string]any{}
	inMap["self"] = inMap
	inSlice := make([]any, 3)
	for i := range inSlice {
		inSlice[i] = inSlice
	}
	byPointer := &node{name: "a"}
	byPointer.next = &node{"b", byPointer}
	inStruct := &node{name: "a"}
	inStruct.next = []any{*inStruct, inStruct}
	inKey := map[any]int{}
	inKey[&inKey] = 1
	byValue := map[string]node{}
	byValue["self"] = node{"a", byValue}
	var inInterface any
	inInterface = &inInterface
	type array [1]any
	inArray := &array{}
	inArray[0] = inArray
	var twice any = "leaf" // is not endless, and would be printed a million million times
	for range 40 {
		twice = []any{twice, twice}
	}
	for title, value := range map[string]any{
		"a map": inMap, "a slice": inSlice, "a pointer": byPointer, "a struct": inStruct, "a map's key": inKey, "a map of structs": byValue,
		"an interface": inInterface, "an array": inArray, "a struct around a map": struct{ m any }{inMap}, "many times": twice,
		"wide":              wide(8, 30),
		"an error's values": fmt.Errorf("%w", &taskmanager.PanicError{Value: inMap}),
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBook
				m := newManager(t, log.option())
				task := start(t, m, "a", func(context.Context) error { panic(value) }, once())
				err := task.Wait(t.Context())
				var panicked *taskmanager.PanicError
				require.ErrorAs(t, err, &panicked)
				assert.Less(t, len(err.Error()), 1<<16)
				synctest.Wait()
				assert.Len(t, log.lines(t, "task failed for good, gave up"), 1)
			})
		})
	}
}

// wide returns a value of that depth, at each step of which there are n of the next.
func wide(depth, n int) any {
	var v any = "leaf"
	for range depth {
		next := make([]any, n)
		for i := range next {
			next[i] = v
		}
		v = next
	}
	return v
}

// goexitHandler is a log handler that ends the goroutine which logs that message, as one does that calls FailNow of a test.
type goexitHandler struct {
	slog.Handler
	message string
}

func (h goexitHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h goexitHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.Handler.Handle(ctx, r)
	if r.Message == h.message {
		runtime.Goexit()
	}
	return err
}

// goexitPolicy ends the goroutine that asks it for a delay.
type goexitPolicy struct{ backoff.ZeroBackOff }

func (goexitPolicy) NextBackOff() time.Duration { runtime.Goexit(); return 0 }

// A log handler that calls Goexit ends that call and nothing else: the task fails as often as its body does, at the times at
// which it would, and every line is written. A policy that does is no use for further delays: the task is given up.
func TestUserCodeExitsInALogHandlerOrAPolicy(t *testing.T) {
	policy := taskmanager.WithBackOffPolicy(func() backoff.BackOff { return &goexitPolicy{} })
	for title, test := range map[string]struct {
		message string
		opts    []taskmanager.TaskOption
		runs    int
		cause   error
	}{
		"when a run starts":             {message: "task started", runs: 6, cause: taskmanager.ErrTooManyRestarts},
		"when it fails":                 {message: "task failed, will restart", runs: 6, cause: taskmanager.ErrTooManyRestarts},
		"when it is given up":           {message: "task failed for good, gave up", runs: 6, cause: taskmanager.ErrTooManyRestarts},
		"by the backoff policy":         {opts: []taskmanager.TaskOption{policy}, runs: 1, cause: taskmanager.ErrGoexit},
		"by the policy, then a handler": {message: "task failed for good, gave up", opts: []taskmanager.TaskOption{policy}, runs: 1, cause: taskmanager.ErrGoexit},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelInfo)
				m := newManager(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0),
					taskmanager.WithLogger(slog.New(goexitHandler{lines, test.message})))
				began := time.Now()
				task := start(t, m, "a", boom, test.opts...)
				var gaveUp *taskmanager.GiveUpError
				require.ErrorAs(t, task.Wait(t.Context()), &gaveUp)
				took(t, time.Duration(test.runs-1)*time.Second, began)
				require.ErrorIs(t, gaveUp, test.cause)
				require.ErrorIs(t, gaveUp, errBoom)
				assert.Equal(t, taskmanager.StateFailed, task.State())
				assert.EqualValues(t, test.runs, task.Stats().Runs)
				assert.EqualValues(t, test.runs, task.Stats().Failures)
				synctest.Wait()
				want := slices.Repeat([]string{"task started", "task failed, will restart"}, test.runs)
				want[len(want)-1] = "task failed for good, gave up"
				assert.Equal(t, want, messages(lines))
				start(t, m, "a", untilStopped) // the name is free
			})
		})
	}
}

// shyHandler ends the goroutine which asks whether it wants to know that a run has begun.
type shyHandler struct{ slog.Handler }

func (h shyHandler) Enabled(_ context.Context, l slog.Level) bool {
	if l == slog.LevelDebug {
		runtime.Goexit()
	}
	return true
}

func TestUserCodeExitsInALogHandlerThatIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelDebug)
		m := newManager(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0),
			taskmanager.WithLogger(slog.New(shyHandler{lines})))
		before := goroutines()
		began := time.Now()
		require.ErrorIs(t, start(t, m, "a", boom, taskmanager.WithMaxRestarts(2)).Wait(t.Context()), errBoom)
		took(t, 2*time.Second, began)
		assert.Equal(t, before, goroutines())
		assert.Equal(t, []string{"task failed, will restart", "task failed, will restart", "task failed for good, gave up"}, messages(lines))
	})
}

// A prober calls everything in a Manager, on a goroutine of its own, while somebody who calls probe waits: that never
// ends if a lock is held where probe is called.
type prober struct {
	t       *testing.T
	manager *taskmanager.Manager
	subject *taskmanager.Task // nil until it has been started
	busy    atomic.Bool
	deaf    atomic.Bool // a probe has failed; more of them would fail as well

	mu     sync.Mutex
	places map[string]bool // where a probe is still to be made
	all    chan struct{}   // closed when there is none
}

func (p *prober) probe(place string) {
	if !p.busy.CompareAndSwap(false, true) {
		return // what a probe itself causes is not probed
	}
	defer p.busy.Store(false)
	p.mu.Lock()
	todo, subject := p.places[place], p.subject
	p.mu.Unlock()
	if !todo || p.deaf.Load() {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		m := p.manager
		ctx, cancel := context.WithCancel(context.Background())
		m.Subscribe(ctx)
		cancel()
		m.Stats()
		for task := range m.Tasks() {
			task.Stats()
			_ = task.Err()
		}
		m.IsRunning("subject")
		_, err := m.StartTask("probe", untilStopped)
		assert.NoError(p.t, err, place)
		assert.NoError(p.t, m.RestartTask(ctx2(), "probe"), place)
		assert.NoError(p.t, m.StopTask(ctx2(), "probe"), place)
		m.SetReporter(p.reporter())
		if subject != nil {
			subject.State()
			subject.Done()
			subject.Stats()
			_ = subject.Err()
		}
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second): // no wait for something to happen: it ends a test that would hang
		p.deaf.Store(true)
		p.t.Errorf("a lock is held while user code runs: %s", place)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.places, place)
	if len(p.places) == 0 {
		close(p.all)
	}
}

func (p *prober) reporter() taskmanager.Reporter {
	return taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error {
		p.probe("Reporter")
		return probingError{p}
	})
}

// ctx2 is a context that nothing ends.
func ctx2() context.Context { return context.Background() }

// A probingError calls the prober from each method that this package calls.
type probingError struct{ *prober }

func (e probingError) Error() string { e.probe("Error"); return "probing" }

func (e probingError) Unwrap() error { e.probe("Unwrap"); return errBoom }

func (e probingError) Is(error) bool { e.probe("Is"); return false }

func (e probingError) As(any) bool { e.probe("As"); return false }

type probingValue struct{ *prober }

func (v probingValue) String() string { v.probe("String of a panic's value"); return "probing" }

type probingStatus struct{ *prober }

func (s probingStatus) String() string { s.probe("String of a status"); return "probing" }

// A probingPolicy restarts at once.
type probingPolicy struct{ *prober }

func (b probingPolicy) NextBackOff() time.Duration { b.probe("NextBackOff"); return 0 }

func (b probingPolicy) Reset() { b.probe("Reset") }

type probingHandler struct {
	slog.Handler
	*prober
}

func (h probingHandler) Enabled(context.Context, slog.Level) bool { h.probe("Enabled"); return true }

func (h probingHandler) Handle(ctx context.Context, r slog.Record) error {
	h.probe("Handle: " + r.Message)
	_ = h.Handler.Handle(ctx, r)
	return errors.New("full")
}

// What is locked can only be found out with real goroutines: a bubble doesn't see one that waits for a mutex.
func TestUserCodeNeverRunsUnderALock_Promise4(t *testing.T) {
	p := &prober{t: t, all: make(chan struct{}), places: map[string]bool{
		"body": true, "deferred by the body": true, "body that is being stopped": true, "Reporter": true,
		"Error": true, "Unwrap": true, "Is": true, "As": true,
		"String of a panic's value": true, "String of a status": true,
		"new policy": true, "NextBackOff": true, "Reset": true, "Enabled": true,
		"Handle: task started": true, "Handle: task failed, will restart": true,
		"Handle: task failed for good, gave up": true, "Handle: task completed": true,
		"Handle: task stopped": true, "Handle: task stuck, its body does not return": true,
		"Handle: reporter failed, will retry": true,
		"Handle: task can never be given up: the delays between its restarts alone take longer than the window": true,
	}}
	p.manager = observed(t,
		taskmanager.WithLogger(slog.New(probingHandler{slog.DiscardHandler, p})), noReportLimit(),
		taskmanager.WithStopTimeout(10*time.Millisecond))
	p.manager.SetReporter(p.reporter())

	subject := start(t, p.manager, "subject", func(ctx context.Context) error {
		defer p.probe("deferred by the body")
		p.probe("body")
		taskmanager.SetStatus(ctx, "%v", probingStatus{p})
		s, _ := taskmanager.FromContext(ctx)
		if s.Stats().Runs%2 == 0 {
			panic(probingValue{p})
		}
		return probingError{p}
	}, taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithHealthyAfter(1),
		taskmanager.WithBackOffPolicy(func() backoff.BackOff { p.probe("new policy"); return probingPolicy{p} }))
	p.mu.Lock()
	p.subject = subject
	p.mu.Unlock()

	// What the subject alone doesn't lead to.
	for found := false; !found && !p.deaf.Load(); {
		ended := start(t, p.manager, "gives up", boom, once())
		<-ended.Done()
		ended = start(t, p.manager, "completes", func(context.Context) error { return nil },
			taskmanager.WithMaxRestarts(2), taskmanager.WithRestartWindow(time.Second),
			taskmanager.WithBackoff(time.Minute, time.Minute)) // a limit that can't be reached
		<-ended.Done()
		entered := make(chan struct{})
		ended = start(t, p.manager, "is stopped", func(ctx context.Context) error {
			close(entered)
			<-ctx.Done()
			p.probe("body that is being stopped")
			return probingError{p}
		})
		<-entered
		_ = ended.Stop(t.Context()) // it may be late: the handler and the body take their time
		<-ended.Done()
		release := make(chan struct{})
		entered = make(chan struct{})
		ended = start(t, p.manager, "is stuck", func(context.Context) error { close(entered); <-release; return nil })
		<-entered
		var timeout *taskmanager.StopTimeoutError
		if !assert.ErrorAs(t, ended.Stop(t.Context()), &timeout) {
			break
		}
		close(release)
		<-ended.Done()
		select {
		case <-p.all:
			found = true
		default:
		}
	}
	if p.deaf.Load() {
		return // a stop would hang as well
	}
	_ = p.manager.Shutdown(t.Context())
	<-subject.Done()
}

// Middleware is chained by the caller of StartTask, before there is a task: it holds up that caller alone, and whatever it does leaves
// nothing behind.
func TestUserCodeInMiddlewareThatIsChained(t *testing.T) {
	for name, test := range map[string]struct {
		act     func(u *userCode)
		returns time.Duration // when StartTask does; 0: never
		err     error         // of StartTask
	}{
		"returns late":        {act: func(*userCode) { time.Sleep(time.Minute) }, returns: time.Minute},
		"hangs":               {act: func(u *userCode) { <-u.release }},
		"panics":              {act: func(*userCode) { panic("middleware") }, returns: 1, err: new(taskmanager.OptionError)},
		"calls Goexit":        {act: func(*userCode) { runtime.Goexit() }},
		"stops another":       {act: func(u *userCode) { _ = u.m.StopTask(context.Background(), "other") }, returns: 1},
		"restarts another":    {act: func(u *userCode) { _ = u.m.RestartTask(context.Background(), "other") }, returns: 1},
		"starts another task": {act: func(u *userCode) { _, _ = u.m.StartTask("third", untilStopped) }, returns: 1},
		"starts the task":     {act: func(u *userCode) { _, _ = u.m.StartTask("a", u.body(untilStopped)) }, returns: 1, err: taskmanager.ErrTaskRunning},
		"shuts down":          {act: func(u *userCode) { _ = u.m.Shutdown(context.Background()) }, returns: 1, err: taskmanager.ErrManagerClosed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &userCode{release: make(chan struct{})}
				u.manager(t, "")
				began := time.Now()
				var returned atomic.Int64
				go func() {
					_, err := u.m.StartTask("a", u.body(untilStopped), taskmanager.WithMiddleware(func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
						test.act(u)
						return next
					}))
					var refused *taskmanager.OptionError
					if _, ok := test.err.(*taskmanager.OptionError); ok { //nolint:errorlint // of the test
						assert.ErrorAs(t, err, &refused)
					} else {
						assert.ErrorIs(t, err, test.err)
					}
					returned.Store(int64(max(1, time.Since(began))))
				}()
				synctest.Wait()
				if test.returns != 1 {
					assert.False(t, u.m.IsRunning("a"), "nothing is there that might be left behind")
					free := start(t, u.m, "a", untilStopped)
					require.NoError(t, free.Stop(t.Context()), "the name is free")
				}
				time.Sleep(time.Hour)
				assert.Equal(t, test.returns, time.Duration(returned.Load()))
				synctest.Wait()
				began = time.Now()
				require.NoError(t, u.m.Shutdown(context.Background()))
				took(t, 0, began)
				assert.LessOrEqual(t, u.most.Load(), int64(1))
				if returned.Load() == 0 && name == "hangs" {
					test.err = taskmanager.ErrManagerClosed // by now
				}
				close(u.release)
			})
		})
	}
}

// Middleware that stands in the way before or after the body is a body that does so: a stop returns by its deadline, the name stays
// taken for as long, and the next run comes after it.
func TestUserCodeInMiddlewareAroundARun(t *testing.T) {
	for _, after := range []bool{false, true} {
		for title, test := range map[string]struct {
			act   func(ctx context.Context, u *userCode)
			state taskmanager.State // of the task then
			fails uint64
			stuck bool
		}{
			"is late": {act: func(context.Context, *userCode) { time.Sleep(2 * userCodeTimeout) }, state: taskmanager.StateRunning, stuck: true},
			"hangs":   {act: func(_ context.Context, u *userCode) { <-u.release }, state: taskmanager.StateRunning, stuck: true},
			"panics":  {act: func(context.Context, *userCode) { panic("middleware") }, state: taskmanager.StateBackoff, fails: 1},
			"exits":   {act: func(context.Context, *userCode) { runtime.Goexit() }, state: taskmanager.StateBackoff, fails: 1},
			"stops the task": {
				act:   func(ctx context.Context, u *userCode) { assert.NoError(t, u.m.StopTask(ctx, "a")) },
				state: taskmanager.StateStopped,
			},
			"restarts the task": {
				act:   func(ctx context.Context, u *userCode) { assert.NoError(t, u.m.RestartTask(ctx, "a")) },
				state: taskmanager.StateRunning,
			},
			"shuts down": {
				act:   func(ctx context.Context, u *userCode) { assert.NoError(t, u.m.Shutdown(ctx)) },
				state: taskmanager.StateStopped,
			},
		} {
			t.Run(fmt.Sprintf("%s, after: %v", title, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					before := goroutines()
					u := &userCode{release: make(chan struct{})}
					u.manager(t, "")
					asked := make(chan struct{})
					u.start(t, func(ctx context.Context) error {
						if after {
							return nil
						}
						return untilStopped(ctx)
					}, taskmanager.WithRestart(taskmanager.RestartAlways), taskmanager.WithBackoff(time.Hour, time.Hour),
						taskmanager.WithMiddleware(func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
							return func(ctx context.Context) (err error) {
								act := func() {
									if u.trap.set.CompareAndSwap(true, false) {
										close(asked)
										test.act(withValue(ctx), u)
									}
								}
								if !after {
									act()
								} else {
									defer func() {
										act()
										if run, _ := taskmanager.RunFromContext(ctx); run > 1 {
											err = untilStopped(ctx)
										}
									}()
								}
								return next(ctx)
							}
						}))
					<-asked
					synctest.Wait()
					assert.Equal(t, test.state, u.task.State())
					assert.Equal(t, test.fails, u.task.Stats().Failures)
					began := time.Now()
					switch err := u.task.Stop(context.Background()); {
					case test.stuck:
						asStuck(t, err, "a", userCodeTimeout)
						_, err = u.m.StartTask("a", u.body(untilStopped))
						require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
						took(t, userCodeTimeout, began)
					case test.state.Ended():
						require.ErrorIs(t, err, taskmanager.ErrTaskNotRunning)
					default:
						require.NoError(t, err)
						took(t, 0, began)
					}
					close(u.release)
					require.NoError(t, u.task.Wait(t.Context()))
					require.NoError(t, u.m.Shutdown(context.Background()))
					assert.LessOrEqual(t, u.most.Load(), int64(1), "bodies at once")
					time.Sleep(2 * userCodeTimeout)
					assert.LessOrEqual(t, goroutines(), before+1, "goroutines, with the subscription's")
				})
			})
		}
	}
}

// What a task is to be replaced with is prepared by the caller, before anything is asked of the task: whatever user code does then, it
// does to the caller alone.
func TestUserCodeInWhatReplacesATask(t *testing.T) {
	calls := map[string]func(u *userCode, name string, opt taskmanager.TaskOption) error{
		"ReplaceTask": func(u *userCode, name string, opt taskmanager.TaskOption) error {
			_, err := u.m.ReplaceTask(context.Background(), name, u.body(untilStopped), opt)
			return err
		},
		"Reconcile": func(u *userCode, name string, opt taskmanager.TaskOption) error {
			_, err := u.m.Reconcile(context.Background(), name, slices.Values([]spec{{
				Name: name, Body: u.body(untilStopped), Options: []taskmanager.TaskOption{opt}, Version: "2",
			}}))
			return err
		},
	}
	places := map[string]func(u *userCode) taskmanager.TaskOption{
		"middleware": func(u *userCode) taskmanager.TaskOption {
			return taskmanager.WithMiddleware(func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
				u.trap.spring()
				return next
			})
		},
		"policy": func(u *userCode) taskmanager.TaskOption {
			return taskmanager.WithBackOffPolicy(func() backoff.BackOff {
				u.trap.spring()
				return &backoff.ZeroBackOff{}
			})
		},
	}
	for title, test := range map[string]struct {
		act     func(u *userCode)
		returns time.Duration // when the call does; -1: never
		err     error         // of the call
		runs    uint64        // of the task, in its life
	}{
		"is late":           {act: func(*userCode) { time.Sleep(time.Minute) }, returns: time.Minute, runs: 1},
		"hangs":             {act: func(u *userCode) { <-u.release }, returns: -1},
		"panics":            {act: func(*userCode) { panic("user code") }, err: new(taskmanager.OptionError), runs: 1},
		"exits":             {act: func(*userCode) { runtime.Goexit() }, returns: -1},
		"restarts the task": {act: func(u *userCode) { _ = u.task.Restart(context.Background()) }, runs: 1},
		"stops the task":    {act: func(u *userCode) { _ = u.task.Stop(context.Background()) }, runs: 1},
		"replaces the task": {act: func(u *userCode) {
			_, _ = u.m.ReplaceTask(context.Background(), "a", u.body(untilStopped))
		}, runs: 1},
		"shuts down": {act: func(u *userCode) { _ = u.m.Shutdown(context.Background()) }, err: taskmanager.ErrManagerClosed},
	} {
		for call, do := range calls {
			for place, option := range places {
				t.Run(call+", "+place+", "+title, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						before := goroutines()
						u := &userCode{release: make(chan struct{})}
						u.manager(t, "")
						u.start(t, untilStopped)
						synctest.Wait()
						u.trap.act = func() { test.act(u) }
						began := time.Now()
						returned := make(chan error, 1)
						go func() {
							err := do(u, "a", option(u))
							if test.returns >= 0 {
								took(t, test.returns, began)
							}
							returned <- err
						}()
						synctest.Wait()
						require.True(t, u.trap.sprung.Load(), "the user code has not been called")
						if test.returns != 0 {
							assert.EqualValues(t, 1, u.entered.Load(), "nothing has been asked of the task")
							assert.Equal(t, taskmanager.StateRunning, u.task.State())
						}
						time.Sleep(time.Hour)
						switch {
						case test.returns < 0:
							assert.Empty(t, returned)
						case test.err == nil:
							require.NoError(t, <-returned)
						default:
							err := <-returned
							var refused *taskmanager.OptionError
							if errors.As(test.err, &refused) {
								require.ErrorAs(t, err, &refused)
							} else {
								require.ErrorIs(t, err, test.err)
							}
						}
						if test.runs > 0 {
							assert.Equal(t, taskmanager.StateRunning, u.task.State())
							assert.Equal(t, test.runs, u.task.Stats().Runs)
						}
						began = time.Now()
						require.NoError(t, u.m.Shutdown(context.Background()))
						took(t, 0, began)
						assert.EqualValues(t, 1, u.most.Load(), "bodies at once")
						close(u.release)
						synctest.Wait()
						assert.LessOrEqual(t, goroutines(), before+1, "goroutines, with the subscription's")
					})
				})
			}
		}
	}
}

// The context of a caller is asked on the goroutine of the caller, with no lock held: what it does is done to that, and what was asked of
// the task goes on, or was never asked.
func TestUserCodeInTheContextOfACaller(t *testing.T) {
	calls := map[string]func(ctx context.Context, u *userCode) error{
		"PauseTask":   func(ctx context.Context, u *userCode) error { return u.m.PauseTask(ctx, "a") },
		"RestartTask": func(ctx context.Context, u *userCode) error { return u.m.RestartTask(ctx, "a") },
		"StopTasks":   func(ctx context.Context, u *userCode) error { return u.m.StopTasks(ctx, "a") },
		"ReplaceTask": func(ctx context.Context, u *userCode) error {
			_, err := u.m.ReplaceTask(ctx, "a", u.body(untilStopped))
			return err
		},
		"Reconcile": func(ctx context.Context, u *userCode) error {
			_, err := u.m.Reconcile(ctx, "a", slices.Values([]spec{{Name: "a", Body: u.body(untilStopped), Version: "2"}}))
			return err
		},
		"Reconcile, which stops it": func(ctx context.Context, u *userCode) error {
			_, err := u.m.Reconcile(ctx, "a", slices.Values([]spec{}))
			return err
		},
	}
	acts := map[string]func(u *userCode){
		"calls back": func(u *userCode) { u.m.Stats(); _ = u.m.RestartTask(context.Background(), "other") },
	}
	for title, act := range userCodeActs {
		acts[title] = func(u *userCode) { act(u.release) }
	}
	for call, do := range calls {
		for _, method := range []string{"Err", "Done", "Value", "Deadline"} {
			for title, act := range acts {
				t.Run(call+", "+method+" "+title, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						before := goroutines()
						u := &userCode{release: make(chan struct{})}
						u.manager(t, "")
						u.start(t, slowToStop(time.Second))
						synctest.Wait()
						u.trap.act = func() { act(u) }
						ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
						defer cancel()
						go func() {
							defer func() { _ = recover() }()
							_ = do(trappedContext{ctx, method, &u.trap}, u)
						}()
						synctest.Wait()
						require.True(t, u.trap.sprung.Load(), "the method has not been called")
						began := time.Now()
						require.NoError(t, u.m.StopTask(context.Background(), "other"))
						took(t, 0, began)
						if title == "panics" || title == "exits" { // and has lost its turn by that
							_, err := u.m.Reconcile(context.Background(), "p/", slices.Values([]spec{}))
							require.NoError(t, err)
							took(t, 0, began)
						}
						u.m.Stats()
						u.m.Health()
						require.NoError(t, u.m.Shutdown(context.Background()))
						took(t, time.Second, began)
						close(u.release)
						time.Sleep(2 * userCodeTimeout)
						assert.True(t, u.trap.left.Load())
						assert.EqualValues(t, 1, u.most.Load(), "bodies at once")
						assert.LessOrEqual(t, goroutines(), before+1, "goroutines, with the subscription's")
					})
				})
			}
		}
	}
}

// An endingContext is a trappedContext with an end of its own.
type endingContext struct {
	trappedContext
	done chan struct{}
}

func (c endingContext) Done() <-chan struct{} {
	c.springIn("Done")
	return c.done
}

func (c endingContext) Err() error {
	c.springIn("Err")
	select {
	case <-c.done:
		return errWhy
	default:
		return nil
	}
}

// Where middleware gives a group a context of its own type, which ends, the methods of that stand in the way of the end for no longer than
// a second, and hold up nothing else.
func TestUserCodeInTheContextOfAGroupThatDrains(t *testing.T) {
	for _, method := range []string{"Err", "Done", "Value", "Deadline"} {
		for title, act := range userCodeActs {
			t.Run(method+" "+title, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					before := goroutines()
					u := &userCode{release: make(chan struct{})}
					u.trap.act = func() { act(u.release) }
					u.m = mustNew(t)
					done := make(chan struct{})
					u.task = start(t, u.m, "group", taskmanager.Group(func(g *taskmanager.Manager) error {
						_, err := g.StartTask("a", u.body(untilStopped))
						return err
					}), once(), taskmanager.WithDrain(time.Second), taskmanager.WithMiddleware(func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
						return func(ctx context.Context) error {
							return next(endingContext{trappedContext{ctx, method, &u.trap}, done})
						}
					}))
					synctest.Wait()
					require.EqualValues(t, 1, u.bodies.Load())
					u.trap.set.Store(true)
					began := time.Now()
					close(done)
					<-u.task.Done()
					if u.trap.sprung.Load() && !u.trap.left.Load() {
						took(t, time.Second, began)
					} else {
						took(t, 0, began)
					}
					assert.Zero(t, u.bodies.Load())
					require.NoError(t, u.m.Shutdown(t.Context()))
					close(u.release)
					time.Sleep(2 * userCodeTimeout)
					assert.Equal(t, before, goroutines(), "goroutines")
				})
			})
		}
	}
}
