package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// quiet is for tests of what is reported.
func quiet() taskmanager.Option { return taskmanager.WithLogger(slog.New(slog.DiscardHandler)) }

// While the receiver is away for a minute, 5,000 tasks fail because of the same thing until they are given up: few messages say so,
// and the last of them comes within a minute of its return.
func TestReportsOfAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tasks, outage = 5000, time.Minute
		r := newInbox(nil)
		var told []taskmanager.Event
		var last time.Duration
		r.answer = func(_ context.Context, _ int, e taskmanager.Event) error {
			if time.Since(r.began) < outage {
				return errDeaf
			}
			told, last = append(told, e), time.Since(r.began)
			return nil
		}
		m := observed(t, taskmanager.WithReporter(r), taskmanager.WithRestartLimit(rate.Inf, 1), quiet())
		for i := range tasks {
			start(t, m, strconv.Itoa(i), boom, taskmanager.WithBackoff(time.Second, time.Second))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.LessOrEqual(t, len(told), 5)
		assert.Less(t, last, outage+time.Minute)
		var sum int
		byKind := map[taskmanager.EventKind]int{}
		for _, e := range told {
			sum += 1 + e.Repeats
			if e.TaskCount > 0 {
				byKind[e.Kind] = e.TaskCount
				assert.Equal(t, errBoom, e.Err, "and not that one of them was given up")
				assert.Empty(t, e.Task)
				assert.Len(t, e.Tasks, 10)
				assert.Zero(t, e.Run)
				assert.Zero(t, e.MaxRestarts)
			}
		}
		assert.Equal(t, tasks*6, sum)
		// The one that was tried first stays for itself.
		assert.InDelta(t, tasks, byKind[taskmanager.EventFailed], 1)
		assert.Equal(t, tasks, byKind[taskmanager.EventGaveUp])
		assert.Equal(t, reportCount{delivered: tasks * 6}, reportsOf(m))
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// Up to five tasks are told apart, whatever their errors are; of more, those with the same error are one report.
func TestReportsOfTheSameError(t *testing.T) {
	for name, test := range map[string]struct {
		errs []string
		want []string
	}{
		"five":           {[]string{"x", "x", "x", "x", "x"}, []string{"a x", "b x", "c x", "d x", "e x"}},
		"six":            {[]string{"x", "x", "x", "x", "x", "x"}, []string{"6 tasks [a b c d e f] x"}},
		"two errors":     {[]string{"x", "y", "x", "y", "x", "z"}, []string{"3 tasks [a c e] x", "2 tasks [b d] y", "f z"}},
		"all different":  {[]string{"1", "2", "3", "4", "5", "6"}, []string{"a 1", "b 2", "c 3", "d 4", "e 5", "f 6"}},
		"more than some": {many(20), append(namedErrors(16), "4 tasks [q r s t] 20")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				var got []string
				r := newInbox(func(_ context.Context, n int, e taskmanager.Event) error {
					if n == 1 {
						<-release
						return nil
					}
					who := e.Task
					if e.TaskCount > 0 {
						who = fmt.Sprintf("%d tasks %v", e.TaskCount, e.Tasks)
					}
					err := e.Err
					if gaveUp, ok := err.(*taskmanager.GiveUpError); ok { //nolint:errorlint // the event's own
						err = gaveUp.Err
					}
					got = append(got, fmt.Sprintf("%s %v", who, err))
					return nil
				})
				m := observed(t, taskmanager.WithReporter(r), noReportLimit(), quiet())
				failing(t, m, "first")
				synctest.Wait()
				for i, text := range test.errs {
					task := start(t, m, string(rune('a'+i)), func(context.Context) error { return errors.New(text) }, once())
					require.Error(t, task.Wait(t.Context()))
				}
				close(release)
				synctest.Wait()
				assert.Equal(t, test.want, got)
			})
		})
	}
}

func many(n int) (errs []string) {
	for i := range n {
		errs = append(errs, strconv.Itoa(i+1))
	}
	return errs
}

func namedErrors(n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprintf("%c %d", 'a'+i, i+1))
	}
	return lines
}

// A panic has the same text in many places: it is the place that tells which are the same.
func TestReportsOfPanicsAtDifferentPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newHeldInbox(release)
		m := observed(t, taskmanager.WithReporter(r), noReportLimit(), quiet())
		failing(t, m, "first")
		synctest.Wait()
		here := func(context.Context) error { panic("oops") }
		there := func(context.Context) error { panic("oops") }
		for i := range 3 {
			require.Error(t, start(t, m, fmt.Sprint("here", i), here, once()).Wait(t.Context()))
			require.Error(t, start(t, m, fmt.Sprint("there", i), there, once()).Wait(t.Context()))
		}
		close(release)
		synctest.Wait()
		events := r.events()
		require.Len(t, events, 3)
		assert.Equal(t, []string{"here0", "here1", "here2"}, events[1].Tasks)
		assert.Equal(t, []string{"there0", "there1", "there2"}, events[2].Tasks)
	})
}

// Error of an event's error is user code as well: it may cost the report that it is about its place among others, and no more.
func TestReportsWhoseErrorsAreAwkward_Promise4(t *testing.T) {
	for way, do := range map[string]func(m *taskmanager.Manager){
		"slow":     func(*taskmanager.Manager) { time.Sleep(3 * time.Second) },
		"panics":   func(*taskmanager.Manager) { panic("not now") },
		"exits":    func(*taskmanager.Manager) { runtime.Goexit() },
		"calls":    func(m *taskmanager.Manager) { m.Stats(); m.SetReporter(nil) },
		"hangs":    func(*taskmanager.Manager) { time.Sleep(10 * time.Minute) },
		"shutdown": func(m *taskmanager.Manager) { _ = m.Shutdown(context.Background()) },
	} {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				r := newHeldInbox(release)
				m := observed(t, taskmanager.WithReporter(r), noReportLimit(), quiet())
				parked := start(t, m, "parked", untilStopped)
				failing(t, m, "first")
				synctest.Wait()
				for i := range 10 {
					err := errBoom
					if i == 5 {
						err = awkwardTextError(func() { do(m) })
					}
					require.Error(t, start(t, m, strconv.Itoa(i), func(context.Context) error { return err }, once()).Wait(t.Context()))
				}
				close(release)
				synctest.Wait()
				began := time.Now()
				_ = parked.Stop(t.Context()) // it may have been shut down
				took(t, 0, began)
				_ = m.Shutdown(t.Context())
				time.Sleep(time.Hour)
				s := reportsOf(m)
				assert.EqualValues(t, 11, s.delivered+s.lost)
				switch way {
				case "slow", "exits": // those after it have not been read
					assert.Zero(t, s.lost)
					assert.Equal(t, 7, len(r.events()), "the first; five with the same error; the awkward one; the others") //nolint:testifylint // Len would print them
				case "panics":
					assert.Zero(t, s.lost)
					assert.Equal(t, 3, len(r.events()), "the first; nine with the same error; the awkward one") //nolint:testifylint // Len would print them
				}
				assert.Equal(t, 1, r.mostAtOnce())
			})
		})
	}
}

// An awkwardTextError does something when it is asked for its text.
type awkwardTextError func()

func (f awkwardTextError) Error() string { f(); return "awkward" }

// What a group's run has not yet reported when it ends is reported for as long as it takes, by the Reporter of its next run if that is
// the same, from one goroutine at a time; and Shutdown of the outermost Manager waits for it.
func TestReportsOfAGroupThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		r := newInbox(nil)
		r.answer = func(context.Context, int, taskmanager.Event) error {
			time.Sleep(8 * time.Second)
			if away.Load() {
				return errDeaf
			}
			return nil
		}
		m := observed(t, quiet())
		group := taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("a", boom, once(), taskmanager.WithCritical())
			return err
		}, taskmanager.WithReporter(r), noReportLimit())
		task := start(t, m, "g", group, everyTime(time.Second, 30)...)
		require.Error(t, task.Wait(t.Context()))
		time.Sleep(time.Hour)
		assert.EqualValues(t, 30, r.sum(), "no run of the group has lost its failure")
		assert.Equal(t, 1, r.mostAtOnce())

		away.Store(true)
		task = start(t, m, "h", group, once())
		require.Error(t, task.Wait(t.Context()))
		time.AfterFunc(18*time.Second, func() { away.Store(false) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		require.NoError(t, m.Shutdown(ctx))
		took(t, (8+1+8+1+8)*time.Second, began)
	})
}

// Reporters that are others in each run of a group don't gather.
func TestReportsOfAGroupWithOtherReportersInEachRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelError)
		m := observed(t, taskmanager.WithLogger(slog.New(lines)))
		task := start(t, m, "g", func(ctx context.Context) error {
			return taskmanager.Group(func(m *taskmanager.Manager) error {
				_, err := m.StartTask("a", boom, once(), taskmanager.WithCritical())
				return err
			}, taskmanager.WithReporter(newInbox(func(context.Context, int, taskmanager.Event) error { return errDeaf })))(ctx)
		}, everyTime(time.Millisecond, 50)...)
		require.Error(t, task.Wait(t.Context()))
		synctest.Wait()
		assert.Len(t, lines.about("no time left to report events"), 50-4)
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Len(t, lines.about("no time left to report events"), 50)
	})
}

// To take a Reporter away and set it again is no way around its limit, nor around the time for which it wants to be left alone.
func TestSetReporterKeepsToTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
			if n == 4 {
				return busyError(time.Minute)
			}
			return nil
		})
		m := observed(t, taskmanager.WithReporter(r), taskmanager.WithReportLimit(1, 1), quiet())
		for range 6 {
			failing(t, m, "a")
			synctest.Wait()
			m.SetReporter(taskmanager.MultiReporter())
			m.SetReporter(r)
			time.Sleep(time.Second)
		}
		failing(t, m, "a")
		time.Sleep(time.Hour)
		assert.Equal(t, []string{
			"0s a gave up run=1 repeats=0", "1s a gave up run=1 repeats=0", "2s a gave up run=1 repeats=0",
			"3s a gave up run=1 repeats=0", "1m3s a gave up run=1 repeats=0",
		}, r.got())
	})
}

// Several reports that the Reporter can't take, and does not say so, hold up others for a while, and not for ever.
func TestReportsThatCannotBeTaken(t *testing.T) {
	for name, reporter := range map[string]func(answer func(task string) error) taskmanager.Reporter{
		"one by one": func(answer func(task string) error) taskmanager.Reporter {
			return newInbox(func(_ context.Context, _ int, e taskmanager.Event) error { return answer(e.Task) })
		},
		"batches": func(answer func(task string) error) taskmanager.Reporter {
			return newBatcher(func(_ context.Context, _ int, events []taskmanager.Event) (int, error) {
				for _, e := range events {
					if err := answer(e.Task); err != nil {
						return 0, err
					}
				}
				return len(events), nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := observed(t, quiet(), taskmanager.WithReporter(reporter(func(task string) error {
					if strings.HasPrefix(task, "poison") {
						return errDeaf
					}
					return nil
				})))
				fails := func(task string) {
					start(t, m, task, func(context.Context) error { return errors.New(task) }, once())
				}
				for _, task := range []string{"poison 1", "poison 2", "good 1", "good 2"} {
					fails(task)
					time.Sleep(time.Millisecond)
				}
				time.Sleep(10 * time.Minute)
				assert.Equal(t, reportCount{delivered: 2, waiting: 2}, reportsOf(m))
				for i := range 60 { // and one each twenty seconds
					fails(fmt.Sprint("later ", i))
					time.Sleep(20 * time.Second)
				}
				time.Sleep(5 * time.Minute)
				assert.Equal(t, reportCount{delivered: 2 + 60, waiting: 2}, reportsOf(m))
				m.SetReporter(nil)
				time.Sleep(time.Hour)
			})
		})
	}
}

// What waits for several Reporters, merged in different ways, reaches the one that replaces them, rather twice than not at all.
func TestSetReporterPassesOnWhatIsMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		always := newInbox(func(context.Context, int, taskmanager.Event) error { return errDeaf })
		sometimes := newInbox(func(context.Context, int, taskmanager.Event) error {
			if away.Load() {
				return errDeaf
			}
			return nil
		})
		m := observed(t, quiet(), taskmanager.WithReporter(taskmanager.MultiReporter(always, sometimes)))
		for i := range 20 {
			start(t, m, fmt.Sprint("old ", i), boom, once())
		}
		time.Sleep(10*time.Minute + 10*time.Second)
		away.Store(true)
		for i := range 25 {
			start(t, m, fmt.Sprint("new ", i), boom, once())
		}
		time.Sleep(4 * time.Second)
		var told []taskmanager.Event
		m.SetReporter(taskmanager.ReporterFunc(func(_ context.Context, e taskmanager.Event) error { told = append(told, e); return nil }))
		time.Sleep(time.Hour)
		synctest.Wait()
		tasks := 0
		for _, e := range told {
			tasks += max(1, e.TaskCount)
		}
		assert.GreaterOrEqual(t, tasks, 45)
	})
}

// A Reporter that a group sets when it starts is called from one goroutine at a time, through all of its runs.
func TestReporterThatAGroupSets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(func(context.Context, int, taskmanager.Event) error { time.Sleep(time.Hour); return nil })
		m := observed(t, quiet())
		task := start(t, m, "g", taskmanager.Group(func(m *taskmanager.Manager) error {
			m.SetReporter(r)
			_, err := m.StartTask("a", boom, once(), taskmanager.WithCritical())
			return err
		}), everyTime(time.Second, 5)...)
		require.Error(t, task.Wait(t.Context()))
		time.Sleep(24 * time.Hour)
		assert.Equal(t, 1, r.mostAtOnce())
		assert.EqualValues(t, 5, r.sum())
	})
}

// Shutdown delivers the reports of a group that is stuck as well.
func TestShutdownDeliversReportsOfAStuckGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newInbox(nil)
		m := observed(t, quiet())
		start(t, m, "g", taskmanager.Group(func(m *taskmanager.Manager) error {
			if _, err := m.StartTask("deaf", ignoring(release)); err != nil {
				return err
			}
			_, err := m.StartTask("a", boom, everyTime(time.Second, 6)...)
			return err
		}, taskmanager.WithReporter(r), taskmanager.WithReportLimit(rate.Every(time.Hour), 1)))
		time.Sleep(time.Minute)
		require.Error(t, m.Shutdown(t.Context()))
		assert.EqualValues(t, 6+1, r.sum(), "and that one is stuck")
		close(release)
	})
}

// One that is set again beside a new one, while it has something in hand, has the new one told of that, too.
func TestSetReporterBesideOneThatWasReplaced(t *testing.T) {
	for name, before := range map[string]func(b taskmanager.Reporter) taskmanager.Reporter{
		"by the other one": func(b taskmanager.Reporter) taskmanager.Reporter { return b },
		"by none":          func(taskmanager.Reporter) taskmanager.Reporter { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newInbox(func(ctx context.Context, _ int, _ taskmanager.Event) error { <-ctx.Done(); return errDeaf })
				b := newInbox(nil)
				m := observed(t, quiet(), taskmanager.WithReporter(a))
				failing(t, m, "t")
				time.Sleep(time.Second)
				m.SetReporter(before(b))
				m.SetReporter(taskmanager.MultiReporter(b, a))
				synctest.Wait()
				assert.EqualValues(t, 1, b.sum())
				m.SetReporter(nil)
				time.Sleep(time.Hour)
			})
		})
	}
}

// The tasks that wait for one of those for which a merged report stands are in it.
func TestReportsOfTasksWithDependents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newHeldInbox(release)
		m := observed(t, quiet(), noReportLimit(), taskmanager.WithReporter(r))
		failing(t, m, "first")
		synctest.Wait()
		for i := range 7 {
			start(t, m, fmt.Sprint("dependent ", i), untilStopped, taskmanager.WithDependsOn(strconv.Itoa(i)))
			failing(t, m, strconv.Itoa(i))
		}
		close(release)
		synctest.Wait()
		events := r.events()
		require.Len(t, events, 2)
		assert.Equal(t, 7, events[1].DependentCount)
		assert.Len(t, events[1].Dependents, 7)
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// One that can't be taken waits behind the others: these come without it in between, also if they come later.
func TestReportsGoOnWithoutOneThatCannotBeTaken(t *testing.T) {
	const others = 8
	name := func(i int) string { return fmt.Sprint("good ", i) }
	begin := func(t *testing.T, r taskmanager.Reporter) *taskmanager.Manager {
		t.Helper()
		m := observed(t, quiet(), noReportLimit(), taskmanager.WithReporter(r))
		for i := range others + 1 {
			task := "poison"
			if i > 0 {
				task = name(i)
			}
			start(t, m, task, func(context.Context) error { return errors.New(task) }, once())
			time.Sleep(time.Millisecond)
		}
		return m
	}
	t.Run("one by one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newInbox(func(_ context.Context, _ int, e taskmanager.Event) error {
				if e.Task == "poison" {
					return errDeaf
				}
				return nil
			})
			m := begin(t, r)
			time.Sleep(time.Minute)
			var calls []string
			for _, e := range r.events() {
				calls = append(calls, e.Task)
			}
			want := []string{"poison", "poison", "poison", name(1), "poison"}
			for i := 2; i <= others; i++ {
				want = append(want, name(i))
			}
			assert.Equal(t, want, calls[:len(want)])
			m.SetReporter(nil)
			time.Sleep(time.Hour)
		})
	})
	t.Run("batches", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			told := make(map[string]time.Time)
			r := newBatcher(func(_ context.Context, _ int, events []taskmanager.Event) (int, error) {
				if slices.ContainsFunc(events, func(e taskmanager.Event) bool { return e.Task == "poison" }) {
					return 0, errDeaf
				}
				for _, e := range events {
					told[e.Task] = time.Now()
				}
				return len(events), nil
			})
			m := begin(t, r)
			time.Sleep(10 * time.Minute)
			failed := make(map[string]time.Time)
			for i := range 50 {
				task := fmt.Sprint("later ", i)
				failed[task] = time.Now()
				start(t, m, task, func(context.Context) error { return errors.New(task) }, once())
				time.Sleep(20 * time.Second)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			for task, at := range failed {
				assert.LessOrEqual(t, told[task].Sub(at), 31*time.Second, "%s: the longest pause after a failure", task)
			}
			assert.Len(t, told, others+50)
			m.SetReporter(nil)
			time.Sleep(time.Hour)
		})
	})
}
