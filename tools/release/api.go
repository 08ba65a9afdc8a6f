package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// What has changed in the exported API of a module, in apidiff's words.
type changes struct{ breaks, compatible []string }

func (c changes) empty() bool { return len(c.breaks)+len(c.compatible) == 0 }

func (c changes) String() string {
	var text strings.Builder
	for _, line := range c.breaks {
		text.WriteString("\n  breaks: " + line)
	}
	for _, line := range c.compatible {
		text.WriteString("\n  compatible: " + line)
	}
	return text.String()
}

// judge refuses changes that the step from one version to the next does not allow, by what README.md says under Stability: a patch
// changes no API; a minor version breaks it only before v1, with an entry in the CHANGELOG that says how to adapt.
func judge(previous, next string, c changes, notes string) error {
	switch {
	case semver.MajorMinor(previous) == semver.MajorMinor(next) && !c.empty():
		return fmt.Errorf("the API has changed since %s: %s can't be a patch", previous, next)
	case len(c.breaks) == 0 || semver.Major(previous) != semver.Major(next):
		return nil
	case semver.Major(next) != "v0":
		return fmt.Errorf("the API breaks what compiles with %s: %s must be a new major version", previous, next)
	case !hasChange.MatchString(notes):
		return fmt.Errorf("the API breaks what compiles with %s: %s must say how to adapt, under Changed or Removed", previous, changelogName)
	default:
		return nil
	}
}

// A comparison of two copies of the repository.
type comparison struct {
	tmp           string // its directory, with apidiff in it
	before, after string
	leftOut       []string // directories whose packages are not looked at
}

// newComparison builds apidiff, at the version that is pinned in the copy that is in after.
func newComparison(ctx context.Context, tmp, before, after string, leftOut []string) (*comparison, error) {
	apidiff, err := pinnedApidiff(after)
	if err != nil {
		return nil, err
	}
	_, err = command(ctx, tmp, append([]string{"GOBIN=" + tmp}, isolated...), "go", "install", apidiff)
	return &comparison{tmp, before, after, leftOut}, err
}

// of returns what has changed in the API of a module.
func (c *comparison) of(ctx context.Context, m module) (changes, error) {
	apidiff, files := filepath.Join(c.tmp, "apidiff"), []string{filepath.Join(c.tmp, "api.before"), filepath.Join(c.tmp, "api.after")}
	for i, dir := range []string{c.before, c.after} {
		if _, err := command(ctx, m.at(dir), isolated, apidiff, "-m", "-w", files[i], m.path); err != nil {
			return changes{}, err
		}
	}
	printed, err := command(ctx, c.tmp, nil, apidiff, append([]string{"-m"}, files...)...)
	if err != nil {
		return changes{}, err
	}
	return parse(printed, m, c.leftOut)
}

// parse reads what apidiff prints: it ends well whatever it finds.
func parse(printed string, m module, leftOut []string) (c changes, err error) {
	var list *[]string
	for line := range strings.Lines(printed) {
		line = strings.TrimSpace(line)
		change, isChange := strings.CutPrefix(line, "- ")
		switch {
		case line == "Incompatible changes:":
			list = &c.breaks
		case line == "Compatible changes:":
			list = &c.compatible
		case line == "":
		case !isChange || list == nil:
			return changes{}, fmt.Errorf("apidiff has printed what this program does not understand: %s", line)
		default:
			pkg := strings.TrimPrefix(strings.TrimPrefix(change, "./"), "package "+m.path+"/")
			if pkg == change || !isInOneOf(pkg[:strings.IndexAny(pkg+":", ".:")], leftOut) { // before the name, or what has become of the package
				*list = append(*list, change)
			}
		}
	}
	slices.Sort(c.breaks)
	slices.Sort(c.compatible)
	return c, nil
}

var pin = regexp.MustCompile(`(?m)^readonly apidiff=(\S+@v\S+)( |$)`)

// pinnedApidiff returns the package and version of apidiff that .ci/run names, where all tools are pinned.
func pinnedApidiff(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, ".ci", "run"))
	if err != nil {
		return "", err
	}
	found := pin.FindSubmatch(text)
	if found == nil {
		return "", errors.New(".ci/run pins no version of apidiff")
	}
	return string(found[1]), nil
}
