package discordtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-taskmanager/taskmanager/discord/discordtest"
)

func TestWebhook(t *testing.T) {
	d := newServer()
	a := post(t, d, hookURL, `{"content":" hello "}`)
	assert.Equal(t, http.StatusNoContent, a.status)
	assert.Empty(t, a.body)

	a = post(t, d, hookURL+"?wait=true", `{"content":"again","username":"watcher","avatar_url":"https://example.org/a.png","unknown":1}`)
	assert.Equal(t, http.StatusOK, a.status)
	assert.Equal(t, "application/json", a.header.Get("Content-Type"))
	o := a.object(t)
	assert.Equal(t, "again", o["content"])
	assert.Equal(t, channel, o["channel_id"])
	assert.Equal(t, "10", o["webhook_id"])

	messages := d.Messages()
	require.Len(t, messages, 2)
	assert.Equal(t, "hello", messages[0].Content, "trimmed, as Discord does")
	assert.Equal(t, "webhook 10", messages[0].Author)
	assert.Equal(t, "watcher", messages[1].Author)
	assert.Equal(t, "https://example.org/a.png", messages[1].AvatarURL)
	assert.Equal(t, o["id"], messages[1].ID)
	assert.NotEqual(t, messages[0].ID, messages[1].ID)

	requests := d.Requests()
	require.Len(t, requests, 2)
	assert.Equal(t, "/api/webhooks/10/TOKEN", requests[0].Path, "not the token")
	assert.Equal(t, []int{204, 200}, []int{requests[0].Status, requests[1].Status})
}

func TestBot(t *testing.T) {
	d := newServer()
	a := post(t, d, botURL, `{"embeds":[{"title":"a"}]}`)
	assert.Equal(t, http.StatusOK, a.status)
	assert.Equal(t, "a", a.object(t)["embeds"].([]any)[0].(map[string]any)["title"])
	require.Len(t, d.Messages(), 1)
	assert.Equal(t, channel, d.Messages()[0].Channel)
	assert.Empty(t, d.Requests()[0].Header.Get("Authorization"))
}

func TestThread(t *testing.T) {
	d := newServer()
	d.AddChannel("21")
	post(t, d, hookURL+"?thread_id=21", `{"content":"a"}`)
	require.Len(t, d.Messages(), 1)
	assert.Equal(t, "21", d.Messages()[0].Channel)
}

func TestRefusedAccess(t *testing.T) {
	d := newServer()
	d.AddChannel("30")
	d.AddWebhook("11", "secret", channel)
	d.RemoveWebhook("11")
	const base = "https://discord.com/api"
	for name, c := range map[string]struct {
		method, url, authorization string
		status, code               int
		message                    string
	}{
		"unknown webhook":       {"POST", base + "/webhooks/12/secret", "", 404, 10015, "Unknown Webhook"},
		"removed webhook":       {"POST", base + "/webhooks/11/secret", "", 404, 10015, "Unknown Webhook"},
		"another token":         {"POST", base + "/v10/webhooks/10/other", "", 401, 50027, "Invalid Webhook Token"},
		"webhook without id":    {"POST", base + "/webhooks/x/secret", "", 400, 50035, "Invalid Form Body"},
		"unknown thread":        {"POST", hookURL + "?thread_id=99", "", 404, 10003, "Unknown Channel"},
		"thread without id":     {"POST", hookURL + "?thread_id=x", "", 400, 50035, "Invalid Form Body"},
		"wait for what":         {"POST", hookURL + "?wait=yes", "", 400, 50035, "Invalid Form Body"},
		"no authorization":      {"POST", botURL, "", 401, 0, "401: Unauthorized"},
		"not a bot's":           {"POST", botURL, "bot-token", 401, 0, "401: Unauthorized"},
		"another bot":           {"POST", botURL, "Bot other", 401, 0, "401: Unauthorized"},
		"unknown channel":       {"POST", base + "/v10/channels/99/messages", "Bot bot-token", 404, 10003, "Unknown Channel"},
		"channel without id":    {"POST", base + "/v10/channels/x/messages", "Bot bot-token", 400, 50035, "Invalid Form Body"},
		"not the bot's channel": {"POST", base + "/v10/channels/30/messages", "Bot bot-token", 403, 50001, "Missing Access"},
		"another method":        {"GET", hookURL, "", 405, 0, "405: Method Not Allowed"},
		"another path":          {"POST", base + "/users", "", 404, 0, "404: Not Found"},
		"not the API":           {"POST", "https://discord.com/webhooks/10/secret", "", 404, 0, "404: Not Found"},
		"no version":            {"POST", base + "/vx/webhooks/10/secret", "", 404, 0, "404: Not Found"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := do(t.Context(), t, d, c.method, c.url, `{"content":"a"}`, "Authorization", c.authorization)
			require.NoError(t, err)
			assert.Equal(t, c.status, a.status)
			o := a.object(t)
			assert.InDelta(t, c.code, o["code"], 0)
			assert.Equal(t, c.message, o["message"])
		})
	}
	assert.Empty(t, d.Messages())
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newServer()
		d.SetRateLimit(2, 1500*time.Millisecond)
		a := post(t, d, hookURL, `{"content":"a"}`)
		assert.Equal(t, 204, a.status)
		assert.Equal(t, "2", a.header.Get("X-RateLimit-Limit"))
		assert.Equal(t, "1", a.header.Get("X-RateLimit-Remaining"))
		assert.Equal(t, "1.500", a.header.Get("X-RateLimit-Reset-After"))
		assert.Equal(t, "946684801.500", a.header.Get("X-RateLimit-Reset"))
		assert.NotEmpty(t, a.header.Get("X-RateLimit-Bucket"))

		time.Sleep(400 * time.Millisecond)
		a = post(t, d, hookURL, `{}`)
		assert.Equal(t, 400, a.status, "a request that is refused counts")
		assert.Equal(t, "0", a.header.Get("X-RateLimit-Remaining"))
		assert.Equal(t, "1.100", a.header.Get("X-RateLimit-Reset-After"))

		a = post(t, d, hookURL, `{"content":"a"}`)
		assert.Equal(t, 429, a.status)
		assert.Equal(t, map[string]any{"message": "You are being rate limited.", "retry_after": 1.1, "global": false}, a.object(t))
		assert.Equal(t, "2", a.header.Get("Retry-After"), "in whole seconds")
		assert.Equal(t, "user", a.header.Get("X-RateLimit-Scope"))
		assert.Empty(t, a.header.Get("X-RateLimit-Global"))
		assert.Equal(t, "0", a.header.Get("X-RateLimit-Remaining"))

		assert.Equal(t, 200, post(t, d, botURL, `{"content":"a"}`).status, "a bucket of its own")

		time.Sleep(1099 * time.Millisecond)
		assert.Equal(t, 429, post(t, d, hookURL, `{"content":"a"}`).status)
		time.Sleep(time.Millisecond)
		a = post(t, d, hookURL, `{"content":"a"}`)
		assert.Equal(t, 204, a.status)
		assert.Equal(t, "1", a.header.Get("X-RateLimit-Remaining"), "a new window")
		assert.Len(t, d.Messages(), 3)
	})
}

func TestGlobalLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newServer()
		d.SetGlobalLimit(2, time.Second)
		assert.Equal(t, 204, post(t, d, hookURL, `{"content":"a"}`).status)
		assert.Equal(t, 200, post(t, d, botURL, `{"content":"a"}`).status)
		a := post(t, d, hookURL, `{"content":"a"}`)
		assert.Equal(t, 429, a.status)
		assert.Equal(t, true, a.object(t)["global"])
		assert.Equal(t, "true", a.header.Get("X-RateLimit-Global"))
		assert.Equal(t, "global", a.header.Get("X-RateLimit-Scope"))
		assert.Empty(t, a.header.Get("X-RateLimit-Remaining"), "it says nothing about the route")
		time.Sleep(time.Second)
		assert.Equal(t, 204, post(t, d, hookURL, `{"content":"a"}`).status)
	})
}

func TestDefaultLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newServer()
		for range 5 {
			assert.Equal(t, 204, post(t, d, hookURL, `{"content":"a"}`).status)
		}
		assert.Equal(t, 429, post(t, d, hookURL, `{"content":"a"}`).status)
		d.SetRateLimit(1000, time.Hour)
		for range 50 {
			assert.Equal(t, 204, post(t, d, hookURL, `{"content":"a"}`).status)
		}
		assert.Equal(t, true, post(t, d, hookURL, `{"content":"a"}`).object(t)["global"])
	})
}

func TestFaults(t *testing.T) {
	d := newServer()
	d.Fail(2, discordtest.Status(500))
	d.Fail(1, discordtest.Status(502))
	d.Fail(1, discordtest.HTML429(1500*time.Millisecond))
	d.Fail(1, discordtest.HTML429(0))
	d.Fail(1, discordtest.RateLimited(250*time.Millisecond, true))
	for range 2 {
		a := post(t, d, hookURL, `{"content":"a"}`)
		assert.Equal(t, 500, a.status)
		assert.Equal(t, "500: Internal Server Error", a.object(t)["message"])
	}
	a := post(t, d, hookURL, `{"content":"a"}`)
	assert.Equal(t, 502, a.status)
	assert.Contains(t, a.body, "<html>")
	a = post(t, d, hookURL, `{"content":"a"}`)
	assert.Equal(t, 429, a.status)
	assert.Equal(t, "2", a.header.Get("Retry-After"))
	assert.Contains(t, a.header.Get("Content-Type"), "text/html")
	a = post(t, d, hookURL, `{"content":"a"}`)
	assert.Equal(t, 429, a.status)
	assert.NotContains(t, a.header, "Retry-After")
	a = post(t, d, hookURL, `{"content":"a"}`)
	assert.InDelta(t, 0.25, a.object(t)["retry_after"], 0)
	assert.Equal(t, "true", a.header.Get("X-RateLimit-Global"))
	assert.Empty(t, d.Messages())

	assert.Equal(t, 204, post(t, d, hookURL, `{"content":"a"}`).status)
	d.Fail(3, discordtest.Status(500))
	d.Recover()
	assert.Equal(t, 204, post(t, d, hookURL, `{"content":"a"}`).status)
}

func TestAnswers(t *testing.T) {
	d := newServer()
	for _, c := range []struct {
		fault  discordtest.Fault
		status int
		media  string
		text   string
	}{
		{discordtest.APIError(401, 50027, "Invalid Webhook Token"), 401, "application/json", `{"code":50027,"message":"Invalid Webhook Token"}`},
		{discordtest.CloudflareBlock(false), 403, "text/html", "Cloudflare"},
		{discordtest.CloudflareBlock(true), 403, "application/json", `"code":40333`},
		{discordtest.CaptivePortal(), 200, "text/html", "<html>"},
	} {
		d.Fail(1, c.fault)
		a := post(t, d, hookURL, `{"content":"a"}`)
		assert.Equal(t, c.status, a.status)
		assert.Contains(t, a.header.Get("Content-Type"), c.media)
		assert.Contains(t, a.body, c.text)
	}
	assert.Empty(t, d.Messages())
}

func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newServer()
		for _, f := range []discordtest.Fault{discordtest.Hang(), discordtest.Stall()} {
			d.Fail(1, f)
			gone := errors.New("gone")
			ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, gone)
			began := time.Now()
			_, err := do(ctx, t, d, http.MethodPost, hookURL, `{"content":"a"}`)
			assert.ErrorIs(t, err, gone)
			assert.Equal(t, 3*time.Second, time.Since(began))
			cancel()
		}
		requests := d.Requests()
		require.Len(t, requests, 2)
		assert.Equal(t, 0, requests[0].Status)
		assert.Equal(t, 200, requests[1].Status)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := do(ctx, t, d, http.MethodPost, hookURL, `{"content":"a"}`)
		assert.ErrorIs(t, err, context.Canceled)
		assert.Len(t, d.Requests(), 2, "it never got there")
	})
}

// What Discord has taken and the client doesn't know of, it may send again. A bot can have that
// recognized by its nonce, for a while.
func TestLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newServer()
		d.Fail(2, discordtest.Lose())
		const nonced = `{"content":"a","nonce":"1","enforce_nonce":true}`
		for _, url := range []string{hookURL, botURL} {
			_, err := do(t.Context(), t, d, http.MethodPost, url, nonced, "Authorization", "Bot bot-token")
			assert.ErrorIs(t, err, syscall.ECONNRESET)
		}
		require.Len(t, d.Messages(), 2)
		assert.Equal(t, 204, post(t, d, hookURL, nonced).status)
		require.Len(t, d.Messages(), 3, "webhooks know no nonce")

		time.Sleep(3*time.Minute - 1)
		a := post(t, d, botURL, nonced)
		assert.Equal(t, 200, a.status)
		assert.Equal(t, d.Messages()[1].ID, a.object(t)["id"])
		assert.Len(t, d.Messages(), 3)
		post(t, d, botURL, `{"content":"a","nonce":"2","enforce_nonce":true}`)
		post(t, d, botURL, `{"content":"a","nonce":"1"}`)
		assert.Len(t, d.Messages(), 5)

		time.Sleep(3 * time.Minute)
		post(t, d, botURL, nonced)
		assert.Len(t, d.Messages(), 6)
		assertFormError(t, post(t, d, botURL, `{"content":"a","nonce":"12345678901234567890123456"}`),
			"nonce", "BASE_TYPE_MAX_LENGTH", "Must be 25 or fewer in length.")
	})
}

func TestReset(t *testing.T) {
	d := newServer()
	d.Fail(1, discordtest.Reset())
	_, err := do(t.Context(), t, d, http.MethodPost, hookURL, `{"content":"a"}`)
	assert.ErrorIs(t, err, syscall.ECONNRESET)
	assert.Equal(t, 0, d.Requests()[0].Status)
}

// The same over a socket. Nothing here waits for a time: the client goes away when the server has
// the request.
func TestOverSocket(t *testing.T) {
	d := newServer()
	server := httptest.NewServer(d)
	defer server.Close()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	send := func(ctx context.Context) (answer, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/api/webhooks/10/secret?wait=1", strings.NewReader(`{"content":"a"}`))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		return roundTrip(c, r)
	}
	a, err := send(t.Context())
	require.NoError(t, err)
	assert.Equal(t, 200, a.status)
	assert.Equal(t, "a", a.object(t)["content"])

	d.Fail(1, discordtest.Reset())
	_, err = send(t.Context())
	assert.ErrorIs(t, err, syscall.ECONNRESET)

	d.Fail(1, discordtest.Hang())
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_ = d.WaitRequests(ctx, 3)
		cancel()
	}()
	_, err = send(ctx)
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, []int{200, 0, 0}, statuses(d))
	assert.Len(t, d.Messages(), 1)
}

// A client that has read what there is of a body waits for the rest, and the handler for the client.
func TestStallOverSocket(t *testing.T) {
	d := newServer()
	d.Fail(1, discordtest.Stall())
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/alive" {
			defer close(ended)
			d.ServeHTTP(w, r)
		}
	}))
	defer server.Close()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+"/api/webhooks/10/secret", http.NoBody)
	require.NoError(t, err)
	resp, err := c.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	assert.Equal(t, 200, resp.StatusCode)
	half := make([]byte, resp.ContentLength/2)
	_, err = io.ReadFull(resp.Body, half)
	require.NoError(t, err)

	alive, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/alive", http.NoBody)
	require.NoError(t, err)
	_, err = roundTrip(c, alive) // time enough for a handler that doesn't wait
	require.NoError(t, err)
	select {
	case <-ended:
		assert.Fail(t, "the handler has given up")
	default:
	}
	cancel()
	_, err = resp.Body.Read(half)
	assert.ErrorIs(t, err, context.Canceled)
	<-ended
}

// Without a way to take the connection over, a reset is an abort.
func TestResetWithoutHijacking(t *testing.T) {
	d := newServer()
	d.Fail(1, discordtest.Reset())
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, hookURL, strings.NewReader("{}"))
	assert.PanicsWithValue(t, http.ErrAbortHandler, func() { d.ServeHTTP(httptest.NewRecorder(), r) })
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newServer()
		require.NoError(t, d.Wait(t.Context(), 0))
		ended := make(chan error)
		go func() { ended <- d.Wait(t.Context(), 2) }()
		post(t, d, hookURL, `{"content":"a"}`)
		synctest.Wait()
		select {
		case err := <-ended:
			assert.Fail(t, "one message is not two", "%v", err)
		default:
		}
		post(t, d, hookURL, `{"content":"b"}`)
		require.NoError(t, <-ended)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorIs(t, d.Wait(ctx, 3), context.DeadlineExceeded)
	})
}

func TestUnreadableRequests(t *testing.T) {
	d := newServer()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, hookURL, io.MultiReader(strings.NewReader("{"), errReader{}))
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	assert.Equal(t, http.StatusBadRequest, w.Code)

	r = httptest.NewRequestWithContext(t.Context(), http.MethodPost, hookURL, io.LimitReader(zeros{}, 25<<20+1))
	w = httptest.NewRecorder()
	d.ServeHTTP(w, r)
	assert.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A forum has messages in threads alone, which a webhook may begin and a bot may not.
func TestForum(t *testing.T) {
	d := newServer()
	d.SetRateLimit(100, time.Second)
	const forum = "30"
	d.AddForum(forum)
	d.AddWebhook("10", "secret", forum)
	d.AddBot("bot-token", forum)
	refused := func(a answer, code float64) {
		t.Helper()
		assert.Equal(t, http.StatusBadRequest, a.status)
		assert.InDelta(t, code, a.object(t)["code"], 0)
	}
	refused(post(t, d, hookURL, `{"content":"a"}`), 220001)
	a, err := do(t.Context(), t, d, http.MethodPost, "https://discord.com/api/v10/channels/30/messages", `{"content":"a"}`, "Authorization", "Bot bot-token")
	require.NoError(t, err)
	refused(a, 50008)

	o := post(t, d, hookURL+"?wait=true", `{"content":"a","thread_name":"failures"}`).object(t)
	thread := o["channel_id"].(string)
	assert.Equal(t, o["id"], thread)
	post(t, d, hookURL+"?thread_id="+thread, `{"content":"b"}`)
	refused(post(t, d, hookURL+"?thread_id="+thread, `{"content":"b","thread_name":"failures"}`), 220002)
	require.Len(t, d.Messages(), 2)
	assert.Equal(t, thread, d.Messages()[1].Channel)

	d.RemoveChannel(thread)
	assert.Equal(t, http.StatusNotFound, post(t, d, hookURL+"?thread_id="+thread, `{"content":"b"}`).status)
	d.AddWebhook("10", "secret", channel)
	refused(post(t, d, hookURL, `{"content":"a","thread_name":"failures"}`), 220003)
	refused(post(t, d, hookURL, body(t, "content", "a", "thread_name", strings.Repeat("x", 101))), 50035)
}

func TestRefuse(t *testing.T) {
	d := newServer()
	d.SetRateLimit(100, time.Second)
	d.Refuse("free.example")
	for _, text := range []string{
		`{"content":"see free.example/"}`, `{"embeds":[{"title":"free.example"}]}`, `{"embeds":[{"description":"free.example"}]}`,
		`{"embeds":[{"fields":[{"name":"free.example","value":"a"}]}]}`, `{"embeds":[{"fields":[{"name":"a","value":"free.example"}]}]}`,
	} {
		a := post(t, d, hookURL, text)
		assert.Equal(t, http.StatusBadRequest, a.status)
		assert.JSONEq(t, `{"message":"Message blocked by harmful links filter","code":240000}`, a.body)
	}
	assert.Equal(t, http.StatusNoContent, post(t, d, hookURL, `{"content":"see example.org"}`).status)
	d.Refuse("")
	assert.Equal(t, http.StatusNoContent, post(t, d, hookURL, `{"content":"see free.example"}`).status)
}

// Who has moved redirects, and a POST to there gets nowhere.
func TestFormerHost(t *testing.T) {
	d := newServer()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://ptb.discordapp.com/api/webhooks/10/secret", strings.NewReader(`{"content":"a"}`))
	require.NoError(t, err)
	a, err := roundTrip(&http.Client{Transport: d.Transport()}, r)
	require.NoError(t, err)
	assert.Equal(t, http.StatusMethodNotAllowed, a.status, "it became a GET")
	assert.Equal(t, []int{301, 405}, statuses(d))
	assert.Empty(t, d.Messages())
}

// After 101 nothing comes, and nothing ends but by closing the body.
func TestSwitchingProtocols(t *testing.T) {
	d := newServer()
	server := httptest.NewServer(d)
	defer server.Close()
	for url, transport := range map[string]http.RoundTripper{
		hookURL: d.Transport(), server.URL + "/api/webhooks/10/secret": server.Client().Transport,
	} {
		d.Fail(1, discordtest.SwitchingProtocols())
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"content":"a"}`))
		require.NoError(t, err)
		resp, err := transport.RoundTrip(r)
		require.NoError(t, err)
		assert.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		ended, body := make(chan error, 1), resp.Body
		go func() {
			_, err := body.Read(make([]byte, 1))
			ended <- err
		}()
		require.NoError(t, resp.Body.Close())
		require.Error(t, <-ended)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, d.WaitRequests(ctx, 2))
	assert.Equal(t, []int{101, 101}, statuses(d))
}
