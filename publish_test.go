package taskmanager_test

import (
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// waysNotToReturn are what user code may do instead of returning at once.
func waysNotToReturn() map[string]func() {
	return map[string]func(){
		"hangs":  func() { time.Sleep(time.Hour) },
		"panics": func() { panic("not now") },
		"exits":  runtime.Goexit,
	}
}

// Whatever the log's handler does at one of the lines about reporters: the reporters are called as ever, a stop takes no time, and
// Shutdown no more than its own.
func TestLogHandlerNeverHoldsUpReports(t *testing.T) {
	type outcome struct {
		reports []string
		counts  reportCount
	}
	for message, test := range map[string]struct {
		answer func(ctx context.Context, n int, e taskmanager.Event) error
		want   outcome
	}{
		"reporter failed, will retry": {
			func(_ context.Context, n int, _ taskmanager.Event) error {
				if n == 1 {
					return errDeaf
				}
				return nil
			},
			outcome{[]string{"0s a gave up run=1 repeats=0", "1s a gave up run=1 repeats=0", "30s b gave up run=1 repeats=0"}, reportCount{delivered: 2}},
		},
		"reporter refused a report, it is lost": {
			func(_ context.Context, n int, _ taskmanager.Event) error {
				if n == 1 {
					return backoff.Permanent(errDeaf)
				}
				return nil
			},
			outcome{[]string{"0s a gave up run=1 repeats=0", "30s b gave up run=1 repeats=0"}, reportCount{delivered: 1, lost: 1}},
		},
		"reporter does not return, its reports wait": {
			func(_ context.Context, n int, _ taskmanager.Event) error {
				if n == 1 {
					time.Sleep(40 * time.Second)
				}
				return nil
			},
			outcome{[]string{"0s a gave up run=1 repeats=0", "40s b gave up run=1 repeats=0"}, reportCount{delivered: 2}},
		},
		"reporter is closed, all reports are lost until it is replaced": {
			func(context.Context, int, taskmanager.Event) error { return taskmanager.ErrReporterClosed },
			outcome{[]string{"0s a gave up run=1 repeats=0"}, reportCount{lost: 2}},
		},
	} {
		for way, handler := range waysNotToReturn() {
			t.Run(message+"/"+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var reached atomic.Bool
					r := newInbox(test.answer)
					m := observed(t, taskmanager.WithReporter(r), slowLog(message, func() { reached.Store(true); handler() }))
					parked := start(t, m, "parked", untilStopped)
					failing(t, m, "a")
					time.Sleep(30 * time.Second)
					failing(t, m, "b")
					time.Sleep(30 * time.Second)
					assert.True(t, reached.Load())
					assert.Equal(t, test.want, outcome{r.got(), reportsOf(m)})

					began := time.Now()
					require.NoError(t, parked.Stop(t.Context()))
					took(t, 0, began)
					require.NoError(t, m.Shutdown(t.Context()))
					if way == "hangs" {
						took(t, 5*time.Second, began) // for the log
					} else {
						took(t, 0, began)
					}
					time.Sleep(2 * time.Hour)
				})
			})
		}
	}
}

// What Shutdown has no time for is the last line of the log, for which it waits a moment longer.
func TestLogHandlerOfWhatIsLostAtShutdown(t *testing.T) {
	for way, handler := range waysNotToReturn() {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var reached atomic.Bool
				m := observed(t, slowLog("no time left to report events", func() { reached.Store(true); handler() }),
					taskmanager.WithReporter(newInbox(func(context.Context, int, taskmanager.Event) error { time.Sleep(time.Hour); return nil })))
				failing(t, m, "a")
				began := time.Now()
				require.NoError(t, m.Shutdown(t.Context()))
				assert.True(t, reached.Load())
				if way == "hangs" {
					took(t, 5100*time.Millisecond, began)
				} else {
					took(t, 5*time.Second, began)
				}
				assert.Equal(t, reportCount{lost: 1}, reportsOf(m))
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// A stop that has a deadline reports that a task is stuck. It is not its affair that the reporter does not return.
func TestReporterThatHangsIsNotLoggedByAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m := observed(t, slowLog("reporter does not return, its reports wait", func() { time.Sleep(time.Hour) }),
			taskmanager.WithReporter(newInbox(func(context.Context, int, taskmanager.Event) error { <-release; return nil })))
		failing(t, m, "a")
		stuck := start(t, m, "b", ignoring(release))
		time.Sleep(12 * time.Second)
		began := time.Now()
		asStuck(t, stuck.Stop(t.Context()), "b", 5*time.Second)
		took(t, 5*time.Second, began)
		close(release)
		time.Sleep(2 * time.Hour)
	})
}

// A line about each call that does not return, 11 seconds after it has begun, whether or not there is anything else to report.
func TestReporterThatHangsIsLoggedWithoutFurtherEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelError)
		m := observed(t, taskmanager.WithName("bot"), taskmanager.WithLogger(slog.New(lines)),
			taskmanager.WithReporter(newInbox(func(context.Context, int, taskmanager.Event) error { time.Sleep(time.Minute); return nil })))
		failing(t, m, "a", "b")
		const line = "ERROR reporter does not return, its reports wait | manager=bot since=11s"
		for i := range 2 {
			time.Sleep(11*time.Second - 1)
			synctest.Wait()
			assert.Len(t, lines.about("reporter"), i)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			assert.Len(t, lines.about("reporter"), i+1)
			time.Sleep(49 * time.Second)
		}
		assert.Equal(t, []string{line, line}, lines.about("reporter"))
	})
}

// Shutdown waits for the lines about reporters as for those about tasks.
func TestShutdownWaitsForTheLogOfReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logged := time.Duration(-1)
		began := time.Now()
		m := observed(t, taskmanager.WithReporter(newInbox(func(context.Context, int, taskmanager.Event) error { return taskmanager.ErrReporterClosed })),
			slowLog("reporter is closed, all reports are lost until it is replaced", func() {
				time.Sleep(3 * time.Second)
				logged = time.Since(began)
			}))
		failing(t, m, "a")
		require.NoError(t, m.Shutdown(t.Context()))
		took(t, 3*time.Second, began)
		assert.Equal(t, 3*time.Second, logged)
	})
}

// What a stop has found when it has used up all of Shutdown's time is reported and logged all the same, within a second.
func TestShutdownPublishesWhatTheStopsHaveFound(t *testing.T) {
	for name, test := range map[string]struct {
		report time.Duration // that a report takes
		log    time.Duration // that the log takes for the line of the stuck task
		takes  time.Duration
		want   reportCount
	}{
		"in time":                 {900 * time.Millisecond, 0, 1400 * time.Millisecond, reportCount{delivered: 1}},
		"not in time":             {1100 * time.Millisecond, 0, 1500 * time.Millisecond, reportCount{lost: 1}},
		"the log in time":         {0, 900 * time.Millisecond, 1400 * time.Millisecond, reportCount{delivered: 1}},
		"the log not in time":     {0, time.Hour, 1500 * time.Millisecond, reportCount{delivered: 1}},
		"the log hangs meanwhile": {900 * time.Millisecond, time.Hour, 1500 * time.Millisecond, reportCount{delivered: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newInbox(func(context.Context, int, taskmanager.Event) error { time.Sleep(test.report); return nil })
				m := observed(t, taskmanager.WithReporter(r),
					slowLog("task stuck, its body does not return", func() { time.Sleep(test.log) }))
				release := make(chan struct{})
				start(t, m, "a", ignoring(release))
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				began := time.Now()
				asStuck(t, m.Shutdown(ctx), "a", 500*time.Millisecond)
				took(t, test.takes, began)
				assert.Equal(t, []string{"500ms a stuck run=1 repeats=0"}, r.got())
				assert.Equal(t, test.want, reportsOf(m))
				close(release)
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// Shutdown ends at once when its context is canceled, before or meanwhile; also if that has a deadline.
func TestShutdownIsCanceledWhileItReports(t *testing.T) {
	for name, test := range map[string]struct{ timeout, canceled, takes time.Duration }{
		"before":                      {time.Hour, 0, 0},
		"meanwhile":                   {time.Hour, 2 * time.Second, 2 * time.Second},
		"before its deadline":         {500 * time.Millisecond, 300 * time.Millisecond, 300 * time.Millisecond},
		"when its deadline is past":   {500 * time.Millisecond, 700 * time.Millisecond, time.Second},
		"when it has long been over":  {500 * time.Millisecond, time.Minute, time.Second},
		"not, and its deadline is it": {3 * time.Second, time.Minute, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := observed(t, taskmanager.WithReporter(newInbox(func(ctx context.Context, _ int, _ taskmanager.Event) error {
					<-ctx.Done() // which is not that of Shutdown, but ends with it
					return ctx.Err()
				})))
				failing(t, m, "a")
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), test.timeout)
				if test.canceled > 0 {
					time.AfterFunc(test.canceled, cancel)
				} else {
					cancel()
				}
				began := time.Now()
				require.NoError(t, m.Shutdown(ctx))
				took(t, test.takes, began)
				assert.Equal(t, reportCount{lost: 1}, reportsOf(m))
				cancel()
				time.Sleep(2 * time.Minute)
			})
		})
	}
}

// A Reporter that fails while Shutdown waits for it, or asks for time, is called again after pauses, or is given up at once if the
// time that it asks for is longer than what is left. Shutdown has 5 seconds, which begin half a second after the first call.
func TestShutdownPausesForAReporterThatFails(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		fails int // so many calls
		calls []string
		takes time.Duration
		want  reportCount
		last  string // line of the log
	}{
		"it asked for what it gets": {
			busyError(3 * time.Second), 1,
			[]string{"0s a", "3s a b c"},
			2500 * time.Millisecond,
			reportCount{delivered: 3},
			"ERROR reporter failed, will retry | task=a kind=gave up events=1 attempt=0 error=busy",
		},
		"it asked for too much, and is tried once": {
			busyError(time.Minute), 1,
			[]string{"0s a", "500ms a b c"},
			0,
			reportCount{delivered: 3},
			"ERROR reporter failed, will retry | task=a kind=gave up events=1 attempt=0 error=busy",
		},
		"it asks for too much again": {
			busyError(time.Minute), 1000,
			[]string{"0s a", "500ms a b c"},
			0,
			reportCount{lost: 3},
			"ERROR no time left to report events | events=3 error=busy",
		},
		"it asks for too much in the end": {
			busyError(2 * time.Second), 1000,
			[]string{"0s a", "2s a b c", "4s a b c"},
			3500 * time.Millisecond,
			reportCount{lost: 3},
			"ERROR no time left to report events | events=3 error=busy",
		},
		"it asks for all that is left": {
			busyError(2750 * time.Millisecond), 1000,
			[]string{"0s a", "2.75s a b c"},
			2250 * time.Millisecond,
			reportCount{lost: 3},
			"ERROR no time left to report events | events=3 error=busy",
		},
		"it asks for none, for ever": {
			busyError(0), 1000,
			[]string{
				"0s a", "500ms a b c", "1.5s a b c", "2.5s a b c", "3.5s a b c", "4.5s a b c", "5s b", "5.25s a", "5.375s c", "5.475s a",
			},
			5 * time.Second,
			reportCount{lost: 3},
			"ERROR no time left to report events | events=3",
		},
		"it fails for ever": {
			errDeaf, 1000,
			[]string{
				"0s a", "500ms a b c", "1.5s a b c", "2.5s a b c", "3.5s a b c", "4.5s a b c", "5s b", "5.25s a", "5.375s c", "5.475s a",
			},
			5 * time.Second,
			reportCount{lost: 3},
			"ERROR no time left to report events | events=3",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelError)
				b := newBatcher(func(_ context.Context, call int, events []taskmanager.Event) (int, error) {
					if call <= test.fails {
						return 0, test.err
					}
					return len(events), nil
				})
				m := observed(t, taskmanager.WithReporter(b), noReportLimit(), taskmanager.WithLogger(slog.New(lines)))
				failing(t, m, "a")
				synctest.Wait()
				failing(t, m, "b", "c")
				time.Sleep(500 * time.Millisecond)
				began := time.Now()
				require.NoError(t, m.Shutdown(t.Context()))
				took(t, test.takes, began)
				assert.Equal(t, test.calls, b.got())
				assert.Equal(t, test.want, reportsOf(m))
				about := append(lines.about("reporter"), lines.about("no time")...)
				assert.Equal(t, test.last, about[len(about)-1])
			})
		})
	}
}

// A pause that Shutdown has no time for is made shorter.
func TestShutdownShortensPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
			if n <= 2 {
				return errDeaf
			}
			return nil
		})
		m := observed(t, taskmanager.WithReporter(r))
		failing(t, m, "a")
		synctest.Wait()
		time.Sleep(500 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
		defer cancel()
		require.NoError(t, m.Shutdown(ctx))
		assert.Equal(t, []string{"0s a gave up run=1 repeats=0", "500ms a gave up run=1 repeats=0", "1.1s a gave up run=1 repeats=0"}, r.got())
		assert.Equal(t, reportCount{delivered: 1}, reportsOf(m))
	})
}

// After a Shutdown the reporters work as before: what happens then is limited, and retried.
func TestReporterAfterShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
			if n <= 2 {
				return errDeaf
			}
			return nil
		})
		m := observed(t, taskmanager.WithReporter(r))
		release := make(chan struct{})
		start(t, m, "a", ignoring(release))
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, m.Shutdown(ctx), context.Canceled)
		time.Sleep(time.Minute)
		assert.Equal(t, []string{"5s a stuck run=1 repeats=0", "6s a stuck run=1 repeats=0", "8s a stuck run=1 repeats=0"}, r.got())
		assert.Equal(t, reportCount{delivered: 1}, reportsOf(m))
		close(release)
	})
}

// A Reporter that is set while Shutdown delivers is waited for like one that was set before, and what waits is neither forgotten nor
// counted twice.
func TestShutdownWaitsForAReporterThatIsSetMeanwhile(t *testing.T) {
	for name, test := range map[string]struct {
		next  func() taskmanager.Reporter
		takes time.Duration
		want  reportCount
	}{
		"that is slow":  {slowInbox(time.Second), 4500 * time.Millisecond, reportCount{delivered: 5}},
		"that is fast":  {slowInbox(0), 2 * time.Second, reportCount{delivered: 5}},
		"that hangs":    {slowInbox(time.Hour), 5 * time.Second, reportCount{delivered: 2, lost: 3}},
		"that is none":  {func() taskmanager.Reporter { return nil }, 2 * time.Second, reportCount{delivered: 2, lost: 3}},
		"two of a kind": {func() taskmanager.Reporter { return taskmanager.MultiReporter(slowInbox(0)(), slowInbox(0)()) }, 2 * time.Second, reportCount{delivered: 2 + 2*3}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := observed(t, taskmanager.WithReporter(slowInbox(time.Second)()), taskmanager.WithReportLimit(0.001, 1))
				failing(t, m, "a", "b", "c", "d", "e")
				time.AfterFunc(1500*time.Millisecond, func() { m.SetReporter(test.next()) }) // b is being reported
				began := time.Now()
				require.NoError(t, m.Shutdown(t.Context()))
				took(t, test.takes, began)
				assert.Equal(t, test.want, reportsOf(m))
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// slowInbox makes Reporters that take so long for each report.
func slowInbox(d time.Duration) func() taskmanager.Reporter {
	return func() taskmanager.Reporter {
		return newInbox(func(context.Context, int, taskmanager.Event) error { time.Sleep(d); return nil })
	}
}
