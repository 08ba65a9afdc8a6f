package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// replicas is how many processes want the lease.
const replicas = 3

var handOverMeasures = []measure{
	{key: "stop", title: "from the stop to the next body", unit: nanoseconds},
	{key: "nobody", title: "nobody works", unit: nanoseconds},
	{key: "both", title: "two work at once", unit: nanoseconds},
}

var handOverTargets = []target{
	{"nobody", "nobody works", float64(200 * time.Millisecond)},
	{"both", "two work at once", 0},
}

const handOverAbout = "Three replicas, each a process; the one that works gets SIGTERM. From the stop to the next body: from the signal " +
	"until the body of another replica begins. Nobody works: from the return of the old body until then. Two work at once: from then until " +
	"the old body returns."

// stopped is a hand-over by a stop.
func stopped(ttl time.Duration, all ...side) work {
	return work{
		name: "stopped/" + ttl.String(), title: fmt.Sprintf("Stopped, with a body that returns at once, TTL %v", ttl),
		about: handOverAbout, measures: handOverMeasures, targets: handOverTargets, sides: all,
		run: func(ctx context.Context, b *servers, one side) (values, error) { return handOver(ctx, b, one, ttl, 0) },
	}
}

// slowly is a hand-over by a stop of a body that takes its time.
func slowly(ttl, linger time.Duration, all ...side) work {
	return work{
		name: "slowly/" + ttl.String(), title: fmt.Sprintf("Stopped, with a body that needs %v to return, TTL %v", linger, ttl),
		about: handOverAbout, measures: handOverMeasures, targets: handOverTargets, sides: all,
		run: func(ctx context.Context, b *servers, one side) (values, error) {
			return handOver(ctx, b, one, ttl, linger)
		},
	}
}

// killed is a hand-over by the end of a process. The sides wait for a TTL, and do that at once.
func killed(ttl time.Duration, all ...side) work {
	return work{
		name: "killed/" + ttl.String(), title: fmt.Sprintf("Killed, TTL %v", ttl),
		about: "Three replicas, each a process; the one that works gets SIGKILL, at any time between two beats: from then until the body of " +
			"another one begins. The sides do it at the same time, on the same servers.",
		measures: []measure{{key: "killed", title: "from the kill to the next body", unit: nanoseconds}}, sides: all, together: true,
		targets: []target{{"killed", "until the next body, a TTL and two beats", float64(ttl + 2*beatOf(ttl))}},
		run:     func(ctx context.Context, b *servers, one side) (values, error) { return takeOver(ctx, b, one, ttl) },
	}
}

// holding returns a group in which one process works, which it returns too. The others wait for it.
func holding(ctx context.Context, b *servers, one side, ttl, linger time.Duration) (g *group, holder int, err error) {
	at, err := b.newPlace(ctx, one)
	if err != nil {
		return nil, 0, err
	}
	g, err = startGroup(ctx, order{Side: one.name, Replicas: 1, Leases: 1, TTL: ttl, Linger: linger, Place: at}, replicas)
	if err != nil {
		return nil, 0, err
	}
	first, err := g.await(ctx, ttl, func(e processEvent) bool { return e.What == began })
	if err == nil {
		// All have seen who works, and some have not just done so: the rest is of any length between two beats.
		err = pause(ctx, time.Second+rand.N(beatOf(ttl)))
	}
	if err != nil {
		g.end()
		return nil, 0, err
	}
	return g, first.from, nil
}

func handOver(ctx context.Context, b *servers, one side, ttl, linger time.Duration) (values, error) {
	g, holder, err := holding(ctx, b, one, ttl, linger)
	if err != nil {
		return nil, err
	}
	defer g.end()
	stop := clock()
	err = g.signal(holder, syscall.SIGTERM)
	if err != nil {
		return nil, err
	}
	next, err := g.await(ctx, ttl, func(e processEvent) bool { return e.from != holder && e.What == began })
	if err != nil {
		return nil, err
	}
	old, err := g.await(ctx, ttl, func(e processEvent) bool { return e.from == holder && e.What == ended })
	if err != nil {
		return nil, err
	}
	if old.At-stop < linger {
		return nil, fmt.Errorf("the body has returned %v after the stop, and not %v", old.At-stop, linger)
	}
	return values{
		"stop":   float64(next.At - stop),
		"nobody": float64(max(0, next.At-old.At)),
		"both":   float64(max(0, old.At-next.At)),
	}, nil
}

func takeOver(ctx context.Context, b *servers, one side, ttl time.Duration) (values, error) {
	g, holder, err := holding(ctx, b, one, ttl, 0)
	if err != nil {
		return nil, err
	}
	defer g.end()
	kill := clock()
	err = g.signal(holder, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	next, err := g.await(ctx, ttl, func(e processEvent) bool { return e.from != holder && e.What == began })
	if err != nil {
		return nil, err
	}
	return values{"killed": float64(next.At - kill)}, nil
}
