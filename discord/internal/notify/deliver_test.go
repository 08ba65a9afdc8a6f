package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager"
)

// A script answers requests, one after the other; those after the last are taken.
type script struct {
	answers []answer
	refuses string                 // whatever has this text
	refusal answer                 // is the answer to that; by default that of the filter for harmful links
	fail    func(body string) bool // has no answer; nil for none
	sent    []time.Duration        // when each request was made, since the beginning
	began   time.Time
	bodies  []string // of the requests
	taken   []string // of them
}

// message is the body of the answer to a message that was taken.
const message = `{"id": "1"}`

type answer struct {
	status int
	header map[string]string
	body   string
	err    error
	hangs  bool
}

func (s *script) send(ctx context.Context, m *Message) (*Response, error) {
	body, err := json.Marshal(m.Body())
	if err != nil {
		return nil, err
	}
	s.bodies = append(s.bodies, string(body))
	s.sent = append(s.sent, time.Since(s.began))
	a := answer{status: http.StatusOK, body: message}
	if n := len(s.sent); n <= len(s.answers) {
		a = s.answers[n-1]
	}
	switch {
	case s.refuses != "" && strings.Contains(string(body), s.refuses):
		if a = s.refusal; a.status == 0 {
			a = answer{status: 400, body: `{"message": "Message blocked by harmful links filter", "code": 240000}`}
		}
	case s.fail != nil && s.fail(string(body)):
		a = answer{err: errors.New("reset")}
	case a.status == http.StatusOK:
		s.taken = append(s.taken, string(body))
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
		n, err := New(Config{Secrets: func() []string { return []string{"the-token"} }}, s.send)
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

// asks returns how long err asks to be left alone.
func asks(t *testing.T, err error) time.Duration {
	t.Helper()
	var pause interface{ RetryAfter() time.Duration }
	require.ErrorAs(t, err, &pause)
	return pause.RetryAfter()
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
	deliveries(t, []answer{{status: 200, header: more, body: message}, {status: 200, header: last, body: message}}, func(t *testing.T, n *Notifier, s *script) {
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

// TestCodes sees what each answer does to an event: is it told in the end, and when, or is it refused for good?
func TestCodes(t *testing.T) {
	const (
		later      = "later"    // the error asks for a minute
		again      = "again"    // the error asks for nothing: in the Manager's time
		textless   = "textless" // it is told without its text, at once
		barred     = "barred"   // likewise; if that is answered so, too: in the Manager\'s time
		portal     = "<html>Accept the terms of our wireless</html>"
		cloudflare = "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>"
	)
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"unknown webhook", 404, `{"message": "Unknown Webhook", "code": 10015}`, later},
		{"invalid webhook token", 401, `{"message": "Invalid Webhook Token", "code": 50027}`, later},
		{"unknown channel", 404, `{"message": "Unknown Channel", "code": 10003}`, later},
		{"missing access", 403, `{"message": "Missing Access", "code": 50001}`, later},
		{"missing permissions", 403, `{"message": "Missing Permissions", "code": 50013}`, later},
		{"a bot's token", 401, `{"message": "401: Unauthorized", "code": 0}`, later},
		{"a forum", 400, `{"message": "Webhooks posted to forum channels must have a thread_name or thread_id", "code": 220001}`, later},
		{"an archived thread", 400, `{"message": "Thread is archived", "code": 50083}`, later},

		{"Cloudflare's page", 403, cloudflare, barred},
		{"Cloudflare's code", 403, `{"message": "internal network error", "code": 40333}`, barred},
		{"disabled", 403, `{"message": "Send messages has been temporarily disabled", "code": 40004}`, again},
		{"401 of a proxy", 401, portal, barred},
		{"404 of a proxy", 404, ``, barred},
		{"403 of another API", 403, `{"message": "Forbidden"}`, barred},
		{"403 without a code", 403, `{"message": "403: Forbidden", "code": 0}`, barred},
		{"405", 405, `{"message": "405: Method Not Allowed", "code": 0}`, barred},
		{"407", 407, ``, barred},
		{"400 of a proxy", 400, `<html>nginx</html>`, barred},
		{"a redirect", 307, ``, again},
		{"101", 101, ``, again},
		{"a captive portal", 200, portal, again},
		{"success of another API", 200, `{"ok": true}`, again},
		{"an id that is none", 200, `{"id": 7}`, again},
		{"a list", 200, `[{"id": "7"}]`, again},
		{"no content", 204, ``, again},
		{"an empty body", 200, ``, again},

		{"harmful links", 400, `{"message": "Message blocked by harmful links filter", "code": 240000}`, textless},
		{"AutoMod", 400, `{"message": "Message was blocked by automatic moderation", "code": 200000}`, textless},
		{"AutoMod, by another status", 403, `{"message": "Message was blocked by automatic moderation", "code": 200000}`, textless},
		{"form", 400, `{"message": "Invalid Form Body", "code": 50035, "errors": {}}`, textless},
		{"without a code", 400, `{"message": "400: Bad Request", "code": 0}`, textless},
		{"too large", 413, `{"message": "Request entity too large", "code": 40005}`, textless},
	} {
		t.Run(c.name, func(t *testing.T) {
			deliveries(t, []answer{{status: c.status, body: c.body}}, func(t *testing.T, n *Notifier, s *script) {
				err := report(t, n)
				assert.NotErrorIs(t, err, taskmanager.ErrReporterClosed)
				assert.NotErrorAs(t, err, new(*backoff.PermanentError))
				switch c.want {
				case textless, barred:
					require.NoError(t, err)
					assert.Equal(t, ms(0, 0), s.sent)
					require.Len(t, s.bodies, 2)
					assert.Contains(t, s.bodies[0], "connection refused")
					assert.NotContains(t, s.bodies[1], "connection refused")
				case later:
					assert.Equal(t, time.Minute, asks(t, err))
				case again:
					require.Error(t, err)
					assert.NotErrorAs(t, err, new(*pauseError))
				}
				if c.want == again || c.want == later {
					assert.Equal(t, ms(0), s.sent, "one request")
					assert.ErrorContains(t, err, fmt.Sprintf("discord: %d", c.status))
				}
			})
			if c.want != barred {
				return
			}
			no := answer{status: c.status, body: c.body}
			deliveries(t, []answer{no, no, no}, func(t *testing.T, n *Notifier, s *script) {
				events := []taskmanager.Event{failed(), failed(), failed()}
				count, err := n.ReportBatch(context.Background(), events)
				assert.Zero(t, count)
				require.ErrorContains(t, err, fmt.Sprintf("discord: %d", c.status))
				assert.NotErrorAs(t, err, new(*backoff.PermanentError))
				assert.NotErrorAs(t, err, new(*pauseError))
				assert.Equal(t, ms(0, 0, 0), s.sent, "all, the first, and the first without its text: it is not about what is in them")
				count, err = n.ReportBatch(context.Background(), events)
				assert.Equal(t, 3, count)
				require.NoError(t, err)
				assert.NotContains(t, s.taken[0], "The error is not shown")
			})
		})
	}
}

// A wrong answer of that kind must not silence the reporter for ever, and asking again and again is barred.
func TestAbsenceIsAskedAboutRarely(t *testing.T) {
	gone := answer{status: 404, body: `{"message": "Unknown Webhook", "code": 10015}`}
	deliveries(t, slices.Repeat([]answer{gone}, 9), func(t *testing.T, n *Notifier, s *script) {
		for range 9 {
			err := report(t, n)
			assert.EqualError(t, err, "discord: 404 Not Found: Unknown Webhook (code 10015)")
			wait := asks(t, err)
			time.Sleep(wait / 2)
			assert.Equal(t, wait-wait/2, asks(t, report(t, n)), "meanwhile, no request is made")
			time.Sleep(wait - wait/2)
		}
		require.NoError(t, report(t, n))
		const m = 60_000
		assert.Equal(t, ms(0, 1*m, 3*m, 7*m, 15*m, 31*m, 63*m, 123*m, 183*m, 243*m), s.sent)

		s.answers = append(s.answers, answer{status: 200, body: message}, gone)
		assert.Equal(t, time.Minute, asks(t, report(t, n)), "it begins anew")
	})
}

// However soon a server says that the time has come: the next request comes later and later.
func TestRateLimitWithoutTimeIsNoStorm(t *testing.T) {
	for _, body := range []string{`{"message": "You are being rate limited.", "retry_after": 0, "global": false}`, `{"retry_after": 0.001}`} {
		deliveries(t, slices.Repeat([]answer{{status: 429, body: body}}, 1000), func(t *testing.T, n *Notifier, s *script) {
			for time.Since(s.began) < 10*time.Minute {
				time.Sleep(max(asks(t, report(t, n)), 1)) // as a Manager does
			}
			assert.Less(t, len(s.sent), 20)
			assert.Greater(t, len(s.sent), 10)
		})
	}
}

// A single event among others that Discord refuses costs the others nothing.
func TestRefusedAmongOthers(t *testing.T) {
	events := make([]taskmanager.Event, 5)
	for i := range events {
		events[i] = failed()
		events[i].Task = fmt.Sprintf("task-%d", i)
	}
	events[2].Err = errors.New("see https://free.example/")
	deliveries(t, nil, func(t *testing.T, n *Notifier, s *script) {
		s.refuses = "free.example"
		count, err := n.ReportBatch(context.Background(), events)
		require.NoError(t, err)
		assert.Equal(t, 5, count)
		assert.Len(t, s.bodies, 1+5+1, "all, each, and one without its text")
		told := s.taken
		require.Len(t, told, 5)
		for i := range told {
			assert.Contains(t, told[i], events[i].Task)
			assert.Equal(t, i != 2, strings.Contains(told[i], "connection refused"))
			assert.Equal(t, i == 2, strings.Contains(told[i], "The error is not shown: its text was refused."))
		}
	})
	// So does one that something on the way dislikes.
	deliveries(t, nil, func(t *testing.T, n *Notifier, s *script) {
		s.refuses, s.refusal = "free.example", answer{status: 403, body: "<!DOCTYPE html>"}
		count, err := n.ReportBatch(context.Background(), events)
		require.NoError(t, err)
		assert.Equal(t, 5, count)
		assert.Len(t, s.taken, 5)
	})
	// It is the name of the task that is refused: it alone is lost.
	events[2].Task = "free.example"
	deliveries(t, nil, func(t *testing.T, n *Notifier, s *script) {
		s.refuses = "free.example"
		count, err := n.ReportBatch(context.Background(), events)
		assert.Equal(t, 2, count, "the first ones are delivered")
		require.ErrorAs(t, err, new(*backoff.PermanentError))
		assert.EqualError(t, err, "discord: 400 Bad Request: Message blocked by harmful links filter (code 240000)")

		count, err = n.ReportBatch(context.Background(), events[2:3]) // as a Manager does then
		assert.Zero(t, count)
		require.ErrorAs(t, err, new(*backoff.PermanentError))
		count, err = n.ReportBatch(context.Background(), events[3:])
		require.NoError(t, err)
		assert.Equal(t, 2, count)
		assert.Len(t, s.taken, 3)
	})
	// An event that has no text is not sent a second time.
	deliveries(t, nil, func(t *testing.T, n *Notifier, s *script) {
		s.refuses = "free.example"
		require.ErrorAs(t, n.Report(context.Background(), taskmanager.Event{Task: "free.example", Kind: taskmanager.EventStuck}), new(*backoff.PermanentError))
		assert.Len(t, s.bodies, 1)
	})
	// A failure that comes between is no refusal of those that are left.
	deliveries(t, nil, func(t *testing.T, n *Notifier, s *script) {
		s.refuses = "free.example"
		first := failed()
		first.Task, first.Err = "task-0", errors.New("free.example")
		s.fail = func(body string) bool { return strings.Contains(body, "task-1") && !strings.Contains(body, "task-0") }
		count, err := n.ReportBatch(context.Background(), []taskmanager.Event{first, events[1]})
		assert.Equal(t, 1, count)
		require.EqualError(t, err, "discord: reset")
		assert.NotErrorAs(t, err, new(*backoff.PermanentError))
	})
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
	deliveries(t, []answer{{status: 307}}, func(t *testing.T, n *Notifier, s *script) {
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
			refusal := answer{status: 400, body: c.body}
			deliveries(t, []answer{refusal, refusal}, func(t *testing.T, n *Notifier, _ *script) {
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
	for _, c := range []struct {
		body, text string
		is         any
	}{
		{`{"message": "no the-token", "code": 10015}`, "no [redacted] (code 10015)", new(*pauseError)},
		{`{"message": "no the-token", "code": 50035}`, "no [redacted] (code 50035)", new(*backoff.PermanentError)},
	} {
		no := answer{status: 400, body: c.body}
		deliveries(t, []answer{no, no}, func(t *testing.T, n *Notifier, _ *script) {
			err := report(t, n)
			assert.EqualError(t, err, "discord: 400 Bad Request: "+c.text)
			assert.ErrorAs(t, err, c.is)
		})
	}
	limited := answer{status: 429, body: `{"message": "the-token", "retry_after": 30}`}
	deliveries(t, []answer{limited}, func(t *testing.T, n *Notifier, _ *script) {
		err := report(t, n)
		assert.ErrorContains(t, err, "429 Too Many Requests: [redacted]")
		assert.Equal(t, 30*time.Second, asks(t, err))
	})
}
