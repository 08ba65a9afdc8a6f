// Screenshots writes the pictures of the dashboard that README.md and docs have, in light and dark:
//
//	go run -trimpath ./dashboard/browsertest/screenshots
//
// They show a service of some days, which takes a second: it is supervised in a bubble of testing/synctest, whose clock is faked. So they
// show the same each time, but for what has changed in the dashboard, and the finest points of how the browser draws.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/go-taskmanager/taskmanager/dashboard/browsertest"
)

func main() {
	testing.Init()
	dir := flag.String("dir", "docs", "where to write them")
	flag.Parse()
	if !isTrimmed() {
		fmt.Fprintln(os.Stderr, "screenshots: run it with go run -trimpath: a stack in a picture would have the paths of this machine")
		os.Exit(1)
	}
	// A bubble is there for tests alone, so this program is one.
	testing.Main(func(string, string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "Screenshots", F: func(t *testing.T) {
		pages := record(t)
		if t.Failed() {
			return
		}
		if err := take(pages, *dir); err != nil {
			t.Error(err)
		}
	}}}, nil, nil)
}

// take writes the pictures of pages.
func take(pages []*recording, dir string) error {
	path, err := browsertest.Find()
	if err != nil {
		return err
	}
	browser, stop, err := browsertest.Start(path)
	if err != nil {
		return err
	}
	defer stop()
	for _, p := range pages {
		for _, theme := range []string{"light", "dark"} {
			picture, err := p.picture(browser, theme)
			if err != nil {
				return err
			}
			name := filepath.Join(dir, p.file+"-"+theme+".png")
			if err := os.WriteFile(name, picture, 0o644); err != nil { //nolint:gosec // for everybody to see
				return err
			}
			fmt.Printf("%s: %d kB\n", name, len(picture)/1000)
		}
	}
	return nil
}

// isTrimmed reports whether the files of this program are named by their modules in stacks.
func isTrimmed() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-trimpath", Value: "true"})
}
