package taskmanager_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// The first page is for people in a hurry.
func TestReadmeIsShort(t *testing.T) {
	page := docPageAt(t, "README.md")
	assert.LessOrEqual(t, len(strings.Fields(page.text)), 2500, "words")
}

// Whoever follows the README in an empty directory has a service that stops as it says there.
func TestReadmeService(t *testing.T) {
	page := docPageAt(t, "README.md")
	install, source := page.marked(t, "ci:install"), page.marked(t, "main.go")
	service := besideTheRepository(t)
	goCommands(t, service, install.text)

	queue, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, queue.Close()) })
	address := freeAddress(t)
	build := func(t *testing.T, program string, changes ...string) {
		t.Helper()
		changes = append(changes, "localhost:4222", queue.Addr().String(), "localhost:8080", address)
		for i := 0; i < len(changes); i += 2 {
			require.Contains(t, source.text, changes[i])
		}
		text := strings.NewReplacer(changes...).Replace(source.text)
		require.NoError(t, os.WriteFile(filepath.Join(service, "main.go"), []byte(text+"\n"), 0o600))
		goCommands(t, service, "go build -ldflags=-w -o "+program+" .") // sooner, without what debuggers need
	}
	// receive returns the connection of the consumer, which reads from it.
	receive := func(t *testing.T, p *program) net.Conn {
		t.Helper()
		conn, err := queue.Accept()
		require.NoError(t, err)
		_, err = conn.Write([]byte("hello\n"))
		require.NoError(t, err)
		p.waitFor(t, "received line=hello")
		return conn
	}

	t.Run("a signal", func(t *testing.T) {
		build(t, "service")
		p := startProgram(t, filepath.Join(service, "service"))
		goCommands(t, service, "go vet .")
		conn := receive(t, p)
		require.Eventually(t, func() bool { // nothing tells another process when it listens
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/readyz", http.NoBody)
			if err != nil {
				return false
			}
			response, err := http.DefaultClient.Do(request)
			return err == nil && response.Body.Close() == nil && response.StatusCode == http.StatusOK
		}, time.Minute, 10*time.Millisecond)
		http.DefaultClient.CloseIdleConnections()
		require.NoError(t, p.command.Process.Signal(os.Interrupt))
		p.waitFor(t, "task stopped")
		p.waitFor(t, "task stopped")
		assert.Equal(t, 0, p.exitCode())
		_, err := conn.Read(make([]byte, 1))
		assert.Error(t, err, "its connection is closed")
		assert.NoError(t, conn.Close())
	})
	// A body that does not look at its context: what blocks in it is not closed.
	const cure = "context.AfterFunc(ctx, func() { conn.Close() })"
	t.Run("a second signal", func(t *testing.T) {
		build(t, "deaf", cure, "", "taskmanager.New(", "taskmanager.New(taskmanager.WithStopTimeout(time.Hour),")
		p := startProgram(t, filepath.Join(service, "deaf"))
		conn := receive(t, p)
		require.NoError(t, p.command.Process.Signal(os.Interrupt))
		p.waitFor(t, "task stopped") // that of http: the first signal has arrived
		exited := make(chan int, 1)
		go func() { exited <- p.exitCode() }()
		again := time.NewTicker(10 * time.Millisecond)
		defer again.Stop()
		for ended := false; !ended; {
			select {
			case <-again.C:
				_ = p.command.Process.Signal(os.Interrupt) // a first one may come before main has let go of signals
			case code := <-exited:
				assert.Equal(t, -1, code, "ended by the signal")
				ended = true
			}
		}
		assert.NoError(t, conn.Close())
	})
	t.Run("a stuck task", func(t *testing.T) {
		build(t, "stuck", cure, "", "taskmanager.New(", "taskmanager.New(taskmanager.WithStopTimeout(100*time.Millisecond),")
		p := startProgram(t, filepath.Join(service, "stuck"))
		conn := receive(t, p)
		require.NoError(t, p.command.Process.Signal(os.Interrupt))
		p.waitFor(t, "task stuck")
		p.waitFor(t, "the service has failed")
		assert.Equal(t, 1, p.exitCode())
		assert.NoError(t, conn.Close())
	})
	t.Run("a critical task", func(t *testing.T) {
		taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		require.NoError(t, err)
		defer func() { assert.NoError(t, taken.Close()) }()
		build(t, "critical", "taskmanager.New(", "taskmanager.New(taskmanager.WithBackoff(0, 0),")
		p := startProgram(t, filepath.Join(service, "critical"))
		p.waitFor(t, "the service has failed")
		assert.Equal(t, 1, p.exitCode())
	})
}

// Whoever follows the page about Discord can use discordbot, which is a module of its own.
func TestReadmeInstallsDiscordbot(t *testing.T) {
	page := docPageAt(t, "docs/discord.md")
	service := besideTheRepository(t)
	goCommands(t, service, page.marked(t, "ci:install-discordbot").text)
	const source = `package main

import "github.com/go-taskmanager/taskmanager/discord/discordbot"

func main() { _, _ = discordbot.New(nil, "1") }
`
	require.NoError(t, os.WriteFile(filepath.Join(service, "main.go"), []byte(source), 0o600))
	goCommands(t, service, "go vet .")
}

// besideTheRepository returns an empty directory that has, beside it, a link to the repository.
func besideTheRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs(".")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(root, filepath.Join(dir, "taskmanager")))
	service := filepath.Join(dir, "service")
	require.NoError(t, os.Mkdir(service, 0o755))
	return service
}

// goCommands executes lines of commands in a module of its own, with what there is in the module cache.
func goCommands(t *testing.T, dir, lines string) {
	t.Helper()
	for line := range strings.SplitSeq(lines, "\n") {
		words := strings.Fields(line)
		require.Equal(t, "go", words[0], line)
		command := exec.CommandContext(t.Context(), words[0], words[1:]...)
		command.Dir = dir
		command.Env = append(os.Environ(), "GOWORK=off", "GOPROXY=off", "GOSUMDB=off", "GOFLAGS=")
		output, err := command.CombinedOutput()
		require.NoError(t, err, "%s: %s", line, output)
	}
}

// freeAddress returns one on loopback at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// A program is a process that logs to standard error.
type program struct {
	command *exec.Cmd
	log     *bufio.Scanner
	read    []string
}

func startProgram(t *testing.T, path string) *program {
	t.Helper()
	p := &program{command: exec.CommandContext(t.Context(), path)}
	log, err := p.command.StderrPipe()
	require.NoError(t, err)
	p.log = bufio.NewScanner(log)
	heedInterrupt(t)
	require.NoError(t, p.command.Start())
	return p
}

// waitFor reads the log up to a line that has the text.
func (p *program) waitFor(t *testing.T, text string) {
	t.Helper()
	for p.log.Scan() {
		p.read = append(p.read, p.log.Text())
		if strings.Contains(p.log.Text(), text) {
			return
		}
	}
	require.Fail(t, "it has ended", "without %q in its log:\n%s", text, strings.Join(p.read, "\n"))
}

// exitCode waits for the end of the process. It is -1 for one that a signal has ended.
func (p *program) exitCode() int {
	for p.log.Scan() { // Wait is called when all is read
	}
	_ = p.command.Wait() // the code says it
	return p.command.ProcessState.ExitCode()
}

// What the README says that the defaults mean, but for the jitter.
func TestReadmeDefaults(t *testing.T) {
	// failsFor returns when a task whose runs take as long as given was given up, counted from its first failure, and when its runs began.
	failsFor := func(t *testing.T, takes time.Duration) (gaveUpAfter time.Duration, began []time.Duration) {
		m := newManager(t, taskmanager.WithBackoffJitter(0))
		start := time.Now()
		task, err := m.StartTask("consumer", func(context.Context) error {
			began = append(began, time.Since(start))
			time.Sleep(takes)
			return errors.New("connection refused")
		})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		err = task.Wait(ctx)
		gaveUpAfter = time.Since(start) - takes
		if ctx.Err() != nil {
			require.NoError(t, m.Shutdown(t.Context()))
			return 0, began
		}
		require.ErrorIs(t, err, taskmanager.ErrTooManyRestarts)
		return gaveUpAfter, began
	}
	synctest.Test(t, func(t *testing.T) {
		after, began := failsFor(t, 0)
		assert.Equal(t, 26375*time.Millisecond, after)
		delays := make([]time.Duration, 0, len(began))
		for i := 1; i < len(began); i++ {
			delays = append(delays, began[i]-began[i-1])
		}
		assert.Equal(t, []time.Duration{2 * time.Second, 3 * time.Second, 4500 * time.Millisecond, 6750 * time.Millisecond, 10125 * time.Millisecond}, delays)
	})
	synctest.Test(t, func(t *testing.T) {
		after, _ := failsFor(t, 6*time.Second)
		assert.Equal(t, 56375*time.Millisecond, after)
	})
	synctest.Test(t, func(t *testing.T) {
		after, began := failsFor(t, 7*time.Second)
		assert.Zero(t, after, "it is not given up in a day")
		assert.Greater(t, len(began), 1000)
	})
}
