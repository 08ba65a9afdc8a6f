package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-taskmanager/taskmanager"
)

// The tasks of the service. Each call of body is for one task: it counts that task's runs.
var tasks = []struct {
	name string
	body func() taskmanager.TaskFunc
}{
	{"queue consumer", healthy},
	{"price feed", recovering},
	{"importer", panicking},
	{"mailer", failing},
}

// healthy does its work until it is asked to stop.
func healthy() taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		taskmanager.SetStatus(ctx, "waiting for work")
		<-ctx.Done()
		return nil
	}
}

// recovering fails twice, and is healthy then.
func recovering() taskmanager.TaskFunc {
	run := 0
	return func(ctx context.Context) error {
		if run++; run < 3 {
			return fmt.Errorf("dial tcp 192.0.2.%d:443: connect: connection refused", run)
		}
		<-ctx.Done()
		return nil
	}
}

// panicking panics once, over what somebody has sent.
func panicking() taskmanager.TaskFunc {
	run := 0
	return func(ctx context.Context) error {
		if run++; run == 1 {
			parse([]string{"@everyone", "[free](https://example.org)"})
		}
		<-ctx.Done()
		return nil
	}
}

// parse takes for granted that a line has three columns.
func parse(columns []string) string { return columns[2] }

// failing never gets anywhere, until it is given up. What it says could do harm as markup.
func failing() taskmanager.TaskFunc {
	return func(context.Context) error {
		return errors.New("550 no such user: @everyone <@1> [free](https://example.org) ```")
	}
}
