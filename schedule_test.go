package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A passLog notes when passes begin, since it was made.
type passLog struct {
	made time.Time
	mu   sync.Mutex
	at   []time.Duration
}

// note notes that a pass begins, and returns how many have.
func (l *passLog) note() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = append(l.at, time.Since(l.made))
	return len(l.at)
}

// times returns when passes have begun.
func (l *passLog) times() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.at)
}

// lasting returns a body whose passes take as long as given, one after the other; further ones take no time.
func (l *passLog) lasting(d ...time.Duration) taskmanager.TaskFunc {
	return func(context.Context) error {
		l.note()
		if len(d) > 0 {
			time.Sleep(d[0])
			d = d[1:]
		}
		return nil
	}
}

// failing returns a body whose n-th pass, counted over all runs, ends as end does.
func (l *passLog) failing(n int, end func() error) taskmanager.TaskFunc {
	return func(context.Context) error {
		if l.note() == n {
			return end()
		}
		return nil
	}
}

// nextPass is when the next pass of a task begins; zero if none is waited for.
func nextPass(t *taskmanager.Task) time.Time {
	if p := t.Stats().Passes; p != nil {
		return p.Next
	}
	return time.Time{}
}

func newPassLog() *passLog { return &passLog{made: time.Now()} }

// nextFunc is a function as a Schedule.
type nextFunc func(time.Time) time.Time

func (f nextFunc) Next(t time.Time) time.Time { return f(t) }

// each is the schedule of the whole multiples of d.
func each(d time.Duration) nextFunc {
	return func(t time.Time) time.Time { return t.Truncate(d).Add(d) }
}

// after is the schedule of what is d after the time that is asked for.
func after(d time.Duration) nextFunc {
	return func(t time.Time) time.Time { return t.Add(d) }
}

// at is the schedule of the times that are so long after now.
func at(ds ...time.Duration) nextFunc {
	begin := time.Now()
	return func(t time.Time) time.Time {
		for _, d := range ds {
			if next := begin.Add(d); next.After(t) {
				return next
			}
		}
		return time.Time{}
	}
}

// The first pass is at once. How long passes take moves no tick, and ticks that come meanwhile are skipped.
func TestEveryKeepsTheInterval(t *testing.T) {
	for name, test := range map[string]struct {
		passes []time.Duration
		want   []time.Duration
	}{
		"short passes":               {nil, seconds(0, 10, 20, 30, 40, 50, 60)},
		"passes of different length": {seconds(3, 9.999999999, 0, 1e-9, 7), seconds(0, 10, 20, 30, 40, 50, 60)},
		"one takes too long":         {seconds(0, 25), seconds(0, 10, 40, 50, 60)},
		"one ends at a tick":         {seconds(0, 10), seconds(0, 10, 30, 40, 50, 60)},
		"one misses many":            {seconds(59.5), seconds(0, 60)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := observed(t)
				time.Sleep(1234567 * time.Microsecond) // the ticks are those of the run, not of the clock
				passes := newPassLog()
				task := start(t, m, "a", taskmanager.Every(10*time.Second, passes.lasting(test.passes...)))
				time.Sleep(65 * time.Second)
				began := time.Now()
				require.NoError(t, task.Stop(t.Context()))
				took(t, 0, began)
				assert.Equal(t, test.want, passes.times())
				assert.EqualValues(t, 1, task.Stats().Runs)
			})
		})
	}
}

// After ten thousand passes of any length the ticks are where they were.
func TestEveryDoesNotDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval, count = 700 * time.Millisecond, 10_000
		began, passes := time.Now(), 0
		body := taskmanager.Every(interval, func(context.Context) error {
			took(t, time.Duration(passes)*interval, began)
			if passes++; passes == count {
				return errBoom
			}
			time.Sleep(time.Duration(passes%699) * time.Millisecond)
			return nil
		})
		require.Equal(t, errBoom, body(t.Context()))
	})
}

// The largest interval is not the smallest one by an overflow.
func TestEveryCentury(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.Every(math.MaxInt64, passes.lasting(time.Second)))
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Equal(t, seconds(0), passes.times())
		assert.Equal(t, 100*365*24*time.Hour, nextPass(task).Sub(passes.made))
		require.NoError(t, task.Stop(t.Context()))
	})
}

// A pass that fails fails the run. The next run begins with it, and the ticks go on.
func TestEveryAFailingPassIsAFailure(t *testing.T) {
	for name, test := range map[string]struct {
		end    func() error
		failed func(t *testing.T, err error)
		panics uint64
	}{
		"error": {
			end:    func() error { return errBoom },
			failed: func(t *testing.T, err error) { assert.Equal(t, errBoom, err) },
		},
		"panic": {
			end: func() error { panic("pass") },
			failed: func(t *testing.T, err error) {
				var panicked *taskmanager.PanicError
				require.ErrorAs(t, err, &panicked)
				assert.Equal(t, "pass", panicked.Value)
			},
			panics: 1,
		},
		"Goexit": {
			end:    func() error { runtime.Goexit(); return nil },
			failed: func(t *testing.T, err error) { assert.Equal(t, taskmanager.ErrGoexit, err) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := observed(t)
				passes := newPassLog()
				task := start(t, m, "a", taskmanager.Every(10*time.Second, passes.failing(3, test.end)))
				time.Sleep(20*time.Second + time.Millisecond)
				s := task.Stats()
				assert.Equal(t, taskmanager.StateBackoff, s.State)
				assert.Zero(t, nextPass(task), "no run, no pass")
				test.failed(t, s.LastError)
				time.Sleep(22 * time.Second)
				require.NoError(t, task.Stop(t.Context()))
				s = task.Stats()
				assert.EqualValues(t, 2, s.Runs)
				assert.EqualValues(t, 1, s.Failures)
				assert.Equal(t, test.panics, s.Panics)
				assert.Equal(t, seconds(0, 10, 20, 22, 30, 40), passes.times(), "the backoff is 2 s")
			})
		})
	}
}

// An error that is permanent gives up the task, and so does the first failure where there is to be no restart.
func TestEveryIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t, taskmanager.WithBackoff(0, 0))
		task := start(t, m, "a", taskmanager.Every(time.Hour, boom), taskmanager.WithRestart(taskmanager.RestartNever))
		require.ErrorIs(t, task.Wait(t.Context()), errBoom)
		assert.EqualValues(t, 1, task.Stats().Runs)

		task = start(t, m, "b", taskmanager.Every(time.Hour, func(context.Context) error { return backoff.Permanent(errBoom) }))
		require.ErrorIs(t, task.Wait(t.Context()), errBoom)
		assert.EqualValues(t, 1, task.Stats().Runs)
	})
}

// Bad arguments can't be seen by StartTask. They end the task at its first run, without a hot loop.
func TestPassesWithBadArguments(t *testing.T) {
	for name, test := range map[string]struct {
		body taskmanager.TaskFunc
		want string
	}{
		"no interval":        {taskmanager.Every(0, untilStopped), "taskmanager: interval 0s: must be positive"},
		"a negative one":     {taskmanager.Every(-time.Second, untilStopped), "taskmanager: interval -1s: must be positive"},
		"no body":            {taskmanager.Every(time.Second, nil), "taskmanager: body <nil>: must not be nil"},
		"no schedule":        {taskmanager.OnSchedule(nil, untilStopped), "taskmanager: schedule <nil>: must not be nil"},
		"no scheduled body":  {taskmanager.OnSchedule(each(time.Second), nil), "taskmanager: body <nil>: must not be nil"},
		"Next panics":        {taskmanager.OnSchedule(nextFunc(func(time.Time) time.Time { panic("no Next") }), untilStopped), `taskmanager: schedule "taskmanager_test.nextFunc": Next panicked: no Next`},
		"a nil func":         {taskmanager.OnSchedule(nextFunc(nil), untilStopped), `taskmanager: schedule "taskmanager_test.nextFunc": Next panicked: runtime error: invalid memory address or nil pointer dereference`},
		"Next stands still":  {taskmanager.OnSchedule(after(0), untilStopped), `taskmanager: schedule "taskmanager_test.nextFunc": Next(` + bubbleBegin() + `) returned ` + bubbleBegin() + `, which is not after it`},
		"Next goes backward": {taskmanager.OnSchedule(after(-1), untilStopped), `taskmanager: schedule "taskmanager_test.nextFunc": Next(` + bubbleBegin() + `) returned ` + bubbleTime(-1) + `, which is not after it`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := observed(t, taskmanager.WithBackoff(0, 0), taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithRestart(taskmanager.RestartAlways))
				task := start(t, m, "a", test.body)
				err := task.Wait(t.Context())
				assert.EqualError(t, err, `taskmanager: gave up task "a": `+test.want)
				var refused *taskmanager.OptionError
				require.ErrorAs(t, err, &refused)
				assert.EqualValues(t, 1, task.Stats().Runs)

				// Without a Manager, too.
				assert.EqualError(t, test.body(t.Context()), test.want)
			})
		})
	}
}

// bubbleTime is how a time is written that is so long after the one at which bubbles begin.
func bubbleTime(d time.Duration) string {
	return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d).Local().Format(time.RFC3339Nano)
}

func bubbleBegin() string { return bubbleTime(0) }

// A schedule that goes wrong later fails the run then.
func TestOnScheduleNextGoesWrongLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.OnSchedule(nextFunc(func(t time.Time) time.Time {
			if len(passes.times()) == 2 {
				panic(errBoom)
			}
			return each(time.Minute)(t)
		}), passes.lasting()))
		err := task.Wait(t.Context())
		assert.EqualError(t, err, `taskmanager: gave up task "a": taskmanager: schedule "taskmanager_test.nextFunc": Next panicked: boom`)
		assert.Equal(t, seconds(60, 120), passes.times())
	})
}

// A trappedSchedule is one with a trap in a certain call of Next, counted from 1.
type trappedSchedule struct {
	nextFunc
	call  int
	calls *int
	trap  func()
}

func (s trappedSchedule) Next(t time.Time) time.Time {
	if *s.calls++; *s.calls == s.call {
		s.trap()
	}
	return s.nextFunc(t)
}

// trapped makes a schedule of whole minutes with a trap.
func trapped(call int, trap func()) trappedSchedule {
	return trappedSchedule{each(time.Minute), call, new(int), trap}
}

// How long Next takes moves no pass. One whose time has come before Next has returned begins then.
func TestOnScheduleNextIsLate(t *testing.T) {
	for name, test := range map[string]struct {
		takes    time.Duration
		schedule nextFunc
		want     []time.Duration
	}{
		"within the distance":    {10 * time.Second, each(time.Minute), seconds(60, 120, 180, 240)},
		"exactly the distance":   {time.Minute, each(time.Minute), seconds(60, 120, 180, 240)},
		"more than the distance": {90 * time.Second, each(time.Minute), seconds(90, 180)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := observed(t)
				passes := newPassLog()
				task := start(t, m, "a", taskmanager.OnSchedule(nextFunc(func(u time.Time) time.Time {
					time.Sleep(test.takes)
					return test.schedule(u)
				}), passes.lasting()))
				time.Sleep(4*time.Minute + time.Millisecond)
				synctest.Wait()
				assert.Equal(t, taskmanager.StateRunning, task.State())
				assert.Equal(t, test.want, passes.times())
				_ = task.Stop(t.Context()) // Next may be under way
				<-task.Done()
			})
		})
	}
}

// A stop waits for Next as for the rest of the body, until its deadline. However Next ends then, the task has stopped, and no pass
// begins.
func TestOnScheduleNextWhileItIsStopped(t *testing.T) {
	for title, end := range map[string]func(){
		"returns":     func() {},
		"panics":      func() { panic("Next") },
		"exits":       runtime.Goexit,
		"stops again": nil,
	} {
		for _, call := range []int{1, 2} { // before the first pass, and after it
			for _, takes := range []time.Duration{2 * time.Second, 20 * time.Second} {
				t.Run(fmt.Sprintf("%s, call %d, after %v", title, call, takes), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						before := goroutines()
						m := observed(t)
						passes := newPassLog()
						task := start(t, m, "a", taskmanager.OnSchedule(trapped(call, func() {
							time.Sleep(takes)
							if end == nil {
								assert.ErrorIs(t, m.StopTask(canceled(t), "a"), context.Canceled)
								return
							}
							end()
						}), passes.lasting()))
						time.Sleep(time.Duration(call-1) * time.Minute)
						synctest.Wait()
						began := time.Now()
						err := task.Stop(t.Context())
						if takes > userCodeTimeout {
							took(t, userCodeTimeout, began)
							stuck := asStuck(t, err, "a", userCodeTimeout)
							assert.Contains(t, string(stuck.Stack), "trappedSchedule.Next")
							assert.Equal(t, taskmanager.StateStuck, task.State())
							asStuck(t, task.Restart(t.Context()), "a", userCodeTimeout)
							took(t, userCodeTimeout, began)
						} else {
							require.NoError(t, err)
						}
						<-task.Done()
						took(t, takes, began)
						require.NoError(t, task.Err())
						time.Sleep(time.Hour)
						assert.Equal(t, taskmanager.StateStopped, task.State())
						assert.Zero(t, task.Stats().Failures)
						assert.Len(t, passes.times(), call-1, "passes")
						assert.Equal(t, before, goroutines(), "goroutines")
					})
				})
			}
		}
	}
}

// A Next that exits has ended the run, which is a failure as any other: the next run asks the schedule again.
func TestOnScheduleNextExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.OnSchedule(trapped(2, runtime.Goexit), passes.lasting()))
		time.Sleep(time.Minute + time.Millisecond)
		s := task.Stats()
		assert.Equal(t, taskmanager.StateBackoff, s.State)
		assert.Equal(t, taskmanager.ErrGoexit, s.LastError)
		assert.EqualValues(t, 1, s.Failures)
		assert.Zero(t, s.Panics)
		time.Sleep(2 * time.Minute)
		assert.EqualValues(t, 2, task.Stats().Runs)
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, seconds(60, 120, 180), passes.times())
	})
}

// A Next that hangs after a pass gives no heartbeat.
func TestOnScheduleNextHangsUnderAWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		release := make(chan struct{})
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.OnSchedule(trapped(2, func() { <-release }), passes.lasting()),
			taskmanager.WithWatchdog(10*time.Second))
		time.Sleep(70*time.Second - time.Millisecond)
		assert.Equal(t, taskmanager.StateRunning, task.State())
		time.Sleep(2 * time.Millisecond)
		assert.Equal(t, taskmanager.StateStopping, task.State())
		time.Sleep(userCodeTimeout)
		assert.Equal(t, taskmanager.StateStuck, task.State())
		close(release)
		require.Equal(t, taskmanager.StateBackoff, settled(task))
		assert.ErrorIs(t, task.Stats().LastError, taskmanager.ErrWatchdog)
		time.Sleep(time.Minute)
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, seconds(60, 120), passes.times())
	})
}

// Next is called by the body, and may call the Manager as the body may: with the run's context it does not wait for itself, and
// without, it waits for its time.
func TestOnScheduleNextCallsBack(t *testing.T) {
	type scene struct {
		m      *taskmanager.Manager
		former *inbox
		latter *inbox
	}
	bg := context.Background()
	for title, test := range map[string]struct {
		do     func(t *testing.T, ctx context.Context, s *scene) error
		stuck  bool // it waits for itself, in vain
		state  taskmanager.State
		runs   uint64
		passes []time.Duration // in two minutes
		gone   bool            // the other task is stopped as well
		late   bool            // and the failures are the latter reporter's
	}{
		"StopTask": {
			do:    func(_ *testing.T, ctx context.Context, s *scene) error { return s.m.StopTask(ctx, "a") },
			state: taskmanager.StateStopped, runs: 1,
		},
		"StopTask without its context": {
			do:    func(_ *testing.T, _ context.Context, s *scene) error { return s.m.StopTask(bg, "a") },
			stuck: true, state: taskmanager.StateStopped, runs: 1,
		},
		"RestartTask": {
			do:    func(_ *testing.T, ctx context.Context, s *scene) error { return s.m.RestartTask(ctx, "a") },
			state: taskmanager.StateRunning, runs: 2, passes: seconds(60, 120),
		},
		"RestartTask without its context": {
			do:    func(_ *testing.T, _ context.Context, s *scene) error { return s.m.RestartTask(bg, "a") },
			stuck: true, state: taskmanager.StateStopped, runs: 1,
		},
		"StopAll": {
			do:    func(_ *testing.T, ctx context.Context, s *scene) error { return s.m.StopAll(ctx) },
			state: taskmanager.StateStopped, runs: 1, gone: true,
		},
		"StopAll without its context": {
			do:    func(_ *testing.T, _ context.Context, s *scene) error { return s.m.StopAll(bg) },
			stuck: true, state: taskmanager.StateStopped, runs: 1, gone: true,
		},
		"Shutdown": {
			do:    func(_ *testing.T, ctx context.Context, s *scene) error { return s.m.Shutdown(ctx) },
			state: taskmanager.StateStopped, runs: 1, gone: true,
		},
		"Stats": {
			do: func(t *testing.T, _ context.Context, s *scene) error {
				stats := s.m.Stats().Tasks["a"]
				assert.Equal(t, taskmanager.StateRunning, stats.State)
				assert.Zero(t, stats.Passes.Next, "it is not known yet")
				return nil
			},
			state: taskmanager.StateRunning, runs: 1, passes: seconds(60, 120),
		},
		"SetReporter": {
			do:    func(_ *testing.T, _ context.Context, s *scene) error { s.m.SetReporter(s.latter); return nil },
			state: taskmanager.StateRunning, runs: 1, passes: seconds(60, 120), late: true,
		},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before := goroutines()
				s := &scene{former: newInbox(nil), latter: newInbox(nil)}
				s.m = observed(t, taskmanager.WithReporter(s.former))
				other := start(t, s.m, "other", untilStopped)
				passes := newPassLog()
				calls := 0
				task := start(t, s.m, "a", func(ctx context.Context) error {
					return taskmanager.OnSchedule(nextFunc(func(u time.Time) time.Time {
						if calls++; calls == 1 {
							began := time.Now()
							err := test.do(t, ctx, s)
							if test.stuck {
								asStuck(t, err, "a", userCodeTimeout)
								took(t, userCodeTimeout, began)
							} else {
								assert.NoError(t, err)
								took(t, 0, began)
							}
						}
						return each(time.Minute)(u)
					}), passes.lasting())(ctx)
				})
				time.Sleep(2*time.Minute + time.Second)
				synctest.Wait()
				assert.Equal(t, test.state, task.State())
				assert.Equal(t, test.runs, task.Stats().Runs)
				assert.Equal(t, test.passes, passes.times())
				assert.Equal(t, test.gone, other.State().Ended())
				assert.Zero(t, task.Stats().Failures)

				heard, silent := s.former, s.latter
				if test.late {
					heard, silent = silent, heard
				}
				want := 0
				if test.stuck {
					want++
				}
				if title != "Shutdown" {
					start(t, s.m, "fails", boom, once())
					want++
				}
				synctest.Wait()
				assert.Len(t, heard.got(), want)
				assert.Empty(t, silent.got())
				require.NoError(t, s.m.Shutdown(t.Context()))
				assert.Equal(t, before, goroutines(), "goroutines")
			})
		})
	}
}

func TestOnSchedule(t *testing.T) {
	const minute = 60.0
	for name, test := range map[string]struct {
		begin    time.Duration
		schedule nextFunc
		passes   []time.Duration
		want     []time.Duration
	}{
		"the first pass is at the first time": {17 * time.Second, each(time.Minute), nil, seconds(minute-17, 2*minute-17, 3*minute-17, 4*minute-17)},
		"a time that is now is over":          {0, each(time.Minute), nil, seconds(minute, 2*minute, 3*minute, 4*minute)},
		"passes take time":                    {0, each(time.Minute), seconds(59, 0.5, 59.999999999), seconds(minute, 2*minute, 3*minute, 4*minute)},
		"a time comes in a pass":              {0, each(time.Minute), seconds(61), seconds(minute, 3*minute, 4*minute)},
		"a time comes at the end of a pass":   {0, each(time.Minute), seconds(60), seconds(minute, 3*minute, 4*minute)},
		"many times come in a pass":           {0, each(time.Second), seconds(200.5, 20), seconds(1, 202, 223, 224, 225, 226, 227, 228, 229, 230, 231, 232, 233, 234, 235, 236, 237, 238, 239, 240)},
		"a distance that passes don't move":   {0, after(time.Minute), seconds(30, 59), seconds(minute, 2*minute, 3*minute, 4*minute)},
		"but a missed time does":              {0, after(time.Minute), seconds(70), seconds(minute, minute+70+minute)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := observed(t)
				time.Sleep(test.begin)
				passes := newPassLog()
				task := start(t, m, "a", taskmanager.OnSchedule(test.schedule, passes.lasting(test.passes...)))
				time.Sleep(4*time.Minute + time.Millisecond)
				require.NoError(t, task.Stop(t.Context()))
				assert.Equal(t, test.want, passes.times())
			})
		})
	}
}

// A wait of a year ends to the nanosecond, though it is looked at every minute.
func TestOnScheduleInAYear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const year = 365*24*time.Hour + 1
		passes := newPassLog()
		require.NoError(t, taskmanager.OnSchedule(at(year), passes.lasting())(t.Context()))
		assert.Equal(t, []time.Duration{year}, passes.times())
	})
}

// The zero time is the end of a schedule, before the first pass and after the last.
func TestOnScheduleEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		passes := newPassLog()
		never := start(t, m, "never", taskmanager.OnSchedule(at(), passes.lasting()))
		require.NoError(t, never.Wait(t.Context()))
		assert.Equal(t, taskmanager.StateCompleted, never.State())
		assert.Empty(t, passes.times())

		thrice := start(t, m, "thrice", taskmanager.OnSchedule(at(seconds(1, 5, 7)...), passes.lasting(0, 3*time.Second)))
		require.NoError(t, thrice.Wait(t.Context()))
		took(t, 8*time.Second, passes.made)
		assert.Equal(t, taskmanager.StateCompleted, thrice.State())
		assert.Equal(t, seconds(1, 5), passes.times(), "the time at 7 s comes in the pass from 5 s to 8 s")
	})
}

// A failed pass is tried again, and the times of the schedule go on.
func TestOnScheduleAFailingPassIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.OnSchedule(each(time.Minute), passes.failing(2, func() error { return errBoom })))
		time.Sleep(4*time.Minute + time.Millisecond)
		require.NoError(t, task.Stop(t.Context()))
		s := task.Stats()
		assert.EqualValues(t, 1, s.Failures)
		assert.Equal(t, errBoom, s.LastError)
		assert.Equal(t, seconds(60, 120, 122, 180, 240), passes.times())
	})
}

// What is given to a Schedule is in the local zone, whatever zone it answers in.
func TestOnScheduleAsksInLocalTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, asked := time.Now(), []time.Duration(nil)
		elsewhere := nextFunc(func(u time.Time) time.Time {
			assert.Same(t, time.Local, u.Location())
			asked = append(asked, u.Sub(begin))
			if len(asked) == 4 {
				return time.Time{}
			}
			return u.Add(2 * time.Second).In(time.FixedZone("elsewhere", 3600))
		})
		require.NoError(t, taskmanager.OnSchedule(elsewhere, newPassLog().lasting(seconds(1, 1, 1)...))(t.Context()))
		assert.Equal(t, seconds(0, 2, 4, 6), asked)
	})
}

// A stop ends a wait at once, and a pass by its context; no further pass begins.
func TestPassesAreStopped(t *testing.T) {
	for name, body := range map[string]func(taskmanager.TaskFunc) taskmanager.TaskFunc{
		"Every": func(body taskmanager.TaskFunc) taskmanager.TaskFunc { return taskmanager.Every(time.Minute, body) },
		"OnSchedule": func(body taskmanager.TaskFunc) taskmanager.TaskFunc {
			return taskmanager.OnSchedule(each(time.Minute), body)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := observed(t)
				passes := newPassLog()
				waiting := start(t, m, "waiting", body(passes.lasting()))
				time.Sleep(90 * time.Second)
				synctest.Wait()
				began, before := time.Now(), len(passes.times())
				require.NoError(t, waiting.Stop(t.Context()))
				took(t, 0, began)
				assert.Zero(t, nextPass(waiting))

				// A pass that needs a second to return, and then returns nil as if nothing had been.
				entered := 0
				inPass := start(t, m, "in a pass", body(func(ctx context.Context) error {
					entered++
					return slowToStop(time.Second)(ctx)
				}))
				time.Sleep(90 * time.Second)
				began = time.Now()
				require.NoError(t, inPass.Stop(t.Context()))
				took(t, time.Second, began)
				time.Sleep(time.Hour)
				assert.Equal(t, 1, entered)
				assert.Len(t, passes.times(), before)
				assert.Equal(t, taskmanager.StateStopped, inPass.State())
			})
		})
	}
}

// A lateContext ends at a time, with err, and its Done comes too late to tell.
type lateContext struct {
	context.Context
	end time.Time
	err error
}

func (c lateContext) Err() error {
	if time.Now().Before(c.end) {
		return nil
	}
	return c.err
}

// At the moment of a tick that is also that of the end, it is the end that counts.
func TestPassesEndWithTheContext(t *testing.T) {
	for name, body := range map[string]func(taskmanager.TaskFunc) taskmanager.TaskFunc{
		"Every": func(body taskmanager.TaskFunc) taskmanager.TaskFunc { return taskmanager.Every(time.Minute, body) },
		"OnSchedule": func(body taskmanager.TaskFunc) taskmanager.TaskFunc {
			return taskmanager.OnSchedule(each(time.Minute), body)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := lateContext{t.Context(), time.Now().Add(3 * time.Minute), context.Canceled}
				passes := newPassLog()
				require.NoError(t, body(passes.lasting())(ctx))
				took(t, 3*time.Minute, passes.made)
				before := len(passes.times())
				assert.Equal(t, 2*time.Minute, passes.times()[before-1])

				require.NoError(t, body(passes.lasting())(ctx), "it has ended before the first pass")
				took(t, 3*time.Minute, passes.made)
				assert.Len(t, passes.times(), before)
			})
		})
	}
}

// When the next pass is due shows while the run waits for it, and at no other time.
func TestStatsTellTheNextPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		begin := time.Now()
		body := func(ctx context.Context) error {
			select {
			case <-time.After(3 * time.Second):
			case <-ctx.Done():
			}
			return nil
		}
		tasks := []*taskmanager.Task{
			start(t, m, "every", taskmanager.Every(10*time.Second, body)),
			start(t, m, "scheduled", taskmanager.OnSchedule(each(10*time.Second), body)),
			start(t, m, "daily", taskmanager.OnSchedule(each(24*time.Hour), body)),
			start(t, m, "plain", untilStopped),
		}
		next := func() (due []time.Duration) {
			synctest.Wait()
			for _, task := range tasks {
				at := nextPass(task)
				if at.IsZero() {
					due = append(due, 0)
					continue
				}
				due = append(due, at.Sub(begin))
			}
			return due
		}
		const day = 24 * 60 * 60
		assert.Equal(t, seconds(0, 10, day, 0), next(), "in a pass; before the first")
		time.Sleep(4 * time.Second)
		assert.Equal(t, seconds(10, 10, day, 0), next())
		time.Sleep(7 * time.Second)
		assert.Equal(t, seconds(0, 0, day, 0), next(), "in a pass")
		time.Sleep(4 * time.Second)
		assert.Equal(t, seconds(20, 20, day, 0), next())
		time.Sleep(time.Hour)
		assert.Equal(t, seconds(3620, 3620, day, 0), next())

		text, err := json.Marshal(tasks[2].Stats())
		require.NoError(t, err)
		assert.Contains(t, string(text), `"next":"`+begin.Add(24*time.Hour).Local().Format(time.RFC3339)+`"`)
		text, err = json.Marshal(tasks[3].Stats())
		require.NoError(t, err)
		assert.NotContains(t, string(text), "passes")

		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, seconds(0, 0, 0, 0), next())
	})
}

// A schedule that means never by a time which JSON can't express.
func TestStatsOfAPassThatIsNeverDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		never := nextFunc(func(time.Time) time.Time { return time.Date(20_000, 1, 1, 0, 0, 0, 0, time.UTC) })
		task := start(t, m, "a", taskmanager.OnSchedule(never, untilStopped))
		synctest.Wait()
		s := task.Stats()
		assert.Equal(t, 100*365*24*time.Hour, s.Passes.Next.Sub(s.StartedAt))
		_, err := json.Marshal(s)
		require.NoError(t, err)
		require.NoError(t, task.Stop(t.Context()))
	})
}

// What an old run has left waiting says nothing of the new one.
func TestStatsIgnoreThePassesOfAnOldRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		left := make(chan context.Context, 1)
		runs := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs++; runs == 1 {
				left <- context.WithoutCancel(ctx)
				return errBoom
			}
			return untilStopped(ctx)
		})
		ctx, cancel := context.WithCancel(<-left)
		go func() { _ = taskmanager.Every(time.Minute, func(context.Context) error { return nil })(ctx) }()
		synctest.Wait()
		assert.Zero(t, nextPass(task), "no run")
		time.Sleep(61 * time.Second)
		synctest.Wait()
		assert.EqualValues(t, 2, task.Stats().Runs)
		assert.Zero(t, nextPass(task))
		cancel()
		require.NoError(t, task.Stop(t.Context()))
	})
}

// A goroutine that the body has left in a wait, when the run ends, does not make the next run look as if it waited.
func TestStatsForgetThePassOfTheRunBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t, taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
		runs := 0
		ended := make(chan struct{})
		task := start(t, m, "a", func(ctx context.Context) error {
			if runs++; runs == 1 {
				go func() {
					defer close(ended)
					_ = taskmanager.Every(time.Minute, func(context.Context) error { return nil })(ctx)
				}()
				time.Sleep(time.Second)
				return errBoom
			}
			return untilStopped(ctx)
		})
		time.Sleep(time.Second / 2)
		assert.Equal(t, time.Minute, nextPass(task).Sub(task.Stats().StartedAt))
		time.Sleep(time.Second)
		<-ended
		assert.Zero(t, nextPass(task))
		time.Sleep(time.Second)
		assert.EqualValues(t, 2, task.Stats().Runs)
		assert.Zero(t, nextPass(task))
		require.NoError(t, task.Stop(t.Context()))
	})
}

// Bodies made of bodies made of bodies: a burst of three passes a second apart, every minute.
func TestPassesNested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.Every(time.Minute, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 2500*time.Millisecond)
			defer cancel()
			return taskmanager.Every(time.Second, passes.lasting())(ctx)
		}))
		time.Sleep(500 * time.Millisecond)
		assert.Zero(t, nextPass(task), "the inner one waits, in a pass of the outer one")
		time.Sleep(4500 * time.Millisecond)
		assert.Equal(t, time.Minute, nextPass(task).Sub(passes.made), "the outer one waits")
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, seconds(0, 1, 2, 60, 61, 62), passes.times())

		began := time.Now()
		require.NoError(t, task.Stop(t.Context()))
		took(t, 0, began)

		// An error goes up through all of them.
		err := taskmanager.Every(time.Hour, taskmanager.OnSchedule(each(time.Minute), taskmanager.Every(time.Second, boom)))(t.Context())
		assert.Equal(t, errBoom, err)
	})
}

// A body is tested without a Manager, its passes too.
func TestPassesWithoutAManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		passes := newPassLog()
		require.NoError(t, taskmanager.Every(10*time.Second, passes.lasting())(ctx))
		took(t, 25*time.Second, passes.made)
		assert.Equal(t, seconds(0, 10, 20), passes.times())

		why := errors.New("why")
		require.Equal(t, why, taskmanager.OnSchedule(each(time.Hour), func(context.Context) error { return why })(t.Context()))
		took(t, time.Hour, passes.made)
	})
}

// One body for several tasks: it keeps nothing between runs, and nothing is shared.
func TestPassesOfOneBodyInSeveralTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		begin := time.Now()
		var mu sync.Mutex
		at := make(map[string][]time.Duration)
		var body taskmanager.TaskFunc = func(ctx context.Context) error {
			task, _ := taskmanager.FromContext(ctx)
			mu.Lock()
			defer mu.Unlock()
			at[task.Name()] = append(at[task.Name()], time.Since(begin))
			return nil
		}
		every := taskmanager.Every(10*time.Second, body)
		start(t, m, "a", every)
		time.Sleep(3 * time.Second)
		start(t, m, "b", every)
		time.Sleep(22 * time.Second)
		require.NoError(t, m.StopAll(t.Context()))
		assert.Equal(t, map[string][]time.Duration{"a": seconds(0, 10, 20), "b": seconds(3, 13, 23)}, at)
	})
}

// To restart by hand begins with a pass, and new ticks.
func TestEveryRestartedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := observed(t)
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.Every(10*time.Second, passes.lasting()))
		time.Sleep(14 * time.Second)
		require.NoError(t, task.Restart(t.Context()))
		time.Sleep(15 * time.Second)
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, seconds(0, 10, 14, 24), passes.times())
	})
}

// The shortest interval that there is.
func TestEveryNanosecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, passes := time.Now(), 0
		require.ErrorIs(t, taskmanager.Every(1, func(context.Context) error {
			passes++
			if passes == 3 {
				return errBoom
			}
			return nil
		})(t.Context()), errBoom)
		took(t, 2, began)
	})
}

func TestScheduleOfTheGuide(t *testing.T) {
	// Where summer time begins at midnight, where clocks differ by half an hour, and where a day was left out.
	for _, name := range []string{"America/Havana", "Asia/Beirut", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Europe/Berlin"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Log(err)
			continue
		}
		for _, minutes := range []int{0, 30, 2*60 + 30, 23*60 + 30} {
			s := daily{hour: minutes / 60, minute: minutes % 60, zone: zone}
			last := s.Next(time.Date(2010, 1, 1, 12, 0, 0, 0, zone))
			for last.Year() < 2020 {
				for _, from := range []time.Time{last.Add(time.Hour), last.Add(23 * time.Hour), last} {
					next := s.Next(from)
					require.True(t, next.After(from), "%s %d: Next(%s) = %s", name, minutes, from, next)
				}
				next := s.Next(last)
				require.InDelta(t, 24, next.Sub(last).Hours(), 2, "%s %d: Next(%s) = %s", name, minutes, last, next)
				last = next
			}
		}
	}
}
