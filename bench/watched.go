package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/go-taskmanager/taskmanager"
)

// A setting is something besides that a Manager has to do when a task fails.
type setting struct {
	name  string // a part of a work's name
	title string // goes on after that of the work
	about string
	// manager makes one. check is called once, after all tasks have been stopped.
	manager func() (m *taskmanager.Manager, check func() error, err error)
}

var (
	textLog = setting{
		name: "text", title: ", with a text log",
		about: "The log is that of a slog.TextHandler, at its default level, whose lines are counted and thrown away.",
		manager: func() (*taskmanager.Manager, func() error, error) {
			m, check := logging(newTextHandler, io.Discard)
			return m, check, nil
		},
	}
	textFile = setting{
		name: "textfile", title: ", with a text log to a file",
		about:   "The log is that of a slog.TextHandler, at its default level, to a file.",
		manager: func() (*taskmanager.Manager, func() error, error) { return loggingToFile(newTextHandler) },
	}
	jsonFile = setting{
		name: "jsonfile", title: ", with a JSON log to a file",
		about:   "The log is that of a slog.JSONHandler, at its default level, to a file.",
		manager: func() (*taskmanager.Manager, func() error, error) { return loggingToFile(newJSONHandler) },
	}
	reported = setting{
		name: "reporter", title: ", with a reporter",
		about:   "A Reporter that counts hears of the failures, without a limit.",
		manager: reporting,
	}
	hanging = setting{
		name: "hang", title: ", with a reporter that hangs",
		about:   "A Reporter does not return from its first call until all is over.",
		manager: reportingToNobody,
	}
	limited = setting{
		name: "limit", title: ", with a fleet limit",
		about:   "The fleet-wide limit of restarts counts them, and is never reached.",
		manager: counting,
	}
)

func newTextHandler(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) }
func newJSONHandler(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }

// A lineCounter counts the lines that are written through it.
type lineCounter struct {
	io.Writer
	lines atomic.Int64
}

func (c *lineCounter) Write(p []byte) (int, error) {
	c.lines.Add(int64(bytes.Count(p, []byte("\n"))))
	return c.Writer.Write(p)
}

// logging has a log; its check misses lines.
func logging(handler func(io.Writer) slog.Handler, w io.Writer) (m *taskmanager.Manager, check func() error) {
	counter := &lineCounter{Writer: w}
	// All of its lines: what the limit of the log merges would be measured as if it was written.
	m = newManager(taskmanager.WithLogger(slog.New(handler(counter))), taskmanager.WithLogLimit(rate.Inf, 0))
	return m, func() error {
		err := m.Shutdown(context.Background()) // waits for the log
		if failures, lines := m.Stats().Failures, counter.lines.Load(); err == nil && uint64(lines) < failures {
			err = fmt.Errorf("the log has %d lines about %d failures", lines, failures)
		}
		return err
	}
}

// loggingToFile is logging to a file that is removed in the end.
func loggingToFile(handler func(io.Writer) slog.Handler) (*taskmanager.Manager, func() error, error) {
	file, err := os.CreateTemp("", "bench-*.log")
	if err != nil {
		return nil, nil, err
	}
	m, check := logging(handler, file)
	return m, func() error { return errors.Join(check(), file.Close(), os.Remove(file.Name())) }, nil
}

// reporting has a reporter; its check misses reports.
func reporting() (*taskmanager.Manager, func() error, error) {
	var heard atomic.Int64
	m := newManager(taskmanager.WithReportLimit(rate.Inf, 0),
		taskmanager.WithReporter(taskmanager.ReporterFunc(func(_ context.Context, e taskmanager.Event) error {
			if e.Kind != taskmanager.EventRecovered {
				heard.Add(1 + int64(e.Repeats))
			}
			return nil
		})))
	return m, func() error {
		if err := m.Shutdown(context.Background()); err != nil {
			return err
		}
		if failures := m.Stats().Failures; uint64(heard.Load()) != failures {
			return fmt.Errorf("the reporter has heard of %d failures of %d", heard.Load(), failures)
		}
		return nil
	}, nil
}

func reportingToNobody() (*taskmanager.Manager, func() error, error) {
	var (
		calls   atomic.Int64
		called  = make(chan struct{}, 1)
		release = make(chan struct{})
	)
	m := newManager(taskmanager.WithReportLimit(rate.Inf, 0),
		taskmanager.WithReporter(taskmanager.ReporterFunc(func(context.Context, taskmanager.Event) error {
			if calls.Add(1) == 1 {
				called <- struct{}{}
			}
			<-release
			return nil
		})))
	return m, func() error {
		select {
		case <-called:
		case <-time.After(patience): // the machine may be slow
		}
		n := calls.Load()
		close(release)
		err := m.Shutdown(context.Background())
		if n != 1 {
			err = errors.Join(err, fmt.Errorf("%d calls of a reporter that does not return from the first", n))
		}
		return err
	}, nil
}

func counting() (*taskmanager.Manager, func() error, error) {
	const enough = 1 << 30 // restarts at once
	m := newManager(taskmanager.WithRestartLimit(1, enough))
	return m, func() error { return m.Shutdown(context.Background()) }, nil
}

// with is the work done by the library alone, with that setting.
func (w work) with(s setting) work {
	run := w.run
	w.name = s.name + "-" + w.name
	w.title += s.title
	w.about += " " + s.about
	w.needs |= features
	w.run = func(func() group) (values, error) {
		m, check, err := s.manager()
		if err != nil {
			return nil, err
		}
		v, err := run(func() group { return ours{m} })
		return v, errors.Join(err, check())
	}
	return w
}
