package taskmanager_test

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	lookalike "github.com/go-taskmanager/taskmanager/internal/lookalike"
)

// A armedContext is a foreign one, which ends when its channel is closed. Whenever one of its methods is called, but that which says
// whether there is a deadline, it calls asked.
type armedContext struct {
	done  chan struct{}
	asked func(method string)
}

func (armedContext) Deadline() (deadline time.Time, ok bool) { return }

func (c armedContext) Done() <-chan struct{} {
	c.asked("Done")
	return c.done
}

func (c armedContext) Err() error {
	c.asked("Err")
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

func (c armedContext) Value(any) any {
	c.asked("Value")
	return nil
}

// What the methods of a foreign context may do.
var traps = map[string]func(release <-chan struct{}){
	"hangs":  func(release <-chan struct{}) { <-release },
	"exits":  func(<-chan struct{}) { runtime.Goexit() },
	"panics": func(<-chan struct{}) { panic("a context") },
}

// The context of a subscription ends it without a word, and is not asked when the subscription ends otherwise: here, with the run of a
// group, whose end it neither holds up nor falsifies.
func TestForeignContextOfASubscription(t *testing.T) {
	for name, trap := range traps {
		t.Run(name+", at its end", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t)
				release, done := make(chan struct{}), make(chan struct{})
				events := m.Subscribe(armedContext{done, func(method string) {
					if method == "Err" {
						trap(release)
					}
				}})
				close(done)
				synctest.Wait()
				select {
				case _, open := <-events:
					assert.False(t, open)
				default:
					assert.Fail(t, "it is not closed")
				}
				close(release)
			})
		})
		t.Run(name+", at that of a group", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var armed atomic.Bool
				release := make(chan struct{})
				ctx := armedContext{make(chan struct{}), func(string) {
					if armed.Load() {
						trap(release)
					}
				}}
				var reported, bodies, most atomic.Int32
				m := mustNew(t, exact()...)
				g := start(t, m, "g", taskmanager.Group(func(g *taskmanager.Manager) error {
					g.Subscribe(ctx)
					if _, err := g.StartTask("deaf", func(context.Context) error {
						most.Store(max(most.Load(), bodies.Add(1)))
						defer bodies.Add(-1)
						<-release
						return nil
					}); err != nil {
						return err
					}
					_, err := g.StartTask("a", failAfter(time.Second), once(), critical)
					return err
				}, silently(), taskmanager.WithReporter(taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error {
					reported.Add(1)
					return nil
				}))))
				synctest.Wait()
				armed.Store(true)
				time.Sleep(20 * time.Second)
				assert.Equal(t, taskmanager.StateFailed, g.State(), "what it has left executing is in the way of its next run")
				asStuck(t, g.Err(), "deaf", 5*time.Second)
				assert.EqualValues(t, 1, most.Load())
				require.NoError(t, m.Shutdown(t.Context()))
				assert.EqualValues(t, 2, reported.Load(), "that one has failed, and that the other is stuck")
				close(release)
				time.Sleep(time.Minute)
			})
		})
	}
}

// That of Shutdown ends it as any other does when it is canceled, whatever its methods do then.
func TestForeignContextOfAShutdown(t *testing.T) {
	for name, trap := range traps {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t, taskmanager.WithReporter(taskmanager.ReporterFunc(func(ctx context.Context, _ taskmanager.Event) error {
					<-ctx.Done()
					return nil
				})))
				<-start(t, m, "a", boom, once()).Done()
				release, done := make(chan struct{}), make(chan struct{})
				time.AfterFunc(time.Second, func() { close(done) })
				began := time.Now()
				require.NoError(t, m.Shutdown(armedContext{done, func(method string) {
					if method == "Err" && time.Since(began) > 0 {
						trap(release)
					}
				}}))
				if name == "hangs" {
					took(t, 5*time.Second, began) // it does not say that it was canceled
				} else {
					took(t, time.Second, began)
				}
				close(release)
			})
		})
	}
}

// A foreign context may be of a type of the name of one that is not: of a fork, say.
func TestForeignContextThatLooksLikeAStandardOne(t *testing.T) {
	t.Run("of another form", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		m := newManager(t, taskmanager.WithContext(lookalike.WithParent(ctx)))
		task := start(t, m, "a", untilStopped)
		cancel(errWhy)
		<-task.Done()
	})
	t.Run("with a method of its own, which is called under no lock", func(t *testing.T) {
		done := make(chan struct{})
		var task *taskmanager.Task
		m := mustNew(t, taskmanager.WithContext(lookalike.WithErr(done, func() error {
			task.Stats() // which takes the lock of the task, and waits for ever if it is held
			return context.Canceled
		})))
		task = start(t, m, "a", untilStopped)
		close(done)
		<-task.Done()
		require.NoError(t, m.Shutdown(t.Context()))
	})
}

// What waits for a foreign context is not of the task whose body has given that to Subscribe, or has started a task of a Manager whose
// parent it is.
func TestForeignContextIsNoPartOfATask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		foreign := armedContext{done, func(string) {}}
		m, other := mustNew(t), mustNew(t, taskmanager.WithContext(foreign))
		body := newDeafBody()
		task := start(t, m, "a", func(ctx context.Context) error {
			m.Subscribe(foreign)
			if _, err := other.StartTask("b", untilStopped); err != nil {
				return err
			}
			return body.hangInBody(ctx)
		})
		synctest.Wait()
		stack := string(asStuck(t, task.Stop(t.Context()), "a", 5*time.Second).Stack)
		assert.Contains(t, stack, "hangInBody")
		assert.Equal(t, 1, strings.Count(stack, " @ "), "of one goroutine: %s", stack)
		require.True(t, other.IsRunning("b"))
		body.release()
		close(done)
	})
}
