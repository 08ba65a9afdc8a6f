package taskmanager_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A Shutdown without time abandons the Reporter that hangs, and no other: one that is idle hears of later events,
// and what the abandoned one misses is counted for it.
func TestShutdownAbandonsOnlyReportersThatAreLate(t *testing.T) {
	for name, order := range map[string]func(hung, idle taskmanager.Reporter) taskmanager.Reporter{
		"hung first": func(hung, idle taskmanager.Reporter) taskmanager.Reporter {
			return taskmanager.MultiReporter(hung, idle)
		},
		"idle first": func(hung, idle taskmanager.Reporter) taskmanager.Reporter {
			return taskmanager.MultiReporter(idle, hung)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				var heard []taskmanager.EventKind
				hung := taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error {
					<-release
					return nil
				})
				idle := taskmanager.ReporterFunc(func(_ context.Context, e taskmanager.Event) error {
					heard = append(heard, e.Kind)
					return nil
				})
				m := observed(t, taskmanager.WithReporter(order(hung, idle)))
				start(t, m, "bad", boom, once())
				deaf := start(t, m, "deaf", ignoring(release))
				synctest.Wait()

				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				require.ErrorIs(t, m.Shutdown(ctx), context.Canceled)
				assert.EqualValues(t, 1, m.Stats().ReportsLost, "what the hung one had in hand")

				time.Sleep(6 * time.Second) // deaf is stuck after 5
				synctest.Wait()
				assert.Equal(t, []taskmanager.EventKind{taskmanager.EventGaveUp, taskmanager.EventStuck}, heard)
				s := m.Stats()
				assert.EqualValues(t, 2, s.ReportsDelivered)
				assert.EqualValues(t, 2, s.ReportsLost)
				assert.Zero(t, s.ReportsWaiting)
				close(release)
				<-deaf.Done()
			})
		})
	}
}

// The second Shutdown has nothing left to deliver.
func TestShutdownTwiceDeliversOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reports := newInbox(nil)
		m := observed(t, taskmanager.WithReporter(reports), taskmanager.WithReportLimit(1, 1))
		start(t, m, "a", boom, once())
		start(t, m, "b", boom, once())
		synctest.Wait()
		require.NoError(t, m.Shutdown(t.Context()))
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Len(t, reports.got(), 2)
		assert.Equal(t, reportCount{delivered: 2}, reportsOf(m))
	})
}

// What a reporter has started with its context ends when Report has returned.
func TestTheContextOfAReportEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var of context.Context
		m := observed(t, taskmanager.WithReporter(taskmanager.ReporterFunc(func(ctx context.Context, _ taskmanager.Event) error {
			of = ctx
			return nil
		})))
		start(t, m, "a", boom, once())
		synctest.Wait()
		assert.ErrorIs(t, of.Err(), context.Canceled)
	})
}
