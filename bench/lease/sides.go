package main

import (
	"context"
	"errors"
)

// A server is what leases are kept in.
type server int

const (
	postgres server = iota
	kubernetes
	natsServer
)

// String returns what people call the server.
func (s server) String() string { return [...]string{"PostgreSQL", "Kubernetes", "NATS"}[s] }

// A side is one of those that are compared.
type side struct {
	name   string
	server server
	ours   bool
	// prepare makes what replicas need that don't make it themselves; nil: nothing.
	prepare func(ctx context.Context, p place) error
	// replicas carries out an order until ctx ends; then it stops as a service would.
	replicas func(ctx context.Context, o order, say func(what happening)) error
}

// ours are the engines of the library.
var (
	onPostgres   = side{name: "postgres", server: postgres, ours: true, prepare: migrate, replicas: ours(pgEngine)}
	onKubernetes = side{name: "kubernetes", server: kubernetes, ours: true, replicas: ours(kubeEngine)}
	onNATS       = side{name: "nats", server: natsServer, ours: true, replicas: ours(natsEngine)}
)

// The peers, in each way in which people use them.
var (
	clientGo        = side{name: "client-go", server: kubernetes, replicas: elect(keeping)}
	clientGoRelease = side{name: "client-go-release", server: kubernetes, replicas: elect(releasing)}
	clientGoAfter   = side{name: "client-go-release-after", server: kubernetes, replicas: elect(releasingAfter)}
	riverElected    = side{name: "river-elected", server: postgres, prepare: migrateRiver, replicas: river(electedByLog)}
	riverJob        = side{name: "river-job", server: postgres, prepare: migrateRiver, replicas: river(periodicJob)}
)

// sides are listed in the order of the tables.
var sides = []side{onPostgres, onKubernetes, onNATS, clientGo, clientGoRelease, clientGoAfter, riverElected, riverJob}

// titles are what the tables call them.
var titles = map[string]string{
	onPostgres.name:      "**taskmanager**, PostgreSQL",
	onKubernetes.name:    "**taskmanager**, Kubernetes",
	onNATS.name:          "**taskmanager**, NATS",
	clientGo.name:        "client-go",
	clientGoRelease.name: "client-go, ReleaseOnCancel",
	clientGoAfter.name:   "client-go, ReleaseOnCancel, canceled after the work",
	riverElected.name:    "river, election",
	riverJob.name:        "river, periodic job",
}

func sideByName(name string) (side, bool) {
	for _, s := range sides {
		if s.name == name {
			return s, true
		}
	}
	return side{}, false
}

// errTooLong says that something did not happen that should have.
var errTooLong = errors.New("it takes too long")
