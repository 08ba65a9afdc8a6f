// Package names says which names of leases, replicas and pools there may be.
package names

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Longest is the most that a name may have, in bytes, so that each engine can keep it.
const Longest = 255

// ReasonAgainst returns why s can't be a name, or "".
func ReasonAgainst(s string) string {
	switch {
	case s == "":
		return "must not be empty"
	case len(s) > Longest:
		return fmt.Sprintf("must not have more than %d bytes", Longest)
	case !utf8.ValidString(s):
		return "must be valid UTF-8"
	case strings.ContainsFunc(s, unicode.IsControl):
		return "must not contain control characters"
	}
	return ""
}
