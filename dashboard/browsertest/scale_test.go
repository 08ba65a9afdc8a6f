package browsertest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A page of 10,000 tasks is there, and live, in about the time of one of ten: how long it has taken is in the log (-v). The bound is for
// a machine that does much else.
func TestScaleOfTenThousand(t *testing.T) {
	m := newManager(t)
	for i := range 10_000 {
		start(t, m, fmt.Sprintf("worker-%05d", i), says("12 messages/s"))
	}
	s := newSite(t, newHandler(t, m))
	b := openTab(t, s.url)
	b.open("") // the first has the browser compile the script
	for _, url := range []string{"", "?sort=uptime&desc=1", "?q=worker-099", "?page=100", "task?task=worker-05000"} {
		began := time.Now()
		b.do("open", chromedp.Navigate(s.url+url))
		loaded := time.Since(began)
		b.untilLive("live")
		live := time.Since(began)
		t.Logf("%-24s loaded after %v, live after %v", url, loaded.Round(time.Millisecond), live.Round(time.Millisecond))
		assert.Less(t, live, patience/2, url)
	}
	b.open("?sort=name&desc=1")
	assert.Equal(t, "worker-09999", b.texts("#tasks tbody .name a")[0])
	require.NoError(t, m.StopTask(t.Context(), "worker-09999"))
	took := b.until("document.querySelector('#tasks tbody tr').innerText.includes('stopped')")
	t.Logf("a stop was shown after %v", took.Round(time.Millisecond))
}
