package main

import (
	"errors"
	"regexp"
	"strings"
	"time"
)

const (
	changelogName = "CHANGELOG.md"
	unreleased    = "## [Unreleased]\n"
)

// heading of a version in the CHANGELOG.
func heading(version string) string { return "## [" + strings.TrimPrefix(version, "v") + "]" }

// notes returns what the CHANGELOG says of the time since a version, or of all time for "".
func notes(changelog, since string) (string, error) {
	_, text, found := strings.Cut(changelog, "\n"+unreleased)
	if !found {
		return "", errors.New(changelogName + ` has no heading "` + strings.TrimSpace(unreleased) + `"`)
	}
	if since != "" {
		if text, _, found = strings.Cut(text, "\n"+heading(since)); !found {
			return "", errors.New(changelogName + ` has no heading "` + heading(since) + `"`)
		}
	}
	return text, nil
}

// waiting reports whether the CHANGELOG has an entry under Unreleased.
func waiting(changelog string) (bool, error) {
	text, err := notes(changelog, "")
	text, _, _ = strings.Cut("\n"+text, "\n## ")
	return hasEntry.MatchString(text), err
}

// everReleased reports whether the CHANGELOG has a version, be it one that is still to be tagged.
func everReleased(changelog string) (bool, error) {
	text, err := notes(changelog, "")
	return strings.Contains(text, "\n## ["), err
}

// released returns the CHANGELOG in which what was unreleased is of this version and day.
func released(changelog, version string, day time.Time) string {
	return strings.Replace(changelog, "\n"+unreleased, "\n"+unreleased+"\n"+heading(version)+" - "+day.Format(time.DateOnly)+"\n", 1)
}

var (
	hasEntry  = regexp.MustCompile(`(?m)^- \S`)
	hasChange = regexp.MustCompile(`(?m)^### (Changed|Removed)\n+- \S`)
)
