package notify

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A script answers requests, one after the other; those after the last are taken.
type script struct {
	answers []answer
	sent    []time.Duration // when each request was made, since the beginning
	began   time.Time
}

type answer struct {
	status int
	header map[string]string
	body   string
	err    error
	hangs  bool
}

func (s *script) send(ctx context.Context, _ *Message) (*Response, error) {
	s.sent = append(s.sent, time.Since(s.began))
	a := answer{status: http.StatusOK}
	if n := len(s.sent); n <= len(s.answers) {
		a = s.answers[n-1]
	}
	if a.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if a.err != nil {
		return nil, a.err
	}
	r := &Response{Status: a.status, Header: http.Header{}, Body: []byte(a.body)}
	for key, value := range a.header {
		r.Header.Set(key, value)
	}
	return r, nil
}

// deliveries calls test in a bubble with a Notifier that is answered so.
func deliveries(t *testing.T, answers []answer, test func(t *testing.T, n *Notifier, s *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: answers, began: time.Now()}
		n, err := New(Config{Secret: "the-token"}, s.send)
		require.NoError(t, err)
		test(t, n, s)
	})
}

// report reports one event with the deadline that a Manager sets.
func report(t *testing.T, n *Notifier) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return n.Report(ctx, failed())
}

func ms(numbers ...int) (ds []time.Duration) {
	for _, n := range numbers {
		ds = append(ds, time.Duration(n)*time.Millisecond)
	}
	return ds
}

func TestRateLimitIsWaitedFor(t *testing.T) {
	for _, c := range []struct {
		name  string
		first answer
		wait  time.Duration
	}{
		{"fraction in the body", answer{body: `{"message": "You are being rate limited.", "retry_after": 0.75, "global": false}`, header: map[string]string{"Retry-After": "1"}}, 750 * time.Millisecond},
		{"whole number", answer{body: `{"retry_after": 3}`}, 3 * time.Second},
		{"HTML with a header", answer{body: "<html>Error 1015</html>", header: map[string]string{"Retry-After": "2"}}, 2 * time.Second},
		{"fraction in the header", answer{header: map[string]string{"Retry-After": "0.25"}}, 250 * time.Millisecond},
		{"a date", answer{header: map[string]string{"Retry-After": "Sat, 01 Jan 2000 00:00:04 GMT"}}, 4 * time.Second},
		{"a date in the past", answer{header: map[string]string{"Retry-After": "Fri, 31 Dec 1999 23:00:00 GMT"}}, 0},
		{"the bucket's header", answer{header: map[string]string{"X-RateLimit-Reset-After": "1.5"}}, 1500 * time.Millisecond},
		{"HTML and nothing else", answer{body: "<html>"}, 5 * time.Second},
		{"nothing that is a time", answer{body: `{"retry_after": null}`, header: map[string]string{"Retry-After": "soon"}}, 5 * time.Second},
		{"less than nothing", answer{body: `{"retry_after": -3}`}, 5 * time.Second},
		{"the longer of two", answer{body: `{"retry_after": 0.5}`, header: map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "2"}}, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.first.status = http.StatusTooManyRequests
			deliveries(t, []answer{c.first}, func(t *testing.T, n *Notifier, s *script) {
				require.NoError(t, report(t, n))
				assert.Equal(t, []time.Duration{0, c.wait}, s.sent)
			})
		})
	}
}

// A limit is not tested: after the last request that it allows, the next one waits.
func TestExhaustedRateLimitIsNotExceeded(t *testing.T) {
	last := map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.25"}
	more := map[string]string{"X-RateLimit-Remaining": "3", "X-RateLimit-Reset-After": "1.25"}
	deliveries(t, []answer{{status: 200, header: more}, {status: 204, header: last}}, func(t *testing.T, n *Notifier, s *script) {
		for range 3 {
			require.NoError(t, report(t, n))
		}
		assert.Equal(t, ms(0, 0, 1250), s.sent)
	})
}

func TestFaultsAreRetriedWithBackoff(t *testing.T) {
	reset := errors.New("connection reset by peer")
	for _, c := range []struct {
		name  string
		fault answer
		text  string
	}{
		{"500", answer{status: 500, body: `{"message": "500: Internal Server Error", "code": 0}`}, "discord: 500 Internal Server Error: 500: Internal Server Error"},
		{"502", answer{status: 502, body: "<html>"}, "discord: 502 Bad Gateway"},
		{"520", answer{status: 520}, "discord: 520"},
		{"reset", answer{err: reset}, "discord: connection reset by peer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			deliveries(t, []answer{c.fault, c.fault, c.fault}, func(t *testing.T, n *Notifier, s *script) {
				require.NoError(t, report(t, n))
				assert.Equal(t, ms(0, 500, 1500, 3500), s.sent)
			})
			deliveries(t, []answer{c.fault, c.fault, c.fault, c.fault}, func(t *testing.T, n *Notifier, s *script) {
				err := report(t, n)
				assert.EqualError(t, err, c.text)
				assert.NotErrorIs(t, err, taskmanager.ErrReporterClosed)
				assert.Equal(t, ms(0, 500, 1500, 3500), s.sent)
				require.NoError(t, report(t, n), "the next one is tried at once")
			})
		})
	}
	deliveries(t, []answer{{err: reset}, {err: reset}, {err: reset}, {err: reset}}, func(t *testing.T, n *Notifier, _ *script) {
		assert.ErrorIs(t, report(t, n), reset)
	})
}

// A 429 counts as an attempt: a server that always says "at once" is not asked for ever.
func TestRateLimitAttemptsAreBounded(t *testing.T) {
	at := answer{status: 429, body: `{"retry_after": 0}`}
	deliveries(t, []answer{at, at, at, at, at}, func(t *testing.T, n *Notifier, s *script) {
		assert.EqualError(t, report(t, n), "discord: 429 Too Many Requests")
		assert.Len(t, s.sent, 4)
	})
}

// An attempt that hangs leaves time for another.
func TestHangingServer(t *testing.T) {
	deliveries(t, []answer{{hangs: true}}, func(t *testing.T, n *Notifier, s *script) {
		require.NoError(t, report(t, n))
		assert.Equal(t, ms(0, 5500), s.sent)
	})
	deliveries(t, []answer{{hangs: true}, {hangs: true}}, func(t *testing.T, n *Notifier, s *script) {
		err := report(t, n)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, 10*time.Second, time.Since(s.began), "not beyond the deadline")
		assert.Len(t, s.sent, 2)
	})
	// Without a deadline, too, it comes to an end.
	deliveries(t, []answer{{hangs: true}, {hangs: true}, {hangs: true}, {hangs: true}}, func(t *testing.T, n *Notifier, s *script) {
		assert.Error(t, n.Report(context.Background(), failed()))
		assert.Equal(t, 23500*time.Millisecond, time.Since(s.began))
	})
}

// What can't come before the deadline is not waited for; nor does it cost a request to find out
// again.
func TestWaitBeyondDeadlineReturnsAtOnce(t *testing.T) {
	limited := answer{status: 429, body: `{"message": "You are being rate limited.", "retry_after": 10.0}`}
	deliveries(t, []answer{limited}, func(t *testing.T, n *Notifier, s *script) {
		assert.EqualError(t, report(t, n),
			"discord: 429 Too Many Requests: You are being rate limited.: the next attempt would have to wait 10s")
		assert.EqualError(t, report(t, n), "discord: the rate limit allows no request yet: the next attempt would have to wait 10s")
		assert.Zero(t, time.Since(s.began))
		time.Sleep(time.Second)
		require.NoError(t, report(t, n))
		assert.Equal(t, ms(0, 10_000), s.sent)
	})
	down := answer{status: 503}
	deliveries(t, []answer{down}, func(t *testing.T, n *Notifier, s *script) {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		assert.EqualError(t, n.Report(ctx, failed()), "discord: 503 Service Unavailable: the next attempt would have to wait 500ms")
		assert.Zero(t, time.Since(s.began))
	})
}

// The Manager is told when the next request is allowed, so that it neither comes earlier nor counts the
// attempt.
func TestRateLimitIsToldToTheManager(t *testing.T) {
	asks := func(t *testing.T, err error) time.Duration {
		var busy interface{ RetryAfter() time.Duration }
		require.ErrorAs(t, err, &busy)
		return busy.RetryAfter()
	}
	long, short := answer{status: 429, body: `{"retry_after": 30.5}`}, answer{status: 429, body: `{"retry_after": 2}`}
	deliveries(t, []answer{long}, func(t *testing.T, n *Notifier, _ *script) {
		assert.Equal(t, 30500*time.Millisecond, asks(t, report(t, n)))
		time.Sleep(10 * time.Second)
		assert.Equal(t, 20500*time.Millisecond, asks(t, report(t, n)))
	})
	deliveries(t, []answer{short, short, short, short}, func(t *testing.T, n *Notifier, s *script) {
		assert.Equal(t, 2*time.Second, asks(t, report(t, n)), "after the last attempt")
		assert.Len(t, s.sent, 4)
	})
	down := answer{status: 503}
	deliveries(t, []answer{down, down, down, down}, func(t *testing.T, n *Notifier, _ *script) {
		var busy interface{ RetryAfter() time.Duration }
		assert.NotErrorAs(t, report(t, n), &busy, "any other fault counts")
	})
}

func TestWaitWithoutDeadlineIsBounded(t *testing.T) {
	minute := answer{status: 429, body: `{"retry_after": 60}`}
	longer := answer{status: 429, body: `{"retry_after": 60.001}`}
	absurd := answer{status: 429, body: `{"retry_after": 1e300}`}
	deliveries(t, []answer{minute, longer}, func(t *testing.T, n *Notifier, s *script) {
		assert.ErrorContains(t, n.Report(context.Background(), failed()), "would have to wait 1m0.001s")
		assert.Equal(t, time.Minute, time.Since(s.began))
	})
	deliveries(t, []answer{absurd}, func(t *testing.T, n *Notifier, s *script) {
		assert.ErrorContains(t, n.Report(context.Background(), failed()), "would have to wait 24h0m0s")
		assert.Zero(t, time.Since(s.began))
	})
}

func TestCanceledContext(t *testing.T) {
	shutdown := errors.New("shutdown")
	deliveries(t, []answer{{status: 502}, {status: 429, body: `{"retry_after": 30}`}}, func(t *testing.T, n *Notifier, s *script) {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(shutdown)
		assert.ErrorIs(t, n.Report(ctx, failed()), shutdown)
		assert.Empty(t, s.sent, "before it began")

		for range 2 { // in a backoff, and in a wait for the rate limit
			ctx, cancel = context.WithCancelCause(context.Background())
			time.AfterFunc(200*time.Millisecond, func() { cancel(shutdown) })
			began := time.Now()
			err := n.Report(ctx, failed())
			assert.ErrorIs(t, err, shutdown)
			assert.Equal(t, 200*time.Millisecond, time.Since(began))
		}
		assert.Len(t, s.sent, 2)
	})
	// During an attempt.
	deliveries(t, []answer{{hangs: true}}, func(t *testing.T, n *Notifier, s *script) {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(200*time.Millisecond, cancel)
		assert.ErrorIs(t, n.Report(ctx, failed()), context.Canceled)
		assert.Equal(t, 200*time.Millisecond, time.Since(s.began))
		assert.Len(t, s.sent, 1)
	})
}

// These say that no later request will be taken either, and Discord bars those who go on.
func TestFinalStatuses(t *testing.T) {
	for status, c := range map[int]struct{ body, text string }{
		401: {`{"message": "Invalid Webhook Token", "code": 50027}`, "discord: 401 Unauthorized: Invalid Webhook Token (code 50027)"},
		403: {`{"message": "Missing Access", "code": 50001}`, "discord: 403 Forbidden: Missing Access (code 50001)"},
		404: {`{"message": "Unknown Webhook", "code": 10015}`, "discord: 404 Not Found: Unknown Webhook (code 10015)"},
	} {
		deliveries(t, []answer{{status: status, body: c.body}}, func(t *testing.T, n *Notifier, s *script) {
			for range 3 {
				count, err := n.ReportBatch(context.Background(), []taskmanager.Event{failed(), failed()})
				assert.Zero(t, count)
				assert.ErrorIs(t, err, taskmanager.ErrReporterClosed)
				assert.EqualError(t, err, c.text)
			}
			assert.Equal(t, ms(0), s.sent)
		})
	}
}

// Other refusals are of this message alone.
func TestRefusedMessageIsNotRetried(t *testing.T) {
	for _, status := range []int{301, 307, 400, 405, 413} {
		deliveries(t, []answer{{status: status}}, func(t *testing.T, n *Notifier, s *script) {
			err := report(t, n)
			assert.ErrorContains(t, err, http.StatusText(status))
			assert.NotErrorIs(t, err, taskmanager.ErrReporterClosed)
			assert.Len(t, s.sent, 1)
			assert.NoError(t, report(t, n))
		})
	}
}

func TestReportBatch(t *testing.T) {
	events := make([]taskmanager.Event, 12)
	for i := range events {
		events[i] = failed()
	}
	deliveries(t, nil, func(t *testing.T, n *Notifier, s *script) {
		count, err := n.ReportBatch(context.Background(), events)
		require.NoError(t, err)
		assert.Equal(t, 10, count)
		assert.Len(t, s.sent, 1)
	})
	deliveries(t, []answer{{status: 400}}, func(t *testing.T, n *Notifier, s *script) {
		count, err := n.ReportBatch(context.Background(), events)
		assert.Error(t, err)
		assert.Zero(t, count)
	})
	synctest.Test(t, func(t *testing.T) {
		s := &script{}
		n, err := New(Config{Events: []taskmanager.EventKind{taskmanager.EventStuck}}, s.send)
		require.NoError(t, err)
		count, err := n.ReportBatch(context.Background(), events)
		require.NoError(t, err)
		assert.Equal(t, 12, count)
		assert.Empty(t, s.sent, "nothing to send")
	})
}

func TestErrorsSayWhatWasRefused(t *testing.T) {
	for _, c := range []struct{ name, body, text string }{
		{
			"fields", `{"code": 50035, "message": "Invalid Form Body", "errors": {
			"username": {"_errors": [{"code": "USERNAME_INVALID_CONTAINS", "message": "Username cannot contain \"discord\""}]},
			"embeds": {"0": {"title": {"_errors": [{"code": "BASE_TYPE_MAX_LENGTH", "message": "Must be 256 or fewer in length."}]}}}}}`,
			`discord: 400 Bad Request: Invalid Form Body (code 50035): embeds.0.title: Must be 256 or fewer in length.; username: Username cannot contain "discord"`,
		},
		{
			"the whole", `{"code": 50035, "message": "Invalid Form Body", "errors": {"_errors": [{"message": "too large"}]}}`,
			`discord: 400 Bad Request: Invalid Form Body (code 50035): too large`,
		},
		{
			"empty message", `{"message": "Cannot send an empty message", "code": 50006}`,
			`discord: 400 Bad Request: Cannot send an empty message (code 50006)`,
		},
		{"HTML", `<html>nginx</html>`, `discord: 400 Bad Request`},
		{"nothing", ``, `discord: 400 Bad Request`},
		{"other JSON", `[1, 2]`, `discord: 400 Bad Request`},
		{"errors of another form", `{"message": "no", "errors": [{"_errors": 1}, null, "x"]}`, `discord: 400 Bad Request: no`},
		{"unfit for a log", `{"message": "a\nb\u001b[31m\u202E"}`, "discord: 400 Bad Request: a b\uFFFD[31m\uFFFD"},
		{"long", `{"message": "` + strings.Repeat("x", 5000) + `"}`, "discord: 400 Bad Request: " + strings.Repeat("x", 299) + "…"},
		{"secret", `{"message": "the-token is not known"}`, "discord: 400 Bad Request: [redacted] is not known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			deliveries(t, []answer{{status: 400, body: c.body}}, func(t *testing.T, n *Notifier, _ *script) {
				assert.EqualError(t, report(t, n), c.text)
			})
		})
	}
}

// No error shows the secret, also not by what it wraps; it still says whether it is final.
func TestSecretIsHidden(t *testing.T) {
	leak := errors.New("dial /api/webhooks/1/the-token: refused")
	deliveries(t, []answer{{err: leak}, {err: leak}, {err: leak}, {err: leak}}, func(t *testing.T, n *Notifier, _ *script) {
		err := report(t, n)
		assert.EqualError(t, err, "discord: dial /api/webhooks/1/[redacted]: refused")
		assert.NotErrorIs(t, err, leak)
		assert.NotErrorIs(t, err, taskmanager.ErrReporterClosed)
	})
	deliveries(t, []answer{{status: 404, body: `{"message": "no the-token"}`}}, func(t *testing.T, n *Notifier, _ *script) {
		err := report(t, n)
		assert.EqualError(t, err, "discord: 404 Not Found: no [redacted]")
		assert.ErrorIs(t, err, taskmanager.ErrReporterClosed)
	})
}
