package leasetest

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
)

// Waits starts a task with lease "job" of an engine, which can't be had. The task must wait, ready and without a failure, and its status
// must come to contain want, in one line. After mend, if that is not nil, it must begin. Secret must be in no status and in no log.
func Waits(t *testing.T, newEngine func(opts ...lease.Option) (Engine, error), want, secret string, mend func()) {
	t.Helper()
	var text lockedText
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	e, err := newEngine(lease.WithTTL(ReplicaTTL), lease.WithLogger(log))
	require.NoError(t, err, "New asks nobody")
	m, err := taskmanager.New(taskmanager.WithLogger(log))
	require.NoError(t, err)
	task, err := m.StartTask("job", func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}, taskmanager.WithLease(e.Lease("job")), taskmanager.WithStopTimeout(stopTimeout), taskmanager.WithCritical())
	require.NoError(t, err)
	eventually(t, "the task has no such status: "+want, func() bool {
		s := task.Stats()
		_, _ = text.Write([]byte(s.Status + "\n"))
		assert.NotContains(t, s.Status, "\n")
		return strings.Contains(s.Status, want)
	})
	assert.Equal(t, taskmanager.StateWaiting, task.State())
	assert.Zero(t, task.Stats().Failures)
	health := m.Health()
	assert.True(t, health.Ready, "a standby is ready")
	if mend != nil {
		mend()
		eventually(t, "the task does not begin: "+task.Stats().Status, func() bool { return task.State() == taskmanager.StateRunning })
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	require.NoError(t, m.Shutdown(ctx))
	require.NoError(t, e.Close(ctx))
	if secret != "" {
		assert.NotContains(t, text.String(), secret)
	}
}

// A lockedText is what is logged, and all statuses.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
