package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A boss is a task whose body makes the calls that it is handed.
type boss struct {
	calls   chan func(ctx context.Context) error
	results chan error
}

// newBoss returns one that is of another Manager than those tasks whose stop it may ask for.
func newBoss(t *testing.T) *boss {
	t.Helper()
	b := &boss{make(chan func(context.Context) error), make(chan error)}
	start(t, newManager(t), "boss", func(ctx context.Context) error {
		for f := range b.calls {
			b.results <- f(ctx)
		}
		return nil
	})
	return b
}

// asks has the boss make a call, with its own context.
func (b *boss) asks(f func(ctx context.Context) error) error {
	b.calls <- f
	return <-b.results
}

func (b *boss) leave() { close(b.calls) }

// askedBy returns of those events that are about task "a" the ones that somebody has asked for: "stopped by alice".
func askedBy(events []taskmanager.Event) (got []string) {
	for _, e := range events {
		if e.Task == "a" && e.By != "" {
			got = append(got, fmt.Sprintf("%v by %s", e.Kind, e.By))
		}
	}
	return got
}

// agree asserts that the lines about task "a" say the same of who has asked as its events, all of which are logged.
func agree(t *testing.T, events []taskmanager.Event, lines *linesHandler) {
	t.Helper()
	var want, got []string
	for _, e := range events {
		if e.Task == "a" {
			want = append(want, fmt.Sprintf("%d %s", e.Run, e.By))
		}
	}
	for _, r := range lines.taken() {
		about := map[string]string{}
		r.Attrs(func(a slog.Attr) bool {
			about[a.Key] = a.Value.String()
			return true
		})
		if about["task"] == "a" && about["run"] != "" && !strings.HasSuffix(r.Message, "by hand") { // otherwise it is about no event
			got = append(got, about["run"]+" "+about["by"])
		}
	}
	assert.Equal(t, want, got)
}

// waitsForDB has a task wait until the task "db" is ready.
var waitsForDB = dependsOn("db")

// Whoever asks by hand is in the event of what has been done, and in its line: what AskedBy says, or else the task whose body has called;
// by each of the calls, and whatever the task is at.
func TestAskedByIsInTheEvents(t *testing.T) {
	type (
		manager = taskmanager.Manager
		task    = taskmanager.Task
		call    = func(ctx context.Context, m *manager, a *task) error
	)
	var (
		restart = func(ctx context.Context, _ *manager, a *task) error { return a.Restart(ctx) }
		pause   = func(ctx context.Context, _ *manager, a *task) error { return a.Pause(ctx) }
		replace = func(ctx context.Context, m *manager, _ *task) error {
			_, err := m.ReplaceTask(ctx, "a", untilStopped)
			return err
		}
		restartFailed = func(ctx context.Context, m *manager, _ *task) error {
			_, err := m.RestartFailed(ctx)
			return err
		}
		trigger  = func(ctx context.Context, _ *manager, a *task) error { return a.TriggerContext(ctx) }
		shutDown = func(ctx context.Context, m *manager, _ *task) error { return m.Shutdown(ctx) }
		paused   = func(ctx context.Context, _ *manager, a *task) { _ = a.Pause(ctx) }
		stopped  = func(ctx context.Context, _ *manager, a *task) { _ = a.Stop(ctx) }
	)
	reconcile := func(specs ...taskmanager.Spec) call {
		return func(ctx context.Context, m *manager, _ *task) error {
			_, err := m.Reconcile(ctx, "a", slices.Values(specs))
			return err
		}
	}
	version2 := taskmanager.Spec{Name: "a", Body: untilStopped, Version: "2"}
	late := func(ask call) call {
		return func(ctx context.Context, m *manager, a *task) error {
			if !errors.As(ask(ctx, m, a), new(*taskmanager.StopTimeoutError)) {
				return errors.New("it was not stuck")
			}
			time.Sleep(time.Hour)
			return nil
		}
	}
	for name, test := range map[string]struct {
		body   taskmanager.TaskFunc
		opts   []taskmanager.TaskOption
		before func(ctx context.Context, m *manager, a *task)
		ask    call
		after  func(m *manager, a *task)
		want   []string // the kinds of the events that bear who has asked
	}{
		"StopTask":  {ask: func(ctx context.Context, m *manager, _ *task) error { return m.StopTask(ctx, "a") }, want: []string{"stopped"}},
		"StopTasks": {ask: func(ctx context.Context, m *manager, _ *task) error { return m.StopTasks(ctx, "a") }, want: []string{"stopped"}},
		"StopAll":   {ask: func(ctx context.Context, m *manager, _ *task) error { return m.StopAll(ctx) }, want: []string{"stopped"}},
		"Task.Stop": {ask: func(ctx context.Context, _ *manager, a *task) error { return a.Stop(ctx) }, want: []string{"stopped"}},
		"Stop in backoff": {
			body: boom, ask: func(ctx context.Context, _ *manager, a *task) error { return a.Stop(ctx) }, want: []string{"stopped"},
		},
		"Stop of one that is paused": {
			before: paused, ask: func(ctx context.Context, _ *manager, a *task) error { return a.Stop(ctx) }, want: []string{"stopped"},
		},
		"Stop in order": {
			opts: []taskmanager.TaskOption{taskmanager.WithDependsOn("none")},
			ask: func(ctx context.Context, m *manager, _ *task) error {
				if _, err := m.StartTask("after", untilStopped, dependsOn("a")); err != nil {
					return err
				}
				return m.StopTasks(ctx, "a", "after")
			},
			want: []string{"stopped"},
		},
		"Stop of one that is stuck": {
			body: slowToStop(time.Minute), want: []string{"stuck"},
			ask: late(func(ctx context.Context, _ *manager, a *task) error { return a.Stop(ctx) }),
		},
		"RestartTask":     {ask: func(ctx context.Context, m *manager, _ *task) error { return m.RestartTask(ctx, "a") }, want: []string{"stopped"}},
		"Task.Restart":    {ask: restart, want: []string{"stopped"}},
		"Restart, paused": {before: paused, ask: restart, want: []string{"resumed", "started"}},
		"Restart in backoff": {
			body: boom, ask: restart, want: []string{"started"},
		},
		"Restart in backoff, and the next run waits": {
			body: boom, opts: []taskmanager.TaskOption{taskmanager.WithDependsOn("none")},
			before: func(_ context.Context, m *manager, _ *task) { _ = m.StopTask(context.Background(), "none") },
			ask:    restart,
			after:  func(m *manager, _ *task) { _ = m.RestartTask(context.Background(), "none") },
			want:   []string{"started"},
		},
		"Restart of one that waits": {
			opts: []taskmanager.TaskOption{waitsForDB}, ask: restart,
			after: func(m *manager, _ *task) { _, _ = m.StartTask("db", untilStopped) }, want: []string{"started"},
		},
		"Restart of one that has completed": {
			body: func(context.Context) error { return nil }, ask: restart, want: []string{"started"},
		},
		"Restart of one that was given up": {body: boom, opts: []taskmanager.TaskOption{once()}, ask: restart, want: []string{"started"}},
		"Restart of one that was stopped":  {before: stopped, ask: restart, want: []string{"started"}},
		"Restart of one that cools down": {
			body: boom, opts: []taskmanager.TaskOption{once(), taskmanager.WithCooldown(time.Hour)}, ask: restart, want: []string{"resumed", "started"},
		},
		"Restart of one that is stuck": {body: slowToStop(time.Minute), ask: late(restart), want: []string{"stuck"}},
		"RestartFailed":                {body: boom, opts: []taskmanager.TaskOption{once()}, ask: restartFailed, want: []string{"started"}},
		"RestartFailed of one that cools down": {
			body: boom, opts: []taskmanager.TaskOption{once(), taskmanager.WithCooldown(time.Hour)}, ask: restartFailed, want: []string{"resumed"},
		},
		"PauseTask":                  {ask: func(ctx context.Context, m *manager, _ *task) error { return m.PauseTask(ctx, "a") }, want: []string{"paused"}},
		"Task.Pause":                 {ask: pause, want: []string{"paused"}},
		"Pause in backoff":           {body: boom, ask: pause, want: []string{"paused"}},
		"Pause of one that is stuck": {body: slowToStop(time.Minute), ask: late(pause), want: []string{"stuck"}},
		"ResumeContext": {
			before: paused, ask: func(ctx context.Context, _ *manager, a *task) error { return a.ResumeContext(ctx) }, want: []string{"resumed"},
		},
		"ReplaceTask":                     {ask: replace, want: []string{"stopped"}},
		"Replace in backoff":              {body: boom, ask: replace, want: []string{"started"}},
		"Replace of one that was stopped": {before: stopped, ask: replace, want: []string{"started"}},
		"Replace of one that is paused": {
			before: paused, ask: replace, after: func(_ *manager, a *task) { _ = a.Resume() },
		},
		"Reconcile, another version":  {ask: reconcile(version2), want: []string{"stopped"}},
		"Reconcile, not wanted":       {ask: reconcile(), want: []string{"stopped"}},
		"Reconcile, has been stopped": {before: stopped, ask: reconcile(version2), want: []string{"started"}},
		"Shutdown":                    {ask: shutDown, want: []string{"stopped"}},
		"TriggerContext":              {body: everyTen(untilStopped), ask: trigger, want: []string{"triggered"}},
		"TriggerContext in backoff":   {body: everyTen(boom), ask: trigger, want: []string{"triggered"}},
	} {
		for who, by := range map[string]string{"nobody": "", "a task": "boss", "somebody": "alice", "somebody by a task": "alice"} {
			t.Run(name+"/"+who, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lines := newLines(slog.LevelDebug)
					m := newManager(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithBackoff(2*time.Hour, 2*time.Hour),
						taskmanager.WithStopTimeout(time.Second))
					events := m.Subscribe(t.Context())
					b := newBoss(t)
					defer b.leave()
					start(t, m, "none", untilStopped)
					body := test.body
					if body == nil {
						body = untilStopped
					}
					a := start(t, m, "a", body, test.opts...)
					synctest.Wait()
					if test.before != nil {
						test.before(t.Context(), m, a)
						synctest.Wait()
					}
					ask := func(ctx context.Context) error {
						if by == "alice" {
							ctx = taskmanager.AskedBy(ctx, by)
						}
						return test.ask(ctx, m, a)
					}
					var err error
					if strings.HasSuffix(who, "task") {
						err = b.asks(ask)
					} else {
						err = ask(t.Context())
					}
					require.NoError(t, err)
					synctest.Wait()
					if test.after != nil {
						test.after(m, a)
					}
					heard := pending(events)
					var want []string
					if by != "" && (name != "Shutdown" || by == "alice") {
						for _, kind := range test.want {
							want = append(want, kind+" by "+by)
						}
					}
					assert.Equal(t, want, askedBy(heard))
					agree(t, heard, lines)
				})
			})
		}
	}
}

// Of several who ask for the same it is the first, and of those who ask for different things whoever has asked for what was done. What
// has been overtaken by something else is not in the event of the next run.
func TestAskedByOfSeveral(t *testing.T) {
	by := func(who string) context.Context { return taskmanager.AskedBy(context.Background(), who) }
	for name, test := range map[string]struct {
		body taskmanager.TaskFunc
		ask  func(m *taskmanager.Manager, a *taskmanager.Task)
		want []string
	}{
		"stop twice": {
			slowToStop(time.Second / 2),
			func(_ *taskmanager.Manager, a *taskmanager.Task) {
				go func() { _ = a.Stop(by("alice")) }()
				synctest.Wait()
				_ = a.Stop(by("bob"))
			},
			[]string{"stopped by alice"},
		},
		"stop twice, of which the first says not who": {
			slowToStop(time.Second / 2),
			func(_ *taskmanager.Manager, a *taskmanager.Task) {
				go func() { _ = a.Stop(context.Background()) }()
				synctest.Wait()
				_ = a.Stop(by("bob"))
			},
			nil,
		},
		"stuck": {
			slowToStop(time.Minute),
			func(_ *taskmanager.Manager, a *taskmanager.Task) {
				go func() { _ = a.Stop(by("alice")) }()
				time.Sleep(time.Millisecond)
				_ = a.Stop(by("bob"))
			},
			[]string{"stuck by alice"}, // and when it stops at last, that is long ago
		},
		"restart, then stop": {
			slowToStop(time.Second / 2),
			func(_ *taskmanager.Manager, a *taskmanager.Task) {
				go func() { _ = a.Restart(by("alice")) }()
				synctest.Wait()
				_ = a.Stop(by("bob"))
			},
			[]string{"stopped by bob"},
		},
		"restart twice": {
			slowToStop(time.Second / 2),
			func(_ *taskmanager.Manager, a *taskmanager.Task) {
				go func() { _ = a.Restart(by("alice")) }()
				synctest.Wait()
				_ = a.Restart(by("bob"))
			},
			[]string{"stopped by alice"},
		},
		"restart twice of one that waits": {
			nil,
			func(m *taskmanager.Manager, a *taskmanager.Task) {
				_, _ = a.Restart(by("alice")), a.Restart(by("bob"))
				_, _ = m.StartTask("db", untilStopped)
			},
			[]string{"started by alice"},
		},
		"restart, then replace one that waits": {
			nil,
			func(m *taskmanager.Manager, a *taskmanager.Task) {
				_ = a.Restart(by("alice"))
				_, _ = m.ReplaceTask(by("bob"), "a", untilStopped, waitsForDB)
				_, _ = m.StartTask("db", untilStopped)
			},
			[]string{"started by bob"},
		},
		"restart, pause and resume one that waits": {
			nil,
			func(m *taskmanager.Manager, a *taskmanager.Task) {
				_, _, _ = a.Restart(by("alice")), a.Pause(by("bob")), a.ResumeContext(by("carol"))
				_, _ = m.StartTask("db", untilStopped)
			},
			[]string{"paused by bob", "resumed by carol"},
		},
		"restart, stop and restart one that waits": {
			nil,
			func(m *taskmanager.Manager, a *taskmanager.Task) {
				_, _, _ = a.Restart(by("alice")), a.Stop(by("bob")), a.Restart(context.Background())
				_, _ = m.StartTask("db", untilStopped)
			},
			[]string{"stopped by bob"},
		},
		"restart of one that waits, whose run fails": {
			nil,
			func(m *taskmanager.Manager, a *taskmanager.Task) {
				_, _ = m.ReplaceTask(context.Background(), "a", runsOf(boom, untilStopped), waitsForDB)
				_ = a.Restart(by("alice"))
				_, _ = m.StartTask("db", untilStopped)
				time.Sleep(time.Minute)
			},
			[]string{"started by alice"}, // and nobody has asked for the run after that
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelDebug)
				m := newManager(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithStopTimeout(time.Second))
				events := m.Subscribe(t.Context())
				var a *taskmanager.Task
				if test.body == nil {
					a = start(t, m, "a", untilStopped, waitsForDB)
				} else {
					a = start(t, m, "a", test.body)
				}
				synctest.Wait()
				test.ask(m, a)
				time.Sleep(time.Hour)
				heard := pending(events)
				assert.Equal(t, test.want, askedBy(heard))
				agree(t, heard, lines)
			})
		})
	}
}

// Who asks says nothing of who waits: a body that stops its own task is not waited for.
func TestAskedByWaitsForNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", func(ctx context.Context) error {
			self, _ := taskmanager.FromContext(ctx)
			return self.Stop(taskmanager.AskedBy(ctx, "alice"))
		})
		began := time.Now()
		<-task.Done()
		took(t, 0, began)
		assert.Equal(t, []string{"stopped by alice"}, askedBy(pending(events)))
	})
}

// What a body asks for is by its task, whoever the context was of that its Manager was made with.
func TestAskedByOfTheParentContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent := taskmanager.AskedBy(t.Context(), "alice")
		m := newManager(t, taskmanager.WithContext(parent))
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", untilStopped)
		synctest.Wait()
		start(t, m, "watched", func(ctx context.Context) error {
			return task.Restart(context.WithValue(ctx, parentKey{}, 1))
		}, taskmanager.WithWatchdog(time.Minute))
		synctest.Wait()
		start(t, m, "group", taskmanager.Group(func(g *taskmanager.Manager) error {
			start(t, g, "within", func(ctx context.Context) error { return task.Stop(ctx) })
			return nil
		}))
		assert.Equal(t, []string{"stopped by watched", "stopped by group/within"}, askedBy(pending(events)))
	})
}

// An empty text, and no context, change nothing. A nil one is refused, a done one is not.
func TestAskedByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := taskmanager.AskedBy(t.Context(), "alice")
		assert.Equal(t, ctx, taskmanager.AskedBy(ctx, ""))
		assert.Nil(t, taskmanager.AskedBy(noContext, "alice"))
		m := newManager(t)
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", untilStopped)
		require.NoError(t, task.Pause(t.Context()))
		var refused *taskmanager.OptionError
		require.ErrorAs(t, task.ResumeContext(noContext), &refused)
		assert.Equal(t, "ctx", refused.Option)
		assert.Equal(t, taskmanager.StatePaused, task.State())
		done, cancel := context.WithCancel(ctx)
		cancel()
		require.NoError(t, task.ResumeContext(done))
		assert.ErrorIs(t, task.ResumeContext(done), taskmanager.ErrTaskNotPaused)
		assert.Equal(t, []string{"resumed by alice"}, askedBy(pending(events)))
	})
}
