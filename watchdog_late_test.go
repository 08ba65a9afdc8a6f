//go:build unix

package taskmanager_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A slow start is the readiness timeout's to watch: the watchdog begins when the body is ready.
func TestWatchdogBeginsAtReadiness(t *testing.T) {
	for title, test := range map[string]struct {
		body func(ctx context.Context)
		at   time.Duration // when the run is canceled; 0 for never
	}{
		"a slow start": {func(ctx context.Context) {
			time.Sleep(10 * time.Second)
			taskmanager.Ready(ctx)
			for ctx.Err() == nil {
				taskmanager.Heartbeat(ctx)
				time.Sleep(time.Second / 2)
			}
		}, 0},
		"silence after it": {func(ctx context.Context) {
			time.Sleep(10 * time.Second)
			taskmanager.Ready(ctx)
			<-ctx.Done()
		}, 11 * time.Second},
		"a heartbeat before it": {func(ctx context.Context) {
			time.Sleep(5 * time.Second)
			taskmanager.Heartbeat(ctx)
			time.Sleep(5 * time.Second)
			taskmanager.Ready(ctx)
			<-ctx.Done()
		}, 11 * time.Second},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				began := time.Now()
				task := start(t, m, "a", func(ctx context.Context) error { test.body(ctx); return ctx.Err() },
					taskmanager.WithReadiness(time.Minute), taskmanager.WithWatchdog(time.Second), once())
				if test.at == 0 {
					time.Sleep(time.Hour)
					require.Equal(t, taskmanager.StateRunning, settled(task))
					require.NoError(t, task.Stop(t.Context()))
					return
				}
				require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrWatchdog)
				took(t, test.at, began)
			})
		})
	}
}

// A process that was frozen for longer than the watchdog's time has done no wrong when it goes on: its bodies have had no more
// chance to say something than the watchdog to listen. Only a process of one's own can be frozen, and a bubble has no late
// timers.
func TestWatchdogOfAFrozenProcess(t *testing.T) {
	const (
		inner  = "TASKMANAGER_TEST_FROZEN"
		period = time.Second
		tasks  = 50
	)
	if os.Getenv(inner) != "" {
		m := newManager(t, taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		for i := range tasks {
			start(t, m, fmt.Sprint("t", i), func(ctx context.Context) error {
				for ctx.Err() == nil {
					taskmanager.Heartbeat(ctx)
					time.Sleep(period / 10)
				}
				return nil
			}, taskmanager.WithWatchdog(period))
		}
		fmt.Println("up")
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is closed
		fmt.Println("failures:", m.Stats().Failures)
		return
	}
	if testing.Short() {
		t.Skip("takes seconds")
	}
	executable, err := os.Executable()
	require.NoError(t, err)
	child := exec.CommandContext(t.Context(), executable, "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), inner+"=1")
	stdin, err := child.StdinPipe()
	require.NoError(t, err)
	stdout, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	said := bufio.NewScanner(stdout)
	for said.Scan() && said.Text() != "up" {
	}
	for range 3 {
		require.NoError(t, child.Process.Signal(syscall.SIGSTOP))
		time.Sleep(2 * period) // frozen
		require.NoError(t, child.Process.Signal(syscall.SIGCONT))
		time.Sleep(period / 4) // in which every timer that is due fires
	}
	require.NoError(t, stdin.Close())
	var rest []string
	for said.Scan() {
		rest = append(rest, said.Text())
	}
	require.NoError(t, child.Wait())
	assert.Contains(t, strings.Join(rest, "\n"), "failures: 0")
}
