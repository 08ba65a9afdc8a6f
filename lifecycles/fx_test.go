package lifecycles_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/go-taskmanager/taskmanager"
)

// A startTasks starts the tasks of an app. Its constructor takes what the tasks need.
type startTasks func(*taskmanager.Manager) error

// manage ties a Manager and its tasks to an app. The tasks start in OnStart: what they need has started by then, which it has not
// when constructors are called, and if the app fails to start fx stops them. Hooks must return, so Run gets a goroutine, and a
// context of its own: that of OnStart ends with the start. fx stops in the opposite order of the start, so what the tasks need is
// stopped after them. The deadline of OnStop, 15 seconds by default, bounds the stop. A Manager that ends by itself ends the app.
func manage(lc fx.Lifecycle, app fx.Shutdowner, m *taskmanager.Manager, start startTasks) {
	lc.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			if err := start(m); err != nil {
				return errors.Join(err, m.Shutdown(ctx)) // fx does not stop what has not started
			}
			go func() {
				code := 0
				if err := m.Run(context.Background()); err != nil {
					code = 1
				}
				_ = app.Shutdown(fx.ExitCode(code)) // without effect if it was the app that shut m down
			}()
			return nil
		},
		OnStop: m.Shutdown, // whose error says who is stuck; Run returns with it
	})
}

// A database stands for what the tasks need.
type database struct{ open atomic.Bool }

func newDatabase(lc fx.Lifecycle) *database {
	d := &database{}
	lc.Append(fx.StartStopHook(
		func() { d.open.Store(true) },
		func() { d.open.Store(false) }))
	return d
}

func Example_fx() {
	working := make(chan struct{})
	newTasks := func(d *database) startTasks {
		return func(m *taskmanager.Manager) error {
			_, err := m.StartTask("worker", func(ctx context.Context) error {
				fmt.Println("the worker begins; the database is open:", d.open.Load())
				close(working)
				<-ctx.Done()
				fmt.Println("the worker ends; the database is open:", d.open.Load())
				return nil
			})
			return err
		}
	}
	app := fx.New(fx.NopLogger, fx.Provide(newManager, newDatabase, newTasks), fx.Invoke(manage))

	// What app.Run does, with a stop in place of a signal.
	if err := app.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	<-working
	fmt.Println("the app ends:", app.Stop(context.Background()))
	// Output:
	// the worker begins; the database is open: true
	// the worker ends; the database is open: true
	// the app ends: <nil>
}

// A failed start leaves no task behind: neither one of another part of the app, nor one of the tasks themselves.
func TestFxFailedStartLeavesNoTask(t *testing.T) {
	errPort, errSecond := errors.New("the port is taken"), errors.New("the second task")
	for name, test := range map[string]struct {
		want  error
		other any // what fails to start beside the tasks
		begun bool
	}{
		"of a part that comes before the tasks": {errPort, func(lc fx.Lifecycle) *struct{} {
			lc.Append(fx.StartHook(func() error { return errPort }))
			return nil
		}, false},
		"of the tasks": {errSecond, func() *struct{} { return nil }, true},
	} {
		t.Run(name, func(t *testing.T) {
			m, ended := newManager(), false
			newTasks := func(*struct{}) startTasks {
				return func(m *taskmanager.Manager) error {
					begun := make(chan struct{})
					_, err := m.StartTask("first", func(ctx context.Context) error {
						close(begun)
						<-ctx.Done()
						ended = true
						return nil
					})
					require.NoError(t, err)
					<-begun
					return errSecond
				}
			}
			app := fx.New(fx.NopLogger, fx.Supply(m), fx.Provide(test.other, newTasks), fx.Invoke(manage))
			require.ErrorIs(t, app.Start(t.Context()), test.want)
			assert.Equal(t, test.begun, ended)
			for task := range m.Tasks() {
				assert.True(t, task.State().Ended(), task.Name())
			}
		})
	}
	t.Run("of a part that comes after the tasks", func(t *testing.T) {
		m := newManager()
		begun := make(chan *taskmanager.Task, 1)
		var d *database
		open := make(chan bool, 2) // at the begin and at the end of the task
		start := startTasks(func(m *taskmanager.Manager) error {
			task, err := m.StartTask("worker", func(ctx context.Context) error {
				open <- d.open.Load()
				<-ctx.Done()
				open <- d.open.Load()
				return nil
			})
			begun <- task
			return err
		})
		app := fx.New(fx.NopLogger, fx.Supply(m, start), fx.Provide(newDatabase), fx.Populate(&d), fx.Invoke(manage,
			func(lc fx.Lifecycle) {
				lc.Append(fx.StartHook(func() error {
					assert.True(t, <-open)
					return errPort
				}))
			}))
		require.ErrorIs(t, app.Start(t.Context()), errPort)
		assert.Equal(t, taskmanager.StateStopped, (<-begun).State())
		assert.True(t, <-open)
		assert.False(t, d.open.Load())
	})
}

// The exit code of an app whose Manager has ended by itself, without and with an error.
func TestFxEndsWithTheManager(t *testing.T) {
	for code, timeout := range []time.Duration{time.Minute, time.Millisecond} {
		m, err := taskmanager.New(taskmanager.WithStopTimeout(timeout), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		started, release := make(chan *taskmanager.Task, 1), make(chan struct{})
		start := startTasks(func(m *taskmanager.Manager) error {
			begun := make(chan struct{})
			task, err := m.StartTask("worker", func(ctx context.Context) error {
				close(begun)
				if code == 0 {
					return untilStopped(ctx)
				}
				<-release
				return nil
			})
			<-begun
			started <- task
			return err
		})
		app := fx.New(fx.NopLogger, fx.Supply(m, start), fx.Invoke(manage))
		require.NoError(t, app.Start(t.Context()))
		wait := app.Wait()
		require.Eventually(t, waitsInRun, time.Minute, time.Millisecond) // or Run finds the Manager closed
		go func() { _ = m.Shutdown(context.Background()) }()             // somebody else
		assert.Equal(t, code, (<-wait).ExitCode)
		close(release)
		<-(<-started).Done()
		require.NoError(t, app.Stop(t.Context()))
	}
}

// waitsInRun reports whether a goroutine waits in Run of a Manager.
func waitsInRun() bool {
	stacks := make([]byte, 1<<20)
	return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("[select]:\ngithub.com/go-taskmanager/taskmanager.(*Manager).run"))
}

// A task that does not stop shows in what Stop returns.
func TestFxStopTellsWhoIsStuck(t *testing.T) {
	m, err := taskmanager.New(taskmanager.WithStopTimeout(time.Millisecond), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	started, release := make(chan *taskmanager.Task, 1), make(chan struct{})
	start := startTasks(func(m *taskmanager.Manager) error {
		begun := make(chan struct{})
		task, err := m.StartTask("deaf", func(context.Context) error {
			close(begun)
			<-release
			return nil
		})
		<-begun
		started <- task
		return err
	})
	app := fx.New(fx.NopLogger, fx.Supply(m, start), fx.Invoke(manage))
	require.NoError(t, app.Start(t.Context()))
	var stuck *taskmanager.StopTimeoutError
	require.ErrorAs(t, app.Stop(t.Context()), &stuck)
	assert.Equal(t, "deaf", stuck.Task)
	close(release)
	<-(<-started).Done()
}
