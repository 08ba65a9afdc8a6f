package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestEventKind(t *testing.T) {
	names, levels := []string{}, []string{}
	for k := taskmanager.EventStarted; k <= taskmanager.EventTriggered; k++ {
		names = append(names, k.String())
		levels = append(levels, k.Level().String())
	}
	assert.Equal(t, []string{"started", "ready", "failed", "gave up", "completed", "stopped", "stuck", "paused", "resumed", "pass gave up", "recovered", "triggered"}, names)
	assert.Equal(t, []string{"DEBUG", "DEBUG", "WARN", "ERROR", "INFO", "INFO", "ERROR", "INFO", "INFO", "ERROR", "INFO", "DEBUG"}, levels)
	for _, k := range []taskmanager.EventKind{-1, taskmanager.EventTriggered + 1} {
		assert.Equal(t, "unknown", k.String())
		assert.Equal(t, "INFO", k.Level().String())
	}
}

// A stop says why, to subscribers and in the log, beside what the body itself has returned.
func TestEventCauseOfAStop(t *testing.T) {
	errParent := errors.New("the parent has ended")
	for name, test := range map[string]struct {
		stop  func(m *taskmanager.Manager, cancel context.CancelCauseFunc) error
		cause error
		text  string
	}{
		"StopTask": {
			func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
				return m.StopTask(context.Background(), "a")
			},
			taskmanager.ErrStopped, "taskmanager: task was stopped by hand caller=TestEventCauseOfAStop.func1(event_test.go)",
		},
		"Shutdown": {
			func(m *taskmanager.Manager, _ context.CancelCauseFunc) error { return m.Shutdown(context.Background()) },
			taskmanager.ErrShutdown, "taskmanager: manager is shutting down",
		},
		"RestartTask": {
			func(m *taskmanager.Manager, _ context.CancelCauseFunc) error {
				return m.RestartTask(context.Background(), "a")
			},
			taskmanager.ErrRestarted, "taskmanager: task was restarted by hand",
		},
		"the parent context": {
			func(_ *taskmanager.Manager, cancel context.CancelCauseFunc) error { cancel(errParent); return nil },
			errParent, "parent context: the parent has ended",
		},
		"the parent context, without a cause": {
			func(_ *taskmanager.Manager, cancel context.CancelCauseFunc) error { cancel(nil); return nil },
			context.Canceled, "parent context: context canceled",
		},
		"an awkward cause": {
			func(_ *taskmanager.Manager, cancel context.CancelCauseFunc) error { cancel(mute{}); return nil },
			mute{},
			"parent context: taskmanager_test.mute, whose Error method panicked",
		},
	} {
		for what, own := range map[string]error{"nothing": nil, "an error": errBoom, "two": errors.Join(errBoom, errDeaf)} {
			t.Run(name+"/"+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					lines := newLines(slog.LevelInfo)
					m := observed(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithContext(parent))
					events := m.Subscribe(t.Context())
					start(t, m, "a", func(ctx context.Context) error { <-ctx.Done(); return own })
					time.Sleep(time.Second)
					require.NoError(t, test.stop(m, cancel))
					stopped := ofKind(taskmanager.EventStopped, pending(events))
					require.Len(t, stopped, 1)
					assert.Equal(t, test.cause, stopped[0].Cause)
					if own != nil {
						require.ErrorIs(t, stopped[0].Err, errBoom)
					}
					level, text := slog.LevelInfo, ""
					if own != nil {
						level, text = slog.LevelWarn, " error="+own.Error()
					}
					assert.Equal(t, []string{
						fmt.Sprintf("%v task stopped | task=a run=1 cause=%s%s uptime=1s", level, test.text, text),
					}, lines.about("task stopped"))
					require.NoError(t, m.StopAll(t.Context()))
				})
			})
		}
	}
}

// How long a run lasted is in the lines of its end, however short it was, and in no others.
func TestEventUptimeInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelDebug)
		m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
		start(t, m, "a", readyAfter(time.Second), taskmanager.WithReadiness(time.Minute))
		time.Sleep(2 * time.Second)
		require.NoError(t, m.StopTask(t.Context(), "a"))
		synctest.Wait() // the order of the lines of different tasks is not defined
		start(t, m, "b", untilStopped)
		time.Sleep(time.Nanosecond)
		require.NoError(t, m.StopTask(t.Context(), "b"))
		synctest.Wait()
		start(t, m, "c", untilStopped, dependsOn("nobody"))
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "c"))
		synctest.Wait()
		assert.Equal(t, []string{
			"DEBUG task started | task=a run=1",
			"DEBUG task ready | task=a run=1",
			"INFO task stopped | task=a run=1 cause=taskmanager: task was stopped by hand caller=TestEventUptimeInTheLog.func1(event_test.go) uptime=2s",
			"DEBUG task started | task=b run=1",
			"INFO task stopped | task=b run=1 cause=taskmanager: task was stopped by hand caller=TestEventUptimeInTheLog.func1(event_test.go) uptime=1ns",
			"INFO task stopped | task=c run=0 cause=taskmanager: task was stopped by hand caller=TestEventUptimeInTheLog.func1(event_test.go)",
		}, lines.got())
	})
}

// An error that says that it wraps several, and has none.
type emptyJoinError struct{}

func (emptyJoinError) Error() string   { return "nothing within" }
func (emptyJoinError) Unwrap() []error { return nil }

// A parent may end for ErrRestarted, too: then the error of the event is the body's, whatever that wraps.
func TestEventOfARestartOfTheParent(t *testing.T) {
	for name, err := range map[string]error{"none": emptyJoinError{}, "two": errors.Join(errBoom, errDeaf)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancelCause(t.Context())
				lines := newLines(slog.LevelInfo)
				m := newManager(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithContext(parent))
				start(t, m, "a", func(ctx context.Context) error { <-ctx.Done(); return err })
				time.Sleep(time.Second)
				cancel(taskmanager.ErrRestarted)
				synctest.Wait()
				assert.Equal(t, []string{fmt.Sprintf("WARN task stopped | task=a run=1 cause=parent context: %v error=%v uptime=1s",
					taskmanager.ErrRestarted, err)}, lines.about("task stopped"))
			})
		})
	}
}

// One that was stopped before its first run has a cause, too; what was not stopped has none.
func TestEventCauseWithoutARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		events := m.Subscribe(t.Context())
		start(t, m, "a", untilStopped, taskmanager.WithDependsOn("b"))
		start(t, m, "c", boom, once())
		start(t, m, "d", func(context.Context) error { return nil })
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "a"))
		for _, e := range pending(events) {
			if e.Kind == taskmanager.EventStopped {
				assert.Equal(t, taskmanager.ErrStopped, e.Cause)
			} else {
				assert.NoError(t, e.Cause)
			}
		}
	})
}
