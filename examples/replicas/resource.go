package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// A resource is what the bodies write to. It knows no lease, and asks no engine: it refuses a write whose token is smaller than the largest
// that it has seen. That is all that is needed to be safe from a replica that was frozen, and it takes the resource to do it.
type resource struct {
	wrote func(write, error) // called for each write, with the error for one that was refused

	mu      sync.Mutex // guards largest
	largest map[string]uint64
}

// A write is what a body writes: for which task, by which token. The replica is for people.
type write struct {
	task    string
	token   uint64
	replica int
}

var errRefused = errors.New("the write was refused")

func newResource(wrote func(write, error)) *resource {
	return &resource{wrote: wrote, largest: map[string]uint64{}}
}

// take takes a write, or returns an error that wraps errRefused.
func (r *resource) take(w write) error {
	err := r.check(w)
	r.wrote(w, err)
	return err
}

func (r *resource) check(w write) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if largest := r.largest[w.task]; w.token < largest {
		return fmt.Errorf("%w: it has token %d, and one with token %d was seen", errRefused, w.token, largest)
	}
	r.largest[w.task] = w.token
	return nil
}

// serve has others write to the resource over HTTP, until stop is called.
func (r *resource) serve() (url string, stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{task}/{token}/{replica}", func(w http.ResponseWriter, q *http.Request) {
		token, err := strconv.ParseUint(q.PathValue("token"), 10, 64)
		number, err2 := strconv.Atoi(q.PathValue("replica"))
		if err = errors.Join(err, err2); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := r.take(write{q.PathValue("task"), token, number}); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	stop = func() {
		_ = server.Close()
		serving.Wait()
	}
	return "http://" + listener.Addr().String(), stop, nil
}

// send sends a write to the resource at a URL, from another process. It is not canceled with ctx, which is that of the body: a write that
// is on its way arrives, as with any database.
func (w write) send(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout/2)
	defer cancel()
	url = fmt.Sprintf("%s/%s/%d/%d", url, w.task, w.token, w.replica)
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusConflict:
		return errRefused
	default:
		return fmt.Errorf("the resource answers %s", answer.Status)
	}
}
