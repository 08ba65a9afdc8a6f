package lease

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// longestName is the most that a name may have, in bytes, so that each engine can keep it.
const longestName = 255

// CheckName returns why s can't be the name of a lease or a replica, or nil if it can: it must not be empty, not be longer than 255 bytes,
// and be UTF-8 without control characters. Each [Store] takes all of these. What the name of a pool may be, each engine says.
func CheckName(s string) error {
	switch {
	case s == "":
		return errors.New("must not be empty")
	case len(s) > longestName:
		return fmt.Errorf("must not have more than %d bytes", longestName)
	case !utf8.ValidString(s):
		return errors.New("must be valid UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("must not contain control characters")
	}
	return nil
}
