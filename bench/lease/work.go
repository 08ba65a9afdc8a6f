package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

// A unit says how a value is written.
type unit int

const (
	nanoseconds unit = iota
	perSecond
	count
	times
)

// A measure is one of the values that a piece of work yields.
type measure struct {
	key   string
	title string
	unit  unit
}

// A target is what the library is to reach, in each round.
type target struct {
	key   string // of a measure
	title string
	most  float64
}

// values are those of one side in one round, by the key of their measure.
type values = report.Values

// A work is something that some sides do.
type work struct {
	name     string
	title    string
	about    string // how it is measured
	sides    []side
	together bool // the sides do it at the same time, as they do little but wait
	rounds   int  // how often at most, as it is about the same each time; 0: as often as the others
	measures []measure
	rows     bool     // the table has a row for each measure
	targets  []target // of the library
	run      func(ctx context.Context, b *servers, one side) (values, error)
}

// works returns all of them. Quick ones are small: they show that everything works, and their values mean little.
func works(quick bool) []work {
	if quick {
		return []work{
			stopped(quickTTL, onPostgres, onKubernetes, onNATS, clientGo, clientGoRelease, clientGoAfter, riverElected, riverJob),
			slowly(quickTTL, quickTTL*3/10, onPostgres, onKubernetes, onNATS, clientGo, clientGoRelease, clientGoAfter, riverJob),
			killed(quickTTL, onPostgres, onKubernetes, onNATS, clientGo),
			steady(quickTTL, 3, 20, 2*quickTTL, onPostgres, onKubernetes, onNATS, clientGo),
			spread(quickTTL, 4, 500, quickTTL, 2*quickTTL),
		}
	}
	return []work{
		stopped(defaultTTL, onPostgres, onKubernetes, onNATS, clientGo, clientGoRelease, clientGoAfter, riverElected, riverJob),
		slowly(defaultTTL, 1500*time.Millisecond, onPostgres, onKubernetes, onNATS, clientGo, clientGoRelease, clientGoAfter, riverJob),
		killed(defaultTTL, onPostgres, onKubernetes, onNATS, clientGo, riverElected, riverJob),
		killed(shortTTL, onPostgres, onKubernetes, onNATS, clientGo),
		steady(defaultTTL, 20, 100, defaultTTL, onPostgres, onKubernetes, onNATS, clientGo),
		spread(defaultTTL, 20, 10_000, 32*time.Second, 2*defaultTTL),
	}
}

// beatOf is the beat of the library, which is the default for this TTL.
func beatOf(ttl time.Duration) time.Duration { return ttl / 5 }

const (
	defaultTTL = 15 * time.Second // of the library, of the components of Kubernetes, and of river
	shortTTL   = 5 * time.Second
	quickTTL   = 3 * time.Second
)

// inTurn has the sides do the work one after the other, in that order.
func (w work) inTurn(ctx context.Context, b *servers, all []side) (map[string]values, error) {
	yielded := make(map[string]values)
	for _, one := range all {
		v, err := w.run(ctx, b, one)
		if err != nil {
			return nil, fmt.Errorf("%s by %s: %w", w.name, one.name, err)
		}
		yielded[one.name] = v
	}
	return yielded, nil
}

// atOnce has the sides do the work at the same time.
func (w work) atOnce(ctx context.Context, b *servers, all []side) (map[string]values, error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	yielded := make(map[string]values)
	var errs []error
	for _, one := range all {
		wg.Go(func() {
			v, err := w.run(ctx, b, one)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("%s by %s: %w", w.name, one.name, err))
			}
			yielded[one.name] = v
		})
	}
	wg.Wait()
	return yielded, errors.Join(errs...)
}
