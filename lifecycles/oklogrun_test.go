package lifecycles_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/run"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A Group interrupts its actors one after the other, in the order in which they were added, and waits for all of them at
// the end. So what hands work to the Manager is added before it, and its interrupt returns when it has ended. Run returns
// the error of the first actor that ended.
func Example_oklogRun() {
	m := newManager()
	_, _ = m.StartTask("worker", func(ctx context.Context) error {
		<-ctx.Done()
		fmt.Println("the worker ends")
		return nil
	})

	var g run.Group
	serving, stopServing := context.WithCancel(context.Background())
	served := make(chan struct{})
	g.Add(func() error {
		defer close(served)
		return serve(serving)
	}, func(error) {
		stopServing()
		<-served // as http.Server.Shutdown would wait
	})
	tasks, stopTasks := context.WithCancel(context.Background())
	g.Add(func() error { return m.Run(tasks) }, func(error) { stopTasks() })
	g.Add(serveMetrics, func(error) {})

	fmt.Println("the program ends:", g.Run())
	// Output:
	// the server ends
	// the worker ends
	// the program ends: metrics: the port is taken
}

// Run of a Manager returns by the deadline of its tasks, so that a task that does not stop doesn't keep the group. Its error
// is not the first one here, and is lost but for the log.
func TestOklogRunIsNotKeptByAStuckTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, release := newManager(), make(chan struct{})
		task, err := m.StartTask("deaf", func(context.Context) error {
			<-release
			return nil
		})
		require.NoError(t, err)
		began, first := time.Now(), errors.New("first")
		var g run.Group
		ctx, stop := context.WithCancel(t.Context())
		g.Add(func() error { return m.Run(ctx) }, func(error) { stop() })
		g.Add(func() error { time.Sleep(time.Second); return first }, func(error) {})
		require.Equal(t, first, g.Run())
		assert.Equal(t, 6*time.Second, time.Since(began))
		assert.Equal(t, taskmanager.StateStuck, task.State())
		close(release)
	})
}

// The error of a Manager that ends by itself interrupts the others, and is the group's.
func TestOklogRunEndsWithTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, release := newManager(), make(chan struct{})
		_, err := m.StartTask("deaf", func(context.Context) error {
			<-release
			return nil
		})
		require.NoError(t, err)
		var g run.Group
		g.Add(func() error { return m.Run(t.Context()) }, func(error) {})
		ctx, stop := context.WithCancel(t.Context())
		var interruptedBy error
		g.Add(func() error { return untilStopped(ctx) }, func(err error) { interruptedBy = err; stop() })
		go func() { _ = m.Shutdown(t.Context()) }() // somebody else
		synctest.Wait()

		err = g.Run()
		require.ErrorIs(t, err, taskmanager.ErrManagerClosed)
		assert.Equal(t, err, interruptedBy)
		time.Sleep(time.Minute)
		close(release)
	})
}
