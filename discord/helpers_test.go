package discord_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord"
	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

const (
	hookID    = "223704706495545344"
	hookToken = "not-the-Token_of-a-webhook-0123456789"
	hookURL   = "https://discord.com/api/webhooks/" + hookID + "/" + hookToken
	channelID = "199737254929760256"
	roleID    = "165511591545143296"
	userID    = "80351110224678912"
)

var (
	errRefused = errors.New("connection refused")

	silent = taskmanager.WithLogger(slog.New(slog.DiscardHandler))
)

// newFake returns a Discord with the webhook, and a client for it without sockets.
func newFake() (*discordtest.Server, *http.Client) {
	d := discordtest.New()
	d.AddWebhook(hookID, hookToken, channelID)
	d.AddRole(roleID, "on-call")
	d.AddUser(userID, "mason")
	return d, &http.Client{Transport: d.Transport()}
}

// newWebhook returns a Webhook that uses client and names no host.
func newWebhook(t *testing.T, client *http.Client, opts ...discord.Option) *discord.Webhook {
	t.Helper()
	opts = append([]discord.Option{discord.WithHTTPClient(client), discord.WithHost("")}, opts...)
	w, err := discord.NewWebhook(hookURL, opts...)
	require.NoError(t, err)
	return w
}

// newManager returns a Manager without jitter that reports to r and logs to book.
func newManager(t *testing.T, r taskmanager.Reporter, book *logBook, opts ...taskmanager.Option) *taskmanager.Manager {
	t.Helper()
	opts = append([]taskmanager.Option{
		taskmanager.WithReporter(r), taskmanager.WithBackoffJitter(0),
		taskmanager.WithLogger(slog.New(slog.NewTextHandler(book, &slog.HandlerOptions{Level: slog.LevelDebug}))),
	}, opts...)
	m, err := taskmanager.New(opts...)
	require.NoError(t, err)
	return m
}

// start is StartTask for what must not be refused.
func start(t *testing.T, m *taskmanager.Manager, name string, body taskmanager.TaskFunc, opts ...taskmanager.TaskOption) *taskmanager.Task {
	t.Helper()
	task, err := m.StartTask(name, body, opts...)
	require.NoError(t, err)
	return task
}

// fail is the body of a task that fails at once.
func fail(context.Context) error { return errRefused }

// A logBook keeps what is logged.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// count returns how often the log has that text.
func (b *logBook) count(text string) int { return strings.Count(b.String(), text) }

// severalTasks is the title of what several tasks have in common.
var severalTasks = regexp.MustCompile(`^\S+ ([0-9]+) tasks `)

// reported is how many events the embeds of the messages stand for, by what they say has happened.
func reported(t *testing.T, messages []discordtest.Message) map[string]int {
	t.Helper()
	n := make(map[string]int)
	for _, m := range messages {
		for _, e := range m.Embeds {
			what, times, merged := strings.Cut(e.Title, " × ")
			stands := 1
			if tasks := severalTasks.FindStringSubmatch(e.Title); !merged && tasks != nil {
				times, merged = tasks[1], true
			}
			if merged {
				var err error
				stands, err = strconv.Atoi(times)
				require.NoError(t, err)
			}
			n[what] += stands
		}
	}
	return n
}

// countReported is how many events the messages tell of, whatever they are.
func countReported(t *testing.T, messages []discordtest.Message) (n int) {
	t.Helper()
	for _, count := range reported(t, messages) {
		n += count
	}
	return n
}

// A roundTripper is a function as an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close() // whoever sends a request leaves its body to the transport
	}
	return f(r)
}

// respond returns a response, of a message if that is a success.
func respond(r *http.Request, status int, header http.Header) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	body := ""
	if status == http.StatusOK {
		body = `{"id": "1"}`
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: r}
}
