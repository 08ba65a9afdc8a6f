package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
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
func TestReportContextEndsWithIt(t *testing.T) {
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

// An awkwardError does something else before each of its methods returns.
type awkwardError struct{ before func(method string) }

func (e awkwardError) Error() string { e.before("Error"); return "awkward" }

func (e awkwardError) Is(error) bool { e.before("Is"); return false }

func (e awkwardError) As(any) bool { e.before("As"); return false }

func (e awkwardError) Unwrap() error { e.before("Unwrap"); return errDeaf }

func (e awkwardError) RetryAfter() time.Duration { e.before("RetryAfter"); return 2 * time.Second }

// An unaskedError is an awkwardError that is no more than an error.
type unaskedError struct{ error }

func (e unaskedError) Is(target error) bool { return e.error.(awkwardError).Is(target) }

func (e unaskedError) As(target any) bool { return e.error.(awkwardError).As(target) } //nolint:errorlint // it is one

func (e unaskedError) Unwrap() error { return e.error.(awkwardError).Unwrap() } //nolint:errorlint // it is one

// The methods of a Reporter's error are part of the call. One that panics or ends the goroutine costs what it was to say; one that is
// slow is waited for.
func TestReporterWhoseErrorIsAwkward(t *testing.T) {
	errorOf := func(method string, do func()) error {
		e := awkwardError{func(m string) {
			if m == method {
				do()
			}
		}}
		if method == "RetryAfter" {
			return e
		}
		return unaskedError{e}
	}
	for _, method := range []string{"Error", "Is", "As", "Unwrap", "RetryAfter"} {
		for way, test := range map[string]struct {
			do   func()
			next time.Duration // when the next call is
		}{
			"slow":   {func() { time.Sleep(3 * time.Second) }, 5 * time.Second},
			"panics": {func() { panic("not now") }, 2 * time.Second},
			"exits":  {runtime.Goexit, 2 * time.Second},
		} {
			if way == "slow" {
				switch method {
				case "RetryAfter":
					test.next += time.Second // it is waited for, and is two seconds
				case "As":
					test.next += 3 * time.Second // it is called for what may refuse, and for what may ask for time
				case "Unwrap":
					test.next += 6 * time.Second // so it is, and by errors.Is
				}
			}
			t.Run(method+"/"+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					lines := newLines(slog.LevelError)
					r := newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
						if n == 1 {
							time.Sleep(time.Second)
							return errorOf(method, test.do)
						}
						return nil
					})
					m := newManager(t, taskmanager.WithReporter(r), noReportLimit(), taskmanager.WithLogger(slog.New(lines)))
					failing(t, m, "a")
					synctest.Wait()
					failing(t, m, "b")
					time.Sleep(time.Minute)
					synctest.Wait()
					assert.Equal(t, []string{
						"0s a gave up run=1 repeats=0",
						fmt.Sprintf("%v a gave up run=1 repeats=0", test.next), // what happened first is told first
						fmt.Sprintf("%v b gave up run=1 repeats=0", test.next),
					}, r.got())
					assert.Equal(t, reportCount{delivered: 2}, reportsOf(m))
					assert.Equal(t, 1, r.mostAtOnce())
					assert.Len(t, lines.about("reporter failed, will retry"), 1)
				})
			})
		}
	}
}

// One that hangs is a Reporter that does not return: nobody else waits, and it can be replaced.
func TestReporterWhoseErrorHangs(t *testing.T) {
	for _, method := range []string{"Error", "Is", "As", "Unwrap", "RetryAfter"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelError)
				r := newInbox(func(context.Context, int, taskmanager.Event) error {
					e := awkwardError{func(m string) {
						if m == method {
							time.Sleep(time.Hour)
						}
					}}
					if method == "As" {
						return unaskedError{e} // As is asked about what the error is not
					}
					return e
				})
				m := observed(t, taskmanager.WithReporter(r), taskmanager.WithLogger(slog.New(lines)))
				parked := start(t, m, "parked", untilStopped)
				failing(t, m, "a")
				time.Sleep(time.Minute)
				assert.Equal(t, []string{"ERROR reporter does not return, its reports wait | since=11s"}, lines.about("reporter"))
				began := time.Now()
				require.NoError(t, parked.Stop(t.Context()))
				took(t, 0, began)

				next := newInbox(nil)
				m.SetReporter(next)
				failing(t, m, "b")
				synctest.Wait()
				assert.Equal(t, []string{"0s b gave up run=1 repeats=0"}, next.got())
				require.NoError(t, m.Shutdown(t.Context()))
				took(t, 5*time.Second, began) // for the one that hangs
				time.Sleep(3 * time.Hour)
				assert.Equal(t, reportCount{delivered: 1, lost: 1}, reportsOf(m))
			})
		})
	}
}

// What has been delivered stays delivered when the error about the rest can't be asked.
func TestReporterWhoseErrorAboutABatchExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatcher(func(_ context.Context, call int, events []taskmanager.Event) (int, error) {
			if call == 2 {
				return 1, awkwardError{func(method string) {
					if method == "Is" {
						runtime.Goexit()
					}
				}}
			}
			time.Sleep(time.Second)
			return len(events), nil
		})
		m := newManager(t, taskmanager.WithReporter(b), noReportLimit())
		failing(t, m, "a")
		synctest.Wait()
		failing(t, m, "b", "c")
		time.Sleep(time.Minute)
		assert.Equal(t, []string{"0s a", "1s b c", "2s c"}, b.got())
		assert.Equal(t, reportCount{delivered: 3}, reportsOf(m))
	})
}

// uncomparable is a Reporter that == can't be used on, as a function is.
type uncomparable struct {
	*inbox
	_ []int
}

// named is a Reporter that is equal to others made of the same.
type named struct {
	*inbox
	name string
}

// A Reporter that is set again while it is called, in whatever company, is called from one goroutine at a time: it has what waited
// for it, retries what was under way, and keeps to its limit.
func TestReporterThatIsSetAgain(t *testing.T) {
	for kind, reporterOf := range map[string]func(b *inbox) func() taskmanager.Reporter{
		"a pointer": func(b *inbox) func() taskmanager.Reporter { return func() taskmanager.Reporter { return b } },
		"an equal struct": func(b *inbox) func() taskmanager.Reporter {
			return func() taskmanager.Reporter { return named{b, "bot"} }
		},
		"the same function": func(b *inbox) func() taskmanager.Reporter { return same(taskmanager.ReporterFunc(b.Report)) },
		"the same value":    func(b *inbox) func() taskmanager.Reporter { return same(uncomparable{inbox: b}) },
	} {
		for how, again := range map[string]func(m *taskmanager.Manager, r func() taskmanager.Reporter, other taskmanager.Reporter){
			"alone": func(m *taskmanager.Manager, r func() taskmanager.Reporter, _ taskmanager.Reporter) {
				m.SetReporter(r())
			},
			"with another": func(m *taskmanager.Manager, r func() taskmanager.Reporter, other taskmanager.Reporter) {
				m.SetReporter(taskmanager.MultiReporter(other, r()))
			},
			"twice": func(m *taskmanager.Manager, r func() taskmanager.Reporter, _ taskmanager.Reporter) {
				m.SetReporter(taskmanager.MultiReporter(r(), r()))
			},
			"after another": func(m *taskmanager.Manager, r func() taskmanager.Reporter, other taskmanager.Reporter) {
				m.SetReporter(other)
				m.SetReporter(r())
			},
			"after none": func(m *taskmanager.Manager, r func() taskmanager.Reporter, _ taskmanager.Reporter) {
				m.SetReporter(nil)
				m.SetReporter(r())
			},
		} {
			t.Run(kind+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
						time.Sleep(10 * time.Second / time.Duration(n)) // the first call is under way for 10 s
						if n == 1 {
							return errDeaf
						}
						return nil
					})
					r := reporterOf(b)
					m := newManager(t, taskmanager.WithReporter(r()), taskmanager.WithReportLimit(rate.Every(time.Minute), 1))
					failing(t, m, "a")
					time.Sleep(time.Second)
					again(m, r, newInbox(nil))
					failing(t, m, "b")
					synctest.Wait()
					assert.Equal(t, []string{"0s a gave up run=1 repeats=0"}, b.got())
					time.Sleep(time.Hour)
					assert.Equal(t, []string{
						"0s a gave up run=1 repeats=0", "1m0s a gave up run=1 repeats=0", "2m0s b gave up run=1 repeats=0",
					}, b.got())
					assert.Equal(t, 1, b.mostAtOnce())
					assert.Zero(t, reportsOf(m).lost)
				})
			})
		}
	}
}

// same returns r each time.
func same(r taskmanager.Reporter) func() taskmanager.Reporter {
	return func() taskmanager.Reporter { return r }
}

// So is one that Shutdown has given up while it was called.
func TestReporterThatIsSetAgainAfterShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
			if n == 1 {
				time.Sleep(time.Hour)
			}
			return nil
		})
		m := observed(t, taskmanager.WithReporter(r))
		release := make(chan struct{})
		start(t, m, "stuck", ignoring(release))
		failing(t, m, "a")
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, m.Shutdown(ctx), context.Canceled)
		m.SetReporter(r)
		time.Sleep(2 * time.Hour)
		assert.Equal(t, []string{"0s a gave up run=1 repeats=0", "1h0m0s stuck stuck run=1 repeats=0"}, r.got())
		assert.Equal(t, reportCount{delivered: 1, lost: 1}, reportsOf(m))
		assert.Equal(t, 1, r.mostAtOnce())
		close(release)
	})
}

// And one that has said that it is closed: to set it again is to say that it is not, or no longer.
func TestReporterThatIsSetAgainAfterItWasClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
			if n == 1 {
				return taskmanager.ErrReporterClosed
			}
			return nil
		})
		m := newManager(t, taskmanager.WithReporter(r))
		failing(t, m, "a")
		synctest.Wait()
		m.SetReporter(r)
		failing(t, m, "b")
		synctest.Wait()
		assert.Equal(t, []string{"0s a gave up run=1 repeats=0", "0s b gave up run=1 repeats=0"}, r.got())
		assert.Equal(t, reportCount{delivered: 1, lost: 1}, reportsOf(m))
	})
}

// Two functions made by the same code are two Reporters: the second doesn't wait for the first, which hangs.
func TestReporterOfTheSameCodeIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report := func(b *inbox) taskmanager.Reporter {
			return taskmanager.ReporterFunc(func(ctx context.Context, e taskmanager.Event) error { return b.Report(ctx, e) })
		}
		m := newManager(t, taskmanager.WithReporter(report(newInbox(func(context.Context, int, taskmanager.Event) error {
			time.Sleep(time.Minute)
			return nil
		}))))
		failing(t, m, "a")
		synctest.Wait()
		next := newInbox(nil)
		m.SetReporter(report(next))
		failing(t, m, "b")
		synctest.Wait()
		assert.Equal(t, []string{"0s b gave up run=1 repeats=0"}, next.got())
		time.Sleep(time.Minute)
	})
}

// What waits for one that stays goes to one that is added, too; what waits for one that goes has been given to the one that stays.
func TestSetReporterBesideOneThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := newInbox(func(context.Context, int, taskmanager.Event) error { time.Sleep(time.Minute); return nil })
		m := newManager(t, taskmanager.WithReporter(slow), noReportLimit())
		failing(t, m, "a")
		synctest.Wait()
		failing(t, m, "b")
		added := newInbox(func(context.Context, int, taskmanager.Event) error { time.Sleep(time.Hour); return nil })
		m.SetReporter(taskmanager.MultiReporter(slow, added))
		synctest.Wait()
		assert.Equal(t, []string{"0s a gave up run=1 repeats=0"}, added.got())
		failing(t, m, "c")
		assert.Equal(t, reportCount{waiting: 3 + 3}, reportsOf(m))

		m.SetReporter(slow)
		assert.Equal(t, reportCount{waiting: 3 + 1}, reportsOf(m), "and what the other one has in hand")
		time.Sleep(2 * time.Hour)
		assert.Equal(t, []string{
			"0s a gave up run=1 repeats=0", "1m0s b gave up run=1 repeats=0", "2m0s c gave up run=1 repeats=0",
		}, slow.got())
		assert.Len(t, added.got(), 1)
		assert.Equal(t, reportCount{delivered: 4}, reportsOf(m))
	})
}

// Of the reports that wait for several Reporters, a new one gets the one that stands for the most events, and what happened first is
// told first.
func TestSetReporterPassesOnTheLargerReport(t *testing.T) {
	for name, order := range map[string]func(some, more taskmanager.Reporter) taskmanager.Reporter{
		"first": func(some, more taskmanager.Reporter) taskmanager.Reporter {
			return taskmanager.MultiReporter(more, some)
		},
		"second": func(some, more taskmanager.Reporter) taskmanager.Reporter {
			return taskmanager.MultiReporter(some, more)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				some := newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
					if n == 1 {
						time.Sleep(2500 * time.Millisecond)
					} else {
						time.Sleep(time.Hour)
					}
					return nil
				})
				more := newInbox(func(context.Context, int, taskmanager.Event) error { time.Sleep(time.Hour); return nil })
				m := observed(t, taskmanager.WithReporter(order(some, more)), noReportLimit())
				start(t, m, "a", boom, everyTime(time.Second, 10)...)
				time.Sleep(3500 * time.Millisecond)
				failing(t, m, "b") // before what some has of a
				time.Sleep(time.Second)
				next := newInbox(nil)
				m.SetReporter(next)
				synctest.Wait()
				assert.Equal(t, []string{"0s a failed run=5 repeats=3", "0s b gave up run=1 repeats=0"}, next.got())
				assert.Equal(t, began.Add(time.Second), next.events()[0].Since)
				require.NoError(t, m.StopAll(t.Context()))
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// A report is delivered once, and counted once, though its Reporter is called at the moment at which it is replaced.
func TestSetReporterPassesOnAReportOnce(t *testing.T) {
	m := observed(t, noReportLimit(), taskmanager.WithHistory(0))
	var heard atomic.Uint64
	reporters := [2]taskmanager.Reporter{}
	for i := range reporters {
		reporters[i] = taskmanager.ReporterFunc(func(_ context.Context, e taskmanager.Event) error { heard.Add(1 + uint64(e.Repeats)); return nil })
	}
	const failures = 3000
	for i := range failures {
		m.SetReporter(reporters[i%2])
		task := start(t, m, "a", boom, once())
		<-task.Done() // the goroutine that calls the Reporter has been started
		m.SetReporter(reporters[(i+1)%2])
	}
	require.NoError(t, m.Shutdown(t.Context()))
	assert.EqualValues(t, failures, heard.Load())
	assert.Equal(t, reportCount{delivered: failures}, reportsOf(m))
}

// The task "g/a" is not the task "a" of the group "g", nor is the latter the same in another group of that path.
func TestReportsOfEqualPathsAreNotMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newHeldInbox(release)
		m := newManager(t, taskmanager.WithReporter(r), noReportLimit())
		failing(t, m, "first")
		group := func(name string, inner taskmanager.TaskFunc) taskmanager.TaskFunc {
			return taskmanager.Group(func(m *taskmanager.Manager) error {
				_, err := m.StartTask(name, inner, once())
				return err
			})
		}
		fails := func(how string) taskmanager.TaskFunc {
			return func(context.Context) error { return errors.New(how) } // the same error would be a reason to merge them
		}
		start(t, m, "x/y/a", fails("1"), once())
		start(t, m, "x", group("y/a", fails("2")))
		start(t, m, "x/y", group("a", fails("3")))
		start(t, m, "restarted", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("a", failAfter(time.Second), once(), taskmanager.WithCritical())
			return err
		}), everyTime(time.Second, 2)...)
		start(t, m, "z", group("x", group("y/a", fails("4"))))
		start(t, m, "z/x", group("y", group("a", fails("5"))))
		time.Sleep(time.Minute)
		close(release)
		synctest.Wait()
		count := map[string]int{}
		for _, e := range r.events()[1:] {
			if strings.HasSuffix(e.Task, "/a") {
				count[fmt.Sprintf("%s+%d", e.Task, e.Repeats)]++
			}
		}
		assert.Equal(t, map[string]int{"x/y/a+0": 3, "z/x/y/a+0": 2, "restarted/a+1": 1}, count, "the runs of one group are one")
	})
}

// The context of a report is not that of the group's task, inside of whose body the Manager is.
func TestReporterInAGroupHasNoTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		var heard []error
		report := taskmanager.ReporterFunc(func(ctx context.Context, e taskmanager.Event) error {
			time.Sleep(time.Second) // until the group has ended
			_, ok := taskmanager.FromContext(ctx)
			if ok || ctx.Value(key{}) != "value" || ctx.Err() != nil {
				heard = append(heard, errors.New(e.Task))
			}
			return nil
		})
		inner := func(body taskmanager.TaskFunc) taskmanager.TaskFunc {
			return taskmanager.Group(func(m *taskmanager.Manager) error {
				_, err := m.StartTask("a", body, once(), taskmanager.WithCritical())
				return err
			}, taskmanager.WithReporter(report))
		}
		m := newManager(t, taskmanager.WithContext(context.WithValue(t.Context(), key{}, "value")))
		start(t, m, "g", inner(inner(boom)), once())
		start(t, m, "nested", func(ctx context.Context) error {
			nested := mustNew(t, taskmanager.WithContext(ctx), taskmanager.WithReporter(report))
			start(t, nested, "a", boom, once())
			return nested.Run(ctx)
		})
		time.Sleep(time.Minute)
		require.NoError(t, m.StopAll(t.Context()))
		assert.Empty(t, heard)
	})
}

// A report that is in hand may have to wait again: a Reporter that is added meanwhile gets it, too, and has it when it is alone.
func TestSetReporterBesideOneThatIsCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := newInbox(func(context.Context, int, taskmanager.Event) error { time.Sleep(time.Second); return errDeaf })
		m := newManager(t, taskmanager.WithReporter(fails), noReportLimit())
		start(t, m, "a", boom, everyTime(time.Millisecond, 3)...)
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, []string{"0s a failed run=1 repeats=0"}, fails.got())
		stays := newInbox(nil)
		m.SetReporter(taskmanager.MultiReporter(stays, fails))
		synctest.Wait()
		assert.Equal(t, []string{"0s a failed run=2 repeats=1", "0s a gave up run=3 repeats=0"}, stays.got())
		time.Sleep(1500 * time.Millisecond) // it has failed, and will be called again
		m.SetReporter(stays)
		time.Sleep(time.Hour)
		assert.Len(t, stays.got(), 2)
		assert.Equal(t, reportCount{delivered: 3}, reportsOf(m))
	})
}

// Shutdown has no more time for a call of a Reporter that was replaced than for any other: the call's context ends, and its report is
// lost, and counted.
func TestShutdownGivesUpAFormerReporter(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			lines := newLines(slog.LevelError)
			m := observed(t, noReportLimit(), taskmanager.WithLogger(slog.New(lines)))
			began := time.Now()
			m.SetReporter(newInbox(func(ctx context.Context, _ int, _ taskmanager.Event) error {
				<-ctx.Done()
				took(t, 2*time.Second, began)
				return ctx.Err()
			}))
			failing(t, m, "a")
			synctest.Wait()
			if replaced {
				m.SetReporter(newInbox(nil))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			require.NoError(t, m.Shutdown(ctx))
			synctest.Wait()
			assert.Equal(t, reportCount{lost: 1}, reportsOf(m))
			assert.Equal(t, []string{"ERROR no time left to report events | events=1"}, lines.about("report"))
		})
	}
}

// Each report counts once for each Reporter, also when there is none any more.
func TestSetReporterToNoneCountsForEachReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := func(context.Context, int, taskmanager.Event) error { return errDeaf }
		m := newManager(t, noReportLimit(), taskmanager.WithReporter(taskmanager.MultiReporter(newInbox(fails), newInbox(fails))))
		failing(t, m, "a")
		synctest.Wait()
		require.Equal(t, reportCount{waiting: 2}, reportsOf(m))
		m.SetReporter(nil)
		assert.Equal(t, reportCount{lost: 2}, reportsOf(m))
	})
}
