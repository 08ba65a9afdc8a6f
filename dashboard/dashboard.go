package dashboard

import (
	"crypto/rand"
	"hash/maphash"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/go-taskmanager/taskmanager"
)

// New returns a handler of the pages about the tasks of m; nil is for the default Manager. It can be served under any path that ends
// in a slash, by any router, with or without [http.StripPrefix], several times, too:
//
//	mux.Handle("/debug/tasks/", handler)
//
// The error is a [*taskmanager.OptionError].
func New(m *taskmanager.Manager, opts ...Option) (http.Handler, error) {
	d := &dashboard{of: m, seed: maphash.MakeSeed(), instance: rand.Text()}
	d.feed = feed{dashboard: d, wanted: make(map[string]*wantedTask)}
	d.origin = http.NewCrossOriginProtection()
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := o.apply(&d.config); err != nil {
			return nil, err
		}
	}
	return d, nil
}

type dashboard struct {
	config

	of       *taskmanager.Manager // nil: the default one
	instance string
	seed     maphash.Seed // of the ids of rows

	errors  errorTexts
	stacks  stackDumps
	servers servers
	feed    feed
}

func (d *dashboard) manager() *taskmanager.Manager {
	if d.of == nil {
		return taskmanager.Default()
	}
	return d.of
}

// A format is how a page is written.
type format string

const (
	formatHTML format = ".html"
	formatJSON format = ".json"
	formatText format = ".txt"
)

// A page is one of the addresses below that of the handler.
type page struct {
	serve  func(d *dashboard, w http.ResponseWriter, r *http.Request) *problem
	format format
	posts  bool // it is for POST, and not for GET and HEAD
}

// pages are all of them, by the last element of the path.
var pages map[string]page

func init() { //nolint:gochecknoinits // a table whose functions refer to it
	pages = map[string]page{
		"":           {serve: (*dashboard).serveList, format: formatHTML},
		"tasks.json": {serve: (*dashboard).serveListJSON, format: formatJSON},
		"tasks.txt":  {serve: (*dashboard).serveListText, format: formatText},
		"task":       {serve: (*dashboard).serveTask, format: formatHTML},
		"task.json":  {serve: (*dashboard).serveTaskJSON, format: formatJSON},
		"task.txt":   {serve: (*dashboard).serveTaskText, format: formatText},
		"graph":      {serve: (*dashboard).serveGraph, format: formatHTML},
		"graph.json": {serve: (*dashboard).serveGraphJSON, format: formatJSON},
		"live":       {serve: (*dashboard).serveLive, format: formatJSON},
		"act":        {serve: (*dashboard).serveActHTML, format: formatHTML, posts: true},
		"act.json":   {serve: (*dashboard).serveActJSON, format: formatJSON, posts: true},
	}
	for name, a := range assets {
		pages[name] = page{serve: a.serve, format: formatText}
	}
}

// policy is the Content-Security-Policy of everything here: scripts, styles and requests are this server's own, and there is nothing
// inline.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// ServeHTTP implements [http.Handler].
func (d *dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // no-referrer would have browsers send "Origin: null" with forms
	h.Set("Cache-Control", "no-store")
	if !d.answers(r.Host) {
		http.Error(w, "This server does not answer for "+quoted(r.Host)+" (see dashboard.WithHosts).", http.StatusMisdirectedRequest)
		return
	}
	d.servers.stoppingOf(r) // it must be known before a stream is opened

	name := path.Base("/" + r.URL.Path)
	if r.URL.Path == "" || strings.HasSuffix(r.URL.Path, "/") {
		name = ""
	}
	p, ok := pages[name]
	if to, moved := withSlash(r, name); moved && (!ok || name == "") {
		h.Set("Location", to) // http.Redirect would take it for a path below that which StripPrefix has left
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	if !ok {
		d.writeProblem(w, r, formatHTML, &problem{http.StatusNotFound, "There is no page " + quoted(name) + " here."})
		return
	}
	if allowed := p.methods(); !slices.Contains(allowed, r.Method) {
		h.Set("Allow", strings.Join(allowed, ", "))
		d.writeProblem(w, r, p.format, &problem{http.StatusMethodNotAllowed, "This is for " + strings.Join(allowed, " and ") + "."})
		return
	}
	if problem := p.serve(d, w, r); problem != nil {
		d.writeProblem(w, r, p.format, problem)
	}
}

func (p *page) methods() []string {
	if p.posts {
		return []string{http.MethodPost}
	}
	return []string{http.MethodGet, http.MethodHead}
}

// withSlash returns where to go if the address is that of the handler without the slash at its end, by which the links of a page would
// lead elsewhere.
func withSlash(r *http.Request, name string) (to string, missing bool) {
	switch {
	case r.URL.Path == "": // what StripPrefix has left of it
		asked, _, _ := strings.Cut(r.RequestURI, "?")
		if asked == "" || strings.HasSuffix(asked, "/") {
			return "", false
		}
		to = "./" + asked[strings.LastIndexByte(asked, '/')+1:] + "/"
	case name != "" && strings.HasSuffix(r.Pattern, "/"+name): // "/debug/tasks" is a pattern of its own
		to = "./" + name + "/"
	default:
		return "", false
	}
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	return to, true
}
