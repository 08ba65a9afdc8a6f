package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// downFor returns a body that notes its passes and fails until d has passed.
func (l *passLog) downFor(d time.Duration) taskmanager.TaskFunc {
	return func(context.Context) error {
		l.note()
		if time.Since(l.made) < d {
			return errBoom
		}
		return nil
	}
}

// ending returns a body whose passes end as the functions do, one after the other; further ones succeed.
func (l *passLog) ending(ends ...func() error) taskmanager.TaskFunc {
	return func(context.Context) error {
		if n := l.note(); n <= len(ends) {
			return ends[n-1]()
		}
		return nil
	}
}

func fails() error    { return errBoom }
func succeeds() error { return nil }

// lasts makes a function that takes d, and then ends as end does.
func lasts(d time.Duration, end func() error) func() error {
	return func() error { time.Sleep(d); return end() }
}

// counts are those of a task's passes: begun, failed, given up, skipped.
func counts(t *taskmanager.Task) [4]uint64 {
	s := t.Stats().Passes
	return [4]uint64{s.Begun, s.Failed, s.GivenUp, s.Skipped}
}

// told are the events of a task about failures, with their time since the bubble began.
func told(events <-chan taskmanager.Event) (lines []string) {
	synctest.Wait()
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	for {
		select {
		case e := <-events:
			if e.Kind == taskmanager.EventFailed || e.Kind == taskmanager.EventGaveUp || e.Kind == taskmanager.EventPassGaveUp {
				lines = append(lines, fmt.Sprintf("%v %v run=%d restarts=%d delay=%v", e.Time.Sub(begin), e.Kind, e.Run, e.Restarts, e.Delay))
			}
		default:
			return lines
		}
	}
}

// A pass that has failed is tried again by the backoff, as often as the limit allows. Then it is given up, the task lives on, and the pass
// of the next tick has a full limit.
func TestPassesAreTriedAgain(t *testing.T) {
	always := slices.Repeat([]func() error{fails}, 1000)
	for name, test := range map[string]struct {
		interval time.Duration
		ends     []func() error
		opts     []taskmanager.TaskOption // besides 2 restarts, a second each
		lasts    time.Duration
		want     []time.Duration
		counts   [4]uint64
		told     []string
	}{
		"the second try succeeds": {
			10 * time.Second,
			[]func() error{succeeds, fails},
			nil, 25 * time.Second,
			seconds(0, 10, 11, 20),
			[4]uint64{4, 1, 0, 0},
			[]string{"10s failed run=1 restarts=1 delay=1s"},
		},
		"all tries fail": {
			10 * time.Second,
			always[:3], nil, 25 * time.Second,
			seconds(0, 1, 2, 10, 20),
			[4]uint64{5, 3, 1, 0},
			[]string{"0s failed run=1 restarts=1 delay=1s", "1s failed run=2 restarts=2 delay=1s", "2s pass gave up run=3 restarts=2 delay=8s"},
		},
		"all tries of each pass fail": {
			10 * time.Second,
			always, nil, 25 * time.Second,
			seconds(0, 1, 2, 10, 11, 12, 20, 21, 22),
			[4]uint64{9, 9, 3, 0},
			[]string{
				"0s failed run=1 restarts=1 delay=1s", "1s failed run=2 restarts=2 delay=1s", "2s pass gave up run=3 restarts=2 delay=8s",
				"10s failed run=4 restarts=1 delay=1s", "11s failed run=5 restarts=2 delay=1s", "12s pass gave up run=6 restarts=2 delay=8s",
				"20s failed run=7 restarts=1 delay=1s", "21s failed run=8 restarts=2 delay=1s", "22s pass gave up run=9 restarts=2 delay=8s",
			},
		},
		"an interval shorter than the backoff": {
			400 * time.Millisecond,
			[]func() error{succeeds, fails, fails},
			nil, 3 * time.Second,
			seconds(0, 0.4, 1.4, 2.4, 2.8),
			[4]uint64{5, 2, 0, 5}, // the ticks at 0.8, 1.2, 1.6, 2.0 and, as the pass is tried at it, 2.4
			[]string{"400ms failed run=1 restarts=1 delay=1s", "1.4s failed run=2 restarts=2 delay=1s"},
		},
		"a limit of none": {
			10 * time.Second,
			always[:1],
			[]taskmanager.TaskOption{taskmanager.WithMaxRestarts(0)},
			15 * time.Second,
			seconds(0, 10),
			[4]uint64{2, 1, 1, 0},
			[]string{"0s pass gave up run=1 restarts=0 delay=10s"},
		},
		"unlimited": {
			10 * time.Second,
			always[:12],
			[]taskmanager.TaskOption{taskmanager.WithMaxRestarts(taskmanager.Unlimited)},
			25 * time.Second,
			seconds(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20),
			[4]uint64{14, 12, 0, 1},
			nil,
		},
		"never": {
			10 * time.Second,
			always,
			[]taskmanager.TaskOption{once()},
			15 * time.Second,
			seconds(0),
			[4]uint64{1, 1, 0, 0},
			[]string{"0s gave up run=1 restarts=0 delay=0s"},
		},
		"a permanent error": {
			10 * time.Second,
			[]func() error{fails, func() error { return backoff.Permanent(errBoom) }},
			nil, 15 * time.Second,
			seconds(0, 1),
			[4]uint64{2, 2, 0, 0},
			[]string{"0s failed run=1 restarts=1 delay=1s", "1s gave up run=2 restarts=1 delay=0s"},
		},
		"a success has the limit begin anew": {
			2 * time.Second,
			[]func() error{fails, fails, succeeds, fails, fails, succeeds},
			nil, 6500 * time.Millisecond,
			seconds(0, 1, 2, 4, 5, 6),
			[4]uint64{6, 4, 0, 2},
			[]string{
				"0s failed run=1 restarts=1 delay=1s", "1s failed run=2 restarts=2 delay=1s",
				"4s failed run=3 restarts=1 delay=1s", "5s failed run=4 restarts=2 delay=1s",
			},
		},
		"panics and exits": {
			10 * time.Second,
			[]func() error{func() error { panic("pass") }, func() error { runtime.Goexit(); return nil }, func() error { panic("pass") }},
			nil, 15 * time.Second,
			seconds(0, 1, 2, 10),
			[4]uint64{4, 3, 1, 0},
			[]string{"0s failed run=1 restarts=1 delay=1s", "1s failed run=2 restarts=2 delay=1s", "2s pass gave up run=3 restarts=2 delay=8s"},
		},
		"a pass longer than three intervals": {
			10 * time.Second,
			[]func() error{lasts(35*time.Second, succeeds)},
			nil, 45 * time.Second,
			seconds(0, 40),
			[4]uint64{2, 0, 0, 3},
			nil,
		},
		"that fails": {
			10 * time.Second,
			[]func() error{lasts(35*time.Second, fails)},
			nil, 45 * time.Second,
			seconds(0, 36, 40),
			[4]uint64{3, 1, 0, 3},
			[]string{"35s failed run=1 restarts=1 delay=1s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact(taskmanager.WithMaxRestarts(2))...)
				events := m.Subscribe(t.Context())
				passes := newPassLog()
				task := start(t, m, "a", taskmanager.Every(test.interval, passes.ending(test.ends...)), test.opts...)
				time.Sleep(test.lasts)
				synctest.Wait()
				assert.Equal(t, test.want, passes.times())
				assert.Equal(t, test.counts, counts(task))
				if test.told != nil {
					assert.Equal(t, test.told, told(events))
				}
				assert.Equal(t, test.counts[1], task.Stats().Failures, "each is a failure of the task")
			})
		})
	}
}

// What a poller and a nightly pass do when what they ask is gone for a minute, with the default options but exact delays.
func TestPassesOutliveAnOutage(t *testing.T) {
	for name, test := range map[string]struct {
		body func(taskmanager.TaskFunc) taskmanager.TaskFunc
		want []time.Duration
	}{
		// 2, 3, 4.5, 6.75 and 10.125 s of backoff: given up after 26.375 s.
		"each minute": {
			func(pass taskmanager.TaskFunc) taskmanager.TaskFunc { return taskmanager.Every(time.Minute, pass) },
			seconds(0, 2, 5, 9.5, 16.25, 26.375, 60, 120),
		},
		"each second": {
			func(pass taskmanager.TaskFunc) taskmanager.TaskFunc { return taskmanager.Every(20*time.Second, pass) },
			seconds(0, 2, 5, 9.5, 16.25, 26.375, 40, 42, 45, 49.5, 56.25, 66.375, 80, 100, 120),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithBackoffJitter(0))
				passes := newPassLog()
				task := start(t, m, "a", test.body(passes.downFor(time.Minute)))
				time.Sleep(2*time.Minute + time.Millisecond)
				synctest.Wait()
				assert.Equal(t, test.want, passes.times())
				assert.Equal(t, taskmanager.StateRunning, task.State())
				assert.Zero(t, task.Stats().ConsecutiveFailures)
			})
		})
	}
}

// A nightly pass that fails is tried again in that night, and the next one is that of the next night.
func TestPassesOfASchedule(t *testing.T) {
	const day = 24 * 60 * 60
	always := slices.Repeat([]func() error{fails}, 3)
	for name, test := range map[string]struct {
		schedule func() nextFunc
		ends     []func() error
		want     []time.Duration
		counts   [4]uint64
		told     []string
	}{
		"the second try succeeds": {
			func() nextFunc { return each(24 * time.Hour) },
			[]func() error{fails},
			seconds(day, day+1, 2*day, 3*day),
			[4]uint64{4, 1, 0, 0},
			[]string{"24h0m0s failed run=1 restarts=1 delay=1s"},
		},
		"all tries fail": {
			func() nextFunc { return each(24 * time.Hour) },
			always,
			seconds(day, day+1, day+2, 2*day, 3*day),
			[4]uint64{5, 3, 1, 0},
			[]string{"24h0m0s failed run=1 restarts=1 delay=1s", "24h0m1s failed run=2 restarts=2 delay=1s", "24h0m2s pass gave up run=3 restarts=2 delay=23h59m58s"},
		},
		"a distance is counted from the tick": {
			func() nextFunc { return after(24 * time.Hour) },
			always,
			seconds(day, day+1, day+2, 2*day, 3*day),
			[4]uint64{5, 3, 1, 0},
			[]string{"24h0m0s failed run=1 restarts=1 delay=1s", "24h0m1s failed run=2 restarts=2 delay=1s", "24h0m2s pass gave up run=3 restarts=2 delay=23h59m58s"},
		},
		"there is no other time": {
			func() nextFunc { return at(24*time.Hour, 48*time.Hour) },
			append([]func() error{succeeds}, always...),
			seconds(day, 2*day, 2*day+1, 2*day+2),
			[4]uint64{4, 3, 1, 0},
			[]string{"48h0m0s failed run=1 restarts=1 delay=1s", "48h0m1s failed run=2 restarts=2 delay=1s", "48h0m2s pass gave up run=3 restarts=2 delay=0s"},
		},
		"a time comes while it is tried again": {
			func() nextFunc { return at(24*time.Hour, 24*time.Hour+1500*time.Millisecond, 48*time.Hour) },
			[]func() error{fails, fails},
			seconds(day, day+1, day+2, 2*day),
			[4]uint64{4, 2, 0, 1},
			[]string{"24h0m0s failed run=1 restarts=1 delay=1s", "24h0m1s failed run=2 restarts=2 delay=1s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact(taskmanager.WithMaxRestarts(2))...)
				events := m.Subscribe(t.Context())
				passes := newPassLog()
				task := start(t, m, "a", taskmanager.OnSchedule(test.schedule(), passes.ending(test.ends...)))
				time.Sleep(3*24*time.Hour + time.Millisecond)
				synctest.Wait()
				assert.Equal(t, test.want, passes.times())
				assert.Equal(t, test.counts, counts(task))
				assert.Equal(t, test.told, told(events))
			})
		})
	}
}

// What a pass was given up for: in the event, in the log, in the statistics, and to health, until one succeeds.
func TestPassesGivenUpAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		reports := newInbox(nil)
		m := newManager(t, exact(taskmanager.WithMaxRestarts(1), taskmanager.WithLogger(slog.New(lines)), taskmanager.WithReporter(reports))...)
		events := m.Subscribe(t.Context())
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.Every(time.Minute, passes.ending(fails, fails)))
		time.Sleep(30 * time.Second)
		synctest.Wait()

		var gaveUp taskmanager.Event
		for gaveUp.Kind != taskmanager.EventPassGaveUp {
			gaveUp = <-events
		}
		var err *taskmanager.GiveUpError
		require.ErrorAs(t, gaveUp.Err, &err)
		assert.Equal(t, &taskmanager.GiveUpError{Task: "a", Pass: true, Reason: taskmanager.GaveUpLimit, Restarts: 1, Window: time.Minute, Err: errBoom}, err)
		require.ErrorIs(t, gaveUp.Err, taskmanager.ErrTooManyRestarts)
		require.EqualError(t, gaveUp.Err, `taskmanager: gave up a pass of task "a" after 1 restart within 1m0s: boom`)
		assert.Equal(t, 59*time.Second, gaveUp.Delay)
		assert.Equal(t, []string{
			`ERROR pass failed for good, task goes on | task=a run=2 reason=limit error=boom restarts=1 of 1 window=1m0s next_pass_in=59s`,
		}, lines.about("for good"))
		assert.Equal(t, []string{"0s a failed run=1 repeats=0", "1s a pass gave up run=2 repeats=0"}, reports.got())

		s := task.Stats()
		assert.Equal(t, taskmanager.StateRunning, s.State)
		require.NoError(t, task.Err())
		assert.Equal(t, errBoom, s.LastError)
		assert.Equal(t, 2, s.ConsecutiveFailures)
		assert.Zero(t, s.RestartsInWindow, "the next pass has a full limit")
		assert.Equal(t, time.Minute, s.Passes.Next.Sub(passes.made))
		h := m.Health()
		require.Len(t, h.Problems, 1)
		assert.Equal(t, taskmanager.HealthTaskFailing, h.Problems[0].Reason)

		time.Sleep(31 * time.Second)
		assert.Equal(t, taskmanager.Health{Ready: true}, m.Health(), "a pass has succeeded")
		assert.Equal(t, time.Minute, task.Stats().Passes.LastSuccess.Sub(passes.made))
	})
}

// One failure is enough for health, where it was the last of its pass.
func TestPassesGivenUpAtOnceAreAProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact(taskmanager.WithMaxRestarts(0))...)
		start(t, m, "a", taskmanager.Every(time.Minute, newPassLog().ending(fails)))
		time.Sleep(30 * time.Second)
		h := m.Health()
		require.Len(t, h.Problems, 1)
		assert.Equal(t, taskmanager.HealthTaskFailing, h.Problems[0].Reason)
		time.Sleep(time.Minute)
		assert.Empty(t, m.Health().Problems)
	})
}

// A success ends that: one failure of a later pass, which is tried again, is none.
func TestPassesGivenUpAreAProblemUntilOneSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact(taskmanager.WithMaxRestarts(3))...)
		passes := newPassLog()
		start(t, m, "a", taskmanager.Every(time.Minute, passes.ending(fails, fails, fails, fails, succeeds, fails, lasts(5*time.Second, succeeds))))
		time.Sleep(30 * time.Second)
		assert.Len(t, m.Health().Problems, 1)
		time.Sleep(93 * time.Second)
		assert.Equal(t, seconds(0, 1, 2, 3, 60, 120, 121), passes.times())
		assert.Empty(t, m.Health().Problems)
		time.Sleep(time.Minute)
	})
}

// A policy that says Stop ends the tries of a pass; one that is broken ends the task.
func TestPassesWithAPolicy(t *testing.T) {
	for name, test := range map[string]struct {
		policy backoff.BackOff
		want   []time.Duration
		told   []string
	}{
		"Stop": {
			&script{delays: []time.Duration{time.Second, backoff.Stop, 2 * time.Second, backoff.Stop}},
			seconds(0, 1, 60, 62, 120),
			[]string{"0s failed run=1 restarts=1 delay=1s", "1s pass gave up run=2 restarts=1 delay=59s", "1m0s failed run=3 restarts=1 delay=2s", "1m2s pass gave up run=4 restarts=1 delay=58s"},
		},
		"a negative delay": {
			&script{delays: []time.Duration{time.Second, -2}},
			seconds(0, 1),
			[]string{"0s failed run=1 restarts=1 delay=1s", "1s gave up run=2 restarts=1 delay=0s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				events := m.Subscribe(t.Context())
				passes := newPassLog()
				start(t, m, "a", taskmanager.Every(time.Minute, passes.ending(fails, fails, fails, fails)),
					taskmanager.WithBackOffPolicy(func() backoff.BackOff { return test.policy }))
				time.Sleep(2*time.Minute + time.Second)
				assert.Equal(t, test.told, told(events))
				assert.Equal(t, test.want, passes.times())
			})
		})
	}
}

// Ticks that are skipped are logged once in a row.
func TestPassesSkippedAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lines := newLines(slog.LevelInfo)
		m := newManager(t, exact(taskmanager.WithLogger(slog.New(lines)))...)
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.Every(10*time.Second, passes.lasting(seconds(35, 15, 1, 15, 1, 1, 25)...)))
		time.Sleep(195 * time.Second)
		synctest.Wait()
		assert.Equal(t, seconds(0, 40, 60, 70, 90, 100, 110, 140, 150, 160, 170, 180, 190), passes.times())
		assert.Equal(t, []string{
			"WARN passes are skipped: the one before was under way, or was tried again, when they were due | task=a run=1 skipped=3 took=35s",
			"WARN passes are skipped: the one before was under way, or was tried again, when they were due | task=a run=1 skipped=1 took=15s",
			"WARN passes are skipped: the one before was under way, or was tried again, when they were due | task=a run=1 skipped=2 took=25s",
		}, lines.about("skipped"))
		assert.EqualValues(t, 3+1+1+2, task.Stats().Passes.Skipped)
	})
}

// However many times of a schedule come in a pass, it is not asked for ever.
func TestPassesSkippedOfAScheduleAreCountedUpTo1000(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		calls := 0
		schedule := nextFunc(func(u time.Time) time.Time { calls++; return each(time.Millisecond)(u) })
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.OnSchedule(schedule, passes.lasting(time.Hour, time.Minute)))
		time.Sleep(time.Hour + 1500*time.Microsecond)
		synctest.Wait()
		assert.EqualValues(t, 1000, task.Stats().Passes.Skipped)
		assert.Less(t, calls, 1010)
		require.NoError(t, task.Stop(t.Context()))
	})
}

// A pass that is triggered moves no tick.
func TestTrigger(t *testing.T) {
	for name, test := range map[string]struct {
		body   func(pass taskmanager.TaskFunc) taskmanager.TaskFunc
		takes  time.Duration // each pass
		at     []time.Duration
		want   []time.Duration
		counts [4]uint64
	}{
		"in a wait":              {nil, 0, seconds(13), seconds(0, 10, 13, 20, 30), [4]uint64{5, 0, 0, 0}},
		"in a wait, twice":       {nil, 0, seconds(13, 14), seconds(0, 10, 13, 14, 20, 30), [4]uint64{6, 0, 0, 0}},
		"in a pass":              {nil, 2 * time.Second, seconds(11), seconds(0, 10, 12, 20, 30), [4]uint64{5, 0, 0, 0}},
		"in a pass, twice":       {nil, 4 * time.Second, seconds(11, 12), seconds(0, 10, 14, 20, 30), [4]uint64{5, 0, 0, 0}},
		"over a tick":            {nil, 4 * time.Second, seconds(17), seconds(0, 10, 17, 30), [4]uint64{4, 0, 0, 1}},
		"of a schedule":          {scheduled, 0, seconds(3, 13), seconds(3, 10, 13, 20, 30), [4]uint64{5, 0, 0, 0}},
		"of one, in a pass":      {scheduled, 2 * time.Second, seconds(11), seconds(10, 12, 20, 30), [4]uint64{4, 0, 0, 0}},
		"of one, over a tick":    {scheduled, 4 * time.Second, seconds(17), seconds(10, 17, 30), [4]uint64{3, 0, 0, 1}},
		"before the first tick":  {inThree, 0, seconds(1), seconds(1, 3, 13, 23, 33), [4]uint64{5, 0, 0, 0}},
		"over the first tick":    {inThree, 4 * time.Second, seconds(1), seconds(1, 13, 23, 33), [4]uint64{4, 0, 0, 1}},
		"of one, over two ticks": {scheduled, 14 * time.Second, seconds(9), seconds(9, 30), [4]uint64{2, 0, 0, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if test.body == nil {
					test.body = everyTen
				}
				m := newManager(t)
				passes := newPassLog()
				task := start(t, m, "a", test.body(passes.lasting(slices.Repeat([]time.Duration{test.takes}, 10)...)))
				for _, at := range test.at {
					time.Sleep(time.Until(passes.made.Add(at)))
					require.NoError(t, m.TriggerTask("a"))
				}
				time.Sleep(time.Until(passes.made.Add(35 * time.Second)))
				synctest.Wait()
				assert.Equal(t, test.want, passes.times())
				assert.Equal(t, test.counts, counts(task))
				_ = m.StopAll(t.Context())
			})
		})
	}
}

// A pass that is asked for while the schedule is asked for the next one begins as soon as that has answered.
func TestTriggerWhileTheScheduleIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		asks := 0
		passes := newPassLog()
		start(t, m, "a", taskmanager.OnSchedule(nextFunc(func(now time.Time) time.Time {
			if asks++; asks == 1 {
				time.Sleep(time.Second)
				assert.NoError(t, m.TriggerTask("a"))
			}
			return each(10 * time.Second)(now)
		}), passes.lasting()))
		time.Sleep(15 * time.Second)
		assert.Equal(t, seconds(1, 10), passes.times())
	})
}

func everyTen(pass taskmanager.TaskFunc) taskmanager.TaskFunc {
	return taskmanager.Every(10*time.Second, pass)
}

func inThree(pass taskmanager.TaskFunc) taskmanager.TaskFunc {
	return taskmanager.Every(10*time.Second, pass, taskmanager.WithFirstPass(3*time.Second))
}

func scheduled(pass taskmanager.TaskFunc) taskmanager.TaskFunc {
	return taskmanager.OnSchedule(each(10*time.Second), pass)
}

// In backoff the pass that has failed is tried again now, and a failing one that is triggered is tried again at once.
func TestTriggerInBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithBackoff(time.Hour, time.Hour), taskmanager.WithBackoffJitter(0))
		passes := newPassLog()
		var task *taskmanager.Task
		task = start(t, m, "a", everyTen(passes.ending(fails, succeeds, func() error {
			assert.NoError(t, task.Trigger())
			return errBoom
		})))
		time.Sleep(13 * time.Second)
		assert.Equal(t, taskmanager.StateBackoff, task.State())
		require.NoError(t, task.Trigger())
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, task.State())
		time.Sleep(12 * time.Second)
		assert.Equal(t, seconds(0, 13, 20, 20), passes.times())
		assert.Equal(t, [4]uint64{4, 2, 0, 1}, counts(task))
		assert.EqualValues(t, 3, task.Stats().Runs)
	})
}

// A pass that was given up can be triggered, too: now, and not at its tick.
func TestTriggerAPassThatWasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithMaxRestarts(0))
		passes := newPassLog()
		task := start(t, m, "a", scheduled(passes.ending(fails)))
		time.Sleep(13 * time.Second)
		require.NoError(t, taskmanager.TaskFunc(func(context.Context) error { return task.Trigger() })(t.Context()))
		time.Sleep(10 * time.Second)
		assert.Equal(t, seconds(10, 13, 20), passes.times())
	})
}

// Before the first run it is known that a task makes passes, if its body is all that does.
func TestTriggerBeforeTheFirstRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		passes := newPassLog()
		task := start(t, m, "a", scheduled(passes.lasting()), taskmanager.WithDependsOn("b"), taskmanager.WithWatchdog(time.Minute))
		time.Sleep(3 * time.Second)
		require.NoError(t, task.Trigger())
		time.Sleep(2 * time.Second)
		start(t, m, "b", untilStopped)
		time.Sleep(10 * time.Second)
		assert.Equal(t, seconds(5, 10), passes.times())
		require.NoError(t, task.Stop(t.Context()))
		require.NoError(t, task.Restart(t.Context()))
		require.NoError(t, task.Trigger(), "in the next life")
		synctest.Wait()
		assert.Equal(t, seconds(5, 10, 15), passes.times())
		assert.Equal(t, [4]uint64{1, 0, 0, 0}, counts(task), "which counts anew")
	})
}

// That a pass is triggered is an event and, at once, a line: at the level debug, or at info if it is known who has asked. In the line's
// place is that of the call. What is refused is neither.
func TestTriggerIsAnEvent(t *testing.T) {
	for name, test := range map[string]struct {
		pass taskmanager.TaskFunc
		opts []taskmanager.TaskOption
		run  uint64
	}{
		"waits for a tick":    {pass: func(context.Context) error { return nil }, run: 1},
		"a pass is under way": {pass: untilStopped, run: 1},
		"backoff":             {pass: boom, run: 1},
		"waiting":             {pass: boom, opts: []taskmanager.TaskOption{waitsForDB}},
		"waiting to begin":    {pass: boom, opts: []taskmanager.TaskOption{taskmanager.WithStartJitter(1000 * time.Hour)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := newLines(slog.LevelDebug)
				m := newManager(t, taskmanager.WithLogger(slog.New(lines)), taskmanager.WithBackoff(time.Hour, time.Hour))
				events := m.Subscribe(t.Context())
				task := start(t, m, "a", everyTen(test.pass), test.opts...)
				time.Sleep(time.Second)
				require.Equal(t, test.run == 0, task.State() == taskmanager.StateWaiting)
				pending(events)
				before := len(lines.got())
				alice := taskmanager.AskedBy(t.Context(), "alice")
				require.NoError(t, task.TriggerContext(alice))
				got := ofKind(taskmanager.EventTriggered, pending(events))
				require.Len(t, got, 1)
				assert.Equal(t, taskmanager.Event{
					Time: got[0].Time, Task: "a", Kind: taskmanager.EventTriggered, Run: test.run, By: "alice",
					MaxRestarts: 5, Window: time.Minute,
				}, got[0])
				assert.Zero(t, time.Since(got[0].Time))
				assert.Equal(t, fmt.Sprintf("INFO pass triggered | task=a run=%d by=alice caller=TestTriggerIsAnEvent.func2.1(passes_test.go)", test.run),
					lines.got()[before], "first of all, and before the next run begins")

				require.NoError(t, task.Trigger())
				got = ofKind(taskmanager.EventTriggered, pending(events))
				require.Len(t, got, 1)
				assert.Empty(t, got[0].By)
				written := lines.about("pass triggered")
				require.Len(t, written, 2)
				assert.True(t, strings.HasPrefix(written[1], "DEBUG pass triggered | task=a run="), written[1])
				assert.NotContains(t, written[1], " by=")

				require.NoError(t, task.Stop(t.Context()))
				pending(events)
				require.Error(t, task.TriggerContext(alice))
				assert.Empty(t, pending(events))
				var refused *taskmanager.OptionError
				require.ErrorAs(t, task.TriggerContext(noContext), &refused)
				assert.Equal(t, "ctx", refused.Option)
			})
		})
	}
}

// A log handler that hangs holds up nobody who triggers passes, and what waits for it is bounded, however often that is.
func TestTriggerWhileTheLogHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		lines := newLines(slog.LevelDebug)
		m := newManager(t, taskmanager.WithLogger(slog.New(slowHandler{lines, "pass triggered", func() { <-release }})))
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", everyTen(untilStopped))
		synctest.Wait()
		for range 100 {
			require.NoError(t, task.Trigger())
		}
		assert.Len(t, ofKind(taskmanager.EventTriggered, pending(events)), 100)
		close(release)
		synctest.Wait()
		written := len(lines.about("pass triggered"))
		assert.True(t, written >= 16 && written <= 18, "%d lines", written)
	})
}

func TestTriggerIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		hang := func(context.Context) error { time.Sleep(time.Hour); return nil }
		refused := func(name string, want error, text string) {
			t.Helper()
			err := m.TriggerTask(name)
			require.ErrorIs(t, err, want)
			assert.EqualError(t, err, text)
		}
		refused("nobody", taskmanager.ErrTaskNotFound, `taskmanager: task not found: "nobody"`)
		start(t, m, "plain", untilStopped)
		refused("plain", taskmanager.ErrNoPasses, `taskmanager: task makes no passes: "plain"`)
		ended := start(t, m, "ended", everyTen(func(context.Context) error { return backoff.Permanent(errBoom) }))
		<-ended.Done()
		refused("ended", taskmanager.ErrTaskNotRunning, `taskmanager: task is not running: "ended"`)
		stopping := start(t, m, "stopping", everyTen(hang))
		synctest.Wait()
		go func() { _ = stopping.Stop(context.Background()) }()
		synctest.Wait()
		refused("stopping", taskmanager.ErrTaskNotRunning, `taskmanager: task is not running: "stopping" is stopping`)
		time.Sleep(10 * time.Second)
		refused("stopping", taskmanager.ErrTaskNotRunning, `taskmanager: task is not running: "stopping" is stuck`)
		paused := start(t, m, "paused", everyTen(untilStopped))
		synctest.Wait()
		require.NoError(t, paused.Pause(t.Context()))
		refused("paused", taskmanager.ErrTaskNotRunning, `taskmanager: task is not running: "paused" is paused`)
		require.Error(t, (*taskmanager.Manager)(nil).TriggerTask("a"))
		time.Sleep(2 * time.Hour)
	})
}

func TestPassesWithJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		const tasks = 500
		logs := make([]*passLog, tasks)
		for i := range logs {
			logs[i] = newPassLog()
			start(t, m, fmt.Sprint(i), taskmanager.Every(time.Minute, logs[i].ending(succeeds, fails), taskmanager.WithPassJitter(30*time.Second)))
		}
		time.Sleep(3*time.Minute - 1)
		synctest.Wait()
		moments := make(map[time.Duration]int)
		for _, l := range logs {
			require.Len(t, l.at, 4)
			for i, tick := range []time.Duration{0, time.Minute, 2 * time.Minute} {
				at := l.at[i]
				if i == 2 {
					assert.Equal(t, l.at[1]+time.Second, l.at[2], "what is tried again is not delayed")
					at = l.at[3]
				}
				late := at - tick
				assert.GreaterOrEqual(t, late, time.Duration(0))
				assert.Less(t, late, 30*time.Second)
				moments[late.Truncate(time.Second)]++
			}
		}
		for s := range 30 {
			assert.InDelta(t, 3*tasks/30, moments[time.Duration(s)*time.Second], 35, "in the second %d", s)
		}
		require.NoError(t, m.StopAll(t.Context()))
	})
}

func TestPassesBeginLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.Every(10*time.Second, passes.ending(fails), taskmanager.WithFirstPass(3*time.Second)))
		time.Sleep(time.Second)
		assert.Equal(t, 3*time.Second, nextPass(task).Sub(passes.made))
		time.Sleep(24 * time.Second)
		require.NoError(t, task.Restart(t.Context()))
		time.Sleep(5 * time.Second)
		assert.Equal(t, seconds(3, 4, 13, 23, 28), passes.times())
	})
}

func TestPassesWithATimeout(t *testing.T) {
	other := errors.New("half of it is done")
	for name, test := range map[string]struct {
		end  func(ctx context.Context) error
		want string // the failure; "" for none
	}{
		"its error":           {func(ctx context.Context) error { return ctx.Err() }, "taskmanager: pass has timed out"},
		"its cause":           {context.Cause, "taskmanager: pass has timed out"},
		"an error of its own": {func(context.Context) error { return other }, "taskmanager: pass has timed out\nhalf of it is done"},
		"nil":                 {func(context.Context) error { return nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact()...)
				passes := newPassLog()
				before := goroutines()
				task := start(t, m, "a", taskmanager.Every(10*time.Second, func(ctx context.Context) error {
					passes.note()
					deadline, ok := ctx.Deadline()
					assert.True(t, ok)
					assert.Equal(t, 3*time.Second, time.Until(deadline))
					if len(passes.times()) > 1 {
						return nil
					}
					<-ctx.Done()
					assert.Equal(t, before+1, goroutines(), "the context needs none")
					assert.Equal(t, taskmanager.ErrPassTimeout, context.Cause(ctx))
					return test.end(ctx)
				}, taskmanager.WithPassTimeout(3*time.Second)))
				time.Sleep(15 * time.Second)
				s := task.Stats()
				if test.want == "" {
					assert.Equal(t, seconds(0, 10), passes.times())
					require.NoError(t, s.LastError)
					return
				}
				assert.Equal(t, seconds(0, 4, 10), passes.times())
				require.EqualError(t, s.LastError, test.want)
				require.ErrorIs(t, s.LastError, taskmanager.ErrPassTimeout)
			})
		})
	}
	// What fails in time has not timed out.
	synctest.Test(t, func(t *testing.T) {
		task := start(t, newManager(t, exact()...), "a", taskmanager.Every(time.Minute, newPassLog().ending(fails), taskmanager.WithPassTimeout(time.Second)))
		time.Sleep(10 * time.Second)
		assert.Equal(t, errBoom, task.Stats().LastError)
	})
	// A stop is no timeout.
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", taskmanager.Every(time.Minute, func(ctx context.Context) error {
			<-ctx.Done()
			assert.Equal(t, taskmanager.ErrStopped, context.Cause(ctx))
			return ctx.Err()
		}, taskmanager.WithPassTimeout(time.Minute)))
		time.Sleep(time.Second)
		require.NoError(t, task.Stop(t.Context()))
		assert.Zero(t, task.Stats().Passes.Failed)
	})
}

func TestPassOptionsAreChecked(t *testing.T) {
	every := func(opts ...taskmanager.PassOption) taskmanager.TaskFunc {
		return taskmanager.Every(time.Minute, untilStopped, opts...)
	}
	for want, body := range map[string]taskmanager.TaskFunc{
		"taskmanager: WithPassJitter(-1ns): must not be negative":                 every(taskmanager.WithPassJitter(-1)),
		"taskmanager: WithPassJitter(1m1s): must not be longer than the interval": every(taskmanager.WithPassJitter(61 * time.Second)),
		"taskmanager: WithFirstPass(-1s): must not be negative":                   every(taskmanager.WithFirstPass(-time.Second)),
		"taskmanager: WithPassTimeout(0s): must be positive":                      every(taskmanager.WithPassTimeout(0)),
		"taskmanager: opts[1] <nil>: must not be nil":                             every(taskmanager.WithPassTimeout(1), nil),
		"taskmanager: WithFirstPass(1s): is for Every alone":                      taskmanager.OnSchedule(each(time.Second), untilStopped, taskmanager.WithFirstPass(time.Second)),
		"taskmanager: interval 0s: must be positive":                              taskmanager.Every(0, nil, taskmanager.WithPassJitter(-1)),
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			task := start(t, m, "a", body)
			err := task.Wait(t.Context())
			var refused *taskmanager.OptionError
			require.ErrorAs(t, err, &refused)
			require.EqualError(t, err, `taskmanager: gave up task "a": `+want)
			assert.EqualValues(t, 1, task.Stats().Runs)
		})
	}
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		start(t, m, "a", every(taskmanager.WithPassJitter(time.Minute), taskmanager.WithFirstPass(0)))
		start(t, m, "b", taskmanager.OnSchedule(each(time.Second), untilStopped, taskmanager.WithPassJitter(time.Hour)))
		time.Sleep(time.Hour)
		assert.Zero(t, m.Stats().Failures)
	})
}

// What is cut short by a stop or a restart by hand has not failed, whatever it returns; nor does it count as a success, unless it says so.
func TestPassesCutShortHaveNotFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		passes := newPassLog()
		task := start(t, m, "a", everyTen(func(ctx context.Context) error {
			passes.note()
			<-ctx.Done()
			return errBoom
		}))
		time.Sleep(3 * time.Second)
		require.NoError(t, task.Restart(t.Context()))
		time.Sleep(3 * time.Second)
		require.NoError(t, task.Stop(t.Context()))
		assert.Equal(t, seconds(0, 3), passes.times())
		assert.Equal(t, [4]uint64{2, 0, 0, 0}, counts(task))
		assert.Zero(t, task.Stats().Passes.LastSuccess)
		assert.Equal(t, 3*time.Second, task.Stats().Passes.LastDuration)
	})
}

// The end of the parent cuts a pass short as a stop does, also before the Manager has heard of it.
func TestPassesCutShortByTheParent(t *testing.T) {
	for name, err := range map[string]error{"that succeeds": nil, "with an error": errBoom} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, end := context.WithCancel(t.Context())
				defer end()
				m := newManager(t, exact(taskmanager.WithContext(parent))...)
				events := m.Subscribe(t.Context())
				passes := newPassLog()
				task := start(t, m, "a", everyTen(passes.ending(fails, func() error {
					end()
					return err
				})))
				<-task.Done()
				assert.Equal(t, taskmanager.StateStopped, task.State())
				assert.Equal(t, [4]uint64{2, 1, 0, 0}, counts(task))
				assert.Equal(t, err == nil, !task.Stats().Passes.LastSuccess.IsZero())
				assert.Empty(t, ofKind(taskmanager.EventRecovered, pending(events)), "a task that is stopped is not told to have recovered")
			})
		})
	}
}

// A restart by hand begins afresh, in backoff, too.
func TestPassesRestartedByHandInBackoff(t *testing.T) {
	for name, test := range map[string]struct {
		body func(taskmanager.TaskFunc) taskmanager.TaskFunc
		want []time.Duration
	}{
		"Every":      {everyTen, seconds(0, 13, 23, 33)},
		"OnSchedule": {scheduled, seconds(10, 20, 30)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, taskmanager.WithBackoff(time.Hour, time.Hour))
				passes := newPassLog()
				task := start(t, m, "a", test.body(passes.ending(fails)))
				time.Sleep(13 * time.Second)
				require.NoError(t, task.Restart(t.Context()))
				time.Sleep(21 * time.Second)
				assert.Equal(t, test.want, passes.times())
			})
		})
	}
}

// A failure that is not one of a pass is the task's, and uses up its limit.
func TestPassesAndFailuresOutside(t *testing.T) {
	for name, body := range map[string]taskmanager.TaskFunc{
		"before them": func(ctx context.Context) error {
			if err := boom(ctx); err != nil {
				return err
			}
			return everyTen(succeed)(ctx)
		},
		"Next exits": taskmanager.OnSchedule(nextFunc(func(time.Time) time.Time { runtime.Goexit(); return time.Time{} }), succeed),
		"after them": func(ctx context.Context) error {
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_ = everyTen(succeed)(short)
			return errBoom
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact(taskmanager.WithMaxRestarts(2))...)
				task := start(t, m, "a", body)
				time.Sleep(time.Minute)
				assert.Equal(t, taskmanager.StateFailed.String(), map[bool]string{true: task.State().String(), false: "failed"}[name != "after them"])
				if p := task.Stats().Passes; p != nil {
					assert.Zero(t, p.Failed)
					assert.Zero(t, p.GivenUp)
				}
			})
		})
	}
}

func succeed(context.Context) error { return nil }

// Who wraps the passes of a body may wrap their error: it is that of a pass all the same. A run that fails before it gets to them goes on
// with the pass that has failed.
func TestPassesWithinABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact(taskmanager.WithMaxRestarts(3))...)
		passes := newPassLog()
		ticks := scheduled(passes.ending(succeeds, fails))
		connects := 0
		task := start(t, m, "a", func(ctx context.Context) error {
			if connects++; connects == 2 {
				return errors.New("can't connect")
			}
			if err := ticks(ctx); err != nil {
				return fmt.Errorf("pass: %w", err)
			}
			return nil
		})
		time.Sleep(35 * time.Second)
		assert.Equal(t, seconds(10, 20, 22, 30), passes.times())
		assert.EqualValues(t, 2, task.Stats().Failures)
		assert.Equal(t, [4]uint64{4, 1, 0, 0}, counts(task))
	})
}

// A pass that its watchdog ends has failed, also if it returns nil then; its heartbeat begins with it.
func TestPassesUnderAWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact(taskmanager.WithMaxRestarts(1), taskmanager.WithWatchdog(5*time.Second))...)
		passes := newPassLog()
		pass := 0
		task := start(t, m, "a", taskmanager.Every(time.Minute, func(ctx context.Context) error {
			passes.note()
			if pass++; pass <= 2 {
				<-ctx.Done()
			} else {
				time.Sleep(5*time.Second - 1)
			}
			return nil
		}))
		time.Sleep(13 * time.Second)
		assert.Equal(t, [4]uint64{2, 2, 1, 0}, counts(task))
		require.NoError(t, task.Trigger())
		time.Sleep(2 * time.Minute)
		assert.Equal(t, seconds(0, 6, 13, 60, 120), passes.times())
		assert.Equal(t, [4]uint64{5, 2, 1, 0}, counts(task))
	})
}

// The heartbeat of a pass that is triggered begins with that, and not with the tick that the run has waited for.
func TestTriggerUnderAWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact(taskmanager.WithWatchdog(5*time.Second))...)
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.Every(time.Minute, func(ctx context.Context) error {
			if passes.note() == 2 {
				<-ctx.Done()
			}
			return nil
		}))
		time.Sleep(20 * time.Second)
		require.NoError(t, task.Trigger())
		time.Sleep(50 * time.Second)
		assert.Equal(t, seconds(0, 20, 26, 60), passes.times())
		assert.Equal(t, [4]uint64{4, 1, 0, 0}, counts(task))
	})
}

// A run that waits for a pass is not late to be ready: its time begins with the first pass.
func TestPassesAndReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact(taskmanager.WithMaxRestarts(0))...)
		pass := 0
		task := start(t, m, "a", taskmanager.Every(time.Minute, func(ctx context.Context) error {
			switch pass++; pass {
			case 1:
				return errBoom
			case 2:
				taskmanager.Ready(ctx)
			}
			return nil
		}), taskmanager.WithReadiness(10*time.Second))
		time.Sleep(time.Hour)
		s := task.Stats()
		assert.True(t, s.Ready)
		assert.EqualValues(t, 1, s.Failures)

		late := start(t, m, "b", scheduled(untilStopped), taskmanager.WithReadiness(10*time.Second))
		time.Sleep(20*time.Second - 1)
		assert.Zero(t, late.Stats().Failures)
		time.Sleep(2 * time.Nanosecond)
		assert.EqualValues(t, 1, late.Stats().Failures)
	})
}

// With a drain no pass begins once the task is asked to stop, and that which is under way can end.
func TestPassesWithADrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		passes := newPassLog()
		drain := taskmanager.WithDrain(4 * time.Second)
		waits := start(t, m, "waits", everyTen(passes.lasting()), drain)
		synctest.Wait()
		began := time.Now()
		require.NoError(t, waits.Stop(t.Context()))
		took(t, 0, began)
		works := start(t, m, "works", everyTen(func(ctx context.Context) error {
			time.Sleep(3 * time.Second)
			return ctx.Err()
		}), drain)
		time.Sleep(time.Second)
		require.NoError(t, works.Stop(t.Context()))
		took(t, 3*time.Second, began)
		assert.Equal(t, [4]uint64{1, 0, 0, 0}, counts(works))
		assert.NotZero(t, works.Stats().Passes.LastSuccess)
	})
}

// A pause keeps the pass that has failed, and a resumed task makes it.
func TestPassesPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		passes := newPassLog()
		task := start(t, m, "a", scheduled(passes.ending(fails)))
		time.Sleep(10*time.Second + time.Millisecond)
		require.NoError(t, task.Pause(t.Context()))
		time.Sleep(5*time.Second - time.Millisecond)
		require.NoError(t, task.Resume())
		time.Sleep(10 * time.Second)
		assert.Equal(t, seconds(10, 15, 20), passes.times())
	})
}

// What begins after a pause begins with a pass, be it that the task waited for a tick, in a run or for one.
func TestPassesPausedInTheWait(t *testing.T) {
	for name, restart := range map[string]bool{"of a run": false, "for a dependency": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact(taskmanager.WithMaxRestarts(0))...)
				db := start(t, m, "db", untilStopped)
				passes := newPassLog()
				task := start(t, m, "a", everyTen(passes.ending(lasts(2*time.Second, fails))), taskmanager.WithDependsOn("db"))
				time.Sleep(time.Second)
				if restart {
					require.NoError(t, db.Stop(t.Context()))
				}
				time.Sleep(3 * time.Second)
				assert.Equal(t, restart, task.State() == taskmanager.StateWaiting)
				require.NoError(t, task.Pause(t.Context()))
				if restart {
					require.NoError(t, db.Restart(t.Context()))
				}
				time.Sleep(time.Second)
				require.NoError(t, task.Resume())
				time.Sleep(12 * time.Second)
				assert.Equal(t, seconds(0, 5, 15), passes.times())
				assert.Equal(t, [4]uint64{3, 1, 1, 0}, counts(task))
			})
		})
	}
}

// A pass that is to be tried again is due after a pause, however long; what would have come meanwhile is skipped.
func TestPassesPausedOverTicks(t *testing.T) {
	for name, test := range map[string]struct {
		body   func(taskmanager.TaskFunc) taskmanager.TaskFunc
		ends   []func() error
		want   []time.Duration
		counts [4]uint64
	}{
		"Every, a pass is due":      {everyTen, []func() error{succeeds, fails}, seconds(0, 10, 45, 50, 60), [4]uint64{5, 1, 0, 3}},
		"Every, none is":            {everyTen, nil, seconds(0, 10, 45, 55), [4]uint64{4, 0, 0, 0}},
		"OnSchedule, a pass is due": {scheduled, []func() error{fails}, seconds(10, 45, 50, 60), [4]uint64{4, 1, 0, 3}},
		"OnSchedule, none is":       {scheduled, nil, seconds(10, 50, 60), [4]uint64{3, 0, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact()...)
				passes := newPassLog()
				task := start(t, m, "a", test.body(passes.ending(test.ends...)))
				time.Sleep(10*time.Second + time.Millisecond)
				require.NoError(t, task.Pause(t.Context()))
				assert.Zero(t, task.Stats().Passes.Next)
				time.Sleep(time.Until(passes.made.Add(45 * time.Second)))
				require.NoError(t, task.Resume())
				time.Sleep(16 * time.Second)
				synctest.Wait()
				assert.Equal(t, test.want, passes.times())
				assert.Equal(t, test.counts, counts(task))
			})
		})
	}
}

// A pass that has been tried again, and has succeeded, is not due any more, whatever begins the next run.
func TestPassesTriedAgainAreNotDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		passes := newPassLog()
		task := start(t, m, "a", scheduled(passes.ending(fails)))
		time.Sleep(13 * time.Second)
		require.NoError(t, task.Pause(t.Context()))
		require.NoError(t, task.Resume())
		time.Sleep(10 * time.Second)
		assert.Equal(t, seconds(10, 11, 20), passes.times())
	})
}

// After a cooldown a task begins afresh, as after a restart by hand: the pass by which it was given up is not due.
func TestPassesAfterACooldown(t *testing.T) {
	for name, test := range map[string]struct {
		body func(taskmanager.TaskFunc) taskmanager.TaskFunc
		want []time.Duration
	}{
		"Every":      {everyTen, seconds(0, 10, 13, 23, 33)},
		"OnSchedule": {scheduled, seconds(10, 20, 30)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, once(), taskmanager.WithCooldown(3*time.Second))
				passes := newPassLog()
				start(t, m, "a", test.body(func(context.Context) error {
					passes.note()
					if time.Since(passes.made) == 10*time.Second {
						return errBoom
					}
					return nil
				}))
				time.Sleep(35 * time.Second)
				assert.Equal(t, test.want, passes.times())
			})
		})
	}
}

// A body that makes other passes when one has failed begins those afresh, and has no pass to be tried again.
func TestPassesAfterOthersInARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		passes := newPassLog()
		ticks := scheduled(passes.ending(fails))
		task := start(t, m, "a", func(ctx context.Context) error {
			if err := ticks(ctx); err != nil {
				return ticks(ctx)
			}
			return nil
		})
		time.Sleep(25 * time.Second)
		assert.Equal(t, seconds(10, 20), passes.times())
		assert.Equal(t, [4]uint64{2, 1, 0, 0}, counts(task))
		assert.EqualValues(t, 1, task.Stats().Runs)
	})
}

// A body that makes its passes at another interval than before begins them afresh.
func TestPassesAtAnotherInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		passes := newPassLog()
		interval := 10 * time.Second
		start(t, m, "a", func(ctx context.Context) error {
			ticks := taskmanager.Every(interval, passes.ending(fails))
			interval = 3 * time.Second
			return ticks(ctx)
		})
		time.Sleep(8 * time.Second)
		assert.Equal(t, seconds(0, 1, 4, 7), passes.times())
	})
}

// The pass after one that was given up is when it was told to be, also where the schedule has another answer each time.
func TestPassesGivenUpTellTheNextOfAnySchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithMaxRestarts(0))
		events := m.Subscribe(t.Context())
		asks := 0
		passes := newPassLog()
		start(t, m, "a", taskmanager.OnSchedule(nextFunc(func(last time.Time) time.Time {
			asks++
			return last.Add(time.Duration(asks) * 10 * time.Second)
		}), passes.ending(fails)))
		time.Sleep(35 * time.Second)
		assert.Equal(t, []string{"10s pass gave up run=1 restarts=0 delay=20s"}, told(events))
		assert.Equal(t, seconds(10, 30), passes.times())
	})
}

// What replaces a body has passes of its own, or none, whatever the one before had.
func TestPassesReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		replace := func(body taskmanager.TaskFunc) {
			t.Helper()
			_, err := m.ReplaceTask(t.Context(), "a", body)
			require.NoError(t, err)
		}
		passes := newPassLog()
		task := start(t, m, "a", untilStopped)
		time.Sleep(3 * time.Second)
		require.ErrorIs(t, task.Trigger(), taskmanager.ErrNoPasses)
		replace(everyTen(passes.ending(fails))) // fails at 3
		synctest.Wait()
		assert.Equal(t, [4]uint64{1, 1, 0, 0}, counts(task))
		replace(everyTen(passes.lasting())) // in backoff: what is due of the other one is not
		time.Sleep(time.Second)
		assert.Equal(t, [4]uint64{1, 0, 0, 0}, counts(task))
		replace(scheduled(passes.lasting()))
		time.Sleep(7 * time.Second)
		assert.Equal(t, [4]uint64{1, 0, 0, 0}, counts(task))
		assert.Equal(t, seconds(3, 3, 10), passes.times())
		replace(untilStopped)
		assert.Nil(t, task.Stats().Passes)
		require.ErrorIs(t, task.Trigger(), taskmanager.ErrNoPasses)

		waits := start(t, m, "b", untilStopped, taskmanager.WithDependsOn("c"))
		_, err := m.ReplaceTask(t.Context(), "b", everyTen(succeed), taskmanager.WithDependsOn("c"))
		require.NoError(t, err)
		require.NoError(t, waits.Trigger(), "before it runs, too")
	})
}

// A task whose schedule is one of the clock on the wall keeps to that when summer time begins and ends: one pass a day, at that time,
// but for the night in which it is left out.
func TestPassesThroughSummerTime(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	for at, odd := range map[[2]int]string{{9, 0}: "", {2, 30}: "2000-03-26 03:30 CEST"} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var days []string
				task := start(t, newManager(t, exact()...), "a", taskmanager.OnSchedule(daily{at[0], at[1], zone}, func(context.Context) error {
					days = append(days, time.Now().In(zone).Format("2006-01-02 15:04 MST"))
					return nil
				}))
				const most = 310 // to the 5th of November
				time.Sleep(most * 24 * time.Hour)
				require.NoError(t, task.Stop(t.Context()))
				require.Len(t, days, most)
				for i, day := range days {
					want := time.Date(2000, 1, 1+i, at[0], at[1], 0, 0, zone).Format("2006-01-02 15:04 MST")
					if day[:10] == odd[:min(10, len(odd))] {
						want = odd
					}
					require.Equal(t, want, day)
				}
				assert.EqualValues(t, most, task.Stats().Passes.Begun)
				assert.Zero(t, task.Stats().Passes.Skipped)
			})
		})
	}
}

func TestPassStatsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		task := start(t, m, "a", everyTen(newPassLog().lasting(1500*time.Millisecond, 0)))
		time.Sleep(12 * time.Second)
		text, err := json.Marshal(task.Stats())
		require.NoError(t, err)
		assert.Contains(t, string(text), `"passes":{"begun":2,"failed":0,"given_up":0,"skipped":0,"last_start":"`+bubbleTime(10*time.Second)+
			`","last_duration_seconds":0,"last_success":"`+bubbleTime(10*time.Second)+`","next":"`+bubbleTime(20*time.Second)+`"}`)
		var back map[string]any
		require.NoError(t, json.Unmarshal(text, &back))
		plain := start(t, m, "plain", untilStopped)
		text, err = json.Marshal(plain.Stats())
		require.NoError(t, err)
		assert.NotContains(t, string(text), "passes")
	})
}

// When a pass has failed, its Schedule is asked for the next one. However that ends, the failure is that of the pass.
func TestPassesWhoseScheduleIsAskedAfterAFailure(t *testing.T) {
	var asked atomic.Pointer[taskmanager.Task]
	for name, next := range map[string]func(){
		"returns late": func() { time.Sleep(3 * time.Second) },
		"panics":       func() { panic("Next") },
		"exits":        runtime.Goexit,
		"calls back": func() {
			_ = asked.Load().Stats()
			assert.NoError(t, asked.Load().Trigger())
		},
	} {
		for how, end := range map[string]func() error{"an error": fails, "a panic": func() error { panic(errBoom) }} {
			t.Run(name+" after "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					before := goroutines()
					m := newManager(t, exact()...)
					passes := newPassLog()
					task := start(t, m, "a", taskmanager.OnSchedule(trapped(2, next), passes.ending(end)))
					asked.Store(task)
					time.Sleep(70 * time.Second)
					s := task.Stats()
					require.ErrorIs(t, s.LastError, errBoom)
					assert.EqualValues(t, 1, s.Failures)
					assert.EqualValues(t, 2, s.Passes.Begun)
					time.Sleep(time.Minute)
					assert.Equal(t, 120*time.Second, passes.times()[2])
					require.NoError(t, m.Shutdown(t.Context()))
					assert.Equal(t, before, goroutines(), "goroutines")
				})
			})
		}
	}
	t.Run("hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, exact()...)
			hang := make(chan struct{})
			task := start(t, m, "a", taskmanager.OnSchedule(trapped(2, func() { <-hang }), newPassLog().ending(fails)))
			time.Sleep(70 * time.Second)
			began := time.Now()
			stuck := asStuck(t, task.Stop(t.Context()), "a", userCodeTimeout)
			took(t, userCodeTimeout, began)
			assert.Contains(t, string(stuck.Stack), "trappedSchedule.Next")
			close(hang)
			<-task.Done()
		})
	})
}

// The pass after one that is given up comes no sooner than its error asks for; one by hand does.
func TestPassesGivenUpThatAskForTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact()...)
		events := m.Subscribe(t.Context())
		began := time.Now()
		var at []time.Duration
		task := start(t, m, "a", taskmanager.Every(10*time.Second, func(context.Context) error {
			at = append(at, time.Since(began))
			return busyError(time.Minute)
		}), taskmanager.WithMaxRestarts(1), taskmanager.WithRestartWindow(time.Hour))
		time.Sleep(3*time.Minute + 30*time.Second)
		require.NoError(t, task.Trigger())
		synctest.Wait()
		assert.Equal(t, seconds(0, 60, 120, 180, 210), at)
		for _, e := range ofKind(taskmanager.EventPassGaveUp, pending(events)) {
			assert.Equal(t, time.Minute, e.Delay)
		}
	})
}

// A pass that is tried again is due until it has been made, whatever cuts it off.
func TestPassesCutOffWhenTriedAgainAreDue(t *testing.T) {
	for name, cut := range map[string]func(t *testing.T, m *taskmanager.Manager){
		"by a lost dependency": func(t *testing.T, m *taskmanager.Manager) { require.NoError(t, m.RestartTask(t.Context(), "db")) },
		"by a pause": func(t *testing.T, m *taskmanager.Manager) {
			require.NoError(t, m.PauseTask(t.Context(), "a"))
			require.NoError(t, m.ResumeTask("a"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, exact()...)
				start(t, m, "db", untilStopped)
				passes := newPassLog()
				task := start(t, m, "a", taskmanager.OnSchedule(each(time.Hour), func(ctx context.Context) error {
					passes.note()
					switch len(passes.times()) {
					case 1:
						return errBoom
					case 2:
						<-ctx.Done()
						return ctx.Err()
					}
					return nil
				}), taskmanager.WithBindTo("db"))
				time.Sleep(time.Hour + 5*time.Second)
				cut(t, m)
				time.Sleep(2 * time.Hour)
				assert.Equal(t, seconds(3600, 3601, 3605, 7200, 10800), passes.times())
				assert.Equal(t, [4]uint64{5, 1, 0, 0}, counts(task), "what is cut off has not failed")
			})
		})
	}
}

// A pass of OnSchedule begins up to its jitter after its time, exactly when the statistics say, and moves no other.
func TestOnScheduleWithJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.OnSchedule(each(10*time.Second), passes.lasting(), taskmanager.WithPassJitter(5*time.Second)))
		late := make(map[time.Duration]bool)
		var want []time.Duration
		for tick := range 20 {
			synctest.Wait()
			next := nextPass(task).Sub(passes.made)
			by := next - time.Duration(tick+1)*10*time.Second
			assert.GreaterOrEqual(t, by, time.Duration(0))
			assert.Less(t, by, 5*time.Second)
			late[by] = true
			want = append(want, next)
			time.Sleep(time.Until(passes.made.Add(next)))
		}
		synctest.Wait()
		assert.Equal(t, want, passes.times())
		assert.Greater(t, len(late), 1, "at random")
		assert.Equal(t, [4]uint64{20, 0, 0, 0}, counts(task))
	})
}

// What comes while a pass of OnSchedule waits for its jitter, which may be long, is skipped.
func TestOnScheduleWithALongJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		passes := newPassLog()
		task := start(t, m, "a", taskmanager.OnSchedule(each(10*time.Second), passes.lasting(), taskmanager.WithPassJitter(time.Hour)))
		synctest.Wait()
		first := nextPass(task).Sub(passes.made)
		time.Sleep(first)
		synctest.Wait()
		assert.Equal(t, []time.Duration{first}, passes.times())
		assert.Equal(t, [4]uint64{1, 0, 0, uint64(first/(10*time.Second)) - 1}, counts(task)) //nolint:gosec // it is positive
	})
}

// A pass that is triggered while that of a tick waits for its jitter leaves that alone: it comes when it would have, or as soon as the
// triggered one is over.
func TestTriggerWithinTheJitter(t *testing.T) {
	for name, test := range map[string]struct {
		body  func(taskmanager.TaskFunc, ...taskmanager.PassOption) taskmanager.TaskFunc
		after time.Duration // when a tick has come
	}{
		"Every":      {everyMinute, 0},
		"OnSchedule": {minutely, time.Minute},
	} {
		trigger := func(t *testing.T, takes time.Duration) (passes *passLog, task *taskmanager.Task, tick, next time.Duration) {
			passes = newPassLog()
			task = start(t, newManager(t), "a", test.body(passes.lasting(takes), taskmanager.WithPassJitter(time.Minute)))
			time.Sleep(test.after)
			synctest.Wait()
			next = nextPass(task).Sub(passes.made)
			require.NoError(t, task.Trigger())
			return passes, task, test.after, next
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				passes, task, tick, next := trigger(t, 0)
				time.Sleep(next - tick)
				synctest.Wait()
				assert.Equal(t, []time.Duration{tick, next}, passes.times())
				assert.Equal(t, [4]uint64{2, 0, 0, 0}, counts(task))
			})
		})
		t.Run(name+" for long", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				passes, task, tick, _ := trigger(t, 90*time.Second)
				time.Sleep(100 * time.Second)
				assert.Equal(t, []time.Duration{tick, tick + 90*time.Second}, passes.times())
				assert.Equal(t, [4]uint64{2, 0, 0, 1}, counts(task), "that of a minute later is skipped")
				assert.GreaterOrEqual(t, nextPass(task).Sub(passes.made), tick+2*time.Minute)
			})
		})
	}
}

func everyMinute(pass taskmanager.TaskFunc, opts ...taskmanager.PassOption) taskmanager.TaskFunc {
	return taskmanager.Every(time.Minute, pass, opts...)
}

func minutely(pass taskmanager.TaskFunc, opts ...taskmanager.PassOption) taskmanager.TaskFunc {
	return taskmanager.OnSchedule(each(time.Minute), pass, opts...)
}

// A tick that comes during a pass that was triggered is skipped with its jitter, be that over by then or not.
func TestTriggerOverATickWithJitter(t *testing.T) {
	for name, test := range map[string]struct {
		body  func(taskmanager.TaskFunc, ...taskmanager.PassOption) taskmanager.TaskFunc
		first int // passes before that
	}{
		"Every":      {everyMinute, 1},
		"OnSchedule": {minutely, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				passes := newPassLog()
				takes := append(make([]time.Duration, test.first), 2*time.Second)
				task := start(t, m, "a", test.body(passes.lasting(takes...), taskmanager.WithPassJitter(30*time.Second)))
				time.Sleep(59 * time.Second)
				require.NoError(t, task.Trigger())
				time.Sleep(3 * time.Second)
				next := nextPass(task).Sub(passes.made)
				assert.GreaterOrEqual(t, next, 2*time.Minute)
				assert.Less(t, next, 150*time.Second)
				time.Sleep(time.Until(passes.made.Add(next)))
				synctest.Wait()
				assert.Equal(t, []time.Duration{59 * time.Second, next}, passes.times()[test.first:])
				assert.Equal(t, [4]uint64{uint64(test.first) + 2, 0, 0, 1}, counts(task)) //nolint:gosec // it is not negative
			})
		})
	}
}

func TestPassesGivenUpTellTheJitterOfTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, taskmanager.WithMaxRestarts(0))
		events := m.Subscribe(t.Context())
		task := start(t, m, "a", taskmanager.Every(time.Minute, newPassLog().ending(fails), taskmanager.WithPassJitter(time.Minute)))
		e := <-events
		for e.Kind != taskmanager.EventPassGaveUp {
			e = <-events
		}
		synctest.Wait()
		assert.WithinDuration(t, e.Time.Add(e.Delay), nextPass(task), 0)
	})
}

// That its passes succeed is no sign of health in a run that has to say that it is ready, and does not: it is given up at its limit.
func TestPassesOfARunThatIsNeverReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, exact(taskmanager.WithMaxRestarts(2))...)
		task := start(t, m, "a", taskmanager.Every(time.Second, func(context.Context) error { return nil }), taskmanager.WithReadiness(time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.ErrorIs(t, task.Wait(ctx), taskmanager.ErrTooManyRestarts)
		s := task.Stats()
		assert.EqualValues(t, 3, s.Failures)
		assert.Equal(t, 3, s.ConsecutiveFailures)
		for _, e := range task.History() {
			assert.NotEqual(t, taskmanager.EventRecovered, e.Kind)
		}
	})
}
