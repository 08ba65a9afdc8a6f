// Command lease measures how fast leases of the taskmanager library change hands, and what they cost, beside the leader elections of
// client-go and river, on real servers that it starts itself: PostgreSQL, kube-apiserver and NATS. It writes what it finds to RESULTS.md.
//
//	go run ./bench/lease                   # all of it: half an hour, in which it waits most of the time
//	go run ./bench/lease -quick            # small sizes and short TTLs, in a minute; writes no file
//	go run ./bench/lease -only killed/     # the work, or the work/side, that matches; writes no file
//	go run ./bench/lease -skip spread/     # not that which matches; writes no file
//
// The replicas are further processes of this program, but for those of the spread.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"testing"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

func main() {
	if obeyed, err := obey(os.Stdout); obeyed {
		exitOn(err)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exitOn(host(ctx, func(t testing.TB) error { return program(ctx, t, os.Args[1:], os.Stdout, os.Stderr) }))
}

func exitOn(err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "lease:", err)
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	command string // that does the same again
	quick   bool
	report.Selection
	rounds int
	out    string // a directory; "" writes nothing
}

// program is all of it, with its arguments and outputs. The servers run until the end of t.
func program(ctx context.Context, t testing.TB, args []string, stdout, stderr io.Writer) error {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	r, err := measureAll(ctx, t, s, stderr)
	if err != nil {
		return err
	}
	if s.out == "" {
		_, err := io.WriteString(stdout, r.markdown())
		return err
	}
	return write(s.out, r, stdout)
}

// write writes RESULTS.md in dir, and says so.
func write(dir string, r *results, stdout io.Writer) error {
	file := filepath.Join(dir, "RESULTS.md")
	if err := os.WriteFile(file, []byte(r.markdown()), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "wrote", file)
	return nil
}

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("lease", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&s.quick, "quick", false, "small sizes, short TTLs, one round: shows that everything works")
	flags.IntVar(&s.rounds, "rounds", 0, "how often each side does each work (default 5, with -quick 1)")
	only := flags.String("only", "", "do what matches this `regexp` of work/side, as in killed or spread/postgres")
	skip := flags.String("skip", "", "do not what matches this `regexp` of work/side")
	flags.StringVar(&s.out, "o", "", "the `directory` to write to (default this program's; with -quick, -only or -skip, none)")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.rounds < 0:
		return s, fmt.Errorf("-rounds %d: must be positive", s.rounds)
	case s.rounds == 0 && s.quick:
		s.rounds = 1
	case s.rounds == 0:
		s.rounds = 5
	}
	var err error
	if s.Selection, err = report.Select(*only, *skip); err != nil {
		return s, err
	}
	if s.out == "" && !s.quick && s.IsAll() {
		if s.out, err = report.Source("bench/lease"); err != nil {
			return s, err
		}
	}
	s.command = report.Command("bench/lease", flags)
	return s, nil
}

// errNothingMatches says that -only and -skip leave nothing to do.
var errNothingMatches = errors.New("no work matches -only and -skip")

// measureAll has every side do each work, as often as there are rounds: one after the other, in another order in each round, or all at once
// if they do little but wait.
func measureAll(ctx context.Context, t testing.TB, s settings, progress io.Writer) (*results, error) {
	r := newResults(s)
	for _, w := range works(s.quick) {
		if len(s.doing(w)) > 0 {
			r.works = append(r.works, w)
		}
	}
	if len(r.works) == 0 {
		return nil, errNothingMatches
	}
	b := &servers{t: t}
	for _, w := range r.works {
		for _, one := range s.doing(w) {
			b.start(one.server)
		}
	}
	for round := range s.rounds {
		for _, w := range r.works {
			if w.rounds > 0 && round >= w.rounds {
				continue
			}
			fmt.Fprintf(progress, "round %d of %d: %s\n", round+1, s.rounds, w.name)
			doing := s.doing(w)
			do := w.inTurn
			if w.together {
				do = w.atOnce
			}
			all, err := do(ctx, b, append(doing[round%len(doing):len(doing):len(doing)], doing[:round%len(doing)]...))
			if err != nil {
				return nil, err
			}
			for side, v := range all {
				r.Add(w.name, side, v)
			}
		}
	}
	r.servers = b.versions()
	return r, nil
}

// doing returns the sides that do the work, and shall.
func (s settings) doing(w work) (doing []side) {
	for _, one := range w.sides {
		name := w.name + "/" + one.name
		if s.Has(name) {
			doing = append(doing, one)
		}
	}
	return doing
}
