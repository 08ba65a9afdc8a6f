package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/bench/report"
	"github.com/go-taskmanager/taskmanager/lease"
)

// spread is what becomes of many names on some replicas, from their start to the death of one. It waits for rest before it counts what they
// ask for while nothing happens: a connection that listens to notifications counts the transactions in which it gets them when it is
// asked something the next time, which the engine does each 30 s.
func spread(ttl time.Duration, replicas, names int, rest, during time.Duration) work {
	each := func(n int) float64 { return float64(names) / float64(n) }
	beat := beatOf(ttl)
	beats := float64(replicas) / beat.Seconds()
	return work{
		name:  fmt.Sprintf("spread/%dx%d", replicas, names),
		title: fmt.Sprintf("%s names on %d replicas, TTL %v", report.Thousands(names), replicas, ttl),
		about: fmt.Sprintf("A lease.Spread on each replica. Settled: when the last body has begun that does before two beats without one. "+
			"Claims: by the tokens in the database. The replicas are in one process, but for the one that is killed. Transactions, of which "+
			"each is one statement: by pg_stat_database, within %v. For comparison, a renewal of each lease at each beat (%v) would be %s "+
			"a second.", during, beat, perSecond.write(float64(names)/beat.Seconds())),
		sides: []side{onPostgres}, rows: true, rounds: 3,
		measures: []measure{
			{key: "start settled", title: "all start: settled after", unit: nanoseconds},
			{key: "start claims", title: fmt.Sprintf("claims; the least is %s", report.Thousands(names)), unit: count},
			{key: "share", title: fmt.Sprintf("the largest share, of the mean, %s", report.Digits(each(replicas))), unit: times},
			{key: "steady", title: "nothing happens: transactions a second", unit: perSecond},
			{key: "join settled", title: "one joins: settled after", unit: nanoseconds},
			{key: "join claims", title: fmt.Sprintf("claims; an even share is %s", report.Digits(each(replicas+1))), unit: count},
			{key: "join elsewhere", title: "of these, not by the one that joins", unit: count},
			{key: "leave settled", title: "it stops: settled after", unit: nanoseconds},
			{key: "leave claims", title: "claims", unit: count},
			{key: "leave others", title: "of these, of names that it did not have", unit: count},
			{key: "death settled", title: "one is killed: settled after", unit: nanoseconds},
			{key: "death claims", title: "claims", unit: count},
			{key: "death others", title: "of these, of names that it did not have", unit: count},
		},
		targets: []target{
			{"share", "the largest share", 1.2},
			{"steady", "transactions a second, two for each replica and beat", 2 * beats},
			{"join claims", "claims when one joins", 1.1 * each(replicas+1)},
			{"leave claims", "claims when it stops", 1.1 * each(replicas+1)},
			{"death claims", "claims when one is killed", 1.1 * each(replicas+1)},
			{"death settled", "until all run after that, a TTL and two beats", float64(ttl + 2*beat)},
		},
		run: func(ctx context.Context, b *servers, one side) (values, error) {
			at, err := b.newPlace(ctx, one)
			if err != nil {
				return nil, err
			}
			s := &spreading{
				servers: b, ledger: newLedger(names), rest: rest, during: during,
				order: order{Side: one.name, Replicas: 1, Leases: names, TTL: ttl, Spread: true, Place: at},
			}
			v, err := s.run(ctx, replicas)
			return v, errors.Join(err, s.close(s.replicas))
		},
	}
}

// A ledger is what the bodies of a process say. Its methods may be called by several goroutines at once.
type ledger struct {
	running atomic.Int64
	last    atomic.Int64 // when a body began last, by clock
	names   []string
}

func newLedger(n int) *ledger {
	l := &ledger{}
	for i := range n {
		l.names = append(l.names, leaseName(i))
	}
	return l
}

// A spreadReplica is an ourReplica with a Spread.
type spreadReplica struct {
	*ourReplica
	began   atomic.Int64 // bodies
	running atomic.Int64 // bodies
}

func newSpreadReplica(newEngine engineFunc, o order, i int, l *ledger, say func(what happening)) (*spreadReplica, error) {
	r, err := newReplica(newEngine, o, i)
	if err != nil {
		return nil, err
	}
	x := &spreadReplica{ourReplica: r}
	s, err := lease.NewSpread(r.engine, func(string) taskmanager.TaskFunc { return x.body(l, say) }, taskmanager.WithStopTimeout(o.grace()))
	if err == nil {
		err = s.SetNames(l.names)
	}
	if err == nil {
		_, err = r.manager.StartTask("spread", s.Group())
	}
	if err != nil {
		return nil, errors.Join(err, r.close())
	}
	return x, nil
}

// body returns that of the task of a name.
func (r *spreadReplica) body(l *ledger, say func(what happening)) taskmanager.TaskFunc {
	return func(ctx context.Context) error {
		l.running.Add(1)
		r.running.Add(1)
		r.began.Add(1)
		l.last.Store(int64(clock()))
		say(began)
		<-ctx.Done()
		r.running.Add(-1)
		l.running.Add(-1)
		return nil
	}
}

// A spreading is one round of the work.
type spreading struct {
	servers  *servers
	ledger   *ledger
	order    order
	rest     time.Duration
	during   time.Duration
	replicas []*spreadReplica // that are in this process, and have not been closed
}

func (s *spreading) run(ctx context.Context, replicas int) (values, error) {
	v := values{}
	begun := clock()
	for range replicas {
		if _, err := s.add(); err != nil {
			return nil, err
		}
	}
	claims, err := s.settled(ctx, v, "start", begun, 0, func() bool { return s.ledger.running.Load() == s.all() })
	if err != nil {
		return nil, err
	}
	v["share"] = s.share()
	err = pause(ctx, s.rest)
	if err != nil {
		return nil, err
	}
	rates, err := s.servers.rates(ctx, onPostgres, s.order.Place, s.during)
	if err != nil {
		return nil, err
	}
	v["steady"] = rates["all"]

	had := s.ledger.running.Load()
	begun = clock()
	last, err := s.add()
	if err != nil {
		return nil, err
	}
	claims, err = s.settled(ctx, v, "join", begun, claims, func() bool { return last.running.Load() > 0 && s.ledger.running.Load() == had })
	if err != nil {
		return nil, err
	}
	v["join elsewhere"] = v["join claims"] - float64(last.began.Load())

	lost := last.running.Load()
	begun = clock()
	s.replicas = slices.DeleteFunc(s.replicas, func(r *spreadReplica) bool { return r == last })
	err = last.close()
	if err != nil {
		return nil, err
	}
	_, err = s.settled(ctx, v, "leave", begun, claims, func() bool { return s.ledger.running.Load() == s.all() })
	if err != nil {
		return nil, err
	}
	v["leave others"] = v["leave claims"] - float64(lost)
	return v, s.death(ctx, v)
}

// death has one more replica join, in a process of its own, and die.
func (s *spreading) death(ctx context.Context, v values) error {
	g, err := startGroup(ctx, s.order, 1)
	if err != nil {
		return err
	}
	defer g.end()
	err = g.awaitBodies(ctx, s.order.TTL, 1)
	if err != nil {
		return err
	}
	err = s.quiet(ctx)
	if err != nil {
		return err
	}
	claims, err := s.claims(ctx)
	if err != nil {
		return err
	}
	lost := s.all() - s.ledger.running.Load()
	begun := clock()
	if err := g.signal(0, syscall.SIGKILL); err != nil {
		return err
	}
	if _, err := s.settled(ctx, v, "death", begun, claims, func() bool { return s.ledger.running.Load() == s.all() }); err != nil {
		return err
	}
	v["death others"] = v["death claims"] - float64(lost)
	return nil
}

func (s *spreading) all() int64 { return int64(len(s.ledger.names)) }

func (s *spreading) add() (*spreadReplica, error) {
	r, err := newSpreadReplica(pgEngine, s.order, len(s.replicas), s.ledger, func(happening) {})
	if err == nil {
		s.replicas = append(s.replicas, r)
	}
	return r, err
}

// share is how much larger the largest share is than the mean one.
func (s *spreading) share() float64 {
	largest := int64(0)
	for _, r := range s.replicas {
		largest = max(largest, r.running.Load())
	}
	return float64(largest) * float64(len(s.replicas)) / float64(s.all())
}

// settled blocks until done, and nothing has begun for two beats, and notes how long that took since begun, without these, and how many
// claims there were since there were that many. It returns how many there are now.
func (s *spreading) settled(
	ctx context.Context, v values, what string, begun time.Duration, before float64, done func() bool,
) (claims float64, err error) {
	const look = 5 * time.Millisecond
	limit := begun + 2*s.order.TTL + patience
	for {
		for !done() {
			if clock() > limit {
				return 0, fmt.Errorf("%s: %w: %d of %d bodies execute", what, errTooLong, s.ledger.running.Load(), s.all())
			}
			err = pause(ctx, look)
			if err != nil {
				return 0, err
			}
		}
		err = s.quiet(ctx)
		if err != nil {
			return 0, err
		}
		if done() {
			break
		}
	}
	if claims, err = s.claims(ctx); err != nil {
		return 0, err
	}
	v[what+" settled"] = float64(time.Duration(s.ledger.last.Load()) - begun)
	v[what+" claims"] = claims - before
	return claims, nil
}

// quiet blocks until no body has begun in this process for two beats.
func (s *spreading) quiet(ctx context.Context) error {
	beats := 2 * beatOf(s.order.TTL)
	for {
		last := s.ledger.last.Load()
		if err := pause(ctx, beats); err != nil {
			return err
		}
		if s.ledger.last.Load() == last {
			return nil
		}
	}
}

// claims is how many claims there were so far.
func (s *spreading) claims(ctx context.Context) (n float64, err error) {
	err = queryAt(ctx, s.order.Place.URL, &n, "SELECT coalesce(sum(token), 0)::float8 FROM tm_lease WHERE pool = $1", s.order.Place.Pool)
	return n, err
}

// close stops the replicas, all at once.
func (s *spreading) close(all []*spreadReplica) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, r := range all {
		wg.Go(func() { errs[i] = r.close() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
