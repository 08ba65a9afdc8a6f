package taskmanager_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestReporterNeverHoldsUpSupervision_Promise4(t *testing.T) {
	for name, answer := range map[string]func(ctx context.Context, n int, e taskmanager.Event) error{
		"slow": func(context.Context, int, taskmanager.Event) error { time.Sleep(7 * time.Second); return nil },
		"hanging until its context ends": func(ctx context.Context, _ int, _ taskmanager.Event) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"hanging beyond its context": func(context.Context, int, taskmanager.Event) error { time.Sleep(time.Hour); return nil },
		"panicking":                  func(context.Context, int, taskmanager.Event) error { panic("reporter") },
		"ending its goroutine":       func(context.Context, int, taskmanager.Event) error { runtime.Goexit(); return nil },
		"returning errors":           func(context.Context, int, taskmanager.Event) error { return errDeaf },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelWarn)
				r := newInbox(answer)
				m := observed(t, taskmanager.WithReporter(r), taskmanager.WithLogger(slog.New(lines)))
				var runs []time.Duration
				task := start(t, m, "a", func(context.Context) error {
					runs = append(runs, time.Since(r.began))
					return errBoom
				}, everyTime(time.Second, 20)...)
				parked := start(t, m, "b", untilStopped)

				require.ErrorIs(t, task.Wait(t.Context()), taskmanager.ErrTooManyRestarts)
				for i, at := range runs {
					assert.Equal(t, time.Duration(i)*time.Second, at, "run %d", i+1)
				}
				assert.Len(t, runs, 20)
				synctest.Wait() // the log is the last to hear
				assert.Len(t, lines.about("| task=a run="), 20)
				before := time.Now()
				require.NoError(t, parked.Stop(t.Context()))
				assert.Zero(t, time.Since(before), "to stop a task")

				require.NoError(t, m.Shutdown(t.Context()))
				time.Sleep(2 * time.Hour) // so that what hangs ends before the bubble does
				s := m.Stats()
				assert.Equal(t, uint64(20), s.ReportsDelivered+s.ReportsLost)
				assert.Zero(t, s.ReportsWaiting)
				assert.Equal(t, 1, r.mostAtOnce())
			})
		})
	}
}

func TestReporterHearsOfEachFailure_Promise7(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const failures = 500
		lines := newLines(slog.LevelWarn)
		var accepted uint64
		r := newInbox(func(_ context.Context, n int, e taskmanager.Event) error {
			time.Sleep(300 * time.Millisecond)
			switch n % 5 {
			case 1:
				return errDeaf
			case 3:
				panic(errDeaf)
			}
			accepted += 1 + uint64(e.Repeats)
			return nil
		})
		m := observed(t, taskmanager.WithReporter(r), taskmanager.WithLogger(slog.New(lines)))
		var last error
		body := func(context.Context) error {
			task, _ := m.Lookup("a")
			last = fmt.Errorf("failure %d", task.Stats().Runs)
			switch task.Stats().Runs % 4 {
			case 0:
				panic(last)
			case 1:
				return last
			case 2:
				last = taskmanager.ErrGoexit
				runtime.Goexit()
			default:
				last = context.Canceled // of no context that the Manager knows
				return last
			}
			return nil
		}
		task := start(t, m, "a", body, everyTime(70*time.Millisecond, failures)...)

		for range 4 {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			stats := m.Stats()
			assert.Equal(t, stats.Failures, stats.ReportsDelivered+stats.ReportsWaiting+stats.ReportsLost)
			assert.Equal(t, stats.Runs, stats.Failures, "in backoff")
		}
		err := task.Wait(t.Context())
		require.ErrorIs(t, err, last)
		var p *taskmanager.PanicError
		require.ErrorAs(t, err, &p) // the 500th is a panic

		assert.Equal(t, uint64(failures), task.Stats().Failures)
		assert.Equal(t, uint64(failures/4), task.Stats().Panics)
		require.ErrorIs(t, task.Stats().LastError, last)
		synctest.Wait() // the log is the last to hear
		assert.Len(t, lines.about("task failed"), failures)

		require.NoError(t, m.Shutdown(t.Context()))
		assert.Equal(t, reportCount{delivered: failures}, reportsOf(m), "each is retried before the third attempt")
		assert.Equal(t, uint64(failures), accepted)
	})
}

func TestReporterGetsWarningsAndErrorsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(nil)
		m := observed(t, taskmanager.WithReporter(r), taskmanager.WithName("bot"), taskmanager.WithBackoff(time.Second, time.Second))
		start(t, m, "completes", func(context.Context) error { return nil })
		start(t, m, "is stopped", untilStopped)
		synctest.Wait()
		require.NoError(t, m.StopTask(t.Context(), "is stopped"))
		synctest.Wait()
		require.Empty(t, r.got())

		start(t, m, "fails", boom, taskmanager.WithMaxRestarts(1))
		stuck := start(t, m, "stuck", func(context.Context) error { time.Sleep(time.Hour); return nil })
		synctest.Wait()
		require.Error(t, stuck.Stop(t.Context()))
		<-stuck.Done()
		synctest.Wait()
		assert.Equal(t, []string{
			"0s fails failed run=1 repeats=0",
			"1s fails gave up run=2 repeats=0",
			"5s stuck stuck run=1 repeats=0",
		}, r.got())
		for i, e := range r.events() {
			assert.Equal(t, "bot", e.Manager)
			assert.Zero(t, e.Missed)
			assert.Equal(t, r.began.Add([]time.Duration{0, time.Second, 5 * time.Second}[i]), e.Time)
		}
		assert.Equal(t, reportCount{delivered: 3}, reportsOf(m))
	})
}

// While the reporter takes 2.6 s for each report, a failure each second is merged into the next report.
func TestReporterThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(func(context.Context, int, taskmanager.Event) error {
			time.Sleep(2600 * time.Millisecond)
			return nil
		})
		m := observed(t, taskmanager.WithReporter(r), noReportLimit())
		task := start(t, m, "a", boom, everyTime(time.Second, 10)...)
		require.Error(t, task.Wait(t.Context()))
		time.Sleep(time.Minute)
		assert.Equal(t, []string{
			"0s a failed run=1 repeats=0",
			"2.6s a failed run=3 repeats=1",
			"5.2s a failed run=6 repeats=2",
			"7.8s a failed run=8 repeats=1",
			"10.4s a failed run=9 repeats=0",
			"13s a gave up run=10 repeats=0",
		}, r.got())
		assert.Equal(t, reportCount{delivered: 10}, reportsOf(m))
		assert.Equal(t, 1, r.mostAtOnce())
	})
}

func TestReporterThatHangsIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelError)
		release := make(chan struct{})
		r := newHeldInbox(release)
		m := observed(t, taskmanager.WithReporter(r), noReportLimit(), taskmanager.WithLogger(slog.New(lines)))
		start(t, m, "a", boom, append(everyTime(time.Second, 1), taskmanager.WithMaxRestarts(taskmanager.Unlimited))...)

		time.Sleep(10*time.Second + 500*time.Millisecond) // the failure at 10 s is not later than the timeout
		assert.Empty(t, lines.got())
		time.Sleep(20 * time.Second)
		assert.Equal(t, []string{"ERROR reporter does not return, its reports wait | since=11s"}, lines.got())
		assert.Equal(t, reportCount{waiting: 31}, reportsOf(m))

		close(release)
		synctest.Wait()
		assert.Equal(t, []string{
			"0s a failed run=1 repeats=0",
			"30.5s a failed run=31 repeats=29",
		}, r.got())
		assert.Equal(t, reportCount{delivered: 31}, reportsOf(m))
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

func TestReportHasTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		parent, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		lines := newLines(slog.LevelError)
		var ended []time.Duration
		r := newInbox(nil)
		r.answer = func(ctx context.Context, _ int, _ taskmanager.Event) error {
			deadline, ok := ctx.Deadline()
			assert.True(t, ok)
			assert.Equal(t, 10*time.Second, time.Until(deadline))
			assert.Equal(t, "value", ctx.Value(key{}), "of WithContext")
			_, ok = taskmanager.FromContext(ctx)
			assert.False(t, ok)
			<-ctx.Done()
			ended = append(ended, time.Since(r.began))
			return ctx.Err()
		}
		m := observed(t, taskmanager.WithReporter(r), taskmanager.WithLogger(slog.New(lines)), taskmanager.WithContext(parent))
		start(t, m, "a", boom, once())
		time.Sleep(time.Second)
		cancel() // has no effect on reports: they may be about it
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, []string{
			"ERROR reporter failed, will retry | task=a kind=gave up events=1 attempt=1 error=context deadline exceeded",
			"ERROR reporter failed, will retry | task=a kind=gave up events=1 attempt=2 error=context deadline exceeded",
			"ERROR reporter failed, will retry | task=a kind=gave up events=1 attempt=3 error=context deadline exceeded",
			"ERROR reporter failed, will retry | task=a kind=gave up events=1 attempt=4 error=context deadline exceeded",
		}, lines.about("reporter"))
		assert.Equal(t, reportCount{waiting: 1}, reportsOf(m))
		m.SetReporter(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, []time.Duration{10 * time.Second, 21 * time.Second, 33 * time.Second, 47 * time.Second, 65 * time.Second}, ended)
	})
}

func TestReporterThatFails(t *testing.T) {
	var nilFunc taskmanager.ReporterFunc
	var nilInbox *inbox
	for name, c := range map[string]struct {
		reporter taskmanager.Reporter
		text     string
	}{
		"an error": {taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error { return errDeaf }), "deaf"},
		"a panic": {
			taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error { panic("oops") }),
			"taskmanager: panic: oops",
		},
		"a panic with nil": {
			taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error { panic(nil) }),
			"taskmanager: panic: " + new(runtime.PanicNilError).Error(),
		},
		"an error whose Error panics": {taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error {
			return mute{}
		}), "taskmanager_test.mute, whose Error method panicked"},
		"Goexit": {
			taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error { runtime.Goexit(); return nil }),
			taskmanager.ErrGoexit.Error(),
		},
		"a nil ReporterFunc": {nilFunc, "taskmanager: panic: runtime error: invalid memory address or nil pointer dereference"},
		"a nil pointer":      {nilInbox, "taskmanager: panic: runtime error: invalid memory address or nil pointer dereference"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelError)
				began := time.Now()
				m := observed(t, taskmanager.WithReporter(c.reporter), taskmanager.WithLogger(slog.New(lines)))
				start(t, m, "a", boom, once())

				time.Sleep(10 * time.Minute)
				synctest.Wait()
				assert.Equal(t, reportCount{waiting: 1}, reportsOf(m), "it waits until it is taken")
				about := lines.about("reporter")
				for i, want := range seconds(0, 1, 3, 7, 15, 31, 61, 91, 121, 151) {
					assert.Equal(t, fmt.Sprintf("ERROR reporter failed, will retry | task=a kind=gave up events=1 attempt=%d error=%s", i+1, c.text), about[i])
					assert.Equal(t, want, lines.taken()[1+i].Time.Sub(began)) // the first says that the task was given up
				}
				assert.False(t, m.IsRunning("a"))
				start(t, m, "b", untilStopped)
				require.NoError(t, m.Shutdown(t.Context()))
				assert.Equal(t, reportCount{lost: 1}, reportsOf(m))
				assert.Len(t, lines.about("no time left to report events | events=1"), 1)
			})
		})
	}
}

// A receiver that is away, however long: nothing is lost, what happened first is told first, and all of it soon after its return.
func TestReporterThatIsAway(t *testing.T) {
	for outage, want := range map[time.Duration]string{
		2 * time.Second:  "abc",
		5 * time.Second:  "bac", // a has failed three times: it may be a that the Reporter can't take, and another one is tried for once
		15 * time.Second: "abc",
		time.Minute:      "abc",
		10 * time.Minute: "abc",
		24 * time.Hour:   "abc",
	} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newInbox(nil)
				var told string
				r.answer = func(_ context.Context, _ int, e taskmanager.Event) error {
					if time.Since(r.began) < outage {
						return errDeaf
					}
					told += e.Task
					return nil
				}
				m := observed(t, taskmanager.WithReporter(r), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
				for _, name := range []string{"a", "b", "c"} {
					start(t, m, name, boom, once())
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(outage + 35*time.Second) // a pause of 30 s, and 1 s for each
				synctest.Wait()
				assert.Equal(t, want, told)
				assert.Equal(t, reportCount{delivered: 3}, reportsOf(m))
				require.NoError(t, m.Shutdown(t.Context()))
			})
		})
	}
}

// A report that its Reporter can't take, and doesn't say so, holds up others for a while, and not for ever. Those of one task keep
// their order.
func TestReporterThatFailsForOneTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(func(_ context.Context, _ int, e taskmanager.Event) error {
			if e.Task == "poison" {
				return errDeaf
			}
			return nil
		})
		m := observed(t, taskmanager.WithReporter(r), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		start(t, m, "poison", boom, everyTime(100*time.Millisecond, 2)...)
		start(t, m, "a", failAfter(time.Second), once())
		start(t, m, "b", failAfter(2*time.Second), once())
		time.Sleep(10 * time.Minute)
		assert.Equal(t, []string{
			"0s poison failed run=1 repeats=0",
			"1s poison failed run=1 repeats=0",
			"3s poison failed run=1 repeats=0",
			"7s a gave up run=1 repeats=0", // for once
			"7s poison failed run=1 repeats=0",
			"8s b gave up run=1 repeats=0",
			"8s poison failed run=1 repeats=0",
		}, r.got()[:7])
		assert.Equal(t, reportCount{delivered: 2, waiting: 2}, reportsOf(m))
		m.SetReporter(nil)
		time.Sleep(time.Minute)
	})
}

// A Reporter that refuses a report loses that and no other: of several, it is given each alone.
func TestReporterThatRefuses(t *testing.T) {
	for name, reporter := range map[string]func(refuses func(task string) bool) taskmanager.Reporter{
		"one by one": func(refuses func(task string) bool) taskmanager.Reporter {
			return newInbox(func(_ context.Context, _ int, e taskmanager.Event) error {
				if refuses(e.Task) {
					return fmt.Errorf("post: %w", backoff.Permanent(errDeaf))
				}
				return nil
			})
		},
		"batches": func(refuses func(task string) bool) taskmanager.Reporter {
			return newBatcher(func(_ context.Context, _ int, events []taskmanager.Event) (int, error) {
				if slices.ContainsFunc(events, func(e taskmanager.Event) bool { return refuses(e.Task) }) {
					return 0, fmt.Errorf("post: %w", backoff.Permanent(errDeaf))
				}
				return len(events), nil
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelError)
				r := reporter(func(task string) bool { return task == "c" || task == "e" })
				m := observed(t, taskmanager.WithReporter(r), noReportLimit(), taskmanager.WithLogger(slog.New(lines)))
				for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
					start(t, m, name, func(context.Context) error { time.Sleep(time.Second); return errors.New(name) }, once())
				}
				time.Sleep(time.Second)
				synctest.Wait()
				assert.Equal(t, reportCount{delivered: 4, lost: 2}, reportsOf(m), "without a pause")
				for _, name := range []string{"c", "e"} {
					assert.Contains(t, lines.about("reporter"),
						"ERROR reporter refused a report, it is lost | task="+name+" kind=gave up events=1 attempt=0 error=post: deaf")
				}
				failing(t, m, "g")
				synctest.Wait()
				assert.Equal(t, reportCount{delivered: 5, lost: 2}, reportsOf(m))
			})
		})
	}
}

// What a batch can't deliver for long is tried one by one, for it may be a single one that the Reporter can't take.
func TestBatchWithOneThatAlwaysFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatcher(func(_ context.Context, _ int, events []taskmanager.Event) (int, error) {
			if slices.ContainsFunc(events, func(e taskmanager.Event) bool { return e.Task == "b" }) {
				return 0, errDeaf
			}
			return len(events), nil
		})
		m := observed(t, taskmanager.WithReporter(b), noReportLimit(), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		for _, name := range []string{"a", "b", "c", "d"} {
			start(t, m, name, failAfter(time.Second), once())
		}
		time.Sleep(10 * time.Minute)
		assert.Equal(t, reportCount{delivered: 3, waiting: 1}, reportsOf(m))
		m.SetReporter(nil)
		time.Sleep(time.Minute)
	})
}

// A report that failed is merged with what came meanwhile: all of it is delivered by the next attempt.
func TestReporterGetsWhatFailedTogetherWithWhatCameSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelError)
		r := newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
			if n > 2 {
				return nil
			}
			time.Sleep([]time.Duration{500 * time.Millisecond, 450 * time.Millisecond}[n-1])
			return errDeaf
		})
		m := observed(t, taskmanager.WithReporter(r), taskmanager.WithLogger(slog.New(lines)))
		start(t, m, "a", boom, everyTime(200*time.Millisecond, 1000)...) // failures at 0, 200 ms, 400 ms and so on
		time.Sleep(4100 * time.Millisecond)
		assert.Equal(t, []string{
			"0s a failed run=1 repeats=0",
			"1.5s a failed run=8 repeats=7",    // 0.5 s of trying, 1 s of waiting
			"3.95s a failed run=20 repeats=19", // 0.45 s, 2 s
		}, r.got()[:3])
		assert.Equal(t, []string{
			"ERROR reporter failed, will retry | task=a kind=failed events=1 attempt=1 error=deaf",
			"ERROR reporter failed, will retry | task=a kind=failed events=8 attempt=2 error=deaf",
		}, lines.got())
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// Ten reports at once, and one each second: what fails every 110 ms is merged from then on.
func TestReportLimitMergesWhatIsBeyondIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(nil)
		m := observed(t, taskmanager.WithReporter(r))
		task := start(t, m, "a", boom, everyTime(110*time.Millisecond, 31)...)
		require.Error(t, task.Wait(t.Context()))
		time.Sleep(time.Minute)
		want := make([]string, 0, 15)
		for i := range 11 { // the burst of ten, and one that has been refilled meanwhile
			want = append(want, fmt.Sprintf("%v a failed run=%d repeats=0", time.Duration(i)*110*time.Millisecond, i+1))
		}
		want = append(want,
			"2s a failed run=19 repeats=7",
			"3s a failed run=28 repeats=8",
			"4s a failed run=30 repeats=1",
			"5s a gave up run=31 repeats=0")
		assert.Equal(t, want, r.got())
		assert.EqualValues(t, 31, r.sum())
		assert.Equal(t, reportCount{delivered: 31}, reportsOf(m))
	})
}

// With 10,000 pairs of task and kind waiting, further tasks are merged by kind, whatever their errors are.
func TestReportsThatWaitAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		r := newHeldInbox(release)
		m := observed(t, taskmanager.WithReporter(r), noReportLimit(), taskmanager.WithHistory(20_000), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		for i := range 1 + 10_000 + 300 {
			task := start(t, m, fmt.Sprint(i), func(context.Context) error { return fmt.Errorf("boom %d", i) }, once())
			require.Error(t, task.Wait(t.Context()))
			if i == 0 {
				synctest.Wait() // it is being reported
			}
		}
		synctest.Wait()
		start(t, m, "other kind", boom, taskmanager.WithMaxRestarts(1), taskmanager.WithBackoff(time.Hour, time.Hour))
		synctest.Wait()
		assert.Equal(t, reportCount{waiting: 10_302}, reportsOf(m))
		close(release)
		synctest.Wait()
		events := r.events()
		require.Len(t, events, 1+16+1+1)
		assert.Equal(t, "16", events[16].Task)
		merged := events[17]
		assert.Empty(t, merged.Task)
		assert.Equal(t, taskmanager.EventGaveUp, merged.Kind)
		assert.Equal(t, 10_300-16, merged.TaskCount)
		assert.Equal(t, 10_300-16-1, merged.Repeats)
		assert.Len(t, merged.Tasks, 10)
		assert.Equal(t, "17", merged.Tasks[0])
		assert.Equal(t, "other kind", events[18].Task)
		assert.EqualValues(t, 10_302, r.sum())
		assert.Equal(t, reportCount{delivered: 10_302}, reportsOf(m))
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// The goroutine that delivers is not one of the task that it delivers for, and ends when nothing waits.
func TestReporterGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var labels string
		r := newInbox(func(context.Context, int, taskmanager.Event) error {
			var dump bytes.Buffer
			if err := pprof.Lookup("goroutine").WriteTo(&dump, 1); err != nil {
				return err
			}
			for group := range strings.SplitSeq(dump.String(), "\n\n") {
				if strings.Contains(group, "TestReporterGoroutine.func1.1") { // this function
					labels = group
				}
			}
			return nil
		})
		m := observed(t, taskmanager.WithReporter(r))
		start(t, m, "a", boom, once())
		synctest.Wait()
		require.Contains(t, labels, "callReporter")
		assert.NotContains(t, labels, `"task"`)
		assert.Equal(t, 1, r.mostAtOnce())
		// A bubble can't end while a goroutine of it waits: nothing is left of the Manager.
	})
}

func TestReporterMayCallTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *taskmanager.Manager
		r := newInbox(func(ctx context.Context, n int, e taskmanager.Event) error {
			if n == 1 {
				return m.RestartTask(ctx, e.Task)
			}
			return m.StopAll(ctx)
		})
		m = observed(t, taskmanager.WithReporter(r))
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs++; runs < 3 {
				return errBoom
			}
			return untilStopped(ctx)
		}, taskmanager.WithBackoff(time.Hour, time.Hour))
		synctest.Wait()
		assert.Equal(t, taskmanager.StateStopped, task.State(), "restarted by the first report, stopped by the second")
		assert.Equal(t, []string{"0s a failed run=1 repeats=0", "0s a failed run=2 repeats=0"}, r.got())
	})
}

// A log handler that hangs, or ends the goroutine, keeps no failure from the reporter.
func TestReporterHearsOfAFailureWhateverTheLogDoes_Promise7(t *testing.T) {
	for name, handler := range map[string]func(){
		"hangs": func() { time.Sleep(time.Hour) },
		"exits": sync.OnceFunc(runtime.Goexit),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reports := newInbox(nil)
				m := observed(t, taskmanager.WithReporter(reports), slowLog("task failed, will restart", handler))
				task := start(t, m, "a", boom, taskmanager.WithMaxRestarts(1), taskmanager.WithRestartWindow(2*time.Hour))
				synctest.Wait()
				assert.Equal(t, "0s a failed run=1 repeats=0", reports.got()[0])
				require.Error(t, task.Wait(t.Context()))
			})
		})
	}
}

func TestSetReporterPassesOnWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		former := newInbox(func(context.Context, int, taskmanager.Event) error {
			<-release
			return errDeaf
		})
		m := observed(t, taskmanager.WithReporter(former), noReportLimit())
		start(t, m, "a", boom, everyTime(time.Second, 4)...)
		time.Sleep(time.Minute)
		assert.Equal(t, reportCount{waiting: 4}, reportsOf(m))

		next := newInbox(nil)
		m.SetReporter(next)
		synctest.Wait()
		assert.Equal(t, []string{"0s a failed run=3 repeats=1", "0s a gave up run=4 repeats=0"}, next.got(),
			"all but what the former one has in hand")
		assert.Equal(t, reportCount{delivered: 3, waiting: 1}, reportsOf(m), "one is in the former one's hand")
		close(release)
		synctest.Wait()
		assert.Equal(t, reportCount{delivered: 4}, reportsOf(m))
		assert.Equal(t, "0s a failed run=1 repeats=0", next.got()[2], "when the former one has failed")
		assert.Len(t, former.got(), 1)
	})
}

// However often the reporters are replaced while tasks fail, each failure reaches one of those that were first, and one of those
// that were second.
func TestSetReporterWhileTasksFail_Promise7(t *testing.T) {
	const failures = 1500
	var (
		heard [2]sync.Map
		m     = mustNew(t, noReportLimit(), taskmanager.WithHistory(0))
		over  = make(chan struct{})
		wg    sync.WaitGroup
	)
	replace := func() {
		both := make([]taskmanager.Reporter, len(heard))
		for i := range heard {
			both[i] = taskmanager.ReporterFunc(func(_ context.Context, e taskmanager.Event) error {
				heard[i].Store(e.Task, true)
				return nil
			})
		}
		m.SetReporter(taskmanager.MultiReporter(both...))
	}
	replace()
	wg.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				replace()
			}
		}
	})
	var batch []*taskmanager.Task
	for i := range failures {
		batch = append(batch, start(t, m, strconv.Itoa(i), boom, once()))
		if len(batch) == 5 {
			for _, task := range batch {
				<-task.Done()
			}
			batch = batch[:0]
			for reportsOf(m).waiting > 0 { // with more than five for one, they are no longer told apart
				runtime.Gosched()
			}
		}
	}
	close(over)
	wg.Wait()
	require.NoError(t, m.Shutdown(t.Context()))
	require.Zero(t, reportsOf(m).lost)
	for i := range failures {
		for which := range heard {
			_, ok := heard[which].Load(strconv.Itoa(i))
			require.True(t, ok, "failure %d, reporter %d", i, which)
		}
	}
}

// Shutdown has time for a call of a Reporter that has been replaced.
func TestShutdownWaitsForAFormerReporter(t *testing.T) {
	for name, test := range map[string]struct {
		report, took time.Duration
		count        reportCount
	}{
		"slow":  {time.Second, time.Second, reportCount{delivered: 1}},
		"hangs": {time.Hour, 5 * time.Second, reportCount{lost: 1}}, // what it returns in the end changes nothing
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := observed(t, taskmanager.WithReporter(newInbox(func(context.Context, int, taskmanager.Event) error {
					time.Sleep(test.report)
					return nil
				})))
				start(t, m, "a", boom, once())
				synctest.Wait()
				m.SetReporter(nil)
				began := time.Now()
				require.NoError(t, m.Shutdown(t.Context()))
				took(t, test.took, began)
				assert.Equal(t, test.count, reportsOf(m))
				time.Sleep(test.report)
				assert.Equal(t, test.count, reportsOf(m))
			})
		})
	}
}

func TestSetReporterToNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t, taskmanager.WithReportLimit(1, 1))
		m.SetReporter(newInbox(nil))
		for _, name := range []string{"a", "b", "c"} {
			start(t, m, name, boom, once())
			synctest.Wait()
		}
		assert.Equal(t, reportCount{delivered: 1, waiting: 2}, reportsOf(m))
		m.SetReporter(nil)
		assert.Equal(t, reportCount{delivered: 1, lost: 2}, reportsOf(m))
		start(t, m, "d", boom, once())
		synctest.Wait()
		assert.Equal(t, reportCount{delivered: 1, lost: 2}, reportsOf(m), "there is nobody to report to")
	})
}

// Each of several reporters goes at its own pace; one that replaces them hears of what some of them had not heard.
func TestMultiReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := newInbox(func(context.Context, int, taskmanager.Event) error { time.Sleep(time.Hour); return nil })
		fast := newInbox(nil)
		broken := newInbox(func(context.Context, int, taskmanager.Event) error { panic("broken") })
		m := observed(t, noReportLimit(), taskmanager.WithReporter(
			taskmanager.MultiReporter(slow, nil, taskmanager.MultiReporter(fast, broken))))
		start(t, m, "a", boom, everyTime(10*time.Second, 3)...)
		time.Sleep(25 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"0s a failed run=1 repeats=0"}, slow.got())
		assert.Equal(t, []string{
			"0s a failed run=1 repeats=0", "10s a failed run=2 repeats=0", "20s a gave up run=3 repeats=0",
		}, fast.got())
		assert.Equal(t, reportCount{delivered: 3, waiting: 3 + 3}, reportsOf(m))

		next := newInbox(nil)
		m.SetReporter(next)
		synctest.Wait()
		assert.Equal(t, []string{"0s a failed run=2 repeats=1", "0s a gave up run=3 repeats=0"}, next.got())
		time.Sleep(2 * time.Hour)
	})
}

func TestMultiReporterByItself(t *testing.T) {
	good := newInbox(nil)
	bad := newInbox(func(context.Context, int, taskmanager.Event) error { return errDeaf })
	broken := newInbox(func(context.Context, int, taskmanager.Event) error { panic("broken") })
	err := taskmanager.MultiReporter(broken, bad, good).Report(t.Context(), taskmanager.Event{Task: "a"})
	require.ErrorIs(t, err, errDeaf)
	var panicked *taskmanager.PanicError
	require.ErrorAs(t, err, &panicked)
	assert.Equal(t, "broken", panicked.Value)
	assert.Len(t, good.got(), 1)
	require.NoError(t, taskmanager.MultiReporter().Report(t.Context(), taskmanager.Event{}))
	require.NoError(t, taskmanager.MultiReporter(good, nil).Report(t.Context(), taskmanager.Event{}))
}

// Shutdown delivers what waits without regard to the limit, until its deadline: that of ctx, or 5 s.
func TestShutdownDeliversWhatWaits(t *testing.T) {
	for name, c := range map[string]struct {
		each      time.Duration // that a report takes
		timeout   time.Duration // of ctx; 0 for none
		takes     time.Duration
		delivered uint64
	}{
		"at once":            {each: 0, takes: 0, delivered: 8},
		"in time":            {each: 700 * time.Millisecond, takes: 4900 * time.Millisecond, delivered: 8},
		"not in time":        {each: 2 * time.Second, takes: 5 * time.Second, delivered: 1 + 2},
		"not in time of ctx": {each: 2 * time.Second, timeout: 3 * time.Second, takes: 3 * time.Second, delivered: 1 + 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelError)
				each := time.Duration(0)
				r := newInbox(func(ctx context.Context, _ int, _ taskmanager.Event) error {
					select {
					case <-time.After(each):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
				m := observed(t, taskmanager.WithReporter(r), taskmanager.WithReportLimit(0.001, 1),
					taskmanager.WithLogger(slog.New(lines)))
				for i := range 8 {
					start(t, m, fmt.Sprint(i), func(context.Context) error { return fmt.Errorf("boom %d", i) }, once())
					synctest.Wait()
				}
				assert.Equal(t, reportCount{delivered: 1, waiting: 7}, reportsOf(m))
				each = c.each
				ctx, cancel := context.WithCancel(t.Context())
				if c.timeout > 0 {
					ctx, cancel = context.WithTimeout(t.Context(), c.timeout)
				}
				defer cancel()
				began := time.Now()
				require.NoError(t, m.Shutdown(ctx), "the tasks have ended")
				assert.Equal(t, c.takes, time.Since(began))
				assert.Equal(t, reportCount{delivered: c.delivered, lost: 8 - c.delivered}, reportsOf(m))
				want := []string{}
				if c.delivered < 8 {
					want = []string{fmt.Sprintf("ERROR no time left to report events | events=%d", 8-c.delivered)}
				}
				assert.Equal(t, want, lines.about("no time left"))
				synctest.Wait()
				assert.Equal(t, reportCount{delivered: c.delivered, lost: 8 - c.delivered}, reportsOf(m))
			})
		})
	}
}

// What happens after Shutdown had no more time for the reporter is lost to it, and counted; SetReporter still works.
func TestReportsAfterShutdownHasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m := observed(t, taskmanager.WithReporter(taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error {
			<-release
			return nil
		})))
		start(t, m, "fails", boom, once())
		body := newDeafBody()
		start(t, m, "deaf", body.run)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, m.Shutdown(ctx), context.Canceled)
		require.Equal(t, reportCount{lost: 1}, reportsOf(m))
		time.Sleep(time.Minute)
		require.Equal(t, taskmanager.StateStuck, m.Stats().Tasks["deaf"].State)
		assert.Equal(t, reportCount{lost: 2}, reportsOf(m))
		m.SetReporter(nil)
		body.release()
		close(release)
	})
}
