package main

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// judgeBorders refuses a module, one of those that are published, that imports what is internal to another module of the workspace,
// be it in a test: the other could not change it any more without breaking versions of this one that users have. It looks at the files
// of all systems and build tags.
func judgeBorders(dir string, published, all []module) error {
	var found []error
	for _, m := range published {
		err := filepath.WalkDir(m.at(dir), func(name string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && name != m.at(dir) && notOf(m, dir, name, all):
				return filepath.SkipDir
			case entry.IsDir() || filepath.Ext(name) != ".go":
				return nil
			}
			imported, err := importsOf(name)
			for _, pkg := range imported {
				if owner := ownerOf(pkg, all); owner != (module{}) && owner != m && isInternal(pkg) {
					found = append(found, fmt.Errorf("%s imports %s, which is internal to another module", within(dir, name), pkg))
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return errors.Join(found...)
}

// within returns the name of a file in the repository that is in dir.
func within(dir, name string) string {
	return filepath.ToSlash(strings.TrimPrefix(name, filepath.Clean(dir)+string(filepath.Separator)))
}

// importsOf returns what a file imports.
func importsOf(name string) (imported []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		return nil, err
	}
	for _, spec := range file.Imports {
		pkg, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		imported = append(imported, pkg)
	}
	return imported, nil
}

// notOf reports whether a directory below that of a module is not of the module, for the go command.
func notOf(m module, dir, name string, all []module) bool {
	base := filepath.Base(name)
	return base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") ||
		slices.ContainsFunc(all, func(other module) bool { return other != m && other.at(dir) == name })
}

// ownerOf returns the module of the workspace that has a package, or none.
func ownerOf(pkg string, all []module) (owner module) {
	for _, m := range all {
		if (pkg == m.path || strings.HasPrefix(pkg, m.path+"/")) && len(m.path) > len(owner.path) {
			owner = m
		}
	}
	return owner
}

func isInternal(pkg string) bool { return slices.Contains(strings.Split(pkg, "/"), "internal") }
