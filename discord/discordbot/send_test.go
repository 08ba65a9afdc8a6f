package discordbot_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// What says that the channel is not there, or not for this bot, is asked about rarely; it is not final.
func TestAbsentChannel(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(d *discordtest.Server)
		text    string
	}{
		"401": {func(d *discordtest.Server) {}, "discord: 401 Unauthorized: 401: Unauthorized"},
		"403": {func(d *discordtest.Server) { d.AddBot(token); d.AddChannel(channel) }, "discord: 403 Forbidden: Missing Access (code 50001)"},
		"404": {func(d *discordtest.Server) { d.AddBot(token) }, "discord: 404 Not Found: Unknown Channel (code 10003)"},
		"forum": {
			func(d *discordtest.Server) { d.AddForum(channel); d.AddBot(token, channel) },
			"discord: 400 Bad Request: Cannot send messages in a non-text channel (code 50008)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := discordtest.New()
				c.prepare(d)
				r, err := discordbot.New(newSession(t, d), channel)
				require.NoError(t, err)
				for range 3 {
					err = r.Report(t.Context(), failed("a"))
					require.EqualError(t, err, c.text)
					assert.NotErrorIs(t, err, taskmanager.ErrReporterClosed)
				}
				assert.Len(t, d.Requests(), 1, "no further request")
				time.Sleep(time.Minute)
				d.AddChannel(channel)
				d.AddBot(token, channel)
				require.NoError(t, r.Report(t.Context(), failed("a")))
			})
		})
	}
}

// A day with a token that is none costs few requests, and one line in the log for each. When it is put right, what is left is told.
func TestAbsentChannelInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		d.Fail(1000, discordtest.Status(401))
		m, log := newManager(t, taskmanager.WithReporter(r), taskmanager.WithBackoff(time.Minute, time.Minute), taskmanager.WithBackoffJitter(0))
		_, err := m.StartTask("poller", func(context.Context) error { return errors.New("a") })
		require.NoError(t, err)
		time.Sleep(24 * time.Hour)
		requests := len(d.Requests())
		assert.LessOrEqual(t, requests, 30)
		d.Recover()
		time.Sleep(time.Hour)
		synctest.Wait() // a failure may be due at this moment
		failures := int(m.Stats().Failures)
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Equal(t, failures, told(t, d))
		assert.Zero(t, m.Stats().ReportsLost)
		assert.Equal(t, requests, strings.Count(log.String(), "401 Unauthorized"))
		assert.NotContains(t, log.String(), token)
	})
}

// A crash loop of 1,000 failures makes few messages, which tell of all of them, and that they are over.
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
		assert.Equal(t, 1000, toldOf(t, d, "failed, will restart"))
		assert.Equal(t, 1, toldOf(t, d, "recovered"), "by the run that returned nil")
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
	errs   []error
	answer string // without an error
	calls  int
}

func (f *foreign) RequestWithLockedBucket(_, _, _ string, _ []byte, bucket *discordgo.Bucket, _ int, options ...discordgo.RequestOption) ([]byte, error) {
	defer func() { _ = bucket.Release(nil) }()
	request, _ := http.NewRequest(http.MethodPost, "https://discord.com/", http.NoBody) //nolint:noctx // an option sets it
	for _, o := range options {
		o(&discordgo.RequestConfig{Request: request})
	}
	err := f.errs[f.calls]
	f.calls++
	if err != nil {
		return nil, err
	}
	return []byte(f.answer), nil
}

func TestForeignSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited := &discordgo.RateLimitError{RateLimit: &discordgo.RateLimit{TooManyRequests: &discordgo.TooManyRequests{RetryAfter: 1500 * time.Millisecond}}}
		unavailable := &discordgo.RESTError{Response: &http.Response{StatusCode: http.StatusServiceUnavailable}}
		lost := &url.Error{Op: "Post", URL: "https://discord.com/", Err: errors.New("lost")}
		f := &foreign{errs: []error{limited, unavailable, lost, nil}, answer: `{"id": "1"}`}
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
		assert.EqualError(t, err, "discord: 404 Not Found: Unknown Channel (code 10003)")
		assert.NotErrorAs(t, err, new(*discordgo.RESTError), "it shows the token")

		r, err = discordbot.New(&foreign{errs: []error{lost, lost, lost, lost}}, channel)
		require.NoError(t, err)
		err = r.Report(t.Context(), failed("a"))
		assert.EqualError(t, err, "discord: lost")

		// What is no message is no delivery.
		r, err = discordbot.New(&foreign{errs: []error{nil}}, channel)
		require.NoError(t, err)
		assert.EqualError(t, r.Report(t.Context(), failed("a")), "discord: 200 OK, but it is no answer of Discord's")
	})
}

// A message that may have been taken goes out again as it was, whatever has come in since.
func TestLostAnswerOfGrownBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		a, b := failed("a"), failed("b")
		a.Task, b.Task = "a", "b"
		d.Fail(4, discordtest.Lose())
		n, err := r.ReportBatch(t.Context(), []taskmanager.Event{a})
		require.Error(t, err)
		assert.Zero(t, n)
		merged := a
		merged.Time, merged.Since, merged.Repeats = a.Time.Add(time.Second), a.Time, 2
		n, err = r.ReportBatch(t.Context(), []taskmanager.Event{merged, b})
		require.NoError(t, err)
		assert.Equal(t, 2, n)
		assert.Equal(t, 4, told(t, d), "three failures of a, one of b")
		assert.Len(t, d.Messages(), 2)
	})
}

// A crash loop in which answers get lost now and then: each failure is told once, and so is each recovery.
func TestLostAnswersCountNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		m, _ := newManager(t, taskmanager.WithReporter(r))
		for i := range 3 {
			runs := 0
			_, err := m.StartTask(string(rune('a'+i)), func(context.Context) error {
				if runs++; runs > 200 {
					return nil
				}
				if i == 0 && runs%90 == 0 {
					d.Fail(5, discordtest.Lose()) // more than one call of Report tries
				}
				time.Sleep(100 * time.Millisecond)
				return errors.New("a")
			})
			require.NoError(t, err)
		}
		time.Sleep(5 * time.Minute)
		require.NoError(t, m.Shutdown(t.Context()))
		assert.Zero(t, m.Stats().ReportsLost)
		assert.Equal(t, 600, toldOf(t, d, "failed, will restart"))
		assert.Equal(t, 3, toldOf(t, d, "recovered"), "by the runs that returned nil")
	})
}

// After 101 the body is the connection, which no context ends.
func TestSwitchingProtocols(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, d := newReporter(t)
		d.Fail(1, discordtest.SwitchingProtocols())
		took(t, 0, func() { assert.EqualError(t, r.Report(t.Context(), failed("a")), "discord: 101 Switching Protocols") })
		require.NoError(t, r.Report(t.Context(), failed("a")))
	})
}

// A wrapper is a Session as one is that counts requests, or has a log of them.
type wrapper struct{ *discordgo.Session }

// Whatever form the token has, whatever the session is, and whenever the token was set: it shows neither in the first message nor in a
// later one, nor in an error or a panic of the transport.
func TestTokenOfAnySession(t *testing.T) {
	for name, c := range map[string]struct {
		token   string
		session func(*discordgo.Session) discordbot.Session
		later   string // set after New
	}{
		"Bot":             {"Bot " + token, nil, ""},
		"lower case":      {"bot " + token, nil, ""},
		"Bearer":          {"Bearer " + token, nil, ""},
		"raw":             {token, nil, ""},
		"wrapper":         {"Bot " + token, func(s *discordgo.Session) discordbot.Session { return wrapper{s} }, ""},
		"set later":       {"", nil, "Bot " + token},
		"replaced later":  {"Bot old", nil, "Bot " + token},
		"wrapper's later": {"", func(s *discordgo.Session) discordbot.Session { return wrapper{s} }, "Bot " + token},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bodies []string
				var answer roundTripper = func(r *http.Request) (*http.Response, error) {
					body, err := io.ReadAll(r.Body)
					require.NoError(t, err)
					assert.EqualValues(t, len(body), r.ContentLength)
					bodies = append(bodies, string(body))
					return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"id": "1"}`)), Request: r}, nil
				}
				s, err := discordgo.New(c.token)
				require.NoError(t, err)
				s.Client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) { return answer(r) }) // the one of the moment
				s.LogLevel = -1
				s.Client.Timeout = 0 // or else a client of package http whose transport panics leaves a goroutine until then
				var session discordbot.Session = s
				if c.session != nil {
					session = c.session(s)
				}
				r, err := discordbot.New(session, channel, discordbot.WithHost(""))
				require.NoError(t, err)
				if c.later != "" {
					s.Token = c.later
				}
				e := failed("GET /?token=" + token)
				e.Task = token
				for range 2 {
					require.NoError(t, r.Report(t.Context(), e))
				}
				require.Len(t, bodies, 2)
				for _, body := range bodies {
					assert.NotContains(t, body, token)
					assert.Contains(t, body, "GET /?token=[redacted]")
				}
				for _, fails := range []func(*http.Request) (*http.Response, error){
					func(*http.Request) (*http.Response, error) { return nil, errors.New("no such token: " + token) },
					func(*http.Request) (*http.Response, error) { panic("no such token: " + token) },
					func(r *http.Request) (*http.Response, error) {
						body := `{"message": "no such token: ` + token + `", "code": 0}`
						return &http.Response{StatusCode: http.StatusUnauthorized, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
					},
				} {
					answer = fails
					err := r.Report(t.Context(), e)
					require.ErrorContains(t, err, "no such token: [redacted]")
					assert.NotContains(t, fmt.Sprintf("%v %+v", err, err), token)
				}
			})
		})
	}
}
