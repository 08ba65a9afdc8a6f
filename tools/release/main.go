// Release makes the repository ready for a version, and prints the commands that tag it.
//
//	go run ./tools/release v0.1.0
//
// All modules that are published have one version. It is written into every go.mod of the workspace that requires one of them, where
// the CHANGELOG says Unreleased, and where the code names it. Before that the version is judged: it must be newer than what is tagged,
// and allow what has changed in the exported API since; the tree must be clean; no published module may import what is internal to
// another. Afterwards every go.mod is tidied, and the published modules are vetted without the workspace. Nothing is committed, tagged
// or pushed.
//
//	go run ./tools/release -rehearse
//
// does all of that for the next version in a temporary clone of the tree as it is, commits and tags it there, makes a module proxy of
// files from it, and builds programs of users against that, without replace: of each published module alone, and of the newest root with
// the oldest adapters. In an empty directory beside a copy of the tree it builds them by the commands that the documentation gives, which
// find no version before the CHANGELOG has one. It changes nothing outside of its temporary directory.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// project is what is known about the repository beside what its files say.
type project struct {
	// The directories of go.work's modules that are not published, each with all below it. All others are: an adapter needs no entry.
	unpublished []string
	// The oldest version whose adapters still build with the newest root. A minor version that breaks them raises it to itself, with an
	// entry under Changed in the CHANGELOG. While no such version is tagged, the one that is rehearsed stands for it.
	oldest string
	// Where the code names the version: a file, and an expression with a group before the version and one after it.
	named map[string]*regexp.Regexp
	// The main.go of a user of each published module, in the module's directory.
	users fs.FS
}

//go:embed testdata/users
var testdata embed.FS

func taskmanager() (project, error) {
	users, err := fs.Sub(testdata, "testdata/users")
	return project{
		unpublished: []string{"bench", "dashboard/browsertest", "examples", "lifecycles", "linearizable", "tools"},
		oldest:      "v0.1.0",
		named: map[string]*regexp.Regexp{
			"discord/webhook.go": regexp.MustCompile(`(?m)^(const userAgent = "DiscordBot \(\S+, )[^)]*(\)")$`),
		},
		users: users,
	}, err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1) //nolint:gocritic // nothing is left that stop would have to undo
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	dir := flags.String("dir", ".", "the root of the repository")
	rehearsal := flags.Bool("rehearse", false, "rehearse the next release in a temporary clone")
	if err := flags.Parse(args); err != nil {
		return err
	}
	p, err := taskmanager()
	if err != nil {
		return err
	}
	switch {
	case *rehearsal && flags.NArg() == 0:
		return p.rehearse(ctx, *dir, out)
	case !*rehearsal && flags.NArg() == 1:
		return p.release(ctx, *dir, flags.Arg(0), time.Now(), out)
	default:
		return errors.New("usage: release VERSION, or release -rehearse")
	}
}
