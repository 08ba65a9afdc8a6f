package discordbot_test

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bwmarrin/discordgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord/discordbot"
	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

const (
	channel = "20"
	token   = "not-a-real-token"
)

// newSession returns a real session of discordgo whose requests go to the fake, without a socket.
func newSession(t *testing.T, d *discordtest.Server) *discordgo.Session {
	t.Helper()
	s, err := discordgo.New("Bot " + token)
	require.NoError(t, err)
	s.Client.Transport = d.Transport()
	s.LogLevel = -1 // silent: it complains of errors that the tests make
	return s
}

// newReporter returns a Reporter to the only channel of a fake.
func newReporter(t *testing.T, opts ...discordbot.Option) (*discordbot.Reporter, *discordtest.Server) {
	t.Helper()
	d := discordtest.New()
	d.AddBot(token, channel)
	r, err := discordbot.New(newSession(t, d), channel, append([]discordbot.Option{discordbot.WithHost("web-1")}, opts...)...)
	require.NoError(t, err)
	return r, d
}

// newManager returns a Manager that restarts at once, and what it logs.
func newManager(t *testing.T, opts ...taskmanager.Option) (*taskmanager.Manager, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	m, err := taskmanager.New(append([]taskmanager.Option{
		taskmanager.WithLogger(slog.New(slog.NewTextHandler(log, nil))),
		taskmanager.WithMaxRestarts(taskmanager.Unlimited),
		taskmanager.WithBackoff(0, 0),
	}, opts...)...)
	require.NoError(t, err)
	return m, log
}

func failed(text string) taskmanager.Event {
	return taskmanager.Event{
		Time: time.Now(), Task: "poller", Kind: taskmanager.EventFailed, Run: 2, Err: errors.New(text),
		Delay: 3 * time.Second, Restarts: 2, MaxRestarts: 5, Window: time.Minute, Uptime: time.Second,
	}
}

func gaveUp(text string) taskmanager.Event {
	e := failed(text)
	e.Kind, e.Delay = taskmanager.EventGaveUp, 0
	return e
}

// statuses are those of the answers that the fake has given; 0 where it gave none.
func statuses(d *discordtest.Server) []int {
	var s []int
	for _, r := range d.Requests() {
		s = append(s, r.Status)
	}
	return s
}

var aCount = regexp.MustCompile(` × ([0-9]+)$`)

// told is how many events the messages stand for.
func told(t *testing.T, d *discordtest.Server) int {
	t.Helper()
	return toldOf(t, d, "")
}

// toldOf is how many events of one kind the messages stand for, which is what their titles say of the task.
func toldOf(t *testing.T, d *discordtest.Server, what string) (n int) {
	t.Helper()
	for _, m := range d.Messages() {
		for _, e := range m.Embeds {
			if !strings.HasSuffix(aCount.ReplaceAllString(e.Title, ""), what) {
				continue
			}
			count := 1
			if found := aCount.FindStringSubmatch(e.Title); found != nil {
				var err error
				count, err = strconv.Atoi(found[1])
				require.NoError(t, err)
			}
			n += count
		}
	}
	return n
}

// took asserts how long f takes.
func took(t *testing.T, want time.Duration, f func()) {
	t.Helper()
	began := time.Now()
	f()
	assert.Equal(t, want, time.Since(began))
}
