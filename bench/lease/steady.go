package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// steady is what replicas ask of the server while nothing happens. Each of them wants each of the leases.
func steady(ttl time.Duration, replicas, leases int, during time.Duration, all ...side) work {
	return work{
		name:  fmt.Sprintf("steady/%dx%d", replicas, leases),
		title: fmt.Sprintf("%d replicas that want %d leases each, TTL %v, while nothing happens", replicas, leases, ttl),
		about: fmt.Sprintf("Within %v. PostgreSQL: transactions, of which each is one statement, by pg_stat_database. Kubernetes: requests for "+
			"Lease objects, by the metrics of the API server, without those that it makes itself. NATS: messages that clients have sent. "+
			"The replicas are in one process.", during),
		measures: []measure{
			{key: "all", title: "a second", unit: perSecond},
			{key: "writes", title: "of these, writes", unit: perSecond},
		},
		sides: all, rounds: 3,
		run: func(ctx context.Context, b *servers, one side) (values, error) {
			return askSteadily(ctx, b, one, order{Side: one.name, Replicas: replicas, Leases: leases, TTL: ttl}, during)
		},
	}
}

func askSteadily(ctx context.Context, b *servers, one side, o order, during time.Duration) (values, error) {
	var err error
	if o.Place, err = b.newPlace(ctx, one); err != nil {
		return nil, err
	}
	idle := values{}
	if one.server == kubernetes { // it has leases of its own
		if idle, err = b.rates(ctx, one, o.Place, during); err != nil {
			return nil, err
		}
	}
	g, err := startGroup(ctx, o, 1)
	if err != nil {
		return nil, err
	}
	defer g.end()
	err = g.awaitBodies(ctx, o.TTL, o.Leases)
	if err != nil {
		return nil, err
	}
	err = pause(ctx, o.TTL/2)
	if err != nil { // until it is quiet
		return nil, err
	}
	v, err := b.rates(ctx, one, o.Place, during)
	if err != nil {
		return nil, err
	}
	for key := range v {
		v[key] -= idle[key]
	}
	return v, nil
}

// rates is how many requests a second the server gets meanwhile.
func (b *servers) rates(ctx context.Context, one side, at place, during time.Duration) (values, error) {
	before, err := b.requests(ctx, one, at)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	err = pause(ctx, during)
	if err != nil {
		return nil, err
	}
	after, err := b.requests(ctx, one, at)
	if err != nil {
		return nil, err
	}
	took := time.Since(begun).Seconds()
	for key := range after {
		after[key] = (after[key] - before[key]) / took
	}
	return after, nil
}

// requests is how many requests the server has got so far.
func (b *servers) requests(ctx context.Context, one side, at place) (values, error) {
	switch one.server {
	case postgres:
		n, err := b.transactions(ctx, at)
		return values{"all": n}, err
	case kubernetes:
		code, text := b.kube.Do(http.MethodGet, "/metrics", "")
		if code != http.StatusOK {
			return nil, fmt.Errorf("metrics: status %d", code)
		}
		return leaseRequests(string(text))
	default:
		z, err := b.nats.Varz(&natsserver.VarzOptions{})
		if err != nil {
			return nil, err
		}
		return values{"all": float64(z.InMsgs)}, nil
	}
}

// transactions is how many were committed in the database of a place.
func (b *servers) transactions(ctx context.Context, at place) (n float64, err error) {
	u, err := url.Parse(at.URL)
	if err != nil {
		return 0, err
	}
	err = b.query(ctx, &n, "SELECT xact_commit FROM pg_stat_database WHERE datname = $1", strings.TrimPrefix(u.Path, "/"))
	return n, err
}

// leaseRequests sums up the metrics of an API server that are about Lease objects.
func leaseRequests(metrics string) (values, error) {
	v := values{"all": 0, "writes": 0}
	lines := bufio.NewScanner(strings.NewReader(metrics))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "apiserver_request_total{") || !strings.Contains(line, `resource="leases"`) {
			continue
		}
		n, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		v["all"] += n
		for _, verb := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			if strings.Contains(line, `verb="`+verb+`"`) {
				v["writes"] += n
			}
		}
	}
	return v, lines.Err()
}
