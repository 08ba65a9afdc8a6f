// Package browsertest has the tests of the dashboard that need a real browser, and what starts one.
package browsertest

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/chromedp/chromedp"
)

// ErrNoBrowser is returned by Find, and says how to get one.
var ErrNoBrowser = errors.New("no Chromium in PATH; on Debian: apt-get install --no-install-recommends chromium fonts-dejavu-core")

// Find returns the path of a browser of the Chromium family.
func Find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoBrowser
}

// Start starts the browser at path, without a window, and without a sandbox only as root, which Chromium refuses otherwise.
// chromedp.NewContext makes a tab of the context that Start returns. The names ops.test and evil.test are those of this machine; no
// other name has an address. The returned function ends the browser, and waits for that.
func Start(path string) (context.Context, func(), error) {
	allocator, free := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.Flag("host-resolver-rules", "MAP ops.test 127.0.0.1, MAP evil.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
	)...)
	ctx, cancel := chromedp.NewContext(allocator)
	stop := func() {
		cancel()
		free()
	}
	if err := chromedp.Do(ctx); err != nil {
		stop()
		return nil, nil, fmt.Errorf("%s does not start: %w", path, err)
	}
	return ctx, stop, nil
}
