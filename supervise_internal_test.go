package taskmanager

import (
	"context"
	"errors"
	"testing"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What was started with the context of a run ends before anybody can hear that the run is over.
func TestSuperviseEndsTheContextBeforeItIsDecided(t *testing.T) {
	m := quiet()
	of := make(chan context.Context, 1)
	release := make(chan struct{})
	task, err := m.StartTask("a", func(ctx context.Context) error {
		ctx.Done() // package context is to end it from now on
		of <- ctx
		<-release
		return nil
	})
	require.NoError(t, err)
	ctx := <-of
	m.mu.Lock() // which is needed to end the life of a task
	close(release)
	waitsForLock(t, ").decide(")
	assert.Equal(t, context.Canceled, ctx.Err())
	assert.Equal(t, StateRunning, task.State())
	m.mu.Unlock()
	<-task.Done()
}

// A driver that is replaced before it asks user code leaves that to the one that has replaced it.
func TestSuperviseReplacedAsksNobody(t *testing.T) {
	task := undriven(t, quiet(WithBackOffPolicy(func() backoff.BackOff { return backoff.NewConstantBackOff(1) })), judging)
	left := errors.New("left")
	task.record.judged.err, task.record.unsure = left, &runEnd{err: left}
	want := *task.record
	d := driver{task: task, id: firstDriver - 1}
	for name, ask := range map[string]func(){
		"judge":            d.judge,
		"askPolicy":        func() { _, _ = d.askPolicy(task.record) },
		"checkLeftRunning": d.checkLeftRunning,
		"awaitTurn":        func() { assert.False(t, d.awaitTurn()) },
	} {
		ask()
		require.True(t, task.mu.TryLock(), name)
		assert.Equal(t, want, *task.record, name)
		assert.Equal(t, judging, task.machine.phase, name)
		task.mu.Unlock()
	}
}
