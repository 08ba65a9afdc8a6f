package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// A roster knows which members of groups are alive. It fails the test if one is there twice.
type roster struct {
	t       *testing.T
	mu      sync.Mutex
	alive   map[string]bool
	entered map[string]int
	causes  map[string]error // of the end of the latest run
}

// member returns one whose body is the given one, and needs a while to return.
func (r *roster) member(name string, takes time.Duration, body taskmanager.TaskFunc) member {
	return member{name: name, body: func(ctx context.Context) error {
		r.mu.Lock()
		assert.False(r.t, r.alive[name], "two of %s", name)
		r.alive[name] = true
		r.entered[name]++
		r.mu.Unlock()
		defer func() {
			time.Sleep(takes)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.alive[name] = false
			r.causes[name] = context.Cause(ctx)
		}()
		return body(ctx)
	}}
}

// runs returns how often each was entered.
func (r *roster) runs() map[string]int {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.entered)
}

// empty reports whether none is alive.
func (r *roster) empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, alive := range r.alive {
		if alive {
			return false
		}
	}
	return true
}

// cause returns the cause of the end of the member's latest run.
func (r *roster) cause(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.causes[name]
}

func newRoster(t *testing.T) *roster {
	t.Helper()
	return &roster{t: t, alive: make(map[string]bool), entered: make(map[string]int), causes: make(map[string]error)}
}

// A member is a task of a group.
type member struct {
	name string
	body taskmanager.TaskFunc
}

// oneForAll is a group that fails when one of its members does.
func oneForAll(members ...member) taskmanager.TaskFunc {
	return taskmanager.Group(func(m *taskmanager.Manager) error {
		for _, member := range members {
			if _, err := m.StartTask(member.name, member.body); err != nil {
				return err
			}
		}
		return nil
	}, taskmanager.WithCritical(), once())
}

// restForOne is a group in which a member that fails takes along those after it, and none of those before: its first member
// and a group of the rest, which is restarted by itself.
func restForOne(members ...member) taskmanager.TaskFunc {
	if len(members) == 1 {
		return members[0].body
	}
	return taskmanager.Group(func(m *taskmanager.Manager) error {
		if _, err := m.StartTask(members[0].name, members[0].body, once()); err != nil {
			return err
		}
		_, err := m.StartTask("rest", restForOne(members[1:]...))
		return err
	}, taskmanager.WithCritical(), taskmanager.WithBackoff(0, 0))
}

func TestGroupOneForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoffJitter(0))
		r := newRoster(t)
		began := time.Now()
		group := start(t, m, "group", oneForAll(
			r.member("a", 0, failAt(10*time.Second)), // then it goes on
			r.member("b", 3*time.Second, untilStopped),
			r.member("c", time.Second, untilStopped)))
		assert.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1}, r.runs())
		time.Sleep(13 * time.Second)
		synctest.Wait()
		s := group.Stats()
		assert.Equal(t, taskmanager.StateBackoff, s.State)
		assert.Equal(t, 13*time.Second, s.LastErrorAt.Sub(began), "when the slowest has ended")
		require.ErrorIs(t, s.LastError, errBoom)
		var gaveUp *taskmanager.GiveUpError
		require.ErrorAs(t, s.LastError, &gaveUp)
		assert.Equal(t, "a", gaveUp.Task, "who it was")
		assert.Equal(t, taskmanager.ErrShutdown, r.cause("b"))
		assert.True(t, r.empty())

		time.Sleep(2 * time.Second)
		assert.Equal(t, map[string]int{"a": 2, "b": 2, "c": 2}, r.runs())
		assert.EqualValues(t, 1, group.Stats().Restarts)

		// A stop goes down with its cause, and waits for the slowest.
		stopped := time.Now()
		require.NoError(t, group.Stop(t.Context()))
		took(t, 3*time.Second, stopped)
		assert.Equal(t, taskmanager.ErrStopped, r.cause("b"))
		assert.True(t, r.empty())
	})
}

func TestGroupRestForOne(t *testing.T) {
	for failing, want := range map[string]map[string]int{
		"a": {"a": 2, "b": 2, "c": 2, "d": 2},
		"b": {"a": 1, "b": 2, "c": 2, "d": 2},
		"c": {"a": 1, "b": 1, "c": 2, "d": 2},
		"d": {"a": 1, "b": 1, "c": 1, "d": 2},
	} {
		t.Run(failing, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				r := newRoster(t)
				var members []member
				for _, name := range []string{"a", "b", "c", "d"} {
					body := taskmanager.TaskFunc(untilStopped)
					if name == failing {
						body = failAt(10 * time.Second)
					}
					members = append(members, r.member(name, time.Second, body))
				}
				group := start(t, m, "group", restForOne(members...))
				time.Sleep(9 * time.Second)
				assert.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1, "d": 1}, r.runs())
				time.Sleep(time.Minute)
				assert.Equal(t, want, r.runs())
				assert.EqualValues(t, want["a"]-1, group.Stats().Failures)
				stopped := time.Now()
				require.NoError(t, group.Stop(t.Context()))
				took(t, time.Second, stopped)
				assert.True(t, r.empty())
			})
		})
	}
}

// An error that no restart cures, in a member, is one for the group.
func TestGroupWithAPermanentError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		r := newRoster(t)
		group := start(t, m, "group", oneForAll(
			r.member("a", 0, untilStopped),
			r.member("b", 0, func(context.Context) error {
				time.Sleep(time.Second) // by then the other one has been entered
				return backoff.Permanent(errBoom)
			})))
		require.ErrorIs(t, group.Wait(t.Context()), errBoom)
		assert.Equal(t, map[string]int{"a": 1, "b": 1}, r.runs())
		assert.True(t, r.empty())
	})
}

// What start has begun has ended before the run has, however start ends.
func TestGroupThatDoesNotStart(t *testing.T) {
	for name, end := range map[string]func() error{
		"error": func() error { return errWhy },
		"panic": func() error { panic(errWhy) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				r := newRoster(t)
				slow := r.member("a", time.Second, untilStopped)
				began := time.Now()
				group := start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
					start(t, m, slow.name, slow.body)
					time.Sleep(time.Second)
					return end()
				}), once())
				require.ErrorIs(t, group.Wait(t.Context()), errWhy)
				took(t, 2*time.Second, began)
				assert.Equal(t, map[string]int{"a": 1}, r.runs())
				assert.True(t, r.empty())
			})
		})
	}
}

// A stop that comes while start is at work waits for it, and for what it has begun.
func TestGroupIsStoppedWhileItStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		r := newRoster(t)
		slow := r.member("a", time.Second, untilStopped)
		group := start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
			start(t, m, slow.name, slow.body)
			time.Sleep(2 * time.Second)
			_, err := m.StartTask("late", untilStopped)
			return err
		}))
		time.Sleep(1500 * time.Millisecond)
		began := time.Now()
		require.NoError(t, group.Stop(t.Context()))
		took(t, time.Second, began) // the member has stopped half a second later than the start was over
		assert.True(t, r.empty())
		assert.Equal(t, taskmanager.StateStopped, group.State())
	})
}

func TestGroupRefusesBadArguments(t *testing.T) {
	ok := func(*taskmanager.Manager) error { return nil }
	for name, test := range map[string]struct {
		body taskmanager.TaskFunc
		want string
	}{
		"nil start":   {taskmanager.Group(nil), "taskmanager: start <nil>: must not be nil"},
		"bad option":  {taskmanager.Group(ok, taskmanager.WithHistory(-1)), "taskmanager: WithHistory(-1): must be 0 or more"},
		"own context": {taskmanager.Group(ok, taskmanager.WithContext(t.Context())), "taskmanager: WithContext(ctx): is not for Group, whose parent context is that of its run"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				task := start(t, m, "group", test.body)
				err := task.Wait(t.Context())
				var refused *taskmanager.OptionError
				require.ErrorAs(t, err, &refused)
				assert.EqualError(t, refused, test.want)
				assert.EqualValues(t, 1, task.Stats().Runs, "no restart cures that")
			})
		})
	}
}

// Without a Manager around it, a group is a body like any other.
func TestGroupWithoutAManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoster(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		silent := taskmanager.WithLogger(slog.New(slog.DiscardHandler))
		a := r.member("a", time.Second, untilStopped)
		began := time.Now()
		require.NoError(t, taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask(a.name, a.body)
			return err
		}, silent)(ctx))
		took(t, time.Minute+time.Second, began)
		assert.Equal(t, context.DeadlineExceeded, r.cause("a"))
	})
}

// However a group ends, all of it has ended before any of it begins again: whether it fails, is restarted by hand, or both,
// at any moment.
func TestGroupHasNoTwoGenerations_Promise1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(time.Millisecond, 20*time.Millisecond), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		r := newRoster(t)
		group := start(t, m, "group", oneForAll(
			r.member("a", 7*time.Millisecond, failAfter(50*time.Millisecond)),
			r.member("b", 11*time.Millisecond, untilStopped),
			member{name: "c", body: restForOne(
				r.member("d", 13*time.Millisecond, failAfter(70*time.Millisecond)),
				r.member("e", 5*time.Millisecond, failAfter(20*time.Millisecond)))}))
		for i := range 500 {
			time.Sleep(time.Duration(i*7919%101) * time.Millisecond)
			require.NoError(t, group.Restart(t.Context()))
		}
		require.NoError(t, group.Stop(t.Context()))
		assert.True(t, r.empty())
		runs := r.runs()
		assert.Greater(t, runs["b"], 100)
		assert.Greater(t, runs["e"], runs["d"])
		assert.Greater(t, group.Stats().Failures, uint64(10))
	})
}

// On real threads a restart may come at any step of the group's start.
func TestGroupThatIsStartingHasNoTwoGenerations_Promise1(t *testing.T) {
	m := newManager(t, taskmanager.WithBackoff(0, 0), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
	r := newRoster(t)
	group := start(t, m, "group", oneForAll(
		r.member("a", 0, untilStopped), r.member("b", 0, untilStopped), r.member("c", 0, untilStopped)))
	for range 300 {
		require.NoError(t, group.Restart(t.Context()))
	}
	require.NoError(t, group.Stop(t.Context()))
	assert.True(t, r.empty())
}

// While a member is stuck there is no second generation: the group has failed, and says because of whom.
func TestGroupFailsWithAStuckTask_Promise1(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(0, 0))
		deaf, r := newDeafBody(), newRoster(t)
		began := time.Now()
		group := start(t, m, "group", oneForAll(
			r.member("a", 0, failAfter(time.Second)),
			r.member("b", 0, deaf.run),
			r.member("c", time.Second, untilStopped)))
		err := group.Wait(t.Context())
		require.ErrorIs(t, err, errBoom)
		stuck := asStuck(t, err, "b", 5*time.Second)
		took(t, 6*time.Second, began)
		assert.Contains(t, string(stuck.Stack), "deafBody")
		assert.Equal(t, taskmanager.StateFailed, group.State())
		assert.Equal(t, taskmanager.StateStuck, group.Stats().Group.Tasks["b"].State)
		time.Sleep(time.Hour)
		assert.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1}, r.runs())
		deaf.release()
	})
}

// Nor is there one when a group with a stuck member is stopped or restarted by hand: it is stuck itself, and its name taken.
func TestGroupIsStuckWithItsTask_Promise1(t *testing.T) {
	for name, end := range map[string]func(context.Context, *taskmanager.Task) error{
		"Stop":    func(ctx context.Context, group *taskmanager.Task) error { return group.Stop(ctx) },
		"Restart": func(ctx context.Context, group *taskmanager.Task) error { return group.Restart(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelError)
				m := newManager(t, taskmanager.WithLogger(slog.New(lines)))
				deaf, r := newDeafBody(), newRoster(t)
				group := start(t, m, "group", restForOne(
					r.member("a", 0, untilStopped), r.member("b", 0, untilStopped), r.member("c", 0, deaf.run)))
				synctest.Wait()
				began := time.Now()
				asStuck(t, end(t.Context(), group), "group", 5*time.Second)
				took(t, 5*time.Second, began)
				assert.Equal(t, taskmanager.StateStuck, group.State())
				_, err := m.StartTask("group", untilStopped)
				require.ErrorIs(t, err, taskmanager.ErrTaskRunning)
				assert.Equal(t, map[string]int{"a": 1, "b": 1, "c": 1}, r.runs())
				synctest.Wait() // the log is the last to hear
				assert.Len(t, lines.about("task=group/rest/rest "), 1, "the log says which body it is")
				deaf.release()
				<-group.Done()
				assert.Equal(t, taskmanager.StateStopped, group.State())
				assert.True(t, r.empty())
			})
		})
	}
}

// What the members do can be seen from outside by their paths: in the log, by subscribers and reporters, in statistics and in
// what Health says.
func TestGroupIsSeenFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelWarn)
		reports := newInbox(nil)
		m := newManager(t, taskmanager.WithName("bot"), taskmanager.WithLogger(slog.New(lines)), taskmanager.WithReporter(reports), noReportLimit())
		events := m.Subscribe(t.Context())
		group := start(t, m, "group", oneForAll(
			member{name: "a", body: func(ctx context.Context) error {
				taskmanager.SetStatus(ctx, "connected")
				return untilStopped(ctx)
			}},
			member{name: "b", body: oneForAll(member{name: "c", body: failAt(10 * time.Second)})}))
		synctest.Wait()
		var began []string
		for _, e := range pending(events) {
			began = append(began, e.Manager+": "+e.Task)
		}
		assert.ElementsMatch(t, []string{"bot: group", "bot: group/a", "bot: group/b", "bot: group/b/c"}, began)
		time.Sleep(5 * time.Second)
		inner := m.Stats().Tasks["group"].Group
		require.NotNil(t, inner)
		assert.Equal(t, "connected", inner.Tasks["a"].Status)
		assert.Equal(t, 5*time.Second, inner.Tasks["b"].Group.Tasks["c"].Uptime)
		assert.Nil(t, inner.Tasks["a"].Group)
		assert.Equal(t, taskmanager.Health{Ready: true}, m.Health())

		time.Sleep(6 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{
			"10s group/b/c gave up run=1 repeats=0", "10s group/b gave up run=1 repeats=0", "10s group failed run=1 repeats=0",
		}, reports.got())
		assert.Equal(t, []string{
			"ERROR critical task is gone, group ends | manager=bot task=group/b/c reason=given up error=boom",
			"ERROR task failed for good, gave up | manager=bot task=group/b/c run=1 reason=never error=boom uptime=10s",
		}, lines.about("manager=bot task=group/b/c "))
		assert.Equal(t, []taskmanager.EventKind{taskmanager.EventGaveUp}, kinds(pending(events), "group/b/c"))
		assert.Equal(t, taskmanager.StateBackoff, group.State())
		inner = group.Stats().Group
		assert.Equal(t, taskmanager.StateFailed, inner.Tasks["b"].State, "of the latest run, until the next")
		assert.Equal(t, []taskmanager.HealthProblem{
			{Task: "group/b", Critical: true, State: taskmanager.StateFailed, Reason: taskmanager.HealthGivenUp},
			{Task: "group", State: taskmanager.StateBackoff, Reason: taskmanager.HealthTaskFailing, Detail: "1 failure, at 2000-01-01T00:00:10Z"},
		}, m.Health().Problems)
		assert.Equal(t, taskmanager.HealthDegraded, m.Health().State, "the group will be restarted")

		time.Sleep(5 * time.Second)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, group.Stats().Group.Tasks["b"].State)
		require.NoError(t, group.Stop(t.Context()))
	})
}

// A group may have a log, a name and a reporter of its own. Those around it hear of its tasks all the same, except the log.
func TestGroupWithOptionsOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer, inner := newLines(slog.LevelWarn), newLines(slog.LevelWarn)
		outside, inside := newInbox(nil), newInbox(nil)
		m := newManager(t, taskmanager.WithLogger(slog.New(outer)), taskmanager.WithReporter(outside))
		start(t, m, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
			start(t, m, "a", boom, once())
			return nil
		}, taskmanager.WithLogger(slog.New(inner)), taskmanager.WithName("inside"), taskmanager.WithReporter(inside)))
		synctest.Wait()
		assert.Equal(t, outside.got(), inside.got())
		assert.Len(t, inside.got(), 1)
		assert.Equal(t, "inside", outside.events()[0].Manager)
		assert.Len(t, inner.about("task=group/a "), 1)
		assert.Empty(t, outer.got())
	})
}

func TestManagerName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithName("bot"))
		var named, unnamed *taskmanager.Manager
		start(t, m, "named", taskmanager.Group(func(m *taskmanager.Manager) error { named = m; return nil }, taskmanager.WithName("inside")))
		start(t, m, "unnamed", taskmanager.Group(func(m *taskmanager.Manager) error { unnamed = m; return nil }))
		synctest.Wait()
		assert.Equal(t, []string{"bot", "inside", "bot"}, []string{m.Name(), named.Name(), unnamed.Name()})
		assert.Empty(t, newManager(t).Name())
		assert.Empty(t, (*taskmanager.Manager)(nil).Name())
		assert.Empty(t, new(taskmanager.Manager).Name())
	})
}

// A reporter that hangs does not hold up the restart of a group.
func TestGroupWithAHangingReporter_Promise4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		m := mustNew(t, taskmanager.WithBackoff(0, 0), taskmanager.WithReporter(taskmanager.ReporterFunc(
			func(context.Context, taskmanager.Event) error {
				<-hang
				return nil
			})))
		r := newRoster(t)
		group := start(t, m, "group", oneForAll(r.member("a", 0, failAt(time.Second)), r.member("b", 0, untilStopped)))
		time.Sleep(time.Second)
		assert.Equal(t, map[string]int{"a": 2, "b": 2}, r.runs())
		require.NoError(t, group.Stop(t.Context()))
		close(hang)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A group is a task whose body is a nested Manager's Run: one of its tasks is critical, so all fail with it.
type group struct {
	alive, most, generations atomic.Int64
	vital                    func(generation int64) taskmanager.TaskFunc
	sibling                  taskmanager.TaskFunc
}

func (g *group) run(ctx context.Context) error {
	generation := g.generations.Add(1)
	m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)), noRestart)
	if err != nil {
		return err
	}
	counted := func(body taskmanager.TaskFunc) taskmanager.TaskFunc {
		return func(ctx context.Context) error {
			g.most.Store(max(g.most.Load(), g.alive.Add(1)))
			defer g.alive.Add(-1)
			return body(ctx)
		}
	}
	if _, err := m.StartTask("sibling", counted(g.sibling)); err != nil {
		return err
	}
	if _, err := m.StartTask("vital", counted(g.vital(generation)), critical); err != nil {
		return err
	}
	return m.Run(ctx)
}

func TestGroupRestartsAsAWhole_Promise1(t *testing.T) {
	const s = time.Second
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(0, 0))
		g := &group{sibling: slowToStop(2 * s), vital: func(generation int64) taskmanager.TaskFunc {
			if generation <= 3 {
				return failAfter(s)
			}
			return untilStopped
		}}
		began := time.Now()
		task := start(t, m, "group", g.run)
		time.Sleep(time.Minute)
		require.Equal(t, taskmanager.StateRunning, settled(task))
		stats := task.Stats()
		assert.EqualValues(t, 4, stats.Runs)
		assert.Equal(t, began.Add(9*s).UnixNano(), stats.RunStartedAt.UnixNano(), "three times a second to fail, and two to stop")
		assertGivenUp(t, stats.LastError, "vital")
		require.ErrorIs(t, stats.LastError, errBoom)
		require.NoError(t, task.Restart(t.Context()))
		assert.EqualValues(t, 2, g.most.Load(), "two generations at once")
		require.NoError(t, task.Stop(t.Context()))
		assert.Zero(t, g.alive.Load())
	})
}

// What is stuck in a group must not meet its own second instance: the group has failed, whatever was asked for.
func TestGroupWithAStuckTaskIsNotRestarted_Promise1(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		vital   taskmanager.TaskFunc
		restart func(m *taskmanager.Manager) []error
		fails   time.Duration
	}{
		"by its failure": {failAfter(s), nil, 6 * s},
		"by hand": {untilStopped, func(m *taskmanager.Manager) []error {
			return []error{m.RestartTask(context.Background(), "group")}
		}, 5 * s},
		"by two hands": {untilStopped, func(m *taskmanager.Manager) []error {
			first := make(chan error)
			go func() { first <- m.RestartTask(context.Background(), "group") }()
			second := m.RestartTask(context.Background(), "group")
			return []error{<-first, second}
		}, 5 * s},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithStopTimeout(10*s))
				events := m.Subscribe(t.Context())
				deaf := newDeafBody()
				g := &group{sibling: deaf.run, vital: func(int64) taskmanager.TaskFunc { return c.vital }}
				task := start(t, m, "group", g.run)
				began := time.Now()
				synctest.Wait()
				if c.restart != nil {
					for _, err := range c.restart(m) {
						asStuck(t, err, "sibling", 5*s)
					}
				}
				require.Error(t, task.Wait(t.Context()))
				took(t, c.fails, began)
				require.Equal(t, taskmanager.StateFailed, settled(task))
				asStuck(t, task.Err(), "sibling", 5*s)
				assertGivenUp(t, task.Err(), "group")
				assert.EqualValues(t, 1, task.Stats().Failures)
				time.Sleep(time.Hour)
				assert.EqualValues(t, 1, g.generations.Load())
				assert.Equal(t, []taskmanager.EventKind{taskmanager.EventStarted, taskmanager.EventGaveUp}, kinds(pending(events), "group"))

				// When it has ended it starts afresh, for who asks then.
				deaf.release()
				synctest.Wait()
				require.NoError(t, task.Restart(t.Context()))
				require.NoError(t, task.Err())
			})
		})
	}
}

func silently() taskmanager.Option { return taskmanager.WithLogger(slog.New(slog.DiscardHandler)) }

// A group whose task was late, and has returned before the group does, leaves nothing running: it goes on as it was asked to, and the
// failure of a critical task is one like any other.
func TestGroupWhoseTaskWasLateGoesOn(t *testing.T) {
	const s = time.Second
	ctx := context.Background()
	late := func(vital taskmanager.TaskFunc) taskmanager.TaskFunc {
		return taskmanager.Group(func(g *taskmanager.Manager) error {
			_, err := g.StartTask("base", slowToStop(3*s), taskmanager.WithStopTimeout(4*s))
			if err == nil {
				_, err = g.StartTask("late", slowToStop(6*s), taskmanager.WithStopTimeout(5*s), dependsOn("base"))
			}
			if err == nil {
				_, err = g.StartTask("vital", vital, taskmanager.WithCritical(), once())
			}
			return err
		}, silently())
	}
	for name, test := range map[string]struct {
		act   func(m *taskmanager.Manager) error
		takes time.Duration
		state taskmanager.State
		runs  uint64
	}{
		"stop":    {func(m *taskmanager.Manager) error { return m.StopTask(ctx, "g") }, 8 * s, taskmanager.StateStopped, 1},
		"restart": {func(m *taskmanager.Manager) error { return m.RestartTask(ctx, "g") }, 8 * s, taskmanager.StateRunning, 2},
		"pause":   {func(m *taskmanager.Manager) error { return m.PauseTask(ctx, "g") }, 8 * s, taskmanager.StatePaused, 1},
		"replace": {func(m *taskmanager.Manager) error {
			_, err := m.ReplaceTask(ctx, "g", untilStopped)
			return err
		}, 8 * s, taskmanager.StateRunning, 1},
		"a loss": {func(m *taskmanager.Manager) error { return m.RestartTask(ctx, "bound to") }, 0, taskmanager.StateRunning, 2},
		"a failure": {func(*taskmanager.Manager) error {
			time.Sleep(2 * time.Hour)
			return nil
		}, 2 * time.Hour, taskmanager.StateRunning, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithStopTimeout(time.Minute), taskmanager.WithBackoff(s, s), taskmanager.WithBackoffJitter(0))
				runs := runsOf(untilStopped)
				if name == "a failure" {
					runs = runsOf(failAfter(time.Hour), untilStopped)
				}
				start(t, m, "bound to", untilStopped)
				g := start(t, m, "g", late(runs), taskmanager.WithBindTo("bound to"))
				synctest.Wait()
				began := time.Now()
				require.NoError(t, test.act(m))
				took(t, test.takes, began)
				time.Sleep(time.Minute)
				assert.Equal(t, test.state, settled(g))
				assert.Equal(t, test.runs, g.Stats().Runs)
				require.NoError(t, m.StopAll(ctx))
			})
		})
	}
}

// However the start of a group ends, no second body of a task is begun beside one that does not return.
func TestGroupIsOneHoweverItsStartEnds_Promise1(t *testing.T) {
	for end, how := range map[string]func() error{
		"an error": func() error { return errBoom },
		"a panic":  func() error { panic("start") },
		"Goexit":   func() error { runtime.Goexit(); return nil },
	} {
		for title, test := range map[string]struct {
			deaf  bool
			state taskmanager.State
		}{
			"with a deaf task":      {true, taskmanager.StateFailed},
			"with an obedient task": {false, taskmanager.StateBackoff},
		} {
			t.Run(end+" "+title, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := mustNew(t, taskmanager.WithBackoff(time.Minute, time.Minute), taskmanager.WithBackoffJitter(0))
					deaf := newDeafBody()
					var bodies, most, starts atomic.Int64
					group := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
						starts.Add(1)
						_, err := g.StartTask("a", func(ctx context.Context) error {
							most.Store(max(most.Load(), bodies.Add(1)))
							defer bodies.Add(-1)
							if test.deaf {
								return deaf.run(ctx)
							}
							return slowToStop(time.Second)(ctx)
						}, taskmanager.WithStopTimeout(2*time.Second))
						assert.NoError(t, err)
						time.Sleep(time.Second)
						return how()
					}, silently()))
					time.Sleep(10 * time.Second)
					require.Equal(t, test.state, settled(group))
					assert.EqualValues(t, 1, starts.Load())
					if test.deaf {
						asStuck(t, group.Err(), "a", 2*time.Second)
						if end == "an error" {
							require.ErrorIs(t, group.Err(), errBoom)
						}
						if end == "Goexit" {
							require.ErrorIs(t, group.Err(), taskmanager.ErrGoexit)
						}
						if end == "a panic" {
							var panicked *taskmanager.PanicError
							require.ErrorAs(t, group.Err(), &panicked)
						}
					} else {
						require.Zero(t, bodies.Load())
						time.Sleep(time.Minute)
						require.EqualValues(t, 2, starts.Load())
					}
					assert.EqualValues(t, 1, most.Load(), "bodies of one name at once")
					deaf.release()
					require.NoError(t, m.Shutdown(t.Context()))
					synctest.Wait()
					assert.Zero(t, bodies.Load())
				})
			})
		}
	}
}

// A group whose start panics after it was asked to stop has stopped, when what it has started has.
func TestGroupIsStoppedAndItsStartPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		group := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			if _, err := g.StartTask("a", deaf.run, taskmanager.WithStopTimeout(time.Second)); err != nil {
				return err
			}
			time.Sleep(time.Second)
			panic("start")
		}, silently()))
		synctest.Wait()
		began := time.Now()
		err := group.Stop(t.Context())
		took(t, 5*time.Second, began)
		asStuck(t, err, "g", 5*time.Second)
		require.Equal(t, taskmanager.StateStuck, group.State())
		deaf.release()
		require.NoError(t, group.Wait(t.Context()))
		assert.Equal(t, taskmanager.StateStopped, group.State())
	})
}

// A group is ready when its tasks are, and alive while its Manager is.
func TestGroupUnderReadinessAndAWatchdog(t *testing.T) {
	slow := func(ctx context.Context) error {
		time.Sleep(5 * time.Second)
		taskmanager.Ready(ctx)
		return untilStopped(ctx)
	}
	group := taskmanager.Group(func(g *taskmanager.Manager) error {
		if _, err := g.StartTask("plain", untilStopped); err != nil {
			return err
		}
		_, err := g.StartTask("slow", slow, taskmanager.WithReadiness(time.Minute))
		return err
	}, silently())
	for title, test := range map[string]struct {
		task  []taskmanager.TaskOption
		all   []taskmanager.Option
		ready bool // the group says when it is ready
	}{
		"plain":                    {},
		"readiness":                {task: []taskmanager.TaskOption{taskmanager.WithReadiness(time.Minute)}, ready: true},
		"watchdog":                 {task: []taskmanager.TaskOption{taskmanager.WithWatchdog(time.Second)}},
		"both":                     {task: []taskmanager.TaskOption{taskmanager.WithReadiness(time.Minute), taskmanager.WithWatchdog(time.Second)}, ready: true},
		"both, as defaults of New": {all: []taskmanager.Option{taskmanager.WithReadiness(time.Minute), taskmanager.WithWatchdog(time.Second)}, ready: true},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, test.all...)
				events := m.Subscribe(t.Context())
				began := time.Now()
				g := start(t, m, "g", group, test.task...)
				dependent := start(t, m, "dependent", func(ctx context.Context) error {
					took(t, 5*time.Second, began)
					taskmanager.Ready(ctx)
					taskmanager.HeartbeatWithin(ctx, 1000*time.Hour)
					return untilStopped(ctx)
				}, taskmanager.WithDependsOn("g"))
				time.Sleep(5*time.Second - 1)
				require.Equal(t, taskmanager.StateWaiting, settled(dependent))
				assert.False(t, m.Health().Ready)
				time.Sleep(time.Nanosecond)
				require.Equal(t, taskmanager.StateRunning, settled(dependent))
				assert.True(t, m.Health().Ready, "%v", m.Health())
				time.Sleep(24 * time.Hour)
				assert.Zero(t, g.Stats().Failures, "%v", g.Stats().LastError)
				var ready []taskmanager.Event
				for _, e := range ofKind(taskmanager.EventReady, pending(events)) {
					if e.Task == "g" {
						ready = append(ready, e)
					}
				}
				if test.ready {
					require.Len(t, ready, 1)
					assert.Equal(t, 5*time.Second, ready[0].Time.Sub(began))
				} else {
					require.Empty(t, ready)
				}
			})
		})
	}
}

// A group that ends because a critical task is gone is not ready, though those of its tasks have stopped that were not either.
func TestGroupThatEndsIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
		events := m.Subscribe(t.Context())
		group := start(t, m, "group", taskmanager.Group(func(g *taskmanager.Manager) error {
			start(t, g, "vital", func(context.Context) error { time.Sleep(time.Second); return nil }, critical)
			start(t, g, "late", untilStopped, taskmanager.WithReadiness(time.Minute))
			start(t, g, "slow", slowToStop(2*time.Second))
			return nil
		}, silently()), taskmanager.WithRestart(taskmanager.RestartAlways), taskmanager.WithReadiness(time.Minute))
		dependent := start(t, m, "dependent", untilStopped, dependsOn("group"))
		for range 4 {
			time.Sleep(time.Second)
			require.Equal(t, taskmanager.StateWaiting, settled(dependent))
			assert.False(t, group.Stats().Ready)
			assert.False(t, m.Health().Ready)
		}
		assert.Equal(t, []taskmanager.EventKind{
			taskmanager.EventStarted, taskmanager.EventCompleted, taskmanager.EventStarted,
		}, kinds(pending(events), "group"))
	})
}

// A group of which a task never gets ready, or whose start hangs, has failed by being late.
func TestGroupThatIsLate(t *testing.T) {
	for title, test := range map[string]struct {
		start func(g *taskmanager.Manager) error
		opt   taskmanager.TaskOption
		cause error
	}{
		"a task is never ready": {func(g *taskmanager.Manager) error {
			_, err := g.StartTask("a", untilStopped, taskmanager.WithReadiness(time.Hour))
			return err
		}, taskmanager.WithReadiness(time.Minute), taskmanager.ErrNotReady},
		"its start is late": {
			func(*taskmanager.Manager) error { time.Sleep(2 * time.Minute); return nil },
			taskmanager.WithWatchdog(time.Minute), taskmanager.ErrWatchdog,
		},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				g := start(t, m, "g", taskmanager.Group(test.start, silently()), test.opt, once(), taskmanager.WithStopTimeout(time.Hour))
				require.ErrorIs(t, g.Wait(t.Context()), test.cause)
			})
		})
	}
}

// A reporter of the group that hangs holds up neither its stop nor its next run.
func TestGroupWithAHangingReporterIsStoppedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := goroutines()
		m := mustNew(t)
		release := make(chan struct{})
		reporter := newInbox(func(context.Context, int, taskmanager.Event) error { <-release; return nil })
		starts := 0
		g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			starts++
			if _, err := g.StartTask("a", boom, once()); err != nil {
				return err
			}
			_, err := g.StartTask("b", untilStopped)
			return err
		}, silently(), taskmanager.WithReporter(reporter)))
		synctest.Wait()
		began := time.Now()
		require.NoError(t, g.Restart(t.Context()))
		synctest.Wait()
		require.Equal(t, 2, starts)
		require.NoError(t, g.Stop(t.Context()))
		took(t, 0, began)
		assert.Equal(t, taskmanager.StateStopped, g.State())
		close(release)
		require.NoError(t, m.Shutdown(t.Context()))
		time.Sleep(time.Minute)
		assert.Equal(t, before, goroutines())
	})
}

// What a group has yet to report when it ends is reported at once, whatever the limit of its reports; the Shutdown of the outermost
// Manager waits for that, and for no longer.
func TestGroupReportsWhatWaitsAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		reporter := newInbox(func(context.Context, int, taskmanager.Event) error { time.Sleep(time.Second); return nil })
		inner := taskmanager.Group(func(g *taskmanager.Manager) error {
			for _, name := range []string{"a", "b"} {
				if _, err := g.StartTask(name, boom, once()); err != nil {
					return err
				}
			}
			return nil
		}, silently(), taskmanager.WithReporter(reporter), taskmanager.WithReportLimit(rate.Every(time.Hour), 1))
		g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			_, err := g.StartTask("inner", inner)
			return err
		}, silently()))
		time.Sleep(time.Minute)
		require.Len(t, reporter.got(), 1)
		began := time.Now()
		require.NoError(t, g.Stop(t.Context()))
		took(t, 0, began)
		require.NoError(t, m.Shutdown(t.Context()))
		took(t, time.Second, began)
		assert.Len(t, reporter.got(), 2)
	})
}

// dependent starts a task that depends on "g", and returns when it has begun, as seen from now; -1 if it has not.
func dependent(t *testing.T, m *taskmanager.Manager) (begun func() time.Duration) {
	t.Helper()
	began, after := time.Now(), time.Duration(-1)
	start(t, m, "dependent", func(ctx context.Context) error {
		after = time.Since(began)
		return untilStopped(ctx)
	}, taskmanager.WithDependsOn("g"))
	return func() time.Duration {
		synctest.Wait()
		return after
	}
}

// Those that wait for a group of which no task needs to become ready begin when its start has returned.
func TestGroupIsReadyWhenItsStartHasReturned(t *testing.T) {
	for name, opt := range map[string]taskmanager.TaskOption{
		"watchdog": taskmanager.WithWatchdog(time.Hour), "readiness": taskmanager.WithReadiness(time.Hour), "neither": once(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
					_, err := g.StartTask("a", untilStopped)
					time.Sleep(time.Second)
					return err
				}, silently()), opt)
				begun := dependent(t, m)
				time.Sleep(time.Minute)
				assert.Equal(t, time.Second, begun())
			})
		})
	}
}

// Before that it is not ready for Stats and Health either: also not in the moment between the begin of its run and that of its body,
// for which the log is waited.
func TestGroupIsNotReadyBeforeItsStartHasReturned(t *testing.T) {
	type options = []taskmanager.TaskOption
	for name, c := range map[string]struct {
		opts   options
		named  bool // by Health, as a problem
		waited bool // Health.Ready is false
	}{
		"critical":          {options{taskmanager.WithCritical()}, true, true},
		"with readiness":    {options{taskmanager.WithReadiness(time.Hour)}, true, true},
		"with dependencies": {options{dependsOn("other")}, true, false},
		"plain":             {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, slowLog("task started", func() { time.Sleep(time.Minute) }))
				start(t, m, "other", untilStopped)
				g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
					time.Sleep(time.Minute)
					_, err := g.StartTask("a", untilStopped)
					return err
				}, silently()), c.opts...)
				for _, when := range []string{"the log is told", "it starts"} {
					time.Sleep(time.Minute - 1)
					require.Equal(t, taskmanager.StateRunning, g.State())
					assert.False(t, g.Stats().Ready, when)
					want := taskmanager.Health{Ready: !c.waited}
					if c.named {
						want.State, want.Problems = taskmanager.HealthDegraded, []taskmanager.HealthProblem{{
							Task: "g", Critical: g.Stats().Critical, State: taskmanager.StateRunning, Reason: taskmanager.HealthNotReady,
						}}
					}
					assert.Equal(t, want, m.Health(), when)
					time.Sleep(time.Nanosecond)
				}
				synctest.Wait()
				assert.True(t, g.Stats().Ready)
				assert.Equal(t, taskmanager.Health{Ready: true}, m.Health())
			})
		})
	}
}

// That a group is not ready is said of one that runs, and if there is nothing worse to say.
func TestGroupIsSaidToBeNotReadyForWantOfAnotherReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0), taskmanager.WithMaxRestarts(2))
		runs := 0
		g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			if runs++; runs == 1 {
				return errBoom
			}
			_, err := g.StartTask("a", slowToStop(time.Second))
			time.Sleep(time.Second)
			return err
		}, silently()), taskmanager.WithReadiness(time.Hour))
		time.Sleep(1500 * time.Millisecond)
		reason := func() taskmanager.HealthReason { return m.Health().Problems[0].Reason }
		require.Equal(t, taskmanager.StateRunning, g.State())
		assert.Equal(t, taskmanager.HealthCrashLoop, reason())
		time.Sleep(time.Minute)
		assert.Empty(t, m.Health().Problems)
		go func() { _ = g.Stop(context.Background()) }()
		synctest.Wait()
		require.Equal(t, taskmanager.StateStopping, g.State())
		assert.Empty(t, m.Health().Problems)
		require.Equal(t, taskmanager.StateStopping, g.State())
		<-g.Done()
		assert.Empty(t, m.Health().Problems)
	})
}

// The least time to become ready is enough for a group that is ready at once.
func TestGroupIsReadyInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			_, err := g.StartTask("a", untilStopped)
			return err
		}, silently()), taskmanager.WithReadiness(1))
		time.Sleep(time.Minute)
		assert.True(t, g.Stats().Ready)
		assert.Zero(t, g.Stats().Failures)
	})
}

// A task of a group that was stopped by hand keeps nobody waiting.
func TestGroupIsReadyWithoutATaskThatWasStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			if _, err := g.StartTask("a", untilStopped, taskmanager.WithReadiness(time.Hour)); err != nil {
				return err
			}
			if _, err := g.StartTask("b", readyAfter(time.Second), taskmanager.WithReadiness(time.Hour)); err != nil {
				return err
			}
			return g.StopTask(t.Context(), "a")
		}, silently()))
		begun := dependent(t, m)
		time.Sleep(time.Minute)
		assert.Equal(t, time.Second, begun())
	})
}

// Who begins to wait for a group while one of its tasks is restarted hears of it when that is ready again, as a group with a readiness of
// its own is.
func TestGroupIsReadyAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		var inner *taskmanager.Manager
		g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			inner = g
			_, err := g.StartTask("a", readyAfter(time.Second), taskmanager.WithReadiness(time.Hour))
			return err
		}, silently()), taskmanager.WithReadiness(time.Hour))
		time.Sleep(time.Minute)
		require.True(t, g.Stats().Ready)
		require.NoError(t, inner.RestartTask(t.Context(), "a"))
		begun := dependent(t, m)
		time.Sleep(time.Minute)
		assert.Equal(t, time.Second, begun())
	})
}

// A body that calls that of a group is none: it is ready when it says so.
func TestGroupWithinABodyDoesNotMakeItReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		g := start(t, m, "g", func(ctx context.Context) error {
			time.AfterFunc(time.Minute, func() { taskmanager.Ready(ctx) })
			return taskmanager.Group(func(g *taskmanager.Manager) error {
				_, err := g.StartTask("a", untilStopped)
				return err
			}, silently())(ctx)
		}, taskmanager.WithReadiness(time.Hour))
		time.Sleep(time.Second)
		require.Equal(t, taskmanager.StateRunning, g.State())
		assert.False(t, g.Stats().Ready)
		begun := dependent(t, m)
		time.Sleep(time.Hour)
		assert.Equal(t, 59*time.Second, begun())
	})
}

// What a group leaves behind whose start has failed is said once.
func TestGroupThatLeavesATaskBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		release := make(chan struct{})
		g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			if _, err := g.StartTask("deaf", ignoring(release)); err != nil {
				return err
			}
			synctest.Wait()
			return errBoom
		}, silently()))
		err := g.Wait(t.Context())
		require.ErrorIs(t, err, errBoom)
		assert.Equal(t, 1, strings.Count(err.Error(), "did not stop within"), err.Error())
		close(release)
		synctest.Wait()
	})
}

// The body of a group that nobody supervises leaves to its caller what it leaves behind.
func TestGroupWithoutATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var deaf *taskmanager.Task
		err := taskmanager.Group(func(g *taskmanager.Manager) (err error) {
			if deaf, err = g.StartTask("deaf", ignoring(release)); err != nil {
				return err
			}
			synctest.Wait()
			return errBoom
		}, silently())(t.Context())
		require.ErrorIs(t, err, errBoom)
		var stuck *taskmanager.StopTimeoutError
		require.ErrorAs(t, err, &stuck)
		close(release)
		require.NoError(t, deaf.Wait(t.Context()))
	})
}

// An error of start that has nothing to do with its being asked to stop is kept; and that the Manager is closed is one, if nobody has
// asked the group to stop.
func TestGroupWhoseStartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		events := m.Subscribe(t.Context())
		g := start(t, m, "g", taskmanager.Group(func(*taskmanager.Manager) error {
			time.Sleep(time.Second)
			return errBoom
		}, silently()))
		synctest.Wait()
		require.NoError(t, g.Stop(t.Context()))
		var stopped []error
		for _, e := range pending(events) {
			if e.Kind == taskmanager.EventStopped {
				stopped = append(stopped, e.Err)
			}
		}
		require.Len(t, stopped, 1)
		require.ErrorIs(t, stopped[0], errBoom)

		closed := start(t, m, "closed", taskmanager.Group(func(g *taskmanager.Manager) error {
			if err := g.Shutdown(t.Context()); err != nil {
				return err
			}
			_, err := g.StartTask("a", untilStopped)
			return err
		}, silently()), once())
		require.ErrorIs(t, closed.Wait(t.Context()), taskmanager.ErrManagerClosed)
	})
}

// What is asked while start is under way is done as soon as it has returned, and is no failure, whatever start makes of
// it that it can't start any more.
func TestGroupIsAskedToStopDuringItsStart(t *testing.T) {
	for title, ask := range map[string]func(ctx context.Context, m *taskmanager.Manager) error{
		"StopTask":    func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "g") },
		"RestartTask": func(ctx context.Context, m *taskmanager.Manager) error { return m.RestartTask(ctx, "g") },
		"Shutdown":    func(ctx context.Context, m *taskmanager.Manager) error { return m.Shutdown(ctx) },
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				events := m.Subscribe(t.Context())
				g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
					for i := range 3 {
						time.Sleep(time.Second)
						if _, err := g.StartTask(fmt.Sprint("t", i), untilStopped); err != nil {
							return fmt.Errorf("start of %d: %w", i, err)
						}
					}
					return nil
				}, silently()))
				time.Sleep(1500 * time.Millisecond)
				began := time.Now()
				require.NoError(t, ask(t.Context(), m))
				took(t, time.Second/2, began)
				assert.Zero(t, g.Stats().Failures)
				for _, e := range pending(events) {
					if e.Task == "g" && e.Kind == taskmanager.EventStopped && title != "RestartTask" {
						assert.NoError(t, e.Err, "the error that start has made of it")
					}
				}
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// Subscriptions to the Manager of a group end with the run, whatever their context is; and the Managers of 300 runs are gone.
func TestGroupSubscriptionsEndWithItsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithMaxRestarts(taskmanager.Unlimited))
		var channels []<-chan taskmanager.Event
		before := goroutines()
		start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			var none context.Context // never done
			c := g.Subscribe(none)
			channels = append(channels, c)
			go func() {
				for range c {
				}
			}()
			return errBoom
		}, silently()))
		time.Sleep(300 * time.Second)
		require.NoError(t, m.StopAll(t.Context()))
		assert.GreaterOrEqual(t, len(channels), 270)
		assert.Equal(t, before, goroutines(), "listeners of runs that are over")
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// The Reporter of a group is not called by a task, so it finds none in its context.
func TestGroupReporterIsInNoTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithContext(withValue(t.Context())))
		called := false
		g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
			_, err := g.StartTask("a", boom, once())
			return err
		}, silently(), taskmanager.WithReporter(taskmanager.ReporterFunc(func(ctx context.Context, _ taskmanager.Event) error {
			called = true
			_, ok := taskmanager.FromContext(ctx)
			assert.False(t, ok)
			assert.NotNil(t, ctx.Value(contextKey{}), "the values of the outermost parent are there")
			return nil
		}))))
		synctest.Wait()
		assert.True(t, called)
		require.NoError(t, g.Stop(t.Context()))
	})
}

// Shutdown waits for the log to be told of what has happened within a group, as it does for the group itself.
func TestGroupLinesAreWaitedFor(t *testing.T) {
	for _, slow := range []string{"g/a", "g"} {
		t.Run(slow, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var (
					mu      sync.Mutex
					written []string
				)
				handler := handlerFunc(func(r slog.Record) {
					r.Attrs(func(a slog.Attr) bool {
						if a.Key == "task" && r.Message == "task stopped" {
							if a.Value.String() == slow {
								time.Sleep(time.Second)
							}
							mu.Lock()
							defer mu.Unlock()
							written = append(written, a.Value.String())
						}
						return true
					})
				})
				m := mustNew(t, taskmanager.WithLogger(slog.New(handler)))
				start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
					_, err := g.StartTask("a", untilStopped)
					return err
				}))
				synctest.Wait()
				began := time.Now()
				require.NoError(t, m.Shutdown(t.Context()))
				took(t, time.Second, began)
				mu.Lock()
				defer mu.Unlock()
				assert.ElementsMatch(t, []string{"g/a", "g"}, written)
			})
		})
	}
}

// A group that is shut down from within while it starts ends when its tasks have, as any other: none of them is alive when the next run
// begins.
func TestGroupIsShutDownWhileItStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
		var alive, most atomic.Int64
		group := start(t, m, "g", taskmanager.Group(func(m *taskmanager.Manager) error {
			start(t, m, "slow", func(ctx context.Context) error {
				most.Store(max(most.Load(), alive.Add(1)))
				defer alive.Add(-1)
				return slowToStop(4 * time.Second)(ctx)
			})
			start(t, m, "ender", func(ctx context.Context) error {
				time.Sleep(time.Second)
				return m.Shutdown(ctx)
			})
			time.Sleep(2 * time.Second) // start has more to do
			return nil
		}))
		time.Sleep(time.Minute)
		assert.EqualValues(t, 1, most.Load(), "bodies of g/slow at once")
		assert.Greater(t, group.Stats().Runs, uint64(1))
	})
}

// One of them that is stuck fails the group without a restart, then as well.
func TestGroupIsShutDownWhileItStartsAndIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		release := make(chan struct{})
		group := start(t, m, "g", taskmanager.Group(func(m *taskmanager.Manager) error {
			start(t, m, "deaf", ignoring(release))
			start(t, m, "ender", func(ctx context.Context) error {
				time.Sleep(time.Second)
				return m.Shutdown(ctx)
			})
			time.Sleep(2 * time.Second)
			return nil
		}))
		time.Sleep(time.Minute)
		assert.Equal(t, taskmanager.StateFailed, group.State())
		assert.EqualValues(t, 1, group.Stats().Runs)
		asStuck(t, group.Err(), "deaf", 5*time.Second)
		close(release)
	})
}

// An isError does something when it is asked what it is.
type isError struct{ asked func() }

func (isError) Error() string { return "is" }

func (e isError) Is(error) bool {
	e.asked()
	return false
}

// What the methods of an error do that ends a group does not stand in the way of the end: be it that of its critical task, or that of
// its start while it is stopped.
func TestGroupThatEndsWithAnErrorOfTheUsers(t *testing.T) {
	for name, act := range map[string]func(release <-chan struct{}){
		"hangs":  func(release <-chan struct{}) { <-release },
		"exits":  func(<-chan struct{}) { runtime.Goexit() },
		"panics": func(<-chan struct{}) { panic("Is") },
	} {
		t.Run(name+", of a task", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				m := newManager(t, exact()...)
				g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
					_, err := g.StartTask("a", func(context.Context) error { return isError{func() { act(release) }} })
					return err
				}, silently(), taskmanager.WithCritical(), once()))
				time.Sleep(1500 * time.Millisecond)
				assert.EqualValues(t, 2, g.Stats().Runs)
				assertGivenUp(t, g.Stats().LastError, "a")
				close(release)
				require.NoError(t, g.Stop(t.Context()))
			})
		})
		t.Run(name+", of start", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				m := newManager(t)
				g := start(t, m, "g", func(ctx context.Context) error {
					return taskmanager.Group(func(*taskmanager.Manager) error {
						<-ctx.Done()
						return isError{func() { act(release) }}
					}, silently())(ctx)
				})
				synctest.Wait()
				began := time.Now()
				require.NoError(t, g.Stop(t.Context()))
				took(t, 0, began)
				close(release)
			})
		})
	}
}

// Reports that wait at the end of a group whose body was called by itself are delivered at once, too.
func TestGroupWithoutAManagerReportsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reporter := newInbox(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, taskmanager.Group(func(g *taskmanager.Manager) error {
			for _, name := range []string{"a", "b", "c"} {
				if _, err := g.StartTask(name, boom, once()); err != nil {
					return err
				}
			}
			return nil
		}, silently(), taskmanager.WithReporter(reporter), taskmanager.WithReportLimit(0.001, 1))(ctx))
		synctest.Wait()
		assert.EqualValues(t, 3, reporter.sum())
	})
}

// The bound of Run's shutdown holds for the stops within a group, however it ends; its own stop has the deadline of whoever asks for it.
func TestGroupWithAShutdownTimeout(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		start   error                                                                     // what the group's start returns
		end     func(t *testing.T, m *taskmanager.Manager, fail context.CancelFunc) error // ends the group
		wait    time.Duration
		outcome taskmanager.State
	}{
		"a critical task fails": {nil, func(_ *testing.T, m *taskmanager.Manager, fail context.CancelFunc) error {
			fail()
			group, _ := m.Lookup("group")
			return group.Wait(context.Background())
		}, 6 * s, taskmanager.StateFailed},
		"its start fails": {errWhy, func(_ *testing.T, m *taskmanager.Manager, _ context.CancelFunc) error {
			group, _ := m.Lookup("group")
			return group.Wait(context.Background())
		}, 6 * s, taskmanager.StateFailed},
		"it is stopped": {nil, func(t *testing.T, m *taskmanager.Manager, _ context.CancelFunc) error {
			return m.StopTask(t.Context(), "group")
		}, 30 * s, taskmanager.StateStuck},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithStopTimeout(30*s))
				events := m.Subscribe(t.Context())
				failing, fail := context.WithCancel(t.Context())
				release := make(chan struct{})
				began := time.Now().Add(s)
				group := start(t, m, "group", taskmanager.Group(func(g *taskmanager.Manager) error {
					start(t, g, "a", ignoring(release))
					start(t, g, "b", ignoring(release), dependsOn("a"))
					start(t, g, "c", ignoring(release), dependsOn("b"))
					start(t, g, "vital", func(ctx context.Context) error {
						select {
						case <-failing.Done():
							return errBoom
						case <-ctx.Done():
							return nil
						}
					}, critical, noRestart)
					time.Sleep(s) // until all run
					return test.start
				}, silently(), taskmanager.WithStopTimeout(20*s), taskmanager.WithShutdownTimeout(6*s)))
				if test.start == nil {
					time.Sleep(s)
					synctest.Wait()
				}
				err := test.end(t, m, fail)
				took(t, test.wait, began)
				assert.Equal(t, test.outcome, group.State())
				if test.outcome == taskmanager.StateFailed {
					for _, name := range []string{"a", "b", "c"} {
						require.ErrorContains(t, err, fmt.Sprintf("task %q did not stop within 2s", name))
					}
				} else {
					asStuck(t, err, "group", 30*s)
				}
				var stuck []string
				for _, e := range ofKind(taskmanager.EventStuck, pending(events)) {
					stuck = append(stuck, fmt.Sprint(e.Task, " ", e.Time.Sub(began)))
				}
				assert.Subset(t, stuck, []string{"group/c 2s", "group/b 4s", "group/a 6s"})
				close(release)
				fail()
				<-group.Done()
				time.Sleep(time.Minute)
			})
		})
	}
}

// A group completes with its critical task, which is no failure: it is restarted if a task is that completes. What else has failed is one.
func TestGroupCompletesWithItsCriticalTask(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		opts  []taskmanager.TaskOption // of the group's task
		late  taskmanager.TaskFunc     // of a critical task that is not stopped before another one
		state taskmanager.State        // when it has ended
		err   error                    // of the group
	}{
		"by default":     {nil, untilStopped, taskmanager.StateCompleted, nil},
		"RestartNever":   {[]taskmanager.TaskOption{once()}, untilStopped, taskmanager.StateCompleted, nil},
		"RestartAlways":  {[]taskmanager.TaskOption{taskmanager.WithRestart(taskmanager.RestartAlways)}, untilStopped, taskmanager.StateBackoff, nil},
		"another fails":  {[]taskmanager.TaskOption{once()}, failAfter(2 * s), taskmanager.StateFailed, errBoom},
		"it is critical": {[]taskmanager.TaskOption{critical}, untilStopped, taskmanager.StateCompleted, taskmanager.ErrCriticalCompleted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, taskmanager.WithBackoff(time.Hour, time.Hour))
				r, cancel := goRun(t, m)
				defer cancel()
				group := start(t, m, "group", taskmanager.Group(func(g *taskmanager.Manager) error {
					start(t, g, "job", completesAfter(s), critical)
					start(t, g, "late", test.late, critical, once())
					time.Sleep(s / 2)
					start(t, g, "user", slowToStop(2*s), dependsOn("late"))
					return nil
				}, silently()), test.opts...)
				time.Sleep(3*s + s/2)
				assert.Equal(t, test.state, settled(group))
				if errors.Is(test.err, taskmanager.ErrCriticalCompleted) {
					require.EqualError(t, r.err(t, 3*s), `taskmanager: critical task "group" has completed`)
					return
				}
				require.ErrorIs(t, group.Err(), test.err)
				require.NotErrorIs(t, group.Err(), taskmanager.ErrCriticalCompleted)
				r.lives(t)
				cancel()
				require.NoError(t, <-r.result)
			})
		})
	}
}

// A body that runs a Manager of its own, and is no group, fails with what Run returns.
func TestGroupOfOnesOwnFailsWhenItsCriticalTaskHasCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "group", func(ctx context.Context) error {
			inner := mustNew(t)
			start(t, inner, "job", completesAfter(time.Second), critical)
			return inner.Run(ctx)
		}, once())
		require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrCriticalCompleted)
		assert.EqualError(t, task.Err(), `taskmanager: gave up task "group": taskmanager: critical task "job" has completed`)
	})
}

// The Manager of a group can be had from outside: that of the latest run.
func TestGroupIsReachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		one := start(t, m, "one", untilStopped)
		assert.Nil(t, one.Group())
		assert.Equal(t, []string{"one"}, one.Path())
		group := start(t, m, "a/b", taskmanager.Group(func(m *taskmanager.Manager) error {
			if _, err := m.StartTask("c", taskmanager.Group(func(m *taskmanager.Manager) error {
				_, err := m.StartTask("d", untilStopped)
				return err
			})); err != nil {
				return err
			}
			_, err := m.StartTask("fails", failAfter(time.Minute), once(), taskmanager.WithCritical())
			return err
		}))
		synctest.Wait()
		first := group.Group()
		c, ok := first.Lookup("c")
		require.True(t, ok)
		d, ok := c.Group().Lookup("d")
		require.True(t, ok)
		assert.Equal(t, []string{"a/b", "c", "d"}, d.Path())
		require.NoError(t, c.Group().RestartTask(t.Context(), "d"))
		assert.EqualValues(t, 2, d.Stats().Runs)
		assert.False(t, hasClosed(first.Done()))

		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Same(t, first, group.Group(), "until the next run begins")
		assert.True(t, hasClosed(first.Done()), "its run has ended")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		assert.NotSame(t, first, group.Group())
		assert.False(t, hasClosed(group.Group().Done()))
	})
}
