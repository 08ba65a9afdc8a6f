// Quickstart watches HTTP endpoints, each in a supervised task of its own.
//
//	go run ./examples/quickstart [-for 20s] [-every 1s] [-listen 127.0.0.1:0] [-v] [url ...]
//
// Without URLs it starts a server on loopback with endpoints that do well and badly, and watches those. A page at the address that it
// prints shows the tasks, and restarts or stops them. Enter prints their state; Ctrl-C ends it.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// stopWithin is how long Ctrl-C may take.
const stopWithin = 3 * time.Second

func main() {
	s := settings{initialDelay: 500 * time.Millisecond}
	flag.DurationVar(&s.lasts, "for", 0, "end after this time; 0 is for Ctrl-C alone")
	flag.DurationVar(&s.every, "every", time.Second, "time between two polls of an endpoint")
	flag.StringVar(&s.listen, "listen", "127.0.0.1:0", "address of the page about the tasks, on loopback")
	flag.BoolVar(&s.verbose, "v", false, "log the start of each run, too")
	flag.Parse()
	s.urls = flag.Args()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	if err := run(ctx, s, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

type settings struct {
	urls         []string // none: those of the demo server
	lasts        time.Duration
	every        time.Duration
	initialDelay time.Duration // before the first restart
	listen       string        // where the page is served
	verbose      bool
}

// run is the service, from its start to the end of ctx.
func run(ctx context.Context, s settings, in io.Reader, out io.Writer) error {
	if s.every <= 0 || s.lasts < 0 {
		return errors.New("-every must be positive, and -for must not be negative")
	}
	c := &console{out: out, level: slog.LevelInfo}
	if s.verbose {
		c.level = slog.LevelDebug
	}
	log := slog.New(c)

	m, err := taskmanager.New(
		taskmanager.WithLogger(log),
		taskmanager.WithMaxRestarts(4), // a poll that fails once more, within a minute, is left until the next one is due
		taskmanager.WithBackoff(s.initialDelay, 10*time.Second),
		taskmanager.WithStopTimeout(stopWithin),
	)
	if err != nil {
		return err
	}
	// Shutdown is called on every way out, so that no task outlives this function.
	shutdown := func() error {
		deadline, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		return m.Shutdown(deadline)
	}

	endpoints, err := parseEndpoints(s.urls)
	if err != nil {
		return err
	}
	if err := startPage(m, s.listen, c); err != nil {
		return errors.Join(err, shutdown())
	}
	if len(endpoints) == 0 {
		d, err := startDemo(ctx, m)
		if err != nil {
			return errors.Join(err, shutdown())
		}
		endpoints = d
	}
	if s.lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.lasts)
		defer cancel()
	}

	fmt.Fprintf(c, "Watching %d endpoints. Enter prints their state, Ctrl-C ends.\n", len(endpoints))
	w := newWatcher(s.every, log)
	defer w.client.CloseIdleConnections()
	var watching []*taskmanager.Task
	for _, e := range endpoints {
		t, err := m.StartTask(e.name, w.watchAll(e), e.opts...)
		if err != nil {
			return errors.Join(err, shutdown())
		}
		watching = append(watching, t)
	}
	allEnded := make(chan struct{})
	go func() {
		for _, t := range watching {
			if _ = t.Wait(ctx); ctx.Err() != nil {
				return
			}
		}
		close(allEnded)
	}()
	asked := lines(in)
	var failure error
	for waiting := true; waiting; {
		select {
		case <-asked:
			fmt.Fprintf(c, "\n%v\n\n", m.Stats())
		case <-allEnded:
			waiting, failure = false, errors.New("no endpoint is left to watch")
		case <-ctx.Done():
			waiting = false
		}
	}

	fmt.Fprintf(c, "\n%v\n\n", m.Stats()) // before the end, which turns every state into stopped
	asks := time.Now()
	if err := shutdown(); err != nil {
		return errors.Join(failure, err)
	}
	fmt.Fprintf(c, "All tasks have ended, %v after they were asked to.\n", time.Since(asks).Round(time.Microsecond))
	return failure
}

// lines sends something for each line of in. It is no task: a read from a terminal can't be interrupted, so a task
// that does it would be stuck at every stop.
func lines(in io.Reader) <-chan struct{} {
	c := make(chan struct{}, 1)
	go func() {
		for s := bufio.NewScanner(in); s.Scan(); {
			select {
			case c <- struct{}{}:
			default: // the last one has not been seen to yet
			}
		}
	}()
	return c
}

// console is a slog.Handler for people: a line for each record, and below it the first calls of a stack.
// As a Writer it prints between two records.
type console struct {
	level slog.Level

	mu  sync.Mutex // guards out
	out io.Writer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *console) Enabled(_ context.Context, level slog.Level) bool { return level >= c.level }

func (c *console) Handle(_ context.Context, r slog.Record) error {
	var (
		b     strings.Builder
		stack []string
	)
	fmt.Fprintf(&b, "%s %-5v %-30s", r.Time.Format("15:04:05.000"), r.Level, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		if calls, ok := a.Value.Any().([]string); ok && a.Key == "stack" {
			stack = calls
			return true
		}
		value := a.Value.String()
		switch {
		case strings.Contains(value, `"`) && strconv.CanBackquote(value):
			value = "`" + value + "`"
		case strings.ContainsAny(value, " \"\n"):
			value = strconv.Quote(value)
		}
		fmt.Fprintf(&b, " %s=%s", a.Key, value)
		return true
	})
	b.WriteByte('\n')
	const most = 4
	for _, call := range stack[:min(most, len(stack))] {
		fmt.Fprintf(&b, "             | %s\n", call)
	}
	_, err := io.WriteString(c, b.String())
	return err
}

// WithAttrs and WithGroup are not needed here: neither taskmanager nor this program calls them.
func (c *console) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *console) WithGroup(string) slog.Handler      { return c }
