// Command bench does the same work with the taskmanager library, with other libraries and with what
// one writes by hand, side by side, and writes down what it took: in RESULTS.md and in a chart.
//
//	go run ./bench                 # all of it; some minutes on two cores
//	go run ./bench -quick          # small sizes, in seconds; writes no files
//	go run ./bench -only storm     # the work, or the work/side, that matches; writes no files
//	go run ./bench -skip chain     # not that which matches; writes no files
//	go run ./bench -soak 10m       # a storm of the library alone, for that long
//	go run ./bench -compare DIR    # the library beside another version of it, in DIR; writes no files
//
// The processes that do the work are further ones of this program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/go-taskmanager/taskmanager/bench/report"
)

func main() {
	if obeyed, err := obey(os.Stdout); obeyed {
		exitOn(err)
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exitOn(program(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func exitOn(err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are what the flags say.
type settings struct {
	command string // that does the same again
	quick   bool
	report.Selection
	rounds  int
	soak    time.Duration
	compare string // the directory of another version of the root module
	out     string // a directory; "" writes nothing
}

// program is all of it, with its arguments and outputs.
func program(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if s.soak > 0 {
		return soakAndWrite(ctx, s, stdout, stderr)
	}
	if s.compare != "" {
		return compareVersions(ctx, s, stdout, stderr)
	}
	r, err := measureAll(ctx, s, stderr)
	if err != nil {
		return err
	}
	text := r.markdown()
	if s.out == "" {
		_, err := io.WriteString(stdout, text)
		return err
	}
	if err := writeChart(s.out, r); err != nil {
		return err
	}
	return writePart(s.out, comparison, text, stdout)
}

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&s.quick, "quick", false, "small sizes, one round: shows that everything works")
	flags.IntVar(&s.rounds, "rounds", 0, "how often each side does each work (default 3, with -compare 5, with -quick 1)")
	flags.DurationVar(&s.soak, "soak", 0, "instead: a storm of the library alone, for that `long`")
	flags.StringVar(&s.compare, "compare", "", "instead: the library beside the version whose root module is in that `directory`")
	only := flags.String("only", "", "do what matches this `regexp` of work/side, as in storm or churn/floor")
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
	case s.soak < 0:
		return s, fmt.Errorf("-soak %v: must be positive", s.soak)
	case s.soak > 0 && (s.quick || *only != "" || *skip != "" || s.rounds > 0):
		return s, errors.New("-soak goes with -o alone")
	case s.compare != "" && (s.soak > 0 || s.out != ""):
		return s, errors.New("-compare goes neither with -soak nor with -o")
	case s.rounds == 0 && s.quick:
		s.rounds = 1
	case s.rounds == 0 && s.compare != "":
		s.rounds = 5
	case s.rounds == 0:
		s.rounds = 3
	}
	var err error
	if s.Selection, err = report.Select(*only, *skip); err != nil {
		return s, err
	}
	if s.out == "" && !s.quick && s.IsAll() && s.compare == "" {
		if s.out, err = report.Source("bench"); err != nil {
			return s, err
		}
	}
	s.command = report.Command("bench", flags)
	return s, nil
}

// measureAll has every side do each work, in turn, as often as there are rounds.
func measureAll(ctx context.Context, s settings, progress io.Writer) (*results, error) {
	r := newResults(s)
	for _, w := range works(s.quick) {
		if len(s.doing(w)) > 0 {
			r.works = append(r.works, w)
		}
	}
	if len(r.works) == 0 {
		return nil, errNothingMatches
	}
	for round := range s.rounds {
		for _, w := range r.works {
			doing := s.doing(w)
			for i := range doing {
				one := doing[(i+round)%len(doing)] // another one begins in each round
				fmt.Fprintf(progress, "round %d of %d: %s/%s\n", round+1, s.rounds, w.name, one.name)
				v, err := order{Work: w.name, Side: one.name, Quick: s.quick}.delegate(ctx)
				if err != nil {
					return nil, err
				}
				r.Add(w.name, one.name, v)
			}
		}
	}
	return r, nil
}

// doing returns the sides that can do the work, and shall.
func (s settings) doing(w work) (doing []side) {
	for _, one := range sides {
		name := w.name + "/" + one.name
		if one.can&w.needs == w.needs && s.Has(name) {
			doing = append(doing, one)
		}
	}
	return doing
}
