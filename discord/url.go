package discord

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/go-taskmanager/taskmanager/discord/internal/notify"
)

// apiVersion is the version of the API whose errors and rate limits package notify reads.
const apiVersion = "v10"

var (
	webhookPath = regexp.MustCompile(`^/api(/v[0-9]+)?/webhooks/([0-9]+)/([A-Za-z0-9_-]+)$`)

	hosts = []string{
		"discord.com", "ptb.discord.com", "canary.discord.com",
		"discordapp.com", "ptb.discordapp.com", "canary.discordapp.com",
	}
)

// parseURL returns the parts of a webhook's URL, and where to post to. If it is none, it returns
// why, in words that don't show any of it: whatever it is, it may be a secret.
func parseURL(raw string) (id, token, target, reason string) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", "", "", "is no URL"
	}
	if reason = checkAddress(u); reason != "" {
		return "", "", "", reason
	}
	m := webhookPath.FindStringSubmatch(u.EscapedPath())
	if m == nil {
		return "", "", "", "its path must be /api/webhooks/, the numeric id of the webhook, / and its token"
	}
	version, id, token := m[1], m[2], m[3]
	if reason = notify.CheckID(id); reason != "" {
		return "", "", "", "the webhook's id " + reason
	}
	// The URL that Discord shows names no version, and stands for one long outdated.
	if version == "" {
		version = "/" + apiVersion
	}
	query, reason := checkQuery(u)
	if reason != "" {
		return "", "", "", reason
	}
	u.Path, u.RawPath = "/api"+version+"/webhooks/"+id+"/"+token, ""
	u.RawQuery = query.Encode()
	return id, token, u.String(), ""
}

// checkAddress returns why nothing may be sent to the scheme and host of u, or "".
func checkAddress(u *url.URL) string {
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return "must begin with https:// and a host"
	case u.User != nil:
		return "must not have a user or password"
	case u.Fragment != "":
		return "must not have a fragment"
	case isLoopback(u.Hostname()):
		return ""
	case u.Scheme != "https":
		return "must begin with https://, unless the host is this machine"
	case !slices.Contains(hosts, strings.ToLower(u.Hostname())):
		return "its host must be discord.com, or this machine"
	case u.Port() != "" && u.Port() != "443":
		return "must not have a port other than 443, unless the host is this machine"
	}
	return ""
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// checkQuery returns the query to post with: without wait, Discord would answer before it has
// looked at the message, and its refusal would not be heard of.
func checkQuery(u *url.URL) (url.Values, string) {
	const reason = "its query must have nothing but the numeric id of a thread, as thread_id"
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, reason
	}
	for key, values := range q {
		switch {
		case key == "wait":
		case key == "thread_id" && len(values) == 1 && notify.CheckID(values[0]) == "":
		default:
			return nil, reason
		}
	}
	q["wait"] = []string{"true"}
	return q, ""
}
