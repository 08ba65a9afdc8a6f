package lifecycles_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/thejerf/suture/v4"

	"github.com/go-taskmanager/taskmanager"
)

// A workers is a service of suture that supervises tasks of its own. A Manager can't be used again once Run has returned,
// so there is a new one for each time that suture starts the service.
type workers struct {
	bodies map[string]taskmanager.TaskFunc
	opts   []taskmanager.TaskOption
}

// Serve implements suture.Service. Each task is critical: when one is gone Run ends, and suture starts all of them anew.
func (w *workers) Serve(ctx context.Context) error {
	m := newManager()
	for name, body := range w.bodies {
		if _, err := m.StartTask(name, body, append(w.opts, taskmanager.WithCritical())...); err != nil {
			return mayRestart(errors.Join(err, m.Shutdown(ctx)))
		}
	}
	if err := m.Run(ctx); err != nil {
		return mayRestart(err)
	}
	return ctx.Err()
}

// mayRestart returns err, but ends the tree if a task is stuck: suture would start a second one beside it.
func mayRestart(err error) error {
	var stuck *taskmanager.StopTimeoutError
	if errors.As(err, &stuck) {
		return errors.Join(suture.ErrTerminateSupervisorTree, err)
	}
	return err
}

// suture cancels the context of a service and waits for it: 10 seconds, by default, which must be longer than the stop
// timeouts of the tasks.
func Example_suture() {
	reported := make(chan struct{}, 1)
	supervisor := suture.New("program", suture.Spec{EventHook: func(e suture.Event) {
		fmt.Println(e.Map()["error"])
		reported <- struct{}{}
	}})
	ctx, stop := context.WithCancel(context.Background()) // in a program: signal.NotifyContext
	runs := 0
	supervisor.Add(&workers{
		bodies: map[string]taskmanager.TaskFunc{"worker": func(ctx context.Context) error {
			if runs++; runs == 1 {
				return errors.New("no connection")
			}
			<-reported // suture starts the next run before it calls its hook
			fmt.Println("the worker works")
			stop() // as a signal would
			<-ctx.Done()
			fmt.Println("the worker ends")
			return nil
		}},
		opts: []taskmanager.TaskOption{taskmanager.WithMaxRestarts(0)},
	})
	fmt.Println("the program ends:", supervisor.Serve(ctx))
	// Output:
	// taskmanager: gave up task "worker" after 0 restarts within 1m0s: no connection
	// the worker works
	// the worker ends
	// the program ends: context canceled
}

// A task that does not stop is never started a second time by suture.
func TestSutureDoesNotRestartAStuckTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release, entered := make(chan struct{}), 0
		supervisor := suture.New("program", suture.Spec{EventHook: func(suture.Event) {}})
		supervisor.Add(&workers{
			bodies: map[string]taskmanager.TaskFunc{
				"deaf": func(context.Context) error {
					entered++
					<-release
					return nil
				},
				"failing": func(context.Context) error {
					time.Sleep(time.Second)
					return errors.New("failed")
				},
			},
			opts: []taskmanager.TaskOption{taskmanager.WithMaxRestarts(0)},
		})
		began := time.Now()
		require.ErrorIs(t, supervisor.Serve(t.Context()), suture.ErrTerminateSupervisorTree)
		assert.Equal(t, 6*time.Second, time.Since(began))
		time.Sleep(time.Hour)
		synctest.Wait()
		assert.Equal(t, 1, entered)
		close(release)
	})
}

// A task that is given up, or has completed though it is critical, is no reason to end the tree: suture starts all anew, and the
// others in the tree never hear of it.
func TestSutureGoesOnAfterATaskIsGone(t *testing.T) {
	for name, gone := range map[string]error{"given up": errors.New("no connection"), "completed": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				supervisor := suture.New("program", suture.Spec{EventHook: func(suture.Event) {}})
				runs, ended := 0, false
				supervisor.Add(&workers{
					bodies: map[string]taskmanager.TaskFunc{"worker": func(ctx context.Context) error {
						if runs++; runs < 3 {
							return gone
						}
						return untilStopped(ctx)
					}},
					opts: []taskmanager.TaskOption{taskmanager.WithMaxRestarts(0)},
				})
				supervisor.Add(service(func(ctx context.Context) error {
					defer func() { ended = true }()
					return untilStopped(ctx)
				}))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- supervisor.Serve(ctx) }()
				time.Sleep(time.Minute)
				synctest.Wait()
				assert.Equal(t, 3, runs)
				assert.False(t, ended, "the tree goes on")
				cancel()
				require.ErrorIs(t, <-done, context.Canceled)
				assert.True(t, ended)
			})
		})
	}
}

// A service is another one in the tree.
type service func(context.Context) error

// Serve implements suture.Service.
func (s service) Serve(ctx context.Context) error { return s(ctx) }

// What suture stops has ended when its Serve returns.
func TestSutureStopsTheTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		supervisor := suture.New("program", suture.Spec{EventHook: func(suture.Event) {}})
		ended := false
		supervisor.Add(&workers{bodies: map[string]taskmanager.TaskFunc{"slow": func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(3 * time.Second)
			ended = true
			return nil
		}}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, supervisor.Serve(ctx), context.DeadlineExceeded)
		assert.Equal(t, time.Minute+3*time.Second, time.Since(began))
		assert.True(t, ended)
	})
}
