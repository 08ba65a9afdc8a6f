package taskmanager_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

func TestBatchIsAllThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatcher(func(_ context.Context, _ int, events []taskmanager.Event) (int, error) {
			time.Sleep(time.Second)
			return len(events), nil
		})
		m := newManager(t, taskmanager.WithReporter(b), noReportLimit())
		failing(t, m, "a")
		synctest.Wait()
		failing(t, m, "b", "c", "d", "c")
		assert.Equal(t, reportCount{waiting: 5}, reportsOf(m), "one of them in hand")
		time.Sleep(3 * time.Second)
		synctest.Wait()
		assert.Equal(t, []string{"0s a", "1s b c+1 d"}, b.got())
		assert.Equal(t, reportCount{delivered: 5}, reportsOf(m))
	})
}

// What it doesn't take comes back with the next call, which waits for its turn: before what is newer, and merged with that.
func TestBatchThatIsTakenInPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelError)
		b := newBatcher(func(_ context.Context, _ int, events []taskmanager.Event) (int, error) {
			time.Sleep(100 * time.Millisecond)
			return min(2, len(events)), nil
		})
		m := newManager(t, taskmanager.WithReporter(b), taskmanager.WithReportLimit(1, 1))
		failing(t, m, "a")
		synctest.Wait()
		failing(t, m, "b", "c", "d", "e")
		time.Sleep(time.Second + 50*time.Millisecond) // the second call is under way
		synctest.Wait()
		assert.Equal(t, reportCount{delivered: 1, waiting: 4}, reportsOf(m))
		failing(t, m, "f", "e")
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, []string{"0s a", "1s b c d e", "2s d e+1 f", "3s f"}, b.got())
		assert.Equal(t, reportCount{delivered: 7}, reportsOf(m))
		assert.NotContains(t, strings.Join(lines.got(), "\n"), "reporter failed")
	})
}

// What was not delivered before the error is retried.
func TestBatchThatFailsInPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelError)
		b := newBatcher(func(_ context.Context, call int, _ []taskmanager.Event) (int, error) {
			if call == 1 {
				time.Sleep(time.Second)
				return 1, nil
			}
			return 1, errDeaf
		})
		m := newManager(t, taskmanager.WithReporter(b), noReportLimit(), taskmanager.WithLogger(slog.New(lines)))
		failing(t, m, "a")
		synctest.Wait()
		failing(t, m, "b", "c", "d", "e", "f", "f")
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, []string{"0s a", "1s b c d e f+1", "2s c d e f+1", "4s d e f+1", "8s e f+1", "16s f+1"}, b.got())
		assert.Equal(t, reportCount{delivered: 7}, reportsOf(m))
		assert.Equal(t, []string{
			"ERROR reporter failed, will retry | task=c kind=gave up other_reports=3 events=5 attempt=1 error=deaf",
			"ERROR reporter failed, will retry | task=d kind=gave up other_reports=2 events=4 attempt=2 error=deaf",
			"ERROR reporter failed, will retry | task=e kind=gave up other_reports=1 events=3 attempt=3 error=deaf",
			"ERROR reporter failed, will retry | task=f kind=gave up events=2 attempt=4 error=deaf",
		}, lines.about("reporter"))
	})
}

func TestBatchThatCannotBe(t *testing.T) {
	for name, test := range map[string]struct {
		answer func() (int, error)
		logged string
	}{
		"nothing without an error": {
			func() (int, error) { return 0, nil },
			"error=taskmanager: ReportBatch returned that 0 of 1 events were delivered",
		},
		"nothing, with an error": {func() (int, error) { return 0, errDeaf }, "error=deaf"},
		"more than there were": {
			func() (int, error) { return 2, nil },
			"error=taskmanager: ReportBatch returned that 2 of 1 events were delivered",
		},
		"a negative number": {
			func() (int, error) { return -1, nil },
			"error=taskmanager: ReportBatch returned that -1 of 1 events were delivered",
		},
		"a panic": {func() (int, error) { panic("no") }, "error=taskmanager: panic: no"},
		"Goexit":  {func() (int, error) { runtime.Goexit(); return 1, nil }, "error=taskmanager: body called runtime.Goexit"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelError)
				b := newBatcher(func(_ context.Context, call int, _ []taskmanager.Event) (int, error) {
					if call == 1 {
						return test.answer()
					}
					return 1, nil
				})
				m := newManager(t, taskmanager.WithReporter(b), noReportLimit(), taskmanager.WithLogger(slog.New(lines)))
				failing(t, m, "a")
				time.Sleep(time.Minute)
				assert.Equal(t, []string{"0s a", "1s a"}, b.got())
				assert.Equal(t, reportCount{delivered: 1}, reportsOf(m))
				assert.Equal(t, []string{
					"ERROR reporter failed, will retry | task=a kind=gave up events=1 attempt=1 " + test.logged,
				}, lines.about("reporter"))
			})
		})
	}
}

// A batch that is in hand when Shutdown has no more time is lost as a whole; the context ends, and what the call returns
// in the end changes nothing.
func TestBatchInHandAtShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelError)
		b := newBatcher(func(ctx context.Context, call int, events []taskmanager.Event) (int, error) {
			if call == 2 {
				<-ctx.Done()
			}
			time.Sleep(time.Second)
			return len(events), nil
		})
		m := mustNew(t, taskmanager.WithReporter(b), noReportLimit(), taskmanager.WithLogger(slog.New(lines)))
		failing(t, m, "a")
		synctest.Wait()
		failing(t, m, "b", "c")
		time.Sleep(time.Second)
		synctest.Wait()
		failing(t, m, "d")
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Equal(t, reportCount{delivered: 1, lost: 3}, reportsOf(m))
		time.Sleep(time.Minute)
		assert.Equal(t, reportCount{delivered: 1, lost: 3}, reportsOf(m))
		assert.Equal(t, []string{"ERROR no time left to report events | events=3"}, lines.about("report events"))
		assert.Empty(t, lines.about("reporter"))
	})
}

func TestBatchInHandWhenReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelError)
		b := newBatcher(func(context.Context, int, []taskmanager.Event) (int, error) {
			time.Sleep(time.Second)
			return 1, nil
		})
		m := newManager(t, taskmanager.WithReporter(b), noReportLimit(), taskmanager.WithLogger(slog.New(lines)))
		failing(t, m, "a")
		synctest.Wait()
		failing(t, m, "b", "c")
		time.Sleep(1500 * time.Millisecond)
		failing(t, m, "d")
		successor := newBatcher(nil)
		m.SetReporter(successor)
		time.Sleep(time.Minute)
		assert.Equal(t, []string{"0s a", "1s b c"}, b.got())
		assert.Equal(t, []string{"0s d", "500ms c"}, successor.got())
		assert.Equal(t, reportCount{delivered: 4}, reportsOf(m))
		assert.Empty(t, lines.about("reporter"))
	})
}

// A closedError is ErrReporterClosed in its own words.
type closedError struct{}

func (closedError) Error() string { return "the channel is gone" }

func (closedError) Is(target error) bool { return target == taskmanager.ErrReporterClosed }

func TestReporterThatIsClosed(t *testing.T) {
	closed := errors.Join(errDeaf, taskmanager.ErrReporterClosed)
	for name, test := range map[string]struct {
		reporter func(err error) taskmanager.Reporter
		err      error
		text     string
	}{
		"for single events": {func(err error) taskmanager.Reporter {
			return newInbox(func(context.Context, int, taskmanager.Event) error {
				time.Sleep(time.Second)
				return err
			})
		}, closed, "deaf\ntaskmanager: reporter is closed"},
		"for batches": {func(err error) taskmanager.Reporter {
			return newBatcher(func(context.Context, int, []taskmanager.Event) (int, error) {
				time.Sleep(time.Second)
				return 0, err
			})
		}, closedError{}, "the channel is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelError)
				r := test.reporter(test.err)
				m := newManager(t, taskmanager.WithReporter(r), noReportLimit(), taskmanager.WithLogger(slog.New(lines)))
				failing(t, m, "a")
				synctest.Wait()
				failing(t, m, "b", "c")
				time.Sleep(time.Minute)
				failing(t, m, "d")
				time.Sleep(time.Minute)
				assert.Len(t, r.(interface{ got() []string }).got(), 1, "it is not called again")
				assert.Equal(t, reportCount{lost: 4}, reportsOf(m))
				assert.Equal(t, []string{
					"ERROR reporter is closed, all reports are lost until it is replaced | events=3 error=" + test.text,
				}, lines.about("reporter"))

				b := newBatcher(nil)
				m.SetReporter(b)
				failing(t, m, "e")
				synctest.Wait()
				assert.Equal(t, []string{"0s e"}, b.got())
				assert.Equal(t, reportCount{delivered: 1, lost: 4}, reportsOf(m))
			})
		})
	}
}

// An error that can't even be asked whether the Reporter is closed is one like any other.
func TestReporterWhoseErrorsMethodsPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
			if n == 1 {
				return brokenError{}
			}
			return nil
		})
		m := newManager(t, taskmanager.WithReporter(r), noReportLimit())
		failing(t, m, "a")
		time.Sleep(time.Minute)
		assert.Len(t, r.got(), 2)
		assert.Equal(t, reportCount{delivered: 1}, reportsOf(m))
	})
}

// An attempt after which the Reporter asked for time is none: nothing is lost, however often it asks.
func TestReporterThatAsksForTime(t *testing.T) {
	for name, test := range map[string]struct {
		asks time.Duration
		want []string
	}{
		"longer than a retry would wait":  {time.Minute, []string{"0s a", "1m0s a b", "2m0s a b", "3m0s a b", "4m0s a b"}},
		"shorter than a retry would wait": {300 * time.Millisecond, []string{"0s a", "300ms a b", "600ms a b", "900ms a b", "1.2s a b"}},
		"hardly any":                      {time.Nanosecond, []string{"0s a", "100ms a b", "200ms a b", "300ms a b", "400ms a b"}},
		"no time":                         {-time.Minute, []string{"0s a", "1s a b", "3s a b", "7s a b", "15s a b"}},
		"more than an hour": {1000 * time.Hour, []string{
			"0s a", "1h0m0s a b", "2h0m0s a b", "3h0m0s a b", "4h0m0s a b",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBatcher(func(_ context.Context, call int, events []taskmanager.Event) (int, error) {
					if call < 5 {
						return 0, fmt.Errorf("post: %w", busyError(test.asks))
					}
					return len(events), nil
				})
				m := newManager(t, taskmanager.WithReporter(b), noReportLimit())
				failing(t, m, "a")
				synctest.Wait()
				failing(t, m, "b")
				time.Sleep(10 * time.Hour)
				assert.Equal(t, test.want, b.got())
				assert.Equal(t, reportCount{delivered: 2}, reportsOf(m))
			})
		})
	}
}

// Shutdown has no time to give: it tries once more at once.
func TestReporterThatAsksForTimeAtShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatcher(func(_ context.Context, call int, events []taskmanager.Event) (int, error) {
			if call == 1 {
				return 0, busyError(time.Minute)
			}
			return len(events), nil
		})
		m := mustNew(t, taskmanager.WithReporter(b), noReportLimit())
		failing(t, m, "a")
		time.Sleep(time.Second)
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Equal(t, []string{"0s a", "1s a"}, b.got())
		assert.Equal(t, reportCount{delivered: 1}, reportsOf(m))
	})
}

// A report that stands for several says since when.
func TestReportSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(nil)
		began := time.Now()
		m := newManager(t, taskmanager.WithReporter(r), taskmanager.WithReportLimit(0.1, 1))
		start(t, m, "a", boom, append(everyTime(3*time.Second, 8), taskmanager.WithBackoffJitter(0))...)
		time.Sleep(time.Minute)
		var lines []string
		for _, e := range r.events() {
			since := "-"
			if !e.Since.IsZero() {
				since = e.Since.Sub(began).String()
			}
			lines = append(lines, fmt.Sprintf("%v at %v: +%d since %s", e.Kind, e.Time.Sub(began), e.Repeats, since))
		}
		assert.Equal(t, []string{
			"failed at 0s: +0 since -",
			"failed at 9s: +2 since 3s",
			"failed at 18s: +2 since 12s",
			"gave up at 21s: +0 since -",
		}, lines)
	})
}

// One that has failed and waits again is the first of what it is merged with.
func TestReportSinceAfterARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newInbox(func(_ context.Context, n int, _ taskmanager.Event) error {
			if n == 1 {
				time.Sleep(5 * time.Second)
				return errDeaf
			}
			return nil
		})
		began := time.Now()
		m := newManager(t, taskmanager.WithReporter(r), noReportLimit())
		start(t, m, "a", boom, append(everyTime(2*time.Second, 4), taskmanager.WithBackoffJitter(0))...)
		time.Sleep(time.Minute)
		got := r.events()
		require.GreaterOrEqual(t, len(got), 2)
		assert.Equal(t, began, got[1].Since, "of the very first failure")
		assert.Equal(t, 2, got[1].Repeats)
	})
}

// A nosyError asks the Manager from each method that this package calls.
type nosyError struct {
	manager *taskmanager.Manager
	asked   chan string
}

func (nosyError) Error() string { return "nosy" }

func (e nosyError) Is(error) bool {
	e.manager.Stats()
	e.asked <- "Is"
	return false
}

func (e nosyError) RetryAfter() time.Duration {
	e.manager.Stats()
	e.asked <- "RetryAfter"
	return time.Hour
}

// With real goroutines: a bubble doesn't see one that waits for a mutex.
func TestReporterErrorIsAskedWithoutALock_Promise4(t *testing.T) {
	m := mustNew(t)
	asked := make(chan string, 10)
	m.SetReporter(taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error { return nosyError{m, asked} }))
	failing(t, m, "a")
	for range 2 {
		select {
		case <-asked:
		case <-time.After(20 * time.Second): // no wait for something to happen: it ends a test that would hang
			t.Fatal("a lock is held while user code runs")
		}
	}
	m.SetReporter(nil)
}
