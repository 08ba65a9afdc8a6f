// Replicas shows what becomes of tasks with leases when one of three replicas dies, freezes or is stopped.
//
//	go run ./examples/replicas [-postgres URL] [-demo]
//
// It starts three replicas, which are processes of this program, and shows what each of them runs: "digest" on one of them, "poller" on
// two, and a dozen tenants spread over all. The leases are kept in a NATS server within this process; in PostgreSQL, with -postgres or
// DATABASE_URL; or in Kubernetes, in a pod. What the bodies write goes to a resource in this process, which refuses a write whose token
// is smaller than one that it has seen.
//
// Commands on stdin do to a replica what happens to replicas, "kill 1" for example:
//
//	kill     ends it at once, by kill -9
//	freeze   stops it by SIGSTOP, as a virtual machine that is suspended
//	resume   lets it go on, by SIGCONT: what it was about to write is refused, if it was frozen for longer than a TTL
//	stop     ends it as a deployment does: its bodies return, and others begin
//	start    starts it again
//	quit     ends all, as Ctrl-C does
//
// With -demo it does all of that by itself, and ends.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The times of the leases are short, so that one can watch. A service leaves the TTL at its default of 15 s.
const (
	ttl         = 5 * time.Second
	stopTimeout = time.Second
)

// replicas is how many there are. Their numbers begin at 1.
const replicas = 3

func main() {
	if a, ok := assigned(); ok {
		if err := runReplica(a); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var s settings
	flag.StringVar(&s.postgres, "postgres", "", "keep the leases in the PostgreSQL of this `URL`, in tables that are made there; "+
		"without it, $DATABASE_URL is asked, which shows a password to nobody else on this machine")
	flag.BoolVar(&s.demo, "demo", false, "kill, freeze, resume and stop replicas by itself, and end")
	flag.Parse()
	if s.postgres == "" {
		s.postgres = os.Getenv("DATABASE_URL")
	}
	info, err := os.Stdout.Stat()
	s.redraw = err == nil && info.Mode()&os.ModeCharDevice != 0 && !s.demo

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	if err := run(ctx, s, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "replicas:", err)
		os.Exit(1)
	}
}

type settings struct {
	postgres string // empty: Kubernetes in a pod, else NATS
	demo     bool
	redraw   bool // a table, instead of a line for each change
}

// run is the program, from its start to the end of ctx. No replica outlives it.
func run(ctx context.Context, s settings, in io.Reader, out io.Writer) (err error) {
	engine, stopEngine, err := chooseEngine(ctx, s.postgres)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopEngine()) }()
	b := newBoard(out, s.redraw)
	resource := newResource(b.wrote)
	url, stopResource, err := resource.serve()
	if err != nil {
		return err
	}
	defer stopResource()
	b.begin(fmt.Sprintf("Leases are kept in %s. TTL %v, stop timeout %v.", engine.Kind, ttl, stopTimeout))
	defer b.end()
	f := &fleet{board: b, engine: engine, resource: url}
	defer f.quit()
	for n := 1; n <= replicas; n++ {
		if err := f.do(command{"start", n}); err != nil {
			return err
		}
	}
	if s.demo {
		return demo(ctx, f, b)
	}
	return obey(ctx, f, b, in)
}

// obey does what the commands on in say, until one of them is quit, or ctx ends.
func obey(ctx context.Context, f *fleet, b *board, in io.Reader) error {
	b.say("Commands: kill, freeze, resume, stop or start and the number of a replica; quit.")
	asked := lines(in)
	redraw := time.NewTicker(200 * time.Millisecond)
	defer redraw.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-redraw.C:
			b.draw()
		case line := <-asked:
			b.entered()
			c, err := parseCommand(line)
			switch {
			case err != nil:
				b.say("%v", err)
			case c.verb == "quit":
				return nil
			case c.verb != "":
				if err := f.do(c); err != nil {
					b.say("%v", err)
				}
			}
		}
	}
}

// lines sends each line of in. A read from a terminal can't be interrupted: it ends with the process.
func lines(in io.Reader) <-chan string {
	c := make(chan string)
	go func() {
		for s := bufio.NewScanner(in); s.Scan(); {
			c <- s.Text()
		}
	}()
	return c
}
