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
	"golang.org/x/sync/errgroup"

	"github.com/go-taskmanager/taskmanager"
)

// Everything of an errgroup is asked to end at the same moment, by one context. Where the order matters, the Manager gets
// a context of its own, which ends when what hands it work has ended. Wait returns the first error, here that of the
// metrics; a Manager that ends with an error before others have ended ends them, too.
func Example_errgroup() {
	m := newManager()
	_, _ = m.StartTask("worker", func(ctx context.Context) error {
		<-ctx.Done()
		fmt.Println("the worker ends")
		return nil
	})

	g, ctx := errgroup.WithContext(context.Background()) // in a program: of signal.NotifyContext
	tasks, stopTasks := context.WithCancel(context.WithoutCancel(ctx))
	g.Go(func() error {
		defer stopTasks() // not before the server has handed over its last work
		return serve(ctx)
	})
	g.Go(func() error { return m.Run(tasks) })
	g.Go(serveMetrics)

	fmt.Println("the program ends:", g.Wait())
	// Output:
	// the server ends
	// the worker ends
	// the program ends: metrics: the port is taken
}

// serve stands for a server that needs a moment to finish what it is asked.
func serve(ctx context.Context) error {
	<-ctx.Done()
	time.Sleep(10 * time.Millisecond)
	fmt.Println("the server ends")
	return nil
}

// serveMetrics stands for a part of the program that can't do its work.
func serveMetrics() error { return errors.New("metrics: the port is taken") }

// The error of a Manager that ends by itself ends the group and is the group's.
func TestErrgroupEndsWithTheManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, release := newManager(), make(chan struct{})
		_, err := m.StartTask("deaf", func(context.Context) error {
			<-release
			return nil
		})
		require.NoError(t, err)
		began := time.Now()
		g, ctx := errgroup.WithContext(t.Context())
		g.Go(func() error { return m.Run(ctx) })
		g.Go(func() error { return untilStopped(ctx) })
		time.Sleep(time.Second)
		go func() { _ = m.Shutdown(t.Context()) }() // somebody else

		var stuck *taskmanager.StopTimeoutError
		require.ErrorAs(t, g.Wait(), &stuck)
		assert.Equal(t, "deaf", stuck.Task)
		assert.Equal(t, 6*time.Second, time.Since(began))
		close(release)
	})
}
