package taskmanager

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A stop that is over has no timer, and nothing in its Manager: also if the timer has fired just before its end.
func TestStopProgressLeavesNothing_Promise2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, task := parked(t, time.Minute)
		s := newStopOp(m, stopAllRequest, time.Hour)
		s.tasks = []*Task{task}
		s.start(time.Now())
		p := m.beginProgress(stopAllRequest, time.Now(), []*stopOp{s}, nil)
		timer := p.timer
		assert.Equal(t, []*stopProgress{p}, m.stopsOfAll)
		p.end()
		assert.False(t, timer.Stop(), "it was running")
		assert.Empty(t, m.stopsOfAll)
		p.report()
		assert.False(t, timer.Stop())
		assert.Zero(t, m.bus.pending.N(), "lines")
		require.NoError(t, task.Wait(context.Background()))
	})
}
