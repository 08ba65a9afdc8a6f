package lifecycles_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/go-taskmanager/taskmanager"
)

// manage ties a Manager to an app. Hooks must return, so Run gets a goroutine, and a context of its own: that of OnStart ends
// with the start. fx stops in the opposite order of the start, so what the tasks need must be constructed before: the
// constructor of the Manager takes it as a parameter. The deadline of OnStop, 15 seconds by default, bounds the stop. A
// Manager that ends by itself ends the app.
func manage(lc fx.Lifecycle, app fx.Shutdowner, m *taskmanager.Manager) {
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
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
type database struct{}

func newDatabase(lc fx.Lifecycle) *database {
	lc.Append(fx.StartStopHook(
		func() { fmt.Println("the database is open") },
		func() { fmt.Println("the database is closed") }))
	return &database{}
}

func Example_fx() {
	working := make(chan struct{})
	newTasks := func(*database) (*taskmanager.Manager, error) {
		m := newManager()
		_, err := m.StartTask("worker", func(ctx context.Context) error {
			close(working)
			<-ctx.Done()
			fmt.Println("the worker ends")
			return nil
		})
		return m, err
	}
	app := fx.New(fx.NopLogger, fx.Provide(newDatabase, newTasks), fx.Invoke(manage))

	// What app.Run does, with a stop in place of a signal.
	if err := app.Start(context.Background()); err != nil {
		fmt.Println(err)
		return
	}
	<-working
	fmt.Println("the app ends:", app.Stop(context.Background()))
	// Output:
	// the database is open
	// the worker ends
	// the database is closed
	// the app ends: <nil>
}

// The exit code of an app whose Manager has ended by itself, without and with an error.
func TestFxEndsWithTheManager(t *testing.T) {
	for code, timeout := range []time.Duration{time.Minute, time.Millisecond} {
		m, err := taskmanager.New(taskmanager.WithStopTimeout(timeout), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		release := make(chan struct{})
		started := make(chan struct{})
		task, err := m.StartTask("worker", func(ctx context.Context) error {
			close(started)
			if code == 0 {
				return untilStopped(ctx)
			}
			<-release
			return nil
		})
		require.NoError(t, err)
		<-started
		app := fx.New(fx.NopLogger, fx.Supply(m), fx.Invoke(manage))
		require.NoError(t, app.Start(t.Context()))
		wait := app.Wait()
		go func() { _ = m.Shutdown(context.Background()) }() // somebody else
		assert.Equal(t, code, (<-wait).ExitCode)
		close(release)
		<-task.Done()
		require.NoError(t, app.Stop(t.Context()))
	}
}

// A task that does not stop shows in what Stop returns.
func TestFxStopTellsWhoIsStuck(t *testing.T) {
	m, err := taskmanager.New(taskmanager.WithStopTimeout(time.Millisecond), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	started, release := make(chan struct{}), make(chan struct{})
	task, err := m.StartTask("deaf", func(context.Context) error {
		close(started)
		<-release
		return nil
	})
	require.NoError(t, err)
	<-started
	app := fx.New(fx.NopLogger, fx.Supply(m), fx.Invoke(manage))
	require.NoError(t, app.Start(t.Context()))
	var stuck *taskmanager.StopTimeoutError
	require.ErrorAs(t, app.Stop(t.Context()), &stuck)
	assert.Equal(t, "deaf", stuck.Task)
	close(release)
	<-task.Done()
}
