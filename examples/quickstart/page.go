package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/dashboard"
)

// startPage starts a task of m that serves a page about the tasks of m, and prints where.
func startPage(m *taskmanager.Manager, address string, out io.Writer) error {
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return err
	}
	if !addr.IP.IsLoopback() {
		return fmt.Errorf("-listen %s is not on loopback: whoever reached the page could stop the tasks", address)
	}
	page, err := dashboard.New(m,
		// Whoever is on this machine may do everything, and nobody else gets here: not even a web site whose name leads to loopback.
		dashboard.WithActions(func(*http.Request, dashboard.Action) error { return nil }),
		dashboard.WithHosts("127.0.0.1", "localhost", "::1"),
	)
	if err != nil {
		return err
	}
	_, err = m.StartTask("dashboard", servePage(page, addr, out))
	return err
}

// servePage returns the body of a task that serves page.
func servePage(page http.Handler, addr *net.TCPAddr, out io.Writer) taskmanager.TaskFunc {
	mux := http.NewServeMux()
	mux.Handle("/debug/tasks/", page)
	return func(ctx context.Context) error {
		listener, err := net.ListenTCP("tcp", addr)
		if err != nil {
			return err
		}
		addr = listener.Addr().(*net.TCPAddr) // of later runs, too, so that an open page finds them
		url := fmt.Sprintf("http://%s/debug/tasks/", addr)
		server := &http.Server{
			Handler: mux, ReadHeaderTimeout: 5 * time.Second,
			// By its context, what somebody does to this very task on the page is known to come from there, and does not wait for itself.
			BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		}
		defer func() { _ = server.Close() }() // what Shutdown has left
		drained := make(chan error, 1)
		context.AfterFunc(ctx, func() {
			timeout, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin-time.Second)
			defer cancel()
			drained <- server.Shutdown(timeout) // also ends the streams by which pages are live
		})
		taskmanager.SetStatus(ctx, "%s", url)
		fmt.Fprintf(out, "Tasks at %s\n", url)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return <-drained
	}
}
