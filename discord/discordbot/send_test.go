package discordbot_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bwmarrin/discordgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
	"github.com/go-taskmanager/taskmanager/discord/discordbot"
	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

// Each fault once, and how long a report takes then. A session of discordgo would retry a 429 and a
// 502 by itself; that it does not shows in the durations and the number of requests.
func TestRetries(t *testing.T) {
	for name, c := range map[string]struct {
		fault  discordtest.Fault
		status int
		takes  time.Duration
	}{
		"429 in JSON":      {discordtest.RateLimited(1250*time.Millisecond, false), 429, 1250 * time.Millisecond},
		"429 for all":      {discordtest.RateLimited(750*time.Millisecond, true), 429, 750 * time.Millisecond},
		"429 in HTML":      {discordtest.HTML429(3 * time.Second), 429, 3 * time.Second},
		"429 without time": {discordtest.HTML429(0), 429, 5 * time.Second},
		"500":              {discordtest.Status(500), 500, 500 * time.Millisecond},
		"502":              {discordtest.Status(502), 502, 500 * time.Millisecond},
		"hang":             {discordtest.Hang(), 0, 5500 * time.Millisecond},
		"reset":            {discordtest.Reset(), 0, 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, d := newReporter(t)
				d.Fail(1, c.fault)
				took(t, c.takes, func() { require.NoError(t, r.Report(t.Context(), failed("a"))) })
				assert.Equal(t, []int{c.status, 200}, statuses(d))
				assert.Len(t, d.Messages(), 1)
			})
		})
	}
}

// A body that never ends does not matter once the status has come.
func TestStalledBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		d.Fail(1, discordtest.Stall())
		took(t, 5*time.Second, func() { require.NoError(t, r.Report(t.Context(), failed("a"))) })
		assert.Equal(t, []int{200}, statuses(d))
	})
}

func TestRetriesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, f := range []discordtest.Fault{discordtest.Status(502), discordtest.Reset()} {
			r, d := newReporter(t)
			d.Fail(100, f)
			// 0.5 s, 1 s and 2 s between four attempts.
			took(t, 3500*time.Millisecond, func() { require.Error(t, r.Report(t.Context(), failed("a"))) })
			assert.Len(t, d.Requests(), 4)
		}
	})
}

func TestContextIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		for _, f := range []discordtest.Fault{
			discordtest.Hang(), discordtest.Stall(), discordtest.RateLimited(10*time.Second, false), discordtest.RateLimited(10*time.Second, true),
		} {
			r, d := newReporter(t)
			d.Fail(100, f)
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(1500*time.Millisecond, func() { cancel(gone) })
			took(t, 1500*time.Millisecond, func() { _ = r.Report(ctx, failed("a")) })
			assert.Len(t, d.Requests(), 1)

			// A wait beyond the deadline is not begun.
			r, d = newReporter(t)
			d.Fail(100, discordtest.RateLimited(10*time.Second, false))
			ctx, stop := context.WithTimeout(t.Context(), 9*time.Second)
			took(t, 0, func() { require.Error(t, r.Report(ctx, failed("a"))) })
			took(t, 0, func() { require.Error(t, r.Report(ctx, failed("a"))) })
			assert.Len(t, d.Requests(), 1, "the second report knows of the limit")
			stop()
		}
	})
}

// What the headers of a success say is waited for: nothing is answered with 429.
func TestRateLimitIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		d.SetRateLimit(2, 3500*time.Millisecond)
		took(t, 7*time.Second, func() {
			for range 5 {
				require.NoError(t, r.Report(t.Context(), failed("a")))
			}
		})
		assert.Equal(t, []int{200, 200, 200, 200, 200}, statuses(d))
	})
}

// The rate limiter of discordgo sleeps with a lock held. No report waits for it.
func TestLimiterOfTheSessionIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := discordtest.New()
		d.AddBot(token, channel)
		s := newSession(t, d)
		r, err := discordbot.New(s, channel)
		require.NoError(t, err)

		// The service itself has used up the limit of the channel, and waits.
		d.SetRateLimit(1, time.Minute)
		_, err = s.ChannelMessageSend(channel, "a")
		require.NoError(t, err)
		sent := make(chan error)
		go func() {
			_, sendErr := s.ChannelMessageSend(channel, "b")
			sent <- sendErr
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		took(t, 0, func() { require.Error(t, r.Report(ctx, failed("c"))) })
		assert.Equal(t, []int{200, 429}, statuses(d))

		d.SetRateLimit(100, time.Minute)
		r, err = discordbot.New(s, channel)
		require.NoError(t, err)
		took(t, 0, func() { require.NoError(t, r.Report(t.Context(), failed("d"))) })
		took(t, time.Minute, func() { require.NoError(t, <-sent) })
	})
}

// If the answer to a message gets lost, the next attempt doesn't show it twice, even if it is the
// next call of Report; another message is another one.
func TestLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		e := failed("a")
		d.Fail(4, discordtest.Lose())
		require.Error(t, r.Report(t.Context(), e))
		require.NoError(t, r.Report(t.Context(), e))
		assert.Len(t, d.Requests(), 5)
		assert.Len(t, d.Messages(), 1)

		require.NoError(t, r.Report(t.Context(), failed("b")))
		assert.Len(t, d.Messages(), 2)
		other, err := discordbot.New(newSession(t, d), channel, discordbot.WithHost("web-1"))
		require.NoError(t, err)
		require.NoError(t, other.Report(t.Context(), e))
		assert.Len(t, d.Messages(), 3, "another Reporter, perhaps of another process, has something of its own to tell")
	})
}

func TestFinalStatuses(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(d *discordtest.Server)
		text    string
	}{
		"401": {func(d *discordtest.Server) {}, "discord: 401 Unauthorized"},
		"403": {func(d *discordtest.Server) { d.AddBot(token); d.AddChannel(channel) }, "discord: 403 Forbidden: Missing Access (code 50001)"},
		"404": {func(d *discordtest.Server) { d.AddBot(token) }, "discord: 404 Not Found: Unknown Channel (code 10003)"},
	} {
		t.Run(name, func(t *testing.T) {
			d := discordtest.New()
			c.prepare(d)
			r, err := discordbot.New(newSession(t, d), channel)
			require.NoError(t, err)
			for range 3 {
				err = r.Report(t.Context(), failed("a"))
				require.ErrorIs(t, err, taskmanager.ErrReporterClosed)
				assert.ErrorContains(t, err, c.text)
			}
			assert.Len(t, d.Requests(), 1, "no further request")
		})
	}
}

// The Manager says so once, and goes on with the next Reporter.
func TestFinalStatusEndsReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		d.Fail(100, discordtest.Status(401))
		m, log := newManager(t, taskmanager.WithReporter(r), taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
		_, err := m.StartTask("poller", func(context.Context) error { return errors.New("a") })
		require.NoError(t, err)
		time.Sleep(100*time.Second + time.Millisecond)
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Equal(t, []int{401}, statuses(d))
		assert.Equal(t, 1, strings.Count(log.String(), "401 Unauthorized"), log.String())
		assert.NotContains(t, log.String(), token)
		assert.Equal(t, uint64(101), m.Stats().ReportsLost)
	})
}

// A crash loop of 1,000 failures makes few messages, which tell of all of them.
func TestCrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		m, _ := newManager(t, taskmanager.WithReporter(r))
		runs := 0
		task, err := m.StartTask("poller", func(context.Context) error {
			if runs++; runs > 1000 {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
			return errors.New("a")
		})
		require.NoError(t, err)
		require.NoError(t, task.Wait(t.Context()))
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Equal(t, 1000, told(t, d))
		assert.LessOrEqual(t, len(d.Messages()), 25)
	})
}

// A Discord that hangs delays neither a restart nor the end of Shutdown.
func TestHangingDiscord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		d.Fail(1000, discordtest.Hang())
		m, _ := newManager(t, taskmanager.WithReporter(r), taskmanager.WithBackoff(time.Second, time.Second), taskmanager.WithBackoffJitter(0))
		task, err := m.StartTask("poller", func(context.Context) error { return errors.New("a") })
		require.NoError(t, err)
		time.Sleep(59*time.Second + time.Millisecond)
		assert.Equal(t, uint64(60), task.Stats().Runs)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		took(t, 2*time.Second, func() { _ = m.Shutdown(ctx) })
	})
}

// The answer of another server is not asked for.
func TestRedirectIsNotFollowed(t *testing.T) {
	s, err := discordgo.New("Bot " + token)
	require.NoError(t, err)
	var asked []string
	s.Client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.Host)
		return &http.Response{
			StatusCode: http.StatusTemporaryRedirect, Body: http.NoBody, Request: r,
			Header: http.Header{"Location": {"https://example.org/"}},
		}, nil
	})
	r, err := discordbot.New(s, channel)
	require.NoError(t, err)
	require.ErrorContains(t, r.Report(t.Context(), failed("a")), "307")
	assert.Equal(t, []string{"discord.com"}, asked)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The session's own client stays as it is.
func TestClientIsNotChanged(t *testing.T) {
	d := discordtest.New()
	d.AddBot(token, channel)
	s := newSession(t, d)
	transport := s.Client.Transport
	r, err := discordbot.New(s, channel)
	require.NoError(t, err)
	require.NoError(t, r.Report(t.Context(), failed("a")))
	assert.Equal(t, transport, s.Client.Transport)
	assert.Nil(t, s.Client.CheckRedirect)
	assert.True(t, s.ShouldRetryOnRateLimit)
	assert.Equal(t, 3, s.MaxRestRetries)
}

// A session without a transport of its own uses the default one, as package http does.
func TestDefaultTransport(t *testing.T) {
	defaultTransport := http.DefaultTransport
	defer func() { http.DefaultTransport = defaultTransport }()
	d := discordtest.New()
	d.AddBot(token, channel)
	http.DefaultTransport = d.Transport()
	s, err := discordgo.New("Bot " + token)
	require.NoError(t, err)
	r, err := discordbot.New(s, channel)
	require.NoError(t, err)
	require.NoError(t, r.Report(t.Context(), failed("a")))
	assert.Len(t, d.Messages(), 1)
}

// A foreign session may do the request in its own way, and return what discordgo does.
type foreign struct {
	errs  []error
	calls int
}

func (f *foreign) RequestWithLockedBucket(_, _, _ string, _ []byte, bucket *discordgo.Bucket, _ int, options ...discordgo.RequestOption) ([]byte, error) {
	defer func() { _ = bucket.Release(nil) }()
	request, _ := http.NewRequest(http.MethodPost, "https://discord.com/", http.NoBody) //nolint:noctx // an option sets it
	for _, o := range options {
		o(&discordgo.RequestConfig{Request: request})
	}
	err := f.errs[f.calls]
	f.calls++
	return nil, err
}

func TestForeignSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited := &discordgo.RateLimitError{RateLimit: &discordgo.RateLimit{TooManyRequests: &discordgo.TooManyRequests{RetryAfter: 1500 * time.Millisecond}}}
		unavailable := &discordgo.RESTError{Response: &http.Response{StatusCode: http.StatusServiceUnavailable}}
		lost := &url.Error{Op: "Post", URL: "https://discord.com/", Err: errors.New("lost")}
		f := &foreign{errs: []error{limited, unavailable, lost, nil}}
		r, err := discordbot.New(f, channel)
		require.NoError(t, err)
		// The limit's time, then the pauses after the second and the third attempt.
		took(t, 1500*time.Millisecond+time.Second+2*time.Second, func() { require.NoError(t, r.Report(t.Context(), failed("a"))) })
		assert.Equal(t, 4, f.calls)

		gone := &discordgo.RESTError{
			Request:  &http.Request{Header: http.Header{"Authorization": {"Bot " + token}}},
			Response: &http.Response{StatusCode: http.StatusNotFound}, ResponseBody: []byte(`{"message":"Unknown Channel","code":10003}`),
		}
		r, err = discordbot.New(&foreign{errs: []error{gone}}, channel)
		require.NoError(t, err)
		err = r.Report(t.Context(), failed("a"))
		require.ErrorIs(t, err, taskmanager.ErrReporterClosed)
		assert.ErrorContains(t, err, "Unknown Channel (code 10003)")
		assert.NotErrorAs(t, err, new(*discordgo.RESTError), "it shows the token")

		r, err = discordbot.New(&foreign{errs: []error{lost, lost, lost, lost}}, channel)
		require.NoError(t, err)
		err = r.Report(t.Context(), failed("a"))
		assert.EqualError(t, err, "discord: lost")
	})
}
