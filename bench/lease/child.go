package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// An order is what a child process is told to be, in its environment: replicas of a side, until it gets SIGTERM. It is killed by the end
// of its standard input, and so with the process that has started it.
type order struct {
	Side     string
	Replicas int           // in this process
	Leases   int           // each replica wants all of them
	Spread   bool          // they are names of a lease.Spread
	TTL      time.Duration // and all else in proportion; the default of the side if that can't be set
	Linger   time.Duration // how long a body takes to return once it has been stopped
	Place    place
}

// A place is where the leases are. It holds what a side needs, and the rest is zero.
type place struct {
	URL       string // of the server, or of the database
	Pool      string // what replicas of one group share, and no others
	Namespace string // of Kubernetes
	Token     string
	Authority []byte // the certificate that the server's is to be checked by, in PEM
}

// An event is what a child process says, as a line of JSON.
type event struct {
	What happening
	At   time.Duration // of clock
}

type happening string

const (
	started happening = "started" // all of its replicas wait for their leases
	began   happening = "began"   // a body
	ended   happening = "ended"   // a body
)

const orderVariable = "TASKMANAGER_BENCH_LEASE_ORDER"

// obey carries out the order that this process was started with, if there is one, and returns whether there was. What happens goes to w.
func obey(w io.Writer) (bool, error) {
	text, ok := os.LookupEnv(orderVariable)
	if !ok {
		return false, nil
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return true, fmt.Errorf("%s: %w", orderVariable, err)
	}
	one, ok := sideByName(o.Side)
	if !ok {
		return true, fmt.Errorf("there is no side %q", o.Side)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	var mu sync.Mutex
	return true, one.replicas(ctx, o, func(what happening) {
		line, err := json.Marshal(event{what, clock()})
		if err != nil {
			panic(err) // it can be written
		}
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, "%s\n", line)
	})
}
