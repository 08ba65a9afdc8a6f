package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// An order is what a child process is told to do, in its environment.
type order struct {
	Work, Side string
	Quick      bool
}

const orderVariable = "TASKMANAGER_BENCH_ORDER"

// obey carries out the order that this process was started with, if there is one, and returns
// whether there was. The values go to w.
func obey(w io.Writer) (bool, error) {
	text, ok := os.LookupEnv(orderVariable)
	if !ok {
		return false, nil
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return true, fmt.Errorf("%s: %w", orderVariable, err)
	}
	v, err := o.execute()
	if err != nil {
		return true, err
	}
	return true, json.NewEncoder(w).Encode(v)
}

// execute does the work in this process.
func (o order) execute() (values, error) {
	w, ok := workByName(o.Quick, o.Work)
	if !ok {
		return nil, fmt.Errorf("there is no work %q", o.Work)
	}
	s, ok := sideByName(o.Side)
	if !ok {
		return nil, fmt.Errorf("there is no side %q", o.Side)
	}
	goroutines := runtime.NumGoroutine()
	v, err := w.run(s.make)
	if err == nil {
		err = settle(goroutines) // the next work in this process, if there is one, counts goroutines, too
	}
	if err != nil {
		return nil, fmt.Errorf("%s by %s: %w", o.Work, o.Side, err)
	}
	return v, nil
}

// delegate has the order executed by a process of its own, so that nothing of the work before is
// left in the heap or in the runtime's caches.
func (o order) delegate(ctx context.Context) (values, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return o.delegateTo(ctx, program)
}

// delegateTo is delegate to another build of this program.
func (o order) delegateTo(ctx context.Context, program string) (values, error) {
	const timeout = 10 * time.Minute // the longest takes one on an idle machine
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	child := exec.CommandContext(ctx, program)
	child.Env = append(os.Environ(), orderVariable+"="+string(text))
	child.Stdout, child.Stderr = &stdout, &stderr
	if err := child.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s by %s: %w\n%s", o.Work, o.Side, err, stderr.Bytes())
	}
	var v values
	if err := json.Unmarshal(stdout.Bytes(), &v); err != nil {
		return nil, fmt.Errorf("%s by %s wrote %q: %w", o.Work, o.Side, stdout.Bytes(), err)
	}
	return v, nil
}
