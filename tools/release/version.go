package main

import (
	"context"
	"fmt"
	"path"
	"strings"

	gomodule "golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// judgeVersion refuses a version that is none, or that some of the modules can't have.
func judgeVersion(version string, modules []module) error {
	if semver.Canonical(version) != version || version == "" {
		return fmt.Errorf("%q is not a semantic version such as v1.2.3 or v1.2.3-rc.1", version)
	}
	for _, m := range modules {
		if err := gomodule.Check(m.path, version); err != nil {
			return err // as for v2.0.0, which needs another module path
		}
	}
	return nil
}

// A tagged version of one of the modules.
type tagged struct {
	module  module
	version string
}

// versions returns what is tagged of the modules.
func versions(ctx context.Context, dir string, modules []module) ([]tagged, error) {
	printed, err := git(ctx, dir, "tag", "--list")
	if err != nil {
		return nil, err
	}
	var all []tagged
	for tag := range strings.FieldsSeq(printed) {
		for _, m := range modules {
			if version := path.Base(tag); m.tag(version) == tag && semver.Canonical(version) == version {
				all = append(all, tagged{m, version})
			}
		}
	}
	return all, nil
}

// newest returns the newest of the versions, "" if there is none.
func newest(all []tagged, counts func(version string) bool) (version string) {
	for _, t := range all {
		if counts(t.version) && (version == "" || semver.Compare(t.version, version) > 0) {
			version = t.version
		}
	}
	return version
}

func isAny(string) bool { return true }

// isRelease tells a release from what comes before one.
func isRelease(version string) bool { return semver.Prerelease(version) == "" }

// judgeNewer refuses a version that is not newer than all that are tagged, of whichever module: they have one version.
func judgeNewer(version string, all []tagged) error {
	if latest := newest(all, isAny); latest != "" && semver.Compare(version, latest) <= 0 {
		return fmt.Errorf("%s is not newer than %s, which is tagged", version, latest)
	}
	return nil
}

// nextMinor is the minor version after a version, v0.1.0 after none.
func nextMinor(version string) (string, error) {
	if version == "" {
		return "v0.1.0", nil
	}
	var major, minor int
	if _, err := fmt.Sscanf(semver.MajorMinor(version), "v%d.%d", &major, &minor); err != nil {
		return "", fmt.Errorf("version %s: %w", version, err)
	}
	return fmt.Sprintf("v%d.%d.0", major, minor+1), nil
}
