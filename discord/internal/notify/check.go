package notify

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-taskmanager/taskmanager"
)

// check returns an *taskmanager.OptionError for the first value that Discord would refuse, or that
// makes no sense.
func (c *Config) check() error {
	for _, o := range []struct{ option, value, reason string }{
		{"WithUsername", c.Username, checkUsername(c.Username)},
		{"WithThreadName", c.ThreadName, checkThreadName(c.ThreadName)},
		{"WithAvatarURL", c.AvatarURL, checkAvatarURL(c.AvatarURL)},
		{"WithMentionRole", c.MentionRole, checkOptionalID(c.MentionRole)},
		{"WithMentionUser", c.MentionUser, checkOptionalID(c.MentionUser)},
		{"WithHost", c.Host, checkHost(c.Host)},
	} {
		if o.reason != "" {
			return &taskmanager.OptionError{Option: o.option, Value: quote(o.value), Reason: o.reason}
		}
	}
	if c.Events != nil && len(c.Events) == 0 {
		return &taskmanager.OptionError{Option: "WithEvents", Value: "", Reason: "needs at least one kind"}
	}
	for _, k := range c.Events {
		if !known(k) {
			return &taskmanager.OptionError{Option: "WithEvents", Value: int(k), Reason: "is no EventKind"}
		}
	}
	return nil
}

// quote makes a value that was refused fit to print.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q and %d bytes more", s[:most], len(s)-most)
	}
	return strconv.Quote(s)
}

// checkUsername follows the rules that Discord documents for the names of webhooks and, by
// reference, for nicknames; those for usernames, to which @, # and : belong, are not among them. That
// everyone and here are refused is not documented for webhooks, but is what happens.
func checkUsername(s string) string {
	if reason := checkTitle(s, 80); reason != "" {
		return reason
	}
	lower := strings.ToLower(s)
	if lower == "everyone" || lower == "here" {
		return "must not be everyone or here"
	}
	for _, part := range []string{"discord", "clyde"} {
		if strings.Contains(lower, part) {
			return "must not contain " + part
		}
	}
	return ""
}

func checkThreadName(s string) string { return checkTitle(s, 100) }

// checkTitle is about a line of text that Discord shows, of at most so many characters, or none at all.
func checkTitle(s string, most int) string {
	switch {
	case s == "":
	case !utf8.ValidString(s) || clean(s, false) != s:
		return "must be valid UTF-8 without control characters"
	case strings.TrimSpace(s) != s || length(s) > most:
		return fmt.Sprintf("must have 1 to %d characters, without space around them", most)
	}
	return ""
}

func checkAvatarURL(s string) string {
	const most = 2048
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || len(s) > most {
		return fmt.Sprintf("must be an http or https URL of at most %d bytes", most)
	}
	return ""
}

func checkHost(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "must be valid UTF-8 without control characters"
	}
	return ""
}

func checkOptionalID(s string) string {
	if s == "" {
		return ""
	}
	return CheckID(s)
}

// CheckID returns why s is not the id of something in Discord, or "". An id is a positive number of
// 64 bits, in decimal.
func CheckID(s string) string {
	id, err := strconv.ParseUint(s, 10, 64)
	if err != nil || id == 0 || s[0] == '0' {
		return "must be an id: a number of up to 20 digits"
	}
	return ""
}
