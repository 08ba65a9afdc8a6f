// Command build builds the API server of package kubetest from source into the user's cache directory, unless it is there. The first
// time, it downloads the modules of Kubernetes and takes some minutes, and 4 GB of Go's build cache.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/go-taskmanager/taskmanager/lease/kubelease/kubetest"
)

func main() {
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func build() error {
	path, err := kubetest.Path()
	if err != nil {
		return err
	}
	if _, err = os.Stat(path); err == nil {
		return nil
	}
	ctx := context.Background()
	list := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/go-taskmanager/taskmanager/lease/kubelease/kubetest")
	list.Stderr = os.Stderr
	dir, err := list.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	unfinished := path + ".new" // a build that is cut short leaves nothing that looks like a server
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", unfinished, ".")
	cmd.Dir = filepath.Join(strings.TrimSpace(string(dir)), "testdata", "apiserver")
	cmd.Env = append(os.Environ(), "GOWORK=off") // the server is a module of its own
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	return os.Rename(unfinished, path)
}
