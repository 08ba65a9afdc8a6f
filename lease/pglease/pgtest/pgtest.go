// Package pgtest starts a real PostgreSQL for tests, and a PgBouncer in transaction mode before it.
package pgtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// patience is how long a server may take to start or stop.
const patience = 30 * time.Second

// A Server is a PostgreSQL with a PgBouncer, which run until the end of a test.
type Server struct {
	t        testing.TB
	binaries string // the directory of those of PostgreSQL
	dir      string
	as       *syscall.Credential // nil: who runs the test
	port     int
	bouncer  int // the port of PgBouncer
	process  *process
	pooler   *process

	databases atomic.Int32
}

// Start starts both, and returns when they serve. The test is skipped if this machine has no PostgreSQL or no PgBouncer, and fails if the
// environment variable TASKMANAGER_SERVERS is "required" then. Both end when the test has ended. Start one for all tests of a binary, as
// subtests of one test, and give each a [Server.Database] of its own.
func Start(t testing.TB) *Server {
	t.Helper()
	binaries, err := find()
	if err == nil {
		_, err = exec.LookPath("pgbouncer")
	}
	if err != nil {
		const how = "no PostgreSQL or no PgBouncer: apt-get install postgresql pgbouncer"
		if os.Getenv("TASKMANAGER_SERVERS") == "required" {
			require.Fail(t, how, err.Error())
		}
		t.Skip(how)
	}
	dir, err := os.MkdirTemp("", "pgtest") //nolint:usetesting // The name of t.TempDir is too long for the path of a socket.
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{t: t, binaries: binaries, dir: dir, as: credential(t)}
	if s.as != nil {
		require.NoError(t, os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)))
	}
	out, err := s.command(filepath.Join(s.binaries, "initdb"), "-D", s.data(), "-A", "trust", "-U", "tm", "-E", "UTF8", "--no-locale",
		"--no-sync").CombinedOutput()
	require.NoError(t, err, "initdb: %s", out)
	t.Cleanup(s.Stop)
	// A port that is free may be taken when the server gets to it.
	for range 3 {
		s.port, s.bouncer = freePort(t), freePort(t)
		if s.start() && s.startBouncer() {
			return s
		}
		s.Stop()
	}
	require.Fail(t, "PostgreSQL or PgBouncer does not start", s.log())
	return nil
}

// URL returns the address of the server, with a role that may do everything. The database is postgres.
func (s *Server) URL() string { return s.url(s.port, "postgres") }

// PoolerURL returns the same address by way of PgBouncer, which has its connections in transaction mode.
func (s *Server) PoolerURL() string { return s.url(s.bouncer, "postgres") }

func (s *Server) url(port int, database string) string {
	return fmt.Sprintf("postgres://tm@127.0.0.1:%d/%s?sslmode=disable", port, database)
}

// Database makes a new database, and returns its address, direct and by way of PgBouncer.
func (s *Server) Database(t testing.TB) (direct, pooler string) {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	s.Exec(t, s.URL(), "CREATE DATABASE "+name)
	return s.url(s.port, name), s.url(s.bouncer, name)
}

// Exec executes a statement on a connection of its own.
func (s *Server) Exec(t testing.TB, url, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, sql, args...)
	require.NoError(t, err)
}

// Crash kills PostgreSQL: it has to recover when it starts again. PgBouncer runs on. It takes Linux.
func (s *Server) Crash() {
	s.t.Helper()
	// Asked to end at once, by SIGQUIT, it would wait up to 5 s for those of its processes that are slow to do so.
	pid := s.process.command.Process.Pid
	require.NoError(s.t, syscall.Kill(pid, syscall.SIGSTOP))
	s.awaitState(pid, "T") // it makes no other process from now on
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	require.NoError(s.t, err)
	for field := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(field)
		require.NoError(s.t, err)
		_ = syscall.Kill(child, syscall.SIGKILL) // unless it has ended
		s.awaitState(child, "Z")                 // PostgreSQL does not start while it has the shared memory
	}
	s.process.end(s.t, syscall.SIGKILL)
}

// awaitState blocks until the process is in a state, as /proc has it, or is gone.
func (s *Server) awaitState(pid int, state string) {
	s.t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, _ := strings.Cut(string(text), ") ") // behind the name of the program
		if err != nil || strings.HasPrefix(rest, state) {
			return
		}
		require.True(s.t, time.Now().Before(until), "process %d is not in state %s: %s", pid, state, text)
	}
}

// Restart starts PostgreSQL again, after [Server.Crash], and returns when it serves.
func (s *Server) Restart() {
	s.t.Helper()
	require.True(s.t, s.start(), "PostgreSQL does not start again: %s", s.log())
}

// RestartAsStandby is Restart, but that the server takes no writes until [Server.Promote], as one that follows another.
func (s *Server) RestartAsStandby() {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(filepath.Join(s.data(), "standby.signal"), nil, 0o644)) //nolint:gosec // It is read by another user.
	s.Restart()
}

// Promote has a standby take writes.
func (s *Server) Promote() {
	s.t.Helper()
	s.Exec(s.t, s.URL(), "SELECT pg_promote()")
}

// Stop ends both servers. The end of the test does that too.
func (s *Server) Stop() {
	s.pooler.end(s.t, syscall.SIGQUIT)
	s.process.end(s.t, syscall.SIGQUIT)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) start() bool {
	s.process = s.run("postgres.log", filepath.Join(s.binaries, "postgres"), "-D", s.data(), "-k", s.dir, "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=300")
	return s.serves(s.process, s.URL())
}

func (s *Server) startBouncer() bool {
	ini := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d user=tm
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
server_login_retry = 0
`, s.port, s.bouncer)
	path := filepath.Join(s.dir, "pgbouncer.ini")
	require.NoError(s.t, os.WriteFile(path, []byte(ini), 0o644)) //nolint:gosec // It is read by another user.
	s.pooler = s.run("pgbouncer.log", "pgbouncer", path)
	return s.serves(s.pooler, s.PoolerURL())
}

// serves blocks until the server at url answers, and reports whether it does.
func (s *Server) serves(p *process, url string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ctx.Err() == nil {
		if conn, err := pgx.Connect(ctx, url); err == nil {
			_ = conn.Close(ctx)
			return true
		}
		select {
		case <-p.exited:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return false
}

// log returns what the servers have written.
func (s *Server) log() string {
	var all strings.Builder
	for _, name := range []string{"postgres.log", "pgbouncer.log"} {
		text, _ := os.ReadFile(filepath.Join(s.dir, name))
		all.Write(text)
	}
	return all.String()
}

// A process is a server that was started.
type process struct {
	command *exec.Cmd
	exited  chan struct{} // closed when it has ended
}

func (s *Server) run(log, path string, args ...string) *process {
	s.t.Helper()
	out, err := os.OpenFile(filepath.Join(s.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(s.t, err)
	defer func() { _ = out.Close() }()
	p := &process{command: s.command(path, args...), exited: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = out, out
	require.NoError(s.t, p.command.Start())
	go func() {
		_ = p.command.Wait()
		close(p.exited)
	}()
	return p
}

func (s *Server) command(path string, args ...string) *exec.Cmd {
	c := exec.CommandContext(context.Background(), path, args...)
	c.Dir = s.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return c
}

// end ends the process, if it has begun and not ended.
func (p *process) end(t testing.TB, signal syscall.Signal) {
	if p == nil {
		return
	}
	_ = p.command.Process.Signal(signal)
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.command.Process.Kill()
		<-p.exited
		t.Errorf("%s did not end on %v", p.command.Path, signal)
	}
}

// find returns the directory of PostgreSQL's binaries, which Debian has not in the PATH.
func find() (string, error) {
	var dirs []string
	if out, err := exec.CommandContext(context.Background(), "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Reverse(installed) // the newest first
	dirs = append(dirs, installed...)
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, dir := range dirs {
		_, err := exec.LookPath(filepath.Join(dir, "initdb"))
		_, err2 := exec.LookPath(filepath.Join(dir, "postgres"))
		if err == nil && err2 == nil {
			return dir, nil
		}
	}
	return "", exec.ErrNotFound
}

// credential returns another user for the servers, which refuse root; nil if this is not root.
func credential(t testing.TB) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		require.NoError(t, err)
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		require.NoError(t, err)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	require.Fail(t, "PostgreSQL refuses root, and there is neither a user postgres nor nobody")
	return nil
}

// freePort returns a port below those that outgoing connections take.
func freePort(t testing.TB) int {
	for range 100 {
		port := 20000 + rand.IntN(12000)
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			require.NoError(t, l.Close())
			return port
		}
	}
	require.Fail(t, "no port is free")
	return 0
}
