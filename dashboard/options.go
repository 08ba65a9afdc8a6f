package dashboard

import (
	"net"
	"net/http"
	"strings"

	"github.com/go-taskmanager/taskmanager"
)

// An Option configures New.
type Option interface{ apply(*config) error }

type config struct {
	allow  func(*http.Request, Action) error // nil: no actions
	user   func(*http.Request) string
	origin *http.CrossOriginProtection
	hosts  map[string]bool // nil: any
}

type option func(*config) error

func (o option) apply(c *config) error { return o(c) }

// WithActions lets people restart, stop, pause, resume, trigger and start tasks. The default, and a nil function, is that nobody may:
// the page has no buttons then, and the address that they lead to answers 403 Forbidden.
//
// allow says whether a request may do a thing to a task, by nil, or why not, by an error, whose text is shown to who has asked. It is
// called for each task before anything is done, and also to find out which buttons a page is to have. For those of the list, which are
// for whatever tasks will be selected, Action.Path is nil: may the request do such a thing to any task? That it was asked before does not
// replace the question for each task.
//
// allow may be called from several goroutines at once. As long as it does not return nothing is done, and what it has not allowed within a
// second has no button; that it panics or calls [runtime.Goexit] is a refusal. It should look at who has asked, as the authentication
// before this handler has found out: see "Who may see it" in the package documentation.
func WithActions(allow func(*http.Request, Action) error) Option {
	return option(func(c *config) error {
		c.allow = allow
		return nil
	})
}

// WithUser sets how it is found out who has asked for an action: the name that the log and the history of the task have (see
// [taskmanager.AskedBy]). Take it from where the authentication before this handler has put it. The default, for a nil function, and
// where the name is empty, is the address of the client, which behind a proxy is that of the proxy. If user panics or calls
// [runtime.Goexit], nothing is done.
func WithUser(user func(*http.Request) string) Option {
	return option(func(c *config) error {
		c.user = user
		return nil
	})
}

// WithTrustedOrigins allows actions of pages of other origins, such as "https://ops.example.org": needed behind a proxy that changes the
// Host of requests, for the page's own origin is another one then. By default actions are for pages of the same origin, and for
// clients that are no browsers: see [http.CrossOriginProtection]. One that is no origin is refused with an error.
func WithTrustedOrigins(origins ...string) Option {
	return option(func(c *config) error {
		for _, origin := range origins {
			if err := c.origin.AddTrustedOrigin(origin); err != nil {
				return &taskmanager.OptionError{Option: "WithTrustedOrigins", Value: origin, Reason: "is no origin, as https://ops.example.org is"}
			}
		}
		return nil
	})
}

// WithHosts has requests refused that are for none of hosts: names or addresses without a port, such as "localhost", "127.0.0.1" or
// "ops.example.org". Others are answered with 421 Misdirected Request. By default each is answered. Where nothing else authenticates, as on
// a developer's machine, it is what stops a foreign site that gives its own name the address of this server (DNS rebinding). Given
// twice, it is for the hosts of both; without any, none is answered.
func WithHosts(hosts ...string) Option {
	return option(func(c *config) error {
		if c.hosts == nil {
			c.hosts = make(map[string]bool)
		}
		for _, host := range hosts {
			name := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
			_, _, hasPort := strings.Cut(name, ":")
			if name == "" || strings.ContainsAny(name, "/@ ") || hasPort && net.ParseIP(name) == nil {
				return &taskmanager.OptionError{Option: "WithHosts", Value: host, Reason: "is no host without a port"}
			}
			c.hosts[name] = true
		}
		return nil
	})
}

// answers reports whether requests for host, which may have a port, are answered.
func (c *config) answers(host string) bool {
	if c.hosts == nil {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return c.hosts[strings.ToLower(strings.Trim(host, "[]"))]
}
