package taskmanager_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// From the first failure on it has what a subscriber gets, in all lives, of each kind, whether or not anybody else wants it.
func TestEventHistoryIsWhatSubscribersGet(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			m := newManager(t, taskmanager.WithContext(ctx))
			var events <-chan taskmanager.Event
			if !quiet {
				events = m.Subscribe(t.Context())
			}
			task := start(t, m, "a", runsOf(boom, untilStopped, boom, boom, func(ctx context.Context) error {
				<-ctx.Done()
				return errBoom
			}), taskmanager.WithMaxRestarts(1), taskmanager.WithEventHistory(1000))
			time.Sleep(5 * time.Minute)
			require.NoError(t, task.Restart(t.Context()))
			time.Sleep(time.Hour)
			require.Equal(t, taskmanager.StateFailed, task.State())
			require.NoError(t, task.Restart(t.Context()))
			synctest.Wait()
			require.NoError(t, task.Pause(t.Context()))
			require.NoError(t, task.Resume())
			synctest.Wait()
			require.NoError(t, task.Stop(t.Context()))
			require.NoError(t, task.Restart(t.Context()))
			synctest.Wait()
			cancel(errWhy)
			synctest.Wait()
			history := task.History()
			for i := range history {
				history[i].Time = history[i].Time.UTC()
			}
			kinds := make([]string, len(history))
			for i, e := range history {
				kinds[i] = e.Kind.String()
			}
			assert.Equal(t, []string{
				"failed", "started", "recovered", "stopped", "started", "failed", "started", "gave up", "started", "paused", "resumed", "started", "stopped", "started", "stopped",
			}, kinds)
			last := history[len(history)-1]
			require.ErrorIs(t, last.Cause, errWhy)
			require.ErrorIs(t, last.Err, errBoom)
			if quiet {
				return
			}
			told := received(events)[1:] // without the start before the first failure
			for i := range told {
				told[i].Time = told[i].Time.Round(0).UTC()
			}
			assert.Equal(t, lines(told...), lines(history...))
			history[0].Kind = taskmanager.EventStuck
			assert.NotEqual(t, taskmanager.EventStuck, task.History()[0].Kind, "the slice is the caller's")
		})
	}
}

func TestEventHistoryOfATaskThatHasNotFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", untilStopped)
		require.NoError(t, task.Restart(t.Context()))
		require.NoError(t, task.Stop(t.Context()))
		assert.Nil(t, task.History())
	})
}

// Whatever is the first to be reported begins it.
func TestEventHistoryBegins(t *testing.T) {
	for kind, begin := range map[taskmanager.EventKind]func(t *testing.T, m *taskmanager.Manager){
		taskmanager.EventFailed: func(t *testing.T, m *taskmanager.Manager) { start(t, m, "a", boom) },
		taskmanager.EventGaveUp: func(t *testing.T, m *taskmanager.Manager) { start(t, m, "a", boom, once()) },
		taskmanager.EventPassGaveUp: func(t *testing.T, m *taskmanager.Manager) {
			start(t, m, "a", everyTen(boom), taskmanager.WithMaxRestarts(0))
		},
		taskmanager.EventStuck: func(t *testing.T, m *taskmanager.Manager) {
			task := start(t, m, "a", func(context.Context) error { time.Sleep(time.Minute); return nil })
			synctest.Wait()
			asStuck(t, task.Stop(t.Context()), "a", userCodeTimeout)
			<-task.Done()
		},
	} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				begin(t, m)
				synctest.Wait()
				task, ok := m.Lookup("a")
				require.True(t, ok)
				history := task.History()
				require.NotEmpty(t, history)
				assert.Equal(t, kind, history[0].Kind)
			})
		})
	}
}

// It begins, too, with what somebody has asked for who is named, though nobody else wants to hear of it; and not with what a task has,
// for one may stop 100,000 others, nor with what nobody knows who has.
func TestEventHistoryBeginsWithWhoIsNamed(t *testing.T) {
	done := func(context.Context) error { return nil }
	for name, test := range map[string]struct {
		body taskmanager.TaskFunc
		opts []taskmanager.TaskOption
		ask  func(ctx context.Context, task *taskmanager.Task) error
		want []string
	}{
		"stop":           {untilStopped, nil, func(ctx context.Context, task *taskmanager.Task) error { return task.Stop(ctx) }, []string{"stopped by alice"}},
		"pause":          {untilStopped, nil, func(ctx context.Context, task *taskmanager.Task) error { return task.Pause(ctx) }, []string{"paused by alice"}},
		"restart":        {untilStopped, nil, func(ctx context.Context, task *taskmanager.Task) error { return task.Restart(ctx) }, []string{"stopped by alice", "started"}},
		"restart, ended": {done, nil, func(ctx context.Context, task *taskmanager.Task) error { return task.Restart(ctx) }, []string{"started by alice", "completed"}},
		"trigger":        {everyTen(done), nil, func(ctx context.Context, task *taskmanager.Task) error { return task.TriggerContext(ctx) }, []string{"triggered by alice"}},
		"resume": {untilStopped, nil, func(ctx context.Context, task *taskmanager.Task) error {
			if err := task.Pause(context.Background()); err != nil {
				return err
			}
			return task.ResumeContext(ctx)
		}, []string{"resumed by alice", "started"}},
		"but none is kept": {
			untilStopped,
			[]taskmanager.TaskOption{taskmanager.WithEventHistory(0)},
			func(ctx context.Context, task *taskmanager.Task) error { return task.Restart(ctx) }, nil,
		},
	} {
		for _, who := range []string{"alice", "a task", "nobody"} {
			t.Run(name+"/"+who, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t)
					b := newBoss(t)
					defer b.leave()
					task := start(t, m, "a", test.body, test.opts...)
					synctest.Wait()
					var err error
					switch who {
					case "alice":
						err = test.ask(taskmanager.AskedBy(t.Context(), who), task)
					case "a task":
						err = b.asks(func(ctx context.Context) error { return test.ask(ctx, task) })
					default:
						err = test.ask(t.Context(), task)
					}
					require.NoError(t, err)
					synctest.Wait()
					var got []string
					for _, e := range task.History() {
						text := e.Kind.String()
						if e.By != "" {
							text += " by " + e.By
						}
						got = append(got, text)
					}
					if who == "alice" {
						assert.Equal(t, test.want, got)
					} else {
						assert.Nil(t, got)
					}
				})
			})
		}
	}
}

// From then on it has who has asked for each thing, be it a task.
func TestEventHistoryHasWhoHasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(time.Hour, time.Hour))
		b := newBoss(t)
		defer b.leave()
		task := start(t, m, "a", runsOf(boom, untilStopped, untilStopped))
		synctest.Wait()
		require.NoError(t, b.asks(task.Restart))
		synctest.Wait()
		require.NoError(t, task.Restart(taskmanager.AskedBy(t.Context(), "alice")))
		synctest.Wait()
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, []string{"started by boss", "stopped by alice"}, askedBy(task.History()))
		assert.Len(t, task.History(), 5)
	})
}

// The latest are kept, as many as were asked for.
func TestEventHistoryKeepsTheLatest(t *testing.T) {
	for n, want := range map[int]int{0: 0, 1: 1, 3: 3, 16: 16, 1000: 199} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", boom, append(everyTime(time.Second, 100), taskmanager.WithBackoffJitter(0), taskmanager.WithEventHistory(n))...)
			time.Sleep(time.Hour)
			history := task.History()
			require.Len(t, history, want)
			if n < 2 {
				return
			}
			for i, e := range history[:want-1] {
				run := 100 - (want-1-i)/2
				assert.Equal(t, fmt.Sprint(run, []string{" started", " failed"}[(want-i)%2]), fmt.Sprint(e.Run, " ", e.Kind))
			}
			assert.Equal(t, taskmanager.EventGaveUp, history[want-1].Kind)
		})
	}
}

func TestEventHistoryRefuses(t *testing.T) {
	m := newManager(t)
	for _, n := range []int{-1, 1001} {
		_, err := m.StartTask("a", untilStopped, taskmanager.WithEventHistory(n))
		var refused *taskmanager.OptionError
		require.ErrorAs(t, err, &refused)
		assert.EqualError(t, err, fmt.Sprintf("taskmanager: WithEventHistory(%d): must be between 0 and 1000", n))
	}
}

// Of a replaced body it is that of the one before, too; and as long as the new options say.
func TestEventHistoryOfAReplacedTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", boom)
		synctest.Wait()
		_, err := m.ReplaceTask(t.Context(), "a", untilStopped, taskmanager.WithEventHistory(2))
		require.NoError(t, err)
		synctest.Wait()
		assert.Equal(t, []taskmanager.EventKind{taskmanager.EventFailed, taskmanager.EventStarted}, kinds(task.History(), "a"))
		require.NoError(t, task.Restart(t.Context()))
		synctest.Wait()
		assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStopped, taskmanager.EventStarted}, kinds(task.History(), "a"))
		_, err = m.ReplaceTask(t.Context(), "a", untilStopped, taskmanager.WithEventHistory(0))
		require.NoError(t, err)
		synctest.Wait()
		assert.Nil(t, task.History())
		_, err = m.ReplaceTask(t.Context(), "a", boom, taskmanager.WithEventHistory(3))
		require.NoError(t, err)
		synctest.Wait()
		assert.Equal(t, []taskmanager.EventKind{taskmanager.EventFailed}, kinds(task.History(), "a"), "nothing of before, for some of that is not known")
	})
}

// What a program triggers again and again does not drive out what has happened before.
func TestEventHistoryIsNotFilledByTriggers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		passes := 0
		task := start(t, m, "a", taskmanager.Every(time.Hour, func(context.Context) error {
			if passes++; passes == 1 {
				return errBoom
			}
			return nil
		}))
		time.Sleep(time.Minute)
		for range 100 {
			require.NoError(t, task.Trigger())
			synctest.Wait()
		}
		require.NoError(t, task.TriggerContext(taskmanager.AskedBy(t.Context(), "alice")))
		synctest.Wait()
		var kinds []string
		for _, e := range task.History() {
			kinds = append(kinds, e.Kind.String())
		}
		assert.Equal(t, []string{"failed", "started", "recovered", "triggered"}, kinds)
	})
}
