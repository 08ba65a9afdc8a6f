//go:build unix

package taskmanager_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// signalChild names the service that a process of this test binary is to be.
const signalChild = "TASKMANAGER_SIGNAL_CHILD"

// services are the main functions of the processes of these tests, up to the end that the documentation has.
var services = map[string]func() error{
	"obedient": func() error { return serve(untilRunning(untilStopped)) },
	"deaf": func() error {
		return serve(untilRunning(ignoring(nil)), taskmanager.WithStopTimeout(time.Hour))
	},
	"stuck": func() error {
		return serve(untilRunning(ignoring(nil)), taskmanager.WithStopTimeout(100*time.Millisecond))
	},
	"done": func() error {
		return serve(func(context.Context) error { return nil }, critical)
	},
	"shut down": func() error {
		m, err := taskmanager.New()
		if err != nil {
			return err
		}
		_, err = m.StartTask("a", func(ctx context.Context) error { return m.Shutdown(ctx) })
		if err != nil {
			return err
		}
		_ = m.RunUntilSignal() // ErrManagerClosed, if the task was quick
		fmt.Fprintln(os.Stderr, "running")
		for {
			time.Sleep(time.Hour) // until a signal has its effect
		}
	},
	"another signal": func() error {
		m, err := taskmanager.New()
		if err != nil {
			return err
		}
		if _, err = m.StartTask("a", untilRunning(untilStopped)); err != nil {
			return err
		}
		return m.RunUntilSignal(syscall.SIGUSR1)
	},
}

// serve is a service of one task, in the default Manager.
func serve(body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) error {
	if _, err := taskmanager.StartTask("a", body, opts...); err != nil {
		return err
	}
	return taskmanager.RunUntilSignal()
}

// untilRunning makes body say that it runs, when signals are awaited.
func untilRunning(body taskmanager.TaskFunc) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		stacks := make([]byte, 1<<20)
		for !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte(").awaitSignal(")) {
			time.Sleep(time.Millisecond)
		}
		fmt.Fprintln(os.Stderr, "running")
		return body(ctx)
	}
}

// A process is one of this test binary, which is a service.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	output *bufio.Scanner
	text   bytes.Buffer // what has been read of output
}

// startProcess starts the service of that name.
func startProcess(t *testing.T, service string) *process {
	t.Helper()
	const patience = time.Minute // for a machine that is busy: nothing waits for it to pass
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	p := &process{t: t, cmd: exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSignal$")}
	p.cmd.Env = append(os.Environ(), signalChild+"="+service)
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	heedInterrupt(t)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = p.cmd.Wait() // unless end has
	})
	p.output = bufio.NewScanner(stderr)
	return p
}

// await reads until there is a line that contains text.
func (p *process) await(text string) {
	p.t.Helper()
	for p.output.Scan() {
		fmt.Fprintln(&p.text, p.output.Text())
		if strings.Contains(p.output.Text(), text) {
			return
		}
	}
	require.Failf(p.t, "no such line", "%q in:\n%s", text, p.text.String())
}

func (p *process) signal(s os.Signal) { require.NoError(p.t, p.cmd.Process.Signal(s)) }

// end waits for the end of the process, and returns how that came and what it has written.
func (p *process) end() (how, output string) {
	p.t.Helper()
	for p.output.Scan() {
		fmt.Fprintln(&p.text, p.output.Text())
	}
	_ = p.cmd.Wait() // which is in the state
	return p.cmd.ProcessState.String(), p.text.String()
}

// A first signal drains, a second one ends the process at once, and what can't end in order exits with another status than 0.
func TestSignal(t *testing.T) {
	if service := os.Getenv(signalChild); service != "" {
		if err := services[service](); err != nil {
			slog.Error("service ended", "error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	const first = "received signal, shutting down"
	for name, test := range map[string]struct {
		service string
		do      func(p *process)
		how     string
		says    []string // in this order
	}{
		"SIGTERM": {"obedient", func(p *process) {
			p.await("running")
			p.signal(syscall.SIGTERM)
		}, "exit status 0", []string{"INFO " + first + " signal=terminated", "INFO task stopped task=a run=1"}},
		"Ctrl-C": {"obedient", func(p *process) {
			p.await("running")
			p.signal(os.Interrupt)
		}, "exit status 0", []string{"INFO " + first + " signal=interrupt", "INFO task stopped task=a run=1"}},
		"Ctrl-C twice": {"deaf", func(p *process) {
			p.await("running")
			p.signal(os.Interrupt)
			p.await(first)
			p.signal(os.Interrupt)
		}, "signal: interrupt", []string{first}},
		"Ctrl-C, then SIGTERM": {"deaf", func(p *process) {
			p.await("running")
			p.signal(os.Interrupt)
			p.await(first)
			p.signal(syscall.SIGTERM)
		}, "signal: terminated", []string{first}},
		"a task that does not stop": {"stuck", func(p *process) {
			p.await("running")
			p.signal(syscall.SIGTERM)
		}, "exit status 1", []string{first, "ERROR task stuck", "ERROR service ended", "did not stop within 100ms"}},
		"a critical task that is done": {
			"done", func(*process) {},
			"exit status 1",
			[]string{"critical task is gone, shutting down", `critical task \"a\" has completed`},
		},
		"somebody else has shut down": {"shut down", func(p *process) {
			p.await("running")
			p.signal(syscall.SIGTERM)
		}, "signal: terminated", nil},
		"a signal of one's own": {"another signal", func(p *process) {
			p.await("running")
			p.signal(syscall.SIGUSR1)
		}, "exit status 0", []string{first + ` signal="user defined signal 1"`}},
		"one that was not asked for": {"another signal", func(p *process) {
			p.await("running")
			p.signal(syscall.SIGTERM)
		}, "signal: terminated", nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProcess(t, test.service)
			test.do(p)
			how, output := p.end()
			assert.Equal(t, test.how, how, output)
			rest := output
			for _, text := range test.says {
				_, after, found := strings.Cut(rest, text)
				assert.True(t, found, "%q, in this order, in:\n%s", text, output)
				rest = after
			}
		})
	}
}

// While the Manager is shut down for another reason, a signal is a first one.
func TestSignalDuringAShutdown(t *testing.T) {
	lines := newLines(slog.LevelInfo)
	m := mustNew(t, taskmanager.WithLogger(slog.New(lines)))
	runs, asked, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	start(t, m, "slow", func(ctx context.Context) error {
		close(runs)
		<-ctx.Done()
		close(asked)
		<-release
		return nil
	})
	<-runs
	<-start(t, m, "vital", boom, critical, once()).Done()
	ran := make(chan error, 1)
	go func() { ran <- m.RunUntilSignal(syscall.SIGUSR1) }()
	<-asked
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	require.Eventually(t, func() bool { return len(lines.about("received signal")) == 1 }, time.Minute, time.Millisecond)
	close(release)
	assertGivenUp(t, <-ran, "vital")
}

func TestSignalThatMakesNoSense(t *testing.T) {
	m := newManager(t)
	for text, signals := range map[string][]os.Signal{
		"taskmanager: signals[1] <nil>: must not be nil":    {os.Interrupt, nil},
		"taskmanager: signals[0] killed: can't be received": {os.Kill},
	} {
		var refused *taskmanager.OptionError
		err := m.RunUntilSignal(signals...)
		require.ErrorAs(t, err, &refused)
		assert.EqualError(t, err, text)
	}
	start(t, m, "a", untilStopped) // nothing has been changed
	require.NoError(t, m.Shutdown(t.Context()))
	require.ErrorIs(t, m.RunUntilSignal(), taskmanager.ErrManagerClosed)
}
