package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The parts of RESULTS.md. A run replaces one and keeps the other.
type part string

const (
	comparison part = "comparison"
	soaking    part = "soak"
)

func (p part) begin() string { return "<!-- " + string(p) + " -->\n" }
func (p part) end() string   { return "<!-- /" + string(p) + " -->\n" }

// writePart writes text to RESULTS.md in dir as that part, and says so.
func writePart(dir string, p part, text string, stdout io.Writer) error {
	file := filepath.Join(dir, "RESULTS.md")
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	document := compose(string(old), p, text)
	if err := os.WriteFile(file, []byte(document), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(stdout, "wrote", file)
	return nil
}

// compose returns the document with that part replaced or added.
func compose(old string, p part, text string) string {
	keep := func(q part, heading string) string {
		inside := text
		if q != p {
			var ok bool
			if _, inside, ok = strings.Cut(old, q.begin()); !ok {
				return ""
			}
			inside, _, _ = strings.Cut(inside, q.end())
		}
		return "\n" + q.begin() + heading + strings.TrimPrefix(inside, heading) + q.end()
	}
	return "# Results\n\nWritten by the program in this directory; do not edit. Those of leases are in [lease](lease/RESULTS.md).\n" +
		keep(comparison, "## Side by side\n\n![What supervising costs](chart.svg)\n\n") +
		keep(soaking, "## Soak\n\n")
}
