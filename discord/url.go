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

	hosts = []string{"discord.com", "ptb.discord.com", "canary.discord.com"}

	// formerHost ends the URLs that Discord showed until it moved. What is posted there is redirected, as a GET.
	formerHost = "discordapp.com"
)

// A target is what the URL of a webhook says.
type target struct {
	id, token string
	thread    string // its id; empty if the URL has none
	url       string // to post to, without the thread
}

// parseURL returns what a webhook's URL says. If it is none, it returns why, in words that don't show
// any of it: whatever it is, it may be a secret.
func parseURL(raw string) (t target, reason string) {
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, "is no URL"
	}
	if host := strings.ToLower(u.Host); host == formerHost || strings.HasSuffix(host, "."+formerHost) {
		u.Host = strings.TrimSuffix(host, formerHost) + hosts[0]
	}
	if reason = checkAddress(u); reason != "" {
		return target{}, reason
	}
	m := webhookPath.FindStringSubmatch(u.EscapedPath())
	if m == nil {
		return target{}, "its path must be /api/webhooks/, the numeric id of the webhook, / and its token"
	}
	version, id, token := m[1], m[2], m[3]
	if reason = notify.CheckID(id); reason != "" {
		return target{}, "the webhook's id " + reason
	}
	// The URL that Discord shows names no version, and stands for one long outdated.
	if version == "" {
		version = "/" + apiVersion
	}
	thread, reason := checkQuery(u)
	if reason != "" {
		return target{}, reason
	}
	u.Path, u.RawPath, u.RawQuery = "/api"+version+"/webhooks/"+id+"/"+token, "", ""
	return target{id, token, thread, u.String()}, ""
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

// checkQuery returns the thread that the query of a URL names.
func checkQuery(u *url.URL) (thread, reason string) {
	const form = "its query must have nothing but the numeric id of a thread, as thread_id"
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", form
	}
	for key, values := range q {
		switch {
		case key == "wait":
		case key == "thread_id" && len(values) == 1 && notify.CheckID(values[0]) == "":
			thread = values[0]
		default:
			return "", form
		}
	}
	return thread, ""
}

// query returns the query to post with: without wait, Discord would answer before it has looked at the
// message, and its refusal would not be heard of.
func query(thread string) string {
	q := url.Values{"wait": {"true"}}
	if thread != "" {
		q.Set("thread_id", thread)
	}
	return q.Encode()
}
