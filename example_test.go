package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/health"
)

// Examples can't run in a synctest bubble, which needs a *testing.T. Those below wait for channels, and use delays of
// a millisecond where they need a delay at all. What a failing task logs goes to standard error.

// The default manager needs no set-up. This task fails twice and is restarted.
func Example() {
	attempts := 0
	connected := make(chan struct{})
	_, err := taskmanager.StartTask("consumer", func(ctx context.Context) error {
		attempts++
		if attempts < 3 {
			return errors.New("connection refused")
		}
		close(connected)
		<-ctx.Done() // a real body would work here until it is asked to stop
		return nil
	}, taskmanager.WithBackoff(time.Millisecond, time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}

	<-connected
	s := taskmanager.Stats().Tasks["consumer"]
	fmt.Printf("%v: %d runs, %d failures, the last: %v\n", s.State, s.Runs, s.Failures, s.LastError)

	if err := taskmanager.StopTask(context.Background(), "consumer"); err != nil {
		fmt.Println(err)
	}
	fmt.Println("running:", taskmanager.IsRunning("consumer"))
	// Output:
	// running: 3 runs, 2 failures, the last: connection refused
	// running: false
}

// A main function, most often, starts its tasks and then waits for a signal. Not executed here, for it would wait.
func ExampleRunUntilSignal() {
	if _, err := taskmanager.StartTask("consumer", untilStopped); err != nil {
		slog.Error("consumer not started", "error", err)
		os.Exit(1)
	}
	if err := taskmanager.RunUntilSignal(); err != nil { // a second signal ends the process at once
		slog.Error("service ended", "error", err) // a task did not stop, or a critical one is gone
		os.Exit(1)
	}
}

// A main function that has a context of its own. Not executed here, for it would wait.
func ExampleRun() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once

	if _, err := taskmanager.StartTask("consumer", untilStopped); err != nil {
		fmt.Println(err)
		return
	}
	if err := taskmanager.Run(ctx); err != nil { // stops all tasks when ctx is done, and waits for them
		fmt.Println(err)
		os.Exit(1) // a task is stuck, or a critical one is gone
	}
}

// untilStopped is the body of a task that does well.
func untilStopped(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func ExampleNew() {
	m, err := taskmanager.New(
		taskmanager.WithName("billing"),
		taskmanager.WithStopTimeout(10*time.Second), // for every task that does not say otherwise
		taskmanager.WithHistory(1000),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Stats().Name)

	_, err = taskmanager.New(taskmanager.WithMaxRestarts(-5))
	fmt.Println(err)
	// Output:
	// billing
	// taskmanager: WithMaxRestarts(-5): must be 0 or more, or Unlimited
}

func ExampleManager_StartTask() {
	m, _ := taskmanager.New()

	task, err := m.StartTask("poller", untilStopped, taskmanager.WithMaxRestarts(10))
	fmt.Println(task.Name(), err)

	_, err = m.StartTask("poller", untilStopped)
	fmt.Println(errors.Is(err, taskmanager.ErrTaskRunning), err)

	_, err = m.StartTask("", untilStopped)
	var refused *taskmanager.OptionError
	fmt.Println(errors.As(err, &refused), err)
	_ = m.Shutdown(context.Background())
	// Output:
	// poller <nil>
	// true taskmanager: task is already running: "poller"
	// true taskmanager: name "": must have 1 to 255 bytes, and has 0
}

func ExampleWithRestart() {
	m, _ := taskmanager.New(taskmanager.WithBackoff(0, 0))
	fail := func(context.Context) error { return errors.New("no such table") }

	migration, _ := m.StartTask("migration", fail, taskmanager.WithRestart(taskmanager.RestartNever))
	fmt.Println(migration.Wait(context.Background()))

	// RestartAlways is for bodies that must not end at all.
	rounds := 0
	var round taskmanager.TaskFunc = func(context.Context) error {
		rounds++
		return nil
	}
	loop, _ := m.StartTask("loop", round, taskmanager.WithRestart(taskmanager.RestartAlways), taskmanager.WithMaxRestarts(2))
	fmt.Println(loop.Wait(context.Background()))
	fmt.Println(rounds, "rounds")
	// Output:
	// taskmanager: gave up task "migration": no such table
	// taskmanager: gave up task "loop" after 2 restarts within 1m0s
	// 3 rounds
}

func ExampleWithBackoff() {
	m, _ := taskmanager.New()
	events := m.Subscribe(context.Background())

	task, _ := m.StartTask("flaky", func(context.Context) error { return errors.New("busy") },
		taskmanager.WithBackoff(time.Millisecond, 4*time.Millisecond),
		taskmanager.WithBackoffFactor(2),
		taskmanager.WithBackoffJitter(0), // the default is 0.1
		taskmanager.WithMaxRestarts(4),
	)
	_ = task.Wait(context.Background())

	for e := range events {
		if e.Kind == taskmanager.EventFailed {
			fmt.Println("run", e.Run, "failed, the next one begins in", e.Delay)
		}
		if e.Kind == taskmanager.EventGaveUp {
			break
		}
	}
	// Output:
	// run 1 failed, the next one begins in 1ms
	// run 2 failed, the next one begins in 2ms
	// run 3 failed, the next one begins in 4ms
	// run 4 failed, the next one begins in 4ms
}

// Any policy of package backoff will do. This one allows two restarts, whenever they are.
func ExampleWithBackOffPolicy() {
	m, _ := taskmanager.New()
	newPolicy := func() backoff.BackOff {
		return backoff.WithMaxRetries(backoff.NewConstantBackOff(time.Millisecond), 2)
	}
	task, _ := m.StartTask("import", func(context.Context) error { return errors.New("disk full") },
		taskmanager.WithBackOffPolicy(newPolicy), taskmanager.WithMaxRestarts(taskmanager.Unlimited))

	fmt.Println(task.Wait(context.Background()))
	fmt.Println(task.Stats().Runs, "runs")
	// Output:
	// taskmanager: gave up task "import": disk full
	// 3 runs
}

// An error that no restart will cure.
func Example_permanent() {
	m, _ := taskmanager.New()
	errBadToken := errors.New("bad token")
	task, _ := m.StartTask("bot", func(context.Context) error {
		return backoff.Permanent(errBadToken)
	})

	err := task.Wait(context.Background())
	fmt.Println(err)
	fmt.Println(errors.Is(err, errBadToken), errors.Is(err, taskmanager.ErrTooManyRestarts))
	// Output:
	// taskmanager: gave up task "bot": bad token
	// true false
}

func ExampleWithMaxRestarts() {
	m, _ := taskmanager.New()
	errDown := errors.New("database is down")
	task, _ := m.StartTask("sync", func(context.Context) error { return errDown },
		taskmanager.WithMaxRestarts(3), taskmanager.WithRestartWindow(time.Minute), taskmanager.WithBackoff(0, 0))

	err := task.Wait(context.Background())
	fmt.Println(err)
	fmt.Println(errors.Is(err, taskmanager.ErrTooManyRestarts), errors.Is(err, errDown))

	var gaveUp *taskmanager.GiveUpError
	if errors.As(err, &gaveUp) {
		fmt.Println(gaveUp.Task, gaveUp.Restarts, gaveUp.Window)
	}
	fmt.Println(task.State(), task.Stats().Failures)
	// Output:
	// taskmanager: gave up task "sync" after 3 restarts within 1m0s: database is down
	// true true
	// sync 3 1m0s
	// failed 4
}

// A panic is a failure like any other. The error has the value and the stack, and unwraps to the value if that is an error.
func ExamplePanicError() {
	m, _ := taskmanager.New()
	task, _ := m.StartTask("parser", func(context.Context) error {
		panic("unexpected comma")
	}, taskmanager.WithMaxRestarts(0))

	err := task.Wait(context.Background())
	var panicked *taskmanager.PanicError
	if errors.As(err, &panicked) {
		fmt.Println(panicked.Value)
		fmt.Println(strings.Contains(string(panicked.Stack()), "ExamplePanicError"))
	}
	// Output:
	// unexpected comma
	// true
}

func ExampleManager_StopTask() {
	m, _ := taskmanager.New()
	started, why := make(chan struct{}), make(chan error, 1)
	_, _ = m.StartTask("worker", func(ctx context.Context) error {
		close(started)
		<-ctx.Done()
		why <- context.Cause(ctx)
		return ctx.Err() // whatever it returns: it was asked to stop, so it has stopped
	})
	<-started

	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	fmt.Println("stopped:", m.StopTask(ctx, "worker"))
	fmt.Println("cause:", <-why)
	fmt.Println("again:", m.StopTask(ctx, "worker"))
	fmt.Println("unknown:", m.StopTask(ctx, "wroker"))
	// Output:
	// stopped: <nil>
	// cause: taskmanager: task was stopped by hand
	// again: taskmanager: task is not running: "worker"
	// unknown: taskmanager: task not found: "wroker"
}

// A body that does not return when its context is done is stuck. Its name stays taken until it returns.
func ExampleStopTimeoutError() {
	m, _ := taskmanager.New(taskmanager.WithStopTimeout(10 * time.Millisecond))
	started, release := make(chan struct{}), make(chan struct{})
	ignoresContext := func(context.Context) error {
		close(started)
		<-release
		return nil
	}
	task, _ := m.StartTask("deaf", ignoresContext)
	<-started

	err := task.Stop(context.Background())
	fmt.Println(err)
	var stuck *taskmanager.StopTimeoutError
	if errors.As(err, &stuck) {
		fmt.Println("the stack shows where:", strings.Contains(string(stuck.Stack), "ExampleStopTimeoutError"))
	}
	fmt.Println(task.State())
	_, err = m.StartTask("deaf", untilStopped)
	fmt.Println(err)

	close(release)
	<-task.Done()
	fmt.Println(task.State())
	// Output:
	// taskmanager: task "deaf" did not stop within 10ms
	// the stack shows where: true
	// stuck
	// taskmanager: task is already running: "deaf"
	// stopped
}

func ExampleManager_StopAll() {
	m, _ := taskmanager.New()
	for i := range 3 {
		_, _ = m.StartTask(fmt.Sprintf("worker-%d", i), untilStopped)
	}
	fmt.Println(m.StopAll(context.Background()))
	fmt.Println(m.Stats().Stopped, "stopped")

	// The Manager stays usable.
	_, err := m.StartTask("worker-0", untilStopped)
	fmt.Println(err, m.IsRunning("worker-0"))
	_ = m.StopAll(context.Background())
	// Output:
	// <nil>
	// 3 stopped
	// <nil> true
}

func ExampleManager_Shutdown() {
	m, _ := taskmanager.New()
	_, _ = m.StartTask("worker", untilStopped)

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	fmt.Println(m.Shutdown(ctx))

	_, err := m.StartTask("worker", untilStopped)
	fmt.Println(errors.Is(err, taskmanager.ErrManagerClosed))
	// Output:
	// <nil>
	// true
}

// Run blocks until its context is done, and then shuts the Manager down.
func ExampleManager_Run() {
	m, _ := taskmanager.New()
	// In a program: signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, interrupt := context.WithCancel(context.Background())
	_, _ = m.StartTask("worker", func(ctx context.Context) error {
		interrupt() // as Ctrl-C would
		<-ctx.Done()
		fmt.Println(context.Cause(ctx))
		return nil
	})
	fmt.Println(m.Run(ctx))
	// Output:
	// taskmanager: manager is shutting down
	// <nil>
}

func ExampleManager_RestartTask() {
	m, _ := taskmanager.New()
	started, causes := make(chan int), make(chan error, 2)
	runs := 0
	_, _ = m.StartTask("cache", func(ctx context.Context) error {
		runs++
		started <- runs
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return nil
	})
	fmt.Println("run", <-started)

	go func() { _ = m.RestartTask(context.Background(), "cache") }()
	fmt.Println("run", <-started)
	fmt.Println("cause:", <-causes)

	s := m.Stats().Tasks["cache"]
	fmt.Println("failures:", s.Failures, "restarts that count:", s.RestartsInWindow)
	_ = m.Shutdown(context.Background())
	// Output:
	// run 1
	// run 2
	// cause: taskmanager: task was restarted by hand
	// failures: 0 restarts that count: 0
}

func ExampleAskedBy() {
	m, _ := taskmanager.New()
	events := m.Subscribe(context.Background())
	task, _ := m.StartTask("poller", untilStopped)
	_ = task.WaitReady(context.Background())

	// What an HTTP handler does for who is logged in.
	ctx := taskmanager.AskedBy(context.Background(), "alice@example.com")
	_ = task.Restart(ctx)
	_ = task.Pause(ctx)
	_ = task.ResumeContext(ctx)
	_ = task.WaitReady(ctx)
	_ = m.Shutdown(context.Background())
	for len(events) > 0 {
		e := <-events
		fmt.Println(strings.TrimSpace(fmt.Sprintf("%v %s", e.Kind, e.By)))
	}
	// Output:
	// started
	// stopped alice@example.com
	// started
	// paused alice@example.com
	// resumed alice@example.com
	// started
	// stopped
}

func ExampleManager_PauseTask() {
	m, _ := taskmanager.New()
	started, causes := make(chan int), make(chan error, 1)
	runs := 0
	task, _ := m.StartTask("poller", func(ctx context.Context) error {
		runs++
		started <- runs
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return nil
	})
	fmt.Println("run", <-started)

	_ = m.PauseTask(context.Background(), "poller")
	fmt.Println(task.State(), "because", <-causes)
	fmt.Println("is running:", m.IsRunning("poller"), "ready:", task.Stats().Ready)

	_ = m.ResumeTask("poller")
	fmt.Println("run", <-started)
	_ = m.Shutdown(context.Background())
	// Output:
	// run 1
	// paused because taskmanager: task was paused by hand
	// is running: true ready: false
	// run 2
}

func ExampleWithCooldown() {
	m, _ := taskmanager.New(taskmanager.WithBackoff(0, 0), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
	events := m.Subscribe(context.Background())
	_, _ = m.StartTask("sync", func(context.Context) error { return errors.New("database is down") },
		taskmanager.WithMaxRestarts(1), taskmanager.WithCooldown(10*time.Millisecond))
	for e := range events {
		fmt.Println("run", e.Run, e.Kind, e.Err)
		if e.Kind == taskmanager.EventGaveUp {
			fmt.Println("begins afresh in", e.Delay)
		}
		if e.Run == 3 {
			break
		}
	}
	_ = m.Shutdown(context.Background())
	// Output:
	// run 1 started <nil>
	// run 1 failed database is down
	// run 2 started <nil>
	// run 2 gave up taskmanager: gave up task "sync" after 1 restart within 1m0s: database is down
	// begins afresh in 10ms
	// run 3 started <nil>
}

// Several tasks of a service are stopped together: first those that depend on others.
func ExampleManager_StopTasks() {
	m, _ := taskmanager.New()
	worker := func(ctx context.Context) error {
		<-ctx.Done()
		task, _ := taskmanager.FromContext(ctx)
		fmt.Println(task.Name(), "stops")
		return nil
	}
	_, _ = m.StartTask("database", worker)
	consumer, _ := m.StartTask("consumer", worker, taskmanager.WithDependsOn("database"))
	_, _ = m.StartTask("metrics", func(ctx context.Context) error { <-ctx.Done(); return nil })
	_ = consumer.WaitReady(context.Background())

	fmt.Println(m.StopTasks(context.Background(), "database", "consumer", "databse"))
	fmt.Println("metrics:", m.IsRunning("metrics"))
	_ = m.Shutdown(context.Background())
	// Output:
	// consumer stops
	// database stops
	// taskmanager: task not found: "databse"
	// metrics: true
}

// A task goes on with another body. Its name is never free, and the handle stays good.
func ExampleManager_ReplaceTask() {
	m, _ := taskmanager.New()
	poll := func(url string) taskmanager.TaskFunc {
		return func(ctx context.Context) error {
			taskmanager.SetStatus(ctx, "polls %s", url)
			<-ctx.Done()
			return nil
		}
	}
	ctx := context.Background()
	task, _ := m.StartTask("poller", poll("https://old.example"))
	_ = task.WaitReady(ctx)

	same, err := m.ReplaceTask(ctx, "poller", poll("https://new.example"), taskmanager.WithStopTimeout(10*time.Second))
	fmt.Println(same == task, err)
	for task.Stats().Status == "" { // its run is about to begin
		time.Sleep(time.Millisecond)
	}
	fmt.Println(task.State(), task.Stats().Status)
	fmt.Println(m.StopTask(ctx, "poller"))
	// Output:
	// true <nil>
	// running polls https://new.example
	// <nil>
}

// The tasks of a service follow its configuration. Whenever that has been read anew, Reconcile starts, replaces and stops what has
// changed, and leaves the others alone.
func ExampleManager_Reconcile() {
	type feed struct {
		Name, URL string
		Interval  time.Duration
	}
	specs := func(feeds []feed) iter.Seq[taskmanager.Spec] {
		return func(yield func(taskmanager.Spec) bool) {
			for _, f := range feeds {
				body := taskmanager.Every(f.Interval, func(context.Context) error { return nil }) // fetches f.URL
				// All that the body and the options are made from is the version.
				if !yield(taskmanager.Spec{Name: "feed/" + f.Name, Body: body, Version: fmt.Sprintf("%+v", f)}) {
					return
				}
			}
		}
	}
	m, _ := taskmanager.New()
	_, _ = m.StartTask("web server", func(ctx context.Context) error { <-ctx.Done(); return nil })
	for _, config := range [][]feed{
		{{"go", "https://go.dev/blog/feed.atom", time.Hour}, {"lwn", "https://lwn.net/headlines/rss", time.Hour}},
		{{"go", "https://go.dev/blog/feed.atom", time.Hour}, {"lwn", "https://lwn.net/headlines/rss", time.Minute}},
		{{"go", "https://go.dev/blog/feed.atom", time.Hour}, {"xkcd", "https://xkcd.com/atom.xml", time.Hour}, {Name: "lwn\n"}},
	} {
		changed, err := m.Reconcile(context.Background(), "feed/", specs(config))
		fmt.Printf("%+v %v\n", changed, err)
	}
	fmt.Println("web server:", m.IsRunning("web server"))
	_ = m.Shutdown(context.Background())
	// Output:
	// {Started:[feed/go feed/lwn] Replaced:[] Stopped:[] Unchanged:0} <nil>
	// {Started:[] Replaced:[feed/lwn] Stopped:[] Unchanged:1} <nil>
	// {Started:[feed/xkcd] Replaced:[] Stopped:[feed/lwn] Unchanged:1} taskmanager: name "feed/lwn\n": must not contain control characters: "feed/lwn\n"
	// web server: true
}

// What was given up while a database was down runs again when it is back.
func ExampleManager_RestartFailed() {
	m, _ := taskmanager.New(taskmanager.WithRestart(taskmanager.RestartNever))
	var isBack atomic.Bool
	sync := func(ctx context.Context) error {
		if !isBack.Load() {
			return errors.New("database is down")
		}
		<-ctx.Done()
		return nil
	}
	users, _ := m.StartTask("users", sync)
	orders, _ := m.StartTask("orders", sync)
	<-users.Done()
	<-orders.Done()

	isBack.Store(true)
	fmt.Println(m.RestartFailed(context.Background()))
	fmt.Println(m.IsRunning("users"), m.IsRunning("orders"))
	_ = m.Shutdown(context.Background())
	// Output:
	// 2 <nil>
	// true true
}

func ExampleManager_Stats() {
	m, _ := taskmanager.New(taskmanager.WithBackoff(0, 0))
	task, _ := m.StartTask("sync", func(context.Context) error { return errors.New("database is down") },
		taskmanager.WithMaxRestarts(2))
	_ = task.Wait(context.Background())

	s := m.Stats()
	fmt.Println(s.Failed, "failed,", s.Runs, "runs")

	// A snapshot is a plain value. The times are taken out, for an output that is the same each time.
	t := s.Tasks["sync"]
	t.StartedAt, t.EndedAt, t.LastErrorAt, t.FailingSince = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	text, _ := json.MarshalIndent(t, "", "  ")
	fmt.Println(string(text))
	// Output:
	// 1 failed, 3 runs
	// {
	//   "name": "sync",
	//   "state": "failed",
	//   "ready": false,
	//   "runs": 3,
	//   "restarts": 2,
	//   "failures": 3,
	//   "panics": 0,
	//   "restarts_in_window": 2,
	//   "max_restarts": 2,
	//   "restart_window_seconds": 60,
	//   "restart_policy": "on-failure",
	//   "consecutive_failures": 3,
	//   "last_error": "database is down"
	// }
}

// Which tasks are failing, and why? Those with the most failures in a row come first; one that was given up keeps its row.
func ExampleManager_Stats_failing() {
	m, _ := taskmanager.New(taskmanager.WithBackoff(0, 0))
	fails := func(text string) taskmanager.TaskFunc {
		return func(context.Context) error { return errors.New(text) }
	}
	mail, _ := m.StartTask("mail", fails("connection refused"), taskmanager.WithMaxRestarts(4))
	feed, _ := m.StartTask("feed", fails("not found"), taskmanager.WithMaxRestarts(2))
	_, _ = m.StartTask("web server", func(ctx context.Context) error { <-ctx.Done(); return nil })
	<-mail.Done()
	<-feed.Done()

	failing := slices.Collect(maps.Values(m.Stats().Tasks))
	failing = slices.DeleteFunc(failing, func(s taskmanager.TaskStats) bool { return s.ConsecutiveFailures == 0 })
	slices.SortFunc(failing, func(a, b taskmanager.TaskStats) int { return b.ConsecutiveFailures - a.ConsecutiveFailures })
	for _, s := range failing {
		fmt.Println(s.Name, s.State, s.ConsecutiveFailures, s.LastError)
	}
	_ = m.Shutdown(context.Background())
	// Output:
	// mail failed 5 connection refused
	// feed failed 3 not found
}

func ExampleManager_Subscribe() {
	m, _ := taskmanager.New(taskmanager.WithBackoff(0, 0))
	ctx, cancel := context.WithCancel(context.Background())
	events := m.Subscribe(ctx)

	failed := false
	task, _ := m.StartTask("job", func(context.Context) error {
		if !failed {
			failed = true
			return errors.New("try again")
		}
		return nil
	})
	<-task.Done()
	cancel() // closes events, in a moment

	for e := range events {
		fmt.Println(e.Task, e.Run, e.Kind, e.Err)
	}
	// Output:
	// job 1 started <nil>
	// job 1 failed try again
	// job 2 started <nil>
	// job 2 recovered <nil>
	// job 2 completed <nil>
}

// A Reporter hears of failures, apart from supervision: it may be slow.
func ExampleManager_SetReporter() {
	m, _ := taskmanager.New()
	m.SetReporter(taskmanager.ReporterFunc(func(ctx context.Context, e taskmanager.Event) error {
		fmt.Printf("%s: %v: %v\n", e.Task, e.Kind, e.Err)
		return nil // an error: it is tried again, until it returns nil
	}))
	task, _ := m.StartTask("bot", func(context.Context) error {
		return backoff.Permanent(errors.New("bad token"))
	})
	<-task.Done()
	_ = m.Shutdown(context.Background()) // delivers what waits
	// Output:
	// bot: gave up: taskmanager: gave up task "bot": bad token
}

func ExampleMultiReporter() {
	var mails, pages []string
	mail := taskmanager.ReporterFunc(func(_ context.Context, e taskmanager.Event) error {
		mails = append(mails, e.Kind.String())
		return nil
	})
	pager := taskmanager.ReporterFunc(func(_ context.Context, e taskmanager.Event) error {
		if e.Kind != taskmanager.EventFailed { // a task that is going to be restarted wakes nobody
			pages = append(pages, e.Kind.String())
		}
		return nil
	})

	// Each has a goroutine and a limit of its own: a slow one does not hold up the other.
	m, _ := taskmanager.New(taskmanager.WithReporter(taskmanager.MultiReporter(mail, pager)))
	task, _ := m.StartTask("sync", func(context.Context) error { return errors.New("down") },
		taskmanager.WithMaxRestarts(1), taskmanager.WithBackoff(time.Millisecond, time.Millisecond))
	<-task.Done()
	_ = m.Shutdown(context.Background())

	fmt.Println("mails:", mails)
	fmt.Println("pages:", pages)
	// Output:
	// mails: [failed gave up]
	// pages: [gave up]
}

func ExampleSetStatus() {
	m, _ := taskmanager.New()
	working := make(chan struct{})
	task, _ := m.StartTask("consumer", func(ctx context.Context) error {
		taskmanager.SetStatus(ctx, "at offset %d of %s", 4711, "orders")
		close(working)
		<-ctx.Done()
		return nil
	})
	<-working
	fmt.Println(task.Stats().Status)
	_ = m.Shutdown(context.Background())
	// Output:
	// at offset 4711 of orders
}

func ExampleFromContext() {
	whoAmI := func(ctx context.Context) string {
		if t, ok := taskmanager.FromContext(ctx); ok {
			return fmt.Sprintf("run %d of %s", t.Stats().Runs, t.Name())
		}
		return "no task"
	}

	m, _ := taskmanager.New()
	task, _ := m.StartTask("worker", func(ctx context.Context) error {
		fmt.Println(whoAmI(ctx))
		return nil
	})
	<-task.Done()
	fmt.Println(whoAmI(context.Background()))
	// Output:
	// run 1 of worker
	// no task
}

// The end of a parent context stops every task, and the bodies see its cause.
func ExampleWithContext() {
	ctx, cancel := context.WithCancelCause(context.Background())
	m, _ := taskmanager.New(taskmanager.WithContext(ctx))
	started := make(chan struct{})
	task, _ := m.StartTask("worker", func(ctx context.Context) error {
		close(started)
		<-ctx.Done()
		fmt.Println(context.Cause(ctx))
		return nil
	})
	<-started
	cancel(errors.New("lost the lease"))
	<-task.Done()
	fmt.Println(task.State())

	_, err := m.StartTask("worker", untilStopped)
	fmt.Println(err)
	// Output:
	// lost the lease
	// stopped
	// taskmanager: manager is closed: "worker"
}

// One for all: when a task of the group fails, all of them are started again.
func ExampleGroup() {
	m, _ := taskmanager.New(taskmanager.WithBackoff(time.Millisecond, time.Second))
	reads := 0
	read := make(chan struct{})
	session := taskmanager.Group(func(m *taskmanager.Manager) error {
		connection := make(chan string, 1) // new for each run of the group
		_, err := m.StartTask("writer", func(ctx context.Context) error {
			connection <- "hello"
			<-ctx.Done()
			fmt.Println("the writer ends")
			return nil
		})
		if err != nil {
			return err
		}
		_, err = m.StartTask("reader", func(ctx context.Context) error {
			line := <-connection
			if reads++; reads == 1 {
				return errors.New("connection reset")
			}
			fmt.Println("the reader reads", line)
			close(read)
			return untilStopped(ctx)
		})
		return err
	}, taskmanager.WithCritical(), taskmanager.WithRestart(taskmanager.RestartNever))

	task, _ := m.StartTask("session", session)
	<-read
	s := task.Stats()
	fmt.Println("session:", s.Runs, "runs; session/reader:", s.Group.Tasks["reader"].State)
	_ = m.Shutdown(context.Background())
	// Output:
	// the writer ends
	// the reader reads hello
	// session: 2 runs; session/reader: running
	// the writer ends
}

// Rest for one: the feed needs the connection. If the feed fails, it alone is started again; with the connection, both are.
func ExampleGroup_restForOne() {
	m, _ := taskmanager.New(taskmanager.WithBackoff(time.Millisecond, time.Second))
	var connections, feeds int
	done := make(chan struct{})
	connected := taskmanager.Group(func(m *taskmanager.Manager) error {
		connections++
		lost := make(chan struct{})
		_, err := m.StartTask("connection", func(ctx context.Context) error {
			select {
			case <-lost:
				return errors.New("connection lost")
			case <-ctx.Done():
				return nil
			}
		}, taskmanager.WithRestart(taskmanager.RestartNever), taskmanager.WithCritical())
		if err != nil {
			return err
		}
		_, err = m.StartTask("feed", func(ctx context.Context) error {
			switch feeds++; feeds {
			case 1:
				return errors.New("malformed") // the feed alone is restarted
			case 2:
				close(lost) // the connection is, and the feed with it
			case 3:
				close(done)
			}
			return untilStopped(ctx)
		})
		return err
	}, taskmanager.WithBackoff(time.Millisecond, time.Second))

	_, _ = m.StartTask("market", connected)
	<-done
	_ = m.Shutdown(context.Background())
	fmt.Println("connections:", connections, "feeds:", feeds)
	// Output: connections: 2 feeds: 3
}

// A body that is called every minute needs no ticker, and no loop, and tries again what has failed. Here a minute is a millisecond.
func ExampleEvery() {
	m, _ := taskmanager.New(taskmanager.WithBackoff(time.Millisecond, time.Second))
	polls, done := 0, make(chan struct{})
	poll := func(ctx context.Context) error {
		switch polls++; polls {
		case 2:
			return errors.New("no answer") // a failure: the pass is tried again, after a delay
		case 4:
			close(done)
			<-ctx.Done() // so that no other pass begins
		}
		return nil
	}
	task, _ := m.StartTask("poller", taskmanager.Every(time.Millisecond, poll))
	<-done
	_ = task.Stop(context.Background())

	s := task.Stats()
	fmt.Println(s.Passes.Begun, "passes,", s.Passes.Failed, "failed:", s.LastError)
	// Output:
	// 4 passes, 1 failed: no answer
}

// A pass that can't wait for its tick.
func ExampleManager_TriggerTask() {
	m, _ := taskmanager.New()
	synced := make(chan struct{})
	_, _ = m.StartTask("sync", taskmanager.Every(time.Hour, func(context.Context) error {
		synced <- struct{}{}
		return nil
	}))
	<-synced // at once
	fmt.Println(m.TriggerTask("sync"))
	<-synced // and not in an hour
	fmt.Println("synced")
	_ = m.Shutdown(context.Background())
	// Output:
	// <nil>
	// synced
}

// A daily is a Schedule of one time of day, by the clock on the wall: once a day, also on those on which summer time begins or ends.
// Where that time is left out, or comes twice, it is what time.Date makes of it.
type daily struct {
	hour, minute int
	zone         *time.Location
}

func (d daily) Next(t time.Time) time.Time {
	t = t.In(d.zone)
	for days := 0; ; days++ { // more than one where the next is left out, and time.Date makes t of it
		next := time.Date(t.Year(), t.Month(), t.Day()+days, d.hour, d.minute, 0, 0, d.zone)
		if next.After(t) {
			return next
		}
	}
}

// A digest that is to come at nine in the morning, local time, comes then on the days of the change of the clocks, too: 24 hours after the
// one before on most days, and 23 or 25 on those.
func ExampleOnSchedule_daily() {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		fmt.Println(err)
		return
	}
	at9 := daily{hour: 9, zone: berlin}
	_ = taskmanager.OnSchedule(at9, func(context.Context) error { return nil }) // the body of a task

	for _, eve := range []string{"2026-03-28", "2026-10-24"} { // the clocks change in the night after
		day, _ := time.ParseInLocation(time.DateOnly, eve, berlin)
		first := at9.Next(day)
		second := at9.Next(first)
		fmt.Println(second.Format(time.DateTime), "is", second.Sub(first), "after the one before")
	}
	// Output:
	// 2026-03-29 09:00:00 is 23h0m0s after the one before
	// 2026-10-25 09:00:00 is 25h0m0s after the one before
}

// spread is a Schedule of passes that don't all come at the same time in all processes that have it.
type spread struct{ interval, jitter time.Duration }

func (s spread) Next(t time.Time) time.Time {
	return t.Add(s.interval + rand.N(s.jitter))
}

// Schedules of github.com/robfig/cron/v3 will do, and anything else that says when.
func ExampleOnSchedule() {
	m, _ := taskmanager.New()
	refreshed := make(chan struct{}, 1)
	refresh := func(context.Context) error {
		select {
		case refreshed <- struct{}{}:
		default:
		}
		return nil
	}
	schedule := spread{interval: time.Millisecond, jitter: time.Millisecond}
	task, _ := m.StartTask("cache", taskmanager.OnSchedule(schedule, refresh))
	<-refreshed
	<-refreshed
	fmt.Println(task.Stop(context.Background()), task.Stats().Runs, "run")
	// Output:
	// <nil> 1 run
}

// The consumer waits until the database is ready, and is stopped before it.
func ExampleWithDependsOn() {
	m, _ := taskmanager.New()
	database := func(ctx context.Context) error {
		fmt.Println("database: connecting")
		taskmanager.Ready(ctx) // connected
		<-ctx.Done()
		fmt.Println("database: closed")
		return nil
	}
	begun := make(chan struct{})
	consumer := func(ctx context.Context) error {
		fmt.Println("consumer: begins")
		close(begun)
		<-ctx.Done()
		fmt.Println("consumer: has stopped")
		return nil
	}

	_, err := m.StartTask("consumer", consumer, taskmanager.WithDependsOn("database"))
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = m.StartTask("database", database, taskmanager.WithReadiness(10*time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}
	<-begun
	if err := m.StopAll(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// database: connecting
	// consumer: begins
	// consumer: has stopped
	// database: closed
}

// A dependency may be started later. One that would wait for itself is refused.
func ExampleWithDependsOn_cycle() {
	m, _ := taskmanager.New()
	_, err := m.StartTask("a", untilStopped, taskmanager.WithDependsOn("b"))
	fmt.Println(err)
	_, err = m.StartTask("b", untilStopped, taskmanager.WithDependsOn("a"))
	fmt.Println(err)
	_ = m.Shutdown(context.Background())
	// Output:
	// <nil>
	// taskmanager: WithDependsOn("a"): makes a cycle: "b" -> "a" -> "b"
}

// What the consumer receives comes by a session that ends with the run of connection: it begins anew with that.
func ExampleWithBindTo() {
	m, _ := taskmanager.New()
	var session atomic.Int64
	connection := func(ctx context.Context) error {
		session.Add(1)
		taskmanager.Ready(ctx)
		<-ctx.Done()
		return nil
	}
	begun := make(chan struct{})
	consumer := func(ctx context.Context) error {
		fmt.Println("consumes from session", session.Load())
		begun <- struct{}{}
		<-ctx.Done()
		fmt.Println(context.Cause(ctx))
		return nil
	}
	_, _ = m.StartTask("connection", connection, taskmanager.WithReadiness(10*time.Second))
	task, _ := m.StartTask("consumer", consumer, taskmanager.WithBindTo("connection"))
	<-begun
	if err := m.RestartTask(context.Background(), "connection"); err != nil {
		fmt.Println(err)
	}
	<-begun
	fmt.Println("failures:", task.Stats().Failures)
	_ = m.Shutdown(context.Background())
	// Output:
	// consumes from session 1
	// taskmanager: task "consumer" was bound to task "connection", which was lost
	// consumes from session 2
	// failures: 0
	// taskmanager: manager is shutting down
}

// A test, or a command, that needs a task to be ready waits for it.
func ExampleTask_WaitReady() {
	m, _ := taskmanager.New()
	listening := false
	task, _ := m.StartTask("server", func(ctx context.Context) error {
		listening = true // it stands for work
		taskmanager.Ready(ctx)
		<-ctx.Done()
		return nil
	}, taskmanager.WithReadiness(10*time.Second))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := task.WaitReady(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println("listening:", listening)
	_ = m.Shutdown(ctx)
	fmt.Println(task.WaitReady(ctx))
	// Output:
	// listening: true
	// taskmanager: task is not running: "server" was stopped
}

// The first run begins within the hour, unless somebody asks for it.
func ExampleWithStartJitter() {
	m, _ := taskmanager.New()
	task, _ := m.StartTask("cleaner", untilStopped, taskmanager.WithStartJitter(time.Hour))
	fmt.Println(task.State())
	if err := m.RestartTask(context.Background(), "cleaner"); err != nil {
		fmt.Println(err)
	}
	_ = task.WaitReady(context.Background())
	fmt.Println(task.State())
	_ = m.Shutdown(context.Background())
	// Output:
	// waiting
	// running
}

// A body that doesn't call Ready in time has failed.
func ExampleWithReadiness() {
	m, _ := taskmanager.New(taskmanager.WithMaxRestarts(0))
	task, _ := m.StartTask("gateway", func(ctx context.Context) error {
		<-ctx.Done() // it never gets its connection
		return ctx.Err()
	}, taskmanager.WithReadiness(time.Millisecond))
	err := task.Wait(context.Background())
	fmt.Println(errors.Is(err, taskmanager.ErrNotReady), errors.Unwrap(err))
	// Output: true taskmanager: not ready in time (1ms)
}

// An HTTP server behind a load balancer, and the consumer of the orders that it takes, drained in order within 20 s of SIGTERM: the
// server, which depends on the consumer, and then that.
func ExampleWithDrain() {
	m, _ := taskmanager.New(
		taskmanager.WithShutdownTimeout(20*time.Second),
		taskmanager.WithStopTimeout(10*time.Second), // of each; and what it takes to return after
		taskmanager.WithDrain(8*time.Second),        // as long, the work in hand goes on
	)
	orders, shipped := make(chan string), make(chan string, 1)
	consume := func(ctx context.Context) error {
		for {
			select {
			case <-taskmanager.Draining(ctx):
				return nil // what is still in the queue is for others
			case order := <-orders:
				<-taskmanager.Draining(ctx) // it stands for work that is in hand when the task is asked to stop
				server, _ := m.Lookup("http")
				shipped <- fmt.Sprintf("shipped %s, http: %v, ctx: %v", order, server.State(), ctx.Err())
			}
		}
	}

	inHand, noticed, address := make(chan struct{}), make(chan struct{}), make(chan net.Addr, 1)
	mux := http.NewServeMux()
	mux.Handle("/readyz", health.Ready(m, health.Only("http")))
	mux.HandleFunc("/order", func(_ http.ResponseWriter, r *http.Request) {
		close(inHand)
		<-taskmanager.Draining(r.Context()) // likewise
		orders <- "an order"
	})
	serve := func(ctx context.Context) error {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := &http.Server{
			Handler: mux, ReadHeaderTimeout: 5 * time.Second,
			BaseContext: func(net.Listener) context.Context { return ctx }, // requests in hand go on until the drain is over
		}
		defer func() { _ = server.Close() }()
		failed := make(chan error, 1)
		go func() { failed <- server.Serve(listener) }()
		address <- listener.Addr()
		select {
		case err := <-failed:
			return err
		case <-taskmanager.Draining(ctx): // from now on /readyz says 503
		}
		select {
		case <-noticed: // in a service: <-time.After(5*time.Second), until the load balancer sends no more requests
		case <-ctx.Done():
		}
		stopCtx, cancel := taskmanager.StopContext(ctx) // lives on while requests return whose context has ended
		defer cancel()
		return server.Shutdown(stopCtx)
	}

	if _, err := m.StartTask("consumer", consume); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := m.StartTask("http", serve, taskmanager.WithDependsOn("consumer")); err != nil {
		fmt.Println(err)
		return
	}
	ctx, sigterm := context.WithCancel(context.Background()) // in a service: m.RunUntilSignal()
	ended, answer := make(chan error, 1), make(chan string, 1)
	go func() { ended <- m.Run(ctx) }()
	url := "http://" + (<-address).String()
	go func() { answer <- status(url + "/order") }()
	<-inHand
	fmt.Println("ready:", status(url+"/readyz"))
	sigterm()
	for status(url+"/readyz") != "503 Service Unavailable" {
	}
	close(noticed)
	fmt.Println("request in hand:", <-answer)
	fmt.Println("consumer:", <-shipped)
	fmt.Println("end:", <-ended)
	// Output:
	// ready: 200 OK
	// request in hand: 200 OK
	// consumer: shipped an order, http: stopped, ctx: <nil>
	// end: <nil>
}

// status returns the status of what a server answers.
func status(url string) string {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return err.Error()
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	return response.Status
}

// An HTTP server as a body. It is ready when it listens. When it is asked to stop, requests in hand have a time of their own, for the
// body's context is done by then.
func ExampleReady_httpServer() {
	working := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(working)
		time.Sleep(10 * time.Millisecond) // it stands for work
		fmt.Fprint(w, "done")
	})
	address := make(chan net.Addr, 1)
	serve := func(ctx context.Context) error {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
		defer func() { _ = server.Close() }() // what Shutdown has left
		drained := make(chan error, 1)
		context.AfterFunc(ctx, func() {
			timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), 4*time.Second) // less than the stop timeout
			defer cancel()
			drained <- server.Shutdown(timeout)
		})
		address <- listener.Addr()
		taskmanager.Ready(ctx)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return <-drained
	}

	m, _ := taskmanager.New()
	task, err := m.StartTask("http", serve, taskmanager.WithReadiness(10*time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}
	answer := make(chan string)
	go func() { answer <- get("http://" + (<-address).String()) }()
	<-working
	fmt.Println("ready:", task.Stats().Ready)
	go func() { _ = m.Shutdown(context.Background()) }() // while a request is in hand
	fmt.Println("answer:", <-answer)
	<-task.Done()
	fmt.Println(task.State())
	// Output:
	// ready: true
	// answer: done
	// stopped
}

// get returns what a server answers.
func get(url string) string {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return err.Error()
	}
	defer http.DefaultClient.CloseIdleConnections()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// A task that hangs is noticed, as one that crashes is.
func ExampleWithWatchdog() {
	m, _ := taskmanager.New(taskmanager.WithMaxRestarts(0))
	task, _ := m.StartTask("worker", func(ctx context.Context) error {
		for job := range 3 {
			taskmanager.Heartbeat(ctx)
			if job == 2 {
				taskmanager.HeartbeatWithin(ctx, 2*time.Millisecond) // this one takes longer
				<-ctx.Done()                                         // and hangs
				fmt.Println("canceled:", context.Cause(ctx))
				return nil
			}
		}
		return nil
	}, taskmanager.WithWatchdog(time.Millisecond))
	err := task.Wait(context.Background())
	var overdue *taskmanager.OverdueError
	if errors.As(err, &overdue) {
		fmt.Println("failed:", overdue.Err) // and overdue.Stack shows where its goroutines were
	}
	// Output:
	// canceled: taskmanager: no heartbeat in time
	// failed: taskmanager: no heartbeat in time
}

// When a task without which the process makes no sense has been given up, Run stops the others and returns why, so that
// main can exit with a status that tells.
func ExampleWithCritical() {
	m, _ := taskmanager.New()
	_, _ = m.StartTask("exporter", untilStopped)
	_, _ = m.StartTask("gateway", func(context.Context) error {
		return backoff.Permanent(errors.New("token revoked"))
	}, taskmanager.WithCritical())

	err := m.Run(context.Background())
	fmt.Println(err)
	// Output: taskmanager: gave up task "gateway": token revoked
}

func ExampleManager_Health() {
	m, _ := taskmanager.New()
	task, _ := m.StartTask("sync", func(context.Context) error {
		return backoff.Permanent(errors.New("disk full"))
	})
	_ = task.Wait(context.Background())

	h := m.Health()
	fmt.Println(h.State, h.Ready)
	for _, p := range h.Problems {
		fmt.Println(p.Task, p.State, p.Reason)
	}
	// Output:
	// degraded true
	// sync failed given up
}

// Statistics print as a table, what does badly first.
func ExampleManagerStats_String() {
	m, _ := taskmanager.New(taskmanager.WithName("billing"))
	migrate, _ := m.StartTask("migrate", func(ctx context.Context) error {
		taskmanager.SetStatus(ctx, "12 tables")
		return nil
	})
	invoices, _ := m.StartTask("sync-invoices", func(context.Context) error {
		return backoff.Permanent(errors.New("PUT /invoices: 403 Forbidden"))
	})
	<-migrate.Done()
	<-invoices.Done()

	fmt.Println(m.Stats())
	// Output:
	// TASK           STATE      RUNS  FAILURES  PANICS  UPTIME  STATUS
	// sync-invoices  failed     1     1         0       -       PUT /invoices: 403 Forbidden
	// migrate        completed  1     0         0       -       12 tables
	// billing: 2 tasks (1 failed, 1 completed), 2 runs, 1 failure, 0 panics
}

func ExampleManager_Totals() {
	m, _ := taskmanager.New()
	for i := range 3 {
		_, _ = m.StartTask(fmt.Sprint("worker-", i), untilStopped)
	}
	broken, _ := m.StartTask("broken", func(context.Context) error { return errors.New("no such table") },
		taskmanager.WithRestart(taskmanager.RestartNever))
	<-broken.Done()
	_ = m.StopAll(context.Background())

	totals := m.Totals() // without a snapshot of each task
	fmt.Println(totals.Stopped, "stopped,", totals.Failed, "failed,", totals.Failures, "failure")
	// Output: 3 stopped, 1 failed, 1 failure
}

// A body's own lines bear the same attributes as the Manager's, so that all lines of a task are found by them.
func ExampleLogger() {
	withoutTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "uptime" { // not the same each time
			return slog.Attr{}
		}
		return a
	}
	handler := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime})
	m, _ := taskmanager.New(taskmanager.WithName("billing"), taskmanager.WithLogger(slog.New(handler)))

	task, _ := m.StartTask("sync", func(ctx context.Context) error {
		log := taskmanager.Logger(ctx)
		log.Info("table copied", "rows", 12)
		return nil
	})
	<-task.Done()
	_ = m.Shutdown(context.Background()) // waits for the log
	// Output:
	// level=INFO msg="table copied" manager=billing task=sync run=1 rows=12
	// level=INFO msg="task completed" manager=billing task=sync run=1
}

// Middleware is called around each run: here it measures, and adds a value to the context, as one that begins a span does.
func ExampleWithMiddleware() {
	type requestID struct{}
	measured := func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
		return func(ctx context.Context) (err error) {
			task, _ := taskmanager.FromContext(ctx)
			run, _ := taskmanager.RunFromContext(ctx)
			defer func() { fmt.Printf("%s has ended: %v\n", task.Name(), err) }() // also after a panic
			return next(context.WithValue(ctx, requestID{}, fmt.Sprintf("%s-%d", task.Name(), run)))
		}
	}
	m, _ := taskmanager.New(taskmanager.WithMiddleware(measured)) // around all tasks of this Manager

	task, _ := m.StartTask("sync", func(ctx context.Context) error {
		fmt.Println("request", ctx.Value(requestID{}))
		return errors.New("database is down")
	}, taskmanager.WithMaxRestarts(1), taskmanager.WithBackoff(time.Millisecond, time.Millisecond))
	<-task.Done()
	// Output:
	// request sync-1
	// sync has ended: database is down
	// request sync-2
	// sync has ended: database is down
}

func ExampleWithLogger() {
	withoutTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "uptime" { // not the same each time
			return slog.Attr{}
		}
		return a
	}
	handler := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withoutTime})
	m, _ := taskmanager.New(taskmanager.WithLogger(slog.New(handler)))

	task, _ := m.StartTask("sync", func(context.Context) error { return errors.New("database is down") },
		taskmanager.WithMaxRestarts(1),
		taskmanager.WithBackoff(time.Millisecond, time.Millisecond), taskmanager.WithBackoffJitter(0))
	<-task.Done()
	_ = m.Shutdown(context.Background()) // waits for the log
	// Output:
	// level=DEBUG msg="task started" task=sync run=1
	// level=WARN msg="task failed, will restart" task=sync run=1 error="database is down" restart_in=1ms restarts="1 of 1" window=1m0s
	// level=DEBUG msg="task started" task=sync run=2
	// level=ERROR msg="task failed for good, gave up" task=sync run=2 reason=limit error="database is down" restarts="1 of 1" window=1m0s
}

// A rateLimitError is what a service answers that is called too often.
type rateLimitError struct{ wait time.Duration }

func (e rateLimitError) Error() string {
	return fmt.Sprintf("too many requests, retry after %v", e.wait)
}

func (e rateLimitError) RetryAfter() time.Duration { return e.wait }

// A failure whose error says when to try again is not restarted before that.
func ExampleTaskFunc_retryAfter() {
	m, _ := taskmanager.New()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events := m.Subscribe(ctx)
	_, _ = m.StartTask("poller", func(context.Context) error {
		return fmt.Errorf("poll: %w", rateLimitError{30 * time.Second})
	})
	for e := range events {
		if e.Kind == taskmanager.EventFailed {
			fmt.Println(e.Err)
			fmt.Println("next run in", e.Delay)
			break
		}
	}
	_ = m.Shutdown(ctx)
	// Output:
	// poll: too many requests, retry after 30s
	// next run in 30s
}

// A body is an ordinary function, and can be tested without a Manager.
// FromContext and SetStatus do nothing with a context that is not a task's.
func ExampleTaskFunc() {
	queue := make(chan string, 2)
	var consume taskmanager.TaskFunc = func(ctx context.Context) error {
		for {
			select {
			case message, ok := <-queue:
				if !ok {
					return errors.New("the queue has gone away")
				}
				taskmanager.SetStatus(ctx, "at %s", message)
				fmt.Println("consumed", message)
			case <-ctx.Done():
				return nil
			}
		}
	}

	queue <- "one"
	queue <- "two"
	close(queue)
	fmt.Println(consume(context.Background()))
	// Output:
	// consumed one
	// consumed two
	// the queue has gone away
}

// What has become of a task that has failed, from its first failure on.
func ExampleTask_History() {
	m, _ := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
	runs := 0
	task, _ := m.StartTask("import", func(context.Context) error {
		if runs++; runs < 3 {
			return errors.New("connection refused")
		}
		return nil
	}, taskmanager.WithBackoff(time.Millisecond, time.Millisecond))
	_ = task.Wait(context.Background())
	for _, e := range task.History() {
		fmt.Println(e.Kind, e.Run, e.Failures)
	}
	_ = m.Shutdown(context.Background())
	// Output:
	// failed 1 0
	// started 2 0
	// failed 2 0
	// started 3 0
	// recovered 3 2
	// completed 3 0
}
