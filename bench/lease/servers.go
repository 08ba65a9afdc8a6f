package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsserver "github.com/nats-io/nats-server/v2/server"

	"github.com/go-taskmanager/taskmanager/lease/kubelease/kubetest"
	"github.com/go-taskmanager/taskmanager/lease/pglease/pgtest"
)

// servers are those that run until the end of t. They are started by the goroutine of t.
type servers struct {
	t    testing.TB
	pg   *pgtest.Server
	kube *kubetest.Server
	nats *natsserver.Server

	kubePlace place

	mu     sync.Mutex
	places int // how many there are
}

// namespace is that of Kubernetes in which everything happens.
const namespace = "bench"

// start starts a server, unless it runs. If it can't be had, t is skipped, or fails, as the packages for tests say.
func (b *servers) start(what server) {
	b.t.Helper()
	switch {
	case what == postgres && b.pg == nil:
		b.pg = pgtest.Start(b.t)
	case what == kubernetes && b.kube == nil:
		b.kube = kubetest.Start(b.t)
		b.kube.Namespace(namespace)
		cfg := b.kube.Config(namespace)
		authority, err := certificate(b.t.Context(), cfg.Host, cfg.TLS)
		b.check(err)
		b.kubePlace = place{URL: cfg.Host, Namespace: namespace, Token: cfg.Token, Authority: authority}
	case what == natsServer && b.nats == nil:
		s, err := natsserver.NewServer(&natsserver.Options{
			Host: "127.0.0.1", Port: -1, StoreDir: b.t.TempDir(), JetStream: true, NoSigs: true, NoLog: true,
		})
		b.check(err)
		s.Start()
		b.t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		if !s.ReadyForConnections(patience) {
			b.check(errors.New("the NATS server is not ready"))
		}
		b.nats = s
	}
}

func (b *servers) check(err error) {
	if err != nil {
		b.t.Helper()
		b.t.Errorf("%v", err)
		b.t.FailNow()
	}
}

// certificate returns that of a server, in PEM. It is its own authority.
func certificate(ctx context.Context, host string, cfg *tls.Config) ([]byte, error) {
	u, err := url.Parse(host)
	if err != nil {
		return nil, err
	}
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	// Dialer says that it is one.
	first := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: first.Raw}), nil
}

// newPlace makes a place for leases where there are none. Several goroutines may call it.
func (b *servers) newPlace(ctx context.Context, one side) (place, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.places++
	p := place{}
	switch one.server {
	case postgres:
		database := fmt.Sprint("bench", b.places)
		u, err := url.Parse(b.pg.URL())
		if err != nil {
			return p, err
		}
		u.Path = "/" + database
		p.URL = u.String()
		if err := b.query(ctx, nil, "CREATE DATABASE "+database); err != nil {
			return p, err
		}
	case kubernetes:
		p = b.kubePlace
	case natsServer:
		p.URL = b.nats.ClientURL()
	}
	p.Pool = fmt.Sprint("pool-", b.places)
	if one.prepare != nil {
		return p, one.prepare(ctx, p)
	}
	return p, nil
}

// query executes a statement on a connection of its own to another database than those of places, and scans its row unless into is nil.
func (b *servers) query(ctx context.Context, into any, sql string, args ...any) error {
	return queryAt(ctx, b.pg.URL(), into, sql, args...)
}

func queryAt(ctx context.Context, at string, into any, sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, at)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if into == nil {
		_, err := conn.Exec(ctx, sql, args...)
		return err
	}
	return conn.QueryRow(ctx, sql, args...).Scan(into)
}

// versions tells which servers have run, for people.
func (b *servers) versions() (all []string) {
	if b.pg != nil {
		var version string
		b.check(b.query(context.Background(), &version, "SHOW server_version"))
		version, _, _ = strings.Cut(version, " ")
		all = append(all, "PostgreSQL "+version+" without fsync")
	}
	if b.kube != nil {
		binary, err := kubetest.Path()
		b.check(err)
		version, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(binary), "kube-apiserver-"), "-")
		all = append(all, "kube-apiserver "+version+" on an etcd of one member without fsync")
	}
	if b.nats != nil {
		all = append(all, "nats-server v"+natsserver.VERSION+" with one file store")
	}
	return all
}

// pause blocks for d, or until ctx ends, and returns its cause then.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
