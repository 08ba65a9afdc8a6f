package leasetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
)

// processVariable is the environment variable that makes a test binary a replica: its settings in JSON.
const processVariable = "TASKMANAGER_LEASETEST_REPLICA"

// settings are what a replica is told by the test that starts it.
type settings struct {
	Name   string
	Config string
	TTL    time.Duration
	Beat   time.Duration
}

// A Write is what a [Writer] writes: which replica has written, by which token, and when, by the clock of what is written to.
type Write struct {
	Replica string
	Token   uint64
	At      time.Time
}

// A Writer writes to what one replica at a time may write to. The ctx is of the run that writes, and doesn't end with it.
type Writer func(ctx context.Context, w Write) error

// ErrRefused is what a [Writer] returns if the write was refused, because the run does not hold the lease any more.
var ErrRefused = errors.New("leasetest: the write was refused")

// RunReplica is called first in TestMain. It returns in a process that is to run tests. In one that [Fleet.Start] has started, it is a
// replica: a process with the engine and the Writer that open makes of the config given there, and a task of lease "job", which writes
// again and again. It ends the process then.
func RunReplica(open func(config string, opts ...lease.Option) (Engine, Writer, error)) {
	text, ok := os.LookupEnv(processVariable)
	if !ok {
		return
	}
	var s settings
	err := json.Unmarshal([]byte(text), &s)
	if err == nil {
		err = runReplica(s, open)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// stopTimeout is what bodies of replicas get to return. A write takes less.
const (
	stopTimeout  = 500 * time.Millisecond
	writeTimeout = 200 * time.Millisecond
	writePause   = 20 * time.Millisecond
)

func runReplica(s settings, open func(config string, opts ...lease.Option) (Engine, Writer, error)) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	e, write, err := open(s.Config, lease.WithTTL(s.TTL), lease.WithBeat(s.Beat), lease.WithReplica(s.Name), lease.WithLogger(log))
	if err != nil {
		return err
	}
	m, err := taskmanager.New(taskmanager.WithLogger(log))
	if err != nil {
		return err
	}
	r := &writing{name: s.Name, write: write, hold: make(chan struct{}, 1), resume: make(chan struct{})}
	_, err = m.StartTask("job", r.body, taskmanager.WithLease(e.Lease("job")), taskmanager.WithStopTimeout(stopTimeout))
	if err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "hold":
			r.hold <- struct{}{}
		case "resume":
			r.resume <- struct{}{}
		case "stop":
			return leave(m, e)
		}
	}
	return errors.New("leasetest: the test is gone")
}

func leave(m *taskmanager.Manager, e Engine) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return errors.Join(m.Shutdown(ctx), e.Close(ctx))
}

// writing is what the body of a replica does.
type writing struct {
	name   string
	write  Writer
	hold   chan struct{} // has one if the body is to wait between its look at its context and its write
	resume chan struct{}
}

func (r *writing) body(ctx context.Context) error {
	token, _ := taskmanager.LeaseToken(ctx)
	r.tell("begin", token)
	defer r.tell("end", token)
	for ctx.Err() == nil {
		patience := writeTimeout
		select {
		case <-r.hold:
			r.tell("held", token)
			<-r.resume
			patience = Patience
		default:
		}
		err := r.writeOnce(ctx, token, patience)
		switch {
		case errors.Is(err, ErrRefused):
			r.tell("refused", token)
		case err != nil:
			fmt.Fprintln(os.Stderr, "write:", err)
		}
		timer := time.NewTimer(writePause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// writeOnce writes with a context that does not end with the run: what is under way is not taken back.
func (r *writing) writeOnce(ctx context.Context, token uint64, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return r.write(ctx, Write{Replica: r.name, Token: token})
}

// tell tells the test what happens.
func (r *writing) tell(what string, token uint64) {
	text, _ := json.Marshal(Event{Replica: r.name, What: what, Token: token, At: time.Now()})
	fmt.Println(string(text))
}

// An Event is what a replica tells of a run.
type Event struct {
	Replica string
	What    string    // begin and end, of the body; held; refused, of a write
	Token   uint64    // of the run
	At      time.Time // on the wall clock of the machine, which all replicas share
}

// A Fleet is the replicas of a test, each in a process of its own. Its methods are called by the goroutine of the test.
type Fleet struct {
	t     *testing.T
	place Place
	ttl   time.Duration
	beat  time.Duration // a fifth of ttl, unless it was set
	all   []*process

	observer *Observer // nil: none yet

	mu     sync.Mutex
	events []Event       // guarded by mu
	more   chan struct{} // closed, and made anew, with each event; guarded by mu
}

// NewFleet returns a fleet without replicas, whose engines will have that TTL. What runs at the end of the test is killed.
func NewFleet(t *testing.T, place Place, ttl time.Duration) *Fleet {
	f := &Fleet{t: t, place: place, ttl: ttl, beat: ttl / 5, more: make(chan struct{})}
	t.Cleanup(func() {
		for _, p := range f.all {
			p.kill()
		}
		if t.Failed() {
			for _, e := range f.events {
				t.Log(e.At.Format("15:04:05.000"), e.Replica, e.What, e.Token)
			}
			for _, p := range f.all {
				t.Logf("%s has logged:\n%s", p.name, p.log.String())
			}
		}
	})
	return f
}

// A process is a replica of a [Fleet].
type process struct {
	fleet  *Fleet
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	log    bytes.Buffer  // complete once exited is closed
	exited chan struct{} // closed when it has ended
}

// Start starts a replica, whose engine and Writer [RunReplica] makes of the config.
func (f *Fleet) Start(name, config string) {
	f.t.Helper()
	text, err := json.Marshal(settings{Name: name, Config: config, TTL: f.ttl, Beat: f.beat})
	require.NoError(f.t, err)
	binary, err := os.Executable()
	require.NoError(f.t, err)
	p := &process{fleet: f, name: name, exited: make(chan struct{})}
	p.cmd = exec.CommandContext(context.Background(), binary)
	p.cmd.Env = append(os.Environ(), processVariable+"="+string(text))
	p.cmd.Stderr = &p.log
	p.in, err = p.cmd.StdinPipe() // a replica whose test has died ends with it
	require.NoError(f.t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(f.t, err)
	require.NoError(f.t, p.cmd.Start())
	f.all = append(f.all, p)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var e Event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				f.add(e)
			}
		}
		_ = p.cmd.Wait()
		close(p.exited)
	}()
}

func (f *Fleet) add(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, e)
	close(f.more)
	f.more = make(chan struct{})
}

// await returns the first event of which is returns true, as soon as there is one.
func (f *Fleet) await(what string, is func(e Event) bool) Event {
	f.t.Helper()
	late := time.After(Patience)
	for {
		f.mu.Lock()
		events, more := f.events, f.more
		f.mu.Unlock()
		for _, e := range events {
			if is(e) {
				return e
			}
		}
		select {
		case <-more:
		case <-late:
			require.Fail(f.t, "it does not happen", what)
		}
	}
}

// NextRun returns the begin of the next run after that with a token, 0 for the first run, as soon as it has begun and written.
func (f *Fleet) NextRun(token uint64) Event {
	f.t.Helper()
	begin := f.await(fmt.Sprintf("the begin of a run after token %d", token), func(e Event) bool {
		return e.What == "begin" && e.Token > token
	})
	eventually(f.t, "the run does not write", func() bool {
		return slices.ContainsFunc(f.place.Writes(), func(w Write) bool { return w.Token == begin.Token })
	})
	return begin
}

// End returns the end of the run with that token, as soon as it has ended.
func (f *Fleet) End(token uint64) Event {
	f.t.Helper()
	return f.await(fmt.Sprintf("the end of the run with token %d", token), func(e Event) bool { return e.What == "end" && e.Token == token })
}

// Events returns how many events of a kind have happened.
func (f *Fleet) Events(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, e := range f.events {
		if e.What == what {
			n++
		}
	}
	return n
}

// of returns the process of the replica of an event.
func (f *Fleet) of(e Event) *process {
	f.t.Helper()
	for _, p := range f.all {
		if p.name == e.Replica {
			return p
		}
	}
	require.Fail(f.t, "there is no such replica", e.Replica)
	return nil
}

// stop has the replica stop, as a service that ends, and returns when it has.
func (p *process) stop() {
	p.fleet.t.Helper()
	p.command("stop")
	select {
	case <-p.exited:
		require.True(p.fleet.t, p.cmd.ProcessState.Success(), "%s has failed", p.name)
	case <-time.After(Patience):
		require.Fail(p.fleet.t, "it does not stop", p.name)
	}
}

// kill kills the process, as kill -9 does, and returns when it has ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// hold has the body of the replica wait between its look at its context and a write, and returns when it does.
func (p *process) hold() {
	p.fleet.t.Helper()
	p.command("hold")
	p.fleet.await("the body is held", func(e Event) bool { return e.What == "held" && e.Replica == p.name })
}

// resume ends hold: the body writes at once.
func (p *process) resume() {
	p.fleet.t.Helper()
	p.command("resume")
}

func (p *process) command(line string) {
	p.fleet.t.Helper()
	_, err := io.Copy(p.in, strings.NewReader(line+"\n"))
	require.NoError(p.fleet.t, err)
}
