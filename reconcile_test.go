package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

type (
	spec    = taskmanager.Spec
	changes = taskmanager.Changes
)

// versions are specs of untilStopped: "a" is of version "", and "a:2" of "2".
func versions(names ...string) iter.Seq[spec] {
	return func(yield func(spec) bool) {
		for _, n := range names {
			name, version, _ := strings.Cut(n, ":")
			if !yield(spec{Name: name, Body: untilStopped, Version: version}) {
				return
			}
		}
	}
}

func numbered(n int, version string) []spec {
	specs := make([]spec, n)
	for i := range specs {
		specs[i] = spec{Name: fmt.Sprint("p/", i), Body: untilStopped, Version: version}
	}
	return specs
}

func TestReconcile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		other := start(t, m, "other", untilStopped)
		byHand := start(t, m, "p/by hand", untilStopped)
		reconcile := func(names ...string) changes {
			t.Helper()
			c, err := m.Reconcile(t.Context(), "p/", versions(names...))
			require.NoError(t, err)
			synctest.Wait()
			return c
		}
		assert.Equal(t, changes{Started: []string{"p/b", "p/a"}, Unchanged: 1}, reconcile("p/b", "p/by hand", "p/a:1"))
		a, _ := m.Lookup("p/a")
		b, _ := m.Lookup("p/b")
		assert.Equal(t, changes{Unchanged: 3}, reconcile("p/a:1", "p/b", "p/by hand"), "nothing changed")
		assert.EqualValues(t, 3, m.Stats().Runs-1)
		assert.Equal(t, changes{Replaced: []string{"p/a"}, Unchanged: 2}, reconcile("p/a:2", "p/b", "p/by hand"), "one changed")
		assert.EqualValues(t, 4, m.Stats().Runs-1)
		assert.Equal(t, changes{Replaced: []string{"p/by hand"}, Stopped: []string{"p/a"}, Unchanged: 1}, reconcile("p/b", "p/by hand:1"))
		assert.Equal(t, taskmanager.StateStopped, a.State())
		assert.Equal(t, changes{Started: []string{"p/a"}, Unchanged: 2}, reconcile("p/a:2", "p/b", "p/by hand:1"), "stopped")
		again, _ := m.Lookup("p/a")
		assert.Same(t, a, again)
		assert.Equal(t, taskmanager.StateRunning, a.State())

		_, err := m.ReplaceTask(t.Context(), "p/a", untilStopped)
		require.NoError(t, err)
		assert.Equal(t, changes{Replaced: []string{"p/a"}, Unchanged: 2}, reconcile("p/a:2", "p/b", "p/by hand:1"), "replaced by hand")
		require.NoError(t, b.Restart(t.Context()))
		assert.Equal(t, changes{Unchanged: 3}, reconcile("p/a:2", "p/b", "p/by hand:1"), "restarted by hand")
		assert.Equal(t, changes{Stopped: []string{"p/a", "p/b", "p/by hand"}}, reconcile())
		assert.Equal(t, changes{}, reconcile())
		assert.Equal(t, taskmanager.StateStopped, byHand.State())
		assert.EqualValues(t, 1, other.Stats().Runs)
		assert.Equal(t, taskmanager.StateRunning, other.State())
	})
}

// Whatever a task with the same Version is at, it is left alone, unless it was stopped.
func TestReconcileLeavesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(time.Hour, time.Hour))
		deaf := newDeafBody()
		bodies := map[string]taskmanager.TaskFunc{
			"completed": func(context.Context) error { return nil }, "failed": boom, "backoff": boom, "paused": untilStopped,
			"waiting": untilStopped, "stuck": deaf.run,
		}
		var specs []spec
		for name, body := range bodies {
			s := spec{Name: "p/" + name, Body: body, Version: "1"}
			switch name {
			case "failed":
				s.Options = append(s.Options, once())
			case "waiting":
				s.Options = append(s.Options, dependsOn("nobody"))
			}
			specs = append(specs, s)
		}
		c, err := m.Reconcile(t.Context(), "p/", slices.Values(specs))
		require.NoError(t, err)
		assert.Len(t, c.Started, len(bodies))
		synctest.Wait()
		require.NoError(t, m.PauseTask(t.Context(), "p/paused"))
		asStuck(t, m.StopTask(t.Context(), "p/stuck"), "p/stuck", 5*time.Second)
		for name := range bodies {
			task, _ := m.Lookup("p/" + name)
			require.Equal(t, name, task.State().String())
		}
		began := time.Now()
		c, err = m.Reconcile(t.Context(), "p/", slices.Values(specs))
		require.NoError(t, err)
		assert.Equal(t, changes{Unchanged: len(bodies)}, c)

		// With another one they are replaced, but for the one that is stuck, which is named.
		for i := range specs {
			specs[i].Version, specs[i].Body = "2", untilStopped
		}
		c, err = m.Reconcile(t.Context(), "p/", slices.Values(specs))
		asStuck(t, err, "p/stuck", 5*time.Second)
		assert.Len(t, c.Replaced, len(bodies)-1)
		took(t, 0, began)
		synctest.Wait()
		assert.Equal(t, 3, m.Stats().Running)
		assert.Equal(t, 1, m.Stats().Paused)

		// One that is not wanted, and stuck, is named and not waited for again, and the others are dealt with.
		c, err = m.Reconcile(t.Context(), "p/", versions("p/new"))
		asStuck(t, err, "p/stuck", 5*time.Second)
		took(t, 0, began)
		assert.Equal(t, []string{"p/new"}, c.Started)
		assert.NotContains(t, c.Stopped, "p/stuck")
		assert.Len(t, c.Stopped, len(bodies)-1)
		deaf.release()
		synctest.Wait()
	})
}

// A spec that is refused is named, and what has its name is left as it is; the others are dealt with.
func TestReconcileRefusesOneOfThem(t *testing.T) {
	n := 5000
	if underRace { // they all run, in each case
		n = 500
	}
	for name, test := range map[string]struct {
		spoil func(specs []spec) []spec
		want  string
		twice bool
	}{
		"no body": {func(specs []spec) []spec { specs[7].Body = nil; return specs }, `taskmanager: body <nil>: must not be nil: "p/7"`, false},
		"an option": {func(specs []spec) []spec {
			specs[7].Options = []taskmanager.TaskOption{taskmanager.WithWatchdog(-1)}
			return specs
		}, `taskmanager: WithWatchdog(-1ns): must be positive: "p/7"`, false},
		"no option": {func(specs []spec) []spec {
			specs[7].Options = []taskmanager.TaskOption{nil}
			return specs
		}, `taskmanager: opts[0] <nil>: must not be nil: "p/7"`, false},
		"a cycle": {func(specs []spec) []spec {
			specs[7].Options = []taskmanager.TaskOption{dependsOn("p/7")}
			return specs
		}, `taskmanager: WithDependsOn("p/7"): makes a cycle: "p/7" -> "p/7": "p/7"`, false},
		"twice":       {func(specs []spec) []spec { return append(specs, specs[7]) }, `taskmanager: specs "p/7": has the name more than once: "p/7"`, false},
		"three times": {func(specs []spec) []spec { return append(specs, specs[7], specs[7]) }, `taskmanager: specs "p/7": has the name more than once: "p/7"`, false},
		"outside the prefix": {
			func(specs []spec) []spec { return append(specs, spec{Name: "q/7", Body: untilStopped, Version: "2"}) },
			`taskmanager: name "q/7": does not begin with the prefix "p/": "q/7"`, true,
		},
		"no name": {func(specs []spec) []spec { return append(specs, spec{Body: untilStopped}) }, `taskmanager: name "": does not begin with the prefix "p/": ""`, true},
		"a bad name": {
			func(specs []spec) []spec { return append(specs, spec{Name: "p/\n", Body: untilStopped}) },
			`taskmanager: name "p/\n": must not contain control characters: "p/\n"`, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				outside := start(t, m, "q/7", untilStopped)
				c, err := m.Reconcile(t.Context(), "p/", slices.Values(numbered(n, "1")))
				require.NoError(t, err)
				require.Len(t, c.Started, n)
				synctest.Wait()
				runs := m.Stats().Runs
				want := n
				if !test.twice {
					want-- // the one that is refused
				}
				c, err = m.Reconcile(t.Context(), "p/", slices.Values(test.spoil(numbered(n, "2"))))
				var refused *taskmanager.OptionError
				require.ErrorAs(t, err, &refused)
				require.EqualError(t, err, test.want)
				assert.Len(t, c.Replaced, want)
				assert.Empty(t, c.Stopped)
				assert.Empty(t, c.Started)
				synctest.Wait()
				assert.EqualValues(t, want, m.Stats().Runs-runs)
				assert.EqualValues(t, 1, outside.Stats().Runs)
				assert.Equal(t, taskmanager.StateRunning, outside.State())
			})
		})
	}
}

// What makes no sense changes nothing.
func TestReconcileRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "p/a", untilStopped)
		ctx := t.Context()
		for want, call := range map[string]func() (changes, error){
			"taskmanager: ctx <nil>: must not be nil":                     func() (changes, error) { return m.Reconcile(noContext, "p/", versions()) },
			"taskmanager: specs <nil>: must not be nil":                   func() (changes, error) { return m.Reconcile(ctx, "p/", nil) },
			`taskmanager: prefix "": must have 1 to 255 bytes, and has 0`: func() (changes, error) { return m.Reconcile(ctx, "", versions()) },
			`taskmanager: prefix "\xff": must be valid UTF-8`:             func() (changes, error) { return m.Reconcile(ctx, "\xff", versions()) },
			"taskmanager: Manager was not made by New":                    func() (changes, error) { return (*taskmanager.Manager)(nil).Reconcile(ctx, "p/", versions()) },
			context.Canceled.Error():                                      func() (changes, error) { return m.Reconcile(canceled(t), "p/", versions()) },
		} {
			c, err := call()
			require.EqualError(t, err, want)
			assert.Equal(t, changes{}, c)
		}
		assert.Equal(t, taskmanager.StateRunning, settled(task))
		require.NoError(t, m.Shutdown(ctx))
		for _, specs := range []iter.Seq[spec]{versions("p/b"), versions()} {
			_, err := m.Reconcile(ctx, "p/", specs)
			assert.Equal(t, taskmanager.ErrManagerClosed, err)
		}
	})
}

// A source that does not come to its end changes nothing, and is in nobody's way.
func TestReconcileWithASource(t *testing.T) {
	for name, end := range map[string]func(m *taskmanager.Manager, cancel context.CancelCauseFunc){
		"that panics":   func(*taskmanager.Manager, context.CancelCauseFunc) { panic("boom") },
		"that exits":    func(*taskmanager.Manager, context.CancelCauseFunc) { runtime.Goexit() },
		"that fails":    func(_ *taskmanager.Manager, cancel context.CancelCauseFunc) { cancel(errWhy) },
		"that is slow":  func(*taskmanager.Manager, context.CancelCauseFunc) { time.Sleep(time.Hour) },
		"that shuts us": func(m *taskmanager.Manager, _ context.CancelCauseFunc) { _ = m.Shutdown(context.Background()) },
		"that calls back": func(m *taskmanager.Manager, cancel context.CancelCauseFunc) {
			_, err := m.Reconcile(context.Background(), "p/", versions("p/a", "p/b"))
			cancel(errors.Join(errWhy, err))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				a, b := start(t, m, "p/a", untilStopped), start(t, m, "p/b", untilStopped)
				synctest.Wait()
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				returned := make(chan error, 1)
				go func() {
					defer close(returned)
					defer func() { _ = recover() }()
					_, err := m.Reconcile(ctx, "p/", func(yield func(spec) bool) {
						yield(spec{Name: "p/a", Body: boom, Version: "2"})
						end(m, cancel)
					})
					returned <- err
				}()
				synctest.Wait()
				switch name {
				case "that is slow":
					assert.Empty(t, returned)
				case "that shuts us":
					require.ErrorIs(t, <-returned, taskmanager.ErrManagerClosed)
					return
				case "that fails", "that calls back":
					require.ErrorIs(t, <-returned, errWhy)
				default:
					_, sent := <-returned
					assert.False(t, sent)
				}
				began := time.Now()
				c, err := m.Reconcile(t.Context(), "p/", versions("p/a", "p/b"))
				require.NoError(t, err)
				assert.Equal(t, changes{Unchanged: 2}, c)
				took(t, 0, began)
				assert.EqualValues(t, 1, a.Stats().Runs)
				assert.EqualValues(t, 1, b.Stats().Runs)
				if name == "that is slow" {
					time.Sleep(2 * time.Hour)
					require.NoError(t, <-returned)
					assert.Equal(t, taskmanager.StateStopped, b.State())
				}
			})
		})
	}
}

// An option that does not come back, or calls Reconcile itself, holds up no other call, and has changed nothing until then.
func TestReconcileWhilePolicy(t *testing.T) {
	for name, trap := range map[string]func(*taskmanager.Manager){
		"hangs": func(*taskmanager.Manager) { time.Sleep(time.Hour) },
		"exits": func(*taskmanager.Manager) { runtime.Goexit() },
		"calls": func(m *taskmanager.Manager) { _, _ = m.Reconcile(context.Background(), "q/", versions("q/a")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				a := start(t, m, "p/a", untilStopped)
				go func() {
					_, _ = m.Reconcile(t.Context(), "p/", slices.Values([]spec{{Name: "p/a", Body: untilStopped}, {
						Name: "p/b", Body: untilStopped, Options: []taskmanager.TaskOption{taskmanager.WithBackOffPolicy(func() backoff.BackOff {
							trap(m)
							return &backoff.ZeroBackOff{}
						})},
					}}))
				}()
				synctest.Wait()
				assert.Equal(t, name == "calls", m.IsRunning("p/b"))
				assert.Equal(t, name == "calls", m.IsRunning("q/a"))
				began := time.Now()
				c, err := m.Reconcile(t.Context(), "p/", versions("p/a"))
				require.NoError(t, err)
				took(t, 0, began)
				assert.Equal(t, 1, c.Unchanged)
				assert.Equal(t, taskmanager.StateRunning, settled(a))
				time.Sleep(2 * time.Hour)
				assert.Equal(t, name == "hangs", m.IsRunning("p/b"), "in its turn it goes on with what there is then")
			})
		})
	}
}

// What has changed while the options were called is found when it is the turn of the call: both what is not as it should be any more, and
// what has become so.
func TestReconcileComparesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "p/a", untilStopped)
		start(t, m, "p/b", untilStopped)
		slow := taskmanager.WithMiddleware(func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
			time.Sleep(time.Minute)
			return next
		})
		time.AfterFunc(time.Second, func() {
			_ = m.StopTask(context.Background(), "p/a")
			_, _ = m.StartTask("p/c", untilStopped)
		})
		c, err := m.Reconcile(t.Context(), "p/", slices.Values([]spec{
			{Name: "p/a", Body: untilStopped},
			{Name: "p/b", Body: untilStopped},
			{Name: "p/c", Body: untilStopped, Options: []taskmanager.TaskOption{slow}},
			{Name: "p/d", Body: untilStopped, Options: []taskmanager.TaskOption{slow}},
		}))
		require.NoError(t, err)
		assert.Equal(t, changes{Started: []string{"p/a", "p/d"}, Unchanged: 2}, c)
	})
}

// A call that gives up, or whose Manager is closed, while the options were called says so, and which specs are refused.
func TestReconcileEndsWhilePolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		ends := func(f func()) iter.Seq[spec] {
			return slices.Values([]spec{{Name: "p/a"}, {
				Name: "p/b", Body: untilStopped, Options: []taskmanager.TaskOption{taskmanager.WithMiddleware(func(next taskmanager.TaskFunc) taskmanager.TaskFunc {
					f()
					return next
				})},
			}})
		}
		c, err := m.Reconcile(ctx, "p/", ends(func() { cancel(errWhy) }))
		require.EqualError(t, err, `taskmanager: body <nil>: must not be nil: "p/a"`+"\n"+errWhy.Error())
		assert.Zero(t, c)
		c, err = m.Reconcile(t.Context(), "p/", ends(func() { _ = m.Shutdown(context.Background()) }))
		require.EqualError(t, err, `taskmanager: body <nil>: must not be nil: "p/a"`+"\n"+taskmanager.ErrManagerClosed.Error())
		assert.Zero(t, c)
		assert.False(t, m.IsRunning("p/b"))
	})
}

// The second one waits for the first, and finds what that has left.
func TestReconcileTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "p/slow", slowToStop(2*time.Second))
		synctest.Wait()
		first := make(chan changes)
		go func() {
			c, err := m.Reconcile(t.Context(), "p/", versions("p/a:1"))
			assert.NoError(t, err)
			first <- c
		}()
		synctest.Wait()
		began := time.Now()
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := m.Reconcile(ctx, "p/", versions())
			assert.Equal(t, context.DeadlineExceeded, err)
			took(t, time.Second, began)
		}()
		second := make(chan changes)
		go func() {
			c, err := m.Reconcile(t.Context(), "p/", versions("p/a:2", "p/b"))
			assert.NoError(t, err)
			second <- c
		}()
		assert.Equal(t, changes{Started: []string{"p/a"}, Stopped: []string{"p/slow"}}, <-first)
		assert.Equal(t, changes{Replaced: []string{"p/a"}, Started: []string{"p/b"}}, <-second)
		took(t, 2*time.Second, began)
	})
}

// From a body of one of them that stays, that is replaced, and that is stopped.
func TestReconcileFromABody(t *testing.T) {
	for _, names := range [][]string{{"p/a", "p/c"}, {"p/a:2", "p/c"}, {"p/c"}} {
		t.Run(fmt.Sprint(names), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				b := start(t, m, "p/b", slowToStop(time.Second))
				synctest.Wait()
				done := make(chan changes, 1)
				a := start(t, m, "p/a", func(ctx context.Context) error {
					c, err := m.Reconcile(ctx, "p/", versions(names...))
					assert.NoError(t, err)
					done <- c
					<-ctx.Done()
					return nil
				})
				began := time.Now()
				c := <-done
				took(t, time.Second, began)
				assert.Equal(t, []string{"p/c"}, c.Started)
				assert.Equal(t, taskmanager.StateStopped, settled(b))
				switch names[0] {
				case "p/a":
					assert.Equal(t, changes{Started: []string{"p/c"}, Stopped: []string{"p/b"}, Unchanged: 1}, c)
					assert.Equal(t, taskmanager.StateRunning, a.State())
				case "p/a:2":
					assert.Equal(t, []string{"p/a"}, c.Replaced)
					assert.Equal(t, taskmanager.StateRunning, a.State())
					assert.EqualValues(t, 1, a.Stats().Runs)
				default:
					assert.Equal(t, []string{"p/b"}, c.Stopped, "and not the one that has called, yet")
					assert.Equal(t, taskmanager.StateStopped, a.State())
				}
			})
		})
	}
}

// What is not wanted stops in order, while all others are replaced at once.
func TestReconcileTakesTheTimeOfTheSlowest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		m := newManager(t)
		log := newStopLog()
		for i := range 20 {
			start(t, m, fmt.Sprint("p/old", i), slowToStop(s))
			start(t, m, fmt.Sprint("p/new", i), slowToStop(2*s))
		}
		start(t, m, "p/a", log.body(s))
		start(t, m, "p/b", log.body(s), dependsOn("p/a"))
		synctest.Wait()
		log.begin()
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprint("p/new", i, ":2"))
		}
		began := time.Now()
		c, err := m.Reconcile(t.Context(), "p/", versions(names...))
		require.NoError(t, err)
		took(t, 2*s, began)
		assert.Len(t, c.Replaced, 20)
		assert.Len(t, c.Stopped, 22)
		assert.Equal(t, times{"p/b": 0, "p/a": s}, log.times())
	})
}

// A deadline leaves the rest to the next call.
func TestReconcileWithADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const s = time.Second
		m := newManager(t)
		start(t, m, "p/old", slowToStop(3*s))
		a := start(t, m, "p/a", slowToStop(3*s))
		synctest.Wait()
		reconcile := func(d time.Duration) (changes, error) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			defer time.AfterFunc(d, func() { cancel(errWhy) }).Stop()
			return m.Reconcile(ctx, "p/", versions("p/a:2", "p/b"))
		}
		c, err := reconcile(s)
		require.EqualError(t, err, errWhy.Error()+"\ntaskmanager: the replacement of a task goes on: "+errWhy.Error())
		assert.Equal(t, changes{Started: []string{"p/b"}}, c, "p/old has not stopped yet")
		assert.Equal(t, taskmanager.StateStopping, a.State())
		time.Sleep(3 * s)
		c, err = reconcile(s)
		require.NoError(t, err)
		assert.Equal(t, changes{Unchanged: 2}, c)
	})
}

// Dependencies may turn around from one configuration to the next.
func TestReconcileTurnsDependenciesAround(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		reconcile := func(version string, on map[string]string) changes {
			t.Helper()
			var specs []spec
			for _, name := range slices.Sorted(maps.Keys(on)) {
				s := spec{Name: name, Body: slowToStop(time.Second), Version: version}
				if on[name] != "" {
					s.Options = []taskmanager.TaskOption{dependsOn(on[name])}
				}
				specs = append(specs, s)
			}
			c, err := m.Reconcile(t.Context(), "p/", slices.Values(specs))
			require.NoError(t, err)
			synctest.Wait()
			return c
		}
		reconcile("1", map[string]string{"p/a": "", "p/b": "p/a", "p/c": "p/b"})
		assert.Len(t, reconcile("2", map[string]string{"p/a": "p/b", "p/b": "p/c", "p/c": ""}).Replaced, 3)
		assert.Equal(t, 3, m.Stats().Running)
		a, _ := m.Lookup("p/a")
		assert.Equal(t, []string{"p/b"}, a.Stats().DependsOn)
	})
}

// Of 5,000 tasks: to find that nothing has changed takes 5 ms at most, and to start them 3 times what StartTask takes. A machine that is
// busy with something else has several attempts.
func TestReconcileTakesLittleTime(t *testing.T) {
	if underRace {
		t.Skip("it takes several times as long")
	}
	const n, attempts = 5000, 50
	var (
		ctx   = context.Background()
		specs = numbered(n, "1")
		least = [3]time.Duration{time.Hour, time.Hour, time.Hour}
	)
	measure := func(i int, f func(m *taskmanager.Manager), m *taskmanager.Manager) {
		began := time.Now()
		f(m)
		least[i] = min(least[i], time.Since(began))
	}
	reconcile := func(m *taskmanager.Manager) {
		c, err := m.Reconcile(ctx, "p/", slices.Values(specs))
		if err != nil || len(c.Started)+c.Unchanged != n {
			assert.Fail(t, "not all are as wanted")
		}
	}
	byHand := func(m *taskmanager.Manager) {
		for _, s := range specs {
			if _, err := m.StartTask(s.Name, s.Body, s.Options...); err != nil {
				assert.NoError(t, err)
			}
		}
	}
	for range attempts {
		m, other := mustNew(t), mustNew(t)
		measure(0, reconcile, m)
		measure(1, reconcile, m)
		measure(2, byHand, other)
		require.NoError(t, m.StopAll(ctx))
		require.NoError(t, other.StopAll(ctx))
		if least[1] <= 5*time.Millisecond && least[0] <= 3*least[2] {
			return
		}
	}
	assert.Fail(t, "it takes too long", "started %v, unchanged %v, started by hand %v", least[0], least[1], least[2])
}

// One that is replaced by its own call waits for the others all the same.
func TestReconcileFromABodyThatIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "p/b", slowToStop(time.Second))
		synctest.Wait()
		done := make(chan changes, 1)
		began := time.Now()
		start(t, m, "p/a", func(ctx context.Context) error {
			c, err := m.Reconcile(ctx, "p/", versions("p/a:2", "p/b:2"))
			assert.NoError(t, err)
			done <- c
			return nil
		})
		assert.Equal(t, changes{Replaced: []string{"p/a", "p/b"}}, <-done)
		took(t, time.Second, began)
	})
}

// A task of another Manager is no part of it, whatever its name is, nor is one of another name: the call ends with the run of that.
func TestReconcileFromABodyThatIsNoPartOfIt(t *testing.T) {
	for _, name := range []string{"p/a", "q"} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			other := m
			if name == "p/a" {
				other = newManager(t)
			}
			replaced := start(t, m, "p/a", slowToStop(2*time.Second))
			synctest.Wait()
			errs := make(chan error, 1)
			caller := start(t, other, name, func(ctx context.Context) error {
				_, err := m.Reconcile(ctx, "p/", versions("p/a:2"))
				errs <- err
				return nil
			})
			time.Sleep(time.Second)
			began := time.Now()
			require.NoError(t, caller.Stop(t.Context()))
			took(t, 0, began)
			require.ErrorIs(t, <-errs, taskmanager.ErrStopped)
			time.Sleep(time.Second)
			synctest.Wait()
			assert.Equal(t, taskmanager.StateRunning, replaced.State(), "it goes on")
		})
	}
}

// A task that is being stopped or replaced is not as wanted yet, whatever its version is by now.
func TestReconcileWhileUnderWay(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		begin    func(ctx context.Context, m *taskmanager.Manager) error // has its ctx canceled after 1 s
		replaced bool
		is       error
	}{
		"replaced": {func(ctx context.Context, m *taskmanager.Manager) error {
			_, err := m.Reconcile(ctx, "p/", versions("p/a:3"))
			return err
		}, true, nil},
		"replaced by hand": {func(ctx context.Context, m *taskmanager.Manager) error {
			_, err := m.ReplaceTask(ctx, "p/a", untilStopped)
			return err
		}, true, nil},
		"removed": {func(ctx context.Context, m *taskmanager.Manager) error {
			_, err := m.Reconcile(ctx, "p/", versions())
			return err
		}, false, taskmanager.ErrStopped},
		"stopped by hand": {
			func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "p/a") }, false, taskmanager.ErrStopped,
		},
		"paused": {func(ctx context.Context, m *taskmanager.Manager) error { return m.PauseTask(ctx, "p/a") }, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				bodies := 0
				wanted := slices.Values([]spec{{Name: "p/a", Version: "2", Body: func(ctx context.Context) error {
					bodies++
					return slowToStop(3 * s)(ctx)
				}}})
				reconcile := func() (changes, error) { return m.Reconcile(t.Context(), "p/", wanted) }
				_, err := reconcile()
				require.NoError(t, err)
				synctest.Wait()
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				defer time.AfterFunc(s, func() { cancel(errWhy) }).Stop()
				began := time.Now()
				require.ErrorIs(t, test.begin(ctx, m), errWhy)
				c, err := reconcile()
				switch {
				case test.replaced:
					require.NoError(t, err)
					assert.Equal(t, changes{Replaced: []string{"p/a"}}, c)
					took(t, 3*s, began)
				case test.is != nil:
					require.ErrorIs(t, err, test.is)
					require.ErrorContains(t, err, `task "p/a" is being stopped`)
					assert.Equal(t, changes{}, c)
					took(t, s, began)
					time.Sleep(3 * s)
					c, err = reconcile()
					require.NoError(t, err)
					assert.Equal(t, changes{Started: []string{"p/a"}}, c)
				default:
					require.NoError(t, err)
					assert.Equal(t, changes{Unchanged: 1}, c)
					return
				}
				synctest.Wait()
				assert.Equal(t, 2, bodies, "it is that of the spec")
				c, err = reconcile()
				require.NoError(t, err)
				assert.Equal(t, changes{Unchanged: 1}, c)
			})
		})
	}
}

// A body that does not return does not keep the others from being started, however little time there is.
func TestReconcileWithAStuckOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		deaf := newDeafBody()
		start(t, m, "p/deaf", deaf.run)
		synctest.Wait()
		reconcile := func(want changes, timeout time.Duration, names ...string) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			c, err := m.Reconcile(ctx, "p/", versions(names...))
			asStuck(t, err, "p/deaf", time.Second)
			assert.Equal(t, want, c)
			took(t, timeout, began)
		}
		reconcile(changes{Started: []string{"p/a"}}, time.Second, "p/a")
		reconcile(changes{Started: []string{"p/b"}, Unchanged: 1}, 0, "p/a", "p/b")
		deaf.release()
		synctest.Wait()
	})
}

// All that are part of a cycle are refused, and none of those that only depend on them.
func TestReconcileRefusesAllOfACycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "q", untilStopped, dependsOn("p/c"))
		specs := func(pairs ...string) iter.Seq[spec] {
			var specs []spec
			for _, pair := range pairs {
				name, on, _ := strings.Cut(pair, " ")
				specs = append(specs, spec{Name: name, Body: untilStopped, Options: []taskmanager.TaskOption{dependsOn(strings.Fields(on)...)}})
			}
			return slices.Values(specs)
		}
		c, err := m.Reconcile(t.Context(), "p/", specs("p/a p/b", "p/b p/a p/d", "p/c q", "p/d p/e", "p/e p/d", "p/f p/a", "p/g"))
		require.EqualError(t, err, strings.Join([]string{
			`taskmanager: WithDependsOn("p/b"): makes a cycle: "p/a" -> "p/b" -> "p/a": "p/a"`,
			`taskmanager: WithDependsOn("p/a", "p/d"): makes a cycle: "p/b" -> "p/a" -> "p/b": "p/b"`,
			`taskmanager: WithDependsOn("q"): makes a cycle: "p/c" -> "q" -> "p/c": "p/c"`,
			`taskmanager: WithDependsOn("p/e"): makes a cycle: "p/d" -> "p/e" -> "p/d": "p/d"`,
			`taskmanager: WithDependsOn("p/d"): makes a cycle: "p/e" -> "p/d" -> "p/e": "p/e"`,
		}, "\n"))
		assert.Equal(t, changes{Started: []string{"p/f", "p/g"}}, c)
	})
}

// A task that is removed makes no cycle.
func TestReconcileRemovesACycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "p/old", slowToStop(time.Second))
		start(t, m, "p/older", untilStopped, dependsOn("p/a"))
		_, err := m.ReplaceTask(t.Context(), "p/old", slowToStop(time.Second), dependsOn("p/older"))
		require.NoError(t, err)
		synctest.Wait()
		c, err := m.Reconcile(t.Context(), "p/", slices.Values([]spec{{Name: "p/a", Body: untilStopped, Options: []taskmanager.TaskOption{dependsOn("p/old")}}}))
		require.NoError(t, err)
		assert.Equal(t, changes{Started: []string{"p/a"}, Stopped: []string{"p/old", "p/older"}}, c)
	})
}

// Nor does one that has ended; and one that is removed makes none as soon as it has stopped.
func TestReconcileTurnsOneDependencyAround(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		specs := func(on string) iter.Seq[spec] {
			return slices.Values([]spec{{Name: "p/a", Body: untilStopped, Options: []taskmanager.TaskOption{dependsOn(on)}, Version: on}})
		}
		start(t, m, "p/a", untilStopped)
		require.NoError(t, start(t, m, "q", succeed, dependsOn("p/a")).Wait(t.Context()))
		c, err := m.Reconcile(t.Context(), "p/", specs("q"))
		require.NoError(t, err)
		assert.Equal(t, changes{Replaced: []string{"p/a"}}, c)

		start(t, m, "p/old", slowToStop(time.Second), dependsOn("p/a"))
		synctest.Wait()
		began := time.Now()
		c, err = m.Reconcile(t.Context(), "p/", specs("p/old"))
		require.NoError(t, err)
		assert.Equal(t, changes{Replaced: []string{"p/a"}, Stopped: []string{"p/old"}}, c)
		took(t, time.Second, began)
	})
}

// What makes a cycle until others have stopped is not started when nobody waits any more.
func TestReconcileThatIsCanceledRemovesNoCycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		// All of the cycle has yet to stop when it is looked at.
		start(t, m, "p/a", untilStopped)
		start(t, m, "p/older", slowToStop(400*time.Millisecond), dependsOn("p/a"))
		start(t, m, "p/old", slowToStop(400*time.Millisecond), dependsOn("p/older"))
		start(t, m, "p/slow", slowToStop(3*time.Second))
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "p/a"))
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer time.AfterFunc(time.Second, func() { cancel(errWhy) }).Stop()
		specs := slices.Values([]spec{{Name: "p/a", Body: untilStopped, Options: []taskmanager.TaskOption{dependsOn("p/old")}}})
		c, err := m.Reconcile(ctx, "p/", specs)
		require.ErrorIs(t, err, errWhy)
		var cycle *taskmanager.OptionError
		require.ErrorAs(t, err, &cycle)
		assert.Equal(t, changes{Stopped: []string{"p/old", "p/older"}}, c)
		time.Sleep(3 * time.Second)
		c, err = m.Reconcile(t.Context(), "p/", specs)
		require.NoError(t, err)
		assert.Equal(t, changes{Started: []string{"p/a"}}, c)
	})
}

// One that was given up is no failure any more when nobody wants it.
func TestReconcileForgetsWhatWasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "p/a", boom, once(), taskmanager.WithCritical())
		start(t, m, "q", boom, once())
		synctest.Wait()
		require.Equal(t, 2, m.Stats().Failed)
		c, err := m.Reconcile(t.Context(), "p/", versions())
		require.NoError(t, err)
		assert.Equal(t, changes{}, c)
		_, known := m.Lookup("p/a")
		assert.False(t, known)
		assert.Equal(t, 1, m.Stats().Failed)
		n, err := m.RestartFailed(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, n, "q")
		synctest.Wait()
	})
}

// A critical task that waits for one that was given up is gone, and is not when that is forgotten.
func TestReconcileForgetsWhatOthersWaitFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "p/a", boom, once())
		synctest.Wait() // else it may be ready at that moment
		start(t, m, "waits", untilStopped, dependsOn("p/a"), critical)
		synctest.Wait()
		require.Equal(t, taskmanager.HealthFailing, m.Health().State)
		_, err := m.Reconcile(t.Context(), "p/", versions())
		require.NoError(t, err)
		synctest.Wait()
		assert.Equal(t, taskmanager.HealthDegraded, m.Health().State)
		r, cancel := goRun(t, m)
		r.lives(t)
		cancel()
		require.NoError(t, r.err(t, 0))
	})
}

// A countedContext has ended when it has been asked for its error so often.
type countedContext struct {
	context.Context
	calls *int
}

func (c countedContext) Err() error {
	if *c.calls--; *c.calls < 0 {
		return context.Canceled
	}
	return nil
}

// Whenever its context ends, a call has done what it says, or says why it has not.
func TestReconcileWhoseContextEnds(t *testing.T) {
	for calls := range 8 {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			left := calls
			c, err := m.Reconcile(countedContext{t.Context(), &left}, "p/", versions("p/a"))
			assert.Equal(t, m.IsRunning("p/a"), len(c.Started) == 1, "after %d calls", calls)
			if len(c.Started) == 0 {
				assert.ErrorIs(t, err, context.Canceled, "after %d calls", calls)
			}
		})
	}
}

// The options of what is as wanted are not looked at, whatever else there is to do.
func TestReconcileCallsNoOptionOfWhatIsUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		made := 0
		specs := []spec{{Name: "p/a", Body: untilStopped, Options: []taskmanager.TaskOption{taskmanager.WithBackOffPolicy(func() backoff.BackOff {
			made++
			return &backoff.ZeroBackOff{}
		})}}}
		_, err := m.Reconcile(t.Context(), "p/", slices.Values(specs))
		require.NoError(t, err)
		c, err := m.Reconcile(t.Context(), "p/", slices.Values(append(specs, spec{Name: "p/b", Body: untilStopped})))
		require.NoError(t, err)
		assert.Equal(t, changes{Started: []string{"p/b"}, Unchanged: 1}, c)
		assert.Equal(t, 1, made)
	})
}
