package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/bench/report"
)

// How large a soak is.
const (
	soakHealthy   = 10_000 // tasks that tick
	soakCrashing  = 100    // tasks that fail at once
	soakDelay     = time.Millisecond
	soakNames     = 200                    // of the tasks that are started, stopped and restarted by chance
	soakHarassers = 4                      // goroutines that do so
	soakBetween   = 100 * time.Microsecond // two operations of a harasser
	soakPause     = 2 * time.Millisecond   // of the visitor
	soakSamples   = 200                    // of the heap and of the number of goroutines
	soakFewest    = 8                      // of them: one for each eighth, see ends
)

// A soak is a storm of the library alone, with real threads, in which everything happens at once.
type soak struct {
	duration time.Duration
	healthy  int
	manager  *taskmanager.Manager
	names    []string
	inside   []atomic.Int32 // bodies that execute under each of names

	healthyPulse                                        pulse
	crashes, operations, reports, recoveries, snapshots atomic.Int64
	doubles                                             atomic.Int64 // bodies that met another one of their name

	starts, stops histogram // of the visitor, in whose goroutine they are
	heaps         []float64 // as the latest collection has found it, in bytes
	goroutines    []float64
}

// soakAndWrite soaks, and fails if something grew.
func soakAndWrite(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	fmt.Fprintf(stderr, "a storm for %v\n", s.soak)
	k := newSoak(s.soak, soakHealthy)
	if err := k.run(ctx); err != nil {
		return err
	}
	if err := writePart(s.out, soaking, k.markdown(s.command, time.Now()), stdout); err != nil {
		return err
	}
	return k.verdict()
}

func newSoak(duration time.Duration, healthy int) *soak {
	k := &soak{duration: duration, healthy: healthy, inside: make([]atomic.Int32, soakNames)}
	for i := range soakNames {
		k.names = append(k.names, fmt.Sprint("by chance ", i))
	}
	k.manager = newManager(
		taskmanager.WithBackoff(soakDelay, soakDelay),
		taskmanager.WithReporter(taskmanager.ReporterFunc(func(_ context.Context, e taskmanager.Event) error {
			k.reports.Add(1 + int64(e.Repeats))
			if e.Kind == taskmanager.EventRecovered {
				k.recoveries.Add(1 + int64(e.Repeats))
			}
			return nil
		})),
		taskmanager.WithReportLimit(rate.Limit(100), 10),
	)
	return k
}

// run returns when the time is over, there are enough samples for a verdict, and everything has been
// stopped. It returns an error if parent is done before.
func (k *soak) run(parent context.Context) error {
	before := runtime.NumGoroutine()
	if err := k.fill(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(parent)
	defer cancel()

	var (
		all    sync.WaitGroup
		failed = make(chan error, soakHarassers+1)
		note   = func(err error) {
			if err != nil {
				failed <- err
				cancel()
			}
		}
	)
	for range soakHarassers {
		all.Go(func() { note(k.harass(ctx)) })
	}
	all.Go(func() { note(k.visit(ctx)) })
	all.Go(func() {
		k.watch(ctx)
		cancel()
	})
	all.Wait()

	if err := k.manager.Shutdown(context.Background()); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
	}
	if parent.Err() != nil {
		return context.Cause(parent)
	}
	s := k.manager.Stats()
	if counted := s.ReportsDelivered; counted != uint64(k.reports.Load()) {
		return fmt.Errorf("%d events were reported, and %d are counted", k.reports.Load(), counted)
	}
	return settle(before)
}

// fill starts the tasks that are there all the time.
func (k *soak) fill() error {
	for i := range k.healthy {
		if _, err := k.manager.StartTask(fmt.Sprint("healthy ", i), k.healthyPulse.body); err != nil {
			return err
		}
	}
	for i := range soakCrashing {
		if _, err := k.manager.StartTask(fmt.Sprint("crashing ", i), func(context.Context) error {
			if k.crashes.Add(1)%2 == 0 {
				panic(errCrash)
			}
			return errCrash
		}, taskmanager.WithBackoff(0, 0)); err != nil {
			return err
		}
	}
	return nil
}

// body ends in every way that there is, by chance.
func (k *soak) body(i int) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		if k.inside[i].Add(1) != 1 {
			k.doubles.Add(1)
		}
		defer k.inside[i].Add(-1)
		switch rand.IntN(8) {
		case 0:
			return nil
		case 1:
			return errCrash
		case 2:
			panic(errCrash)
		case 3:
			runtime.Goexit()
		}
		taskmanager.SetStatus(ctx, "waits")
		<-ctx.Done()
		return ctx.Err()
	}
}

// harass starts, stops and restarts tasks, and asks about them, by chance.
func (k *soak) harass(ctx context.Context) error {
	m, background := k.manager, context.Background()
	for ctx.Err() == nil {
		var (
			i    = rand.IntN(len(k.names))
			name = k.names[i]
			err  error
		)
		switch rand.IntN(10) {
		case 0, 1, 2, 3:
			_, err = m.StartTask(name, k.body(i))
		case 4, 5, 6:
			err = m.StopTask(background, name)
		case 7:
			err = m.RestartTask(background, name)
		case 8:
			if t, ok := m.Lookup(name); ok {
				_ = t.Stats()
			}
		case 9:
			_ = m.IsRunning(name)
		}
		k.operations.Add(1)
		switch {
		case err == nil, errors.Is(err, taskmanager.ErrTaskRunning), errors.Is(err, taskmanager.ErrTaskNotFound),
			errors.Is(err, taskmanager.ErrTaskNotRunning), errors.Is(err, taskmanager.ErrStopped):
		default:
			return err
		}
		time.Sleep(soakBetween)
	}
	return nil
}

// visit starts and stops a task that the others have nothing to do with, and takes the time.
func (k *soak) visit(ctx context.Context) error {
	v := newVisitor(ours{k.manager})
	for ; ctx.Err() == nil; time.Sleep(soakPause) {
		started, stopped, err := v.visit()
		if err != nil {
			return err
		}
		k.starts.add(started)
		k.stops.add(stopped)
	}
	return nil
}

// watch takes samples of the heap and of the number of goroutines, and of the statistics: until the
// time is over, and on a machine so slow that they are too few by then, for longer.
func (k *soak) watch(ctx context.Context) {
	end := time.Now().Add(k.duration)
	ticker := time.NewTicker(max(k.duration/soakSamples, time.Millisecond))
	defer ticker.Stop()
	for time.Now().Before(end) || len(k.heaps) < soakFewest {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		runtime.GC() // so that there is a figure, of now
		k.heaps = append(k.heaps, live())
		k.goroutines = append(k.goroutines, float64(runtime.NumGoroutine()))
		s := k.manager.Stats()
		if s.Running+s.Waiting+s.Backoff+s.Stopping >= k.healthy+soakCrashing {
			k.snapshots.Add(1)
		}
	}
}

// ends returns what typical says of the second eighth of the samples, and of the last. The first
// eighth is for caches and pools to fill.
func ends(samples []float64, typical func([]float64) float64) (early, late float64) {
	eighth := max(1, len(samples)/8)
	if len(samples) < 2*eighth {
		return typical(samples), typical(samples)
	}
	return typical(samples[eighth : 2*eighth]), typical(samples[len(samples)-eighth:])
}

// least returns the smallest of values; NaN if there are none. Of the heap it is the one to compare:
// a collection counts as live what is allocated while it runs, which is more the slower the machine.
func least(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return slices.Min(values)
}

// verdict returns an error if something went wrong or grew, or if too little was seen to say so.
func (k *soak) verdict() error {
	const (
		heapSlack      = 1 << 20 // bytes
		goroutineSlack = soakNames / 2
		most           = 1.1
	)
	heapEarly, heapLate := ends(k.heaps, least)
	early, late := ends(k.goroutines, report.Median)
	stats := k.manager.Stats()
	switch {
	case min(len(k.heaps), len(k.goroutines)) < soakFewest:
		return fmt.Errorf("%s: at least %d are needed to see whether something grows", counted(len(k.heaps), "sample"), soakFewest)
	case stats.ReportsLost > 0:
		return fmt.Errorf("%s lost, though the reporter takes all of them", counted(int(stats.ReportsLost), "report"))
	case uint64(k.reports.Load()-k.recoveries.Load()) != stats.Failures:
		return fmt.Errorf("of %d failures, %d were reported", stats.Failures, k.reports.Load()-k.recoveries.Load())
	case k.doubles.Load() > 0:
		return fmt.Errorf("%d times two bodies of one name executed at once", k.doubles.Load())
	case int(k.snapshots.Load()) != len(k.heaps):
		return fmt.Errorf("%d of %d snapshots lack some of the tasks that are always there", len(k.heaps)-int(k.snapshots.Load()), len(k.heaps))
	case heapLate > most*heapEarly+heapSlack:
		return fmt.Errorf("the heap has grown from %s to %s", bytesUnit.write(heapEarly), bytesUnit.write(heapLate))
	case late > most*early+goroutineSlack:
		return fmt.Errorf("the goroutines have become more: %.0f, and %.0f before", late, early)
	}
	return nil
}

// markdown is the part of RESULTS.md about a soak.
func (k *soak) markdown(command string, date time.Time) string {
	var (
		b          strings.Builder
		stats      = k.manager.Stats()
		heap, late = ends(k.heaps, least)
		few, many  = ends(k.goroutines, report.Median)
		seconds    = k.duration.Seconds()
	)
	fmt.Fprintf(&b, "Made by `%s` on %s, %s.\n\n", command, date.Format("2 January 2006"), report.Machine())
	fmt.Fprintf(&b, "For %v, in one Manager: %s that tick every %v, %s that fail at once (every other time by a panic) and are restarted without delay, "+
		"and %d goroutines that start, stop and restart %s, with %v between, whose bodies return nil or an error, panic, call runtime.Goexit or wait to be stopped. "+
		"A Reporter hears of every failure. Meanwhile another task is started and stopped every %v: from the call until its body runs, and until its body has returned and the call has.\n\n",
		k.duration, counted(k.healthy, "task"), pulseTick, counted(soakCrashing, "task"), soakHarassers, counted(soakNames, "other task"), soakBetween, soakPause)
	b.WriteString("| | |\n|---|---|\n")
	row := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "| %s | %s |\n", what, fmt.Sprintf(format, args...))
	}
	latencies := func(h *histogram) string {
		return fmt.Sprintf("p50 %s, p99 %s, max %s, of %s", nanoseconds.write(float64(h.percentile(50))),
			nanoseconds.write(float64(h.percentile(99))), nanoseconds.write(float64(h.longest)), report.Thousands(int(h.n)))
	}
	row("unrelated start", "%s", latencies(&k.starts))
	row("unrelated stop", "%s", latencies(&k.stops))
	row("runs", "%s, %s per second", report.Thousands(int(stats.Runs)), perSecond.write(float64(stats.Runs)/seconds))
	row("failures, panics among them", "%s, %s", report.Thousands(int(stats.Failures)), report.Thousands(int(stats.Panics)))
	row("operations by chance", "%s", report.Thousands(int(k.operations.Load())))
	row("events for the reporter", "%s delivered, %s lost", report.Thousands(int(stats.ReportsDelivered)), report.Thousands(int(stats.ReportsLost)))
	ticked := k.healthyPulse.read()
	fit := float64(k.healthy) * float64(k.duration/pulseTick)
	row("ticks of the healthy", "%.1f%% of those that fit into the time, %.1f%% at most %v late; p99 %s, max %s late", 100*float64(ticked.ticks)/fit, 100*float64(ticked.timely)/fit, timely,
		nanoseconds.write(float64(ticked.late.percentile(99))), nanoseconds.write(float64(ticked.late.longest)))
	row("live heap, after the first eighth and at the end", "%s and %s, at most %s", bytesUnit.write(heap), bytesUnit.write(late), bytesUnit.write(percentile(append([]float64(nil), k.heaps...), 100)))
	row("goroutines, likewise", "%.0f and %.0f, at most %.0f", few, many, percentile(append([]float64(nil), k.goroutines...), 100))
	row("two bodies of one name at once", "%s", times(k.doubles.Load()))
	if err := k.verdict(); err != nil {
		fmt.Fprintf(&b, "\n**Failed: %v.**\n", err)
	}
	return b.String()
}

func times(n int64) string {
	if n == 0 {
		return "never"
	}
	return fmt.Sprintf("%s times", report.Thousands(int(n)))
}
