package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	gomodule "golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// serve puts a tagged version of a module of the repository in dir into a directory that the go command reads as a module proxy.
func serve(ctx context.Context, dir string, m module, version, proxy string) (err error) {
	escaped, err := gomodule.EscapePath(m.path)
	if err != nil {
		return err
	}
	to := filepath.Join(proxy, filepath.FromSlash(escaped), "@v")
	if err := os.MkdirAll(to, 0o755); err != nil { //nolint:gosec // nothing secret
		return err
	}
	mod, err := git(ctx, dir, "show", m.tag(version)+":"+path.Join(m.dir, "go.mod"))
	if err != nil {
		return err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{version, time.Now().UTC()})
	if err != nil {
		return err
	}
	list, err := os.OpenFile(filepath.Join(to, "list"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // nothing secret
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(list, version)
	if err := errors.Join(err, list.Close()); err != nil {
		return err
	}
	for suffix, text := range map[string][]byte{".mod": []byte(mod), ".info": info} {
		if err := os.WriteFile(filepath.Join(to, version+suffix), text, 0o644); err != nil { //nolint:gosec // nothing secret
			return err
		}
	}
	archive, err := os.Create(filepath.Join(to, version+".zip"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	subdir := m.dir
	if subdir == "." {
		subdir = ""
	}
	return zip.CreateFromVCS(archive, gomodule.Version{Path: m.path, Version: version}, dir, m.tag(version), subdir)
}
