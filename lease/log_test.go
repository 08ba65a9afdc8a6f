package lease_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/leasetest"
)

// A page is a log that several goroutines may write.
type page struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *page) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(line)
}

// lines returns those written since it was called last, without their times.
func (p *page) lines() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(p.text.String()), "\n")
	p.text.Reset()
	for i, line := range lines {
		_, lines[i], _ = strings.Cut(line, " ")
	}
	return lines
}

// An engine that can't be reached is no failure of any task: the log says so once, and once it is reached again.
func TestLogOfAnEngineThatIsNotReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := leasetest.NewServer()
		var log page
		a := newReplica(t, server, "a", lease.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		a.store.Cut()
		waiter := a.acquire("x")
		time.Sleep(ttl + beat - time.Millisecond)
		assert.Equal(t, []string{""}, log.lines())
		time.Sleep(beat)
		assert.Equal(t, []string{`level=WARN msg="engine of leases has not been reached" replica=a for=15s error="context deadline exceeded"`}, log.lines())
		time.Sleep(24 * time.Hour)
		assert.Equal(t, []string{""}, log.lines())
		a.store.Restore()
		hold := waiter.get()
		assert.Equal(t, []string{`level=INFO msg="engine of leases is reached again" replica=a`}, log.lines())

		a.store.Cut()
		time.Sleep(time.Minute)
		hold.Release()
		lines := log.lines()
		require.Len(t, lines, 2)
		assert.Contains(t, lines[0], "session of leases was lost")
		a.store.Restore()
		a.close()
	})
}

// The goroutines of an engine are of no task, whichever has wanted a lease first.
func TestEngineIsNoneOfATask(t *testing.T) {
	server := leasetest.NewServer()
	a := newReplica(t, server, "a")
	m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	begun := make(chan struct{})
	task, err := m.StartTask("x", func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return nil
	}, taskmanager.WithLease(a.Lease("x")))
	require.NoError(t, err)
	<-begun
	stack := string(task.Stack())
	assert.Contains(t, stack, "TestEngineIsNoneOfATask")
	assert.NotContains(t, stack, "lease.(*session)")
	require.NoError(t, m.Shutdown(context.Background()))
	a.close()
}
