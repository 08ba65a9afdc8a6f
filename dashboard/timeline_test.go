package dashboard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-taskmanager/taskmanager"
)

var (
	timelineNow = time.Date(2026, 11, 27, 20, 40, 0, 0, time.UTC)
	errBoom     = errors.New("boom")
)

func ago(d time.Duration) time.Time { return timelineNow.Add(-d) }

// describe returns the spans of a past, each in a line: which run, how it has ended, and how long before now it has begun and ended.
func describe(p *past, now time.Time) []string {
	var lines []string
	for i := range p.spans {
		s := &p.spans[i]
		what := "-"
		if s.runs > 0 {
			what = "run " + strconv.FormatUint(s.run, 10)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s: %s to %s", what, s.state, s.word, now.Sub(s.from), now.Sub(s.to)))
	}
	return lines
}

func TestTimelineSpans(t *testing.T) {
	running := taskmanager.TaskStats{State: taskmanager.StateRunning, RunStartedAt: ago(time.Minute)}
	for name, c := range map[string]struct {
		events   []taskmanager.Event
		stats    taskmanager.TaskStats
		want     []string
		failures int
	}{
		"nothing": {},
		"a run that executes": {
			stats: running,
			want:  []string{"run 0 running running now: 1m0s to 0s"},
		},
		"the start of the first is not known": {
			events: []taskmanager.Event{
				{Time: ago(5 * time.Minute), Kind: taskmanager.EventFailed, Run: 7, Err: errBoom, Uptime: 10 * time.Minute},
				{Time: ago(time.Minute), Kind: taskmanager.EventStarted, Run: 8},
			},
			stats: running,
			want: []string{
				"run 7 backoff failed: 15m0s to 5m0s", "- backoff backoff: 5m0s to 1m0s", "run 8 running running now: 1m0s to 0s",
			},
			failures: 1,
		},
		"all kinds of ends": {
			events: []taskmanager.Event{
				{Time: ago(90 * time.Minute), Kind: taskmanager.EventFailed, Run: 1, Err: errBoom},
				{Time: ago(80 * time.Minute), Kind: taskmanager.EventStarted, Run: 2},
				{Time: ago(79 * time.Minute), Kind: taskmanager.EventReady, Run: 2},
				{Time: ago(70 * time.Minute), Kind: taskmanager.EventPassGaveUp, Run: 2, Err: &taskmanager.GiveUpError{Err: errBoom, Pass: true}},
				{Time: ago(70 * time.Minute), Kind: taskmanager.EventStarted, Run: 3},
				{Time: ago(60 * time.Minute), Kind: taskmanager.EventCompleted, Run: 3},
				{Time: ago(55 * time.Minute), Kind: taskmanager.EventStarted, Run: 4},
				{Time: ago(50 * time.Minute), Kind: taskmanager.EventStopped, Run: 4, Cause: taskmanager.ErrRestarted},
				{Time: ago(49 * time.Minute), Kind: taskmanager.EventStarted, Run: 5},
				{Time: ago(40 * time.Minute), Kind: taskmanager.EventPaused, Run: 5, Cause: taskmanager.ErrPaused},
				{Time: ago(35 * time.Minute), Kind: taskmanager.EventResumed, Run: 5},
				{Time: ago(34 * time.Minute), Kind: taskmanager.EventStarted, Run: 6},
				{Time: ago(30 * time.Minute), Kind: taskmanager.EventGaveUp, Run: 6, Err: &taskmanager.GiveUpError{Err: errBoom}, Delay: time.Minute},
				{Time: ago(29 * time.Minute), Kind: taskmanager.EventStarted, Run: 7},
				{Time: ago(25 * time.Minute), Kind: taskmanager.EventGaveUp, Run: 7, Err: &taskmanager.GiveUpError{Err: errBoom}},
				{Time: ago(20 * time.Minute), Kind: taskmanager.EventStarted, Run: 8},
				{Time: ago(10 * time.Minute), Kind: taskmanager.EventStopped, Run: 8, Cause: taskmanager.ErrStopped},
			},
			stats: taskmanager.TaskStats{State: taskmanager.StateStopped},
			want: []string{
				"run 1 backoff failed: 1h30m0s to 1h30m0s", "- backoff backoff: 1h30m0s to 1h20m0s",
				"run 2 backoff failed: 1h20m0s to 1h10m0s", "- waiting waiting: 1h10m0s to 1h10m0s",
				"run 3 completed completed: 1h10m0s to 1h0m0s", "- completed completed: 1h0m0s to 55m0s",
				"run 4 stopped stopped: 55m0s to 50m0s", "- waiting waiting: 50m0s to 49m0s",
				"run 5 paused paused: 49m0s to 40m0s", "- paused paused: 40m0s to 35m0s", "- waiting waiting: 35m0s to 34m0s",
				"run 6 failed gave up: 34m0s to 30m0s", "- paused paused: 30m0s to 29m0s",
				"run 7 failed gave up: 29m0s to 25m0s", "- failed given up: 25m0s to 20m0s",
				"run 8 stopped stopped: 20m0s to 10m0s", "- stopped stopped: 10m0s to 0s",
			},
			failures: 4,
		},
		"what happens in backoff": {
			events: []taskmanager.Event{
				{Time: ago(30 * time.Minute), Kind: taskmanager.EventFailed, Run: 1, Err: errBoom, Uptime: time.Minute},
				{Time: ago(25 * time.Minute), Kind: taskmanager.EventPaused, Run: 1, Cause: taskmanager.ErrPaused},
				{Time: ago(20 * time.Minute), Kind: taskmanager.EventStopped, Run: 1, Cause: taskmanager.ErrStopped},
			},
			stats: taskmanager.TaskStats{State: taskmanager.StateStopped},
			want: []string{
				"run 1 backoff failed: 31m0s to 30m0s", "- backoff backoff: 30m0s to 25m0s", "- paused paused: 25m0s to 20m0s",
				"- stopped stopped: 20m0s to 0s",
			},
			failures: 1,
		},
		"stopped where no run is known": {
			events: []taskmanager.Event{{Time: ago(20 * time.Minute), Kind: taskmanager.EventStopped, Run: 1, Cause: taskmanager.ErrStopped}},
			stats:  taskmanager.TaskStats{State: taskmanager.StateStopped},
		},
		"stuck, and told of it late": {
			events: []taskmanager.Event{
				{Time: ago(20 * time.Minute), Kind: taskmanager.EventStuck, Run: 4, Uptime: 10 * time.Minute},
				{Time: ago(10 * time.Minute), Kind: taskmanager.EventStopped, Run: 4, Uptime: 20 * time.Minute, Cause: taskmanager.ErrStopped},
			},
			stats: taskmanager.TaskStats{State: taskmanager.StateStopped},
			want:  []string{"run 4 stopped stopped: 30m0s to 10m0s", "- stopped stopped: 10m0s to 0s"},
		},
		"recovered by its end": {
			events: []taskmanager.Event{
				{Time: ago(20 * time.Minute), Kind: taskmanager.EventCompleted, Run: 4, Uptime: 10 * time.Minute},
				{Time: ago(20 * time.Minute), Kind: taskmanager.EventRecovered, Run: 4, Uptime: 10 * time.Minute},
			},
			stats: taskmanager.TaskStats{State: taskmanager.StateCompleted},
			want:  []string{"run 4 completed completed: 30m0s to 20m0s", "- completed completed: 20m0s to 0s"},
		},
		"an end is missing": {
			events: []taskmanager.Event{
				{Time: ago(20 * time.Minute), Kind: taskmanager.EventStarted, Run: 4},
				{Time: ago(10 * time.Minute), Kind: taskmanager.EventStarted, Run: 5},
			},
			stats: taskmanager.TaskStats{State: taskmanager.StateRunning, RunStartedAt: ago(10 * time.Minute)},
			want: []string{
				"run 4 stopped ended: 20m0s to 10m0s", "- waiting waiting: 10m0s to 10m0s", "run 5 running running now: 10m0s to 0s",
			},
		},
		"the clock was set back": {
			events: []taskmanager.Event{
				{Time: ago(-time.Hour), Kind: taskmanager.EventFailed, Run: 1, Err: errBoom, Uptime: time.Minute},
				{Time: ago(2 * time.Minute), Kind: taskmanager.EventStarted, Run: 2},
				{Time: ago(time.Minute), Kind: taskmanager.EventFailed, Run: 2, Err: errBoom, Uptime: time.Minute},
			},
			stats: taskmanager.TaskStats{State: taskmanager.StateBackoff},
			want: []string{
				"run 1 backoff failed: -59m0s to -1h0m0s", "- backoff backoff: -1h0m0s to -1h0m0s",
				"run 2 backoff failed: -1h0m0s to -1h0m0s", "- backoff backoff: -1h0m0s to -1h0m0s",
			},
			failures: 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPast(c.events, c.stats, timelineNow)
			assert.Equal(t, c.want, describe(p, timelineNow))
			assert.Equal(t, c.failures, p.failures)
		})
	}
}

// A history that the library has made is drawn as what has happened.
func TestTimelineOfATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		runs := 0
		task, err := m.StartTask("a", func(ctx context.Context) error {
			switch runs++; runs {
			case 1:
				time.Sleep(10 * time.Second)
				return errBoom
			case 2:
				time.Sleep(2 * time.Second)
				panic("boom")
			}
			<-ctx.Done()
			return nil
		}, taskmanager.WithBackoff(4*time.Second, 4*time.Second), taskmanager.WithBackoffJitter(0))
		require.NoError(t, err)
		time.Sleep(time.Minute + 20*time.Second)
		require.NoError(t, task.Pause(t.Context()))
		time.Sleep(10 * time.Second)
		require.NoError(t, task.Resume())
		synctest.Wait()
		time.Sleep(20 * time.Second)
		require.NoError(t, task.Restart(t.Context()))
		time.Sleep(30 * time.Second)
		p := newPast(task.History(), task.Stats(), time.Now())
		assert.Equal(t, []string{
			"run 1 backoff failed: 2m20s to 2m10s", "- backoff backoff: 2m10s to 2m6s",
			"run 2 backoff failed: 2m6s to 2m4s", "- backoff backoff: 2m4s to 2m0s",
			"run 3 paused paused: 2m0s to 1m0s", "- paused paused: 1m0s to 50s", "- waiting waiting: 50s to 50s",
			"run 4 stopped stopped: 50s to 30s", "- waiting waiting: 30s to 30s",
			"run 5 running running now: 30s to 0s",
		}, describe(p, time.Now()))
		assert.Equal(t, "5 runs, 2 failures in the last 2m20s; running for 30s", p.summary())
		var marks []string
		for _, m := range p.marks {
			marks = append(marks, signs[m.sign].word)
		}
		assert.Equal(t, []string{"failure", "panic", "paused", "resumed"}, slices.DeleteFunc(marks, func(s string) bool { return s == "recovered" }))
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A task that has lost one that it is bound to waits until that is there again.
func TestTimelineOfALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		run := func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		}
		db, err := m.StartTask("db", run)
		require.NoError(t, err)
		failed := false
		task, err := m.StartTask("a", func(ctx context.Context) error {
			if !failed {
				failed = true
				return errBoom
			}
			return run(ctx)
		}, taskmanager.WithBindTo("db"), taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
		require.NoError(t, err)
		time.Sleep(11 * time.Second)
		require.NoError(t, db.Stop(t.Context()))
		time.Sleep(9 * time.Second)
		p := newPast(task.History(), task.Stats(), time.Now())
		assert.Equal(t, []string{
			"run 1 backoff failed: 20s to 20s", "- backoff backoff: 20s to 19s", "run 2 stopped stopped: 19s to 9s", "- waiting waiting: 9s to 0s",
		}, describe(p, time.Now()))
		assert.Contains(t, p.spans[2].facts, "dependency lost")
		require.NoError(t, db.Restart(t.Context()))
		time.Sleep(time.Second)
		p = newPast(task.History(), task.Stats(), time.Now())
		assert.Equal(t, []string{"- waiting waiting: 10s to 1s", "run 3 running running now: 1s to 0s"}, describe(p, time.Now())[3:])
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A lease that is lost is waited for again.
func TestTimelineOfALostLease(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		m, err := taskmanager.New(taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		held, lose := context.WithCancel(t.Context())
		failed := false // an event that history begins with
		task, err := m.StartTask("task", func(ctx context.Context) error {
			if !failed {
				failed = true
				return errBoom
			}
			return park(ctx)
		}, taskmanager.WithLease(losable{"feed", held}), taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
		require.NoError(t, err)
		time.Sleep(11 * time.Second)
		lose()
		time.Sleep(9 * time.Second)
		p := newPast(task.History(), task.Stats(), time.Now())
		assert.Equal(t, []string{
			"run 1 backoff failed: 20s to 20s", "- backoff backoff: 20s to 19s", "run 2 stopped stopped: 19s to 9s", "- waiting waiting: 9s to 0s",
		}, describe(p, time.Now()))
		assert.Contains(t, p.spans[2].facts, "lease lost")
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// A losable lease is held at once, until its context ends, and then by nobody.
type losable struct {
	held
	context context.Context
}

func (l losable) Context() context.Context { return l.context }

func (l losable) Acquire(ctx context.Context, _ func(string)) (taskmanager.Hold, error) {
	if l.context.Err() != nil {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return l, nil
}

// crashes are a run of three days, ten that failed within two seconds, and one that executes.
func crashes() ([]taskmanager.Event, taskmanager.TaskStats) {
	at := ago(3 * time.Hour)
	events := []taskmanager.Event{{Time: at, Kind: taskmanager.EventFailed, Run: 1, Err: errBoom, Uptime: 72 * time.Hour}}
	for run := range uint64(10) {
		at = at.Add(50 * time.Millisecond)
		events = append(events, taskmanager.Event{Time: at, Kind: taskmanager.EventStarted, Run: run + 2})
		at = at.Add(150 * time.Millisecond)
		events = append(events, taskmanager.Event{
			Time: at, Kind: taskmanager.EventFailed, Run: run + 2, Err: errBoom, Uptime: 150 * time.Millisecond, Delay: 50 * time.Millisecond,
		})
	}
	at = at.Add(50 * time.Millisecond)
	events = append(events, taskmanager.Event{Time: at, Kind: taskmanager.EventStarted, Run: 12})
	return events, taskmanager.TaskStats{State: taskmanager.StateRunning, RunStartedAt: at}
}

// Where they can all be seen, runs are to scale.
func TestTimelineIsToScale(t *testing.T) {
	p := newPast([]taskmanager.Event{
		{Time: ago(60 * time.Minute), Kind: taskmanager.EventFailed, Run: 1, Err: errBoom, Uptime: 40 * time.Minute},
		{Time: ago(50 * time.Minute), Kind: taskmanager.EventStarted, Run: 2},
		{Time: ago(20 * time.Minute), Kind: taskmanager.EventFailed, Run: 2, Err: errBoom, Uptime: 30 * time.Minute},
	}, taskmanager.TaskStats{State: taskmanager.StateBackoff}, timelineNow)
	a := newAxis(p.spans)
	assert.False(t, a.compressed)
	assert.InDeltaSlice(t, []float64{0, 40, 50, 80, 100}, a.edges, 1e-9)
	assert.InDelta(t, 65, a.at(ago(35*time.Minute)), 1e-9)
	assert.Equal(t, ago(35*time.Minute), a.when(65))
	picture := parsePicture(t, string(drawTimeline([]taskmanager.Event{
		{Time: ago(60 * time.Minute), Kind: taskmanager.EventFailed, Run: 1, Err: errBoom, Uptime: 40 * time.Minute},
	}, taskmanager.TaskStats{State: taskmanager.StateBackoff}, timelineNow)))
	assert.NotContains(t, picture.all("svg")[0].attr("aria-label"), "shorter")
	assert.Empty(t, picture.of("break"))
}

// A run of days does not hide those that follow it and last no time, and the picture says that it is not to scale.
func TestTimelineIsCompressed(t *testing.T) {
	events, stats := crashes()
	p := newPast(events, stats, timelineNow)
	a := newAxis(p.spans)
	assert.True(t, a.compressed)
	for i := range p.spans {
		width := a.edges[i+1] - a.edges[i]
		if p.spans[i].runs > 0 {
			assert.Greater(t, width, 2.0, "8 pixels of 390")
			assert.Less(t, width, 40.0)
		}
		assert.Equal(t, p.spans[i].length() > time.Hour, a.broken[i])
	}
	picture := parsePicture(t, string(drawTimeline(events, stats, timelineNow)))
	assert.Contains(t, picture.all("svg")[0].attr("aria-label"), "Longer times are drawn shorter than they are, much longer ones with a break.")
	assert.Contains(t, picture.all("figcaption")[0].all("span")[4].Text, "Longer times are drawn shorter than they are")
	assert.Len(t, picture.of("break"), 2)
	assert.Len(t, picture.of("run"), 12)
}

// Whatever has happened, and however often: the axis is whole and in order, and marks and labels don't cover each other.
func TestTimelineOfAnyHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events, stats := anyHistory(t)
		p := newPast(events, stats, timelineNow)
		if len(p.spans) == 0 {
			require.Empty(t, drawTimeline(events, stats, timelineNow))
			return
		}
		a := newAxis(p.spans)
		require.InDelta(t, 0, a.edges[0], 0)
		require.InDelta(t, 100, a.edges[len(a.edges)-1], 0)
		bars, runs := 0, 0
		for i := range p.spans {
			s := &p.spans[i]
			least := leastSpace
			if runs += s.runs; s.runs > 0 {
				least = leastBar
				bars++
			}
			require.GreaterOrEqual(t, a.edges[i+1]-a.edges[i], 0.99*least)
			require.False(t, s.to.Before(s.from))
			require.True(t, i == 0 || s.from.Equal(p.spans[i-1].to))
			x := (a.edges[i] + a.edges[i+1]) / 2
			if s.length() > time.Millisecond {
				require.InDelta(t, x, a.at(a.when(x)), 0.1)
			}
		}
		require.LessOrEqual(t, bars, mostBars)
		require.Equal(t, p.runs, runs)

		var wide, narrow []float64
		for _, tick := range a.ticks() {
			wide = append(wide, tick.x)
			if !tick.wideOnly {
				narrow = append(narrow, tick.x)
			}
			require.True(t, tick.at.Equal(tick.at.Truncate(tick.step)), "%v is a multiple of %v", tick.at, tick.step)
		}
		apart := func(xs []float64, least float64) {
			for i := 1; i < len(xs); i++ {
				require.GreaterOrEqual(t, xs[i]-xs[i-1], least)
			}
		}
		apart(wide, labelRoom(time.Second, true))
		apart(narrow, labelRoom(time.Second, false))

		picture := parsePicture(t, string(drawTimeline(events, stats, timelineNow)))
		require.Len(t, picture.of("run"), bars)
		var at []float64
		marked := 0
		for _, s := range picture.of("sign") {
			if s.attr("y") == "" {
				continue // of the key
			}
			x, err := strconv.ParseFloat(strings.TrimSuffix(s.attr("x"), "%"), 64)
			require.NoError(t, err)
			at = append(at, x)
			for fact := range strings.SplitSeq(s.all("title")[0].Text, "\n") {
				var more int
				if n, _ := fmt.Sscanf(fact, "and %d more", &more); n == 0 {
					more = 1
				}
				marked += more
			}
		}
		apart(at, 3.59)
		require.Equal(t, len(p.marks), marked)
	})
}

// anyHistory draws events as a task may have them, and some as it can't.
func anyHistory(t *rapid.T) ([]taskmanager.Event, taskmanager.TaskStats) {
	duration := rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(math.Pow(10, rapid.Float64Range(3, 15).Draw(t, "magnitude")))
	})
	at := ago(rapid.SampledFrom([]time.Duration{0, time.Second, 24 * time.Hour}).Draw(t, "since"))
	run := uint64(0)
	var events []taskmanager.Event
	for range rapid.IntRange(0, 200).Draw(t, "events") {
		e := taskmanager.Event{Time: at, Kind: taskmanager.EventKind(rapid.IntRange(0, int(taskmanager.EventTriggered)+1).Draw(t, "kind"))}
		if e.Kind == taskmanager.EventStarted {
			run++
		}
		e.Run, e.Err, e.Uptime = run, errBoom, rapid.SampledFrom([]time.Duration{0, time.Second, time.Hour}).Draw(t, "uptime")
		events = append(events, e)
		at = at.Add(duration.Draw(t, "later") - rapid.SampledFrom([]time.Duration{0, 0, time.Minute}).Draw(t, "clock"))
	}
	stats := taskmanager.TaskStats{State: taskmanager.State(rapid.IntRange(0, int(taskmanager.StateStopped)).Draw(t, "state"))}
	if !stats.State.Ended() && rapid.Bool().Draw(t, "runs") {
		stats.RunStartedAt = at
	}
	return events, stats
}

// Of a thousand events the latest runs have bars of their own, and older ones share them.
func TestTimelineOfManyRuns(t *testing.T) {
	var events []taskmanager.Event
	at := ago(10 * time.Hour)
	for run := range uint64(500) {
		e := taskmanager.Event{Time: at.Add(time.Minute), Kind: taskmanager.EventFailed, Run: run + 1, Err: errBoom, Uptime: time.Minute}
		if run%50 == 0 {
			e.Kind, e.Err = taskmanager.EventGaveUp, &taskmanager.GiveUpError{Err: errBoom}
		}
		events = append(events, taskmanager.Event{Time: at, Kind: taskmanager.EventStarted, Run: run + 1}, e)
		at = at.Add(time.Minute + time.Second)
	}
	stats := taskmanager.TaskStats{State: taskmanager.StateBackoff}
	p := newPast(events, stats, timelineNow)
	var bars []span
	for _, s := range p.spans {
		if s.runs > 0 {
			bars = append(bars, s)
		}
	}
	require.Len(t, bars, mostBars)
	assert.Equal(t, []string{
		"Runs 1 to 20", "from 27 Nov 2026 10:40:00.000 UTC", "to 27 Nov 2026 11:00:19.000 UTC", "19 failed", "1 gave up",
	}, bars[0].facts)
	assert.Equal(t, "failed", bars[0].state, "the worst")
	assert.Equal(t, "backoff", bars[1].state)
	for _, s := range bars[mostBars-ownBars:] {
		assert.Equal(t, 1, s.runs)
	}
	assert.Contains(t, string(drawTimeline(events, stats, timelineNow)), "500 runs, 500 failures in the last 10h; backoff for ")
}

// Each bar and mark says what it is, exactly.
func TestTimelineFacts(t *testing.T) {
	picture := parsePicture(t, string(drawTimeline([]taskmanager.Event{
		{Time: ago(14 * time.Minute), Kind: taskmanager.EventFailed, Run: 3, Err: errBoom, Uptime: 5*time.Minute + 1234*time.Microsecond, Delay: time.Minute},
		{Time: ago(13 * time.Minute), Kind: taskmanager.EventStarted, Run: 4},
		{Time: ago(12 * time.Minute), Kind: taskmanager.EventReady, Run: 4, Uptime: time.Minute},
		{Time: ago(9 * time.Minute), Kind: taskmanager.EventRecovered, Run: 4, Failures: 1, Uptime: 4 * time.Minute},
		{Time: ago(6 * time.Minute), Kind: taskmanager.EventFailed, Run: 4, Err: &taskmanager.PanicError{Value: 1}, Uptime: 7 * time.Minute, Delay: 2 * time.Minute},
		{Time: ago(4 * time.Minute), Kind: taskmanager.EventStarted, Run: 5},
	}, taskmanager.TaskStats{State: taskmanager.StateRunning, RunStartedAt: ago(4 * time.Minute)}, timelineNow)))
	titles := func(class string) []string {
		var texts []string
		for _, e := range picture.of(class) {
			for _, title := range e.all("title") {
				texts = append(texts, title.Text)
			}
		}
		return texts
	}
	assert.Equal(t, []string{
		"Run 3, failed\nfrom 27 Nov 2026 20:20:59.998 UTC\nto 27 Nov 2026 20:26:00.000 UTC\nfailed: error\nuptime 5m0.001s",
		"Run 4, failed\nfrom 27 Nov 2026 20:27:00.000 UTC\nto 27 Nov 2026 20:34:00.000 UTC\nfailed: panic\nuptime 7m0s\n" +
			"ready 27 Nov 2026 20:28:00.000 UTC\nrecovered 27 Nov 2026 20:31:00.000 UTC",
		"Run 5, running now\nfrom 27 Nov 2026 20:36:00.000 UTC\nto 27 Nov 2026 20:40:00.000 UTC\nuptime 4m0s so far",
	}, titles("run"))
	assert.Equal(t, []string{
		"backoff of 1m0s\nfrom 27 Nov 2026 20:26:00.000 UTC\nto 27 Nov 2026 20:27:00.000 UTC",
		"backoff of 2m0s\nfrom 27 Nov 2026 20:34:00.000 UTC\nto 27 Nov 2026 20:36:00.000 UTC",
	}, titles("gap"))
	assert.Equal(t, []string{
		"27 Nov 2026 20:26:00.000 UTC: run 3, failed: error",
		"27 Nov 2026 20:31:00.000 UTC: run 4, recovered after 1 failure",
		"27 Nov 2026 20:34:00.000 UTC: run 4, failed: panic",
	}, titles("sign"))
	svg := picture.all("svg")[0]
	assert.Equal(t, []string{"img", "3 runs, 2 failures in the last 19m; running for 4m"}, []string{svg.attr("role"), svg.attr("aria-label")})
	var key []string
	for _, s := range picture.all("figcaption")[0].Children {
		key = append(key, s.attr("class")+": "+s.Text)
	}
	assert.Equal(t, []string{
		"swatch state-backoff: failed", "dash state-backoff: backoff", "swatch state-running: running now",
		"state-backoff: panic", "state-backoff: failure", "state-running: recovered", ": Times in UTC.",
	}, key)
}

// Who has asked for something is said where that has happened.
func TestTimelineSaysWhoHasAsked(t *testing.T) {
	events := []taskmanager.Event{
		{Time: ago(40 * time.Minute), Kind: taskmanager.EventFailed, Run: 1, Err: errBoom, Uptime: 10 * time.Minute},
		{Time: ago(39 * time.Minute), Kind: taskmanager.EventStarted, Run: 2, By: "ann"},
		{Time: ago(30 * time.Minute), Kind: taskmanager.EventStopped, Run: 2, Uptime: 9 * time.Minute, Cause: taskmanager.ErrRestarted, By: "<bob>"},
		{Time: ago(30 * time.Minute), Kind: taskmanager.EventStarted, Run: 3},
		{Time: ago(25 * time.Minute), Kind: taskmanager.EventTriggered, Run: 3, By: "ann"},
		{Time: ago(20 * time.Minute), Kind: taskmanager.EventPaused, Run: 3, Uptime: 10 * time.Minute, Cause: taskmanager.ErrPaused, By: "ann"},
		{Time: ago(10 * time.Minute), Kind: taskmanager.EventResumed, Run: 3, By: "cy"},
		{Time: ago(10 * time.Minute), Kind: taskmanager.EventStarted, Run: 4},
		{Time: ago(5 * time.Minute), Kind: taskmanager.EventStuck, Run: 4, Uptime: 5 * time.Minute, By: "ann"},
	}
	p := newPast(events, taskmanager.TaskStats{State: taskmanager.StateStuck, RunStartedAt: ago(10 * time.Minute)}, timelineNow)
	var facts []string
	for _, m := range p.marks {
		_, fact, _ := strings.Cut(m.fact, " UTC: ")
		facts = append(facts, signs[m.sign].word+": "+fact)
	}
	assert.Equal(t, []string{
		"failure: run 1, failed: error", "by hand: run 2, started, asked by ann", "by hand: run 2, restarted by hand, asked by <bob>",
		"by hand: run 3, triggered a pass, asked by ann",
		"paused: run 3, paused, asked by ann", "resumed: run 3, resumed, asked by cy", "stuck: run 4, stuck, the body does not return, asked by ann",
	}, facts)
	assert.Contains(t, string(drawTimeline(events, taskmanager.TaskStats{}, timelineNow)), "asked by &lt;bob&gt;")
}

// Labels are round times, with the date where it changes.
func TestTimelineTicks(t *testing.T) {
	day := 24 * time.Hour
	for length, want := range map[time.Duration][]string{
		3 * time.Millisecond: {"20:39:59.998 27 Nov", "20:39:59.999"},
		10 * time.Second:     {"20:39:52 27 Nov", "20:39:54", "20:39:56", "20:39:58"},
		19 * time.Minute:     {"20:25 27 Nov", "20:30", "20:35"},
		8 * time.Hour:        {"14:00 27 Nov", "16:00", "18:00"},
		2 * day:              {"00:00 26 Nov", "12:00", "00:00 27 Nov", "12:00"},
		30 * day:             {"1 Nov", "11 Nov", "21 Nov"},
		1000 * day:           {"11 Nov 2024", "30 May 2025", "16 Dec"},
	} {
		t.Run(durationText(length), func(t *testing.T) {
			picture := parsePicture(t, string(drawTimeline(nil, taskmanager.TaskStats{State: taskmanager.StateRunning, RunStartedAt: ago(length)}, timelineNow)))
			var labels []string
			for _, tick := range picture.of("tick") {
				if strings.Contains(tick.attr("class"), "wide") {
					continue
				}
				var texts []string
				for _, text := range tick.all("text") {
					texts = append(texts, text.Text)
				}
				labels = append(labels, strings.Join(texts, " "))
			}
			assert.Equal(t, append(want, "now"), labels)
		})
	}
	assert.Equal(t, ago(5*time.Minute), ceil(ago(9*time.Minute), 5*time.Minute), "no label is of a moment before")
	wide := newAxis([]span{{from: ago(19 * time.Minute), to: timelineNow, runs: 1}}).ticks()
	assert.Len(t, wide, 3, "between multiples of five minutes there are none of two")
}

// A date that is shown on a wide screen with a label which a narrow one does not have is shown there with the next one.
func TestTimelineDates(t *testing.T) {
	picture := parsePicture(t, string(drawTimeline(nil, taskmanager.TaskStats{State: taskmanager.StateRunning, RunStartedAt: ago(55 * time.Hour)}, timelineNow)))
	dates := func(hidden, unless string) []string {
		var shown []string
		for _, tick := range picture.of("tick") {
			if hidden != "" && strings.Contains(tick.attr("class"), hidden) {
				continue
			}
			for _, date := range tick.of("date") {
				if unless == "" || !strings.Contains(date.attr("class"), unless) {
					shown = append(shown, date.Text)
				}
			}
		}
		return shown
	}
	assert.Equal(t, []string{"25 Nov", "26 Nov", "27 Nov"}, dates("", "narrow"), "on a wide screen")
	assert.Equal(t, []string{"26 Nov", "27 Nov"}, dates("wide", ""), "on a narrow one")
}

// A vicious error must not be asked anything.
type viciousError struct{ f func() } // which can't be compared, either

func (viciousError) Error() string          { panic("asked for its text") }
func (viciousError) Unwrap() error          { panic("asked what it wraps") }
func (viciousError) Is(error) bool          { panic("asked what it is") }
func (viciousError) As(any) bool            { panic("asked for something else") }
func (viciousError) String() string         { panic("asked for its text") }
func (viciousError) Format(fmt.State, rune) { panic("asked for its text") }

func TestTimelineAsksNoErrors(t *testing.T) {
	vicious := viciousError{func() {}}
	endless := &taskmanager.GiveUpError{Reason: taskmanager.GaveUpLimit}
	endless.Err = endless
	for err, want := range map[error]string{
		nil:                                     "no error",
		errBoom:                                 "error",
		&taskmanager.PanicError{Value: vicious}: "panic",
		(*taskmanager.PanicError)(nil):          "panic",
		&taskmanager.OverdueError{}:             "overdue",
		(*taskmanager.GiveUpError)(nil):         "error",
		endless:                                 "error (limit)",
		&taskmanager.GiveUpError{Reason: taskmanager.GaveUpNever, Err: vicious}:                   "error (never)",
		&taskmanager.GiveUpError{Reason: taskmanager.GaveUpNever, Err: &taskmanager.PanicError{}}: "panic (never)",
		&taskmanager.StopTimeoutError{}: "left something running",
		taskmanager.ErrGoexit:           "runtime.Goexit",
	} {
		assert.Equal(t, want, errorKind(err))
	}
	for kind := taskmanager.EventStarted; kind <= taskmanager.EventTriggered; kind++ {
		for _, err := range []error{vicious, &vicious, (*viciousError)(nil)} {
			picture := drawTimeline([]taskmanager.Event{{Time: ago(time.Minute), Kind: kind, Run: 1, Uptime: time.Second, Err: err, Cause: err}},
				taskmanager.TaskStats{State: taskmanager.StateRunning, RunStartedAt: ago(time.Second), LastError: err}, timelineNow)
			parsePicture(t, string(picture))
		}
	}
}
