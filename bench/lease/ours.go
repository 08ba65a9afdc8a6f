package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/lease"
	"github.com/go-taskmanager/taskmanager/lease/kubelease"
	"github.com/go-taskmanager/taskmanager/lease/natslease"
	"github.com/go-taskmanager/taskmanager/lease/pglease"
)

// An engineFunc makes an engine at a place, and a func that ends what it needs, for after the engine.
type engineFunc func(p place, opts ...lease.Option) (e *lease.Engine, end func(), err error)

func pgEngine(p place, opts ...lease.Option) (*lease.Engine, func(), error) {
	e, err := pglease.New(pglease.Config{ConnString: p.URL}, p.Pool, opts...)
	if err != nil {
		return nil, nil, err
	}
	return e.Engine, func() {}, nil
}

func migrate(ctx context.Context, p place) error { return pglease.Migrate(ctx, p.URL) }

func kubeEngine(p place, opts ...lease.Option) (*lease.Engine, func(), error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.Authority)
	e, err := kubelease.New(kubelease.Config{
		Host: p.URL, Namespace: p.Namespace, Token: p.Token,
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
	}, p.Pool, opts...)
	return e, func() {}, err
}

func natsEngine(p place, opts ...lease.Option) (*lease.Engine, func(), error) {
	conn, err := nats.Connect(p.URL, nats.MaxReconnects(-1))
	if err != nil {
		return nil, nil, err
	}
	e, err := natslease.New(natslease.Config{Conn: conn}, p.Pool, opts...)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return e, conn.Close, nil
}

// ours returns replicas of tasks with leases.
func ours(newEngine engineFunc) func(ctx context.Context, o order, say func(what happening)) error {
	return func(ctx context.Context, o order, say func(what happening)) error {
		if o.Spread {
			r, err := newSpreadReplica(newEngine, o, 0, newLedger(o.Leases), say)
			if err != nil {
				return err
			}
			say(started)
			<-ctx.Done()
			return r.close()
		}
		body := func(ctx context.Context) error {
			say(began)
			<-ctx.Done()
			time.Sleep(o.Linger)
			say(ended)
			return nil
		}
		all := make([]*ourReplica, o.Replicas)
		for i := range all {
			r, err := newReplica(newEngine, o, i)
			if err != nil {
				return err
			}
			all[i] = r
			for j := range o.Leases {
				name := leaseName(j)
				_, err := r.manager.StartTask(name, body, taskmanager.WithLease(r.engine.Lease(name)), taskmanager.WithStopTimeout(o.grace()))
				if err != nil {
					return err
				}
			}
		}
		say(started)
		<-ctx.Done()
		var errs []error
		for _, r := range all {
			errs = append(errs, r.close())
		}
		return errors.Join(errs...)
	}
}

func leaseName(i int) string { return fmt.Sprintf("job-%05d", i) }

// grace is the stop timeout of the tasks: that of the default, if the TTL is.
func (o order) grace() time.Duration { return o.TTL / 3 }

// An ourReplica is what a service makes of the library.
type ourReplica struct {
	engine  *lease.Engine
	end     func()
	manager *taskmanager.Manager
}

func newReplica(newEngine engineFunc, o order, i int) (*ourReplica, error) {
	quiet := slog.New(slog.DiscardHandler)
	e, end, err := newEngine(o.Place, lease.WithTTL(o.TTL), lease.WithReplica(fmt.Sprint("replica-", i)), lease.WithLogger(quiet))
	if err != nil {
		return nil, err
	}
	m, err := taskmanager.New(taskmanager.WithLogger(quiet))
	if err != nil {
		end()
		return nil, err
	}
	return &ourReplica{engine: e, end: end, manager: m}, nil
}

// close stops the replica, in the order that the documentation gives.
func (r *ourReplica) close() error {
	defer r.end()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return errors.Join(r.manager.Shutdown(ctx), r.engine.Close(ctx))
}
