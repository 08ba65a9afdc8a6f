package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	riverqueue "github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// A sign is what tells that a client of river leads. Its elector is internal: what a service can see of it is this.
type sign int

const (
	// electedByLog: the lines of its log, at level Debug.
	electedByLog sign = iota
	// periodicJob: a periodic job's constructor, which is the code of a service that the leader executes. It is called when the
	// leader's services have started.
	periodicJob
)

func migrateRiver(ctx context.Context, p place) error {
	pool, err := pgxpool.New(ctx, p.URL)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// river returns replicas that are clients of river, with its defaults: nothing of its election can be set.
func river(by sign) func(ctx context.Context, o order, say func(what happening)) error {
	return func(ctx context.Context, o order, say func(what happening)) error {
		pool, err := pgxpool.New(ctx, o.Place.URL)
		if err != nil {
			return err
		}
		defer pool.Close()
		workers := riverqueue.NewWorkers()
		riverqueue.AddWorker(workers, &idleWorker{})
		cfg := &riverqueue.Config{
			Queues:  map[string]riverqueue.QueueConfig{riverqueue.QueueDefault: {MaxWorkers: 1}},
			Workers: workers,
			Logger:  slog.New(slog.DiscardHandler),
		}
		switch by {
		case electedByLog:
			cfg.Logger = slog.New(electionLog{say: say})
		case periodicJob:
			body := func() (riverqueue.JobArgs, *riverqueue.InsertOpts) {
				say(began)
				<-ctx.Done() // it is given no context
				time.Sleep(o.Linger)
				say(ended)
				return nil, nil // inserts no job
			}
			cfg.PeriodicJobs = []*riverqueue.PeriodicJob{riverqueue.NewPeriodicJob(
				riverqueue.PeriodicInterval(time.Hour), body, &riverqueue.PeriodicJobOpts{RunOnStart: true},
			)}
		}
		client, err := riverqueue.NewClient(riverpgxv5.New(pool), cfg)
		if err != nil {
			return err
		}
		if err := client.Start(context.Background()); err != nil {
			return err
		}
		say(started)
		<-ctx.Done()
		stopping, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		return client.Stop(stopping)
	}
}

// An electionLog is a slog.Handler that sees what the elector says.
type electionLog struct{ say func(what happening) }

func (l electionLog) Enabled(context.Context, slog.Level) bool { return true }
func (l electionLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l electionLog) WithGroup(string) slog.Handler            { return l }

func (l electionLog) Handle(_ context.Context, r slog.Record) error {
	switch {
	case strings.HasSuffix(r.Message, ": Gained leadership"):
		l.say(began)
	case strings.HasSuffix(r.Message, ": Attempting to resign leadership"):
		l.say(ended)
	}
	return nil
}

// idleArgs are those of a job that nobody inserts: a client needs a worker.
type idleArgs struct{}

// Kind implements riverqueue.JobArgs.
func (idleArgs) Kind() string { return "idle" }

type idleWorker struct {
	riverqueue.WorkerDefaults[idleArgs]
}

// Work implements riverqueue.Worker.
func (*idleWorker) Work(context.Context, *riverqueue.Job[idleArgs]) error { return nil }
