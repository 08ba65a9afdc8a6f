package discordtest_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

const (
	channel = "20"
	hookURL = "https://discord.com/api/webhooks/10/secret"
	botURL  = "https://discord.com/api/v10/channels/20/messages"
)

// newServer returns a server with a webhook and a bot for one channel.
func newServer() *discordtest.Server {
	d := discordtest.New()
	d.AddWebhook("10", "secret", channel)
	d.AddBot("bot-token", channel)
	return d
}

// An answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
}

// object is the body as JSON.
func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var o map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &o), a.body)
	return o
}

// do sends a request without a socket.
func do(ctx context.Context, t *testing.T, d *discordtest.Server, method, url, body string, header ...string) (answer, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return roundTrip(&http.Client{Transport: d.Transport()}, r)
}

// roundTrip sends a request and reads the answer to its end.
func roundTrip(c *http.Client, r *http.Request) (answer, error) {
	resp, err := c.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

// post posts body to the webhook or, if the URL is the bot's, as the bot.
func post(t *testing.T, d *discordtest.Server, url, body string) answer {
	t.Helper()
	var header []string
	if url == botURL {
		header = []string{"Authorization", "Bot bot-token"}
	}
	a, err := do(t.Context(), t, d, http.MethodPost, url, body, header...)
	require.NoError(t, err)
	return a
}

// body returns the JSON of a message with these keys and values.
func body(t *testing.T, keysAndValues ...any) string {
	t.Helper()
	o := make(map[string]any)
	for i := 0; i < len(keysAndValues); i += 2 {
		o[keysAndValues[i].(string)] = keysAndValues[i+1]
	}
	b, err := json.Marshal(o)
	require.NoError(t, err)
	return string(b)
}

// statuses are those of the answers that the server has given; 0 where it gave none.
func statuses(d *discordtest.Server) []int {
	var s []int
	for _, r := range d.Requests() {
		s = append(s, r.Status)
	}
	return s
}
