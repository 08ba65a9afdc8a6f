package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
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
	err = os.MkdirAll(to, 0o700)
	if err != nil {
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
	list, err := os.ReadFile(filepath.Join(to, "list"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list = append(list, version+"\n"...)
	for name, text := range map[string][]byte{"list": list, version + ".mod": []byte(mod), version + ".info": info} {
		err = os.WriteFile(filepath.Join(to, name), text, 0o600)
		if err != nil {
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
