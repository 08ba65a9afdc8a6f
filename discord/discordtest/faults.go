package discordtest

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A Fault is what happens to a request in place of an answer to it, or to the answer.
type Fault struct {
	answer func() answer
	after  bool // the request is served, and its answer lost
}

// Fail lets f happen to the next n requests, after those that were set before.
func (s *Server) Fail(n int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range n {
		s.faults = append(s.faults, f)
	}
}

// Recover forgets the faults that have not happened yet.
func (s *Server) Recover() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Lose serves the request and resets the connection in place of the answer.
func Lose() Fault { return Fault{after: true} }

// Hang lets the client wait for an answer until it goes away.
func Hang() Fault { return Fault{answer: func() answer { return answer{silent: true} }} }

// Reset resets the connection after the request was read.
func Reset() Fault { return Fault{answer: func() answer { return answer{silent: true, reset: true} }} }

// Stall answers 200 OK, and stops in the middle of the body until the client goes away.
func Stall() Fault {
	return Fault{answer: func() answer {
		a := *jsonAnswer(http.StatusOK, map[string]string{"id": "1000000000000000000"})
		a.stalled = true
		return a
	}}
}

// Status answers with that status: with an HTML page if it is 502 to 504, which come from the
// edge, and else as the API itself does.
func Status(code int) Fault {
	return Fault{answer: func() answer {
		if code >= http.StatusBadGateway && code <= http.StatusGatewayTimeout {
			return page(code, fmt.Sprintf("<h1>%d %s</h1>", code, http.StatusText(code)))
		}
		return *refuse(code, 0, fmt.Sprintf("%d: %s", code, http.StatusText(code)))
	}}
}

// APIError answers with an error of the API's own: with that status, and with that code and message in its body.
// An "Invalid Webhook Token" during an incident, for example, is APIError(401, 50027, "Invalid Webhook Token").
func APIError(status, code int, message string) Fault {
	return Fault{answer: func() answer { return *refuse(status, code, message) }}
}

// CloudflareBlock answers as Cloudflare does, before Discord, for an address or a client that it bars: 403 with an
// HTML page; or with a code in JSON, which is not the API's.
func CloudflareBlock(inJSON bool) Fault {
	if inJSON {
		return APIError(http.StatusForbidden, 40333, "internal network error")
	}
	return Fault{answer: func() answer {
		return page(http.StatusForbidden, "<title>Attention Required! | Cloudflare</title><h1>Sorry, you have been blocked</h1>")
	}}
}

// CaptivePortal answers in the place of Discord, as a network does that wants its terms accepted: 200 with an HTML page.
func CaptivePortal() Fault {
	return Fault{answer: func() answer { return page(http.StatusOK, "<h1>Welcome</h1><p>Accept the terms</p>") }}
}

// SwitchingProtocols answers 101, and nothing more, until the client closes the connection.
func SwitchingProtocols() Fault {
	return Fault{answer: func() answer { return answer{silent: true, switched: true} }}
}

// HTML429 is how the edge answers an address that it has banned for a while, in HTML. Without a
// retryAfter it says not for how long.
func HTML429(retryAfter time.Duration) Fault {
	return Fault{answer: func() answer {
		a := page(http.StatusTooManyRequests, "<h1>Error 1015</h1><p>You are being rate limited</p>")
		if retryAfter > 0 {
			a.header.Set("Retry-After", wholeSeconds(retryAfter))
		}
		return a
	}}
}

// RateLimited answers 429 as if others had used up the limit of the route, or the global one.
func RateLimited(retryAfter time.Duration, global bool) Fault {
	return Fault{answer: func() answer { return *tooMany(retryAfter, global) }}
}

// tooMany is the API's own answer 429.
func tooMany(retryAfter time.Duration, global bool) *answer {
	a := jsonAnswer(http.StatusTooManyRequests, map[string]any{
		"message": "You are being rate limited.", "retry_after": retryAfter.Seconds(), "global": global,
	})
	a.header.Set("Retry-After", wholeSeconds(retryAfter))
	scope := "user"
	if global {
		scope = "global"
		a.header.Set("X-RateLimit-Global", "true")
	}
	a.header.Set("X-RateLimit-Scope", scope)
	return a
}

// wholeSeconds is d rounded up, as Retry-After has it.
func wholeSeconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

func page(status int, body string) answer {
	return answer{
		status: status,
		header: http.Header{"Content-Type": {"text/html; charset=UTF-8"}, "Server": {"cloudflare"}},
		body:   []byte("<!DOCTYPE html><html><body>" + body + "</body></html>"),
	}
}

// stalling sends what was written, and then nothing until the client goes away.
func stalling(w http.ResponseWriter, r *http.Request) {
	if m, ok := w.(*memory); ok {
		m.stalled = true
		return
	}
	_ = http.NewResponseController(w).Flush() // to a client that may have gone
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// switching answers 101 and waits until the client has closed the connection.
func switching(w http.ResponseWriter) {
	if m, ok := w.(*memory); ok {
		m.status, m.switched = http.StatusSwitchingProtocols, true
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2 has no such answer
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: none\r\n\r\n")
	_, _ = io.Copy(io.Discard, conn) // until it is closed
	_ = conn.Close()
}

// reset resets the connection of a request.
func reset(w http.ResponseWriter) {
	if m, ok := w.(*memory); ok {
		m.reset = true
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: it closes the stream
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // makes Close send a reset
	}
	_ = conn.Close()
}
