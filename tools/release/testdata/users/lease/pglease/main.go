// A user of pglease.
package main

import (
	"context"
	"log"
	"time"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease/pglease"
)

func main() {
	cfg := pglease.Config{ConnString: "postgres://localhost/billing"}
	if err := pglease.Migrate(context.Background(), cfg.ConnString); err != nil {
		log.Fatal(err)
	}
	engine, err := pglease.New(cfg, "billing")
	if err != nil {
		log.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = engine.Close(ctx)
	}()
	m, err := taskmanager.New()
	if err != nil {
		log.Fatal(err)
	}
	_, err = m.StartTask("digest", func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}, taskmanager.WithLease(engine.Lease("digest")))
	if err != nil {
		log.Fatal(err)
	}
	if err := m.Run(context.Background()); err != nil {
		log.Print(err)
	}
}
