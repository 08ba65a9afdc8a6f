package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Response is what Discord has answered, or something on the way to it.
type Response struct {
	Status int
	Header http.Header // may be nil
	Body   []byte      // or its beginning
}

const (
	// unstatedWait is for a 429 that doesn't say how long to wait.
	unstatedWait = 5 * time.Second
	// mostStated bounds what a response may make us wait.
	mostStated = 24 * time.Hour
)

// exhausted returns how long no request is allowed, if r says so: that it was the last one that the
// rate limit had left.
func (r *Response) exhausted() (time.Duration, bool) {
	if r.Header.Get("X-RateLimit-Remaining") != "0" {
		return 0, false
	}
	return seconds(r.Header.Get("X-RateLimit-Reset-After"))
}

// retryAfter returns how long to wait after a 429. The body of Discord's own says it most exactly;
// one from a server before it, which is HTML, may have the header.
func (r *Response) retryAfter() time.Duration {
	var body struct {
		RetryAfter json.Number `json:"retry_after"`
	}
	if json.Unmarshal(r.Body, &body) == nil {
		if d, ok := seconds(body.RetryAfter.String()); ok {
			return d
		}
	}
	header := r.Header.Get("Retry-After")
	if d, ok := seconds(header); ok {
		return d
	}
	if at, err := http.ParseTime(header); err == nil {
		return min(max(time.Until(at), 0), mostStated)
	}
	if d, ok := seconds(r.Header.Get("X-RateLimit-Reset-After")); ok {
		return d
	}
	return unstatedWait
}

// seconds reads a number of seconds, which may have a fraction.
func seconds(s string) (time.Duration, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0) {
		return 0, false
	}
	// Upwards: to come a nanosecond early is to come in vain.
	return time.Duration(math.Ceil(min(f, mostStated.Seconds()) * float64(time.Second))), true
}

// A verdict says what has become of a message.
type verdict int

const (
	taken   verdict = iota // Discord has made a message of it
	limited                // not now: the rate limit is exceeded
	fault                  // the server has failed, or the network: the next attempt may succeed
	blocked                // whatever has answered does not let us through now, or is not Discord
	barred                 // something on the way lets nothing of ours through, or not this message: a firewall, say
	absent                 // the channel is not there, or not for us
	refused                // Discord does not take this message
)

const unknownChannel = 10003

// codes are Discord's error codes that are not about the message.
var codes = map[int]verdict{
	unknownChannel: absent,
	10015:          absent, // unknown webhook
	50001:          absent, // missing access
	50013:          absent, // missing permissions
	50027:          absent, // invalid webhook token

	// The channel is there, and takes no message of ours, whatever is in it, until somebody changes its settings.
	40067:  absent, // posts need a tag
	50008:  absent, // not a text channel
	50083:  absent, // the thread is archived
	160005: absent, // the thread is locked
	160006: absent, // too many threads
	220001: absent, // posts need a thread
	220003: absent, // threads can be begun in forums alone

	// It will be over, or it has nothing to do with the channel.
	20016:  blocked, // slow mode
	20028:  blocked, // too much is written to the channel
	20029:  blocked, // too much is written to the server
	40004:  blocked, // messages are disabled for a while
	40333:  barred,  // Cloudflare, in the place of its page
	130000: blocked, // overloaded
}

// judge returns what r says of the message, with an error unless it was taken.
func (r *Response) judge() (verdict, error) {
	if r.isSuccess() {
		if r.isMessage() {
			return taken, nil
		}
		return blocked, fmt.Errorf("discord: %s, but it is no answer of Discord's", status(r.Status))
	}
	e := apiErrorOf(r.Body)
	return r.verdict(e), e.at(r.Status)
}

func (r *Response) verdict(e *apiError) verdict {
	switch {
	case r.Status == http.StatusTooManyRequests:
		return limited
	case r.Status >= 500:
		return fault
	case r.Status < 400: // a redirect, which is not Discord's
		return blocked
	case !e.isDiscords:
		return barred
	}
	if v, known := codes[e.code]; known {
		return v
	}
	switch {
	case r.Status == http.StatusUnauthorized: // the token of a bot
		return absent
	case e.code != 0, r.Status == http.StatusBadRequest, r.Status == http.StatusRequestEntityTooLarge:
		return refused
	}
	return barred // without a code it says little
}

func (r *Response) isSuccess() bool { return r.Status >= 200 && r.Status < 300 }

// isMessage reports whether the body is a message of Discord's, an object with an id, or the beginning
// of one, if the rest has not come.
func (r *Response) isMessage() bool {
	var message struct {
		ID string `json:"id"`
	}
	err := json.Unmarshal(r.Body, &message)
	var incomplete *json.SyntaxError
	if errors.As(err, &incomplete) {
		return incomplete.Offset >= int64(len(r.Body)) && bytes.HasPrefix(bytes.TrimSpace(r.Body), []byte("{"))
	}
	return err == nil && (message.ID != "" || string(bytes.Join(bytes.Fields(r.Body), nil)) == "{}")
}

// Channel returns the id of the channel, or of the thread, of the message that r is; empty if it is none.
func (r *Response) Channel() string {
	var message struct {
		Channel string `json:"channel_id"`
	}
	if r.isSuccess() {
		_ = json.Unmarshal(r.Body, &message) // what is no message names no channel
	}
	return message.Channel
}

// NoChannel reports whether r says that the channel, or the thread, does not exist.
func (r *Response) NoChannel() bool {
	return r.Status == http.StatusNotFound && apiErrorOf(r.Body).code == unknownChannel
}

// status is a status in words.
func status(code int) string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))
}

// An apiError is the body of an answer that is an error.
type apiError struct {
	isDiscords bool // it has a code, as all of Discord's have
	code       int
	text       string // what it says, in one line fit for a log; empty if it isn't of Discord's form
}

// at returns the error with its status.
func (e *apiError) at(code int) error {
	text := "discord: " + status(code)
	if e.text != "" {
		text += ": " + e.text
	}
	return errors.New(text)
}

// apiErrorOf returns what the body of an error response says.
func apiErrorOf(body []byte) *apiError {
	const most = 300
	var e struct {
		Message string          `json:"message"`
		Code    *int            `json:"code"`
		Errors  json.RawMessage `json:"errors"`
	}
	if json.Unmarshal(body, &e) != nil || e.Message == "" {
		return &apiError{}
	}
	a := apiError{isDiscords: e.Code != nil}
	if a.isDiscords {
		a.code = *e.Code
	}
	text := e.Message
	if a.code != 0 {
		text += fmt.Sprintf(" (code %d)", a.code)
	}
	if len(e.Errors) > 0 {
		var tree any
		if json.Unmarshal(e.Errors, &tree) == nil {
			if details := flatten(nil, tree); len(details) > 0 {
				text += ": " + strings.Join(details, "; ")
			}
		}
	}
	a.text = cut(clean(text, false), most)
	return &a
}

// flatten returns "embeds.0.title: Must be 256 or fewer in length." for each error in the tree that
// Discord answers with: objects whose keys are the names and indices of what was refused, down to a
// list under the key "_errors".
func flatten(path []string, tree any) (details []string) {
	node, _ := tree.(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(node)) {
		list, ok := node[key].([]any)
		if key != "_errors" || !ok {
			details = append(details, flatten(append(path, key), node[key])...)
			continue
		}
		for _, item := range list {
			object, _ := item.(map[string]any)
			message, _ := object["message"].(string)
			if len(path) > 0 {
				message = strings.Join(path, ".") + ": " + message
			}
			details = append(details, message)
		}
	}
	return details
}
