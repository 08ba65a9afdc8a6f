package taskmanager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A fakeLease is a lease of several replicas in one process: of those who wait, the first to look gets it.
type fakeLease struct {
	name string

	mu       sync.Mutex
	holder   string
	token    uint64
	released chan struct{} // closed when the lease becomes free
}

func newFakeLease(name string) *fakeLease {
	return &fakeLease{name: name, released: make(chan struct{})}
}

// holds returns who has the lease; empty if it is free.
func (l *fakeLease) holds() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder
}

func (l *fakeLease) free(h *fakeHold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == h.of.replica && l.token == h.token {
		l.holder = ""
		close(l.released)
		l.released = make(chan struct{})
	}
}

// of returns the lease as a replica has it.
func (l *fakeLease) of(replica string) *replicaLease {
	return &replicaLease{lease: l, replica: replica}
}

// A replicaLease implements taskmanager.Lease.
type replicaLease struct {
	lease   *fakeLease
	replica string
	check   error
	lasts   time.Duration // how long a hold is trusted without a beat; 0 for ever
	acquire func(ctx context.Context) error
	inHold  func(method string)

	acquired atomic.Int64
	mu       sync.Mutex
	hold     *fakeHold // the latest
	task     *taskmanager.Task
}

func (r *replicaLease) Name() string { return r.lease.name }

func (r *replicaLease) Check(time.Duration) error { return r.check }

func (r *replicaLease) Acquire(ctx context.Context, waiting func(string)) (taskmanager.Hold, error) {
	r.acquired.Add(1)
	task, _ := taskmanager.FromContext(ctx)
	r.mu.Lock()
	r.task = task
	r.mu.Unlock()
	if r.acquire != nil {
		if err := r.acquire(ctx); err != nil {
			return nil, err
		}
	}
	l := r.lease
	for {
		l.mu.Lock()
		if l.holder == "" {
			l.holder = r.replica
			l.token++
			h := &fakeHold{of: r, token: l.token, began: time.Now()}
			h.ctx, h.end = context.WithCancel(context.Background())
			h.until = h.began.Add(r.lasts)
			l.mu.Unlock()
			r.mu.Lock()
			r.hold = h
			r.mu.Unlock()
			return h, nil
		}
		waiting(fmt.Sprintf("waits for lease %q, held by %q", l.name, l.holder))
		released := l.released
		l.mu.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (r *replicaLease) latest() *fakeHold {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hold
}

// A fakeHold implements taskmanager.Hold.
type fakeHold struct {
	of       *replicaLease
	token    uint64
	began    time.Time
	ctx      context.Context
	end      context.CancelFunc
	released atomic.Int64

	mu    sync.Mutex
	until time.Time
}

func (h *fakeHold) in(method string) {
	if h.of.inHold != nil {
		h.of.inHold(method)
	}
}

func (h *fakeHold) Token() uint64 {
	h.in("Token")
	return h.token
}

func (h *fakeHold) Until() time.Time {
	h.in("Until")
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of.lasts == 0 {
		return time.Time{}
	}
	return h.until
}

// beat has the hold last from now on.
func (h *fakeHold) beat() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until = time.Now().Add(h.of.lasts)
}

func (h *fakeHold) Context() context.Context {
	h.in("Context")
	return h.ctx
}

func (h *fakeHold) Release() {
	h.released.Add(1)
	h.of.lease.free(h)
	h.in("Release")
}

func withLease(l taskmanager.Lease) taskmanager.TaskOption { return taskmanager.WithLease(l) }

// Of two replicas one runs the task; the other one says who does. It begins when the first one's body has returned, and has a larger token.
func TestLeaseIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLease("digest")
		a, b := newManager(t), newManager(t)
		var returned time.Time
		tokens := make(chan uint64, 2)
		first := start(t, a, "digest", func(ctx context.Context) error {
			token, ok := taskmanager.LeaseToken(ctx)
			assert.True(t, ok)
			tokens <- token
			<-ctx.Done()
			time.Sleep(3 * time.Second)
			returned = time.Now()
			return nil
		}, withLease(l.of("a")))
		synctest.Wait()
		var began time.Time
		second := start(t, b, "digest", func(ctx context.Context) error {
			began = time.Now()
			token, _ := taskmanager.LeaseToken(ctx)
			tokens <- token
			return untilStopped(ctx)
		}, withLease(l.of("b")))
		synctest.Wait()

		s := second.Stats()
		assert.Equal(t, taskmanager.StateWaiting, s.State)
		assert.Equal(t, `waits for lease "digest", held by "a"`, s.Status)
		assert.Equal(t, &taskmanager.LeaseStats{Name: "digest"}, s.Lease)
		assert.Equal(t, &taskmanager.LeaseStats{Name: "digest", Token: 1}, first.Stats().Lease)
		assert.Equal(t, taskmanager.StateRunning, first.State())

		require.NoError(t, first.Stop(context.Background()))
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, second.State())
		assert.Equal(t, returned, began, "not before the first body has returned, and then at once")
		assert.EqualValues(t, 1, <-tokens)
		assert.EqualValues(t, 2, <-tokens)
		text, err := json.Marshal(second.Stats())
		require.NoError(t, err)
		assert.Contains(t, string(text), `"lease":{"name":"digest","token":2}`)
	})
}

// The context of a run ends one stop timeout before others may have the lease, and later by as much as the engine confirms. That is no
// failure; the next run begins with another token.
func TestLeaseThatIsLost(t *testing.T) {
	for name, tt := range map[string]struct {
		lose func(h *fakeHold)
		at   time.Duration
		text string
	}{
		"because nothing confirms it": {func(*fakeHold) {}, 8 * time.Second, "it was not confirmed in time"},
		"later, after a beat": {
			func(h *fakeHold) { time.Sleep(3 * time.Second); h.beat() }, 11 * time.Second, "it was not confirmed in time",
		},
		"because the engine says so": {func(h *fakeHold) { time.Sleep(time.Second); h.end() }, time.Second, "the engine has ended it"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := &logBook{}
				m := newManager(t, book.option())
				events := m.Subscribe(t.Context())
				l := newFakeLease("digest")
				r := l.of("a")
				r.lasts = 13 * time.Second
				causes := &causeLog{}
				task := start(t, m, "digest", causes.run, withLease(r), taskmanager.WithStopTimeout(5*time.Second))
				began := time.Now()
				synctest.Wait()
				h := r.latest()
				go tt.lose(h)
				time.Sleep(tt.at - time.Since(began) - 1)
				synctest.Wait()
				assert.Empty(t, causes.all())
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				require.Len(t, causes.all(), 1)
				require.ErrorIs(t, causes.all()[0], taskmanager.ErrLeaseLost)
				assert.EqualError(t, causes.all()[0], `taskmanager: task "digest" has lost lease "digest": `+tt.text)

				s := task.Stats()
				assert.Equal(t, taskmanager.StateRunning, s.State, "again")
				assert.EqualValues(t, 2, s.Lease.Token)
				assert.Zero(t, s.Failures)
				assert.Zero(t, s.RestartsInWindow)
				assert.EqualValues(t, 1, h.released.Load())
				stops := ofKind(taskmanager.EventStopped, received(events))
				require.Len(t, stops, 1)
				require.ErrorIs(t, stops[0].Cause, taskmanager.ErrLeaseLost)
				assert.Empty(t, ofKind(taskmanager.EventFailed, received(events)))
			})
		})
	}
}

// How a run hears that its lease is lost, which began 10 s before its time is over but for the stop timeout. The body of that kind returns
// from wait when its context has ended.
var leaseLosses = map[string]struct {
	at   time.Duration
	text string
	lose func(h *fakeHold)
	wait func(ctx context.Context)
}{
	"its time is over": {10 * time.Second, "it was not confirmed in time", func(*fakeHold) {}, func(ctx context.Context) { <-ctx.Done() }},
	"the engine says so": {
		9 * time.Second, "the engine has ended it",
		func(h *fakeHold) { time.AfterFunc(9*time.Second, h.end) }, func(ctx context.Context) { <-ctx.Done() },
	},
	"Err compares the clock": {
		10 * time.Second, "it was not confirmed in time", func(*fakeHold) {},
		func(ctx context.Context) {
			taskmanager.StopLeaseTimer(ctx)
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
		},
	},
}

// A run that drains does so until its lease is lost, and no longer, whatever has asked it to return, and that goes on as ever.
func TestLeaseThatIsLostWhileItsRunDrains(t *testing.T) {
	errParent := errors.New("the parent has ended")
	type world struct {
		*taskmanager.Manager // of the task "a"
		outer                *taskmanager.Manager
		end                  context.CancelCauseFunc // of its parent
		lease                taskmanager.Lease
	}
	type request struct {
		ask  func(w world) error
		told error // the cause of the event
		then taskmanager.State
	}
	requests := map[string]request{
		"end of the parent": {
			func(w world) error {
				w.end(errParent)
				task, _ := w.Lookup("a")
				<-task.Done()
				return nil
			},
			errParent, taskmanager.StateStopped,
		},
		"end of its group": {
			func(w world) error { return w.outer.StopTask(context.Background(), "group") }, taskmanager.ErrStopped, taskmanager.StateStopped,
		},
	}
	for name, r := range drainRequests {
		ask := func(w world) error { return r.ask(w.Manager) }
		if name == "ReplaceTask" {
			ask = func(w world) error {
				_, err := w.ReplaceTask(context.Background(), "a", untilStopped, withLease(w.lease))
				return err
			}
		}
		requests[name] = request{ask, r.cause, r.then}
	}
	for name, req := range requests {
		for why, loss := range leaseLosses {
			t.Run(name+", "+why, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					parent, end := context.WithCancelCause(t.Context())
					defer end(nil)
					lease := newFakeLease("digest").of("a")
					w := world{outer: newManager(t, taskmanager.WithContext(parent)), end: end, lease: lease}
					events := w.outer.Subscribe(t.Context())
					lease.lasts = 20 * time.Second
					var draining, ended time.Duration
					var cause error
					began := time.Now()
					body := func(ctx context.Context) error {
						if ended > 0 {
							return untilStopped(ctx)
						}
						<-taskmanager.Draining(ctx)
						draining = time.Since(began)
						loss.wait(ctx)
						ended, cause = time.Since(began), context.Cause(ctx)
						time.Sleep(3 * time.Second)
						return cause
					}
					begin := func(m *taskmanager.Manager) {
						w.Manager = m
						start(t, m, "a", body, withLease(lease), taskmanager.WithDrain(9*time.Second), taskmanager.WithStopTimeout(10*time.Second))
					}
					if name == "end of its group" {
						start(t, w.outer, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
							begin(m)
							return nil
						}), taskmanager.WithStopTimeout(time.Minute))
					} else {
						begin(w.outer)
					}
					synctest.Wait()
					h := lease.latest()
					task, ok := w.Lookup("a")
					require.True(t, ok)
					loss.lose(h)
					time.Sleep(8 * time.Second)
					require.NoError(t, req.ask(w))
					took(t, loss.at+3*time.Second, began)
					synctest.Wait()

					assert.Equal(t, 8*time.Second, draining)
					assert.Equal(t, loss.at, ended)
					require.ErrorIs(t, cause, taskmanager.ErrLeaseLost)
					assert.EqualError(t, cause, `taskmanager: task "a" has lost lease "digest": `+loss.text)
					assert.EqualValues(t, 1, h.released.Load())
					assert.Equal(t, req.then, task.State())
					s := task.Stats()
					assert.Zero(t, s.Failures)
					if req.then == taskmanager.StateRunning {
						assert.EqualValues(t, 2, s.Lease.Token)
					}
					for _, e := range received(events) {
						if e.Task == "group" {
							continue
						}
						switch e.Kind {
						case taskmanager.EventStarted:
						case taskmanager.EventStopped, taskmanager.EventPaused:
							require.ErrorIs(t, e.Cause, req.told)
							require.NotErrorIs(t, e.Err, taskmanager.ErrLeaseLost)
						default:
							assert.Fail(t, "an event", "%v", e)
						}
					}
				})
			})
		}
	}
}

// The deadline of a stop is that of a stop, also if the lease is lost meanwhile: that of StopContext, and that after which the task is
// stuck. It is over before the lease is.
func TestDeadlineOfAStopWhoseLeaseIsLost(t *testing.T) {
	for why, loss := range leaseLosses {
		t.Run(why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				lease := newFakeLease("digest").of("a")
				lease.lasts = 20 * time.Second
				began := time.Now()
				var ended, stopEnded time.Duration
				task := start(t, m, "a", func(ctx context.Context) error {
					<-taskmanager.Draining(ctx)
					loss.wait(ctx)
					ended = time.Since(began)
					stop, release := taskmanager.StopContext(ctx)
					defer release()
					<-stop.Done()
					stopEnded = time.Since(began)
					assert.ErrorIs(t, context.Cause(stop), context.DeadlineExceeded)
					time.Sleep(time.Second)
					return nil
				}, withLease(lease), taskmanager.WithDrain(9*time.Second), taskmanager.WithStopTimeout(10*time.Second))
				synctest.Wait()
				loss.lose(lease.latest())
				time.Sleep(8 * time.Second)
				asStuck(t, task.Stop(context.Background()), "a", 10*time.Second)
				took(t, 18*time.Second, began)
				assert.Equal(t, taskmanager.StateStuck, task.State())
				assert.Equal(t, loss.at, ended)
				assert.Zero(t, lease.latest().released.Load())
				<-task.Done()
				assert.Equal(t, 18*time.Second, stopEnded)
				assert.Equal(t, taskmanager.StateStopped, task.State())
			})
		})
	}
}

// Err of a run compares the clock: it does not depend on a timer, which is late after a freeze.
func TestErrAfterTheLeaseIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		r := newFakeLease("digest").of("a")
		r.lasts = 13 * time.Second
		task := start(t, m, "digest", func(ctx context.Context) error {
			if token, _ := taskmanager.LeaseToken(ctx); token == 2 {
				return nil
			}
			taskmanager.StopLeaseTimer(ctx) // as after a freeze, when it has yet to fire
			time.Sleep(8*time.Second - 1)
			require.NoError(t, ctx.Err())
			time.Sleep(time.Nanosecond)
			require.ErrorIs(t, ctx.Err(), context.Canceled)
			require.ErrorIs(t, context.Cause(ctx), taskmanager.ErrLeaseLost)
			select {
			case <-ctx.Done():
			default:
				assert.Fail(t, "Err says that it is over, and Done does not")
			}
			return nil
		}, withLease(r))
		<-task.Done()
		assert.EqualValues(t, 2, task.Stats().Runs)
	})
}

// A run that would follow at once does not begin with a lease whose time is over, be it that no timer has said so.
func TestLeaseIsOverBetweenTwoRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		r := newFakeLease("digest").of("a")
		r.lasts = 13 * time.Second
		var tokens []uint64
		task := start(t, m, "digest", func(ctx context.Context) error {
			token, _ := taskmanager.LeaseToken(ctx)
			if tokens = append(tokens, token); token == 2 {
				return nil
			}
			taskmanager.StopLeaseTimer(ctx)
			time.Sleep(9 * time.Second)
			return errBoom
		}, withLease(r), taskmanager.WithBackoff(0, 0))
		<-task.Done()
		assert.Equal(t, []uint64{1, 2}, tokens)
	})
}

// A lease that is lost when its run is about to begin ends that.
func TestLeaseThatIsLostAsARunBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFakeLease("digest").of("a")
		lose := &trap{act: func() {
			r.latest().end()
			time.Sleep(time.Millisecond)
		}}
		m := newManager(t, taskmanager.WithLogger(slog.New(trappedHandler{"Enabled", lose})))
		r.acquire = func(context.Context) error {
			lose.set.Store(r.acquired.Load() == 1)
			return nil
		}
		causes := &causeLog{}
		task := start(t, m, "digest", causes.run, withLease(r))
		time.Sleep(time.Second)
		synctest.Wait()
		require.True(t, lose.sprung.Load())
		assert.EqualValues(t, 2, task.Stats().Lease.Token)
		require.Len(t, causes.all(), 1)
		require.ErrorIs(t, causes.all()[0], taskmanager.ErrLeaseLost)
	})
}

// A task that is revived while the log hangs with its end has a new lease.
func TestLeaseOfATaskThatIsRevived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLease("digest")
		goOn := make(chan struct{})
		hang := &trap{act: func() { <-goOn }}
		hang.set.Store(true)
		m := newManager(t, taskmanager.WithLogger(slog.New(trappedHandler{"task completed", hang})))
		task := start(t, m, "digest", func(ctx context.Context) error {
			if !hang.sprung.Load() {
				return nil
			}
			return untilStopped(ctx)
		}, withLease(l.of("a")))
		synctest.Wait()
		require.Equal(t, taskmanager.StateCompleted, task.State())
		require.True(t, hang.sprung.Load())
		go func() { _ = task.Restart(context.Background()) }()
		synctest.Wait()
		close(goOn)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateRunning, task.State())
		assert.EqualValues(t, 2, task.Stats().Lease.Token, "it was released before the log hung")
		require.NoError(t, task.Stop(t.Context()))
		synctest.Wait()
		assert.Empty(t, l.holds())
	})
}

// A body that ignores the loss makes its task stuck, and the lease is not released before it has returned.
func TestBodyThatIgnoresTheLossOfItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		r := newFakeLease("digest").of("a")
		r.lasts = 13 * time.Second
		release := make(chan struct{})
		task := start(t, m, "digest", func(ctx context.Context) error {
			if token, _ := taskmanager.LeaseToken(ctx); token == 2 {
				return untilStopped(ctx)
			}
			<-release
			return nil
		}, withLease(r), taskmanager.WithStopTimeout(5*time.Second))
		synctest.Wait()
		h := r.latest()
		time.Sleep(13*time.Second + 1)
		synctest.Wait()
		assert.Equal(t, taskmanager.StateStuck, task.State())
		assert.Zero(t, h.released.Load())
		close(release)
		synctest.Wait()
		assert.EqualValues(t, 1, h.released.Load())
		assert.Equal(t, taskmanager.StateRunning, task.State())
	})
}

// A crash loop stays on one replica until that gives the task up; the next one begins with limits of its own.
func TestLeaseIsKeptThroughBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLease("digest")
		var ran []string
		var tasks []*taskmanager.Task
		for _, replica := range []string{"a", "b"} {
			m := newManager(t)
			tasks = append(tasks, start(t, m, "digest", func(context.Context) error {
				ran = append(ran, replica)
				return errBoom
			}, withLease(l.of(replica)), taskmanager.WithMaxRestarts(2)))
			synctest.Wait()
		}
		for _, task := range tasks {
			<-task.Done()
		}
		assert.Equal(t, []string{"a", "a", "a", "b", "b", "b"}, ran)
		assert.EqualValues(t, 2, l.token)
		synctest.Wait()
		assert.Empty(t, l.holds())
	})
}

// A lease that is lost while its task waits for the next run is released at once.
func TestLeaseThatIsLostInBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		l := newFakeLease("digest")
		r := l.of("a")
		task := start(t, m, "digest", boom, withLease(r), taskmanager.WithBackoff(time.Hour, time.Hour), taskmanager.WithBackoffJitter(0))
		synctest.Wait()
		require.Equal(t, taskmanager.StateBackoff, task.State())
		assert.Equal(t, "a", l.holds())
		r.latest().end()
		synctest.Wait()
		assert.Empty(t, l.holds())
		assert.Equal(t, taskmanager.StateBackoff, task.State())
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.EqualValues(t, 2, task.Stats().Runs)
		assert.EqualValues(t, 2, task.Stats().Lease.Token)
	})
}

// What ends a task, or halts it, releases the lease.
func TestLeaseIsReleased(t *testing.T) {
	for name, tt := range map[string]struct {
		body taskmanager.TaskFunc
		opts []taskmanager.TaskOption
		end  func(t *testing.T, task *taskmanager.Task)
	}{
		"when it completes":  {body: func(context.Context) error { return nil }},
		"when it is stopped": {body: untilStopped, end: func(t *testing.T, task *taskmanager.Task) { require.NoError(t, task.Stop(t.Context())) }},
		"when it is stopped in backoff": {
			body: boom, opts: []taskmanager.TaskOption{taskmanager.WithBackoff(time.Hour, time.Hour)},
			end: func(t *testing.T, task *taskmanager.Task) { require.NoError(t, task.Stop(t.Context())) },
		},
		"when it is paused": {body: untilStopped, end: func(t *testing.T, task *taskmanager.Task) { require.NoError(t, task.Pause(t.Context())) }},
		"when it cools down": {
			body: boom, opts: []taskmanager.TaskOption{taskmanager.WithMaxRestarts(0), taskmanager.WithCooldown(time.Hour)},
		},
		"when it is given up": {body: boom, opts: []taskmanager.TaskOption{once()}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book := &logBook{}
				m := newManager(t, book.option())
				l := newFakeLease("digest")
				r := l.of("a")
				task := start(t, m, "digest", tt.body, append(tt.opts, withLease(r))...)
				synctest.Wait()
				if tt.end != nil {
					assert.Equal(t, "a", l.holds())
					tt.end(t, task)
				}
				synctest.Wait()
				assert.Empty(t, l.holds())
				assert.EqualValues(t, 1, r.latest().released.Load())
				lines := book.lines(t, "task has completed, and runs again on the next replica that gets its lease")
				assert.Len(t, lines, map[bool]int{true: 1}[name == "when it completes"])
			})
		})
	}
}

// A log whose handler hangs holds up nobody who waits for the lease.
func TestLeaseIsReleasedBeforeTheLog(t *testing.T) {
	stop := func(t *testing.T, task *taskmanager.Task) { require.NoError(t, task.Stop(t.Context())) }
	for name, tt := range map[string]struct {
		hangsWith string // the line
		body      taskmanager.TaskFunc
		opts      []taskmanager.TaskOption
		end       func(t *testing.T, task *taskmanager.Task)
	}{
		"completes":          {hangsWith: "task completed", body: func(context.Context) error { return nil }},
		"is given up":        {hangsWith: "task failed for good, gave up", body: boom, opts: []taskmanager.TaskOption{once()}},
		"is stopped":         {hangsWith: "task stopped", body: untilStopped, end: stop},
		"is stopped at once": {hangsWith: "task started", body: untilStopped, end: stop},
		"is paused": {
			hangsWith: "task paused", body: untilStopped,
			end: func(t *testing.T, task *taskmanager.Task) { require.NoError(t, task.Pause(t.Context())) },
		},
		"is stopped in backoff": {
			hangsWith: "task failed, will restart", body: boom, opts: []taskmanager.TaskOption{taskmanager.WithBackoff(time.Hour, time.Hour)}, end: stop,
		},
		"cools down": {
			hangsWith: "task gave up, pauses", body: boom,
			opts: []taskmanager.TaskOption{taskmanager.WithMaxRestarts(0), taskmanager.WithCooldown(time.Hour)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release, hung := make(chan struct{}), false
				m := newManager(t, taskmanager.WithLogger(slog.New(handlerFunc(func(r slog.Record) {
					if strings.HasPrefix(r.Message, tt.hangsWith) {
						hung = true
						<-release
					}
				}))))
				l := newFakeLease("digest")
				task := start(t, m, "digest", tt.body, append(tt.opts, withLease(l.of("a")))...)
				synctest.Wait()
				if tt.end != nil {
					assert.Equal(t, "a", l.holds())
					tt.end(t, task)
				}
				synctest.Wait()
				assert.True(t, hung)
				assert.Empty(t, l.holds())
				close(release)
			})
		})
	}
}

// A task that waits for another one does not keep others from running it.
func TestLeaseIsNotKeptWhileTheTaskWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLease("digest")
		m, other := newManager(t), newManager(t)
		db := start(t, m, "db", untilStopped)
		synctest.Wait()
		task := start(t, m, "digest", untilStopped, withLease(l.of("a")), bindTo("db"))
		synctest.Wait()
		standby := start(t, other, "digest", untilStopped, withLease(l.of("b")))
		synctest.Wait()
		require.Equal(t, taskmanager.StateRunning, task.State())
		require.NoError(t, db.Stop(t.Context()))
		synctest.Wait()
		assert.Equal(t, taskmanager.StateWaiting, task.State())
		assert.Equal(t, `waiting for "db" (stopped)`, task.Stats().Status)
		assert.Equal(t, taskmanager.StateRunning, standby.State())
	})
}

// A restart by hand keeps the lease; one of a task that waits for it is done at once, and the task goes on waiting.
func TestRestartWithALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLease("digest")
		m, other := newManager(t), newManager(t)
		r := l.of("a")
		task := start(t, m, "digest", untilStopped, withLease(r))
		synctest.Wait()
		standby := start(t, other, "digest", untilStopped, withLease(l.of("b")))
		synctest.Wait()
		require.NoError(t, task.Restart(t.Context()))
		require.NoError(t, standby.Restart(t.Context()))
		synctest.Wait()
		assert.EqualValues(t, 1, task.Stats().Lease.Token)
		assert.EqualValues(t, 2, task.Stats().Runs)
		assert.EqualValues(t, 1, r.acquired.Load())
		assert.Equal(t, taskmanager.StateWaiting, standby.State())
		require.NoError(t, standby.Stop(t.Context()))
		assert.Equal(t, taskmanager.StateStopped, standby.State())
		assert.Equal(t, "a", l.holds())
	})
}

// A standby is healthy and ready, also if it is critical, and so is a task that waits for it: else a rolling update would never end.
func TestStandbyIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLease("digest")
		m, other := newManager(t), newManager(t)
		start(t, m, "digest", untilStopped, withLease(l.of("a")))
		synctest.Wait()
		start(t, other, "digest", untilStopped, withLease(l.of("b")), taskmanager.WithCritical())
		start(t, other, "mailer", untilStopped, taskmanager.WithCritical(), dependsOn("digest"))
		group := start(t, other, "group", taskmanager.Group(func(m *taskmanager.Manager) error {
			_, err := m.StartTask("digest", untilStopped, withLease(l.of("c")), taskmanager.WithCritical())
			return err
		}), taskmanager.WithReadiness(time.Minute), taskmanager.WithCritical())
		synctest.Wait()
		h := other.Health()
		assert.Equal(t, taskmanager.HealthOK, h.State)
		assert.True(t, h.Ready)
		assert.Empty(t, h.Problems)
		waits := `waits for lease "digest", held by "a"`
		assert.Equal(t, []taskmanager.HealthLease{
			{Task: "digest", Lease: "digest", Status: waits}, {Task: "group/digest", Lease: "digest", Status: waits},
		}, h.Leases)
		assert.True(t, other.HealthOf("digest", "mailer", "group").Ready)
		assert.True(t, group.Stats().Ready)
		assert.Equal(t, []taskmanager.HealthLease{{Task: "digest", Lease: "digest", Token: 1}}, m.Health().Leases)
	})
}

// The methods of leases are user code: they may hang, panic, call runtime.Goexit or call back.
func TestLeaseIsUserCode(t *testing.T) {
	ends := map[string]func(){
		"panics": func() { panic("lease") },
		"exits":  runtime.Goexit,
	}
	for end, act := range ends {
		t.Run("Acquire "+end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				r := newFakeLease("digest").of("a")
				r.acquire = func(context.Context) error { act(); return nil }
				task := start(t, m, "digest", untilStopped, withLease(r))
				<-task.Done()
				var gaveUp *taskmanager.GiveUpError
				require.ErrorAs(t, task.Err(), &gaveUp)
				assert.Equal(t, taskmanager.GaveUpLease, gaveUp.Reason)
				assert.EqualValues(t, 1, r.acquired.Load())
				assert.EqualValues(t, 1, task.Stats().Failures)
				assert.Zero(t, task.Stats().Runs)
			})
		})
		for _, method := range []string{"Token", "Until", "Context", "Release"} {
			t.Run(method+" "+end, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newManager(t)
					l := newFakeLease("digest")
					r := l.of("a")
					r.lasts = 13 * time.Second
					r.inHold = func(in string) {
						if in == method {
							act()
						}
					}
					task := start(t, m, "digest", untilStopped, withLease(r))
					synctest.Wait()
					_ = task.Stop(t.Context())
					synctest.Wait()
					assert.True(t, task.State().Ended())
					assert.Empty(t, l.holds())
				})
			})
		}
	}
	for _, method := range []string{"Token", "Until", "Context", "Release"} {
		t.Run(method+" hangs", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				l := newFakeLease("digest")
				r := l.of("a")
				r.lasts = 13 * time.Second
				leave := make(chan struct{})
				r.inHold = func(in string) {
					if in == method {
						<-leave
					}
				}
				task := start(t, m, "digest", untilStopped, withLease(r))
				synctest.Wait()
				began := time.Now()
				require.NoError(t, task.Stop(t.Context()))
				took(t, 0, began)
				close(leave)
				synctest.Wait()
				assert.Empty(t, l.holds())
			})
		})
	}
	t.Run("Until hangs at the end of the lease", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			r := newFakeLease("digest").of("a")
			r.lasts = 13 * time.Second
			leave := make(chan struct{})
			defer close(leave)
			var calls atomic.Int64
			r.inHold = func(in string) {
				if in == "Until" && calls.Add(1) == 2 {
					<-leave
				}
			}
			causes := &causeLog{}
			start(t, m, "digest", causes.run, withLease(r))
			time.Sleep(9 * time.Second) // a second later than the end
			synctest.Wait()
			require.Len(t, causes.all(), 1)
			require.ErrorIs(t, causes.all()[0], taskmanager.ErrLeaseLost)
		})
	})
	t.Run("Acquire hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			l := newFakeLease("digest")
			r := l.of("a")
			leave := make(chan struct{})
			r.acquire = func(context.Context) error { <-leave; return nil }
			task := start(t, m, "digest", untilStopped, withLease(r))
			synctest.Wait()
			began := time.Now()
			require.NoError(t, task.Stop(t.Context()))
			took(t, 0, began)
			synctest.Wait()
			close(leave)
			synctest.Wait()
			assert.Empty(t, l.holds(), "it comes too late, and is released")
		})
	})
	t.Run("Acquire calls back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t)
			r := newFakeLease("digest").of("a")
			r.acquire = func(ctx context.Context) error {
				task, ok := taskmanager.FromContext(ctx)
				assert.True(t, ok)
				go func() { _ = task.Stop(context.Background()) }()
				_ = m.Health()
				<-ctx.Done()
				return context.Cause(ctx)
			}
			task := start(t, m, "digest", untilStopped, withLease(r))
			<-task.Done()
			assert.Equal(t, taskmanager.StateStopped, task.State())
			assert.Zero(t, task.Stats().Failures)
		})
	})
}

// What can't be is refused at the start.
func TestLeaseIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		l := newFakeLease("digest")
		start(t, m, "digest", untilStopped, withLease(l.of("a")))
		bad := l.of("b")
		bad.check = errors.New("ends too soon")
		for name, tt := range map[string]struct {
			lease taskmanager.Lease
			text  string
		}{
			"none":           {nil, "must not be nil"},
			"a nil":          {(*replicaLease)(nil), "must not be nil"},
			"without a name": {newFakeLease("").of("a"), "must have 1 to 255 bytes"},
			"of another":     {l.of("b"), "is the name of a lease in this Manager that is not equal: of another engine, say"},
			"too short":      {bad, "ends too soon"},
		} {
			_, err := m.StartTask("other", untilStopped, withLease(tt.lease))
			var refused *taskmanager.OptionError
			require.ErrorAs(t, err, &refused, name)
			assert.Equal(t, "WithLease", refused.Option, name)
			assert.Contains(t, err.Error(), tt.text, name)
		}
		_, err := taskmanager.New(withLease(l.of("a")))
		require.ErrorContains(t, err, "is for StartTask alone")
	})
}

// A replacement that may take longer to return has its context end sooner.
func TestLeaseOfAReplacementWithAnotherStopTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		r := newFakeLease("digest").of("a")
		r.lasts = 20 * time.Second
		start(t, m, "digest", untilStopped, withLease(r), taskmanager.WithStopTimeout(time.Second))
		time.Sleep(time.Second)
		begun := time.Now()
		var ended atomic.Int64
		_, err := m.ReplaceTask(t.Context(), "digest", func(ctx context.Context) error {
			<-ctx.Done()
			ended.CompareAndSwap(0, int64(time.Since(begun))) // it runs again
			return nil
		}, withLease(r), taskmanager.WithStopTimeout(10*time.Second))
		require.NoError(t, err)
		time.Sleep(20 * time.Second)
		assert.Equal(t, 9*time.Second, time.Duration(ended.Load()))
	})
}
