// A user of lease, with an engine of its own.
package main

import (
	"context"
	"log"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
)

// A store keeps leases somewhere.
type store struct{ lease.Store }

func main() {
	engine, err := lease.New(store{}, lease.WithReplica("a"))
	if err != nil {
		log.Fatal(err)
	}
	spread, err := lease.NewSpread(engine, func(string) taskmanager.TaskFunc {
		return func(ctx context.Context) error { <-ctx.Done(); return nil }
	})
	if err != nil {
		log.Fatal(err)
	}
	m, err := taskmanager.New()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := m.StartTask("tenants", spread.Group()); err != nil {
		log.Fatal(err)
	}
	if err := m.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
