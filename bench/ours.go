package main

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// ours is the library. Its log is discarded, as the events of the peers are, and it restarts
// without delay or limit, as they do.
type ours struct{ manager *taskmanager.Manager }

func newOurs() group { return ours{newManager()} }

func newManager(opts ...taskmanager.Option) *taskmanager.Manager {
	m, err := taskmanager.New(append([]taskmanager.Option{
		taskmanager.WithLogger(slog.New(slog.DiscardHandler)),
		taskmanager.WithRestartLimit(rate.Inf, 0),
		taskmanager.WithMaxRestarts(taskmanager.Unlimited),
		taskmanager.WithBackoff(0, 0),
		taskmanager.WithStopTimeout(patience),
	}, opts...)...)
	if err != nil {
		panic(err) // the options above are constants
	}
	return m
}

// patience is more than any stop here takes on a machine that works.
const patience = time.Minute

func (o ours) start(name string, body body) error {
	_, err := o.manager.StartTask(name, taskmanager.TaskFunc(body))
	return err
}

func (o ours) begin() {}

func (o ours) stopAll() error { return o.manager.StopAll(context.Background()) }

func (o ours) startOne(name string, body body) (stop func() error, err error) {
	t, err := o.manager.StartTask(name, taskmanager.TaskFunc(body))
	if err != nil {
		return nil, err
	}
	return func() error { return t.Stop(context.Background()) }, nil
}

func (o ours) isRunning(name string) bool { return o.manager.IsRunning(name) }

func (o ours) stats() int { return len(o.manager.Stats().Tasks) }

func (o ours) running() int { return o.manager.Totals().Running }
