package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// When the service was started, and when it is looked at.
var (
	deployed = time.Date(2026, time.November, 23, 5, 58, 12, 0, time.UTC)
	lookedAt = time.Date(2026, time.November, 26, 14, 32, 8, 0, time.UTC)
)

// A service is what the pictures show: all that it does depends on the clock alone.
type service struct {
	m    *taskmanager.Manager
	over chan struct{} // closed to end the task that does not look at its context
}

// start starts the tasks of the service, now.
func start() (*service, error) {
	m, err := taskmanager.New(
		taskmanager.WithName("orders"),
		taskmanager.WithLogger(slog.New(slog.DiscardHandler)),
		taskmanager.WithBackoffJitter(0),
	)
	if err != nil {
		return nil, err
	}
	s := &service{m: m, over: make(chan struct{})}
	type options []taskmanager.TaskOption
	needsDatabase := taskmanager.WithDependsOn("database")
	for _, task := range []struct {
		name string
		body taskmanager.TaskFunc
		opts options
	}{
		{"database", says("12 of 20 connections in use"), nil},
		{"cache", says("61,204 entries, 96% hits"), options{needsDatabase}},
		{"http", serveHTTP, options{
			taskmanager.WithDependsOn("database", "cache"), taskmanager.WithReadiness(time.Minute), taskmanager.WithCritical(),
		}},
		{"order consumer", says("38 messages/s, lag 3"), options{needsDatabase}},
		{"payment consumer", consumePayments, options{
			needsDatabase, taskmanager.WithMaxRestarts(taskmanager.Unlimited), taskmanager.WithBackoff(2*time.Second, time.Minute),
		}},
		{"importer", importPrices, options{needsDatabase, taskmanager.WithMaxRestarts(2)}},
		{"invoices", sendInvoices, options{taskmanager.WithDependsOn("importer")}},
		{"mailer", says("4 mails/min"), options{needsDatabase}},
		{"legacy sync", s.sync, options{taskmanager.WithStopTimeout(10 * time.Second)}},
		{"stock levels", taskmanager.Every(45*time.Second, pollStock), nil},
		{"exchange rates", taskmanager.Every(5*time.Minute, pollRates), nil},
		{"daily report", taskmanager.Every(24*time.Hour, saysPass("sent to 31 people"), taskmanager.WithFirstPass(time.Hour)), nil},
		{"partitions", taskmanager.Group(startPartitions), options{needsDatabase}},
		{"migrate", func(context.Context) error { return nil }, nil},
	} {
		if _, err := m.StartTask(task.name, task.body, task.opts...); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// live has the time pass until it is looked at, and people do something meanwhile.
func (s *service) live() error {
	time.Sleep(time.Until(lookedAt.Add(-3 * time.Hour)))
	if err := s.m.PauseTask(taskmanager.AskedBy(context.Background(), "anna"), "mailer"); err != nil {
		return err
	}
	time.Sleep(time.Until(lookedAt.Add(-4 * time.Minute)))
	if err := s.m.StopTask(taskmanager.AskedBy(context.Background(), "bilal"), "legacy sync"); err == nil {
		return errors.New("legacy sync is not stuck")
	}
	time.Sleep(time.Until(lookedAt))
	return nil
}

// end stops all tasks.
func (s *service) end() error {
	close(s.over)
	return s.m.Shutdown(context.Background())
}

// says makes a body that works without trouble.
func says(status string) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		taskmanager.SetStatus(ctx, "%s", status)
		<-ctx.Done()
		return nil
	}
}

// saysPass makes a pass that sets a status.
func saysPass(status string) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		taskmanager.SetStatus(ctx, "%s", status)
		return nil
	}
}

func serveHTTP(ctx context.Context) error {
	taskmanager.SetStatus(ctx, "listening on :8443, 214 requests/s")
	taskmanager.Ready(ctx)
	<-ctx.Done()
	return nil
}

// until works until a time, if ctx lets it.
func until(ctx context.Context, at time.Time) error {
	select {
	case <-time.After(time.Until(at)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// consumePayments had a bad night, and has lost its broker some minutes ago.
func consumePayments(ctx context.Context) error {
	taskmanager.SetStatus(ctx, "11 messages/s, lag 0")
	for _, outage := range []struct {
		at     time.Time
		lasts  time.Duration
		reason string
	}{
		{lookedAt.Add(-31 * time.Hour), 40 * time.Second, "read tcp 10.0.3.7:5672: connection reset by peer"},
		{lookedAt.Add(-6 * time.Minute), time.Hour, "dial tcp 10.0.3.7:5672: connect: connection refused"},
	} {
		if time.Now().After(outage.at.Add(outage.lasts)) {
			continue
		}
		if time.Now().After(outage.at) {
			taskmanager.SetStatus(ctx, "connecting to 10.0.3.7:5672")
		}
		if err := until(ctx, outage.at); err != nil {
			return nil //nolint:nilerr // it was asked to stop
		}
		time.Sleep(300 * time.Millisecond)
		return errors.New(outage.reason)
	}
	return nil
}

// importPrices panics since somebody delivers rows without a price.
func importPrices(ctx context.Context) error {
	taskmanager.SetStatus(ctx, "waiting for files in /var/spool/prices")
	if err := until(ctx, lookedAt.Add(-11*time.Minute)); err != nil {
		return nil //nolint:nilerr // it was asked to stop
	}
	taskmanager.SetStatus(ctx, "prices-1126.csv, row 1,833")
	time.Sleep(1200 * time.Millisecond)
	return importRow([]string{"4711", "tea kettle", "kitchen"})
}

// sendInvoices needs prices of today, and waits for those who bring them after it has failed.
func sendInvoices(ctx context.Context) error {
	taskmanager.SetStatus(ctx, "the next at 14:30")
	if err := until(ctx, lookedAt.Add(-2*time.Minute)); err != nil {
		return nil //nolint:nilerr // it was asked to stop
	}
	return errors.New("no prices of 2026-11-26")
}

func importRow(fields []string) error {
	const price = 3
	return fmt.Errorf("no price: %s", fields[len(fields)*price/3])
}

// sync does not look at its context.
func (s *service) sync(ctx context.Context) error {
	taskmanager.SetStatus(ctx, "copying archive 118 of 2,240")
	<-s.over
	return nil
}

func pollStock(ctx context.Context) error {
	time.Sleep(800 * time.Millisecond)
	taskmanager.SetStatus(ctx, "142 articles in 0.8 s")
	return nil
}

func pollRates(ctx context.Context) error {
	time.Sleep(400 * time.Millisecond)
	if time.Now().After(lookedAt.Add(-22 * time.Minute)) {
		return errors.New("GET https://rates.example.org/latest: 503 Service Unavailable")
	}
	taskmanager.SetStatus(ctx, "32 currencies")
	return nil
}

func startPartitions(g *taskmanager.Manager) error {
	for i, lag := range []int{3, 0, 12, 1} {
		if _, err := g.StartTask(fmt.Sprintf("partition %d", i), says(fmt.Sprintf("lag %d", lag))); err != nil {
			return err
		}
	}
	return nil
}
