package taskmanager

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// No task is stuck: no dump.
func TestDumpOfNobody(t *testing.T) {
	assert.Nil(t, (&Manager{}).stacks(nil))
}

// How long a dump of a stuck task takes is not taken from the time of what it depends on, whether the dump begins at the deadline or
// before: a chain of three has 6 s.
func TestDumpTakesNoTimeFromADependency(t *testing.T) {
	for _, early := range []bool{false, true} {
		for _, lasts := range []time.Duration{0, 500 * time.Millisecond, 3 * time.Second, time.Minute} {
			t.Run(fmt.Sprintf("early %v, lasts %v", early, lasts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := quiet(WithStopTimeout(time.Hour))
					events := m.Subscribe(t.Context())
					began := time.Now()
					asked := make(map[string]time.Duration)
					release := make(chan struct{})
					letGo := sync.OnceFunc(func() { close(release) })
					defer letGo()
					for _, test := range []struct {
						name, dependsOn string
						needs           time.Duration
					}{{"queue", "none", 1999 * time.Millisecond}, {"db", "queue", 1999 * time.Millisecond}} {
						_, err := m.StartTask(test.name, func(ctx context.Context) error {
							<-ctx.Done()
							asked[test.name] = time.Since(began)
							time.Sleep(test.needs)
							return nil
						}, WithDependsOn(test.dependsOn))
						require.NoError(t, err)
					}
					none, err := m.StartTask("none", func(context.Context) error { return nil })
					require.NoError(t, err)
					require.NoError(t, none.Wait(t.Context()))
					_, err = m.StartTask("web", func(context.Context) error { <-release; return nil }, WithDependsOn("db"))
					require.NoError(t, err)
					synctest.Wait()

					// Who asks for stacks joins this dump, which is another goroutine's.
					d := &dump{done: make(chan struct{})}
					m.dumps.next = d
					dumpBegins := 2 * time.Second
					if early {
						m.dumps.perGoroutine.Store(math.MaxInt32) // a dump takes longer than all of the time
						dumpBegins = time.Second
					}
					go func() {
						time.Sleep(dumpBegins + lasts)
						synctest.Wait()
						m.dumps.mu.Lock()
						defer m.dumps.mu.Unlock()
						m.dumps.next = nil
						close(d.done)
					}()
					ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
					defer cancel()
					err = m.StopAll(ctx)
					var stuck *StopTimeoutError
					require.ErrorAs(t, err, &stuck)
					assert.Same(t, stuck, err, "nobody else is stuck")
					assert.Equal(t, "web", stuck.Task)
					assert.Equal(t, 2*time.Second, stuck.Timeout)
					require.NotEmpty(t, d.runs)
					assert.Equal(t, "web", d.runs[0].task.name, "the dump was asked for")
					assert.Equal(t, map[string]time.Duration{"db": 2 * time.Second, "queue": 3999 * time.Millisecond}, asked)
					assert.Equal(t, max(5998*time.Millisecond, dumpBegins+lasts), time.Since(began))
					for _, name := range []string{"db", "queue"} {
						task, _ := m.Lookup(name)
						assert.Equal(t, StateStopped, task.State())
					}
					letGo()
					synctest.Wait()
					for range len(events) {
						if e := <-events; e.Kind == EventStuck {
							assert.Equal(t, "web", e.Task)
						}
					}
				})
			})
		}
	}
}

//go:noinline
func innocent(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// A dump that is made when the body has returned, and another one of that name executes, shows nothing of that.
func TestDumpOfARunThatIsOver(t *testing.T) {
	m := quiet()
	release := make(chan struct{})
	task, err := m.StartTask("a", func(context.Context) error {
		<-release
		return nil
	}, WithStopTimeout(20*time.Millisecond))
	require.NoError(t, err)
	is := func(task *Task, s State) {
		t.Helper()
		require.Eventually(t, func() bool { return task.State() == s }, time.Minute, time.Millisecond)
	}
	is(task, StateRunning)
	m.dumps.running.Lock() // another dump is being made
	stopped := make(chan error, 1)
	go func() { stopped <- task.Stop(context.Background()) }()
	is(task, StateStuck)
	require.Eventually(t, func() bool {
		m.dumps.mu.Lock()
		defer m.dumps.mu.Unlock()
		return m.dumps.next != nil
	}, time.Minute, time.Millisecond, "it waits for that")
	close(release)
	<-task.Done()
	other, err := m.StartTask("a", innocent)
	require.NoError(t, err)
	is(other, StateRunning)
	m.dumps.running.Unlock()
	var stuck *StopTimeoutError
	require.ErrorAs(t, <-stopped, &stuck)
	assert.Empty(t, stuck.Stack)

	// Nor is a critical task gone because of a run that is over.
	m.config.task.critical = true
	(&stopOp{manager: m}).recordStuck(&run{task: other}, stuck)
	assert.Empty(t, m.criticalExits)
	require.NoError(t, m.Shutdown(t.Context()))
}

// A dump is begun as long before a deadline as it takes, for each goroutine, and a quarter more; by what the latest one has taken, or else
// by what is usual. One that takes no time worth mentioning is made at the deadline.
func TestDumpLead(t *testing.T) {
	const n = 1000
	release := make(chan struct{})
	defer close(release)
	for range n {
		go func() { <-release }()
	}
	var ds dumps
	for _, test := range []struct {
		each time.Duration // of the latest
		want time.Duration // for each
	}{
		{0, 10 * time.Microsecond},
		{time.Nanosecond, 0},
		{time.Microsecond, 0},                            // 1.3 ms
		{8500 * time.Nanosecond, 8500 * time.Nanosecond}, // 10.6 ms
		{time.Millisecond, time.Millisecond},
	} {
		ds.perGoroutine.Store(int64(test.each))
		require.Eventually(t, func() bool { // goroutines of the runtime come and go
			before := runtime.NumGoroutine()
			lead := ds.lead()
			return before == runtime.NumGoroutine() && int(lead) == int(test.want)*before*5/4
		}, 10*time.Second, time.Millisecond, "%v", test.each)
	}

	m := quiet()
	task := undriven(t, m, running)
	began := time.Now()
	m.stacks([]*run{task.run})
	assert.Positive(t, m.dumps.perGoroutine.Load())
	assert.LessOrEqual(t, time.Duration(m.dumps.perGoroutine.Load()), time.Since(began)/n)
}
