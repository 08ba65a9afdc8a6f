// Discordbot is a service whose failures show in a channel of Discord.
//
//	go run ./examples/discordbot [-for 10s]
//
// It reports as a bot if DISCORD_BOT_TOKEN and DISCORD_CHANNEL_ID are set in the environment, and
// through a webhook if DISCORD_WEBHOOK_URL is. Without either it starts a fake Discord on loopback
// and prints what its channel shows. Ctrl-C ends it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/go-taskmanager/taskmanager"
)

// stopWithin is how long Ctrl-C may take.
const stopWithin = 3 * time.Second

func main() {
	s := settings{
		token: os.Getenv("DISCORD_BOT_TOKEN"), channel: os.Getenv("DISCORD_CHANNEL_ID"),
		webhook:      os.Getenv("DISCORD_WEBHOOK_URL"),
		initialDelay: time.Second,
	}
	flag.DurationVar(&s.lasts, "for", 0, "end after this time; 0 is for Ctrl-C alone")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	if err := run(ctx, s, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "discordbot:", err)
		os.Exit(1)
	}
}

type settings struct {
	token, channel string // of a bot
	webhook        string
	lasts          time.Duration
	initialDelay   time.Duration // before the first restart
}

// run is the service, from its start to the end of ctx.
func run(ctx context.Context, s settings, out io.Writer) error {
	if s.lasts < 0 {
		return errors.New("-for must not be negative")
	}
	p := &printer{out: out}
	reporter, err := remote(s)
	if err != nil {
		return err
	}
	afterReports := func() error { return nil }
	if reporter == nil {
		local, r, localErr := startLocalDiscord(p)
		if localErr != nil {
			return localErr
		}
		reporter, afterReports = r, local.stop
		fmt.Fprintln(p, "There is no DISCORD_… variable. This is what the channel of a local fake shows:")
	}

	m, err := taskmanager.New(
		taskmanager.WithName("shop"),
		taskmanager.WithReporter(reporter),
		taskmanager.WithLogger(slog.New(slog.NewTextHandler(p, &slog.HandlerOptions{Level: slog.LevelError}))),
		taskmanager.WithMaxRestarts(3), // within a minute; what fails once more is given up
		taskmanager.WithBackoff(s.initialDelay, 10*time.Second),
		taskmanager.WithHealthyAfter(4*s.initialDelay), // soon, so that what recovers is seen to
		taskmanager.WithStopTimeout(stopWithin),
	)
	if err != nil {
		return errors.Join(err, afterReports())
	}
	for _, t := range tasks {
		if _, err = m.StartTask(t.name, t.body()); err != nil {
			break
		}
	}
	if err == nil {
		if s.lasts > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, s.lasts)
			defer cancel()
		}
		<-ctx.Done()
	}
	asks := time.Now()
	deadline, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	err = errors.Join(err, m.Shutdown(deadline))
	took := time.Since(asks)
	if err = errors.Join(err, afterReports()); err == nil {
		fmt.Fprintf(p, "\nAll tasks have ended and all reports are delivered, %v after they were asked to.\n", took.Round(time.Microsecond))
	}
	return err
}

// A printer is a Writer for several goroutines.
type printer struct {
	mu  sync.Mutex // guards out
	out io.Writer
}

func (p *printer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}
