//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/lease/pglease/pgtest"
)

// requireDemo requires what a demonstration says to be what the documentation promises.
func requireDemo(t *testing.T, said string) {
	t.Helper()
	for _, line := range []string{
		`digest runs on replica \d with token 1`,
		`# Replica \d runs digest\. It is killed by kill -9`,
		`replica \d was killed`,
		`digest runs on replica \d with token 2, [3-9][.\d]*s after replica \d was killed`,
		`replica \d was frozen`,
		`digest runs on replica \d with token 3, [3-9][.\d]*s after replica \d was frozen`,
		`replica \d goes on`,
		`digest of replica \d: the write was refused: it has token 2, and one with token 3 was seen`,
		`digest has returned on replica \d: lease lost`,
		`tenant-\d\d runs on replica \d with token \d, [3-9][.\d]*s after replica \d was frozen`,
		`tenant-\d\d runs on replica \d with token \d, [.\d]+(ms|µs) after it had returned on replica \d`,
		`digest on replica \d waits for lease "digest", held by "replica \d" since \d\d:\d\d`,
		`digest runs on replica \d with token 4, [.\d]+(ms|µs) after it had returned on replica \d`,
		`replica \d has stopped`,
	} {
		assert.Regexp(t, `(?m)^\d\d:\d\d:\d\d\.\d\d\d `+line, said)
	}
	assert.NotContains(t, said, "\x1b", "no escape codes")
}

func TestDemo(t *testing.T) {
	t.Parallel()
	out := newPrinted()
	begun := time.Now()
	require.NoError(t, run(t.Context(), settings{demo: true}, nil, out), out)
	assert.Less(t, time.Since(begun), 40*time.Second)
	requireDemo(t, out.String())
	assert.Contains(t, out.String(), "Leases are kept in NATS, in this process. TTL 5s, stop timeout 1s.")
}

// Somebody who ends it in the middle has what they want.
func TestDemoIsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	out := newPrinted()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, settings{demo: true}, nil, out) }()
	out.shows(t, "was killed")
	cancel()
	require.NoError(t, <-ended)
	assert.NotContains(t, out.String(), "frozen")
}

func TestDemoOnPostgreSQL(t *testing.T) {
	server := pgtest.Start(t)
	direct, _ := server.Database(t)
	out := newPrinted()
	require.NoError(t, run(t.Context(), settings{demo: true, postgres: direct}, nil, out), out)
	requireDemo(t, out.String())
	assert.Contains(t, out.String(), "Leases are kept in PostgreSQL.")
	assert.NotContains(t, out.String(), direct)
}

func TestEngineThatIsNotThere(t *testing.T) {
	out := newPrinted()
	err := run(t.Context(), settings{postgres: "postgres://me:not-a-real-password@127.0.0.1:1/db"}, nil, out)
	require.ErrorContains(t, err, "connection refused")
	assert.NotContains(t, err.Error()+out.String(), "not-a-real-password")

	t.Setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	if _, err := os.Stat("/var/run/secrets/kubernetes.io/serviceaccount"); os.IsNotExist(err) {
		require.ErrorContains(t, run(t.Context(), settings{}, nil, out), "namespace of the pod")
	}
}

// Somebody enters commands, right ones and wrong ones.
func TestCommands(t *testing.T) {
	t.Parallel()
	in, enter := io.Pipe()
	t.Cleanup(func() { _ = enter.Close() }) // ends the goroutine that reads
	out := newPrinted()
	ended := make(chan error, 1)
	go func() { ended <- run(t.Context(), settings{}, in, out) }()
	command := func(line string) {
		_, err := io.WriteString(enter, line+"\n")
		require.NoError(t, err)
	}
	line := out.shows(t, "digest runs on replica ", "with token 1")
	holder := regexp.MustCompile(`replica (\d)`).FindStringSubmatch(line)[1]
	command("dance")
	out.shows(t, `there is no command "dance"`)
	command("")
	command("resume " + holder)
	out.shows(t, "replica "+holder+" is running: it can't resume")
	command("freeze " + holder)
	out.shows(t, "replica "+holder+" was frozen")
	command("freeze " + holder)
	out.shows(t, "replica "+holder+" is frozen: it can't freeze")
	command("stop " + holder)
	out.shows(t, "replica "+holder+" is frozen: it can't stop")
	command("resume " + holder)
	out.shows(t, "replica "+holder+" goes on")
	command("stop " + holder)
	out.shows(t, "replica "+holder+" has stopped")
	out.shows(t, "digest runs on replica", "with token 2", "after it had returned on replica "+holder)
	command("kill " + holder)
	out.shows(t, "replica "+holder+" is dead: it can't kill")
	command("start " + holder)
	out.shows(t, "digest on replica "+holder+" waits")
	command("kill " + holder)
	out.shows(t, "replica "+holder+" was killed")
	assert.NotContains(t, out.String(), "refused", "a replica that was frozen for less than a TTL has lost nothing")
	command("quit")
	require.NoError(t, <-ended)
}

// What does not end when it is asked to is killed: here two replicas that somebody else has frozen.
func TestQuitKillsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	in, enter := io.Pipe()
	t.Cleanup(func() { _ = enter.Close() })
	out := newPrinted()
	ended := make(chan error, 1)
	go func() { ended <- run(t.Context(), settings{}, in, out) }()
	for n := 1; n <= 2; n++ {
		_, process, _ := strings.Cut(out.shows(t, fmt.Sprintf("replica %d has started, process ", n)), "process ")
		pid, err := strconv.Atoi(strings.TrimSpace(process))
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	_, err := io.WriteString(enter, "quit\n")
	require.NoError(t, err)
	require.NoError(t, <-ended)
	out.shows(t, "replica 1 was killed")
	out.shows(t, "replica 2 was killed")
	out.shows(t, "replica 3 has stopped")
}

// A program is this program, as a process of its own.
type program struct {
	cmd       *exec.Cmd
	in        io.Writer
	out       *printed
	allEnded  <-chan struct{} // closed once it and its three replicas have ended
	temporary string          // its directory for temporary files
}

func start(t *testing.T, apart *syscall.SysProcAttr) *program {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	begun, allEnded := make(chan struct{}), make(chan struct{})
	go func() {
		var conns []net.Conn
		for range 1 + replicas {
			conn, failed := listener.Accept()
			if failed != nil {
				return
			}
			conns = append(conns, conn)
		}
		close(begun)
		for _, conn := range conns {
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
		close(allEnded)
	}()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &program{out: newPrinted(), allEnded: allEnded, temporary: t.TempDir()}
	p.cmd = exec.CommandContext(context.Background(), self)
	p.cmd.Env = append(os.Environ(), mainVariable+"=1", aliveVariable+"="+listener.Addr().String(),
		"TMPDIR="+p.temporary, "DATABASE_URL=", "KUBERNETES_SERVICE_HOST=")
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = apart
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	select {
	case <-begun:
	case <-time.After(patience):
		require.Fail(t, "not all processes begin", p.out.String())
	}
	return p
}

func (p *program) requireAllEnded(t *testing.T) {
	t.Helper()
	select {
	case <-p.allEnded:
	case <-time.After(patience):
		require.Fail(t, "a process is left", p.out.String())
	}
}

// When the program is killed, its replicas end, and one that is frozen does, too.
func TestReplicasEndWithTheProgram(t *testing.T) {
	t.Parallel()
	killProgramWithFrozenReplica(t, start(t, &syscall.SysProcAttr{Setsid: true}))
}

func killProgramWithFrozenReplica(t *testing.T, p *program) {
	t.Helper()
	_, err := io.WriteString(p.in, "freeze 2\n")
	require.NoError(t, err)
	p.out.shows(t, "replica 2 was frozen")
	require.NoError(t, p.cmd.Process.Kill())
	require.ErrorContains(t, p.cmd.Wait(), "killed")
	p.requireAllEnded(t)
}

// Ctrl-C ends everything, what is frozen included, and leaves no process and no file.
func TestSignalEndsAll(t *testing.T) {
	t.Parallel()
	p := start(t, &syscall.SysProcAttr{Setsid: true})
	left, err := os.ReadDir(p.temporary)
	require.NoError(t, err)
	require.Len(t, left, 1, "the files of NATS")
	_, err = io.WriteString(p.in, "freeze 2\n")
	require.NoError(t, err)
	p.out.shows(t, "replica 2 was frozen")
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, p.cmd.Wait(), p.out)
	p.requireAllEnded(t)
	for n := 1; n <= replicas; n++ {
		p.out.shows(t, fmt.Sprintf("replica %d has stopped", n))
	}
	left, err = os.ReadDir(p.temporary)
	require.NoError(t, err)
	assert.Empty(t, left)
}
