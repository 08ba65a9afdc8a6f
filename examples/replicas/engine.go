package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/kubelease"
	"github.com/go-taskmanager/taskmanager/lease/natslease"
	"github.com/go-taskmanager/taskmanager/lease/pglease"
)

// A choice is of the engine that all replicas use.
type choice struct {
	Kind string // inNATS, inPostgres or inKubernetes
	URL  string // of the server; empty for Kubernetes
}

const (
	inNATS       = "NATS, in this process"
	inPostgres   = "PostgreSQL"
	inKubernetes = "Kubernetes"
)

// chooseEngine chooses an engine, and sees to it that replicas can use it, until stop is called.
func chooseEngine(ctx context.Context, postgres string) (c choice, stop func() error, err error) {
	switch {
	case postgres != "":
		migrating, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return choice{inPostgres, postgres}, func() error { return nil }, pglease.Migrate(migrating, postgres)
	case os.Getenv("KUBERNETES_SERVICE_HOST") != "":
		_, err := kubelease.InCluster() // each replica asks that again, but here the error is seen
		return choice{Kind: inKubernetes}, func() error { return nil }, err
	default:
		url, stop, err := startNATS()
		return choice{inNATS, url}, stop, err
	}
}

// startNATS runs a NATS server in this process, whose files are in a directory that stop removes.
func startNATS() (url string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "replicas-nats-")
	if err != nil {
		return "", nil, err
	}
	remove := func() error { return os.RemoveAll(dir) }
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		return "", nil, errors.Join(err, remove())
	}
	s.Start()
	stop = func() error {
		s.Shutdown()
		s.WaitForShutdown()
		return remove()
	}
	if !s.ReadyForConnections(10 * time.Second) {
		return "", nil, errors.Join(errors.New("the NATS server has not started within 10 s"), stop())
	}
	return s.ClientURL(), stop, nil
}

// connect returns a func that makes an engine for a pool. disconnect is called after the engines have been closed.
func (c choice) connect() (newEngine func(pool string, opts ...lease.Option) (*lease.Engine, error), disconnect func(), err error) {
	disconnect = func() {}
	switch c.Kind {
	case inNATS:
		nc, err := nats.Connect(c.URL, nats.MaxReconnects(-1))
		if err != nil {
			return nil, nil, err
		}
		return func(pool string, opts ...lease.Option) (*lease.Engine, error) {
			return natslease.New(natslease.Config{Conn: nc}, pool, opts...)
		}, nc.Close, nil
	case inPostgres:
		return func(pool string, opts ...lease.Option) (*lease.Engine, error) {
			e, err := pglease.New(pglease.Config{ConnString: c.URL}, pool, opts...)
			if err != nil {
				return nil, err
			}
			return e.Engine, nil
		}, disconnect, nil
	case inKubernetes:
		cfg, err := kubelease.InCluster()
		if err != nil {
			return nil, nil, err
		}
		return func(pool string, opts ...lease.Option) (*lease.Engine, error) {
			return kubelease.New(cfg, pool, opts...)
		}, disconnect, nil
	}
	return nil, nil, fmt.Errorf("there is no engine %q", c.Kind)
}
