package main

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The tests use real sockets, so they can't use a synctest bubble. They wait for what is printed, and not for time to pass.
const patience = 20 * time.Second

// A screen collects what is printed, and lets a test wait for it.
type screen struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // replaced at each change
}

func newScreen() *screen { return &screen{changed: make(chan struct{})} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// shows waits for a text.
func (s *screen) shows(t *testing.T, text string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		found, changed := strings.Contains(s.text.String(), text), s.changed
		s.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			require.Failf(t, "not shown", "%q in:\n%s", text, s)
		}
	}
}

// start starts the service. The function that it returns ends it, as Ctrl-C does, and returns what it returned.
func start(t *testing.T, s settings) (*screen, func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, ended := newScreen(), make(chan error, 1)
	go func() { ended <- run(ctx, s, out) }()
	end := sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("the service has not ended")
		}
	})
	t.Cleanup(func() { _ = end() })
	return out, end
}

func TestLocal(t *testing.T) {
	out, end := start(t, settings{initialDelay: time.Millisecond})
	out.shows(t, "There is no DISCORD_… variable.")
	// Its first failure may be merged with this one, the latest.
	out.shows(t, "▌ 🔄 price feed failed, will restart")
	out.shows(t, "│ dial tcp 192.0.2.2:443: connect: connection refused")
	out.shows(t, "▌ 🔄 importer failed, will restart")
	out.shows(t, "index out of range [2] with length 2")
	out.shows(t, ".parse(...)")
	out.shows(t, "▌ 🛑 mailer failed for good, gave up")
	out.shows(t, "550 no such user: @everyone <@1> [free](https://example.org) ˋˋˋ")
	out.shows(t, "▌ 💚 price feed recovered")
	out.shows(t, "Manager: shop")
	require.NoError(t, end())
	assert.Contains(t, out.String(), "All tasks have ended")
	assert.NotContains(t, out.String(), "reporter failed")
}

func TestEndsByItself(t *testing.T) {
	out := newScreen()
	require.NoError(t, run(t.Context(), settings{initialDelay: time.Millisecond, lasts: time.Millisecond}, out))
	assert.Contains(t, out.String(), "All tasks have ended")
}

func TestWebhook(t *testing.T) {
	d := discordtest.New()
	d.AddWebhook("10", "not-a-real-token", "20")
	server := httptest.NewServer(d)
	defer server.Close()
	out, end := start(t, settings{initialDelay: time.Millisecond, webhook: server.URL + "/api/webhooks/10/not-a-real-token"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, d.Wait(ctx, 1))
	out.shows(t, "task=mailer") // in the log, and so on its way: the first message may be about others alone
	require.NoError(t, end())
	assert.Contains(t, d.Text("20"), "mailer")
	assert.NotContains(t, out.String(), "local fake")
	assert.NotContains(t, out.String(), "not-a-real-token")
}

func TestRefused(t *testing.T) {
	for name, s := range map[string]settings{
		"DISCORD_BOT_TOKEN and DISCORD_CHANNEL_ID belong together":  {token: "not-a-real-token"},
		"DISCORD_BOT_TOKEN and DISCORD_CHANNEL_ID belong together.": {channel: "20"},
		"not both":            {token: "not-a-real-token", channel: "20", webhook: "https://discord.com/api/webhooks/10/not-a-real-token"},
		"DISCORD_WEBHOOK_URL": {webhook: "https://example.org/not-a-real-token"},
		"DISCORD_CHANNEL_ID":  {token: "not-a-real-token", channel: "general"},
		"-for":                {lasts: -1},
	} {
		t.Run(name, func(t *testing.T) {
			out := newScreen()
			err := run(t.Context(), s, out)
			require.ErrorContains(t, err, strings.TrimSuffix(name, "."))
			assert.NotContains(t, err.Error()+out.String(), "not-a-real-token")
		})
	}
}
