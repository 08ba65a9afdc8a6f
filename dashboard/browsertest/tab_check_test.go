package browsertest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A harness that notices nothing would pass everything: each page here does one thing that none of the dashboard's may do.
func TestTabNotices(t *testing.T) {
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"require-trusted-types-for 'script'"
	var (
		mu   sync.Mutex
		page struct{ body, script, want string } // guarded by mu once it is served; that of the test which runs
	)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		switch strings.TrimPrefix(r.URL.Path, "/in/") {
		case "":
			w.Header().Set("Content-Security-Policy", policy)
			fmt.Fprintf(w, "<!doctype html><html lang=en><title>t</title><link rel=icon href=i.svg><body>%s<script src=s.js></script>", page.body)
		case "s.js":
			w.Header().Set("Content-Type", "text/javascript")
			w.Header().Set("Cache-Control", "no-store")
			fmt.Fprint(w, page.script)
		case "i.svg":
			w.Header().Set("Content-Type", "image/svg+xml")
			fmt.Fprint(w, `<svg xmlns="http://www.w3.org/2000/svg"/>`)
		case "/outside":
		case "broken":
			panic(http.ErrAbortHandler)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	b := openTab(t, server.URL+"/in/")
	t.Cleanup(func() { // whatever comes late is expected
		b.expect("")
		b.note("the end")
	})
	page.body, page.script = "<p>fine</p>", "document.title = 'fine'"
	b.open("")
	b.until("document.title === 'fine'")
	assert.Empty(t, b.forget())
	for name, test := range map[string]struct{ body, script, want string }{
		"a message in the console":    {script: "console.error('oh')", want: `console.error: "oh"`},
		"an exception":                {script: "nowhere()", want: "exception: Uncaught ReferenceError: nowhere is not defined"},
		"a rejection":                 {script: "Promise.reject(new Error('oh'))", want: "exception: Uncaught (in promise) Error: oh"},
		"a script in the page":        {body: "<script>1</script>", want: `"violatedDirective":"script-src-elem"`},
		"a handler":                   {body: "<img src=i.svg onload='alert(1)'>", want: `"violatedDirective":"script-src-attr"`},
		"a style attribute":           {body: "<p style='color: red'>", want: `"violatedDirective":"style-src-attr"`},
		"HTML from a string":          {script: "document.body.innerHTML = 'x'", want: `"violatedDirective":"require-trusted-types-for"`},
		"an image from elsewhere":     {body: "<img src='http://evil.test/i.svg'>", want: `"violatedDirective":"img-src"`},
		"what does not exist":         {body: "<img src='missing'>", want: "status 404 of"},
		"a request out of the prefix": {script: "fetch('../outside')", want: "request outside the prefix: GET http"},
		"a dialog":                    {script: "alert('oh')", want: "dialog: oh"},
		"a request that fails":        {script: "fetch('broken').catch(() => 0)", want: "request failed: net::ERR_EMPTY_RESPONSE"},
	} {
		t.Run(name, func(t *testing.T) {
			b.of(t)
			mu.Lock()
			page = test
			mu.Unlock()
			b.open("")
			var noticed []string
			waitFor(t, test.want, func() bool {
				noticed = append(noticed, b.forget()...)
				return strings.Contains(strings.Join(noticed, "\n"), test.want)
			})
		})
	}
}
