// A user of the root module.
package main

import (
	"context"
	"log"
	"net/http"
	"time"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/health"
)

func main() {
	m, err := taskmanager.New(taskmanager.WithStopTimeout(10 * time.Second))
	if err != nil {
		log.Fatal(err)
	}
	_, err = m.StartTask("consumer", func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}, taskmanager.WithBackoff(time.Second, time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/readyz", health.Ready(m))
	if err := m.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
