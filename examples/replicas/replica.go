package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
)

// An assignment makes a process of this program a replica. It comes in the environment, for it may have a password.
type assignment struct {
	Replica  int
	Engine   choice
	Resource string // its URL
}

const assignmentVariable = "TASKMANAGER_EXAMPLE_REPLICA"

// environment returns the variable, for the environment of a process.
func (a assignment) environment() string {
	text, err := json.Marshal(a)
	if err != nil {
		panic(err) // there is nothing in it that can't be marshaled
	}
	return assignmentVariable + "=" + string(text)
}

// assigned returns the assignment of this process. It returns false if it is none of a replica.
func assigned() (a assignment, ok bool) {
	err := json.Unmarshal([]byte(os.Getenv(assignmentVariable)), &a)
	return a, err == nil
}

// A report is what a replica says about one of its tasks: a line of JSON on its stdout.
type report struct {
	Task   string
	State  string // one of the following
	Token  uint64 // of the lease, if it runs or has returned
	Status string // for whom it waits, or why it has returned
	At     time.Time
}

const (
	runs     = "running"
	waits    = "waiting"
	returned = "returned"
)

// work is for how long a body works between two writes.
const work = 200 * time.Millisecond

// The tasks of each replica.
const (
	digest       = "digest"  // runs on one
	poller       = "poller"  // runs on two
	tenantPrefix = "tenant-" // a dozen, each of which runs on one
	allTenants   = 12
)

// The pools of the engines, in words that each engine takes.
const (
	pool          = "example"
	poolOfTenants = "example-tenants"
)

// A replica is what runs in each of the processes.
type replica struct {
	assignment
	manager *taskmanager.Manager

	mu     sync.Mutex // guards out and status
	out    *json.Encoder
	status map[string]string // of those that wait, as the last report says
}

// runReplica is a replica, until its stdin is closed, which happens at the latest when the process ends that has started it.
func runReplica(a assignment) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: withoutTime}))
	newEngine, disconnect, err := a.Engine.connect()
	if err != nil {
		return err
	}
	defer disconnect()
	opts := []lease.Option{lease.WithTTL(ttl), lease.WithReplica(fmt.Sprint("replica ", a.Replica)), lease.WithLogger(log)}
	e, err := newEngine(pool, opts...)
	if err != nil {
		return err
	}
	forTenants, err := newEngine(poolOfTenants, opts...) // a Spread has an engine, and a pool, of its own
	if err != nil {
		return err
	}
	m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)), taskmanager.WithStopTimeout(stopTimeout))
	if err != nil {
		return err
	}
	r := &replica{assignment: a, manager: m, out: json.NewEncoder(os.Stdout), status: map[string]string{}}
	if err = r.startTasks(e, forTenants); err == nil {
		<-ctx.Done()
	}
	ending, cancel := context.WithTimeout(context.Background(), 2*stopTimeout)
	defer cancel()
	// In this order: a lease is released when its body has returned.
	return errors.Join(err, m.Shutdown(ending), e.Close(ending), forTenants.Close(ending))
}

// startTasks starts the tasks of the replica. Each replica starts the same.
func (r *replica) startTasks(e, forTenants *lease.Engine) error {
	spread, err := lease.NewSpread(forTenants, r.writer, taskmanager.WithStopTimeout(stopTimeout))
	if err != nil {
		return err
	}
	var tenants []string
	for i := 1; i <= allTenants; i++ {
		tenants = append(tenants, fmt.Sprintf("%s%02d", tenantPrefix, i))
	}
	if err := spread.SetNames(tenants); err != nil {
		return err
	}
	for _, t := range []struct {
		name string
		body taskmanager.TaskFunc
		opts []taskmanager.TaskOption
	}{
		{digest, r.writer(digest), []taskmanager.TaskOption{taskmanager.WithLease(e.Lease(digest))}},
		{poller, r.poll, []taskmanager.TaskOption{taskmanager.WithLease(e.OneOf(poller, 2))}},
		{"tenants", spread.Group(), nil},
		{"reports", taskmanager.Every(100*time.Millisecond, r.reportWaiting), nil},
	} {
		if _, err := r.manager.StartTask(t.name, t.body, t.opts...); err != nil {
			return err
		}
	}
	return nil
}

// withoutTime is for a log whose lines get a time from who reads them.
func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// writer returns the body of a task that writes to the resource, again and again.
func (r *replica) writer(task string) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		token, _ := taskmanager.LeaseToken(ctx)
		defer r.begin(ctx, task, token)()
		w := write{task, token, r.Replica}
		err := w.send(ctx, r.Resource) // at once, so that the resource knows the token
		for err == nil && ctx.Err() == nil {
			// A moment in which it looks at no context and at no clock, as each body has. If the replica is frozen here until
			// another one has the lease, the write comes too late, and only the resource can know.
			time.Sleep(work)
			err = w.send(ctx, r.Resource)
		}
		return err
	}
}

// poll is the body of a task that runs on two replicas at once. It only reads, and needs no token.
func (r *replica) poll(ctx context.Context) error {
	token, _ := taskmanager.LeaseToken(ctx)
	defer r.begin(ctx, poller, token)()
	<-ctx.Done()
	return nil
}

// begin reports that a body begins. The func that it returns reports the end.
func (r *replica) begin(ctx context.Context, task string, token uint64) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.status, task)
	r.tellLocked(report{Task: task, State: runs, Token: token})
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.tellLocked(report{Task: task, State: returned, Token: token, Status: reason(ctx)})
	}
}

// reason says in a few words why the context of a body has ended.
func reason(ctx context.Context) string {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, taskmanager.ErrLeaseLost):
		return "lease lost"
	case cause != nil:
		return strings.TrimPrefix(cause.Error(), "taskmanager: ")
	default:
		return "failed"
	}
}

// reportWaiting reports what has changed of tasks that wait.
func (r *replica) reportWaiting(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock() // all the while, so that no body begins between the look and the report
	for t := range r.manager.Tasks() {
		s := t.StatsWithoutGroup()
		if s.Lease != nil && s.State == taskmanager.StateWaiting && r.status[s.Name] != s.Status {
			r.status[s.Name] = s.Status
			r.tellLocked(report{Task: s.Name, State: waits, Status: s.Status})
		}
	}
	return nil
}

func (r *replica) tellLocked(s report) {
	s.At = time.Now()
	_ = r.out.Encode(s) // without a reader, the process ends by SIGPIPE
}
