package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// A module of the workspace.
type module struct {
	path string
	dir  string // within the repository, with slashes; "." for the root
}

// at is the place of a file of the module in the repository that is in dir.
func (m module) at(dir string, name ...string) string {
	return filepath.Join(append([]string{dir, filepath.FromSlash(m.dir)}, name...)...)
}

// tag is the name of the tag that makes a version of the module.
func (m module) tag(version string) string { return path.Join(m.dir, version) }

// workspace returns the modules that go.work lists, the root first.
func workspace(dir string) ([]module, error) {
	name := filepath.Join(dir, "go.work")
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	work, err := modfile.ParseWork(name, text, nil)
	if err != nil {
		return nil, err
	}
	var modules []module
	for _, use := range work.Use {
		m := module{dir: path.Clean(use.Path)}
		text, err := os.ReadFile(m.at(dir, "go.mod"))
		if err != nil {
			return nil, err
		}
		if m.path = modfile.ModulePath(text); m.path == "" {
			return nil, fmt.Errorf("%s names no module", m.at(dir, "go.mod"))
		}
		modules = append(modules, m)
	}
	slices.SortFunc(modules, func(a, b module) int { return strings.Compare(a.dir, b.dir) })
	if len(modules) == 0 || modules[0].dir != "." {
		return nil, errors.New("go.work does not list the root")
	}
	return modules, nil
}

// published returns those of the modules that users may require.
func (p project) published(modules []module) []module {
	return slices.DeleteFunc(slices.Clone(modules), func(m module) bool {
		return isInOneOf(m.dir, p.unpublished)
	})
}

// isInOneOf reports whether dir, or what it names there, is in one of the directories, or is one.
func isInOneOf(dir string, directories []string) bool {
	return slices.ContainsFunc(directories, func(d string) bool { return strings.HasPrefix(dir+"/", d+"/") })
}
