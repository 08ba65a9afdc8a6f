package browsertest_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/dashboard"
)

// Row "POST: http on a host that isn't loopback: 303". There a browser sends no Sec-Fetch-Site, and the Origin is what is judged.
func TestOriginOfAHostThatIsNotLoopback(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	task := start(t, m, "worker", idle)
	s := newSite(t, newHandler(t, m, dashboard.WithHosts("ops.test")))
	b := openTab(t, "http://ops.test:"+s.port()+prefix)
	b.open("task?task=worker")
	assert.False(t, evaluate[bool](b, "isSecureContext"), "otherwise this tests nothing")
	b.clickThrough("#actions button[value=restart]")
	assert.Equal(t, "worker", b.text("h1"))
	waitFor(t, "another run", func() bool { return task.Stats().Runs == 2 })
	b.until("document.querySelector('#live').dataset.state === 'live'")
}

// Row "POST: cross-site: 403": a page of another site posts a form, and one of another port of the same host, which is same-site. Nor can
// one have the dashboard in a frame.
func TestOriginOfAForeignPage(t *testing.T) {
	t.Parallel()
	m := newManager(t)
	task := start(t, m, "worker", idle)
	s := newSite(t, newHandler(t, m))
	foreign := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/frame" {
			fmt.Fprintf(w, `<!doctype html><title>t</title><link rel=icon href=data:,><iframe src="%s"></iframe>`, s.url)
			return
		}
		fmt.Fprintf(w, `<!doctype html><title>t</title><link rel=icon href=data:,><form method=post action="%sact">
			<input name=action value=stop><input name=task value=worker><button>Win a prize</button></form>`, s.url)
	}), "/")
	for name, host := range map[string]string{"cross-site": "evil.test", "same-site": "127.0.0.1"} {
		t.Run(name, func(t *testing.T) {
			b := openTab(t, "http://"+host+":"+foreign.port())
			b.expect("^status 403 of "+s.url+"act$", "^error from network: Failed to load resource: .* 403",
				"^request outside the prefix: (POST|GET) "+s.url)
			posts := s.posts.Load()
			b.open("/")
			b.clickThrough("button")
			assert.Contains(t, b.text("body"), "another origin")
			assert.Equal(t, posts+1, s.posts.Load())
			assert.Equal(t, taskmanager.StateRunning, task.State())
		})
	}
	t.Run("frame", func(t *testing.T) {
		b := openTab(t, "http://evil.test:"+foreign.port())
		b.expect("^request outside the prefix: GET "+s.url+"$", "^issue: ContentSecurityPolicyIssue .*frame-ancestors",
			"^error from security: .*frame-ancestors", "^request failed: net::ERR_BLOCKED_BY_RESPONSE")
		b.open("/frame")
	})
	stats := task.Stats()
	assert.Equal(t, uint64(1), stats.Runs)
	assert.Equal(t, taskmanager.StateRunning, stats.State)
}
