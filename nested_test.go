package taskmanager_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// Run must not return before the tasks have ended when the parent context has ended between New and Run.
func TestPromise1RunAsABodyOfAGroupThatIsStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t)
		alive, most, runs := 0, 0, 0
		outer := start(t, m, "outer", func(ctx context.Context) error {
			runs++
			inner, err := taskmanager.New(taskmanager.WithContext(ctx), taskmanager.WithLogger(slog.New(slog.DiscardHandler)))
			assert.NoError(t, err)
			_, err = inner.StartTask("inner", func(ctx context.Context) error {
				alive++
				most = max(most, alive)
				defer func() { alive-- }()
				return slowToStop(time.Second)(ctx)
			})
			assert.NoError(t, err)
			time.Sleep(time.Second) // in which it is restarted: whatever else a body does before Run
			return inner.Run(ctx)
		})
		time.Sleep(time.Second / 2)
		require.NoError(t, outer.Restart(t.Context()))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		assert.Equal(t, 2, runs)
		assert.Equal(t, 1, most, "two generations alive")
		require.NoError(t, outer.Stop(t.Context()))
	})
}

// A restart by hand of a task whose body returns that something in it is stuck must not begin another run.
func TestPromise1RestartOfATaskInWhichAnotherIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustNew(t)
		deaf := newDeafBody()
		defer deaf.release()
		runs := 0
		outer := nest(t, m, func(ctx context.Context) error {
			runs++
			return deaf.run(ctx)
		}) // the stop timeout of the inner one is 1 s, that of the outer one 5 s
		synctest.Wait()
		err := outer.Restart(t.Context())
		asStuck(t, err, "inner", time.Second)
		time.Sleep(time.Minute)
		synctest.Wait()
		assert.Equal(t, 1, runs, "a second body beside the one that is stuck")
		require.NoError(t, m.StopAll(t.Context()))
	})
}

// A stop of a task whose body returns that something in it is stuck must say so: it returned nil.
func TestStopOfATaskInWhichAnotherIsStuckSaysSo(t *testing.T) {
	for name, stop := range map[string]func(context.Context, *taskmanager.Manager) error{
		"StopTask": func(ctx context.Context, m *taskmanager.Manager) error { return m.StopTask(ctx, "outer") },
		"StopAll":  func(ctx context.Context, m *taskmanager.Manager) error { return m.StopAll(ctx) },
		"Shutdown": func(ctx context.Context, m *taskmanager.Manager) error { return m.Shutdown(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := mustNew(t)
				deaf := newDeafBody()
				defer deaf.release()
				nest(t, m, deaf.run)
				synctest.Wait()
				asStuck(t, stop(t.Context(), m), "inner", time.Second)
			})
		})
	}
}
