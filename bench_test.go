package taskmanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// Benchmarks against a floor: the least that a careful person writes by hand. The two run in one
// process, one after the other: compare their ratio, not the figures.

// quiet returns a Manager whose log is not looked at.
func quiet(opts ...Option) *Manager {
	m, err := New(append([]Option{WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	if err != nil {
		panic(err)
	}
	return m
}

// handwritten is the floor.
type handwritten struct {
	mu    sync.RWMutex
	tasks map[string]context.CancelFunc
	all   sync.WaitGroup
}

func (h *handwritten) start(name string, body TaskFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.tasks[name]; ok {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.tasks[name] = cancel
	h.all.Go(func() {
		for h.once(ctx, body) != nil && ctx.Err() == nil {
			runtime.Gosched()
		}
		h.mu.Lock()
		delete(h.tasks, name)
		h.mu.Unlock()
	})
}

func (h *handwritten) once(ctx context.Context, body TaskFunc) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return body(ctx)
}

func (h *handwritten) stopAll() {
	h.mu.RLock()
	for _, cancel := range h.tasks {
		cancel()
	}
	h.mu.RUnlock()
	h.all.Wait()
}

func park(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func taskNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("task-%07d", i)
	}
	return names
}

// memory is what the live heap, the stacks and the runtime's own records of them take.
func memory() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc + s.StackInuse + s.MSpanInuse + s.MCacheInuse
}

// BenchmarkParked starts b.N parked tasks and stops them all. Run it with -benchtime=100000x.
func BenchmarkParked(b *testing.B) {
	sides := []struct {
		name string
		make func() (start func(string), stop func())
	}{
		{"floor", func() (func(string), func()) {
			h := &handwritten{tasks: make(map[string]context.CancelFunc)}
			return func(name string) { h.start(name, park) }, h.stopAll
		}},
		{"ours", func() (func(string), func()) {
			m := quiet()
			return func(name string) { _, _ = m.StartTask(name, park) },
				func() { _ = m.StopAll(context.Background()) }
		}},
	}
	for _, side := range sides {
		b.Run(side.name, func(b *testing.B) {
			names := taskNames(b.N)
			start, stop := side.make()
			before := memory()
			begun := time.Now()
			for _, name := range names {
				start(name)
			}
			started := time.Since(begun)
			for range 100 { // let the last ones park
				runtime.Gosched()
			}
			held := memory() - before
			begun = time.Now()
			stop()
			stopped := time.Since(begun)
			n := float64(b.N)
			b.ReportMetric(float64(held)/n, "B/task")
			b.ReportMetric(float64(started)/n, "ns/start")
			b.ReportMetric(float64(stopped)/n, "ns/stop")
			b.ReportMetric(0, "ns/op")
			runtime.KeepAlive(names)
		})
	}
}

var errCrash = errors.New("crash")

// BenchmarkRestart is one task that fails without delay.
func BenchmarkRestart(b *testing.B) {
	crash := func(b *testing.B, crash func() error) TaskFunc {
		left := b.N
		return func(context.Context) error {
			if left--; left < 0 {
				return nil
			}
			return crash()
		}
	}
	ways := map[string]func() error{
		"error": func() error { return errCrash },
		"panic": func() error { panic(errCrash) },
	}
	for _, way := range []string{"error", "panic"} {
		b.Run(way+"/floor", func(b *testing.B) {
			b.ReportAllocs()
			h := &handwritten{tasks: make(map[string]context.CancelFunc)}
			h.start("x", crash(b, ways[way]))
			h.all.Wait()
		})
		b.Run(way+"/ours", func(b *testing.B) {
			b.ReportAllocs()
			m := quiet(WithRestartLimit(rate.Inf, 0), WithBackoff(0, 0), WithMaxRestarts(Unlimited))
			t, _ := m.StartTask("x", crash(b, ways[way]))
			_ = t.Wait(context.Background())
		})
	}
}

// BenchmarkIsRunning asks from all cores at once, with 1,000 tasks.
func BenchmarkIsRunning(b *testing.B) {
	m := quiet()
	names := taskNames(1000)
	for _, name := range names {
		_, _ = m.StartTask(name, park)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if !m.IsRunning(names[i%len(names)]) {
				b.Error("not running")
			}
		}
	})
	_ = m.StopAll(context.Background())
}

// BenchmarkStats reports the time for each task, with as many as fit a cache and with more.
func BenchmarkStats(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := quiet()
			for _, name := range taskNames(n) {
				_, _ = m.StartTask(name, park)
			}
			b.ResetTimer()
			for range b.N {
				if s := m.Stats(); len(s.Tasks) != n {
					b.Error(len(s.Tasks))
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(n), "ns/task")
			b.StopTimer()
			_ = m.StopAll(context.Background())
		})
	}
}

// BenchmarkChurn starts tasks that end at once.
func BenchmarkChurn(b *testing.B) {
	m := quiet()
	names := taskNames(10_000)
	b.ReportAllocs()
	for i := range b.N {
		for {
			if _, err := m.StartTask(names[i%len(names)], func(context.Context) error { return nil }); err == nil {
				break
			}
			runtime.Gosched() // the last one of this name has not ended
		}
	}
}

// BenchmarkCrashStorm lets 100 tasks fail without delay beside 10,000 that tick every 100 ms. It reports which part
// of the ticks is left of those without the storm, and how long starting and stopping another task takes in it.
func BenchmarkCrashStorm(b *testing.B) {
	for range b.N {
		calm, before := storm(b, 0)
		stormy, latencies := storm(b, 100)
		b.ReportMetric(100*float64(stormy)/float64(calm), "%-kept")
		b.ReportMetric(percentile(before, 99), "µs-p99-calm")
		b.ReportMetric(percentile(latencies, 50), "µs-p50")
		b.ReportMetric(percentile(latencies, 99), "µs-p99")
	}
	b.ReportMetric(0, "ns/op")
}

func percentile(d []time.Duration, p int) (microseconds float64) {
	slices.Sort(d)
	return float64(d[len(d)*p/100]) / 1e3
}

// storm returns the ticks of the healthy tasks within a second or two, and how long each start and each stop took.
func storm(b *testing.B, crashing int) (int64, []time.Duration) {
	const healthy, starts = 10_000, 1000
	m := quiet(WithRestartLimit(rate.Inf, 0), WithBackoff(0, 0), WithMaxRestarts(Unlimited))
	var ticks atomic.Int64
	for _, name := range taskNames(healthy) {
		_, _ = m.StartTask(name, func(ctx context.Context) error {
			ticker := time.NewTicker(100 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-ticker.C:
					ticks.Add(1)
				case <-ctx.Done():
					return nil
				}
			}
		})
	}
	var restarts atomic.Int64
	for i := range crashing {
		_, _ = m.StartTask(fmt.Sprint("crash", i), func(context.Context) error {
			restarts.Add(1)
			return errCrash
		})
	}
	ctx := context.Background()
	ticks.Store(0)
	begun := time.Now()
	latencies := make([]time.Duration, 0, 2*starts)
	for i := range starts {
		start := time.Now()
		t, err := m.StartTask("other", park)
		started := time.Now()
		if err != nil {
			b.Fatal(err)
		}
		if err := t.Stop(ctx); err != nil {
			b.Fatal(err)
		}
		latencies = append(latencies, started.Sub(start), time.Since(started))
		time.Sleep(time.Until(begun.Add(time.Duration(i+1) * 2 * time.Millisecond)))
	}
	n := ticks.Load()
	if crashing > 0 {
		b.ReportMetric(float64(restarts.Load())/time.Since(begun).Seconds(), "restarts/s")
	}
	_ = m.StopAll(ctx)
	return n, latencies
}
