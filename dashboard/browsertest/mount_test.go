package browsertest_test

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A treeRouter finds handlers as routers do that are no ServeMux: by the elements of the escaped path, of which the last may be a star.
// It leaves the path of the request as it is, and has no pattern in it.
type treeRouter map[string]http.Handler

func (t treeRouter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for pattern, h := range t {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(r.URL.EscapedPath(), prefix) || r.URL.EscapedPath() == pattern {
			h.ServeHTTP(w, r)
			return
		}
	}
	http.NotFound(w, r)
}

// strippingProxy serves what is at a URL below another prefix, under its own Host.
func strippingProxy(t *testing.T, prefix, to string) http.Handler {
	t.Helper()
	address, err := url.Parse(to)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(address)
		r.SetXForwarded()
	}}
	return http.StripPrefix(strings.TrimSuffix(prefix, "/"), proxy)
}

// Under any prefix, behind any router: every link, form and request of every page stays below the prefix, which each tab checks, and
// everything works there.
func TestMounted(t *testing.T) {
	t.Parallel()
	for name, mount := range map[string]struct {
		prefix string
		with   func(t *testing.T, h http.Handler) http.Handler
	}{
		"ServeMux": {prefix, func(_ *testing.T, h http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle(prefix, h)
			return mux
		}},
		"ServeMux and StripPrefix": {prefix, func(_ *testing.T, h http.Handler) http.Handler {
			mux := http.NewServeMux()
			mux.Handle(prefix, http.StripPrefix("/debug/tasks", h))
			return mux
		}},
		"root": {"/", func(_ *testing.T, h http.Handler) http.Handler { return h }},
		"router": {"/a%20b/tasks/", func(_ *testing.T, h http.Handler) http.Handler {
			return treeRouter{"/a%20b/tasks/*": h}
		}},
		"proxy that strips": {"/ops/orders/", func(t *testing.T, h http.Handler) http.Handler {
			return strippingProxy(t, "/ops/orders/", serve(t, h, "/").url)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newService(t)
			task, _ := m.Lookup("consumer")
			s := serve(t, mount.with(t, newHandler(t, m)), mount.prefix)
			b := openTab(t, s.url)
			b.open("")
			b.untilLive("live")
			b.do("filter", setValue("input[name=q]", "connection refused"))
			b.clickThrough("#filter button")
			b.clickThrough("#tasks tbody .name a")
			b.clickThrough("#actions button[value=restart]")
			assert.Equal(t, "consumer", b.text("h1"))
			waitFor(t, "another run", func() bool { return task.Stats().Runs == 2 })
			b.untilLive("live")
			b.clickThrough("nav a[href=graph]")
			b.untilLive("live")
			b.clickThrough("nav a[href='./']")
			b.click("[name=select][value='task=database']")
			b.clickThrough("#act button[value=pause]")
			b.clickThrough("main form button[value=pause]")
			b.untilLive("live")
			assert.Equal(t, "2", b.text("[data-total=paused]"))
			for _, format := range []string{"json", "txt"} { // fetched: where no page can name an icon, browsers ask for /favicon.ico
				link := "document.querySelector(" + quote("footer a[href^='tasks."+format+"']") + ").href"
				assert.Contains(t, evaluate[string](b, "fetch("+link+").then(r => r.text())"), "consumer")
			}
		})
	}
}

// Without the slash at its end an address leads to the list all the same, where that can be known.
func TestMountedWithoutTheSlash(t *testing.T) {
	t.Parallel()
	h := newHandler(t, newService(t))
	for name, mounted := range map[string]http.Handler{
		"ServeMux":                 treeOf("/debug/tasks/", h),
		"ServeMux and StripPrefix": treeOf("/debug/tasks/", http.StripPrefix("/debug/tasks", h)),
		"StripPrefix of a router":  treeRouter{"/debug/tasks*": http.StripPrefix("/debug/tasks", h)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, mounted, "/debug/tasks")
			b := openTab(t, s.url)
			b.open("?q=consumer")
			assert.Equal(t, s.url+"/?q=consumer", evaluate[string](b, "location.href"))
			assert.Equal(t, []string{"consumer"}, b.texts("#tasks tbody .name a"))
		})
	}
}

func treeOf(pattern string, h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(pattern, h)
	return mux
}
