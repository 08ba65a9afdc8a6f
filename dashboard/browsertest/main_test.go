package browsertest_test

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager/dashboard/browsertest"
)

// TestMain ends the browser, and fails the tests if one of them leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(withBrowser{m}) }

type withBrowser struct{ m *testing.M }

func (w withBrowser) Run() int {
	defer func() { stopBrowser() }()
	return w.m.Run()
}

// stopBrowser does nothing until there is one.
var stopBrowser = func() {}

// startBrowser starts the one browser of all tests when the first of them needs it.
var startBrowser = sync.OnceValues(func() (context.Context, error) {
	path, err := browsertest.Find()
	if err != nil {
		return nil, err
	}
	ctx, stop, err := browsertest.Start(path)
	if err == nil {
		stopBrowser = stop
	}
	return ctx, err
})

// browserContext returns the browser's context. Where there is no browser the test is skipped, unless TASKMANAGER_BROWSER=required.
func browserContext(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("takes a browser")
	}
	if _, err := browsertest.Find(); err != nil && os.Getenv("TASKMANAGER_BROWSER") != "required" {
		t.Skip(err)
	}
	ctx, err := startBrowser()
	require.NoError(t, err)
	return ctx
}
